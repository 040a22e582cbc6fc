/* whisper.c - the encoder and the decoder of Whisper
 *
 * Two convolutions over mel frames, the second of which takes every other place; fixed positions; then a transformer with its norms in front. The
 * decoder is GPT-2's with a second attention, at the encoder's states, whose keys and values are computed once a window.
 *
 * A convolution of width three is a product with a matrix over three frames laid side by side, which is how its weights lie in the file.
 *
 * Both attentions use the paged kernels of nn/kernels.h. The encoder's sequence is one chunk that sees all of itself. Looking at the encoder's
 * states is the same with other pages: a row is a chunk of its own that stands at the last state and sees all before.
 *
 * Layer norms have epsilon 1e-5; keys have no bias; scores are scaled by 1 / sqrt(head_dim). */
#include <math.h>
#include <string.h>

#include "models/llm_impl.h" /* sv_llm_over_rows */
#include "models/whisper_impl.h"

enum { ALIGN = 64 };
static const float eps = 1e-5f;

struct sv_whisper_ws {
    void *memory;
    /* the encoder's rows */
    float *x, *h, *q, *k, *v, *att, *up;
    float *wide, *conv; /* three frames side by side; the first convolution's output */
    float *audio_pages; /* of one layer */
    float *cross_pages; /* [n_text_layer] of that */
    float *text_pages;  /* [SV_WHISPER_SEQS][pages], each of all layers */
    size_t page_floats, text_page_floats, n_audio_pages, n_text_pages;
    void **pages;       /* pointers, laid out for each call */
    sv_attn_chunk *chunks;
    struct row { int32_t token, pos, seq; } *rows;
    int32_t n_rows;
};

typedef struct carve { char *base; size_t at; } carve;

static void *take(carve *c, size_t n_bytes)
{
    void *p = c->base ? c->base + c->at : NULL;
    c->at = (c->at + n_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    return p;
}

static size_t floats_of_layer(int32_t n_head, int32_t n_state)
{
    return (sv_kv_layer_floats(n_head, n_state / n_head) + 15) & ~(size_t)15;
}

static size_t pages_for(int32_t n) { return ((size_t)n + SV_KV_PAGE - 1) / SV_KV_PAGE; }

static void lay_out(const sv_whisper *m, sv_whisper_ws *ws, carve *c)
{
    const sv_whisper_info *i = &m->info;
    size_t d = (size_t)i->n_audio_state, f = sizeof(float);
    size_t rows = (size_t)(i->n_audio_ctx > i->n_text_ctx ? i->n_audio_ctx : i->n_text_ctx) + 2 * SV_WHISPER_SEQS;
    size_t n_ff = (size_t)(i->n_audio_ff > i->n_text_ff ? i->n_audio_ff : i->n_text_ff);
    size_t n_wide = (size_t)i->n_audio_ctx * 3 * (d > 2 * (size_t)i->n_mels ? d : 2 * (size_t)i->n_mels);
    ws->page_floats = floats_of_layer(i->n_audio_head, i->n_audio_state);
    if (floats_of_layer(i->n_text_head, i->n_audio_state) > ws->page_floats)
        ws->page_floats = floats_of_layer(i->n_text_head, i->n_audio_state);
    ws->text_page_floats = floats_of_layer(i->n_text_head, i->n_audio_state) * (size_t)i->n_text_layer;
    ws->n_audio_pages = pages_for(i->n_audio_ctx);
    ws->n_text_pages = pages_for(i->n_text_ctx);
    ws->x = take(c, rows * d * f);
    ws->h = take(c, rows * d * f);
    ws->q = take(c, rows * d * f);
    ws->k = take(c, rows * d * f);
    ws->v = take(c, rows * d * f);
    ws->att = take(c, rows * d * f);
    ws->up = take(c, rows * n_ff * f);
    ws->wide = take(c, n_wide * f);
    ws->conv = take(c, 2 * (size_t)i->n_audio_ctx * d * f);
    ws->audio_pages = take(c, ws->n_audio_pages * ws->page_floats * f);
    ws->cross_pages = take(c, ws->n_audio_pages * ws->page_floats * (size_t)i->n_text_layer * f);
    ws->text_pages = take(c, SV_WHISPER_SEQS * ws->n_text_pages * ws->text_page_floats * f);
    ws->pages = take(c, (ws->n_audio_pages + SV_WHISPER_SEQS * ws->n_text_pages) * sizeof *ws->pages);
    ws->chunks = take(c, rows * sizeof *ws->chunks);
    ws->rows = take(c, rows * sizeof *ws->rows);
}

size_t sv_whisper_ws_bytes(const sv_whisper *m)
{
    carve c = {0};
    sv_whisper_ws ws;
    lay_out(m, &ws, &c);
    return c.at;
}

sv_rc sv_whisper_ws_new(sv_whisper_ws **out, const sv_whisper *m, sv_err *err)
{
    SV_AUTO(sv_whisper_ws_freep) sv_whisper_ws *ws = sv_xnew0(sv_whisper_ws);
    carve c = {0};
    lay_out(m, ws, &c);
    ws->memory = sv_try_aligned(c.at, ALIGN); /* untouched pages cost nothing: most of it is for texts that are seldom so many or so long */
    if (!ws->memory)
        return sv_fail(err, SV_ENOMEM, "no memory for a window of sound (%zu MiB)", c.at >> 20);
    c = (carve){.base = ws->memory};
    lay_out(m, ws, &c);
    *out = SV_TAKE(ws);
    return SV_OK;
}

sv_whisper_ws *sv_whisper_ws_free(sv_whisper_ws *ws)
{
    if (ws)
        free(ws->memory);
    free(ws);
    return NULL;
}

const float *sv_whisper_states(const sv_whisper_ws *ws) { return ws->h; }

/* --- rows --------------------------------------------------------------------------------------------------------- */

typedef struct pass {
    const sv_whisper *m;
    sv_whisper_ws *ws;
    const wsp_norm *norm;
    const float *in;
    float *out;
    int32_t n, n_cols, stride; /* convolutions: frames in `in`, numbers of each, and the step */
    int32_t i_layer;
} pass;

static void norm_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int32_t n = p->m->info.n_audio_state;
    sv_layer_norm(p->out + (int64_t)begin * n, p->in + (int64_t)begin * n, p->norm->w, p->norm->b, end - begin, n, eps);
}

