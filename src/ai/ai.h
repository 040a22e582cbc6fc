/* ai.h - the AI product: what runs, for whom, and in which of three dialects
 *
 * One sv_ai a daemon. It keeps the generations in flight and the counters; the models it knows are the catalogue's, the
 * arithmetic is the engine's. ai_rest.c, ai_openai.c and ai_binding.c put Cloudflare's REST, OpenAI's API and workerd's AI binding
 * over text_generation.c, and are the only files of this folder that know paths.
 * Threads: the loop's, except where said. */
#ifndef SV_AI_AI_H
#define SV_AI_AI_H

#include "ai/catalogue.h"
#include "base/loop.h"
#include "base/str.h"
#include "engine/client.h"
#include "http/server.h"

typedef struct sv_ai sv_ai;

typedef struct sv_ai_opts {
    sv_loop *loop;            /* all borrowed, must outlive the sv_ai */
    sv_engine_client *engine;
    sv_catalogue *catalogue;  /* its watch thread is started here, so that imports are seen while we serve */
} sv_ai_opts;

sv_ai *sv_ai_new(const sv_ai_opts *opts);
/* Keeps asynchronous batches in DATA/ai.db, and goes on with those that wait there. Before the first request. */
SV_MUST sv_rc sv_ai_keep_batches(sv_ai *ai, const char *data_dir, sv_err *err);
sv_ai *sv_ai_free(sv_ai *ai); /* after the servers: what still generates is cancelled without an answer. NULL is fine */

/* Appends Prometheus text: requests, errors by code, tokens in and out, neurons, generations in flight; by model. */
void sv_ai_metrics(const sv_ai *ai, sv_buf *out);

/* Each sets its routes on `s`. The caller of a request is sv_req_user(r), a const sv_principal *. */
void sv_ai_rest_routes(sv_http *s, sv_ai *ai);    /* /client/v4/accounts/:account/ai/... with the envelope */
void sv_ai_openai_routes(sv_http *s, sv_ai *ai);  /* /client/v4/accounts/:account/ai/v1/... without it */
void sv_ai_binding_routes(sv_http *s, sv_ai *ai); /* /ai/... on the socket of a Worker's bindings */

#endif
