/* client.c - the daemon's side of the engine
 *
 * A link is a connection. New requests go over the current one; a link whose engine said GOAWAY is no longer current and lives until its
 * requests are through, while the next link waits in the listener's backlog for the next engine.
 *
 *     generation:  pending (no link) ──► sent ──► started ──► text ... ──► done
 *                     ▲                   │ link lost, no text yet, first time
 *                     └───────────────────┘
 *
 * A request keeps its frame until the first text, since until then it can be sent again and nobody notices. Once, and not for ever: a request that
 * kills engines must not kill all of them. After the first text a second run could answer differently (no seed), so it ends with
 * SV_EIO.
 *
 * Callbacks may cancel any generation and start new ones. So nothing is held across a callback but the link, and a link is only torn down
 * in lost(), which is called by the loop alone: a failed write is noticed there too.
 *
 * Invariants:
 *   1. slots[id % MAX_GENS] is the generation of that id or another one or NULL; frames for ids that are gone are dropped.
 *   2. current is NULL or a link that is not leaving.
 *   3. A generation or asker without a link is sent before control returns to the loop, or the retry timer is set. */
#include "engine/client.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/time.h"
#include "engine/wire.h"

enum {
    MAX_GENS = 4096, MAX_BYTES = 256 << 20, READ_BYTES = 64 << 10, KEEP_BYTES = 1 << 20,
    RETRY_MIN_MS = 10, RETRY_MAX_MS = 500, PATIENCE_MS = 5000, HELLO_MS = 30000,
};

typedef struct elink {
    struct elink *next;
    sv_engine_client *c;
    int fd;
    sv_watch *watch;
    sv_timer *hello; /* until its HELLO came */
    sv_buf in, out;
    size_t n_sent; /* of out */
    bool leaving;
    char why[256]; /* the engine's last words, or "" */
} elink;

struct sv_gen {
    sv_gen *next, **at;
    sv_engine_client *c;
    elink *link;     /* NULL: pending */
    uint32_t id;
    sv_buf frame;    /* until the first text */
    bool resent, started, doomed, done;
    void (*on_start)(sv_gen *g, const sv_usage *usage, void *arg);
    void (*on_text)(sv_gen *g, sv_str text, int32_t n_tokens, void *arg);
    void (*on_probs)(sv_gen *g, sv_str packed, void *arg);
    void (*on_done)(sv_gen *g, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err, void *arg);
    void (*on_vectors)(sv_gen *g, sv_rc rc, const sv_vectors *v, const sv_err *err, void *arg); /* of an encoder's request; then on_done is NULL */
    void (*on_result)(sv_gen *g, sv_rc rc, sv_str json, const sv_usage *usage, const sv_err *err, void *arg); /* of media; the same */
    void *arg;
};

typedef struct asker { /* of stats */
    struct asker *next;
    elink *link; /* NULL: pending */
    bool doomed;
    void (*fn)(const json_t *stats_or_null, void *arg);
    void *arg;
} asker;

struct sv_engine_client {
    sv_loop *loop;
    char *path;
    elink *links, *current;
    sv_gen *gens, **gens_end; /* oldest first */
    sv_gen *slots[MAX_GENS];
    uint32_t serial;
    int32_t n_gens;
    size_t n_bytes; /* of frames kept */
    asker *askers;  /* oldest first */
    sv_timer *retry;
    int64_t retry_ms, failing_since_ms; /* 0: not failing */
    int64_t hello_ms;
};

static void connect_now(sv_engine_client *c);
static void send_pending(elink *l);

static void retry(void *arg);

sv_engine_client *sv_engine_client_new(sv_loop *loop, const char *socket_path)
{
    sv_engine_client *c = sv_xnew0(sv_engine_client);
    c->loop = loop;
    c->path = sv_xstrdup(socket_path);
    c->gens_end = &c->gens;
    c->hello_ms = HELLO_MS;
    c->retry = sv_timer_new(loop, retry, c);
    return c;
}

void sv_engine_client_set_patience(sv_engine_client *c, int64_t hello_ms) { c->hello_ms = hello_ms; }

/* --- generations come and go -------------------------------------------------------------------------------------- */

static void drop_frame(sv_gen *g)
{
    g->c->n_bytes -= g->frame.n;
    sv_buf_done(&g->frame);
}

/* Out of every list; the memory stays. */
static void forget(sv_gen *g)
{
    drop_frame(g);
    *g->at = g->next;
    if (g->next)
        g->next->at = g->at;
    else
        g->c->gens_end = g->at;
    g->c->slots[g->id % MAX_GENS] = NULL;
    g->c->n_gens--;
    g->done = true;
}

