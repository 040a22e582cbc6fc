/* workers_rest.c - scripts as a whole: list, upload, download, delete; the undocumented look-ups that wrangler makes around them
 *
 * Three families of paths name the same thing: workers/scripts (documented), workers/services (older than it, read by wrangler to
 * learn whether a Worker exists) and workers/workers (newer). All read one store. */
#include "workers/workers_rest.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/time.h"
#include "workers/rest_impl.h"

/* ---- shared by the four files ---- */

bool sv_call_begin(sv_call *c, sv_req *r, void *ctx, int missing)
{
    const sv_principal *who = sv_req_user(r);
    *c = (sv_call){.w = ctx, .r = r};
    if (!who) {
        sv_api_error(r, 403, 10000, "Authentication error");
        return false;
    }
    bool is_wrangler = sv_str_starts(sv_req_header(r, "user-agent"), "wrangler");
    c->by = (sv_author){.account = who->account_id, .name = who->name, .source = is_wrangler ? "wrangler" : "api"};
    if (sv_req_param_raw(r, "name").n == 0)
        return true;
    sv_str name;
    sv_err err = {0};
    if (sv_req_param(r, "name", &name, &err) != SV_OK || name.n >= sizeof c->name) {
        sv_api_error(r, 404, missing, "This Worker does not exist on your account.");
        return false;
    }
    snprintf(c->name, sizeof c->name, "%.*s", (int)name.n, name.p);
    return true;
}

void sv_call_fail(sv_call *c, const sv_err *err)
{
    int status = err->api_code == 10027   ? sv_limit_status(SV_LIMIT_SCRIPT_BYTES)
                 : err->api_code == 10037 ? sv_limit_status(SV_LIMIT_WORKERS)
                                          : 0;
    if (status && err->code == SV_EINVAL)
        sv_api_error(c->r, status, err->api_code, "%s", err->msg);
    else
        sv_api_fail(c->r, err, err->code == SV_EFORMAT ? 10026 : err->code == SV_EINVAL ? 10021 : 10013);
}

bool sv_call_script(sv_call *c, sv_script *s)
{
    sv_err err = {0};
    if (sv_store_script(c->w, s, c->by.account, c->name, &err) == SV_OK)
        return true;
    sv_call_fail(c, &err);
    return false;
}

json_t *sv_call_json(sv_call *c)
{
    json_t *body = NULL;
    sv_err err = {0};
    if (sv_json_parse(&body, sv_req_body(c->r), &err) == SV_OK && (json_is_object(body) || json_is_array(body)))
        return body;
    json_decref(body);
    sv_api_error(c->r, 400, 10026, "The body is not the JSON it should be%s%s", err.msg[0] ? ": " : "", err.msg);
    return NULL;
}

json_t *sv_json_time(int64_t ms)
{
    char text[32];
    sv_iso8601(text, ms);
    return json_string(text);
}

void sv_today(char out[11])
{
    /* Somewhere on earth the next day has begun: a client there may ask for its own today. */
    time_t t = (time_t)(sv_now_ms() / 1000) + 14 * 3600;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 11, "%Y-%m-%d", &tm);
}

void sv_routes_add(sv_http *api, sv_workers *w, const sv_route *routes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sv_route r = routes[i];
        r.flags |= SV_ROUTE_JOB;
        sv_http_route(api, &r, w);
    }
}

json_t *sv_json_bindings(const sv_version *v)
{
    json_t *bindings = json_object_get(v->meta, "bindings");
    return bindings ? json_incref(bindings) : json_array();
}

/* ---- one script ---- */

