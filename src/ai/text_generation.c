/* text_generation.c - from a checked input to tokens on a connection
 *
 *     start -> engine_generate -> on_start -> on_text ... -> on_done -> answered
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
 * `p` pads every event by 1 to 32 letters, a random number of them, so that a watcher of packet sizes does not read token lengths.
 *
 * Invariants:
 *   1. While a tg is in ai->running its request is alive: on_close and the end of the answer both end the tg at once.
 *   2. `gen` is NULL exactly when the engine will call no more.
 *   3. Each tg meters once, in tg_free, whatever way it ended: what was computed for a client that left is accounted too. */
#include "ai/text_generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "account/limits.h"
#include "ai/ai_impl.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

enum { HIGH_WATER = 256 << 10, MAX_TEXT = 4 << 20, MAX_PROBS = 8 << 20, MAX_EVENT = 7 * MAX_TEXT };

struct sv_tg {
    struct sv_tg *next, **prev; /* ai->running */
    sv_ai *ai;
    sv_req *r;
    sv_gen *gen;                /* inv. 2 */
    const sv_tg_dialect *d;
    sv_tg_input in;
    sv_tg_view v;
    char req_id[37];
    sv_buf text;                /* whole answers: everything; streams: what is held */
    sv_buf probs;               /* of the tokens in text, packed */
    sv_buf event;               /* scratch */
    bool streaming;             /* the head is out */
    bool congested;
    bool lost;                  /* an event was over MAX_EVENT: the stream is not whole any more */
    bool failed;
};

/* ---- life ---- */

static void tg_free(sv_tg *g)
{
    sv_meter *meter = sv_ai_meter(g->ai, g->v.model);
    meter->in_flight--;
    meter->n_errors += g->failed;
    meter->tokens_in += g->v.usage.prompt_tokens;
    meter->tokens_cached += g->v.usage.cached_tokens;
    meter->tokens_out += g->v.usage.completion_tokens;
    meter->neurons += sv_ai_neurons(g->v.model, &g->v.usage);
    *g->prev = g->next;
    if (g->next)
        g->next->prev = g->prev;
    sv_tg_input_done(&g->in);
    sv_buf_done(&g->text);
    sv_buf_done(&g->probs);
    sv_buf_done(&g->event);
    sv_model_unref(g->v.model);
    free(g);
}

/* The request goes on without us. */
static sv_req *let_go(sv_tg *g)
{
    sv_req *r = g->r;
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_drain(r, NULL, NULL);
    tg_free(g);
    return r;
}

static void stop_engine(sv_tg *g)
{
    if (g->gen)
        sv_gen_cancel(g->gen);
    g->gen = NULL;
}

static void on_close(sv_req *r, void *arg)
{
    sv_tg *g = arg;
    (void)r;
    stop_engine(g);
    tg_free(g);
}

void sv_tg_cancel_all(sv_ai *ai)
{
    while (ai->running) {
        sv_tg *g = ai->running;
        stop_engine(g);
        tg_free(g);
    }
}

/* ---- refusals ---- */

int sv_ai_status_of(int code)
{
    switch (code) {
    case 3023: case 3041: case 5016: case 5018: case 5035: return 403;
    case 3042: return 404;
    case 5005: case 5019: return 405;
    case 3007: case 3008: return 408;
    case 3006: return 413;
    case 3036: case 3040: return 429;
    case 3043: return 500;
    default: return code ? 400 : 0;
    }
}

void sv_ai_req_id(const sv_req *r, char out[37])
{
    const char *h = sv_req_id(r);
    snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
}

typedef struct verdict { int status, code; char message[480]; } verdict;

