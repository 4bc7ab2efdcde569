\c - test_owner
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now(), until = CASE WHEN slot > 0 THEN '-infinity'::timestamptz END;
CREATE VIEW health AS
    SELECT queue_usage BETWEEN 0 AND 0.1 AS queue, log_bytes > 0 AS bytes, log_rows_since BETWEEN now() - interval '1 min' AND now() AS rows_since,
           now() - log_rotated < interval '1 min' AS rotated, log_state, server_time BETWEEN now() AND clock_timestamp() AS clock
    FROM pgrelay.health();
SELECT * FROM health;
SELECT log_bytes AS empty FROM pgrelay.health() \gset
SELECT pgrelay.emit('a', 'b', 'c', jsonb_build_object('x', repeat('x', 100000))) > 0;
SELECT * FROM health;
SELECT log_bytes - :empty BETWEEN 100000 AND 200000 AS grown FROM pgrelay.health();
-- rotation is due, and soon overdue
UPDATE pgrelay.log_slot SET since = now() - interval '5 min 30 s' WHERE until IS NULL;
SELECT * FROM health;
UPDATE pgrelay.log_slot SET since = now() - interval '6 min 30 s' WHERE until IS NULL;
SELECT * FROM health;
SELECT pgrelay.log_rotate();
SELECT * FROM health;
-- nobody has rotated it for long
UPDATE pgrelay.log_slot SET since = now() - interval '2 hours' WHERE until IS NULL;
SELECT * FROM health;
SELECT pgrelay.log_rotate();
SELECT * FROM health;
-- not overdue while there is nothing to rotate
TRUNCATE pgrelay.event;
UPDATE pgrelay.log_slot SET since = now() - interval '7 min' WHERE until IS NULL;
SELECT log_state FROM health;
DROP VIEW health;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
