/* config.c - writes what workerd reads
 *
 * Text and not the binary form: it is what one looks at when a Worker misbehaves, and `embed` keeps modules out of it. Secrets
 * are not in it; they go by fromEnvironment, so that the file may lie on the disk.
 *
 * For each Worker NAME there are the services
 *   worker:NAME   the script            NAME.net  its fetch() to the world: the daemon's socket, style = proxy
 *   NAME.assets   its static assets     NAME.ai   its AI binding: the same socket
 *   NAME.cache    its Cache API: the same socket
 *   NAME.events   the dispatcher beside its script (dispatcher/), when queues or schedules call it; on a socket "http-KEY-e"
 *   NAME.objects  the folder of its Durable Objects
 *   NAME.bI       what its binding number I calls, when that is a product of products.h: the same socket
 * and one socket "http-KEY". A script name has no ':' and no '.', so no user can name a service of ours. The service "internet"
 * exists and allows nothing: without it workerd makes one that reads the system's certificates, which the cage does not have.
 *
 * Static assets are workerd's own asset service (experimental, hence the flag): it is the code that answers on the hosted
 * platform, so html_handling, _headers and _redirects need no second implementation here. */
#include "workers/config.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "workers/dispatcher_js.h"
#include "workers/products.h"
#include "workers/runtime.h"

typedef struct writer {
    sv_buf b;
    const sv_config_worker *w;
    size_t n;
    sv_arena *a;
    const char **env;
    size_t n_env;
    bool gone; /* some binding names a Worker that is not there */
    bool closed;
} writer;

static void add_text(sv_buf *b, sv_str s)
{
    sv_buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            sv_buf_addf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            sv_buf_addf(b, "\\x%02x", c);
        else
            sv_buf_addc(b, (char)c);
    }
    sv_buf_addc(b, '"');
}

static void add_cstr(sv_buf *b, const char *s) { add_text(b, sv_str_of(s)); }

static void add_json_text(sv_buf *b, const json_t *v)
{
    SV_AUTO(sv_buf_donep) sv_buf t;
    sv_buf_init(&t, 0);
    sv_json_add_value(&t, v);
    add_text(b, sv_buf_str(&t));
    b->failed |= t.failed;
}

static bool has_assets(const sv_config_worker *w) { return json_is_object(json_object_get(w->meta, "assets")); }
static bool has_script(const sv_config_worker *w) { return json_is_string(json_object_get(w->meta, "main_module")); }

static const char *effective_date(const sv_config_worker *w)
{
    const char *date = sv_json_cstr(w->meta, "compatibility_date");
    return !date || strcmp(date, SV_WORKERD_DATE) > 0 ? SV_WORKERD_DATE : date;
}

static void add_compatibility(sv_buf *b, const sv_config_worker *w)
{
    sv_buf_adds(b, "compatibilityDate = ");
    add_cstr(b, effective_date(w));
    sv_buf_adds(b, ",\n      compatibilityFlags = [");
    size_t i;
    json_t *f;
    json_array_foreach (json_object_get(w->meta, "compatibility_flags"), i, f) {
        sv_buf_adds(b, i ? ", " : "");
        add_cstr(b, json_string_value(f));
    }
    sv_buf_adds(b, "]");
}

/* ---- modules ---- */

