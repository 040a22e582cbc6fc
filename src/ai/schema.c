/* schema.c - field checks of text generation
 *
 * No general JSON Schema validator: there are about thirty fields, each with a type and a range, and a straight line of checks gives
 * messages that a person can act on. The words are those that clients of the hosted service know from its own validator
 * ("required properties at '/' are 'prompt'", "Type mismatch of '/max_tokens', 'string' not in 'integer'"), then field and limit.
 *
 * null counts as absent, for every optional field: SDKs send it for options that the user did not set.
 * Integers may be written 5.0, as JSON Schema has it. Text is counted in code points.
 *
 * Content parts become one string, text parts joined by a line break: chat templates of text models want strings. A part that is no
 * text is refused, since a model that silently does not see a picture gives a wrong answer. */
#include "ai/schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "base/mem.h"

/* ---- refusals ---- */

static const char *type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "object";
    case JSON_ARRAY: return "array";
    case JSON_STRING: return "string";
    case JSON_INTEGER:
    case JSON_REAL: return "number";
    case JSON_TRUE:
    case JSON_FALSE: return "boolean";
    default: return "null";
    }
}

typedef struct check { sv_tg_input *in; const json_t *obj; sv_err *err; } check; /* one pass over one body */

static void blame(check *c, const char *field)
{
    snprintf(c->in->bad, sizeof c->in->bad, "%.63s", field);
}

static sv_rc mismatch(check *c, const char *field, const json_t *v, const char *want)
{
    blame(c, field);
    return sv_fail_api(c->err, SV_EINVAL, 5006, "Type mismatch of '/%s', '%s' not in '%s'", field, type_of(v), want);
}

static sv_rc refuse(check *c, const char *field, const char *fmt, ...) SV_PRINTF(3, 4);
static sv_rc refuse(check *c, const char *field, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    blame(c, field);
    return sv_fail_api(c->err, SV_EINVAL, 5006, "'/%s' %s", field, text);
}

/* ---- fields; absent and null keep *out ---- */

static const json_t *field_of(const check *c, const char *key)
{
    const json_t *v = json_object_get(c->obj, key);
    return v && !json_is_null(v) ? v : NULL;
}

static sv_rc number(check *c, const char *key, double min, double max, double *out)
{
    const json_t *v = field_of(c, key);
    if (!v)
        return SV_OK;
    if (!json_is_number(v))
        return mismatch(c, key, v, "number");
    double d = json_number_value(v);
    if (d < min)
        return refuse(c, key, "must be >= %g, got %g", min, d);
    if (d > max)
        return refuse(c, key, "must be <= %g, got %g", max, d);
    *out = d;
    return SV_OK;
}

static sv_rc integer(check *c, const char *key, int64_t min, int64_t max, int64_t *out, bool *given)
{
    const json_t *v = field_of(c, key);
    if (!v)
        return SV_OK;
    if (!json_is_number(v))
        return mismatch(c, key, v, "integer");
    double d = json_number_value(v);
    if (d != floor(d))
        return refuse(c, key, "must be an integer, got %g", d);
    if (d < (double)min)
        return refuse(c, key, "must be >= %lld, got %.0f", (long long)min, d);
    if (d > (double)max)
        return refuse(c, key, "must be <= %lld, got %.0f", (long long)max, d);
    *out = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)d;
    if (given)
        *given = true;
    return SV_OK;
}

static sv_rc boolean(check *c, const char *key, bool *out)
{
    const json_t *v = field_of(c, key);
    if (!v)
        return SV_OK;
    if (!json_is_boolean(v))
        return mismatch(c, key, v, "boolean");
    *out = json_is_true(v);
    return SV_OK;
}

/* What is part of the schema and cannot be done here. Empty lists and objects ask for nothing. */
static sv_rc none_of(check *c, const char *const *keys, const char *why)
{
    for (; *keys; keys++) {
        const json_t *v = field_of(c, *keys);
        bool empty = !v || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) || (json_is_object(v) && json_object_size(v) == 0);
        if (!empty)
            return refuse(c, *keys, "%s", why);
    }
    return SV_OK;
}

