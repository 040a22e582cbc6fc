/* kernels_test.c - every kernel of every instruction set of this CPU: right within a named tolerance, and the same bits in any company
 *
 * Right: against float64 loops over reference_testing.h. The same bits: a row alone, in batches of any size and at any place in them,
 * with 1, 2 and 3 threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "nn/kernels.h"
#include "nn/reference_testing.h"

static const char *const set_names[] = {"portable", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vnni"};

/* Selects the set after `name` that this CPU has; NULL at the end. */
static const char *next_set(const char *name)
{
    size_t i = 0;
    while (name && set_names[i++] != name)
        ;
    for (; i < SV_LEN(set_names); i++)
        if (sv_kernels_select(set_names[i]))
            return set_names[i];
    return NULL;
}
#define EACH_SET(name) for (const char *name = NULL; (name = next_set(name)) != NULL;)

static const sv_type types[] = {SV_F32, SV_F16, SV_BF16, SV_Q8_0, SV_Q4_0, SV_Q4_K, SV_Q6_K, SV_Q4_1, SV_Q5_0, SV_Q5_1, SV_Q2_K, SV_Q3_K,
                                SV_Q5_K, SV_IQ4_NL, SV_IQ4_XS, SV_TQ1_0, SV_TQ2_0, SV_MXFP4, SV_NVFP4, SV_IQ2_XXS, SV_IQ2_XS, SV_IQ2_S,
                                SV_IQ3_XXS, SV_IQ3_S, SV_IQ1_S, SV_IQ1_M};
static const int thread_counts[] = {1, 2, 3};

static float *random_floats(size_t n)
{
    float *x = sv_xcalloc(n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_float();
    return x;
}

static sv_tensor random_matrix(sv_type type, int64_t n_in, int64_t n_out)
{
    size_t n_bytes = sv_type_bytes(type, n_in) * (size_t)n_out;
    sv_tensor w = {.name = "w", .type = type, .n_dims = 2, .dims = {n_in, n_out, 1, 1}, .n_bytes = n_bytes, .data = sv_xcalloc(1, n_bytes)};
    ref_random_row(type, (void *)w.data, n_in * n_out, 8, 15);
    return w;
}

/* --- choosing ----------------------------------------------------------------------------------------------------- */

static void the_best_set_is_chosen_and_others_by_name(void **state)
{
    (void)state;
    assert_true(sv_kernels_select(NULL));
    const char *best = sv_kernels_name();
    assert_false(sv_kernels_select("mmx"));
    assert_false(sv_kernels_select(""));
    assert_string_equal(sv_kernels_name(), best); /* a refusal changes nothing */
    assert_true(sv_kernels_select("portable"));
    assert_string_equal(sv_kernels_name(), "portable");
    const char *last = NULL;
    EACH_SET(name) {
        print_message("%s\n", name);
        last = name;
    }
    assert_string_equal(best, last);
}

/* --- matmul ------------------------------------------------------------------------------------------------------- */

/* A sum of n products in 16 lanes rounds n / 16 times in a lane, 4 times across, twice more without fused multiply-add and for
 * the bias; a dequantised weight carries ROUNDING of tensor_test.c. Each rounding is 2^-24 of the sum of magnitudes at most. */
static double tolerance(int64_t n)
{
    return ((double)n / 16 + 12) * 0x1p-24;
}

static void check_matmul(const sv_tensor *w, const float *x, int32_t n_rows, const float *y)
{
    int64_t n_in = w->dims[0], n_out = w->dims[1];
    size_t row_bytes = sv_type_bytes(w->type, n_in);
    for (int32_t r = 0; r < n_rows; r++)
        for (int64_t o = 0; o < n_out; o++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < n_in; k++) {
                ref_value v = ref_at(w->type, (const uint8_t *)w->data + (size_t)o * row_bytes, k);
                sum += v.v * (double)x[r * n_in + k];
                size += v.size * fabs((double)x[r * n_in + k]);
            }
            if (!(fabs((double)y[r * n_out + o] - sum) <= tolerance(n_in) * size + 0x1p-140))
                fail_msg("%s %s [%d, %d]: row %d, column %d is %.9g, wanted %.12g", sv_kernels_name(), sv_type_get(w->type)->name, (int)n_in,
                         (int)n_out, r, (int)o, (double)y[r * n_out + o], sum);
        }
}

