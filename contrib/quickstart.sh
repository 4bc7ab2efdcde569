#!/bin/sh
# From a fresh Debian host and a clone to a live job on the screen; "sh contrib/quickstart.sh --help" tells more.
#
# All that is started here lives in sessions of its own and is told by the kernel to end should this script be killed;
# so Ctrl-C reaches this script alone, which ends the rest in order.
set -eu
umask 022

usage() {
    cat <<'TEXT'
Usage: sh contrib/quickstart.sh [--once] [--database CONNINFO]

Installs what is missing (on Debian, by apt), builds pgrelay into ./build, starts a private PostgreSQL server and a
pgrelay node on free ports of 127.0.0.1, with TLS and without, runs a demo job and follows it live over a WebSocket. It stays up for you to
try things, until Ctrl-C ends all of it and removes the private server.

  --once                end when the demo job has ended: with status 0 only when it was successful and each of its
                        lines came over the WebSocket
  --database CONNINFO   use this database (libpq's connection string or URI) instead of a private server: the schema
                        "pgrelay" is installed there and stays, the token made for the demo is revoked at the end
  --help                show this text

BUILD_DIR in the environment names another folder than ./build.
TEXT
}

fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# ---- arguments and places ----

once=
database=
while [ $# -gt 0 ]; do
    case $1 in
        --once) once=yes ;;
        --database=?*) database=${1#*=} ;;
        --database)
            database=${2-}
            [ -n "$database" ] || fail '--database wants a connection string, "dbname=events" for one'
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            echo "quickstart: unknown argument \"$1\"" >&2
            usage >&2
            exit 2
            ;;
    esac
    shift
done

cd "$(dirname "$0")/.."
# shellcheck source=contrib/packages.sh
. contrib/packages.sh
[ "$(uname -s)" = Linux ] || fail 'this script wants Linux; README.md tells how to build and use pgrelay elsewhere'
mkdir -p "${BUILD_DIR:=build}" || fail "could not make $BUILD_DIR; BUILD_DIR=FOLDER names another place"
build=$(cd "$BUILD_DIR" && pwd)

# ---- ending ----

server=
server_user=
cluster=
node=
job_run=
job_watch=
watch_tee=
token_id=
ended_well=

