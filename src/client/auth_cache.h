/*
 * What the database has said of users, remembered for the time of the setting authenticate_cache; and whether
 * anything of it has changed since a question was asked, also where nothing is remembered.
 *
 * Keys hold no secrets: who has a token's key does not have the token.
 */
#ifndef PGRELAY_CLIENT_AUTH_CACHE_H
#define PGRELAY_CLIENT_AUTH_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/slice.h"

#define AUTH_CACHE_ENTRIES 20000
#define AUTH_CACHE_BYTES   ((size_t)8 * 1024 * 1024)

/* hears: are changes heard of? NULL: always. While they are not, nothing is found and nothing kept. */
void auth_cache_init(bool (*hears)(void));
void auth_cache_free(void);

/* Grows with each change that is heard of. */
uint64_t auth_cache_version(void);
/* Has the user's access changed since that version, as far as is known? When in doubt it has. */
bool auth_cache_has_changed(int64_t user_id, uint64_t since);
/* It has changed: what is kept of this user goes. */
void auth_cache_forget_user(int64_t user_id);
/* It may have changed for anybody: all of it goes. */
void auth_cache_forget_all(void);

/* NULL: not known, or not any more. Valid until the next call. */
const struct slice *auth_cache_find(struct slice key, int64_t now_ms);
/*
 * Keeps an answer about the user (copied), for life_ms at most; -1: as long as any. asked is the version when
 * the question went out: an answer that a change has overtaken is not kept. What was used least recently
 * makes room.
 */
void auth_cache_keep(
    struct slice key, int64_t user_id, struct slice answer, int64_t life_ms, uint64_t asked, int64_t now_ms);

#endif
