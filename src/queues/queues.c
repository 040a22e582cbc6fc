/* queues.c - the store's life, queues and their consumers
 *
 * Queues and consumers are few and asked for at every message, so all of them are in memory, with their backlogs; the database is what
 * outlives us. A change of them is: checked, written, synced, then made in memory, one at a time (`admin`).
 *
 * Deleting a queue marks its row; the sweeper removes its messages in portions, so that nobody waits for a million of them. The same way
 * go messages that are older than their queue keeps them.
 *
 * DATA/queues/queues.db
 *   queues, consumers    one row each
 *   messages             no: the place in the order, over all queues; waiting = 1: delayed or leased until due_ms
 *
 * Invariants:
 *   1. What is in memory of queues and consumers is committed, and differs from the database only while `admin` is held.
 *   2. A backlog in memory is the count of committed rows, and nothing but sv_tally_apply changes it.
 *   3. No message row belongs to a queue that is gone for longer than a sweep; none is read by anybody. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"
#include "queues/queues_impl.h"

enum { TICK_MS = 100, SWEEP_TICKS = 50, SWEEP_ROWS = 500, DEFAULT_RETENTION_S = 345600 };

static const char *const migrations[] = {
    "CREATE TABLE queues (no INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, name TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, delay_s INTEGER NOT NULL, retention_s INTEGER NOT NULL,"
    " paused INTEGER NOT NULL, gone INTEGER NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX queues_name ON queues (account, name) WHERE gone = 0;"
    "CREATE TABLE consumers (queue INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, script TEXT NOT NULL,"
    " dead_letter TEXT NOT NULL, batch INTEGER NOT NULL, max_retries INTEGER NOT NULL, wait_ms INTEGER NOT NULL,"
    " concurrency INTEGER NOT NULL, retry_delay_s INTEGER NOT NULL, visibility_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE TABLE messages (no INTEGER PRIMARY KEY, queue INTEGER NOT NULL, waiting INTEGER NOT NULL, due_ms INTEGER, lease INTEGER,"
    " id BLOB NOT NULL, sent_ms INTEGER NOT NULL, kept_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, type INTEGER NOT NULL,"
    " n INTEGER NOT NULL, body BLOB NOT NULL);"
    "CREATE INDEX messages_order ON messages (queue, waiting, no);"
    "CREATE INDEX messages_due ON messages (due_ms) WHERE waiting = 1;",
};

/* ---- in memory ---- */

/* Into out, which has room for an account, a name and what is between them; longer texts than those name nothing. */
static sv_str name_key(char out[128], sv_str account, sv_str name)
{
    if (account.n > 32 || name.n > SV_QUEUES_MAX_NAME)
        return (sv_str){0};
    int n = snprintf(out, 128, "%.*s/%.*s", (int)account.n, account.n ? account.p : "", (int)name.n, name.n ? name.p : "");
    return (sv_str){out, (size_t)n};
}

static sv_str no_key(const int64_t *no) { return (sv_str){(const char *)no, sizeof *no}; }

static void remember(sv_queues *q, const sv_queues_info *info)
{
    char key[128];
    sv_queues_info *one = sv_xnew0(sv_queues_info);
    *one = *info;
    pthread_mutex_lock(&q->lock);
    if (q->n_all == q->cap_all) {
        q->cap_all = q->cap_all ? q->cap_all * 2 : 16;
        q->all = sv_xrealloc(q->all, q->cap_all, sizeof *q->all);
    }
    q->all[q->n_all++] = one;
    sv_smap_put(q->by_id, sv_str_of(one->id), one);
    sv_smap_put(q->by_no, no_key(&one->no), one);
    sv_smap_put(q->by_name, name_key(key, sv_str_of(one->account), sv_str_of(one->name)), one);
    pthread_mutex_unlock(&q->lock);
}

static void forget(sv_queues *q, int64_t no)
{
    char key[128];
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < q->n_all; i++)
        if (q->all[i]->no == no) {
            sv_smap_del(q->by_id, sv_str_of(q->all[i]->id));
            sv_smap_del(q->by_no, no_key(&no));
            sv_smap_del(q->by_name, name_key(key, sv_str_of(q->all[i]->account), sv_str_of(q->all[i]->name)));
            free(q->all[i]);
            memmove(&q->all[i], &q->all[i + 1], (--q->n_all - i) * sizeof *q->all);
            break;
        }
    pthread_mutex_unlock(&q->lock);
}

