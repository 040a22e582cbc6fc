/* kernels_avx512_body.h - the kernels in AVX-512, included twice: with SET_VNNI (byte products and popcounts in one instruction: Ice
 * Lake, Zen 4 and later) and without (Skylake). SET and SET_NAME name the result. */
#include <immintrin.h>

#include "vec/kernels_impl.h"

static float dot(const float *a, const float *b, int32_t n)
{
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int32_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int l = 0; l < 4; l++)
            s[l] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * l), _mm512_loadu_ps(b + i + 16 * l), s[l]);
    for (; i < n; i += 16) {
        __mmask16 m = n - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (n - i)) - 1);
        s[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static float l2(const float *a, const float *b, int32_t n)
{
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int32_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (int l = 0; l < 4; l++) {
            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(a + i + 16 * l), _mm512_loadu_ps(b + i + 16 * l));
            s[l] = _mm512_fmadd_ps(d, d, s[l]);
        }
    for (; i < n; i += 16) {
        __mmask16 m = n - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
        s[0] = _mm512_fmadd_ps(d, d, s[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static inline __m512i add_products(__m512i s, __m512i c, __m512i q)
{
#if SET_VNNI
    return _mm512_dpbusd_epi32(s, c, q);
#else
    __m512i lo = _mm512_madd_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(c)), _mm512_cvtepi8_epi16(_mm512_castsi512_si256(q)));
    __m512i hi = _mm512_madd_epi16(_mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(c, 1)), _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(q, 1)));
    return _mm512_add_epi32(s, _mm512_add_epi32(lo, hi));
#endif
}

static int32_t dot_codes(const uint8_t *c, const int8_t *q, int32_t n)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    int32_t i = 0;
    for (; i + 256 <= n; i += 256) {
        s0 = add_products(s0, _mm512_loadu_si512(c + i), _mm512_loadu_si512(q + i));
        s1 = add_products(s1, _mm512_loadu_si512(c + i + 64), _mm512_loadu_si512(q + i + 64));
        s2 = add_products(s2, _mm512_loadu_si512(c + i + 128), _mm512_loadu_si512(q + i + 128));
        s3 = add_products(s3, _mm512_loadu_si512(c + i + 192), _mm512_loadu_si512(q + i + 192));
    }
    for (; i + 64 <= n; i += 64)
        s0 = add_products(s0, _mm512_loadu_si512(c + i), _mm512_loadu_si512(q + i));
    if (i < n) {
        __mmask64 m = ((__mmask64)1 << (n - i)) - 1;
        s1 = add_products(s1, _mm512_maskz_loadu_epi8(m, c + i), _mm512_maskz_loadu_epi8(m, q + i));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(s0, s1), _mm512_add_epi32(s2, s3)));
}

/* With y = b - 128: sum (a - 128) y = sum a y - 128 sum y, and the sum of y is one more product, with ones. */
static int32_t dot_pair(const uint8_t *a, const uint8_t *b, int32_t n)
{
    const __m512i flip = _mm512_set1_epi8(-128), one = _mm512_set1_epi8(1);
    __m512i s = _mm512_setzero_si512(), t = s, u = s, v = s;
    int32_t i = 0;
    for (; i + 128 <= n; i += 128) {
        __m512i y = _mm512_xor_si512(_mm512_loadu_si512(b + i), flip), z = _mm512_xor_si512(_mm512_loadu_si512(b + i + 64), flip);
        s = add_products(s, _mm512_loadu_si512(a + i), y);
        t = add_products(t, one, y);
        u = add_products(u, _mm512_loadu_si512(a + i + 64), z);
        v = add_products(v, one, z);
    }
    for (; i < n; i += 64) {
        __mmask64 m = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i y = _mm512_maskz_mov_epi8(m, _mm512_xor_si512(_mm512_maskz_loadu_epi8(m, b + i), flip));
        s = add_products(s, _mm512_maskz_loadu_epi8(m, a + i), y);
        t = add_products(t, one, y);
    }
    s = _mm512_sub_epi32(_mm512_add_epi32(s, u), _mm512_slli_epi32(_mm512_add_epi32(t, v), 7));
    return _mm512_reduce_add_epi32(s);
}

