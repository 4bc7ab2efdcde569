/*
 * One client's WebSocket connection, from the 101 answer to the close. The session owns the socket's traffic,
 * the send queue, time-outs and the closing handshake; what the messages mean is its dialect's business.
 */
#ifndef PGRELAY_CLIENT_SESSION_H
#define PGRELAY_CLIENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/credential.h"
#include "http/ws.h"
#include "relay/msg.h"

struct session;

struct dialect {
	enum msg_form form;
	/* The session is open: greet. Returns the dialect's own state. */
	void *(*open)(struct session *session);
	/* A text message; valid during the call. */
	void (*message)(void *state, const char *text, size_t len);
	/* The user's rights have changed: what was allowed must be asked for again. */
	void (*access_changed)(void *state);
	/* The session is ending: nothing can be sent any more; release state. */
	void (*close)(void *state);
};

/* A connection whose HTTP request has been answered by this session's first octets. */
struct session_socket {
	int fd; /* nonblocking; stays the carrier's */
	void *carrier;
	void (*carrier_free)(void *carrier); /* closes fd */
};

/* Who is at the other end. */
struct session_user {
	int64_t id;
	const char *name;             /* copied */
	int64_t expires_ms;           /* from now until the credential must be looked at again; -1: never */
	struct credential credential; /* ownership passes; its token is wiped */
};

/*
 * Opens a session: answer (the 101 response) goes out first, then the dialect's greeting. input is what the
 * client has sent behind its request. peer is "ADDRESS:PORT".
 */
struct session *session_open(const struct session_socket *socket, const char *peer,
    const struct dialect *dialect, struct session_user *user, const char *answer, const void *input,
    size_t input_len);
/* For refuse = awx: sends answer and farewell (a text message), then closes. */
void session_refuse(
    const struct session_socket *socket, const char *peer, const char *answer, const char *farewell);

/* For dialects. */
void session_send_text(struct session *session, const char *text, size_t len);
void session_set_patterns(struct session *session, const struct topic *patterns, size_t count);
/* While paused nothing is read from the client; messages already read still come. */
void session_pause(struct session *session, bool paused);
int64_t session_user_id(const struct session *session);
const struct credential *session_credential(const struct session *session);
/* Names the session in the log. */
const char *session_subject(const struct session *session);

/* Starts the closing handshake, behind what is queued. */
void session_close(struct session *session, enum ws_close_code code, const char *reason);

/* The tokens or grants of this user have changed: each of its sessions is asked about again. */
void session_access_changed(int64_t user_id);
/* Such news may have been missed: all sessions are asked about again, spread over a second. */
void session_access_unknown(void);

/* All sessions. */
size_t session_count(void);
void session_close_all(enum ws_close_code code, const char *reason);
/* Ends what is left at once. */
void session_abort_all(void);
void session_init(void);
void session_free_all(void);

#endif
