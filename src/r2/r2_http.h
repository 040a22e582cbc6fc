/* r2_http.h - the three dialects of the store: workerd's binding, Cloudflare's REST, and S3 */
#ifndef SV_R2_R2_HTTP_H
#define SV_R2_R2_HTTP_H

#include "account/account.h"
#include "http/server.h"
#include "r2/r2.h"

typedef struct sv_r2_http { sv_r2 *r2; sv_jobs *jobs; sv_accounts *accounts; } sv_r2_http; /* all borrowed */

/* h is borrowed for as long as s lives. The first two: sv_req_user is the sv_principal whose buckets they are. */
void sv_r2_binding_routes(sv_http *s, sv_r2_http *h); /* /r2, with the bucket in the header "x-sv-binding: r2:NAME" */
void sv_r2_rest_routes(sv_http *s, sv_r2_http *h);    /* /client/v4/accounts/:account/r2/..., and its event_notifications */
void sv_r2_s3_routes(sv_http *s, sv_r2_http *h);      /* /s3/ACCOUNT/...; requests are authenticated here, by their signature */

/* Rows of the data set r2StorageAdaptiveGroups (http/graphql.h); ctx is the sv_r2_http. */
json_t *sv_r2_analytics(void *ctx, const char *account_id, const json_t *variables);

#endif