/* What a client is told. What is its own doing keeps its words; what is ours is logged, and a message that may name files stays here. */
static verdict judge(const sv_req *r, const sv_model *m, const sv_err *err)
{
    verdict v = {.code = err->api_code};
    if (v.code == 0 && err->code == SV_ELIMIT && !err->ours)
        v.code = 3040;
    if (v.code == 0 && err->code == SV_EINVAL)
        v.code = 5006;
    if (v.code == 0 && err->code == SV_ETIMEDOUT)
        v.code = 3007;
    if (v.code != 0) {
        v.status = sv_ai_status_of(v.code);
        snprintf(v.message, sizeof v.message, "%s", err->msg);
        return v;
    }
    static sv_log_gate gate;
    if (sv_log_may(&gate, 30))
        sv_log(SV_WARN, "ai.error", "id=%s model=%s rc=%s error='%s'", sv_req_id(r), m ? m->id : "-", sv_rc_name(err->code), err->msg);
    bool again = err->code == SV_EIO || err->code == SV_ENOMEM; /* the engine is back in a moment, or another model leaves */
    v.status = again ? 503 : 500;
    v.code = err->code == SV_ENOMEM ? 3040 : 3043;
    const char *what = err->code == SV_EIO ? "the engine stopped while it ran this request; try again"
                       : err->code == SV_ENOMEM ? "not enough memory for this model now; try again"
                                                : "this model does not load here; the log says why";
    snprintf(v.message, sizeof v.message, "Internal server error: %s (request %s)", what, sv_req_id(r));
    return v;
}

void sv_tg_refuse(sv_ai *ai, sv_req *r, const sv_err *err, const char *bad, const sv_tg_dialect *dialect)
{
    verdict v = judge(r, NULL, err);
    sv_ai_count_refusal(ai, v.code);
    dialect->refuse(r, v.status, v.code, v.message, bad);
}

/* ---- streaming ---- */

static size_t send_event(sv_tg *g)
{
    size_t waiting = 0;
    if (g->event.failed)
        g->lost = true;
    else
        waiting = sv_sse_data(g->r, sv_buf_str(&g->event));
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

static void send_piece(sv_tg *g, sv_str text)
{
    sv_token_probs p;
    g->v.probs = sv_buf_str(&g->probs);
    g->d->piece(&g->v, text, &g->event);
    while (sv_token_probs_next(&p, &g->v.probs))
        g->v.probs_at += n_code_points(p.chosen.bytes);
    sv_buf_reset(&g->probs);
    g->congested = send_event(g) > HIGH_WATER;
}

static void send_held(sv_tg *g)
{
    if (g->text.n == 0 && g->probs.n == 0)
        return;
    send_piece(g, sv_buf_str(&g->text));
    sv_buf_reset(&g->text);
}

static void on_drain(sv_req *r, void *arg)
{
    sv_tg *g = arg;
    (void)r;
    g->congested = false;
    send_held(g);
}

static void begin_stream(sv_tg *g)
{
    g->streaming = true;
    sv_req_add_header(g->r, "cf-ai-req-id", g->req_id);
    sv_sse_begin(g->r);
    sv_req_on_drain(g->r, on_drain, g);
    if (g->d->first) {
        g->d->first(&g->v, &g->event);
        send_event(g);
    }
}

/* ---- the ends ---- */

static void fail(sv_tg *g, const sv_err *err)
{
    verdict v = judge(g->r, g->v.model, err);
    g->failed = true;
    sv_ai_count_refusal(g->ai, v.code);
    if (g->streaming) {
        send_held(g);
        g->d->error(&g->v, v.status, v.code, v.message, &g->event);
        send_event(g);
        sv_req_end(let_go(g));
        return;
    }
    const sv_tg_dialect *d = g->d;
    d->refuse(let_go(g), v.status, v.code, v.message, "");
}

static void finish_stream(sv_tg *g)
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
    sv_sse_data(g->r, SV_STR("[DONE]"));
    sv_req_end(let_go(g));
}

static void finish_whole(sv_tg *g)
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
        sv_req_add_header(g->r, "cf-ai-req-id", g->req_id); /* a refusal adds its own */
        sv_req_send(let_go(g), 200, "application/json", sv_buf_str(&body));
    }
    sv_buf_done(&body);
}

/* ---- the engine's calls ---- */

static void gen_start(sv_gen *gen, const sv_usage *usage, void *arg)
{
    sv_tg *g = arg;
    (void)gen;
    g->v.usage = *usage;
    if (g->in.stream && !g->streaming)
        begin_stream(g);
}

