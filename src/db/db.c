/* db.c - SQLite with one writer thread, group commit, and readers beside it
 *
 * SQLite takes one writer at a time and a sync costs more than the write, so writes do not queue at SQLite's lock but at ours: the
 * writer thread takes everything that waits, runs it inside one transaction and syncs once. While it syncs, the next group gathers.
 * Those it has just answered often come straight back, a moment too late for the group that would start now; so it lingers for them, up
 * to a quarter of what the last group took. Without that, 4 threads alternate between groups of 1 and 3 and get half as much done; a
 * thread that writes alone never waits.
 *
 *   group:   BEGIN  { SAVEPOINT m  fn  RELEASE m | ROLLBACK TO m, RELEASE m } per member  COMMIT (one sync)
 *   alone:   BEGIN  fn  COMMIT | ROLLBACK
 *
 * A full disk or missing memory can make SQLite roll back the whole transaction and not only the statement (vdbe halt: IOERR,
 * and FULL or NOMEM without a statement journal). Then the members that had succeeded are gone through no fault of their own, so
 * everybody of that group except the culprit runs again, alone. This is why fn may be called a second time.
 *
 * Readers are connections of their own with query_only set: WAL gives each transaction a snapshot, and none of them waits for the
 * writer. Opened when first needed, at most N_READERS; a caller that finds all of them taken waits.
 *
 * Invariants:
 *   1. The write connection is used by sv_db_open until the writer thread starts, by that thread, and by sv_db_close after it ended.
 *   2. Nobody is told SV_OK before the COMMIT that holds his savepoint has returned SQLITE_OK under synchronous=FULL.
 *   3. BEGIN, COMMIT, ROLLBACK and the savepoint statements are prepared at open: undoing needs no memory.
 *   4. `lock` guards the write queue, the idle readers and the counts; nothing is taken or called while it is held.
 *   5. We never open a database file except through SQLite (but to create it): closing any descriptor of it would drop the POSIX
 *      locks that SQLite holds for the whole process. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/time.h"
#include "db/db.h"

enum {
    N_READERS = 8,
    N_CACHED = 128,       /* statements of a connection */
    MAX_GROUP = 256,      /* writes of one transaction */
    MAX_LINGER_US = 300,
    BUSY_MS = 10000,      /* other processes: `selvedge token` beside the daemon */
    CHECK_BYTES = 16 << 20, /* files up to this size are checked page by page at open (about 10 ms); larger ones as they are read */
    WAL_KEEP_BYTES = 16 << 20, /* a log that grew over it is cut at the next checkpoint */
};

