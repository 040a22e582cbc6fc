/* background.c - the thread that follows the writers: columns, graph, compaction, checkpoint, memory that no reader holds any more
 *
 * It starts when first woken. One round does all that is due, in the order that helps queries first; writers wake it again. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "vec/vec_impl.h"

enum {
    GARBAGE_MIN = 1 << 20,  /* bytes; less is not worth a compaction */
    DEAD_MIN = 4096,        /* slots, likewise */
    CHECKPOINT_MIN = 8192,  /* slots; fewer are replayed in no time */
    COPY_BODY = 8 << 20,    /* bytes of a record that a compaction writes */
    CATCH_UPS = 8,          /* before writers have to wait for the rest */
    RETRAIN_FACTOR = 32,    /* growth after which the mean is looked at anew */
    RETRAIN_MAX = 16384,    /* a mean of so many is good until the next compaction */
    STALE_MIN = 2048,
};

static char *path_in(const sv_vec *v, const char *name)
{
    return sv_xasprintf("%s/%s", v->dir, name);
}

/* --- the gate ------------------------------------------------------------------------------------------------------- */

/* Returns when every reader that might hold what was unlinked before the call has left (README.md, inv. 6). */
static void gate_wait(sv_vec *v)
{
    uint64_t e = atomic_fetch_add(&v->epoch, 1);
    while (atomic_load(&v->readers[e & 1].n) != 0)
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

void sv_vec_retire(sv_vec *v, void *p, void (*free_it)(void *p))
{
    sv_vec_retired *r = sv_xnew0(sv_vec_retired);
    *r = (sv_vec_retired){p, free_it, v->retired};
    v->retired = r;
}

void sv_vec_free_retired(sv_vec *v, bool wait)
{
    pthread_mutex_lock(&v->write_lock);
    sv_vec_retired *r = v->retired;
    v->retired = NULL;
    pthread_mutex_unlock(&v->write_lock);
    if (r && wait)
        gate_wait(v);
    while (r) {
        sv_vec_retired *next = r->next;
        r->free_it(r->p);
        free(r);
        r = next;
    }
}

static void free_state(void *p)
{
    sv_vec_state_free(p);
}

static void free_column(void *p)
{
    sv_vec_column_free(p);
}

/* --- columns -------------------------------------------------------------------------------------------------------- */

static bool stale(const sv_vec_column *c, uint32_t n)
{
    uint32_t have = c ? c->n_slots : 0;
    return n - have > STALE_MIN + have / 4 || (!c && n > 0);
}

bool sv_vec_columns_stale(const sv_vec_state *s)
{
    const sv_vec_fields *f = atomic_load(&s->fields);
    for (size_t i = 0; i < f->n; i++)
        if (stale(f->column[i], s->n))
            return true;
    return atomic_load(&s->n_namespaces) > 1 && s->n > STALE_MIN && stale(f->namespaces, s->n);
}

typedef struct source {
    sv_vec_view view;
    sv_str path; /* n 0: namespace numbers */
} source;

static void value_of(void *arg, uint32_t slot, sv_vec_value *out)
{
    const source *from = arg;
    if (from->path.n) {
        sv_vec_value_find(out, sv_vec_at(&from->view, slot).metadata, from->path);
    } else {
        out->kind = SV_VEC_VALUE_NUMBER;
        out->number = from->view.s->ns[slot];
    }
}

static sv_vec_value_kind kind_of(sv_vec_type t)
{
    return t == SV_VEC_STRING ? SV_VEC_VALUE_STRING : t == SV_VEC_NUMBER ? SV_VEC_VALUE_NUMBER : SV_VEC_VALUE_BOOLEAN;
}

/* Puts a new column in the place of `old`, unless the list changed in a way that has no place for it. */
static void swap_column(sv_vec *v, sv_vec_state *s, const sv_vec_field *field, sv_vec_column *old, sv_vec_column *c)
{
    pthread_mutex_lock(&v->write_lock);
    sv_vec_fields *list = atomic_load(&s->fields), *f = sv_vec_fields_copy(list);
    int i = field ? sv_vec_fields_find(f, sv_str_of(field->name)) : 0;
    sv_vec_column **place = !field ? &f->namespaces : i >= 0 ? &f->column[i] : NULL;
    if (!place || *place != old || (field && f->field[i].type != field->type)) {
        free(f);
        sv_vec_column_free(c);
    } else {
        *place = c;
        atomic_store_explicit(&s->fields, f, memory_order_release);
        sv_vec_retire(v, list, free);
        if (old)
            sv_vec_retire(v, old, free_column);
    }
    pthread_mutex_unlock(&v->write_lock);
}

/* build_lock held: columns are changed by nobody else, so those of a list read under write_lock stay. */
void sv_vec_refresh_columns(sv_vec *v)
{
    sv_vec_state *s = atomic_load(&v->state);
    for (int i = -1; i < SV_VEC_MAX_FIELDS && !atomic_load(&v->stop); i++) {
        sv_vec_field field;
        unsigned side = sv_vec_enter(v); /* a field that is deleted meanwhile keeps its column as long as we look at it */
        const sv_vec_fields *f = atomic_load_explicit(&s->fields, memory_order_acquire);
        source from = {.view = sv_vec_view_of(s)};
        if (i >= (int)f->n || (i < 0 && atomic_load(&s->n_namespaces) < 2)) {
            sv_vec_leave(v, side);
            continue;
        }
        sv_vec_column *old = i < 0 ? f->namespaces : f->column[i], *c = NULL;
        if (i >= 0) {
            field = f->field[i];
            from.path = sv_str_of(field.name);
        }
        if (stale(old, from.view.n))
            c = sv_vec_column_build(old, i < 0 ? SV_VEC_VALUE_NUMBER : kind_of(field.type), from.view.n, value_of, &from);
        sv_vec_leave(v, side);
        if (c)
            swap_column(v, s, i < 0 ? NULL : &field, old, c);
    }
}

/* --- compaction ----------------------------------------------------------------------------------------------------- */

/* Of a state that goes on: what it says beside its vectors at the moment of a view. */
typedef struct moment {
    sv_vec_view view;
    const sv_vec_fields *fields;
    int64_t last_ms;
    char last_mutation[SV_VEC_MAX_MUTATION + 1];
} moment;

static sv_rc append(sv_vec_state *to, sv_vec_kind kind, const moment *from, sv_str body, sv_err *err)
{
    sv_vec_record r = {.kind = kind, .time_ms = from->last_ms, .mutation = sv_str_of(from->last_mutation), .body = body};
    return sv_vec_log_append(to->log, &r, &r.body_at, err);
}

/* Everything that lives in the view, as records of the new log. */
static sv_rc write_living(const moment *from, sv_vec_state *to, const _Atomic bool *stop, sv_err *err)
{
    const sv_vec_view *view = &from->view;
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, SV_VEC_LOG_MAX_RECORD);
    const sv_vec_fields *f = from->fields;
    for (size_t i = 0; i < f->n; i++) {
        sv_buf_reset(&body);
        sv_buf_addc(&body, (char)f->field[i].type);
        sv_buf_adds(&body, f->field[i].name);
        if (append(to, SV_VEC_LOG_FIELD_CREATE, from, sv_buf_str(&body), err) != SV_OK)
            return err->code;
    }
    sv_buf_reset(&body);
    for (uint32_t i = 0; i < view->n; i++) {
        if (sv_vec_lives(view, i)) {
            sv_vec_stored x = sv_vec_at(view, i);
            sv_vec_log_add_item(&body, (uint32_t)view->s->config.dimensions, x.values, x.id, x.ns, x.metadata);
        }
        if (body.failed)
            return sv_fail(err, SV_ENOMEM, "no memory to compact an index");
        if (body.n > COPY_BODY || (i + 1 == view->n && body.n)) {
            if (append(to, SV_VEC_LOG_UPSERT, from, sv_buf_str(&body), err) != SV_OK)
                return err->code;
            sv_buf_reset(&body);
            if (atomic_load(stop))
                return sv_fail(err, SV_ECANCELED, "the index is being closed");
        }
    }
    return append(to, SV_VEC_LOG_NOTE, from, (sv_str){"", 0}, err);
}

