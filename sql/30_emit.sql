--
-- Emitting.
--
-- All events, whoever emits them, go through pgrelay._emit_rows(): it numbers
-- them, writes them to the log and packs them into notifications.  What it is given
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
    -- functions are named in full: it becomes a part of log_read()
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C')
$$;
COMMENT ON FUNCTION pgrelay._encode_key(text) IS 'a key as it is written in a topic';

CREATE OR REPLACE FUNCTION pgrelay._decode_key(key text)
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        key, '%2C', ','), '%2A', '*'), '%20', ' '), '%25', '%')
$$;
COMMENT ON FUNCTION pgrelay._decode_key(text) IS 'a key out of a topic';

CREATE OR REPLACE FUNCTION pgrelay._is_word(word text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(word ~ '^[A-Za-z0-9_-]{1,63}$', false)
$$;
COMMENT ON FUNCTION pgrelay._is_word(text) IS 'may this be a type or an action?';

CREATE OR REPLACE FUNCTION pgrelay._log_events(slot smallint, at timestamptz, ids bigint[],
                                               types text[], actions text[], keys text[],
                                               payloads text[], deferreds boolean[])
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
    SELECT slot, e.id, at, e.type, e.action, e.key, e.payload, e.deferred
    FROM unnest(ids, types, actions, keys, payloads, deferreds) AS e (id, type, action, key, payload, deferred);
END
$$;
COMMENT ON FUNCTION pgrelay._log_events(smallint, timestamptz, bigint[], text[], text[], text[], text[], boolean[]) IS
    'writes events to the log';

CREATE OR REPLACE FUNCTION pgrelay._ticket(id bigint, topic text, payload text, origin text)
RETURNS text LANGUAGE sql IMMUTABLE
AS $$
    SELECT pg_catalog.concat('t ', id, topic, pg_catalog.octet_length(payload), ' ',
                             pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(payload, 'UTF8')), 'hex'), ' ', origin)
$$;
COMMENT ON FUNCTION pgrelay._ticket(bigint, text, text, text) IS
    'record of an event whose payload does not fit into a notification; "origin": the node that published it, or "-"';

-- What a connection emits within a second stays in its order: after a deferred
-- event, those of other types are deferred as well.
CREATE OR REPLACE FUNCTION pgrelay._deferring_set(at timestamptz)
RETURNS text LANGUAGE sql VOLATILE
AS $$
    SELECT set_config('pgrelay.deferring',
                      concat(pg_current_xact_id(), ' ', floor(date_part('epoch', at) * 1000)::bigint), false)
$$;
COMMENT ON FUNCTION pgrelay._deferring_set(timestamptz) IS 'notes that this transaction has deferred an event';

CREATE OR REPLACE FUNCTION pgrelay._is_deferring(since timestamptz)
RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE
    mark text[] := string_to_array(current_setting('pgrelay.deferring', true), ' ');
BEGIN
    -- as text: it is a setting that anyone may have set
    RETURN coalesce(mark[1] = pg_current_xact_id_if_assigned()::text, false)
        OR coalesce(mark[2] COLLATE "C" > floor(date_part('epoch', since) * 1000)::bigint::text, false);
END
$$;
COMMENT ON FUNCTION pgrelay._is_deferring(timestamptz) IS
    'has this transaction deferred an event, or this connection since a time (null: not asked)?';

-- Takes (type, action, key, payload) from a cursor, in the order in which they
-- are to be told.  An event is announced here, or deferred: then it is only
-- logged, and a node announces it (announce()).  An exempt one is not logged.
--
-- Neither the log's rows nor the packets are held for longer than a chunk, but
-- the server itself keeps the notifications of a transaction in memory until it
-- commits: past inline_limit in one call, therefore, events go as tickets.
--
-- When nobody has rotated the log for long, it must not grow for ever: it then
-- takes only what does not fit into a notification, and that up to stale_limit.
--
-- "sticky": it keeps to the order of what the connection has emitted before.
-- "origin": the node that publishes, as tickets have it, or "-".  A deferred event
-- that is alone takes a short way.
CREATE OR REPLACE FUNCTION pgrelay._emit_rows(source refcursor, want_ids boolean, sticky boolean, origin text,
                                              OUT all_ids bigint[], OUT tickets bigint[])
LANGUAGE plpgsql
AS $$
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    channel text;
    slot smallint;
    log_inline boolean;
    deferred_types text[];
    exempt_types text[];

    type text;
    action text;
    key text;
    payload text;
    id bigint;
    deferring boolean;          -- from here on
