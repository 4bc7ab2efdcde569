\c - test_owner
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now(), until = CASE WHEN slot > 0 THEN '-infinity'::timestamptz END;
CREATE VIEW log AS
    SELECT slot, (SELECT count(*) FROM pgrelay.event e WHERE e.slot = s.slot) AS events, until IS NULL AS current
    FROM pgrelay.log_slot s;
-- makes it later
CREATE FUNCTION pass(t interval) RETURNS void LANGUAGE sql AS $$
    UPDATE pgrelay.log_slot SET since = since - t, until = until - t;
    UPDATE pgrelay.event SET time = time - t;
$$;

SELECT pgrelay.emit('t', 'a', 'k', '{"n": 1}') AS id \gset
SELECT slot, id = :id AS id, xid IS NOT NULL AS xid, time BETWEEN now() - interval '1 min' AND now() AS time, type, action, key, payload
FROM pgrelay.event;
SELECT pgrelay.event_payload(:id);
SELECT pgrelay.event_payload(-1), pgrelay.event_payload(NULL);
SELECT a.attname, a.attstorage FROM pg_attribute a JOIN pg_inherits i ON i.inhrelid = a.attrelid
WHERE i.inhparent = 'pgrelay.event'::regclass AND a.attname = 'payload';

-- nothing is due
SELECT pgrelay.log_rotate();
SELECT pass('4 min 50 s');
SELECT pgrelay.log_rotate();
-- half the retention has passed
SELECT pass('20 s');
SELECT pgrelay.log_rotate();
SELECT pgrelay.log_rotate();
SELECT * FROM log ORDER BY slot;
-- idle for long: stays as it is
SELECT pass('1 hour');
SELECT pgrelay.log_rotate();
SELECT * FROM log ORDER BY slot;
-- round and round
CREATE PROCEDURE go_round(rounds integer) LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    FOR n IN 1 .. rounds LOOP
        PERFORM pgrelay.emit('t', 'a', n::text, '{}');
        PERFORM pass('5 min 1 s');
        COMMIT;
        answer := concat(answer, pgrelay.log_rotate(), ' ');
        COMMIT;
    END LOOP;
    RAISE NOTICE '%', answer;
END
$$;
CALL go_round(9);
SELECT count(*) FILTER (WHERE events > 0) AS used, sum(events) AS events FROM log;
SELECT min(key), max(key) FROM pgrelay.event;

-- a slot that was written to late is kept
SELECT slot AS oldest FROM pgrelay.log_slot ORDER BY until LIMIT 1 \gset
SELECT pgrelay.emit('t', 'a', 'now', '{}') > 0;
INSERT INTO pgrelay.event (slot, id, time, type, action, key, payload)
VALUES (:oldest, nextval('pgrelay.event_id_seq'), clock_timestamp(), 't', 'a', 'late', '{}');
SELECT pass('5 min 1 s');
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pgrelay.event WHERE key = 'late';
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pgrelay.event WHERE key = 'late';

-- clocks set back
UPDATE pgrelay.log_slot SET since = now() + interval '1 day' WHERE until IS NULL;
SELECT pgrelay.log_rotate();
SELECT since <= clock_timestamp() FROM pgrelay.log_slot WHERE until IS NULL;
SELECT pgrelay.emit('t', 'a', 'after', '{}') > 0;
SELECT pass('5 min 1 s');
SELECT pgrelay.log_rotate();

-- nobody rotates: in the end only what does not fit is kept
LISTEN pgrelay;
SELECT pgrelay.emit('t', 'fresh', '', '{}') > 0, pgrelay.emit('t', 'fresh', '', jsonb_build_object('x', repeat('x', 8000))) > 0;
SELECT pass('1 hour 24 min');
SELECT pgrelay.emit('t', 'fresh', '', '{}') > 0;
SELECT pass('2 min');
SELECT pgrelay.emit('t', 'stale', '', '{}') > 0, pgrelay.emit('t', 'stale', '', jsonb_build_object('x', repeat('x', 8000))) > 0;
SELECT action, payload = '{}' AS inline, count(*) FROM pgrelay.event WHERE action IN ('fresh', 'stale') GROUP BY 1, 2 ORDER BY 1, 2;
-- until someone does again
SELECT pgrelay.log_rotate();
SELECT pgrelay.emit('t', 'stale', 'no more', '{}') > 0;
SELECT key FROM pgrelay.event WHERE action = 'stale' AND payload = '{}';

-- how far back the log reaches after a rotation: what is gone is gone by transactions, whatever the time says
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now(), until = CASE WHEN slot > 0 THEN '-infinity'::timestamptz END;
CREATE FUNCTION covers(since pg_snapshot) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', coalesce(pgrelay.log_covers(since, NULL, NULL, NULL), 'all'), coalesce(pgrelay.log_covers(NULL, since, NULL, NULL), 'all'))
$$;
SELECT pg_current_snapshot() AS first \gset
CALL go_round(3);
SELECT covers(:'first');
SELECT pg_current_snapshot() AS second \gset
CALL go_round(1);
SELECT covers(:'first'), covers(:'second');
SELECT truncated > truncated_deferred AS not_deferred, truncated_id > 0 AS id FROM pgrelay.log_state;

