--
-- The log of events.
--
-- Every event is written here in the transaction that emits it.  The table has
-- four partitions ("slots"), of which one is written to.  When it has been for
-- half the retention, the one that was left first is emptied by TRUNCATE and
-- becomes the current one: three slots hold a retention's worth, the fourth
-- lets rotation go on while an open transaction keeps one of them locked.
--
-- Nobody waits: writers read the number of the current slot without a lock, and
-- log_rotate() leaves alone a slot that it cannot lock at once.  A slot counts
-- as written to as long as an open transaction has written to it.
--
-- How far back the log reaches is told by transaction ids, never by the clock:
-- pgrelay.log_state holds the highest that is not there any more.
--
DO $$
BEGIN
    IF to_regclass('pgrelay.event') IS NOT NULL THEN
        RETURN;                 -- making an index locks the table even if it exists
    END IF;

    CREATE SEQUENCE pgrelay.event_id_seq;

    CREATE TABLE pgrelay.event (
        slot    smallint NOT NULL,
        id      bigint NOT NULL,
        xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
        time    timestamptz NOT NULL,
        type    text NOT NULL,
        action  text NOT NULL,
        key     text NOT NULL,
        payload text NOT NULL,
        deferred boolean NOT NULL DEFAULT false
    ) PARTITION BY LIST (slot);
    ALTER TABLE pgrelay.event ALTER COLUMN payload SET STORAGE EXTERNAL;

    FOR slot IN 0 .. 3 LOOP
        EXECUTE format('CREATE TABLE pgrelay.event_%s PARTITION OF pgrelay.event FOR VALUES IN (%s)'
                       ' WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)',
                       slot, slot);
    END LOOP;

    CREATE INDEX event_id_idx ON pgrelay.event (id);
    CREATE INDEX event_xid_id_idx ON pgrelay.event (xid, id);
END
$$;

DO $$
BEGIN
    IF current_setting('pgrelay.installed_version') = '1' THEN
        PERFORM pgrelay._lock_all('pgrelay.event');
        ALTER TABLE pgrelay.event ADD COLUMN deferred boolean NOT NULL DEFAULT false;
    END IF;
END
$$;
COMMENT ON TABLE pgrelay.event IS
    'log of the events, kept for the setting "retention"; read it by (xid, id) and snapshots, never by the highest id';
COMMENT ON COLUMN pgrelay.event.slot IS 'partition';
COMMENT ON COLUMN pgrelay.event.xid IS 'transaction that emitted it';
COMMENT ON COLUMN pgrelay.event.time IS 'when it was emitted, not when that was committed';
COMMENT ON COLUMN pgrelay.event.payload IS 'JSON text';
COMMENT ON COLUMN pgrelay.event.deferred IS 'announced by a node, not by the transaction itself';
COMMENT ON SEQUENCE pgrelay.event_id_seq IS 'ids of events';

CREATE TABLE IF NOT EXISTS pgrelay.log_slot (
    slot  smallint PRIMARY KEY,
    since timestamptz NOT NULL,
    until timestamptz
);
COMMENT ON TABLE pgrelay.log_slot IS 'which partition of pgrelay.event holds which time';
COMMENT ON COLUMN pgrelay.log_slot.since IS 'when it was emptied';
COMMENT ON COLUMN pgrelay.log_slot.until IS 'when it was last written to; null: it is the current one';

INSERT INTO pgrelay.log_slot (slot, since, until)
SELECT n, clock_timestamp(), CASE WHEN n > 0 THEN '-infinity'::timestamptz END
FROM generate_series(0, 3) n
ON CONFLICT DO NOTHING;

-- All that emitting has to know, in one row: each statement that emits reads it.
CREATE TABLE IF NOT EXISTS pgrelay.emit_setting (
    channel  text NOT NULL,
    slot     smallint NOT NULL,
    stale_at timestamptz NOT NULL,
    deferred text[],
    exempt   text[]
);
COMMENT ON TABLE pgrelay.emit_setting IS
    'what emitting reads of pgrelay.setting, pgrelay.event_type and pgrelay.log_slot; it follows them by itself';
COMMENT ON COLUMN pgrelay.emit_setting.slot IS 'the current partition';
COMMENT ON COLUMN pgrelay.emit_setting.stale_at IS 'from then on, when nobody has rotated the log, only big payloads are logged';
COMMENT ON COLUMN pgrelay.emit_setting.deferred IS 'the deferred types; null: there have never been any';
COMMENT ON COLUMN pgrelay.emit_setting.exempt IS 'the exempt types; null: there are none';

