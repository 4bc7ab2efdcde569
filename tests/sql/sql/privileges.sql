\c - test_owner
LISTEN pgrelay;
CREATE TABLE watched (id integer PRIMARY KEY);
SELECT pgrelay.watch('watched');
SELECT token FROM pgrelay.token_create('alice') \gset
SELECT pgrelay.user_create('alice') AS alice, pgrelay.grant_add('alice', 'a.*.*', true) AS granted \gset
SELECT pgrelay.password_set('alice', 'pencil');
INSERT INTO pgrelay.job (id, status, created, started, elapsed) VALUES (1000001, 'running', '2001-02-03', '2001-02-03', 0);

\c - postgres
CREATE ROLE test_writer LOGIN;
CREATE ROLE test_emitter LOGIN IN ROLE pgrelay_emitter;
CREATE ROLE test_node LOGIN IN ROLE pgrelay_node;
GRANT INSERT ON public.watched TO test_writer;

-- a writer to a watched table needs nothing but that
\c - test_writer
LISTEN pgrelay;
INSERT INTO watched VALUES (1);
SELECT try($$SELECT pgrelay.emit('a', 'b', 'c', '{}')$$);
SELECT try($$SELECT count(*) FROM pgrelay.event$$);
SELECT try($$SELECT pgrelay.watch('watched')$$);

