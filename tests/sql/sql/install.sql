-- by a role that owns the database and is nothing else
CREATE ROLE test_owner LOGIN;
ALTER DATABASE regression OWNER TO test_owner;
ALTER SCHEMA public OWNER TO test_owner;

-- prints how a statement ends
CREATE FUNCTION public.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
    result text;
BEGIN
    EXECUTE statement INTO result;
    RETURN coalesce(result, 'ok');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message := MESSAGE_TEXT, hint := PG_EXCEPTION_HINT;
    RETURN format('%s: %s | %s', SQLSTATE, message, hint);
END
$$;

\c - test_owner
SET client_min_messages = warning;
-- the roles do not exist, and it may not create them
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema.sql
DROP SCHEMA pgrelay CASCADE;

-- an administrator has made them
\c - postgres
CREATE ROLE pgrelay_node NOLOGIN;
CREATE ROLE pgrelay_emitter NOLOGIN;
\c - test_owner
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema.sql
SELECT pgrelay.version();
SELECT version, installed <= now() AS installed FROM pgrelay.schema_version;

-- once more, keeping the data
INSERT INTO pgrelay.schedule (name) VALUES ('kept');
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema.sql
DELETE FROM pgrelay.schedule RETURNING name;
SELECT count(*) FROM pgrelay.schema_version;

-- a newer one is there already
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema_999.sql
SELECT pgrelay.version();
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema.sql
SELECT pgrelay.version();
DELETE FROM pgrelay.schema_version WHERE version = 999;

-- everything is commented
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'pgrelay'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class c
WHERE relnamespace = 'pgrelay'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
  AND obj_description(c.oid, 'pg_class') IS NULL;

-- nothing is for everyone; what runs with its owner's rights has a fixed search_path (log_read() runs with its
-- caller's, and becomes a part of his query)
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'pgrelay'::regnamespace
  AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) a WHERE a.grantee = 0));
SELECT p.oid::regprocedure FROM pg_proc p
WHERE pronamespace = 'pgrelay'::regnamespace AND (prosecdef OR proname !~ '^_')
  AND proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}';
SELECT c.oid::regclass, acl FROM pg_class c, aclexplode(c.relacl) acl
WHERE relnamespace = 'pgrelay'::regnamespace AND acl.grantee = 0;

-- another encoding
\c - postgres
CREATE DATABASE test_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_latin1 -U postgres <schema.sql