enum ctl { BEGIN_WRITE, BEGIN_READ, COMMIT, ROLLBACK, SAVEPOINT, RELEASE, ROLLBACK_TO, N_CTL };
static const char *const ctl_sql[N_CTL] = {"BEGIN IMMEDIATE", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT m", "RELEASE m", "ROLLBACK TO m"};

typedef struct cached {
    char *sql;
    sqlite3_stmt *s;
    bool busy;       /* handed out by sv_stmt_prep */
    uint64_t used;   /* tick of the last hand-out: the least recent goes */
} cached;

struct sv_dbw {
    sqlite3 *h;
    sqlite3_stmt *ctl[N_CTL];
    cached cache[N_CACHED];
    int n_cached;
    uint64_t tick;
    sv_smap *by_sql;  /* text -> cached */
    int bind_rc;      /* first failed bind since the last step, which reports it */
    sv_dbw *next_idle;
};

typedef struct write_req { /* on the stack of the thread that waits for it; of a job: on the heap */
    sv_db_fn fn;
    void *arg;
    sv_rc rc;
    sv_err err;
    bool done;
    pthread_cond_t cond;
    sv_db_job *job; /* NULL: somebody waits */
    struct write_req *next;
} write_req;

struct sv_db {
    char *path;
    sv_dbw *w;            /* inv. 1 */
    pthread_t writer;
    bool has_writer;
    pthread_mutex_t lock; /* inv. 4 */
    pthread_cond_t work, idle;
    write_req *head, *tail;
    int n_waiting; /* in that list */
    bool stopping;
    sv_dbw *idle_readers;
    int n_readers, n_calls; /* calls inside sv_db_write, sv_db_read, sv_db_backup: sv_db_close waits until they are out */
};

/* ---- errors ---- */

static sv_rc rc_of(int rc, sqlite3 *h)
{
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT:
        return rc == SQLITE_CONSTRAINT_CHECK || rc == SQLITE_CONSTRAINT_NOTNULL ? SV_EINVAL : SV_ECONFLICT;
    case SQLITE_FULL: case SQLITE_TOOBIG: return SV_ELIMIT;
    case SQLITE_NOMEM: return SV_ENOMEM;
    case SQLITE_CORRUPT: case SQLITE_NOTADB: return SV_EFORMAT;
    case SQLITE_BUSY: case SQLITE_LOCKED: return SV_ETIMEDOUT;
    case SQLITE_INTERRUPT: return SV_ECANCELED;
    case SQLITE_IOERR: /* the shared-memory file meets a full disk in another way than the log does */
        if (rc == SQLITE_IOERR_NOMEM)
            return SV_ENOMEM;
        return h && sqlite3_system_errno(h) == ENOSPC ? SV_ELIMIT : SV_EIO;
    default: return SV_EIO;
    }
}

static sv_rc fail_sql(sv_err *err, sqlite3 *h)
{
    int rc = h ? sqlite3_extended_errcode(h) : SQLITE_NOMEM;
    sv_fail(err, rc_of(rc, h), "%s", h ? sqlite3_errmsg(h) : sqlite3_errstr(SQLITE_NOMEM));
    err->ours = (rc & 0xff) != SQLITE_CONSTRAINT && (rc & 0xff) != SQLITE_TOOBIG && (rc & 0xff) != SQLITE_INTERRUPT;
    return err->code;
}

/* ---- connections ---- */

static sv_dbw *conn_close(sv_dbw *w)
{
    if (!w)
        return NULL;
    for (int i = 0; i < w->n_cached; i++) {
        sqlite3_finalize(w->cache[i].s);
        free(w->cache[i].sql);
    }
    for (int i = 0; i < N_CTL; i++)
        sqlite3_finalize(w->ctl[i]);
    sv_smap_free(w->by_sql);
    sqlite3_close_v2(w->h);
    free(w);
    return NULL;
}
SV_DEFINE_AUTO(sv_dbw, conn_close)

static sv_rc exec(sv_dbw *w, const char *sql, sv_err *err)
{
    return sqlite3_exec(w->h, sql, NULL, NULL, NULL) == SQLITE_OK ? SV_OK : fail_sql(err, w->h);
}

/* Runs one of the prepared control statements; the SQLite code is the answer. */
static int ctl(sv_dbw *w, enum ctl which)
{
    sqlite3_step(w->ctl[which]);
    return sqlite3_reset(w->ctl[which]); /* step's error comes back from reset */
}

