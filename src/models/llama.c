/* llama.c - the Llama family: Llama 1 to 3, TinyLlama, SmolLM, Mistral and all others whose files say "llama"
 *
 * For each row (one token at one position), Touvron et al. 2023 (arXiv:2302.13971) with grouped queries (Ainslie et al. 2023,
 * arXiv:2305.13245):
 *
 *     x = token_embd[token]
 *     for each layer:
 *         h = RMSNorm(x) attn_norm
 *         q, k, v = Wq h, Wk h, Wv h (+ biases)       q and k turn by their position (RoPE); k, v go to the row's page
 *         x = x + Wo attention(q, all k and v up to this position)
 *         h = RMSNorm(x) ffn_norm
 *         x = x + Wdown (silu(Wgate h) * Wup h)
 *     logits = Wout (RMSNorm(x) output_norm)          Wout is token_embd where the file has no output.weight
 *
 * The files keep q and k with the two numbers of a rotated pair side by side (converters permute the rows of Wq and Wk), so RoPE
 * here turns neighbours. Pair i turns by pos * base^(-2i / n_rot), divided by the linear scaling factor or, for Llama 3.1 and
 * later, by the pair's own factor in the tensor rope_freqs.weight. Other scalings change more than the angles and are refused.
 *
 * A sliding window (Mistral 7B v0.1) changes nothing below its length, so such a file gets that length as its context. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "models/llm_impl.h"

enum { MAX_LAYERS = 1024, MAX_HEADS = 1024, MAX_CTX = 1 << 24, ROWS_A_TASK = 8 };

typedef struct layer {
    const float *attn_norm, *ffn_norm;
    const sv_tensor *q, *k, *v, *o, *gate, *up, *down;
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL: none */
} layer;

typedef struct llama {
    float eps;
    double *freqs; /* [n_rot / 2]: radians a position */
    const sv_tensor *token_embd, *output;
    const float *output_norm;
    layer *layers;
} llama;

/* --- loading ------------------------------------------------------------------------------------------------------ */

static sv_rc read_shape(sv_llm *m, sv_err *err)
{
    sv_llm_info *i = &m->info;
    int32_t n_experts = 0, value_dim, window;
    if (sv_llm_param(m, "context_length", 1, MAX_CTX, &i->n_ctx, err) != SV_OK ||
        sv_llm_param(m, "embedding_length", 1, SV_MAX_ROW, &i->n_embd, err) != SV_OK ||
        sv_llm_param(m, "block_count", 1, MAX_LAYERS, &i->n_layer, err) != SV_OK ||
        sv_llm_param(m, "feed_forward_length", 1, SV_MAX_ROW, &i->n_ff, err) != SV_OK ||
        sv_llm_param(m, "attention.head_count", 1, MAX_HEADS, &i->n_head, err) != SV_OK ||
        sv_llm_param(m, "expert_count", 0, INT32_MAX, &n_experts, err) != SV_OK)
        return err->code;
    i->n_head_kv = i->n_head;
    i->head_dim = i->n_embd / i->n_head;
    window = i->n_ctx;
    if (sv_llm_param(m, "attention.head_count_kv", 1, i->n_head, &i->n_head_kv, err) != SV_OK ||
        sv_llm_param(m, "attention.key_length", 1, SV_MAX_HEAD_DIM, &i->head_dim, err) != SV_OK)
        return err->code;
    value_dim = i->head_dim;
    m->n_rot = i->head_dim;
    if (sv_llm_param(m, "attention.value_length", 1, SV_MAX_HEAD_DIM, &value_dim, err) != SV_OK ||
        sv_llm_param(m, "rope.dimension_count", 2, i->head_dim, &m->n_rot, err) != SV_OK ||
        sv_llm_param(m, "attention.sliding_window", 1, MAX_CTX, &window, err) != SV_OK)
        return err->code;
    if (n_experts > 0)
        return sv_fail(err, SV_EFORMAT, "a mixture of %d experts is not supported", n_experts);
    if (i->n_head % i->n_head_kv != 0)
        return sv_fail(err, SV_EFORMAT, "%d heads do not divide among %d key-value heads", i->n_head, i->n_head_kv);
    if (!sv_gguf_has(m->gguf, "llama.attention.key_length") && i->n_embd % i->n_head != 0)
        return sv_fail(err, SV_EFORMAT, "embeddings of %d do not divide among %d heads", i->n_embd, i->n_head);
    if (value_dim != i->head_dim || m->n_rot % 2 != 0 || (int64_t)i->n_head * i->head_dim > SV_MAX_ROW)
        return sv_fail(err, SV_EFORMAT, "%d heads with keys of %d, values of %d and %d rotated numbers are not supported", i->n_head,
                       i->head_dim, value_dim, m->n_rot);
    i->n_ctx = window < i->n_ctx ? window : i->n_ctx;
    return SV_OK;
}

