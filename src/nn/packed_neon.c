/* packed_neon.c - integer matmul with sdot (ARMv8.2 with the dot product extension: Cortex-A55 and A76, Neoverse, Apple, and later)
 *
 * sdot adds four products of signed bytes in each of 4 lanes, so a line is 4 registers. Weights of 8 bits become signed again first; those of fewer
 * bits are positive either way. */
#include <arm_neon.h>
#include <string.h>

#include "nn/kernels_impl.h"
#include "nn/pack_impl.h"

#define LANES 4
typedef float vec __attribute__((vector_size(16)));
typedef uint8_t bvec __attribute__((vector_size(16)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

static ALWAYS_INLINE vec widen_halves(const uint8_t *p)
{
    return (vec)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    return (ivec)vdotq_s32((int32x4_t)acc, (int8x16_t)(wide ? w ^ 0x80 : w), (int8x16_t)x);
}

#define WIDE_IS_SIGNED 1
#define GROUPS 1
#define MOST_ROWS 2
#define ROW_TILES(X) X(2) X(1)
#define PACKED_SET sv_packed_neon
#include "nn/packed_body.h"