/* Copies and applies the records of the old log from *at to `end`. */
static sv_rc catch_up(const sv_vec_state *from, sv_vec_state *to, uint64_t *at, uint64_t end, sv_err *err)
{
    sv_vec_record r;
    while (*at < end) {
        if (!sv_vec_log_next(from->log, at, &r))
            return sv_fail(err, SV_EFORMAT, "the log is damaged at %llu", (unsigned long long)*at);
        if (sv_vec_log_append(to->log, &r, &r.body_at, err) != SV_OK)
            return err->code;
        r.end_at = sv_vec_log_end(to->log);
        r.body.p = (const char *)sv_vec_log_base(to->log) + r.body_at;
        bool field = r.kind == SV_VEC_LOG_FIELD_CREATE || r.kind == SV_VEC_LOG_FIELD_DELETE; /* nobody reads the new state yet */
        if (sv_vec_state_apply(to, &r, field, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static uint64_t log_end(sv_vec *v, const sv_vec_state *s)
{
    pthread_mutex_lock(&v->write_lock);
    uint64_t end = sv_vec_log_end(s->log);
    pthread_mutex_unlock(&v->write_lock);
    return end;
}

static sv_rc swap_states(sv_vec *v, sv_vec_state *old, sv_vec_state *s, uint64_t *at, const char *new_path, const char *path, sv_err *err)
{
    pthread_mutex_lock(&v->write_lock);
    pthread_mutex_lock(&v->sync_lock);
    sv_rc rc = atomic_load(&v->failed) ? sv_fail(err, SV_EIO, "the disk failed before") : catch_up(old, s, at, sv_vec_log_end(old->log), err);
    if (rc == SV_OK && (rc = sv_vec_log_sync(s->log, err)) == SV_OK && rename(new_path, path) < 0)
        rc = sv_fail_errno(err, "rename '%s'", new_path);
    if (rc == SV_OK) {
        rc = sv_sync(v->dir, err);
        if (rc != SV_OK) /* the rename may or may not survive: both logs say the same up to here, later writes do not */
            atomic_store(&v->failed, true);
        sv_vec_state_publish(s, sv_vec_applied(s));
        atomic_store(&v->state, s);
        sv_vec_retire(v, old, free_state);
        sv_vec_note_applied(v, s, true);
    }
    pthread_mutex_unlock(&v->sync_lock);
    pthread_mutex_unlock(&v->write_lock);
    return rc;
}

static int n_threads(const sv_vec *v)
{
    cpu_set_t set;
    if (v->config.n_threads > 0)
        return v->config.n_threads;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static sv_rc rebuild(sv_vec *v, const char *new_path, const char *path, sv_err *err)
{
    sv_vec_state *old = atomic_load(&v->state);
    sv_vec_log *log = NULL;
    if (unlink(new_path) < 0 && sv_file_exists(new_path))
        return sv_fail_errno(err, "remove '%s'", new_path);
    if (sv_vec_log_create(&log, new_path, (uint32_t)v->config.dimensions, (uint32_t)v->config.metric, err) != SV_OK)
        return err->code;
    sv_vec_state *s = sv_vec_state_new(&v->config, log, err);
    if (!s)
        return err->code;
    s->config.memory_bytes = 0; /* both states are there for a while; what the budget bounds is the one that stays */

    pthread_mutex_lock(&v->write_lock);
    /* Lists that writers unlink are freed by the background thread, which is us or waits for us. */
    moment now = {.view = {old, sv_vec_log_base(old->log), old->seq, old->n}, .fields = atomic_load(&old->fields), .last_ms = old->last_ms};
    memcpy(now.last_mutation, old->last_mutation, sizeof now.last_mutation);
    uint64_t at = sv_vec_log_end(old->log), from = SV_VEC_LOG_HEAD;
    pthread_mutex_unlock(&v->write_lock);
    sv_rc rc = write_living(&now, s, &v->stop, err);
    sv_vec_record r;
    while (rc == SV_OK && sv_vec_log_next(s->log, &from, &r))
        rc = sv_vec_state_apply(s, &r, true, err);
    s->garbage_bytes = 0;
    if (rc == SV_OK && s->n >= SV_VEC_TRAIN_MIN)
        sv_vec_state_train(s);
    uint64_t end = log_end(v, old);
    for (int i = 0; i < CATCH_UPS && rc == SV_OK && at < end; i++, end = log_end(v, old))
        rc = catch_up(old, s, &at, end, err);
    if (rc == SV_OK && atomic_load(&old->n_graph) && s->trained && s->n_live >= 4096) { /* queries keep their graph */
        sv_vec_graph_extend(s, s->n, n_threads(v), &v->stop);
        end = log_end(v, old);
        for (int i = 0; i < CATCH_UPS && rc == SV_OK && at < end; i++, end = log_end(v, old))
            rc = catch_up(old, s, &at, end, err);
        s->graph_effort = atomic_load(&old->graph_effort);
        s->bits_effort = atomic_load(&old->bits_effort);
        s->graph_us = atomic_load(&old->graph_us);
        s->bits_us = atomic_load(&old->bits_us);
    }
    s->config.memory_bytes = v->config.memory_bytes;
    if (rc == SV_OK && atomic_load(&v->stop))
        rc = sv_fail(err, SV_ECANCELED, "the index is being closed");
    if (rc == SV_OK)
        rc = swap_states(v, old, s, &at, new_path, path, err);
    if (rc != SV_OK && atomic_load(&v->state) != s) {
        unlink(new_path);
        sv_vec_state_free(s);
    }
    return rc;
}

static sv_rc compact_locked(sv_vec *v, sv_err *err)
{
    SV_AUTO(sv_freep) char *new_path = path_in(v, "log.new");
    SV_AUTO(sv_freep) char *path = path_in(v, "log");
    int64_t start = sv_mono_ms();
    uint64_t before = log_end(v, atomic_load(&v->state));
    if (rebuild(v, new_path, path, err) != SV_OK)
        return sv_wrap(err, "compact '%s'", v->dir);
    sv_log(SV_INFO, "vec.compacted", "dir=%s ms=%lld bytes_before=%llu bytes_after=%llu", v->dir, (long long)(sv_mono_ms() - start),
           (unsigned long long)before, (unsigned long long)log_end(v, atomic_load(&v->state)));
    return SV_OK;
}

sv_rc sv_vec_compact(sv_vec *v, sv_err *err)
{
    pthread_mutex_lock(&v->build_lock);
    sv_rc rc = compact_locked(v, err);
    if (rc == SV_OK)
        sv_vec_refresh_columns(v);
    pthread_mutex_unlock(&v->build_lock);
    sv_vec_wake(v);
    return rc;
}

/* --- the round ------------------------------------------------------------------------------------------------------ */

static bool graph_due(const sv_vec_state *s)
{
    uint32_t min = s->config.graph_min ? (uint32_t)s->config.graph_min : SV_VEC_GRAPH_MIN;
    return s->trained && s->n >= min && s->n - s->n_graph > s->n_graph / 16;
}

static bool compaction_due(const sv_vec_state *s)
{
    uint32_t dead = s->n - (uint32_t)s->n_live;
    bool garbage = s->garbage_bytes > GARBAGE_MIN && s->garbage_bytes * 2 > sv_vec_log_end(s->log);
    bool drifted = s->trained && s->trained_n < RETRAIN_MAX && s->n / RETRAIN_FACTOR >= s->trained_n;
    return garbage || drifted || (dead > DEAD_MIN && dead > s->n / 4) || s->seq > UINT32_MAX / 2;
}

/* write_lock held. */
bool sv_vec_work_is_due(const sv_vec_state *s)
{
    return graph_due(s) || compaction_due(s) || sv_vec_columns_stale(s);
}

static void save_checkpoint(sv_vec *v)
{
    SV_AUTO(sv_freep) char *path = path_in(v, "checkpoint");
    sv_err err = {0};
    pthread_mutex_lock(&v->write_lock);
    sv_vec_state *s = atomic_load(&v->state);
    bool changed = sv_vec_log_end(s->log) != s->checkpoint_end || s->n_graph != s->checkpoint_graph; /* a graph may grow without a write */
    bool due = changed && !atomic_load(&v->failed) && s->n >= CHECKPOINT_MIN && s->trained;
    if (due && (sv_vec_log_sync(s->log, &err) != SV_OK || sv_vec_checkpoint_save(s, sv_vec_log_end(s->log), path, &err) != SV_OK))
        sv_log(SV_WARN, "vec.checkpoint_failed", "path=%s reason=\"%s\"", path, err.msg);
    pthread_mutex_unlock(&v->write_lock);
}

static void one_round(sv_vec *v)
{
    sv_err err = {0};
    pthread_mutex_lock(&v->build_lock);
    sv_vec_refresh_columns(v);
    pthread_mutex_lock(&v->write_lock);
    bool compact = compaction_due(atomic_load(&v->state)) && !atomic_load(&v->failed);
    pthread_mutex_unlock(&v->write_lock);
    if (compact && compact_locked(v, &err) == SV_OK)
        sv_vec_refresh_columns(v);
    else if (compact && err.code != SV_ECANCELED)
        sv_log(SV_ERROR, "vec.compact_failed", "reason=\"%s\"", err.msg);

    sv_vec_state *s = atomic_load(&v->state);
    pthread_mutex_lock(&v->write_lock);
    bool graph = graph_due(s);
    pthread_mutex_unlock(&v->write_lock);
    if (graph && !atomic_load(&v->stop)) {
        int64_t start = sv_mono_ms();
        uint32_t before = s->n_graph;
        sv_vec_graph_extend(s, (uint32_t)atomic_load(&s->view), n_threads(v), &v->stop);
        sv_log(SV_INFO, "vec.graph", "dir=%s added=%u ms=%lld", v->dir, s->n_graph - before, (long long)(sv_mono_ms() - start));
    }
    if (s->trained && !atomic_load(&v->stop))
        sv_vec_calibrate(s, &v->stop);
    sv_vec_free_retired(v, true);
    pthread_mutex_unlock(&v->build_lock);
}

void *sv_vec_background(void *arg)
{
    sv_vec *v = arg;
    pthread_mutex_lock(&v->work_lock);
    while (!atomic_load(&v->stop)) {
        if (!v->due) {
            pthread_cond_wait(&v->work_due, &v->work_lock);
            continue;
        }
        v->due = false;
        v->busy = true;
        pthread_mutex_unlock(&v->work_lock);
        one_round(v);
        pthread_mutex_lock(&v->work_lock);
        v->busy = false;
        pthread_cond_broadcast(&v->work_done);
    }
    pthread_mutex_unlock(&v->work_lock);
    return NULL;
}

void sv_vec_wake(sv_vec *v)
{
    pthread_mutex_lock(&v->work_lock);
    v->due = true;
    if (!v->has_thread) {
        v->has_thread = true;
        v->thread = sv_thread_start("vec", sv_vec_background, v);
    }
    pthread_cond_signal(&v->work_due);
    pthread_mutex_unlock(&v->work_lock);
}

bool sv_vec_settle(sv_vec *v, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000l;
    until.tv_nsec %= 1000000000l;
    sv_vec_wake(v);
    pthread_mutex_lock(&v->work_lock);
    int rc = 0;
    while ((v->due || v->busy) && rc == 0)
        rc = pthread_cond_timedwait(&v->work_done, &v->work_lock, &until);
    bool done = !v->due && !v->busy;
    pthread_mutex_unlock(&v->work_lock);
    return done;
}

sv_vec *sv_vec_close(sv_vec *v)
{
    if (!v)
        return NULL;
    pthread_mutex_lock(&v->work_lock);
    atomic_store(&v->stop, true);
    pthread_cond_signal(&v->work_due);
    pthread_mutex_unlock(&v->work_lock);
    if (v->has_thread)
        pthread_join(v->thread, NULL);
    save_checkpoint(v);
    sv_vec_free_index(v);
    return NULL;
}
