/* ai_rest.c - Cloudflare's REST surface: POST ai/run/MODEL, model search, schemas
 *
 * The model's id has slashes, and clients send them bare or as %2F; the route takes the rest of the path and decodes it
 * afterwards. Whole answers and refusals wear the envelope; a stream is bare. */
#include <stdio.h>

#include "ai/ai.h"
#include "ai/ai_impl.h"
#include "ai/text_generation.h"
#include "http/api.h"

static void refuse(sv_req *r, int status, int code, const char *message, const char *bad)
{
    char id[37];
    (void)bad;
    sv_ai_req_id(r, id);
    sv_req_add_header(r, "cf-ai-req-id", id);
    sv_api_error(r, status, code, "AiError: %s", message);
}

static void in_envelope(const sv_tg_view *v, sv_buf *out, void (*result)(const sv_tg_view *, sv_buf *))
{
    sv_buf_adds(out, "{\"result\":");
    result(v, out);
    sv_buf_adds(out, ",\"success\":true,\"errors\":[],\"messages\":[]}");
}

static void classic_whole(const sv_tg_view *v, sv_buf *out) { in_envelope(v, out, sv_classic_whole); }
static void chat_whole(const sv_tg_view *v, sv_buf *out) { in_envelope(v, out, sv_chat_whole); }

static const sv_tg_dialect classic = {.whole = classic_whole, .piece = sv_classic_piece, .last = sv_classic_last, .error = sv_classic_error, .refuse = refuse};
static const sv_tg_dialect chat = {
    .whole = chat_whole, .first = sv_chat_first, .piece = sv_chat_piece, .last = sv_chat_last, .error = sv_openai_error, .refuse = refuse};

static void run(sv_ai *ai, sv_req *r, sv_str text)
{
    sv_err err = {0};
    sv_str id, queue;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_req_param(r, "model", &id, &err) != SV_OK) {
        err.api_code = 5007;
        sv_tg_refuse(ai, r, &err, "model", &classic);
        return;
    }
    if (sv_req_query(r, "queueRequest", 0, &queue) && !sv_str_is(queue, "false")) {
        sv_fail_api(&err, SV_EINVAL, 5006, "'queueRequest' is not supported: this release has no asynchronous batches");
        sv_tg_refuse(ai, r, &err, "queueRequest", &classic);
        return;
    }
    if (sv_ai_parse(text, &body, &err) != SV_OK)
        sv_tg_refuse(ai, r, &err, "", &classic);
    else
        sv_tg_run(ai, r, id, body, &classic, &chat);
}

static void post_run(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &classic, run); }

void sv_ai_rest_routes(sv_http *s, sv_ai *ai)
{
#define A "/client/v4/accounts/:account/ai"
    const sv_route routes[] = {
        {.method = "POST", .path = A "/run/*model", .fn = post_run, SV_AI_BODY_ROUTE},
        {.method = "GET", .path = A "/models/search", .fn = sv_ai_models_search},
        {.method = "GET", .path = A "/models/schema", .fn = sv_ai_models_schema},
        {.method = "GET", .path = A "/tasks/search", .fn = sv_ai_tasks_search},
        {.method = "GET", .path = A "/authors/search", .fn = sv_ai_authors_search},
    };
#undef A
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], ai);
}
