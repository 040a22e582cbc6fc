/* ai_openai.c - OpenAI's API: chat/completions, completions, embeddings, audio/transcriptions and translations, models, below ai/v1
 *
 * Answers and events are OpenAI's own, without the envelope; a refusal carries both shapes, since OpenAI's client reads `error` and Cloudflare's
 * reads `errors`. Completions are raw: the prompt goes to the model as it is, and the answer continues it. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ai/ai.h"
#include "ai/ai_impl.h"
#include "ai/text_generation.h"
#include "http/api.h"
#include "http/multipart.h"

/* ---- errors ---- */

static const char *type_of(int status)
{
    return status == 429 ? "rate_limit_error" : status >= 500 ? "server_error" : "invalid_request_error";
}

/* The words that programs compare with, where OpenAI has one; else our number. */
static void add_code(sv_buf *out, int code)
{
    const char *word = code == 5007 ? "model_not_found" : code == 5021 ? "context_length_exceeded" : code == 3040 ? "rate_limit_exceeded" : NULL;
    if (word)
        sv_buf_addf(out, "\"%s\"", word);
    else
        sv_buf_addf(out, "\"%d\"", code);
}

/* "messages/0/role" as "messages[0].role". */
static void add_param(sv_buf *out, const char *field)
{
    if (!*field) {
        sv_buf_adds(out, "null");
        return;
    }
    sv_buf_addc(out, '"');
    for (const char *p = field; *p;) {
        size_t n = strcspn(p, "/");
        if (isdigit((unsigned char)*p))
            sv_buf_addf(out, "[%.*s]", (int)n, p);
        else
            sv_buf_addf(out, "%s%.*s", p > field ? "." : "", (int)n, p);
        p += n + (p[n] == '/');
    }
    sv_buf_addc(out, '"');
}

static void add_error(sv_buf *out, int status, int code, const char *message, const char *bad)
{
    sv_buf_adds(out, "{\"error\":{\"message\":");
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_addf(out, ",\"type\":\"%s\",\"code\":", type_of(status));
    add_code(out, code);
    sv_buf_adds(out, ",\"param\":");
    add_param(out, bad);
    sv_buf_addf(out, "},\"success\":false,\"result\":null,\"messages\":[],\"errors\":[{\"code\":%d,\"message\":", code);
    sv_json_add_str(out, sv_str_of(message));
    sv_buf_adds(out, "}]}");
}

static void openai_error(const sv_tg_view *v, int status, int code, const char *message, sv_buf *out)
{
    (void)v;
    add_error(out, status, code, message, "");
}

static void refuse(sv_req *r, int status, int code, const char *message, const char *bad)
{
    char id[37];
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 8192);
    add_error(&body, status, code, message, bad);
    sv_ai_req_id(r, id);
    sv_req_add_header(r, "cf-ai-req-id", id);
    sv_req_send(r, status, "application/json", sv_buf_str(&body));
}

/* ---- chat completions ---- */

static void add_finish(sv_buf *out, const char *finish)
{
    if (finish)
        sv_buf_addf(out, "\"finish_reason\":\"%s\"", finish);
    else
        sv_buf_adds(out, "\"finish_reason\":null");
}

static void add_head(sv_buf *out, const sv_tg_view *v, const char *prefix, const char *object)
{
    sv_buf_addf(out, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,\"model\":\"%s\",", prefix, v->req_id, object, (long long)v->created_s, v->model->id);
}

/* What is impossible is -9999 to OpenAI's clients: JSON has no infinity. */
static void add_logprob(sv_buf *out, float logprob)
{
    sv_json_add_num(out, logprob >= -9999 ? (double)logprob : -9999);
}

static void add_prob(sv_buf *out, const sv_token_prob *p)
{
    sv_buf_adds(out, "{\"token\":");
    sv_json_add_str(out, p->bytes); /* where it ends inside of a character that shows U+FFFD, and only the bytes tell */
    sv_buf_adds(out, ",\"logprob\":");
    add_logprob(out, p->logprob);
    sv_buf_adds(out, ",\"bytes\":[");
    for (size_t i = 0; i < p->bytes.n; i++)
        sv_buf_addf(out, "%s%d", i ? "," : "", (unsigned char)p->bytes.p[i]);
    sv_buf_addc(out, ']');
}

