/* kernels_avx512.c - the vector kernels in AVX-512 (F, BW, VL, DQ: every such CPU since 2017)
 *
 * 32 registers of 16 floats: a tile of 4 outputs by 6 rows keeps 24 sums, 4 weights and 1 activation, and needs 10 loads for
 * 24 multiply-adds, so it is bound by arithmetic even from the L2 cache. One row alone streams 4 columns of weights at once:
 * four independent sums hide the latency of the adds, and memory is the limit. */
#include <immintrin.h>
#include <math.h>

#include "nn/kernels_impl.h"
#include "nn/kernels_x86.h"

#define LANES 16
typedef float vec __attribute__((vector_size(64)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

static ALWAYS_INLINE float sum16(const vec *v)
{
    __m512 a = (__m512)v[0];
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

static ALWAYS_INLINE group widen(bytes32 q)
{
    return (group){{(vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q.lo)), (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q.hi))}};
}

static ALWAYS_INLINE group load_f16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    const __m256i *h = (const __m256i *)(const void *)p;
    return (group){{(vec)_mm512_cvtph_ps(_mm256_loadu_si256(h)), (vec)_mm512_cvtph_ps(_mm256_loadu_si256(h + 1))}};
}

static ALWAYS_INLINE vec widen_bf16(const uint8_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (vec)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static ALWAYS_INLINE group load_bf16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    return (group){{widen_bf16(p), widen_bf16(p + 32)}};
}

/* Four bits have 16 values, and so has a register: all that a nibble can mean are computed once a block, then looked up. The look-up
 * reads the lowest four bits of each index, so low nibbles need no mask. */
static ALWAYS_INLINE vec nibble_values(float first)
{
    const __m512 count = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (vec)count + first;
}

static ALWAYS_INLINE vec look_up(vec values, __m512i i)
{
    return (vec)_mm512_permutexvar_ps(i, (__m512)values);
}

static ALWAYS_INLINE group load_q4_0(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    vec values = nibble_values(-8.0f) * x86_half(p);
    __m512i q = _mm512_cvtepu8_epi32(x86_load(p + 2));
    return (group){{look_up(values, q), look_up(values, _mm512_srli_epi32(q, 4))}};
}

static ALWAYS_INLINE group load_q4_k(const uint8_t *p, int s, const scales *sc)
{
    const uint8_t *b = p + 16 + s / 2 * 32;
    vec values = nibble_values(0.0f) * sc->d[s] - sc->m[s];
    __m512i lo = _mm512_cvtepu8_epi32(x86_load(b)), hi = _mm512_cvtepu8_epi32(x86_load(b + 16));
    if (s % 2 != 0)
        return (group){{look_up(values, _mm512_srli_epi32(lo, 4)), look_up(values, _mm512_srli_epi32(hi, 4))}};
    return (group){{look_up(values, lo), look_up(values, hi)}};
}

#include "nn/kernels_x86_loads.h"

#define v_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define TILE_OUT 4
#define TILE_ROWS 6
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define STREAM_ROWS 4
#define STREAM_CASES(X) X(1) X(2) X(3) X(4)
#define TILE_QUERIES 4
#define QUERY_CASES(X) X(1) X(2) X(3) X(4)
#define max_lane(v) _mm512_reduce_max_ps((__m512)(v))
#define FUSED(X)                                                                                          \
    X(SV_F32, prepare_none, load_f32, 1, 128) X(SV_F16, prepare_none, load_f16, 1, 64)                    \
    X(SV_BF16, prepare_none, load_bf16, 1, 64) X(SV_Q8_0, prepare_none, load_q8_0, 1, 34)                 \
    X(SV_Q4_0, prepare_none, load_q4_0, 1, 18) X(SV_Q4_K, prepare_q4_k, load_q4_k, 8, 144)                \
    X(SV_Q6_K, prepare_q6_k, load_q6_k, 8, 210)
#define KERNEL_SET sv_kernels_avx512
#include "nn/kernels_body.h"
