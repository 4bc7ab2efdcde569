/* Settings from their four sources: src/core/conf.c. What it logs goes to standard error. */
#include "config.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/mem.h"

#include "tap.h"

#include <limits.h>
#include <unistd.h>

static char path[] = "/tmp/pgrelay-test-conf-XXXXXX";

static void
file_write(const char *text)
{
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
}

/* Loads such a file; the reason is NULL when it is good. The caller releases it. */
static char *
load(const char *text)
{
	char *error = NULL;
	bool good;

	file_write(text);
	good = conf_load(path, &error);
	if (good != (error == NULL))
		abort();
	return error;
}

static void
load_or_die(const char *text)
{
	char *error = load(text);

	if (error != NULL) {
		diag("%s", error);
		abort();
	}
}

static bool
reload(void)
{
	char *error = NULL;
	bool good = conf_reload(&error);

	free(error);
	return good;
}

static char *
printed(void (*print)(FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	print(out);
	fclose(out);
	return text;
}

/* The lines of a text in which what is found, one behind the other. The caller releases it. */
static char *
lines_with(const char *text, const char *what)
{
	char *lines = mem_strdup("");

	for (const char *p = text; *p != '\0';) {
		size_t len = strcspn(p, "\n");
		char *line = mem_strndup(p, len), *more;

		if (strstr(line, what) != NULL) {
			more = mem_printf("%s%s\n", lines, line);
			free(lines);
			lines = more;
		}
		free(line);
		p += len + (p[len] == '\n');
	}
	return lines;
}

/* ---- defaults ---- */

static void
test_defaults(void)
{
	load_or_die("");
	is_str(conf.database, "", "database");
	is_str(conf.channel, "pgrelay", "channel");
	is_str(conf.heartbeat_channel, "web_ws_heartbeat", "heartbeat_channel is AWX's");
	is_str(conf.authorize_function, "pgrelay.authorize", "authorize_function");
	is_str(conf.listen, "127.0.0.1:8052", "listen");
	is_int(conf.connect_timeout_ms, 10000, "connect_timeout is in milliseconds");
	is_int(conf.max_message_bytes, 1024 * 1024, "max_message_bytes is in octets");
	is_int(conf.queue_limit_bytes, 16 * 1024 * 1024, "queue_limit");
	is_int(conf.queue_age_ms, 60000, "queue_age");
	is_int(conf.queue_memory_bytes, 512 * 1024 * 1024, "queue_memory");
	is_int(conf.max_groups, 1000, "max_groups");
	is_int(conf.ping_interval_ms, 30000, "ping_interval");
	is_int(conf.reuse_port, false, "reuse_port");
	is_int(conf.refuse, CONF_REFUSE_HTTP, "refuse");
	is_int(conf.log_level, LOG_INFO, "log_level");
	ok(conf_is_option("max_groups") && conf_is_option("max-groups"), "a name with underscores or dashes");
	ok(!conf_is_option("max") && !conf_is_option("max_groups_") && !conf_is_option("") &&
		!conf_is_option("Max_groups"),
	    "what is no name");
}

/* ---- values ---- */

static const struct value_row {
	const char *line;
	int64_t *field;
	int64_t value; /* -1: refused */
	const char *reason;
} value_rows[] = {
    {"connect_timeout = 100ms", &conf.connect_timeout_ms, 100, NULL},
    {"connect_timeout = 1s", &conf.connect_timeout_ms, 1000, NULL},
    {"connect_timeout = 2min", &conf.connect_timeout_ms, 120000, NULL},
    {"connect_timeout = 1h", &conf.connect_timeout_ms, 3600000, NULL},
    {"connect_timeout = 10 s", &conf.connect_timeout_ms, 10000, NULL},
    {"connect_timeout = 0010s", &conf.connect_timeout_ms, 10000, NULL},
    {"connect_timeout = 10", NULL, -1,
	"\"10\" is not a valid value for connect_timeout: a number with its unit is wanted, ms, s, min, h or "
	"d, as in 10s"},
    {"connect_timeout = 10S", NULL, -1, "\"10S\" is not a valid value for connect_timeout"},
    {"connect_timeout = 10sec", NULL, -1, "\"10sec\" is not a valid value for connect_timeout"},
    {"connect_timeout = 1.5s", NULL, -1, "\"1.5s\" is not a valid value for connect_timeout"},
    {"connect_timeout = s", NULL, -1, "\"s\" is not a valid value for connect_timeout"},
    {"connect_timeout = ", NULL, -1, "\"\" is not a valid value for connect_timeout"},
    {"connect_timeout = 99ms", NULL, -1, "\"99ms\" is out of range for connect_timeout: from 100ms to 1h"},
    {"connect_timeout = 3600001ms", NULL, -1, "out of range"},
    {"connect_timeout = 1d", NULL, -1, "out of range"},
    {"connect_timeout = -1s", NULL, -1, "out of range"},
    {"connect_timeout = 106751991168d", NULL, -1, "out of range"},
    {"connect_timeout = -106751991168d", NULL, -1, "out of range"},
    {"connect_timeout = 9223372036854775807ms", NULL, -1, "out of range"},
    {"connect_timeout = 9223372036854775808ms", NULL, -1, "out of range"},
    {"connect_timeout = -9223372036854775809h", NULL, -1, "out of range"},
    {"shutdown_timeout = 0ms", &conf.shutdown_timeout_ms, 0, NULL},
    {"max_message_bytes = 512", &conf.max_message_bytes, 512, NULL},
    {"max_message_bytes = 512B", &conf.max_message_bytes, 512, NULL},
    {"max_message_bytes = 64kB", &conf.max_message_bytes, 65536, NULL},
    {"max_message_bytes = 1GB", &conf.max_message_bytes, 1073741824, NULL},
    {"max_message_bytes = 64KB", NULL, -1, "a number is wanted, with kB, MB or GB where it fits"},
    {"max_message_bytes = 511", NULL, -1, "\"511\" is out of range for max_message_bytes: from 512 to 1GB"},
    {"max_message_bytes = 2GB", NULL, -1, "out of range"},
    {"queue_limit = 64GB", &conf.queue_limit_bytes, INT64_C(68719476736), NULL},
    {"queue_limit = 65GB", NULL, -1, "out of range"},
    {"queue_age = 0s", &conf.queue_age_ms, 0, NULL},
    {"queue_age = 2d", NULL, -1, "out of range"},
    {"queue_memory = 1GB", &conf.queue_memory_bytes, INT64_C(1) << 30, NULL},
    {"queue_memory = 512kB", NULL, -1, "out of range"},
    {"max_groups = 1", &conf.max_groups, 1, NULL},
    {"max_groups = 1000000", &conf.max_groups, 1000000, NULL},
    {"max_groups = 0", NULL, -1, "\"0\" is out of range for max_groups: from 1 to 1000000"},
    {"max_groups = 1000001", NULL, -1, "out of range"},
    {"max_groups = 5kB", NULL, -1, "a whole number is wanted"},
    {"max_groups = 0x10", NULL, -1, "a whole number is wanted"},
    {"max_groups = 1 2", NULL, -1, "a whole number is wanted"},
    {"reuse_port = maybe", NULL, -1, "\"maybe\" is not a valid value for reuse_port: on or off is wanted"},
    {"trusted_proxies = '10.0.0.0/8, proxy1'", NULL, -1,
	"trusted_proxies: \"proxy1\" is neither an address nor"},
    {"refuse = politely", NULL, -1,
	"\"politely\" is not a valid value for refuse: one of http, awx is wanted"},
    {"channel = ''", NULL, -1, "channel must not be empty"},
    {"channel = 'a234567890123456789012345678901234567890123456789012345678901234'", NULL, -1,
	"the value of channel is longer than 63 octets"},
};

static void
test_values(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(value_rows); i++) {
		const struct value_row *row = &value_rows[i];
		char *error = load(row->line);

		if (row->reason == NULL)
			ok(error == NULL && *row->field == row->value, "%s", row->line);
		else if (!ok(error != NULL && strstr(error, row->reason) != NULL, "%s: refused", row->line))
			diag("%s", error != NULL ? error : "taken");
		free(error);
	}
}

