# make bench: what pgrelay costs and how fast it is; docs/benchmarks.md tells how to read it.
# make bench BENCH_FLAGS='--repeats 7 latency': a part of it, longer
bench_programs = %D%/bench_client %D%/bench_publish %D%/bench_bare
EXTRA_PROGRAMS = $(bench_programs)
CLEANFILES += $(bench_programs) bench.json
EXTRA_DIST += %D%/run.py %D%/triggers.sh
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

.PHONY: bench
bench: $(bin_PROGRAMS) $(bench_programs)
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/run.py $(BENCH_FLAGS)