static sv_rc add_modules(writer *o, const sv_config_worker *w, sv_err *err)
{
    static const struct {
        const char *kind, *field;
    } fields[] = {
        {"esm", "esModule"}, {"cjs", "commonJsModule"}, {"text", "text"}, {"data", "data"}, {"wasm", "wasm"}, {"json", "json"},
    };
    sv_buf_adds(&o->b, "      modules = [\n");
    size_t i;
    json_t *m;
    json_array_foreach (json_object_get(w->meta, "modules"), i, m) {
        const char *name = sv_json_cstr(m, "name"), *kind = sv_json_cstr(m, "kind"), *file = sv_json_cstr(m, "file"),
                   *field = NULL;
        if (!name || !kind || !file)
            return sv_fail(err, SV_EINVAL, "Worker '%s': module %zu of its record is broken", w->name, i);
        for (size_t k = 0; k < SV_LEN(fields); k++)
            if (strcmp(fields[k].kind, kind) == 0)
                field = fields[k].field;
        if (!field)
            continue; /* a source map */
        sv_buf_adds(&o->b, "        (name = ");
        add_cstr(&o->b, name);
        sv_buf_addf(&o->b, ", %s = embed ", field);
        char *path = sv_arena_printf(o->a, "%s/%s", w->from_config, file);
        if (!path)
            return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
        add_cstr(&o->b, path);
        sv_buf_adds(&o->b, "),\n");
    }
    sv_buf_adds(&o->b, "      ],\n      ");
    return SV_OK;
}

/* ---- bindings ---- */

static const sv_config_worker *find_worker(const writer *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++)
        if (strcmp(o->w[i].name, name) == 0)
            return &o->w[i];
    return NULL;
}

static sv_rc add_service(writer *o, const json_t *binding, sv_err *err)
{
    const char *service = sv_json_cstr(binding, "service"), *entrypoint = sv_json_cstr(binding, "entrypoint");
    const json_t *props = json_object_get(binding, "props");
    const sv_config_worker *to = service ? find_worker(o, service) : NULL;
    if (entrypoint && strcmp(entrypoint, "default") == 0)
        entrypoint = NULL;
    if (!to) {
        o->gone = true;
        sv_buf_adds(&o->b, "service = \"worker:\"");
        return SV_OK;
    }
    if (!has_script(to) && entrypoint)
        return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' names entrypoint '%s' of Worker '%s', which has no script",
                           sv_json_cstr(binding, "name"), entrypoint, to->name);
    /* Its files answer first, as for a visitor; calls of methods go through to the script. Only a script can be given props. */
    if (!has_script(to) || (has_assets(to) && !entrypoint && json_object_size(props) == 0)) {
        sv_buf_addf(&o->b, "service = \"%s.assets\"", to->name);
        return SV_OK;
    }
    sv_buf_addf(&o->b, "service = (name = \"worker:%s\"", to->name);
    if (entrypoint) {
        sv_buf_adds(&o->b, ", entrypoint = ");
        add_cstr(&o->b, entrypoint);
    }
    if (json_object_size(props)) {
        sv_buf_adds(&o->b, ", props = (json = ");
        add_json_text(&o->b, props);
        sv_buf_addc(&o->b, ')');
    }
    sv_buf_addc(&o->b, ')');
    return SV_OK;
}

static sv_rc add_objects_binding(writer *o, const sv_config_worker *w, const json_t *b, sv_err *err)
{
    const char *script = sv_json_cstr(b, "script_name");
    const sv_config_worker *to = script ? find_worker(o, script) : w;
    if (!to || !has_script(to))
        return sv_fail_api(err, SV_EINVAL, 10061, "Binding '%s': Worker '%s', whose Durable Objects it names, is not there", sv_json_cstr(b, "name"), script);
    sv_buf_adds(&o->b, "durableObjectNamespace = (className = ");
    add_cstr(&o->b, sv_json_cstr(b, "class_name"));
    if (to != w)
        sv_buf_addf(&o->b, ", serviceName = \"worker:%s\"", to->name);
    sv_buf_addc(&o->b, ')');
    return SV_OK;
}

/* {"id", "tag", "timestamp"} as `env.CF_VERSION_METADATA` has it. */
static void add_version_metadata(writer *o, const sv_config_worker *w)
{
    char when[32];
    sv_iso8601(when, w->created_ms);
    const char *tag = sv_json_cstr(json_object_get(w->meta, "annotations"), "workers/tag");
    SV_AUTO(sv_json_decrefp)
    json_t *v = json_pack("{s:s, s:s, s:s}", "id", w->version_id, "tag", tag ? tag : "", "timestamp", when);
    sv_buf_adds(&o->b, "json = ");
    add_json_text(&o->b, v);
}

