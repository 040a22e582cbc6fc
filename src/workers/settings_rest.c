/* settings_rest.c - what surrounds a script: secrets, settings, its address, the account's subdomain; and the refusals of what is
 * not here yet
 *
 * A secret, or a setting that the script's code sees, makes a new version that is deployed at once, as on the hosted platform.
 * The refusals stand where wrangler would otherwise read "no route" and guess: each says which product is missing. */
#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "http/multipart.h"
#include "base/time.h"
#include "workers/rest_impl.h"
#include "workers/schedules.h"

/* ---- secrets ---- */

typedef struct secret_change {
    const char *name;
    const json_t *text;
} secret_change; /* text NULL: delete */

static json_t *find_named(json_t *bindings, const char *name, size_t *at)
{
    size_t i;
    json_t *b;
    json_array_foreach (bindings, i, b)
        if (strcmp(sv_json_cstr(b, "name"), name) == 0) {
            *at = i;
            return b;
        }
    return NULL;
}

static sv_rc edit_secret(sv_version *v, const char *name, const json_t *text, bool must_exist, sv_err *err)
{
    json_t *bindings = json_object_get(v->meta, "bindings");
    size_t at = 0;
    const json_t *old = find_named(bindings, name, &at);
    bool is_secret = old && strcmp(sv_json_cstr(old, "type"), "secret_text") == 0;
    if (!text) {
        if (!is_secret)
            return must_exist ? sv_fail_api(err, SV_ENOENT, 10056, "Secret '%.100s' not found", name) : SV_OK;
        json_array_remove(bindings, at);
        json_object_del(v->secrets, name);
        return SV_OK;
    }
    if (old && !is_secret)
        return sv_fail_api(err, SV_EINVAL, 10053, "Binding name '%.100s' already in use: it is no secret", name);
    if (!json_is_string(text))
        return sv_fail_api(err, SV_EINVAL, 10021, "secret '%.100s': 'text' is not text", name);
    if (sv_secret_check(sv_str_of(name), (sv_str){json_string_value(text), json_string_length(text)}, err) != SV_OK)
        return err->code;
    if (!old)
        json_array_append_new(bindings, json_pack("{s:s, s:s}", "name", name, "type", "secret_text"));
    json_object_set(v->secrets, name, (json_t *)(uintptr_t)text);
    return sv_bindings_check(bindings, true, err);
}

static sv_rc change_one(sv_version *v, void *arg, sv_err *err)
{
    const secret_change *s = arg;
    return edit_secret(v, s->name, s->text, true, err);
}

static void deploy_secret(sv_call *c, const secret_change *s)
{
    sv_err err = {0};
    sv_version v = {0};
    if (sv_deploy_derived(c->w, &c->by, c->name, SV_DEPLOY_NOW, "secret", change_one, (void *)(uintptr_t)s, &v, &err) == SV_OK)
        sv_api_ok(c->r, s->text ? json_pack("{s:s, s:s}", "name", s->name, "type", "secret_text") : NULL);
    else
        sv_call_fail(c, &err);
    sv_version_done(&v);
}

static void put_secret(sv_req *r, void *ctx)
{
    sv_call c;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    const char *type = sv_json_cstr(body, "type");
    secret_change s = {.name = sv_json_cstr(body, "name"), .text = json_object_get(body, "text")};
    if (!s.name)
        sv_api_error(r, 400, 10052, "A secret needs a name");
    else if (type && strcmp(type, "secret_text") != 0)
        sv_api_error(r, 400, 10021, "Secret '%.100s' is of kind '%.40s': this release has secret_text only", s.name, type);
    else if (!json_is_string(s.text))
        sv_api_error(r, 400, 10021, "Secret '%.100s' has no text", s.name);
    else
        deploy_secret(&c, &s);
}

