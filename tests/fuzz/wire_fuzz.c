/* links: engine */
/* wire_fuzz.c - a stream of frames as either end may get it; a request that is accepted is written again and must read back the same */
#include "engine/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void again(const sv_wire_gen *g)
{
    const char *stop[SV_WIRE_MAX_STOPS + 1] = {NULL};
    sv_wire_gen back = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_err err = {0};
    for (int32_t i = 0; i < g->n_stops; i++)
        stop[i] = g->stop[i].p;
    const sv_gen_opts o = {.model_path = g->model_path, .tenant = g->tenant, .messages = g->messages, .prompt = g->prompt, .tools = g->tools,
                           .max_tokens = g->max_tokens, .n_ctx = g->n_ctx, .sampling = g->sampling, .stop = stop};
    sv_buf_init(&b, 0);
    if (sv_wire_add_gen(&b, 1, &o, &err) == SV_OK) {
        SV_ASSERT(sv_wire_parse(&f, &used, sv_buf_str(&b), &err) == SV_OK && used == b.n);
        SV_ASSERT(sv_wire_get_gen(&back, &f, &err) == SV_OK);
        SV_ASSERT(sv_str_eq(back.prompt, g->prompt) && back.max_tokens == g->max_tokens && back.n_ctx == g->n_ctx && back.n_stops == g->n_stops);
        SV_ASSERT(strcmp(back.model_path, g->model_path) == 0 && strcmp(back.tenant, g->tenant) == 0);
        SV_ASSERT(back.sampling.n_logit_bias == g->sampling.n_logit_bias && back.sampling.logprobs == g->sampling.logprobs);
        SV_ASSERT(back.sampling.seed == g->sampling.seed && back.sampling.temperature == g->sampling.temperature);
    }
    sv_wire_gen_done(&back);
    sv_buf_done(&b);
}

static void again_encode(const sv_wire_encode *e)
{
    sv_wire_encode back = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_err err = {0};
    const sv_encode_opts o = {.model_path = e->model_path, .tenant = e->tenant, .texts = e->texts, .want = e->want, .max_tokens = e->max_tokens, .cut = e->cut};
    sv_buf_init(&b, 0);
    SV_ASSERT(sv_wire_add_encode(&b, 1, &o, &err) == SV_OK);
    SV_ASSERT(sv_wire_parse(&f, &used, sv_buf_str(&b), &err) == SV_OK && used == b.n && sv_wire_get_encode(&back, &f, &err) == SV_OK);
    SV_ASSERT(strcmp(back.model_path, e->model_path) == 0 && strcmp(back.tenant, e->tenant) == 0 && json_equal((json_t *)(uintptr_t)back.texts, (json_t *)(uintptr_t)e->texts));
    SV_ASSERT(back.want == e->want && back.max_tokens == e->max_tokens && back.cut == e->cut);
    sv_wire_encode_done(&back);
    sv_buf_done(&b);
}

static void again_vectors(const sv_vectors *v)
{
    sv_vectors back = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_err err = {0};
    sv_buf_init(&b, 0);
    sv_wire_add_vectors(&b, 1, v);
    SV_ASSERT(sv_wire_parse(&f, &used, sv_buf_str(&b), &err) == SV_OK && sv_wire_get_vectors(&back, &f, &err) == SV_OK);
    SV_ASSERT(back.n == v->n && back.dim == v->dim && back.n_tokens == v->n_tokens && sv_str_eq(back.labels, v->labels));
    SV_ASSERT(memcmp(back.v, v->v, (size_t)v->n * (size_t)v->dim * sizeof(float)) == 0);
    sv_buf_done(&b);
}

static void again_media(const sv_wire_media *m)
{
    sv_wire_media back = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_err err = {0};
    const sv_media_opts o = {.model_path = m->model_path, .tenant = m->tenant, .options = m->options, .bytes = m->bytes};
    sv_buf_init(&b, 0);
    SV_ASSERT(sv_wire_add_media(&b, 1, &o, &err) == SV_OK);
    SV_ASSERT(sv_wire_parse(&f, &used, sv_buf_str(&b), &err) == SV_OK && used == b.n && sv_wire_get_media(&back, &f, &err) == SV_OK);
    SV_ASSERT(strcmp(back.model_path, m->model_path) == 0 && strcmp(back.tenant, m->tenant) == 0 && sv_str_eq(back.bytes, m->bytes));
    SV_ASSERT(json_equal((json_t *)(uintptr_t)back.options, (json_t *)(uintptr_t)m->options));
    sv_wire_media_done(&back);
    sv_buf_done(&b);
}

static void look(const sv_frame *f)
{
    sv_err err = {0}, what = {0};
    sv_wire_gen g = {0};
    sv_wire_hello hello;
    sv_usage usage;
    sv_finish finish;
    sv_str text;
    int32_t n_tokens;
    (void)!sv_wire_get_hello(&hello, f, &err);
    (void)!sv_wire_get_started(&usage, f, &err);
    (void)!sv_wire_get_done(&finish, &usage, f, &err);
    if (sv_wire_get_text(&text, &n_tokens, f, &err) == SV_OK)
        SV_ASSERT(text.n + 4 == f->payload.n);
    if (sv_wire_get_probs(&text, f, &err) == SV_OK) {
        sv_token_probs p;
        while (sv_token_probs_next(&p, &text))
            SV_ASSERT(p.n_top <= SV_MAX_TOP_LOGPROBS);
        SV_ASSERT(text.n == 0);
    }
    if (sv_wire_get_fail(&what, f, &err) == SV_OK)
        SV_ASSERT(what.code < SV_OK && memchr(what.msg, 0, sizeof what.msg));
    if (sv_wire_get_gen(&g, f, &err) == SV_OK)
        again(&g);
    else
        SV_ASSERT(err.msg[0] != '\0');
    sv_wire_gen_done(&g);
    sv_wire_encode e = {0};
    sv_vectors v = {0};
    if (sv_wire_get_encode(&e, f, &err) == SV_OK)
        again_encode(&e);
    sv_wire_encode_done(&e);
    sv_wire_media m = {0};
    if (sv_wire_get_media(&m, f, &err) == SV_OK)
        again_media(&m);
    sv_wire_media_done(&m);
    if (sv_wire_get_result(&text, &usage, f, &err) == SV_OK)
        SV_ASSERT(text.n + 8 == f->payload.n);
    if (sv_wire_get_vectors(&v, f, &err) == SV_OK)
        again_vectors(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_str rest = {(const char *)p, n};
    sv_frame f;
    sv_err err = {0};
    for (size_t used;; rest.p += used, rest.n -= used) {
        if (sv_wire_parse(&f, &used, rest, &err) != SV_OK) {
            SV_ASSERT(err.msg[0] != '\0');
            return 0;
        }
        if (used == 0)
            return 0;
        SV_ASSERT(used <= rest.n && f.payload.n == used - SV_WIRE_HEAD);
        look(&f);
    }
}
