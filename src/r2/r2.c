/* r2.c - the store of objects: rows in SQLite, large bytes in files, buckets, and what is done behind everybody's back
 *
 * Where the bytes of a small object go was measured (ext4 on a virtual disk, 1 KB puts a second, one client, everything synced):
 *
 *     append to a segment, fdatasync; nothing else      250 - 260   the physical limit
 *     row with the bytes in it, one commit              260 - 280
 *     segment, then a row that points into it           110 - 145   two syncs, one after the other
 *     file of its own, folder, row                       85 - 95    three
 *
 * and at 64 KB still 225, 130, 86. So small objects are rows of a table of their own: SQLite's log is the append-only segment, its group
 * commit is ours (db.h), and the room of what is deleted comes back through its free list without a compactor. A table apart from the
 * metadata keeps that narrow, so that a list of a thousand keys reads few pages.
 *
 *   put of a large object:  file written -> synced -> folder synced -> row committed -> done -> files it replaces go to the reaper
 *
 * A name in the folder is nothing until a row names it: so nobody sees half an object, and the next open removes what no row names. A
 * multipart object keeps the files of its parts, so that completing an upload of 5 TiB moves no bytes; a copy is made of hard links.
 *
 * Somebody who reads an object of many files opens them one after the other, and must not find one gone because the object was replaced
 * meanwhile. So files are retired with the time on a counter, and removed once everybody who began to read before has ended.
 *
 * Invariants:
 *   1. A row that is committed has its bytes in `small`, or names files that are whole and synced.
 *   2. A file is named by one row of `pieces` or `parts` at most, and removed only after the commit that took that row away.
 *   3. An event is on the outbox if and only if its object's change is committed: same transaction. */
#include "r2/r2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "r2/r2_impl.h"
#include "r2/r2_rules.h"

enum { SWEEP_S = 3600, SWEEP_ROWS = 500 };

static const char *const migrations[] = {
    "CREATE TABLE buckets (no INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,"
    " location TEXT NOT NULL, jurisdiction TEXT NOT NULL, class INTEGER NOT NULL, cors TEXT, lifecycle TEXT, locks TEXT);"
    "CREATE UNIQUE INDEX buckets_name ON buckets (account, name);"
    "CREATE TABLE objects (id INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, key BLOB NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL,"
    " etag TEXT NOT NULL, uploaded_ms INTEGER NOT NULL, class INTEGER NOT NULL, sums BLOB, composite INTEGER NOT NULL, n_parts INTEGER NOT NULL,"
    " ssec_md5 TEXT, http TEXT, custom TEXT);"
    "CREATE UNIQUE INDEX objects_key ON objects (bucket, key);"
    "CREATE TABLE small (id INTEGER PRIMARY KEY, iv BLOB, bytes BLOB NOT NULL);"
    "CREATE TABLE pieces (object INTEGER NOT NULL, i INTEGER NOT NULL, file TEXT NOT NULL, n INTEGER NOT NULL, iv BLOB, PRIMARY KEY (object, i)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX pieces_file ON pieces (file);"
    "CREATE TABLE uploads (id INTEGER PRIMARY KEY AUTOINCREMENT, bucket INTEGER NOT NULL, key BLOB NOT NULL, upload TEXT NOT NULL UNIQUE,"
    " created_ms INTEGER NOT NULL, class INTEGER NOT NULL, sum INTEGER NOT NULL, composite INTEGER NOT NULL, ssec_md5 TEXT, http TEXT, custom TEXT);"
    "CREATE INDEX uploads_key ON uploads (bucket, key, upload);"
    "CREATE TABLE parts (upload INTEGER NOT NULL, part INTEGER NOT NULL, file TEXT NOT NULL, n INTEGER NOT NULL, etag TEXT NOT NULL,"
    " modified_ms INTEGER NOT NULL, sums BLOB, iv BLOB, PRIMARY KEY (upload, part)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX parts_file ON parts (file);"
    "CREATE TABLE rules (id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, queue TEXT NOT NULL, rule TEXT NOT NULL, prefix TEXT NOT NULL,"
    " suffix TEXT NOT NULL, description TEXT NOT NULL, actions INTEGER NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE INDEX rules_bucket ON rules (bucket, queue);"
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, queue TEXT NOT NULL, message TEXT NOT NULL);",
};

