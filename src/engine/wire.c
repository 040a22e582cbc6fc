/* wire.c - frames between the daemon and the engine
 *
 * The head of a request is JSON, since messages and tools are JSON already and a field more tomorrow costs nothing; it is read once a
 * request. What flows back, several frames a request and step, is packed: no parser and no escaping on the way of a token.
 *
 * Both ends run as one user on one machine, yet neither trusts the other: the daemon outlives a broken engine, and the engine parses
 * what a client of the API wrote. So every size is checked before it is used, and
 *   1. A frame's size is in the range of its type, so that getters read whole fields without looking again.
 *   2. A request that is well framed but senseless is answered under its id; only a broken frame ends the connection. */
#include "engine/wire.h"

#include <inttypes.h>
#include <math.h>

static uint32_t get32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static int32_t get_i32(const char *p) { return (int32_t)get32(p); }

/* inv. 1 */
static const struct { uint32_t min, max; } sizes[SV_WIRE_LAST + 1] = {
    [SV_WIRE_HELLO] = {8, 12},          [SV_WIRE_GENERATE] = {4, SV_WIRE_MAX}, [SV_WIRE_CANCEL] = {0, 0},
    [SV_WIRE_STATS] = {0, SV_WIRE_MAX}, [SV_WIRE_STARTED] = {8, 8},            [SV_WIRE_TEXT] = {4, SV_WIRE_MAX},
    [SV_WIRE_DONE] = {16, 16},          [SV_WIRE_FAIL] = {8, 8 + sizeof(((sv_err *)0)->msg) - 1},
    [SV_WIRE_ENCODE] = {2, SV_WIRE_MAX}, [SV_WIRE_VECTORS] = {12, SV_WIRE_MAX}, [SV_WIRE_PROBS] = {16, SV_WIRE_MAX},
    [SV_WIRE_MEDIA] = {6, SV_WIRE_MAX}, [SV_WIRE_RESULT] = {10, SV_WIRE_MAX},
    [SV_WIRE_AGAIN] = {0, 0},           [SV_WIRE_GOAWAY] = {0, 0},
};

sv_rc sv_wire_parse(sv_frame *out, size_t *used, sv_str bytes, sv_err *err)
{
    *used = 0;
    if (bytes.n < SV_WIRE_HEAD)
        return SV_OK;
    uint32_t n = get32(bytes.p), type = get32(bytes.p + 4); /* the two zero bytes are checked with the type */
    if (type < SV_WIRE_HELLO || type > SV_WIRE_LAST)
        return sv_fail(err, SV_EFORMAT, "engine protocol: no frame has type %" PRIu32, type);
    if (n < sizes[type].min || n > sizes[type].max)
        return sv_fail(err, SV_EFORMAT, "engine protocol: frame of type %" PRIu32 " with %" PRIu32 " bytes", type, n);
    if (bytes.n - SV_WIRE_HEAD < n)
        return SV_OK;
    *out = (sv_frame){(sv_wire_type)type, get32(bytes.p + 8), {bytes.p + SV_WIRE_HEAD, n}};
    *used = SV_WIRE_HEAD + (size_t)n;
    return SV_OK;
}

/* --- small payloads ----------------------------------------------------------------------------------------------- */

static sv_rc expect(const sv_frame *f, sv_wire_type type, sv_err *err)
{
    if (f->type != type || f->payload.n < sizes[type].min || f->payload.n > sizes[type].max)
        return sv_fail(err, SV_EFORMAT, "engine protocol: type %d with %zu bytes where %d was due", (int)f->type, f->payload.n, (int)type);
    return SV_OK;
}

sv_rc sv_wire_get_hello(sv_wire_hello *out, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_HELLO, err) != SV_OK)
        return err->code;
    uint32_t magic = get32(f->payload.p), version = get32(f->payload.p + 4);
    if (magic != SV_WIRE_MAGIC)
        return sv_fail(err, SV_EFORMAT, "engine protocol: the other end is no engine of ours");
    if (version != SV_WIRE_VERSION)
        return sv_fail(err, SV_EFORMAT, "engine protocol: version %" PRIu32 " there, %d here", version, SV_WIRE_VERSION);
    *out = (sv_wire_hello){version, f->payload.n >= 12 ? get32(f->payload.p + 8) : 0};
    return SV_OK;
}

