/*
 * Lists of connections: what is asked for. Filters are kept as they are compared: an address as the range of
 * octets that its text stands for, a time as microseconds.
 */
#include "config.h"
#include "client/connection_query.h"
#include "client/connection.h"
#include "core/mem.h"
#include "core/rfc3339.h"
#include "http/http_request.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CONNECTION_SORT_MAX 4

enum field { FIELD_ADDRESS, FIELD_TYPE, FIELD_PRINCIPAL, FIELD_CREATED, FIELD_COUNT };
enum relation { REL_EQ, REL_NE, REL_LT, REL_LTE, REL_GT, REL_GTE, REL_BETWEEN, REL_EXCEPT, REL_COUNT };

static const char *const field_names[FIELD_COUNT] = {"RemoteAddr", "Type", "Principal", "CreateTime"};
static const char *const relation_names[REL_COUNT] = {
    "Eq", "Ne", "Lt", "Lte", "Gt", "Gte", "Between", "Except"};
/* They say who asks, or how an object is to be shown. */
static const char *const passed_over[] = {"token", "Token", "slim", "params", "decode"};

struct value {
	char *text;
	struct endpoint low, high;
	int64_t us;
};

struct filter {
	enum field field;
	enum relation relation;
	struct value values[2]; /* the second one of a range */
};

struct connection_query {
	struct filter *filters;
	size_t filter_count;
	enum field sort[CONNECTION_SORT_MAX];
	size_t sort_count;
	bool reverse;
	size_t offset, limit;
	bool all;    /* may be seen */
	char **keys; /* or these, written; sorted when they are first asked for */
	size_t key_count, key_size;
	bool keys_sorted;
};

/* ---- times ---- */

static int
time_number(const char *text, int digits)
{
	int n = 0;

	for (int i = 0; i < digits; i++)
		n = n * 10 + text[i] - '0';
	return n;
}

/* Digits behind the sixth are dropped. */
static int64_t
time_fraction(const char **text)
{
	int64_t us = 0, digit = 100000;

	if (**text != '.')
		return 0;
	for (++*text; isdigit((unsigned char)**text); ++*text, digit /= 10)
		us += (**text - '0') * digit;
	return us;
}

/* RFC 3339; a plus that was not encoded in a URL has become a space. */
static bool
time_parse(char *text, int64_t *us)
{
	const char *zone = text + strlen("2026-11-22T10:00:00");
	int64_t fraction, offset_s = 0;
	struct tm tm = {0};

	text[strcspn(text, " ")] = strchr(text, ' ') != NULL ? '+' : '\0';
	if (!rfc3339_is_valid((struct slice){text, strlen(text)}))
		return false;
	tm.tm_year = time_number(text, 4) - 1900;
	tm.tm_mon = time_number(text + 5, 2) - 1;
	tm.tm_mday = time_number(text + 8, 2);
	tm.tm_hour = time_number(text + 11, 2);
	tm.tm_min = time_number(text + 14, 2);
	tm.tm_sec = time_number(text + 17, 2);
	fraction = time_fraction(&zone);
	if (*zone != 'Z')
		offset_s =
		    (time_number(zone + 1, 2) * 60 + time_number(zone + 4, 2)) * (*zone == '-' ? -60 : 60);
	*us = ((int64_t)timegm(&tm) - offset_s) * 1000000 + fraction;
	return true;
}

/* ---- filters ---- */

/* Takes text over; false: it is none of this field. */
static bool
value_set(struct value *v, enum field field, char *text)
{
	v->text = text;
	if (field == FIELD_ADDRESS)
		return endpoint_parse(text, &v->low, &v->high);
	return field != FIELD_CREATED || time_parse(text, &v->us);
}

static int
value_compare(const struct connection *c, enum field field, const struct value *v)
{
	switch (field) {
	case FIELD_ADDRESS:
		return endpoint_compare(&c->where, &v->low) < 0    ? -1
		       : endpoint_compare(&c->where, &v->high) > 0 ? 1
								   : 0;
	case FIELD_TYPE:
		return strcmp(connection_type(c), v->text);
	case FIELD_PRINCIPAL:
		return strcmp(c->principal, v->text);
	case FIELD_CREATED:
		return (c->created_us > v->us) - (c->created_us < v->us);
	default:
		abort();
	}
}

