/* workers_rest.h - Cloudflare's Workers API over the store: what wrangler and the SDKs call to deploy, list, roll back and delete
 * Every handler runs in the job pool (a deployment waits for its process). */
#ifndef SV_WORKERS_WORKERS_REST_H
#define SV_WORKERS_WORKERS_REST_H

#include "http/server.h"
#include "workers/workers.h"

/* All routes below /client/v4/accounts/:account_id/workers, on the API's server. The account's check has run and sv_req_user is the principal,
 * except on the asset upload, which carries its session's token instead of an API token and is checked here. */
void sv_workers_rest_routes(sv_http *api, sv_workers *w);

#endif
