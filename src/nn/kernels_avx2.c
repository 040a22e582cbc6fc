/* kernels_avx2.c - the vector kernels in AVX2 with FMA and F16C (Haswell and later, all Zen)
 *
 * 16 registers of 8 floats: a tile of 2 outputs by 3 rows keeps 12 half-sums; 10 loads for 12 multiply-adds, nearly the limit of two
 * loads a cycle. Same lanes, same order, same fused operations as the AVX-512 file, so the same bits. */
#include <immintrin.h>
#include <math.h>

#include "nn/kernels_impl.h"
#include "nn/kernels_x86.h"

#define LANES 8
typedef float vec __attribute__((vector_size(32)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

static ALWAYS_INLINE float sum16(const vec *v)
{
    __m256 b = (__m256)(v[0] + v[1]);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

static ALWAYS_INLINE float max_lane(vec v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static ALWAYS_INLINE group widen(bytes32 q)
{
    return (group){{(vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q.lo)), (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q.lo, 8))),
                    (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q.hi)), (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q.hi, 8)))}};
}

static ALWAYS_INLINE group load_f16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    group g;
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = (vec)_mm256_cvtph_ps(x86_load(p + 16 * i));
    return g;
}

static ALWAYS_INLINE group load_bf16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    group g;
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = (vec)_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x86_load(p + 16 * i)), 16));
    return g;
}

static ALWAYS_INLINE group load_q4_0(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    const __m128i eight = _mm_set1_epi8(8);
    __m128i q = x86_load(p + 2);
    bytes32 low = x86_nibbles(q, q, false), high = x86_nibbles(q, q, true);
    float d = x86_half(p);
    group g = widen((bytes32){_mm_sub_epi8(low.lo, eight), _mm_sub_epi8(high.lo, eight)});
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] *= d;
    return g;
}

static ALWAYS_INLINE group load_q4_k(const uint8_t *p, int s, const scales *sc)
{
    const uint8_t *q = p + 16 + s / 2 * 32;
    group g = widen(x86_nibbles(x86_load(q), x86_load(q + 16), s % 2 != 0));
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = g.v[i] * sc->d[s] - sc->m[s];
    return g;
}

#include "nn/kernels_x86_loads.h"

#define v_fma(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define TILE_OUT 2
#define TILE_ROWS 3
#define TILE_CASES(X) X(1) X(2) X(3)
#define STREAM_ROWS 2
#define STREAM_CASES(X) X(1) X(2)
#define TILE_QUERIES 2
#define QUERY_CASES(X) X(1) X(2)
#define FUSED(X)                                                                                          \
    X(SV_F32, prepare_none, load_f32, 1, 128) X(SV_F16, prepare_none, load_f16, 1, 64)                    \
    X(SV_BF16, prepare_none, load_bf16, 1, 64) X(SV_Q8_0, prepare_none, load_q8_0, 1, 34)                 \
    X(SV_Q4_0, prepare_none, load_q4_0, 1, 18) X(SV_Q4_K, prepare_q4_k, load_q4_k, 8, 144)                \
    X(SV_Q6_K, prepare_q6_k, load_q6_k, 8, 210)
#define KERNEL_SET sv_kernels_avx2
#include "nn/kernels_body.h"
