-- Passwords.
\c - test_owner
LISTEN pgrelay;
ALTER SEQUENCE pgrelay.users_id_seq RESTART 1001;
CREATE FUNCTION known(name text, password text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pgrelay.authenticate_password(name, password));
END
$$;
-- sets a password, and tries some
CREATE FUNCTION known_after(name text, password text, VARIADIC tries text[]) RETURNS boolean[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgrelay.password_set(name, password);
    RETURN ARRAY(SELECT known(name, t) FROM unnest(tries) WITH ORDINALITY AS u (t, n) ORDER BY n);
END
$$;

-- the example of RFC 7677
SELECT pgrelay._scram_verifier('pencil', decode('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'), 4096);
-- HMAC-SHA-256: the examples of RFC 4231 with short and long keys
SELECT encode(pgrelay._hmac('Jefe', 'what do ya want for nothing?'), 'hex');
SELECT encode(pgrelay._hmac(decode(repeat('aa', 131), 'hex'), 'Test Using Larger Than Block-Size Key - Hash Key First'), 'hex');
SELECT encode(pgrelay._hmac('', ''), 'hex');

-- set, changed, removed: a change is announced, a first one changes nothing
SELECT pgrelay.password_set('alice', 'secret');
SELECT * FROM pgrelay.authenticate_password('alice', 'secret');
SELECT verifier ~ '^SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$' AS form, verifier LIKE '%secret%' AS plain, changed AS was FROM pgrelay.password \gset
SELECT :'form' AS form, :'plain' AS plain;
SELECT pgrelay.password_set('alice', 'another');
SELECT changed > :'was' AS later FROM pgrelay.password;
SELECT * FROM pgrelay.authenticate_password('alice', 'secret');
SELECT * FROM pgrelay.authenticate_password('alice', 'another');
SELECT pgrelay.password_set('bob', 'another');
SELECT count(DISTINCT verifier) FROM pgrelay.password;
SELECT pgrelay.password_remove('alice');
SELECT pgrelay.password_remove('alice');
SELECT * FROM pgrelay.authenticate_password('alice', 'another');
SELECT name FROM pgrelay.users ORDER BY name;

-- nobody
SELECT n AS name, p AS password FROM unnest(ARRAY['bob', 'BOB', 'bob ', '', NULL, 'alice', 'nobody', 'bob'' OR true --']) n,
     unnest(ARRAY['another', 'Another', 'another ', '', NULL]) p, pgrelay.authenticate_password(n, p);
SELECT count(*) FROM pgrelay.authenticate_password('bob', (SELECT verifier FROM pgrelay.password));

-- bad input
SELECT try($$SELECT pgrelay.password_set('bob', '')$$);
SELECT try($$SELECT pgrelay.password_set('bob', NULL)$$);
SELECT try($$SELECT pgrelay.password_set('bob', repeat('é', 501))$$);
SELECT try($$SELECT pgrelay.password_set('', 'x')$$);
SELECT try($$SELECT pgrelay.password_set(NULL, 'x')$$);
SELECT try($$SELECT pgrelay.password_remove('nobody')$$);
SELECT try($$SELECT pgrelay.password_remove(NULL)$$);
SELECT try($$SELECT pgrelay.password_set('bob', 'md5' || md5('secretbob'))$$);
SELECT left(v, 40), left(try(format('SELECT pgrelay.password_set(%L, %L)', 'bob', replace(v, '@', repeat('A', 43) || '=:' || repeat('A', 43) || '='))), 120)
FROM unnest(ARRAY['SCRAM-SHA-256$', 'SCRAM-SHA-256$0:AAAA$@', 'SCRAM-SHA-256$1000000:AAAA$@', 'SCRAM-SHA-256$4096:$@', 'SCRAM-SHA-256$4096:AAA$@', 'SCRAM-SHA-256$4096:AAAA$@=',
                  'SCRAM-SHA-256$4096:A===$@', 'SCRAM-SHA-256$-1:AAAA$@', 'SCRAM-SHA-256$4096:AAAA$@:@']) v;
SELECT try($$INSERT INTO pgrelay.password VALUES (1, 'secret')$$);
SELECT count(*) FROM pgrelay.authenticate_password('bob', 'another');

-- long ones, with every octet, and of several kinds of characters
SELECT octet_length(p), known_after('bob', p, p, left(p, -1), p || 'x')
FROM unnest(ARRAY['x', repeat('x', 63), repeat('x', 64), repeat('x', 65), repeat('x', 1000), repeat('é', 500), 'with : colon', E'\\ '' " $ %\x01\x7f', 'пароль😀', '密码', E'\u00A0', E'\u00AD']) p;

-- what PostgreSQL itself has made of a password will do, and an equal one differently typed
\c - postgres
SET password_encryption = 'scram-sha-256';
CREATE TEMPORARY TABLE typed (n serial, password text, again text);
INSERT INTO typed (password, again) VALUES ('pencil', 'pencil'), ('two words', E'two\u00A0words'), (E'u\u0308ber', 'über'), ('über', E'u\u0308ber'), ('ﬁx', 'fix'), ('Ⅸ', 'IX'), (E'a\u00ADb', 'ab'),
    ('ﬁ😀', 'ﬁ😀'), (E'\u0627\u0031', E'\u0627\u0031'), ('ﬁ' || E'\u0627', 'ﬁ' || E'\u0627'), (repeat('long', 50), repeat('long', 50));
DO $$ DECLARE t record; BEGIN FOR t IN SELECT * FROM typed LOOP EXECUTE format('CREATE ROLE test_password_%s PASSWORD %L', t.n, t.password); END LOOP; END $$;
SELECT t.n, known_after('typed ' || t.n, (SELECT rolpassword FROM pg_authid WHERE rolname = 'test_password_' || t.n), t.password, t.again, t.password || ' ')
FROM typed t ORDER BY t.n;
DO $$ DECLARE t record; BEGIN FOR t IN SELECT * FROM typed LOOP EXECUTE format('DROP ROLE test_password_%s', t.n); END LOOP; END $$;
-- with another number of iterations, and another length of the salt
\c - test_owner
SELECT i AS iterations, l AS salt, known_after('bob', pgrelay._scram_verifier('pencil', convert_to(repeat('s', l), 'UTF8'), i), 'pencil', 'pen')
FROM unnest(ARRAY[1, 2, 10000]) i, unnest(ARRAY[1, 2, 3, 100]) l;

-- an unknown name takes as long as a known one
CREATE FUNCTION takes(name text) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    best double precision;
    start timestamptz;
BEGIN
    FOR n IN 1 .. 10 LOOP
        start := clock_timestamp();
        PERFORM FROM pgrelay.authenticate_password(name, 'wrong');
        best := least(best, date_part('epoch', clock_timestamp() - start));
    END LOOP;
    RETURN best;
END
$$;
SELECT pgrelay.password_set('bob', 'right'), pgrelay.user_create('without') > 0 AS without;
SELECT takes('nobody') / takes('bob') BETWEEN 0.2 AND 5 AS unknown, takes('without') / takes('bob') BETWEEN 0.2 AND 5 AS without;
DROP FUNCTION takes(text), known_after(text, text, text[]), known(text, text);

-- by name alone
ALTER SEQUENCE pgrelay.users_id_seq RESTART 1101;
SELECT pgrelay.user_create('eve');
SELECT n AS asked, a.* FROM unnest(ARRAY['eve', 'EVE', '', 'nobody', NULL, 'eve'' --']) n, pgrelay.authenticate_name(n) a;

LISTEN pgrelay;
-- announced, however they change; a user who goes takes his password along
UPDATE pgrelay.password SET changed = now() WHERE user_id = (SELECT id FROM pgrelay.users WHERE name = 'bob');
UPDATE pgrelay.password SET changed = now() WHERE false;
BEGIN;
SELECT pgrelay.password_set('bob', 'not');
ROLLBACK;
DELETE FROM pgrelay.users WHERE name LIKE 'typed%';
SELECT count(*) FROM pgrelay.password;
SELECT pgrelay.password_set('eve', 'x');
DELETE FROM pgrelay.password WHERE user_id = (SELECT id FROM pgrelay.users WHERE name = 'bob');
TRUNCATE pgrelay.password;

-- tokens that were issued for a password go when it is set anew, or removed; others stay, and so do those of others
SELECT pgrelay.user_create('eve') AS eve, pgrelay.user_create('mallory') AS mallory \gset
SELECT pgrelay.password_set('eve', 'x'), pgrelay.password_set('mallory', 'x');
SELECT token_id AS id FROM pgrelay.token_issue(:eve, '1 hour') \gset
SELECT count(*) FROM pgrelay.token_issue(:eve, '30 days', :id);
UPDATE pgrelay.token SET expires = now() - interval '2 min' WHERE id = :id;
DELETE FROM pgrelay.token WHERE id = :id;
SELECT count(*) FROM pgrelay.token_issue(:mallory, '1 hour');
SELECT token_id AS id FROM pgrelay.token_create('eve') \gset
SELECT count(*) FROM pgrelay.token_issue(:eve, '1 hour', :id);
CREATE VIEW tokens AS SELECT u.name, t.by_login, count(*) FROM pgrelay.token t JOIN pgrelay.users u ON u.id = t.user_id GROUP BY 1, 2 ORDER BY 1, 2;
TABLE tokens;
SELECT pgrelay.password_set('eve', 'y');
TABLE tokens;
SELECT count(*) FROM pgrelay.token_issue(:eve, '1 hour');
SELECT pgrelay.password_remove('eve');
TABLE tokens;
TRUNCATE pgrelay.password;
TABLE tokens;
DROP VIEW tokens;
DELETE FROM pgrelay.users;
