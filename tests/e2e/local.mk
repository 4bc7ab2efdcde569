# End-to-end tests: each file starts its own PostgreSQL and its own nodes. The longest come first, for make -j.
E2E_TESTS = \
	%D%/test_loss_nodes.py \
	%D%/test_loss_gaps.py \
	%D%/test_loss_sessions.py \
	%D%/test_loss_server.py \
	%D%/test_loss_network.py \
	%D%/test_cluster.py \
	%D%/test_links.py \
	%D%/test_announce.py \
	%D%/test_promotion.py \
	%D%/test_failover.py \
	%D%/test_pooler.py \
	%D%/test_run.py \
	%D%/test_database.py \
	%D%/test_chaos.py \
	%D%/test_lines.py \
	%D%/test_publish.py \
	%D%/test_hostile.py \
	%D%/test_watch.py \
	%D%/test_slow.py %D%/test_backpressure.py \
	%D%/test_tls.py \
	%D%/test_proxies.py \
	%D%/test_drp.py \
	%D%/test_drp_events.py \
	%D%/test_rights.py %D%/test_many_rights.py \
	%D%/test_drp_clients.py \
	%D%/test_credentials.py \
	%D%/test_connecting.py \
	%D%/test_drp_api.py \
	%D%/test_auth_url.py \
	%D%/test_events.py \
	%D%/test_groups.py \
	%D%/test_serve.py \
	%D%/test_cli.py \
	%D%/test_cert.py \
	%D%/test_awx_relay.py \
	%D%/test_clients.py \
	%D%/test_browser.py \
	%D%/test_deflate.py %D%/test_sse.py \
	%D%/test_connections.py \
	%D%/test_status.py \
	%D%/test_http.py \
	%D%/test_harness.py
EXTRA_DIST += $(E2E_TESTS) \
	%D%/harness.py %D%/wire.py %D%/replication.py %D%/faults.py %D%/herd.py %D%/libpq.py %D%/loss.py %D%/mesh.py %D%/wall.py %D%/chromium.py %D%/stream.py %D%/drp.py %D%/certificates.py %D%/package.json %D%/package-lock.json \
	%D%/clients/connect.js %D%/clients/count_ws.cjs %D%/clients/deflate.cjs %D%/clients/drp_watch.cjs %D%/clients/drp_watch.py %D%/clients/monitor.js %D%/clients/monitor_class.py \
	%D%/clients/monitor_simple.py %D%/clients/use_ws.cjs
