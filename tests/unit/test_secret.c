/* The secret: src/cluster/secret.c. The vectors were computed with Python's json and hmac; those of RFC 4231 are its own. */
#include "config.h"
#include "cluster/secret.h"
#include "core/conf.h"
#include "core/mem.h"

#include "tap.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <time.h>

#define NONCE   "1700000000"
#define HERE    "127.0.0.1"
#define THERE   "127.0.0.2"
#define SECRET  "what these nodes share"
#define SECRET2 "what they will share"

static void
set(const char *secret, const char *also)
{
	conf.secret = (char *)(uintptr_t)secret;
	conf.secret_also = (char *)(uintptr_t)also;
}

static enum secret_verdict
check(const char *header, const char *address, bool once)
{
	int64_t skew_s;

	return secret_check_header(header, address, once, &skew_s);
}

/* ---- what the header covers ---- */

static const struct vector {
	const char *secret, *text, *hex;
} vectors[] = {
    {"0123456789abcdef", "{\"secret\": \"0123456789abcdef\", \"nonce\": \"1700000000\"}",
	"657f8f7393e94e6a4184035da00ccde9c290fadedca5f52d639cc3e842619beb"},
    {"\"quotes\" 'n' \\ back\\slashes",
	"{\"secret\": \"\\\"quotes\\\" 'n' \\\\ back\\\\slashes\", \"nonce\": \"1700000000\"}",
	"32b3396731553d97f8c0a8844e227d441e0d1a2c40398cd495ee611b05485541"},
    {"\x01\x02\x07\x08\x09\x0a\x0b\x0c\x0d\x1b\x1f\x7f in control",
	"{\"secret\": \"\\u0001\\u0002\\u0007\\b\\t\\n\\u000b\\f\\r\\u001b\\u001f\\u007f in control\", "
	"\"nonce\": "
	"\"1700000000\"}",
	"9b7f23cbcd5cb47fd2be0cf06aed1e6e86d86fcf91b64ee7f2d434b18eccbe14"},
    {"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f und \xe2\x82\xac umlauts",
	"{\"secret\": \"\\u00e4\\u00f6\\u00fc\\u00df und \\u20ac umlauts\", \"nonce\": \"1700000000\"}",
	"1f40e6f4e615e1df522b302ceb150baec62505fdc8c1e211d055eecc67ce95d8"},
    {"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf of the bmp",
	"{\"secret\": \"\\u0080\\u07ff\\u0800\\ud7ff\\ue000\\uffff of the bmp\", \"nonce\": \"1700000000\"}",
	"4c190164f0032988edeeddb26643f4de2be97ca577480666a787a635c9c2d9a2"},
    {"emojis \xf0\x9f\x98\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf here",
	"{\"secret\": \"emojis \\ud83d\\ude00\\ud800\\udc00\\udbff\\udfff here\", \"nonce\": \"1700000000\"}",
	"3a6032b675ebf472a54daf23a97f5cee6a81f7376915903a5900f468d420828d"},
    {"</script> & / slashes", "{\"secret\": \"</script> & / slashes\", \"nonce\": \"1700000000\"}",
	"ad9f54226f22ba44f28c1db8baa212f8e39829a05cbf4a39029de344274671ca"},
};

/* What a header for now must be, made of the vector's text. The caller releases it. */
static char *
header_of(const struct vector *v, const char *nonce)
{
	const char *at = strstr(v->text, NONCE);
	char *text = mem_printf("%.*s%s%s", (int)(at - v->text), v->text, nonce, at + strlen(NONCE));
	char hex[SECRET_HEX_SIZE], *header;

	secret_sign(text, strlen(text), hex);
	header = mem_printf("HMAC-SHA256 %s:%s", nonce, hex);
	free(text);
	return header;
}