sv_rc sv_wire_get_started(sv_usage *out, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_STARTED, err) != SV_OK)
        return err->code;
    *out = (sv_usage){.prompt_tokens = get_i32(f->payload.p), .cached_tokens = get_i32(f->payload.p + 4)};
    return SV_OK;
}

sv_rc sv_wire_get_text(sv_str *text, int32_t *n_tokens, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_TEXT, err) != SV_OK)
        return err->code;
    *text = (sv_str){f->payload.p + 4, f->payload.n - 4};
    *n_tokens = get_i32(f->payload.p);
    return SV_OK;
}

sv_rc sv_wire_get_probs(sv_str *packed, const sv_frame *f, sv_err *err)
{
    sv_token_probs p;
    if (expect(f, SV_WIRE_PROBS, err) != SV_OK)
        return err->code;
    sv_str rest = f->payload;
    while (sv_token_probs_next(&p, &rest))
        ;
    if (rest.n > 0)
        return sv_fail(err, SV_EFORMAT, "engine protocol: probabilities end %zu bytes early", rest.n);
    *packed = f->payload;
    return SV_OK;
}

sv_rc sv_wire_get_done(sv_finish *finish, sv_usage *usage, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_DONE, err) != SV_OK)
        return err->code;
    const char *p = f->payload.p;
    if (get32(p) > SV_FINISH_LENGTH)
        return sv_fail(err, SV_EFORMAT, "engine protocol: no finish is %" PRIu32, get32(p));
    *finish = (sv_finish)get32(p);
    *usage = (sv_usage){get_i32(p + 4), get_i32(p + 8), get_i32(p + 12)};
    return SV_OK;
}

sv_rc sv_wire_get_fail(sv_err *what, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_FAIL, err) != SV_OK)
        return err->code;
    int32_t rc = get_i32(f->payload.p);
    if (rc >= SV_OK || rc < SV_ECANCELED)
        return sv_fail(err, SV_EFORMAT, "engine protocol: no failure is %" PRId32, rc);
    what->code = (sv_rc)rc;
    what->api_code = get_i32(f->payload.p + 4);
    memcpy(what->msg, f->payload.p + 8, f->payload.n - 8);
    what->msg[f->payload.n - 8] = '\0';
    return SV_OK;
}

/* --- a request, read ---------------------------------------------------------------------------------------------- */

static sv_rc get_int32(const json_t *o, const char *key, int32_t min, int32_t *out, sv_err *err)
{
    int64_t v = *out;
    if (sv_json_int(o, key, min, INT32_MAX, &v, err) != SV_OK)
        return err->code;
    *out = (int32_t)v;
    return SV_OK;
}

static sv_rc get_float(const json_t *o, const char *key, double min, double max, float *out, sv_err *err)
{
    double v = 0;
    if (sv_json_num(o, key, min, max, &v, err) != SV_OK)
        return err->code;
    *out = (float)v;
    return SV_OK;
}

static sv_rc get_sampling(sv_sampling *s, const json_t *o, sv_err *err)
{
    const json_t *seed = json_object_get(o, "seed");
    if (get_float(o, "temperature", 0, 1e6, &s->temperature, err) != SV_OK || get_float(o, "top_p", 0, 1e6, &s->top_p, err) != SV_OK ||
        get_int32(o, "top_k", 0, &s->top_k, err) != SV_OK || get_float(o, "min_p", 0, 1, &s->min_p, err) != SV_OK ||
        get_float(o, "repetition_penalty", 0, 1e6, &s->repetition_penalty, err) != SV_OK ||
        get_float(o, "frequency_penalty", -1e6, 1e6, &s->frequency_penalty, err) != SV_OK ||
        get_float(o, "presence_penalty", -1e6, 1e6, &s->presence_penalty, err) != SV_OK ||
        get_float(o, "typical_p", 0, 1e6, &s->typical_p, err) != SV_OK || get_int32(o, "top_logprobs", 0, &s->top_logprobs, err) != SV_OK)
        return err->code;
    if (s->top_logprobs > SV_MAX_TOP_LOGPROBS)
        return sv_fail(err, SV_EINVAL, "'top_logprobs' is %" PRId32 ", at most %d", s->top_logprobs, SV_MAX_TOP_LOGPROBS);
    s->logprobs = json_is_true(json_object_get(o, "logprobs"));
    if (seed && !json_is_integer(seed))
        return sv_fail(err, SV_EINVAL, "'seed' is not an integer");
    s->has_seed = seed != NULL;
    s->seed = seed ? (uint64_t)json_integer_value(seed) : 0;
    return SV_OK;
}

