/* vectorize_rest.c - Vectorize in Cloudflare's REST API (v2), and one route that it does not have: delete_by_filter
 *
 * Vectors come as multipart with one part "vectors" (wrangler) or as the bare NDJSON (SDKs); JSON bodies come under any Content-Type. */
#include "http/api.h"
#include "http/multipart.h"
#include "account/account.h"
#include "base/json.h"
#include "vectorize/vectorize_impl.h"

/* Whatever the caller did not cause goes the way of all such errors: logged, and told only its request id. */
static void refuse(sv_req *r, const sv_err *err)
{
    int status = sv_vz_status_of(err);
    if (status >= 500)
        sv_api_fail(r, err, SV_VZ_EBODY);
    else
        sv_api_error(r, status, err->api_code ? err->api_code : SV_VZ_EBODY, "%s", err->msg);
}

static void ok(sv_req *r, sv_str result, sv_str messages)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, result.n + messages.n + 256);
    sv_buf_adds(&b, "{\"success\":true,\"errors\":[],\"messages\":");
    sv_buf_add(&b, messages.p, messages.n);
    sv_buf_adds(&b, ",\"result\":");
    sv_buf_add(&b, result.p, result.n);
    sv_buf_addc(&b, '}');
    sv_req_send(r, 200, "application/json", sv_buf_str(&b));
}

static const sv_vz_dialect rest = {.ok = ok, .refuse = refuse, .batch = SV_LIMIT_VEC_BATCH};

static sv_str account_of(sv_req *r) { return sv_str_of(((const sv_principal *)sv_req_user(r))->account_id); }

/* false: it has answered. */
static bool call_of(sv_vz_call *c, sv_req *r, void *ctx)
{
    sv_err err = {0};
    *c = (sv_vz_call){.vz = ctx, .r = r, .d = &rest, .account = account_of(r)};
    if (sv_req_param(r, "index", &c->index, &err) == SV_OK)
        return true;
    err.api_code = 3000;
    refuse(r, &err);
    return false;
}

/* ---- indexes ---- */

static sv_rc create(sv_vectorize *vz, sv_req *r, json_t **out, sv_err *err)
{
    sv_str name = {0}, description = {0};
    sv_vz_config config = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (sv_json_parse(&body, sv_req_body(r), err) != SV_OK)
        return err->code;
    const json_t *c = json_object_get(body, "config");
    if (sv_json_str(body, "name", &name, err) != SV_OK || sv_json_str(body, "description", &description, err) != SV_OK)
        return err->code;
    if (!json_is_object(c))
        return sv_fail_api(err, SV_EINVAL, 3001, "vectorize.index.invalid_config - 'config' must have 'dimensions' and 'metric', or 'preset'");
    if (sv_json_int(c, "dimensions", INT64_MIN, INT64_MAX, &config.dimensions, err) != SV_OK || sv_json_str(c, "metric", &config.metric, err) != SV_OK ||
        sv_json_str(c, "preset", &config.preset, err) != SV_OK)
        return err->code;
    return sv_vectorize_create(vz, account_of(r), name, description, &config, out, err);
}

static void post_index(sv_req *r, void *ctx)
{
    sv_err err = {0};
    json_t *j = NULL;
    if (create(ctx, r, &j, &err) == SV_OK) {
        sv_api_ok(r, j);
        return;
    }
    if (!err.api_code)
        err.api_code = 3001;
    refuse(r, &err);
}

static void get_indexes(sv_req *r, void *ctx) { sv_api_ok(r, sv_vectorize_list(ctx, account_of(r))); }

static void get_index(sv_req *r, void *ctx)
{
    sv_vz_call c;
    sv_err err = {0};
    json_t *j = NULL;
    if (!call_of(&c, r, ctx))
        return;
    if (sv_vectorize_get(c.vz, c.account, c.index, &j, &err) == SV_OK)
        sv_api_ok(r, j);
    else
        refuse(r, &err);
}

static void delete_index(sv_req *r, void *ctx)
{
    sv_vz_call c;
    sv_err err = {0};
    if (!call_of(&c, r, ctx))
        return;
    if (sv_vectorize_delete(c.vz, c.account, c.index, &err) == SV_OK)
        sv_api_ok(r, NULL);
    else
        refuse(r, &err);
}

