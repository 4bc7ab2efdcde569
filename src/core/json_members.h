/*
 * The members of an object in text that is known to be JSON (what jsonb has written, or json_scan.h has
 * passed), one after the other. Nothing is built, copied or checked: names and values are slices of the text, as
 * it is written. Of text that is no JSON some nonsense comes out, but nothing outside of it is read.
 *
 *	struct json_members m = json_members_of(payload);
 *	struct slice name, value;
 *
 *	while (json_members_next(&m, &name, &value))
 *		if (slice_is(name, "object"))
 *			...
 */
#ifndef PGRELAY_CORE_JSON_MEMBERS_H
#define PGRELAY_CORE_JSON_MEMBERS_H

#include <stdbool.h>

#include "core/slice.h"

struct json_members {
	const char *p, *end;
};

/* Of an object, from its bracket on; white space may stand before it. What is no object has no members. */
struct json_members json_members_of(struct slice object);
/* False: there are no more. name is what lies between the quotes, escapes as they are; value is the whole value,
 * a string's quotes included, without white space around it. */
bool json_members_next(struct json_members *m, struct slice *name, struct slice *value);

/* Is the value a string? Then *text is what lies between its quotes, escapes as they are. */
bool json_value_is_string(struct slice value, struct slice *text);

#endif
