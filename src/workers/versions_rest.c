/* versions_rest.c - versions and deployments: upload without deploying, list, look, deploy, roll back
 *
 * A rollback is a deployment of an older version; there is no operation of its own. Deployments that split traffic by percentages
 * are refused: this release serves one version of a Worker at a time. */
#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "workers/rest_impl.h"

enum { PER_PAGE = 10, DEPLOYMENTS_SHOWN = 10 };

/* ---- versions ---- */

static json_t *version_metadata(const sv_version *v)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:s, s:b, s:b}", "created_on", sv_json_time(v->created_ms), "modified_on",
                     sv_json_time(v->created_ms), "source", sv_json_cstr(v->meta, "source"), "author_id", "", "author_email",
                     sv_json_cstr(v->meta, "author"), "has_preview", 0, "hasPreview", 0);
}

/* Whole: wrangler reads bindings out of lists too. */
static json_t *version_json(const sv_version *v)
{
    json_t *o = json_pack("{s:s, s:I, s:o, s:O?}", "id", v->id, "number", (json_int_t)v->number, "metadata", version_metadata(v),
                          "annotations", json_object_get(v->meta, "annotations"));
    json_t *runtime =
        json_pack("{s:s, s:O?, s:s, s:{}}", "compatibility_date", sv_json_cstr(v->meta, "compatibility_date"),
                  "compatibility_flags", json_object_get(v->meta, "compatibility_flags"), "usage_model", "standard", "limits");
    json_t *script = json_pack("{s:s, s:[s], s:s, s:s}", "etag", sv_json_cstr(v->meta, "etag"), "handlers", "fetch",
                               "last_deployed_from", sv_json_cstr(v->meta, "source"), "placement_mode", "");
    json_object_set_new(
        o, "resources",
        json_pack("{s:o, s:o, s:o}", "script", script, "script_runtime", runtime, "bindings", sv_json_bindings(v)));
    json_object_set_new(o, "startup_time_ms", json_integer(v->startup_ms));
    return o;
}

static int64_t query_number(sv_req *r, const char *name, int64_t fallback)
{
    sv_str s;
    int64_t n;
    return sv_req_query(r, name, 0, &s) && sv_str_to_i64(s, &n) && n > 0 && n < 1000000 ? n : fallback;
}

