/* seq2seq.c - the arithmetic of BART (Lewis et al. 2019, arXiv:1910.13461) and M2M100 (Fan et al. 2020, arXiv:2010.11125)
 *
 *     x = scale * token_embd[token] + position            BART: LayerNorm(x)
 *     for each layer, with its parts self, cross (the decoder's: over the encoder's states), feed-forward:
 *         BART:    x = LayerNorm(x + part(x))
 *         M2M100:  x = x + part(LayerNorm(x)), and one LayerNorm behind the last layer
 *     logits = token_embd x + bias
 *
 * Position i of BART is row i + 2 of a learned table; of M2M100 it is sin and cos of (i + 2) * 10000^(-k / (d/2 - 1)), sines first.
 *
 * Keys and values lie in pages, as the attention kernel wants them. The encoder's rows are one sequence that sees all of itself. Each beam is a
 * sequence of its own in the decoder; its pages may be other beams' too, until it writes into one: then it gets a copy (beams that begin alike
 * share what they have in common). Looking at the encoder's states is the same kernel with other pages: a row stands at the last state and sees all
 * before. */
#include <math.h>
#include <string.h>

#include "models/llm_impl.h" /* sv_llm_over_rows */
#include "models/seq2seq_impl.h"

enum { ALIGN = 64 };
static const float eps = 1e-5f;

typedef struct carve { char *base; size_t at; } carve;

static void *take(carve *c, size_t n_bytes)
{
    void *p = c->base ? c->base + c->at : NULL;
    c->at = (c->at + n_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    return p;
}

static size_t floats_of(int32_t n_head, int32_t n_embd) { return (sv_kv_layer_floats(n_head, n_embd / n_head) + 15) & ~(size_t)15; }

static void lay_out(sv_seq2seq_run *r, carve *c)
{
    const sv_seq2seq_info *i = &r->m->info;
    size_t rows = (size_t)r->max_rows, d = (size_t)i->n_embd, f = sizeof(float), n_ff = (size_t)(i->n_ff_in > i->n_ff_out ? i->n_ff_in : i->n_ff_out);
    r->x = take(c, rows * d * f);
    r->h = take(c, rows * d * f);
    r->q = take(c, rows * d * f);
    r->k = take(c, rows * d * f);
    r->v = take(c, rows * d * f);
    r->att = take(c, rows * d * f);
    r->up = take(c, rows * n_ff * f);
    r->pages = take(c, (size_t)r->n_source_pages * floats_of(i->n_head_in, i->n_embd) * f);
    r->cross = take(c, (size_t)r->n_source_pages * r->page_floats * (size_t)i->n_layer_out * f);
    r->logits = take(c, S2S_MAX_BEAMS * (size_t)i->n_vocab * f);
    r->page_list = take(c, (size_t)(r->n_source_pages + S2S_MAX_BEAMS * r->n_text_pages) * sizeof *r->page_list);
    r->chunks = take(c, S2S_MAX_BEAMS * sizeof *r->chunks);
    r->text_memory = take(c, (size_t)r->n_pages * r->page_floats * (size_t)i->n_layer_out * f); /* untouched ones cost nothing */
}

sv_rc s2s_run_new(sv_seq2seq_run **out, const sv_seq2seq *m, const s2s_settings *set, sv_tokens *source, sv_err *err)
{
    SV_AUTO(sv_seq2seq_run_freep) sv_seq2seq_run *r = sv_xnew0(sv_seq2seq_run);
    r->m = m;
    r->set = *set;
    r->source = *source;
    *source = (sv_tokens){0};
    int32_t n = (int32_t)r->source.n;
    r->max_rows = n > S2S_MAX_BEAMS ? n : S2S_MAX_BEAMS;
    r->n_source_pages = (n + SV_KV_PAGE - 1) / SV_KV_PAGE;
    r->n_text_pages = (set->max_length + SV_KV_PAGE - 1) / SV_KV_PAGE;
    r->page_floats = floats_of(m->info.n_head_out, m->info.n_embd);
    r->n_pages = set->n_beams * (r->n_text_pages + 1); /* those that beams hold, and a copy for each while it replaces one */
    carve c = {0};
    lay_out(r, &c);
    r->memory = sv_try_aligned(c.at, ALIGN);
    if (!r->memory)
        return sv_fail(err, SV_ENOMEM, "no memory for a text of %d tokens (%zu MiB)", n, c.at >> 20);
    c = (carve){.base = r->memory};
    lay_out(r, &c);
    r->text_pages = sv_xcalloc((size_t)r->n_pages, sizeof *r->text_pages);
    for (int32_t i = 0; i < r->n_pages; i++)
        r->text_pages[i].p = r->text_memory + (size_t)i * r->page_floats * (size_t)m->info.n_layer_out;
    for (int b = 0; b < S2S_MAX_BEAMS; b++) {
        r->beams[b] = (s2s_beam){.pages = sv_xcalloc((size_t)r->n_text_pages, sizeof(s2s_page *)), .tokens = sv_xcalloc((size_t)set->max_length, sizeof(int32_t))};
        r->best[b].tokens = sv_xcalloc((size_t)set->max_length, sizeof(int32_t));
    }
    *out = SV_TAKE(r);
    return SV_OK;
}

sv_seq2seq_run *sv_seq2seq_end(sv_seq2seq_run *r)
{
    if (!r)
        return NULL;
    for (int b = 0; b < S2S_MAX_BEAMS; b++) {
        free(r->beams[b].pages);
        free(r->beams[b].tokens);
        free(r->best[b].tokens);
    }
    free(r->text_pages);
    free(r->written);
    free(r->source.v);
    free(r->memory);
    free(r);
    return NULL;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

typedef struct pass {
    sv_seq2seq_run *r;
    const s2s_side *side;
    const s2s_norm *norm;
    const s2s_beam *beams; /* NULL: rows are the source's */
    const float *in;
    float *out;
    int32_t pos;           /* of the beams' row */
    sv_kv_layout kv;
} pass;

static void add_position(const sv_seq2seq *m, const s2s_side *s, float *x, float *scratch, int32_t i)
{
    int64_t d = m->info.n_embd, half = d / 2;
    if (s->positions) {
        const sv_tensor *t = s->positions;
        sv_dequantize(scratch, t->type, (const uint8_t *)t->data + (size_t)(i + 2) * sv_type_bytes(t->type, d), d);
        for (int64_t k = 0; k < d; k++)
            x[k] += scratch[k];
        return;
    }
    double step = log(10000.0) / (double)(half > 1 ? half - 1 : 1);
    for (int64_t k = 0; k < half; k++) {
        double angle = (i + 2) * exp(-step * (double)k);
        x[k] += (float)sin(angle);
        x[half + k] += (float)cos(angle);
    }
}

static void embed_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    const sv_seq2seq *m = p->r->m;
    const sv_tensor *t = m->token_embd;
    int64_t d = m->info.n_embd;
    for (int32_t r = begin; r < end; r++) {
        float *x = p->r->x + r * d, *h = p->r->h + r * d;
        int32_t token = p->beams ? p->beams[r].tokens[p->pos] : p->r->source.v[r];
        sv_dequantize(x, t->type, (const uint8_t *)t->data + (size_t)token * sv_type_bytes(t->type, d), d);
        for (int64_t k = 0; k < d; k++)
            x[k] *= m->embd_scale;
        add_position(m, p->side, x, h, p->beams ? p->pos : r);
        if (p->side->embd_norm.w)
            sv_layer_norm(x, x, p->side->embd_norm.w, p->side->embd_norm.b, 1, (int32_t)d, eps);
    }
}

static void norm_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int32_t d = p->r->m->info.n_embd;
    sv_layer_norm(p->out + (int64_t)begin * d, p->in + (int64_t)begin * d, p->norm->w, p->norm->b, end - begin, d, eps);
}

