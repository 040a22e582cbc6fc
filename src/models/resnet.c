/* resnet.c - ResNet: 18 to 152, with basic blocks or bottlenecks, and the small ones for CIFAR-10
 *
 * He et al. 2015, arXiv:1512.03385:
 *
 *     x = maxpool(act(conv 7x7 / 2))                          CIFAR: act(conv 3x3)
 *     for each block:
 *         s = x, or conv 1x1 / stride of x where size or channels change
 *         x = act(conv 3x3 (act(conv 3x3 / stride of x)) + s)                              basic
 *         x = act(conv 1x1 (act(conv 3x3 / stride (act(conv 1x1 of x)))) + s)              bottleneck; the stride may sit in its first convolution
 *     logits = W mean(x) + b
 *
 * Every convolution has a batch norm behind it, which is part of its weights here. CIFAR's shortcut has no weights (He's option A): every second pixel,
 * zeros for the new channels on both sides. Names are those of transformers' ResNet, or of torchvision and timm (also of most CIFAR checkpoints).
 *
 * Maps: x and y alternate as input and output of blocks, two more hold what is inside one, a fifth the shortcut. All are as large as the largest
 * block needs, and have a border of one pixel, cleared whenever a map gets another shape. */
#include "models/vision_impl.h"

#include <stdio.h>
#include <string.h>

enum { MAX_STAGES = 8, MAX_DEPTH = 256, REDUCTION = 4 };
static const double EPS = 1e-5;

typedef struct res_block {
    sv_conv conv[3];
    int n_conv;
    sv_conv shortcut; /* w NULL: none */
    bool option_a;    /* CIFAR's */
    int32_t stride, n_in, n_out;
} res_block;

struct res_net {
    sv_conv stem, head; /* head.w NULL: none */
    bool max_pool;
    sv_act act;
    res_block *blocks;
    int32_t n_blocks, n_out;
};

enum { N_MAPS = 5 };

struct res_state {
    sv_vision_run *r;
    const res_net *n;
    sv_fmap stem;           /* before pooling */
    float *memory[N_MAPS];
    sv_fmap x;              /* what the last step made */
    int at;                 /* in which memory x is: 0 or 1 */
    float *mean;            /* [n_out] */
};

/* --- open --------------------------------------------------------------------------------------------------------- */

typedef struct res_shape { int32_t n_stem, hidden[MAX_STAGES], depths[MAX_STAGES], n_stages; bool bottleneck, early, in_first; } res_shape;

static sv_rc read_shape(res_shape *s, const json_t *c, const res_style *style, sv_err *err)
{
    const char *type = sv_json_cstr(c, "layer_type");
    int32_t n = 0;
    type = type ? type : style->cifar ? "basic" : "bottleneck";
    if (strcmp(type, "basic") != 0 && strcmp(type, "bottleneck") != 0)
        return sv_fail(err, SV_EFORMAT, "'layer_type': '%.40s' is not supported", type);
    s->bottleneck = type[1] == 'o';
    if (vis_ints(c, "hidden_sizes", s->hidden, MAX_STAGES, &s->n_stages, err) != SV_OK || vis_ints(c, "depths", s->depths, MAX_STAGES, &n, err) != SV_OK ||
        vis_int(c, "embedding_size", 1, VIS_MAX_CHANNELS, style->cifar ? s->hidden[0] : 64, &s->n_stem, err) != SV_OK ||
        vis_int(c, "num_channels", 3, 3, 3, &(int32_t){0}, err) != SV_OK || sv_json_bool(c, "downsample_in_first_stage", &s->early, err) != SV_OK ||
        sv_json_bool(c, "downsample_in_bottleneck", &s->in_first, err) != SV_OK)
        return err->code;
    if (n != s->n_stages)
        return sv_fail(err, SV_EFORMAT, "'depths' has %d stages, 'hidden_sizes' %d", n, s->n_stages);
    for (int32_t i = 0; i < n; i++)
        if (s->depths[i] > MAX_DEPTH || (s->bottleneck && s->hidden[i] % REDUCTION != 0))
            return sv_fail(err, SV_EFORMAT, "stage %d: %d blocks of %d channels", i, s->depths[i], s->hidden[i]);
    return SV_OK;
}

static sv_rc conv_of(sv_vision *v, sv_conv *c, int32_t n_in, int32_t n_out, int32_t k, int32_t stride, const char *conv, const char *norm, sv_err *err)
{
    char weight[VIS_NAME];
    *c = (sv_conv){.n_in = n_in, .n_out = n_out, .kh = k, .kw = k, .stride = stride, .pad_y = k / 2, .pad_x = k / 2};
    snprintf(weight, sizeof weight, "%s.weight", conv);
    return vis_conv(v, c, &(vis_names){.weight = weight, .norm = norm, .eps = EPS}, err);
}

