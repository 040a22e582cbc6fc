/* super.c - one small process that must not die, and knows how to bring everything else back
 *
 * Why a process of its own: a listening socket lives as long as somebody holds it. The daemon, the engine, workerd and the front door may
 * be killed at any moment; the sockets they serve are held here, so a client that connects meanwhile waits in a backlog instead
 * of being refused. To stay alive itself it does almost nothing: it forks, waits, and passes descriptors. It parses no
 * byte that came from outside the machine's own daemon.
 *
 *   child:  RUNNING --exit--> gone                      (restart = false; the daemon is told)
 *           RUNNING --exit--> WAITING --timer--> RUNNING (restart = true; delay 0, then 50 ms doubling to 2 s while it keeps dying young)
 *   we:     SERVING --SIGTERM--> DRAIN_FRONT --front door gone--> DRAIN_WORK --daemon, workerds gone--> DRAIN_ENGINE --> end
 *           any of the last three --drain_ms over--> SIGKILL to all --> end
 *
 * Invariants:
 *   1. Every child has PR_SET_PDEATHSIG = SIGKILL: if we die, all of them do, whatever they were doing. The signal comes only to who asked for it
 *      before; so after asking, a child looks whether we still live (by a pidfd: getppid() means nothing in a namespace of its own).
 *   2. A listener is closed only by UNLISTEN or at our end.
 *   3. At most one daemon runs, and `ctl` is our end of its pair; messages for a dead daemon are dropped (the next one asks LIST). */
#include "workers/super.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"

enum { MAX_SPAWN_FDS = 64, MAX_PACK = 16 << 20, YOUNG_MS = 1000, MAX_DELAY_MS = 2000 };

typedef enum child_kind { CHILD_DAEMON, CHILD_ENGINE, CHILD_FRONT, CHILD_WORKERD } child_kind;

typedef struct child {
    struct child *next;
    struct super *s;
    child_kind kind;
    char name[112];
    sv_arena *arena;  /* holds spawn */
    sv_spawn spawn;
    pid_t pid;        /* 0: WAITING */
    int out_rd, out_wr; /* output pipe, -1: inherits ours. Both ends are kept: no write of the child ever sees EPIPE */
    int64_t started_ms;
    int64_t delay_ms;
    sv_timer *timer;
} child;

typedef struct listener { int fd; char path[108]; } listener;

typedef struct unsent { struct unsent *next; sv_super_msg m; int fd; } unsent;

typedef enum super_state { SERVING, DRAIN_FRONT, DRAIN_WORK, DRAIN_ENGINE } super_state;

typedef struct super {
    const sv_super_opts *opts;
    sv_loop *loop;
    super_state state;
    char run_dir[64];
    int front_fd, ctl, sig_fd, lock_fd;
    int self_fd; /* a pidfd of ours, for children */
    sv_watch *ctl_watch;
    unsent *outbox, **outbox_tail; /* messages the daemon's socket has no room for yet, oldest first */
    sv_smap *listeners; /* path -> listener */
    child *children;
    sv_timer *deadline;
} super;

static void child_start(child *c);

/* ---- packing ---- */

static void pack_strs(sv_buf *b, const char *const *v)
{
    uint32_t n = 0;
    while (v && v[n])
        n++;
    sv_buf_add(b, &n, sizeof n);
    for (uint32_t i = 0; i < n; i++)
        sv_buf_add(b, v[i], strlen(v[i]) + 1);
}

sv_rc sv_spawn_pack(int *fd, const sv_spawn *s, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, MAX_PACK);
    int64_t head[] = {s->restart, s->control, s->sandbox.on, s->sandbox.data_bytes};
    sv_buf_add(&b, head, sizeof head);
    pack_strs(&b, s->argv);
    pack_strs(&b, s->env);
    pack_strs(&b, s->listen);
    pack_strs(&b, s->sandbox.read_paths);
    pack_strs(&b, s->sandbox.write_paths);
    if (b.failed)
        return sv_fail(err, SV_ELIMIT, "arguments and environment of '%s' pass %d bytes", s->argv[0], MAX_PACK);
    SV_AUTO(sv_fd_closep) int m = memfd_create("spawn", MFD_CLOEXEC);
    if (m < 0)
        return sv_fail_errno(err, "memfd_create");
    if (sv_write_all(m, b.p, b.n, err) != SV_OK)
        return err->code;
    *fd = m;
    m = -1;
    return SV_OK;
}