/* ---- vectors ---- */

static sv_rc vectors_of(sv_req *r, sv_str *out, bool *discard, sv_err *err)
{
    sv_str type = sv_req_header(r, "content-type"), body = sv_req_body(r), behaviour;
    sv_parts parts;
    *discard = false;
    if (sv_req_query(r, "unparsable-behavior", 0, &behaviour)) {
        *discard = sv_str_is(behaviour, "discard");
        if (!*discard && !sv_str_is(behaviour, "error"))
            return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "'unparsable-behavior' must be \"error\" or \"discard\"");
    }
    *out = body;
    if (!sv_str_starts(type, "multipart/") && !sv_str_starts(body, "--"))
        return SV_OK;
    if (sv_multipart_parse(&parts, sv_req_arena(r), type, body, err) != SV_OK)
        return err->code;
    const sv_part *p = sv_parts_find(&parts, "vectors");
    if (!p)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "the form has no part 'vectors'");
    *out = p->data;
    return SV_OK;
}

static void put_vectors(sv_req *r, void *ctx, void (*put)(const sv_vz_call *, sv_str, bool))
{
    sv_vz_call c;
    sv_err err = {0};
    sv_str text;
    bool discard;
    if (!call_of(&c, r, ctx))
        return;
    if (vectors_of(r, &text, &discard, &err) == SV_OK)
        put(&c, text, discard);
    else
        refuse(r, &err);
}

static void post_insert(sv_req *r, void *ctx) { put_vectors(r, ctx, sv_vz_insert); }
static void post_upsert(sv_req *r, void *ctx) { put_vectors(r, ctx, sv_vz_upsert); }

#define SV_VZ_ROUTE(name, does)              \
    static void name(sv_req *r, void *ctx)   \
    {                                        \
        sv_vz_call c;                        \
        if (call_of(&c, r, ctx))             \
            does(&c);                        \
    }
SV_VZ_ROUTE(post_query, sv_vz_query)
SV_VZ_ROUTE(post_get_by_ids, sv_vz_get_by_ids)
SV_VZ_ROUTE(post_delete_by_ids, sv_vz_delete_by_ids)
SV_VZ_ROUTE(post_delete_by_filter, sv_vz_delete_by_filter)
SV_VZ_ROUTE(get_list, sv_vz_list_vectors)
SV_VZ_ROUTE(get_info, sv_vz_info)
SV_VZ_ROUTE(post_field_create, sv_vz_field_create)
SV_VZ_ROUTE(get_field_list, sv_vz_field_list)
SV_VZ_ROUTE(post_field_delete, sv_vz_field_delete)

void sv_vectorize_rest_routes(sv_http *s, sv_vectorize *vz)
{
#define A "/client/v4/accounts/:account/vectorize/v2/indexes"
    const size_t json = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES), upload = (size_t)sv_limit_value(SV_LIMIT_VEC_UPLOAD_BYTES);
    const sv_route routes[] = {
        {.method = "POST", .path = A, .fn = post_index, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = A, .fn = get_indexes, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = A "/:index", .fn = get_index, .flags = SV_ROUTE_JOB},
        {.method = "DELETE", .path = A "/:index", .fn = delete_index, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = A "/:index/info", .fn = get_info, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = A "/:index/list", .fn = get_list, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/insert", .fn = post_insert, .max_body = upload, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/upsert", .fn = post_upsert, .max_body = upload, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/query", .fn = post_query, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/get_by_ids", .fn = post_get_by_ids, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/delete_by_ids", .fn = post_delete_by_ids, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/delete_by_filter", .fn = post_delete_by_filter, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/metadata_index/create", .fn = post_field_create, .max_body = json, .flags = SV_ROUTE_JOB},
        {.method = "GET", .path = A "/:index/metadata_index/list", .fn = get_field_list, .flags = SV_ROUTE_JOB},
        {.method = "POST", .path = A "/:index/metadata_index/delete", .fn = post_field_delete, .max_body = json, .flags = SV_ROUTE_JOB},
    };
#undef A
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], vz);
}
