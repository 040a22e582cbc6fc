/* rest_impl.h - what the four files of the Workers API share
 *
 * Every handler runs on a job thread: it may block, and answers before it returns. */
#ifndef SV_WORKERS_REST_IMPL_H
#define SV_WORKERS_REST_IMPL_H

#include "http/api.h"
#include "workers/workers_impl.h"

#define SV_ACCOUNT_PATH "/client/v4/accounts/:account_id"
#define SV_SCRIPT_PATH SV_ACCOUNT_PATH "/workers/scripts/:name"

/* One call: who asks, and for which script. */
typedef struct sv_call {
    sv_workers *w;
    sv_req *r;
    char name[64];   /* of the script, "" where the path has none */
    sv_author by;
} sv_call;

/* false: it has answered. A name that no Worker can have is "does not exist" (10007; `missing` for another number). */
bool sv_call_begin(sv_call *c, sv_req *r, void *ctx, int missing);
/* Answers with the error; the limits' own statuses are kept. */
void sv_call_fail(sv_call *c, const sv_err *err);
/* The script of the path; false: it has answered. */
bool sv_call_script(sv_call *c, sv_script *s);
/* The body as a JSON object or array; NULL: it has answered. */
json_t *sv_call_json(sv_call *c);

json_t *sv_json_time(int64_t ms);
/* {"name","type",...} of a version, secrets by name only. */
json_t *sv_json_bindings(const sv_version *v);

void sv_today(char out[11]); /* the newest date a Worker may ask for */

void sv_routes_add(sv_http *api, sv_workers *w, const sv_route *routes, size_t n); /* as jobs */
void sv_versions_routes(sv_http *api, sv_workers *w);
void sv_assets_routes(sv_http *api, sv_workers *w);
void sv_settings_routes(sv_http *api, sv_workers *w);

#endif
