/* d1_http.h - the two dialects of D1: Cloudflare's REST, and what workerd's D1 module calls
 * Threads: the loop's. */
#ifndef SV_D1_D1_HTTP_H
#define SV_D1_D1_HTTP_H

#include "d1/d1.h"
#include "http/server.h"

typedef struct sv_d1_http sv_d1_http;
/* d and jobs are borrowed. */
sv_d1_http *sv_d1_http_new(sv_d1 *d, sv_loop *loop, sv_jobs *jobs);
/* After sv_d1_close and the servers. */
sv_d1_http *sv_d1_http_free(sv_d1_http *h);

/* The data set d1AnalyticsAdaptiveGroups of http/graphql.h; ctx is the sv_d1_http. */
json_t *sv_d1_analytics(void *ctx, const char *account_id, const json_t *variables);

void sv_d1_rest_routes(sv_http *api, sv_d1_http *h);
void sv_d1_binding_routes(sv_http *bindings, sv_d1_http *h);

#endif
