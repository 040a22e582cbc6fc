/* engine.c - the engine process: clients on one side, the table of models on the other
 *
 * A process of its own because a broken model file, or the kernel's choice of whom to kill when memory is short, must not touch a store. It keeps
 * nothing: killed at any moment, the next one serves the same requests from the same files. The supervisor owns the listener, so a client that
 * connects while no engine runs waits in its backlog for the next.
 *
 * One loop thread owns the connections. It never waits for a model: models have threads (table.h), and their events come in batches, one a
 * step, after which each connection that got frames is written to once.
 *
 * A connection's end cancels its generations: nobody is left to read them. A client that does not read is a client that is gone: beyond
 * MAX_OUT waiting bytes the connection is closed, and memory stays bounded whatever a client does. Answers of encoders are megabytes, and those of
 * a batch end together: they wait in a list and enter `out` as it drains, up to MAX_ANSWERS.
 *
 * SIGTERM: the listener is left alone (the next engine's clients queue there), every client gets GOAWAY, new requests AGAIN, the ones under way
 * go on for drain_ms at most. What is not through by then is cut off by the closing connection, and the client knows what that means. */
#include "engine/engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "engine/encode.h"
#include "engine/media.h"
#include "engine/table.h"
#include "engine/wire.h"

enum { MAX_CONNS = 64, MAX_CALLS = 4096, MAX_OUT = 32 << 20, MAX_ANSWERS = 256 << 20, READ_BYTES = 64 << 10, KEEP_BYTES = 1 << 20, PAUSE_MS = 100 };

typedef struct engine engine;
typedef struct conn conn;

/* A generation of a connection; job->owner is its call, or NULL once the connection is gone. */
typedef struct call {
    struct call *next, **link; /* link: what points at this */
    conn *conn;
    uint32_t id;
    sv_job *job;       /* one of the three */
    sv_encode *encode;
    sv_media *media;
} call;

struct conn {
    conn *next, **link;
    engine *e;
    int fd;
    sv_watch *watch;
    sv_buf in, out;
    size_t n_sent;   /* of out */
    bool greeted;    /* its HELLO came */
    bool dirty;      /* out got frames since the last flush */
    bool lost;       /* to be closed at the next flush */
    sv_encode *answers, **answers_end; /* ended, and not in out yet; oldest first */
    size_t n_answer_bytes;
    call *calls;
    int32_t n_calls;
};

struct engine {
    sv_loop *loop;
    sv_compute *compute;
    sv_room *room;
    sv_table *table;
    sv_encoders *encoders;
    sv_media_table *media;
    sv_cage *cage;
    int listen_fd, signal_fd;
    sv_watch *listen_watch, *signal_watch;
    sv_timer *pause;  /* accept again */
    sv_timer *drain;  /* the end of patience */
    int64_t drain_ms;
    bool draining;
    conn *conns;
    int32_t n_conns, n_calls;
};

/* --- connections ---------------------------------------------------------------------------------------------------- */

static void check_drained(engine *e)
{
    if (!e->draining || e->n_calls > 0)
        return;
    for (const conn *c = e->conns; c; c = c->next)
        if (c->out.n > 0)
            return;
    sv_loop_stop(e->loop);
}

static void call_free(call *k)
{
    *k->link = k->next;
    if (k->next)
        k->next->link = k->link;
    k->conn->n_calls--;
    k->conn->e->n_calls--;
    free(k);
}

static size_t answer_bytes(const sv_encode *j)
{
    return j->err.code == SV_OK ? (size_t)j->vectors.n * (size_t)j->vectors.dim * sizeof(float) : 0;
}

static sv_encode *take_answer(conn *c)
{
    sv_encode *j = c->answers;
    if (!(c->answers = j->next))
        c->answers_end = &c->answers;
    c->n_answer_bytes -= answer_bytes(j);
    return j;
}

