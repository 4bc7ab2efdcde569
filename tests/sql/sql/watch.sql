\c - test_owner
LISTEN pgrelay;
CREATE TABLE orders (id integer PRIMARY KEY, note text, total numeric(10,2), extra json);
SELECT pgrelay.watch('orders');
INSERT INTO orders VALUES (1, 'quotes " and '' and \ and %', 9.50, E'{"a":\r\n[1,\n2]}'),
                          (2, E'line\nbreak 😀', NULL, NULL);
UPDATE orders SET total = 1;
UPDATE orders SET total = 2 WHERE false;
INSERT INTO orders VALUES (2, 'conflict'), (3, 'new') ON CONFLICT (id) DO UPDATE SET note = 'updated';
DELETE FROM orders WHERE id > 1;
COPY orders FROM STDIN;
4	copied	1.25	\N
\.
BEGIN;
DELETE FROM orders;
ROLLBACK;

-- a column more is in the next event
ALTER TABLE orders ADD COLUMN flag boolean DEFAULT true;
UPDATE orders SET note = 'x' WHERE id = 4;

-- watching again replaces it: columns, type, original
SELECT pgrelay.watch('orders', type => 'order-lines', columns => ARRAY['total', 'note'], original => true);
UPDATE orders SET total = total + 1;
UPDATE orders SET id = 40 WHERE id = 4;
INSERT INTO orders (id) VALUES (5);
DELETE FROM orders;
SELECT tgname, tgfoid::regproc::text ~ '^pgrelay.watch_' AS ours FROM pg_trigger WHERE tgrelid = 'orders'::regclass ORDER BY 1;
SELECT pgrelay.unwatch('orders');
SELECT pgrelay.unwatch('orders');
INSERT INTO orders (id) VALUES (6);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass;
SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgrelay'::regnamespace AND proname ~ '^watch_';

-- names that need quoting, a key that is not the primary key, a table in another schema
CREATE SCHEMA "My %s Schema";
CREATE TABLE "My %s Schema"."My ""Table"" %I" ("The Key" text, "a%b" integer, UNIQUE ("The Key"));
SELECT try($$SELECT pgrelay.watch('"My %s Schema"."My ""Table"" %I"')$$);
SELECT try($$SELECT pgrelay.watch('"My %s Schema"."My ""Table"" %I"', type => 'mine')$$);
SELECT pgrelay.watch('"My %s Schema"."My ""Table"" %I"', type => 'mine', key_column => 'The Key', columns => ARRAY['a%b'], original => true);
INSERT INTO "My %s Schema"."My ""Table"" %I" VALUES ('a key, with 100 % *', 1);
UPDATE "My %s Schema"."My ""Table"" %I" SET "a%b" = 2;

-- keys that can be no keys do not hinder the statement
INSERT INTO "My %s Schema"."My ""Table"" %I" VALUES (NULL, 3), (E'line\nbreak\x7f', 4), (repeat('é', 200), 5);

-- wide tables: what is too long goes as a ticket
CREATE TABLE wide (id uuid PRIMARY KEY, body text);
SELECT pgrelay.watch('wide');
INSERT INTO wide VALUES ('00000000-0000-0000-0000-000000000001', repeat('x', 9000)), ('00000000-0000-0000-0000-000000000002', 'short');

-- partitioned tables
CREATE TABLE parted (id integer PRIMARY KEY, v integer) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
SELECT pgrelay.watch('parted');
INSERT INTO parted VALUES (1, 1), (11, 2);
UPDATE parted SET v = 3 WHERE id = 11;

-- a plan made for one row is not that of a statement with many
CREATE TABLE many (id integer PRIMARY KEY, v integer);
INSERT INTO many SELECT n, 1 FROM generate_series(1, 20000) n;
SELECT pgrelay.watch('many', original => true);
UPDATE many SET v = 2 WHERE id = 1;
UNLISTEN *;
SET statement_timeout = '20 s';
UPDATE many SET v = 3;
RESET statement_timeout;
SELECT count(*), count(*) FILTER (WHERE payload LIKE '%"original": {"id":%') AS with_original
FROM pgrelay.event WHERE type = 'many' AND action = 'update';
-- and one made for many is not compiled again and again for statements with one
SELECT proconfig FROM pg_proc WHERE oid = (SELECT tgfoid FROM pg_trigger WHERE tgrelid = 'many'::regclass LIMIT 1);

