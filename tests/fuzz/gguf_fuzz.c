/* links: nn; seconds: 60 */
/* gguf_fuzz.c - model files that a stranger made: read whole or refused with a sentence, and what is read can be computed with */
#include <stdlib.h>

#include "nn/gguf.h"
#include "nn/kernels.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { MAX_ELEMENTS = 1 << 16 };

static void use_metadata(const sv_gguf *g)
{
    static const char *const keys[] = {"general.architecture", "general.alignment", "s", "i", "f", "b", "as", "af", "ai", "au"};
    volatile unsigned sum = 0;
    for (size_t k = 0; k < SV_LEN(keys); k++) {
        sv_err err = {0};
        int64_t i = 0;
        float f = 0;
        bool b = false;
        sv_str s = {0};
        const float *fs = NULL;
        const int32_t *is = NULL;
        const sv_str *ss = NULL;
        size_t len = 0;
        if (sv_gguf_i64(g, keys[k], -1000, 1000, &i, &err) == SV_OK)
            SV_ASSERT(i >= -1000 && i <= 1000);
        if (sv_gguf_f32(g, keys[k], &f, &err) != SV_OK || sv_gguf_bool(g, keys[k], &b, &err) != SV_OK)
            SV_ASSERT(err.msg[0] != '\0');
        if (sv_gguf_str(g, keys[k], &s, &err) == SV_OK)
            for (size_t j = 0; j < s.n; j++)
                sum += (uint8_t)s.p[j];
        if (sv_gguf_arr_f32(g, keys[k], &fs, &len, &err) == SV_OK)
            for (size_t j = 0; j < len; j++)
                sum += fs[j] > 0;
        if (sv_gguf_arr_i32(g, keys[k], &is, &len, &err) == SV_OK)
            for (size_t j = 0; j < len; j++)
                sum += (unsigned)is[j];
        if (sv_gguf_arr_str(g, keys[k], &ss, &len, &err) == SV_OK)
            for (size_t j = 0; j < len; j++)
                sum += ss[j].n ? (uint8_t)ss[j].p[0] + (uint8_t)ss[j].p[ss[j].n - 1] : 0;
    }
    (void)sum; /* every byte was read */
}

/* A vector through the matrix, alone and twice: the same bits, whatever the weights. */
static void use_tensor(const sv_tensor *t, sv_pool *pool)
{
    const uint8_t *bytes = t->data;
    volatile unsigned sum = bytes[0] + bytes[t->n_bytes - 1];
    (void)sum;
    if (!sv_type_get(t->type)->computable || t->dims[0] > 4096 || t->n_bytes > MAX_ELEMENTS || t->dims[1] * t->dims[0] > MAX_ELEMENTS)
        return;
    size_t n_in = (size_t)t->dims[0], n_out = (size_t)t->dims[1];
    float *x = calloc(2 * n_in, sizeof *x), *y = calloc(3 * n_out, sizeof *y);
    for (size_t i = 0; i < 2 * n_in; i++)
        x[i] = (float)(i % n_in) - 3.0f;
    sv_matmul_run(pool, &(sv_matmul){.w = t, .x = x, .n_rows = 1, .y = y}, 1);
    sv_matmul_run(pool, &(sv_matmul){.w = t, .x = x, .n_rows = 2, .y = y + n_out}, 1);
    for (size_t i = 0; i < n_out; i++) /* a not-a-number may have another sign */
        SV_ASSERT(y[i] != y[i] ? y[n_out + i] != y[n_out + i] : memcmp(&y[i], &y[n_out + i], sizeof *y) == 0);
    free(x);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sv_pool *pool;
    if (!pool)
        pool = sv_pool_new(1);
    sv_err err = {0};
    sv_gguf *g = NULL;
    uint8_t *bytes = malloc(n ? n : 1); /* exactly as long, and aligned */
    memcpy(bytes, p, n);
    if (sv_gguf_parse(&g, bytes, n, &err) == SV_OK) {
        use_metadata(g);
        for (size_t i = 0; i < sv_gguf_n_tensors(g) && i < 64; i++)
            use_tensor(sv_gguf_tensor_at(g, i), pool);
    } else {
        SV_ASSERT(!g && err.msg[0] != '\0');
    }
    sv_gguf_close(g);
    free(bytes);
    return 0;
}
