/* Connection strings taken apart, and names resolved: src/pg/pg_hosts.c, src/core/resolve.c. */
#include "config.h"
#include "core/loop.h"
#include "core/mem.h"
#include "pg/pg_hosts.h"
#include "core/resolve.h"

#include "tap.h"

#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const variables[] = {"PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE"};

static void
forget_environment(void)
{
	for (size_t i = 0; i < ARRAY_LENGTH(variables); i++)
		unsetenv(variables[i]);
}

/* As in "db1/10.0.0.1/5432 db2/-/5433": what is not given is a hyphen, a name has a question mark behind
 * it. The list is released. */
static char *
text_of(struct pg_hosts *hosts)
{
	char *text = mem_strdup("");

	for (const struct pg_host *h; (h = pg_hosts_first(hosts)) != NULL; pg_hosts_drop_first(hosts)) {
		char *more = mem_printf("%s%s%s%s/%s/%s", text, *text != '\0' ? " " : "",
		    h->host != NULL ? h->host : "-", pg_host_is_name(h) ? "?" : "",
		    h->hostaddr != NULL ? h->hostaddr : "-", h->port != NULL ? h->port : "-");

		free(text);
		text = more;
	}
	pg_hosts_free(hosts);
	return text;
}

static void
check(const char *conninfo, const char *want)
{
	char *got = text_of(pg_hosts_new(conninfo));

	is_str(got, want, "\"%s\"", conninfo);
	free(got);
}

static void
test_conninfo(void)
{
	check("host=db1", "db1?/-/5432");
	check("host=db1 port=5433 dbname=x", "db1?/-/5433");
	check("host=db1,db2,db3 dbname=x", "db1?/-/5432 db2?/-/5432 db3?/-/5432");
	check("host=db1,db2 port=1,2", "db1?/-/1 db2?/-/2");
	check("host=db1,db2 port=1,", "db1?/-/1 db2?/-/5432");
	check("host='db1,db2' port='5433'", "db1?/-/5433 db2?/-/5433");
	check("host=10.0.0.1", "10.0.0.1/10.0.0.1/5432");
	check("host=::1,10.0.0.1", "::1/::1/5432 10.0.0.1/10.0.0.1/5432");
	check("host=/run/x,db1", "/run/x/-/5432 db1?/-/5432");
	check("host=@abstract", "@abstract/-/5432");
	check("hostaddr=10.0.0.1,10.0.0.2 port=3", "10.0.0.1/10.0.0.1/3 10.0.0.2/10.0.0.2/3");
	check("host=db1,db2 hostaddr=10.0.0.1,10.0.0.2", "db1/10.0.0.1/5432 db2/10.0.0.2/5432");
	check("host=db1,db2 hostaddr=10.0.0.1,", "db1/10.0.0.1/5432 db2?/-/5432");
	check("host=,db2 hostaddr=10.0.0.1,10.0.0.2", "10.0.0.1/10.0.0.1/5432 db2/10.0.0.2/5432");
}

static void
test_uri(void)
{
	check("postgresql://db1", "db1?/-/5432");
	check("postgres://me:secret@db1:5433,db2/x?target_session_attrs=any", "db1?/-/5433 db2?/-/5432");
	check("postgresql://[::1]:1,10.0.0.1/x", "::1/::1/1 10.0.0.1/10.0.0.1/5432");
	check("postgresql://%2Frun%2Fx/y", "/run/x/-/5432");
	check("postgresql:///x?host=db1&port=7", "db1?/-/7");
}

/* libpq then says what is wrong, or finds its default host. */
static void
test_left_to_libpq(void)
{
	check("", "-/-/-");
	check("dbname=x", "-/-/-");
	check("events", "-/-/-");
	check("host=''", "-/-/-");
	check("postgresql:///x", "-/-/-");
	check("host=db1,db2 port=1,2,3", "-/-/-");
	check("host=db1,db2 hostaddr=10.0.0.1", "-/-/-");
	check("host=db1,,db3", "-/-/-");
	check("host=/run/x,db2 hostaddr=,10.0.0.1", "-/-/-");
	check("host=db1 nonsense=1", "-/-/-");
	check("host='db1", "-/-/-");
	check("postgresql://[::1", "-/-/-");
}

static void
test_environment(void)
{
	setenv("PGHOST", "env1,env2", 1);
	setenv("PGPORT", "8,9", 1);
	check("dbname=x", "env1?/-/8 env2?/-/9");
	check("events", "env1?/-/8 env2?/-/9");
	check("host=db1,db2", "db1?/-/8 db2?/-/9");
	check("host=db1,db2 port=5", "db1?/-/5 db2?/-/5");
	setenv("PGPORT", "8", 1);
	setenv("PGHOSTADDR", "10.0.0.1,10.0.0.2", 1);
	check("", "env1/10.0.0.1/8 env2/10.0.0.2/8");
	forget_environment();
}

