/* deploy.c - a version, from the upload to the process that serves it
 *
 *   files written and synced -> the unit starts with it -> rows committed -> answer
 *
 * The process comes before the rows, so that what the store says is deployed has been seen to start. A crash of ours between the
 * two leaves a process that runs what no row names: the next daemon compares and swaps it for what is recorded, and sweeps the
 * files. A crash after the rows is a deployment that was not acknowledged and holds all the same.
 *
 * A new script is declared (its sockets and its route made) before its first start and removed again when that fails. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"
#include "workers/objects.h"
#include "workers/products.h"
#include "workers/workers_impl.h"

typedef struct attempt {
    sv_workers *w;
    const sv_author *by;
    const char *name;
    sv_script script;
    bool new_script, migrated;
    bool new_settings; /* script.settings are to be stored */
    sv_version base; /* the version before; zeroed for the first */
    sv_version v;
} attempt;

static void attempt_done(attempt *t)
{
    sv_script_done(&t->script);
    sv_version_done(&t->base);
    sv_version_done(&t->v);
}

/* ---- the script ---- */

static sv_rc begin_new_script(attempt *t, sv_err *err)
{
    bool taken;
    int64_t n;
    if (sv_worker_name_check(sv_str_of(t->name), err) != SV_OK ||
        sv_store_name_taken(t->w, &taken, t->by->account, t->name, err) != SV_OK ||
        sv_store_count(t->w, &n, t->by->account, err) != SV_OK)
        return err->code;
    if (taken)
        return sv_fail_api(err, SV_EINVAL, 10016,
                           "the host name '%s' belongs to a Worker of another account on this node: choose another name",
                           t->name);
    if (sv_limit_check(SV_LIMIT_WORKERS, n + 1, "Workers of the account", err) != SV_OK)
        return err->code;
    t->new_script = true;
    sv_script *s = &t->script;
    sv_worker_key(s->key, t->by->account, t->name);
    snprintf(s->account, sizeof s->account, "%s", t->by->account);
    snprintf(s->name, sizeof s->name, "%s", t->name);
    sv_random_hex(s->tag, 16);
    s->created_ms = s->modified_ms = sv_now_ms();
    s->open = true; /* NAME.localhost is how one reaches it here; wrangler says at once when workers_dev is off */
    s->settings = json_object();
    s->objects = json_object();
    return SV_OK;
}

/* The script, and the version before when there is one. */
static sv_rc begin(attempt *t, bool may_be_new, sv_which base, sv_err *err)
{
    sv_rc rc = sv_store_script(t->w, &t->script, t->by->account, t->name, err);
    if (rc == SV_ENOENT && may_be_new)
        return begin_new_script(t, err);
    if (rc != SV_OK)
        return rc;
    return sv_store_version(t->w, &t->base, t->script.key, base, NULL, true, err);
}

static void new_version(attempt *t)
{
    sv_version *v = &t->v;
    sv_uuid4(v->id);
    snprintf(v->key, sizeof v->key, "%s", t->script.key);
    v->created_ms = sv_now_ms();
}

/* A service binding must name a Worker that is there (or the one that is being deployed). */
static sv_rc check_service(attempt *t, const char *name, const char *service, sv_err *err)
{
    if (strcmp(service, t->name) == 0)
        return SV_OK;
    sv_script s = {0};
    sv_rc rc = sv_store_script(t->w, &s, t->by->account, service, err);
    sv_script_done(&s);
    if (rc == SV_ENOENT)
        return sv_fail_api(err, SV_EINVAL, 10021, "Could not resolve service binding '%s'. Target script '%s' not found", name,
                           service);
    return rc;
}

