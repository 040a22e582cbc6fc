/* encode.c - requests to text encoders
 *
 * Each model has a thread, which tokenizes and computes. A batch is packed text by text: the next one is of the tenant that has been served the
 * fewest tokens, and there of the request whose turn was longest ago. So a request of one text does not wait for one of a hundred, a tenant with a
 * hundred requests does not delay another's one, and texts of all of them share a pass over the weights, without padding. A text is tokenized when
 * its turn comes, no sooner: a hundred long ones cost others nothing before.
 *
 * A tenant without requests is forgotten; one that comes (again) begins where the least served of the present ones is, so that nobody saves up
 * turns by waiting.
 *
 * The compute pool is taken anew for each layer, so a long generation and a batch alternate in steps of some ten milliseconds.
 *
 * Invariants:
 *   1. The loop owns the list of models and n_jobs; the thread owns everything it took from the queue, until it posts it back as a mail.
 *   2. A model is freed by the loop after its thread was joined; with jobs it is never stopped but at the end of the engine.
 *   3. A model without jobs has ended one at least, so its thread has loaded it or not: the loop may read broken, and a join does not wait. */
#include "engine/encode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "models/encoder.h"
#include "models/files.h"

enum { BATCH_ROWS = 512, TICK_MS = 1000, RETRY_MS = 5000, MAX_LABELS_BYTES = 1 << 20 };

typedef struct enc_text { size_t at; int32_t n, n_first; } enc_text; /* of j->tokens; n 0: not tokenized yet */

typedef struct enc_lane { /* of a tenant with live requests */
    struct enc_lane *next;
    char tenant[SV_WIRE_MAX_TENANT];
    int64_t served; /* tokens */
    int32_t n_jobs;
} enc_lane;

typedef struct enc_model {
    struct enc_model *next;
    sv_encoders *table;
    char *path;
    struct timespec mtime;
    ino_t ino;
    size_t n_bytes;
    int32_t n_jobs; /* the loop's */
    int64_t used_ms;
    sv_queue *queue;
    pthread_t thread;
    /* the thread's */
    sv_encoder *encoder;
    sv_encoder_ws *ws;
    sv_buf labels;
    sv_encode **live; /* [max_queued] */
    int32_t n_live;
    enc_lane *lanes;
    int64_t turn;
    sv_err broken; /* why it did not load; inv. 3 */
    /* written by the thread, read by the loop */
    _Atomic bool loaded;
    _Atomic int64_t n_texts, n_tokens, n_batches;
} enc_model;

struct sv_encoders {
    sv_loop *loop;
    sv_compute *compute;
    sv_encoders_opts o;
    enc_model *models;
    sv_timer *tick;
    _Atomic bool closing;
};

sv_encode *sv_encode_free(sv_encode *j)
{
    if (j) {
        sv_wire_encode_done(&j->req);
        free(j->tokens.v);
        free(j->texts);
        free(j->out);
    }
    free(j);
    return NULL;
}

/* --- the model's thread ------------------------------------------------------------------------------------------- */

static void stop_when_quiet(sv_encoders *t);

static void ended(void *arg) /* on the loop */
{
    sv_encode *j = arg;
    enc_model *m = j->model;
    sv_encoders *t = m->table;
    m->n_jobs--;
    m->used_ms = sv_mono_ms();
    t->o.on_end(j);
    t->o.on_batch(t->o.arg);
    stop_when_quiet(t);
}

static void finish(enc_model *m, sv_encode *j) { sv_loop_post(m->table->loop, ended, j); }

static sv_str str_of(const json_t *s) { return (sv_str){json_string_value(s), json_string_length(s)}; }

static sv_rc prepare(enc_model *m, sv_encode *j, sv_err *err)
{
    const sv_encoder_info *info = sv_encoder_get_info(m->encoder);
    size_t n = json_array_size(j->req.texts);
    bool scores = j->req.want == SV_ENCODE_LOGITS;
    if (scores && info->n_labels == 0)
        return sv_fail(err, SV_EINVAL, "this model has no classes: it makes vectors");
    j->vectors = (sv_vectors){.n = (int32_t)n, .dim = scores ? info->n_labels : info->n_embd, .labels = sv_buf_str(&m->labels)};
    if (n * (size_t)j->vectors.dim * sizeof(float) + m->labels.n + 64 > SV_WIRE_MAX) /* 64: the frame's other fields */
        return sv_fail(err, SV_ELIMIT, "%zu texts of %d numbers each are over %d MiB: ask with fewer at once", n, j->vectors.dim, SV_WIRE_MAX >> 20);
    j->texts = sv_try_calloc(n, sizeof *j->texts);
    j->out = sv_try_calloc(n * (size_t)j->vectors.dim, sizeof *j->out);
    if (!j->texts || !j->out)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu vectors", n);
    j->vectors.v = j->out;
    return SV_OK;
}