sv_rc sv_r2_run_sql(sv_dbw *w, const char *sql, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    return sv_stmt_prep(&q, w, sql, err) == SV_OK ? sv_stmt_run(&q, err) : err->code;
}

/* ---- files ---- */

void sv_r2_file_path(const sv_r2 *r2, const char *name, char out[600]) { snprintf(out, 600, "%s/%s", r2->folder, name); }
const char *sv_r2_folder(const sv_r2 *r2) { return r2->folder; }

static void remove_file(const sv_r2 *r2, const char *name)
{
    char path[600];
    sv_r2_file_path(r2, name, path);
    if (unlink(path) < 0 && errno != ENOENT)
        sv_log(SV_WARN, "r2.file", "file=%s errno=%d left='until the next start'", name, errno);
}

void sv_r2_drop(sv_r2 *r2, const sv_r2_piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        remove_file(r2, pieces[i].file);
}

sv_rc sv_r2_keep(sv_r2 *r2, const char *path, sv_r2_piece *out, int64_t n, sv_err *err)
{
    if (sv_sync(path, err) != SV_OK || sv_sync(r2->folder, err) != SV_OK)
        return err->code;
    snprintf(out->file, sizeof out->file, "%s", strrchr(path, '/') + 1);
    out->n = n;
    return SV_OK;
}

sv_rc sv_r2_spill(sv_r2 *r2, sv_str bytes, sv_r2_piece *out, sv_err *err)
{
    char name[33], path[600];
    sv_random_hex(name, 16);
    sv_r2_file_path(r2, name, path);
    SV_AUTO(sv_fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "make '%s'", path);
    if (sv_write_all(fd, bytes.p, bytes.n, err) == SV_OK && sv_r2_keep(r2, path, out, (int64_t)bytes.n, err) == SV_OK)
        return SV_OK;
    remove_file(r2, name);
    return err->code;
}

/* ---- readers and the reaper ---- */

void sv_r2_enter(sv_r2 *r2, active *a)
{
    pthread_mutex_lock(&r2->lock);
    *a = (active){.at = r2->clock, .prev = r2->newest};
    if (r2->newest)
        r2->newest->next = a;
    else
        r2->oldest = a;
    r2->newest = a;
    pthread_mutex_unlock(&r2->lock);
}

void sv_r2_leave(sv_r2 *r2, active *a)
{
    pthread_mutex_lock(&r2->lock);
    if (a->prev)
        a->prev->next = a->next;
    else
        r2->oldest = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        r2->newest = a->prev;
    pthread_cond_signal(&r2->work);
    pthread_mutex_unlock(&r2->lock);
}

void sv_r2_retire(sv_r2 *r2, char (*names)[33], size_t n)
{
    if (n == 0)
        return;
    pthread_mutex_lock(&r2->lock);
    r2->clock++;
    for (size_t i = 0; i < n; i++) {
        retired *e = sv_xnew0(retired);
        memcpy(e->file, names[i], sizeof e->file);
        e->at = r2->clock;
        *r2->last = e;
        r2->last = &e->next;
    }
    pthread_cond_signal(&r2->work);
    pthread_mutex_unlock(&r2->lock);
}

static bool may_reap(const sv_r2 *r2) { return r2->first && (!r2->oldest || r2->oldest->at >= r2->first->at || r2->stopping); }

static void *reap(void *arg)
{
    sv_r2 *r2 = arg;
    pthread_mutex_lock(&r2->lock);
    for (;;) {
        while (!may_reap(r2) && !r2->stopping)
            pthread_cond_wait(&r2->work, &r2->lock);
        if (!may_reap(r2))
            break;
        retired *e = r2->first;
        r2->first = e->next;
        if (!r2->first)
            r2->last = &r2->first;
        pthread_mutex_unlock(&r2->lock);
        remove_file(r2, e->file);
        free(e);
        pthread_mutex_lock(&r2->lock);
    }
    pthread_mutex_unlock(&r2->lock);
    return NULL;
}

/* ---- buckets ---- */

void sv_r2_bucket_done(sv_r2_bucket *b)
{
    free(b->cors);
    free(b->lifecycle);
    free(b->locks);
    b->cors = b->lifecycle = b->locks = NULL;
}