/* One check for both ends. */
static sv_rc check_bias(int64_t token, double bias, sv_err *err)
{
    if (token < 0 || token > INT32_MAX)
        return sv_fail(err, SV_EINVAL, "'logit_bias': no token is %" PRId64, token);
    if (!(bias >= -100 && bias <= 100))
        return sv_fail(err, SV_EINVAL, "'logit_bias': %g for token %" PRId64 "; -100 to 100", bias, token);
    return SV_OK;
}

static sv_rc get_bias(sv_wire_gen *g, const json_t *list, sv_err *err)
{
    size_t i, n = json_array_size(list);
    const json_t *pair;
    if (list && (!json_is_array(list) || n > SV_MAX_LOGIT_BIAS))
        return sv_fail(err, SV_EINVAL, "'logit_bias' is not a list of at most %d pairs", SV_MAX_LOGIT_BIAS);
    if (n == 0)
        return SV_OK;
    g->bias = sv_xcalloc(n, sizeof *g->bias);
    json_array_foreach(list, i, pair) {
        const json_t *token = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
        if (!json_is_integer(token) || !json_is_number(bias))
            return sv_fail(err, SV_EINVAL, "'logit_bias': not a pair of a token and a number");
        if (check_bias(json_integer_value(token), json_number_value(bias), err) != SV_OK)
            return err->code;
        g->bias[i] = (sv_logit_bias){(int32_t)json_integer_value(token), (float)json_number_value(bias)};
    }
    g->sampling.logit_bias = g->bias;
    g->sampling.n_logit_bias = (int32_t)n;
    return SV_OK;
}

/* One check for both ends. */
static sv_rc check_stop(sv_str s, int32_t n_before, sv_err *err)
{
    if (n_before >= SV_WIRE_MAX_STOPS)
        return sv_fail(err, SV_EINVAL, "more than %d stop strings", SV_WIRE_MAX_STOPS);
    if (s.n == 0)
        return sv_fail(err, SV_EINVAL, "a stop string is empty");
    if (s.n > SV_WIRE_MAX_STOP)
        return sv_fail(err, SV_EINVAL, "a stop string has %zu bytes, at most %d", s.n, SV_WIRE_MAX_STOP);
    if (!sv_utf8_valid(s) || memchr(s.p, 0, s.n))
        return sv_fail(err, SV_EINVAL, "a stop string has a NUL or is not valid UTF-8");
    return SV_OK;
}

static sv_rc get_stops(sv_wire_gen *g, const json_t *list, sv_err *err)
{
    size_t i;
    const json_t *v;
    if (list && !json_is_array(list))
        return sv_fail(err, SV_EINVAL, "'stop' is not a list");
    json_array_foreach(list, i, v) {
        if (!json_is_string(v))
            return sv_fail(err, SV_EINVAL, "'stop': not a string");
        sv_str s = {json_string_value(v), json_string_length(v)};
        if (check_stop(s, g->n_stops, err) != SV_OK)
            return err->code;
        g->stop[g->n_stops++] = s;
    }
    return SV_OK;
}

static sv_rc get_gen(sv_wire_gen *g, sv_str prompt, sv_err *err)
{
    g->model_path = sv_json_cstr(g->json, "model");
    g->tenant = sv_json_cstr(g->json, "tenant");
    if (!g->model_path || !g->model_path[0])
        return sv_fail(err, SV_EINVAL, "'model' is missing");
    if (!g->tenant || strlen(g->tenant) >= SV_WIRE_MAX_TENANT)
        return sv_fail(err, SV_EINVAL, "'tenant' is missing or too long");
    g->messages = json_object_get(g->json, "messages");
    g->tools = json_object_get(g->json, "tools");
    g->prompt = prompt;
    if (g->messages && (!json_is_array(g->messages) || prompt.n > 0))
        return sv_fail(err, SV_EINVAL, prompt.n ? "both messages and a prompt" : "'messages' is not a list");
    if (get_int32(g->json, "max_tokens", 1, &g->max_tokens, err) != SV_OK || get_int32(g->json, "n_ctx", 0, &g->n_ctx, err) != SV_OK)
        return err->code;
    if (g->max_tokens < 1)
        return sv_fail(err, SV_EINVAL, "'max_tokens' is missing");
    if (get_sampling(&g->sampling, g->json, err) != SV_OK || get_bias(g, json_object_get(g->json, "logit_bias"), err) != SV_OK)
        return err->code;
    return get_stops(g, json_object_get(g->json, "stop"), err);
}

