/* vectorize.c - the catalogue of indexes, and which of them are open
 *
 * The catalogue is read once and then kept in memory, since every call looks an index up: a map from "ACCOUNT/NAME" to an entry. The
 * database is the truth and is written first. A new index's folder is made before its row, and a deleted one's is removed after its
 * row, so a crash leaves a folder without a row, which the next start removes, and never a row without a folder.
 *
 *   CLOSED -> OPENING -> OPEN -> CLOSING -> CLOSED      an entry; whoever finds OPENING or CLOSING waits for `changed`
 *
 * Invariants, under `lock`:
 *   1. An entry's vec is set exactly in OPEN; it is closed only while nobody but the closer holds a use.
 *   2. An entry is in the map until its row is gone; taken from the map (`deleted`), the last use frees it with its folder.
 *   3. n_open counts the entries that are not CLOSED.
 * The lock is never held while something is opened, closed or written. */
#include "vectorize/vectorize.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/time.h"
#include "db/db.h"
#include "vectorize/vectorize_impl.h"

typedef enum entry_state { CLOSED, OPENING, OPEN, CLOSING } entry_state;

struct sv_vz_use { /* an entry: a use is a counted pointer to it */
    sv_vectorize *vz;
    char id[33], account[33], name[SV_VZ_MAX_NAME + 1];
    char *description;
    int32_t dimensions;
    sv_vec_metric metric;
    int64_t created_ms;
    entry_state state;
    sv_vec *vec;
    int n_uses;
    bool deleting, deleted;
    uint64_t used_at; /* a count of uses, for the choice of what to close */
};

struct sv_vectorize {
    char *dir;
    sv_db *db;
    pthread_mutex_t lock; /* guards what follows; nothing is taken while it is held */
    pthread_cond_t changed;
    sv_smap *entries;
    int64_t n_open;
    uint64_t clock;
    size_t memory_bytes;
    sv_vz_counters counters;
};

static const char *const migrations[] = {
    "CREATE TABLE indexes (id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, dimensions INTEGER NOT NULL,"
    " metric INTEGER NOT NULL, created_ms INTEGER NOT NULL, UNIQUE (account, name)) STRICT, WITHOUT ROWID;"};

static const char *const metric_names[] = {[SV_VEC_COSINE] = "cosine", [SV_VEC_EUCLIDEAN] = "euclidean", [SV_VEC_DOT] = "dot-product"};

/* Embedding models whose shape clients name instead of numbers. */
static const struct { const char *name; int dimensions; } presets[] = {
    {"@cf/baai/bge-small-en-v1.5", 384},      {"@cf/baai/bge-base-en-v1.5", 768},        {"@cf/baai/bge-large-en-v1.5", 1024},
    {"openai/text-embedding-ada-002", 1536},  {"cohere/embed-multilingual-v2.0", 768}};

sv_vz_counters *sv_vz_counters_of(sv_vectorize *vz) { return &vz->counters; }

/* ---- entries ---- */

static char *dir_of(const sv_vectorize *vz, const char *id) { return sv_xasprintf("%s/%s", vz->dir, id); }

/* "ACCOUNT/NAME", or empty for what no index can be called. */
static sv_str key_of(char out[128], sv_str account, sv_str name)
{
    if (account.n > 32 || name.n > SV_VZ_MAX_NAME || name.n == 0)
        return (sv_str){out, 0};
    int n = snprintf(out, 128, "%.*s/%.*s", (int)account.n, account.p, (int)name.n, name.p);
    return (sv_str){out, (size_t)n};
}

static sv_rc not_found(sv_str name, sv_err *err)
{
    return sv_fail_api(err, SV_ENOENT, 3000, "vectorize.index.not_found - Index name \"%.*s\"", (int)(name.n > 100 ? 100 : name.n), name.p);
}

