/* kv_http.h - the two dialects of the store: workerd's binding and Cloudflare's REST */
#ifndef SV_KV_KV_HTTP_H
#define SV_KV_KV_HTTP_H

#include "http/server.h"
#include "kv/kv.h"

typedef struct sv_kvs_http { sv_kvs *kv; sv_jobs *jobs; } sv_kvs_http; /* both borrowed */

/* h is borrowed for as long as s lives; sv_req_user is the sv_principal whose namespaces they are. */
void sv_kvs_binding_routes(sv_http *s, sv_kvs_http *h); /* /kv/..., with the namespace in the header "x-sv-binding: kv:ID" */
void sv_kvs_rest_routes(sv_http *s, sv_kvs_http *h);    /* /client/v4/accounts/:account/storage/kv/... */

#endif
