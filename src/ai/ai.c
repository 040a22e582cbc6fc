/* ai.c - the object the dialects share: engine, catalogue, meters; and small words that all of them use
 *
 * Meters count from the daemon's start, by model: the ids come from the catalogue, so a client cannot make their table grow. Neurons are tokens
 * times the model's price a million; tokens found in the prefix cache cost the cached price where the table has one. */
#include "ai/ai.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/limits.h"
#include "ai/ai_impl.h"
#include "ai/batch.h"
#include "ai/task.h"
#include "base/mem.h"

enum { MAX_METERS = 8192 };

sv_ai *sv_ai_new(const sv_ai_opts *opts)
{
    sv_ai *ai = sv_xnew0(sv_ai);
    ai->loop = opts->loop;
    ai->engine = opts->engine;
    ai->catalogue = opts->catalogue;
    ai->meters = sv_smap_new();
    ai->refusals = sv_smap_new();
    sv_catalogue_watch(ai->catalogue);
    return ai;
}

sv_rc sv_ai_keep_batches(sv_ai *ai, const char *data_dir, sv_err *err) { return sv_batches_open(&ai->batches, ai, data_dir, err); }

static void free_values(sv_smap *m)
{
    size_t i = 0;
    sv_str key;
    void *value;
    while (sv_smap_next(m, &i, &key, &value))
        free(value);
    sv_smap_free(m);
}

sv_ai *sv_ai_free(sv_ai *ai)
{
    if (!ai)
        return NULL;
    sv_ai_cancel_all(ai);
    sv_batches_close(ai->batches);
    free_values(ai->meters);
    free_values(ai->refusals);
    free(ai);
    return NULL;
}

/* ---- meters ---- */

sv_meter *sv_ai_meter(sv_ai *ai, const sv_model *m)
{
    sv_str id = sv_str_of(sv_smap_count(ai->meters) < MAX_METERS || sv_smap_get(ai->meters, sv_str_of(m->id)) ? m->id : "other");
    sv_meter *meter = sv_smap_get(ai->meters, id);
    if (!meter) {
        meter = sv_xnew0(sv_meter);
        sv_smap_put(ai->meters, id, meter);
    }
    return meter;
}

void sv_ai_count_refusal(sv_ai *ai, int code)
{
    char key[16];
    snprintf(key, sizeof key, "%d", code);
    int64_t *n = sv_smap_get(ai->refusals, sv_str_of(key));
    if (!n) {
        n = sv_xnew0(int64_t);
        sv_smap_put(ai->refusals, sv_str_of(key), n);
    }
    ++*n;
}

double sv_ai_neurons(const sv_model *m, const sv_usage *u)
{
    int32_t cached = u->cached_tokens > u->prompt_tokens ? u->prompt_tokens : u->cached_tokens;
    double cached_price = m->neurons_cached > 0 ? m->neurons_cached : m->neurons_in;
    return ((u->prompt_tokens - cached) * m->neurons_in + cached * cached_price + u->completion_tokens * m->neurons_out) / 1e6;
}

typedef enum field { REQUESTS, ERRORS, TOKENS_IN, TOKENS_CACHED, TOKENS_OUT, NEURONS, IN_FLIGHT, N_FIELDS } field;

static const struct { const char *name, *type, *help; } families[N_FIELDS] = {
    [REQUESTS] = {"selvedge_ai_requests_total", "counter", "Calls begun."},
    [ERRORS] = {"selvedge_ai_errors_total", "counter", "Calls that ended with an error."},
    [TOKENS_IN] = {"selvedge_ai_prompt_tokens_total", "counter", "Tokens read."},
    [TOKENS_CACHED] = {"selvedge_ai_cached_tokens_total", "counter", "Tokens read that were in the prefix cache."},
    [TOKENS_OUT] = {"selvedge_ai_completion_tokens_total", "counter", "Tokens written."},
    [NEURONS] = {"selvedge_ai_neurons_total", "counter", "Cost, in neurons."},
    [IN_FLIGHT] = {"selvedge_ai_in_flight", "gauge", "Calls in progress."},
};

static double value_of(const sv_meter *m, field f)
{
    switch (f) {
    case REQUESTS: return (double)m->n_requests;
    case ERRORS: return (double)m->n_errors;
    case TOKENS_IN: return (double)m->tokens_in;
    case TOKENS_CACHED: return (double)m->tokens_cached;
    case TOKENS_OUT: return (double)m->tokens_out;
    case NEURONS: return m->neurons;
    default: return (double)m->in_flight;
    }
}

