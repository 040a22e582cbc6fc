/* codes.c - byte codes and sign bits
 *
 * A vector x becomes x' = P(x - mean): the mean of the collection is taken off (embeddings share a direction, and codes would spend
 * their bits on it), then a rotation P spreads every direction over all coordinates, so that each coordinate carries alike much and
 * none needs a range of its own. P is SV_VEC_ROUNDS times: flip signs at random, then a Hadamard transform over the first or the last
 * 2^k coordinates: n log n additions, orthogonal as a whole.
 *
 * Bytes: x' ~ scale * (code - 128), one scale a vector. Bits: signs of x'; with s the vector of +-1,
 *     <q', x'> ~ <q', s> * |x'|^2 / |x'|_1
 * is unbiased over rotations (RaBitQ: Gao & Long 2024, arXiv:2405.12497; the factor makes it exact for q' = x'). The query has four
 * bits a coordinate, odd whole numbers -15 to 15, which turns <q', s> into four popcounts a word.
 *
 * One score for all metrics, larger is closer; q' = P(q - mean), and under cosine all vectors are made length 1 first:
 *     euclidean, cosine   -|q' - x'|^2 / 2 + const = <q', x'> - |x'|^2 / 2
 *     dot product         <q, x> + const           = <q', x'> + <mean, x - mean>
 * The second term is the bias of a vector, the constant of a query is left out. Final scores come from full vectors anyway.
 *
 * A graph wants a metric space and dot products are none: while it is built, a vector has one more coordinate, the lift
 * sqrt(norm2_max - |x|^2), that gives all of them one norm, and a query has 0 there; nearest by distance is then largest by product
 * (Bachrach et al. 2014). Vectors that outgrow norm2_max get a lift of 0. */
#include "vec/codes.h"

#include <math.h>
#include <string.h>

void sv_vec_coder_init(sv_vec_coder *c, sv_vec_metric metric, int32_t dimensions)
{
    size_t n = (size_t)dimensions;
    *c = (sv_vec_coder){.metric = metric, .dimensions = dimensions, .n_words = (dimensions + 63) / 64,
                        .stride = (n + SV_VEC_CODE_TAIL + 15) / 16 * 16, .mean = sv_xcalloc(n, sizeof(float)),
                        .signs = sv_xcalloc(n * SV_VEC_ROUNDS, sizeof(float)), .turned_mean = sv_xcalloc(n, sizeof(float))};
    uint64_t seed = 0x853c49e6748fea9bu; /* fixed: codes on disk must mean the same for ever */
    for (size_t i = 0; i < n * SV_VEC_ROUNDS; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        c->signs[i] = seed >> 40 & 1 ? 1.0f : -1.0f;
    }
}

void sv_vec_coder_done(sv_vec_coder *c)
{
    free(c->mean);
    free(c->signs);
    free(c->turned_mean);
    *c = (sv_vec_coder){0};
}

static void turn(const sv_vec_coder *c, float *x)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    int32_t n = c->dimensions, block = 1;
    while (block * 2 <= n)
        block *= 2;
    float norm = 1.0f / sqrtf((float)block);
    for (int32_t r = 0; r < SV_VEC_ROUNDS; r++) {
        const float *signs = c->signs + (size_t)r * (size_t)n;
        float *part = r % 2 ? x + n - block : x;
        for (int32_t i = 0; i < n; i++)
            x[i] *= signs[i];
        k->hadamard(part, block);
        for (int32_t i = 0; i < block; i++)
            part[i] *= norm;
    }
}

/* 1/|x| under cosine, else 1. */
static float unit_factor(const sv_vec_coder *c, const float *x)
{
    float n2 = c->metric == SV_VEC_COSINE ? sv_vec_kernels_get()->dot(x, x, c->dimensions) : 1.0f;
    return n2 > 0 ? 1.0f / sqrtf(n2) : 0.0f;
}

void sv_vec_coder_set_mean(sv_vec_coder *c, const float *mean, float norm2_max)
{
    size_t n = (size_t)c->dimensions * sizeof(float);
    if (mean != c->mean)
        memcpy(c->mean, mean, n);
    memcpy(c->turned_mean, c->mean, n);
    turn(c, c->turned_mean);
    c->norm2_max = norm2_max;
}