static sv_rc check_scaling(const sv_llm *m, float *factor, sv_err *err)
{
    sv_str type = {0};
    float attn_factor = 1.0f;
    *factor = 1.0f;
    if (sv_gguf_str(m->gguf, "llama.rope.scaling.type", &type, err) != SV_OK ||
        sv_gguf_f32(m->gguf, "llama.rope.scaling.attn_factor", &attn_factor, err) != SV_OK)
        return err->code;
    if (attn_factor != 1.0f)
        return sv_fail(err, SV_EFORMAT, "key 'llama.rope.scaling.attn_factor': %g is not supported, only 1", (double)attn_factor);
    if (!type.p || sv_str_is(type, "none"))
        return sv_gguf_f32(m->gguf, "llama.rope.scale_linear", factor, err); /* its name before 2023-10 */
    if (!sv_str_is(type, "linear"))
        return sv_fail(err, SV_EFORMAT, "key 'llama.rope.scaling.type': '%.*s' is not supported; supported: none, linear",
                       (int)(type.n < 32 ? type.n : 32), sv_utf8_valid(type) ? type.p : "");
    return sv_gguf_f32(m->gguf, "llama.rope.scaling.factor", factor, err);
}

static sv_rc read_rope(const sv_llm *m, llama *l, sv_err *err)
{
    float base = 10000.0f, factor = 1.0f;
    const float *pair_factors = NULL;
    if (sv_gguf_f32(m->gguf, "llama.rope.freq_base", &base, err) != SV_OK || check_scaling(m, &factor, err) != SV_OK ||
        sv_llm_vector(m, &pair_factors, "rope_freqs.weight", 0, m->n_rot / 2, true, err) != SV_OK)
        return err->code;
    if (!(base >= 1.0f && base <= 1e12f) || !(factor > 0.0f && factor <= 1e6f))
        return sv_fail(err, SV_EFORMAT, "RoPE base %g with scaling factor %g makes no sense", (double)base, (double)factor);
    for (int32_t i = 0; i < m->n_rot / 2; i++) {
        double f = pair_factors ? (double)pair_factors[i] : 1.0;
        if (!(f > 0.0 && f <= 1e6))
            return sv_fail(err, SV_EFORMAT, "tensor 'rope_freqs.weight': factor %d is %g", i, f);
        l->freqs[i] = pow((double)base, -2.0 * i / m->n_rot) / ((double)factor * f);
    }
    return SV_OK;
}

static sv_rc read_layer(const sv_llm *m, layer *l, int i, sv_err *err)
{
    const sv_llm_info *p = &m->info;
    int64_t n_q = (int64_t)p->n_head * p->head_dim, n_kv = (int64_t)p->n_head_kv * p->head_dim;
    if (sv_llm_vector(m, &l->attn_norm, "blk.%d.attn_norm.weight", i, p->n_embd, false, err) != SV_OK ||
        sv_llm_matrix(m, &l->q, "blk.%d.attn_q.weight", i, p->n_embd, n_q, err) != SV_OK ||
        sv_llm_matrix(m, &l->k, "blk.%d.attn_k.weight", i, p->n_embd, n_kv, err) != SV_OK ||
        sv_llm_matrix(m, &l->v, "blk.%d.attn_v.weight", i, p->n_embd, n_kv, err) != SV_OK ||
        sv_llm_matrix(m, &l->o, "blk.%d.attn_output.weight", i, n_q, p->n_embd, err) != SV_OK ||
        sv_llm_vector(m, &l->q_bias, "blk.%d.attn_q.bias", i, n_q, true, err) != SV_OK ||
        sv_llm_vector(m, &l->k_bias, "blk.%d.attn_k.bias", i, n_kv, true, err) != SV_OK ||
        sv_llm_vector(m, &l->v_bias, "blk.%d.attn_v.bias", i, n_kv, true, err) != SV_OK ||
        sv_llm_vector(m, &l->o_bias, "blk.%d.attn_output.bias", i, p->n_embd, true, err) != SV_OK)
        return err->code;
    if (sv_llm_vector(m, &l->ffn_norm, "blk.%d.ffn_norm.weight", i, p->n_embd, false, err) != SV_OK ||
        sv_llm_matrix(m, &l->gate, "blk.%d.ffn_gate.weight", i, p->n_embd, p->n_ff, err) != SV_OK ||
        sv_llm_matrix(m, &l->up, "blk.%d.ffn_up.weight", i, p->n_embd, p->n_ff, err) != SV_OK ||
        sv_llm_matrix(m, &l->down, "blk.%d.ffn_down.weight", i, p->n_ff, p->n_embd, err) != SV_OK)
        return err->code;
    return SV_OK;
}

