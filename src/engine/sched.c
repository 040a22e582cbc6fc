/* sched.c - one model's requests: all that live advance together, one batch a step
 *
 *     add ──► queued ──(batch and pages have room)──► reading ──► writing ──► ended
 *                ▲                                        │           │
 *                └──────────(no page left: preempted)─────┴───────────┘
 *
 * Admission is by pages: a request gets into the batch once there is room for what it has to read, beside what all others still have to read
 * and a page for each to grow. What it may write comes on top and is not promised: most texts end long before max_tokens, and promising it
 * all would leave most of the cache empty. So pages can run out. Then the request that was admitted last leaves the batch and its pages, and
 * goes back to the head of the queue; it keeps its tokens, sampler and text, and its full pages stay in the cache as long as nobody needs
 * their room (kv.h). Once admitted again it reads its own tokens, where they are not kept, and goes on. The bits are those that it had
 * before (models/llm.h): its client sees a pause and nothing else. The oldest never leaves, and add refuses what the whole cache could not
 * hold; so the oldest gets through, then the next, and nobody waits for ever.
 *
 * Computing again was preferred to copying the pages away: reading a page costs one step's share of a prompt, at hundreds of tokens a
 * second, and no second budget is to be kept.
 *
 * Who is next is start-time fair queueing over tenants (Goyal, Vin, Cheng 1996), cost being a request's rows: each tenant has a clock that its
 * requests advance, and the one with the least start time goes next, whatever it needs; nobody overtakes it. So a tenant with a thousand
 * requests in the queue delays another by one request, and a request that needs many pages is not starved by small ones.
 *
 * Within a step, text first: every request that writes gets its row. Prompts get what is left: half of it goes to them in the order of their
 * admission, half to whoever has least left to read. So sixteen prompts that come together are read one after the other, and the first one's
 * text begins after a sixteenth of the time that it took when they shared the rows equally (then all began at the end); a short prompt is
 * through in a step or two while a long one goes on; and no flood of short ones takes more than half from a long one whose turn it is. While
 * somebody's text is being written, prompts get only as many rows as fit into step_ms by the speed measured so far, so that a stranger's long
 * prompt does not make a stream stutter.
 *
 * Invariants:
 *   1. n_done is the number of positions whose keys and values are in the pages; n_done < n_tokens. Writing: n_done == n_tokens - 1, the last
 *      token is not yet computed. Else reading.
 *   2. Positions up to n_max - 2 are ever computed: the last token is chosen and never fed.
 *   3. n_active <= max_active <= max_rows: a row for every writer is always there.
 *   4. A request's logits, sampler, detokenizer and stops are its own; nothing of them is shared, in parallel sampling either.
 *   5. active[] is in the order of admission; the first is never preempted.
 *   6. Pages that n_done covers wholly are kept (kv.h), the one after them is the sequence's own. A step writes from n_done on only, so never to a
 *      kept page. */
#include "engine/sched.h"

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "engine/kv.h"
#include "engine/sampler.h"
#include "engine/stops.h"
#include "engine/wire.h" /* sv_wire_pack_probs */

enum { MAX_TENANTS = 256, MIN_PROMPT_ROWS = 16, MAX_PROBS_BYTES = 64 << 10 };

const int32_t sv_step_ms_bounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000};
const int32_t sv_step_rows_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};

typedef struct seq {
    struct seq *next; /* queued: in order of arrival */
    sv_sched_req req; /* tokens, stop and tenant are not looked at after add */
    char tenant[SV_KV_MAX_TENANT];
    uint64_t start;   /* virtual time */
    int32_t *tokens;  /* [n_max] */
    int32_t n_prompt, n_tokens, n_max, n_done; /* inv. 1 */
    int32_t n_cached; /* prompt tokens that it found in the cache, before it was ever preempted */
    int32_t n_plan;   /* rows in this step */
    int32_t place;    /* in active[], in this step */
    sv_kv_seq kv;     /* empty in the queue */
    float *logits;    /* [n_vocab] */
    sv_sampler *sampler;
    sv_detok detok;
    sv_stops stops;
    int32_t chosen;   /* by the step, before it is accepted */
    int32_t n_untold; /* tokens since the last on_text */
    sv_buf probs;     /* of those, packed */
    bool ended, preempted; /* preempted: to be swept back into the queue */
    bool resumed;     /* was preempted once */
} seq;

