/* mobilenet.c - MobileNetV2
 *
 * Sandler et al. 2018, arXiv:1801.04381. After a first convolution of stride 2, sixteen blocks that widen, look at each channel by itself, and narrow
 * again, which is where the picture is kept:
 *
 *     y = narrow 1x1 (act(depthwise 3x3 / stride (act(widen 1x1 of x))))      plus x where stride is 1 and the channels are as many
 *     logits = W mean(act(conv 1x1)) + b
 *
 * Channels are the paper's times depth_multiplier, rounded as TensorFlow's models do. Where a stride would make the map smaller than output_stride says,
 * the next layers are dilated instead. `tf_padding`: all that a window needs beyond the picture is added below and right first.
 *
 * Two namings: transformers', with batch norms; and torchvision's with the norms folded in already, biases instead (features.N.conv.*), where padding is the
 * same on all sides. */
#include "models/vision_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_BLOCKS = 16, PAD = 4 };

typedef struct mob_block { sv_conv widen, each, narrow; bool residual; } mob_block; /* widen.w NULL: there is none */

typedef struct mob_net {
    sv_conv first, last, head;
    mob_block blocks[N_BLOCKS + 1]; /* the first belongs to the stem */
    sv_act act;
    bool tf_padding;
    double eps;
} mob_net;

typedef struct mob_state {
    float *memory[4]; /* x and y alternate; wide maps before and behind the depthwise part */
    sv_fmap x;
    int at;
    float *mean;
} mob_state;

/* --- open --------------------------------------------------------------------------------------------------------- */

typedef struct mob_config { double multiplier, expand; int32_t divisor, min_depth, output_stride; bool first_is_expansion, fine, folded; } mob_config;

static int32_t divisible(int64_t v, const mob_config *c)
{
    int64_t n = (int64_t)((double)v + (double)c->divisor / 2) / c->divisor * c->divisor;
    n = n < c->min_depth ? c->min_depth : n;
    return (int32_t)((double)n < 0.9 * (double)v ? n + c->divisor : n);
}

static int32_t channels(const mob_config *c, int32_t n) { return divisible((int64_t)nearbyint(n * c->multiplier), c); }

/* One convolution under its name of each naming. */
static sv_rc part(sv_vision *v, sv_conv *c, const mob_config *m, const char *hf, const char *folded, sv_err *err)
{
    const mob_net *n = v->net;
    char weight[VIS_NAME], other[VIS_NAME];
    snprintf(weight, sizeof weight, m->folded ? "%s.weight" : "%s.convolution.weight", m->folded ? folded : hf);
    snprintf(other, sizeof other, m->folded ? "%s.bias" : "%s.normalization", m->folded ? folded : hf);
    return vis_conv(v, c, &(vis_names){.weight = weight, .bias = m->folded ? other : NULL, .norm = m->folded ? NULL : other, .eps = n->eps}, err);
}

static sv_rc block(sv_vision *v, mob_block *b, const mob_config *m, int i, int32_t n_in, int32_t n_wide, int32_t n_out, int32_t stride, int32_t dilation, sv_err *err)
{
    char hf[VIS_NAME], folded[VIS_NAME], hf_of[64], folded_of[64];
    bool widens = i > 0 || !m->first_is_expansion;
    snprintf(hf_of, sizeof hf_of, i == 0 ? "mobilenet_v2.conv_stem" : "mobilenet_v2.layer.%d", i - 1);
    snprintf(folded_of, sizeof folded_of, "features.%d.conv", i + 1);
    b->residual = i > 0 && stride == 1 && n_in == n_out;
    b->widen = (sv_conv){.n_in = n_in, .n_out = n_wide, .kh = 1, .kw = 1};
    b->each = (sv_conv){.n_in = n_wide, .n_out = n_wide, .kh = 3, .kw = 3, .stride = stride, .dilation = dilation, .pad_y = dilation, .pad_x = dilation, .depthwise = true};
    b->narrow = (sv_conv){.n_in = n_wide, .n_out = n_out, .kh = 1, .kw = 1};
    snprintf(hf, sizeof hf, "%s.expand_1x1", hf_of);
    snprintf(folded, sizeof folded, "%s.0.0", folded_of);
    if (widens && part(v, &b->widen, m, hf, folded, err) != SV_OK)
        return err->code;
    snprintf(hf, sizeof hf, "%s.conv_3x3", hf_of);
    snprintf(folded, sizeof folded, "%s.%d.0", folded_of, widens);
    if (part(v, &b->each, m, hf, folded, err) != SV_OK)
        return err->code;
    snprintf(hf, sizeof hf, "%s.reduce_1x1", hf_of);
    snprintf(folded, sizeof folded, "%s.%d", folded_of, widens + 1);
    return part(v, &b->narrow, m, hf, folded, err);
}

