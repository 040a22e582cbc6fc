/* kv.c - the key-value store: rows in SQLite, big values in files, and one thread that writes
 *
 * A rowid table with a unique index on (namespace, key): WITHOUT ROWID would keep the values inside the tree that is searched, which
 * measured 2.7 times slower to read and 3 times larger. Big values are files, because SQLite would write each of them twice (log and
 * database) and could not stream it.
 *
 *   put of a big value:   file written and synced -> folder synced -> row committed -> done -> the file it replaces is removed
 *
 * A crash leaves at most files without a row; the next open removes them. A reader that has looked at a row whose file goes away before it
 * can be opened looks again.
 *
 * Writes do not each hold a thread while the disk syncs: they queue, and the store's thread takes everything that waits into one
 * transaction. So the number of writers that share a sync is the number of clients that write, not of threads.
 *
 * Deleting a namespace marks it; the sweeper removes its keys in portions, so that nobody waits for a million of them.
 *
 * Invariants:
 *   1. A row that is committed has its value in it, or names a file that is whole and synced.
 *   2. No two rows name the same file, and a file is removed only after the commit that took its row away.
 *   3. Rows of a namespace that is `gone` are never read: every path goes through find_ns.
 *   4. An entry is alive while expires_s > now, in whole seconds; what has expired and what was never there look the same.
 *   5. `lock` guards the queue of writes; nothing is called while it is held. */
#include "kv/kv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "db/db.h"
#include "kv/kv_hot.h"

enum { MAX_GROUP = 256, SWEEP_S = 5, SWEEP_ROWS = 500, N_NAME = 33, HOT_BYTES = 64 << 20 };

static const char *const migrations[] = {
    "CREATE TABLE namespaces (no INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, title TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX namespaces_title ON namespaces (account, title) WHERE gone = 0;"
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, key BLOB NOT NULL, expires INTEGER, metadata TEXT, n INTEGER NOT NULL,"
    " file TEXT, value BLOB);"
    "CREATE UNIQUE INDEX entries_key ON entries (ns, key);"
    "CREATE INDEX entries_expires ON entries (expires) WHERE expires IS NOT NULL;"
    "CREATE UNIQUE INDEX entries_file ON entries (file) WHERE file IS NOT NULL;",
};

struct sv_kvs {
    sv_db *db;
    char *folder; /* of big values */
    sv_kv_hot *hot;
    pthread_mutex_t lock;
    pthread_cond_t more;
    sv_kvs_write *first, **last;
    bool stopping;
    pthread_t writer;
    sv_ticker *sweeper;
    bool started;
};

static int64_t now_s(void) { return sv_now_ms() / 1000; }

/* ---- files ---- */

static void file_path(const sv_kvs *kv, const char *name, char out[600]) { snprintf(out, 600, "%s/%s", kv->folder, name); }

static void remove_file(const sv_kvs *kv, const char *name)
{
    char path[600];
    file_path(kv, name, path);
    if (unlink(path) < 0 && errno != ENOENT)
        sv_log(SV_WARN, "kv.file", "file=%s errno=%d left='until the next start'", name, errno);
}

const char *sv_kvs_folder(const sv_kvs *kv) { return kv->folder; }

sv_rc sv_kvs_adopt(sv_kvs *kv, sv_kvs_change *c, const char *path, int64_t n, sv_err *err)
{
    const char *name = strrchr(path, '/') + 1;
    if (sv_sync(path, err) != SV_OK || sv_sync(kv->folder, err) != SV_OK)
        return err->code;
    snprintf(c->file, sizeof c->file, "%s", name);
    c->file_n = n;
    c->value = (sv_str){0};
    return SV_OK;
}

sv_rc sv_kvs_spill(sv_kvs *kv, sv_kvs_change *c, sv_err *err)
{
    char name[N_NAME], path[600];
    if (c->value.n <= SV_KVS_INLINE)
        return SV_OK;
    sv_random_hex(name, 16);
    file_path(kv, name, path);
    int64_t n = (int64_t)c->value.n;
    SV_AUTO(sv_fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "make '%s'", path);
    if (sv_write_all(fd, c->value.p, c->value.n, err) == SV_OK && sv_kvs_adopt(kv, c, path, n, err) == SV_OK)
        return SV_OK;
    remove_file(kv, name);
    return err->code;
}

