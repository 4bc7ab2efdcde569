--
-- Connections: nodes tell which sessions have been opened and closed.
--
CREATE OR REPLACE FUNCTION pgrelay._connection_fault(event jsonb)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN jsonb_typeof(event) <> 'object' THEN 'it is no object'
        WHEN coalesce(event->>'action' NOT IN ('create', 'delete'), true) THEN 'its action is neither create nor delete'
        WHEN jsonb_typeof(event->'principal') IS DISTINCT FROM 'string' THEN 'its principal is no string'
        WHEN jsonb_typeof(event->'object') IS DISTINCT FROM 'object' THEN 'its object is no object'
    END
$$;
COMMENT ON FUNCTION pgrelay._connection_fault(jsonb) IS
    'why this cannot tell of a connection; null: it can';

CREATE OR REPLACE FUNCTION pgrelay._connections_check(origin text, events jsonb)
RETURNS void LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    fault record;
BEGIN
    PERFORM pgrelay._origin_check(origin);
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'invalid list of connections: %', coalesce(jsonb_typeof(events), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be a JSON array of {"action": "create" OR "delete", "principal": "...", "object": {...}}.';
    END IF;
    SELECT e.n - 1 AS index, pgrelay._connection_fault(e.value) AS reason INTO fault
    FROM jsonb_array_elements(events) WITH ORDINALITY AS e (value, n)
    WHERE pgrelay._connection_fault(e.value) IS NOT NULL ORDER BY e.n LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invalid connection % in the list: %', fault.index, fault.reason
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be {"action": "create" OR "delete", "principal": "...", "object": {...}}.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._connections_check(text, jsonb) IS
    'raises an error unless these are a node''s id and a list of what its connections did';

CREATE OR REPLACE FUNCTION pgrelay.connections_changed(origin text, events jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source refcursor;
BEGIN
    PERFORM pgrelay._connections_check(origin, events);
    OPEN source FOR
        SELECT 'connections', e.action, e.key,
               concat('{"group_name": "connections", "action": "', e.action, '", "key": ', to_jsonb(e.key),
                      ', "object": ', e.object, ', "principal": "pgrelay"}')
        FROM (SELECT e.value->>'action' AS action, pgrelay._clean_key(e.value->>'principal') AS key,
                     e.value->'object' AS object, e.n
              FROM jsonb_array_elements(events) WITH ORDINALITY AS e (value, n)) e
        ORDER BY e.n;
    PERFORM pgrelay._emit_rows(source, false, true, pgrelay._encode_key(origin));
    RETURN jsonb_array_length(events);
END
$$;
COMMENT ON FUNCTION pgrelay.connections_changed(text, jsonb) IS
    'emits which of a node''s connections have been opened and closed; returns how many';