typedef struct tenant {
    char id[SV_KV_MAX_TENANT];
    uint64_t finish; /* virtual time at which its last request would be through */
} tenant;

struct sv_sched {
    sv_llm *m;
    sv_compute *compute;
    sv_sched_events events;
    sv_sched_opts o;
    sv_llm_ws *ws;
    sv_kv *kv;
    seq *queue, **queue_end;
    seq **active;         /* [max_active] */
    int32_t n_active, n_queued;
    tenant tenants[MAX_TENANTS]; /* only those whose finish is ahead of now */
    int32_t n_tenants;
    uint64_t now;         /* virtual time: the start of the request admitted last */
    sv_llm_chunk *chunks; /* [max_active]: the step */
    seq **out;            /* [max_active]: who gets a token from it */
    seq **reading;        /* [max_active]: scratch of plan */
    int32_t n_chunks, n_out, n_rows;
    double us_a_row;      /* measured; 0: not yet */
    sv_buf piece, text;
    struct {
        _Atomic int32_t n_active, n_queued, used, cached;
        _Atomic int64_t tokens, steps, cancelled, rows, hits, preempted, step_us;
        _Atomic int64_t by_ms[SV_STEP_BUCKETS], by_rows[SV_STEP_BUCKETS];
    } count;
};

/* --- life and death ----------------------------------------------------------------------------------------------- */

static int32_t n_pages_for(int64_t n_positions) { return (int32_t)((n_positions + SV_KV_PAGE - 1) / SV_KV_PAGE); }

static void set_defaults(sv_sched_opts *o)
{
    if (o->max_rows <= 0)
        o->max_rows = 256;
    if (o->max_active <= 0)
        o->max_active = 64;
    if (o->max_active > o->max_rows)
        o->max_active = o->max_rows;
    if (o->max_queued <= 0)
        o->max_queued = 256;
    if (o->step_ms <= 0)
        o->step_ms = 100;
    if (o->kv_bytes == 0)
        o->kv_bytes = (size_t)1 << 30;
}

sv_rc sv_sched_new(sv_sched **out, sv_llm *m, sv_compute *compute, const sv_sched_events *events, const sv_sched_opts *opts, sv_err *err)
{
    SV_AUTO(sv_sched_freep) sv_sched *s = sv_xnew0(sv_sched);
    s->m = sv_llm_ref(m);
    s->compute = compute;
    s->events = *events;
    s->o = *opts;
    set_defaults(&s->o);
    s->queue_end = &s->queue;
    if (sv_llm_ws_new(&s->ws, m, s->o.max_rows, err) != SV_OK)
        return err->code;
    s->kv = sv_kv_new(sv_llm_kv_page_bytes(m), s->o.kv_bytes);
    s->active = sv_xcalloc((size_t)s->o.max_active, sizeof *s->active);
    s->chunks = sv_xcalloc((size_t)s->o.max_active, sizeof *s->chunks);
    s->out = sv_xcalloc((size_t)s->o.max_active, sizeof *s->out);
    s->reading = sv_xcalloc((size_t)s->o.max_active, sizeof *s->reading);
    sv_buf_init(&s->piece, 0);
    sv_buf_init(&s->text, 0);
    *out = SV_TAKE(s);
    return SV_OK;
}

sv_sched *sv_sched_free(sv_sched *s)
{
    if (!s)
        return NULL;
    SV_ASSERT(!sv_sched_busy(s));
    sv_kv_free(s->kv);
    sv_llm_ws_free(s->ws);
    free(s->active);
    free(s->chunks);
    free(s->out);
    free(s->reading);
    sv_buf_done(&s->piece);
    sv_buf_done(&s->text);
    sv_llm_unref(s->m);
    free(s);
    return NULL;
}

