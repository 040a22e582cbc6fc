/* text_generation.c - from a checked input to tokens on a connection
 *
 *     run   -> engine_generate -> on_start -> on_text ... -> on_done -> answered
 *                |                  |            |
 *                refused            head + first event, if streamed
 *
 * A stream's head is sent when the engine has taken the prompt in, not before: a prompt that is too long, a full queue or a model
 * that does not load still get their status code. After the head an error can only be an event, and the stream then ends without
 * [DONE], which means "complete" to clients.
 *
 * Back-pressure. The engine does not wait for one slow reader (all requests share its steps). So when more than HIGH_WATER bytes wait in the
 * connection, text gathers in `held` instead, and goes out as one event once the connection has drained: a slow client gets fewer, larger
 * events and loses nothing. What can gather is bounded by max_tokens; the caps of text, probabilities and of the event they become end the request
 * before that could hurt.
 *
 * `p` pads every event by 1 to 32 letters, a random number of them, so that a watcher of packet sizes does not read token lengths. */
#include "ai/text_generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ai/ai_impl.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

enum { HIGH_WATER = 256 << 10, MAX_TEXT = 4 << 20, MAX_PROBS = 8 << 20, MAX_EVENT = 7 * MAX_TEXT };

typedef struct tg {
    sv_ai_call *c;              /* ours */
    const sv_tg_dialect *d;
    sv_tg_input in;
    sv_tg_view v;
    sv_buf text;                /* whole answers: everything; streams: what is held */
    sv_buf probs;               /* of the tokens in text, packed */
    sv_buf event;               /* scratch */
    bool streaming;             /* the head is out */
    bool congested;
    bool lost;                  /* an event was over MAX_EVENT: the stream is not whole any more */
} tg;

/* ---- life ---- */

static void tg_free(void *state)
{
    tg *g = state;
    sv_tg_input_done(&g->in);
    sv_buf_done(&g->text);
    sv_buf_done(&g->probs);
    sv_buf_done(&g->event);
    free(g);
}

static void stop_engine(tg *g)
{
    if (g->c->gen)
        sv_gen_cancel(g->c->gen);
    g->c->gen = NULL;
}

/* ---- streaming ---- */

static size_t send_event(tg *g)
{
    size_t waiting = 0;
    if (g->event.failed)
        g->lost = true;
    else
        waiting = sv_sse_data(g->c->r, sv_buf_str(&g->event));
    sv_buf_reset(&g->event);
    return waiting;
}

