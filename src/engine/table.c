/* table.c - the models that are loaded, by path, each with its thread
 *
 *     submit ─┬─ model loading: job waits in model->waiting ─┐
 *             └─ model ready ────────────────────────────────┴─► preparing (a thread of jobs) ─► model's queue ─► scheduler
 *     every event of a job comes back to the loop in a batch, one batch a step
 *
 * Preparing, which is the template and the tokenizer, has threads of its own: 100 KB of text take some ms, and a step must not wait for it.
 *
 *     LOADING ──► READY ──► STOPPING ──► gone            (stopping: idle, replaced, or the engine ends)
 *        └──► FAILED ──► gone
 *
 * Invariants (all fields of a model but the marked ones are the loop's):
 *   1. n_jobs counts submitted jobs whose end was not told yet. A model with jobs is never freed and, but at the engine's end, never stopped;
 *      so whoever holds a job may use job->model.
 *   2. The model's thread writes prompts, sched and load_err before it posts `loaded`, the loop reads them only after. It frees sched before it posts
 *      `gone`, and the loop does not look at sched from STOPPING on.
 *   3. A thread posts `loaded` once; after READY it posts batches, and `gone` last. Posts keep their order, so no event follows an end.
 *   4. The room has the bytes of the models that are LOADING or READY. */
#include "engine/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "engine/prompt.h"
#include "models/files.h"

enum { N_PREPARERS = 2, MAX_PREPARING = 4096, TRIM_MS = 5000, RETRY_MS = 5000, TICK_MS = 1000, MAX_FAILED = 64 };

typedef enum state { LOADING, READY, STOPPING, FAILED } state;
static const char *const state_names[] = {"loading", "ready", "stopping", "failed"};

typedef struct file_id {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
} file_id;

typedef struct sv_model {
    struct sv_model *next;
    sv_table *table;
    char *path;
    file_id file;
    size_t n_bytes; /* all files of the model */
    state state;
    bool stale;         /* the file is another one now: no new jobs */
    int32_t n_jobs;     /* inv. 1 */
    sv_job *waiting, **waiting_end;
    int64_t born_ms;
    int64_t used_ms;    /* when its last job ended, or when it failed */
    sv_sched_stats last; /* when it was stopped */
    pthread_t thread;
    sv_queue *queue;    /* jobs for the thread; taken and posted by any */
    _Atomic bool stop;  /* set by the loop, read by the thread */
    /* inv. 2 */
    sv_prompts *prompts;
    sv_sched *sched;
    sv_err load_err;
    sv_buf batch;       /* the thread's: events since the last post */
} sv_model;

struct sv_table {
    sv_loop *loop;
    sv_compute *compute;
    sv_table_opts o;
    sv_jobs *preparers;
    sv_timer *tick;
    sv_model *models;
    sv_sched_stats gone; /* sums of the models that are */
    _Atomic bool closing;
};

sv_job *sv_job_free(sv_job *j)
{
    if (j) {
        sv_wire_gen_done(&j->gen);
        free(j->prompt.v);
        free(j->bytes);
    }
    free(j);
    return NULL;
}

/* --- events: from a thread to the loop ---------------------------------------------------------------------------- */

typedef struct event {
    sv_job *job;
    enum { STARTED, TEXT, PROBS, ENDED } kind;
    sv_rc rc;
    sv_finish finish;
    sv_usage usage;
    int32_t n_tokens;
    uint32_t n_bytes; /* that follow: the text, the probabilities, or the sv_err; then padding to 16 */
} event;

typedef struct mail { sv_table *table; sv_buf events; } mail;

static void check_closed(sv_table *t);

static size_t padded(size_t n) { return (n + 15) & ~(size_t)15; }

static void add_event(sv_buf *b, const event *e, const void *bytes)
{
    static const char zeros[16];
    sv_buf_add(b, e, sizeof *e);
    sv_buf_add(b, bytes, e->n_bytes);
    sv_buf_add(b, zeros, padded(sizeof *e + e->n_bytes) - sizeof *e - e->n_bytes);
    SV_ASSERT(!b->failed); /* a step's texts are some KB; memory gone ends the process, as for all bookkeeping */
}

