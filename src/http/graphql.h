/* graphql.h - POST /client/v4/graphql, as far as tools ask it for figures
 *
 * wrangler asks there for what a database or a bucket was used for. Nobody writes other queries by hand, so no language is read: the data set that a query
 * names is looked for in its text, and its rows are given whole, for the tool to add up. An unknown data set has no rows.
 * Threads: the sets' functions are called in the job pool. */
#ifndef SV_HTTP_GRAPHQL_H
#define SV_HTTP_GRAPHQL_H

#include "http/server.h"

typedef struct sv_graphql_set {
    const char *name; /* "d1AnalyticsAdaptiveGroups" */
    /* The rows, a new list; NULL: none. `variables` is what the request gave, NULL or an object. */
    json_t *(*rows)(void *ctx, const char *account_id, const json_t *variables);
    void *ctx;
} sv_graphql_set;

/* The first text of that name in variables, however deep: tools nest their filters differently. {NULL, 0}: there is none. */
sv_str sv_graphql_find(const json_t *variables, const char *name);

/* sets: borrowed, ends with a name of NULL. account_of says whose request it is. */
typedef struct sv_graphql { const sv_graphql_set *sets; const char *(*account_of)(sv_req *r); } sv_graphql;
void sv_graphql_routes(sv_http *s, sv_graphql *g);

#endif
