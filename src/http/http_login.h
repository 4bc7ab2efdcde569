/*
 * From a request to its user: the credential it brings, the rule about origins, the database's word, and the
 * refusals of all three; then, for sessions, the connection's way out of evhttp. What is asked for, and
 * whether it is asked for rightly, is its owner's business.
 */
#ifndef PGRELAY_HTTP_HTTP_LOGIN_H
#define PGRELAY_HTTP_HTTP_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

struct dialect;
struct evhttp_request;
struct http_login;

struct http_login_ops {
	/* The user is known. The owner ends the login now or later. */
	void (*accepted)(void *arg, struct http_login *login);
	/* A refusal is due: true when the owner has ended the login in another way. NULL: never. */
	bool (*refuse)(void *arg, struct http_login *login, int status, const char *reason, const char *line);
	/* The login has ended, or the client has hung up: releases arg. NULL: nothing to release. */
	void (*ended)(void *arg);
	/* It is to publish, not for a session: cookies are not taken (but with drp), and its refusals are the
	 * owner's to count. */
	bool publishing;
	/* It is of the Digital Rebar dialect: names with passwords are taken, and refusals are as docs/drp.md says. */
	bool drp;
};

/* The login is gone when it has ended. */
struct http_login *http_login_new(struct evhttp_request *req, const struct http_login_ops *ops, void *arg);
/* Finds out who it is, and calls accepted, never from inside, or refuses. */
void http_login_start(struct http_login *login);
/* For a peer, which has proved itself otherwise: calls accepted at once. name stands in the log. */
void http_login_accept_peer(struct http_login *login, const char *name);

struct evhttp_request *http_login_request(const struct http_login *login);
/* Once accepted. */
int64_t http_login_user_id(const struct http_login *login);
const char *http_login_user_name(const struct http_login *login);
/* Of the token that was brought; 0: it was none. */
int64_t http_login_token_id(const struct http_login *login);
/* Is the credential one that a browser sends by itself? */
bool http_login_is_ambient(const struct http_login *login);
/* "ADDRESS:PORT" of the client. */
const char *http_login_peer(const struct http_login *login);

/* Each ends the login. */

/* The request is the caller's to answer from now on. */
struct evhttp_request *http_login_end(struct http_login *login);

/* Answers with this status and line; reason is the status's name. */
void http_login_refuse(struct http_login *login, int status, const char *reason, const char *line);
/* Where as many sessions are open as there may be: refuses and returns true. */
bool http_login_refuse_crowd(struct http_login *login);
/* Opens a session for the user: answer is the whole head of the response, request is for the dialect. deflate:
 * the answer agrees on permessage-deflate. */
void http_login_open(
    struct http_login *login, const struct dialect *dialect, const char *answer, void *request, bool deflate);
/* Sends the answer and a text message, and closes: a refusal by WebSocket. */
void http_login_turn_away(struct http_login *login, const char *answer, const char *farewell);

/* Refuses what is under way; the node is ending. */
void http_login_refuse_all(void);

#endif
