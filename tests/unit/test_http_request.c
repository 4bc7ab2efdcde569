/* Reading queries and headers: src/http/http_request.c. */
#include "config.h"
#include "http/http_request.h"
#include "core/mem.h"

#include "tap.h"

static const struct value_row {
	const char *query, *name, *value;
} value_rows[] = {
    {NULL, "token", NULL},
    {"", "token", NULL},
    {"token=x", "token", "x"},
    {"token=", "token", ""},
    {"token", "token", NULL},
    {"tokens=x", "token", NULL},
    {"xtoken=x", "token", NULL},
    {"a=1&token=x&b=2", "token", "x"},
    {"a=1&token=x", "a", "1"},
    {"token=x&token=y", "token", "x"},
    {"a=token=x", "token", NULL},
    {"a=token=x", "a", "token=x"},
    {"&&token=x&", "token", "x"},
    {"groups=a-1,b-2", "groups", "a-1,b-2"},
    {"groups=a-1%2Cb-2", "groups", "a-1,b-2"},
    {"groups=a-%c3%A4", "groups", "a-\xc3\xa4"},
    {"groups=a+b", "groups", "a b"},
    {"groups=100%", "groups", "100%"},
    {"groups=%zz", "groups", "%zz"},
    {"token=a%00b", "token", ""},
    {"token=%26%3D", "token", "&="},
};

static void
test_values(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(value_rows); i++) {
		const struct value_row *row = &value_rows[i];
		char *query = row->query != NULL ? tap_copy(row->query, strlen(row->query) + 1) : NULL;
		char *value = http_query_value(query, row->name);

		is_str(
		    value, row->value, "%s of \"%s\"", row->name, row->query != NULL ? row->query : "NULL");
		free(value);
		free(query);
	}
}

static const struct list_row {
	const char *list;
	bool has;
} list_rows[] = {
    {NULL, false},
    {"", false},
    {"upgrade", true},
    {"Upgrade", true},
    {"keep-alive, Upgrade", true},
    {"keep-alive,upgrade,x", true},
    {" \tupgrade\t", true},
    {"upgrades", false},
    {"up grade", false},
    {"keep-alive", false},
    {",,", false},
};

static void
test_lists(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(list_rows); i++)
		is_int(http_list_has(list_rows[i].list, "upgrade"), list_rows[i].has, "\"%s\" %s the word",
		    list_rows[i].list != NULL ? list_rows[i].list : "NULL",
		    list_rows[i].has ? "has" : "has not");
}

static const struct error_row {
	const char *line;
	long index;
	const char *json;
} error_rows[] = {
    {"no", -1, "{\"error\": \"no\"}"},
    {"no", 0, "{\"error\": \"no\", \"index\": 0}"},
    {"say \"no\"", 7, "{\"error\": \"say \\\"no\\\"\", \"index\": 7}"},
    {"\xc3\xa4", -1, "{\"error\": \"\xc3\xa4\"}"},
    {"\xc3", -1, "{\"error\": \"an error whose text is not UTF-8\"}"},
};

static void
test_errors(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(error_rows); i++) {
		char *json = http_error_json(error_rows[i].line, error_rows[i].index);

		is_str(json, error_rows[i].json, "the error %zu", i);
		free(json);
	}
}

int
main(void)
{
	test_values();
	test_lists();
	test_errors();
	return tap_end();
}
