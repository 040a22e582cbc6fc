/* analytics_http.c - points come from a Worker's binding, queries through the SQL API
 *
 * Two routes, and so one file for both dialects. An answer to a query is ClickHouse's and not Cloudflare's envelope; a refusal is the envelope. */
#include "account/account.h"
#include "account/limits.h"
#include "analytics/analytics.h"
#include "base/log.h"
#include "base/time.h"
#include "http/api.h"

static void answer(sv_req *r, sv_analytics *a, sv_str sql)
{
    const sv_principal *who = sv_req_user(r);
    const char *type = NULL;
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, (size_t)sv_limit_value(SV_LIMIT_AE_RESULT_BYTES) + 65536);
    if (sv_analytics_query(a, sv_str_of(who->account_id), sql, sv_now_ms(), &out, &type, &err) == SV_OK)
        sv_req_send(r, 200, type, sv_buf_str(&out));
    else if (err.code == SV_ETIMEDOUT || err.code == SV_ELIMIT) /* the query's doing, and no gateway's */
        sv_api_error(r, 422, 10000, "%s", err.msg);
    else
        sv_api_fail(r, &err, 10000);
}

static void post_sql(sv_req *r, void *ctx) { answer(r, ctx, sv_str_trim(sv_req_body(r))); }

static void get_sql(sv_req *r, void *ctx)
{
    sv_str sql;
    if (!sv_req_query(r, "query", 0, &sql))
        sv_api_error(r, 400, 10000, "the query is missing: GET .../sql?query=SELECT..., or POST with the query as its body");
    else
        answer(r, ctx, sv_str_trim(sql));
}

static void post_write(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    sv_str b = sv_req_header(r, "x-sv-binding"); /* "ae:DATASET": the prefix brought us here */
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_json_parse(&body, sv_req_body(r), &err) != SV_OK ||
        sv_analytics_write(ctx, sv_str_of(who->account_id), (sv_str){b.p + 3, b.n > 3 ? b.n - 3 : 0}, json_object_get(body, "points"), sv_now_ms(), &err) != SV_OK) {
        /* The Worker has gone on already, so nobody reads the answer: the log is where a lost point shows. */
        static sv_log_gate gate;
        if (sv_log_may(&gate, 60))
            sv_log(SV_WARN, "analytics.write", "account=%s id=%s error='%s'", who->account_id, sv_req_id(r), err.msg);
        sv_api_fail(r, &err, 10000);
        return;
    }
    sv_req_send(r, 200, "text/plain", SV_STR(""));
}

void sv_analytics_rest_routes(sv_http *s, sv_analytics *a)
{
    static const char path[] = "/client/v4/accounts/:account/analytics_engine/sql";
    /* Room above the query's limit: it is the query that says it is too long. */
    sv_http_route(s, &(sv_route){.method = "POST", .path = path, .fn = post_sql, .max_body = 1 << 20, .flags = SV_ROUTE_JOB}, a);
    sv_http_route(s, &(sv_route){.method = "GET", .path = path, .fn = get_sql, .flags = SV_ROUTE_JOB}, a);
}

void sv_analytics_binding_routes(sv_http *s, sv_analytics *a)
{
    sv_http_route(s, &(sv_route){.method = "POST", .path = "/ae/write", .fn = post_write, .max_body = 8 << 20, .flags = SV_ROUTE_JOB | SV_ROUTE_DRAIN_FIRST}, a);
}
