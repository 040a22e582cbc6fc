/* r2_notify.c - event notifications: rules, and an outbox that is emptied into the queues
 *
 * The message of an event is a row of the outbox, written in the transaction of the object's own change (r2.c, inv. 3). A thread hands rows
 * to the queues in order and deletes those that were taken; one that dies in between hands them over again after the start: at least once.
 * A queue that refuses for a while (full, say) holds up nobody but itself: its rows are passed over until the next round. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "r2/r2_impl.h"

enum { BATCH = 100, RETRY_MS = 1000, MAX_QUEUE_RULES = 100 };

/* ---- writing events ---- */

static sv_rc post(sv_dbw *db, sv_str account, sv_str queue, const sv_buf *message, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "INSERT INTO outbox (account, queue, message) VALUES (?1, ?2, ?3)", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, account);
    sv_bind_str(&q, 2, queue);
    sv_bind_str(&q, 3, sv_buf_str(message));
    return sv_stmt_run(&q, err);
}

static void compose(sv_buf *b, const sv_r2_write *w, const char *name, const sv_r2_obj *o)
{
    char now[32];
    bool gone = strcmp(name, "DeleteObject") == 0 || strcmp(name, "LifecycleDeletion") == 0;
    sv_iso8601_ms(now, sv_now_ms());
    sv_buf_adds(b, "{\"account\":");
    sv_json_add_str(b, w->account);
    sv_buf_addf(b, ",\"action\":\"%s\",\"bucket\":", name);
    sv_json_add_str(b, w->bucket);
    sv_buf_adds(b, ",\"object\":{\"key\":");
    sv_json_add_str(b, (sv_str){o->key, o->n_key});
    if (!gone)
        sv_buf_addf(b, ",\"size\":%lld,\"eTag\":\"%s\"", (long long)o->size, o->etag);
    sv_buf_addf(b, "},\"eventTime\":\"%s\"", now);
    if (w->copy_key.n) {
        sv_buf_adds(b, ",\"copySource\":{\"bucket\":");
        sv_json_add_str(b, w->copy_bucket);
        sv_buf_adds(b, ",\"object\":");
        sv_json_add_str(b, w->copy_key);
        sv_buf_addc(b, '}');
    }
    sv_buf_addc(b, '}');
}

static bool fits(sv_str key, sv_str prefix, sv_str suffix)
{
    return key.n >= prefix.n && key.n >= suffix.n && (!prefix.n || memcmp(key.p, prefix.p, prefix.n) == 0) &&
           (!suffix.n || memcmp(key.p + key.n - suffix.n, suffix.p, suffix.n) == 0);
}

sv_rc sv_r2_note_event(sv_r2_write *w, sv_dbw *db, const bucket_row *b, int action, const char *name, const sv_r2_obj *o, sv_err *err)
{
    bool row = true;
    SV_AUTO(sv_buf_donep) sv_buf message = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    sv_buf_init(&message, 64 << 10);
    if (sv_stmt_prep(&q, db, "SELECT queue, prefix, suffix, actions FROM rules WHERE bucket = ?1 ORDER BY queue", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b->no);
    char last[65] = "";
    for (;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        sv_str queue = sv_col_str(&q, 0);
        if (!(sv_col_i64(&q, 3) & action) || sv_str_is(queue, last) || !fits((sv_str){o->key, o->n_key}, sv_col_str(&q, 1), sv_col_str(&q, 2)))
            continue; /* one message a queue, however many of its rules fit */
        snprintf(last, sizeof last, "%.*s", (int)queue.n, queue.p);
        if (message.n == 0)
            compose(&message, w, name, o);
        if (post(db, w->account, sv_str_of(last), &message, err) != SV_OK)
            return err->code;
        w->notified = true;
    }
}

/* ---- the postman ---- */

typedef struct letter { int64_t id; char account[33], queue[65]; char *message; size_t n; } letter;
typedef struct bag { letter v[BATCH]; size_t n; int64_t after; bool gone[BATCH]; } bag;

static sv_rc fill_bag(sv_dbw *r, void *arg, sv_err *err)
{
    bag *b = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, account, queue, message FROM outbox WHERE id > ?1 ORDER BY id LIMIT ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b->after);
    sv_bind_i64(&q, 2, BATCH);
    while (b->n < BATCH) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        letter *l = &b->v[b->n++];
        sv_str account = sv_col_str(&q, 1), queue = sv_col_str(&q, 2), message = sv_col_str(&q, 3);
        *l = (letter){.id = sv_col_i64(&q, 0), .message = sv_xstrndup(message.p, message.n), .n = message.n};
        snprintf(l->account, sizeof l->account, "%.*s", (int)account.n, account.p);
        snprintf(l->queue, sizeof l->queue, "%.*s", (int)queue.n, queue.p);
    }
    return SV_OK;
}

