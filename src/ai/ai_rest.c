/* ai_rest.c - Cloudflare's REST surface: POST ai/run/MODEL, model search, schemas
 *
 * The model's id has slashes, and clients send them bare or as %2F; the route takes the rest of the path and decodes it
 * afterwards. Whole answers and refusals wear the envelope; a stream is bare. */
#include <stdio.h>

#include "ai/ai.h"
#include "ai/ai_impl.h"
#include "ai/task.h"
#include "http/api.h"

static void refuse(sv_req *r, int status, int code, const char *message, const char *bad)
{
    char id[37];
    (void)bad;
    sv_ai_req_id(r, id);
    sv_req_add_header(r, "cf-ai-req-id", id);
    sv_api_error(r, status, code, "AiError: %s", message);
}

static const sv_surface rest = {.envelope = true, .refuse = refuse};

/* Clients label JSON as text/plain, as a form, or not at all: what begins like an object is one, all else is a binary input. */
static void run(sv_ai *ai, sv_req *r, sv_str text)
{
    sv_err err = {0};
    sv_str id, queue, trimmed = sv_str_trim(text);
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_req_param(r, "model", &id, &err) != SV_OK) {
        err.api_code = 5007;
        sv_ai_refuse(ai, r, &err, "model", &rest);
        return;
    }
    bool binary = trimmed.n > 0 && trimmed.p[0] != '{';
    if (!binary && sv_ai_parse(text, &body, &err) != SV_OK)
        sv_ai_refuse(ai, r, &err, "", &rest);
    else if (!binary && sv_req_query(r, "queueRequest", 0, &queue) && !sv_str_is(queue, "false"))
        sv_ai_queue(ai, r, id, body, &rest);
    else if (binary)
        sv_ai_run(ai, r, id, &(sv_ai_input){.bytes = text, .media_type = sv_req_header(r, "content-type")}, &rest);
    else
        sv_ai_run(ai, r, id, &(sv_ai_input){.json = body}, &rest);
}

static void post_run(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, false, &rest, run); }

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