static sv_rc tokenize(enc_model *m, sv_encode *j, int32_t i, sv_err *err)
{
    const json_t *t = json_array_get(j->req.texts, (size_t)i);
    bool is_pair = json_is_array(t);
    sv_str pair = str_of(json_array_get(t, 1));
    sv_encoder_text text = {.text = str_of(is_pair ? json_array_get(t, 0) : t), .pair = is_pair ? &pair : NULL, .max_tokens = j->req.max_tokens,
                            .cut = j->req.cut};
    j->texts[i].at = j->tokens.n;
    if (sv_encoder_tokens(m->encoder, &text, &j->tokens, &j->texts[i].n_first, err) != SV_OK)
        return err->code;
    j->texts[i].n = (int32_t)(j->tokens.n - j->texts[i].at);
    j->vectors.n_tokens = (int32_t)j->tokens.n;
    return SV_OK;
}

static void normalise(float *v, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    float by = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (int32_t i = 0; i < n; i++)
        v[i] *= by;
}

/* --- whose turn it is --------------------------------------------------------------------------------------------- */

static enc_lane *lane_of(enc_model *m, const char *tenant)
{
    int64_t least = INT64_MAX;
    for (enc_lane *l = m->lanes; l; l = l->next) {
        if (strcmp(l->tenant, tenant) == 0)
            return l;
        least = l->served < least ? l->served : least;
    }
    enc_lane *l = sv_xnew0(enc_lane);
    l->served = m->lanes ? least : 0;
    snprintf(l->tenant, sizeof l->tenant, "%s", tenant);
    l->next = m->lanes;
    m->lanes = l;
    return l;
}

static void lane_leave(enc_model *m, enc_lane *lane)
{
    enc_lane **at = &m->lanes;
    if (--lane->n_jobs > 0)
        return;
    while (*at != lane)
        at = &(*at)->next;
    *at = lane->next;
    free(lane);
}

static void drop(enc_model *m, int32_t i)
{
    sv_encode *j = m->live[i];
    memmove(m->live + i, m->live + i + 1, (size_t)(--m->n_live - i) * sizeof(sv_encode *));
    lane_leave(m, j->lane);
    finish(m, j);
}

/* Of the requests with texts left; NULL: none fits. */
static sv_encode *next_job(const enc_model *m, const sv_encode_want *want)
{
    sv_encode *best = NULL;
    for (int32_t i = 0; i < m->n_live; i++) {
        sv_encode *j = m->live[i];
        if (j->err.code != SV_OK || j->n_begun == j->vectors.n || (want && j->req.want != *want))
            continue;
        if (!best || j->lane->served < best->lane->served || (j->lane->served == best->lane->served && j->turn < best->turn))
            best = j;
    }
    return best;
}

/* Only texts of one kind of answer share a batch. The first one always fits. */
static int32_t pack(enc_model *m, sv_encoder_seq *seqs, sv_encode **of, sv_encode_want *want)
{
    int32_t n = 0, rows = 0, i_text[SV_ENCODER_MAX_SEQS];
    sv_encode *j;
    while (n < SV_ENCODER_MAX_SEQS && (j = next_job(m, n > 0 ? want : NULL))) {
        const enc_text *t = &j->texts[j->n_begun];
        if (t->n == 0 && tokenize(m, j, j->n_begun, &j->err) != SV_OK)
            continue; /* it ends when this batch has */
        if (n > 0 && rows + t->n > BATCH_ROWS)
            break;
        *want = j->req.want;
        of[n] = j;
        i_text[n++] = j->n_begun++;
        j->turn = ++m->turn;
        j->lane->served += t->n;
        rows += t->n;
    }
    for (int32_t i = 0; i < n; i++) { /* tokens may have moved until here */
        const enc_text *t = &of[i]->texts[i_text[i]];
        j = of[i];
        seqs[i] = (sv_encoder_seq){.tokens = j->tokens.v + t->at, .n_tokens = t->n, .n_first = t->n_first,
                                   .out = j->out + (size_t)i_text[i] * (size_t)j->vectors.dim};
    }
    atomic_fetch_add(&m->n_texts, n);
    atomic_fetch_add(&m->n_tokens, rows);
    atomic_fetch_add(&m->n_batches, n > 0);
    return n;
}