CREATE OR REPLACE FUNCTION pgrelay._emit_setting_now()
RETURNS SETOF pgrelay.emit_setting LANGUAGE sql STABLE
AS $$
    SELECT c.value, s.slot, s.since + 2.5 * r.value::interval + interval '1 hour',
           (SELECT array_agg(t.type) FROM pgrelay.event_type t WHERE t.announce = 'deferred'),
           (SELECT array_agg(t.type) FROM pgrelay.event_type t WHERE NOT t.logged)
    FROM pgrelay.setting c, pgrelay.setting r, pgrelay.log_slot s
    WHERE c.name = 'channel' AND r.name = 'retention' AND s.until IS NULL
$$;
COMMENT ON FUNCTION pgrelay._emit_setting_now() IS 'what pgrelay.emit_setting should hold';

CREATE OR REPLACE FUNCTION pgrelay._emit_setting_make()
RETURNS void LANGUAGE sql
AS $$
    UPDATE pgrelay.emit_setting o
    SET channel = n.channel, slot = n.slot, stale_at = n.stale_at, exempt = n.exempt,
        -- a connection may have deferred an event a moment ago
        deferred = coalesce(n.deferred, CASE WHEN o.deferred IS NOT NULL THEN '{}'::text[] END)
    FROM pgrelay._emit_setting_now() n
    WHERE o IS DISTINCT FROM n
$$;
COMMENT ON FUNCTION pgrelay._emit_setting_make() IS 'brings pgrelay.emit_setting up to date';

CREATE OR REPLACE FUNCTION pgrelay._emit_setting_follow()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was text := (SELECT o.channel FROM pgrelay.emit_setting o);
    becomes text;
BEGIN
    PERFORM pgrelay._emit_setting_make();
    IF TG_RELID <> 'pgrelay.log_slot'::regclass THEN
        becomes := (SELECT o.channel FROM pgrelay.emit_setting o);
        PERFORM pg_notify(was, 's');
        IF becomes <> was THEN
            PERFORM pg_notify(becomes, 's');
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgrelay._emit_setting_follow() IS
    'takes changes over into pgrelay.emit_setting, and announces that settings have changed';

INSERT INTO pgrelay.emit_setting
SELECT * FROM pgrelay._emit_setting_now() WHERE NOT EXISTS (SELECT FROM pgrelay.emit_setting);

