--
-- Publishing through a node.
--
-- A node hands over what its clients ask to have published, several requests at
-- a time, and on whose behalf.  One that is refused harms no other; the events of
-- the others go out together, as if one call of emit_many() had emitted them.
--
-- A number of a few octets, such as 1e100000, can be a very long text: none is made
-- but of the payloads of those who may publish.
CREATE OR REPLACE FUNCTION pgrelay._publish_shown(value jsonb)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN translate(left(value::text, 100), E'\x7f', '?')
                                    ELSE coalesce(jsonb_typeof(value), 'it is missing') END
$$;
COMMENT ON FUNCTION pgrelay._publish_shown(jsonb) IS 'a value as error messages show it, in one line';

CREATE OR REPLACE FUNCTION pgrelay._publish_string(value jsonb)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END
$$;
COMMENT ON FUNCTION pgrelay._publish_string(jsonb) IS 'a JSON string as text; null when it is none';

CREATE OR REPLACE FUNCTION pgrelay._publish_unknown(object jsonb, fields text[])
RETURNS text LANGUAGE sql STABLE
AS $$
    SELECT concat('has the unknown field ', min(pgrelay._publish_shown(to_jsonb(k))), '; it takes ',
                  array_to_string(fields, ', '))
    FROM jsonb_object_keys(object - fields) k
$$;
COMMENT ON FUNCTION pgrelay._publish_unknown(jsonb, text[]) IS 'tells of a field that is none of these';

-- STABLE, not IMMUTABLE: else it would not become a part of the query.
CREATE OR REPLACE FUNCTION pgrelay._publish_fault(event jsonb, type text, action text, key text)
RETURNS text LANGUAGE sql STABLE
AS $$
    SELECT CASE
        WHEN jsonb_typeof(event) <> 'object' THEN
            concat('an event must be a JSON object with type, action, key and payload; this is: ',
                   pgrelay._publish_shown(event))
        WHEN event - '{type,action,key,payload}'::text[] <> '{}' THEN
            concat('an event ', pgrelay._publish_unknown(event, '{type,action,key,payload}'))
        WHEN NOT pgrelay._is_word(type) THEN
            concat('invalid type of an event: ', pgrelay._publish_shown(event->'type'),
                   '; it must be a string of 1 to 63 letters, digits, underscores or hyphens')
        WHEN type IN ('websocket', 'pgrelay', 'connections') THEN
            concat('events of type ', pgrelay._publish_shown(event->'type'),
                   ' are told by nodes alone; name another type')
        WHEN NOT pgrelay._is_word(action) THEN
            concat('invalid action of an event: ', pgrelay._publish_shown(event->'action'),
                   '; it must be a string of 1 to 63 letters, digits, underscores or hyphens')
        WHEN key IS NULL OR octet_length(key) > 255 OR key ~ '[\x01-\x1f\x7f]' THEN
            concat('invalid key of an event: ', pgrelay._publish_shown(event->'key'),
                   '; it must be a string of at most 255 octets without control characters, and may be left out')
        WHEN jsonb_typeof(event->'payload') IS DISTINCT FROM 'object' THEN
            concat('invalid payload of an event: ', pgrelay._publish_shown(event->'payload'),
                   '; it must be a JSON object')
    END
$$;
COMMENT ON FUNCTION pgrelay._publish_fault(jsonb, text, text, text) IS
    'why this cannot be an event; null: it can';

