#!/bin/sh
# The tests of what concurrent sessions do: run.sh [SPEC]...  Prints TAP.
#
# Each is specs/SPEC.spec, what it must print expected/SPEC.out; and at last, two
# installs at the same time.  REGRESS_SAVE=DIRECTORY keeps the output of specs
# that failed.
here=$(cd "$(dirname "$0")" && pwd) || exit 99
. "$here/../sql/server.sh"

# Both must succeed, whoever comes first.
concurrent_installs() {
	for round in 1 2 3; do
		server_psql postgres -c "CREATE DATABASE installs_$round" || return 1
		pids=
		for installer in 1 2 3; do
			server_psql "installs_$round" -1 <"$work/schema.sql" >"$work/install_$installer" 2>&1 &
			pids="$pids $!"
		done
		for pid in $pids; do
			wait "$pid" || return 1
		done
		[ "$(server_psql "installs_$round" -A -t -c 'SELECT count(*) FROM pgrelay.schema_version')" = 1 ] ||
			return 1
	done
}

[ $# -gt 0 ] || set -- commit_order rollback log_rotate
server_start fsync=off log_min_error_statement=panic
schema_print >"$work/schema.sql"
server_psql postgres -c 'CREATE DATABASE specs'
server_psql specs -1 <"$work/schema.sql" || bail_out "the schema cannot be installed"

echo "1..$(($# + 1))"
test_count=0
failed=0
regress_run "$pg_testdir/isolation/pg_isolation_regress" specs specs "$@"
if concurrent_installs; then
	echo "ok $((test_count + 1)) - concurrent_installs"
else
	echo "not ok $((test_count + 1)) - concurrent_installs"
	sed 's/^/# /' "$work"/install_*
	failed=$((failed + 1))
fi
server_log_on_failure
[ "$failed" = 0 ]
