/* upload.c - the upload form, from multipart to a checked sv_upload
 *
 * The form has one field "metadata" (JSON) and a part for each module. The SDK writes the metadata as one field a member instead,
 * with bracketed names (metadata[bindings][][type]); those are read back into the same JSON first, so that there is one reader.
 *
 * The price of refusing what we do not have is a deploy that fails where Cloudflare's would pass; the gain is that a Worker that
 * deployed here has every binding it asked for. Unknown members of the metadata are ignored all the same: releases of wrangler
 * add hints quietly.
 *
 * Invariants of a parsed upload:
 *   1. Binding names are unique and not empty; every object has the members its kind needs, of the right type.
 *   2. No secret's value is in `bindings`; `secrets` has exactly one for each secret_text.
 *   3. Texts that go into the configuration or the environment hold no NUL. */
#include "workers/upload.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "account/limits.h"
#include "base/json.h"
#include "workers/objects.h"
#include "workers/products.h"

enum { MAX_FLAGS = 100, MAX_NAME = 255, MAX_MODULE_NAME = 512 };

static const struct {
    const char *name, *type;
} kinds[] = {
    [SV_MODULE_ES] = {"esm", "application/javascript+module"},
    [SV_MODULE_COMMONJS] = {"cjs", "application/javascript"},
    [SV_MODULE_TEXT] = {"text", "text/plain"},
    [SV_MODULE_DATA] = {"data", "application/octet-stream"},
    [SV_MODULE_WASM] = {"wasm", "application/wasm"},
    [SV_MODULE_JSON] = {"json", "application/json"},
    [SV_MODULE_SOURCE_MAP] = {"map", "application/source-map"},
};

const char *sv_module_kind_name(sv_module_kind k) { return kinds[k].name; }
const char *sv_module_content_type(sv_module_kind k) { return kinds[k].type; }

