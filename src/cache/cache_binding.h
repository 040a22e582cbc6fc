/* cache_binding.h - what workerd's cacheApiOutbound sends */
#ifndef SV_CACHE_CACHE_BINDING_H
#define SV_CACHE_CACHE_BINDING_H

#include "cache/cache.h"
#include "http/server.h"

typedef struct sv_cache_http { sv_cache *cache; sv_jobs *jobs; int64_t max_message; } sv_cache_http; /* borrowed; max_message: bytes of a put */
/* /cache/... on the binding server, "x-sv-binding: cache:WORKER". h is borrowed for as long as s lives. */
void sv_cache_binding_routes(sv_http *s, sv_cache_http *h);

#endif
