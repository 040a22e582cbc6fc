/* conn.c - a connection: bytes in, requests out to their handlers, bytes of answers out
 *
 *   P_HEAD --head whole--> [P_BODY] --body whole--> P_DONE --answer whole--> P_HEAD, or the connection ends
 *
 * The parser runs over the read buffer in place. Once a head is whole, that buffer is pinned until its request is
 * answered, and what comes later goes to a second one (`more`); pipelined requests behind the first wait in either. One
 * request at a time: the next head is looked at when the answer before it is whole.
 *
 * Reading stops (EPOLLIN is taken out of the watch) while nobody wants more: an answer is pending, a streamed body is
 * paused, or the client does not read its answers. The kernel's buffers then push back on the sender.
 *
 * A client that leaves while its answer is pending is seen by EPOLLRDHUP, without reading. On TCP the kernel cannot tell
 * a closed client from one that has only shut its sending side, and we take it for gone, as proxies do (haproxy's
 * abortonclose); unix sockets do tell (EPOLLHUP), and there a half-closed client gets its answer.
 *
 * Closing with unread bytes in the kernel would reset the connection and may destroy the answer on its way. So where a
 * client may still be sending (413, parse errors), we shut our side first and drop what comes for a moment.
 *
 * Nothing here is freed under a handler's feet: all roads end in settle(), which runs when the handlers have returned.
 *
 * Time limits are one timer a connection, armed lazily: moving a limit later costs nothing, the timer finds out when it
 * fires. A request that comes whole never touches the timer heap. */
#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "http/server_impl.h"

enum { READS_A_TURN = 8, ROUNDS_A_TURN = 16 };

static size_t unread(const sv_conn *c) { return (c->in.n - c->in.pos) + (c->more.n - c->more.pos); }
static size_t waiting(const sv_conn *c) { return c->out.n - c->out.pos; }

bool sv_conn_idle(const sv_conn *c)
{
    return !c->req->live && c->parse == P_HEAD && c->in.n == c->head_start && waiting(c) == 0;
}

/* ---- writing ---- */

static bool buf_reserve(byte_buf *b, size_t n)
{
    if (b->cap - b->n >= n)
        return true;
    if (b->pos > 0) {
        memmove(b->p, b->p + b->pos, b->n - b->pos);
        b->n -= b->pos;
        b->pos = 0;
        if (b->cap - b->n >= n)
            return true;
    }
    size_t cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n + 1024;
    char *p = sv_try_realloc(b->p, cap, 1);
    if (!p)
        return false;
    b->p = p;
    b->cap = cap;
    return true;
}

static void buf_free(byte_buf *b)
{
    free(b->p);
    *b = (byte_buf){0};
}

bool sv_conn_put(sv_conn *c, const void *p, size_t n)
{
    if (c->broken || n == 0)
        return !c->broken;
    if (!buf_reserve(&c->out, n)) {
        c->broken = true;
        return false;
    }
    memcpy(c->out.p + c->out.n, p, n);
    c->out.n += n;
    return true;
}

/* Counts what the socket took. */
static void wrote_some(sv_conn *c, size_t n)
{
    c->s->stats.n_bytes_out += (int64_t)n;
    c->write_due_ms = sv_loop_now_ms(c->s->loop) + c->s->o.write_timeout_ms;
}

static bool failed_for_good(sv_conn *c)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return false;
    c->broken = true;
    return true;
}

bool sv_conn_flush(sv_conn *c)
{
    byte_buf *b = &c->out;
    while (!c->broken && b->pos < b->n) {
        size_t want = b->n - b->pos;
        ssize_t n = send(c->fd, b->p + b->pos, want, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (failed_for_good(c))
                return false;
            if (c->write_due_ms == 0)
                c->write_due_ms = sv_loop_now_ms(c->s->loop) + c->s->o.write_timeout_ms;
            return true;
        }
        wrote_some(c, (size_t)n);
        b->pos += (size_t)n;
        if ((size_t)n < want)
            return true;
    }
    if (b->pos == b->n) {
        b->pos = b->n = 0;
        c->write_due_ms = 0;
        if (b->cap > OUT_KEEP)
            buf_free(b);
    }
    return !c->broken;
}

