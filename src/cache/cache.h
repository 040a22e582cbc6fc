/* cache.h - responses that Workers keep by caches.default and caches.open(): bounded, least recently used out first, across restarts
 *
 * A cache belongs to one Worker of one account and has a name ("" is the default one). Nothing stale is ever given out. Entries may go at any
 * moment, as a cache's do; those that are there are whole.
 * Threads: open and close by the owner; everything else blocks (job pool). */
#ifndef SV_CACHE_CACHE_H
#define SV_CACHE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum { SV_CACHE_INLINE = 32 << 10 }; /* larger bodies lie in files */

typedef struct sv_cache sv_cache;
/* max_bytes: heads, bodies and rows of all Workers together; max_entry: of one. */
SV_MUST sv_rc sv_cache_open(sv_cache **out, const char *data_dir, int64_t max_bytes, int64_t max_entry, sv_err *err);
sv_cache *sv_cache_close(sv_cache *c); /* NULL is fine */
SV_DEFINE_AUTO(sv_cache, sv_cache_close)

/* Where a response is, made of whose it is and of its URL. */
typedef struct sv_cache_key { uint8_t b[32]; } sv_cache_key;
sv_cache_key sv_cache_key_of(sv_str account, sv_str worker, sv_str cache, sv_str url);

const char *sv_cache_folder(const sv_cache *c); /* to write messages into, under names of 32 hex digits */

/* Stores a serialized response: `message` in memory, or mapped from the file `path` in the folder above, which is then kept as it is (it is the cache's
 * from then on, whatever comes of it; "" for none). One that is stale already takes away what was there. SV_EFORMAT: no response, or shorter than its
 * Content-Length; SV_EINVAL: not to be stored; SV_ELIMIT: over max_entry. */
SV_MUST sv_rc sv_cache_put(sv_cache *c, const sv_cache_key *key, sv_str message, const char *path, bool authorized, sv_err *err);

typedef struct sv_cache_hit {
    int status;
    char *head;     /* owned; lines of freshness.h */
    int64_t age_s;  /* now */
    int64_t length; /* of the body */
    int fd;         /* -1: the body is in bytes */
    int64_t at;     /* where it begins in fd */
    char *bytes;    /* owned */
} sv_cache_hit;
void sv_cache_hit_done(sv_cache_hit *h); /* one that sv_cache_match has filled, or {.fd = -1} */

SV_MUST sv_rc sv_cache_match(sv_cache *c, const sv_cache_key *key, sv_cache_hit *out, sv_err *err);  /* SV_ENOENT: none that is fresh */
SV_MUST sv_rc sv_cache_delete(sv_cache *c, const sv_cache_key *key, sv_err *err);                    /* SV_ENOENT: likewise */

/* Removes what is stale and notes what was used; done every few seconds anyway. */
SV_MUST sv_rc sv_cache_sweep(sv_cache *c, sv_err *err);
typedef struct sv_cache_stats { int64_t n_entries, n_bytes, n_files; } sv_cache_stats;
SV_MUST sv_rc sv_cache_get_stats(sv_cache *c, sv_cache_stats *out, sv_err *err);

#endif
