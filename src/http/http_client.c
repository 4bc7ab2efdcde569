/*
 * One HTTP request to a node. It is HTTP/1.0, so that the answer ends with the connection, whatever proxy is
 * in between. The socket blocks, with time-outs.
 */
#include "config.h"
#include "http/http_client.h"
#include "core/mem.h"
#include "http/tls.h"

#include <errno.h>
#include <event2/http.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define HTTP_CLIENT_CONNECT_S  10
#define HTTP_CLIENT_ANSWER_S   120
#define HTTP_CLIENT_PIECE      (1024 * 1024) /* octets that OpenSSL is given at once */
#define HTTP_CLIENT_ANSWER_MAX (16 * 1024 * 1024)

struct http_client_url {
	bool tls;
	char *host, *port;
	char *authority; /* as the Host header has it */
	char *prefix;    /* of the path; "" for none */
	char *text;
};

/* ---- URLs ---- */

static bool
http_client_url_check(const struct evhttp_uri *uri, char **error)
{
	static const char *const schemes[] = {"http", "https", "ws", "wss"};
	const char *scheme = uri != NULL ? evhttp_uri_get_scheme(uri) : NULL;
	const char *host = uri != NULL ? evhttp_uri_get_host(uri) : NULL;
	bool known = false;

	for (size_t i = 0; scheme != NULL && i < ARRAY_LENGTH(schemes); i++)
		known |= strcasecmp(scheme, schemes[i]) == 0;
	if (!known || host == NULL || *host == '\0')
		*error = mem_strdup("the URL of a node is wanted: http://HOST:PORT or https://HOST:PORT");
	else if (evhttp_uri_get_userinfo(uri) != NULL)
		*error = mem_strdup("a URL with a user's name is not supported: the token says who you are");
	else
		return true;
	return false;
}

/* A proxy may have a node below a path; what is behind it for WebSockets is not wanted here. */
static char *
http_client_prefix(const char *path)
{
	static const char *const tails[] = {
	    "/api/websocket/", "/api/websocket", "/websocket/", "/websocket", "/"};
	size_t len = path != NULL ? strlen(path) : 0;

	for (size_t i = 0; i < ARRAY_LENGTH(tails); i++) {
		size_t tail = strlen(tails[i]);

		if (len >= tail && strcmp(path + len - tail, tails[i]) == 0)
			return mem_strndup(path, len - tail);
	}
	return mem_strndup(path != NULL ? path : "", len);
}

static struct http_client_url *
http_client_url_new(const struct evhttp_uri *uri)
{
	struct http_client_url *url = mem_zalloc(sizeof(*url));
	const char *scheme = evhttp_uri_get_scheme(uri), *host = evhttp_uri_get_host(uri);
	bool tls = strcasecmp(scheme, "https") == 0 || strcasecmp(scheme, "wss") == 0;
	int usual = tls ? 443 : 80, port = evhttp_uri_get_port(uri) > 0 ? evhttp_uri_get_port(uri) : usual;

	url->tls = tls;
	url->host = *host == '[' ? mem_strndup(host + 1, strlen(host) - 2) : mem_strdup(host);
	url->port = mem_printf("%d", port);
	url->authority = port == usual ? mem_strdup(host) : mem_printf("%s:%d", host, port);
	url->prefix = http_client_prefix(evhttp_uri_get_path(uri));
	url->text = mem_printf("%s://%s%s", tls ? "https" : "http", url->authority, url->prefix);
	return url;
}

struct http_client_url *
http_client_url_parse(const char *text, char **error)
{
	struct evhttp_uri *uri = evhttp_uri_parse(text);
	struct http_client_url *url = NULL;

	if (http_client_url_check(uri, error))
		url = http_client_url_new(uri);
	if (uri != NULL)
		evhttp_uri_free(uri);
	return url;
}

void
http_client_url_free(struct http_client_url *url)
{
	if (url == NULL)
		return;
	free(url->host);
	free(url->port);
	free(url->authority);
	free(url->prefix);
	free(url->text);
	free(url);
}

