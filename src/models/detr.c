/* detr.c - DETR: objects in pictures
 *
 * Carion et al. 2020, arXiv:2005.12872. A ResNet looks; a transformer reads its last map as a sequence and answers a fixed number of queries, each with a class
 * (or none) and a box:
 *
 *     x = conv 1x1 (ResNet(picture)), one vector a place; p = where it is: sines and cosines of both coordinates, or learned ones
 *     encoder layer:  x = LN(x + Wo attention(x + p, x + p, x));   x = LN(x + Wdown act(Wup x))
 *     decoder layer:  y = LN(y + Wo attention(y + e, y + e, y));   y = LN(y + Wo attention(y + e, x + p, x));   y = LN(y + Wdown act(Wup y))
 *                     from y = 0; e: a vector for each query
 *     y = LN(y);      classes = W y + b;    box = sigmoid(W relu(W relu(W y)))
 *
 * Attention is over (queries, keys, values). Pictures come one by one and unpadded, so there are no masks. The ResNet's tensors have timm's names in the published files and
 * transformers' in newer ones. */
#include "models/vision_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LAYERS = 64, MAX_HEADS = 256, MAX_QUERIES = 4096, LEARNED = 50 };
static const float EPS = 1e-5f;

typedef struct det_attn { sv_conv q, k, v, o; vis_norm norm; } det_attn; /* norm: behind it */
typedef struct det_layer { det_attn self, cross; sv_conv up, down; vis_norm norm; } det_layer; /* cross: of the decoder */

typedef struct det_net {
    res_net *eye;
    int32_t n_embd, n_queries, n_enc, n_dec, enc_heads, dec_heads, enc_ff, dec_ff;
    sv_act act;
    float *rows, *columns; /* learned positions [LEARNED][n_embd / 2], or NULL: sine */
    float *queries;        /* [n_queries][n_embd] */
    sv_conv project, classes, box[3];
    det_layer *enc, *dec;
    vis_norm norm;
} det_net;

typedef struct det_state {
    res_state *eye;
    int32_t n; /* places */
    float *x, *p, *y, *t, *q, *k, *v, *att, *up, *cls, *box;
    vis_attn enc, self, cross;
} det_state;

/* --- open --------------------------------------------------------------------------------------------------------- */

