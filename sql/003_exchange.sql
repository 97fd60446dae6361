-- QoS 2 identifiers of the built-in broker, each stored in the transaction of its message's rows.

CREATE TABLE sensorlog.exchange (
    writer    text        COLLATE "C" NOT NULL,
    session   bigint      NOT NULL,
    packet_id integer     NOT NULL CHECK (packet_id BETWEEN 1 AND 65535),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, session, packet_id)
);
COMMENT ON TABLE sensorlog.exchange IS
    'QoS 2 messages from publishers whose rows, or rejects, are committed and whose exchange has not ended: '
    'a repetition is not stored again';
COMMENT ON COLUMN sensorlog.exchange.writer IS 'The sensorlogd whose built-in broker received the message';
COMMENT ON COLUMN sensorlog.exchange.session IS 'Which session it came by; a session that is begun anew has another number';
COMMENT ON COLUMN sensorlog.exchange.packet_id IS 'Its packet identifier within that session';
COMMENT ON COLUMN sensorlog.exchange.at IS 'When the transaction that stored it began';
