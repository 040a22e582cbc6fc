/* media.c - requests about files of media
 *
 * Such a request is long (a recording of an hour takes minutes) and computes alone, so a model's thread takes one at a time. Whose is next: the
 * tenant's who was served least recently, so that one with a hundred recordings does not delay another's one by more than the one that runs. The compute
 * pool is taken anew for each step, so generations and encoders go on beside it.
 *
 * Invariants:
 *   1. The loop owns the list of models and n_jobs; the thread owns everything it took from the queue, until it posts it back as a mail.
 *   2. A model is freed by the loop after its thread was joined; with jobs it is never stopped but at the end of the engine.
 *   3. A model without jobs has ended one at least, so its thread has loaded it or not: the loop may read broken, and a join does not wait. */
#include "engine/media.h"

#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "models/files.h"
#include "models/image_prep.h"

enum { TICK_MS = 1000, RETRY_MS = 5000, MAX_TENANTS = 256 };

static const sv_media_family *const families[] = {&sv_media_speech, &sv_media_pictures, &sv_media_rewriting};
const sv_cage_fn sv_media_cage_fns[SV_N_CAGE_FNS] = {[SV_CAGE_PICTURES] = sv_image_prep_cage};

typedef struct media_model {
    struct media_model *next;
    sv_media_table *table;
    char *path;
    struct timespec mtime;
    ino_t ino;
    size_t n_bytes;
    int32_t n_jobs; /* the loop's */
    int64_t used_ms;
    sv_queue *queue;
    pthread_t thread;
    /* the thread's */
    const sv_media_family *family;
    void *model;
    sv_media *waiting, **waiting_end; /* oldest first */
    struct { char tenant[SV_WIRE_MAX_TENANT]; int64_t turn; } served[MAX_TENANTS]; /* the last ones; older ones are forgotten, as if new */
    int64_t turn;
    sv_err broken; /* why it did not load; inv. 3 */
    /* written by the thread, read by the loop */
    _Atomic bool loaded;
    _Atomic int64_t n_requests, busy_ms;
} media_model;

struct sv_media_table {
    sv_loop *loop;
    sv_compute *compute;
    sv_media_table_opts o;
    media_model *models;
    sv_timer *tick;
    _Atomic bool closing;
};

sv_media *sv_media_new(void)
{
    sv_media *j = sv_xnew0(sv_media);
    sv_buf_init(&j->json, SV_WIRE_MAX);
    return j;
}

sv_media *sv_media_free(sv_media *j)
{
    if (j) {
        sv_wire_media_done(&j->req);
        sv_buf_done(&j->json);
        free(j->bytes);
    }
    free(j);
    return NULL;
}

/* --- the model's thread ------------------------------------------------------------------------------------------- */

static void stop_when_quiet(sv_media_table *t);

static void ended(void *arg) /* on the loop */
{
    sv_media *j = arg;
    media_model *m = j->model;
    sv_media_table *t = m->table;
    m->n_jobs--;
    m->used_ms = sv_mono_ms();
    t->o.on_end(j);
    t->o.on_batch(t->o.arg);
    stop_when_quiet(t);
}

static void finish(media_model *m, sv_media *j) { sv_loop_post(m->table->loop, ended, j); }

static int64_t last_turn(const media_model *m, const char *tenant)
{
    for (int i = 0; i < MAX_TENANTS; i++)
        if (strcmp(m->served[i].tenant, tenant) == 0)
            return m->served[i].turn;
    return 0;
}

static void note_turn(media_model *m, const char *tenant)
{
    int at = 0;
    for (int i = 0; i < MAX_TENANTS; i++) {
        if (strcmp(m->served[i].tenant, tenant) == 0) {
            at = i;
            break;
        }
        at = m->served[i].turn < m->served[at].turn ? i : at;
    }
    strcpy(m->served[at].tenant, tenant);
    m->served[at].turn = ++m->turn;
}