static void
test_header_text(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++) {
		const struct vector *v = &vectors[i];
		char hex[SECRET_HEX_SIZE], *header, *own, *nonce;
		int64_t skew_s = 0;

		set(v->secret, "");
		secret_sign(v->text, strlen(v->text), hex);
		is_str(hex, v->hex, "vector %zu: the HMAC", i);
		header = mem_printf("HMAC-SHA256 " NONCE ":%s", v->hex);
		is_int(secret_check_header(header, HERE, false, &skew_s), SECRET_CLOCK,
		    "its header is right, but old");
		ok(skew_s <= 1700000000 - (int64_t)time(NULL) + 1, "by %" PRId64 " s", skew_s);
		header[strlen(header) - 1] = header[strlen(header) - 1] == '0' ? '1' : '0';
		is_int(check(header, HERE, false), SECRET_WRONG, "with another last digit it is wrong");
		free(header);
		own = secret_header();
		nonce = mem_strndup(own + strlen("HMAC-SHA256 "), strcspn(own, ":") - strlen("HMAC-SHA256 "));
		header = header_of(v, nonce);
		is_str(own, header, "our own header");
		is_int(check(own, HERE, true), SECRET_RIGHT, "is right");
		free(own);
		free(nonce);
		free(header);
	}
	secret_free();
}

static void
test_headers_differ(void)
{
	char *a, *b;

	set(SECRET, "");
	a = secret_header();
	b = secret_header();
	ok(strcmp(a, b) != 0, "no two headers of ours are alike");
	free(a);
	free(b);
}

static const char *const malformed[] = {"", " ", "HMAC-SHA256", "HMAC-SHA256 ",
    "HMAC-SHA256 :", "HMAC-SHA256 " NONCE, "HMAC-SHA256 " NONCE ":", "HMAC-SHA256 " NONCE ":00",
    "HMAC-SHA1 " NONCE ":H", "hmac-sha256 " NONCE ":H", "HMAC-SHA256  " NONCE ":H",
    "HMAC-SHA256 " NONCE " :H", "HMAC-SHA256 " NONCE ": H", "HMAC-SHA256 " NONCE ":HH",
    "HMAC-SHA256 " NONCE ":H ", "HMAC-SHA256 :H", "HMAC-SHA256 -1:H", "HMAC-SHA256 +1:H", "HMAC-SHA256 0x1:H",
    "HMAC-SHA256 1e9:H", "HMAC-SHA256 1.:H", "HMAC-SHA256 .1:H", "HMAC-SHA256 1.1.1:H",
    "HMAC-SHA256 1.1234567:H", "HMAC-SHA256 1234567890123:H", "HMAC-SHA256 123456789012345678901:H",
    NONCE ":H", "H"};

static void
test_malformed(void)
{
	static const char upper[] = "657F8F7393E94E6A4184035DA00CCDE9C290FADEDCA5F52D639CC3E842619BEB";
	char *header;

	set(vectors[0].secret, "");
	is_int(check(NULL, HERE, false), SECRET_MALFORMED, "no header");
	for (size_t i = 0; i < ARRAY_LENGTH(malformed); i++) {
		const char *at = strchr(malformed[i], 'H');
		char *copy;

		while (at != NULL && strncmp(at, "HMAC", 4) == 0)
			at = strchr(at + 1, 'H');
		header = at == NULL ? mem_strdup(malformed[i])
				    : mem_printf("%.*s%s%s", (int)(at - malformed[i]), malformed[i],
					  vectors[0].hex, strcmp(at, "HH") == 0 ? "0" : at + 1);
		copy = tap_copy(header, strlen(header) + 1);
		is_int(check(copy, HERE, false), SECRET_MALFORMED, "\"%s\"", malformed[i]);
		free(copy);
		free(header);
	}
	header = mem_printf("HMAC-SHA256 " NONCE ":%s", upper);
	is_int(check(header, HERE, false), SECRET_MALFORMED, "upper-case digits");
	free(header);
}

/* ---- time ---- */

/* The header of a clock that is so far off. The caller releases it. */
static char *
header_at(int64_t time_s)
{
	char *nonce = mem_printf("%" PRId64, time_s), *header = header_of(&vectors[0], nonce);

	free(nonce);
	return header;
}

static void
check_window(int64_t off_s, enum secret_verdict want)
{
	enum secret_verdict got;
	int64_t now_s, skew_s;

	do { /* the second must not end meanwhile */
		char *header;

		now_s = time(NULL);
		header = header_at(now_s + off_s);
		got = secret_check_header(header, HERE, false, &skew_s);
		free(header);
	} while (time(NULL) != now_s);
	is_int(got, want, "a clock that is %" PRId64 " s off", off_s);
	is_int(skew_s, off_s, "is found to be so");
}