/* Replaces everything but the backlog. */
static void replace(sv_queues *q, const sv_queues_info *info)
{
    char key[128];
    pthread_mutex_lock(&q->lock);
    sv_queues_info *one = sv_smap_get(q->by_no, no_key(&info->no));
    if (one) {
        sv_queues_info old = *one;
        sv_smap_del(q->by_name, name_key(key, sv_str_of(old.account), sv_str_of(old.name)));
        *one = *info;
        sv_smap_put(q->by_name, name_key(key, sv_str_of(one->account), sv_str_of(one->name)), one);
        one->n = old.n;
        one->n_ready = old.n_ready;
        one->bytes = old.bytes;
        one->oldest_ms = old.oldest_ms;
    }
    pthread_mutex_unlock(&q->lock);
}

void sv_queues_tell(sv_queues *q, int64_t queue)
{
    pthread_mutex_lock(&q->lock);
    void (*changed)(void *, int64_t) = q->changed;
    void *ctx = q->ctx;
    pthread_mutex_unlock(&q->lock);
    if (changed)
        changed(ctx, queue);
}

static sv_rc not_found(sv_err *err, sv_str what)
{
    return sv_fail_api(err, SV_ENOENT, 11000, "Queue '%.*s' does not exist.", what.n < 64 ? (int)what.n : 64, what.p ? what.p : "");
}

sv_rc sv_queues_find(sv_queues *q, sv_str account, sv_str id, sv_queues_info *out, sv_err *err)
{
    pthread_mutex_lock(&q->lock);
    const sv_queues_info *one = sv_smap_get(q->by_id, id);
    bool found = one && sv_str_is(account, one->account);
    if (found)
        *out = *one;
    pthread_mutex_unlock(&q->lock);
    return found ? SV_OK : not_found(err, id);
}

sv_rc sv_queues_find_no(sv_queues *q, int64_t no, sv_queues_info *out, sv_err *err)
{
    pthread_mutex_lock(&q->lock);
    const sv_queues_info *one = sv_smap_get(q->by_no, no_key(&no));
    if (one)
        *out = *one;
    pthread_mutex_unlock(&q->lock);
    return one ? SV_OK : sv_fail_api(err, SV_ENOENT, 11000, "The queue does not exist any more.");
}

sv_rc sv_queues_find_name(sv_queues *q, sv_str account, sv_str name, sv_queues_info *out, sv_err *err)
{
    char text[128];
    sv_str key = name_key(text, account, name);
    pthread_mutex_lock(&q->lock);
    const sv_queues_info *one = key.n ? sv_smap_get(q->by_name, key) : NULL;
    if (one)
        *out = *one;
    pthread_mutex_unlock(&q->lock);
    return one ? SV_OK : not_found(err, name);
}

void sv_queues_list(sv_queues *q, sv_str account, sv_queues_info **out, size_t *n)
{
    *n = 0;
    pthread_mutex_lock(&q->lock);
    *out = sv_xcalloc(q->n_all + 1, sizeof **out);
    for (size_t i = 0; i < q->n_all; i++)
        if (account.n == 0 || sv_str_is(account, q->all[i]->account))
            (*out)[(*n)++] = *q->all[i];
    pthread_mutex_unlock(&q->lock);
}

/* ---- tallies ---- */

void sv_tally_init(sv_tally *t) { *t = (sv_tally){.due_ms = INT64_MAX}; }
void sv_tally_done(sv_tally *t) { free(t->v); }

void sv_tally_add(sv_tally *t, int64_t queue, int64_t n, int64_t bytes, int64_t ready)
{
    size_t i = t->n;
    while (i > 0 && t->v[i - 1].queue != queue)
        i--;
    if (i == 0) {
        if (t->n == t->cap) {
            t->cap = t->cap ? t->cap * 2 : 8;
            t->v = sv_xrealloc(t->v, t->cap, sizeof *t->v);
        }
        memset(&t->v[t->n], 0, sizeof *t->v);
        t->v[t->n++].queue = queue;
        i = t->n;
    }
    t->v[i - 1].n += n;
    t->v[i - 1].bytes += bytes;
    t->v[i - 1].ready += ready;
    t->v[i - 1].removed |= n <= 0;
}

/* The oldest message is the first of those that are ready or, of the delayed and leased, the first by number: near enough where some were
 * retried, and two steps in an index. */