static sv_vz_use *find(sv_vectorize *vz, sv_str account, sv_str name)
{
    char buf[128];
    sv_str key = key_of(buf, account, name);
    sv_vz_use *e = key.n ? sv_smap_get(vz->entries, key) : NULL;
    return e && !e->deleting ? e : NULL;
}

static json_t *describe(const sv_vz_use *e)
{
    char when[32];
    sv_iso8601(when, e->created_ms);
    return json_pack("{s:s, s:s, s:{s:i, s:s}, s:s, s:s}", "name", e->name, "description", e->description, "config", "dimensions", (int)e->dimensions,
                     "metric", metric_names[e->metric], "created_on", when, "modified_on", when);
}

static void entry_free(sv_vz_use *e)
{
    free(e->description);
    free(e);
}

/* The last one out, with the lock held, which is given up. */
static void bury(sv_vectorize *vz, sv_vz_use *e)
{
    sv_err err = {0};
    vz->n_open -= e->state != CLOSED;
    pthread_mutex_unlock(&vz->lock);
    sv_vec_close(e->vec);
    char *dir = dir_of(vz, e->id);
    if (sv_vec_destroy(dir, &err) != SV_OK) /* the next start tries again */
        sv_log(SV_WARN, "vectorize.remove", "index=%s error='%s'", e->id, err.msg);
    free(dir);
    entry_free(e);
}

/* Closes what nobody used for longest while too many are open. Called with the lock, which it gives up in between. */
static void close_idle(sv_vectorize *vz)
{
    while (vz->n_open > sv_limit_value(SV_LIMIT_VEC_OPEN)) {
        sv_vz_use *oldest = NULL, *e;
        sv_str key;
        for (size_t i = 0; sv_smap_next(vz->entries, &i, &key, (void **)&e);)
            if (e->state == OPEN && e->n_uses == 0 && (!oldest || e->used_at < oldest->used_at))
                oldest = e;
        if (!oldest)
            return; /* all in use: over the number for as long as that lasts */
        sv_vec *vec = SV_TAKE(oldest->vec);
        oldest->state = CLOSING;
        oldest->n_uses++;
        pthread_mutex_unlock(&vz->lock);
        sv_vec_close(vec);
        pthread_mutex_lock(&vz->lock);
        oldest->state = CLOSED;
        vz->n_open--;
        pthread_cond_broadcast(&vz->changed);
        if (--oldest->n_uses == 0 && oldest->deleted) {
            bury(vz, oldest);
            pthread_mutex_lock(&vz->lock);
        }
    }
}

static sv_rc open_entry(sv_vectorize *vz, sv_vz_use *e, sv_err *err)
{
    char *dir = dir_of(vz, e->id);
    sv_vec *vec = NULL;
    sv_vec_config config = {.dimensions = e->dimensions, .metric = e->metric, .memory_bytes = vz->memory_bytes};
    e->state = OPENING;
    vz->n_open++;
    pthread_mutex_unlock(&vz->lock);
    sv_rc rc = sv_file_exists(dir) ? sv_vec_open(&vec, dir, &config, err) : sv_fail(err, SV_EIO, "the folder of index %s is gone", e->id);
    pthread_mutex_lock(&vz->lock);
    free(dir);
    e->vec = vec;
    e->state = rc == SV_OK ? OPEN : CLOSED;
    vz->n_open -= rc != SV_OK;
    pthread_cond_broadcast(&vz->changed);
    if (rc == SV_OK || rc == SV_ENOMEM || rc == SV_ELIMIT)
        return rc;
    err->code = SV_EIO; /* whatever it is, the caller did not cause it */
    return SV_EIO;
}