/* A binding to a class of Durable Objects: of this script as its migrations leave it, or of another one. */
static sv_rc check_class(attempt *t, const json_t *b, sv_err *err)
{
    const char *name = sv_json_cstr(b, "name"), *class_name = sv_json_cstr(b, "class_name"), *script = sv_json_cstr(b, "script_name");
    if (!script || strcmp(script, t->name) == 0) {
        if (sv_objects_find(t->script.objects, class_name))
            return SV_OK;
        return sv_fail_api(err, SV_EINVAL, 10061, "Binding '%s': cannot bind class '%s', which no migration of this Worker has made a class of Durable Objects",
                           name, class_name);
    }
    sv_script s = {0};
    sv_rc rc = sv_store_script(t->w, &s, t->by->account, script, err);
    bool found = rc == SV_OK && sv_objects_find(s.objects, class_name);
    sv_script_done(&s);
    if (rc != SV_OK && rc != SV_ENOENT)
        return rc;
    return found ? SV_OK : sv_fail_api(err, SV_EINVAL, 10061, "Binding '%s': Worker '%s' has no class of Durable Objects '%s'", name, script, class_name);
}

static sv_rc check_product(attempt *t, const char *name, const sv_product *p, const char *id, sv_err *err)
{
    if (!t->w->binding_exists)
        return SV_OK;
    sv_rc rc = t->w->binding_exists(t->w->ctx, p->kind, id, t->by->account, err);
    if (rc != SV_ENOENT)
        return rc;
    sv_wrap(err, "Binding '%s' of kind '%s'", name, p->kind);
    err->code = SV_EINVAL; /* it is the upload that is wrong, not its address */
    err->api_code = 10021;
    return SV_EINVAL;
}

/* What bindings name must be there. */
static sv_rc check_targets(attempt *t, sv_err *err)
{
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(t->v.meta, "bindings"), i, b) {
        const char *name = sv_json_cstr(b, "name"), *kind = sv_json_cstr(b, "type");
        const sv_product *p = sv_product_of(kind);
        sv_rc rc = SV_OK;
        if (strcmp(kind, "service") == 0)
            rc = check_service(t, name, sv_json_cstr(b, "service"), err);
        else if (strcmp(kind, "durable_object_namespace") == 0)
            rc = check_class(t, b, err);
        else if (p)
            rc = check_product(t, name, p, sv_json_cstr(b, p->id), err);
        if (rc != SV_OK)
            return rc;
    }
    return SV_OK;
}

/* ---- files ---- */

static sv_rc open_folder(const char *path, sv_err *err)
{
    if (sv_mkdir_p(path, 0755, err) != SV_OK)
        return err->code;
    return chmod(path, 0755) == 0 ? SV_OK : sv_fail_errno(err, "mode of '%s'", path);
}

static sv_rc write_modules(const char *folder, const sv_upload *u, json_t *modules, char etag[65], sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf sums;
    sv_buf_init(&sums, 0);
    for (size_t i = 0; i < u->n_modules; i++) {
        const sv_module *m = &u->modules[i];
        char path[4300], file[32];
        uint8_t sum[32];
        snprintf(file, sizeof file, "m%zu", i);
        snprintf(path, sizeof path, "%s/%s", folder, file);
        if (sv_file_replace(path, m->data.p ? m->data.p : "", m->data.n, 0644, err) != SV_OK)
            return err->code;
        sv_sha256(sum, m->data.p, m->data.n);
        sv_buf_add(&sums, sum, sizeof sum);
        sv_buf_add(&sums, m->name.p, m->name.n);
        json_t *row = json_object();
        json_object_set_new(row, "name", json_stringn(m->name.p, m->name.n));
        json_object_set_new(row, "kind", json_string(sv_module_kind_name(m->kind)));
        json_object_set_new(row, "file", json_string(file));
        json_object_set_new(row, "size", json_integer((json_int_t)m->data.n));
        json_array_append_new(modules, row);
    }
    uint8_t all[32];
    sv_sha256(all, sums.p, sums.n);
    sv_hex(etag, all, sizeof all);
    return SV_OK;
}

/* What the upload says about assets: a finished session, or those of the version before. NULL in *manifest: none. */
static sv_rc find_manifest(attempt *t, const sv_upload *u, json_t **manifest, sv_err *err)
{
    if (u->assets_jwt.n) {
        sv_asset_session s = {0};
        if (sv_assets_open_token(t->w, u->assets_jwt, &s, err) != SV_OK)
            return err->code;
        if (!s.complete || strcmp(s.account, t->by->account) != 0 || strcmp(s.script, t->name) != 0) {
            sv_asset_session_done(&s);
            return sv_fail_api(err, SV_EINVAL, 10021,
                               "assets.jwt is not the completion token of an asset upload for this Worker");
        }
        *manifest = s.manifest;
        return SV_OK;
    }
    if (u->keep_assets && json_is_object(json_object_get(t->base.meta, "assets")))
        return sv_assets_manifest_of(t->w, t->base.key, t->base.folder, manifest, err);
    return SV_OK;
}