sv_rc sv_tally_oldest(sv_queues *q, sv_tally *t, sv_dbw *w, sv_err *err)
{
    for (size_t i = 0; i < t->n; i++) {
        sv_queues_info info;
        sv_err gone = {0};
        t->v[i].oldest_ms = -1;
        if (sv_queues_find_no(q, t->v[i].queue, &info, &gone) != SV_OK || (!t->v[i].removed && info.oldest_ms))
            continue;
        int64_t oldest = 0;
        for (int waiting = 0; waiting < 2; waiting++) {
            bool row = false;
            SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
            if (sv_stmt_prep(&s, w, "SELECT sent_ms FROM messages WHERE queue = ?1 AND waiting = ?2 ORDER BY no LIMIT 1", err) != SV_OK)
                return err->code;
            sv_bind_i64(&s, 1, t->v[i].queue);
            sv_bind_i64(&s, 2, waiting);
            if (sv_stmt_step(&s, &row, err) != SV_OK)
                return err->code;
            if (row && (!oldest || sv_col_i64(&s, 0) < oldest))
                oldest = sv_col_i64(&s, 0);
        }
        t->v[i].oldest_ms = oldest;
    }
    return SV_OK;
}

void sv_tally_apply(sv_queues *q, sv_tally *t)
{
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < t->n; i++) {
        sv_queues_info *one = sv_smap_get(q->by_no, no_key(&t->v[i].queue));
        if (!one)
            continue;
        one->n += t->v[i].n;
        one->bytes += t->v[i].bytes;
        one->n_ready += t->v[i].ready;
        if (t->v[i].oldest_ms >= 0)
            one->oldest_ms = t->v[i].oldest_ms;
    }
    pthread_mutex_unlock(&q->lock);
    int64_t due = atomic_load(&q->next_due);
    while (t->due_ms < due && !atomic_compare_exchange_weak(&q->next_due, &due, t->due_ms)) {
    }
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].ready > 0)
            sv_queues_tell(q, t->v[i].queue);
}

/* ---- queues ---- */

static sv_rc check_name(sv_str name, sv_err *err)
{
    bool good = name.n > 0 && name.n <= SV_QUEUES_MAX_NAME && name.p[0] != '-' && name.p[name.n - 1] != '-';
    for (size_t i = 0; i < name.n && good; i++)
        good = (name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= 'A' && name.p[i] <= 'Z') || (name.p[i] >= '0' && name.p[i] <= '9') ||
               name.p[i] == '-' || name.p[i] == '_';
    if (!good)
        return sv_fail_api(err, SV_EINVAL, 11003, "Invalid queue name: 1 to %d letters, digits, '-' and '_', and no '-' at its ends", SV_QUEUES_MAX_NAME);
    return SV_OK;
}

static sv_rc check_settings(const sv_queues_settings *s, sv_err *err)
{
    if (s->delay_s < -1 || s->delay_s > SV_QUEUES_MAX_DELAY_S)
        return sv_fail_api(err, SV_EINVAL, 100128, "delivery_delay must be 0 to %d seconds", SV_QUEUES_MAX_DELAY_S);
    if (s->retention_s != -1 && (s->retention_s < SV_QUEUES_MIN_RETENTION_S || s->retention_s > SV_QUEUES_MAX_RETENTION_S))
        return sv_fail_api(err, SV_EINVAL, 100128, "message_retention_period must be %d to %d seconds", SV_QUEUES_MIN_RETENTION_S,
                           SV_QUEUES_MAX_RETENTION_S);
    return SV_OK;
}

typedef struct queue_arg { sv_queues_info *info; const char *sql; } queue_arg;

static sv_rc name_result(sv_rc rc, const char *name, sv_err *err)
{
    if (rc != SV_ECONFLICT)
        return rc;
    return sv_fail_api(err, SV_ECONFLICT, 11009, "Queue name '%s' is already taken. Please use a different name and try again.", name);
}

static sv_rc write_queue(sv_dbw *w, void *arg, sv_err *err)
{
    queue_arg *a = arg;
    sv_queues_info *i = a->info;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, a->sql, err) != SV_OK)
        return err->code;
    sv_bind_cstr(&s, 1, i->id);
    sv_bind_cstr(&s, 2, i->account);
    sv_bind_cstr(&s, 3, i->name);
    sv_bind_i64(&s, 4, i->created_ms);
    sv_bind_i64(&s, 5, i->modified_ms);
    sv_bind_i64(&s, 6, i->delay_s);
    sv_bind_i64(&s, 7, i->retention_s);
    sv_bind_i64(&s, 8, i->paused);
    if (name_result(sv_stmt_run(&s, err), i->name, err) != SV_OK)
        return err->code;
    if (!i->no)
        i->no = sqlite3_last_insert_rowid(sv_dbw_handle(w));
    return SV_OK;
}