static void matmul_is_right_for_every_type_and_shape(void **state)
{
    (void)state;
    static const int32_t n_ins[] = {1, 7, 16, 31, 32, 33, 64, 100, 172, 256, 288, 512, 768}, n_outs[] = {1, 3, 4, 9}, rows[] = {1, 2, 5, 6, 13};
    sv_pool *pool = sv_pool_new(1);
    for (size_t t = 0; t < SV_LEN(types); t++)
        for (size_t i = 0; i < SV_LEN(n_ins); i++)
            for (size_t j = 0; j < SV_LEN(n_outs); j++) {
                if (n_ins[i] % sv_type_get(types[t])->block != 0)
                    continue;
                sv_tensor w = random_matrix(types[t], n_ins[i], n_outs[j]);
                for (size_t k = 0; k < SV_LEN(rows); k++) {
                    SV_AUTO(sv_freep) float *x = random_floats((size_t)rows[k] * (size_t)n_ins[i]);
                    SV_AUTO(sv_freep) float *y = random_floats((size_t)rows[k] * (size_t)n_outs[j]);
                    EACH_SET(name) {
                        sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = rows[k], .y = y}, 1);
                        check_matmul(&w, x, rows[k], y);
                    }
                }
                free((void *)w.data);
            }
    sv_pool_free(pool);
}

static void weights_are_exactly_what_dequantize_gives(void **state)
{
    (void)state;
    enum { N = 256, OUT = 5, ROWS = 7 };
    sv_pool *pool = sv_pool_new(1);
    for (size_t t = 0; t < SV_LEN(types); t++) {
        sv_tensor w = random_matrix(types[t], N, OUT);
        float want[OUT * N], y[ROWS * OUT];
        sv_dequantize(want, types[t], w.data, OUT * N);
        EACH_SET(name)
            for (int k = 0; k < N; k++) {
                float x[ROWS * N] = {0};
                for (int r = 0; r < ROWS; r++)
                    x[r * N + k] = 1.0f; /* picks column k of the matrix */
                for (int32_t n = 1; n <= ROWS; n += 3) {
                    sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = n, .y = y}, 1);
                    for (int i = 0; i < n * OUT; i++)
                        assert_true(y[i] == want[i % OUT * N + k]);
                }
            }
        free((void *)w.data);
    }
    sv_pool_free(pool);
}

static void the_longest_row_is_right(void **state)
{
    (void)state;
    sv_tensor w = random_matrix(SV_Q8_0, SV_MAX_ROW, 3);
    SV_AUTO(sv_freep) float *x = random_floats(2 * SV_MAX_ROW);
    float y[6];
    sv_pool *pool = sv_pool_new(2);
    EACH_SET(name)
        for (int32_t n = 1; n <= 2; n++) {
            sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = n, .y = y}, 1);
            check_matmul(&w, x, n, y);
        }
    sv_pool_free(pool);
    free((void *)w.data);
}

static void bias_addition_and_scattered_rows_are_right(void **state)
{
    (void)state;
    enum { N = 64, OUT = 21, ROWS = 9 };
    sv_tensor w = random_matrix(SV_F16, N, OUT);
    SV_AUTO(sv_freep) float *x = random_floats(ROWS * N);
    SV_AUTO(sv_freep) float *bias = random_floats(OUT);
    SV_AUTO(sv_freep) float *before = random_floats(ROWS * OUT);
    float plain[ROWS * OUT], y[ROWS * OUT], *y_rows[ROWS];
    sv_pool *pool = sv_pool_new(1);
    for (int r = 0; r < ROWS; r++)
        y_rows[r] = y + (ROWS - 1 - r) * OUT;
    EACH_SET(name)
        for (int32_t n = 1; n <= ROWS; n++) {
            sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = n, .y = plain}, 1);
            memcpy(y, before, sizeof y);
            sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = n, .y = y, .bias = bias, .add = true}, 1);
            for (int i = 0; i < n * OUT; i++)
                assert_true(y[i] == before[i] + (plain[i] + bias[i % OUT]));
            assert_memory_equal(y + n * OUT, before + n * OUT, (size_t)(ROWS - n) * OUT * sizeof *y); /* and nothing past it */
            sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = n, .y_rows = y_rows}, 1);
            for (int r = 0; r < n; r++)
                assert_memory_equal(y_rows[r], plain + r * OUT, OUT * sizeof *y);
        }
    sv_pool_free(pool);
    free((void *)w.data);
}

/* Large enough that the pool takes part. */
enum { WIDE = 1200, DEEP = 512, MANY = 29 };

/* Each row of `alone` was computed by itself on one thread; here in batches of every size, with 1 to 3 threads. */
static void check_company(const sv_tensor *w, const float *x, const float *alone)
{
    int64_t n_in = w->dims[0], n_out = w->dims[1];
    SV_AUTO(sv_freep) float *y = sv_xcalloc((size_t)(MANY * n_out), sizeof *y);
    for (size_t t = 0; t < SV_LEN(thread_counts); t++) {
        sv_pool *pool = sv_pool_new(thread_counts[t]);
        static const int32_t batches[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 28, MANY};
        for (size_t b = 0; b < SV_LEN(batches); b++) {
            int32_t begin = MANY - batches[b];
            sv_matmul_run(pool, &(sv_matmul){.w = w, .x = x + begin * n_in, .n_rows = batches[b], .y = y}, 1);
            if (memcmp(y, alone + begin * n_out, (size_t)(batches[b] * n_out) * sizeof *y) != 0)
                fail_msg("%s %s: %d rows and %d threads give other bits", sv_kernels_name(), sv_type_get(w->type)->name, batches[b], thread_counts[t]);
        }
        sv_pool_free(pool);
    }
}

