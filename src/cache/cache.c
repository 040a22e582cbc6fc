/* cache.c - rows in SQLite, large bodies as the files they came in
 *
 * A message over SV_CACHE_INLINE arrived in a file already; the file is kept, head and all, and its row says where the body begins. So nothing
 * is copied, and a put costs what the client sent. Files are synced before their rows: after a power cut an entry is whole or absent.
 *
 * Room is counted in a row of its own, changed in the transaction that changes the entries, so that no crash makes it wrong. A put that
 * passes the budget takes out the least recently used until it fits. Use is noted at most once a minute for an entry, and by the sweeper
 * in portions: a hit never waits for a write.
 *
 * Invariants:
 *   1. total.bytes is the sum of entries.room.
 *   2. A file belongs to one row, and is removed only after the commit that took it away.
 *   3. Nothing is given out at or after fresh_until. */
#include "cache/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "cache/freshness.h"
#include "db/db.h"

enum { N_NAME = 33, ROW_BYTES = 256, SWEEP_S = 5, SWEEP_ROWS = 500, N_TOUCHED = 1024, TOUCH_EVERY_MS = 60000 };

static const char *const migrations[] = {
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, status INTEGER NOT NULL, head BLOB NOT NULL, stored_ms INTEGER NOT NULL,"
    " age_s INTEGER NOT NULL, fresh_until_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL, room INTEGER NOT NULL, length INTEGER NOT NULL, file TEXT, at INTEGER NOT NULL,"
    " body BLOB);"
    "CREATE INDEX entries_used ON entries (used_ms);"
    "CREATE INDEX entries_fresh ON entries (fresh_until_ms);"
    "CREATE UNIQUE INDEX entries_file ON entries (file) WHERE file IS NOT NULL;"
    "CREATE TABLE total (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL); INSERT INTO total VALUES (1, 0);",
};

struct sv_cache {
    sv_db *db;
    char *folder;
    int64_t max_bytes, max_entry;
    pthread_mutex_t lock; /* guards what follows; nothing is called while it is held */
    int64_t touched[N_TOUCHED]; /* ids used since the last sweep */
    size_t n_touched;
    sv_ticker *sweeper;
};

/* ---- keys and files ---- */

sv_cache_key sv_cache_key_of(sv_str account, sv_str worker, sv_str cache, sv_str url)
{
    const sv_str parts[] = {account, worker, cache, url};
    uint8_t sums[4][32];
    sv_cache_key k;
    for (size_t i = 0; i < 4; i++) /* each apart, so that no two sets of parts run into the same bytes */
        sv_sha256(sums[i], parts[i].p ? parts[i].p : "", parts[i].n);
    sv_sha256(k.b, sums, sizeof sums);
    return k;
}

const char *sv_cache_folder(const sv_cache *c) { return c->folder; }

static void file_path(const sv_cache *c, const char *name, char out[600]) { snprintf(out, 600, "%s/%s", c->folder, name); }

static void remove_file(const sv_cache *c, const char *name)
{
    char path[600];
    file_path(c, name, path);
    if (unlink(path) < 0 && errno != ENOENT)
        sv_log(SV_WARN, "cache.file", "file=%s errno=%d left='until the next start'", name, errno);
}

/* ---- inside a write ---- */

/* Files whose rows a write took away. Emptied when it begins, since it may run twice. */
typedef struct gone { char (*v)[N_NAME]; size_t n, cap; } gone;

static void gone_add(gone *g, sv_str name)
{
    if (name.n != N_NAME - 1)
        return;
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 16;
        g->v = sv_xrealloc(g->v, g->cap, sizeof *g->v);
    }
    memcpy(g->v[g->n], name.p, N_NAME - 1);
    g->v[g->n++][N_NAME - 1] = 0;
}

static void gone_finish(const sv_cache *c, gone *g, sv_rc rc)
{
    for (size_t i = 0; rc == SV_OK && i < g->n; i++) /* inv. 2 */
        remove_file(c, g->v[i]);
    free(g->v);
}

static sv_rc add_total(sv_dbw *w, int64_t bytes, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE total SET bytes = bytes + ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bytes);
    return sv_stmt_run(&q, err);
}

