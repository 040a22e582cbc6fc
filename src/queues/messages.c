/* messages.c - messages in and out: one thread that writes, reads beside it
 *
 *   sent --> ready --read, retried--> waiting --due--> ready ...        a Worker's batch: nothing is written until its verdict
 *     \        \ --leased----------> waiting --lease over--> ready     a pull: the lease is a row's, since its holder may outlive us
 *      \delayed--> waiting            ready, waiting --done--> (none)   retried too often --> dead letter queue, or (none)
 *
 * Sends do not each hold a thread while the disk syncs: they queue, and the store's thread takes everything that waits into one transaction,
 * so that the number of senders that share a sync is the number of clients, not of threads.
 *
 * A Worker's batch changes no row until it is settled: what was out when we died is simply still there, and one write a message is saved. The
 * deliverer remembers the number up to which it has read. So a message that becomes ready again gets a new number, the highest; the queue
 * behaves as if it had just been sent. (A pull reads from the start and needs no such thing, and its lease ids hold the number, so there it stays.)
 *
 * Invariants:
 *   1. Numbers are given in the order of commits: who has read up to N finds every later arrival behind N.
 *   2. waiting = 1 exactly when due_ms is set; lease is set only while waiting, or after a lease that ended and until the next.
 *   3. attempts counts deliveries that are over, and of a leased message the one under way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/limits.h"
#include "base/hash.h"
#include "base/log.h"
#include "queues/queues_impl.h"

enum { MAX_GROUP = 256, TICK_ROWS = 500, READ_BYTES = 256000 };

static const char *const type_names[] = {"json", "text", "bytes", "v8"};

const char *sv_queues_type_name(sv_queues_type t) { return type_names[t]; }

bool sv_queues_type_of(sv_str name, sv_queues_type *out)
{
    for (size_t i = 0; i < SV_LEN(type_names); i++)
        if (sv_str_is(name, type_names[i])) {
            *out = (sv_queues_type)i;
            return true;
        }
    return false;
}

sv_rc sv_queues_check(const sv_queues_msg *v, size_t n, sv_err *err)
{
    size_t sum = 0;
    if (n > SV_QUEUES_MAX_BATCH)
        return sv_fail_api(err, SV_EINVAL, 10252, "batch message count of %zu exceeds limit of %d", n, SV_QUEUES_MAX_BATCH);
    for (size_t i = 0; i < n; i++) {
        sum += v[i].body.n;
        if (v[i].body.n > SV_QUEUES_MAX_MESSAGE)
            return sv_fail_api(err, SV_EINVAL, 10252, "message length of %zu bytes exceeds limit of %d", v[i].body.n, SV_QUEUES_MAX_MESSAGE);
        if (v[i].type == SV_QUEUES_JSON && (v[i].body.n == 0 || sv_str_is(v[i].body, "undefined"))) /* what workerd makes of a function */
            return sv_fail_api(err, SV_EINVAL, 10207, "a message of type json cannot be made of this value: it has no JSON");
        if (v[i].delay_s < -1 || v[i].delay_s > SV_QUEUES_MAX_DELAY_S)
            return sv_fail_api(err, SV_EINVAL, 10207, "a delay must be 0 to %d seconds, not %lld", SV_QUEUES_MAX_DELAY_S, (long long)v[i].delay_s);
    }
    if (sum > SV_QUEUES_MAX_BATCH_BYTES)
        return sv_fail_api(err, SV_EINVAL, 10252, "batch size of %zu bytes exceeds limit of %d", sum, SV_QUEUES_MAX_BATCH_BYTES);
    return SV_OK;
}

int sv_queues_status(const sv_err *err)
{
    if (err->code == SV_ELIMIT && err->ours)
        return 507;
    switch (err->api_code) {
    case 10252: return 413;
    case 11009: case 11004: case 11007: return err->code == SV_ENOENT ? 404 : 400; /* the SDK would send a 409 three times */
    }
    switch (err->code) {
    case SV_ENOENT: return 404;
    case SV_EINVAL: case SV_EFORMAT: case SV_ECONFLICT: return 400;
    case SV_ELIMIT: return 429;
    case SV_ENOMEM: return 503;
    default: return 500;
    }
}

