#!/bin/bash
# Runs a command with a PostgreSQL of its own, which is gone when the command has ended.
#
#   tests/with_postgres.sh [--conf 'name=value']... [--database NAME] -- COMMAND [ARGUMENT]...
#
# The command finds PGHOST (a directory: there is no TCP unless --conf asks for it), PGPORT, PGUSER
# (the superuser postgres, no password), PGDATABASE and PGDATA in its environment; its exit status
# is the script's. Settings are PostgreSQL's defaults but for --conf, so commits are as durable as
# they would be on a site. Root runs the server as user postgres.
set -u

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

settings=() database=postgres port=5432
while [ $# -gt 0 ]; do
    case $1 in
    --conf)
        [ $# -gt 1 ] || usage
        settings+=(-c "$2")
        case ${2// /} in port=*) port=${2##*=} port=${port// /} ;; esac
        shift 2
        ;;
    --database)
        [ $# -gt 1 ] || usage
        database=$2
        shift 2
        ;;
    --)
        shift
        break
        ;;
    *) usage ;;
    esac
done
[ $# -gt 0 ] || usage

bin=${POSTGRES_BIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)}
[ -x "$bin/initdb" ] || { echo "$0: no PostgreSQL server found (set POSTGRES_BIN)" >&2; exit 1; }

# The server hears of this script's death even where the script cannot tell it (SIGKILL).
as_server=(setpriv --pdeathsig QUIT)
[ "$(id -u)" -eq 0 ] && as_server=(setpriv --reuid postgres --regid postgres --init-groups --pdeathsig QUIT)

directory=$(mktemp -d /tmp/slpg.XXXXXX) || exit 1
server="" command=""

# shellcheck disable=SC2317 # called by trap
finish() {
    status=$?
    trap '' INT QUIT TERM HUP
    if [ -n "$command" ]; then
        kill -TERM "$command" && wait "$command"
    fi 2>/dev/null
    # The server that runs now may be another one than was started here: tests restart it.
    if [ -s "$directory/data/postmaster.pid" ]; then
        server=$(head -1 "$directory/data/postmaster.pid")
        server=${server#-} # initdb's has a minus
    fi
    if [ -n "$server" ]; then
        kill -CONT "$server"
        kill -QUIT "$server"
        for _ in $(seq 500); do
            kill -0 "$server" || break
            sleep 0.02
        done
        kill -KILL "$server"
    fi 2>/dev/null
    rm -rf "$directory"
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM

fail() {
    echo "$0: $1" >&2
    cat "$directory/log" >&2
    exit 1
}

chmod 711 "$directory"
if [ "$(id -u)" -eq 0 ]; then
    chown postgres: "$directory"
fi
cd "$directory" || exit 1
"${as_server[@]}" "$bin/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
    --no-sync --no-instructions >"$directory/log" 2>&1 || fail "initdb failed"
"${as_server[@]}" "$bin/postgres" -D "$directory/data" -k "$directory" -c listen_addresses= \
    "${settings[@]}" </dev/null >>"$directory/log" 2>&1 &
server=$!
cd "$OLDPWD" || exit 1

export PGHOST=$directory PGPORT=$port PGUSER=postgres PGDATABASE=postgres PGDATA=$directory/data
unset PGPASSWORD PGSERVICE PGOPTIONS PGHOSTADDR
ready=no
for _ in $(seq 1500); do
    if "$bin/pg_isready" -q; then
        ready=yes
        break
    fi
    kill -0 "$server" 2>/dev/null || fail "the server did not start"
    sleep 0.02
done
[ $ready = yes ] || fail "the server is not ready after 30 s"
if [ "$database" != postgres ]; then
    "$bin/createdb" "$database" || fail "cannot create the database $database"
    export PGDATABASE=$database
fi

# In the background, so that a signal ends the wait; with the script's own standard input.
setpriv --pdeathsig TERM "$@" <&0 &
command=$!
wait "$command"
status=$?
command=""
exit "$status"
