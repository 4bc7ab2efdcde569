-- Tokens that nodes issue.
\c - test_owner
LISTEN pgrelay;
ALTER SEQUENCE pgrelay.users_id_seq RESTART 801;
SELECT pgrelay.user_create('alice') AS alice, pgrelay.user_create('bob') AS bob \gset
SELECT token_id, token FROM pgrelay.token_create('alice', '1 hour') \gset first_
-- whose tokens there are, with what they came from
CREATE FUNCTION chain(first bigint) RETURNS TABLE (user_name text, description text, of_the_first boolean, lasts boolean) LANGUAGE sql AS $$
    SELECT u.name, regexp_replace(t.description, '\d+', 'N'), t.origin = first, t.expires > clock_timestamp()
    FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id ORDER BY t.id $$;

-- to who has shown a password; with a token; with one that was issued itself
SELECT token_id, token, expires FROM pgrelay.token_issue(:alice, '10 s') \gset alone_
SELECT :'alone_token' ~ '^pgr_[0-9a-f]{64}$' AS form, :'alone_expires'::timestamptz BETWEEN now() + interval '5 s' AND now() + interval '10.5 s' AS expires;
SELECT token_id, token FROM pgrelay.token_issue(:alice, '30 days', :first_token_id) \gset second_
SELECT token_id, token FROM pgrelay.token_issue(:alice, '1 hour', :second_token_id) \gset third_
SELECT * FROM chain(:first_token_id);
SELECT user_id, user_name, token_id = :third_token_id AS same, expires > now() + interval '59 min' AS expires FROM pgrelay.authenticate(:'third_token');
SELECT count(*) AS plain FROM pgrelay.token t WHERE t::text LIKE '%' || :'third_token' || '%';

-- refused: no such user, no such token, another's, an expired one
SELECT count(*) FROM pgrelay.token_issue(-1, '1 hour');
SELECT count(*) FROM pgrelay.token_issue(NULL, '1 hour');
SELECT count(*) FROM pgrelay.token_issue(-1, '1 hour', :first_token_id);
SELECT count(*) FROM pgrelay.token_issue(:alice, '1 hour', -1);
SELECT count(*) FROM pgrelay.token_issue(:bob, '1 hour', :first_token_id);
UPDATE pgrelay.token SET expires = clock_timestamp() WHERE id = :alone_token_id;
SELECT count(*) FROM pgrelay.token_issue(:alice, '1 hour', :alone_token_id);
SELECT ttl, try(format('SELECT token_id > 0 FROM pgrelay.token_issue(%s, %L)', :alice, ttl))
FROM unnest(ARRAY[NULL, '0', '-1 s', '0.999 s', '1 s', '1 day', '30 days', '1 mon', '30 days 1 us', '1 year', 'infinity'::text]) ttl;
SELECT user_name, count(*) FROM chain(0) GROUP BY 1;

-- deleting one takes along what came after it in its chain; what came before, and others', stay
DELETE FROM pgrelay.token WHERE id NOT IN (:first_token_id, :second_token_id, :third_token_id);
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :first_token_id) \gset fourth_
SELECT token_id FROM pgrelay.token_create('alice') \gset other_
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :other_token_id) \gset others_
SELECT token_id FROM pgrelay.token_create('bob') \gset bob_
SELECT pgrelay.token_revoke(:third_token_id);
SELECT id = ANY (ARRAY[:first_token_id, :second_token_id, :other_token_id, :others_token_id, :bob_token_id]) AS stays FROM pgrelay.token;
SELECT count(*) FROM pgrelay.authenticate(:'third_token');
SELECT pgrelay.token_revoke(:third_token_id);
DELETE FROM pgrelay.token WHERE id = :first_token_id;
SELECT id = ANY (ARRAY[:other_token_id, :others_token_id, :bob_token_id]) AS stays FROM pgrelay.token;
BEGIN;
SELECT pgrelay.token_revoke(:other_token_id);
SELECT count(*) FROM pgrelay.token;
ROLLBACK;
DELETE FROM pgrelay.token WHERE user_id = :alice;
DELETE FROM pgrelay.token WHERE false;
SELECT id = :bob_token_id AS stays FROM pgrelay.token;