static void seq_free(sv_sched *s, seq *q)
{
    sv_kv_close(s->kv, &q->kv);
    sv_sampler_free(q->sampler);
    sv_stops_done(&q->stops);
    sv_buf_done(&q->probs);
    free(q->logits);
    free(q->tokens);
    free(q);
}

static sv_usage usage_of(const seq *q)
{
    return (sv_usage){.prompt_tokens = q->n_prompt, .completion_tokens = q->n_tokens - q->n_prompt, .cached_tokens = q->n_cached};
}

/* Tells the end; whoever holds the sequence drops it afterwards. */
static void end(sv_sched *s, seq *q, sv_rc rc, sv_finish finish, const sv_err *err)
{
    sv_usage usage = usage_of(q);
    q->ended = true;
    if (rc == SV_ECANCELED)
        s->count.cancelled++;
    s->events.on_end(q->req.arg, rc, finish, &usage, err);
}

static void end_cancelled(sv_sched *s, seq *q)
{
    sv_err err = {0};
    sv_rc rc = sv_fail(&err, SV_ECANCELED, "canceled");
    end(s, q, rc, SV_FINISH_STOP, &err);
}

/* --- the queue ---------------------------------------------------------------------------------------------------- */

/* Forgets tenants whose last request lies behind; then they start at now like strangers. */
static void forget_tenants(sv_sched *s)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < s->n_tenants; i++)
        if (s->tenants[i].finish > s->now)
            s->tenants[kept++] = s->tenants[i];
    s->n_tenants = kept;
}

/* The tenant's clock. Where more are busy than there is room for, the one least ahead is forgotten. */
static tenant *find_tenant(sv_sched *s, const char *id)
{
    int32_t least = 0;
    for (int32_t i = 0; i < s->n_tenants; i++) {
        if (strcmp(s->tenants[i].id, id) == 0)
            return &s->tenants[i];
        if (s->tenants[i].finish < s->tenants[least].finish)
            least = i;
    }
    tenant *t = &s->tenants[s->n_tenants < MAX_TENANTS ? s->n_tenants++ : least];
    *t = (tenant){.finish = s->now};
    snprintf(t->id, sizeof t->id, "%s", id);
    return t;
}

static void enqueue(sv_sched *s, seq *q)
{
    forget_tenants(s);
    tenant *t = find_tenant(s, q->tenant);
    q->start = t->finish > s->now ? t->finish : s->now;
    t->finish = q->start + (uint64_t)q->n_max;
    *s->queue_end = q;
    s->queue_end = &q->next;
    s->n_queued++;
}