/* The object that lists and uploads answer with. */
static json_t *script_json(const sv_script *s, const sv_version *v)
{
    const json_t *meta = v->meta;
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s, s:b, s:b, s:b, s:s, s:O?, s:O?, s:O?, s:O?}", "id", s->name, "tag", s->tag,
                  "etag", sv_json_cstr(meta, "etag"), "handlers", "fetch", "usage_model", "standard", "last_deployed_from",
                  sv_json_cstr(meta, "source"), "logpush", 0, "has_assets", json_is_object(json_object_get(meta, "assets")),
                  "has_modules", json_is_string(json_object_get(meta, "main_module")), "compatibility_date",
                  sv_json_cstr(meta, "compatibility_date"), "compatibility_flags", json_object_get(meta, "compatibility_flags"),
                  "tags", json_object_get(s->settings, "tags"), "observability", json_object_get(s->settings, "observability"),
                  "placement", json_object_get(json_object_get(meta, "runtime"), "placement"));
    json_object_set_new(o, "created_on", sv_json_time(s->created_ms));
    json_object_set_new(o, "modified_on", sv_json_time(s->modified_ms));
    if (sv_json_cstr(s->objects, "tag"))
        json_object_set(o, "migration_tag", json_object_get(s->objects, "tag"));
    return o;
}

static void get_scripts(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script *all = NULL;
    size_t n = 0;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    sv_rc rc = sv_store_scripts(c.w, &all, &n, c.by.account, &err);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        sv_version v = {0};
        if (rc == SV_OK && (rc = sv_store_version(c.w, &v, all[i].key, SV_DEPLOYED, NULL, false, &err)) == SV_OK)
            json_array_append_new(list, script_json(&all[i], &v));
        if (rc == SV_ENOENT) /* deleted since the list was read */
            rc = SV_OK;
        sv_version_done(&v);
        sv_script_done(&all[i]);
    }
    free(all);
    if (rc == SV_OK) {
        sv_api_ok(r, list);
        return;
    }
    json_decref(list);
    sv_call_fail(&c, &err);
}

/* The classes of Durable Objects of all the account's Workers. */
static void get_namespaces(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script *all = NULL;
    size_t n = 0, k;
    json_t *o;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    if (sv_store_scripts(c.w, &all, &n, c.by.account, &err) != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_foreach (json_object_get(all[i].objects, "classes"), k, o) {
            char name[400];
            snprintf(name, sizeof name, "%s_%s", all[i].name, sv_json_cstr(o, "class"));
            json_array_append_new(list, json_pack("{s:O, s:s, s:s, s:O, s:O}", "id", json_object_get(o, "id"), "name", name, "script", all[i].name, "class",
                                                  json_object_get(o, "class"), "use_sqlite", json_object_get(o, "sqlite")));
        }
        sv_script_done(&all[i]);
    }
    free(all);
    sv_api_ok_page(r, list, 100);
}

static void put_script(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_upload u = {0};
    sv_version v = {0};
    char today[11];
    sv_str inherit;
    if (!sv_call_begin(&c, r, ctx, 10016))
        return;
    sv_today(today);
    bool strict = sv_req_query(r, "bindings_inherit", 0, &inherit) && sv_str_is(inherit, "strict");
    sv_rc rc = sv_upload_parse(&u, sv_req_arena(r), sv_req_header(r, "content-type"), sv_req_body(r), today, &err);
    if (rc == SV_OK)
        rc = sv_deploy_upload(c.w, &c.by, c.name, &u, SV_DEPLOY_NOW, strict, &v, &err);
    sv_script s = {0};
    if (rc == SV_OK)
        rc = sv_store_script(c.w, &s, c.by.account, c.name, &err);
    if (rc == SV_OK) {
        json_t *o = script_json(&s, &v);
        char id[33];
        size_t k = 0;
        for (const char *p = v.id; *p && k < 32; p++)
            if (*p != '-')
                id[k++] = *p;
        id[k] = 0;
        json_object_set_new(o, "deployment_id", json_string(id)); /* the version's, in truth */
        json_object_set_new(o, "startup_time_ms", json_integer(v.startup_ms));
        sv_api_ok(r, o);
    } else {
        sv_call_fail(&c, &err);
    }
    sv_script_done(&s);
    sv_version_done(&v);
    sv_upload_done(&u);
}

static void delete_script(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_str force;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    bool forced = sv_req_query(r, "force", 0, &force) && sv_str_is(force, "true");
    if (sv_deploy_delete(c.w, c.by.account, c.name, forced, &err) != SV_OK)
        sv_call_fail(&c, &err);
    else
        sv_api_ok(r, json_pack("{s:s}", "id", c.name));
}

/* ---- downloads ---- */