-- nobody rotated for long: what came meanwhile is missing, also of who had begun to emit then
SELECT pg_current_snapshot() AS before \gset
SELECT pass('2 hours');
SELECT pgrelay.emit('t', 'stale', 'inline', '{}') > 0;
SELECT covers(:'before'), covers(pg_current_snapshot());
SELECT pgrelay.log_rotate();
SELECT pgrelay.emit('t', 'a', 'after', '{}') > 0;
SELECT covers(:'before'), covers(pg_current_snapshot());
SELECT pg_current_snapshot() AS after \gset
SELECT pgrelay.emit('t', 'a', 'after', '{}') > 0;
SELECT pgrelay.log_rotate();
SELECT covers(:'before'), covers(:'after');

-- LOGGED and UNLOGGED: partition by partition as they are emptied, those that hold nothing at once
CREATE FUNCTION kinds() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat(c.relname, CASE c.relpersistence WHEN 'u' THEN ' unlogged' END, CASE WHEN s.until IS NULL THEN ' current' END,
                             CASE WHEN NOT EXISTS (SELECT FROM pgrelay.event e WHERE e.slot = s.slot) THEN ' empty' END), ', ' ORDER BY s.slot)
    FROM pgrelay.log_slot s JOIN pg_class c ON c.oid = to_regclass('pgrelay.event_' || s.slot)
$$;
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now(), until = CASE WHEN slot > 0 THEN '-infinity'::timestamptz END;
SELECT pgrelay.emit('t', 'a', 'logged', '{}') > 0;
SELECT pgrelay.setting_set('log', 'unlogged');
SELECT pgrelay.log_rotate(), kinds();
SELECT pass('5 min 1 s');
SELECT pgrelay.log_rotate(), kinds();
SELECT pgrelay.emit('t', 'a', 'unlogged', '{}') > 0;
SELECT pass('9 min 50 s');
SELECT pgrelay.log_rotate(), kinds();
-- one and a half times the retention after the change
SELECT pass('11 s');
SELECT pgrelay.log_rotate(), kinds();
-- back, while nobody writes
TRUNCATE pgrelay.event;
SELECT pgrelay.setting_set('log', 'logged');
SELECT pgrelay.log_rotate(), kinds();
SELECT pgrelay.log_rotate(), kinds();
SELECT c.relpersistence FROM pg_class c WHERE c.oid = 'pgrelay.event_id_seq'::regclass;

-- as after a crash of an UNLOGGED log
SELECT pgrelay.setting_set('log', 'unlogged');
SELECT count(pgrelay.log_rotate()) FROM generate_series(1, 2);
SELECT pgrelay.log_rotate(), kinds();
SELECT pg_current_snapshot() AS before \gset
SELECT covers(:'before');
DELETE FROM pgrelay.log_mark;
SELECT covers(:'before');
SELECT pgrelay.log_rotate();
SELECT covers(:'before'), covers(pg_current_snapshot());
SELECT count(*) FROM pgrelay.log_mark;
-- of a LOGGED one nothing is lost
SELECT pgrelay.setting_set('log', 'logged');
SELECT count(pgrelay.log_rotate()) FROM generate_series(1, 2);
SELECT pg_current_snapshot() AS before \gset
DELETE FROM pgrelay.log_mark;
SELECT covers(:'before');
SELECT pgrelay.log_rotate();
SELECT covers(:'before');

-- out of a dump, in another server: neither events nor transactions mean anything there
SELECT pgrelay.emit('t', 'a', 'dumped', '{}') > 0;
SELECT pg_current_snapshot() AS before \gset
UPDATE pgrelay.log_state SET system = 1, truncated = '999999999', truncated_deferred = '999999999', lost = '999999999';
SELECT covers(:'before');
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pgrelay.event;
SELECT pgrelay.emit('t', 'a', 'later', '{}') > 0;
SELECT covers(:'before'), covers(pg_current_snapshot());

-- the indexes by which deferred events are found, each made when its partition was empty
SELECT count(*) FROM pg_indexes WHERE schemaname = 'pgrelay' AND indexname ~ '^event_[0-3]_deferred_idx$';
DROP INDEX pgrelay.event_0_deferred_idx, pgrelay.event_1_deferred_idx, pgrelay.event_2_deferred_idx, pgrelay.event_3_deferred_idx;
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now(), until = CASE WHEN slot > 0 THEN '-infinity'::timestamptz END;
SELECT pgrelay.emit('t', 'a', 'now', '{}') > 0;
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pg_indexes WHERE schemaname = 'pgrelay' AND indexname ~ '^event_[0-3]_deferred_idx$';
SELECT pass('5 min 1 s');
SELECT pgrelay.log_rotate();
SELECT pass('10 min 1 s');
SELECT pgrelay.log_rotate();
SELECT count(*) FROM pg_indexes WHERE schemaname = 'pgrelay' AND indexname ~ '^event_[0-3]_deferred_idx$';

DROP FUNCTION covers(pg_snapshot);
DROP FUNCTION kinds();

DROP PROCEDURE go_round(integer);
DROP FUNCTION pass(interval);
DROP VIEW log;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
