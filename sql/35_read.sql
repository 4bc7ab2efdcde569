--
-- Reading the log, by snapshots.
--
-- What is visible in the snapshot "until" and not in "since" has come in
-- between.  No id and no time says so: both are taken before the commit.
--
CREATE OR REPLACE FUNCTION pgrelay.epoch()
RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.system_identifier || '.' || t.timeline
    FROM pg_control_system() c,
         -- the control file has a new timeline only after the next checkpoint
         LATERAL (SELECT CASE WHEN pg_is_in_recovery()
                              THEN (SELECT k.timeline_id FROM pg_control_checkpoint() k)
                              ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
                         END AS timeline) t
$$;
COMMENT ON FUNCTION pgrelay.epoch() IS 'system identifier and timeline of the server';

-- It becomes a part of the query that calls it (therefore it has no search_path
-- of its own, and its functions are named in full), so that the first row comes
-- soon however many there are.  The first pass orders the transactions: those
-- that began after "since", and those that were in progress then.  The second
-- reads the events of one after the other.
CREATE OR REPLACE FUNCTION pgrelay.log_read(since pg_snapshot, deferred_since pg_snapshot,
                                            until pg_snapshot, deferred_until pg_snapshot,
                                            types text[], actions text[], keys text[])
RETURNS TABLE (xid xid8, deferred boolean, record text) LANGUAGE sql STABLE ROWS 1000
AS $$
    WITH tx AS MATERIALIZED (
        SELECT r.xid, pg_catalog.max(r.id) AS last_id,
               pg_catalog.bool_or(NOT r.deferred) AS at_commit, pg_catalog.bool_or(r.deferred) AS deferred
        FROM (SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE NOT e.deferred
                AND e.xid >= pg_catalog.pg_snapshot_xmax(since) AND e.xid < pg_catalog.pg_snapshot_xmax(until)
                AND pg_catalog.pg_visible_in_snapshot(e.xid, until)
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE NOT e.deferred
                AND e.xid = ANY (ARRAY(SELECT x FROM pg_catalog.pg_snapshot_xip(since) x
                                       WHERE pg_catalog.pg_visible_in_snapshot(x, until)))
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE e.deferred
                AND e.xid >= pg_catalog.pg_snapshot_xmax(deferred_since) AND e.xid < pg_catalog.pg_snapshot_xmax(deferred_until)
                AND pg_catalog.pg_visible_in_snapshot(e.xid, deferred_until)
              UNION ALL
              SELECT e.xid, e.id, e.deferred FROM pgrelay.event e
              WHERE e.deferred
                AND e.xid = ANY (ARRAY(SELECT x FROM pg_catalog.pg_snapshot_xip(deferred_since) x
                                       WHERE pg_catalog.pg_visible_in_snapshot(x, deferred_until)))) r
        GROUP BY r.xid),
    -- E'\x01' is any: no key holds it
    wanted AS MATERIALIZED (
        SELECT pg_catalog.concat(coalesce(p.type, E'\x01'), '.', coalesce(p.action, E'\x01'), '.',
                                 coalesce(pgrelay._decode_key(p.key), E'\x01')) AS pattern
        FROM unnest(types, actions, keys) AS p (type, action, key))
    SELECT t.xid, e.deferred,
           CASE WHEN pg_catalog.octet_length(e.payload) < 7000
                     OR pg_catalog.octet_length(e.payload) < 8000
                        AND pg_catalog.octet_length(pg_catalog.concat('e ', e.id, e.topic, e.payload)) <= 7999
                THEN pg_catalog.concat('e ', e.id, e.topic, e.payload)
                ELSE pgrelay._ticket(e.id, e.topic, e.payload, '-') END
    FROM (SELECT tx.*
          FROM tx
          ORDER BY CASE WHEN pg_catalog.current_setting('track_commit_timestamp') = 'on'
                        THEN pg_catalog.pg_xact_commit_timestamp(tx.xid::xid) END NULLS FIRST, tx.last_id) t,
         LATERAL (SELECT e.id, e.deferred, e.payload,
                         pg_catalog.concat(' ', pg_catalog.round(pg_catalog.date_part('epoch', e.time) * 1000000)::bigint, ' ',
                                           e.type, '.', e.action, '.', pgrelay._encode_key(e.key), ' ') AS topic
                  FROM pgrelay.event e
                  WHERE e.xid = t.xid AND CASE WHEN e.deferred THEN t.deferred ELSE t.at_commit END
                    AND (types IS NULL AND actions IS NULL AND keys IS NULL
                         OR pg_catalog.concat(e.type, E'.\x01.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, '.', e.action, E'.\x01') IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, E'.\x01.\x01') IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(e.type, '.', e.action, '.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.\x01.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.', e.action, '.', e.key) IN (SELECT pattern FROM wanted)
                         OR pg_catalog.concat(E'\x01.', e.action, E'.\x01') IN (SELECT pattern FROM wanted)
                         OR E'\x01.\x01.\x01' IN (SELECT pattern FROM wanted))
                  ORDER BY e.id) e
$$;
COMMENT ON FUNCTION pgrelay.log_read(pg_snapshot, pg_snapshot, pg_snapshot, pg_snapshot, text[], text[], text[]) IS
    'events of the log that are visible in "until" and not in "since" (deferred ones by the other two), as records';

-- Is anything of what came after a snapshot among the transactions up to this one?
CREATE OR REPLACE FUNCTION pgrelay._misses(since pg_snapshot, missing xid8)
RETURNS boolean LANGUAGE sql VOLATILE
AS $$
    SELECT pg_snapshot_xmax(since) <= missing
        OR EXISTS (SELECT FROM pg_snapshot_xip(since) x
                   WHERE x <= missing
                     -- null: so long ago that the server does not know
                     AND coalesce(pg_xact_status(x), 'committed') = 'committed')
$$;
COMMENT ON FUNCTION pgrelay._misses(pg_snapshot, xid8) IS
    'is there something after the snapshot that is missing, when this is the last transaction of which something is?';

CREATE OR REPLACE FUNCTION pgrelay._log_is_restored(since pg_snapshot, deferred_since pg_snapshot,
                                                    last_id bigint, last_time bigint)
RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE
    state pgrelay.log_state := (SELECT s FROM pgrelay.log_state s);
BEGIN
    IF state.system <> (SELECT c.system_identifier FROM pg_control_system() c) THEN
        RETURN true;
    END IF;
    IF greatest(pg_snapshot_xmax(since), pg_snapshot_xmax(deferred_since))
       > pg_snapshot_xmax(pg_current_snapshot()) THEN
        RETURN true;
    END IF;
    RETURN last_id > state.truncated_id
       AND NOT EXISTS (SELECT FROM pgrelay.event e
                       WHERE e.id = last_id
                         AND round(extract(epoch FROM e.time) * 1000000) = last_time);
END
$$;
COMMENT ON FUNCTION pgrelay._log_is_restored(pg_snapshot, pg_snapshot, bigint, bigint) IS
    'do these come from a future that this database has not seen?';

CREATE OR REPLACE FUNCTION pgrelay.log_covers(since pg_snapshot, deferred_since pg_snapshot,
                                              last_id bigint, last_time bigint)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state pgrelay.log_state;
    missing xid8;
    missing_deferred xid8;
BEGIN
    IF pgrelay._log_is_restored(since, deferred_since, NULL, NULL) THEN
        RETURN 'restored';
    END IF;
    IF pgrelay._log_is_unlogged() AND NOT EXISTS (SELECT FROM pgrelay.log_mark) THEN
        RETURN 'unlogged';
    END IF;
    SELECT * INTO STRICT state FROM pgrelay.log_state;
    IF pgrelay._misses(since, state.lost) OR pgrelay._misses(deferred_since, state.lost) THEN
        RETURN 'unlogged';
    END IF;
    IF pgrelay._log_is_restored(since, deferred_since, last_id, last_time) THEN
        RETURN 'restored';
    END IF;
    IF state.skips <> pgrelay._log_skips()
       OR pgrelay._misses(since, state.truncated)
       OR pgrelay._misses(deferred_since, state.truncated_deferred) THEN
        RETURN 'retention';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgrelay.log_covers(pg_snapshot, pg_snapshot, bigint, bigint) IS
    'null when the log holds all that is not visible in these snapshots; else why not: retention, unlogged or restored';
