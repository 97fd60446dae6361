-- Writers, their epochs and progress (what an ambiguous COMMIT is resolved by), and the reject
-- table.

CREATE TABLE sensorlog.writer (
    writer text   COLLATE "C" PRIMARY KEY,
    epoch  bigint NOT NULL CHECK (epoch > 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE sensorlog.writer IS
    'One row per sensorlogd. Who raises the epoch is the writer from then on; '
    'transactions of older epochs cannot commit';

-- Updated once per transaction, so no other column than those of the primary key may ever be
-- indexed: then each update is a HOT one and the table stays at a page or two.
CREATE TABLE sensorlog.writer_progress (
    writer text        COLLATE "C" NOT NULL,
    epoch  bigint      NOT NULL,
    lane   integer     NOT NULL,
    seq    bigint      NOT NULL,
    at     timestamptz NOT NULL,
    ended  boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (writer, epoch, lane)
) WITH (fillfactor = 50);
COMMENT ON TABLE sensorlog.writer_progress IS
    'The last transaction that committed, per writer, epoch and lane (connection)';
COMMENT ON COLUMN sensorlog.writer_progress.seq IS 'Number of the transaction within its lane and epoch, from 1';
COMMENT ON COLUMN sensorlog.writer_progress.at IS 'When that transaction began';
COMMENT ON COLUMN sensorlog.writer_progress.ended IS 'The epoch is over: this row does not move any more';

CREATE TABLE sensorlog.writer_backend (
    writer        text        COLLATE "C" NOT NULL,
    pid           integer     NOT NULL,
    backend_start timestamptz NOT NULL,
    PRIMARY KEY (writer, pid, backend_start)
);
COMMENT ON TABLE sensorlog.writer_backend IS
    'Which server processes serve a writer, so that a successor can end those that were left behind';

CREATE TABLE sensorlog.reject (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rejected_at    timestamptz NOT NULL DEFAULT now(),
    received_at    timestamptz,
    source         text,
    mapping        text,
    topic          text        NOT NULL,
    payload        bytea       NOT NULL,
    payload_length bigint      NOT NULL,
    properties     jsonb,
    qos            smallint,
    retain         boolean,
    dup            boolean,
    reason         text        NOT NULL,
    detail         text,
    sqlstate       text
);
CREATE INDEX reject_rejected_at ON sensorlog.reject (rejected_at);
COMMENT ON TABLE sensorlog.reject IS
    'Messages (or their part for one mapping) that could not become rows: as they came, and why';
COMMENT ON COLUMN sensorlog.reject.received_at IS 'When sensorlogd received the message';
COMMENT ON COLUMN sensorlog.reject.source IS 'The subscriber, or the broker, that the message came by';
COMMENT ON COLUMN sensorlog.reject.mapping IS 'The mapping that failed; null: the message as a whole';
COMMENT ON COLUMN sensorlog.reject.payload IS 'The payload as it came; of an oversize one its beginning';
COMMENT ON COLUMN sensorlog.reject.payload_length IS 'Length of the payload that was sent, in bytes';
COMMENT ON COLUMN sensorlog.reject.properties IS 'MQTT 5 properties, where there were any';
COMMENT ON COLUMN sensorlog.reject.reason IS 'Why, in words that group well';
COMMENT ON COLUMN sensorlog.reject.detail IS 'What was wrong with this one';
COMMENT ON COLUMN sensorlog.reject.sqlstate IS 'PostgreSQL''s error code, where PostgreSQL refused the row';

-- Called once in each transaction, before its rows. The UPDATE's row lock is what the successor
-- waits for (raise_epoch updates the same row), so no further lock is needed; only the first
-- transaction of a lane, which has no row to lock yet, locks the writer's row. That is half the
-- cost of locking it FOR SHARE in each transaction, and connections side by side would make a
-- multixact of each.
CREATE FUNCTION sensorlog.advance(writer_name text, at_epoch bigint, on_lane integer, new_seq bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sensorlog.writer_progress p SET seq = new_seq, at = now()
     WHERE p.writer = writer_name AND p.epoch = at_epoch AND p.lane = on_lane
       AND NOT p.ended AND p.seq < new_seq;
    IF FOUND THEN
        RETURN;
    END IF;
    PERFORM FROM sensorlog.writer w WHERE w.writer = writer_name AND w.epoch = at_epoch FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of writer % is over', at_epoch, writer_name USING
            ERRCODE = 'SL001',
            HINT = 'Another sensorlogd may write under the same name: see [postgres] writer.';
    END IF;
    INSERT INTO sensorlog.writer_progress (writer, epoch, lane, seq, at)
    VALUES (writer_name, at_epoch, on_lane, new_seq, now()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'transaction % of lane %, epoch % of writer % has committed already',
            new_seq, on_lane, at_epoch, writer_name USING ERRCODE = 'SL002';
    END IF;
END
$$;
COMMENT ON FUNCTION sensorlog.advance IS
    'Says that this transaction is number new_seq of the lane. '
    'SL001: the epoch is over; SL002: not after the last one';

-- Waits for every transaction of older epochs: for those that hold the writer's row by the first
-- statement, for those that hold a lane's by the second, whose new snapshot sees what the first
-- have inserted. Hence READ COMMITTED.
CREATE FUNCTION sensorlog.raise_epoch(writer_name text) RETURNS bigint LANGUAGE plpgsql AS $$
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
     WHERE p.writer = writer_name AND p.epoch < new_epoch AND p.at < now() - interval '30 days';
    RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION sensorlog.raise_epoch IS
    'Begins a new epoch of the writer and returns it, after all transactions of older epochs have ended';

CREATE FUNCTION sensorlog.committed(writer_name text, at_epoch bigint, on_lane integer)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(p.seq), 0) FROM sensorlog.writer_progress p
     WHERE p.writer = writer_name AND p.epoch = at_epoch AND p.lane = on_lane
$$;
COMMENT ON FUNCTION sensorlog.committed IS
    'Number of the last transaction that committed, 0 if none; final once raise_epoch has returned';

CREATE FUNCTION sensorlog.attach(writer_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sensorlog.writer_backend WHERE ctid IN (
        SELECT b.ctid FROM sensorlog.writer_backend b
         WHERE b.writer = writer_name
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
                            WHERE a.pid = b.pid AND a.backend_start = b.backend_start)
           FOR UPDATE SKIP LOCKED);
    INSERT INTO sensorlog.writer_backend (writer, pid, backend_start)
    SELECT writer_name, a.pid, a.backend_start FROM pg_catalog.pg_stat_activity a
     WHERE a.pid = pg_backend_pid() AND a.backend_start IS NOT NULL -- null under a role of SET ROLE
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION sensorlog.attach IS
    'Records this server process as one of the writer''s, and forgets those that are gone';

-- A loop, since in a WHERE clause PostgreSQL may call pg_terminate_backend before it has looked at
-- the other conditions.
CREATE FUNCTION sensorlog.terminate_stale(writer_name text, live_pids integer[])
RETURNS SETOF integer LANGUAGE plpgsql AS $$
DECLARE
    stale integer;
BEGIN
    FOR stale IN
        SELECT b.pid FROM sensorlog.writer_backend b JOIN pg_catalog.pg_stat_activity a
            ON a.pid = b.pid AND a.backend_start = b.backend_start
         WHERE b.writer = writer_name AND b.pid <> pg_backend_pid()
           AND b.pid <> ALL (coalesce(live_pids, '{}'))
    LOOP
        IF pg_terminate_backend(stale) THEN
            RETURN NEXT stale;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION sensorlog.terminate_stale IS
    'Ends the writer''s recorded server processes that still live and are not in live_pids; returns their pids';