static sv_rc write_assets(attempt *t, const sv_upload *u, const char *folder, json_t *meta, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *manifest = NULL;
    if (find_manifest(t, u, &manifest, err) != SV_OK)
        return err->code;
    if (!manifest) {
        json_object_set_new(meta, "assets", json_null());
        return SV_OK;
    }
    if (sv_assets_lay_out(t->w, t->by->account, manifest, folder, err) != SV_OK)
        return err->code;
    json_t *config = u->assets_config ? u->assets_config : json_object_get(json_object_get(t->base.meta, "assets"), "config");
    json_t *row = json_pack("{s:I}", "n_files", (json_int_t)json_object_size(manifest));
    json_object_set_new(row, "config", config ? json_incref(config) : json_object());
    json_object_set_new(meta, "assets", row);
    return SV_OK;
}

static void upload_meta(const attempt *t, const sv_upload *u, json_t *meta, json_t *modules, const char *etag)
{
    bool has_main = u->n_modules > 0;
    json_object_set_new(meta, "main_module", has_main ? json_stringn(u->modules[0].name.p, u->modules[0].name.n) : json_null());
    json_object_set_new(meta, "modules", modules);
    json_object_set(meta, "bindings", u->bindings);
    json_object_set_new(meta, "compatibility_date", json_stringn(u->compatibility_date.p, u->compatibility_date.n));
    json_object_set(meta, "compatibility_flags", u->flags);
    json_object_set(meta, "annotations", u->annotations);
    json_object_set(meta, "runtime", u->runtime);
    json_object_set_new(meta, "etag", json_string(etag));
    json_object_set_new(meta, "source", json_string(t->by->source));
    json_object_set_new(meta, "author", json_string(t->by->name));
    if (!json_object_get(u->annotations, "workers/triggered_by"))
        json_object_set_new(u->annotations, "workers/triggered_by", json_string("upload"));
}

/* Fills t->v from the upload and writes its files. */
static sv_rc write_version(attempt *t, sv_upload *u, sv_err *err)
{
    char folder[4096], etag[65];
    new_version(t);
    snprintf(t->v.folder, sizeof t->v.folder, "%s", t->v.id);
    sv_version_folder(t->w, t->v.key, t->v.folder, folder);
    if (open_folder(folder, err) != SV_OK)
        return err->code;
    t->v.meta = json_object();
    t->v.secrets = json_incref(u->secrets);
    json_t *modules = json_array();
    sv_rc rc = write_modules(folder, u, modules, etag, err);
    upload_meta(t, u, t->v.meta, modules, etag);
    return rc == SV_OK ? write_assets(t, u, folder, t->v.meta, err) : rc;
}

static void drop_files(const attempt *t)
{
    char folder[4096];
    sv_err err = {0};
    if (!t->v.folder[0])
        return;
    sv_version_folder(t->w, t->v.key, t->v.folder, folder);
    if (sv_remove_tree(folder, &err) != SV_OK)
        sv_log(SV_WARN, "worker.files", "key=%s error='%s' left='until the next start'", t->v.key, err.msg);
    snprintf(folder, sizeof folder, "%s/%s", t->w->root, t->v.key);
    rmdir(folder); /* goes when nothing else of the name is there */
}

/* ---- start and record ---- */

static void undeclare(attempt *t)
{
    sv_err err = {0};
    if (sv_script_undeclare(t->w, t->script.key, &err) != SV_OK)
        sv_log(SV_WARN, "worker.remove", "key=%s error='%s'", t->script.key, err.msg);
}

static void new_deployment(const attempt *t, const json_t *annotations, const char *trigger, sv_deployment *d)
{
    sv_uuid4(d->id);
    snprintf(d->version, sizeof d->version, "%s", t->v.id);
    d->created_ms = sv_now_ms();
    json_t *a = json_object();
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)annotations, key, v)
        if (json_is_string(v) && json_string_length(v) <= 1000)
            json_object_set(a, key, v);
    if (!json_object_get(a, "workers/triggered_by"))
        json_object_set_new(a, "workers/triggered_by", json_string(trigger));
    d->meta = json_pack("{s:s, s:s, s:o}", "source", t->by->source, "author", t->by->name, "annotations", a);
}

