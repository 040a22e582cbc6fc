/* links: vec */
/* vec_filter_fuzz.c - a filter from outside, a zero byte, and metadata: parsed or refused with a sentence, asked without a crash */
#include "vec/filter_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const uint8_t *zero = n ? memchr(p, 0, n) : NULL;
    size_t k = zero ? (size_t)(zero - p) : n;
    sv_str metadata = zero ? (sv_str){(const char *)zero + 1, n - k - 1} : (sv_str){"", 0};
    sv_vec_filter *f = NULL;
    sv_err err = {0};
    if (sv_vec_filter_parse(&f, (sv_str){(const char *)p, k}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
        return 0;
    }
    /* A filter of conditions that all hold holds, one with a condition that does not does not. */
    bool all = true;
    for (size_t i = 0; i < f->n; i++) {
        sv_vec_value v;
        sv_vec_value_find(&v, metadata, f->conditions[i].path);
        SV_ASSERT(v.n <= SV_VEC_INDEXED_BYTES);
        all = all && sv_vec_condition_holds(&f->conditions[i], &v);
    }
    SV_ASSERT(sv_vec_filter_matches(f, metadata) == all);
    sv_vec_filter_free(f);
    return 0;
}