static sv_rc load(sv_llm *m, sv_err *err)
{
    llama *l = m->weights = sv_xnew0(llama);
    const sv_llm_info *p = &m->info;
    if (read_shape(m, err) != SV_OK)
        return err->code;
    if (!sv_gguf_has(m->gguf, "llama.attention.layer_norm_rms_epsilon"))
        return sv_fail(err, SV_EFORMAT, "key 'llama.attention.layer_norm_rms_epsilon' is missing");
    if (sv_gguf_f32(m->gguf, "llama.attention.layer_norm_rms_epsilon", &l->eps, err) != SV_OK)
        return err->code;
    if (!(l->eps >= 0.0f && l->eps < 1.0f))
        return sv_fail(err, SV_EFORMAT, "key 'llama.attention.layer_norm_rms_epsilon': %g makes no sense", (double)l->eps);
    l->freqs = sv_xcalloc((size_t)m->n_rot / 2, sizeof *l->freqs);
    l->layers = sv_xcalloc((size_t)p->n_layer, sizeof *l->layers);
    if (read_rope(m, l, err) != SV_OK || sv_llm_matrix(m, &l->token_embd, "token_embd.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK ||
        sv_llm_vector(m, &l->output_norm, "output_norm.weight", 0, p->n_embd, false, err) != SV_OK)
        return err->code;
    l->output = l->token_embd;
    if (sv_gguf_tensor(m->gguf, "output.weight") &&
        sv_llm_matrix(m, &l->output, "output.weight", 0, p->n_embd, p->n_vocab, err) != SV_OK)
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

/* What the passes over rows need; each runs ROWS_A_TASK rows a task. */
typedef struct pass {
    const sv_llm *m;
    sv_llm_ws *ws;
    const float *norm;
    sv_kv_layout kv;
    int32_t begin, end; /* a task's rows */
} pass;

static pass task_rows(const pass *p, int32_t i_task)
{
    pass t = *p;
    t.begin = i_task * ROWS_A_TASK;
    t.end = t.begin + ROWS_A_TASK < p->ws->n_rows ? t.begin + ROWS_A_TASK : p->ws->n_rows;
    return t;
}

static void over_rows(sv_pool *pool, pass *p, void (*fn)(void *, int32_t))
{
    sv_pool_run(pool, (p->ws->n_rows + ROWS_A_TASK - 1) / ROWS_A_TASK, fn, p);
}

static void embed_rows(void *arg, int32_t i_task)
{
    pass t = task_rows(arg, i_task);
    const llama *l = t.m->weights;
    const sv_tensor *w = l->token_embd;
    size_t row_bytes = sv_type_bytes(w->type, w->dims[0]);
    for (int32_t r = t.begin; r < t.end; r++) {
        const sv_llm_row *row = &t.ws->rows[r];
        sv_dequantize(t.ws->x + (int64_t)r * w->dims[0], w->type, (const uint8_t *)w->data + (size_t)row->token * row_bytes, w->dims[0]);
        sv_rope_table(t.ws->cos_sin + (int64_t)r * t.m->n_rot, l->freqs, 1.0, t.m->n_rot / 2, row->pos);
    }
}

static void norm_rows(void *arg, int32_t i_task)
{
    pass t = task_rows(arg, i_task);
    int64_t at = (int64_t)t.begin * t.m->info.n_embd;
    sv_rms_norm(t.ws->h + at, t.ws->x + at, t.norm, t.end - t.begin, t.m->info.n_embd, ((const llama *)t.m->weights)->eps);
}

static void rotate_and_store_rows(void *arg, int32_t i_task)
{
    pass t = task_rows(arg, i_task);
    const sv_llm_info *i = &t.m->info;
    for (int32_t r = t.begin; r < t.end; r++) {
        const sv_llm_row *row = &t.ws->rows[r];
        const float *cos_sin = t.ws->cos_sin + (int64_t)r * t.m->n_rot;
        float *k = t.ws->k + (int64_t)r * i->n_head_kv * i->head_dim, *v = t.ws->v + (int64_t)r * i->n_head_kv * i->head_dim;
        sv_rope(t.ws->q + (int64_t)r * i->n_head * i->head_dim, cos_sin, t.m->n_rot / 2, i->n_head, i->head_dim);
        sv_rope(k, cos_sin, t.m->n_rot / 2, i->n_head_kv, i->head_dim);
        sv_kv_write(&t.kv, row->page, row->pos % SV_KV_PAGE, k, v);
    }
}

static void swiglu_rows(void *arg, int32_t i_task)
{
    pass t = task_rows(arg, i_task);
    int64_t n_ff = t.m->info.n_ff, at = t.begin * n_ff;
    sv_swiglu(t.ws->gate + at, t.ws->gate + at, t.ws->up + at, (t.end - t.begin) * n_ff);
}

/* Where layer i's keys and values lie in a page. */
static sv_kv_layout kv_layout(const sv_llm_info *i, int32_t i_layer)
{
    size_t layer_floats = sv_kv_layer_floats(i->n_head_kv, i->head_dim), at = (size_t)i_layer * layer_floats;
    return (sv_kv_layout){i->n_head_kv, i->head_dim, at, at + (size_t)i->n_head_kv * SV_KV_PAGE * (size_t)i->head_dim};
}

static void attention_block(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    const sv_llm_info *i = &m->info;
    p->norm = l->attn_norm;
    over_rows(pool, p, norm_rows);
    sv_matmul_run(pool, (sv_matmul[]){
        {.w = l->q, .x = ws->h, .n_rows = ws->n_rows, .y = ws->q, .bias = l->q_bias},
        {.w = l->k, .x = ws->h, .n_rows = ws->n_rows, .y = ws->k, .bias = l->k_bias},
        {.w = l->v, .x = ws->h, .n_rows = ws->n_rows, .y = ws->v, .bias = l->v_bias}}, 3);
    over_rows(pool, p, rotate_and_store_rows);
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = i->n_head, .scale = 1.0f / sqrtf((float)i->head_dim),
                                  .kv = p->kv, .chunks = ws->chunks, .n_chunks = ws->n_chunks});
    sv_matmul_run(pool, &(sv_matmul){.w = l->o, .x = ws->att, .n_rows = ws->n_rows, .y = ws->x, .bias = l->o_bias, .add = true}, 1);
}

