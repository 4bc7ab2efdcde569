--
-- How it stands: what "pgrelay check" and /metrics show.
--
CREATE OR REPLACE FUNCTION pgrelay._log_health(slot smallint, since timestamptz)
RETURNS text LANGUAGE sql STABLE
AS $$
    -- a node asks for the rotation every ten seconds
    SELECT CASE WHEN clock_timestamp() >= o.stale_at THEN 'stale'
                WHEN clock_timestamp() >= since + r.value::interval / 2 + interval '1 min'
                     AND pg_relation_size(to_regclass('pgrelay.event_' || slot)) > 0 THEN 'waiting'
                ELSE 'ok' END
    FROM pgrelay.emit_setting o, pgrelay.setting r WHERE r.name = 'retention'
$$;
COMMENT ON FUNCTION pgrelay._log_health(smallint, timestamptz) IS
    'ok, waiting or stale: how long the current partition of the log has been written to';

CREATE OR REPLACE FUNCTION pgrelay.health()
RETURNS TABLE (queue_usage float8, log_bytes bigint, log_rows_since timestamptz, log_rotated timestamptz,
               log_state text, server_time timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notification_queue_usage(),
           (SELECT sum(pg_total_relation_size(i.inhrelid))::bigint FROM pg_inherits i
            WHERE i.inhparent = 'pgrelay.event'::regclass),
           (SELECT e.time FROM pgrelay.event e ORDER BY e.id LIMIT 1),
           s.since, pgrelay._log_health(s.slot, s.since), clock_timestamp()
    FROM pgrelay.log_slot s WHERE s.until IS NULL
$$;
COMMENT ON FUNCTION pgrelay.health() IS
    'the part of the notification queue in use, the log''s size, its oldest event, its last rotation, its state (ok, waiting, stale), the clock';