sv_rc sv_vectorize_use(sv_vectorize *vz, sv_str account, sv_str name, sv_vz_use **out, sv_err *err)
{
    pthread_mutex_lock(&vz->lock);
    sv_vz_use *e = find(vz, account, name);
    if (!e) {
        pthread_mutex_unlock(&vz->lock);
        return not_found(name, err);
    }
    e->n_uses++;
    e->used_at = ++vz->clock;
    while (e->state == OPENING || e->state == CLOSING)
        pthread_cond_wait(&vz->changed, &vz->lock);
    sv_rc rc = e->state == OPEN ? SV_OK : open_entry(vz, e, err);
    if (rc == SV_OK)
        close_idle(vz);
    pthread_mutex_unlock(&vz->lock);
    if (rc != SV_OK) {
        sv_vz_use_done(e);
        return rc;
    }
    *out = e;
    return SV_OK;
}

sv_vec *sv_vz_use_vec(const sv_vz_use *u) { return u->vec; }

sv_vz_use *sv_vz_use_done(sv_vz_use *u)
{
    if (!u)
        return NULL;
    sv_vectorize *vz = u->vz;
    pthread_mutex_lock(&vz->lock);
    if (--u->n_uses == 0 && u->deleted)
        bury(vz, u);
    else
        pthread_mutex_unlock(&vz->lock);
    return NULL;
}

