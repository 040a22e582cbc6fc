/* links: d1 */
#include "base/err.h"
#include "base/mem.h"
#include "d1/d1_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_arena *a = sv_arena_create(16 << 20);
    sv_d1_request q;
    sv_err err = {0};
    if (sv_d1_request_parse(&q, a, (sv_str){(const char *)p, n}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
    } else {
        SV_ASSERT(q.n_queries > 0);
        for (size_t i = 0; i < q.n_queries; i++)
            SV_ASSERT(q.queries[i].sql.p[q.queries[i].sql.n] == '\0' && strlen(q.queries[i].sql.p) == q.queries[i].sql.n);
    }
    sv_arena_free(a);
    return 0;
}
