/* gpt2.c - GPT-2
 *
 * For each row (one token at one position), Radford et al. 2019:
 *
 *     x = token_embd[token] + position_embd[position]
 *     for each layer:
 *         h = LayerNorm(x) attn_norm
 *         q, k, v = the three parts of Wqkv h + b     k, v go to the row's page; scores are scaled by 1 / sqrt(head_dim)
 *         x = x + Wo attention(q, all k and v up to this position) + b
 *         h = LayerNorm(x) ffn_norm
 *         x = x + Wdown gelu(Wup h + b) + b
 *     logits = Wout (LayerNorm(x) output_norm)        Wout is token_embd where the file has no output.weight
 *
 * Positions are learned, so a context is as long as their table and nothing turns (n_rot is 0). One matrix makes q, k and v; it is
 * seen here as three, which begin at rows 0, n_embd and 2 n_embd.
 *
 * Descendants changed the activation (gelu by erf, relu), or the scale of the scores: none, or less with each layer. */
#include <math.h>

#include "base/mem.h"
#include "models/llm_impl.h"

enum { MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_CTX = 1 << 24 };

typedef struct norm { const float *w, *b; } norm;

typedef struct layer {
    norm attn_norm, ffn_norm;
    const sv_tensor *qkv[3];
    const sv_tensor *o, *up, *down;
    const float *qkv_bias, *o_bias, *up_bias, *down_bias;
} layer;

typedef struct gpt2 {
    float eps;
    float scale;       /* of the scores, */
    bool scale_falls;  /* divided by the layer's number */
    void (*activate)(float *x, int64_t n);
    const sv_tensor *token_embd, *position_embd, *output;
    norm output_norm;
    layer *layers;
} gpt2;

/* --- loading ------------------------------------------------------------------------------------------------------ */

static sv_rc read_shape(sv_llm *m, gpt2 *g, sv_err *err)
{
    sv_llm_info *i = &m->info;
    g->eps = 1e-5f;
    if (sv_llm_param(m, "context_length", 1, MAX_CTX, &i->n_ctx, err) != SV_OK ||
        sv_llm_param(m, "embedding_length", 1, SV_MAX_ROW, &i->n_embd, err) != SV_OK ||
        sv_llm_param(m, "block_count", 1, MAX_LAYERS, &i->n_layer, err) != SV_OK ||
        sv_llm_param(m, "feed_forward_length", 1, SV_MAX_ROW, &i->n_ff, err) != SV_OK ||
        sv_llm_param(m, "attention.head_count", 1, MAX_HEADS, &i->n_head, err) != SV_OK ||
        sv_llm_number(m, "attention.layer_norm_epsilon", 0, 1, &g->eps, err) != SV_OK)
        return err->code;
    if (i->n_embd % i->n_head != 0 || i->n_embd / i->n_head > SV_MAX_HEAD_DIM)
        return sv_fail(err, SV_EFORMAT, "embeddings of %d do not divide among %d heads of at most %d", i->n_embd, i->n_head, SV_MAX_HEAD_DIM);
    i->n_head_kv = i->n_head;
    i->head_dim = i->n_embd / i->n_head;
    m->n_rot = 0;
    return SV_OK;
}

