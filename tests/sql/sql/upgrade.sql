-- A database that version 1 was installed in, out of a dump (version_1.sql; it was made by pg_dump).
\c - postgres
CREATE DATABASE test_upgrade OWNER test_owner;
\c test_upgrade postgres
SET client_min_messages = warning;
\! psql -X -q -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U postgres -o /dev/null -f version_1.sql
\c - test_owner
SELECT pgrelay.version();
CREATE TABLE before AS SELECT count(*) AS events, sum(length(payload)) AS octets FROM pgrelay.event;
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U test_owner <schema.sql
SELECT pgrelay.version();

-- the data are there
SELECT b.events, (SELECT count(*) FROM pgrelay.event) = b.events AS same, (SELECT sum(length(payload)) FROM pgrelay.event) = b.octets AS same FROM before b;
SELECT count(*), bool_or(deferred) AS deferred FROM pgrelay.event;
SELECT id, status, name FROM pgrelay.job;
SELECT counter, stdout FROM pgrelay.job_event ORDER BY counter;
SELECT name FROM pgrelay.schedule UNION ALL SELECT name FROM pgrelay.inventory;
SELECT * FROM pgrelay.setting ORDER BY name;
SELECT user_name FROM pgrelay.authenticate('a token');
SELECT stale_at - since AS stale_after FROM pgrelay.emit_setting o JOIN pgrelay.log_slot s USING (slot) WHERE until IS NULL;

-- (that log is as old as the dump)
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
-- what is older than the upgrade may be missing
SELECT pgrelay.log_covers('3:3:', NULL, NULL, NULL), pgrelay.log_covers('3:3:', NULL, 9, 1);
SELECT pg_current_snapshot() AS now \gset
SELECT pgrelay.log_covers(:'now', :'now', NULL, NULL);

-- the watched tables have trigger functions of this version, out of the options that they were watched with
SELECT * FROM pgrelay.watched ORDER BY type;
SELECT p.proname, p.prosrc LIKE '%_watch_emit%' AS new, obj_description(p.oid) FROM pg_proc p
WHERE pronamespace = 'pgrelay'::regnamespace AND proname ~ '^watch_\d' AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid) ORDER BY 1;
LISTEN pgrelay;
UPDATE orders SET note = 'after';
UPDATE "My %s Schema"."My ""Table"" %I" SET "a%b" = 2;
DELETE FROM lines;
INSERT INTO pgrelay.job_event (id, job_id, counter, stdout, uuid, created, modified) VALUES (3, 1, 3, 'third', '', '2001-02-03', '2001-02-03');
UPDATE pgrelay.job SET status = 'successful', finished = '2001-02-03', started = '2001-02-03', created = '2001-02-03', elapsed = 0;

-- what is new works
SELECT pgrelay.announce_set('t', 'deferred');
SELECT pgrelay.emit('t', 'a', 'late', '{}') > 0;
SELECT events FROM pgrelay.announce(:'now', true);
SELECT count(*) FROM pgrelay.log_read(:'now', :'now', pg_current_snapshot(), pg_current_snapshot(), NULL, NULL, NULL);

-- another role's trigger function stays as it was made in version 1, and works; so does one that was changed
\c regression postgres
DROP DATABASE test_upgrade;
CREATE DATABASE test_upgrade OWNER test_owner;
\c test_upgrade postgres
SET client_min_messages = warning;
\! psql -X -q -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U postgres -o /dev/null -f version_1.sql
ALTER FUNCTION pgrelay.watch_1() OWNER TO postgres;
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('pgrelay.watch_3'::regproc), '''order-lines''', 'concat(''my-'', ''lines'')');
END
$$;
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U test_owner <schema.sql
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
SELECT relation FROM pgrelay.watched ORDER BY type;
SELECT p.proname, p.prosrc LIKE '%_watch_emit%' AS new FROM pg_proc p
WHERE pronamespace = 'pgrelay'::regnamespace AND proname ~ '^watch_\d' AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid) ORDER BY 1;
LISTEN pgrelay;
UPDATE orders SET note = 'after';
UPDATE lines SET text = 'after';
\c - test_owner
SELECT pgrelay.watch('lines', type => 'lines', key_column => 'order_id');
SELECT relation FROM pgrelay.watched ORDER BY type;