static char *text_col(sv_stmt *q, int i)
{
    sv_str s = sv_col_str(q, i);
    return sv_col_null(q, i) ? NULL : sv_xstrndup(s.p, s.n);
}

static void copy_col(sv_stmt *q, int i, char *out, size_t size)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, size, "%.*s", (int)s.n, s.n ? s.p : "");
}

#define BUCKET_COLUMNS "no, name, location, jurisdiction, created_ms, class"
static void take_bucket(sv_stmt *q, sv_r2_bucket *out)
{
    *out = (sv_r2_bucket){.no = sv_col_i64(q, 0), .created_ms = sv_col_i64(q, 4), .class = (sv_r2_class)sv_col_i64(q, 5)};
    copy_col(q, 1, out->name, sizeof out->name);
    copy_col(q, 2, out->location, sizeof out->location);
    copy_col(q, 3, out->jurisdiction, sizeof out->jurisdiction);
}

typedef struct bucket_arg { sv_str account, name; sv_r2_bucket out; } bucket_arg;

static sv_rc read_bucket(sv_dbw *r, void *arg, sv_err *err)
{
    bucket_arg *a = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT " BUCKET_COLUMNS ", cors, lifecycle, locks FROM buckets WHERE account = ?1 AND name = ?2", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, a->account);
    sv_bind_str(&q, 2, a->name);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_r2_fail(err, SV_R2_NO_BUCKET);
    take_bucket(&q, &a->out);
    a->out.cors = text_col(&q, 6);
    a->out.lifecycle = text_col(&q, 7);
    a->out.locks = text_col(&q, 8);
    return SV_OK;
}

sv_rc sv_r2_bucket_find(sv_r2 *r2, sv_str account, sv_str name, sv_r2_bucket *out, sv_err *err)
{
    bucket_arg a = {.account = account, .name = name};
    if (sv_db_read(r2->db, read_bucket, &a, err) != SV_OK)
        return err->code;
    *out = a.out;
    return SV_OK;
}

sv_rc sv_r2_find_bucket(sv_dbw *w, sv_str account, sv_str name, bucket_row *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT no, class, locks FROM buckets WHERE account = ?1 AND name = ?2", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, account);
    sv_bind_str(&q, 2, name);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_r2_fail(err, SV_R2_NO_BUCKET);
    *out = (bucket_row){.no = sv_col_i64(&q, 0), .class = (sv_r2_class)sv_col_i64(&q, 1), .locks = text_col(&q, 2)};
    return SV_OK;
}

static sv_rc count_buckets(sv_dbw *w, sv_str account, int64_t *n, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT count(*) FROM buckets WHERE account = ?1", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, account);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *n = sv_col_i64(&q, 0);
    return SV_OK;
}

typedef struct make_arg { sv_str account, name, location, jurisdiction; sv_r2_class class; int64_t now_ms; } make_arg;

static sv_rc make_bucket(sv_dbw *w, void *arg, sv_err *err)
{
    make_arg *a = arg;
    int64_t n = 0;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (count_buckets(w, a->account, &n, err) != SV_OK)
        return err->code;
    if (n >= SV_R2_MAX_BUCKETS)
        return sv_r2_failf(err, SV_R2_TOO_MANY_BUCKETS, "the account has %lld buckets, at most %d: delete one", (long long)n, SV_R2_MAX_BUCKETS);
    if (sv_stmt_prep(&q, w, "INSERT INTO buckets (account, name, created_ms, location, jurisdiction, class) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, a->account);
    sv_bind_str(&q, 2, a->name);
    sv_bind_i64(&q, 3, a->now_ms);
    sv_bind_str(&q, 4, a->location);
    sv_bind_str(&q, 5, a->jurisdiction);
    sv_bind_i64(&q, 6, a->class);
    sv_rc rc = sv_stmt_run(&q, err);
    return rc == SV_ECONFLICT ? sv_r2_fail(err, SV_R2_BUCKET_EXISTS) : rc;
}

sv_rc sv_r2_bucket_create(sv_r2 *r2, sv_str account, sv_str name, sv_str location, sv_str jurisdiction, sv_r2_class c, sv_r2_bucket *out, sv_err *err)
{
    make_arg a = {account, name, location.n ? location : SV_STR("WEUR"), jurisdiction.n ? jurisdiction : SV_STR("default"), c, sv_now_ms()};
    if (a.location.n > 12 || a.jurisdiction.n > 12)
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "the location hint or the jurisdiction is none that there is");
    if (sv_r2_check_bucket_name(name, err) != SV_OK || sv_db_write(r2->db, make_bucket, &a, err) != SV_OK)
        return err->code;
    return sv_r2_bucket_find(r2, account, name, out, err);
}

/* ---- changes of a bucket ---- */

typedef struct change_arg {
    sv_str account, name;
    sv_r2_setting which;
    sv_str text;
    sv_r2_class class;
    sv_r2_write files; /* only its list of old files is used */
} change_arg;

static sv_rc any_object(sv_dbw *w, int64_t bucket, bool *any, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT 1 FROM objects WHERE bucket = ?1 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bucket);
    return sv_stmt_step(&q, any, err);
}

