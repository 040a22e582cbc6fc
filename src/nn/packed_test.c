/* packed_test.c - integer matmul over packed weights: right for every type and instruction set, and the same bits in any company
 *
 * Right: against float64 loops over reference_testing.h and over activations that are rounded here once more, in float64. The same bits: a row
 * alone and in batches, with 1, 2 and 3 threads, and on every instruction set but the first two, which do not fuse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "nn/kernels.h"
#include "nn/pack.h"
#include "nn/reference_testing.h"

static const char *const set_names[] = {"portable", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vnni"};
static const sv_type types[] = {SV_Q8_0, SV_Q4_0, SV_Q4_1, SV_Q5_0, SV_Q5_1, SV_Q4_K, SV_Q5_K, SV_Q6_K};

static float *random_floats(size_t n)
{
    float *x = sv_xcalloc(n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_float();
    return x;
}

typedef struct matrix { sv_tensor file, packed; } matrix;

static matrix random_matrix(sv_type type, int64_t n_in, int64_t n_out)
{
    size_t n_bytes = sv_type_bytes(type, n_in) * (size_t)n_out;
    matrix m = {.file = {.name = "w", .type = type, .n_dims = 2, .dims = {n_in, n_out, 1, 1}, .n_bytes = n_bytes, .data = sv_xcalloc(1, n_bytes)}};
    ref_random_row(type, (void *)m.file.data, n_in * n_out, 8, 15);
    assert_true(sv_packable(&m.file));
    m.packed = m.file;
    m.packed.n_bytes = sv_packed_bytes(&m.file);
    m.packed.data = sv_try_aligned(m.packed.n_bytes, 64);
    m.packed.layout = SV_LAYOUT_PACKED;
    memset((void *)m.packed.data, 0xff, m.packed.n_bytes); /* what was there before does not matter */
    sv_pack((void *)m.packed.data, &m.file, 0, sv_pack_groups(&m.file));
    assert_false(sv_packable(&m.packed));
    return m;
}

static void matrix_done(matrix *m)
{
    free((void *)m->file.data);
    free((void *)m->packed.data);
}

static sv_q8 *quantised(const float *x, int64_t n)
{
    sv_q8 *xq = sv_xcalloc((size_t)(n / 32) + 1, sizeof *xq);
    sv_quantise(xq, x, n);
    return xq;
}

/* --- activations -------------------------------------------------------------------------------------------------- */

static void check_block(const sv_q8 *b, const float *x)
{
    double max = 0, sums[2] = {0, 0};
    for (int i = 0; i < 32; i++)
        max = fmax(max, fabs((double)x[i]));
    assert_true(fabs((double)b->scale - max / 127) <= 0x1p-22 * max / 127);
    for (int i = 0; i < 32; i++) {
        assert_in_range(b->q[i] + 127, 0, 254);
        assert_true(fabs((double)b->scale * b->q[i] - (double)x[i]) <= (0.5 + 0x1p-14) * max / 127);
        sums[i / 16] += b->q[i];
    }
    assert_true(b->minus[0] == -sums[0] && b->minus[1] == -sums[1]);
    assert_true((double)b->sum == (double)(b->scale * (float)(sums[0] + sums[1])));
}

static void activations_are_rounded_to_the_nearest_of_255_steps(void **state)
{
    enum { N = 320 };
    static const float scales[] = {1.0f, 1e-20f, 1e20f, 3e-3f};
    (void)state;
    SV_AUTO(sv_freep) float *x = random_floats(N);
    SV_AUTO(sv_freep) sv_q8 *first = NULL;
    for (size_t s = 0; s < SV_LEN(scales); s++)
        for (int i = 0; i < 32; i++)
            x[32 * s + (size_t)i] *= scales[s];
    for (int i = 0; i < 32; i++)
        x[160 + i] = 0.0f;
    for (int i = 0; i < 32; i++)
        x[192 + i] = (float)(i - 16) * 8.5f - 0.5f * (float)(i % 2); /* ties, once scaled by 127 / 136.5 or not */
    x[256] = 127.0f;
    for (int i = 1; i < 32; i++)
        x[256 + i] = (float)i + 0.5f; /* ties */
    for (size_t k = 0; k < SV_LEN(set_names); k++) {
        if (!sv_kernels_select(set_names[k]))
            continue;
        sv_q8 *xq = quantised(x, N);
        for (int b = 0; b < N / 32; b++)
            check_block(&xq[b], x + 32 * b);
        for (int i = 1; i < 32; i++)
            assert_int_equal(xq[8].q[i], i % 2 ? i + 1 : i); /* to even */
        if (first)
            assert_memory_equal(xq, first, N / 32 * sizeof *xq);
        else
            first = SV_TAKE(xq);
        free(xq);
    }
    sv_kernels_select(NULL);
}

