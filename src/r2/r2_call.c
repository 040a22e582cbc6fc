/* r2_call.c - calls
 *
 * Reads run in the job pool. A write holds no thread while the disk syncs: the pool sums the body's last bytes up and submits, the store's
 * thread sends the ticket back. The body of a large upload is a file by then, which the pool syncs before. */
#include "r2/r2_call.h"

#include <stdio.h>
#include <string.h>

#include "r2/r2_impl.h"

enum { MAX_ARENA = 8 << 20, MAX_ANSWER = 64 << 20 };

sv_str sv_r2_call_copy(sv_r2_call *c, sv_str s)
{
    char *p = s.p ? sv_arena_strndup(c->arena, s.p, s.n) : NULL;
    if (s.p && !p && !c->err.code)
        sv_fail(&c->err, SV_ENOMEM, "the request is too large to be kept");
    return (sv_str){p, p ? s.n : 0};
}

sv_r2_call *sv_r2_call_new(sv_r2_http *h, sv_str account, sv_str bucket, sv_str key, void (*fail)(sv_req *r, sv_r2_call *c))
{
    sv_r2_call *c = sv_xnew0(sv_r2_call);
    c->h = h;
    c->fail = fail;
    c->arena = sv_arena_create(MAX_ARENA);
    sv_buf_init(&c->answer, MAX_ANSWER);
    sv_r2_intake_init(&c->in);
    c->account = sv_r2_call_copy(c, account);
    c->bucket = sv_r2_call_copy(c, bucket);
    c->key = sv_r2_call_copy(c, key);
    c->get = (sv_r2_get){.account = c->account, .bucket = c->bucket, .key = c->key};
    c->write = (sv_r2_write){.account = c->account, .bucket = c->bucket, .key = c->key, .class = SV_R2_CLASS_OF_BUCKET, .sum = -1};
    return c;
}

void sv_r2_call_free(sv_r2_call *c)
{
    sv_spool_free(c->spool);
    sv_r2_intake_done(&c->in);
    sv_r2_obj_done(&c->obj);
    sv_r2_obj_done(&c->write.out);
    sv_r2_reader_close(c->body);
    json_decref(c->http);
    json_decref(c->custom);
    json_decref(c->json);
    sv_buf_done(&c->answer);
    sv_arena_free(c->arena);
    explicit_bzero(&c->get.ssec, sizeof c->get.ssec);
    explicit_bzero(&c->write.ssec, sizeof c->write.ssec);
    free(c);
}

static void finish(sv_req *r, void *arg)
{
    sv_r2_call *c = arg;
    if (r && c->err.code)
        c->fail(r, c);
    else if (r)
        c->back(r, c);
    sv_r2_call_free(c);
}

static void refuse(sv_r2_call *c, sv_req *r)
{
    c->fail(r, c);
    sv_r2_call_free(c);
}

/* "a", W/"b", *: unquoted ones are taken too, as the hosted service does. */
void sv_r2_call_etags(sv_r2_call *c, sv_str header, const sv_r2_etag **out, size_t *n, bool *has)
{
    size_t most = 1;
    header = sv_r2_call_copy(c, header);
    for (size_t i = 0; i < header.n; i++)
        most += header.p[i] == ',';
    sv_r2_etag *v = sv_arena_new(c->arena, sv_r2_etag, most);
    if (!v)
        return;
    *n = 0;
    for (sv_str rest = header; rest.n && *n < most;) {
        const char *comma = memchr(rest.p, ',', rest.n);
        sv_str one = sv_str_trim((sv_str){rest.p, comma ? (size_t)(comma - rest.p) : rest.n});
        rest = comma ? (sv_str){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)} : (sv_str){0};
        sv_r2_etag *e = &v[(*n)++];
        e->any = sv_str_is(one, "*");
        e->weak = sv_str_starts(one, "W/");
        one = e->weak ? (sv_str){one.p + 2, one.n - 2} : one;
        e->value = one.n >= 2 && one.p[0] == '"' && one.p[one.n - 1] == '"' ? (sv_str){one.p + 1, one.n - 2} : one;
    }
    *out = v;
    *has = true;
}

/* ---- work in the pool ---- */

typedef struct trip { sv_r2_call *c; void (*work)(void *); } trip;

static void trip_work(void *arg)
{
    trip *t = arg;
    t->work(t->c);
}

static void trip_back(sv_req *r, void *arg)
{
    sv_r2_call *c = ((trip *)arg)->c;
    free(arg);
    finish(r, c);
}

void sv_r2_call_work(sv_r2_call *c, sv_req *r, void (*work)(void *call), sv_r2_answer answer)
{
    if (c->err.code) {
        refuse(c, r);
        return;
    }
    trip *t = sv_xnew0(trip);
    *t = (trip){c, work};
    c->back = answer;
    if (sv_req_work(r, c->h->jobs, trip_work, trip_back, t))
        return;
    free(t);
    sv_r2_fail(&c->err, SV_R2_UNAVAILABLE);
    refuse(c, r);
}

