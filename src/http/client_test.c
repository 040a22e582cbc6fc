/* client_test.c - fetches from our own server, from sockets that misbehave, and what must not be reached */
#include "http/testing.h"

#include "http/client.h"
#include "http/public_addr.h"

static _Atomic int n_closed;
static size_t n_streamed;

static void get_hello(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_add_header(r, "X-A", "1");
    sv_req_send_reason(r, 203, "My own words", "text/plain", SV_STR("hello"));
}

/* What arrived: method, headers but Host, body. */
static void any_show(sv_req *r, void *ctx)
{
    (void)ctx;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "%s ", sv_req_method(r));
    for (int i = 0; i < sv_req_n_headers(r); i++) {
        sv_str n, v;
        sv_req_header_at(r, i, &n, &v);
        if (!sv_str_ieq(n, "host"))
            sv_buf_addf(&b, "%.*s=%.*s ", (int)n.n, n.p, (int)v.n, v.p);
    }
    sv_str body = sv_req_body(r);
    sv_buf_addf(&b, "[%.*s]", (int)body.n, body.p);
    sv_req_send(r, 200, "text/plain", sv_buf_str(&b));
}

static void on_close(sv_req *r, void *arg)
{
    (void)r, (void)arg;
    count(&n_closed);
}

static void get_never(sv_req *r, void *ctx) { (void)ctx, sv_req_on_close(r, on_close, NULL); }

static void get_half(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_req_begin(r, 200, NULL, 100);
    sv_req_write(r, "half", 4);
    sv_req_end(r);
}

static void get_big(sv_req *r, void *ctx)
{
    (void)ctx;
    static char p[8 << 20];
    memset(p, 'g', sizeof p);
    sv_req_send(r, 200, NULL, (sv_str){p, sizeof p});
}

static void count_piece(sv_req *r, const char *p, size_t n, void *arg)
{
    (void)p, (void)arg;
    n_streamed += n;
    if (n == 0) {
        char text[64];
        snprintf(text, sizeof text, "%zu bytes", n_streamed);
        sv_req_send(r, 200, "text/plain", sv_str_of(text));
    }
}

static void put_stream(sv_req *r, void *ctx)
{
    (void)ctx;
    n_streamed = 0;
    sv_req_on_close(r, on_close, NULL);
    sv_req_on_body(r, count_piece, NULL);
}

static const sv_route routes[] = {
    {.method = "GET", .path = "/", .fn = get_hello},      {.method = "*", .path = "/show", .fn = any_show, .max_body = 1 << 20},
    {.method = "GET", .path = "/never", .fn = get_never}, {.method = "GET", .path = "/half", .fn = get_half},
    {.method = "GET", .path = "/big", .fn = get_big},     {.method = "PUT", .path = "/stream", .fn = put_stream, .flags = SV_ROUTE_STREAM},
};

/* ---- one fetch, run on a loop of its own ---- */

typedef struct got {
    sv_loop *loop;
    sv_client *client;
    sv_fetch *fetch;
    sv_timer *timer;
    int status, n_heads, n_done, n_data;
    char reason[64];
    sv_buf headers, data;
    sv_rc rc;
    char why[480];
    size_t to_write, written;
    bool pause_first, cancel_on_head, cancel_on_data, declare_more;
} got;

static void on_header(sv_fetch *f, sv_str name, sv_str value, void *arg)
{
    got *g = arg;
    (void)f;
    assert_int_equal(g->n_heads, 0);
    sv_buf_addf(&g->headers, "%.*s=%.*s\n", (int)name.n, name.p, (int)value.n, value.p);
}

static void on_head(sv_fetch *f, int status, sv_str reason, void *arg)
{
    got *g = arg;
    g->status = status;
    g->n_heads++;
    snprintf(g->reason, sizeof g->reason, "%.*s", (int)reason.n, reason.p);
    if (g->cancel_on_head) {
        sv_fetch_cancel(f);
        sv_timer_set(g->timer, 100);
    }
}

static void on_data(sv_fetch *f, const char *p, size_t n, void *arg)
{
    got *g = arg;
    g->n_data++;
    sv_buf_add(&g->data, p, n);
    if (g->pause_first) {
        g->pause_first = false;
        sv_fetch_pause(f, true);
        sv_timer_set(g->timer, 150);
    }
    if (g->cancel_on_data) {
        sv_fetch_cancel(f);
        sv_timer_set(g->timer, 100);
    }
}

