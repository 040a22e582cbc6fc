/* outbound.c - streams one exchange between workerd and the world
 *
 * workerd sends the absolute URL (`style = proxy`), https included; TLS and names are libcurl's. Bodies stream both ways with back-pressure:
 * whichever side is slow stops the other. Redirects are workerd's to follow. connect() arrives as CONNECT without an identity header and has no
 * route here: it is refused.
 *
 *   exchange: SENDING --head of the answer--> ANSWERING --done--> gone
 *             either --client gone, or error--> gone (before the head: 502; after it: the connection is cut) */
#include "workers/outbound.h"

#include <stdio.h>
#include <strings.h>

#include "base/mem.h"

enum { MAX_WAITING = 256 << 10, MAX_HEADERS = 200 };

typedef struct exchange {
    sv_req *req;
    sv_fetch *fetch;
    int64_t content_length;
} exchange;

/* Of the hop or of our own wiring: not for the next server. */
static bool is_private(sv_str name)
{
    static const char *const names[] = {"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect",
                                        "proxy-connection", "proxy-authorization", NULL};
    for (int i = 0; names[i]; i++)
        if (sv_str_ieq(name, names[i]))
            return true;
    return name.n >= 5 && strncasecmp(name.p, "x-sv-", 5) == 0;
}

static void on_header(sv_fetch *f, sv_str name, sv_str value, void *arg)
{
    exchange *x = arg;
    (void)f;
    if (sv_str_ieq(name, "content-length"))
        sv_str_to_i64(sv_str_trim(value), &x->content_length);
    if (is_private(name))
        return;
    sv_arena *a = sv_req_arena(x->req);
    char *n = sv_arena_strndup(a, name.p, name.n), *v = sv_arena_strndup(a, value.p, value.n);
    if (n && v)
        sv_req_add_header(x->req, n, v);
}

static void on_head(sv_fetch *f, int status, sv_str reason, void *arg)
{
    exchange *x = arg;
    (void)f;
    char *text = reason.n ? sv_arena_strndup(sv_req_arena(x->req), reason.p, reason.n) : NULL;
    sv_req_begin(x->req, status, text, x->content_length);
}

static void on_data(sv_fetch *f, const char *p, size_t n, void *arg)
{
    exchange *x = arg;
    if (sv_req_write(x->req, p, n) > MAX_WAITING)
        sv_fetch_pause(f, true);
}

static void on_drain(sv_req *r, void *arg)
{
    exchange *x = arg;
    (void)r;
    sv_fetch_pause(x->fetch, false);
}

static void on_done(sv_fetch *f, sv_rc rc, const sv_err *err, void *arg)
{
    exchange *x = arg;
    sv_req *r = x->req;
    (void)f;
    sv_req_on_close(r, NULL, NULL);
    free(x);
    if (rc == SV_OK)
        sv_req_end(r);
    else if (sv_req_begun(r))
        sv_req_abort(r);
    else
        sv_req_send_reason(r, rc == SV_ETIMEDOUT ? 504 : 502, NULL, "text/plain; charset=utf-8", sv_str_of(err->msg));
}

static void on_close(sv_req *r, void *arg)
{
    exchange *x = arg;
    (void)r;
    sv_fetch_cancel(x->fetch);
    free(x);
}

static void on_writable(sv_fetch *f, void *arg)
{
    exchange *x = arg;
    (void)f;
    sv_req_pause_body(x->req, false);
}

static void on_body(sv_req *r, const char *p, size_t n, void *arg)
{
    exchange *x = arg;
    if (n == 0)
        sv_fetch_write_end(x->fetch);
    else if (sv_fetch_write(x->fetch, p, n) > MAX_WAITING)
        sv_req_pause_body(r, true);
}

static void fetch_for_worker(sv_req *r, void *ctx)
{
    sv_client *client = ctx;
    sv_arena *a = sv_req_arena(r);
    const char **headers = sv_arena_new(a, const char *, MAX_HEADERS + 1);
    int n = 0;
    for (int i = 0; headers && i < sv_req_n_headers(r) && n < MAX_HEADERS; i++) {
        sv_str name, value;
        sv_req_header_at(r, i, &name, &value);
        if (!is_private(name) && (headers[n] = sv_arena_printf(a, "%.*s: %.*s", (int)name.n, name.p, (int)value.n, value.p)))
            n++;
    }
    sv_str target = sv_req_target(r);
    char *url = sv_arena_strndup(a, target.p, target.n);
    if (!headers || !url || !(sv_str_starts(target, "http://") || sv_str_starts(target, "https://"))) {
        sv_req_send(r, 400, "text/plain; charset=utf-8", SV_STR("fetch() wants an http:// or https:// URL"));
        return;
    }
    bool has_body = sv_req_header(r, "content-length").p || sv_req_header(r, "transfer-encoding").p;
    exchange *x = sv_xnew0(exchange);
    *x = (exchange){.req = r, .content_length = -1};
    sv_fetch_opts o = {.method = sv_req_method(r), .url = url, .headers = headers, .stream_body = has_body, .public_only = true,
                       .on_head = on_head, .on_header = on_header, .on_data = on_data, .on_writable = on_writable, .on_done = on_done,
                       .arg = x};
    sv_err err = {0};
    if (sv_fetch_start(&x->fetch, client, &o, &err) != SV_OK) {
        free(x);
        sv_req_send(r, 502, "text/plain; charset=utf-8", sv_str_of(err.msg));
        return;
    }
    sv_req_on_close(r, on_close, x);
    sv_req_on_drain(r, on_drain, x);
    if (has_body)
        sv_req_on_body(r, on_body, x);
}

void sv_outbound_routes(sv_http *bindings, sv_client *client)
{
    static const sv_route routes[] = {
        {.method = "*", .path = "/net", .fn = fetch_for_worker, .flags = SV_ROUTE_STREAM},
        {.method = "*", .path = "/net/*rest", .fn = fetch_for_worker, .flags = SV_ROUTE_STREAM},
    };
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(bindings, &routes[i], client);
}