void sv_ai_metrics(const sv_ai *ai, sv_buf *out)
{
    sv_str key;
    void *value;
    for (field f = 0; f < N_FIELDS; f++) {
        sv_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", families[f].name, families[f].help, families[f].name, families[f].type);
        for (size_t i = 0; sv_smap_next(ai->meters, &i, &key, &value);) /* ids hold nothing that needs escapes */
            sv_buf_addf(out, "%s{model=\"%.*s\"} %.17g\n", families[f].name, (int)key.n, key.p, value_of(value, f));
    }
    sv_buf_adds(out, "# HELP selvedge_ai_refusals_total Error answers, by Workers AI code.\n# TYPE selvedge_ai_refusals_total counter\n");
    for (size_t i = 0; sv_smap_next(ai->refusals, &i, &key, &value);)
        sv_buf_addf(out, "selvedge_ai_refusals_total{code=\"%.*s\"} %lld\n", (int)key.n, key.p, (long long)*(int64_t *)value);
    if (ai->batches)
        sv_batches_metrics(ai->batches, out);
}

/* ---- bodies ---- */

typedef struct collect {
    sv_ai *ai;
    const sv_surface *s;
    sv_ai_body_fn fn;
    sv_buf body;
    bool over;
} collect;

static void collect_free(collect *c)
{
    sv_buf_done(&c->body);
    free(c);
}

static void collect_closed(sv_req *r, void *arg)
{
    (void)r;
    collect_free(arg);
}

static void too_large(sv_ai *ai, sv_req *r, const sv_surface *s)
{
    sv_err err = {0};
    sv_fail_api(&err, SV_EINVAL, 3006, "Request too large: a body has at most %lld bytes", (long long)sv_limit_value(SV_LIMIT_AI_BODY_BYTES));
    sv_ai_refuse(ai, r, &err, "", s);
}

static void collect_piece(sv_req *r, const char *p, size_t n, void *arg)
{
    collect *c = arg;
    if (n > 0) {
        if (!c->over && !sv_buf_add(&c->body, p, n)) {
            c->over = true;
            sv_buf_done(&c->body); /* what still comes is dropped */
        }
        return;
    }
    sv_req_on_close(r, NULL, NULL);
    if (c->over)
        too_large(c->ai, r, c->s);
    else
        c->fn(c->ai, r, sv_buf_str(&c->body));
    collect_free(c);
}

void sv_ai_collect(sv_ai *ai, sv_req *r, bool drain, const sv_surface *s, sv_ai_body_fn fn)
{
    size_t max = (size_t)sv_limit_value(SV_LIMIT_AI_BODY_BYTES);
    int64_t declared = 0;
    if (!drain && sv_str_to_i64(sv_req_header(r, "content-length"), &declared) && declared > (int64_t)max) {
        too_large(ai, r, s);
        return;
    }
    collect *c = sv_xnew0(collect);
    *c = (collect){.ai = ai, .s = s, .fn = fn};
    sv_buf_init(&c->body, max);
    sv_req_on_close(r, collect_closed, c);
    sv_req_on_body(r, collect_piece, c);
}

/* ---- small words ---- */

sv_rc sv_ai_parse(sv_str body, json_t **out, sv_err *err)
{
    body = sv_str_trim(body);
    if (body.n == 0)
        return sv_fail_api(err, SV_EINVAL, 3003, "The request has no body");
    if (body.p[0] != '{')
        return sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/', the body is not a JSON object");
    if (sv_json_parse(out, body, err) != SV_OK) {
        err->api_code = 5006;
        return sv_wrap(err, "The body is no JSON");
    }
    return SV_OK;
}

void sv_ai_add_usage(sv_buf *out, const sv_usage *u)
{
    sv_buf_addf(out, "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d", u->prompt_tokens, u->completion_tokens,
                u->prompt_tokens + u->completion_tokens);
    if (u->cached_tokens > 0)
        sv_buf_addf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%d}", u->cached_tokens);
    sv_buf_addc(out, '}');
}

const char *sv_ai_finish_name(sv_finish f) { return f == SV_FINISH_LENGTH ? "length" : "stop"; }
bool sv_ai_is_chat_shape(const sv_model *m) { return strcmp(m->shape, "chat-completions") == 0; }
double sv_ai_default_temperature(const sv_model *m) { return sv_ai_is_chat_shape(m) ? 1.0 : 0.6; }
