/* packed_avx512vnni.c - integer matmul with vpdpbusd in registers of 64 bytes (Ice Lake, Sapphire Rapids, Zen 4 and later)
 *
 * One instruction adds 4 products in each of 16 lanes. A tile of 2 groups by 6 rows keeps 12 integer and 12 float sums; its broadcasts
 * of activations serve two groups each, so that loads do not limit it. */
#include <immintrin.h>

#include "nn/packed_avx512.h"

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    (void)wide;
    return (ivec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
}

#define WIDE_IS_SIGNED 0
#define PACKED_SET sv_packed_avx512vnni
#include "nn/packed_body.h"