static void normed(sv_seq2seq_run *r, sv_pool *pool, const s2s_norm *norm, const float *in, float *out, int32_t n)
{
    sv_llm_over_rows(pool, n, norm_rows, &(pass){.r = r, .norm = norm, .in = in, .out = out});
}

/* What a part reads: with norms in front a normed copy, else x itself. */
static const float *before(sv_seq2seq_run *r, sv_pool *pool, const s2s_norm *norm, int32_t n)
{
    if (!r->m->pre_norm)
        return r->x;
    normed(r, pool, norm, r->x, r->h, n);
    return r->h;
}

/* x has the part added. */
static void behind(sv_seq2seq_run *r, sv_pool *pool, const s2s_norm *norm, int32_t n)
{
    if (!r->m->pre_norm)
        normed(r, pool, norm, r->x, r->x, n);
}

static void act_rows(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t n_ff = p->side->n_ff, n = (end - begin) * n_ff;
    float *x = p->r->up + begin * n_ff;
    if (p->r->m->act == S2S_GELU) {
        sv_gelu_erf(x, n);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] > 0 ? x[i] : 0;
}

static void feed_forward(sv_seq2seq_run *r, sv_pool *pool, const s2s_side *s, const s2s_layer *l, int32_t n)
{
    const float *in = before(r, pool, &l->ffn_norm, n);
    sv_matmul_run(pool, &(sv_matmul){.w = l->up.w, .x = in, .n_rows = n, .y = r->up, .bias = l->up.b}, 1);
    sv_llm_over_rows(pool, n, act_rows, &(pass){.r = r, .side = s});
    sv_matmul_run(pool, &(sv_matmul){.w = l->down.w, .x = r->up, .n_rows = n, .y = r->x, .bias = l->down.b, .add = true}, 1);
    behind(r, pool, &l->ffn_norm, n);
}