static void deliver(void *arg)
{
    mail *m = arg;
    sv_table *t = m->table;
    for (size_t at = 0; at < m->events.n;) {
        event e;
        sv_err err;
        memcpy(&e, m->events.p + at, sizeof e);
        const char *bytes = m->events.p + at + sizeof e;
        at += padded(sizeof e + e.n_bytes);
        if (e.kind == STARTED) {
            t->o.on_start(e.job, &e.usage);
        } else if (e.kind == PROBS) {
            t->o.on_probs(e.job, (sv_str){bytes, e.n_bytes});
        } else if (e.kind == TEXT) {
            t->o.on_text(e.job, (sv_str){bytes, e.n_bytes}, e.n_tokens);
        } else {
            sv_model *model = e.job->model;
            model->n_jobs--;
            model->used_ms = sv_mono_ms();
            if (e.rc != SV_OK)
                memcpy(&err, bytes, sizeof err);
            t->o.on_end(e.job, e.rc, e.finish, &e.usage, e.rc != SV_OK ? &err : NULL);
        }
    }
    sv_buf_done(&m->events);
    free(m);
    t->o.on_batch(t->o.arg);
    check_closed(t);
}

static void post_events(sv_table *t, sv_buf *events)
{
    if (events->n == 0)
        return;
    mail *m = sv_xnew0(mail);
    *m = (mail){t, *events};
    sv_buf_init(events, 0);
    sv_loop_post(t->loop, deliver, m);
}

static void on_start(void *arg, const sv_usage *usage)
{
    sv_job *j = arg;
    add_event(&j->model->batch, &(event){.job = j, .kind = STARTED, .usage = *usage}, NULL);
}

static void on_text(void *arg, sv_str text, int32_t n_tokens)
{
    sv_job *j = arg;
    add_event(&j->model->batch, &(event){.job = j, .kind = TEXT, .n_tokens = n_tokens, .n_bytes = (uint32_t)text.n}, text.p);
}

static void on_probs(void *arg, sv_str packed)
{
    sv_job *j = arg;
    add_event(&j->model->batch, &(event){.job = j, .kind = PROBS, .n_bytes = (uint32_t)packed.n}, packed.p);
}

static void on_end(void *arg, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    sv_job *j = arg;
    add_event(&j->model->batch,
              &(event){.job = j, .kind = ENDED, .rc = rc, .finish = finish, .usage = *usage, .n_bytes = rc != SV_OK ? sizeof *err : 0}, err);
}

static const sv_sched_events sched_events = {.on_start = on_start, .on_text = on_text, .on_probs = on_probs, .on_end = on_end};

static void add_failure(sv_buf *b, sv_job *j, const sv_err *err)
{
    sv_usage usage = {.prompt_tokens = (int32_t)j->prompt.n};
    add_event(b, &(event){.job = j, .kind = ENDED, .rc = err->code, .usage = usage, .n_bytes = sizeof *err}, err);
}

/* --- a model's thread --------------------------------------------------------------------------------------------- */

static void loaded(void *arg); /* what a thread posts */
static void gone(void *arg);

static sv_rc load(sv_model *m, sv_err *err)
{
    SV_AUTO(sv_llm_unrefp) sv_llm *llm = NULL;
    if (sv_llm_open(&llm, m->path, err) != SV_OK || sv_llm_pack(llm, m->table->o.pack_dir, err) != SV_OK ||
        sv_sched_new(&m->sched, llm, m->table->compute, &sched_events, &m->table->o.sched, err) != SV_OK)
        return err->code;
    m->prompts = sv_prompts_new(llm);
    return SV_OK;
}

