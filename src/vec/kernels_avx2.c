/* kernels_avx2.c - the kernels in AVX2 and FMA */
#include <immintrin.h>

#include "vec/kernels_impl.h"

static inline float sum8(__m256 v)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static float dot(const float *a, const float *b, int32_t n)
{
    __m256 s[4] = {0};
    int32_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int l = 0; l < 4; l++)
            s[l] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * l), _mm256_loadu_ps(b + i + 8 * l), s[l]);
    for (; i + 8 <= n; i += 8)
        s[0] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s[0]);
    float sum = sum8(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static float l2(const float *a, const float *b, int32_t n)
{
    __m256 s[4] = {0};
    int32_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int l = 0; l < 4; l++) {
            __m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i + 8 * l), _mm256_loadu_ps(b + i + 8 * l));
            s[l] = _mm256_fmadd_ps(d, d, s[l]);
        }
    for (; i + 8 <= n; i += 8) {
        __m256 d = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        s[0] = _mm256_fmadd_ps(d, d, s[0]);
    }
    float sum = sum8(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
    for (; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* Widened to 16 bits: the one instruction for bytes (maddubs) saturates, and 255 * 127 twice is over what it holds. */
static int32_t dot_codes(const uint8_t *c, const int8_t *q, int32_t n)
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
    int32_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i c0 = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(c + i)));
        __m256i q0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(q + i)));
        __m256i c1 = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(c + i + 16)));
        __m256i q1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(q + i + 16)));
        s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(c0, q0));
        s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(c1, q1));
    }
    s0 = _mm256_add_epi32(s0, s1);
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(s0), _mm256_extracti128_si256(s0, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1));
    int32_t sum = _mm_cvtsi128_si32(a);
    for (; i < n; i++)
        sum += (int32_t)c[i] * q[i];
    return sum;
}

static int32_t dot_pair(const uint8_t *a, const uint8_t *b, int32_t n)
{
    const __m128i flip = _mm_set1_epi8(-128);
    __m256i s = _mm256_setzero_si256();
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i x = _mm256_cvtepi8_epi16(_mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)(a + i)), flip));
        __m256i y = _mm256_cvtepi8_epi16(_mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)(b + i)), flip));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(x, y));
    }
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    int32_t sum = _mm_cvtsi128_si32(t);
    for (; i < n; i++)
        sum += ((int32_t)a[i] - 128) * ((int32_t)b[i] - 128);
    return sum;
}

/* Bits of each byte, by looking up its halves (Mula's way). */
static inline __m256i popcount_bytes(__m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}

/* Four vectors: sum_j 2^j popcount(x ^ plane_j). */
static inline __m256i apart4(const uint64_t *words, const uint64_t *planes, int32_t n_words)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum[SV_VEC_PLANES] = {zero, zero, zero, zero};
    for (int32_t w = 0; w < n_words;) {
        int32_t stop = w + 31 < n_words ? w + 31 : n_words; /* 31 words of at most 8 a byte fit a byte */
        __m256i bytes[SV_VEC_PLANES] = {zero, zero, zero, zero};
        for (; w < stop; w++) {
            __m256i x = _mm256_load_si256((const __m256i *)(const void *)(words + w * SV_VEC_BLOCK));
            for (int j = 0; j < SV_VEC_PLANES; j++)
                bytes[j] = _mm256_add_epi8(bytes[j], popcount_bytes(_mm256_xor_si256(x, _mm256_set1_epi64x((int64_t)planes[w * SV_VEC_PLANES + j]))));
        }
        for (int j = 0; j < SV_VEC_PLANES; j++)
            sum[j] = _mm256_add_epi64(sum[j], _mm256_sad_epu8(bytes[j], zero));
    }
    __m256i s = sum[SV_VEC_PLANES - 1];
    for (int j = SV_VEC_PLANES - 2; j >= 0; j--)
        s = _mm256_add_epi64(_mm256_slli_epi64(s, 1), sum[j]);
    return s;
}

static size_t scan_bits(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t begin, size_t end, const uint8_t *allow, float floor,
                        uint32_t *slots, float *estimates)
{
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    size_t n = 0;
    for (size_t i = begin; i < end; i++) {
        if (allow && !allow[i])
            continue;
        const uint64_t *words = b->words + i * (size_t)b->n_words * SV_VEC_BLOCK;
        __m256i lo = _mm256_permutevar8x32_epi32(apart4(words, q->planes, b->n_words), even);
        __m256i hi = _mm256_permutevar8x32_epi32(apart4(words + 4, q->planes, b->n_words), even);
        __m256i apart = _mm256_blend_epi32(lo, hi, 0xf0);
        __m256i agree = _mm256_sub_epi32(_mm256_set1_epi32(q->offset), _mm256_slli_epi32(apart, 1));
        __m256 e = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(agree), _mm256_set1_ps(q->unit)), _mm256_loadu_ps(b->scale + i * 8),
                                   _mm256_loadu_ps(b->bias + i * 8));
        unsigned over = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(e, _mm256_set1_ps(floor), _CMP_GT_OQ));
        if (allow)
            over &= allow[i];
        if (!over)
            continue;
        float values[8];
        _mm256_storeu_ps(values, e);
        for (; over; over &= over - 1) {
            unsigned lane = (unsigned)__builtin_ctz(over);
            slots[n] = (uint32_t)(i * 8 + lane);
            estimates[n++] = values[lane];
        }
    }
    return n;
}

static void hadamard(float *x, int32_t n)
{
    sv_vec_hadamard_body(x, n);
}

const sv_vec_kernels sv_vec_kernels_avx2 = {"avx2", dot, l2, dot_codes, dot_pair, scan_bits, hadamard};