void sv_r2_call_get(void *call)
{
    sv_r2_call *c = call;
    sv_rc rc = sv_r2_get_object(c->h->r2, &c->get, &c->obj, &c->body, &c->at, &c->n, &c->not_modified, &c->err);
    (void)rc; /* c->err tells */
}

/* ---- bodies in ---- */

static void written(sv_r2_write *w) { sv_ticket_done(((sv_r2_call *)w->arg)->ticket); }

static void back(sv_req *r, void *arg)
{
    sv_r2_call *c = arg;
    if (!c->err.code && c->write.rc != SV_OK)
        c->err = c->write.err;
    finish(r, c);
}

/* The bytes of a put or a part, wherever they lie. */
static sv_rc take_bytes(sv_r2_call *c, sv_err *err)
{
    sv_r2_write *w = &c->write;
    w->sums = c->in.got;
    if (c->in.expect_sha256_payload) /* the signature's, not the object's */
        w->sums.mask &= ~(1u << SV_SUM_SHA256 & ~c->in.want);
    w->ssec = c->in.ssec;
    memcpy(w->iv, c->in.iv, sizeof w->iv);
    w->size = c->in.n;
    if (c->spool->path[0]) {
        if (sv_r2_keep(c->h->r2, c->spool->path, &c->piece, c->in.n, err) != SV_OK)
            return err->code;
        c->spool->path[0] = 0; /* the store's now */
    } else if (w->op == SV_R2_PUT_PART) {
        if (sv_r2_spill(c->h->r2, sv_buf_str(&c->spool->mem), &c->piece, err) != SV_OK)
            return err->code;
    } else {
        w->bytes = sv_buf_str(&c->spool->mem);
        return SV_OK;
    }
    memcpy(c->piece.iv, c->in.iv, sizeof c->piece.iv);
    w->pieces = &c->piece;
    w->n_pieces = 1;
    return SV_OK;
}

static sv_rc settle(sv_r2_call *c, sv_err *err)
{
    if (!c->spool->path[0] && sv_r2_intake_feed(&c->in, &c->spool->mem, err) != SV_OK)
        return err->code;
    if (sv_r2_intake_end(&c->in, err) != SV_OK || c->ready(c) != SV_OK)
        return err->code;
    if (c->write.op == SV_R2_PUT || c->write.op == SV_R2_PUT_PART)
        return take_bytes(c, err);
    return SV_OK;
}

static void settle_work(void *arg)
{
    sv_r2_call *c = arg;
    if (settle(c, &c->err) != SV_OK || (int)c->write.op == SV_R2_NOTHING) {
        sv_ticket_done(c->ticket);
        return;
    }
    c->write.done = written;
    c->write.arg = c;
    sv_r2_submit(c->h->r2, &c->write);
}

static void spooled(sv_req *r, sv_spool *s, void *arg)
{
    sv_r2_call *c = arg;
    c->spool = s;
    if (!r) {
        sv_r2_call_free(c);
        return;
    }
    if (!c->err.code && s->err.code)
        c->err = s->err;
    if (!c->err.code && s->too_large)
        sv_r2_fail(&c->err, SV_R2_TOO_LARGE);
    if (c->err.code) {
        refuse(c, r);
        return;
    }
    c->ticket = sv_req_ticket(r, back, c);
    if (sv_jobs_post(c->h->jobs, settle_work, c))
        return;
    sv_r2_fail(&c->err, SV_R2_UNAVAILABLE);
    sv_ticket_done(c->ticket);
}

void sv_r2_call_receive(sv_r2_call *c, sv_req *r, sv_rc (*ready)(sv_r2_call *c), sv_r2_answer answer)
{
    c->ready = ready;
    c->back = answer;
    /* The intake has the last word on the payload's size; framing and the binding's document come on top of it. */
    sv_spool_opts o = {.jobs = c->h->jobs, .dir = sv_r2_folder(c->h->r2), .keep = SV_R2_INLINE, .max = c->err.code ? 0 : (uint64_t)c->in.max * 2 + (1 << 20),
                       .filter = sv_r2_intake_feed, .filter_arg = &c->in};
    sv_spool_start(r, &o, spooled, c);
}

/* ---- bodies out ---- */

static ssize_t read_on(void *arg, char *to, size_t n) { return sv_r2_read(arg, to, n); }
static void end_read(void *arg) { sv_r2_reader_close(arg); }

void sv_r2_call_send(sv_req *r, sv_r2_call *c, sv_str before)
{
    const char *bytes = c->body ? sv_r2_reader_bytes(c->body) : NULL;
    if (before.n)
        sv_req_write(r, before.p, before.n);
    if (!c->body || bytes || c->n == 0) {
        if (bytes && c->n)
            sv_req_write(r, bytes, (size_t)c->n);
        sv_req_end(r);
        return;
    }
    sv_r2_reader *body = c->body;
    c->body = NULL;
    sv_req_send_from(r, c->h->jobs, c->n, read_on, end_read, body);
}

void sv_r2_call_send_answer(sv_req *r, sv_r2_call *c, int status, const char *type)
{
    size_t n = c->answer.n;
    sv_req_send_memory(r, status, type, sv_buf_take(&c->answer), n);
}
