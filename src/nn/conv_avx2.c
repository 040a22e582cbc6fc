/* conv_avx2.c - convolutions in AVX2 with FMA: 6 pixels by 16 channels in 16 registers. The same chains as with AVX-512, so the same bits. */
#include <immintrin.h>
#include <string.h>

#include "nn/conv_impl.h"

#define LANES 8
typedef float vec __attribute__((vector_size(32)));
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define v_splat(f) ((vec)_mm256_set1_ps(f))
enum { TILE_PIXELS = 6 };
#define PIXEL_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define CONV_SET sv_conv_avx2
#define CONV_NAME "avx2"
#include "nn/conv_body.h"