bool sv_module_kind_of_name(const char *name, sv_module_kind *out)
{
    for (size_t i = 0; name && i < SV_LEN(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0) {
            *out = (sv_module_kind)i;
            return true;
        }
    return false;
}

/* ---- single values ---- */

static bool has_nul(sv_str s) { return s.n && memchr(s.p, 0, s.n); }

static sv_str json_text(const json_t *j) { return (sv_str){json_string_value(j), json_string_length(j)}; }

sv_rc sv_worker_name_check(sv_str name, sv_err *err)
{
    if (sv_limit_check(SV_LIMIT_NAME_BYTES, (int64_t)name.n, "the Worker's name", err) != SV_OK)
        return err->code;
    bool good = name.n > 0 && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; i < name.n && good; i++)
        good = (name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '-';
    if (!good)
        return sv_fail_api(err, SV_EINVAL, 10016,
                           "Worker name '%.*s': only a to z, 0 to 9 and '-' inside, since it is its host name too", (int)name.n,
                           name.p);
    return SV_OK;
}

sv_rc sv_secret_check(sv_str name, sv_str value, sv_err *err)
{
    if (name.n == 0)
        return sv_fail_api(err, SV_EINVAL, 10052, "a secret needs a name");
    if (name.n > MAX_NAME || has_nul(name) || !sv_utf8_valid(name))
        return sv_fail_api(err, SV_EINVAL, 10021, "a secret's name must be text of at most %d bytes", MAX_NAME);
    if (has_nul(value))
        return sv_fail_api(err, SV_EINVAL, 10021, "secret '%.*s' holds a NUL byte", (int)name.n, name.p);
    char what[MAX_NAME + 16];
    snprintf(what, sizeof what, "secret '%.*s'", (int)name.n, name.p);
    return sv_limit_check(SV_LIMIT_VAR_BYTES, (int64_t)value.n, what, err);
}

static bool is_date(sv_str d)
{
    if (d.n != 10)
        return false;
    for (size_t i = 0; i < 10; i++)
        if (i == 4 || i == 7 ? d.p[i] != '-' : d.p[i] < '0' || d.p[i] > '9')
            return false;
    int month = (d.p[5] - '0') * 10 + d.p[6] - '0', day = (d.p[8] - '0') * 10 + d.p[9] - '0';
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

/* Flags that workerd takes with --experimental only. A process has that for reasons of our own (assets, dispatchers), and then they would open to a
 * script what it must not have: feeding bytes to V8's deserializer, for one. */
static const char *const experimental_flags[] = {
    "allow_insecure_inefficient_logged_eval", "auto_inject_python_workers", "cache_reload_enabled", "connect_handler_starttls",
    "connect_pass_through", "d1_binding_jsrpc", "durable_object_get_existing", "durable_object_rename", "durable_object_snapshots",
    "enable_abortsignal_rpc", "enable_ctx_version_metadata", "enable_d1_with_sessions_api", "enable_nodejs_inspector_local_dev",
    "enable_version_api", "enable_web_file_system", "expose_draining_reader", "expose_serialization_test_class",
    "increase_websocket_message_size", "js_rpc", "kv_direct_binding", "memory_cache_delete", "offpeak_location_hint", "precise_timers",
    "python_workers_development", "python_workers_durable_objects", "python_zstd_snapshot", "r2_binding_jsrpc", "replica_routing",
    "rpc_dispose_cancels_call", "rtti_api", "service_binding_extra_handlers", "spec_compliant_property_attributes",
    "streaming_tail_worker", "streams_no_default_auto_allocate_chunk_size", "tail_worker_user_spans", "typescript_implemented_streams",
    "typescript_strip_types", "unsafe_module", "unsupported_process_actual_platform", "wasm_memory_discard", "workflows_bindings_rpc",
    "workflows_step_rollback", "experimental",
    NULL};

static bool is_kind(const char *kind, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(kind, *list) == 0)
            return true;
    return false;
}

sv_rc sv_compatibility_check(sv_str date, const json_t *flags, const char *today, sv_err *err)
{
    if (!is_date(date))
        return sv_fail_api(err, SV_EINVAL, 10021, "compatibility_date '%.*s' is no date like 2026-11-17",
                           (int)(date.n > 40 ? 40 : date.n), date.p);
    if (memcmp(date.p, today, 10) > 0)
        return sv_fail_api(err, SV_EINVAL, 10021, "Can't set compatibility date in the future: '%.*s' is after %s", 10, date.p,
                           today);
    if (flags && !json_is_array(flags))
        return sv_fail_api(err, SV_EINVAL, 10021, "compatibility_flags is not an array");
    if (json_array_size(flags) > MAX_FLAGS)
        return sv_fail_api(err, SV_EINVAL, 10021, "%zu compatibility flags, at most %d", json_array_size(flags), MAX_FLAGS);
    size_t i;
    json_t *f;
    json_array_foreach ((json_t *)(uintptr_t)flags, i, f) {
        sv_str s = json_text(f);
        if (!json_is_string(f) || s.n == 0 || s.n > 100 || has_nul(s))
            return sv_fail_api(err, SV_EINVAL, 10021, "compatibility_flags[%zu] is not the name of a flag", i);
        if (is_kind(s.p, experimental_flags))
            return sv_fail_api(err, SV_EINVAL, 10021, "compatibility flag '%s' is experimental, and not available", s.p);
    }
    return SV_OK;
}

/* ---- bindings ---- */

/* Kinds that exist and that this release does not have; the others are not known at all. */
static const char *const later_kinds[][2] = {
    {"workflow", "Workflows"},
    {"hyperdrive", "Hyperdrive"},
    {"browser", "browser rendering"},
    {"images", "Images"},
    {"media", "Media"},
    {"stream", "Stream"},
    {"secrets_store_secret", "Secrets Store"},
    {"secret_key", "cryptographic key secrets"},
    {"dispatch_namespace", "dispatch namespaces"},
    {"mtls_certificate", "mTLS certificates"},
    {"send_email", "e-mail"},
    {"tail_consumer", "tail consumers"},
    {"logfwdr", "log forwarding"},
    {"pipelines", "Pipelines"},
    {"worker_loader", "Worker loaders"},
    {"vpc_service", "VPC services"},
    {"ai_search", "AI Search"},
    {"text_blob", "parts of the service-worker format"},
    {"data_blob", "parts of the service-worker format"},
    {"wasm_module", "parts of the service-worker format"},
};

static sv_rc refuse_kind(const char *name, const char *kind, sv_err *err)
{
    for (size_t i = 0; i < SV_LEN(later_kinds); i++)
        if (strcmp(kind, later_kinds[i][0]) == 0)
            return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' is of kind '%s': this release does not have %s", name, kind,
                               later_kinds[i][1]);
    return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' is of kind '%.60s', which this release does not have", name, kind);
}

/* A member that must be text; *out stays empty when it may be absent and is. */
static sv_rc text_member(const json_t *b, const char *name, const char *member, bool needed, sv_str *out, sv_err *err)
{
    const json_t *v = json_object_get(b, member);
    if (!v || json_is_null(v)) {
        if (needed)
            return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' has no '%s'", name, member);
        return SV_OK;
    }
    if (!json_is_string(v))
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': '%s' is not text", name, member);
    *out = json_text(v);
    if (has_nul(*out))
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': '%s' holds a NUL byte", name, member);
    return SV_OK;
}

