/*
 * One client's connection, from the answer to its HTTP request to the close: a WebSocket, or a stream of
 * server-sent events. The session owns the socket's traffic, the send queue, time-outs and the closing
 * handshake; what the messages mean is its dialect's business.
 */
#ifndef PGRELAY_CLIENT_SESSION_H
#define PGRELAY_CLIENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/credential.h"
#include "client/groups.h"
#include "core/transport.h"
#include "http/ws.h"
#include "relay/msg.h"

struct position;
struct session;

/* On a stream the dialect sends octets, and what the client sends is thrown away. */
/* Binary messages: the session is closed, or they are passed over, or taken. */
enum session_binary { SESSION_BINARY_REFUSED, SESSION_BINARY_IGNORED, SESSION_BINARY_TAKEN };

enum session_transport { SESSION_WEBSOCKET, SESSION_STREAM };

struct dialect {
	enum msg_form form;
	enum msg_form deflated_form; /* where permessage-deflate is taken; the first one: it never is */
	/* The session is open: greet. request is what session_open() was given. Returns the dialect's own
	 * state. */
	void *(*open)(struct session *session, void *request);
	/* A text message, or a binary one where those are taken; valid during the call. Of a WebSocket. */
	void (*message)(void *state, const char *text, size_t len);
	/* The user's rights have changed: what was allowed must be asked for again. Not for peers. */
	void (*access_changed)(void *state);
	/*
	 * The labels of the groups concerned, as groups_labels() gives them. NULL: it is told of no gaps, and
	 * who is too slow is closed.
	 */
	char *(*labels)(void *state, groups_concern concerns, const void *arg);
	/*
	 * What tells of a gap, made of these labels; NULL: as the AWX dialect has it. The caller releases it.
	 */
	char *(*gap)(const char *labels, const char *reason);
	/*
	 * Is it in the group of this label? Asked for messages that AWX's relays bring; NULL: its patterns
	 * alone tell.
	 */
	bool (*in_group)(void *state, const char *label);
	/* What was queued has all been handed to the socket: there is room for more. May be NULL. */
	void (*drained)(void *state);
	/* What session_resume() began is done: everything missed has been queued. May be NULL. */
	void (*resumed)(void *state);
	/* The session is ending: nothing can be sent any more; release state. */
	void (*close)(void *state);
	enum session_transport transport;
	bool drp; /* Digital Rebar's */
	enum session_binary binary;
	int64_t ping_interval_most_ms; /* pings come at least so often; 0: as the setting says */
	size_t max_message_bytes;      /* 0: as the setting of that name says */
};

/* A connection whose HTTP request has been answered by this session's first octets. */
struct session_socket {
	struct transport transport; /* its fd and ssl stay the carrier's */
	void *carrier;
	void (*carrier_free)(void *carrier); /* closes them */
	bool deflate;                        /* permessage-deflate has been agreed on */
};

/*
 * Who is at the other end. A peer (another node, or AWX's relay) has no id and no credential: its rights do not
 * change.
 */
#define SESSION_PEER_ID 0
struct session_user {
	int64_t id;
	const char *name;             /* copied */
	int64_t expires_ms;           /* from now until the credential must be looked at again; -1: never */
	struct credential credential; /* ownership passes; its token is wiped */
	bool changed;                 /* what is known of the user has been overtaken by a change of access */
};

/*
 * Opens a session: answer (the head of the response) goes out first, then the dialect's greeting. request,
 * for the dialect, tells what the client's HTTP request asked for; input is what the client has sent behind
 * it. peer is "ADDRESS:PORT".
 */
struct session *session_open(const struct session_socket *socket, const char *peer,
    const struct dialect *dialect, struct session_user *user, const char *answer, void *request,
    const void *input, size_t input_len);
/* For refuse = awx: sends answer and farewell (a text message), then closes. */
void session_refuse(
    const struct session_socket *socket, const char *peer, const char *answer, const char *farewell);

/* For dialects: a message of a WebSocket, or octets of a stream. */
void session_send_text(struct session *session, const char *text, size_t len);
void session_send_binary(struct session *session, const char *octets, size_t len);
void session_send_octets(struct session *session, const char *octets, size_t len);
void session_set_patterns(struct session *session, const struct topic *patterns, size_t count);
/* More of them, beside those that there are; only those that are to be kept. */
void session_add_patterns(struct session *session, const struct topic *patterns, size_t count);
void session_retain_patterns(
    struct session *session, bool (*keep)(void *arg, const struct topic *pattern), void *arg);
/* From now on the client gets cursors (docs/protocol.md, "Cursors"). */
void session_want_cursors(struct session *session);
/* The patterns are in force, but first the client gets what came behind this position, which is moved. */
void session_resume(struct session *session, struct position *position);
/* While paused nothing is read from the client; messages already read still come. */
void session_pause(struct session *session, bool paused);
int64_t session_user_id(const struct session *session);
/* Sessions are numbered as they are opened, from 1 on. */
uint64_t session_number(const struct session *session);
/* Octets that wait for the peer. */
size_t session_backlog(const struct session *session);
const struct credential *session_credential(const struct session *session);
/* Names the session in the log. */
const char *session_subject(const struct session *session);
const struct dialect *session_dialect(const struct session *session);

/* Of a client's: since 1970; and when its credential must be looked at again, 0: never. */
int64_t session_opened_us(const struct session *session);
int64_t session_expires_s(const struct session *session);
/* "ADDRESS:PORT" */
struct slice session_address(const struct session *session);
const char *session_user_name(const struct session *session);
/* The next open one of a client; NULL: the first. */
struct session *session_next_client(const struct session *session);

/* Starts the closing handshake, behind what is queued; a stream just ends there. */
void session_close(struct session *session, enum ws_close_code code, const char *reason);

/* Tells all sessions but those on their way back, who find it in the history, that messages are missing;
 * types, separated by spaces, narrows it down to groups of these. */
void session_gap_all(const char *reason, const char *types);
/* Is one of those that take what they get more than a little behind? Those on their way back do not count. */
bool session_any_congested(void);

/* The tokens or grants of this user have changed: each of its sessions is asked about again. */
void session_access_changed(int64_t user_id);
/* Such news may have been missed: all sessions are asked about again, spread over a second. */
void session_access_unknown(void);

/* Time-outs may be shorter now. */
void session_settings_changed(void);

/* All sessions. */
size_t session_count(void);
void session_close_all(enum ws_close_code code, const char *reason);
void session_init(void);
void session_free_all(void);

#endif