static void
test_window(void)
{
	set(vectors[0].secret, "");
	check_window(0, SECRET_RIGHT);
	check_window(-299, SECRET_RIGHT);
	check_window(-300, SECRET_RIGHT);
	check_window(-301, SECRET_CLOCK);
	check_window(299, SECRET_RIGHT);
	check_window(300, SECRET_RIGHT);
	check_window(301, SECRET_CLOCK);
	check_window(-1000000, SECRET_CLOCK);
	check_window(INT64_C(997000000000), SECRET_CLOCK);
	secret_free();
}

static void
test_replay(void)
{
	char *header;

	set(vectors[0].secret, "");
	header = header_at(time(NULL));
	is_int(check(header, HERE, false), SECRET_RIGHT, "a header");
	is_int(check(header, HERE, false), SECRET_RIGHT, "again, from the same address");
	is_int(check(header, THERE, false), SECRET_REPLAYED, "from another one");
	is_int(check(header, HERE, true), SECRET_REPLAYED, "where it may come once only");
	is_int(check(header, HERE, false), SECRET_RIGHT, "which takes it from nobody");
	free(header);
	header = header_at(time(NULL) - 1);
	is_int(check(header, THERE, true), SECRET_RIGHT, "another header, once");
	is_int(check(header, THERE, true), SECRET_REPLAYED, "twice");
	is_int(check(header, HERE, false), SECRET_REPLAYED, "and elsewhere");
	free(header);
	header = header_at(time(NULL) - 2);
	set(SECRET2 " it is not", "");
	is_int(check(header, THERE, false), SECRET_WRONG, "a header of another secret");
	set(vectors[0].secret, "");
	is_int(check(header, HERE, true), SECRET_RIGHT, "was not remembered");
	secret_free();
	is_int(check(header, THERE, true), SECRET_RIGHT, "and nothing is, after all was forgotten");
	secret_free();
	free(header);
}

/* ---- two of them ---- */

static void
test_rotation(void)
{
	char of_old[SECRET_HEX_SIZE], of_new[SECRET_HEX_SIZE];
	char *header;

	set("", "");
	ok(!secret_is_set(), "there is no secret");
	set(SECRET2, "");
	secret_sign("text", 4, of_new);
	set(SECRET, "");
	ok(secret_is_set(), "there is one");
	secret_sign("text", 4, of_old);
	header = secret_header();
	ok(secret_verify("text", 4, of_old, SECRET_HEX) && !secret_verify("text", 4, of_new, SECRET_HEX),
	    "one secret verifies its own");
	set(SECRET, SECRET2);
	ok(secret_verify("text", 4, of_old, SECRET_HEX) && secret_verify("text", 4, of_new, SECRET_HEX),
	    "with a second one, both");
	set(SECRET2, SECRET);
	ok(secret_verify("text", 4, of_old, SECRET_HEX) && secret_verify("text", 4, of_new, SECRET_HEX),
	    "the other way round, too");
	is_int(check(header, HERE, true), SECRET_RIGHT, "so it is with headers");
	set(SECRET2, "");
	is_int(check(header, HERE, true), SECRET_WRONG, "until the old one is gone");
	ok(!secret_verify("text", 4, of_old, SECRET_HEX), "and with signatures");
	set("", "");
	is_int(check(header, HERE, true), SECRET_WRONG, "without a secret nothing is right");
	free(header);
	secret_free();
}

/* ---- signatures ---- */

