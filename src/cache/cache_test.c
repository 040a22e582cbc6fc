/* Tests of cache.h: put and match, what goes and when, room, restarts, kill -9. */
#include "cache/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/time.h"
#include "cache/freshness.h"

enum { ROOM = 4 << 20 };
static char dir[] = "/tmp/sv-cache-test-XXXXXX";
static sv_cache *c;
static sv_err err;

static int start(void **state)
{
    (void)state;
    err = (sv_err){0};
    assert_int_equal(sv_remove_tree(dir, &err), SV_OK);
    assert_int_equal(sv_cache_open(&c, dir, ROOM, ROOM / 8, &err), SV_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    c = sv_cache_close(c);
    return 0;
}

static void reopen(void)
{
    c = sv_cache_close(c);
    assert_int_equal(sv_cache_open(&c, dir, ROOM, ROOM / 8, &err), SV_OK);
}

static sv_cache_key key_of(const char *url) { return sv_cache_key_of(SV_STR("acc"), SV_STR("worker"), SV_STR(""), sv_str_of(url)); }

/* A response with that Cache-Control and n bytes that depend on the URL. Over SV_CACHE_INLINE it goes through a file, as the binding does it. */
static sv_rc put_n(const char *url, const char *control, size_t n, sv_err *e)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nCache-Control: %s\r\nX-Url: %s\r\n\r\n", n, control, url);
    for (size_t i = 0; i < n; i++)
        sv_buf_addc(&b, (char)('a' + ((size_t)url[strlen(url) - 1] + i) % 26));
    sv_cache_key k = key_of(url);
    char path[600] = "", name[33];
    if (n > SV_CACHE_INLINE) {
        sv_random_hex(name, 16);
        snprintf(path, sizeof path, "%s/%s", sv_cache_folder(c), name);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        sv_rc rc = sv_write_all(fd, b.p, b.n, e);
        close(fd);
        if (rc != SV_OK)
            return rc;
    }
    return sv_cache_put(c, &k, sv_buf_str(&b), path, false, e);
}