/* ---- create, get, list, delete ---- */

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_word(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

static sv_rc check_name(sv_str name, sv_err *err)
{
    if (sv_limit_check(SV_LIMIT_VEC_NAME_BYTES, (int64_t)name.n, "the index's name", err) != SV_OK)
        return err->code;
    bool good = name.n > 0 && is_lower(name.p[0]) && is_word(name.p[name.n - 1]);
    for (size_t i = 0; i < name.n && good; i++)
        good = is_word(name.p[i]) || name.p[i] == '_' || name.p[i] == '-';
    if (!good)
        return sv_fail_api(err, SV_EINVAL, 3001,
                           "vectorize.index.invalid_name - Index name \"%.*s\": a lower-case letter first, then letters, digits, '_' and '-', a letter or digit last",
                           (int)name.n, name.p);
    return SV_OK;
}

static sv_rc check_config(const sv_vz_config *c, int32_t *dimensions, sv_vec_metric *metric, sv_err *err)
{
    if (c->preset.n) {
        for (size_t i = 0; i < SV_LEN(presets); i++)
            if (sv_str_is(c->preset, presets[i].name)) {
                *dimensions = presets[i].dimensions;
                *metric = SV_VEC_COSINE;
                return SV_OK;
            }
        return sv_fail_api(err, SV_EINVAL, 3001, "vectorize.index.invalid_config - unknown preset \"%.*s\"", (int)(c->preset.n > 100 ? 100 : c->preset.n),
                           c->preset.p);
    }
    if (c->dimensions < 1 || c->dimensions > sv_limit_value(SV_LIMIT_VEC_DIMENSIONS))
        return sv_fail_api(err, SV_EINVAL, 3001, "vectorize.index.invalid_config - dimensions must be from 1 to %lld, got %lld",
                           (long long)sv_limit_value(SV_LIMIT_VEC_DIMENSIONS), (long long)c->dimensions);
    for (size_t i = 0; i < SV_LEN(metric_names); i++)
        if (sv_str_is(c->metric, metric_names[i])) {
            *dimensions = (int32_t)c->dimensions;
            *metric = (sv_vec_metric)i;
            return SV_OK;
        }
    return sv_fail_api(err, SV_EINVAL, 3001, "vectorize.index.invalid_config - metric must be cosine, euclidean or dot-product");
}

static sv_rc insert_row(sv_dbw *w, void *arg, sv_err *err)
{
    const sv_vz_use *e = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt count = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&count, w, "SELECT count(*) FROM indexes WHERE account = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&count, 1, e->account);
    if (sv_stmt_step(&count, &row, err) != SV_OK ||
        sv_limit_check(SV_LIMIT_VEC_INDEXES, sv_col_i64(&count, 0) + 1, "indexes of the account", err) != SV_OK ||
        sv_stmt_prep(&q, w, "INSERT INTO indexes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, e->id);
    sv_bind_cstr(&q, 2, e->account);
    sv_bind_cstr(&q, 3, e->name);
    sv_bind_cstr(&q, 4, e->description);
    sv_bind_i64(&q, 5, e->dimensions);
    sv_bind_i64(&q, 6, e->metric);
    sv_bind_i64(&q, 7, e->created_ms);
    sv_rc rc = sv_stmt_run(&q, err);
    if (rc == SV_ECONFLICT)
        return sv_fail_api(err, SV_ECONFLICT, 3002, "vectorize.index.duplicate_name - Index name \"%s\"", e->name);
    return rc;
}

static sv_rc delete_row(sv_dbw *w, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM indexes WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, arg);
    return sv_stmt_run(&q, err);
}

static bool exists(sv_vectorize *vz, sv_str account, sv_str name)
{
    pthread_mutex_lock(&vz->lock);
    bool yes = find(vz, account, name) != NULL;
    pthread_mutex_unlock(&vz->lock);
    return yes;
}

static void copy(char *to, size_t size, sv_str s) { snprintf(to, size, "%.*s", (int)s.n, s.n ? s.p : ""); }

/* The folder, the row, the entry, in this order. */
static sv_rc add(sv_vectorize *vz, sv_vz_use *e, json_t **out, sv_err *err)
{
    char *dir = dir_of(vz, e->id);
    sv_vec_config config = {.dimensions = e->dimensions, .metric = e->metric, .memory_bytes = vz->memory_bytes};
    sv_rc rc = sv_vec_open(&e->vec, dir, &config, err);
    if (rc == SV_OK)
        rc = sv_db_write(vz->db, insert_row, e, err);
    if (rc != SV_OK) {
        sv_err ignored = {0};
        e->vec = sv_vec_close(e->vec);
        if (sv_vec_destroy(dir, &ignored) != SV_OK)
            sv_log(SV_WARN, "vectorize.remove", "index=%s error='%s'", e->id, ignored.msg);
        free(dir);
        entry_free(e);
        return rc;
    }
    free(dir);
    char key[128];
    json_t *j = describe(e);
    pthread_mutex_lock(&vz->lock);
    e->state = OPEN;
    e->used_at = ++vz->clock;
    vz->n_open++;
    sv_smap_put(vz->entries, key_of(key, sv_str_of(e->account), sv_str_of(e->name)), e);
    close_idle(vz);
    pthread_mutex_unlock(&vz->lock);
    *out = j;
    return SV_OK;
}

sv_rc sv_vectorize_create(sv_vectorize *vz, sv_str account, sv_str name, sv_str description, const sv_vz_config *config, json_t **out, sv_err *err)
{
    int32_t dimensions = 0;
    sv_vec_metric metric = SV_VEC_COSINE;
    if (check_name(name, err) != SV_OK || check_config(config, &dimensions, &metric, err) != SV_OK ||
        sv_limit_check(SV_LIMIT_VEC_DESCRIPTION_BYTES, (int64_t)description.n, "the index's description", err) != SV_OK)
        return err->code;
    if (exists(vz, account, name)) /* asked again by the row's uniqueness; here it costs no folder */
        return sv_fail_api(err, SV_ECONFLICT, 3002, "vectorize.index.duplicate_name - Index name \"%.*s\"", (int)name.n, name.p);
    sv_vz_use *e = sv_xnew0(sv_vz_use);
    e->vz = vz;
    sv_random_hex(e->id, 16);
    copy(e->account, sizeof e->account, account);
    copy(e->name, sizeof e->name, name);
    e->description = sv_xstrndup(description.n ? description.p : "", description.n);
    e->dimensions = dimensions;
    e->metric = metric;
    e->created_ms = sv_now_ms();
    return add(vz, e, out, err);
}

sv_rc sv_vectorize_get(sv_vectorize *vz, sv_str account, sv_str name, json_t **out, sv_err *err)
{
    pthread_mutex_lock(&vz->lock);
    const sv_vz_use *e = find(vz, account, name);
    json_t *j = e ? describe(e) : NULL;
    pthread_mutex_unlock(&vz->lock);
    if (!j)
        return not_found(name, err);
    *out = j;
    return SV_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(sv_vz_use *const *)a)->name, (*(sv_vz_use *const *)b)->name);
}

