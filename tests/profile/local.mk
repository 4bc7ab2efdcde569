# make profile: what a record and a delivery cost, in instructions, and where they go; docs/benchmarks.md tells more.
# make profile PROFILE_FLAGS='tls_100': one scenario
# make profile-figures: writes figures anew, which test_hot_path.py compares with
check_PROGRAMS += %D%/hot_path
PROFILE_TESTS = %D%/test_hot_path.py
TESTS += $(PROFILE_TESTS)
EXTRA_DIST += $(PROFILE_TESTS) %D%/hot_path.py %D%/figures

%C%_hot_path_SOURCES = %D%/hot_path.c
%C%_hot_path_CPPFLAGS = $(AM_CPPFLAGS) -DPROFILE_CFLAGS='"$(CPPFLAGS) $(CFLAGS) $(SAN_CFLAGS)"'
%C%_hot_path_LDADD = $(PGRELAY_LIBS)

.PHONY: profile profile-figures
profile: %D%/hot_path
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/hot_path.py $(PROFILE_FLAGS)
profile-figures: %D%/hot_path
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(top_srcdir)/%D%/hot_path.py --figures
