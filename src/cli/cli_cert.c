/*
 * pgrelay cert: a certificate for those who have none. It is issued by an authority that exists for this one
 * certificate only: its key is never stored, so nobody can issue another one that is trusted with it. (One that
 * is its own authority would do for some verifiers; others refuse it as a server's, or, without the right to
 * issue, as an authority, and who got hold of its key could issue more.)
 */
#include "config.h"
#include "cli/cli.h"
#include "cli/cli_args.h"
#include "core/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CERT_DAYS        "825" /* what Apple's systems take at most */
#define CERT_DAYS_MAX    3650
#define CERT_EARLIER_S   3600 /* for clocks that are behind */
#define CERT_NAME_MAX    253
#define CERT_LABEL_MAX   63
#define CERT_COMMON_MAX  64 /* RFC 5280, ub-common-name */
#define CERT_SERIAL_BITS 127
#define CERT_NAMES_MAX   100

struct cert_options {
	const char *folder;
	struct cli_values names;
	const char *days_text;
	bool force;
};

struct cert_names {
	const char *list[CERT_NAMES_MAX];
	size_t count;
};

/* In this order they are written: the others are of no use without the key. */
enum cert_kind { CERT_KEY, CERT_CHAIN, CERT_AUTHORITY, CERT_FILES };

/* What goes into a file. */
struct cert_file {
	char *path;
	mode_t mode;
	BIO *text;
};

/* What is left to chance and memory alone; the program can do nothing about it. */
static void
cert_must(bool ok)
{
	if (ok)
		return;
	cli_error("OpenSSL failed: %s", ERR_reason_error_string(ERR_get_error()));
	exit(CLI_FAILED);
}

/* ---- names ---- */

static bool
cert_is_address(const char *name)
{
	struct in6_addr octets;

	return inet_pton(AF_INET, name, &octets) == 1 || inet_pton(AF_INET6, name, &octets) == 1;
}

/* Words of letters, digits and hyphens between dots; the first one may be an asterisk. */
static bool
cert_is_host(const char *name)
{
	const char *label = strncmp(name, "*.", 2) == 0 ? name + 2 : name;

	if (strlen(name) > CERT_NAME_MAX)
		return false;
	for (;; label++) {
		size_t len = 0;

		while (isalnum((unsigned char)label[len]) || label[len] == '-' || label[len] == '_')
			len++;
		if (len == 0 || len > CERT_LABEL_MAX || *label == '-' || label[len - 1] == '-')
			return false;
		label += len;
		if (*label != '.')
			return *label == '\0';
	}
}

static void
cert_add_name(struct cert_names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcasecmp(names->list[i], name) == 0)
			return;
	names->list[names->count++] = name;
}

static bool
cert_take_names(struct cert_names *names, const struct cli_values *given)
{
	if (given->count > CERT_NAMES_MAX) {
		cli_error("more than %d names", CERT_NAMES_MAX);
		return false;
	}
	for (size_t i = 0; i < given->count; i++) {
		if (!cert_is_address(given->list[i]) && !cert_is_host(given->list[i])) {
			cli_error("\"%s\" is neither a host's name nor an IP address", given->list[i]);
			cli_hint("Without scheme, port and brackets: relay.example.org, *.example.org, "
				 "192.0.2.7, ::1; names in other scripts in their ASCII form, xn--....");
			return false;
		}
		cert_add_name(names, given->list[i]);
	}
	return true;
}

/* This host, as it calls itself and as it is reached from itself. */
static void
cert_take_own_names(struct cert_names *names)
{
	static char host[CERT_NAME_MAX + 2];

	if (gethostname(host, sizeof(host) - 1) == 0 && cert_is_host(host))
		cert_add_name(names, host);
	cert_add_name(names, "localhost");
	cert_add_name(names, "127.0.0.1");
	cert_add_name(names, "::1");
}

/* As OpenSSL reads them. The caller releases it with free(). */
static char *
cert_alternative_names(const struct cert_names *names)
{
	char *text = mem_strdup("");

	for (size_t i = 0; i < names->count; i++) {
		char *longer = mem_printf("%s%s%s:%s", text, i > 0 ? "," : "",
		    cert_is_address(names->list[i]) ? "IP" : "DNS", names->list[i]);

		free(text);
		text = longer;
	}
	return text;
}

