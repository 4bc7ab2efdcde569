#!/bin/sh
# The tests of what concurrent sessions do: run.sh [SPEC]...  Prints TAP.
#
# Each is specs/SPEC.spec, what it must print expected/SPEC.out; and at last, what
# no spec can do: installs at the same time, an upgrade among writers, a crash.
# REGRESS_SAVE=DIRECTORY keeps the output of specs that failed.
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

# value DATABASE STATEMENT: what the statement returns.
value() {
	server_psql "$1" -A -t -c "$2"
}

# wait_for DATABASE CONDITION: until a query says yes, for a minute at most.
wait_for() {
	deadline=$(($(date +%s) + 60))
	until [ "$(value "$1" "SELECT $2")" = t ]; do
		[ "$(date +%s)" -lt "$deadline" ] || {
			echo "gave up waiting for: $2"
			return 1
		}
	done
}

# A transaction that has emitted holds an upgrade up, but no other writer.
upgrade_among_writers() {
	value postgres 'CREATE DATABASE upgrade OWNER test_owner' || return 1
	server_psql upgrade -f "$work/version_1.sql" >"$work/restore.log" 2>&1 || return 1
	# the dump's log is long stale: writers would not write to it
	value upgrade 'UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL' || return 1
	mkfifo "$work/writer" || return 1
	server_psql upgrade -U test_owner -o /dev/null <"$work/writer" &
	writer=$!
	exec 9>"$work/writer"
	echo "BEGIN; SELECT pgrelay.emit('t', 'a', 'open', '{}');" >&9
	wait_for upgrade "EXISTS (SELECT FROM pg_locks WHERE relation = 'pgrelay.event'::regclass AND mode = 'RowExclusiveLock')" ||
		return 1

	server_psql upgrade -U test_owner -1 <"$work/schema.sql" &
	installer=$!
	wait_for upgrade "EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'upgrade' AND wait_event = 'PgSleep')" || return 1
	for n in 1 2 3 4 5 6 7 8 9 10; do
		server_psql upgrade -U test_owner -c "SET statement_timeout = '2 s'" -c "SELECT pgrelay.emit('t', 'a', '$n', '{}')" || return 1
	done
	[ "$(value upgrade 'SELECT pgrelay.version()')" = 1 ] || return 1

	echo "SELECT pgrelay.emit('t', 'a', 'open', '{}'); COMMIT;" >&9
	wait "$installer" || return 1
	# the session of version 1 goes on with the new functions
	echo "SELECT pgrelay.emit('t', 'a', 'open', '{}');" >&9
	exec 9>&-
	wait "$writer" || return 1
	[ "$(value upgrade "SELECT concat(pgrelay.version(), ' ', (SELECT count(*) FROM pgrelay.event WHERE key = 'open'))")" = '4 3' ]
}

# upgrade_unnoticed VERSION: it does not wait for who has emitted, nor he for it.
upgrade_unnoticed() {
	old=upgrade_$1
	value postgres "CREATE DATABASE $old OWNER test_owner" || return 1
	server_psql "$old" -f "$work/version_$1.sql" >"$work/restore.log" 2>&1 || return 1
	value "$old" 'UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL' || return 1
	mkfifo "$work/writer_$1" || return 1
	server_psql "$old" -U test_owner -o /dev/null <"$work/writer_$1" &
	writer=$!
	exec 9>"$work/writer_$1"
	echo "SELECT pgrelay.emit('late', 'a', 'open', '{}'); BEGIN; INSERT INTO orders VALUES (2); SELECT pgrelay.emit('t', 'a', 'open', '{}');" >&9
	wait_for "$old" "EXISTS (SELECT FROM pg_locks WHERE relation = 'public.orders'::regclass AND mode = 'RowExclusiveLock')" ||
		return 1
	server_psql "$old" -U test_owner -c "SET statement_timeout = '10 s'" -1 -f "$work/schema.sql" || return 1
	echo "SELECT pgrelay.emit('late', 'a', 'open', '{}'), pgrelay.emit('t', 'a', 'open', '{}'); INSERT INTO orders VALUES (3);" >&9
	echo "SELECT count(*) FROM pgrelay.emit_many(ARRAY[('t', 'a', 'open', '{}')]::pgrelay.new_event[]); COMMIT;" >&9
	exec 9>&-
	wait "$writer" || return 1
	[ "$(value "$old" "SELECT concat(pgrelay.version(), ' ', (SELECT count(*) FROM pgrelay.event WHERE key = 'open'), ' ',
	                                    (SELECT count(*) FROM pgrelay.event WHERE type = 'orders'))")" = '4 5 3' ]
}

