/*
 * An event as Digital Rebar's clients post it (docs/drp.md, sections 3 and 5), made into the body of a publishing
 * request (docs/cluster.md, section 5), whose payload is the envelope of what was posted.
 */
#ifndef PGRELAY_CLIENT_DRP_POST_H
#define PGRELAY_CLIENT_DRP_POST_H

#include <stddef.h>

#include "core/json_scan.h"

/*
 * text is one event, len octets, which need not end with a NUL; its Object and Original go into the body as they
 * are written. The event's principal is this one, whatever it says itself. Returns the body, body_len octets, for
 * publish_body_check(), which judges type, action and key; the caller releases it with free(). NULL: error says
 * what is wrong.
 */
char *drp_post_convert(
    const char *text, size_t len, const char *principal, size_t *body_len, char error[JSON_SCAN_ERROR]);

#endif
