/* links: http */
/* http_fuzz.c - a connection's bytes against a whole server: conn.c, req.c, router.c and llhttp over a socket pair
 *
 * The first byte says how the rest is cut into sends. The client shuts its side when it has sent all, reads whatever comes, and
 * the connection must then end by itself: without a time-out, with one `after` for each `before`, and on_close for exactly
 * those requests that were not answered. All that is answered must begin like HTTP. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/server_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct {
    sv_loop *loop;
    sv_http *s;
    int client;
    const uint8_t *p;
    size_t left, piece, turns;
    size_t n_out;
    char first[9]; /* of what the server sent */
    int n_before, n_after, n_open;
} f;

static bool before(sv_req *r, void *ctx)
{
    (void)ctx;
    f.n_before++;
    SV_ASSERT(strlen(sv_req_id(r)) == 32 && sv_req_status(r) == 0);
    return true;
}

static void after(sv_req *r, void *ctx)
{
    (void)r, (void)ctx;
    f.n_after++;
}

static sv_str prefix(sv_req *r, void *ctx)
{
    (void)ctx;
    return sv_req_header(r, "x-p");
}

static void on_close(sv_req *r, void *arg)
{
    (void)r, (void)arg;
    f.n_open--;
}

static void whole(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_str v = {0}, name, value;
    sv_err err = {0};
    sv_buf b;
    sv_buf_init(&b, 1 << 20);
    for (int i = 0; i < sv_req_n_headers(r); i++) {
        sv_req_header_at(r, i, &name, &value);
        sv_buf_add(&b, name.p, name.n);
        sv_buf_add(&b, value.p, value.n);
    }
    if (sv_req_param(r, "k", &v, &err) == SV_OK)
        sv_buf_add(&b, v.p, v.n);
    for (int i = 0; sv_req_query(r, "q", i, &v); i++)
        sv_buf_add(&b, v.p, v.n);
    v = sv_req_body(r);
    sv_buf_add(&b, v.p, v.n);
    char *mirrored = sv_arena_strndup(sv_req_arena(r), b.n ? b.p : "", b.n < 100 ? b.n : 100);
    sv_req_add_header(r, "X-Mirror", mirrored ? mirrored : "");
    sv_req_send_reason(r, 200, mirrored, "text/plain", sv_buf_str(&b));
    sv_buf_done(&b);
}

static void piece(sv_req *r, const char *p, size_t n, void *arg)
{
    (void)arg;
    if (!sv_req_begun(r))
        sv_req_begin(r, 200, NULL, -1);
    sv_req_write(r, p, n);
    if (n == 0) {
        f.n_open--;
        sv_req_end(r);
    } else if (n > 3) {
        sv_req_pause_body(r, true);
        sv_req_pause_body(r, false);
    }
}

static void stream(sv_req *r, void *ctx)
{
    (void)ctx;
    f.n_open++;
    sv_req_on_close(r, on_close, NULL);
    sv_req_on_body(r, piece, NULL);
}

static void hasty(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_sse_begin(r);
    sv_sse_data(r, sv_req_path(r));
    if (sv_req_header(r, "x-abort").p)
        sv_req_abort(r);
    else
        sv_req_end(r);
}

/* Plays the client, once a turn of the loop. */
static void tick(void *arg)
{
    char sink[65536];
    ssize_t n;
    (void)arg;
    while ((n = recv(f.client, sink, sizeof sink, MSG_DONTWAIT)) > 0) {
        for (size_t i = 0; i < (size_t)n && f.n_out < 9; i++)
            f.first[f.n_out++] = sink[i];
    }
    size_t k = f.left < f.piece ? f.left : f.piece;
    n = k ? send(f.client, f.p, k, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n > 0) {
        f.p += n;
        f.left -= (size_t)n;
    }
    if (f.left == 0 || (n < 0 && errno != EAGAIN)) {
        f.left = 0;
        shutdown(f.client, SHUT_WR);
    }
    SV_ASSERT(++f.turns < 100000); /* or it hangs */
    if (sv_http_get_stats(f.s).n_connections == 0)
        sv_loop_stop(f.loop);
    else
        sv_loop_post(f.loop, tick, NULL);
}

static void start(void)
{
    static const sv_route routes[] = {
        {.method = "GET", .path = "/", .fn = whole},
        {.method = "*", .path = "/w/:k", .fn = whole, .max_body = 64},
        {.method = "POST", .path = "/d/*k", .fn = whole, .max_body = 8, .flags = SV_ROUTE_DRAIN_FIRST},
        {.method = "*", .path = "/s", .fn = stream, .flags = SV_ROUTE_STREAM},
        {.method = "PUT", .path = "/s/:k", .fn = stream, .max_body = 16, .flags = SV_ROUTE_STREAM},
        {.method = "*", .path = "/h", .fn = hasty, .flags = SV_ROUTE_STREAM},
    };
    f.loop = sv_loop_new();
    f.s = sv_http_new(f.loop, &(sv_http_opts){.max_head = 1024, .before = before, .after = after, .prefix = prefix, .proxy = true});
    for (size_t i = 0; i < SV_LEN(routes); i++)
        sv_http_route(f.s, &routes[i], NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    int fds[2];
    if (!f.loop)
        start();
    if (n < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return 0;
    f.client = fds[0];
    f.p = p + 1;
    f.left = n - 1;
    f.piece = p[0] == 0 ? 1 : p[0] < 128 ? p[0] : 65536;
    f.turns = f.n_out = 0;
    f.n_before = f.n_after = f.n_open = 0;
    SV_ASSERT(sv_http_adopt(f.s, fds[1], NULL, false));
    sv_loop_post(f.loop, tick, NULL);
    sv_loop_run(f.loop);
    close(f.client);
    SV_ASSERT(f.n_before == f.n_after && f.n_open == 0);
    SV_ASSERT(f.n_out < 9 || memcmp(f.first, "HTTP/1.1 ", 9) == 0);
    return 0;
}
