EXTRA_DIST += %D%/server.sh %D%/filter.sh %D%/version_1.sql %D%/version_2.sql %D%/version_3.sql %D%/sql %D%/expected
