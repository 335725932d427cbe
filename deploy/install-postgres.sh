#!/bin/sh
# Installs PostgreSQL's server programs (initdb, pg_ctl, postgres) with the system's package
# manager, if there are none of version 15 or newer. Installs the programs only: no server is
# set up or started, because the demo and the tests run private ones of their own.
set -eu

oldest=15

# The same places that src/local_postgres/binaries.rs looks into.
servers() {
    on_path=$(command -v postgres || true)
    [ -z "$on_path" ] || echo "$on_path"
    for program in \
        /usr/lib/postgresql/*/bin/postgres \
        /usr/pgsql-*/bin/postgres \
        /usr/libexec/postgresql*/postgres \
        /usr/lib/postgresql*/bin/postgres \
        /usr/lib64/postgresql-*/bin/postgres \
        /usr/local/pgsql/bin/postgres \
        /usr/local/opt/postgresql@*/bin/postgres \
        /opt/homebrew/opt/postgresql@*/bin/postgres \
        /opt/local/lib/postgresql*/bin/postgres \
        /Applications/Postgres.app/Contents/Versions/*/bin/postgres; do
        [ ! -x "$program" ] || echo "$program"
    done
}

is_there() {
    servers | while read -r program; do
        major=$("$program" --version 2>/dev/null | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
        [ "${major:-0}" -lt "$oldest" ] || echo yes
    done | grep -q yes
}

say() {
    echo "install-postgres: $*" >&2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "this needs root: $*"
        exit 1
    fi
}

install_on_debian() {
    # Debian's package makes a cluster and starts a server as soon as it is installed. Its own
    # switch for that is this file, which has to be there before; an administrator's choice,
    # if there is one, is left alone. It is removed afterwards, so that a server that somebody
    # wants one day comes as usual.
    switch=/etc/postgresql-common/createcluster.d/b24mirror.conf
    as_root mkdir -p "${switch%/*}"
    echo 'create_main_cluster = false' | as_root tee "$switch" >/dev/null
    as_root apt-get update
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends postgresql || status=$?
    as_root rm -f "$switch"
    return "$status"
}

if is_there; then
    exit 0
fi

say "no PostgreSQL server programs of version $oldest or newer were found; installing them"
if command -v apt-get >/dev/null; then
    install_on_debian
elif command -v dnf >/dev/null; then
    as_root dnf install --assumeyes postgresql-server
elif command -v apk >/dev/null; then
    as_root apk add postgresql
elif command -v pacman >/dev/null; then
    as_root pacman --sync --noconfirm postgresql
elif command -v zypper >/dev/null; then
    as_root zypper --non-interactive install postgresql-server
elif command -v brew >/dev/null; then
    brew install postgresql@17
else
    say "no package manager that this script knows; install a PostgreSQL server yourself"
    exit 1
fi

if ! is_there; then
    say "the installed PostgreSQL is older than $oldest; see https://www.postgresql.org/download/"
    exit 1
fi
say "done"
