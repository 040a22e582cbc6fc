/* d1_call.c - from the loop to a database's thread and back
 *
 * The body is copied, because the request may end (its client leaves) while the database's thread still reads it. That thread parses it as
 * well: 32 MiB of JSON would hold up everybody on the loop. The client's leaving sets the job's cancel flag, and the answer, when it comes back to the
 * loop, finds no request and is dropped. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"
#include "d1/d1_http_impl.h"
#include "http/api.h"

enum { PIECE = 64 << 10, AHEAD = 256 << 10, ARENA_MOST = 192 << 20 };

sv_d1_http *sv_d1_http_new(sv_d1 *d, sv_loop *loop, sv_jobs *jobs)
{
    sv_d1_http *h = sv_xnew0(sv_d1_http);
    h->d = d;
    h->loop = loop;
    h->jobs = jobs;
    h->usage = sv_d1_usage_new();
    sv_random(h->key, sizeof h->key);
    pthread_mutex_init(&h->lock, NULL);
    return h;
}

sv_d1_http *sv_d1_http_free(sv_d1_http *h)
{
    if (!h)
        return NULL;
    sv_d1_transfers_free(h);
    sv_d1_usage_free(h->usage);
    pthread_mutex_destroy(&h->lock);
    free(h);
    return NULL;
}

/* ---- large answers ---- */

typedef struct sending {
    int fd;
    int64_t at, n;     /* of the file */
    sv_buf rest;       /* behind the file */
} sending;

static void sending_free(sending *s)
{
    sv_fd_closep(&s->fd);
    sv_buf_done(&s->rest);
    free(s);
}

static void left(sv_req *r, void *arg)
{
    (void)r;
    sending_free(arg);
}

/* The file was written a moment ago: reading it is a copy from the page cache, which is why the loop may do it. */
static void pump(sv_req *r, void *arg)
{
    sending *s = arg;
    char piece[PIECE];
    while (s->at < s->n) {
        int64_t want = s->n - s->at;
        ssize_t n = pread(s->fd, piece, (size_t)(want < PIECE ? want : PIECE), s->at);
        if (n <= 0) {
            sv_req_on_close(r, NULL, NULL);
            sv_req_abort(r);
            sending_free(s);
            return;
        }
        s->at += n;
        if (sv_req_write(r, piece, (size_t)n) > AHEAD)
            return; /* on_drain */
    }
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_drain(r, NULL, NULL);
    sv_req_write(r, s->rest.p, s->rest.n);
    sending_free(s);
    sv_req_end(r);
}

static void start(sv_req *r, sending *s)
{
    sv_req_on_close(r, left, s);
    sv_req_on_drain(r, pump, s);
    pump(r, s);
}

void sv_d1_send_file(sv_req *r, int fd, int64_t n, const char *content_type)
{
    sending *s = sv_xnew0(sending);
    *s = (sending){.fd = fd, .n = n};
    sv_buf_init(&s->rest, 0);
    sv_req_add_header(r, "Content-Type", content_type);
    sv_req_begin(r, 200, NULL, n);
    start(r, s);
}

static void call_free(sv_d1_call *c)
{
    sv_d1_out_done(&c->out);
    sv_arena_free(c->arena);
    free(c);
}

void sv_d1_call_send(sv_d1_call *c, int status, const char *before, const char *after)
{
    sv_req *r = c->r;
    int64_t n = (int64_t)strlen(before) + sv_d1_out_size(&c->out) + (int64_t)strlen(after);
    sv_req_add_header(r, "Content-Type", "application/json");
    sv_req_begin(r, status, NULL, n);
    sv_req_write(r, before, strlen(before));
    sending *s = sv_xnew0(sending);
    *s = (sending){.fd = c->out.fd, .n = c->out.n_file, .rest = c->out.b};
    if (s->rest.max < s->rest.n + strlen(after))
        s->rest.max = s->rest.n + strlen(after);
    sv_buf_adds(&s->rest, after);
    sv_d1_out_init(&c->out, "", 0);
    start(r, s);
}

/* ---- the way there and back ---- */

static void client_left(sv_req *r, void *arg)
{
    sv_d1_call *c = arg;
    (void)r;
    c->r = NULL;
    atomic_store(&c->job.cancel, true);
}

static void deliver(void *arg)
{
    sv_d1_call *c = arg;
    if (c->r) {
        sv_req_on_close(c->r, NULL, NULL);
        c->answer(c);
    }
    call_free(c);
}

static void on_thread(sv_d1_job *job, sv_d1_conn *conn, const sv_err *why)
{
    sv_d1_call *c = (sv_d1_call *)job;
    if (why)
        c->err = *why;
    else
        c->work(c, conn);
    sv_loop_post(c->h->loop, deliver, c);
}

sv_rc sv_d1_account_of(sv_req *r, const char **account_id, sv_err *err)
{
    const sv_principal *p = sv_req_user(r);
    if (!p)
        return sv_fail(err, SV_EINVAL, "no account");
    *account_id = p->account_id;
    return SV_OK;
}

sv_d1_call *sv_d1_call_new(sv_d1_http *h, sv_req *r, const sv_d1_info *db)
{
    sv_d1_call *c = sv_xnew0(sv_d1_call);
    sv_str body = sv_req_body(r);
    c->job.run = on_thread;
    c->h = h;
    c->r = r;
    c->db = *db;
    c->arena = sv_arena_create(ARENA_MOST);
    c->body = (sv_str){sv_arena_strndup(c->arena, body.p ? body.p : "", body.n), body.n};
    c->run = (sv_d1_run){.limit_ms = sv_limit_value(SV_LIMIT_D1_QUERY_MS), .cancel = &c->job.cancel};
    sv_d1_out_init(&c->out, sv_d1_temp_dir(h->d), sv_limit_value(SV_LIMIT_D1_RESULT_BYTES));
    return c;
}

void sv_d1_call_submit(sv_d1_call *c)
{
    sv_req_on_close(c->r, client_left, c);
    if (!c->body.p)
        (void)!sv_fail(&c->err, SV_ENOMEM, "no memory for the request");
    else if (sv_d1_submit(c->h->d, c->db.account_id, c->db.id, &c->job, &c->err) == SV_OK)
        return;
    deliver(c);
}

void sv_d1_call_query(sv_d1_call *c, sv_d1_conn *conn)
{
    sv_d1_request q;
    if (sv_d1_request_parse(&q, c->arena, c->body, &c->err) != SV_OK) {
        c->err.api_code = c->err.api_code ? c->err.api_code : 7400;
        return;
    }
    c->list = q.list;
    if (c->list && c->lists_have_no_rows)
        c->run.format = SV_D1_NO_ROWS;
    sv_rc rc = sv_d1_conn_run(conn, &q, &c->run, &c->out, &c->err);
    sv_d1_usage_add(c->h->usage, c->db.id, &c->run, sv_now_ms());
    if (rc != SV_OK)
        return;
    c->version = sv_d1_conn_version(conn);
}
