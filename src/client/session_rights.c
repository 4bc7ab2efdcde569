/*
 * A session's rights: whether its user still is who it was, and when that is asked again.
 *
 * Invariant: an open session whose user is known by a credential is in its owner's list, and an owner has one
 * session at least. So news of a user cost nothing for the others.
 */
#include "config.h"
#include "client/auth.h"
#include "client/session_private.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/mem.h"
#include "core/rfc3339.h"

#include <stdlib.h>
#include <uthash.h>

#define SESSION_RECHECK_MS 1000

struct session_owner {
	UT_hash_handle hh;
	int64_t user_id;
	LIST_HEAD(, session) sessions;
};

static struct session_owner *session_owners;

/* ---- owners ---- */

static struct session_owner *
session_owner_find(int64_t user_id)
{
	struct session_owner *o;

	HASH_FIND(hh, session_owners, &user_id, sizeof(user_id), o);
	return o;
}

void
session_own(struct session *s)
{
	struct session_owner *o = session_owner_find(s->user_id);

	if (s->credential.kind == CREDENTIAL_NONE)
		return;
	if (o == NULL) {
		o = mem_zalloc(sizeof(*o));
		o->user_id = s->user_id;
		HASH_ADD(hh, session_owners, user_id, sizeof(o->user_id), o);
	}
	s->owner = o;
	LIST_INSERT_HEAD(&o->sessions, s, owned);
}

void
session_disown(struct session *s)
{
	struct session_owner *o = s->owner;

	if (o == NULL)
		return;
	LIST_REMOVE(s, owned);
	s->owner = NULL;
	if (!LIST_EMPTY(&o->sessions))
		return;
	HASH_DEL(session_owners, o);
	free(o);
}

/* ---- is it still good? ---- */

static void
session_recheck_at(struct session *s, int64_t ms)
{
	s->recheck_ms = ms;
	session_look_at(s, ms);
}

void
session_set_expiry(struct session *s, int64_t expires_ms)
{
	s->expires_ms = s->recheck_ms = expires_ms >= 0 ? loop_now_ms() + expires_ms + 1 : 0;
	if (s->recheck_ms != 0)
		session_look_at(s, s->recheck_ms);
	s->expires_s = expires_ms >= 0 ? (rfc3339_now_us() / 1000 + expires_ms + 500) / 1000 : 0;
}

static bool
session_has_expired(const struct session *s)
{
	return s->expires_ms != 0 && loop_now_ms() >= s->expires_ms;
}

/* Where the web application was not asked its answer is no younger than it was. */
static void
session_take_user(struct session *s, const struct auth_user *user)
{
	int64_t left_ms = s->expires_ms - loop_now_ms(), expires_ms = user->expires_ms;

	if (user->application_name != NULL)
		credential_set_name(&s->credential, user->application_name);
	else if (s->credential.kind == CREDENTIAL_APPLICATION && (expires_ms < 0 || expires_ms > left_ms))
		expires_ms = left_ms > 0 ? left_ms : 0;
	session_set_expiry(s, expires_ms);
}

/*
 * When it could not be asked the question stands: rights taken away must not outlive an outage. The sweep asks
 * it again.
 */
static void
session_on_recheck(void *arg, enum auth_verdict verdict, const struct auth_user *user)
{
	struct session *s = session_check(arg);

	s->recheck = NULL;
	if (verdict == AUTH_ACCEPTED && user->id == s->user_id)
		session_take_user(s, user);
	if (s->recheck_again) {
		session_recheck(s);
	} else if (verdict == AUTH_UNAVAILABLE) {
		session_recheck_at(s, loop_now_ms() + SESSION_RECHECK_MS + random() % SESSION_RECHECK_MS);
	} else if (verdict == AUTH_REFUSED || user->id != s->user_id) {
		session_close(s, WS_CLOSE_POLICY,
		    s->credential.kind == CREDENTIAL_PASSWORD      ? "the password is not valid any more"
		    : s->credential.kind == CREDENTIAL_APPLICATION ? "the login is not valid any more"
								   : "the token is not valid any more");
	} else {
		s->dialect->access_changed(s->dialect_state);
	}
}

/* One question at a time: however often rights change meanwhile, one more follows. */
void
session_recheck(struct session *s)
{
	s->recheck_again = s->recheck != NULL;
	s->recheck_ms = 0;
	if (s->recheck == NULL)
		s->recheck =
		    auth_authenticate_again(&s->credential, session_has_expired(s), session_on_recheck, s);
}

/* ---- news ---- */

void
session_access_changed(int64_t user_id)
{
	struct session_owner *o = session_owner_find(user_id);
	struct session *s;

	if (o == NULL)
		return;
	for (s = LIST_FIRST(&o->sessions); s != NULL; s = LIST_NEXT(s, owned))
		session_recheck(s);
}

void
session_access_unknown(void)
{
	struct session *s;

	TAILQ_FOREACH (s, &sessions.list, entry)
		if (s->owner != NULL)
			session_recheck_at(s, loop_now_ms() + random() % SESSION_RECHECK_MS);
}