static sv_rc add_secret(writer *o, const sv_config_worker *w, const char *name, sv_err *err)
{
    const json_t *value = json_object_get(w->secrets, name);
    if (!json_is_string(value))
        return sv_fail(err, SV_EINVAL, "Worker '%s': secret '%s' has no value", w->name, name);
    char *line = sv_arena_printf(o->a, "SV_SECRET_%zu=%s", o->n_env, json_string_value(value));
    if (!line)
        return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
    sv_buf_addf(&o->b, "fromEnvironment = \"SV_SECRET_%zu\"", o->n_env);
    o->env[o->n_env++] = line;
    return SV_OK;
}

/* The binding's value: its service, and what of the binding itself the module in between needs to know. */
static void add_product_value(writer *o, const sv_config_worker *w, const sv_product *p, size_t i, const json_t *b)
{
    sv_buf_addf(&o->b, "%s\"%s.b%zu\"%s", p->before, w->name, i, p->after);
    if (!p->inner)
        return;
    const char *key;
    json_t *v;
    json_object_foreach (json_object_get(b, p->inner), key, v) {
        sv_buf_adds(&o->b, ", (name = ");
        add_cstr(&o->b, key);
        sv_buf_adds(&o->b, ", json = ");
        add_json_text(&o->b, v);
        sv_buf_addc(&o->b, ')');
    }
    sv_buf_adds(&o->b, p->inner_end);
}

static sv_rc add_binding(writer *o, const sv_config_worker *w, size_t i, const json_t *b, sv_err *err)
{
    const char *name = sv_json_cstr(b, "name"), *kind = sv_json_cstr(b, "type");
    if (!name || !kind)
        return sv_fail(err, SV_EINVAL, "Worker '%s': a binding of its record is broken", w->name);
    sv_buf_adds(&o->b, "        (name = ");
    add_cstr(&o->b, name);
    sv_buf_adds(&o->b, ", ");
    const sv_product *p = sv_product_of(kind);
    if (p) {
        add_product_value(o, w, p, i, b);
    } else if (strcmp(kind, "plain_text") == 0) {
        const json_t *text = json_object_get(b, "text");
        sv_buf_adds(&o->b, "text = ");
        add_text(&o->b, (sv_str){json_string_value(text), json_string_length(text)});
    } else if (strcmp(kind, "json") == 0) {
        sv_buf_adds(&o->b, "json = ");
        add_json_text(&o->b, json_object_get(b, "json"));
    } else if (strcmp(kind, "secret_text") == 0) {
        if (add_secret(o, w, name, err) != SV_OK)
            return err->code;
    } else if (strcmp(kind, "ai") == 0) {
        sv_buf_addf(&o->b,
                    "wrapped = (moduleName = \"cloudflare-internal:ai-api\", innerBindings = [(name = \"fetcher\", service = "
                    "\"%s.ai\")])",
                    w->name);
    } else if (strcmp(kind, "assets") == 0) {
        if (!has_assets(w))
            return sv_fail_api(err, SV_EINVAL, 10021, "Binding '%s' is of kind 'assets', and the Worker has none", name);
        sv_buf_addf(&o->b, "service = (name = \"%s.assets\", entrypoint = \"AssetWorker\")", w->name);
    } else if (strcmp(kind, "service") == 0) {
        if (add_service(o, b, err) != SV_OK)
            return err->code;
    } else if (strcmp(kind, "durable_object_namespace") == 0) {
        if (add_objects_binding(o, w, b, err) != SV_OK)
            return err->code;
    } else if (strcmp(kind, "version_metadata") == 0) {
        add_version_metadata(o, w);
    } else {
        return sv_fail(err, SV_EINVAL, "Worker '%s': binding '%s' is of kind '%s'", w->name, name, kind);
    }
    sv_buf_adds(&o->b, "),\n");
    return SV_OK;
}

