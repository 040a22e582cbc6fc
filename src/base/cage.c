/* cage.c - a process for each run, from a process that was small when it was made
 *
 *     this process --- control socket ---> mother --- fork for each run ---> child
 *                  \------------- a socket pair for the run ---------------/
 *
 * Forking for each run from a process of gigabytes copies its page tables and makes its next writes fault; starting a program anew costs
 * milliseconds of linking. The mother is forked once, early, and holds nothing: a fork of it takes some 0.2 ms. A run's socket pair is made here, and its
 * far end sent to the mother, who forks and forgets it. The child reads a request, computes, writes the answer and ends:
 *     request  u32 i_fn, u32 zero, u64 n_bytes, bytes
 *     answer   i32 rc, i32 api_code, u64 n_bytes, bytes: the output or, with rc not 0, the sentence
 *
 * The child's limits: memory (RLIMIT_DATA), CPU time, no files, no core; then seccomp, and whatever is not reading, writing, memory or the end kills it. It has
 * one descriptor, and neither environment nor data of anybody: the mother closed all she had.
 *
 * Invariants:
 *   1. A run ends: by answer, by the end of the child (the socket closes), by max_wall_s or by cancel. Then its socket is closed here, which ends a child
 *      that still computes (SIGIO).
 *   2. The mother ends with the control socket. She is nobody's parent to wait for: children are reaped by the kernel (SIGCHLD ignored). */
#include "base/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { POLL_MS = 100, MAX_FNS = 8 };

typedef struct head { int32_t a, b; uint64_t n; } head; /* of a request: i_fn, 0; of an answer: rc, api_code */

struct sv_cage {
    sv_cage_fn fns[MAX_FNS];
    int n_fns;
    sv_cage_opts o;
    pthread_mutex_t lock; /* guards what follows; nothing else is taken while it is held */
    pthread_cond_t freed;
    int n_running;
    int control; /* -1: no mother */
    pid_t mother;
};

/* --- the child ---------------------------------------------------------------------------------------------------- */

static bool read_whole(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = read(fd, (char *)p + at, n - at);
        if (r == 0 || (r < 0 && errno != EINTR))
            return false;
        at += r > 0 ? (size_t)r : 0;
    }
    return true;
}

static bool write_whole(int fd, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = write(fd, (const char *)p + at, n - at);
        if (r < 0 && errno != EINTR)
            return false;
        at += r > 0 ? (size_t)r : 0;
    }
    return true;
}

/* Made once, by the mother: what a run may still ask the kernel for. NULL: no memory. */
static scmp_filter_ctx make_filter(void)
{
    static const int allowed[] = {
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(mprotect),
        SCMP_SYS(futex), SCMP_SYS(rt_sigreturn), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(clock_gettime), SCMP_SYS(getrandom),
        SCMP_SYS(restart_syscall), SCMP_SYS(fcntl), SCMP_SYS(getpid),
    };
    scmp_filter_ctx f = seccomp_init(SANITIZED ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS); /* a sanitizer's report asks for more */
    for (size_t i = 0; f && i < SV_LEN(allowed); i++)
        if (seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0) != 0)
            return NULL;
    if (f && SANITIZED && seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0) != 0) /* its longjmp asks */
        return NULL;
    return f;
}

static bool lock_in(const sv_cage *c, scmp_filter_ctx filter)
{
    struct rlimit cpu = {(rlim_t)c->o.max_cpu_s, (rlim_t)c->o.max_cpu_s}, none = {0, 0}, memory = {c->o.max_memory, c->o.max_memory};
    bool ok = setrlimit(RLIMIT_CPU, &cpu) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 && setrlimit(RLIMIT_FSIZE, &none) == 0 &&
              setrlimit(RLIMIT_NOFILE, &none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    if (!SANITIZED) /* whose shadow memory counts */
        ok = ok && setrlimit(RLIMIT_DATA, &memory) == 0;
    return ok && filter && seccomp_load(filter) == 0;
}

/* From here on the end of the caller, who hung up, is the end of this process: SIGIO, unhandled. False: it hung up already. */
static bool watch_caller(int fd)
{
    char byte;
    return fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC) == 0 && read(fd, &byte, 1) < 0 && errno == EAGAIN;
}

/* Before the answer: room in the socket would raise the signal as well. */
static bool unwatch_caller(int fd) { return fcntl(fd, F_SETFL, O_RDWR) == 0; }

