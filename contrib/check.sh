#!/bin/sh
# Builds pgrelay and runs all of its tests, as CI does; "sh contrib/check.sh --help" tells more.
set -eu
umask 022

usage() {
    cat <<'TEXT'
Usage: sh contrib/check.sh [--quick]

Installs what building and testing want (on Debian, by apt; npm for the packages of tests/e2e/package.json), and runs
these rows, each in a build folder of its own below ./build-check:

  plain        make check, with warnings as errors
  scripts      contrib/quickstart.sh, the commands of README.md, the samples (nginx's by
               an nginx) and manual pages
  dist         make distcheck: the tarball builds, passes its unit and SQL tests, installs and uninstalls
  sanitizers   make check with AddressSanitizer and UndefinedBehaviorSanitizer: unit and end-to-end tests
  valgrind     some end-to-end tests under valgrind

The last line tells how many tests passed and failed; the exit status is 0 when none failed. A build that fails counts
as a failed test. The logs of what failed are shown, and stay in the build folders.

  --quick      the rows plain and scripts only
  --help       show this text

BUILD_DIR in the environment names another folder than ./build-check.
TEXT
}

quick=
case ${1-} in
    '') ;;
    --quick) quick=yes ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        echo "check: unknown argument \"$1\"" >&2
        usage >&2
        exit 2
        ;;
esac

cd "$(dirname "$0")/.."
source=$(pwd)
# shellcheck source=contrib/packages.sh
. contrib/packages.sh
mkdir -p "${BUILD_DIR:=build-check}"
build=$(cd "$BUILD_DIR" && pwd)
for name in $(env | sed -n 's/^\(PGRELAY_[A-Z0-9_]*\|PG[A-Z]*\|MAKEFLAGS\)=.*/\1/p'); do
    unset "$name"
done

# ---- what the tests need ----

system_python() { /usr/bin/python3 -c "import $1" >/dev/null 2>&1; }

want_to_test() {
    want python3 -- test -x /usr/bin/python3
    want python3-websocket -- system_python websocket
    want python3-websockets -- system_python websockets
    want nodejs -- has node
    want npm -- has npm
    want chromium -- has chromium
    want curl -- has curl
    want valgrind -- has valgrind
    want shellcheck -- has shellcheck
    want mandoc -- has mandoc
    want procps -- has ps
    want util-linux -- has setpriv
    want xz-utils -- has xz
    want git -- has git
    want openssl -- has openssl
    want libc-ares2 -- eval '[ -x /usr/sbin/pgbouncer ] || ls /usr/lib/*/libcares.so.2 >/dev/null 2>&1'
    want liblua5.3-0 libopentracing-c-wrapper0 -- eval '[ -x /usr/sbin/haproxy ] || ls /usr/lib/*/libopentracing-c-wrapper.so.0 >/dev/null 2>&1'
    want iproute2 -- has ip
    want faketime -- eval 'ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1'
    # PostgreSQL's development files bring pg_regress for its own version.
    want postgresql-client -- eval 'ls /usr/lib/postgresql/*/lib/pgxs/src/test/regress/pg_regress >/dev/null 2>&1'
}

# Once, and again when package-lock.json changes.
install_npm() {
    npm=$build/npm
    mkdir -p "$npm"
    export PGRELAY_NODE_MODULES="$npm"
    if ! cmp -s tests/e2e/package-lock.json "$npm/node_modules/.installed"; then
        cp tests/e2e/package.json tests/e2e/package-lock.json "$npm/" &&
            (cd "$npm" && npm ci --no-audit --no-fund) &&
            cp tests/e2e/package-lock.json "$npm/node_modules/.installed"
    fi
}

# install_program NAME VARIABLE: the program alone, named by VARIABLE for the tests: Debian's package starts a server, and
# nobody has asked for one here.
install_program() {
    if has "$1" || [ -x "/usr/sbin/$1" ]; then
        return
    fi
    export "$2=$build/$1/usr/sbin/$1"
    if [ ! -x "$build/$1/usr/sbin/$1" ]; then
        mkdir -p "$build/$1"
        (cd "$build/$1" && { apt-get download "$1" || { apt update && apt-get download "$1"; }; } && dpkg -x "$1"_*.deb .)
    fi
}

# ---- counting ----

passed=0
failed=0
skipped=0

# show FILE LINES: the end of a log, without what passed, cut where lines are endless.
show() {
    echo "--- the end of $1 ---"
    grep -v '^PASS: ' "$1" | tail -n "$2" | cut -c1-400
}

broken() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    show "$2" 60
}

# Prints how many passed, failed, were skipped, by what the TAP driver has noted. That a file with failed tests also ended with
# a status other than 0 (an ERROR) is no failure of its own.
count_results() {
    find "$1/tests" -name '*.trs' -exec cat {} + 2>/dev/null | awk '
        function add() {
            failed += fail > 0 ? fail : error > 0
            fail = error = 0
        }
        $1 != ":test-result:" { if (seen) add(); seen = 0; next }
        { seen = 1 }
        $2 == "PASS" || $2 == "XFAIL" { passed++ }
        $2 == "FAIL" || $2 == "XPASS" { fail++ }
        $2 == "ERROR" { error++ }
        $2 == "SKIP" { skipped++ }
        END { add(); print passed + 0, failed + 0, skipped + 0 }'
}