/* "logprobs":..., of a chat */
static void chat_logprobs(const sv_tg_view *v, sv_str probs, sv_buf *out)
{
    sv_token_probs p;
    if (!v->logprobs) {
        sv_buf_adds(out, "\"logprobs\":null,");
        return;
    }
    sv_buf_adds(out, "\"logprobs\":{\"content\":[");
    for (bool first = true; sv_token_probs_next(&p, &probs); first = false) {
        sv_buf_adds(out, first ? "" : ",");
        add_prob(out, &p.chosen);
        sv_buf_adds(out, ",\"top_logprobs\":[");
        for (int32_t i = 0; i < p.n_top; i++) {
            sv_buf_adds(out, i ? "," : "");
            add_prob(out, &p.top[i]);
            sv_buf_addc(out, '}');
        }
        sv_buf_adds(out, "]}");
    }
    sv_buf_adds(out, "],\"refusal\":null},");
}

static void chat_whole(const sv_tg_view *v, sv_buf *out)
{
    add_head(out, v, "chatcmpl", "chat.completion");
    sv_buf_adds(out, "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    sv_json_add_str(out, v->text);
    sv_buf_adds(out, ",\"refusal\":null},");
    chat_logprobs(v, v->probs, out);
    sv_buf_addf(out, "\"finish_reason\":\"%s\"}],", sv_ai_finish_name(v->finish));
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
}

static void chat_delta(sv_buf *out, const sv_tg_view *v, const char *delta_json, sv_str text, const char *finish)
{
    add_head(out, v, "chatcmpl", "chat.completion.chunk");
    sv_buf_addf(out, "\"choices\":[{\"index\":0,\"delta\":{%s", delta_json);
    if (text.p)
        sv_json_add_str(out, text);
    sv_buf_adds(out, "},");
    if (text.p)
        chat_logprobs(v, v->probs, out);
    else
        sv_buf_adds(out, "\"logprobs\":null,");
    add_finish(out, finish);
    sv_buf_adds(out, v->usage_event ? "}],\"usage\":null}" : "}]}");
}

static void chat_first(const sv_tg_view *v, sv_buf *out)
{
    chat_delta(out, v, "\"role\":\"assistant\",\"content\":\"\"", (sv_str){NULL, 0}, NULL);
}

static void chat_piece(const sv_tg_view *v, sv_str text, sv_buf *out)
{
    chat_delta(out, v, "\"content\":", text, NULL);
}

static bool usage_chunk(sv_buf *out, const sv_tg_view *v, const char *prefix, const char *object)
{
    if (!v->usage_event)
        return false;
    add_head(out, v, prefix, object);
    sv_buf_adds(out, "\"choices\":[],");
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
    return true;
}

static bool chat_last(const sv_tg_view *v, int i, sv_buf *out)
{
    if (i == 0)
        chat_delta(out, v, "", (sv_str){NULL, 0}, sv_ai_finish_name(v->finish));
    return i == 0 || (i == 1 && usage_chunk(out, v, "chatcmpl", "chat.completion.chunk"));
}

/* ---- text completions ---- */

/* Of text completions, in four lists; text_offset counts code points of the answer. */
static void add_tops(sv_buf *out, const sv_token_probs *p)
{
    bool chosen_too = true; /* it is told even where it is none of the likeliest */
    sv_buf_addc(out, '{');
    for (int32_t i = 0; i <= p->n_top; i++) {
        const sv_token_prob *t = i < p->n_top ? &p->top[i] : &p->chosen;
        if (i == p->n_top && !chosen_too)
            break;
        chosen_too = chosen_too && t->token != p->chosen.token;
        sv_buf_adds(out, i ? "," : "");
        sv_json_add_str(out, t->bytes);
        sv_buf_addc(out, ':');
        add_logprob(out, t->logprob);
    }
    sv_buf_addc(out, '}');
}

typedef enum column { TOKENS, LOGPROBS, TOPS, OFFSETS } column;

static void add_column(const sv_tg_view *v, sv_str probs, column which, sv_buf *out)
{
    sv_token_probs p;
    size_t at = v->probs_at;
    sv_buf_addc(out, '[');
    for (bool first = true; sv_token_probs_next(&p, &probs); first = false) {
        sv_buf_adds(out, first ? "" : ",");
        switch (which) {
        case TOKENS: sv_json_add_str(out, p.chosen.bytes); break;
        case LOGPROBS: add_logprob(out, p.chosen.logprob); break;
        case TOPS: p.n_top > 0 ? add_tops(out, &p) : (void)sv_buf_adds(out, "null"); break;
        case OFFSETS: sv_buf_addf(out, "%zu", at); break;
        }
        for (size_t i = 0; i < p.chosen.bytes.n; i++)
            at += ((unsigned char)p.chosen.bytes.p[i] & 0xc0) != 0x80;
    }
    sv_buf_addc(out, ']');
}

static void text_logprobs(const sv_tg_view *v, sv_buf *out)
{
    static const char *const names[] = {"\"logprobs\":{\"tokens\":", ",\"token_logprobs\":", ",\"top_logprobs\":", ",\"text_offset\":"};
    if (v->probs.n == 0) {
        sv_buf_adds(out, "\"logprobs\":null,");
        return;
    }
    for (int i = TOKENS; i <= OFFSETS; i++) {
        sv_buf_adds(out, names[i]);
        add_column(v, v->probs, (column)i, out);
    }
    sv_buf_adds(out, "},");
}

static void add_text_choice(sv_buf *out, const sv_tg_view *v, sv_str text, const char *finish)
{
    sv_buf_adds(out, "\"choices\":[{\"index\":0,\"text\":");
    sv_json_add_str(out, text);
    sv_buf_addc(out, ',');
    text_logprobs(v, out);
    add_finish(out, finish);
    sv_buf_adds(out, "}]");
}

static void text_whole(const sv_tg_view *v, sv_buf *out)
{
    add_head(out, v, "cmpl", "text_completion");
    add_text_choice(out, v, v->text, sv_ai_finish_name(v->finish));
    sv_buf_addc(out, ',');
    sv_ai_add_usage(out, &v->usage);
    sv_buf_addc(out, '}');
}

static void text_piece(const sv_tg_view *v, sv_str text, sv_buf *out)
{
    add_head(out, v, "cmpl", "text_completion");
    add_text_choice(out, v, text, NULL);
    sv_buf_adds(out, v->usage_event ? ",\"usage\":null}" : "}");
}

static bool text_last(const sv_tg_view *v, int i, sv_buf *out)
{
    if (i == 0) {
        add_head(out, v, "cmpl", "text_completion");
        add_text_choice(out, v, SV_STR(""), sv_ai_finish_name(v->finish));
        sv_buf_adds(out, v->usage_event ? ",\"usage\":null}" : "}");
    }
    return i == 0 || (i == 1 && usage_chunk(out, v, "cmpl", "text_completion"));
}

const sv_tg_dialect sv_tg_chat = {.whole = chat_whole, .first = chat_first, .piece = chat_piece, .last = chat_last, .error = openai_error};
static const sv_tg_dialect plain = {.whole = text_whole, .piece = text_piece, .last = text_last, .error = openai_error};

/* ---- routes ---- */

static const sv_surface openai = {.refuse = refuse};

static sv_rc model_of(sv_ai *ai, const json_t *body, const sv_model **m, sv_err *err)
{
    const json_t *id = json_object_get(body, "model");
    if (!id)
        return sv_fail_api(err, SV_EINVAL, 5006, "required properties at '/' are 'model'");
    if (!json_is_string(id))
        return sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/model', it is not a 'string'");
    return sv_catalogue_resolve(ai->catalogue, (sv_str){json_string_value(id), json_string_length(id)}, m, err);
}

/* The model that the body names, if it does the task of the route. */
static void run(sv_ai *ai, sv_req *r, sv_str text, const sv_task *row)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_ai_parse(text, &body, &err) != SV_OK) {
        sv_ai_refuse(ai, r, &err, "", &openai);
        return;
    }
    if (model_of(ai, body, &m, &err) == SV_OK && strcmp(m->task, row->name) != 0)
        sv_fail_api(&err, SV_EINVAL, 5007, "No such model %s for %s: it is a model for %s", m->id, row->name, m->task);
    if (err.code != SV_OK)
        sv_ai_refuse(ai, r, &err, "model", &openai);
    else
        sv_ai_run_task(ai, r, &m, row, &(sv_ai_input){.json = body}, &openai);
}

