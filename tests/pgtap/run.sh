#!/bin/bash
# Runs the pgTAP tests, and the examples of sql/README.md, against a cluster of its own:
# tests/pgtap/run.sh [FILE.sql]... Each file gets a fresh database that an ordinary role owns and in
# which that role has applied the migrations.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

if [ "${PGTAP_INSIDE:-}" != yes ]; then
    PGTAP_INSIDE=yes exec "$root/tests/with_postgres.sh" --conf fsync=off -- "$0" "$@"
fi

failures=0

sql() {
    psql -XAtq -v ON_ERROR_STOP=1 "$@"
}

as() {
    local -x PGUSER=$1
    shift
    "$@"
}

# A database for one file, filled by the migrations in the role's name, each in a transaction as
# sensorlogd does it.
fresh_database() {
    sql -d postgres -c 'SET client_min_messages = warning' -c 'DROP DATABASE IF EXISTS tap' -c 'CREATE DATABASE tap OWNER logger' || exit 1
    export PGDATABASE=tap
    sql -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION dblink' || exit 1
    for migration in "$root"/sql/[0-9][0-9][0-9]_*.sql; do
        as logger sql -1 -f "$migration" || exit 1
    done
    as logger sql -1 -f "$here/setup.inc" || exit 1
}

# Prints a test's lines; counts it as failed where one is "not ok", or its number is not the planned
# one.
run_test() {
    fresh_database
    local output status planned
    output=$(sql -f "$1" 2>&1)
    status=$?
    printf '# %s\n%s\n' "${1##*/}" "$output"
    planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' <<<"$output")
    if [ $status -ne 0 ] || grep -q '^not ok' <<<"$output" ||
        [ "$(grep -c '^ok' <<<"$output")" != "$planned" ]; then
        echo "not ok - ${1##*/}"
        failures=$((failures + 1))
    fi
}

# Every ```sql block must run, as an analyst with the grants that the page itself gives, and every
# query must have rows.
run_examples() {
    fresh_database
    local output
    grep '^GRANT .* TO analyst;$' "$root/sql/README.md" | as logger sql || exit 1
    if ! output=$(awk '/^```sql/ { inside = 1; next } /^```/ { inside = 0 } inside' "$root/sql/README.md" |
        sed "s/\$__timeFrom()/now() - interval '1 day'/; s/\$__timeTo()/now()/" |
        as analyst psql -X -v ON_ERROR_STOP=1 2>&1) ||
        grep -q '^(0 rows)' <<<"$output" || ! grep -q 'rows*)$' <<<"$output"; then
        printf '%s\nnot ok - the examples of sql/README.md\n' "$output"
        failures=$((failures + 1))
    else
        echo "ok - the examples of sql/README.md"
    fi
}

# The least grants of the page must be enough for what the daemon does.
run_least_grants() {
    fresh_database
    awk '/^GRANT/ { statement = "" } { statement = statement $0 "\n" } / TO sensorlogd;$/ { printf "%s", statement; statement = "" }' \
        "$root/sql/README.md" | as logger sql || exit 1
    if as sensorlogd sql >/dev/null <<'END'; then
SELECT sensorlog.raise_epoch('w'), sensorlog.attach('w'), sensorlog.advance('w', 1, 0, 1), sensorlog.committed('w', 1, 0);
SELECT sensorlog.terminate_stale('w', '{}');
INSERT INTO sensorlog.reject (topic, payload, payload_length, reason) VALUES ('t', '', 0, 'r');
INSERT INTO sensorlog.exchange (writer, session, packet_id) VALUES ('w', 1, 1) ON CONFLICT DO NOTHING;
DELETE FROM sensorlog.exchange WHERE writer = 'w' AND session = 1;
SELECT sensorlog.spool_advance('s', 0, 1), sensorlog.spool_position('s');
SELECT sensorlog.take_rejects(ARRAY(SELECT id FROM sensorlog.reject));
INSERT INTO telemetry.weather (time, station) VALUES (now(), 'n') ON CONFLICT (station, time) DO NOTHING;
SELECT version, checksum FROM sensorlog.schema_version;
END
        echo "ok - the least grants of sql/README.md"
    else
        echo "not ok - the least grants of sql/README.md"
        failures=$((failures + 1))
    fi
}

# The statements that the page gives for retention, as the owner; one after the other, for DETACH CONCURRENTLY.
run_retention() {
    fresh_database
    local statements
    statements=$(grep -E '^(ALTER TABLE .* DETACH|DROP TABLE|DELETE FROM) ' "$root/sql/README.md" |
        sed 's/weather_p2026_01/weather_before/')
    if [ "$(wc -l <<<"$statements")" = 3 ] && as logger sql <<<"$statements"; then
        echo "ok - the retention of sql/README.md"
    else
        echo "not ok - the retention of sql/README.md"
        failures=$((failures + 1))
    fi
}

sql -d postgres -c 'CREATE ROLE logger LOGIN' -c 'CREATE ROLE analyst LOGIN' -c 'CREATE ROLE sensorlogd LOGIN' ||
    exit 1
if [ $# -gt 0 ]; then
    for file in "$@"; do run_test "$file"; done
else
    for file in "$here"/*.sql; do run_test "$file"; done
    run_examples
    run_least_grants
    run_retention
fi
[ $failures -eq 0 ] || { echo "# $failures failed"; exit 1; }
