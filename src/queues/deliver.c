/* deliver.c - a lane for each queue that a Worker consumes
 *
 *   (messages are ready) --full, or waited long enough--> reading --> out --handler returned--> settling --> (look again)
 *
 * A lane remembers the number up to which it has read (messages.c says why that is enough). `in_flight` messages are ready in the store and out with
 * a Worker; what is left of the backlog decides whether there is another batch. Several batches are out at once when the backlog fills them:
 * one JavaScript thread serves them all, and gains while handlers wait for something.
 *
 * When nobody has seen a batch (no such Worker), or its settlement was not written, the lane goes back to the batch's first number, as soon as no other
 * batch is out: else it would read again what they have.
 *
 * Invariant: in_flight is the sum of the batches that are out or settling, n_running their count. */
#include "queues/deliver.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/time.h"

enum { AUTO_CONCURRENCY = 10, AGAIN_MS = 1000, ABSENT_MS = 5000, FULL_MS = 50 };

typedef struct lane {
    sv_deliver *d;
    int64_t queue, cursor, rewind; /* rewind: INT64_MAX: none */
    int64_t in_flight;
    int n_running;
    bool reading;
    int64_t first_ms, not_before_ms; /* monotonic; 0: no message waits for its batch to fill / no reason to wait */
    sv_timer *timer;
} lane;

struct sv_deliver {
    sv_deliver_opts o;
    sv_smap *lanes; /* key: the queue's number */
    int n_out;      /* batches that are read, out or settling */
    bool draining;
    void (*drained)(void *arg);
    void *drained_arg;
};

typedef struct batch {
    lane *lane;
    sv_queues_info info;
    int64_t from, next;
    sv_buf body;
    struct { int64_t no; char id[33]; } v[SV_QUEUES_MAX_BATCH];
    size_t n;
    sv_queues_verdict verdicts[SV_QUEUES_MAX_BATCH];
    sv_queues_write write;
    sv_rc rc;
    sv_err err;
} batch;

static void look(lane *l);

static lane *lane_of(sv_deliver *d, int64_t queue)
{
    sv_str key = {(const char *)&queue, sizeof queue};
    lane *l = sv_smap_get(d->lanes, key);
    if (!l) {
        l = sv_xnew0(lane);
        *l = (lane){.d = d, .queue = queue, .rewind = INT64_MAX};
        l->timer = sv_timer_new(d->o.loop, (void (*)(void *))look, l);
        sv_smap_put(d->lanes, key, l);
    }
    return l;
}

static void lane_free(lane *l)
{
    sv_timer_free(l->timer);
    free(l);
}

/* ---- a batch ---- */

static void batch_end(batch *b)
{
    lane *l = b->lane;
    sv_deliver *d = l->d;
    sv_buf_done(&b->body);
    free(b);
    d->n_out--;
    look(l); /* l may be gone */
    if (d->draining && d->n_out == 0 && d->drained) {
        void (*done)(void *) = d->drained;
        d->drained = NULL;
        done(d->drained_arg);
    }
}

static void go_back(lane *l, int64_t to, int64_t after_ms)
{
    if (to < l->rewind)
        l->rewind = to;
    l->not_before_ms = sv_mono_ms() + after_ms;
}

static void back_from_flight(batch *b)
{
    b->lane->in_flight -= (int64_t)b->n;
    b->lane->n_running--;
}

static void settled(void *arg)
{
    batch *b = arg;
    back_from_flight(b);
    if (b->write.rc != SV_OK && b->write.rc != SV_ENOENT) {
        static sv_log_gate gate;
        if (sv_log_may(&gate, 60))
            sv_log(SV_ERROR, "queues.settle", "queue=%s error='%s' action='delivered again'", b->info.id, b->write.err.msg);
        go_back(b->lane, b->v[0].no, AGAIN_MS);
    }
    batch_end(b);
}

/* On the store's thread. */
static void settle_written(sv_queues_write *w)
{
    batch *b = w->arg;
    sv_loop_post(b->lane->d->o.loop, settled, b);
}

static const json_t *find_id(const json_t *list, const char *id)
{
    size_t i;
    json_t *m;
    json_array_foreach ((json_t *)(uintptr_t)list, i, m) {
        const char *text = json_is_string(m) ? json_string_value(m) : sv_json_cstr(m, "msgId");
        if (text && strcmp(text, id) == 0)
            return m;
    }
    return NULL;
}

