#!/bin/sh
# The tests of the SQL schema: run.sh [TEST]...  Prints TAP.
#
# Each test is sql/TEST.sql, what it must print expected/TEST.out.  All run in one
# database, in this order, and "install" always does.  REGRESS_SAVE=DIRECTORY
# keeps the output of tests that failed.
here=$(cd "$(dirname "$0")" && pwd) || exit 99
. "$here/server.sh"

all="install settings emit event_types packing watch jobs job_events log read announce health access tokens password publish connections privileges reinstall upgrade"
tests=install
[ $# -gt 0 ] || set -- $all
for test; do
	[ "$test" = install ] || tests="$tests $test"
done

server_start fsync=off log_min_error_statement=panic
schema_print >"$work/schema.sql"
cp "$here"/version_*.sql "$work/"
# the same with a spy in the place of pg_notify()
sed 's/pg_notify(/public.spy_notify(/' "$work/schema.sql" >"$work/schema_spy.sql"
# the same from the future
sed 's/this_version CONSTANT integer := [0-9]*/this_version CONSTANT integer := 999/' \
	"$work/schema.sql" >"$work/schema_999.sql"

# after an install: the locks that it holds and that conflict with a writer's
cat >"$work/show_locks.sql" <<'EOF'
SELECT l.relation::regclass, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'pgrelay'::regnamespace
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
EOF

# all that there is in the schema
cat >"$work/things.sql" <<'EOF'
SELECT concat_ws(' ', p.oid::regprocedure, obj_description(p.oid, 'pg_proc'), md5(p.prosrc), p.proacl) FROM pg_proc p
WHERE p.pronamespace = 'pgrelay'::regnamespace AND p.proname !~ '^watch_[0-9]'
UNION ALL
SELECT concat_ws(' ', c.relkind, c.oid::regclass, obj_description(c.oid, 'pg_class'), c.relpersistence, c.relacl,
                 (SELECT string_agg(concat_ws(' ', a.attname, a.atttypid::regtype, a.attnotnull, a.atthasdef), ', ' ORDER BY a.attname)
                  FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0))
FROM pg_class c WHERE c.relnamespace = 'pgrelay'::regnamespace
UNION ALL
SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'pgrelay'::regnamespace AND NOT t.tgisinternal
ORDER BY 1
EOF

set -- $tests
echo "1..$#"
test_count=0
failed=0
regress_run "$pg_testdir/regress/pg_regress" regression sql "$@"
server_log_on_failure
[ "$failed" = 0 ]
