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

DROP PROCEDURE go_round(integer);
DROP FUNCTION pass(interval);
DROP VIEW log;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
