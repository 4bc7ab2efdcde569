/* Sets of event ids: src/relay/idset.c, against an array with a place for each id. */
#include "config.h"
#include "core/mem.h"
#include "relay/idset.h"

#include "tap.h"

#include <inttypes.h>

#define IDS 300 /* the model's: 1..IDS */

/* The ranges as "FIRST-LAST ..."; the caller releases it. */
static char *
set_text(const struct idset *set)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (size_t i = 0; i < set->count; i++)
		fprintf(out, "%s%" PRId64 "-%" PRId64, i > 0 ? " " : "", set->ranges[i].first,
		    set->ranges[i].last);
	fclose(out);
	return text;
}

static bool
set_is(const struct idset *set, const char *want)
{
	char *text = set_text(set);
	bool same = strcmp(text, want) == 0;

	if (!same)
		diag("got %s, wanted %s", text, want);
	free(text);
	return same;
}

/* ---- each way in which a range meets those that are there ---- */

static const struct add_row {
	const char *name;
	struct idset_range ranges[4]; /* up to one that begins with 0 */
	const char *want;
} add_rows[] = {
    {"one id", {{5, 5}}, "5-5"},
    {"a range", {{5, 9}}, "5-9"},
    {"the same again", {{5, 9}, {5, 9}}, "5-9"},
    {"one behind, apart", {{5, 5}, {7, 7}}, "5-5 7-7"},
    {"one behind, touching", {{5, 5}, {6, 6}}, "5-6"},
    {"one before, apart", {{5, 5}, {3, 3}}, "3-3 5-5"},
    {"one before, touching", {{5, 5}, {4, 4}}, "4-5"},
    {"one inside", {{5, 9}, {7, 7}}, "5-9"},
    {"one at its first", {{5, 9}, {5, 5}}, "5-9"},
    {"one at its last", {{5, 9}, {9, 9}}, "5-9"},
    {"one that fills a hole", {{5, 5}, {7, 7}, {6, 6}}, "5-7"},
    {"a range over another's first", {{5, 9}, {3, 6}}, "3-9"},
    {"a range over another's last", {{5, 9}, {8, 12}}, "5-12"},
    {"a range around another", {{5, 9}, {2, 20}}, "2-20"},
    {"a range from its first on", {{5, 9}, {5, 20}}, "5-20"},
    {"a range up to its last", {{5, 9}, {1, 9}}, "1-9"},
    {"a range around several", {{5, 9}, {11, 12}, {14, 14}, {4, 15}}, "4-15"},
    {"a range from one into the next", {{5, 9}, {12, 20}, {9, 12}}, "5-20"},
    {"a range between two, touching both", {{5, 9}, {12, 20}, {10, 11}}, "5-20"},
    {"a range between two, touching the first", {{5, 9}, {13, 20}, {10, 11}}, "5-11 13-20"},
    {"a range between two, touching the second", {{5, 9}, {13, 20}, {11, 12}}, "5-9 11-20"},
    {"a range over the first of three", {{2, 3}, {6, 7}, {10, 11}, {1, 4}}, "1-4 6-7 10-11"},
    {"a range over the second of three", {{2, 3}, {6, 7}, {10, 11}, {5, 8}}, "2-3 5-8 10-11"},
    {"a range over two of three", {{2, 3}, {6, 7}, {10, 11}, {3, 6}}, "2-7 10-11"},
    {"the smallest id", {{2, 2}, {1, 1}}, "1-2"},
    {"the largest id", {{INT64_MAX - 2, INT64_MAX - 2}, {INT64_MAX - 1, INT64_MAX - 1}, {1, 1}},
	"1-1 9223372036854775805-9223372036854775806"},
    {"all ids", {{7, 8}, {1, INT64_MAX - 1}}, "1-9223372036854775806"},
};

static void
test_adding(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(add_rows); i++) {
		const struct add_row *row = &add_rows[i];
		struct idset set = {0};

		for (size_t n = 0; n < ARRAY_LENGTH(row->ranges) && row->ranges[n].first > 0; n++)
			idset_add(&set, row->ranges[n].first, row->ranges[n].last);
		ok(set_is(&set, row->want), "%s: %s", row->name, row->want);
		idset_clear(&set);
	}
}

/* ---- sets as a whole ---- */