static void start_job(sv_model *m, sv_job *j)
{
    sv_err err = {0};
    const sv_sched_req req = {
        .tenant = j->gen.tenant, .tokens = j->prompt.v, .n_tokens = (int32_t)j->prompt.n, .max_tokens = j->gen.max_tokens,
        .sampling = j->gen.sampling, .stop = j->gen.stop, .n_stops = j->gen.n_stops, .cancel = &j->cancel, .arg = j,
    };
    if (sv_sched_add(m->sched, &req, &err) != SV_OK)
        add_failure(&m->batch, j, &err);
}

static void work(sv_model *m)
{
    bool trimmed = true;
    for (;;) {
        bool busy = sv_sched_busy(m->sched);
        sv_job *j = sv_queue_take(m->queue, busy ? 0 : TRIM_MS);
        for (; j; j = sv_queue_take(m->queue, 0))
            start_job(m, j);
        if (atomic_load(&m->stop))
            return;
        if (sv_sched_busy(m->sched)) {
            sv_sched_step(m->sched);
            trimmed = false;
        } else if (!busy && !trimmed) { /* it waited TRIM_MS in vain */
            sv_sched_trim(m->sched);
            trimmed = true;
        }
        post_events(m->table, &m->batch);
    }
}

static void *model_main(void *arg)
{
    sv_model *m = arg;
    bool ok = load(m, &m->load_err) == SV_OK;
    sv_loop_post(m->table->loop, loaded, m);
    if (!ok)
        return NULL;
    work(m);
    for (sv_job *j; (j = sv_queue_take(m->queue, 0));)
        start_job(m, j);
    sv_err why = {0};
    (void)sv_fail(&why, SV_ECANCELED, "the engine is shutting down");
    sv_sched_stop(m->sched, &why);
    post_events(m->table, &m->batch);
    m->sched = sv_sched_free(m->sched);
    m->prompts = sv_prompts_free(m->prompts);
    sv_loop_post(m->table->loop, gone, m);
    return NULL;
}

/* --- preparing ---------------------------------------------------------------------------------------------------- */

static void prepare(void *arg)
{
    sv_job *j = arg;
    sv_model *m = j->model;
    sv_err err = {0};
    bool in_vain = atomic_load(&j->cancel) || m->table->closing;
    sv_rc rc = in_vain ? sv_fail(&err, SV_ECANCELED, "canceled") : sv_prompts_build(m->prompts, &j->prompt, &j->gen, &err);
    if (rc == SV_OK && !sv_queue_post(m->queue, j))
        rc = sv_fail_api(&err, SV_ELIMIT, 3040, "out of capacity: too many requests wait for this model");
    if (rc == SV_OK)
        return;
    sv_buf b;
    sv_buf_init(&b, 0);
    add_failure(&b, j, &err);
    post_events(m->table, &b);
}

static void send_to_prepare(sv_table *t, sv_job *j)
{
    if (sv_jobs_post(t->preparers, prepare, j))
        return;
    sv_err err = {0};
    (void)sv_fail_api(&err, SV_ELIMIT, 3040, "out of capacity: too many requests wait");
    sv_buf b;
    sv_buf_init(&b, 0);
    add_failure(&b, j, &err);
    post_events(t, &b);
}

/* --- models come and go ------------------------------------------------------------------------------------------- */

static sv_rc file_of(file_id *out, const char *path, sv_err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) /* a pipe would block who opens it */
        return sv_fail(err, SV_EINVAL, "'%s' is neither a file nor a folder", path);
    *out = (file_id){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
    return SV_OK;
}

/* The packed copy of quantised weights is as large as they are in the file, whose own pages the system may drop. */
static sv_rc weigh(size_t *n_bytes, const char *path, sv_err *err)
{
    sv_model_files files = {0};
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    *n_bytes = files.n_bytes;
    sv_model_files_done(&files);
    return SV_OK;
}

