/* schedules.c - cron triggers: rows, the clock that looks at them, the calls of scheduled()
 *
 *   schedule: next_ms --due--> claimed: run row, next_ms moves on --scheduled() returned--> run row has its outcome
 *
 * The claim comes first, so that a crash can leave a run without an outcome but never an outcome that nobody knows of. At the start, runs without an
 * outcome were cut by our end: each is marked `interrupted` and its schedule made due again, unless it was such a repetition itself. A clock that
 * stood still (down time, suspend) finds next_ms in the past; whatever number of times was missed, one run is made, for the last of them. */
#include "workers/schedules.h"

#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "base/log.h"
#include "base/time.h"
#include "workers/cron.h"
#include "workers/events.h"
#include "workers/objects.h"
#include "workers/rest_impl.h"

enum { TICK_MS = 1000, RUNS_KEPT = 100, MAX_CLAIM = 64, MAX_CRON = 256 };

#define DAY_MS ((int64_t)86400000)

/* ---- what is set ---- */

typedef struct set_arg { const char *key, *account; const json_t *crons; int64_t now; } set_arg;

static sv_rc count_others(sv_dbw *w, const set_arg *a, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT count(*) FROM schedule c JOIN script s ON s.key = c.key WHERE s.account = ?1 AND c.key <> ?2", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->account);
    sv_bind_cstr(&q, 2, a->key);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    return sv_limit_check(SV_LIMIT_CRONS, sv_col_i64(&q, 0) + (int64_t)json_array_size(a->crons), "cron triggers of the account", err);
}

static sv_rc put_one(sv_dbw *w, const set_arg *a, const char *text, sv_err *err)
{
    sv_cron c;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_cron_parse(&c, sv_str_of(text), err) != SV_OK)
        return err->code;
    if (sv_stmt_prep(&q, w, "INSERT INTO schedule (key, cron, created_ms, modified_ms, next_ms, kept) VALUES (?1, ?2, ?3, ?3, ?4, 1)"
                            " ON CONFLICT (key, cron) DO UPDATE SET kept = 1", err) != SV_OK)
        return err->code;
    int64_t next = sv_cron_next(&c, a->now);
    sv_bind_cstr(&q, 1, a->key);
    sv_bind_cstr(&q, 2, text);
    sv_bind_i64(&q, 3, a->now);
    if (next < 0)
        sv_bind_null(&q, 4);
    else
        sv_bind_i64(&q, 4, next);
    return sv_stmt_run(&q, err);
}

static sv_rc run_for(sv_dbw *w, const char *sql, const char *key, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, sql, err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, key);
    return sv_stmt_run(&q, err);
}

static sv_rc set_all(sv_dbw *w, void *arg, sv_err *err)
{
    const set_arg *a = arg;
    size_t i;
    json_t *c;
    if (count_others(w, a, err) != SV_OK || run_for(w, "UPDATE schedule SET kept = 0 WHERE key = ?1", a->key, err) != SV_OK)
        return err->code;
    json_array_foreach ((json_t *)(uintptr_t)a->crons, i, c)
        if (put_one(w, a, sv_json_cstr(c, "cron"), err) != SV_OK)
            return err->code;
    return run_for(w, "DELETE FROM schedule WHERE key = ?1 AND kept = 0", a->key, err);
}

/* Before anything is touched. */
static sv_rc check_all(const json_t *crons, sv_err *err)
{
    size_t i;
    json_t *c;
    if (!json_is_array(crons))
        return sv_fail_api(err, SV_EINVAL, 10100, "the schedules must be an array of objects with a 'cron'");
    json_array_foreach ((json_t *)(uintptr_t)crons, i, c) {
        const json_t *text = json_object_get(c, "cron");
        sv_cron parsed;
        if (!json_is_string(text) || json_string_length(text) > MAX_CRON || strlen(json_string_value(text)) != json_string_length(text))
            return sv_fail_api(err, SV_EINVAL, 10100, "schedule %zu: 'cron' must be text of at most %d bytes", i, MAX_CRON);
        if (sv_cron_parse(&parsed, sv_str_of(json_string_value(text)), err) != SV_OK)
            return sv_wrap(err, "'%s'", json_string_value(text));
    }
    return SV_OK;
}

