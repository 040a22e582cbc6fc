/* store.c - the rows of DATA/workers.db
 *
 * A script owns versions; a version owns its secrets and names a folder of files; deployments are a log, and the newest one of a
 * script says which version serves. `edge` holds the service bindings of the deployed versions, so that the Workers that share a
 * process are found without reading every record, and the bindings to products, for who asks what a queue is fed by.
 *
 * Invariants:
 *   1. A script's row exists only from its first deployment on: there is none without a deployment.
 *   2. A folder is written and synced before a row names it. Folders that no row names are a crash's, and are swept.
 *   3. A secret is sealed to its row: script key, version, name. Copying the blob elsewhere makes it unreadable.
 *   4. A name is unique on the node, since it is a host name. */
#include "workers/workers_impl.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/time.h"
#include "workers/products.h"

/* clang-format off */
static const char *const migrations[] = {
    "CREATE TABLE script (key TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL UNIQUE, tag TEXT NOT NULL,"
    "  created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, next_number INTEGER NOT NULL,"
    "  open INTEGER NOT NULL, previews INTEGER NOT NULL, settings TEXT NOT NULL);"
    "CREATE INDEX script_account ON script (account);"
    "CREATE TABLE version (id TEXT PRIMARY KEY, key TEXT NOT NULL, number INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    "  folder TEXT NOT NULL, startup_ms INTEGER NOT NULL, meta TEXT NOT NULL, UNIQUE (key, number));"
    "CREATE TABLE secret (version TEXT NOT NULL, name TEXT NOT NULL, sealed BLOB NOT NULL,"
    "  PRIMARY KEY (version, name)) WITHOUT ROWID;"
    "CREATE TABLE deployment (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, key TEXT NOT NULL,"
    "  version TEXT NOT NULL, created_ms INTEGER NOT NULL, meta TEXT NOT NULL);"
    "CREATE INDEX deployment_key ON deployment (key, seq);"
    "CREATE TABLE edge (key TEXT NOT NULL, service TEXT NOT NULL, PRIMARY KEY (key, service)) WITHOUT ROWID;"
    "CREATE INDEX edge_service ON edge (service);"
    "CREATE TABLE subdomain (account TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE asset_session (id TEXT PRIMARY KEY, account TEXT NOT NULL, script TEXT NOT NULL,"
    "  expires_ms INTEGER NOT NULL, manifest TEXT NOT NULL);",
    "ALTER TABLE script ADD COLUMN events INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE schedule (key TEXT NOT NULL, cron TEXT NOT NULL, created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL,"
    "  next_ms INTEGER, again INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (key, cron)) WITHOUT ROWID;"
    "CREATE INDEX schedule_next ON schedule (next_ms);"
    "CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, cron TEXT NOT NULL, scheduled_ms INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT, reason TEXT NOT NULL);"
    "CREATE INDEX run_key ON run (key, id);",
    "ALTER TABLE script ADD COLUMN objects TEXT NOT NULL DEFAULT '{}';",
};
/* clang-format on */

enum { DEPLOYMENTS_KEPT = 100 };

sv_rc sv_store_open(sv_workers *w, const char *data_dir, sv_err *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/workers.db", data_dir);
    return sv_db_open(&w->db, path, migrations, SV_LEN(migrations), err);
}

void sv_worker_key(char out[17], const char *account, const char *name)
{
    uint8_t sum[32];
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 4096);
    sv_buf_addf(&b, "%s/%s", account, name);
    sv_sha256(sum, b.p, b.n);
    sv_hex(out, sum, 8);
}

void sv_script_done(sv_script *s)
{
    json_decref(s->settings);
    json_decref(s->objects);
    s->settings = s->objects = NULL;
}

void sv_version_done(sv_version *v)
{
    json_decref(v->meta);
    json_decref(v->secrets);
    v->meta = v->secrets = NULL;
}

void sv_deployment_done(sv_deployment *d)
{
    json_decref(d->meta);
    d->meta = NULL;
}

/* ---- columns ---- */

static void col_text(sv_stmt *q, int i, char *out, size_t size)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, size, "%.*s", (int)s.n, s.n ? s.p : "");
}

static sv_rc col_json(sv_stmt *q, int i, json_t **out, sv_err *err)
{
    if (sv_json_parse(out, sv_col_str(q, i), err) != SV_OK)
        return sv_wrap(err, "workers.db");
    return SV_OK;
}

