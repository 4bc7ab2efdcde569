-- The schema once more, in a database of its own, with a spy in the place of
-- pg_notify().
\c - postgres
CREATE DATABASE test_packing OWNER test_owner;
\c test_packing test_owner
CREATE TABLE public.packet (n serial, payload text);
CREATE FUNCTION public.spy_notify(channel text, payload text) RETURNS void LANGUAGE sql
AS 'SELECT pg_notify($1, $2); INSERT INTO public.packet (payload) VALUES ($2)';
\! psql -X -q -1 -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -d test_packing -U test_owner <schema_spy.sql
CREATE VIEW public.record AS
    SELECT n, place, split_part(line, ' ', 1) AS kind, split_part(line, ' ', 2)::bigint AS id, line
    FROM public.packet, unnest(string_to_array(payload, E'\n')) WITH ORDINALITY AS l (line, place);

-- record sizes around the limit, in steps of one octet, of one, two and four octets a character
CREATE FUNCTION public.sized(octets integer, filler text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('x', repeat(filler, (octets - 9) / octet_length(filler))
                                   || repeat('.', (octets - 9) % octet_length(filler)))
$$;
SELECT octet_length(public.sized(100, 'é')::text), octet_length(public.sized(101, '😀')::text);
SELECT count(pgrelay.emit('size', 'a', filler, public.sized(n, filler)))
FROM generate_series(7800, 8100) n, unnest(ARRAY['.', 'é', '😀']) filler;
SELECT r.kind, count(*), max(octet_length(r.line)) AS longest,
       bool_and(octet_length(concat('e ', r.id, ' ', floor(extract(epoch FROM e.time) * 1000000), ' size.a.',
                                    e.key, ' ', e.payload)) <= 7999) AS fits_inline,
       bool_or(octet_length(concat('e ', r.id, ' ', floor(extract(epoch FROM e.time) * 1000000), ' size.a.',
                                   e.key, ' ', e.payload)) <= 7999) AS any_fits_inline
FROM public.record r JOIN pgrelay.event e USING (id) GROUP BY r.kind ORDER BY r.kind;
-- a ticket tells length and digest
SELECT bool_and(split_part(r.line, ' ', 5)::int = octet_length(e.payload)
                AND split_part(r.line, ' ', 6) = encode(sha256(convert_to(e.payload, 'UTF8')), 'hex')
                AND split_part(r.line, ' ', 7) = '-' AND split_part(r.line, ' ', 8) = '') AS right
FROM public.record r JOIN pgrelay.event e USING (id) WHERE r.kind = 't';

-- many rows in one statement
TRUNCATE public.packet;
INSERT INTO pgrelay.job (id) VALUES (1);
TRUNCATE public.packet;
INSERT INTO pgrelay.job_event (job_id, counter, stdout)
SELECT 1, n, 'line ' || n FROM generate_series(10000, 1, -1) n;
SELECT count(*) < 900 AS few, max(octet_length(payload)) <= 7999 AS short,
       min(octet_length(payload)) FILTER (WHERE n < (SELECT max(n) FROM public.packet)) > 7000 AS full
FROM public.packet;
SELECT count(*), bool_and(kind = 'e') AS inline,
       array_agg((regexp_match(line, '"counter":(\d+)'))[1]::int ORDER BY n, place)
           = array(SELECT generate_series(1, 10000)) AS in_order,
       array_agg(id ORDER BY n, place) = array_agg(id ORDER BY id) AS ids_ascend
FROM public.record;
SELECT count(*), count(DISTINCT xid) FROM pgrelay.event WHERE type = 'job_events';

-- small and large mixed
TRUNCATE public.packet;
SELECT count(*) FROM pgrelay.emit_many(
    ARRAY(SELECT ('mixed', 'a', n, public.sized(CASE WHEN n % 5 = 0 THEN 20000 ELSE 100 + n END, '.'))::pgrelay.new_event
          FROM generate_series(1, 100) n));
SELECT kind, count(*) FROM public.record GROUP BY kind ORDER BY kind;
SELECT count(*) AS packets, max(octet_length(payload)) <= 7999 AS short FROM public.packet;
SELECT array_agg((regexp_match(line, 'mixed\.a\.(\d+) '))[1]::int ORDER BY n, place)
       = array(SELECT generate_series(1, 100)) AS in_order
FROM public.record;

-- the same published by a node, for several users in several requests, of which one is refused; and small ones, as many as may be
SELECT pgrelay.user_create('a') AS a, pgrelay.user_create('b') AS b,
       pgrelay.grant_add('a', 'mixed.*.*', true) AND pgrelay.grant_add('b', '*.a.*', true) AS granted \gset
CREATE FUNCTION public.published(type text, "from" integer, "to" integer, octets integer) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object('type', type, 'action', 'a', 'key', n::text,
                                        'payload', public.sized(CASE WHEN n % 5 = 0 THEN 20 * octets ELSE octets + n END, '.')) ORDER BY n)
    FROM generate_series("from", "to") n
