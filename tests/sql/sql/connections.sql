-- Nodes tell of their connections.
\c - test_owner
LISTEN pgrelay;
SELECT pgrelay.connections_changed('web1', '[{"action": "create", "principal": "user:bob", "object": {"RemoteAddr": "192.0.2.7:50312", "Type": "websocket"}},
    {"action": "delete", "principal": "user:bob", "object": {"RemoteAddr": "192.0.2.7:50312", "Type": "websocket"}},
    {"action": "create", "principal": "runner:b0c1 *,%\"\\", "object": {}}]');
SELECT pgrelay.connections_changed('web1', '[]');
-- names that can be no keys
SELECT pgrelay.connections_changed('web1', jsonb_build_array(jsonb_build_object('action', 'create', 'principal', E'user:a\nb\x7f', 'object', '{}'::jsonb), jsonb_build_object('action', 'delete', 'principal', 'user:' || repeat('é', 200), 'object', '{}'::jsonb),
                                                             jsonb_build_object('action', 'delete', 'principal', '', 'object', jsonb_build_object('text', E'line\nbreak "'))));
SELECT count(*) AS logged, bool_and(payload::json->>'key' = key AND payload::json->>'action' = action AND payload::json->>'group_name' = type AND payload::json->>'principal' = 'pgrelay') AS envelopes
FROM pgrelay.event WHERE type = 'connections';

-- many at a time go together
UNLISTEN *;
SELECT pgrelay.connections_changed('web1', (SELECT jsonb_agg(jsonb_build_object('action', 'create', 'principal', 'user:' || n, 'object', jsonb_build_object('n', n)) ORDER BY n) FROM generate_series(1, 1000) n));
SELECT count(*), count(DISTINCT xid) AS transactions, bool_and(payload::json->'object'->>'n' = split_part(key, ':', 2)) AS own, array_agg(key ORDER BY id) = array_agg(key ORDER BY split_part(key, ':', 2)::integer) AS in_order
FROM pgrelay.event WHERE type = 'connections' AND key ~ '^user:\d+$';
LISTEN pgrelay;
-- what does not fit goes as a ticket, of this node
SELECT pgrelay.connections_changed('web 1', jsonb_build_array(jsonb_build_object('action', 'create', 'principal', 'user:bob', 'object', jsonb_build_object('x', repeat('x', 8000)))));
-- deferred and exempt as ever
SELECT pgrelay.logged_set('connections', false);
SELECT pgrelay.connections_changed('web1', '[{"action": "create", "principal": "user:bob", "object": {}}]');
SELECT pgrelay.logged_set('connections', true);

-- what a node does wrong; nothing of it is emitted
SELECT e, try(format('SELECT pgrelay.connections_changed(%L, %L)', 'web1', e))
FROM unnest(ARRAY[NULL, '{}', '1', '[1]', '[null]', '[[]]', '[{}]', '[{"action": "update", "principal": "x", "object": {}}]', '[{"action": ["create"], "principal": "x", "object": {}}]', '[{"principal": "x", "object": {}}]',
                  '[{"action": "create", "object": {}}]', '[{"action": "create", "principal": 5, "object": {}}]', '[{"action": "create", "principal": null, "object": {}}]', '[{"action": "create", "principal": "x"}]', '[{"action": "create", "principal": "x", "object": null}]',
                  '[{"action": "create", "principal": "x", "object": []}]', '[{"action": "create", "principal": "x", "object": {}}, {"action": "create", "principal": "x"}]']) e;
SELECT try($$SELECT pgrelay.connections_changed('', '[]')$$);
SELECT try($$SELECT pgrelay.connections_changed(NULL, '[]')$$);
SELECT try($$SELECT pgrelay.connections_changed(E'a\nb', '[]')$$);
TRUNCATE pgrelay.event;