sv_rc sv_wire_get_gen(sv_wire_gen *out, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_GENERATE, err) != SV_OK)
        return err->code;
    uint32_t n_head = get32(f->payload.p);
    if (n_head > f->payload.n - 4)
        return sv_fail(err, SV_EFORMAT, "engine protocol: a head of %" PRIu32 " bytes in %zu", n_head, f->payload.n - 4);
    sv_str head = {f->payload.p + 4, n_head}, prompt = {head.p + n_head, f->payload.n - 4 - n_head};
    SV_AUTO(sv_wire_gen_donep) sv_wire_gen g = {0};
    if (sv_json_parse(&g.json, head, err) != SV_OK)
        return sv_fail(err, SV_EINVAL, "request head is not valid JSON");
    if (!json_is_object(g.json))
        return sv_fail(err, SV_EINVAL, "request head is not an object");
    if (get_gen(&g, prompt, err) != SV_OK)
        return err->code;
    *out = g;
    g.json = NULL;
    g.bias = NULL;
    return SV_OK;
}

void sv_wire_gen_done(sv_wire_gen *g)
{
    json_decref(g->json);
    free(g->bias);
    g->json = NULL;
    g->bias = NULL;
}

/* --- writers ------------------------------------------------------------------------------------------------------ */

static void put32(char *p, uint32_t v) { memcpy(p, &v, sizeof v); }

static void put_head(char head[SV_WIRE_HEAD], sv_wire_type type, uint32_t id, size_t n)
{
    put32(head, (uint32_t)n);
    put32(head + 4, (uint32_t)type);
    put32(head + 8, id);
}

/* A frame of two pieces, whole or not at all. */
static void add2(sv_buf *out, sv_wire_type type, uint32_t id, sv_str a, sv_str b)
{
    char *p = sv_buf_room(out, SV_WIRE_HEAD + a.n + b.n);
    if (!p)
        return;
    put_head(p, type, id, a.n + b.n);
    if (a.n)
        memcpy(p + SV_WIRE_HEAD, a.p, a.n);
    if (b.n)
        memcpy(p + SV_WIRE_HEAD + a.n, b.p, b.n);
    out->n += SV_WIRE_HEAD + a.n + b.n;
    out->p[out->n] = '\0';
}

void sv_wire_add(sv_buf *out, sv_wire_type type, uint32_t id, sv_str payload)
{
    add2(out, type, id, payload, (sv_str){0});
}

void sv_wire_add_hello(sv_buf *out, uint32_t pid)
{
    char p[12];
    put32(p, SV_WIRE_MAGIC);
    put32(p + 4, SV_WIRE_VERSION);
    put32(p + 8, pid);
    sv_wire_add(out, SV_WIRE_HELLO, 0, (sv_str){p, sizeof p});
}

void sv_wire_add_started(sv_buf *out, uint32_t id, const sv_usage *usage)
{
    char p[8];
    put32(p, (uint32_t)usage->prompt_tokens);
    put32(p + 4, (uint32_t)usage->cached_tokens);
    sv_wire_add(out, SV_WIRE_STARTED, id, (sv_str){p, sizeof p});
}

void sv_wire_add_text(sv_buf *out, uint32_t id, sv_str text, int32_t n_tokens)
{
    char p[4];
    put32(p, (uint32_t)n_tokens);
    add2(out, SV_WIRE_TEXT, id, (sv_str){p, sizeof p}, text);
}

