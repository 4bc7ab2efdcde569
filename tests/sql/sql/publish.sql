-- Publishing through a node.
\c - test_owner
LISTEN pgrelay;
ALTER SEQUENCE pgrelay.users_id_seq RESTART 701;
SELECT pgrelay.user_create('alice') AS alice, pgrelay.user_create('bob') AS bob, pgrelay.user_create('carol') AS carol \gset
SELECT pgrelay.grant_add('alice', 'deploy.*.*', true), pgrelay.grant_add('bob', '*.*.*'), pgrelay.grant_add('carol', '*.*.*', true);
CREATE FUNCTION event(type text, action text DEFAULT 'a', key text DEFAULT 'k', payload jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql
AS 'SELECT jsonb_build_object(''type'', type, ''action'', action, ''key'', key, ''payload'', payload)';
CREATE FUNCTION request(user_id bigint, events jsonb) RETURNS jsonb LANGUAGE sql
AS 'SELECT jsonb_build_object(''user'', user_id, ''events'', events)';
-- the answer, with the ids as topics that the log has under them
CREATE FUNCTION answer(origin text, VARIADIC requests jsonb[])
RETURNS TABLE (request integer, published text, error text, refused text, index integer, ticket text, payload_octets integer) LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM pgrelay.publish(origin, to_jsonb(requests)) LOOP
        request := p.request;
        published := (SELECT string_agg(coalesce(e.type || '.' || e.action || '.' || e.key, 'not logged'), ' ' ORDER BY n)
                      FROM json_array_elements_text(p.ids) WITH ORDINALITY AS i (id, n) LEFT JOIN pgrelay.event e ON e.id = i.id::bigint);
        error := regexp_replace(p.error, 'user -?\d+', 'user N');
        refused := p.refused;
        index := p.index;
        ticket := p.ticket_topic;
        payload_octets := octet_length(p.ticket_payload);
        RETURN NEXT;
    END LOOP;
END
$$;

-- one event, a list of them, one without key
SELECT * FROM answer('web1', request(:alice, event('deploy', 'step', 'web1', '{"done": 3}')));
SELECT * FROM answer('web1', request(:alice, jsonb_build_array(event('deploy', 'step', '1'), event('deploy', 'step', '2'), '{"type": "deploy", "action": "end", "payload": {}}'::jsonb)));
SELECT count(*) FROM pgrelay.publish('web1', '[]');
SELECT ids FROM pgrelay.publish('web1', jsonb_build_array(request(:alice, event('deploy')))) \gset
SELECT :'ids' ~ '^\[\d+\]$' AS form;

-- rights: to publish is one thing, to see another
SELECT * FROM answer('web1', request(:bob, event('deploy')), request(:alice, event('other')), request(:carol, event('any', 'thing', 'at all')), request(-1, event('deploy')));
SELECT count(*) FROM pgrelay.authorize(:alice, ARRAY['deploy.*.*']);
SELECT * FROM pgrelay.authorize(:bob, ARRAY['deploy.*.*']);
SELECT count(*) FROM pgrelay.authorize(:carol, ARRAY['deploy.*.*']);
-- one and the same pattern, both ways
SELECT pgrelay.grant_add('bob', '*.*.*', true), pgrelay.grant_add('bob', '*.*.*', true);
SELECT * FROM answer('web1', request(:bob, event('deploy')));
SELECT pgrelay.grant_remove('bob', '*.*.*');
SELECT * FROM answer('web1', request(:bob, event('deploy')));
SELECT count(*) FROM pgrelay.authorize(:bob, ARRAY['deploy.*.*']);
SELECT pgrelay.grant_remove('bob', '*.*.*', true), pgrelay.grant_remove('bob', '*.*.*', true);
SELECT * FROM answer('web1', request(:bob, event('deploy')));
SELECT try($$SELECT pgrelay.grant_add('bob', 'a.b.c', NULL)$$);
SELECT try($$SELECT pgrelay.grant_remove('bob', 'a.b.c', NULL)$$);
UNLISTEN *;
-- every form of a pattern, against every event that is one part away from it; a literal "*" is no wildcard
SELECT p AS pattern, (SELECT pgrelay.grant_add('bob', p, true)) AS granted,
       (SELECT string_agg(concat(e->>'type', '.', e->>'action', '.', e->>'key'), ' ' ORDER BY n) FROM unnest(l.e) WITH ORDINALITY AS u (e, n)
        WHERE (SELECT error IS NULL FROM pgrelay.publish('web1', jsonb_build_array(request(:bob, e))))) AS may,
       (SELECT pgrelay.grant_remove('bob', p, true)) AS removed
FROM unnest(ARRAY['t.a.k', 't.a.*', 't.*.k', 't.*.*', '*.a.k', '*.a.*', '*.*.k', '*.*.*', 't.a.%2A', '*.*.%2A', 't.a.', 't.a.a.b%20%25%2C']) p,
     (SELECT ARRAY[event('t'), event('t', 'a', 'x'), event('t', 'x', 'k'), event('x', 'a', 'k'), event('x', 'x', 'x'), event('t', 'a', '*'),
                   event('t', 'a', ''), event('t', 'a', 'a.b %,'), event('t', 'a', 'a.b%20%25%2C')] AS e) l;
-- an unknown user, however he is told of; rows that are no patterns
INSERT INTO pgrelay.grants (user_id, pattern, publish) VALUES (:bob, '', true), (:bob, '*', true), (:bob, 't', true), (:bob, 't.a.k x', true), (:bob, 't.a.k,x', true);
SELECT * FROM answer('web1', request(:bob, event('t')), request(:bob, event('t', 'a', 'k x')), request(:bob, event('t', 'a', 'k,x')));

LISTEN pgrelay;

-- of several requests those that are bad, alone
SELECT * FROM answer('web1', request(:alice, event('deploy', 'a', '1')),
                     request(:alice, jsonb_build_array(event('deploy', 'a', 'not'), event('deploy', 'b c'), event('deploy', 'a', 'not'), event('d e'))),
                     request(:alice, event('deploy', 'a', '2')),
                     request(:alice, jsonb_build_array(event('deploy', 'a', 'not'), event('other'), event('deploy', 'b c'))),
                     '{}', request(:carol, jsonb_build_array(event('deploy', 'a', '3'), event('deploy', 'a', '4'))),
                     request(:alice, event('deploy', 'a', '5')));
SELECT count(*) FROM pgrelay.event WHERE key = 'not';
SELECT * FROM answer('web1', request(:alice, event('d e')), request(:bob, event('t')));

-- what is no event
SELECT e.value AS event, a.error, a.refused, a.index
FROM jsonb_array_elements(jsonb_build_array(
         1, 'text', null, '[]'::jsonb, '{}'::jsonb, event('deploy') - 'type', event('deploy') - 'action', event('deploy') - 'payload',
         event('deploy') || '{"type": 5}', event('deploy') || '{"type": true}', event('deploy') || '{"type": null}', event('deploy') || '{"type": ["deploy"]}',
         event(''), event('a.b'), event('*'), event('é'), event(E'deploy\n'), event(repeat('x', 64)),
         event('deploy') || '{"action": 5}', event('deploy', ''), event('deploy', 'a b'), event('deploy', repeat('x', 64)), event('deploy', E'"\\\n'),
         event('deploy') || '{"key": 5}', event('deploy') || '{"key": null}', event('deploy') || '{"key": {}}', event('deploy', 'a', E'a\nb'), event('deploy', 'a', E'\x7f'),
         event('deploy') || '{"payload": null}', event('deploy') || '{"payload": []}', event('deploy') || '{"payload": "{}"}', event('deploy') || '{"payload": 1}',
         event('deploy') || '{"typ": 1, "paylaod": {}}', event('deploy') || '{"a\nb": 1}')) WITH ORDINALITY AS e (value, n),
     answer('web1', request(:alice, jsonb_build_array(event('deploy'), e.value))) a ORDER BY n;
SELECT error FROM answer('web1', request(:alice, event('deploy', 'a', repeat('é', 128))));
-- numbers that are long as text
SELECT error FROM answer('web1', '1e100000', '{"user": 1e100000, "events": {}}', request(:alice, event('deploy') || '{"type": 1e100000}'), request(:alice, event('deploy') || '{"key": 1e-10000}'), request(:alice, '1e100000'));
-- at the limits
UNLISTEN *;
SELECT octet_length(published) FROM answer('web1', request(:carol, event(repeat('t', 63), repeat('a', 63), repeat('%', 255))));
SELECT published = 'deploy.a.k' || repeat('é', 127) AS same FROM answer('web1', request(:alice, event('deploy', 'a', 'k' || repeat('é', 127))));
LISTEN pgrelay;

-- what is no request
SELECT r.value AS request, a.published, a.error, a.refused, a.index
FROM jsonb_array_elements(jsonb_build_array(
         1, null, '[]'::jsonb, '{}'::jsonb, request(1, null), request(1, '[]'), request(1, '5'), request(1, '"text"'), request(1, '{}') - 'events', request(1, '{}') - 'user',
         request(1, '{}') || '{"user": "1"}', request(1, '{}') || '{"user": 1.5}', request(1, '{}') || '{"user": 99999999999999999999}', request(1, '{}') || '{"user": null}',
         request(1, '{}') || '{"users": 1}')) WITH ORDINALITY AS r (value, n), answer('web1', r.value) a ORDER BY n;
SELECT error, refused, index FROM answer('web1', request(:alice, (SELECT jsonb_agg(event('deploy')) FROM generate_series(1, 10001))));
SELECT try($$SELECT count(*) FROM pgrelay.publish('web1', '{}')$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish('web1', NULL)$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish('', '[]')$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish(NULL, '[]')$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish(E'a\nb', '[]')$$);
SELECT try($$SELECT count(*) FROM pgrelay.publish(repeat('x', 256), '[]')$$);

-- tickets name the node, and their payloads come along; inline events and other writers' tickets are as ever
SELECT * FROM answer('web 1,%', request(:alice, jsonb_build_array(event('deploy', 'small', '1'), event('deploy', 'big', 'a.b *', jsonb_build_object('x', repeat('x', 8000))), event('deploy', 'small', '2'))),
                     request(:carol, event('other', 'big', '', jsonb_build_object('y', repeat('é', 4000)))), request(:bob, event('other', 'big', '', jsonb_build_object('y', repeat('é', 4000)))));
SELECT pgrelay.emit('deploy', 'big', '', jsonb_build_object('x', repeat('x', 8000))) > 0;
CREATE TABLE answered AS
SELECT * FROM pgrelay.publish('web1', jsonb_build_array(request(:alice, event('deploy', 'big', 'a.b% ,*é', jsonb_build_object('x', repeat(E'\n"😀', 2000))))));
SELECT ticket_id = (ids->>0)::bigint AS same_id, ticket_topic, ticket_payload = pgrelay.event_payload(ticket_id, ticket_topic) AS as_logged,
       encode(sha256(convert_to(ticket_payload, 'UTF8')), 'hex') AS sha256
FROM (SELECT max(ticket_id) AS ticket_id, max(ticket_topic) AS ticket_topic, max(ticket_payload) AS ticket_payload, (json_agg(ids) FILTER (WHERE ids IS NOT NULL))->0 AS ids FROM answered) a;
DROP TABLE answered;
-- read from the log, no node has them
SELECT count(*), bool_and(record LIKE '% -') AS without FROM pgrelay.log_read('3:3:', NULL, pg_current_snapshot(), NULL, '{deploy}', '{big}', '{NULL}') WHERE record LIKE 't %';

-- an envelope of the Digital Rebar dialect is a payload as any other
SELECT published FROM answer('web1', request(:alice, event('deploy', 'step', 'web1', '{"group_name": "deploy", "action": "step", "key": "web1", "object": {"Name": "a\u00e9\n", "n": 12345678901234567890.10, "group_name": "x"}, "original": null, "principal": "user:alice", "time": "0001-01-01T00:00:00Z"}')));

-- exempt and deferred types
SELECT pgrelay.logged_set('light', false), pgrelay.announce_set('late', 'deferred');
SELECT request, published, ticket, payload_octets FROM answer('web1', request(:carol, jsonb_build_array(event('light', 'a', '1'), event('light', 'big', '2', jsonb_build_object('x', repeat('x', 8000))))));
SELECT request, published, ticket FROM answer('web1', request(:carol, event('late', 'a', 'alone')));
SELECT request, published, ticket FROM answer('web1', request(:carol, event('late', 'big', '1', jsonb_build_object('x', repeat('x', 8000)))), request(:carol, event('late', 'a', '2')));
-- what the node publishes within a second of them keeps its order behind them
SELECT request, published, ticket FROM answer('web1', request(:carol, event('other', 'big', 'behind', jsonb_build_object('x', repeat('x', 8000)))));
SELECT type, action, key, deferred FROM pgrelay.event WHERE deferred ORDER BY id;
\c - test_owner
LISTEN pgrelay;
SELECT request, published, ticket FROM answer('web1', request(:carol, event('other', 'before')), request(:carol, event('late', 'a', '3')), request(:carol, event('other', 'after')));
SELECT pgrelay.logged_set('light', true), pgrelay.announce_set('late', 'commit');

-- a log that nobody rotates takes what does not fit, up to a bound; the node has it in any case
\c - test_owner
UPDATE pgrelay.log_slot SET since = now() - interval '2 h' WHERE until IS NULL;
SELECT request, published, ticket, payload_octets FROM answer('web1', request(:carol, jsonb_build_array(event('stale'), event('stale', 'big', '', jsonb_build_object('x', repeat('x', 8000))))));
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
SELECT pgrelay.log_rotate();

-- nothing of a transaction that is rolled back
LISTEN pgrelay;
BEGIN;
SELECT published FROM answer('web1', request(:alice, event('deploy', 'a', 'rolled-back')));
ROLLBACK;
SELECT count(*) FROM pgrelay.event WHERE key = 'rolled-back';

-- by these nodes speak to clients
SELECT request, error, refused FROM answer('web1', request(:alice, event('websocket')), request(:alice, event('pgrelay')), request(:alice, event('connections')));

-- a user who is gone, and with him his grants
DELETE FROM pgrelay.users WHERE name = 'alice';
SELECT * FROM answer('web1', request(:alice, event('deploy')));

TRUNCATE pgrelay.event;
DELETE FROM pgrelay.users;
DROP FUNCTION answer(text, jsonb[]), event(text, text, text, jsonb), request(bigint, jsonb);
