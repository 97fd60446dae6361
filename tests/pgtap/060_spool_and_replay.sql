-- What drains the spool and what replays rejects: each entry once.
\set QUIET on
SELECT plan(24);
SET ROLE logger;

-- The spool.
SELECT is(sensorlog.spool_position('s'), 0::bigint, 'of an unknown spool nothing is stored');
SELECT lives_ok($$SELECT sensorlog.spool_advance('s', 0, 3)$$, 'from its beginning');
SELECT is(sensorlog.spool_position('s'), 3::bigint, 'the last one that is stored');
SELECT lives_ok($$SELECT sensorlog.spool_advance('s', 3, 4)$$, 'and on');
SELECT throws_ok($$SELECT sensorlog.spool_advance('s', 3, 5)$$, 'SL003', 'spool s is not at entry 3', 'not twice');
SELECT throws_ok($$SELECT sensorlog.spool_advance('s', 7, 9)$$, 'SL003', NULL, 'none is left out');
SELECT throws_ok($$SELECT sensorlog.spool_advance('s', 4, 4)$$, 'SL003', NULL, 'not on the spot');
SELECT throws_ok($$SELECT sensorlog.spool_advance('s', 4, 2)$$, 'SL003', NULL, 'not back');
SELECT is(sensorlog.spool_position('s'), 4::bigint, 'what failed has changed nothing');
SELECT throws_ok($$SELECT sensorlog.spool_advance('t', 5, 6)$$, 'SL003', NULL, 'another spool begins at 0 too');
SELECT is(sensorlog.spool_position('t'), 0::bigint, 'and has its own position');
SELECT ok((SELECT at <= now() FROM sensorlog.spool_progress WHERE spool = 's'), 'when');

-- Two at a time: the second one waits for the first, and then is late.
RESET ROLE;
SELECT dblink_connect(name, format('host=%s port=%s dbname=%s user=logger',
    split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database()))
  FROM unnest('{a,b}'::text[]) AS name \g /dev/null
CREATE FUNCTION pg_temp.waits(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..500 LOOP
        PERFORM pg_stat_clear_snapshot();
        IF EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query = statement) THEN
            RETURN true;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END$$;
SELECT dblink_exec('a', 'BEGIN') \g /dev/null
SELECT FROM dblink('a', $$SELECT sensorlog.spool_advance('u', 0, 2)::text$$) AS r(x text) \g /dev/null
SELECT dblink_send_query('b', $$SELECT sensorlog.spool_advance('u', 0, 3)$$) \g /dev/null
SELECT ok(pg_temp.waits($$SELECT sensorlog.spool_advance('u', 0, 3)$$), 'the second one waits');
SELECT dblink_exec('a', 'COMMIT') \g /dev/null
SELECT throws_ok($$SELECT FROM dblink_get_result('b') AS r(x text)$$, 'SL003', NULL, 'and is late');
SELECT FROM dblink_get_result('b') AS r(x text) \g /dev/null
SELECT is(sensorlog.spool_position('u'), 2::bigint, 'the first one counts');

-- Rejects.
TRUNCATE sensorlog.reject RESTART IDENTITY;
INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, client_id)
SELECT 't', convert_to(n::text, 'UTF8'), 1, 'r', 'c' || n FROM generate_series(1, 6) AS n;
SELECT lives_ok($$SELECT sensorlog.take_rejects('{1,3}')$$, 'they are taken');
SELECT is((SELECT array_agg(client_id ORDER BY id) FROM sensorlog.reject), '{c2,c4,c5,c6}'::text[], 'and no others');
SELECT throws_ok($$SELECT sensorlog.take_rejects('{2,3}')$$, 'SL004', '1 of 2 rejects are there', 'one is gone');
SELECT throws_ok($$SELECT sensorlog.take_rejects('{99}')$$, 'SL004', '0 of 1 rejects are there', 'there never was');
SELECT is((SELECT count(*) FROM sensorlog.reject), 4::bigint, 'what failed has taken none');
SELECT lives_ok($$SELECT sensorlog.take_rejects('{}')$$, 'none at all');
SELECT dblink_exec('a', 'BEGIN') \g /dev/null
SELECT FROM dblink('a', $$SELECT sensorlog.take_rejects('{4,5}')::text$$) AS r(x text) \g /dev/null
SELECT dblink_send_query('b', $$SELECT sensorlog.take_rejects('{5,6}')$$) \g /dev/null
SELECT ok(pg_temp.waits($$SELECT sensorlog.take_rejects('{5,6}')$$), 'another one waits');
SELECT dblink_exec('a', 'COMMIT') \g /dev/null
SELECT throws_ok($$SELECT FROM dblink_get_result('b') AS r(x text)$$, 'SL004', NULL, 'and is late');
SELECT FROM dblink_get_result('b') AS r(x text) \g /dev/null
SELECT is((SELECT array_agg(id) FROM sensorlog.reject), '{2,6}'::bigint[], 'each is taken once');
SELECT * FROM finish();
