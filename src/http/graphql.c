/* graphql.c - see graphql.h */
#include "http/graphql.h"

#include <ctype.h>
#include <string.h>

#include "http/api.h"

enum { MAX_BODY = 64 << 10, MAX_DEPTH = 8 };

static sv_str find(const json_t *j, const char *name, int depth)
{
    const char *key;
    json_t *v;
    size_t i;
    sv_str found = {0};
    if (json_is_object(j))
        json_object_foreach ((json_t *)j, key, v) {
            if (json_is_string(v) && strcmp(key, name) == 0)
                return (sv_str){json_string_value(v), json_string_length(v)};
            if (depth < MAX_DEPTH && (found = find(v, name, depth + 1)).p)
                return found;
        }
    json_array_foreach (j, i, v)
        if (depth < MAX_DEPTH && (found = find(v, name, depth + 1)).p)
            return found;
    return found;
}

sv_str sv_graphql_find(const json_t *variables, const char *name) { return find(variables, name, 0); }

/* The word of the query that ends in "Groups": all data sets that tools ask for are called so. */
static sv_str set_name(sv_str query)
{
    for (size_t i = 0; i < query.n;) {
        size_t n = 0;
        while (i + n < query.n && isalnum((unsigned char)query.p[i + n]))
            n++;
        if (n > 6 && memcmp(query.p + i + n - 6, "Groups", 6) == 0)
            return (sv_str){query.p + i, n};
        i += n ? n : 1;
    }
    return (sv_str){0};
}

static void post_graphql(sv_req *r, void *ctx)
{
    const sv_graphql *g = ctx;
    sv_err err = {0};
    sv_str query = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_json_parse(&body, sv_req_body(r), &err) != SV_OK || sv_json_str(body, "query", &query, &err) != SV_OK) {
        sv_api_fail(r, &err, 10000);
        return;
    }
    sv_str name = set_name(query), account = sv_graphql_find(json_object_get(body, "variables"), "accountTag");
    if (!name.n) {
        sv_api_error(r, 400, 10000, "the query names no data set that ends in Groups: this release answers those that wrangler asks for");
        return;
    }
    const char *own = g->account_of(r);
    if (account.p && !sv_str_is(account, own)) {
        sv_api_error(r, 403, 10000, "Authentication error");
        return;
    }
    json_t *rows = NULL;
    for (const sv_graphql_set *s = g->sets; s->name; s++)
        if (sv_str_is(name, s->name))
            rows = s->rows(s->ctx, own, json_object_get(body, "variables"));
    char key[128];
    snprintf(key, sizeof key, "%.*s", (int)name.n, name.p);
    SV_AUTO(sv_json_decrefp) json_t *answer =
        json_pack("{s:{s:{s:[{s:o}]}}, s:n}", "data", "viewer", "accounts", key, rows ? rows : json_array(), "errors");
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_json_add_value(&b, answer);
    sv_req_send(r, 200, "application/json", sv_buf_str(&b));
}

void sv_graphql_routes(sv_http *s, sv_graphql *g)
{
    sv_http_route(s, &(sv_route){.method = "POST", .path = "/client/v4/graphql", .fn = post_graphql, .max_body = MAX_BODY, .flags = SV_ROUTE_JOB}, g);
}
