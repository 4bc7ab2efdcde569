--
-- Roles and rights.  This part comes last: it speaks of all functions.
--
DO $$
DECLARE
    ours regprocedure;
BEGIN
    -- watch() may have made some that are another role's; it has seen to these
    FOR ours IN SELECT p.oid FROM pg_proc p
                WHERE p.pronamespace = 'pgrelay'::regnamespace AND pg_has_role(p.proowner, 'USAGE')
                  AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0)) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION pgrelay._role(name name, grants text[])
RETURNS void LANGUAGE plpgsql
AS $$
DECLARE
    statement text;
BEGIN
    IF to_regrole(name::text) IS NULL THEN
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;           -- another database's install was faster
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role "%" does not exist, and "%" may not create it', name, current_user
                    USING HINT = format('Have an administrator run "CREATE ROLE %I NOLOGIN", then install again.', name);
                RETURN;
        END;
    END IF;
    FOREACH statement IN ARRAY grants LOOP
        EXECUTE format('GRANT %s TO %I', statement, name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgrelay._role(name, text[]) IS 'creates a role if that is allowed, and grants rights to it';
REVOKE ALL ON FUNCTION pgrelay._role(name, text[]) FROM PUBLIC;

SET LOCAL client_min_messages = notice;
DO $$
BEGIN
    PERFORM pgrelay._role('pgrelay_node', ARRAY[
        'USAGE ON SCHEMA pgrelay',
        'EXECUTE ON FUNCTION pgrelay.version(), pgrelay.setting_get(text)',
        'SELECT ON pgrelay.event, pgrelay.event_type',
        'EXECUTE ON FUNCTION pgrelay.event_payload(bigint), pgrelay.event_payload(bigint, text)',
        'EXECUTE ON FUNCTION pgrelay.log_read(pg_snapshot, pg_snapshot, pg_snapshot, pg_snapshot, text[], text[], text[])',
        -- what log_read() is made of, which runs with its caller's rights
        'EXECUTE ON FUNCTION pgrelay._ticket(bigint, text, text, text), pgrelay._encode_key(text), pgrelay._decode_key(text)',
        'EXECUTE ON FUNCTION pgrelay.log_covers(pg_snapshot, pg_snapshot, bigint, bigint), pgrelay.epoch()',
        'EXECUTE ON FUNCTION pgrelay.announce(pg_snapshot, boolean), pgrelay.announce_wanted()',
        'EXECUTE ON FUNCTION pgrelay.log_rotate(), pgrelay.health()',
        'EXECUTE ON FUNCTION pgrelay.authenticate(text), pgrelay.authenticate_password(text, text),'
        ' pgrelay.authenticate_name(text)',
        'EXECUTE ON FUNCTION pgrelay.authorize(bigint, text[]), pgrelay.authorize_publish(bigint, text[])',
        'EXECUTE ON FUNCTION pgrelay.token_issue(bigint, interval, bigint)',
        'EXECUTE ON FUNCTION pgrelay.job_status(text[])',
        'EXECUTE ON FUNCTION pgrelay.publish(text, jsonb), pgrelay.connections_changed(text, jsonb)']);
    PERFORM pgrelay._role('pgrelay_emitter', ARRAY[
        'USAGE ON SCHEMA pgrelay',
        'EXECUTE ON FUNCTION pgrelay.version(), pgrelay.setting_get(text)',
        'EXECUTE ON FUNCTION pgrelay.emit(text, text, text, jsonb),'
        ' pgrelay.emit_many(pgrelay.new_event[]), pgrelay.emit_channel_notification(text, jsonb)',
        'SELECT, INSERT, UPDATE, DELETE ON pgrelay.job, pgrelay.job_event, pgrelay.workflow_node,'
        ' pgrelay.schedule, pgrelay.inventory']);
END
$$;
