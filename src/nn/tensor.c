/* tensor.c - what each element type is, and its values as float32
 *
 * A quantised tensor is a row of blocks; a block holds some numbers of few bits and the scales that turn them into values.
 * Every function here takes one block and writes its values, in the plainest form, since this is also the reference that the
 * fast kernels are tested against, bit by bit. Two rules make that possible:
 *   1. Products and sums round where the formula has them: d * scale first, then times q, then minus the minimum. The folder
 *      is compiled without contraction to fused multiply-add.
 *   2. Nothing here depends on alignment: blocks of 18 or 210 bytes lie anywhere. Multi-byte fields go through memcpy.
 *
 * Layouts (h: float16; every block in file order, little-endian):
 *   Q4_0  32   h d, 16 x 2 nibbles (values 0..15 low, 16..31 high)          d * (q - 8)
 *   Q4_1  32   h d, h m, nibbles                                            d * q + m
 *   Q5_0  32   h d, u32 fifth bits, nibbles                                 d * (q - 16)
 *   Q5_1  32   h d, h m, u32 fifth bits, nibbles                            d * q + m
 *   Q8_0  32   h d, 32 x i8                                                 d * q
 *   Q2_K  256  16 x (4-bit scale, 4-bit min), 64 x 4 crumbs, h d, h dmin    d * sc * q - dmin * m
 *   Q3_K  256  32 x third bits, 64 x 4 crumbs, 16 x 6-bit scales, h d       d * (sc - 32) * (q - 4)
 *   Q4_K  256  h d, h dmin, 8 x (6-bit scale, 6-bit min), 128 x 2 nibbles   d * sc * q - dmin * m
 *   Q5_K  256  as Q4_K with 32 bytes of fifth bits before the nibbles
 *   Q6_K  256  128 x 2 nibbles, 64 x 4 upper crumbs, 16 x i8 scale, h d     d * sc * (q - 32)
 *   IQ4_NL 32  h d, nibbles into a table of 16                              d * t[q]
 *   IQ4_XS 256 h d, 8 x 6-bit scales, nibbles into that table               d * (sc - 32) * t[q]
 *   TQ1_0 256  five ternary digits a byte (48 + 4 bytes), h d               d * (q - 1)
 *   TQ2_0 256  64 x 4 crumbs, h d                                           d * (q - 1)
 *   MXFP4 32   u8 exponent, nibbles as 4-bit floats (E2M1)                  2^(e - 127) * t[q]
 *   NVFP4 64   4 x 8-bit float scale (unsigned E4M3), 4 x 16 nibbles as MXFP4
 * The others hold points of a codebook (codebooks/) instead of numbers: p is a coordinate, s its sign.
 *   IQ2_XXS 256 h d, 8 x (4 x u8 point, 4 x 7-bit signs, 4-bit scale)       d * (sc + 1/2) / 4 * s * p    points of 8
 *   IQ2_XS 256  h d, 32 x (9-bit point, 7-bit signs), 16 x 4-bit scale      as above
 *   IQ2_S 256   h d, 32 x u8 point, 32 x u8 signs, 32 x upper 2 bits, 16 x 4-bit scale, as above
 *   IQ3_XXS 256 h d, 64 x u8 point, 8 x (4 x 7-bit signs, 4-bit scale)      d * (sc + 1/2) / 2 * s * p    points of 4
 *   IQ3_S 256   h d, 64 x u8 point, 64 x ninth bit, 32 x u8 signs, 8 x 4-bit scale   d * (2 sc + 1) * s * p
 *   IQ1_S 256   h d, 32 x u8 point, 8 x u16 (4 x upper 3 bits, 3-bit scale, shift)   d * (2 sc + 1) * (p +- 1/8)    points of 8
 *   IQ1_M 256   32 x u8 point, 32 x (upper 3 bits, shift), 4 x u16 (4 x 3-bit scale, a quarter of h d)   as IQ1_S
 * Seven signs stand for eight: the last one makes the number of minuses even.
 * Source: the format as ggml defines it (ggml-common.h, gguf.md). */
#include "nn/tensor.h"

#include "nn/codebooks/codebooks.h"