static sv_rc conn_open(sv_dbw **out, const char *path, sv_err *err)
{
    SV_AUTO(conn_closep) sv_dbw *w = sv_xnew0(sv_dbw);
    w->by_sql = sv_smap_new();
    /* No mutex: a connection is one thread's at a time. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &w->h, flags, NULL) != SQLITE_OK)
        return fail_sql(err, w->h);
    sqlite3_busy_timeout(w->h, BUSY_MS);
    sqlite3_db_config(w->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (exec(w, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY",
             err) != SV_OK)
        return err->code;
    *out = SV_TAKE(w);
    return SV_OK;
}

static sv_rc conn_prepare(sv_dbw *w, sv_err *err) /* inv. 3 */
{
    for (int i = 0; i < N_CTL; i++)
        if (sqlite3_prepare_v3(w->h, ctl_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &w->ctl[i], NULL) != SQLITE_OK)
            return fail_sql(err, w->h);
    return SV_OK;
}

/* A function has returned: whatever it left open is closed for it, so that COMMIT and the next one find a clean connection. */
static void conn_settle(sv_dbw *w)
{
    for (int i = 0; i < w->n_cached; i++)
        if (w->cache[i].busy) {
            sqlite3_reset(w->cache[i].s);
            sqlite3_clear_bindings(w->cache[i].s);
            w->cache[i].busy = false;
        }
    w->bind_rc = SQLITE_OK;
}

static bool in_transaction(const sv_dbw *w) { return !sqlite3_get_autocommit(w->h); }

/* ---- open: create, check, migrate ---- */

static sv_rc create_file(const char *path, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* inv. 5: only a new one */
    if (fd < 0 && errno != EEXIST)
        return sv_fail_errno(err, "create '%s'", path);
    return SV_OK;
}

static sv_rc query_i64(sv_dbw *w, const char *sql, int64_t *out, sv_err *err)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(w->h, sql, -1, &s, NULL) != SQLITE_OK)
        return fail_sql(err, w->h);
    sv_rc rc = SV_OK;
    if (sqlite3_step(s) == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    else
        rc = fail_sql(err, w->h);
    sqlite3_finalize(s);
    return rc;
}

static sv_rc query_word(sv_dbw *w, const char *sql, char out[200], sv_err *err)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(w->h, sql, -1, &s, NULL) != SQLITE_OK)
        return fail_sql(err, w->h);
    const char *text = sqlite3_step(s) == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (text)
        snprintf(out, 200, "%s", text);
    sv_rc rc = text ? SV_OK : fail_sql(err, w->h);
    sqlite3_finalize(s);
    return rc;
}

static sv_rc check_pages(sv_dbw *w, const char *path, sv_err *err)
{
    struct stat st;
    char word[200]; /* "ok", or the first thing that is wrong */
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "stat");
    if (st.st_size > CHECK_BYTES)
        return SV_OK;
    if (query_word(w, "PRAGMA quick_check(1)", word, err) != SV_OK)
        return err->code;
    return strcmp(word, "ok") == 0 ? SV_OK : sv_fail(err, SV_EFORMAT, "damaged: %s", word);
}

static sv_rc set_wal(sv_dbw *w, sv_err *err)
{
    char word[200], sql[128];
    if (query_word(w, "PRAGMA journal_mode = WAL", word, err) != SV_OK)
        return err->code;
    if (strcmp(word, "wal") != 0)
        return sv_fail(err, SV_EIO, "the file system has no shared memory maps, so no write-ahead log");
    snprintf(sql, sizeof sql, "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = %d", WAL_KEEP_BYTES);
    return exec(w, sql, err);
}

/* One step: another process may have taken it since we looked, so the version is read again inside the transaction. */
static sv_rc migrate_one(sv_dbw *w, const char *sql, int to, sv_err *err)
{
    int64_t now = 0;
    char set[64];
    snprintf(set, sizeof set, "PRAGMA user_version = %d", to);
    if (exec(w, "BEGIN IMMEDIATE", err) != SV_OK)
        return err->code;
    sv_rc rc = query_i64(w, "PRAGMA user_version", &now, err);
    if (rc == SV_OK && now < to && (rc = exec(w, sql, err)) == SV_OK)
        rc = exec(w, set, err);
    if (rc == SV_OK)
        rc = exec(w, "COMMIT", err);
    if (in_transaction(w))
        sqlite3_exec(w->h, "ROLLBACK", NULL, NULL, NULL);
    return rc == SV_OK ? SV_OK : sv_wrap(err, "migration %d", to);
}

