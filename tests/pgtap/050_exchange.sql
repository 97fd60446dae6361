-- QoS 2 identifiers: one row each, per writer, session and packet identifier.
\set QUIET on
SELECT plan(8);
SET ROLE logger;

SELECT col_is_pk('sensorlog', 'exchange', '{writer,session,packet_id}'::name[], 'what makes an identifier');
SELECT lives_ok($$INSERT INTO sensorlog.exchange (writer, session, packet_id)
    VALUES ('w', 9223372036854775807, 1), ('w', 9223372036854775807, 65535), ('w', 1, 1), ('x', 1, 1)$$,
    'another packet, another session, another writer');
SELECT throws_ok($$INSERT INTO sensorlog.exchange (writer, session, packet_id) VALUES ('w', 1, 1)$$, '23505', NULL,
    'the same once more');
SELECT throws_ok($$INSERT INTO sensorlog.exchange (writer, session, packet_id) VALUES ('w', 1, 0)$$, '23514', NULL,
    'packet identifiers begin at 1');
SELECT throws_ok($$INSERT INTO sensorlog.exchange (writer, session, packet_id) VALUES ('w', 1, 65536)$$, '23514', NULL,
    'and have two bytes');
SELECT is((SELECT count(*) FROM sensorlog.exchange WHERE at = now()), 0::bigint, 'each has the time of its own transaction');
SELECT is((SELECT array_agg(packet_id ORDER BY packet_id) FROM sensorlog.exchange
            WHERE writer = 'w' AND session = 9223372036854775807), '{1,65535}'::integer[], 'those of a session');
SELECT isnt(obj_description('sensorlog.exchange'::regclass), NULL, 'it says what it is for');
SELECT * FROM finish();