alive() { [ -n "$1" ] && grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

# end SIGNAL PID: does not return before it has ended.
end() {
    if [ -n "$2" ]; then
        kill -s "$1" "$2" 2>/dev/null || :
        wait "$2" 2>/dev/null || :
    fi
}

end_all() {
    trap - EXIT
    # Who is in a hurry presses Ctrl-C again.
    trap 'kill -s KILL $job_run $job_watch $node $server 2>/dev/null || :' INT TERM HUP
    end TERM "$job_run"
    end TERM "$job_watch"
    end TERM "$watch_tee"
    if [ -n "$token_id" ] && [ -z "$server" ]; then
        "$build/pgrelay" token revoke "$token_id" >/dev/null || :
    fi
    end TERM "$node"
    end INT "$server"
    [ -z "$cluster" ] || rm -rf "$cluster"
    [ -z "$home" ] || rm -f "$home/env" "$home/cluster" "$home/pipe" "$home/pgrelay.key"
}

interrupted() {
    echo
    echo 'ending ...'
    end_all
    [ -z "$ended_well" ] || exit 0
    trap - "$1"
    kill -s "$1" $$
}

# Polls until the command after the number of seconds succeeds.
poll_pause=0.1
eventually() {
    polls=$(($1 * 10))
    shift
    until "$@"; do
        [ $((polls -= 1)) -gt 0 ] || return 1
        sleep $poll_pause
    done
}

# ---- building ----

# logged LOG COMMAND...: shows what the command says only if it fails.
logged() {
    log=$1
    shift
    "$@" >"$log" 2>&1 9>&- && return
    tail -n 30 "$log" >&2
    echo "quickstart: \"$*\" failed; the whole log is $log" >&2
    return 1
}

configure_is_old() {
    [ ! -x configure ] || [ ! -e build-aux/tap-driver.sh ] || [ -n "$(find configure.ac m4 -type f -newer configure)" ]
}

build_all() {
    if configure_is_old; then
        logged "$build/autoreconf.log" autoreconf -i || return
    fi
    # No Makefile, or that of a checkout which has been moved: relative paths in it stay true.
    if ! grep -qsxF "abs_top_srcdir = $source" "$build/Makefile"; then
        (cd "$build" && logged "$build/configure.log" "$(realpath --relative-to=. "$source")/configure") || return
    fi
    logged "$build/make.log" make -C "$build" -j "$(nproc)"
}

# ---- running ----

# in_background LOG SIGNAL COMMAND...: sets $! to the command's own process, which gets SIGNAL should we be killed.
in_background() {
    log=$1 death_signal=$2
    shift 2
    setsid setpriv --pdeathsig "$death_signal" "$@" </dev/null >"$log" 2>&1 &
}

random_port() { echo $((20000 + $(od -An -N2 -tu2 /dev/urandom) % 10000)); }

# Each start has a folder of its own; the lock goes with the last process that was started from it.
take_home() {
    number=1
    while :; do
        home=$build/quickstart
        [ $number = 1 ] || home=$home-$number
        mkdir -p "$home"
        exec 9>"$home/lock"
        flock -n 9 && break
        number=$((number + 1))
    done
    # What a start that was killed has left.
    if [ -s "$home/cluster" ]; then
        rm -rf "$(cat "$home/cluster")"
    fi
    rm -f "$home"/env "$home"/cluster "$home"/pipe "$home"/pgrelay.key "$home"/*.log "$home"/*.out
}

server_up() { "$psql" -XAtq -d "host=$cluster/socket port=$port dbname=postgres user=pgrelay" -c '' >/dev/null 2>&1; }
server_settled() { server_up || ! alive "$server"; }

# PostgreSQL does not run as root; its folder lies where its user may enter whatever the checkout's rights are.
start_server() {
    psql=$(pg_program psql)
    cluster=$(mktemp -d /var/tmp/pgrelay-XXXXXX)
    echo "$cluster" >"$home/cluster"
    mkdir "$cluster/socket"
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$cluster/password"
    if [ "$(id -u)" = 0 ]; then
        server_user=postgres
        if ! id "$server_user" >/dev/null 2>&1; then
            server_user=pgrelay-quickstart
            id "$server_user" >/dev/null 2>&1 || useradd --system --no-create-home "$server_user"
        fi
        chown -R "$server_user:" "$cluster"
        as_server="--reuid=$server_user --regid=$(id -g "$server_user") --clear-groups"
    fi
    # shellcheck disable=SC2086 # a list
    (cd "$cluster" && logged "$home/initdb.log" setpriv ${as_server:-} "$(pg_program initdb)" --no-sync -D "$cluster/data" \
        --username=pgrelay --auth-local=trust --auth-host=scram-sha-256 --pwfile="$cluster/password" \
        --encoding=UTF8 --locale=C --no-instructions)
    tries=20
    while :; do
        port=$(random_port)
        # shellcheck disable=SC2016,SC2086 # for the other shell; a list
        in_background "$home/postgresql.log" INT ${as_server:-} sh -c 'cd "$1" && shift && exec "$@"' sh "$cluster" \
            "$(pg_program postgres)" -D "$cluster/data" -c fsync=off -c listen_addresses=127.0.0.1 -c port="$port" \
            -c unix_socket_directories="$cluster/socket" -c unix_socket_permissions=0700
        server=$!
        eventually 60 server_settled || break
        if alive "$server"; then
            "$psql" -Xq -d "host=$cluster/socket port=$port dbname=postgres user=pgrelay" -c 'CREATE DATABASE pgrelay'
            database="host=$cluster/socket port=$port dbname=pgrelay user=pgrelay"
            echo "PostgreSQL      127.0.0.1:$port, a private server; log: $home/postgresql.log"
            return
        fi
        # A port that somebody else has is no reason to give up.
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! grep -q 'could not bind' "$home/postgresql.log"; then
            break
        fi
    done
    tail -n 20 "$home/postgresql.log" >&2
    fail "PostgreSQL did not start; the whole log is $home/postgresql.log"
}

node_up() { grep -q ': listening on .* with TLS$' "$home/node.log" && grep -q ': hearing events ' "$home/node.log"; }
node_settled() { node_up || ! alive "$node"; }

start_node() {
    logged "$home/cert.log" "$build/pgrelay" cert --force --out "$home"
    in_background "$home/node.log" TERM "$build/pgrelay" serve --listen 127.0.0.1:0 --listen-tls 127.0.0.1:0 \
        --tls-cert-file "$home/pgrelay.crt" --tls-key-file "$home/pgrelay.key"
    node=$!
    if ! eventually 30 node_settled || ! alive "$node"; then
        tail -n 20 "$home/node.log" >&2
        fail "the node did not get ready; the whole log is $home/node.log"
    fi
    address=$(sed -n 's/.*: listening on \([^ ]*\)$/\1/p' "$home/node.log")
    url=ws://$address/websocket/
    tls_url=https://$(sed -n 's/.*: listening on \([^ ]*\) with TLS$/\1/p' "$home/node.log")
    echo "node            http://$address/ and $tls_url/; log: $home/node.log"
}

make_access() {
    logged "$home/schema.log" "$build/pgrelay" schema install
    token=$("$build/pgrelay" token create quickstart --ttl 1d --description 'contrib/quickstart.sh' 2>"$home/token.log")
    token_id=$(sed -n 's/^pgrelay: token \([0-9]*\) of .*/\1/p' "$home/token.log")
    logged "$home/grant.log" "$build/pgrelay" grant add quickstart 'jobs.*.*' 'job_events.*.*'
}

write_env() {
    (
        umask 077
        cat >"$home/env" <<TEXT
export PGRELAY_CONFIG=/dev/null
export PGRELAY_DATABASE='$(echo "$database" | sed "s/'/'\\\\''/g")'
export PGRELAY_URL='$url'
export PGRELAY_TOKEN='$token'
export RS_ENDPOINT='$tls_url'
export RS_TOKEN='$token'
TEXT
    )
    # shellcheck source=/dev/null
    . "$home/env"
}

tell_access() {
    groups='{"groups": {"jobs": ["status_changed"], "job_events": ["verbose"]}}'
    cat <<TEXT
URL             $url
token           $token

To see every job from elsewhere on this host, paste this into a browser's console:
  ws = new WebSocket("$url?token=$token"); ws.onmessage = e => console.log(e.data); ws.onopen = () => ws.send('$groups')
or this into a terminal (Debian's package python3-websocket):
  /usr/bin/python3 -c 'import websocket; ws = websocket.create_connection("$url?token=$token"); ws.send("""$groups"""); [print(m, flush=True) for m in ws]'

With TLS, which clients of Digital Rebar want, the authority to trust is $home/pgrelay-ca.crt:
  curl -sN --cacert $home/pgrelay-ca.crt -H "Authorization: Bearer $token" '$tls_url/events?groups=jobs-status_changed'
  RS_ENDPOINT=$tls_url RS_TOKEN=$token drpcli events watch 'jobs.*.*'

TEXT
}

# ---- the demo ----

watch_follows() { grep -q following "$home/watch.log" || ! alive "$job_watch"; }

# Starts pgrelay watch with these arguments; what it prints goes to the terminal and to watch.out.
start_watch() {
    rm -f "$home/pipe"
    mkfifo "$home/pipe"
    tee "$home/watch.out" <"$home/pipe" &
    watch_tee=$!
    setsid setpriv --pdeathsig TERM "$build/pgrelay" watch "$@" </dev/null >"$home/pipe" 2>"$home/watch.log" &
    job_watch=$!
    eventually 20 watch_follows || fail "pgrelay watch did not begin to follow; its log is $home/watch.log"
}

# The status of a child, while signals are heard.
status_of() { wait "$1" && status=0 || status=$?; }

run_demo() {
    job=$("$psql" -XAtq -v ON_ERROR_STOP=1 -d "$database" \
        -c "INSERT INTO pgrelay.job (name) VALUES ('quickstart') RETURNING id")
    echo "demo            job $job: sh contrib/demo-job.sh, followed by pgrelay watch job_events-$job"
    echo
    start_watch "job_events-$job" --until-finished
    setsid setpriv --pdeathsig TERM "$build/pgrelay" run --job "$job" -- sh contrib/demo-job.sh \
        </dev/null >"$home/run.out" 2>"$home/run.log" &
    job_run=$!
    status_of "$job_run"
    job_run=
    run_status=$status
    status_of "$job_watch"
    job_watch=
    watch_status=$status
    status_of "$watch_tee"
    watch_tee=
    echo
    if [ "$run_status" != 0 ]; then
        cat "$home/run.log" >&2
        fail "the demo job failed: pgrelay run ended with status $run_status"
    fi
    if [ "$watch_status" != 0 ]; then
        cat "$home/watch.log" >&2
        fail "pgrelay watch ended with status $watch_status instead of 0, successful"
    fi
    if ! [ -s "$home/run.out" ] || ! cmp -s "$home/run.out" "$home/watch.out"; then
        diff "$home/run.out" "$home/watch.out" >&2 || :
        fail 'what came over the WebSocket (>) is not what the command printed (<)'
    fi
    echo "job $job was successful; its $(wc -l <"$home/run.out") lines came over the WebSocket, none missing."
}

stay() {
    ended_well=yes
    start_watch jobs-status_changed job_events-verbose --follow
    cat <<TEXT

All of it stays up until Ctrl-C. Run a command of your own as a job, from another terminal:
  . $home/env
  $build/pgrelay run -- ls -l /
Every job's lines and status appear here:
TEXT
    wait "$job_watch" || :
    cat "$home/watch.log" >&2
    fail 'pgrelay watch has ended'
}

# ---- all of it ----

source=$(pwd)
home=
for name in $(env | sed -n 's/^\(PGRELAY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
if [ -z "$database" ]; then
    for name in $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p'); do
        unset "$name"
    done
fi

want_to_build
if [ -n "$database" ]; then
    want postgresql-client -- has psql
else
    want_server
fi
install_missing "$build/packages.log"

[ -x "$build/pgrelay" ] || echo 'building ...'
(flock 9 && build_all) 9>"$build/build.lock"

take_home
trap end_all EXIT
for name in INT TERM HUP; do
    # shellcheck disable=SC2064 # the name now
    trap "interrupted $name" $name
done
psql=psql
[ -n "$database" ] || start_server
export PGRELAY_CONFIG=/dev/null PGRELAY_DATABASE="$database"
make_access
start_node
write_env
tell_access
run_demo
[ -n "$once" ] || stay