-- all is there as in a new one, but for the index of a partition that is in use, and what sessions in the middle of a
-- call may still need
\c regression postgres
CREATE DATABASE test_new OWNER test_owner;
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_new -U test_owner <schema.sql
\! for db in new upgrade; do psql -X -q -A -t -d test_$db -U postgres -f things.sql -o $db.list; done; diff new.list upgrade.list | grep "^[<>]"
DROP DATABASE test_upgrade;

-- Version 2 (version_2.sql, made in the same way).
CREATE DATABASE test_upgrade OWNER test_owner;
\c test_upgrade postgres
SET client_min_messages = warning;
\! psql -X -q -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U postgres -o /dev/null -f version_2.sql
\c - test_owner
SELECT pgrelay.version();
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U test_owner <schema.sql
SELECT pgrelay.version();
SELECT type, action, key, length(payload), deferred FROM pgrelay.event ORDER BY id;
SELECT name, value FROM pgrelay.setting UNION ALL SELECT type, announce || logged FROM pgrelay.event_type ORDER BY 1;
SELECT user_name FROM pgrelay.authenticate('a token');
SELECT pattern, publish FROM pgrelay.grants ORDER BY pattern;
SELECT * FROM pgrelay.authorize(1, ARRAY['*.*.*']) ORDER BY 2;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
LISTEN pgrelay;
UPDATE orders SET note = 'after';
INSERT INTO pgrelay.job_event (id, job_id, counter, stdout, uuid, created, modified) VALUES (2, 1, 2, 'second', '', '2001-02-03', '2001-02-03');
-- who could see may publish nothing; who may publish besides sees what he saw
SELECT error, refused FROM pgrelay.publish('web1', '[{"user": 1, "events": {"type": "t", "action": "a", "payload": {}}}]');
SELECT pgrelay.grant_add('alice', 't.*.*'), pgrelay.grant_add('alice', 't.*.*', true), pgrelay.grant_remove('alice', 'job_events.*.*');
SELECT json_array_length(ids), error FROM pgrelay.publish('web1', '[{"user": 1, "events": {"type": "t", "action": "a", "payload": {}}}]');
SELECT * FROM pgrelay.authorize(1, ARRAY['*.*.*']) ORDER BY 2;
\c regression postgres
\! psql -X -q -A -t -d test_upgrade -U postgres -f things.sql -o upgrade.list; diff new.list upgrade.list | grep "^[<>]"
DROP DATABASE test_upgrade;

-- Version 3 (version_3.sql, made in the same way).
CREATE DATABASE test_upgrade OWNER test_owner;
\c test_upgrade postgres
SET client_min_messages = warning;
\! psql -X -q -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U postgres -o /dev/null -f version_3.sql
\c - test_owner
SELECT pgrelay.version();
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U test_owner <schema.sql
-- (once more: it warns no more)
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_upgrade -U test_owner <schema.sql
SELECT pgrelay.version();
SELECT type, action, key, length(payload), deferred FROM pgrelay.event ORDER BY id;
SELECT user_name FROM pgrelay.authenticate('a token');
SELECT pattern, publish FROM pgrelay.grants ORDER BY pattern;
SELECT * FROM pgrelay.authorize(1, ARRAY['*.*.*']) UNION ALL SELECT * FROM pgrelay.authorize_publish(1, ARRAY['*.*.*']) ORDER BY 2;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
LISTEN pgrelay;
-- watched tables tell what they told, and know saves
UPDATE machines SET name = 'two';
BEGIN;
SET LOCAL pgrelay.save = on;
UPDATE machines SET name = 'three';
COMMIT;
ALTER TABLE machines ADD COLUMN more text;
DELETE FROM machines;
-- tokens have chains
SELECT count(*) FROM pgrelay.token_issue(1, '1 hour', 1);
SELECT count(*), count(origin) FROM pgrelay.token;
SELECT pgrelay.token_revoke(1);
SELECT count(*) FROM pgrelay.token;
SELECT pgrelay.password_set('alice', 'pencil');
SELECT user_name FROM pgrelay.authenticate_password('alice', 'pencil');
\c regression postgres
\! psql -X -q -A -t -d test_upgrade -U postgres -f things.sql -o upgrade.list; diff new.list upgrade.list | grep "^[<>]"
DROP DATABASE test_upgrade;
DROP DATABASE test_new;