typedef void (*unpack_fn)(float *y, const uint8_t *b);

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return sv_f16_to_f32(h);
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* --- blocks of 32 ------------------------------------------------------------------------------------------------ */

static void unpack_q4_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static void unpack_q4_1(float *y, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[i + 16] = d * (float)(b[4 + i] >> 4) + m;
    }
}

static int fifth_bit(uint32_t bits, int i)
{
    return (int)(bits >> i & 1) << 4;
}

static void unpack_q5_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    uint32_t high = u32_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(((b[6 + i] & 15) | fifth_bit(high, i)) - 16);
        y[i + 16] = d * (float)(((b[6 + i] >> 4) | fifth_bit(high, i + 16)) - 16);
    }
}

static void unpack_q5_1(float *y, const uint8_t *b)
{
    float d = half_at(b), m = half_at(b + 2);
    uint32_t high = u32_at(b + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[8 + i] & 15) | fifth_bit(high, i)) + m;
        y[i + 16] = d * (float)((b[8 + i] >> 4) | fifth_bit(high, i + 16)) + m;
    }
}

static void unpack_q8_0(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(int8_t)b[2 + i];
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void unpack_iq4_nl(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)iq4_values[b[2 + i] & 15];
        y[i + 16] = d * (float)iq4_values[b[2 + i] >> 4];
    }
}

/* E2M1, doubled so that all are whole; the scale is halved instead. */
static const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 2^(e - 128); the two smallest are subnormal. */
static float e8m0_half(uint8_t e)
{
    return sv_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static void unpack_mxfp4(float *y, const uint8_t *b)
{
    float d = e8m0_half(b[0]);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)fp4_values[b[1 + i] & 15];
        y[i + 16] = d * (float)fp4_values[b[1 + i] >> 4];
    }
}

/* Unsigned E4M3 (bias 7), halved. 0x7f is the format's not-a-number and counts as 0 there. */
static float ue4m3_half(uint8_t s)
{
    int exponent = s >> 3 & 15, mantissa = s & 7;
    if (s == 0 || s == 0x7f)
        return 0.0f;
    float m = exponent == 0 ? (float)mantissa * 0x1p-9f : (1.0f + (float)mantissa / 8.0f) * 0x1p-7f;
    return m * (float)(1 << exponent) * 0.5f;
}

static void unpack_nvfp4(float *y, const uint8_t *b)
{
    for (int s = 0; s < 4; s++) {
        float d = ue4m3_half(b[s]);
        for (int i = 0; i < 8; i++) {
            uint8_t q = b[4 + 8 * s + i];
            y[16 * s + i] = d * (float)fp4_values[q & 15];
            y[16 * s + 8 + i] = d * (float)fp4_values[q >> 4];
        }
    }
}

/* --- blocks of 256 ----------------------------------------------------------------------------------------------- */

static void unpack_q2_k(float *y, const uint8_t *b)
{
    const uint8_t *scales = b, *qs = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int i = 0; i < 256; i++) { /* 128 values share 32 bytes: one crumb each, four shifts */
        uint8_t sc = scales[i / 16];
        int q = qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        float dl = d * (float)(sc & 15), ml = dmin * (float)(sc >> 4);
        y[i] = dl * (float)q - ml;
    }
}

static void unpack_q3_k(float *y, const uint8_t *b)
{
    const uint8_t *third = b, *qs = b + 32, *sc = b + 96;
    float d = half_at(b + 108);
    for (int i = 0; i < 256; i++) {
        int s = i / 16;
        int low = s < 8 ? sc[s] & 15 : sc[s - 8] >> 4;
        int scale = low | (sc[8 + s % 4] >> (s / 4 * 2) & 3) << 4;
        int q = qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        q |= (third[i % 32] >> (i / 32) & 1) << 2;
        y[i] = d * (float)(scale - 32) * (float)(q - 4);
    }
}

/* Scale and minimum of sub-block s out of 12 bytes: four of each whole, the upper four split into nibble and two bits. */
static void k_scale(const uint8_t *p, int s, int *scale, int *min)
{
    if (s < 4) {
        *scale = p[s] & 63;
        *min = p[s + 4] & 63;
    } else {
        *scale = (p[s + 4] & 15) | (p[s - 4] >> 6) << 4;
        *min = (p[s + 4] >> 4) | (p[s] >> 6) << 4;
    }
}

