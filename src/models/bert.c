/* bert.c - the BERT family: BERT, DistilBERT, XLM-RoBERTa
 *
 * For each row (one token of one sequence), Devlin et al. 2018, arXiv:1810.04805; norms stand behind each part, not before:
 *
 *     x = LayerNorm(token_embd[token] + position_embd[position] + type_embd[segment])      DistilBERT has no segments
 *     for each layer:
 *         q, k, v = Wq x + b, Wk x + b, Wv x + b
 *         x = LayerNorm(x + Wo attention(q, all k and v of the sequence) + b)
 *         x = LayerNorm(x + Wdown gelu(Wup x + b) + b)
 *     vector = x of the first token, or the mean over the sequence's tokens, special ones among them
 *     logits = Wcls act(Wpool (x of the first token) + b) + b       act: tanh (BERT, XLM-RoBERTa) or relu (DistilBERT)
 *
 * Rows of all sequences lie one behind the other, and only attention knows where one ends. It is the kernel of the language models: keys and
 * values go to pages, which here are memory of the run, and every row sees the whole sequence. Sequences begin at pages of their own, so a
 * sequence's sums are the same whoever is beside it. */
#include <math.h>
#include <string.h>

#include "models/encoder_impl.h"

enum { ALIGN = 64, ROWS_A_TASK = 8 };

typedef struct enc_row {
    int32_t token, position, type;
    void *page;
    int32_t slot;
} enc_row;

struct sv_encoder_ws {
    sv_decoder_ws *decoder; /* of a decoder; then nothing else is set */
    int32_t max_rows;
    void *memory;
    float *x, *h, *q, *k, *v, *att, *up; /* [max_rows][n_embd], up [max_rows][n_ff] */
    float *pages;                        /* [max_pages][page_floats] */
    size_t page_floats;
    sv_kv_layout kv;
    enc_row *rows;
    void **page_list;
    sv_attn_chunk *chunks;
    const sv_encoder_seq *seqs;
    int32_t n_rows, n_chunks;
};

/* Each sequence has at most one page that is not full. */
static size_t max_pages(int32_t max_rows) { return (size_t)max_rows / SV_KV_PAGE + SV_ENCODER_MAX_SEQS; }

typedef struct carve { uint8_t *base; size_t at; } carve;

