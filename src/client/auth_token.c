/* Asking the database for a new token. */
#include "config.h"
#include "client/auth.h"
#include "client/auth_private.h"
#include "core/conf.h"
#include "core/mem.h"

#include <inttypes.h>
#include <stdlib.h>

/* Sent once: a token that nobody gets would lie about until it expires. */
struct pg_query *
auth_issue_token(int64_t user_id, int64_t ttl_s, int64_t parent_id, pg_query_done done, void *arg)
{
	char *user = mem_printf("%" PRId64, user_id), *ttl = mem_printf("%" PRId64, ttl_s),
	     *parent = parent_id != 0 ? mem_printf("%" PRId64, parent_id) : NULL;
	const char *params[] = {user, ttl, parent};
	struct pg_query *query = pg_query_send(auth_pool(),
	    "SELECT token_id, token FROM pgrelay.token_issue($1::bigint, $2::bigint * interval '1 second', "
	    "$3::bigint)",
	    3, params, (long)conf.query_timeout_ms, done, arg);

	free(user);
	free(ttl);
	free(parent);
	return query;
}
