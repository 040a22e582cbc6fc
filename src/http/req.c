/* req.c - what a handler sees of a request, and how its answer becomes bytes
 *
 * The head of a request is never copied: names and values are offsets into the connection's read buffer, which stays
 * where it is while the request lives. The arena is for what handlers make of it.
 *
 * The answer goes into the connection's write buffer and from there to the socket at the end of the turn (conn.c), so a
 * token stream costs one write(2) an event, and pipelined answers leave together. Only a large whole body is offered to
 * the kernel at once, before it would be copied.
 *
 * Framing is decided here alone: Content-Length, Transfer-Encoding and Connection of a handler are dropped, since two
 * opinions about where an answer ends are how responses get smuggled.
 *
 *     wanted            HTTP/1.1             HTTP/1.0                   HEAD, 1xx, 204, 304
 *     length known      Content-Length       Content-Length             no body is sent
 *     length unknown    chunked              until close                no body is sent
 *
 * An answer that ends short of its Content-Length cuts the connection: the client must not take it for whole. */
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/log.h"
#include "http/server_impl.h"

enum { MAX_EXTRA = 256 << 10, MAX_REASON = 512, COPY_MAX = 16 << 10, FIRST_HEADERS = 24 };

/* ---- life ---- */

sv_req *sv_req_new(sv_http *s)
{
    sv_req *r = sv_xnew0(sv_req);
    r->s = s;
    r->cap_headers = FIRST_HEADERS;
    r->headers = sv_xcalloc(FIRST_HEADERS, sizeof *r->headers);
    sv_buf_init(&r->extra, MAX_EXTRA);
    sv_buf_init(&r->body, 0);
    return r;
}

sv_req *sv_req_free(sv_req *r)
{
    if (!r)
        return NULL;
    sv_arena_free(r->arena);
    sv_buf_done(&r->extra);
    sv_buf_done(&r->body);
    free(r->job.reason);
    free(r->job.content_type);
    free(r->job.body);
    free(r->owned_head);
    free(r->headers);
    free(r);
    return NULL;
}

/* Ready for the next head. Small memory stays, for the connection's next request; large goes back. */
void sv_req_reset(sv_req *r)
{
    sv_req old = *r;
    if (old.arena)
        sv_arena_reset(old.arena);
    if (old.extra.cap > 4096)
        sv_buf_done(&old.extra);
    sv_buf_reset(&old.extra);
    if (old.body.cap > 16 << 10)
        sv_buf_done(&old.body);
    sv_buf_reset(&old.body);
    *r = (sv_req){.s = old.s, .c = old.c, .arena = old.arena, .headers = old.headers, .cap_headers = old.cap_headers,
                  .extra = old.extra, .body = old.body};
}

static uint64_t mixed(uint64_t x) /* the finisher of splitmix64: neighbours in, strangers out */
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* What follows the authority of an absolute URL; {NULL, 0} for other targets. An authority ends at '/', '?', '#' or the end. */
static sv_str behind_authority(sv_str url)
{
    size_t i = 0;
    while (i + 3 <= url.n && memcmp(url.p + i, "://", 3) != 0)
        i++;
    if (i == 0 || i + 3 > url.n)
        return (sv_str){NULL, 0};
    for (i += 3; i < url.n && url.p[i] != '/' && url.p[i] != '?' && url.p[i] != '#'; i++)
        ;
    return (sv_str){url.p + i, url.n - i};
}