typedef struct victim { int64_t id, room; char file[N_NAME]; } victim; /* file "": none */

static victim victim_of(sv_stmt *q) /* id, room, file, ... */
{
    victim v = {.id = sv_col_i64(q, 0), .room = sv_col_i64(q, 1)};
    sv_str file = sv_col_str(q, 2);
    if (file.n == N_NAME - 1)
        memcpy(v.file, file.p, file.n);
    return v;
}

static sv_rc remove_row(sv_dbw *w, const victim *v, gone *g, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM entries WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, v->id);
    gone_add(g, sv_str_of(v->file));
    return sv_stmt_run(&q, err) == SV_OK ? add_total(w, -v->room, err) : err->code;
}

static sv_rc take_victims(sv_stmt *q, victim *v, size_t most, size_t *n, sv_err *err)
{
    bool row = true;
    for (*n = 0; *n < most; v[(*n)++] = victim_of(q)) {
        if (sv_stmt_step(q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
    }
    return SV_OK;
}

/* *fresh: there was one, and it could still have been given out. */
static sv_rc remove_key(sv_dbw *w, const sv_cache_key *key, gone *g, bool *fresh, sv_err *err)
{
    victim v;
    bool found = false;
    *fresh = false;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "SELECT id, room, file, fresh_until_ms FROM entries WHERE key = ?1", err) != SV_OK)
            return err->code;
        sv_bind_blob(&q, 1, key->b, sizeof key->b);
        if (sv_stmt_step(&q, &found, err) != SV_OK)
            return err->code;
        if (!found)
            return SV_OK;
        v = victim_of(&q);
        *fresh = sv_col_i64(&q, 3) > sv_now_ms();
    }
    return remove_row(w, &v, g, err);
}

/* ---- put ---- */

typedef struct put_arg {
    const sv_cache *c;
    const sv_cache_key *key;
    sv_cacheable r;
    sv_str head, body; /* body.p NULL: in the file */
    char file[N_NAME];
    int64_t length, room, now_ms;
    gone old;
} put_arg;

static sv_rc total_of(sv_dbw *w, int64_t *bytes, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT bytes FROM total", err) != SV_OK || sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *bytes = sv_col_i64(&q, 0);
    return SV_OK;
}

static sv_rc oldest(sv_dbw *w, victim v[16], size_t *n, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT id, room, file FROM entries ORDER BY used_ms LIMIT 16", err) != SV_OK)
        return err->code;
    return take_victims(&q, v, 16, n, err);
}

/* The least recently used go until there is room. */
static sv_rc make_room(sv_dbw *w, const sv_cache *c, int64_t room, gone *g, sv_err *err)
{
    int64_t bytes = 0;
    victim v[16];
    size_t n = 1;
    if (total_of(w, &bytes, err) != SV_OK)
        return err->code;
    while (bytes + room > c->max_bytes && n > 0) {
        if (oldest(w, v, &n, err) != SV_OK)
            return err->code;
        for (size_t i = 0; i < n && bytes + room > c->max_bytes; i++) {
            if (remove_row(w, &v[i], g, err) != SV_OK)
                return err->code;
            bytes -= v[i].room;
        }
    }
    return SV_OK;
}

static sv_rc insert(sv_dbw *w, const put_arg *p, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w,
                     "INSERT INTO entries (key, status, head, stored_ms, age_s, fresh_until_ms, used_ms, room, length, file, at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, "
                     "?4, ?7, ?8, ?9, ?10, ?11)",
                     err) != SV_OK)
        return err->code;
    sv_bind_blob(&q, 1, p->key->b, sizeof p->key->b);
    sv_bind_i64(&q, 2, p->r.status);
    sv_bind_blob(&q, 3, p->head.p, p->head.n);
    sv_bind_i64(&q, 4, p->now_ms);
    sv_bind_i64(&q, 5, p->r.age_s);
    sv_bind_i64(&q, 6, p->now_ms + p->r.fresh_s * 1000);
    sv_bind_i64(&q, 7, p->room);
    sv_bind_i64(&q, 8, p->length);
    sv_bind_i64(&q, 10, (int64_t)p->r.body_at);
    if (p->file[0]) {
        sv_bind_cstr(&q, 9, p->file);
        sv_bind_null(&q, 11);
    } else {
        sv_bind_null(&q, 9);
        sv_bind_blob(&q, 11, p->body.n ? p->body.p : "", p->body.n);
    }
    return sv_stmt_run(&q, err) == SV_OK ? add_total(w, p->room, err) : err->code;
}