/* --- batches ------------------------------------------------------------------------------------------------------ */

static void batch(enc_model *m)
{
    sv_encoder_seq seqs[SV_ENCODER_MAX_SEQS];
    sv_encode *of[SV_ENCODER_MAX_SEQS];
    sv_encode_want want = SV_ENCODE_MEAN;
    sv_compute *c = m->table->compute;
    int32_t n = pack(m, seqs, of, &want);
    if (n == 0)
        return;
    sv_encoder_begin(m->encoder, m->ws, sv_compute_enter(c), seqs, n);
    sv_compute_leave(c);
    for (int32_t i = 0; i < sv_encoder_n_steps(m->encoder, m->ws); i++) {
        sv_encoder_step(m->encoder, m->ws, sv_compute_enter(c), i);
        sv_compute_leave(c);
    }
    sv_encoder_end(m->encoder, m->ws, sv_compute_enter(c),
                   want == SV_ENCODE_LOGITS ? SV_WANT_LOGITS : want == SV_ENCODE_CLS ? SV_WANT_CLS : SV_WANT_MEAN);
    sv_compute_leave(c);
    for (int32_t i = 0; i < n; i++) {
        of[i]->n_done++;
        if (want != SV_ENCODE_LOGITS)
            normalise(seqs[i].out, of[i]->vectors.dim);
    }
}

static void take(enc_model *m, sv_encode *j)
{
    if (m->broken.code != SV_OK)
        j->err = m->broken;
    else if (atomic_load(&j->cancel) || m->table->closing)
        (void)sv_fail(&j->err, SV_ECANCELED, "canceled");
    else if (prepare(m, j, &j->err) == SV_OK) {
        j->lane = lane_of(m, j->req.tenant);
        j->lane->n_jobs++;
        m->live[m->n_live++] = j;
        return;
    }
    finish(m, j);
}

static sv_rc load(enc_model *m, sv_err *err)
{
    if (sv_encoder_open(&m->encoder, m->path, err) != SV_OK)
        return err->code;
    const sv_encoder_info *i = sv_encoder_get_info(m->encoder);
    sv_buf_addc(&m->labels, '[');
    for (int32_t k = 0; k < i->n_labels; k++) {
        if (k)
            sv_buf_addc(&m->labels, ',');
        sv_json_add_str(&m->labels, sv_str_of(sv_encoder_label(m->encoder, k)));
    }
    sv_buf_addc(&m->labels, ']');
    if (m->labels.failed)
        return sv_fail(err, SV_EFORMAT, "'%s': the names of its %d classes have more than %d MiB", m->path, i->n_labels, MAX_LABELS_BYTES >> 20);
    return sv_encoder_ws_new(&m->ws, m->encoder, i->n_ctx > BATCH_ROWS ? i->n_ctx : BATCH_ROWS, err);
}

