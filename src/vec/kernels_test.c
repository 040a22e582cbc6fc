/* The kernels of every set this CPU has, against float64 and whole-number loops of this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "vec/kernels.h"

static const char *const names[] = {"portable", "avx2", "avx512", "avx512-vnni"};
static const int32_t lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 255, 257, 384, 768, 1000, 1536, 4096};

static uint64_t seed = 1;
static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static float uniform(void) /* -1 to 1 */
{
    return (float)((double)(int64_t)next() / 9.3e18);
}

static void floats_agree_with_float64(void **state)
{
    (void)state;
    static float a[4096], b[4096];
    for (size_t s = 0; s < SV_LEN(names); s++) {
        if (!sv_vec_kernels_select(names[s]))
            continue;
        const sv_vec_kernels *k = sv_vec_kernels_get();
        assert_string_equal(k->name, names[s]);
        for (size_t l = 0; l < SV_LEN(lengths); l++) {
            int32_t n = lengths[l];
            double dot = 0, l2 = 0, size = 1e-30;
            for (int32_t i = 0; i < n; i++) {
                a[i] = uniform() * 10;
                b[i] = uniform();
                dot += (double)a[i] * b[i];
                size += fabs((double)a[i] * b[i]);
                l2 += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            }
            /* float32 sums in at least 8 lanes: 512 roundings of at most 6e-8 of what was summed */
            assert_true(fabs(k->dot(a, b, n) - dot) <= 3e-6 * size);
            assert_true(fabs(k->l2(a, b, n) - l2) <= 3e-6 * l2);
        }
    }
    sv_vec_kernels_select(NULL);
}

static void codes_are_exact_also_at_the_extremes(void **state)
{
    (void)state;
    static uint8_t c[4096 + 3];
    static int8_t q[4096 + 3];
    for (size_t s = 0; s < SV_LEN(names); s++) {
        if (!sv_vec_kernels_select(names[s]))
            continue;
        for (size_t l = 0; l < SV_LEN(lengths); l++)
            for (int kind = 0; kind < 4; kind++) {
                int32_t n = lengths[l], want = 0;
                for (int32_t i = 0; i < n; i++) {
                    c[3 + i] = kind == 0 ? (uint8_t)next() : kind == 3 ? 0 : 255;
                    q[1 + i] = kind == 0 ? (int8_t)next() : kind == 1 ? 127 : -128;
                    want += (int32_t)c[3 + i] * q[1 + i];
                }
                assert_int_equal(sv_vec_kernels_get()->dot_codes(c + 3, q + 1, n), want);
                want = 0;
                for (int32_t i = 0; i < n; i++)
                    want += ((int32_t)c[3 + i] - 128) * ((int32_t)(uint8_t)q[1 + i] - 128);
                assert_int_equal(sv_vec_kernels_get()->dot_pair(c + 3, (const uint8_t *)q + 1, n), want);
            }
    }
    sv_vec_kernels_select(NULL);
}

enum { BLOCKS = 13, SLOTS = BLOCKS * SV_VEC_BLOCK };

/* Bit by bit: sign of the vector times the query's whole number. */
static double estimate(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t slot)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < b->n_words * 64; i++) {
        int64_t number = 0;
        for (int j = 0; j < SV_VEC_PLANES; j++)
            number += (q->planes[i / 64 * SV_VEC_PLANES + j] >> i % 64 & 1 ? 1 : -1) * (1 << j);
        uint64_t word = b->words[(slot / 8 * (size_t)b->n_words + (size_t)i / 64) * 8 + slot % 8];
        sum += word >> i % 64 & 1 ? number : -number;
    }
    return (double)sum * q->unit * b->scale[slot] + b->bias[slot];
}

static void sign_bits_estimate_what_their_definition_says(void **state)
{
    (void)state;
    static const int32_t counts[] = {1, 2, 3, 12, 24, 31, 32, 33, 64};
    static uint64_t words[SLOTS * SV_VEC_MAX_WORDS] __attribute__((aligned(64)));
    static uint64_t planes[SV_VEC_MAX_WORDS * SV_VEC_PLANES];
    float scale[SLOTS], bias[SLOTS], estimates[SLOTS];
    uint8_t allow[BLOCKS];
    uint32_t slots[SLOTS];
    for (size_t c = 0; c < SV_LEN(counts); c++) {
        sv_vec_bits b = {words, scale, bias, counts[c]};
        sv_vec_bit_query q = {planes, 0.01f, 15 * 64 * counts[c]};
        for (size_t i = 0; i < (size_t)SLOTS * (size_t)counts[c]; i++)
            words[i] = next();
        for (size_t i = 0; i < (size_t)SV_VEC_PLANES * (size_t)counts[c]; i++)
            planes[i] = c == 4 ? ~words[0] : next();
        for (size_t i = 0; i < SLOTS; i++)
            scale[i] = 1 + uniform() / 2, bias[i] = uniform();
        for (size_t i = 0; i < BLOCKS; i++)
            allow[i] = i % 4 == 1 ? 0 : (uint8_t)next();
        for (size_t s = 0; s < SV_LEN(names); s++) {
            if (!sv_vec_kernels_select(names[s]))
                continue;
            for (size_t begin = 0; begin < 3; begin++)
                for (int with_allow = 0; with_allow < 2; with_allow++) {
                    size_t n = sv_vec_kernels_get()->scan_bits(&b, &q, begin, BLOCKS, with_allow ? allow : NULL, 0.2f, slots, estimates), i = 0;
                    for (size_t slot = begin * 8; slot < SLOTS; slot++) {
                        double want = estimate(&b, &q, slot);
                        if (want <= 0.2 || (with_allow && !(allow[slot / 8] >> slot % 8 & 1)))
                            continue;
                        assert_true(i < n && slots[i] == slot && fabs(estimates[i] - want) <= 1e-5 * (1 + fabs(want)));
                        i++;
                    }
                    assert_int_equal(i, n);
                }
        }
    }
    sv_vec_kernels_select(NULL);
}

static void hadamard_is_its_own_inverse_and_matches_the_matrix(void **state)
{
    (void)state;
    float x[64], y[64];
    for (size_t s = 0; s < SV_LEN(names); s++) {
        if (!sv_vec_kernels_select(names[s]))
            continue;
        for (int32_t n = 1; n <= 64; n *= 2) {
            for (int32_t i = 0; i < n; i++)
                x[i] = y[i] = uniform();
            sv_vec_kernels_get()->hadamard(y, n);
            for (int32_t i = 0; i < n; i++) {
                double want = 0;
                for (int32_t j = 0; j < n; j++)
                    want += __builtin_popcount((unsigned)(i & j)) % 2 ? -x[j] : x[j];
                assert_true(fabs(y[i] - want) < 1e-5);
            }
        }
    }
    sv_vec_kernels_select(NULL);
}

static void unknown_sets_are_refused(void **state)
{
    (void)state;
    assert_false(sv_vec_kernels_select("sse9"));
    assert_true(sv_vec_kernels_select(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_agree_with_float64),
        cmocka_unit_test(codes_are_exact_also_at_the_extremes),
        cmocka_unit_test(sign_bits_estimate_what_their_definition_says),
        cmocka_unit_test(hadamard_is_its_own_inverse_and_matches_the_matrix),
        cmocka_unit_test(unknown_sets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