static sv_rc put(sv_dbw *w, void *arg, sv_err *err)
{
    put_arg *p = arg;
    bool fresh;
    p->old.n = 0;
    if (remove_key(w, p->key, &p->old, &fresh, err) != SV_OK)
        return err->code;
    if (p->r.fresh_s <= 0)
        return SV_OK;
    return make_room(w, p->c, p->room, &p->old, err) == SV_OK ? insert(w, p, err) : err->code;
}

/* What the message is, and whether it may be stored. */
static sv_rc look_at(sv_cache *c, put_arg *p, sv_buf *head, sv_str message, const char *path, bool authorized, sv_err *err)
{
    if (sv_cacheable_parse(&p->r, head, message, authorized, p->now_ms / 1000, err) != SV_OK)
        return err->code;
    p->head = sv_buf_str(head);
    p->length = (int64_t)(message.n - p->r.body_at);
    if (p->r.length >= 0 && p->r.length != p->length)
        return sv_fail(err, SV_EFORMAT, "the response says %lld bytes and has %lld", (long long)p->r.length, (long long)p->length);
    if (!p->r.storable)
        return sv_fail(err, SV_EINVAL, "Cache storage failed");
    p->room = (int64_t)head->n + p->length + ROW_BYTES;
    if (p->room > c->max_entry)
        return sv_fail(err, SV_ELIMIT, "a response of %lld bytes is over the cache's limit of %lld", (long long)p->room, (long long)c->max_entry);
    if (!path[0]) {
        p->body = (sv_str){message.p + p->r.body_at, (size_t)p->length};
        return SV_OK;
    }
    if (p->r.fresh_s <= 0)
        return SV_OK;
    snprintf(p->file, sizeof p->file, "%s", strrchr(path, '/') + 1);
    return sv_sync(path, err) == SV_OK ? sv_sync(c->folder, err) : err->code;
}

sv_rc sv_cache_put(sv_cache *c, const sv_cache_key *key, sv_str message, const char *path, bool authorized, sv_err *err)
{
    put_arg p = {.c = c, .key = key, .now_ms = sv_now_ms()};
    SV_AUTO(sv_buf_donep) sv_buf head;
    sv_buf_init(&head, 2 * SV_CACHE_MAX_HEAD);
    sv_rc rc = look_at(c, &p, &head, message, path, authorized, err);
    if (rc == SV_OK)
        rc = sv_db_write(c->db, put, &p, err);
    gone_finish(c, &p.old, rc);
    if (path[0] && (rc != SV_OK || !p.file[0]))
        remove_file(c, strrchr(path, '/') + 1);
    return rc;
}

/* ---- match and delete ---- */

void sv_cache_hit_done(sv_cache_hit *h)
{
    if (h->fd >= 0)
        close(h->fd);
    free(h->head);
    free(h->bytes);
    *h = (sv_cache_hit){.fd = -1};
}

typedef struct match_arg { const sv_cache_key *key; sv_cache_hit hit; char file[N_NAME]; int64_t id, used_ms, now_ms; } match_arg;

static sv_rc read_hit(sv_dbw *r, void *arg, sv_err *err)
{
    match_arg *m = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, status, head, stored_ms, age_s, used_ms, length, file, at, body FROM entries WHERE key = ?1 AND fresh_until_ms > ?2", err) != SV_OK)
        return err->code;
    sv_bind_blob(&q, 1, m->key->b, sizeof m->key->b);
    sv_bind_i64(&q, 2, m->now_ms); /* inv. 3 */
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail(err, SV_ENOENT, "Asset not found in cache");
    sv_str head = sv_col_str(&q, 2), file = sv_col_str(&q, 7), body = sv_col_str(&q, 9);
    int64_t resident_ms = m->now_ms - sv_col_i64(&q, 3);
    m->id = sv_col_i64(&q, 0);
    m->used_ms = sv_col_i64(&q, 5);
    m->hit.status = (int)sv_col_i64(&q, 1);
    m->hit.age_s = sv_col_i64(&q, 4) + (resident_ms > 0 ? resident_ms / 1000 : 0);
    m->hit.length = sv_col_i64(&q, 6);
    m->hit.head = sv_xstrndup(head.p ? head.p : "", head.n);
    if (file.n == N_NAME - 1) {
        memcpy(m->file, file.p, file.n);
        m->hit.at = sv_col_i64(&q, 8);
    } else {
        m->hit.bytes = sv_xstrndup(body.p ? body.p : "", body.n);
    }
    return SV_OK;
}