static void unpack_q4_k(float *y, const uint8_t *b)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (int s = 0; s < 8; s++) { /* two sub-blocks share 32 bytes: low nibbles, then high ones */
        int scale, min;
        k_scale(b + 4, s, &scale, &min);
        float dl = d * (float)scale, ml = dmin * (float)min;
        for (int i = 0; i < 32; i++)
            y[32 * s + i] = dl * (float)(b[16 + s / 2 * 32 + i] >> (s % 2 * 4) & 15) - ml;
    }
}

static void unpack_q5_k(float *y, const uint8_t *b)
{
    const uint8_t *fifth = b + 16, *qs = b + 48;
    float d = half_at(b), dmin = half_at(b + 2);
    for (int s = 0; s < 8; s++) {
        int scale, min;
        k_scale(b + 4, s, &scale, &min);
        float dl = d * (float)scale, ml = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = (qs[s / 2 * 32 + i] >> (s % 2 * 4) & 15) | (fifth[i] >> s & 1) << 4;
            y[32 * s + i] = dl * (float)q - ml;
        }
    }
}

static void unpack_q6_k(float *y, const uint8_t *b)
{
    const uint8_t *low = b, *high = b + 128, *scales = b + 192;
    float d = half_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        int q = low[64 * half + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        q |= (high[32 * half + l] >> (2 * quarter) & 3) << 4;
        y[i] = d * (float)(int8_t)scales[i / 16] * (float)(q - 32);
    }
}

static void unpack_iq4_xs(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int s = 0; s < 8; s++) {
        int scale = (b[4 + s / 2] >> (s % 2 * 4) & 15) | (b[2 + s / 4] >> (s % 4 * 2) & 3) << 4;
        float dl = d * (float)(scale - 32);
        for (int i = 0; i < 16; i++) {
            y[32 * s + i] = dl * (float)iq4_values[b[8 + 16 * s + i] & 15];
            y[32 * s + i + 16] = dl * (float)iq4_values[b[8 + 16 * s + i] >> 4];
        }
    }
}

/* Digit n of a byte that holds q / 3^5 as a fraction of 256: shift n digits out on the left, then read the next. */
static int ternary_digit(uint8_t byte, int n)
{
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    return (uint8_t)(byte * pow3[n]) * 3 >> 8;
}

static void unpack_tq1_0(float *y, const uint8_t *b)
{
    float d = half_at(b + 52);
    for (int i = 0; i < 160; i++)
        y[i] = d * (float)(ternary_digit(b[i % 32], i / 32) - 1);
    for (int i = 0; i < 80; i++)
        y[160 + i] = d * (float)(ternary_digit(b[32 + i % 16], i / 16) - 1);
    for (int i = 0; i < 16; i++)
        y[240 + i] = d * (float)(ternary_digit(b[48 + i % 4], i / 4) - 1);
}

static void unpack_tq2_0(float *y, const uint8_t *b)
{
    float d = half_at(b + 64);
    for (int i = 0; i < 256; i++)
        y[i] = d * (float)((b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 1);
}

/* --- codebooks ---------------------------------------------------------------------------------------------------- */

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint8_t eight_signs(uint32_t seven)
{
    seven &= 127;
    return (uint8_t)(seven | (uint32_t)__builtin_parity(seven) << 7);
}

/* n coordinates of `bits` bits each, times d; bit j of signs turns coordinate j around. All are exact: d has 16 bits at most. */
static void put_point(float *y, float d, uint16_t point, const int8_t *levels, int n, int bits, unsigned signs)
{
    for (int j = 0; j < n; j++) {
        float v = d * (float)levels[point >> bits * j & ((1 << bits) - 1)];
        y[j] = signs >> j & 1 ? -v : v;
    }
}

static float iq2_scale(float d, int scale)
{
    return d * (0.5f + (float)scale) * 0.25f;
}

static void unpack_iq2_xxs(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int s = 0; s < 8; s++) {
        const uint8_t *points = b + 2 + 8 * s;
        uint32_t rest = u32_at(points + 4);
        float ds = iq2_scale(d, (int)(rest >> 28));
        for (int i = 0; i < 4; i++)
            put_point(y + 32 * s + 8 * i, ds, sv_iq2_xxs_points[points[i]], sv_iq2_xxs_levels, 8, 2, eight_signs(rest >> 7 * i));
    }
}

