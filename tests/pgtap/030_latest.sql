-- The latest row of each series, with and without an index to hop along.
\set QUIET on
SELECT plan(20);
SET ROLE logger;
TRUNCATE telemetry.weather, telemetry.altimeter;
INSERT INTO telemetry.weather
SELECT timestamptz '2026-01-01 00:00+00' - make_interval(hours => h), 's' || s, 100 * s + h, NULL
  FROM generate_series(0, 40) AS s, generate_series(s, 50) AS h;
INSERT INTO telemetry.weather VALUES ('2010-01-01', 'gone', 7, NULL);

SELECT is(sensorlog.latest_index('telemetry.weather', '{station}'), '{station}'::name[], 'the key is an index to hop along');
SELECT is(sensorlog.latest_index('telemetry.altimeter', '{sensor}'), NULL, 'there is none without key');
SELECT set_eq($$SELECT station, temperature FROM telemetry.weather_latest$$,
    $$SELECT 's' || s, (101 * s)::float8 FROM generate_series(0, 40) AS s UNION ALL SELECT 'gone', 7$$,
    'one row per station, across partitions, the latest');
SELECT set_eq($$SELECT * FROM sensorlog.latest(NULL::telemetry.weather, '{station}')$$,
    $$SELECT DISTINCT ON (station) * FROM telemetry.weather ORDER BY station, time DESC$$, 'as DISTINCT ON has it');
SELECT is((SELECT count(*) FROM sensorlog.latest(NULL::telemetry.weather, '{station}', now() - timestamptz '2020-01-01')),
    41::bigint, 'bounded by since');
SELECT is((SELECT station FROM sensorlog.latest(NULL::telemetry.weather)), 's0', 'without series: the latest row of all');
SELECT is((SELECT count(*) FROM sensorlog.latest(NULL::telemetry.weather, NULL)), 1::bigint, 'null is no series either');

-- It must not read all rows: buffers touched are a measure that does not depend on the machine's speed.
INSERT INTO telemetry.weather SELECT timestamptz '2025-01-01 00:00+00' + make_interval(secs => i), 's' || i % 5, i, NULL
  FROM generate_series(1, 200000) AS i;
ANALYZE telemetry.weather;
CREATE FUNCTION pg_temp.buffers(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || query INTO plan;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
END$$;
SELECT cmp_ok(pg_temp.buffers('SELECT * FROM telemetry.weather_latest'), '<',
    pg_temp.buffers('SELECT DISTINCT ON (station) * FROM telemetry.weather ORDER BY station, time DESC') / 2,
    'hopping touches fewer pages');

-- No key: all rows are looked at, and NULL is a series.
INSERT INTO telemetry.altimeter VALUES ('2026-01-01', '1', 1), ('2026-01-02', '1', 2), ('2026-01-01', NULL, 3),
    ('2026-01-03', NULL, 4), ('2025-01-01', '2', 5);
SELECT set_eq($$SELECT sensor, altitude_m FROM telemetry.altimeter_latest$$,
    $$VALUES ('1', 2::float8), ('2', 5), (NULL, 4)$$, 'without key');
SELECT set_eq($$SELECT sensor, altitude_m FROM sensorlog.latest(NULL::telemetry.altimeter, '{sensor}',
    now() - timestamptz '2026-01-01 12:00')$$, $$VALUES ('1', 2::float8), (NULL, 4)$$, 'without key, bounded');
CREATE INDEX ON telemetry.altimeter (sensor, time);
SELECT is(sensorlog.latest_index('telemetry.altimeter', '{sensor}'), '{sensor}'::name[], 'an index of one''s own does too');
SELECT set_eq($$SELECT sensor, altitude_m FROM telemetry.altimeter_latest$$,
    $$VALUES ('1', 2::float8), ('2', 5), (NULL, 4)$$, 'the same rows with it');

-- Several columns make a series; the index has its own order; names need quoting.
CREATE TABLE telemetry.many (time timestamptz NOT NULL, "A b" int NOT NULL, c text NOT NULL, v int);
INSERT INTO telemetry.many SELECT timestamptz '2026-01-01' + make_interval(mins => i), i % 3, chr(97 + i % 4), i
  FROM generate_series(0, 100) AS i;
SELECT set_eq($$SELECT * FROM sensorlog.latest(NULL::telemetry.many, '{"A b",c}')$$,
    $$SELECT DISTINCT ON ("A b", c) * FROM telemetry.many ORDER BY "A b", c, time DESC$$, 'two columns, no index');
CREATE UNIQUE INDEX many_key ON telemetry.many (c, "A b", time);
SELECT is(sensorlog.latest_index('telemetry.many', '{"A b",c}'), '{c,"A b"}'::name[], 'in the order of the index');
SELECT set_eq($$SELECT * FROM sensorlog.latest(NULL::telemetry.many, '{"A b",c}')$$,
    $$SELECT DISTINCT ON ("A b", c) * FROM telemetry.many ORDER BY "A b", c, time DESC$$, 'two columns, index');
ALTER TABLE telemetry.many ALTER c DROP NOT NULL;
INSERT INTO telemetry.many VALUES ('2026-01-01', 1, NULL, 7);
SELECT is((SELECT count(*) FROM sensorlog.latest(NULL::telemetry.many, '{"A b",c}')), 13::bigint, 'two columns, one can be null');
DROP INDEX telemetry.many_key;
CREATE INDEX ON telemetry.many (c, time, "A b");
SELECT is(sensorlog.latest_index('telemetry.many', '{"A b",c}'), NULL, 'another order is of no use');

SELECT throws_ok($$SELECT * FROM sensorlog.latest(1)$$, '22023', NULL, 'no table');
SELECT throws_ok($$SELECT * FROM sensorlog.latest(NULL::telemetry.many, '{"; DROP TABLE x"}')$$, '42703', NULL, 'no column');
ALTER TABLE telemetry.altimeter ADD COLUMN battery float8;
SELECT lives_ok($$SELECT * FROM telemetry.altimeter_latest$$, 'the view survives a new column');
SELECT * FROM finish();
