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
        payload text NOT NULL
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
COMMENT ON TABLE pgrelay.event IS
    'log of the events, kept for the setting "retention"; read it by (xid, id) and snapshots, never by the highest id';
COMMENT ON COLUMN pgrelay.event.slot IS 'partition';
COMMENT ON COLUMN pgrelay.event.xid IS 'transaction that emitted it';
COMMENT ON COLUMN pgrelay.event.time IS 'when it was emitted, not when that was committed';
COMMENT ON COLUMN pgrelay.event.payload IS 'JSON text';
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
    IF newest >= before THEN
        UPDATE pgrelay.log_slot s SET until = newest WHERE s.slot = _log_empty.slot;
        RETURN false;
    END IF;

    EXECUTE format('TRUNCATE %s', partition);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgrelay._log_empty(smallint, timestamptz) IS
    'empties a partition of the log if nobody uses it and it holds nothing newer';

CREATE OR REPLACE FUNCTION pgrelay.log_rotate()
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retention interval := pgrelay.setting_get('retention');
    at timestamptz := clock_timestamp();
    current_slot smallint;
    next_slot smallint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('pgrelay.log_rotate', 0)) THEN
        RETURN 'busy';
    END IF;
    PERFORM pgrelay._log_touch(at);

    SELECT s.slot INTO current_slot FROM pgrelay.log_slot s
    WHERE s.until IS NULL AND s.since <= at - retention / 2;
    IF NOT FOUND THEN
        RETURN 'none';
    END IF;

    -- nothing was written: it may just as well be the current one for longer
    IF pg_relation_size(to_regclass('pgrelay.event_' || current_slot)) = 0 THEN
        UPDATE pgrelay.log_slot s SET since = at WHERE s.slot = current_slot;
        RETURN 'none';
    END IF;

    SELECT s.slot INTO next_slot FROM pgrelay.log_slot s
    WHERE s.until <= at - retention ORDER BY s.until LIMIT 1;
    IF NOT FOUND OR NOT pgrelay._log_empty(next_slot, at - retention) THEN
        RETURN 'waiting';
    END IF;

    UPDATE pgrelay.log_slot s SET until = at WHERE s.slot = current_slot;
    UPDATE pgrelay.log_slot s SET since = at, until = NULL WHERE s.slot = next_slot;
    RETURN 'rotated';
END
$$;
COMMENT ON FUNCTION pgrelay.log_rotate() IS
    'empties the oldest part of the log when it is due; returns rotated, none (nothing due), busy (someone else is at it) or waiting (no part is old enough, or in use)';
