# All tests print TAP. One test: make check TESTS=tests/unit/test_event
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
PY_LOG_DRIVER = $(LOG_DRIVER)
SH_LOG_DRIVER = $(LOG_DRIVER)
TEST_EXTENSIONS = .py .sh
PY_LOG_COMPILER = $(PYTHON)
SH_LOG_COMPILER = $(SHELL)
AM_TESTS_ENVIRONMENT = top_srcdir='$(abs_top_srcdir)'; top_builddir='$(abs_top_builddir)'; \
	PGRELAY='$(abs_top_builddir)/pgrelay'; PG_CONFIG='$(PG_CONFIG)'; \
	export top_srcdir top_builddir PGRELAY PG_CONFIG;

include tests/unit/local.mk
include tests/e2e/local.mk
include tests/bench/local.mk
include tests/profile/local.mk
include tests/soak/local.mk
include tests/sql/local.mk
include tests/specs/local.mk

SQL_TESTS = %D%/sql/run.sh %D%/specs/run.sh
TESTS += $(UNIT_TESTS) $(SQL_TESTS) $(E2E_TESTS)
dist_noinst_SCRIPTS += $(SQL_TESTS)

# make check-unit, check-sql, check-e2e: a part of make check.
.PHONY: check-unit check-sql check-e2e
check-unit:
	$(MAKE) check TESTS='$(UNIT_TESTS)'
check-sql:
	$(MAKE) check TESTS='$(SQL_TESTS)'
check-e2e:
	$(MAKE) check TESTS='$(E2E_TESTS)'