void sv_conn_write_now(sv_conn *c, const char *p, size_t n)
{
    struct iovec v[2] = {{waiting(c) ? c->out.p + c->out.pos : NULL, waiting(c)}, {(void *)(uintptr_t)p, n}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    if (c->broken)
        return;
    ssize_t sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (failed_for_good(c))
            return;
        sent = 0;
    }
    if (sent > 0)
        wrote_some(c, (size_t)sent);
    size_t of_out = (size_t)sent < v[0].iov_len ? (size_t)sent : v[0].iov_len, of_p = (size_t)sent - of_out;
    c->out.pos += of_out;
    sv_conn_put(c, p + of_p, n - of_p);
}

void sv_conn_refuse(sv_conn *c, int status, const char *text)
{
    char head[256];
    size_t n_date;
    const char *date = sv_http_date(c->s, &n_date);
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\n%.*sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n",
                     status, sv_http_reason(status), (int)n_date, date, strlen(text));
    sv_conn_put(c, head, (size_t)n);
    sv_conn_put(c, text, strlen(text));
    c->last = c->unread_end = true;
}

/* ---- the parser's calls ---- */

static sv_conn *conn_of(llhttp_t *p) { return p->data; }

static int refuse_from_parser(sv_conn *c, int status, const char *text)
{
    c->refuse_status = status;
    c->refuse_text = text;
    return HPE_USER;
}

static uint32_t offset_of(const sv_conn *c, const char *at) { return (uint32_t)(at - (c->in.p + c->head_start)); }

static int on_url(llhttp_t *p, const char *at, size_t n)
{
    sv_conn *c = conn_of(p);
    if (c->req->n_url == 0)
        c->req->url = offset_of(c, at);
    c->req->n_url += (uint32_t)n;
    return 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
    sv_conn *c = conn_of(p);
    sv_req *r = c->req;
    if (c->parse != P_HEAD) /* trailers: nobody here wants them */
        return 0;
    if (!r->in_name) {
        if (r->n_headers == MAX_HEADERS)
            return refuse_from_parser(c, 431, "more than 256 headers");
        if (r->n_headers == r->cap_headers) {
            r->cap_headers *= 2;
            r->headers = sv_xrealloc(r->headers, (size_t)r->cap_headers, sizeof *r->headers);
        }
        r->headers[r->n_headers++] = (header_at){.name = offset_of(c, at)};
        r->in_name = true;
    }
    r->headers[r->n_headers - 1].n_name += (uint32_t)n;
    return 0;
}

static int on_field_complete(llhttp_t *p)
{
    sv_req *r = conn_of(p)->req;
    r->in_name = r->in_value = false;
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    sv_conn *c = conn_of(p);
    sv_req *r = c->req;
    if (c->parse != P_HEAD)
        return 0;
    header_at *h = &r->headers[r->n_headers - 1];
    if (!r->in_value)
        h->value = offset_of(c, at);
    else if (h->value + h->n_value != offset_of(c, at)) /* folded over two lines: obsolete, and a way to smuggle */
        return refuse_from_parser(c, 400, "a header is folded over several lines");
    r->in_value = true;
    h->n_value += (uint32_t)n;
    return 0;
}

/* Heads without a body run on to on_message_complete; the others stop here, for the route decides about the body. */
static int on_head(llhttp_t *p)
{
    sv_conn *c = conn_of(p);
    sv_req *r = c->req;
    r->method = p->method;
    r->http10 = p->http_minor == 0;
    r->wants_keep = llhttp_should_keep_alive(p);
    r->body_declared = p->flags & F_CHUNKED ? UINT64_MAX : p->content_length;
    if (p->flags & F_TRANSFER_ENCODING && !(p->flags & F_CHUNKED))
        return refuse_from_parser(c, 501, "a transfer coding other than chunked");
    p->upgrade = 0; /* whoever speaks another protocol takes the socket away; until then it is HTTP */
    c->parse = P_BODY;
    c->head_done = true;
    if (p->method == HTTP_CONNECT) {
        r->body_declared = 0;
        return 1;
    }
    return r->body_declared > 0 ? HPE_PAUSED : 0;
}