static void get_versions(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    sv_version *all = NULL;
    size_t n = 0;
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_rc rc = sv_store_versions(c.w, &all, &n, s.key, &err);
    sv_script_done(&s);
    if (rc != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    int64_t page = query_number(r, "page", 1), per_page = query_number(r, "per_page", PER_PAGE);
    json_t *items = json_array();
    for (size_t i = 0; i < n; i++) {
        if ((int64_t)i >= (page - 1) * per_page && (int64_t)i < page * per_page)
            json_array_append_new(items, version_json(&all[i]));
        sv_version_done(&all[i]);
    }
    free(all);
    json_t *info = json_pack("{s:I, s:I, s:I, s:I, s:I}", "page", (json_int_t)page, "per_page", (json_int_t)per_page, "count",
                             (json_int_t)json_array_size(items), "total_count", (json_int_t)n, "total_pages",
                             (json_int_t)(((int64_t)n + per_page - 1) / per_page));
    sv_api_ok_info(r, json_pack("{s:o}", "items", items), info);
}

static void get_version(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    sv_version v = {0};
    char id[64];
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_str raw = sv_req_param_raw(r, "version");
    snprintf(id, sizeof id, "%.*s", (int)(raw.n < 60 ? raw.n : 60), raw.p);
    sv_which which = strcmp(id, "latest") == 0 ? SV_LATEST : SV_BY_ID;
    if (sv_store_version(c.w, &v, s.key, which, which == SV_BY_ID ? id : NULL, false, &err) == SV_OK)
        sv_api_ok(r, version_json(&v));
    else
        sv_call_fail(&c, &err);
    sv_version_done(&v);
    sv_script_done(&s);
}

static void post_version(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_upload u = {0};
    sv_version v = {0};
    char today[11];
    sv_str inherit;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    sv_today(today);
    bool strict = sv_req_query(r, "bindings_inherit", 0, &inherit) && sv_str_is(inherit, "strict");
    sv_rc rc = sv_upload_parse(&u, sv_req_arena(r), sv_req_header(r, "content-type"), sv_req_body(r), today, &err);
    if (rc == SV_OK)
        rc = sv_deploy_upload(c.w, &c.by, c.name, &u, SV_UPLOAD_ONLY, strict, &v, &err);
    if (rc == SV_OK)
        sv_api_ok(r, version_json(&v));
    else
        sv_call_fail(&c, &err);
    sv_version_done(&v);
    sv_upload_done(&u);
}

/* ---- deployments ---- */

static json_t *deployment_json(const sv_deployment *d)
{
    json_t *o =
        json_pack("{s:s, s:O?, s:s, s:O?, s:O?, s:[{s:s, s:i}]}", "id", d->id, "source", json_object_get(d->meta, "source"),
                  "strategy", "percentage", "author_email", json_object_get(d->meta, "author"), "annotations",
                  json_object_get(d->meta, "annotations"), "versions", "version_id", d->version, "percentage", 100);
    json_object_set_new(o, "created_on", sv_json_time(d->created_ms));
    return o;
}

/* The newest `most` deployments, or the one named `id`. NULL: it has answered. */
static json_t *deployments_json(sv_call *c, size_t most, const char *id)
{
    sv_err err = {0};
    sv_script s = {0};
    sv_deployment *all = NULL;
    size_t n = 0;
    if (!sv_call_script(c, &s))
        return NULL;
    sv_rc rc = sv_store_deployments(c->w, &all, &n, s.key, &err);
    sv_script_done(&s);
    if (rc != SV_OK) {
        sv_call_fail(c, &err);
        return NULL;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (id ? strcmp(all[i].id, id) == 0 : i < most)
            json_array_append_new(list, deployment_json(&all[i]));
        sv_deployment_done(&all[i]);
    }
    free(all);
    return list;
}

static void get_deployments(sv_req *r, void *ctx)
{
    sv_call c;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    json_t *list = deployments_json(&c, DEPLOYMENTS_SHOWN, NULL);
    if (list)
        sv_api_ok(r, json_pack("{s:o}", "deployments", list));
}

static void get_deployment(sv_req *r, void *ctx)
{
    sv_call c;
    char id[64];
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    sv_str raw = sv_req_param_raw(r, "deployment");
    snprintf(id, sizeof id, "%.*s", (int)(raw.n < 60 ? raw.n : 60), raw.p);
    SV_AUTO(sv_json_decrefp) json_t *list = deployments_json(&c, 0, id);
    if (!list)
        return;
    if (json_array_size(list))
        sv_api_ok(r, json_incref(json_array_get(list, 0)));
    else
        sv_api_error(r, 404, 10336, "There is no deployment %s of this Worker", id);
}

/* The one version that a deployment's body names, or NULL with err. */
static const char *only_version(const json_t *body, sv_err *err)
{
    const char *strategy = sv_json_cstr(body, "strategy");
    const json_t *versions = json_object_get(body, "versions"), *first = json_array_get(versions, 0);
    if (strategy && strcmp(strategy, "percentage") != 0) {
        sv_fail_api(err, SV_EINVAL, 10021, "strategy '%.40s' is not in this release, only 'percentage' with one version",
                    strategy);
        return NULL;
    }
    if (!json_is_array(versions) || !sv_json_cstr(first, "version_id")) {
        sv_fail_api(err, SV_EINVAL, 10026, "'versions' is not a list of {version_id, percentage}");
        return NULL;
    }
    double percentage = json_number_value(json_object_get(first, "percentage"));
    if (json_array_size(versions) != 1 || percentage != 100) {
        sv_fail_api(err, SV_EINVAL, 10021, "Deployments that split traffic are not in this release: deploy one version at 100%%");
        return NULL;
    }
    return sv_json_cstr(first, "version_id");
}

static void post_deployment(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_deployment d = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    const char *version = only_version(body, &err);
    if (version && sv_deploy_version(c.w, &c.by, c.name, version, json_object_get(body, "annotations"), &d, &err) == SV_OK)
        sv_api_ok(r, deployment_json(&d));
    else
        sv_call_fail(&c, &err);
    sv_deployment_done(&d);
}

/* ---- a new version by a patch of the latest: `wrangler versions secret` ---- */

typedef struct env_patch {
    const json_t *env, *annotations;
} env_patch;

static void drop_binding(sv_version *v, const char *name)
{
    json_t *bindings = json_object_get(v->meta, "bindings"), *b;
    size_t i;
    json_array_foreach (bindings, i, b)
        if (strcmp(sv_json_cstr(b, "name"), name) == 0) {
            json_array_remove(bindings, i);
            break;
        }
    json_object_del(v->secrets, name);
}

static sv_rc patch_env(sv_version *v, void *arg, sv_err *err)
{
    const env_patch *p = arg;
    const char *name;
    json_t *e;
    json_object_foreach ((json_t *)(uintptr_t)p->env, name, e) {
        drop_binding(v, name);
        if (json_is_null(e))
            continue;
        const char *type = sv_json_cstr(e, "type");
        const json_t *text = json_object_get(e, "text");
        if (!type || strcmp(type, "secret_text") != 0 || !json_is_string(text))
            return sv_fail_api(err, SV_EINVAL, 10021,
                               "env.%s: only {\"type\": \"secret_text\", \"text\": ...} and null can be patched in this release",
                               name);
        if (sv_secret_check(sv_str_of(name), (sv_str){json_string_value(text), json_string_length(text)}, err) != SV_OK)
            return err->code;
        json_array_append_new(json_object_get(v->meta, "bindings"), json_pack("{s:s, s:s}", "name", name, "type", "secret_text"));
        json_object_set(v->secrets, name, (json_t *)(uintptr_t)text);
    }
    json_object_update(json_object_get(v->meta, "annotations"), (json_t *)(uintptr_t)p->annotations);
    return sv_bindings_check(json_object_get(v->meta, "bindings"), true, err);
}

static void patch_latest(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_version v = {0};
    if (!sv_call_begin(&c, r, ctx, 10025))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    const char *key;
    json_t *member;
    json_object_foreach (body, key, member)
        if (strcmp(key, "env") != 0 && strcmp(key, "annotations") != 0) {
            sv_api_error(r, 400, 10021, "'%.60s' cannot be patched in this release, only 'env' and 'annotations'", key);
            return;
        }
    env_patch p = {json_object_get(body, "env"), json_object_get(body, "annotations")};
    if (sv_deploy_derived(c.w, &c.by, c.name, SV_UPLOAD_ONLY, "version_upload", patch_env, &p, &v, &err) == SV_OK)
        sv_api_ok(r, version_json(&v));
    else
        sv_call_fail(&c, &err);
    sv_version_done(&v);
}

void sv_versions_routes(sv_http *api, sv_workers *w)
{
    size_t upload = (size_t)sv_limit_value(SV_LIMIT_UPLOAD_BYTES), body = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES);
    const sv_route routes[] = {
        {.method = "GET", .path = SV_SCRIPT_PATH "/versions", .fn = get_versions},
        {.method = "POST", .path = SV_SCRIPT_PATH "/versions", .fn = post_version, .max_body = upload},
        {.method = "GET", .path = SV_SCRIPT_PATH "/versions/:version", .fn = get_version},
        {.method = "GET", .path = SV_SCRIPT_PATH "/deployments", .fn = get_deployments},
        {.method = "GET", .path = SV_SCRIPT_PATH "/deployments/:deployment", .fn = get_deployment},
        {.method = "POST", .path = SV_SCRIPT_PATH "/deployments", .fn = post_deployment, .max_body = body},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/workers/:name/versions", .fn = get_versions},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/workers/:name/versions/:version", .fn = get_version},
        {.method = "PATCH",
         .path = SV_ACCOUNT_PATH "/workers/workers/:name/versions/latest",
         .fn = patch_latest,
         .max_body = body},
    };
    sv_routes_add(api, w, routes, SV_LEN(routes));
}