static void normed(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const wsp_norm *norm, int32_t n_rows)
{
    sv_llm_over_rows(pool, n_rows, norm_rows, &(pass){.m = m, .ws = ws, .norm = norm, .in = ws->x, .out = ws->h});
}

static void gelu_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    sv_gelu_erf(p->out + (int64_t)begin * p->n_cols, (int64_t)(end - begin) * p->n_cols);
}

/* Row r of `out`: column c of frames r * stride - 1, + 0, + 1 side by side, as the weights have them; beyond the edges 0. */
static void wide_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    for (int32_t r = begin; r < end; r++) {
        float *to = p->out + (int64_t)r * 3 * p->n_cols;
        for (int32_t k = 0; k < 3; k++) {
            int32_t frame = r * p->stride + k - 1;
            const float *from = p->in + (int64_t)frame * p->n_cols;
            for (int32_t c = 0; c < p->n_cols; c++)
                to[3 * c + k] = frame >= 0 && frame < p->n ? from[c] : 0;
        }
    }
}

static void convolve(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const wsp_dense *w, pass p, float *out)
{
    int32_t n_rows = p.n / p.stride;
    p.out = ws->wide;
    sv_llm_over_rows(pool, n_rows, wide_rows, &p);
    sv_matmul_run(pool, &(sv_matmul){.w = w->w, .x = ws->wide, .n_rows = n_rows, .y = out, .bias = w->b}, 1);
    p.out = out;
    p.n_cols = m->info.n_audio_state;
    sv_llm_over_rows(pool, n_rows, gelu_rows, &p);
}

static sv_kv_layout layout_of(const sv_whisper *m, int32_t n_head)
{
    return (sv_kv_layout){.n_head_kv = n_head, .head_dim = m->info.n_audio_state / n_head, .k_at = 0, .v_at = (size_t)m->info.n_audio_state * SV_KV_PAGE};
}

/* Keys and values of all rows into consecutive pages of one layer, from `out` on. */
static void store_audio(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    sv_kv_layout kv = layout_of(p->m, p->n);
    int64_t d = p->m->info.n_audio_state;
    for (int32_t r = begin; r < end; r++)
        sv_kv_write(&kv, p->out + (size_t)(r / SV_KV_PAGE) * p->ws->page_floats, r % SV_KV_PAGE, p->ws->k + r * d, p->ws->v + r * d);
}

static float scale_of(const sv_whisper *m, int32_t n_head) { return 1.0f / sqrtf((float)(m->info.n_audio_state / n_head)); }

