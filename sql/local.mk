# The parts of the schema, in the order in which they are run.
SQL_PARTS = \
	%D%/00_schema.sql \
	%D%/10_settings.sql \
	%D%/20_log.sql \
	%D%/30_emit.sql \
	%D%/35_read.sql \
	%D%/36_announce.sql \
	%D%/40_watch.sql \
	%D%/50_jobs.sql \
	%D%/60_access.sql \
	%D%/62_password.sql \
	%D%/65_publish.sql \
	%D%/67_connections.sql \
	%D%/70_health.sql \
	%D%/90_roles.sql

sqldir = $(pkgdatadir)/sql
dist_sql_DATA = $(SQL_PARTS)