static size_t count_of(sv_queues *q, sv_str account)
{
    size_t n = 0;
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < q->n_all; i++)
        n += sv_str_is(account, q->all[i]->account);
    pthread_mutex_unlock(&q->lock);
    return n;
}

static sv_rc create_admin(sv_queues *q, sv_str account, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err)
{
    if (check_name(name, err) != SV_OK || check_settings(s, err) != SV_OK)
        return err->code;
    if (count_of(q, account) >= SV_QUEUES_MAX_QUEUES)
        return sv_fail_api(err, SV_ELIMIT, 11007, "the account has %d queues, and may have no more", SV_QUEUES_MAX_QUEUES);
    sv_queues_info info = {.created_ms = q->now_ms(), .delay_s = s->delay_s < 0 ? 0 : s->delay_s,
                           .retention_s = s->retention_s < 0 ? DEFAULT_RETENTION_S : s->retention_s, .paused = s->paused > 0};
    info.modified_ms = info.created_ms;
    snprintf(info.account, sizeof info.account, "%.*s", (int)account.n, account.p);
    snprintf(info.name, sizeof info.name, "%.*s", (int)name.n, name.p);
    sv_random_hex(info.id, 16);
    queue_arg a = {&info, "INSERT INTO queues (id, account, name, created_ms, modified_ms, delay_s, retention_s, paused)"
                          " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"};
    if (sv_db_write(q->db, write_queue, &a, err) != SV_OK)
        return err->code;
    remember(q, &info);
    *out = info;
    return SV_OK;
}

sv_rc sv_queues_create(sv_queues *q, sv_str account, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err)
{
    pthread_mutex_lock(&q->admin);
    sv_rc rc = create_admin(q, account, name, s, out, err);
    pthread_mutex_unlock(&q->admin);
    return rc;
}

static sv_rc update_admin(sv_queues *q, sv_str account, sv_str id, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err)
{
    sv_queues_info info;
    if (sv_queues_find(q, account, id, &info, err) != SV_OK || (name.n && check_name(name, err) != SV_OK) || check_settings(s, err) != SV_OK)
        return err->code;
    if (name.n)
        snprintf(info.name, sizeof info.name, "%.*s", (int)name.n, name.p);
    if (s->delay_s >= 0)
        info.delay_s = s->delay_s;
    if (s->retention_s >= 0)
        info.retention_s = s->retention_s;
    if (s->paused >= 0)
        info.paused = s->paused > 0;
    info.modified_ms = q->now_ms();
    queue_arg a = {&info, "UPDATE queues SET name = ?3, modified_ms = ?5, delay_s = ?6, retention_s = ?7, paused = ?8"
                          " WHERE id = ?1 AND account = ?2 AND ?4 > 0"};
    if (sv_db_write(q->db, write_queue, &a, err) != SV_OK)
        return err->code;
    replace(q, &info);
    *out = info;
    return SV_OK;
}

sv_rc sv_queues_update(sv_queues *q, sv_str account, sv_str id, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err)
{
    pthread_mutex_lock(&q->admin);
    sv_rc rc = update_admin(q, account, id, name, s, out, err);
    pthread_mutex_unlock(&q->admin);
    if (rc == SV_OK)
        sv_queues_tell(q, out->no);
    return rc;
}

static sv_rc run_with(sv_dbw *w, const char *sql, int64_t no, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, no);
    return sv_stmt_run(&s, err);
}

static sv_rc mark_gone(sv_dbw *w, void *arg, sv_err *err)
{
    int64_t no = *(int64_t *)arg;
    return run_with(w, "UPDATE queues SET gone = 1 WHERE no = ?1", no, err) == SV_OK ? run_with(w, "DELETE FROM consumers WHERE queue = ?1", no, err)
                                                                                       : err->code;
}

sv_rc sv_queues_delete(sv_queues *q, sv_str account, sv_str id, sv_err *err)
{
    sv_queues_info info;
    pthread_mutex_lock(&q->admin);
    sv_rc rc = sv_queues_find(q, account, id, &info, err);
    if (rc == SV_OK)
        rc = sv_db_write(q->db, mark_gone, &info.no, err);
    if (rc == SV_OK)
        forget(q, info.no);
    pthread_mutex_unlock(&q->admin);
    if (rc == SV_OK)
        sv_queues_tell(q, info.no);
    return rc;
}

/* ---- consumers ---- */

void sv_queues_consumer_defaults(sv_queues_consumer *c)
{
    c->batch = c->kind == SV_QUEUES_PULL ? 5 : 10;
    c->max_retries = 3;
    c->wait_ms = 5000;
    c->concurrency = 0;
    c->retry_delay_s = 0;
    c->visibility_ms = 30000;
}

