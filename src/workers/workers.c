/* workers.c - the store's life, and what a process needs: units and their configurations
 *
 * Workers bound to each other share a process, because methods of a Worker can be called within one only. The unit of a Worker is
 * everything that service bindings of deployed versions connect, in either direction, inside its account. Deploying one of them
 * starts the whole unit anew beside the old process, so a change in one is never seen with half of another.
 *
 * A configuration's file name holds a hash of its text: equal units have equal files, a process that starts while another
 * deployment is under way reads the file it was given, and none is ever written over.
 *
 * DATA/workers/            0700; what is below is open to the Worker's own user, who sees it in its cage only
 *   KEY/FOLDER/m0 ...      modules of a version       KEY/FOLDER/assets/    its site, hard links
 *   assets/ACCOUNT/HASH    static files, once each    units/KEY-HASH.capnp  configurations */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"
#include "workers/config.h"
#include "workers/objects.h"
#include "workers/workers_impl.h"

enum { MAX_WAITING = 4, OLD_FILE_S = 24 * 60 * 60, OLD_CONFIG_S = 60 * 60 };

/* ---- one change at a time in an account ---- */

static int find_busy(const sv_workers *w, const char *account)
{
    for (int i = 0; i < SV_MAX_BUSY; i++)
        if (strcmp(w->busy[i], account) == 0)
            return i;
    return -1;
}

sv_rc sv_account_lock(sv_workers *w, const char *account, sv_err *err)
{
    pthread_mutex_lock(&w->mu);
    int slot;
    while (find_busy(w, account) >= 0 || (slot = find_busy(w, "")) < 0) {
        if (w->n_waiting >= MAX_WAITING) { /* each waiter holds a thread of the job pool */
            pthread_mutex_unlock(&w->mu);
            return sv_fail_api(err, SV_ELIMIT, 10035, "other changes of Workers are under way; try again in a moment");
        }
        w->n_waiting++;
        pthread_cond_wait(&w->cv, &w->mu);
        w->n_waiting--;
    }
    snprintf(w->busy[slot], sizeof w->busy[slot], "%s", account);
    pthread_mutex_unlock(&w->mu);
    return SV_OK;
}

void sv_account_unlock(sv_workers *w, const char *account)
{
    pthread_mutex_lock(&w->mu);
    w->busy[find_busy(w, account)][0] = 0;
    pthread_cond_broadcast(&w->cv);
    pthread_mutex_unlock(&w->mu);
}

/* ---- units ---- */

typedef struct member {
    sv_script script;
    sv_version version;
    const sv_version *over;
} member;

typedef struct unit {
    sv_workers *w;
    const sv_script *changed;  /* taken as given instead of from the store */
    const sv_version *version; /* of `changed`; NULL: as the store has it */
    const char *scratch;       /* a folder in the place of every storage of Durable Objects; NULL: their own */
    member m[SV_MAX_UNIT];
    size_t n;
} unit;

static void unit_done(unit *u)
{
    for (size_t i = 0; i < u->n; i++) {
        sv_script_done(&u->m[i].script);
        sv_version_done(&u->m[i].version);
    }
}

static const sv_version *member_version(const member *m) { return m->over ? m->over : &m->version; }

/* Adds the account's Worker `name`; one that does not exist is no error (its binding becomes a service that says so). */
static sv_rc unit_add(unit *u, const char *name, sv_err *err)
{
    for (size_t i = 0; i < u->n; i++)
        if (strcmp(u->m[i].script.name, name) == 0)
            return SV_OK;
    member m = {0};
    bool is_changed = strcmp(u->changed->name, name) == 0;
    if (is_changed) {
        m.script = *u->changed;
        json_incref(m.script.settings);
        json_incref(m.script.objects);
        m.over = u->version;
    } else {
        sv_rc rc = sv_store_script(u->w, &m.script, u->changed->account, name, err);
        if (rc != SV_OK)
            return rc == SV_ENOENT ? SV_OK : rc;
    }
    if (!m.over && sv_store_version(u->w, &m.version, m.script.key, SV_DEPLOYED, NULL, true, err) != SV_OK) {
        sv_script_done(&m.script);
        return err->code;
    }
    if (u->n == SV_MAX_UNIT) {
        sv_script_done(&m.script);
        sv_version_done(&m.version);
        return sv_fail_api(err, SV_EINVAL, 10021,
                           "more than %d Workers are bound to each other; they share a process, which has room for so many",
                           SV_MAX_UNIT);
    }
    u->m[u->n++] = m;
    return SV_OK;
}

