# make bench: what pgrelay costs and how fast it is; docs/benchmarks.md tells how to read it.
# make bench BENCH_FLAGS='--repeats 7 latency': a part of it, longer
bench_programs = %D%/bench_client %D%/bench_publish %D%/bench_bare %D%/bench_read %D%/bench_post
bench_slow_flush = %D%/slow_flush.so
EXTRA_PROGRAMS = $(bench_programs)
CLEANFILES += $(bench_programs) $(bench_slow_flush) bench.json
EXTRA_DIST += %D%/run.py %D%/triggers.sh %D%/announce.sh %D%/slow_flush.c
dist_doc_DATA += docs/benchmarks.md

bench_common_sources = \
	%D%/bench_common.c %D%/bench_common.h \
	%D%/bench_event.c %D%/bench_event.h \
	%D%/bench_histogram.c %D%/bench_histogram.h
%C%_bench_client_SOURCES = %D%/bench_client.c $(bench_common_sources)
%C%_bench_publish_SOURCES = %D%/bench_publish.c $(bench_common_sources)
%C%_bench_publish_LDADD = $(LIBPQ_LIBS)
%C%_bench_bare_SOURCES = %D%/bench_bare.c %D%/bench_common.c %D%/bench_common.h
%C%_bench_bare_LDADD = $(LIBPQ_LIBS)
%C%_bench_read_SOURCES = %D%/bench_read.c %D%/bench_common.c %D%/bench_common.h
%C%_bench_read_LDADD = $(LIBPQ_LIBS)
%C%_bench_post_SOURCES = %D%/bench_post.c $(bench_common_sources)

# Loaded into the server, which is built without sanitizers.
$(bench_slow_flush): $(srcdir)/%D%/slow_flush.c
	$(AM_V_CC)$(MKDIR_P) %D% && $(CC) -O2 -fPIC -shared -o $@ $(srcdir)/%D%/slow_flush.c -ldl

.PHONY: bench
bench: $(bin_PROGRAMS) $(bench_programs) $(bench_slow_flush)
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/run.py $(BENCH_FLAGS)