/* Nobody waits for it any more. */
static void abandon(call *k)
{
    if (k->job) {
        k->job->owner = NULL;
        sv_table_cancel(k->job);
    } else if (k->media) {
        k->media->owner = NULL;
        atomic_store(&k->media->cancel, true);
    } else {
        k->encode->owner = NULL;
        atomic_store(&k->encode->cancel, true);
    }
    call_free(k);
}

static void conn_close(conn *c)
{
    engine *e = c->e;
    while (c->calls)
        abandon(c->calls);
    while (c->answers)
        sv_encode_free(take_answer(c));
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    e->n_conns--;
    sv_watch_remove(c->watch);
    close(c->fd);
    sv_buf_done(&c->in);
    sv_buf_done(&c->out);
    free(c);
    if (e->listen_watch)
        sv_watch_set(e->listen_watch, EPOLLIN);
    check_drained(e);
}

/* Answers for which there is room. One of a call that was canceled since is dropped. */
static void add_answers(conn *c)
{
    while (c->answers && c->out.n - c->n_sent < KEEP_BYTES) {
        sv_encode *j = take_answer(c);
        if (j->owner && j->err.code == SV_OK)
            sv_wire_add_vectors(&c->out, j->id, &j->vectors);
        else if (j->owner)
            sv_wire_add_fail(&c->out, j->id, &j->err);
        if (j->owner)
            call_free(j->owner);
        sv_encode_free(j);
    }
}

static void send_out(conn *c)
{
    while (!c->lost && !c->out.failed && c->n_sent < c->out.n) {
        ssize_t n = send(c->fd, c->out.p + c->n_sent, c->out.n - c->n_sent, MSG_NOSIGNAL);
        if (n > 0)
            c->n_sent += (size_t)n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            c->lost = true;
    }
}

