-- Reading the log.
\c - test_owner
SELECT pgrelay.epoch() = (SELECT system_identifier FROM pg_control_system()) || '.' || (SELECT timeline_id FROM pg_control_checkpoint()) AS epoch;

-- which transactions are new: as the snapshots themselves say, for all pairs of some
TRUNCATE pgrelay.event;
INSERT INTO pgrelay.event (slot, id, xid, time, type, action, key, payload, deferred)
SELECT n % 4, nextval('pgrelay.event_id_seq'), n::text::xid8, now(), 't', 'a', d::text, '{}', d
FROM generate_series(5, 45) n, unnest(ARRAY[true, false]) d;
CREATE TABLE snapshot (s pg_snapshot);
INSERT INTO snapshot
VALUES ('10:10:'), ('10:11:10'), ('10:12:10'), ('10:12:10,11'), ('11:14:11,13'), ('10:20:10,13,14,19'), ('12:20:12,13,18'), ('20:20:'),
       ('13:30:13,20,21,22,29'), ('29:30:29'), ('30:40:'), ('13:40:13,29,30,39');
CREATE FUNCTION new_in(since pg_snapshot, until pg_snapshot) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(x::text, ' ' ORDER BY n) FROM generate_series(5, 45) n, LATERAL (SELECT n::text::xid8 AS x) x
    WHERE pg_visible_in_snapshot(x, until) AND NOT pg_visible_in_snapshot(x, since)
$$;
SELECT count(*) AS pairs, count(*) FILTER (WHERE r.xids IS NOT DISTINCT FROM new_in(f.s, u.s)) AS right,
       count(*) FILTER (WHERE d.xids IS NOT DISTINCT FROM new_in(f.s, u.s)) AS deferred_right
FROM snapshot f, snapshot u,
     LATERAL (SELECT string_agg(r.xid::text, ' ' ORDER BY r.n) AS xids
              FROM pgrelay.log_read(f.s, '50:50:', u.s, '50:50:', NULL, NULL, NULL) WITH ORDINALITY AS r (xid, deferred, record, n)
              WHERE NOT r.deferred) r,
     LATERAL (SELECT string_agg(r.xid::text, ' ' ORDER BY r.n) AS xids
              FROM pgrelay.log_read(NULL, f.s, NULL, u.s, NULL, NULL, NULL) WITH ORDINALITY AS r (xid, deferred, record, n)
              WHERE r.deferred) d
WHERE pg_snapshot_xmax(f.s) <= pg_snapshot_xmax(u.s) AND pg_snapshot_xmin(f.s) <= pg_snapshot_xmin(u.s);
DROP FUNCTION new_in(pg_snapshot, pg_snapshot);
DROP TABLE snapshot;

-- events of both kinds, in several transactions
TRUNCATE pgrelay.event;
SELECT pgrelay.announce_set('late', 'deferred');
SELECT pg_current_snapshot() AS start \gset
CREATE FUNCTION read(since pg_snapshot, until pg_snapshot DEFAULT NULL, types text[] DEFAULT NULL, actions text[] DEFAULT NULL, keys text[] DEFAULT NULL)
RETURNS TABLE (n bigint, tx bigint, deferred boolean, record text) LANGUAGE sql AS $$
    SELECT n, dense_rank() OVER (ORDER BY r.xid), r.deferred, regexp_replace(r.record, '^([a-z]) \d+ \d{16} ', '\1 ')
    FROM pgrelay.log_read(since, since, coalesce(until, pg_current_snapshot()), coalesce(until, pg_current_snapshot()), types, actions, keys)
         WITH ORDINALITY AS r (xid, deferred, record, n) ORDER BY n
