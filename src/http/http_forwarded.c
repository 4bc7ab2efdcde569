/* Elements are addresses: 192.0.2.7, 192.0.2.7:4711, ::1, [::1] or [::1]:4711. An empty one counts for nothing. */
#include "config.h"
#include "http/http_forwarded.h"
#include "core/netset.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include <event2/keyvalq_struct.h> /* makes do without sys/queue.h */

#define FORWARDED_SIZE 64 /* more than an element with an address can have */

/* Of a port, the digits; nothing is done with them. */
static bool
forwarded_is_port(const char *text)
{
	return *text == '\0' || (*text == ':' && text[1 + strspn(text + 1, "0123456789")] == '\0');
}

/* Cuts brackets and port off. */
static bool
forwarded_parse_text(char *text, struct in6_addr *address)
{
	char *colon = strchr(text, ':'), *bracket;

	if (*text == '[') {
		bracket = strchr(text, ']');
		if (bracket == NULL || !forwarded_is_port(bracket + 1))
			return false;
		*bracket = '\0';
		return strchr(text, ':') != NULL && netset_parse_address(text + 1, address);
	}
	if (colon != NULL && strchr(colon + 1, ':') == NULL) {
		if (!forwarded_is_port(colon))
			return false;
		*colon = '\0';
	}
	return netset_parse_address(text, address);
}

static bool
forwarded_parse(const char *element, size_t len, struct in6_addr *address)
{
	char text[FORWARDED_SIZE];

	if (len >= sizeof(text))
		return false;
	memcpy(text, element, len);
	text[len] = '\0';
	return forwarded_parse_text(text, address);
}

static bool
forwarded_is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* The last element of a list of *len octets, which is shortened by it. */
static const char *
forwarded_cut_last(const char *list, size_t *len, size_t *element_len)
{
	const char *comma = memrchr(list, ',', *len), *element = comma != NULL ? comma + 1 : list,
		   *end = list + *len;

	*len = comma != NULL ? (size_t)(comma - list) : 0;
	while (element < end && forwarded_is_space(*element))
		element++;
	while (end > element && forwarded_is_space(end[-1]))
		end--;
	*element_len = (size_t)(end - element);
	return element;
}

/* False: what stands before does not count. */
static bool
forwarded_read(const char *list, const struct netset *trusted, struct in6_addr *address)
{
	size_t len = strlen(list), element_len;

	while (len > 0) {
		const char *element = forwarded_cut_last(list, &len, &element_len);

		if (element_len > 0 &&
		    (!forwarded_parse(element, element_len, address) || !netset_has(trusted, address)))
			return false;
	}
	return true;
}

void
forwarded_find(const struct evkeyvalq *headers, const struct netset *trusted, struct in6_addr *address)
{
	const struct evkeyval *h;

	TAILQ_FOREACH_REVERSE(h, headers, evkeyvalq, next)
	if (strcasecmp(h->key, "X-Forwarded-For") == 0 && !forwarded_read(h->value, trusted, address))
		return;
}