static int64_t delay_in(const json_t *o, int64_t otherwise)
{
    const json_t *v = json_object_get(o, "delaySeconds");
    double s = json_is_number(v) ? json_number_value(v) : -1;
    return s < 0 ? otherwise : s > SV_QUEUES_MAX_DELAY_S ? SV_QUEUES_MAX_DELAY_S : (int64_t)s;
}

/* What workerd reports of the handler, as one verdict for each message; answer NULL: it did not come to an end. */
static void judge(batch *b, const json_t *answer)
{
    const char *outcome = sv_json_cstr(answer, "outcome");
    const json_t *retry_batch = json_object_get(answer, "retryBatch");
    bool retry_all = !outcome || strcmp(outcome, "ok") != 0 || json_is_true(json_object_get(retry_batch, "retry"));
    bool ack_all = json_is_true(json_object_get(answer, "ackAll"));
    for (size_t i = 0; i < b->n; i++) {
        const json_t *mine = find_id(json_object_get(answer, "retryMessages"), b->v[i].id);
        bool acked = find_id(json_object_get(answer, "explicitAcks"), b->v[i].id) != NULL;
        b->verdicts[i] = (sv_queues_verdict){.no = b->v[i].no, .retry = !acked && (mine || (retry_all && !ack_all)),
                                             .delay_s = delay_in(mine, delay_in(retry_batch, -1))};
    }
}

static void returned(void *arg, sv_rc rc, const json_t *answer, const sv_err *err)
{
    batch *b = arg;
    static sv_log_gate gate;
    if (rc != SV_OK && sv_log_may(&gate, 60))
        sv_log(SV_WARN, "queues.deliver", "queue=%s script=%s n=%zu error='%s' action=%s", b->info.id, b->info.consumer.script, b->n, err->msg,
               rc == SV_ENOENT ? "wait" : "retry");
    if (rc == SV_ENOENT) {
        back_from_flight(b);
        go_back(b->lane, b->v[0].no, ABSENT_MS);
        batch_end(b);
        return;
    }
    judge(b, rc == SV_OK ? answer : NULL);
    b->write = (sv_queues_write){.op = SV_QUEUES_SETTLE, .queue = b->lane->queue, .verdicts = b->verdicts, .n = b->n, .done = settle_written, .arg = b};
    sv_queues_submit(b->lane->d->o.queues, &b->write);
}

/* ---- reading ---- */

static void add_message(void *arg, const sv_queues_item *it)
{
    batch *b = arg;
    if (b->n == SV_QUEUES_MAX_BATCH)
        return;
    b->v[b->n].no = it->no;
    memcpy(b->v[b->n].id, it->id, sizeof it->id);
    sv_buf_addf(&b->body, "%s{\"id\":\"%s\",\"timestamp\":%lld,\"attempts\":%lld,\"type\":\"%s\",\"body\":\"", b->n ? "," : "", it->id,
                (long long)it->sent_ms, (long long)it->attempts, sv_queues_type_name(it->type));
    sv_base64_encode(&b->body, it->body.p, it->body.n);
    sv_buf_adds(&b->body, "\"}");
    b->n++;
}

static void read_back(void *arg)
{
    batch *b = arg;
    lane *l = b->lane;
    sv_deliver *d = l->d;
    l->reading = false;
    if (b->rc == SV_OK && b->body.failed)
        b->rc = sv_fail(&b->err, SV_ENOMEM, "no memory for a batch");
    if (b->rc != SV_OK)
        sv_log(SV_ERROR, "queues.read", "queue=%s error='%s' again_in_ms=%d", b->info.id, b->err.msg, AGAIN_MS);
    if (b->rc != SV_OK || b->n == 0 || d->draining) { /* none: what the backlog counts is not there yet, or not any more */
        l->not_before_ms = sv_mono_ms() + (b->rc == SV_OK ? FULL_MS : AGAIN_MS);
        batch_end(b);
        return;
    }
    l->cursor = b->next;
    l->first_ms = 0;
    l->in_flight += (int64_t)b->n;
    l->n_running++;
    d->o.invoke(d->o.ctx, b->info.account, b->info.consumer.script, &b->body, returned, b);
    look(l); /* is there another one? */
}

