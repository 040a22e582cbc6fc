/* links: cache */
/* cache_fuzz.c - the response inside a cache.put(), and the conditions of a match: refused with a sentence, or split without losing a byte
 *
 * Input: three headers of a request, each ended by a newline, then the message. */
#include <string.h>

#include "cache/freshness.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static sv_str line(const uint8_t **p, size_t *n)
{
    const uint8_t *end = *n ? memchr(*p, '\n', *n) : NULL;
    size_t k = end ? (size_t)(end - *p) : *n;
    sv_str s = {(const char *)*p, k};
    *p += end ? k + 1 : k;
    *n -= end ? k + 1 : k;
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_cache_ask ask = {.if_none_match = line(&p, &n), .if_modified_since = line(&p, &n), .range = line(&p, &n)};
    sv_cacheable c = {0};
    sv_err err = {0};
    sv_buf head;
    sv_buf_init(&head, 2 * SV_CACHE_MAX_HEAD);
    if (sv_cacheable_parse(&c, &head, (sv_str){(const char *)p, n}, n & 1, 784111777, &err) != SV_OK) {
        SV_ASSERT(err.msg[0]);
    } else {
        int64_t first = -1, last = -1, length = (int64_t)(n - c.body_at);
        SV_ASSERT(c.body_at <= n && c.status >= 200 && c.status < 600 && c.fresh_s <= (int64_t)1 << 40 && c.age_s >= 0);
        if (sv_cache_decide(&ask, sv_buf_str(&head), length, &first, &last) == SV_CACHE_PART)
            SV_ASSERT(first >= 0 && first <= last && last < length);
    }
    sv_buf_done(&head);
    return 0;
}