# Adds a row up; the logs of failing tests are shown.
count_row() {
    read -r row_passed row_failed row_skipped <<TEXT
$(count_results "$1")
TEXT
    passed=$((passed + row_passed))
    failed=$((failed + row_failed))
    skipped=$((skipped + row_skipped))
    find "$1/tests" -name '*.trs' -exec grep -lE '^:test-result: (FAIL|XPASS|ERROR)' {} + 2>/dev/null | while read -r trs; do
        echo "FAILED: ${trs#"$1/"}" | sed 's/\.trs$//'
        show "${trs%.trs}.log" 300
    done
    [ "$row_skipped" = 0 ] || find "$1/tests" -name '*.log' -exec grep -hE '^(ok|1\.\.0).*# *(skip|SKIP)' {} + || :
}

# run LOG COMMAND...
run() {
    log=$1
    shift
    "$@" >"$log" 2>&1
}

begin() {
    row=$1
    row_start=$(date +%s)
    echo "== $row"
}

finish() { echo "   $row: $1 ($(($(date +%s) - row_start)) s)"; }

# build_in FOLDER CONFIGURE-OPTION...
build_in() {
    tree=$build/$1
    shift
    mkdir -p "$tree"
    if ! grep -qsxF "abs_top_srcdir = $source" "$tree/Makefile"; then
        (cd "$tree" && run "$tree/configure.log" "$(realpath --relative-to=. "$source")/configure" --enable-werror "$@") || {
            broken "configure $*" "$tree/configure.log"
            return 1
        }
    fi
    run "$tree/make.log" make -C "$tree" -j "$jobs" || {
        broken "make in $tree" "$tree/make.log"
        return 1
    }
}

# check_in FOLDER MAKE-ARGUMENT...: make check there, counted.
check_in() {
    tree=$build/$1
    shift
    find "$tree/tests" -name '*.trs' -exec rm -f {} + 2>/dev/null || :
    check_status=0
    # the tests wait more than they compute
    run "$tree/check.log" make -C "$tree" -k -j "$((jobs + 1))" check "$@" || check_status=$?
    count_row "$tree"
    # Failed without a test that did: something did not build, or did not run to its end.
    if [ $check_status != 0 ] && [ "$row_failed" = 0 ]; then
        broken "make check $*" "$tree/check.log"
    elif [ $((row_passed + row_failed)) = 0 ]; then
        broken "make check $* ran no test" "$tree/check.log"
    fi
    finish "$row_passed of $((row_passed + row_failed)) tests passed"
}

# ---- the rows ----

row_plain() {
    begin plain
    build_in plain && check_in plain
}

row_scripts() {
    begin scripts
    # shellcheck disable=SC2016 # make's variable
    check_in plain TESTS='$(SCRIPT_TESTS)'
}

row_dist() {
    begin dist
    # shellcheck disable=SC2016 # make's variables
    if run "$build/plain/distcheck.log" make -C "$build/plain" -j "$jobs" distcheck \
        DISTCHECK_CONFIGURE_FLAGS=--enable-werror TESTS='$(UNIT_TESTS) $(SQL_TESTS)'; then
        passed=$((passed + 1))
        finish 'make distcheck passed'
    else
        broken 'make distcheck' "$build/plain/distcheck.log"
    fi
}

row_sanitizers() {
    begin sanitizers
    # shellcheck disable=SC2016 # make's variables
    build_in sanitizers --enable-sanitizers && check_in sanitizers TESTS='$(UNIT_TESTS) $(E2E_TESTS)'
}

row_valgrind() {
    begin valgrind
    export PGRELAY_WRAPPER='valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite'
    check_in plain TESTS='tests/e2e/test_groups.py tests/e2e/test_events.py'
    unset PGRELAY_WRAPPER
}

want_to_build
want_server
want_to_test
if ! install_missing "$build/packages.log"; then
    exit 1
fi
PYTHON=/usr/bin/python3
export PYTHON
jobs=$(nproc)

if [ -e tests/e2e/package.json ] && ! run "$build/npm.log" install_npm; then
    broken 'npm ci' "$build/npm.log"
fi
if ! run "$build/nginx.log" install_program nginx PGRELAY_NGINX; then
    broken 'nginx for the tests' "$build/nginx.log"
fi
if ! run "$build/haproxy.log" install_program haproxy PGRELAY_HAPROXY; then
    broken 'haproxy for the tests' "$build/haproxy.log"
fi
if ! run "$build/pgbouncer.log" install_program pgbouncer PGRELAY_PGBOUNCER; then
    broken 'pgbouncer for the tests' "$build/pgbouncer.log"
fi
if ! run "$build/autoreconf.log" autoreconf -i; then
    broken 'autoreconf -i' "$build/autoreconf.log"
else
    if row_plain; then
        row_scripts
        if [ -z "$quick" ]; then
            row_dist
            row_valgrind
        fi
    fi
    [ -n "$quick" ] || row_sanitizers || :
fi

[ $skipped = 0 ] && tail= || tail=", $skipped skipped"
echo "$passed passed, $failed failed$tail"
[ $failed = 0 ] && [ $passed -gt 0 ]
