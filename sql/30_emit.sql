--
-- Emitting.
--
-- All events, whoever emits them, go through pgrelay._emit(): it numbers them,
-- writes them to the log and packs them into notifications.  What it is given
-- has been checked.
--
DO $$
BEGIN
    IF to_regtype('pgrelay.new_event') IS NULL THEN
        CREATE TYPE pgrelay.new_event AS (type text, action text, key text, payload jsonb);
    END IF;
END
$$;
COMMENT ON TYPE pgrelay.new_event IS 'an event to emit';

CREATE OR REPLACE FUNCTION pgrelay._encode_key(key text)
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT replace(replace(replace(replace(key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C')
$$;
COMMENT ON FUNCTION pgrelay._encode_key(text) IS 'a key as it is written in a topic';

CREATE OR REPLACE FUNCTION pgrelay._is_word(word text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(word ~ '^[A-Za-z0-9_-]{1,63}$', false)
$$;
COMMENT ON FUNCTION pgrelay._is_word(text) IS 'may this be a type or an action?';

CREATE OR REPLACE FUNCTION pgrelay._log_events(slot smallint, at timestamptz, ids bigint[],
                                               types text[], actions text[], keys text[],
                                               payloads text[])
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload)
    SELECT slot, e.id, at, e.type, e.action, e.key, e.payload
    FROM unnest(ids, types, actions, keys, payloads) AS e (id, type, action, key, payload);
END
$$;
COMMENT ON FUNCTION pgrelay._log_events(smallint, timestamptz, bigint[], text[], text[], text[], text[]) IS
    'writes events to the log';

CREATE OR REPLACE FUNCTION pgrelay._ticket(id bigint, topic text, payload text)
RETURNS text LANGUAGE sql IMMUTABLE
AS $$
    SELECT concat('t ', id, topic, octet_length(payload), ' ',
                  encode(sha256(convert_to(payload, 'UTF8')), 'hex'), ' -')
$$;
COMMENT ON FUNCTION pgrelay._ticket(bigint, text, text) IS
    'record of an event whose payload does not fit into a notification';

-- Takes (type, action, key, payload) from a cursor, in the order in which they
-- are to be told.  Neither the log's rows nor the packets are held for longer
-- than a chunk, but the server itself keeps the notifications of a transaction
-- in memory until it commits: past inline_limit in one call, therefore, events go
-- as tickets.
--
-- When nobody has rotated the log for long, it must not grow for ever: it then
-- takes only what does not fit into a notification, and that up to stale_limit.
CREATE OR REPLACE FUNCTION pgrelay._emit(source refcursor, want_ids boolean DEFAULT false)
RETURNS bigint[] LANGUAGE plpgsql
AS $$
DECLARE
    packet_limit CONSTANT integer := 7999;
    inline_limit CONSTANT integer := 64 * 1024 * 1024;
    stale_limit CONSTANT integer := 256 * 1024 * 1024;
    chunk_octets CONSTANT integer := 1024 * 1024;
    row_octets CONSTANT integer := 500;

    at CONSTANT timestamptz := clock_timestamp();
    usec CONSTANT bigint := round(extract(epoch FROM at) * 1000000);
    channel text;
    slot smallint;
    log_inline boolean;
    log_tickets boolean;

    type text;
    action text;
    key text;
    payload text;
    id bigint;

    topic_type text;            -- what the present value of "topic" was made of
    topic_action text;
    topic_key text;
    topic text;                 -- with the time before it, and spaces around
    line text;
    octets integer;
    fits boolean;
    packet text := '';
    inline_octets bigint := 0;
    all_ids bigint[];

    waiting_octets bigint := 0; -- of the rows that are not in the log yet
    ids bigint[];
    types text[];
    actions text[];
    keys text[];
    payloads text[];
BEGIN
    SELECT c.value, s.slot, at < s.since + 2.5 * r.value::interval + interval '1 hour'
    INTO STRICT channel, slot, log_inline
    FROM pgrelay.setting c, pgrelay.setting r, pgrelay.log_slot s
    WHERE c.name = 'channel' AND r.name = 'retention' AND s.until IS NULL;

    log_tickets := log_inline
        OR pg_total_relation_size(to_regclass('pgrelay.event_' || slot)) < stale_limit;

    LOOP
        FETCH source INTO type, action, key, payload;
        EXIT WHEN NOT FOUND;

        IF key IS DISTINCT FROM topic_key OR action <> topic_action OR type <> topic_type THEN
            topic_type := type;
            topic_action := action;
            topic_key := key;
            topic := concat(' ', usec, ' ', type, '.', action, '.', pgrelay._encode_key(key), ' ');
        END IF;

        id := nextval('pgrelay.event_id_seq');
        octets := octet_length(payload);
        fits := octets < packet_limit AND (inline_octets < inline_limit OR NOT log_inline);
        IF fits THEN
            line := 'e ' || id || topic || payload;
            inline_octets := inline_octets + octets;
            fits := octet_length(line) <= packet_limit;
        END IF;
        IF NOT fits THEN
            line := pgrelay._ticket(id, topic, payload);
        END IF;

        IF packet = '' THEN
            packet := line;
        ELSIF octet_length(packet) + octet_length(line) < packet_limit THEN
            packet := packet || E'\n' || line;
        ELSE
            PERFORM pg_notify(channel, packet);
            packet := line;
        END IF;

        IF want_ids THEN
            all_ids := all_ids || id;
        END IF;

        IF log_inline OR log_tickets AND NOT fits THEN
            ids := ids || id;
            types := types || type;
            actions := actions || action;
            keys := keys || key;
            payloads := payloads || payload;
            waiting_octets := waiting_octets + octets + row_octets;
            IF waiting_octets >= chunk_octets THEN
                PERFORM pgrelay._log_events(slot, at, ids, types, actions, keys, payloads);
                waiting_octets := 0;
                ids := NULL;
                types := NULL;
                actions := NULL;
                keys := NULL;
                payloads := NULL;
            END IF;
        END IF;
    END LOOP;

    IF waiting_octets > 0 THEN
        PERFORM pgrelay._log_events(slot, at, ids, types, actions, keys, payloads);
    END IF;
    IF packet <> '' THEN
        PERFORM pg_notify(channel, packet);
    END IF;
    CLOSE source;
    RETURN all_ids;
END
$$;
COMMENT ON FUNCTION pgrelay._emit(refcursor, boolean) IS
    'the one way by which events get out: logs and announces what the cursor holds; returns their ids if wanted';

CREATE OR REPLACE FUNCTION pgrelay._check_event(type text, action text, key text, payload jsonb)
RETURNS void LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF NOT pgrelay._is_word(type) OR NOT pgrelay._is_word(action) THEN
        RAISE EXCEPTION 'invalid % of an event: %',
                CASE WHEN pgrelay._is_word(type) THEN 'action' ELSE 'type' END,
                coalesce('"' || left(CASE WHEN pgrelay._is_word(type) THEN action ELSE type END, 100) || '"',
                         'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be 1 to 63 letters, digits, underscores or hyphens.';
    END IF;
    IF key IS NULL OR octet_length(key) > 255 OR key ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'invalid key of an event: %',
                CASE WHEN key IS NULL THEN 'null'
                     WHEN octet_length(key) > 255 THEN octet_length(key) || ' octets long'
                     ELSE 'it holds a control character' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be at most 255 octets without control characters; it may be empty.';
    END IF;
    IF jsonb_typeof(payload) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'invalid payload of an event: %', coalesce(jsonb_typeof(payload), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be a JSON object.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._check_event(text, text, text, jsonb) IS
    'raises an error unless this can be an event';

CREATE OR REPLACE FUNCTION pgrelay.emit(type text, action text, key text, payload jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source refcursor;
BEGIN
    PERFORM pgrelay._check_event(type, action, key, payload);
    OPEN source FOR SELECT type, action, key, payload::text;
    RETURN (pgrelay._emit(source, true))[1];
END
$$;
COMMENT ON FUNCTION pgrelay.emit(text, text, text, jsonb) IS
    'emits an event when the transaction commits; returns its id';

CREATE OR REPLACE FUNCTION pgrelay.emit_many(events pgrelay.new_event[])
RETURNS SETOF bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source refcursor;
BEGIN
    PERFORM pgrelay._check_event(e.type, e.action, e.key, e.payload) FROM unnest(events) e;
    OPEN source FOR SELECT e.type, e.action, e.key, e.payload::text FROM unnest(events) e;
    RETURN QUERY SELECT unnest(pgrelay._emit(source, true));
END
$$;
COMMENT ON FUNCTION pgrelay.emit_many(pgrelay.new_event[]) IS
    'emits a set of events when the transaction commits; returns their ids, in the same order';

CREATE OR REPLACE FUNCTION pgrelay._split_group(group_name text, OUT name text, OUT value text,
                                                OUT is_id boolean)
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    parts text[] := coalesce(
        regexp_match(group_name, '^(.*)-([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$'),
        regexp_match(group_name, '^(.*)-([0-9]+)$'));
BEGIN
    is_id := parts IS NOT NULL;
    IF NOT is_id THEN
        parts := regexp_match(group_name, '^([^-]*)-(.*)$');
    END IF;
    name := parts[1];
    value := parts[2];
END
$$;
COMMENT ON FUNCTION pgrelay._split_group(text) IS
    'NAME-VALUE: split before a number or UUID at the end, else at the first hyphen';

CREATE OR REPLACE FUNCTION pgrelay.emit_channel_notification(group_name text, payload jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record := pgrelay._split_group(group_name);
BEGIN
    IF NOT pgrelay._is_word(part.name) OR NOT (part.is_id OR pgrelay._is_word(part.value)) THEN
        RAISE EXCEPTION 'invalid group name: %', coalesce('"' || left(group_name, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be of the form NAME-VALUE, such as job_events-42 or jobs-status_changed.';
    END IF;

    IF part.is_id THEN
        RETURN pgrelay.emit(part.name,
                            CASE WHEN pgrelay._is_word(payload->>'event')
                                 THEN payload->>'event' ELSE 'message' END,
                            part.value, payload);
    END IF;
    RETURN pgrelay.emit(part.name, part.value,
                        coalesce(payload->>'unified_job_id', payload->>'id',
                                 payload->>'inventory_id', ''),
                        payload);
END
$$;
COMMENT ON FUNCTION pgrelay.emit_channel_notification(text, jsonb) IS
    'emits an event to a group, as AWX''s function of this name does; returns its id';
