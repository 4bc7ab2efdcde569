# make soak SECONDS=3600 SEED=1: faults at random under load, for as long as told; HACKING tells how to read it.
EXTRA_DIST += %D%/soak.py

.PHONY: soak
soak: $(bin_PROGRAMS)
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/soak.py '$(SECONDS)' '$(SEED)' '$(ACT)'
