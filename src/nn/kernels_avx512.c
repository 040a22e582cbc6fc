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

static ALWAYS_INLINE group load_f16(const uint8_t *row, int64_t k)
{
    const __m256i *p = (const __m256i *)(const void *)(row + 2 * k);
    return (group){{(vec)_mm512_cvtph_ps(_mm256_loadu_si256(p)), (vec)_mm512_cvtph_ps(_mm256_loadu_si256(p + 1))}};
}

static ALWAYS_INLINE vec widen_bf16(const uint8_t *p)
{
    __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (vec)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static ALWAYS_INLINE group load_bf16(const uint8_t *row, int64_t k)
{
    return (group){{widen_bf16(row + 2 * k), widen_bf16(row + 2 * k + 32)}};
}
#include "nn/kernels_x86_loads.h"

#define v_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define TILE_OUT 4
#define TILE_ROWS 6
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define TILE_QUERIES 4
#define FUSED(X) \
    X(SV_F32, load_f32) X(SV_F16, load_f16) X(SV_BF16, load_bf16) X(SV_Q8_0, load_q8_0) X(SV_Q4_0, load_q4_0) \
    X(SV_Q4_K, load_q4_k) X(SV_Q6_K, load_q6_k)
#define KERNEL_SET sv_kernels_avx512
#define KERNEL_NAME "avx512"
#include "nn/kernels_body.h"
