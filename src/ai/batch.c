/* batch.c - asynchronous batches
 *
 * Batches take turns: of the first in line a few entries are read, run as calls like any other (the account is their tenant, so the engine's rounds
 * hold), and their answers are written in one transaction; then the batch goes to the end of the line. So a batch of thousands does not
 * keep one of three waiting, and never more than CHUNK calls of all batches stand beside what people wait for.
 *
 * An entry that fails because something is full or was restarted is tried again, a little later; only its own faults, or RETRIES failures, are final.
 *
 * Disk. Inputs are rows until they are answered; then the row has the answer, as the text that a poll gives. A process that dies loses at most the
 * entries that were running, and the next one computes them again. Everything that touches the database happens on its writer thread, as jobs that
 * report to the loop.
 *
 *     CREATE   row of the batch, rows of its entries     synced before the client reads "queued"
 *     LOAD     the next entries without an answer        SAVE  their answers; the last one ends the batch
 *
 * Invariants:
 *   1. At most one chunk exists at a time; it is of the first batch in line.
 *   2. A batch is in line exactly while it has entries without answers.
 *   3. An ask is in the list until its answer was sent or its client has left and its job has reported. */
#include "ai/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account/account.h"
#include "account/limits.h"
#include "ai/ai_impl.h"
#include "ai/fields.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "db/db.h"

enum { CHUNK = 8, RETRIES = 20, RETRY_MS = 1000, MAX_RESULTS = 64 << 20 };

static const char *const migrations[] = {
    "CREATE TABLE batches (id TEXT PRIMARY KEY, account TEXT NOT NULL, model TEXT NOT NULL, n INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " ended_ms INTEGER, result_bytes INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;"
    "CREATE INDEX batches_ended ON batches (ended_ms);"
    "CREATE INDEX batches_account ON batches (account, ended_ms);"
    "CREATE TABLE entries (batch TEXT NOT NULL, i INTEGER NOT NULL, input TEXT, answer TEXT, prompt_tokens INTEGER NOT NULL DEFAULT 0,"
    " completion_tokens INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (batch, i)) STRICT, WITHOUT ROWID",
};

typedef struct batch {
    struct batch *next;
    char id[37], account[33];
    char *model;
    int64_t n_left;
    bool begun;
    int n_tries;
} batch;

typedef struct entry {
    struct chunk *chunk;
    int64_t i;
    json_t *input;   /* owned */
    char *answer;    /* owned; NULL: try again */
    sv_usage usage;
} entry;

typedef struct chunk { /* inv. 1 */
    sv_batches *b;
    sv_db_job job;
    char batch_id[37];
    entry entries[CHUNK];
    int n, n_ended;
    int64_t n_left; /* after SAVE */
} chunk;

/* A client's call that waits for the database. */
typedef struct ask {
    struct ask *next, **prev;
    sv_batches *b;
    sv_req *r; /* NULL: it has left */
    const sv_surface *s;
    sv_db_job job;
    char id[37], account[33];
    char *model;
    json_t *requests;      /* of an add; owned */
    sv_buf answer;
    bool begun;            /* of a poll */
} ask;

struct sv_batches {
    sv_ai *ai;
    sv_db *db;
    batch *line, **line_end;
    chunk *chunk;
    ask *asks;
    sv_timer *retry;
    int64_t n_waiting, n_done, n_failed;
};

/* ---- the line ---- */

static batch *batch_new(const char *id, const char *account, const char *model, int64_t n_left)
{
    batch *x = sv_xnew0(batch);
    snprintf(x->id, sizeof x->id, "%s", id);
    snprintf(x->account, sizeof x->account, "%s", account);
    x->model = sv_xstrdup(model);
    x->n_left = n_left;
    return x;
}

static void batch_free(batch *x)
{
    free(x->model);
    free(x);
}

static void line_up(sv_batches *b, batch *x)
{
    x->next = NULL;
    *b->line_end = x;
    b->line_end = &x->next;
}

static batch *first_of_line(sv_batches *b)
{
    batch *x = b->line;
    if (!(b->line = x->next))
        b->line_end = &b->line;
    return x;
}

