/* The node as a whole: makes its parts, joins them, and takes them apart again when a signal ends it. */
#ifndef PGRELAY_RELAY_RELAY_H
#define PGRELAY_RELAY_RELAY_H

/*
 * Serves until SIGTERM or SIGINT; re-reads the settings on SIGHUP. Returns the exit status: 0 after a
 * graceful end, 1 when it could not start; the reason is logged. schema_version is what the schema must at
 * least be.
 */
int relay_run(int schema_version);

#endif
