--
-- The schema "pgrelay": lock, version.
--
-- All parts together are one script.  It is sent inside one transaction, needs
-- no superuser, and may be run again at any time: it keeps the data.
--
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
BEGIN
    -- two installs at the same time: the second waits, then finds it done
    PERFORM pg_advisory_xact_lock(hashtextextended('pgrelay.schema', 0));

    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'pgrelay needs a database whose encoding is UTF8, not %',
                current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create one with: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0';
    END IF;
END
$$;

-- Whoever owns the schema, or a thing in it, can make what is run here his own.
DO $$
DECLARE
    stranger name := (
        SELECT r.rolname
        FROM pg_namespace n
             CROSS JOIN LATERAL (
                 SELECT n.nspowner AS owner
                 UNION ALL SELECT c.relowner FROM pg_class c WHERE c.relnamespace = n.oid
                 UNION ALL SELECT p.proowner FROM pg_proc p
                 WHERE p.pronamespace = n.oid AND p.proname !~ '^watch_[0-9]+$') o
             JOIN pg_roles r ON r.oid = o.owner
        WHERE n.nspname = 'pgrelay' AND r.rolname <> current_user
        LIMIT 1);
BEGIN
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION 'the schema "pgrelay", or something in it, belongs to "%", not to "%"', stranger, current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Install as the role that owns it (SET ROLE %I); if it is not yours, drop it first.', stranger);
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS pgrelay;
COMMENT ON SCHEMA pgrelay IS 'relay of events to WebSocket clients';

CREATE TABLE IF NOT EXISTS pgrelay.schema_version (
    version   integer PRIMARY KEY,
    installed timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgrelay.schema_version IS
    'versions of this schema that were installed; the highest is the present one';

DO $$
DECLARE
    this_version CONSTANT integer := 4;
    installed integer := (SELECT max(version) FROM pgrelay.schema_version);
BEGIN
    IF installed > this_version THEN
        RAISE EXCEPTION 'the installed schema "pgrelay" has version %, newer than this one, %',
                installed, this_version
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Use the pgrelay program that installed it, or a newer one.';
    END IF;
    INSERT INTO pgrelay.schema_version (version) VALUES (this_version)
        ON CONFLICT DO NOTHING;
    -- the parts that follow ask it what there is to upgrade; 0: nothing, it is new
    PERFORM set_config('pgrelay.installed_version', coalesce(installed, 0)::text, true);
END
$$;

-- Whoever waits for a lock makes those behind him wait, so nobody waits here.
CREATE OR REPLACE FUNCTION pgrelay._lock_all(relation regclass)
RETURNS void LANGUAGE plpgsql
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
COMMENT ON FUNCTION pgrelay._lock_all(regclass) IS
    'locks a table against everyone, at a moment when nobody has to wait for that';

CREATE OR REPLACE FUNCTION pgrelay.version()
RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(version) FROM pgrelay.schema_version
$$;
COMMENT ON FUNCTION pgrelay.version() IS 'version of the installed schema';

-- Creating a trigger locks its table even where it exists already, so a rerun
-- on a busy database must not try to.
CREATE OR REPLACE FUNCTION pgrelay._trigger(relation regclass, name name, definition text)
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger t
                   WHERE t.tgrelid = relation AND t.tgname = name AND NOT t.tgisinternal) THEN
        EXECUTE format('CREATE TRIGGER %I %s', name,
                       replace(definition, '@', relation::text));
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._trigger(regclass, name, text) IS
    'creates a trigger unless it exists; "@" in the definition stands for the table';
