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
SELECT pgrelay.setting_set('retention', '1 hour');
SELECT pgrelay.setting_get('retention');
SELECT pgrelay.setting_set('retention', '10 min');

-- another channel
LISTEN pgrelay;
LISTEN "other's channel";
SELECT pgrelay.setting_set('channel', 'other''s channel');
SELECT pgrelay.emit('a', 'b', 'c', '{}') > 0;
SELECT pgrelay.user_create('channel-tester') > 0, pgrelay.grant_add('channel-tester', '*.*.*');
SELECT pgrelay.setting_set('channel', 'pgrelay');
SELECT pgrelay.emit('a', 'b', 'c', '{}') > 0;
DELETE FROM pgrelay.users WHERE name = 'channel-tester';
