# Samples, and the scripts of those who build from source.
examplesdir = $(docdir)/examples
dist_examples_DATA = %D%/pgrelay.conf.sample %D%/nginx/pgrelay.conf

systemdunitdir = $(prefix)/lib/systemd/system
nodist_systemdunit_DATA = %D%/systemd/pgrelay.service
EXTRA_DIST += %D%/systemd/pgrelay.service.in
CLEANFILES += %D%/systemd/pgrelay.service
%D%/systemd/pgrelay.service: %D%/systemd/pgrelay.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	$(SED) -e 's|@bindir[@]|$(bindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
	    $(srcdir)/%D%/systemd/pgrelay.service.in > $@.tmp && mv $@.tmp $@

dist_noinst_SCRIPTS += %D%/quickstart.sh %D%/check.sh %D%/demo-job.sh
EXTRA_DIST += %D%/packages.sh .ci/run

# The sample is the option table, printed; a test compares them.
.PHONY: samples
samples: pgrelay
	./pgrelay config --list > $(srcdir)/%D%/pgrelay.conf.sample

# contrib/check.sh runs these; they take minutes, and want shellcheck and mandoc.
SCRIPT_TESTS = \
	tests/quickstart/test_scripts.py \
	tests/quickstart/test_documents.py \
	tests/quickstart/test_readme.py \
	tests/quickstart/test_nginx.py \
	tests/quickstart/test_quickstart.py
EXTRA_DIST += $(SCRIPT_TESTS) tests/quickstart/tree.py
.PHONY: check-scripts
check-scripts:
	$(MAKE) check TESTS='$(SCRIPT_TESTS)'
