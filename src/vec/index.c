/* index.c - opening an index and changing it
 *
 * A mutation: under write_lock check, append to the log, apply to the state; without it, wait for a sync of the log that covers it;
 * the thread that did the sync publishes the view. Threads that come while a sync runs append behind it and share the next one.
 *
 * README.md has the order of locks and the invariants; what follows a mutation in the background is in background.c. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "vec/vec_impl.h"

static char *path_in(const sv_vec *v, const char *name)
{
    return sv_xasprintf("%s/%s", v->dir, name);
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

static sv_rc check_config(const sv_vec_config *c, sv_err *err)
{
    if (c->dimensions < 1 || c->dimensions > SV_VEC_MAX_DIMENSIONS)
        return sv_fail(err, SV_EINVAL, "%d dimensions, an index has 1 to %d", c->dimensions, SV_VEC_MAX_DIMENSIONS);
    if ((int)c->metric < SV_VEC_COSINE || c->metric > SV_VEC_DOT)
        return sv_fail(err, SV_EINVAL, "no such metric");
    return SV_OK;
}

static sv_rc open_log(const sv_vec *v, const sv_vec_config *config, sv_vec_log **out, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = path_in(v, "log");
    if (config && !sv_file_exists(path))
        return sv_vec_log_create(out, path, (uint32_t)config->dimensions, (uint32_t)config->metric, err);
    SV_AUTO(sv_vec_log_closep) sv_vec_log *l = NULL;
    if (sv_vec_log_open(&l, path, err) != SV_OK)
        return err->code;
    sv_vec_config stored = {.dimensions = (int32_t)sv_vec_log_dimensions(l), .metric = (sv_vec_metric)sv_vec_log_metric(l)};
    sv_err why = {0};
    if (check_config(&stored, &why) != SV_OK)
        return sv_fail(err, SV_EFORMAT, "'%s': %s", path, why.msg);
    if (config && (stored.dimensions != config->dimensions || stored.metric != config->metric))
        return sv_fail(err, SV_ECONFLICT, "'%s' has %d dimensions and metric %d, not %d and %d", v->dir, stored.dimensions, (int)stored.metric,
                       config->dimensions, (int)config->metric);
    *out = SV_TAKE(l);
    return SV_OK;
}

/* Applies the records from *at on; *at is then where they end. */
static sv_rc replay(sv_vec_state *s, uint64_t *at, bool codes_later, sv_err *err)
{
    sv_vec_record r;
    while (sv_vec_log_next(s->log, at, &r))
        if (sv_vec_state_apply(s, &r, codes_later, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static sv_rc read_state(sv_vec *v, const sv_vec_config *config, sv_err *err)
{
    sv_vec_log *log = NULL;
    if (open_log(v, config, &log, err) != SV_OK)
        return err->code;
    v->config = config ? *config : (sv_vec_config){0};
    v->config.dimensions = (int32_t)sv_vec_log_dimensions(log);
    v->config.metric = (sv_vec_metric)sv_vec_log_metric(log);
    sv_vec_state *s = sv_vec_state_new(&v->config, log, err);
    if (!s)
        return err->code;

    SV_AUTO(sv_freep) char *path = path_in(v, "checkpoint");
    uint64_t at = SV_VEC_LOG_HEAD;
    sv_err why = {0};
    if (sv_vec_checkpoint_load(s, path, &at, &why) != SV_OK) {
        if (why.code != SV_ENOENT) /* made anew from the log */
            sv_log(SV_WARN, "vec.checkpoint_unusable", "path=%s reason=\"%s\"", path, why.msg);
        at = SV_VEC_LOG_HEAD;
        sv_vec_state_free(s);
        if (open_log(v, NULL, &log, err) != SV_OK)
            return err->code;
        s = sv_vec_state_new(&v->config, log, err);
        if (!s)
            return err->code;
    }
    /* Codes of what the checkpoint lacks come as they are applied; without one, all at once, when the mean of all is known. */
    bool trained = s->trained;
    s->config.memory_bytes = 0; /* what was acknowledged is taken back whatever the budget is now */
    if (replay(s, &at, true, err) != SV_OK || sv_vec_log_set_end(s->log, at, err) != SV_OK) {
        sv_vec_state_free(s);
        return err->code;
    }
    s->config.memory_bytes = v->config.memory_bytes;
    for (uint32_t i = (uint32_t)atomic_load(&s->view); trained && i < s->n; i++)
        sv_vec_state_encode(s, i);
    if (!trained && s->n >= SV_VEC_TRAIN_MIN)
        sv_vec_state_train(s);
    sv_vec_state_publish(s, sv_vec_applied(s));
    atomic_store(&v->state, s);
    return SV_OK;
}

void sv_vec_note_applied(sv_vec *v, const sv_vec_state *s, bool published)
{
    pthread_mutex_lock(&v->published_lock);
    v->applied_view = sv_vec_applied(s);
    v->applied_live = s->n_live;
    v->applied_end = sv_vec_log_end(s->log);
    v->applied_garbage = s->garbage_bytes;
    v->applied_ms = s->last_ms;
    memcpy(v->applied_mutation, s->last_mutation, sizeof v->applied_mutation);
    if (published) {
        v->published_live = v->applied_live;
        v->published_ms = v->applied_ms;
        memcpy(v->published_mutation, v->applied_mutation, sizeof v->published_mutation);
    }
    pthread_mutex_unlock(&v->published_lock);
}

/* Publishes what was applied when the sync began. */
static void publish(sv_vec *v, sv_vec_state *s, uint64_t view, uint64_t live, int64_t ms, const char *mutation)
{
    sv_vec_state_publish(s, view);
    pthread_mutex_lock(&v->published_lock);
    v->published_live = live;
    v->published_ms = ms;
    memcpy(v->published_mutation, mutation, sizeof v->published_mutation);
    pthread_mutex_unlock(&v->published_lock);
}

static sv_rc take_lock(sv_vec *v, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = path_in(v, "lock");
    v->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (v->lock_fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (flock(v->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? sv_fail(err, SV_ECONFLICT, "'%s' is open already", v->dir) : sv_fail_errno(err, "lock '%s'", path);
    return SV_OK;
}

void sv_vec_free_index(sv_vec *v)
{
    sv_vec_free_retired(v, false);
    sv_vec_state_free(v->state);
    sv_fd_closep(&v->lock_fd);
    pthread_mutex_destroy(&v->write_lock);
    pthread_mutex_destroy(&v->sync_lock);
    pthread_mutex_destroy(&v->published_lock);
    pthread_mutex_destroy(&v->work_lock);
    pthread_mutex_destroy(&v->build_lock);
    pthread_cond_destroy(&v->work_due);
    pthread_cond_destroy(&v->work_done);
    free(v->dir);
    free(v);
}

sv_rc sv_vec_open(sv_vec **out, const char *dir, const sv_vec_config *config, sv_err *err)
{
    if (config && check_config(config, err) != SV_OK)
        return err->code;
    if (config && sv_mkdir_p(dir, 0700, err) != SV_OK)
        return err->code;
    sv_vec *v = sv_xnew0(sv_vec);
    v->dir = sv_xstrdup(dir);
    v->lock_fd = -1;
    pthread_mutex_init(&v->write_lock, NULL);
    pthread_mutex_init(&v->sync_lock, NULL);
    pthread_mutex_init(&v->published_lock, NULL);
    pthread_mutex_init(&v->work_lock, NULL);
    pthread_mutex_init(&v->build_lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&v->work_due, &clock);
    pthread_cond_init(&v->work_done, &clock);
    pthread_condattr_destroy(&clock);
    SV_AUTO(sv_freep) char *unfinished = path_in(v, "log.new");
    if (take_lock(v, err) != SV_OK || (unlink(unfinished) < 0 && errno != ENOENT && sv_fail_errno(err, "remove '%s'", unfinished) != SV_OK) ||
        read_state(v, config, err) != SV_OK) {
        sv_vec_free_index(v);
        return err->code;
    }
    sv_vec_state *s = v->state;
    sv_vec_note_applied(v, s, true);
    if (s->n >= SV_VEC_TRAIN_MIN)
        sv_vec_wake(v);
    *out = v;
    return SV_OK;
}

sv_rc sv_vec_destroy(const char *dir, sv_err *err)
{
    return sv_remove_tree(dir, err);
}

/* --- mutations ------------------------------------------------------------------------------------------------------ */

static sv_rc check_values(const sv_vec *v, const float *x, sv_err *err)
{
    int32_t n = v->config.dimensions;
    for (int32_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return sv_fail(err, SV_EINVAL, "value %d is not a finite number", i);
    float norm2 = sv_vec_kernels_get()->dot(x, x, n);
    if (!(norm2 < 1e37f))
        return sv_fail(err, SV_EINVAL, "the values are too large: their squares add up to over 1e37");
    if (v->config.metric == SV_VEC_COSINE && norm2 < 1e-30f)
        return sv_fail(err, SV_EINVAL, "a vector of zeros has no direction, which the cosine metric needs");
    return SV_OK;
}

static sv_rc check_id(sv_str id, sv_err *err)
{
    if (id.n < 1 || id.n > SV_VEC_MAX_ID)
        return sv_fail(err, SV_EINVAL, "an id of %zu bytes, it may have 1 to %d", id.n, SV_VEC_MAX_ID);
    if (!sv_utf8_valid(id))
        return sv_fail(err, SV_EINVAL, "an id is not UTF-8");
    return SV_OK;
}

sv_rc sv_vec_check_item(const sv_vec *v, const sv_vec_item *item, sv_err *err)
{
    if (check_id(item->id, err) != SV_OK || check_values(v, item->values, err) != SV_OK)
        return err->code;
    if (item->ns.n > SV_VEC_MAX_NAMESPACE || !sv_utf8_valid(item->ns))
        return sv_fail(err, SV_EINVAL, "a namespace of %zu bytes, it may have %d of UTF-8", item->ns.n, SV_VEC_MAX_NAMESPACE);
    if (item->metadata.n > SV_VEC_MAX_METADATA)
        return sv_fail(err, SV_ELIMIT, "%zu bytes of metadata, a vector may have %d", item->metadata.n, SV_VEC_MAX_METADATA);
    if (item->metadata.n == 0)
        return SV_OK;
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (sv_json_parse(&j, item->metadata, err) != SV_OK)
        return sv_wrap(err, "metadata");
    return json_is_object(j) ? SV_OK : sv_fail(err, SV_EINVAL, "metadata is no JSON object");
}

static sv_rc check_batch(size_t n, sv_str mutation, sv_err *err)
{
    if (n > SV_VEC_MAX_BATCH)
        return sv_fail(err, SV_ELIMIT, "%zu in one call, %d are the most", n, SV_VEC_MAX_BATCH);
    if (mutation.n > SV_VEC_MAX_MUTATION)
        return sv_fail(err, SV_EINVAL, "a mutation id of %zu bytes, it may have %d", mutation.n, SV_VEC_MAX_MUTATION);
    return SV_OK;
}

static sv_rc refuse_failed(sv_err *err)
{
    return sv_fail(err, SV_EIO, "the disk failed while the log was written; the index takes no mutations until it is opened again");
}

/* Appends one record and applies it; write_lock held. */
static sv_rc commit(sv_vec *v, sv_vec_state *s, sv_vec_kind kind, sv_str mutation, sv_str body, sv_err *err)
{
    uint64_t before = sv_vec_log_end(s->log);
    sv_vec_record r = {.kind = kind, .time_ms = sv_now_ms(), .mutation = mutation, .body = body};
    if (sv_vec_log_append(s->log, &r, &r.body_at, err) != SV_OK)
        return err->code;
    r.end_at = sv_vec_log_end(s->log);
    r.body.p = (const char *)sv_vec_log_base(s->log) + r.body_at;
    if (sv_vec_state_apply(s, &r, false, err) != SV_OK) { /* no memory half-way: what is in memory is not what is in the log */
        atomic_store(&v->failed, true);
        sv_log(SV_ERROR, "vec.apply_failed", "dir=%s at=%llu reason=\"%s\"", v->dir, (unsigned long long)before, err->msg);
        return err->code;
    }
    sv_vec_note_applied(v, s, false);
    return SV_OK;
}

/* Waits until the log is on the disk up to what s had applied at `view`; no lock held. */
static sv_rc sync_up_to(sv_vec *v, sv_vec_state *s, uint64_t view, sv_err *err)
{
    sv_rc rc = SV_OK;
    pthread_mutex_lock(&v->sync_lock);
    /* A swapped state was synced as a whole. */
    if (atomic_load(&v->state) == s && (uint32_t)(atomic_load(&s->view) >> 32) < (uint32_t)(view >> 32)) {
        char mutation[SV_VEC_MAX_MUTATION + 1];
        pthread_mutex_lock(&v->published_lock);
        uint64_t to = v->applied_view, live = v->applied_live;
        int64_t ms = v->applied_ms;
        memcpy(mutation, v->applied_mutation, sizeof mutation);
        pthread_mutex_unlock(&v->published_lock);
        if (atomic_load(&v->failed)) {
            rc = refuse_failed(err);
        } else if (sv_vec_log_sync(s->log, err) != SV_OK) {
            rc = err->code;
            atomic_store(&v->failed, true);
            sv_log(SV_ERROR, "vec.sync_failed", "dir=%s reason=\"%s\"", v->dir, err->msg);
        } else {
            publish(v, s, to, live, ms, mutation);
        }
    }
    pthread_mutex_unlock(&v->sync_lock);
    return rc;
}

/* Every mutation: `prepare` makes the body of a record under write_lock, or says by SV_ECANCELED that there is nothing to do. */
typedef sv_rc prepare_fn(sv_vec *v, sv_vec_state *s, void *arg, sv_vec_kind *kind, sv_buf *body, sv_err *err);
static sv_rc mutate(sv_vec *v, sv_str mutation, prepare_fn *prepare, void *arg, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf body;
    sv_buf_init(&body, SV_VEC_LOG_MAX_RECORD);
    sv_vec_kind kind = SV_VEC_LOG_NOTE;
    unsigned side = sv_vec_enter(v); /* keeps s until the sync is over */
    pthread_mutex_lock(&v->write_lock);
    sv_vec_state *s = atomic_load(&v->state);
    sv_rc rc = atomic_load(&v->failed) ? refuse_failed(err) : prepare(v, s, arg, &kind, &body, err);
    if (rc == SV_OK && body.failed)
        rc = sv_fail(err, SV_ENOMEM, "no memory for a batch of %zu bytes", body.n);
    if (rc == SV_OK)
        rc = commit(v, s, kind, mutation, sv_buf_str(&body), err);
    uint64_t view = sv_vec_applied(s);
    bool due = rc == SV_OK && sv_vec_work_is_due(s);
    pthread_mutex_unlock(&v->write_lock);
    if (rc == SV_OK)
        rc = sync_up_to(v, s, view, err);
    sv_vec_leave(v, side);
    if (due)
        sv_vec_wake(v);
    return rc;
}

typedef struct batch {
    const sv_vec_item *items;
    size_t n, n_taken;
    bool insert, *taken;
} batch;

static int by_id(const void *a, const void *b, void *of)
{
    const sv_vec_item *items = of;
    sv_str x = items[*(const uint32_t *)a].id, y = items[*(const uint32_t *)b].id;
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    if (c || x.n != y.n)
        return c ? c : x.n < y.n ? -1 : 1;
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1; /* in the order they came */
}

/* Which of several items with one id stays: the first for an insert, the last for an upsert. */
static void drop_repeated(const batch *b, bool *take)
{
    SV_AUTO(sv_freep) uint32_t *order = sv_xcalloc(b->n + 1, sizeof *order);
    for (uint32_t i = 0; i < b->n; i++)
        order[i] = i;
    qsort_r(order, b->n, sizeof *order, by_id, (void *)(uintptr_t)b->items);
    for (size_t i = 1; i < b->n; i++)
        if (sv_str_eq(b->items[order[i - 1]].id, b->items[order[i]].id))
            take[order[b->insert ? i : i - 1]] = false;
}

static sv_rc prepare_batch(sv_vec *v, sv_vec_state *s, void *arg, sv_vec_kind *kind, sv_buf *body, sv_err *err)
{
    (void)v;
    batch *b = arg;
    SV_AUTO(sv_freep) bool *take = sv_xcalloc(b->n + 1, sizeof *take);
    const sv_vec_view now = {s, sv_vec_log_base(s->log), s->seq, s->n};
    for (size_t i = 0; i < b->n; i++)
        take[i] = !b->insert || sv_vec_state_find(&now, b->items[i].id) == SV_VEC_NONE;
    drop_repeated(b, take);
    b->n_taken = 0;
    for (size_t i = 0; i < b->n; i++)
        if (take[i]) {
            const sv_vec_item *x = &b->items[i];
            sv_vec_log_add_item(body, (uint32_t)s->config.dimensions, x->values, x->id, x->ns, x->metadata);
            b->n_taken++;
        }
    if (b->taken)
        memcpy(b->taken, take, b->n * sizeof *take);
    *kind = b->n_taken ? SV_VEC_LOG_UPSERT : SV_VEC_LOG_NOTE;
    return sv_vec_state_make_room(s, b->n_taken, err);
}

static sv_rc put(sv_vec *v, batch *b, sv_str mutation, sv_err *err)
{
    if (check_batch(b->n, mutation, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < b->n; i++)
        if (sv_vec_check_item(v, &b->items[i], err) != SV_OK)
            return sv_wrap(err, "vector %zu", i);
    return mutate(v, mutation, prepare_batch, b, err);
}

sv_rc sv_vec_upsert(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, sv_err *err)
{
    batch b = {.items = items, .n = n};
    return put(v, &b, mutation, err);
}

sv_rc sv_vec_insert(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, bool *taken, size_t *n_taken, sv_err *err)
{
    batch b = {.items = items, .n = n, .insert = true};
    SV_AUTO(sv_freep) bool *took = sv_xcalloc(n + 1, sizeof *took);
    b.taken = took;
    if (put(v, &b, mutation, err) != SV_OK)
        return err->code;
    if (taken)
        memcpy(taken, took, n * sizeof *took);
    if (n_taken)
        *n_taken = b.n_taken;
    return SV_OK;
}

typedef struct deletion {
    const sv_str *ids; /* or: */
    const sv_vec_filter *filter;
    sv_str ns;
    size_t n, n_deleted;
} deletion;

static sv_rc prepare_ids(sv_vec *v, sv_vec_state *s, void *arg, sv_vec_kind *kind, sv_buf *body, sv_err *err)
{
    (void)v;
    deletion *d = arg;
    const sv_vec_view now = {s, sv_vec_log_base(s->log), s->seq, s->n};
    SV_AUTO(sv_freep) sv_vec_item *items = sv_xcalloc(d->n + 1, sizeof *items);
    SV_AUTO(sv_freep) bool *take = sv_xcalloc(d->n + 1, sizeof *take);
    d->n_deleted = 0;
    for (size_t i = 0; i < d->n; i++) {
        items[i].id = d->ids[i];
        take[i] = sv_vec_state_find(&now, d->ids[i]) != SV_VEC_NONE;
    }
    drop_repeated(&(batch){.items = items, .n = d->n}, take);
    for (size_t i = 0; i < d->n; i++)
        if (take[i]) {
            sv_vec_log_add_id(body, d->ids[i]);
            d->n_deleted++;
        }
    *kind = body->n ? SV_VEC_LOG_DELETE : SV_VEC_LOG_NOTE;
    return sv_vec_state_make_room(s, 0, err);
}

static sv_rc prepare_matching(sv_vec *v, sv_vec_state *s, void *arg, sv_vec_kind *kind, sv_buf *body, sv_err *err)
{
    (void)v;
    deletion *d = arg;
    const sv_vec_view now = {s, sv_vec_log_base(s->log), s->seq, s->n};
    SV_AUTO(sv_freep) uint32_t *slots = NULL;
    size_t n = 0;
    if (sv_vec_matching_slots(&now, d->filter, d->ns, &slots, &n, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < n; i++)
        sv_vec_log_add_id(body, sv_vec_at(&now, slots[i]).id);
    *kind = n ? SV_VEC_LOG_DELETE : SV_VEC_LOG_NOTE;
    d->n_deleted = n;
    return sv_vec_state_make_room(s, 0, err);
}

sv_rc sv_vec_delete(sv_vec *v, const sv_str *ids, size_t n, sv_str mutation, size_t *n_deleted, sv_err *err)
{
    deletion d = {.ids = ids, .n = n};
    if (check_batch(n, mutation, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < n; i++)
        if (check_id(ids[i], err) != SV_OK)
            return sv_wrap(err, "id %zu", i);
    if (mutate(v, mutation, prepare_ids, &d, err) != SV_OK)
        return err->code;
    if (n_deleted)
        *n_deleted = d.n_deleted;
    return SV_OK;
}

sv_rc sv_vec_delete_matching(sv_vec *v, const sv_vec_filter *filter, sv_str ns, sv_str mutation, size_t *n_deleted, sv_err *err)
{
    deletion d = {.filter = filter, .ns = ns};
    if (check_batch(0, mutation, err) != SV_OK || mutate(v, mutation, prepare_matching, &d, err) != SV_OK)
        return err->code;
    if (n_deleted)
        *n_deleted = d.n_deleted;
    return SV_OK;
}

/* --- metadata indexes ----------------------------------------------------------------------------------------------- */

typedef struct field_change {
    sv_str name;
    sv_vec_type type;
    bool create;
} field_change;

static void free_column(void *p)
{
    sv_vec_column_free(p);
}

static sv_rc prepare_field(sv_vec *v, sv_vec_state *s, void *arg, sv_vec_kind *kind, sv_buf *body, sv_err *err)
{
    const field_change *c = arg;
    const sv_vec_fields *old = atomic_load(&s->fields);
    int i = sv_vec_fields_find(old, c->name);
    if (!c->create && i < 0)
        return sv_fail(err, SV_ENOENT, "no metadata index on '%.*s'", (int)(c->name.n < 100 ? c->name.n : 100), c->name.p);
    if (c->create && i >= 0 && old->field[i].type != c->type)
        return sv_fail(err, SV_ECONFLICT, "there is a metadata index of another type on '%s'", old->field[i].name);
    if (c->create && i >= 0)
        return sv_vec_state_make_room(s, 0, err); /* a note */
    if (c->create && old->n == SV_VEC_MAX_FIELDS)
        return sv_fail(err, SV_ELIMIT, "an index has at most %d metadata indexes", SV_VEC_MAX_FIELDS);
    if (sv_vec_state_make_room(s, 0, err) != SV_OK)
        return err->code;
    *kind = c->create ? SV_VEC_LOG_FIELD_CREATE : SV_VEC_LOG_FIELD_DELETE;
    if (c->create)
        sv_buf_addc(body, (char)c->type);
    sv_buf_add(body, c->name.p, c->name.n);

    /* The list changes before the record is on the disk: it is only a promise of speed. */
    sv_vec_fields *f = sv_vec_fields_copy(old);
    if (c->create) {
        sv_vec_field *to = &f->field[f->n];
        *to = (sv_vec_field){.type = c->type};
        memcpy(to->name, c->name.p, c->name.n);
        f->column[f->n++] = NULL;
    } else {
        if (f->column[i])
            sv_vec_retire(v, f->column[i], free_column);
        f->n--;
        memmove(&f->field[i], &f->field[i + 1], (f->n - (size_t)i) * sizeof f->field[0]);
        memmove(&f->column[i], &f->column[i + 1], (f->n - (size_t)i) * sizeof f->column[0]);
        f->column[f->n] = NULL;
    }
    atomic_store_explicit(&s->fields, f, memory_order_release);
    sv_vec_retire(v, (void *)(uintptr_t)old, free);
    return SV_OK;
}

static sv_rc change_field(sv_vec *v, field_change *c, sv_str mutation, sv_err *err)
{
    if (c->name.n < 1 || c->name.n > SV_VEC_MAX_KEY || !sv_utf8_valid(c->name) || memchr(c->name.p, 0, c->name.n))
        return sv_fail(err, SV_EINVAL, "a property name of %zu bytes, it may have 1 to %d of UTF-8", c->name.n, SV_VEC_MAX_KEY);
    if (c->name.p[0] == '$' || memchr(c->name.p, '"', c->name.n) || memchr(c->name.p, '|', c->name.n))
        return sv_fail(err, SV_EINVAL, "a property name must not begin with '$' or hold '\"' or '|'");
    if (check_batch(0, mutation, err) != SV_OK)
        return err->code;
    return mutate(v, mutation, prepare_field, c, err);
}

sv_rc sv_vec_field_create(sv_vec *v, sv_str name, sv_vec_type type, sv_str mutation, sv_err *err)
{
    if ((int)type < SV_VEC_STRING || type > SV_VEC_BOOLEAN)
        return sv_fail(err, SV_EINVAL, "no such type of metadata index");
    return change_field(v, &(field_change){name, type, true}, mutation, err);
}

sv_rc sv_vec_field_delete(sv_vec *v, sv_str name, sv_str mutation, sv_err *err)
{
    return change_field(v, &(field_change){.name = name}, mutation, err);
}

size_t sv_vec_field_list(sv_vec *v, sv_vec_field out[SV_VEC_MAX_FIELDS])
{
    unsigned side = sv_vec_enter(v);
    const sv_vec_fields *f = atomic_load_explicit(&atomic_load(&v->state)->fields, memory_order_acquire);
    size_t n = f->n;
    memcpy(out, f->field, n * sizeof *out);
    sv_vec_leave(v, side);
    return n;
}

void sv_vec_info_get(sv_vec *v, sv_vec_info *out)
{
    unsigned side = sv_vec_enter(v);
    const sv_vec_state *s = atomic_load(&v->state);
    *out = (sv_vec_info){.config = v->config};
    for (uint32_t i = 1, n = atomic_load(&s->n_namespaces); i < n; i++)
        out->n_namespaces += atomic_load(&atomic_load(&s->namespaces[i])->n_live) > 0;
    out->memory_bytes = sv_vec_state_bytes(s);
    out->n_in_graph = atomic_load(&s->n_graph);
    pthread_mutex_lock(&v->published_lock);
    out->disk_bytes = v->applied_end;
    out->garbage_bytes = v->applied_garbage;
    out->n_vectors = v->published_live;
    out->last_mutation_ms = v->published_ms;
    memcpy(out->last_mutation, v->published_mutation, sizeof out->last_mutation);
    pthread_mutex_unlock(&v->published_lock);
    sv_vec_leave(v, side);
    pthread_mutex_lock(&v->work_lock);
    out->busy = v->due || v->busy;
    pthread_mutex_unlock(&v->work_lock);
}