/* An entry is u32 n_top, then the chosen one and n_top others, each i32 token, f32 logprob, u32 n_bytes, bytes. */
static void pack_prob(sv_buf *out, const sv_token_prob *p)
{
    char head[12];
    put32(head, (uint32_t)p->token);
    memcpy(head + 4, &p->logprob, sizeof p->logprob);
    put32(head + 8, (uint32_t)p->bytes.n);
    sv_buf_add(out, head, sizeof head);
    sv_buf_add(out, p->bytes.p, p->bytes.n);
}

void sv_wire_pack_probs(sv_buf *out, const sv_token_probs *p)
{
    char n_top[4];
    put32(n_top, (uint32_t)p->n_top);
    sv_buf_add(out, n_top, sizeof n_top);
    pack_prob(out, &p->chosen);
    for (int32_t i = 0; i < p->n_top; i++)
        pack_prob(out, &p->top[i]);
}

static bool unpack_prob(sv_token_prob *out, sv_str *rest)
{
    if (rest->n < 12 || get32(rest->p + 8) > rest->n - 12)
        return false;
    *out = (sv_token_prob){.token = get_i32(rest->p), .bytes = {rest->p + 12, get32(rest->p + 8)}};
    memcpy(&out->logprob, rest->p + 4, sizeof out->logprob);
    *rest = (sv_str){rest->p + 12 + out->bytes.n, rest->n - 12 - out->bytes.n};
    return true;
}

bool sv_token_probs_next(sv_token_probs *out, sv_str *packed)
{
    sv_str rest = *packed;
    if (rest.n < 4 || get32(rest.p) > SV_MAX_TOP_LOGPROBS)
        return false;
    out->n_top = get_i32(rest.p);
    rest = (sv_str){rest.p + 4, rest.n - 4};
    if (!unpack_prob(&out->chosen, &rest))
        return false;
    for (int32_t i = 0; i < out->n_top; i++)
        if (!unpack_prob(&out->top[i], &rest))
            return false;
    *packed = rest;
    return true;
}

void sv_wire_add_done(sv_buf *out, uint32_t id, sv_finish finish, const sv_usage *usage)
{
    char p[16];
    put32(p, (uint32_t)finish);
    put32(p + 4, (uint32_t)usage->prompt_tokens);
    put32(p + 8, (uint32_t)usage->completion_tokens);
    put32(p + 12, (uint32_t)usage->cached_tokens);
    sv_wire_add(out, SV_WIRE_DONE, id, (sv_str){p, sizeof p});
}

void sv_wire_add_fail(sv_buf *out, uint32_t id, const sv_err *what)
{
    char p[8];
    put32(p, (uint32_t)what->code);
    put32(p + 4, (uint32_t)what->api_code);
    add2(out, SV_WIRE_FAIL, id, (sv_str){p, sizeof p}, sv_str_of(what->msg));
}

/* --- a request, written ------------------------------------------------------------------------------------------- */

static void add_num(sv_buf *b, const char *key, double v)
{
    if (v != 0 && isfinite(v)) { /* zero is the default of all */
        sv_buf_addf(b, ",\"%s\":", key);
        sv_json_add_num(b, v);
    }
}

static void add_sampling(sv_buf *b, const sv_sampling *s)
{
    add_num(b, "temperature", (double)s->temperature);
    add_num(b, "top_p", (double)s->top_p);
    add_num(b, "top_k", s->top_k);
    add_num(b, "min_p", (double)s->min_p);
    add_num(b, "repetition_penalty", (double)s->repetition_penalty);
    add_num(b, "frequency_penalty", (double)s->frequency_penalty);
    add_num(b, "presence_penalty", (double)s->presence_penalty);
    add_num(b, "typical_p", (double)s->typical_p);
    add_num(b, "top_logprobs", s->top_logprobs);
    if (s->has_seed)
        sv_buf_addf(b, ",\"seed\":%" PRId64, (int64_t)s->seed);
    if (s->logprobs)
        sv_buf_adds(b, ",\"logprobs\":true");
}