static void a_row_gives_the_same_bits_alone_and_in_company(void **state)
{
    (void)state;
    for (size_t t = 0; t < 7; t++) { /* those that the kernels unpack themselves */
        int64_t n_in = sv_type_get(types[t])->block == 1 ? 492 : DEEP; /* 492: neither 16 nor 32 divide it */
        sv_tensor w = random_matrix(types[t], n_in, WIDE);
        SV_AUTO(sv_freep) float *x = random_floats((size_t)(MANY * n_in));
        SV_AUTO(sv_freep) float *alone = sv_xcalloc(MANY * WIDE, sizeof *alone);
        SV_AUTO(sv_freep) float *other = NULL;
        EACH_SET(name) {
            sv_pool *one = sv_pool_new(1);
            for (int32_t r = 0; r < MANY; r++)
                sv_matmul_run(one, &(sv_matmul){.w = &w, .x = x + r * n_in, .n_rows = 1, .y = alone + r * WIDE}, 1);
            sv_pool_free(one);
            check_company(&w, x, alone);
            if (strcmp(name, "avx2") == 0) {
                other = sv_xcalloc(MANY * WIDE, sizeof *other);
                memcpy(other, alone, MANY * WIDE * sizeof *other);
            } else if (strcmp(name, "avx512") == 0) {
                assert_memory_equal(alone, other, MANY * WIDE * sizeof *other); /* kernels.h promises it */
            }
        }
        free((void *)w.data);
    }
}

static void several_matrices_in_one_pass_give_the_same_bits(void **state)
{
    (void)state;
    sv_tensor w[3] = {random_matrix(SV_Q4_K, 512, 700), random_matrix(SV_Q6_K, 512, 30), random_matrix(SV_F32, 512, 301)};
    SV_AUTO(sv_freep) float *x = random_floats(7 * 512);
    SV_AUTO(sv_freep) float *apart = random_floats(7 * 1031);
    SV_AUTO(sv_freep) float *together = random_floats(7 * 1031);
    EACH_SET(name)
        for (size_t t = 0; t < SV_LEN(thread_counts); t++) {
            sv_pool *pool = sv_pool_new(thread_counts[t]);
            for (int32_t n = 1; n <= 7; n += 3) {
                sv_matmul ops[3];
                int64_t at = 0;
                for (int i = 0; i < 3; at += 7 * w[i++].dims[1]) {
                    ops[i] = (sv_matmul){.w = &w[i], .x = x, .n_rows = n, .y = together + at};
                    sv_matmul_run(pool, &(sv_matmul){.w = &w[i], .x = x, .n_rows = n, .y = apart + at}, 1);
                }
                sv_matmul_run(pool, ops, 3);
                at = 0;
                for (int i = 0; i < 3; at += 7 * w[i++].dims[1])
                    assert_memory_equal(together + at, apart + at, (size_t)(n * w[i].dims[1]) * sizeof *apart);
            }
            sv_pool_free(pool);
        }
    for (int i = 0; i < 3; i++)
        free((void *)w[i].data);
}

/* Sums that are -0: a zero added to one side and not the other once changed the sign. */
static void sums_of_negative_zeros_keep_their_sign_in_company(void **state)
{
    (void)state;
    enum { N = 16 }; /* all lanes, and half a group of zeros behind */
    float w_data[N], x[2 * N], alone, both[2];
    for (int i = 0; i < N; i++)
        w_data[i] = 1e-30f, x[i] = x[N + i] = -1e-30f; /* products far below the smallest number */
    sv_tensor w = {.name = "w", .type = SV_F32, .n_dims = 2, .dims = {N, 1, 1, 1}, .data = w_data, .n_bytes = sizeof w_data};
    sv_pool *pool = sv_pool_new(1);
    EACH_SET(name) {
        sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = 1, .y = &alone}, 1);
        sv_matmul_run(pool, &(sv_matmul){.w = &w, .x = x, .n_rows = 2, .y = both}, 1);
        assert_memory_equal(&alone, &both[0], sizeof alone);
        assert_memory_equal(&alone, &both[1], sizeof alone);
    }
    sv_pool_free(pool);
}

/* --- norms, positions, activations -------------------------------------------------------------------------------- */

#define RMS_TOLERANCE 1e-5 /* relative; kernels.h */

