/* ai_impl.h - the inside of sv_ai, for the files of this folder */
#ifndef SV_AI_AI_IMPL_H
#define SV_AI_AI_IMPL_H

#include "ai/ai.h"
#include "base/map.h"

typedef struct sv_meter { /* of one model, since the daemon's start */
    int64_t n_requests, n_errors, tokens_in, tokens_cached, tokens_out;
    double neurons;
    int64_t in_flight;
} sv_meter;

struct sv_ai {
    sv_loop *loop;
    sv_engine_client *engine;
    sv_catalogue *catalogue;
    struct sv_ai_call *calls;   /* in flight, by task.c */
    struct sv_batches *batches; /* owned; NULL: none are kept */
    sv_smap *meters;            /* model id -> sv_meter, owned */
    sv_smap *refusals;          /* "5006" -> int64_t count, owned */
};

sv_meter *sv_ai_meter(sv_ai *ai, const sv_model *m);
void sv_ai_count_refusal(sv_ai *ai, int code);
double sv_ai_neurons(const sv_model *m, const sv_usage *u);

/* For the handler of a stream route (SV_AI_BODY_ROUTE): collects the body, at most SV_LIMIT_AI_BODY_BYTES, and calls fn with it; a longer one is refused in
 * the surface's own words (3006, 413), which the server's own limit could not. drain: read to the end first (workerd shows no answer that comes earlier). */
struct sv_surface;
typedef void (*sv_ai_body_fn)(sv_ai *ai, sv_req *r, sv_str body);
void sv_ai_collect(sv_ai *ai, sv_req *r, bool drain, const struct sv_surface *s, sv_ai_body_fn fn);
#define SV_AI_BODY_ROUTE .flags = SV_ROUTE_STREAM, .body_timeout_ms = 180000

/* A body as JSON: api_code 3003 when there is none, 5006 when it is no JSON or not an object. *out: a new reference. */
SV_MUST sv_rc sv_ai_parse(sv_str body, json_t **out, sv_err *err);

/* Appends `"usage":{...}` in Cloudflare's members. */
void sv_ai_add_usage(sv_buf *out, const sv_usage *u);
const char *sv_ai_finish_name(sv_finish f); /* "stop", "length" */

/* The field contexts, [{text}, ...], as a new list of strings. */
struct sv_fields;
SV_MUST sv_rc sv_ai_contexts(struct sv_fields *f, json_t **out);
/* Appends {"response":[{"id","score"}]} of the best `top` scores, best first; of equal ones the first. */
void sv_ai_add_scores(sv_buf *out, const float *scores, int32_t n, int32_t top);

/* temperature where a request has none: 0.6, and 1 for models of the chat completions family. */
double sv_ai_default_temperature(const sv_model *m);
bool sv_ai_is_chat_shape(const sv_model *m);

/* ai_models.c: handlers (ctx is the sv_ai) that REST and the binding share; they answer with the envelope. */
void sv_ai_models_search(sv_req *r, void *ctx);
void sv_ai_models_schema(sv_req *r, void *ctx);
void sv_ai_tasks_search(sv_req *r, void *ctx);
void sv_ai_authors_search(sv_req *r, void *ctx);

#endif
