-- What drains the spool and what replays rejects says so in the transaction of the rows.

CREATE TABLE sensorlog.spool_progress (
    spool  text        COLLATE "C" PRIMARY KEY,
    seq    bigint      NOT NULL CHECK (seq >= 0),
    at     timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE sensorlog.spool_progress IS
    'How much of each spool on an edge box is stored here';
COMMENT ON COLUMN sensorlog.spool_progress.spool IS 'Which one: an identifier that its file has until it is empty again, and the writer';
COMMENT ON COLUMN sensorlog.spool_progress.seq IS 'The last of its entries that is stored; all before it are too';
COMMENT ON COLUMN sensorlog.spool_progress.at IS 'When the transaction that stored it began';

-- The row's lock makes a second one wait; what the first has stored is then not stored again.
CREATE FUNCTION sensorlog.spool_advance(spool_id text, after_seq bigint, new_seq bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sensorlog.spool_progress AS p (spool, seq, at) VALUES (spool_id, 0, now())
    ON CONFLICT DO NOTHING;
    IF FOUND THEN -- a spool has a new identifier after each outage
        DELETE FROM sensorlog.spool_progress p WHERE p.at < now() - interval '1 year';
    END IF;
    UPDATE sensorlog.spool_progress p SET seq = new_seq, at = now()
     WHERE p.spool = spool_id AND p.seq = after_seq AND new_seq > after_seq;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'spool % is not at entry %', spool_id, after_seq USING ERRCODE = 'SL003';
    END IF;
END
$$;
COMMENT ON FUNCTION sensorlog.spool_advance IS
    'Says that this transaction stores the spool''s entries after after_seq through new_seq. SL003: it is elsewhere';

CREATE FUNCTION sensorlog.spool_position(spool_id text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(p.seq), 0) FROM sensorlog.spool_progress p WHERE p.spool = spool_id
$$;
COMMENT ON FUNCTION sensorlog.spool_position IS
    'The last of the spool''s entries that is stored, 0 if none; final once raise_epoch has returned';

CREATE FUNCTION sensorlog.take_rejects(ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    DELETE FROM sensorlog.reject r WHERE r.id = ANY (ids);
    GET DIAGNOSTICS taken = ROW_COUNT;
    IF taken <> cardinality(ids) THEN
        RAISE EXCEPTION '% of % rejects are there', taken, cardinality(ids) USING
            ERRCODE = 'SL004', HINT = 'Another replay may be running.';
    END IF;
END
$$;
COMMENT ON FUNCTION sensorlog.take_rejects IS
    'Takes rejects out of the table, in the transaction that stores their rows. SL004: one is not there any more';

ALTER TABLE sensorlog.reject ADD COLUMN client_id text;
COMMENT ON COLUMN sensorlog.reject.client_id IS
    'Client identifier of the publisher, where sensorlogd knew it: with the built-in broker';
ALTER TABLE sensorlog.reject ADD COLUMN writer text;
COMMENT ON COLUMN sensorlog.reject.writer IS 'The sensorlogd that rejected it; null: before this was kept';

CREATE OR REPLACE VIEW sensorlog.rejects_last_day AS
SELECT id, rejected_at, received_at, rejected_at - received_at AS delay, source, mapping, topic,
       reason, detail, sqlstate, payload_length, sensorlog.payload_text(payload) AS payload_text,
       payload, properties, qos, retain, dup, client_id, writer
  FROM sensorlog.reject
 WHERE rejected_at > now() - interval '1 day'
 ORDER BY rejected_at DESC, id DESC;

CREATE OR REPLACE VIEW sensorlog.reject_reasons_last_day AS
SELECT mapping, source, reason, count(*) AS n,
       min(rejected_at) AS first_at, max(rejected_at) AS last_at,
       (array_agg(topic ORDER BY id DESC))[1] AS last_topic,
       (array_agg(detail ORDER BY id DESC))[1] AS last_detail,
       string_agg(DISTINCT writer, ', ') AS writers
  FROM sensorlog.reject
 WHERE rejected_at > now() - interval '1 day'
 GROUP BY mapping, source, reason
 ORDER BY n DESC, last_at DESC;

-- Subscribers have QoS 2 identifiers too. After a restart the content tells a repetition from another
-- message under the same identifier.
ALTER TABLE sensorlog.exchange ADD COLUMN hash bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE sensorlog.exchange IS
    'QoS 2 messages from publishers, or from the brokers that are subscribed to, whose rows, or rejects, are '
    'committed and whose exchange has not ended: a repetition is not stored again';
COMMENT ON COLUMN sensorlog.exchange.writer IS 'The sensorlogd that received the message';
COMMENT ON COLUMN sensorlog.exchange.hash IS 'Of topic and payload; 0: it is not compared';

-- As it was, but the last thousand epochs are not forgotten however old they seem: where the
-- server's clock jumps ahead, the question what has become of a transaction still has its answer.
CREATE OR REPLACE FUNCTION sensorlog.raise_epoch(writer_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_epoch bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'raise_epoch needs transaction isolation READ COMMITTED'
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    INSERT INTO sensorlog.writer AS w (writer, epoch) VALUES (writer_name, 1)
    ON CONFLICT (writer) DO UPDATE SET epoch = w.epoch + 1 RETURNING w.epoch INTO new_epoch;
    UPDATE sensorlog.writer_progress p SET ended = true
     WHERE p.writer = writer_name AND p.epoch < new_epoch AND NOT p.ended;
    DELETE FROM sensorlog.writer_progress p
     WHERE p.writer = writer_name AND p.epoch < new_epoch - 1000 AND p.at < now() - interval '30 days';
    RETURN new_epoch;
END
$$;