static void rms_norm_is_right_in_place_and_row_by_row(void **state)
{
    (void)state;
    static const int32_t n_embds[] = {1, 5, 16, 17, 64, 100, 2048, 8192};
    for (size_t i = 0; i < SV_LEN(n_embds); i++) {
        enum { ROWS = 3 };
        int32_t n = n_embds[i];
        SV_AUTO(sv_freep) float *x = random_floats((size_t)(ROWS * n));
        SV_AUTO(sv_freep) float *w = random_floats((size_t)n);
        SV_AUTO(sv_freep) float *y = random_floats((size_t)(ROWS * n));
        SV_AUTO(sv_freep) float *alone = random_floats((size_t)n);
        sv_rms_norm(y, x, w, ROWS, n, 1e-5f);
        for (int32_t r = 0; r < ROWS; r++) {
            double squares = 0;
            for (int32_t k = 0; k < n; k++)
                squares += (double)x[r * n + k] * (double)x[r * n + k];
            double root = sqrt(squares / n + (double)1e-5f);
            for (int32_t k = 0; k < n; k++) {
                double want = (double)x[r * n + k] / root * (double)w[k];
                assert_true(fabs((double)y[r * n + k] - want) <= RMS_TOLERANCE * fabs(want));
            }
            sv_rms_norm(alone, x + r * n, w, 1, n, 1e-5f);
            assert_memory_equal(alone, y + r * n, (size_t)n * sizeof *y);
        }
        sv_rms_norm(x, x, w, ROWS, n, 1e-5f);
        assert_memory_equal(x, y, (size_t)(ROWS * n) * sizeof *y);
    }
    float zero[20] = {0}, w[20], y[20];
    for (int k = 0; k < 20; k++)
        w[k] = 1.0f;
    sv_rms_norm(y, zero, w, 1, 20, 1e-5f);
    for (int k = 0; k < 20; k++)
        assert_true(y[k] == 0.0f);
}

static void layer_norm_is_right_in_place_and_row_by_row(void **state)
{
    (void)state;
    static const int32_t n_embds[] = {1, 5, 16, 17, 100, 2048};
    for (size_t i = 0; i < SV_LEN(n_embds); i++) {
        enum { ROWS = 3 };
        int32_t n = n_embds[i];
        SV_AUTO(sv_freep) float *x = random_floats((size_t)(ROWS * n));
        SV_AUTO(sv_freep) float *w = random_floats((size_t)n);
        SV_AUTO(sv_freep) float *b = random_floats((size_t)n);
        SV_AUTO(sv_freep) float *y = random_floats((size_t)(ROWS * n));
        SV_AUTO(sv_freep) float *alone = random_floats((size_t)n);
        for (int32_t k = 0; k < ROWS * n; k++)
            x[k] += 3.0f; /* a mean beside which the spread is small */
        sv_layer_norm(y, x, w, b, ROWS, n, 1e-5f);
        for (int32_t r = 0; r < ROWS; r++) {
            double mean = 0, squares = 0;
            for (int32_t k = 0; k < n; k++)
                mean += (double)x[r * n + k] / n;
            for (int32_t k = 0; k < n; k++)
                squares += ((double)x[r * n + k] - mean) * ((double)x[r * n + k] - mean);
            double root = sqrt(squares / n + (double)1e-5f);
            for (int32_t k = 0; k < n; k++) {
                double want = ((double)x[r * n + k] - mean) / root * (double)w[k] + (double)b[k];
                assert_true(fabs((double)y[r * n + k] - want) <= RMS_TOLERANCE); /* numbers up to 3 */
            }
            sv_layer_norm(alone, x + r * n, w, b, 1, n, 1e-5f);
            assert_memory_equal(alone, y + r * n, (size_t)n * sizeof *y);
        }
        sv_layer_norm(x, x, w, b, ROWS, n, 1e-5f);
        assert_memory_equal(x, y, (size_t)(ROWS * n) * sizeof *y);
    }
}

static void gelu_is_right_and_the_same_at_every_place(void **state)
{
    (void)state;
    enum { N = 1000 };
    EACH_SET(name) {
        float x[N], y[N], one;
        for (int i = 0; i < N; i++)
            y[i] = x[i] = (float)(i - N / 2) * 0.025f; /* -12.5 to 12.5 */
        sv_gelu_tanh(y, N);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i], want = v / 2 * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
            if (!(fabs((double)y[i] - want) <= 1e-6 * (v >= -5 ? fabs(want) : 1) + 1e-7))
                fail_msg("%s: gelu(%g) is %.9g, wanted %.12g", name, v, (double)y[i], want);
            one = x[i];
            sv_gelu_tanh(&one, 1);
            assert_memory_equal(&one, &y[i], sizeof one);
        }
        float far[] = {1e4f, -1e4f, 1e12f, -1e12f, 0.0f};
        sv_gelu_tanh(far, 5);
        assert_true(fabsf(far[0] / 1e4f - 1) < 1e-6f && fabsf(far[1]) < 1e-30f && fabsf(far[2] / 1e12f - 1) < 1e-6f && fabsf(far[3]) < 1e-20f && far[4] == 0.0f);
    }
}