static void put(const char *url, const char *control, size_t n)
{
    if (put_n(url, control, n, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

/* -1: no match; else the body's bytes, after each was looked at. */
static int64_t match_n(const char *url, int64_t *age_s)
{
    sv_cache_hit h = {.fd = -1};
    sv_cache_key k = key_of(url);
    sv_err e = {0};
    if (sv_cache_match(c, &k, &h, &e) != SV_OK) {
        SV_ASSERT(e.code == SV_ENOENT);
        return -1;
    }
    SV_AUTO(sv_freep) char *body = sv_xcalloc((size_t)h.length + 1, 1);
    if (h.fd >= 0)
        SV_ASSERT(pread(h.fd, body, (size_t)h.length, h.at) == h.length);
    else
        memcpy(body, h.bytes, (size_t)h.length);
    for (int64_t i = 0; i < h.length; i++)
        SV_ASSERT(body[i] == (char)('a' + ((size_t)url[strlen(url) - 1] + (size_t)i) % 26));
    SV_ASSERT(h.status == 200 && sv_str_is(sv_head_find(sv_str_of(h.head), "x-url"), url));
    if (age_s)
        *age_s = h.age_s;
    int64_t n = h.length;
    sv_cache_hit_done(&h);
    return n;
}

static int64_t match(const char *url) { return match_n(url, NULL); }

static sv_cache_stats stats(void)
{
    sv_cache_stats s;
    if (sv_cache_get_stats(c, &s, &err) != SV_OK)
        fail_msg("%s", err.msg);
    int64_t n = 0;
    DIR *d = opendir(sv_cache_folder(c));
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    assert_int_equal(n, s.n_files); /* none without a row, no row without one */
    return s;
}

static void a_response_is_matched_until_it_is_deleted(void **state)
{
    (void)state;
    sv_cache_key k = key_of("https://x/a");
    assert_int_equal(match("https://x/a"), -1);
    put("https://x/a", "max-age=60", 10);
    put("https://x/b", "max-age=60", SV_CACHE_INLINE + 1);
    put("https://x/c", "max-age=60", 0);
    assert_int_equal(match("https://x/a"), 10);
    assert_int_equal(match("https://x/b"), SV_CACHE_INLINE + 1);
    assert_int_equal(match("https://x/c"), 0);
    put("https://x/a", "max-age=60", 100000);
    assert_int_equal(match("https://x/a"), 100000);
    assert_int_equal(stats().n_files, 2);
    assert_int_equal(sv_cache_delete(c, &k, &err), SV_OK);
    assert_int_equal(match("https://x/a"), -1);
    assert_int_equal(sv_cache_delete(c, &k, &err), SV_ENOENT);
    assert_int_equal(stats().n_files, 1);
}

static void caches_workers_and_accounts_are_apart(void **state)
{
    (void)state;
    static const char *const parts[][4] = {{"acc", "worker", "", "u"}, {"acc2", "worker", "", "u"}, {"acc", "w", "orker", "u"}, {"acc", "worker", "name", "u"}, {"", "accworker", "", "u"}};
    sv_cache_key k[SV_LEN(parts)];
    for (size_t i = 0; i < SV_LEN(parts); i++) {
        k[i] = sv_cache_key_of(sv_str_of(parts[i][0]), sv_str_of(parts[i][1]), sv_str_of(parts[i][2]), sv_str_of(parts[i][3]));
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(k[i].b, k[j].b, 32);
    }
}

static void nothing_stale_is_given_out_and_it_is_swept(void **state)
{
    (void)state;
    int64_t age = -1, begun = sv_now_ms();
    sv_cache_key k = key_of("u/1");
    put("u/0", "max-age=0", 10); /* stale at once */
    assert_int_equal(match("u/0"), -1);
    put("u/1", "max-age=1", 10);
    put("u/2", "max-age=1", 100000);
    put("u/9", "max-age=100", 10);
    assert_int_equal(match_n("u/9", &age), 10);
    assert_int_equal(age, 0);
    while (sv_now_ms() < begun + 1100)
        usleep(10000);
    assert_int_equal(match("u/1"), -1);
    assert_int_equal(sv_cache_delete(c, &k, &err), SV_ENOENT); /* it was no longer there to delete */
    assert_int_equal(match_n("u/9", &age), 10);
    assert_in_range(age, 1, 3);
    assert_int_equal(sv_cache_sweep(c, &err), SV_OK);
    assert_int_equal(stats().n_entries, 1);
    put("u/9", "max-age=0", 10); /* takes away what was there */
    assert_int_equal(match("u/9"), -1);
    assert_int_equal(stats().n_entries, 0);
    assert_int_equal(stats().n_bytes, 0);
}

static void what_may_not_be_stored_is_refused_and_leaves_what_is_there(void **state)
{
    (void)state;
    put("u/1", "max-age=60", 10);
    assert_int_equal(put_n("u/1", "no-store", 10, &err), SV_EINVAL);
    assert_int_equal(put_n("u/1", "private", 100000, &err), SV_EINVAL);
    assert_int_equal(put_n("u/1", "max-age=60", ROOM / 8, &err), SV_ELIMIT);
    sv_cache_key k = key_of("u/1");
    static const char *const bad[] = {"", "x", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"};
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_cache_put(c, &k, sv_str_of(bad[i]), "", false, &err), SV_EFORMAT);
    assert_int_equal(match("u/1"), 10);
    assert_int_equal(stats().n_files, 0);
}

static void the_least_recently_used_make_room(void **state)
{
    (void)state;
    char url[32];
    for (int i = 0; i < 40; i++) { /* 8 MiB into 4 */
        snprintf(url, sizeof url, "u/%02d", i);
        put(url, "max-age=1000", 200 << 10);
        assert_true(stats().n_bytes <= ROOM);
        usleep(2000); /* ms are the clock of use */
    }
    assert_int_equal(match("u/00"), -1);
    assert_int_equal(match("u/19"), -1);
    assert_int_equal(match("u/39"), 200 << 10);
    assert_true(stats().n_entries >= 18);
}

static void entries_survive_a_restart_and_a_lost_file_is_a_miss(void **state)
{
    (void)state;
    char path[600];
    put("u/1", "max-age=60", 10);
    put("u/2", "max-age=60", 100000);
    snprintf(path, sizeof path, "%s/%s", sv_cache_folder(c), "0123456789abcdef0123456789abcdef");
    close(open(path, O_CREAT | O_WRONLY, 0600)); /* what a cut put leaves */
    reopen();
    assert_int_equal(match("u/1"), 10);
    assert_int_equal(match("u/2"), 100000);
    stats();
    DIR *d = opendir(sv_cache_folder(c));
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", sv_cache_folder(c), e->d_name);
            unlink(path);
        }
    closedir(d);
    assert_int_equal(match("u/2"), -1);
    put("u/2", "max-age=60", 100000);
    assert_int_equal(match("u/2"), 100000);
}

static void *hammer(void *arg)
{
    sv_err e = {0};
    int out = *(int *)arg;
    for (int i = 0;; i++) {
        char url[32];
        snprintf(url, sizeof url, "u/%d", i % 40);
        if (put_n(url, "max-age=1000", i % 3 ? 100 : 150000, &e) != SV_OK)
            _exit(3);
        if (write(out, "x", 1) != 1)
            _exit(4);
        match(url);
    }
}

static void what_is_there_after_kill_9_is_whole(void **state)
{
    (void)state;
    unsigned seed = (unsigned)sv_mono_us();
    for (int round = 0; round < 12; round++) {
        int fds[2];
        c = sv_cache_close(c);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t t;
            if (sv_cache_open(&c, dir, ROOM, ROOM / 8, &err) != SV_OK)
                _exit(2);
            for (int i = 0; i < 3; i++)
                pthread_create(&t, NULL, hammer, &fds[1]);
            for (;;)
                pause();
        }
        close(fds[1]);
        poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 10000);
        usleep((useconds_t)(rand_r(&seed) % 40000));
        kill(pid, SIGKILL);
        int status = 0;
        waitpid(pid, &status, 0);
        close(fds[0]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(sv_cache_open(&c, dir, ROOM, ROOM / 8, &err), SV_OK);
        int n = 0;
        for (int i = 0; i < 40; i++) {
            char url[32];
            snprintf(url, sizeof url, "u/%d", i);
            n += match(url) >= 0; /* looks at every byte */
        }
        assert_int_equal(stats().n_entries, n);
        assert_true(n > 0);
    }
}

int main(void)
{
    assert_non_null(mkdtemp(dir));
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(a_response_is_matched_until_it_is_deleted),
        T(caches_workers_and_accounts_are_apart),
        T(nothing_stale_is_given_out_and_it_is_swept),
        T(what_may_not_be_stored_is_refused_and_leaves_what_is_there),
        T(the_least_recently_used_make_room),
        T(entries_survive_a_restart_and_a_lost_file_is_a_miss),
        T(what_is_there_after_kill_9_is_whole),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sv_err e = {0};
    if (sv_remove_tree(dir, &e) != SV_OK)
        print_message("%s\n", e.msg);
    return failed;
}
