/* links: r2 */
/* A request that claims to be signed: lines of "path", "query", "name: value". Whatever it claims, it is refused with a reason. */
#include <string.h>

#include "r2/sigv4.h"

enum { MOST = 32 };
typedef struct lines { sv_str name[MOST], value[MOST]; int n; } lines;

static void header_at(void *ctx, int i, sv_str *name, sv_str *value)
{
    const lines *l = ctx;
    *name = l->name[i];
    *value = l->value[i];
}

static sv_str line(sv_str *rest)
{
    const char *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    sv_str one = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
    *rest = end ? (sv_str){end + 1, rest->n - one.n - 1} : (sv_str){rest->p, 0};
    return one;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char secret[65] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    lines l = {.n = 0};
    sv_str rest = {n ? (const char *)p : "", n};
    sv_sigv4_req r = {.method = "PUT", .header_at = header_at, .ctx = &l};
    r.path = line(&rest);
    r.query = line(&rest);
    while (rest.n && l.n < MOST) {
        sv_str one = line(&rest);
        const char *colon = one.n ? memchr(one.p, ':', one.n) : NULL;
        if (!colon)
            continue;
        l.name[l.n] = (sv_str){one.p, (size_t)(colon - one.p)};
        l.value[l.n++] = sv_str_trim((sv_str){colon + 1, one.n - (size_t)(colon + 1 - one.p)});
    }
    r.n_headers = l.n;
    sv_sigv4 a;
    uint8_t key[32];
    sv_err err = {0};
    sv_sigv4_present(&r);
    if (sv_sigv4_parse(&a, &r, &err) != SV_OK || sv_sigv4_verify(&a, &r, secret, a.at_s, key, &err) != SV_OK)
        SV_ASSERT(err.msg[0] && err.api_code);
    return 0;
}
