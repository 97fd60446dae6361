#!/bin/bash
# make demo: altimeters -> mosquitto -> sensorlogd -> PostgreSQL, all private and gone afterwards, in 20 seconds.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "${BUILD:-$root/build}")

# First run: start a private PostgreSQL, which runs this script again.
if [ "${1-}" != inside ]; then
    [ -x "$build/sensorlogd" ] || { echo "demo: build first: make" >&2; exit 1; }
    echo "starting a private PostgreSQL and mosquitto ..."
    BUILD=$build exec "$root/tests/with_postgres.sh" -- "$root/tests/demo/demo.sh" inside
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

# wait_until SECONDS WHAT COMMAND...: polls the command until it succeeds.
wait_until()
{
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || { echo "demo: no $what; the logs:" >&2; tail -n 20 "$dir"/*.log >&2; exit 1; }
        sleep 0.1
    done
}

listens() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }
subscribed() { grep -q 'sensors/altimeter/+' "$dir/mosquitto.log"; }
sql() { psql -qAtX -c "$1"; }
stored() { sql 'SELECT count(*) FROM telemetry.altimeter'; }
all_stored() { [ "$(stored)" -ge "$published" ]; }

port=$((20000 + RANDOM % 10000))
while listens $port; do port=$((port + 1)); done

cat >"$dir/mosquitto.conf" <<END
listener $port 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_queued_bytes 0
log_type error
log_type warning
log_type subscribe
END
cat >"$dir/sensorlogd.conf" <<END
[postgres]
conninfo = host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE
writer = demo
[subscriber demo]
uri = mqtt://127.0.0.1:$port
client_id = sensorlogd-demo
[mappings]
directory = $dir/topics.d
[state]
directory = $dir
END
mkdir "$dir/topics.d"
cat >"$dir/topics.d/altimeter.cfg" <<'END'
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
  }
);
END

mosquitto -c "$dir/mosquitto.conf" >"$dir/mosquitto.log" 2>&1 &
pids+=($!)
wait_until 10 "mosquitto on port $port" listens "$port"
"$build/sensorlogd" run -c "$dir/sensorlogd.conf" 2>"$dir/sensorlogd.log" &
daemon=$!
pids+=("$daemon")
wait_until 15 "subscription by sensorlogd" subscribed
wait_until 15 "table telemetry.altimeter" stored >"$dir/stored"

echo "6 altimeters publish to sensors/altimeter/N, in feet and in metres; rows of telemetry.altimeter:"
"$build/demo/altimeter" "tcp://127.0.0.1:$port" 6 20 400 >"$dir/published" &
altimeters=$!
pids+=("$altimeters")

# Prints the rows that have come since the last call. (On Ctrl-C the database may be gone before this script is told.)
shown=0
show_rows()
{
    sql "SELECT format('  %s   altimeter %s  %10s m', to_char(time, 'HH24:MI:SS.MS'), sensor,
                to_char(altitude_m, 'FM99990.00'))
         FROM telemetry.altimeter ORDER BY time OFFSET $shown" >"$dir/rows" 2>/dev/null || return 0
    cat "$dir/rows"
    shown=$((shown + $(wc -l <"$dir/rows")))
}
while kill -0 "$altimeters" 2>/dev/null; do
    show_rows
    sleep 0.5
done
wait "$altimeters" || { echo "demo: the altimeters failed" >&2; exit 1; }
read -r published acknowledged <"$dir/published"
wait_until 10 "complete table: $published published, $(stored) stored" all_stored
show_rows

kill "$daemon"
wait "$daemon" || { echo "demo: sensorlogd ended with status $?" >&2; cat "$dir/sensorlogd.log" >&2; exit 1; }

# No altimeter sends the same altitude twice, so what is there twice was stored twice.
distinct=$(sql 'SELECT count(*) FROM (SELECT DISTINCT sensor, altitude_m FROM telemetry.altimeter) AS one')
rows=$(stored)
lost=$((published - distinct))
duplicated=$((rows - distinct))
printf '%-12s%6d   acknowledged by the broker: %d\n' published "$published" "$acknowledged"
printf '%-12s%6d\n' stored "$rows" lost "$lost" duplicated "$duplicated"
[ "$lost" -eq 0 ] && [ "$duplicated" -eq 0 ]
