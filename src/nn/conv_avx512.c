/* conv_avx512.c - convolutions in AVX-512: a tile of 14 pixels by 32 channels keeps 28 sums, 2 vectors of weights and 1 of input in the 32 registers */
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
enum { TILE_PIXELS = 14 };
#define PIXEL_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define CONV_SET sv_conv_avx512
#define CONV_NAME "avx512"
#include "nn/conv_body.h"