/* ---- certificates ---- */

static EVP_PKEY *
cert_make_key(void)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	cert_must(context != NULL && EVP_PKEY_keygen_init(context) == 1 &&
		  EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1 &&
		  EVP_PKEY_CTX_set_ec_param_enc(context, OPENSSL_EC_NAMED_CURVE) == 1 &&
		  EVP_PKEY_keygen(context, &key) == 1);
	EVP_PKEY_CTX_free(context);
	return key;
}

static void
cert_set_serial(X509 *cert)
{
	BIGNUM *number = BN_new();

	cert_must(number != NULL &&
		  BN_rand(number, CERT_SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL);
	BN_free(number);
}

/* Not signed yet, without extensions, and its own issuer. */
static X509 *
cert_begin(EVP_PKEY *key, const char *common_name, long days)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_NAME_new();

	cert_must(cert != NULL && name != NULL && X509_set_version(cert, 2) == 1 &&
		  X509_set_pubkey(cert, key) == 1 &&
		  X509_gmtime_adj(X509_getm_notBefore(cert), -CERT_EARLIER_S) != NULL &&
		  X509_time_adj_ex(X509_getm_notAfter(cert), (int)days, -CERT_EARLIER_S, NULL) != NULL &&
		  X509_NAME_add_entry_by_txt(
		      name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
		  X509_set_subject_name(cert, name) == 1 && X509_set_issuer_name(cert, name) == 1);
	cert_set_serial(cert);
	X509_NAME_free(name);
	return cert;
}

static void
cert_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	cert_must(extension != NULL && X509_add_ext(cert, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

/* Its name is its own, so that several of them in one file are told apart. */
static X509 *
cert_make_authority(EVP_PKEY *key, long days)
{
	uint32_t number;
	char name[CERT_COMMON_MAX];
	X509 *authority;

	cert_must(RAND_bytes((unsigned char *)&number, sizeof(number)) == 1);
	snprintf(name, sizeof(name), "pgrelay cert %08" PRIx32, number);
	authority = cert_begin(key, name, days);
	cert_extend(authority, authority, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
	cert_extend(authority, authority, NID_key_usage, "critical,keyCertSign");
	cert_extend(authority, authority, NID_subject_key_identifier, "hash");
	cert_must(X509_sign(authority, key, EVP_sha256()) > 0);
	return authority;
}

static X509 *
cert_issue(EVP_PKEY *key, X509 *authority, EVP_PKEY *authority_key, const struct cert_names *names, long days)
{
	char common_name[CERT_COMMON_MAX + 1], *alternative = cert_alternative_names(names);
	X509 *cert;

	snprintf(common_name, sizeof(common_name), "%s", names->list[0]);
	cert = cert_begin(key, common_name, days);
	cert_must(X509_set_issuer_name(cert, X509_get_subject_name(authority)) == 1);
	cert_extend(cert, authority, NID_basic_constraints, "critical,CA:FALSE");
	cert_extend(cert, authority, NID_key_usage, "critical,digitalSignature");
	cert_extend(cert, authority, NID_ext_key_usage, "serverAuth,clientAuth");
	cert_extend(cert, authority, NID_subject_key_identifier, "hash");
	cert_extend(cert, authority, NID_authority_key_identifier, "keyid:always");
	cert_extend(cert, authority, NID_subject_alt_name, alternative);
	cert_must(X509_sign(cert, authority_key, EVP_sha256()) > 0);
	free(alternative);
	return cert;
}

/* ---- files ---- */

static bool
cert_write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* A new file of this mode from the beginning. */
static bool
cert_create(const char *path, const struct cert_file *file)
{
	char *data;
	long len = BIO_get_mem_data(file->text, &data);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file->mode);
	int reason;
	bool ok;

	if (fd < 0)
		return false;
	ok = fchmod(fd, file->mode) == 0 && cert_write_all(fd, data, (size_t)len) && fsync(fd) == 0;
	reason = errno;
	ok = close(fd) == 0 && ok;
	if (!ok)
		unlink(path);
	errno = reason;
	return ok;
}

static bool
cert_tell_failure(const char *path)
{
	cli_error("could not write \"%s\": %s", path, strerror(errno));
	return false;
}

/* All or none. */
static bool
cert_write(const struct cert_file files[CERT_FILES])
{
	for (int i = 0; i < CERT_FILES; i++) {
		if (cert_create(files[i].path, &files[i]))
			continue;
		cert_tell_failure(files[i].path);
		while (--i >= 0)
			unlink(files[i].path);
		return false;
	}
	return true;
}

/* The node that reads the former file is to be able to read the new one. Where that cannot be, it stays as it was
 * made. */
static void
cert_keep_owner(const char *path, const char *former, mode_t most)
{
	struct stat st;

	if (stat(former, &st) == 0 && chown(path, st.st_uid, st.st_gid) == 0)
		chmod(path, st.st_mode & most);
}

/* Under other names first: who reads them meanwhile finds whole files. */
static bool
cert_replace(const struct cert_file files[CERT_FILES])
{
	struct cert_file fresh[CERT_FILES];
	bool ok;

	for (int i = 0; i < CERT_FILES; i++) {
		fresh[i] = files[i];
		fresh[i].path = mem_printf("%s.new", files[i].path);
		unlink(fresh[i].path);
	}
	ok = cert_write(fresh);
	for (int i = 0; i < CERT_FILES; i++) {
		if (ok)
			cert_keep_owner(fresh[i].path, files[i].path, i == CERT_KEY ? 0640 : 0644);
		if (ok && rename(fresh[i].path, files[i].path) != 0)
			ok = cert_tell_failure(files[i].path);
		free(fresh[i].path);
	}
	return ok;
}

static bool
cert_are_free(const struct cert_file files[CERT_FILES])
{
	struct stat st;

	for (int i = 0; i < CERT_FILES; i++) {
		if (lstat(files[i].path, &st) != 0)
			continue;
		cli_error("\"%s\" is there already", files[i].path);
		cli_hint("--force replaces certificate and key; --out DIR names another folder.");
		return false;
	}
	return true;
}

/* ---- what is said ---- */

/* As a value of the file of settings. */
static void
cert_print_setting(const char *name, const char *path)
{
	printf("%s = '", name);
	for (; *path != '\0'; path++) {
		if (*path == '\'')
			putchar('\'');
		putchar(*path);
	}
	puts("'");
}

static void
cert_print_summary(const X509 *cert, const struct cert_names *names)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	struct tm end;
	char date[32];

	cert_must(X509_digest(cert, EVP_sha256(), digest, &len) == 1 &&
		  ASN1_TIME_to_tm(X509_get0_notAfter(cert), &end) == 1);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", &end);
	fputs("# ", stdout);
	for (size_t i = 0; i < names->count; i++)
		printf("%s%s", i > 0 ? ", " : "", names->list[i]);
	printf("; until %s; SHA-256 ", date);
	for (unsigned i = 0; i < len; i++)
		printf("%s%02X", i > 0 ? ":" : "", digest[i]);
	putchar('\n');
}

/* ---- the command ---- */

/* The authority's key lives in here only. */
static X509 *
cert_make(EVP_PKEY *key, const struct cert_names *names, long days, const struct cert_file files[CERT_FILES])
{
	EVP_PKEY *authority_key = cert_make_key();
	X509 *authority = cert_make_authority(authority_key, days);
	X509 *cert = cert_issue(key, authority, authority_key, names, days);

	EVP_PKEY_free(authority_key);
	cert_must(PEM_write_bio_X509(files[CERT_CHAIN].text, cert) == 1 &&
		  PEM_write_bio_X509(files[CERT_CHAIN].text, authority) == 1 &&
		  PEM_write_bio_X509(files[CERT_AUTHORITY].text, authority) == 1 &&
		  PEM_write_bio_PKCS8PrivateKey(files[CERT_KEY].text, key, NULL, NULL, 0, NULL, NULL) == 1);
	X509_free(authority);
	return cert;
}

static struct cert_file
cert_file(const char *folder, const char *name, mode_t mode)
{
	struct cert_file file = {mem_printf("%s/%s", folder, name), mode, BIO_new(BIO_s_secmem())};

	cert_must(file.text != NULL);
	return file;
}

static bool
cert_make_files(const struct cert_names *names, long days, const char *folder, bool force)
{
	struct cert_file files[CERT_FILES] = {[CERT_KEY] = cert_file(folder, "pgrelay.key", 0600),
	    [CERT_CHAIN] = cert_file(folder, "pgrelay.crt", 0644),
	    [CERT_AUTHORITY] = cert_file(folder, "pgrelay-ca.crt", 0644)};
	EVP_PKEY *key = cert_make_key();
	X509 *cert = cert_make(key, names, days, files);
	bool ok = force ? cert_replace(files) : cert_are_free(files) && cert_write(files);

	if (ok) {
		cert_print_summary(cert, names);
		cert_print_setting("tls_cert_file", files[CERT_CHAIN].path);
		cert_print_setting("tls_key_file", files[CERT_KEY].path);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	for (int i = 0; i < CERT_FILES; i++) {
		BIO_free(files[i].text);
		free(files[i].path);
	}
	return ok;
}

static bool
cert_read_days(const char *text, long *days)
{
	char *end;

	errno = 0;
	*days = strtol(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0' && *days >= 1 && *days <= CERT_DAYS_MAX)
		return true;
	cli_error("\"%s\" is no number of days from 1 to %d", text, CERT_DAYS_MAX);
	return false;
}

/* The settings want whole paths. NULL: it has been said why. */
static char *
cert_find_folder(const char *folder)
{
	char *path = realpath(folder, NULL);
	struct stat st;

	if (path != NULL && stat(path, &st) == 0 && S_ISDIR(st.st_mode) && strpbrk(path, "\r\n") == NULL)
		return path;
	cli_error("\"%s\" is no folder to write to: %s", folder,
	    path == NULL          ? strerror(errno)
	    : S_ISDIR(st.st_mode) ? "its name has a line end"
				  : "it is a file");
	free(path);
	return NULL;
}

static int
cert_run(const struct cert_options *options)
{
	struct cert_names names = {.count = 0};
	char *folder;
	long days;
	bool ok;

	if (!cert_read_days(options->days_text, &days) || !cert_take_names(&names, &options->names))
		return CLI_WRONG_USAGE;
	if (names.count == 0)
		cert_take_own_names(&names);
	folder = cert_find_folder(options->folder);
	if (folder == NULL)
		return CLI_FAILED;
	ok = cert_make_files(&names, days, folder, options->force);
	free(folder);
	return ok ? CLI_DONE : CLI_FAILED;
}

int
cli_cert(int argc, char **argv)
{
	struct cert_options given = {.folder = ".", .days_text = CERT_DAYS};
	const struct cli_option options[] = {
	    {"out", "DIR", "where the files go; without it the present folder", &given.folder, NULL, NULL},
	    {"name", "NAME", "a host's name or IP address it is for; may be given several times", NULL, NULL,
		&given.names},
	    {"days", "N", "how long it is valid; without it " CERT_DAYS, &given.days_text, NULL, NULL},
	    {"force", NULL, "replace files that are there", NULL, &given.force, NULL},
	    {NULL, NULL, NULL, NULL, NULL, NULL},
	};
	const struct cli_usage usage = {.command = "cert",
	    .operands = "",
	    .text = "Makes a certificate, pgrelay.crt, and its key, pgrelay.key, for the setting listen_tls, "
		    "and prints the two\n"
		    "settings that name them. Without --name it is for this host's name, localhost, "
		    "127.0.0.1 and ::1. Those who\n"
		    "connect trust pgrelay-ca.crt, which is made with it: curl --cacert, --tls-ca-file, a "
		    "browser's authorities.",
	    .options = options};
	struct cli_args args;
	int status;

	if (cli_args_read(&args, &usage, argc, argv, &status))
		status = cert_run(&given);
	free(given.names.list);
	return status;
}