DO $$
DECLARE
    relation regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['pgrelay.setting', 'pgrelay.event_type', 'pgrelay.log_slot'] LOOP
        PERFORM pgrelay._trigger(relation, 'emit_setting_follow',
            'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @
             FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._emit_setting_follow()');
    END LOOP;
END
$$;

CREATE TABLE IF NOT EXISTS pgrelay.log_state (
    system             bigint NOT NULL,
    truncated          xid8 NOT NULL,
    truncated_deferred xid8 NOT NULL,
    truncated_id       bigint NOT NULL,
    lost               xid8 NOT NULL,
    skips              bigint NOT NULL
);
COMMENT ON TABLE pgrelay.log_state IS 'what the log does not hold any more';
COMMENT ON COLUMN pgrelay.log_state.system IS 'identifier of the server whose transactions these are';
COMMENT ON COLUMN pgrelay.log_state.truncated IS 'the last transaction of which events may be missing';
COMMENT ON COLUMN pgrelay.log_state.truncated_deferred IS 'the same of deferred events';
COMMENT ON COLUMN pgrelay.log_state.truncated_id IS 'the last event that may be missing';
COMMENT ON COLUMN pgrelay.log_state.lost IS 'the last transaction whose events a crash may have taken from an UNLOGGED log';
COMMENT ON COLUMN pgrelay.log_state.skips IS 'pgrelay.log_skip_seq as it was when it was last looked at';

-- A crash empties it as it does the log's UNLOGGED partitions.
CREATE UNLOGGED TABLE IF NOT EXISTS pgrelay.log_mark (
    made timestamptz NOT NULL
);
COMMENT ON TABLE pgrelay.log_mark IS 'one row, which is missing after a crash';

-- A writer that does not log what it should (nobody rotates) counts here: that
-- is seen whether its transaction has ended or not, whatever the clocks say.
CREATE SEQUENCE IF NOT EXISTS pgrelay.log_skip_seq;
COMMENT ON SEQUENCE pgrelay.log_skip_seq IS 'counts statements whose events were not logged, since nobody rotates the log';

INSERT INTO pgrelay.log_mark SELECT clock_timestamp()
WHERE NOT EXISTS (SELECT FROM pgrelay.log_state);

INSERT INTO pgrelay.log_state
SELECT c.system_identifier, pg_current_xact_id(), pg_current_xact_id(), s.last_value, '0', 0
FROM pg_control_system() c, pgrelay.event_id_seq s
WHERE NOT EXISTS (SELECT FROM pgrelay.log_state);

CREATE OR REPLACE FUNCTION pgrelay.event_payload(id bigint)
RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.payload FROM pgrelay.event e WHERE e.id = event_payload.id
$$;
COMMENT ON FUNCTION pgrelay.event_payload(bigint) IS
    'payload of an event; null when the log does not hold it';

-- The topic is asked for as well: anybody can NOTIFY, and a forged ticket must
-- not show one topic's payload to the subscribers of another.
CREATE OR REPLACE FUNCTION pgrelay.event_payload(id bigint, topic text)
RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.payload FROM pgrelay.event e
    WHERE e.id = event_payload.id
      AND concat(e.type, '.', e.action, '.',
                 replace(replace(replace(replace(e.key, '%', '%25'), ' ', '%20'), '*', '%2A'), ',', '%2C'))
          = event_payload.topic
$$;
COMMENT ON FUNCTION pgrelay.event_payload(bigint, text) IS
    'payload of an event of this topic, as a ticket has it; null when the log does not hold it';

CREATE OR REPLACE FUNCTION pgrelay._log_touch(at timestamptz)
RETURNS void LANGUAGE sql
AS $$
    -- a slot that an open transaction has written to is written to until now
    UPDATE pgrelay.log_slot s SET until = at
    WHERE s.until < at
      AND to_regclass('pgrelay.event_' || s.slot) IN
          (SELECT l.relation FROM pg_locks l
           WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
             AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));

    -- the clock was set back
    UPDATE pgrelay.log_slot s SET since = at WHERE s.since > at;
    UPDATE pgrelay.log_slot s SET until = at WHERE s.until > at;
$$;
COMMENT ON FUNCTION pgrelay._log_touch(timestamptz) IS 'brings log_slot up to date before a rotation';

CREATE OR REPLACE FUNCTION pgrelay._log_truncated()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_xid xid8;
    last_deferred xid8;
    last_id bigint;
BEGIN
    EXECUTE format('SELECT (SELECT xid FROM %1$s ORDER BY xid DESC LIMIT 1),'
                   ' (SELECT xid FROM %1$s WHERE deferred ORDER BY xid DESC LIMIT 1),'
                   ' (SELECT id FROM %1$s ORDER BY id DESC LIMIT 1)', TG_RELID::regclass)
    INTO last_xid, last_deferred, last_id;
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        last_xid := pg_current_xact_id();       -- there may be more than this snapshot shows
        last_deferred := last_xid;
        last_id := nextval('pgrelay.event_id_seq');
    END IF;
    UPDATE pgrelay.log_state s
    SET truncated = greatest(s.truncated, last_xid),
        truncated_deferred = greatest(s.truncated_deferred, last_deferred),
        truncated_id = greatest(s.truncated_id, last_id)
    WHERE last_xid IS NOT NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgrelay._log_truncated() IS 'notes what goes when a partition of the log is emptied';

-- A partition is of the kind that the setting "log" says, and has an index for
-- the announcer, which must not read what is announced already.
CREATE OR REPLACE FUNCTION pgrelay._log_has_kind(slot smallint)
RETURNS boolean LANGUAGE sql STABLE
AS $$
    SELECT c.relpersistence = CASE s.value WHEN 'unlogged' THEN 'u' ELSE 'p' END
    FROM pg_class c, pgrelay.setting s
    WHERE c.oid = to_regclass('pgrelay.event_' || slot) AND s.name = 'log'
$$;
COMMENT ON FUNCTION pgrelay._log_has_kind(smallint) IS
    'is the partition LOGGED or UNLOGGED as it should be?';

CREATE OR REPLACE FUNCTION pgrelay._log_has_index(slot smallint)
RETURNS boolean LANGUAGE sql STABLE
AS $$
    SELECT to_regclass('pgrelay.event_' || slot || '_deferred_idx') IS NOT NULL
$$;
COMMENT ON FUNCTION pgrelay._log_has_index(smallint) IS 'has the partition the index that the announcer reads by?';