static sv_rc in_range(const char *name, int64_t v, int64_t min, int64_t max, sv_err *err)
{
    if (v >= min && v <= max)
        return SV_OK;
    return sv_fail_api(err, SV_EINVAL, 100127, "consumer setting %s must be %lld to %lld, not %lld", name, (long long)min, (long long)max, (long long)v);
}

static sv_rc check_consumer(const sv_queues_consumer *c, const char *own_name, sv_err *err)
{
    if (in_range("batch_size", c->batch, 1, SV_QUEUES_MAX_BATCH, err) != SV_OK ||
        in_range("max_retries", c->max_retries, 0, SV_QUEUES_MAX_RETRIES, err) != SV_OK ||
        in_range("max_wait_time_ms", c->wait_ms, 0, SV_QUEUES_MAX_WAIT_MS, err) != SV_OK ||
        in_range("max_concurrency", c->concurrency, 0, SV_QUEUES_MAX_CONCURRENCY, err) != SV_OK ||
        in_range("retry_delay", c->retry_delay_s, 0, SV_QUEUES_MAX_DELAY_S, err) != SV_OK ||
        in_range("visibility_timeout_ms", c->visibility_ms, 1, SV_QUEUES_MAX_VISIBILITY_MS, err) != SV_OK)
        return err->code;
    if (c->dead_letter[0] && strcmp(c->dead_letter, own_name) == 0)
        return sv_fail_api(err, SV_EINVAL, 100127, "a queue cannot be its own dead letter queue");
    if (c->kind == SV_QUEUES_WORKER && !c->script[0])
        return sv_fail_api(err, SV_EINVAL, 100127, "a consumer of type 'worker' needs a script_name");
    return c->dead_letter[0] ? check_name(sv_str_of(c->dead_letter), err) : SV_OK;
}

typedef struct consumer_arg { int64_t queue; const sv_queues_consumer *c; } consumer_arg;

static sv_rc write_consumer(sv_dbw *w, void *arg, sv_err *err)
{
    const consumer_arg *a = arg;
    const sv_queues_consumer *c = a->c;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "INSERT OR REPLACE INTO consumers (queue, id, kind, script, dead_letter, batch, max_retries, wait_ms, concurrency,"
                            " retry_delay_s, visibility_ms, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, a->queue);
    sv_bind_cstr(&s, 2, c->id);
    sv_bind_i64(&s, 3, c->kind);
    sv_bind_cstr(&s, 4, c->script);
    sv_bind_cstr(&s, 5, c->dead_letter);
    const int64_t numbers[] = {c->batch, c->max_retries, c->wait_ms, c->concurrency, c->retry_delay_s, c->visibility_ms, c->created_ms};
    for (size_t i = 0; i < SV_LEN(numbers); i++)
        sv_bind_i64(&s, 6 + (int)i, numbers[i]);
    return sv_stmt_run(&s, err);
}

static sv_rc set_consumer_admin(sv_queues *q, sv_str account, sv_str id, sv_queues_consumer *c, sv_queues_info *info, sv_err *err)
{
    sv_queues_info dead;
    sv_err absent = {0};
    if (sv_queues_find(q, account, id, info, err) != SV_OK || check_consumer(c, info->name, err) != SV_OK)
        return err->code;
    if (!c->id[0] && info->consumer.kind != SV_QUEUES_NOBODY)
        return sv_fail_api(err, SV_ECONFLICT, 11004, "Queue '%s' already has a consumer: %s. Remove it first.", info->name,
                           info->consumer.kind == SV_QUEUES_WORKER ? info->consumer.script : "clients that pull");
    if (c->id[0] && strcmp(c->id, info->consumer.id) != 0)
        return sv_fail_api(err, SV_ENOENT, 11004, "Queue '%s' has no consumer %s.", info->name, c->id);
    if (c->dead_letter[0] && sv_queues_find_name(q, account, sv_str_of(c->dead_letter), &dead, &absent) != SV_OK &&
        create_admin(q, account, sv_str_of(c->dead_letter), &(sv_queues_settings){-1, -1, -1}, &dead, err) != SV_OK)
        return err->code;
    if (!c->id[0]) {
        sv_random_hex(c->id, 16);
        c->created_ms = q->now_ms();
    } else {
        c->created_ms = info->consumer.created_ms;
    }
    consumer_arg a = {info->no, c};
    if (sv_db_write(q->db, write_consumer, &a, err) != SV_OK)
        return err->code;
    info->consumer = *c;
    replace(q, info);
    return SV_OK;
}

