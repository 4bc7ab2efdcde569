/*
 * The client's end of one WebSocket connection: address, TLS, handshake, messages, keep-alive by ping, the
 * end and its reason. It does not reconnect: its owner makes another. Credentials travel in headers, never in
 * the URL.
 */
#ifndef PGRELAY_HTTP_WS_CLIENT_H
#define PGRELAY_HTTP_WS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/ws.h"

struct ws_client;
struct ws_client_url;

/* ws:// or wss://HOST[:PORT][/PATH][?QUERY]; the path of a node where there is none. With http:// or https://,
 * which mean the same, PATH is where the node is, with or without the end that a WebSocket's has. NULL: *error
 * holds the reason, to be released with free(). */
struct ws_client_url *ws_client_url_parse(const char *text, char **error);
/* The same from its parts; address is dialled for the host, where the host is a name that is known already
 * (NULL: the system resolves it, which may block). */
struct ws_client_url *ws_client_url_make(
    bool tls, const char *host, const char *address, int port, const char *path);
void ws_client_url_free(struct ws_client_url *url);
/* For messages: without the query, which may hold a token. */
const char *ws_client_url_text(const struct ws_client_url *url);

struct ws_client_end {
	int http_status; /* the server's answer to the handshake was this one, not 101; 0: it did not come to
			    that */
	int retry_after_s;   /* what it said with a 503; 0 for nothing */
	uint16_t close_code; /* of an open connection, as RFC 6455 has them; 0: it was never open */
	const char *reason;  /* one line */
};

struct ws_client_ops {
	/* The handshake is done. */
	void (*on_open)(void *arg);
	/* A text message, or a binary one where those are taken; valid during the call. */
	void (*on_message)(void *arg, const char *text, size_t len);
	/* The last call; not made when the client is freed first. */
	void (*on_end)(void *arg, const struct ws_client_end *end);
	/* All that was sent has been handed to the socket. May be NULL. */
	void (*on_drained)(void *arg);
};

struct ws_client_options {
	const char *token;    /* a Bearer token; NULL for none */
	const char *headers;  /* further lines of the request, each ended by CRLF; NULL for none */
	const char *protocol; /* the subprotocol, which the server must take; NULL for none */
	bool binary;          /* binary messages are taken as well */
	int64_t connect_ms;   /* for each step until the handshake is done; 0: 10 s */
};

/* Begins to connect; nothing is called from inside. url must outlive it, options is copied. TLS as the
 * settings tls_* say. The caller releases it with ws_client_free(). */
struct ws_client *ws_client_new(const struct ws_client_url *url, const struct ws_client_options *options,
    const struct ws_client_ops *ops, void *arg);
/* In any state, and from inside any callback. */
void ws_client_free(struct ws_client *client);

/* While open; else it is dropped. */
void ws_client_send(struct ws_client *client, const char *text, size_t len);
void ws_client_send_binary(struct ws_client *client, const char *octets, size_t len);
/* Octets that wait for the server. */
size_t ws_client_backlog(const struct ws_client *client);
/* Closes normally; on_end comes when the server has closed too, or soon without it. */
void ws_client_close(struct ws_client *client);
/* The same with another code and a reason, of at most 123 octets. */
void ws_client_close_with(struct ws_client *client, enum ws_close_code code, const char *reason);

#endif