CREATE OR REPLACE FUNCTION pgrelay._log_make(slot smallint)
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT pgrelay._log_has_kind(slot) THEN
        EXECUTE format('ALTER TABLE pgrelay.event_%s SET %s', slot, upper(pgrelay.setting_get('log')));
    END IF;
    IF NOT pgrelay._log_has_index(slot) THEN
        EXECUTE format('CREATE INDEX event_%1$s_deferred_idx ON pgrelay.event_%1$s (xid, id) WHERE deferred', slot);
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._log_make(smallint) IS 'brings an empty partition of the log up to date';

DO $$
BEGIN
    FOR slot IN 0 .. 3 LOOP
        PERFORM pgrelay._trigger(('pgrelay.event_' || slot)::regclass, 'event_truncated',
            'BEFORE TRUNCATE ON @
             FOR EACH STATEMENT EXECUTE FUNCTION pgrelay._log_truncated()');
        -- what an upgrade finds in use gets its index when it is emptied
        IF current_setting('pgrelay.installed_version') < '2'
           AND pg_relation_size(to_regclass('pgrelay.event_' || slot)) = 0 THEN
            PERFORM pgrelay._log_make(slot::smallint);
        END IF;
    END LOOP;
END
$$;

-- Empties a slot unless that would have to wait for someone.  What a transaction
-- with an old snapshot has written late into an old slot is kept as well.
CREATE OR REPLACE FUNCTION pgrelay._log_empty(slot smallint, before timestamptz)
RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE
    partition text := 'pgrelay.event_' || slot;
    newest timestamptz;
BEGIN
    BEGIN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', partition);
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;

    EXECUTE format('SELECT time FROM %s ORDER BY id DESC LIMIT 1', partition) INTO newest;
    -- newer than now: the clock was set back, and what was written before says nothing
    IF newest >= before AND newest <= clock_timestamp() THEN
        UPDATE pgrelay.log_slot s SET until = newest WHERE s.slot = _log_empty.slot;
        RETURN false;
    END IF;

    EXECUTE format('TRUNCATE %s', partition);
    PERFORM pgrelay._log_make(slot);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgrelay._log_empty(smallint, timestamptz) IS
    'empties a partition of the log, and brings it up to date, if nobody uses it and it holds nothing newer';

CREATE OR REPLACE FUNCTION pgrelay._log_skips()
RETURNS bigint LANGUAGE sql STABLE
AS $$
    SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM pgrelay.log_skip_seq s
$$;
COMMENT ON FUNCTION pgrelay._log_skips() IS 'how many statements have not logged their events';

-- The lock tells of a transaction that has not ended; it is shared, nobody waits for it.
CREATE OR REPLACE FUNCTION pgrelay._log_skip()
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('pgrelay.log_skip', 0));
    PERFORM nextval('pgrelay.log_skip_seq');
END
$$;
COMMENT ON FUNCTION pgrelay._log_skip() IS 'notes that this transaction does not log its events';

CREATE OR REPLACE FUNCTION pgrelay._log_skipping()
RETURNS boolean LANGUAGE sql
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks l, hashtextextended('pgrelay.log_skip', 0) k
        WHERE l.locktype = 'advisory' AND l.objsubid = 1
          AND l.classid::bigint = (k >> 32) & 4294967295 AND l.objid::bigint = k & 4294967295
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
$$;
COMMENT ON FUNCTION pgrelay._log_skipping() IS 'is a transaction open that does not log its events?';

-- Takes note of what is missing although no partition was emptied.
CREATE OR REPLACE FUNCTION pgrelay._log_look()
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    skipped bigint := pgrelay._log_skips();     -- before it is asked who is at it
    last_id bigint := (SELECT s.last_value FROM pgrelay.event_id_seq s);
BEGIN
    IF NOT EXISTS (SELECT FROM pgrelay.log_mark) THEN
        UPDATE pgrelay.log_state s SET lost = pg_current_xact_id(), truncated_id = last_id
        WHERE pgrelay._log_is_unlogged();
        INSERT INTO pgrelay.log_mark VALUES (clock_timestamp());
    END IF;
    IF skipped <> (SELECT s.skips FROM pgrelay.log_state s) AND NOT pgrelay._log_skipping() THEN
        UPDATE pgrelay.log_state s
        SET skips = skipped, truncated = x.xmax, truncated_deferred = x.xmax, truncated_id = last_id
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax) x;
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._log_look() IS
    'notes what a crash has taken from the log, and what writers did not log';

