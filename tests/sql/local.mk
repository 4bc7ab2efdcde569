EXTRA_DIST += %D%/server.sh %D%/filter.sh %D%/sql %D%/expected