static sv_rc check_var(const json_t *b, const char *name, const char *kind, sv_err *err)
{
    char what[MAX_NAME + 32];
    snprintf(what, sizeof what, "variable '%s'", name);
    if (strcmp(kind, "json") != 0) {
        sv_str text = {0};
        if (text_member(b, name, "text", true, &text, err) != SV_OK)
            return err->code;
        return sv_limit_check(SV_LIMIT_VAR_BYTES, (int64_t)text.n, what, err);
    }
    const json_t *v = json_object_get(b, "json");
    if (!v)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' has no 'json'", name);
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 2 << 20);
    sv_json_add_value(&text, v);
    return sv_limit_check(SV_LIMIT_VAR_BYTES, (int64_t)text.n, what, err);
}

static sv_rc check_service(const json_t *b, const char *name, sv_err *err)
{
    sv_str service = {0}, environment = {0}, entrypoint = {0};
    if (text_member(b, name, "service", true, &service, err) != SV_OK ||
        text_member(b, name, "environment", false, &environment, err) != SV_OK ||
        text_member(b, name, "entrypoint", false, &entrypoint, err) != SV_OK)
        return err->code;
    if (sv_worker_name_check(service, err) != SV_OK)
        return sv_wrap(err, "Binding '%s'", name);
    if (environment.n && !sv_str_is(environment, "production"))
        return sv_fail_api(err, SV_EINVAL, 10021,
                           "Binding '%s': service environments are not in this release (environment '%.60s')", name,
                           environment.p);
    const json_t *props = json_object_get(b, "props");
    if (props && !json_is_null(props) && !json_is_object(props))
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': 'props' is not an object", name);
    return SV_OK;
}

static sv_rc check_objects(const json_t *b, const char *name, sv_err *err)
{
    sv_str class_name = {0}, script = {0};
    if (text_member(b, name, "class_name", true, &class_name, err) != SV_OK || text_member(b, name, "script_name", false, &script, err) != SV_OK)
        return err->code;
    if (class_name.n == 0 || class_name.n > MAX_NAME)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': 'class_name' must have 1 to %d bytes", name, MAX_NAME);
    if (script.n && sv_worker_name_check(script, err) != SV_OK)
        return sv_wrap(err, "Binding '%s'", name);
    return SV_OK;
}

static sv_rc check_ratelimit(const json_t *b, const char *name, sv_err *err)
{
    const json_t *simple = json_object_get(b, "simple");
    int64_t limit = 0, period = 0;
    if (!json_is_object(simple))
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' has no 'simple' with a limit and a period", name);
    if (sv_json_int(simple, "limit", 1, (int64_t)1 << 52, &limit, err) != SV_OK || sv_json_int(simple, "period", 10, 60, &period, err) != SV_OK) {
        err->api_code = 10021;
        return sv_wrap(err, "Binding '%s'", name);
    }
    if (limit == 0 || (period != 10 && period != 60) || json_object_size(simple) != 2)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': 'simple' must have a 'limit' and a 'period' of 10 or 60 seconds", name);
    return SV_OK;
}

/* What it names is looked up when it is deployed. */
static sv_rc check_product(const json_t *b, const char *name, const sv_product *p, sv_err *err)
{
    sv_str id = {0};
    if (text_member(b, name, p->id, true, &id, err) != SV_OK)
        return err->code;
    if (id.n == 0 || id.n > MAX_NAME)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': '%s' must have 1 to %d bytes", name, p->id, MAX_NAME);
    for (size_t i = 0; i < id.n; i++) /* it becomes the value of a header */
        if ((unsigned char)id.p[i] <= ' ' || (unsigned char)id.p[i] >= 0x7f)
            return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s': '%s' holds a character that no such name has", name, p->id);
    return strcmp(p->kind, "ratelimit") == 0 ? check_ratelimit(b, name, err) : SV_OK;
}

/* The members that each of our kinds needs. A stored secret_text has no text any more: `stored`. */
static sv_rc check_binding(const json_t *b, size_t i, bool stored, sv_err *err)
{
    static const char *const bare[] = {"ai", "assets", "version_metadata", "inherit", NULL};
    static const char *const vars[] = {"plain_text", "json", "secret_text", NULL};
    if (!json_is_object(b))
        return sv_fail_api(err, SV_EINVAL, 10021, "bindings[%zu] is not an object", i);
    sv_str name = json_text(json_object_get(b, "name"));
    const char *kind = sv_json_cstr(b, "type");
    if (name.n == 0)
        return sv_fail_api(err, SV_EINVAL, 10052, "bindings[%zu] has no name", i);
    if (name.n > MAX_NAME || has_nul(name))
        return sv_fail_api(err, SV_EINVAL, 10021, "bindings[%zu]: its name must be text of at most %d bytes", i, MAX_NAME);
    if (!kind)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' has no type", name.p);
    if (is_kind(kind, bare))
        return SV_OK;
    if (is_kind(kind, vars))
        return stored && strcmp(kind, "secret_text") == 0 ? SV_OK : check_var(b, name.p, kind, err);
    if (strcmp(kind, "service") == 0)
        return check_service(b, name.p, err);
    if (strcmp(kind, "durable_object_namespace") == 0)
        return check_objects(b, name.p, err);
    const sv_product *p = sv_product_of(kind);
    if (p)
        return check_product(b, name.p, p, err);
    return refuse_kind(name.p, kind, err);
}