static const batch *in_line(const sv_batches *b, const char *id)
{
    for (const batch *x = b->line; x; x = x->next)
        if (strcmp(x->id, id) == 0)
            return x;
    return NULL;
}

/* ---- chunks ---- */

static void next_chunk(void *arg);

static void chunk_free(chunk *c)
{
    for (int k = 0; k < c->n; k++) {
        json_decref(c->entries[k].input);
        free(c->entries[k].answer);
    }
    free(c);
}

static sv_rc load(sv_dbw *w, void *arg, sv_err *err)
{
    chunk *c = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    for (; c->n > 0; c->n--) /* a second time: only its last result counts */
        json_decref(c->entries[c->n - 1].input);
    if (sv_stmt_prep(&q, w, "SELECT i, input FROM entries WHERE batch = ?1 AND answer IS NULL ORDER BY i LIMIT ?2", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, c->batch_id);
    sv_bind_i64(&q, 2, CHUNK);
    while (sv_stmt_step(&q, &row, err) == SV_OK && row) {
        json_t *input = NULL;
        if (sv_json_parse(&input, sv_col_str(&q, 1), err) != SV_OK)
            return err->code;
        c->entries[c->n++] = (entry){.chunk = c, .i = sv_col_i64(&q, 0), .input = input};
    }
    return err->code;
}

static sv_rc save_entry(sv_dbw *w, const chunk *c, const entry *e, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE entries SET input = NULL, answer = ?3, prompt_tokens = ?4, completion_tokens = ?5 WHERE batch = ?1 AND i = ?2", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, c->batch_id);
    sv_bind_i64(&q, 2, e->i);
    sv_bind_cstr(&q, 3, e->answer);
    sv_bind_i64(&q, 4, e->usage.prompt_tokens);
    sv_bind_i64(&q, 5, e->usage.completion_tokens);
    return sv_stmt_run(&q, err);
}

/* {"id":7,"success":false,...}, where the results are too large together. */
static char *failure(int64_t i, int code, const char *message)
{
    sv_buf out;
    sv_buf_init(&out, 0);
    sv_buf_addf(&out, "{\"id\":%lld,\"success\":false,\"errors\":[{\"code\":%d,\"message\":", (long long)i, code);
    sv_json_add_str(&out, sv_str_of(message));
    sv_buf_adds(&out, "}]}");
    char *text = sv_xstrdup(sv_buf_cstr(&out));
    sv_buf_done(&out);
    return text;
}

static sv_rc count(sv_dbw *w, const char *sql, const char *key, int64_t *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, key);
    if (sv_stmt_step(&q, &row, err) == SV_OK)
        *out = row ? sv_col_i64(&q, 0) : 0;
    return err->code;
}