/* Out of the list; NULL: nobody waits. */
static sv_media *next_job(media_model *m)
{
    sv_media **best = NULL;
    for (sv_media **at = &m->waiting; *at; at = &(*at)->next)
        if (!best || last_turn(m, (*at)->req.tenant) < last_turn(m, (*best)->req.tenant))
            best = at;
    if (!best)
        return NULL;
    sv_media *j = *best;
    *best = j->next;
    if (!*best)
        m->waiting_end = best;
    note_turn(m, j->req.tenant);
    return j;
}

static void work(media_model *m, sv_media *j)
{
    const sv_media_run run = {.compute = m->table->compute, .audio_helper = m->table->o.audio_helper, .cage = m->table->o.cage, .cancel = &j->cancel};
    int64_t began = sv_mono_ms();
    if (m->broken.code != SV_OK)
        j->err = m->broken;
    else if (atomic_load(&j->cancel) || m->table->closing)
        (void)sv_fail(&j->err, SV_ECANCELED, "canceled");
    else if (m->family->run(m->model, j, &run, &j->err) == SV_OK && j->json.failed)
        (void)sv_fail(&j->err, SV_ELIMIT, "the answer is over %d MiB", SV_WIRE_MAX >> 20);
    atomic_fetch_add(&m->n_requests, 1);
    atomic_fetch_add(&m->busy_ms, sv_mono_ms() - began);
    finish(m, j);
}

static sv_rc load(media_model *m, sv_err *err)
{
    for (size_t i = 0; i < SV_LEN(families); i++)
        if (families[i]->is(m->path)) {
            m->family = families[i];
            return m->family->open(&m->model, m->path, err);
        }
    return sv_fail(err, SV_EFORMAT, "'%s' is no model for media", m->path);
}

