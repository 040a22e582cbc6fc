/* kv_binding.c - what workerd's kvNamespace binding sends, on the Worker's own socket
 *
 * The key is one segment of the path, where '+' is a plus; prefix and cursor are in the query, where it is a space. A refusal is read from
 * the reason phrase and nothing else; a get sees 404 as null, so that nothing but a missing key may be 404 there. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kv/kv_impl.h"

enum { MAX_BULK_BODY = 1 << 20 };

static void fail(sv_req *r, const sv_err *err)
{
    int status = err->api_code == 10013 ? 400 : sv_kvs_status(err);
    char reason[sizeof err->msg];
    snprintf(reason, sizeof reason, "%s", status == 404 ? "Not Found" : err->msg);
    if (status >= 500) {
        sv_log(SV_ERROR, "kv.binding", "id=%s rc=%s error='%s'", sv_req_id(r), sv_rc_name(err->code), err->msg);
        snprintf(reason, sizeof reason, "internal error; the log has it under %s", sv_req_id(r));
    }
    sv_req_send_reason(r, status, reason, "text/plain; charset=utf-8", sv_str_of(reason));
}

static void done(sv_req *r) { sv_req_send(r, 200, "text/plain", SV_STR("")); }

static void head(sv_req *r, const sv_kvs_value *v)
{
    char at[32];
    sv_req_add_header(r, "Content-Type", "application/octet-stream");
    if (v->metadata)
        sv_req_add_header(r, "CF-KV-Metadata", v->metadata);
    if (v->expires_s) {
        snprintf(at, sizeof at, "%lld", (long long)v->expires_s);
        sv_req_add_header(r, "CF-Expiration", at);
    }
}

static const sv_kvs_dialect binding = {.fail = fail, .done = done, .head = head};

static sv_kvs_call *begin(sv_kvs_http *h, sv_req *r)
{
    sv_str id = sv_req_header(r, "x-sv-binding"); /* "kv:ID": the prefix brought us here */
    return sv_kvs_call_new(h, &binding, r, (sv_str){id.p + 3, id.n > 3 ? id.n - 3 : 0}, sv_req_param_raw(r, "key"));
}

static void check_cache_ttl(sv_kvs_call *c, sv_str text)
{
    int64_t ttl = 0;
    if (!c->err.code && text.n && (!sv_str_to_i64(text, &ttl) || ttl < SV_KVS_MIN_CACHE_TTL_S))
        sv_fail_api(&c->err, SV_EINVAL, 10012, "Invalid cache_ttl of %.*s. Cache TTL must be at least %d.", text.n < 40 ? (int)text.n : 40, text.p,
                    SV_KVS_MIN_CACHE_TTL_S);
}

static sv_str query(sv_req *r, const char *name)
{
    sv_str s;
    return sv_req_query(r, name, 0, &s) ? s : (sv_str){0};
}

static void get_key(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    check_cache_ttl(c, query(r, "cache_ttl"));
    sv_kvs_call_get(c, r);
}

static void put_key(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    if (!c->err.code && sv_kvs_expiry(query(r, "expiration"), query(r, "expiration_ttl"), &c->change.expires_s, &c->err) == SV_OK)
        sv_kvs_call_metadata(c, sv_req_header(r, "cf-kv-metadata"));
    sv_kvs_call_put(c, r);
}

static void delete_key(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    c->change.op = SV_KVS_DELETE;
    sv_kvs_call_change(c, r);
}

static void answer_json(sv_req *r, void *arg)
{
    sv_kvs_call *c = arg;
    size_t n = c->answer.n;
    sv_req_send_memory(r, 200, "application/json", sv_buf_take(&c->answer), n);
}

/* ---- list ---- */

static void list_work(void *arg)
{
    sv_kvs_call *c = arg;
    size_t n;
    SV_AUTO(sv_buf_donep) sv_buf next;
    sv_buf_init(&next, 4096);
    sv_buf_adds(&c->answer, "{\"keys\":");
    if (sv_kvs_call_list(c, true, &next, &n) != SV_OK)
        return;
    sv_buf_addf(&c->answer, ",\"list_complete\":%s", next.n ? "false,\"cursor\":" : "true");
    if (next.n)
        sv_json_add_str(&c->answer, sv_buf_str(&next));
    sv_buf_addc(&c->answer, '}');
    if (c->answer.failed)
        sv_fail(&c->err, SV_ENOMEM, "the answer is too large to be built");
}

static void list_keys(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    sv_kvs_call_page(c, query(r, "prefix"), query(r, "cursor"), query(r, "key_count_limit"), "key_count_limit");
    sv_kvs_call_work(c, r, list_work, answer_json);
}

/* ---- bulk get ---- */

static void bulk_work(void *arg)
{
    sv_kvs_call *c = arg;
    sv_kvs_bulk_opts o;
    sv_str ttl = {0};
    json_t *v = json_object_get(c->body, "cacheTtl"); /* a string */
    if (json_is_string(v))
        ttl = (sv_str){json_string_value(v), json_string_length(v)};
    if (sv_kvs_bulk_parse(c->body, &o, &c->err) != SV_OK)
        return;
    check_cache_ttl(c, ttl);
    if (!c->err.code)
        sv_kvs_bulk_get(c, &o);
}

static void bulk_get(sv_req *r, void *ctx)
{
    sv_kvs_call *c = begin(ctx, r);
    if (sv_json_parse(&c->body, sv_req_body(r), &c->err) != SV_OK)
        c->err.api_code = 10012;
    sv_kvs_call_work(c, r, bulk_work, answer_json);
}

void sv_kvs_binding_routes(sv_http *s, sv_kvs_http *h)
{
    const sv_route routes[] = {
        {.method = "GET", .path = "/kv", .fn = list_keys},
        {.method = "GET", .path = "/kv/:key", .fn = get_key},
        {.method = "PUT", .path = "/kv/:key", .fn = put_key, .flags = SV_ROUTE_STREAM},
        {.method = "DELETE", .path = "/kv/:key", .fn = delete_key},
        {.method = "POST", .path = "/kv/bulk/get", .fn = bulk_get, .max_body = MAX_BULK_BODY, .flags = SV_ROUTE_DRAIN_FIRST},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(s, &routes[i], h);
}
