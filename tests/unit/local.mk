# One C program a module, linked with the daemon's library. One test: make check TESTS=tests/unit/test_event
UNIT_TESTS = \
	%D%/test_event \
	%D%/test_recent \
	%D%/test_hub \
	%D%/test_dispatch \
	%D%/test_idset \
	%D%/test_snapshot \
	%D%/test_position \
	%D%/test_cursor \
	%D%/test_history \
	%D%/test_msg \
	%D%/test_sendq \
	%D%/test_ws \
	%D%/test_conf \
	%D%/test_connections \
	%D%/test_credential \
	%D%/test_awx \
	%D%/test_sse_request \
	%D%/test_http_request \
	%D%/test_http_client \
	%D%/test_publish_body \
	%D%/test_json_scan \
	%D%/test_drp_post \
	%D%/test_rfc3339 \
	%D%/test_transport \
	%D%/test_decimal \
	%D%/test_deflate \
	%D%/test_drp %D%/test_login_limit \
	%D%/test_run_lines \
	%D%/test_secret \
	%D%/test_relay_message \
	%D%/test_relay_dedup \
	%D%/test_auth_cache \
	%D%/test_watch_cursor \
	%D%/test_watch_jobs \
	%D%/test_loop \
	%D%/test_slab \
	%D%/test_wheel \
	%D%/test_netset \
	%D%/test_http_proxy \
	%D%/test_http_forwarded \
	%D%/test_pg_hosts
check_PROGRAMS += $(UNIT_TESTS)

