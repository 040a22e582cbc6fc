/* packed_avx512.h - what the two AVX-512 files of integer matmul have in common */
#include <string.h>

#include "nn/kernels_impl.h"
#include "nn/pack_impl.h"

#define LANES 16
typedef float vec __attribute__((vector_size(64)));
typedef uint8_t bvec __attribute__((vector_size(64)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

static ALWAYS_INLINE vec widen_halves(const uint8_t *p)
{
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

#define GROUPS 2
#define MOST_ROWS 6
#define ROW_TILES(X) X(6) X(4) X(2) X(1)