static void read_batch(void *arg)
{
    batch *b = arg;
    const sv_queues_info *i = &b->info;
    sv_buf_adds(&b->body, "{\"queue\":");
    sv_json_add_str(&b->body, sv_str_of(i->name));
    sv_buf_addf(&b->body, ",\"metadata\":{\"metrics\":{\"backlogCount\":%lld,\"backlogBytes\":%lld,\"oldestMessageTimestamp\":%lld}},\"messages\":[",
                (long long)i->n, (long long)i->bytes, (long long)i->oldest_ms);
    b->rc = sv_queues_read(b->lane->d->o.queues, i->no, b->from, i->consumer.batch, add_message, b, &b->next, &b->err);
    sv_buf_adds(&b->body, "]}");
    sv_loop_post(b->lane->d->o.loop, read_back, b);
}

static void begin_batch(lane *l, const sv_queues_info *info)
{
    batch *b = sv_xnew0(batch);
    b->lane = l;
    b->info = *info;
    b->from = l->cursor;
    sv_buf_init(&b->body, 0);
    l->reading = true;
    l->d->n_out++;
    if (sv_jobs_post(l->d->o.jobs, read_batch, b))
        return;
    l->reading = false;
    l->d->n_out--;
    sv_buf_done(&b->body);
    free(b);
    sv_timer_set(l->timer, FULL_MS);
}

/* ---- lanes ---- */

static bool is_idle(const lane *l) { return !l->reading && l->n_running == 0; }

/* Whether a batch should go out now; else the timer is set to when that may have changed by time alone. */
static void look(lane *l)
{
    sv_queues_info i;
    sv_err gone = {0};
    int64_t now = sv_mono_ms();
    sv_timer_set(l->timer, -1);
    if (l->n_running == 0 && l->rewind != INT64_MAX && !l->reading) {
        l->cursor = l->rewind < l->cursor ? l->rewind : l->cursor;
        l->rewind = INT64_MAX;
    }
    if (sv_queues_find_no(l->d->o.queues, l->queue, &i, &gone) != SV_OK) {
        if (is_idle(l)) {
            sv_smap_del(l->d->lanes, (sv_str){(const char *)&l->queue, sizeof l->queue});
            lane_free(l);
        }
        return;
    }
    if (i.consumer.kind != SV_QUEUES_WORKER && is_idle(l))
        l->cursor = 0; /* whoever consumed meanwhile may have left messages behind */
    int64_t n_max = i.consumer.concurrency ? i.consumer.concurrency : AUTO_CONCURRENCY, waiting = i.n_ready - l->in_flight;
    if (i.consumer.kind != SV_QUEUES_WORKER || i.paused || l->d->draining || waiting <= 0) {
        l->first_ms = 0;
        return;
    }
    if (l->reading || l->n_running >= n_max || (l->rewind != INT64_MAX && l->n_running)) /* its end looks again */
        return;
    if (!l->first_ms)
        l->first_ms = now;
    int64_t at = waiting >= i.consumer.batch ? now : l->first_ms + i.consumer.wait_ms;
    if (at < l->not_before_ms)
        at = l->not_before_ms;
    if (at > now)
        sv_timer_set(l->timer, at - now);
    else
        begin_batch(l, &i);
}

/* ---- life ---- */

typedef struct kick { sv_deliver *d; int64_t queue; } kick;

static void kicked(void *arg)
{
    kick k = *(kick *)arg;
    free(arg);
    look(lane_of(k.d, k.queue));
}

/* Any thread. */
static void changed(void *ctx, int64_t queue)
{
    kick *k = sv_xnew0(kick);
    *k = (kick){ctx, queue};
    sv_loop_post(k->d->o.loop, kicked, k);
}

sv_deliver *sv_deliver_new(const sv_deliver_opts *opts)
{
    sv_deliver *d = sv_xnew0(sv_deliver);
    sv_queues_info *all;
    size_t n;
    d->o = *opts;
    d->lanes = sv_smap_new();
    sv_queues_listen(d->o.queues, changed, d);
    sv_queues_list(d->o.queues, (sv_str){0}, &all, &n);
    for (size_t i = 0; i < n; i++)
        changed(d, all[i].no);
    free(all);
    return d;
}

void sv_deliver_drain(sv_deliver *d, void (*done_fn)(void *arg), void *arg)
{
    d->draining = true;
    if (d->n_out == 0) {
        done_fn(arg);
        return;
    }
    d->drained = done_fn;
    d->drained_arg = arg;
}

sv_deliver *sv_deliver_free(sv_deliver *d)
{
    if (!d)
        return NULL;
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(d->lanes, &i, &key, &v))
        lane_free(v);
    sv_smap_free(d->lanes);
    free(d);
    return NULL;
}