/* The ids that `sql` selects for ?1, at most SWEEP_ROWS. */
static sv_rc take_ids(sv_dbw *w, const char *sql, int64_t of, int64_t ids[SWEEP_ROWS], size_t *n, sv_err *err)
{
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, of);
    for (*n = 0; *n < SWEEP_ROWS;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        ids[(*n)++] = sv_col_i64(&q, 0);
    }
    return SV_OK;
}

static sv_rc drop_uploads(change_arg *a, sv_dbw *w, int64_t bucket, sv_err *err)
{
    int64_t ids[SWEEP_ROWS];
    size_t n = 0;
    do {
        if (take_ids(w, "SELECT id FROM uploads WHERE bucket = ?1", bucket, ids, &n, err) != SV_OK)
            return err->code;
        for (size_t i = 0; i < n; i++)
            if (sv_r2_remove_upload(&a->files, w, ids[i], err) != SV_OK)
                return err->code;
    } while (n == SWEEP_ROWS);
    return SV_OK;
}

static sv_rc delete_by_no(sv_dbw *w, const char *sql, int64_t no, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, no);
    return sv_stmt_run(&q, err);
}

static sv_rc delete_bucket(sv_dbw *w, void *arg, sv_err *err)
{
    change_arg *a = arg;
    bool any = false;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    a->files.n_old = 0;
    if (sv_r2_find_bucket(w, a->account, a->name, &b, err) != SV_OK || any_object(w, b.no, &any, err) != SV_OK)
        return err->code;
    if (any)
        return sv_r2_fail(err, SV_R2_NOT_EMPTY);
    if (drop_uploads(a, w, b.no, err) != SV_OK || delete_by_no(w, "DELETE FROM rules WHERE bucket = ?1", b.no, err) != SV_OK)
        return err->code;
    return delete_by_no(w, "DELETE FROM buckets WHERE no = ?1", b.no, err);
}

sv_rc sv_r2_bucket_delete(sv_r2 *r2, sv_str account, sv_str name, sv_err *err)
{
    change_arg a = {.account = account, .name = name};
    sv_rc rc = sv_db_write(r2->db, delete_bucket, &a, err);
    if (rc == SV_OK)
        sv_r2_retire(r2, a.files.old, a.files.n_old);
    free(a.files.old);
    return rc;
}