bool sv_req_head_done(sv_req *r)
{
    uint64_t n = r->s->n_ids++;
    uint64_t id[2] = {mixed(r->s->id_key + n), mixed(~r->s->id_key ^ (n << 1))};
    sv_hex(r->id_hex, id, sizeof id);

    r->target = (sv_str){r->base + r->url, r->n_url};
    sv_str rest = r->target, tail = {NULL, 0};
    if (r->s->o.proxy && rest.n > 0 && rest.p[0] != '/' && r->method != HTTP_CONNECT)
        tail = behind_authority(rest);
    if (tail.p)
        rest = tail;
    else if (r->method != HTTP_CONNECT && !sv_str_is(rest, "*") && (rest.n == 0 || rest.p[0] != '/'))
        return false;
    if (tail.p && (rest.n == 0 || rest.p[0] != '/')) { /* "http://host?x" means "/?x" */
        r->path = SV_STR("/");
        r->query = rest.n > 0 && rest.p[0] == '?' ? (sv_str){rest.p + 1, rest.n - 1} : SV_STR("");
        return true;
    }
    const char *hash = memchr(rest.p, '#', rest.n);
    if (hash)
        rest.n = (size_t)(hash - rest.p);
    const char *q = memchr(rest.p, '?', rest.n);
    r->path = (sv_str){rest.p, q ? (size_t)(q - rest.p) : rest.n};
    r->query = q ? (sv_str){q + 1, rest.n - r->path.n - 1} : SV_STR("");
    return true;
}

static void tell_after(sv_req *r)
{
    if (r->s->o.after)
        r->s->o.after(r, r->s->o.ctx);
}

/* The answer is whole (or cut by us): the connection takes over from here. */
static void finish(sv_req *r)
{
    r->live = false;
    r->closing = true; /* `after` looks, it does not answer */
    tell_after(r);
    r->closing = false;
    sv_http_touch(r->c);
}

void sv_req_gone(sv_req *r)
{
    r->closing = true;
    void (*fn)(sv_req *, void *) = r->on_close;
    r->on_close = NULL;
    if (fn)
        fn(r, r->on_close_arg);
    tell_after(r);
    r->live = r->closing = false;
}

/* ---- reading ---- */

sv_arena *sv_req_arena(sv_req *r)
{
    if (!r->arena)
        r->arena = sv_arena_create(0);
    return r->arena;
}

sv_loop *sv_req_loop(sv_req *r) { return r->s->loop; }
const char *sv_req_method(const sv_req *r) { return llhttp_method_name((llhttp_method_t)r->method); }
sv_str sv_req_path(const sv_req *r) { return r->path; }
sv_str sv_req_target(const sv_req *r) { return r->target; }
int sv_req_n_headers(const sv_req *r) { return r->n_headers; }
void *sv_req_listener(const sv_req *r) { return r->listener; }
const char *sv_req_id(const sv_req *r) { return r->id_hex; }
void *sv_req_user(const sv_req *r) { return r->user; }
void sv_req_set_user(sv_req *r, void *user) { r->user = user; }
int sv_req_status(const sv_req *r) { return r->status; }
bool sv_req_begun(const sv_req *r) { return r->status != 0; }

void sv_req_header_at(const sv_req *r, int i, sv_str *name, sv_str *value)
{
    SV_ASSERT(i >= 0 && i < r->n_headers);
    const header_at *h = &r->headers[i];
    *name = (sv_str){r->base + h->name, h->n_name};
    *value = sv_str_trim((sv_str){r->base + h->value, h->n_value});
}

sv_str sv_req_header(const sv_req *r, const char *name)
{
    size_t n = strlen(name);
    for (int i = r->n_headers - 1; i >= 0; i--) {
        const header_at *h = &r->headers[i];
        if (h->n_name == n && strncasecmp(r->base + h->name, name, n) == 0)
            return sv_str_trim((sv_str){r->base + h->value, h->n_value});
    }
    return (sv_str){NULL, 0};
}

sv_str sv_req_param_raw(const sv_req *r, const char *name)
{
    const sv_entry *e = r->match.entry;
    for (int i = 0; e && i < e->n_params; i++)
        if (sv_str_is(e->names[i], name))
            return r->match.params[i];
    return (sv_str){NULL, 0};
}

sv_rc sv_req_param(sv_req *r, const char *name, sv_str *out, sv_err *err)
{
    sv_str raw = sv_req_param_raw(r, name);
    if (!raw.p)
        return sv_fail(err, SV_ENOENT, "no path parameter '%s'", name);
    if (!memchr(raw.p, '%', raw.n)) {
        *out = raw;
        return SV_OK;
    }
    if (sv_percent_decode(out, sv_req_arena(r), raw, err) != SV_OK)
        return sv_wrap(err, "path parameter '%s'", name);
    return SV_OK;
}