static bool uses_ai(const sv_config_worker *w)
{
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(w->meta, "bindings"), i, b) {
        const char *kind = sv_json_cstr(b, "type");
        if (kind && strcmp(kind, "ai") == 0)
            return true;
    }
    return false;
}

/* ---- services and sockets ---- */

static void add_classes(writer *o, const sv_config_worker *w)
{
    size_t i;
    json_t *c;
    if (json_array_size(w->classes) == 0)
        return;
    sv_buf_adds(&o->b, ",\n      durableObjectNamespaces = [");
    json_array_foreach ((json_t *)(uintptr_t)w->classes, i, c) {
        sv_buf_adds(&o->b, i ? ", (className = " : "(className = ");
        add_cstr(&o->b, sv_json_cstr(c, "class"));
        sv_buf_addf(&o->b, ", uniqueKey = \"%s\", enableSql = %s)", sv_json_cstr(c, "id"), json_is_true(json_object_get(c, "sqlite")) ? "true" : "false");
    }
    sv_buf_addf(&o->b, "],\n      durableObjectStorage = (localDisk = \"%s.objects\")", w->name);
}

static sv_rc add_script(writer *o, const sv_config_worker *w, sv_err *err)
{
    sv_buf_addf(&o->b, "    (name = \"worker:%s\", worker = (\n", w->name);
    if (add_modules(o, w, err) != SV_OK)
        return err->code;
    add_compatibility(&o->b, w);
    add_classes(o, w);
    sv_buf_addf(&o->b, ",\n      globalOutbound = \"%s.net\",\n      cacheApiOutbound = \"%s.cache\",\n      bindings = [\n", w->name, w->name);
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(w->meta, "bindings"), i, b)
        if (add_binding(o, w, i, b, err) != SV_OK)
            return err->code;
    sv_buf_adds(&o->b, "      ])),\n");
    return SV_OK;
}

/* The daemon's socket for this Worker; the header says what the call is for, and replaces one that the Worker sets. */
static void add_external(writer *o, const sv_config_worker *w, const char *suffix, const char *style, const char *binding)
{
    sv_buf_addf(&o->b, "    (name = \"%s.%s\", external = (address = ", w->name, suffix);
    char *address = sv_arena_printf(o->a, "unix:%s", w->binding_path);
    add_cstr(&o->b, address);
    o->b.failed |= !address;
    sv_buf_addf(&o->b, ", http = (%sinjectRequestHeaders = [(name = \"x-sv-binding\", value = ", style);
    add_cstr(&o->b, binding);
    sv_buf_adds(&o->b, ")]))),\n");
}

static sv_rc add_products(writer *o, const sv_config_worker *w, sv_err *err)
{
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(w->meta, "bindings"), i, b) {
        const sv_product *p = sv_product_of(sv_json_cstr(b, "type"));
        const char *id = p ? sv_json_cstr(b, p->id) : NULL;
        if (!p)
            continue;
        char *suffix = sv_arena_printf(o->a, "b%zu", i), *header = sv_arena_printf(o->a, "%s:%s", p->route, id ? id : "");
        if (!suffix || !header)
            return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
        add_external(o, w, suffix, "", header);
    }
    return SV_OK;
}