sv_rc sv_queues_set_consumer(sv_queues *q, sv_str account, sv_str id, sv_queues_consumer *c, sv_err *err)
{
    sv_queues_info info;
    pthread_mutex_lock(&q->admin);
    sv_rc rc = set_consumer_admin(q, account, id, c, &info, err);
    pthread_mutex_unlock(&q->admin);
    if (rc == SV_OK)
        sv_queues_tell(q, info.no);
    return rc;
}

static sv_rc delete_consumer(sv_dbw *w, void *arg, sv_err *err) { return run_with(w, "DELETE FROM consumers WHERE queue = ?1", *(int64_t *)arg, err); }

sv_rc sv_queues_drop_consumer(sv_queues *q, sv_str account, sv_str id, sv_str consumer, sv_err *err)
{
    sv_queues_info info;
    pthread_mutex_lock(&q->admin);
    sv_rc rc = sv_queues_find(q, account, id, &info, err);
    if (rc == SV_OK && (info.consumer.kind == SV_QUEUES_NOBODY || !sv_str_is(consumer, info.consumer.id)))
        rc = sv_fail_api(err, SV_ENOENT, 11004, "Queue '%s' has no such consumer.", info.name);
    if (rc == SV_OK)
        rc = sv_db_write(q->db, delete_consumer, &info.no, err);
    if (rc == SV_OK) {
        info.consumer = (sv_queues_consumer){0};
        replace(q, &info);
    }
    pthread_mutex_unlock(&q->admin);
    if (rc == SV_OK)
        sv_queues_tell(q, info.no);
    return rc;
}

/* ---- what goes bit by bit ---- */

typedef struct remove_arg {
    sv_queues *q;
    const char *sql;           /* no, n, waiting of at most ?3 messages of queue ?1; ?2 bounds them */
    int64_t queue, bound;
    sv_tally tally;
    int64_t n;                 /* removed this time */
} remove_arg;

static sv_rc remove_some(sv_dbw *w, void *arg, sv_err *err)
{
    remove_arg *a = arg;
    struct { int64_t no, n, waiting; } v[SWEEP_ROWS];
    bool row = true;
    sv_tally_done(&a->tally);
    sv_tally_init(&a->tally);
    a->n = 0;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
        if (sv_stmt_prep(&s, w, a->sql, err) != SV_OK)
            return err->code;
        sv_bind_i64(&s, 1, a->queue);
        sv_bind_i64(&s, 2, a->bound);
        sv_bind_i64(&s, 3, SWEEP_ROWS);
        while (a->n < SWEEP_ROWS) {
            if (sv_stmt_step(&s, &row, err) != SV_OK)
                return err->code;
            if (!row)
                break;
            v[a->n].no = sv_col_i64(&s, 0);
            v[a->n].n = sv_col_i64(&s, 1);
            v[a->n++].waiting = sv_col_i64(&s, 2);
        }
    }
    for (int64_t i = 0; i < a->n; i++) {
        if (run_with(w, "DELETE FROM messages WHERE no = ?1", v[i].no, err) != SV_OK)
            return err->code;
        sv_tally_add(&a->tally, a->queue, -1, -v[i].n, v[i].waiting ? 0 : -1);
    }
    return sv_tally_oldest(a->q, &a->tally, w, err);
}

static sv_rc remove_all(sv_queues *q, const char *sql, int64_t queue, int64_t bound, sv_err *err)
{
    remove_arg a = {.q = q, .sql = sql, .queue = queue, .bound = bound};
    sv_rc rc;
    sv_tally_init(&a.tally);
    do {
        rc = sv_db_write(q->db, remove_some, &a, err);
        if (rc == SV_OK)
            sv_tally_apply(q, &a.tally);
    } while (rc == SV_OK && a.n == SWEEP_ROWS);
    sv_tally_done(&a.tally);
    return rc;
}

static sv_rc read_number(sv_dbw *r, void *arg, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, "SELECT coalesce(max(no), 0) FROM messages", err) != SV_OK || sv_stmt_step(&s, &row, err) != SV_OK)
        return err->code;
    *(int64_t *)arg = sv_col_i64(&s, 0);
    return SV_OK;
}