/* One side of "a=b" in its meaning; copies only where there is something to decode. */
static bool form_decoded(sv_req *r, sv_str in, sv_str *out)
{
    sv_err err = {0};
    if (!memchr(in.p, '%', in.n) && !memchr(in.p, '+', in.n)) {
        *out = in;
        return true;
    }
    return sv_form_decode(out, sv_req_arena(r), in, &err) == SV_OK;
}

bool sv_req_query(sv_req *r, const char *name, int i, sv_str *out)
{
    const char *p = r->query.p, *end = p + r->query.n;
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        const char *eq = memchr(p, '=', (size_t)(stop - p));
        sv_str key = {p, (size_t)((eq ? eq : stop) - p)}, value = eq ? (sv_str){eq + 1, (size_t)(stop - eq - 1)} : SV_STR("");
        p = amp ? amp + 1 : end;
        if (form_decoded(r, key, &key) && sv_str_is(key, name) && i-- == 0)
            return form_decoded(r, value, out);
    }
    return false;
}

sv_str sv_req_body(const sv_req *r)
{
    return r->body_view.p ? r->body_view : sv_buf_str(&r->body);
}

void sv_req_on_body(sv_req *r, sv_body_fn fn, void *arg)
{
    if (r->closing)
        return;
    r->on_body = fn;
    r->on_body_arg = arg;
    if (r->expect && r->c->parse == P_BODY && r->status == 0)
        sv_conn_put(r->c, SV_CONTINUE, sizeof SV_CONTINUE - 1);
    r->expect = false;
    sv_http_touch(r->c);
}

void sv_req_pause_body(sv_req *r, bool pause)
{
    if (r->closing || r->body_paused == pause)
        return;
    r->body_paused = pause;
    if (!pause)
        sv_http_touch(r->c);
}

void sv_req_on_drain(sv_req *r, void (*fn)(sv_req *, void *), void *arg)
{
    r->on_drain = fn;
    r->on_drain_arg = arg;
}

void sv_req_on_close(sv_req *r, void (*fn)(sv_req *, void *), void *arg)
{
    if (r->closing)
        return;
    r->on_close = fn;
    r->on_close_arg = arg;
}

/* ---- the answer ---- */

const char *sv_http_reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Payload Too Large";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 422: return "Unprocessable Entity";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    }
    static const char *const classes[] = {"Informational", "Success", "Redirect", "Client Error", "Server Error"};
    return status >= 100 && status < 600 ? classes[status / 100 - 1] : "Unknown";
}

static void add_clean(sv_buf *b, const char *p, size_t n)
{
    char *room = sv_buf_room(b, n);
    if (!room)
        return;
    for (size_t i = 0; i < n; i++)
        room[i] = p[i] == '\r' || p[i] == '\n' || p[i] == '\0' ? ' ' : p[i];
    b->n += n;
}

static bool is_framing(const char *name)
{
    return !strcasecmp(name, "content-length") || !strcasecmp(name, "transfer-encoding") || !strcasecmp(name, "connection") ||
           !strcasecmp(name, "keep-alive");
}

void sv_req_add_header(sv_req *r, const char *name, const char *value)
{
    size_t n_name = strlen(name), n_value = strlen(value);
    if (r->closing || r->status || is_framing(name) || r->extra.n + n_name + n_value + 4 > MAX_EXTRA)
        return;
    if (!strcasecmp(name, "date"))
        r->has_date = true;
    else if (!strcasecmp(name, "content-type"))
        r->has_type = true;
    add_clean(&r->extra, name, n_name);
    sv_buf_add(&r->extra, ": ", 2);
    add_clean(&r->extra, value, n_value);
    sv_buf_add(&r->extra, "\r\n", 2);
}

