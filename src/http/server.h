/* server.h - HTTP/1.1 server on an sv_loop and llhttp: routes, streamed bodies both ways, SSE, own reason phrases
 *
 * Threads: a server, its connections, requests and arenas belong to the loop's thread; everything here is called there,
 * except the handlers of SV_ROUTE_JOB, which run in the job pool: they read the request, use its arena, add headers and give
 * one whole answer. Free the job pool before the server, or let the jobs end: a job keeps only its own request alive.
 *
 * Life of a request: head parsed -> route found -> [body collected, or streamed to on_body] -> handler ->
 * answer now or later -> response written -> the arena and the request are gone. A handler that answers later keeps the
 * sv_req pointer until it has called sv_req_end (or one of the whole-answer calls), or until on_close was called:
 * on_close fires exactly once if the client leaves or the server gives up before the answer is complete; after it
 * the pointer is dead. So: cancel in on_close, never touch the request after it. No call of this header calls a handler
 * back: on_body, on_drain and on_close come from the loop. A TCP client that only shuts its sending side while its answer
 * waits counts as gone (the kernel cannot tell); on unix sockets it gets its answer. */
#ifndef SV_HTTP_SERVER_H
#define SV_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/str.h"
#include "base/thread.h"

typedef struct sv_http sv_http; /* a server: routes, limits, listeners, connections */
typedef struct sv_req sv_req;   /* one request and its answer */

typedef void (*sv_handler)(sv_req *req, void *ctx);

enum {
    SV_ROUTE_STREAM = 1,      /* the handler is called at the end of the head; it takes the body by sv_req_on_body */
    SV_ROUTE_JOB = 2,         /* the handler runs in the job pool, body collected; it must answer before it returns,
                               * with the whole-answer calls only (they hand the answer to the loop) */
    SV_ROUTE_DRAIN_FIRST = 4, /* over max_body: read and drop the rest before the 413 (workerd needs it) */
};

/* path: literal segments, ":name" one segment, "*name" the rest (with its slashes, at least one character).
 * Segments are matched raw, before percent-decoding: "%2F" never separates. A trailing slash is ignored.
 * HEAD finds the route of GET where it has none of its own; "*" does not stand for CONNECT. The path of CONNECT is its
 * authority, which no route can name yet: it gets 501.
 * Most specific first: literal before ":name" before "*name", whatever the order of registration. */
typedef struct sv_route {
    const char *method; /* "GET", ...; "*" for every method */
    const char *path;
    sv_handler fn;
    size_t max_body; /* bytes; 0: no body expected, one of up to 64 KiB is read and dropped; stream routes: 0 is no limit,
                      * over it 413, or for a chunked body that shows it late, on_close */
    int flags;
    int64_t body_timeout_ms; /* whole body must have come by then, then 408; 0: 60 s + 1 s for each 64 KiB of max_body.
                              * Stream routes: the longest wait for a piece while not paused, then on_close; 0: 60 s */
} sv_route;

typedef struct sv_http_opts {
    size_t max_head;           /* request line and headers; 0: 64 KiB; over it 431 */
    int64_t head_timeout_ms;   /* first byte to end of head; 0: 10 s; then 408 and close */
    int64_t idle_timeout_ms;   /* keep-alive wait; 0: 75 s */
    int64_t write_timeout_ms;  /* no progress of the answer; 0: 60 s; then close */
    size_t max_connections;    /* 0: 10,000; over it accept waits */
    sv_jobs *jobs;             /* for SV_ROUTE_JOB; borrowed */
    sv_handler not_found;      /* also where the path exists under another method; NULL: plain 404, or 405 with Allow */
    /* Asked for every request before its route's handler, head only (auth, request ids). false: it has answered. */
    bool (*before)(sv_req *req, void *ctx);
    void (*after)(sv_req *req, void *ctx); /* the answer is complete or cut: metrics, access log */
    /* Asked at the head, before the route is looked up: a word that stands in front of the path in the look-up, so that
     * "/run" with prefix "ai" finds the route "/ai/run" (literal or ":name"). Borrowed until the request ends; empty: none. */
    sv_str (*prefix)(sv_req *req, void *ctx);
    /* Accept absolute-form targets ("GET http://host/x"): the path is the URL's, sv_req_target is the whole URL. Host may
     * then be missing; without `proxy` both are answered 400. */
    bool proxy;
    void *ctx;                 /* for before, after, not_found, prefix */
} sv_http_opts;

sv_http *sv_http_new(sv_loop *loop, const sv_http_opts *opts);
void sv_http_route(sv_http *s, const sv_route *route, void *ctx); /* route copied, strings borrowed for ever */
/* Takes a listening, non-blocking fd (owned from now on). `listener` is handed back by sv_req_listener: identity by
 * the socket a call arrived on. Returns a handle for sv_http_unlisten. */
