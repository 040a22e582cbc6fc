/* packed_avx512.c - integer matmul for AVX-512 without VNNI: vpmaddubsw adds two products to 16 bits, vpmaddwd two of those to 32
 *
 * Two products of 255 and 127 do not fit 16 bits. So bytes of 8-bit weights become signed again, their sign goes to the activation, and
 * what remains is at most 128 * 127 twice. */
#include <immintrin.h>

#include "nn/packed_avx512.h"

static ALWAYS_INLINE ivec dot4(ivec acc, bvec w, ivec x, bool wide)
{
    __m512i ww = (__m512i)w, xx = (__m512i)x;
    if (wide) {
        ww = _mm512_xor_si512(ww, _mm512_set1_epi8((char)0x80));
        xx = _mm512_mask_sub_epi8(xx, _mm512_movepi8_mask(ww), _mm512_setzero_si512(), xx);
        ww = _mm512_abs_epi8(ww);
    }
    return acc + (ivec)_mm512_madd_epi16(_mm512_maddubs_epi16(ww, xx), _mm512_set1_epi16(1));
}

#define WIDE_IS_SIGNED 1
#define PACKED_SET sv_packed_avx512
#include "nn/packed_body.h"