typedef struct cursor { const char *p, *end; sv_arena *a; bool bad; } cursor;

static const char *const *unpack_strs(cursor *c)
{
    uint32_t n = 0;
    if (c->bad || (size_t)(c->end - c->p) < sizeof n) {
        c->bad = true;
        return NULL;
    }
    memcpy(&n, c->p, sizeof n);
    c->p += sizeof n;
    if (n > (size_t)(c->end - c->p)) { /* each string has at least its NUL */
        c->bad = true;
        return NULL;
    }
    const char **v = sv_arena_new(c->a, const char *, (size_t)n + 1);
    for (uint32_t i = 0; v && i < n; i++) {
        const char *nul = memchr(c->p, 0, (size_t)(c->end - c->p));
        if (!nul || !(v[i] = sv_arena_strndup(c->a, c->p, (size_t)(nul - c->p)))) {
            c->bad = true;
            return NULL;
        }
        c->p = nul + 1;
    }
    c->bad |= v == NULL;
    return v;
}

sv_rc sv_spawn_unpack(sv_spawn *out, sv_str bytes, sv_arena *a, sv_err *err)
{
    int64_t head[4];
    if (bytes.n < sizeof head)
        return sv_fail(err, SV_EFORMAT, "spawn: %zu bytes, no room for a head", bytes.n);
    memcpy(head, bytes.p, sizeof head);
    cursor c = {bytes.p + sizeof head, bytes.p + bytes.n, a, false};
    sv_spawn s = {.restart = head[0] != 0, .control = head[1] != 0,
                  .sandbox = {.on = head[2] != 0, .data_bytes = head[3]}};
    s.argv = unpack_strs(&c);
    s.env = unpack_strs(&c);
    s.listen = unpack_strs(&c);
    s.sandbox.read_paths = unpack_strs(&c);
    s.sandbox.write_paths = unpack_strs(&c);
    if (c.bad || c.p != c.end || !s.argv[0])
        return sv_fail(err, SV_EFORMAT, "spawn: %zu bytes do not hold what they promise", bytes.n);
    *out = s;
    return SV_OK;
}

/* ---- sockets ---- */