-- of several, and of several users, at once
DELETE FROM pgrelay.token;
SELECT count(*) FROM pgrelay.token_create('alice') t, pgrelay.token_issue(:alice, '1 hour', t.token_id) i, pgrelay.token_issue(:alice, '1 hour', i.token_id);
SELECT count(*) FROM pgrelay.token_create('bob') t, generate_series(1, 3) n, pgrelay.token_issue(:bob, n * interval '1 hour', t.token_id);
DELETE FROM pgrelay.token WHERE origin IS NULL;
SELECT count(*) FROM pgrelay.token;

-- one that has been expired for a minute concerns nobody, when it is deleted; one that is revoked takes its chain along in any case
SELECT token_id FROM pgrelay.token_create('alice', '1 hour') \gset first_
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :first_token_id) \gset second_
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :second_token_id) \gset third_
UPDATE pgrelay.token SET expires = clock_timestamp() - interval '61 s' WHERE id IN (:first_token_id, :second_token_id);
DELETE FROM pgrelay.token WHERE id = :second_token_id;
SELECT * FROM chain(:first_token_id);
DELETE FROM pgrelay.token WHERE id = :first_token_id;
SELECT * FROM chain(:first_token_id);
SELECT pgrelay.token_revoke(:first_token_id);
SELECT * FROM chain(:first_token_id);
SELECT pgrelay.token_revoke(:first_token_id);
SELECT token_id FROM pgrelay.token_create('alice', '1 hour') \gset first_
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :first_token_id) \gset second_
UPDATE pgrelay.token SET expires = clock_timestamp() - interval '61 s' WHERE id = :first_token_id;
SELECT pgrelay.token_revoke(:first_token_id);
SELECT * FROM chain(:first_token_id);
-- one that has just expired still does
SELECT token_id FROM pgrelay.token_create('alice', '1 hour') \gset first_
SELECT token_id FROM pgrelay.token_issue(:alice, '1 hour', :first_token_id) \gset second_
UPDATE pgrelay.token SET expires = clock_timestamp() - interval '1 s' WHERE id = :first_token_id;
DELETE FROM pgrelay.token WHERE id = :first_token_id;
SELECT * FROM chain(:first_token_id);

-- issuing tidies up, a little at a time, and only this user's
INSERT INTO pgrelay.token (user_id, hash, expires)
SELECT u, sha256(concat(u, ' ', n)::bytea), now() - interval '3 min' FROM unnest(ARRAY[:alice, :bob]::bigint[]) u, generate_series(1, 25) n;
INSERT INTO pgrelay.token (user_id, hash, expires) VALUES (:alice, 'just', now() - interval '30 s'), (:alice, 'never', NULL);
SELECT count(*) FROM pgrelay.token_issue(:alice, '1 hour');
SELECT user_name, count(*) FROM chain(0) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM generate_series(1, 4) n, pgrelay.token_issue(:alice, n * interval '1 hour');
SELECT user_name, lasts, count(*) FROM chain(0) GROUP BY 1, 2 ORDER BY 1, 2;

-- no more than so many
INSERT INTO pgrelay.token (user_id, hash, expires) SELECT :bob, sha256(concat('many', n)::bytea), now() + interval '1 hour' FROM generate_series(1, 9974) n;
SELECT try(format('SELECT token_id > 0 FROM pgrelay.token_issue(%s, %L)', :bob, '1 hour')) FROM generate_series(1, 3);
SELECT count(*) FROM pgrelay.token WHERE user_id = :bob;
INSERT INTO pgrelay.token (user_id, hash, expires) SELECT :bob, sha256(concat('more', n)::bytea), now() + interval '1 hour' FROM generate_series(1, 20) n;
SELECT try(format('SELECT token_id > 0 FROM pgrelay.token_issue(%s, %L)', :bob, '1 hour')) FROM generate_series(1, 5);

DELETE FROM pgrelay.users;
DROP FUNCTION chain(bigint);
