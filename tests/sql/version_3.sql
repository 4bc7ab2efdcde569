
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE SCHEMA pgrelay;

ALTER SCHEMA pgrelay OWNER TO test_owner;

ALTER SCHEMA public OWNER TO test_owner;

CREATE TYPE pgrelay.new_event AS (
	type text,
	action text,
	key text,
	payload jsonb
);

ALTER TYPE pgrelay.new_event OWNER TO test_owner;

CREATE FUNCTION pgrelay._access_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    CASE TG_OP
        WHEN 'UPDATE' THEN
            PERFORM pgrelay._announce_access(ARRAY(SELECT user_id FROM old_rows
                                                   UNION SELECT user_id FROM new_rows));
        WHEN 'TRUNCATE' THEN
            PERFORM pgrelay._announce_access(ARRAY(SELECT id FROM pgrelay.users));
        ELSE
            PERFORM pgrelay._announce_access(ARRAY(SELECT user_id FROM rows));
    END CASE;
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._access_changed() OWNER TO test_owner;

CREATE FUNCTION pgrelay._announce_access(users bigint[]) RETURNS void
    LANGUAGE sql
    AS $$
    SELECT pg_notify(pgrelay.setting_get('channel'), string_agg('a ' || u.id, E'\n' ORDER BY u.id))
    FROM (SELECT d.id, row_number() OVER (ORDER BY d.id) / 300 AS packet
          FROM (SELECT DISTINCT id FROM unnest(users) id) d) u
    GROUP BY u.packet
$$;