sv_rc sv_run_dir(char out[64], const char *data_dir, sv_err *err)
{
    char abs[4096];
    if (!realpath(data_dir, abs))
        return sv_fail_errno(err, "'%s'", data_dir);
    if (strlen(abs) <= 48) { /* leaves 108 - 48 - strlen("/run") for "/w/<16 hex>.<generation>.sock" */
        snprintf(out, 64, "%.48s/run", abs);
    } else {
        const char *base = getenv("XDG_RUNTIME_DIR");
        if (!base || strlen(base) > 30)
            base = "/tmp";
        snprintf(out, 64, "%s/selvedge-%u-%012llx", base, (unsigned)getuid(),
                 (unsigned long long)(sv_hash64(abs, strlen(abs), 0) & 0xffffffffffffull));
    }
    if (sv_mkdir_p(out, 0700, err) != SV_OK)
        return sv_wrap(err, "folder for sockets");
    struct stat st;
    if (lstat(out, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid())
        return sv_fail(err, SV_EIO, "'%s' is not a folder of ours: remove it", out);
    return SV_OK;
}

static sv_rc front_listen(super *s, sv_err *err)
{
    const char *colon = strrchr(s->opts->listen, ':');
    if (!colon || colon == s->opts->listen)
        return sv_fail(err, SV_EINVAL, "--listen '%s': want HOST:PORT, as in 127.0.0.1:8787", s->opts->listen);
    char host[128];
    snprintf(host, sizeof host, "%.*s", (int)(colon - s->opts->listen), s->opts->listen);
    size_t n = strlen(host);
    if (host[0] == '[' && n > 1 && host[n - 1] == ']') { /* [::1]:8787 */
        memmove(host, host + 1, n - 2);
        host[n - 2] = 0;
    }
    struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *ai = NULL;
    int rc = getaddrinfo(host, colon + 1, &want, &ai);
    if (rc != 0)
        return sv_fail(err, SV_EINVAL, "--listen '%s': %s", s->opts->listen, gai_strerror(rc));
    int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 4096) == 0;
    freeaddrinfo(ai);
    if (!ok) {
        sv_fail_errno(err, "listen on %s", s->opts->listen);
        sv_fd_closep(&fd);
        return err->code;
    }
    s->front_fd = fd;

    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    char port[8] = "", path[4200], line[160];
    getsockname(fd, (struct sockaddr *)&sa, &len);
    getnameinfo((struct sockaddr *)&sa, len, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    snprintf(path, sizeof path, "%s/listen", s->opts->data_dir);
    snprintf(line, sizeof line, "%.*s:%s\n", (int)(colon - s->opts->listen), s->opts->listen, port);
    return sv_file_replace(path, line, strlen(line), 0600, err);
}

static int listener_get(super *s, const char *path, sv_err *err)
{
    listener *l = sv_smap_get(s->listeners, sv_str_of(path));
    if (l)
        return l->fd;
    if (strlen(path) >= sizeof l->path) {
        sv_fail(err, SV_EINVAL, "socket path '%s' is longer than %zu bytes", path, sizeof l->path - 1);
        return -1;
    }
    int fd = -1;
    if (sv_unix_listen(&fd, path, 4096, err) != SV_OK)
        return -1;
    /* The cage's uid must be able to connect; the folder's mode keeps everybody else out. */
    if (chmod(path, 0666) < 0)
        sv_log(SV_WARN, "super.chmod", "path=%s", path);
    l = sv_xnew0(listener);
    l->fd = fd;
    snprintf(l->path, sizeof l->path, "%s", path);
    sv_smap_put(s->listeners, sv_str_of(path), l);
    return fd;
}

static void listener_drop(super *s, const char *path)
{
    listener *l = sv_smap_del(s->listeners, sv_str_of(path));
    if (!l)
        return;
    close(l->fd);
    unlink(l->path);
    free(l);
}

/* ---- messages ---- */

/* false: the socket is full. Anything else that is wrong is the daemon's end, which shows where we read. */
static bool ctl_try(super *s, const sv_super_msg *m, int fd)
{
    struct iovec io = {(void *)(uintptr_t)m, sizeof *m};
    union { char b[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } u;
    struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = u.b;
        h.msg_controllen = sizeof u.b;
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (sendmsg(s->ctl, &h, MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS)
        return false;
    sv_log(SV_WARN, "super.send", "op=%u errno=%d", m->op, errno);
    return true;
}

static void outbox_drop_first(super *s)
{
    unsent *u = s->outbox;
    s->outbox = u->next;
    if (!s->outbox)
        s->outbox_tail = &s->outbox;
    sv_fd_closep(&u->fd);
    free(u);
}

/* As much as the socket takes; the rest when it is writable again. */
static void outbox_flush(super *s)
{
    while (s->outbox && ctl_try(s, &s->outbox->m, s->outbox->fd))
        outbox_drop_first(s);
    if (s->ctl_watch)
        sv_watch_set(s->ctl_watch, s->outbox ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Messages keep their order; those that a slow daemon cannot take yet wait (a LIST of many Workers is longer than a socket's buffer). */
static void ctl_send(super *s, sv_super_msg *m, int fd)
{
    if (s->ctl < 0)
        return; /* inv. 3 */
    if (!s->outbox && ctl_try(s, m, fd))
        return;
    unsent *u = sv_xnew0(unsent);
    *u = (unsent){.m = *m, .fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1};
    *s->outbox_tail = u;
    s->outbox_tail = &u->next;
    outbox_flush(s);
}

/* The pair with a daemon that is gone. */
static void ctl_close(super *s)
{
    s->ctl_watch = sv_watch_remove(s->ctl_watch);
    sv_fd_closep(&s->ctl);
    while (s->outbox)
        outbox_drop_first(s);
}

static void reply_fail(super *s, uint32_t seq, const sv_err *err)
{
    sv_super_msg m = {.op = SV_SUPER_FAIL, .seq = seq, .status = err->code};
    snprintf(m.text, sizeof m.text, "%.*s", (int)sizeof m.text - 1, err->msg);
    ctl_send(s, &m, -1);
}

/* ---- children ---- */

static child *child_new(super *s, child_kind kind, const char *name)
{
    child *c = sv_xnew0(child);
    c->s = s;
    c->kind = kind;
    c->out_rd = c->out_wr = -1;
    c->arena = sv_arena_create(MAX_PACK * 2);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->next = s->children;
    s->children = c;
    return c;
}

static void child_free(child *c)
{
    for (child **p = &c->s->children; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            break;
        }
    sv_timer_free(c->timer);
    sv_fd_closep(&c->out_rd);
    sv_fd_closep(&c->out_wr);
    sv_arena_free(c->arena);
    free(c);
}

/* inv. 1 */
static void die_with(int super_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (poll(&(struct pollfd){.fd = super_fd, .events = POLLIN}, 1, 0) > 0)
        _exit(125);
}

/* The forked side: descriptors to 3.., the cage, exec. Never returns. */
static _Noreturn void child_exec(const child *c, const int *fds, int n_fds)
{
    die_with(c->s->self_fd);
    setpgid(0, 0); /* Ctrl-C in a terminal is for us alone: we drain, they would die */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (c->out_wr >= 0) {
        dup2(c->out_wr, 1);
        dup2(c->out_wr, 2);
    }
    /* First above everything, then down: no target can be a source that is still needed. */
    int high[MAX_SPAWN_FDS], self = fcntl(c->s->self_fd, F_DUPFD_CLOEXEC, 256), above = 3 + n_fds;
    for (int i = 0; i < n_fds; i++)
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 256);
    for (int i = 0; i < n_fds; i++)
        dup2(high[i], 3 + i);
    dup3(self, above, O_CLOEXEC);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0)
        dup2(null, 0);
    syscall(SYS_close_range, above + 1, ~0U, 0);

    sv_err err = {0};
    if (c->spawn.sandbox.on && sv_sandbox_enter(&c->spawn.sandbox, &err) != SV_OK) {
        dprintf(2, "sandbox: %s\n", err.msg);
        _exit(126);
    }
    die_with(above); /* again: the cage changed the uid, which unsets it */
    execve(c->spawn.argv[0], (char *const *)c->spawn.argv, (char *const *)c->spawn.env);
    dprintf(2, "exec '%s': %s\n", c->spawn.argv[0], strerror(errno));
    _exit(127);
}

static sv_rc child_fork(child *c, int extra_fd, sv_err *err)
{
    int fds[MAX_SPAWN_FDS], n = 0;
    for (size_t i = 0; c->spawn.listen && c->spawn.listen[i]; i++) {
        int fd = strcmp(c->spawn.listen[i], "front") == 0 ? c->s->front_fd : listener_get(c->s, c->spawn.listen[i], err);
        if (fd < 0)
            return err->code;
        if (n == MAX_SPAWN_FDS - 1)
            return sv_fail(err, SV_ELIMIT, "'%s' wants more than %d sockets", c->name, n);
        fds[n++] = fd;
    }
    if (extra_fd >= 0)
        fds[n++] = extra_fd;
    unsigned long flags = SIGCHLD | (c->spawn.sandbox.on ? (unsigned long)sv_sandbox_clone_flags() : 0);
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL); /* a fork, with namespaces */
    if (pid == 0)
        child_exec(c, fds, n);
    if (pid < 0)
        return sv_fail_errno(err, "fork '%s'", c->name);
    c->pid = pid;
    c->started_ms = sv_mono_ms();
    return SV_OK;
}

static void child_retry(void *arg) { child_start(arg); }

static void child_later(child *c)
{
    if (!c->timer)
        c->timer = sv_timer_new(c->s->loop, child_retry, c);
    sv_timer_set(c->timer, c->delay_ms);
    c->delay_ms = c->delay_ms ? (c->delay_ms * 2 < MAX_DELAY_MS ? c->delay_ms * 2 : MAX_DELAY_MS) : 50;
}

static void ctl_ready(void *arg, int fd, uint32_t events);

static int daemon_pair(super *s)
{
    int sv[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return -1;
    ctl_close(s);
    s->ctl = sv[0];
    fcntl(s->ctl, F_SETFL, O_NONBLOCK);
    setsockopt(s->ctl, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int)); /* small on purpose: what a thousand Workers need happens with five */
    s->ctl_watch = sv_loop_watch(s->loop, s->ctl, EPOLLIN, ctl_ready, s);
    return sv[1];
}

static void child_start(child *c)
{
    super *s = c->s;
    if (s->state != SERVING)
        return;
    SV_AUTO(sv_fd_closep) int extra = c->kind == CHILD_DAEMON ? daemon_pair(s) : -1;
    sv_err err = {0};
    if (child_fork(c, extra, &err) != SV_OK) {
        sv_log(SV_ERROR, "super.start", "child=%s error='%s' retry_in_ms=%d", c->name, err.msg, (int)c->delay_ms);
        child_later(c);
        return;
    }
    sv_log(SV_INFO, "super.start", "child=%s pid=%d", c->name, c->pid);
}

static bool any_of(const super *s, child_kind kind)
{
    for (const child *c = s->children; c; c = c->next)
        if (c->kind == kind && c->pid > 0)
            return true;
    return false;
}

static void signal_all(super *s, child_kind kind, int sig)
{
    for (child *c = s->children; c; c = c->next)
        if (c->kind == kind && c->pid > 0)
            kill(c->pid, sig);
}

/* The edges between the drain states; called whenever a child ended. */
static void drain_step(super *s)
{
    if (s->state == DRAIN_FRONT && !any_of(s, CHILD_FRONT)) {
        s->state = DRAIN_WORK;
        signal_all(s, CHILD_DAEMON, SIGTERM);
        signal_all(s, CHILD_WORKERD, SIGTERM);
    }
    if (s->state == DRAIN_WORK && !any_of(s, CHILD_DAEMON) && !any_of(s, CHILD_WORKERD)) {
        s->state = DRAIN_ENGINE;
        signal_all(s, CHILD_ENGINE, SIGTERM);
    }
    if (s->state == DRAIN_ENGINE && !any_of(s, CHILD_ENGINE))
        sv_loop_stop(s->loop);
}

static void drain_over(void *arg)
{
    super *s = arg;
    for (child *c = s->children; c; c = c->next)
        if (c->pid > 0) {
            sv_log(SV_WARN, "super.kill", "child=%s pid=%d reason='drain time is over, or a second signal'", c->name, c->pid);
            kill(c->pid, SIGKILL);
        }
    sv_loop_stop(s->loop);
}

static void child_ended(super *s, child *c, int status)
{
    pid_t pid = c->pid;
    c->pid = 0;
    bool again = c->spawn.restart && s->state == SERVING;
    if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0 || again)
        sv_log(again ? SV_WARN : SV_INFO, "super.exit", "child=%s pid=%d %s=%d%s", c->name, pid,
               WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
               again ? " restarting=1" : "");
    if (again) {
        if (sv_mono_ms() - c->started_ms > YOUNG_MS)
            c->delay_ms = 0;
        child_later(c);
    } else {
        sv_super_msg m = {.op = SV_SUPER_EXIT, .pid = pid, .status = status};
        memcpy(m.name, c->name, sizeof m.name);
        ctl_send(s, &m, -1);
        if (!c->spawn.restart)
            child_free(c);
    }
    drain_step(s);
}

static void reap(super *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (child *c = s->children; c; c = c->next)
            if (c->pid == pid) {
                child_ended(s, c, status);
                break;
            }
}

static void signal_ready(void *arg, int fd, uint32_t events)
{
    super *s = arg;
    struct signalfd_siginfo si;
    (void)events;
    while (read(fd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGCHLD) {
            reap(s);
        } else if (s->state == SERVING) {
            sv_log(SV_INFO, "super.drain", "limit_ms=%d", (int)s->opts->drain_ms);
            s->state = DRAIN_FRONT;
            signal_all(s, CHILD_FRONT, SIGUSR1); /* HAProxy's soft stop: no new connections, running ones end */
            sv_timer_set(s->deadline, s->opts->drain_ms);
            drain_step(s);
        } else {
            drain_over(s); /* a second SIGTERM: at once */
        }
    }
}

/* ---- requests of the daemon ---- */

static void on_spawn(super *s, sv_super_msg *m, int *fds, int n_fds)
{
    sv_err err = {0};
    for (child *c = s->children; c; c = c->next)
        if (strcmp(c->name, m->name) == 0) { /* a new daemon asks for what its predecessor started: it runs */
            sv_super_msg ok = {.op = SV_SUPER_OK, .seq = m->seq, .pid = c->pid};
            ctl_send(s, &ok, -1);
            return;
        }
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, MAX_PACK);
    struct stat st;
    if (n_fds < 3 || fstat(fds[0], &st) < 0 || st.st_size > MAX_PACK || !sv_buf_room(&b, (size_t)st.st_size + 1) ||
        pread(fds[0], b.p, (size_t)st.st_size, 0) != st.st_size) {
        sv_fail(&err, SV_EINVAL, "spawn '%s': no description", m->name);
        reply_fail(s, m->seq, &err);
        return;
    }
    b.n = (size_t)st.st_size;
    child *c = child_new(s, strcmp(m->name, "haproxy") == 0 ? CHILD_FRONT : CHILD_WORKERD, m->name);
    if (sv_spawn_unpack(&c->spawn, sv_buf_str(&b), c->arena, &err) == SV_OK) {
        if (!c->spawn.restart) { /* what restarts by itself prints where we print */
            c->out_rd = fds[1];
            c->out_wr = fds[2];
            fds[1] = fds[2] = -1;
        }
        if (child_fork(c, n_fds > 3 ? fds[3] : -1, &err) == SV_OK) {
            sv_super_msg ok = {.op = SV_SUPER_OK, .seq = m->seq, .pid = c->pid};
            ctl_send(s, &ok, -1);
            return;
        }
    }
    child_free(c);
    reply_fail(s, m->seq, &err);
}

/* What a new daemon must know to go on: which program serves which socket, and all sockets. */
static void list_all(super *s, uint32_t seq)
{
    for (child *c = s->children; c; c = c->next)
        for (size_t i = 0; c->kind == CHILD_WORKERD && c->pid > 0 && c->spawn.listen[i]; i++) {
            sv_super_msg one = {.op = SV_SUPER_CHILD, .seq = seq, .pid = c->pid};
            memcpy(one.name, c->name, sizeof one.name);
            snprintf(one.text, sizeof one.text, "%s", c->spawn.listen[i]);
            ctl_send(s, &one, i == 0 ? c->out_rd : -1);
        }
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(s->listeners, &i, &key, &v)) {
        sv_super_msg one = {.op = SV_SUPER_CHILD, .seq = seq};
        snprintf(one.text, sizeof one.text, "%s", ((listener *)v)->path);
        ctl_send(s, &one, -1);
    }
}