static void collect(sv_conn *c, sv_req *r, const char *at, size_t n)
{
    size_t limit = r->match.entry->route.max_body;
    r->n_body += n;
    if (r->n_body > (limit ? limit : DROP_MAX))
        r->too_large = true;
    if (r->too_large || limit == 0)
        return;
    bool in_place = at >= c->in.p && at < c->in.p + c->in.n;
    if (in_place && r->n_body == n && n == r->body_declared) /* the usual small body: all of it lies there already */
        r->body_view = (sv_str){at, n};
    else if (!sv_buf_add(&r->body, at, n))
        c->broken = true;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    sv_conn *c = conn_of(p);
    sv_req *r = c->req;
    if (n == 0) /* a look for the end after a pause; to a handler it would be the end */
        return 0;
    if (!r->live || r->drop_body) {
        c->n_skip += n;
        return 0;
    }
    if (r->collect) {
        collect(c, r, at, n);
        return 0;
    }
    r->n_body += n;
    c->body_progress = true;
    const sv_route *route = &r->match.entry->route;
    if (route->max_body && r->n_body > route->max_body) { /* chunked, or the head would have said it */
        c->cut = true;
        return HPE_PAUSED;
    }
    r->on_body(r, at, n, r->on_body_arg);
    return r->live && !r->body_paused ? 0 : HPE_PAUSED;
}

static int on_message(llhttp_t *p)
{
    sv_conn *c = conn_of(p);
    c->parse = P_DONE;
    return HPE_PAUSED;
}

const llhttp_settings_t sv_conn_parser_settings = {
    .on_url = on_url, .on_header_field = on_field, .on_header_field_complete = on_field_complete, .on_header_value = on_value,
    .on_headers_complete = on_head, .on_body = on_body, .on_message_complete = on_message,
};

/* ---- from head to handler ---- */

static void run_handler(sv_req *r)
{
    const sv_entry *e = r->match.entry;
    r->handled = true;
    if (!(e->route.flags & SV_ROUTE_JOB))
        e->route.fn(r, e->ctx);
    else if (!sv_http_job_start(r))
        sv_req_send(r, 503, "text/plain; charset=utf-8", SV_STR("too busy, try again"));
}

static void send_too_large(sv_req *r)
{
    char text[96];
    size_t limit = r->match.entry->route.max_body;
    snprintf(text, sizeof text, "the body is over %zu bytes", limit ? limit : (size_t)DROP_MAX);
    r->handled = true;
    sv_req_send(r, 413, "text/plain; charset=utf-8", sv_str_of(text));
}

static void send_allow(sv_req *r)
{
    char allow[512];
    size_t n = 0;
    allow[0] = '\0';
    for (int m = 0; m < 64 && n < sizeof allow - 32; m++)
        if (r->match.allow >> m & 1)
            n += (size_t)snprintf(allow + n, sizeof allow - n, "%s%s", n ? ", " : "", llhttp_method_name((llhttp_method_t)m));
    sv_req_add_header(r, "Allow", allow);
    sv_req_send(r, 405, "text/plain; charset=utf-8", SV_STR("method not allowed"));
}

static void no_route(sv_conn *c, sv_req *r)
{
    sv_http *s = c->s;
    r->drop_body = r->handled = true;
    if (r->method == HTTP_CONNECT) {
        c->last = true;
        sv_req_send(r, 501, "text/plain; charset=utf-8", SV_STR("CONNECT is not served here"));
    } else if (s->o.not_found) {
        s->o.not_found(r, s->o.ctx);
    } else if (r->match.allow) {
        send_allow(r);
    } else {
        sv_req_send(r, 404, "text/plain; charset=utf-8", SV_STR("not found"));
    }
}

static void begin_collecting(sv_conn *c, sv_req *r, const sv_route *route)
{
    size_t limit = route->max_body ? route->max_body : DROP_MAX;
    r->collect = true;
    r->body.max = limit + 1;
    if (r->body_declared != UINT64_MAX && r->body_declared > limit) {
        r->too_large = true;
        if (!(route->flags & SV_ROUTE_DRAIN_FIRST) || r->expect) {
            r->collect = false;
            r->drop_body = true;
            send_too_large(r);
            return;
        }
    }
    if (r->expect && unread(c) == 0)
        sv_conn_put(c, SV_CONTINUE, sizeof SV_CONTINUE - 1);
    r->expect = false;
}