ALTER FUNCTION pgrelay._announce_access(users bigint[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._check_event(type text, action text, key text, payload jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
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

ALTER FUNCTION pgrelay._check_event(type text, action text, key text, payload jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._clean_key(key text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    result text := coalesce(key, '');
BEGIN
    IF result ~ '[\x01-\x1f\x7f]' THEN
        result := regexp_replace(result, '[\x01-\x1f\x7f]', '?', 'g');
    END IF;
    IF octet_length(result) > 255 THEN
        result := left(result, 255);
        WHILE octet_length(result) > 255 LOOP
            result := left(result, -1);
        END LOOP;
    END IF;
    RETURN result;
END
$$;

ALTER FUNCTION pgrelay._clean_key(key text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._commit_to_disk() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'pgrelay', '');
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
END
$$;

ALTER FUNCTION pgrelay._commit_to_disk() OWNER TO test_owner;

CREATE FUNCTION pgrelay._decode_key(key text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        key, '%2C', ','), '%2A', '*'), '%20', ' '), '%25', '%')
$$;

ALTER FUNCTION pgrelay._decode_key(key text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._deferring_set(at timestamp with time zone) RETURNS text
    LANGUAGE sql
    AS $$
    SELECT set_config('pgrelay.deferring',
                      concat(pg_current_xact_id(), ' ', floor(date_part('epoch', at) * 1000)::bigint), false)
$$;

ALTER FUNCTION pgrelay._deferring_set(at timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._emit(source refcursor, want_ids boolean DEFAULT false) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN (pgrelay._emit_rows(source, want_ids, true, '-')).all_ids;
END
$$;

ALTER FUNCTION pgrelay._emit(source refcursor, want_ids boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._emit_rows(source refcursor, want_ids boolean, sticky boolean, origin text, OUT all_ids bigint[], OUT tickets bigint[]) RETURNS record
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

ALTER FUNCTION pgrelay._emit_rows(source refcursor, want_ids boolean, sticky boolean, origin text, OUT all_ids bigint[], OUT tickets bigint[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._emit_setting_follow() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    was text := (SELECT o.channel FROM pgrelay.emit_setting o);
    becomes text;
BEGIN
    PERFORM pgrelay._emit_setting_make();
    IF TG_RELID <> 'pgrelay.log_slot'::regclass THEN
        becomes := (SELECT o.channel FROM pgrelay.emit_setting o);
        PERFORM pg_notify(was, 's');
        IF becomes <> was THEN
            PERFORM pg_notify(becomes, 's');
        END IF;
    END IF;
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._emit_setting_follow() OWNER TO test_owner;

CREATE FUNCTION pgrelay._emit_setting_make() RETURNS void
    LANGUAGE sql
    AS $$
    UPDATE pgrelay.emit_setting o
    SET channel = n.channel, slot = n.slot, stale_at = n.stale_at, exempt = n.exempt,
        -- a connection may have deferred an event a moment ago
        deferred = coalesce(n.deferred, CASE WHEN o.deferred IS NOT NULL THEN '{}'::text[] END)
    FROM pgrelay._emit_setting_now() n
    WHERE o IS DISTINCT FROM n
$$;

ALTER FUNCTION pgrelay._emit_setting_make() OWNER TO test_owner;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE pgrelay.emit_setting (
    channel text NOT NULL,
    slot smallint NOT NULL,
    stale_at timestamp with time zone NOT NULL,
    deferred text[],
    exempt text[]
);

ALTER TABLE pgrelay.emit_setting OWNER TO test_owner;

CREATE FUNCTION pgrelay._emit_setting_now() RETURNS SETOF pgrelay.emit_setting
    LANGUAGE sql STABLE
    AS $$
    SELECT c.value, s.slot, s.since + 2.5 * r.value::interval + interval '1 hour',
           (SELECT array_agg(t.type) FROM pgrelay.event_type t WHERE t.announce = 'deferred'),
           (SELECT array_agg(t.type) FROM pgrelay.event_type t WHERE NOT t.logged)
    FROM pgrelay.setting c, pgrelay.setting r, pgrelay.log_slot s
    WHERE c.name = 'channel' AND r.name = 'retention' AND s.until IS NULL
$$;

ALTER FUNCTION pgrelay._emit_setting_now() OWNER TO test_owner;

CREATE FUNCTION pgrelay._encode_key(key text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    -- functions are named in full: it becomes a part of log_read()
    SELECT pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C')
$$;

ALTER FUNCTION pgrelay._encode_key(key text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._event_type_put(type text, announce text, logged boolean) RETURNS void
    LANGUAGE plpgsql
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

ALTER FUNCTION pgrelay._event_type_put(type text, announce text, logged boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._inventory_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    source refcursor;
BEGIN
    OPEN source FOR
        SELECT 'inventories', 'status_changed', n.id::text,
               format('{"group_name":"inventories","inventory_id":%s,"status":%s}', n.id,
                      to_json(n.status))
        FROM (SELECT r.id, r.status FROM new_rows r
              EXCEPT SELECT o.id, o.status FROM old_rows o) n
        ORDER BY n.id;
    PERFORM pgrelay._emit_rows(source, false, true, '-');
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._inventory_changed() OWNER TO test_owner;

CREATE FUNCTION pgrelay._is_deferring(since timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    mark text[] := string_to_array(current_setting('pgrelay.deferring', true), ' ');
BEGIN
    -- as text: it is a setting that anyone may have set
    RETURN coalesce(mark[1] = pg_current_xact_id_if_assigned()::text, false)
        OR coalesce(mark[2] COLLATE "C" > floor(date_part('epoch', since) * 1000)::bigint::text, false);
END
$$;

ALTER FUNCTION pgrelay._is_deferring(since timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._is_word(word text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    SELECT coalesce(word ~ '^[A-Za-z0-9_-]{1,63}$', false)
$_$;

ALTER FUNCTION pgrelay._is_word(word text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_await_events(id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM pgrelay.job j WHERE j.id = _job_await_events.id FOR UPDATE;
END
$$;

ALTER FUNCTION pgrelay._job_await_events(id bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    changed bigint[];
    workflows bigint[];
    source refcursor;
BEGIN
    -- EXCEPT, for a plan is kept: one that joins was made for as few or as many
    -- rows as the first statement had
    IF TG_OP = 'INSERT' THEN
        changed := ARRAY(SELECT n.id FROM new_rows n);
    ELSE
        changed := ARRAY(SELECT c.id FROM (SELECT n.id, n.status FROM new_rows n
                                           EXCEPT SELECT o.id, o.status FROM old_rows o) c);
    END IF;
    IF changed = '{}' THEN
        RETURN NULL;
    END IF;
    workflows := ARRAY(SELECT j.workflow_job_id FROM pgrelay.job j
                       WHERE j.id = ANY (changed) AND j.workflow_job_id IS NOT NULL
                       UNION SELECT j.id FROM pgrelay.job j
                       WHERE j.id = ANY (changed) AND j.kind = 'workflow_job');

    -- of each job its summary if it is over, its status, and the same to the
    -- workflow that spawned it; then how each workflow concerned stands
    OPEN source FOR
        WITH j AS (SELECT j.*, j AS job FROM pgrelay.job j WHERE j.id = ANY (changed))
        SELECT m.type, m.action, m.key, m.payload
        FROM (SELECT j.id, 1 AS place, 'jobs' AS type, 'summary' AS action, j.id::text AS key,
                     pgrelay._summary_message(j.id) AS payload
              FROM j WHERE pgrelay._status_is_final(j.status)
              UNION ALL
              SELECT j.id, 2, 'jobs', 'status_changed', j.id::text,
                     pgrelay._status_message(j.job, 'jobs')
              FROM j
              UNION ALL
              SELECT j.id, 3, 'workflow_events', j.status, j.workflow_job_id::text,
                     pgrelay._status_message(j.job, 'workflow_events')
              FROM j WHERE j.workflow_job_id IS NOT NULL
              UNION ALL
              SELECT NULL, 4, 'workflow_events', w.status, w.id::text,
                     pgrelay._workflow_message(w)
              FROM pgrelay.job w WHERE w.id = ANY (workflows)) m
        ORDER BY m.id NULLS LAST, m.place, m.key;
    PERFORM pgrelay._job_defer(changed);
    PERFORM pgrelay._emit_rows(source, false, false, '-');
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._job_changed() OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_check() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pgrelay._job_check_words(NEW);
    IF TG_OP = 'UPDATE' THEN
        PERFORM pgrelay._job_check_step(NEW.id, OLD.status, NEW.status);
        IF OLD.status <> NEW.status AND pgrelay._status_is_final(NEW.status) THEN
            PERFORM pgrelay._job_await_events(NEW.id);
        END IF;
    END IF;

    IF NEW.status = 'running' THEN
        NEW.started := coalesce(NEW.started, clock_timestamp());
    ELSIF pgrelay._status_is_final(NEW.status) THEN
        NEW.finished := coalesce(NEW.finished, clock_timestamp());
        NEW.elapsed := coalesce(NEW.elapsed, extract(epoch FROM NEW.finished - NEW.started), 0);
    END IF;
    RETURN NEW;
END
$$;

ALTER FUNCTION pgrelay._job_check() OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_check_step(id bigint, was text, becomes text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF becomes = was OR becomes = ANY (pgrelay._status_next(was)) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'job % cannot change its status from "%" to "%"', id, was, becomes
        USING ERRCODE = 'check_violation',
              HINT = CASE WHEN pgrelay._status_is_final(was)
                          THEN format('A job that is %s stays so.', was)
                          ELSE format('What may follow: %s.',
                                      array_to_string(pgrelay._status_next(was), ', ')) END;
END
$$;

ALTER FUNCTION pgrelay._job_check_step(id bigint, was text, becomes text) OWNER TO test_owner;

CREATE TABLE pgrelay.job (
    id bigint NOT NULL,
    kind text DEFAULT 'job'::text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'new'::text NOT NULL,
    created timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started timestamp with time zone,
    finished timestamp with time zone,
    elapsed numeric(20,3),
    unified_job_template_id bigint,
    project_id bigint,
    inventory_id bigint,
    inventory_source_id bigint,
    workflow_job_id bigint,
    workflow_job_template_id bigint,
    workflow_node_id bigint,
    instance_group_name text,
    CONSTRAINT job_kind_check CHECK ((kind = ANY (ARRAY['job'::text, 'project_update'::text, 'inventory_update'::text, 'ad_hoc_command'::text, 'system_job'::text, 'workflow_job'::text]))),
    CONSTRAINT job_status_check CHECK ((status = ANY (ARRAY['new'::text, 'pending'::text, 'waiting'::text, 'running'::text, 'successful'::text, 'failed'::text, 'error'::text, 'canceled'::text])))
);

ALTER TABLE pgrelay.job OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_check_words(job pgrelay.job) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    kinds CONSTANT text[] := '{job,project_update,inventory_update,ad_hoc_command,system_job,workflow_job}';
    statuses CONSTANT text[] := '{new,pending,waiting,running,successful,failed,error,canceled}';
BEGIN
    IF job.kind <> ALL (kinds) THEN
        RAISE EXCEPTION 'unrecognized kind of job: "%"', job.kind
            USING ERRCODE = 'invalid_text_representation',
                  HINT = 'The kinds are: ' || array_to_string(kinds, ', ') || '.';
    END IF;
    IF job.status <> ALL (statuses) THEN
        RAISE EXCEPTION 'unrecognized job status: "%"', job.status
            USING ERRCODE = 'invalid_text_representation',
                  HINT = 'The statuses are: ' || array_to_string(statuses, ', ') || '.';
    END IF;
END
$$;

ALTER FUNCTION pgrelay._job_check_words(job pgrelay.job) OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_defer(changed bigint[]) RETURNS void
    LANGUAGE sql
    AS $$
    SELECT pgrelay._deferring_set(clock_timestamp())
    FROM pgrelay.emit_setting o
    WHERE o.deferred IS NOT NULL
      AND EXISTS (SELECT FROM pgrelay.job j
                  WHERE j.id = ANY (changed) AND j.kind || '_events' = ANY (o.deferred));
$$;

ALTER FUNCTION pgrelay._job_defer(changed bigint[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_event_inserted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    first_job bigint;
    last_job bigint;
    row_count bigint;
    job_kind text;
    slot smallint;
    deferred boolean;
    ended bigint[];
    mark text;
    source refcursor;
BEGIN
    SELECT min(e.job_id), max(e.job_id), count(*) INTO first_job, last_job, row_count FROM new_rows e;
    IF first_job IS NULL THEN
        RETURN NULL;
    ELSIF first_job = last_job THEN
        SELECT j.kind, CASE WHEN pgrelay._status_is_final(j.status) THEN ARRAY[first_job] END,
               o.slot, at < o.stale_at AND j.kind || '_events' = ANY (o.deferred)
        INTO job_kind, ended, slot, deferred
        FROM pgrelay.job j LEFT JOIN pgrelay.emit_setting o ON true WHERE j.id = first_job;
    ELSE
        -- LIMIT keeps the look-up by the primary key in a plan that was made for
        -- a large statement
        SELECT CASE WHEN count(j.kind) = count(*) THEN 'any' END,
               array_agg(e.job_id) FILTER (WHERE pgrelay._status_is_final(j.status))
        INTO job_kind, ended
        FROM (SELECT DISTINCT n.job_id FROM new_rows n) e
             LEFT JOIN LATERAL (SELECT j.kind, j.status FROM pgrelay.job j
                                WHERE j.id = e.job_id LIMIT 1) j ON true;
    END IF;
    IF job_kind IS NULL THEN
        RAISE EXCEPTION 'could not serialize access: events of a job that was made after this transaction began'
            USING ERRCODE = 'serialization_failure',
                  HINT = 'Try the transaction again.';
    END IF;

    IF deferred THEN
        -- what pgrelay._emit_rows() would do, in one statement
        mark := pgrelay._deferring_set(at);
    END IF;
    IF deferred AND row_count = 1 THEN
        INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
        SELECT slot, nextval('pgrelay.event_id_seq'), at, job_kind || '_events', e.event, e.job_id::text,
               pgrelay._job_event_message(e, job_kind), true
        FROM new_rows e;
    ELSIF deferred THEN
        INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
        SELECT slot, nextval('pgrelay.event_id_seq'), at, job_kind || '_events', e.event, e.job_id::text,
               pgrelay._job_event_message(e, job_kind), true
        FROM (SELECT * FROM new_rows n ORDER BY n.counter) e;
    ELSIF first_job = last_job THEN
        OPEN source FOR
            SELECT job_kind || '_events', e.event, e.job_id::text, pgrelay._job_event_message(e, job_kind)
            FROM new_rows e ORDER BY e.counter;
        PERFORM pgrelay._emit_rows(source, false, false, '-');
    ELSE
        OPEN source FOR
            SELECT j.kind || '_events', e.event, e.job_id::text, pgrelay._job_event_message(e, j.kind)
            FROM new_rows e,
                 LATERAL (SELECT j.kind FROM pgrelay.job j WHERE j.id = e.job_id LIMIT 1) j
            ORDER BY e.job_id, e.counter;
        PERFORM pgrelay._emit_rows(source, false, false, '-');
    END IF;

    -- lines that come after a job's end: its summary once more
    IF ended <> '{}' THEN
        OPEN source FOR
            SELECT 'jobs', 'summary', id::text, pgrelay._summary_message(id)
            FROM unnest(ended) id ORDER BY id;
        PERFORM pgrelay._emit_rows(source, false, false, '-');
    END IF;
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._job_event_inserted() OWNER TO test_owner;

CREATE TABLE pgrelay.job_event (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    counter integer NOT NULL,
    event text DEFAULT 'verbose'::text NOT NULL,
    stdout text DEFAULT ''::text,
    start_line integer DEFAULT 0,
    end_line integer DEFAULT 0,
    uuid text DEFAULT gen_random_uuid(),
    parent_uuid text DEFAULT ''::text,
    event_data jsonb DEFAULT '{}'::jsonb,
    event_level integer DEFAULT 0,
    failed boolean DEFAULT false,
    changed boolean DEFAULT false,
    host_id bigint,
    host_name text DEFAULT ''::text,
    play text DEFAULT ''::text,
    role text DEFAULT ''::text,
    task text DEFAULT ''::text,
    created timestamp with time zone DEFAULT clock_timestamp(),
    modified timestamp with time zone DEFAULT clock_timestamp(),
    CONSTRAINT job_event_counter_check CHECK ((counter > 0)),
    CONSTRAINT job_event_event_check CHECK ((event ~ '^[A-Za-z0-9_-]{1,63}$'::text))
);

ALTER TABLE pgrelay.job_event OWNER TO test_owner;

CREATE FUNCTION pgrelay._job_event_message(e pgrelay.job_event, kind text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    -- format() is much the fastest way to this JSON
    SELECT format('{"type":"%s_event","id":%s,"%s":%s,"group_name":"%s_events","event":"%s","counter":%s,'
                  '"uuid":%s,"parent_uuid":%s,"stdout":%s,"start_line":%s,"end_line":%s,'
                  '"created":"%s","modified":"%s","url":"%s","event_data":%s,"event_level":%s,'
                  '"failed":%s,"changed":%s,"host":%s,"host_name":%s,"play":%s,"role":%s,"task":%s}',
                  kind, e.id, kind, e.job_id, kind, e.event, e.counter,
                  to_json(coalesce(e.uuid, '')), to_json(coalesce(e.parent_uuid, '')), to_json(coalesce(e.stdout, '')),
                  coalesce(e.start_line, 0), coalesce(e.end_line, 0),
                  pgrelay._json_time(coalesce(e.created, now())), pgrelay._json_time(coalesce(e.modified, now())),
                  CASE WHEN kind IN ('job', 'ad_hoc_command') THEN concat('/api/v2/', kind, '_events/', e.id) END,
                  coalesce(e.event_data, '{}'), coalesce(e.event_level, 0),
                  coalesce(e.failed, false)::text, coalesce(e.changed, false)::text,
                  coalesce(e.host_id::text, 'null'), to_json(coalesce(e.host_name, '')),
                  to_json(coalesce(e.play, '')), to_json(coalesce(e.role, '')), to_json(coalesce(e.task, '')))
$$;

ALTER FUNCTION pgrelay._job_event_message(e pgrelay.job_event, kind text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._json_join(a json, b json) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN b::text = '{}' THEN a::text
                ELSE left(a::text, -1) || ',' || substr(b::text, 2) END
$$;

ALTER FUNCTION pgrelay._json_join(a json, b json) OWNER TO test_owner;

CREATE FUNCTION pgrelay._json_time(at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

ALTER FUNCTION pgrelay._json_time(at timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._lock_all(relation regclass) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    deadline CONSTANT timestamptz := clock_timestamp() + interval '60 s';
BEGIN
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', relation);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > deadline THEN
                RAISE EXCEPTION 'the table "%" is in use, and has been for a minute', relation
                    USING ERRCODE = 'lock_not_available',
                          HINT = 'Open transactions use it: see pg_locks. End them, or try again when they have ended.';
            END IF;
        END;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$$;

ALTER FUNCTION pgrelay._lock_all(relation regclass) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_adopt() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    this_system bigint := (SELECT c.system_identifier FROM pg_control_system() c);
    last_id bigint := (SELECT s.last_value FROM pgrelay.event_id_seq s);
BEGIN
    IF (SELECT s.system FROM pgrelay.log_state s) = this_system THEN
        RETURN;
    END IF;
    FOR slot IN 0 .. 3 LOOP
        IF NOT pgrelay._log_empty(slot::smallint, 'infinity') THEN
            RETURN;             -- it is in use; the next time, then
        END IF;
    END LOOP;
    UPDATE pgrelay.log_state s
    SET system = this_system, truncated = pg_current_xact_id(), truncated_deferred = pg_current_xact_id(),
        truncated_id = last_id, lost = '0', skips = pgrelay._log_skips();
    PERFORM pgrelay._emit_setting_make();       -- the dump may have been without some tables' data
END
$$;

ALTER FUNCTION pgrelay._log_adopt() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_convert(before timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    left_slot smallint;
BEGIN
    FOR left_slot IN SELECT s.slot FROM pgrelay.log_slot s
                     WHERE s.until IS NOT NULL
                       AND NOT (pgrelay._log_has_kind(s.slot) AND pgrelay._log_has_index(s.slot)) LOOP
        IF (SELECT s.until < before FROM pgrelay.log_slot s WHERE s.slot = left_slot)
           OR pg_relation_size(to_regclass('pgrelay.event_' || left_slot)) = 0 THEN
            PERFORM pgrelay._log_empty(left_slot, before);
        END IF;
    END LOOP;
END
$$;

ALTER FUNCTION pgrelay._log_convert(before timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_empty(slot smallint, before timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    partition text := 'pgrelay.event_' || slot;
    newest timestamptz;
BEGIN
    BEGIN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', partition);
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;

    EXECUTE format('SELECT time FROM %s ORDER BY id DESC LIMIT 1', partition) INTO newest;
    -- newer than now: the clock was set back, and what was written before says nothing
    IF newest >= before AND newest <= clock_timestamp() THEN
        UPDATE pgrelay.log_slot s SET until = newest WHERE s.slot = _log_empty.slot;
        RETURN false;
    END IF;

    EXECUTE format('TRUNCATE %s', partition);
    PERFORM pgrelay._log_make(slot);
    RETURN true;
END
$$;

ALTER FUNCTION pgrelay._log_empty(slot smallint, before timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_events(slot smallint, at timestamp with time zone, ids bigint[], types text[], actions text[], keys text[], payloads text[], deferreds boolean[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
    SELECT slot, e.id, at, e.type, e.action, e.key, e.payload, e.deferred
    FROM unnest(ids, types, actions, keys, payloads, deferreds) AS e (id, type, action, key, payload, deferred);
END
$$;

ALTER FUNCTION pgrelay._log_events(slot smallint, at timestamp with time zone, ids bigint[], types text[], actions text[], keys text[], payloads text[], deferreds boolean[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_has_index(slot smallint) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT to_regclass('pgrelay.event_' || slot || '_deferred_idx') IS NOT NULL
$$;

ALTER FUNCTION pgrelay._log_has_index(slot smallint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_has_kind(slot smallint) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT c.relpersistence = CASE s.value WHEN 'unlogged' THEN 'u' ELSE 'p' END
    FROM pg_class c, pgrelay.setting s
    WHERE c.oid = to_regclass('pgrelay.event_' || slot) AND s.name = 'log'
$$;

ALTER FUNCTION pgrelay._log_has_kind(slot smallint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_health(slot smallint, since timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    -- a node asks for the rotation every ten seconds
    SELECT CASE WHEN clock_timestamp() >= o.stale_at THEN 'stale'
                WHEN clock_timestamp() >= since + r.value::interval / 2 + interval '1 min'
                     AND pg_relation_size(to_regclass('pgrelay.event_' || slot)) > 0 THEN 'waiting'
                ELSE 'ok' END
    FROM pgrelay.emit_setting o, pgrelay.setting r WHERE r.name = 'retention'
$$;

ALTER FUNCTION pgrelay._log_health(slot smallint, since timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_is_restored(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    state pgrelay.log_state := (SELECT s FROM pgrelay.log_state s);
BEGIN
    IF state.system <> (SELECT c.system_identifier FROM pg_control_system() c) THEN
        RETURN true;
    END IF;
    IF greatest(pg_snapshot_xmax(since), pg_snapshot_xmax(deferred_since))
       > pg_snapshot_xmax(pg_current_snapshot()) THEN
        RETURN true;
    END IF;
    RETURN last_id > state.truncated_id
       AND NOT EXISTS (SELECT FROM pgrelay.event e
                       WHERE e.id = last_id
                         AND round(extract(epoch FROM e.time) * 1000000) = last_time);
END
$$;

ALTER FUNCTION pgrelay._log_is_restored(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_is_unlogged() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'pgrelay.event'::regclass AND c.relpersistence = 'u')
$$;

ALTER FUNCTION pgrelay._log_is_unlogged() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_look() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    skipped bigint := pgrelay._log_skips();     -- before it is asked who is at it
    last_id bigint := (SELECT s.last_value FROM pgrelay.event_id_seq s);
BEGIN
    IF NOT EXISTS (SELECT FROM pgrelay.log_mark) THEN
        UPDATE pgrelay.log_state s SET lost = pg_current_xact_id(), truncated_id = last_id
        WHERE pgrelay._log_is_unlogged();
        INSERT INTO pgrelay.log_mark VALUES (clock_timestamp());
    END IF;
    IF skipped <> (SELECT s.skips FROM pgrelay.log_state s) AND NOT pgrelay._log_skipping() THEN
        UPDATE pgrelay.log_state s
        SET skips = skipped, truncated = x.xmax, truncated_deferred = x.xmax, truncated_id = last_id
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax) x;
    END IF;
END
$$;

ALTER FUNCTION pgrelay._log_look() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_make(slot smallint) RETURNS void
    LANGUAGE plpgsql
    AS $_$
BEGIN
    IF NOT pgrelay._log_has_kind(slot) THEN
        EXECUTE format('ALTER TABLE pgrelay.event_%s SET %s', slot, upper(pgrelay.setting_get('log')));
    END IF;
    IF NOT pgrelay._log_has_index(slot) THEN
        EXECUTE format('CREATE INDEX event_%1$s_deferred_idx ON pgrelay.event_%1$s (xid, id) WHERE deferred', slot);
    END IF;
END
$_$;

ALTER FUNCTION pgrelay._log_make(slot smallint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_skip() RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('pgrelay.log_skip', 0));
    PERFORM nextval('pgrelay.log_skip_seq');
END
$$;

ALTER FUNCTION pgrelay._log_skip() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_skipping() RETURNS boolean
    LANGUAGE sql
    AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks l, hashtextextended('pgrelay.log_skip', 0) k
        WHERE l.locktype = 'advisory' AND l.objsubid = 1
          AND l.classid::bigint = (k >> 32) & 4294967295 AND l.objid::bigint = k & 4294967295
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
$$;

ALTER FUNCTION pgrelay._log_skipping() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_skips() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM pgrelay.log_skip_seq s
$$;

ALTER FUNCTION pgrelay._log_skips() OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_touch(at timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $$
    -- a slot that an open transaction has written to is written to until now
    UPDATE pgrelay.log_slot s SET until = at
    WHERE s.until < at
      AND to_regclass('pgrelay.event_' || s.slot) IN
          (SELECT l.relation FROM pg_locks l
           WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
             AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));

    -- the clock was set back
    UPDATE pgrelay.log_slot s SET since = at WHERE s.since > at;
    UPDATE pgrelay.log_slot s SET until = at WHERE s.until > at;
$$;

ALTER FUNCTION pgrelay._log_touch(at timestamp with time zone) OWNER TO test_owner;

CREATE FUNCTION pgrelay._log_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    last_xid xid8;
    last_deferred xid8;
    last_id bigint;
BEGIN
    EXECUTE format('SELECT (SELECT xid FROM %1$s ORDER BY xid DESC LIMIT 1),'
                   ' (SELECT xid FROM %1$s WHERE deferred ORDER BY xid DESC LIMIT 1),'
                   ' (SELECT id FROM %1$s ORDER BY id DESC LIMIT 1)', TG_RELID::regclass)
    INTO last_xid, last_deferred, last_id;
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        last_xid := pg_current_xact_id();       -- there may be more than this snapshot shows
        last_deferred := last_xid;
        last_id := nextval('pgrelay.event_id_seq');
    END IF;
    UPDATE pgrelay.log_state s
    SET truncated = greatest(s.truncated, last_xid),
        truncated_deferred = greatest(s.truncated_deferred, last_deferred),
        truncated_id = greatest(s.truncated_id, last_id)
    WHERE last_xid IS NOT NULL;
    RETURN NULL;
END
$_$;

ALTER FUNCTION pgrelay._log_truncated() OWNER TO test_owner;

CREATE FUNCTION pgrelay._misses(since pg_snapshot, missing xid8) RETURNS boolean
    LANGUAGE sql
    AS $$
    SELECT pg_snapshot_xmax(since) <= missing
        OR EXISTS (SELECT FROM pg_snapshot_xip(since) x
                   WHERE x <= missing
                     -- null: so long ago that the server does not know
                     AND coalesce(pg_xact_status(x), 'committed') = 'committed')
$$;

ALTER FUNCTION pgrelay._misses(since pg_snapshot, missing xid8) OWNER TO test_owner;

CREATE FUNCTION pgrelay._part_intersect(a text, b text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN a = b OR b = '*' THEN a WHEN a = '*' THEN b END
$$;

ALTER FUNCTION pgrelay._part_intersect(a text, b text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._pattern_check(pattern text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    key text := (pgrelay._pattern_split(pattern))[3];
BEGIN
    IF key IS NULL OR octet_length(regexp_replace(key, '%..', '?', 'g')) > 255 THEN
        RAISE EXCEPTION 'invalid pattern: %', coalesce('"' || left(pattern, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A pattern is type.action.key, each a literal or "*", such as job_events.*.42;'
                         ' in a key write space as %20, percent as %25, asterisk as %2A, comma as %2C.';
    END IF;
END
$$;

ALTER FUNCTION pgrelay._pattern_check(pattern text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._pattern_split(pattern text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    -- the key: "*", or octets of which those that need it are percent-encoded
    SELECT regexp_match(pattern, '^(\*|[A-Za-z0-9_-]{1,63})\.(\*|[A-Za-z0-9_-]{1,63})\.'
                                 '(\*|(?:[^ %*,\x01-\x1f\x7f]|%20|%25|%2A|%2C)*)$')
$_$;

ALTER FUNCTION pgrelay._pattern_split(pattern text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_check(origin text, requests jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF coalesce(origin, '') = '' OR octet_length(origin) > 255 OR origin ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'invalid origin: %', coalesce('"' || left(origin, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'It must be the id of a node: 1 to 255 octets without control characters.';
    END IF;
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'invalid requests: %', coalesce(jsonb_typeof(requests), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'They must be a JSON array of {"user": ID, "events": EVENT OR LIST OF EVENTS}.';
    END IF;
END
$$;

ALTER FUNCTION pgrelay._publish_check(origin text, requests jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_events(requests jsonb) RETURNS TABLE(request integer, index integer, type text, action text, key text, payload text, error text, refused text)
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

ALTER FUNCTION pgrelay._publish_events(requests jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_fault(event jsonb, type text, action text, key text) RETURNS text
    LANGUAGE sql STABLE
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

ALTER FUNCTION pgrelay._publish_fault(event jsonb, type text, action text, key text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_is_id(value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE jsonb_typeof(value)
               WHEN 'number' THEN abs(value::numeric) < 1e18 AND value::numeric = trunc(value::numeric)
               ELSE false END
$$;

ALTER FUNCTION pgrelay._publish_is_id(value jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_request_fault(request jsonb) RETURNS text
    LANGUAGE sql STABLE
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

ALTER FUNCTION pgrelay._publish_request_fault(request jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_shown(value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN translate(left(value::text, 100), E'\x7f', '?')
                                    ELSE coalesce(jsonb_typeof(value), 'it is missing') END
$$;

ALTER FUNCTION pgrelay._publish_shown(value jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_string(value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END
$$;

ALTER FUNCTION pgrelay._publish_string(value jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay._publish_unknown(object jsonb, fields text[]) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT concat('has the unknown field ', min(pgrelay._publish_shown(to_jsonb(k))), '; it takes ',
                  array_to_string(fields, ', '))
    FROM jsonb_object_keys(object - fields) k
$$;

ALTER FUNCTION pgrelay._publish_unknown(object jsonb, fields text[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._right_check(publish boolean) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF publish IS NULL THEN
        RAISE EXCEPTION 'whether a grant is one to publish must not be null'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give false (the default) for a grant to see, true for one to publish.';
    END IF;
END
$$;

ALTER FUNCTION pgrelay._right_check(publish boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._role(name name, grants text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    statement text;
BEGIN
    IF to_regrole(name::text) IS NULL THEN
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;           -- another database's install was faster
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role "%" does not exist, and "%" may not create it', name, current_user
                    USING HINT = format('Have an administrator run "CREATE ROLE %I NOLOGIN", then install again.', name);
                RETURN;
        END;
    END IF;
    FOREACH statement IN ARRAY grants LOOP
        EXECUTE format('GRANT %s TO %I', statement, name);
    END LOOP;
END
$$;

ALTER FUNCTION pgrelay._role(name name, grants text[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay._schedule_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    source refcursor;
BEGIN
    OPEN source FOR
        SELECT 'schedules', 'changed', r.id::text,
               format('{"group_name":"schedules","id":%s}', r.id)
        FROM rows r ORDER BY r.id;
    PERFORM pgrelay._emit_rows(source, false, true, '-');
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay._schedule_changed() OWNER TO test_owner;

CREATE FUNCTION pgrelay._setting_check(name text, value text) RETURNS void
    LANGUAGE plpgsql
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

ALTER FUNCTION pgrelay._setting_check(name text, value text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._snapshot_cut(snapshot pg_snapshot, octets integer) RETURNS pg_snapshot
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    xips text[];
    length integer := octet_length(snapshot::text);
BEGIN
    IF length <= octets THEN
        RETURN snapshot;
    END IF;
    xips := ARRAY(SELECT x::text FROM pg_snapshot_xip(snapshot) x ORDER BY x);
    -- the cut is the new xmax: it is no longer than those that follow
    FOR n IN REVERSE cardinality(xips) .. 1 LOOP
        length := length - octet_length(xips[n]) - 1;
        IF length <= octets THEN
            RETURN concat(pg_snapshot_xmin(snapshot), ':', xips[n], ':', array_to_string(xips[1 : n - 1], ','));
        END IF;
    END LOOP;
END
$$;

ALTER FUNCTION pgrelay._snapshot_cut(snapshot pg_snapshot, octets integer) OWNER TO test_owner;

CREATE FUNCTION pgrelay._split_group(group_name text, OUT name text, OUT value text, OUT is_id boolean) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
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
$_$;

ALTER FUNCTION pgrelay._split_group(group_name text, OUT name text, OUT value text, OUT is_id boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._status_is_final(status text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT status IN ('successful', 'failed', 'error', 'canceled')
$$;

ALTER FUNCTION pgrelay._status_is_final(status text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._status_message(j pgrelay.job, group_name text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN pgrelay._json_join(
        (SELECT row_to_json(always) FROM
            (SELECT _status_message.group_name,
                    j.id AS unified_job_id,
                    j.id,
                    j.status,
                    j.kind AS type,
                    j.name,
                    pgrelay._json_time(j.created) AS created,
                    pgrelay._json_time(j.started) AS started,
                    pgrelay._json_time(j.finished) AS finished,
                    coalesce(j.elapsed, extract(epoch FROM clock_timestamp() - j.started),
                             0)::numeric(20,3) AS elapsed,
                    j.unified_job_template_id,
                    j.unified_job_template_id AS job_template_id) always),
        (SELECT json_strip_nulls(row_to_json(sometimes)) FROM
            (SELECT CASE WHEN j.status = 'running' THEN j.instance_group_name END
                        AS instance_group_name,
                    j.project_id,
                    j.inventory_id,
                    j.inventory_source_id,
                    j.workflow_job_id,
                    j.workflow_node_id,
                    CASE WHEN _status_message.group_name = 'workflow_events'
                         THEN j.workflow_job_template_id END AS workflow_job_template_id) sometimes));
END
$$;

ALTER FUNCTION pgrelay._status_message(j pgrelay.job, group_name text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._status_next(status text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE status
        WHEN 'new' THEN ARRAY['pending', 'waiting', 'running', 'failed', 'error', 'canceled']
        WHEN 'pending' THEN ARRAY['waiting', 'running', 'failed', 'error', 'canceled']
        WHEN 'waiting' THEN ARRAY['pending', 'running', 'failed', 'error', 'canceled']
        WHEN 'running' THEN ARRAY['successful', 'failed', 'error', 'canceled']
        ELSE '{}' END
$$;

ALTER FUNCTION pgrelay._status_next(status text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._summary_message(job_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN format('{"group_name":"jobs","unified_job_id":%s,"final_counter":%s}', job_id,
                  coalesce((SELECT max(e.counter) FROM pgrelay.job_event e
                            WHERE e.job_id = _summary_message.job_id), 0));
END
$$;

ALTER FUNCTION pgrelay._summary_message(job_id bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay._ticket(id bigint, topic text, payload text, origin text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT pg_catalog.concat('t ', id, topic, pg_catalog.octet_length(payload), ' ',
                             pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(payload, 'UTF8')), 'hex'), ' ', origin)
$$;

ALTER FUNCTION pgrelay._ticket(id bigint, topic text, payload text, origin text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._token_hash(token text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT sha256(convert_to(token, 'UTF8'))
$$;

ALTER FUNCTION pgrelay._token_hash(token text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._trigger(relation regclass, name name, definition text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = relation AND t.tgname = name AND NOT t.tgisinternal) THEN
        EXECUTE format('CREATE TRIGGER %I %s', name,
                       replace(definition, '@', relation::text));
    END IF;
END
$$;

ALTER FUNCTION pgrelay._trigger(relation regclass, name name, definition text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._user_id(user_name text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    result bigint := (SELECT u.id FROM pgrelay.users u WHERE u.name = user_name);
BEGIN
    IF result IS NULL THEN
        RAISE EXCEPTION 'user % does not exist', coalesce('"' || user_name || '"', 'null')
            USING ERRCODE = 'undefined_object',
                  HINT = 'Create it with pgrelay.user_create(), or a token for it with pgrelay.token_create().';
    END IF;
    RETURN result;
END
$$;

ALTER FUNCTION pgrelay._user_id(user_name text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_body(type text, key_column name, columns name[], original boolean) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
DECLARE
    row_of text := CASE WHEN columns IS NULL THEN '%1$s.*' ELSE
        (SELECT string_agg('%1$s.' || replace(quote_ident(c), '%', '%%'), ', ' ORDER BY n)
         FROM unnest(columns) WITH ORDINALITY AS u (c, n)) END;
    source text;
    body text := '';
    op text[];
BEGIN
    FOREACH op SLICE 1 IN ARRAY ARRAY[['INSERT', 'create', 'new_row'],
                                      ['UPDATE', 'update', 'new_row'],
                                      ['DELETE', 'delete', 'old_row']] LOOP
        source := op[3] || 's ' || op[3];
        IF original AND op[1] = 'UPDATE' THEN
            source := source || format(' LEFT JOIN old_rows old_row ON new_row.%1$I = old_row.%1$I',
                                       key_column);
        END IF;
        body := body || format($f$
    IF TG_OP = %1$L THEN
        OPEN source FOR
            SELECT %2$L, %3$L, k.key,
                   pgrelay._watch_payload(%2$L, %3$L, k.key, %4$s, %5$s)
            FROM %6$s,
                 LATERAL (SELECT pgrelay._clean_key(%7$s.%8$I::text) AS key) k;
    END IF;$f$,
            op[1], type, op[2],
            format('(SELECT row_to_json(r.*) FROM (SELECT ' || row_of || ') r)', op[3]),
            CASE WHEN original AND op[1] = 'UPDATE'
                 THEN format('(SELECT row_to_json(r.*) FROM (SELECT ' || row_of || ') r'
                             ' WHERE old_row IS DISTINCT FROM NULL)', 'old_row')
                 ELSE 'NULL' END,
            source, op[3], key_column);
    END LOOP;
    RETURN format($f$
DECLARE
    source refcursor;
BEGIN%s
    PERFORM pgrelay._watch_emit(source);
    RETURN NULL;
END
$f$, body);
END
$_$;

ALTER FUNCTION pgrelay._watch_body(type text, key_column name, columns name[], original boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_check(relation regclass, type text, key_column name, columns name[], original boolean) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    missing name;
BEGIN
    IF relation IS NULL OR (SELECT c.relkind FROM pg_class c WHERE c.oid = relation)
                           NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', coalesce(quote_literal(relation::text), 'null')
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Only tables and partitioned tables can be watched.';
    END IF;
    IF NOT pgrelay._is_word(type) THEN
        RAISE EXCEPTION 'invalid type of an event: "%"', left(type, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name a type of 1 to 63 letters, digits, underscores or hyphens.';
    END IF;
    IF key_column IS NULL THEN
        RAISE EXCEPTION 'table "%" has no primary key of one column', relation
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name the column whose values are to be the keys of the events: key_column => ''...''.';
    END IF;
    IF columns = '{}' OR array_position(columns, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'invalid list of columns'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name at least one column, or give null for all of them.';
    END IF;
    SELECT c INTO missing FROM unnest(key_column || columns) c
    WHERE NOT EXISTS (SELECT FROM pg_attribute a
                      WHERE a.attrelid = relation AND a.attname = c
                        AND a.attnum > 0 AND NOT a.attisdropped);
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of table "%" does not exist', missing, relation
            USING ERRCODE = 'undefined_column',
                  HINT = 'Columns are named as they are stored, without quotes.';
    END IF;
    IF original AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
                                WHERE i.indrelid = relation AND a.attname = key_column
                                  AND i.indisunique AND i.indpred IS NULL
                                  AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) THEN
        RAISE EXCEPTION 'column "%" of table "%" is not unique', key_column, relation
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'With original => true the rows before and after an update are found by a key with a unique index.';
    END IF;
END
$$;

ALTER FUNCTION pgrelay._watch_check(relation regclass, type text, key_column name, columns name[], original boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_columns(body text) RETURNS name[]
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
DECLARE
    list text := substring(body FROM 'row_to_json\(r\.\*\) FROM \(SELECT (.*?)\) r\), NULL\)\n');
    result name[];
    parts text[];
BEGIN
    WHILE list <> 'new_row.*' AND list <> '' LOOP
        parts := regexp_match(list, '^new_row\.("(?:[^"]|"")*"|[^", ]+)(?:, )?(.*)$');
        IF parts IS NULL THEN
            RETURN NULL;
        END IF;
        result := result || parse_ident(parts[1])::name[];
        list := parts[2];
    END LOOP;
    RETURN result;
END
$_$;

ALTER FUNCTION pgrelay._watch_columns(body text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_emit(source refcursor) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pgrelay._emit_rows(source, false, true, '-');
END
$$;

ALTER FUNCTION pgrelay._watch_emit(source refcursor) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_forget() RETURNS void
    LANGUAGE plpgsql
    AS $_$
DECLARE
    unused regprocedure;
BEGIN
    FOR unused IN SELECT p.oid FROM pg_proc p
                  WHERE p.pronamespace = 'pgrelay'::regnamespace AND p.proname ~ '^watch_[0-9]+$'
                    AND pg_has_role(p.proowner, 'USAGE')
                    AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid) LOOP
        EXECUTE format('DROP FUNCTION %s', unused);
    END LOOP;
    DELETE FROM pgrelay.watched w WHERE NOT EXISTS (SELECT FROM pgrelay._watch_triggers(w.relation));
END
$_$;

ALTER FUNCTION pgrelay._watch_forget() OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_function(name name, relation regclass, type text, key_column name, columns name[], original boolean) RETURNS void
    LANGUAGE plpgsql
    AS $_$
BEGIN
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION pgrelay.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp%s
AS %L$f$, name,
        -- the plan of the join is kept: it must not be one made for a single row
        CASE WHEN original THEN E'\nSET enable_nestloop = off' END,
        pgrelay._watch_body(type, key_column, columns, original));
    EXECUTE format('REVOKE ALL ON FUNCTION pgrelay.%I() FROM PUBLIC', name);
    EXECUTE format('COMMENT ON FUNCTION pgrelay.%I() IS %L', name,
                   'made by pgrelay.watch() for the table ' || relation);
END
$_$;

ALTER FUNCTION pgrelay._watch_function(name name, relation regclass, type text, key_column name, columns name[], original boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_key(relation regclass) RETURNS name
    LANGUAGE sql STABLE
    AS $$
    SELECT a.attname
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisprimary AND i.indnkeyatts = 1
$$;

ALTER FUNCTION pgrelay._watch_key(relation regclass) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_payload(type text, action text, key text, object json, original json DEFAULT NULL::json) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    -- columns of type json may hold line breaks, though never inside a string
    SELECT translate(concat('{"group_name": "', type, '", "action": "', action, '", "key": ',
                            to_json(key), ', "object": ', object,
                            ', "original": ' || original::text, '}'),
                     E'\n\r', '  ')
$$;

ALTER FUNCTION pgrelay._watch_payload(type text, action text, key text, object json, original json) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_remember(relation regclass, body text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    part text[] := regexp_match(body, 'SELECT ''([A-Za-z0-9_-]+)'', ''create'', k\.key,\n'
                                      '.*_clean_key\(new_row\.("(?:[^"]|"")*"|[^":]+)::text\)');
    columns name[] := pgrelay._watch_columns(body);
    original boolean := body LIKE '% LEFT JOIN old_rows old_row ON %';
    key_column name;
BEGIN
    IF part IS NOT NULL THEN
        key_column := (parse_ident(part[2]))[1];
        IF replace(pgrelay._watch_body(part[1], key_column, columns, original), '_watch_emit(', '_emit(') = body THEN
            INSERT INTO pgrelay.watched VALUES (relation, part[1], key_column, columns, original);
            RETURN;
        END IF;
    END IF;
    RAISE WARNING 'the trigger function of the watched table "%" is not one of ours, and stays as it is', relation
        USING HINT = 'Call pgrelay.watch() for this table again.';
END
$$;

ALTER FUNCTION pgrelay._watch_remember(relation regclass, body text) OWNER TO test_owner;

CREATE FUNCTION pgrelay._watch_triggers(relation regclass) RETURNS TABLE(trigger_name name, function_name name, owner oid, body text)
    LANGUAGE sql STABLE
    AS $_$
    SELECT t.tgname, p.proname, p.proowner, p.prosrc
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = relation AND NOT t.tgisinternal
      AND p.pronamespace = 'pgrelay'::regnamespace AND p.proname ~ '^watch_[0-9]+$'
$_$;

ALTER FUNCTION pgrelay._watch_triggers(relation regclass) OWNER TO test_owner;

CREATE FUNCTION pgrelay._workflow_message(workflow pgrelay.job) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN json_build_object(
        'group_name', 'workflow_events',
        'type', 'workflow_job',
        'id', workflow.id,
        'status', workflow.status,
        'workflow_nodes',
        coalesce((SELECT json_agg(json_build_object('id', n.id,
                                                    'identifier', n.identifier,
                                                    'job', n.job_id,
                                                    'status', j.status) ORDER BY n.id)
                  FROM pgrelay.workflow_node n LEFT JOIN pgrelay.job j ON j.id = n.job_id
                  WHERE n.workflow_job_id = workflow.id), '[]'));
END
$$;

ALTER FUNCTION pgrelay._workflow_message(workflow pgrelay.job) OWNER TO test_owner;

CREATE FUNCTION pgrelay.announce(since pg_snapshot, tick boolean) RETURNS TABLE(snapshot pg_snapshot, events bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    packet_limit CONSTANT integer := 7999;
    snapshot_limit CONSTANT integer := 3995;
    inline_limit CONSTANT integer := 64 * 1024 * 1024;

    channel CONSTANT text := (SELECT o.channel FROM pgrelay.emit_setting o);
    -- what is visible in it is visible to the queries that follow as well
    until CONSTANT pg_snapshot := pgrelay._snapshot_cut(pg_current_snapshot(), snapshot_limit);
    event record;
    xid xid8 := '0';
    head text;
    line text;
    packet text;
    inline_octets bigint := 0;
BEGIN
    events := 0;
    snapshot := until;
    IF since IS NULL OR octet_length(since::text) > snapshot_limit
       OR pg_snapshot_xmax(since) > pg_snapshot_xmax(until) THEN
        PERFORM pgrelay._commit_to_disk();
        PERFORM pg_notify(channel, concat('d ', until, ' ', until));
        RETURN NEXT;
        RETURN;
    END IF;

    IF since::text = until::text AND NOT tick THEN
        RETURN NEXT;            -- no transaction has ended
        RETURN;
    END IF;

    packet := concat('d ', since, ' ', until);
    FOR event IN
        SELECT e.xid, e.id, e.payload,
               concat(' ', round(date_part('epoch', e.time) * 1000000)::bigint, ' ', e.type, '.', e.action, '.',
                      pgrelay._encode_key(e.key), ' ') AS topic
        FROM (SELECT e.*, max(e.id) OVER (PARTITION BY e.xid) AS last_id
              FROM (SELECT * FROM pgrelay.event e
                    WHERE e.deferred AND e.xid >= pg_snapshot_xmax(since) AND e.xid < pg_snapshot_xmax(until)
                      AND pg_visible_in_snapshot(e.xid, until)
                    UNION ALL
                    SELECT * FROM pgrelay.event e
                    WHERE e.deferred AND e.xid = ANY (ARRAY(SELECT x FROM pg_snapshot_xip(since) x
                                                            WHERE pg_visible_in_snapshot(x, until)))) e) e
        ORDER BY CASE WHEN current_setting('track_commit_timestamp') = 'on'
                      THEN pg_xact_commit_timestamp(e.xid::xid) END NULLS FIRST, e.last_id, e.id
    LOOP
        head := 'x ' || event.xid || E'\n';
        line := 'e ' || event.id || event.topic || event.payload;
        IF inline_octets >= inline_limit OR octet_length(head) + octet_length(line) > packet_limit THEN
            line := pgrelay._ticket(event.id, event.topic, event.payload, '-');
        END IF;
        inline_octets := inline_octets + octet_length(line);
        events := events + 1;

        IF octet_length(packet) + octet_length(head) + octet_length(line) >= packet_limit THEN
            PERFORM pg_notify(channel, packet);
            packet := head || line;
        ELSIF event.xid = xid THEN
            packet := packet || E'\n' || line;
        ELSE
            packet := packet || E'\n' || head || line;
        END IF;
        xid := event.xid;
    END LOOP;

    IF events > 0 OR tick THEN
        PERFORM pgrelay._commit_to_disk();
        PERFORM pg_notify(channel, packet);
    ELSE
        snapshot := since;
    END IF;
    RETURN NEXT;
END
$$;

ALTER FUNCTION pgrelay.announce(since pg_snapshot, tick boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay.announce_set(type text, announce text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.announce_set(type text, announce text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.announce_wanted() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT EXISTS (SELECT FROM pgrelay.event_type t WHERE t.announce = 'deferred')
        -- the order makes it look into the index of deferred events
        OR EXISTS (SELECT FROM (SELECT FROM pgrelay.event e WHERE e.deferred ORDER BY e.xid LIMIT 1) e)
$$;

ALTER FUNCTION pgrelay.announce_wanted() OWNER TO test_owner;

CREATE FUNCTION pgrelay.authenticate(token text) RETURNS TABLE(user_id bigint, user_name text, token_id bigint, expires timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT u.id, u.name, t.id, t.expires
    FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id
    WHERE t.hash = pgrelay._token_hash(authenticate.token)
      AND (t.expires IS NULL OR t.expires > clock_timestamp())
$$;

ALTER FUNCTION pgrelay.authenticate(token text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.authorize(user_id bigint, patterns text[]) RETURNS TABLE(requested text, allowed text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    -- each pattern is split once: without MATERIALIZED it would be for each use
    WITH r AS MATERIALIZED (
        SELECT p AS pattern, pgrelay._pattern_split(p) AS part FROM unnest(patterns) p),
    g AS MATERIALIZED (
        SELECT pgrelay._pattern_split(g.pattern) AS part FROM pgrelay.grants g
        WHERE g.user_id = authorize.user_id AND NOT g.publish),
    i AS MATERIALIZED (
        -- null, like any of its parts, where they have nothing in common
        SELECT r.pattern AS requested,
               pgrelay._part_intersect(r.part[1], g.part[1]) || '.' ||
               pgrelay._part_intersect(r.part[2], g.part[2]) || '.' ||
               pgrelay._part_intersect(r.part[3], g.part[3]) AS allowed
        FROM r, g)
    SELECT DISTINCT i.requested, i.allowed FROM i WHERE i.allowed IS NOT NULL
$$;

ALTER FUNCTION pgrelay.authorize(user_id bigint, patterns text[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay.emit(type text, action text, key text, payload jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    source refcursor;
BEGIN
    PERFORM pgrelay._check_event(type, action, key, payload);
    OPEN source FOR SELECT type, action, key, payload::text;
    RETURN (pgrelay._emit_rows(source, true, true, '-')).all_ids[1];
END
$$;

ALTER FUNCTION pgrelay.emit(type text, action text, key text, payload jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay.emit_channel_notification(group_name text, payload jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.emit_channel_notification(group_name text, payload jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay.emit_many(events pgrelay.new_event[]) RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    source refcursor;
BEGIN
    PERFORM pgrelay._check_event(e.type, e.action, e.key, e.payload) FROM unnest(events) e;
    OPEN source FOR SELECT e.type, e.action, e.key, e.payload::text FROM unnest(events) e;
    RETURN QUERY SELECT unnest((pgrelay._emit_rows(source, true, true, '-')).all_ids);
END
$$;

ALTER FUNCTION pgrelay.emit_many(events pgrelay.new_event[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay.epoch() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT c.system_identifier || '.' || t.timeline
    FROM pg_control_system() c,
         -- the control file has a new timeline only after the next checkpoint
         LATERAL (SELECT CASE WHEN pg_is_in_recovery()
                              THEN (SELECT k.timeline_id FROM pg_control_checkpoint() k)
                              ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
                         END AS timeline) t
$$;

ALTER FUNCTION pgrelay.epoch() OWNER TO test_owner;

CREATE FUNCTION pgrelay.event_payload(id bigint) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT e.payload FROM pgrelay.event e WHERE e.id = event_payload.id
$$;

ALTER FUNCTION pgrelay.event_payload(id bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay.event_payload(id bigint, topic text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT e.payload FROM pgrelay.event e
    WHERE e.id = event_payload.id
      AND concat(e.type, '.', e.action, '.',
                 replace(replace(replace(replace(e.key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C'))
          = event_payload.topic
$$;

ALTER FUNCTION pgrelay.event_payload(id bigint, topic text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.grant_add(user_name text, pattern text, publish boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pgrelay._pattern_check(pattern);
    PERFORM pgrelay._right_check(publish);
    INSERT INTO pgrelay.grants (user_id, pattern, publish)
    VALUES (pgrelay._user_id(user_name), grant_add.pattern, grant_add.publish) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

ALTER FUNCTION pgrelay.grant_add(user_name text, pattern text, publish boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay.grant_remove(user_name text, pattern text, publish boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pgrelay._right_check(publish);
    DELETE FROM pgrelay.grants g
    WHERE g.user_id = pgrelay._user_id(user_name) AND g.pattern = grant_remove.pattern
      AND g.publish = grant_remove.publish;
    RETURN FOUND;
END
$$;

ALTER FUNCTION pgrelay.grant_remove(user_name text, pattern text, publish boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay.health() RETURNS TABLE(queue_usage double precision, log_bytes bigint, log_rows_since timestamp with time zone, log_rotated timestamp with time zone, log_state text, server_time timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT pg_notification_queue_usage(),
           (SELECT sum(pg_total_relation_size(i.inhrelid))::bigint FROM pg_inherits i
            WHERE i.inhparent = 'pgrelay.event'::regclass),
           (SELECT e.time FROM pgrelay.event e ORDER BY e.id LIMIT 1),
           s.since, pgrelay._log_health(s.slot, s.since), clock_timestamp()
    FROM pgrelay.log_slot s WHERE s.until IS NULL
$$;

ALTER FUNCTION pgrelay.health() OWNER TO test_owner;

CREATE FUNCTION pgrelay.job_status(patterns text[]) RETURNS SETOF text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    SELECT pgrelay._status_message(j, 'jobs')
    FROM (SELECT DISTINCT m[1] AS type, m[2]::bigint AS id
          FROM unnest(patterns) p,
               regexp_match(p, '^([a-z_]+)_events\.[^.]+\.([0-9]{1,18})$') m) asked
         JOIN pgrelay.job j ON j.id = asked.id
              AND j.kind = CASE asked.type WHEN 'workflow' THEN 'workflow_job' ELSE asked.type END
    ORDER BY j.id
$_$;

ALTER FUNCTION pgrelay.job_status(patterns text[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay.log_covers(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    state pgrelay.log_state;
    missing xid8;
    missing_deferred xid8;
BEGIN
    IF pgrelay._log_is_restored(since, deferred_since, NULL, NULL) THEN
        RETURN 'restored';
    END IF;
    IF pgrelay._log_is_unlogged() AND NOT EXISTS (SELECT FROM pgrelay.log_mark) THEN
        RETURN 'unlogged';
    END IF;
    SELECT * INTO STRICT state FROM pgrelay.log_state;
    IF pgrelay._misses(since, state.lost) OR pgrelay._misses(deferred_since, state.lost) THEN
        RETURN 'unlogged';
    END IF;
    IF pgrelay._log_is_restored(since, deferred_since, last_id, last_time) THEN
        RETURN 'restored';
    END IF;
    IF state.skips <> pgrelay._log_skips()
       OR pgrelay._misses(since, state.truncated)
       OR pgrelay._misses(deferred_since, state.truncated_deferred) THEN
        RETURN 'retention';
    END IF;
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay.log_covers(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay.log_read(since pg_snapshot, deferred_since pg_snapshot, until pg_snapshot, deferred_until pg_snapshot, types text[], actions text[], keys text[]) RETURNS TABLE(xid xid8, deferred boolean, record text)
    LANGUAGE sql STABLE
    AS $$
    WITH tx AS MATERIALIZED (
        SELECT r.xid, pg_catalog.max(r.id) AS last_id,
               pg_catalog.bool_or(NOT r.deferred) AS at_commit, pg_catalog.bool_or(r.deferred) AS deferred
        FROM (SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE NOT e.deferred
                AND e.xid >= pg_catalog.pg_snapshot_xmax(since) AND e.xid < pg_catalog.pg_snapshot_xmax(until)
                AND pg_catalog.pg_visible_in_snapshot(e.xid, until)
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE NOT e.deferred
                AND e.xid = ANY (ARRAY(SELECT x FROM pg_catalog.pg_snapshot_xip(since) x
                                       WHERE pg_catalog.pg_visible_in_snapshot(x, until)))
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE e.deferred
                AND e.xid >= pg_catalog.pg_snapshot_xmax(deferred_since) AND e.xid < pg_catalog.pg_snapshot_xmax(deferred_until)
                AND pg_catalog.pg_visible_in_snapshot(e.xid, deferred_until)
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE e.deferred
                AND e.xid = ANY (ARRAY(SELECT x FROM pg_catalog.pg_snapshot_xip(deferred_since) x
                                       WHERE pg_catalog.pg_visible_in_snapshot(x, deferred_until)))) r
        GROUP BY r.xid),
    -- E'\x01' is any: no key holds it
    wanted AS MATERIALIZED (
        SELECT pg_catalog.concat(coalesce(p.type, E'\x01'), '.', coalesce(p.action, E'\x01'), '.',
                                 coalesce(pgrelay._decode_key(p.key), E'\x01')) AS pattern
        FROM unnest(types, actions, keys) AS p (type, action, key))
    SELECT t.xid, e.deferred,
           CASE WHEN pg_catalog.octet_length(e.payload) < 7000
                     OR pg_catalog.octet_length(e.payload) < 8000
                        AND pg_catalog.octet_length(pg_catalog.concat('e ', e.id, e.topic, e.payload)) <= 7999
                THEN pg_catalog.concat('e ', e.id, e.topic, e.payload)
                ELSE pgrelay._ticket(e.id, e.topic, e.payload, '-') END
    FROM (SELECT tx.*
          FROM tx
          ORDER BY CASE WHEN pg_catalog.current_setting('track_commit_timestamp') = 'on'
                        THEN pg_catalog.pg_xact_commit_timestamp(tx.xid::xid) END NULLS FIRST, tx.last_id) t,
         LATERAL (SELECT e.id, e.deferred, e.payload,
                         pg_catalog.concat(' ', pg_catalog.round(pg_catalog.date_part('epoch', e.time) * 1000000)::bigint, ' ',
                                           e.type, '.', e.action, '.', pgrelay._encode_key(e.key), ' ') AS topic
                  FROM pgrelay.event e
                  WHERE e.xid = t.xid AND CASE WHEN e.deferred THEN t.deferred ELSE t.at_commit END
                    AND (types IS NULL AND actions IS NULL AND keys IS NULL
                         OR pg_catalog.concat(e.type, E'.\x01.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, '.', e.action, E'.\x01') IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, E'.\x01.\x01') IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, '.', e.action, '.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.\x01.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.', e.action, '.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.', e.action, E'.\x01') IN (SELECT pattern FROM wanted)
                         OR E'\x01.\x01.\x01' IN (SELECT pattern FROM wanted))
                  ORDER BY e.id) e
$$;

ALTER FUNCTION pgrelay.log_read(since pg_snapshot, deferred_since pg_snapshot, until pg_snapshot, deferred_until pg_snapshot, types text[], actions text[], keys text[]) OWNER TO test_owner;

CREATE FUNCTION pgrelay.log_rotate() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    retention interval := pgrelay.setting_get('retention');
    at timestamptz := clock_timestamp();
    current_slot smallint;
    due boolean;
    used boolean;
    next_slot smallint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('pgrelay.log_rotate', 0)) THEN
        RETURN 'busy';
    END IF;
    PERFORM pgrelay._log_adopt();
    PERFORM pgrelay._log_look();
    PERFORM pgrelay._log_touch(at);
    PERFORM pgrelay._log_convert(at - retention);

    SELECT s.slot, s.since <= at - retention / 2 INTO STRICT current_slot, due
    FROM pgrelay.log_slot s WHERE s.until IS NULL;
    used := pg_relation_size(to_regclass('pgrelay.event_' || current_slot)) > 0;
    IF due AND NOT used THEN
        -- it may just as well be the current one for longer
        UPDATE pgrelay.log_slot s SET since = at WHERE s.slot = current_slot;
    END IF;
    IF used AND NOT due OR NOT used AND pgrelay._log_has_kind(current_slot) THEN
        RETURN 'none';
    END IF;

    SELECT s.slot INTO next_slot FROM pgrelay.log_slot s
    WHERE s.until <= at - retention
       OR NOT used AND pg_relation_size(to_regclass('pgrelay.event_' || s.slot)) = 0
    ORDER BY s.until, s.slot LIMIT 1;
    IF NOT FOUND OR NOT pgrelay._log_empty(next_slot, at - retention) THEN
        RETURN CASE WHEN due AND used THEN 'waiting' ELSE 'none' END;
    END IF;

    UPDATE pgrelay.log_slot s SET until = at WHERE s.slot = current_slot;
    UPDATE pgrelay.log_slot s SET since = at, until = NULL WHERE s.slot = next_slot;
    RETURN 'rotated';
END
$$;

ALTER FUNCTION pgrelay.log_rotate() OWNER TO test_owner;

CREATE FUNCTION pgrelay.logged_set(type text, logged boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.logged_set(type text, logged boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay.publish(origin text, requests jsonb) RETURNS TABLE(request integer, ids json, error text, refused text, index integer, ticket_id bigint, ticket_topic text, ticket_payload text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.publish(origin text, requests jsonb) OWNER TO test_owner;

CREATE FUNCTION pgrelay.setting_get(name text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.setting_get(name text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.setting_set(name text, value text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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

ALTER FUNCTION pgrelay.setting_set(name text, value text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.token_create(user_name text, ttl interval DEFAULT NULL::interval, description text DEFAULT NULL::text) RETURNS TABLE(token_id bigint, token text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF ttl <= interval '0' THEN
        RAISE EXCEPTION 'invalid time to live of a token: %', ttl
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give an interval greater than zero, or null for a token that does not expire.';
    END IF;
    -- two random UUIDs hold 244 random bits
    token := 'pgr_' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    INSERT INTO pgrelay.token AS t (user_id, hash, description, expires)
    VALUES (pgrelay.user_create(user_name), pgrelay._token_hash(token), token_create.description,
            clock_timestamp() + ttl)
    RETURNING t.id INTO token_id;
    RETURN NEXT;
END
$$;

ALTER FUNCTION pgrelay.token_create(user_name text, ttl interval, description text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.token_revoke(token_id bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM pgrelay.token t WHERE t.id = token_id;
    RETURN FOUND;
END
$$;

ALTER FUNCTION pgrelay.token_revoke(token_id bigint) OWNER TO test_owner;

CREATE FUNCTION pgrelay.unwatch(relation regclass) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    trigger_name name;
    result boolean := false;
BEGIN
    FOR trigger_name IN SELECT t.trigger_name FROM pgrelay._watch_triggers(relation) t LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, relation);
        result := true;
    END LOOP;
    PERFORM pgrelay._watch_forget();
    RETURN result;
END
$$;

ALTER FUNCTION pgrelay.unwatch(relation regclass) OWNER TO test_owner;

CREATE FUNCTION pgrelay.user_create(name text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF coalesce(name, '') = '' OR octet_length(name) > 255 OR name ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'invalid name of a user: %', coalesce('"' || left(name, 100) || '"', 'null')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A name has 1 to 255 octets and no control characters.';
    END IF;
    INSERT INTO pgrelay.users (name) VALUES (name) ON CONFLICT DO NOTHING;
    RETURN pgrelay._user_id(name);
END
$$;

ALTER FUNCTION pgrelay.user_create(name text) OWNER TO test_owner;

CREATE FUNCTION pgrelay.version() RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT max(version) FROM pgrelay.schema_version
$$;

ALTER FUNCTION pgrelay.version() OWNER TO test_owner;

CREATE FUNCTION pgrelay.watch(relation regclass, type text DEFAULT NULL::text, key_column name DEFAULT NULL::name, columns name[] DEFAULT NULL::name[], original boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    event_type text := coalesce(type, (SELECT c.relname FROM pg_class c WHERE c.oid = relation));
    key name := coalesce(key_column, pgrelay._watch_key(relation));
    function_name name;
    op text[];
BEGIN
    PERFORM pgrelay._watch_check(relation, event_type, key, columns, original);
    PERFORM pgrelay.unwatch(relation);
    function_name := 'watch_' || nextval('pgrelay.watch_seq');
    PERFORM pgrelay._watch_function(function_name, relation, event_type, key, columns, original);
    INSERT INTO pgrelay.watched VALUES (relation, event_type, key, columns, original);

    FOREACH op SLICE 1 IN ARRAY ARRAY[['INSERT', 'NEW TABLE AS new_rows'],
                                      ['UPDATE', 'OLD TABLE AS old_rows NEW TABLE AS new_rows'],
                                      ['DELETE', 'OLD TABLE AS old_rows']] LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.%I()',
                       'pgrelay_watch_' || lower(op[1]), op[1], relation, op[2], function_name);
    END LOOP;
END
$$;

ALTER FUNCTION pgrelay.watch(relation regclass, type text, key_column name, columns name[], original boolean) OWNER TO test_owner;

CREATE FUNCTION pgrelay.watch_1() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    source refcursor;
BEGIN
    IF TG_OP = 'INSERT' THEN
        OPEN source FOR
            SELECT 'orders', 'create', k.key,
                   pgrelay._watch_payload('orders', 'create', k.key, (SELECT row_to_json(r.*) FROM (SELECT new_row.*) r), NULL)
            FROM new_rows new_row,
                 LATERAL (SELECT pgrelay._clean_key(new_row.id::text) AS key) k;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        OPEN source FOR
            SELECT 'orders', 'update', k.key,
                   pgrelay._watch_payload('orders', 'update', k.key, (SELECT row_to_json(r.*) FROM (SELECT new_row.*) r), NULL)
            FROM new_rows new_row,
                 LATERAL (SELECT pgrelay._clean_key(new_row.id::text) AS key) k;
    END IF;
    IF TG_OP = 'DELETE' THEN
        OPEN source FOR
            SELECT 'orders', 'delete', k.key,
                   pgrelay._watch_payload('orders', 'delete', k.key, (SELECT row_to_json(r.*) FROM (SELECT old_row.*) r), NULL)
            FROM old_rows old_row,
                 LATERAL (SELECT pgrelay._clean_key(old_row.id::text) AS key) k;
    END IF;
    PERFORM pgrelay._watch_emit(source);
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay.watch_1() OWNER TO test_owner;

CREATE FUNCTION pgrelay.watch_2() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
DECLARE
    source refcursor;
BEGIN
    IF TG_OP = 'INSERT' THEN
        OPEN source FOR
            SELECT 'machines', 'create', k.key,
                   pgrelay._watch_payload('machines', 'create', k.key, (SELECT row_to_json(r.*) FROM (SELECT new_row.*) r), NULL)
            FROM new_rows new_row,
                 LATERAL (SELECT pgrelay._clean_key(new_row.uuid::text) AS key) k;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        OPEN source FOR
            SELECT 'machines', 'update', k.key,
                   pgrelay._watch_payload('machines', 'update', k.key, (SELECT row_to_json(r.*) FROM (SELECT new_row.*) r), (SELECT row_to_json(r.*) FROM (SELECT old_row.*) r WHERE old_row IS DISTINCT FROM NULL))
            FROM new_rows new_row LEFT JOIN old_rows old_row ON new_row.uuid = old_row.uuid,
                 LATERAL (SELECT pgrelay._clean_key(new_row.uuid::text) AS key) k;
    END IF;
    IF TG_OP = 'DELETE' THEN
        OPEN source FOR
            SELECT 'machines', 'delete', k.key,
                   pgrelay._watch_payload('machines', 'delete', k.key, (SELECT row_to_json(r.*) FROM (SELECT old_row.*) r), NULL)
            FROM old_rows old_row,
                 LATERAL (SELECT pgrelay._clean_key(old_row.uuid::text) AS key) k;
    END IF;
    PERFORM pgrelay._watch_emit(source);
    RETURN NULL;
END
$$;

ALTER FUNCTION pgrelay.watch_2() OWNER TO test_owner;

CREATE TABLE pgrelay.event (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    deferred boolean DEFAULT false NOT NULL
)
PARTITION BY LIST (slot);
ALTER TABLE ONLY pgrelay.event ALTER COLUMN payload SET STORAGE EXTERNAL;

ALTER TABLE pgrelay.event OWNER TO test_owner;

CREATE TABLE pgrelay.event_0 (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    deferred boolean DEFAULT false NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY pgrelay.event_0 ALTER COLUMN payload SET STORAGE EXTERNAL;

ALTER TABLE pgrelay.event_0 OWNER TO test_owner;

CREATE TABLE pgrelay.event_1 (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    deferred boolean DEFAULT false NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY pgrelay.event_1 ALTER COLUMN payload SET STORAGE EXTERNAL;

ALTER TABLE pgrelay.event_1 OWNER TO test_owner;

CREATE TABLE pgrelay.event_2 (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    deferred boolean DEFAULT false NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY pgrelay.event_2 ALTER COLUMN payload SET STORAGE EXTERNAL;

ALTER TABLE pgrelay.event_2 OWNER TO test_owner;

CREATE TABLE pgrelay.event_3 (
    slot smallint NOT NULL,
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    action text NOT NULL,
    key text NOT NULL,
    payload text NOT NULL,
    deferred boolean DEFAULT false NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY pgrelay.event_3 ALTER COLUMN payload SET STORAGE EXTERNAL;

ALTER TABLE pgrelay.event_3 OWNER TO test_owner;

CREATE SEQUENCE pgrelay.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE pgrelay.event_id_seq OWNER TO test_owner;

CREATE TABLE pgrelay.event_type (
    type text NOT NULL,
    announce text DEFAULT 'commit'::text NOT NULL,
    logged boolean DEFAULT true NOT NULL,
    CONSTRAINT event_type_announce_check CHECK ((announce = ANY (ARRAY['commit'::text, 'deferred'::text]))),
    CONSTRAINT event_type_check CHECK (((announce = 'commit'::text) OR logged))
);

ALTER TABLE pgrelay.event_type OWNER TO test_owner;

CREATE TABLE pgrelay.grants (
    user_id bigint NOT NULL,
    pattern text NOT NULL,
    publish boolean DEFAULT false NOT NULL,
    created timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE pgrelay.grants OWNER TO test_owner;

CREATE TABLE pgrelay.inventory (
    id bigint NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'new'::text NOT NULL
);

ALTER TABLE pgrelay.inventory OWNER TO test_owner;

ALTER TABLE pgrelay.inventory ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.inventory_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE pgrelay.job_event ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.job_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE pgrelay.job ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.job_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE UNLOGGED TABLE pgrelay.log_mark (
    made timestamp with time zone NOT NULL
);

ALTER TABLE pgrelay.log_mark OWNER TO test_owner;

CREATE SEQUENCE pgrelay.log_skip_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE pgrelay.log_skip_seq OWNER TO test_owner;

CREATE TABLE pgrelay.log_slot (
    slot smallint NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone
);

ALTER TABLE pgrelay.log_slot OWNER TO test_owner;

CREATE TABLE pgrelay.log_state (
    system bigint NOT NULL,
    truncated xid8 NOT NULL,
    truncated_deferred xid8 NOT NULL,
    truncated_id bigint NOT NULL,
    lost xid8 NOT NULL,
    skips bigint NOT NULL
);

ALTER TABLE pgrelay.log_state OWNER TO test_owner;

CREATE TABLE pgrelay.schedule (
    id bigint NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    rrule text DEFAULT ''::text NOT NULL,
    next_run timestamp with time zone,
    unified_job_template_id bigint
);

ALTER TABLE pgrelay.schedule OWNER TO test_owner;

ALTER TABLE pgrelay.schedule ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.schedule_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE pgrelay.schema_version (
    version integer NOT NULL,
    installed timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE pgrelay.schema_version OWNER TO test_owner;

CREATE TABLE pgrelay.setting (
    name text NOT NULL,
    value text NOT NULL
);

ALTER TABLE pgrelay.setting OWNER TO test_owner;

CREATE TABLE pgrelay.token (
    id bigint NOT NULL,
    user_id bigint NOT NULL,
    hash bytea NOT NULL,
    description text,
    created timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires timestamp with time zone
);

ALTER TABLE pgrelay.token OWNER TO test_owner;

ALTER TABLE pgrelay.token ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE pgrelay.users (
    id bigint NOT NULL,
    name text NOT NULL,
    created timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT users_name_check CHECK (((name <> ''::text) AND (octet_length(name) <= 255) AND (name !~ '[\x01-\x1f\x7f]'::text)))
);

ALTER TABLE pgrelay.users OWNER TO test_owner;

ALTER TABLE pgrelay.users ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.users_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE pgrelay.watch_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE pgrelay.watch_seq OWNER TO test_owner;

CREATE TABLE pgrelay.watched (
    relation regclass NOT NULL,
    type text NOT NULL,
    key_column name NOT NULL,
    columns name[],
    original boolean NOT NULL
);

ALTER TABLE pgrelay.watched OWNER TO test_owner;

CREATE TABLE pgrelay.workflow_node (
    id bigint NOT NULL,
    workflow_job_id bigint NOT NULL,
    identifier text DEFAULT ''::text NOT NULL,
    job_id bigint
);

ALTER TABLE pgrelay.workflow_node OWNER TO test_owner;

ALTER TABLE pgrelay.workflow_node ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME pgrelay.workflow_node_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.machines (
    uuid text NOT NULL,
    name text,
    password_hash text
);

ALTER TABLE public.machines OWNER TO test_owner;

CREATE TABLE public.orders (
    id integer NOT NULL,
    note text
);

ALTER TABLE public.orders OWNER TO test_owner;

ALTER TABLE ONLY pgrelay.event ATTACH PARTITION pgrelay.event_0 FOR VALUES IN ('0');

ALTER TABLE ONLY pgrelay.event ATTACH PARTITION pgrelay.event_1 FOR VALUES IN ('1');

ALTER TABLE ONLY pgrelay.event ATTACH PARTITION pgrelay.event_2 FOR VALUES IN ('2');

ALTER TABLE ONLY pgrelay.event ATTACH PARTITION pgrelay.event_3 FOR VALUES IN ('3');

COPY pgrelay.emit_setting (channel, slot, stale_at, deferred, exempt) FROM stdin;
pgrelay	0	2026-11-22 13:56:34.886597+00	{late}	{light}
\.

COPY pgrelay.event_0 (slot, id, xid, "time", type, action, key, payload, deferred) FROM stdin;
0	1	748	2026-11-22 12:06:35.014539+00	orders	create	1	{"group_name": "orders", "action": "create", "key": "1", "object": {"id":1,"note":"before"}}	f
0	2	751	2026-11-22 12:06:35.020784+00	machines	create	m1	{"group_name": "machines", "action": "create", "key": "m1", "object": {"uuid":"m1","name":"one","password_hash":"a hash"}}	f
0	3	752	2026-11-22 12:06:35.023683+00	jobs	status_changed	1	{"group_name":"jobs","unified_job_id":1,"id":1,"status":"running","type":"job","name":"v3","created":"2026-11-22T12:06:35.021728Z","started":"2026-11-22T12:06:35.021999Z","finished":null,"elapsed":0.002,"unified_job_template_id":null,"job_template_id":null}	f
0	4	753	2026-11-22 12:06:35.026735+00	job_events	verbose	1	{"type":"job_event","id":1,"job":1,"group_name":"job_events","event":"verbose","counter":1,"uuid":"3d44a2ac-d147-4433-bf8d-cd5c92a5b99b","parent_uuid":"","stdout":"first","start_line":0,"end_line":0,"created":"2026-11-22T12:06:35.024928Z","modified":"2026-11-22T12:06:35.024928Z","url":"/api/v2/job_events/1","event_data":{},"event_level":0,"failed":false,"changed":false,"host":null,"host_name":"","play":"","role":"","task":""}	f
0	5	754	2026-11-22 12:06:35.027646+00	t	a	k	{"n": 1}	f
0	6	755	2026-11-22 12:06:35.028173+00	t	big	k	{"x": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}	f
0	7	756	2026-11-22 12:06:35.029717+00	late	a	k	{"n": 2}	t
\.

COPY pgrelay.event_1 (slot, id, xid, "time", type, action, key, payload, deferred) FROM stdin;
\.

COPY pgrelay.event_2 (slot, id, xid, "time", type, action, key, payload, deferred) FROM stdin;
\.

COPY pgrelay.event_3 (slot, id, xid, "time", type, action, key, payload, deferred) FROM stdin;
\.

COPY pgrelay.event_type (type, announce, logged) FROM stdin;
light	commit	f
late	deferred	t
\.

COPY pgrelay.grants (user_id, pattern, publish, created) FROM stdin;
1	job_events.*.*	f	2026-11-22 12:06:35.03249+00
1	t.*.*	t	2026-11-22 12:06:35.033686+00
\.

COPY pgrelay.inventory (id, name, status) FROM stdin;
\.

COPY pgrelay.job (id, kind, name, status, created, started, finished, elapsed, unified_job_template_id, project_id, inventory_id, inventory_source_id, workflow_job_id, workflow_job_template_id, workflow_node_id, instance_group_name) FROM stdin;
1	job	v3	running	2026-11-22 12:06:35.021728+00	2026-11-22 12:06:35.021999+00	\N	\N	\N	\N	\N	\N	\N	\N	\N	\N
\.

COPY pgrelay.job_event (id, job_id, counter, event, stdout, start_line, end_line, uuid, parent_uuid, event_data, event_level, failed, changed, host_id, host_name, play, role, task, created, modified) FROM stdin;
1	1	1	verbose	first	0	0	3d44a2ac-d147-4433-bf8d-cd5c92a5b99b		{}	0	f	f	\N					2026-11-22 12:06:35.024928+00	2026-11-22 12:06:35.024928+00
\.

COPY pgrelay.log_mark (made) FROM stdin;
2026-11-22 12:06:34.893711+00
\.

COPY pgrelay.log_slot (slot, since, until) FROM stdin;
0	2026-11-22 12:06:34.886597+00	\N
1	2026-11-22 12:06:34.886699+00	-infinity
2	2026-11-22 12:06:34.886708+00	-infinity
3	2026-11-22 12:06:34.88671+00	-infinity
\.

COPY pgrelay.log_state (system, truncated, truncated_deferred, truncated_id, lost, skips) FROM stdin;
7710964438391858120	743	743	1	0	0
\.

COPY pgrelay.schedule (id, name, enabled, rrule, next_run, unified_job_template_id) FROM stdin;
\.

COPY pgrelay.schema_version (version, installed) FROM stdin;
3	2026-11-22 12:06:34.871796+00
\.

COPY pgrelay.setting (name, value) FROM stdin;
channel	pgrelay
log	logged
retention	20 min
\.

COPY pgrelay.token (id, user_id, hash, description, created, expires) FROM stdin;
1	1	\\xe3316e2bafebb6103a3418e8778c0adc960d40213a03a7e7f4fcd3426ed807bf	kept	2026-11-22 12:06:35.034442+00	\N
\.

COPY pgrelay.users (id, name, created) FROM stdin;
1	alice	2026-11-22 12:06:35.03072+00
\.

COPY pgrelay.watched (relation, type, key_column, columns, original) FROM stdin;
public.orders	orders	id	\N	f
public.machines	machines	uuid	\N	t
\.

COPY pgrelay.workflow_node (id, workflow_job_id, identifier, job_id) FROM stdin;
\.

COPY public.machines (uuid, name, password_hash) FROM stdin;
m1	one	a hash
\.

COPY public.orders (id, note) FROM stdin;
1	before
\.

SELECT pg_catalog.setval('pgrelay.event_id_seq', 7, true);

SELECT pg_catalog.setval('pgrelay.inventory_id_seq', 1, false);

SELECT pg_catalog.setval('pgrelay.job_event_id_seq', 1, true);

SELECT pg_catalog.setval('pgrelay.job_id_seq', 1, true);

SELECT pg_catalog.setval('pgrelay.log_skip_seq', 1, false);

SELECT pg_catalog.setval('pgrelay.schedule_id_seq', 1, false);

SELECT pg_catalog.setval('pgrelay.token_id_seq', 1, true);

SELECT pg_catalog.setval('pgrelay.users_id_seq', 1, true);

SELECT pg_catalog.setval('pgrelay.watch_seq', 2, true);

SELECT pg_catalog.setval('pgrelay.workflow_node_id_seq', 1, false);

ALTER TABLE ONLY pgrelay.event_type
    ADD CONSTRAINT event_type_pkey PRIMARY KEY (type);

ALTER TABLE ONLY pgrelay.grants
    ADD CONSTRAINT grants_pkey PRIMARY KEY (user_id, pattern, publish);

ALTER TABLE ONLY pgrelay.inventory
    ADD CONSTRAINT inventory_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.job_event
    ADD CONSTRAINT job_event_job_id_counter_key UNIQUE (job_id, counter);

ALTER TABLE ONLY pgrelay.job_event
    ADD CONSTRAINT job_event_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.log_slot
    ADD CONSTRAINT log_slot_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY pgrelay.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version);

ALTER TABLE ONLY pgrelay.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (name);

ALTER TABLE ONLY pgrelay.token
    ADD CONSTRAINT token_hash_key UNIQUE (hash);

ALTER TABLE ONLY pgrelay.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.users
    ADD CONSTRAINT users_name_key UNIQUE (name);

ALTER TABLE ONLY pgrelay.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY pgrelay.watched
    ADD CONSTRAINT watched_pkey PRIMARY KEY (relation);

ALTER TABLE ONLY pgrelay.workflow_node
    ADD CONSTRAINT workflow_node_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.machines
    ADD CONSTRAINT machines_pkey PRIMARY KEY (uuid);

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);

CREATE INDEX event_0_deferred_idx ON pgrelay.event_0 USING btree (xid, id) WHERE deferred;

CREATE INDEX event_id_idx ON ONLY pgrelay.event USING btree (id);

CREATE INDEX event_0_id_idx ON pgrelay.event_0 USING btree (id);

CREATE INDEX event_xid_id_idx ON ONLY pgrelay.event USING btree (xid, id);

CREATE INDEX event_0_xid_id_idx ON pgrelay.event_0 USING btree (xid, id);

CREATE INDEX event_1_deferred_idx ON pgrelay.event_1 USING btree (xid, id) WHERE deferred;

CREATE INDEX event_1_id_idx ON pgrelay.event_1 USING btree (id);

CREATE INDEX event_1_xid_id_idx ON pgrelay.event_1 USING btree (xid, id);

CREATE INDEX event_2_deferred_idx ON pgrelay.event_2 USING btree (xid, id) WHERE deferred;

CREATE INDEX event_2_id_idx ON pgrelay.event_2 USING btree (id);

CREATE INDEX event_2_xid_id_idx ON pgrelay.event_2 USING btree (xid, id);

CREATE INDEX event_3_deferred_idx ON pgrelay.event_3 USING btree (xid, id) WHERE deferred;

CREATE INDEX event_3_id_idx ON pgrelay.event_3 USING btree (id);

CREATE INDEX event_3_xid_id_idx ON pgrelay.event_3 USING btree (xid, id);

CREATE INDEX job_workflow_job_id_idx ON pgrelay.job USING btree (workflow_job_id) WHERE (workflow_job_id IS NOT NULL);

CREATE INDEX token_user_id_idx ON pgrelay.token USING btree (user_id);

CREATE INDEX workflow_node_job_id_idx ON pgrelay.workflow_node USING btree (job_id);

CREATE INDEX workflow_node_workflow_job_id_idx ON pgrelay.workflow_node USING btree (workflow_job_id);

ALTER INDEX pgrelay.event_id_idx ATTACH PARTITION pgrelay.event_0_id_idx;

ALTER INDEX pgrelay.event_xid_id_idx ATTACH PARTITION pgrelay.event_0_xid_id_idx;

ALTER INDEX pgrelay.event_id_idx ATTACH PARTITION pgrelay.event_1_id_idx;

ALTER INDEX pgrelay.event_xid_id_idx ATTACH PARTITION pgrelay.event_1_xid_id_idx;

ALTER INDEX pgrelay.event_id_idx ATTACH PARTITION pgrelay.event_2_id_idx;

ALTER INDEX pgrelay.event_xid_id_idx ATTACH PARTITION pgrelay.event_2_xid_id_idx;

ALTER INDEX pgrelay.event_id_idx ATTACH PARTITION pgrelay.event_3_id_idx;

ALTER INDEX pgrelay.event_xid_id_idx ATTACH PARTITION pgrelay.event_3_xid_id_idx;

CREATE TRIGGER access_deleted AFTER DELETE ON pgrelay.grants REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_deleted AFTER DELETE ON pgrelay.token REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_inserted AFTER INSERT ON pgrelay.grants REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_inserted AFTER INSERT ON pgrelay.token REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_truncated BEFORE TRUNCATE ON pgrelay.grants FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_truncated BEFORE TRUNCATE ON pgrelay.token FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_updated AFTER UPDATE ON pgrelay.grants REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER access_updated AFTER UPDATE ON pgrelay.token REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._access_changed();

CREATE TRIGGER emit_setting_follow AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON pgrelay.event_type FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._emit_setting_follow();

CREATE TRIGGER emit_setting_follow AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON pgrelay.log_slot FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._emit_setting_follow();

CREATE TRIGGER emit_setting_follow AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON pgrelay.setting FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._emit_setting_follow();

CREATE TRIGGER event_truncated BEFORE TRUNCATE ON pgrelay.event_0 FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._log_truncated();

CREATE TRIGGER event_truncated BEFORE TRUNCATE ON pgrelay.event_1 FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._log_truncated();

CREATE TRIGGER event_truncated BEFORE TRUNCATE ON pgrelay.event_2 FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._log_truncated();

CREATE TRIGGER event_truncated BEFORE TRUNCATE ON pgrelay.event_3 FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._log_truncated();

CREATE TRIGGER inventory_updated AFTER UPDATE ON pgrelay.inventory REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._inventory_changed();

CREATE TRIGGER job_check BEFORE INSERT OR UPDATE OF kind, status ON pgrelay.job FOR EACH ROW EXECUTE FUNCTION pgrelay._job_check();

CREATE TRIGGER job_event_inserted AFTER INSERT ON pgrelay.job_event REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._job_event_inserted();

CREATE TRIGGER job_inserted AFTER INSERT ON pgrelay.job REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._job_changed();

CREATE TRIGGER job_updated AFTER UPDATE ON pgrelay.job REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._job_changed();

CREATE TRIGGER schedule_deleted AFTER DELETE ON pgrelay.schedule REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._schedule_changed();

CREATE TRIGGER schedule_inserted AFTER INSERT ON pgrelay.schedule REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._schedule_changed();

CREATE TRIGGER schedule_updated AFTER UPDATE ON pgrelay.schedule REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._schedule_changed();

CREATE TRIGGER pgrelay_watch_delete AFTER DELETE ON public.machines REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_2();

CREATE TRIGGER pgrelay_watch_delete AFTER DELETE ON public.orders REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_1();

CREATE TRIGGER pgrelay_watch_insert AFTER INSERT ON public.machines REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_2();

CREATE TRIGGER pgrelay_watch_insert AFTER INSERT ON public.orders REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_1();

CREATE TRIGGER pgrelay_watch_update AFTER UPDATE ON public.machines REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_2();

CREATE TRIGGER pgrelay_watch_update AFTER UPDATE ON public.orders REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION pgrelay.watch_1();

ALTER TABLE ONLY pgrelay.grants
    ADD CONSTRAINT grants_user_id_fkey FOREIGN KEY (user_id) REFERENCES pgrelay.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY pgrelay.job_event
    ADD CONSTRAINT job_event_job_id_fkey FOREIGN KEY (job_id) REFERENCES pgrelay.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY pgrelay.job
    ADD CONSTRAINT job_workflow_job_id_fkey FOREIGN KEY (workflow_job_id) REFERENCES pgrelay.job(id) ON DELETE SET NULL;

ALTER TABLE ONLY pgrelay.token
    ADD CONSTRAINT token_user_id_fkey FOREIGN KEY (user_id) REFERENCES pgrelay.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY pgrelay.workflow_node
    ADD CONSTRAINT workflow_node_job_id_fkey FOREIGN KEY (job_id) REFERENCES pgrelay.job(id) ON DELETE SET NULL;

ALTER TABLE ONLY pgrelay.workflow_node
    ADD CONSTRAINT workflow_node_workflow_job_id_fkey FOREIGN KEY (workflow_job_id) REFERENCES pgrelay.job(id) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA pgrelay TO pgrelay_node;
GRANT USAGE ON SCHEMA pgrelay TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay._access_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._announce_access(users bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._check_event(type text, action text, key text, payload jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._clean_key(key text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._commit_to_disk() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._decode_key(key text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay._decode_key(key text) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay._deferring_set(at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._emit(source refcursor, want_ids boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._emit_rows(source refcursor, want_ids boolean, sticky boolean, origin text, OUT all_ids bigint[], OUT tickets bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._emit_setting_follow() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._emit_setting_make() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._emit_setting_now() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._encode_key(key text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay._encode_key(key text) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay._event_type_put(type text, announce text, logged boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._inventory_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._is_deferring(since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._is_word(word text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_await_events(id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_check() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_check_step(id bigint, was text, becomes text) FROM PUBLIC;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE pgrelay.job TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay._job_check_words(job pgrelay.job) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_defer(changed bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._job_event_inserted() FROM PUBLIC;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE pgrelay.job_event TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay._job_event_message(e pgrelay.job_event, kind text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._json_join(a json, b json) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._json_time(at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._lock_all(relation regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_adopt() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_convert(before timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_empty(slot smallint, before timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_events(slot smallint, at timestamp with time zone, ids bigint[], types text[], actions text[], keys text[], payloads text[], deferreds boolean[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_has_index(slot smallint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_has_kind(slot smallint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_health(slot smallint, since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_is_restored(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_is_unlogged() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_look() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_make(slot smallint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_skip() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_skipping() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_skips() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_touch(at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._log_truncated() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._misses(since pg_snapshot, missing xid8) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._part_intersect(a text, b text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._pattern_check(pattern text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._pattern_split(pattern text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_check(origin text, requests jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_events(requests jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_fault(event jsonb, type text, action text, key text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_is_id(value jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_request_fault(request jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_shown(value jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_string(value jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._publish_unknown(object jsonb, fields text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._right_check(publish boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._role(name name, grants text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._schedule_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._setting_check(name text, value text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._snapshot_cut(snapshot pg_snapshot, octets integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._split_group(group_name text, OUT name text, OUT value text, OUT is_id boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._status_is_final(status text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._status_message(j pgrelay.job, group_name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._status_next(status text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._summary_message(job_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._ticket(id bigint, topic text, payload text, origin text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay._ticket(id bigint, topic text, payload text, origin text) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay._token_hash(token text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._trigger(relation regclass, name name, definition text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._user_id(user_name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_body(type text, key_column name, columns name[], original boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_check(relation regclass, type text, key_column name, columns name[], original boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_columns(body text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_emit(source refcursor) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_forget() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_function(name name, relation regclass, type text, key_column name, columns name[], original boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_key(relation regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_payload(type text, action text, key text, object json, original json) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_remember(relation regclass, body text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._watch_triggers(relation regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay._workflow_message(workflow pgrelay.job) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.announce(since pg_snapshot, tick boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.announce(since pg_snapshot, tick boolean) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.announce_set(type text, announce text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.announce_wanted() FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.announce_wanted() TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.authenticate(token text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.authenticate(token text) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.authorize(user_id bigint, patterns text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.authorize(user_id bigint, patterns text[]) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.emit(type text, action text, key text, payload jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.emit(type text, action text, key text, payload jsonb) TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay.emit_channel_notification(group_name text, payload jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.emit_channel_notification(group_name text, payload jsonb) TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay.emit_many(events pgrelay.new_event[]) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.emit_many(events pgrelay.new_event[]) TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay.epoch() FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.epoch() TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.event_payload(id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.event_payload(id bigint) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.event_payload(id bigint, topic text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.event_payload(id bigint, topic text) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.grant_add(user_name text, pattern text, publish boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.grant_remove(user_name text, pattern text, publish boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.health() FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.health() TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.job_status(patterns text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.job_status(patterns text[]) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.log_covers(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.log_covers(since pg_snapshot, deferred_since pg_snapshot, last_id bigint, last_time bigint) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.log_read(since pg_snapshot, deferred_since pg_snapshot, until pg_snapshot, deferred_until pg_snapshot, types text[], actions text[], keys text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.log_read(since pg_snapshot, deferred_since pg_snapshot, until pg_snapshot, deferred_until pg_snapshot, types text[], actions text[], keys text[]) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.log_rotate() FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.log_rotate() TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.logged_set(type text, logged boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.publish(origin text, requests jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.publish(origin text, requests jsonb) TO pgrelay_node;

REVOKE ALL ON FUNCTION pgrelay.setting_get(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.setting_get(name text) TO pgrelay_node;
GRANT ALL ON FUNCTION pgrelay.setting_get(name text) TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay.setting_set(name text, value text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.token_create(user_name text, ttl interval, description text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.token_revoke(token_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.unwatch(relation regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.user_create(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.version() FROM PUBLIC;
GRANT ALL ON FUNCTION pgrelay.version() TO pgrelay_node;
GRANT ALL ON FUNCTION pgrelay.version() TO pgrelay_emitter;

REVOKE ALL ON FUNCTION pgrelay.watch(relation regclass, type text, key_column name, columns name[], original boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.watch_1() FROM PUBLIC;

REVOKE ALL ON FUNCTION pgrelay.watch_2() FROM PUBLIC;

GRANT SELECT ON TABLE pgrelay.event TO pgrelay_node;

GRANT SELECT ON TABLE pgrelay.event_type TO pgrelay_node;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE pgrelay.inventory TO pgrelay_emitter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE pgrelay.schedule TO pgrelay_emitter;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE pgrelay.workflow_node TO pgrelay_emitter;

