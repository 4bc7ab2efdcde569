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
       ('retention', '10 min')
ON CONFLICT DO NOTHING;

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