static void add_assets(writer *o, const sv_config_worker *w)
{
    static const char *const names[][2] = {{"html_handling", "html_handling"},
                                           {"not_found_handling", "not_found_handling"},
                                           {"run_worker_first", "run_worker_first"},
                                           {"_headers", "headers"},
                                           {"_redirects", "redirects"}};
    const json_t *config = json_object_get(json_object_get(w->meta, "assets"), "config");
    SV_AUTO(sv_json_decrefp) json_t *c = json_object();
    for (size_t i = 0; i < SV_LEN(names); i++) {
        json_t *v = json_object_get(config, names[i][0]);
        if (v)
            json_object_set(c, names[i][1], v);
    }
    sv_buf_addf(&o->b, "    (name = \"%s.assets\", assets = (path = ", w->name);
    char *path = sv_arena_printf(o->a, "%s/assets", w->folder);
    add_cstr(&o->b, path);
    o->b.failed |= !path;
    sv_buf_adds(&o->b, ",\n      config = ");
    add_json_text(&o->b, c);
    sv_buf_adds(&o->b, ",\n      ");
    if (has_script(w))
        sv_buf_addf(&o->b, "userWorker = \"worker:%s\"", w->name);
    else
        add_compatibility(&o->b, w);
    sv_buf_adds(&o->b, ")),\n");
}

/* Its flag lets it call what is not HTTP; a user's script may not have it, since it feeds bytes to V8's deserializer. */
static void add_dispatcher(writer *o, const sv_config_worker *w)
{
    sv_buf_addf(&o->b, "    (name = \"%s.events\", worker = (compatibilityDate = \"" SV_WORKERD_DATE
                       "\", compatibilityFlags = [\"service_binding_extra_handlers\"],\n      modules = [(name = \"dispatcher.js\", esModule = ", w->name);
    add_cstr(&o->b, dispatcher_js);
    sv_buf_addf(&o->b, ")], bindings = [(name = \"USER\", service = \"worker:%s\")])),\n", w->name);
}

static bool has_dispatcher(const sv_config_worker *w) { return w->events && has_script(w); }

static sv_rc add_worker(writer *o, const sv_config_worker *w, sv_err *err)
{
    if (!has_script(w) && !has_assets(w))
        return sv_fail(err, SV_EINVAL, "Worker '%s' has neither a script nor assets", w->name);
    if (has_script(w)) {
        if (add_script(o, w, err) != SV_OK)
            return err->code;
        add_external(o, w, "net", "style = proxy, ", "net");
        char *cache = sv_arena_printf(o->a, "cache:%s", w->key); /* what it keeps is its own */
        if (!cache)
            return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
        add_external(o, w, "cache", "forwardedProtoHeader = \"x-forwarded-proto\", cfBlobHeader = \"x-sv-cf\", ", cache);
        if (uses_ai(w))
            add_external(o, w, "ai", "", "ai");
        if (add_products(o, w, err) != SV_OK)
            return err->code;
    }
    if (has_dispatcher(w))
        add_dispatcher(o, w);
    if (has_script(w) && json_array_size(w->classes)) {
        sv_buf_addf(&o->b, "    (name = \"%s.objects\", disk = (path = ", w->name);
        add_cstr(&o->b, w->objects);
        sv_buf_adds(&o->b, ", writable = true)),\n");
    }
    if (has_assets(w))
        add_assets(o, w);
    return SV_OK;
}

static void add_socket(writer *o, const sv_config_worker *w)
{
    sv_buf_addf(
        &o->b,
        "    (name = \"http-%s\", http = (cfBlobHeader = \"x-sv-cf\", forwardedProtoHeader = \"x-forwarded-proto\"), service = ",
        w->key);
    if (!w->open)
        sv_buf_adds(&o->b, "\"closed:\"");
    else
        sv_buf_addf(&o->b, has_assets(w) ? "\"%s.assets\"" : "\"worker:%s\"",
                    w->name); /* names are DNS labels: nothing to escape */
    o->closed |= !w->open;
    sv_buf_adds(&o->b, "),\n");
    if (w->events) /* a Worker of files only has nothing to call: its socket answers as the Worker does */
        sv_buf_addf(&o->b, "    (name = \"http-%s" SV_EVENTS_SUFFIX "\", http = (), service = \"%s.%s\"),\n", w->key, w->name,
                    has_script(w) ? "events" : "assets");
}

