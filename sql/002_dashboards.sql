-- For dashboards and analysts: buckets, gap filling, latest rows, delay, rejects. README.md has
-- examples. Names of tables come as regclass and names of columns are quoted, so arguments cannot
-- become SQL.

CREATE FUNCTION sensorlog.bucket(width interval, ts timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_bin(width, ts, timestamptz '2000-01-03 00:00:00+00')
$$;
COMMENT ON FUNCTION sensorlog.bucket IS
    'Start of the bucket that ts falls into: days begin at midnight UTC, weeks on Monday; no months or years';

-- The width as a plain number of seconds: generate_series steps '1 day' by the session's time zone,
-- date_bin by 24 hours.
CREATE FUNCTION sensorlog.check_buckets(width interval, since timestamptz, until timestamptz)
RETURNS interval LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    seconds numeric := extract(epoch FROM width);
BEGIN
    IF extract(year FROM width) <> 0 OR extract(month FROM width) <> 0 THEN
        RAISE EXCEPTION 'the width % has months, which are not equally long', width USING
            ERRCODE = 'invalid_parameter_value', HINT = 'Use a number of days, such as ''30 days''.';
    ELSIF seconds IS NULL OR seconds <= 0 THEN
        RAISE EXCEPTION 'the width must be more than nothing'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF since IS NULL OR until IS NULL OR NOT isfinite(since) OR NOT isfinite(until) THEN
        RAISE EXCEPTION 'the range must have a begin and an end'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF extract(epoch FROM until) - extract(epoch FROM since) > 1000000 * seconds THEN
        RAISE EXCEPTION 'more than 1000000 buckets of % between % and %', width, since, until USING
            ERRCODE = 'invalid_parameter_value', HINT = 'Use a greater width.';
    END IF;
    RETURN make_interval(secs => seconds::double precision);
END
$$;
COMMENT ON FUNCTION sensorlog.check_buckets IS
    'Used by the functions here: refuses widths and ranges that make no sense';

CREATE FUNCTION sensorlog.bucketed(
    tab regclass, value_column name, width interval, since timestamptz, until timestamptz,
    series_column name DEFAULT NULL, fill text DEFAULT 'none',
    OUT bucket timestamptz, OUT series text,
    OUT mean double precision, OUT min double precision, OUT max double precision, OUT n bigint)
RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step interval := sensorlog.check_buckets(width, since, until);
    series_sql text := CASE WHEN series_column IS NULL THEN 'NULL::text'
                            ELSE format('%I::text', series_column) END;
BEGIN
    IF fill IS NULL OR fill NOT IN ('none', 'null', 'locf', 'linear') THEN
        RAISE EXCEPTION 'fill is "%": it must be none, null, locf or linear', fill
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Each bucket that has rows brings along the empty ones up to the next that has (gap 0 is
    -- itself); those before the first come last in the query.
    RETURN QUERY EXECUTE format($sql$
        WITH found AS (
            SELECT sensorlog.bucket($1, "time") AS b, %1$s AS s,
                   avg(%2$I::double precision) AS mean, min(%2$I::double precision) AS low,
                   max(%2$I::double precision) AS high, count(%2$I) AS n
              FROM %3$s WHERE "time" >= $2 AND "time" < $3 AND %2$I IS NOT NULL GROUP BY 1, 2
        ), next AS (
            SELECT *, lead(b) OVER w AS b1, lead(mean) OVER w AS mean1, lead(low) OVER w AS low1,
                   lead(high) OVER w AS high1
              FROM found WINDOW w AS (PARTITION BY s ORDER BY b)
        ), filled AS (
            SELECT g.b, s,
                   CASE WHEN g.b = next.b OR $4 = 'locf' THEN mean
                        WHEN $4 = 'linear' THEN mean + (mean1 - mean) * part END AS mean,
                   CASE WHEN g.b = next.b OR $4 = 'locf' THEN low
                        WHEN $4 = 'linear' THEN low + (low1 - low) * part END AS low,
                   CASE WHEN g.b = next.b OR $4 = 'locf' THEN high
                        WHEN $4 = 'linear' THEN high + (high1 - high) * part END AS high,
                   CASE WHEN g.b = next.b THEN n ELSE 0 END AS n
              FROM next
             CROSS JOIN LATERAL generate_series(next.b, CASE WHEN $4 = 'none' THEN next.b
                        ELSE coalesce(b1 - $1, $3 - interval '1 microsecond') END, $1) AS g (b)
             CROSS JOIN LATERAL (SELECT (extract(epoch FROM g.b - next.b)
                        / extract(epoch FROM b1 - next.b))::double precision AS part) AS p
            UNION ALL
            SELECT g.b, s, NULL, NULL, NULL, 0
              FROM (SELECT s, min(b) AS b FROM found GROUP BY s) AS first
             CROSS JOIN LATERAL generate_series(sensorlog.bucket($1, $2), first.b - $1, $1) AS g (b)
             WHERE $4 <> 'none'
        )
        SELECT b, s, mean, low, high, n FROM filled ORDER BY b, s
    $sql$, series_sql, value_column, tab) USING step, since, until, fill;
END
$$;
COMMENT ON FUNCTION sensorlog.bucketed IS
    'Mean, min, max and number of values per bucket (and series) of a table with a column "time", '
    'since <= time < until. Empty buckets: fill none leaves them out, null shows them, '
    'locf carries the last values on, linear interpolates; n is 0 there';

CREATE FUNCTION sensorlog.ingest_delay(
    tab regclass, width interval, since timestamptz, until timestamptz,
    received_column name DEFAULT 'received_at',
    OUT bucket timestamptz, OUT n bigint,
    OUT mean interval, OUT median interval, OUT p95 interval, OUT max interval)
RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step interval := sensorlog.check_buckets(width, since, until);
BEGIN
    RETURN QUERY EXECUTE format($sql$
        SELECT sensorlog.bucket($1, "time"), count(*), avg(delay),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY delay),
               percentile_cont(0.95) WITHIN GROUP (ORDER BY delay), max(delay)
          FROM (SELECT "time", %1$I - "time" AS delay FROM %2$s
                 WHERE "time" >= $2 AND "time" < $3 AND %1$I IS NOT NULL) AS rows
         GROUP BY 1 ORDER BY 1
    $sql$, received_column, tab) USING step, since, until;
