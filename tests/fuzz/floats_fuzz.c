/* links: base */
/* floats_fuzz.c - what the reader takes is what strtod reads, and what is written of it reads back */
#include <stdlib.h>
#include <string.h>

#include "base/floats.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(const char *text, size_t n, const float *x, size_t n_x)
{
    char *z = malloc(n + 1), *at = z + 1;
    memcpy(z, text, n);
    z[n] = '\0';
    for (size_t i = 0; i < n_x; i++) {
        float f = (float)strtod(at, &at);
        SV_ASSERT(memcmp(&f, &x[i], sizeof f) == 0);
        at += strcspn(at, ",]") + 1;
    }
    free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    float x[64], again[64];
    size_t n_x = 0, used = 0, n_again = 0, used_again = 0;
    sv_err err = {0};
    char *text = malloc(n ? n : 1); /* exactly as long, so that a read past the end is seen */
    if (n)
        memcpy(text, p, n);
    if (sv_floats_read(x, SV_LEN(x), (sv_str){text, n}, &n_x, &used, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
    } else {
        SV_ASSERT(used <= n && text[0] == '[' && text[used - 1] == ']');
        n_x = n_x < SV_LEN(x) ? n_x : SV_LEN(x);
        check(text, used, x, n_x);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        sv_floats_write(&b, x, n_x);
        SV_ASSERT(sv_floats_read(again, SV_LEN(again), sv_buf_str(&b), &n_again, &used_again, &err) == SV_OK);
        SV_ASSERT(n_again == n_x && used_again == b.n && memcmp(x, again, n_x * sizeof *x) == 0);
    }
    free(text);
    return 0;
}