static void on_request(super *s, sv_super_msg *m, int *fds, int n_fds)
{
    sv_err err = {0};
    sv_super_msg ok = {.op = SV_SUPER_OK, .seq = m->seq};
    m->name[sizeof m->name - 1] = 0;
    switch ((sv_super_op)m->op) {
    case SV_SUPER_LISTEN: {
        int fd = listener_get(s, m->name, &err);
        if (fd < 0)
            reply_fail(s, m->seq, &err);
        else
            ctl_send(s, &ok, fd);
        return;
    }
    case SV_SUPER_UNLISTEN:
        listener_drop(s, m->name);
        ctl_send(s, &ok, -1);
        return;
    case SV_SUPER_SPAWN:
        on_spawn(s, m, fds, n_fds);
        return;
    case SV_SUPER_SIGNAL:
        for (child *c = s->children; c; c = c->next)
            if (c->pid > 0 && c->pid == m->pid)
                kill(c->pid, m->status);
        ctl_send(s, &ok, -1);
        return;
    case SV_SUPER_LIST:
        list_all(s, m->seq);
        ctl_send(s, &ok, -1);
        return;
    default:
        sv_log(SV_ERROR, "super.message", "op=%u unknown", m->op);
    }
}

static void ctl_ready(void *arg, int fd, uint32_t events)
{
    super *s = arg;
    if (events & EPOLLOUT)
        outbox_flush(s);
    for (;;) {
        sv_super_msg m;
        struct iovec io = {&m, sizeof m};
        union { char b[CMSG_SPACE(8 * sizeof(int))]; struct cmsghdr align; } u;
        struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
        ssize_t n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) { /* the daemon is gone; its exit is reaped and it starts again with a new pair */
            ctl_close(s);
            return;
        }
        int fds[8], n_fds = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                memcpy(fds, CMSG_DATA(c), (size_t)n_fds * sizeof(int));
            }
        if (n == sizeof m)
            on_request(s, &m, fds, n_fds);
        for (int i = 0; i < n_fds; i++)
            sv_fd_closep(&fds[i]);
    }
}