typedef struct sv_listener sv_listener;
sv_listener *sv_http_listen(sv_http *s, int fd, void *listener);
/* Closes the fd; its open connections begin no further request. Those under way keep the pointer that sv_req_listener gives: what it points
 * to may go now only if their handlers have taken what they need of it (in `before`, say). */
void sv_http_unlisten(sv_listener *l);
/* Stops accepting, lets requests in progress end, closes idle connections; done_fn is called once nothing is left or after
 * deadline_ms, when the rest was cut. */
void sv_http_drain(sv_http *s, int64_t deadline_ms, void (*done_fn)(void *), void *arg);
sv_http *sv_http_free(sv_http *s);

/* Open connections now; requests and bytes since the start. */
typedef struct sv_http_stats { int64_t n_connections, n_requests, n_bytes_in, n_bytes_out; } sv_http_stats;
sv_http_stats sv_http_get_stats(const sv_http *s);

/* The request. Views are borrowed until it ends. */
sv_arena *sv_req_arena(sv_req *r);
sv_loop *sv_req_loop(sv_req *r);
const char *sv_req_method(const sv_req *r);          /* "GET" */
sv_str sv_req_path(const sv_req *r);                 /* raw, without query */
sv_str sv_req_target(const sv_req *r);               /* raw request target */
sv_str sv_req_header(const sv_req *r, const char *name); /* the last of that name, trimmed; {NULL, 0} if absent */
int sv_req_n_headers(const sv_req *r);
void sv_req_header_at(const sv_req *r, int i, sv_str *name, sv_str *value);
sv_str sv_req_param_raw(const sv_req *r, const char *name);            /* path parameter as sent */
SV_MUST sv_rc sv_req_param(sv_req *r, const char *name, sv_str *out, sv_err *err); /* percent-decoded */
/* Query parameter, form-decoded: the i-th of that name. false: absent (or a broken escape). */
bool sv_req_query(sv_req *r, const char *name, int i, sv_str *out);
sv_str sv_req_body(const sv_req *r);                 /* collected body; empty on stream routes */
void *sv_req_listener(const sv_req *r);
const char *sv_req_id(const sv_req *r);              /* 32 hex digits, made at the head */
void *sv_req_user(const sv_req *r);                  /* for `before` to leave what it found (the account) */
void sv_req_set_user(sv_req *r, void *user);
int sv_req_status(const sv_req *r);                  /* 0 before the answer */

/* Body, stream routes: on_body gets pieces (n > 0) and then once n == 0 at the end. Pause stops reading the socket:
 * back-pressure reaches the sender. */
typedef void (*sv_body_fn)(sv_req *r, const char *p, size_t n, void *arg);
void sv_req_on_body(sv_req *r, sv_body_fn fn, void *arg);
void sv_req_pause_body(sv_req *r, bool pause);

/* The answer, piece by piece (loop thread only). Head first: own reason phrase or NULL for the standard one. */
/* Copied; CR, LF and NUL become spaces. Content-Length, Transfer-Encoding, Connection and Keep-Alive are the server's own
 * and dropped here; Date is the handler's if it gives one. At most 256 KiB in all. */
void sv_req_add_header(sv_req *r, const char *name, const char *value);
void sv_req_begin(sv_req *r, int status, const char *reason, int64_t content_length); /* -1: chunked */
/* Queues bytes; they go out at the end of the loop's turn at the latest. Returns the bytes waiting in memory: a producer
 * over its own measure (say 256 KiB) stops and goes on in on_drain, which fires when all is written. */
size_t sv_req_write(sv_req *r, const void *p, size_t n);
void sv_req_on_drain(sv_req *r, void (*fn)(sv_req *r, void *arg), void *arg);
void sv_req_end(sv_req *r);   /* r is dead after it. Short of its content_length: the connection is cut */
void sv_req_abort(sv_req *r); /* cut the connection mid-answer; r is dead after it */
void sv_req_on_close(sv_req *r, void (*fn)(sv_req *r, void *arg), void *arg);
bool sv_req_begun(const sv_req *r);

/* Whole answers (loop thread or SV_ROUTE_JOB). r is dead after them. */
void sv_req_send(sv_req *r, int status, const char *content_type, sv_str body);
void sv_req_send_reason(sv_req *r, int status, const char *reason, const char *content_type, sv_str body);

/* Server-sent events: begin sends 200 text/event-stream with no-store and X-Accel-Buffering: no. */
void sv_sse_begin(sv_req *r);
size_t sv_sse_data(sv_req *r, sv_str json); /* one "data: ...\n\n" in one chunk; json has no line breaks */

/* Takes the connection away from HTTP (CONNECT, WebSocket): returns its fd, the bytes read beyond the head go to
 * `rest`. The fd is the caller's and still non-blocking; r is dead after it. -1: answers to earlier pipelined requests still
 * wait to be written, or the client has gone; r lives and wants an answer. */
int sv_req_hijack(sv_req *r, sv_buf *rest);

#endif