static sv_rc module_bytes(const sv_call *c, const sv_version *v, const json_t *module, sv_buf *out, sv_err *err)
{
    char folder[4096], path[4300];
    sv_version_folder(c->w, v->key, v->folder, folder);
    snprintf(path, sizeof path, "%s/%.32s", folder, sv_json_cstr(module, "file"));
    return sv_file_read(out, path, err);
}

static sv_rc add_part(const sv_call *c, const sv_version *v, const json_t *module, const char *boundary, sv_buf *out, sv_err *err)
{
    sv_module_kind kind = SV_MODULE_DATA;
    sv_module_kind_of_name(sv_json_cstr(module, "kind"), &kind);
    const char *name = sv_json_cstr(module, "name");
    sv_buf_addf(out, "--%s\r\nContent-Disposition: form-data; name=\"", boundary);
    for (int twice = 0; twice < 2; twice++) {
        for (const char *p = name; *p; p++)
            sv_buf_addf(out, *p == '"' || (unsigned char)*p < 0x20 ? "%%%02X" : "%c", (unsigned char)*p);
        sv_buf_adds(out, twice ? "\"" : "\"; filename=\"");
    }
    sv_buf_addf(out, "\r\nContent-Type: %s\r\n\r\n", sv_module_content_type(kind));
    if (module_bytes(c, v, module, out, err) != SV_OK)
        return err->code;
    sv_buf_adds(out, "\r\n");
    return SV_OK;
}

/* All modules as a form, the way they came. */
static void get_content(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_version v = {0};
    sv_script s = {0};
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_rc rc = sv_store_version(c.w, &v, s.key, SV_DEPLOYED, NULL, false, &err);
    sv_script_done(&s);
    char boundary[49] = "selvedge", type[100];
    sv_random_hex(boundary + 8, 16);
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, (size_t)sv_limit_value(SV_LIMIT_UPLOAD_BYTES) + (1 << 20));
    size_t i;
    json_t *m;
    json_array_foreach (json_object_get(v.meta, "modules"), i, m)
        if (rc == SV_OK)
            rc = add_part(&c, &v, m, boundary, &out, &err);
    sv_buf_addf(&out, "--%s--\r\n", boundary);
    snprintf(type, sizeof type, "multipart/form-data; boundary=%s", boundary);
    if (rc == SV_OK && !out.failed) {
        const char *main_module = sv_json_cstr(v.meta, "main_module");
        if (main_module)
            sv_req_add_header(r, "cf-entrypoint", main_module);
        sv_req_send(r, 200, type, sv_buf_str(&out));
    } else {
        if (rc == SV_OK)
            sv_fail(&err, SV_ENOMEM, "no memory for the script");
        sv_call_fail(&c, &err);
    }
    sv_version_done(&v);
}

/* ---- what wrangler asks around a deployment ---- */

static void get_service(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    sv_version v = {0};
    if (!sv_call_begin(&c, r, ctx, 10090))
        return;
    sv_rc rc = sv_store_script(c.w, &s, c.by.account, c.name, &err);
    if (rc == SV_ENOENT) {
        sv_api_error(r, 404, 10090, "workers.api.error.service_not_found");
        return;
    }
    if (rc == SV_OK)
        rc = sv_store_version(c.w, &v, s.key, SV_DEPLOYED, NULL, false, &err);
    if (rc == SV_OK) {
        json_t *env = json_pack("{s:s, s:o}", "environment", "production", "script", script_json(&s, &v));
        json_object_set_new(env, "created_on", sv_json_time(s.created_ms));
        json_object_set_new(env, "modified_on", sv_json_time(s.modified_ms));
        json_t *envs = json_pack("[O]", env);
        json_t *o = json_pack("{s:s, s:o, s:o}", "id", s.name, "default_environment", env, "environments", envs);
        json_object_set_new(o, "created_on", sv_json_time(s.created_ms));
        json_object_set_new(o, "modified_on", sv_json_time(s.modified_ms));
        sv_api_ok(r, o);
    } else {
        sv_call_fail(&c, &err);
    }
    sv_script_done(&s);
    sv_version_done(&v);
}

