#!/bin/bash
# make run: a playground that stays until Ctrl-C: PostgreSQL and sensorlogd with its built-in broker, private and gone
# afterwards.
set -eu
# shellcheck source=tests/demo/common.sh
. "$(dirname "$0")/common.sh"

start_sensorlogd 1883
cat <<END

The broker listens on 127.0.0.1 port $port; the rows appear below as they come. In another terminal (package mosquitto-clients):

  mosquitto_pub -p $port -q 1 -t sensors/altimeter/1 -m '300 feet'
  mosquitto_pub -p $port -q 1 -t sensors/weather/roof -m '{"temp": 21.5, "humidity": 40}'
  mosquitto_pub -p $port -q 1 -t sensors/altimeter/1 -m 'no number'      # goes to the reject table
  mosquitto_sub -p $port -v -t 'sensors/#'                               # it is a broker like any other
  mosquitto_sub -p $port -v -t '\$SYS/#'

And to look at the tables:

  psql -h $PGHOST -p $PGPORT -U $PGUSER $PGDATABASE
    SELECT * FROM telemetry.altimeter ORDER BY time DESC LIMIT 10;
    SELECT * FROM telemetry.weather ORDER BY time DESC LIMIT 10;
    SELECT received_at, topic, reason, detail FROM sensorlog.reject;

Configuration: $dir/sensorlogd.conf, $dir/topics.d; log: $dir/sensorlogd.log. Ctrl-C ends it all.

END
while kill -0 "$daemon" 2>/dev/null; do
    show_rows
    sleep 0.5
done
wait "$daemon" || fail "sensorlogd ended with status $?"