static void on_writable(sv_fetch *f, void *arg)
{
    static const char block[16384];
    got *g = arg;
    size_t waiting = 0;
    while (waiting < 65536 && g->written < g->to_write) {
        size_t n = g->to_write - g->written < sizeof block ? g->to_write - g->written : sizeof block;
        waiting = sv_fetch_write(f, block, n);
        g->written += n;
    }
    if (g->written == g->to_write && g->to_write) {
        g->to_write = 0;
        sv_fetch_write_end(f);
    }
}

static void on_done(sv_fetch *f, sv_rc rc, const sv_err *err, void *arg)
{
    got *g = arg;
    (void)f;
    g->rc = rc;
    g->n_done++;
    snprintf(g->why, sizeof g->why, "%s", rc ? err->msg : "");
    sv_loop_stop(g->loop);
}

static void on_timer(void *arg)
{
    got *g = arg;
    if (g->cancel_on_head || g->cancel_on_data) {
        sv_loop_stop(g->loop);
        return;
    }
    assert_int_equal(g->n_data, 1); /* paused: nothing came meanwhile */
    sv_fetch_pause(g->fetch, false);
}

static void got_init(got *g)
{
    *g = (got){.loop = sv_loop_new()};
    g->client = sv_client_new(g->loop);
    g->timer = sv_timer_new(g->loop, on_timer, g);
    sv_buf_init(&g->headers, 0);
    sv_buf_init(&g->data, 0);
}

static void got_done(got *g)
{
    g->client = sv_client_free(g->client);
    g->timer = sv_timer_free(g->timer);
    g->loop = sv_loop_free(g->loop);
    sv_buf_done(&g->headers);
    sv_buf_done(&g->data);
}