typedef sv_rc (*schema_fn)(sv_tg_input *out, json_t *body, double temperature, sv_err *err);

static sv_rc check_tg(sv_ai_call *c, const sv_ai_input *in, schema_fn schema, const sv_tg_dialect *d, sv_err *err)
{
    sv_tg_input t = {0};
    if (schema(&t, in->json, sv_ai_default_temperature(c->model), err) != SV_OK) {
        memcpy(c->bad, t.bad, sizeof c->bad);
        return err->code;
    }
    sv_tg_prepare(c, &t, d);
    return SV_OK;
}

static sv_rc check_chat(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check_tg(c, in, sv_schema_chat, &sv_tg_chat, err); }
static sv_rc check_text(sv_ai_call *c, const sv_ai_input *in, sv_err *err) { return check_tg(c, in, sv_schema_completion, &plain, err); }

static const sv_task chat_row = {.name = "Text Generation", .streams = true, .check = check_chat, .run = sv_tg_run},
                     text_row = {.name = "Text Generation", .streams = true, .check = check_text, .run = sv_tg_run},
                     embed_row = {.name = "Text Embeddings", .check = sv_embed_check_openai, .run = sv_embed_run};

static void run_chat(sv_ai *ai, sv_req *r, sv_str body) { run(ai, r, body, &chat_row); }
static void run_text(sv_ai *ai, sv_req *r, sv_str body) { run(ai, r, body, &text_row); }
static void run_embed(sv_ai *ai, sv_req *r, sv_str body) { run(ai, r, body, &embed_row); }
static void post_chat(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &openai, run_chat); }
static void post_completion(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &openai, run_text); }
static void post_embeddings(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &openai, run_embed); }