sv_rc sv_sched_add(sv_sched *s, const sv_sched_req *req, sv_err *err)
{
    const sv_llm_info *info = sv_llm_get_info(s->m);
    SV_ASSERT(req->n_tokens >= 1 && req->max_tokens >= 1 && req->n_tokens <= info->n_ctx - req->max_tokens);
    if (s->n_active + s->n_queued >= s->o.max_active + s->o.max_queued) /* the next step empties the queue into free places */
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests wait for this model already", s->n_queued);
    if (n_pages_for((int64_t)req->n_tokens + req->max_tokens - 1) > sv_kv_get_stats(s->kv).n_pages) /* it would wait for ever */
        return sv_fail_api(err, SV_ELIMIT, 5021, "prompt has %d tokens and max_tokens is %d: over the %lld tokens that this engine's KV cache holds",
                           req->n_tokens, req->max_tokens, (long long)sv_kv_get_stats(s->kv).n_pages * SV_KV_PAGE);
    for (int32_t i = 0; i < req->sampling.n_logit_bias; i++)
        if (req->sampling.logit_bias[i].token < 0 || req->sampling.logit_bias[i].token >= info->n_vocab)
            return sv_fail(err, SV_EINVAL, "'logit_bias': token %d is not in the vocabulary of %d", req->sampling.logit_bias[i].token,
                           info->n_vocab);
    seq *q = sv_xnew0(seq);
    sv_buf_init(&q->probs, 0);
    q->n_prompt = q->n_tokens = req->n_tokens;
    q->n_max = req->n_tokens + req->max_tokens;
    if (!(q->tokens = sv_try_calloc((size_t)q->n_max, sizeof *q->tokens))) {
        free(q);
        return sv_fail(err, SV_ENOMEM, "no memory for %d tokens", req->n_tokens + req->max_tokens);
    }
    memcpy(q->tokens, req->tokens, (size_t)req->n_tokens * sizeof *q->tokens);
    q->req = *req;
    SV_ASSERT(!req->tenant || strlen(req->tenant) < sizeof q->tenant); /* a name cut short could be another's */
    snprintf(q->tenant, sizeof q->tenant, "%s", req->tenant ? req->tenant : "");
    sv_stops_init(&q->stops, req->stop, req->n_stops);
    /* A text that follows a control token (or nothing) is one of its own for the tokenizer, with its own leading space. */
    q->detok.started = sv_tokenizer_piece(sv_llm_tokenizer(s->m), q->tokens[q->n_prompt - 1]).n > 0;
    enqueue(s, q);
    atomic_store(&s->count.n_queued, s->n_queued);
    return SV_OK;
}

/* Takes *at out of the queue. */
static seq *dequeue(sv_sched *s, seq **at)
{
    seq *q = *at;
    *at = q->next;
    if (s->queue_end == &q->next)
        s->queue_end = at;
    q->next = NULL;
    s->n_queued--;
    return q;
}

static void drop_cancelled(sv_sched *s)
{
    for (seq **at = &s->queue; *at;) {
        if (!atomic_load_explicit((*at)->req.cancel, memory_order_relaxed)) {
            at = &(*at)->next;
            continue;
        }
        seq *q = dequeue(s, at);
        end_cancelled(s, q);
        seq_free(s, q);
    }
    for (int32_t i = 0; i < s->n_active; i++)
        if (atomic_load_explicit(s->active[i]->req.cancel, memory_order_relaxed))
            end_cancelled(s, s->active[i]);
}

/* What a request needs in the batch besides pages; a preempted one has most of it. */
static sv_rc equip(sv_sched *s, seq *q, sv_err *err)
{
    int32_t n_vocab = sv_llm_get_info(s->m)->n_vocab;
    if (sv_kv_open(s->kv, &q->kv, q->tenant, n_pages_for((int64_t)q->n_max - 1), err) != SV_OK) /* inv. 2 */
        return err->code;
    if (!q->logits && !(q->logits = sv_try_calloc((size_t)n_vocab, sizeof *q->logits)))
        return sv_fail(err, SV_ENOMEM, "no memory for another request");
    if (q->sampler)
        return SV_OK;
    if (sv_sampler_new(&q->sampler, &q->req.sampling, n_vocab, err) != SV_OK)
        return err->code;
    sv_sampler_see(q->sampler, q->tokens, q->n_prompt, true);
    return SV_OK;
}

static seq **next_in_queue(sv_sched *s)
{
    seq **best = &s->queue;
    for (seq **at = &s->queue; *at; at = &(*at)->next)
        if ((*at)->start < (*best)->start)
            best = at;
    return best;
}

/* Pages that its known tokens still need. */
static int32_t n_pages_due(const seq *q)
{
    int32_t n = n_pages_for(q->n_tokens) - q->kv.n_pages;
    return n > 0 ? n : 0;
}

/* The last token is computed whatever is kept, since its logits are wanted. */
static int32_t n_reusable(const seq *q) { return q->n_tokens - 1; }

