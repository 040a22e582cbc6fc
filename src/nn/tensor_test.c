/* tensor_test.c - element types against float64 arithmetic from their definitions, and against what gguf-py makes of the same bytes */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "nn/gguf.h"
#include "nn/reference_testing.h"

/* A value rounds three times at most: d * scale, times q, minus the minimum; each by 2^-24 of the terms' sum. Below the normal
 * numbers an error is half the smallest one instead. */
#define ROUNDING (3.5 * 0x1p-24)
#define SUBNORMAL 0x1p-148

static void a_row_reads_back_as_numbers(void **state)
{
    (void)state;
    uint8_t block[34] = {0x00, 0x38}; /* Q8_0 with d = 0.5 */
    float y[32];
    for (int i = 0; i < 32; i++)
        block[2 + i] = (uint8_t)(i - 16);
    sv_dequantize(y, SV_Q8_0, block, 32);
    for (int i = 0; i < 32; i++)
        assert_float_equal(y[i], 0.5f * (float)(i - 16), 0.0f);
}

static void types_have_the_sizes_of_the_format(void **state)
{
    (void)state;
    static const struct { sv_type type; const char *name; int block, bytes; } t[] = {
        {SV_F32, "F32", 1, 4}, {SV_F16, "F16", 1, 2}, {SV_BF16, "BF16", 1, 2}, {SV_Q8_0, "Q8_0", 32, 34}, {SV_Q4_0, "Q4_0", 32, 18},
        {SV_Q4_K, "Q4_K", 256, 144}, {SV_Q6_K, "Q6_K", 256, 210},
    };
    for (size_t i = 0; i < SV_LEN(t); i++) {
        const sv_type_info *info = sv_type_get(t[i].type);
        assert_string_equal(info->name, t[i].name);
        assert_int_equal(info->block, t[i].block);
        assert_int_equal(info->block_bytes, t[i].bytes);
        assert_true(info->computable);
        assert_int_equal(sv_type_bytes(t[i].type, 512), 512 / t[i].block * t[i].bytes);
    }
}

static void numbers_that_are_no_type_have_no_name(void **state)
{
    (void)state;
    static const uint32_t none[] = {4, 5, 31, 32, 33, 36, 37, 38, SV_N_TYPES, 1000, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < SV_LEN(none); i++) {
        assert_null(sv_type_get(none[i])->name);
        assert_false(sv_type_get(none[i])->computable);
    }
}

static void every_half_is_exact(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i;
        uint8_t b[2] = {(uint8_t)i, (uint8_t)(i >> 8)};
        double f16 = ref_half(b), bf16 = ref_bf16(b);
        float a = sv_f16_to_f32(h), c = sv_bf16_to_f32(h);
        assert_true(isnan(f16) ? isnan(a) : (double)a == f16 && !signbit(a) == !signbit(f16));
        assert_true(isnan(bf16) ? isnan(c) : (double)c == bf16 && !signbit(c) == !signbit(bf16));
    }
}

static void compare(sv_type type, const uint8_t *bytes, int64_t n)
{
    SV_AUTO(sv_freep) float *y = sv_xcalloc((size_t)n, sizeof *y);
    sv_dequantize(y, type, bytes, n);
    for (int64_t i = 0; i < n; i++) {
        ref_value want = ref_at(type, bytes, i);
        if (!(fabs((double)y[i] - want.v) <= ROUNDING * want.size + SUBNORMAL))
            fail_msg("%s: element %d is %.9g, wanted %.12g", sv_type_get(type)->name, (int)i, (double)y[i], want.v);
    }
}

static void every_type_follows_its_definition(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < SV_N_TYPES; type++) {
        if (!sv_type_get(type)->computable)
            continue;
        int64_t n = 64 * 256;
        size_t n_bytes = sv_type_bytes((sv_type)type, n);
        SV_AUTO(sv_freep) uint8_t *bytes = sv_xcalloc(1, n_bytes + 1);
        for (int odd = 0; odd < 2; odd++) { /* blocks may lie anywhere */
            ref_random_row((sv_type)type, bytes + odd, n, 0, 30);
            compare((sv_type)type, bytes + odd, n);
        }
    }
}