/* Bits of each 64-bit lane. */
static inline __m512i popcount(__m512i x)
{
#if SET_VNNI
    return _mm512_popcnt_epi64(x);
#else
    const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)), low = _mm512_set1_epi8(15);
    __m512i n = _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(x, low)),
                                _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), low)));
    return _mm512_sad_epu8(n, _mm512_setzero_si512());
#endif
}

static inline __attribute__((always_inline)) __m512i weigh(const __m512i *s)
{
    __m512i high = _mm512_add_epi64(_mm512_slli_epi64(s[3], 1), s[2]), low = _mm512_add_epi64(_mm512_slli_epi64(s[1], 1), s[0]);
    return _mm512_add_epi64(_mm512_slli_epi64(high, 2), low);
}

static inline __attribute__((always_inline)) size_t keep(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t i, __m512i apart,
                                                         unsigned allow, __m256 floor, uint32_t *slots, float *estimates)
{
    __m256i agree = _mm256_sub_epi32(_mm256_set1_epi32(q->offset), _mm256_slli_epi32(_mm512_cvtepi64_epi32(apart), 1));
    __m256 e = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(agree), _mm256_set1_ps(q->unit)), _mm256_loadu_ps(b->scale + i * 8),
                               _mm256_loadu_ps(b->bias + i * 8));
    unsigned over = (unsigned)_mm256_cmp_ps_mask(e, floor, _CMP_GT_OQ) & allow;
    if (__builtin_expect(over == 0, 1))
        return 0;
    __m256i ids = _mm256_add_epi32(_mm256_set1_epi32((int32_t)(i * 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_mask_compressstoreu_epi32(slots, (__mmask8)over, ids);
    _mm256_mask_compressstoreu_ps(estimates, (__mmask8)over, e);
    return (size_t)__builtin_popcount(over);
}

/* Two blocks at a time share each word of the query. */
static size_t scan_bits(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t begin, size_t end, const uint8_t *allow, float floor_,
                        uint32_t *slots, float *estimates)
{
    const int32_t n_words = b->n_words;
    const __m256 floor = _mm256_set1_ps(floor_);
    const __m512i zero = _mm512_setzero_si512();
    size_t n = 0, i = begin;
    for (; i + 2 <= end; i += 2) {
        if (allow && !(allow[i] | allow[i + 1]))
            continue;
        const uint64_t *words = b->words + i * (size_t)n_words * SV_VEC_BLOCK, *more = words + (size_t)n_words * SV_VEC_BLOCK;
        __m512i s[4] = {zero, zero, zero, zero}, t[4] = {zero, zero, zero, zero};
        for (int32_t w = 0; w < n_words; w++) {
            __m512i x = _mm512_load_si512(words + w * SV_VEC_BLOCK), y = _mm512_load_si512(more + w * SV_VEC_BLOCK);
            for (int j = 0; j < SV_VEC_PLANES; j++) {
                __m512i plane = _mm512_set1_epi64((int64_t)q->planes[w * SV_VEC_PLANES + j]);
                s[j] = _mm512_add_epi64(s[j], popcount(_mm512_xor_si512(x, plane)));
                t[j] = _mm512_add_epi64(t[j], popcount(_mm512_xor_si512(y, plane)));
            }
        }
        n += keep(b, q, i, weigh(s), allow ? allow[i] : 0xff, floor, slots + n, estimates + n);
        n += keep(b, q, i + 1, weigh(t), allow ? allow[i + 1] : 0xff, floor, slots + n, estimates + n);
    }
    for (; i < end; i++) {
        const uint64_t *words = b->words + i * (size_t)n_words * SV_VEC_BLOCK;
        __m512i s[4] = {zero, zero, zero, zero};
        for (int32_t w = 0; w < n_words; w++)
            for (int j = 0; j < SV_VEC_PLANES; j++)
                s[j] = _mm512_add_epi64(s[j], popcount(_mm512_xor_si512(_mm512_load_si512(words + w * SV_VEC_BLOCK),
                                                                        _mm512_set1_epi64((int64_t)q->planes[w * SV_VEC_PLANES + j]))));
        n += keep(b, q, i, weigh(s), allow ? allow[i] : 0xff, floor, slots + n, estimates + n);
    }
    return n;
}

static void hadamard(float *x, int32_t n)
{
    sv_vec_hadamard_body(x, n);
}

const sv_vec_kernels SET = {SET_NAME, dot, l2, dot_codes, dot_pair, scan_bits, hadamard};
