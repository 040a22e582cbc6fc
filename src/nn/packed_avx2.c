/* packed_avx2.c - integer matmul in AVX2 (Haswell and later, Zen): products as in packed_avx512.c */
#include <immintrin.h>

#include "nn/packed_avx2.h"

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    __m256i ww = (__m256i)w, xx = (__m256i)x;
    if (wide) {
        ww = _mm256_xor_si256(ww, _mm256_set1_epi8((char)0x80));
        xx = _mm256_sign_epi8(xx, ww);
        ww = _mm256_abs_epi8(ww);
    }
    return acc + (ivec)_mm256_madd_epi16(_mm256_maddubs_epi16(ww, xx), _mm256_set1_epi16(1));
}

#define WIDE_IS_SIGNED 1
#define PACKED_SET sv_packed_avx2
#include "nn/packed_body.h"