static void project(sv_seq2seq_run *r, sv_pool *pool, const s2s_attn *a, const float *in, int32_t n)
{
    sv_matmul_run(pool, (sv_matmul[]){{.w = a->q.w, .x = in, .n_rows = n, .y = r->q, .bias = a->q.b},
                                      {.w = a->k.w, .x = in, .n_rows = n, .y = r->k, .bias = a->k.b},
                                      {.w = a->v.w, .x = in, .n_rows = n, .y = r->v, .bias = a->v.b}}, 3);
}

static void add_output(sv_seq2seq_run *r, sv_pool *pool, const s2s_attn *a, int32_t n)
{
    sv_matmul_run(pool, &(sv_matmul){.w = a->o.w, .x = r->att, .n_rows = n, .y = r->x, .bias = a->o.b, .add = true}, 1);
    behind(r, pool, &a->norm, n);
}

static sv_kv_layout layout_of(const sv_seq2seq *m, int32_t n_head, size_t at)
{
    return (sv_kv_layout){.n_head_kv = n_head, .head_dim = m->info.n_embd / n_head, .k_at = at, .v_at = at + (size_t)m->info.n_embd * SV_KV_PAGE};
}

static float scale_of(const sv_kv_layout *kv) { return 1.0f / sqrtf((float)kv->head_dim); }

/* --- the encoder -------------------------------------------------------------------------------------------------- */

/* Keys and values of the source's rows into consecutive pages of one layer. */
static void store_source(void *arg, int32_t begin, int32_t end)
{
    const pass *p = arg;
    int64_t d = p->r->m->info.n_embd;
    size_t page = floats_of(p->kv.n_head_kv, (int32_t)d);
    for (int32_t r = begin; r < end; r++)
        sv_kv_write(&p->kv, p->out + (size_t)(r / SV_KV_PAGE) * page, r % SV_KV_PAGE, p->r->k + r * d, p->r->v + r * d);
}

static void **source_pages(sv_seq2seq_run *r, float *first, size_t page_floats)
{
    for (int32_t i = 0; i < r->n_source_pages; i++)
        r->page_list[i] = first + (size_t)i * page_floats;
    return r->page_list;
}

void s2s_encode_begin(sv_seq2seq_run *r, sv_pool *pool)
{
    sv_llm_over_rows(pool, (int32_t)r->source.n, embed_rows, &(pass){.r = r, .side = &r->m->in});
}

void s2s_encode_layer(sv_seq2seq_run *r, sv_pool *pool, int32_t i)
{
    const s2s_side *s = &r->m->in;
    const s2s_layer *l = &s->layers[i];
    int32_t n = (int32_t)r->source.n;
    sv_kv_layout kv = layout_of(r->m, s->n_head, 0);
    project(r, pool, &l->self, before(r, pool, &l->self.norm, n), n);
    sv_llm_over_rows(pool, n, store_source, &(pass){.r = r, .kv = kv, .out = r->pages});
    void **pages = source_pages(r, r->pages, floats_of(s->n_head, r->m->info.n_embd));
    sv_attention(pool, &(sv_attn){.q = r->q, .out = r->att, .n_head = s->n_head, .full = true, .scale = scale_of(&kv), .kv = kv,
                                  .chunks = &(sv_attn_chunk){.pages = pages, .n_rows = n}, .n_chunks = 1});
    add_output(r, pool, &l->self, n);
    feed_forward(r, pool, s, l, n);
}

void s2s_encode_end(sv_seq2seq_run *r, sv_pool *pool)
{
    const s2s_side *s = &r->m->out;
    int32_t n = (int32_t)r->source.n;
    if (r->m->in.last_norm.w)
        normed(r, pool, &r->m->in.last_norm, r->x, r->x, n);
    for (int32_t i = 0; i < s->n_layer; i++) {
        const s2s_attn *a = &s->layers[i].cross;
        sv_matmul_run(pool, (sv_matmul[]){{.w = a->k.w, .x = r->x, .n_rows = n, .y = r->k, .bias = a->k.b},
                                          {.w = a->v.w, .x = r->x, .n_rows = n, .y = r->v, .bias = a->v.b}}, 2);
        sv_llm_over_rows(pool, n, store_source, &(pass){.r = r, .kv = layout_of(r->m, s->n_head, 0),
                                                        .out = r->cross + (size_t)i * (size_t)r->n_source_pages * r->page_floats});
    }
}

