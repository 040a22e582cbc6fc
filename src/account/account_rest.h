/* account_rest.h - the account part of Cloudflare's REST API, and the check that stands in front of all of it */
#ifndef SV_ACCOUNT_ACCOUNT_REST_H
#define SV_ACCOUNT_ACCOUNT_REST_H

#include "account/account.h"
#include "http/server.h"

/* /client/v4/user, user/tokens/verify, accounts, accounts/:account, memberships, zones and what else clients ask about who they are. */
void sv_account_rest_routes(sv_http *s, sv_accounts *a); /* a is borrowed for as long as s lives */

/* For sv_http_opts.before. Paths outside /client/v4 pass untouched. Inside, the bearer token is checked, and a path below
 * /accounts/ID must name the token's own account. true: go on; sv_req_user is then an sv_principal in the request's arena, except on the
 * asset upload, which carries a session JWT of its own that its route checks (there it stays NULL). false: it has answered. */
bool sv_account_before(sv_req *r, sv_accounts *a);

#endif
