/* testing.h - a server on a thread of its own, and raw clients, for this folder's tests */
#ifndef SV_HTTP_TESTING_H
#define SV_HTTP_TESTING_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/time.h"
#include "http/api.h"

typedef struct world {
    sv_loop *loop;
    sv_jobs *jobs;
    sv_http *s;
    sv_listener *tcp, *local;
    pthread_t thread;
    int port;
    char path[64];
} world;

static inline void *world_thread(void *arg)
{
    sv_loop_run(arg);
    return NULL;
}

static inline int world_tcp(world *w)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    w->port = ntohs(a.sin_port);
    return fd;
}

/* Fills *w; opts NULL: defaults. opts->jobs is set to a pool of 2 threads and 4 places. */
static inline void world_start(world *w, const sv_http_opts *opts, const sv_route *routes, size_t n_routes)
{
    sv_http_opts o = opts ? *opts : (sv_http_opts){0};
    sv_err err = {0};
    int fd = -1;
    *w = (world){.loop = sv_loop_new(), .jobs = sv_jobs_new(2, 4)};
    o.jobs = w->jobs;
    w->s = sv_http_new(w->loop, &o);
    for (size_t i = 0; i < n_routes; i++)
        sv_http_route(w->s, &routes[i], w);
    w->tcp = sv_http_listen(w->s, world_tcp(w), "tcp");
    snprintf(w->path, sizeof w->path, "/tmp/sv-http-test-%d.sock", (int)getpid());
    if (sv_unix_listen(&fd, w->path, 64, &err) != SV_OK)
        fail_msg("%s", err.msg);
    w->local = sv_http_listen(w->s, fd, "unix");
    w->thread = sv_thread_start("test-loop", world_thread, w->loop);
}

static inline void world_stop(world *w)
{
    sv_loop_stop(w->loop);
    pthread_join(w->thread, NULL);
    w->jobs = sv_jobs_free(w->jobs);
    w->s = sv_http_free(w->s);
    w->loop = sv_loop_free(w->loop);
    unlink(w->path);
}

/* Runs fn on the loop's thread and waits for it. */
typedef struct on_loop_call { void (*fn)(void *); void *arg; sem_t done; } on_loop_call;
static inline void on_loop_run(void *arg)
{
    on_loop_call *c = arg;
    c->fn(c->arg);
    sem_post(&c->done);
}
static inline void on_loop(world *w, void (*fn)(void *), void *arg)
{
    on_loop_call c = {.fn = fn, .arg = arg};
    sem_init(&c.done, 0, 0);
    sv_loop_post(w->loop, on_loop_run, &c);
    sem_wait(&c.done);
    sem_destroy(&c.done);
}

/* ---- clients: blocking sockets with a limit of 5 s ---- */

static inline int with_limit(int fd)
{
    struct timeval t = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    return fd;
}

static inline int dial(const world *w)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return with_limit(fd);
}

static inline int dial_unix(const world *w)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(a.sun_path, w->path, strlen(w->path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return with_limit(fd);
}

static inline void say_n(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        assert_true(k > 0);
        p += k;
        n -= (size_t)k;
    }
}

static inline void say(int fd, const char *text) { say_n(fd, text, strlen(text)); }

/* Reads until `end` is the tail of what came (NULL: until the connection ends); the text is the caller's to free. */
static inline char *hear(int fd, const char *end)
{
    sv_buf b;
    sv_buf_init(&b, 256 << 20);
    for (;;) {
        char piece[65536];
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n <= 0 && end)
            fail_msg("the connection ended (%zd) after '%s'", n, sv_buf_cstr(&b));
        if (n < 0 && errno != ECONNRESET)
            fail_msg("nothing more came within the limit, after '%s'", sv_buf_cstr(&b));
        if (n <= 0)
            break;
        sv_buf_add(&b, piece, (size_t)n);
        size_t k = end ? strlen(end) : 0;
        if (end && b.n >= k && memcmp(b.p + b.n - k, end, k) == 0)
            break;
    }
    return sv_buf_take(&b);
}

/* One exchange on a connection of its own, read to its end. */
static inline char *ask(const world *w, const char *request)
{
    int fd = dial(w);
    say(fd, request);
    char *answer = hear(fd, NULL);
    close(fd);
    return answer;
}

#define assert_has(text, part) \
    do { \
        if (!strstr((text), (part))) \
            fail_msg("'%s' is not in '%s'", (part), (text)); \
    } while (0)
#define assert_lacks(text, part) \
    do { \
        if (strstr((text), (part))) \
            fail_msg("'%s' is in '%s'", (part), (text)); \
    } while (0)

/* Waits up to 5 s for a counter that the loop's thread moves. */
static inline void await(_Atomic int *counter, int want)
{
    int64_t end = sv_mono_ms() + 5000;
    while (*counter < want && sv_mono_ms() < end)
        usleep(1000);
    assert_int_equal(*counter, want);
}
static inline void count(_Atomic int *counter) { ++*counter; }

#endif
