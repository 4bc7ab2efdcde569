# shellcheck shell=sh
# Sourced by quickstart.sh and check.sh: finds out what is missing on this host, and installs it where there is apt.
#
# It looks for the thing itself (a program, a header, a library that pkg-config knows), not for a package: what came
# from source or from another repository counts.

# The versions of PostgreSQL's own programs, the newest first, then what is in the PATH.
pg_program() {
    for pg_folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -rn) $(echo "$PATH" | tr : ' '); do
        if [ -x "$pg_folder/$1" ]; then
            echo "$pg_folder/$1"
            return
        fi
    done
    return 1
}

has() { command -v "$1" >/dev/null 2>&1; }
has_library() { has pkg-config && pkg-config --exists "$1"; }
has_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }

packages_missing=

# want PACKAGE... -- TEST...: the packages are missing unless the test succeeds.
want() {
    want_packages=
    while [ "$1" != -- ]; do
        want_packages="$want_packages $1"
        shift
    done
    shift
    "$@" || packages_missing="$packages_missing$want_packages"
}

want_to_build() {
    want gcc libc6-dev -- eval '{ has gcc || has cc; } && has_header stdio.h'
    want make -- has make
    want autoconf -- has autoconf
    want automake -- has automake
    want pkg-config -- has pkg-config
    want libpq-dev -- has_library 'libpq >= 14'
    want libevent-dev -- has_library 'libevent >= 2.1'
    want libwslay-dev -- has_header wslay/wslay.h
    want libjansson-dev -- has_library 'jansson >= 2.10'
    want libssl-dev -- has_library 'openssl >= 1.1.1'
    want uthash-dev -- has_header uthash.h
    want zlib1g-dev -- has_header zlib.h
}

want_server() {
    want postgresql -- eval 'pg_program initdb && pg_program postgres && has psql' >/dev/null
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

# Debian's package makes a server of its own and starts it at boot; nobody has asked for one here.
cluster_switch=/etc/postgresql-common/createcluster.d/pgrelay-quickstart.conf

apt_install() {
    as_root mkdir -p "${cluster_switch%/*}"
    echo 'create_main_cluster = false' | as_root tee "$cluster_switch" >/dev/null
    # shellcheck disable=SC2086 # a list
    apt install --no-install-recommends $packages_missing && apt_status=0 || apt_status=$?
    as_root rm -f "$cluster_switch"
    return "$apt_status"
}

# What apt's lists do not know, or know in a version that is gone, is asked for again after an update.
apt_install_all() {
    # shellcheck disable=SC2086 # a list
    if ! apt-cache show $packages_missing >/dev/null 2>&1 || ! apt_install; then
        apt update && apt_install
    fi
}

# install_missing LOG: installs what want found; says what to do where it cannot.
install_missing() {
    [ -n "$packages_missing" ] || return 0
    if ! has apt-get; then
        echo "missing here (names of Debian's packages):$packages_missing" >&2
        echo "Install them by your system's own means, then start this again." >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! has sudo; then
        echo "missing here:$packages_missing" >&2
        echo "Neither are you root, nor is there sudo. Have root run, then start this again:" >&2
        echo "  apt-get install --no-install-recommends$packages_missing" >&2
        return 1
    fi
    echo "installing:$packages_missing"
    # Once in the open, so that it may ask for a password.
    as_root true || return 1
    if ! apt_install_all >"$1" 2>&1; then
        tail -n 20 "$1" >&2
        echo "apt-get failed; the whole log is $1" >&2
        return 1
    fi
    packages_missing=
}