static sv_rc add_bias(sv_buf *b, const sv_sampling *s, sv_err *err)
{
    if (s->n_logit_bias == 0)
        return SV_OK;
    if (s->n_logit_bias > SV_MAX_LOGIT_BIAS)
        return sv_fail(err, SV_EINVAL, "'logit_bias' has %" PRId32 " tokens, at most %d", s->n_logit_bias, SV_MAX_LOGIT_BIAS);
    sv_buf_adds(b, ",\"logit_bias\":[");
    for (int32_t i = 0; i < s->n_logit_bias; i++) {
        const sv_logit_bias *x = &s->logit_bias[i];
        if (check_bias(x->token, (double)x->bias, err) != SV_OK)
            return err->code;
        sv_buf_addf(b, "%s[%" PRId32 ",", i ? "," : "", x->token);
        sv_json_add_num(b, (double)x->bias);
        sv_buf_addc(b, ']');
    }
    sv_buf_addc(b, ']');
    return SV_OK;
}

static sv_rc add_stops(sv_buf *b, const char *const *stop, sv_err *err)
{
    sv_buf_adds(b, ",\"stop\":[");
    for (int32_t i = 0; stop[i]; i++) {
        sv_str s = sv_str_of(stop[i]);
        if (check_stop(s, i, err) != SV_OK)
            return err->code;
        if (i)
            sv_buf_addc(b, ',');
        sv_json_add_str(b, s);
    }
    sv_buf_addc(b, ']');
    return SV_OK;
}

static sv_rc add_head(sv_buf *b, const sv_gen_opts *o, sv_err *err)
{
    sv_buf_adds(b, "{\"model\":");
    sv_json_add_str(b, sv_str_of(o->model_path));
    sv_buf_adds(b, ",\"tenant\":");
    sv_json_add_str(b, sv_str_of(o->tenant ? o->tenant : ""));
    sv_buf_addf(b, ",\"max_tokens\":%" PRId32, o->max_tokens);
    add_num(b, "n_ctx", o->n_ctx);
    add_sampling(b, &o->sampling);
    if (add_bias(b, &o->sampling, err) != SV_OK || (o->stop && add_stops(b, o->stop, err) != SV_OK))
        return err->code;
    if (o->messages) {
        sv_buf_adds(b, ",\"messages\":");
        sv_json_add_value(b, o->messages);
    }
    if (o->tools) {
        sv_buf_adds(b, ",\"tools\":");
        sv_json_add_value(b, o->tools);
    }
    sv_buf_addc(b, '}');
    return SV_OK;
}

sv_rc sv_wire_add_gen(sv_buf *out, uint32_t id, const sv_gen_opts *opts, sv_err *err)
{
    if (!opts->model_path || !opts->model_path[0] || opts->max_tokens < 1)
        return sv_fail(err, SV_EINVAL, "a generation needs a model and max_tokens");
    if (opts->messages ? opts->prompt.n > 0 : opts->prompt.p == NULL)
        return sv_fail(err, SV_EINVAL, "a generation needs exactly one of messages and prompt");
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, SV_WIRE_MAX);
    sv_buf_add(&body, "\0\0\0\0", 4);
    if (add_head(&body, opts, err) != SV_OK)
        return err->code;
    size_t n_head = body.n - 4;
    if (!opts->messages)
        sv_buf_add(&body, opts->prompt.p, opts->prompt.n);
    if (body.failed)
        return sv_fail(err, SV_ELIMIT, "the request is over %d MiB", SV_WIRE_MAX >> 20);
    put32(body.p, (uint32_t)n_head);
    sv_wire_add(out, SV_WIRE_GENERATE, id, sv_buf_str(&body));
    if (out->failed)
        return sv_fail(err, SV_ELIMIT, "too many bytes wait for the engine");
    return SV_OK;
}

/* --- encoders ----------------------------------------------------------------------------------------------------- */

static sv_rc check_texts(const json_t *texts, sv_err *err)
{
    size_t i, n = json_array_size(texts);
    const json_t *t;
    if (n < 1 || n > SV_ENCODE_MAX_TEXTS)
        return sv_fail(err, SV_EINVAL, "%zu texts; 1 to %d", n, SV_ENCODE_MAX_TEXTS);
    json_array_foreach(texts, i, t) {
        bool pair = json_array_size(t) == 2 && json_is_string(json_array_get(t, 0)) && json_is_string(json_array_get(t, 1));
        if (!json_is_string(t) && !pair)
            return sv_fail(err, SV_EINVAL, "text %zu is neither a string nor a pair of strings", i);
    }
    return SV_OK;
}

