#!/bin/sh
# The tests of the SQL schema: run.sh [TEST]...  Prints TAP.
#
# Each test is sql/TEST.sql, what it must print expected/TEST.out.  All run in one
# database, in this order, and "install" always does.  REGRESS_SAVE=DIRECTORY
# keeps the output of tests that failed.
here=$(cd "$(dirname "$0")" && pwd) || exit 99
. "$here/server.sh"

all="install settings emit packing watch jobs job_events log access privileges reinstall"
tests=install
[ $# -gt 0 ] || set -- $all
for test; do
	[ "$test" = install ] || tests="$tests $test"
done

server_start fsync=off log_min_error_statement=panic
schema_print >"$work/schema.sql"
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

set -- $tests
echo "1..$#"
test_count=0
failed=0
regress_run "$pg_testdir/regress/pg_regress" regression sql "$@"
server_log_on_failure
[ "$failed" = 0 ]