static sv_rc set_class(sv_dbw *w, void *arg, sv_err *err)
{
    change_arg *a = arg;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(w, a->account, a->name, &b, err) != SV_OK || sv_stmt_prep(&q, w, "UPDATE buckets SET class = ?2 WHERE no = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b.no);
    sv_bind_i64(&q, 2, a->class);
    return sv_stmt_run(&q, err);
}

sv_rc sv_r2_bucket_set_class(sv_r2 *r2, sv_str account, sv_str name, sv_r2_class c, sv_err *err)
{
    return sv_db_write(r2->db, set_class, &(change_arg){.account = account, .name = name, .class = c}, err);
}

static sv_rc set_setting(sv_dbw *w, void *arg, sv_err *err)
{
    static const char *const sql[] = {[SV_R2_CORS] = "UPDATE buckets SET cors = ?2 WHERE no = ?1",
                                      [SV_R2_LIFECYCLE] = "UPDATE buckets SET lifecycle = ?2 WHERE no = ?1",
                                      [SV_R2_LOCKS] = "UPDATE buckets SET locks = ?2 WHERE no = ?1"};
    change_arg *a = arg;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(w, a->account, a->name, &b, err) != SV_OK || sv_stmt_prep(&q, w, sql[a->which], err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b.no);
    sv_bind_str(&q, 2, a->text);
    return sv_stmt_run(&q, err);
}

sv_rc sv_r2_bucket_set(sv_r2 *r2, sv_str account, sv_str name, sv_r2_setting which, sv_str text, sv_err *err)
{
    return sv_db_write(r2->db, set_setting, &(change_arg){.account = account, .name = name, .which = which, .text = text}, err);
}

typedef struct buckets_arg {
    sv_str account;
    const sv_r2_bucket_page *page;
    void (*each)(void *arg, const sv_r2_bucket *b);
    void *arg;
    bool more;
} buckets_arg;

static sv_rc read_buckets(sv_dbw *r, void *arg, sv_err *err)
{
    buckets_arg *a = arg;
    const sv_r2_bucket_page *p = a->page;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r,
                     p->descending ? "SELECT " BUCKET_COLUMNS " FROM buckets WHERE account = ?1 AND (?2 = '' OR name < ?2) AND instr(name, ?3) > 0"
                                     " AND substr(name, 1, length(?4)) = ?4 ORDER BY name DESC"
                                   : "SELECT " BUCKET_COLUMNS " FROM buckets WHERE account = ?1 AND name > ?2 AND (?3 = '' OR instr(name, ?3) > 0)"
                                     " AND substr(name, 1, length(?4)) = ?4 ORDER BY name",
                     err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, a->account);
    sv_bind_str(&q, 2, p->after.n ? p->after : SV_STR(""));
    sv_bind_str(&q, 3, p->contains.n ? p->contains : SV_STR(""));
    sv_bind_str(&q, 4, p->prefix.n ? p->prefix : SV_STR(""));
    a->more = false;
    for (int64_t i = 0; i <= p->limit; i++) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        sv_r2_bucket b;
        take_bucket(&q, &b);
        a->more = i == p->limit;
        if (!a->more)
            a->each(a->arg, &b);
    }
    return SV_OK;
}

sv_rc sv_r2_bucket_list(sv_r2 *r2, sv_str account, const sv_r2_bucket_page *page, void (*each)(void *arg, const sv_r2_bucket *b), void *arg, bool *more,
                       sv_err *err)
{
    buckets_arg a = {.account = account, .page = page, .each = each, .arg = arg};
    if (sv_db_read(r2->db, read_buckets, &a, err) != SV_OK)
        return err->code;
    *more = a.more;
    return SV_OK;
}

typedef struct usage_arg { sv_str account, name; sv_r2_class class; sv_r2_usage out; } usage_arg;

static sv_rc read_usage(sv_dbw *r, void *arg, sv_err *err)
{
    usage_arg *a = arg;
    bool row;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(r, a->account, a->name, &b, err) != SV_OK ||
        sv_stmt_prep(&q, r,
                     "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length(key) + coalesce(length(http), 0) + coalesce(length(custom), 0)), 0),"
                     " (SELECT count(*) FROM uploads WHERE bucket = ?1), (SELECT coalesce(sum(n), 0) FROM parts JOIN uploads ON parts.upload = uploads.id"
                     " WHERE bucket = ?1) FROM objects WHERE bucket = ?1 AND (?2 < 0 OR class = ?2)",
                     err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b.no);
    sv_bind_i64(&q, 2, a->class);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    a->out = (sv_r2_usage){.n_objects = sv_col_i64(&q, 0), .n_bytes = sv_col_i64(&q, 1), .metadata_bytes = sv_col_i64(&q, 2), .n_uploads = sv_col_i64(&q, 3),
                           .upload_bytes = sv_col_i64(&q, 4)};
    return SV_OK;
}

sv_rc sv_r2_bucket_usage(sv_r2 *r2, sv_str account, sv_str name, sv_r2_class c, sv_r2_usage *out, sv_err *err)
{
    usage_arg a = {.account = account, .name = name, .class = c};
    if (sv_db_read(r2->db, read_usage, &a, err) != SV_OK)
        return err->code;
    *out = a.out;
    return SV_OK;
}

/* ---- sweeping ---- */

typedef struct due { int64_t bucket, now_ms; sv_r2_life life; sv_str from; char (*keys)[SV_R2_MAX_KEY + 1]; sv_str v[SWEEP_ROWS]; size_t n; } due;