const char *
http_client_url_text(const struct http_client_url *url)
{
	return url->text;
}

/* ---- connecting ---- */

struct http_client {
	int fd;
	SSL_CTX *context; /* NULL without TLS, as tls */
	SSL *tls;
};

static void
http_client_set_timeout(int fd, int seconds)
{
	struct timeval tv = {seconds, 0};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)); /* connect() keeps to it as well */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

/* -1: errno says why. */
static int
http_client_connect_to(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol), reason;

	if (fd < 0)
		return -1;
	http_client_set_timeout(fd, HTTP_CLIENT_CONNECT_S);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0)
		return fd;
	reason = errno == EINPROGRESS ? ETIMEDOUT : errno;
	close(fd);
	errno = reason;
	return -1;
}

/* -1: *error says why. */
static int
http_client_connect(const struct http_client_url *url, char **error)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL, *ai;
	int rc = getaddrinfo(url->host, url->port, &hints, &list), fd = -1;

	if (rc != 0) {
		*error = mem_strdup(rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return -1;
	}
	for (ai = list; fd < 0 && ai != NULL; ai = ai->ai_next)
		fd = http_client_connect_to(ai);
	if (fd < 0)
		*error = mem_strdup(strerror(errno));
	freeaddrinfo(list);
	return fd;
}

/* False: *error says why. */
static bool
http_client_shake_hands(struct http_client *c, const struct http_client_url *url, char **error)
{
	const char *reason;
	int rc;

	if (!url->tls)
		return true;
	c->context = tls_context();
	if (c->context == NULL) {
		*error = mem_strdup("the certificates of tls_ca_file cannot be read");
		return false;
	}
	c->tls = tls_new(c->context, url->host);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
	SSL_set_options(c->tls, SSL_OP_IGNORE_UNEXPECTED_EOF); /* else it is SSL_ERROR_SYSCALL */
#endif
	rc = SSL_set_fd(c->tls, c->fd) == 1 ? SSL_connect(c->tls) : 0;
	if (rc == 1)
		return true;
	reason = tls_error(c->tls, ERR_get_error());
	*error = mem_strdup(reason != NULL ? reason
			    : errno != 0   ? strerror(errno)
					   : "the TLS handshake failed");
	return false;
}

static void
http_client_close(struct http_client *c)
{
	SSL_free(c->tls);
	SSL_CTX_free(c->context);
	close(c->fd);
}

/* False: *error says why. */
static bool
http_client_open(struct http_client *c, const struct http_client_url *url, char **error)
{
	*c = (struct http_client){http_client_connect(url, error), NULL, NULL};
	if (c->fd < 0)
		return false;
	http_client_set_timeout(c->fd, HTTP_CLIENT_CONNECT_S);
	if (!http_client_shake_hands(c, url, error)) {
		http_client_close(c);
		return false;
	}
	http_client_set_timeout(c->fd, HTTP_CLIENT_ANSWER_S);
	return true;
}

/* ---- asking ---- */

/* What is wrong with a connection. */
static char *
http_client_reason(const struct http_client *c)
{
	const char *reason = c->tls != NULL ? tls_error(c->tls, ERR_get_error()) : NULL;

	if (reason != NULL)
		return mem_strdup(reason);
	return errno == EAGAIN || errno == EWOULDBLOCK
		   ? mem_printf("no answer within %d s", HTTP_CLIENT_ANSWER_S)
		   : mem_strdup(strerror(errno));
}

static ssize_t
http_client_write(const struct http_client *c, const char *data, size_t len)
{
	if (c->tls == NULL)
		return send(c->fd, data, len, 0);
	return SSL_write(c->tls, data, len < HTTP_CLIENT_PIECE ? (int)len : HTTP_CLIENT_PIECE);
}