static void sweep(attempt *t)
{
    sv_err err = {0};
    if (sv_store_sweep(t->w, t->script.key, &err) != SV_OK)
        sv_log(SV_WARN, "worker.sweep", "key=%s error='%s'", t->script.key, err.msg);
}

/* Starts t->v in the place of what serves and records it; *d is then the deployment. */
static sv_rc deploy_now(attempt *t, bool is_new, const json_t *annotations, const char *trigger, sv_deployment *d, sv_err *err)
{
    int64_t startup_ms;
    if (sv_script_declare(t->w, &t->script, err) != SV_OK) /* a known one too: after a restart it may not be its turn yet */
        return err->code;
    sv_rc rc = sv_unit_swap(t->w, &t->script, &t->v, &startup_ms, err);
    if (rc == SV_OK) {
        if (is_new)
            t->v.startup_ms = startup_ms;
        new_deployment(t, annotations, trigger, d);
        sv_record r = {
            .script = &t->script, .version = &t->v, .new_script = t->new_script, .new_version = is_new, .migrated = t->migrated,
            .new_settings = t->new_settings, .deployment = d};
        rc = sv_store_record(t->w, &r, err);
        if (rc != SV_OK)
            sv_deployment_done(d);
        if (rc != SV_OK && !t->new_script) { /* what the store says must be what runs */
            sv_err back = {0};
            if (sv_unit_swap(t->w, &t->script, NULL, &startup_ms, &back) != SV_OK)
                sv_log(SV_ERROR, "worker.swap_back", "key=%s error='%s'", t->script.key, back.msg);
        }
    }
    if (rc != SV_OK && t->new_script) {
        undeclare(t);
        sv_objects_drop(t->w, t->script.key, t->script.objects, NULL);
    }
    if (rc == SV_OK)
        sweep(t);
    return rc;
}

static sv_rc upload_only(attempt *t, sv_err *err)
{
    if (sv_unit_try(t->w, &t->script, &t->v, &t->v.startup_ms, err) != SV_OK)
        return err->code;
    sv_record r = {.script = &t->script, .version = &t->v, .new_version = true};
    sv_rc rc = sv_store_record(t->w, &r, err);
    if (rc == SV_OK)
        sweep(t);
    return rc;
}

/* ---- uploads ---- */

/* They take effect with the deployment, and are stored in its commit. */
static void upload_settings(attempt *t, const sv_upload *u)
{
    if (json_object_size(u->settings) == 0)
        return;
    json_object_update(t->script.settings, u->settings);
    t->new_settings = !t->new_script;
}

static sv_rc migrate(attempt *t, const sv_upload *u, sv_deploy_how how, sv_err *err)
{
    if (!u->migrations)
        return SV_OK;
    if (how == SV_UPLOAD_ONLY)
        return sv_fail_api(err, SV_EINVAL, 10123, "migrations of Durable Objects are applied by a deployment: upload this version with `wrangler deploy`");
    t->migrated = true;
    return sv_objects_migrate(&t->script.objects, u->migrations, err);
}