/* A message that arrives while the purge runs has a higher number, and stays. */
sv_rc sv_queues_purge(sv_queues *q, sv_str account, sv_str id, int64_t *started_ms, sv_err *err)
{
    sv_queues_info info;
    int64_t last = 0;
    if (sv_queues_find(q, account, id, &info, err) != SV_OK || sv_db_read(q->db, read_number, &last, err) != SV_OK)
        return err->code;
    *started_ms = q->now_ms();
    return remove_all(q, "SELECT no, n, waiting FROM messages WHERE queue = ?1 AND waiting IN (0, 1) AND no <= ?2 LIMIT ?3", info.no, last, err);
}

typedef struct gone_arg { int64_t v[64]; int n; } gone_arg;

static sv_rc read_gone(sv_dbw *r, void *arg, sv_err *err)
{
    gone_arg *a = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, "SELECT no FROM queues WHERE gone = 1 LIMIT 64", err) != SV_OK)
        return err->code;
    for (a->n = 0; a->n < 64; a->n++) {
        if (sv_stmt_step(&s, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        a->v[a->n] = sv_col_i64(&s, 0);
    }
    return SV_OK;
}

static sv_rc drop_row(sv_dbw *w, void *arg, sv_err *err) { return run_with(w, "DELETE FROM queues WHERE no = ?1 AND gone = 1", *(int64_t *)arg, err); }

sv_rc sv_queues_sweep(sv_queues *q, sv_err *err)
{
    gone_arg gone = {.n = 0};
    sv_rc rc = sv_db_read(q->db, read_gone, &gone, err);
    for (int i = 0; i < gone.n && rc == SV_OK; i++) {
        rc = remove_all(q, "SELECT no, n, waiting FROM messages WHERE queue = ?1 AND waiting IN (0, 1) AND ?2 = 0 LIMIT ?3", gone.v[i], 0, err);
        if (rc == SV_OK)
            rc = sv_db_write(q->db, drop_row, &gone.v[i], err);
    }
    sv_queues_info *all;
    size_t n;
    int64_t now = q->now_ms();
    sv_queues_list(q, (sv_str){0}, &all, &n);
    for (size_t i = 0; i < n && rc == SV_OK; i++)
        if (all[i].oldest_ms && all[i].oldest_ms <= now - all[i].retention_s * 1000)
            rc = remove_all(q, "SELECT no, n, waiting FROM messages WHERE queue = ?1 AND waiting IN (0, 1) AND kept_ms <= ?2 LIMIT ?3", all[i].no,
                            now - all[i].retention_s * 1000, err);
    free(all);
    return rc;
}

static void tick(void *arg)
{
    sv_queues *q = arg;
    sv_err err = {0};
    sv_rc rc = SV_OK;
    if (atomic_load(&q->next_due) <= q->now_ms())
        rc = sv_queues_tick(q, &err);
    if (rc == SV_OK && ++q->n_ticks % SWEEP_TICKS == 0)
        rc = sv_queues_sweep(q, &err);
    static sv_log_gate gate;
    if (rc != SV_OK && sv_log_may(&gate, 60))
        sv_log(SV_WARN, "queues.tick", "error='%s' again_in_ms=%d", err.msg, TICK_MS);
}

/* ---- life ---- */

static void take_text(sv_stmt *s, int i, char *out, size_t n)
{
    sv_str t = sv_col_str(s, i);
    snprintf(out, n, "%.*s", (int)t.n, t.p ? t.p : "");
}

static sv_rc read_queues(sv_dbw *r, void *arg, sv_err *err)
{
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, "SELECT q.no, q.id, q.account, q.name, q.created_ms, q.modified_ms, q.delay_s, q.retention_s, q.paused,"
                            " c.kind, c.id, c.script, c.dead_letter, c.batch, c.max_retries, c.wait_ms, c.concurrency, c.retry_delay_s,"
                            " c.visibility_ms, c.created_ms FROM queues q LEFT JOIN consumers c ON c.queue = q.no WHERE q.gone = 0 ORDER BY q.no",
                     err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&s, &row, err) == SV_OK && row) {
        sv_queues_info i = {.no = sv_col_i64(&s, 0), .created_ms = sv_col_i64(&s, 4), .modified_ms = sv_col_i64(&s, 5), .delay_s = sv_col_i64(&s, 6),
                            .retention_s = sv_col_i64(&s, 7), .paused = sv_col_i64(&s, 8) != 0};
        take_text(&s, 1, i.id, sizeof i.id);
        take_text(&s, 2, i.account, sizeof i.account);
        take_text(&s, 3, i.name, sizeof i.name);
        sv_queues_consumer *c = &i.consumer;
        *c = (sv_queues_consumer){.kind = (sv_queues_kind)sv_col_i64(&s, 9), .batch = sv_col_i64(&s, 13), .max_retries = sv_col_i64(&s, 14),
                                  .wait_ms = sv_col_i64(&s, 15), .concurrency = sv_col_i64(&s, 16), .retry_delay_s = sv_col_i64(&s, 17),
                                  .visibility_ms = sv_col_i64(&s, 18), .created_ms = sv_col_i64(&s, 19)};
        take_text(&s, 10, c->id, sizeof c->id);
        take_text(&s, 11, c->script, sizeof c->script);
        take_text(&s, 12, c->dead_letter, sizeof c->dead_letter);
        remember(arg, &i);
    }
    return row ? err->code : SV_OK;
}

