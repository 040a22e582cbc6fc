/* llama.c - Llama and the families that differ from it in data: Llama 1 to 3, TinyLlama, SmolLM, Mistral, Qwen2, Qwen3
 *
 * For each row (one token at one position), Touvron et al. 2023 (arXiv:2302.13971) with grouped queries (Ainslie et al. 2023,
 * arXiv:2305.13245):
 *
 *     x = token_embd[token]
 *     for each layer:
 *         h = RMSNorm(x) attn_norm
 *         q, k, v = Wq h, Wk h, Wv h (+ biases)
 *         each head of q and k: RMSNorm q_norm, k_norm     Qwen3
 *         q and k turn by their position (RoPE); k, v go to the row's page
 *         x = x + Wo attention(q, all k and v up to this position)    the last `window` of them (Mistral; some layers of Qwen)
 *         h = RMSNorm(x) ffn_norm
 *         x = x + Wdown (silu(Wgate h) * Wup h) (+ biases)
 *     logits = Wout (RMSNorm(x) output_norm)          Wout is token_embd where the file has no output.weight
 *
 * What a family has beyond that stands in the table at the end. Most of it the file decides: biases are those that are there, tied
 * embeddings are those without output.weight.
 *
 * RoPE: pair i turns by pos * base^(-2i / n_rot), slower where the context was stretched:
 *     linear    all pairs by the factor
 *     llama3    each by its own factor, in the tensor rope_freqs.weight
 *     yarn      fast pairs not, slow ones by the factor, a ramp between; and pairs grow (Peng et al. 2023, arXiv:2309.00071)
 * Others depend on the length of the text, against the company-proof promise, and are refused. "llama" files keep the two numbers of a
 * pair side by side (converters permute the rows of Wq and Wk); the other families keep them half a head apart. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "models/llm_impl.h"

enum { MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_CTX = 1 << 24 };

/* sv_family.traits */
enum {
    HALVES = 1,   /* rotated pairs lie half a head apart */
    QKV_BIAS = 2, /* always there */
    QK_NORM = 4,
};

typedef struct layer {
    const float *attn_norm, *ffn_norm;
    const float *q_norm, *k_norm; /* [head_dim], or NULL */
    const sv_tensor *q, *k, *v, *o, *gate, *up, *down;
    const float *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias; /* NULL: none */
    int32_t window; /* 0: all positions are seen */
} layer;

typedef struct llama {
    float eps;
    bool halves;
    double *freqs;     /* [n_rot / 2]: radians a position */
    double rope_scale; /* of the turned pairs */
    const sv_tensor *token_embd, *output;
    const float *output_norm;
    layer *layers;
} llama;

/* --- loading ------------------------------------------------------------------------------------------------------ */

static sv_rc read_heads(sv_llm *m, sv_err *err)
{
    sv_llm_info *i = &m->info;
    int32_t value_dim;
    i->n_head_kv = i->n_head;
    i->head_dim = i->n_embd / i->n_head;
    if (sv_llm_param(m, "attention.head_count_kv", 1, i->n_head, &i->n_head_kv, err) != SV_OK ||
        sv_llm_param(m, "attention.key_length", 1, SV_MAX_HEAD_DIM, &i->head_dim, err) != SV_OK)
        return err->code;
    value_dim = m->n_rot = i->head_dim;
    if (sv_llm_param(m, "attention.value_length", 1, SV_MAX_HEAD_DIM, &value_dim, err) != SV_OK ||
        sv_llm_param(m, "rope.dimension_count", 2, i->head_dim, &m->n_rot, err) != SV_OK)
        return err->code;
    if (i->n_head % i->n_head_kv != 0)
        return sv_fail(err, SV_EFORMAT, "%d heads do not divide among %d key-value heads", i->n_head, i->n_head_kv);
    if (!sv_llm_has(m, "attention.key_length") && i->n_embd % i->n_head != 0)
        return sv_fail(err, SV_EFORMAT, "embeddings of %d do not divide among %d heads", i->n_embd, i->n_head);
    if (value_dim != i->head_dim || m->n_rot % 2 != 0 || (int64_t)i->n_head * i->head_dim > SV_MAX_ROW)
        return sv_fail(err, SV_EFORMAT, "%d heads with keys of %d, values of %d and %d rotated numbers are not supported", i->n_head,
                       i->head_dim, value_dim, m->n_rot);
    return SV_OK;
}