static sv_rc save(sv_dbw *w, void *arg, sv_err *err)
{
    chunk *c = arg;
    int64_t bytes = 0;
    if (count(w, "SELECT result_bytes FROM batches WHERE id = ?1", c->batch_id, &bytes, err) != SV_OK)
        return err->code;
    for (int k = 0; k < c->n; k++) {
        entry *e = &c->entries[k];
        if (!e->answer)
            continue;
        if (bytes + (int64_t)strlen(e->answer) > MAX_RESULTS) {
            free(e->answer);
            e->answer = failure(e->i, 3006, "the results of this batch are over 64 MiB together: ask with fewer requests");
        }
        bytes += (int64_t)strlen(e->answer);
        if (save_entry(w, c, e, err) != SV_OK)
            return err->code;
    }
    if (count(w, "SELECT count(*) FROM entries WHERE batch = ?1 AND answer IS NULL", c->batch_id, &c->n_left, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "UPDATE batches SET result_bytes = ?2, ended_ms = ?3 WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, c->batch_id);
    sv_bind_i64(&q, 2, bytes);
    if (c->n_left == 0)
        sv_bind_i64(&q, 3, sv_now_ms());
    else
        sv_bind_null(&q, 3);
    return sv_stmt_run(&q, err);
}

static void try_later(sv_batches *b, const chunk *c)
{
    static sv_log_gate gate;
    if (c->job.rc != SV_OK && sv_log_may(&gate, 10))
        sv_log(SV_WARN, "ai.batch", "id=%s error='%s' action=retry", c->batch_id, c->job.err.msg);
    sv_timer_set(b->retry, RETRY_MS);
}

static void saved(void *arg)
{
    chunk *c = arg;
    sv_batches *b = c->b;
    batch *x = first_of_line(b);
    bool again = false;
    b->chunk = NULL;
    for (int k = 0; k < c->n; k++) {
        again = again || !c->entries[k].answer;
        b->n_done += c->job.rc == SV_OK && c->entries[k].answer;
    }
    x->n_tries = again ? x->n_tries + 1 : 0;
    x->n_left = c->job.rc == SV_OK ? c->n_left : x->n_left;
    if (x->n_left > 0)
        line_up(b, x);
    else {
        batch_free(x);
        b->n_waiting--;
    }
    if (c->job.rc != SV_OK || again)
        try_later(b, c);
    else
        next_chunk(b);
    chunk_free(c);
}

/* On the writer thread. */
static void post_saved(sv_db_job *job)
{
    chunk *c = job->arg;
    sv_loop_post(c->b->ai->loop, saved, c);
}

static void one_ended(chunk *c)
{
    if (++c->n_ended < c->n)
        return;
    c->job = (sv_db_job){.fn = save, .arg = c, .done = post_saved};
    sv_db_submit(c->b->db, &c->job);
}

static void add_reference(sv_buf *out, const entry *e)
{
    const json_t *ref = json_object_get(e->input, "external_reference");
    if (!ref)
        return;
    sv_buf_adds(out, ",\"external_reference\":");
    sv_json_add_value(out, ref);
}

/* What another moment may mend. */
static bool passing(const sv_ai_end *end) { return end->status == 429 || end->status >= 500 || end->status == 408; }

static void ended(const sv_ai_end *end, void *arg)
{
    entry *e = arg;
    const batch *x = e->chunk->b->line;
    if (!end->ok && passing(end) && x->n_tries < RETRIES) {
        one_ended(e->chunk);
        return;
    }
    sv_buf out;
    sv_buf_init(&out, 0);
    sv_buf_addf(&out, "{\"id\":%lld,\"success\":%s,", (long long)e->i, end->ok ? "true" : "false");
    if (end->ok) {
        sv_buf_adds(&out, "\"result\":");
        sv_buf_add(&out, end->text.p, end->text.n);
    } else {
        sv_buf_addf(&out, "\"errors\":[{\"code\":%d,\"message\":", end->code);
        sv_json_add_str(&out, end->text);
        sv_buf_adds(&out, "}]");
        e->chunk->b->n_failed++;
    }
    add_reference(&out, e);
    sv_buf_addc(&out, '}');
    e->answer = sv_xstrdup(sv_buf_cstr(&out));
    e->usage = end->usage;
    sv_buf_done(&out);
    one_ended(e->chunk);
}

static void loaded(void *arg)
{
    chunk *c = arg;
    sv_batches *b = c->b;
    batch *x = b->line;
    int n = c->n;
    if (c->job.rc != SV_OK) {
        try_later(b, c);
        b->chunk = NULL;
        chunk_free(c);
        return;
    }
    x->begun = true;
    if (n == 0) { /* all answered: only the end was not written */
        c->n_ended = -1;
        one_ended(c);
        return;
    }
    for (int k = 0; k < n; k++) {
        json_t *input = c->entries[k].input;
        json_object_del(input, "stream");
        sv_ai_run_for(b->ai, x->account, sv_str_of(x->model), input, ended, &c->entries[k]);
    }
}

static void post_loaded(sv_db_job *job)
{
    chunk *c = job->arg;
    sv_loop_post(c->b->ai->loop, loaded, c);
}

static void next_chunk(void *arg)
{
    sv_batches *b = arg;
    if (b->chunk || !b->line)
        return;
    chunk *c = b->chunk = sv_xnew0(chunk);
    c->b = b;
    snprintf(c->batch_id, sizeof c->batch_id, "%s", b->line->id);
    c->job = (sv_db_job){.fn = load, .arg = c, .done = post_loaded};
    sv_db_submit(b->db, &c->job);
}

/* ---- what clients ask ---- */

static void ask_free(ask *a)
{
    *a->prev = a->next;
    if (a->next)
        a->next->prev = a->prev;
    json_decref(a->requests);
    sv_buf_done(&a->answer);
    free(a->model);
    free(a);
}

static void ask_left(sv_req *r, void *arg)
{
    ask *a = arg;
    (void)r;
    a->r = NULL; /* inv. 3 */
}

static ask *ask_new(sv_batches *b, sv_req *r, const sv_model *m, const sv_surface *s)
{
    const sv_principal *who = sv_req_user(r);
    ask *a = sv_xnew0(ask);
    *a = (ask){.next = b->asks, .prev = &b->asks, .b = b, .r = r, .s = s, .model = sv_xstrdup(m->id)};
    snprintf(a->account, sizeof a->account, "%s", who ? who->account_id : "");
    sv_buf_init(&a->answer, MAX_RESULTS + (4 << 20));
    if (a->next)
        a->next->prev = &a->next;
    b->asks = a;
    sv_req_on_close(r, ask_left, a);
    return a;
}

static void ask_answer(ask *a)
{
    sv_req *r = a->r;
    sv_err err = a->job.err;
    const sv_surface *s = a->s;
    if (a->answer.failed && a->job.rc == SV_OK)
        a->job.rc = sv_fail(&err, SV_ENOMEM, "no memory for the answers of a batch");
    if (r) {
        sv_req_on_close(r, NULL, NULL);
        if (a->job.rc == SV_OK)
            sv_ai_send(r, sv_buf_str(&a->answer), s);
        else
            sv_ai_refuse(a->b->ai, r, &err, "", s);
    }
    ask_free(a);
}

static sv_rc forget_old(sv_dbw *w, sv_err *err)
{
    static const char *const sql[] = {
        "DELETE FROM entries WHERE batch IN (SELECT id FROM batches WHERE ended_ms < ?1)",
        "DELETE FROM batches WHERE ended_ms < ?1",
    };
    for (size_t i = 0; i < SV_LEN(sql); i++) {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, sql[i], err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, sv_now_ms() - sv_limit_value(SV_LIMIT_AI_BATCH_KEEP_MS));
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc add_entries(sv_dbw *w, const ask *a, sv_err *err)
{
    size_t i;
    const json_t *input;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO entries (batch, i, input) VALUES (?1, ?2, ?3)", err) != SV_OK)
        return err->code;
    json_array_foreach(a->requests, i, input) {
        SV_AUTO(sv_buf_donep) sv_buf text;
        sv_buf_init(&text, 0);
        sv_json_add_value(&text, input);
        sv_bind_cstr(&q, 1, a->id);
        sv_bind_i64(&q, 2, (int64_t)i);
        sv_bind_str(&q, 3, sv_buf_str(&text));
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
        sv_stmt_reset(&q);
    }
    return SV_OK;
}

static sv_rc create(sv_dbw *w, void *arg, sv_err *err)
{
    const ask *a = arg;
    int64_t n = 0, most = sv_limit_value(SV_LIMIT_AI_BATCHES);
    if (forget_old(w, err) != SV_OK || count(w, "SELECT count(*) FROM batches WHERE account = ?1 AND ended_ms IS NULL", a->account, &n, err) != SV_OK)
        return err->code;
    if (n >= most)
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %lld batches of this account wait already", (long long)most);
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO batches (id, account, model, n, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->id);
    sv_bind_cstr(&q, 2, a->account);
    sv_bind_cstr(&q, 3, a->model);
    sv_bind_i64(&q, 4, (int64_t)json_array_size(a->requests));
    sv_bind_i64(&q, 5, sv_now_ms());
    return sv_stmt_run(&q, err) == SV_OK ? add_entries(w, a, err) : err->code;
}

static void created(void *arg)
{
    ask *a = arg;
    sv_batches *b = a->b;
    if (a->job.rc == SV_OK) {
        line_up(b, batch_new(a->id, a->account, a->model, (int64_t)json_array_size(a->requests)));
        b->n_waiting++;
        sv_buf_addf(&a->answer, "{\"status\":\"queued\",\"request_id\":\"%s\",\"model\":\"%s\"}", a->id, a->model);
    }
    ask_answer(a);
    next_chunk(b);
}

static void post_created(sv_db_job *job)
{
    ask *a = job->arg;
    sv_loop_post(a->b->ai->loop, created, a);
}

static sv_rc check_requests(const sv_model *m, sv_fields *f)
{
    const json_t *list = sv_field_of(f, "requests"), *one;
    int64_t max = sv_limit_value(SV_LIMIT_AI_BATCH_REQUESTS);
    size_t i;
    if (m->listed && !m->async_queue)
        return sv_field_refuse(f, "queueRequest", "is not supported by %s: it has no asynchronous batches", m->id);
    if (!list)
        return sv_field_missing(f, "requests");
    if (!json_is_array(list))
        return sv_field_mismatch(f, "requests", list, "array");
    if (json_array_size(list) == 0 || (int64_t)json_array_size(list) > max)
        return sv_field_refuse(f, "requests", "must have 1 to %lld items, got %zu", (long long)max, json_array_size(list));
    json_array_foreach(list, i, one) {
        char field[SV_FIELD_BAD];
        snprintf(field, sizeof field, "requests/%zu", i);
        if (!json_is_object(one))
            return sv_field_mismatch(f, field, one, "object");
    }
    return SV_OK;
}

void sv_batches_add(sv_batches *b, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s)
{
    sv_err err = {0};
    char bad[SV_FIELD_BAD] = "";
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    sv_fields f = {body, bad, &err};
    if (sv_catalogue_resolve(b->ai->catalogue, model_id, &m, &err) != SV_OK || check_requests(m, &f) != SV_OK) {
        sv_ai_refuse(b->ai, r, &err, bad, s);
        return;
    }
    ask *a = ask_new(b, r, m, s);
    sv_uuid4(a->id);
    a->requests = json_incref(json_object_get(body, "requests"));
    a->job = (sv_db_job){.fn = create, .arg = a, .done = post_created};
    sv_db_submit(b->db, &a->job);
}

/* ---- polling ---- */

static sv_rc add_answers(sv_dbw *w, ask *a, sv_err *err)
{
    bool row = false;
    int64_t in = 0, out = 0;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT answer, prompt_tokens, completion_tokens FROM entries WHERE batch = ?1 ORDER BY i", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->id);
    sv_buf_adds(&a->answer, "{\"responses\":[");
    for (bool first = true; sv_stmt_step(&q, &row, err) == SV_OK && row; first = false) {
        sv_str text = sv_col_str(&q, 0);
        sv_buf_adds(&a->answer, first ? "" : ",");
        sv_buf_add(&a->answer, text.p, text.n);
        in += sv_col_i64(&q, 1);
        out += sv_col_i64(&q, 2);
    }
    sv_buf_addf(&a->answer, "],\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld}}", (long long)in, (long long)out,
                (long long)(in + out));
    return err->code;
}

static sv_rc look(sv_dbw *w, void *arg, sv_err *err)
{
    ask *a = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    sv_buf_reset(&a->answer);
    if (sv_stmt_prep(&q, w, "SELECT ended_ms FROM batches WHERE id = ?1 AND account = ?2 AND model = ?3", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->id);
    sv_bind_cstr(&q, 2, a->account);
    sv_bind_cstr(&q, 3, a->model);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail_api(err, SV_ENOENT, 5006, "'/request_id' names no batch of this account and model: batches are kept for %lld hours after their end",
                           (long long)(sv_limit_value(SV_LIMIT_AI_BATCH_KEEP_MS) / 3600000));
    if (!sv_col_null(&q, 0))
        return add_answers(w, a, err);
    sv_buf_addf(&a->answer, "{\"status\":\"%s\",\"request_id\":\"%s\",\"model\":\"%s\"}", a->begun ? "running" : "queued", a->id, a->model);
    return SV_OK;
}

static void looked(void *arg) { ask_answer(arg); }

static void post_looked(sv_db_job *job)
{
    ask *a = job->arg;
    sv_loop_post(a->b->ai->loop, looked, a);
}

void sv_batches_poll(sv_batches *b, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s)
{
    sv_err err = {0};
    char bad[SV_FIELD_BAD] = "";
    sv_str id = {0};
    SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
    if (sv_catalogue_find(b->ai->catalogue, model_id, &m, &err) != SV_OK || sv_field_text(&(sv_fields){body, bad, &err}, "request_id", &id) != SV_OK) {
        sv_ai_refuse(b->ai, r, &err, bad, s);
        return;
    }
    ask *a = ask_new(b, r, m, s);
    snprintf(a->id, sizeof a->id, "%.*s", (int)(id.n < 37 ? id.n : 0), id.p); /* no id is longer */
    const batch *x = in_line(b, a->id);
    a->begun = x && x->begun;
    a->job = (sv_db_job){.fn = look, .arg = a, .done = post_looked};
    sv_db_submit(b->db, &a->job);
}

/* ---- life ---- */

static sv_rc load_line(sv_dbw *r, void *arg, sv_err *err)
{
    sv_batches *b = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, account, model, n FROM batches WHERE ended_ms IS NULL ORDER BY created_ms, id", err) != SV_OK)
        return err->code;
    while (sv_stmt_step(&q, &row, err) == SV_OK && row) {
        char text[3][192];
        for (int i = 0; i < 3; i++)
            snprintf(text[i], sizeof text[i], "%.*s", (int)sv_col_str(&q, i).n, sv_col_str(&q, i).p);
        line_up(b, batch_new(text[0], text[1], text[2], sv_col_i64(&q, 3)));
        b->n_waiting++;
    }
    return err->code;
}

sv_rc sv_batches_open(sv_batches **out, sv_ai *ai, const char *data_dir, sv_err *err)
{
    sv_batches *b = sv_xnew0(sv_batches);
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/ai.db", data_dir);
    b->ai = ai;
    b->line_end = &b->line;
    b->retry = sv_timer_new(ai->loop, next_chunk, b);
    if (sv_db_open(&b->db, path, migrations, SV_LEN(migrations), err) != SV_OK || sv_db_read(b->db, load_line, b, err) != SV_OK) {
        sv_batches_close(b);
        return err->code;
    }
    if (b->line)
        sv_timer_set(b->retry, 0);
    *out = b;
    return SV_OK;
}

sv_batches *sv_batches_close(sv_batches *b)
{
    if (!b)
        return NULL;
    sv_timer_free(b->retry);
    sv_db_close(b->db); /* its jobs have reported; nobody reads the loop's mail any more */
    while (b->asks)
        ask_free(b->asks);
    if (b->chunk)
        chunk_free(b->chunk);
    while (b->line)
        batch_free(first_of_line(b));
    free(b);
    return NULL;
}

void sv_batches_metrics(const sv_batches *b, sv_buf *out)
{
    sv_buf_addf(out,
                "# HELP selvedge_ai_batches_waiting Asynchronous batches without all their answers.\n# TYPE selvedge_ai_batches_waiting gauge\n"
                "selvedge_ai_batches_waiting %lld\n"
                "# HELP selvedge_ai_batch_entries_total Entries of batches that were answered, failures among them.\n"
                "# TYPE selvedge_ai_batch_entries_total counter\nselvedge_ai_batch_entries_total %lld\n"
                "# HELP selvedge_ai_batch_failures_total Entries of batches that failed for good.\n# TYPE selvedge_ai_batch_failures_total counter\n"
                "selvedge_ai_batch_failures_total %lld\n",
                (long long)b->n_waiting, (long long)b->n_done, (long long)b->n_failed);
}