static void end(sv_gen *g, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    forget(g);
    if (g->on_vectors)
        g->on_vectors(g, rc, NULL, err, g->arg);
    else if (g->on_result)
        g->on_result(g, rc, (sv_str){0}, usage, err, g->arg);
    else
        g->on_done(g, rc, finish, usage, err, g->arg);
    free(g);
}

static void end_with_eio(sv_gen *g, const char *why)
{
    static const sv_usage none;
    sv_err err = {0};
    sv_rc rc = sv_fail(&err, SV_EIO, "%s", why);
    end(g, rc, SV_FINISH_STOP, &none, &err);
}

/* --- links -------------------------------------------------------------------------------------------------------- */

/* Writes what goes. A broken link shows itself to the loop as readable, so errors wait for that (see above). */
static void flush(elink *l)
{
    if (l->out.failed) { /* it has not read for long, and what came last is not in there: waiting for an answer would be for ever */
        shutdown(l->fd, SHUT_RDWR);
        return;
    }
    while (l->n_sent < l->out.n) {
        ssize_t n = send(l->fd, l->out.p + l->n_sent, l->out.n - l->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) { /* nobody will read the rest */
            sv_watch_set(l->watch, EPOLLIN | EPOLLRDHUP);
            return;
        }
        if (n < 0)
            break;
        l->n_sent += (size_t)n;
    }
    sv_watch_set(l->watch, EPOLLIN | EPOLLRDHUP | (l->n_sent < l->out.n ? EPOLLOUT : 0));
    if (l->n_sent < l->out.n) {
        if (l->n_sent > l->out.n / 2) { /* so that what was sent does not count for the cap */
            memmove(l->out.p, l->out.p + l->n_sent, l->out.n - l->n_sent);
            l->out.n -= l->n_sent;
            l->n_sent = 0;
        }
        return;
    }
    l->n_sent = 0;
    if (l->out.cap > KEEP_BYTES)
        sv_buf_done(&l->out);
    sv_buf_reset(&l->out);
}

static void send_gen(sv_gen *g, elink *l)
{
    g->link = l;
    sv_buf_add(&l->out, g->frame.p, g->frame.n);
}

static void link_free(elink *l)
{
    elink **at = &l->c->links;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (l->c->current == l)
        l->c->current = NULL;
    sv_watch_remove(l->watch);
    sv_timer_free(l->hello);
    close(l->fd);
    sv_buf_done(&l->in);
    sv_buf_done(&l->out);
    free(l);
}

static bool anybody_pending(const sv_engine_client *c)
{
    for (const sv_gen *g = c->gens; g; g = g->next)
        if (!g->link)
            return true;
    for (const asker *a = c->askers; a; a = a->next)
        if (!a->link)
            return true;
    return false;
}

/* Answers the doomed askers with NULL. Out of the list first: fn may ask again. */
static void disappoint(sv_engine_client *c)
{
    asker *list = NULL, **end_of_list = &list;
    for (asker **at = &c->askers; *at;) {
        asker *a = *at;
        if (!a->doomed) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        a->next = NULL;
        *end_of_list = a;
        end_of_list = &a->next;
    }
    for (asker *a = list, *next; a; a = next) {
        next = a->next;
        a->fn(NULL, a->arg);
        free(a);
    }
}

/* Ends the doomed; those that on_done starts meanwhile are not. */
static void end_doomed(sv_engine_client *c, const char *why)
{
    for (sv_gen *g = c->gens; g;) {
        if (!g->doomed) {
            g = g->next;
            continue;
        }
        end_with_eio(g, why);
        g = c->gens; /* the list is another one now */
    }
}

/* Sends what is pending, over a new link where there is none. The loop's alone: it may end generations. */
static void settle(sv_engine_client *c)
{
    if (!anybody_pending(c))
        return;
    if (c->current)
        send_pending(c->current);
    else
        connect_now(c);
}

/* The link is gone: its generations are sent again or end. */
static void lost(elink *l)
{
    sv_engine_client *c = l->c;
    char why[sizeof l->why];
    snprintf(why, sizeof why, "%s", l->why[0] ? l->why : "engine restarted");
    for (sv_gen *g = c->gens; g; g = g->next) {
        if (g->link != l)
            continue;
        g->link = NULL;
        g->doomed = g->frame.n == 0 || g->resent;
        g->resent = true;
    }
    /* Before any callback: a cancel must not find the link. */
    for (asker *a = c->askers; a; a = a->next)
        a->doomed = a->link == l;
    link_free(l);
    end_doomed(c, why);
    disappoint(c);
    settle(c);
}