static void extreme_blocks_follow_their_definition(void **state)
{
    (void)state;
    static const uint8_t fill[] = {0x00, 0xff, 0x0f, 0xf0, 0x7b, 0x80};
    uint8_t block[512];
    for (uint32_t type = 0; type < SV_N_TYPES; type++)
        for (size_t f = 0; sv_type_get(type)->computable && f < SV_LEN(fill); f++) {
            ref_random_block((sv_type)type, block, 15, 15); /* a sane scale ... */
            uint8_t sane[512];
            memcpy(sane, block, sizeof sane);
            for (int at = 0; at < sv_type_get(type)->block_bytes; at++) { /* ... and each other byte at an extreme */
                memcpy(block, sane, sizeof block);
                block[at] = fill[f];
                bool finite = true;
                for (int i = 0; i < sv_type_get(type)->block; i++)
                    finite &= isfinite((float)ref_element((sv_type)type, block, i).v) != 0; /* in float32 */
                if (finite && !(type == SV_NVFP4 && at < 4)) /* a sign in an unsigned scale: undefined */
                    compare((sv_type)type, block, sv_type_get(type)->block);
            }
        }
}

static void real_blocks_give_what_gguf_py_gives(void **state)
{
    (void)state;
    const char *data = getenv("SV_SHARED_DATA");
    char path[2][512];
    snprintf(path[0], sizeof path[0], "%s/formats/quants/quant-types.gguf", data ? data : SV_SOURCE_ROOT "/../shared/data");
    snprintf(path[1], sizeof path[1], "%s/formats/quants/quant-types.expected.f32", data ? data : SV_SOURCE_ROOT "/../shared/data");
    if (!sv_file_exists(path[0])) {
        print_message("%s is not there: skipped\n", path[0]);
        skip();
    }
    sv_err err = {0};
    sv_gguf *g = NULL;
    sv_map expected = {0};
    if (sv_gguf_open(&g, path[0], &err) != SV_OK || sv_map_open(&expected, path[1], &err) != SV_OK)
        fail_msg("%s", err.msg);
    int n_compared = 0;
    const float *want = (const float *)(const void *)expected.p; /* the tensors' values in the file's order */
    assert_int_equal(expected.n, sv_gguf_n_tensors(g) * 8 * 1280 * sizeof(float));
    for (size_t i = 0; i < sv_gguf_n_tensors(g); i++, want += 8 * 1280) {
        const sv_tensor *t = sv_gguf_tensor_at(g, i);
        float y[1280];
        assert_int_equal(t->dims[0] * t->dims[1], 8 * 1280);
        assert_true(sv_type_get(t->type)->computable);
        for (int row = 0; row < 8; row++) {
            sv_dequantize(y, t->type, (const uint8_t *)t->data + (size_t)row * sv_type_bytes(t->type, 1280), 1280);
            n_compared++;
            for (int j = 0; j < 1280; j++)
                if (y[j] != want[row * 1280 + j])
                    fail_msg("%s: row %d, element %d is %.9g, gguf-py has %.9g", t->name, row, j, (double)y[j], (double)want[row * 1280 + j]);
        }
    }
    assert_int_equal(n_compared, 8 * 25);
    print_message("%d rows compared\n", n_compared);
    sv_map_close(&expected);
    sv_gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_reads_back_as_numbers),
        cmocka_unit_test(types_have_the_sizes_of_the_format),
        cmocka_unit_test(numbers_that_are_no_type_have_no_name),
        cmocka_unit_test(every_half_is_exact),
        cmocka_unit_test(every_type_follows_its_definition),
        cmocka_unit_test(extreme_blocks_follow_their_definition),
        cmocka_unit_test(real_blocks_give_what_gguf_py_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
