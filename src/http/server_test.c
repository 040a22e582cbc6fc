/* server_test.c - conversations with a real server on a thread of its own, byte for byte where it matters
 *
 * The clients are plain sockets: nothing here trusts the code under test to know what HTTP is. */
#include "http/testing.h"

#include <sys/resource.h>

#define HOST "Host: t\r\n"
#define CLOSE "Connection: close\r\n"

/* What the loop's thread has seen. */
static _Atomic int n_closed, n_after, last_status, n_pieces, n_drained, job_may_end;
static sv_req *_Atomic kept;
static _Atomic size_t n_streamed, most_waiting;

static void reset_counters(void)
{
    n_closed = n_after = last_status = n_pieces = n_drained = job_may_end = 0;
    n_streamed = most_waiting = 0;
    kept = NULL;
}

static void after(sv_req *r, void *ctx)
{
    (void)ctx;
    last_status = sv_req_status(r);
    count(&n_after);
}

static void on_close(sv_req *r, void *arg)
{
    (void)arg;
    sv_req_end(r); /* wrong, and must be harmless */
    sv_req_on_close(r, on_close, NULL);
    count(&n_closed);
}

static void get_hello(sv_req *r, void *ctx) { (void)ctx, sv_req_send(r, 200, "text/plain", SV_STR("hello")); }

static void post_echo(sv_req *r, void *ctx) { (void)ctx, sv_req_send(r, 200, "application/octet-stream", sv_req_body(r)); }

/* Method, path, query, parameter and headers as the handler sees them. */
static void any_show(sv_req *r, void *ctx)
{
    (void)ctx;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_str s = {0};
    sv_err err = {0};
    sv_buf_init(&b, 1 << 20);
    s = sv_req_path(r);
    sv_buf_addf(&b, "%s %.*s from %s\n", sv_req_method(r), (int)s.n, s.p, (const char *)sv_req_listener(r));
    s = sv_req_target(r);
    sv_buf_addf(&b, "target=%.*s\n", (int)s.n, s.p);
    if (sv_req_param(r, "key", &s, &err) == SV_OK)
        sv_buf_addf(&b, "key=%.*s\n", (int)s.n, s.p);
    else
        sv_buf_addf(&b, "key: %s\n", err.msg);
    for (int i = 0; sv_req_query(r, "q", i, &s); i++)
        sv_buf_addf(&b, "q=%.*s\n", (int)s.n, s.p);
    for (int i = 0; i < sv_req_n_headers(r); i++) {
        sv_str name, value;
        sv_req_header_at(r, i, &name, &value);
        sv_buf_addf(&b, "%.*s=[%.*s]\n", (int)name.n, name.p, (int)value.n, value.p);
    }
    s = sv_req_header(r, "x-TWICE");
    sv_buf_addf(&b, "last x-twice=%.*s id=%zu\n", (int)s.n, s.n ? s.p : "", strlen(sv_req_id(r)));
    sv_req_send(r, 200, "text/plain", sv_buf_str(&b));
}

static void get_wait(sv_req *r, void *ctx) /* answers when the test says so */
{
    (void)ctx;
    sv_req_on_close(r, on_close, NULL);
    kept = r;
}

static void get_odd(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_add_header(r, "X-Split", "a\r\nSet-Cookie: b");
    sv_req_add_header(r, "Content-Length", "1");
    sv_req_add_header(r, "transfer-encoding", "gzip");
    sv_req_send_reason(r, 418, "I am\r\nInjected: 1", "text/plain", SV_STR("short and stout"));
}

static void get_short(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_begin(r, 200, NULL, 10);
    sv_req_write(r, "12345", 5);
    sv_req_end(r);
}

static void get_long(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_begin(r, 200, NULL, 5);
    sv_req_write(r, "123", 3);
    sv_req_write(r, "45\r\nHTTP/1.1 200 OK", 19);
    sv_req_end(r);
}

static void get_status(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str s = sv_req_param_raw(r, "code");
    int64_t code = 0;
    if (!sv_str_to_i64(s, &code))
        code = 400;
    sv_req_send(r, (int)code, "text/plain", SV_STR("body"));
}

static void get_events(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_sse_begin(r);
    sv_sse_data(r, SV_STR("{\"n\":1}"));
    sv_sse_data(r, SV_STR("[DONE]"));
    sv_req_end(r);
}

static void get_cut(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_begin(r, 200, NULL, -1);
    sv_req_write(r, "half", 4);
    sv_req_abort(r);
}

static void get_job(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str s;
    while (sv_req_query(r, "wait", 0, &s) && !job_may_end)
        usleep(1000);
    sv_req_add_header(r, "X-Job", "yes");
    s = sv_req_body(r);
    char *text = sv_arena_printf(sv_req_arena(r), "job of %zu bytes: %.*s", s.n, (int)(s.n > 20 ? 20 : s.n), s.p);
    sv_req_send(r, 200, "text/plain", sv_str_of(text));
}