/* --- frames in ---------------------------------------------------------------------------------------------------- */

static sv_rc on_stats(elink *l, const sv_frame *f, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *json = NULL;
    asker **at = &l->c->askers, *a;
    while (*at && (*at)->link != l)
        at = &(*at)->next;
    if (sv_json_parse(&json, f->payload, err) != SV_OK)
        return err->code;
    if (!(a = *at))
        return SV_OK;
    *at = a->next;
    a->fn(json, a->arg);
    free(a);
    return SV_OK;
}

static void leave(elink *l)
{
    l->leaving = true;
    if (l->c->current == l)
        l->c->current = NULL;
}

static sv_rc on_gen_frame(sv_gen *g, const sv_frame *f, sv_err *err)
{
    sv_usage usage = {0};
    sv_finish finish = SV_FINISH_STOP;
    sv_err what = {0};
    sv_str text;
    int32_t n_tokens;
    sv_rc rc;
    switch (f->type) {
    case SV_WIRE_STARTED:
        if ((rc = sv_wire_get_started(&usage, f, err)) == SV_OK && !g->started) {
            g->started = true;
            if (g->on_start)
                g->on_start(g, &usage, g->arg);
        }
        return rc;
    case SV_WIRE_TEXT:
        if ((rc = sv_wire_get_text(&text, &n_tokens, f, err)) == SV_OK) {
            drop_frame(g);
            if (g->on_text)
                g->on_text(g, text, n_tokens, g->arg);
        }
        return rc;
    case SV_WIRE_VECTORS: {
        sv_vectors v = {0};
        if (!g->on_vectors)
            return sv_fail(err, SV_EFORMAT, "engine protocol: vectors for a generation");
        if ((rc = sv_wire_get_vectors(&v, f, err)) == SV_OK) {
            forget(g);
            g->on_vectors(g, SV_OK, &v, NULL, g->arg);
            free(g);
        }
        return rc;
    }
    case SV_WIRE_RESULT:
        if (!g->on_result)
            return sv_fail(err, SV_EFORMAT, "engine protocol: a result for a generation");
        if ((rc = sv_wire_get_result(&text, &usage, f, err)) == SV_OK) {
            forget(g);
            g->on_result(g, SV_OK, text, &usage, NULL, g->arg);
            free(g);
        }
        return rc;
    case SV_WIRE_PROBS:
        if ((rc = sv_wire_get_probs(&text, f, err)) == SV_OK) {
            drop_frame(g);
            if (g->on_probs)
                g->on_probs(g, text, g->arg);
        }
        return rc;
    case SV_WIRE_DONE:
        if (!g->on_done)
            return sv_fail(err, SV_EFORMAT, "engine protocol: a text for an encoder's request");
        if ((rc = sv_wire_get_done(&finish, &usage, f, err)) == SV_OK)
            end(g, SV_OK, finish, &usage, NULL);
        return rc;
    case SV_WIRE_FAIL:
        if ((rc = sv_wire_get_fail(&what, f, err)) == SV_OK)
            end(g, what.code, SV_FINISH_STOP, &usage, &what);
        return rc;
    case SV_WIRE_AGAIN:
        leave(g->link);
        g->link = NULL;
        return SV_OK;
    default:
        return sv_fail(err, SV_EFORMAT, "engine protocol: type %d is not an engine's", (int)f->type);
    }
}

static sv_rc on_frame(elink *l, const sv_frame *f, sv_err *err)
{
    sv_wire_hello hello;
    sv_err what = {0};
    if (f->id != 0) {
        sv_gen *g = l->c->slots[f->id % MAX_GENS];
        return g && g->id == f->id && g->link == l ? on_gen_frame(g, f, err) : SV_OK; /* inv. 1 */
    }
    switch (f->type) {
    case SV_WIRE_HELLO:
        l->c->failing_since_ms = 0;
        l->hello = sv_timer_free(l->hello);
        return sv_wire_get_hello(&hello, f, err);
    case SV_WIRE_STATS:
        return on_stats(l, f, err);
    case SV_WIRE_GOAWAY:
        leave(l);
        return SV_OK;
    case SV_WIRE_FAIL: /* it closes after this */
        if (sv_wire_get_fail(&what, f, err) != SV_OK)
            return err->code;
        return sv_fail(err, SV_EFORMAT, "%s", what.msg);
    default:
        return sv_fail(err, SV_EFORMAT, "engine protocol: type %d without a generation", (int)f->type);
    }
}