$$;
TRUNCATE public.packet;
CREATE TABLE public.answer AS
SELECT * FROM pgrelay.publish('web1', jsonb_build_array(
    jsonb_build_object('user', :a, 'events', public.published('mixed', 1, 30, 1000)), jsonb_build_object('user', :b, 'events', public.published('mixed', 31, 31, 1000)->0),
    jsonb_build_object('user', :a, 'events', public.published('not', 1, 20, 1000)), jsonb_build_object('user', :b, 'events', public.published('mixed', 32, 100, 1000))));
SELECT request, json_array_length(ids) AS ids, refused, index, count(*) FILTER (WHERE ticket_id IS NOT NULL) AS tickets
FROM public.answer GROUP BY 1, 2, 3, 4, ticket_id IS NULL ORDER BY 1, 5;
SELECT kind, count(*), bool_and(kind = 'e' OR line LIKE '% web1') AS origin FROM public.record GROUP BY kind ORDER BY kind;
SELECT max(octet_length(payload)) <= 7999 AS short,
       min(octet_length(payload)) FILTER (WHERE n < (SELECT max(n) FROM public.packet)) > 6000 AS full FROM public.packet;
SELECT array_agg((regexp_match(line, 'mixed\.a\.(\d+) '))[1]::int ORDER BY n, place) = array(SELECT generate_series(1, 100)) AS in_order,
       array_agg(r.id ORDER BY n, place) = array(SELECT i.id::bigint FROM public.answer, json_array_elements_text(ids) WITH ORDINALITY AS i (id, n) ORDER BY request, i.n) AS same_ids
FROM public.record r;
SELECT bool_and(split_part(r.line, ' ', 4) = a.ticket_topic AND split_part(r.line, ' ', 5)::integer = octet_length(a.ticket_payload)
                AND split_part(r.line, ' ', 6) = encode(sha256(convert_to(a.ticket_payload, 'UTF8')), 'hex')) AS right, count(*) = count(a.ticket_id) AS all_there
FROM public.record r LEFT JOIN public.answer a ON a.ticket_id = r.id WHERE r.kind = 't';
SELECT bool_and(e.payload = a.ticket_payload) AS logged FROM public.answer a JOIN pgrelay.event e ON e.id = a.ticket_id;
TRUNCATE public.packet;
SELECT count(*), sum(json_array_length(ids)), count(DISTINCT refused)
FROM pgrelay.publish('web1', (SELECT jsonb_agg(jsonb_build_object('user', :a, 'events', jsonb_build_object('type', CASE WHEN n % 10 = 0 THEN 'not' ELSE 'mixed' END,
                                                                                                        'action', 'a', 'key', n::text, 'payload', '{}'::jsonb)) ORDER BY n)
                              FROM generate_series(1, 10000) n));
SELECT count(*) AS records, count(DISTINCT n) < 65 AS few, array_agg((regexp_match(line, 'mixed\.a\.(\d+) '))[1]::int ORDER BY n, place)
           = array(SELECT n FROM generate_series(1, 10000) n WHERE n % 10 <> 0) AS in_order
FROM public.record;
DELETE FROM pgrelay.users;
DROP TABLE public.answer;

-- 20 MB
TRUNCATE public.packet;
SELECT pgrelay.emit('huge', 'a', 'b', jsonb_build_object('x', repeat('20 MB ', 20 * 1024 * 1024 / 6))) AS id \gset
SELECT kind, octet_length(line) < 150 AS short, split_part(line, ' ', 5) AS octets FROM public.record;
SELECT octet_length(pgrelay.event_payload(:id));
INSERT INTO pgrelay.job_event (job_id, counter, stdout) VALUES (1, 10001, repeat('20 MB"', 20 * 1024 * 1024 / 6));
SELECT octet_length(pgrelay.event_payload(max(id))) FROM public.record;
SELECT (pgrelay.event_payload(max(id))::json->>'stdout') = repeat('20 MB"', 20 * 1024 * 1024 / 6) AS same FROM public.record;

-- so much in one statement that it would fill the memory: tickets from there on
TRUNCATE public.packet;
INSERT INTO pgrelay.job_event (job_id, counter, stdout)
SELECT 1, 20000 + n, repeat('x', 7000) FROM generate_series(1, 10000) n;
SELECT kind, count(*) > 0 AS some, sum(octet_length(line)) < 68000000 AS bounded,
       min((regexp_match(e.payload, '"counter":(\d+)'))[1]::int) > 29000 AS late
FROM public.record JOIN pgrelay.event e USING (id) GROUP BY kind ORDER BY kind;
SELECT count(*) FROM pgrelay.event WHERE id >= (SELECT min(id) FROM public.record);