static void feed_forward(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const wsp_layer *l, int32_t n, int32_t n_ff)
{
    normed(m, ws, pool, &l->ffn_norm, n);
    sv_matmul_run(pool, &(sv_matmul){.w = l->up.w, .x = ws->h, .n_rows = n, .y = ws->up, .bias = l->up.b}, 1);
    sv_llm_over_rows(pool, n, gelu_rows, &(pass){.m = m, .out = ws->up, .n_cols = n_ff});
    sv_matmul_run(pool, &(sv_matmul){.w = l->down.w, .x = ws->up, .n_rows = n, .y = ws->x, .bias = l->down.b, .add = true}, 1);
}

/* --- the encoder -------------------------------------------------------------------------------------------------- */

static void add_positions(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    const sv_tensor *t = p->m->audio_position;
    int64_t d = p->m->info.n_audio_state;
    for (int32_t r = begin; r < end; r++) {
        float *x = p->ws->x + r * d, *h = p->ws->h + r * d;
        sv_dequantize(h, t->type, (const uint8_t *)t->data + (size_t)r * sv_type_bytes(t->type, d), d);
        for (int64_t i = 0; i < d; i++)
            x[i] += h[i];
    }
}

void sv_whisper_encode_begin(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const float *mel)
{
    int32_t n = m->info.n_audio_ctx;
    convolve(m, ws, pool, &m->conv1, (pass){.in = mel, .n = 2 * n, .n_cols = m->info.n_mels, .stride = 1}, ws->conv);
    convolve(m, ws, pool, &m->conv2, (pass){.in = ws->conv, .n = 2 * n, .n_cols = m->info.n_audio_state, .stride = 2}, ws->x);
    sv_llm_over_rows(pool, n, add_positions, &(pass){.m = m, .ws = ws});
}

void sv_whisper_encode_layer(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, int32_t i_layer)
{
    const wsp_layer *l = &m->audio[i_layer];
    const wsp_attn *a = &l->self;
    int32_t n = m->info.n_audio_ctx, n_head = m->info.n_audio_head;

    normed(m, ws, pool, &a->norm, n);
    sv_matmul_run(pool, (sv_matmul[]){{.w = a->q.w, .x = ws->h, .n_rows = n, .y = ws->q, .bias = a->q.b},
                                      {.w = a->k.w, .x = ws->h, .n_rows = n, .y = ws->k},
                                      {.w = a->v.w, .x = ws->h, .n_rows = n, .y = ws->v, .bias = a->v.b}}, 3);
    sv_llm_over_rows(pool, n, store_audio, &(pass){.m = m, .ws = ws, .n = n_head, .out = ws->audio_pages});
    for (size_t i = 0; i < ws->n_audio_pages; i++)
        ws->pages[i] = ws->audio_pages + i * ws->page_floats;
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = n_head, .full = true, .scale = scale_of(m, n_head), .kv = layout_of(m, n_head),
                                  .chunks = &(sv_attn_chunk){.pages = ws->pages, .n_rows = n}, .n_chunks = 1});
    sv_matmul_run(pool, &(sv_matmul){.w = a->o.w, .x = ws->att, .n_rows = n, .y = ws->x, .bias = a->o.b, .add = true}, 1);
    feed_forward(m, ws, pool, l, n, m->info.n_audio_ff);
}

void sv_whisper_encode_end(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool)
{
    int32_t n = m->info.n_audio_ctx;
    normed(m, ws, pool, &m->audio_norm, n);
    for (int32_t i = 0; i < m->info.n_text_layer; i++) {
        const wsp_attn *a = &m->text[i].cross;
        sv_matmul_run(pool, (sv_matmul[]){{.w = a->k.w, .x = ws->h, .n_rows = n, .y = ws->k},
                                          {.w = a->v.w, .x = ws->h, .n_rows = n, .y = ws->v, .bias = a->v.b}}, 2);
        sv_llm_over_rows(pool, n, store_audio, &(pass){.m = m, .ws = ws, .n = m->info.n_text_head,
                                                       .out = ws->cross_pages + (size_t)i * ws->n_audio_pages * ws->page_floats});
    }
}

/* --- the decoder -------------------------------------------------------------------------------------------------- */

static float *text_page(const sv_whisper_ws *ws, int32_t seq, size_t i)
{
    return ws->text_pages + ((size_t)seq * ws->n_text_pages + i) * ws->text_page_floats;
}

static void add_row(float *x, const sv_tensor *t, int32_t row, float *scratch)
{
    int64_t d = t->dims[0];
    sv_dequantize(scratch, t->type, (const uint8_t *)t->data + (size_t)row * sv_type_bytes(t->type, d), d);
    for (int64_t i = 0; i < d; i++)
        x[i] += scratch[i];
}

