--
-- Settings that writers and nodes share.
--
CREATE TABLE IF NOT EXISTS pgrelay.setting (
    name  text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE pgrelay.setting IS
    'settings that writers and nodes share; change them with pgrelay.setting_set()';

INSERT INTO pgrelay.setting (name, value)
VALUES ('channel', 'pgrelay'),
       ('retention', '10 min'),
       ('log', 'logged')
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS pgrelay.event_type (
    type     text PRIMARY KEY,
    announce text NOT NULL DEFAULT 'commit' CHECK (announce IN ('commit', 'deferred')),
    logged   boolean NOT NULL DEFAULT true,
    CHECK (announce = 'commit' OR logged)
);
COMMENT ON TABLE pgrelay.event_type IS
    'types of events that are not treated as others; change them with pgrelay.announce_set() and pgrelay.logged_set()';
COMMENT ON COLUMN pgrelay.event_type.announce IS
    'commit: the writer''s transaction notifies; deferred: a node announces what has been committed';
COMMENT ON COLUMN pgrelay.event_type.logged IS 'false: exempt, not written to the log';

CREATE OR REPLACE FUNCTION pgrelay.setting_get(name text)
RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result text := (SELECT s.value FROM pgrelay.setting s WHERE s.name = setting_get.name);
BEGIN
    IF result IS NULL THEN
        RAISE EXCEPTION 'unrecognized setting "%"', name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The settings are: '
                         || (SELECT string_agg(s.name, ', ' ORDER BY s.name) FROM pgrelay.setting s)
                         || '.';
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION pgrelay.setting_get(text) IS 'value of a setting';

CREATE OR REPLACE FUNCTION pgrelay._setting_check(name text, value text)
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    retention interval;
BEGIN
    CASE name
        WHEN 'channel' THEN
            IF octet_length(value) NOT BETWEEN 1 AND 63 OR value ~ '[[:cntrl:]]' THEN
                RAISE EXCEPTION 'invalid value for setting "channel": "%"', value
                    USING ERRCODE = 'invalid_parameter_value',
                          HINT = 'A channel name has 1 to 63 octets and no control characters.';
            END IF;
        WHEN 'retention' THEN
            BEGIN
                retention := value;
            EXCEPTION WHEN data_exception THEN
                NULL;
            END;
            IF retention IS NULL OR retention NOT BETWEEN '10 s' AND '30 days' THEN
                RAISE EXCEPTION 'invalid value for setting "retention": "%"', value
                    USING ERRCODE = 'invalid_parameter_value',
                          HINT = 'Give an interval from 10 seconds to 30 days, such as "10 min".';
            END IF;
        WHEN 'log' THEN
            IF value NOT IN ('logged', 'unlogged') THEN
                RAISE EXCEPTION 'invalid value for setting "log": "%"', value
                    USING ERRCODE = 'invalid_parameter_value',
                          HINT = 'It is "logged" (survives a crash) or "unlogged" (does not, and costs no WAL).';
            END IF;
        ELSE
            NULL;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgrelay._setting_check(text, text) IS 'raises an error unless the value suits the setting';

CREATE OR REPLACE FUNCTION pgrelay.setting_set(name text, value text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgrelay.setting_get(name);      -- it exists
    IF value IS NULL THEN
        RAISE EXCEPTION 'value of setting "%" must not be null', name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Read the present one with pgrelay.setting_get().';
    END IF;
    PERFORM pgrelay._setting_check(name, value);
    UPDATE pgrelay.setting s SET value = setting_set.value WHERE s.name = setting_set.name;
END
$$;
COMMENT ON FUNCTION pgrelay.setting_set(text, text) IS 'changes a setting';

-- Types of events

CREATE OR REPLACE FUNCTION pgrelay._event_type_put(type text, announce text, logged boolean)
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    present pgrelay.event_type;
BEGIN
    IF NOT pgrelay._is_word(type) THEN
        RAISE EXCEPTION 'invalid type of events: %', coalesce('"' || left(type, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be 1 to 63 letters, digits, underscores or hyphens.';
    END IF;
    LOCK TABLE pgrelay.event_type IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO present FROM pgrelay.event_type t WHERE t.type = _event_type_put.type;
    announce := coalesce(announce, present.announce, 'commit');
    logged := coalesce(logged, present.logged, true);

    IF announce = 'deferred' AND NOT logged THEN
        RAISE EXCEPTION 'events of type "%" cannot be both deferred and exempt from the log', type
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format(CASE WHEN present.logged
                                     THEN 'They are deferred, and announced out of the log: pgrelay.announce_set(%L, ''commit'') ends that.'
                                     ELSE 'They are exempt; deferred ones are announced out of the log: pgrelay.logged_set(%L, true) has them logged.' END,
                                type);
    ELSIF announce = 'commit' AND logged THEN
        DELETE FROM pgrelay.event_type t WHERE t.type = _event_type_put.type;
    ELSE
        INSERT INTO pgrelay.event_type AS t VALUES (type, announce, logged)
        ON CONFLICT ON CONSTRAINT event_type_pkey
            DO UPDATE SET announce = excluded.announce, logged = excluded.logged;
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._event_type_put(text, text, boolean) IS
    'changes how events of a type are treated; null: as it is';

CREATE OR REPLACE FUNCTION pgrelay.announce_set(type text, announce text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF announce IS NULL OR announce NOT IN ('commit', 'deferred') THEN
        RAISE EXCEPTION 'invalid way of announcing: %', coalesce('"' || left(announce, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It is "commit" (the writer''s transaction announces) or "deferred" (a node does).';
    END IF;
    PERFORM pgrelay._event_type_put(type, announce, NULL);
END
$$;
COMMENT ON FUNCTION pgrelay.announce_set(text, text) IS
    'sets how events of a type are announced: commit (the default) or deferred';

CREATE OR REPLACE FUNCTION pgrelay.logged_set(type text, logged boolean)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF logged IS NULL THEN
        RAISE EXCEPTION 'whether events are logged must not be null'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give true (the default), or false for events that are exempt from the log.';
    END IF;
    PERFORM pgrelay._event_type_put(type, NULL, logged);
END
$$;
COMMENT ON FUNCTION pgrelay.logged_set(text, boolean) IS
    'sets whether events of a type are logged (the default), or exempt';
