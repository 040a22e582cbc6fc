/* codes.h - a vector in one byte a dimension and in one bit a dimension, and what a query asks of them
 *
 * Threads: a coder is immutable once trained. */
#ifndef SV_VEC_CODES_H
#define SV_VEC_CODES_H

#include "vec/kernels.h"
#include "vec/vec.h"

enum { SV_VEC_CODE_TAIL = 16, SV_VEC_ROUNDS = 4 };

typedef struct sv_vec_coder {
    sv_vec_metric metric;
    int32_t dimensions, n_words;
    size_t stride;      /* bytes of a byte code: the dimensions, room, then struct sv_vec_tail */
    float *mean;        /* [dimensions]; what all vectors share is taken off before coding */
    float *signs;       /* [SV_VEC_ROUNDS][dimensions], +1 or -1: the rotation */
    float *turned_mean; /* the mean after the rotation */
    float norm2_max;    /* of the training vectors; dot product only */
} sv_vec_coder;

/* Behind each byte code. A vector is about scale * (code - 128) in the rotated space without the mean. */
typedef struct sv_vec_tail {
    float scale;
    float bias;   /* added to the product with the query: ranks vectors as the metric does */
    float norm2;  /* of the rotated vector without the mean */
    float lift;   /* dot product: the further coordinate that makes all norms equal; else 0 */
} sv_vec_tail;

typedef struct sv_vec_code_query {
    int8_t codes[SV_VEC_MAX_DIMENSIONS];
    uint64_t planes[SV_VEC_MAX_WORDS * SV_VEC_PLANES];
    float scale;         /* of codes */
    int32_t sum128;      /* 128 * sum of codes */
    float unit;          /* of planes */
    bool build;          /* rank by euclidean distance in the lifted space, whatever the metric */
    float lift;
} __attribute__((aligned(64))) sv_vec_code_query;

void sv_vec_coder_init(sv_vec_coder *c, sv_vec_metric metric, int32_t dimensions);
void sv_vec_coder_done(sv_vec_coder *c);
void sv_vec_coder_train(sv_vec_coder *c, const float *const *vectors, size_t n); /* n > 0 */
void sv_vec_coder_set_mean(sv_vec_coder *c, const float *mean, float norm2_max); /* as trained before */

/* code: [stride], 16-byte aligned. words: word w goes to words[w * SV_VEC_BLOCK]. */
void sv_vec_coder_encode(const sv_vec_coder *c, const float *x, uint8_t *code, uint64_t *words, float *bit_scale, float *bit_bias);
void sv_vec_coder_query(const sv_vec_coder *c, const float *x, sv_vec_code_query *q);
/* The stored code as a query, for building a graph; sets no planes. */
void sv_vec_coder_requery(const sv_vec_coder *c, const uint8_t *code, sv_vec_code_query *q);

static inline const sv_vec_tail *sv_vec_code_tail(const sv_vec_coder *c, const uint8_t *code)
{
    return (const sv_vec_tail *)(const void *)(code + c->stride - SV_VEC_CODE_TAIL);
}

/* Squared distance of two codes in the lifted space. */
static inline float sv_vec_code_distance(const sv_vec_kernels *k, const sv_vec_coder *c, const uint8_t *a, const uint8_t *b)
{
    const sv_vec_tail *s = sv_vec_code_tail(c, a), *t = sv_vec_code_tail(c, b);
    float product = s->scale * t->scale * (float)k->dot_pair(a, b, c->dimensions), up = s->lift - t->lift;
    return s->norm2 + t->norm2 - 2 * product + up * up;
}

/* Larger is closer. */
static inline float sv_vec_code_score(const sv_vec_kernels *k, const sv_vec_coder *c, const sv_vec_code_query *q, const uint8_t *code)
{
    const sv_vec_tail *t = sv_vec_code_tail(c, code);
    float product = t->scale * q->scale * (float)(k->dot_codes(code, q->codes, c->dimensions) - q->sum128);
    if (!q->build)
        return product + t->bias;
    return product - (t->norm2 + (t->lift - q->lift) * (t->lift - q->lift)) / 2;
}

#endif