sv_rc sv_schedules_set(sv_workers *w, const char *account, const char *name, const json_t *crons, json_t **out, sv_err *err)
{
    char key[17];
    sv_worker_key(key, account, name);
    set_arg a = {.key = key, .account = account, .crons = crons, .now = sv_now_ms()};
    if (check_all(crons, err) != SV_OK)
        return err->code;
    if (json_array_size(crons) && sv_workers_enable_events(w, account, name, err) != SV_OK)
        return err->code;
    if (sv_db_write(w->db, set_all, &a, err) != SV_OK)
        return err->code;
    return sv_schedules_get(w, key, out, err);
}

typedef struct list_arg { const char *key; json_t *out; } list_arg;

static void set_str(json_t *o, const char *name, sv_str s) { json_object_set_new(o, name, json_stringn(s.p ? s.p : "", s.n)); }

static sv_rc list_schedules(sv_dbw *r, void *arg, sv_err *err)
{
    list_arg *a = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT cron, created_ms, modified_ms FROM schedule WHERE key = ?1 ORDER BY cron", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->key);
    while (sv_stmt_step(&q, &row, err) == SV_OK && row) {
        json_t *o = json_object();
        set_str(o, "cron", sv_col_str(&q, 0));
        json_object_set_new(o, "created_on", sv_json_time(sv_col_i64(&q, 1)));
        json_object_set_new(o, "modified_on", sv_json_time(sv_col_i64(&q, 2)));
        json_array_append_new(a->out, o);
    }
    return row ? err->code : SV_OK;
}

static sv_rc list_runs(sv_dbw *r, void *arg, sv_err *err)
{
    list_arg *a = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT id, cron, scheduled_ms, started_ms, ended_ms, outcome, reason FROM run WHERE key = ?1 ORDER BY id DESC LIMIT 100", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, a->key);
    while (sv_stmt_step(&q, &row, err) == SV_OK && row) {
        json_t *o = json_pack("{s:I}", "id", (json_int_t)sv_col_i64(&q, 0));
        set_str(o, "cron", sv_col_str(&q, 1));
        json_object_set_new(o, "scheduled_on", sv_json_time(sv_col_i64(&q, 2)));
        json_object_set_new(o, "started_on", sv_json_time(sv_col_i64(&q, 3)));
        json_object_set_new(o, "ended_on", sv_col_null(&q, 4) ? json_null() : sv_json_time(sv_col_i64(&q, 4)));
        if (sv_col_null(&q, 5))
            json_object_set_new(o, "outcome", json_null());
        else
            set_str(o, "outcome", sv_col_str(&q, 5));
        set_str(o, "trigger", sv_col_str(&q, 6));
        json_array_append_new(a->out, o);
    }
    return row ? err->code : SV_OK;
}

static sv_rc list_with(sv_workers *w, sv_db_read_fn fn, const char *key, json_t **out, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    list_arg a = {key, list};
    if (sv_db_read(w->db, fn, &a, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(list);
    return SV_OK;
}

sv_rc sv_schedules_get(sv_workers *w, const char *key, json_t **out, sv_err *err) { return list_with(w, list_schedules, key, out, err); }
sv_rc sv_schedules_runs(sv_workers *w, const char *key, json_t **out, sv_err *err) { return list_with(w, list_runs, key, out, err); }

/* ---- claims ---- */

typedef struct due { sv_run run; char key[17]; bool again; } due;
typedef struct claim_arg { int64_t now; due v[MAX_CLAIM]; size_t n; } claim_arg;

/* The last time that `c` names between `first`, one of them, and now. */
static int64_t last_missed(const sv_cron *c, int64_t first, int64_t now)
{
    int64_t t = first, next;
    if (now - first > DAY_MS && (next = sv_cron_next(c, now - DAY_MS)) >= 0 && next <= now)
        t = next;
    while ((next = sv_cron_next(c, t)) >= 0 && next <= now)
        t = next;
    return t;
}

static sv_rc begin_run(sv_dbw *w, const char *key, sv_run *r, const char *reason, int64_t now, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO run (key, cron, scheduled_ms, started_ms, reason) VALUES (?1, ?2, ?3, ?4, ?5)", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&q, 1, key);
    sv_bind_cstr(&q, 2, r->cron);
    sv_bind_i64(&q, 3, r->scheduled_ms);
    sv_bind_i64(&q, 4, now);
    sv_bind_cstr(&q, 5, reason);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    r->id = sqlite3_last_insert_rowid(sv_dbw_handle(w));
    return SV_OK;
}

static void take_text(sv_stmt *q, int i, char *out, size_t n)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, n, "%.*s", (int)s.n, s.p ? s.p : "");
}