void sv_vec_coder_train(sv_vec_coder *c, const float *const *vectors, size_t n)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    SV_AUTO(sv_freep) double *sum = sv_xcalloc((size_t)c->dimensions, sizeof(double));
    float norm2_max = 0;
    for (size_t i = 0; i < n; i++) {
        float f = unit_factor(c, vectors[i]), n2 = k->dot(vectors[i], vectors[i], c->dimensions);
        for (int32_t d = 0; d < c->dimensions; d++)
            sum[d] += vectors[i][d] * f;
        norm2_max = n2 > norm2_max ? n2 : norm2_max;
    }
    for (int32_t d = 0; d < c->dimensions; d++)
        c->mean[d] = (float)(sum[d] / (double)n);
    sv_vec_coder_set_mean(c, c->mean, norm2_max);
}

/* x' of the comment above. */
static void turned(const sv_vec_coder *c, const float *x, float *out)
{
    float f = unit_factor(c, x);
    for (int32_t i = 0; i < c->dimensions; i++)
        out[i] = x[i] * f - c->mean[i];
    turn(c, out);
}

static float lift(const sv_vec_coder *c, const float *x)
{
    if (c->metric != SV_VEC_DOT)
        return 0;
    float rest = c->norm2_max - sv_vec_kernels_get()->dot(x, x, c->dimensions);
    return rest > 0 ? sqrtf(rest) : 0;
}

static float largest(const float *x, int32_t n)
{
    float m = 0;
    for (int32_t i = 0; i < n; i++)
        m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    return m;
}

void sv_vec_coder_encode(const sv_vec_coder *c, const float *x, uint8_t *code, uint64_t *words, float *bit_scale, float *bit_bias)
{
    float t[SV_VEC_MAX_DIMENSIONS], sum1 = 0;
    int32_t n = c->dimensions;
    turned(c, x, t);
    float scale = largest(t, n) / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0;
    for (int32_t i = 0; i < n; i++) {
        code[i] = (uint8_t)(128.5f + t[i] * inverse); /* 1.5 to 255.5: rounds to nearest, no sign to mind */
        sum1 += fabsf(t[i]);
    }
    memset(code + n, 0, c->stride - SV_VEC_CODE_TAIL - (size_t)n);
    const sv_vec_kernels *k = sv_vec_kernels_get();
    sv_vec_tail tail = {.scale = scale, .norm2 = k->dot(t, t, n), .lift = lift(c, x)};
    tail.bias = c->metric == SV_VEC_DOT ? k->dot(t, c->turned_mean, n) : -tail.norm2 / 2;
    memcpy(code + c->stride - SV_VEC_CODE_TAIL, &tail, sizeof tail);

    for (int32_t w = 0; w < c->n_words; w++) {
        uint64_t word = 0;
        for (int32_t i = 0; i < 64 && w * 64 + i < n; i++)
            word |= (uint64_t)(t[w * 64 + i] > 0) << i;
        words[w * SV_VEC_BLOCK] = word;
    }
    *bit_scale = sum1 > 0 ? tail.norm2 / sum1 : 0;
    *bit_bias = tail.bias;
}

void sv_vec_coder_query(const sv_vec_coder *c, const float *x, sv_vec_code_query *q)
{
    float t[SV_VEC_MAX_DIMENSIONS];
    int32_t n = c->dimensions, sum = 0;
    turned(c, x, t);
    float most = largest(t, n), inverse = most > 0 ? 127.0f / most : 0;
    for (int32_t i = 0; i < n; i++) {
        q->codes[i] = (int8_t)((int32_t)(t[i] * inverse + 128.5f) - 128);
        sum += q->codes[i];
    }
    q->scale = most / 127.0f;
    q->sum128 = sum * 128;
    q->build = false;
    q->lift = 0;

    /* 0 to 15 stand for -15, -13, ... 15 times unit; coordinates past the end have all planes 0, as the vectors have their bits. */
    memset(q->planes, 0, (size_t)c->n_words * SV_VEC_PLANES * sizeof(uint64_t));
    q->unit = most / 15.0f;
    float step = most > 0 ? 7.5f / most : 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t level = (int32_t)(t[i] * step + 8.0f);
        level = level > 15 ? 15 : level < 0 ? 0 : level;
        for (int j = 0; j < SV_VEC_PLANES; j++)
            q->planes[i / 64 * SV_VEC_PLANES + j] |= (uint64_t)(level >> j & 1) << i % 64;
    }
}

void sv_vec_coder_requery(const sv_vec_coder *c, const uint8_t *code, sv_vec_code_query *q)
{
    const sv_vec_tail *t = sv_vec_code_tail(c, code);
    int32_t sum = 0;
    for (int32_t i = 0; i < c->dimensions; i++) {
        q->codes[i] = (int8_t)(code[i] - 128);
        sum += q->codes[i];
    }
    q->scale = t->scale;
    q->sum128 = sum * 128;
    q->build = true;
    q->lift = t->lift;
}
