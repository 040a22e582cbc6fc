/* schema.c - field checks of text generation
 *
 * Text is counted in code points.
 *
 * Content parts become one string, text parts joined by a line break: chat templates of text models want strings. A part that is no
 * text is refused, since a model that silently does not see a picture gives a wrong answer. */
#include "ai/schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "ai/fields.h"
#include "base/mem.h"

typedef struct check { sv_tg_input *in; sv_fields f; } check; /* one pass over one body */

/* What is part of the schema and cannot be done here. Empty lists and objects ask for nothing. */
static sv_rc none_of(check *c, const char *const *keys, const char *why)
{
    for (; *keys; keys++) {
        const json_t *v = sv_field_of(&c->f, *keys);
        bool empty = !v || json_is_false(v) || (json_is_array(v) && json_array_size(v) == 0) || (json_is_object(v) && json_object_size(v) == 0);
        if (!empty)
            return sv_field_refuse(&c->f, *keys, "%s", why);
    }
    return SV_OK;
}

static sv_rc text_length(check *c, const char *field, const json_t *v)
{
    size_t n = sv_utf8_len((sv_str){json_string_value(v), json_string_length(v)});
    int64_t max = sv_limit_value(SV_LIMIT_AI_PROMPT_CHARS);
    if ((int64_t)n > max)
        return sv_field_refuse(&c->f, field, "must have at most %lld characters, got %zu", (long long)max, n);
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
        return sv_field_blame(&c->f, at), sv_fail_api(c->f.err, SV_EINVAL, 5006, "required properties at '/%s' are 'role'", at);
    snprintf(field, sizeof field, "%s/role", at);
    if (!json_is_string(role))
        return sv_field_mismatch(&c->f, field, role, "string");
    for (; *roles; roles++)
        if (strcmp(json_string_value(role), *roles) == 0) {
            *out = strcmp(*roles, "developer") == 0 ? "system" : *roles; /* what templates know */
            return SV_OK;
        }
    return sv_field_refuse(&c->f, field, "must be one of system, user, assistant, tool; got '%.32s'", json_string_value(role));
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
            return sv_field_mismatch(&c->f, field, part, "object");
        if (!type || strcmp(type, "text") != 0)
            return sv_field_refuse(&c->f, field, "is a part of type '%.32s': this model reads text only", type ? type : "");
        if (!json_is_string(t))
            return sv_field_refuse(&c->f, field, "needs 'text', a string");
        if (i > 0)
            sv_buf_addc(&text, '\n');
        sv_buf_add(&text, json_string_value(t), json_string_length(t));
    }
    *out = json_stringn(sv_buf_cstr(&text), text.n);
    return *out ? SV_OK : sv_fail(c->f.err, SV_ENOMEM, "no memory for a message");
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
        return sv_field_blame(&c->f, at), sv_fail_api(c->f.err, SV_EINVAL, 5006, "required properties at '/%s' are 'content'", at);
    snprintf(field, sizeof field, "%s/content", at);
    if (json_is_array(content)) {
        if (join_parts(c, field, content, out) != SV_OK)
            return c->f.err->code;
    } else if (json_is_string(content)) {
        *out = json_incref(content);
    } else {
        return sv_field_mismatch(&c->f, field, content, "string, array");
    }
    if (text_length(c, field, *out) == SV_OK)
        return SV_OK;
    json_decref(*out);
    *out = NULL;
    return c->f.err->code;
}