END
$$;
COMMENT ON FUNCTION sensorlog.ingest_delay IS
    'How long after their own time readings were received, per bucket; '
    'the table needs a column from = "received_at". '
    'Negative: the sensor''s clock is ahead';

-- The columns of a usable index in its order: exactly the series columns, then time; NULL where
-- there is none.
CREATE FUNCTION sensorlog.latest_index(tab regclass, series name[])
RETURNS name[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.columns[1 : cardinality(series)]
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     CROSS JOIN LATERAL (SELECT array_agg(a.attname ORDER BY u.ord) AS columns
                           FROM unnest(i.indkey) WITH ORDINALITY AS u (attnum, ord)
                           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
                          WHERE u.ord <= i.indnkeyatts) AS k
     WHERE i.indrelid = tab AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND m.amname = 'btree' AND 0 = ALL ((i.indoption::smallint[])[0 : cardinality(series) - 1])
       AND cardinality(k.columns) > cardinality(series) AND k.columns[cardinality(series) + 1] = 'time'
       AND k.columns[1 : cardinality(series)] @> series
     ORDER BY cardinality(k.columns) LIMIT 1
$$;
COMMENT ON FUNCTION sensorlog.latest_index IS 'Used by sensorlog.latest';

-- With an index on (series..., time) it hops from one series to the next and takes one row of each,
-- so the cost goes with the number of series; without one it reads all rows since then.
CREATE FUNCTION sensorlog.latest(
    tab anyelement, series name[] DEFAULT '{}', since interval DEFAULT NULL)
RETURNS SETOF anyelement LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rel regclass := (SELECT nullif(typrelid, 0) FROM pg_type WHERE oid = pg_typeof(tab));
    starts timestamptz := coalesce(now() - since, '-infinity');
    hops name[];
    s text; -- the series columns: "a, b"; of the row before, and of a row t
    s_before text;
    s_t text;
BEGIN
    IF rel IS NULL THEN
        RAISE EXCEPTION 'the first argument must be a row of a table, such as NULL::telemetry.weather'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(cardinality(series), 0) = 0 THEN
        -- Without an index on time a look at the last hour or day mostly spares one at everything.
        FOREACH since IN ARRAY ARRAY[interval '1 hour', interval '1 day', interval '30 days', NULL] LOOP
            RETURN QUERY EXECUTE format(
                'SELECT t.* FROM %s t WHERE t."time" >= $1 ORDER BY t."time" DESC LIMIT 1', rel)
                USING greatest(starts, coalesce(now() - since, '-infinity'));
            EXIT WHEN FOUND;
        END LOOP;
        RETURN;
    END IF;
    hops := sensorlog.latest_index(rel, series);
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = ANY (hops)
                  AND NOT a.attnotnull) THEN
        hops := CASE WHEN cardinality(hops) = 1 THEN hops END; -- NULLs do not compare as rows
    END IF;
    SELECT string_agg(format('%I', c), ', '), string_agg(format('before.%I', c), ', '),
           string_agg(format('t.%I', c), ', ')
      INTO s, s_before, s_t FROM unnest(coalesce(hops, series)) AS c;
    IF hops IS NULL THEN
        RETURN QUERY EXECUTE format('SELECT DISTINCT ON (%1$s) t.* FROM %2$s t WHERE t."time" >= $1 '
            'ORDER BY %1$s, t."time" DESC', s_t, rel) USING starts;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($sql$
        WITH RECURSIVE hop AS (
            (SELECT %1$s FROM %4$s t WHERE (%3$s) IS NOT NULL ORDER BY %3$s LIMIT 1)
            UNION ALL
            SELECT next.* FROM hop AS before CROSS JOIN LATERAL (
                SELECT %3$s FROM %4$s t WHERE (%3$s) > (%2$s) ORDER BY %3$s LIMIT 1) AS next
        )
        SELECT newest.* FROM hop AS before CROSS JOIN LATERAL (
            SELECT t.* FROM %4$s t WHERE (%3$s) = (%2$s) AND t."time" >= $1
             ORDER BY t."time" DESC LIMIT 1) AS newest
    $sql$, s, s_before, s_t, rel) USING starts;
    IF cardinality(hops) = 1 THEN
        RETURN QUERY EXECUTE format('SELECT t.* FROM %s t WHERE %s IS NULL AND t."time" >= $1 '
            'ORDER BY t."time" DESC LIMIT 1', rel, s_t) USING starts;
    END IF;
