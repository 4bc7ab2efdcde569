\c - test_owner
INSERT INTO pgrelay.job (id, kind, status)
VALUES (1, 'job', 'running'), (2, 'project_update', 'running'), (3, 'inventory_update', 'running'),
       (4, 'ad_hoc_command', 'running'), (5, 'system_job', 'running');
LISTEN pgrelay;

-- all columns
INSERT INTO pgrelay.job_event
    (id, job_id, counter, event, stdout, start_line, end_line, uuid, parent_uuid, event_data, event_level, failed,
     changed, host_id, host_name, play, role, task, created, modified)
VALUES (5678, 1, 42, 'runner_on_ok', E'\x1b[0;32mok: [web01] "quoted" \\ %s 😀\x1b[0m\r\n', 150, 151, 'u-1', 'u-0',
        '{"res": {"changed": false}, "text": "line\nbreak"}', 3, false, true, 10, 'web01.example.com', 'a "play"', 'a role',
        'a\task', '2001-02-03 04:05:06+00', '2001-02-03 04:05:06.789+00');
-- none but what must be
INSERT INTO pgrelay.job_event (id, job_id, counter) VALUES (2, 1, 1);
-- nulls
INSERT INTO pgrelay.job_event
    (id, job_id, counter, stdout, start_line, end_line, uuid, parent_uuid, event_data, event_level, failed, changed,
     host_id, host_name, play, role, task, created, modified)
VALUES (3, 1, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- each kind; order is by job and counter, whatever the order of the rows
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified)
SELECT 100 + n, 1 + n % 5, 100 - n, '', '2001-02-03', '2001-02-03' FROM generate_series(1, 9) n;
-- too long for one notification
INSERT INTO pgrelay.job_event (id, job_id, counter, stdout, uuid, created, modified)
SELECT n, 1, n, repeat('x', CASE n WHEN 12 THEN 8000 ELSE 8 END), '', '2001-02-03', '2001-02-03' FROM generate_series(11, 13) n;
-- nothing
INSERT INTO pgrelay.job_event (job_id, counter) SELECT 1, 1 WHERE false;
UPDATE pgrelay.job_event SET stdout = 'changed' WHERE counter = 1;

-- the message is what it says
SELECT try($$SELECT 'ok' FROM pgrelay.event WHERE type ~ '_events$' AND payload::json->>'stdout' IS NULL$$);
SELECT e.payload::json->>'stdout' = j.stdout AS same, octet_length(j.stdout)
FROM pgrelay.job_event j JOIN pgrelay.event e ON e.key = '1' AND e.payload::json->>'counter' = '42'
WHERE j.job_id = 1 AND j.counter = 42;

-- refused
SELECT try($$INSERT INTO pgrelay.job_event (id, job_id, counter) VALUES (9999, 1, 1)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter) VALUES (1, 0)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter) VALUES (1, NULL)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter) VALUES (NULL, 1)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter) VALUES (999, 1)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter, event) VALUES (1, 99, 'two words')$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter, event) VALUES (1, 99, NULL)$$);
SELECT try($$INSERT INTO pgrelay.job_event (job_id, counter, event) VALUES (1, 99, 'a.b')$$);

-- the summary comes before the final status, in one transaction after the last line
BEGIN;
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (5000, 5, 1000, '', '2001-02-03', '2001-02-03');
UPDATE pgrelay.job SET status = 'error', created = '2001-02-03', started = '2001-02-03', finished = '2001-02-03', elapsed = 0 WHERE id = 5;
COMMIT;

-- lines that come after the end: the summary once more behind them, of each job
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (5002, 5, 1002, '', '2001-02-03', '2001-02-03'), (5001, 5, 1001, '', '2001-02-03', '2001-02-03');
UPDATE pgrelay.job SET status = 'failed', created = '2001-02-03', started = '2001-02-03', finished = '2001-02-03', elapsed = 0 WHERE id = 2;
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified)
SELECT 6000 + n, 2 + n % 4, 2000 + n, '', '2001-02-03', '2001-02-03' FROM generate_series(1, 5) n;
INSERT INTO pgrelay.job_event (job_id, counter) VALUES (5, 1002) ON CONFLICT DO NOTHING;
-- a job that is over from the beginning
INSERT INTO pgrelay.job (id, status, created, finished, elapsed) VALUES (6, 'canceled', '2001-02-03', '2001-02-03', 0);
INSERT INTO pgrelay.job_event (id, job_id, counter, uuid, created, modified) VALUES (7000, 6, 1, '', '2001-02-03', '2001-02-03');

DELETE FROM pgrelay.job;
SELECT count(*) FROM pgrelay.job_event;
