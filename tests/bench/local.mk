# make bench: what pgrelay costs and how fast it is; docs/benchmarks.md tells how to read it.
# make bench BENCH_FLAGS='--repeats 7 latency': a part of it, longer
# make bench-peers: what npm has of that which pgrelay is measured beside
# make bench-all: what the document shows
bench_programs = %D%/bench_client %D%/bench_publish %D%/bench_bare %D%/bench_read %D%/bench_post \
	%D%/bench_sessions %D%/bench_listen
bench_slow_flush = %D%/slow_flush.so
check_PROGRAMS += $(bench_programs)
check_DATA = $(bench_slow_flush)
BENCH_TESTS = %D%/test_bench.py
TESTS += $(BENCH_TESTS)
CLEANFILES += $(bench_slow_flush) bench.json bench.svg
EXTRA_DIST += %D%/run.py %D%/table.py %D%/measure.py %D%/many_sessions.py %D%/timing.py %D%/fan_out.py %D%/connecting.py %D%/intake.py \
	%D%/writing.py %D%/catching_up.py %D%/many_nodes.py %D%/overload.py \
	%D%/peers.py %D%/chart.py %D%/triggers.sh %D%/announce.sh %D%/listener.sh %D%/slow_flush.c $(BENCH_TESTS) \
	%D%/peers/package.json %D%/peers/package-lock.json %D%/peers/nginx.conf %D%/peers/ws_server.cjs \
	%D%/peers/socket_io_server.cjs
dist_doc_DATA += docs/benchmarks.md

bench_basic_sources = %D%/bench_common.c %D%/bench_common.h %D%/bench_options.c %D%/bench_options.h
bench_db_sources = $(bench_basic_sources) %D%/bench_db.c %D%/bench_db.h
bench_event_sources = \
	%D%/bench_event.c %D%/bench_event.h \
	%D%/bench_histogram.c %D%/bench_histogram.h
bench_common_sources = $(bench_basic_sources) $(bench_event_sources)
bench_ws_sources = %D%/bench_ws.c %D%/bench_ws.h %D%/bench_io.c %D%/bench_io.h
%C%_bench_client_SOURCES = %D%/bench_client.c $(bench_ws_sources) $(bench_common_sources)
%C%_bench_client_LDADD = $(OPENSSL_LIBS)
%C%_bench_sessions_SOURCES = %D%/bench_sessions.c $(bench_ws_sources) $(bench_common_sources)
%C%_bench_sessions_LDADD = $(OPENSSL_LIBS)
%C%_bench_publish_SOURCES = %D%/bench_publish.c $(bench_event_sources) $(bench_db_sources)
%C%_bench_publish_LDADD = $(LIBPQ_LIBS)
%C%_bench_bare_SOURCES = %D%/bench_bare.c $(bench_ws_sources) $(bench_db_sources)
%C%_bench_bare_LDADD = $(LIBPQ_LIBS) $(OPENSSL_LIBS)
%C%_bench_listen_SOURCES = %D%/bench_listen.c $(bench_db_sources)
%C%_bench_listen_LDADD = $(LIBPQ_LIBS)
%C%_bench_read_SOURCES = %D%/bench_read.c $(bench_db_sources)
%C%_bench_read_LDADD = $(LIBPQ_LIBS)
%C%_bench_post_SOURCES = %D%/bench_post.c $(bench_common_sources)

# Loaded into the server, which is built without sanitizers.
$(bench_slow_flush): $(srcdir)/%D%/slow_flush.c
	$(AM_V_CC)$(MKDIR_P) %D% && $(CC) -O2 -fPIC -shared -o $@ $(srcdir)/%D%/slow_flush.c -ldl

.PHONY: bench bench-all bench-peers
bench-peers:
	$(MKDIR_P) %D%/peers
	cp $(srcdir)/%D%/peers/package.json $(srcdir)/%D%/peers/package-lock.json %D%/peers/
	cd %D%/peers && npm ci --no-audit --no-fund
bench: $(bin_PROGRAMS) $(bench_programs) $(bench_slow_flush)
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/run.py $(BENCH_FLAGS)
bench-all:
	$(MAKE) bench BENCH_FLAGS='--repeats 3 --wait 30 $(BENCH_FLAGS)'