static bool head_is_sound(sv_conn *c, sv_req *r)
{
    int n_host = 0;
    if (c->parser.http_major != 1)
        sv_conn_refuse(c, 505, "HTTP/1.0 and HTTP/1.1 are served here");
    else if (!sv_req_head_done(r))
        sv_conn_refuse(c, 400, "the request target does not begin with '/'");
    for (int i = 0; i < r->n_headers; i++)
        n_host += r->headers[i].n_name == 4 && strncasecmp(r->base + r->headers[i].name, "host", 4) == 0;
    /* A proxy's clients may leave Host out: the target names it. */
    if (!c->last && (n_host > 1 || (n_host == 0 && !r->http10 && !c->s->o.proxy)))
        sv_conn_refuse(c, 400, n_host ? "two Host headers" : "no Host header");
    return !c->last;
}

static void dispatch(sv_conn *c)
{
    sv_req *r = c->req;
    sv_http *s = c->s;
    c->head_done = false;
    c->n_heads++;
    r->c = c;
    r->base = c->in.p + c->head_start;
    r->listener = c->listener;
    if (!head_is_sound(c, r))
        return;
    r->live = true;
    s->stats.n_requests++;
    r->expect = !r->http10 && r->body_declared > 0 && c->parse == P_BODY && sv_str_ieq(sv_req_header(r, "expect"), "100-continue");

    sv_str prefix = s->o.prefix ? s->o.prefix(r, s->o.ctx) : (sv_str){NULL, 0};
    sv_router_find(s->router, r->method, prefix, r->path, &r->match);
    if (s->o.before && !s->o.before(r, s->o.ctx)) {
        r->drop_body = r->handled = true;
        return;
    }
    const sv_entry *e = r->match.entry;
    if (!e) {
        no_route(c, r);
    } else if (e->route.flags & SV_ROUTE_STREAM) {
        if (e->route.max_body && r->body_declared != UINT64_MAX && r->body_declared > e->route.max_body) {
            r->drop_body = true;
            send_too_large(r);
        } else {
            run_handler(r);
        }
    } else if (c->parse == P_DONE) {
        run_handler(r);
    } else {
        begin_collecting(c, r, &e->route);
    }
}

/* The request is answered and its bytes are read: the next one may begin behind it. */
static void next_request(sv_conn *c)
{
    bool keep = c->keep_alive;
    sv_req_reset(c->req);
    c->parse = P_HEAD;
    c->n_skip = 0;
    if (c->in.pos == c->in.n) { /* what is left, if anything, is in `more` */
        byte_buf old = c->in;
        c->in = c->more;
        c->more = (byte_buf){0};
        if (c->in.pos == c->in.n) {
            buf_free(&c->in);
            if (old.cap == IN_FIRST) {
                c->in = old;
                c->in.pos = c->in.n = 0;
            }
        }
        if (c->in.p != old.p)
            free(old.p);
    }
    c->head_start = c->in.pos;
    if (!keep)
        c->last = true;
}

static void parse_failed(sv_conn *c, llhttp_errno_t e)
{
    sv_req *r = c->req;
    if (c->refuse_status) {
        sv_conn_refuse(c, c->refuse_status, c->refuse_text);
        return;
    }
    if (c->parse == P_HEAD) {
        char text[96];
        snprintf(text, sizeof text, "not HTTP: %s", llhttp_errno_name(e));
        sv_conn_refuse(c, e == HPE_INVALID_VERSION ? 505 : 400, text);
    } else if (r->live && !r->handled) {
        r->handled = r->drop_body = c->last = c->unread_end = true;
        sv_req_send(r, 400, "text/plain; charset=utf-8", SV_STR("the body's chunks are broken"));
    } else if (r->live) {
        c->cut = true;
    } else {
        c->last = c->unread_end = true;
    }
}

/* Hands the bytes at hand to the parser, as far as it goes without stopping. */
static void execute(sv_conn *c)
{
    byte_buf *b = c->in.pos < c->in.n ? &c->in : &c->more;
    const char *from = b->p ? b->p + b->pos : "";
    llhttp_errno_t e = llhttp_execute(&c->parser, from, b->n - b->pos);
    if (e == HPE_OK) {
        b->pos = b->n;
    } else {
        const char *at = llhttp_get_error_pos(&c->parser);
        b->pos = at >= from && at <= b->p + b->n ? (size_t)(at - b->p) : b->n;
    }
    size_t head = c->in.pos - c->head_start;
    bool in_head = c->parse == P_HEAD || c->head_done;
    c->owes = e == HPE_PAUSED && c->parse == P_BODY && unread(c) == 0;
    if (e == HPE_PAUSED)
        llhttp_resume(&c->parser);
    else if (e != HPE_OK)
        parse_failed(c, e);
    if (!c->last && in_head && head > c->s->o.max_head)
        sv_conn_refuse(c, 431, "the head of the request is too large");
    else if (!c->last && c->head_done)
        dispatch(c);
    if (c->more.pos == c->more.n) {
        c->more.pos = c->more.n = 0;
        if (c->parse == P_DONE) /* the answer may take long */
            buf_free(&c->more);
    }
}