/* ---- recordings ---- */

static const sv_task hear_row = {.name = "Automatic Speech Recognition", .binary = true, .check = sv_hear_check_openai, .run = sv_hear_run},
                     translate_row = {.name = "Automatic Speech Recognition", .binary = true, .check = sv_hear_check_translation, .run = sv_hear_run};

/* The form's fields as an object; temperature is a number there, words says whether timestamp_granularities has "word". */
static sv_rc fields_of(const sv_parts *parts, json_t *out, sv_str *file, sv_err *err)
{
    static const char *const texts[] = {"model", "language", "prompt", "response_format"};
    for (size_t i = 0; i < SV_LEN(texts); i++) {
        const sv_part *p = sv_parts_find(parts, texts[i]);
        if (p && !sv_utf8_valid(p->data))
            return sv_fail_api(err, SV_EINVAL, 5006, "'/%s' is not UTF-8", texts[i]);
        if (p && p->data.n > 0)
            json_object_set_new(out, texts[i], json_stringn(p->data.p, p->data.n));
    }
    const sv_part *p = sv_parts_find(parts, "temperature");
    if (p && p->data.n > 0) {
        SV_AUTO(sv_json_decrefp) json_t *v = NULL;
        sv_err ignored = {0};
        if (sv_json_parse(&v, p->data, &ignored) != SV_OK || !json_is_number(v))
            return sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/temperature', 'string' not in 'number'");
        json_object_set(out, "temperature", v);
    }
    for (size_t i = 0; i < parts->n; i++)
        if (sv_str_starts(parts->v[i].name, "timestamp_granularities") && sv_str_is(parts->v[i].data, "word"))
            json_object_set_new(out, "words", json_true());
    p = sv_parts_find(parts, "file");
    if (p)
        *file = p->data.p ? p->data : SV_STR("");
    return SV_OK;
}