json_t *sv_vectorize_list(sv_vectorize *vz, sv_str account)
{
    json_t *all = json_array();
    pthread_mutex_lock(&vz->lock);
    sv_vz_use **mine = sv_xcalloc(sv_smap_count(vz->entries) + 1, sizeof *mine), *e;
    size_t n = 0;
    sv_str key;
    for (size_t i = 0; sv_smap_next(vz->entries, &i, &key, (void **)&e);)
        if (!e->deleting && sv_str_is(account, e->account))
            mine[n++] = e;
    qsort(mine, n, sizeof *mine, by_name);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, describe(mine[i]));
    pthread_mutex_unlock(&vz->lock);
    free(mine);
    return all;
}

sv_rc sv_vectorize_delete(sv_vectorize *vz, sv_str account, sv_str name, sv_err *err)
{
    char key[128];
    pthread_mutex_lock(&vz->lock);
    sv_vz_use *e = find(vz, account, name);
    if (e) {
        e->deleting = true;
        e->n_uses++;
    }
    pthread_mutex_unlock(&vz->lock);
    if (!e)
        return not_found(name, err);
    sv_rc rc = sv_db_write(vz->db, delete_row, e->id, err);
    pthread_mutex_lock(&vz->lock);
    e->deleting = rc == SV_OK;
    e->deleted = rc == SV_OK;
    if (e->deleted)
        sv_smap_del(vz->entries, key_of(key, account, name));
    pthread_mutex_unlock(&vz->lock);
    sv_vz_use_done(e);
    return rc;
}

/* ---- open and close ---- */

static sv_rc load_rows(sv_dbw *r, void *arg, sv_err *err)
{
    sv_vectorize *vz = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, account, name, description, dimensions, metric, created_ms FROM indexes", err) != SV_OK)
        return err->code;
    sv_rc rc;
    while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) {
        int64_t dimensions = sv_col_i64(&q, 4), metric = sv_col_i64(&q, 5);
        if (dimensions < 1 || dimensions > SV_VEC_MAX_DIMENSIONS || metric < 0 || metric >= (int64_t)SV_LEN(metric_names) || sv_col_str(&q, 0).n != 32)
            return sv_fail(err, SV_EFORMAT, "an index of the catalogue makes no sense");
        sv_vz_use *e = sv_xnew0(sv_vz_use);
        e->vz = vz;
        copy(e->id, sizeof e->id, sv_col_str(&q, 0));
        copy(e->account, sizeof e->account, sv_col_str(&q, 1));
        copy(e->name, sizeof e->name, sv_col_str(&q, 2));
        sv_str description = sv_col_str(&q, 3);
        e->description = sv_xstrndup(description.n ? description.p : "", description.n);
        e->dimensions = (int32_t)dimensions;
        e->metric = (sv_vec_metric)metric;
        e->created_ms = sv_col_i64(&q, 6);
        char key[128];
        sv_vz_use *twin = sv_smap_put(vz->entries, key_of(key, sv_str_of(e->account), sv_str_of(e->name)), e);
        SV_ASSERT(!twin); /* UNIQUE */
    }
    return rc;
}