-- saves
CREATE TABLE machines (uuid text PRIMARY KEY, action text, save text);
SELECT pgrelay.watch('machines', original => true);
LISTEN pgrelay;
BEGIN;
SET LOCAL pgrelay.save = on;
INSERT INTO machines VALUES ('m1', 'a', 's');
UPDATE machines SET action = 'b';
SET LOCAL pgrelay.save = off;
UPDATE machines SET action = 'c';
SET LOCAL pgrelay.save = TRUE;
UPDATE machines SET action = 'd';
COMMIT;
UPDATE machines SET action = 'e';
SET pgrelay.save = 'nonsense';
UPDATE machines SET action = 'f';
SET pgrelay.save = 1;
DELETE FROM machines;
RESET pgrelay.save;
DROP TABLE machines;

-- secrets: by their names, unless their types hold none
CREATE TYPE token_kind AS ENUM ('a');
CREATE DOMAIN short AS varchar(10);
CREATE TABLE vault (id integer PRIMARY KEY, password text, "userPassword" text, password_hash bytea, passwd varchar(9), ssh_passphrase short, client_secret text, token uuid, tokens text[], api_key text, "apiKey" text,
                    private_key text, "PrivateKey" json, credentials jsonb, tokens_used integer, token_count numeric, max_tokens bigint, password_changed timestamptz, password_age interval, token_day date, has_secret boolean,
                    token_kind token_kind, monkey text, key text, pass text);
SELECT pgrelay.watch('vault');
SELECT columns FROM pgrelay.watched;
INSERT INTO vault (id, password, tokens_used, api_key, monkey) VALUES (1, 'hidden', 5, 'hidden', 'shown');
UPDATE vault SET token = gen_random_uuid();
-- one that is added later is told after the next watch()
ALTER TABLE vault ADD COLUMN name text DEFAULT 'later', ADD COLUMN another_secret text DEFAULT 'hidden';
UPDATE vault SET monkey = 'x';
SET client_min_messages = warning;
SELECT pgrelay.watch('vault');
RESET client_min_messages;
UPDATE vault SET monkey = 'y';
-- who names them has them told
SELECT pgrelay.watch('vault', columns => ARRAY['id', 'api_key']);
UPDATE vault SET monkey = 'z';
DROP TABLE vault;
DROP DOMAIN short;
DROP TYPE token_kind;
-- a key that is told
CREATE TABLE session (token text PRIMARY KEY, name text, secret text);
SELECT try($$SELECT pgrelay.watch('session')$$);
SELECT try($$SELECT pgrelay.watch('session', columns => ARRAY['name'])$$);
SELECT pgrelay.watch('session', key_column => 'token');
INSERT INTO session VALUES ('t1', 'one', 'hidden');
SELECT pgrelay.watch('session', key_column => 'name', columns => ARRAY['name']);
UPDATE session SET secret = 'x';
DROP TABLE session;
-- tables of the schema itself
SELECT relname, split_part(try(format('SELECT pgrelay.watch(%L)', oid::regclass)), ' | ', 1) FROM pg_class WHERE relnamespace = 'pgrelay'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1;
SELECT try($$SELECT pgrelay.watch('pgrelay.token')$$);
SELECT pgrelay.unwatch(relation) FROM pgrelay.watched WHERE relation::text LIKE 'pgrelay.%';

-- the function of a table that is gone goes with the next change
DROP TABLE many, wide;
SELECT pgrelay.unwatch('parted');
SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgrelay'::regnamespace AND proname ~ '^watch_';

-- refused
CREATE TABLE keyless (a integer, b integer);
CREATE TABLE two_keys (a integer, b integer, PRIMARY KEY (a, b));
CREATE VIEW a_view AS SELECT 1 AS id;
SELECT try($$SELECT pgrelay.watch(NULL)$$);
SELECT try($$SELECT pgrelay.watch('nothing')$$);
SELECT try($$SELECT pgrelay.watch('a_view')$$);
SELECT try($$SELECT pgrelay.watch('keyless')$$);
SELECT try($$SELECT pgrelay.watch('two_keys')$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'c')$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'a', columns => ARRAY['a', 'x'])$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'a', columns => '{}')$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'a', columns => ARRAY[NULL]::name[])$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'a', original => true)$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'a', type => 'two words')$$);
SELECT try($$SELECT pgrelay.watch('keyless', key_column => 'ctid')$$);
SELECT try($$SELECT pgrelay.unwatch(NULL)$$);
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('keyless'::regclass, 'two_keys'::regclass);

DROP TABLE orders, "My %s Schema"."My ""Table"" %I", parted, keyless, two_keys;
DROP SCHEMA "My %s Schema";