static void embed_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t d = p->m->info.n_audio_state;
    for (int32_t r = begin; r < end; r++) {
        float *x = p->ws->x + r * d, *h = p->ws->h + r * d;
        memset(x, 0, (size_t)d * sizeof *x);
        add_row(x, p->m->token_embd, p->ws->rows[r].token, h);
        add_row(x, p->m->text_position, p->ws->rows[r].pos, h);
    }
}

static sv_kv_layout text_layout(const sv_whisper *m, int32_t i_layer)
{
    sv_kv_layout kv = layout_of(m, m->info.n_text_head);
    size_t at = floats_of_layer(m->info.n_text_head, m->info.n_audio_state) * (size_t)i_layer;
    kv.k_at += at;
    kv.v_at += at;
    return kv;
}

static void store_text(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    sv_kv_layout kv = text_layout(p->m, p->i_layer);
    int64_t d = p->m->info.n_audio_state;
    for (int32_t r = begin; r < end; r++) {
        const struct row *row = &p->ws->rows[r];
        sv_kv_write(&kv, text_page(p->ws, row->seq, (size_t)(row->pos / SV_KV_PAGE)), row->pos % SV_KV_PAGE, p->ws->k + r * d, p->ws->v + r * d);
    }
}

static void self_attention(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const sv_whisper_chunk *chunks, int32_t n_chunks, int32_t i_layer)
{
    const wsp_attn *a = &m->text[i_layer].self;
    int32_t n = ws->n_rows, n_head = m->info.n_text_head, row = 0;
    normed(m, ws, pool, &a->norm, n);
    sv_matmul_run(pool, (sv_matmul[]){{.w = a->q.w, .x = ws->h, .n_rows = n, .y = ws->q, .bias = a->q.b},
                                      {.w = a->k.w, .x = ws->h, .n_rows = n, .y = ws->k},
                                      {.w = a->v.w, .x = ws->h, .n_rows = n, .y = ws->v, .bias = a->v.b}}, 3);
    sv_llm_over_rows(pool, n, store_text, &(pass){.m = m, .ws = ws, .i_layer = i_layer});
    for (int32_t c = 0; c < n_chunks; c++) {
        void **pages = ws->pages + (size_t)c * ws->n_text_pages;
        for (size_t i = 0; i < ws->n_text_pages; i++)
            pages[i] = text_page(ws, chunks[c].seq, i);
        ws->chunks[c] = (sv_attn_chunk){.pages = pages, .pos = chunks[c].pos, .n_rows = chunks[c].n_tokens, .row = row};
        row += chunks[c].n_tokens;
    }
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = n_head, .scale = scale_of(m, n_head), .kv = text_layout(m, i_layer),
                                  .chunks = ws->chunks, .n_chunks = n_chunks});
    sv_matmul_run(pool, &(sv_matmul){.w = a->o.w, .x = ws->att, .n_rows = n, .y = ws->x, .bias = a->o.b, .add = true}, 1);
}

/* q times k, scaled, of the first chunk's rows. Keys lie transposed in their pages. */
static void look_at(const sv_whisper *m, const sv_whisper_ws *ws, const float *keys, int32_t head, int32_t n_rows, float *out)
{
    int32_t n_head = m->info.n_text_head, dim = m->info.n_audio_state / n_head, n_ctx = m->info.n_audio_ctx;
    float scale = scale_of(m, n_head);
    for (int32_t r = 0; r < n_rows; r++) {
        const float *q = ws->q + (int64_t)r * m->info.n_audio_state + (int64_t)head * dim;
        for (int32_t s = 0; s < n_ctx; s += SV_KV_PAGE) {
            const float *k = keys + (size_t)(s / SV_KV_PAGE) * ws->page_floats + (size_t)head * (size_t)dim * SV_KV_PAGE;
            float sum[SV_KV_PAGE] = {0};
            for (int32_t i = 0; i < dim; i++)
                for (int32_t c = 0; c < SV_KV_PAGE; c++)
                    sum[c] += q[i] * k[i * SV_KV_PAGE + c];
            for (int32_t c = 0; c < SV_KV_PAGE && s + c < n_ctx; c++)
                out[(int64_t)r * n_ctx + s + c] = sum[c] * scale;
        }
    }
}