static sv_rc read_shape(sv_llm *m, llama *l, sv_err *err)
{
    sv_llm_info *i = &m->info;
    int32_t n_experts = 0;
    l->eps = NAN;
    if (sv_llm_param(m, "context_length", 1, MAX_CTX, &i->n_ctx, err) != SV_OK ||
        sv_llm_param(m, "embedding_length", 1, SV_MAX_ROW, &i->n_embd, err) != SV_OK ||
        sv_llm_param(m, "block_count", 1, MAX_LAYERS, &i->n_layer, err) != SV_OK ||
        sv_llm_param(m, "feed_forward_length", 1, SV_MAX_ROW, &i->n_ff, err) != SV_OK ||
        sv_llm_param(m, "attention.head_count", 1, MAX_HEADS, &i->n_head, err) != SV_OK ||
        sv_llm_param(m, "expert_count", 0, INT32_MAX, &n_experts, err) != SV_OK ||
        sv_llm_number(m, "attention.layer_norm_rms_epsilon", 0, 1, &l->eps, err) != SV_OK)
        return err->code;
    if (n_experts > 0)
        return sv_fail(err, SV_EFORMAT, "a mixture of %d experts is not supported", n_experts);
    return read_heads(m, err);
}

/* The pair that turns `turns` times within the trained context, as a fraction of pairs. */
static double yarn_pair(double turns, double n_trained, double base, int32_t n_rot)
{
    return n_rot * log(n_trained / (turns * 2 * M_PI)) / (2 * log(base));
}

static sv_rc scale_yarn(const sv_llm *m, llama *l, double base, double factor, sv_err *err)
{
    int32_t n_trained = 0, truncate = 1;
    float fast = 32, slow = 1, attn = 1;
    if (sv_llm_param(m, "rope.scaling.original_context_length", 1, MAX_CTX, &n_trained, err) != SV_OK ||
        sv_llm_number(m, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, &fast, err) != SV_OK ||
        sv_llm_number(m, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, &slow, err) != SV_OK ||
        sv_llm_param(m, "rope.scaling.yarn_truncate", 0, 1, &truncate, err) != SV_OK ||
        sv_llm_number(m, "rope.scaling.attn_factor", 1e-3, 1e3, &attn, err) != SV_OK)
        return err->code;
    double low = yarn_pair((double)fast, n_trained, base, m->n_rot), high = yarn_pair((double)slow, n_trained, base, m->n_rot);
    low = fmax(0, truncate ? floor(low) : low);
    high = fmin(m->n_rot - 1, truncate ? ceil(high) : high);
    for (int32_t i = 0; i < m->n_rot / 2; i++) {
        double slowed = fmin(1, fmax(0, (i - low) / fmax(0.001, high - low)));
        l->freqs[i] *= slowed / factor + (1 - slowed);
    }
    l->rope_scale = (double)attn * (factor > 1 ? 1 + 0.1 * log(factor) : 1);
    return SV_OK;
}