static void relu(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

/* What descendants of GPT-2 changed. GGUF files have no keys for it: these are the names that hf.c gives. */
static sv_rc read_variant(sv_llm *m, gpt2 *g, sv_err *err)
{
    sv_str name = SV_STR("gelu_new");
    int32_t falls = 0;
    g->scale = 1.0f / sqrtf((float)m->info.head_dim);
    if (sv_llm_number(m, "attention.scale", 1e-6, 1e6, &g->scale, err) != SV_OK ||
        sv_llm_param(m, "attention.scale_falls", 0, 1, &falls, err) != SV_OK || sv_llm_text(m, "activation", &name, err) != SV_OK)
        return err->code;
    g->scale_falls = falls;
    g->activate = sv_str_is(name, "gelu_new") ? sv_gelu_tanh : sv_str_is(name, "gelu") ? sv_gelu_erf : sv_str_is(name, "relu") ? relu : NULL;
    return g->activate ? SV_OK : sv_fail(err, SV_EFORMAT, "key '%s.activation': not one of gelu_new, gelu, relu", m->info.arch);
}

/* A third of a matrix of three times as many outputs. */
static const sv_tensor *third(sv_llm *m, const sv_tensor *t, int i)
{
    sv_tensor part = *t;
    part.dims[1] /= 3;
    part.n_bytes /= 3;
    part.data = (const uint8_t *)t->data + (size_t)i * part.n_bytes;
    return sv_llm_add_weight(m, &part);
}

static sv_rc read_norm(sv_llm *m, norm *n, const char *weight, const char *bias, int i, sv_err *err)
{
    return sv_llm_vector(m, &n->w, weight, i, m->info.n_embd, false, err) != SV_OK ? err->code
                                                                                   : sv_llm_vector(m, &n->b, bias, i, m->info.n_embd, false, err);
}

static sv_rc read_layer(sv_llm *m, layer *l, int i, sv_err *err)
{
    int64_t n_embd = m->info.n_embd, n_ff = m->info.n_ff;
    const sv_tensor *qkv = NULL;
    if (read_norm(m, &l->attn_norm, "blk.%d.attn_norm.weight", "blk.%d.attn_norm.bias", i, err) != SV_OK ||
        sv_llm_matrix(m, &qkv, "blk.%d.attn_qkv.weight", i, n_embd, 3 * n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->qkv_bias, "blk.%d.attn_qkv.bias", i, 3 * n_embd, false, err) != SV_OK ||
        sv_llm_weight(m, &l->o, "blk.%d.attn_output.weight", i, n_embd, n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->o_bias, "blk.%d.attn_output.bias", i, n_embd, false, err) != SV_OK ||
        read_norm(m, &l->ffn_norm, "blk.%d.ffn_norm.weight", "blk.%d.ffn_norm.bias", i, err) != SV_OK ||
        sv_llm_weight(m, &l->up, "blk.%d.ffn_up.weight", i, n_embd, n_ff, err) != SV_OK ||
        sv_llm_vector(m, &l->up_bias, "blk.%d.ffn_up.bias", i, n_ff, false, err) != SV_OK ||
        sv_llm_weight(m, &l->down, "blk.%d.ffn_down.weight", i, n_ff, n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->down_bias, "blk.%d.ffn_down.bias", i, n_embd, false, err) != SV_OK)
        return err->code;
    for (int k = 0; k < 3; k++)
        l->qkv[k] = third(m, qkv, k);
    return SV_OK;
}

static sv_rc load(sv_llm *m, sv_err *err)
{
    gpt2 *g = m->weights = sv_xnew0(gpt2);
    const sv_llm_info *p = &m->info;
    if (read_shape(m, g, err) != SV_OK || read_variant(m, g, err) != SV_OK || sv_llm_matrix(m, &g->token_embd, "token_embd.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK ||
        sv_llm_matrix(m, &g->position_embd, "position_embd.weight", 0, p->n_embd, p->n_ctx, err) != SV_OK ||
        read_norm(m, &g->output_norm, "output_norm.weight", "output_norm.bias", 0, err) != SV_OK)
        return err->code;
    if (!sv_gguf_tensor(m->gguf, "output.weight"))
        g->output = sv_llm_add_weight(m, g->token_embd);
    else if (sv_llm_weight(m, &g->output, "output.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK)
        return err->code;
    g->layers = sv_xcalloc((size_t)p->n_layer, sizeof *g->layers);
    for (int32_t i = 0; i < p->n_layer; i++)
        if (read_layer(m, &g->layers[i], i, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static void unload(sv_llm *m)
{
    gpt2 *g = m->weights;
    if (!g)
        return;
    free(g->layers);
    free(g);
    m->weights = NULL;
}

/* --- the step ----------------------------------------------------------------------------------------------------- */

typedef struct pass {
    const sv_llm *m;
    sv_llm_ws *ws;
    norm norm;
    float scale;
    sv_kv_layout kv;
} pass;

static void embed_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    const sv_tensor *w = ((const gpt2 *)p->m->weights)->position_embd;
    size_t row_bytes = sv_type_bytes(w->type, w->dims[0]);
    sv_llm_embed(p->ws->x, ((const gpt2 *)p->m->weights)->token_embd, p->ws->rows, begin, end);
    for (int32_t r = begin; r < end; r++) {
        float *x = p->ws->x + r * w->dims[0], *position = p->ws->h + r * w->dims[0];
        sv_dequantize(position, w->type, (const uint8_t *)w->data + (size_t)p->ws->rows[r].pos * row_bytes, w->dims[0]);
        for (int64_t i = 0; i < w->dims[0]; i++)
            x[i] += position[i];
    }
}

static void norm_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t at = (int64_t)begin * p->m->info.n_embd;
    sv_layer_norm(p->ws->h + at, p->ws->x + at, p->norm.w, p->norm.b, end - begin, p->m->info.n_embd, ((const gpt2 *)p->m->weights)->eps);
    sv_llm_quantise(p->ws, p->ws->h, p->m->info.n_embd, begin, end);
}

static void quantise_att_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    sv_llm_quantise(p->ws, p->ws->att, p->m->info.n_embd, begin, end);
}

static void store_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    for (int32_t r = begin; r < end; r++) {
        int64_t at = (int64_t)r * p->m->info.n_embd;
        sv_kv_write(&p->kv, p->ws->rows[r].page, p->ws->rows[r].pos % SV_KV_PAGE, p->ws->k + at, p->ws->v + at);
    }
}

static void activate_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t n_ff = p->m->info.n_ff;
    ((const gpt2 *)p->m->weights)->activate(p->ws->gate + begin * n_ff, (end - begin) * n_ff);
    sv_llm_quantise(p->ws, p->ws->gate, n_ff, begin, end);
}

static void attention_block(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    int32_t n = ws->n_rows, n_embd = m->info.n_embd;
    p->norm = l->attn_norm;
    sv_llm_over_rows(pool, n, norm_rows, p);
    sv_matmul_run(pool, (sv_matmul[]){
        {.w = l->qkv[0], .x = ws->h, .xq = ws->xq, .n_rows = n, .y = ws->q, .bias = l->qkv_bias},
        {.w = l->qkv[1], .x = ws->h, .xq = ws->xq, .n_rows = n, .y = ws->k, .bias = l->qkv_bias + n_embd},
        {.w = l->qkv[2], .x = ws->h, .xq = ws->xq, .n_rows = n, .y = ws->v, .bias = l->qkv_bias + 2 * n_embd}}, 3);
    sv_llm_over_rows(pool, n, store_rows, p);
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = m->info.n_head, .scale = p->scale,
                                  .kv = p->kv, .chunks = ws->chunks, .n_chunks = ws->n_chunks});
    if (ws->xq)
        sv_llm_over_rows(pool, n, quantise_att_rows, p);
    sv_matmul_run(pool, &(sv_matmul){.w = l->o, .x = ws->att, .xq = ws->xq, .n_rows = n, .y = ws->x, .bias = l->o_bias, .add = true}, 1);
}

