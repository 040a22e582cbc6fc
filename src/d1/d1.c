/* d1.c - which databases there are, and whose turn it is
 *
 * The catalogue is in memory as well: to submit a query must not block, and it has to know whether the database is the account's.
 *
 * Scheduling. A database with work waits in `ready`, unless a thread is at it. A thread takes the first whose account has not its share of threads
 * at work yet, does one job of it, and puts it back behind the others. So a database does one thing at a time and in order, many small databases
 * go round, and whoever fills all of an account's threads with slow queries stands only in his own way. The pool grows to MAX_THREADS; the keeper,
 * one thread more, lets jobs go that waited too long and closes what nobody uses.
 *
 * States of an entry: in the map (it exists) or not (deleted); `busy` (a thread, or the keeper, has the connection) or not; in `ready` or not. Only who is
 * busy with it touches `conn`; a deleted entry is freed by who finds it deleted, idle and without work.
 *
 * The log of a database goes into its file when it has grown (WAL_MOST) and when it is closed; before that it is kept for time travel.
 *
 * Lock: one, over everything but the connections. It is never held while SQLite or the disk is at work, but for the catalogue, which has its own. */
#include "d1/d1.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/thread.h"
#include "base/time.h"
#include "d1/d1_history.h"
#include "db/db.h"

enum { MAX_THREADS = 32, ACCOUNT_SHARE = 12, MAX_OPEN = 256, IDLE_MS = 30000, KEEPER_MS = 500 };
#define WAL_MOST ((int64_t)4 << 20)
#define WAL_DESPERATE ((int64_t)256 << 20) /* history cannot be kept, and the log must not fill the disk */

typedef struct account { int n_running; int64_t n_databases; } account;

typedef struct entry {
    sv_d1_info info;
    account *owner;
    sv_d1_conn *conn;
    sv_d1_job *first, **last; /* waiting */
    sv_d1_job *running;
    size_t n_waiting;
    bool busy, ready, gone;
    int64_t used_ms;
    struct entry *next_ready;
    struct entry *prev_active, *next_active; /* entries with a connection, work or a thread */
    bool active;
} entry;

struct sv_d1 {
    sv_db *catalogue;
    char *dir, *temp;
    pthread_mutex_t lock;
    pthread_cond_t work, kept;
    sv_smap *by_id;    /* id -> entry */
    sv_smap *by_name;  /* account/name -> entry */
    sv_smap *accounts; /* id -> account */
    entry *ready, **ready_last, *active;
    int n_threads, n_idle, n_open;
    bool closing;
    pthread_t threads[MAX_THREADS], keeper;
};

static const char *const migrations[] = {
    "CREATE TABLE databases (id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, replication TEXT NOT NULL, created_ms INTEGER NOT NULL,"
    " UNIQUE (account, name)) STRICT"};

/* ---- the catalogue in memory ---- */

static sv_str name_key(char out[512], const char *account_id, sv_str name)
{
    int n = snprintf(out, 512, "%s/%.*s", account_id, (int)name.n, name.p);
    return (sv_str){out, n < 512 ? (size_t)n : 511};
}

static account *account_of(sv_d1 *d, const char *id)
{
    account *a = sv_smap_get(d->accounts, sv_str_of(id));
    if (!a) {
        a = sv_xnew0(account);
        sv_smap_put(d->accounts, sv_str_of(id), a);
    }
    return a;
}

static entry *add_entry(sv_d1 *d, const sv_d1_info *info)
{
    char key[512];
    entry *e = sv_xnew0(entry);
    e->info = *info;
    e->last = &e->first;
    e->owner = account_of(d, info->account_id);
    e->owner->n_databases++;
    sv_smap_put(d->by_id, sv_str_of(e->info.id), e);
    sv_smap_put(d->by_name, name_key(key, info->account_id, sv_str_of(info->name)), e);
    return e;
}

static entry *find(sv_d1 *d, const char *account_id, sv_str id_or_name)
{
    char key[512];
    entry *e = id_or_name.n == 36 ? sv_smap_get(d->by_id, id_or_name) : NULL;
    if (e && strcmp(e->info.account_id, account_id) == 0)
        return e;
    return id_or_name.n <= 255 ? sv_smap_get(d->by_name, name_key(key, account_id, id_or_name)) : NULL;
}

