/* server.c - an HTTP/1.1 server on an sv_loop: listeners, the list of connections, jobs, drain
 *
 * The pieces: router.c finds a route, conn.c moves bytes and runs the state machine of a connection, req.c is what
 * handlers call. This file holds what belongs to none of them.
 *
 * Own code and not a library because of four things that none offers together: reason phrases of our own (the only error
 * text that a KV user sees), notice of a client that leaves while its answer waits, back-pressure both ways, and a
 * listener's identity for each Worker. The parsing is llhttp's.
 *
 * accept stops at max_connections and when descriptors run out (EMFILE): the listeners leave the watch, and come back
 * when a connection has closed or after a moment. Clients then wait in the kernel's queue and are not refused.
 *
 * Jobs: a request whose handler runs in the pool belongs to that job until its answer is back in the mailbox. The mailbox
 * outlives the server while jobs run, so neither a departed client nor a freed server pulls memory from under a job. */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/time.h"
#include "http/server_impl.h"

enum { ACCEPTS_A_TURN = 64, ACCEPT_PAUSE_MS = 100 };

struct mailbox {
    pthread_mutex_t lock; /* guards all below; while it is held only sv_loop_post is called, which takes the loop's */
    sv_http *s;           /* NULL: the server is gone */
    sv_loop *loop;
    sv_req *first, **last;
    int n_out;            /* jobs that have not come back */
    bool posted;
};

static void on_accept(void *arg, int fd, uint32_t events);
static void resume_accept(void *arg);
static void drain_over(void *arg);
static void run_touched(void *arg);

sv_http *sv_http_new(sv_loop *loop, const sv_http_opts *opts)
{
    sv_http *s = sv_xnew0(sv_http);
    s->loop = loop;
    s->o = *opts;
    s->o.max_head = opts->max_head ? opts->max_head : 64 << 10;
    s->o.head_timeout_ms = opts->head_timeout_ms ? opts->head_timeout_ms : 10000;
    s->o.idle_timeout_ms = opts->idle_timeout_ms ? opts->idle_timeout_ms : 75000;
    s->o.write_timeout_ms = opts->write_timeout_ms ? opts->write_timeout_ms : 60000;
    s->o.max_connections = opts->max_connections ? opts->max_connections : 10000;
    s->router = sv_router_new();
    s->turn_timer = sv_timer_new(loop, run_touched, s);
    s->accept_timer = sv_timer_new(loop, resume_accept, s);
    s->drain_timer = sv_timer_new(loop, drain_over, s);
    s->date_s = -1;
    sv_random(&s->id_key, sizeof s->id_key);
    sv_buf_init(&s->scratch, 0);
    s->mail = sv_xnew0(mailbox);
    *s->mail = (mailbox){.s = s, .loop = loop, .last = &s->mail->first};
    pthread_mutex_init(&s->mail->lock, NULL);
    return s;
}

void sv_http_route(sv_http *s, const sv_route *route, void *ctx) { sv_router_add(s->router, route, ctx); }

sv_http_stats sv_http_get_stats(const sv_http *s) { return s->stats; }

