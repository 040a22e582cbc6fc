/* vit.c - the Vision Transformer
 *
 * Dosovitskiy et al. 2020, arXiv:2010.11929. The picture is cut into patches; each becomes a vector, and so does one token more, "class", in front:
 *
 *     x = [cls, conv patch / patch of the picture] + positions
 *     for each layer:
 *         x = x + Wo attention(LayerNorm(x)) + b
 *         x = x + Wdown act(Wup LayerNorm(x) + b) + b
 *     x = LayerNorm(x);  logits = W x[cls] + b
 *
 * A model reads one size of pictures, that of its positions. */
#include "models/vision_impl.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LAYERS = 256, MAX_HEADS = 256 };

typedef struct vit_layer { vis_norm before, after; sv_conv q, k, v, o, up, down; } vit_layer;

typedef struct vit_net {
    int32_t n_embd, n_layer, n_head, n_ff, w, h, patch_w, patch_h, n_tokens;
    float eps;
    sv_act act;
    sv_conv patch, head;
    float *cls, *positions; /* [n_embd], [n_tokens][n_embd] */
    vit_layer *layers;
    vis_norm norm;
} vit_net;

typedef struct vit_state { float *x, *h, *q, *k, *v, *up; vis_attn attn; } vit_state;

/* --- open --------------------------------------------------------------------------------------------------------- */

/* One number for both, or [height, width]. */
static sv_rc two(const json_t *c, const char *key, int32_t otherwise, int32_t *h, int32_t *w, sv_err *err)
{
    int32_t hw[2], n = 0;
    if (!json_is_array(json_object_get(c, key))) {
        sv_rc rc = vis_int(c, key, 1, VIS_MAX_SIDE, otherwise, h, err);
        *w = *h;
        return rc;
    }
    if (vis_ints(c, key, hw, 2, &n, err) != SV_OK)
        return err->code;
    if (n != 2 || hw[0] > VIS_MAX_SIDE || hw[1] > VIS_MAX_SIDE)
        return sv_fail(err, SV_EFORMAT, "'%s' is not [height, width] of at most %d", key, VIS_MAX_SIDE);
    *h = hw[0];
    *w = hw[1];
    return SV_OK;
}

static sv_rc read_config(vit_net *n, const json_t *c, bool *qkv_bias, sv_err *err)
{
    double eps = 1e-12;
    if (vis_int(c, "hidden_size", 1, VIS_MAX_CHANNELS, 768, &n->n_embd, err) != SV_OK || vis_int(c, "num_hidden_layers", 1, MAX_LAYERS, 12, &n->n_layer, err) != SV_OK ||
        vis_int(c, "num_attention_heads", 1, MAX_HEADS, 12, &n->n_head, err) != SV_OK || vis_int(c, "intermediate_size", 1, VIS_MAX_CHANNELS, 3072, &n->n_ff, err) != SV_OK ||
        vis_int(c, "num_channels", 3, 3, 3, &(int32_t){0}, err) != SV_OK || two(c, "image_size", 224, &n->h, &n->w, err) != SV_OK ||
        two(c, "patch_size", 16, &n->patch_h, &n->patch_w, err) != SV_OK || sv_json_num(c, "layer_norm_eps", 0, 1, &eps, err) != SV_OK ||
        sv_json_bool(c, "qkv_bias", qkv_bias, err) != SV_OK || vis_act(c, "hidden_act", "gelu", &n->act, err) != SV_OK)
        return err->code;
    n->eps = (float)eps;
    if (n->n_embd % n->n_head != 0 || n->n_embd / n->n_head > SV_MAX_HEAD_DIM)
        return sv_fail(err, SV_EFORMAT, "vectors of %d do not divide among %d heads of at most %d", n->n_embd, n->n_head, SV_MAX_HEAD_DIM);
    if (n->patch_h > n->h || n->patch_w > n->w || (n->h / n->patch_h) * (n->w / n->patch_w) >= 1 << 16)
        return sv_fail(err, SV_EFORMAT, "pictures of %d x %d do not divide into patches of %d x %d", n->w, n->h, n->patch_w, n->patch_h);
    n->n_tokens = (n->h / n->patch_h) * (n->w / n->patch_w) + 1;
    return SV_OK;
}