static bool is_streaming(const sv_req *r) { return r->live && !r->collect && !r->drop_body; }

static bool stream_waits(const sv_req *r) { return is_streaming(r) && (!r->on_body || r->body_paused); }

/* What becomes of the body's end: the handler of a collected one, the n == 0 call of a streamed one. */
static void body_ended(sv_req *r)
{
    if (r->collect && !r->handled) {
        if (r->too_large)
            send_too_large(r);
        else
            run_handler(r);
    } else if (is_streaming(r) && r->on_body && !r->body_paused && !r->body_end_told) {
        r->body_end_told = true;
        r->on_body(r, "", 0, r->on_body_arg);
    }
}

static void parse(sv_conn *c)
{
    sv_req *r = c->req;
    while (!c->broken && !c->cut && !c->lingering) {
        if (c->parse == P_DONE && r->live)
            body_ended(r);
        if (c->parse == P_DONE) {
            if (r->live)
                return;
            next_request(c);
        }
        if (c->ending && c->parse == P_HEAD) { /* what it would say its listener is may be gone */
            c->last = true;
            c->unread_end = c->in.n > c->head_start;
        }
        if (!r->live && c->parse == P_BODY && !c->keep_alive)
            c->last = c->unread_end = true;
        if (c->last && !(r->live && c->parse == P_BODY))
            return;
        if (c->parse == P_HEAD && waiting(c) > OUT_HIGH)
            return;
        if (c->parse == P_BODY && (stream_waits(r) || c->n_skip > DROP_MAX)) {
            if (!r->live)
                c->last = c->unread_end = true;
            return;
        }
        if (r->live && r->collect && r->too_large && !(r->match.entry->route.flags & SV_ROUTE_DRAIN_FIRST)) {
            r->collect = false;
            r->drop_body = true;
            send_too_large(r);
            continue;
        }
        if (unread(c) == 0 && !c->owes)
            return;
        execute(c);
    }
}

/* ---- reading ---- */

static bool wants_bytes(const sv_conn *c)
{
    const sv_req *r = c->req;
    if (c->lingering)
        return true;
    if (c->last || c->cut || c->broken || c->eof || c->parse == P_DONE || unread(c) > 0)
        return false;
    if (c->parse == P_HEAD)
        return waiting(c) <= OUT_HIGH;
    return !stream_waits(r) && c->n_skip <= DROP_MAX;
}

/* Room for bytes of a head: behind what is there, after moving a head that has begun to the buffer's front. */
static bool room_for_head(sv_conn *c)
{
    byte_buf *b = &c->in;
    if (c->head_start > 0 && b->cap - b->n < IN_FIRST / 4) {
        memmove(b->p, b->p + c->head_start, b->n - c->head_start);
        b->pos -= c->head_start;
        b->n -= c->head_start;
        c->head_start = 0;
    }
    if (b->n < b->cap)
        return true;
    size_t cap = b->cap ? b->cap * 2 : IN_FIRST, most = c->s->o.max_head + IN_FIRST;
    if (cap > most)
        cap = most > b->n ? most : b->n + IN_FIRST;
    char *p = sv_try_realloc(b->p, cap, 1);
    if (!p)
        return false;
    b->p = p;
    b->cap = cap;
    return true;
}

static bool room_for_body(sv_conn *c)
{
    byte_buf *b = &c->more;
    if (!b->p) {
        *b = (byte_buf){.p = sv_try_realloc(NULL, BODY_CHUNK, 1), .cap = BODY_CHUNK};
        if (!b->p)
            b->cap = 0;
    }
    return b->n < b->cap;
}

static void at_eof(sv_conn *c)
{
    c->eof = true;
    if (c->lingering || c->parse != P_HEAD || c->in.n > c->head_start)
        c->broken = true; /* it left in the middle, or has got what it waited for */
    else
        c->last = true;
}

static void drop_some(sv_conn *c)
{
    char sink[16 << 10];
    ssize_t n = recv(c->fd, sink, sizeof sink, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && failed_for_good(c)))
        c->broken = true;
}

