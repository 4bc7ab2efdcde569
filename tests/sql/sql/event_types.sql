-- Types of events that are deferred, or exempt from the log.
\c - test_owner
TRUNCATE pgrelay.event;
LISTEN pgrelay;
SELECT try($$SELECT pgrelay.announce_set('two words', 'deferred')$$);
SELECT try($$SELECT pgrelay.announce_set(NULL, 'deferred')$$);
SELECT try($$SELECT pgrelay.announce_set('*', 'deferred')$$);
SELECT try($$SELECT pgrelay.announce_set('late', 'later')$$);
SELECT try($$SELECT pgrelay.announce_set('late', NULL)$$);
SELECT try($$SELECT pgrelay.logged_set('', false)$$);
SELECT try($$SELECT pgrelay.logged_set('late', NULL)$$);
SELECT pgrelay.announce_set('late', 'deferred');
SELECT pgrelay.logged_set('light', false);
SELECT * FROM pgrelay.event_type ORDER BY type;
-- makes the connection's last deferred event older by so many milliseconds
CREATE FUNCTION age(ms bigint) RETURNS boolean LANGUAGE sql AS $$
    SELECT set_config('pgrelay.deferring', split_part(m, ' ', 1) || ' ' || split_part(m, ' ', 2)::bigint - ms, false) <> ''
    FROM current_setting('pgrelay.deferring') m
$$;
-- not both
SELECT try($$SELECT pgrelay.logged_set('late', false)$$);
SELECT try($$SELECT pgrelay.announce_set('light', 'deferred')$$);
SELECT try($$INSERT INTO pgrelay.event_type VALUES ('both', 'deferred', false)$$);
-- what is as by default has no row
SELECT pgrelay.announce_set('light', 'commit'), pgrelay.logged_set('late', true), pgrelay.announce_set('other', 'commit');
SELECT * FROM pgrelay.event_type ORDER BY type;

-- exempt: announced as such, not logged but for what does not fit
SELECT pgrelay.emit('light', 'a', 'k', '{"n": 1}') > 0;
SELECT pgrelay.emit('light', 'big', 'k', jsonb_build_object('x', repeat('x', 8000))) > 0;
SELECT count(*) FROM pgrelay.emit_many(ARRAY[('light', 'b', '1', '{}'), ('other', 'b', '2', '{}'), ('light', 'b', '3', '{}')]::pgrelay.new_event[]);
SELECT type, action, key, deferred FROM pgrelay.event ORDER BY id;

-- deferred: logged, not announced
TRUNCATE pgrelay.event;
\c - test_owner
LISTEN pgrelay;
SELECT pgrelay.emit('late', 'a', 'k', '{"n": 1}') > 0;
SELECT pgrelay.emit('late', 'big', 'k', jsonb_build_object('x', repeat('x', 8000))) > 0;
SELECT count(*), bool_and(id > 0) AS positive FROM pgrelay.emit_many(ARRAY[('late', 'b', '1', '{}'), ('late', 'b', '2', '{}')]::pgrelay.new_event[]) id;
SELECT id = lag(id) OVER (ORDER BY id) + 1 AS next, type, action, key, deferred FROM pgrelay.event ORDER BY id;
-- what was emitted before it is not held up
TRUNCATE pgrelay.event;
\c - test_owner
LISTEN pgrelay;
BEGIN;
SELECT pgrelay.emit('other', 'before', '', '{}') > 0;
SELECT pgrelay.emit('late', 'a', '', '{}') > 0;
SELECT pgrelay.emit('other', 'after', '', '{}') > 0, pgrelay.emit('light', 'exempt', '', '{}') > 0;
COMMIT;
SELECT type, action, deferred FROM pgrelay.event ORDER BY id;
-- nor in one statement
TRUNCATE pgrelay.event;
\c - test_owner
LISTEN pgrelay;
SELECT count(*) FROM pgrelay.emit_many(ARRAY[('other', 'before', '', '{}'), ('light', 'exempt', '', '{}'), ('late', 'a', '', '{}'), ('other', 'after', '', '{}'), ('light', 'exempt', '2', '{}')]::pgrelay.new_event[]);
SELECT type, action, deferred FROM pgrelay.event ORDER BY id;

