\c - test_owner
LISTEN pgrelay;
SET timezone = 'Asia/Kolkata';

-- a job's life
INSERT INTO pgrelay.job (id, name, created, unified_job_template_id, instance_group_name)
VALUES (42, 'Deploy "everything"', '2001-02-03 04:05:06.7+00', 7, 'default');
UPDATE pgrelay.job SET status = 'pending' WHERE id = 42;
UPDATE pgrelay.job SET status = 'pending' WHERE id = 42;
UPDATE pgrelay.job SET name = 'renamed' WHERE id = 42;
UPDATE pgrelay.job SET status = 'waiting' WHERE id = 42;
UPDATE pgrelay.job SET status = 'pending' WHERE id = 42;
UPDATE pgrelay.job SET status = 'running', started = '2001-02-03 04:05:07+00', elapsed = 0.5 WHERE id = 42;
UPDATE pgrelay.job SET elapsed = NULL WHERE id = 42;
UPDATE pgrelay.job SET status = 'successful', finished = '2001-02-03 04:05:22.5+00' WHERE id = 42;
SELECT started, finished, elapsed FROM pgrelay.job WHERE id = 42;

-- times that the writer leaves out
UNLISTEN *;
INSERT INTO pgrelay.job (id, status) VALUES (43, 'running');
UPDATE pgrelay.job SET status = 'failed' WHERE id = 43;
INSERT INTO pgrelay.job (id) VALUES (44);
UPDATE pgrelay.job SET status = 'canceled' WHERE id = 44;
SELECT id, created <= started AS a, started <= finished AS b, finished <= clock_timestamp() AS c,
       elapsed = round(extract(epoch FROM finished - started)::numeric, 3) AS d, elapsed
FROM pgrelay.job WHERE id = 44 ORDER BY id;
SELECT created <= started AS a, started <= finished AS b, elapsed >= 0 AS c FROM pgrelay.job WHERE id = 43;

LISTEN pgrelay;

-- nothing is sent of a change that is rolled back
BEGIN;
INSERT INTO pgrelay.job (id) VALUES (45);
ROLLBACK;

-- refused
SELECT try($$INSERT INTO pgrelay.job (status) VALUES ('finished')$$);
SELECT try($$INSERT INTO pgrelay.job (status) VALUES ('')$$);
SELECT try($$INSERT INTO pgrelay.job (status) VALUES (NULL)$$);
SELECT try($$INSERT INTO pgrelay.job (kind) VALUES ('playbook')$$);
SELECT try($$INSERT INTO pgrelay.job (kind) VALUES (NULL)$$);
SELECT try($$INSERT INTO pgrelay.job (name) VALUES (NULL)$$);
SELECT try($$INSERT INTO pgrelay.job (workflow_job_id) VALUES (0)$$);
SELECT try($$UPDATE pgrelay.job SET status = 'Running' WHERE id = 42$$);
SELECT try($$UPDATE pgrelay.job SET kind = 'x' WHERE id = 42$$);
UNLISTEN *;

-- which status may follow which
CREATE TABLE status (place serial, name text);
INSERT INTO status (name) SELECT unnest('{new,pending,waiting,running,successful,failed,error,canceled}'::text[]);
INSERT INTO pgrelay.job (id, status) SELECT 1000 + place, name FROM status;
SELECT was.name AS was, string_agg(becomes.name, ' ' ORDER BY becomes.place)
       FILTER (WHERE try(format('UPDATE pgrelay.job SET status = %L WHERE id = %s RETURNING 1 / (id - id)', becomes.name, 1000 + was.place)) LIKE '22012:%')
       AS may_become
FROM status was, status becomes GROUP BY was.place, was.name ORDER BY was.place;
SELECT try(format('UPDATE pgrelay.job SET status = %L WHERE id = 1001', 'successful'));
SELECT try(format('UPDATE pgrelay.job SET status = %L WHERE id = 1004', 'new'));
SELECT try(format('UPDATE pgrelay.job SET status = %L WHERE id = 1005', 'running'));
SELECT try(format('UPDATE pgrelay.job SET status = %L WHERE id IN (1001, 1003)', 'successful'));
DELETE FROM pgrelay.job WHERE id > 1000;
DROP TABLE status;

-- all kinds, and what applies to some of them only
LISTEN pgrelay;
INSERT INTO pgrelay.job (id, kind, created, project_id, inventory_id, inventory_source_id, instance_group_name)
VALUES (50, 'project_update', '2001-02-03', 1, NULL, NULL, 'not while new'),
       (51, 'inventory_update', '2001-02-03', NULL, 2, 3, NULL),
       (52, 'ad_hoc_command', '2001-02-03', NULL, 2, NULL, NULL),
       (53, 'system_job', '2001-02-03', NULL, NULL, NULL, NULL);

-- workflows
INSERT INTO pgrelay.job (id, kind, status, created, started, elapsed)
VALUES (77, 'workflow_job', 'running', '2001-02-03', '2001-02-03', 0);
INSERT INTO pgrelay.workflow_node (id, workflow_job_id, identifier) VALUES (100, 77, 'deploy "db"'), (101, 77, 'deploy_backend');
INSERT INTO pgrelay.job (id, created, workflow_job_id, workflow_job_template_id, workflow_node_id)
VALUES (78, '2001-02-03', 77, 9, 100), (79, '2001-02-03', 77, 9, 101);
UPDATE pgrelay.workflow_node SET job_id = id - 22 WHERE workflow_job_id = 77;
UPDATE pgrelay.job SET status = 'failed', finished = '2001-02-04' WHERE id IN (77, 78, 79);

-- present statuses
SELECT pgrelay.job_status(ARRAY['job_events.*.42', 'job_events.verbose.42', 'project_update_events.*.50', 'workflow_events.*.77',
                                'job_events.*.50', 'job_events.*.*', 'jobs.*.42', 'job_events.*.999999999999999999999999', 'job_events.*.42x',
                                'job_events', '', NULL, '*.*.42']);
SELECT count(*) FROM pgrelay.job_status('{}');
SELECT count(*) FROM pgrelay.job_status(NULL);

-- deleting tells nothing, and takes what belongs to it along
DELETE FROM pgrelay.job WHERE id = 77;
SELECT count(*) FROM pgrelay.workflow_node;
SELECT count(*) FROM pgrelay.job WHERE workflow_job_id IS NOT NULL;
DELETE FROM pgrelay.job;

-- a plan made for one row is not that of a statement with many
UNLISTEN *;
INSERT INTO pgrelay.job (id) SELECT n FROM generate_series(10001, 30000) n;
SET statement_timeout = '30 s';
UPDATE pgrelay.job SET status = 'pending' WHERE id = 10001;
UPDATE pgrelay.job SET status = 'running';
RESET statement_timeout;
SELECT count(*) FROM pgrelay.event WHERE type = 'jobs' AND payload LIKE '%"running"%' AND length(key) = 5;
DELETE FROM pgrelay.job;
LISTEN pgrelay;

-- schedules, inventories
INSERT INTO pgrelay.schedule (id, name) VALUES (1, 'nightly'), (2, 'weekly');
UPDATE pgrelay.schedule SET name = 'daily' WHERE id = 1;
UPDATE pgrelay.schedule SET name = 'daily' WHERE false;
DELETE FROM pgrelay.schedule WHERE id IN (1, 2);
INSERT INTO pgrelay.inventory (id, name) VALUES (1, 'all');
UPDATE pgrelay.inventory SET name = 'every';
UPDATE pgrelay.inventory SET status = 'a "quoted" status';
DELETE FROM pgrelay.inventory;
