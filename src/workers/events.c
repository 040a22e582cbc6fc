/* events.c - one event to a Worker's dispatcher
 *
 * The socket is asked for at the moment of the call: a deployment moves it, and the old process then ends what it has. While the call runs the
 * process is held, since a handler may wait for long without taking any CPU, by which idleness is told. */
#include "workers/events.h"

#include <stdio.h>
#include <string.h>

#include "account/limits.h"
#include "workers/workers_impl.h"

enum { MAX_ANSWER = 1 << 20 };

typedef struct event {
    sv_runtime *rt;
    char key[40];
    sv_buf body, answer;
    int status;
    sv_event_done done;
    void *arg;
} event;

static void finish(event *e, sv_rc rc, const json_t *answer, const sv_err *err)
{
    sv_event_done done = e->done;
    void *arg = e->arg;
    sv_buf_done(&e->body);
    sv_buf_done(&e->answer);
    free(e);
    done(arg, rc, answer, err);
}

static void on_head(sv_fetch *f, int status, sv_str reason, void *arg)
{
    (void)f;
    (void)reason;
    ((event *)arg)->status = status;
}

static void on_data(sv_fetch *f, const char *p, size_t n, void *arg)
{
    (void)f;
    sv_buf_add(&((event *)arg)->answer, p, n);
}

static void on_done(sv_fetch *f, sv_rc rc, const sv_err *why, void *arg)
{
    event *e = arg;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *answer = NULL;
    (void)f;
    sv_runtime_release(e->rt, e->key);
    if (rc != SV_OK) {
        err = *why;
        if (rc != SV_ETIMEDOUT)
            err.code = rc = SV_EIO;
    } else if (e->answer.failed || sv_json_parse(&answer, sv_buf_str(&e->answer), &err) != SV_OK || !json_is_object(answer)) {
        rc = sv_fail(&err, SV_EIO, "the dispatcher answered %d with %zu bytes that are no object", e->status, e->answer.n);
    } else if (e->status != 200) {
        const char *text = sv_json_cstr(answer, "error");
        rc = sv_fail(&err, SV_EIO, "the dispatcher answered %d: %.200s", e->status, text ? text : "");
    }
    finish(e, rc, rc == SV_OK ? answer : NULL, &err);
}

typedef struct refusal { event *e; sv_err err; } refusal;

static void refuse(void *arg)
{
    refusal r = *(refusal *)arg;
    free(arg);
    finish(r.e, r.err.code, NULL, &r.err);
}

static void refuse_later(event *e, const sv_err *err)
{
    refusal *r = sv_xnew0(refusal);
    *r = (refusal){e, *err};
    sv_loop_post(sv_runtime_loop(e->rt), refuse, r);
}

void sv_event_send(sv_runtime *rt, sv_client *client, const char *account, const char *name, const char *path, sv_buf *body, sv_event_done done, void *arg)
{
    static const char *const headers[] = {"Content-Type: application/json", "Expect:", NULL};
    event *e = sv_xnew0(event);
    char url[64], socket[108], key[17];
    sv_err err = {0};
    sv_fetch *f;
    sv_worker_key(key, account, name);
    *e = (event){.rt = rt, .body = *body, .done = done, .arg = arg};
    *body = (sv_buf){0};
    sv_buf_init(&e->answer, MAX_ANSWER);
    snprintf(e->key, sizeof e->key, "%s" SV_EVENTS_SUFFIX, key);
    snprintf(url, sizeof url, "http://dispatcher%s", path);
    if (!sv_runtime_hold(rt, e->key, socket)) {
        sv_fail(&err, SV_ENOENT, "Worker '%.64s' is not deployed, or nothing was ever to call it", name);
        refuse_later(e, &err);
        return;
    }
    sv_fetch_opts o = {.method = "POST", .url = url, .headers = headers, .body = sv_buf_str(&e->body), .timeout_ms = sv_limit_value(SV_LIMIT_EVENT_MS),
                       .unix_path = socket, .on_head = on_head, .on_data = on_data, .on_done = on_done, .arg = e};
    if (sv_fetch_start(&f, client, &o, &err) != SV_OK) {
        sv_runtime_release(rt, e->key);
        err.code = SV_EIO;
        refuse_later(e, &err);
    }
}