static void unpack_iq2_xs(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 32; i++) {
        uint16_t q = u16_at(b + 2 + 2 * i);
        float ds = iq2_scale(d, b[66 + i / 4] >> (i / 2 % 2 * 4) & 15);
        put_point(y + 8 * i, ds, sv_iq2_xs_points[q & 511], sv_iq2_xs_levels, 8, 2, eight_signs(q >> 9));
    }
}

static void unpack_iq2_s(float *y, const uint8_t *b)
{
    const uint8_t *points = b + 2, *signs = b + 34, *upper = b + 66, *scales = b + 74;
    float d = half_at(b);
    for (int i = 0; i < 32; i++) {
        int q = points[i] | (upper[i / 4] >> (i % 4 * 2) & 3) << 8;
        float ds = iq2_scale(d, scales[i / 4] >> (i / 2 % 2 * 4) & 15);
        put_point(y + 8 * i, ds, sv_iq2_s_points[q], sv_iq2_s_levels, 8, 2, signs[i]);
    }
}

static void unpack_iq3_xxs(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 64; i++) {
        uint32_t rest = u32_at(b + 66 + i / 8 * 4);
        float ds = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        unsigned signs = eight_signs(rest >> (i / 2 % 4 * 7)) >> (i % 2 * 4);
        put_point(y + 4 * i, ds, sv_iq3_xxs_points[b[2 + i]], sv_iq3_xxs_levels, 4, 3, signs);
    }
}

static void unpack_iq3_s(float *y, const uint8_t *b)
{
    const uint8_t *points = b + 2, *ninth = b + 66, *signs = b + 74, *scales = b + 106;
    float d = half_at(b);
    for (int i = 0; i < 64; i++) {
        int q = points[i] | (ninth[i / 8] >> i % 8 & 1) << 8;
        float ds = d * (float)(1 + 2 * (scales[i / 16] >> (i / 8 % 2 * 4) & 15));
        put_point(y + 4 * i, ds, sv_iq3_s_points[q], sv_iq3_s_levels, 4, 3, (unsigned)signs[i / 2] >> (i % 2 * 4));
    }
}

/* A point of IQ1: coordinates -1, 0 and 1, all moved by an eighth. */
static void put_moved_point(float *y, float d, int point, bool down)
{
    for (int j = 0; j < 8; j++)
        y[j] = d * ((float)sv_iq1_s_levels[sv_iq1_s_points[point] >> 2 * j & 3] + (down ? -0.125f : 0.125f));
}

static void unpack_iq1_s(float *y, const uint8_t *b)
{
    float d = half_at(b);
    for (int i = 0; i < 32; i++) {
        int rest = u16_at(b + 34 + i / 4 * 2);
        put_moved_point(y + 8 * i, d * (float)(2 * (rest >> 12 & 7) + 1), b[2 + i] | (rest >> (i % 4 * 3) & 7) << 8, rest >> 15);
    }
}

