/* front_door.c - one port for everything, and the trade we do not practise ourselves
 *
 * Why HAProxy: TLS, HTTP/2, retries, limits and queues are its craft. What we add is only the table host -> socket. Five settings without which
 * it misbehaves with us (each was seen):
 *   - `option abortonclose`: else a client that leaves before the head of the answer is not noticed behind it, and a model goes on;
 *   - `disable-l7-retry unless GET HEAD`: else retry-on empty-response plays a POST twice;
 *   - the check that a route exists before `use-server`: a name it does not know falls to some other Worker;
 *   - long backlogs (ours: listen(4096)): a full one answers 503 at once;
 *   - `pool-max-conn -1 pool-purge-delay 5s` on each server added at run time: there, unlike in the file, both start at 0, and every
 *     request would make a connection of its own (half the throughput).
 *
 * A Worker's server has the name KEY.GENERATION: each deployment has a socket of its own, so the route switches in one map entry and the old
 * process gets nothing new while it ends what it has.
 *
 * Admin commands go one connection each, in order. If HAProxy is just starting it reads the files, which were written before the command:
 * "already exists" is success, and a refused connection is tried again until it listens. */
#include "workers/front_door.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"

enum { RETRY_MS = 20, MAX_REPLY = 64 << 10 };

typedef struct server { char name[64]; char path[108]; } server;

typedef struct command {
    struct command *next;
    char *text;
    void (*done_fn)(void *arg);
    void *arg;
} command;

struct sv_front_door {
    sv_loop *loop;
    char run_dir[64];
    int64_t drain_ms;
    bool settled;
    sv_smap *servers; /* name -> server */
    sv_smap *hosts;   /* host -> server name (heap string) */
    command *head, **tail;
    int fd; /* connection of the command in flight */
    sv_watch *watch;
    sv_timer *retry;
    sv_buf reply;
};

/* ---- the files ---- */

static const char config_head[] =
    "global\n"
    "    maxconn 8000\n"
    "    hard-stop-after %dms\n"
    "    stats socket unix@%s/haproxy.sock mode 600 level admin\n"
    "    tune.bufsize 32768\n"
    "    tune.http.maxhdr 200\n"
    "defaults\n"
    "    mode http\n"
    "    timeout connect 10s\n"
    "    timeout client 1h\n"
    "    timeout server 1h\n"
    "    timeout tunnel 24h\n"
    "    timeout http-request 10s\n"
    "    timeout http-keep-alive 75s\n"
    "    timeout queue 30s\n"
    "    option abortonclose\n"
    "    option http-no-delay\n"
    "    retries 3\n"
    "    retry-on conn-failure empty-response\n"
    "    http-reuse safe\n"
    "frontend front\n"
    "    bind fd@3\n"
    "    http-request set-var(txn.w) req.hdr(host),field(1,:),lower,map(%s/hosts.map)\n"
    "    http-request disable-l7-retry unless METH_GET\n" /* METH_GET is GET and HEAD */
    "    http-request del-header x-sv-binding\n"
    "    http-request del-header x-sv-cf\n"
    "    http-request set-header x-forwarded-proto http\n"
    "    http-request set-header x-forwarded-host %%[req.hdr(host)]\n"
    "    http-request set-header cf-connecting-ip %%[src]\n"
    "    http-request set-header x-real-ip %%[src]\n"
    "    use_backend workers if { var(txn.w) -m found }\n"
    "    default_backend daemon\n"
    "backend daemon\n"
    "    server daemon unix@%s/daemon.sock\n"
    "backend workers\n"
    "    use-server %%[var(txn.w)] if TRUE\n";

static sv_rc write_files(sv_front_door *f, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, config_head, (int)f->drain_ms, f->run_dir, f->run_dir, f->run_dir);
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(f->servers, &i, &key, &v)) {
        const server *s = v;
        sv_buf_addf(&b, "    server %s unix@%s\n", s->name, s->path);
    }
    char path[128];
    snprintf(path, sizeof path, "%s/haproxy.cfg", f->run_dir);
    if (sv_file_replace(path, b.p, b.n, 0600, err) != SV_OK)
        return err->code;

    sv_buf_reset(&b);
    sv_buf_adds(&b, "# host server\n");
    i = 0;
    while (sv_smap_next(f->hosts, &i, &key, &v))
        sv_buf_addf(&b, "%.*s.localhost %s\n", (int)key.n, key.p, (const char *)v);
    snprintf(path, sizeof path, "%s/hosts.map", f->run_dir);
    return sv_file_replace(path, b.p, b.n, 0600, err);
}