sv_rc sv_bindings_check(const json_t *bindings, bool stored, sv_err *err)
{
    if (!json_is_array(bindings))
        return sv_fail_api(err, SV_EINVAL, 10021, "'bindings' is not an array");
    if (sv_limit_check(SV_LIMIT_BINDINGS, (int64_t)json_array_size(bindings), "bindings", err) != SV_OK)
        return err->code;
    SV_AUTO(sv_json_decrefp) json_t *seen = json_object();
    int64_t n_vars = 0;
    size_t i;
    json_t *b;
    json_array_foreach ((json_t *)(uintptr_t)bindings, i, b) {
        if (check_binding(b, i, stored, err) != SV_OK)
            return err->code;
        const char *name = sv_json_cstr(b, "name"), *kind = sv_json_cstr(b, "type");
        if (json_object_get(seen, name)) /* inv. 1 */
            return sv_fail_api(err, SV_EINVAL, 10021, "Binding name '%s' is used twice", name);
        json_object_set_new(seen, name, json_true());
        n_vars += strcmp(kind, "plain_text") == 0 || strcmp(kind, "json") == 0 || strcmp(kind, "secret_text") == 0;
    }
    return sv_limit_check(SV_LIMIT_VARS, n_vars, "variables and secrets", err);
}

/* inv. 2: moves the values of secrets out of the bindings. */
static void split_secrets(sv_upload *u)
{
    size_t i;
    json_t *b;
    json_array_foreach (u->bindings, i, b)
        if (strcmp(sv_json_cstr(b, "type"), "secret_text") == 0) {
            json_object_set(u->secrets, sv_json_cstr(b, "name"), json_object_get(b, "text"));
            json_object_del(b, "text");
        }
}

sv_rc sv_upload_of_bindings(sv_upload *out, const json_t *bindings, sv_err *err)
{
    if (sv_bindings_check(bindings, false, err) != SV_OK)
        return err->code;
    *out = (sv_upload){.bindings = json_deep_copy(bindings), .secrets = json_object()};
    split_secrets(out);
    return SV_OK;
}

static const json_t *find_binding(const json_t *bindings, const char *name)
{
    size_t i;
    json_t *b;
    json_array_foreach ((json_t *)(uintptr_t)bindings, i, b) {
        const char *n = sv_json_cstr(b, "name");
        if (n && strcmp(n, name) == 0)
            return b;
    }
    return NULL;
}

/* Appends a copy of `from` under `name`, with its secret. */
static void take_over(sv_upload *u, json_t *to, const json_t *from, const char *name, const json_t *secrets)
{
    json_t *copy = json_deep_copy(from);
    const char *old = sv_json_cstr(from, "name");
    if (strcmp(sv_json_cstr(from, "type"), "secret_text") == 0 && json_object_get(secrets, old))
        json_object_set(u->secrets, name, json_object_get(secrets, old));
    json_object_set_new(copy, "name", json_string(name));
    json_array_append_new(to, copy);
}

static bool is_kept(const json_t *keep, const char *kind)
{
    size_t i;
    json_t *k;
    json_array_foreach ((json_t *)(uintptr_t)keep, i, k)
        if (json_is_string(k) && strcmp(json_string_value(k), kind) == 0)
            return true;
    return false;
}

sv_rc sv_upload_inherit(sv_upload *u, const json_t *bindings, const json_t *secrets, bool strict, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *all = json_array();
    size_t i;
    json_t *b;
    json_array_foreach (u->bindings, i, b) {
        const char *name = sv_json_cstr(b, "name"), *old = sv_json_cstr(b, "old_name");
        if (strcmp(sv_json_cstr(b, "type"), "inherit") != 0) {
            json_array_append(all, b);
            continue;
        }
        const json_t *from = find_binding(bindings, old ? old : name);
        if (from)
            take_over(u, all, from, name, secrets);
        else if (strict)
            return sv_fail_api(err, SV_EINVAL, 10057,
                               "Binding '%s' is to be inherited, and the version before has none of that name", name);
    }
    json_array_foreach ((json_t *)(uintptr_t)bindings, i, b) {
        const char *name = sv_json_cstr(b, "name");
        if (is_kept(u->keep, sv_json_cstr(b, "type")) && !find_binding(all, name))
            take_over(u, all, b, name, secrets);
    }
    if (sv_bindings_check(all, true, err) != SV_OK)
        return err->code;
    json_decref(u->bindings);
    u->bindings = SV_TAKE(all);
    return SV_OK;
}