static void bind_json(sv_stmt *q, int i, const json_t *v)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_json_add_value(&b, v);
    sv_bind_str(q, i, sv_buf_str(&b));
}

/* ---- scripts ---- */

#define SCRIPT_COLUMNS "key, account, name, tag, created_ms, modified_ms, open, previews, settings, events, objects"

static sv_rc read_script(sv_stmt *q, sv_script *s, sv_err *err)
{
    *s = (sv_script){.created_ms = sv_col_i64(q, 4),
                     .modified_ms = sv_col_i64(q, 5),
                     .open = sv_col_i64(q, 6) != 0,
                     .previews = sv_col_i64(q, 7) != 0,
                     .events = sv_col_i64(q, 9) != 0};
    col_text(q, 0, s->key, sizeof s->key);
    col_text(q, 1, s->account, sizeof s->account);
    col_text(q, 2, s->name, sizeof s->name);
    col_text(q, 3, s->tag, sizeof s->tag);
    if (col_json(q, 8, &s->settings, err) != SV_OK)
        return err->code;
    sv_rc rc = col_json(q, 10, &s->objects, err);
    if (rc != SV_OK)
        sv_script_done(s);
    return rc;
}

typedef struct script_query {
    sv_script *one, *all;
    size_t n, room;
    const char *key, *account, *name;
} script_query;