static sv_rc read_config(mob_config *m, mob_net *n, const json_t *c, sv_err *err)
{
    *m = (mob_config){.multiplier = 1, .expand = 6, .first_is_expansion = true, .fine = true, .folded = m->folded};
    n->tf_padding = !m->folded;
    n->eps = 0.001;
    if (sv_json_num(c, "depth_multiplier", 0.01, 10, &m->multiplier, err) != SV_OK || sv_json_num(c, "expand_ratio", 1, 16, &m->expand, err) != SV_OK ||
        vis_int(c, "depth_divisible_by", 1, 256, 8, &m->divisor, err) != SV_OK || vis_int(c, "min_depth", 1, 256, 8, &m->min_depth, err) != SV_OK ||
        vis_int(c, "output_stride", 8, 32, 32, &m->output_stride, err) != SV_OK || sv_json_bool(c, "first_layer_is_expansion", &m->first_is_expansion, err) != SV_OK ||
        sv_json_bool(c, "finegrained_output", &m->fine, err) != SV_OK || sv_json_bool(c, "tf_padding", &n->tf_padding, err) != SV_OK ||
        sv_json_num(c, "layer_norm_eps", 0, 1, &n->eps, err) != SV_OK || vis_act(c, "hidden_act", "relu6", &n->act, err) != SV_OK ||
        vis_int(c, "num_channels", 3, 3, 3, &(int32_t){0}, err) != SV_OK)
        return err->code;
    if (m->output_stride != 8 && m->output_stride != 16 && m->output_stride != 32)
        return sv_fail(err, SV_EFORMAT, "'output_stride': %d; 8, 16 or 32", m->output_stride);
    return SV_OK;
}

static sv_rc mobilenet_open(sv_vision *v, const json_t *config, sv_err *err)
{
    static const int32_t wide[N_BLOCKS + 1] = {16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320};
    static const int32_t strides[N_BLOCKS] = {2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1};
    mob_net *n = v->net = sv_xnew0(mob_net);
    mob_config m = {.folded = vis_has(v, "features.0.0.bias")};
    int32_t c[N_BLOCKS + 1], now = 2, dilation = 1;
    if (read_config(&m, n, config, err) != SV_OK)
        return err->code;
    int32_t n_first = channels(&m, 32);
    n->first = (sv_conv){.n_in = 3, .n_out = n_first, .kh = 3, .kw = 3, .stride = 2, .pad_y = 1, .pad_x = 1};
    for (int i = 0; i <= N_BLOCKS; i++)
        c[i] = channels(&m, wide[i]);
    if (part(v, &n->first, &m, "mobilenet_v2.conv_stem.first_conv", "features.0.0", err) != SV_OK ||
        block(v, &n->blocks[0], &m, 0, n_first, n_first, c[0], 1, 1, err) != SV_OK)
        return err->code;
    for (int i = 0; i < N_BLOCKS; i++) {
        bool dilate = now == m.output_stride;
        int32_t stride = dilate ? 1 : strides[i], by = dilate ? dilation : 1;
        if (dilate)
            dilation *= strides[i]; /* from the next block on */
        else
            now *= stride;
        if (block(v, &n->blocks[i + 1], &m, i + 1, c[i], divisible((int64_t)nearbyint(c[i] * m.expand), &m), c[i + 1], stride, by, err) != SV_OK)
            return err->code;
    }
    n->last = (sv_conv){.n_in = c[N_BLOCKS], .n_out = m.fine && m.multiplier < 1 ? 1280 : channels(&m, 1280), .kh = 1, .kw = 1};
    if (part(v, &n->last, &m, "mobilenet_v2.conv_1x1", "features.18.0", err) != SV_OK)
        return err->code;
    v->n_steps = N_BLOCKS + 3;
    if (v->info.task == SV_VISION_VECTORS)
        return SV_OK;
    return vis_linear(v, &n->head, m.folded ? "classifier.1" : "classifier", n->last.n_out, v->info.n_labels, true, err);
}

