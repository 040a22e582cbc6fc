/* reference_testing.h - for tests: every element type again, as its definition reads and in float64
 *
 * One function gives element i of a block. It looks bits up by their place instead of unpacking in the order of the bytes, so that it
 * shares no mistake with tensor.c. Beside the value it gives the size of its terms, which bounds what float32 may lose. */
#ifndef SV_NN_REFERENCE_TESTING_H
#define SV_NN_REFERENCE_TESTING_H

#include <math.h>
#include <stdlib.h>

#include "nn/codebooks/codebooks.h"
#include "nn/tensor.h"

/* --- random numbers: xorshift64*, fixed seed, so that a failure repeats ------------------------------------------- */

static uint64_t rng_state = 0x9e3779b97f4a7c15u;

static inline uint64_t rng(void)
{
    rng_state ^= rng_state >> 12;
    rng_state ^= rng_state << 25;
    rng_state ^= rng_state >> 27;
    return rng_state * 0x2545f4914f6cdd1du;
}

static inline float rng_float(void) /* [-1, 1) */
{
    return (float)((double)(rng() >> 11) * 0x1p-52 - 1.0);
}

/* --- values ------------------------------------------------------------------------------------------------------- */

typedef struct ref_value { double v, size; } ref_value; /* size: the sum of the terms' magnitudes */

static inline unsigned ref_bits(const uint8_t *p, unsigned at, unsigned n)
{
    unsigned v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (unsigned)(p[(at + i) / 8] >> (at + i) % 8 & 1) << i;
    return v;
}

static inline double ref_half(const uint8_t *p)
{
    unsigned m = ref_bits(p, 0, 10), e = ref_bits(p, 10, 5);
    double sign = ref_bits(p, 15, 1) ? -1.0 : 1.0;
    if (e == 31)
        return m ? NAN : sign * INFINITY;
    return sign * (e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25));
}

static inline double ref_bf16(const uint8_t *p)
{
    unsigned m = ref_bits(p, 0, 7), e = ref_bits(p, 7, 8);
    double sign = ref_bits(p, 15, 1) ? -1.0 : 1.0;
    if (e == 255)
        return m ? NAN : sign * INFINITY;
    return sign * (e == 0 ? ldexp(m, -133) : ldexp(128 + m, (int)e - 134));
}

static inline double ref_f32(const uint8_t *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return (double)f;
}

static inline ref_value ref_product(double v)
{
    return (ref_value){v, fabs(v)};
}

static inline ref_value ref_affine(double a, double b)
{
    return (ref_value){a + b, fabs(a) + fabs(b)};
}

/* Nibble i of 32 in 16 bytes: the low ones first. */
static inline unsigned ref_nibble(const uint8_t *p, int i)
{
    return ref_bits(p + i % 16, i < 16 ? 0 : 4, 4);
}

/* Crumb i of 256: 32 bytes hold 128 values, four to a byte, 32 apart. */
static inline unsigned ref_crumb(const uint8_t *p, int i)
{
    return ref_bits(p + i / 128 * 32 + i % 32, (unsigned)(i / 32 % 4 * 2), 2);
}

/* Nibble i of 256 in Q4_K and Q5_K: 32 bytes hold 64 values, two to a byte, 32 apart. */
static inline unsigned ref_k_nibble(const uint8_t *p, int i)
{
    return ref_bits(p + i / 64 * 32 + i % 32, (unsigned)(i / 32 % 2 * 4), 4);
}

/* The eight 6-bit scales (first 0) or minimums (first 4) of Q4_K and Q5_K: four whole, four with their upper two bits in the spare
 * bits of the first ones. */
static inline double ref_k_scale(const uint8_t *p, int first, int s)
{
    if (s < 4)
        return ref_bits(p + first + s, 0, 6);
    return ref_bits(p + 8 + s - 4, first ? 4 : 0, 4) + 16 * ref_bits(p + first + s - 4, 6, 2);
}

static inline double ref_q3_scale(const uint8_t *p, int s)
{
    return (double)ref_bits(p + s % 8, s < 8 ? 0 : 4, 4) + 16 * ref_bits(p + 8 + s % 4, (unsigned)(s / 4 * 2), 2) - 32;
}