static void *take(carve *c, size_t bytes)
{
    void *p = c->base ? c->base + c->at : NULL;
    c->at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static void lay_out(const sv_encoder *e, sv_encoder_ws *ws, carve *c)
{
    size_t rows = (size_t)ws->max_rows, row = rows * (size_t)e->info.n_embd * sizeof(float);
    ws->x = take(c, row);
    ws->h = take(c, row);
    ws->q = take(c, row);
    ws->k = take(c, row);
    ws->v = take(c, row);
    ws->att = take(c, row);
    ws->up = take(c, rows * (size_t)e->info.n_ff * sizeof(float));
    ws->pages = take(c, max_pages(ws->max_rows) * ws->page_floats * sizeof(float));
    ws->rows = take(c, rows * sizeof *ws->rows);
    ws->page_list = take(c, max_pages(ws->max_rows) * sizeof *ws->page_list);
    ws->chunks = take(c, SV_ENCODER_MAX_SEQS * sizeof *ws->chunks);
}

sv_rc sv_encoder_ws_new(sv_encoder_ws **out, const sv_encoder *e, int32_t max_rows, sv_err *err)
{
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = sv_xnew0(sv_encoder_ws);
    if (e->llm) {
        if (sv_decoder_ws_new(&ws->decoder, e, max_rows, err) != SV_OK)
            return err->code;
        *out = SV_TAKE(ws);
        return SV_OK;
    }
    int32_t head_dim = e->info.n_embd / e->info.n_head;
    ws->max_rows = max_rows;
    ws->page_floats = ((sv_kv_layer_floats(e->info.n_head, head_dim) + 15) & ~(size_t)15);
    ws->kv = (sv_kv_layout){.n_head_kv = e->info.n_head, .head_dim = head_dim, .k_at = 0, .v_at = (size_t)e->info.n_embd * SV_KV_PAGE};
    carve c = {0};
    lay_out(e, ws, &c);
    ws->memory = sv_try_aligned(c.at, ALIGN); /* untouched pages cost nothing: short batches use few */
    if (!ws->memory)
        return sv_fail(err, SV_ENOMEM, "no memory for a batch of %d tokens (%zu bytes)", max_rows, c.at);
    c = (carve){.base = ws->memory};
    lay_out(e, ws, &c);
    *out = SV_TAKE(ws);
    return SV_OK;
}

sv_encoder_ws *sv_encoder_ws_free(sv_encoder_ws *ws)
{
    if (ws) {
        sv_decoder_ws_free(ws->decoder);
        free(ws->memory);
    }
    free(ws);
    return NULL;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

typedef struct pass {
    const sv_encoder *e;
    sv_encoder_ws *ws;
    const enc_norm *norm;
    sv_encoder_want want;
    void (*fn)(const struct pass *p, int32_t begin, int32_t end);
} pass;

static void rows_task(void *arg, int32_t i)
{
    const pass *p = arg;
    int32_t begin = i * ROWS_A_TASK, end = begin + ROWS_A_TASK;
    p->fn(p, begin, end < p->ws->n_rows ? end : p->ws->n_rows);
}

static void over_rows(sv_pool *pool, pass *p, void (*fn)(const pass *p, int32_t begin, int32_t end))
{
    p->fn = fn;
    sv_pool_run(pool, (p->ws->n_rows + ROWS_A_TASK - 1) / ROWS_A_TASK, rows_task, p);
}

static void add_row(float *x, float *scratch, const sv_tensor *w, int32_t row)
{
    int64_t n = w->dims[0];
    sv_dequantize(scratch, w->type, (const uint8_t *)w->data + (size_t)row * sv_type_bytes(w->type, n), n);
    for (int64_t i = 0; i < n; i++)
        x[i] += scratch[i];
}

static void embed_rows(const pass *p, int32_t begin, int32_t end)
{
    const sv_encoder *e = p->e;
    int64_t n = e->info.n_embd;
    for (int32_t r = begin; r < end; r++) {
        const enc_row *row = &p->ws->rows[r];
        float *x = p->ws->x + r * n, *h = p->ws->h + r * n;
        memset(x, 0, (size_t)n * sizeof *x);
        add_row(x, h, e->token_embd, row->token);
        if (e->type_embd)
            add_row(x, h, e->type_embd, row->type);
        add_row(x, h, e->position_embd, row->position);
        sv_layer_norm(x, x, e->embd_norm.w, e->embd_norm.b, 1, (int32_t)n, e->eps);
    }
}

static void norm_rows(const pass *p, int32_t begin, int32_t end)
{
    float *x = p->ws->x + (int64_t)begin * p->e->info.n_embd;
    sv_layer_norm(x, x, p->norm->w, p->norm->b, end - begin, p->e->info.n_embd, p->e->eps);
}

static void store_rows(const pass *p, int32_t begin, int32_t end)
{
    for (int32_t r = begin; r < end; r++) {
        int64_t at = (int64_t)r * p->e->info.n_embd;
        sv_kv_write(&p->ws->kv, p->ws->rows[r].page, p->ws->rows[r].slot, p->ws->k + at, p->ws->v + at);
    }
}

static void act_rows(const pass *p, int32_t begin, int32_t end)
{
    int64_t n_ff = p->e->info.n_ff, n = (end - begin) * n_ff;
    float *x = p->ws->up + begin * n_ff;
    switch (p->e->act) {
    case ENC_GELU_ERF: sv_gelu_erf(x, n); break;
    case ENC_GELU_TANH: sv_gelu_tanh(x, n); break;
    case ENC_RELU:
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] > 0 ? x[i] : 0;
        break;
    case ENC_SILU:
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] / (1 + expf(-x[i]));
        break;
    }
}

/* --- the run ------------------------------------------------------------------------------------------------------ */

void sv_encoder_begin(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int32_t n_seqs)
{
    int32_t n_pages = 0;
    SV_ASSERT(n_seqs > 0 && n_seqs <= SV_ENCODER_MAX_SEQS);
    if (ws->decoder) {
        sv_decoder_begin(e, ws->decoder, seqs, n_seqs);
        return;
    }
    ws->seqs = seqs;
    ws->n_rows = ws->n_chunks = 0;
    for (int32_t s = 0; s < n_seqs; s++) {
        const sv_encoder_seq *seq = &seqs[s];
        SV_ASSERT(seq->n_tokens > 0 && seq->n_tokens <= e->info.n_ctx && seq->n_tokens <= ws->max_rows - ws->n_rows);
        ws->chunks[ws->n_chunks++] = (sv_attn_chunk){.pages = ws->page_list + n_pages, .pos = 0, .n_rows = seq->n_tokens, .row = ws->n_rows};
        for (int32_t i = 0; i < seq->n_tokens; i++) {
            SV_ASSERT(seq->tokens[i] >= 0 && seq->tokens[i] < e->info.n_vocab);
            if (i % SV_KV_PAGE == 0) {
                ws->page_list[n_pages] = ws->pages + (size_t)n_pages * ws->page_floats;
                n_pages++;
            }
            ws->rows[ws->n_rows++] = (enc_row){.token = seq->tokens[i], .position = e->first_position + i, .type = e->n_types > 1 && i >= seq->n_first,
                                               .page = ws->page_list[n_pages - 1], .slot = i % SV_KV_PAGE};
        }
    }
    over_rows(pool, &(pass){.e = e, .ws = ws}, embed_rows);
}

