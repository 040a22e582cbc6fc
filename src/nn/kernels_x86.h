/* kernels_x86.h - quantised blocks in 128-bit registers, for the AVX2 and AVX-512 files
 *
 * Each function gives 32 weights before scaling, as 32 signed bytes in two registers, and the scales by reference, so that the files
 * differ only in how many bytes they widen at once. Products round as in tensor.c: (d * scale) * q - (dmin * min). */
#ifndef SV_NN_KERNELS_X86_H
#define SV_NN_KERNELS_X86_H

#include <immintrin.h>

#include "nn/tensor.h"

typedef struct bytes32 { __m128i lo, hi; } bytes32;

static inline __attribute__((always_inline)) float x86_half(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

static inline __attribute__((always_inline)) __m128i x86_load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline __attribute__((always_inline)) bytes32 x86_q8_0(const uint8_t *row, int64_t k, float *d)
{
    const uint8_t *b = row + k / 32 * 34;
    *d = x86_half(b);
    return (bytes32){x86_load(b + 2), x86_load(b + 18)};
}

static inline __attribute__((always_inline)) bytes32 x86_q4_0(const uint8_t *row, int64_t k, float *d)
{
    const uint8_t *b = row + k / 32 * 18;
    const __m128i low = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    __m128i q = x86_load(b + 2);
    *d = x86_half(b);
    return (bytes32){_mm_sub_epi8(_mm_and_si128(q, low), eight), _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(q, 4), low), eight)};
}

static inline __attribute__((always_inline)) bytes32 x86_q4_k(const uint8_t *row, int64_t k, float *d, float *m)
{
    const uint8_t *b = row + k / 256 * 144, *p = b + 4;
    int s = (int)(k % 256) / 32;
    int scale = s < 4 ? p[s] & 63 : (p[s + 4] & 15) | (p[s - 4] >> 6) << 4;
    int min = s < 4 ? p[s + 4] & 63 : (p[s + 4] >> 4) | (p[s] >> 6) << 4;
    const __m128i low = _mm_set1_epi8(15), shift = _mm_cvtsi32_si128(s % 2 * 4);
    const uint8_t *q = b + 16 + s / 2 * 32;
    *d = x86_half(b) * (float)scale;
    *m = x86_half(b + 2) * (float)min;
    return (bytes32){_mm_and_si128(_mm_srl_epi16(x86_load(q), shift), low), _mm_and_si128(_mm_srl_epi16(x86_load(q + 16), shift), low)};
}

/* d[0] scales the first 16, d[1] the others. */
static inline __attribute__((always_inline)) bytes32 x86_q6_k(const uint8_t *row, int64_t k, float d[2])
{
    const uint8_t *b = row + k / 256 * 210;
    int s = (int)(k % 256) / 32, half = s / 4, quarter = s % 4;
    const uint8_t *low = b + 64 * half + quarter % 2 * 32, *high = b + 128 + 32 * half;
    const int8_t *scales = (const int8_t *)b + 192 + 2 * s;
    const __m128i nibble = _mm_set1_epi8(15), crumb = _mm_set1_epi8(3), bias = _mm_set1_epi8(32);
    const __m128i ls = _mm_cvtsi32_si128(quarter / 2 * 4), hs = _mm_cvtsi32_si128(quarter * 2);
    __m128i q[2];
    float all = x86_half(b + 208);
    for (int i = 0; i < 2; i++) {
        __m128i l = _mm_and_si128(_mm_srl_epi16(x86_load(low + 16 * i), ls), nibble);
        __m128i h = _mm_and_si128(_mm_srl_epi16(x86_load(high + 16 * i), hs), crumb);
        q[i] = _mm_sub_epi8(_mm_or_si128(l, _mm_slli_epi16(h, 4)), bias);
        d[i] = all * (float)scales[i];
    }
    return (bytes32){q[0], q[1]};
}

#endif