static _Noreturn void child(const sv_cage *c, scmp_filter_ctx filter, int fd)
{
    head h;
    sv_buf out;
    sv_err err = {0};
    if (!lock_in(c, filter) || !read_whole(fd, &h, sizeof h) || h.a < 0 || h.a >= c->n_fns || h.n > c->o.max_in)
        _exit(1);
    char *in = sv_try_calloc(h.n + 1, 1);
    if (!in || !read_whole(fd, in, h.n) || !watch_caller(fd))
        _exit(1);
    sv_buf_init(&out, c->o.max_out);
    sv_rc rc = c->fns[h.a]((sv_str){in, h.n}, &out, &err);
    if (rc == SV_OK && out.failed)
        rc = sv_fail(&err, SV_ELIMIT, "what comes out has more than %zu bytes", c->o.max_out);
    sv_str s = rc == SV_OK ? sv_buf_str(&out) : sv_str_of(err.msg);
    h = (head){.a = rc, .b = err.api_code, .n = s.n};
    _exit(unwatch_caller(fd) && write_whole(fd, &h, sizeof h) && write_whole(fd, s.p, s.n) ? 0 : 1);
}

/* --- the mother --------------------------------------------------------------------------------------------------- */

/* A run's socket; -1: the control socket has ended. */
static int take_fd(int control)
{
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } aux;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = aux.bytes, .msg_controllen = sizeof aux.bytes};
    ssize_t n;
    while ((n = recvmsg(control, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
    if (!c || c->cmsg_type != SCM_RIGHTS)
        return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static _Noreturn void mother(const sv_cage *c, int control)
{
    int fd;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, normal = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigemptyset(&none);
    sigaction(SIGCHLD, &ignore, NULL);
    sigaction(SIGTERM, &ignore, NULL); /* of a terminal's whole group: she ends with the control socket */
    sigaction(SIGINT, &ignore, NULL);
    prctl(PR_SET_NAME, "cage");
    if (control != 3)
        dup2(control, 3);
    close_range(4, ~0u, 0);
    if (!SANITIZED) { /* nothing is written, whatever happens */
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int i = 0; null >= 0 && i < 3; i++)
            dup2(null, i);
        close_range(4, ~0u, 0);
    }
    scmp_filter_ctx filter = make_filter();
    while ((fd = take_fd(3)) >= 0) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int s = 1; s < 32; s++) /* whoever handles signals in the process that all this was forked from would come to life in here */
                sigaction(s, &normal, NULL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sigprocmask(SIG_SETMASK, &none, NULL);
            close(3);
            child(c, filter, fd);
        }
        close(fd); /* where there was no process to be had, the run sees the end of it */
    }
    _exit(0);
}

static sv_rc start(sv_cage *c, sv_err *err) /* lock held */
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return sv_fail_errno(err, "socketpair");
    c->mother = fork();
    if (c->mother == 0)
        mother(c, pair[1]);
    close(pair[1]);
    if (c->mother < 0) {
        close(pair[0]);
        return sv_fail_errno(err, "fork");
    }
    c->control = pair[0];
    return SV_OK;
}

