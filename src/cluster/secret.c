/*
 * The secret. A header that was right is remembered for as long as it would be taken again; whoever can make
 * the memory grow has the secret.
 */
#include "config.h"
#include "cluster/secret.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"
#include "core/slice.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <uthash.h>

#define SECRET_SCHEME     "HMAC-SHA256 "
#define SECRET_DIGEST     32
#define SECRET_HASH_BLOCK 64
#define SECRET_NONCE_MAX  20

/* A header that came. */
struct secret_seen {
	bool once; /* on a link */
	char hex[SECRET_HEX];
	char *address;
	int64_t until_s;
	UT_hash_handle hh;
};

static struct secret_seen *secret_seen;

bool
secret_is_set(void)
{
	return *conf.secret != '\0';
}

/* ---- HMAC ---- */

static void
secret_hmac(const void *key, size_t key_len, const char *text, size_t len, uint8_t out[SECRET_DIGEST])
{
	unsigned out_len = SECRET_DIGEST;

	if (HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, len, out, &out_len) == NULL)
		log_fatal("could not compute an HMAC");
}

static void
secret_to_hex(const uint8_t *octets, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", octets[i]);
}

static bool
secret_digest_is(const uint8_t digest[SECRET_DIGEST], const char *hex)
{
	char right[SECRET_HEX_SIZE];

	secret_to_hex(digest, SECRET_DIGEST, right);
	return CRYPTO_memcmp(right, hex, SECRET_HEX) == 0;
}

void
secret_sign(const char *text, size_t len, char out[SECRET_HEX_SIZE])
{
	uint8_t digest[SECRET_DIGEST];

	secret_hmac(conf.secret, strlen(conf.secret), text, len, digest);
	secret_to_hex(digest, sizeof(digest), out);
}

static bool
secret_verify_with(const char *secret, const char *text, size_t len, const char *hex)
{
	uint8_t digest[SECRET_DIGEST];

	if (*secret == '\0')
		return false;
	secret_hmac(secret, strlen(secret), text, len, digest);
	return secret_digest_is(digest, hex);
}

bool
secret_verify(const char *text, size_t len, const char *hex, size_t hex_len)
{
	return slice_is_hex((struct slice){hex, hex_len}, SECRET_HEX) &&
	       (secret_verify_with(conf.secret, text, len, hex) ||
		   secret_verify_with(conf.secret_also, text, len, hex));
}

void
secret_challenge(char out[SECRET_HEX_SIZE])
{
	uint8_t octets[SECRET_HEX / 2];

	if (RAND_bytes(octets, sizeof(octets)) != 1)
		log_fatal("no random numbers are to be had");
	secret_to_hex(octets, sizeof(octets), out);
}

/* ---- keys of heartbeats ---- */

void
secret_signing_blocks(const char *text, char inner[SECRET_BLOCK_SIZE], char outer[SECRET_BLOCK_SIZE])
{
	uint8_t key[SECRET_HASH_BLOCK] = {0}, ipad[SECRET_HASH_BLOCK], opad[SECRET_HASH_BLOCK];

	secret_hmac(conf.secret, strlen(conf.secret), text, strlen(text), key);
	for (size_t i = 0; i < sizeof(key); i++) {
		ipad[i] = key[i] ^ 0x36;
		opad[i] = key[i] ^ 0x5c;
	}
	secret_to_hex(ipad, sizeof(ipad), inner);
	secret_to_hex(opad, sizeof(opad), outer);
}

static bool
secret_verify_by_with(const char *secret, const char *key_text, const char *text, size_t len, const char *hex)
{
	uint8_t key[SECRET_DIGEST], digest[SECRET_DIGEST];

	if (*secret == '\0')
		return false;
	secret_hmac(secret, strlen(secret), key_text, strlen(key_text), key);
	secret_hmac(key, sizeof(key), text, len, digest);
	return secret_digest_is(digest, hex);
}

bool
secret_verify_by(const char *key_text, const char *text, size_t len, const char *hex, size_t hex_len)
{
	return slice_is_hex((struct slice){hex, hex_len}, SECRET_HEX) &&
	       (secret_verify_by_with(conf.secret, key_text, text, len, hex) ||
		   secret_verify_by_with(conf.secret_also, key_text, text, len, hex));
}

/* ---- the header ---- */

/* The code point that begins at *p, which is UTF-8, and steps over it. */
static uint32_t
secret_code_point(const unsigned char **p)
{
	unsigned char first = *(*p)++;
	int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
	uint32_t c = more == 0 ? first : first & (0x3fu >> more);

	while (more-- > 0)
		c = c << 6 | (*(*p)++ & 0x3fu);
	return c;
}

static char *
secret_escape_unit(char *out, unsigned unit)
{
	return out + sprintf(out, "\\u%04x", unit);
}

/* A string as Python's json.dumps() writes it, which is what the HMAC of the header covers. */
static char *
secret_escape(char *out, const char *text)
{
	static const char plain[] = "\"\\\b\f\n\r\t", named[] = "\"\\bfnrt";
	const unsigned char *p = (const unsigned char *)text;

	*out++ = '"';
	while (*p != '\0') {
		uint32_t c = secret_code_point(&p);
		const char *at = c < 0x80 ? strchr(plain, (int)c) : NULL;

		if (at != NULL) {
			*out++ = '\\';
			*out++ = named[at - plain];
		} else if (c >= 0x20 && c < 0x7f) {
			*out++ = (char)c;
		} else if (c < 0x10000) {
			out = secret_escape_unit(out, c);
		} else {
			out = secret_escape_unit(out, 0xd800 + ((c - 0x10000) >> 10));
			out = secret_escape_unit(out, 0xdc00 + ((c - 0x10000) & 0x3ff));
		}
	}
	*out++ = '"';
	*out = '\0';
	return out;
}