static sv_rc text_length(check *c, const char *field, const json_t *v)
{
    size_t n = sv_utf8_len((sv_str){json_string_value(v), json_string_length(v)});
    int64_t max = sv_limit_value(SV_LIMIT_AI_PROMPT_CHARS);
    if ((int64_t)n > max)
        return refuse(c, field, "must have at most %lld characters, got %zu", (long long)max, n);
    return SV_OK;
}

/* ---- messages ---- */

static const char *const classic_roles[] = {"system", "user", "assistant", "tool", NULL};
static const char *const chat_roles[] = {"system", "developer", "user", "assistant", "tool", "function", NULL};

static sv_rc role_of(check *c, const char *at, const json_t *m, const char *const *roles, const char **out)
{
    char field[64];
    const json_t *role = json_object_get(m, "role");
    if (!role)
        return blame(c, at), sv_fail_api(c->err, SV_EINVAL, 5006, "required properties at '/%s' are 'role'", at);
    snprintf(field, sizeof field, "%s/role", at);
    if (!json_is_string(role))
        return mismatch(c, field, role, "string");
    for (; *roles; roles++)
        if (strcmp(json_string_value(role), *roles) == 0) {
            *out = strcmp(*roles, "developer") == 0 ? "system" : *roles; /* what templates know */
            return SV_OK;
        }
    return refuse(c, field, "must be one of system, user, assistant, tool; got '%.32s'", json_string_value(role));
}

static sv_rc join_parts(check *c, const char *at, const json_t *parts, json_t **out)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, (size_t)sv_limit_value(SV_LIMIT_AI_BODY_BYTES));
    size_t i;
    json_t *part;
    json_array_foreach (parts, i, part) {
        char field[96];
        snprintf(field, sizeof field, "%.60s/%zu", at, i);
        const char *type = sv_json_cstr(part, "type");
        const json_t *t = json_object_get(part, "text");
        if (!json_is_object(part))
            return mismatch(c, field, part, "object");
        if (!type || strcmp(type, "text") != 0)
            return refuse(c, field, "is a part of type '%.32s': this model reads text only", type ? type : "");
        if (!json_is_string(t))
            return refuse(c, field, "needs 'text', a string");
        if (i > 0)
            sv_buf_addc(&text, '\n');
        sv_buf_add(&text, json_string_value(t), json_string_length(t));
    }
    *out = json_stringn(sv_buf_cstr(&text), text.n);
    return *out ? SV_OK : sv_fail(c->err, SV_ENOMEM, "no memory for a message");
}

/* *out: a new reference to a string. */
static sv_rc content_of(check *c, const char *at, const json_t *m, const char *role, json_t **out)
{
    char field[64];
    json_t *content = json_object_get(m, "content");
    /* An assistant turn that only called tools, or was refused, has none. */
    if ((!content || json_is_null(content)) && strcmp(role, "assistant") == 0) {
        *out = json_string("");
        return SV_OK;
    }
    if (!content)
        return blame(c, at), sv_fail_api(c->err, SV_EINVAL, 5006, "required properties at '/%s' are 'content'", at);
    snprintf(field, sizeof field, "%s/content", at);
    if (json_is_array(content)) {
        if (join_parts(c, field, content, out) != SV_OK)
            return c->err->code;
    } else if (json_is_string(content)) {
        *out = json_incref(content);
    } else {
        return mismatch(c, field, content, "string, array");
    }
    if (text_length(c, field, *out) == SV_OK)
        return SV_OK;
    json_decref(*out);
    *out = NULL;
    return c->err->code;
}