/* Writes what can be written. False: the connection was lost, and is freed. */
static bool conn_flush(conn *c)
{
    c->dirty = false;
    for (;;) {
        add_answers(c);
        send_out(c);
        if (c->lost || c->out.failed || c->n_sent < c->out.n || !c->answers)
            break;
        sv_buf_reset(&c->out);
        c->n_sent = 0;
    }
    if (c->lost || c->out.failed) { /* failed: it does not read */
        conn_close(c);
        return false;
    }
    if (c->n_sent == c->out.n) {
        if (c->out.cap > KEEP_BYTES)
            sv_buf_done(&c->out);
        sv_buf_reset(&c->out);
        c->n_sent = 0;
        sv_watch_set(c->watch, EPOLLIN | EPOLLRDHUP);
        check_drained(c->e);
    } else {
        /* What was sent goes once it is the larger part, so that a slow reader costs each byte one move. */
        if (c->n_sent > c->out.n / 2) {
            memmove(c->out.p, c->out.p + c->n_sent, c->out.n - c->n_sent);
            c->out.n -= c->n_sent;
            c->n_sent = 0;
        }
        sv_watch_set(c->watch, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
    }
    return true;
}

static void flush_dirty(void *arg)
{
    engine *e = arg;
    for (conn *c = e->conns, *next; c; c = next) {
        next = c->next;
        if (c->dirty)
            (void)conn_flush(c);
    }
}

/* --- frames out: the table's events --------------------------------------------------------------------------------- */

static conn *conn_of(const sv_job *j)
{
    call *k = j->owner;
    if (k)
        k->conn->dirty = true;
    return k ? k->conn : NULL;
}

static void on_start(sv_job *j, const sv_usage *usage)
{
    conn *c = conn_of(j);
    if (c)
        sv_wire_add_started(&c->out, j->id, usage);
}

static void on_text(sv_job *j, sv_str text, int32_t n_tokens)
{
    conn *c = conn_of(j);
    if (c)
        sv_wire_add_text(&c->out, j->id, text, n_tokens);
}

static void on_probs(sv_job *j, sv_str packed)
{
    conn *c = conn_of(j);
    if (c)
        sv_wire_add(&c->out, SV_WIRE_PROBS, j->id, packed);
}

static void on_end(sv_job *j, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    conn *c = conn_of(j);
    if (c && rc == SV_OK)
        sv_wire_add_done(&c->out, j->id, finish, usage);
    else if (c)
        sv_wire_add_fail(&c->out, j->id, err);
    if (c)
        call_free(j->owner);
    sv_job_free(j);
}

static void on_vectors(sv_encode *j)
{
    const call *k = j->owner;
    if (!k) {
        sv_encode_free(j);
        return;
    }
    conn *c = k->conn;
    j->next = NULL;
    *c->answers_end = j;
    c->answers_end = &j->next;
    c->n_answer_bytes += answer_bytes(j);
    c->lost = c->lost || c->n_answer_bytes > MAX_ANSWERS;
    c->dirty = true;
}

static void on_media(sv_media *j)
{
    call *k = j->owner;
    if (k) {
        k->conn->dirty = true;
        if (j->err.code == SV_OK)
            sv_wire_add_result(&k->conn->out, j->id, sv_buf_str(&j->json), &j->usage);
        else
            sv_wire_add_fail(&k->conn->out, j->id, &j->err);
        call_free(k);
    }
    sv_media_free(j);
}

/* --- frames in ------------------------------------------------------------------------------------------------------ */

static call *find_call(conn *c, uint32_t id)
{
    call *k = c->calls;
    while (k && k->id != id)
        k = k->next;
    return k;
}

/* A job of its own memory: the frame's bytes go with the buffer. */
static sv_rc job_from(sv_job **out, const sv_frame *f, sv_err *err)
{
    sv_job *j = sv_xnew0(sv_job);
    sv_rc rc = sv_wire_get_gen(&j->gen, f, err);
    if (rc == SV_OK && j->gen.prompt.n == 0) {
        j->gen.prompt = SV_STR("");
    } else if (rc == SV_OK) {
        if ((j->bytes = sv_try_calloc(j->gen.prompt.n, 1))) {
            memcpy(j->bytes, j->gen.prompt.p, j->gen.prompt.n);
            j->gen.prompt.p = j->bytes;
        } else {
            rc = sv_fail(err, SV_ENOMEM, "no memory for a prompt of %zu bytes", j->gen.prompt.n);
        }
    }
    if (rc != SV_OK)
        sv_job_free(j);
    else
        *out = j;
    return rc;
}

static call *call_new(conn *c, call what)
{
    call *k = sv_xnew0(call);
    *k = what;
    k->next = c->calls;
    k->link = &c->calls;
    k->conn = c;
    if (c->calls)
        c->calls->link = &k->next;
    c->calls = k;
    c->n_calls++;
    c->e->n_calls++;
    return k;
}

static sv_rc submit(conn *c, const sv_frame *f, sv_err *err)
{
    sv_job *j = NULL;
    if (c->n_calls >= MAX_CALLS)
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests are under way on this connection", c->n_calls);
    if (job_from(&j, f, err) != SV_OK)
        return err->code;
    j->id = f->id;
    if (sv_table_submit(c->e->table, j, err) != SV_OK) {
        sv_job_free(j);
        return err->code;
    }
    j->owner = call_new(c, (call){.id = j->id, .job = j});
    return SV_OK;
}

static sv_rc submit_encode(conn *c, const sv_frame *f, sv_err *err)
{
    sv_encode *j = sv_xnew0(sv_encode);
    j->id = f->id;
    sv_rc rc = c->n_calls >= MAX_CALLS ? sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests are under way on this connection", c->n_calls)
                                       : sv_wire_get_encode(&j->req, f, err);
    if (rc != SV_OK || sv_encoders_submit(c->e->encoders, j, err) != SV_OK) {
        sv_encode_free(j);
        return err->code;
    }
    j->owner = call_new(c, (call){.id = j->id, .encode = j});
    return SV_OK;
}

/* The frame's bytes go with the buffer: they are copied. */
static sv_rc submit_media(conn *c, const sv_frame *f, sv_err *err)
{
    sv_media *j = sv_media_new();
    j->id = f->id;
    sv_rc rc = c->n_calls >= MAX_CALLS ? sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %d requests are under way on this connection", c->n_calls)
                                       : sv_wire_get_media(&j->req, f, err);
    if (rc == SV_OK && !(j->bytes = sv_try_calloc(j->req.bytes.n + 1, 1)))
        rc = sv_fail(err, SV_ENOMEM, "no memory for a file of %zu bytes", j->req.bytes.n);
    if (rc == SV_OK) {
        memcpy(j->bytes, j->req.bytes.p, j->req.bytes.n);
        j->req.bytes.p = j->bytes;
        rc = sv_media_submit(c->e->media, j, err);
    }
    if (rc != SV_OK) {
        sv_media_free(j);
        return rc;
    }
    j->owner = call_new(c, (call){.id = j->id, .media = j});
    return SV_OK;
}

static sv_rc submit_any(conn *c, const sv_frame *f, sv_err *err)
{
    return f->type == SV_WIRE_ENCODE ? submit_encode(c, f, err) : f->type == SV_WIRE_MEDIA ? submit_media(c, f, err) : submit(c, f, err);
}

static sv_rc on_generate(conn *c, const sv_frame *f, sv_err *err)
{
    if (f->id == 0 || find_call(c, f->id))
        return sv_fail(err, SV_EFORMAT, "engine protocol: generation %u is under way already", f->id);
    sv_err why = {0};
    if (c->e->draining)
        sv_wire_add(&c->out, SV_WIRE_AGAIN, f->id, (sv_str){0});
    else if (submit_any(c, f, &why) != SV_OK)
        sv_wire_add_fail(&c->out, f->id, &why);
    return SV_OK;
}

static void on_stats(conn *c)
{
    engine *e = c->e;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, SV_WIRE_MAX);
    sv_buf_addf(&b, "{\"pid\":%d,\"threads\":%d,\"connections\":%d,\"draining\":%s,", (int)getpid(), sv_compute_n_threads(e->compute), e->n_conns,
                e->draining ? "true" : "false");
    sv_table_add_stats(e->table, &b);
    sv_buf_addc(&b, ',');
    sv_encoders_add_stats(e->encoders, &b);
    sv_buf_addc(&b, ',');
    sv_media_add_stats(e->media, &b);
    sv_buf_addc(&b, '}');
    sv_wire_add(&c->out, SV_WIRE_STATS, 0, b.failed ? SV_STR("{}") : sv_buf_str(&b));
}