static void stop(sv_cage *c) /* lock held */
{
    if (c->control < 0)
        return;
    close(c->control);
    c->control = -1;
    while (waitpid(c->mother, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* --- this process ------------------------------------------------------------------------------------------------- */

sv_rc sv_cage_new(sv_cage **out, const sv_cage_fn *fns, int n_fns, const sv_cage_opts *opts, sv_err *err)
{
    sv_cage *c = sv_xnew0(sv_cage);
    SV_ASSERT(n_fns > 0 && n_fns <= MAX_FNS);
    memcpy(c->fns, fns, (size_t)n_fns * sizeof *fns);
    c->n_fns = n_fns;
    c->o.max_memory = opts->max_memory ? opts->max_memory : (size_t)1 << 30;
    c->o.max_cpu_s = opts->max_cpu_s > 0 ? opts->max_cpu_s : 20;
    c->o.max_wall_s = opts->max_wall_s > 0 ? opts->max_wall_s : 60;
    c->o.max_in = opts->max_in ? opts->max_in : (size_t)64 << 20;
    c->o.max_out = opts->max_out ? opts->max_out : (size_t)256 << 20;
    c->o.max_at_once = opts->max_at_once > 0 ? opts->max_at_once : 4;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->freed, NULL);
    c->control = -1;
    if (start(c, err) != SV_OK) {
        sv_cage_free(c);
        return sv_wrap(err, "cage");
    }
    *out = c;
    return SV_OK;
}

sv_cage *sv_cage_free(sv_cage *c)
{
    if (!c)
        return NULL;
    SV_ASSERT(c->n_running == 0);
    stop(c);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->freed);
    free(c);
    return NULL;
}

static bool give_fd(int control, int fd)
{
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } aux = {{0}};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = aux.bytes, .msg_controllen = sizeof aux.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    ssize_t n;
    while ((n = sendmsg(control, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return n == 1;
}

/* A child that waits for its request on *fd. */
static sv_rc enter(sv_cage *c, int *fd, sv_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return sv_fail_errno(err, "cage");
    pthread_mutex_lock(&c->lock);
    while (c->n_running >= c->o.max_at_once)
        pthread_cond_wait(&c->freed, &c->lock);
    sv_rc rc = SV_OK;
    if (c->control < 0 || !give_fd(c->control, pair[1])) { /* the mother is gone */
        stop(c);
        rc = start(c, err);
        if (rc == SV_OK && !give_fd(c->control, pair[1]))
            rc = sv_fail_errno(err, "cage");
    }
    if (rc == SV_OK)
        c->n_running++;
    pthread_mutex_unlock(&c->lock);
    close(pair[1]);
    if (rc == SV_OK)
        *fd = pair[0];
    else
        close(pair[0]);
    return rc;
}

static void leave(sv_cage *c, int fd)
{
    close(fd);
    pthread_mutex_lock(&c->lock);
    c->n_running--;
    pthread_cond_signal(&c->freed);
    pthread_mutex_unlock(&c->lock);
}

typedef struct run {
    sv_cage *c;
    int fd;
    const _Atomic bool *cancel;
    int64_t until_ms;
} run;

/* Waits until something can be done. SV_ECANCELED, SV_EFORMAT: its time is over. */
static sv_rc wait_for(const run *r, short events, sv_err *err)
{
    struct pollfd p = {.fd = r->fd, .events = events};
    for (;;) {
        if (r->cancel && atomic_load(r->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        if (sv_mono_ms() > r->until_ms)
            return sv_fail(err, SV_EFORMAT, "it takes longer than %d s", r->c->o.max_wall_s);
        int n = poll(&p, 1, POLL_MS);
        if (n > 0)
            return SV_OK;
        if (n < 0 && errno != EINTR)
            return sv_fail_errno(err, "poll");
    }
}

static sv_rc died(const run *r, sv_err *err)
{
    return sv_fail(err, SV_EFORMAT, "its decoder ended without an answer: it is broken, or needs more than %zu MiB of memory or %d s", r->c->o.max_memory >> 20,
                   r->c->o.max_cpu_s);
}

static sv_rc send_all(const run *r, const void *p, size_t n, sv_err *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = send(r->fd, (const char *)p + at, n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w > 0)
            at += (size_t)w;
        else if (errno == EAGAIN && wait_for(r, POLLOUT, err) != SV_OK)
            return err->code;
        else if (errno != EAGAIN && errno != EINTR)
            return died(r, err);
    }
    return SV_OK;
}

static sv_rc recv_all(const run *r, void *p, size_t n, sv_err *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = recv(r->fd, (char *)p + at, n - at, MSG_DONTWAIT);
        if (w > 0)
            at += (size_t)w;
        else if (w < 0 && errno == EAGAIN) {
            if (wait_for(r, POLLIN, err) != SV_OK)
                return err->code;
        } else if (w == 0 || errno != EINTR)
            return died(r, err);
    }
    return SV_OK;
}

static sv_rc converse(const run *r, int i_fn, sv_str first, sv_str body, sv_buf *out, sv_err *err)
{
    head h = {.a = i_fn, .n = first.n + body.n};
    sv_err its = {0};
    if (send_all(r, &h, sizeof h, err) != SV_OK || send_all(r, first.p, first.n, err) != SV_OK || send_all(r, body.p, body.n, err) != SV_OK ||
        recv_all(r, &h, sizeof h, err) != SV_OK)
        return err->code;
    if (h.a != SV_OK) { /* what a child says is not to be trusted: a sentence is cut and checked */
        if (h.a > 0 || h.a < SV_ECANCELED || h.n >= sizeof its.msg)
            return died(r, err);
        if (recv_all(r, its.msg, h.n, err) != SV_OK)
            return err->code;
        its.msg[sv_utf8_valid((sv_str){its.msg, h.n}) ? h.n : 0] = 0;
        return sv_fail_api(err, (sv_rc)h.a, h.b, "%s", its.msg);
    }
    if (h.n > r->c->o.max_out)
        return died(r, err);
    size_t before = out->n;
    char *room = h.n ? sv_buf_room(out, h.n) : NULL;
    if (h.n && !room)
        return sv_fail(err, SV_ENOMEM, "no memory for %llu bytes", (unsigned long long)h.n);
    if (recv_all(r, room, h.n, err) != SV_OK)
        return err->code;
    out->n = before + h.n;
    if (out->p)
        out->p[out->n] = 0;
    return SV_OK;
}

sv_rc sv_cage_run(sv_cage *c, int i_fn, sv_str first, sv_str body, sv_buf *out, const _Atomic bool *cancel, sv_err *err)
{
    run r = {.c = c, .cancel = cancel};
    SV_ASSERT(i_fn >= 0 && i_fn < c->n_fns);
    if (first.n + body.n > c->o.max_in)
        return sv_fail(err, SV_ELIMIT, "%zu bytes, at most %zu", first.n + body.n, c->o.max_in);
    if (enter(c, &r.fd, err) != SV_OK)
        return err->code;
    r.until_ms = sv_mono_ms() + c->o.max_wall_s * 1000;
    sv_rc rc = converse(&r, i_fn, first, body, out, err);
    leave(c, r.fd);
    return rc;
}