static sv_rc messages(check *c, const char *const *roles)
{
    const json_t *list = json_object_get(c->obj, "messages");
    if (!json_is_array(list))
        return mismatch(c, "messages", list, "array");
    int64_t max = sv_limit_value(SV_LIMIT_AI_MESSAGES);
    if (json_array_size(list) == 0)
        return refuse(c, "messages", "must have at least 1 item, got 0");
    if ((int64_t)json_array_size(list) > max)
        return refuse(c, "messages", "must have at most %lld items, got %zu", (long long)max, json_array_size(list));
    SV_AUTO(sv_json_decrefp) json_t *out = json_array();
    size_t i;
    json_t *m;
    json_array_foreach (list, i, m) {
        char at[32];
        const char *role = NULL;
        json_t *content = NULL;
        snprintf(at, sizeof at, "messages/%zu", i);
        if (!json_is_object(m))
            return mismatch(c, at, m, "object");
        if (role_of(c, at, m, roles, &role) != SV_OK || content_of(c, at, m, role, &content) != SV_OK)
            return c->err->code;
        json_t *clean = json_pack("{s:s, s:o}", "role", role, "content", content);
        if (clean && json_is_string(json_object_get(m, "name")))
            json_object_set(clean, "name", json_object_get(m, "name"));
        json_array_append_new(out, clean);
    }
    c->in->messages = json_incref(out);
    return SV_OK;
}

/* ---- what the families share ---- */

typedef struct ranges { double temperature, top_p, penalty_min, default_temperature; int64_t top_k, seed_min, seed_max; } ranges;

static sv_rc sampling(check *c, const ranges *r)
{
    double temperature = r->default_temperature, top_p = 1, repetition = 0, frequency = 0, presence = 0;
    int64_t top_k = 0, seed = 0;
    sv_sampling *s = &c->in->sampling;
    if (number(c, "temperature", 0, r->temperature, &temperature) != SV_OK || number(c, "top_p", 0, r->top_p, &top_p) != SV_OK ||
        integer(c, "top_k", 1, r->top_k, &top_k, NULL) != SV_OK || integer(c, "seed", r->seed_min, r->seed_max, &seed, &s->has_seed) != SV_OK ||
        number(c, "repetition_penalty", 0, 2, &repetition) != SV_OK ||
        number(c, "frequency_penalty", r->penalty_min, 2, &frequency) != SV_OK ||
        number(c, "presence_penalty", r->penalty_min, 2, &presence) != SV_OK)
        return c->err->code;
    s->temperature = (float)temperature;
    s->top_p = top_p > 0 ? (float)top_p : 1e-6f; /* the engine's 0 is "off"; a nucleus of nothing is the best token */
    s->top_k = (int32_t)top_k;
    s->seed = (uint64_t)seed;
    s->repetition_penalty = (float)repetition;
    s->frequency_penalty = (float)frequency;
    s->presence_penalty = (float)presence;
    return SV_OK;
}

static sv_rc max_tokens(check *c, const char *key)
{
    int64_t n = c->in->max_tokens;
    if (integer(c, key, 1, sv_limit_value(SV_LIMIT_AI_MAX_TOKENS), &n, &c->in->capped) != SV_OK)
        return c->err->code;
    c->in->max_tokens = (int32_t)n;
    return SV_OK;
}

static sv_rc add_stop(check *c, const char *field, const json_t *v, size_t i)
{
    if (!json_is_string(v))
        return mismatch(c, field, v, "string");
    size_t n = json_string_length(v);
    int64_t max = sv_limit_value(SV_LIMIT_AI_STOP_BYTES);
    if (n == 0 || (int64_t)n > max)
        return refuse(c, field, "must have 1 to %lld bytes, got %zu", (long long)max, n);
    if (strlen(json_string_value(v)) != n)
        return refuse(c, field, "must not hold NUL");
    c->in->stop[i] = json_string_value(v);
    return SV_OK;
}