static bool in_prefix(sv_str key, sv_str prefix) { return key.n >= prefix.n && (prefix.n == 0 || memcmp(key.p, prefix.p, prefix.n) == 0); }

/* The next keys of the bucket, from `from` on, that the rule says have expired. */
static sv_rc read_due(sv_dbw *r, void *arg, sv_err *err)
{
    due *d = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT key, uploaded_ms FROM objects WHERE bucket = ?1 AND key >= ?2 ORDER BY key", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, d->bucket);
    sv_bind_blob(&q, 2, d->from.n ? d->from.p : "", d->from.n);
    for (d->n = 0; d->n < SWEEP_ROWS;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        sv_str key = row ? sv_col_str(&q, 0) : (sv_str){0};
        if (!row || !in_prefix(key, d->life.prefix))
            return SV_OK;
        if (!sv_r2_is_due(&d->life.expire, sv_col_i64(&q, 1), d->now_ms))
            continue;
        memcpy(d->keys[d->n], key.p, key.n);
        d->v[d->n] = (sv_str){d->keys[d->n], key.n};
        d->n++;
    }
    return SV_OK;
}

static sv_rc expire_objects(sv_r2 *r2, sv_str account, const sv_r2_bucket *b, const sv_r2_life *life, int64_t now_ms, sv_err *err)
{
    SV_AUTO(sv_freep) char (*keys)[SV_R2_MAX_KEY + 1] = sv_try_calloc(SWEEP_ROWS, sizeof *keys);
    char from[SV_R2_MAX_KEY + 1];
    int codes[SWEEP_ROWS];
    if (!keys)
        return sv_fail(err, SV_ENOMEM, "no memory to expire objects");
    due d = {.bucket = b->no, .now_ms = now_ms, .life = *life, .from = life->prefix, .keys = keys};
    do {
        if (sv_db_read(r2->db, read_due, &d, err) != SV_OK)
            return err->code;
        sv_r2_write w = {.op = SV_R2_DELETE, .account = account, .bucket = sv_str_of(b->name), .keys = d.v, .n_keys = d.n, .key_codes = codes,
                         .by_ms = life->expire.dated ? 0 : now_ms - life->expire.ms, .action = "LifecycleDeletion"};
        if (d.n && sv_r2_apply(r2, &w, err) != SV_OK)
            return err->code;
        if (d.n) { /* locked ones stay: go on behind the last */
            memcpy(from, d.v[d.n - 1].p, d.v[d.n - 1].n);
            from[d.v[d.n - 1].n] = 0;
            d.from = (sv_str){from, d.v[d.n - 1].n + 1};
        }
    } while (d.n == SWEEP_ROWS);
    return SV_OK;
}

typedef struct life_arg { sv_r2_write files; int64_t bucket, now_ms; sv_r2_life life; bool more; } life_arg;

static sv_rc move_class(sv_dbw *w, void *arg, sv_err *err)
{
    life_arg *a = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE objects SET class = 1 WHERE bucket = ?1 AND class = 0 AND uploaded_ms <= ?2 AND substr(key, 1, ?3) = ?4", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->bucket);
    sv_bind_i64(&q, 2, a->life.infrequent.dated ? (a->now_ms >= a->life.infrequent.ms ? INT64_MAX : -1) : a->now_ms - a->life.infrequent.ms);
    sv_bind_i64(&q, 3, (int64_t)a->life.prefix.n);
    sv_bind_blob(&q, 4, a->life.prefix.n ? a->life.prefix.p : "", a->life.prefix.n);
    return sv_stmt_run(&q, err);
}

static sv_rc abort_some(sv_dbw *w, void *arg, sv_err *err)
{
    life_arg *a = arg;
    int64_t ids[SWEEP_ROWS];
    size_t n = 0;
    bool row = true;
    a->files.n_old = 0;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "SELECT id FROM uploads WHERE bucket = ?1 AND created_ms <= ?2 AND substr(key, 1, ?3) = ?4", err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, a->bucket);
        sv_bind_i64(&q, 2, a->now_ms - a->life.abort.ms);
        sv_bind_i64(&q, 3, (int64_t)a->life.prefix.n);
        sv_bind_blob(&q, 4, a->life.prefix.n ? a->life.prefix.p : "", a->life.prefix.n);
        while (n < SWEEP_ROWS) {
            if (sv_stmt_step(&q, &row, err) != SV_OK)
                return err->code;
            if (!row)
                break;
            ids[n++] = sv_col_i64(&q, 0);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (sv_r2_remove_upload(&a->files, w, ids[i], err) != SV_OK)
            return err->code;
    a->more = n == SWEEP_ROWS;
    return SV_OK;
}