static void activations_that_are_no_numbers_do_no_harm(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-45f, 3.4e38f};
    for (size_t k = 0; k < SV_LEN(set_names); k++)
        for (size_t i = 0; i < SV_LEN(odd); i++) {
            if (!sv_kernels_select(set_names[k]))
                continue;
            matrix m = random_matrix(SV_Q8_0, 32, 16);
            float x[32] = {1, 2, 3, 4}, y[16];
            sv_q8 xq;
            sv_pool *pool = sv_pool_new(1);
            x[7] = odd[i];
            sv_quantise(&xq, x, 32);
            sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = &xq, .n_rows = 1, .y = y}, 1);
            sv_pool_free(pool);
            matrix_done(&m);
        }
    sv_kernels_select(NULL);
}

/* --- matmul ------------------------------------------------------------------------------------------------------- */

/* Integer sums are exact. A block (Q6_K: half a block) rounds once for its scale, once for the product of scales and once when added; another
 * time for a minimum: each 2^-24 of the sum of magnitudes at most, which grows over n / 16 such steps. */
static double tolerance(int64_t n)
{
    return ((double)n / 16 + 8) * 0x1p-24;
}

static void check_matmul(const sv_tensor *w, const sv_q8 *xq, int32_t n_rows, const float *y)
{
    int64_t n_in = w->dims[0], n_out = w->dims[1];
    size_t row_bytes = sv_type_bytes(w->type, n_in);
    for (int32_t r = 0; r < n_rows; r++)
        for (int64_t o = 0; o < n_out; o++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < n_in; k++) {
                const sv_q8 *b = &xq[(r * n_in + k) / 32];
                double x = (double)b->scale * b->q[k % 32];
                ref_value v = ref_at(w->type, (const uint8_t *)w->data + (size_t)o * row_bytes, k);
                sum += v.v * x;
                size += v.size * fabs(x);
            }
            if (!(fabs((double)y[r * n_out + o] - sum) <= tolerance(n_in) * size + 0x1p-140))
                fail_msg("%s %s [%d, %d]: row %d, column %d is %.9g, wanted %.12g", sv_kernels_name(), sv_type_get(w->type)->name, (int)n_in,
                         (int)n_out, r, (int)o, (double)y[r * n_out + o], sum);
        }
}

static void matmul_is_right_for_every_type_and_shape(void **state)
{
    (void)state;
#ifdef SV_EMULATED /* another CPU's instructions, a hundred times slower */
    static const int32_t n_ins[] = {32, 256, 288}, n_outs[] = {1, 17, 33}, rows[] = {1, 5};
#else
    static const int32_t n_ins[] = {32, 64, 96, 256, 288, 512, 768}, n_outs[] = {1, 15, 16, 17, 33, 80}, rows[] = {1, 2, 5, 6, 13};
#endif
    sv_pool *pool = sv_pool_new(1);
    for (size_t t = 0; t < SV_LEN(types); t++)
        for (size_t i = 0; i < SV_LEN(n_ins); i++)
            for (size_t j = 0; j < SV_LEN(n_outs); j++) {
                if (n_ins[i] % sv_type_get(types[t])->block != 0)
                    continue;
                matrix m = random_matrix(types[t], n_ins[i], n_outs[j]);
                for (size_t k = 0; k < SV_LEN(rows); k++) {
                    size_t n = (size_t)(rows[k] * n_outs[j]);
                    SV_AUTO(sv_freep) float *x = random_floats((size_t)(rows[k] * n_ins[i]));
                    SV_AUTO(sv_freep) sv_q8 *xq = quantised(x, rows[k] * n_ins[i]);
                    SV_AUTO(sv_freep) float *y = random_floats(n + 1);
                    SV_AUTO(sv_freep) float *other = NULL;
                    for (size_t s = 0; s < SV_LEN(set_names); s++) {
                        if (!sv_kernels_select(set_names[s]))
                            continue;
                        y[n] = 42.0f;
                        sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = xq, .n_rows = rows[k], .y = y}, 1);
                        check_matmul(&m.file, xq, rows[k], y);
                        assert_true(y[n] == 42.0f);
                        if (s > 1 && other)
                            assert_memory_equal(y, other, n * sizeof *y); /* kernels.h promises it */
                        if (s > 1 && !other) {
                            other = sv_xcalloc(n, sizeof *other);
                            memcpy(other, y, n * sizeof *y);
                        }
                    }
                }
                matrix_done(&m);
            }
    sv_kernels_select(NULL);
    sv_pool_free(pool);
}

