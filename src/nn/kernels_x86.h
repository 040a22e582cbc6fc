/* kernels_x86.h - quantised blocks in 128-bit registers, for the AVX2 and AVX-512 files
 *
 * Weights before scaling are 32 signed bytes in two registers, so that the files differ only in how they widen them. Products
 * round as in tensor.c: (d * scale) * q - (dmin * min). */
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

/* Scales of a span, as tensor.c rounds them: d times each sub-block's own, and the minimums alike. */
typedef struct scales { float d[16], m[8]; } scales;

static inline __attribute__((always_inline)) void x86_put_scaled(float *dst, float d, __m256i sub)
{
    _mm256_storeu_ps(dst, _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(sub)));
}

/* The eight 6-bit scales and minimums four at a time: see k_scale in tensor.c. */
static inline __attribute__((always_inline)) void prepare_q4_k(scales *sc, const uint8_t *p)
{
    uint32_t a[3];
    memcpy(a, p + 4, sizeof a);
    uint64_t d_high = (a[2] & 0x0f0f0f0f) | (a[0] >> 6 & 0x03030303) << 4, d = (a[0] & 0x3f3f3f3f) | d_high << 32;
    uint64_t m_high = (a[2] >> 4 & 0x0f0f0f0f) | (a[1] >> 6 & 0x03030303) << 4, m = (a[1] & 0x3f3f3f3f) | m_high << 32;
    x86_put_scaled(sc->d, x86_half(p), _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)d)));
    x86_put_scaled(sc->m, x86_half(p + 2), _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)m)));
}

static inline __attribute__((always_inline)) void prepare_q6_k(scales *sc, const uint8_t *p)
{
    __m128i sub = x86_load(p + 192);
    x86_put_scaled(sc->d, x86_half(p + 208), _mm256_cvtepi8_epi32(sub));
    x86_put_scaled(sc->d + 8, x86_half(p + 208), _mm256_cvtepi8_epi32(_mm_srli_si128(sub, 8)));
}

/* Nibbles i of two registers, the low ones or the high ones. */
static inline __attribute__((always_inline)) bytes32 x86_nibbles(__m128i lo, __m128i hi, bool high)
{
    const __m128i low = _mm_set1_epi8(15);
    if (high)
        return (bytes32){_mm_and_si128(_mm_srli_epi16(lo, 4), low), _mm_and_si128(_mm_srli_epi16(hi, 4), low)};
    return (bytes32){_mm_and_si128(lo, low), _mm_and_si128(hi, low)};
}

static inline __attribute__((always_inline)) bytes32 x86_q6_k(const uint8_t *p, int s)
{
    int half = s / 4, quarter = s % 4;
    const uint8_t *low = p + 64 * half + quarter % 2 * 32, *high = p + 128 + 32 * half;
    const __m128i crumb = _mm_set1_epi8(3), bias = _mm_set1_epi8(32);
    bytes32 l = x86_nibbles(x86_load(low), x86_load(low + 16), quarter >= 2);
    __m128i h0 = _mm_and_si128(_mm_srli_epi16(x86_load(high), 2 * quarter), crumb);
    __m128i h1 = _mm_and_si128(_mm_srli_epi16(x86_load(high + 16), 2 * quarter), crumb);
    return (bytes32){_mm_sub_epi8(_mm_or_si128(l.lo, _mm_slli_epi16(h0, 4)), bias), _mm_sub_epi8(_mm_or_si128(l.hi, _mm_slli_epi16(h1, 4)), bias)};
}

#endif