BEGIN
    SELECT o.channel, o.slot, at < o.stale_at, o.deferred, o.exempt
    INTO channel, slot, log_inline, deferred_types, exempt_types
    FROM pgrelay.emit_setting o;
    IF NOT FOUND THEN
        -- a snapshot of a time before it was made, by an upgrade
        SELECT o.channel, o.slot, at < o.stale_at INTO STRICT channel, slot, log_inline
        FROM pgrelay._emit_setting_now() o;
    END IF;

    FETCH source INTO type, action, key, payload;
    deferring := log_inline AND deferred_types IS NOT NULL AND type IS NOT NULL
                 AND (type = ANY (deferred_types)
                      OR pgrelay._is_deferring(CASE WHEN sticky THEN at - interval '1 s' END));
    IF deferring AND exempt_types IS NULL THEN
        id := nextval('pgrelay.event_id_seq');
        INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
        VALUES (slot, id, at, type, action, key, payload, true);
        FETCH source INTO type, action, key, payload;
        IF NOT FOUND THEN
            PERFORM pgrelay._deferring_set(at);
            CLOSE source;
            all_ids := CASE WHEN want_ids THEN ARRAY[id] END;
            RETURN;
        END IF;
        IF want_ids THEN
            all_ids := ARRAY[id];
        END IF;
    END IF;

    DECLARE
        packet_limit CONSTANT integer := 7999;
        inline_limit CONSTANT integer := 64 * 1024 * 1024;
        stale_limit CONSTANT integer := 256 * 1024 * 1024;
        chunk_octets CONSTANT integer := 1024 * 1024;
        row_octets CONSTANT integer := 500;

        usec CONSTANT bigint := round(extract(epoch FROM at) * 1000000);
        log_tickets boolean := log_inline;
        exempt boolean := false;
        deferred boolean := false;
        topic_type text;        -- what the present value of "topic" was made of
        topic_action text;
        topic_key text;
        topic text;             -- with the time before it, and spaces around
        kind text := CASE WHEN log_inline THEN 'e ' ELSE 'u ' END;
        line text;
        octets integer;
        fits boolean;
        packet text := '';
        inline_octets bigint := 0;

        waiting_octets bigint := 0;     -- of the rows that are not in the log yet
        ids bigint[];
        types text[];
        actions text[];
        keys text[];
        payloads text[];
        deferreds boolean[];
    BEGIN
        IF NOT log_inline THEN
            PERFORM pgrelay._log_skip();
            log_tickets := pg_total_relation_size(to_regclass('pgrelay.event_' || slot)) < stale_limit;
            deferred_types := NULL;
        END IF;

        WHILE type IS NOT NULL LOOP
            IF key IS DISTINCT FROM topic_key OR action <> topic_action OR type <> topic_type THEN
                topic_type := type;
                topic_action := action;
                topic_key := key;
                topic := concat(' ', usec, ' ', type, '.', action, '.', pgrelay._encode_key(key), ' ');
                IF exempt_types IS NOT NULL THEN
                    exempt := type = ANY (exempt_types);
                    kind := CASE WHEN log_inline AND NOT exempt THEN 'e ' ELSE 'u ' END;
                END IF;
                IF deferred_types IS NOT NULL THEN
                    deferring := deferring OR type = ANY (deferred_types);
                    deferred := deferring AND NOT exempt;
                END IF;
            END IF;

            id := nextval('pgrelay.event_id_seq');
            octets := octet_length(payload);
            fits := deferred OR octets < packet_limit AND (inline_octets < inline_limit OR NOT log_inline);
            IF NOT deferred THEN
                IF fits THEN
                    line := kind || id || topic || payload;
                    inline_octets := inline_octets + octets;
                    fits := octet_length(line) <= packet_limit;
                END IF;
                IF NOT fits THEN
                    line := pgrelay._ticket(id, topic, payload, origin);
                END IF;

                IF packet = '' THEN
                    packet := line;
                ELSIF octet_length(packet) + octet_length(line) < packet_limit THEN
                    packet := packet || E'\n' || line;
                ELSE
                    PERFORM pg_notify(channel, packet);
                    packet := line;
                END IF;
            END IF;

            IF want_ids THEN
                all_ids := all_ids || id;
                IF NOT fits THEN
                    tickets := tickets || id;
                END IF;
            END IF;

            IF log_inline AND NOT exempt OR log_tickets AND NOT fits THEN
                ids := ids || id;
                types := types || type;
                actions := actions || action;
                keys := keys || key;
                payloads := payloads || payload;
                deferreds := deferreds || deferred;
                waiting_octets := waiting_octets + octets + row_octets;
                IF waiting_octets >= chunk_octets THEN
                    PERFORM pgrelay._log_events(slot, at, ids, types, actions, keys, payloads, deferreds);
                    waiting_octets := 0;
                    ids := NULL;
                    types := NULL;
                    actions := NULL;
                    keys := NULL;
                    payloads := NULL;
                    deferreds := NULL;
                END IF;
            END IF;

            FETCH source INTO type, action, key, payload;
        END LOOP;

        IF waiting_octets > 0 THEN
            PERFORM pgrelay._log_events(slot, at, ids, types, actions, keys, payloads, deferreds);
        END IF;
        IF packet <> '' THEN
            PERFORM pg_notify(channel, packet);
        END IF;
        IF deferring THEN
            PERFORM pgrelay._deferring_set(at);
        END IF;
    END;
    CLOSE source;
END
$$;
COMMENT ON FUNCTION pgrelay._emit_rows(refcursor, boolean, boolean, text) IS
    'the one way by which events get out: logs and announces what the cursor holds; returns, if wanted, their ids and those of the tickets among them';

-- Trigger functions that pgrelay.watch() made in version 1 call it.
CREATE OR REPLACE FUNCTION pgrelay._emit(source refcursor, want_ids boolean DEFAULT false)
RETURNS bigint[] LANGUAGE plpgsql
AS $$
BEGIN
    RETURN (pgrelay._emit_rows(source, want_ids, true, '-')).all_ids;
END
$$;
COMMENT ON FUNCTION pgrelay._emit(refcursor, boolean) IS 'emits what the cursor holds; for trigger functions of version 1';

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
    RETURN (pgrelay._emit_rows(source, true, true, '-')).all_ids[1];
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
    RETURN QUERY SELECT unnest((pgrelay._emit_rows(source, true, true, '-')).all_ids);
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
