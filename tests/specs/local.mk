EXTRA_DIST += %D%/specs %D%/expected