/* --- the decoder -------------------------------------------------------------------------------------------------- */

static s2s_page *free_page(sv_seq2seq_run *r)
{
    int32_t i = 0;
    while (i < r->n_pages && r->text_pages[i].n_refs > 0)
        i++;
    SV_ASSERT(i < r->n_pages);
    return &r->text_pages[i];
}

/* The beam's page of that position, its own. */
static void own_page(sv_seq2seq_run *r, s2s_beam *b, int32_t pos)
{
    size_t n = r->page_floats * (size_t)r->m->info.n_layer_out;
    s2s_page **at = &b->pages[pos / SV_KV_PAGE], *old = *at;
    if (old && old->n_refs == 1)
        return;
    s2s_page *p = free_page(r);
    p->n_refs = 1;
    if (old)
        memcpy(p->p, old->p, n * sizeof(float));
    else
        memset(p->p, 0, n * sizeof(float));
    if (old)
        old->n_refs--;
    *at = p;
}

static void store_beams(const sv_seq2seq_run *r, const s2s_beam *beams, int32_t n, int32_t pos, const sv_kv_layout *kv)
{
    int64_t d = r->m->info.n_embd;
    for (int32_t b = 0; b < n; b++)
        sv_kv_write(kv, beams[b].pages[pos / SV_KV_PAGE]->p, pos % SV_KV_PAGE, r->k + b * d, r->v + b * d);
}

static void self_attention(sv_seq2seq_run *r, sv_pool *pool, const s2s_beam *beams, int32_t n, int32_t pos, int32_t i)
{
    const s2s_side *s = &r->m->out;
    const s2s_attn *a = &s->layers[i].self;
    sv_kv_layout kv = layout_of(r->m, s->n_head, r->page_floats * (size_t)i);
    project(r, pool, a, before(r, pool, &a->norm, n), n);
    store_beams(r, beams, n, pos, &kv);
    for (int32_t b = 0; b < n; b++) {
        void **pages = r->page_list + (size_t)b * (size_t)r->n_text_pages;
        for (int32_t k = 0; k <= pos / SV_KV_PAGE; k++)
            pages[k] = beams[b].pages[k]->p;
        r->chunks[b] = (sv_attn_chunk){.pages = pages, .pos = pos, .n_rows = 1, .row = b};
    }
    sv_attention(pool, &(sv_attn){.q = r->q, .out = r->att, .n_head = s->n_head, .scale = scale_of(&kv), .kv = kv, .chunks = r->chunks, .n_chunks = n});
    add_output(r, pool, a, n);
}

static void cross_attention(sv_seq2seq_run *r, sv_pool *pool, int32_t n, int32_t i)
{
    const s2s_side *s = &r->m->out;
    const s2s_attn *a = &s->layers[i].cross;
    sv_kv_layout kv = layout_of(r->m, s->n_head, 0);
    const float *in = before(r, pool, &a->norm, n);
    sv_matmul_run(pool, &(sv_matmul){.w = a->q.w, .x = in, .n_rows = n, .y = r->q, .bias = a->q.b}, 1);
    void **pages = source_pages(r, r->cross + (size_t)i * (size_t)r->n_source_pages * r->page_floats, r->page_floats);
    for (int32_t b = 0; b < n; b++)
        r->chunks[b] = (sv_attn_chunk){.pages = pages, .pos = (int32_t)r->source.n - 1, .n_rows = 1, .row = b};
    sv_attention(pool, &(sv_attn){.q = r->q, .out = r->att, .n_head = s->n_head, .scale = scale_of(&kv), .kv = kv, .chunks = r->chunks, .n_chunks = n});
    add_output(r, pool, a, n);
}

void s2s_decode(sv_seq2seq_run *r, sv_pool *pool, s2s_beam *beams, int32_t n, int32_t pos)
{
    const s2s_side *s = &r->m->out;
    for (int32_t b = 0; b < n; b++)
        own_page(r, &beams[b], pos);
    sv_llm_over_rows(pool, n, embed_rows, &(pass){.r = r, .side = s, .beams = beams, .pos = pos});
    for (int32_t i = 0; i < s->n_layer; i++) {
        self_attention(r, pool, beams, n, pos, i);
        cross_attention(r, pool, n, i);
        feed_forward(r, pool, s, &s->layers[i], n);
    }
    if (s->last_norm.w)
        normed(r, pool, &s->last_norm, r->x, r->x, n);
    sv_matmul_run(pool, &(sv_matmul){.w = r->m->output, .x = r->x, .n_rows = n, .y = r->logits, .bias = r->m->output_bias}, 1);
}