/* Is there room to read all that q has to read, and for each in the batch to grow by a page? Alone it always has room. */
static bool has_room(const sv_sched *s, const seq *q)
{
    sv_kv_stats kv = sv_kv_get_stats(s->kv);
    int32_t n_idle, n_kept = sv_kv_match(s->kv, q->tenant, q->tokens, n_reusable(q), &n_idle);
    int64_t left = (int64_t)kv.n_pages - kv.n_used - s->n_active;
    for (int32_t i = 0; i < s->n_active; i++)
        left -= n_pages_due(s->active[i]);
    return s->n_active == 0 || n_pages_for(q->n_tokens) - n_kept + n_idle <= left;
}

/* Takes what the cache has of it: at its admission, and again as it reads, since who came with the same beginning may have computed it by now. */
static void attach(sv_sched *s, seq *q)
{
    int32_t before = q->n_done;
    sv_kv_attach(s->kv, &q->kv, q->tokens, n_reusable(q));
    if (q->n_done < q->kv.n_kept * SV_KV_PAGE)
        q->n_done = q->kv.n_kept * SV_KV_PAGE;
    if (q->kv.n_pages == q->kv.n_kept)
        q->n_done += sv_kv_copy(s->kv, &q->kv, q->tokens + q->n_done, n_reusable(q) - q->n_done);
    if (!q->resumed) { /* else it may have computed them itself */
        q->n_cached += q->n_done - before;
        s->count.hits += q->n_done - before;
    }
}

static void admit(sv_sched *s)
{
    while (s->queue && s->n_active < s->o.max_active) {
        seq **at = next_in_queue(s), *q = *at;
        if (!has_room(s, q))
            break;
        dequeue(s, at);
        s->now = q->start > s->now ? q->start : s->now;
        q->preempted = false;
        sv_err err = {0};
        if (equip(s, q, &err) == SV_OK) {
            attach(s, q);
            s->active[s->n_active++] = q;
            continue;
        }
        end(s, q, err.code, SV_FINISH_STOP, &err);
        seq_free(s, q);
    }
}

/* Out of the batch, into the head of the queue: with a start time that lies behind it goes first again. */
static void requeue(sv_sched *s, seq *q)
{
    free(q->logits);
    q->logits = NULL;
    q->n_done = 0;
    q->resumed = true;
    q->next = s->queue;
    s->queue = q;
    if (!q->next)
        s->queue_end = &q->next;
    s->n_queued++;
}

/* Drops from the batch what has ended or was preempted, keeping the order. */
static void sweep(sv_sched *s)
{
    int32_t kept = 0;
    for (int32_t i = s->n_active; i-- > 0;) /* backwards: the oldest ends up at the head of the queue */
        if (s->active[i]->preempted && !s->active[i]->ended)
            requeue(s, s->active[i]);
    for (int32_t i = 0; i < s->n_active; i++) {
        if (s->active[i]->ended)
            seq_free(s, s->active[i]);
        else if (!s->active[i]->preempted)
            s->active[kept++] = s->active[i];
    }
    s->n_active = kept;
}

/* --- a step ------------------------------------------------------------------------------------------------------- */

static int32_t n_rest(const seq *q) { return q->n_tokens - q->n_done; }

static int by_rest(const void *a, const void *b)
{
    const seq *x = *(seq *const *)a, *y = *(seq *const *)b;
    int32_t rest_x = n_rest(x) - x->n_plan, rest_y = n_rest(y) - y->n_plan;
    return rest_x != rest_y ? (rest_x < rest_y ? -1 : 1) : x->place < y->place ? -1 : x->place > y->place;
}

/* Rows for prompts beside n_writing rows of text. */
static int32_t prompt_rows(const sv_sched *s, int32_t n_writing)
{
    int32_t room = s->o.max_rows - n_writing;
    if (n_writing == 0 || s->us_a_row <= 0)
        return room;
    double fit = 0.9 * s->o.step_ms * 1000.0 / s->us_a_row - n_writing; /* a tenth for choosing and sending, and as a row costs more the deeper it is */
    return fit >= room ? room : fit > MIN_PROMPT_ROWS ? (int32_t)fit : room < MIN_PROMPT_ROWS ? room : MIN_PROMPT_ROWS;
}