static void count_piece(sv_req *r, const char *p, size_t n, void *arg)
{
    (void)p, (void)arg;
    if (n == 0) {
        char text[64];
        snprintf(text, sizeof text, "%zu bytes", (size_t)n_streamed);
        sv_req_send(r, 200, "text/plain", sv_str_of(text));
        return;
    }
    n_streamed += n;
    count(&n_pieces);
    if (kept == r)
        sv_req_pause_body(r, true);
}

static void put_stream(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str s;
    if (sv_req_query(r, "pause", 0, &s))
        kept = r;
    sv_req_on_close(r, on_close, NULL);
    if (sv_req_query(r, "refuse", 0, &s))
        sv_req_send(r, 403, "text/plain", SV_STR("no"));
    else
        sv_req_on_body(r, count_piece, NULL);
}

enum { FLOOD = 32 << 20, MEASURE = 256 << 10 };

/* Writes FLOOD bytes, as fast as on_drain lets it. */
static void pour(sv_req *r, void *arg)
{
    static char block[8192];
    size_t waiting = 0;
    if (arg)
        count(&n_drained);
    memset(block, 'f', sizeof block);
    while (waiting < MEASURE && n_streamed < FLOOD) {
        waiting = sv_req_write(r, block, sizeof block);
        n_streamed += sizeof block;
        if (waiting > most_waiting)
            most_waiting = waiting;
    }
    if (n_streamed == FLOOD)
        sv_req_end(r);
}

static void get_flood(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_on_close(r, on_close, NULL);
    sv_req_on_drain(r, pour, r);
    sv_req_begin(r, 200, NULL, FLOOD);
    pour(r, NULL);
}

static void any_hijack(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_buf rest;
    sv_buf_init(&rest, 0);
    int fd = sv_req_hijack(r, &rest);
    SV_ASSERT(fd >= 0);
    say(fd, "raw:");
    say_n(fd, rest.p ? rest.p : "", rest.n);
    close(fd);
    sv_buf_done(&rest);
}

static void get_big(sv_req *r, void *ctx)
{
    (void)ctx;
    size_t n = 8 << 20;
    char *p = malloc(n);
    SV_ASSERT(p);
    memset(p, 'g', n);
    sv_req_send(r, 200, NULL, (sv_str){p, n});
    free(p);
}

static const sv_route routes[] = {
    {.method = "GET", .path = "/", .fn = get_hello},
    {.method = "POST", .path = "/echo", .fn = post_echo, .max_body = 100000},
    {.method = "POST", .path = "/patient", .fn = post_echo, .max_body = 1000, .flags = SV_ROUTE_DRAIN_FIRST},
    {.method = "POST", .path = "/hasty", .fn = post_echo, .max_body = 100000, .body_timeout_ms = 100},
    {.method = "POST", .path = "/none", .fn = get_hello},
    {.method = "*", .path = "/show/:key", .fn = any_show},
    {.method = "GET", .path = "/wait", .fn = get_wait},
    {.method = "GET", .path = "/odd", .fn = get_odd},
    {.method = "GET", .path = "/short", .fn = get_short},
    {.method = "GET", .path = "/long", .fn = get_long},
    {.method = "GET", .path = "/status/:code", .fn = get_status},
    {.method = "GET", .path = "/events", .fn = get_events},
    {.method = "GET", .path = "/cut", .fn = get_cut},
    {.method = "GET", .path = "/big", .fn = get_big},
    {.method = "*", .path = "/job", .fn = get_job, .max_body = 100000, .flags = SV_ROUTE_JOB},
    {.method = "PUT", .path = "/stream", .fn = put_stream, .flags = SV_ROUTE_STREAM},
    {.method = "PUT", .path = "/stream/small", .fn = put_stream, .max_body = 100, .flags = SV_ROUTE_STREAM, .body_timeout_ms = 200},
    {.method = "GET", .path = "/flood", .fn = get_flood},
    {.method = "GET", .path = "/hijack", .fn = any_hijack},
};

static void start(world *w, const sv_http_opts *opts)
{
    sv_http_opts o = opts ? *opts : (sv_http_opts){0};
    reset_counters();
    o.after = after;
    world_start(w, &o, routes, SV_LEN(routes));
}

static void expect_answer(const world *w, const char *request, const char *first_line, const char *part)
{
    char *a = ask(w, request);
    if (strncmp(a, first_line, strlen(first_line)) != 0)
        fail_msg("'%s' does not begin with '%s'", a, first_line);
    if (part)
        assert_has(a, part);
    free(a);
}

/* ---- requests and answers ---- */

static void a_get_is_answered_with_date_and_length(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "GET / HTTP/1.1\r\n" HOST CLOSE "\r\n");
    assert_int_equal(strncmp(a, "HTTP/1.1 200 OK\r\nDate: ", 23), 0);
    assert_has(a, " GMT\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    free(a);
    world_stop(&w);
}