-- an emitter emits and writes jobs
\c - test_emitter
LISTEN pgrelay;
SELECT pgrelay.version();
SELECT pgrelay.emit('a', 'b', 'c', '{}') > 0;
SELECT count(*) FROM pgrelay.emit_many(ARRAY[('a', 'b', 'c', '{}')]::pgrelay.new_event[]);
SELECT pgrelay.emit_channel_notification('a-1', '{}') > 0;
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (1000001, 1000001, 1, '', '2001-02-03', '2001-02-03');
INSERT INTO pgrelay.job (created) VALUES ('2001-02-03') RETURNING id > 0;
INSERT INTO pgrelay.schedule (name) VALUES ('x');
INSERT INTO pgrelay.inventory (name) VALUES ('x');
INSERT INTO pgrelay.workflow_node (workflow_job_id) VALUES (1000001);
SELECT try($$SELECT count(*) FROM pgrelay.event$$);
SELECT try($$SELECT pgrelay.event_payload(1)$$);
SELECT try($$SELECT pgrelay.log_rotate()$$);
SELECT try($$SELECT count(*) FROM pgrelay.authenticate('x')$$);
SELECT try($$SELECT count(*) FROM pgrelay.token$$);
SELECT try($$SELECT pgrelay.token_create('x')$$);
SELECT try($$SELECT count(*) FROM pgrelay.token_issue(1, '1 hour')$$);
SELECT try($$SELECT count(*) FROM pgrelay.password$$);
SELECT try($$SELECT count(*) FROM pgrelay.authenticate_password('x', 'x')$$);
SELECT try($$SELECT count(*) FROM pgrelay.authenticate_name('x')$$);
SELECT try($$SELECT count(*) FROM pgrelay.authorize_publish(1, '{}')$$);
SELECT try($$SELECT pgrelay.connections_changed('web1', '[]')$$);
SELECT try($$SELECT pgrelay.grant_add('alice', '*.*.*')$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish('web1', '[]')$$);
SELECT try($$SELECT pgrelay.setting_set('channel', 'x')$$);
SELECT try($$SELECT pgrelay.announce_set('a', 'deferred')$$);
SELECT try($$SELECT pgrelay.logged_set('a', false)$$);
SELECT try($$SELECT * FROM pgrelay.announce(NULL, true)$$);
SELECT try($$SELECT * FROM pgrelay.log_read(NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$);
SELECT try($$UPDATE pgrelay.setting SET value = 'x'$$);
SELECT try($$SELECT pgrelay._check_event('a', 'b', 'c', '{}')$$);
SELECT try($$DROP TRIGGER job_check ON pgrelay.job$$);
SELECT try($$TRUNCATE pgrelay.job_event$$);

-- a node authenticates, authorizes, reads the log, rotates it and announces
\c - test_node
SELECT pgrelay.version(), pgrelay.setting_get('channel');
SELECT user_name FROM pgrelay.authenticate(:'token');
SELECT count(*) FROM pgrelay.authorize(1, ARRAY['*.*.*']);
SELECT count(*) > 0 FROM pgrelay.event;
SELECT pgrelay.event_payload(max(id)) IS NOT NULL FROM pgrelay.event;
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pgrelay.job_status(ARRAY['job_events.*.1000001']);
SELECT pgrelay.epoch() <> '', pgrelay.announce_wanted(), pgrelay.log_covers(pg_current_snapshot(), pg_current_snapshot(), 1, 1);
SELECT count(*) > 0 AS some, count(record) = count(*) AS records
FROM pgrelay.log_read('3:3:', '3:3:', pg_current_snapshot(), pg_current_snapshot(), '{a,NULL}', '{b,c}', '{NULL,d}');
SELECT log_state FROM pgrelay.health();
SELECT count(*) FROM pgrelay.event_type;
SELECT events FROM pgrelay.announce(NULL, true);
-- it publishes for users who may, and emits nothing else
SELECT json_array_length(ids) AS ids, refused FROM pgrelay.publish('web1', format('[{"user": %s, "events": {"type": "a", "action": "b", "payload": {}}}, {"user": %1$s, "events": {"type": "b", "action": "b", "payload": {}}}]', :alice)::jsonb);
SELECT user_name FROM pgrelay.authenticate_password('alice', 'pencil');
SELECT user_name FROM pgrelay.authenticate_name('alice');
SELECT * FROM pgrelay.authorize_publish(:alice, ARRAY['a.b.*', 'b.b.*']);
SELECT token AS issued FROM pgrelay.token_issue(:alice, '1 hour') \gset
SELECT user_name FROM pgrelay.authenticate(:'issued');
SELECT pgrelay.connections_changed('web1', '[{"action": "create", "principal": "user:alice", "object": {}}]');
SELECT try($$SELECT count(*) FROM pgrelay.password$$);
SELECT try($$SELECT pgrelay.password_set('alice', 'x')$$);
SELECT try($$SELECT pgrelay.password_remove('alice')$$);
SELECT try($$SELECT pgrelay.token_revoke(1)$$);
SELECT try($$SELECT pgrelay._scram_matches('', '')$$);
SELECT try($$SELECT pgrelay.announce_set('a', 'deferred')$$);
SELECT try($$SELECT count(*) FROM pgrelay.log_state$$);
SELECT try($$SELECT pgrelay.emit('a', 'b', 'c', '{}')$$);
SELECT try($$SELECT count(*) FROM pgrelay.emit_many('{}')$$);
SELECT try($$SELECT pgrelay._emit_rows('x', true, true, '-')$$);
SELECT try($$SELECT count(*) FROM pgrelay._publish_events('[]')$$);
SELECT try($$SELECT pgrelay.grant_add('alice', '*.*.*', true)$$);
SELECT try($$INSERT INTO pgrelay.grants (user_id, pattern, publish) VALUES (1, '*.*.*', true)$$);
SELECT try($$INSERT INTO pgrelay.job DEFAULT VALUES$$);
SELECT try($$SELECT count(*) FROM pgrelay.token$$);
SELECT try($$SELECT count(*) FROM pgrelay.job$$);
SELECT try($$SELECT pgrelay.token_create('x')$$);
SELECT try($$DELETE FROM pgrelay.event$$);

\c - test_owner
DROP TABLE watched;
DELETE FROM pgrelay.job;
DELETE FROM pgrelay.users;
\c - postgres
DROP ROLE test_writer, test_emitter, test_node;
