/* ratelimit.h - counters of the rate limiting binding: how often a key was let through in the present 10 or 60 seconds
 *
 * Windows are aligned to the wall clock. Counters are in memory: a restart opens every window anew, and the longest has a minute.
 * Threads: the loop's; nothing here blocks. */
#ifndef SV_ACCOUNT_RATELIMIT_H
#define SV_ACCOUNT_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "http/server.h"

typedef struct sv_ratelimit sv_ratelimit;

/* max_keys: of one account in one window, roughly. Keys over it are let through uncounted. */
sv_ratelimit *sv_ratelimit_new(size_t max_keys);
sv_ratelimit *sv_ratelimit_free(sv_ratelimit *r);

/* Whether `key` of the account's namespace may pass now, and counts `weight` if so. The count is looked at before the weight is added, as the
 * hosted service does. period_s: 10 or 60. */
bool sv_ratelimit_pass(sv_ratelimit *r, sv_str account, sv_str ns, sv_str key, int64_t limit, int64_t weight, int period_s, int64_t now_ms);
size_t sv_ratelimit_keys(const sv_ratelimit *r, sv_str account); /* counted now */

/* POST /rl/limit on the binding server: {"key", "limit", "period", "delta"} gives {"success"}; the namespace is in "x-sv-binding: rl:NS". */
void sv_ratelimit_binding_routes(sv_http *s, sv_ratelimit *r);

#endif
