-- Where it is written down which migrations were applied. Runs before every other one, and may run
-- again. CREATE SCHEMA IF NOT EXISTS would ask for CREATE on the database even where the schema is
-- there.
DO $$
BEGIN
    IF to_regnamespace('sensorlog') IS NULL THEN
        CREATE SCHEMA sensorlog;
        COMMENT ON SCHEMA sensorlog IS
            'sensorlogd''s own tables, and functions and views for dashboards';
    END IF;
    IF to_regclass('sensorlog.schema_version') IS NULL THEN
        CREATE TABLE sensorlog.schema_version (
            version    integer     PRIMARY KEY,
            name       text        NOT NULL,
            checksum   text        NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now(),
            applied_by text        NOT NULL DEFAULT current_user
        );
        COMMENT ON TABLE sensorlog.schema_version IS
            'The migrations that were applied, by sensorlogd or by "sensorlogd migrate"';
        COMMENT ON COLUMN sensorlog.schema_version.checksum IS
            'SHA-256 of the migration''s text as it was applied';
    END IF;
END
$$;