static void
test_words(void)
{
	static const char *const on[] = {"on", "true", "yes", "1", "ON"}, *const off[] = {"off", "false",
									      "no", "0", "No"};
	bool right = true;

	for (size_t i = 0; i < ARRAY_LENGTH(on); i++) {
		char *line = mem_printf("reuse_port = %s", on[i]);

		load_or_die(line);
		right = right && conf.reuse_port;
		free(line);
		line = mem_printf("reuse_port = %s", off[i]);
		load_or_die(line);
		right = right && !conf.reuse_port;
		free(line);
	}
	ok(right, "on and off in all their words");
	load_or_die("refuse = AWX\nlog_level = 'warning'");
	is_int(conf.refuse, CONF_REFUSE_AWX, "a choice in any case");
	is_int(conf.log_level, LOG_WARNING, "a choice in quotes");
	ok(!log_enabled(LOG_INFO) && log_enabled(LOG_WARNING), "log_level takes effect");
}

/* ---- the file ---- */

static const struct file_row {
	const char *name, *text, *node; /* what `node` is then; NULL: refused */
} file_rows[] = {
    {"a plain value", "node = web1\n", "web1"},
    {"without spaces", "node=web1", "web1"},
    {"with many", "  \t node \t=\t web1 \t \n", "web1"},
    {"CR LF", "# x\r\nnode = web1\r\n\r\n", "web1"},
    {"a comment behind it", "node = web1 # the first", "web1"},
    {"a comment right behind it", "node = web1#2", "web1"},
    {"a quoted value", "node = 'web 1'", "web 1"},
    {"a quoted value with a hash", "node = 'web#1' # comment", "web#1"},
    {"a quoted value with spaces around", "node = '  web  '", "  web  "},
    {"a quoted value with a quote", "node = 'it''s'", "it's"},
    {"nothing but a quote", "node = ''''", "'"},
    {"an empty value", "node =", ""},
    {"an empty quoted value", "node = ''", ""},
    {"a comment for a value", "node = # none", ""},
    {"an equals sign in the value", "node = a=b", "a=b"},
    {"a quote within a plain value", "node = it's", "it's"},
    {"the last one counts", "node = a\nnode = b\n", "b"},
    {"comments and empty lines", "# a\n\n   \n  # b\nnode = web1\n#node = web2\n", "web1"},
    {"UTF-8", "node = k\xc3\xa4se", "k\xc3\xa4se"},
    {"dashes in the name of a setting", "reuse-port = on\nnode = web1", "web1"},
    {"a quote that does not end", "node = 'web", NULL},
    {"a quote that ends in a doubled one", "node = 'web''", NULL},
    {"more behind the quote", "node = 'web' 1", NULL},
    {"an unknown setting", "nodes = web1", NULL},
    {"no equals sign", "node web1", NULL},
    {"no name", "= web1", NULL},
};