/* ---- in ---- */

static int64_t new_number(sv_queues *q) { return q->next_no++; } /* inv. 1 */

static sv_rc insert(sv_queues *q, sv_dbw *w, sv_tally *t, const sv_queues_info *to, const sv_queues_msg *m, int64_t now, sv_err *err)
{
    char id[16];
    int64_t delay = m->delay_s < 0 ? to->delay_s : m->delay_s;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "INSERT INTO messages (no, queue, waiting, due_ms, id, sent_ms, kept_ms, attempts, type, n, body)"
                            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0, ?7, ?8, ?9)", err) != SV_OK)
        return err->code;
    sv_random(id, sizeof id);
    sv_bind_i64(&s, 1, new_number(q));
    sv_bind_i64(&s, 2, to->no);
    sv_bind_i64(&s, 3, delay > 0);
    if (delay > 0)
        sv_bind_i64(&s, 4, now + delay * 1000);
    else
        sv_bind_null(&s, 4);
    sv_bind_blob(&s, 5, id, sizeof id);
    sv_bind_i64(&s, 6, now);
    sv_bind_i64(&s, 7, m->type);
    sv_bind_i64(&s, 8, (int64_t)m->body.n);
    sv_bind_blob(&s, 9, m->body.n ? m->body.p : "", m->body.n);
    if (sv_stmt_run(&s, err) != SV_OK)
        return err->code;
    if (delay > 0 && now + delay * 1000 < t->due_ms)
        t->due_ms = now + delay * 1000;
    sv_tally_add(t, to->no, 1, (int64_t)m->body.n, delay > 0 ? 0 : 1);
    return SV_OK;
}

/* Deleted since it was found in memory: the row knows, since both are written by this thread. */
static sv_rc still_there(sv_dbw *w, int64_t queue, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "SELECT 1 FROM queues WHERE no = ?1 AND gone = 0", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, queue);
    if (sv_stmt_step(&s, &row, err) != SV_OK)
        return err->code;
    return row ? SV_OK : sv_fail_api(err, SV_ENOENT, 11000, "The queue does not exist any more.");
}