static sv_rc abort_uploads(sv_r2 *r2, const sv_r2_bucket *b, const sv_r2_life *life, int64_t now_ms, sv_err *err)
{
    life_arg a = {.bucket = b->no, .now_ms = now_ms, .life = *life, .more = true};
    sv_rc rc = SV_OK;
    while (rc == SV_OK && a.more) {
        rc = sv_db_write(r2->db, abort_some, &a, err);
        if (rc == SV_OK)
            sv_r2_retire(r2, a.files.old, a.files.n_old);
    }
    free(a.files.old);
    return rc;
}

static sv_rc sweep_bucket(sv_r2 *r2, sv_str account, const sv_r2_bucket *b, int64_t now_ms, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *all = NULL;
    json_t *rule;
    size_t i;
    if (sv_json_parse(&all, sv_str_of(b->lifecycle ? b->lifecycle : sv_r2_default_lifecycle), err) != SV_OK)
        return err->code;
    json_array_foreach (json_object_get(all, "rules"), i, rule) {
        sv_r2_life life;
        if (!sv_r2_life_of(rule, &life))
            continue;
        if (life.expire.on && expire_objects(r2, account, b, &life, now_ms, err) != SV_OK)
            return err->code;
        if (life.abort.on && abort_uploads(r2, b, &life, now_ms, err) != SV_OK)
            return err->code;
        if (life.infrequent.on &&
            sv_db_write(r2->db, move_class, &(life_arg){.bucket = b->no, .now_ms = now_ms, .life = life}, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

typedef struct bucket_name { char account[33], name[SV_R2_MAX_BUCKET_NAME + 1]; } bucket_name;
typedef struct names_arg { bucket_name *v; size_t n, cap; } names_arg;

/* Buckets with something to do: rules of their own, or open uploads. */
static sv_rc read_names(sv_dbw *r, void *arg, sv_err *err)
{
    names_arg *a = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT account, name FROM buckets WHERE lifecycle IS NOT NULL OR no IN (SELECT bucket FROM uploads)", err) != SV_OK)
        return err->code;
    for (;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        if (a->n == a->cap) {
            a->cap = a->cap ? a->cap * 2 : 16;
            a->v = sv_xrealloc(a->v, a->cap, sizeof *a->v);
        }
        copy_col(&q, 0, a->v[a->n].account, sizeof a->v->account);
        copy_col(&q, 1, a->v[a->n++].name, sizeof a->v->name);
    }
}

sv_rc sv_r2_sweep(sv_r2 *r2, int64_t now_ms, sv_err *err)
{
    names_arg a = {0};
    sv_rc rc = sv_db_read(r2->db, read_names, &a, err);
    for (size_t i = 0; rc == SV_OK && i < a.n; i++) {
        sv_r2_bucket b;
        sv_err e = {0};
        if (sv_r2_bucket_find(r2, sv_str_of(a.v[i].account), sv_str_of(a.v[i].name), &b, &e) != SV_OK)
            continue; /* gone meanwhile */
        rc = sweep_bucket(r2, sv_str_of(a.v[i].account), &b, now_ms, err);
        sv_r2_bucket_done(&b);
    }
    free(a.v);
    return rc;
}

static void sweep_now(void *arg)
{
    sv_err err = {0};
    if (sv_r2_sweep(arg, sv_now_ms(), &err) != SV_OK)
        sv_log(SV_WARN, "r2.sweep", "error='%s' again_in_s=%d", err.msg, SWEEP_S);
}

/* ---- life ---- */

typedef struct orphan_arg { sv_r2 *r2; DIR *dir; int64_t n; } orphan_arg;

static bool is_file_name(const char *s) { return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32; }

/* Removes files that no row names: the ends of uploads that a crash cut. */
static sv_rc remove_orphans(sv_dbw *r, void *arg, sv_err *err)
{
    orphan_arg *o = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM pieces WHERE file = ?1 UNION ALL SELECT 1 FROM parts WHERE file = ?1", err) != SV_OK)
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
            remove_file(o->r2, e->d_name);
            o->n++;
        }
    }
    return SV_OK;
}

static sv_rc open_folder(sv_r2 *r2, const char *data_dir, sv_err *err)
{
    char path[600];
    if (snprintf(path, sizeof path, "%s/r2/big", data_dir) > 500)
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    r2->folder = sv_xstrdup(path);
    if (sv_mkdir_p(path, 0700, err) != SV_OK)
        return err->code;
    snprintf(path, sizeof path, "%s/r2/r2.db", data_dir);
    if (sv_db_open(&r2->db, path, migrations, SV_LEN(migrations), err) != SV_OK)
        return err->code;
    orphan_arg o = {.r2 = r2, .dir = opendir(r2->folder)};
    if (!o.dir)
        return sv_fail_errno(err, "read '%s'", r2->folder);
    sv_rc rc = sv_db_read(r2->db, remove_orphans, &o, err);
    closedir(o.dir);
    if (o.n)
        sv_log(SV_INFO, "r2.orphans", "files=%lld removed=1", (long long)o.n);
    return rc;
}

sv_rc sv_r2_open(sv_r2 **out, const char *data_dir, sv_err *err)
{
    sv_r2 *r2 = sv_xnew0(sv_r2);
    r2->last = &r2->first;
    r2->mail = true; /* of the last run */
    pthread_mutex_init(&r2->lock, NULL);
    pthread_cond_init(&r2->work, NULL);
    pthread_cond_init(&r2->post, NULL);
    if (open_folder(r2, data_dir, err) != SV_OK) {
        sv_r2_close(r2);
        return err->code;
    }
    r2->reaper = sv_thread_start("r2-reaper", reap, r2);
    r2->postman = sv_thread_start("r2-postman", sv_r2_postman, r2);
    r2->sweeper = sv_ticker_new("r2-sweeper", SWEEP_S * 1000, sweep_now, r2);
    r2->started = true;
    *out = r2;
    return SV_OK;
}

sv_r2 *sv_r2_close(sv_r2 *r2)
{
    if (!r2)
        return NULL;
    sv_ticker_free(r2->sweeper);
    if (r2->started) {
        pthread_mutex_lock(&r2->lock);
        r2->stopping = true;
        pthread_cond_broadcast(&r2->work);
        pthread_cond_broadcast(&r2->post);
        pthread_mutex_unlock(&r2->lock);
        pthread_join(r2->postman, NULL);
    }
    sv_db_close(r2->db); /* the last writes may still retire files */
    if (r2->started)
        pthread_join(r2->reaper, NULL);
    for (retired *e = r2->first, *next; e; e = next) {
        next = e->next;
        remove_file(r2, e->file);
        free(e);
    }
    pthread_cond_destroy(&r2->work);
    pthread_cond_destroy(&r2->post);
    pthread_mutex_destroy(&r2->lock);
    free(r2->folder);
    free(r2);
    return NULL;
}

void sv_r2_set_notify(sv_r2 *r2, const sv_r2_notify *n)
{
    pthread_mutex_lock(&r2->lock);
    r2->notify = *n;
    r2->has_notify = true;
    pthread_cond_signal(&r2->post);
    pthread_mutex_unlock(&r2->lock);
}

const sv_r2_notify *sv_r2_get_notify(const sv_r2 *r2) { return r2->has_notify ? &r2->notify : NULL; }

static sv_rc read_stats(sv_dbw *r, void *arg, sv_err *err)
{
    sv_r2_stats *s = arg;
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r,
                     "SELECT (SELECT count(*) FROM objects), (SELECT count(*) FROM pieces) + (SELECT count(*) FROM parts),"
                     " (SELECT count(*) FROM uploads), (SELECT count(*) FROM outbox)",
                     err) != SV_OK ||
        sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *s = (sv_r2_stats){sv_col_i64(&q, 0), sv_col_i64(&q, 1), sv_col_i64(&q, 2), sv_col_i64(&q, 3)};
    return SV_OK;
}

sv_rc sv_r2_get_stats(sv_r2 *r2, sv_r2_stats *out, sv_err *err) { return sv_db_read(r2->db, read_stats, out, err); }