int32_t sv_encoder_n_steps(const sv_encoder *e, const sv_encoder_ws *ws) { return ws->decoder ? sv_decoder_n_steps(ws->decoder) : e->info.n_layer; }

void sv_encoder_step(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, int32_t i_step)
{
    if (ws->decoder) {
        sv_decoder_step(e, ws->decoder, pool, i_step);
        return;
    }
    const enc_layer *l = &e->layers[i_step];
    int32_t n = ws->n_rows;
    pass p = {.e = e, .ws = ws};

    sv_matmul_run(pool, (sv_matmul[]){{.w = l->q.w, .x = ws->x, .n_rows = n, .y = ws->q, .bias = l->q.b},
                                      {.w = l->k.w, .x = ws->x, .n_rows = n, .y = ws->k, .bias = l->k.b},
                                      {.w = l->v.w, .x = ws->x, .n_rows = n, .y = ws->v, .bias = l->v.b}}, 3);
    over_rows(pool, &p, store_rows);
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = e->info.n_head, .full = true, .scale = 1.0f / sqrtf((float)ws->kv.head_dim),
                                  .kv = ws->kv, .chunks = ws->chunks, .n_chunks = ws->n_chunks});
    sv_matmul_run(pool, &(sv_matmul){.w = l->o.w, .x = ws->att, .n_rows = n, .y = ws->x, .bias = l->o.b, .add = true}, 1);
    p.norm = &l->attn_norm;
    over_rows(pool, &p, norm_rows);

    sv_matmul_run(pool, &(sv_matmul){.w = l->up.w, .x = ws->x, .n_rows = n, .y = ws->up, .bias = l->up.b}, 1);
    over_rows(pool, &p, act_rows);
    sv_matmul_run(pool, &(sv_matmul){.w = l->down.w, .x = ws->up, .n_rows = n, .y = ws->x, .bias = l->down.b, .add = true}, 1);
    p.norm = &l->ffn_norm;
    over_rows(pool, &p, norm_rows);
}

/* Sums in float64, rows in order. */
static void mean_of(float *out, const float *x, int32_t n_rows, int32_t n_embd)
{
    for (int32_t i = 0; i < n_embd; i++) {
        double sum = 0;
        for (int32_t r = 0; r < n_rows; r++)
            sum += (double)x[(int64_t)r * n_embd + i];
        out[i] = (float)(sum / n_rows);
    }
}

/* The heads of all sequences at once; h takes the first rows, att what the pooler makes of them. */
static void logits(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool)
{
    int32_t n = ws->n_chunks;
    int64_t n_embd = e->info.n_embd;
    const float *x = ws->h;
    for (int32_t s = 0; s < n; s++)
        memcpy(ws->h + s * n_embd, ws->x + ws->chunks[s].row * n_embd, (size_t)n_embd * sizeof *ws->h);
    if (e->head != ENC_HEAD_NONE) {
        sv_matmul_run(pool, &(sv_matmul){.w = e->pooler.w, .x = ws->h, .n_rows = n, .y = ws->att, .bias = e->pooler.b}, 1);
        for (int64_t i = 0; i < n * n_embd; i++)
            ws->att[i] = e->head == ENC_HEAD_TANH ? tanhf(ws->att[i]) : ws->att[i] > 0 ? ws->att[i] : 0;
        x = ws->att;
    }
    for (int32_t s = 0; s < n; s++)
        sv_matmul_run(pool, &(sv_matmul){.w = e->classifier.w, .x = x + s * n_embd, .n_rows = 1, .y = ws->seqs[s].out, .bias = e->classifier.b}, 1);
}

void sv_encoder_end(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, sv_encoder_want want)
{
    if (ws->decoder) {
        sv_decoder_end(ws->decoder);
        return;
    }
    if (want == SV_WANT_LOGITS) {
        SV_ASSERT(e->info.n_labels > 0);
        logits(e, ws, pool);
        return;
    }
    for (int32_t s = 0; s < ws->n_chunks; s++) {
        const sv_attn_chunk *c = &ws->chunks[s];
        const float *x = ws->x + (int64_t)c->row * e->info.n_embd;
        mean_of(ws->seqs[s].out, x, want == SV_WANT_CLS ? 1 : c->n_rows, e->info.n_embd);
    }
}

void sv_encoder_run(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int32_t n_seqs, sv_encoder_want want)
{
    sv_encoder_begin(e, ws, pool, seqs, n_seqs);
    for (int32_t i = 0; i < sv_encoder_n_steps(e, ws); i++)
        sv_encoder_step(e, ws, pool, i);
    sv_encoder_end(e, ws, pool, want);
}