/* In their order, each all that it still needs, as far as n rows go; returns how many they took. */
static int32_t give_rows(seq **reading, int32_t n_reading, int32_t n)
{
    int32_t left = n;
    for (int32_t i = 0; i < n_reading && left > 0; i++) {
        int32_t rest = n_rest(reading[i]) - reading[i]->n_plan, got = rest < left ? rest : left;
        reading[i]->n_plan += got;
        left -= got;
    }
    return n - left;
}

/* Who gets how many rows. */
static void share_rows(sv_sched *s)
{
    int32_t n_reading = 0;
    for (int32_t i = 0; i < s->n_active; i++) {
        seq *q = s->active[i];
        bool writing = n_rest(q) == 1;
        q->place = i;
        q->n_plan = writing;
        if (!writing)
            s->reading[n_reading++] = q;
    }
    int32_t left = prompt_rows(s, s->n_active - n_reading);
    left -= give_rows(s->reading, n_reading, (left + 1) / 2);
    qsort(s->reading, (size_t)n_reading, sizeof(seq *), by_rest);
    (void)give_rows(s->reading, n_reading, left);
}

/* The one admitted last leaves: q itself, or one after it. */
static void preempt_last(sv_sched *s, int32_t *n_left)
{
    seq *last = s->active[--*n_left];
    last->preempted = true;
    last->n_plan = 0;
    sv_kv_close(s->kv, &last->kv);
    s->count.preempted++;
}

/* Pages for everybody's rows, in the order of admission, so that the youngest make room. */
static void find_pages(sv_sched *s)
{
    int32_t n_left = s->n_active;
    for (int32_t i = 0; i < n_left; i++) {
        seq *q = s->active[i];
        while (!q->ended && !q->preempted && q->kv.n_pages < n_pages_for((int64_t)q->n_done + q->n_plan)) {
            sv_err err = {0};
            sv_rc rc = sv_kv_grow(s->kv, &q->kv, &err);
            if (rc == SV_ELIMIT && n_left > 1)
                preempt_last(s, &n_left);
            else if (rc != SV_OK)
                end(s, q, rc, SV_FINISH_STOP, &err);
        }
    }
}

static void plan(sv_sched *s)
{
    s->n_chunks = s->n_out = s->n_rows = 0;
    for (int32_t i = 0; i < s->n_active; i++)
        if (n_rest(s->active[i]) > 1)
            attach(s, s->active[i]);
    share_rows(s);
    find_pages(s);
    for (int32_t i = 0; i < s->n_active; i++) {
        seq *q = s->active[i];
        if (q->n_plan == 0 || q->ended)
            continue;
        bool last = q->n_plan == n_rest(q);
        s->chunks[s->n_chunks++] = (sv_llm_chunk){q->tokens + q->n_done, q->n_plan, q->n_done, q->kv.page, last ? q->logits : NULL};
        if (last)
            s->out[s->n_out++] = q;
        s->n_rows += q->n_plan;
    }
}

/* The step has computed n_plan positions of each. */
static void advance(sv_sched *s)
{
    for (int32_t i = 0; i < s->n_active; i++) {
        seq *q = s->active[i];
        if (q->n_plan == 0 || q->ended)
            continue;
        q->n_done += q->n_plan;
        while (q->kv.n_kept < q->n_done / SV_KV_PAGE) /* inv. 6 */
            sv_kv_keep(s->kv, &q->kv, q->tokens + (size_t)q->kv.n_kept * SV_KV_PAGE);
    }
}

static void choose(void *arg, int32_t i)
{
    seq *q = ((sv_sched *)arg)->out[i];
    q->chosen = sv_sampler_next(q->sampler, q->logits);
}

static int bucket_of(double v, const int32_t *bounds)
{
    int i = 0;
    while (i < SV_STEP_BUCKETS - 1 && v > bounds[i])
        i++;
    return i;
}

