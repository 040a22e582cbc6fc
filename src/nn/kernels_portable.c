/* kernels_portable.c - the vector kernels for any CPU: GNU vectors of 4 floats, which compilers turn into what there is (SSE2,
 * NEON) or into plain code
 *
 * No fused multiply-add here: where the CPU has none, emulating it would be a hundred times slower. So this set's results differ in
 * the last bits from the others', and are as independent of company as theirs. */
#include <math.h>

#include "nn/kernels_impl.h"

#define LANES 4
typedef float vec __attribute__((vector_size(16)));

#define UNROLL
#include "nn/kernels_vec.h"

typedef struct scales { char none; } scales; /* nothing quantised is unpacked in registers here */

#define v_fma(a, b, c) ((a) * (b) + (c))
#define TILE_OUT 2
#define TILE_ROWS 2
#define TILE_CASES(X) X(1) X(2)
#define TILE_QUERIES 1
#define QUERY_CASES(X) X(1)
#define FUSED(X) X(SV_F32, prepare_none, load_f32, 1, 128)
#define STREAM_ROWS 1
#define STREAM_CASES(X) X(1)
#define KERNEL_SET sv_kernels_portable

static inline float sum16(const vec *v)
{
    vec t = (v[0] + v[2]) + (v[1] + v[3]); /* l + 8, then + 4 */
    return (t[0] + t[2]) + (t[1] + t[3]);
}

static inline float max_lane(vec v)
{
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

#include "nn/kernels_body.h"
