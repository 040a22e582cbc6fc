/* packed_avxvnni.c - integer matmul with vpdpbusd in registers of 32 bytes, for CPUs that have it without AVX-512 (Alder Lake and later) */
#include <immintrin.h>

#include "nn/packed_avx2.h"

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    (void)wide;
    return (ivec)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
}

#define WIDE_IS_SIGNED 0
#define PACKED_SET sv_packed_avxvnni
#include "nn/packed_body.h"