static void run_recording(sv_ai *ai, sv_req *r, sv_str body, const sv_task *row)
{
    sv_err err = {0};
    SV_AUTO(sv_arena_freep) sv_arena *arena = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *fields = json_object();
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    sv_parts parts;
    sv_str file = {0};
    if (sv_multipart_parse(&parts, arena, sv_req_header(r, "content-type"), body, &err) != SV_OK) {
        err.api_code = 5006;
        err.code = SV_EINVAL;
    } else if (fields_of(&parts, fields, &file, &err) == SV_OK && model_of(ai, fields, &m, &err) == SV_OK && strcmp(m->task, row->name) != 0) {
        sv_fail_api(&err, SV_EINVAL, 5007, "No such model %s for %s: it is a model for %s", m->id, row->name, m->task);
    }
    if (err.code != SV_OK)
        sv_ai_refuse(ai, r, &err, err.api_code == 5007 ? "model" : "", &openai);
    else
        sv_ai_run_task(ai, r, &m, row, &(sv_ai_input){.json = fields, .bytes = file}, &openai);
}

static void run_hear(sv_ai *ai, sv_req *r, sv_str body) { run_recording(ai, r, body, &hear_row); }
static void run_translate(sv_ai *ai, sv_req *r, sv_str body) { run_recording(ai, r, body, &translate_row); }
static void post_transcription(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &openai, run_hear); }
static void post_translation(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &openai, run_translate); }

static void add_model(sv_buf *out, const sv_model *m)
{
    sv_buf_addf(out, "{\"id\":\"%s\",\"object\":\"model\",\"created\":%lld,\"owned_by\":", m->id, (long long)(m->created_ms / 1000));
    sv_json_add_str(out, sv_str_of(m->vendor));
    sv_buf_addc(out, '}');
}

/* What can be run here: the catalogue's other models are in models/search. */
static void get_models(sv_req *r, void *ctx)
{
    sv_ai *ai = ctx;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 4 << 20);
    sv_model_list all = sv_catalogue_list(ai->catalogue);
    sv_buf_adds(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0, n = 0; i < all.n; i++)
        if (all.models[i]->path) {
            sv_buf_adds(&out, n++ ? "," : "");
            add_model(&out, all.models[i]);
        }
    sv_buf_adds(&out, "]}");
    sv_model_list_done(&all);
    sv_req_send(r, 200, "application/json", sv_buf_str(&out));
}

static void get_model(sv_req *r, void *ctx)
{
    sv_ai *ai = ctx;
    sv_err err = {0};
    sv_str id;
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_req_param(r, "model", &id, &err) != SV_OK || sv_catalogue_resolve(ai->catalogue, id, &m, &err) != SV_OK) {
        sv_ai_count_refusal(ai, 5007);
        refuse(r, 404, 5007, err.msg, "model");
        return;
    }
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 4096);
    add_model(&out, m);
    sv_req_send(r, 200, "application/json", sv_buf_str(&out));
}

void sv_ai_openai_routes(sv_http *s, sv_ai *ai)
{
#define A "/client/v4/accounts/:account/ai/v1"
    const sv_route routes[] = {
        {.method = "POST", .path = A "/chat/completions", .fn = post_chat, SV_AI_BODY_ROUTE},
        {.method = "POST", .path = A "/completions", .fn = post_completion, SV_AI_BODY_ROUTE},
        {.method = "POST", .path = A "/embeddings", .fn = post_embeddings, SV_AI_BODY_ROUTE},
        {.method = "POST", .path = A "/audio/transcriptions", .fn = post_transcription, SV_AI_BODY_ROUTE},
        {.method = "POST", .path = A "/audio/translations", .fn = post_translation, SV_AI_BODY_ROUTE},
        {.method = "GET", .path = A "/models", .fn = get_models},
        {.method = "GET", .path = A "/models/*model", .fn = get_model},
    };
#undef A
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], ai);
}
