/* conv_avx512.c - convolutions in AVX-512: a tile of 12 pixels by 32 channels keeps 24 sums, 2 vectors of weights and 1 of input in
 * the 32 registers, and its 12 pointers in the others */
#include <immintrin.h>
#include <string.h>

#include "nn/conv_impl.h"

#define LANES 16
typedef float vec __attribute__((vector_size(64)));
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
/* Held in a register: gcc would load and spread it twice, inside both multiplications. */
static inline __attribute__((always_inline)) vec v_splat(float f)
{
    __m512 b = _mm512_set1_ps(f);
    __asm__("" : "+v"(b));
    return (vec)b;
}
enum { TILE_PIXELS = 12 };
#define PIXEL_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define CONV_SET sv_conv_avx512
#define CONV_NAME "avx512"
#include "nn/conv_body.h"