static void mobilenet_close(void *net)
{
    mob_net *n = net;
    sv_conv_done(&n->first);
    sv_conv_done(&n->last);
    sv_conv_done(&n->head);
    for (int i = 0; i <= N_BLOCKS; i++) {
        sv_conv_done(&n->blocks[i].widen);
        sv_conv_done(&n->blocks[i].each);
        sv_conv_done(&n->blocks[i].narrow);
    }
    free(n);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

static int32_t out_size(int32_t n, const sv_conv *c) { return (n + c->stride - 1) / c->stride; } /* with either padding, of windows of 1 and 3 */

/* What TensorFlow's rule adds above and left: half of all that is needed, rounded down. */
static int32_t tf_before(int32_t n, const sv_conv *c)
{
    int32_t over = n % c->stride == 0 ? c->kh - c->stride : c->kh - n % c->stride;
    return (over > 0 ? over / 2 : 0) * c->dilation;
}

static void most(size_t *most, int32_t h, int32_t w, int32_t c)
{
    size_t n = sv_fmap_floats(h, w, c, PAD);
    *most = n > *most ? n : *most;
}

static sv_rc mobilenet_plan(sv_vision_run *r, sv_err *err)
{
    const mob_net *n = r->v->net;
    mob_state *s = r->state = sv_xnew0(mob_state);
    size_t floats[4] = {0};
    int32_t h = out_size(r->h, &n->first), w = out_size(r->w, &n->first);
    r->n_rows = 1;
    r->dim = n->head.w ? n->head.n_out : n->last.n_out;
    most(&floats[0], h, w, n->first.n_out);
    for (int i = 0; i <= N_BLOCKS; i++) {
        const mob_block *b = &n->blocks[i];
        most(&floats[2], h, w, b->each.n_in);
        h = out_size(h, &b->each);
        w = out_size(w, &b->each);
        most(&floats[3], h, w, b->each.n_out);
        most(&floats[0], h, w, b->narrow.n_out);
    }
    most(&floats[2], h, w, n->last.n_out);
    floats[1] = floats[0];
    for (int i = 0; i < 4; i++)
        if (vis_floats(r, floats[i], &s->memory[i], err) != SV_OK)
            return err->code;
    if (vis_floats(r, (size_t)n->last.n_out, &s->mean, err) != SV_OK)
        return err->code;
    return vis_map(r, &r->in, r->h, r->w, 3, 1, err);
}

/* Borders are as wide as the largest dilation, 4 (where a stride of 32 is held at 8), asks. */
static sv_fmap conv_to(sv_vision_run *r, sv_pool *pool, const sv_conv *conv, const sv_fmap *x, int memory, const sv_fmap *add, sv_act act)
{
    const mob_net *n = r->v->net;
    mob_state *s = r->state;
    sv_fmap y = {s->memory[memory], out_size(x->h, conv), out_size(x->w, conv), conv->n_out, PAD};
    sv_conv c = *conv;
    if (n->tf_padding && c.kh > 1) {
        c.pad_y = tf_before(x->h, &c);
        c.pad_x = tf_before(x->w, &c);
    }
    sv_fmap_clear_border(&y);
    sv_conv_run(pool, &c, x, &y, add, act);
    return y;
}

static void block_step(sv_vision_run *r, sv_pool *pool, const mob_block *b)
{
    const mob_net *n = r->v->net;
    mob_state *s = r->state;
    sv_fmap wide = b->widen.w ? conv_to(r, pool, &b->widen, &s->x, 2, NULL, n->act) : s->x;
    sv_fmap each = conv_to(r, pool, &b->each, &wide, 3, NULL, n->act);
    sv_fmap x = s->x;
    s->at = 1 - s->at;
    s->x = conv_to(r, pool, &b->narrow, &each, s->at, b->residual ? &x : NULL, SV_ACT_NONE);
}

static void mobilenet_step(sv_vision_run *r, sv_pool *pool, int32_t i)
{
    const mob_net *n = r->v->net;
    mob_state *s = r->state;
    if (i == 0) {
        s->at = 0;
        s->x = conv_to(r, pool, &n->first, &r->in, 0, NULL, n->act);
    } else if (i <= N_BLOCKS + 1) {
        block_step(r, pool, &n->blocks[i - 1]);
    } else {
        sv_fmap last = conv_to(r, pool, &n->last, &s->x, 2, NULL, n->act);
        sv_mean_pool(&last, n->head.w ? s->mean : r->out);
        if (n->head.w)
            vis_dense(pool, &n->head, s->mean, r->out, 1, NULL, SV_ACT_NONE);
    }
}

const vis_family vis_mobilenet = {.type = "mobilenet_v2", .open = mobilenet_open, .close = mobilenet_close, .plan = mobilenet_plan, .step = mobilenet_step};