static sv_rc no_such(sv_err *err, sv_str what)
{
    return sv_fail_api(err, SV_ENOENT, 7404, "The database %.*s could not be found", (int)(what.n > 64 ? 64 : what.n), what.p);
}

static sv_rc load(sv_dbw *r, void *arg, sv_err *err)
{
    sv_d1 *d = arg;
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, account, name, replication, created_ms FROM databases", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&q, &row, err) == SV_OK) {
        if (!row)
            return SV_OK;
        sv_d1_info i = {.created_ms = sv_col_i64(&q, 4)};
        char *to[] = {i.id, i.account_id, i.name, i.read_replication};
        size_t size[] = {sizeof i.id, sizeof i.account_id, sizeof i.name, sizeof i.read_replication};
        for (int k = 0; k < 4; k++) {
            sv_str s = sv_col_str(&q, k);
            snprintf(to[k], size[k], "%.*s", (int)s.n, s.p);
        }
        add_entry(d, &i);
    }
    return err->code;
}

static sv_rc insert(sv_dbw *w, void *arg, sv_err *err)
{
    const sv_d1_info *i = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO databases (id, account, name, replication, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, i->id);
    sv_bind_cstr(&q, 2, i->account_id);
    sv_bind_cstr(&q, 3, i->name);
    sv_bind_cstr(&q, 4, i->read_replication);
    sv_bind_i64(&q, 5, i->created_ms);
    return sv_stmt_run(&q, err);
}

static sv_rc erase(sv_dbw *w, void *arg, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM databases WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, arg);
    return sv_stmt_run(&q, err);
}

static sv_rc update(sv_dbw *w, void *arg, sv_err *err)
{
    const sv_d1_info *i = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE databases SET replication = ?2 WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, i->id);
    sv_bind_cstr(&q, 2, i->read_replication);
    return sv_stmt_run(&q, err);
}

static sv_rc check_name(sv_str name, sv_err *err)
{
    if (name.n == 0 || name.n > (size_t)sv_limit_value(SV_LIMIT_D1_NAME_BYTES) || !sv_utf8_valid(name))
        return sv_fail_api(err, SV_EINVAL, 7400, "'name': text of 1 to %lld bytes", (long long)sv_limit_value(SV_LIMIT_D1_NAME_BYTES));
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < 0x20 || name.p[i] == '/' || name.p[i] == 0x7f)
            return sv_fail_api(err, SV_EINVAL, 7400, "'name': neither control characters nor '/'");
    return SV_OK;
}

static sv_rc check_mode(const char *mode, sv_err *err)
{
    return strcmp(mode, "auto") == 0 || strcmp(mode, "disabled") == 0
               ? SV_OK
               : sv_fail_api(err, SV_EINVAL, 7400, "'read_replication.mode' is \"auto\" or \"disabled\"");
}

sv_rc sv_d1_create(sv_d1 *d, const char *account_id, sv_str name, const char *read_replication, sv_d1_info *out, sv_err *err)
{
    sv_d1_info i = {.created_ms = sv_now_ms()};
    if (check_name(name, err) != SV_OK || check_mode(read_replication, err) != SV_OK)
        return err->code;
    sv_uuid4(i.id);
    snprintf(i.account_id, sizeof i.account_id, "%s", account_id);
    snprintf(i.name, sizeof i.name, "%.*s", (int)name.n, name.p);
    snprintf(i.read_replication, sizeof i.read_replication, "%s", read_replication);
    pthread_mutex_lock(&d->lock);
    bool full = account_of(d, account_id)->n_databases >= sv_limit_value(SV_LIMIT_D1_DATABASES);
    pthread_mutex_unlock(&d->lock);
    if (full)
        return sv_fail_api(err, SV_ELIMIT, 7406, "The account has %lld databases, which is the most", (long long)sv_limit_value(SV_LIMIT_D1_DATABASES));
    if (sv_db_write(d->catalogue, insert, &i, err) != SV_OK)
        return err->code == SV_ECONFLICT ? sv_fail_api(err, SV_ECONFLICT, 7502, "A database with the name '%s' already exists", i.name) : err->code;
    pthread_mutex_lock(&d->lock);
    add_entry(d, &i);
    pthread_mutex_unlock(&d->lock);
    *out = i;
    return SV_OK;
}