static void rope_turns_pairs_by_their_position(void **state)
{
    (void)state;
    enum { HEADS = 3, DIM = 24, ROT = 16 }; /* the last 8 of a head do not turn */
    static const int32_t positions[] = {0, 1, 2, 100, 4095, 131071, (1 << 24) - 1};
    double freqs[ROT / 2];
    for (int i = 0; i < ROT / 2; i++)
        freqs[i] = pow(10000.0, -2.0 * i / ROT);
    for (size_t p = 0; p < SV_LEN(positions); p++) {
        float table[ROT];
        SV_AUTO(sv_freep) float *x = random_floats(HEADS * DIM);
        float before[HEADS * DIM];
        memcpy(before, x, sizeof before);
        sv_rope_table(table, freqs, 1.0, ROT / 2, positions[p]);
        sv_rope(x, table, ROT / 2, HEADS, DIM);
        for (int h = 0; h < HEADS; h++) {
            for (int i = 0; i < ROT / 2; i++) {
                long double angle = (long double)(positions[p] * freqs[i]); /* the product rounds as the table's does */
                double c = (double)cosl(angle), s = (double)sinl(angle), a = (double)before[h * DIM + 2 * i], b = (double)before[h * DIM + 2 * i + 1];
                double limit = 4 * 0x1p-24 * (fabs(a) + fabs(b)); /* two products of a rounded factor, one sum */
                assert_true(fabs((double)x[h * DIM + 2 * i] - (a * c - b * s)) <= limit);
                assert_true(fabs((double)x[h * DIM + 2 * i + 1] - (a * s + b * c)) <= limit);
            }
            assert_memory_equal(x + h * DIM + ROT, before + h * DIM + ROT, (DIM - ROT) * sizeof *x);
        }
        if (positions[p] == 0)
            assert_memory_equal(x, before, sizeof before);
    }
}

#define SWIGLU_TOLERANCE 3e-7 /* relative, for |gate| <= 87 (seen: 1.7e-7); beyond that exp is clamped and 1e-35 is left of anything */

static void rope_in_halves_turns_the_same_pairs(void **state)
{
    (void)state;
    enum { HEADS = 2, DIM = 12, ROT = 8 };
    float table[ROT], twice[ROT], x[HEADS * DIM], y[HEADS * DIM];
    const double freqs[ROT / 2] = {1.0, 0.3, 0.01, 0.002};
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < DIM; i++) { /* number i of the pairs side by side is at place of(i) in halves */
            int of = i >= ROT ? i : i / 2 + i % 2 * ROT / 2;
            x[h * DIM + i] = y[h * DIM + of] = rng_float();
        }
    sv_rope_table(table, freqs, 1.0, ROT / 2, 1234);
    sv_rope_table(twice, freqs, 2.0, ROT / 2, 1234);
    sv_rope(x, table, ROT / 2, HEADS, DIM);
    sv_rope_halves(y, table, ROT / 2, HEADS, DIM);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < DIM; i++)
            assert_true(x[h * DIM + i] == y[h * DIM + (i >= ROT ? i : i / 2 + i % 2 * ROT / 2)]);
    for (int i = 0; i < ROT; i++)
        assert_true(twice[i] == 2 * table[i]);
}

static void swiglu_is_right_for_every_length_and_place(void **state)
{
    (void)state;
    enum { N = 8000 };
    SV_AUTO(sv_freep) float *gate = random_floats(N);
    SV_AUTO(sv_freep) float *up = random_floats(N);
    SV_AUTO(sv_freep) float *y = random_floats(N);
    for (int i = 0; i < N; i++)
        gate[i] = i % 4 == 0 ? gate[i] : i % 4 == 1 ? gate[i] * 87.0f : gate[i] * 10.0f;
    EACH_SET(name) {
        double worst = 0;
        sv_swiglu(y, gate, up, N);
        for (int i = 0; i < N; i++) {
            double g = (double)gate[i], want = g / (1.0 + exp(-g)) * (double)up[i], off = fabs((double)y[i] - want) / fabs(want);
            worst = off > worst ? off : worst;
        }
        if (!(worst <= SWIGLU_TOLERANCE))
            fail_msg("%s: off by %g", name, worst);
        for (int n = 1; n < 70; n++) { /* an element's place changes nothing */
            float part[71];
            part[n] = 42.0f;
            sv_swiglu(part, gate + n, up + n, n);
            assert_memory_equal(part, y + n, (size_t)n * sizeof *part);
            assert_true(part[n] == 42.0f);
        }
        SV_AUTO(sv_freep) float *in_place = random_floats(N);
        memcpy(in_place, gate, N * sizeof *gate);
        sv_swiglu(in_place, in_place, up, N);
        assert_memory_equal(in_place, y, N * sizeof *y);
    }
}