static bool same_file(const file_id *a, const file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static void unlink_model(sv_model *m)
{
    sv_model **at = &m->table->models;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
}

/* The thread has ended or never was. */
static void model_free(sv_model *m)
{
    SV_ASSERT(m->n_jobs == 0);
    unlink_model(m);
    sv_queue_free(m->queue);
    sv_buf_done(&m->batch);
    free(m->path);
    free(m);
}

static void stop_model(sv_model *m)
{
    sv_sched_get_stats(m->sched, &m->last); /* without jobs the counters stand */
    m->state = STOPPING;
    sv_room_give(m->table->o.room, m->n_bytes); /* inv. 4 */
    sv_queue_close(m->queue); /* before stop: a thread that sees stop has all jobs that will ever be in its queue */
    atomic_store(&m->stop, true);
}

static void gone(void *arg)
{
    sv_model *m = arg;
    sv_table *t = m->table;
    pthread_join(m->thread, NULL);
    m->last.kv_pages = m->last.kv_pages_cached = 0; /* what is counted stays, what was there is not */
    sv_sched_stats_add(&t->gone, &m->last);
    model_free(m);
    check_closed(t);
}

static void fail_waiting(sv_model *m, sv_job *first, const sv_err *err)
{
    sv_buf failures;
    sv_buf_init(&failures, 0);
    for (sv_job *j = first, *next; j; j = next) {
        next = j->next;
        add_failure(&failures, j, err);
    }
    post_events(m->table, &failures);
}

static void loaded(void *arg)
{
    sv_model *m = arg;
    sv_table *t = m->table;
    sv_job *j = m->waiting;
    m->waiting = NULL;
    m->used_ms = sv_mono_ms();
    if (m->load_err.code != SV_OK) {
        pthread_join(m->thread, NULL);
        m->state = FAILED;
        sv_room_give(t->o.room, m->n_bytes);
        sv_log(SV_WARN, "engine.model.failed", "path='%s' error='%s'", m->path, m->load_err.msg);
        fail_waiting(m, j, &m->load_err);
    } else if (t->closing) {
        sv_err err = {0};
        (void)sv_fail(&err, SV_ECANCELED, "the engine is shutting down");
        fail_waiting(m, j, &err);
        m->state = READY;
        stop_model(m);
    } else {
        m->state = READY;
        sv_log(SV_INFO, "engine.model.loaded", "path='%s' bytes=%zu ms=%lld", m->path, m->n_bytes,
               (long long)(m->used_ms - m->born_ms));
        for (sv_job *next; j; j = next) {
            next = j->next;
            send_to_prepare(t, j);
        }
    }
    check_closed(t);
}

static sv_model *model_new(sv_table *t, const char *path, const file_id *file, size_t n_bytes)
{
    sv_model *m = sv_xnew0(sv_model);
    m->table = t;
    m->path = sv_xstrdup(path);
    m->file = *file;
    m->born_ms = sv_mono_ms();
    m->waiting_end = &m->waiting;
    m->queue = sv_queue_new(MAX_PREPARING);
    sv_buf_init(&m->batch, 0);
    m->next = t->models;
    t->models = m;
    m->n_bytes = n_bytes;
    m->thread = sv_thread_start("model", model_main, m);
    return m;
}

/* The model in that state that was used least recently, without jobs. */
static sv_model *least_used(const sv_table *t, state which, int32_t *n)
{
    sv_model *least = NULL;
    *n = 0;
    for (sv_model *m = t->models; m; m = m->next) {
        *n += m->state == which;
        if (m->state == which && m->n_jobs == 0 && (!least || m->used_ms < least->used_ms))
            least = m;
    }
    return least;
}

static int64_t oldest_idle(void *arg)
{
    int32_t n;
    const sv_model *m = least_used(arg, READY, &n);
    return m ? m->used_ms : INT64_MAX;
}

static void drop_oldest(void *arg)
{
    int32_t n;
    stop_model(least_used(arg, READY, &n));
}

/* Makes room for another model of `need` bytes, and takes it. */
static sv_rc make_room(sv_table *t, size_t need, sv_err *err)
{
    int32_t n_ready, n_failed, n_loading;
    sv_model *idle = least_used(t, READY, &n_ready), *failed = least_used(t, FAILED, &n_failed);
    (void)least_used(t, LOADING, &n_loading);
    if (failed && n_failed >= MAX_FAILED)
        model_free(failed);
    if (n_ready + n_loading >= t->o.max_models && !idle)
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: the models in use leave no room for another one");
    if (n_ready + n_loading >= t->o.max_models)
        stop_model(idle);
    return sv_room_take(t->o.room, need, err);
}

static void retire(sv_model *m)
{
    m->stale = true;
    if (m->state == READY && m->n_jobs == 0)
        stop_model(m);
    else if (m->state == FAILED && m->n_jobs == 0)
        model_free(m);
}

static bool worth_a_retry(const sv_model *m)
{
    return m->state == FAILED && m->load_err.code != SV_EFORMAT && sv_mono_ms() - m->used_ms > RETRY_MS;
}

/* The model of that path as its file is now; loading, ready or failed. */
static sv_rc find_model(sv_table *t, sv_model **out, const char *path, sv_err *err)
{
    file_id file;
    bool exists = file_of(&file, path, err) == SV_OK;
    for (sv_model *m = t->models, *next; m; m = next) {
        next = m->next;
        if (m->stale || m->state == STOPPING || strcmp(m->path, path) != 0)
            continue;
        if (exists && same_file(&file, &m->file) && !worth_a_retry(m)) {
            *out = m;
            return SV_OK;
        }
        retire(m);
    }
    size_t n_bytes = 0;
    if (!exists || weigh(&n_bytes, path, err) != SV_OK || make_room(t, n_bytes, err) != SV_OK) /* before a byte of it is read */
        return err->code;
    *out = model_new(t, path, &file, n_bytes);
    return SV_OK;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static void tick(void *arg)
{
    sv_table *t = arg;
    int64_t now = sv_mono_ms();
    for (sv_model *m = t->models, *next; m; m = next) {
        next = m->next;
        if (m->n_jobs > 0)
            continue;
        if (m->stale)
            retire(m);
        else if (m->state == READY && now - m->used_ms >= t->o.idle_ms)
            stop_model(m);
    }
    sv_timer_set(t->tick, TICK_MS);
}

sv_table *sv_table_new(sv_loop *loop, sv_compute *compute, const sv_table_opts *opts)
{
    sv_table *t = sv_xnew0(sv_table);
    t->loop = loop;
    t->compute = compute;
    t->o = *opts;
    if (t->o.sched.kv_bytes == 0)
        t->o.sched.kv_bytes = sv_memory_bytes() / 4;
    if (t->o.sched.max_active <= 0)
        t->o.sched.max_active = 64;
    if (t->o.sched.max_queued <= 0)
        t->o.sched.max_queued = 256;
    if (t->o.idle_ms <= 0)
        t->o.idle_ms = 15 * 60 * 1000;
    if (t->o.max_models <= 0)
        t->o.max_models = 32;
    sv_room_join(t->o.room, &(sv_room_user){.oldest = oldest_idle, .drop = drop_oldest, .arg = t});
    t->preparers = sv_jobs_new(N_PREPARERS, MAX_PREPARING);
    t->tick = sv_timer_new(loop, tick, t);
    sv_timer_set(t->tick, TICK_MS);
    return t;
}

/* No thread runs, no event is under way. */
static bool all_quiet(const sv_table *t)
{
    for (const sv_model *m = t->models; m; m = m->next)
        if (m->state != FAILED || m->n_jobs > 0)
            return false;
    return true;
}

static void check_closed(sv_table *t)
{
    if (t->closing && all_quiet(t))
        sv_loop_stop(t->loop);
}

sv_table *sv_table_free(sv_table *t)
{
    if (!t)
        return NULL;
    t->tick = sv_timer_free(t->tick);
    t->closing = true;
    t->preparers = sv_jobs_free(t->preparers); /* what was queued there is in the models' queues now, or refused */
    for (sv_model *m = t->models; m; m = m->next)
        if (m->state == READY)
            stop_model(m);
    if (!all_quiet(t))
        sv_loop_run(t->loop); /* the threads' last words; check_closed ends it */
    while (t->models)
        model_free(t->models);
    sv_room_leave(t->o.room, t);
    free(t);
    return NULL;
}

sv_rc sv_table_submit(sv_table *t, sv_job *j, sv_err *err)
{
    sv_model *m = NULL;
    if (find_model(t, &m, j->gen.model_path, err) != SV_OK)
        return err->code;
    if (m->state == FAILED) {
        *err = m->load_err;
        return err->code;
    }
    if (m->n_jobs >= t->o.sched.max_active + t->o.sched.max_queued)
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests wait for this model already", m->n_jobs);
    j->model = m;
    j->next = NULL;
    m->n_jobs++;
    if (m->state == LOADING) {
        *m->waiting_end = j;
        m->waiting_end = &j->next;
    } else {
        send_to_prepare(t, j);
    }
    return SV_OK;
}

void sv_table_cancel(sv_job *j) { atomic_store_explicit(&j->cancel, true, memory_order_relaxed); }

static void add_model_stats(const sv_model *m, const sv_sched_stats *s, sv_buf *out)
{
    sv_buf_adds(out, "{\"path\":");
    sv_json_add_str(out, sv_str_of(m->path));
    sv_buf_addf(out, ",\"state\":\"%s\",\"n_active\":%d,\"n_queued\":%d,\"n_jobs\":%d,\"kv_pages_used\":%d,\"kv_pages_cached\":%d,\"kv_pages\":%d",
                state_names[m->state], s->n_active, s->n_queued, m->n_jobs, s->kv_pages_used, s->kv_pages_cached, s->kv_pages);
    sv_buf_addf(out, ",\"cached_tokens\":%lld,\"preempted\":%lld", (long long)s->cached_tokens, (long long)s->preempted);
    sv_buf_addf(out, ",\"tokens\":%lld,\"steps\":%lld,\"rows\":%lld", (long long)s->tokens, (long long)s->steps, (long long)s->rows);
    if (m->state == FAILED) {
        sv_buf_adds(out, ",\"error\":");
        sv_json_add_str(out, sv_str_of(m->load_err.msg));
    }
    sv_buf_addc(out, '}');
}

static void add_steps(sv_buf *out, const char *name, const int32_t *bounds, const int64_t *counts)
{
    sv_buf_addf(out, ",\"%s\":[", name);
    for (int i = 0; i < SV_STEP_BUCKETS - 1; i++)
        sv_buf_addf(out, "[%d,%lld],", bounds[i], (long long)counts[i]);
    sv_buf_addf(out, "[null,%lld]]", (long long)counts[SV_STEP_BUCKETS - 1]);
}

void sv_table_add_stats(const sv_table *t, sv_buf *out)
{
    sv_sched_stats all = t->gone;
    sv_buf_adds(out, "\"models\":[");
    for (const sv_model *m = t->models; m; m = m->next) {
        sv_sched_stats s = m->last;
        if (m->state == READY) /* inv. 2 */
            sv_sched_get_stats(m->sched, &s);
        if (m != t->models)
            sv_buf_addc(out, ',');
        add_model_stats(m, &s, out);
        sv_sched_stats_add(&all, &s);
    }
    sv_buf_addf(out, "],\"queue\":%d,\"tokens\":%lld,\"steps\":%lld,\"cancelled\":%lld", all.n_queued, (long long)all.tokens, (long long)all.steps,
                (long long)all.cancelled);
    sv_buf_addf(out, ",\"active\":%d,\"rows\":%lld,\"cached_tokens\":%lld,\"preempted\":%lld,\"kv_pages_used\":%d,\"kv_pages_cached\":%d,\"kv_pages\":%d",
                all.n_active, (long long)all.rows, (long long)all.cached_tokens, (long long)all.preempted, all.kv_pages_used, all.kv_pages_cached, all.kv_pages);
    sv_buf_addf(out, ",\"step_s\":%.6f", (double)all.step_us / 1e6);
    add_steps(out, "steps_by_ms", sv_step_ms_bounds, all.steps_by_ms);
    add_steps(out, "steps_by_rows", sv_step_rows_bounds, all.steps_by_rows);
}