static bool
filter_matches(const struct filter *f, const struct connection *c)
{
	int first = value_compare(c, f->field, &f->values[0]);

	switch (f->relation) {
	case REL_EQ:
		return first == 0;
	case REL_NE:
		return first != 0;
	case REL_LT:
		return first < 0;
	case REL_LTE:
		return first <= 0;
	case REL_GT:
		return first > 0;
	case REL_GTE:
		return first >= 0;
	case REL_BETWEEN:
		return first >= 0 && value_compare(c, f->field, &f->values[1]) <= 0;
	case REL_EXCEPT:
		return first < 0 || value_compare(c, f->field, &f->values[1]) > 0;
	default:
		abort();
	}
}

static struct filter *
query_add_filter(struct connection_query *q, enum field field, enum relation relation)
{
	struct filter *f;

	q->filters = mem_resize(q->filters, (q->filter_count + 1) * sizeof(*f));
	f = &q->filters[q->filter_count++];
	memset(f, 0, sizeof(*f));
	f->field = field;
	f->relation = relation;
	return f;
}

static bool
relation_takes_two(enum relation relation)
{
	return relation == REL_BETWEEN || relation == REL_EXCEPT;
}

static bool
query_find_name(const char *const *names, size_t count, const char *text, size_t len, size_t *out)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(names[i]) == len && strncmp(names[i], text, len) == 0) {
			*out = i;
			return true;
		}
	return false;
}

/* VALUE, or WORD(VALUE): how long the word is; 0: there is none. */
static size_t
query_word_length(const char *text)
{
	size_t len = 0, all = strlen(text);

	while (isalpha((unsigned char)text[len]))
		len++;
	return len > 0 && text[len] == '(' && text[all - 1] == ')' ? len : 0;
}

static bool
query_set_values(struct filter *f, const char *text, size_t len, char **error)
{
	struct slice rest = {text, len}, first = rest;
	bool two = relation_takes_two(f->relation), right;

	if (two && (!slice_cut(&rest, ',', &first) || memchr(rest.ptr, ',', rest.len) != NULL)) {
		*error = mem_printf("invalid filter of %s: %s takes two values with a comma between them",
		    field_names[f->field], relation_names[f->relation]);
		return false;
	}
	right = value_set(&f->values[0], f->field, mem_strndup(first.ptr, first.len));
	if (two)
		right = value_set(&f->values[1], f->field, mem_strndup(rest.ptr, rest.len)) && right;
	if (!right)
		*error = mem_printf("invalid value of %s: \"%.*s\"; %s is wanted", field_names[f->field],
		    (int)len, text,
		    f->field == FIELD_ADDRESS ? "an address, or address and port, such as 192.0.2.7:50312 or "
						"[2001:db8::7]:50312"
					      : "a time such as 2026-11-22T10:00:00Z");
	return right;
}

static bool
query_take_filter(struct connection_query *q, enum field field, const char *text, char **error)
{
	size_t word = query_word_length(text), relation = REL_EQ, len = strlen(text);

	if (word > 0) {
		if (!query_find_name(relation_names, REL_COUNT, text, word, &relation)) {
			*error =
			    mem_printf("unknown relation \"%.*s\" in the filter of %s; there are Eq, Ne, Lt, "
				       "Lte, Gt, Gte, Between and Except",
				(int)word, text, field_names[field]);
			return false;
		}
		text += word + 1;
		len -= word + 2;
	}
	return query_set_values(query_add_filter(q, field, (enum relation)relation), text, len, error);
}

/* ---- parameters ---- */

static bool
query_take_count(size_t *out, const char *name, const char *text, char **error)
{
	struct slice s = {text, strlen(text)};
	int64_t n;

	if (!slice_to_int64(s, &n)) {
		*error = mem_printf("invalid %s: \"%s\"; a number of connections is wanted", name, text);
		return false;
	}
	*out = n < CONNECTION_LIST_MAX ? (size_t)n : CONNECTION_LIST_MAX;
	return true;
}

static bool
query_take_offset(struct connection_query *q, const char *text, char **error)
{
	if (!query_take_count(&q->offset, "offset", text, error))
		return false;
	if (q->offset < CONNECTION_LIST_MAX)
		return true;
	*error =
	    mem_printf("invalid offset: \"%s\"; a list has at most %d connections: filters make it shorter",
		text, CONNECTION_LIST_MAX);
	return false;
}