static void gen_text(sv_gen *gen, sv_str text, int32_t n_tokens, void *arg)
{
    sv_tg *g = arg;
    (void)gen;
    g->v.usage.completion_tokens += n_tokens;
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
    sv_tg *g = arg;
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
    sv_tg *g = arg;
    (void)gen;
    g->gen = NULL;
    if (rc != SV_OK) {
        fail(g, err);
        return;
    }
    g->v.finish = finish;
    g->v.usage = *usage;
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
static int32_t tokens_to_make(const sv_tg *g)
{
    int32_t half = g->v.model->n_ctx / 2;
    if (g->in.capped || half < 1 || g->in.max_tokens <= half)
        return g->in.max_tokens;
    return half;
}

void sv_tg_start(sv_ai *ai, sv_req *r, const sv_model **m, sv_tg_input *in, const sv_tg_dialect *dialect)
{
    sv_tg *g = sv_xnew0(sv_tg);
    g->ai = ai;
    g->r = r;
    g->d = dialect;
    g->in = *in;
    *in = (sv_tg_input){0};
    sv_ai_req_id(r, g->req_id);
    g->v = (sv_tg_view){.model = SV_TAKE(*m), .req_id = g->req_id, .created_s = sv_now_ms() / 1000, .usage_event = g->in.usage_event,
                         .logprobs = g->in.sampling.logprobs};
    sv_buf_init(&g->text, MAX_TEXT);
    sv_buf_init(&g->probs, MAX_PROBS);
    sv_buf_init(&g->event, MAX_EVENT);
    g->next = ai->running;
    g->prev = &ai->running;
    if (g->next)
        g->next->prev = &g->next;
    ai->running = g;
    sv_meter *meter = sv_ai_meter(ai, g->v.model);
    meter->n_requests++;
    meter->in_flight++;
    sv_req_on_close(r, on_close, g);

    const sv_principal *who = sv_req_user(r);
    sv_gen_opts opts = {
        .model_path = g->v.model->path, .tenant = who ? who->account_id : "", .messages = g->in.messages, .prompt = g->in.prompt,
        .max_tokens = tokens_to_make(g), .n_ctx = g->v.model->n_ctx, .sampling = g->in.sampling, .stop = g->in.stop,
        .on_start = gen_start, .on_text = gen_text, .on_probs = gen_probs, .on_done = gen_done, .arg = g};
    sv_err err = {0};
    if (sv_engine_generate(&g->gen, ai->engine, &opts, &err) != SV_OK)
        fail(g, &err);
}

void sv_tg_run(sv_ai *ai, sv_req *r, sv_str model_id, json_t *body, const sv_tg_dialect *classic, const sv_tg_dialect *chat)
{
    sv_err err = {0};
    sv_tg_input in = {0};
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_catalogue_resolve(ai->catalogue, model_id, &m, &err) != SV_OK) {
        sv_tg_refuse(ai, r, &err, "model", classic);
        return;
    }
    /* A model of the chat family takes 'prompt' too, and is then answered in the classic way. */
    const json_t *list = json_object_get(body, "messages");
    bool is_chat = sv_ai_is_chat_shape(m) && list && !json_is_null(list);
    const sv_tg_dialect *d = is_chat ? chat : classic;
    double temperature = sv_ai_default_temperature(m);
    if ((is_chat ? sv_schema_chat(&in, body, temperature, &err) : sv_schema_classic(&in, body, temperature, &err)) != SV_OK) {
        sv_tg_refuse(ai, r, &err, in.bad, d);
        return;
    }
    in.usage_event = true;
    sv_tg_start(ai, r, &m, &in, d);
}

/* ---- the classic schema's words ---- */

void sv_classic_whole(const sv_tg_view *v, sv_buf *out)
{
    sv_buf_adds(out, "{\"response\":");
    sv_json_add_str(out, v->text);
    sv_buf_addf(out, ",\"finish_reason\":\"%s\",", sv_ai_finish_name(v->finish));
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
}

void sv_classic_piece(const sv_tg_view *v, sv_str text, sv_buf *out)
{
    static const char letters[] = "abdefghijklmnopqrstuvwxyz0123456789";
    uint8_t n;
    (void)v;
    sv_random(&n, 1);
    sv_buf_adds(out, "{\"response\":");
    sv_json_add_str(out, text);
    sv_buf_addf(out, ",\"p\":\"%.*s\"}", 1 + n % 32, letters);
}

bool sv_classic_last(const sv_tg_view *v, int i, sv_buf *out)
{
    if (i > 0)
        return false;
    sv_buf_addf(out, "{\"response\":\"\",\"finish_reason\":\"%s\",", sv_ai_finish_name(v->finish));
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
    return true;
}

void sv_classic_error(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out)
{
    (void)v, (void)status;
    sv_buf_addf(out, "{\"error\":{\"code\":%d,\"message\":", code);
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_addf(out, "},\"errors\":[{\"code\":%d,\"message\":", code);
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_adds(out, "}]}");
}