/* The client may send on only where we will have read all of this request's body. */
static bool may_keep_alive(const sv_req *r)
{
    const sv_conn *c = r->c;
    if (!r->wants_keep || r->s->draining || c->ending || c->last)
        return false;
    if (c->parse == P_DONE || r->on_body)
        return true;
    return !r->expect && (r->body_declared == UINT64_MAX || r->body_declared - r->n_body <= DROP_MAX);
}

static void write_head(sv_req *r, int status, const char *reason, int64_t length)
{
    sv_conn *c = r->c;
    sv_buf *b = &r->s->scratch;
    SV_ASSERT(status >= 100 && status <= 999 && r->status == 0);
    r->status = status;
    r->no_body = r->method == HTTP_HEAD || status < 200 || status == 204 || status == 304;
    r->chunked = length < 0 && !r->http10 && !r->no_body;
    r->left = length;
    c->keep_alive = may_keep_alive(r) && (length >= 0 || r->chunked || r->no_body);

    sv_buf_reset(b);
    const char digits[] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    sv_buf_add(b, "HTTP/1.1 ", 9);
    sv_buf_add(b, digits, sizeof digits);
    if (!reason)
        reason = sv_http_reason(status);
    add_clean(b, reason, strnlen(reason, MAX_REASON));
    sv_buf_add(b, "\r\n", 2);
    if (!r->has_date) {
        size_t n;
        const char *date = sv_http_date(r->s, &n);
        sv_buf_add(b, date, n);
    }
    sv_buf_add(b, r->extra.p, r->extra.n);
    if (r->chunked)
        sv_buf_add(b, "Transfer-Encoding: chunked\r\n", 28);
    else if (length >= 0 && status >= 200 && status != 204) {
        char text[48];
        int n = snprintf(text, sizeof text, "Content-Length: %lld\r\n", (long long)length);
        sv_buf_add(b, text, (size_t)n);
    }
    if (!c->keep_alive)
        sv_buf_add(b, "Connection: close\r\n", 19);
    else if (r->http10)
        sv_buf_add(b, "Connection: keep-alive\r\n", 24);
    sv_buf_add(b, "\r\n", 2);
    if (b->failed)
        c->broken = true;
    sv_conn_put(c, b->p, b->n);
    if (r->no_body)
        r->left = 0;
    sv_http_touch(c);
}

void sv_req_begin(sv_req *r, int status, const char *reason, int64_t content_length)
{
    if (r->closing)
        return;
    SV_ASSERT(!r->in_job);
    write_head(r, status, reason, content_length);
}

static size_t waiting(const sv_conn *c) { return c->out.n - c->out.pos; }

static void put_chunk(sv_conn *c, sv_str a, sv_str b, sv_str z)
{
    char head[24];
    int n = snprintf(head, sizeof head, "%zx\r\n", a.n + b.n + z.n);
    sv_conn_put(c, head, (size_t)n);
    sv_conn_put(c, a.p, a.n);
    sv_conn_put(c, b.p, b.n);
    sv_conn_put(c, z.p, z.n);
    sv_conn_put(c, "\r\n", 2);
}

static size_t write_pieces(sv_req *r, sv_str a, sv_str b, sv_str z)
{
    sv_conn *c = r->c;
    size_t n = a.n + b.n + z.n;
    if (n == 0 || r->no_body || c->broken)
        return waiting(c);
    if (r->chunked) {
        put_chunk(c, a, b, z);
    } else {
        if (r->left >= 0 && (uint64_t)r->left < n) { /* more than promised: what is over would be the next answer's head */
            a.n = a.n < (size_t)r->left ? a.n : (size_t)r->left;
            b.n = z.n = 0;
            c->keep_alive = false;
        }
        sv_conn_put(c, a.p, a.n);
        sv_conn_put(c, b.p, b.n);
        sv_conn_put(c, z.p, z.n);
        if (r->left >= 0)
            r->left -= (int64_t)(a.n + b.n + z.n);
    }
    c->wrote = true;
    if (waiting(c) > OUT_EAGER)
        sv_conn_flush(c);
    sv_http_touch(c);
    return waiting(c);
}