static sv_rc open_attn(sv_vision *v, det_attn *a, const char *stem, const char *norm, sv_err *err)
{
    const det_net *n = v->net;
    static const char *const leaves[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    sv_conv *convs[] = {&a->q, &a->k, &a->v, &a->o};
    for (size_t i = 0; i < SV_LEN(leaves); i++) {
        char name[VIS_NAME];
        snprintf(name, sizeof name, "%s.%s", stem, leaves[i]);
        if (vis_linear(v, convs[i], name, n->n_embd, n->n_embd, true, err) != SV_OK)
            return err->code;
    }
    return vis_layer_norm(v, &a->norm, norm, n->n_embd, err);
}

static sv_rc open_layer(sv_vision *v, det_layer *l, const char *side, int i, int32_t n_ff, bool cross, sv_err *err)
{
    const det_net *n = v->net;
    char stem[96], a[VIS_NAME], b[VIS_NAME];
    snprintf(stem, sizeof stem, "model.%s.layers.%d", side, i);
    snprintf(a, sizeof a, "%s.self_attn", stem);
    snprintf(b, sizeof b, "%s.self_attn_layer_norm", stem);
    if (open_attn(v, &l->self, a, b, err) != SV_OK)
        return err->code;
    snprintf(a, sizeof a, "%s.encoder_attn", stem);
    snprintf(b, sizeof b, "%s.encoder_attn_layer_norm", stem);
    if (cross && open_attn(v, &l->cross, a, b, err) != SV_OK)
        return err->code;
    snprintf(a, sizeof a, "%s.fc1", stem);
    snprintf(b, sizeof b, "%s.fc2", stem);
    if (vis_linear(v, &l->up, a, n->n_embd, n_ff, true, err) != SV_OK || vis_linear(v, &l->down, b, n_ff, n->n_embd, true, err) != SV_OK)
        return err->code;
    snprintf(a, sizeof a, "%s.final_layer_norm", stem);
    return vis_layer_norm(v, &l->norm, a, n->n_embd, err);
}

/* Of old files, which only name a network of timm's. */
static json_t *timm_config(const char *name)
{
    static const struct { const char *name, *type; int depths[4], scale; } known[] = {
        {"resnet18", "basic", {2, 2, 2, 2}, 1}, {"resnet34", "basic", {3, 4, 6, 3}, 1}, {"resnet50", "bottleneck", {3, 4, 6, 3}, 4},
        {"resnet101", "bottleneck", {3, 4, 23, 3}, 4}, {"resnet152", "bottleneck", {3, 8, 36, 3}, 4},
    };
    for (size_t i = 0; name && i < SV_LEN(known); i++)
        if (strcmp(name, known[i].name) == 0)
            return json_pack("{s:s, s:[i,i,i,i], s:[i,i,i,i]}", "layer_type", known[i].type, "depths", known[i].depths[0], known[i].depths[1], known[i].depths[2],
                             known[i].depths[3], "hidden_sizes", 64 * known[i].scale, 128 * known[i].scale, 256 * known[i].scale, 512 * known[i].scale);
    return NULL;
}

static sv_rc open_eye(sv_vision *v, const json_t *config, sv_err *err)
{
    det_net *n = v->net;
    const json_t *own = json_object_get(config, "backbone_config");
    const char *type = sv_json_cstr(own, "model_type"), *name = sv_json_cstr(json_is_object(own) ? own : config, "backbone");
    SV_AUTO(sv_json_decrefp) json_t *known = timm_config(name);
    bool timm = vis_has(v, "model.backbone.conv_encoder.model.conv1.weight"), dilated = false;
    if (sv_json_bool(config, "dilation", &dilated, err) != SV_OK)
        return err->code;
    if (dilated)
        return sv_fail(err, SV_EFORMAT, "'dilation': true is not supported");
    if (!(type && strcmp(type, "resnet") == 0) && !known)
        return sv_fail(err, SV_EFORMAT, "'backbone': '%.40s' is not supported, only ResNet", name ? name : type ? type : "none");
    const res_style style = {.prefix = "model.backbone.conv_encoder.model.", .timm = timm};
    return res_open(&n->eye, v, known ? known : own, &style, err) == SV_OK ? SV_OK : sv_wrap(err, "backbone");
}

static sv_rc read_config(det_net *n, const json_t *c, bool *learned, sv_err *err)
{
    const char *positions = sv_json_cstr(c, "position_embedding_type");
    if (vis_int(c, "d_model", 4, 4096, 256, &n->n_embd, err) != SV_OK || vis_int(c, "num_queries", 1, MAX_QUERIES, 100, &n->n_queries, err) != SV_OK ||
        vis_int(c, "encoder_layers", 1, MAX_LAYERS, 6, &n->n_enc, err) != SV_OK || vis_int(c, "decoder_layers", 1, MAX_LAYERS, 6, &n->n_dec, err) != SV_OK ||
        vis_int(c, "encoder_attention_heads", 1, MAX_HEADS, 8, &n->enc_heads, err) != SV_OK ||
        vis_int(c, "decoder_attention_heads", 1, MAX_HEADS, 8, &n->dec_heads, err) != SV_OK ||
        vis_int(c, "encoder_ffn_dim", 1, VIS_MAX_CHANNELS, 2048, &n->enc_ff, err) != SV_OK ||
        vis_int(c, "decoder_ffn_dim", 1, VIS_MAX_CHANNELS, 2048, &n->dec_ff, err) != SV_OK || vis_act(c, "activation_function", "relu", &n->act, err) != SV_OK)
        return err->code;
    *learned = positions && strcmp(positions, "learned") == 0;
    if (positions && !*learned && strcmp(positions, "sine") != 0)
        return sv_fail(err, SV_EFORMAT, "'position_embedding_type': '%.40s' is not supported", positions);
    int32_t heads[] = {n->enc_heads, n->dec_heads};
    for (size_t i = 0; i < SV_LEN(heads); i++)
        if (n->n_embd % heads[i] != 0 || n->n_embd / heads[i] > SV_MAX_HEAD_DIM || n->n_embd % 4 != 0)
            return sv_fail(err, SV_EFORMAT, "vectors of %d do not divide among %d heads of at most %d", n->n_embd, heads[i], SV_MAX_HEAD_DIM);
    return SV_OK;
}

static sv_rc open_positions(sv_vision *v, sv_err *err)
{
    det_net *n = v->net;
    char rows[VIS_NAME], columns[VIS_NAME];
    const char *stem = vis_has(v, "model.position_embedding.row_embeddings.weight") ? "model.position_embedding" : "model.backbone.position_embedding";
    snprintf(rows, sizeof rows, "%s.row_embeddings.weight", stem);
    snprintf(columns, sizeof columns, "%s.column_embeddings.weight", stem);
    return vis_table(v, rows, n->n_embd / 2, LEARNED, &n->rows, err) != SV_OK ? err->code : vis_table(v, columns, n->n_embd / 2, LEARNED, &n->columns, err);
}

static sv_rc open_ends(sv_vision *v, bool learned, sv_err *err)
{
    det_net *n = v->net;
    n->project = (sv_conv){.n_in = res_n_out(n->eye), .n_out = n->n_embd, .kh = 1, .kw = 1};
    if (vis_conv(v, &n->project, &(vis_names){.weight = "model.input_projection.weight", .bias = "model.input_projection.bias"}, err) != SV_OK ||
        vis_table(v, "model.query_position_embeddings.weight", n->n_embd, n->n_queries, &n->queries, err) != SV_OK ||
        vis_layer_norm(v, &n->norm, "model.decoder.layernorm", n->n_embd, err) != SV_OK ||
        vis_linear(v, &n->classes, "class_labels_classifier", n->n_embd, v->info.n_labels + 1, true, err) != SV_OK)
        return err->code;
    if (learned && open_positions(v, err) != SV_OK)
        return err->code;
    for (int i = 0; i < 3; i++) {
        char stem[VIS_NAME];
        snprintf(stem, sizeof stem, "bbox_predictor.layers.%d", i);
        if (vis_linear(v, &n->box[i], stem, n->n_embd, i == 2 ? 4 : n->n_embd, true, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc detr_open(sv_vision *v, const json_t *config, sv_err *err)
{
    det_net *n = v->net = sv_xnew0(det_net);
    bool learned = false;
    if (v->info.task != SV_VISION_CLASSES)
        return sv_fail(err, SV_EFORMAT, "a DETR without its heads is not supported");
    v->info.task = SV_VISION_BOXES;
    if (read_config(n, config, &learned, err) != SV_OK || open_eye(v, config, err) != SV_OK || open_ends(v, learned, err) != SV_OK)
        return err->code;
    n->enc = sv_xcalloc((size_t)n->n_enc, sizeof *n->enc);
    n->dec = sv_xcalloc((size_t)n->n_dec, sizeof *n->dec);
    for (int32_t i = 0; i < n->n_enc; i++)
        if (open_layer(v, &n->enc[i], "encoder", i, n->enc_ff, false, err) != SV_OK)
            return err->code;
    for (int32_t i = 0; i < n->n_dec; i++)
        if (open_layer(v, &n->dec[i], "decoder", i, n->dec_ff, true, err) != SV_OK)
            return err->code;
    v->n_steps = res_n_steps(n->eye) + 1 + n->n_enc + n->n_dec + 1;
    return SV_OK;
}

static void layers_free(det_layer *layers, int32_t n)
{
    for (int32_t i = 0; layers && i < n; i++) {
        det_layer *l = &layers[i];
        sv_conv *all[] = {&l->self.q, &l->self.k, &l->self.v, &l->self.o, &l->cross.q, &l->cross.k, &l->cross.v, &l->cross.o, &l->up, &l->down};
        for (size_t k = 0; k < SV_LEN(all); k++)
            sv_conv_done(all[k]);
    }
    free(layers);
}

static void detr_close(void *net)
{
    det_net *n = net;
    if (n->eye)
        res_close(n->eye);
    sv_conv_done(&n->project);
    sv_conv_done(&n->classes);
    for (int i = 0; i < 3; i++)
        sv_conv_done(&n->box[i]);
    layers_free(n->enc, n->n_enc);
    layers_free(n->dec, n->n_dec);
    free(n);
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

/* Of each place: half of the vector says its row, half its column. Coordinates end at 2 pi; pairs of sine and cosine with wavelengths up to 10000 times that. */
static void sines(float *p, int32_t h, int32_t w, int32_t n_embd)
{
    int32_t half = n_embd / 2;
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++)
            for (int32_t i = 0; i < n_embd; i++, p++) {
                int32_t k = i % half;
                double at = i < half ? (y + 1) / (h + 1e-6) : (x + 1) / (w + 1e-6), angle = at * 2 * M_PI / pow(10000, 2.0 * (k / 2) / half);
                *p = (float)(k % 2 ? cos(angle) : sin(angle));
            }
}

static void learned(float *p, const det_net *n, int32_t h, int32_t w)
{
    size_t half = (size_t)n->n_embd / 2;
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++, p += 2 * half) {
            memcpy(p, n->columns + (size_t)x * half, half * sizeof *p);
            memcpy(p + half, n->rows + (size_t)y * half, half * sizeof *p);
        }
}

static sv_rc detr_plan(sv_vision_run *r, sv_err *err)
{
    const det_net *n = r->v->net;
    det_state *s = r->state = sv_xnew0(det_state);
    if (res_plan(&s->eye, r, n->eye, err) != SV_OK)
        return err->code;
    int32_t h = res_map_size(n->eye, r->h), w = res_map_size(n->eye, r->w);
    if (n->rows && (h > LEARNED || w > LEARNED))
        return sv_fail(err, SV_EINVAL, "a picture of %d x %d is too large for this model's positions", r->w, r->h);
    s->n = h * w;
    int32_t most = s->n > n->n_queries ? s->n : n->n_queries, ff = n->enc_ff > n->dec_ff ? n->enc_ff : n->dec_ff;
    size_t row = (size_t)most * (size_t)n->n_embd;
    float **all[] = {&s->x, &s->p, &s->y, &s->t, &s->q, &s->k, &s->v, &s->att};
    for (size_t i = 0; i < SV_LEN(all); i++)
        if (vis_floats(r, row, all[i], err) != SV_OK)
            return err->code;
    r->n_rows = n->n_queries;
    r->dim = n->classes.n_out + 4;
    if (vis_floats(r, (size_t)most * (size_t)ff, &s->up, err) != SV_OK || vis_floats(r, (size_t)n->n_queries * (size_t)n->classes.n_out, &s->cls, err) != SV_OK ||
        vis_floats(r, (size_t)n->n_queries * 4, &s->box, err) != SV_OK || vis_attn_plan(r, &s->enc, s->n, n->enc_heads, n->n_embd / n->enc_heads, err) != SV_OK ||
        vis_attn_plan(r, &s->self, n->n_queries, n->dec_heads, n->n_embd / n->dec_heads, err) != SV_OK ||
        vis_attn_plan(r, &s->cross, s->n, n->dec_heads, n->n_embd / n->dec_heads, err) != SV_OK)
        return err->code;
    if (n->rows)
        learned(s->p, n, h, w);
    else
        sines(s->p, h, w, n->n_embd);
    return SV_OK;
}

static void plus(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

/* y = LN(y + Wo attention(y + e, keys + ep, keys)) */
static void attend(det_state *s, sv_pool *pool, const det_net *n, const det_attn *a, const vis_attn *how, float *y, const float *e, int32_t n_y, float *keys,
                   const float *ep, int32_t n_keys)
{
    plus(s->t, y, e, (int64_t)n_y * n->n_embd);
    vis_dense(pool, &a->q, s->t, s->q, n_y, NULL, SV_ACT_NONE);
    plus(s->t, keys, ep, (int64_t)n_keys * n->n_embd);
    vis_dense(pool, &a->k, s->t, s->k, n_keys, NULL, SV_ACT_NONE);
    vis_dense(pool, &a->v, keys, s->v, n_keys, NULL, SV_ACT_NONE);
    vis_attend(pool, how, s->q, s->k, s->v, s->att, n_y, n_keys);
    vis_dense(pool, &a->o, s->att, y, n_y, y, SV_ACT_NONE);
    vis_norm_rows(pool, y, y, &a->norm, n_y, n->n_embd, EPS);
}

static void feed(det_state *s, sv_pool *pool, const det_net *n, const det_layer *l, float *y, int32_t n_y)
{
    vis_dense(pool, &l->up, y, s->up, n_y, NULL, n->act);
    vis_dense(pool, &l->down, s->up, y, n_y, y, SV_ACT_NONE);
    vis_norm_rows(pool, y, y, &l->norm, n_y, n->n_embd, EPS);
}

static void answer(sv_vision_run *r, sv_pool *pool)
{
    const det_net *n = r->v->net;
    det_state *s = r->state;
    int32_t q = n->n_queries, n_classes = n->classes.n_out;
    vis_norm_rows(pool, s->y, s->y, &n->norm, q, n->n_embd, EPS);
    vis_dense(pool, &n->classes, s->y, s->cls, q, NULL, SV_ACT_NONE);
    vis_dense(pool, &n->box[0], s->y, s->q, q, NULL, SV_ACT_RELU);
    vis_dense(pool, &n->box[1], s->q, s->k, q, NULL, SV_ACT_RELU);
    vis_dense(pool, &n->box[2], s->k, s->box, q, NULL, SV_ACT_NONE);
    for (int32_t i = 0; i < q; i++) {
        float *o = r->out + (int64_t)i * r->dim;
        memcpy(o, s->cls + (int64_t)i * n_classes, (size_t)n_classes * sizeof *o);
        for (int k = 0; k < 4; k++)
            o[n_classes + k] = 1 / (1 + expf(-s->box[4 * i + k]));
    }
}

static void detr_step(sv_vision_run *r, sv_pool *pool, int32_t i)
{
    const det_net *n = r->v->net;
    det_state *s = r->state;
    int32_t n_eye = res_n_steps(n->eye);
    if (i < n_eye) {
        res_step(s->eye, pool, i);
    } else if (i == n_eye) {
        const sv_fmap *map = res_out(s->eye);
        SV_ASSERT(map->h * map->w == s->n);
        sv_conv_run(pool, &n->project, map, &(sv_fmap){s->x, map->h, map->w, n->n_embd, 0}, NULL, SV_ACT_NONE);
        memset(s->y, 0, (size_t)n->n_queries * (size_t)n->n_embd * sizeof *s->y);
    } else if (i <= n_eye + n->n_enc) {
        const det_layer *l = &n->enc[i - n_eye - 1];
        attend(s, pool, n, &l->self, &s->enc, s->x, s->p, s->n, s->x, s->p, s->n);
        feed(s, pool, n, l, s->x, s->n);
    } else if (i <= n_eye + n->n_enc + n->n_dec) {
        const det_layer *l = &n->dec[i - n_eye - n->n_enc - 1];
        attend(s, pool, n, &l->self, &s->self, s->y, n->queries, n->n_queries, s->y, n->queries, n->n_queries);
        attend(s, pool, n, &l->cross, &s->cross, s->y, n->queries, n->n_queries, s->x, s->p, s->n);
        feed(s, pool, n, l, s->y, n->n_queries);
    } else {
        answer(r, pool);
    }
}

const vis_family vis_detr = {.type = "detr", .open = detr_open, .close = detr_close, .plan = detr_plan, .step = detr_step};
