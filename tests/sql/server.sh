# shellcheck shell=sh
# A temporary PostgreSQL server for a test.  Sourced by the scripts that need one.
#
# Sets: work     a directory of its own, removed at the end; the server's socket is there
#       top_src  the top of the source tree
# initdb refuses to run as root: then the server, and what as_server starts, run
# as "postgres", or as "pgrelay-test", which is made when there is no "postgres".

PG_CONFIG=${PG_CONFIG:-pg_config}
top_src=$(cd "$(dirname "$0")/../.." && pwd) || exit 99
server_user=
server_child=
work=

bail_out() {
	echo "Bail out! $*"
	exit 99
}

command -v "$PG_CONFIG" >/dev/null 2>&1 ||
	bail_out "$PG_CONFIG not found: install libpq-dev, or set PG_CONFIG"
pg_bindir=$("$PG_CONFIG" --bindir)
pg_testdir=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
[ -x "$pg_bindir/initdb" ] ||
	bail_out "no PostgreSQL server in $pg_bindir: install postgresql"

if [ "$(id -u)" = 0 ]; then
	server_user=postgres
	if ! id "$server_user" >/dev/null 2>&1; then
		server_user=pgrelay-test
		id "$server_user" >/dev/null 2>&1 || useradd --system "$server_user" ||
			bail_out "cannot create the user $server_user"
	fi
fi

as_server() {
	if [ -n "$server_user" ]; then
		runuser -u "$server_user" -- "$@"
	else
		"$@"
	fi
}

# Runs a command so that a signal to this script ends it as well.
run_child() {
	as_server "$@" &
	server_child=$!
	wait "$server_child"
	set -- $?
	server_child=
	return "$1"
}

server_end() {
	trap - EXIT INT TERM HUP
	[ -z "$server_child" ] || kill "$server_child" 2>/dev/null
	if [ -n "$work" ]; then
		[ ! -f "$work/data/postmaster.pid" ] ||
			as_server "$pg_bindir/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1
		cd / && rm -rf "$work"
	fi
}

# server_start [SETTING=VALUE]...
server_start() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/pgrelay.XXXXXX") || bail_out "cannot make a directory"
	trap 'server_end' EXIT
	trap 'server_end; exit 130' INT TERM HUP
	[ -z "$server_user" ] || chown "$server_user" "$work"
	cd "$work" || bail_out "cannot enter $work"

	as_server "$pg_bindir/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --no-locale \
		--no-sync >"$work/initdb.log" 2>&1 ||
		bail_out "initdb failed: $(tail -n 3 "$work/initdb.log")"
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$work'"
		for setting; do
			echo "${setting%%=*} = '${setting#*=}'"
		done
	} | as_server tee -a "$work/data/postgresql.conf" >/dev/null
	as_server "$pg_bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w start \
		>"$work/start.log" 2>&1 ||
		bail_out "the server does not start: $(tail -n 3 "$work/server.log")"

	PGHOST=$work PGPORT=5432 PGUSER=postgres
	export PGHOST PGPORT PGUSER
	PATH=$pg_bindir:$PATH
	export PATH
	unset PGDATABASE PGSERVICE PGOPTIONS PGPASSWORD
}

# The schema as one script, on standard output.
schema_print() {
	cat "$top_src"/sql/[0-9]*.sql
}

# server_psql DATABASE ARGUMENT...
server_psql() {
	server_db=$1
	shift
	as_server "$pg_bindir/psql" -X -q -v ON_ERROR_STOP=1 -d "$server_db" "$@"
}

# regress_run PROGRAM DATABASE DIRECTORY TEST...: runs the tests in DIRECTORY through
# PROGRAM and reports each as a line of TAP.  DATABASE is used as it is, unless it
# is "regression": that one PROGRAM makes.  What PROGRAM itself prints differs
# between versions of PostgreSQL and is not looked at.
regress_run() {
	regress=$1
	regress_options="--dbname=$2"
	[ "$2" = regression ] || regress_options="$regress_options --use-existing"
	inputs=$3
	shift 3
	[ -x "$regress" ] || bail_out "$regress not found: install postgresql-server-dev or postgresql-client"
	cp -R "$here/$inputs" "$here/expected" "$here/../sql/filter.sh" "$work/" ||
		bail_out "cannot copy the tests"
	mkdir "$work/results"
	chmod -R u+w "$work" # the tree may be read-only (make distcheck)
	[ -z "$server_user" ] || chown -R "$server_user" "$work"
	chmod +x "$work/filter.sh"

	cd "$work" || bail_out "cannot enter $work"
	run_child "$regress" --inputdir="$work" --outputdir="$work" --bindir="$pg_bindir" \
		--host="$work" --port=5432 --user=postgres --encoding=UTF8 --no-locale \
		--launcher="$work/filter.sh" $regress_options "$@" >"$work/regress.log" 2>&1

	for test; do
		regress_report "$test"
	done
}

regress_report() {
	test_count=$((test_count + 1))
	if [ ! -f "$work/results/$1.out" ]; then
		echo "not ok $test_count - $1"
		sed 's/^/# /' "$work/regress.log" | tail -n 20
	elif diff -U3 "$work/expected/$1.out" "$work/results/$1.out" >"$work/diff" 2>&1; then
		echo "ok $test_count - $1"
		return
	else
		echo "not ok $test_count - $1"
		sed 's/^/# /' "$work/diff" | head -n 200
	fi
	failed=$((failed + 1))
	[ -z "${REGRESS_SAVE:-}" ] || cp "$work/results/$1.out" "$REGRESS_SAVE/"
}

server_log_on_failure() {
	[ "$failed" = 0 ] && return
	echo "# the end of the server's log:"
	tail -n 30 "$work/server.log" | sed 's/^/# /'
}