static void count_step(sv_sched *s, int64_t us)
{
    s->count.steps++;
    s->count.rows += s->n_rows;
    s->count.step_us += us;
    s->count.by_ms[bucket_of((double)us / 1000, sv_step_ms_bounds)]++;
    s->count.by_rows[bucket_of(s->n_rows, sv_step_rows_bounds)]++;
}

static void compute(sv_sched *s)
{
    sv_pool *pool = sv_compute_enter(s->compute);
    int64_t begin = sv_mono_us();
    sv_llm_step(s->m, s->ws, pool, s->chunks, s->n_chunks);
    double us = (double)(sv_mono_us() - begin) / s->n_rows;
    sv_pool_run(pool, s->n_out, choose, s);
    sv_compute_leave(s->compute);
    count_step(s, sv_mono_us() - begin);
    /* Of big steps only: a row of a small one carries all the weights' reading, and says little about a prompt's. */
    if (s->n_rows >= MIN_PROMPT_ROWS)
        s->us_a_row = s->us_a_row > 0 ? s->us_a_row + (us > s->us_a_row ? 0.5 : 0.1) * (us - s->us_a_row) : us; /* slower is believed sooner */
}

static void tell_probs(sv_sched *s, seq *q)
{
    if (q->probs.n > 0 && s->events.on_probs)
        s->events.on_probs(q->req.arg, sv_buf_str(&q->probs));
    sv_buf_reset(&q->probs);
}

static void note_probs(sv_sched *s, seq *q)
{
    const sv_tokenizer *t = sv_llm_tokenizer(s->m);
    if (!q->req.sampling.logprobs)
        return;
    sv_token_probs p = *sv_sampler_probs(q->sampler);
    p.chosen.bytes = sv_tokenizer_piece(t, p.chosen.token);
    for (int32_t i = 0; i < p.n_top; i++)
        p.top[i].bytes = sv_tokenizer_piece(t, p.top[i].token);
    sv_wire_pack_probs(&q->probs, &p);
    if (q->probs.n > MAX_PROBS_BYTES) /* a long row of tokens without text */
        tell_probs(s, q);
}

/* Sends what is text for certain. */
static void tell(sv_sched *s, seq *q)
{
    if (s->text.n == 0)
        return;
    tell_probs(s, q);
    s->events.on_text(q->req.arg, sv_buf_str(&s->text), q->n_untold);
    q->n_untold = 0;
}

/* The text is over by the model's or by max_tokens' will: what was held back comes out. */
static void finish(sv_sched *s, seq *q, sv_finish how)
{
    sv_buf_reset(&s->piece);
    sv_detok_finish(&q->detok, &s->piece);
    if (sv_stops_feed(&q->stops, sv_buf_str(&s->piece), &s->text))
        how = SV_FINISH_STOP;
    sv_stops_finish(&q->stops, &s->text);
    tell(s, q);
    tell_probs(s, q);
    end(s, q, SV_OK, how, NULL);
}

static void accept(sv_sched *s, seq *q)
{
    const sv_tokenizer *t = sv_llm_tokenizer(s->m);
    if (q->n_tokens == q->n_prompt) {
        sv_usage usage = usage_of(q);
        s->events.on_start(q->req.arg, &usage);
    }
    sv_buf_reset(&s->text);
    if (q->chosen < 0) {
        sv_err err = {0};
        sv_rc rc = sv_fail(&err, SV_EFORMAT, "the model computed no finite number; its file is broken");
        end(s, q, rc, SV_FINISH_STOP, &err);
        return;
    }
    if (sv_tokenizer_is_eog(t, q->chosen)) {
        finish(s, q, SV_FINISH_STOP);
        return;
    }
    q->tokens[q->n_tokens++] = q->chosen;
    q->n_untold++;
    s->count.tokens++;
    note_probs(s, q);
    sv_sampler_see(q->sampler, &q->chosen, 1, false);
    sv_buf_reset(&s->piece);
    sv_detok_feed(&q->detok, t, q->chosen, &s->piece);
    bool stopped = sv_stops_feed(&q->stops, sv_buf_str(&s->piece), &s->text);
    if (!stopped && q->n_tokens == q->n_max) {
        finish(s, q, SV_FINISH_LENGTH);
        return;
    }
    tell(s, q);
    if (stopped)
        end(s, q, SV_OK, SV_FINISH_STOP, NULL);
}