static sv_rc claim_one_due(sv_dbw *w, due *d, int64_t now, sv_err *err)
{
    sv_cron c;
    sv_err broken = {0};
    int64_t next = -1;
    bool good = sv_cron_parse(&c, sv_str_of(d->run.cron), &broken) == SV_OK; /* else written by another release: never due again */
    if (good) {
        next = sv_cron_next(&c, now);
        if (!d->again)
            d->run.scheduled_ms = last_missed(&c, d->run.scheduled_ms, now);
    }
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "UPDATE schedule SET next_ms = ?3, again = 0 WHERE key = ?1 AND cron = ?2", err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, d->key);
        sv_bind_cstr(&q, 2, d->run.cron);
        if (next < 0)
            sv_bind_null(&q, 3);
        else
            sv_bind_i64(&q, 3, next);
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return begin_run(w, d->key, &d->run, d->again ? "again" : "cron", now, err);
}

static sv_rc claim_all(sv_dbw *w, void *arg, sv_err *err)
{
    claim_arg *a = arg;
    bool row = true;
    a->n = 0;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "SELECT c.key, c.cron, c.next_ms, c.again, s.account, s.name FROM schedule c JOIN script s ON s.key = c.key"
                                " WHERE c.next_ms <= ?1 ORDER BY c.next_ms LIMIT ?2", err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, a->now);
        sv_bind_i64(&q, 2, MAX_CLAIM);
        while (a->n < MAX_CLAIM) {
            if (sv_stmt_step(&q, &row, err) != SV_OK)
                return err->code;
            if (!row)
                break;
            due *d = &a->v[a->n++];
            *d = (due){.run.scheduled_ms = sv_col_i64(&q, 2), .again = sv_col_i64(&q, 3) != 0};
            take_text(&q, 0, d->key, sizeof d->key);
            take_text(&q, 1, d->run.cron, sizeof d->run.cron);
            take_text(&q, 4, d->run.account, sizeof d->run.account);
            take_text(&q, 5, d->run.name, sizeof d->run.name);
        }
    }
    for (size_t i = 0; i < a->n; i++)
        if (claim_one_due(w, &a->v[i], a->now, err) != SV_OK)
            return err->code;
    return SV_OK;
}

static sv_rc any_due(sv_dbw *r, void *arg, sv_err *err)
{
    claim_arg *a = arg;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM schedule WHERE next_ms <= ?1 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->now);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    a->n = row;
    return SV_OK;
}

sv_rc sv_schedules_claim(sv_workers *w, int64_t now_ms, sv_run **out, size_t *n, sv_err *err)
{
    SV_AUTO(sv_freep) claim_arg *a = sv_xnew0(claim_arg);
    a->now = now_ms;
    *out = NULL;
    *n = 0;
    if (sv_db_read(w->db, any_due, a, err) != SV_OK) /* a claim of nothing would be a sync for nothing */
        return err->code;
    if (a->n == 0)
        return SV_OK;
    if (sv_db_write(w->db, claim_all, a, err) != SV_OK)
        return err->code;
    *out = sv_xcalloc(a->n + 1, sizeof **out);
    for (size_t i = 0; i < a->n; i++)
        (*out)[i] = a->v[i].run;
    *n = a->n;
    return SV_OK;
}

typedef struct hand_arg { const char *key; sv_str cron; int64_t now; sv_run *out; } hand_arg;