static sv_rc find_script(sv_dbw *r, void *arg, sv_err *err)
{
    script_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    if (sv_stmt_prep(&q, r, "SELECT " SCRIPT_COLUMNS " FROM script WHERE key = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->key);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 10007, "This Worker does not exist on your account.");
    return read_script(&q, k->one, err);
}

sv_rc sv_store_script_by_key(sv_workers *w, sv_script *out, const char *key, sv_err *err)
{
    sv_script s = {0};
    script_query k = {.one = &s, .key = key};
    sv_rc rc = sv_db_read(w->db, find_script, &k, err);
    if (rc == SV_OK)
        *out = s;
    return rc;
}

sv_rc sv_store_script(sv_workers *w, sv_script *out, const char *account, const char *name, sv_err *err)
{
    char key[17];
    sv_worker_key(key, account, name);
    return sv_store_script_by_key(w, out, key, err);
}

static sv_rc list_by(sv_dbw *r, script_query *k, const char *sql, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    sv_rc rc;
    if (sv_stmt_prep(&q, r, sql, err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        if (k->n == k->room) {
            k->room = k->room ? k->room * 2 : 16;
            k->all = sv_xrealloc(k->all, k->room, sizeof *k->all);
        }
        if ((rc = read_script(&q, &k->all[k->n], err)) != SV_OK)
            return rc;
        k->n++;
    }
    return rc;
}

static sv_rc list_scripts(sv_dbw *r, void *arg, sv_err *err)
{
    return list_by(r, arg, "SELECT " SCRIPT_COLUMNS " FROM script WHERE ?1 IS NULL OR account = ?1 ORDER BY name", err);
}

static sv_rc list_with_objects(sv_dbw *r, void *arg, sv_err *err)
{
    return list_by(r, arg, "SELECT " SCRIPT_COLUMNS " FROM script WHERE objects <> '{}' AND ?1 IS NULL", err);
}

static sv_rc take_scripts(sv_workers *w, sv_db_read_fn fn, sv_script **out, size_t *n, const char *account, sv_err *err)
{
    script_query k = {.account = account};
    sv_rc rc = sv_db_read(w->db, fn, &k, err);
    if (rc != SV_OK) {
        for (size_t i = 0; i < k.n; i++)
            sv_script_done(&k.all[i]);
        free(k.all);
        return rc;
    }
    *out = k.all;
    *n = k.n;
    return SV_OK;
}

sv_rc sv_store_scripts(sv_workers *w, sv_script **out, size_t *n, const char *account, sv_err *err)
{
    return take_scripts(w, list_scripts, out, n, account, err);
}

sv_rc sv_store_scripts_with_objects(sv_workers *w, sv_script **out, size_t *n, sv_err *err)
{
    return take_scripts(w, list_with_objects, out, n, NULL, err);
}

/* ---- versions ---- */

#define VERSION_COLUMNS "v.id, v.key, v.folder, v.number, v.created_ms, v.startup_ms, v.meta"

static sv_rc read_version(sv_stmt *q, sv_version *v, sv_err *err)
{
    *v = (sv_version){.number = sv_col_i64(q, 3), .created_ms = sv_col_i64(q, 4), .startup_ms = sv_col_i64(q, 5)};
    col_text(q, 0, v->id, sizeof v->id);
    col_text(q, 1, v->key, sizeof v->key);
    col_text(q, 2, v->folder, sizeof v->folder);
    return col_json(q, 6, &v->meta, err);
}

/* inv. 3 */
static void secret_place(sv_buf *out, const char *key, const char *version, const char *name)
{
    sv_buf_init(out, 4096);
    sv_buf_addf(out, "workers.secret/%s/%s/%s", key, version, name);
}

typedef struct version_query {
    sv_workers *w;
    sv_version one, *all;
    size_t n, room;
    const char *key, *id;
    sv_which which;
    bool with_secrets;
} version_query;

static sv_rc read_secrets(sv_dbw *r, version_query *k, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    sv_rc rc;
    k->one.secrets = json_object();
    if (sv_stmt_prep(&q, r, "SELECT name, sealed FROM secret WHERE version = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->one.id);
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        char name[256];
        col_text(&q, 0, name, sizeof name);
        SV_AUTO(sv_buf_donep) sv_buf place = {0};
        SV_AUTO(sv_buf_donep) sv_buf plain = {0};
        secret_place(&place, k->one.key, k->one.id, name);
        sv_buf_init(&plain, 0);
        if (sv_open_sealed(&plain, sv_accounts_seal_key(k->w->accounts), sv_buf_str(&place), sv_col_str(&q, 1), err) != SV_OK)
            return sv_wrap(err, "secret '%s' of version %s", name, k->one.id);
        json_object_set_new(k->one.secrets, name, json_stringn(sv_buf_cstr(&plain), plain.n));
    }
    return rc;
}

static const char version_by_id[] =
    "SELECT " VERSION_COLUMNS " FROM version v WHERE v.key = ?1 AND replace(v.id, '-', '') = replace(?2, '-', '')";
static const char version_deployed[] =
    "SELECT " VERSION_COLUMNS " FROM deployment d JOIN version v ON v.id = d.version WHERE d.key = ?1"
    " ORDER BY d.seq DESC LIMIT 1";
static const char version_latest[] = "SELECT " VERSION_COLUMNS " FROM version v WHERE v.key = ?1 ORDER BY v.number DESC LIMIT 1";

static sv_rc find_version(sv_dbw *r, void *arg, sv_err *err)
{
    version_query *k = arg;
    bool row;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        const char *sql = k->which == SV_BY_ID ? version_by_id : k->which == SV_DEPLOYED ? version_deployed : version_latest;
        if (sv_stmt_prep(&q, r, sql, err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, k->key);
        if (k->which == SV_BY_ID)
            sv_bind_cstr(&q, 2, k->id);
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return sv_fail_api(err, SV_ENOENT, 100146, "There is no version %.40s of this Worker", k->id ? k->id : "");
        if (read_version(&q, &k->one, err) != SV_OK)
            return err->code;
    }
    return k->with_secrets ? read_secrets(r, k, err) : SV_OK;
}

sv_rc sv_store_version(sv_workers *w, sv_version *out, const char *key, sv_which which, const char *id, bool with_secrets,
                       sv_err *err)
{
    version_query k = {.w = w, .key = key, .id = id, .which = which, .with_secrets = with_secrets};
    sv_rc rc = sv_db_read(w->db, find_version, &k, err);
    if (rc != SV_OK)
        sv_version_done(&k.one);
    else
        *out = k.one;
    return rc;
}

static sv_rc list_versions(sv_dbw *r, void *arg, sv_err *err)
{
    version_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    sv_rc rc;
    if (sv_stmt_prep(&q, r, "SELECT " VERSION_COLUMNS " FROM version v WHERE v.key = ?1 ORDER BY v.number DESC", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->key);
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        if (k->n == k->room) {
            k->room = k->room ? k->room * 2 : 16;
            k->all = sv_xrealloc(k->all, k->room, sizeof *k->all);
        }
        if ((rc = read_version(&q, &k->all[k->n], err)) != SV_OK)
            return rc;
        k->n++;
    }
    return rc;
}

sv_rc sv_store_versions(sv_workers *w, sv_version **out, size_t *n, const char *key, sv_err *err)
{
    version_query k = {.w = w, .key = key};
    sv_rc rc = sv_db_read(w->db, list_versions, &k, err);
    if (rc != SV_OK) {
        for (size_t i = 0; i < k.n; i++)
            sv_version_done(&k.all[i]);
        free(k.all);
        return rc;
    }
    *out = k.all;
    *n = k.n;
    return SV_OK;
}

/* ---- deployments ---- */

typedef struct deployment_query {
    sv_deployment *all;
    size_t n, room;
    const char *key;
} deployment_query;

static sv_rc list_deployments(sv_dbw *r, void *arg, sv_err *err)
{
    deployment_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    sv_rc rc;
    if (sv_stmt_prep(&q, r, "SELECT id, version, created_ms, meta FROM deployment WHERE key = ?1 ORDER BY seq DESC", err) !=
        SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->key);
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        if (k->n == k->room) {
            k->room = k->room ? k->room * 2 : 16;
            k->all = sv_xrealloc(k->all, k->room, sizeof *k->all);
        }
        sv_deployment *d = &k->all[k->n];
        *d = (sv_deployment){.created_ms = sv_col_i64(&q, 2)};
        col_text(&q, 0, d->id, sizeof d->id);
        col_text(&q, 1, d->version, sizeof d->version);
        if ((rc = col_json(&q, 3, &d->meta, err)) != SV_OK)
            return rc;
        k->n++;
    }
    return rc;
}

sv_rc sv_store_deployments(sv_workers *w, sv_deployment **out, size_t *n, const char *key, sv_err *err)
{
    deployment_query k = {.key = key};
    sv_rc rc = sv_db_read(w->db, list_deployments, &k, err);
    if (rc != SV_OK) {
        for (size_t i = 0; i < k.n; i++)
            sv_deployment_done(&k.all[i]);
        free(k.all);
        return rc;
    }
    *out = k.all;
    *n = k.n;
    return SV_OK;
}

/* ---- recording ---- */

typedef struct record_args {
    sv_workers *w;
    sv_record *r;
} record_args;

static sv_rc insert_script(sv_dbw *w, const sv_script *s, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(
            &q, w,
            "INSERT INTO script (key, account, name, tag, created_ms, modified_ms, next_number, open, previews, settings)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, ?6, ?7, ?8)",
            err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, s->key);
    sv_bind_cstr(&q, 2, s->account);
    sv_bind_cstr(&q, 3, s->name);
    sv_bind_cstr(&q, 4, s->tag);
    sv_bind_i64(&q, 5, s->created_ms);
    sv_bind_i64(&q, 6, s->open);
    sv_bind_i64(&q, 7, s->previews);
    bind_json(&q, 8, s->settings);
    return sv_stmt_run(&q, err);
}

static sv_rc take_number(sv_dbw *w, sv_version *v, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    if (sv_stmt_prep(&q, w,
                     "UPDATE script SET next_number = next_number + 1, modified_ms = ?2 WHERE key = ?1 RETURNING next_number - 1",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, v->key);
    sv_bind_i64(&q, 2, v->created_ms);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 10007, "This Worker does not exist on your account.");
    v->number = sv_col_i64(&q, 0);
    return sv_stmt_run(&q, err);
}

static sv_rc insert_secrets(sv_workers *ws, sv_dbw *w, const sv_version *v, sv_err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach (v->secrets, name, value) {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        SV_AUTO(sv_buf_donep) sv_buf place = {0};
        SV_AUTO(sv_buf_donep) sv_buf sealed = {0};
        secret_place(&place, v->key, v->id, name);
        sv_buf_init(&sealed, 0);
        sv_str plain = {json_string_value(value), json_string_length(value)};
        if (sv_seal(&sealed, sv_accounts_seal_key(ws->accounts), sv_buf_str(&place), plain, err) != SV_OK ||
            sv_stmt_prep(&q, w, "INSERT INTO secret (version, name, sealed) VALUES (?1, ?2, ?3)", err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, v->id);
        sv_bind_cstr(&q, 2, name);
        sv_bind_blob(&q, 3, sealed.p, sealed.n);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc insert_version(sv_workers *ws, sv_dbw *w, sv_version *v, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (take_number(w, v, err) != SV_OK ||
        sv_stmt_prep(
            &q, w,
            "INSERT INTO version (id, key, number, created_ms, folder, startup_ms, meta) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, v->id);
    sv_bind_cstr(&q, 2, v->key);
    sv_bind_i64(&q, 3, v->number);
    sv_bind_i64(&q, 4, v->created_ms);
    sv_bind_cstr(&q, 5, v->folder);
    sv_bind_i64(&q, 6, v->startup_ms);
    bind_json(&q, 7, v->meta);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    return insert_secrets(ws, w, v, err);
}

/* What bindings of the deployed version name: a Worker, or KIND:ID of a product (no Worker's name has a colon). */
static sv_rc replace_edges(sv_dbw *w, const sv_version *v, sv_err *err)
{
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "DELETE FROM edge WHERE key = ?1", err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, v->key);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    size_t i;
    json_t *b;
    json_array_foreach (json_object_get(v->meta, "bindings"), i, b) {
        const char *kind = sv_json_cstr(b, "type");
        const sv_product *p = kind ? sv_product_of(kind) : NULL;
        bool is_service = kind && (strcmp(kind, "service") == 0 || (strcmp(kind, "durable_object_namespace") == 0 && sv_json_cstr(b, "script_name")));
        const char *member = kind && strcmp(kind, "service") == 0 ? "service" : "script_name";
        char to[320];
        if (!p && !is_service)
            continue;
        snprintf(to, sizeof to, "%s%s%s", p ? kind : "", p ? ":" : "", sv_json_cstr(b, p ? p->id : member));
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "INSERT OR IGNORE INTO edge (key, service) VALUES (?1, ?2)", err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, v->key);
        sv_bind_cstr(&q, 2, to);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc insert_deployment(sv_dbw *w, const sv_version *v, const sv_deployment *d, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO deployment (id, key, version, created_ms, meta) VALUES (?1, ?2, ?3, ?4, ?5)", err) !=
        SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, d->id);
    sv_bind_cstr(&q, 2, v->key);
    sv_bind_cstr(&q, 3, v->id);
    sv_bind_i64(&q, 4, d->created_ms);
    bind_json(&q, 5, d->meta);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    return replace_edges(w, v, err);
}

static sv_rc run_for_key(sv_dbw *w, const char *sql, const char *key, int64_t n, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, key);
    if (n >= 0)
        sv_bind_i64(&q, 2, n);
    return sv_stmt_run(&q, err);
}

/* Old deployments first, then the versions over the limit (never the deployed one) with their secrets, then deployments of those.
 */
#define OLD_VERSIONS                                                               \
    "key = ?1 AND number <= (SELECT max(number) FROM version WHERE key = ?1) - ?2" \
    " AND id <> (SELECT version FROM deployment WHERE key = ?1 ORDER BY seq DESC LIMIT 1)"

static sv_rc forget_old(sv_dbw *w, const char *key, sv_err *err)
{
    int64_t kept = sv_limit_value(SV_LIMIT_VERSIONS_KEPT);
    if (run_for_key(w,
                    "DELETE FROM deployment WHERE key = ?1 AND seq NOT IN (SELECT seq FROM deployment WHERE key = ?1 ORDER BY "
                    "seq DESC LIMIT ?2)",
                    key, DEPLOYMENTS_KEPT, err) != SV_OK ||
        run_for_key(w, "DELETE FROM secret WHERE version IN (SELECT id FROM version WHERE " OLD_VERSIONS ")", key, kept, err) !=
            SV_OK ||
        run_for_key(w, "DELETE FROM version WHERE " OLD_VERSIONS, key, kept, err) != SV_OK)
        return err->code;
    return run_for_key(w, "DELETE FROM deployment WHERE key = ?1 AND version NOT IN (SELECT id FROM version WHERE key = ?1)", key,
                       -1, err);
}

static sv_rc set_objects(sv_dbw *w, const sv_script *s, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE script SET objects = ?2 WHERE key = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, s->key);
    bind_json(&q, 2, s->objects);
    return sv_stmt_run(&q, err);
}

static sv_rc set_settings(sv_dbw *w, const char *key, const json_t *settings, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE script SET settings = ?2 WHERE key = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, key);
    bind_json(&q, 2, settings);
    return sv_stmt_run(&q, err);
}

static sv_rc record(sv_dbw *w, void *arg, sv_err *err)
{
    record_args *k = arg;
    const sv_record *r = k->r;
    if (r->new_script && insert_script(w, r->script, err) != SV_OK)
        return err->code;
    if (r->migrated && set_objects(w, r->script, err) != SV_OK)
        return err->code;
    if (r->new_settings && set_settings(w, r->script->key, r->script->settings, err) != SV_OK)
        return err->code;
    if (r->new_version && insert_version(k->w, w, r->version, err) != SV_OK)
        return err->code;
    if (r->deployment && insert_deployment(w, r->version, r->deployment, err) != SV_OK)
        return err->code;
    return forget_old(w, r->version->key, err);
}

sv_rc sv_store_record(sv_workers *w, sv_record *r, sv_err *err)
{
    record_args k = {w, r};
    return sv_db_write(w->db, record, &k, err);
}

/* ---- changes of a script ---- */

typedef struct change {
    const char *key, *account, *name, *text;
    bool open, previews;
    const json_t *settings;
    bool found;
} change;

static sv_rc set_open(sv_dbw *w, void *arg, sv_err *err)
{
    const change *c = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE script SET open = ?2, previews = ?3 WHERE key = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, c->key);
    sv_bind_i64(&q, 2, c->open);
    sv_bind_i64(&q, 3, c->previews);
    return sv_stmt_run(&q, err);
}

sv_rc sv_store_set_open(sv_workers *w, const char *key, bool open, bool previews, sv_err *err)
{
    change c = {.key = key, .open = open, .previews = previews};
    return sv_db_write(w->db, set_open, &c, err);
}

static sv_rc set_events(sv_dbw *w, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE script SET events = 1 WHERE key = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, arg);
    return sv_stmt_run(&q, err);
}

sv_rc sv_store_set_events(sv_workers *w, const char *key, sv_err *err) { return sv_db_write(w->db, set_events, (void *)(uintptr_t)key, err); }

static sv_rc change_settings(sv_dbw *w, void *arg, sv_err *err)
{
    const change *c = arg;
    return set_settings(w, c->key, c->settings, err);
}

sv_rc sv_store_set_settings(sv_workers *w, const char *key, const json_t *settings, sv_err *err)
{
    change c = {.key = key, .settings = settings};
    return sv_db_write(w->db, change_settings, &c, err);
}

static sv_rc delete_script(sv_dbw *w, void *arg, sv_err *err)
{
    static const char *const sqls[] = {"DELETE FROM secret WHERE version IN (SELECT id FROM version WHERE key = ?1)",
                                       "DELETE FROM version WHERE key = ?1", "DELETE FROM deployment WHERE key = ?1",
                                       "DELETE FROM edge WHERE key = ?1", "DELETE FROM schedule WHERE key = ?1",
                                       "DELETE FROM run WHERE key = ?1", "DELETE FROM script WHERE key = ?1"};
    const change *c = arg;
    for (size_t i = 0; i < SV_LEN(sqls); i++)
        if (run_for_key(w, sqls[i], c->key, -1, err) != SV_OK)
            return err->code;
    return SV_OK;
}

sv_rc sv_store_delete(sv_workers *w, const char *key, sv_err *err)
{
    change c = {.key = key};
    return sv_db_write(w->db, delete_script, &c, err);
}

typedef struct names_query {
    json_t *out;
    const char *account, *name;
} names_query;

static sv_rc incoming(sv_dbw *r, void *arg, sv_err *err)
{
    names_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    sv_rc rc;
    if (sv_stmt_prep(&q, r,
                     "SELECT s.name FROM edge e JOIN script s ON s.key = e.key WHERE e.service = ?2 AND s.account = ?1 AND "
                     "s.name <> ?2 ORDER BY s.name",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    sv_bind_cstr(&q, 2, k->name);
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        sv_str s = sv_col_str(&q, 0);
        json_array_append_new(k->out, json_stringn(s.p, s.n));
    }
    return rc;
}

sv_rc sv_store_incoming(sv_workers *w, json_t **out, const char *account, const char *name, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    names_query k = {list, account, name};
    if (sv_db_read(w->db, incoming, &k, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(list);
    return SV_OK;
}

sv_rc sv_workers_bound_to(sv_workers *w, const char *account, const char *kind, const char *id, json_t **out, sv_err *err)
{
    char to[320];
    snprintf(to, sizeof to, "%s:%s", kind, id);
    return sv_store_incoming(w, out, account, to, err);
}

typedef struct count_query {
    const char *account, *name;
    int64_t n;
} count_query;

static sv_rc count_others(sv_dbw *r, void *arg, sv_err *err)
{
    count_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    if (sv_stmt_prep(&q, r,
                     k->name ? "SELECT count(*) FROM script WHERE name = ?2 AND account <> ?1"
                             : "SELECT count(*) FROM script WHERE account = ?1",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    if (k->name)
        sv_bind_cstr(&q, 2, k->name);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    k->n = sv_col_i64(&q, 0);
    return SV_OK;
}

sv_rc sv_store_name_taken(sv_workers *w, bool *taken, const char *account, const char *name, sv_err *err)
{
    count_query k = {.account = account, .name = name};
    sv_rc rc = sv_db_read(w->db, count_others, &k, err);
    if (rc == SV_OK)
        *taken = k.n > 0;
    return rc;
}

sv_rc sv_store_count(sv_workers *w, int64_t *n_scripts, const char *account, sv_err *err)
{
    count_query k = {.account = account};
    sv_rc rc = sv_db_read(w->db, count_others, &k, err);
    if (rc == SV_OK)
        *n_scripts = k.n;
    return rc;
}

/* ---- subdomains ---- */

typedef struct subdomain_query {
    char *out;
    const char *account, *name;
    bool taken;
} subdomain_query;

static sv_rc get_subdomain(sv_dbw *r, void *arg, sv_err *err)
{
    subdomain_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool row;
    if (sv_stmt_prep(&q, r, "SELECT name FROM subdomain WHERE account = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 10007, "There is no subdomain registered for this account");
    col_text(&q, 0, k->out, 64);
    return SV_OK;
}

sv_rc sv_store_subdomain(sv_workers *w, char out[64], const char *account, sv_err *err)
{
    subdomain_query k = {.out = out, .account = account};
    return sv_db_read(w->db, get_subdomain, &k, err);
}

static sv_rc subdomain_taken(sv_dbw *r, void *arg, sv_err *err)
{
    subdomain_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM subdomain WHERE name = ?2 AND account <> ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    sv_bind_cstr(&q, 2, k->name);
    return sv_stmt_step(&q, &k->taken, err);
}

sv_rc sv_store_subdomain_taken(sv_workers *w, bool *taken, const char *account, const char *name, sv_err *err)
{
    subdomain_query k = {.account = account, .name = name};
    sv_rc rc = sv_db_read(w->db, subdomain_taken, &k, err);
    if (rc == SV_OK)
        *taken = k.taken;
    return rc;
}

static sv_rc set_subdomain(sv_dbw *w, void *arg, sv_err *err)
{
    const subdomain_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO subdomain (account, name) VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET name = ?2",
                     err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->account);
    sv_bind_cstr(&q, 2, k->name);
    return sv_stmt_run(&q, err);
}

sv_rc sv_store_set_subdomain(sv_workers *w, const char *account, const char *name, sv_err *err)
{
    subdomain_query k = {.account = account, .name = name};
    sv_rc rc = sv_db_write(w->db, set_subdomain, &k, err);
    return rc == SV_ECONFLICT ? sv_fail_api(err, SV_ECONFLICT, 10031, "Subdomain '%s' is taken by another account", name) : rc;
}

/* ---- folders that no row names (inv. 2) ---- */

typedef struct folder_query {
    const char *key, *folder;
    bool used;
} folder_query;

static sv_rc folder_used(sv_dbw *r, void *arg, sv_err *err)
{
    folder_query *k = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM version WHERE key = ?1 AND folder = ?2 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, k->key);
    sv_bind_cstr(&q, 2, k->folder);
    return sv_stmt_step(&q, &k->used, err);
}

sv_rc sv_store_sweep(sv_workers *w, const char *key, sv_err *err)
{
    char dir[4096], path[4096 + 264];
    snprintf(dir, sizeof dir, "%s/%s", w->root, key);
    DIR *d = opendir(dir);
    if (!d)
        return SV_OK;
    sv_rc rc = SV_OK;
    for (struct dirent *e; rc == SV_OK && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        folder_query k = {.key = key, .folder = e->d_name};
        rc = sv_db_read(w->db, folder_used, &k, err);
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (rc == SV_OK && !k.used)
            rc = sv_remove_tree(path, err);
    }
    closedir(d);
    return rc;
}