static json_t *worker_json(const sv_script *s)
{
    json_t *o = json_pack("{s:s, s:s, s:{s:b, s:b}, s:O?, s:b, s:O?}", "id", s->tag, "name", s->name, "subdomain", "enabled",
                          s->open, "previews_enabled", s->previews, "tags", json_object_get(s->settings, "tags"), "logpush", 0,
                          "observability", json_object_get(s->settings, "observability"));
    json_object_set_new(o, "tail_consumers", json_array());
    json_object_set_new(o, "created_on", sv_json_time(s->created_ms));
    json_object_set_new(o, "updated_on", sv_json_time(s->modified_ms));
    return o;
}

static void get_worker(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    if (!sv_call_begin(&c, r, ctx, 10025))
        return;
    sv_rc rc = sv_store_script(c.w, &s, c.by.account, c.name, &err);
    if (rc == SV_OK)
        sv_api_ok(r, worker_json(&s));
    else if (rc == SV_ENOENT)
        sv_api_error(r, 404, 10025, "This Worker does not exist on your account.");
    else
        sv_call_fail(&c, &err);
    sv_script_done(&s);
}

static void get_workers(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script *all = NULL;
    size_t n = 0;
    if (!sv_call_begin(&c, r, ctx, 10025))
        return;
    if (sv_store_scripts(c.w, &all, &n, c.by.account, &err) != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, worker_json(&all[i]));
        sv_script_done(&all[i]);
    }
    free(all);
    sv_api_ok_page(r, list, 20);
}

/* Who binds this Worker as a service, and whom it binds. */
static void get_references(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    sv_version v = {0};
    SV_AUTO(sv_json_decrefp) json_t *names = NULL;
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_rc rc = sv_store_version(c.w, &v, s.key, SV_DEPLOYED, NULL, false, &err);
    sv_script_done(&s);
    if (rc == SV_OK)
        rc = sv_store_incoming(c.w, &names, c.by.account, c.name, &err);
    if (rc != SV_OK) {
        sv_call_fail(&c, &err);
        sv_version_done(&v);
        return;
    }
    json_t *in = json_array(), *out = json_array();
    size_t i;
    json_t *e;
    json_array_foreach (names, i, e)
        json_array_append_new(
            in, json_pack("{s:O, s:s, s:s}", "name", e, "service", json_string_value(e), "environment", "production"));
    json_array_foreach (json_object_get(v.meta, "bindings"), i, e)
        if (strcmp(sv_json_cstr(e, "type"), "service") == 0)
            json_array_append_new(out,
                                  json_pack("{s:O, s:s}", "service", json_object_get(e, "service"), "environment", "production"));
    sv_api_ok(r, json_pack("{s:{s:o, s:o}, s:[], s:[]}", "services", "incoming", in, "outgoing", out, "durable_objects",
                           "dispatch_outbounds"));
    sv_version_done(&v);
}

static void get_empty_list(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_ok_page(r, json_array(), 20);
}

void sv_workers_rest_routes(sv_http *api, sv_workers *w)
{
    size_t upload = (size_t)sv_limit_value(SV_LIMIT_UPLOAD_BYTES);
    const sv_route routes[] = {
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/scripts", .fn = get_scripts},
        {.method = "PUT", .path = SV_SCRIPT_PATH, .fn = put_script, .max_body = upload},
        {.method = "GET", .path = SV_SCRIPT_PATH, .fn = get_content},
        {.method = "GET", .path = SV_SCRIPT_PATH "/content/v2", .fn = get_content},
        {.method = "DELETE", .path = SV_SCRIPT_PATH, .fn = delete_script},
        {.method = "GET", .path = SV_SCRIPT_PATH "/references", .fn = get_references},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/services/:name", .fn = get_service},
        {.method = "DELETE", .path = SV_ACCOUNT_PATH "/workers/services/:name", .fn = delete_script},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/workers", .fn = get_workers},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/workers/:name", .fn = get_worker},
        {.method = "DELETE", .path = SV_ACCOUNT_PATH "/workers/workers/:name", .fn = delete_script},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/tails/by-consumer/:name", .fn = get_empty_list},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/durable_objects/namespaces", .fn = get_namespaces},
    };
    sv_routes_add(api, w, routes, SV_LEN(routes));
    sv_versions_routes(api, w);
    sv_assets_routes(api, w);
    sv_settings_routes(api, w);
}