static sv_rc messages(check *c, const char *const *roles)
{
    const json_t *list = json_object_get(c->f.obj, "messages");
    if (!json_is_array(list))
        return sv_field_mismatch(&c->f, "messages", list, "array");
    int64_t max = sv_limit_value(SV_LIMIT_AI_MESSAGES);
    if (json_array_size(list) == 0)
        return sv_field_refuse(&c->f, "messages", "must have at least 1 item, got 0");
    if ((int64_t)json_array_size(list) > max)
        return sv_field_refuse(&c->f, "messages", "must have at most %lld items, got %zu", (long long)max, json_array_size(list));
    SV_AUTO(sv_json_decrefp) json_t *out = json_array();
    size_t i;
    json_t *m;
    json_array_foreach (list, i, m) {
        char at[32];
        const char *role = NULL;
        json_t *content = NULL;
        snprintf(at, sizeof at, "messages/%zu", i);
        if (!json_is_object(m))
            return sv_field_mismatch(&c->f, at, m, "object");
        if (role_of(c, at, m, roles, &role) != SV_OK || content_of(c, at, m, role, &content) != SV_OK)
            return c->f.err->code;
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
    if (sv_field_number(&c->f, "temperature", 0, r->temperature, &temperature) != SV_OK || sv_field_number(&c->f, "top_p", 0, r->top_p, &top_p) != SV_OK ||
        sv_field_integer(&c->f, "top_k", 1, r->top_k, &top_k, NULL) != SV_OK || sv_field_integer(&c->f, "seed", r->seed_min, r->seed_max, &seed, &s->has_seed) != SV_OK ||
        sv_field_number(&c->f, "repetition_penalty", 0, 2, &repetition) != SV_OK ||
        sv_field_number(&c->f, "frequency_penalty", r->penalty_min, 2, &frequency) != SV_OK ||
        sv_field_number(&c->f, "presence_penalty", r->penalty_min, 2, &presence) != SV_OK)
        return c->f.err->code;
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
    if (sv_field_integer(&c->f, key, 1, sv_limit_value(SV_LIMIT_AI_MAX_TOKENS), &n, &c->in->capped) != SV_OK)
        return c->f.err->code;
    c->in->max_tokens = (int32_t)n;
    return SV_OK;
}

static sv_rc add_stop(check *c, const char *field, const json_t *v, size_t i)
{
    if (!json_is_string(v))
        return sv_field_mismatch(&c->f, field, v, "string");
    size_t n = json_string_length(v);
    int64_t max = sv_limit_value(SV_LIMIT_AI_STOP_BYTES);
    if (n == 0 || (int64_t)n > max)
        return sv_field_refuse(&c->f, field, "must have 1 to %lld bytes, got %zu", (long long)max, n);
    if (strlen(json_string_value(v)) != n)
        return sv_field_refuse(&c->f, field, "must not hold NUL");
    c->in->stop[i] = json_string_value(v);
    return SV_OK;
}

static sv_rc stops(check *c)
{
    const json_t *v = sv_field_of(&c->f, "stop");
    if (!v)
        return SV_OK;
    if (!json_is_array(v))
        return add_stop(c, "stop", v, 0);
    int64_t max = sv_limit_value(SV_LIMIT_AI_STOPS);
    max = max > SV_TG_MAX_STOPS ? SV_TG_MAX_STOPS : max;
    if ((int64_t)json_array_size(v) > max)
        return sv_field_refuse(&c->f, "stop", "must have at most %lld items, got %zu", (long long)max, json_array_size(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        char field[32];
        snprintf(field, sizeof field, "stop/%zu", i);
        if (add_stop(c, field, json_array_get(v, i), i) != SV_OK)
            return c->f.err->code;
    }
    return SV_OK;
}

static sv_rc response_format(check *c)
{
    const json_t *v = sv_field_of(&c->f, "response_format");
    if (!v)
        return SV_OK;
    if (!json_is_object(v))
        return sv_field_mismatch(&c->f, "response_format", v, "object");
    const char *type = sv_json_cstr(v, "type");
    if (type && strcmp(type, "text") == 0)
        return SV_OK;
    if (type && (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0))
        return sv_field_refuse(&c->f, "response_format/type", "'%s' is not supported: this release has no JSON mode", type);
    return sv_field_refuse(&c->f, "response_format/type", "must be one of text, json_object, json_schema");
}

static sv_rc options(check *c)
{
    const json_t *v = sv_field_of(&c->f, "options");
    if (v && !json_is_object(v))
        return sv_field_mismatch(&c->f, "options", v, "object");
    const json_t *busy = json_object_get(v, "rejectIfBusy");
    if (busy && !json_is_boolean(busy))
        return sv_field_mismatch(&c->f, "options/rejectIfBusy", busy, "boolean");
    return SV_OK; /* all live requests share every step here: there is capacity, or 3040 at once */
}

static const char *const no_tools[] = {"tools", "functions", NULL};
static const char tools_why[] = "is not supported: this release does not call tools";

/* ---- the families ---- */

static sv_rc classic_prompt(check *c)
{
    const json_t *prompt = sv_field_of(&c->f, "prompt"), *list = sv_field_of(&c->f, "messages");
    bool raw = false;
    if (sv_field_boolean(&c->f, "raw", &raw) != SV_OK)
        return c->f.err->code;
    if (!prompt && !list)
        return sv_field_blame(&c->f, "prompt"), sv_fail_api(c->f.err, SV_EINVAL, 5006, "required properties at '/' are 'prompt' or 'messages'");
    if (prompt && list)
        return sv_field_blame(&c->f, "prompt"), sv_fail_api(c->f.err, SV_EINVAL, 5006, "oneOf at '/' not met, 2 matches: 'prompt' and 'messages' exclude each other");
    if (list)
        return raw ? sv_field_refuse(&c->f, "raw", "needs 'prompt': messages go through the model's template") : messages(c, classic_roles);
    if (!json_is_string(prompt))
        return sv_field_mismatch(&c->f, "prompt", prompt, "string");
    if (json_string_length(prompt) == 0)
        return sv_field_refuse(&c->f, "prompt", "must have at least 1 character, got 0");
    if (text_length(c, "prompt", prompt) != SV_OK)
        return c->f.err->code;
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
        sv_field_boolean(&c->f, "stream", &c->in->stream) != SV_OK || max_tokens(c, "max_tokens") != SV_OK || sampling(c, &r) != SV_OK ||
        response_format(c) != SV_OK || none_of(c, guided, "is not supported: this release has no JSON mode") != SV_OK ||
        none_of(c, no_tools, tools_why) != SV_OK || none_of(c, pictures, "is not supported: this model reads text only") != SV_OK ||
        options(c) != SV_OK)
        return c->f.err->code;
    const json_t *lora = sv_field_of(&c->f, "lora");
    if (lora && !json_is_string(lora))
        return sv_field_mismatch(&c->f, "lora", lora, "string");
    if (lora && json_string_length(lora) > 0)
        return sv_field_blame(&c->f, "lora"), sv_fail_api(c->f.err, SV_EINVAL, 5005, "'/lora': this model does not support LoRA adapters");
    return SV_OK;
}

/* {"token id": bias}. Whether there is such a token only the model knows. */
static sv_rc logit_bias(check *c)
{
    const json_t *map = sv_field_of(&c->f, "logit_bias"), *v;
    const char *key;
    int32_t n = 0;
    if (!map)
        return SV_OK;
    if (!json_is_object(map))
        return sv_field_mismatch(&c->f, "logit_bias", map, "object");
    if (json_object_size(map) > SV_MAX_LOGIT_BIAS)
        return sv_field_refuse(&c->f, "logit_bias", "must have at most %d members, got %zu", SV_MAX_LOGIT_BIAS, json_object_size(map));
    c->in->bias = json_object_size(map) > 0 ? sv_xcalloc(json_object_size(map), sizeof *c->in->bias) : NULL;
    json_object_foreach ((json_t *)(uintptr_t)map, key, v) {
        char field[64];
        size_t n_digits = strspn(key, "0123456789");
        snprintf(field, sizeof field, "logit_bias/%.40s", key);
        if (n_digits == 0 || n_digits > 9 || key[n_digits])
            return sv_field_refuse(&c->f, "logit_bias", "has the member '%.40s': must be a token id, a number", key);
        if (!json_is_number(v))
            return sv_field_mismatch(&c->f, field, v, "number");
        double d = json_number_value(v);
        if (!(d >= -100 && d <= 100))
            return sv_field_refuse(&c->f, field, "must be >= -100 and <= 100, got %g", d);
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
    if (sv_field_number(&c->f, "min_p", 0, 1, &min_p) != SV_OK || sv_field_number(&c->f, "typical_p", 0, 1, &typical_p) != SV_OK)
        return c->f.err->code;
    c->in->sampling.min_p = (float)min_p;
    c->in->sampling.typical_p = (float)typical_p;
    return SV_OK;
}

/* What both OpenAI families have. */
static sv_rc openai_common(check *c, double temperature, double top_p)
{
    static const char *const single[] = {"n", "best_of", NULL};
    const ranges r = {2, top_p, -2, temperature, 1000000, -(INT64_C(1) << 62), INT64_C(1) << 62};
    const json_t *opts = sv_field_of(&c->f, "stream_options");
    for (const char *const *key = single; *key; key++) {
        int64_t n = 1;
        if (sv_field_integer(&c->f, *key, 1, 128, &n, NULL) != SV_OK)
            return c->f.err->code;
        if (n != 1)
            return sv_field_refuse(&c->f, *key, "must be 1: this release gives one answer a request, got %lld", (long long)n);
    }
    if (sv_field_boolean(&c->f, "stream", &c->in->stream) != SV_OK || sampling(c, &r) != SV_OK || stops(c) != SV_OK ||
        logit_bias(c) != SV_OK || more_filters(c) != SV_OK || options(c) != SV_OK)
        return c->f.err->code;
    if (opts && !json_is_object(opts))
        return sv_field_mismatch(&c->f, "stream_options", opts, "object");
    const json_t *usage = json_object_get(opts, "include_usage");
    if (usage && !json_is_null(usage) && !json_is_boolean(usage))
        return sv_field_mismatch(&c->f, "stream_options/include_usage", usage, "boolean");
    c->in->usage_event = json_is_true(usage);
    return SV_OK;
}

static sv_rc check_chat(check *c, double temperature)
{
    static const char *const none[] = {"audio", "web_search_options", NULL};
    int64_t top_logprobs = 0;
    sv_sampling *s = &c->in->sampling;
    if (!sv_field_of(&c->f, "messages"))
        return sv_field_blame(&c->f, "messages"), sv_fail_api(c->f.err, SV_EINVAL, 5006, "required properties at '/' are 'messages'");
    const json_t *modes = sv_field_of(&c->f, "modalities");
    size_t i;
    json_t *mode;
    json_array_foreach (modes, i, mode)
        if (!json_is_string(mode) || strcmp(json_string_value(mode), "text") != 0)
            return sv_field_refuse(&c->f, "modalities", "must be ['text']: this model writes text only");
    if (openai_common(c, temperature, 1) != SV_OK || max_tokens(c, "max_tokens") != SV_OK || max_tokens(c, "max_completion_tokens") != SV_OK ||
        response_format(c) != SV_OK || none_of(c, no_tools, tools_why) != SV_OK ||
        none_of(c, none, "is not supported in this release") != SV_OK || sv_field_boolean(&c->f, "logprobs", &s->logprobs) != SV_OK ||
        sv_field_integer(&c->f, "top_logprobs", 0, SV_MAX_TOP_LOGPROBS, &top_logprobs, NULL) != SV_OK)
        return c->f.err->code;
    if (top_logprobs > 0 && !s->logprobs)
        return sv_field_refuse(&c->f, "top_logprobs", "needs 'logprobs': true");
    s->top_logprobs = (int32_t)top_logprobs;
    return messages(c, chat_roles);
}

static sv_rc completion_prompt(check *c)
{
    const json_t *prompt = sv_field_of(&c->f, "prompt");
    if (!prompt)
        return sv_field_blame(&c->f, "prompt"), sv_fail_api(c->f.err, SV_EINVAL, 5006, "required properties at '/' are 'prompt'");
    if (json_is_array(prompt)) {
        if (json_array_size(prompt) != 1 || !json_is_string(json_array_get(prompt, 0)))
            return sv_field_refuse(&c->f, "prompt", "must be one string: this release takes neither several prompts nor token ids");
        prompt = json_array_get(prompt, 0);
    }
    if (!json_is_string(prompt))
        return sv_field_mismatch(&c->f, "prompt", prompt, "string");
    if (json_string_length(prompt) == 0)
        return sv_field_refuse(&c->f, "prompt", "must have at least 1 character, got 0");
    c->in->prompt = (sv_str){json_string_value(prompt), json_string_length(prompt)};
    return text_length(c, "prompt", prompt);
}

static sv_rc check_completion(check *c, double temperature)
{
    static const char *const none[] = {"echo", "suffix", NULL};
    const json_t *logprobs = sv_field_of(&c->f, "logprobs");
    const json_t *suffix = sv_field_of(&c->f, "suffix");
    if (completion_prompt(c) != SV_OK || openai_common(c, temperature, 1) != SV_OK || max_tokens(c, "max_tokens") != SV_OK)
        return c->f.err->code;
    int64_t top_logprobs = 0; /* 0 asks for the log probability of the chosen token */
    if (logprobs && !json_is_false(logprobs) && sv_field_integer(&c->f, "logprobs", 0, 5, &top_logprobs, &c->in->sampling.logprobs) != SV_OK)
        return c->f.err->code;
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
    check c = {&in, {body, in.bad, err}};
    out->bad[0] = 0;
    sv_rc rc = json_is_object(body) ? family(&c, temperature)
                                    : sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/', '%s' not in 'object'", sv_field_type(body));
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
