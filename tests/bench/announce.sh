#!/bin/sh
# What announcing costs writers who do not wait for each other otherwise. announce.sh SLOW_FLUSH.SO: 16 writers on a
# disk whose flush takes 1 ms, each with a job of its own, one job event a transaction. Prints, one figure a line:
#
#   plain_tps      transactions a second of an INSERT into a like table and one of the log's row into another, without
#                  triggers
#   commit_tps     job events, announced by the writers' own transactions
#   deferred_tps   job events that are deferred, while an announcer is at work every 10 ms
#   commit_ratio, deferred_ratio
#                  the same against plain (the median of the rounds' ratios)
#   announced_ms   what one call of the announcer took, on average
#
# The kinds take turns, on one temporary server, while a session listens. BENCH_ROUNDS (default 6) sets how often, and
# BENCH_SECONDS (default 4) how long each. BENCH_PROTOCOL: simple, extended or prepared (default).
here=$(cd "$(dirname "$0")" && pwd) || exit 99
shim=$(cd "$(dirname "${1:?the path of slow_flush.so is missing}")" && pwd)/$(basename "$1") || exit 99
. "$here/../sql/server.sh"
. "$here/listener.sh"

rounds=${BENCH_ROUNDS:-6}
seconds=${BENCH_SECONDS:-4}
protocol=${BENCH_PROTOCOL:-prepared}
writers=16

server_start shared_buffers=128MB wal_init_zero=off max_wal_size=8GB checkpoint_timeout=1h autovacuum=off
[ -x "$pg_bindir/pgbench" ] || bail_out "no pgbench in $pg_bindir: install postgresql-contrib"
cp "$shim" "$work/slow_flush.so" || bail_out "cannot copy $shim"
chmod 755 "$work/slow_flush.so"
as_server env LD_PRELOAD="$work/slow_flush.so" "$pg_bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w restart \
	>"$work/start.log" 2>&1 || bail_out "the server does not start: $(tail -n 3 "$work/server.log")"

schema_print >"$work/schema.sql"
for kind in plain commit deferred; do
	server_psql postgres -c "CREATE DATABASE $kind"
	server_psql "$kind" -1 <"$work/schema.sql" || bail_out "the schema cannot be installed"
	server_psql "$kind" -c 'CREATE SEQUENCE counter' \
		-c "INSERT INTO pgrelay.job (id, status) SELECT n, 'running' FROM generate_series(0, $writers) n" \
		-c 'CREATE TABLE like_job_event (LIKE pgrelay.job_event INCLUDING ALL)' \
		-c 'CREATE TABLE like_event (LIKE pgrelay.event INCLUDING ALL)' || exit 1
done
server_psql deferred -o /dev/null -c "SELECT pgrelay.announce_set('job_events', 'deferred')"

cat >"$work/event.sql" <<'EOT'
INSERT INTO pgrelay.job_event (job_id, counter, event, stdout, start_line, end_line)
VALUES (:client_id, nextval('counter'), 'verbose', 'ok: [web01.example.com] => the quick brown fox jumps over the lazy dog', 1, 2);
EOT
cat >"$work/plain.sql" <<'EOT'
BEGIN;
INSERT INTO like_job_event (job_id, counter, event, stdout, start_line, end_line)
VALUES (:client_id, nextval('counter'), 'verbose', 'ok: [web01.example.com] => the quick brown fox jumps over the lazy dog', 1, 2);
INSERT INTO like_event (slot, id, time, type, action, key, payload)
VALUES (0, nextval('pgrelay.event_id_seq'), clock_timestamp(), 'job_events', 'verbose', '42', repeat('x', 430));
COMMIT;
EOT
cp "$work/event.sql" "$work/commit.sql"
cp "$work/event.sql" "$work/deferred.sql"
cat >"$work/announce.sql" <<'EOT'
SELECT snapshot FROM pgrelay.announce(:snapshot, false) \gset
\sleep 10 ms
EOT

# bench DATABASE SCRIPT OPTION...: what pgbench says, on standard output
bench() {
	bench_database=$1
	bench_script=$2
	shift 2
	as_server "$pg_bindir/pgbench" -n -f "$work/$bench_script.sql" "$@" "$bench_database" 2>"$work/$bench_script.log" ||
		bail_out "pgbench failed: $(tail -n 3 "$work/$bench_script.log")"
}

listener_pids=
for kind in commit deferred; do
	start_listener "$kind"
	listener_pids="$listener_pids $!"
done

round=0
while [ "$round" -lt "$rounds" ]; do
	round=$((round + 1))
	for kind in plain commit deferred; do
		announcer=
		if [ "$kind" = deferred ]; then
			snapshot=$(server_psql deferred -A -t -c 'SELECT snapshot FROM pgrelay.announce(NULL, true)')
			PGOPTIONS='-c enable_seqscan=off -c jit=off' bench deferred announce -T "$seconds" \
				-M prepared -D "snapshot=$snapshot" -r >"$work/announced.$round" &
			announcer=$!
		fi
		bench "$kind" "$kind" -T "$seconds" -c "$writers" -j 2 -M "$protocol" >"$work/pgbench.log"
		awk -v kind="$kind" '/^tps/ { print kind, $3 }' "$work/pgbench.log" >>"$work/tps.$round"
		[ -z "$announcer" ] || wait "$announcer" || bail_out "the announcer failed: $(tail -n 3 "$work/announce.log")"
	done
done
touch "$work/stop"
for pid in $listener_pids; do
	wait "$pid"
done

# median: of the numbers on standard input
median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

for kind in plain commit deferred; do
	echo "${kind}_tps $(awk -v kind="$kind" '$1 == kind { print $2 }' "$work"/tps.* | median)"
done
for kind in commit deferred; do
	for file in "$work"/tps.*; do
		awk -v kind="$kind" '{ tps[$1] = $2 } END { printf "%.3f\n", tps[kind] / tps["plain"] }' "$file"
	done >"$work/ratios"
	echo "# $kind: $(tr '\n' ' ' <"$work/ratios")"
	echo "${kind}_ratio $(median <"$work/ratios")"
done
echo "announced_ms $(awk '/pgrelay.announce/ { print $1 }' "$work"/announced.* | median)"
