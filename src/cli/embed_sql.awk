# Turns the parts of the schema, one after the other on standard input, into a C file: an array of lines, since C99 promises no
# more than 4,095 characters in one string literal.
BEGIN {
	print "/* Generated from sql/ by embed_sql.awk. */"
	print "#include \"config.h\""
	print "#include \"cli/schema_sql.h\""
	print ""
	print "#include <stddef.h>"
	print ""
	print "const char *const schema_sql[] = {"
}

/this_version CONSTANT integer := [0-9]+;/ {
	version = $0
	sub(/.*:= */, "", version)
	sub(/;.*/, "", version)
}

{
	gsub(/\\/, "&&")
	gsub(/"/, "\\\"")
	gsub(/\t/, "\\t")
	print "    \"" $0 "\\n\","
}

END {
	if (version == "") {
		print "embed_sql.awk: no part says \"this_version CONSTANT integer := N;\"" > "/dev/stderr"
		exit 1
	}
	print "    NULL};"
	print "const int schema_sql_version = " version ";"
}