static void touch(sv_cache *c, int64_t id)
{
    pthread_mutex_lock(&c->lock);
    if (c->n_touched < N_TOUCHED)
        c->touched[c->n_touched++] = id;
    pthread_mutex_unlock(&c->lock);
}

sv_rc sv_cache_match(sv_cache *c, const sv_cache_key *key, sv_cache_hit *out, sv_err *err)
{
    char path[600];
    match_arg m = {.key = key, .hit = {.fd = -1}, .now_ms = sv_now_ms()};
    sv_rc rc = sv_db_read(c->db, read_hit, &m, err);
    if (rc == SV_OK && m.file[0]) {
        file_path(c, m.file, path);
        m.hit.fd = open(path, O_RDONLY | O_CLOEXEC);
        if (m.hit.fd < 0) /* it was replaced this moment, or is lost: no hit either way */
            rc = sv_fail(err, SV_ENOENT, "Asset not found in cache");
    }
    if (rc != SV_OK) {
        sv_cache_hit_done(&m.hit);
        return rc;
    }
    if (m.now_ms - m.used_ms > TOUCH_EVERY_MS)
        touch(c, m.id);
    *out = m.hit;
    return SV_OK;
}

typedef struct delete_arg { const sv_cache_key *key; gone old; bool fresh; } delete_arg;

static sv_rc delete(sv_dbw *w, void *arg, sv_err *err)
{
    delete_arg *d = arg;
    d->old.n = 0;
    return remove_key(w, d->key, &d->old, &d->fresh, err);
}

sv_rc sv_cache_delete(sv_cache *c, const sv_cache_key *key, sv_err *err)
{
    delete_arg d = {.key = key};
    sv_rc rc = sv_db_write(c->db, delete, &d, err);
    gone_finish(c, &d.old, rc);
    if (rc == SV_OK && !d.fresh)
        return sv_fail(err, SV_ENOENT, "Couldn't find asset to purge");
    return rc;
}

/* ---- sweeping ---- */

typedef struct sweep_arg { gone old; bool more; int64_t ids[N_TOUCHED]; size_t n_ids; } sweep_arg;

static sv_rc note_use(sv_dbw *w, const sweep_arg *s, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE entries SET used_ms = ?2 WHERE id = ?1", err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < s->n_ids; i++, sv_stmt_reset(&q)) {
        sv_bind_i64(&q, 1, s->ids[i]);
        sv_bind_i64(&q, 2, sv_now_ms());
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc sweep(sv_dbw *w, void *arg, sv_err *err)
{
    sweep_arg *s = arg;
    victim v[SWEEP_ROWS];
    size_t n = 0;
    s->old.n = 0;
    if (note_use(w, s, err) != SV_OK)
        return err->code;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "SELECT id, room, file FROM entries WHERE fresh_until_ms <= ?1 LIMIT 500", err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, sv_now_ms());
        if (take_victims(&q, v, SWEEP_ROWS, &n, err) != SV_OK)
            return err->code;
    }
    for (size_t i = 0; i < n; i++)
        if (remove_row(w, &v[i], &s->old, err) != SV_OK)
            return err->code;
    s->more = n == SWEEP_ROWS;
    return SV_OK;
}

static sv_rc any_stale(sv_dbw *r, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM entries WHERE fresh_until_ms <= ?1 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, sv_now_ms());
    return sv_stmt_step(&q, arg, err);
}