static sv_rc stops(check *c)
{
    const json_t *v = field_of(c, "stop");
    if (!v)
        return SV_OK;
    if (!json_is_array(v))
        return add_stop(c, "stop", v, 0);
    int64_t max = sv_limit_value(SV_LIMIT_AI_STOPS);
    max = max > SV_TG_MAX_STOPS ? SV_TG_MAX_STOPS : max;
    if ((int64_t)json_array_size(v) > max)
        return refuse(c, "stop", "must have at most %lld items, got %zu", (long long)max, json_array_size(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        char field[32];
        snprintf(field, sizeof field, "stop/%zu", i);
        if (add_stop(c, field, json_array_get(v, i), i) != SV_OK)
            return c->err->code;
    }
    return SV_OK;
}

static sv_rc response_format(check *c)
{
    const json_t *v = field_of(c, "response_format");
    if (!v)
        return SV_OK;
    if (!json_is_object(v))
        return mismatch(c, "response_format", v, "object");
    const char *type = sv_json_cstr(v, "type");
    if (type && strcmp(type, "text") == 0)
        return SV_OK;
    if (type && (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0))
        return refuse(c, "response_format/type", "'%s' is not supported: this release has no JSON mode", type);
    return refuse(c, "response_format/type", "must be one of text, json_object, json_schema");
}

static sv_rc options(check *c)
{
    const json_t *v = field_of(c, "options");
    if (v && !json_is_object(v))
        return mismatch(c, "options", v, "object");
    const json_t *busy = json_object_get(v, "rejectIfBusy");
    if (busy && !json_is_boolean(busy))
        return mismatch(c, "options/rejectIfBusy", busy, "boolean");
    return SV_OK; /* all live requests share every step here: there is capacity, or 3040 at once */
}

static const char *const no_tools[] = {"tools", "functions", NULL};
static const char tools_why[] = "is not supported: this release does not call tools";

/* ---- the families ---- */

static sv_rc classic_prompt(check *c)
{
    const json_t *prompt = field_of(c, "prompt"), *list = field_of(c, "messages");
    bool raw = false;
    if (boolean(c, "raw", &raw) != SV_OK)
        return c->err->code;
    if (!prompt && !list)
        return blame(c, "prompt"), sv_fail_api(c->err, SV_EINVAL, 5006, "required properties at '/' are 'prompt' or 'messages'");
    if (prompt && list)
        return blame(c, "prompt"), sv_fail_api(c->err, SV_EINVAL, 5006, "oneOf at '/' not met, 2 matches: 'prompt' and 'messages' exclude each other");
    if (list)
        return raw ? refuse(c, "raw", "needs 'prompt': messages go through the model's template") : messages(c, classic_roles);
    if (!json_is_string(prompt))
        return mismatch(c, "prompt", prompt, "string");
    if (json_string_length(prompt) == 0)
        return refuse(c, "prompt", "must have at least 1 character, got 0");
    if (text_length(c, "prompt", prompt) != SV_OK)
        return c->err->code;
    if (raw)
        c->in->prompt = (sv_str){json_string_value(prompt), json_string_length(prompt)};
    else
        c->in->messages = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
    return SV_OK;
}

static sv_rc check_classic(check *c, double temperature)
{
    static const char *const batch[] = {"requests", "request_id", "queueRequest", NULL};
    static const char *const pictures[] = {"image", NULL};
    static const char *const guided[] = {"guided_json", NULL};
    const ranges r = {5, 2, -2, temperature, 50, 1, 9999999999};
    if (none_of(c, batch, "is not supported: this release has no asynchronous batches") != SV_OK || classic_prompt(c) != SV_OK ||
        boolean(c, "stream", &c->in->stream) != SV_OK || max_tokens(c, "max_tokens") != SV_OK || sampling(c, &r) != SV_OK ||
        response_format(c) != SV_OK || none_of(c, guided, "is not supported: this release has no JSON mode") != SV_OK ||
        none_of(c, no_tools, tools_why) != SV_OK || none_of(c, pictures, "is not supported: this model reads text only") != SV_OK ||
        options(c) != SV_OK)
        return c->err->code;
    const json_t *lora = field_of(c, "lora");
    if (lora && !json_is_string(lora))
        return mismatch(c, "lora", lora, "string");
    if (lora && json_string_length(lora) > 0)
        return blame(c, "lora"), sv_fail_api(c->err, SV_EINVAL, 5005, "'/lora': this model does not support LoRA adapters");
    return SV_OK;
}

/* {"token id": bias}. Whether there is such a token only the model knows. */
static sv_rc logit_bias(check *c)
{
    const json_t *map = field_of(c, "logit_bias"), *v;
    const char *key;
    int32_t n = 0;
    if (!map)
        return SV_OK;
    if (!json_is_object(map))
        return mismatch(c, "logit_bias", map, "object");
    if (json_object_size(map) > SV_MAX_LOGIT_BIAS)
        return refuse(c, "logit_bias", "must have at most %d members, got %zu", SV_MAX_LOGIT_BIAS, json_object_size(map));
    c->in->bias = json_object_size(map) > 0 ? sv_xcalloc(json_object_size(map), sizeof *c->in->bias) : NULL;
    json_object_foreach ((json_t *)(uintptr_t)map, key, v) {
        char field[64];
        size_t n_digits = strspn(key, "0123456789");
        snprintf(field, sizeof field, "logit_bias/%.40s", key);
        if (n_digits == 0 || n_digits > 9 || key[n_digits])
            return refuse(c, "logit_bias", "has the member '%.40s': must be a token id, a number", key);
        if (!json_is_number(v))
            return mismatch(c, field, v, "number");
        double d = json_number_value(v);
        if (!(d >= -100 && d <= 100))
            return refuse(c, field, "must be >= -100 and <= 100, got %g", d);
        c->in->bias[n++] = (sv_logit_bias){atoi(key), (float)d};
    }
    c->in->sampling.logit_bias = c->in->bias;
    c->in->sampling.n_logit_bias = n;
    return SV_OK;
}

/* Beyond OpenAI's own, by the names that other servers of its API have. */
static sv_rc more_filters(check *c)
{
    double min_p = 0, typical_p = 0;
    if (number(c, "min_p", 0, 1, &min_p) != SV_OK || number(c, "typical_p", 0, 1, &typical_p) != SV_OK)
        return c->err->code;
    c->in->sampling.min_p = (float)min_p;
    c->in->sampling.typical_p = (float)typical_p;
    return SV_OK;
}

/* What both OpenAI families have. */
static sv_rc openai_common(check *c, double temperature, double top_p)
{
    static const char *const single[] = {"n", "best_of", NULL};
    const ranges r = {2, top_p, -2, temperature, 1000000, -(INT64_C(1) << 62), INT64_C(1) << 62};
    const json_t *opts = field_of(c, "stream_options");
    for (const char *const *key = single; *key; key++) {
        int64_t n = 1;
        if (integer(c, *key, 1, 128, &n, NULL) != SV_OK)
            return c->err->code;
        if (n != 1)
            return refuse(c, *key, "must be 1: this release gives one answer a request, got %lld", (long long)n);
    }
    if (boolean(c, "stream", &c->in->stream) != SV_OK || sampling(c, &r) != SV_OK || stops(c) != SV_OK ||
        logit_bias(c) != SV_OK || more_filters(c) != SV_OK || options(c) != SV_OK)
        return c->err->code;
    if (opts && !json_is_object(opts))
        return mismatch(c, "stream_options", opts, "object");
    const json_t *usage = json_object_get(opts, "include_usage");
    if (usage && !json_is_null(usage) && !json_is_boolean(usage))
        return mismatch(c, "stream_options/include_usage", usage, "boolean");
    c->in->usage_event = json_is_true(usage);
    return SV_OK;
}

static sv_rc check_chat(check *c, double temperature)
{
    static const char *const none[] = {"audio", "web_search_options", NULL};
    int64_t top_logprobs = 0;
    sv_sampling *s = &c->in->sampling;
    if (!field_of(c, "messages"))
        return blame(c, "messages"), sv_fail_api(c->err, SV_EINVAL, 5006, "required properties at '/' are 'messages'");
    const json_t *modes = field_of(c, "modalities");
    size_t i;
    json_t *mode;
    json_array_foreach (modes, i, mode)
        if (!json_is_string(mode) || strcmp(json_string_value(mode), "text") != 0)
            return refuse(c, "modalities", "must be ['text']: this model writes text only");
    if (openai_common(c, temperature, 1) != SV_OK || max_tokens(c, "max_tokens") != SV_OK || max_tokens(c, "max_completion_tokens") != SV_OK ||
        response_format(c) != SV_OK || none_of(c, no_tools, tools_why) != SV_OK ||
        none_of(c, none, "is not supported in this release") != SV_OK || boolean(c, "logprobs", &s->logprobs) != SV_OK ||
        integer(c, "top_logprobs", 0, SV_MAX_TOP_LOGPROBS, &top_logprobs, NULL) != SV_OK)
        return c->err->code;
    if (top_logprobs > 0 && !s->logprobs)
        return refuse(c, "top_logprobs", "needs 'logprobs': true");
    s->top_logprobs = (int32_t)top_logprobs;
    return messages(c, chat_roles);
}

static sv_rc completion_prompt(check *c)
{
    const json_t *prompt = field_of(c, "prompt");
    if (!prompt)
        return blame(c, "prompt"), sv_fail_api(c->err, SV_EINVAL, 5006, "required properties at '/' are 'prompt'");
    if (json_is_array(prompt)) {
        if (json_array_size(prompt) != 1 || !json_is_string(json_array_get(prompt, 0)))
            return refuse(c, "prompt", "must be one string: this release takes neither several prompts nor token ids");
        prompt = json_array_get(prompt, 0);
    }
    if (!json_is_string(prompt))
        return mismatch(c, "prompt", prompt, "string");
    if (json_string_length(prompt) == 0)
        return refuse(c, "prompt", "must have at least 1 character, got 0");
    c->in->prompt = (sv_str){json_string_value(prompt), json_string_length(prompt)};
    return text_length(c, "prompt", prompt);
}

static sv_rc check_completion(check *c, double temperature)
{
    static const char *const none[] = {"echo", "suffix", NULL};
    const json_t *logprobs = field_of(c, "logprobs");
    const json_t *suffix = field_of(c, "suffix");
    if (completion_prompt(c) != SV_OK || openai_common(c, temperature, 1) != SV_OK || max_tokens(c, "max_tokens") != SV_OK)
        return c->err->code;
    int64_t top_logprobs = 0; /* 0 asks for the log probability of the chosen token */
    if (logprobs && !json_is_false(logprobs) && integer(c, "logprobs", 0, 5, &top_logprobs, &c->in->sampling.logprobs) != SV_OK)
        return c->err->code;
    c->in->sampling.top_logprobs = (int32_t)top_logprobs;
    if (suffix && json_is_string(suffix) && json_string_length(suffix) == 0)
        return SV_OK;
    return none_of(c, none, "is not supported in this release");
}

/* ---- entry ---- */

void sv_tg_input_done(sv_tg_input *in)
{
    json_decref(in->messages);
    json_decref(in->root);
    free(in->bias);
    *in = (sv_tg_input){0};
}

static sv_rc run_check(sv_tg_input *out, json_t *body, double temperature, sv_rc (*family)(check *, double), sv_err *err)
{
    sv_tg_input in = {.root = json_incref(body), .max_tokens = (int32_t)sv_limit_value(SV_LIMIT_AI_DEFAULT_TOKENS)};
    check c = {&in, body, err};
    out->bad[0] = 0;
    sv_rc rc = json_is_object(body) ? family(&c, temperature)
                                    : sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/', '%s' not in 'object'", type_of(body));
    if (rc == SV_OK) {
        *out = in;
        return SV_OK;
    }
    snprintf(out->bad, sizeof out->bad, "%.63s", in.bad);
    sv_tg_input_done(&in);
    return rc;
}

sv_rc sv_schema_classic(sv_tg_input *out, json_t *body, double temperature, sv_err *err)
{
    return run_check(out, body, temperature, check_classic, err);
}

sv_rc sv_schema_chat(sv_tg_input *out, json_t *body, double temperature, sv_err *err)
{
    return run_check(out, body, temperature, check_chat, err);
}

sv_rc sv_schema_completion(sv_tg_input *out, json_t *body, double temperature, sv_err *err)
{
    return run_check(out, body, temperature, check_completion, err);
}

/* ---- models/schema ---- */

static json_t *number_of(const char *type, double min, double max)
{
    bool whole = strcmp(type, "integer") == 0;
    json_t *v = json_pack("{s:s}", "type", type);
    json_object_set_new(v, "minimum", whole ? json_integer((json_int_t)min) : json_real(min));
    json_object_set_new(v, "maximum", whole ? json_integer((json_int_t)max) : json_real(max));
    return v;
}

static json_t *common_properties(bool chat)
{
    json_t *p = json_object();
    json_object_set_new(p, "stream", json_pack("{s:s, s:b}", "type", "boolean", "default", 0));
    json_object_set_new(p, "max_tokens", number_of("integer", 1, (double)sv_limit_value(SV_LIMIT_AI_MAX_TOKENS)));
    json_object_set_new(json_object_get(p, "max_tokens"), "default", json_integer(sv_limit_value(SV_LIMIT_AI_DEFAULT_TOKENS)));
    json_object_set_new(p, "temperature", number_of("number", 0, chat ? 2 : 5));
    json_object_set_new(p, "top_p", number_of("number", 0, chat ? 1 : 2));
    json_object_set_new(p, "top_k", number_of("integer", 1, chat ? 1000000 : 50));
    json_object_set_new(p, "seed", chat ? json_pack("{s:s}", "type", "integer") : number_of("integer", 1, 9999999999));
    json_object_set_new(p, "repetition_penalty", number_of("number", 0, 2));
    json_object_set_new(p, "frequency_penalty", number_of("number", -2, 2));
    json_object_set_new(p, "presence_penalty", number_of("number", -2, 2));
    return p;
}

static json_t *with(json_t *properties, const char *name, json_t *schema)
{
    json_object_set_new(properties, name, schema);
    return properties;
}

static json_t *messages_schema(void)
{
    return json_pack("{s:s, s:i, s:i, s:{s:s, s:{s:{s:s}, s:{s:[s,s], s:i}}, s:[s,s]}}", "type", "array", "minItems", 1, "maxItems",
                     (int)sv_limit_value(SV_LIMIT_AI_MESSAGES), "items", "type", "object", "properties", "role", "type", "string", "content", "type", "string",
                     "array", "maxLength", (int)sv_limit_value(SV_LIMIT_AI_PROMPT_CHARS), "required", "role", "content");
}

static json_t *branch(const char *title, json_t *properties, const char *required)
{
    return json_pack("{s:s, s:s, s:o, s:[s]}", "title", title, "type", "object", "properties", properties, "required", required);
}

static const char usage_schema[] = "{\"type\":\"object\",\"properties\":{\"prompt_tokens\":{\"type\":\"integer\"},\"completion_tokens\":{\"type\":\"integer\"},"
                                   "\"total_tokens\":{\"type\":\"integer\"}}}";

json_t *sv_schema_describe(bool chat)
{
    json_t *usage = json_loads(usage_schema, 0, NULL);
    json_t *list = branch("Messages", with(common_properties(chat), "messages", messages_schema()), "messages");
    if (chat) {
        json_t *p = json_object_get(list, "properties");
        with(p, "stop", json_pack("{s:[s,s]}", "type", "string", "array"));
        with(p, "logit_bias", json_pack("{s:s, s:o}", "type", "object", "additionalProperties", number_of("number", -100, 100)));
        with(p, "logprobs", json_pack("{s:s, s:b}", "type", "boolean", "default", 0));
        with(p, "top_logprobs", number_of("integer", 0, SV_MAX_TOP_LOGPROBS));
        with(p, "min_p", number_of("number", 0, 1));
        with(p, "typical_p", number_of("number", 0, 1));
        return json_pack("{s:o, s:{s:s, s:{s:{s:s}, s:o}}}", "input", list, "output", "type", "object", "properties", "choices", "type", "array",
                         "usage", usage);
    }
    json_t *text = json_pack("{s:s, s:i, s:i}", "type", "string", "minLength", 1, "maxLength", (int)sv_limit_value(SV_LIMIT_AI_PROMPT_CHARS));
    json_t *raw = json_pack("{s:s, s:b}", "type", "boolean", "default", 0);
    json_t *prompt = branch("Prompt", with(with(common_properties(chat), "prompt", text), "raw", raw), "prompt");
    json_t *whole = json_pack("{s:s, s:s, s:{s:{s:s}, s:o}}", "type", "object", "contentType", "application/json", "properties", "response", "type",
                              "string", "usage", usage);
    json_t *events = json_pack("{s:s, s:s, s:s}", "type", "string", "contentType", "text/event-stream", "format", "binary");
    return json_pack("{s:{s:s, s:[o,o]}, s:{s:[o,o]}}", "input", "type", "object", "oneOf", prompt, list, "output", "oneOf", whole, events);
}