static sv_rc unit_follow(unit *u, size_t i, sv_err *err)
{
    size_t k;
    json_t *b;
    json_array_foreach (json_object_get(member_version(&u->m[i])->meta, "bindings"), k, b) {
        const char *kind = sv_json_cstr(b, "type"), *service = sv_json_cstr(b, "service");
        if (kind && strcmp(kind, "durable_object_namespace") == 0)
            service = sv_json_cstr(b, "script_name");
        else if (kind && strcmp(kind, "service") != 0)
            service = NULL;
        if (service && unit_add(u, service, err) != SV_OK)
            return err->code;
    }
    SV_AUTO(sv_json_decrefp) json_t *in = NULL;
    if (sv_store_incoming(u->w, &in, u->changed->account, u->m[i].script.name, err) != SV_OK)
        return err->code;
    json_array_foreach (in, k, b)
        if (unit_add(u, json_string_value(b), err) != SV_OK)
            return err->code;
    return SV_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const member *)a)->script.key, ((const member *)b)->script.key);
}

static sv_rc unit_collect(unit *u, sv_err *err)
{
    if (unit_add(u, u->changed->name, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < u->n; i++)
        if (unit_follow(u, i, err) != SV_OK)
            return err->code;
    qsort(u->m, u->n, sizeof u->m[0], by_key); /* the same unit from whichever of its Workers one starts */
    return SV_OK;
}

void sv_version_folder(const sv_workers *w, const char *key, const char *folder, char out[4096])
{
    snprintf(out, 4096, "%s/%s/%s", w->root, key, folder);
}

/* The folder of the member's Durable Objects, made if it is new; NULL: it has none. */
static sv_rc objects_of(const unit *u, const member *m, char **out, sv_arena *a, sv_err *err)
{
    char folder[4096];
    *out = NULL;
    if (!sv_objects_any(m->script.objects))
        return SV_OK;
    sv_objects_folder(u->w, m->script.key, folder);
    if (u->scratch)
        snprintf(folder, sizeof folder, "%s/%s", u->scratch, m->script.key);
    if (sv_mkdir_p(folder, 0700, err) != SV_OK)
        return err->code;
    *out = sv_arena_strndup(a, folder, strlen(folder));
    return *out ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for the configuration");
}

static sv_rc config_worker(const unit *u, const member *m, sv_config_worker *out, sv_arena *a, sv_err *err)
{
    const sv_workers *w = u->w;
    char *objects;
    if (objects_of(u, m, &objects, a, err) != SV_OK)
        return err->code;
    const sv_version *v = member_version(m);
    char folder[4096], binding[108] = "/nowhere";
    sv_version_folder(w, m->script.key, v->folder, folder);
    if (w->runtime)
        sv_runtime_binding_path(w->runtime, m->script.key, binding);
    *out = (sv_config_worker){
        .key = sv_arena_strndup(a, m->script.key, strlen(m->script.key)),
        .name = sv_arena_strndup(a, m->script.name, strlen(m->script.name)),
        .version_id = v->id,
        .meta = v->meta,
        .secrets = v->secrets,
        .created_ms = v->created_ms,
        .open = m->script.open,
        .events = m->script.events,
        .classes = json_object_get(m->script.objects, "classes"),
        .objects = objects,
        .folder = sv_arena_strndup(a, folder, strlen(folder)),
        .from_config = sv_arena_printf(a, "../%s/%s", m->script.key, v->folder),
        .binding_path = sv_arena_strndup(a, binding, strlen(binding)),
    };
    bool whole = out->key && out->name && out->folder && out->from_config && out->binding_path;
    return whole ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for the configuration");
}

static sv_rc write_config(sv_workers *w, const char *unit_key, const sv_config *c, char **path, sv_arena *a, sv_err *err)
{
    uint8_t sum[32];
    char hex[17];
    sv_sha256(sum, c->text.p, c->text.n);
    sv_hex(hex, sum, 8);
    *path = sv_arena_printf(a, "%s/units/%s-%s.capnp", w->root, unit_key, hex);
    if (!*path)
        return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
    if (!sv_file_exists(*path))
        return sv_file_replace(*path, c->text.p, c->text.n, 0644, err);
    utimensat(AT_FDCWD, *path, NULL, 0); /* in use: the sweep leaves it alone for a while */
    return SV_OK;
}

static sv_rc unit_spec(unit *u, sv_unit_spec *out, sv_arena *a, sv_err *err)
{
    sv_config_worker *cw = sv_arena_new(a, sv_config_worker, u->n);
    const char **own = sv_arena_new(a, const char *, u->n + 1);
    size_t n_own = 0;
    const char **keys = sv_arena_new(a, const char *, 2 * u->n + 1), **paths = sv_arena_new(a, const char *, u->n + 1);
    if (!cw || !keys || !paths || !own)
        return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
    size_t n_keys = 0;
    for (size_t i = 0; i < u->n; i++) {
        if (config_worker(u, &u->m[i], &cw[i], a, err) != SV_OK)
            return err->code;
        keys[n_keys++] = cw[i].key;
        if (cw[i].events && !(keys[n_keys++] = sv_arena_printf(a, "%s" SV_EVENTS_SUFFIX, cw[i].key)))
            return sv_fail(err, SV_ENOMEM, "no memory for the configuration");
        paths[i] = cw[i].folder;
        if (cw[i].objects)
            own[n_own++] = cw[i].objects;
    }
    sv_config c;
    char *path = NULL;
    if (sv_config_make(&c, cw, u->n, a, err) != SV_OK || write_config(u->w, keys[0], &c, &path, a, err) != SV_OK)
        return err->code;
    *out = (sv_unit_spec){
        .unit = keys[0], .keys = keys, .config_path = path, .read_paths = paths, .env = c.env, .experimental = c.experimental,
        .write_paths = own};
    return SV_OK;
}

/* Collects the unit and writes its configuration. */
static sv_rc unit_prepare(sv_workers *w, const sv_script *script, const sv_version *version, const char *scratch, sv_unit_spec *out, sv_arena *a,
                          sv_err *err)
{
    SV_AUTO(sv_freep) unit *u = sv_xnew0(unit);
    *u = (unit){.w = w, .changed = script, .version = version, .scratch = scratch};
    sv_rc rc = unit_collect(u, err);
    if (rc == SV_OK)
        rc = unit_spec(u, out, a, err);
    unit_done(u);
    return rc;
}

/* key: of a Worker, or of its dispatcher. */
sv_rc sv_workers_prepare(void *ctx, const char *key, sv_unit_spec *out, sv_arena *arena, sv_err *err)
{
    sv_workers *w = ctx;
    sv_script s = {0};
    char script[17];
    snprintf(script, sizeof script, "%.16s", key);
    if (sv_store_script_by_key(w, &s, script, err) != SV_OK)
        return err->code;
    sv_rc rc = unit_prepare(w, &s, NULL, NULL, out, arena, err);
    sv_script_done(&s);
    return rc;
}

/* workerd names the service of ours that failed, where the client knows its Worker by its name. */
static void tidy_message(sv_err *err)
{
    static const char prefix[] = "service worker:";
    if (strstr(err->msg, "process out of memory")) {
        sv_fail_api(err, err->code, err->api_code, "the script needs more memory to start than a Worker's process may have");
        return;
    }
    char *at = strstr(err->msg, prefix);
    char *end = at ? strstr(at, ": ") : NULL;
    if (end && end - at < 90)
        memmove(at, end + 2, strlen(end + 2) + 1);
}

/* Starts it with empty folders for its Durable Objects, and ends it. */
static sv_rc try_aside(sv_workers *w, const sv_script *script, const sv_version *version, int64_t *startup_ms, sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_unit_spec spec;
    char scratch[4096], name[9];
    sv_err later = {0};
    sv_random_hex(name, 4);
    snprintf(scratch, sizeof scratch, "%.3900s/units/try-%s", w->root, name);
    sv_rc rc = unit_prepare(w, script, version, scratch, &spec, a, err);
    if (rc == SV_OK)
        rc = sv_runtime_try(w->runtime, &spec, startup_ms, err);
    if (sv_file_exists(scratch) && sv_remove_tree(scratch, &later) != SV_OK)
        sv_log(SV_WARN, "worker.scratch", "path=%s error='%s'", scratch, later.msg);
    return rc;
}

static sv_rc start(sv_workers *w, const sv_script *script, const sv_version *version, bool take_over, int64_t *startup_ms,
                   sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_unit_spec spec;
    *startup_ms = 0;
    if (unit_prepare(w, script, version, NULL, &spec, a, err) != SV_OK)
        return err->code;
    if (!w->runtime)
        return SV_OK;
    int64_t before = sv_mono_ms();
    /* What has Durable Objects is stopped before its successor starts: that one must have been seen to start, and not beside it in the same folder. */
    sv_rc rc = spec.write_paths[0] || !take_over ? try_aside(w, script, version, startup_ms, err) : SV_OK;
    if (rc == SV_OK && take_over)
        rc = sv_runtime_swap(w->runtime, &spec, err);
    if (rc != SV_OK)
        tidy_message(err);
    else if (take_over)
        *startup_ms = sv_mono_ms() - before;
    return rc;
}

sv_rc sv_unit_swap(sv_workers *w, const sv_script *script, const sv_version *version, int64_t *startup_ms, sv_err *err)
{
    return start(w, script, version, true, startup_ms, err);
}

sv_rc sv_unit_try(sv_workers *w, const sv_script *script, const sv_version *version, int64_t *startup_ms, sv_err *err)
{
    return start(w, script, version, false, startup_ms, err);
}

/* ---- declaring ---- */

sv_rc sv_script_declare(sv_workers *w, const sv_script *s, sv_err *err)
{
    sv_worker_id id = {0}, events;
    snprintf(id.key, sizeof id.key, "%s", s->key);
    snprintf(id.name, sizeof id.name, "%s", s->name);
    snprintf(id.principal.account_id, sizeof id.principal.account_id, "%s", s->account);
    if (!w->runtime)
        return SV_OK;
    if (sv_runtime_declare(w->runtime, &id, s->name, err) != SV_OK)
        return err->code;
    events = id;
    snprintf(events.key, sizeof events.key, "%s" SV_EVENTS_SUFFIX, s->key);
    return s->events ? sv_runtime_declare(w->runtime, &events, NULL, err) : SV_OK;
}

sv_rc sv_script_undeclare(sv_workers *w, const char *key, sv_err *err)
{
    char events[32];
    snprintf(events, sizeof events, "%s" SV_EVENTS_SUFFIX, key);
    if (!w->runtime)
        return SV_OK;
    sv_rc rc = sv_runtime_remove(w->runtime, events, err);
    return rc == SV_OK ? sv_runtime_remove(w->runtime, key, err) : rc;
}

sv_rc sv_workers_declare_all(sv_workers *w, sv_err *err)
{
    sv_script *all = NULL;
    size_t n = 0;
    if (sv_store_scripts(w, &all, &n, NULL, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < n; i++) {
        sv_err one = {0};
        if (sv_script_declare(w, &all[i], &one) != SV_OK)
            sv_log(SV_ERROR, "worker.declare", "key=%s error='%s' left_out=1", all[i].key, one.msg);
        sv_script_done(&all[i]);
    }
    free(all);
    return SV_OK;
}

/* ---- life ---- */

/* Files in `dir` that are older than age_s; only those with one link when `single`. */
static void remove_old(const char *dir, time_t age_s, bool single)
{
    DIR *d = opendir(dir);
    time_t now = time(NULL);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096 + 300];
        struct stat st;
        snprintf(path, sizeof path, "%.4000s/%s", dir, e->d_name);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && now - st.st_mtime > age_s && (!single || st.st_nlink == 1))
            unlink(path);
    }
    if (d)
        closedir(d);
}