static void fetch(got *g, sv_fetch_opts o)
{
    sv_err err = {0};
    o.on_head = on_head;
    o.on_header = on_header;
    o.on_data = on_data;
    o.on_writable = on_writable;
    o.on_done = on_done;
    o.arg = g;
    o.method = o.method ? o.method : "GET";
    g->status = g->n_heads = g->n_done = g->n_data = 0;
    sv_buf_reset(&g->headers);
    sv_buf_reset(&g->data);
    if (sv_fetch_start(&g->fetch, g->client, &o, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(g->n_done, 0); /* never before the start has returned */
    if (o.stream_body)
        on_writable(g->fetch, g);
    sv_loop_run(g->loop);
}

static world w;
static char url[128];

static const char *at(const char *path)
{
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", w.port, path);
    return url;
}

static int set_up(void **state)
{
    (void)state;
    unsetenv("http_proxy");
    world_start(&w, NULL, routes, SV_LEN(routes));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_stop(&w);
    return 0;
}

static void read_stats(void *arg) { *(sv_http_stats *)arg = sv_http_get_stats(w.s); }

static void an_answer_comes_head_first(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    for (int i = 0; i < 3; i++) { /* the connection is used again */
        fetch(&g, (sv_fetch_opts){.url = at("/")});
        assert_int_equal(g.rc, SV_OK);
        assert_int_equal(g.status, 203);
        assert_int_equal(g.n_heads, 1);
        assert_string_equal(g.reason, "My own words");
        assert_has(sv_buf_cstr(&g.headers), "X-A=1\n");
        assert_string_equal(sv_buf_cstr(&g.data), "hello");
    }
    sv_http_stats stats;
    on_loop(&w, read_stats, &stats);
    assert_int_equal(stats.n_connections, 1);
    assert_int_equal(stats.n_requests, 3);
    fetch(&g, (sv_fetch_opts){.url = "http://any.name/", .unix_path = w.path});
    assert_string_equal(sv_buf_cstr(&g.data), "hello");
    fetch(&g, (sv_fetch_opts){.url = at("/"), .method = "HEAD"});
    assert_int_equal(g.status, 203);
    assert_int_equal(g.data.n, 0);
    fetch(&g, (sv_fetch_opts){.url = at("/nope")});
    assert_int_equal(g.rc, SV_OK);
    assert_int_equal(g.status, 404);
    got_done(&g);
}

static void a_request_carries_only_what_was_given(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    fetch(&g, (sv_fetch_opts){.url = at("/show")});
    assert_string_equal(sv_buf_cstr(&g.data), "GET []");
    static const char *const h[] = {"X-One: 1", "X-Empty:", "Content-Type: a/b", "Accept: c/d", "Content-Length: 99", "Transfer-Encoding: chunked", NULL};
    fetch(&g, (sv_fetch_opts){.url = at("/show"), .method = "PATCH", .headers = h, .body = SV_STR("body")});
    assert_string_equal(sv_buf_cstr(&g.data), "PATCH X-One=1 X-Empty= Content-Type=a/b Accept=c/d Content-Length=4 [body]");
    fetch(&g, (sv_fetch_opts){.url = at("/show"), .method = "POST"});
    assert_string_equal(sv_buf_cstr(&g.data), "POST Content-Length=0 []");
    fetch(&g, (sv_fetch_opts){.url = at("/show"), .method = "DELETE"});
    assert_string_equal(sv_buf_cstr(&g.data), "DELETE []");
    got_done(&g);
}

static void bodies_stream_out(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    g.to_write = 5000000;
    fetch(&g, (sv_fetch_opts){.url = at("/stream"), .method = "PUT", .stream_body = true});
    assert_string_equal(sv_buf_cstr(&g.data), "5000000 bytes");
    g.to_write = 30000;
    g.written = 0;
    static const char *const h[] = {"Content-Length: 30000", NULL};
    fetch(&g, (sv_fetch_opts){.url = at("/stream"), .method = "PUT", .stream_body = true, .headers = h});
    assert_string_equal(sv_buf_cstr(&g.data), "30000 bytes");
    g.to_write = 20000; /* less than declared */
    g.written = 0;
    fetch(&g, (sv_fetch_opts){.url = at("/stream"), .method = "PUT", .stream_body = true, .headers = h});
    assert_int_not_equal(g.rc, SV_OK);
    got_done(&g);
}

static void a_paused_fetch_waits_and_goes_on(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    g.pause_first = true;
    fetch(&g, (sv_fetch_opts){.url = at("/big")});
    assert_int_equal(g.rc, SV_OK);
    assert_int_equal(g.data.n, 8 << 20);
    assert_int_equal(strspn(g.data.p, "g"), 8 << 20);
    got_done(&g);
}

static void a_canceled_fetch_is_silent(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    g.cancel_on_head = true;
    fetch(&g, (sv_fetch_opts){.url = at("/big")});
    assert_int_equal(g.n_done, 0);
    assert_int_equal(g.n_data, 0);
    g.cancel_on_head = false;
    g.cancel_on_data = true;
    fetch(&g, (sv_fetch_opts){.url = at("/big")});
    assert_int_equal(g.n_done, 0);
    assert_int_equal(g.n_data, 1);
    /* Freed while open: no call either, and the server sees the client leave. */
    sv_err err = {0};
    sv_fetch *f;
    int closed = n_closed;
    sv_fetch_opts o = {.method = "GET", .url = at("/never"), .on_done = on_done, .arg = &g};
    assert_int_equal(sv_fetch_start(&f, g.client, &o, &err), SV_OK);
    sv_timer_set(g.timer, 100);
    sv_loop_run(g.loop);
    got_done(&g);
    await(&n_closed, closed + 1);
    assert_int_equal(g.n_done, 0);
}

static void failures_are_told_once_with_a_reason(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    fetch(&g, (sv_fetch_opts){.url = at("/half")});
    assert_int_equal(g.rc, SV_EIO);
    assert_string_equal(sv_buf_cstr(&g.data), "half");
    fetch(&g, (sv_fetch_opts){.url = at("/never"), .timeout_ms = 100});
    assert_int_equal(g.rc, SV_ETIMEDOUT);
    fetch(&g, (sv_fetch_opts){.url = "http://127.0.0.1:1/"});
    assert_int_equal(g.rc, SV_EIO);
    assert_true(g.why[0]);
    assert_int_equal(g.n_done, 1);
    fetch(&g, (sv_fetch_opts){.url = "http://x/", .unix_path = "/nonexistent.sock"});
    assert_int_equal(g.rc, SV_EIO);
    fetch(&g, (sv_fetch_opts){.url = "http://a b/"});
    assert_int_equal(g.rc, SV_EINVAL);
    got_done(&g);
}

/* A server of one answer, in raw bytes. */
static void *raw_server(void *arg)
{
    static const char answer[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 299 \r\nx-real:  1 \r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: t\r\n\r\n";
    int fd = accept(*(int *)arg, NULL, NULL);
    char *request = hear(with_limit(fd), "\r\n\r\n");
    free(request);
    say(fd, answer);
    close(fd);
    return NULL;
}

static void interim_heads_and_trailers_are_not_the_answer(void **state)
{
    (void)state;
    got g;
    world raw;
    pthread_t t;
    int fd = world_tcp(&raw);
    fcntl(fd, F_SETFL, 0);
    assert_int_equal(pthread_create(&t, NULL, raw_server, &fd), 0);
    got_init(&g);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", raw.port);
    fetch(&g, (sv_fetch_opts){.url = url});
    assert_int_equal(g.rc, SV_OK);
    assert_int_equal(g.status, 299);
    assert_int_equal(g.n_heads, 1);
    assert_string_equal(g.reason, "");
    assert_string_equal(sv_buf_cstr(&g.headers), "x-real=1\nTransfer-Encoding=chunked\n");
    assert_string_equal(sv_buf_cstr(&g.data), "abc");
    pthread_join(t, NULL);
    close(fd);
    got_done(&g);
}

static void senseless_requests_are_refused_at_the_start(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    static const char *const split[] = {"X: a\r\nY: b", NULL}, *const nameless[] = {": a", NULL};
    const sv_fetch_opts cases[] = {
        {.method = "G T", .url = at("/")},      {.method = "", .url = url},
        {.method = "CONNECT", .url = url},      {.method = "GET\r\nX: y", .url = url},
        {.method = "GET", .url = "file:///etc/passwd"}, {.method = "GET", .url = "gopher://x/"},
        {.method = "GET", .url = url, .headers = split}, {.method = "GET", .url = url, .headers = nameless},
        {.method = "GET", .url = url, .unix_path = "/x", .public_only = true},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        sv_err err = {0};
        sv_fetch *f = NULL;
        assert_int_equal(sv_fetch_start(&f, g.client, &cases[i], &err), SV_EINVAL);
        assert_null(f);
    }
    got_done(&g);
}

static void public_only_does_not_reach_this_machine(void **state)
{
    (void)state;
    got g;
    got_init(&g);
    fetch(&g, (sv_fetch_opts){.url = at("/")}); /* leaves a connection in the pool of trusted ones */
    assert_int_equal(g.rc, SV_OK);
    fetch(&g, (sv_fetch_opts){.url = at("/"), .public_only = true});
    assert_int_equal(g.rc, SV_EINVAL);
    assert_string_equal(g.why, "the address 127.0.0.1 is not public");
    char other[128];
    static const char *const hosts[] = {"localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0", "169.254.169.254"};
    for (size_t i = 0; i < SV_LEN(hosts); i++) {
        snprintf(other, sizeof other, "http://%s:%d/", hosts[i], w.port);
        fetch(&g, (sv_fetch_opts){.url = other, .public_only = true, .timeout_ms = 3000});
        assert_int_not_equal(g.rc, SV_OK);
        assert_int_equal(g.n_heads, 0);
    }
    got_done(&g);
}

static bool is_public(const char *text)
{
    struct sockaddr_storage s = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&s;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&s;
    s.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(s.ss_family, text, strchr(text, ':') ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr), 1);
    return sv_addr_is_public((struct sockaddr *)&s);
}

static void special_addresses_are_not_public(void **state)
{
    (void)state;
    static const char *const open[] = {"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.167.1.1", "192.0.1.1",
                                       "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "2a00::1",
                                       "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:0101:0101::1"};
    static const char *const closed[] = {"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.1.1",
                                         "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
                                         "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1",
                                         "fd12::1", "ff02::1", "fec0::1", "::127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
                                         "2002:c0a8:1::1", "2001::1", "2001:db8::1", "3fff::1", "100::1", "4000::1"};
    for (size_t i = 0; i < SV_LEN(open); i++)
        if (!is_public(open[i]))
            fail_msg("%s is public", open[i]);
    for (size_t i = 0; i < SV_LEN(closed); i++)
        if (is_public(closed[i]))
            fail_msg("%s is not public", closed[i]);
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    assert_false(sv_addr_is_public((struct sockaddr *)&u));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_head_first),
        cmocka_unit_test(a_request_carries_only_what_was_given),
        cmocka_unit_test(bodies_stream_out),
        cmocka_unit_test(a_paused_fetch_waits_and_goes_on),
        cmocka_unit_test(a_canceled_fetch_is_silent),
        cmocka_unit_test(failures_are_told_once_with_a_reason),
        cmocka_unit_test(interim_heads_and_trailers_are_not_the_answer),
        cmocka_unit_test(senseless_requests_are_refused_at_the_start),
        cmocka_unit_test(public_only_does_not_reach_this_machine),
        cmocka_unit_test(special_addresses_are_not_public),
    };
    return cmocka_run_group_tests_name("client", tests, set_up, tear_down);
}
