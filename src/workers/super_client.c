/* super_client.c - requests to the supervisor, matched to their answers by number
 *
 * The socket keeps message borders and order, so the waiting list is a queue in effect; numbers are checked all the same. Sending
 * blocks for a moment at most: the pair's buffer holds dozens of messages and the supervisor does nothing but read them. A request that cannot
 * be sent is answered from here, by SV_SUPER_FAIL and never within the call: the caller is still about to note what it asked. */
#include "workers/super_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

typedef struct pending { struct pending *next; uint32_t seq; sv_super_fn fn; void *arg; } pending;

struct sv_super_client {
    sv_loop *loop;
    sv_watch *watch;
    int fd;
    uint32_t seq;
    pending *head, **tail;
    pending *failed;       /* not sent; told by the timer */
    sv_timer *tell;
    sv_super_exit_fn on_exit;
    void *arg;
};

static void nothing(const sv_super_msg *m, int fd, void *arg)
{
    (void)arg;
    if (m && m->op == SV_SUPER_FAIL)
        sv_log(SV_WARN, "super.refused", "error='%s'", m->text);
    sv_fd_closep(&fd);
}

static void answer(sv_super_client *c, const sv_super_msg *m, int fd)
{
    pending *p = c->head;
    if (!p || p->seq != m->seq) {
        sv_log(SV_ERROR, "super.answer", "seq=%u unexpected", m->seq);
        sv_fd_closep(&fd);
        return;
    }
    if (m->op == SV_SUPER_CHILD) { /* one of several; OK follows */
        p->fn(m, fd, p->arg);
        return;
    }
    c->head = p->next;
    if (!c->head)
        c->tail = &c->head;
    p->fn(m, fd, p->arg);
    free(p);
}

static void ready(void *arg, int fd, uint32_t events)
{
    sv_super_client *c = arg;
    (void)events;
    for (;;) {
        sv_super_msg m;
        struct iovec io = {&m, sizeof m};
        union { char b[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } u;
        struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
        ssize_t n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n != sizeof m) { /* the supervisor died; PDEATHSIG ends us within moments */
            c->watch = sv_watch_remove(c->watch);
            return;
        }
        int got = -1;
        struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
        if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS)
            memcpy(&got, CMSG_DATA(cm), sizeof got);
        if (m.op == SV_SUPER_EXIT)
            c->on_exit(&m, c->arg);
        else
            answer(c, &m, got);
    }
}

static void tell_failed(void *arg)
{
    sv_super_client *c = arg;
    for (pending *p = c->failed, *next; p; p = next) {
        sv_super_msg m = {.op = SV_SUPER_FAIL, .seq = p->seq, .status = SV_EIO};
        snprintf(m.text, sizeof m.text, "the supervisor cannot be reached");
        next = p->next;
        c->failed = next; /* before the call, which may ask anew */
        p->fn(&m, -1, p->arg);
        free(p);
    }
}

sv_super_client *sv_super_client_new(sv_loop *loop, int fd, sv_super_exit_fn on_exit, void *arg)
{
    sv_super_client *c = sv_xnew0(sv_super_client);
    *c = (sv_super_client){.loop = loop, .fd = fd, .on_exit = on_exit, .arg = arg};
    c->tail = &c->head;
    c->tell = sv_timer_new(loop, tell_failed, c);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    c->watch = sv_loop_watch(loop, fd, EPOLLIN, ready, c);
    return c;
}

static void end_all(pending *p)
{
    for (pending *next; p; p = next) {
        next = p->next;
        p->fn(NULL, -1, p->arg);
        free(p);
    }
}

sv_super_client *sv_super_client_free(sv_super_client *c)
{
    if (!c)
        return NULL;
    sv_watch_remove(c->watch);
    sv_timer_free(c->tell);
    end_all(c->head);
    end_all(c->failed);
    close(c->fd);
    free(c);
    return NULL;
}

static void send_msg(sv_super_client *c, sv_super_msg *m, const int *fds, int n_fds, sv_super_fn fn, void *arg)
{
    m->seq = ++c->seq;
    struct iovec io = {m, sizeof *m};
    union { char b[CMSG_SPACE(4 * sizeof(int))]; struct cmsghdr align; } u;
    struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
    if (n_fds > 0) {
        h.msg_control = u.b;
        h.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        struct cmsghdr *cm = CMSG_FIRSTHDR(&h);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(cm), fds, (size_t)n_fds * sizeof(int));
    }
    pending *p = sv_xnew0(pending);
    *p = (pending){.seq = m->seq, .fn = fn ? fn : nothing, .arg = arg};
    ssize_t sent;
    do
        sent = sendmsg(c->fd, &h, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        sv_log(SV_ERROR, "super.send", "op=%u errno=%d", m->op, errno);
        p->next = c->failed;
        c->failed = p;
        sv_timer_set(c->tell, 0);
        return;
    }
    *c->tail = p;
    c->tail = &p->next;
}

static sv_super_msg message(sv_super_op op, const char *name)
{
    sv_super_msg m = {.op = op};
    snprintf(m.name, sizeof m.name, "%s", name);
    return m;
}

void sv_super_listen(sv_super_client *c, const char *path, sv_super_fn fn, void *arg)
{
    sv_super_msg m = message(SV_SUPER_LISTEN, path);
    send_msg(c, &m, NULL, 0, fn, arg);
}

void sv_super_unlisten(sv_super_client *c, const char *path)
{
    sv_super_msg m = message(SV_SUPER_UNLISTEN, path);
    send_msg(c, &m, NULL, 0, NULL, NULL);
}

void sv_super_signal(sv_super_client *c, int32_t pid, int sig)
{
    sv_super_msg m = message(SV_SUPER_SIGNAL, "");
    m.pid = pid;
    m.status = sig;
    send_msg(c, &m, NULL, 0, NULL, NULL);
}

void sv_super_list(sv_super_client *c, sv_super_fn fn, void *arg)
{
    sv_super_msg m = message(SV_SUPER_LIST, "");
    send_msg(c, &m, NULL, 0, fn, arg);
}

sv_rc sv_super_spawn(sv_super_client *c, const char *name, const sv_spawn *s, int *out_fd, int *ctl_fd, sv_super_fn fn, void *arg,
                     sv_err *err)
{
    SV_AUTO(sv_fd_closep) int spec = -1;
    if (sv_spawn_pack(&spec, s, err) != SV_OK)
        return err->code;
    int out[2], ctl[2] = {-1, -1};
    if (pipe2(out, O_CLOEXEC) < 0)
        return sv_fail_errno(err, "pipe");
    if (s->control && pipe2(ctl, O_CLOEXEC) < 0) {
        sv_fail_errno(err, "pipe");
        close(out[0]);
        close(out[1]);
        return err->code;
    }
    /* Only our read ends must not block: the write ends are the child's blocking standard output. */
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    int fds[4] = {spec, out[0], out[1], ctl[1]};
    sv_super_msg m = message(SV_SUPER_SPAWN, name);
    send_msg(c, &m, fds, s->control ? 4 : 3, fn, arg);
    close(out[1]);
    *out_fd = out[0];
    if (s->control) {
        fcntl(ctl[0], F_SETFL, O_NONBLOCK);
        close(ctl[1]);
        *ctl_fd = ctl[0];
    }
    return SV_OK;
}
