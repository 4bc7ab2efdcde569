--
-- Watching tables.
--
-- watch() makes one trigger function for each table, with the columns and the
-- type written into it: its queries are planned once a session, and a writer to
-- the table needs no rights here.  It belongs to whoever called watch().
--
-- Installing makes these functions anew, out of what pgrelay.watched says.  It
-- cannot where they are another role's: so what they call, _watch_emit(),
-- _watch_payload(), _watch_action() and _clean_key(), stays as it is in all
-- versions (and _emit(refcursor), which those of version 1 call).
--
CREATE SEQUENCE IF NOT EXISTS pgrelay.watch_seq;
COMMENT ON SEQUENCE pgrelay.watch_seq IS 'numbers of the trigger functions that watch() makes';

CREATE TABLE IF NOT EXISTS pgrelay.watched (
    relation   regclass PRIMARY KEY,
    type       text NOT NULL,
    key_column name NOT NULL,
    columns    name[],
    original   boolean NOT NULL
);
COMMENT ON TABLE pgrelay.watched IS 'watched tables, with the options of pgrelay.watch()';
COMMENT ON COLUMN pgrelay.watched.columns IS 'columns in the payload; null: all';

CREATE OR REPLACE FUNCTION pgrelay._watch_emit(source refcursor)
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pgrelay._emit_rows(source, false, true, '-');
END
$$;
COMMENT ON FUNCTION pgrelay._watch_emit(refcursor) IS
    'emits (type, action, key, payload) out of a cursor; watched tables'' triggers call it';