static void update_files(sv_front_door *f)
{
    sv_err err = {0};
    if (f->settled && write_files(f, &err) != SV_OK) /* the running front door is right all the same; a restart would find old routes */
        sv_log(SV_ERROR, "front_door.files", "error='%s'", err.msg);
}

/* ---- the admin socket ---- */

static void run_next(void *arg);

static void finish(sv_front_door *f)
{
    command *c = f->head;
    f->head = c->next;
    if (!f->head)
        f->tail = &f->head;
    f->watch = sv_watch_remove(f->watch);
    sv_fd_closep(&f->fd);
    f->fd = -1;
    if (c->done_fn)
        c->done_fn(c->arg);
    free(c->text);
    free(c);
    sv_timer_set(f->retry, 0);
}

static void try_later(sv_front_door *f)
{
    f->watch = sv_watch_remove(f->watch);
    sv_fd_closep(&f->fd);
    f->fd = -1;
    sv_timer_set(f->retry, RETRY_MS);
}

/* What HAProxy says when it did, or need not do, what was asked. Everything else is logged. */
static bool reply_is_fine(const char *line)
{
    static const char *const fine[] = {"New server registered.", "Server deleted.", "Already exists", "A server with the same name and",
                                       "entry not found", "Key not found", "No such server", "no such server", "is not in maintenance", NULL};
    if (!*line)
        return true;
    for (int i = 0; fine[i]; i++)
        if (strstr(line, fine[i]))
            return true;
    return false;
}