/* A script of ours that stands where nothing is to be reached. */
static void add_stand_in(writer *o, const char *name, const char *script)
{
    sv_buf_addf(&o->b,
                "    (name = \"%s\", worker = (compatibilityDate = \"" SV_WORKERD_DATE
                "\", modules = [(name = \"stand-in.js\", esModule = ",
                name);
    add_cstr(&o->b, script);
    sv_buf_adds(&o->b, ")])),\n");
}

static bool uses(const writer *o, const sv_product *p)
{
    size_t k;
    json_t *b;
    for (size_t i = 0; i < o->n; i++)
        json_array_foreach (json_object_get(o->w[i].meta, "bindings"), k, b)
            if (sv_product_of(sv_json_cstr(b, "type")) == p)
                return true;
    return false;
}

/* The modules of ours that bindings are wrapped in; user code cannot import them. */
static void add_extensions(writer *o)
{
    bool any = false;
    const sv_product *p;
    for (size_t i = 0; (p = sv_product_at(i)); i++) {
        if (!p->module || !uses(o, p))
            continue;
        sv_buf_adds(&o->b, any ? ",\n    " : "  extensions = [(modules = [\n    ");
        sv_buf_adds(&o->b, "(name = ");
        add_cstr(&o->b, p->module);
        sv_buf_adds(&o->b, ", internal = true, esModule = ");
        add_cstr(&o->b, p->script);
        sv_buf_addc(&o->b, ')');
        any = true;
    }
    sv_buf_adds(&o->b, any ? "])],\n" : "");
}

static size_t count_bindings(const sv_config_worker *workers, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += json_array_size(json_object_get(workers[i].meta, "bindings"));
    return sum;
}

static sv_rc write_all(writer *o, sv_err *err)
{
    sv_buf_adds(&o->b, "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n  sockets = [\n");
    for (size_t i = 0; i < o->n; i++)
        add_socket(o, &o->w[i]);
    sv_buf_adds(&o->b, "  ],\n  services = [\n");
    for (size_t i = 0; i < o->n; i++)
        if (add_worker(o, &o->w[i], err) != SV_OK)
            return err->code;
    if (o->closed)
        add_stand_in(
            o, "closed:",
            "export default { fetch() { return new Response(\"This Worker has no public address (workers_dev is off).\\n\", "
            "{ status: 404 }); } };");
    if (o->gone)
        add_stand_in(
            o, "worker:",
            "export default { fetch() { throw new Error(\"The Worker that this service binding names does not exist\"); } };");
    sv_buf_adds(&o->b,
                "    (name = \"internet\", network = (allow = [])),\n  ],\n");
    add_extensions(o);
    sv_buf_adds(&o->b, "  v8Flags = [\"--max-old-space-size=128\"],\n);\n");
    return o->b.failed ? sv_fail(err, SV_ENOMEM, "no memory for the configuration") : SV_OK;
}

sv_rc sv_config_make(sv_config *out, const sv_config_worker *workers, size_t n, sv_arena *a, sv_err *err)
{
    writer o = {.w = workers, .n = n, .a = a};
    o.env = sv_arena_new(a, const char *, count_bindings(workers, n) + 1);
    if (!o.env)
        return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
    sv_buf_init(&o.b, 0);
    sv_rc rc = write_all(&o, err);
    char *text = rc == SV_OK ? sv_arena_strndup(a, sv_buf_cstr(&o.b), o.b.n) : NULL;
    size_t text_n = o.b.n;
    sv_buf_done(&o.b);
    if (rc != SV_OK)
        return rc;
    if (!text)
        return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
    bool experimental = false;
    for (size_t i = 0; i < n; i++)
        experimental |= has_assets(&workers[i]) || has_dispatcher(&workers[i]);
    *out = (sv_config){.text = {text, text_n}, .env = o.env, .experimental = experimental};
    return SV_OK;
}