static void *model_main(void *arg)
{
    enc_model *m = arg;
    if (load(m, &m->broken) != SV_OK)
        sv_log(SV_WARN, "engine.encoder.failed", "path='%s' error='%s'", m->path, m->broken.msg);
    atomic_store(&m->loaded, true);
    for (;;) {
        sv_encode *j = m->n_live < m->table->o.max_queued ? sv_queue_take(m->queue, m->n_live > 0 ? 0 : -1) : NULL;
        if (j) {
            take(m, j);
            continue;
        }
        if (m->n_live == 0)
            return NULL; /* closed and empty */
        batch(m);
        for (int32_t i = m->n_live; i-- > 0;) {
            sv_encode *k = m->live[i];
            if (k->n_done < k->vectors.n && (atomic_load(&k->cancel) || m->table->closing))
                (void)sv_fail(&k->err, SV_ECANCELED, "canceled");
            if (k->err.code != SV_OK || k->n_done == k->vectors.n)
                drop(m, i);
        }
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void model_free(enc_model *m)
{
    enc_model **at = &m->table->models;
    sv_queue_close(m->queue);
    pthread_join(m->thread, NULL);
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    sv_room_give(m->table->o.room, m->n_bytes);
    sv_encoder_ws_free(m->ws);
    sv_encoder_close(m->encoder);
    sv_buf_done(&m->labels);
    sv_queue_free(m->queue);
    free(m->live);
    free(m->path);
    free(m);
}

static void tick(void *arg)
{
    sv_encoders *t = arg;
    for (enc_model *m = t->models, *next; m; m = next) {
        next = m->next;
        if (m->n_jobs == 0 && sv_mono_ms() - m->used_ms > t->o.idle_ms)
            model_free(m);
    }
    sv_timer_set(t->tick, TICK_MS);
}

/* What was no matter of the file: memory, handles. */
static bool worth_a_retry(const enc_model *m)
{
    return m->n_jobs == 0 && m->broken.code != SV_OK && m->broken.code != SV_EFORMAT && sv_mono_ms() - m->used_ms > RETRY_MS;
}

static enc_model *oldest(const sv_encoders *t)
{
    enc_model *idle = NULL;
    for (enc_model *m = t->models; m; m = m->next)
        if (m->n_jobs == 0 && (!idle || m->used_ms < idle->used_ms))
            idle = m;
    return idle;
}

static int64_t oldest_idle(void *arg)
{
    const enc_model *m = oldest(arg);
    return m ? m->used_ms : INT64_MAX;
}

static void drop_oldest(void *arg) { model_free(oldest(arg)); }

static sv_rc find_model(sv_encoders *t, enc_model **out, const char *path, sv_err *err)
{
    struct stat st;
    sv_model_files files = {0};
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "open '%s'", path);
    for (enc_model *m = t->models, *next; m; m = next) {
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
    enc_model *m = *out = sv_xnew0(enc_model);
    *m = (enc_model){.next = t->models, .table = t, .path = sv_xstrdup(path), .mtime = st.st_mtim, .ino = st.st_ino, .n_bytes = n_bytes};
    m->queue = sv_queue_new((size_t)t->o.max_queued + 1);
    m->live = sv_xcalloc((size_t)t->o.max_queued, sizeof *m->live);
    sv_buf_init(&m->labels, MAX_LABELS_BYTES);
    t->models = m;
    m->thread = sv_thread_start("encoder", model_main, m);
    return SV_OK;
}

sv_encoders *sv_encoders_new(sv_loop *loop, sv_compute *compute, const sv_encoders_opts *opts)
{
    sv_encoders *t = sv_xnew0(sv_encoders);
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

sv_rc sv_encoders_submit(sv_encoders *t, sv_encode *j, sv_err *err)
{
    enc_model *m = NULL;
    if (find_model(t, &m, j->req.model_path, err) != SV_OK)
        return err->code;
    j->model = m;
    if (m->n_jobs >= t->o.max_queued || !sv_queue_post(m->queue, j))
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests wait for this model already", m->n_jobs);
    m->n_jobs++;
    return SV_OK;
}

void sv_encoders_add_stats(const sv_encoders *t, sv_buf *out)
{
    sv_buf_adds(out, "\"encoders\":[");
    for (const enc_model *m = t->models; m; m = m->next) {
        bool loaded = atomic_load(&m->loaded), failed = loaded && m->broken.code != SV_OK;
        sv_buf_adds(out, m == t->models ? "{\"path\":" : ",{\"path\":");
        sv_json_add_str(out, sv_str_of(m->path));
        sv_buf_addf(out, ",\"state\":\"%s\",\"n_jobs\":%d", failed ? "failed" : loaded ? "ready" : "loading", m->n_jobs);
        sv_buf_addf(out, ",\"texts\":%lld,\"tokens\":%lld,\"batches\":%lld", (long long)atomic_load(&m->n_texts), (long long)atomic_load(&m->n_tokens),
                    (long long)atomic_load(&m->n_batches));
        if (failed) {
            sv_buf_adds(out, ",\"error\":");
            sv_json_add_str(out, sv_str_of(m->broken.msg));
        }
        sv_buf_addc(out, '}');
    }
    sv_buf_addc(out, ']');
}

static void stop_when_quiet(sv_encoders *t)
{
    bool quiet = true;
    for (const enc_model *m = t->models; m; m = m->next)
        quiet = quiet && m->n_jobs == 0;
    if (t->closing && quiet)
        sv_loop_stop(t->loop);
}

sv_encoders *sv_encoders_free(sv_encoders *t)
{
    if (!t)
        return NULL;
    t->closing = true;
    t->tick = sv_timer_free(t->tick);
    for (const enc_model *m = t->models; m; m = m->next)
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
