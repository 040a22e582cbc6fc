/* conv.c - packs weights, cuts convolutions into tasks, and does what needs no vectors
 *
 * Packed, the weights of 32 output channels lie beside each other for each tap and input channel: [n_out / 32][kh][kw][n_in][32], zeros behind the
 * last. A norm behind a convolution is two multiplications for each weight once, and nothing in each run.
 *
 * A task is some pixels of one block of channels: its weights (590 KB at most in a ResNet) stay in the core's L2 cache while its pixels stream by. */
#include "nn/conv_impl.h"

#include <math.h>
#include <string.h>

#include "nn/kernels.h"

enum { TASK_WORK = 1 << 17, DEPTHWISE_WORK = 1 << 16, TASKS = 16 };

static const sv_conv_set *conv_set(void)
{
#if defined(__x86_64__)
    const char *name = sv_kernels_name(); /* "avx512", "avx512vnni", "avxvnni", ..: what they add is for bytes */
    if (strncmp(name, "avx", 3) == 0)
        return strncmp(name, "avx512", 6) == 0 ? &sv_conv_avx512 : &sv_conv_avx2;
#endif
    return &sv_conv_portable;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

sv_rc sv_conv_pack(sv_conv *c, const float *w, const float *bias, const double *scale, const double *shift, sv_err *err)
{
    int64_t taps = (int64_t)c->kh * c->kw, n_blocks = (c->n_out + SV_CONV_BLOCK - 1) / SV_CONV_BLOCK;
    size_t n = c->depthwise ? (size_t)(taps * c->n_out) : (size_t)(n_blocks * taps * c->n_in * SV_CONV_BLOCK), n_bias = (size_t)n_blocks * SV_CONV_BLOCK;
    float *packed = sv_try_aligned(n * sizeof *packed, 64), *b = sv_try_aligned(n_bias * sizeof *b, 64);
    if (!packed || !b) {
        free(packed);
        free(b);
        return sv_fail(err, SV_ENOMEM, "no memory for a convolution of %d to %d channels", c->n_in, c->n_out);
    }
    memset(packed, 0, n * sizeof *packed);
    memset(b, 0, n_bias * sizeof *b);
    int64_t n_in = c->depthwise ? 1 : c->n_in;
    for (int64_t o = 0; o < c->n_out; o++) {
        double s = scale ? scale[o] : 1;
        b[o] = (float)((bias ? (double)bias[o] * s : 0) + (shift ? shift[o] : 0));
        for (int64_t i = 0; i < n_in; i++)
            for (int64_t t = 0; t < taps; t++) {
                float v = (float)((double)w[(o * n_in + i) * taps + t] * s);
                if (c->depthwise)
                    packed[t * c->n_out + o] = v;
                else
                    packed[((o / SV_CONV_BLOCK * taps + t) * n_in + i) * SV_CONV_BLOCK + o % SV_CONV_BLOCK] = v;
            }
    }
    c->w = packed;
    c->bias = b;
    return SV_OK;
}

void sv_conv_done(sv_conv *c)
{
    free(c->w);
    free(c->bias);
    *c = (sv_conv){0};
}

/* --- maps --------------------------------------------------------------------------------------------------------- */

void sv_fmap_clear_border(const sv_fmap *f)
{
    size_t row = (size_t)(f->w + 2 * f->pad) * (size_t)f->c, side = (size_t)f->pad * (size_t)f->c;
    if (f->pad == 0)
        return;
    memset(f->v, 0, row * (size_t)f->pad * sizeof *f->v);
    for (int32_t y = 0; y < f->h; y++) {
        float *p = f->v + (size_t)(y + f->pad) * row;
        memset(p, 0, side * sizeof *p);
        memset(p + row - side, 0, side * sizeof *p);
    }
    memset(f->v + (size_t)(f->h + f->pad) * row, 0, row * (size_t)f->pad * sizeof *f->v);
}

void sv_act_run(float *x, int64_t n, sv_act act)
{
    switch (act) {
    case SV_ACT_NONE: return;
    case SV_ACT_RELU:
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] > 0 ? x[i] : 0;
        return;
    case SV_ACT_RELU6:
        for (int64_t i = 0; i < n; i++) {
            float v = x[i] > 0 ? x[i] : 0;
            x[i] = v < 6 ? v : 6;
        }
        return;
    case SV_ACT_SILU:
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] / (1 + expf(-x[i]));
        return;
    case SV_ACT_GELU: sv_gelu_erf(x, n); return;
    case SV_ACT_GELU_TANH: sv_gelu_tanh(x, n); return;
    case SV_ACT_LEAKY:
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] > 0 ? x[i] : x[i] * 0.01f;
        return;
    case SV_ACT_HARD_SWISH:
        for (int64_t i = 0; i < n; i++) {
            float v = x[i] + 3 > 0 ? x[i] + 3 : 0;
            x[i] = x[i] * (v < 6 ? v : 6) / 6;
        }
        return;
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

