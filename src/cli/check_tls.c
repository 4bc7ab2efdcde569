/* pgrelay check: what the node would serve TLS with, read as the node reads it. */
#include "config.h"
#include "cli/check.h"
#include "core/conf.h"
#include "core/mem.h"
#include "http/tls.h"
#include "http/tls_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CHECK_RENEW_DAYS 14

/* NULL: it cannot be read. */
static X509 *
check_read_certificate(void)
{
	FILE *f = fopen(conf.tls_cert_file, "r");
	X509 *cert = f != NULL ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;

	if (f != NULL)
		fclose(f);
	return cert;
}

static void
check_format_time(const ASN1_TIME *time, char out[static 32])
{
	struct tm tm = {0};

	ASN1_TIME_to_tm(time, &tm);
	strftime(out, 32, "%Y-%m-%d %H:%M UTC", &tm);
}

/* Days from now, whole ones; below 0: it is past. */
static int
check_days_left(const ASN1_TIME *time)
{
	int days = 0, seconds = 0;

	ASN1_TIME_diff(&days, &seconds, NULL, time);
	return days < 0 || seconds < 0 ? -1 : days;
}

/* NULL: it is of another kind. The caller releases it with free(). */
static char *
check_name_text(const GENERAL_NAME *name)
{
	int kind;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &kind);
	const unsigned char *octets;
	size_t len;
	char text[INET6_ADDRSTRLEN];

	if (kind != GEN_DNS && kind != GEN_IPADD)
		return NULL;
	octets = ASN1_STRING_get0_data(value);
	len = (size_t)ASN1_STRING_length(value);
	if (kind == GEN_DNS)
		return mem_strndup((const char *)octets, len);
	if (len != sizeof(struct in_addr) && len != sizeof(struct in6_addr))
		return NULL;
	inet_ntop(len == sizeof(struct in_addr) ? AF_INET : AF_INET6, octets, text, sizeof(text));
	return mem_strdup(text);
}

/* Those by which clients may know the node: "localhost, 127.0.0.1". The caller releases it with free(). */
static char *
check_names(const X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	char *text = mem_strdup("");

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		char *name = check_name_text(sk_GENERAL_NAME_value(names, i)), *longer;

		if (name == NULL)
			continue;
		longer = mem_printf("%s%s%s", text, *text != '\0' ? ", " : "", name);
		free(name);
		free(text);
		text = longer;
	}
	GENERAL_NAMES_free(names);
	return text;
}

static void
check_certificate(struct check *c, const X509 *cert)
{
	const ASN1_TIME *begin = X509_get0_notBefore(cert), *end = X509_get0_notAfter(cert);
	int days = check_days_left(end);
	char date[32], *names = check_names(cert);

	check_format_time(days < 0 ? end : check_days_left(begin) >= 0 ? begin : end, date);
	if (days < 0)
		check_fail(c,
		    "Renew it, and let the node read it by SIGHUP; \"pgrelay cert --force\" makes one.",
		    "the certificate in \"%s\" has expired: %s", conf.tls_cert_file, date);
	else if (check_days_left(begin) >= 0)
		check_fail(c, "Is this machine's clock right?",
		    "the certificate in \"%s\" is not valid before %s", conf.tls_cert_file, date);
	else
		check_ok(c, "for %s, until %s (%d d)%s",
		    *names != '\0' ? names : "no name, so that only clients that do not verify it connect",
		    date, days, days < CHECK_RENEW_DAYS ? ": renew it soon" : "");
	free(names);
}

static bool
check_key_is_open(void)
{
	struct stat st;

	return stat(conf.tls_key_file, &st) == 0 && (st.st_mode & S_IRWXO) != 0;
}

/* True when it can be used; then its names and dates remain. */
static bool
check_files(struct check *c)
{
	char *error = NULL;
	bool ok = tls_server_load(&error);

	tls_server_free();
	if (!ok)
		check_fail(c,
		    "The node's user must be able to read them; \"pgrelay cert\" makes a certificate with "
		    "its key.",
		    "%s", error);
	free(error);
	return ok;
}

static bool
check_authorities(struct check *c)
{
	SSL_CTX *context = *conf.tls_ca_file != '\0' ? tls_context() : NULL;
	bool ok = *conf.tls_ca_file == '\0' || context != NULL;

	SSL_CTX_free(context);
	return ok || check_fail(c, "It is a file of certificates in PEM.",
			 "the authorities of tls_ca_file, \"%s\", cannot be read", conf.tls_ca_file);
}

bool
check_tls(struct check *c)
{
	X509 *cert;

	if (!check_authorities(c))
		return true;
	if (*conf.listen_tls == '\0')
		return check_ok(c, "not served, listen_tls is empty");
	if (!check_files(c))
		return true;
	cert = check_read_certificate();
	if (check_key_is_open())
		check_fail(c, "chmod o= takes that away; who has the key can pose as this node.",
		    "everybody on this host may read the key in \"%s\"", conf.tls_key_file);
	else if (cert == NULL)
		check_fail(c, "", "could not read \"%s\"", conf.tls_cert_file);
	else
		check_certificate(c, cert);
	X509_free(cert);
	return true;
}