static sv_rc prepare_file(sv_dbw *w, const char *path, const char *const *migrations, int n_migrations, sv_err *err)
{
    int64_t version = 0;
    if (query_i64(w, "PRAGMA user_version", &version, err) != SV_OK)
        return err->code;
    if (version < 0 || version > n_migrations) {
        sqlite3_db_config(w->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL); /* left alone, its log included */
        return sv_fail(err, SV_ECONFLICT, "made by a newer release (version %lld, this one knows %d)", (long long)version, n_migrations);
    }
    if (check_pages(w, path, err) != SV_OK || set_wal(w, err) != SV_OK)
        return err->code;
    for (int i = (int)version; i < n_migrations; i++)
        if (migrate_one(w, migrations[i], i + 1, err) != SV_OK)
            return err->code;
    return conn_prepare(w, err);
}

static void *writer_main(void *arg);

sv_rc sv_db_open(sv_db **out, const char *path, const char *const *migrations, int n_migrations, sv_err *err)
{
    SV_ASSERT(sqlite3_threadsafe()); /* a build without mutexes has no business here */
    if (create_file(path, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_db_closep) sv_db *db = sv_xnew0(sv_db);
    pthread_mutex_init(&db->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&db->work, &attr);
    pthread_cond_init(&db->idle, NULL);
    pthread_condattr_destroy(&attr);
    db->path = sv_xstrdup(path);
    if (conn_open(&db->w, path, err) != SV_OK || prepare_file(db->w, path, migrations, n_migrations, err) != SV_OK)
        return sv_wrap(err, "database '%s'", path);
    db->writer = sv_thread_start("db", writer_main, db);
    db->has_writer = true;
    *out = SV_TAKE(db);
    return SV_OK;
}

sv_db *sv_db_close(sv_db *db)
{
    if (!db)
        return NULL;
    if (db->has_writer) {
        pthread_mutex_lock(&db->lock);
        db->stopping = true;
        pthread_cond_signal(&db->work);
        while (db->n_calls > 0)
            pthread_cond_wait(&db->idle, &db->lock);
        pthread_mutex_unlock(&db->lock);
        pthread_join(db->writer, NULL);
    }
    while (db->idle_readers) {
        sv_dbw *r = db->idle_readers;
        db->idle_readers = r->next_idle;
        conn_close(r);
    }
    if (db->has_writer) /* a start after us finds no log to go through; failing that, it goes through it */
        sqlite3_wal_checkpoint_v2(db->w->h, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    conn_close(db->w);
    pthread_cond_destroy(&db->work);
    pthread_cond_destroy(&db->idle);
    pthread_mutex_destroy(&db->lock);
    free(db->path);
    free(db);
    return NULL;
}

/* ---- the writer thread ---- */

/* Calls fn and says what came of it, also when fn did not notice that SQLite has thrown the transaction away. */
static void call(sv_dbw *w, write_req *q)
{
    q->err = (sv_err){0};
    q->rc = q->fn(w, q->arg, &q->err);
    conn_settle(w);
    if (q->rc == SV_OK && !in_transaction(w))
        q->rc = sv_fail(&q->err, SV_EIO, "the transaction ended inside a write");
    if (q->rc != SV_OK && q->err.msg[0] == '\0')
        sv_fail(&q->err, q->rc, "write refused: %s", sv_rc_name(q->rc));
}

static void run_alone(sv_dbw *w, write_req *q)
{
    if (ctl(w, BEGIN_WRITE) != SQLITE_OK) {
        q->rc = fail_sql(&q->err, w->h);
        return;
    }
    call(w, q);
    if (q->rc == SV_OK && ctl(w, COMMIT) != SQLITE_OK)
        q->rc = fail_sql(&q->err, w->h);
    if (in_transaction(w))
        ctl(w, ROLLBACK);
}

/* Runs a member inside its savepoint; false: the transaction of the group is no more (or cannot be trusted any more). */
static bool run_member(sv_dbw *w, write_req *q)
{
    if (ctl(w, SAVEPOINT) != SQLITE_OK) {
        q->rc = fail_sql(&q->err, w->h);
        return false;
    }
    call(w, q);
    if (!in_transaction(w))
        return false;
    if (q->rc == SV_OK && ctl(w, RELEASE) != SQLITE_OK) /* deferred constraints fail at COMMIT only, so this is the disk */
        q->rc = fail_sql(&q->err, w->h);
    if (q->rc == SV_OK)
        return true;
    return ctl(w, ROLLBACK_TO) == SQLITE_OK && ctl(w, RELEASE) == SQLITE_OK;
}

/* False: nothing was committed, and all but *culprit (if any) have yet to run. */
static bool run_together(sv_dbw *w, write_req *head, write_req **culprit)
{
    *culprit = NULL;
    if (ctl(w, BEGIN_WRITE) != SQLITE_OK) {
        for (write_req *q = head; q; q = q->next)
            q->rc = fail_sql(&q->err, w->h);
        return true; /* the lock is somebody else's or the disk is gone: waiting once more for each member helps nobody */
    }
    bool whole = true;
    for (write_req *q = head; q && whole; q = q->next) {
        whole = run_member(w, q);
        if (!whole)
            *culprit = q;
    }
    if (whole && ctl(w, COMMIT) == SQLITE_OK)
        return true;
    if (in_transaction(w))
        ctl(w, ROLLBACK);
    return false;
}

static void run_group(sv_dbw *w, write_req *head)
{
    write_req *culprit = NULL;
    if (head->next && run_together(w, head, &culprit))
        return;
    for (write_req *q = head; q; q = q->next)
        if (q != culprit)
            run_alone(w, q);
}

/* Unhooks up to MAX_GROUP waiting writes; the lock is held. */
static write_req *take_group(sv_db *db, int *n)
{
    write_req *head = db->head, *last = head;
    for (*n = 1; last->next && *n < MAX_GROUP; ++*n)
        last = last->next;
    db->n_waiting -= *n;
    db->head = last->next;
    if (!db->head)
        db->tail = NULL;
    last->next = NULL;
    return head;
}

/* Waits until `expected` writes are there, but no longer than max_us; the lock is held. */
static void linger(sv_db *db, int expected, int64_t max_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + max_us * 1000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (db->n_waiting < expected && !db->stopping && pthread_cond_timedwait(&db->work, &db->lock, &until) == 0)
        ;
}

/* Tells each member; its stack is gone as soon as the lock is. Returns those that are jobs. */
static write_req *answer(write_req *group)
{
    write_req *jobs = NULL, **last = &jobs;
    for (write_req *q = group, *next; q; q = next) {
        next = q->next;
        q->done = true;
        if (q->job) {
            *last = q;
            last = &q->next;
        } else {
            pthread_cond_signal(&q->cond);
        }
    }
    *last = NULL;
    return jobs;
}

/* Without the lock: `done` takes locks of its own. */
static int finish_jobs(write_req *jobs)
{
    int n = 0;
    for (write_req *q = jobs, *next; q; q = next, n++) {
        next = q->next;
        sv_db_job *job = q->job;
        job->rc = q->rc;
        job->err = q->err;
        free(q);
        job->done(job);
    }
    return n;
}

static void *writer_main(void *arg)
{
    sv_db *db = arg;
    int n = 0, expected = 1;
    int64_t took_us = 0;
    pthread_mutex_lock(&db->lock);
    for (;;) {
        while (!db->head && !db->stopping)
            pthread_cond_wait(&db->work, &db->lock);
        if (!db->head)
            break;
        if (db->n_waiting < expected)
            linger(db, expected, took_us / 4 < MAX_LINGER_US ? took_us / 4 : MAX_LINGER_US);
        write_req *group = take_group(db, &n);
        pthread_mutex_unlock(&db->lock);
        int64_t start_us = sv_mono_us();
        run_group(db->w, group);
        took_us = sv_mono_us() - start_us;
        pthread_mutex_lock(&db->lock);
        write_req *jobs = answer(group);
        if (jobs) {
            pthread_mutex_unlock(&db->lock);
            int n_jobs = finish_jobs(jobs);
            pthread_mutex_lock(&db->lock);
            db->n_calls -= n_jobs;
            if (db->n_calls == 0 && db->stopping)
                pthread_cond_broadcast(&db->idle);
        }
        expected = n + db->n_waiting < MAX_GROUP ? n + db->n_waiting : MAX_GROUP;
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

static void enqueue(sv_db *db, write_req *q) /* the lock is held */
{
    db->n_calls++;
    if (db->tail)
        db->tail->next = q;
    else
        db->head = q;
    db->tail = q;
    db->n_waiting++;
    pthread_cond_signal(&db->work);
}

void sv_db_submit(sv_db *db, sv_db_job *job)
{
    write_req *q = sv_xnew0(write_req);
    *q = (write_req){.fn = job->fn, .arg = job->arg, .rc = SV_OK, .job = job};
    pthread_mutex_lock(&db->lock);
    SV_ASSERT(!db->stopping); /* whoever closes has seen to it that nobody calls any more */
    enqueue(db, q);
    pthread_mutex_unlock(&db->lock);
}

sv_rc sv_db_write(sv_db *db, sv_db_fn fn, void *arg, sv_err *err)
{
    SV_ASSERT(!pthread_equal(pthread_self(), db->writer)); /* from inside fn it would wait for itself */
    write_req q = {.fn = fn, .arg = arg, .rc = SV_OK};
    pthread_cond_init(&q.cond, NULL);
    pthread_mutex_lock(&db->lock);
    if (db->stopping) {
        q.rc = sv_fail(&q.err, SV_ECANCELED, "the database is being closed");
    } else {
        enqueue(db, &q);
        while (!q.done)
            pthread_cond_wait(&q.cond, &db->lock);
        if (--db->n_calls == 0 && db->stopping)
            pthread_cond_broadcast(&db->idle);
    }
    pthread_mutex_unlock(&db->lock);
    pthread_cond_destroy(&q.cond);
    if (q.rc != SV_OK)
        *err = q.err;
    return q.rc;
}

/* ---- readers ---- */

static sv_rc reader_open(sv_dbw **out, const char *path, sv_err *err)
{
    SV_AUTO(conn_closep) sv_dbw *r = NULL;
    if (conn_open(&r, path, err) != SV_OK || exec(r, "PRAGMA query_only = ON", err) != SV_OK || conn_prepare(r, err) != SV_OK)
        return sv_wrap(err, "database '%s'", path);
    *out = SV_TAKE(r);
    return SV_OK;
}

static sv_rc reader_take(sv_db *db, sv_dbw **out, sv_err *err)
{
    pthread_mutex_lock(&db->lock);
    while (!db->idle_readers && db->n_readers == N_READERS && !db->stopping)
        pthread_cond_wait(&db->idle, &db->lock);
    if (db->stopping) {
        pthread_mutex_unlock(&db->lock);
        return sv_fail(err, SV_ECANCELED, "the database is being closed");
    }
    sv_dbw *r = db->idle_readers;
    if (r)
        db->idle_readers = r->next_idle;
    else
        db->n_readers++;
    db->n_calls++;
    pthread_mutex_unlock(&db->lock);
    if (r || reader_open(&r, db->path, err) == SV_OK) {
        *out = r;
        return SV_OK;
    }
    pthread_mutex_lock(&db->lock);
    db->n_readers--;
    db->n_calls--;
    pthread_cond_broadcast(&db->idle);
    pthread_mutex_unlock(&db->lock);
    return err->code;
}

static void reader_give(sv_db *db, sv_dbw *r)
{
    pthread_mutex_lock(&db->lock);
    r->next_idle = db->idle_readers;
    db->idle_readers = r;
    db->n_calls--;
    pthread_cond_broadcast(&db->idle); /* readers that wait, or sv_db_close */
    pthread_mutex_unlock(&db->lock);
}

sv_rc sv_db_read(sv_db *db, sv_db_read_fn fn, void *arg, sv_err *err)
{
    sv_dbw *r = NULL;
    if (reader_take(db, &r, err) != SV_OK)
        return err->code;
    sv_err why = {0};
    sv_rc rc = ctl(r, BEGIN_READ) == SQLITE_OK ? fn(r, arg, &why) : fail_sql(&why, r->h);
    conn_settle(r);
    if (in_transaction(r) && ctl(r, COMMIT) != SQLITE_OK)
        ctl(r, ROLLBACK);
    reader_give(db, r);
    if (rc != SV_OK)
        *err = why;
    return rc;
}

/* All pages in one step are one read transaction: consistent, and the writer goes on. */
static sv_rc copy_pages(sqlite3 *from, const char *to_path, sv_err *err)
{
    sqlite3 *to = NULL;
    sqlite3_backup *b = NULL;
    sv_rc rc = SV_OK;
    if (sqlite3_open_v2(to_path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK ||
        !(b = sqlite3_backup_init(to, "main", from, "main")))
        rc = fail_sql(err, to);
    if (b) {
        sqlite3_backup_step(b, -1);
        if (sqlite3_backup_finish(b) != SQLITE_OK) /* step's error too, and the reason is in `to` */
            rc = fail_sql(err, to);
    }
    sqlite3_close(to);
    return rc;
}

sv_rc sv_db_backup(sv_db *db, const char *to_path, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(to_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "create '%s'", to_path);
    sv_dbw *r = NULL;
    sv_rc rc = reader_take(db, &r, err);
    if (rc == SV_OK) {
        rc = copy_pages(r->h, to_path, err);
        reader_give(db, r);
    }
    if (rc == SV_OK && fsync(fd) < 0)
        rc = sv_fail_errno(err, "sync");
    if (rc == SV_OK)
        rc = sv_sync_parent(to_path, err);
    if (rc == SV_OK)
        return SV_OK;
    unlink(to_path);
    return sv_wrap(err, "back up to '%s'", to_path);
}

/* ---- statements ---- */

static cached *cache_slot(sv_dbw *w)
{
    if (w->n_cached < N_CACHED)
        return &w->cache[w->n_cached++];
    cached *oldest = NULL;
    for (int i = 0; i < N_CACHED; i++)
        if (!w->cache[i].busy && (!oldest || w->cache[i].used < oldest->used))
            oldest = &w->cache[i];
    if (oldest) {
        sv_smap_del(w->by_sql, sv_str_of(oldest->sql));
        sqlite3_finalize(oldest->s);
        free(oldest->sql);
        *oldest = (cached){0};
    }
    return oldest;
}

static bool only_blank(const char *s) { return s[strspn(s, " \t\r\n;")] == '\0'; }

static sv_rc prepare(sqlite3_stmt **out, sv_dbw *w, const char *sql, sv_err *err)
{
    const char *tail = "";
    if (sqlite3_prepare_v3(w->h, sql, -1, SQLITE_PREPARE_PERSISTENT, out, &tail) != SQLITE_OK)
        return fail_sql(err, w->h);
    if (*out && only_blank(tail))
        return SV_OK;
    bool some = *out != NULL;
    sqlite3_finalize(*out);
    return sv_fail(err, SV_EINVAL, some ? "more than one statement" : "no statement");
}

sv_rc sv_stmt_prep(sv_stmt *q, sv_dbw *w, const char *sql, sv_err *err)
{
    cached *c = sv_smap_get(w->by_sql, sv_str_of(sql));
    if (c && !c->busy) {
        c->busy = true;
        c->used = ++w->tick;
        *q = (sv_stmt){c->s, w};
        return SV_OK;
    }
    sqlite3_stmt *s = NULL;
    if (prepare(&s, w, sql, err) != SV_OK)
        return err->code;
    if (!c && (c = cache_slot(w))) { /* the same text in use twice at once: the second is not kept */
        *c = (cached){.sql = sv_xstrdup(sql), .s = s, .busy = true, .used = ++w->tick};
        sv_smap_put(w->by_sql, sv_str_of(sql), c);
    }
    *q = (sv_stmt){s, w};
    return SV_OK;
}

void sv_stmt_donep(sv_stmt *q)
{
    if (!q->s)
        return;
    sqlite3_reset(q->s);
    cached *c = NULL;
    for (int i = 0; i < q->w->n_cached && !c; i++)
        if (q->w->cache[i].s == q->s)
            c = &q->w->cache[i];
    if (c) {
        sqlite3_clear_bindings(q->s); /* values are not kept longer than their use */
        c->busy = false;
    } else {
        sqlite3_finalize(q->s);
    }
    *q = (sv_stmt){0};
}

void sv_stmt_reset(sv_stmt *q)
{
    sqlite3_reset(q->s);
    sqlite3_clear_bindings(q->s);
}

static void bound(sv_stmt *q, int rc)
{
    if (rc != SQLITE_OK && q->w->bind_rc == SQLITE_OK)
        q->w->bind_rc = rc;
}

void sv_bind_str(sv_stmt *q, int i, sv_str s)
{
    bound(q, s.p ? sqlite3_bind_text64(q->s, i, s.p, s.n, SQLITE_TRANSIENT, SQLITE_UTF8) : sqlite3_bind_null(q->s, i));
}

void sv_bind_cstr(sv_stmt *q, int i, const char *s) { sv_bind_str(q, i, sv_str_of(s)); }

void sv_bind_blob(sv_stmt *q, int i, const void *p, size_t n)
{
    bound(q, n > 0 ? sqlite3_bind_blob64(q->s, i, p, n, SQLITE_TRANSIENT) : sqlite3_bind_zeroblob(q->s, i, 0));
}

void sv_bind_i64(sv_stmt *q, int i, int64_t v) { bound(q, sqlite3_bind_int64(q->s, i, v)); }
void sv_bind_null(sv_stmt *q, int i) { bound(q, sqlite3_bind_null(q->s, i)); }

sv_rc sv_stmt_step(sv_stmt *q, bool *row, sv_err *err)
{
    int rc = q->w->bind_rc;
    q->w->bind_rc = SQLITE_OK;
    if (rc != SQLITE_OK)
        return sv_fail(err, rc_of(rc, NULL), "bind: %s", sqlite3_errstr(rc));
    rc = sqlite3_step(q->s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return fail_sql(err, q->w->h);
    *row = rc == SQLITE_ROW;
    return SV_OK;
}

sv_rc sv_stmt_run(sv_stmt *q, sv_err *err)
{
    for (bool row = true; row;)
        if (sv_stmt_step(q, &row, err) != SV_OK)
            return err->code;
    return SV_OK;
}

sv_str sv_col_str(sv_stmt *q, int i)
{
    if (sqlite3_column_type(q->s, i) == SQLITE_NULL)
        return (sv_str){NULL, 0};
    bool blob = sqlite3_column_type(q->s, i) == SQLITE_BLOB;
    const char *p = blob ? sqlite3_column_blob(q->s, i) : (const char *)sqlite3_column_text(q->s, i);
    size_t n = (size_t)sqlite3_column_bytes(q->s, i); /* after the conversion, which it counts */
    return p ? (sv_str){p, n} : (sv_str){"", 0};     /* an empty blob has no address */
}

int64_t sv_col_i64(sv_stmt *q, int i) { return sqlite3_column_int64(q->s, i); }
bool sv_col_null(sv_stmt *q, int i) { return sqlite3_column_type(q->s, i) == SQLITE_NULL; }
int64_t sv_db_changes(sv_dbw *w) { return sqlite3_changes64(w->h); }
sqlite3 *sv_dbw_handle(sv_dbw *w) { return w->h; }