static sv_rc dense(sv_vision *v, sv_conv *c, const char *prefix, int i, const char *what, int32_t n_in, int32_t n_out, bool bias, sv_err *err)
{
    char stem[VIS_NAME];
    snprintf(stem, sizeof stem, "%sencoder.layer.%d.%s", prefix, i, what);
    return vis_linear(v, c, stem, n_in, n_out, bias, err);
}

static sv_rc open_layer(sv_vision *v, vit_layer *l, const char *prefix, int i, bool qkv_bias, sv_err *err)
{
    const vit_net *n = v->net;
    char before[VIS_NAME], after[VIS_NAME];
    snprintf(before, sizeof before, "%sencoder.layer.%d.layernorm_before", prefix, i);
    snprintf(after, sizeof after, "%sencoder.layer.%d.layernorm_after", prefix, i);
    if (vis_layer_norm(v, &l->before, before, n->n_embd, err) != SV_OK || vis_layer_norm(v, &l->after, after, n->n_embd, err) != SV_OK ||
        dense(v, &l->q, prefix, i, "attention.attention.query", n->n_embd, n->n_embd, qkv_bias, err) != SV_OK ||
        dense(v, &l->k, prefix, i, "attention.attention.key", n->n_embd, n->n_embd, qkv_bias, err) != SV_OK ||
        dense(v, &l->v, prefix, i, "attention.attention.value", n->n_embd, n->n_embd, qkv_bias, err) != SV_OK ||
        dense(v, &l->o, prefix, i, "attention.output.dense", n->n_embd, n->n_embd, true, err) != SV_OK ||
        dense(v, &l->up, prefix, i, "intermediate.dense", n->n_embd, n->n_ff, true, err) != SV_OK ||
        dense(v, &l->down, prefix, i, "output.dense", n->n_ff, n->n_embd, true, err) != SV_OK)
        return err->code;
    return SV_OK;
}

static sv_rc vit_open(sv_vision *v, const json_t *config, sv_err *err)
{
    vit_net *n = v->net = sv_xnew0(vit_net);
    bool qkv_bias = true;
    const char *prefix = vis_has(v, "vit.embeddings.cls_token") ? "vit." : "";
    char cls[VIS_NAME], positions[VIS_NAME], weight[VIS_NAME], bias[VIS_NAME], norm[VIS_NAME];
    if (read_config(n, config, &qkv_bias, err) != SV_OK)
        return err->code;
    snprintf(cls, sizeof cls, "%sembeddings.cls_token", prefix);
    snprintf(positions, sizeof positions, "%sembeddings.position_embeddings", prefix);
    snprintf(weight, sizeof weight, "%sembeddings.patch_embeddings.projection.weight", prefix);
    snprintf(bias, sizeof bias, "%sembeddings.patch_embeddings.projection.bias", prefix);
    snprintf(norm, sizeof norm, "%slayernorm", prefix);
    if (n->patch_h != n->patch_w)
        return sv_fail(err, SV_EFORMAT, "'patch_size': %d x %d is not supported, only squares", n->patch_w, n->patch_h);
    n->patch = (sv_conv){.n_in = 3, .n_out = n->n_embd, .kh = n->patch_h, .kw = n->patch_w, .stride = n->patch_h};
    if (vis_table(v, cls, n->n_embd, 1, &n->cls, err) != SV_OK || vis_table(v, positions, n->n_embd, n->n_tokens, &n->positions, err) != SV_OK ||
        vis_conv(v, &n->patch, &(vis_names){.weight = weight, .bias = bias}, err) != SV_OK || vis_layer_norm(v, &n->norm, norm, n->n_embd, err) != SV_OK)
        return err->code;
    n->layers = sv_xcalloc((size_t)n->n_layer, sizeof *n->layers);
    for (int32_t i = 0; i < n->n_layer; i++)
        if (open_layer(v, &n->layers[i], prefix, i, qkv_bias, err) != SV_OK)
            return err->code;
    v->n_steps = n->n_layer + 2;
    v->exact_w = n->w;
    v->exact_h = n->h;
    return v->info.task == SV_VISION_CLASSES ? vis_linear(v, &n->head, "classifier", n->n_embd, v->info.n_labels, true, err) : SV_OK;
}