static void a_request_is_shown_as_it_was_sent(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "PURGE /show/a%2Fb%20c?q=1&Q=no&q=x+y%26z&%71=3&q HTTP/1.1\r\nHost:  t  \r\nX-Twice: one\r\nX-Empty:\r\nx-twice:\ttwo \r\n" CLOSE "\r\n");
    assert_has(a, "\r\n\r\nPURGE /show/a%2Fb%20c from tcp\ntarget=/show/a%2Fb%20c?q=1&Q=no&q=x+y%26z&%71=3&q\nkey=a/b c\nq=1\nq=x y&z\nq=3\nq=\n"
                  "Host=[t]\nX-Twice=[one]\nX-Empty=[]\nx-twice=[two]\nConnection=[close]\nlast x-twice=two id=32\n");
    free(a);
    a = ask(&w, "GET /show/%zz HTTP/1.1\r\n" HOST CLOSE "\r\n");
    assert_has(a, "key: path parameter 'key'");
    free(a);
    int fd = dial_unix(&w);
    say(fd, "GET /show/u HTTP/1.1\r\n" HOST CLOSE "\r\n");
    a = hear(fd, NULL);
    assert_has(a, "GET /show/u from unix\n");
    free(a);
    close(fd);
    world_stop(&w);
}

static void a_head_fed_byte_by_byte_reads_the_same(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    const char *request = "POST /show/slow?q=a HTTP/1.1\r\nHost: t\r\nX-Twice: 1\r\nX-Empty: \r\nx-twice: last one\r\nContent-Length: 4\r\n" CLOSE "\r\nbody";
    char *whole = ask(&w, request);
    int fd = dial(&w);
    for (const char *p = request; *p; p++) {
        say_n(fd, p, 1);
        usleep(300);
    }
    char *pieces = hear(fd, NULL);
    assert_has(whole, "last x-twice=last one");
    assert_string_equal(strstr(whole, "\r\n\r\n"), strstr(pieces, "\r\n\r\n"));
    close(fd);
    free(whole);
    free(pieces);
    world_stop(&w);
}

static void connections_are_kept_and_pipelined_answers_come_in_order(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(fd, "hello"));
    say(fd, "POST /job HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nabPOST /echo HTTP/1.1\r\n" HOST
            "Transfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\nGET /status/204 HTTP/1.1\r\n" HOST "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n");
    char *a = hear(fd, "hello");
    const char *job = strstr(a, "job of 2 bytes: ab"), *echo = strstr(a, "xyz"), *empty = strstr(a, "204 No Content");
    assert_true(job && echo && empty && job < echo && echo < empty);
    assert_has(a, "X-Job: yes\r\n");
    free(a);
    assert_int_equal(n_after, 5);
    /* More than one read buffer of them, and the answers are read late. */
    enum { MANY = 2000 };
    for (int i = 0; i < MANY; i++)
        say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    say(fd, "GET /odd HTTP/1.1\r\n" HOST "\r\n");
    a = hear(fd, "stout");
    int n = 0;
    for (const char *p = a; (p = strstr(p, "\r\n\r\nhello")); p++)
        n++;
    assert_int_equal(n, MANY);
    free(a);
    close(fd);
    world_stop(&w);
}