static bool
query_take_sort(struct connection_query *q, const char *text, char **error)
{
	struct slice rest = {text, strlen(text)}, name;
	size_t field;

	while (rest.len > 0) {
		if (!slice_cut(&rest, ',', &name)) {
			name = rest;
			rest.len = 0;
		}
		if (!query_find_name(field_names, FIELD_COUNT, name.ptr, name.len, &field)) {
			*error =
			    mem_printf("cannot sort by \"%.*s\"; there are RemoteAddr, Type, Principal and "
				       "CreateTime",
				(int)name.len, name.ptr);
			return false;
		}
		if (q->sort_count < CONNECTION_SORT_MAX) /* further ones can decide nothing more */
			q->sort[q->sort_count++] = (enum field)field;
	}
	return true;
}

static bool
query_take_reverse(struct connection_query *q, const char *text, char **error)
{
	q->reverse = *text == '\0' || strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0;
	if (q->reverse || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0)
		return true;
	*error = mem_printf("invalid reverse: \"%s\"; true or false is wanted", text);
	return false;
}

static bool
query_take(struct connection_query *q, const char *name, const char *value, char **error)
{
	size_t n;

	if (query_find_name(field_names, FIELD_COUNT, name, strlen(name), &n))
		return query_take_filter(q, (enum field)n, value, error);
	if (strcmp(name, "limit") == 0)
		return query_take_count(&q->limit, name, value, error);
	if (strcmp(name, "offset") == 0)
		return query_take_offset(q, value, error);
	if (strcmp(name, "sort") == 0)
		return query_take_sort(q, value, error);
	if (strcmp(name, "reverse") == 0)
		return query_take_reverse(q, value, error);
	if (query_find_name(passed_over, ARRAY_LENGTH(passed_over), name, strlen(name), &n))
		return true;
	*error =
	    mem_printf("unknown filter \"%s\"; there are RemoteAddr, Type, Principal, CreateTime, limit, "
		       "offset, sort and reverse",
		name);
	return false;
}

struct connection_query *
connection_query_parse(const char *query, char **error)
{
	struct connection_query *q = mem_zalloc(sizeof(*q));
	bool right = true;
	char *name, *value;

	q->limit = CONNECTION_LIST_MAX;
	while (right && http_query_next(&query, &name, &value)) {
		right = query_take(q, name, value, error);
		free(name);
		free(value);
	}
	if (right)
		return q;
	connection_query_free(q);
	return NULL;
}

void
connection_query_free(struct connection_query *q)
{
	for (size_t i = 0; i < q->filter_count; i++)
		for (size_t k = 0; k < ARRAY_LENGTH(q->filters[i].values); k++)
			free(q->filters[i].values[k].text);
	for (size_t i = 0; i < q->key_count; i++)
		free(q->keys[i]);
	free(q->filters);
	free(q->keys);
	free(q);
}

void
connection_query_want_principal(struct connection_query *q, const char *principal)
{
	struct filter *f = query_add_filter(q, FIELD_PRINCIPAL, REL_EQ);

	(void)value_set(&f->values[0], FIELD_PRINCIPAL, mem_strdup(principal));
}

bool
connection_query_want_address(struct connection_query *q, const char *address)
{
	struct filter *f = query_add_filter(q, FIELD_ADDRESS, REL_EQ);

	return value_set(&f->values[0], FIELD_ADDRESS, mem_strdup(address)) &&
	       endpoint_compare(&f->values[0].low, &f->values[0].high) == 0;
}

/* ---- who may be seen ---- */

void
connection_query_allow(struct connection_query *q, struct slice key)
{
	char *text = mem_strndup(key.ptr, key.len);

	if (topic_is_wildcard(key) || !connection_is_printable(text)) {
		q->all |= topic_is_wildcard(key);
		free(text);
		return;
	}
	if (q->key_count == q->key_size) {
		q->key_size = q->key_size * 2 + 8;
		q->keys = mem_resize(q->keys, q->key_size * sizeof(*q->keys));
	}
	q->keys[q->key_count++] = text;
	q->keys_sorted = false;
}

