--
-- Passwords.
--
-- What is kept of a password is PostgreSQL's own SCRAM-SHA-256 verifier (RFC 5802,
-- RFC 7677), computed with what every server has.
--
-- SASLprep is two steps here.  PostgreSQL takes a password that breaks a rule of
-- SASLprep, such as one with characters newer than Unicode 3.2, as it is; what the
-- rules are need not be known, if both forms are tried where they differ.
--
CREATE OR REPLACE FUNCTION pgrelay._is_verifier(verifier text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(verifier ~ ('^SCRAM-SHA-256\$[1-9][0-9]{0,5}'
                                ':(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)'
                                '\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'), false)
$$;
COMMENT ON FUNCTION pgrelay._is_verifier(text) IS 'is this a SCRAM-SHA-256 verifier as PostgreSQL writes it?';

CREATE TABLE IF NOT EXISTS pgrelay.password (
    user_id  bigint PRIMARY KEY REFERENCES pgrelay.users ON DELETE CASCADE,
    verifier text NOT NULL CHECK (pgrelay._is_verifier(verifier)),
    changed  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgrelay.password IS 'passwords of users';
COMMENT ON COLUMN pgrelay.password.verifier IS
    'SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, as in pg_authid';

-- Who had stolen it may have had tokens issued for it.
CREATE OR REPLACE FUNCTION pgrelay._password_changed()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed bigint[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        changed := ARRAY(SELECT p.user_id FROM pgrelay.password p);
    ELSE
        changed := ARRAY(SELECT r.user_id FROM rows r);
    END IF;
    DELETE FROM pgrelay.token t WHERE t.by_login AND t.user_id = ANY (changed);
    PERFORM pgrelay._announce_access(changed);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgrelay._password_changed() IS
    'deletes the tokens that were issued to users who logged in, when their passwords are no more what they were, and announces it';

DO $$
BEGIN
    PERFORM pgrelay._trigger('pgrelay.password', 'password_' || lower(e) || 'd',
        format(CASE e WHEN 'TRUNCATE' THEN 'BEFORE TRUNCATE ON @' ELSE 'AFTER %s ON @ REFERENCING OLD TABLE AS rows' END, e)
        || ' FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._password_changed()')
    FROM unnest('{UPDATE,DELETE,TRUNCATE}'::text[]) e;
END
$$;

-- SCRAM

CREATE OR REPLACE FUNCTION pgrelay._password_forms(password text)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    -- tables C.1.2 and B.1 of RFC 3454
    spaces CONSTANT text := E'\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u200B\u202F\u205F\u3000';
    nothing CONSTANT text := E'\u00AD\u034F\u1806\u180B\u180C\u180D\u200C\u200D\u2060\uFE00\uFE01\uFE02\uFE03\uFE04\uFE05\uFE06\uFE07'
                             '\uFE08\uFE09\uFE0A\uFE0B\uFE0C\uFE0D\uFE0E\uFE0F\uFEFF';
    prepared text;
BEGIN
    IF octet_length(password) = length(password) THEN
        RETURN ARRAY[password];
    END IF;
    prepared := normalize(translate(password, spaces || nothing, repeat(' ', length(spaces))), NFKC);
    RETURN CASE WHEN prepared IN ('', password) THEN ARRAY[password] ELSE ARRAY[prepared, password] END;
END
$$;
COMMENT ON FUNCTION pgrelay._password_forms(text) IS
    'the password prepared by SASLprep and, where that makes a difference, as it is';

CREATE OR REPLACE FUNCTION pgrelay._bytes(bits bit varying)
RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT string_agg(int8send(substring(bits FROM n FOR 64)::bit(64)::bigint), ''::bytea ORDER BY n)
    FROM generate_series(1, length(bits), 64) n
$$;
COMMENT ON FUNCTION pgrelay._bytes(bit varying) IS 'bits, a multiple of 64, as octets';

CREATE OR REPLACE FUNCTION pgrelay._hmac_pad(key bytea, octet text)
RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT pgrelay._bytes(('x' || rpad(encode(CASE WHEN octet_length(key) > 64 THEN sha256(key) ELSE key END, 'hex'),
                                       128, '0'))::bit(512)
                          # ('x' || repeat(octet, 64))::bit(512))
$$;
COMMENT ON FUNCTION pgrelay._hmac_pad(bytea, text) IS 'HMAC''s inner (octet 36) or outer (5c) padded key';

CREATE OR REPLACE FUNCTION pgrelay._hmac(key bytea, data bytea)
RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT sha256(pgrelay._hmac_pad(key, '5c') || sha256(pgrelay._hmac_pad(key, '36') || data))
$$;
COMMENT ON FUNCTION pgrelay._hmac(bytea, bytea) IS 'HMAC-SHA-256';

-- The loop is all that takes time.
CREATE OR REPLACE FUNCTION pgrelay._scram_salted(password bytea, salt bytea, iterations integer)
RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    inner_pad CONSTANT bytea := pgrelay._hmac_pad(password, '36');
    outer_pad CONSTANT bytea := pgrelay._hmac_pad(password, '5c');
    u bytea := sha256(outer_pad || sha256(inner_pad || salt || '\x00000001'::bytea));
    result bit varying := ('x' || encode(u, 'hex'))::bit varying;
BEGIN
    FOR n IN 2 .. iterations LOOP
        u := sha256(outer_pad || sha256(inner_pad || u));
        result := result # ('x' || encode(u, 'hex'))::bit varying;
    END LOOP;
    RETURN pgrelay._bytes(result);
END
$$;
COMMENT ON FUNCTION pgrelay._scram_salted(bytea, bytea, integer) IS 'SaltedPassword of RFC 5802: PBKDF2';

CREATE OR REPLACE FUNCTION pgrelay._scram_verifier(password text, salt bytea, iterations integer)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    salted CONSTANT bytea := pgrelay._scram_salted(convert_to(password, 'UTF8'), salt, iterations);
BEGIN
    RETURN concat('SCRAM-SHA-256$', iterations, ':', translate(encode(salt, 'base64'), E'\n', ''),
                  '$', encode(sha256(pgrelay._hmac(salted, 'Client Key')), 'base64'),
                  ':', encode(pgrelay._hmac(salted, 'Server Key'), 'base64'));
END
$$;
COMMENT ON FUNCTION pgrelay._scram_verifier(text, bytea, integer) IS
    'verifier of a password, which has been prepared';

CREATE OR REPLACE FUNCTION pgrelay._scram_matches(verifier text, password text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    part CONSTANT text[] := regexp_match(verifier, '\$(.*):(.*)\$(.*)$');
    form text;
    result boolean := false;
BEGIN
    FOREACH form IN ARRAY pgrelay._password_forms(password) LOOP
        result := split_part(pgrelay._scram_verifier(form, decode(part[2], 'base64'), part[1]::integer), '$', 3) = part[3]
                  OR result;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION pgrelay._scram_matches(text, text) IS 'is it the password of this verifier?';

-- Administration

CREATE OR REPLACE FUNCTION pgrelay._password_check(user_name text, password text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF coalesce(password, '') = '' OR octet_length(password) > 1000 THEN
        RAISE EXCEPTION 'invalid password of user "%": it has % octets', user_name, coalesce(octet_length(password), 0)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A password has 1 to 1000 octets; to take one away call pgrelay.password_remove().';
    END IF;
    IF password ~ '^(SCRAM-SHA-256\$|md5[0-9a-f]{32}$)' AND NOT pgrelay._is_verifier(password) THEN
        RAISE EXCEPTION 'invalid password of user "%": it looks like a password''s verifier, but is none that can be used', user_name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the password itself, or its verifier as PostgreSQL writes it: SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY, with 1 to 999999 iterations.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._password_check(text, text) IS
    'raises an error unless it can be a password, or is a verifier';

CREATE OR REPLACE FUNCTION pgrelay.password_set(user_name text, password text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verifier text;
BEGIN
    PERFORM pgrelay._password_check(user_name, password);
    verifier := CASE WHEN pgrelay._is_verifier(password) THEN password
                     ELSE pgrelay._scram_verifier((pgrelay._password_forms(password))[1],
                                                  uuid_send(gen_random_uuid()), 4096) END;
    INSERT INTO pgrelay.password AS p (user_id, verifier)
    VALUES (pgrelay.user_create(user_name), verifier)
    ON CONFLICT ON CONSTRAINT password_pkey
        DO UPDATE SET verifier = excluded.verifier, changed = excluded.changed;
END
$$;
COMMENT ON FUNCTION pgrelay.password_set(text, text) IS
    'sets a user''s password, given as it is or as a verifier; creates the user if need be';

CREATE OR REPLACE FUNCTION pgrelay.password_remove(user_name text)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgrelay.password p WHERE p.user_id = pgrelay._user_id(user_name);
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION pgrelay.password_remove(text) IS 'takes a user''s password away; returns whether there was one';

-- What the nodes ask

CREATE OR REPLACE FUNCTION pgrelay.authenticate_password(name text, password text)
RETURNS TABLE (user_id bigint, user_name text, token_id bigint, expires timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    verifier text;
BEGIN
    IF coalesce(password, '') = '' OR octet_length(password) > 1000 THEN
        RETURN;                 -- it is nobody's
    END IF;
    SELECT u.id, u.name, p.verifier INTO user_id, user_name, verifier
    FROM pgrelay.users u JOIN pgrelay.password p ON p.user_id = u.id
    WHERE u.name = authenticate_password.name;
    -- that takes as long when there is no such user
    IF pgrelay._scram_matches(coalesce(verifier, concat('SCRAM-SHA-256$4096:', repeat('A', 22), '==$', repeat('A', 43), '=:',
                                                        repeat('A', 43), '=')), password)
       AND user_id IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay.authenticate_password(text, text) IS
    'whose name and password is it? no row: nobody''s';