static void
test_sets(void)
{
	struct idset a = {0}, b = {0};
	const struct idset_range *ranges;

	ok(!idset_has(&a, 1) && !idset_has(&a, INT64_MAX - 1), "a zeroed set has nothing");
	idset_add_set(&a, &b);
	idset_copy(&a, &b);
	ok(set_is(&a, ""), "nothing and nothing is nothing");
	idset_add(&a, 10, 20);
	idset_add(&a, 30, 40);
	idset_copy(&b, &a);
	ok(set_is(&b, "10-20 30-40"), "a copy has the same");
	idset_add(&b, 21, 29);
	ok(set_is(&a, "10-20 30-40") && set_is(&b, "10-40"), "and goes its own way");
	idset_add(&b, 50, 50);
	idset_add_set(&a, &b);
	ok(set_is(&a, "10-40 50-50"), "a set takes another one in");
	ok(set_is(&b, "10-40 50-50"), "which stays");
	ranges = a.ranges;
	idset_reset(&a);
	ok(set_is(&a, "") && !idset_has(&a, 15), "a reset set is empty");
	idset_add(&a, 7, 7);
	ok(a.ranges == ranges && set_is(&a, "7-7"), "and takes ids into the memory that it had");
	idset_copy(&b, &a);
	ok(set_is(&b, "7-7"), "a copy replaces what was there");
	idset_clear(&a);
	ok(a.ranges == NULL && a.count == 0 && a.capacity == 0, "a cleared set is zeroed");
	idset_clear(&a);
	idset_copy(&b, &a);
	ok(set_is(&b, ""), "a copy of nothing is nothing");
	idset_clear(&b);
}

/* Mostly one behind the other, as they are heard. */
static void
test_sequence(void)
{
	struct idset set = {0};
	bool right = true;

	for (int64_t id = 1; id <= 100000; id++)
		if (id % 1000 != 0)
			idset_add(&set, id, id);
	is_int((long long)set.count, 100, "a hundred thousand ids with a hundred holes are a hundred ranges");
	for (int64_t id = 1; id <= 100001; id++)
		right = right && idset_has(&set, id) == (id <= 100000 && id % 1000 != 0);
	ok(right, "which have just these ids");
	for (int64_t id = 1000; id <= 100000; id += 1000)
		idset_add(&set, id, id);
	ok(set_is(&set, "1-100000"), "with the holes filled it is one range");
	idset_clear(&set);
}

/* ---- random ranges against the model ---- */

struct model {
	bool has[IDS + 2];
};

static void
model_add(struct model *m, int64_t first, int64_t last)
{
	for (int64_t id = first; id <= last; id++)
		m->has[id] = true;
}

static bool
set_is_well_formed(const struct idset *set)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->ranges[i].first < 1 || set->ranges[i].last < set->ranges[i].first ||
		    (i > 0 && set->ranges[i].first <= set->ranges[i - 1].last + 1))
			return false;
	return set->count <= set->capacity;
}

static bool
set_is_model(const struct idset *set, const struct model *m)
{
	size_t runs = 0;
	bool right = set_is_well_formed(set);

	for (int64_t id = 1; id <= IDS + 1; id++) {
		right = right && idset_has(set, id) == m->has[id];
		runs += m->has[id] && !m->has[id - 1];
	}
	return right && set->count == runs;
}

/* What is added in one round: single ids, short ranges or long ones. */
static void
random_add(struct tap_random *random, struct idset *set, struct model *m, uint32_t longest)
{
	int64_t first = 1 + tap_random(random, IDS), last = first + tap_random(random, longest);

	if (last > IDS)
		last = IDS;
	idset_add(set, first, last);
	model_add(m, first, last);
}

static void
test_random(void)
{
	static const uint32_t longest[] = {1, 3, 40};
	struct tap_random random = {8086};
	struct idset sets[2] = {{0}};
	struct model models[2];
	bool right = true;

	diag("seed 8086");
	for (int round = 0; round < 300 && right; round++) {
		memset(models, 0, sizeof(models));
		for (int i = 0; i < 2; i++) {
			idset_reset(&sets[i]);
			for (int n = 0; n < 60 && right; n++) {
				random_add(&random, &sets[i], &models[i], longest[round % 3]);
				right = set_is_model(&sets[i], &models[i]);
			}
		}
		idset_add_set(&sets[0], &sets[1]);
		for (int64_t id = 1; id <= IDS; id++)
			models[0].has[id] = models[0].has[id] || models[1].has[id];
		right = right && set_is_model(&sets[0], &models[0]) && set_is_model(&sets[1], &models[1]);
		if (!right)
			diag("round %d", round);
	}
	ok(right,
	    "36000 random ranges: each set has what was added and nothing else, in as few ranges as can be");
	idset_clear(&sets[0]);
	idset_clear(&sets[1]);
}

int
main(void)
{
	test_adding();
	test_sets();
	test_sequence();
	test_random();
	return tap_end();
}