/* ---- static assets ---- */

static sv_rc one_of(const json_t *config, const char *member, const char *const *values, json_t *out, sv_err *err)
{
    const json_t *v = json_object_get(config, member);
    if (!v || json_is_null(v))
        return SV_OK;
    if (!json_is_string(v) || !is_kind(json_string_value(v), values))
        return sv_fail_api(err, SV_EINVAL, 10021, "assets.config.%s: '%.60s' is not one of its values", member,
                           json_is_string(v) ? json_string_value(v) : "(no text)");
    json_object_set_new(out, member, json_string(json_string_value(v)));
    return SV_OK;
}

static sv_rc rules_text(const json_t *config, const char *member, json_t *out, sv_err *err)
{
    const json_t *v = json_object_get(config, member);
    if (!v || json_is_null(v))
        return SV_OK;
    if (!json_is_string(v) || has_nul(json_text(v)))
        return sv_fail_api(err, SV_EINVAL, 10021, "assets.config.%s is not text", member);
    if (sv_limit_check(SV_LIMIT_ASSET_CONFIG_BYTES, (int64_t)json_string_length(v), member, err) != SV_OK)
        return err->code;
    return json_object_set_new(out, member, json_stringn(json_string_value(v), json_string_length(v))) == 0
               ? SV_OK
               : sv_fail(err, SV_ENOMEM, "no memory for %s", member);
}

static sv_rc worker_first(const json_t *config, json_t *out, sv_err *err)
{
    const json_t *v = json_object_get(config, "run_worker_first"), *direct = json_object_get(config, "serve_directly");
    if ((!v || json_is_null(v)) && json_is_boolean(direct)) { /* the name it had before */
        json_object_set_new(out, "run_worker_first", json_boolean(!json_is_true(direct)));
        return SV_OK;
    }
    if (!v || json_is_null(v))
        return SV_OK;
    bool good = json_is_boolean(v) || json_is_array(v);
    size_t i;
    json_t *rule;
    json_array_foreach ((json_t *)(uintptr_t)v, i, rule) {
        sv_str s = json_text(rule);
        good = good && i < 100 && s.n > 0 && s.n <= 200 && (s.p[0] == '/' || sv_str_starts(s, "!/")) && !has_nul(s);
    }
    if (!good)
        return sv_fail_api(
            err, SV_EINVAL, 10021,
            "assets.config.run_worker_first is neither true, false nor a list of at most 100 rules like \"/api/*\"");
    json_object_set_new(out, "run_worker_first", json_deep_copy(v));
    return SV_OK;
}

