/* kernels.h - distances over float32, int8 codes and sign bits, for the best instruction set of this CPU
 *
 * Threads: pure functions; the choice of the set is made once, by sv_vec_kernels_select or by the first use. */
#ifndef SV_VEC_KERNELS_H
#define SV_VEC_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SV_VEC_BLOCK = 8,   /* vectors whose sign bits lie side by side, word by word */
    SV_VEC_PLANES = 4,  /* bits of a query's number against one bit of a vector's */
    SV_VEC_MAX_WORDS = 64,
};

/* Sign bits of many vectors: block i holds word w of its eight vectors at words[(i * n_words + w) * 8 + lane], and of each vector
 * the factor and bias of its estimate at scale[i * 8 + lane], bias[i * 8 + lane]. */
typedef struct sv_vec_bits {
    const uint64_t *words; /* 64-byte aligned */
    const float *scale, *bias;
    int32_t n_words;
} sv_vec_bits;

/* The query beside it. Number i of the query stands as sum over planes j of (bit ? +1 : -1) * 2^j: planes[w * SV_VEC_PLANES + j].
 * An estimate is scale * (unit * (offset - 2 * sum_j 2^j popcount(x ^ plane_j))) + bias, larger is closer. */
typedef struct sv_vec_bit_query {
    const uint64_t *planes;
    float unit;
    int32_t offset; /* (2^SV_VEC_PLANES - 1) * 64 * n_words */
} sv_vec_bit_query;

typedef struct sv_vec_kernels {
    const char *name;
    float (*dot)(const float *a, const float *b, int32_t n);
    float (*l2)(const float *a, const float *b, int32_t n); /* sum of squared differences */
    /* Sum of c[i] * q[i], exact: codes with 128 added, the query signed. n <= 2^16. */
    int32_t (*dot_codes)(const uint8_t *c, const int8_t *q, int32_t n);
    /* Sum of (a[i] - 128) * (b[i] - 128), exact: codes with codes. */
    int32_t (*dot_pair)(const uint8_t *a, const uint8_t *b, int32_t n);
    /* Slots of blocks [begin, end) whose estimate is over `floor` and whose bit in `allow` (NULL: all; one bit a slot) is set,
     * in order. Room for (end - begin) * 8 of each. Returns how many. */
    size_t (*scan_bits)(const sv_vec_bits *b, const sv_vec_bit_query *q, size_t begin, size_t end, const uint8_t *allow,
                        float floor, uint32_t *slots, float *estimates);
    /* Walsh-Hadamard transform of n = 2^k floats in place, without the 1/sqrt(n). */
    void (*hadamard)(float *x, int32_t n);
} sv_vec_kernels;

/* "avx512-vnni" (with VPOPCNTDQ), "avx512", "avx2" or "portable"; NULL: the best that this CPU has. false: unknown, or not on this CPU. For tests and benchmarks. */
bool sv_vec_kernels_select(const char *name);
const sv_vec_kernels *sv_vec_kernels_get(void);

#endif