END
$$;
COMMENT ON FUNCTION sensorlog.latest IS
    'The latest row of each series: SELECT * FROM sensorlog.latest(NULL::telemetry.weather, ''{station}''). '
    'Fast with an index on (the series'' columns, time), which a mapping''s key makes; else bound it by since';

CREATE FUNCTION sensorlog.payload_text(payload bytea, length integer DEFAULT 200)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN left(convert_from(payload, 'UTF8'), length);
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN left(payload::text, length);
END
$$;
COMMENT ON FUNCTION sensorlog.payload_text IS
    'The beginning of a payload for people to read: as text where it is UTF-8, else in hexadecimal';

CREATE VIEW sensorlog.rejects_last_day AS
SELECT id, rejected_at, received_at, rejected_at - received_at AS delay, source, mapping, topic,
       reason, detail, sqlstate, payload_length, sensorlog.payload_text(payload) AS payload_text,
       payload, properties, qos, retain, dup
  FROM sensorlog.reject
 WHERE rejected_at > now() - interval '1 day'
 ORDER BY rejected_at DESC, id DESC;
COMMENT ON VIEW sensorlog.rejects_last_day IS 'What was rejected within 24 hours, newest first';

CREATE VIEW sensorlog.reject_reasons_last_day AS
SELECT mapping, source, reason, count(*) AS n,
       min(rejected_at) AS first_at, max(rejected_at) AS last_at,
       (array_agg(topic ORDER BY id DESC))[1] AS last_topic,
       (array_agg(detail ORDER BY id DESC))[1] AS last_detail
  FROM sensorlog.reject
 WHERE rejected_at > now() - interval '1 day'
 GROUP BY mapping, source, reason
 ORDER BY n DESC, last_at DESC;
COMMENT ON VIEW sensorlog.reject_reasons_last_day IS
    'How much was rejected within 24 hours and why, most frequent first, with the last example';

CREATE VIEW sensorlog.writer_status AS
SELECT w.writer, w.epoch, p.lane, p.seq AS transactions, p.at AS last_commit,
       now() - p.at AS since_last_commit
  FROM sensorlog.writer w
  LEFT JOIN sensorlog.writer_progress p ON p.writer = w.writer AND p.epoch = w.epoch;
COMMENT ON VIEW sensorlog.writer_status IS
    'Per writer and connection: transactions since it started, and when the last one was';