static inline double ref_iq4(unsigned q)
{
    static const double t[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return t[q];
}

static inline double ref_e2m1(unsigned q)
{
    static const double t[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return q < 8 ? t[q] : -t[q - 8];
}

static inline double ref_ue4m3(uint8_t s)
{
    unsigned m = s & 7, e = s >> 3 & 15;
    return s == 0x7f ? 0 : e == 0 ? ldexp(m, -9) : ldexp(8 + m, (int)e - 10);
}

/* Digit n of a byte read as a fraction of 256 in base 3. */
static inline double ref_trit(uint8_t byte, int n)
{
    unsigned p = 3;
    for (int i = 0; i < n; i++)
        p *= 3;
    return (double)(byte * p / 256 % 3) - 1;
}

static inline double ref_tq1(const uint8_t *b, int i)
{
    return i < 160 ? ref_trit(b[i % 32], i / 32) : i < 240 ? ref_trit(b[32 + i % 16], (i - 160) / 16) : ref_trit(b[48 + i % 4], (i - 240) / 4);
}

/* Coordinate j of a codebook's point. */
static inline double ref_coordinate(const uint16_t *points, const int8_t *levels, unsigned point, int j, unsigned width)
{
    return levels[ref_bits((const uint8_t *)&points[point], (unsigned)j * width, width)];
}

/* Sign j of 8, of which the file has 7 at bit `at`; the eighth is that of their product. */
static inline double ref_sign7(const uint8_t *p, unsigned at, int j)
{
    double product = 1;
    for (unsigned i = 0; i < 7; i++)
        product *= ref_bits(p, at + i, 1) ? -1 : 1;
    return j == 7 ? product : ref_bits(p, at + (unsigned)j, 1) ? -1 : 1;
}

static inline double ref_nibble_at(const uint8_t *p, int i)
{
    return ref_bits(p, (unsigned)i * 4, 4);
}

/* The codebook types; i counts elements, g groups of 8, f groups of 4. */
static inline ref_value ref_codebook(sv_type type, const uint8_t *b, int i)
{
    int g = i / 8, f = i / 4, sub = i / 32;
    const uint8_t *rest = b + 2 + 8 * sub + 4;
    uint8_t half[2];
    double d = ref_half(b), delta;
    switch (type) {
    case SV_IQ2_XXS:
        return ref_product(d / 4 * (ref_nibble_at(rest, 7) + 0.5) * ref_sign7(rest, (unsigned)(g % 4) * 7, i % 8) *
                           ref_coordinate(sv_iq2_xxs_points, sv_iq2_xxs_levels, b[2 + 8 * sub + g % 4], i % 8, 2));
    case SV_IQ2_XS:
        return ref_product(d / 4 * (ref_nibble_at(b + 66, i / 16) + 0.5) * ref_sign7(b + 2 + 2 * g, 9, i % 8) *
                           ref_coordinate(sv_iq2_xs_points, sv_iq2_xs_levels, ref_bits(b + 2 + 2 * g, 0, 9), i % 8, 2));
    case SV_IQ2_S:
        return ref_product(d / 4 * (ref_nibble_at(b + 74, i / 16) + 0.5) * (ref_bits(b + 34, (unsigned)i, 1) ? -1 : 1) *
                           ref_coordinate(sv_iq2_s_points, sv_iq2_s_levels, b[2 + g] + 256 * ref_bits(b + 66, (unsigned)g * 2, 2), i % 8, 2));
    case SV_IQ3_XXS:
        rest = b + 66 + 4 * sub;
        return ref_product(d / 2 * (ref_nibble_at(rest, 7) + 0.5) * ref_sign7(rest, (unsigned)(g % 4) * 7, i % 8) *
                           ref_coordinate(sv_iq3_xxs_points, sv_iq3_xxs_levels, b[2 + f], i % 4, 3));
    case SV_IQ3_S:
        return ref_product(d * (2 * ref_nibble_at(b + 106, sub) + 1) * (ref_bits(b + 74, (unsigned)i, 1) ? -1 : 1) *
                           ref_coordinate(sv_iq3_s_points, sv_iq3_s_levels, b[2 + f] + 256 * ref_bits(b + 66, (unsigned)f, 1), i % 4, 3));
    case SV_IQ1_S:
        rest = b + 34 + 2 * sub;
        delta = ref_bits(rest, 15, 1) ? -0.125 : 0.125;
        return ref_product(d * (2 * (double)ref_bits(rest, 12, 3) + 1) *
                           (ref_coordinate(sv_iq1_s_points, sv_iq1_s_levels, b[2 + g] + 256 * ref_bits(rest, (unsigned)(g % 4) * 3, 3), i % 8, 2) + delta));
    case SV_IQ1_M:
        half[0] = (uint8_t)(ref_bits(b + 48, 12, 4) | ref_bits(b + 48, 28, 4) << 4);
        half[1] = (uint8_t)(ref_bits(b + 48, 44, 4) | ref_bits(b + 48, 60, 4) << 4);
        delta = ref_bits(b + 32, (unsigned)g * 4 + 3, 1) ? -0.125 : 0.125;
        return ref_product(ref_half(half) * (2 * (double)ref_bits(b + 48 + i / 64 * 2, (unsigned)(i / 16 % 4) * 3, 3) + 1) *
                           (ref_coordinate(sv_iq1_s_points, sv_iq1_s_levels, b[g] + 256 * ref_bits(b + 32, (unsigned)g * 4, 3), i % 8, 2) + delta));
    default: abort();
    }
}

/* Element i of a block. */
static inline ref_value ref_element(sv_type type, const uint8_t *b, int i)
{
    int h = i / 128, quarter = i / 32 % 4;
    switch (type) {
    case SV_F32: return ref_product(ref_f32(b));
    case SV_F16: return ref_product(ref_half(b));
    case SV_BF16: return ref_product(ref_bf16(b));
    case SV_Q8_0: return ref_product(ref_half(b) * (int8_t)b[2 + i]);
    case SV_Q4_0: return ref_product(ref_half(b) * ((double)ref_nibble(b + 2, i) - 8));
    case SV_Q4_1: return ref_affine(ref_half(b) * ref_nibble(b + 4, i), ref_half(b + 2));
    case SV_Q5_0: return ref_product(ref_half(b) * ((double)ref_nibble(b + 6, i) + 16 * ref_bits(b + 2, (unsigned)i, 1) - 16));
    case SV_Q5_1: return ref_affine(ref_half(b) * (ref_nibble(b + 8, i) + 16 * ref_bits(b + 4, (unsigned)i, 1)), ref_half(b + 2));
    case SV_Q2_K:
        return ref_affine(ref_half(b + 80) * ref_bits(b + i / 16, 0, 4) * ref_crumb(b + 16, i), -ref_half(b + 82) * ref_bits(b + i / 16, 4, 4));
    case SV_Q3_K:
        return ref_product(ref_half(b + 108) * ref_q3_scale(b + 96, i / 16) *
                           ((double)ref_crumb(b + 32, i) + 4 * ref_bits(b + i % 32, (unsigned)(i / 32), 1) - 4));
    case SV_Q4_K:
        return ref_affine(ref_half(b) * ref_k_scale(b + 4, 0, i / 32) * ref_k_nibble(b + 16, i), -ref_half(b + 2) * ref_k_scale(b + 4, 4, i / 32));
    case SV_Q5_K:
        return ref_affine(ref_half(b) * ref_k_scale(b + 4, 0, i / 32) * (ref_k_nibble(b + 48, i) + 16 * ref_bits(b + 16 + i % 32, (unsigned)(i / 32), 1)),
                          -ref_half(b + 2) * ref_k_scale(b + 4, 4, i / 32));
    case SV_Q6_K:
        return ref_product(ref_half(b + 208) * (int8_t)b[192 + i / 16] *
                           ((double)ref_bits(b + 64 * h + i % 64, quarter < 2 ? 0 : 4, 4) + 16 * ref_bits(b + 128 + 32 * h + i % 32, (unsigned)(2 * quarter), 2) - 32));
    case SV_IQ4_NL: return ref_product(ref_half(b) * ref_iq4(ref_nibble(b + 2, i)));
    case SV_IQ4_XS:
        return ref_product(ref_half(b) * ((double)ref_bits(b + 4, (unsigned)(i / 32 * 4), 4) + 16 * ref_bits(b + 2, (unsigned)(i / 32 * 2), 2) - 32) *
                           ref_iq4(ref_nibble(b + 8 + i / 32 * 16, i % 32)));
    case SV_TQ1_0: return ref_product(ref_half(b + 52) * ref_tq1(b, i));
    case SV_TQ2_0: return ref_product(ref_half(b + 64) * ((double)ref_crumb(b, i) - 1));
    case SV_MXFP4: return ref_product(ldexp(1.0, b[0] - 127) * ref_e2m1(ref_nibble(b + 1, i)));
    case SV_NVFP4: return ref_product(ref_ue4m3(b[i / 16]) * ref_e2m1(ref_bits(b + 4 + i / 16 * 8 + i % 8, i % 16 < 8 ? 0 : 4, 4)));
    default: return ref_codebook(type, b, i);
    }
}

/* Element i of a row of blocks. */
static inline ref_value ref_at(sv_type type, const void *row, int64_t i)
{
    const sv_type_info *t = sv_type_get(type);
    return ref_element(type, (const uint8_t *)row + i / t->block * t->block_bytes, (int)(i % t->block));
}

/* --- random blocks ------------------------------------------------------------------------------------------------ */

static inline void ref_put_half(uint8_t *p, unsigned e_min, unsigned e_max)
{
    uint16_t h = (uint16_t)((rng() & 0x83ff) | (e_min + rng() % (e_max - e_min + 1)) << 10);
    memcpy(p, &h, sizeof h);
}

/* Any bits, but scales that are finite: of float16 exponents e_min to e_max. */
static inline void ref_random_block(sv_type type, uint8_t *b, unsigned e_min, unsigned e_max)
{
    static const int scale_at[SV_N_TYPES][2] = { /* -1: no second one */
        [SV_F16] = {0, -1}, [SV_Q4_0] = {0, -1}, [SV_Q4_1] = {0, 2}, [SV_Q5_0] = {0, -1}, [SV_Q5_1] = {0, 2}, [SV_Q8_0] = {0, -1},
        [SV_Q2_K] = {80, 82}, [SV_Q3_K] = {108, -1}, [SV_Q4_K] = {0, 2}, [SV_Q5_K] = {0, 2}, [SV_Q6_K] = {208, -1},
        [SV_IQ4_NL] = {0, -1}, [SV_IQ4_XS] = {0, -1}, [SV_TQ1_0] = {52, -1}, [SV_TQ2_0] = {64, -1},
        [SV_IQ2_XXS] = {0, -1}, [SV_IQ2_XS] = {0, -1}, [SV_IQ2_S] = {0, -1}, [SV_IQ3_XXS] = {0, -1}, [SV_IQ3_S] = {0, -1},
        [SV_IQ1_S] = {0, -1},
    };
    for (int32_t i = 0; i < sv_type_get(type)->block_bytes; i++)
        b[i] = (uint8_t)(rng() >> 32);
    if (type == SV_F32 || type == SV_BF16) {
        float f = rng_float();
        memcpy(b, (uint8_t *)&f + (type == SV_BF16 ? 2 : 0), type == SV_BF16 ? 2 : 4);
    } else if (type == SV_MXFP4) {
        b[0] = (uint8_t)(112 + e_min + rng() % (e_max - e_min + 1));
    } else if (type == SV_NVFP4) {
        for (int s = 0; s < 4; s++)
            b[s] &= 0x7f;
    } else if (type == SV_IQ1_M) { /* the scale lies in four upper nibbles */
        uint8_t h[2];
        ref_put_half(h, e_min, e_max);
        for (int s = 0; s < 4; s++)
            b[48 + 2 * s + 1] = (uint8_t)((b[48 + 2 * s + 1] & 15) | ref_bits(h, (unsigned)s * 4, 4) << 4);
    } else {
        for (int s = 0; s < 2; s++)
            if (scale_at[type][s] >= 0)
                ref_put_half(b + scale_at[type][s], e_min, e_max);
    }
}

/* n elements. */
static inline void ref_random_row(sv_type type, void *row, int64_t n, unsigned e_min, unsigned e_max)
{
    const sv_type_info *t = sv_type_get(type);
    for (int64_t i = 0; i < n / t->block; i++)
        ref_random_block(type, (uint8_t *)row + i * t->block_bytes, e_min, e_max);
}

#endif