static void ffn_block(sv_llm_ws *ws, sv_pool *pool, const layer *l, pass *p)
{
    p->norm = l->ffn_norm;
    over_rows(pool, p, norm_rows);
    sv_matmul_run(pool, (sv_matmul[]){
        {.w = l->gate, .x = ws->h, .n_rows = ws->n_rows, .y = ws->gate},
        {.w = l->up, .x = ws->h, .n_rows = ws->n_rows, .y = ws->up}}, 2);
    over_rows(pool, p, swiglu_rows);
    sv_matmul_run(pool, &(sv_matmul){.w = l->down, .x = ws->gate, .n_rows = ws->n_rows, .y = ws->x, .add = true}, 1);
}

static void step(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool)
{
    const llama *l = m->weights;
    int64_t n_embd = m->info.n_embd;
    pass p = {.m = m, .ws = ws};

    over_rows(pool, &p, embed_rows);
    for (int32_t i = 0; i < m->info.n_layer; i++) {
        p.kv = kv_layout(&m->info, i);
        attention_block(m, ws, pool, &l->layers[i], &p);
        ffn_block(ws, pool, &l->layers[i], &p);
    }
    if (ws->n_out == 0)
        return;
    for (int32_t i = 0; i < ws->n_out; i++)
        sv_rms_norm(ws->h + i * n_embd, ws->x + ws->out_rows[i] * n_embd, l->output_norm, 1, (int32_t)n_embd, l->eps);
    sv_matmul_run(pool, &(sv_matmul){.w = l->output, .x = ws->h, .n_rows = ws->n_out, .y_rows = ws->logits}, 1);
}

const sv_family sv_family_llama = {.arch = "llama", .load = load, .unload = unload, .step = step};
