--
-- Announcing deferred events.
--
-- The announcer, one of the nodes, calls announce() again and again: it tells
-- all nodes of the deferred events that have become visible since the last time.
--
CREATE OR REPLACE FUNCTION pgrelay.announce_wanted()
RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pgrelay.event_type t WHERE t.announce = 'deferred')
        -- the order makes it look into the index of deferred events
        OR EXISTS (SELECT FROM (SELECT FROM pgrelay.event e WHERE e.deferred ORDER BY e.xid LIMIT 1) e)
$$;
COMMENT ON FUNCTION pgrelay.announce_wanted() IS
    'is there a deferred type, or a deferred event in the log, so that somebody must announce?';

-- A snapshot that is too long for a NOTIFY is cut before a transaction in
-- progress: what is from there on is announced later.  The order in which they
-- began says which go first, so all get their turn.
CREATE OR REPLACE FUNCTION pgrelay._snapshot_cut(snapshot pg_snapshot, octets integer)
RETURNS pg_snapshot LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    xips text[];
    length integer := octet_length(snapshot::text);
BEGIN
    IF length <= octets THEN
        RETURN snapshot;
    END IF;
    xips := ARRAY(SELECT x::text FROM pg_snapshot_xip(snapshot) x ORDER BY x);
    -- the cut is the new xmax: it is no longer than those that follow
    FOR n IN REVERSE cardinality(xips) .. 1 LOOP
        length := length - octet_length(xips[n]) - 1;
        IF length <= octets THEN
            RETURN concat(pg_snapshot_xmin(snapshot), ':', xips[n], ':', array_to_string(xips[1 : n - 1], ','));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgrelay._snapshot_cut(pg_snapshot, integer) IS
    'an older snapshot whose text has at most so many octets';

-- The server does not wait for the disk when a transaction has done nothing but
-- NOTIFY.  But a snapshot must not be told of before it is there: after a crash its
-- last transaction ids would be given to others, whose events then look old.
CREATE OR REPLACE FUNCTION pgrelay._commit_to_disk()
RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'pgrelay', '');
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
END
$$;
COMMENT ON FUNCTION pgrelay._commit_to_disk() IS 'makes this transaction''s commit wait until it is on disk';

-- A transaction of the announcer's is: a record "d", and of each transaction a
-- record "x" and its events.  Beyond inline_limit they go as tickets, as with
-- pgrelay._emit_rows().
CREATE OR REPLACE FUNCTION pgrelay.announce(since pg_snapshot, tick boolean)
RETURNS TABLE (snapshot pg_snapshot, events bigint) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    packet_limit CONSTANT integer := 7999;
    snapshot_limit CONSTANT integer := 3995;
    inline_limit CONSTANT integer := 64 * 1024 * 1024;

    channel CONSTANT text := (SELECT o.channel FROM pgrelay.emit_setting o);
    -- what is visible in it is visible to the queries that follow as well
    until CONSTANT pg_snapshot := pgrelay._snapshot_cut(pg_current_snapshot(), snapshot_limit);
    event record;
    xid xid8 := '0';
    head text;
    line text;
    packet text;
    inline_octets bigint := 0;
BEGIN
    events := 0;
    snapshot := until;
    IF since IS NULL OR octet_length(since::text) > snapshot_limit
       OR pg_snapshot_xmax(since) > pg_snapshot_xmax(until) THEN
        PERFORM pgrelay._commit_to_disk();
        PERFORM pg_notify(channel, concat('d ', until, ' ', until));
        RETURN NEXT;
        RETURN;
    END IF;

    IF since::text = until::text AND NOT tick THEN
        RETURN NEXT;            -- no transaction has ended
        RETURN;
    END IF;

    packet := concat('d ', since, ' ', until);
    FOR event IN
        SELECT e.xid, e.id, e.payload,
               concat(' ', round(date_part('epoch', e.time) * 1000000)::bigint, ' ', e.type, '.', e.action, '.',
                      pgrelay._encode_key(e.key), ' ') AS topic
        FROM (SELECT e.*, max(e.id) OVER (PARTITION BY e.xid) AS last_id
              FROM (SELECT * FROM pgrelay.event e
                    WHERE e.deferred AND e.xid >= pg_snapshot_xmax(since) AND e.xid < pg_snapshot_xmax(until)
                      AND pg_visible_in_snapshot(e.xid, until)
                    UNION ALL
                    SELECT * FROM pgrelay.event e
                    WHERE e.deferred AND e.xid = ANY (ARRAY(SELECT x FROM pg_snapshot_xip(since) x
                                                            WHERE pg_visible_in_snapshot(x, until)))) e) e
        ORDER BY CASE WHEN current_setting('track_commit_timestamp') = 'on'
                      THEN pg_xact_commit_timestamp(e.xid::xid) END NULLS FIRST, e.last_id, e.id
    LOOP
        head := 'x ' || event.xid || E'\n';
        line := 'e ' || event.id || event.topic || event.payload;
        IF inline_octets >= inline_limit OR octet_length(head) + octet_length(line) > packet_limit THEN
            line := pgrelay._ticket(event.id, event.topic, event.payload, '-');
        END IF;
        inline_octets := inline_octets + octet_length(line);
        events := events + 1;

        IF octet_length(packet) + octet_length(head) + octet_length(line) >= packet_limit THEN
            PERFORM pg_notify(channel, packet);
            packet := head || line;
        ELSIF event.xid = xid THEN
            packet := packet || E'\n' || line;
        ELSE
            packet := packet || E'\n' || head || line;
        END IF;
        xid := event.xid;
    END LOOP;

    IF events > 0 OR tick THEN
        PERFORM pgrelay._commit_to_disk();
        PERFORM pg_notify(channel, packet);
    ELSE
        snapshot := since;
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION pgrelay.announce(pg_snapshot, boolean) IS
    'announces the deferred events that have become visible since a snapshot; returns the snapshot for the next call';