static sv_rc send_all(sv_queues *q, sv_dbw *w, sv_tally *t, const sv_queues_write *one, sv_err *err)
{
    sv_queues_info to;
    if (sv_queues_find_no(q, one->queue, &to, err) != SV_OK || still_there(w, one->queue, err) != SV_OK)
        return err->code;
    if (sv_limit_check(SV_LIMIT_QUEUE_BACKLOG_BYTES, to.bytes, "Storage Limit Exceeded: the queue's backlog", err) != SV_OK)
        return err->code;
    int64_t now = q->now_ms();
    for (size_t i = 0; i < one->n; i++)
        if (insert(q, w, t, &to, &one->msgs[i], now, err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* ---- verdicts ---- */

typedef struct place { int64_t no, n, waiting, lease, attempts; bool found; } place; /* of a message, as the transaction sees it */

static sv_rc find_row(sv_dbw *w, int64_t queue, int64_t no, place *out, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    *out = (place){.no = no};
    if (sv_stmt_prep(&s, w, "SELECT n, waiting, lease, attempts FROM messages WHERE no = ?1 AND queue = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, no);
    sv_bind_i64(&s, 2, queue);
    if (sv_stmt_step(&s, &out->found, err) != SV_OK)
        return err->code;
    if (out->found)
        *out = (place){no, sv_col_i64(&s, 0), sv_col_i64(&s, 1), sv_col_i64(&s, 2), sv_col_i64(&s, 3), true};
    return SV_OK;
}

static sv_rc delete_row(sv_dbw *w, sv_tally *t, int64_t queue, const place *r, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "DELETE FROM messages WHERE no = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, r->no);
    if (sv_stmt_run(&s, err) != SV_OK)
        return err->code;
    sv_tally_add(t, queue, -1, -r->n, r->waiting ? 0 : -1);
    return SV_OK;
}

typedef enum where { AT_THE_END, IN_PLACE, IN_PLACE_WITH_LEASE } where;

/* Ready again at `due`, or now when that is 0, after `attempts` deliveries. With its lease: who held it may still say what becomes of it. */
static sv_rc requeue(sv_queues *q, sv_dbw *w, sv_tally *t, int64_t queue, const place *r, int64_t attempts, int64_t due, where to, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "UPDATE messages SET no = ?2, waiting = ?3, due_ms = ?4, attempts = ?5, lease = CASE WHEN ?6 THEN lease ELSE NULL END"
                            " WHERE no = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, r->no);
    sv_bind_i64(&s, 2, to == AT_THE_END ? new_number(q) : r->no);
    sv_bind_i64(&s, 3, due > 0);
    if (due > 0)
        sv_bind_i64(&s, 4, due);
    else
        sv_bind_null(&s, 4);
    sv_bind_i64(&s, 5, attempts);
    sv_bind_i64(&s, 6, to == IN_PLACE_WITH_LEASE);
    if (sv_stmt_run(&s, err) != SV_OK)
        return err->code;
    if (due > 0 && due < t->due_ms)
        t->due_ms = due;
    sv_tally_add(t, queue, 0, 0, (due > 0 ? 0 : 1) - (r->waiting ? 0 : 1));
    return SV_OK;
}

/* To the dead letter queue, as a message that has just come there; without one it is dropped. */
static sv_rc bury(sv_queues *q, sv_dbw *w, sv_tally *t, const sv_queues_info *from, const place *r, sv_err *err)
{
    sv_queues_info dead;
    sv_err absent = {0};
    if (from->consumer.dead_letter[0] &&
        sv_queues_find_name(q, sv_str_of(from->account), sv_str_of(from->consumer.dead_letter), &dead, &absent) == SV_OK) {
        SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
        if (sv_stmt_prep(&s, w, "INSERT INTO messages (no, queue, waiting, id, sent_ms, kept_ms, attempts, type, n, body)"
                                " SELECT ?2, ?3, 0, id, sent_ms, ?4, 0, type, n, body FROM messages WHERE no = ?1", err) != SV_OK)
            return err->code;
        sv_bind_i64(&s, 1, r->no);
        sv_bind_i64(&s, 2, new_number(q));
        sv_bind_i64(&s, 3, dead.no);
        sv_bind_i64(&s, 4, q->now_ms());
        if (sv_stmt_run(&s, err) != SV_OK)
            return err->code;
        sv_tally_add(t, dead.no, 1, r->n, 1);
    }
    return delete_row(w, t, from->no, r, err);
}

static sv_rc settle_one(sv_queues *q, sv_dbw *w, sv_tally *t, const sv_queues_info *of, sv_queues_verdict *v, int64_t now, sv_err *err)
{
    place r;
    v->found = false;
    if (find_row(w, of->no, v->no, &r, err) != SV_OK)
        return err->code;
    if (!r.found || (v->lease && v->lease != r.lease))
        return SV_OK; /* purged, expired, or somebody else's by now */
    v->found = true;
    if (!v->retry)
        return delete_row(w, t, of->no, &r, err);
    int64_t attempts = r.attempts + (v->lease ? 0 : 1); /* inv. 3 */
    if (attempts > of->consumer.max_retries)
        return bury(q, w, t, of, &r, err);
    int64_t delay = v->delay_s < 0 ? of->consumer.retry_delay_s : v->delay_s;
    return requeue(q, w, t, of->no, &r, attempts, delay > 0 ? now + delay * 1000 : 0, v->lease ? IN_PLACE : AT_THE_END, err);
}

static sv_rc settle_all(sv_queues *q, sv_dbw *w, sv_tally *t, const sv_queues_write *one, sv_err *err)
{
    sv_queues_info of;
    int64_t now = q->now_ms();
    if (sv_queues_find_no(q, one->queue, &of, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < one->n; i++)
        if (settle_one(q, w, t, &of, &one->verdicts[i], now, err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* ---- the writer ---- */

typedef struct group {
    sv_queues *q;
    sv_queues_write *v[MAX_GROUP];
    size_t n;
    sv_tally tally;
} group;

static bool is_refusal(const sv_err *err) { return err->api_code != 0; }

static sv_rc apply_group(sv_dbw *w, void *arg, sv_err *err)
{
    group *g = arg;
    sv_tally_done(&g->tally);
    sv_tally_init(&g->tally);
    for (size_t i = 0; i < g->n; i++) {
        sv_queues_write *one = g->v[i];
        one->rc = one->op == SV_QUEUES_SEND ? send_all(g->q, w, &g->tally, one, &one->err) : settle_all(g->q, w, &g->tally, one, &one->err);
        if (one->rc != SV_OK && !is_refusal(&one->err)) { /* a refusal comes before the first change: nothing is to be undone */
            *err = one->err;
            return err->code;
        }
    }
    return sv_tally_oldest(g->q, &g->tally, w, err);
}

static void commit_group(sv_queues *q, group *g)
{
    sv_err err = {0};
    sv_tally_init(&g->tally);
    sv_rc rc = sv_db_write(q->db, apply_group, g, &err);
    if (rc != SV_OK && g->n > 1) { /* each for itself: a full disk may still have room for the small ones */
        sv_tally_done(&g->tally);
        for (size_t i = 0; i < g->n; i++) {
            group one = {.q = q, .v = {g->v[i]}, .n = 1};
            commit_group(q, &one);
        }
        return;
    }
    if (rc == SV_OK)
        sv_tally_apply(q, &g->tally);
    sv_tally_done(&g->tally);
    for (size_t i = 0; i < g->n; i++) {
        sv_queues_write *one = g->v[i];
        sv_queues_info info;
        sv_err ignore = {0};
        if (rc != SV_OK) {
            one->rc = rc;
            one->err = err;
        } else if (one->rc == SV_OK && sv_queues_find_no(q, one->queue, &info, &ignore) == SV_OK) {
            one->backlog_n = info.n;
            one->backlog_bytes = info.bytes;
            one->oldest_ms = info.oldest_ms;
        }
        one->done(one); /* it is gone */
    }
}

static bool take_group(sv_queues *q, group *g)
{
    pthread_mutex_lock(&q->line);
    while (!q->first && !q->stopping)
        pthread_cond_wait(&q->more, &q->line);
    g->n = 0;
    while (q->first && g->n < MAX_GROUP) {
        g->v[g->n++] = q->first;
        q->first = q->first->next;
    }
    if (!q->first)
        q->last = &q->first;
    pthread_mutex_unlock(&q->line);
    return g->n > 0;
}

void *sv_queues_write_all(void *arg)
{
    sv_queues *q = arg;
    for (;;) {
        group g = {.q = q};
        if (!take_group(q, &g))
            return NULL;
        commit_group(q, &g);
    }
}

void sv_queues_submit(sv_queues *q, sv_queues_write *w)
{
    w->next = NULL;
    w->rc = SV_OK;
    pthread_mutex_lock(&q->line);
    SV_ASSERT(!q->stopping);
    *q->last = w;
    q->last = &w->next;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&q->line);
}

typedef struct waiter { pthread_mutex_t lock; pthread_cond_t cond; bool done; } waiter;

static void wake(sv_queues_write *w)
{
    waiter *t = w->arg;
    pthread_mutex_lock(&t->lock);
    t->done = true;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(&t->lock);
}

sv_rc sv_queues_apply(sv_queues *q, sv_queues_write *w, sv_err *err)
{
    waiter t = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    w->done = wake;
    w->arg = &t;
    sv_queues_submit(q, w);
    pthread_mutex_lock(&t.lock);
    while (!t.done)
        pthread_cond_wait(&t.cond, &t.lock);
    pthread_mutex_unlock(&t.lock);
    pthread_mutex_destroy(&t.lock);
    pthread_cond_destroy(&t.cond);
    if (w->rc != SV_OK)
        *err = w->err;
    return w->rc;
}

sv_rc sv_queues_send(sv_queues *q, sv_str account, sv_str id, const sv_queues_msg *v, size_t n, sv_err *err)
{
    sv_queues_info info;
    if (sv_queues_check(v, n, err) != SV_OK || sv_queues_find(q, account, id, &info, err) != SV_OK)
        return err->code;
    sv_queues_write w = {.op = SV_QUEUES_SEND, .queue = info.no, .msgs = v, .n = n};
    return sv_queues_apply(q, &w, err);
}

/* ---- out ---- */

typedef struct read_arg {
    int64_t queue, from, limit, next;
    void (*each)(void *arg, const sv_queues_item *it);
    void *arg;
} read_arg;

static void take_item(sv_stmt *s, sv_queues_item *it)
{
    sv_str id = sv_col_str(s, 1);
    *it = (sv_queues_item){.no = sv_col_i64(s, 0), .sent_ms = sv_col_i64(s, 2), .attempts = sv_col_i64(s, 3) + 1, .type = (sv_queues_type)sv_col_i64(s, 4),
                           .body = sv_col_str(s, 5)};
    sv_hex(it->id, id.p, id.n == 16 ? 16 : 0);
}

#define SELECT_READY "SELECT no, id, sent_ms, attempts, type, body FROM messages WHERE queue = ?1 AND waiting = 0 AND no >= ?2 ORDER BY no LIMIT ?3"

static sv_rc read_ready(sv_dbw *r, void *arg, sv_err *err)
{
    read_arg *a = arg;
    bool row = true;
    size_t bytes = 0;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, SELECT_READY, err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, a->queue);
    sv_bind_i64(&s, 2, a->from);
    sv_bind_i64(&s, 3, a->limit);
    a->next = a->from;
    while (sv_stmt_step(&s, &row, err) == SV_OK && row) {
        sv_queues_item it;
        take_item(&s, &it);
        if (bytes && bytes + it.body.n > READ_BYTES)
            return SV_OK;
        bytes += it.body.n + 1;
        a->next = it.no + 1;
        a->each(a->arg, &it);
    }
    return row ? err->code : SV_OK;
}

sv_rc sv_queues_read(sv_queues *q, int64_t queue, int64_t from, int64_t limit, void (*each)(void *arg, const sv_queues_item *it), void *arg,
                     int64_t *next, sv_err *err)
{
    read_arg a = {.queue = queue, .from = from, .limit = limit, .each = each, .arg = arg};
    if (sv_db_read(q->db, read_ready, &a, err) != SV_OK)
        return err->code;
    *next = a.next;
    return SV_OK;
}

/* ---- leases ---- */

typedef struct lease_arg {
    sv_queues *q;
    const sv_queues_info *of;
    int64_t limit, visibility_ms;
    struct { int64_t no, lease; } v[SV_QUEUES_MAX_BATCH];
    size_t n;
    bool more; /* some were buried in the place of being leased */
    sv_tally tally;
} lease_arg;

static sv_rc lease_row(lease_arg *a, sv_dbw *w, const place *r, int64_t lease, sv_err *err)
{
    int64_t due = a->q->now_ms() + a->visibility_ms;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "UPDATE messages SET waiting = 1, due_ms = ?2, lease = ?3, attempts = attempts + 1 WHERE no = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&s, 1, r->no);
    sv_bind_i64(&s, 2, due);
    sv_bind_i64(&s, 3, lease);
    if (sv_stmt_run(&s, err) != SV_OK)
        return err->code;
    if (due < a->tally.due_ms)
        a->tally.due_ms = due;
    sv_tally_add(&a->tally, a->of->no, 0, 0, -1);
    return SV_OK;
}

static sv_rc lease_some(sv_dbw *w, void *arg, sv_err *err)
{
    lease_arg *a = arg;
    place v[SV_QUEUES_MAX_BATCH];
    size_t n = 0, bytes = 0;
    bool got = true;
    sv_tally_done(&a->tally);
    sv_tally_init(&a->tally);
    a->n = 0;
    a->more = false;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
        if (sv_stmt_prep(&s, w, "SELECT no, n, attempts FROM messages WHERE queue = ?1 AND waiting = 0 ORDER BY no LIMIT ?2", err) != SV_OK)
            return err->code;
        sv_bind_i64(&s, 1, a->of->no);
        sv_bind_i64(&s, 2, a->limit);
        while (n < SV_QUEUES_MAX_BATCH && sv_stmt_step(&s, &got, err) == SV_OK && got) {
            place r = {.no = sv_col_i64(&s, 0), .n = sv_col_i64(&s, 1), .attempts = sv_col_i64(&s, 2), .found = true};
            if (n && bytes + (size_t)r.n > READ_BYTES)
                break;
            bytes += (size_t)r.n + 1;
            v[n++] = r;
        }
        if (err->code)
            return err->code;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t lease;
        sv_random(&lease, sizeof lease);
        lease = (lease & INT64_MAX) | 1;
        if (v[i].attempts > a->of->consumer.max_retries) {
            a->more = true;
            if (bury(a->q, w, &a->tally, a->of, &v[i], err) != SV_OK)
                return err->code;
            continue;
        }
        if (lease_row(a, w, &v[i], lease, err) != SV_OK)
            return err->code;
        a->v[a->n].no = v[i].no;
        a->v[a->n++].lease = lease;
    }
    return sv_tally_oldest(a->q, &a->tally, w, err);
}

typedef struct leased_arg { const lease_arg *l; void (*each)(void *arg, const sv_queues_item *it); void *arg; } leased_arg;

static sv_rc read_leased(sv_dbw *r, void *arg, sv_err *err)
{
    const leased_arg *a = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, r, "SELECT no, id, sent_ms, attempts - 1, type, body FROM messages WHERE no = ?1 AND lease = ?2", err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < a->l->n; i++) {
        bool row = false;
        sv_queues_item it;
        sv_bind_i64(&s, 1, a->l->v[i].no);
        sv_bind_i64(&s, 2, a->l->v[i].lease);
        if (sv_stmt_step(&s, &row, err) != SV_OK)
            return err->code;
        if (row) {
            take_item(&s, &it);
            it.lease = a->l->v[i].lease;
            a->each(a->arg, &it);
        }
        sv_stmt_reset(&s);
    }
    return SV_OK;
}

sv_rc sv_queues_lease(sv_queues *q, int64_t queue, int64_t limit, int64_t visibility_ms, void (*each)(void *arg, const sv_queues_item *it), void *arg,
                      sv_err *err)
{
    sv_queues_info of;
    if (sv_queues_find_no(q, queue, &of, err) != SV_OK)
        return err->code;
    if (of.paused || of.n_ready == 0)
        return SV_OK;
    lease_arg a = {.q = q, .of = &of, .limit = limit < SV_QUEUES_MAX_BATCH ? limit : SV_QUEUES_MAX_BATCH, .visibility_ms = visibility_ms};
    sv_rc rc;
    sv_tally_init(&a.tally);
    do {
        rc = sv_db_write(q->db, lease_some, &a, err);
        if (rc == SV_OK)
            sv_tally_apply(q, &a.tally);
    } while (rc == SV_OK && a.n == 0 && a.more);
    sv_tally_done(&a.tally);
    leased_arg l = {&a, each, arg};
    return rc == SV_OK && a.n ? sv_db_read(q->db, read_leased, &l, err) : rc;
}

void sv_queues_lease_text(const sv_queues_item *it, char out[SV_QUEUES_LEASE])
{
    uint64_t v[3] = {(uint64_t)it->no, (uint64_t)it->lease, 0};
    v[2] = sv_hash64(v, 16, 0x6c65617365); /* a typing error is not taken for another message */
    sv_hex(out, v, sizeof v);
}

bool sv_queues_lease_parse(sv_str text, sv_queues_verdict *out)
{
    uint64_t v[3];
    if (!sv_unhex(v, sizeof v, text) || v[2] != sv_hash64(v, 16, 0x6c65617365) || v[1] == 0)
        return false;
    *out = (sv_queues_verdict){.no = (int64_t)v[0], .lease = (int64_t)v[1], .delay_s = -1};
    return true;
}

/* ---- what became due ---- */

typedef struct due_arg { sv_queues *q; sv_tally tally; size_t n; int64_t next_due; } due_arg;

typedef struct due_row { place r; int64_t queue; bool leased; } due_row;

static sv_rc due_one(due_arg *a, sv_dbw *w, const due_row *d, sv_err *err)
{
    sv_queues_info of;
    sv_err gone = {0};
    if (sv_queues_find_no(a->q, d->queue, &of, &gone) != SV_OK) /* the sweeper's; only let it not be due again */
        return requeue(a->q, w, &a->tally, d->queue, &d->r, d->r.attempts, 0, IN_PLACE, err);
    if (d->leased && d->r.attempts > of.consumer.max_retries)
        return bury(a->q, w, &a->tally, &of, &d->r, err);
    return requeue(a->q, w, &a->tally, d->queue, &d->r, d->r.attempts, 0, of.consumer.kind == SV_QUEUES_PULL ? IN_PLACE_WITH_LEASE : AT_THE_END, err);
}

static sv_rc due_some(sv_dbw *w, void *arg, sv_err *err)
{
    due_arg *a = arg;
    SV_AUTO(sv_freep) due_row *v = sv_xcalloc(TICK_ROWS, sizeof *v);
    bool got = true;
    sv_tally_done(&a->tally);
    sv_tally_init(&a->tally);
    a->n = 0;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
        if (sv_stmt_prep(&s, w, "SELECT no, n, attempts, queue, lease FROM messages WHERE waiting = 1 AND due_ms <= ?1 ORDER BY due_ms, no LIMIT ?2",
                         err) != SV_OK)
            return err->code;
        sv_bind_i64(&s, 1, a->q->now_ms());
        sv_bind_i64(&s, 2, TICK_ROWS);
        while (a->n < TICK_ROWS) {
            if (sv_stmt_step(&s, &got, err) != SV_OK)
                return err->code;
            if (!got)
                break;
            v[a->n++] = (due_row){{.no = sv_col_i64(&s, 0), .n = sv_col_i64(&s, 1), .attempts = sv_col_i64(&s, 2), .waiting = 1, .found = true},
                                  sv_col_i64(&s, 3), !sv_col_null(&s, 4)};
        }
    }
    for (size_t i = 0; i < a->n; i++)
        if (due_one(a, w, &v[i], err) != SV_OK)
            return err->code;
    SV_AUTO(sv_stmt_donep) sv_stmt s = {0};
    if (sv_stmt_prep(&s, w, "SELECT min(due_ms) FROM messages WHERE waiting = 1", err) != SV_OK || sv_stmt_step(&s, &got, err) != SV_OK)
        return err->code;
    a->next_due = sv_col_null(&s, 0) ? INT64_MAX : sv_col_i64(&s, 0);
    return sv_tally_oldest(a->q, &a->tally, w, err);
}

sv_rc sv_queues_tick(sv_queues *q, sv_err *err)
{
    due_arg a = {.q = q};
    sv_rc rc;
    sv_tally_init(&a.tally);
    do {
        int64_t was = atomic_exchange(&q->next_due, INT64_MAX); /* what comes meanwhile sets it again */
        rc = sv_db_write(q->db, due_some, &a, err);
        a.tally.due_ms = rc == SV_OK ? a.next_due : was;
        sv_tally_apply(q, rc == SV_OK ? &a.tally : &(sv_tally){.due_ms = was});
    } while (rc == SV_OK && a.n == TICK_ROWS);
    sv_tally_done(&a.tally);
    return rc;
}