static void vit_close(void *net)
{
    vit_net *n = net;
    sv_conv_done(&n->patch);
    sv_conv_done(&n->head);
    for (int32_t i = 0; n->layers && i < n->n_layer; i++) {
        sv_conv *all[] = {&n->layers[i].q, &n->layers[i].k, &n->layers[i].v, &n->layers[i].o, &n->layers[i].up, &n->layers[i].down};
        for (size_t k = 0; k < SV_LEN(all); k++)
            sv_conv_done(all[k]);
    }
    free(n->layers);
    free(n);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

static sv_rc vit_plan(sv_vision_run *r, sv_err *err)
{
    const vit_net *n = r->v->net;
    vit_state *s = r->state = sv_xnew0(vit_state);
    size_t row = (size_t)n->n_tokens * (size_t)n->n_embd;
    if (r->w != n->w || r->h != n->h)
        return sv_fail(err, SV_EINVAL, "a picture of %d x %d; this model reads %d x %d", r->w, r->h, n->w, n->h);
    r->n_rows = n->head.w ? 1 : n->n_tokens;
    r->dim = n->head.w ? n->head.n_out : n->n_embd;
    float **all[] = {&s->x, &s->h, &s->q, &s->k, &s->v};
    for (size_t i = 0; i < SV_LEN(all); i++)
        if (vis_floats(r, row, all[i], err) != SV_OK)
            return err->code;
    if (vis_floats(r, (size_t)n->n_tokens * (size_t)n->n_ff, &s->up, err) != SV_OK ||
        vis_attn_plan(r, &s->attn, n->n_tokens, n->n_head, n->n_embd / n->n_head, err) != SV_OK)
        return err->code;
    return vis_map(r, &r->in, r->h, r->w, 3, 0, err);
}

static void embed(sv_vision_run *r, sv_pool *pool)
{
    const vit_net *n = r->v->net;
    vit_state *s = r->state;
    sv_fmap patches = {s->x + n->n_embd, n->h / n->patch_h, n->w / n->patch_w, n->n_embd, 0}, positions = patches;
    positions.v = n->positions + n->n_embd;
    sv_conv_run(pool, &n->patch, &r->in, &patches, &positions, SV_ACT_NONE);
    for (int32_t i = 0; i < n->n_embd; i++)
        s->x[i] = n->cls[i] + n->positions[i];
}

static void vit_step(sv_vision_run *r, sv_pool *pool, int32_t i)
{
    const vit_net *n = r->v->net;
    vit_state *s = r->state;
    int32_t t = n->n_tokens;
    if (i == 0) {
        embed(r, pool);
    } else if (i <= n->n_layer) {
        const vit_layer *l = &n->layers[i - 1];
        vis_norm_rows(pool, s->h, s->x, &l->before, t, n->n_embd, n->eps);
        vis_dense(pool, &l->q, s->h, s->q, t, NULL, SV_ACT_NONE);
        vis_dense(pool, &l->k, s->h, s->k, t, NULL, SV_ACT_NONE);
        vis_dense(pool, &l->v, s->h, s->v, t, NULL, SV_ACT_NONE);
        vis_attend(pool, &s->attn, s->q, s->k, s->v, s->h, t, t);
        vis_dense(pool, &l->o, s->h, s->x, t, s->x, SV_ACT_NONE);
        vis_norm_rows(pool, s->h, s->x, &l->after, t, n->n_embd, n->eps);
        vis_dense(pool, &l->up, s->h, s->up, t, NULL, n->act);
        vis_dense(pool, &l->down, s->up, s->x, t, s->x, SV_ACT_NONE);
    } else if (n->head.w) {
        vis_norm_rows(pool, s->h, s->x, &n->norm, 1, n->n_embd, n->eps);
        vis_dense(pool, &n->head, s->h, r->out, 1, NULL, SV_ACT_NONE);
    } else {
        vis_norm_rows(pool, r->out, s->x, &n->norm, t, n->n_embd, n->eps);
    }
}

const vis_family vis_vit = {.type = "vit", .open = vit_open, .close = vit_close, .plan = vit_plan, .step = vit_step};