sv_rc sv_d1_find(sv_d1 *d, const char *account_id, sv_str id_or_name, sv_d1_info *out, sv_err *err)
{
    pthread_mutex_lock(&d->lock);
    entry *e = find(d, account_id, id_or_name);
    if (e && out)
        *out = e->info;
    pthread_mutex_unlock(&d->lock);
    return e ? SV_OK : no_such(err, id_or_name);
}

static int by_age(const void *a, const void *b)
{
    const sv_d1_info *x = a, *y = b;
    if (x->created_ms != y->created_ms)
        return x->created_ms < y->created_ms ? -1 : 1;
    return strcmp(x->id, y->id);
}

size_t sv_d1_list(sv_d1 *d, const char *account_id, sv_str part, sv_d1_info **out)
{
    size_t n = 0, at = 0;
    sv_str key;
    void *value;
    pthread_mutex_lock(&d->lock);
    sv_d1_info *all = sv_xcalloc((size_t)account_of(d, account_id)->n_databases + 1, sizeof *all);
    while (sv_smap_next(d->by_id, &at, &key, &value)) {
        const entry *e = value;
        if (strcmp(e->info.account_id, account_id) == 0 && (part.n == 0 || memmem(e->info.name, strlen(e->info.name), part.p, part.n)))
            all[n++] = e->info;
    }
    pthread_mutex_unlock(&d->lock);
    qsort(all, n, sizeof *all, by_age);
    *out = all;
    return n;
}

sv_rc sv_d1_set_replication(sv_d1 *d, const char *account_id, const char *id, const char *mode, sv_err *err)
{
    sv_d1_info i;
    if (check_mode(mode, err) != SV_OK || sv_d1_find(d, account_id, sv_str_of(id), &i, err) != SV_OK)
        return err->code;
    snprintf(i.read_replication, sizeof i.read_replication, "%s", mode);
    if (sv_db_write(d->catalogue, update, &i, err) != SV_OK)
        return err->code;
    pthread_mutex_lock(&d->lock);
    entry *e = find(d, account_id, sv_str_of(i.id));
    if (e)
        e->info = i;
    pthread_mutex_unlock(&d->lock);
    return SV_OK;
}

/* ---- files ---- */

static void paths(const sv_d1 *d, const char *id, char file[512], char history[512])
{
    snprintf(file, 512, "%s/%s.sqlite", d->dir, id);
    snprintf(history, 512, "%s/%s.history", d->dir, id);
}

static void remove_files(const sv_d1 *d, const char *id)
{
    char file[512], history[512], beside[520];
    sv_err err;
    paths(d, id, file, history);
    unlink(file);
    snprintf(beside, sizeof beside, "%s-wal", file);
    unlink(beside);
    snprintf(beside, sizeof beside, "%s-shm", file);
    unlink(beside);
    if (sv_remove_tree(history, &err) != SV_OK)
        sv_log(SV_WARN, "d1.remove", "id=%s error='%s'", id, err.msg);
}

/* The log goes into the file, and into the history before that. What fails here fails nobody's request: the log stays as it is. */
static void settle(sv_d1 *d, const char *id, sv_d1_conn *c)
{
    char file[512], history[512];
    sv_err err = {0};
    paths(d, id, file, history);
    sv_rc rc = sv_d1_history_keep(file, history, &err);
    if (rc == SV_OK || sv_d1_conn_wal_bytes(c) > WAL_DESPERATE)
        rc = sv_d1_conn_checkpoint(c, &err);
    if (rc == SV_OK)
        rc = sv_d1_history_base_if_due(file, history, &err);
    static sv_log_gate gate;
    if (rc != SV_OK && sv_log_may(&gate, 10))
        sv_log(SV_ERROR, "d1.checkpoint", "id=%s error='%s' the log stays", id, err.msg);
}

static sv_rc open_conn(sv_d1 *d, const char *id, sv_d1_conn **out, sv_err *err)
{
    char file[512], history[512];
    paths(d, id, file, history);
    if (sv_d1_conn_open(out, file, err) != SV_OK)
        return err->code;
    if (sv_d1_conn_wal_bytes(*out) > 0 || !sv_file_exists(history))
        settle(d, id, *out); /* a crash left a log, or the history begins */
    return SV_OK;
}