static sv_rc layer(sv_vision *v, res_block *b, int k, int32_t n_in, int32_t n_out, int32_t size, int32_t stride, const res_style *style, int stage, int i, sv_err *err)
{
    char conv[VIS_NAME], norm[VIS_NAME];
    if (style->timm) {
        snprintf(conv, sizeof conv, "%slayer%d.%d.conv%d", style->prefix, stage + 1, i, k + 1);
        snprintf(norm, sizeof norm, "%slayer%d.%d.bn%d", style->prefix, stage + 1, i, k + 1);
    } else {
        snprintf(conv, sizeof conv, "%sencoder.stages.%d.layers.%d.layer.%d.convolution", style->prefix, stage, i, k);
        snprintf(norm, sizeof norm, "%sencoder.stages.%d.layers.%d.layer.%d.normalization", style->prefix, stage, i, k);
    }
    b->n_conv = k + 1;
    return conv_of(v, &b->conv[k], n_in, n_out, size, stride, conv, norm, err);
}

static sv_rc shortcut(sv_vision *v, res_block *b, const res_style *style, int stage, int i, sv_err *err)
{
    char conv[VIS_NAME], norm[VIS_NAME];
    if (b->n_in == b->n_out && b->stride == 1)
        return SV_OK;
    if (style->cifar) {
        b->option_a = true;
        return b->n_out >= b->n_in && (b->n_out - b->n_in) % 2 == 0
                   ? SV_OK : sv_fail(err, SV_EFORMAT, "stage %d: a shortcut from %d to %d channels", stage, b->n_in, b->n_out);
    }
    snprintf(conv, sizeof conv, style->timm ? "%slayer%d.%d.downsample.0" : "%sencoder.stages.%d.layers.%d.shortcut.convolution", style->prefix, stage + style->timm, i);
    snprintf(norm, sizeof norm, style->timm ? "%slayer%d.%d.downsample.1" : "%sencoder.stages.%d.layers.%d.shortcut.normalization", style->prefix, stage + style->timm, i);
    return conv_of(v, &b->shortcut, b->n_in, b->n_out, 1, b->stride, conv, norm, err);
}

static sv_rc block(sv_vision *v, res_block *b, const res_shape *s, const res_style *style, int stage, int i, sv_err *err)
{
    int32_t inner = b->n_out / REDUCTION;
    if (shortcut(v, b, style, stage, i, err) != SV_OK)
        return err->code;
    if (!s->bottleneck)
        return layer(v, b, 0, b->n_in, b->n_out, 3, b->stride, style, stage, i, err) != SV_OK ? err->code : layer(v, b, 1, b->n_out, b->n_out, 3, 1, style, stage, i, err);
    if (layer(v, b, 0, b->n_in, inner, 1, s->in_first ? b->stride : 1, style, stage, i, err) != SV_OK ||
        layer(v, b, 1, inner, inner, 3, s->in_first ? 1 : b->stride, style, stage, i, err) != SV_OK)
        return err->code;
    return layer(v, b, 2, inner, b->n_out, 1, 1, style, stage, i, err);
}

static sv_rc stem(sv_vision *v, res_net *n, const res_shape *s, const res_style *style, sv_err *err)
{
    char conv[VIS_NAME], norm[VIS_NAME];
    snprintf(conv, sizeof conv, "%s%s", style->prefix, style->timm ? "conv1" : "embedder.embedder.convolution");
    snprintf(norm, sizeof norm, "%s%s", style->prefix, style->timm ? "bn1" : "embedder.embedder.normalization");
    n->max_pool = !style->cifar;
    return conv_of(v, &n->stem, 3, s->n_stem, style->cifar ? 3 : 7, style->cifar ? 1 : 2, conv, norm, err);
}