static void
test_file(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(file_rows); i++) {
		const struct file_row *row = &file_rows[i];
		char *error = load(row->text);

		if (row->node != NULL)
			is_str(error != NULL ? error : conf.node, row->node, "%s", row->name);
		else
			ok(error != NULL, "%s: refused", row->name);
		free(error);
	}
}

static void
test_file_errors(void)
{
	char *error = load("# one\nnode = a\nbogus = 1\n"), *want;

	want = mem_printf("%s, line 3: unknown setting \"bogus\"; pgrelay config --list shows all", path);
	is_str(error, want, "an error tells the file, the line and the name");
	free(want);
	free(error);
	error = NULL;
	ok(!conf_load("/nonexistent/pgrelay.conf", &error), "a file that was asked for must be there");
	is_str(
	    error, "could not open \"/nonexistent/pgrelay.conf\": No such file or directory", "the reason");
	free(error);
	error = NULL;
	ok(!conf_load("/", &error), "a folder is no file");
	free(error);
	setenv("PGRELAY_CONFIG", "/nonexistent/environment.conf", 1);
	error = NULL;
	ok(!conf_load(NULL, &error) && strstr(error, "environment.conf") != NULL,
	    "PGRELAY_CONFIG names one, too");
	free(error);
	file_write("node = from-path");
	error = NULL;
	ok(conf_load(path, &error) && strcmp(conf.node, "from-path") == 0, "a path given counts for more");
	unsetenv("PGRELAY_CONFIG");
}

/* ---- which source counts ---- */