-- Bad data must not make the writer's own statement fail.
CREATE OR REPLACE FUNCTION pgrelay._clean_key(key text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
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
COMMENT ON FUNCTION pgrelay._clean_key(text) IS
    'a key from user data: null is empty, control characters become "?", what is past 255 octets is cut off';

CREATE OR REPLACE FUNCTION pgrelay._watch_payload(type text, action text, key text,
                                                  object json, original json DEFAULT NULL)
RETURNS text LANGUAGE sql STABLE
AS $$
    -- columns of type json may hold line breaks, though never inside a string
    SELECT translate(concat('{"group_name": "', type, '", "action": "', action, '", "key": ',
                            to_json(key), ', "object": ', object,
                            ', "original": ' || original::text, '}'),
                     E'\n\r', '  ')
$$;
COMMENT ON FUNCTION pgrelay._watch_payload(text, text, text, json, json) IS
    'payload of a watched table''s event';

CREATE OR REPLACE FUNCTION pgrelay._watch_action()
RETURNS text LANGUAGE sql STABLE
AS $$
    -- anyone may have set it, to anything
    SELECT CASE WHEN pg_catalog.lower(pg_catalog.current_setting('pgrelay.save', true)) IN ('on', 'true', 'yes', '1')
                THEN 'save' ELSE 'update' END
$$;
COMMENT ON FUNCTION pgrelay._watch_action() IS
    'how an update of a watched table is told: as save while the writer has set pgrelay.save = on';

CREATE OR REPLACE FUNCTION pgrelay._watch_body(type text, key_column name, columns name[], original boolean)
RETURNS text LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    row_of text := CASE WHEN columns IS NULL THEN '%1$s.*' ELSE
        (SELECT string_agg('%1$s.' || replace(quote_ident(c), '%', '%%'), ', ' ORDER BY n)
         FROM unnest(columns) WITH ORDINALITY AS u (c, n)) END;
    source text;
    body text := '';
    op text[];
BEGIN
    FOREACH op SLICE 1 IN ARRAY ARRAY[['INSERT', '''create''', 'new_row'],
                                      ['UPDATE', 'pgrelay._watch_action()', 'new_row'],
                                      ['DELETE', '''delete''', 'old_row']] LOOP
        source := op[3] || 's ' || op[3];
        IF original AND op[1] = 'UPDATE' THEN
            source := source || format(' LEFT JOIN old_rows old_row ON new_row.%1$I = old_row.%1$I',
                                       key_column);
        END IF;
        body := body || format($f$
    IF TG_OP = %1$L THEN
        OPEN source FOR
            SELECT %2$L, %3$s, k.key,
                   pgrelay._watch_payload(%2$L, %3$s, k.key, %4$s, %5$s)
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
$$;
COMMENT ON FUNCTION pgrelay._watch_body(text, name, name[], boolean) IS
    'source of the trigger function for a watched table';

CREATE OR REPLACE FUNCTION pgrelay._watch_function(name name, relation regclass, type text, key_column name,
                                                   columns name[], original boolean)
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION pgrelay.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off%s
AS %L$f$, name,
        -- a plan for many rows would be compiled for each statement with one; and
        -- the plan of the join is kept: it must not be one made for a single row
        CASE WHEN original THEN E'\nSET enable_nestloop = off' END,
        pgrelay._watch_body(type, key_column, columns, original));
    EXECUTE format('REVOKE ALL ON FUNCTION pgrelay.%I() FROM PUBLIC', name);
    EXECUTE format('COMMENT ON FUNCTION pgrelay.%I() IS %L', name,
                   'made by pgrelay.watch() for the table ' || relation);
END
$$;
COMMENT ON FUNCTION pgrelay._watch_function(name, regclass, text, name, name[], boolean) IS
    'makes the trigger function for a watched table, or makes it anew';

CREATE OR REPLACE FUNCTION pgrelay._watch_triggers(relation regclass)
RETURNS TABLE (trigger_name name, function_name name, owner oid, body text) LANGUAGE sql STABLE
AS $$
    SELECT t.tgname, p.proname, p.proowner, p.prosrc
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = relation AND NOT t.tgisinternal
      AND p.pronamespace = 'pgrelay'::regnamespace AND p.proname ~ '^watch_[0-9]+$'
$$;
COMMENT ON FUNCTION pgrelay._watch_triggers(regclass) IS 'the triggers that watch() put on a table, and their function';

CREATE OR REPLACE FUNCTION pgrelay._watch_key(relation regclass)
RETURNS name LANGUAGE sql STABLE
AS $$
    SELECT a.attname
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisprimary AND i.indnkeyatts = 1
$$;
COMMENT ON FUNCTION pgrelay._watch_key(regclass) IS 'the column that is the primary key, if it is one column';

CREATE OR REPLACE FUNCTION pgrelay._watch_check(relation regclass, type text, key_column name,
                                                columns name[], original boolean)
RETURNS void LANGUAGE plpgsql STABLE
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
    IF (SELECT c.relnamespace = 'pgrelay'::regnamespace
               AND c.relname NOT IN ('job', 'job_event', 'workflow_node', 'schedule', 'inventory')
        FROM pg_class c WHERE c.oid = relation) THEN
        RAISE EXCEPTION 'table "%" is one of pgrelay''s own, and cannot be watched', relation
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'These tables hold secrets, rights and the log; nodes follow changes of rights by themselves. Of this schema only the job tables can be watched.';
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
COMMENT ON FUNCTION pgrelay._watch_check(regclass, text, name, name[], boolean) IS
    'raises an error unless the table can be watched so';

-- Numbers, booleans, enums and times hold no secrets, whatever they are called.
CREATE OR REPLACE FUNCTION pgrelay._watch_secrets(relation regclass)
RETURNS name[] LANGUAGE sql STABLE
AS $$
    SELECT array_agg(a.attname ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname ~* '(password|passwd|passphrase|secret|token|api_?key|private_?key|credential)'
      AND t.typcategory NOT IN ('N', 'B', 'E', 'D', 'T')
$$;
COMMENT ON FUNCTION pgrelay._watch_secrets(regclass) IS
    'the columns whose names say that they hold secrets; null: there are none';

CREATE OR REPLACE FUNCTION pgrelay._watch_columns_default(relation regclass, key_column name)
RETURNS name[] LANGUAGE plpgsql
AS $$
DECLARE
    -- who has named the key has it told in any case
    hidden name[] := array_remove(pgrelay._watch_secrets(relation), key_column);
BEGIN
    IF coalesce(hidden, '{}') = '{}' THEN
        RETURN NULL;
    END IF;
    RAISE NOTICE 'left out of the events of table "%": %', relation,
            (SELECT string_agg('"' || c || '"', ', ') FROM unnest(hidden) c)
        USING DETAIL = 'The names of these columns say that they hold secrets. Columns that are added to the table from now on are left out, too.',
              HINT = 'To have them told, name the columns: columns => ARRAY[...]; after adding a column, call pgrelay.watch() again.';
    RETURN ARRAY(SELECT a.attname FROM pg_attribute a
                 WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                   AND a.attname <> ALL (hidden)
                 ORDER BY a.attnum);
END
$$;
COMMENT ON FUNCTION pgrelay._watch_columns_default(regclass, name) IS
    'columns of the payload when none are named: null, all, or all but the secret ones, which a notice names';

CREATE OR REPLACE FUNCTION pgrelay._watch_key_check(relation regclass, key name)
RETURNS void LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF key = ANY (pgrelay._watch_secrets(relation)) THEN
        RAISE EXCEPTION 'the name of column "%", the primary key of table "%", says that it holds secrets', key, relation
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('Keys are told with the events. Name another column, or this one if it may be told: key_column => %L.', key);
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._watch_key_check(regclass, name) IS
    'raises an error when a primary key, which nobody has named as the key, holds secrets';

CREATE OR REPLACE FUNCTION pgrelay._watch_forget()
RETURNS void LANGUAGE plpgsql
AS $$
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
$$;
COMMENT ON FUNCTION pgrelay._watch_forget() IS
    'drops the trigger functions of tables that are no longer watched, or no longer there';

CREATE OR REPLACE FUNCTION pgrelay.unwatch(relation regclass)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
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
COMMENT ON FUNCTION pgrelay.unwatch(regclass) IS
    'takes the emitting triggers off a table; returns whether there were any';

CREATE OR REPLACE FUNCTION pgrelay.watch(relation regclass, type text DEFAULT NULL,
                                         key_column name DEFAULT NULL, columns name[] DEFAULT NULL,
                                         original boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    event_type text := coalesce(type, (SELECT c.relname FROM pg_class c WHERE c.oid = relation));
    key name := coalesce(key_column, pgrelay._watch_key(relation));
    function_name name;
    op text[];
BEGIN
    PERFORM pgrelay._watch_check(relation, event_type, key, columns, original);
    IF key_column IS NULL THEN
        PERFORM pgrelay._watch_key_check(relation, key);
    END IF;
    columns := coalesce(columns, pgrelay._watch_columns_default(relation, key));
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
COMMENT ON FUNCTION pgrelay.watch(regclass, text, name, name[], boolean) IS
    'puts triggers on a table that emit an event for each row inserted, updated or deleted';

-- Version 1 kept the options nowhere but in the functions: they are read out of
-- these, and hold when they make the same function again.

CREATE OR REPLACE FUNCTION pgrelay._watch_columns(body text)
RETURNS name[] LANGUAGE plpgsql IMMUTABLE
AS $$
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
$$;
COMMENT ON FUNCTION pgrelay._watch_columns(text) IS
    'columns in the payload, out of a trigger function of version 1; null: all';

CREATE OR REPLACE FUNCTION pgrelay._watch_remember(relation regclass, body text)
RETURNS void LANGUAGE plpgsql
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
        IF replace(replace(pgrelay._watch_body(part[1], key_column, columns, original),
                           '_watch_emit(', '_emit('),
                   'pgrelay._watch_action()', '''update''') = body THEN
            INSERT INTO pgrelay.watched VALUES (relation, part[1], key_column, columns, original);
            RETURN;
        END IF;
    END IF;
    RAISE WARNING 'the trigger function of the watched table "%" is not one of ours, and stays as it is', relation
        USING HINT = 'Call pgrelay.watch() for this table again.';
END
$$;
COMMENT ON FUNCTION pgrelay._watch_remember(regclass, text) IS
    'takes the options of a watched table out of its trigger function of version 1';

CREATE OR REPLACE FUNCTION pgrelay._watch_warn(relation regclass, secrets name[])
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    RAISE WARNING 'the events of the watched table "%" tell columns whose names say that they hold secrets: %', relation,
            (SELECT string_agg('"' || c || '"', ', ') FROM unnest(secrets) c)
        USING HINT = 'Call pgrelay.watch() for this table again, and they are left out.';
END
$$;
COMMENT ON FUNCTION pgrelay._watch_warn(regclass, name[]) IS
    'warns of a table that has been watched since before version 4, which left no columns out';

DO $$
BEGIN
    IF current_setting('pgrelay.installed_version') = '1' THEN
        DROP FUNCTION pgrelay._watch_function(regclass, text, name, name[], boolean);
        PERFORM pgrelay._watch_remember(w.relation, w.body)
        FROM (SELECT DISTINCT t.tgrelid::regclass AS relation, f.body
              FROM pg_trigger t, LATERAL pgrelay._watch_triggers(t.tgrelid) f
              WHERE t.tgparentid = 0) w;
    END IF;

    IF current_setting('pgrelay.installed_version') IN ('1', '2', '3') THEN
        PERFORM pgrelay._watch_warn(w.relation, pgrelay._watch_secrets(w.relation))
        FROM pgrelay.watched w WHERE w.columns IS NULL AND pgrelay._watch_secrets(w.relation) IS NOT NULL;
    END IF;

    PERFORM pgrelay._watch_function(f.function_name, w.relation, w.type, w.key_column, w.columns, w.original)
    FROM pgrelay.watched w,
         LATERAL (SELECT DISTINCT t.function_name, t.owner FROM pgrelay._watch_triggers(w.relation) t) f
    WHERE pg_has_role(f.owner, 'USAGE');
END
$$;
