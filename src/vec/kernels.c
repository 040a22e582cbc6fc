/* kernels.c - chooses the instruction set, and does everything in plain C where there is none
 *
 * What decides the layouts: a scan reads memory once and is bound by it, so codes are as small as they can be (one bit or one
 * byte a dimension) and the arithmetic must keep up. Sign bits of eight vectors lie word by word beside each other, so that a
 * 512-bit register holds one word of eight vectors and no sum ever crosses lanes. Codes of one byte lie vector by vector, since the
 * graph asks for one here and one there.
 *
 * The portable set is also the reference of the tests, apart from those that check it against float64. */
#include "vec/kernels_impl.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

static float dot(const float *a, const float *b, int32_t n)
{
    float lanes[8] = {0}, sum = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++)
            lanes[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int l = 0; l < 8; l++)
        sum += lanes[l];
    return sum;
}

static float l2(const float *a, const float *b, int32_t n)
{
    float lanes[8] = {0}, sum = 0;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++)
            lanes[l] += (a[i + l] - b[i + l]) * (a[i + l] - b[i + l]);
    for (; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    for (int l = 0; l < 8; l++)
        sum += lanes[l];
    return sum;
}

static int32_t dot_codes(const uint8_t *c, const int8_t *q, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (int32_t)c[i] * q[i];
    return sum;
}

static int32_t dot_pair(const uint8_t *a, const uint8_t *b, int32_t n)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += ((int32_t)a[i] - 128) * ((int32_t)b[i] - 128);
    return sum;
}

static size_t scan_bits(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t begin, size_t end, const uint8_t *allow, float floor,
                        uint32_t *slots, float *estimates)
{
    size_t n = 0;
    for (size_t i = begin; i < end; i++) {
        const uint64_t *words = b->words + i * (size_t)b->n_words * SV_VEC_BLOCK;
        for (unsigned lane = 0; lane < SV_VEC_BLOCK; lane++) {
            if (allow && !(allow[i] >> lane & 1))
                continue;
            int32_t apart = 0;
            for (int32_t w = 0; w < b->n_words; w++)
                for (int j = 0; j < SV_VEC_PLANES; j++)
                    apart += __builtin_popcountll(words[w * SV_VEC_BLOCK + (int32_t)lane] ^ q->planes[w * SV_VEC_PLANES + j]) << j;
            size_t slot = i * SV_VEC_BLOCK + lane;
            float e = (float)(q->offset - 2 * apart) * q->unit * b->scale[slot] + b->bias[slot];
            if (e > floor) {
                slots[n] = (uint32_t)slot;
                estimates[n++] = e;
            }
        }
    }
    return n;
}

static void hadamard(float *x, int32_t n)
{
    sv_vec_hadamard_body(x, n);
}

const sv_vec_kernels sv_vec_kernels_portable = {"portable", dot, l2, dot_codes, dot_pair, scan_bits, hadamard};

/* --- the choice ----------------------------------------------------------------------------------------------------- */

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

static const struct {
    const sv_vec_kernels *set;
    bool (*supported)(void);
} sets[] = { /* the best first */
#if defined(__x86_64__)
    {&sv_vec_kernels_avx512_vnni, has_vnni}, {&sv_vec_kernels_avx512, has_avx512}, {&sv_vec_kernels_avx2, has_avx2},
#endif
    {&sv_vec_kernels_portable, always},
};
static const sv_vec_kernels *_Atomic selected;

bool sv_vec_kernels_select(const char *name)
{
    for (size_t i = 0; i < SV_LEN(sets); i++)
        if ((!name || strcmp(name, sets[i].set->name) == 0) && sets[i].supported()) {
            atomic_store(&selected, sets[i].set);
            return true;
        }
    return false;
}

const sv_vec_kernels *sv_vec_kernels_get(void)
{
    const sv_vec_kernels *k = atomic_load_explicit(&selected, memory_order_acquire);
    if (k)
        return k;
    SV_ASSERT(sv_vec_kernels_select(NULL));
    return atomic_load(&selected);
}
