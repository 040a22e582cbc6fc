/* packed_portable.c - integer matmul for any CPU, in GNU vectors of 16 bytes: the same integers as everywhere
 *
 * A product of an unsigned and a signed byte fits 16 bits, so even and odd bytes are multiplied apart and added in 32. */
#include <string.h>

#include "nn/kernels_impl.h"
#include "nn/pack_impl.h"

#define LANES 4
typedef float vec __attribute__((vector_size(16)));
typedef uint8_t bvec __attribute__((vector_size(16)));
typedef int16_t svec __attribute__((vector_size(16)));

#define UNROLL
#include "nn/kernels_vec.h"

#define v_fma(a, b, c) ((a) * (b) + (c))

static ALWAYS_INLINE vec widen_halves(const uint8_t *p)
{
    vec v;
    for (int i = 0; i < LANES; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        v[i] = sv_f16_to_f32(h);
    }
    return v;
}

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    (void)wide;
    svec even = ((svec)w & 255) * ((svec)x << 8 >> 8), odd = (svec)((uint16_t __attribute__((vector_size(16))))w >> 8) * ((svec)x >> 8);
    return acc + ((ivec)even << 16 >> 16) + ((ivec)even >> 16) + ((ivec)odd << 16 >> 16) + ((ivec)odd >> 16);
}

#define WIDE_IS_SIGNED 0
#define GROUPS 1
#define MOST_ROWS 2
#define ROW_TILES(X) X(2) X(1)
#define PACKED_SET sv_packed_portable
#include "nn/packed_body.h"
