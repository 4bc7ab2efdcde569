# The daemon is a library plus a thin main.c, so that unit tests link it.
noinst_LIBRARIES += libpgrelay.a
libpgrelay_a_SOURCES = \
	%D%/core/mem.c %D%/core/mem.h \
	%D%/core/slab.c %D%/core/slab.h \
	%D%/core/hash.h \
	%D%/core/slice.c %D%/core/slice.h \
	%D%/core/json_scan.c %D%/core/json_scan.h \
	%D%/core/json_members.c %D%/core/json_members.h \
	%D%/core/log.c %D%/core/log.h \
	%D%/core/conf.c %D%/core/conf.h \
	%D%/core/loop.c %D%/core/loop.h \
	%D%/core/metrics.c %D%/core/metrics.h \
	%D%/core/netset.c %D%/core/netset.h \
	%D%/core/resolve.c %D%/core/resolve.h \
	%D%/core/transport.c %D%/core/transport.h \
	%D%/core/wheel.c %D%/core/wheel.h \
	%D%/core/rfc3339.c %D%/core/rfc3339.h \
	%D%/core/decimal.c %D%/core/decimal.h \
	%D%/pg/pg_hosts.c %D%/pg/pg_hosts.h \
	%D%/pg/pg_session.c %D%/pg/pg_session.h \
	%D%/pg/pg_query.c %D%/pg/pg_query.h \
	%D%/pg/pg_listen.c %D%/pg/pg_listen.h \
	%D%/pg/pg_sync.c %D%/pg/pg_sync.h \
	%D%/relay/event.c %D%/relay/event.h \
	%D%/relay/hub.c %D%/relay/hub.h \
	%D%/relay/dispatch.c %D%/relay/dispatch.h \
	%D%/relay/snapshot.c %D%/relay/snapshot.h \
	%D%/relay/idset.c %D%/relay/idset.h \
	%D%/relay/position.c %D%/relay/position.h \
	%D%/relay/recent.c %D%/relay/recent.h \
	%D%/relay/history.c %D%/relay/history.h \
	%D%/relay/log_reader.c %D%/relay/log_reader.h \
	%D%/relay/stream.c %D%/relay/stream.h \
	%D%/relay/resume.c %D%/relay/resume.h \
	%D%/relay/rotation.c %D%/relay/rotation.h \
	%D%/relay/health.c %D%/relay/health.h \
	%D%/relay/schema_check.c %D%/relay/schema_check.h \
	%D%/relay/relay.c %D%/relay/relay.h \
	%D%/relay/msg.c %D%/relay/msg.h \
	%D%/relay/sendq.c %D%/relay/sendq.h \
	%D%/relay/ticket.c %D%/relay/ticket.h \
	%D%/relay/publish_body.c %D%/relay/publish_body.h \
	%D%/relay/publisher.c %D%/relay/publisher.h \
	%D%/http/ws.c %D%/http/ws.h \
	%D%/http/ws_client.c %D%/http/ws_client.h \
	%D%/http/http_server.c %D%/http/http_server.h \
	%D%/http/http_upgrade.c %D%/http/http_upgrade.h \
	%D%/http/http_request.c %D%/http/http_request.h \
	%D%/http/http_login.c %D%/http/http_login.h \
	%D%/http/http_sse.c %D%/http/http_sse.h \
	%D%/http/http_peer.c %D%/http/http_peer.h \
	%D%/http/http_cluster.c %D%/http/http_cluster.h \
	%D%/http/http_greeting.c %D%/http/http_greeting.h \
	%D%/http/http_proxy.c %D%/http/http_proxy.h \
	%D%/http/http_forwarded.c %D%/http/http_forwarded.h \
	%D%/http/http_remote.c %D%/http/http_remote.h \
	%D%/http/http_password.c %D%/http/http_password.h \
	%D%/http/login_limit.c %D%/http/login_limit.h \
	%D%/http/http_body.c %D%/http/http_body.h \
	%D%/http/http_client.c %D%/http/http_client.h \
	%D%/http/deflate.c %D%/http/deflate.h \
	%D%/http/tls.c %D%/http/tls.h \
	%D%/http/tls_server.c %D%/http/tls_server.h \
	%D%/http/http_publish.c %D%/http/http_publish.h \
	%D%/http/http_drp.c %D%/http/http_drp.h \
	%D%/http/http_drp_reply.c %D%/http/http_drp_reply.h \
	%D%/http/http_drp_info.c %D%/http/http_drp_info.h \
	%D%/http/http_drp_token.c %D%/http/http_drp_token.h \
	%D%/http/http_drp_event.c %D%/http/http_drp_event.h \
	%D%/http/http_drp_connections.c %D%/http/http_drp_connections.h \
	%D%/client/drp_post.c %D%/client/drp_post.h \
	%D%/client/auth_token.c \
	%D%/client/session.c %D%/client/session.h \
	%D%/client/session_delivery.c %D%/client/session_private.h \
	%D%/client/session_rights.c %D%/client/session_slow.c \
	%D%/client/connection.c %D%/client/connection.h \
	%D%/client/connection_query.c %D%/client/connection_query.h \
	%D%/client/connections.c %D%/client/connections.h \
	%D%/client/connection_events.c %D%/client/connection_events.h \
	%D%/client/auth.c %D%/client/auth.h \
	%D%/client/auth_rights.c %D%/client/auth_private.h \
	%D%/client/auth_queue.c %D%/client/auth_queue.h \
	%D%/client/auth_cache.c %D%/client/auth_cache.h \
	%D%/client/auth_subrequest.c %D%/client/auth_subrequest.h \
	%D%/client/credential.c %D%/client/credential.h \
	%D%/client/groups.c %D%/client/groups.h \
	%D%/client/dialect_sse.c %D%/client/dialect_sse.h \
	%D%/client/sse_request.c %D%/client/sse_request.h \
	%D%/client/dialect_drp.c %D%/client/dialect_drp.h \
	%D%/client/drp_command.c %D%/client/drp_command.h \
	%D%/client/drp_registrations.c %D%/client/drp_registrations.h \
	%D%/client/drp_rights.c %D%/client/drp_rights.h \
	%D%/client/drp_event.c %D%/client/drp_event.h \
	%D%/client/dialect_awx.c %D%/client/dialect_awx.h \
	%D%/client/dialect_wsrelay.c %D%/client/dialect_wsrelay.h \
	%D%/client/dialect_wsbroadcast.c %D%/client/dialect_wsbroadcast.h \
	%D%/client/relay_message.c %D%/client/relay_message.h \
	%D%/client/relay_dedup.c %D%/client/relay_dedup.h \
	%D%/client/awx_group.c %D%/client/awx_group.h \
	%D%/client/awx_request.c %D%/client/awx_request.h \
	%D%/cluster/announcer.c %D%/cluster/announcer.h \
	%D%/cluster/heartbeat.c %D%/cluster/heartbeat.h \
	%D%/cluster/secret.c %D%/cluster/secret.h \
	%D%/cluster/node.c %D%/cluster/node.h \
	%D%/cluster/link.c %D%/cluster/link.h \
	%D%/cluster/mesh.c %D%/cluster/mesh.h \
	%D%/cluster/payload.c %D%/cluster/payload.h \
	%D%/cluster/question.c %D%/cluster/question.h \
	%D%/cluster/connection_list.c %D%/cluster/connection_list.h \
	%D%/cluster/status.c %D%/cluster/status.h \
	%D%/cli/run_lines.c %D%/cli/run_lines.h \
	%D%/cli/watch_cursor.c %D%/cli/watch_cursor.h \
	%D%/cli/watch_jobs.c %D%/cli/watch_jobs.h

