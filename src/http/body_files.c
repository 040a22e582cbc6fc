/* body_files.c - tickets, spools and file answers
 *
 * All three are small machines with one owner at a time: the loop, or the one job that is under way (`busy`). While it is, the loop
 * neither frees the machine nor touches what the job works on; a client who leaves is only noted, and the machine ends when the job is
 * back. So nothing here needs a lock.
 *
 * A spool writes pieces of WRITE_PIECE and reads no more from the client meanwhile: a slow disk slows the sender down, and memory holds
 * two pieces a request. */
#include "http/body_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

enum { WRITE_PIECE = 256 << 10, READ_PIECE = 256 << 10 };

/* ---- tickets ---- */

struct sv_ticket {
    sv_loop *loop;
    sv_req *r; /* NULL: gone */
    void (*work)(void *arg);
    void (*done)(sv_req *r, void *arg);
    void *arg;
};

static void ticket_gone(sv_req *r, void *arg)
{
    (void)r;
    ((sv_ticket *)arg)->r = NULL;
}

static void ticket_back(void *arg)
{
    sv_ticket *t = arg;
    if (t->r)
        sv_req_on_close(t->r, NULL, NULL);
    t->done(t->r, t->arg);
    free(t);
}

void sv_ticket_done(sv_ticket *t) { sv_loop_post(t->loop, ticket_back, t); }

sv_ticket *sv_req_ticket(sv_req *r, void (*done)(sv_req *r, void *arg), void *arg)
{
    sv_ticket *t = sv_xnew0(sv_ticket);
    *t = (sv_ticket){.loop = sv_req_loop(r), .r = r, .done = done, .arg = arg};
    sv_req_on_close(r, ticket_gone, t);
    return t;
}

static void ticket_work(void *arg)
{
    sv_ticket *t = arg;
    t->work(t->arg);
    sv_ticket_done(t);
}

bool sv_req_work(sv_req *r, sv_jobs *jobs, void (*work)(void *arg), void (*done)(sv_req *r, void *arg), void *arg)
{
    sv_ticket *t = sv_req_ticket(r, done, arg);
    t->work = work;
    if (sv_jobs_post(jobs, ticket_work, t))
        return true;
    sv_req_on_close(r, NULL, NULL);
    free(t);
    return false;
}

/* ---- spools ---- */

typedef struct spooler {
    sv_spool *s;
    sv_spool_opts o;
    sv_loop *loop;
    sv_req *r; /* NULL: gone */
    sv_buf writing;
    int fd;
    bool busy, ended;
    void (*done)(sv_req *r, sv_spool *s, void *arg);
    void *arg;
} spooler;

static void write_back(void *arg);

