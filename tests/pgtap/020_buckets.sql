-- Buckets, gap filling, delay.
\set QUIET on
SELECT plan(24);
SET TimeZone = 'Europe/Paris'; -- one with summer time: buckets must not care

SELECT is(sensorlog.bucket('1 hour', '2026-03-29 03:59:59+02'), '2026-03-29 01:00+00'::timestamptz, 'hour');
SELECT is(sensorlog.bucket('1 day', '2026-03-29 00:30+00'), '2026-03-29 00:00+00'::timestamptz, 'a day is of UTC');
SELECT is(sensorlog.bucket('7 days', '2026-11-23 12:00+00'), '2026-11-23 00:00+00'::timestamptz, 'a week begins on Monday');
SELECT is(sensorlog.bucket('7 days', '1969-12-31 23:00+00'), '1969-12-29 00:00+00'::timestamptz, 'before 1970 too');

CREATE TABLE public.readings (time timestamptz NOT NULL, "the sensor" text, "Value ""x""" int, received_at timestamptz);
INSERT INTO public.readings VALUES
    ('2026-03-28 10:10+00', 'a', 1,  '2026-03-28 10:10:01+00'),
    ('2026-03-28 10:50+00', 'a', 3,  '2026-03-28 10:50:03+00'),
    ('2026-03-28 11:00+00', 'b', 5,  '2026-03-28 11:00+00'),
    ('2026-03-28 13:00+00', 'a', 8,  '2026-03-28 12:59:59+00'),
    ('2026-03-28 13:30+00', 'a', NULL, NULL),
    ('2026-03-28 15:00+00', 'a', 100, '2026-03-28 15:00+00');
CREATE FUNCTION pg_temp.q(fill text, series name, lo text DEFAULT '09', hi text DEFAULT '15')
RETURNS TABLE (line text) LANGUAGE sql AS $$
    SELECT concat_ws(' ', to_char(bucket AT TIME ZONE 'UTC', 'HH24:MI'), b.series,
                     coalesce(round(mean::numeric, 3)::float8::text, '-'), coalesce(round(b.min::numeric, 3)::float8::text, '-'),
                     coalesce(round(b.max::numeric, 3)::float8::text, '-'), n)
      FROM sensorlog.bucketed('public.readings', 'Value "x"', '1 hour', ('2026-03-28 ' || lo || ':00+00')::timestamptz,
                              ('2026-03-28 ' || hi || ':00+00')::timestamptz, series, fill) AS b
$$;
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('none', NULL)$$,
    $$VALUES ('10:00 2 1 3 2'), ('11:00 5 5 5 1'), ('13:00 8 8 8 1')$$, 'without series, until is not included');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('none', 'the sensor')$$,
    $$VALUES ('10:00 a 2 1 3 2'), ('11:00 b 5 5 5 1'), ('13:00 a 8 8 8 1')$$, 'by series');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('null', NULL)$$,
    $$VALUES ('09:00 - - - 0'), ('10:00 2 1 3 2'), ('11:00 5 5 5 1'), ('12:00 - - - 0'), ('13:00 8 8 8 1'),
             ('14:00 - - - 0')$$, 'gaps as null');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('locf', 'the sensor')$$,
    $$VALUES ('09:00 a - - - 0'), ('09:00 b - - - 0'), ('10:00 a 2 1 3 2'), ('10:00 b - - - 0'), ('11:00 a 2 1 3 0'),
             ('11:00 b 5 5 5 1'), ('12:00 a 2 1 3 0'), ('12:00 b 5 5 5 0'), ('13:00 a 8 8 8 1'), ('13:00 b 5 5 5 0'),
             ('14:00 a 8 8 8 0'), ('14:00 b 5 5 5 0')$$, 'the last value carried on');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('linear', 'the sensor') WHERE line LIKE '% a %'$$,
    $$VALUES ('09:00 a - - - 0'), ('10:00 a 2 1 3 2'),
             ('11:00 a 4 3.333 4.667 0'), ('12:00 a 6 5.667 6.333 0'),
             ('13:00 a 8 8 8 1'), ('14:00 a - - - 0')$$, 'interpolated between values, null outside');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('locf', NULL, '13', '13')$$, $$VALUES ('x') LIMIT 0$$, 'an empty range');
SELECT results_eq($$SELECT line COLLATE "default" FROM pg_temp.q('locf', NULL, '12', '13')$$, $$VALUES ('x') LIMIT 0$$, 'no rows in the range');
SELECT is((SELECT count(*) FROM sensorlog.bucketed('readings', 'Value "x"', '1 day', '2026-03-27', '2026-04-03', NULL, 'null')),
    8::bigint, 'days over the change to summer time: one bucket each');
SELECT is((SELECT count(DISTINCT extract(hour FROM bucket AT TIME ZONE 'UTC'))
             FROM sensorlog.bucketed('readings', 'Value "x"', '1 day', '2026-03-27', '2026-04-03', NULL, 'null')),
    1::bigint, 'and all begin at midnight UTC');

SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', '1 month', now(), now())$$, '22023',
    'the width 1 mon has months, which are not equally long', 'months are refused');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', '0 s', now(), now())$$, '22023', NULL, 'width 0');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', '-1 s', now(), now())$$, '22023', NULL, 'negative width');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', NULL, now(), now())$$, '22023', NULL, 'width null');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', '1 s', '-infinity', now())$$, '22023', NULL, 'endless');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', 'Value "x"', '1 us', now() - interval '1 day', now())$$, '22023',
    NULL, 'too many buckets');
SELECT throws_ok($$SELECT line COLLATE "default" FROM pg_temp.q('guess', NULL)$$, '22023', 'fill is "guess": it must be none, null, locf or linear',
    'an unknown fill');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings', '1; DROP TABLE readings', '1 s', now(), now())$$, '42703',
    'column "1; DROP TABLE readings" does not exist', 'a column''s name is no SQL');
SELECT throws_ok($$SELECT sensorlog.bucketed('readings; x', 'v', '1 s', now(), now())$$, '42602', NULL, 'nor is a table''s');

SELECT results_eq($$SELECT to_char(bucket AT TIME ZONE 'UTC', 'HH24:MI'), n, mean, median, p95, max
      FROM sensorlog.ingest_delay('readings', '2 hours', '2026-03-28 10:00+00', '2026-03-28 15:00+00')$$,
    $$VALUES ('10:00', 3::bigint, interval '1.333333 s', interval '1 s', interval '2.8 s', interval '3 s'),
             ('12:00', 1::bigint, interval '-1 s', interval '-1 s', interval '-1 s', interval '-1 s')$$,
    'delay: received_at - time');
SELECT ok((SELECT bool_and(mean = interval '2 s') FROM sensorlog.ingest_delay('telemetry.weather', '1 hour',
    now() - interval '6 hours', now())), 'delay of a mapped table');
SELECT * FROM finish();