/* What the header's HMAC covers. The caller releases it with free(). */
static char *
secret_header_text(const char *secret, const char *nonce)
{
	char *escaped = mem_alloc(strlen(secret) * 6 + 3), *text;

	secret_escape(escaped, secret);
	text = mem_printf("{\"secret\": %s, \"nonce\": \"%s\"}", escaped, nonce);
	OPENSSL_cleanse(escaped, strlen(escaped));
	free(escaped);
	return text;
}

static void
secret_header_digest(const char *secret, const char *nonce, uint8_t out[SECRET_DIGEST])
{
	char *text = secret_header_text(secret, nonce);

	secret_hmac(secret, strlen(secret), text, strlen(text), out);
	OPENSSL_cleanse(text, strlen(text));
	free(text);
}

char *
secret_header(void)
{
	uint8_t digest[SECRET_DIGEST];
	char nonce[40], hex[SECRET_HEX_SIZE];
	struct timeval now;

	gettimeofday(&now, NULL);
	snprintf(nonce, sizeof(nonce), "%" PRId64 ".%06ld", (int64_t)now.tv_sec, (long)now.tv_usec);
	secret_header_digest(conf.secret, nonce, digest);
	secret_to_hex(digest, sizeof(digest), hex);
	return mem_printf(SECRET_SCHEME "%s:%s", nonce, hex);
}

struct secret_header {
	char nonce[SECRET_NONCE_MAX + 1];
	int64_t time_s;
	const char *hex;
};

/* Decimal digits, and a fraction of at most six. */
static bool
secret_parse_nonce(struct secret_header *h)
{
	size_t whole = strspn(h->nonce, "0123456789"), fraction;

	if (whole == 0 || whole > 12)
		return false;
	h->time_s = strtoll(h->nonce, NULL, 10);
	if (h->nonce[whole] == '\0')
		return true;
	fraction = strspn(h->nonce + whole + 1, "0123456789");
	return h->nonce[whole] == '.' && fraction > 0 && fraction <= 6 &&
	       h->nonce[whole + 1 + fraction] == '\0';
}

static bool
secret_parse_header(const char *value, struct secret_header *h)
{
	const char *nonce, *colon;

	if (value == NULL || strncmp(value, SECRET_SCHEME, strlen(SECRET_SCHEME)) != 0)
		return false;
	nonce = value + strlen(SECRET_SCHEME);
	colon = strchr(nonce, ':');
	if (colon == NULL || (size_t)(colon - nonce) > SECRET_NONCE_MAX)
		return false;
	memcpy(h->nonce, nonce, (size_t)(colon - nonce));
	h->nonce[colon - nonce] = '\0';
	h->hex = colon + 1;
	return secret_parse_nonce(h) && slice_is_hex((struct slice){h->hex, strlen(h->hex)}, SECRET_HEX);
}

static bool
secret_header_is_signed(const struct secret_header *h)
{
	const char *secrets[] = {conf.secret, conf.secret_also};
	uint8_t digest[SECRET_DIGEST];

	for (size_t i = 0; i < ARRAY_LENGTH(secrets); i++) {
		if (*secrets[i] == '\0')
			continue;
		secret_header_digest(secrets[i], h->nonce, digest);
		if (secret_digest_is(digest, h->hex))
			return true;
	}
	return false;
}

static void
secret_forget(struct secret_seen *seen)
{
	HASH_DEL(secret_seen, seen);
	free(seen->address);
	free(seen);
}

/* The table is in the order of insertion, and none is good for longer than twice the tolerance. */
static void
secret_forget_old(int64_t now_s)
{
	while (secret_seen != NULL && secret_seen->until_s < now_s)
		secret_forget(secret_seen);
}

/* Notes the header; false when it came before. */
static bool
secret_is_fresh(const struct secret_header *h, const char *address, bool once, int64_t now_s)
{
	struct secret_seen *seen;

	secret_forget_old(now_s);
	HASH_FIND(hh, secret_seen, h->hex, SECRET_HEX, seen);
	if (seen != NULL)
		return !once && !seen->once && strcmp(seen->address, address) == 0;
	seen = mem_zalloc(sizeof(*seen));
	memcpy(seen->hex, h->hex, SECRET_HEX);
	seen->once = once;
	seen->address = mem_strdup(address);
	seen->until_s = now_s + 2 * SECRET_CLOCK_S;
	HASH_ADD(hh, secret_seen, hex, SECRET_HEX, seen);
	return true;
}

enum secret_verdict
secret_check_header(const char *value, const char *address, bool once, int64_t *skew_s)
{
	struct secret_header h;
	int64_t now_s = time(NULL);

	if (!secret_parse_header(value, &h) || (!once && strchr(h.nonce, '.') != NULL))
		return SECRET_MALFORMED; /* AWX's relays write no fraction: it was withheld from a link */
	*skew_s = h.time_s - now_s;
	if (!secret_header_is_signed(&h))
		return SECRET_WRONG;
	if (*skew_s > SECRET_CLOCK_S || *skew_s < -SECRET_CLOCK_S)
		return SECRET_CLOCK;
	return secret_is_fresh(&h, address, once, now_s) ? SECRET_RIGHT : SECRET_REPLAYED;
}

void
secret_free(void)
{
	while (secret_seen != NULL)
		secret_forget(secret_seen);
}
