#!/bin/bash
# make demo: altimeters -> sensorlogd with its built-in broker -> PostgreSQL, all private and gone afterwards, in 20 seconds.
set -eu
# shellcheck source=tests/demo/common.sh
. "$(dirname "$0")/common.sh"

all_stored() { [ "$(stored)" -ge "$published" ]; }

start_sensorlogd $((20000 + RANDOM % 10000))
echo "6 altimeters publish to sensors/altimeter/N, in feet and in metres; rows of telemetry.altimeter:"
"$build/demo/altimeter" "tcp://127.0.0.1:$port" 6 20 400 >"$dir/published" &
altimeters=$!
pids+=("$altimeters")
while kill -0 "$altimeters" 2>/dev/null; do
    show_rows
    sleep 0.5
done
wait "$altimeters" || fail "the altimeters failed"
read -r published acknowledged <"$dir/published"
wait_until 10 "complete table: $published published, $(stored) stored" all_stored
show_rows

kill "$daemon"
wait "$daemon" || fail "sensorlogd ended with status $?"

# No altimeter sends the same altitude twice, so what is there twice was stored twice.
distinct=$(sql 'SELECT count(*) FROM (SELECT DISTINCT sensor, altitude_m FROM telemetry.altimeter) AS one')
rows=$(stored)
lost=$((published - distinct))
duplicated=$((rows - distinct))
printf '%-12s%6d   acknowledged after their commit: %d\n' published "$published" "$acknowledged"
printf '%-12s%6d\n' stored "$rows" lost "$lost" duplicated "$duplicated"
[ "$lost" -eq 0 ] && [ "$duplicated" -eq 0 ]