static void reply_ready(void *arg, int fd, uint32_t events)
{
    sv_front_door *f = arg;
    (void)events;
    for (;;) {
        char *room = sv_buf_room(&f->reply, 4096);
        if (!room) {
            sv_buf_reset(&f->reply);
            continue;
        }
        ssize_t n = recv(fd, room, 4096, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0) {
            f->reply.n += (size_t)n;
            continue;
        }
        if (n < 0) {
            try_later(f);
            return;
        }
        break;
    }
    sv_buf_addc(&f->reply, '\0');
    char *save = NULL;
    for (char *line = strtok_r(f->reply.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!reply_is_fine(line))
            sv_log(SV_WARN, "front_door.answer", "text='%s'", line);
    finish(f);
}

static void run_next(void *arg)
{
    sv_front_door *f = arg;
    if (!f->head || f->fd >= 0)
        return;
    char path[128];
    sv_err err = {0};
    snprintf(path, sizeof path, "%s/haproxy.sock", f->run_dir);
    if (sv_unix_connect(&f->fd, path, &err) != SV_OK) { /* starting or restarting */
        f->fd = -1;
        sv_timer_set(f->retry, RETRY_MS);
        return;
    }
    sv_buf_reset(&f->reply);
    size_t n = strlen(f->head->text);
    if (send(f->fd, f->head->text, n, MSG_NOSIGNAL) != (ssize_t)n) {
        try_later(f);
        return;
    }
    f->watch = sv_loop_watch(f->loop, f->fd, EPOLLIN, reply_ready, f);
}

static void enqueue(sv_front_door *f, char *text, void (*done_fn)(void *arg), void *arg)
{
    command *c = sv_xnew0(command);
    *c = (command){.text = text, .done_fn = done_fn, .arg = arg};
    *f->tail = c;
    f->tail = &c->next;
    sv_timer_set(f->retry, 0);
}

/* ---- routes ---- */

void sv_front_door_route(sv_front_door *f, const char *host, const char *name, const char *path, void (*done_fn)(void *arg), void *arg)
{
    SV_ASSERT(host && name && path);
    server *s = sv_smap_get(f->servers, sv_str_of(name));
    if (!s) {
        s = sv_xnew0(server);
        snprintf(s->name, sizeof s->name, "%s", name);
        snprintf(s->path, sizeof s->path, "%s", path);
        sv_smap_put(f->servers, sv_str_of(name), s);
    }
    free(sv_smap_put(f->hosts, sv_str_of(host), sv_xstrdup(name)));
    update_files(f);
    /* `set map` fails on a new key and `add map` on none: a second add would make a duplicate, so delete and add, in one command line. */
    enqueue(f, sv_xasprintf("add server workers/%s unix@%s pool-max-conn -1 pool-purge-delay 5s; enable server workers/%s; del map %s/hosts.map %s.localhost; "
                            "add map %s/hosts.map %s.localhost %s\n",
                            name, path, name, f->run_dir, host, f->run_dir, host, name),
            done_fn, arg);
}

void sv_front_door_unroute(sv_front_door *f, const char *host)
{
    free(sv_smap_del(f->hosts, sv_str_of(host)));
    update_files(f);
    enqueue(f, sv_xasprintf("del map %s/hosts.map %s.localhost\n", f->run_dir, host), NULL, NULL);
}

void sv_front_door_forget(sv_front_door *f, const char *name)
{
    server *s = sv_smap_del(f->servers, sv_str_of(name));
    if (!s)
        return;
    free(s);
    update_files(f);
    enqueue(f, sv_xasprintf("set server workers/%s state maint; del server workers/%s\n", name, name), NULL, NULL);
}

/* ---- life ---- */

void sv_front_door_settle(sv_front_door *f)
{
    f->settled = true;
    update_files(f);
}

static void started(const sv_super_msg *m, int fd, void *arg)
{
    (void)arg;
    sv_fd_closep(&fd);
    if (m && m->op == SV_SUPER_FAIL)
        sv_log(SV_ERROR, "front_door.start", "error='%s'", m->text);
}

sv_rc sv_front_door_new(sv_front_door **out, sv_loop *loop, sv_super_client *super, const char *run_dir, const char *haproxy,
                        int64_t drain_ms, sv_err *err)
{
    if (access(haproxy, X_OK) < 0)
        return sv_fail(err, SV_ENOENT, "'%s' is not there: install the Debian package haproxy", haproxy);
    sv_front_door *f = sv_xnew0(sv_front_door);
    *f = (sv_front_door){.loop = loop, .drain_ms = drain_ms, .fd = -1, .servers = sv_smap_new(), .hosts = sv_smap_new()};
    snprintf(f->run_dir, sizeof f->run_dir, "%s", run_dir);
    f->tail = &f->head;
    f->retry = sv_timer_new(loop, run_next, f);
    sv_buf_init(&f->reply, MAX_REPLY);

    char config[128];
    snprintf(config, sizeof config, "%s/haproxy.cfg", run_dir);
    const char *argv[] = {haproxy, "-db", "-q", "-f", config, NULL};
    const char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    const char *listen[] = {"front", NULL};
    sv_spawn spawn = {.argv = argv, .env = env, .listen = listen, .restart = true};
    int out_fd = -1;
    if ((!sv_file_exists(config) && write_files(f, err) != SV_OK) || sv_super_spawn(super, "haproxy", &spawn, &out_fd, NULL, started, f, err) != SV_OK) {
        sv_front_door_free(f);
        return err->code;
    }
    sv_fd_closep(&out_fd); /* it prints where the supervisor prints */
    *out = f;
    return SV_OK;
}

sv_front_door *sv_front_door_free(sv_front_door *f)
{
    if (!f)
        return NULL;
    sv_watch_remove(f->watch);
    sv_fd_closep(&f->fd);
    sv_timer_free(f->retry);
    for (command *c = f->head, *next; c; c = next) {
        next = c->next;
        free(c->text);
        free(c);
    }
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(f->servers, &i, &key, &v))
        free(v);
    i = 0;
    while (sv_smap_next(f->hosts, &i, &key, &v))
        free(v);
    sv_smap_free(f->servers);
    sv_smap_free(f->hosts);
    sv_buf_done(&f->reply);
    free(f);
    return NULL;
}