static sv_rc take_frames(elink *l, sv_err *err)
{
    size_t at = 0, used;
    sv_frame f;
    for (;;) {
        if (sv_wire_parse(&f, &used, (sv_str){l->in.p + at, l->in.n - at}, err) != SV_OK)
            return err->code;
        if (used == 0)
            break;
        if (on_frame(l, &f, err) != SV_OK)
            return err->code;
        at += used;
    }
    memmove(l->in.p, l->in.p + at, l->in.n - at);
    l->in.n -= at;
    if (l->in.n == 0 && l->in.cap > KEEP_BYTES)
        sv_buf_done(&l->in);
    return SV_OK;
}

static void on_link(void *arg, int fd, uint32_t events)
{
    elink *l = arg;
    sv_engine_client *c = l->c;
    sv_err err = {0};
    if (events & EPOLLOUT)
        flush(l);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    char *room = sv_buf_room(&l->in, READ_BYTES);
    ssize_t n = room ? recv(fd, room, READ_BYTES, 0) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        lost(l);
        return;
    }
    l->in.n += (size_t)n;
    if (take_frames(l, &err) != SV_OK) {
        snprintf(l->why, sizeof l->why, "%.200s", err.msg);
        lost(l);
        return;
    }
    settle(c);
}

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void give_up(sv_engine_client *c, const sv_err *err)
{
    char why[300];
    snprintf(why, sizeof why, "the engine is not there: %.240s", err->msg);
    c->failing_since_ms = 0;
    for (sv_gen *g = c->gens; g; g = g->next)
        g->doomed = !g->link;
    for (asker *a = c->askers; a; a = a->next)
        a->doomed = !a->link;
    end_doomed(c, why);
    disappoint(c);
}

static void not_connected(sv_engine_client *c, const sv_err *err)
{
    int64_t now = sv_mono_ms();
    if (c->failing_since_ms == 0) {
        c->failing_since_ms = now;
        c->retry_ms = RETRY_MIN_MS;
    }
    if (now - c->failing_since_ms > PATIENCE_MS) {
        give_up(c, err);
        return;
    }
    sv_timer_set(c->retry, c->retry_ms);
    c->retry_ms = c->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : c->retry_ms * 2;
}

static void send_pending(elink *l)
{
    for (sv_gen *g = l->c->gens; g; g = g->next)
        if (!g->link)
            send_gen(g, l);
    for (asker *a = l->c->askers; a; a = a->next)
        if (!a->link) {
            a->link = l;
            sv_wire_add(&l->out, SV_WIRE_STATS, 0, (sv_str){0});
        }
    flush(l);
}

/* Who holds the listener is there, or connecting had failed; but nobody who answers. Sending again would only wait again. */
static void no_hello(void *arg)
{
    elink *l = arg;
    for (sv_gen *g = l->c->gens; g; g = g->next)
        g->resent |= g->link == l;
    snprintf(l->why, sizeof l->why, "the engine does not answer");
    lost(l);
}

static void connect_now(sv_engine_client *c)
{
    int fd = -1;
    sv_err err = {0};
    if (sv_unix_connect(&fd, c->path, &err) != SV_OK) {
        not_connected(c, &err);
        return;
    }
    elink *l = sv_xnew0(elink);
    *l = (elink){.next = c->links, .c = c, .fd = fd};
    c->links = c->current = l;
    sv_buf_init(&l->in, SV_WIRE_HEAD + SV_WIRE_MAX + READ_BYTES);
    sv_buf_init(&l->out, 2 * (size_t)MAX_BYTES);
    l->watch = sv_loop_watch(c->loop, fd, EPOLLIN | EPOLLRDHUP, on_link, l);
    l->hello = sv_timer_new(c->loop, no_hello, l);
    sv_timer_set(l->hello, c->hello_ms);
    sv_wire_add_hello(&l->out, (uint32_t)getpid());
    send_pending(l);
}

static void retry(void *arg) { settle(arg); }

/* --- what callers see --------------------------------------------------------------------------------------------- */