static void
test_sources(void)
{
	char *error = NULL, *text, *lines;

	setenv("PGRELAY_NODE", "from-environment", 1);
	setenv("PGRELAY_MAX_GROUPS", "7", 1);
	load_or_die("node = from-file\ncluster = from-file\nmax_groups = 5\n");
	is_str(conf.node, "from-environment", "the environment counts for more than the file");
	is_str(conf.cluster, "from-file", "the file for more than the default");
	ok(conf_set_flag("max-groups", "9", &error), "a flag");
	load_or_die("node = from-file\ncluster = from-file\nmax_groups = 5\n");
	is_int(conf.max_groups, 9, "counts for more than the environment");
	text = printed(conf_print);
	lines = lines_with(text, "from-");
	is_str(lines, "node = 'from-environment'  # environment\ncluster = 'from-file'  # file\n",
	    "conf_print tells the source");
	free(lines);
	lines = lines_with(text, "max_groups");
	is_str(lines, "max_groups = 9  # flag\n", "of a flag, too");
	free(lines);
	free(text);
	setenv("PGRELAY_MAX_GROUPS", "many", 1);
	error = load("");
	is_str(error,
	    "environment variable PGRELAY_MAX_GROUPS: \"many\" is not a valid value for max_groups: "
	    "a whole number is wanted",
	    "what the environment holds is checked");
	free(error);
	unsetenv("PGRELAY_NODE");
	unsetenv("PGRELAY_MAX_GROUPS");
	error = NULL;
	ok(conf_set_flag("max_groups", "none", &error), "a flag's value");
	error = load("");
	ok(error != NULL && strstr(error, "max_groups") != NULL, "is checked when all is loaded");
	free(error);
	error = NULL;
	ok(!conf_set_flag("bogus", "1", &error) && strstr(error, "\"bogus\"") != NULL, "an unknown flag");
	free(error);
	conf_free();
}

/* ---- reloading ---- */

static void
test_reload(void)
{
	char *error = NULL;

	ok(conf_set_flag("ping_timeout", "7s", &error), "a flag");
	load_or_die("node = a\nmax_groups = 5\nallowed_origins = 'http://a'\nlog_level = "
		    "warning\nping_timeout = 3s\n");
	file_write(
	    "node = b\nmax_groups = 6\nallowed_origins = 'http://b'\nlog_level = error\nping_timeout = 4s\n");
	ok(reload(), "a file that has changed");
	is_str(conf.node, "a", "what must not change has not");
	is_int(conf.max_groups, 6, "a number has");
	is_str(conf.allowed_origins, "http://b", "a text has");
	is_int(conf.ping_timeout_ms, 7000, "a flag's value stays");
	ok(!log_enabled(LOG_WARNING), "the level of the log is another");
	file_write("max_groups = 7\nbogus = 1\n");
	ok(!reload(), "a file with an error");
	is_int(conf.max_groups, 6, "changes nothing");
	is_str(conf.allowed_origins, "http://b", "nothing at all");
	unlink(path);
	ok(!reload(), "nor does a file that has gone");
	is_int(conf.max_groups, 6, "all is as it was");
	file_write("");
	ok(reload(), "an empty file");
	is_int(conf.max_groups, 1000, "brings the defaults back");
	is_str(conf.allowed_origins, "", "of a text, too");
	is_str(conf.node, "a", "but not of what must not change");
	conf_free();
}

/* ---- what is printed ---- */

/* Without the comments that tell the sources: those are the file's the second time. */
static char *
printed_values(void)
{
	char *text = printed(conf_print), *out = text;

	for (const char *p = text; *p != '\0';) {
		size_t len = strcspn(p, "\n");
		const char *comment = memmem(p, len, "  # ", 4);
		size_t keep = comment != NULL ? (size_t)(comment - p) : len;

		memmove(out, p, keep);
		out[keep] = '\n';
		out += keep + 1;
		p += len + (p[len] == '\n');
	}
	*out = '\0';
	return text;
}

static void
test_print(void)
{
	char *first, *file, *second;

	load_or_die("database = 'host=/run dbname=''it\\''s'''\nnode = 'a  # ''b'' '\nshutdown_timeout = "
		    "0ms\nreuse_port = on\n"
		    "queue_limit = 3kB\nping_interval = 90s\nwrite_timeout = 1h\nrefuse = "
		    "awx\nmax_message_bytes = 1025\n"
		    "probe_interval = 1500ms\n");
	first = printed_values();
	file = printed(conf_print);
	load_or_die(file);
	second = printed_values();
	is_str(second, first, "what is printed reads as the same settings");
	ok(strstr(first, "ping_interval = 90s") != NULL && strstr(first, "probe_interval = 1500ms") != NULL &&
		strstr(first, "write_timeout = 1h") != NULL && strstr(first, "queue_limit = 3kB") != NULL &&
		strstr(first, "max_message_bytes = 1025\n") != NULL &&
		strstr(first, "shutdown_timeout = 0ms") != NULL,
	    "numbers in the largest unit that holds them");
	is_str(conf.node, "a  # 'b' ", "a text with quotes and a hash survives");
	free(first);
	free(second);
	free(file);
}

