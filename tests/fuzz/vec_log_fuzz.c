/* links: vec */
/* vec_log_fuzz.c - bytes as a log's records and as the bodies inside; whatever is accepted lies within the bytes */
#include "vec/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void inside(sv_str all, sv_str part)
{
    SV_ASSERT(part.n == 0 || (part.p >= all.p && part.p + part.n <= all.p + all.n));
}

static void body(sv_str b, uint32_t dimensions)
{
    uint64_t at = 0;
    sv_vec_stored s;
    sv_str id;
    while (sv_vec_log_item(b, dimensions, &at, &s)) {
        inside(b, s.id);
        inside(b, s.ns);
        inside(b, s.metadata);
        inside(b, (sv_str){(const char *)s.values, dimensions * sizeof(float)});
        SV_ASSERT(s.id.n > 0 && at <= b.n);
    }
    at = 0;
    while (sv_vec_log_id(b, &at, &id))
        inside(b, id);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    SV_AUTO(sv_freep) uint8_t *copy = malloc(n + 1); /* aligned as a map is, and no byte longer */
    if (n < 1 || !copy)
        return 0;
    memcpy(copy, p + 1, n - 1);
    sv_str all = {(const char *)copy, n - 1};
    uint32_t dimensions = p[0] % 8 + 1;
    uint64_t at = 0;
    sv_vec_record r;
    while (sv_vec_log_parse(copy, n - 1, 0x5eed, &at, &r)) {
        inside(all, r.body);
        inside(all, r.mutation);
        SV_ASSERT(r.end_at == at && at <= n - 1);
        body(r.body, dimensions);
    }
    body(all, dimensions); /* without a hash in the way */
    return 0;
}