static bool is_file_name(const char *s) { return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32; }

/* ---- namespaces ---- */

static sv_rc find_ns(sv_dbw *w, sv_str account, sv_str id, int64_t *no, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT no FROM namespaces WHERE id = ?1 AND account = ?2 AND gone = 0", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, id);
    sv_bind_str(&q, 2, account);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 10013, "namespace not found");
    *no = sv_col_i64(&q, 0);
    return SV_OK;
}

static void take_ns(sv_stmt *q, sv_kvs_ns *out)
{
    sv_str id = sv_col_str(q, 1), account = sv_col_str(q, 2), title = sv_col_str(q, 3);
    *out = (sv_kvs_ns){.no = sv_col_i64(q, 0)};
    snprintf(out->id, sizeof out->id, "%.*s", (int)id.n, id.p);
    snprintf(out->account, sizeof out->account, "%.*s", (int)account.n, account.p);
    snprintf(out->title, sizeof out->title, "%.*s", (int)title.n, title.p);
}

typedef struct find_arg { sv_str account, id; sv_kvs_ns ns; } find_arg;

static sv_rc read_ns(sv_dbw *r, void *arg, sv_err *err)
{
    find_arg *f = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT no, id, account, title FROM namespaces WHERE id = ?1 AND account = ?2 AND gone = 0", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, f->id);
    sv_bind_str(&q, 2, f->account);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 10013, "namespace not found");
    take_ns(&q, &f->ns);
    return SV_OK;
}

sv_rc sv_kvs_ns_find(sv_kvs *kv, sv_str account, sv_str id, sv_kvs_ns *out, sv_err *err)
{
    find_arg f = {.account = account, .id = id};
    if (sv_db_read(kv->db, read_ns, &f, err) != SV_OK)
        return err->code;
    *out = f.ns;
    return SV_OK;
}

typedef struct list_ns_arg { sv_str account; bool by_title, descending; sv_kvs_ns *v; size_t n, cap; } list_ns_arg;

static sv_rc read_ns_list(sv_dbw *r, void *arg, sv_err *err)
{
    static const char *const sql[2][2] = {
        {"SELECT no, id, account, title FROM namespaces WHERE account = ?1 AND gone = 0 ORDER BY id",
         "SELECT no, id, account, title FROM namespaces WHERE account = ?1 AND gone = 0 ORDER BY id DESC"},
        {"SELECT no, id, account, title FROM namespaces WHERE account = ?1 AND gone = 0 ORDER BY title",
         "SELECT no, id, account, title FROM namespaces WHERE account = ?1 AND gone = 0 ORDER BY title DESC"}};
    list_ns_arg *a = arg;
    bool row = true; /* still, when the first step fails */
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, sql[a->by_title][a->descending], err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, a->account);
    while (sv_stmt_step(&q, &row, err) == SV_OK && row) {
        if (a->n == a->cap) {
            a->cap = a->cap ? a->cap * 2 : 16;
            a->v = sv_xrealloc(a->v, a->cap, sizeof *a->v); /* at most SV_KVS_MAX_NAMESPACES */
        }
        take_ns(&q, &a->v[a->n++]);
    }
    return row ? err->code : SV_OK;
}

sv_rc sv_kvs_ns_list(sv_kvs *kv, sv_str account, bool by_title, bool descending, sv_kvs_ns **out, size_t *n, sv_err *err)
{
    list_ns_arg a = {.account = account, .by_title = by_title, .descending = descending};
    sv_err e = {0};
    if (sv_db_read(kv->db, read_ns_list, &a, &e) != SV_OK) {
        free(a.v);
        *err = e;
        return e.code;
    }
    *out = a.v;
    *n = a.n;
    return SV_OK;
}

/* ---- changes, inside the transaction ---- */

typedef struct group {
    sv_kvs_write *v[MAX_GROUP];
    size_t n;
    char (*old)[N_NAME]; /* files whose rows were taken away */
    size_t n_old, cap_old;
} group;

static void add_old(group *g, sv_str name)
{
    if (name.n != N_NAME - 1)
        return;
    if (g->n_old == g->cap_old) {
        g->cap_old = g->cap_old ? g->cap_old * 2 : 16;
        g->old = sv_xrealloc(g->old, g->cap_old, sizeof *g->old);
    }
    memcpy(g->old[g->n_old], name.p, N_NAME - 1);
    g->old[g->n_old++][N_NAME - 1] = 0;
}