/* 0: the server has closed. */
static ssize_t
http_client_read(const struct http_client *c, char *data, size_t size)
{
	int n, error;

	if (c->tls == NULL)
		return recv(c->fd, data, size, 0);
	errno = 0;
	n = SSL_read(c->tls, data, size < HTTP_CLIENT_PIECE ? (int)size : HTTP_CLIENT_PIECE);
	if (n > 0)
		return n;
	error = SSL_get_error(c->tls, n);
	return error == SSL_ERROR_ZERO_RETURN || (error == SSL_ERROR_SYSCALL && errno == 0) ? 0 : -1;
}

static bool
http_client_send(const struct http_client *c, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = http_client_write(c, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool
http_client_send_request(const struct http_client *c, const struct http_client_url *url, const char *path,
    const char *token, const char *body, size_t len)
{
	char *length = body != NULL
			   ? mem_printf("Content-Type: application/json\r\nContent-Length: %zu\r\n", len)
			   : mem_strdup("");
	char *head = mem_printf("%s %s%s HTTP/1.0\r\nHost: %s\r\nUser-Agent: pgrelay/" PACKAGE_VERSION
				"\r\nConnection: close\r\n%s%s%s%s\r\n",
	    body != NULL ? "POST" : "GET", url->prefix, path, url->authority,
	    token != NULL ? "Authorization: Bearer " : "", token != NULL ? token : "",
	    token != NULL ? "\r\n" : "", length);
	bool ok = http_client_send(c, head, strlen(head)) && (body == NULL || http_client_send(c, body, len));

	free(head);
	free(length);
	return ok;
}

/* To its end; NULL: *error says why. */
static char *
http_client_receive(const struct http_client *c, char **error)
{
	size_t len = 0, size = 4096;
	char *text = mem_alloc(size);
	ssize_t n;

	while ((n = http_client_read(c, text + len, size - len - 1)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || len + (size_t)n > HTTP_CLIENT_ANSWER_MAX) {
			*error = n < 0 ? http_client_reason(c) : mem_strdup("the answer is too long");
			free(text);
			return NULL;
		}
		len += (size_t)n;
		if (size - len < 4096)
			text = mem_resize(text, size *= 2);
	}
	text[len] = '\0';
	return text;
}

static bool
http_client_take(char *text, struct http_client_answer *answer)
{
	char *body = strstr(text, "\r\n\r\n");

	if (body == NULL || sscanf(text, "HTTP/1.%*1[01] %3d", &answer->status) != 1)
		return false;
	answer->body = mem_strdup(body + 4);
	return true;
}

/* A server that refuses need not have read all: its answer counts, even where sending failed. */
static enum http_client_result
http_client_talk(const struct http_client *c, const struct http_client_url *url, const char *path,
    const char *token, const char *body, size_t len, struct http_client_answer *answer)
{
	enum http_client_result result = HTTP_CLIENT_LOST;
	bool sent = http_client_send_request(c, url, path, token, body, len);
	char *reason = sent ? NULL : http_client_reason(c);
	char *text = http_client_receive(c, &answer->error);

	if (text != NULL && http_client_take(text, answer))
		result = HTTP_CLIENT_ANSWERED;
	else if (text != NULL)
		answer->error = mem_strdup(
		    *text == '\0' ? "the connection was closed without an answer" : "the answer is not HTTP");
	if (result == HTTP_CLIENT_LOST && reason != NULL) {
		free(answer->error);
		answer->error = reason;
		reason = NULL;
	}
	free(reason);
	free(text);
	return result;
}

enum http_client_result
http_client_ask(const struct http_client_url *url, const char *path, const char *token, const char *body,
    size_t len, struct http_client_answer *answer)
{
	enum http_client_result result = HTTP_CLIENT_UNREACHED;
	void (*former)(int) = signal(SIGPIPE, SIG_IGN); /* a server that has closed shows by EPIPE */
	struct http_client c;

	*answer = (struct http_client_answer){0, NULL, NULL};
	if (http_client_open(&c, url, &answer->error)) {
		result = http_client_talk(&c, url, path, token, body, len, answer);
		http_client_close(&c);
	}
	signal(SIGPIPE, former);
	return result;
}