static void ffn_block(sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    int32_t n = ws->n_rows;
    p->norm = l->ffn_norm;
    sv_llm_over_rows(pool, n, norm_rows, p);
    sv_matmul_run(pool, &(sv_matmul){.w = l->up, .x = ws->h, .xq = ws->xq, .n_rows = n, .y = ws->gate, .bias = l->up_bias}, 1);
    sv_llm_over_rows(pool, n, activate_rows, p);
    sv_matmul_run(pool, &(sv_matmul){.w = l->down, .x = ws->gate, .xq = ws->xq, .n_rows = n, .y = ws->x, .bias = l->down_bias, .add = true}, 1);
}

static void step(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool)
{
    const gpt2 *g = m->weights;
    int64_t n_embd = m->info.n_embd;
    pass p = {.m = m, .ws = ws};

    sv_llm_over_rows(pool, ws->n_rows, embed_rows, &p);
    for (int32_t i = 0; i < m->info.n_layer; i++) {
        p.kv = sv_llm_kv_layout(m, i);
        p.scale = g->scale_falls ? g->scale / (float)(i + 1) : g->scale;
        attention_block(m, ws, pool, &g->layers[i], &p);
        ffn_block(ws, pool, &g->layers[i], &p);
    }
    if (ws->n_out == 0)
        return;
    for (int32_t i = 0; i < ws->n_out; i++)
        sv_layer_norm(ws->h + i * n_embd, ws->x + ws->out_rows[i] * n_embd, g->output_norm.w, g->output_norm.b, 1, (int32_t)n_embd, g->eps);
    sv_llm_quantise(ws, ws->h, n_embd, 0, ws->n_out);
    sv_matmul_run(pool, &(sv_matmul){.w = g->output, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_out, .y_rows = ws->logits}, 1);
}

const sv_family sv_family_gpt2 = {.arch = "gpt2", .load = load, .unload = unload, .step = step};