/* What 8-bit activations cost: each is off by half a step of 1/127 of its block's largest at most, so a dot product is off by that much of
 * the weights' magnitudes; on random signs by the root of it. */
static void the_error_is_that_of_rounded_activations(void **state)
{
    (void)state;
    enum { IN = 1024, OUT = 64 };
    sv_pool *pool = sv_pool_new(1);
    for (size_t t = 0; t < SV_LEN(types); t++) {
        matrix m = random_matrix(types[t], IN, OUT);
        SV_AUTO(sv_freep) float *x = random_floats(IN);
        SV_AUTO(sv_freep) sv_q8 *xq = quantised(x, IN);
        float exact[OUT], y[OUT];
        double off = 0, size = 0;
        sv_matmul_run(pool, &(sv_matmul){.w = &m.file, .x = x, .n_rows = 1, .y = exact}, 1);
        sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = xq, .n_rows = 1, .y = y}, 1);
        for (int o = 0; o < OUT; o++) {
            off += ((double)y[o] - (double)exact[o]) * ((double)y[o] - (double)exact[o]);
            size += (double)exact[o] * (double)exact[o];
        }
        print_message("%s: %.2g\n", sv_type_get(types[t])->name, sqrt(off / size));
        assert_true(sqrt(off / size) < 0.012); /* uniform numbers: a step of 2/254 over root 12, against 1 over root 3: 0.004; fewer effective
                                                * weights where scales differ much */
        matrix_done(&m);
    }
    sv_pool_free(pool);
}

static void bias_addition_and_scattered_rows_are_right(void **state)
{
    (void)state;
    enum { N = 64, OUT = 41, ROWS = 9 };
    matrix m = random_matrix(SV_Q5_0, N, OUT);
    SV_AUTO(sv_freep) float *x = random_floats(ROWS * N);
    SV_AUTO(sv_freep) sv_q8 *xq = quantised(x, ROWS * N);
    SV_AUTO(sv_freep) float *bias = random_floats(OUT);
    SV_AUTO(sv_freep) float *before = random_floats(ROWS * OUT);
    float plain[ROWS * OUT], y[ROWS * OUT], *y_rows[ROWS];
    sv_pool *pool = sv_pool_new(1);
    for (int r = 0; r < ROWS; r++)
        y_rows[r] = y + (ROWS - 1 - r) * OUT;
    for (size_t s = 0; s < SV_LEN(set_names); s++)
        for (int32_t n = 1; n <= ROWS && sv_kernels_select(set_names[s]); n++) {
            sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = xq, .n_rows = n, .y = plain}, 1);
            memcpy(y, before, sizeof y);
            sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = xq, .n_rows = n, .y = y, .bias = bias, .add = true}, 1);
            for (int i = 0; i < n * OUT; i++)
                assert_true(y[i] == before[i] + (plain[i] + bias[i % OUT]));
            assert_memory_equal(y + n * OUT, before + n * OUT, (size_t)(ROWS - n) * OUT * sizeof *y);
            sv_matmul_run(pool, &(sv_matmul){.w = &m.packed, .xq = xq, .n_rows = n, .y_rows = y_rows}, 1);
            for (int r = 0; r < n; r++)
                assert_memory_equal(y_rows[r], plain + r * OUT, OUT * sizeof *y);
        }
    sv_kernels_select(NULL);
    sv_pool_free(pool);
    matrix_done(&m);
}