/* ---- start ---- */

static sv_rc lock_data(super *s, sv_err *err)
{
    char path[4200];
    if (sv_mkdir_p(s->opts->data_dir, 0700, err) != SV_OK)
        return sv_wrap(err, "data directory");
    snprintf(path, sizeof path, "%s/lock", s->opts->data_dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return sv_fail(err, SV_ECONFLICT, "'%s' is in use by another `selvedge serve`: stop it or choose another --data",
                       s->opts->data_dir);
    return SV_OK;
}

static void start_own(super *s, child_kind kind, const char *name, const char *socket, const char *const *args)
{
    child *c = child_new(s, kind, name);
    size_t n = 0;
    while (args && args[n])
        n++;
    const char **argv = sv_arena_new(c->arena, const char *, n + 3);
    argv[0] = s->opts->self;
    argv[1] = name;
    for (size_t i = 0; i < n; i++)
        argv[2 + i] = args[i];
    const char **listen = sv_arena_new(c->arena, const char *, 2);
    listen[0] = sv_arena_printf(c->arena, "%s/%s", s->run_dir, socket);
    c->spawn = (sv_spawn){.argv = argv, .env = (const char *const *)environ, .listen = listen, .restart = true};
    child_start(c);
}

static void super_done(super *s)
{
    while (s->children) {
        child *c = s->children;
        if (c->pid > 0) {
            kill(c->pid, SIGKILL);
            waitpid(c->pid, NULL, 0);
        }
        child_free(c);
    }
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(s->listeners, &i, &key, &v)) {
        listener *l = v;
        close(l->fd);
        unlink(l->path);
        free(l);
    }
    sv_smap_free(s->listeners);
    sv_timer_free(s->deadline);
    ctl_close(s);
    sv_fd_closep(&s->front_fd);
    sv_fd_closep(&s->sig_fd);
    sv_fd_closep(&s->self_fd);
    sv_loop_free(s->loop);
    sv_fd_closep(&s->lock_fd);
}

