/* freshness.h - what a shared cache makes of a response (RFC 9111) and of a request for it (RFC 9110, ranges and conditions)
 * Threads: pure functions; any thread. */
#ifndef SV_CACHE_FRESHNESS_H
#define SV_CACHE_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "base/time.h"

enum { SV_CACHE_MAX_HEAD = 128 << 10 };

typedef struct sv_cacheable {
    int status;
    size_t body_at;     /* where the body begins in the message */
    int64_t length;     /* Content-Length, -1: none */
    bool storable;
    int64_t fresh_s;    /* seconds from now until it is stale; <= 0: it is already */
    int64_t age_s;      /* when it came */
} sv_cacheable;

/* Reads a serialized response: "HTTP/1.1 200 OK\r\n", headers, an empty line, the body. Appends the headers to keep to `head`, a "Name: value\r\n"
 * line each, without those of the hop and Content-Length. `authorized`: the request had an Authorization header.
 * SV_EFORMAT: no response. */
SV_MUST sv_rc sv_cacheable_parse(sv_cacheable *out, sv_buf *head, sv_str message, bool authorized, int64_t now_s, sv_err *err);

/* The last header of that name in lines as above; {NULL, 0} if absent. */
sv_str sv_head_find(sv_str head, const char *name);
/* Iterates over lines as above: start with *at = 0; false at the end. */
bool sv_head_next(sv_str head, size_t *at, sv_str *name, sv_str *value);

/* How to answer a request from a stored response whose body has `length` bytes. */
typedef enum sv_cache_how { SV_CACHE_WHOLE, SV_CACHE_NOT_MODIFIED, SV_CACHE_PART, SV_CACHE_UNSATISFIABLE } sv_cache_how;
typedef struct sv_cache_ask { sv_str if_none_match, if_modified_since, range; } sv_cache_ask; /* headers of the request; p NULL: absent */
/* For SV_CACHE_PART, *first and *last are the bytes. Several ranges at once are answered by the whole, as RFC 9110 allows. */
sv_cache_how sv_cache_decide(const sv_cache_ask *ask, sv_str head, int64_t length, int64_t *first, int64_t *last);

#endif
