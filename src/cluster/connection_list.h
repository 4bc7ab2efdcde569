/*
 * The connections of all nodes (docs/drp.md, section 7): each tells of its own, in the order asked for, and they
 * are put together here. Closing one goes to the node that it is at.
 */
#ifndef PGRELAY_CLUSTER_CONNECTION_LIST_H
#define PGRELAY_CLUSTER_CONNECTION_LIST_H

#include <stddef.h>
#include <stdint.h>

struct connection;
struct connection_list;
struct connection_query;
struct connection_closing;

/* After question_init(). */
void connection_list_init(void);

/* list has what is behind the query's offset, as many as its limit says; valid during the call. */
typedef void (*connection_list_done)(void *arg, struct connection *const *list, size_t count);
/*
 * Asks all nodes; done is called once, never from inside, a second later at the latest. query stays the caller's,
 * and must stay until then. NULL: it is too long to be asked, for it names too many principals.
 */
struct connection_list *connection_list_collect(
    struct connection_query *query, connection_list_done done, void *arg);
void connection_list_cancel(struct connection_list *l);

enum connection_verdict { CONNECTION_CLOSED, CONNECTION_GONE, CONNECTION_UNREACHED };
typedef void (*connection_closing_done)(void *arg, enum connection_verdict verdict);
/* Closes this one of a list. done is called once, never from inside, a second later at the latest. */
struct connection_closing *connection_close(
    const struct connection *c, connection_closing_done done, void *arg);
/* done will not be called; it may be closed all the same. */
void connection_closing_cancel(struct connection_closing *c);

#endif
