/*
 * What a client of the Digital Rebar dialect has registered: the patterns as they came, packed into one block
 * of memory, for there may be very many of them on a node.
 */
#ifndef PGRELAY_CLIENT_DRP_REGISTRATIONS_H
#define PGRELAY_CLIENT_DRP_REGISTRATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

#define DRP_REGISTRATION_MAX  UINT16_MAX   /* octets of one */
#define DRP_REGISTRATIONS_MAX (256 * 1024) /* of all that a client has */

struct drp_registrations {
	char *block;
	size_t used;     /* octets */
	size_t patterns; /* that all of them stand for */
	size_t allowed;  /* rights that all of them have */
};

struct drp_registration {
	struct slice text; /* valid until they change */
	uint16_t patterns; /* that it stands for */
	uint32_t seen;     /* a digest of what of them the user may see; 0: nothing */
	uint32_t allowed;  /* rights that this is, those that others cover as well */
};

void drp_registrations_clear(struct drp_registrations *r);
/* The next one from *at on, which begins with 0 and is moved behind it; false: there are no more. */
bool drp_registrations_next(const struct drp_registrations *r, size_t *at, struct drp_registration *one);
bool drp_registrations_has(const struct drp_registrations *r, struct slice text);
/* text has at most DRP_REGISTRATION_MAX octets. */
void drp_registrations_add(struct drp_registrations *r, const struct drp_registration *one);
/* False: there was none. */
bool drp_registrations_remove(struct drp_registrations *r, struct slice text);
/* Changes `seen` and `allowed` of one that drp_registrations_next() has given. */
void drp_registrations_see(
    struct drp_registrations *r, const struct drp_registration *one, uint32_t seen, uint32_t allowed);

#endif
