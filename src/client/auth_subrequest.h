/*
 * Asking the web application behind auth_url whose a browser's cookies are (docs/protocol.md, section 4.2).
 */
#ifndef PGRELAY_CLIENT_AUTH_SUBREQUEST_H
#define PGRELAY_CLIENT_AUTH_SUBREQUEST_H

#include "client/auth.h"

struct auth_subrequest;

/* name is the user's, valid during the call; NULL unless accepted. */
typedef void (*auth_subrequest_done)(void *arg, enum auth_verdict verdict, const char *name);

void auth_subrequest_init(void);
/* None is under way any more. */
void auth_subrequest_free(void);

/* The credential, of CREDENTIAL_APPLICATION, stays the caller's, and there until done is called: once, never from
 * inside, unless the request is cancelled before; then the request is gone. */
struct auth_subrequest *auth_subrequest_ask(
    const struct credential *credential, auth_subrequest_done done, void *arg);
void auth_subrequest_cancel(struct auth_subrequest *request);

#endif