/* Bytes that begin a code point: a token may end inside of one. */
static size_t n_code_points(sv_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void send_piece(tg *g, sv_str text)
{
    sv_token_probs p;
    g->v.probs = sv_buf_str(&g->probs);
    g->d->piece(&g->v, text, &g->event);
    while (sv_token_probs_next(&p, &g->v.probs))
        g->v.probs_at += n_code_points(p.chosen.bytes);
    sv_buf_reset(&g->probs);
    g->congested = send_event(g) > HIGH_WATER;
}

static void send_held(tg *g)
{
    if (g->text.n == 0 && g->probs.n == 0)
        return;
    send_piece(g, sv_buf_str(&g->text));
    sv_buf_reset(&g->text);
}

static void on_drain(sv_req *r, void *arg)
{
    tg *g = arg;
    (void)r;
    g->congested = false;
    send_held(g);
}

static void begin_stream(tg *g)
{
    g->streaming = true;
    sv_req_add_header(g->c->r, "cf-ai-req-id", g->c->req_id);
    sv_sse_begin(g->c->r);
    sv_req_on_drain(g->c->r, on_drain, g);
    if (g->d->first) {
        g->d->first(&g->v, &g->event);
        send_event(g);
    }
}

/* ---- the ends ---- */

/* The stream ends, and with it the call. */
static void end_stream(tg *g)
{
    sv_req_on_drain(g->c->r, NULL, NULL);
    sv_req_end(sv_ai_let_go(g->c));
}

static void fail(tg *g, const sv_err *err)
{
    if (!g->streaming) {
        sv_ai_fail(g->c, err);
        return;
    }
    sv_ai_verdict v = sv_ai_judge(g->c->r, g->c->model, err);
    g->c->failed = true;
    sv_ai_count_refusal(g->c->ai, v.code);
    send_held(g);
    g->d->error(&g->v, v.status, v.code, v.message, &g->event);
    send_event(g);
    end_stream(g);
}

static void finish_stream(tg *g)
{
    send_held(g);
    if (g->lost) {
        sv_err err = {0};
        sv_fail_api(&err, SV_ELIMIT, 3006, "a part of the answer is over %d bytes as one event: ask for fewer log probabilities, or read faster", MAX_EVENT);
        fail(g, &err);
        return;
    }
    for (int i = 0; g->d->last(&g->v, i, &g->event); i++)
        send_event(g);
    sv_sse_data(g->c->r, SV_STR("[DONE]"));
    end_stream(g);
}

static void finish_whole(tg *g)
{
    sv_buf body;
    sv_buf_init(&body, 2 * MAX_TEXT * 6); /* each byte may become \u0000 */
    g->v.text = sv_buf_str(&g->text);
    g->v.probs = sv_buf_str(&g->probs);
    g->d->whole(&g->v, &body);
    if (body.failed) {
        sv_err err = {0};
        sv_fail(&err, SV_ENOMEM, "no memory for an answer of %zu bytes", g->text.n);
        fail(g, &err);
    } else {
        sv_ai_answer(g->c, sv_buf_str(&body));
    }
    sv_buf_done(&body);
}

/* ---- the engine's calls ---- */

static void gen_start(sv_gen *gen, const sv_usage *usage, void *arg)
{
    tg *g = arg;
    (void)gen;
    g->c->usage = g->v.usage = *usage;
    if (g->in.stream && !g->streaming)
        begin_stream(g);
}

static void gen_text(sv_gen *gen, sv_str text, int32_t n_tokens, void *arg)
{
    tg *g = arg;
    (void)gen;
    g->v.usage.completion_tokens += n_tokens;
    g->c->usage = g->v.usage;
    if (text.n == 0)
        return;
    if (g->streaming && !g->congested) {
        send_piece(g, text);
        return;
    }
    if (sv_buf_add(&g->text, text.p, text.n))
        return;
    sv_err err = {0};
    sv_fail_api(&err, SV_ELIMIT, 3006, "the answer is over %d bytes", MAX_TEXT);
    stop_engine(g);
    fail(g, &err);
}

static void gen_probs(sv_gen *gen, sv_str packed, void *arg)
{
    tg *g = arg;
    (void)gen;
    if (sv_buf_add(&g->probs, packed.p, packed.n))
        return;
    sv_err err = {0};
    sv_fail_api(&err, SV_ELIMIT, 3006, "the log probabilities of the answer are over %d bytes", MAX_PROBS);
    stop_engine(g);
    sv_buf_reset(&g->probs);
    fail(g, &err);
}

static void gen_done(sv_gen *gen, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err, void *arg)
{
    tg *g = arg;
    (void)gen;
    g->c->gen = NULL;
    if (rc != SV_OK) {
        fail(g, err);
        return;
    }
    g->v.finish = finish;
    g->c->usage = g->v.usage = *usage;
    if (!g->in.stream) {
        finish_whole(g);
        return;
    }
    if (!g->streaming)
        begin_stream(g);
    finish_stream(g);
}

/* ---- start ---- */

/* A default of 256 would refuse the longer prompts of a model with a small window for want of room that nobody asked for. */
static int32_t tokens_to_make(const tg *g)
{
    int32_t half = g->c->model->n_ctx / 2;
    if (g->in.capped || half < 1 || g->in.max_tokens <= half)
        return g->in.max_tokens;
    return half;
}

void sv_tg_prepare(sv_ai_call *c, sv_tg_input *in, const sv_tg_dialect *d)
{
    tg *g = sv_xnew0(tg);
    g->c = c;
    g->d = d;
    g->in = *in;
    *in = (sv_tg_input){0};
    g->v = (sv_tg_view){.model = c->model, .req_id = c->req_id, .created_s = sv_now_ms() / 1000, .usage_event = g->in.usage_event,
                         .logprobs = g->in.sampling.logprobs};
    sv_buf_init(&g->text, MAX_TEXT);
    sv_buf_init(&g->probs, MAX_PROBS);
    sv_buf_init(&g->event, MAX_EVENT);
    c->state = g;
    c->free_state = tg_free;
}

sv_rc sv_tg_check(sv_ai_call *c, const sv_ai_input *in, sv_err *err)
{
    sv_tg_input t = {0};
    /* A model of the chat family takes 'prompt' too, and is then answered in the classic way. */
    const json_t *list = json_object_get(in->json, "messages");
    bool is_chat = sv_ai_is_chat_shape(c->model) && list && !json_is_null(list);
    double temperature = sv_ai_default_temperature(c->model);
    if ((is_chat ? sv_schema_chat(&t, in->json, temperature, err) : sv_schema_classic(&t, in->json, temperature, err)) != SV_OK) {
        memcpy(c->bad, t.bad, sizeof c->bad);
        return err->code;
    }
    t.usage_event = true;
    sv_tg_prepare(c, &t, is_chat ? &sv_tg_chat : &sv_tg_classic);
    return SV_OK;
}

void sv_tg_run(sv_ai_call *c)
{
    tg *g = c->state;
    sv_gen_opts opts = {
        .model_path = c->model->path, .tenant = c->tenant, .messages = g->in.messages, .prompt = g->in.prompt,
        .max_tokens = tokens_to_make(g), .n_ctx = c->model->n_ctx, .sampling = g->in.sampling, .stop = g->in.stop,
        .on_start = gen_start, .on_text = gen_text, .on_probs = gen_probs, .on_done = gen_done, .arg = g};
    sv_err err = {0};
    if (sv_engine_generate(&c->gen, c->ai->engine, &opts, &err) != SV_OK)
        fail(g, &err);
}

json_t *sv_tg_describe(const sv_model *m) { return sv_schema_describe(sv_ai_is_chat_shape(m)); }

/* ---- the classic schema's words ---- */

static void classic_whole(const sv_tg_view *v, sv_buf *out)
{
    sv_buf_adds(out, "{\"response\":");
    sv_json_add_str(out, v->text);
    sv_buf_addf(out, ",\"finish_reason\":\"%s\",", sv_ai_finish_name(v->finish));
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
}

static void classic_piece(const sv_tg_view *v, sv_str text, sv_buf *out)
{
    static const char letters[] = "abdefghijklmnopqrstuvwxyz0123456789";
    uint8_t n;
    (void)v;
    sv_random(&n, 1);
    sv_buf_adds(out, "{\"response\":");
    sv_json_add_str(out, text);
    sv_buf_addf(out, ",\"p\":\"%.*s\"}", 1 + n % 32, letters);
}

static bool classic_last(const sv_tg_view *v, int i, sv_buf *out)
{
    if (i > 0)
        return false;
    sv_buf_addf(out, "{\"response\":\"\",\"finish_reason\":\"%s\",", sv_ai_finish_name(v->finish));
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
    return true;
}

static void classic_error(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out)
{
    (void)v, (void)status;
    sv_buf_addf(out, "{\"error\":{\"code\":%d,\"message\":", code);
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_addf(out, "},\"errors\":[{\"code\":%d,\"message\":", code);
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_adds(out, "}]}");
}

const sv_tg_dialect sv_tg_classic = {.whole = classic_whole, .piece = classic_piece, .last = classic_last, .error = classic_error};