const char *sv_http_date(sv_http *s, size_t *n)
{
    int64_t now_s = sv_now_ms() / 1000;
    if (now_s != s->date_s) {
        time_t t = (time_t)now_s;
        struct tm tm;
        gmtime_r(&t, &tm);
        s->n_date = strftime(s->date, sizeof s->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        s->date_s = now_s;
    }
    *n = s->n_date;
    return s->date;
}

/* ---- the end of a turn ---- */

static void run_touched(void *arg)
{
    sv_http *s = arg;
    sv_conn *c = s->touched;
    s->touched = NULL; /* what is touched from here on waits for the next turn */
    s->turn_pending = false;
    while (c) {
        sv_conn *next = c->next_touched;
        c->touched = false;
        if (c->zombie)
            free(c);
        else
            sv_conn_run(c);
        c = next;
    }
    if (s->draining && !s->conns && s->drained_fn)
        drain_over(s);
}

static void touch_turn(sv_http *s)
{
    if (s->turn_pending || s->in_free)
        return;
    s->turn_pending = true;
    sv_timer_set(s->turn_timer, 0);
}

void sv_http_touch(sv_conn *c)
{
    if (c->busy || c->touched || c->zombie)
        return;
    c->touched = true;
    c->next_touched = c->s->touched;
    c->s->touched = c;
    touch_turn(c->s);
}

/* ---- listeners ---- */

sv_listener *sv_http_listen(sv_http *s, int fd, void *listener)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    sv_listener *l = sv_xnew0(sv_listener);
    *l = (sv_listener){.s = s, .fd = fd, .arg = listener, .next = s->listeners};
    if (getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        l->tcp = a.ss_family == AF_INET || a.ss_family == AF_INET6;
    s->listeners = l;
    if (s->draining) {
        close(fd);
        l->fd = -1;
    } else if (!s->accept_paused) {
        l->watch = sv_loop_watch(s->loop, fd, EPOLLIN, on_accept, l);
    }
    return l;
}

static void close_listener(sv_listener *l)
{
    l->watch = sv_watch_remove(l->watch);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void sv_http_unlisten(sv_listener *l)
{
    if (!l)
        return;
    sv_http *s = l->s;
    sv_listener **at = &s->listeners;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    close_listener(l);
    for (sv_conn *c = s->conns; c; c = c->next)
        if (c->l == l) {
            c->l = NULL;
            c->ending = true;
            sv_http_touch(c); /* closes it if it is idle */
        }
    free(l);
}

static void pause_accept(sv_http *s)
{
    s->accept_paused = true;
    for (sv_listener *l = s->listeners; l; l = l->next)
        l->watch = sv_watch_remove(l->watch);
}

static void resume_accept(void *arg)
{
    sv_http *s = arg;
    if (!s->accept_paused || (size_t)s->stats.n_connections >= s->o.max_connections)
        return;
    s->accept_paused = false;
    sv_timer_set(s->accept_timer, -1);
    for (sv_listener *l = s->listeners; l; l = l->next)
        if (l->fd >= 0 && !l->watch)
            l->watch = sv_loop_watch(s->loop, l->fd, EPOLLIN, on_accept, l);
}

sv_conn *sv_http_adopt(sv_http *s, int fd, sv_listener *l, bool tcp)
{
    sv_conn *c = sv_xnew0(sv_conn);
    if (tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    *c = (sv_conn){.s = s, .l = l, .listener = l ? l->arg : NULL, .fd = fd, .tcp = tcp, .next = s->conns, .events = EPOLLIN | EPOLLRDHUP};
    llhttp_init(&c->parser, HTTP_REQUEST, &sv_conn_parser_settings);
    c->parser.data = c;
    c->req = sv_req_new(s);
    c->timer = sv_timer_new(s->loop, sv_conn_on_timer, c);
    if (s->conns)
        s->conns->prev = c;
    s->conns = c;
    s->stats.n_connections++;
    c->watch = sv_loop_watch(s->loop, fd, c->events, sv_conn_on_event, c);
    sv_http_touch(c); /* starts the clock for its first byte */
    return c;
}

static void on_accept(void *arg, int fd, uint32_t events)
{
    sv_listener *l = arg;
    sv_http *s = l->s;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if ((size_t)s->stats.n_connections >= s->o.max_connections) {
            pause_accept(s);
            return;
        }
        int new_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (new_fd >= 0) {
            sv_http_adopt(s, new_fd, l, l->tcp);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            static sv_log_gate gate;
            if (sv_log_may(&gate, 6))
                sv_log(SV_WARN, "http.accept", "errno=%d connections=%lld pause_ms=%d", errno, (long long)s->stats.n_connections,
                       ACCEPT_PAUSE_MS);
            pause_accept(s);
            sv_timer_set(s->accept_timer, ACCEPT_PAUSE_MS);
        }
        return;
    }
}

void sv_http_conn_gone(sv_http *s)
{
    if (s->in_free)
        return;
    if (s->accept_paused && !s->draining)
        resume_accept(s);
    if (s->draining && !s->conns)
        touch_turn(s); /* run_touched sees that the drain is over */
}

/* ---- jobs ---- */

static void free_mailbox(mailbox *m)
{
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* On the loop: answers what the jobs have left. A departed client's request ends here. */
static void open_mailbox(void *arg)
{
    mailbox *m = arg;
    pthread_mutex_lock(&m->lock);
    sv_req *r = m->first;
    m->first = NULL;
    m->last = &m->first;
    m->posted = false;
    bool over = !m->s && m->n_out == 0;
    pthread_mutex_unlock(&m->lock);
    while (r) {
        sv_req *next = r->next_done;
        if (r->c) {
            sv_req_job_answered(r);
        } else {
            r->status = 499;
            sv_req_gone(r);
            sv_req_free(r);
        }
        r = next;
    }
    if (over)
        free_mailbox(m);
}

/* On the job's thread. */
static void run_job(void *arg)
{
    sv_req *r = arg;
    mailbox *m = r->mail;
    const sv_entry *e = r->match.entry;
    e->route.fn(r, e->ctx);
    if (!r->job.given) {
        sv_log(SV_ERROR, "http.job_unanswered", "route=%s id=%s", e->route.path, r->id_hex);
        sv_req_send(r, 500, "text/plain; charset=utf-8", SV_STR("internal error"));
    }
    pthread_mutex_lock(&m->lock);
    m->n_out--;
    bool orphan = !m->s, over = orphan && m->n_out == 0 && !m->posted;
    if (!orphan) {
        r->next_done = NULL;
        *m->last = r;
        m->last = &r->next_done;
        if (!m->posted)
            sv_loop_post(m->loop, open_mailbox, m);
        m->posted = true;
    }
    pthread_mutex_unlock(&m->lock);
    if (orphan)
        sv_req_free(r);
    if (over)
        free_mailbox(m);
}

bool sv_http_job_start(sv_req *r)
{
    mailbox *m = r->s->mail;
    SV_ASSERT(r->s->o.jobs);
    sv_req_arena(r); /* made here, so that it is there whichever thread asks */
    r->mail = m;
    r->in_job = true;
    r->job_entry = *r->match.entry; /* the routes go with the server, the job may not */
    r->match.entry = &r->job_entry;
    pthread_mutex_lock(&m->lock);
    m->n_out++;
    pthread_mutex_unlock(&m->lock);
    if (sv_jobs_post(r->s->o.jobs, run_job, r))
        return true;
    pthread_mutex_lock(&m->lock);
    m->n_out--;
    pthread_mutex_unlock(&m->lock);
    r->in_job = false;
    return false;
}

/* The server ends. Connections are closed already, so all requests inside are orphans. The mailbox itself goes with the
 * last job, or with the post that is under way to the loop. */
static void leave_mailbox(mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    sv_req *r = m->first;
    m->first = NULL;
    m->last = &m->first;
    m->s = NULL;
    bool over = m->n_out == 0 && !m->posted;
    pthread_mutex_unlock(&m->lock);
    while (r) {
        sv_req *next = r->next_done;
        sv_req_free(r);
        r = next;
    }
    if (over)
        free_mailbox(m);
}

/* ---- drain and end ---- */

void sv_http_drain(sv_http *s, int64_t deadline_ms, void (*done_fn)(void *), void *arg)
{
    s->draining = true;
    s->drained_fn = done_fn;
    s->drained_arg = arg;
    for (sv_listener *l = s->listeners; l; l = l->next)
        close_listener(l);
    for (sv_conn *c = s->conns; c; c = c->next)
        sv_http_touch(c);
    sv_timer_set(s->drain_timer, deadline_ms);
    touch_turn(s);
}

/* All requests have ended, or the deadline has come: what is left is cut. */
static void drain_over(void *arg)
{
    sv_http *s = arg;
    void (*fn)(void *) = s->drained_fn;
    sv_timer_set(s->drain_timer, -1);
    while (s->conns)
        sv_conn_close(s->conns);
    s->drained_fn = NULL;
    if (fn)
        fn(s->drained_arg);
}

sv_http *sv_http_free(sv_http *s)
{
    if (!s)
        return NULL;
    s->in_free = true;
    s->drained_fn = NULL;
    while (s->conns)
        sv_conn_close(s->conns);
    run_touched(s); /* frees those that were closed while touched */
    while (s->listeners)
        sv_http_unlisten(s->listeners);
    leave_mailbox(s->mail);
    sv_timer_free(s->turn_timer);
    sv_timer_free(s->accept_timer);
    sv_timer_free(s->drain_timer);
    sv_router_free(s->router);
    sv_buf_done(&s->scratch);
    free(s);
    return NULL;
}