size_t sv_req_write(sv_req *r, const void *p, size_t n)
{
    if (r->closing)
        return 0;
    SV_ASSERT(r->status != 0);
    return write_pieces(r, (sv_str){p, n}, SV_STR(""), SV_STR(""));
}

void sv_req_end(sv_req *r)
{
    if (r->closing)
        return;
    SV_ASSERT(r->status != 0 && r->live && !r->in_job);
    if (r->chunked)
        sv_conn_put(r->c, "0\r\n\r\n", 5);
    else if (r->left > 0)
        r->c->cut = true;
    finish(r);
}

void sv_req_abort(sv_req *r)
{
    if (r->closing)
        return;
    SV_ASSERT(r->live && !r->in_job);
    r->c->cut = true;
    r->c->reset_on_cut = r->http10; /* its body ends where the connection does: only a reset tells the difference */
    finish(r);
}

/* On the job's thread: keeps the answer for the loop. */
static void keep_job_answer(sv_req *r, int status, const char *reason, const char *type, sv_str body)
{
    job_answer *j = &r->job;
    SV_ASSERT(!j->given);
    j->given = true;
    j->status = status;
    j->reason = reason ? sv_xstrndup(reason, strnlen(reason, MAX_REASON)) : NULL;
    j->content_type = type ? sv_xstrdup(type) : NULL;
    j->body = sv_try_calloc(body.n + 1, 1);
    if (!j->body) {
        j->status = 503;
        return;
    }
    memcpy(j->body, body.n ? body.p : "", body.n);
    j->n_body = body.n;
}

void sv_req_send_reason(sv_req *r, int status, const char *reason, const char *content_type, sv_str body)
{
    if (r->closing)
        return;
    if (r->in_job) {
        keep_job_answer(r, status, reason, content_type, body);
        return;
    }
    if (content_type && *content_type && !r->has_type)
        sv_req_add_header(r, "Content-Type", content_type);
    write_head(r, status, reason, (int64_t)body.n);
    if (!r->no_body && body.n > 0) {
        if (body.n > COPY_MAX)
            sv_conn_write_now(r->c, body.p, body.n);
        else
            sv_conn_put(r->c, body.p, body.n);
    }
    r->left = 0;
    finish(r);
}

void sv_req_send(sv_req *r, int status, const char *content_type, sv_str body)
{
    sv_req_send_reason(r, status, NULL, content_type, body);
}

void sv_req_job_answered(sv_req *r)
{
    job_answer j = r->job;
    r->in_job = false;
    r->job = (job_answer){0};
    SV_ASSERT(j.given);
    sv_req_send_reason(r, j.status, j.reason, j.content_type, (sv_str){j.body, j.n_body});
    free(j.reason);
    free(j.content_type);
    free(j.body);
}

/* ---- server-sent events ---- */

void sv_sse_begin(sv_req *r)
{
    sv_req_add_header(r, "Content-Type", "text/event-stream");
    sv_req_add_header(r, "Cache-Control", "no-store");
    sv_req_add_header(r, "X-Accel-Buffering", "no");
    sv_req_begin(r, 200, NULL, -1);
}

size_t sv_sse_data(sv_req *r, sv_str json)
{
    if (r->closing)
        return 0;
    SV_ASSERT(r->status != 0);
    return write_pieces(r, SV_STR("data: "), json, SV_STR("\n\n"));
}

/* ---- out of HTTP ---- */

int sv_req_hijack(sv_req *r, sv_buf *rest)
{
    sv_conn *c = r->c;
    if (r->closing || c->broken || !sv_conn_flush(c) || waiting(c) > 0)
        return -1;
    sv_buf_add(rest, c->in.p + c->in.pos, c->in.n - c->in.pos);
    if (c->more.n > c->more.pos)
        sv_buf_add(rest, c->more.p + c->more.pos, c->more.n - c->more.pos);
    int fd = c->fd;
    c->watch = sv_watch_remove(c->watch);
    c->fd = -1;
    c->broken = true;
    finish(r);
    return fd;
}