static void delete_secret(sv_req *r, void *ctx)
{
    sv_call c;
    sv_str name;
    sv_err err = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    char text[256];
    if (sv_req_param(r, "secret", &name, &err) != SV_OK || name.n >= sizeof text) {
        sv_api_error(r, 404, 10056, "There is no secret of that name");
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)name.n, name.p);
    deploy_secret(&c, &(secret_change){.name = text});
}

static sv_rc change_many(sv_version *v, void *arg, sv_err *err)
{
    const char *name;
    json_t *s;
    json_object_foreach ((json_t *)arg, name, s) {
        const char *type = sv_json_cstr(s, "type");
        if (type && strcmp(type, "secret_text") != 0)
            return sv_fail_api(err, SV_EINVAL, 10021, "Secret '%.100s' is of kind '%.40s': this release has secret_text only",
                               name, type);
        const json_t *text = json_is_null(s) ? NULL : json_is_object(s) ? json_object_get(s, "text") : s;
        if (!text && !json_is_null(s))
            return sv_fail_api(err, SV_EINVAL, 10021, "Secret '%.100s' has no text", name);
        if (edit_secret(v, name, text, false, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static void patch_secrets(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_version v = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    json_t *secrets = json_object_get(body, "secrets");
    if (!json_is_object(secrets))
        sv_api_error(r, 400, 10026, "'secrets' is not an object");
    else if (sv_deploy_derived(c.w, &c.by, c.name, SV_DEPLOY_NOW, "secret", change_many, secrets, &v, &err) == SV_OK)
        sv_api_ok(r, json_object());
    else
        sv_call_fail(&c, &err);
    sv_version_done(&v);
}

static void get_secrets(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    sv_version v = {0};
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_str wanted = sv_req_param_raw(r, "secret");
    sv_rc rc = sv_store_version(c.w, &v, s.key, SV_DEPLOYED, NULL, false, &err);
    sv_script_done(&s);
    if (rc != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(v.meta, "bindings"), i, b)
        if (strcmp(sv_json_cstr(b, "type"), "secret_text") == 0 && (wanted.n == 0 || sv_str_is(wanted, sv_json_cstr(b, "name"))))
            json_array_append_new(list, json_pack("{s:O, s:s}", "name", json_object_get(b, "name"), "type", "secret_text"));
    if (wanted.n == 0)
        sv_api_ok(r, json_incref(list));
    else if (json_array_size(list))
        sv_api_ok(r, json_incref(json_array_get(list, 0)));
    else
        sv_api_error(r, 404, 10056, "There is no secret of that name");
    sv_version_done(&v);
}

/* ---- settings ---- */

static json_t *settings_json(const sv_script *s, const sv_version *v)
{
    const json_t *runtime = json_object_get(v->meta, "runtime");
    return json_pack("{s:o, s:s, s:O?, s:s, s:O?, s:O?, s:O?, s:b, s:[], s:{}}", "bindings", sv_json_bindings(v),
                     "compatibility_date", sv_json_cstr(v->meta, "compatibility_date"), "compatibility_flags",
                     json_object_get(v->meta, "compatibility_flags"), "usage_model", "standard", "placement",
                     json_object_get(runtime, "placement"), "tags", json_object_get(s->settings, "tags"), "observability",
                     json_object_get(s->settings, "observability"), "logpush", 0, "tail_consumers", "limits");
}

static void answer_settings(sv_call *c)
{
    sv_err err = {0};
    sv_script s = {0};
    sv_version v = {0};
    if (!sv_call_script(c, &s))
        return;
    if (sv_store_version(c->w, &v, s.key, SV_DEPLOYED, NULL, false, &err) == SV_OK)
        sv_api_ok(c->r, settings_json(&s, &v));
    else
        sv_call_fail(c, &err);
    sv_version_done(&v);
    sv_script_done(&s);
}

static void get_settings(sv_req *r, void *ctx)
{
    sv_call c;
    if (sv_call_begin(&c, r, ctx, 10007))
        answer_settings(&c);
}

/* Settings of the script that no version carries. */
static sv_rc store_script_settings(sv_call *c, const json_t *body, sv_err *err)
{
    static const char *const names[] = {"tags", "observability"};
    const json_t *tails = json_object_get(body, "tail_consumers");
    if (json_array_size(tails))
        return sv_fail_api(err, SV_EINVAL, 10021, "tail consumers are not in this release");
    if (json_is_true(json_object_get(body, "logpush")))
        return sv_fail_api(err, SV_EINVAL, 10023, "logpush is not in this release");
    const json_t *tags = json_object_get(body, "tags"), *observability = json_object_get(body, "observability");
    if ((tags && !json_is_null(tags) && !json_is_array(tags)) ||
        (observability && !json_is_null(observability) && !json_is_object(observability)))
        return sv_fail_api(err, SV_EINVAL, 10026, "'tags' is a list and 'observability' an object");
    sv_script s = {0};
    if (sv_store_script(c->w, &s, c->by.account, c->name, err) != SV_OK)
        return err->code;
    bool changed = false;
    for (size_t i = 0; i < SV_LEN(names); i++) {
        json_t *v = json_object_get(body, names[i]);
        if (v)
            changed |= json_object_set(s.settings, names[i], v) == 0;
    }
    sv_rc rc = changed ? sv_store_set_settings(c->w, s.key, s.settings, err) : SV_OK;
    sv_script_done(&s);
    return rc;
}

static void patch_script_settings(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    if (store_script_settings(&c, body, &err) != SV_OK)
        sv_call_fail(&c, &err);
    else
        answer_settings(&c);
}

/* Bindings, date and flags of a settings patch; secrets stay by `inherit`. */
static sv_rc change_settings(sv_version *v, void *arg, sv_err *err)
{
    const json_t *body = arg;
    char today[11];
    sv_today(today);
    sv_str date = sv_str_of(sv_json_cstr(v->meta, "compatibility_date"));
    json_t *flags = json_object_get(body, "compatibility_flags"), *bindings = json_object_get(body, "bindings");
    if (sv_json_str(body, "compatibility_date", &date, err) != SV_OK ||
        sv_compatibility_check(date, flags && !json_is_null(flags) ? flags : json_object_get(v->meta, "compatibility_flags"),
                               today, err) != SV_OK)
        return err->code;
    json_object_set_new(v->meta, "compatibility_date", json_stringn(date.p, date.n));
    if (flags && !json_is_null(flags))
        json_object_set(v->meta, "compatibility_flags", flags);
    if (!bindings || json_is_null(bindings))
        return SV_OK;
    sv_upload u = {0};
    sv_rc rc = sv_upload_of_bindings(&u, bindings, err);
    if (rc == SV_OK)
        rc = sv_upload_inherit(&u, json_object_get(v->meta, "bindings"), v->secrets, true, err);
    if (rc == SV_OK) {
        json_object_set(v->meta, "bindings", u.bindings);
        json_decref(v->secrets);
        v->secrets = json_incref(u.secrets);
    }
    sv_upload_done(&u);
    return rc;
}

static json_t *settings_body(sv_call *c, sv_err *err)
{
    sv_parts parts = {0};
    json_t *body = NULL;
    if (sv_multipart_parse(&parts, sv_req_arena(c->r), sv_req_header(c->r, "content-type"), sv_req_body(c->r), err) != SV_OK) {
        err->api_code = 10026;
        return NULL;
    }
    if (sv_form_object(&body, &parts, "settings", err) != SV_OK)
        return NULL;
    return body;
}

static void patch_settings(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = settings_body(&c, &err);
    bool of_version = json_object_get(body, "bindings") || json_object_get(body, "compatibility_date") ||
                      json_object_get(body, "compatibility_flags");
    const json_t *migrations = json_object_get(body, "migrations"), *limits = json_object_get(body, "limits");
    sv_rc rc = body ? SV_OK : err.code;
    if (rc == SV_OK && json_object_size(migrations))
        rc = sv_fail_api(&err, SV_EINVAL, 10021, "Durable Objects and their migrations are not in this release");
    if (rc == SV_OK && json_object_size(limits))
        rc = sv_fail_api(&err, SV_EINVAL, 10021, "limits of a Worker's own (`limits`) are not in this release");
    if (rc == SV_OK)
        rc = store_script_settings(&c, body, &err);
    sv_version v = {0};
    if (rc == SV_OK && of_version)
        rc = sv_deploy_derived(c.w, &c.by, c.name, SV_DEPLOY_NOW, "settings", change_settings, body, &v, &err);
    sv_version_done(&v);
    if (rc == SV_OK)
        answer_settings(&c);
    else
        sv_call_fail(&c, &err);
}

/* ---- addresses ---- */

static void get_script_subdomain(sv_req *r, void *ctx)
{
    sv_call c;
    sv_script s = {0};
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_api_ok(r, json_pack("{s:b, s:b}", "enabled", s.open, "previews_enabled", s.previews));
    sv_script_done(&s);
}

static void set_script_subdomain(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    sv_script s = {0};
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    bool open = false, previews = s.previews;
    sv_script_done(&s);
    if (strcmp(sv_req_method(r), "DELETE") != 0) {
        SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
        if (!body)
            return;
        if (sv_json_bool(body, "enabled", &open, &err) != SV_OK ||
            sv_json_bool(body, "previews_enabled", &previews, &err) != SV_OK) {
            sv_call_fail(&c, &err);
            return;
        }
    }
    if (sv_deploy_set_open(c.w, c.by.account, c.name, open, previews, &err) != SV_OK)
        sv_call_fail(&c, &err);
    else
        sv_api_ok(r, json_pack("{s:b, s:b}", "enabled", open, "previews_enabled", previews));
}

/* Every account has a subdomain from the start, made of its id: it decides nothing here, and wrangler asks questions without one.
 */
static void get_subdomain(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    char name[64];
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    sv_rc rc = sv_store_subdomain(c.w, name, c.by.account, &err);
    if (rc == SV_ENOENT)
        snprintf(name, sizeof name, "a%.12s", c.by.account);
    if (rc == SV_OK || rc == SV_ENOENT)
        sv_api_ok(r, json_pack("{s:s}", "subdomain", name));
    else
        sv_call_fail(&c, &err);
}

static void put_subdomain(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    const char *name = sv_json_cstr(body, "subdomain");
    sv_rc rc =
        name ? sv_worker_name_check(sv_str_of(name), &err) : sv_fail_api(&err, SV_EINVAL, 10026, "'subdomain' is not text");
    if (rc == SV_OK)
        rc = sv_store_set_subdomain(c.w, c.by.account, name, &err);
    if (rc == SV_OK)
        sv_api_ok(r, json_pack("{s:s}", "subdomain", name));
    else
        sv_call_fail(&c, &err);
}

static void get_subdomain_taken(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    bool taken;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    if (sv_store_subdomain_taken(c.w, &taken, c.by.account, c.name, &err) != SV_OK)
        sv_call_fail(&c, &err);
    else if (taken)
        sv_api_error(r, 409, 10031, "Subdomain is unavailable, please try a different subdomain");
    else
        sv_api_error(r, 404, 10032, "Subdomain is available");
}

static void get_account_settings(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_ok(r, json_pack("{s:s, s:b}", "default_usage_model", "standard", "green_compute", 0));
}

/* ---- schedules ---- */

static void get_list(sv_req *r, void *ctx, const char *member, sv_rc (*get)(sv_workers *w, const char *key, json_t **out, sv_err *err))
{
    sv_call c;
    sv_script s = {0};
    sv_err err = {0};
    json_t *list;
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_rc rc = get(c.w, s.key, &list, &err);
    sv_script_done(&s);
    if (rc != SV_OK)
        sv_call_fail(&c, &err);
    else
        sv_api_ok(r, json_pack("{s:o}", member, list));
}

static void get_schedules(sv_req *r, void *ctx) { get_list(r, ctx, "schedules", sv_schedules_get); }
static void get_runs(sv_req *r, void *ctx) { get_list(r, ctx, "runs", sv_schedules_runs); }

static void put_schedules(sv_req *r, void *ctx)
{
    sv_call c;
    sv_err err = {0};
    json_t *list;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    const json_t *crons = json_is_object(body) ? json_object_get(body, "body") : body; /* the SDK's older form */
    if (sv_schedules_set(c.w, c.by.account, c.name, crons, &list, &err) != SV_OK)
        sv_call_fail(&c, &err);
    else
        sv_api_ok(r, json_pack("{s:o}", "schedules", list));
}

/* A run at once, as `wrangler dev --test-scheduled` has it: of the schedule {"cron"}, or of the first. What came of it is among the runs. */
static void run_schedule(sv_req *r, void *ctx)
{
    sv_call c;
    sv_script s = {0};
    sv_err err = {0};
    sv_run run;
    sv_str cron = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (!sv_call_begin(&c, r, ctx, 10007) || !sv_call_script(&c, &s))
        return;
    sv_rc rc = sv_req_body(r).n ? sv_json_parse(&body, sv_req_body(r), &err) : SV_OK;
    if (rc == SV_OK)
        rc = sv_json_str(body, "cron", &cron, &err);
    if (rc == SV_OK && !c.w->crons)
        rc = sv_fail(&err, SV_EIO, "the clock does not run");
    if (rc == SV_OK)
        rc = sv_schedules_claim_one(c.w, s.key, cron, sv_now_ms(), &run, &err);
    sv_script_done(&s);
    if (rc != SV_OK) {
        sv_call_fail(&c, &err);
        return;
    }
    sv_crons_begin(c.w->crons, &run);
    sv_api_ok(r, json_pack("{s:I, s:s, s:o}", "id", (json_int_t)run.id, "cron", run.cron, "scheduled_on", sv_json_time(run.scheduled_ms)));
}

/* ---- not here yet ---- */

/* An empty list asks for nothing and is granted. */
static void put_list(sv_req *r, void *ctx, const char *member, const char *refusal)
{
    sv_call c;
    if (!sv_call_begin(&c, r, ctx, 10007))
        return;
    SV_AUTO(sv_json_decrefp) json_t *body = sv_call_json(&c);
    if (!body)
        return;
    if (!json_is_array(body) || json_array_size(body))
        sv_api_error(r, 400, 10021, "%s", refusal);
    else
        sv_api_ok(r, member ? json_pack("{s:[]}", member) : json_array());
}

static void put_routes(sv_req *r, void *ctx)
{
    put_list(r, ctx, NULL, "Routes on zones are not in this release: a Worker is reached at NAME.localhost");
}

static void refuse_domains(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_error(r, 400, 10021, "Custom domains are not in this release: a Worker is reached at NAME.localhost");
}

static void refuse_zone_routes(sv_req *r, void *ctx)
{
    (void)ctx;
    if (strcmp(sv_req_method(r), "GET") == 0)
        sv_api_ok(r, json_array());
    else
        sv_api_error(r, 400, 10021, "Routes on zones are not in this release: a Worker is reached at NAME.localhost");
}

/* One refusal for each product: the route says which. */
#define REFUSE(name, text)                                        \
    static void refuse_##name(sv_req *r, void *ctx)               \
    {                                                             \
        (void)ctx;                                                \
        sv_api_error(r, 400, 10021, text " not in this release"); \
    }
REFUSE(tails, "Live logs (wrangler tail) are")
REFUSE(subscriptions, "Event subscriptions of queues are")
REFUSE(workflows, "Workflows are")
REFUSE(dispatch, "Dispatch namespaces are")
REFUSE(r2, "R2 buckets are")

static void get_no_subscriptions(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_api_ok_page(r, json_array(), 100);
}

void sv_settings_routes(sv_http *api, sv_workers *w)
{
    size_t body = (size_t)sv_limit_value(SV_LIMIT_API_BODY_BYTES);
    const sv_route routes[] = {
        {.method = "GET", .path = SV_SCRIPT_PATH "/secrets", .fn = get_secrets},
        {.method = "PUT", .path = SV_SCRIPT_PATH "/secrets", .fn = put_secret, .max_body = body},
        {.method = "GET", .path = SV_SCRIPT_PATH "/secrets/:secret", .fn = get_secrets},
        {.method = "DELETE", .path = SV_SCRIPT_PATH "/secrets/:secret", .fn = delete_secret},
        {.method = "PATCH", .path = SV_SCRIPT_PATH "/secrets-bulk", .fn = patch_secrets, .max_body = body},
        {.method = "GET", .path = SV_SCRIPT_PATH "/settings", .fn = get_settings},
        {.method = "PATCH", .path = SV_SCRIPT_PATH "/settings", .fn = patch_settings, .max_body = body},
        {.method = "GET", .path = SV_SCRIPT_PATH "/script-settings", .fn = get_settings},
        {.method = "PATCH", .path = SV_SCRIPT_PATH "/script-settings", .fn = patch_script_settings, .max_body = body},
        {.method = "GET", .path = SV_SCRIPT_PATH "/subdomain", .fn = get_script_subdomain},
        {.method = "POST", .path = SV_SCRIPT_PATH "/subdomain", .fn = set_script_subdomain, .max_body = body},
        {.method = "DELETE", .path = SV_SCRIPT_PATH "/subdomain", .fn = set_script_subdomain},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/subdomain", .fn = get_subdomain},
        {.method = "PUT", .path = SV_ACCOUNT_PATH "/workers/subdomain", .fn = put_subdomain, .max_body = body},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/subdomains/:name", .fn = get_subdomain_taken},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/workers/account-settings", .fn = get_account_settings},
        {.method = "GET", .path = SV_SCRIPT_PATH "/schedules", .fn = get_schedules},
        {.method = "PUT", .path = SV_SCRIPT_PATH "/schedules", .fn = put_schedules, .max_body = body},
        {.method = "GET", .path = SV_SCRIPT_PATH "/schedules/runs", .fn = get_runs},
        {.method = "POST", .path = SV_SCRIPT_PATH "/schedules/run", .fn = run_schedule, .max_body = body},
        {.method = "PUT", .path = SV_SCRIPT_PATH "/routes", .fn = put_routes, .max_body = body},
        {.method = "*", .path = SV_SCRIPT_PATH "/domains/*rest", .fn = refuse_domains, .max_body = body},
        {.method = "*", .path = SV_ACCOUNT_PATH "/workers/domains/*rest", .fn = refuse_domains, .max_body = body},
        {.method = "*", .path = "/client/v4/zones/:zone/workers/routes", .fn = refuse_zone_routes, .max_body = body},
        {.method = "*", .path = SV_SCRIPT_PATH "/tails", .fn = refuse_tails, .max_body = body},
        {.method = "GET", .path = SV_ACCOUNT_PATH "/event_subscriptions/subscriptions", .fn = get_no_subscriptions},
        {.method = "*", .path = SV_ACCOUNT_PATH "/event_subscriptions/*rest", .fn = refuse_subscriptions, .max_body = body},
        {.method = "*", .path = SV_ACCOUNT_PATH "/workflows/*rest", .fn = refuse_workflows, .max_body = body},
        {.method = "*", .path = SV_ACCOUNT_PATH "/workers/dispatch/*rest", .fn = refuse_dispatch, .max_body = body},
        {.method = "*", .path = SV_ACCOUNT_PATH "/r2/*rest", .fn = refuse_r2, .max_body = body},
    };
    sv_routes_add(api, w, routes, SV_LEN(routes));
}