static sv_rc upload_locked(attempt *t, sv_upload *u, sv_deploy_how how, bool strict, sv_err *err)
{
    if (begin(t, how == SV_DEPLOY_NOW, SV_LATEST, err) != SV_OK ||
        sv_upload_inherit(u, json_object_get(t->base.meta, "bindings"), t->base.secrets, strict, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_json_decrefp) json_t *before = json_incref(t->script.objects);
    sv_rc rc = migrate(t, u, how, err);
    if (rc == SV_OK)
        rc = write_version(t, u, err);
    if (rc == SV_OK)
        rc = check_targets(t, err);
    if (rc == SV_OK && how == SV_DEPLOY_NOW) {
        sv_deployment d = {0};
        upload_settings(t, u);
        rc = deploy_now(t, true, u->annotations, "upload", &d, err);
        sv_deployment_done(&d);
        if (rc == SV_OK && t->migrated)
            sv_objects_drop(t->w, t->script.key, before, t->script.objects);
    } else if (rc == SV_OK) {
        rc = upload_only(t, err);
    }
    if (rc != SV_OK)
        drop_files(t);
    return rc;
}

/* A name is a host on the node: two accounts must not make it at the same time. */
static void name_lock(const char *name, char out[33])
{
    char key[17];
    sv_worker_key(key, "", name);
    snprintf(out, 33, "name:%s", key);
}

sv_rc sv_deploy_upload(sv_workers *w, const sv_author *by, const char *name, sv_upload *u, sv_deploy_how how, bool strict,
                       sv_version *version, sv_err *err)
{
    attempt t = {.w = w, .by = by, .name = name};
    char lock[33];
    name_lock(name, lock);
    if (sv_account_lock(w, by->account, err) != SV_OK)
        return err->code;
    sv_rc rc = sv_account_lock(w, lock, err);
    if (rc == SV_OK) {
        rc = upload_locked(&t, u, how, strict, err);
        sv_account_unlock(w, lock);
    }
    sv_account_unlock(w, by->account);
    if (rc == SV_OK) {
        *version = t.v;
        t.v = (sv_version){0};
        sv_log(SV_INFO, how == SV_DEPLOY_NOW ? "worker.deploy" : "worker.upload", "key=%s version=%s start_ms=%lld", version->key,
               version->id, (long long)version->startup_ms);
    }
    attempt_done(&t);
    return rc;
}

/* ---- deployments of versions that are there ---- */

sv_rc sv_deploy_version(sv_workers *w, const sv_author *by, const char *name, const char *version_id, const json_t *annotations,
                        sv_deployment *out, sv_err *err)
{
    attempt t = {.w = w, .by = by, .name = name};
    if (sv_account_lock(w, by->account, err) != SV_OK)
        return err->code;
    sv_rc rc = sv_store_script(w, &t.script, by->account, name, err);
    if (rc == SV_OK)
        rc = sv_store_version(w, &t.v, t.script.key, SV_BY_ID, version_id, true, err);
    if (rc == SV_OK)
        rc = deploy_now(&t, false, annotations, "deployment", out, err);
    sv_account_unlock(w, by->account);
    if (rc == SV_OK)
        sv_log(SV_INFO, "worker.deploy", "key=%s version=%s", t.v.key, t.v.id);
    attempt_done(&t);
    return rc;
}

static sv_rc derive_locked(attempt *t, sv_deploy_how how, const char *trigger, sv_version_edit change, void *arg, sv_err *err)
{
    if (begin(t, false, how == SV_DEPLOY_NOW ? SV_DEPLOYED : SV_LATEST, err) != SV_OK)
        return err->code;
    new_version(t);
    snprintf(t->v.folder, sizeof t->v.folder, "%s", t->base.folder);
    t->v.meta = json_deep_copy(t->base.meta);
    t->v.secrets = json_deep_copy(t->base.secrets);
    json_object_set_new(t->v.meta, "annotations", json_pack("{s:s}", "workers/triggered_by", trigger));
    json_object_set_new(t->v.meta, "source", json_string(t->by->source));
    json_object_set_new(t->v.meta, "author", json_string(t->by->name));
    if (change(&t->v, arg, err) != SV_OK || check_targets(t, err) != SV_OK)
        return err->code;
    if (how == SV_UPLOAD_ONLY)
        return upload_only(t, err);
    sv_deployment d = {0};
    sv_rc rc = deploy_now(t, true, json_object_get(t->v.meta, "annotations"), trigger, &d, err);
    sv_deployment_done(&d);
    return rc;
}

sv_rc sv_deploy_derived(sv_workers *w, const sv_author *by, const char *name, sv_deploy_how how, const char *trigger,
                        sv_version_edit change, void *arg, sv_version *version, sv_err *err)
{
    attempt t = {.w = w, .by = by, .name = name};
    if (sv_account_lock(w, by->account, err) != SV_OK)
        return err->code;
    sv_rc rc = derive_locked(&t, how, trigger, change, arg, err);
    sv_account_unlock(w, by->account);
    if (rc == SV_OK) {
        *version = t.v;
        t.v = (sv_version){0};
        sv_log(SV_INFO, "worker.deploy", "key=%s version=%s trigger=%s", version->key, version->id, trigger);
    }
    attempt_done(&t);
    return rc;
}

/* ---- address, events and end ---- */

static sv_rc enable_events_locked(sv_workers *w, sv_script *s, sv_err *err)
{
    int64_t startup_ms;
    s->events = true;
    if (sv_script_declare(w, s, err) != SV_OK || sv_unit_swap(w, s, NULL, &startup_ms, err) != SV_OK)
        return err->code;
    return sv_store_set_events(w, s->key, err); /* a crash before it: the next daemon swaps back, and whoever calls comes again */
}

sv_rc sv_workers_enable_events(sv_workers *w, const char *account, const char *name, sv_err *err)
{
    sv_script s = {0};
    if (sv_store_script(w, &s, account, name, err) != SV_OK)
        return err->code;
    bool done = s.events;
    sv_script_done(&s);
    if (done)
        return SV_OK;
    if (sv_account_lock(w, account, err) != SV_OK)
        return err->code;
    sv_rc rc = sv_store_script(w, &s, account, name, err);
    if (rc == SV_OK && !s.events)
        rc = enable_events_locked(w, &s, err);
    sv_account_unlock(w, account);
    sv_script_done(&s);
    return rc;
}

static sv_rc set_open_locked(sv_workers *w, const char *account, const char *name, bool open, bool previews, sv_err *err)
{
    sv_script s = {0};
    if (sv_store_script(w, &s, account, name, err) != SV_OK)
        return err->code;
    bool changed = s.open != open;
    int64_t startup_ms;
    s.open = open;
    sv_rc rc = changed ? sv_unit_swap(w, &s, NULL, &startup_ms, err) : SV_OK;
    if (rc == SV_OK)
        rc = sv_store_set_open(w, s.key, open, previews, err);
    sv_script_done(&s);
    return rc;
}

sv_rc sv_deploy_set_open(sv_workers *w, const char *account, const char *name, bool open, bool previews, sv_err *err)
{
    if (sv_account_lock(w, account, err) != SV_OK)
        return err->code;
    sv_rc rc = set_open_locked(w, account, name, open, previews, err);
    sv_account_unlock(w, account);
    return rc;
}

static sv_rc delete_locked(sv_workers *w, const char *account, const char *name, bool force, sv_err *err)
{
    sv_script s = {0};
    SV_AUTO(sv_json_decrefp) json_t *in = NULL;
    if (sv_store_script(w, &s, account, name, err) != SV_OK)
        return err->code;
    char key[17], folder[4200];
    memcpy(key, s.key, sizeof key);
    SV_AUTO(sv_json_decrefp) json_t *objects = json_incref(s.objects);
    sv_script_done(&s);
    if (sv_store_incoming(w, &in, account, name, err) != SV_OK)
        return err->code;
    if (json_array_size(in) && !force)
        return sv_fail_api(err, SV_EINVAL, 10064,
                           "Worker '%s' is bound to this one as a service; delete with force=true to break that binding",
                           json_string_value(json_array_get(in, 0)));
    if (sv_store_delete(w, key, err) != SV_OK)
        return err->code;
    /* From here on it is gone; what fails below is put right at the next start. */
    sv_err later = {0};
    if (sv_script_undeclare(w, key, &later) != SV_OK)
        sv_log(SV_WARN, "worker.remove", "key=%s error='%s'", key, later.msg);
    snprintf(folder, sizeof folder, "%s/%s", w->root, key);
    if (sv_remove_tree(folder, &later) != SV_OK)
        sv_log(SV_WARN, "worker.files", "key=%s error='%s'", key, later.msg);
    if (sv_objects_any(objects))
        sv_objects_drop(w, key, objects, NULL);
    sv_log(SV_INFO, "worker.delete", "key=%s", key);
    return SV_OK;
}

sv_rc sv_deploy_delete(sv_workers *w, const char *account, const char *name, bool force, sv_err *err)
{
    if (sv_account_lock(w, account, err) != SV_OK)
        return err->code;
    sv_rc rc = delete_locked(w, account, name, force, err);
    sv_account_unlock(w, account);
    return rc;
}