/* What `assets.config` may hold; the result is new and whole. */
static sv_rc check_assets_config(const json_t *config, json_t **out, sv_err *err)
{
    static const char *const html[] = {"auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none", NULL};
    static const char *const not_found[] = {"none", "404-page", "single-page-application", NULL};
    SV_AUTO(sv_json_decrefp) json_t *o = json_object();
    if (config && !json_is_null(config) && !json_is_object(config))
        return sv_fail_api(err, SV_EINVAL, 10021, "assets.config is not an object");
    if (one_of(config, "html_handling", html, o, err) != SV_OK ||
        one_of(config, "not_found_handling", not_found, o, err) != SV_OK || rules_text(config, "_headers", o, err) != SV_OK ||
        rules_text(config, "_redirects", o, err) != SV_OK || worker_first(config, o, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(o);
    return SV_OK;
}

/* ---- metadata ---- */

/* "[name]rest" -> name and rest. */
static bool bracket(sv_str *rest, sv_str *name)
{
    const char *end = rest->n && rest->p[0] == '[' ? memchr(rest->p, ']', rest->n) : NULL;
    if (!end)
        return false;
    *name = (sv_str){rest->p + 1, (size_t)(end - rest->p - 1)};
    *rest = (sv_str){end + 1, rest->n - name->n - 2};
    return true;
}

/* Puts `value` where the bracketed path says, below `at`. In "a[][x]" a repeated x starts the next element. */
static bool bracket_put(json_t *at, sv_str path, sv_str value, int depth)
{
    sv_str name;
    if (depth > 8 || !bracket(&path, &name))
        return false;
    if (json_is_array(at) != (name.n == 0))
        return false;
    sv_str after = path, next = {0};
    if (path.n && !bracket(&after, &next))
        return false;
    json_t *child;
    if (path.n == 0)
        child = json_stringn(value.p ? value.p : "", value.n);
    else if (name.n == 0) {
        size_t n = json_array_size(at);
        json_t *last = n ? json_array_get(at, n - 1) : NULL;
        if (json_is_object(last) && !(after.n == 0 && json_object_getn(last, next.p, next.n)))
            return bracket_put(last, path, value, depth + 1);
        child = json_object();
    } else {
        child = json_object_getn(at, name.p, name.n);
        if (child)
            return (json_is_object(child) || json_is_array(child)) && bracket_put(child, path, value, depth + 1);
        child = next.n == 0 ? json_array() : json_object();
    }
    int rc = name.n == 0 ? json_array_append_new(at, child) : json_object_setn_new(at, name.p, name.n, child);
    return rc == 0 && (path.n == 0 || bracket_put(child, path, value, depth + 1));
}

static sv_rc whole_object(json_t **out, sv_str text, const char *field, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (sv_limit_check(SV_LIMIT_METADATA_BYTES, (int64_t)text.n, field, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&j, text, err) != SV_OK) {
        err->api_code = 10026;
        return sv_wrap(err, "%s", field);
    }
    if (!json_is_object(j))
        return sv_fail_api(err, SV_EFORMAT, 10026, "%s is not an object", field);
    *out = SV_TAKE(j);
    return SV_OK;
}

sv_rc sv_form_object(json_t **out, const sv_parts *parts, const char *field, sv_err *err)
{
    const sv_part *whole = sv_parts_find(parts, field);
    if (whole)
        return whole_object(out, whole->data, field, err);
    SV_AUTO(sv_json_decrefp) json_t *object = json_object();
    size_t n = 0, bytes = 0, field_n = strlen(field);
    for (size_t i = 0; i < parts->n; i++) {
        sv_str name = parts->v[i].name;
        if (name.n <= field_n || memcmp(name.p, field, field_n) != 0 || name.p[field_n] != '[')
            continue;
        bytes += name.n + parts->v[i].data.n;
        if (sv_limit_check(SV_LIMIT_METADATA_BYTES, (int64_t)bytes, field, err) != SV_OK)
            return err->code;
        if (!bracket_put(object, (sv_str){name.p + field_n, name.n - field_n}, parts->v[i].data, 0))
            return sv_fail_api(err, SV_EFORMAT, 10026, "form field '%.*s' does not fit the fields before it",
                               (int)(name.n > 80 ? 80 : name.n), name.p);
        n++;
    }
    if (n == 0)
        return sv_fail_api(err, SV_EFORMAT, 10026, "the form has no part '%s'", field);
    *out = SV_TAKE(object);
    return SV_OK;
}

static bool is_true(const json_t *j)
{
    return json_is_true(j) || (json_is_string(j) && strcmp(json_string_value(j), "true") == 0);
}

static bool is_filled(const json_t *j) { return json_array_size(j) > 0 || json_object_size(j) > 0; }

/* Members that ask for something we do not have. */
static sv_rc refuse_unsupported(const json_t *meta, sv_err *err)
{
    static const struct {
        const char *member, *text;
    } lists[] = {
        {"exports", "Durable Objects by `exports` are not in this release: use `migrations`"},
        {"containers", "containers are not in this release"},
        {"tail_consumers", "tail consumers are not in this release"},
        {"streaming_tail_consumers", "tail consumers are not in this release"},
    };
    if (json_object_get(meta, "body_part"))
        return sv_fail_api(err, SV_EINVAL, 10021,
                           "service-worker format (body_part) is not in this release: export a default object instead");
    for (size_t i = 0; i < SV_LEN(lists); i++)
        if (is_filled(json_object_get(meta, lists[i].member)))
            return sv_fail_api(err, SV_EINVAL, 10021, "%s", lists[i].text);
    if (is_true(json_object_get(meta, "logpush")))
        return sv_fail_api(err, SV_EINVAL, 10023, "logpush is not in this release");
    if (is_true(json_object_get(json_object_get(meta, "cache"), "enabled")))
        return sv_fail_api(err, SV_EINVAL, 10021, "a cache in front of a Worker (`cache`) is not in this release");
    if (is_filled(json_object_get(meta, "limits")))
        return sv_fail_api(err, SV_EINVAL, 10021, "limits of a Worker's own (`limits`) are not in this release");
    return SV_OK;
}

static void copy_members(json_t *to, const json_t *from, const char *const *names)
{
    for (; *names; names++) {
        json_t *v = json_object_get(from, *names);
        if (v && !json_is_null(v))
            json_object_set(to, *names, v);
    }
}

static sv_rc read_assets(sv_upload *u, sv_arena *a, const json_t *meta, sv_err *err)
{
    u->keep_assets = is_true(json_object_get(meta, "keep_assets"));
    const json_t *assets = json_object_get(meta, "assets");
    if (!assets || json_is_null(assets))
        return SV_OK;
    if (!json_is_object(assets))
        return sv_fail_api(err, SV_EINVAL, 10021, "'assets' is not an object");
    if (check_assets_config(json_object_get(assets, "config"), &u->assets_config, err) != SV_OK)
        return err->code;
    const json_t *jwt = json_object_get(assets, "jwt");
    if (!json_is_string(jwt))
        return u->keep_assets
                   ? SV_OK
                   : sv_fail_api(err, SV_EINVAL, 10021, "'assets' has no 'jwt': upload the files first, or send keep_assets");
    u->assets_jwt.n = json_string_length(jwt);
    u->assets_jwt.p = sv_arena_strndup(a, json_string_value(jwt), u->assets_jwt.n);
    return u->assets_jwt.p ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for the upload");
}

static sv_rc read_annotations(sv_upload *u, const json_t *meta, sv_err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach (json_object_get(meta, "annotations"), key, v)
        if (json_is_string(v)) {
            if (json_string_length(v) > 1000)
                return sv_fail_api(err, SV_EINVAL, 10021, "annotation '%.60s' is %zu bytes, at most 1000", key,
                                   json_string_length(v));
            json_object_set(u->annotations, key, v);
        }
    return SV_OK;
}

static sv_rc apply_metadata(sv_upload *u, sv_arena *a, const json_t *meta, const char *today, sv_err *err)
{
    static const char *const of_script[] = {"tags", "observability", NULL}, *const of_version[] = {"placement", "usage_model",
                                                                                                   NULL};
    sv_str date = SV_STR("2021-11-02"); /* what a Worker without a date gets */
    if (refuse_unsupported(meta, err) != SV_OK || sv_json_str(meta, "compatibility_date", &date, err) != SV_OK)
        return err->code;
    json_t *flags = json_object_get(meta, "compatibility_flags"), *bindings = json_object_get(meta, "bindings");
    if (sv_compatibility_check(date, json_is_null(flags) ? NULL : flags, today, err) != SV_OK)
        return err->code;
    u->compatibility_date = (sv_str){sv_arena_strndup(a, date.p, date.n), date.n};
    u->flags = json_is_array(flags) ? json_incref(flags) : json_array();
    u->bindings = bindings && !json_is_null(bindings) ? json_deep_copy(bindings) : json_array();
    u->secrets = json_object();
    u->settings = json_object();
    u->runtime = json_object();
    u->annotations = json_object();
    json_t *migrations = json_object_get(meta, "migrations");
    if (sv_objects_check(migrations, err) != SV_OK)
        return err->code;
    if (is_filled(migrations))
        u->migrations = json_deep_copy(migrations);
    copy_members(u->settings, meta, of_script);
    copy_members(u->runtime, meta, of_version);
    if (json_is_array(json_object_get(meta, "keep_bindings")))
        u->keep = json_incref(json_object_get(meta, "keep_bindings"));
    if (sv_bindings_check(u->bindings, false, err) != SV_OK || read_assets(u, a, meta, err) != SV_OK ||
        read_annotations(u, meta, err) != SV_OK)
        return err->code;
    split_secrets(u);
    return u->compatibility_date.p ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for the upload");
}

/* ---- modules ---- */

static sv_rc module_kind(sv_str type, sv_str name, sv_module_kind *out, sv_err *err)
{
    const char *semi = type.n ? memchr(type.p, ';', type.n) : NULL;
    if (semi)
        type.n = (size_t)(semi - type.p);
    type = sv_str_trim(type);
    for (size_t i = 0; i < SV_LEN(kinds); i++)
        if (sv_str_ieq(type, kinds[i].type)) {
            *out = (sv_module_kind)i;
            return SV_OK;
        }
    if (sv_str_ieq(type, "text/javascript") || sv_str_ieq(type, "text/javascript+module")) {
        *out = SV_MODULE_ES;
        return SV_OK;
    }
    return sv_fail_api(err, SV_EINVAL, 10021,
                       "module '%.*s' is of type '%.*s': this release runs ES modules, CommonJS, text, data, wasm and JSON",
                       (int)(name.n > 100 ? 100 : name.n), name.p, (int)(type.n > 60 ? 60 : type.n), type.n ? type.p : "");
}

static sv_rc add_module(sv_upload *u, const sv_part *part, sv_str main_module, size_t *bytes, sv_err *err)
{
    /* The part's filename is the module's name (the SDK calls every part "files[]"); curl users name the part. */
    sv_str name = part->filename.n && !sv_str_eq(part->name, main_module) ? part->filename : part->name;
    if (name.n == 0 || name.n > MAX_MODULE_NAME || has_nul(name) || !sv_utf8_valid(name))
        return sv_fail_api(err, SV_EINVAL, 10021, "a module's name must be text of 1 to %d bytes", MAX_MODULE_NAME);
    sv_module m = {.name = name, .data = part->data};
    if (module_kind(part->content_type, name, &m.kind, err) != SV_OK)
        return err->code;
    if (sv_str_eq(name, main_module) && m.kind == SV_MODULE_COMMONJS)
        m.kind = SV_MODULE_ES; /* what is named as main_module is an ES module, whatever its label says */
    for (size_t i = 0; i < u->n_modules; i++)
        if (sv_str_eq(u->modules[i].name, name))
            return sv_fail_api(err, SV_EINVAL, 10021, "module '%.*s' is in the form twice", (int)(name.n > 100 ? 100 : name.n),
                               name.p);
    if (m.kind != SV_MODULE_SOURCE_MAP)
        *bytes += m.data.n;
    u->modules[u->n_modules++] = m;
    return sv_limit_check(SV_LIMIT_SCRIPT_BYTES, (int64_t)*bytes, "modules", err);
}

static sv_rc read_modules(sv_upload *u, sv_arena *a, const sv_parts *parts, sv_str main_module, sv_err *err)
{
    size_t max = (size_t)sv_limit_value(SV_LIMIT_MODULES), bytes = 0;
    u->modules = sv_arena_new(a, sv_module, parts->n < max ? parts->n + 1 : max + 1);
    if (!u->modules)
        return sv_fail(err, SV_ENOMEM, "no memory for the upload");
    for (size_t i = 0; i < parts->n; i++) {
        const sv_part *p = &parts->v[i];
        bool is_field = p->content_type.n == 0 && p->filename.n == 0;
        if (is_field || sv_str_is(p->name, "metadata") || sv_str_starts(p->name, "metadata["))
            continue;
        if (u->n_modules == max)
            return sv_limit_check(SV_LIMIT_MODULES, (int64_t)max + 1, "modules", err);
        if (add_module(u, p, main_module, &bytes, err) != SV_OK)
            return err->code;
    }
    for (size_t i = 0; i < u->n_modules; i++)
        if (sv_str_eq(u->modules[i].name, main_module) && main_module.n) {
            if (u->modules[i].kind != SV_MODULE_ES)
                return sv_fail_api(err, SV_EINVAL, 10021, "main module '%.*s' is no ES module",
                                   (int)(main_module.n > 100 ? 100 : main_module.n), main_module.p);
            sv_module first = u->modules[i];
            memmove(u->modules + 1, u->modules, i * sizeof first);
            u->modules[0] = first;
            return SV_OK;
        }
    if (main_module.n)
        return sv_fail_api(err, SV_EINVAL, 10021, "main_module '%.*s' is not among the form's parts",
                           (int)(main_module.n > 100 ? 100 : main_module.n), main_module.p);
    if (u->n_modules)
        return sv_fail_api(err, SV_EINVAL, 10021, "the metadata names no main_module");
    return SV_OK;
}

sv_rc sv_upload_parse(sv_upload *out, sv_arena *a, sv_str content_type, sv_str body, const char *today, sv_err *err)
{
    sv_parts parts = {0};
    sv_upload u = {0};
    SV_AUTO(sv_json_decrefp) json_t *meta = NULL;
    if (content_type.n < 10 || strncasecmp(content_type.p, "multipart/", 10) != 0)
        content_type =
            (sv_str){0}; /* the SDK says application/javascript over a form: the body's first line shows the boundary */
    if (sv_multipart_parse(&parts, a, content_type, body, err) != SV_OK) {
        err->api_code = 10026;
        return err->code;
    }
    sv_str main_module = {0};
    if (sv_form_object(&meta, &parts, "metadata", err) != SV_OK || sv_json_str(meta, "main_module", &main_module, err) != SV_OK)
        return err->code;
    if (apply_metadata(&u, a, meta, today, err) != SV_OK || read_modules(&u, a, &parts, main_module, err) != SV_OK) {
        sv_upload_done(&u);
        return err->code;
    }
    if (u.n_modules == 0 && !u.assets_config && !u.keep_assets) {
        sv_upload_done(&u);
        return sv_fail_api(err, SV_EINVAL, 10012, "the upload has neither a module nor assets");
    }
    *out = u;
    return SV_OK;
}

void sv_upload_done(sv_upload *u)
{
    json_t **owned[] = {&u->bindings,    &u->secrets,  &u->keep,    &u->flags,   &u->migrations,
                        &u->annotations, &u->settings, &u->runtime, &u->assets_config};
    for (size_t i = 0; i < SV_LEN(owned); i++) {
        json_decref(*owned[i]);
        *owned[i] = NULL;
    }
}
