\c - test_owner
SELECT * FROM pgrelay.setting ORDER BY name;
SELECT pgrelay.setting_get('channel');
SELECT try($$SELECT pgrelay.setting_get('chanel')$$);
SELECT try($$SELECT pgrelay.setting_get(NULL)$$);
SELECT try($$SELECT pgrelay.setting_set('chanel', 'x')$$);
SELECT try($$SELECT pgrelay.setting_set('channel', NULL)$$);
SELECT try($$SELECT pgrelay.setting_set('channel', '')$$);
SELECT try($$SELECT pgrelay.setting_set('channel', repeat('x', 64))$$);
SELECT try($$SELECT pgrelay.setting_set('retention', 'soon')$$);
SELECT try($$SELECT pgrelay.setting_set('retention', '-1 min')$$);
SELECT try($$SELECT pgrelay.setting_set('retention', '1 year')$$);
SELECT try($$SELECT pgrelay.setting_set('log', 'off')$$);
SELECT try($$SELECT pgrelay.setting_set('log', 'LOGGED')$$);
SELECT pgrelay.setting_set('retention', '1 hour');
SELECT pgrelay.setting_get('retention');
SELECT pgrelay.setting_set('retention', '10 min');

-- what emitting reads follows them, however they are changed
CREATE VIEW follows AS
    SELECT o.channel, o.stale_at - s.since AS stale_after, o.slot = s.slot AS slot, o.deferred, o.exempt
    FROM pgrelay.emit_setting o, pgrelay.log_slot s WHERE s.until IS NULL;
SELECT * FROM follows;
SELECT pgrelay.setting_set('retention', '1 hour');
SELECT * FROM follows;
UPDATE pgrelay.setting SET value = '10 min' WHERE name = 'retention';
UPDATE pgrelay.log_slot SET since = since - interval '1 day' WHERE until IS NULL;
SELECT * FROM follows;
UPDATE pgrelay.log_slot SET since = now() WHERE until IS NULL;
INSERT INTO pgrelay.event_type VALUES ('a', 'deferred', true), ('b', 'commit', false);
SELECT * FROM follows;
DELETE FROM pgrelay.event_type WHERE type = 'a';
SELECT * FROM follows;
TRUNCATE pgrelay.event_type;
SELECT * FROM follows;
DROP VIEW follows;

-- another channel
LISTEN pgrelay;
LISTEN "other's channel";
SELECT pgrelay.setting_set('channel', 'other''s channel');
SELECT pgrelay.emit('a', 'b', 'c', '{}') > 0;
SELECT pgrelay.user_create('channel-tester') > 0, pgrelay.grant_add('channel-tester', '*.*.*');
SELECT pgrelay.setting_set('channel', 'pgrelay');
SELECT pgrelay.emit('a', 'b', 'c', '{}') > 0;
DELETE FROM pgrelay.users WHERE name = 'channel-tester';
