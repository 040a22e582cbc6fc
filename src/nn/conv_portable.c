/* conv_portable.c - convolutions for any CPU, in vectors of 4 floats and without fused multiply-add */
#include <string.h>

#include "nn/conv_impl.h"

#define LANES 4
typedef float vec __attribute__((vector_size(16)));
#define UNROLL
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((a) * (b) + (c))
#define v_splat(f) v_set1(f)
enum { TILE_PIXELS = 4 };
#define PIXEL_CASES(X) X(1) X(2) X(3) X(4)
#define CONV_SET sv_conv_portable
#define CONV_NAME "portable"
#include "nn/conv_body.h"