static bool is_key(const char *s) { return strlen(s) == 16 && strspn(s, "0123456789abcdef") == 16; }

/* What a crash left: folders without rows, configurations nobody will read, static files that no version has and no session
 * needs. */
static sv_rc sweep_all(sv_workers *w, sv_err *err)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/units", w->root);
    remove_old(path, OLD_CONFIG_S, false);
    snprintf(path, sizeof path, "%s/assets", w->root);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%.4000s/assets/%s", w->root, e->d_name);
            remove_old(path, OLD_FILE_S, true);
        }
    if (d)
        closedir(d);
    sv_rc rc = SV_OK;
    d = opendir(w->root);
    for (struct dirent *e; rc == SV_OK && d && (e = readdir(d));)
        if (is_key(e->d_name)) {
            rc = sv_store_sweep(w, e->d_name, err);
            snprintf(path, sizeof path, "%.4000s/%s", w->root, e->d_name);
            rmdir(path); /* goes when it is empty */
        }
    if (d)
        closedir(d);
    return rc;
}

static sv_rc make_folders(sv_workers *w, const char *data_dir, sv_err *err)
{
    char path[PATH_MAX], full[PATH_MAX];
    static const char *const subs[] = {"", "/units", "/assets"};
    for (size_t i = 0; i < SV_LEN(subs); i++) {
        snprintf(path, sizeof path, "%.3000s/workers%s", data_dir, subs[i]);
        if (sv_mkdir_p(path, 0755, err) != SV_OK)
            return err->code;
        if (chmod(path, i == 0 ? 0700 : 0755) < 0)
            return sv_fail_errno(err, "mode of '%s'", path);
    }
    snprintf(path, sizeof path, "%.3000s/workers", data_dir);
    if (!realpath(path, full)) /* the cage shows files under their whole path */
        return sv_fail_errno(err, "'%s'", path);
    if (strlen(full) > 3000)
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    w->root = sv_xstrdup(full);
    return SV_OK;
}

sv_rc sv_workers_open(sv_workers **out, const sv_workers_opts *opts, sv_err *err)
{
    sv_workers *w = sv_xnew0(sv_workers);
    w->accounts = opts->accounts;
    w->runtime = opts->runtime;
    w->binding_exists = opts->binding_exists;
    w->ctx = opts->ctx;
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->cv, NULL);
    sv_rc rc = make_folders(w, opts->data_dir, err);
    if (rc == SV_OK)
        rc = sv_store_open(w, opts->data_dir, err);
    if (rc == SV_OK)
        rc = sweep_all(w, err);
    if (rc != SV_OK) {
        sv_workers_close(w);
        return sv_wrap(err, "Workers");
    }
    *out = w;
    return SV_OK;
}

sv_workers *sv_workers_close(sv_workers *w)
{
    if (!w)
        return NULL;
    sv_db_close(w->db);
    pthread_cond_destroy(&w->cv);
    pthread_mutex_destroy(&w->mu);
    free(w->root);
    free(w);
    return NULL;
}
