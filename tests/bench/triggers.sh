#!/bin/sh
# What the triggers cost.  Prints, one figure a line:
#
#   trigger_ratio       one INSERT of 100 job events, committed, against the same
#                       without the trigger (median against median)
#   log_ratio           the same against one with the trigger, of events that are exempt from the log
#   notifications_10000 notifications that an INSERT of 10,000 job events makes
#   million_seconds, million_peak_mb
#                       an INSERT of a million job events: time, and the most memory
#                       that its backend used (32 MB of it shared buffers)
#
# The kinds of INSERT take turns, on one temporary server with fsync on, while a
# session listens.  BENCH_ROUNDS (default 12) sets how often, BENCH_MILLION=no
# leaves the million out.
here=$(cd "$(dirname "$0")" && pwd) || exit 99
. "$here/../sql/server.sh"
. "$here/listener.sh"

rounds=${BENCH_ROUNDS:-12}

# Writing zeros to new WAL files would be counted: a server that has run for a
# while recycles them.
server_start shared_buffers=32MB wal_init_zero=off max_wal_size=8GB checkpoint_timeout=1h autovacuum=off
[ -x "$pg_bindir/pgbench" ] || bail_out "no pgbench in $pg_bindir: install postgresql-contrib"
schema_print >"$work/schema.sql"

for kind in relay nolog plain; do
	server_psql postgres -c "CREATE DATABASE $kind"
	server_psql "$kind" -1 <"$work/schema.sql" || bail_out "the schema cannot be installed"
	server_psql "$kind" -c "CREATE SEQUENCE counter" \
		-c "INSERT INTO pgrelay.job (id, status) VALUES (1, 'running')" || exit 1
done
server_psql plain -c 'ALTER TABLE pgrelay.job_event DISABLE TRIGGER USER'
server_psql nolog -o /dev/null -c "SELECT pgrelay.logged_set('job_events', false)"

cat >"$work/insert.sql" <<'EOF'
INSERT INTO pgrelay.job_event (job_id, counter, event, stdout, start_line, end_line, event_data, event_level, host_id, host_name, play, task)
SELECT 1, nextval('counter'), 'runner_on_ok', 'ok: [web01.example.com] => (item=package ' || n || ') the quick brown fox jumps over the lazy dog', n, n + 1,
       '{"task_action": "ansible.builtin.package", "duration": 0.123}', 3, 10, 'web01.example.com', 'Configure web servers', 'Install packages'
FROM generate_series(1, 100) n;
EOF

for kind in relay nolog; do
	start_listener "$kind"
done

round=0
while [ "$round" -lt "$rounds" ]; do
	round=$((round + 1))
	for kind in plain nolog relay; do
		run_child "$pg_bindir/pgbench" -n -t 120 -M prepared -f "$work/insert.sql" \
			-l --log-prefix="$work/$kind.$round" "$kind" >"$work/pgbench.log" 2>&1 ||
			bail_out "pgbench failed: $(tail -n 3 "$work/pgbench.log")"
	done
done
touch "$work/stop"
wait

# median KIND: of the times in microseconds, the first 20 of each round left out
median() {
	for log in "$work/$1".*; do
		tail -n +21 "$log"
	done | awk '{ print $3 }' | sort -n | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'
}

plain=$(median plain)
nolog=$(median nolog)
relay=$(median relay)
echo "insert_100_us plain $plain, trigger without log $nolog, trigger and log $relay"
awk -v plain="$plain" -v nolog="$nolog" -v relay="$relay" 'BEGIN {
	printf "trigger_ratio %.2f\nlog_ratio %.2f\n", relay / plain, relay / nolog
}'

insert_many() {
	sed "s/generate_series(1, 100)/generate_series(1, $1)/" "$work/insert.sql"
}

{ echo 'LISTEN pgrelay;'; insert_many 10000; } | server_psql relay |
	awk '/^Asynchronous notification/ { n++ } END { print "notifications_10000", n }'

[ "${BENCH_MILLION:-yes}" = no ] && exit
start=$(date +%s)
{
	printf '%s\n' 'SELECT pg_backend_pid() AS pid \gset'
	insert_many 1000000
	# the backend is still there
	cat <<'EOF'
\setenv PID :pid
\! awk '$1 == "VmHWM:" { printf "million_peak_mb %d\n", $2 / 1024 }' /proc/$PID/status
EOF
} | server_psql relay
echo "million_seconds $(($(date +%s) - start))"