static void *model_main(void *arg)
{
    media_model *m = arg;
    if (load(m, &m->broken) != SV_OK)
        sv_log(SV_WARN, "engine.media.failed", "path='%s' error='%s'", m->path, m->broken.msg);
    atomic_store(&m->loaded, true);
    for (;;) {
        sv_media *j = sv_queue_take(m->queue, m->waiting ? 0 : -1);
        if (j) {
            j->next = NULL;
            *m->waiting_end = j;
            m->waiting_end = &j->next;
            continue;
        }
        if (!(j = next_job(m)))
            return NULL; /* closed and empty */
        work(m, j);
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void model_free(media_model *m)
{
    media_model **at = &m->table->models;
    sv_queue_close(m->queue);
    pthread_join(m->thread, NULL);
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    sv_room_give(m->table->o.room, m->n_bytes);
    if (m->model)
        m->family->close(m->model);
    sv_queue_free(m->queue);
    free(m->path);
    free(m);
}

static void tick(void *arg)
{
    sv_media_table *t = arg;
    for (media_model *m = t->models, *next; m; m = next) {
        next = m->next;
        if (m->n_jobs == 0 && sv_mono_ms() - m->used_ms > t->o.idle_ms)
            model_free(m);
    }
    sv_timer_set(t->tick, TICK_MS);
}

static media_model *oldest(const sv_media_table *t)
{
    media_model *idle = NULL;
    for (media_model *m = t->models; m; m = m->next)
        if (m->n_jobs == 0 && (!idle || m->used_ms < idle->used_ms))
            idle = m;
    return idle;
}

static int64_t oldest_idle(void *arg)
{
    const media_model *m = oldest(arg);
    return m ? m->used_ms : INT64_MAX;
}

static void drop_oldest(void *arg) { model_free(oldest(arg)); }

/* What was no matter of the file: memory, handles. */
static bool worth_a_retry(const media_model *m)
{
    return m->n_jobs == 0 && m->broken.code != SV_OK && m->broken.code != SV_EFORMAT && sv_mono_ms() - m->used_ms > RETRY_MS;
}

static sv_rc find_model(sv_media_table *t, media_model **out, const char *path, sv_err *err)
{
    struct stat st;
    sv_model_files files = {0};
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "open '%s'", path);
    for (media_model *m = t->models, *next; m; m = next) {
        next = m->next;
        bool same = m->ino == st.st_ino && m->mtime.tv_sec == st.st_mtim.tv_sec && m->mtime.tv_nsec == st.st_mtim.tv_nsec;
        if (strcmp(m->path, path) == 0 && same && !worth_a_retry(m)) {
            *out = m;
            return SV_OK;
        }
        if (strcmp(m->path, path) == 0 && m->n_jobs == 0)
            model_free(m);
    }
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    size_t n_bytes = files.n_bytes;
    sv_model_files_done(&files);
    if (sv_room_take(t->o.room, n_bytes, err) != SV_OK)
        return err->code;
    media_model *m = *out = sv_xnew0(media_model);
    *m = (media_model){.next = t->models, .table = t, .path = sv_xstrdup(path), .mtime = st.st_mtim, .ino = st.st_ino, .n_bytes = n_bytes};
    m->waiting_end = &m->waiting;
    m->queue = sv_queue_new((size_t)t->o.max_queued + 1);
    t->models = m;
    m->thread = sv_thread_start("media", model_main, m);
    return SV_OK;
}

sv_media_table *sv_media_table_new(sv_loop *loop, sv_compute *compute, const sv_media_table_opts *opts)
{
    sv_media_table *t = sv_xnew0(sv_media_table);
    t->loop = loop;
    t->compute = compute;
    t->o = *opts;
    t->o.idle_ms = opts->idle_ms > 0 ? opts->idle_ms : 15 * 60 * 1000;
    t->o.max_queued = opts->max_queued > 0 ? opts->max_queued : 256;
    sv_room_join(t->o.room, &(sv_room_user){.oldest = oldest_idle, .drop = drop_oldest, .arg = t});
    t->tick = sv_timer_new(loop, tick, t);
    sv_timer_set(t->tick, TICK_MS);
    return t;
}

sv_rc sv_media_submit(sv_media_table *t, sv_media *j, sv_err *err)
{
    media_model *m = NULL;
    if (find_model(t, &m, j->req.model_path, err) != SV_OK)
        return err->code;
    j->model = m;
    if (m->n_jobs >= t->o.max_queued || !sv_queue_post(m->queue, j))
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests wait for this model already", m->n_jobs);
    m->n_jobs++;
    return SV_OK;
}

void sv_media_add_stats(const sv_media_table *t, sv_buf *out)
{
    sv_buf_adds(out, "\"media\":[");
    for (const media_model *m = t->models; m; m = m->next) {
        bool loaded = atomic_load(&m->loaded), failed = loaded && m->broken.code != SV_OK;
        sv_buf_adds(out, m == t->models ? "{\"path\":" : ",{\"path\":");
        sv_json_add_str(out, sv_str_of(m->path));
        sv_buf_addf(out, ",\"state\":\"%s\",\"n_jobs\":%d,\"requests\":%lld,\"seconds\":%.3f", failed ? "failed" : loaded ? "ready" : "loading", m->n_jobs,
                    (long long)atomic_load(&m->n_requests), (double)atomic_load(&m->busy_ms) / 1000);
        if (failed) {
            sv_buf_adds(out, ",\"error\":");
            sv_json_add_str(out, sv_str_of(m->broken.msg));
        }
        sv_buf_addc(out, '}');
    }
    sv_buf_addc(out, ']');
}

static void stop_when_quiet(sv_media_table *t)
{
    bool quiet = true;
    for (const media_model *m = t->models; m; m = m->next)
        quiet = quiet && m->n_jobs == 0;
    if (t->closing && quiet)
        sv_loop_stop(t->loop);
}

sv_media_table *sv_media_table_free(sv_media_table *t)
{
    if (!t)
        return NULL;
    t->closing = true;
    t->tick = sv_timer_free(t->tick);
    for (const media_model *m = t->models; m; m = m->next)
        if (m->n_jobs > 0) {
            sv_loop_run(t->loop); /* what still lives ends as canceled; ended() stops the loop */
            break;
        }
    while (t->models)
        model_free(t->models);
    sv_room_leave(t->o.room, t);
    free(t);
    return NULL;
}