static sv_rc on_hello(conn *c, const sv_frame *f, sv_err *err)
{
    sv_wire_hello hello;
    if (sv_wire_get_hello(&hello, f, err) != SV_OK)
        return err->code;
    c->greeted = true;
    sv_wire_add_hello(&c->out, (uint32_t)getpid());
    if (c->e->draining)
        sv_wire_add(&c->out, SV_WIRE_GOAWAY, 0, (sv_str){0});
    return SV_OK;
}

static sv_rc on_frame(conn *c, const sv_frame *f, sv_err *err)
{
    if (!c->greeted || f->type == SV_WIRE_HELLO)
        return c->greeted ? sv_fail(err, SV_EFORMAT, "engine protocol: a second hello") : on_hello(c, f, err);
    switch (f->type) {
    case SV_WIRE_GENERATE:
    case SV_WIRE_ENCODE:
    case SV_WIRE_MEDIA:
        return on_generate(c, f, err);
    case SV_WIRE_CANCEL: {
        call *k = find_call(c, f->id);
        if (k) /* else its end is under way to the client */
            abandon(k);
        check_drained(c->e);
        return SV_OK;
    }
    case SV_WIRE_STATS:
        on_stats(c);
        return SV_OK;
    default:
        return sv_fail(err, SV_EFORMAT, "engine protocol: type %d is not a client's", (int)f->type);
    }
}