bin_PROGRAMS += pgrelay
pgrelay_SOURCES = %D%/main.c \
	%D%/cli/cli.c %D%/cli/cli.h \
	%D%/cli/cli_args.c %D%/cli/cli_args.h \
	%D%/cli/cli_db.c %D%/cli/cli_db.h \
	%D%/cli/cli_table.c %D%/cli/cli_table.h \
	%D%/cli/cli_serve.c \
	%D%/cli/cli_schema.c \
	%D%/cli/cli_check.c %D%/cli/check.h \
	%D%/cli/check_tls.c \
	%D%/cli/check_cluster.c \
	%D%/cli/cli_token.c \
	%D%/cli/cli_password.c \
	%D%/cli/cli_grant.c \
	%D%/cli/cli_cert.c \
	%D%/cli/cli_emit.c \
	%D%/cli/cli_node.c %D%/cli/cli_node.h \
	%D%/cli/cli_run.c \
	%D%/cli/run_child.c %D%/cli/run_child.h \
	%D%/cli/run_job.c %D%/cli/run_job.h \
	%D%/cli/run_signals.c %D%/cli/run_signals.h \
	%D%/cli/cli_watch.c \
	%D%/cli/watch_link.c %D%/cli/watch_link.h \
	%D%/cli/watch_message.c %D%/cli/watch_message.h \
	%D%/cli/watch_view.c %D%/cli/watch_view.h \
	%D%/cli/cli_status.c \
	%D%/cli/cli_config.c
nodist_pgrelay_SOURCES = %D%/cli/schema_sql.c
EXTRA_pgrelay_SOURCES = %D%/cli/schema_sql.h
PGRELAY_LIBS = libpgrelay.a $(LIBPQ_LIBS) $(LIBEVENT_OPENSSL_LIBS) $(LIBEVENT_LIBS) $(WSLAY_LIBS) $(ZLIB_LIBS) $(JANSSON_LIBS) $(OPENSSL_LIBS)
pgrelay_LDADD = $(PGRELAY_LIBS)

# The schema goes into the program, so that the two are always of one version.
BUILT_SOURCES += %D%/cli/schema_sql.c
CLEANFILES += %D%/cli/schema_sql.c
EXTRA_DIST += %D%/cli/embed_sql.awk
%D%/cli/schema_sql.c: $(SQL_PARTS) %D%/cli/embed_sql.awk
	$(AM_V_GEN)$(MKDIR_P) %D%/cli && \
	for f in $(SQL_PARTS); do cat $(top_srcdir)/$$f; done | \
	$(AWK) -f $(top_srcdir)/%D%/cli/embed_sql.awk > $@.tmp && mv $@.tmp $@