/* RFC 4231, whose keys have no NUL. */
static const struct rfc {
	const char *key, *text, *hex;
} rfc[] = {
    {"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", "Hi There",
	"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"Jefe", "what do ya want for nothing?",
	"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
	"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {NULL,
	"This is a test using a larger than block-size key and a larger than block-size data. The key needs "
	"to be "
	"hashed before being used by the HMAC algorithm.",
	"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

static void
test_signatures(void)
{
	char aa[132], hex[SECRET_HEX_SIZE];

	memset(aa, 0xaa, sizeof(aa) - 1);
	aa[sizeof(aa) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LENGTH(rfc); i++) {
		size_t len = strlen(rfc[i].text);

		set(rfc[i].key != NULL ? rfc[i].key : aa, "");
		secret_sign(rfc[i].text, len, hex);
		is_str(hex, rfc[i].hex, "RFC 4231, %zu", i);
		ok(secret_verify(rfc[i].text, len, rfc[i].hex, SECRET_HEX), "is verified");
		ok(!secret_verify(rfc[i].text, len - 1, rfc[i].hex, SECRET_HEX), "not of another text");
		ok(!secret_verify(rfc[i].text, len, rfc[i].hex, SECRET_HEX - 1), "not when it is cut");
		hex[0] = hex[0] == '0' ? '1' : '0';
		ok(!secret_verify(rfc[i].text, len, hex, SECRET_HEX), "not when it is changed");
		hex[0] = 'G';
		ok(!secret_verify(rfc[i].text, len, hex, SECRET_HEX), "nor when it is no digits");
	}
}

/* ---- blocks ---- */

static size_t
from_hex(const char *hex, uint8_t *out)
{
	size_t n = 0;
	unsigned octet;

	for (; sscanf(hex + 2 * n, "%2x", &octet) == 1; n++)
		out[n] = (uint8_t)octet;
	return n;
}

/* As the server signs: sha256(outer || sha256(inner || text)). */
static void
sign_with_blocks(const char *inner, const char *outer, const char *text, char hex[SECRET_HEX_SIZE])
{
	uint8_t octets[256], digest[SHA256_DIGEST_LENGTH];
	size_t n = from_hex(inner, octets);

	memcpy(octets + n, text, strlen(text));
	SHA256(octets, n + strlen(text), digest);
	n = from_hex(outer, octets);
	memcpy(octets + n, digest, sizeof(digest));
	SHA256(octets, n + sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void
test_blocks(void)
{
	static const char key[] = "pgrelay.heartbeat.1\nweb1\n5f1d0a2b3c4d5e6f\n17",
			  text[] = "{\"hostname\":\"web1\"", sixteen[] = "36363636363636363636363636363636",
			  twelve[] = "5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c";
	char inner[SECRET_BLOCK_SIZE], outer[SECRET_BLOCK_SIZE], hex[SECRET_HEX_SIZE];

	set("what these nodes share: \xc3\xa4", SECRET2);
	secret_signing_blocks(key, inner, outer);
	is_int((long long)strlen(inner), 128, "the inner block has 64 octets");
	is_int((long long)strlen(outer), 128, "and the outer one");
	is_int(strncmp(inner, "22b93d72897306d80c4b28341c74b9a06f4de7f1344845b0c93f0b117ddcf8f8", 64), 0,
	    "the inner block is the key XOR ipad");
	is_int(strncmp(outer, "48d35718e3196cb26621425e761ed3ca05278d9b5e222fdaa355617b17b69292", 64), 0,
	    "the outer block is the key XOR opad");
	ok(strncmp(inner + 64, sixteen, 32) == 0 && strcmp(inner + 96, sixteen) == 0, "behind it ipad alone");
	ok(strncmp(outer + 64, twelve, 32) == 0 && strcmp(outer + 96, twelve) == 0, "or opad alone");
	sign_with_blocks(inner, outer, text, hex);
	is_str(hex, "f1039bc8a23a068e9b22b8e496e091e46cb1a7175a56d03752feff3e9ba9e1d2",
	    "what is signed with them is the HMAC");
	ok(secret_verify_by(key, text, strlen(text), hex, SECRET_HEX), "is verified");
	ok(!secret_verify_by(
	       "pgrelay.heartbeat.1\nweb1\n5f1d0a2b3c4d5e6f\n18", text, strlen(text), hex, SECRET_HEX),
	    "not for another heartbeat");
	ok(!secret_verify_by(key, text, strlen(text) - 1, hex, SECRET_HEX), "not of another text");
	ok(!secret_verify_by(key, text, strlen(text), hex, SECRET_HEX - 1), "not when it is cut");
	set(SECRET2, "what these nodes share: \xc3\xa4");
	ok(secret_verify_by(key, text, strlen(text), hex, SECRET_HEX), "with the second secret, too");
	set(SECRET2, "");
	ok(!secret_verify_by(key, text, strlen(text), hex, SECRET_HEX), "not without it");
}

static void
test_challenges(void)
{
	char a[SECRET_HEX_SIZE], b[SECRET_HEX_SIZE];

	secret_challenge(a);
	secret_challenge(b);
	is_int((long long)strspn(a, "0123456789abcdef"), SECRET_HEX, "a challenge is 64 digits");
	is_int(a[SECRET_HEX], '\0', "and no more");
	ok(strcmp(a, b) != 0, "and another one each time");
}

int
main(void)
{
	test_header_text();
	test_headers_differ();
	test_malformed();
	test_window();
	test_replay();
	test_rotation();
	test_signatures();
	test_blocks();
	test_challenges();
	return tap_end();
}