static sv_rc claim_by_hand(sv_dbw *w, void *arg, sv_err *err)
{
    hand_arg *a = arg;
    bool row = false;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "SELECT c.cron, s.account, s.name FROM schedule c JOIN script s ON s.key = c.key WHERE c.key = ?1 AND (?2 = '' OR c.cron = ?2)"
                                " ORDER BY c.cron LIMIT 1", err) != SV_OK)
            return err->code;
        sv_bind_cstr(&q, 1, a->key);
        sv_bind_str(&q, 2, a->cron.n ? a->cron : SV_STR(""));
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return sv_fail_api(err, SV_ENOENT, 10101, "the Worker has no schedule '%.*s'", a->cron.n < 100 ? (int)a->cron.n : 100, a->cron.p ? a->cron.p : "");
        *a->out = (sv_run){.scheduled_ms = a->now};
        take_text(&q, 0, a->out->cron, sizeof a->out->cron);
        take_text(&q, 1, a->out->account, sizeof a->out->account);
        take_text(&q, 2, a->out->name, sizeof a->out->name);
    }
    return begin_run(w, a->key, a->out, "manual", a->now, err);
}

sv_rc sv_schedules_claim_one(sv_workers *w, const char *key, sv_str cron, int64_t now_ms, sv_run *out, sv_err *err)
{
    hand_arg a = {key, cron, now_ms, out};
    return sv_db_write(w->db, claim_by_hand, &a, err);
}

typedef struct end_arg { int64_t id; const char *outcome; } end_arg;

static sv_rc end_run(sv_dbw *w, void *arg, sv_err *err)
{
    const end_arg *a = arg;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, "UPDATE run SET outcome = ?2, ended_ms = ?3 WHERE id = ?1", err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, a->id);
        sv_bind_cstr(&q, 2, a->outcome);
        sv_bind_i64(&q, 3, sv_now_ms());
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "DELETE FROM run WHERE key = (SELECT key FROM run WHERE id = ?1) AND outcome IS NOT NULL AND id <="
                            " (SELECT id FROM run WHERE key = (SELECT key FROM run WHERE id = ?1) ORDER BY id DESC LIMIT 1 OFFSET ?2)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->id);
    sv_bind_i64(&q, 2, RUNS_KEPT);
    return sv_stmt_run(&q, err);
}

sv_rc sv_schedules_end(sv_workers *w, int64_t id, const char *outcome, sv_err *err)
{
    end_arg a = {id, outcome};
    return sv_db_write(w->db, end_run, &a, err);
}

/* ---- the clock ---- */

struct sv_crons {
    sv_workers *w;
    sv_runtime *rt;
    sv_client *client;
    sv_jobs *jobs;
    sv_ticker *ticker;
    int n_running; /* the loop's, as what follows */
    bool draining;
    void (*drained)(void *arg);
    void *drained_arg;
};

typedef struct call { sv_crons *c; sv_run run; char outcome[32]; } call;