CREATE OR REPLACE FUNCTION pgrelay._log_is_unlogged()
RETURNS boolean LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'pgrelay.event'::regclass AND c.relpersistence = 'u')
$$;
COMMENT ON FUNCTION pgrelay._log_is_unlogged() IS 'is any partition of the log UNLOGGED?';

-- Restored from a dump into another server: neither the events nor what is
-- noted of them say anything there, for transactions are counted anew.
CREATE OR REPLACE FUNCTION pgrelay._log_adopt()
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    this_system bigint := (SELECT c.system_identifier FROM pg_control_system() c);
    last_id bigint := (SELECT s.last_value FROM pgrelay.event_id_seq s);
BEGIN
    IF (SELECT s.system FROM pgrelay.log_state s) = this_system THEN
        RETURN;
    END IF;
    FOR slot IN 0 .. 3 LOOP
        IF NOT pgrelay._log_empty(slot::smallint, 'infinity') THEN
            RETURN;             -- it is in use; the next time, then
        END IF;
    END LOOP;
    UPDATE pgrelay.log_state s
    SET system = this_system, truncated = pg_current_xact_id(), truncated_deferred = pg_current_xact_id(),
        truncated_id = last_id, lost = '0', skips = pgrelay._log_skips();
    PERFORM pgrelay._emit_setting_make();       -- the dump may have been without some tables' data
END
$$;
COMMENT ON FUNCTION pgrelay._log_adopt() IS 'empties a log that another server has written';

CREATE OR REPLACE FUNCTION pgrelay._log_convert(before timestamptz)
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    left_slot smallint;
BEGIN
    FOR left_slot IN SELECT s.slot FROM pgrelay.log_slot s
                     WHERE s.until IS NOT NULL
                       AND NOT (pgrelay._log_has_kind(s.slot) AND pgrelay._log_has_index(s.slot)) LOOP
        IF (SELECT s.until < before FROM pgrelay.log_slot s WHERE s.slot = left_slot)
           OR pg_relation_size(to_regclass('pgrelay.event_' || left_slot)) = 0 THEN
            PERFORM pgrelay._log_empty(left_slot, before);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgrelay._log_convert(timestamptz) IS
    'brings partitions of the log up to date that nobody writes to, and that hold nothing newer';

CREATE OR REPLACE FUNCTION pgrelay.log_rotate()
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retention interval := pgrelay.setting_get('retention');
    at timestamptz := clock_timestamp();
    current_slot smallint;
    due boolean;
    used boolean;
    next_slot smallint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('pgrelay.log_rotate', 0)) THEN
        RETURN 'busy';
    END IF;
    PERFORM pgrelay._log_adopt();
    PERFORM pgrelay._log_look();
    PERFORM pgrelay._log_touch(at);
    PERFORM pgrelay._log_convert(at - retention);

    SELECT s.slot, s.since <= at - retention / 2 INTO STRICT current_slot, due
    FROM pgrelay.log_slot s WHERE s.until IS NULL;
    used := pg_relation_size(to_regclass('pgrelay.event_' || current_slot)) > 0;
    IF due AND NOT used THEN
        -- it may just as well be the current one for longer
        UPDATE pgrelay.log_slot s SET since = at WHERE s.slot = current_slot;
    END IF;
    IF used AND NOT due OR NOT used AND pgrelay._log_has_kind(current_slot) THEN
        RETURN 'none';
    END IF;

    SELECT s.slot INTO next_slot FROM pgrelay.log_slot s
    WHERE s.until <= at - retention
       OR NOT used AND pg_relation_size(to_regclass('pgrelay.event_' || s.slot)) = 0
    ORDER BY s.until, s.slot LIMIT 1;
    IF NOT FOUND OR NOT pgrelay._log_empty(next_slot, at - retention) THEN
        RETURN CASE WHEN due AND used THEN 'waiting' ELSE 'none' END;
    END IF;

    UPDATE pgrelay.log_slot s SET until = at WHERE s.slot = current_slot;
    UPDATE pgrelay.log_slot s SET since = at, until = NULL WHERE s.slot = next_slot;
    RETURN 'rotated';
END
$$;
COMMENT ON FUNCTION pgrelay.log_rotate() IS
    'empties the oldest part of the log when it is due; returns rotated, none (nothing due), busy (someone else is at it) or waiting (no part is old enough, or in use)';
