/* queues_http.h - the two dialects of the store: workerd's producer binding and Cloudflare's REST */
#ifndef SV_QUEUES_QUEUES_HTTP_H
#define SV_QUEUES_QUEUES_HTTP_H

#include "http/server.h"
#include "queues/queues.h"

typedef struct sv_queues_http {
    sv_queues *queues; /* borrowed */
    sv_jobs *jobs;     /* borrowed */
    /* Makes the account's Worker ready to be given batches; SV_ENOENT 10007 when there is none of that name. On a job thread. NULL: any name is good. */
    sv_rc (*ready)(void *ctx, const char *account, const char *script, sv_err *err);
    /* What sends to the queue, for its `producers`: [{type, script | bucket_name}], new. On a job thread. NULL: nothing is known. */
    json_t *(*producers)(void *ctx, const char *account, const char *name);
    void *ctx;
} sv_queues_http;

/* h is borrowed for as long as s lives; sv_req_user is the sv_principal whose queues they are. */
void sv_queues_binding_routes(sv_http *s, sv_queues_http *h); /* /queue/..., with the queue's name in the header "x-sv-binding: queue:NAME" */
void sv_queues_rest_routes(sv_http *s, sv_queues_http *h);    /* /client/v4/accounts/:account/queues/... */

#endif