sv_rc res_open(res_net **out, sv_vision *v, const json_t *config, const res_style *style, sv_err *err)
{
    res_shape s = {0};
    res_net *n = *out = sv_xnew0(res_net); /* the caller closes it, whole or not */
    if (read_shape(&s, config, style, err) != SV_OK || vis_act(config, "hidden_act", "relu", &n->act, err) != SV_OK || stem(v, n, &s, style, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < s.n_stages; i++)
        n->n_blocks += s.depths[i];
    n->blocks = sv_xcalloc((size_t)n->n_blocks, sizeof *n->blocks);
    n->n_out = s.n_stem;
    res_block *b = n->blocks;
    for (int32_t stage = 0; stage < s.n_stages; stage++)
        for (int32_t i = 0; i < s.depths[stage]; i++, b++) {
            b->n_in = n->n_out;
            b->n_out = n->n_out = s.hidden[stage];
            b->stride = i == 0 && (stage > 0 || s.early) ? 2 : 1;
            if (block(v, b, &s, style, stage, i, err) != SV_OK)
                return err->code;
        }
    return SV_OK;
}

void res_close(void *net)
{
    res_net *n = net;
    sv_conv_done(&n->stem);
    sv_conv_done(&n->head);
    for (int32_t i = 0; n->blocks && i < n->n_blocks; i++) {
        for (int k = 0; k < 3; k++)
            sv_conv_done(&n->blocks[i].conv[k]);
        sv_conv_done(&n->blocks[i].shortcut);
    }
    free(n->blocks);
    free(n);
}

int32_t res_n_steps(const res_net *n) { return n->n_blocks + 1; }
int32_t res_n_out(const res_net *n) { return n->n_out; }

/* --- the run ------------------------------------------------------------------------------------------------------ */

static int32_t out_size(int32_t n, const sv_conv *c) { return (n + 2 * c->pad_y - c->kh) / c->stride + 1; }
static int32_t pooled(int32_t n) { return (n + 2 - 3) / 2 + 1; }

static void most(size_t *most, int32_t h, int32_t w, int32_t c)
{
    size_t n = sv_fmap_floats(h, w, c, 1);
    *most = n > *most ? n : *most;
}

int32_t res_map_size(const res_net *n, int32_t side)
{
    side = out_size(side, &n->stem);
    side = n->max_pool ? pooled(side) : side;
    for (int32_t i = 0; i < n->n_blocks; i++)
        for (int k = 0; k < n->blocks[i].n_conv; k++)
            side = out_size(side, &n->blocks[i].conv[k]);
    return side;
}

sv_rc res_plan(res_state **out, sv_vision_run *r, const res_net *n, sv_err *err)
{
    float *own = NULL;
    size_t floats[N_MAPS] = {0};
    if (vis_floats(r, sizeof(res_state) / sizeof(float) + 1, &own, err) != SV_OK)
        return err->code;
    res_state *s = *out = memset(own, 0, sizeof *s);
    s->r = r;
    s->n = n;
    if (vis_map(r, &r->in, r->h, r->w, 3, n->stem.kh / 2, err) != SV_OK)
        return err->code;
    int32_t h = out_size(r->h, &n->stem), w = out_size(r->w, &n->stem);
    if (n->max_pool) {
        if (vis_map(r, &s->stem, h, w, n->stem.n_out, 1, err) != SV_OK)
            return err->code;
        h = pooled(h);
        w = pooled(w);
    }
    most(&floats[0], h, w, n->stem.n_out);
    for (int32_t i = 0; i < n->n_blocks; i++) {
        const res_block *b = &n->blocks[i];
        int32_t bh = h, bw = w;
        for (int k = 0; k < b->n_conv; k++) {
            bh = out_size(bh, &b->conv[k]);
            bw = out_size(bw, &b->conv[k]);
            if (k < b->n_conv - 1)
                most(&floats[2 + k], bh, bw, b->conv[k].n_out);
        }
        h = bh;
        w = bw;
        most(&floats[0], h, w, b->n_out);
        if (b->shortcut.w || b->option_a)
            most(&floats[4], h, w, b->n_out);
    }
    floats[1] = floats[0];
    if (vis_floats(r, (size_t)n->n_out, &s->mean, err) != SV_OK)
        return err->code;
    for (int i = 0; i < N_MAPS; i++)
        if (vis_floats(r, floats[i], &s->memory[i], err) != SV_OK)
            return err->code;
    return SV_OK;
}

static sv_fmap map_in(const res_state *s, int memory, int32_t h, int32_t w, int32_t c)
{
    sv_fmap f = {s->memory[memory], h, w, c, 1};
    sv_fmap_clear_border(&f);
    return f;
}

static sv_fmap conv_to(res_state *s, sv_pool *pool, const sv_conv *c, const sv_fmap *x, int memory, const sv_fmap *add, sv_act act)
{
    sv_fmap y = map_in(s, memory, out_size(x->h, c), out_size(x->w, c), c->n_out);
    sv_conv_run(pool, c, x, &y, add, act);
    return y;
}

static void first_step(res_state *s, sv_pool *pool)
{
    const res_net *n = s->n;
    s->at = 0;
    if (!n->max_pool) {
        s->x = conv_to(s, pool, &n->stem, &s->r->in, 0, NULL, n->act);
        return;
    }
    sv_conv_run(pool, &n->stem, &s->r->in, &s->stem, NULL, n->act);
    s->x = map_in(s, 0, pooled(s->stem.h), pooled(s->stem.w), n->stem.n_out);
    sv_max_pool(pool, &s->stem, &s->x, 3, 2, 1);
}

static sv_fmap option_a(const res_state *s, const res_block *b)
{
    sv_fmap y = map_in(s, 4, (s->x.h + b->stride - 1) / b->stride, (s->x.w + b->stride - 1) / b->stride, b->n_out);
    for (int32_t i = 0; i < y.h; i++)
        for (int32_t j = 0; j < y.w; j++) {
            float *to = sv_fmap_at(&y, i, j);
            memset(to, 0, (size_t)b->n_out * sizeof *to);
            memcpy(to + (b->n_out - b->n_in) / 2, sv_fmap_at(&s->x, i * b->stride, j * b->stride), (size_t)b->n_in * sizeof *to);
        }
    return y;
}

void res_step(res_state *s, sv_pool *pool, int32_t i)
{
    if (i == 0) {
        first_step(s, pool);
        return;
    }
    const res_block *b = &s->n->blocks[i - 1];
    sv_act act = s->n->act;
    sv_fmap skip = s->x, inner = s->x;
    if (b->shortcut.w)
        skip = conv_to(s, pool, &b->shortcut, &s->x, 4, NULL, SV_ACT_NONE);
    else if (b->option_a)
        skip = option_a(s, b);
    for (int k = 0; k < b->n_conv - 1; k++)
        inner = conv_to(s, pool, &b->conv[k], &inner, 2 + k, NULL, SV_ACT_RELU); /* as in transformers: hidden_act is for the block's end */
    s->at = 1 - s->at;
    s->x = conv_to(s, pool, &b->conv[b->n_conv - 1], &inner, s->at, &skip, act);
}

const sv_fmap *res_out(const res_state *s) { return &s->x; }

/* --- as a model of its own ---------------------------------------------------------------------------------------- */

static sv_rc open_head(sv_vision *v, const char *stem_of_head, sv_err *err)
{
    res_net *n = v->net;
    v->n_steps = n->n_blocks + 2;
    return v->info.task == SV_VISION_CLASSES ? vis_linear(v, &n->head, stem_of_head, n->n_out, v->info.n_labels, true, err) : SV_OK;
}

static sv_rc resnet_open(sv_vision *v, const json_t *config, sv_err *err)
{
    bool headed = vis_has(v, "resnet.embedder.embedder.convolution.weight");
    res_net *n = NULL;
    sv_rc rc = res_open(&n, v, config, &(res_style){.prefix = headed ? "resnet." : ""}, err);
    v->net = n;
    return rc != SV_OK ? rc : open_head(v, "classifier.1", err);
}

static sv_rc cifar_open(sv_vision *v, const json_t *config, sv_err *err)
{
    res_net *n = NULL;
    sv_rc rc = res_open(&n, v, config, &(res_style){.prefix = "", .timm = true, .cifar = true}, err);
    v->net = n;
    return rc != SV_OK ? rc : open_head(v, "linear", err);
}

static sv_rc resnet_plan(sv_vision_run *r, sv_err *err)
{
    const res_net *n = r->v->net;
    r->n_rows = 1;
    r->dim = n->head.w ? n->head.n_out : n->n_out;
    res_state **s = r->state = sv_xnew0(res_state *);
    return res_plan(s, r, n, err);
}

static void resnet_step(sv_vision_run *r, sv_pool *pool, int32_t i)
{
    const res_net *n = r->v->net;
    res_state *s = *(res_state **)r->state;
    if (i < r->v->n_steps - 1) {
        res_step(s, pool, i);
        return;
    }
    sv_mean_pool(&s->x, n->head.w ? s->mean : r->out);
    if (n->head.w)
        vis_dense(pool, &n->head, s->mean, r->out, 1, NULL, SV_ACT_NONE);
}

const vis_family vis_resnet = {.type = "resnet", .open = resnet_open, .close = res_close, .plan = resnet_plan, .step = resnet_step};
const vis_family vis_cifar_resnet = {.type = "cifar-resnet", .open = cifar_open, .close = res_close, .plan = resnet_plan, .step = resnet_step};