-- changes of access
TRUNCATE public.packet;
INSERT INTO pgrelay.users (name) SELECT 'user ' || n FROM generate_series(1, 1000) n;
INSERT INTO pgrelay.grants (user_id, pattern)
SELECT id, pattern FROM pgrelay.users, unnest(ARRAY['a.*.*', 'b.*.*']) pattern;
SELECT count(*) AS packets, max(octet_length(payload)) <= 7999 AS short FROM public.packet;
SELECT kind, count(*), count(DISTINCT id) FROM public.record GROUP BY kind;

-- announced by a node
TRUNCATE public.packet, pgrelay.event;
SELECT pgrelay.announce_set('late', 'deferred');
CREATE FUNCTION public.announce(since pg_snapshot) RETURNS bigint LANGUAGE sql AS $$
    TRUNCATE public.packet;
    SELECT events FROM pgrelay.announce(since, false);
$$;
-- each packet but the first begins with the transaction of its records
CREATE VIEW public.announced AS
    SELECT n, place, line, split_part(line, ' ', 1) AS kind,
           (SELECT split_part(x.line, ' ', 2) FROM (SELECT line, place AS p FROM unnest(string_to_array(payload, E'\n')) WITH ORDINALITY AS l (line, place)) x
            WHERE x.line LIKE 'x %' AND x.p <= l.place ORDER BY x.p DESC LIMIT 1) AS xid
    FROM public.packet, unnest(string_to_array(payload, E'\n')) WITH ORDINALITY AS l (line, place);
SELECT pg_current_snapshot() AS start \gset
-- small, of many transactions
CREATE PROCEDURE public.emit_each(n integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. n LOOP
        PERFORM pgrelay.emit('late', 'a', i::text, jsonb_build_object('x', repeat('x', i % 300)));
        COMMIT;
    END LOOP;
END
$$;
CALL public.emit_each(2000);
SELECT public.announce(:'start');
SELECT max(octet_length(payload)) <= 7999 AS short,
       min(octet_length(payload)) FILTER (WHERE n < (SELECT max(n) FROM public.packet)) > 7300 AS full FROM public.packet;
SELECT kind, count(*), count(DISTINCT line) FROM public.announced GROUP BY 1 ORDER BY 1;
SELECT array_agg((regexp_match(line, ' late\.a\.(\d+) '))[1]::int ORDER BY n, place) = array(SELECT generate_series(1, 2000)) AS in_order,
       bool_and(xid = (SELECT e.xid::text FROM pgrelay.event e WHERE e.id = split_part(line, ' ', 2)::bigint)) AS right_transaction
FROM public.announced WHERE kind = 'e';
-- sizes around the limit, which is lower by the record "x"
SELECT pg_current_snapshot() AS start \gset
SELECT count(pgrelay.emit('late', 'size', '', public.sized(n, '.'))) FROM generate_series(7700, 8000) n;
SELECT public.announce(:'start');
SELECT kind, count(*) > 10 AS some, max(octet_length(line)) > 7980 AS full FROM public.announced WHERE kind IN ('e', 't') GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM public.announced WHERE kind IN ('e', 't');
SELECT max(octet_length(payload)) AS longest, bool_and(xid IS NOT NULL OR kind = 'd') AS all_with_transaction
FROM public.packet, public.announced;
-- a long snapshot has a packet of its own where it must
CALL public.emit_each(1000);
SELECT format('3:1000:%s', (SELECT string_agg(x::text, ',' ORDER BY x) FROM generate_series(3, 999) x)) AS long \gset
SELECT octet_length(:'long') AS octets, pg_current_xact_id() > '1000' AS past;
TRUNCATE pgrelay.event;
SELECT pgrelay.emit('late', 'size', '', public.sized(7000, '.')) > 0;
SELECT public.announce(:'long');
SELECT kind, octet_length(line) BETWEEN 3900 AND 4000 AS long, place FROM public.announced ORDER BY n, place;
-- one that is too long even so: it begins anew
SELECT format('3:1200:%s', (SELECT string_agg(x::text, ',' ORDER BY x) FROM generate_series(3, 1150) x)) AS long \gset
SELECT public.announce(:'long');
SELECT kind, octet_length(line) < 100 AS short FROM public.announced ORDER BY n, place;
-- a great many at a time: tickets from there on
TRUNCATE pgrelay.event;
SELECT pg_current_snapshot() AS start \gset
INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload, deferred)
SELECT 0, nextval('pgrelay.event_id_seq'), now(), 'late', 'many', n::text, public.sized(7000, '.'), true FROM generate_series(1, 10000) n;
SELECT public.announce(:'start');
SELECT kind, count(*) > 0 AS some, sum(octet_length(line)) < 68000000 AS bounded,
       min((regexp_match(line, ' late\.many\.(\d+) '))[1]::int) > 9000 AS late
FROM public.record WHERE kind IN ('e', 't') GROUP BY kind ORDER BY kind;
\c regression