static sv_rc scale_rope(sv_llm *m, llama *l, double base, sv_err *err)
{
    sv_str type = SV_STR("none");
    float factor = 1.0f;
    const float *own = NULL; /* factors of the pairs */
    if (sv_llm_text(m, "rope.scaling.type", &type, err) != SV_OK ||
        sv_llm_number(m, "rope.scale_linear", 1e-6, 1e6, &factor, err) != SV_OK || /* its name before 2023-10 */
        sv_llm_number(m, "rope.scaling.factor", 1e-6, 1e6, &factor, err) != SV_OK ||
        sv_llm_vector(m, &own, "rope_freqs.weight", 0, m->n_rot / 2, true, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; own && i < m->n_rot / 2; i++) {
        if (!(own[i] > 0.0f && own[i] <= 1e6f))
            return sv_fail(err, SV_EFORMAT, "tensor 'rope_freqs.weight': factor %d is %g", i, (double)own[i]);
        l->freqs[i] /= (double)own[i];
    }
    if (sv_str_is(type, "yarn"))
        return scale_yarn(m, l, base, (double)factor, err);
    if (sv_str_is(type, "none") && sv_llm_has(m, "rope.scaling.type"))
        factor = 1.0f;
    else if (!sv_str_is(type, "linear") && !sv_str_is(type, "none"))
        return sv_fail(err, SV_EFORMAT, "key '%s.rope.scaling.type': '%.*s' is not supported; supported: none, linear, yarn", m->info.arch,
                       (int)(type.n < 32 ? type.n : 32), sv_utf8_valid(type) ? type.p : "");
    for (int32_t i = 0; i < m->n_rot / 2; i++)
        l->freqs[i] /= (double)factor;
    return SV_OK;
}

static sv_rc read_rope(sv_llm *m, llama *l, sv_err *err)
{
    float base = 10000.0f;
    l->rope_scale = 1;
    if (sv_llm_number(m, "rope.freq_base", 1, 1e12, &base, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < m->n_rot / 2; i++)
        l->freqs[i] = pow((double)base, -2.0 * i / m->n_rot);
    return scale_rope(m, l, (double)base, err);
}

static sv_rc read_layer(sv_llm *m, layer *l, int i, sv_err *err)
{
    bool no_bias = !(m->family->traits & QKV_BIAS), no_norm = !(m->family->traits & QK_NORM);
    const sv_llm_info *p = &m->info;
    int64_t n_q = (int64_t)p->n_head * p->head_dim, n_kv = (int64_t)p->n_head_kv * p->head_dim;
    if (sv_llm_vector(m, &l->attn_norm, "blk.%d.attn_norm.weight", i, p->n_embd, false, err) != SV_OK ||
        sv_llm_weight(m, &l->q, "blk.%d.attn_q.weight", i, p->n_embd, n_q, err) != SV_OK ||
        sv_llm_weight(m, &l->k, "blk.%d.attn_k.weight", i, p->n_embd, n_kv, err) != SV_OK ||
        sv_llm_weight(m, &l->v, "blk.%d.attn_v.weight", i, p->n_embd, n_kv, err) != SV_OK ||
        sv_llm_weight(m, &l->o, "blk.%d.attn_output.weight", i, n_q, p->n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->q_bias, "blk.%d.attn_q.bias", i, n_q, no_bias, err) != SV_OK ||
        sv_llm_vector(m, &l->k_bias, "blk.%d.attn_k.bias", i, n_kv, no_bias, err) != SV_OK ||
        sv_llm_vector(m, &l->v_bias, "blk.%d.attn_v.bias", i, n_kv, no_bias, err) != SV_OK ||
        sv_llm_vector(m, &l->o_bias, "blk.%d.attn_output.bias", i, p->n_embd, true, err) != SV_OK ||
        (!no_norm && sv_llm_vector(m, &l->q_norm, "blk.%d.attn_q_norm.weight", i, p->head_dim, false, err) != SV_OK) ||
        (!no_norm && sv_llm_vector(m, &l->k_norm, "blk.%d.attn_k_norm.weight", i, p->head_dim, false, err) != SV_OK))
        return err->code;
    if (sv_llm_vector(m, &l->ffn_norm, "blk.%d.ffn_norm.weight", i, p->n_embd, false, err) != SV_OK ||
        sv_llm_weight(m, &l->gate, "blk.%d.ffn_gate.weight", i, p->n_embd, p->n_ff, err) != SV_OK ||
        sv_llm_weight(m, &l->up, "blk.%d.ffn_up.weight", i, p->n_embd, p->n_ff, err) != SV_OK ||
        sv_llm_weight(m, &l->down, "blk.%d.ffn_down.weight", i, p->n_ff, p->n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->gate_bias, "blk.%d.ffn_gate.bias", i, p->n_ff, true, err) != SV_OK ||
        sv_llm_vector(m, &l->up_bias, "blk.%d.ffn_up.bias", i, p->n_ff, true, err) != SV_OK ||
        sv_llm_vector(m, &l->down_bias, "blk.%d.ffn_down.bias", i, p->n_embd, true, err) != SV_OK)
        return err->code;
    return SV_OK;
}

/* In all layers, or in those that a list names. */
static sv_rc read_window(sv_llm *m, llama *l, sv_err *err)
{
    int32_t window = 0;
    const uint8_t *slides = NULL;
    if (sv_llm_param(m, "attention.sliding_window", 0, INT32_MAX, &window, err) != SV_OK ||
        sv_llm_by_layer(m, "attention.sliding_window_pattern", &slides, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < m->info.n_layer; i++)
        l->layers[i].window = !slides || slides[i] ? window : 0;
    return SV_OK;
}

static sv_rc load(sv_llm *m, sv_err *err)
{
    llama *l = m->weights = sv_xnew0(llama);
    const sv_llm_info *p = &m->info;
    l->halves = m->halves || (m->family->traits & HALVES);
    if (read_shape(m, l, err) != SV_OK)
        return err->code;
    l->freqs = sv_xcalloc((size_t)m->n_rot / 2, sizeof *l->freqs);
    l->layers = sv_xcalloc((size_t)p->n_layer, sizeof *l->layers);
    if (read_window(m, l, err) != SV_OK || read_rope(m, l, err) != SV_OK || sv_llm_matrix(m, &l->token_embd, "token_embd.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK ||
        sv_llm_vector(m, &l->output_norm, "output_norm.weight", 0, p->n_embd, false, err) != SV_OK)
        return err->code;
    if (!sv_gguf_tensor(m->gguf, "output.weight"))
        l->output = sv_llm_add_weight(m, l->token_embd);
    else if (sv_llm_weight(m, &l->output, "output.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < p->n_layer; i++)
        if (read_layer(m, &l->layers[i], i, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static void unload(sv_llm *m)
{
    llama *l = m->weights;
    if (!l)
        return;
    free(l->freqs);
    free(l->layers);
    free(l);
    m->weights = NULL;
}

/* --- the step ----------------------------------------------------------------------------------------------------- */

/* What the passes over rows need. */
typedef struct pass {
    const sv_llm *m;
    sv_llm_ws *ws;
    const float *norm;
    const layer *l;
    sv_kv_layout kv;
} pass;

static void embed_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    const llama *l = p->m->weights;
    sv_llm_embed(p->ws->x, l->token_embd, p->ws->rows, begin, end);
    for (int32_t r = begin; r < end; r++)
        sv_rope_table(p->ws->cos_sin + (int64_t)r * p->m->n_rot, l->freqs, l->rope_scale, p->m->n_rot / 2, p->ws->rows[r].pos);
}

static void norm_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t at = (int64_t)begin * p->m->info.n_embd;
    sv_rms_norm(p->ws->h + at, p->ws->x + at, p->norm, end - begin, p->m->info.n_embd, ((const llama *)p->m->weights)->eps);
    sv_llm_quantise(p->ws, p->ws->h, p->m->info.n_embd, begin, end);
}

static void quantise_att_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    sv_llm_quantise(p->ws, p->ws->att, (int64_t)p->m->info.n_head * p->m->info.head_dim, begin, end);
}

/* A row's heads of q or k. */
static void place_heads(const pass *p, float *x, const float *norm, const float *cos_sin, int32_t n_head)
{
    const llama *l = p->m->weights;
    int32_t head_dim = p->m->info.head_dim, n_pairs = p->m->n_rot / 2;
    if (norm)
        sv_rms_norm(x, x, norm, n_head, head_dim, l->eps);
    if (l->halves)
        sv_rope_halves(x, cos_sin, n_pairs, n_head, head_dim);
    else
        sv_rope(x, cos_sin, n_pairs, n_head, head_dim);
}

static void place_and_store_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    const sv_llm_info *i = &p->m->info;
    for (int32_t r = begin; r < end; r++) {
        const sv_llm_row *row = &p->ws->rows[r];
        const float *cos_sin = p->ws->cos_sin + (int64_t)r * p->m->n_rot;
        int64_t at_kv = (int64_t)r * i->n_head_kv * i->head_dim;
        place_heads(p, p->ws->q + (int64_t)r * i->n_head * i->head_dim, p->l->q_norm, cos_sin, i->n_head);
        place_heads(p, p->ws->k + at_kv, p->l->k_norm, cos_sin, i->n_head_kv);
        sv_kv_write(&p->kv, row->page, row->pos % SV_KV_PAGE, p->ws->k + at_kv, p->ws->v + at_kv);
    }
}

static void swiglu_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t n_ff = p->m->info.n_ff, at = begin * n_ff;
    sv_swiglu(p->ws->gate + at, p->ws->gate + at, p->ws->up + at, (end - begin) * n_ff);
    sv_llm_quantise(p->ws, p->ws->gate, n_ff, begin, end);
}

static void attention_block(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    const sv_llm_info *i = &m->info;
    p->norm = l->attn_norm;
    sv_llm_over_rows(pool, ws->n_rows, norm_rows, p);
    sv_matmul_run(pool, (sv_matmul[]){
        {.w = l->q, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->q, .bias = l->q_bias},
        {.w = l->k, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->k, .bias = l->k_bias},
        {.w = l->v, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->v, .bias = l->v_bias}}, 3);
    sv_llm_over_rows(pool, ws->n_rows, place_and_store_rows, p);
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = i->n_head, .window = l->window,
                                  .scale = 1.0f / sqrtf((float)i->head_dim), .kv = p->kv, .chunks = ws->chunks, .n_chunks = ws->n_chunks});
    if (ws->xq)
        sv_llm_over_rows(pool, ws->n_rows, quantise_att_rows, p);
    sv_matmul_run(pool, &(sv_matmul){.w = l->o, .x = ws->att, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->x, .bias = l->o_bias, .add = true}, 1);
}

static void ffn_block(sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    p->norm = l->ffn_norm;
    sv_llm_over_rows(pool, ws->n_rows, norm_rows, p);
    sv_matmul_run(pool, (sv_matmul[]){
        {.w = l->gate, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->gate, .bias = l->gate_bias},
        {.w = l->up, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->up, .bias = l->up_bias}}, 2);
    sv_llm_over_rows(pool, ws->n_rows, swiglu_rows, p);
    sv_matmul_run(pool, &(sv_matmul){.w = l->down, .x = ws->gate, .xq = ws->xq, .n_rows = ws->n_rows, .y = ws->x, .bias = l->down_bias, .add = true}, 1);
}

static void step(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool)
{
    const llama *l = m->weights;
    int64_t n_embd = m->info.n_embd;
    pass p = {.m = m, .ws = ws};

    sv_llm_over_rows(pool, ws->n_rows, embed_rows, &p);
    for (int32_t i = 0; i < m->info.n_layer; i++) {
        p.l = &l->layers[i];
        p.kv = sv_llm_kv_layout(m, i);
        attention_block(m, ws, pool, &l->layers[i], &p);
        ffn_block(ws, pool, &l->layers[i], &p);
    }
    for (int32_t i = 0; i < ws->n_hidden; i++)
        sv_rms_norm(ws->hidden[i], ws->x + ws->hidden_rows[i] * n_embd, l->output_norm, 1, (int32_t)n_embd, l->eps);
    if (ws->n_out == 0)
        return;
    for (int32_t i = 0; i < ws->n_out; i++)
        sv_rms_norm(ws->h + i * n_embd, ws->x + ws->out_rows[i] * n_embd, l->output_norm, 1, (int32_t)n_embd, l->eps);
    sv_llm_quantise(ws, ws->h, n_embd, 0, ws->n_out);
    sv_matmul_run(pool, &(sv_matmul){.w = l->output, .x = ws->h, .xq = ws->xq, .n_rows = ws->n_out, .y_rows = ws->logits}, 1);
}

#define FAMILY(...) {__VA_ARGS__, .load = load, .unload = unload, .step = step}
const sv_family sv_family_llama = FAMILY(.arch = "llama"); /* TinyLlama, SmolLM and Mistral say so too */
const sv_family sv_family_qwen2 = FAMILY(.arch = "qwen2", .traits = HALVES | QKV_BIAS);
const sv_family sv_family_qwen3 = FAMILY(.arch = "qwen3", .traits = HALVES | QK_NORM);