static void cross_attention(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const sv_whisper_chunk *chunks, int32_t i_layer,
                            const sv_whisper_look *look)
{
    const wsp_attn *a = &m->text[i_layer].cross;
    int32_t n = ws->n_rows, n_head = m->info.n_text_head, n_ctx = m->info.n_audio_ctx;
    float *base = ws->cross_pages + (size_t)i_layer * ws->n_audio_pages * ws->page_floats;
    normed(m, ws, pool, &a->norm, n);
    sv_matmul_run(pool, &(sv_matmul){.w = a->q.w, .x = ws->h, .n_rows = n, .y = ws->q, .bias = a->q.b}, 1);
    for (int32_t i = 0; look && i < m->n_align; i++)
        if (m->align[i].layer == i_layer) {
            look_at(m, ws, base, m->align[i].head, chunks[0].n_tokens, look->scores);
            look->on_head(look->arg, look->scores);
        }
    for (size_t i = 0; i < ws->n_audio_pages; i++)
        ws->pages[i] = base + i * ws->page_floats;
    for (int32_t r = 0; r < n; r++)
        ws->chunks[r] = (sv_attn_chunk){.pages = ws->pages, .pos = n_ctx - 1, .n_rows = 1, .row = r};
    sv_attention(pool, &(sv_attn){.q = ws->q, .out = ws->att, .n_head = n_head, .full = true, .scale = scale_of(m, n_head), .kv = layout_of(m, n_head),
                                  .chunks = ws->chunks, .n_chunks = n});
    sv_matmul_run(pool, &(sv_matmul){.w = a->o.w, .x = ws->att, .n_rows = n, .y = ws->x, .bias = a->o.b, .add = true}, 1);
}

static void logits(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const sv_whisper_chunk *chunks, int32_t n_chunks)
{
    int64_t d = m->info.n_audio_state;
    float *y[2 * SV_WHISPER_SEQS];
    int32_t row = 0, n = 0;
    normed(m, ws, pool, &m->text_norm, ws->n_rows);
    for (int32_t c = 0; c < n_chunks; row += chunks[c++].n_tokens) {
        const sv_whisper_chunk *k = &chunks[c];
        if (k->all)
            sv_matmul_run(pool, &(sv_matmul){.w = m->token_embd, .x = ws->h + row * d, .n_rows = k->n_tokens, .y = k->all}, 1);
        if (k->at_logits) {
            memcpy(ws->att + n * d, ws->h + (row + k->i_at) * d, (size_t)d * sizeof *ws->att);
            y[n++] = k->at_logits;
        }
        if (k->logits) {
            memcpy(ws->att + n * d, ws->h + (row + k->n_tokens - 1) * d, (size_t)d * sizeof *ws->att);
            y[n++] = k->logits;
        }
    }
    if (n > 0)
        sv_matmul_run(pool, &(sv_matmul){.w = m->token_embd, .x = ws->att, .n_rows = n, .y_rows = y}, 1);
}

void sv_whisper_decode(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const sv_whisper_chunk *chunks, int32_t n_chunks, const sv_whisper_look *look)
{
    SV_ASSERT(n_chunks > 0 && n_chunks <= SV_WHISPER_SEQS);
    ws->n_rows = 0;
    for (int32_t c = 0; c < n_chunks; c++) {
        const sv_whisper_chunk *k = &chunks[c];
        SV_ASSERT(k->n_tokens > 0 && k->pos >= 0 && k->n_tokens <= m->info.n_text_ctx - k->pos && k->n_tokens <= m->info.n_text_ctx - ws->n_rows);
        SV_ASSERT(k->seq >= 0 && k->seq < SV_WHISPER_SEQS);
        for (int32_t i = 0; i < k->n_tokens; i++) {
            SV_ASSERT(k->tokens[i] >= 0 && k->tokens[i] < m->info.n_vocab);
            ws->rows[ws->n_rows++] = (struct row){.token = k->tokens[i], .pos = k->pos + i, .seq = k->seq};
        }
    }
    sv_llm_over_rows(pool, ws->n_rows, embed_rows, &(pass){.m = m, .ws = ws});
    for (int32_t i = 0; i < m->info.n_text_layer; i++) {
        self_attention(m, ws, pool, chunks, n_chunks, i);
        cross_attention(m, ws, pool, chunks, i, look);
        feed_forward(m, ws, pool, &m->text[i], ws->n_rows, m->info.n_text_ff);
    }
    logits(m, ws, pool, chunks, n_chunks);
}

void sv_whisper_copy_seq(const sv_whisper *m, sv_whisper_ws *ws, int32_t to, int32_t from, int32_t n_tokens)
{
    (void)m;
    if (to != from && n_tokens > 0)
        memcpy(text_page(ws, to, 0), text_page(ws, from, 0), pages_for(n_tokens) * ws->text_page_floats * sizeof(float));
}