/* inv. 2, from the rows. */
static sv_rc read_backlogs(sv_dbw *r, void *arg, sv_err *err)
{
    sv_queues *q = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, "SELECT queue, count(*), sum(n), count(*) FILTER (WHERE waiting = 0), min(sent_ms), min(due_ms), max(no)"
                            " FROM messages GROUP BY queue", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&s, &row, err) == SV_OK && row) {
        int64_t no = sv_col_i64(&s, 0);
        sv_queues_info *one = sv_smap_get(q->by_no, no_key(&no));
        if (q->next_no <= sv_col_i64(&s, 6))
            q->next_no = sv_col_i64(&s, 6) + 1;
        if (!sv_col_null(&s, 5) && sv_col_i64(&s, 5) < atomic_load(&q->next_due))
            atomic_store(&q->next_due, sv_col_i64(&s, 5));
        if (!one)
            continue;
        one->n = sv_col_i64(&s, 1);
        one->bytes = sv_col_i64(&s, 2);
        one->n_ready = sv_col_i64(&s, 3);
        one->oldest_ms = sv_col_i64(&s, 4);
    }
    return row ? err->code : SV_OK;
}

static sv_rc open_db(sv_queues *q, const char *data_dir, sv_err *err)
{
    char path[600];
    if (snprintf(path, sizeof path, "%s/queues", data_dir) > 500)
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    if (sv_mkdir_p(path, 0700, err) != SV_OK)
        return err->code;
    snprintf(path, sizeof path, "%s/queues/queues.db", data_dir);
    return sv_db_open(&q->db, path, migrations, SV_LEN(migrations), err);
}

sv_rc sv_queues_open(sv_queues **out, const sv_queues_opts *opts, sv_err *err)
{
    sv_queues *q = sv_xnew0(sv_queues);
    q->now_ms = opts->now_ms ? opts->now_ms : sv_now_ms;
    q->changed = opts->changed;
    q->ctx = opts->ctx;
    q->last = &q->first;
    q->next_no = 1;
    atomic_store(&q->next_due, INT64_MAX);
    q->by_id = sv_smap_new();
    q->by_no = sv_smap_new();
    q->by_name = sv_smap_new();
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->admin, NULL);
    pthread_mutex_init(&q->line, NULL);
    pthread_cond_init(&q->more, NULL);
    if (open_db(q, opts->data_dir, err) != SV_OK || sv_db_read(q->db, read_queues, q, err) != SV_OK ||
        sv_db_read(q->db, read_backlogs, q, err) != SV_OK) {
        sv_queues_close(q);
        return err->code;
    }
    q->writer = sv_thread_start("queues-writer", sv_queues_write_all, q);
    q->ticker = sv_ticker_new("queues-ticker", TICK_MS, tick, q);
    q->started = true;
    *out = q;
    return SV_OK;
}

void sv_queues_listen(sv_queues *q, void (*changed)(void *ctx, int64_t queue), void *ctx)
{
    pthread_mutex_lock(&q->lock);
    q->changed = changed;
    q->ctx = ctx;
    pthread_mutex_unlock(&q->lock);
}

sv_queues *sv_queues_close(sv_queues *q)
{
    if (!q)
        return NULL;
    sv_ticker_free(q->ticker);
    if (q->started) {
        pthread_mutex_lock(&q->line);
        q->stopping = true;
        pthread_cond_broadcast(&q->more);
        pthread_mutex_unlock(&q->line);
        pthread_join(q->writer, NULL);
    }
    sv_db_close(q->db);
    for (size_t i = 0; i < q->n_all; i++)
        free(q->all[i]);
    free(q->all);
    sv_smap_free(q->by_id);
    sv_smap_free(q->by_no);
    sv_smap_free(q->by_name);
    pthread_cond_destroy(&q->more);
    pthread_mutex_destroy(&q->line);
    pthread_mutex_destroy(&q->admin);
    pthread_mutex_destroy(&q->lock);
    free(q);
    return NULL;
}