sv_rc sv_cache_sweep(sv_cache *c, sv_err *err)
{
    SV_AUTO(sv_freep) sweep_arg *s = sv_xnew0(sweep_arg);
    bool stale = false;
    pthread_mutex_lock(&c->lock);
    memcpy(s->ids, c->touched, c->n_touched * sizeof *s->ids);
    s->n_ids = c->n_touched;
    c->n_touched = 0;
    pthread_mutex_unlock(&c->lock);
    sv_rc rc = sv_db_read(c->db, any_stale, &stale, err);
    for (s->more = stale || s->n_ids; rc == SV_OK && s->more; s->n_ids = 0) {
        rc = sv_db_write(c->db, sweep, s, err);
        gone_finish(c, &s->old, rc);
        s->old = (gone){0};
    }
    return rc;
}

static void sweep_now(void *arg)
{
    sv_err err = {0};
    if (sv_cache_sweep(arg, &err) != SV_OK)
        sv_log(SV_WARN, "cache.sweep", "error='%s' again_in_s=%d", err.msg, SWEEP_S);
}

/* ---- life ---- */

typedef struct orphan_arg { sv_cache *c; DIR *dir; } orphan_arg;

static sv_rc remove_orphans(sv_dbw *r, void *arg, sv_err *err)
{
    orphan_arg *o = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM entries WHERE file = ?1", err) != SV_OK)
        return err->code;
    for (struct dirent *e; (e = readdir(o->dir));) {
        bool row = true;
        if (strlen(e->d_name) != N_NAME - 1 || strspn(e->d_name, "0123456789abcdef") != N_NAME - 1)
            continue;
        sv_bind_cstr(&q, 1, e->d_name);
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        sv_stmt_reset(&q);
        if (!row)
            remove_file(o->c, e->d_name);
    }
    return SV_OK;
}

static sv_rc open_folder(sv_cache *c, const char *data_dir, sv_err *err)
{
    char path[600];
    if (snprintf(path, sizeof path, "%s/cache/big", data_dir) > 500)
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    c->folder = sv_xstrdup(path);
    if (sv_mkdir_p(path, 0700, err) != SV_OK)
        return err->code;
    snprintf(path, sizeof path, "%s/cache/cache.db", data_dir);
    if (sv_db_open(&c->db, path, migrations, SV_LEN(migrations), err) != SV_OK)
        return err->code;
    orphan_arg o = {.c = c, .dir = opendir(c->folder)};
    if (!o.dir)
        return sv_fail_errno(err, "read '%s'", c->folder);
    sv_rc rc = sv_db_read(c->db, remove_orphans, &o, err);
    closedir(o.dir);
    return rc;
}

sv_rc sv_cache_open(sv_cache **out, const char *data_dir, int64_t max_bytes, int64_t max_entry, sv_err *err)
{
    sv_cache *c = sv_xnew0(sv_cache);
    c->max_bytes = max_bytes;
    c->max_entry = max_entry;
    pthread_mutex_init(&c->lock, NULL);
    if (open_folder(c, data_dir, err) != SV_OK) {
        sv_cache_close(c);
        return err->code;
    }
    c->sweeper = sv_ticker_new("cache-sweeper", SWEEP_S * 1000, sweep_now, c);
    *out = c;
    return SV_OK;
}

sv_cache *sv_cache_close(sv_cache *c)
{
    if (!c)
        return NULL;
    sv_ticker_free(c->sweeper);
    sv_db_close(c->db);
    pthread_mutex_destroy(&c->lock);
    free(c->folder);
    free(c);
    return NULL;
}

static sv_rc read_stats(sv_dbw *r, void *arg, sv_err *err)
{
    sv_cache_stats *s = arg;
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT count(*), (SELECT bytes FROM total), count(file), coalesce(sum(room), 0) FROM entries", err) != SV_OK || sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *s = (sv_cache_stats){sv_col_i64(&q, 0), sv_col_i64(&q, 1), sv_col_i64(&q, 2)};
    return s->n_bytes == sv_col_i64(&q, 3) ? SV_OK : sv_fail(err, SV_EFORMAT, "the cache's room is counted wrong"); /* inv. 1 */
}

sv_rc sv_cache_get_stats(sv_cache *c, sv_cache_stats *out, sv_err *err) { return sv_db_read(c->db, read_stats, out, err); }