/* All whole frames that are there. */
static sv_rc take_frames(conn *c, sv_err *err)
{
    size_t at = 0, used;
    sv_frame f;
    for (;;) {
        if (sv_wire_parse(&f, &used, (sv_str){c->in.p + at, c->in.n - at}, err) != SV_OK)
            return err->code;
        if (used == 0)
            break;
        if (on_frame(c, &f, err) != SV_OK)
            return err->code;
        at += used;
    }
    memmove(c->in.p, c->in.p + at, c->in.n - at);
    c->in.n -= at;
    if (c->in.n == 0 && c->in.cap > KEEP_BYTES)
        sv_buf_done(&c->in);
    return SV_OK;
}

/* Reads once: level-triggered, the loop comes back, and other connections get their turn in between. */
static void conn_read(conn *c)
{
    sv_err err = {0};
    char *room = sv_buf_room(&c->in, READ_BYTES);
    ssize_t n = room ? recv(c->fd, room, READ_BYTES, 0) : -1;
    if (n > 0) {
        c->in.n += (size_t)n;
        if (take_frames(c, &err) != SV_OK) {
            static sv_log_gate gate;
            if (sv_log_may(&gate, 10))
                sv_log(SV_WARN, "engine.client", "error='%s' action=close", err.msg);
            err.api_code = 0;
            sv_wire_add_fail(&c->out, 0, &err);
            (void)send(c->fd, sv_buf_cstr(&c->out) + c->n_sent, c->out.n - c->n_sent, MSG_NOSIGNAL); /* as far as it goes */
            c->lost = true;
        }
    } else if (!room || n == 0 || (errno != EAGAIN && errno != EINTR)) {
        c->lost = true;
    }
    (void)conn_flush(c);
}

static void on_conn(void *arg, int fd, uint32_t events)
{
    conn *c = arg;
    (void)fd;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn_read(c);
    else
        (void)conn_flush(c);
}

static void on_listen(void *arg, int fd, uint32_t events)
{
    engine *e = arg;
    (void)events;
    int s = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            sv_watch_set(e->listen_watch, 0);
            sv_timer_set(e->pause, PAUSE_MS);
        }
        return;
    }
    conn *c = sv_xnew0(conn);
    *c = (conn){.next = e->conns, .link = &e->conns, .e = e, .fd = s};
    c->answers_end = &c->answers;
    if (e->conns)
        e->conns->link = &c->next;
    e->conns = c;
    sv_buf_init(&c->in, SV_WIRE_HEAD + SV_WIRE_MAX + READ_BYTES);
    sv_buf_init(&c->out, MAX_OUT);
    c->watch = sv_loop_watch(e->loop, s, EPOLLIN | EPOLLRDHUP, on_conn, c);
    if (++e->n_conns >= MAX_CONNS)
        sv_watch_set(e->listen_watch, 0); /* until one closes */
}

static void resume(void *arg)
{
    engine *e = arg;
    if (e->listen_watch && e->n_conns < MAX_CONNS)
        sv_watch_set(e->listen_watch, EPOLLIN);
}

/* --- the process ---------------------------------------------------------------------------------------------------- */

static void give_up(void *arg)
{
    engine *e = arg;
    sv_log(SV_WARN, "engine.drain", "unfinished=%d action=exit", e->n_calls);
    sv_loop_stop(e->loop);
}