/* One read; false: no more is to be had now. */
static bool fill(sv_conn *c)
{
    if (c->lingering) {
        drop_some(c);
        return false;
    }
    byte_buf *b = c->parse == P_HEAD ? &c->in : &c->more;
    if (!(c->parse == P_HEAD ? room_for_head(c) : room_for_body(c))) {
        c->broken = true;
        return false;
    }
    size_t room = b->cap - b->n;
    ssize_t n = recv(c->fd, b->p + b->n, room, MSG_DONTWAIT);
    if (n < 0) {
        failed_for_good(c);
        return false;
    }
    if (n == 0) {
        at_eof(c);
        return false;
    }
    b->n += (size_t)n;
    c->s->stats.n_bytes_in += n;
    c->got_bytes = true;
    return (size_t)n == room;
}

/* ---- time limits ---- */

enum { DUE_NONE, DUE_IDLE, DUE_HEAD, DUE_BODY, DUE_STREAM, DUE_SKIP, DUE_LINGER };

static int waits_for(const sv_conn *c)
{
    const sv_req *r = c->req;
    if (c->lingering)
        return DUE_LINGER;
    if (c->parse == P_HEAD && waiting(c) == 0)
        return c->in.n > c->head_start ? DUE_HEAD : DUE_IDLE;
    if (c->parse != P_BODY)
        return DUE_NONE;
    if (!r->live || r->drop_body)
        return r->live && c->n_skip > DROP_MAX ? DUE_NONE : DUE_SKIP;
    return r->collect ? DUE_BODY : stream_waits(r) ? DUE_NONE : DUE_STREAM;
}

static int64_t limit_of(const sv_conn *c, int kind)
{
    const sv_http_opts *o = &c->s->o;
    switch (kind) {
    case DUE_IDLE: return o->idle_timeout_ms;
    case DUE_HEAD: return o->head_timeout_ms;
    case DUE_LINGER: return LINGER_MS;
    case DUE_SKIP: return o->head_timeout_ms;
    default: break;
    }
    const sv_route *route = &c->req->match.entry->route;
    if (route->body_timeout_ms)
        return route->body_timeout_ms;
    return 60000 + (kind == DUE_BODY ? (int64_t)(route->max_body / (64 << 10)) * 1000 : 0);
}

/* A limit runs from when its kind began for this head, a stream's from its last piece. */
static void set_timer(sv_conn *c)
{
    int kind = waits_for(c);
    uint64_t key = c->n_heads << 3 | (unsigned)kind;
    int64_t now = sv_loop_now_ms(c->s->loop);
    if (kind == DUE_NONE)
        c->read_due_ms = 0;
    else if (key != c->due_key || (kind == DUE_STREAM && c->body_progress))
        c->read_due_ms = now + limit_of(c, kind);
    c->due_key = key;
    c->body_progress = false;

    int64_t due = c->read_due_ms;
    if (c->write_due_ms && (!due || c->write_due_ms < due))
        due = c->write_due_ms;
    if (due && (!c->armed_ms || due < c->armed_ms)) {
        c->armed_ms = due;
        sv_timer_set(c->timer, due > now ? due - now : 0);
    }
}

static void read_expired(sv_conn *c)
{
    sv_req *r = c->req;
    c->read_due_ms = 0;
    switch (waits_for(c)) {
    case DUE_HEAD:
        sv_conn_refuse(c, 408, "the head of the request took too long");
        break;
    case DUE_BODY:
        r->handled = r->drop_body = c->last = c->unread_end = true;
        r->collect = false;
        sv_req_send(r, 408, "text/plain; charset=utf-8", SV_STR("the body of the request took too long"));
        break;
    case DUE_STREAM:
        c->cut = true;
        break;
    default:
        c->broken = true;
    }
}

void sv_conn_on_timer(void *arg)
{
    sv_conn *c = arg;
    int64_t now = sv_loop_now_ms(c->s->loop);
    c->armed_ms = 0;
    if (c->write_due_ms && now >= c->write_due_ms)
        c->broken = true;
    else if (c->read_due_ms && now >= c->read_due_ms)
        read_expired(c);
    sv_conn_run(c);
}

/* ---- the turn of a connection ---- */

