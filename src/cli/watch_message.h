/* What a message from a node is, for pgrelay watch (docs/protocol.md, sections 4.3 to 4.5; docs/schema.md,
 * "Jobs"). */
#ifndef PGRELAY_CLI_WATCH_MESSAGE_H
#define PGRELAY_CLI_WATCH_MESSAGE_H

#include <stdint.h>

typedef struct json_t json_t; /* jansson's */

enum watch_kind {
	WATCH_ACCEPT,  /* welcome */
	WATCH_REFUSAL, /* the AWX way */
	WATCH_JOINED,  /* the reply to our groups */
	WATCH_ERROR,
	WATCH_CURSOR,
	WATCH_GAP,
	WATCH_LINE,    /* an event of a job's output */
	WATCH_STATUS,  /* of a job */
	WATCH_SUMMARY, /* of a job */
	WATCH_OTHER
};

/* job is the one that a line, a status or a summary is about; else 0. */
enum watch_kind watch_message_kind(const json_t *message, int64_t *job);

/* A field: "" or 0 where there is none of that type. */
const char *watch_message_text(const json_t *message, const char *field);
int64_t watch_message_number(const json_t *message, const char *field);

/* What the reason of a gap means, for people; NULL for one that is not known. */
const char *watch_message_gap_meaning(const char *reason);

#endif