static int
query_compare_keys(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
query_allows(struct connection_query *q, const char *principal)
{
	char written[3 * CONNECTION_PRINCIPAL_SIZE], *key = written;

	if (q->all || q->key_count == 0)
		return q->all;
	if (!q->keys_sorted)
		qsort(q->keys, q->key_count, sizeof(*q->keys), query_compare_keys);
	q->keys_sorted = true;
	written[topic_encode_key(principal, strlen(principal), written)] = '\0';
	return bsearch(&key, q->keys, q->key_count, sizeof(*q->keys), query_compare_keys) != NULL;
}

/* ---- asking it ---- */

bool
connection_query_matches(struct connection_query *q, const struct connection *c)
{
	for (size_t i = 0; i < q->filter_count; i++)
		if (!filter_matches(&q->filters[i], c))
			return false;
	return query_allows(q, c->principal);
}

static int
query_compare_field(enum field field, const struct connection *a, const struct connection *b)
{
	switch (field) {
	case FIELD_ADDRESS:
		return endpoint_compare(&a->where, &b->where);
	case FIELD_TYPE:
		return strcmp(connection_type(a), connection_type(b));
	case FIELD_PRINCIPAL:
		return strcmp(a->principal, b->principal);
	case FIELD_CREATED:
		return (a->created_us > b->created_us) - (a->created_us < b->created_us);
	default:
		abort();
	}
}

static int
query_compare_all(const struct connection_query *q, const struct connection *a, const struct connection *b)
{
	int order = 0;

	for (size_t i = 0; order == 0 && i < q->sort_count; i++)
		order = query_compare_field(q->sort[i], a, b);
	if (order == 0)
		order = endpoint_compare(&a->where, &b->where);
	if (order == 0)
		order = strcmp(a->node, b->node);
	if (order == 0)
		order = (a->number > b->number) - (a->number < b->number);
	return q->reverse ? -order : order;
}

static const struct connection_query *query_in_force;

static int
query_compare(const void *a, const void *b)
{
	return query_compare_all(
	    query_in_force, *(struct connection *const *)a, *(struct connection *const *)b);
}

void
connection_query_sort(const struct connection_query *q, struct connection **list, size_t count)
{
	query_in_force = q;
	if (count > 0)
		qsort(list, count, sizeof(struct connection *), query_compare);
}

size_t
connection_query_offset(const struct connection_query *q)
{
	return q->offset;
}

size_t
connection_query_limit(const struct connection_query *q)
{
	return q->limit < CONNECTION_LIST_MAX - q->offset ? q->limit : CONNECTION_LIST_MAX - q->offset;
}

/* ---- for other nodes ---- */

static void
query_print_encoded(FILE *out, const char *text)
{
	for (const char *p = text; *p != '\0'; p++) {
		if (isalnum((unsigned char)*p))
			putc(*p, out);
		else
			fprintf(out, "%%%02X", (unsigned char)*p);
	}
}

static void
query_print_filter(FILE *out, const struct filter *f)
{
	fprintf(out, "&%s=%s(", field_names[f->field], relation_names[f->relation]);
	query_print_encoded(out, f->values[0].text);
	if (relation_takes_two(f->relation)) {
		putc(',', out);
		query_print_encoded(out, f->values[1].text);
	}
	putc(')', out);
}

char *
connection_query_format(const struct connection_query *q)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		abort();
	fprintf(out, "limit=%zu", q->offset + connection_query_limit(q));
	for (size_t i = 0; i < q->filter_count; i++)
		query_print_filter(out, &q->filters[i]);
	for (size_t i = 0; i < q->sort_count; i++)
		fprintf(out, "&sort=%s", field_names[q->sort[i]]);
	if (q->reverse)
		fputs("&reverse=true", out);
	putc(' ', out);
	for (size_t i = 0; !q->all && i < q->key_count; i++)
		fprintf(out, "%s%s", i > 0 ? "," : "", q->keys[i]);
	if (q->all)
		putc('*', out);
	fclose(out);
	return text;
}

struct connection_query *
connection_query_read(struct slice text)
{
	struct slice head, key;
	struct connection_query *q;
	char *query, *error = NULL;

	if (!slice_cut(&text, ' ', &head))
		return NULL;
	query = mem_strndup(head.ptr, head.len);
	q = connection_query_parse(query, &error);
	free(query);
	free(error);
	while (q != NULL && text.len > 0) {
		if (!slice_cut(&text, ',', &key)) {
			key = text;
			text.len = 0;
		}
		connection_query_allow(q, key);
	}
	return q;
}
