/* conv.h - convolutions and what stands between them, over one picture
 *
 * Every output number is one chain of fused multiply-adds in a fixed order (bias first, then taps from the top left, channels inside a tap): the same bits with
 * any number of threads, and with AVX2 and AVX-512. Tested within 2e-6 of the sum of magnitudes of a float64 loop.
 * Threads: the functions with a pool use it and return when all is done. */
#ifndef SV_NN_CONV_H
#define SV_NN_CONV_H

#include "base/err.h"
#include "nn/pool.h"

/* float32 [h][w][c] inside a border of `pad` pixels on each side, which convolutions read as the picture's surroundings: zeros. */
typedef struct sv_fmap {
    float *v; /* of the border's first pixel */
    int32_t h, w, c, pad;
} sv_fmap;
static inline size_t sv_fmap_floats(int32_t h, int32_t w, int32_t c, int32_t pad) { return (size_t)(h + 2 * pad) * (size_t)(w + 2 * pad) * (size_t)c; }
static inline float *sv_fmap_at(const sv_fmap *f, int32_t y, int32_t x)
{
    return f->v + ((int64_t)(y + f->pad) * (f->w + 2 * f->pad) + x + f->pad) * f->c;
}
void sv_fmap_clear_border(const sv_fmap *f);

typedef enum sv_act { SV_ACT_NONE, SV_ACT_RELU, SV_ACT_RELU6, SV_ACT_SILU, SV_ACT_GELU, SV_ACT_GELU_TANH, SV_ACT_LEAKY, SV_ACT_HARD_SWISH } sv_act;
void sv_act_run(float *x, int64_t n, sv_act act); /* LEAKY: slope 0.01 */

typedef struct sv_conv {
    int32_t n_in, n_out, kh, kw, stride, dilation;
    int32_t pad_y, pad_x; /* above and left; what is below and right follows from the output's size */
    bool depthwise;       /* n_in == n_out, each channel by itself */
    float *w, *bias;      /* packed, owned: sv_conv_done */
} sv_conv;

/* Packs weights [n_out][n_in][kh][kw] (depthwise: [n_out][1][kh][kw]). scale and shift, [n_out] or NULL, are a norm behind it: it becomes part of the
 * weights, in float64, rounded once. bias: [n_out] or NULL. c has its sizes set, w and bias NULL. SV_ENOMEM. */
SV_MUST sv_rc sv_conv_pack(sv_conv *c, const float *w, const float *bias, const double *scale, const double *shift, sv_err *err);
void sv_conv_done(sv_conv *c); /* zeros are fine */

/* y = act(conv(x) + add). The border of x is wide enough for what y's size asks (asserted), that of y is left alone. add has y's size, or is NULL; no overlap of x and y; add may
 * be y itself. */
void sv_conv_run(sv_pool *pool, const sv_conv *c, const sv_fmap *x, const sv_fmap *y, const sv_fmap *add, sv_act act);

/* The largest (of those inside the picture) and the mean over all. */
void sv_max_pool(sv_pool *pool, const sv_fmap *x, const sv_fmap *y, int32_t k, int32_t stride, int32_t pad);
void sv_mean_pool(const sv_fmap *x, float *out); /* [c]; sums in float64 */

#endif
