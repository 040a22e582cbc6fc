/* vectorize_binding.c - what workerd's built-in Vectorize module calls when a Worker says env.INDEX.query()
 *
 * The paths have no index in them: which one it is stands behind the colon of x-sv-binding, which the Worker's configuration sets and the
 * Worker cannot. Results are bare; a refusal is {"code": number, "error": text}, from which the module makes "VECTOR_QUERY_ERROR (code =
 * number): text". Bodies are read to their end before a refusal, since workerd would not see an earlier one. */
#include <stdio.h>
#include <string.h>

#include "account/account.h"
#include "base/json.h"
#include "base/log.h"
#include "vectorize/vectorize_impl.h"

static void ok(sv_req *r, sv_str result, sv_str messages)
{
    (void)messages; /* nothing is left out of a Worker's batch: it is taken or refused */
    sv_req_send(r, 200, "application/json", result);
}

static void refuse(sv_req *r, const sv_err *err)
{
    int status = sv_vz_status_of(err);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 8192);
    sv_buf_addf(&b, "{\"code\":%d,\"error\":", err->api_code ? err->api_code : SV_VZ_EBODY);
    if (status >= 500) {
        sv_log(SV_ERROR, "vectorize.failed", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
        char text[80];
        snprintf(text, sizeof text, "internal error; reference = %s", sv_req_id(r));
        sv_json_add_str(&b, sv_str_of(text));
    } else {
        sv_json_add_str(&b, sv_str_of(err->msg));
    }
    sv_buf_addc(&b, '}');
    sv_req_send(r, status, "application/json", sv_buf_str(&b));
}

static const sv_vz_dialect binding = {.ok = ok, .refuse = refuse, .batch = SV_LIMIT_VEC_WORKER_BATCH};

static sv_vz_call call_of(sv_req *r, void *ctx)
{
    sv_str b = sv_req_header(r, "x-sv-binding");
    const char *colon = b.n ? memchr(b.p, ':', b.n) : NULL;
    sv_str index = colon ? (sv_str){colon + 1, b.n - (size_t)(colon + 1 - b.p)} : (sv_str){0};
    const sv_principal *by = sv_req_user(r);
    return (sv_vz_call){.vz = ctx, .r = r, .d = &binding, .account = sv_str_of(by->account_id), .index = index};
}

static void post_insert(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_insert(&c, sv_req_body(r), false);
}

static void post_upsert(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_upsert(&c, sv_req_body(r), false);
}

static void post_query(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_query(&c);
}

static void post_get_by_ids(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_get_by_ids(&c);
}

static void post_delete_by_ids(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_delete_by_ids(&c);
}

static void get_info(sv_req *r, void *ctx)
{
    sv_vz_call c = call_of(r, ctx);
    sv_vz_info(&c);
}

void sv_vectorize_binding_routes(sv_http *s, sv_vectorize *vz)
{
    const size_t json = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES), upload = (size_t)sv_limit_value(SV_LIMIT_VEC_UPLOAD_BYTES);
    const int flags = SV_ROUTE_JOB | SV_ROUTE_DRAIN_FIRST;
    const sv_route routes[] = {
        {.method = "GET", .path = "/vectorize/info", .fn = get_info, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = "/vectorize/insert", .fn = post_insert, .max_body = upload, .flags = flags},
        {.method = "POST", .path = "/vectorize/upsert", .fn = post_upsert, .max_body = upload, .flags = flags},
        {.method = "POST", .path = "/vectorize/query", .fn = post_query, .max_body = json, .flags = flags},
        {.method = "POST", .path = "/vectorize/getByIds", .fn = post_get_by_ids, .max_body = json, .flags = flags},
        {.method = "POST", .path = "/vectorize/deleteByIds", .fn = post_delete_by_ids, .max_body = json, .flags = flags},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], vz);
}
