/* Tests of body_files.h: bodies that stay in memory or go to a file, answers from both, work in the pool, clients who leave. */
#include "http/body_files.h"

#include <dirent.h>
#include <stdatomic.h>

#include "http/testing.h"

#define HOST "Host: h\r\n"
enum { KEEP = 1000, MAX = 3000000 };

static char dir[] = "/tmp/sv-body-files-test-XXXXXX";
static _Atomic int n_done, n_gone, n_worked;
static atomic_bool hold;

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static uint64_t sum_of(sv_str s)
{
    uint64_t sum = 1;
    for (size_t i = 0; i < s.n; i++)
        sum = sum * 31 + (unsigned char)s.p[i];
    return sum;
}

/* Answers where the body was, how long it is and its sum. */
static void spooled(sv_req *r, sv_spool *s, void *arg)
{
    (void)arg;
    sv_map map = {0};
    sv_str body = {0};
    sv_err err = {0};
    char text[128];
    if (!r) {
        count(&n_gone);
    } else if (s->too_large) {
        snprintf(text, sizeof text, "too large: %llu", (unsigned long long)s->n);
        sv_req_send(r, 413, "text/plain", sv_str_of(text));
    } else {
        assert_int_equal(s->err.code, 0);
        assert_int_equal(sv_spool_view(s, &map, &body, &err), SV_OK);
        assert_int_equal(body.n, s->n);
        snprintf(text, sizeof text, "%s %zu %llx", s->path[0] ? "file" : "memory", body.n, (unsigned long long)sum_of(body));
        sv_req_send(r, 200, "text/plain", sv_str_of(text));
        sv_map_close(&map);
    }
    sv_spool_free(s);
    count(&n_done);
}

static void put(sv_req *r, void *ctx)
{
    world *w = ctx;
    sv_spool_start(r, &(sv_spool_opts){.jobs = w->jobs, .dir = dir, .keep = KEEP, .max = MAX}, spooled, NULL);
}

/* Capitals, and every 'z' is taken out. */
static sv_rc shout(void *arg, sv_buf *piece, sv_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < piece->n; i++)
        if (piece->p[i] == '!')
            return sv_fail(err, SV_EFORMAT, "do not shout");
        else if (piece->p[i] != 'z')
            piece->p[n++] = (char)(piece->p[i] - 32);
    piece->n = n;
    *(size_t *)arg += n;
    return SV_OK;
}

static void filtered(sv_req *r, sv_spool *s, void *arg)
{
    sv_map map = {0};
    sv_str body = {0};
    sv_err err = {0};
    char text[128];
    assert_non_null(r);
    if (s->err.code) {
        sv_req_send(r, 400, "text/plain", sv_str_of(s->err.msg));
    } else {
        assert_int_equal(sv_spool_view(s, &map, &body, &err), SV_OK);
        snprintf(text, sizeof text, "%s %zu of %llu, filter %zu %llx", s->path[0] ? "file" : "memory", body.n, (unsigned long long)s->n, *(size_t *)arg,
                 (unsigned long long)sum_of(body));
        sv_req_send(r, 200, "text/plain", sv_str_of(text));
        sv_map_close(&map);
    }
    sv_spool_free(s);
    free(arg);
}

static void put_filtered(sv_req *r, void *ctx)
{
    world *w = ctx;
    size_t *n = sv_xnew0(size_t);
    sv_spool_start(r, &(sv_spool_opts){.jobs = w->jobs, .dir = dir, .keep = KEEP, .max = MAX, .filter = shout, .filter_arg = n}, filtered, n);
}

static size_t size_asked(sv_req *r)
{
    sv_str s;
    int64_t n = 0;
    assert_true(sv_req_query(r, "n", 0, &s) && sv_str_to_i64(s, &n));
    return (size_t)n;
}

