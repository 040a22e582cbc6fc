/* kernels.h - the arithmetic of a transformer step, for the best instruction set of this CPU
 *
 * Every function computes each row of its result from that row's inputs alone, with a fixed order of sums: the same bits
 * whatever other rows there are, however rows are grouped, and with any number of threads. All activations are float32.
 * Threads: the functions with a pool use it and return when all is done; the others run on the calling thread. */
#ifndef SV_NN_KERNELS_H
#define SV_NN_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "nn/pool.h"
#include "nn/tensor.h"

/* "avx512vnni", "avx512", "avxvnni", "avx2", "neondot", "neon" or "portable"; NULL: the best that this CPU has, which is also the state at the start. false: unknown, or not on
 * this CPU. For tests and benchmarks, before any other thread computes. */
bool sv_kernels_select(const char *name);
const char *sv_kernels_name(void);

enum { SV_MAX_ROW = 65536 }; /* longest row of a weight matrix: a dequantised row must fit a thread's stack */

/* 32 activations rounded to 8 bits: value i is scale * q[i], within half a scale; scale is the largest magnitude / 127. */
typedef struct sv_q8 {
    int8_t q[32];
    float scale;
    float sum;        /* scale times the sum of q */
    int32_t minus[2]; /* the sums of the halves of q, negated */
} sv_q8;
/* n floats, a multiple of 32. Ties round to even; the same bits on every CPU. */
void sv_quantise(sv_q8 *dst, const float *x, int64_t n);

/* y = x W^T (+ bias), or y += that.
 *   w     [n_out, n_in] of any computable type; n_in = dims[0] <= SV_MAX_ROW
 *   x     float32 [n_rows, n_in]; not looked at where w is packed (pack.h)
 *   xq    the same by sv_quantise; only looked at where w is packed
 *   y     float32 [n_rows, n_out], or y_rows: n_rows pointers to [n_out] each; no overlap with x
 *   bias  float32 [n_out] or NULL
 * As files have it, a weight's value is exactly what sv_dequantize gives; products are summed in 16 lanes by fused multiply-add (mul, then
 * add, in the portable set), then the lanes pairwise. Packed, weights meet activations of 8 bits: integer sums of 32 products (Q6_K: 16), scaled
 * and added to one float, block by block. All sets but portable and neon give the same bits. */
typedef struct sv_matmul {
    const sv_tensor *w;
    const float *x;
    const sv_q8 *xq;
    int32_t n_rows;
    float *y;
    float *const *y_rows;
    const float *bias;
    bool add;
} sv_matmul;
/* Several matrices in one pass over the threads; 1 to 8 of them, each with n_rows > 0. */
void sv_matmul_run(sv_pool *pool, const sv_matmul *ops, int32_t n_ops);

/* RMSNorm over the last axis: y = x / sqrt(mean(x*x) + eps) * w
 *   x, y  float32 [n_rows, n_embd]; y may be x.   w  float32 [n_embd]
 * Sums in float32, 16 lanes. Tested within 1e-5 relative of a float64 loop. Zhang & Sennrich 2019, arXiv:1910.07467. */
void sv_rms_norm(float *y, const float *x, const float *w, int32_t n_rows, int32_t n_embd, float eps);

/* LayerNorm over the last axis: y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * w + b
 *   shapes, aliasing and sums as above; b  float32 [n_embd]. Ba et al. 2016, arXiv:1607.06450. */
void sv_layer_norm(float *y, const float *x, const float *w, const float *b, int32_t n_rows, int32_t n_embd, float eps);

/* Rotary positions: pair i turns by pos * freqs[i]. It is (x[2i], x[2i+1]) (the layout of llama GGUF files) or, in halves,
 * (x[i], x[i + n_pairs]) (that of Hugging Face's files). Angles in float64, their cosine and sine rounded once; where scale is not
 * 1, it lengthens the pairs. Su et al. 2021, arXiv:2104.09864. */
void sv_rope_table(float *cos_sin, const double *freqs, double scale, int32_t n_pairs, int32_t pos); /* [n_pairs][2] */
void sv_rope(float *x, const float *cos_sin, int32_t n_pairs, int32_t n_head, int32_t head_dim); /* [n_head, head_dim], in place */
void sv_rope_halves(float *x, const float *cos_sin, int32_t n_pairs, int32_t n_head, int32_t head_dim);

/* y = silu(gate) * up, silu(g) = g / (1 + exp(-g)). y may be gate. Within 3e-7 relative of float64 for |gate| <= 87. */
void sv_swiglu(float *y, const float *gate, const float *up, int64_t n);

/* x = gelu(x), by tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Within 1e-6 relative of float64 down to -5, and of 1e-6 absolute
 * below. Hendrycks & Gimpel 2016, arXiv:1606.08415. */
void sv_gelu_tanh(float *x, int64_t n);

/* x = gelu(x), the exact one: x/2 (1 + erf(x / sqrt(2))). Within 1e-6 absolute of float64, and relative above 0. */
void sv_gelu_erf(float *x, int64_t n);

/* The paged KV cache. A page holds SV_KV_PAGE positions of all layers; within it, one layer's part is
 *     keys    float32 [n_head_kv, head_dim, SV_KV_PAGE]   transposed: the scores of a page need no sum across lanes
 *     values  float32 [n_head_kv, SV_KV_PAGE, head_dim rounded up to 16]
 * Float32, since truth comes before memory: at half the bytes float16 costs 5e-4 relative in each key, more than all other
 * rounding together. Slots past the last position written are never read into a result. */
#define SV_KV_PAGE 32
typedef struct sv_kv_layout {
    int32_t n_head_kv, head_dim;
    size_t k_at, v_at; /* where this layer's parts begin, in floats */
} sv_kv_layout;
size_t sv_kv_layer_floats(int32_t n_head_kv, int32_t head_dim); /* of one layer in one page; keys first, then values */
/* k, v: [n_head_kv, head_dim] of one position, slot = position % SV_KV_PAGE. */
void sv_kv_write(const sv_kv_layout *kv, void *page, int32_t slot, const float *k, const float *v);

/* Causal attention with grouped queries: row i of a chunk stands at pos + i and sees positions 0 to pos + i, or where `window` is set
 * the last `window` of them.
 *   q, out  float32 [rows of all chunks, n_head, head_dim]
 * Online softmax over pages, which begin at absolute positions, so a row's sums do not depend on how its prompt was cut.
 * head_dim <= SV_MAX_HEAD_DIM. Milakov & Gimelshein 2018, arXiv:1805.02867; Kwon et al. 2023, arXiv:2309.06180. */
enum { SV_MAX_HEAD_DIM = 512 };
typedef struct sv_attn_chunk {
    void *const *pages;
    int32_t pos, n_rows;
    int32_t row; /* the chunk's first row in q and out */
} sv_attn_chunk;
typedef struct sv_attn {
    const float *q;
    float *out;
    int32_t n_head;
    int32_t window; /* 0: all */
    bool full;      /* encoders: every row of a chunk sees all of the sequence, 0 to pos + n_rows - 1; no window then */
    float scale;
    sv_kv_layout kv;
    const sv_attn_chunk *chunks;
    int32_t n_chunks;
} sv_attn;
void sv_attention(sv_pool *pool, const sv_attn *a);

#endif