static void old_clients_are_served_their_way(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    expect_answer(&w, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n\r\nhello");
    char *a = ask(&w, "GET /events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); /* no chunks: the end is the connection's */
    assert_lacks(a, "chunked");
    assert_has(a, "Connection: close\r\n\r\ndata: {\"n\":1}\n\ndata: [DONE]\n\n");
    free(a);
    int fd = dial(&w);
    say(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    a = hear(fd, "hello");
    assert_has(a, "Connection: keep-alive\r\n");
    free(a);
    say(fd, "GET / HTTP/1.0\r\n\r\n");
    free(hear(fd, NULL));
    close(fd);
    world_stop(&w);
}

static void answers_without_a_body_have_none(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "HEAD / HTTP/1.1\r\n" HOST "\r\nGET /status/304 HTTP/1.1\r\n" HOST "\r\nGET /status/204 HTTP/1.1\r\n" HOST "\r\nHEAD /events HTTP/1.1\r\n" HOST
            "\r\nGET / HTTP/1.1\r\n" HOST "\r\n");
    char *a = hear(fd, "hello");
    const char *p = a;
    static const char *const heads[] = {"HTTP/1.1 200 OK", "HTTP/1.1 304 Not Modified", "HTTP/1.1 204 No Content", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK"};
    for (size_t i = 0; i < SV_LEN(heads); i++) {
        assert_int_equal(strncmp(p, heads[i], strlen(heads[i])), 0);
        const char *end = strstr(p, "\r\n\r\n");
        assert_non_null(end);
        assert_int_equal(i == 2 || i == 3, !memmem(p, (size_t)(end - p), "Content-Length", 14));
        p = end + 4;
    }
    assert_string_equal(p, "hello");
    free(a);
    close(fd);
    world_stop(&w);
}

static void reason_and_headers_cannot_split_an_answer(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "GET /odd HTTP/1.1\r\n" HOST CLOSE "\r\n");
    assert_int_equal(strncmp(a, "HTTP/1.1 418 I am  Injected: 1\r\n", 32), 0);
    assert_has(a, "\r\nX-Split: a  Set-Cookie: b\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n");
    assert_lacks(a, "gzip");
    free(a);
    world_stop(&w);
}

static void an_answer_keeps_its_promised_length_or_is_cut(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "GET /short HTTP/1.1\r\n" HOST "\r\n"); /* no Connection: close, and yet it ends */
    assert_has(a, "Content-Length: 10\r\n\r\n12345");
    free(a);
    a = ask(&w, "GET /long HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(strstr(a, "\r\n\r\n"), "\r\n\r\n12345");
    free(a);
    a = ask(&w, "GET /cut HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(strstr(a, "\r\n\r\n"), "\r\n\r\n4\r\nhalf\r\n"); /* and no last chunk */
    free(a);
    world_stop(&w);
}

static void events_are_one_chunk_each(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "GET /events HTTP/1.1\r\n" HOST CLOSE "\r\n");
    assert_has(a, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n");
    assert_string_equal(strstr(a, "\r\n\r\n"), "\r\n\r\nf\r\ndata: {\"n\":1}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    free(a);
    world_stop(&w);
}

static void unknown_paths_and_methods_are_told_apart(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    expect_answer(&w, "GET /nope HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 404 Not Found\r\n", NULL);
    expect_answer(&w, "DELETE /echo HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 405 Method Not Allowed\r\n", "Allow: POST\r\n");
    expect_answer(&w, "OPTIONS * HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 404 Not Found\r\n", NULL);
    expect_answer(&w, "CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n", "Connection: close");
    /* The body of a refused request is dropped, and the connection goes on. */
    int fd = dial(&w);
    say(fd, "POST /nope HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n12345GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(fd, "hello"));
    close(fd);
    world_stop(&w);
}

/* ---- limits ---- */

static char *head_of(size_t n_padding, const char *tail)
{
    char *s = malloc(n_padding + 200);
    size_t n = (size_t)sprintf(s, "GET / HTTP/1.1\r\n" HOST CLOSE "X-Pad: ");
    memset(s + n, 'p', n_padding);
    strcpy(s + n + n_padding, tail);
    return s;
}

static void heads_have_a_size_and_a_number(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *s = head_of(60000, "\r\n\r\n");
    expect_answer(&w, s, "HTTP/1.1 200 OK\r\n", "hello");
    free(s);
    s = head_of(70000, "\r\n\r\n");
    expect_answer(&w, s, "HTTP/1.1 431 ", "Connection: close");
    free(s);
    s = head_of(200000, ""); /* without an end */
    expect_answer(&w, s, "HTTP/1.1 431 ", NULL);
    free(s);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 256; i++)
        sv_buf_addf(&b, "h%d: v\r\n", i);
    sv_buf_adds(&b, "\r\n");
    expect_answer(&w, sv_buf_cstr(&b), "HTTP/1.1 431 ", NULL);
    assert_int_equal(n_after, 1);
    world_stop(&w);
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    static const struct { const char *request, *status; } cases[] = {
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"}, /* TLS */
        {"SPAM / HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"GET /\r\n\r\n", "505"}, /* HTTP/0.9 */
        {"GET / HTTP/2.0\r\n" HOST "\r\n", "505"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost : t\r\n\r\n", "400"},
        {"GET / HTTP/1.1\nHost: t\n\n", "400"}, /* lines that end in LF alone */
        {"GET / HTTP/1.1\r\nHost: t\rX: y\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", "400"}, /* folded */
        {"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", "400"},
        {"GET http://t/ HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"GET t HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: -3\r\n\r\nabcd", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\nabcd", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", "501"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n-1\r\n", "400"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char line[32], *a = ask(&w, cases[i].request);
        snprintf(line, sizeof line, "HTTP/1.1 %s ", cases[i].status);
        if (strncmp(a, line, strlen(line)) != 0)
            fail_msg("case %zu: '%s'", i, a);
        assert_has(a, "Connection: close\r\n");
        free(a);
    }
    expect_answer(&w, "GET / HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 200 OK", "hello");
    world_stop(&w);
}

static void bodies_have_a_limit_per_route(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    static char body[200001];
    memset(body, 'b', sizeof body - 1);
    int fd = dial(&w);
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    say_n(fd, body, 100000);
    char *a = hear(fd, "b");
    while (strlen(strstr(a, "\r\n\r\n")) < 100004) { /* all of it, in however many pieces */
        char *more = hear(fd, "b"), *both = sv_xasprintf("%s%s", a, more);
        free(a);
        free(more);
        a = both;
    }
    assert_has(a, "Content-Length: 100000\r\n");
    free(a);
    /* Told beforehand: refused at the head, and the client reads the answer although it goes on sending. */
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 200000\r\n\r\n");
    say_n(fd, body, 200000);
    a = hear(fd, NULL);
    assert_has(a, "HTTP/1.1 413 ");
    assert_has(a, "the body is over 100000 bytes");
    free(a);
    close(fd);
    /* In chunks: seen when it happens. */
    fd = dial(&w);
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n30d40\r\n");
    say_n(fd, body, 200000);
    a = hear(fd, NULL);
    assert_has(a, "HTTP/1.1 413 ");
    free(a);
    close(fd);
    /* No body expected: a small one is dropped, a large one refused. */
    expect_answer(&w, "POST /none HTTP/1.1\r\n" HOST CLOSE "Content-Length: 4\r\n\r\nbody", "HTTP/1.1 200 OK", "hello");
    expect_answer(&w, "POST /none HTTP/1.1\r\n" HOST CLOSE "Content-Length: 65537\r\n\r\n", "HTTP/1.1 413 ", NULL);
    world_stop(&w);
}

static void a_patient_route_reads_all_before_it_refuses(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    static char body[1 << 20];
    struct pollfd p = {.events = POLLIN};
    int fd = p.fd = dial(&w);
    say(fd, "POST /patient HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
    say_n(fd, body, sizeof body - 1);
    assert_int_equal(poll(&p, 1, 100), 0); /* nothing yet */
    say_n(fd, body, 1);
    free(hear(fd, "the body is over 1000 bytes"));
    say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n"); /* and the connection lives on */
    free(hear(fd, "hello"));
    close(fd);
    world_stop(&w);
}

static void slow_clients_run_out_of_time(void **state)
{
    (void)state;
    world w;
    start(&w, &(sv_http_opts){.head_timeout_ms = 150, .idle_timeout_ms = 300});
    int64_t began = sv_mono_ms();
    int fd = dial(&w); /* a slow loris: bytes come, the head never ends */
    say(fd, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 4; i++) {
        usleep(50000);
        send(fd, "X: y\r\n", 6, MSG_NOSIGNAL);
    }
    char *a = hear(fd, NULL);
    assert_has(a, "HTTP/1.1 408 ");
    assert_in_range(sv_mono_ms() - began, 140, 2000);
    free(a);
    close(fd);
    began = sv_mono_ms();
    fd = dial(&w); /* says nothing at all */
    a = hear(fd, NULL);
    assert_string_equal(a, "");
    assert_in_range(sv_mono_ms() - began, 290, 2000);
    free(a);
    close(fd);
    fd = dial(&w); /* a body that stops */
    say(fd, "POST /hasty HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123");
    a = hear(fd, NULL);
    assert_has(a, "HTTP/1.1 408 ");
    free(a);
    close(fd);
    fd = dial(&w); /* a streamed one */
    say(fd, "PUT /stream/small HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123");
    a = hear(fd, NULL);
    assert_string_equal(a, "");
    await(&n_closed, 1);
    free(a);
    close(fd);
    world_stop(&w);
}

static void continue_is_said_when_the_body_is_wanted(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    char *a = hear(fd, "\r\n\r\n");
    assert_string_equal(a, "HTTP/1.1 100 Continue\r\n\r\n");
    free(a);
    say(fd, "abc");
    free(hear(fd, "\r\n\r\nabc"));
    say(fd, "PUT /stream HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    free(hear(fd, "100 Continue\r\n\r\n"));
    say(fd, "abc");
    free(hear(fd, "3 bytes"));
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n");
    a = hear(fd, "bytes");
    assert_has(a, "HTTP/1.1 413 ");
    assert_lacks(a, "100 Continue");
    free(a);
    close(fd);
    world_stop(&w);
}

static void accept_waits_at_the_limit_of_connections(void **state)
{
    (void)state;
    world w;
    start(&w, &(sv_http_opts){.max_connections = 2});
    int a = dial(&w), b = dial(&w);
    say(a, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(a, "hello"));
    say(b, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(b, "hello"));
    struct pollfd c = {.fd = dial(&w), .events = POLLIN};
    say(c.fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(poll(&c, 1, 150), 0);
    close(a);
    free(hear(c.fd, "hello"));
    close(b);
    close(c.fd);
    world_stop(&w);
}

static void accept_survives_a_lack_of_descriptors(void **state)
{
    (void)state;
    world w;
    struct rlimit old, tight;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(fd, "hello"));
    struct pollfd late = {.fd = dial(&w), .events = POLLIN};
    say(late.fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(late.fd, "hello"));
    struct pollfd p = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN};
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)p.fd + 1; /* every lower number is in use */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = connect(p.fd, (struct sockaddr *)&a, sizeof a);
    say(p.fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    int early = poll(&p, 1, 250);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(rc, 0);
    assert_int_equal(early, 0);
    free(hear(with_limit(p.fd), "hello"));
    close(fd);
    close(p.fd);
    close(late.fd);
    world_stop(&w);
}

/* ---- bodies as streams, back-pressure ---- */

static void resume(void *arg) { sv_req_pause_body(arg, false); }

static void a_paused_body_stops_its_sender(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    static char block[65536];
    int fd = dial(&w), on = 1;
    size_t sent = 0, total = 64 << 20;
    say(fd, "PUT /stream?pause=1 HTTP/1.1\r\n" HOST "Content-Length: 67108864\r\n\r\n");
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof on);
    int64_t quiet_since = sv_mono_ms();
    while (sv_mono_ms() - quiet_since < 300) { /* send until nothing more is taken */
        ssize_t n = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
            quiet_since = sv_mono_ms();
        } else {
            usleep(5000);
        }
    }
    assert_in_range(sent, 1, 16 << 20); /* what kernel buffers hold, and not the 64 MiB */
    assert_in_range(n_streamed, 1, 65536);
    await(&n_pieces, 1);
    sv_req *r = kept;
    kept = NULL;
    on_loop(&w, resume, r);
    while (sent < total) {
        size_t n = total - sent < sizeof block ? total - sent : sizeof block;
        say_n(fd, block, n);
        sent += n;
    }
    free(hear(fd, "67108864 bytes"));
    close(fd);
    world_stop(&w);
}

/* The end lies behind the pause: no further byte will come to make the parser look for it. */
static void a_body_paused_at_its_last_byte_still_ends(void **state)
{
    (void)state;
    static const char *const bodies[] = {"Content-Length: 5\r\n\r\nabcde", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"};
    for (size_t i = 0; i < SV_LEN(bodies); i++) {
        world w;
        start(&w, NULL);
        int fd = dial(&w);
        say(fd, "PUT /stream?pause=1 HTTP/1.1\r\n" HOST);
        say(fd, bodies[i]);
        await(&n_pieces, 1);
        sv_req *r = kept;
        kept = NULL;
        on_loop(&w, resume, r);
        free(hear(fd, "5 bytes"));
        say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        free(hear(fd, "hello"));
        close(fd);
        world_stop(&w);
    }
}

static void a_stream_is_answered_before_its_end_where_it_must(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "PUT /stream?refuse=1 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    free(hear(fd, "no"));
    say(fd, "2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"); /* the rest is dropped */
    free(hear(fd, "hello"));
    say(fd, "PUT /stream/small HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n");
    free(hear(fd, "the body is over 100 bytes"));
    close(fd);
    fd = dial(&w);
    say(fd, "PUT /stream HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"); /* n == 0 comes once, also without a body */
    free(hear(fd, "0 bytes"));
    n_streamed = 0;
    say(fd, "PUT /stream HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n");
    free(hear(fd, "3 bytes"));
    close(fd);
    world_stop(&w);
}

static void a_slow_reader_stops_the_producer(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
    say(fd, "GET /flood HTTP/1.1\r\n" HOST CLOSE "\r\n");
    usleep(200000);
    assert_in_range(n_streamed, MEASURE, FLOOD / 2); /* it waits for us */
    char *a = hear(fd, NULL);
    assert_int_equal(strlen(strstr(a, "\r\n\r\n") + 4), FLOOD);
    assert_in_range(most_waiting, 1, MEASURE + 8192);
    assert_true(n_drained >= 1);
    free(a);
    close(fd);
    await(&n_after, 1);
    assert_int_equal(n_closed, 0);
    world_stop(&w);
}

static void a_large_whole_answer_arrives(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial_unix(&w);
    say(fd, "GET /big HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST CLOSE "\r\n");
    usleep(50000);
    char *a = hear(fd, NULL), *big = strstr(a, "\r\n\r\n") + 4;
    assert_int_equal(strspn(big, "g"), 8 << 20);
    assert_int_equal(strncmp(big + (8 << 20), "HTTP/1.1 200 OK\r\n", 17), 0);
    free(a);
    close(fd);
    world_stop(&w);
}

static void a_client_that_never_reads_is_closed(void **state)
{
    (void)state;
    world w;
    start(&w, &(sv_http_opts){.write_timeout_ms = 200});
    int fd = dial(&w);
    say(fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n");
    await(&n_closed, 1);
    await(&n_after, 1);
    close(fd);
    world_stop(&w);
}

/* ---- clients that leave, jobs, the end ---- */

static void wait_for_kept(void)
{
    int64_t end = sv_mono_ms() + 5000;
    while (!kept && sv_mono_ms() < end)
        usleep(500);
    assert_non_null(kept);
}

static void answer_kept(void *arg)
{
    (void)arg;
    sv_req_send(kept, 200, "text/plain", SV_STR("late"));
}

static void a_client_that_leaves_is_noticed_once_and_soon(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    for (int i = 1; i <= 2; i++) {
        int fd = i == 1 ? dial(&w) : dial_unix(&w);
        kept = NULL;
        say(fd, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
        wait_for_kept();
        assert_int_equal(n_closed, i - 1);
        int64_t began = sv_mono_us();
        close(fd);
        await(&n_closed, i);
        assert_in_range(sv_mono_us() - began, 0, 500000);
        await(&n_after, i);
    }
    kept = NULL;
    int fd = dial(&w); /* in the middle of a body */
    say(fd, "PUT /stream HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123");
    await(&n_pieces, 1);
    close(fd);
    await(&n_closed, 3);
    fd = dial(&w); /* and of one that is not read at present */
    say(fd, "PUT /stream?pause=1 HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123");
    await(&n_pieces, 2);
    say(fd, "456");
    close(fd);
    await(&n_closed, 4);
    usleep(50000);
    assert_int_equal(n_closed, 4);
    assert_int_equal(n_after, 4);
    world_stop(&w);
}

static void a_half_closed_unix_client_gets_its_answer(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial_unix(&w);
    say(fd, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    wait_for_kept();
    usleep(50000);
    assert_int_equal(n_closed, 0);
    on_loop(&w, answer_kept, NULL);
    char *a = hear(fd, NULL); /* and then the connection ends */
    assert_has(a, "\r\n\r\nlate");
    free(a);
    close(fd);
    /* On TCP an answer that is there at once still reaches who has shut its side. */
    fd = dial(&w);
    say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    a = hear(fd, NULL);
    assert_has(a, "hello");
    free(a);
    close(fd);
    world_stop(&w);
}

static void a_job_may_outlive_its_client(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "POST /job?wait=1 HTTP/1.1\r\n" HOST "Content-Length: 20\r\n\r\nstill to be read 123");
    usleep(30000);
    close(fd);
    usleep(30000);
    assert_int_equal(n_after, 0);
    job_may_end = 1;
    await(&n_after, 1);
    assert_int_equal(last_status, 499);
    expect_answer(&w, "GET /job HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 200 OK", "job of 0 bytes");
    world_stop(&w);
}

static void a_full_pool_answers_503(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fds[6]; /* 2 threads, 4 places */
    for (int i = 0; i < 6; i++) {
        fds[i] = dial(&w);
        say(fds[i], "GET /job?wait=1 HTTP/1.1\r\n" HOST "\r\n");
        usleep(20000);
    }
    expect_answer(&w, "GET /job HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 503 Service Unavailable", NULL);
    job_may_end = 1;
    for (int i = 0; i < 6; i++) {
        free(hear(fds[i], "job of 0 bytes: "));
        close(fds[i]);
    }
    world_stop(&w);
}

static void a_server_may_go_while_a_job_runs(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "GET /job?wait=1 HTTP/1.1\r\n" HOST "\r\n");
    usleep(30000);
    sv_loop_stop(w.loop);
    pthread_join(w.thread, NULL);
    sv_http_free(w.s);
    job_may_end = 1;
    sv_jobs_free(w.jobs);
    sv_loop_free(w.loop);
    unlink(w.path);
    close(fd);
}

typedef struct drain_call { world *w; int64_t deadline_ms; _Atomic int done; } drain_call;

static void drained(void *arg) { count(&((drain_call *)arg)->done); }

static void begin_drain(void *arg)
{
    drain_call *d = arg;
    sv_http_drain(d->w->s, d->deadline_ms, drained, d);
}

static void a_drain_lets_requests_end(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int idle = dial(&w), busy = dial(&w);
    say(idle, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(idle, "hello"));
    say(busy, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    wait_for_kept();
    drain_call d = {.w = &w, .deadline_ms = 5000};
    on_loop(&w, begin_drain, &d);
    char *a = hear(idle, NULL); /* closed at once */
    assert_string_equal(a, "");
    free(a);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&addr, sizeof addr), -1);
    assert_int_equal(d.done, 0);
    on_loop(&w, answer_kept, NULL);
    a = hear(busy, NULL);
    assert_has(a, "Connection: close\r\n\r\nlate");
    free(a);
    await(&d.done, 1);
    close(idle);
    close(busy);
    close(late);
    world_stop(&w);
}

static void a_drain_cuts_at_its_deadline(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial(&w);
    say(fd, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    wait_for_kept();
    drain_call d = {.w = &w, .deadline_ms = 100};
    on_loop(&w, begin_drain, &d);
    await(&d.done, 1);
    assert_int_equal(n_closed, 1);
    assert_int_equal(n_after, 1);
    close(fd);
    world_stop(&w);
}

static void stop_listening(void *arg)
{
    world *w = arg;
    sv_http_unlisten(w->local);
}

static _Atomic int64_t bytes_in;
static void note_bytes(void *arg) { bytes_in = sv_http_get_stats(((world *)arg)->s).n_bytes_in; }

/* Whoever owns what the listener stands for may free it then: no handler must see it after its request. */
static void an_ended_listener_begins_no_request(void **state)
{
    static const char whole[] = "GET / HTTP/1.1\r\n" HOST "\r\n", half[] = "GET / HTTP/1.1\r\nHo";
    (void)state;
    world w;
    start(&w, NULL);
    int fd = dial_unix(&w);
    say(fd, whole);
    free(hear(fd, "hello"));
    say(fd, half);
    while (bytes_in < (int64_t)(strlen(whole) + strlen(half)))
        on_loop(&w, note_bytes, &w);
    on_loop(&w, stop_listening, &w);
    say(fd, whole + strlen(half));
    char *a = hear(fd, NULL);
    assert_string_equal(a, "");
    free(a);
    close(fd);
    world_stop(&w);
}

static void an_ended_listener_lets_its_requests_end(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    int idle = dial_unix(&w), busy = dial_unix(&w), other = dial(&w);
    say(idle, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(idle, "hello"));
    say(busy, "GET /wait HTTP/1.1\r\n" HOST "\r\n");
    wait_for_kept();
    on_loop(&w, stop_listening, &w);
    char *a = hear(idle, NULL);
    assert_string_equal(a, "");
    free(a);
    on_loop(&w, answer_kept, NULL);
    a = hear(busy, NULL);
    assert_has(a, "late");
    free(a);
    say(other, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(hear(other, "hello"));
    close(idle);
    close(busy);
    close(other);
    world_stop(&w);
}

static void a_hijacked_connection_is_the_handlers(void **state)
{
    (void)state;
    world w;
    start(&w, NULL);
    char *a = ask(&w, "GET /hijack HTTP/1.1\r\n" HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nbeyond");
    assert_string_equal(a, "raw:beyond");
    free(a);
    /* Who only asks for an upgrade is answered as HTTP. */
    expect_answer(&w, "GET / HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n", "HTTP/1.1 200 OK", "hello");
    world_stop(&w);
}

/* ---- hooks ---- */

static sv_str prefix_of(sv_req *r, void *ctx)
{
    (void)ctx;
    return sv_req_header(r, "x-in");
}

static bool before(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_set_user(r, (void *)(uintptr_t)7);
    if (!sv_req_header(r, "x-deny").p)
        return true;
    sv_req_send(r, 401, "text/plain", SV_STR("who?"));
    return false;
}

static void lost(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_send(r, 404, "text/plain", sv_req_user(r) == (void *)7 ? SV_STR("lost 7") : SV_STR("lost"));
}

static void hooks_come_in_their_order(void **state)
{
    (void)state;
    world w;
    start(&w, &(sv_http_opts){.prefix = prefix_of, .before = before, .not_found = lost, .proxy = true});
    expect_answer(&w, "GET /k?q=9 HTTP/1.1\r\n" HOST CLOSE "X-In: show\r\n\r\n", "HTTP/1.1 200 OK", "GET /k from tcp\ntarget=/k?q=9\nkey=k\nq=9\n");
    expect_answer(&w, "GET https://h.example/k?q=9 HTTP/1.1\r\n" CLOSE "X-In: show\r\n\r\n", "HTTP/1.1 200 OK",
                  "GET /k from tcp\ntarget=https://h.example/k?q=9\nkey=k\nq=9\n");
    expect_answer(&w, "GET http://h.example?x HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 200 OK", "hello");
    expect_answer(&w, "GET /nope HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 404 Not Found", "lost 7");
    expect_answer(&w, "DELETE /echo HTTP/1.1\r\n" HOST CLOSE "\r\n", "HTTP/1.1 404 Not Found", "lost 7");
    expect_answer(&w, "GET /nope HTTP/1.1\r\n" HOST CLOSE "X-Deny: 1\r\n\r\n", "HTTP/1.1 401 Unauthorized", "who?");
    expect_answer(&w, "POST /echo HTTP/1.1\r\n" HOST CLOSE "X-Deny: 1\r\nContent-Length: 999999\r\n\r\n", "HTTP/1.1 401 Unauthorized", "who?");
    assert_int_equal(n_after, 7);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_is_answered_with_date_and_length),
        cmocka_unit_test(a_request_is_shown_as_it_was_sent),
        cmocka_unit_test(a_head_fed_byte_by_byte_reads_the_same),
        cmocka_unit_test(connections_are_kept_and_pipelined_answers_come_in_order),
        cmocka_unit_test(old_clients_are_served_their_way),
        cmocka_unit_test(answers_without_a_body_have_none),
        cmocka_unit_test(reason_and_headers_cannot_split_an_answer),
        cmocka_unit_test(an_answer_keeps_its_promised_length_or_is_cut),
        cmocka_unit_test(events_are_one_chunk_each),
        cmocka_unit_test(unknown_paths_and_methods_are_told_apart),
        cmocka_unit_test(heads_have_a_size_and_a_number),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(bodies_have_a_limit_per_route),
        cmocka_unit_test(a_patient_route_reads_all_before_it_refuses),
        cmocka_unit_test(slow_clients_run_out_of_time),
        cmocka_unit_test(continue_is_said_when_the_body_is_wanted),
        cmocka_unit_test(accept_waits_at_the_limit_of_connections),
        cmocka_unit_test(accept_survives_a_lack_of_descriptors),
        cmocka_unit_test(a_paused_body_stops_its_sender),
        cmocka_unit_test(a_body_paused_at_its_last_byte_still_ends),
        cmocka_unit_test(a_stream_is_answered_before_its_end_where_it_must),
        cmocka_unit_test(a_slow_reader_stops_the_producer),
        cmocka_unit_test(a_large_whole_answer_arrives),
        cmocka_unit_test(a_client_that_never_reads_is_closed),
        cmocka_unit_test(a_client_that_leaves_is_noticed_once_and_soon),
        cmocka_unit_test(a_half_closed_unix_client_gets_its_answer),
        cmocka_unit_test(a_job_may_outlive_its_client),
        cmocka_unit_test(a_full_pool_answers_503),
        cmocka_unit_test(a_server_may_go_while_a_job_runs),
        cmocka_unit_test(a_drain_lets_requests_end),
        cmocka_unit_test(a_drain_cuts_at_its_deadline),
        cmocka_unit_test(an_ended_listener_begins_no_request), cmocka_unit_test(an_ended_listener_lets_its_requests_end),
        cmocka_unit_test(a_hijacked_connection_is_the_handlers),
        cmocka_unit_test(hooks_come_in_their_order),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