static void publish(sv_sched *s)
{
    atomic_store(&s->count.n_active, s->n_active);
    atomic_store(&s->count.n_queued, s->n_queued);
    sv_kv_stats kv = sv_kv_get_stats(s->kv);
    atomic_store(&s->count.used, kv.n_used);
    atomic_store(&s->count.cached, kv.n_cached);
}

void sv_sched_step(sv_sched *s)
{
    drop_cancelled(s);
    sweep(s);
    admit(s);
    publish(s);
    if (s->n_active > 0)
        plan(s);
    if (s->n_active > 0 && s->n_chunks > 0) {
        compute(s);
        advance(s);
        for (int32_t i = 0; i < s->n_out; i++)
            accept(s, s->out[i]);
    }
    sweep(s);
    publish(s);
}

bool sv_sched_busy(const sv_sched *s) { return s->n_active > 0 || s->n_queued > 0; }

void sv_sched_stop(sv_sched *s, const sv_err *why)
{
    while (s->queue) {
        seq *q = dequeue(s, &s->queue);
        end(s, q, why->code, SV_FINISH_STOP, why);
        seq_free(s, q);
    }
    for (int32_t i = 0; i < s->n_active; i++)
        end(s, s->active[i], why->code, SV_FINISH_STOP, why);
    sweep(s);
    publish(s);
}

void sv_sched_trim(sv_sched *s)
{
    sv_kv_trim(s->kv, sv_kv_get_stats(s->kv).n_pages / 4);
    publish(s);
}

void sv_sched_get_stats(const sv_sched *s, sv_sched_stats *out)
{
    *out = (sv_sched_stats){
        .n_active = atomic_load(&s->count.n_active), .n_queued = atomic_load(&s->count.n_queued),
        .kv_pages_used = atomic_load(&s->count.used), .kv_pages_cached = atomic_load(&s->count.cached),
        .kv_pages = sv_kv_get_stats(s->kv).n_pages, .cached_tokens = atomic_load(&s->count.hits), .preempted = atomic_load(&s->count.preempted),
        .tokens = atomic_load(&s->count.tokens), .steps = atomic_load(&s->count.steps),
        .cancelled = atomic_load(&s->count.cancelled), .rows = atomic_load(&s->count.rows), .step_us = atomic_load(&s->count.step_us),
    };
    for (int i = 0; i < SV_STEP_BUCKETS; i++) {
        out->steps_by_ms[i] = atomic_load(&s->count.by_ms[i]);
        out->steps_by_rows[i] = atomic_load(&s->count.by_rows[i]);
    }
}

void sv_sched_stats_add(sv_sched_stats *sum, const sv_sched_stats *more)
{
    sum->n_active += more->n_active;
    sum->n_queued += more->n_queued;
    sum->kv_pages_used += more->kv_pages_used;
    sum->kv_pages_cached += more->kv_pages_cached;
    sum->kv_pages += more->kv_pages;
    sum->tokens += more->tokens;
    sum->steps += more->steps;
    sum->cancelled += more->cancelled;
    sum->rows += more->rows;
    sum->cached_tokens += more->cached_tokens;
    sum->preempted += more->preempted;
    sum->step_us += more->step_us;
    for (int i = 0; i < SV_STEP_BUCKETS; i++) {
        sum->steps_by_ms[i] += more->steps_by_ms[i];
        sum->steps_by_rows[i] += more->steps_by_rows[i];
    }
}