static sv_rc empty_bag(sv_dbw *w, void *arg, sv_err *err)
{
    bag *b = arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM outbox WHERE id = ?1", err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < b->n; i++) {
        if (!b->gone[i])
            continue;
        sv_bind_i64(&q, 1, b->v[i].id);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
        sv_stmt_reset(&q);
    }
    return SV_OK;
}

/* false: this queue refuses for now. */
static bool deliver(const sv_r2_notify *n, const letter *l)
{
    static sv_log_gate gate;
    sv_err err = {0};
    sv_rc rc = n->send(n->ctx, l->account, l->queue, (sv_str){l->message, l->n}, &err);
    if (rc == SV_OK)
        return true;
    if (sv_log_may(&gate, 6))
        sv_log(SV_WARN, "r2.notify", "queue=%s error='%s' %s", l->queue, err.msg, rc == SV_ENOENT ? "dropped=1" : "again_in_ms=1000");
    return rc == SV_ENOENT;
}

/* One bag; *more: there is another behind it. *refused: something stays. */
static sv_rc carry(sv_r2 *r2, const sv_r2_notify *n, int64_t *after, bool *more, bool *refused, sv_err *err)
{
    bag b = {.after = *after};
    size_t n_gone = 0;
    sv_rc rc = sv_db_read(r2->db, fill_bag, &b, err);
    for (size_t i = 0; rc == SV_OK && i < b.n; i++) {
        bool held = false; /* behind one that its queue refused: in order */
        for (size_t k = 0; k < i; k++)
            held |= !b.gone[k] && strcmp(b.v[k].queue, b.v[i].queue) == 0;
        b.gone[i] = !held && deliver(n, &b.v[i]);
        n_gone += b.gone[i];
    }
    *refused |= n_gone < b.n;
    *more = b.n == BATCH;
    *after = b.n ? b.v[b.n - 1].id : *after;
    if (rc == SV_OK && n_gone)
        rc = sv_db_write(r2->db, empty_bag, &b, err);
    for (size_t i = 0; i < b.n; i++)
        free(b.v[i].message);
    return rc;
}

static void wait_ms(sv_r2 *r2, int64_t ms) /* the lock is held */
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t ns = t.tv_nsec + ms % 1000 * 1000000;
    t.tv_sec += ms / 1000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(&r2->post, &r2->lock, &t);
}

void *sv_r2_postman(void *arg)
{
    sv_r2 *r2 = arg;
    pthread_mutex_lock(&r2->lock);
    while (!r2->stopping) {
        if (!r2->mail || !r2->has_notify) {
            pthread_cond_wait(&r2->post, &r2->lock);
            continue;
        }
        r2->mail = false;
        sv_r2_notify n = r2->notify;
        pthread_mutex_unlock(&r2->lock);
        bool more = true, refused = false;
        int64_t after = 0;
        sv_err err = {0};
        sv_rc rc = SV_OK;
        while (rc == SV_OK && more)
            rc = carry(r2, &n, &after, &more, &refused, &err);
        if (rc != SV_OK)
            sv_log(SV_WARN, "r2.outbox", "error='%s' again_in_ms=%d", err.msg, RETRY_MS);
        pthread_mutex_lock(&r2->lock);
        if ((rc != SV_OK || refused) && !r2->stopping) {
            r2->mail = true;
            wait_ms(r2, RETRY_MS);
        }
    }
    pthread_mutex_unlock(&r2->lock);
    return NULL;
}

void sv_r2_wake_postman(sv_r2 *r2)
{
    pthread_mutex_lock(&r2->lock);
    r2->mail = true;
    pthread_cond_signal(&r2->post);
    pthread_mutex_unlock(&r2->lock);
}

/* ---- rules ---- */

typedef struct rules_arg {
    sv_str account, bucket, queue;
    sv_r2_rule *v;
    size_t n;
    const sv_str *ids;
    size_t n_ids;
    void (*each)(void *arg, const sv_r2_rule *r);
    void *arg;
} rules_arg;

static sv_rc count_rules(sv_dbw *w, int64_t bucket, const char *queue, int64_t *n, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT count(*) FROM rules WHERE bucket = ?1 AND queue = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bucket);
    sv_bind_cstr(&q, 2, queue);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *n = sv_col_i64(&q, 0);
    return SV_OK;
}

