\c - test_owner
LISTEN pgrelay;
SELECT pgrelay.emit('type', 'action', 'key', '{"n": 1}') > 0;
SELECT pgrelay.emit('type', 'action', '', '{}') > 0;
SELECT pgrelay.emit('T_y-9', '-', 'a.b..c', '{}') > 0;

-- keys that need encoding, and keys that do not
SELECT pgrelay.emit('type', 'action', 'a b%20*,c', '{}') > 0;
SELECT pgrelay.emit('type', 'action', '"quoted" \ ''é😀''', '{}') > 0;

-- payloads
SELECT pgrelay.emit('type', 'action', 'key', jsonb_build_object('text', E'"quotes" \\ ''single''\r\nline\ttab %s $1 😀')) > 0;
SELECT pgrelay.emit('type', 'action', 'key', E'{"a":\n[1,\n2]}') > 0;

-- refused
SELECT try($$SELECT pgrelay.emit('', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit(NULL, 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('a b', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('a.b', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('*', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('é', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit(E'type\n', 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit(repeat('x', 64), 'action', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', NULL, 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', 'act ion', 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', repeat('x', 64), 'key', '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', NULL, '{}')$$);
SELECT try(format('SELECT pgrelay.emit(%L, %L, %L, %L)', 'type', 'action', 'a' || chr(n) || 'b', '{}')) AS answer, count(*)
FROM unnest(array_append(array(SELECT generate_series(1, 31)), 127)) n GROUP BY 1;
SELECT try($$SELECT pgrelay.emit('type', 'action', repeat('x', 256), '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', repeat('é', 128), '{}')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', 'key', NULL)$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', 'key', 'null')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', 'key', '[]')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', 'key', '"text"')$$);
SELECT try($$SELECT pgrelay.emit('type', 'action', 'key', '{')$$);

-- at the limits
SELECT pgrelay.emit(repeat('t', 63), repeat('a', 63), repeat('k', 255), '{}') > 0;
SELECT pgrelay.emit(repeat('t', 63), repeat('a', 63), repeat('%', 255), '{}') > 0;
SELECT pgrelay.emit('type', 'action', 'k' || repeat('é', 127), '{}') > 0;

-- emit_many
SELECT count(*), min(id) > 0 AS positive, array_agg(id ORDER BY n) = array_agg(id ORDER BY id) AS ascending
FROM pgrelay.emit_many(ARRAY[('t', 'a', '1', '{"n": 1}'), ('t', 'b', '2', '{"n": 2}'), ('u', 'a', '', '{}')]::pgrelay.new_event[])
     WITH ORDINALITY AS e (id, n);
SELECT count(*) FROM pgrelay.emit_many('{}');
SELECT count(*) FROM pgrelay.emit_many(NULL);
SELECT try($$SELECT count(*) FROM pgrelay.emit_many(ARRAY[('t', 'a', '1', '{}'), ('t', 'a b', '1', '{}')]::pgrelay.new_event[])$$);
SELECT try($$SELECT count(*) FROM pgrelay.emit_many(ARRAY[NULL]::pgrelay.new_event[])$$);

-- AWX's function
SELECT pgrelay.emit_channel_notification('job_events-42', '{"event": "runner_on_ok", "counter": 1}') > 0;
SELECT pgrelay.emit_channel_notification('job_events-42', '{"event": "two words"}') > 0;
SELECT pgrelay.emit_channel_notification('job_events-42', '{"event": null}') > 0;
SELECT pgrelay.emit_channel_notification('my-type-42', '{}') > 0;
SELECT pgrelay.emit_channel_notification('machines-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0', '{}') > 0;
SELECT pgrelay.emit_channel_notification('jobs-status_changed', '{"unified_job_id": 7, "id": 8}') > 0;
SELECT pgrelay.emit_channel_notification('jobs-status_changed', '{"id": "eight"}') > 0;
SELECT pgrelay.emit_channel_notification('inventories-status_changed', '{"inventory_id": 9}') > 0;
SELECT pgrelay.emit_channel_notification('schedules-changed', '{}') > 0;
SELECT pgrelay.emit_channel_notification('control-limit_reached_5', '{}') > 0;
SELECT pgrelay.emit_channel_notification('a-b-c', '{}') > 0;
SELECT try($$SELECT pgrelay.emit_channel_notification(NULL, '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('jobs', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('jobs-', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('-42', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('my jobs-42', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('jobs-%', '{}')$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('job_events-42', NULL)$$);
SELECT try($$SELECT pgrelay.emit_channel_notification('job_events-42', '[]')$$);

-- transactions
BEGIN;
SELECT pgrelay.emit('t', 'rolled-back', '', '{}') > 0;
ROLLBACK;
BEGIN;
SELECT pgrelay.emit('t', 'first', '', '{}') > 0;
SAVEPOINT s;
SELECT pgrelay.emit('t', 'rolled-back', '', '{}') > 0;
ROLLBACK TO s;
SELECT pgrelay.emit('t', 'second', '', '{}') > 0;
SELECT pgrelay.emit('t', 'third', '', jsonb_build_object('long', repeat('x', 8000))) > 0;
SELECT pgrelay.emit('t', 'fourth', '', '{}') > 0;
COMMIT;
SELECT count(*) FROM pgrelay.event WHERE action = 'rolled-back';

-- whatever the caller's search_path is
SET client_min_messages = warning;
CREATE SCHEMA evil;
CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
SET search_path = evil, pg_catalog;
SELECT pgrelay.emit('t', 'safe', '', '{}') > 0;
RESET search_path;
DROP SCHEMA evil CASCADE;