void sv_conn_close(sv_conn *c)
{
    sv_http *s = c->s;
    sv_req *r = c->req;
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    sv_watch_remove(c->watch);
    sv_timer_free(c->timer);
    if (c->fd >= 0) {
        if (c->cut && c->reset_on_cut)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        close(c->fd);
    }
    c->fd = -1;
    c->broken = true;
    if (r->live && r->in_job) { /* the job reads the head and the body; it gets them for good */
        r->c = NULL;
        r->owned_head = SV_TAKE(c->in.p);
    } else {
        if (r->live)
            sv_req_gone(r);
        sv_req_free(r);
    }
    free(c->in.p);
    free(c->more.p);
    free(c->out.p);
    s->stats.n_connections--;
    if (c->touched)
        c->zombie = true; /* the list of touched ones frees it */
    else
        free(c);
    sv_http_conn_gone(s);
}

/* Where every turn ends: the connection closes, or says what it waits for. */
static void settle(sv_conn *c)
{
    if (c->gone || c->broken || c->cut) {
        sv_conn_close(c);
        return;
    }
    if (c->last && !c->req->live && waiting(c) == 0 && !c->lingering) {
        if (!c->unread_end || c->eof) {
            sv_conn_close(c);
            return;
        }
        shutdown(c->fd, SHUT_WR);
        c->lingering = true;
    }
    if ((c->s->draining || c->ending) && sv_conn_idle(c)) {
        sv_conn_close(c);
        return;
    }
    uint32_t events = (wants_bytes(c) ? EPOLLIN : 0) | (c->half_closed ? 0 : EPOLLRDHUP) | (waiting(c) ? EPOLLOUT : 0);
    if (events != c->events)
        sv_watch_set(c->watch, c->events = events);
    set_timer(c);
}

/* All is written: a producer that has stopped may go on. */
static bool tell_drained(sv_conn *c)
{
    sv_req *r = c->req;
    if (!c->wrote || waiting(c) > 0 || !r->live)
        return false;
    c->wrote = false;
    if (!r->on_drain)
        return false;
    r->on_drain(r, r->on_drain_arg);
    return true;
}

/* parse() stopped for a reason that a flush or a handler has just taken away. */
static bool can_parse_on(const sv_conn *c)
{
    if (c->broken || c->cut || c->lingering)
        return false;
    if (c->parse == P_DONE)
        return !c->req->live;
    return c->parse == P_HEAD && !c->last && unread(c) > 0 && waiting(c) <= OUT_HIGH;
}

static void run(sv_conn *c, bool may_read)
{
    int reads = READS_A_TURN;
    c->busy = true;
    for (int round = 0; round < ROUNDS_A_TURN; round++) {
        parse(c);
        if (may_read && wants_bytes(c)) {
            may_read = fill(c) && --reads > 0;
            if (c->got_bytes) {
                c->got_bytes = false;
                continue;
            }
        }
        if (!sv_conn_flush(c) || !(tell_drained(c) || can_parse_on(c)))
            break;
    }
    if (!c->broken)
        sv_conn_flush(c);
    c->busy = false;
    if (!c->broken && c->wrote && waiting(c) == 0 && c->req->live && c->req->on_drain)
        sv_http_touch(c); /* a producer that always has more: the others' turn first */
    settle(c);
}

void sv_conn_run(sv_conn *c) { run(c, false); }

/* The sending side of the peer is shut while we do not read. On TCP that means gone where an answer is pending, and where a
 * paused body cannot become whole any more from what the kernel holds. */
static bool shut_means_gone(const sv_conn *c)
{
    const sv_req *r = c->req;
    int in_kernel = 0;
    if (!c->tcp || !r->live)
        return false;
    if (c->parse == P_DONE)
        return true;
    if (c->parse != P_BODY || r->body_declared == UINT64_MAX || ioctl(c->fd, FIONREAD, &in_kernel) != 0)
        return false;
    return r->n_body + c->n_skip + unread(c) + (uint64_t)in_kernel < r->body_declared;
}

void sv_conn_on_event(void *arg, int fd, uint32_t events)
{
    sv_conn *c = arg;
    (void)fd;
    if (events & (EPOLLHUP | EPOLLERR))
        c->gone = true;
    if (events & EPOLLRDHUP && !wants_bytes(c)) {
        if (shut_means_gone(c))
            c->gone = true;
        else
            c->half_closed = true;
    }
    run(c, events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) && !(c->half_closed && c->eof));
}
