dist_man_MANS = %D%/pgrelay.8 %D%/pgrelay.conf.5
dist_doc_DATA += \
	SECURITY.md \
	%D%/cluster.md \
	%D%/commands.md \
	%D%/design.md \
	%D%/drp.md \
	%D%/operations.md \
	%D%/protocol.md \
	%D%/schema.md
