# shellcheck shell=bash
# Sourced by demo.sh and run.sh: a private PostgreSQL, sensorlogd with its built-in broker and two mappings, all of which
# is gone when the script ends. Sets dir (for files), port (of the broker) and daemon (its process).
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${BUILD:-$root/build}")

# First run: start a private PostgreSQL, which runs the script again.
if [ "${1-}" != inside ]; then
    [ -x "$build/sensorlogd" ] || { echo "$(basename "$0"): build first: make" >&2; exit 1; }
    echo "starting a private PostgreSQL and sensorlogd ..."
    BUILD=$build exec "$root/tests/with_postgres.sh" -- "$0" inside
fi

dir=$(mktemp -d)
pids=()
cleanup()
{
    trap '' INT TERM QUIT HUP
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'echo; echo "stopped"; exit 130' INT TERM QUIT HUP

fail()
{
    echo "$(basename "$0"): $1; the log:" >&2
    tail -n 20 "$dir"/*.log >&2
    exit 1
}

# wait_until SECONDS WHAT COMMAND...: polls the command until it succeeds.
wait_until()
{
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || fail "no $what"
        sleep 0.1
    done
}

listens() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }
sql() { psql -qAtX -c "$1"; }
stored() { sql 'SELECT count(*) FROM telemetry.altimeter'; }

# start_sensorlogd PORT: or the next one that is free.
start_sensorlogd()
{
    port=$1
    while listens "$port"; do port=$((port + 1)); done
    mkdir "$dir/topics.d"
    cat >"$dir/sensorlogd.conf" <<END
[postgres]
conninfo = host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE
writer = demo
[broker]
listen = mqtt://127.0.0.1:$port
state = $dir/broker.db
[mappings]
directory = $dir/topics.d
END
    cat >"$dir/topics.d/demo.cfg" <<'END'
mappings = (
  {
    name    = "altimeter";
    filter  = "sensors/altimeter/+";
    decoder = "text";
    table   = "altimeter";
    columns = (
      { name = "sensor";     type = "text";   from = "topic[2]"; },
      { name = "altitude_m"; type = "float8"; from = "value"; unit = "m"; }
    );
  },
  {
    name    = "weather";
    filter  = "sensors/weather/+";
    decoder = "json";
    table   = "weather";
    columns = (
      { name = "station";     type = "text";   from = "topic[2]"; },
      { name = "temperature"; type = "float8"; from = "/temp"; },
      { name = "humidity";    type = "float8"; from = "/humidity"; }
    );
  }
);
END
    "$build/sensorlogd" run -c "$dir/sensorlogd.conf" 2>"$dir/sensorlogd.log" &
    daemon=$!
    pids+=("$daemon")
    wait_until 15 "broker on port $port" listens "$port"
    wait_until 15 "table telemetry.altimeter" stored >"$dir/stored"
}

# show_rows: prints the rows that have come since the last call. (On Ctrl-C the database may be gone before this script is
# told.)
shown=0
show_rows()
{
    sql "SELECT format('  %s   %s', to_char(time, 'HH24:MI:SS.MS'), what) FROM (
             SELECT time, format('altimeter %s  %10s m', sensor, to_char(altitude_m, 'FM99990.00')) AS what
             FROM telemetry.altimeter
             UNION ALL
             SELECT time, format('weather %s  %s degrees, %s %%', station, temperature, humidity)
             FROM telemetry.weather) AS rows
         ORDER BY time OFFSET $shown" >"$dir/rows" 2>/dev/null || return 0
    cat "$dir/rows"
    shown=$((shown + $(wc -l <"$dir/rows")))
}
