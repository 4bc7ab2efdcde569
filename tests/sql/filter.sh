#!/bin/sh
# Runs a command and masks what differs from run to run in its output: process
# ids, ids and times of records, snapshots, times of this century's later part, UUIDs.
"$@" 2>&1 | sed -E \
	-e 's/ received from server process with PID [0-9]+\.$/ received./' \
	-e 's/(^|payload ")([etu]) [0-9]+ [0-9]{16} /\1\2 ID TIME /' \
	-e 's/(^|payload ")d [0-9]+:[0-9]+:[0-9,]* [0-9]+:[0-9]+:[0-9,]*/\1d SNAPSHOT SNAPSHOT/' \
	-e 's/(^|payload ")x [0-9]+/\1x XID/' \
	-e 's/20[2-9][0-9]-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z/NOW/g' \
	-e 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g'