typedef struct job { sv_conv_pass pass; const sv_conv_set *set; } job;

static void dense_task(void *arg, int32_t i)
{
    const job *j = arg;
    int32_t n = j->pass.y->h * j->pass.y->w, begin = i % j->pass.n_groups * j->pass.group, end = begin + j->pass.group;
    j->set->dense(&j->pass, i / j->pass.n_groups, begin, end < n ? end : n);
}

static void depthwise_task(void *arg, int32_t i)
{
    const job *j = arg;
    int32_t n = j->pass.y->h * j->pass.y->w, begin = i * j->pass.group, end = begin + j->pass.group;
    j->set->depthwise(&j->pass, begin, end < n ? end : n);
}

static void check_reach(const sv_conv *c, const sv_fmap *x, const sv_fmap *y)
{
    int32_t down = (y->h - 1) * c->stride - c->pad_y + (c->kh - 1) * c->dilation, right = (y->w - 1) * c->stride - c->pad_x + (c->kw - 1) * c->dilation;
    SV_ASSERT(x->c == c->n_in && y->c == c->n_out && y->h > 0 && y->w > 0);
    SV_ASSERT(c->pad_y <= x->pad && c->pad_x <= x->pad && down < x->h + x->pad && right < x->w + x->pad);
}

void sv_conv_run(sv_pool *pool, const sv_conv *c, const sv_fmap *x, const sv_fmap *y, const sv_fmap *add, sv_act act)
{
    job j = {.set = conv_set(), .pass = {.c = c, .x = x, .y = y, .add = add, .act = act}};
    int32_t n = y->h * y->w;
    int64_t work = (int64_t)c->kh * c->kw * (c->depthwise ? c->n_out : (int64_t)c->n_in * SV_CONV_BLOCK); /* of a pixel */
    check_reach(c, x, y);
    SV_ASSERT(!add || (add->h == y->h && add->w == y->w && add->c == y->c));
    j.pass.n_blocks = (c->n_out + SV_CONV_BLOCK - 1) / SV_CONV_BLOCK;
    int64_t group = DEPTHWISE_WORK / work;
    if (!c->depthwise) { /* a core keeps its blocks of weights: pixels are only parted where there are few blocks */
        int32_t parts = (TASKS + j.pass.n_blocks - 1) / j.pass.n_blocks;
        group = (n + parts - 1) / parts;
        group = group * work < TASK_WORK ? TASK_WORK / work : group;
        group = (group + 11) / 12 * 12; /* whole tiles */
    }
    group = group < 1 ? 1 : group;
    j.pass.group = (int32_t)(group < n ? group : n);
    j.pass.n_groups = (n + j.pass.group - 1) / j.pass.group;
    if (c->depthwise)
        sv_pool_run(pool, j.pass.n_groups, depthwise_task, &j);
    else
        sv_pool_run(pool, j.pass.n_groups * j.pass.n_blocks, dense_task, &j);
}

/* --- pools -------------------------------------------------------------------------------------------------------- */

typedef struct pool_job { const sv_fmap *x, *y; int32_t k, stride, pad; } pool_job;

static void max_row(void *arg, int32_t y)
{
    const pool_job *j = arg;
    int32_t c = j->x->c;
    for (int32_t x = 0; x < j->y->w; x++) {
        float *to = sv_fmap_at(j->y, y, x);
        bool first = true;
        for (int32_t ky = 0; ky < j->k; ky++)
            for (int32_t kx = 0; kx < j->k; kx++) {
                int32_t sy = y * j->stride - j->pad + ky, sx = x * j->stride - j->pad + kx;
                if (sy < 0 || sy >= j->x->h || sx < 0 || sx >= j->x->w)
                    continue;
                const float *from = sv_fmap_at(j->x, sy, sx);
                for (int32_t i = 0; i < c; i++)
                    to[i] = first || from[i] > to[i] ? from[i] : to[i];
                first = false;
            }
        SV_ASSERT(!first);
    }
}

void sv_max_pool(sv_pool *pool, const sv_fmap *x, const sv_fmap *y, int32_t k, int32_t stride, int32_t pad)
{
    SV_ASSERT(x->c == y->c && pad < k);
    sv_pool_run(pool, y->h, max_row, &(pool_job){x, y, k, stride, pad});
}

void sv_mean_pool(const sv_fmap *x, float *out)
{
    enum { PART = 256 };
    for (int32_t at = 0; at < x->c; at += PART) { /* pixels in order, so that memory is read in order */
        double sum[PART] = {0};
        int32_t n = x->c - at < PART ? x->c - at : PART;
        for (int32_t y = 0; y < x->h; y++)
            for (int32_t k = 0; k < x->w; k++) {
                const float *p = sv_fmap_at(x, y, k) + at;
                for (int32_t i = 0; i < n; i++)
                    sum[i] += (double)p[i];
            }
        for (int32_t i = 0; i < n; i++)
            out[at + i] = (float)(sum[i] / ((double)x->h * x->w));
    }
}