-- what one connection emits within a second stays in order; after that it is announced
SELECT pgrelay.emit('late', 'a', '', '{}') > 0;
SELECT age(-60000), pgrelay.emit('other', 'within', '', '{}') > 0;
SELECT age(-60000), pgrelay.emit('light', 'within', '', '{}') > 0;
SELECT age(1001), pgrelay.emit('other', 'later', '', '{}') > 0;
SELECT type, action, deferred FROM pgrelay.event WHERE action IN ('within', 'later') ORDER BY id;
-- in one transaction it does however long that takes
BEGIN;
SELECT pgrelay.emit('late', 'a', '', '{}') > 0;
SELECT age(60000), pgrelay.emit('other', 'later', '2', '{}') > 0;
COMMIT;
-- not after a rollback
\c - test_owner
LISTEN pgrelay;
BEGIN;
SELECT pgrelay.emit('late', 'rolled-back', '', '{}') > 0;
ROLLBACK;
SELECT pgrelay.emit('other', 'after', 'rollback', '{}') > 0;
BEGIN;
SAVEPOINT s;
SELECT pgrelay.emit('late', 'rolled-back', '', '{}') > 0;
ROLLBACK TO s;
SELECT pgrelay.emit('other', 'after', 'savepoint', '{}') > 0;
COMMIT;
-- anyone can set it, to anything
SET pgrelay.deferring = 'x';
SELECT pgrelay.emit('late', 'a', '', '{}') > 0;
SET pgrelay.deferring = '';
SELECT pgrelay.emit('other', 'after', 'nonsense', '{}') > 0;
RESET pgrelay.deferring;

-- watched tables
CREATE TABLE late (id integer PRIMARY KEY);
CREATE TABLE plain (id integer PRIMARY KEY);
SELECT pgrelay.watch('late'), pgrelay.watch('plain');
INSERT INTO plain VALUES (1);
INSERT INTO late VALUES (1), (2);
SELECT age(-60000);
INSERT INTO plain VALUES (2);
UPDATE plain SET id = 3 WHERE false;
SELECT type, key, deferred FROM pgrelay.event WHERE type IN ('late', 'plain') AND action = 'create' ORDER BY id;
DROP TABLE late, plain;

-- a job's status, summary and workflow follow its events
\c - test_owner
LISTEN pgrelay;
SELECT pgrelay.announce_set('project_update_events', 'deferred');
INSERT INTO pgrelay.job (id, kind, status, created, started, elapsed) VALUES (77, 'workflow_job', 'running', '2001-02-03', '2001-02-03', 0);
TRUNCATE pgrelay.event;
INSERT INTO pgrelay.job (id, kind, status, created, started, elapsed, workflow_job_id)
VALUES (1, 'project_update', 'running', '2001-02-03', '2001-02-03', 0, 77);
\c - test_owner
LISTEN pgrelay;
INSERT INTO pgrelay.job (id, kind, status, created, started, elapsed) VALUES (2, 'job', 'running', '2001-02-03', '2001-02-03', 0);
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (9001, 1, 1, '', '2001-02-03', '2001-02-03'), (9002, 1, 2, '', '2001-02-03', '2001-02-03');
-- a job whose events are not deferred does not wait for the others
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (9000, 2, 1, '', '2001-02-03', '2001-02-03');
SELECT age(-60000), pgrelay.emit('other', 'waits', '', '{}') > 0;
\c - test_owner
LISTEN pgrelay;
-- both kinds in one statement: the order is that of the jobs
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (9003, 2, 2, '', '2001-02-03', '2001-02-03'), (9004, 1, 3, '', '2001-02-03', '2001-02-03');
\c - test_owner
LISTEN pgrelay;
UPDATE pgrelay.job SET status = 'successful', finished = '2001-02-03' WHERE id = 1;
-- a late line, and its summary
\c - test_owner
LISTEN pgrelay;
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (9005, 1, 4, '', '2001-02-03', '2001-02-03');
\c - test_owner
LISTEN pgrelay;
UPDATE pgrelay.job SET status = 'failed', finished = '2001-02-03' WHERE id = 2;
SELECT type, action, key, deferred, payload::json->>'counter' AS counter, payload::json->>'final_counter' AS final_counter
FROM pgrelay.event ORDER BY id;

-- of a stale log nothing can be announced: the writers do it
\c - test_owner
LISTEN pgrelay;
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now() - interval '2 h' WHERE until IS NULL;
SELECT pgrelay.emit('late', 'stale', '', '{}') > 0, pgrelay.emit('light', 'stale', '', '{}') > 0;
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (9006, 1, 5, '', '2001-02-03', '2001-02-03');
SELECT count(*) FROM pgrelay.event;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
SELECT pgrelay.log_rotate();

DROP FUNCTION age(bigint);
DELETE FROM pgrelay.job;
DELETE FROM pgrelay.event_type;
SELECT deferred, exempt FROM pgrelay.emit_setting;