static sv_rc cut_runs(sv_dbw *w, void *arg, sv_err *err)
{
    static const char *const sql[] = {
        "UPDATE schedule SET again = 1, next_ms = (SELECT max(scheduled_ms) FROM run r WHERE r.key = schedule.key AND r.cron = schedule.cron AND"
        " r.outcome IS NULL AND r.reason = 'cron') WHERE EXISTS (SELECT 1 FROM run r WHERE r.key = schedule.key AND r.cron = schedule.cron AND"
        " r.outcome IS NULL AND r.reason = 'cron')",
        "UPDATE run SET outcome = 'interrupted', ended_ms = started_ms WHERE outcome IS NULL"};
    (void)arg;
    for (size_t i = 0; i < SV_LEN(sql); i++) {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, w, sql[i], err) != SV_OK || sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

sv_rc sv_schedules_cut(sv_workers *w, sv_err *err) { return sv_db_write(w->db, cut_runs, NULL, err); }

static void ended(void *arg)
{
    call *k = arg;
    sv_crons *c = k->c;
    free(k);
    c->n_running--;
    if (c->draining && c->n_running == 0 && c->drained) {
        void (*done)(void *) = c->drained;
        c->drained = NULL;
        done(c->drained_arg);
    }
}

static void record(void *arg)
{
    call *k = arg;
    sv_err err = {0};
    if (sv_schedules_end(k->c->w, k->run.id, k->outcome, &err) != SV_OK)
        sv_log(SV_ERROR, "cron.record", "run=%lld error='%s' then='taken for interrupted'", (long long)k->run.id, err.msg);
    sv_loop_post(sv_runtime_loop(k->c->rt), ended, k);
}

static void returned(void *arg, sv_rc rc, const json_t *answer, const sv_err *err)
{
    call *k = arg;
    const char *outcome = sv_json_cstr(answer, "outcome");
    snprintf(k->outcome, sizeof k->outcome, "%s", outcome ? outcome : rc == SV_ETIMEDOUT ? "exceededWallTime" : "unknown");
    if (rc != SV_OK)
        sv_log(SV_WARN, "cron.call", "script=%s run=%lld error='%s'", k->run.name, (long long)k->run.id, err->msg);
    if (!sv_jobs_post(k->c->jobs, record, k)) {
        sv_log(SV_ERROR, "cron.record", "run=%lld error='too much is waiting' then='taken for interrupted'", (long long)k->run.id);
        ended(k);
    }
}

/* On the loop. */
static void begin_call(void *arg)
{
    call *k = arg;
    sv_buf body;
    sv_buf_init(&body, 0);
    sv_buf_addf(&body, "{\"scheduledTime\":%lld,\"cron\":", (long long)k->run.scheduled_ms);
    sv_json_add_str(&body, sv_str_of(k->run.cron));
    sv_buf_addc(&body, '}');
    k->c->n_running++;
    sv_event_send(k->c->rt, k->c->client, k->run.account, k->run.name, "/scheduled", &body, returned, k);
}

void sv_crons_begin(sv_crons *c, const sv_run *run)
{
    call *k = sv_xnew0(call);
    *k = (call){.c = c, .run = *run};
    sv_loop_post(sv_runtime_loop(c->rt), begin_call, k);
}

/* workerd sets off alarms only while it runs: what sleeps, or has died, is woken for them. */
static void wake_for_alarms(sv_crons *c)
{
    sv_script *all = NULL;
    size_t n = 0;
    sv_err err = {0};
    int64_t alarm_ms;
    if (sv_store_scripts_with_objects(c->w, &all, &n, &err) != SV_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        if (!sv_runtime_runs(c->rt, all[i].key) && sv_objects_alarm(c->w, all[i].key, all[i].objects, &alarm_ms, &err) == SV_OK && alarm_ms >= 0 &&
            alarm_ms <= sv_now_ms() + TICK_MS)
            sv_runtime_wake(c->rt, all[i].key);
        sv_script_done(&all[i]);
    }
    free(all);
}

static void tick(void *arg)
{
    sv_crons *c = arg;
    sv_err err = {0};
    sv_run *v;
    size_t n;
    static sv_log_gate gate;
    wake_for_alarms(c);
    if (sv_schedules_claim(c->w, sv_now_ms(), &v, &n, &err) != SV_OK) {
        if (sv_log_may(&gate, 60))
            sv_log(SV_ERROR, "cron.claim", "error='%s' again_in_ms=%d", err.msg, TICK_MS);
        return;
    }
    for (size_t i = 0; i < n; i++)
        sv_crons_begin(c, &v[i]);
    free(v);
}

sv_crons *sv_crons_new(sv_workers *w, sv_runtime *rt, sv_client *client, sv_jobs *jobs)
{
    sv_err err = {0};
    sv_crons *c = sv_xnew0(sv_crons);
    *c = (sv_crons){.w = w, .rt = rt, .client = client, .jobs = jobs};
    w->crons = c;
    if (sv_schedules_cut(w, &err) != SV_OK)
        sv_log(SV_ERROR, "cron.start", "error='%s'", err.msg);
    c->ticker = sv_ticker_new("crons", TICK_MS, tick, c);
    return c;
}

void sv_crons_drain(sv_crons *c, void (*done_fn)(void *arg), void *arg)
{
    c->ticker = sv_ticker_free(c->ticker);
    c->draining = true;
    if (c->n_running == 0) {
        done_fn(arg);
        return;
    }
    c->drained = done_fn;
    c->drained_arg = arg;
}

sv_crons *sv_crons_free(sv_crons *c)
{
    if (!c)
        return NULL;
    sv_ticker_free(c->ticker);
    free(c);
    return NULL;
}