static void unpack_iq1_m(float *y, const uint8_t *b)
{
    const uint8_t *upper = b + 32, *scales = b + 48;
    uint16_t half = 0;
    for (int i = 0; i < 4; i++)
        half |= (uint16_t)(u16_at(scales + 2 * i) >> 12 << 4 * i);
    float d = sv_f16_to_f32(half);
    for (int i = 0; i < 32; i++) {
        int rest = upper[i / 2] >> (i % 2 * 4), scale = u16_at(scales + i / 8 * 2) >> (i / 2 % 4 * 3) & 7;
        put_moved_point(y + 8 * i, d * (float)(2 * scale + 1), b[i] | (rest & 7) << 8, rest & 8);
    }
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static const sv_type_info infos[SV_N_TYPES] = {
    [SV_F32] = {"F32", 1, 4, true},
    [SV_F16] = {"F16", 1, 2, true},
    [SV_BF16] = {"BF16", 1, 2, true},
    [SV_Q4_0] = {"Q4_0", 32, 18, true},
    [SV_Q4_1] = {"Q4_1", 32, 20, true},
    [SV_Q5_0] = {"Q5_0", 32, 22, true},
    [SV_Q5_1] = {"Q5_1", 32, 24, true},
    [SV_Q8_0] = {"Q8_0", 32, 34, true},
    [SV_Q8_1] = {"Q8_1", 32, 36, false},
    [SV_Q2_K] = {"Q2_K", 256, 84, true},
    [SV_Q3_K] = {"Q3_K", 256, 110, true},
    [SV_Q4_K] = {"Q4_K", 256, 144, true},
    [SV_Q5_K] = {"Q5_K", 256, 176, true},
    [SV_Q6_K] = {"Q6_K", 256, 210, true},
    [SV_Q8_K] = {"Q8_K", 256, 292, false},
    [SV_IQ2_XXS] = {"IQ2_XXS", 256, 66, true},
    [SV_IQ2_XS] = {"IQ2_XS", 256, 74, true},
    [SV_IQ2_S] = {"IQ2_S", 256, 82, true},
    [SV_IQ3_XXS] = {"IQ3_XXS", 256, 98, true},
    [SV_IQ3_S] = {"IQ3_S", 256, 110, true},
    [SV_IQ1_S] = {"IQ1_S", 256, 50, true},
    [SV_IQ1_M] = {"IQ1_M", 256, 56, true},
    [SV_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [SV_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [SV_TQ1_0] = {"TQ1_0", 256, 54, true},
    [SV_TQ2_0] = {"TQ2_0", 256, 66, true},
    [SV_MXFP4] = {"MXFP4", 32, 17, true},
    [SV_NVFP4] = {"NVFP4", 64, 36, true},
    [SV_I8] = {"I8", 1, 1, false},
    [SV_I16] = {"I16", 1, 2, false},
    [SV_I32] = {"I32", 1, 4, false},
    [SV_I64] = {"I64", 1, 8, false},
    [SV_F64] = {"F64", 1, 8, false},
};

static const unpack_fn unpackers[SV_N_TYPES] = {
    [SV_Q4_0] = unpack_q4_0,     [SV_Q4_1] = unpack_q4_1,     [SV_Q5_0] = unpack_q5_0,   [SV_Q5_1] = unpack_q5_1,
    [SV_Q8_0] = unpack_q8_0,     [SV_Q2_K] = unpack_q2_k,     [SV_Q3_K] = unpack_q3_k,   [SV_Q4_K] = unpack_q4_k,
    [SV_Q5_K] = unpack_q5_k,     [SV_Q6_K] = unpack_q6_k,     [SV_IQ4_NL] = unpack_iq4_nl, [SV_IQ4_XS] = unpack_iq4_xs,
    [SV_TQ1_0] = unpack_tq1_0,   [SV_TQ2_0] = unpack_tq2_0,   [SV_MXFP4] = unpack_mxfp4, [SV_NVFP4] = unpack_nvfp4,
    [SV_IQ2_XXS] = unpack_iq2_xxs, [SV_IQ2_XS] = unpack_iq2_xs, [SV_IQ2_S] = unpack_iq2_s, [SV_IQ3_XXS] = unpack_iq3_xxs,
    [SV_IQ3_S] = unpack_iq3_s,   [SV_IQ1_S] = unpack_iq1_s,   [SV_IQ1_M] = unpack_iq1_m,
};

const sv_type_info *sv_type_get(uint32_t type)
{
    static const sv_type_info unknown = {NULL, 1, 1, false};
    return type < SV_N_TYPES && infos[type].name ? &infos[type] : &unknown;
}

void sv_dequantize(float *dst, sv_type type, const void *src, int64_t n)
{
    const sv_type_info *info = sv_type_get(type);
    const uint8_t *p = src;
    SV_ASSERT(info->computable && n % info->block == 0);
    if (type == SV_F32) {
        memcpy(dst, p, (size_t)n * sizeof *dst);
        return;
    }
    if (type == SV_F16 || type == SV_BF16) {
        for (int64_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            dst[i] = type == SV_F16 ? sv_f16_to_f32(h) : sv_bf16_to_f32(h);
        }
        return;
    }
    for (int64_t i = 0; i < n; i += info->block, p += info->block_bytes)
        unpackers[type](dst + i, p);
}
