/*
 * The shared secret of a cluster (docs/cluster.md, section 1): the header that AWX's relays and our nodes
 * bring, and signatures. Whatever is checked is held against both secrets of the settings, in constant time.
 */
#ifndef PGRELAY_CLUSTER_SECRET_H
#define PGRELAY_CLUSTER_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Seconds that two clocks may be apart; AWX's own bound. */
#define SECRET_CLOCK_S 300
/* A signature: lower-case hexadecimal digits and a NUL. */
#define SECRET_HEX      64
#define SECRET_HEX_SIZE (SECRET_HEX + 1)

/* Is there one? Without it nobody is a peer. */
bool secret_is_set(void);

/* A value for the header `secret`, used once. The caller releases it with free(). */
char *secret_header(void);

enum secret_verdict {
	SECRET_RIGHT,
	SECRET_MALFORMED, /* not of the form, or there is none */
	SECRET_WRONG,
	SECRET_CLOCK,    /* right, but of a clock that is too far off */
	SECRET_REPLAYED, /* right, but it came before */
	SECRET_VERDICTS
};
/*
 * A header's value (NULL: there was none) from this address, without a port. once: whether it may come once
 * only; else it may come again from the same address. skew_s is set unless it is malformed: seconds by which
 * the peer's clock is ahead of ours.
 */
enum secret_verdict secret_check_header(const char *value, const char *address, bool once, int64_t *skew_s);

/* HMAC-SHA256 (RFC 2104) with the first secret. */
void secret_sign(const char *text, size_t len, char out[SECRET_HEX_SIZE]);
/* Is this a signature of the text with either? hex needs no NUL; false when it is not 64 digits. */
bool secret_verify(const char *text, size_t len, const char *hex, size_t hex_len);

/* A random challenge. */
void secret_challenge(char out[SECRET_HEX_SIZE]);

/*
 * A key for one heartbeat, which the server signs with: HMAC-SHA256(secret, text), as the two blocks of
 * RFC 2104, key XOR ipad and key XOR opad, in hexadecimal.
 */
#define SECRET_BLOCK_SIZE (2 * 64 + 1)
void secret_signing_blocks(const char *text, char inner[SECRET_BLOCK_SIZE], char outer[SECRET_BLOCK_SIZE]);
/* Is hex the signature of text with the key that is made of key_text? */
bool secret_verify_by(const char *key_text, const char *text, size_t len, const char *hex, size_t hex_len);

/* Forgets the headers that have come. */
void secret_free(void);

#endif