/* Once: what a Worker's process is held by here. */
static void log_cage(void)
{
    int cage = sv_sandbox_probe();
    bool whole = (cage & SV_CAGE_NAMESPACES) && (cage & SV_CAGE_LANDLOCK);
    sv_log(whole ? SV_INFO : SV_WARN, "super.cage", "namespaces=%d landlock=%d own_uid=%d seccomp=1%s", (cage & SV_CAGE_NAMESPACES) != 0,
           (cage & SV_CAGE_LANDLOCK) != 0, (cage & SV_CAGE_UID) != 0, whole ? "" : " effect='this host does not allow the rest: Workers run without it'");
}

sv_rc sv_super_run(const sv_super_opts *opts, sv_err *err)
{
    sv_super_opts o = *opts;
    o.drain_ms = o.drain_ms ? o.drain_ms : 10000;
    super s = {.opts = &o, .front_fd = -1, .ctl = -1, .sig_fd = -1, .lock_fd = -1, .self_fd = (int)syscall(SYS_pidfd_open, getpid(), 0), .listeners = sv_smap_new()};
    s.outbox_tail = &s.outbox;
    s.loop = sv_loop_new();
    s.deadline = sv_timer_new(s.loop, drain_over, &s);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s.sig_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

    sv_rc rc = lock_data(&s, err);
    if (rc == SV_OK)
        rc = sv_run_dir(s.run_dir, o.data_dir, err);
    if (rc == SV_OK) /* sockets and routes of an earlier run mean nothing now */
        rc = sv_remove_tree(s.run_dir, err);
    if (rc == SV_OK)
        rc = sv_run_dir(s.run_dir, o.data_dir, err);
    if (rc == SV_OK)
        rc = front_listen(&s, err);
    if (rc == SV_OK) {
        sv_loop_watch(s.loop, s.sig_fd, EPOLLIN, signal_ready, &s);
        start_own(&s, CHILD_ENGINE, "engine", "engine.sock", o.engine_args);
        start_own(&s, CHILD_DAEMON, "daemon", "daemon.sock", o.daemon_args);
        log_cage();
        sv_loop_run(s.loop);
    }
    super_done(&s);
    return rc;
}