$$;
SELECT pgrelay.emit('other', 'one', 'k', '{"n": 1}') AS first \gset
BEGIN;
SELECT pgrelay.emit('other', 'two', 'a b%*,c', '{"n": 2}') > 0;
SELECT pgrelay.emit('late', 'two', '', '{"n": 3}') > 0;
SELECT pgrelay.emit('other', 'two', 'sticky', '{"n": 4}') > 0;
COMMIT;
SELECT pg_current_snapshot() AS middle \gset
BEGIN;
SELECT pgrelay.emit('late', 'never', '', '{}') > 0;
ROLLBACK;
SELECT pgrelay.emit('late', 'big', 'k', jsonb_build_object('x', repeat('x', 8000))) > 0;
SELECT * FROM read(:'start');
SELECT * FROM read(:'start', :'middle');
SELECT * FROM read(:'middle');
SELECT count(*) FROM read(pg_current_snapshot());
-- the kinds have positions of their own, or none
SELECT deferred, count(*) FROM pgrelay.log_read(:'start', NULL, pg_current_snapshot(), NULL, NULL, NULL, NULL) GROUP BY 1;
SELECT deferred, count(*) FROM pgrelay.log_read(NULL, :'start', NULL, pg_current_snapshot(), NULL, NULL, NULL) GROUP BY 1;
SELECT deferred, count(*) FROM pgrelay.log_read(:'start', :'middle', pg_current_snapshot(), pg_current_snapshot(), NULL, NULL, NULL) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pgrelay.log_read(NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- the records are those that were announced
SELECT record = format('e %s %s other.one.k {"n": 1}', :first, (SELECT (extract(epoch FROM time) * 1000000)::bigint FROM pgrelay.event WHERE id = :first)) AS same
FROM pgrelay.log_read(:'start', NULL, :'middle', NULL, '{other}', '{one}', '{NULL}');
SELECT split_part(record, ' ', 5) AS octets, split_part(record, ' ', 6) = encode(sha256(convert_to(payload, 'UTF8')), 'hex') AS digest, split_part(record, ' ', 7) AS origin
FROM pgrelay.log_read(NULL, :'middle', NULL, pg_current_snapshot(), NULL, NULL, NULL), pgrelay.event WHERE action = 'big';

-- patterns: each shape finds what it should, by itself and with others
TRUNCATE pgrelay.event;
SELECT pg_current_snapshot() AS start \gset
SELECT count(*) FROM pgrelay.emit_many(ARRAY(
    SELECT (t, a, k, '{}')::pgrelay.new_event FROM unnest(ARRAY['t', 'u']) t, unnest(ARRAY['a', 'b']) a, unnest(ARRAY['', 'k', '*', '%2A', 'x,y%', '%25']) k));
CREATE TABLE pattern AS
SELECT row_number() OVER () AS n, t AS type, a AS action, k AS key
FROM unnest(ARRAY['t', 'u', NULL]) t, unnest(ARRAY['a', 'x', NULL]) a, unnest(ARRAY['', 'k', '%2A', '%252A', 'x%2Cy%25', '%2525', 'z', NULL]) k;
-- what a pattern finds
CREATE FUNCTION matches(e pgrelay.event, p pattern) RETURNS boolean LANGUAGE sql AS $$
    SELECT coalesce(p.type = e.type, true) AND coalesce(p.action = e.action, true)
       AND coalesce(p.key = replace(replace(replace(replace(e.key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C'), true)
$$;
SELECT count(*) AS patterns, sum(found) AS found,
       bool_and(found = (SELECT count(*) FROM pgrelay.event e WHERE matches(e, p))) AS right
FROM pattern p, LATERAL (SELECT count(*) AS found FROM read(:'start', NULL, ARRAY[p.type], ARRAY[p.action], ARRAY[p.key])) f;
SELECT count(*) AS pairs,
       bool_and(found = (SELECT count(*) FROM pgrelay.event e WHERE matches(e, p) OR matches(e, q))) AS right
FROM pattern p JOIN pattern q ON q.n > p.n AND (q.n - p.n) % 7 = 0,
     LATERAL (SELECT count(*) AS found FROM read(:'start', NULL, ARRAY[p.type, q.type], ARRAY[p.action, q.action], ARRAY[p.key, q.key])) f;
-- no pattern at all finds nothing, no arrays everything
SELECT (SELECT count(*) FROM read(:'start', NULL, '{}', '{}', '{}')) AS none, (SELECT count(*) FROM read(:'start')) AS everything,
       (SELECT count(*) FROM read(:'start', NULL, '{t}')) AS type_alone;
DROP FUNCTION matches(pgrelay.event, pattern);
DROP TABLE pattern;

-- records around the limit of a notification are those that were announced
\c - test_owner
TRUNCATE pgrelay.event;
SELECT pg_current_snapshot() AS start \gset
SELECT count(pgrelay.emit('size', 'a', repeat('*', 200), jsonb_build_object('x', repeat('.', n)))) FROM generate_series(7200, 7450) n;
SELECT left(r.record, 1) AS kind, count(*) > 10 AS some, max(octet_length(r.record)) <= 7999 AS short,
       bool_and((octet_length(format('e %s %s size.a.%s %s', e.id, (extract(epoch FROM e.time) * 1000000)::bigint, replace(e.key, '*', '%2A'), e.payload)) <= 7999)
                = (left(r.record, 1) = 'e')) AS right
FROM pgrelay.log_read(:'start', NULL, pg_current_snapshot(), NULL, NULL, NULL, NULL) r
     JOIN pgrelay.event e ON e.id = split_part(r.record, ' ', 2)::bigint GROUP BY 1 ORDER BY 1;

-- it becomes a part of the query, and uses nothing but indexes
SET enable_seqscan = off;
CREATE FUNCTION plan_of(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE 'EXPLAIN ' || statement;
END
$$;
SELECT bool_or(line LIKE '%Function Scan on log_read%') AS function, bool_or(line LIKE '%Seq Scan%') AS seq_scan,
       bool_or(line LIKE '%xid_id_idx%') AS index
FROM plan_of(format('SELECT * FROM pgrelay.log_read(%L, %1$L, pg_current_snapshot(), pg_current_snapshot(), NULL, NULL, NULL)', :'start')) line;
RESET enable_seqscan;
-- whatever its caller's search_path is
CREATE SCHEMA evil;
CREATE FUNCTION evil.concat(text, bigint, text, text) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text';
CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
CREATE FUNCTION evil.replace(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text';
SET search_path = evil, pg_catalog;
SELECT count(record) FROM pgrelay.log_read(:'start', NULL, pg_current_snapshot(), NULL, '{size}', '{NULL}', '{NULL}');
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
RESET client_min_messages;

-- how far back it reaches
SELECT pg_current_snapshot() AS now \gset
SELECT id, (extract(epoch FROM time) * 1000000)::bigint AS time FROM pgrelay.event ORDER BY id DESC LIMIT 1 \gset last_
SELECT pgrelay.log_covers(:'start', :'start', :last_id, :last_time);
SELECT pgrelay.log_covers(:'now', NULL, NULL, NULL), pgrelay.log_covers(NULL, :'now', NULL, NULL), pgrelay.log_covers(NULL, NULL, NULL, NULL);
-- the future
SELECT pgrelay.log_covers('999999999:999999999:', NULL, NULL, NULL), pgrelay.log_covers(:'now', '999999999:999999999:', NULL, NULL);
-- an event that is not there, or is another one
SELECT pgrelay.log_covers(:'now', NULL, :last_id + 1, :last_time), pgrelay.log_covers(:'now', NULL, :last_id, :last_time - 1);
-- emptied
TRUNCATE pgrelay.event;
SELECT pgrelay.log_covers(:'start', NULL, :last_id, :last_time), pgrelay.log_covers(NULL, :'start', NULL, NULL);
SELECT pgrelay.log_covers(pg_current_snapshot(), pg_current_snapshot(), :last_id, :last_time);
SELECT pg_current_snapshot() AS now \gset
SELECT pgrelay.emit('late', 'a', '', '{}') > 0;
SELECT pgrelay.log_covers(:'now', :'now', NULL, NULL);
TRUNCATE pgrelay.event;
SELECT pgrelay.log_covers(:'now', :'now', NULL, NULL), pgrelay.log_covers(NULL, :'now', NULL, NULL);
\c - test_owner
-- a transaction that was open then, and of which nothing is there any more
SELECT pg_current_xact_id() AS xid \gset
SELECT pgrelay.emit('other', 'a', '', '{}') > 0;
TRUNCATE pgrelay.event;
SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax \gset
SELECT pgrelay.log_covers(format('%s:%s:', :xmax, :xmax)::pg_snapshot, NULL, NULL, NULL) AS ended,
       pgrelay.log_covers(format('%s:%s:%1$s', :xid, :xmax)::pg_snapshot, NULL, NULL, NULL) AS open;
BEGIN;
SELECT pg_current_xact_id() AS aborted \gset
ROLLBACK;
SELECT pgrelay.emit('other', 'a', '', '{}') > 0;
TRUNCATE pgrelay.event;
SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax \gset
SELECT pgrelay.log_covers(format('%s:%s:%1$s', :aborted, :xmax)::pg_snapshot, NULL, NULL, NULL) AS aborted;
-- rolled back
BEGIN;
SELECT truncated, truncated_deferred, truncated_id FROM pgrelay.log_state \gset before_
SELECT pgrelay.emit('other', 'a', '', '{}') > 0;
TRUNCATE pgrelay.event;
ROLLBACK;
SELECT truncated = :'before_truncated' AND truncated_id = :before_truncated_id AS same FROM pgrelay.log_state;
-- emptied by a transaction that does not see everything
BEGIN ISOLATION LEVEL REPEATABLE READ;
TRUNCATE pgrelay.event;
SELECT truncated = pg_current_xact_id() AND truncated_deferred = truncated AS all FROM pgrelay.log_state;
COMMIT;

DROP FUNCTION read(pg_snapshot, pg_snapshot, text[], text[], text[]);
DROP FUNCTION plan_of(text);
DELETE FROM pgrelay.event_type;
