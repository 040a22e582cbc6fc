/* assets_rest.c - the upload of static assets: a session with a manifest, then the files that the account does not have yet
 *
 * Files come in buckets, a form each, base64 as text; or one by one as they are. The answer that completes the manifest carries
 * the completion token, and so may an answer beside it when two arrive together: both are right. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "account/limits.h"
#include "http/multipart.h"
#include "workers/rest_impl.h"

enum { BUCKET_FILES = 200, BUCKET_BYTES = 30 << 20 };

/* Splits the missing hashes so that each bucket's form stays well below the limit of a body. */
static json_t *buckets_of(const json_t *missing, const json_t *manifest)
{
    SV_AUTO(sv_json_decrefp) json_t *sizes = json_object();
    const char *path;
    json_t *e;
    json_object_foreach ((json_t *)(uintptr_t)manifest, path, e)
        json_object_set(sizes, sv_json_cstr(e, "hash"), json_object_get(e, "size"));
    json_t *buckets = json_array(), *bucket = NULL;
    int64_t bytes = 0;
    size_t i;
    json_array_foreach ((json_t *)(uintptr_t)missing, i, e) {
        int64_t size = json_integer_value(json_object_get(sizes, json_string_value(e)));
        if (!bucket || json_array_size(bucket) == BUCKET_FILES || bytes + size > BUCKET_BYTES) {
            bucket = json_array();
            json_array_append_new(buckets, bucket);
            bytes = 0;
        }
        json_array_append(bucket, e);
        bytes += size;
    }
    return buckets;
}

static void post_session(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *missing = NULL;
    SV_AUTO(sv_buf_donep) sv_buf token;
    sv_buf_init(&token, 4096);
    if (!sv_call_begin(&c, r, ctx, 10016))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    json_t *manifest = json_object_get(body, "manifest");
    if (sv_worker_name_check(sv_str_of(c.name), &err) != SV_OK ||
        sv_assets_check(c.w, c.by.account, manifest, &missing, &err) != SV_OK ||
        sv_assets_session(c.w, c.by.account, c.name, manifest, json_array_size(missing) == 0, &token, &err) != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    sv_api_ok(r, json_pack("{s:s, s:o}", "jwt", sv_buf_cstr(&token), "buckets", buckets_of(missing, manifest)));
}

static sv_rc put_part(sv_workers *w, const sv_asset_session *s, sv_str hash, sv_str text, bool base64, sv_err *err)
{
    if (!base64)
        return sv_assets_put(w, s, hash, text, err);
    SV_AUTO(sv_buf_donep) sv_buf bytes;
    sv_buf_init(&bytes, (size_t)sv_limit_value(SV_LIMIT_ASSET_BYTES) + 4);
    if (sv_base64_decode(&bytes, text, err) != SV_OK) {
        err->api_code = 10021;
        return sv_wrap(err, "asset %.*s", (int)(hash.n > 40 ? 40 : hash.n), hash.p);
    }
    return sv_assets_put(w, s, hash, sv_buf_str(&bytes), err);
}

static sv_rc put_all(sv_workers *w, sv_req *r, const sv_asset_session *s, sv_err *err)
{
    sv_parts parts = {0};
    sv_str flag, one = sv_req_param_raw(r, "hash");
    bool base64 = sv_req_query(r, "base64", 0, &flag) && sv_str_is(flag, "true");
    if (one.n)
        return put_part(w, s, one, sv_req_body(r), base64, err);
    if (sv_multipart_parse(&parts, sv_req_arena(r), sv_req_header(r, "content-type"), sv_req_body(r), err) != SV_OK) {
        err->api_code = 10026;
        return err->code;
    }
    for (size_t i = 0; i < parts.n; i++)
        if (put_part(w, s, parts.v[i].name, parts.v[i].data, base64, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static void post_upload(sv_req *r, void *ctx)
{
    sv_call c = {.w = ctx, .r = r};
    sv_err err = {0};
    sv_asset_session s = {0};
    SV_AUTO(sv_json_decrefp) json_t *missing = NULL;
    sv_str auth = sv_req_header(r, "authorization");
    sv_str token =
        auth.n > 7 && strncasecmp(auth.p, "bearer ", 7) == 0 ? sv_str_trim((sv_str){auth.p + 7, auth.n - 7}) : (sv_str){0};
    if (sv_assets_open_token(c.w, token, &s, &err) != SV_OK) {
        if (err.code == SV_EINVAL)
            sv_api_error(r, 401, 10000, "%s", err.msg);
        else
            sv_call_fail(&c, &err);
        return;
    }
    sv_str account = sv_req_param_raw(r, "account_id");
    if (!sv_str_is(account, s.account)) {
        sv_api_error(r, 403, 10000, "The asset upload token is for another account");
    } else if (put_all(c.w, r, &s, &err) != SV_OK || sv_assets_check(c.w, s.account, s.manifest, &missing, &err) != SV_OK) {
        sv_call_fail(&c, &err);
    } else if (json_array_size(missing)) {
        sv_api_ok_status(r, 202, json_object());
    } else {
        SV_AUTO(sv_buf_donep) sv_buf jwt;
        sv_buf_init(&jwt, 4096);
        sv_assets_complete_token(c.w, &s, &jwt);
        sv_api_ok_status(r, 201, json_pack("{s:s}", "jwt", sv_buf_cstr(&jwt)));
    }
    sv_asset_session_done(&s);
}

void sv_assets_routes(sv_http *api, sv_workers *w)
{
    size_t manifest = (size_t)sv_limit_value(SV_LIMIT_MANIFEST_BYTES),
           upload = (size_t)sv_limit_value(SV_LIMIT_ASSET_UPLOAD_BYTES);
    const sv_route routes[] = {
        {.method = "POST", .path = SV_SCRIPT_PATH "/assets-upload-session", .fn = post_session, .max_body = manifest},
        {.method = "POST", .path = SV_ACCOUNT_PATH "/workers/assets/upload", .fn = post_upload, .max_body = upload},
        {.method = "POST", .path = SV_ACCOUNT_PATH "/workers/assets/upload/:hash", .fn = post_upload, .max_body = upload},
    };
    sv_routes_add(api, w, routes, SV_LEN(routes));
}
