-- Installing again waits for nobody who writes, and loses nothing.
\c - test_owner
CREATE TABLE watched (id integer PRIMARY KEY);
SELECT pgrelay.watch('watched');
INSERT INTO pgrelay.job (id, status) VALUES (1, 'running');
INSERT INTO pgrelay.job_event (job_id, counter) VALUES (1, 1);
SELECT pgrelay.setting_set('retention', '20 min');
SELECT token FROM pgrelay.token_create('alice') \gset
SELECT count(*) AS events FROM pgrelay.event \gset
-- locks that would make a writer wait
\! (cat schema.sql; cat show_locks.sql) | psql -X -q -A -t -1 -v ON_ERROR_STOP=1 -d regression -U test_owner
SELECT count(*) = :events AS kept FROM pgrelay.event;
SELECT count(*) FROM pgrelay.job_event;
SELECT pgrelay.setting_get('retention');
SELECT user_name FROM pgrelay.authenticate(:'token');
LISTEN pgrelay;
INSERT INTO watched VALUES (1);

-- and it can all be removed
SET client_min_messages = warning;
DROP SCHEMA pgrelay CASCADE;
INSERT INTO watched VALUES (2);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'watched'::regclass;
DROP TABLE watched;
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d regression -U test_owner <schema.sql
SELECT pgrelay.emit('a', 'b', 'c', '{}');