sv_rc sv_d1_state_at(sv_d1 *d, const char *id, sv_d1_conn *c, int64_t at_s, sv_d1_version *out, sv_err *err)
{
    char file[512], history[512];
    paths(d, id, file, history);
    sv_d1_version now = sv_d1_conn_version(c);
    if (at_s >= (int64_t)now.at_s) {
        *out = now;
        return SV_OK;
    }
    if (at_s < (sv_now_ms() - sv_limit_value(SV_LIMIT_D1_HISTORY_MS)) / 1000)
        return sv_fail_api(err, SV_ENOENT, 7400, "the time is longer ago than history is kept");
    settle(d, id, c);
    return sv_d1_history_find(history, UINT32_MAX, at_s, NULL, out, err);
}

sv_rc sv_d1_restore(sv_d1 *d, const char *id, sv_d1_conn *c, sv_d1_version to, sv_d1_version *out, sv_err *err)
{
    char file[512], history[512], made[560];
    sv_d1_version found, before = sv_d1_conn_version(c);
    paths(d, id, file, history);
    snprintf(made, sizeof made, "%s/%s.restored", d->temp, id);
    settle(d, id, c);
    if (sv_d1_conn_wal_bytes(c) > 0)
        return sv_fail(err, SV_EIO, "the database's log could not be emptied, which a restore needs");
    if (sv_d1_history_find(history, to.seq, INT64_MAX, made, &found, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *restored = NULL;
    sv_rc rc = found.seq == to.seq ? SV_OK : sv_fail_api(err, SV_ENOENT, 7400, "the state of that bookmark is not kept");
    if (rc == SV_OK) /* what was kept is proven to be a database before it takes the place of one */
        rc = sv_d1_conn_open(&restored, made, err);
    if (rc == SV_OK)
        rc = sv_d1_conn_touch(restored, before.seq, err);
    if (rc == SV_OK)
        rc = sv_d1_conn_checkpoint(restored, err);
    if (rc == SV_OK) {
        *out = sv_d1_conn_version(restored);
        restored = sv_d1_conn_close(restored);
        rc = rename(made, file) == 0 ? SV_OK : sv_fail_errno(err, "put the restored database in place");
    }
    unlink(made);
    static const char *const beside[] = {"-wal", "-shm"};
    for (size_t i = 0; i < SV_LEN(beside); i++) {
        char path[600];
        snprintf(path, sizeof path, "%s%s", made, beside[i]);
        unlink(path);
    }
    if (rc != SV_OK)
        return rc;
    sv_d1_conn_retire(c);
    return sv_sync(d->dir, err) == SV_OK ? sv_d1_history_base(file, history, err) : err->code;
}

/* ---- whose turn ---- */

static void set_active(sv_d1 *d, entry *e, bool on)
{
    if (e->active == on)
        return;
    e->active = on;
    if (on) {
        e->prev_active = NULL;
        e->next_active = d->active;
        if (d->active)
            d->active->prev_active = e;
        d->active = e;
        return;
    }
    if (e->next_active)
        e->next_active->prev_active = e->prev_active;
    *(e->prev_active ? &e->prev_active->next_active : &d->active) = e->next_active;
}

static void make_ready(sv_d1 *d, entry *e)
{
    if (e->ready || e->busy || !e->first || d->closing)
        return;
    e->ready = true;
    e->next_ready = NULL;
    *d->ready_last = e;
    d->ready_last = &e->next_ready;
    pthread_cond_signal(&d->work);
}

static entry *take_ready(sv_d1 *d)
{
    for (entry **p = &d->ready; *p; p = &(*p)->next_ready) {
        entry *e = *p;
        if (e->owner->n_running >= ACCOUNT_SHARE)
            continue;
        *p = e->next_ready;
        if (!*p)
            d->ready_last = p;
        e->ready = false;
        return e;
    }
    return NULL;
}

static sv_d1_job *take_job(entry *e)
{
    sv_d1_job *j = e->first;
    if (!j)
        return NULL;
    e->first = j->next;
    if (!e->first)
        e->last = &e->first;
    e->n_waiting--;
    return j;
}

/* With the lock, which is given away meanwhile: everything that can be done with an entry is over, its memory too. */
static void bury(sv_d1 *d, entry *e)
{
    sv_d1_conn *c = e->conn;
    sv_d1_job *jobs = e->first;
    __atomic_sub_fetch(&d->n_open, c != NULL, __ATOMIC_RELAXED); /* others count without the lock */
    set_active(d, e, false);
    pthread_mutex_unlock(&d->lock);
    sv_err err = {0};
    (void)!no_such(&err, sv_str_of(e->info.id));
    while (jobs) {
        sv_d1_job *j = jobs;
        jobs = j->next;
        j->run(j, NULL, &err);
    }
    sv_d1_conn_close(c);
    remove_files(d, e->info.id);
    free(e);
    pthread_mutex_lock(&d->lock);
}

/* A thread is done with an entry. With the lock. */
static void release(sv_d1 *d, entry *e)
{
    e->busy = false;
    e->running = NULL;
    e->used_ms = sv_mono_ms();
    if (e->gone)
        bury(d, e);
    else if (e->first)
        make_ready(d, e);
    else
        set_active(d, e, e->conn != NULL);
}

static void do_job(sv_d1 *d, entry *e, sv_d1_job *j)
{
    sv_err err = {0};
    if (atomic_load(&j->cancel))
        (void)!sv_fail(&err, SV_ECANCELED, "the client has gone");
    else if (!e->conn && open_conn(d, e->info.id, &e->conn, &err) == SV_OK)
        __atomic_add_fetch(&d->n_open, 1, __ATOMIC_RELAXED);
    if (err.code != SV_OK || !e->conn) {
        j->run(j, NULL, &err);
        return;
    }
    sv_d1_conn *c = e->conn;
    j->run(j, c, NULL);
    if (sv_d1_conn_spent(c)) {
        e->conn = sv_d1_conn_close(c);
        __atomic_sub_fetch(&d->n_open, 1, __ATOMIC_RELAXED);
    } else if (sv_d1_conn_wal_bytes(c) > WAL_MOST) {
        settle(d, e->info.id, c);
    }
}

static void *work(void *arg)
{
    sv_d1 *d = arg;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        entry *e = take_ready(d);
        if (!e) {
            if (d->closing)
                break;
            d->n_idle++;
            pthread_cond_wait(&d->work, &d->lock);
            d->n_idle--;
            continue;
        }
        sv_d1_job *j = take_job(e);
        if (!j) { /* the keeper let it go */
            release(d, e);
            continue;
        }
        e->busy = true;
        e->running = j;
        e->owner->n_running++;
        pthread_mutex_unlock(&d->lock);
        do_job(d, e, j);
        pthread_mutex_lock(&d->lock);
        if (e->owner->n_running-- == ACCOUNT_SHARE)
            pthread_cond_broadcast(&d->work); /* its other databases were passed over */
        release(d, e);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

sv_rc sv_d1_submit(sv_d1 *d, const char *account_id, const char *id, sv_d1_job *job, sv_err *err)
{
    job->next = NULL;
    job->queued_ms = sv_mono_ms();
    pthread_mutex_lock(&d->lock);
    entry *e = find(d, account_id, sv_str_of(id));
    bool full = e && e->n_waiting >= (size_t)sv_limit_value(SV_LIMIT_D1_QUEUE);
    if (e && !full && !d->closing) {
        *e->last = job;
        e->last = &job->next;
        e->n_waiting++;
        set_active(d, e, true);
        make_ready(d, e);
        if (d->n_idle == 0 && d->n_threads < MAX_THREADS)
            d->threads[d->n_threads++] = sv_thread_start("d1", work, d);
    }
    bool closing = d->closing;
    pthread_mutex_unlock(&d->lock);
    if (!e)
        return no_such(err, sv_str_of(id));
    if (full || closing)
        return sv_fail_api(err, SV_ELIMIT, 7500, "D1 DB is overloaded. Too many requests queued.");
    return SV_OK;
}

sv_rc sv_d1_delete(sv_d1 *d, const char *account_id, const char *id, sv_err *err)
{
    char key[512];
    sv_d1_info i;
    if (sv_d1_find(d, account_id, sv_str_of(id), &i, err) != SV_OK || sv_db_write(d->catalogue, erase, i.id, err) != SV_OK)
        return err->code;
    pthread_mutex_lock(&d->lock);
    entry *e = sv_smap_del(d->by_id, sv_str_of(i.id));
    if (e) {
        sv_smap_del(d->by_name, name_key(key, i.account_id, sv_str_of(i.name)));
        e->owner->n_databases--;
        e->gone = true;
        if (e->running)
            atomic_store(&e->running->cancel, true);
        for (entry **p = &d->ready; e->ready && *p; p = &(*p)->next_ready)
            if (*p == e) {
                *p = e->next_ready;
                if (!*p)
                    d->ready_last = p;
                e->ready = false;
                break;
            }
        if (!e->busy)
            bury(d, e);
    }
    bool found = e != NULL;
    pthread_mutex_unlock(&d->lock);
    return found ? SV_OK : no_such(err, sv_str_of(id));
}

/* ---- the keeper ---- */

/* Takes out of `e` what waited too long. */
static sv_d1_job *overdue(entry *e, int64_t now_ms)
{
    sv_d1_job *out = NULL, **out_last = &out;
    for (sv_d1_job **p = &e->first; *p;) {
        sv_d1_job *j = *p;
        if (!atomic_load(&j->cancel) && (j->patient || now_ms - j->queued_ms < sv_limit_value(SV_LIMIT_D1_WAIT_MS))) {
            p = &j->next;
            continue;
        }
        *p = j->next;
        e->n_waiting--;
        j->next = NULL;
        *out_last = j;
        out_last = &j->next;
    }
    e->last = &e->first;
    while (*e->last)
        e->last = &(*e->last)->next;
    return out;
}

static void close_idle(sv_d1 *d, entry *e)
{
    e->busy = true;
    pthread_mutex_unlock(&d->lock);
    if (sv_d1_conn_wal_bytes(e->conn) > 0)
        settle(d, e->info.id, e->conn);
    e->conn = sv_d1_conn_close(e->conn);
    __atomic_sub_fetch(&d->n_open, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&d->lock);
    release(d, e);
}

static entry *one_to_close(sv_d1 *d, int64_t now_ms)
{
    entry *oldest = NULL;
    bool many = __atomic_load_n(&d->n_open, __ATOMIC_RELAXED) > MAX_OPEN;
    for (entry *e = d->active; e; e = e->next_active)
        if (!e->busy && !e->first && e->conn && (!oldest || e->used_ms < oldest->used_ms))
            oldest = e;
    return oldest && (many || now_ms - oldest->used_ms > IDLE_MS) ? oldest : NULL;
}

static void *keep(void *arg)
{
    sv_d1 *d = arg;
    pthread_mutex_lock(&d->lock);
    while (!d->closing) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += KEEPER_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&d->kept, &d->lock, &until);
        int64_t now = sv_mono_ms();
        sv_d1_job *late = NULL;
        for (entry *e = d->active; e && !late; e = e->next_active)
            late = e->first ? overdue(e, now) : NULL;
        if (late) {
            pthread_mutex_unlock(&d->lock);
            sv_err err = {0};
            (void)!sv_fail_api(&err, SV_ELIMIT, 7500, "D1 DB is overloaded. Requests queued for too long.");
            for (sv_d1_job *j = late, *next; j; j = next) {
                next = j->next;
                j->run(j, NULL, &err);
            }
            pthread_mutex_lock(&d->lock);
        }
        for (entry *e; !d->closing && (e = one_to_close(d, now));)
            close_idle(d, e);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* ---- open, close ---- */

/* A crash may come between the row of a deleted database and its files. */
static void remove_strangers(sv_d1 *d)
{
    DIR *dir = opendir(d->dir);
    for (struct dirent *f; dir && (f = readdir(dir));) {
        char id[37];
        if (strlen(f->d_name) < 43 || f->d_name[36] != '.')
            continue;
        snprintf(id, sizeof id, "%s", f->d_name);
        if (!sv_smap_get(d->by_id, (sv_str){id, 36}))
            remove_files(d, id);
    }
    if (dir)
        closedir(dir);
}

sv_rc sv_d1_open(sv_d1 **out, const char *data_dir, sv_err *err)
{
    SV_AUTO(sv_d1_closep) sv_d1 *d = sv_xnew0(sv_d1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_cond_init(&d->kept, &monotonic);
    pthread_condattr_destroy(&monotonic);
    d->by_id = sv_smap_new();
    d->by_name = sv_smap_new();
    d->accounts = sv_smap_new();
    d->ready_last = &d->ready;
    d->dir = sv_xasprintf("%s/d1", data_dir);
    d->temp = sv_xasprintf("%s/d1/temp", data_dir);
    SV_AUTO(sv_freep) char *catalogue = sv_xasprintf("%s/d1.db", data_dir);
    if (sv_remove_tree(d->temp, err) != SV_OK || sv_mkdir_p(d->temp, 0700, err) != SV_OK ||
        sv_db_open(&d->catalogue, catalogue, migrations, SV_LEN(migrations), err) != SV_OK || sv_db_read(d->catalogue, load, d, err) != SV_OK)
        return err->code;
    remove_strangers(d);
    d->keeper = sv_thread_start("d1-keeper", keep, d);
    *out = SV_TAKE(d);
    return SV_OK;
}

static void close_entry(sv_d1 *d, entry *e)
{
    sv_err err = {0};
    (void)!sv_fail_api(&err, SV_ELIMIT, 7500, "D1 DB is overloaded. The platform is stopping.");
    for (sv_d1_job *j; (j = take_job(e));)
        j->run(j, NULL, &err);
    if (e->conn && sv_d1_conn_wal_bytes(e->conn) > 0)
        settle(d, e->info.id, e->conn);
    sv_d1_conn_close(e->conn);
    free(e);
}

sv_d1 *sv_d1_close(sv_d1 *d)
{
    if (!d)
        return NULL;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    d->ready = NULL; /* nothing new is begun */
    d->ready_last = &d->ready;
    for (entry *e = d->active; e; e = e->next_active) {
        e->ready = false;
        if (e->running)
            atomic_store(&e->running->cancel, true);
    }
    pthread_cond_broadcast(&d->work);
    pthread_cond_broadcast(&d->kept);
    pthread_mutex_unlock(&d->lock);
    for (int i = 0; i < d->n_threads; i++)
        pthread_join(d->threads[i], NULL);
    if (d->keeper)
        pthread_join(d->keeper, NULL);
    size_t at = 0;
    sv_str key;
    void *value;
    while (sv_smap_next(d->by_id, &at, &key, &value))
        close_entry(d, value);
    for (at = 0; sv_smap_next(d->accounts, &at, &key, &value);)
        free(value);
    sv_smap_free(d->by_id);
    sv_smap_free(d->by_name);
    sv_smap_free(d->accounts);
    sv_db_close(d->catalogue);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->kept);
    pthread_mutex_destroy(&d->lock);
    free(d->dir);
    free(d->temp);
    free(d);
    return NULL;
}

const char *sv_d1_temp_dir(const sv_d1 *d) { return d->temp; }

/* ---- bookmarks ---- */

void sv_d1_bookmark(char out[64], const char *id, sv_d1_version v)
{
    int n = snprintf(out, 64, "%08x-%08x-00000000-", v.seq, v.at_s);
    for (; *id && n < 63; id++)
        if (*id != '-')
            out[n++] = *id;
    out[n] = '\0';
}

sv_rc sv_d1_bookmark_parse(sv_d1_version *out, const char *id, sv_str text, sv_err *err)
{
    char whole[64], again[64];
    sv_d1_version v;
    if (text.n != 59 || memchr(text.p, '\0', text.n))
        return sv_fail_api(err, SV_EINVAL, 7400, "not a bookmark: it has 59 characters");
    snprintf(whole, sizeof whole, "%.*s", (int)text.n, text.p);
    if (sscanf(whole, "%8x-%8x-", &v.seq, &v.at_s) != 2)
        return sv_fail_api(err, SV_EINVAL, 7400, "not a bookmark");
    sv_d1_bookmark(again, id, v);
    if (strcmp(whole, again) != 0)
        return sv_fail_api(err, SV_EINVAL, 7400, "the bookmark is not of this database");
    *out = v;
    return SV_OK;
}
