-- Rejects: as they came, and what people see of them.
\set QUIET on
SELECT plan(16);
SET ROLE logger;
TRUNCATE sensorlog.reject;
INSERT INTO sensorlog.reject (rejected_at, received_at, source, mapping, topic, payload, payload_length, reason, detail)
VALUES (now() - interval '2 days', now() - interval '2 days', 'site', 'm', 't/0', 'old', 3, 'not a number', 'old'),
       (now() - interval '3 min', now() - interval '4 min', 'site', 'm', 't/1', 'abc', 3, 'not a number', 'abc'),
       (now() - interval '2 min', now() - interval '2 min', 'site', 'm', 't/2', '\x00ff', 2, 'not a number', 'bytes'),
       (now() - interval '1 min', now() - interval '1 min', 'site', NULL, 't/' || U&'\0001\200B\FFFE', 'x', 209715200, 'too long', NULL);
SELECT is((SELECT count(*) FROM sensorlog.rejects_last_day), 3::bigint, 'older ones are not shown');
SELECT is((SELECT array_agg(detail) FROM sensorlog.rejects_last_day), '{NULL,bytes,abc}'::text[], 'newest first');
SELECT is((SELECT payload_text FROM sensorlog.rejects_last_day WHERE topic = 't/1'), 'abc', 'text is text');
SELECT is((SELECT payload_text FROM sensorlog.rejects_last_day WHERE topic = 't/2'), '\x00ff', 'other bytes are hexadecimal');
SELECT is((SELECT delay FROM sensorlog.rejects_last_day WHERE topic = 't/1'), interval '1 min', 'delay');
SELECT results_eq($$SELECT mapping, reason, n, last_topic, last_detail FROM sensorlog.reject_reasons_last_day$$,
    $$VALUES ('m', 'not a number', 2::bigint, 't/2', 'bytes'),
             (NULL, 'too long', 1::bigint, 't/' || U&'\0001\200B\FFFE', NULL)$$, 'by reason');
UPDATE sensorlog.reject SET client_id = 'mast-7' WHERE topic = 't/1';
SELECT is((SELECT client_id FROM sensorlog.rejects_last_day WHERE topic = 't/1'), 'mast-7', 'who sent it');
UPDATE sensorlog.reject SET writer = 'edge3' WHERE topic IN ('t/0', 't/2');
SELECT is((SELECT array_agg(writer) FROM sensorlog.rejects_last_day), '{NULL,edge3,NULL}'::text[], 'which sensorlogd');
SELECT is((SELECT writers FROM sensorlog.reject_reasons_last_day WHERE mapping = 'm'), 'edge3', 'by reason: the one that is known');
UPDATE sensorlog.reject SET writer = 'edge7' WHERE topic = 't/1';
SELECT is((SELECT writers FROM sensorlog.reject_reasons_last_day WHERE mapping = 'm'), 'edge3, edge7', 'by reason: all that had it');
SELECT is((SELECT writers FROM sensorlog.reject_reasons_last_day WHERE mapping IS NULL), NULL, 'by reason: unknown');
SELECT is(sensorlog.payload_text('12345', 3), '123', 'the beginning');
SELECT is(sensorlog.payload_text('\xc3a4c3a4', 1), 'ä', 'in characters');
SELECT is(sensorlog.payload_text('\xc3'), '\xc3', 'half a character');
SELECT is(sensorlog.payload_text(''), '', 'an empty payload');
SELECT index_is_type('sensorlog', 'reject', 'reject_rejected_at', 'btree', 'the last day is found by an index');
SELECT * FROM finish();
