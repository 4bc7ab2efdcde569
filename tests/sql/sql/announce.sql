-- Announcing deferred events.
\c - test_owner
TRUNCATE pgrelay.event;
SELECT pgrelay.announce_wanted();
SELECT pgrelay.announce_set('late', 'deferred');
SELECT pgrelay.announce_wanted();
LISTEN pgrelay;
-- the beginning
SELECT snapshot, events FROM pgrelay.announce(NULL, false) \gset
SELECT :events;
-- nothing
SELECT snapshot::text = :'snapshot' AS same, events FROM pgrelay.announce(:'snapshot', false);
SELECT snapshot AS after, events FROM pgrelay.announce(:'snapshot', true) \gset
SELECT :'after' = :'snapshot' AS same, :events;
-- what is announced by itself is not announced again
SELECT pgrelay.emit('other', 'a', '', '{}') > 0;
SELECT events FROM pgrelay.announce(:'after', false);
-- two transactions, one of two events
BEGIN;
SELECT pgrelay.emit('late', 'one', 'a b', '{"n": 1}') > 0;
SELECT pgrelay.emit('other', 'one', '', '{"n": 2}') > 0;
COMMIT;
SELECT pgrelay.emit('late', 'two', '', jsonb_build_object('x', repeat('x', 8000))) > 0;
BEGIN;
SELECT pgrelay.emit('late', 'rolled-back', '', '{}') > 0;
ROLLBACK;
SELECT snapshot, events FROM pgrelay.announce(:'after', false) \gset
SELECT :events;
-- each once
SELECT snapshot::text = :'snapshot' AS same, events FROM pgrelay.announce(:'snapshot', false);
-- from where it was, when a transaction of the announcer's was lost
SELECT events FROM pgrelay.announce(:'after', true);
-- a server that has not come so far yet: it begins anew
SELECT pg_snapshot_xmax(snapshot) < '999999999' AS now, events FROM pgrelay.announce('999999999:999999999:', false);
-- the type is not deferred any more, but there is something left
SELECT pgrelay.announce_set('late', 'commit');
SELECT pgrelay.announce_wanted();
TRUNCATE pgrelay.event;
SELECT pgrelay.announce_wanted();

-- long snapshots are cut before a transaction in progress, so that as few as need be wait
SELECT pgrelay._snapshot_cut('10:20:10,13,19', 14), pgrelay._snapshot_cut('10:20:10,13,19', 13), pgrelay._snapshot_cut('10:20:10,13,19', 10),
       pgrelay._snapshot_cut('10:20:10,13,19', 7), pgrelay._snapshot_cut('10:20:', 6);
SELECT count(*), bool_and(octet_length(c::text) <= octets) AS short,
       bool_and(c::text = s::text OR octet_length(c::text) > octets - 12) AS long_enough,
       bool_and(pg_snapshot_xmax(c) > pg_snapshot_xmin(c) AND pg_snapshot_xmax(c) <= pg_snapshot_xmax(s)) AS within,
       bool_and(NOT EXISTS (SELECT FROM generate_series(100000, 102000, 7) n, LATERAL (SELECT n::text::xid8 AS x) x
                            WHERE pg_visible_in_snapshot(x, c) <> (x < pg_snapshot_xmax(c) AND pg_visible_in_snapshot(x, s)))) AS right
FROM (SELECT format('100000:102000:%s', (SELECT string_agg(n::text, ',' ORDER BY n) FROM generate_series(100000, 101999, 3) n))::pg_snapshot AS s) s,
     generate_series(100, 5000, 490) octets, LATERAL (SELECT pgrelay._snapshot_cut(s, octets) AS c) c;
