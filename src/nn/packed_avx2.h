/* packed_avx2.h - what the two files of integer matmul with registers of 32 bytes have in common */
#include <string.h>

#include "nn/kernels_impl.h"
#include "nn/pack_impl.h"

#define LANES 8
typedef float vec __attribute__((vector_size(32)));
typedef uint8_t bvec __attribute__((vector_size(32)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

static ALWAYS_INLINE vec widen_halves(const uint8_t *p)
{
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

#define GROUPS 1
#define MOST_ROWS 3
#define ROW_TILES(X) X(3) X(1)