CREATE OR REPLACE FUNCTION pgrelay._publish_is_id(value jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE jsonb_typeof(value)
               WHEN 'number' THEN abs(value::numeric) < 1e18 AND value::numeric = trunc(value::numeric)
               ELSE false END
$$;
COMMENT ON FUNCTION pgrelay._publish_is_id(jsonb) IS 'may this be the id of a user?';

CREATE OR REPLACE FUNCTION pgrelay._publish_request_fault(request jsonb)
RETURNS text LANGUAGE sql STABLE
AS $$
    SELECT CASE
        WHEN jsonb_typeof(request) <> 'object' THEN
            concat('a request must be a JSON object with user and events; this is: ',
                   pgrelay._publish_shown(request))
        WHEN request - '{user,events}'::text[] <> '{}' THEN
            concat('a request ', pgrelay._publish_unknown(request, '{user,events}'))
        WHEN NOT pgrelay._publish_is_id(request->'user') THEN
            concat('invalid user of a request: ', pgrelay._publish_shown(request->'user'),
                   '; it must be the id of a user')
        WHEN coalesce(jsonb_typeof(request->'events') NOT IN ('object', 'array'), true) THEN
            concat('there is no event: ', pgrelay._publish_shown(request->'events'),
                   '; give one event, or a list of them')
        WHEN jsonb_typeof(request->'events') = 'object' THEN
            NULL
        WHEN jsonb_array_length(request->'events') = 0 THEN
            'there is no event: the list is empty; give one event, or a list of them'
        WHEN jsonb_array_length(request->'events') > 10000 THEN
            concat('too many events: ', jsonb_array_length(request->'events'), '; give at most 10000 at a time')
    END
$$;
COMMENT ON FUNCTION pgrelay._publish_request_fault(jsonb) IS
    'why this cannot be a request, whatever its events are; null: it can';

-- OFFSET 0 has what is used several times made once.
CREATE OR REPLACE FUNCTION pgrelay._publish_events(requests jsonb)
RETURNS TABLE (request integer, index integer, type text, action text, key text, payload text,
               error text, refused text)
LANGUAGE sql STABLE
AS $$
    WITH request AS MATERIALIZED (
        SELECT r.n::integer - 1 AS request, r.fault,
               CASE WHEN r.fault IS NULL THEN (r.value->'user')::bigint END AS user_id,
               CASE WHEN r.fault IS NOT NULL THEN '[]'
                    WHEN jsonb_typeof(r.value->'events') = 'array' THEN r.value->'events'
                    ELSE jsonb_build_array(r.value->'events') END AS events
        FROM (SELECT r.value, r.n, pgrelay._publish_request_fault(r.value) AS fault
              FROM jsonb_array_elements(requests) WITH ORDINALITY AS r (value, n) OFFSET 0) r),
    granted AS MATERIALIZED (
        SELECT g.user_id || ' ' || g.pattern AS pattern FROM pgrelay.grants g
        WHERE g.publish AND g.user_id = ANY (ARRAY(SELECT DISTINCT r.user_id FROM request r)))
    SELECT r.request, NULL, NULL, NULL, NULL, NULL, r.fault, 'invalid' FROM request r WHERE r.fault IS NOT NULL
    UNION ALL
    SELECT e.request, e.index, e.type, e.action, e.key,
           CASE WHEN e.fault IS NULL AND e.granted THEN (e.value->'payload')::text END,
           CASE WHEN e.fault IS NOT NULL THEN e.fault
                WHEN NOT e.granted THEN
                    concat('this user may not publish ',
                           to_json(concat(e.type, '.', e.action, '.', pgrelay._encode_key(e.key))),
                           '; "pgrelay grant add --publish" allows it') END,
           CASE WHEN e.fault IS NOT NULL THEN 'invalid' WHEN NOT e.granted THEN 'denied' END
    FROM (SELECT e.*, pgrelay._publish_fault(e.value, e.type, e.action, e.key) AS fault,
                 e.who || e.type || '.*.*' IN (SELECT pattern FROM granted)
                 OR e.who || e.type || '.' || e.action || '.*' IN (SELECT pattern FROM granted)
                 OR e.who || '*.*.*' IN (SELECT pattern FROM granted)
                 OR e.who || '*.' || e.action || '.*' IN (SELECT pattern FROM granted)
                 OR e.who || e.type || '.' || e.action || '.' || pgrelay._encode_key(e.key)
                    IN (SELECT pattern FROM granted)
                 OR e.who || e.type || '.*.' || pgrelay._encode_key(e.key) IN (SELECT pattern FROM granted)
                 OR e.who || '*.' || e.action || '.' || pgrelay._encode_key(e.key) IN (SELECT pattern FROM granted)
                 OR e.who || '*.*.' || pgrelay._encode_key(e.key) IN (SELECT pattern FROM granted) AS granted
          FROM (SELECT r.request, r.user_id || ' ' AS who, e.n::integer - 1 AS index, e.value,
                       pgrelay._publish_string(e.value->'type') AS type,
                       pgrelay._publish_string(e.value->'action') AS action,
                       pgrelay._publish_string(coalesce(e.value->'key', '""')) AS key
                FROM request r, jsonb_array_elements(r.events) WITH ORDINALITY AS e (value, n) OFFSET 0) e
          OFFSET 0) e
$$;
COMMENT ON FUNCTION pgrelay._publish_events(jsonb) IS
    'the events of requests to publish, in order; "error" and "refused" tell why one, or a request as a whole, is not taken';

CREATE OR REPLACE FUNCTION pgrelay._origin_check(origin text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF coalesce(origin, '') = '' OR octet_length(origin) > 255 OR origin ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'invalid origin: %', coalesce('"' || left(origin, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be the id of a node: 1 to 255 octets without control characters.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._origin_check(text) IS 'raises an error unless this is a node''s id';

CREATE OR REPLACE FUNCTION pgrelay._publish_check(origin text, requests jsonb)
RETURNS void LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    PERFORM pgrelay._origin_check(origin);
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'invalid requests: %', coalesce(jsonb_typeof(requests), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'They must be a JSON array of {"user": ID, "events": EVENT OR LIST OF EVENTS}.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._publish_check(text, jsonb) IS
    'raises an error unless these are a node''s id and a list';

CREATE OR REPLACE FUNCTION pgrelay.publish(origin text, requests jsonb)
RETURNS TABLE (request integer, ids json, error text, refused text, index integer,
               ticket_id bigint, ticket_topic text, ticket_payload text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    numbers integer[];          -- of the requests that the events are of
    types text[];
    actions text[];
    keys text[];
    payloads text[];
    bad_numbers integer[];
    bad_indexes integer[];
    bad_errors text[];
    bad_refused text[];
    all_ids bigint[];
    tickets bigint[];
    source refcursor;
BEGIN
    PERFORM pgrelay._publish_check(origin, requests);

    SELECT array_agg(e.request), array_agg(e.type), array_agg(e.action), array_agg(e.key), array_agg(e.payload),
           array_agg(e.request) FILTER (WHERE e.error IS NOT NULL),
           array_agg(e.index) FILTER (WHERE e.error IS NOT NULL),
           array_agg(e.error) FILTER (WHERE e.error IS NOT NULL),
           array_agg(e.refused) FILTER (WHERE e.error IS NOT NULL)
    INTO numbers, types, actions, keys, payloads, bad_numbers, bad_indexes, bad_errors, bad_refused
    FROM pgrelay._publish_events(requests) e;
    IF bad_numbers IS NOT NULL THEN
        SELECT array_agg(e.request), array_agg(e.type), array_agg(e.action), array_agg(e.key), array_agg(e.payload)
        INTO numbers, types, actions, keys, payloads
        FROM unnest(numbers, types, actions, keys, payloads) AS e (request, type, action, key, payload)
        WHERE e.request NOT IN (SELECT unnest(bad_numbers));
    END IF;

    OPEN source FOR
        SELECT e.type, e.action, e.key, e.payload
        FROM unnest(types, actions, keys, payloads) AS e (type, action, key, payload);
    SELECT e.all_ids, e.tickets INTO all_ids, tickets
    FROM pgrelay._emit_rows(source, true, true, pgrelay._encode_key(origin)) e;

    RETURN QUERY
        SELECT e.request, json_agg(e.id ORDER BY e.id), NULL, NULL, NULL::integer, NULL::bigint, NULL, NULL
        FROM unnest(numbers, all_ids) AS e (request, id) GROUP BY e.request
        UNION ALL
        (SELECT DISTINCT ON (b.request) b.request, NULL, b.error, b.refused, b.index, NULL, NULL, NULL
         FROM unnest(bad_numbers, bad_errors, bad_refused, bad_indexes) AS b (request, error, refused, index)
         ORDER BY b.request, b.index)
        ORDER BY 1;
    IF tickets IS NOT NULL THEN
        RETURN QUERY
            SELECT e.request, NULL::json, NULL, NULL, NULL::integer, e.id,
                   concat(e.type, '.', e.action, '.', pgrelay._encode_key(e.key)), e.payload
            FROM unnest(numbers, all_ids, types, actions, keys, payloads)
                     AS e (request, id, type, action, key, payload)
            WHERE e.id IN (SELECT unnest(tickets))
            ORDER BY e.id;
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay.publish(text, jsonb) IS
    'emits what users ask a node to publish: a row for each request (ids, or error, refused and the first bad event''s index), then one for each event that went as a ticket';