sv_rc sv_wire_get_encode(sv_wire_encode *out, const sv_frame *f, sv_err *err)
{
    sv_wire_encode e = {0};
    int64_t want = 0, max_tokens = 0;
    if (expect(f, SV_WIRE_ENCODE, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&e.json, f->payload, err) != SV_OK)
        return sv_fail(err, SV_EINVAL, "request is not valid JSON");
    e.model_path = sv_json_cstr(e.json, "model");
    e.tenant = sv_json_cstr(e.json, "tenant");
    e.texts = json_object_get(e.json, "texts");
    if (!e.model_path || !e.model_path[0] || !e.tenant || strlen(e.tenant) >= SV_WIRE_MAX_TENANT)
        (void)sv_fail(err, SV_EINVAL, "'model' or 'tenant' is missing or too long");
    else if (check_texts(e.texts, err) == SV_OK && sv_json_int(e.json, "want", 0, SV_ENCODE_LOGITS, &want, err) == SV_OK &&
             sv_json_int(e.json, "max_tokens", 0, INT32_MAX, &max_tokens, err) == SV_OK && sv_json_bool(e.json, "cut", &e.cut, err) == SV_OK) {
        e.want = (sv_encode_want)want;
        e.max_tokens = (int32_t)max_tokens;
        *out = e;
        return SV_OK;
    }
    sv_wire_encode_done(&e);
    return err->code;
}

void sv_wire_encode_done(sv_wire_encode *e)
{
    json_decref(e->json);
    e->json = NULL;
}

sv_rc sv_wire_get_vectors(sv_vectors *out, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_VECTORS, err) != SV_OK)
        return err->code;
    const char *p = f->payload.p;
    sv_vectors v = {.n = get_i32(p), .dim = get_i32(p + 4), .n_tokens = get_i32(p + 8), .v = p + 12};
    size_t room = f->payload.n - 12;
    if (v.n < 1 || v.dim < 1 || v.n > SV_ENCODE_MAX_TEXTS || (size_t)v.dim > room || (size_t)v.n * (size_t)v.dim * sizeof(float) > room)
        return sv_fail(err, SV_EFORMAT, "engine protocol: %d vectors of %d in %zu bytes", v.n, v.dim, room);
    size_t n_bytes = (size_t)v.n * (size_t)v.dim * sizeof(float);
    v.labels = (sv_str){p + 12 + n_bytes, room - n_bytes};
    *out = v;
    return SV_OK;
}

sv_rc sv_wire_add_encode(sv_buf *out, uint32_t id, const sv_encode_opts *o, sv_err *err)
{
    if (!o->model_path || !o->model_path[0])
        return sv_fail(err, SV_EINVAL, "a request needs a model");
    if (check_texts(o->texts, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, SV_WIRE_MAX);
    sv_buf_adds(&b, "{\"model\":");
    sv_json_add_str(&b, sv_str_of(o->model_path));
    sv_buf_adds(&b, ",\"tenant\":");
    sv_json_add_str(&b, sv_str_of(o->tenant ? o->tenant : ""));
    sv_buf_addf(&b, ",\"want\":%d,\"max_tokens\":%" PRId32 ",\"cut\":%s,\"texts\":", (int)o->want, o->max_tokens, o->cut ? "true" : "false");
    sv_json_add_value(&b, o->texts);
    sv_buf_addc(&b, '}');
    if (b.failed)
        return sv_fail(err, SV_ELIMIT, "the request is over %d MiB", SV_WIRE_MAX >> 20);
    sv_wire_add(out, SV_WIRE_ENCODE, id, sv_buf_str(&b));
    return out->failed ? sv_fail(err, SV_ELIMIT, "too many bytes wait for the engine") : SV_OK;
}

void sv_wire_add_vectors(sv_buf *out, uint32_t id, const sv_vectors *v)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, SV_WIRE_MAX);
    char head[12];
    put32(head, (uint32_t)v->n);
    put32(head + 4, (uint32_t)v->dim);
    put32(head + 8, (uint32_t)v->n_tokens);
    sv_buf_add(&b, head, sizeof head);
    sv_buf_add(&b, v->v, (size_t)v->n * (size_t)v->dim * sizeof(float));
    sv_buf_add(&b, v->labels.p, v->labels.n);
    if (b.failed) {
        sv_err err = {0};
        (void)sv_fail(&err, SV_ELIMIT, "the answer is over %d MiB", SV_WIRE_MAX >> 20);
        sv_wire_add_fail(out, id, &err);
    } else {
        sv_wire_add(out, SV_WIRE_VECTORS, id, sv_buf_str(&b));
    }
}