static sv_rc find_slot(sv_engine_client *c, uint32_t *id, sv_err *err)
{
    if (c->n_gens >= MAX_GENS || c->n_bytes >= MAX_BYTES)
        return sv_fail_api(err, SV_ELIMIT, 3040, "out of capacity: %" PRId32 " requests wait for the engine", c->n_gens);
    do
        *id = ++c->serial;
    while (*id == 0 || c->slots[*id % MAX_GENS]);
    return SV_OK;
}

/* Enters the list and goes to the engine. */
static sv_gen *begin(sv_engine_client *c, sv_gen what)
{
    sv_gen *g = sv_xnew0(sv_gen);
    uint32_t id = what.id;
    *g = what;
    g->c = c;
    g->at = c->gens_end;
    *c->gens_end = c->slots[id % MAX_GENS] = g;
    c->gens_end = &g->next;
    c->n_gens++;
    c->n_bytes += g->frame.n;
    if (c->current) {
        send_gen(g, c->current);
        flush(c->current);
    } else {
        sv_timer_set(c->retry, 0); /* from the loop: connecting may end this very generation */
    }
    return g;
}

sv_rc sv_engine_generate(sv_gen **out, sv_engine_client *c, const sv_gen_opts *opts, sv_err *err)
{
    uint32_t id = 0;
    sv_buf frame;
    SV_ASSERT(opts->on_done);
    if (find_slot(c, &id, err) != SV_OK)
        return err->code;
    sv_buf_init(&frame, SV_WIRE_HEAD + SV_WIRE_MAX);
    if (sv_wire_add_gen(&frame, id, opts, err) != SV_OK) {
        sv_buf_done(&frame);
        return err->code;
    }
    *out = begin(c, (sv_gen){.id = id, .frame = frame, .on_start = opts->on_start, .on_text = opts->on_text,
                              .on_probs = opts->on_probs, .on_done = opts->on_done, .arg = opts->arg});
    return SV_OK;
}

sv_rc sv_engine_encode(sv_gen **out, sv_engine_client *c, const sv_encode_opts *opts, sv_err *err)
{
    uint32_t id = 0;
    sv_buf frame;
    SV_ASSERT(opts->on_done);
    if (find_slot(c, &id, err) != SV_OK)
        return err->code;
    sv_buf_init(&frame, SV_WIRE_HEAD + SV_WIRE_MAX);
    if (sv_wire_add_encode(&frame, id, opts, err) != SV_OK) {
        sv_buf_done(&frame);
        return err->code;
    }
    *out = begin(c, (sv_gen){.id = id, .frame = frame, .on_vectors = opts->on_done, .arg = opts->arg});
    return SV_OK;
}

sv_rc sv_engine_media(sv_gen **out, sv_engine_client *c, const sv_media_opts *opts, sv_err *err)
{
    uint32_t id = 0;
    sv_buf frame;
    SV_ASSERT(opts->on_done);
    if (find_slot(c, &id, err) != SV_OK)
        return err->code;
    sv_buf_init(&frame, SV_WIRE_HEAD + SV_WIRE_MAX);
    if (sv_wire_add_media(&frame, id, opts, err) != SV_OK) {
        sv_buf_done(&frame);
        return err->code;
    }
    *out = begin(c, (sv_gen){.id = id, .frame = frame, .on_result = opts->on_done, .arg = opts->arg});
    return SV_OK;
}

void sv_gen_cancel(sv_gen *g)
{
    if (!g || g->done)
        return;
    if (g->link) {
        sv_wire_add(&g->link->out, SV_WIRE_CANCEL, g->id, (sv_str){0});
        flush(g->link);
    }
    forget(g);
    free(g);
}

void sv_engine_stats(sv_engine_client *c, void (*done_fn)(const json_t *stats_or_null, void *arg), void *arg)
{
    asker *a = sv_xnew0(asker), **at = &c->askers;
    *a = (asker){.link = c->current, .fn = done_fn, .arg = arg};
    while (*at)
        at = &(*at)->next;
    *at = a;
    if (c->current) {
        sv_wire_add(&c->current->out, SV_WIRE_STATS, 0, (sv_str){0});
        flush(c->current);
    } else {
        sv_timer_set(c->retry, 0);
    }
}

sv_engine_client *sv_engine_client_free(sv_engine_client *c)
{
    if (!c)
        return NULL;
    while (c->links)
        link_free(c->links);
    for (sv_gen *g; (g = c->gens);) {
        forget(g);
        free(g);
    }
    for (asker *a; (a = c->askers);) {
        c->askers = a->next;
        free(a);
    }
    sv_timer_free(c->retry);
    free(c->path);
    free(c);
    return NULL;
}
