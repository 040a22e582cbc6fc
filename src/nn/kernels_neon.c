/* kernels_neon.c - the vector kernels in NEON (every 64-bit ARM): registers of 4 floats, fused multiply-add
 *
 * 32 registers: a tile of 2 outputs by 3 rows keeps 24 quarter-sums. Same lanes, same order, same fused operations as the x86 files. Types that
 * are not unpacked in registers go through sv_dequantize and the panel; quantised models are packed (packed_neon.c). */
#include <arm_neon.h>
#include <math.h>

#include "nn/kernels_impl.h"

#define LANES 4
typedef float vec __attribute__((vector_size(16)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "nn/kernels_vec.h"

typedef struct scales { char none; } scales; /* nothing quantised is unpacked in registers here */

static ALWAYS_INLINE float sum16(const vec *v)
{
    vec t = (v[0] + v[2]) + (v[1] + v[3]); /* l + 8, then + 4 */
    return (t[0] + t[2]) + (t[1] + t[3]);
}

static ALWAYS_INLINE float max_lane(vec v)
{
    return vmaxvq_f32((float32x4_t)v);
}

static ALWAYS_INLINE group load_f16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    group g;
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = (vec)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * i)));
    return g;
}

static ALWAYS_INLINE group load_bf16(const uint8_t *p, int s, const scales *sc)
{
    (void)s;
    (void)sc;
    group g;
    UNROLL
    for (int i = 0; i < GV; i++)
        g.v[i] = (vec)vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p + 8 * i)), 16);
    return g;
}

#define v_fma(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define TILE_OUT 2
#define TILE_ROWS 3
#define TILE_CASES(X) X(1) X(2) X(3)
#define STREAM_ROWS 1
#define STREAM_CASES(X) X(1)
#define TILE_QUERIES 2
#define QUERY_CASES(X) X(1) X(2)
#define FUSED(X) X(SV_F32, prepare_none, load_f32, 1, 128) X(SV_F16, prepare_none, load_f16, 1, 64) X(SV_BF16, prepare_none, load_bf16, 1, 64)
#define KERNEL_SET sv_kernels_neon
#include "nn/kernels_body.h"