static char *pattern(size_t n)
{
    char *p = sv_xcalloc(n + 1, 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    return p;
}

static void get_memory(sv_req *r, void *ctx)
{
    (void)ctx;
    size_t n = size_asked(r);
    sv_req_send_memory(r, 200, "text/plain", pattern(n), n);
}

static void get_file(sv_req *r, void *ctx)
{
    world *w = ctx;
    size_t n = size_asked(r);
    SV_AUTO(sv_freep) char *p = pattern(n + 10);
    char path[64] = "/tmp/sv-body-files-XXXXXX";
    sv_err err = {0};
    int fd = mkostemp(path, O_CLOEXEC);
    unlink(path);
    assert_int_equal(sv_write_all(fd, p, n + 10, &err), SV_OK);
    sv_str s;
    sv_req_begin(r, 200, NULL, (int64_t)n);
    sv_req_send_file(r, w->jobs, fd, sv_req_query(r, "short", 0, &s) ? 20 : 10, (int64_t)n);
}

static void work(void *arg)
{
    (void)arg;
    while (hold)
        usleep(1000);
    count(&n_worked);
}

static void worked(sv_req *r, void *arg)
{
    assert_string_equal(arg, "mine");
    free(arg);
    if (r)
        sv_req_send(r, 200, "text/plain", SV_STR("worked"));
    else
        count(&n_gone);
    count(&n_done);
}

static void get_work(sv_req *r, void *ctx)
{
    world *w = ctx;
    char *arg = sv_xstrdup("mine");
    if (sv_req_work(r, w->jobs, work, worked, arg))
        return;
    free(arg);
    sv_req_send(r, 503, "text/plain", SV_STR("full"));
}

static void start(world *w)
{
    static const sv_route routes[] = {
        {.method = "PUT", .path = "/put", .fn = put, .flags = SV_ROUTE_STREAM},
        {.method = "PUT", .path = "/filtered", .fn = put_filtered, .flags = SV_ROUTE_STREAM},
        {.method = "GET", .path = "/memory", .fn = get_memory},
        {.method = "GET", .path = "/file", .fn = get_file},
        {.method = "GET", .path = "/work", .fn = get_work},
    };
    n_done = n_gone = n_worked = 0;
    hold = false;
    world_start(w, NULL, routes, SV_LEN(routes));
}

static void a_body_stays_in_memory_or_goes_to_a_file_by_its_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, KEEP, KEEP + 1, 65536, 65537, 262144, 262145, 1000000, MAX, MAX + 1};
    world w;
    start(&w);
    int fd = dial(&w);
    for (size_t i = 0; i < SV_LEN(sizes); i++)
        for (int chunked = 0; chunked < 2; chunked++) {
            SV_AUTO(sv_freep) char *p = pattern(sizes[i]);
            char head[200], want[200];
            snprintf(head, sizeof head, chunked ? "PUT /put HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n" : "PUT /put HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", sizes[i]);
            say(fd, head);
            for (size_t at = 0; at < sizes[i];) {
                size_t n = sizes[i] - at < 70001 ? sizes[i] - at : 70001;
                snprintf(head, sizeof head, "%zx\r\n", n);
                if (chunked)
                    say(fd, head);
                say_n(fd, p + at, n);
                if (chunked)
                    say(fd, "\r\n");
                at += n;
            }
            if (chunked)
                say(fd, "0\r\n\r\n");
            if (sizes[i] > MAX)
                snprintf(want, sizeof want, "\r\n\r\ntoo large: %zu", sizes[i]);
            else
                snprintf(want, sizeof want, "\r\n\r\n%s %zu %llx", sizes[i] > KEEP ? "file" : "memory", sizes[i], (unsigned long long)sum_of((sv_str){p, sizes[i]}));
            free(hear(fd, want));
        }
    assert_int_equal(count_files(), 0);
    close(fd);
    world_stop(&w);
}

static void a_filter_changes_what_goes_to_the_file(void **state)
{
    (void)state;
    static const size_t sizes[] = {KEEP, KEEP + 1, 700001};
    world w;
    start(&w);
    int fd = dial(&w);
    for (size_t i = 0; i < SV_LEN(sizes); i++) {
        SV_AUTO(sv_freep) char *p = pattern(sizes[i]);
        SV_AUTO(sv_freep) char *q = sv_xcalloc(sizes[i] + 1, 1);
        size_t n = 0;
        char head[200], want[200];
        for (size_t k = 0; k < sizes[i]; k++)
            if (sizes[i] <= KEEP)
                q[n++] = p[k];
            else if (p[k] != 'z')
                q[n++] = (char)(p[k] - 32);
        snprintf(head, sizeof head, "PUT /filtered HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", sizes[i]);
        say(fd, head);
        say_n(fd, p, sizes[i]);
        snprintf(want, sizeof want, "\r\n\r\n%s %zu of %zu, filter %zu %llx", sizes[i] > KEEP ? "file" : "memory", n, sizes[i], sizes[i] > KEEP ? n : 0,
                 (unsigned long long)sum_of((sv_str){q, n}));
        free(hear(fd, want));
    }
    SV_AUTO(sv_freep) char *p = pattern(700001);
    p[600000] = '!';
    say(fd, "PUT /filtered HTTP/1.1\r\n" HOST "Content-Length: 700001\r\n\r\n");
    say_n(fd, p, 700001);
    free(hear(fd, "\r\n\r\ndo not shout"));
    assert_int_equal(count_files(), 0);
    close(fd);
    world_stop(&w);
}