%C%_test_recent_SOURCES = %D%/test_recent.c %D%/tap.h
%C%_test_recent_LDADD = $(PGRELAY_LIBS)
%C%_test_event_SOURCES = %D%/test_event.c %D%/tap.h
%C%_test_event_LDADD = $(PGRELAY_LIBS)
%C%_test_dispatch_SOURCES = %D%/test_dispatch.c %D%/tap.h
%C%_test_dispatch_LDADD = $(PGRELAY_LIBS)
%C%_test_hub_SOURCES = %D%/test_hub.c %D%/tap.h
%C%_test_hub_LDADD = $(PGRELAY_LIBS)
%C%_test_idset_SOURCES = %D%/test_idset.c %D%/tap.h
%C%_test_idset_LDADD = $(PGRELAY_LIBS)
%C%_test_snapshot_SOURCES = %D%/test_snapshot.c %D%/tap.h
%C%_test_snapshot_LDADD = $(PGRELAY_LIBS)
%C%_test_position_SOURCES = %D%/test_position.c %D%/stream_model.h %D%/tap.h
%C%_test_position_LDADD = $(PGRELAY_LIBS)
%C%_test_cursor_SOURCES = %D%/test_cursor.c %D%/stream_model.h %D%/tap.h
%C%_test_cursor_LDADD = $(PGRELAY_LIBS)
%C%_test_history_SOURCES = %D%/test_history.c %D%/stream_model.h %D%/tap.h
%C%_test_history_LDADD = $(PGRELAY_LIBS)
%C%_test_msg_SOURCES = %D%/test_msg.c %D%/tap.h
%C%_test_msg_LDADD = $(PGRELAY_LIBS)
%C%_test_sendq_SOURCES = %D%/test_sendq.c %D%/tap.h
%C%_test_sendq_LDADD = $(PGRELAY_LIBS)
%C%_test_ws_SOURCES = %D%/test_ws.c %D%/tap.h
%C%_test_ws_LDADD = $(PGRELAY_LIBS)
%C%_test_conf_SOURCES = %D%/test_conf.c %D%/tap.h
%C%_test_conf_LDADD = $(PGRELAY_LIBS)
%C%_test_connections_SOURCES = %D%/test_connections.c %D%/tap.h
%C%_test_connections_LDADD = $(PGRELAY_LIBS)
%C%_test_credential_SOURCES = %D%/test_credential.c %D%/tap.h
%C%_test_credential_LDADD = $(PGRELAY_LIBS)
%C%_test_awx_SOURCES = %D%/test_awx.c %D%/tap.h
%C%_test_awx_LDADD = $(PGRELAY_LIBS)
%C%_test_sse_request_SOURCES = %D%/test_sse_request.c %D%/tap.h
%C%_test_sse_request_LDADD = $(PGRELAY_LIBS)
%C%_test_http_request_SOURCES = %D%/test_http_request.c %D%/tap.h
%C%_test_http_request_LDADD = $(PGRELAY_LIBS)
%C%_test_http_client_SOURCES = %D%/test_http_client.c %D%/tap.h
%C%_test_http_client_LDADD = $(PGRELAY_LIBS)
%C%_test_publish_body_SOURCES = %D%/test_publish_body.c %D%/tap.h
%C%_test_publish_body_LDADD = $(PGRELAY_LIBS)
%C%_test_deflate_SOURCES = %D%/test_deflate.c %D%/tap.h
%C%_test_deflate_LDADD = $(PGRELAY_LIBS)
%C%_test_login_limit_SOURCES = %D%/test_login_limit.c %D%/tap.h
%C%_test_login_limit_LDADD = $(PGRELAY_LIBS)
%C%_test_drp_SOURCES = %D%/test_drp.c %D%/tap.h
%C%_test_drp_LDADD = $(PGRELAY_LIBS)
%C%_test_rfc3339_SOURCES = %D%/test_rfc3339.c %D%/tap.h
%C%_test_rfc3339_LDADD = $(PGRELAY_LIBS)
%C%_test_transport_SOURCES = %D%/test_transport.c %D%/tap.h
%C%_test_transport_LDADD = $(PGRELAY_LIBS)
%C%_test_decimal_SOURCES = %D%/test_decimal.c %D%/tap.h
%C%_test_decimal_LDADD = $(PGRELAY_LIBS)
%C%_test_drp_post_SOURCES = %D%/test_drp_post.c %D%/tap.h
%C%_test_drp_post_LDADD = $(PGRELAY_LIBS)
%C%_test_json_scan_SOURCES = %D%/test_json_scan.c %D%/tap.h
%C%_test_json_scan_LDADD = $(PGRELAY_LIBS)
%C%_test_run_lines_SOURCES = %D%/test_run_lines.c %D%/tap.h
%C%_test_run_lines_LDADD = $(PGRELAY_LIBS)
%C%_test_secret_SOURCES = %D%/test_secret.c %D%/tap.h
%C%_test_secret_LDADD = $(PGRELAY_LIBS)
%C%_test_relay_message_SOURCES = %D%/test_relay_message.c %D%/tap.h
%C%_test_relay_message_LDADD = $(PGRELAY_LIBS)
%C%_test_auth_cache_SOURCES = %D%/test_auth_cache.c %D%/tap.h
%C%_test_auth_cache_LDADD = $(PGRELAY_LIBS)
%C%_test_relay_dedup_SOURCES = %D%/test_relay_dedup.c %D%/tap.h
%C%_test_relay_dedup_LDADD = $(PGRELAY_LIBS)
%C%_test_watch_cursor_SOURCES = %D%/test_watch_cursor.c %D%/tap.h
%C%_test_watch_cursor_LDADD = $(PGRELAY_LIBS)
%C%_test_watch_jobs_SOURCES = %D%/test_watch_jobs.c %D%/tap.h
%C%_test_watch_jobs_LDADD = $(PGRELAY_LIBS)
%C%_test_loop_SOURCES = %D%/test_loop.c %D%/tap.h
%C%_test_loop_LDADD = $(PGRELAY_LIBS)
%C%_test_wheel_SOURCES = %D%/test_wheel.c %D%/tap.h
%C%_test_wheel_LDADD = $(PGRELAY_LIBS)
%C%_test_slab_SOURCES = %D%/test_slab.c %D%/tap.h
%C%_test_slab_LDADD = $(PGRELAY_LIBS)
%C%_test_pg_hosts_SOURCES = %D%/test_pg_hosts.c %D%/tap.h
%C%_test_pg_hosts_LDADD = $(PGRELAY_LIBS)
%C%_test_netset_SOURCES = %D%/test_netset.c %D%/tap.h
%C%_test_netset_LDADD = $(PGRELAY_LIBS)
%C%_test_http_proxy_SOURCES = %D%/test_http_proxy.c %D%/tap.h
%C%_test_http_proxy_LDADD = $(PGRELAY_LIBS)
%C%_test_http_forwarded_SOURCES = %D%/test_http_forwarded.c %D%/tap.h
%C%_test_http_forwarded_LDADD = $(PGRELAY_LIBS)