upgrade_of_version_2() {
	upgrade_unnoticed 2
}

upgrade_of_version_3() {
	upgrade_unnoticed 3
}

# What a crash takes from an UNLOGGED log is known afterwards, what it leaves of a
# LOGGED one is read.
crash() {
	for kind in logged unlogged; do
		value postgres "CREATE DATABASE crash_$kind" || return 1
		server_psql "crash_$kind" -1 <"$work/schema.sql" || return 1
		value "crash_$kind" "SELECT pgrelay.setting_set('log', '$kind')" || return 1
		value "crash_$kind" 'SELECT pgrelay.log_rotate()' &&
			value "crash_$kind" 'SELECT pgrelay.log_rotate()' || return 1
		value "crash_$kind" 'CREATE TABLE place AS SELECT pg_current_snapshot() AS since' || return 1
		value "crash_$kind" "SELECT pgrelay.emit('t', 'a', 'k', '{}')" || return 1
	done
	# (a checkpoint, for fsync is off)
	value postgres CHECKPOINT && as_server "$pg_bindir/pg_ctl" -D "$work/data" -m immediate -w stop &&
		as_server "$pg_bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w start || return 1

	read="SELECT concat_ws(' ', coalesce(pgrelay.log_covers(since, since, NULL, NULL), 'all'),
	          (SELECT count(*) FROM pgrelay.log_read(since, since, pg_current_snapshot(), pg_current_snapshot(), NULL, NULL, NULL)))
	      FROM place"
	[ "$(value crash_logged "$read")" = 'all 1' ] && [ "$(value crash_unlogged "$read")" = 'unlogged 0' ] || return 1
	for kind in logged unlogged; do
		value "crash_$kind" 'SELECT pgrelay.log_rotate()' || return 1
	done
	[ "$(value crash_logged "$read")" = 'all 1' ] && [ "$(value crash_unlogged "$read")" = 'unlogged 0' ] || return 1
	value crash_unlogged 'UPDATE place SET since = pg_current_snapshot()' &&
		value crash_unlogged "SELECT pgrelay.emit('t', 'a', 'k', '{}')" || return 1
	[ "$(value crash_unlogged "$read")" = 'all 1' ]
}

# report NAME: runs the function, and prints its result as a line of TAP.
report() {
	test_count=$((test_count + 1))
	if "$1" >"$work/$1.log" 2>&1; then
		echo "ok $test_count - $1"
	else
		echo "not ok $test_count - $1"
		sed 's/^/# /' "$work/$1.log"
		failed=$((failed + 1))
	fi
}

[ $# -gt 0 ] || set -- commit_order rollback log_rotate announce late_lines token_chain
# (with the order of commits known: the SQL tests are without)
server_start fsync=off log_min_error_statement=panic track_commit_timestamp=on
schema_print >"$work/schema.sql"
cp "$here"/../sql/version_*.sql "$work/"
server_psql postgres -c 'CREATE DATABASE specs'
server_psql specs -1 <"$work/schema.sql" || bail_out "the schema cannot be installed"
server_psql postgres -c 'CREATE ROLE test_owner LOGIN'

echo "1..$(($# + 5))"
test_count=0
failed=0
regress_run "$pg_testdir/isolation/pg_isolation_regress" specs specs "$@"
report concurrent_installs
report upgrade_among_writers
report upgrade_of_version_2
report upgrade_of_version_3
report crash
server_log_on_failure
[ "$failed" = 0 ]