static void a_client_who_leaves_in_its_body_leaves_no_file(void **state)
{
    (void)state;
    world w;
    start(&w);
    SV_AUTO(sv_freep) char *p = pattern(1000000);
    for (int i = 0; i < 8; i++) {
        int fd = dial(&w);
        say(fd, "PUT /put HTTP/1.1\r\n" HOST "Content-Length: 2000000\r\n\r\n");
        say_n(fd, p, (size_t)i * 140000);
        usleep((useconds_t)i * 500);
        close(fd);
    }
    await(&n_done, 8);
    assert_int_equal(n_gone, 8);
    assert_int_equal(count_files(), 0);
    world_stop(&w);
}

static void answers_come_whole_from_memory_and_from_files(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 262144, 262145, 5000000};
    world w;
    start(&w);
    int fd = dial(&w);
    for (size_t i = 0; i < SV_LEN(sizes); i++)
        for (int file = 0; file < 2; file++) {
            SV_AUTO(sv_freep) char *p = pattern(sizes[i] + 10);
            char request[100];
            snprintf(request, sizeof request, "GET /%s?n=%zu HTTP/1.1\r\n" HOST "\r\n", file ? "file" : "memory", sizes[i]);
            say(fd, request);
            size_t skip = file ? 10 : 0;
            p[sizes[i] + skip] = 0;
            char *want = sv_xasprintf("\r\n\r\n%s", p + skip);
            free(hear(fd, want));
            free(want);
            snprintf(request, sizeof request, "HEAD /%s?n=%zu HTTP/1.1\r\n" HOST "\r\n", file ? "file" : "memory", sizes[i]);
            say(fd, request);
            SV_AUTO(sv_freep) char *head = hear(fd, "\r\n\r\n");
            assert_has(head, "200 OK");
        }
    close(fd);
    SV_AUTO(sv_freep) char *cut = ask(&w, "GET /file?n=5000000&short=1 HTTP/1.1\r\n" HOST "\r\n"); /* cut, not padded and not hanging */
    assert_has(cut, "Content-Length: 5000000");
    for (int i = 0; i < 6; i++) { /* those who leave in the middle */
        fd = dial(&w);
        say(fd, i % 2 ? "GET /file?n=50000000 HTTP/1.1\r\n" HOST "\r\n" : "GET /memory?n=50000000 HTTP/1.1\r\n" HOST "\r\n");
        char some[100];
        assert_true(recv(fd, some, sizeof some, 0) > 0);
        close(fd);
    }
    free(ask(&w, "GET /memory?n=5 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
    world_stop(&w);
}

static void work_is_answered_and_outlives_its_client(void **state)
{
    (void)state;
    world w;
    start(&w);
    int fd = dial(&w);
    say(fd, "GET /work HTTP/1.1\r\n" HOST "\r\n");
    free(hear(fd, "worked"));
    hold = true;
    say(fd, "GET /work HTTP/1.1\r\n" HOST "\r\n");
    usleep(20000);
    close(fd);
    usleep(50000);
    hold = false;
    await(&n_done, 2);
    assert_int_equal(n_gone, 1);
    hold = true; /* 2 threads and 4 places */
    int many[8];
    for (int i = 0; i < 8; i++) {
        many[i] = dial(&w);
        say(many[i], "GET /work HTTP/1.1\r\n" HOST "\r\n");
        usleep(20000);
    }
    free(hear(many[7], "full"));
    hold = false;
    for (int i = 0; i < 6; i++)
        free(hear(many[i], "worked"));
    for (int i = 0; i < 8; i++)
        close(many[i]);
    world_stop(&w);
}

int main(void)
{
    assert_non_null(mkdtemp(dir));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_stays_in_memory_or_goes_to_a_file_by_its_size),
        cmocka_unit_test(a_filter_changes_what_goes_to_the_file),
        cmocka_unit_test(a_client_who_leaves_in_its_body_leaves_no_file),
        cmocka_unit_test(answers_come_whole_from_memory_and_from_files),
        cmocka_unit_test(work_is_answered_and_outlives_its_client),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