/* --- media -------------------------------------------------------------------------------------------------------- */

sv_rc sv_wire_get_media(sv_wire_media *out, const sv_frame *f, sv_err *err)
{
    sv_wire_media m = {0};
    if (expect(f, SV_WIRE_MEDIA, err) != SV_OK)
        return err->code;
    size_t n_head = get32(f->payload.p), room = f->payload.n - 4;
    if (n_head > room)
        return sv_fail(err, SV_EFORMAT, "engine protocol: a head of %zu bytes in %zu", n_head, room);
    if (sv_json_parse(&m.json, (sv_str){f->payload.p + 4, n_head}, err) != SV_OK)
        return sv_fail(err, SV_EINVAL, "request is not valid JSON");
    m.model_path = sv_json_cstr(m.json, "model");
    m.tenant = sv_json_cstr(m.json, "tenant");
    m.options = json_object_get(m.json, "options");
    m.bytes = (sv_str){f->payload.p + 4 + n_head, room - n_head};
    if (m.model_path && m.model_path[0] && m.tenant && strlen(m.tenant) < SV_WIRE_MAX_TENANT && json_is_object(m.options)) {
        *out = m;
        return SV_OK;
    }
    sv_wire_media_done(&m);
    return sv_fail(err, SV_EINVAL, "'model', 'tenant' or 'options' is missing or too long");
}

void sv_wire_media_done(sv_wire_media *m)
{
    json_decref(m->json);
    m->json = NULL;
}

sv_rc sv_wire_get_result(sv_str *json, sv_usage *usage, const sv_frame *f, sv_err *err)
{
    if (expect(f, SV_WIRE_RESULT, err) != SV_OK)
        return err->code;
    *usage = (sv_usage){.prompt_tokens = get_i32(f->payload.p), .completion_tokens = get_i32(f->payload.p + 4)};
    *json = (sv_str){f->payload.p + 8, f->payload.n - 8};
    return SV_OK;
}

sv_rc sv_wire_add_media(sv_buf *out, uint32_t id, const sv_media_opts *o, sv_err *err)
{
    if (!o->model_path || !o->model_path[0] || !json_is_object(o->options))
        return sv_fail(err, SV_EINVAL, "a request needs a model and options");
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, SV_WIRE_MAX);
    sv_buf_add(&b, "\0\0\0\0", 4);
    sv_buf_adds(&b, "{\"model\":");
    sv_json_add_str(&b, sv_str_of(o->model_path));
    sv_buf_adds(&b, ",\"tenant\":");
    sv_json_add_str(&b, sv_str_of(o->tenant ? o->tenant : ""));
    sv_buf_adds(&b, ",\"options\":");
    sv_json_add_value(&b, o->options);
    sv_buf_addc(&b, '}');
    size_t n_head = b.n - 4;
    sv_buf_add(&b, o->bytes.p, o->bytes.n);
    if (b.failed)
        return sv_fail(err, SV_ELIMIT, "the request is over %d MiB", SV_WIRE_MAX >> 20);
    put32(b.p, (uint32_t)n_head);
    sv_wire_add(out, SV_WIRE_MEDIA, id, sv_buf_str(&b));
    return out->failed ? sv_fail(err, SV_ELIMIT, "too many bytes wait for the engine") : SV_OK;
}

void sv_wire_add_result(sv_buf *out, uint32_t id, sv_str json, const sv_usage *usage)
{
    if (json.n > SV_WIRE_MAX - 8) {
        sv_err err = {0};
        (void)sv_fail(&err, SV_ELIMIT, "the answer is over %d MiB", SV_WIRE_MAX >> 20);
        sv_wire_add_fail(out, id, &err);
        return;
    }
    char head[8];
    put32(head, (uint32_t)usage->prompt_tokens);
    put32(head + 4, (uint32_t)usage->completion_tokens);
    add2(out, SV_WIRE_RESULT, id, (sv_str){head, sizeof head}, json);
}