/* Folders whose rows are gone or were never written. */
static void remove_orphans(sv_vectorize *vz)
{
    sv_smap *known = sv_smap_new();
    sv_vz_use *e;
    sv_str key;
    for (size_t i = 0; sv_smap_next(vz->entries, &i, &key, (void **)&e);)
        sv_smap_put(known, sv_str_of(e->id), e);
    DIR *d = opendir(vz->dir);
    for (struct dirent *f; d && (f = readdir(d));) {
        sv_err err = {0};
        if (strlen(f->d_name) != 32 || strspn(f->d_name, "0123456789abcdef") != 32 || sv_smap_get(known, sv_str_of(f->d_name)))
            continue;
        char *dir = dir_of(vz, f->d_name);
        if (sv_vec_destroy(dir, &err) != SV_OK)
            sv_log(SV_WARN, "vectorize.remove", "index=%s error='%s'", f->d_name, err.msg);
        free(dir);
    }
    if (d)
        closedir(d);
    sv_smap_free(known);
}

sv_rc sv_vectorize_open(sv_vectorize **out, const char *data_dir, sv_err *err)
{
    SV_AUTO(sv_vectorize_closep) sv_vectorize *vz = sv_xnew0(sv_vectorize);
    pthread_mutex_init(&vz->lock, NULL);
    pthread_cond_init(&vz->changed, NULL);
    vz->entries = sv_smap_new();
    vz->dir = sv_xasprintf("%s/vectorize", data_dir);
    /* One index may take half of the machine: what does not fit is refused with the numbers and not by the kernel. */
    vz->memory_bytes = (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
    char *path = sv_xasprintf("%s/vectorize.db", data_dir);
    sv_rc rc = sv_mkdir_p(vz->dir, 0700, err);
    if (rc == SV_OK)
        rc = sv_db_open(&vz->db, path, migrations, SV_LEN(migrations), err);
    free(path);
    if (rc != SV_OK || sv_db_read(vz->db, load_rows, vz, err) != SV_OK)
        return sv_wrap(err, "vectorize");
    remove_orphans(vz);
    *out = SV_TAKE(vz);
    return SV_OK;
}

sv_vectorize *sv_vectorize_close(sv_vectorize *vz)
{
    sv_vz_use *e;
    sv_str key;
    if (!vz)
        return NULL;
    for (size_t i = 0; sv_smap_next(vz->entries, &i, &key, (void **)&e);) {
        SV_ASSERT(e->n_uses == 0);
        sv_vec_close(e->vec);
        entry_free(e);
    }
    sv_smap_free(vz->entries);
    sv_db_close(vz->db);
    pthread_cond_destroy(&vz->changed);
    pthread_mutex_destroy(&vz->lock);
    free(vz->dir);
    free(vz);
    return NULL;
}

void sv_vectorize_metrics(sv_vectorize *vz, sv_buf *out)
{
    pthread_mutex_lock(&vz->lock);
    size_t n = sv_smap_count(vz->entries);
    long long n_open = vz->n_open;
    pthread_mutex_unlock(&vz->lock);
    const sv_vz_counters *c = &vz->counters;
    sv_buf_addf(out,
                "# HELP selvedge_vectorize_indexes Vector indexes.\n# TYPE selvedge_vectorize_indexes gauge\nselvedge_vectorize_indexes %zu\n"
                "# HELP selvedge_vectorize_open_indexes Vector indexes held open.\n# TYPE selvedge_vectorize_open_indexes gauge\n"
                "selvedge_vectorize_open_indexes %lld\n"
                "# HELP selvedge_vectorize_queries_total Queries answered.\n# TYPE selvedge_vectorize_queries_total counter\n"
                "selvedge_vectorize_queries_total %llu\n"
                "# HELP selvedge_vectorize_mutations_total Mutations taken.\n# TYPE selvedge_vectorize_mutations_total counter\n"
                "selvedge_vectorize_mutations_total %llu\n"
                "# HELP selvedge_vectorize_vectors_total Vectors that came in with mutations.\n# TYPE selvedge_vectorize_vectors_total counter\n"
                "selvedge_vectorize_vectors_total %llu\n",
                n, n_open, (unsigned long long)atomic_load(&c->n_queries), (unsigned long long)atomic_load(&c->n_mutations),
                (unsigned long long)atomic_load(&c->n_vectors));
}