static void a_row_gives_the_same_bits_alone_and_in_company(void **state)
{
    (void)state;
#ifdef SV_EMULATED
    enum { IN = 256, OUT = 600, MANY = 29 };
#else
    enum { IN = 512, OUT = 1208, MANY = 29 };
#endif
    static const int32_t batches[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 28, MANY};
    sv_pool *pools[] = {sv_pool_new(1), sv_pool_new(2), sv_pool_new(3)};
    for (size_t t = 0; t < SV_LEN(types); t++) {
        matrix m = random_matrix(types[t], IN, OUT);
        SV_AUTO(sv_freep) float *x = random_floats(MANY * IN);
        SV_AUTO(sv_freep) sv_q8 *xq = quantised(x, MANY * IN);
        SV_AUTO(sv_freep) float *alone = random_floats(MANY * OUT);
        SV_AUTO(sv_freep) float *y = random_floats(MANY * OUT);
        for (size_t s = 0; s < SV_LEN(set_names); s++) {
            if (!sv_kernels_select(set_names[s]))
                continue;
            for (int32_t r = 0; r < MANY; r++)
                sv_matmul_run(pools[0], &(sv_matmul){.w = &m.packed, .xq = xq + r * IN / 32, .n_rows = 1, .y = alone + r * OUT}, 1);
            for (size_t b = 0; b < SV_LEN(batches); b++)
                for (size_t p = 0; p < SV_LEN(pools); p++) {
                    int32_t n = batches[b], begin = MANY - n;
                    sv_matmul_run(pools[p], &(sv_matmul){.w = &m.packed, .xq = xq + begin * IN / 32, .n_rows = n, .y = y}, 1);
                    if (memcmp(y, alone + begin * OUT, (size_t)(n * OUT) * sizeof *y) != 0)
                        fail_msg("%s %s: %d rows and %zu threads give other bits", sv_kernels_name(), sv_type_get(types[t])->name, n, p + 1);
                }
        }
        matrix_done(&m);
    }
    sv_kernels_select(NULL);
    for (size_t p = 0; p < SV_LEN(pools); p++)
        sv_pool_free(pools[p]);
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

static void a_matrix_is_packed_the_same_in_parts(void **state)
{
    (void)state;
    for (size_t t = 0; t < SV_LEN(types); t++) {
        matrix m = random_matrix(types[t], 256, 70);
        SV_AUTO(sv_freep) uint8_t *parts = sv_xcalloc(1, m.packed.n_bytes);
        sv_pack(parts + m.packed.n_bytes / 5 * 3, &m.file, 3, 5);
        sv_pack(parts, &m.file, 0, 3);
        assert_memory_equal(parts, m.packed.data, m.packed.n_bytes);
        assert_int_equal(m.packed.n_bytes % 64, 0);
        matrix_done(&m);
    }
}

static void only_whole_quantised_matrices_are_packed(void **state)
{
    (void)state;
    static const sv_type others[] = {SV_F32, SV_F16, SV_BF16, SV_Q2_K, SV_Q3_K, SV_IQ4_XS, SV_MXFP4};
    for (size_t i = 0; i < SV_LEN(others); i++)
        assert_false(sv_packable(&(sv_tensor){.type = others[i], .dims = {256, 16, 1, 1}}));
    assert_true(sv_packable(&(sv_tensor){.type = SV_Q4_K, .dims = {256, 3, 1, 1}}));
    assert_false(sv_packable(&(sv_tensor){.type = SV_Q4_K, .dims = {256, 3, 2, 1}}));
    /* the size of a packed matrix is that of the file's, but for 1 % of Q6_K and the filling of spans and groups */
    for (size_t t = 0; t < SV_LEN(types); t++) {
        sv_tensor w = {.type = types[t], .dims = {2048, 64, 1, 1}};
        size_t plain = sv_type_bytes(w.type, 2048) * 64;
        assert_true(sv_packed_bytes(&w) == (w.type == SV_Q6_K ? plain / 210 * 212 : plain));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_rounded_to_the_nearest_of_255_steps),
        cmocka_unit_test(activations_that_are_no_numbers_do_no_harm),
        cmocka_unit_test(matmul_is_right_for_every_type_and_shape),
        cmocka_unit_test(the_error_is_that_of_rounded_activations),
        cmocka_unit_test(bias_addition_and_scattered_rows_are_right),
        cmocka_unit_test(a_row_gives_the_same_bits_alone_and_in_company),
        cmocka_unit_test(a_matrix_is_packed_the_same_in_parts),
        cmocka_unit_test(only_whole_quantised_matrices_are_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
