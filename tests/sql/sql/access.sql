\c - test_owner
LISTEN pgrelay;
ALTER SEQUENCE pgrelay.users_id_seq RESTART 501;
ALTER SEQUENCE pgrelay.token_id_seq RESTART 901;

-- users
SELECT pgrelay.user_create('alice');
SELECT pgrelay.user_create('alice');
SELECT try($$SELECT pgrelay.user_create('')$$);
SELECT try($$SELECT pgrelay.user_create(NULL)$$);
SELECT try($$SELECT pgrelay.user_create(E'a\nb')$$);
SELECT try($$SELECT pgrelay.user_create(repeat('x', 256))$$);

-- tokens
SELECT token_id, token FROM pgrelay.token_create('alice', NULL, 'laptop') \gset alice_
SELECT :alice_token_id, :'alice_token' ~ '^pgr_[0-9a-f]{64}$' AS form;
ALTER SEQUENCE pgrelay.users_id_seq RESTART 601;
SELECT token_id, token FROM pgrelay.token_create('bob ''😀''', '1 hour') \gset bob_
SELECT user_id, user_name, token_id, expires FROM pgrelay.authenticate(:'alice_token');
SELECT user_name, token_id, expires BETWEEN now() + interval '59 min' AND now() + interval '61 min' AS expires
FROM pgrelay.authenticate(:'bob_token');
SELECT count(*) AS plain FROM pgrelay.token t WHERE t::text LIKE '%' || :'alice_token' || '%';
SELECT octet_length(hash), description FROM pgrelay.token WHERE id = :alice_token_id;
SELECT count(*) FROM pgrelay.authenticate(NULL);
SELECT count(*) FROM pgrelay.authenticate('');
SELECT count(*) FROM pgrelay.authenticate(upper(:'alice_token'));
SELECT count(*) FROM pgrelay.authenticate(:'alice_token' || ' ');
SELECT count(*) FROM pgrelay.authenticate(''' OR true --');
SELECT try($$SELECT pgrelay.token_create('alice', '0')$$);
SELECT try($$SELECT pgrelay.token_create('alice', '-1 s')$$);
SELECT try($$SELECT pgrelay.token_create(NULL)$$);
SELECT try($$SELECT pgrelay.token_create('')$$);
-- expired
UPDATE pgrelay.token SET expires = clock_timestamp() WHERE id = :bob_token_id;
SELECT count(*) FROM pgrelay.authenticate(:'bob_token');
-- revoked
SELECT pgrelay.token_revoke(:bob_token_id);
SELECT pgrelay.token_revoke(:bob_token_id);
SELECT pgrelay.token_revoke(NULL);

-- grants
SELECT pgrelay.grant_add('alice', 'job_events.*.42');
SELECT pgrelay.grant_add('alice', 'job_events.*.42');
SELECT try(format('SELECT pgrelay.grant_add(%L, %L)', 'nobody', '*.*.*'));
SELECT try(format('SELECT pgrelay.grant_add(%L, %L)', NULL, '*.*.*'));
SELECT left(p, 20) AS pattern, left(split_part(try(format('SELECT pgrelay.grant_add(%L, %L)', 'alice', p)), ' | ', 1), 60) AS answer
FROM unnest(ARRAY[NULL, '', '*', '*.*', 'a.b', 'a b.*.*', 'a.b c.*', '.*.*', '*..*', 'a.b.c d', 'a.b.c,d', 'a.b.*c', 'a.b.%',
                  'a.b.%2a', 'a.b.%41', E'a.b.c\nd', 'é.*.*', 'a.b.' || repeat('x', 256), 'a.b.' || repeat('%25', 256)]) p;
SELECT try($$SELECT pgrelay.grant_add('alice', '*')$$);
SELECT p AS pattern, pgrelay.grant_add('alice', p), pgrelay.grant_remove('alice', p)
FROM unnest(ARRAY['*.*.*', 'a.b.', 'a.b.c.d', 'a.b.%2A', 'a.b.%20%25%2A%2C', '*.save.é😀']) p;
SELECT octet_length(p), pgrelay.grant_add('alice', p), pgrelay.grant_remove('alice', p)
FROM unnest(ARRAY['a.b.' || repeat('x', 255), 'a.b.' || repeat('%25', 255)]) p;
SELECT pgrelay.grant_remove('alice', '*.*.*');
SELECT try($$SELECT pgrelay.grant_remove('nobody', '*.*.*')$$);

-- what is allowed
SELECT pgrelay.grant_add('alice', 'jobs.status_changed.*'), pgrelay.grant_add('alice', '*.save.%2A');
SELECT * FROM pgrelay.authorize(501, ARRAY['*.*.*', 'job_events.*.42', 'job_events.verbose.42', 'job_events.*.43', 'job_events.*.*',
                                           'jobs.*.*', 'jobs.*.42', 'jobs.summary.*', 'x.save.%2A', 'x.save.*', 'x.save.y', 'job_events',
                                           '', NULL, '*', 'a b.c.d', 'JOBS.*.*'])
ORDER BY 1, 2;
SELECT count(*) FROM pgrelay.authorize(501, '{}');
SELECT count(*) FROM pgrelay.authorize(501, NULL);
SELECT count(*) FROM pgrelay.authorize(NULL, ARRAY['*.*.*']);
SELECT count(*) FROM pgrelay.authorize(-1, ARRAY['*.*.*']);
SELECT * FROM pgrelay.authorize(501, ARRAY['job_events.*.42', 'job_events.*.42']);
-- to see and to publish are two things
SELECT pgrelay.grant_add('alice', 'deploy.*.*', true), pgrelay.grant_add('alice', '*.step.%2A', true);
SELECT * FROM pgrelay.authorize_publish(501, ARRAY['*.*.*', 'deploy.step.1', 'deploy.*.*', 'job_events.*.42', 'x.step.*', 'x.step.1', 'deploy', '', NULL, 'deploy.step.1']) ORDER BY 1, 2;
SELECT * FROM pgrelay.authorize(501, ARRAY['deploy.*.*', 'x.step.*']);
SELECT count(*) FROM pgrelay.authorize_publish(501, NULL);
SELECT count(*) FROM pgrelay.authorize_publish(NULL, ARRAY['*.*.*']);
SELECT pgrelay.grant_remove('alice', 'deploy.*.*', true), pgrelay.grant_remove('alice', '*.step.%2A', true);

-- patterns and their parts
SELECT p, pgrelay._pattern_split(p) FROM unnest(ARRAY['a.b.c', '*.*.*', 'a.b.', 'a.b.c.d.e', 'a.b...', 'a.b.%20%25%2A%2C', 'A_-9.0.ä', 'a.b.*c', 'a.b.%2a',
    'a*.b.c', '**.b.c', '.b.c', 'a..c', 'a.b', 'a.b.c,d', 'a b.c.d', E'a.b.\x01', E'a.b.\n', '', NULL]) WITH ORDINALITY u(p, n) ORDER BY n;
SELECT length(t), (pgrelay._pattern_split(t || '.b.c'))[1] = t AS type, (pgrelay._pattern_split('a.' || t || '.c'))[2] = t AS action,
       length((pgrelay._pattern_split('a.b.' || t))[3]) AS key
FROM (VALUES (repeat('x', 63)), (repeat('x', 64))) v(t);
-- as nodes ask: many in one query, each with its own answer
SELECT q.n, a.user_name, a.token_id IS NOT NULL AS token
FROM unnest(ARRAY[:'alice_token', 'nobody''s', '', NULL, :'alice_token']) WITH ORDINALITY AS q (asked, n)
CROSS JOIN LATERAL pgrelay.authenticate(q.asked) AS a ORDER BY q.n;
SELECT q.n, a.user_id FROM unnest(ARRAY['nobody', 'alice', '', NULL]) WITH ORDINALITY AS q (asked, n)
CROSS JOIN LATERAL pgrelay.authenticate_name(q.asked) AS a ORDER BY q.n;
SELECT q.n, count(*), min(a.requested), min(a.allowed)
FROM unnest(ARRAY[501, -1, 501, 501], ARRAY['{*.*.*,"a b",*.*.42}', '{*.*.*}', '{}', '{jobs.summary.1,job_events.x.42}'], ARRAY[1, 9, 9, 9])
    WITH ORDINALITY AS q (user_id, patterns, most, n)
CROSS JOIN LATERAL (SELECT r.requested, r.allowed FROM pgrelay.authorize(q.user_id, q.patterns::text[]) AS r
                    ORDER BY 1, 2 LIMIT q.most) AS a
GROUP BY q.n ORDER BY q.n;

-- announced
BEGIN;
UPDATE pgrelay.grants SET user_id = (SELECT id FROM pgrelay.users WHERE name LIKE 'bob%') WHERE pattern = 'jobs.status_changed.*';
SELECT pgrelay.grant_add('alice', 'a.*.*'), pgrelay.grant_add('alice', 'b.*.*');
COMMIT;
BEGIN;
SELECT pgrelay.grant_remove('alice', 'a.*.*');
ROLLBACK;
DELETE FROM pgrelay.grants WHERE false;
DELETE FROM pgrelay.users WHERE name = 'alice';
SELECT count(*) FROM pgrelay.authenticate(:'alice_token');
TRUNCATE pgrelay.grants;
DELETE FROM pgrelay.users;