static void swiglu_has_no_holes_at_the_ends(void **state)
{
    (void)state;
    static const float g[] = {0.0f, -0.0f, 88.0f, -88.0f, 89.0f, -89.0f, 1e4f, -1e4f, 3e38f, 1e-40f, -1e-40f};
    EACH_SET(name)
        for (size_t i = 0; i < SV_LEN(g); i++) {
            float y, up = 1.0f;
            sv_swiglu(&y, &g[i], &up, 1);
            double d = (double)g[i], want = d / (1.0 + exp(-d));
            assert_true(fabs((double)y - want) <= SWIGLU_TOLERANCE * fabs(want) + 1e-33);
        }
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

typedef struct heads { int32_t n_head, n_head_kv, head_dim, window; } heads;
static const heads head_kinds[] = {{4, 4, 8, 0},  {8, 2, 64, 0}, {6, 2, 20, 0}, {8, 4, 8, 0},  {20, 1, 48, 0}, {2, 1, 128, 0},
                                   {1, 1, 1, 0}, {8, 2, 16, 5}, {4, 4, 8, 32}, {6, 2, 20, 33}, {3, 1, 8, 1},   {16, 1, 24, 50}};

/* A sequence of n positions: queries, keys and values, and its cache. Memory that nobody wrote is not-a-number, so that reading it
 * shows. */
typedef struct seq {
    int32_t n;
    float *q, *k, *v;
    void *pages[16];
} seq;

static sv_kv_layout second_layer(heads h)
{
    size_t at = sv_kv_layer_floats(h.n_head_kv, h.head_dim);
    return (sv_kv_layout){h.n_head_kv, h.head_dim, at, at + (size_t)(h.n_head_kv * h.head_dim) * SV_KV_PAGE};
}

static seq seq_new(heads h, int32_t n)
{
    seq s = {.n = n, .q = random_floats((size_t)(n * h.n_head * h.head_dim)), .k = random_floats((size_t)(n * h.n_head_kv * h.head_dim)),
             .v = random_floats((size_t)(n * h.n_head_kv * h.head_dim))};
    size_t page_bytes = 2 * sv_kv_layer_floats(h.n_head_kv, h.head_dim) * sizeof(float);
    for (int32_t p = 0; p <= (n - 1) / SV_KV_PAGE; p++) {
        s.pages[p] = malloc(page_bytes);
        memset(s.pages[p], 0xff, page_bytes);
    }
    return s;
}

static void seq_write(seq *s, heads h, int32_t begin, int32_t end)
{
    sv_kv_layout kv = second_layer(h);
    for (int32_t pos = begin; pos < end; pos++)
        sv_kv_write(&kv, s->pages[pos / SV_KV_PAGE], pos % SV_KV_PAGE, s->k + pos * h.n_head_kv * h.head_dim, s->v + pos * h.n_head_kv * h.head_dim);
}

static void seq_done(seq *s)
{
    free(s->q), free(s->k), free(s->v);
    for (int p = 0; p < 16; p++)
        free(s->pages[p]);
}

static float scale_of(heads h)
{
    return 1.0f / sqrtf((float)h.head_dim);
}

/* Attention of each position by itself as it is written, one row a call and one thread: what all other ways must equal. */
static float *decode_all(seq *s, heads h)
{
    size_t row = (size_t)(h.n_head * h.head_dim);
    float *out = sv_xcalloc((size_t)s->n * row, sizeof *out);
    sv_pool *pool = sv_pool_new(1);
    for (int32_t pos = 0; pos < s->n; pos++) {
        seq_write(s, h, pos, pos + 1);
        sv_attn_chunk c = {.pages = s->pages, .pos = pos, .n_rows = 1};
        sv_attention(pool, &(sv_attn){.q = s->q + (size_t)pos * row, .out = out + (size_t)pos * row, .n_head = h.n_head, .window = h.window, .scale = scale_of(h),
                                      .kv = second_layer(h), .chunks = &c, .n_chunks = 1});
    }
    sv_pool_free(pool);
    return out;
}

/* Softmax weights sum to 1 and values are below 1. A weight is off by exp's own 2e-7 and by the rounding of its score and of the
 * sums; seen: 4e-7. */
#define ATTENTION_TOLERANCE 3e-6

static void check_attention(const seq *s, heads h, const float *out)
{
    for (int32_t pos = 0; pos < s->n; pos++)
        for (int32_t head = 0; head < h.n_head; head++) {
            int32_t first = h.window && pos >= h.window ? pos + 1 - h.window : 0, kv = head / (h.n_head / h.n_head_kv);
            const float *q = s->q + (pos * h.n_head + head) * h.head_dim;
            double weights[512], max = -INFINITY, sum = 0;
            for (int32_t j = first; j <= pos; j++) {
                weights[j] = 0;
                for (int32_t d = 0; d < h.head_dim; d++)
                    weights[j] += (double)q[d] * (double)s->k[(j * h.n_head_kv + kv) * h.head_dim + d];
                weights[j] *= (double)scale_of(h);
                max = fmax(max, weights[j]);
            }
            for (int32_t j = first; j <= pos; j++)
                sum += weights[j] = exp(weights[j] - max);
            for (int32_t d = 0; d < h.head_dim; d++) {
                double want = 0;
                for (int32_t j = first; j <= pos; j++)
                    want += weights[j] / sum * (double)s->v[(j * h.n_head_kv + kv) * h.head_dim + d];
                double got = (double)out[(pos * h.n_head + head) * h.head_dim + d];
                if (!(fabs(got - want) <= ATTENTION_TOLERANCE))
                    fail_msg("%s: %d/%d heads of %d, window %d, position %d: %.9g, wanted %.12g", sv_kernels_name(), h.n_head, h.n_head_kv, h.head_dim,
                             h.window, pos, got, want);
            }
        }
}

static void a_page_is_written_whole(void **state) /* padding too: equal tokens give equal pages */
{
    (void)state;
    for (size_t i = 0; i < SV_LEN(head_kinds); i++) {
        heads h = head_kinds[i];
        seq s = seq_new(h, SV_KV_PAGE);
        size_t layer = sv_kv_layer_floats(h.n_head_kv, h.head_dim);
        SV_AUTO(sv_freep) float *other = sv_xcalloc(2 * layer, sizeof *other);
        seq_write(&s, h, 0, SV_KV_PAGE);
        for (size_t j = 0; j < layer; j++) /* the layer before it is not touched */
            assert_true(isnan(((float *)s.pages[0])[j]));
        void *first = s.pages[0];
        s.pages[0] = other;
        seq_write(&s, h, 0, SV_KV_PAGE);
        s.pages[0] = first;
        assert_memory_equal((float *)first + layer, other + layer, layer * sizeof *other);
        seq_done(&s);
    }
}

static void attention_is_right_for_every_kind_of_head(void **state)
{
    (void)state;
    for (size_t i = 0; i < SV_LEN(head_kinds); i++) {
        seq s = seq_new(head_kinds[i], 100);
        float *last = NULL;
        EACH_SET(name) {
            float *out = decode_all(&s, head_kinds[i]);
            check_attention(&s, head_kinds[i], out);
            if (strcmp(name, "avx512") == 0)
                assert_memory_equal(out, last, (size_t)(s.n * head_kinds[i].n_head * head_kinds[i].head_dim) * sizeof *out);
            free(last);
            last = out;
        }
        free(last);
        seq_done(&s);
    }
}

static void sharp_attention_finds_its_position(void **state)
{
    (void)state;
    heads h = {2, 1, 16, 0};
    seq s = seq_new(h, 90);
    for (int i = 0; i < s.n * 2 * 16; i++)
        s.q[i] *= 1000.0f; /* scores of hundreds: one weight is 1, exp of the others underflows */
    EACH_SET(name) {
        float *out = decode_all(&s, h);
        for (int i = 0; i < s.n * 2 * 16; i++)
            assert_true(out[i] >= -1.0f && out[i] <= 1.0f);
        int32_t best = 0;
        double best_score = -INFINITY;
        for (int32_t j = 0; j < s.n; j++) {
            double score = 0;
            for (int d = 0; d < 16; d++)
                score += (double)s.q[(s.n - 1) * 32 + d] * (double)s.k[j * 16 + d];
            if (score > best_score)
                best = j, best_score = score;
        }
        for (int d = 0; d < 16; d++)
            assert_true(fabs((double)out[(s.n - 1) * 32 + d] - (double)s.v[best * 16 + d]) <= ATTENTION_TOLERANCE);
        free(out);
    }
    seq_done(&s);
}

/* Four sequences at once, cut into chunks of `cut` rows a step. */
static void check_attention_company(seq *seqs, float *const *alone, heads h, int32_t cut, int n_threads)
{
    size_t row = (size_t)(h.n_head * h.head_dim);
    sv_pool *pool = sv_pool_new(n_threads);
    for (int32_t begin = 0; begin < seqs[0].n; begin += cut) {
        sv_attn_chunk chunks[4];
        int32_t n_chunks = 0, n_rows = 0, which[4];
        SV_AUTO(sv_freep) float *q = sv_xcalloc(4 * (size_t)cut * row, sizeof *q);
        SV_AUTO(sv_freep) float *out = sv_xcalloc(4 * (size_t)cut * row, sizeof *out);
        for (int i = 0; i < 4; i++) {
            int32_t n = seqs[i].n - begin < cut ? seqs[i].n - begin : cut;
            if (n <= 0)
                continue;
            seq_write(&seqs[i], h, begin, begin + n); /* all rows of the step first, as a model does */
            memcpy(q + (size_t)n_rows * row, seqs[i].q + (size_t)begin * row, (size_t)n * row * sizeof *q);
            which[n_chunks] = i;
            chunks[n_chunks++] = (sv_attn_chunk){.pages = seqs[i].pages, .pos = begin, .n_rows = n, .row = n_rows};
            n_rows += n;
        }
        sv_attention(pool, &(sv_attn){.q = q, .out = out, .n_head = h.n_head, .window = h.window, .scale = scale_of(h), .kv = second_layer(h), .chunks = chunks, .n_chunks = n_chunks});
        for (int32_t c = 0; c < n_chunks; c++)
            if (memcmp(out + (size_t)chunks[c].row * row, alone[which[c]] + (size_t)begin * row, (size_t)chunks[c].n_rows * row * sizeof *out) != 0)
                fail_msg("%s: %d/%d heads of %d, chunks of %d, %d threads: other bits at %d", sv_kernels_name(), h.n_head, h.n_head_kv, h.head_dim, cut, n_threads, begin);
    }
    sv_pool_free(pool);
}

static void attention_gives_the_same_bits_however_prompts_are_cut_and_batched(void **state)
{
    (void)state;
    static const int32_t cuts[] = {1, 3, 8, 31, 32, 33, 200}, lengths[] = {200, 33, 1, 64};
    for (size_t i = 0; i < SV_LEN(head_kinds); i++)
        EACH_SET(name) {
            heads h = head_kinds[i];
            seq seqs[4];
            float *alone[4];
            for (int s = 0; s < 4; s++) {
                seqs[s] = seq_new(h, lengths[s]);
                alone[s] = decode_all(&seqs[s], h);
            }
            for (size_t c = 0; c < SV_LEN(cuts); c++)
                for (size_t t = 0; t < SV_LEN(thread_counts); t++)
                    check_attention_company(seqs, alone, h, cuts[c], thread_counts[t]);
            for (int s = 0; s < 4; s++) {
                free(alone[s]);
                seq_done(&seqs[s]);
            }
        }
}

static void the_exact_gelu_is_right(void **state)
{
    (void)state;
    for (double v = -12; v <= 12; v += 0.0037) {
        float x = (float)v;
        double want = 0.5 * (double)x * (1 + erf((double)x / sqrt(2)));
        sv_gelu_erf(&x, 1);
        if (!(fabs((double)x - want) <= 1e-6 * (fabs(want) > 1 ? fabs(want) : 1)))
            fail_msg("gelu(%g) is %.9g, wanted %.12g", v, (double)x, want);
    }
    float far[4] = {-1e30f, -100, 100, 1e30f};
    sv_gelu_erf(far, 4);
    assert_true(far[0] == 0 && far[1] == 0 && far[2] == 100 && far[3] == 1e30f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_set_is_chosen_and_others_by_name),
        cmocka_unit_test(matmul_is_right_for_every_type_and_shape),
        cmocka_unit_test(weights_are_exactly_what_dequantize_gives),
        cmocka_unit_test(the_longest_row_is_right),
        cmocka_unit_test(bias_addition_and_scattered_rows_are_right),
        cmocka_unit_test(a_row_gives_the_same_bits_alone_and_in_company),
        cmocka_unit_test(several_matrices_in_one_pass_give_the_same_bits),
        cmocka_unit_test(sums_of_negative_zeros_keep_their_sign_in_company),
        cmocka_unit_test(rms_norm_is_right_in_place_and_row_by_row),
        cmocka_unit_test(layer_norm_is_right_in_place_and_row_by_row),
        cmocka_unit_test(gelu_is_right_and_the_same_at_every_place),
        cmocka_unit_test(the_exact_gelu_is_right),
        cmocka_unit_test(rope_turns_pairs_by_their_position),
        cmocka_unit_test(rope_in_halves_turns_the_same_pairs),
        cmocka_unit_test(swiglu_is_right_for_every_length_and_place),
        cmocka_unit_test(swiglu_has_no_holes_at_the_ends),
        cmocka_unit_test(a_page_is_written_whole),
        cmocka_unit_test(attention_is_right_for_every_kind_of_head),
        cmocka_unit_test(sharp_attention_finds_its_position),
        cmocka_unit_test(attention_gives_the_same_bits_however_prompts_are_cut_and_batched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
