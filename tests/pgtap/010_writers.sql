-- Epochs and progress: what an ambiguous COMMIT is resolved by. Sessions side by side through dblink.
\set QUIET on
SELECT plan(31);
SET ROLE logger;

SELECT is(sensorlog.raise_epoch('w'), 1::bigint, 'the first epoch of a writer is 1');
SELECT is(sensorlog.committed('w', 1, 0), 0::bigint, 'nothing has committed yet');
SELECT lives_ok($$SELECT sensorlog.advance('w', 1, 0, 1)$$, 'the first transaction of a lane');
SELECT lives_ok($$SELECT sensorlog.advance('w', 1, 0, 2)$$, 'the second one');
SELECT lives_ok($$SELECT sensorlog.advance('w', 1, 1, 7)$$, 'another lane counts for itself');
SELECT is(sensorlog.committed('w', 1, 0), 2::bigint, 'lane 0 is at 2');
SELECT is(sensorlog.committed('w', 1, 1), 7::bigint, 'lane 1 is at 7');
SELECT throws_ok($$SELECT sensorlog.advance('w', 1, 0, 2)$$, 'SL002',
    'transaction 2 of lane 0, epoch 1 of writer w has committed already', 'a number comes once');
SELECT throws_ok($$SELECT sensorlog.advance('w', 1, 0, 1)$$, 'SL002', NULL, 'numbers do not go back');
SELECT throws_ok($$SELECT sensorlog.advance('w', 2, 0, 1)$$, 'SL001', 'epoch 2 of writer w is over',
    'an epoch that is not yet');
SELECT throws_ok($$SELECT sensorlog.advance('nobody', 1, 0, 1)$$, 'SL001', NULL, 'a writer without epoch');
SELECT is(sensorlog.raise_epoch('w'), 2::bigint, 'the next epoch');
SELECT throws_ok($$SELECT sensorlog.advance('w', 1, 0, 3)$$, 'SL001', 'epoch 1 of writer w is over',
    'a lane with progress is fenced');
SELECT throws_ok($$SELECT sensorlog.advance('w', 1, 5, 1)$$, 'SL001', NULL, 'a lane without progress is fenced');
SELECT is(sensorlog.committed('w', 1, 0), 2::bigint, 'the progress of the old epoch can still be read');
SELECT is(sensorlog.committed('w', 2, 0), 0::bigint, 'the new one begins at 0');

-- A server without a battery-backed clock may learn the time between a COMMIT and the question for it.
UPDATE sensorlog.writer_progress SET at = '1970-01-01' WHERE writer = 'w';
SELECT is(sensorlog.raise_epoch('w'), 3::bigint, 'an epoch after a jump of the clock');
SELECT is(sensorlog.committed('w', 1, 0), 2::bigint, 'progress is not forgotten by the clock alone');
UPDATE sensorlog.writer SET epoch = 2000 WHERE writer = 'w';
SELECT sensorlog.raise_epoch('w') \g /dev/null
SELECT is((SELECT count(*) FROM sensorlog.writer_progress WHERE writer = 'w'), 0::bigint,
    'but after a thousand epochs it is');

-- An old transaction in flight: on a lane that has progress, and on one that has none yet.
RESET ROLE;
SELECT dblink_connect(name, format('host=%s port=%s dbname=%s user=logger',
    split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database()))
  FROM unnest('{old_lane,new_lane,successor}'::text[]) AS name \g /dev/null
SELECT dblink_exec('successor', 'DO $$BEGIN PERFORM sensorlog.raise_epoch(''x''); PERFORM sensorlog.advance(''x'', 1, 0, 1); END$$') \g /dev/null
SELECT dblink_exec('old_lane', 'BEGIN') \g /dev/null
SELECT dblink_exec('new_lane', 'BEGIN') \g /dev/null
SELECT FROM dblink('old_lane', $$SELECT sensorlog.advance('x', 1, 0, 2)::text$$) AS t (a text) \g /dev/null
SELECT FROM dblink('new_lane', $$SELECT sensorlog.advance('x', 1, 1, 1)::text$$) AS t (a text) \g /dev/null
SELECT is(dblink_send_query('successor', $$SELECT sensorlog.raise_epoch('x')$$), 1, 'a successor comes');

-- Waits until the successor waits for a lock, which never ends well where it does not.
CREATE FUNCTION pg_temp.successor_waits() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..500 LOOP
        PERFORM pg_stat_clear_snapshot();
        IF EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                      AND query = 'SELECT sensorlog.raise_epoch(''x'')') THEN
            RETURN true;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END$$;
SELECT ok(pg_temp.successor_waits(), 'it waits for the lane without progress');
SELECT dblink_exec('new_lane', 'COMMIT') \g /dev/null
SELECT ok(pg_temp.successor_waits(), 'it waits for the lane with progress');
SELECT is(dblink_is_busy('successor'), 1, 'and has not returned');
SELECT dblink_exec('old_lane', 'COMMIT') \g /dev/null
SELECT is(e, 2::bigint, 'then the new epoch begins') FROM dblink_get_result('successor') AS t (e bigint);
SELECT FROM dblink_get_result('successor') AS t (e bigint) \g /dev/null
SELECT is(array[sensorlog.committed('x', 1, 0), sensorlog.committed('x', 1, 1)], '{2,1}'::bigint[],
    'what committed while it waited counts');
SELECT throws_ok($$SELECT FROM dblink('old_lane', 'SELECT sensorlog.advance(''x'', 1, 0, 3)::text') AS t (a text)$$,
    'SL001', NULL, 'the old one can commit no more');

-- Backends: who records itself must be the role that connected.
SELECT FROM dblink('old_lane', $$SELECT sensorlog.attach('x')::text$$) AS t (a text) \g /dev/null
SELECT FROM dblink('new_lane', $$SELECT sensorlog.attach('x')::text$$) AS t (a text) \g /dev/null
INSERT INTO sensorlog.writer_backend VALUES ('x', 1, '2000-01-01');
SELECT pid AS new_pid FROM dblink('new_lane', 'SELECT pg_backend_pid()') AS t (pid int) \gset
SELECT pid AS old_pid FROM dblink('old_lane', 'SELECT pg_backend_pid()') AS t (pid int) \gset
SELECT FROM sensorlog.attach('x');
SELECT set_eq($$SELECT pid FROM sensorlog.writer_backend WHERE writer = 'x'$$,
    array[:new_pid, :old_pid, pg_backend_pid()], 'attach records itself and forgets the dead');
SELECT is_empty($$SELECT sensorlog.terminate_stale('y', '{}')$$, 'nothing of another writer is stale');
SELECT is(array(SELECT sensorlog.terminate_stale('x', array[:new_pid])), array[:old_pid], 'one is stale');
SELECT is(pid, :new_pid, 'the other one lives') FROM dblink('new_lane', 'SELECT pg_backend_pid()') AS t (pid int);
SELECT is((SELECT count(*) FROM sensorlog.writer_status WHERE writer = 'edge7' AND lane = 0 AND transactions = 1),
    1::bigint, 'writer_status shows the lane');
SELECT * FROM finish();