static void on_signal(void *arg, int fd, uint32_t events)
{
    engine *e = arg;
    struct signalfd_siginfo info;
    (void)events;
    if (read(fd, &info, sizeof info) != sizeof info || e->draining)
        return;
    e->draining = true;
    sv_log(SV_INFO, "engine.drain", "signal=%u under_way=%d drain_ms=%lld", info.ssi_signo, e->n_calls, (long long)e->drain_ms);
    e->listen_watch = sv_watch_remove(e->listen_watch);
    for (conn *c = e->conns; c; c = c->next)
        if (c->greeted) {
            sv_wire_add(&c->out, SV_WIRE_GOAWAY, 0, (sv_str){0});
            c->dirty = true;
        }
    sv_timer_set(e->drain, e->drain_ms);
    flush_dirty(e);
    check_drained(e);
}

static void engine_open(engine *e, const sv_engine_opts *o, const sigset_t *signals)
{
    *e = (engine){.listen_fd = o->listen_fd, .drain_ms = o->drain_ms > 0 ? o->drain_ms : 10000};
    sv_err err = {0};
    if (sv_cage_new(&e->cage, sv_media_cage_fns, SV_N_CAGE_FNS, &(sv_cage_opts){0}, &err) != SV_OK) /* before there are threads and models */
        sv_log(SV_WARN, "engine.cage", "error='%s' effect='no pictures are read'", err.msg);
    e->loop = sv_loop_new();
    e->compute = sv_compute_new(o->n_threads);
    e->room = sv_room_new(o->model_bytes);
    e->table = sv_table_new(e->loop, e->compute, &(sv_table_opts){
        .room = e->room, .pack_dir = o->pack_dir, .idle_ms = o->idle_ms,
        .sched = {.max_active = o->max_active, .max_queued = o->max_queued, .kv_bytes = o->kv_bytes, .step_ms = o->step_ms},
        .on_start = on_start, .on_text = on_text, .on_probs = on_probs, .on_end = on_end, .on_batch = flush_dirty, .arg = e});
    e->encoders = sv_encoders_new(e->loop, e->compute, &(sv_encoders_opts){
        .room = e->room, .idle_ms = o->idle_ms, .max_queued = o->max_queued, .on_end = on_vectors, .on_batch = flush_dirty, .arg = e});
    e->media = sv_media_table_new(e->loop, e->compute, &(sv_media_table_opts){
        .room = e->room, .idle_ms = o->idle_ms, .max_queued = o->max_queued, .audio_helper = o->audio_helper, .cage = e->cage, .on_end = on_media, .on_batch = flush_dirty,
        .arg = e});
    e->signal_fd = signalfd(-1, signals, SFD_NONBLOCK | SFD_CLOEXEC);
    SV_ASSERT(e->signal_fd >= 0);
    e->signal_watch = sv_loop_watch(e->loop, e->signal_fd, EPOLLIN, on_signal, e);
    e->listen_watch = sv_loop_watch(e->loop, e->listen_fd, EPOLLIN, on_listen, e);
    e->pause = sv_timer_new(e->loop, resume, e);
    e->drain = sv_timer_new(e->loop, give_up, e);
}

static void engine_close(engine *e)
{
    sv_watch_remove(e->listen_watch);
    sv_watch_remove(e->signal_watch);
    sv_timer_free(e->pause);
    sv_timer_free(e->drain);
    e->draining = false; /* nothing stops the loop but the table from here on */
    while (e->conns)
        conn_close(e->conns);
    sv_media_table_free(e->media);
    sv_cage_free(e->cage);
    sv_encoders_free(e->encoders);
    sv_table_free(e->table);
    sv_room_free(e->room);
    sv_compute_free(e->compute);
    sv_loop_free(e->loop);
    close(e->signal_fd);
}

int sv_engine_main(const sv_engine_opts *opts)
{
    engine e;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    engine_open(&e, opts, &signals);
    sv_log(SV_INFO, "engine.start", "threads=%d", sv_compute_n_threads(e.compute));
    sv_loop_run(e.loop);
    engine_close(&e);
    sv_log(SV_INFO, "engine.end", "drained");
    return 0;
}