/* The row of a key, and the file that it names goes on the list: *id 0 when there is none. */
static sv_rc find_row(group *g, sv_dbw *w, int64_t ns, sv_str key, int64_t *id, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT id, file FROM entries WHERE ns = ?1 AND key = ?2"
                     " AND EXISTS (SELECT 1 FROM namespaces WHERE no = ?1 AND gone = 0)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, ns);
    sv_bind_blob(&q, 2, key.p, key.n);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *id = row ? sv_col_i64(&q, 0) : 0;
    if (row)
        add_old(g, sv_col_str(&q, 1));
    return SV_OK;
}

static sv_rc put(group *g, sv_dbw *w, int64_t ns, const sv_kvs_change *c, sv_err *err)
{
    int64_t id = 0;
    if (find_row(g, w, ns, c->key, &id, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w,
                     id ? "UPDATE entries SET expires = ?3, metadata = ?4, n = ?5, file = ?6, value = ?7 WHERE id = ?8"
                        : "INSERT INTO entries (ns, key, expires, metadata, n, file, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                     err) != SV_OK)
        return err->code;
    if (id) {
        sv_bind_i64(&q, 8, id);
    } else {
        sv_bind_i64(&q, 1, ns);
        sv_bind_blob(&q, 2, c->key.p, c->key.n);
    }
    if (c->expires_s)
        sv_bind_i64(&q, 3, c->expires_s);
    else
        sv_bind_null(&q, 3);
    sv_bind_str(&q, 4, c->metadata.n ? c->metadata : (sv_str){0});
    sv_bind_i64(&q, 5, c->file[0] ? c->file_n : (int64_t)c->value.n);
    if (c->file[0]) {
        sv_bind_cstr(&q, 6, c->file);
        sv_bind_null(&q, 7);
    } else {
        sv_bind_null(&q, 6);
        sv_bind_blob(&q, 7, c->value.n ? c->value.p : "", c->value.n);
    }
    return sv_stmt_run(&q, err);
}

static sv_rc remove_row(sv_dbw *w, int64_t id, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM entries WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, id);
    return sv_stmt_run(&q, err);
}

static sv_rc remove_key(group *g, sv_dbw *w, int64_t ns, const sv_kvs_change *c, sv_err *err)
{
    int64_t id = 0;
    if (find_row(g, w, ns, c->key, &id, err) != SV_OK)
        return err->code;
    return id ? remove_row(w, id, err) : SV_OK;
}

static sv_rc count_ns(sv_dbw *w, sv_str account, int64_t *n, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT count(*) FROM namespaces WHERE account = ?1 AND gone = 0", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, account);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *n = sv_col_i64(&q, 0);
    return SV_OK;
}

static sv_rc title_result(sv_rc rc, sv_err *err)
{
    if (rc != SV_ECONFLICT)
        return rc;
    return sv_fail_api(err, SV_ECONFLICT, 10014, "a namespace with this account ID and title already exists");
}

static sv_rc create_ns(sv_dbw *w, sv_str account, const sv_kvs_change *c, sv_err *err)
{
    int64_t n = 0;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (count_ns(w, account, &n, err) != SV_OK)
        return err->code;
    if (n >= SV_KVS_MAX_NAMESPACES)
        return sv_fail_api(err, SV_ELIMIT, 10047, "the account has %lld namespaces, at most %d", (long long)n, SV_KVS_MAX_NAMESPACES);
    if (sv_stmt_prep(&q, w, "INSERT INTO namespaces (id, account, title, created_ms) VALUES (?1, ?2, ?3, ?4)", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, c->ns);
    sv_bind_str(&q, 2, account);
    sv_bind_str(&q, 3, c->title);
    sv_bind_i64(&q, 4, sv_now_ms());
    return title_result(sv_stmt_run(&q, err), err);
}

static sv_rc change_ns(sv_dbw *w, int64_t no, const sv_kvs_change *c, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    bool rename = c->op == SV_KVS_NS_RENAME;
    if (sv_stmt_prep(&q, w, rename ? "UPDATE namespaces SET title = ?2 WHERE no = ?1" : "UPDATE namespaces SET gone = 1 WHERE no = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, no);
    if (rename)
        sv_bind_str(&q, 2, c->title);
    return title_result(sv_stmt_run(&q, err), err);
}

static sv_rc apply_change(group *g, sv_dbw *w, sv_str account, const sv_kvs_change *c, sv_err *err)
{
    int64_t no = 0;
    if (c->op == SV_KVS_NS_CREATE)
        return create_ns(w, account, c, err);
    if (find_ns(w, account, c->ns, &no, err) != SV_OK)
        return err->code;
    switch (c->op) {
    case SV_KVS_PUT: return put(g, w, no, c, err);
    case SV_KVS_DELETE: return remove_key(g, w, no, c, err);
    default: return change_ns(w, no, c, err);
    }
}

static sv_rc run_sql(sv_dbw *w, const char *sql, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    return sv_stmt_prep(&q, w, sql, err) == SV_OK ? sv_stmt_run(&q, err) : err->code;
}

static bool is_refusal(sv_rc rc, const sv_err *err) { return rc == SV_ENOENT || rc == SV_ECONFLICT || (rc == SV_ELIMIT && err->api_code); }

/* One write in a savepoint of its own: what it may not do undoes it and nobody else. Anything worse ends the group. */
static sv_rc apply_write(group *g, sv_dbw *w, sv_kvs_write *one, sv_err *err)
{
    size_t n_old = g->n_old;
    one->rc = SV_OK;
    if (one->n > 1 && run_sql(w, "SAVEPOINT one", err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < one->n && one->rc == SV_OK; i++)
        one->rc = apply_change(g, w, one->account, &one->v[i], &one->err);
    if (one->rc != SV_OK) {
        g->n_old = n_old;
        if (!is_refusal(one->rc, &one->err)) {
            *err = one->err;
            return err->code;
        }
        if (one->n > 1 && run_sql(w, "ROLLBACK TO one", err) != SV_OK)
            return err->code;
    }
    return one->n > 1 ? run_sql(w, "RELEASE one", err) : SV_OK;
}

static sv_rc apply_group(sv_dbw *w, void *arg, sv_err *err)
{
    group *g = arg;
    g->n_old = 0;
    for (size_t i = 0; i < g->n; i++)
        if (apply_write(g, w, g->v[i], err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* ---- the writer ---- */

static void finish_write(sv_kvs *kv, sv_kvs_write *w)
{
    for (size_t i = 0; w->rc != SV_OK && i < w->n; i++)
        if (w->v[i].file[0])
            remove_file(kv, w->v[i].file);
    w->done(w); /* w is gone */
}

static void commit_group(sv_kvs *kv, group *g)
{
    sv_err err = {0};
    sv_kv_hot_writing(kv->hot, g->v, g->n);
    sv_rc rc = sv_db_write(kv->db, apply_group, g, &err);
    sv_kv_hot_written(kv->hot, g->v, g->n);
    if (rc != SV_OK && g->n > 1) { /* each for itself: a full disk may still have room for the small ones */
        free(g->old);
        for (size_t i = 0; i < g->n; i++) {
            group one = {.v = {g->v[i]}, .n = 1};
            commit_group(kv, &one);
        }
        return;
    }
    for (size_t i = 0; rc != SV_OK && i < g->n; i++) {
        g->v[i]->rc = rc;
        g->v[i]->err = err;
    }
    for (size_t i = 0; rc == SV_OK && i < g->n_old; i++)
        remove_file(kv, g->old[i]); /* inv. 2 */
    free(g->old);
    for (size_t i = 0; i < g->n; i++)
        finish_write(kv, g->v[i]);
}

/* Waits for writes and takes what is there. false: stopping, and nothing is left. */
static bool take_group(sv_kvs *kv, group *g)
{
    pthread_mutex_lock(&kv->lock);
    while (!kv->first && !kv->stopping)
        pthread_cond_wait(&kv->more, &kv->lock);
    g->n = 0;
    while (kv->first && g->n < MAX_GROUP) {
        g->v[g->n++] = kv->first;
        kv->first = kv->first->next;
    }
    if (!kv->first)
        kv->last = &kv->first;
    pthread_mutex_unlock(&kv->lock);
    return g->n > 0;
}

static void *write_all(void *arg)
{
    sv_kvs *kv = arg;
    for (;;) {
        group g = {.n = 0};
        if (!take_group(kv, &g))
            return NULL;
        commit_group(kv, &g);
    }
}

void sv_kvs_submit(sv_kvs *kv, sv_kvs_write *w)
{
    w->next = NULL;
    w->rc = SV_OK;
    pthread_mutex_lock(&kv->lock);
    SV_ASSERT(!kv->stopping);
    *kv->last = w;
    kv->last = &w->next;
    pthread_cond_signal(&kv->more);
    pthread_mutex_unlock(&kv->lock);
}

typedef struct waiter { pthread_mutex_t lock; pthread_cond_t cond; bool done; } waiter;

static void wake(sv_kvs_write *w)
{
    waiter *t = w->arg;
    pthread_mutex_lock(&t->lock);
    t->done = true;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(&t->lock);
}

sv_rc sv_kvs_apply(sv_kvs *kv, sv_str account, sv_kvs_change *v, size_t n, sv_err *err)
{
    waiter t = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    sv_kvs_write w = {.account = account, .v = v, .n = n, .done = wake, .arg = &t};
    sv_kvs_submit(kv, &w);
    pthread_mutex_lock(&t.lock);
    while (!t.done)
        pthread_cond_wait(&t.cond, &t.lock);
    pthread_mutex_unlock(&t.lock);
    pthread_mutex_destroy(&t.lock);
    pthread_cond_destroy(&t.cond);
    if (w.rc != SV_OK)
        *err = w.err;
    return w.rc;
}

/* ---- reading ---- */

void sv_kvs_value_done(sv_kvs_value *v)
{
    if (v->fd >= 0)
        close(v->fd);
    free(v->bytes);
    free(v->metadata);
    sv_kvs_value_init(v);
}

typedef struct get_arg { int64_t ns; sv_str key; sv_kvs_value v; char file[N_NAME]; } get_arg;

static sv_rc read_entry(sv_dbw *r, void *arg, sv_err *err)
{
    get_arg *g = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT expires, metadata, n, file, value FROM entries WHERE ns = ?1 AND key = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, g->ns);
    sv_bind_blob(&q, 2, g->key.p, g->key.n);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row || (!sv_col_null(&q, 0) && sv_col_i64(&q, 0) <= now_s())) /* inv. 4 */
        return sv_fail_api(err, SV_ENOENT, 10009, "key not found");
    g->v.expires_s = sv_col_i64(&q, 0);
    g->v.n = sv_col_i64(&q, 2);
    sv_str metadata = sv_col_str(&q, 1), file = sv_col_str(&q, 3), value = sv_col_str(&q, 4);
    if (file.n == N_NAME - 1)
        memcpy(g->file, file.p, file.n);
    else if (!(g->v.bytes = sv_try_calloc(1, value.n + 1)))
        return sv_fail(err, SV_ENOMEM, "no memory for a value of %zu bytes", value.n);
    else if (value.n)
        memcpy(g->v.bytes, value.p, value.n);
    if (metadata.n)
        g->v.metadata = sv_xstrndup(metadata.p, metadata.n);
    return SV_OK;
}

sv_rc sv_kvs_get(sv_kvs *kv, const sv_kvs_ns *ns, sv_str key, sv_kvs_value *out, sv_err *err)
{
    char path[600];
    for (int attempt = 0;; attempt++) {
        get_arg g = {.ns = ns->no, .key = key, .v = {.fd = -1}};
        sv_kv_pass pass = sv_kv_hot_before(kv->hot, sv_str_of(ns->account), sv_str_of(ns->id), key);
        if (sv_db_read(kv->db, read_entry, &g, err) != SV_OK) {
            sv_kvs_value_done(&g.v);
            return err->code;
        }
        if (g.file[0]) {
            file_path(kv, g.file, path);
            g.v.fd = open(path, O_RDONLY | O_CLOEXEC);
        }
        if (!g.file[0] || g.v.fd >= 0) {
            sv_kv_hot_keep(kv->hot, pass, sv_str_of(ns->account), sv_str_of(ns->id), key, &g.v);
            *out = g.v;
            return SV_OK;
        }
        int e = errno;
        sv_kvs_value_done(&g.v);
        if (e != ENOENT || attempt == 10) { /* it was not replaced meanwhile: it is lost */
            errno = e;
            sv_fail_errno(err, "value file '%s'", g.file);
            err->code = SV_EIO;
            return SV_EIO;
        }
    }
}

bool sv_kvs_get_hot(sv_kvs *kv, sv_str account, sv_str ns_id, sv_str key, sv_kvs_value *out)
{
    return sv_kv_hot_get(kv->hot, account, ns_id, key, now_s(), out);
}

sv_rc sv_kvs_value_read(const sv_kvs_value *v, sv_buf *out, sv_err *err)
{
    if (v->fd < 0)
        return sv_buf_add(out, v->bytes, (size_t)v->n) ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for a value");
    char *to = sv_buf_room(out, (size_t)v->n);
    if (!to)
        return sv_fail(err, SV_ENOMEM, "no memory for a value of %lld bytes", (long long)v->n);
    for (int64_t at = 0; at < v->n;) {
        ssize_t got = pread(v->fd, to + at, (size_t)(v->n - at), at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? sv_fail_errno(err, "read a value") : sv_fail(err, SV_EIO, "a value's file is shorter than it was written");
        at += got;
    }
    out->n += (size_t)v->n;
    out->p[out->n] = 0;
    return SV_OK;
}

/* ---- listing ---- */

static uint64_t cursor_sum(const sv_kvs_ns *ns, sv_str key) { return sv_hash64(key.p, key.n, sv_hash64(ns->id, strlen(ns->id), 0x6b76)); }

static void make_cursor(const sv_kvs_ns *ns, sv_str key, sv_buf *out)
{
    char raw[8 + SV_KVS_MAX_KEY];
    uint64_t sum = cursor_sum(ns, key);
    memcpy(raw, &sum, 8);
    memcpy(raw + 8, key.p, key.n);
    sv_base64url_encode(out, raw, 8 + key.n);
}

/* The first key that may come: after the cursor's, and not before the prefix. */
static sv_rc first_key(const sv_kvs_ns *ns, sv_str prefix, sv_str cursor, sv_buf *from, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf raw;
    sv_err why = {0};
    uint64_t sum = 0;
    sv_buf_init(&raw, 8 + SV_KVS_MAX_KEY + 8);
    sv_buf_add(from, prefix.p, prefix.n);
    if (cursor.n == 0)
        return SV_OK;
    bool good = sv_base64_decode(&raw, cursor, &why) == SV_OK && raw.n > 8 && raw.n <= 8 + SV_KVS_MAX_KEY;
    sv_str key = {good ? raw.p + 8 : "", good ? raw.n - 8 : 0};
    if (good)
        memcpy(&sum, raw.p, 8);
    if (!good || sum != cursor_sum(ns, key))
        return sv_fail_api(err, SV_EINVAL, 10012, "Invalid cursor: it is none of this namespace");
    size_t both = key.n < prefix.n ? key.n : prefix.n;
    int order = memcmp(key.p, prefix.p, both);
    if (order > 0 || (order == 0 && key.n >= prefix.n)) {
        sv_buf_reset(from);
        sv_buf_add(from, key.p, key.n);
        sv_buf_addc(from, 0); /* the next key there can be */
    }
    return SV_OK;
}

/* The first key that starts with no such prefix any more. */
static void end_key(sv_str prefix, sv_buf *to)
{
    while (prefix.n && (unsigned char)prefix.p[prefix.n - 1] == 0xff)
        prefix.n--;
    if (prefix.n == 0) { /* behind every key */
        memset(sv_buf_room(to, SV_KVS_MAX_KEY + 1), 0xff, SV_KVS_MAX_KEY + 1);
        to->n = SV_KVS_MAX_KEY + 1;
        return;
    }
    sv_buf_add(to, prefix.p, prefix.n);
    to->p[to->n - 1] = (char)((unsigned char)to->p[to->n - 1] + 1);
}

typedef struct list_arg {
    const sv_kvs_ns *ns;
    sv_str from, to;
    int64_t limit;
    void (*each)(void *arg, const sv_kvs_entry *e);
    void *arg;
    sv_buf *next;
} list_arg;

static sv_rc read_list(sv_dbw *r, void *arg, sv_err *err)
{
    list_arg *a = arg;
    char last[SV_KVS_MAX_KEY];
    size_t n_last = 0;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r,
                     "SELECT key, expires, metadata FROM entries WHERE ns = ?1 AND key >= ?2 AND key < ?3 AND (expires IS NULL OR expires > ?4) "
                     "ORDER BY key LIMIT ?5",
                     err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->ns->no);
    sv_bind_blob(&q, 2, a->from.p, a->from.n);
    sv_bind_blob(&q, 3, a->to.p, a->to.n);
    sv_bind_i64(&q, 4, now_s());
    sv_bind_i64(&q, 5, a->limit + 1);
    for (int64_t i = 0; i <= a->limit; i++) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        if (i == a->limit) {
            make_cursor(a->ns, (sv_str){last, n_last}, a->next);
            break;
        }
        sv_kvs_entry e = {.name = sv_col_str(&q, 0), .expires_s = sv_col_i64(&q, 1), .metadata = sv_col_str(&q, 2)};
        n_last = e.name.n < sizeof last ? e.name.n : sizeof last;
        memcpy(last, e.name.p, n_last);
        a->each(a->arg, &e);
    }
    return SV_OK;
}

sv_rc sv_kvs_list(sv_kvs *kv, const sv_kvs_ns *ns, sv_str prefix, sv_str cursor, int64_t limit, void (*each)(void *arg, const sv_kvs_entry *e), void *arg,
                 sv_buf *next, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf from, to;
    sv_buf_init(&from, 4096);
    sv_buf_init(&to, 4096);
    if (prefix.n > SV_KVS_MAX_KEY)
        return sv_fail_api(err, SV_EINVAL, 10030, "UTF-8 encoded length of %zu exceeds key length limit of %d.", prefix.n, SV_KVS_MAX_KEY);
    if (first_key(ns, prefix, cursor, &from, err) != SV_OK)
        return err->code;
    end_key(prefix, &to);
    list_arg a = {.ns = ns, .from = sv_buf_str(&from), .to = sv_buf_str(&to), .limit = limit, .each = each, .arg = arg, .next = next};
    return sv_db_read(kv->db, read_list, &a, err);
}

/* ---- sweeping ---- */

typedef struct sweep_arg { group g; bool more; } sweep_arg;

/* Deletes what `sql` selects (id, file), with ?1 now and ?2 how many. */
static sv_rc sweep_rows(sweep_arg *s, sv_dbw *w, const char *sql, sv_err *err)
{
    int64_t ids[SWEEP_ROWS];
    size_t n = 0;
    bool row = true;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, now_s());
        sv_bind_i64(&q, 2, SWEEP_ROWS);
        while (n < SWEEP_ROWS) {
            if (sv_stmt_step(&q, &row, err) != SV_OK)
                return err->code;
            if (!row)
                break;
            ids[n++] = sv_col_i64(&q, 0);
            add_old(&s->g, sv_col_str(&q, 1));
        }
    }
    for (size_t i = 0; i < n; i++)
        if (remove_row(w, ids[i], err) != SV_OK)
            return err->code;
    s->more |= n == SWEEP_ROWS;
    return SV_OK;
}

static sv_rc sweep_some(sv_dbw *w, void *arg, sv_err *err)
{
    sweep_arg *s = arg;
    s->g.n_old = 0;
    s->more = false;
    if (sweep_rows(s, w, "SELECT id, file FROM entries WHERE expires IS NOT NULL AND expires <= ?1 LIMIT ?2", err) != SV_OK ||
        sweep_rows(s, w, "SELECT id, file FROM entries WHERE ?1 > 0 AND ns IN (SELECT no FROM namespaces WHERE gone = 1) LIMIT ?2", err) != SV_OK)
        return err->code;
    return s->more ? SV_OK : run_sql(w, "DELETE FROM namespaces WHERE gone = 1", err);
}

/* A sweep of nothing would be a sync for nothing. */
static sv_rc anything_to_sweep(sv_dbw *r, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r,
                     "SELECT 1 FROM entries WHERE expires IS NOT NULL AND expires <= ?1 UNION ALL SELECT 1 FROM namespaces WHERE gone = 1 LIMIT 1",
                     err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, now_s());
    return sv_stmt_step(&q, arg, err);
}

sv_rc sv_kvs_sweep(sv_kvs *kv, sv_err *err)
{
    bool any = false;
    sv_rc rc = sv_db_read(kv->db, anything_to_sweep, &any, err);
    for (sweep_arg s = {.more = any}; rc == SV_OK && s.more;) {
        rc = sv_db_write(kv->db, sweep_some, &s, err);
        for (size_t i = 0; rc == SV_OK && i < s.g.n_old; i++)
            remove_file(kv, s.g.old[i]);
        free(s.g.old);
        s.g = (group){.n = 0};
    }
    return rc;
}

static void sweep_now(void *arg)
{
    sv_err err = {0};
    if (sv_kvs_sweep(arg, &err) != SV_OK)
        sv_log(SV_WARN, "kv.sweep", "error='%s' again_in_s=%d", err.msg, SWEEP_S);
}

/* ---- life ---- */

typedef struct orphan_arg { sv_kvs *kv; DIR *dir; int64_t n; } orphan_arg;

/* Removes files that no row names: the ends of uploads that a crash cut. */
static sv_rc remove_orphans(sv_dbw *r, void *arg, sv_err *err)
{
    orphan_arg *o = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM entries WHERE file = ?1", err) != SV_OK)
        return err->code;
    for (struct dirent *e; (e = readdir(o->dir));) {
        bool row = true;
        if (!is_file_name(e->d_name))
            continue;
        sv_bind_cstr(&q, 1, e->d_name);
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        sv_stmt_reset(&q);
        if (!row) {
            remove_file(o->kv, e->d_name);
            o->n++;
        }
    }
    return SV_OK;
}

static sv_rc open_folder(sv_kvs *kv, const char *data_dir, sv_err *err)
{
    char path[600];
    if (snprintf(path, sizeof path, "%s/kv/big", data_dir) > 500)
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    kv->folder = sv_xstrdup(path);
    if (sv_mkdir_p(path, 0700, err) != SV_OK)
        return err->code;
    snprintf(path, sizeof path, "%s/kv/kv.db", data_dir);
    return sv_db_open(&kv->db, path, migrations, SV_LEN(migrations), err);
}

static sv_rc sweep_folder(sv_kvs *kv, sv_err *err)
{
    orphan_arg o = {.kv = kv, .dir = opendir(kv->folder)};
    if (!o.dir)
        return sv_fail_errno(err, "read '%s'", kv->folder);
    sv_rc rc = sv_db_read(kv->db, remove_orphans, &o, err);
    closedir(o.dir);
    if (o.n)
        sv_log(SV_INFO, "kv.orphans", "files=%lld removed=1", (long long)o.n);
    return rc;
}

sv_rc sv_kvs_open(sv_kvs **out, const char *data_dir, sv_err *err)
{
    sv_kvs *kv = sv_xnew0(sv_kvs);
    kv->last = &kv->first;
    kv->hot = sv_kv_hot_new(HOT_BYTES);
    pthread_mutex_init(&kv->lock, NULL);
    pthread_cond_init(&kv->more, NULL);
    if (open_folder(kv, data_dir, err) != SV_OK || sweep_folder(kv, err) != SV_OK) {
        sv_kvs_close(kv);
        return err->code;
    }
    kv->writer = sv_thread_start("kv-writer", write_all, kv);
    kv->sweeper = sv_ticker_new("kv-sweeper", SWEEP_S * 1000, sweep_now, kv);
    kv->started = true;
    *out = kv;
    return SV_OK;
}

sv_kvs *sv_kvs_close(sv_kvs *kv)
{
    if (!kv)
        return NULL;
    sv_ticker_free(kv->sweeper);
    if (kv->started) {
        pthread_mutex_lock(&kv->lock);
        kv->stopping = true;
        pthread_cond_broadcast(&kv->more);
        pthread_mutex_unlock(&kv->lock);
        pthread_join(kv->writer, NULL);
    }
    sv_db_close(kv->db);
    sv_kv_hot_free(kv->hot);
    pthread_cond_destroy(&kv->more);
    pthread_mutex_destroy(&kv->lock);
    free(kv->folder);
    free(kv);
    return NULL;
}

static sv_rc read_stats(sv_dbw *r, void *arg, sv_err *err)
{
    sv_kvs_stats *s = arg;
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT count(*), count(*) FILTER (WHERE expires <= ?1), count(file) FROM entries", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, now_s());
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *s = (sv_kvs_stats){sv_col_i64(&q, 0), sv_col_i64(&q, 1), sv_col_i64(&q, 2)};
    return SV_OK;
}

sv_rc sv_kvs_get_stats(sv_kvs *kv, sv_kvs_stats *out, sv_err *err) { return sv_db_read(kv->db, read_stats, out, err); }