static sv_rc open_file(spooler *p, sv_err *err)
{
    char name[33];
    sv_random_hex(name, 16);
    int n = snprintf(p->s->path, sizeof p->s->path, "%s/%s", p->o.dir, name);
    if (n < 0 || (size_t)n >= sizeof p->s->path) {
        p->s->path[0] = 0;
        return sv_fail(err, SV_EINVAL, "the path of the data directory is too long");
    }
    p->fd = open(p->s->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (p->fd >= 0)
        return SV_OK;
    sv_fail_errno(err, "make '%s'", p->s->path);
    p->s->path[0] = 0;
    return err->code;
}

/* In the pool. */
static void write_piece(void *arg)
{
    spooler *p = arg;
    sv_err *err = &p->s->err;
    if (p->fd >= 0 || open_file(p, err) == SV_OK) {
        sv_rc rc = p->o.filter ? p->o.filter(p->o.filter_arg, &p->writing, err) : SV_OK;
        if (rc == SV_OK && sv_write_all(p->fd, p->writing.p, p->writing.n, err) != SV_OK)
            sv_wrap(err, "write '%s'", p->s->path);
    }
    sv_loop_post(p->loop, write_back, p);
}

static void finish(spooler *p)
{
    if (p->fd >= 0)
        close(p->fd);
    if ((p->s->too_large || p->s->err.code) && p->s->path[0]) {
        unlink(p->s->path);
        p->s->path[0] = 0;
    }
    if (p->r)
        sv_req_on_close(p->r, NULL, NULL);
    sv_buf_done(&p->writing);
    p->done(p->r, p->s, p->arg);
    free(p);
}

static void start_write(spooler *p)
{
    sv_buf swap = p->writing;
    p->writing = p->s->mem;
    p->s->mem = swap;
    sv_buf_reset(&p->s->mem);
    p->busy = sv_jobs_post(p->o.jobs, write_piece, p);
    if (p->busy && !p->ended)
        sv_req_pause_body(p->r, true);
    if (!p->busy)
        sv_fail(&p->s->err, SV_ELIMIT, "too much is waiting to be written; try again in a moment");
}

static void drop(spooler *p) { sv_buf_done(&p->s->mem); }

/* The body has ended, or what was under way is done: goes on, or ends. */
static void step(spooler *p)
{
    sv_spool *s = p->s;
    bool lost = s->too_large || s->err.code;
    if (lost)
        drop(p);
    bool in_file = p->fd >= 0;
    if (p->r && !lost && s->mem.n && (s->mem.n >= WRITE_PIECE || (in_file && p->ended) || (!in_file && s->mem.n > p->o.keep)))
        start_write(p);
    if (!p->busy && (!p->r || p->ended))
        finish(p);
}

static void write_back(void *arg)
{
    spooler *p = arg;
    p->busy = false;
    sv_buf_reset(&p->writing);
    if (p->r && !p->ended)
        sv_req_pause_body(p->r, false);
    step(p);
}

static void take_piece(sv_req *r, const char *piece, size_t n, void *arg)
{
    spooler *p = arg;
    sv_spool *s = p->s;
    (void)r;
    p->ended |= n == 0;
    s->n += n;
    s->too_large |= s->n > p->o.max;
    if (!s->too_large && !s->err.code && !sv_buf_add(&s->mem, piece, n))
        sv_fail(&s->err, SV_ENOMEM, "no memory for the body");
    if (!p->busy)
        step(p);
}

static void spool_gone(sv_req *r, void *arg)
{
    spooler *p = arg;
    (void)r;
    p->r = NULL;
    if (!p->busy)
        finish(p);
}

void sv_spool_start(sv_req *r, const sv_spool_opts *opts, void (*done)(sv_req *r, sv_spool *s, void *arg), void *arg)
{
    spooler *p = sv_xnew0(spooler);
    *p = (spooler){.s = sv_xnew0(sv_spool), .o = *opts, .loop = sv_req_loop(r), .r = r, .fd = -1, .done = done, .arg = arg};
    sv_buf_init(&p->s->mem, opts->keep + WRITE_PIECE + (1 << 20));
    sv_buf_init(&p->writing, opts->keep + WRITE_PIECE + (1 << 20));
    sv_req_on_close(r, spool_gone, p);
    sv_req_on_body(r, take_piece, p);
}

void sv_spool_free(sv_spool *s)
{
    if (!s)
        return;
    if (s->path[0])
        unlink(s->path);
    sv_buf_done(&s->mem);
    free(s);
}

sv_rc sv_spool_view(const sv_spool *s, sv_map *map, sv_str *out, sv_err *err)
{
    *map = (sv_map){0};
    if (!s->path[0]) {
        *out = sv_buf_str(&s->mem);
        return SV_OK;
    }
    if (sv_map_open(map, s->path, err) != SV_OK)
        return err->code;
    *out = (sv_str){(const char *)map->p, map->n};
    return SV_OK;
}

/* ---- answers read piece by piece ---- */

typedef struct sender {
    sv_loop *loop;
    sv_req *r; /* NULL: gone */
    sv_jobs *jobs;
    int64_t left;
    ssize_t (*read)(void *arg, char *to, size_t n);
    void (*end)(void *arg);
    void *arg;
    char *piece;
    ssize_t got;
    bool busy;
} sender;

static void sender_free(sender *d)
{
    d->end(d->arg);
    free(d->piece);
    free(d);
}

static void read_back(void *arg);

/* In the pool. */
static void read_piece(void *arg)
{
    sender *d = arg;
    size_t n = d->left < READ_PIECE ? (size_t)d->left : READ_PIECE;
    d->got = d->read(d->arg, d->piece, n);
    sv_loop_post(d->loop, read_back, d);
}

static void cut(sender *d)
{
    sv_req *r = d->r;
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_drain(r, NULL, NULL);
    sender_free(d);
    sv_req_abort(r);
}

static void next_piece(sv_req *r, void *arg)
{
    sender *d = arg;
    (void)r;
    if (d->busy)
        return;
    d->busy = sv_jobs_post(d->jobs, read_piece, d);
    if (!d->busy)
        cut(d);
}

static void read_back(void *arg)
{
    sender *d = arg;
    d->busy = false;
    if (!d->r) {
        sender_free(d);
        return;
    }
    if (d->got <= 0) {
        cut(d);
        return;
    }
    d->left -= d->got;
    sv_req *r = d->r;
    sv_req_write(r, d->piece, (size_t)d->got);
    if (d->left > 0)
        return; /* on_drain goes on */
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_drain(r, NULL, NULL);
    sender_free(d);
    sv_req_end(r);
}

static void sender_gone(sv_req *r, void *arg)
{
    sender *d = arg;
    (void)r;
    d->r = NULL;
    if (!d->busy)
        sender_free(d);
}

void sv_req_send_from(sv_req *r, sv_jobs *jobs, int64_t n, ssize_t (*read)(void *arg, char *to, size_t n), void (*end)(void *arg), void *arg)
{
    if (n <= 0 || strcmp(sv_req_method(r), "HEAD") == 0) {
        end(arg);
        sv_req_end(r);
        return;
    }
    sender *d = sv_xnew0(sender);
    *d = (sender){.loop = sv_req_loop(r), .r = r, .jobs = jobs, .left = n, .read = read, .end = end, .arg = arg};
    d->piece = sv_try_calloc(1, n < READ_PIECE ? (size_t)n : READ_PIECE);
    sv_req_on_close(r, sender_gone, d);
    sv_req_on_drain(r, next_piece, d);
    if (!d->piece)
        cut(d);
    else
        next_piece(r, d);
}

typedef struct file_part { int fd; int64_t at; } file_part;

static ssize_t read_file(void *arg, char *to, size_t n)
{
    file_part *f = arg;
    ssize_t got;
    do
        got = pread(f->fd, to, n, f->at);
    while (got < 0 && errno == EINTR);
    f->at += got > 0 ? got : 0;
    return got;
}

static void end_file(void *arg)
{
    file_part *f = arg;
    close(f->fd);
    free(f);
}

void sv_req_send_file(sv_req *r, sv_jobs *jobs, int fd, int64_t at, int64_t n)
{
    file_part *f = sv_xnew0(file_part);
    *f = (file_part){fd, at};
    sv_req_send_from(r, jobs, n, read_file, end_file, f);
}

/* ---- memory answers ---- */

typedef struct memory_answer { char *p; size_t at, n; } memory_answer;

static void memory_gone(sv_req *r, void *arg)
{
    memory_answer *m = arg;
    (void)r;
    free(m->p);
    free(m);
}

static void memory_piece(sv_req *r, void *arg)
{
    memory_answer *m = arg;
    size_t n = m->n - m->at < READ_PIECE ? m->n - m->at : READ_PIECE;
    sv_req_write(r, m->p + m->at, n);
    m->at += n;
    if (m->at < m->n)
        return;
    sv_req_on_close(r, NULL, NULL);
    sv_req_on_drain(r, NULL, NULL);
    memory_gone(r, m);
    sv_req_end(r);
}

void sv_req_send_memory(sv_req *r, int status, const char *content_type, char *p, size_t n)
{
    memory_answer *m = sv_xnew0(memory_answer);
    *m = (memory_answer){.p = p, .n = n};
    sv_req_add_header(r, "Content-Type", content_type);
    sv_req_begin(r, status, NULL, (int64_t)n);
    if (strcmp(sv_req_method(r), "HEAD") == 0) /* nothing would be written, and so nothing drained */
        m->at = m->n;
    sv_req_on_close(r, memory_gone, m);
    sv_req_on_drain(r, memory_piece, m);
    memory_piece(r, m);
}