static void
test_sample(void)
{
	char *sample = printed(conf_print_sample), *before, *after, *live;

	load_or_die("");
	before = printed_values();
	load_or_die(sample);
	after = printed_values();
	is_str(after, before, "the sample is all defaults");
	for (char *p = sample; (p = strstr(p, "\n#")) != NULL; p++)
		if (p[2] >= 'a' && p[2] <= 'z')
			p[1] = ' ';
	live = printed_values();
	load_or_die(sample);
	free(after);
	after = printed_values();
	is_str(after, live, "so is the sample with each setting taken out of its comment");
	free(live);
	free(before);
	free(after);
	free(sample);
}

static void
test_help(void)
{
	char *help = printed(conf_print_help), *sample = printed(conf_print_sample);
	size_t options = 0, helped = 0;

	for (const char *p = sample; (p = strstr(p, "\n#")) != NULL; p++)
		options += p[2] >= 'a' && p[2] <= 'z';
	for (const char *p = help; *p != '\0'; p++)
		helped += *p == '\n';
	is_int((long long)helped, (long long)options, "--help has a line for each setting of the sample");
	ok(options > 20 && strstr(help, "--max-groups ") != NULL && strstr(help, "[1000]") != NULL,
	    "by the flag's name, with the default");
	free(help);
	free(sample);
}

/* ---- passwords ---- */

static const struct mask_row {
	const char *database, *printed;
} mask_rows[] = {
    {"", ""},
    {"host=h user=u dbname=d", "host=h user=u dbname=d"},
    {"host=h password=secret user=u", "host=h password=**** user=u"},
    {"password=secret", "password=****"},
    {"password = secret user=u", "password = **** user=u"},
    {"password\t=\tsecret user=u", "password\t=\t**** user=u"},
    {"password='s e c r e t' user=u", "password=**** user=u"},
    {"password='it\\'s secret' user=u", "password=**** user=u"},
    {"password='secret", "password=****"},
    {"password='secret\\", "password=****"},
    {"password='' user=u", "password=**** user=u"},
    {"password=s&ecret user=u", "password=**** user=u"},
    {"password=s\\ ecret user=u", "password=**** user=u"},
    {"password=s\\", "password=****"},
    {"password=secret\tuser=u", "password=****\tuser=u"},
    {"password=a password=b", "password=**** password=****"},
    {"sslpassword=secret host=h", "sslpassword=**** host=h"},
    {"postgresql://u:secret@h:5432/d", "postgresql://u:****@h:5432/d"},
    {"postgres://u:s&e:c@h,h2:5433/d?sslmode=disable", "postgres://u:****@h,h2:5433/d?sslmode=disable"},
    {"postgresql://u@h:5432/d", "postgresql://u@h:5432/d"},
    {"postgresql://u:@h/d", "postgresql://u:****@h/d"},
    {"postgresql://:@h/d", "postgresql://:****@h/d"},
    {"postgresql://h:5432/d", "postgresql://h:5432/d"},
    {"postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"},
    {"postgresql:///d?host=/run&password=secret&user=u", "postgresql:///d?host=/run&password=****&user=u"},
    {"postgresql://u:one@h/d?password=two", "postgresql://u:****@h/d?password=****"},
    {"postgresql://h/d?sslpassword=secret", "postgresql://h/d?sslpassword=****"},
    {"postgresql://u:se@cret@h/d", "postgresql://u:****@h/d"},
    {"postgresql://u:se/cret@h/d", "postgresql://u:****@h/d"},
    {"postgresql://u@h:5432/d?options=a@b", "postgresql://u@h:5432/d?options=a@b"},
    {"postgresql://h:5432/d?options=a@b", "postgresql://h:5432/d?options=a@b"},
    {"user=password host=h", "user=password host=h"},
    {"user=u passfile=/home/u/.pgpass", "user=u passfile=/home/u/.pgpass"},
};

static void
test_masks(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(mask_rows); i++) {
		const struct mask_row *row = &mask_rows[i];
		char *text, *lines, *want = mem_printf("database = '%s'  # environment\n", row->printed);

		setenv("PGRELAY_DATABASE", row->database, 1);
		load_or_die("");
		text = printed(conf_print);
		lines = lines_with(text, "database = ");
		is_str(lines, want, "printed without its password: %s", row->database);
		free(text);
		free(lines);
		free(want);
	}
	unsetenv("PGRELAY_DATABASE");
}

int
main(void)
{
	int fd = mkstemp(path);

	if (fd < 0)
		abort();
	close(fd);
	log_set_level(LOG_ERROR);
	test_defaults();
	test_values();
	test_words();
	test_file();
	test_file_errors();
	test_sources();
	test_reload();
	test_print();
	test_sample();
	test_help();
	test_masks();
	conf_free();
	unlink(path);
	return tap_end();
}
