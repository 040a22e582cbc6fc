/* ai_binding.c - what workerd's built-in AI module calls when a Worker says env.AI.run()
 *
 * The model is in a header and the input inside {"inputs": ..., "options": ...}. A Worker can add headers of its own, but not replace this one: the
 * last value counts, which is how sv_req_header reads. An answer is parsed by the runtime when its type is exactly "application/json"; anything else
 * reaches the Worker as a stream, unread. Errors are read as "<internalCode>: <description>", and `name` becomes the exception's name. */
#include <stdio.h>

#include "ai/ai.h"
#include "ai/ai_impl.h"
#include "ai/task.h"
#include "http/api.h"

static void refuse(sv_req *r, int status, int code, const char *message, const char *bad)
{
    char id[37];
    (void)bad;
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, 8192);
    sv_buf_addf(&body, "{\"internalCode\":%d,\"name\":\"AiError\",\"message\":", code);
    sv_json_add_str(&body, sv_str_of(message));
    sv_buf_adds(&body, ",\"description\":");
    sv_json_add_str(&body, sv_str_of(message));
    sv_buf_addc(&body, '}');
    sv_ai_req_id(r, id);
    sv_req_add_header(r, "cf-ai-req-id", id);
    sv_req_send(r, status, "application/json", sv_buf_str(&body));
}

static const sv_surface binding = {.refuse = refuse};

/* "prefix:@cf/vendor/name": the prefix names a variant of the service, of which there is one here. */
static sv_str model_of(const sv_req *r)
{
    sv_str id = sv_req_header(r, "cf-consn-model-id");
    const char *colon = id.n ? memchr(id.p, ':', id.n) : NULL;
    return colon ? (sv_str){colon + 1, id.n - (size_t)(colon + 1 - id.p)} : id;
}

static sv_rc check_options(const json_t *options, sv_err *err)
{
    if (options && !json_is_object(options))
        return sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/options', it is not an object");
    return SV_OK;
}

/* A stream as the input: it is the body, and the other fields are a query parameter. */
static void run_stream(sv_ai *ai, sv_req *r, sv_str id, sv_str fields, sv_str bytes)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *inputs = NULL;
    if (sv_ai_parse(fields, &inputs, &err) != SV_OK)
        sv_ai_refuse(ai, r, &err, "", &binding);
    else
        sv_ai_run(ai, r, id, &(sv_ai_input){.json = inputs, .bytes = bytes.p ? bytes : SV_STR(""), .media_type = sv_req_header(r, "content-type")}, &binding);
}

static sv_rc inputs_of(sv_str text, json_t **body, json_t **inputs, sv_err *err)
{
    if (sv_ai_parse(text, body, err) != SV_OK || check_options(json_object_get(*body, "options"), err) != SV_OK)
        return err->code;
    *inputs = json_object_get(*body, "inputs");
    if (!*inputs)
        return sv_fail_api(err, SV_EINVAL, 3003, "required properties at '/' are 'inputs'");
    if (!json_is_object(*inputs))
        return sv_fail_api(err, SV_EINVAL, 5006, "Type mismatch of '/', the input is not an object");
    return SV_OK;
}

static void run(sv_ai *ai, sv_req *r, sv_str text)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    json_t *inputs = NULL;
    sv_str id = model_of(r), fields;
    if (id.n == 0)
        sv_fail_api(&err, SV_EINVAL, 3003, "The header cf-consn-model-id is missing");
    else if (sv_req_query(r, "userInputs", 0, &fields)) {
        run_stream(ai, r, id, fields, text);
        return;
    }
    if (id.n == 0 || inputs_of(text, &body, &inputs, &err) != SV_OK)
        sv_ai_refuse(ai, r, &err, "", &binding);
    else if (json_is_true(json_object_get(json_object_get(body, "options"), "queueRequest")))
        sv_ai_queue(ai, r, id, inputs, &binding);
    else
        sv_ai_run(ai, r, id, &(sv_ai_input){.json = inputs}, &binding);
}

/* run() with `websocket: true`. */
static void get_run(sv_req *r, void *ctx)
{
    sv_err err = {0};
    sv_fail_api(&err, SV_EINVAL, 5006, "'/options/websocket' is not supported: models answer in HTTP");
    sv_ai_refuse(ctx, r, &err, "", &binding);
}

/* run() with a gateway. */
static void gateway(sv_ai *ai, sv_req *r, sv_str text)
{
    sv_err err = {0};
    sv_fail_api(&err, SV_EINVAL, 5006, "'/options/gateway' is not supported: this release has no AI Gateway; leave the option out");
    (void)text;
    sv_ai_refuse(ai, r, &err, "", &binding);
}

static void post_run(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, true, &binding, run); }
static void post_gateway(sv_req *r, void *ctx) { sv_ai_collect(ctx, r, true, &binding, gateway); }

void sv_ai_binding_routes(sv_http *s, sv_ai *ai)
{
    const sv_route routes[] = {
        {.method = "POST", .path = "/ai/run", .fn = post_run, SV_AI_BODY_ROUTE},
        {.method = "GET", .path = "/ai/run", .fn = get_run},
        {.method = "POST", .path = "/ai/ai-gateway/run", .fn = post_gateway, SV_AI_BODY_ROUTE},
        {.method = "GET", .path = "/ai/ai-api/models/search", .fn = sv_ai_models_search},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], ai);
}