static void
test_service_file(void)
{
	static const char text[] = "[far]\nhost=far1,far2\nport=6\n[near]\nhost=/run/near\n";
	char path[] = "/tmp/pgrelay-test-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
		abort();
	close(fd);
	setenv("PGSERVICEFILE", path, 1);
	setenv("PGPORT", "9", 1);
	check("service=far dbname=x", "far1?/-/6 far2?/-/6");
	check("service=far host=db1", "db1?/-/6");
	check("postgresql://?service=near", "/run/near/-/9");
	check("service=absent", "-/-/-");
	setenv("PGSERVICE", "near", 1);
	check("", "/run/near/-/9");
	check("service=far", "far1?/-/6 far2?/-/6");
	is_str(getenv("PGSERVICE"), "near", "the environment is as it was");
	unlink(path);
	forget_environment();
}

static void
test_expand(void)
{
	static const char *const addresses[] = {"10.0.0.1", "::1"};
	struct pg_hosts *hosts = pg_hosts_new("host=db1,db2");
	char *text;

	pg_hosts_expand_first(hosts, addresses, 2);
	text = text_of(hosts);
	is_str(text, "db1/10.0.0.1/5432 db1/::1/5432 db2?/-/5432", "a name becomes its addresses");
	free(text);
}

static void
check_prefer(const char *conninfo, struct pg_host host, const char *want)
{
	struct pg_hosts *hosts = pg_hosts_new(conninfo);
	char *got;

	pg_hosts_prefer(hosts, &host);
	got = text_of(hosts);
	is_str(got, want, "\"%s\" with %s in front", conninfo, host.host);
	free(got);
}

static void
test_prefer(void)
{
	char a[] = "a", b[] = "b", address[] = "10.0.0.2", port[] = "5432", other[] = "1";

	check_prefer("host=a,b,c", (struct pg_host){b, NULL, port}, "b?/-/5432 a?/-/5432 c?/-/5432");
	check_prefer("host=a,b,c", (struct pg_host){b, address, port}, "b?/-/5432 a?/-/5432 c?/-/5432");
	check_prefer("host=a,b,c", (struct pg_host){b, NULL, other}, "a?/-/5432 b?/-/5432 c?/-/5432");
	check_prefer("host=a,a,b port=1,5432,1", (struct pg_host){a, NULL, port}, "a?/-/5432 a?/-/1 b?/-/1");
	check_prefer("host=a,a hostaddr=10.0.0.1,10.0.0.2", (struct pg_host){a, address, port},
	    "a/10.0.0.2/5432 a/10.0.0.1/5432");
}

static void
check_describe(struct pg_host host, const char *want)
{
	char *got = pg_host_describe(&host);

	is_str(got, want, "described: %s", want);
	free(got);
}

static void
test_describe(void)
{
	char name[] = "db1", address[] = "10.0.0.1", port[] = "5432";

	check_describe((struct pg_host){name, address, port}, "\"db1\" (10.0.0.1) port 5432");
	check_describe((struct pg_host){name, NULL, port}, "\"db1\" port 5432");
	check_describe((struct pg_host){address, address, port}, "\"10.0.0.1\" port 5432");
	check_describe((struct pg_host){NULL, NULL, NULL}, "the default host");
}

/* ---- names ---- */

static char *answer; /* addresses, or the error */
static int answers;

static void
on_resolved(void *arg, const char *const *addresses, size_t count, const char *error)
{
	answers++;
	free(answer);
	answer = mem_strdup(error != NULL ? error : "");
	for (size_t i = 0; i < count; i++) {
		char *more = mem_printf("%s%s%s", answer, i > 0 ? " " : "", addresses[i]);

		free(answer);
		answer = more;
	}
	loop_stop();
}

static void
resolve(const char *name)
{
	loop_init();
	answers = 0;
	resolve_start(name, on_resolved, NULL);
	is_int(answers, 0, "no answer comes from inside the call, about \"%s\"", name);
	loop_run();
	loop_free();
}

static void
test_resolve(void)
{
	resolve("localhost");
	ok(answer != NULL && strncmp(answer, "127.0.0.1", 9) == 0, "localhost is %s", answer);
	resolve("127.0.0.1");
	is_str(answer, "127.0.0.1", "an address is itself");
	resolve("");
	ok(strncmp(answer, "could not translate host name \"\" to address: ", 45) == 0, "no name: %s",
	    answer);
	free(answer);
	answer = NULL;
}

static void
stop(evutil_socket_t fd, short what, void *arg)
{
	loop_stop();
}

static void
test_resolve_cancelled(void)
{
	struct timeval soon = {0, 100000};

	loop_init();
	answers = 0;
	resolve_cancel(resolve_start("localhost", on_resolved, NULL)); /* answered already, not told yet */
	resolve_cancel(resolve_start("pgrelay.invalid", on_resolved, NULL)); /* asked for, perhaps */
	event_base_once(loop_base(), -1, EV_TIMEOUT, stop, NULL, &soon);
	loop_run();
	loop_free();
	is_int(answers, 0, "who has cancelled is not told");
}

int
main(void)
{
	forget_environment();
	test_conninfo();
	test_uri();
	test_left_to_libpq();
	test_environment();
	test_service_file();
	test_expand();
	test_prefer();
	test_describe();
	test_resolve();
	test_resolve_cancelled();
	return tap_end();
}