static sv_rc add_rules(sv_dbw *w, void *arg, sv_err *err)
{
    rules_arg *a = arg;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(w, a->account, a->bucket, &b, err) != SV_OK ||
        sv_stmt_prep(&q, w, "INSERT INTO rules (bucket, queue, rule, prefix, suffix, description, actions, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                     err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < a->n; i++) {
        const sv_r2_rule *r = &a->v[i];
        int64_t n = 0;
        if (count_rules(w, b.no, r->queue, &n, err) != SV_OK)
            return err->code;
        if (n >= MAX_QUEUE_RULES)
            return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "the bucket has %lld notification rules for this queue, at most %d", (long long)n, MAX_QUEUE_RULES);
        sv_bind_i64(&q, 1, b.no);
        sv_bind_cstr(&q, 2, r->queue);
        sv_bind_cstr(&q, 3, r->id);
        sv_bind_str(&q, 4, r->prefix.n ? r->prefix : SV_STR(""));
        sv_bind_str(&q, 5, r->suffix.n ? r->suffix : SV_STR(""));
        sv_bind_str(&q, 6, r->description.n ? r->description : SV_STR(""));
        sv_bind_i64(&q, 7, r->actions);
        sv_bind_i64(&q, 8, r->created_ms);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
        sv_stmt_reset(&q);
    }
    return SV_OK;
}

sv_rc sv_r2_rules_add(sv_r2 *r2, sv_str account, sv_str bucket, sv_r2_rule *v, size_t n, sv_err *err)
{
    for (size_t i = 0; i < n; i++) {
        sv_random_hex(v[i].id, 16);
        v[i].created_ms = sv_now_ms();
    }
    return sv_db_write(r2->db, add_rules, &(rules_arg){.account = account, .bucket = bucket, .v = v, .n = n}, err);
}

static sv_rc list_rules(sv_dbw *r, void *arg, sv_err *err)
{
    rules_arg *a = arg;
    bool row = true;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(r, a->account, a->bucket, &b, err) != SV_OK ||
        sv_stmt_prep(&q, r, "SELECT queue, rule, prefix, suffix, description, actions, created_ms FROM rules WHERE bucket = ?1 ORDER BY queue, id", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b.no);
    for (;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        sv_str queue = sv_col_str(&q, 0), id = sv_col_str(&q, 1);
        sv_r2_rule one = {.prefix = sv_col_str(&q, 2), .suffix = sv_col_str(&q, 3), .description = sv_col_str(&q, 4), .actions = (int)sv_col_i64(&q, 5),
                          .created_ms = sv_col_i64(&q, 6)};
        snprintf(one.queue, sizeof one.queue, "%.*s", (int)queue.n, queue.p);
        snprintf(one.id, sizeof one.id, "%.*s", (int)id.n, id.p);
        a->each(a->arg, &one);
    }
}

sv_rc sv_r2_rules_list(sv_r2 *r2, sv_str account, sv_str bucket, void (*each)(void *arg, const sv_r2_rule *r), void *arg, sv_err *err)
{
    return sv_db_read(r2->db, list_rules, &(rules_arg){.account = account, .bucket = bucket, .each = each, .arg = arg}, err);
}

static sv_rc remove_rules(sv_dbw *w, void *arg, sv_err *err)
{
    rules_arg *a = arg;
    int64_t n = 0;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(w, a->account, a->bucket, &b, err) != SV_OK ||
        sv_stmt_prep(&q, w, a->n_ids ? "DELETE FROM rules WHERE bucket = ?1 AND queue = ?2 AND rule = ?3" : "DELETE FROM rules WHERE bucket = ?1 AND queue = ?2",
                     err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < (a->n_ids ? a->n_ids : 1); i++) {
        sv_bind_i64(&q, 1, b.no);
        sv_bind_str(&q, 2, a->queue);
        if (a->n_ids)
            sv_bind_str(&q, 3, a->ids[i]);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
        n += sv_db_changes(w);
        sv_stmt_reset(&q);
    }
    return n ? SV_OK : sv_r2_fail(err, SV_R2_NO_NOTIFICATION);
}

sv_rc sv_r2_rules_remove(sv_r2 *r2, sv_str account, sv_str bucket, sv_str queue, const sv_str *ids, size_t n_ids, sv_err *err)
{
    return sv_db_write(r2->db, remove_rules, &(rules_arg){.account = account, .bucket = bucket, .queue = queue, .ids = ids, .n_ids = n_ids}, err);
}
