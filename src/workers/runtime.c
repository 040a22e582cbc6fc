/* runtime.c - which process serves which Worker, and how one takes over from another
 *
 * All state lives on the loop's thread; the blocking calls of the header post an operation there and wait. workerd tells on its control
 * pipe when a socket listens; that, and not the fork, is the moment a deployment counts as started.
 *
 * Sockets. A Worker's current socket is RUN/w/KEY.GEN.sock, held by the supervisor. A cold Worker's socket is watched here, not accepted
 * from: the first connection waits in its backlog while the process starts, and is then workerd's. A swap makes a socket of a
 * new generation for each Worker that has a live process, starts the new process on it, and only then moves the front door's route: the old
 * process gets no new request from that moment on, so it can be given the time of SV_LIMIT_WAIT_UNTIL_MS for what waitUntil left running, then SIGTERM (workerd
 * ends its open requests), then SIGKILL. A cold Worker keeps its socket through a swap, since requests may be waiting in it.
 *
 * A new daemon (the old one was killed) finds processes and sockets with the supervisor and adopts them. What it cannot know is whether
 * they run what the store says is deployed; each child's name carries a fingerprint of its configuration, which is compared, and a stale one
 * is swapped.
 *
 * Invariants:
 *   1. worker.proc is NULL exactly when worker.watch is set, or a start is under way (waking, blocked), or its retry timer runs.
 *   2. A process is referenced by name only in messages; EXIT frees it, nothing else does.
 *   3. A listener path is dropped when it is no Worker's current path and no live process has it.
 *   4. No process of a unit with folders of its own is started while another one of its Workers lives, draining ones included. */
#include "workers/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/time.h"
#include "workers/front_door.h"
#include "workers/super_client.h"

enum {
    START_LIMIT_MS = 10000, /* exec to listening */
    IDLE_MS = 10 * 60 * 1000,
    GONE_MS = 10,           /* between two looks whether a process is gone */
    RETRY_MIN_MS = 100, RETRY_MAX_MS = 5000, YOUNG_MS = 1000,
    TAIL_BYTES = 4000,      /* of its output, kept for the error message of a failed start */
    MAX_UNIT = 56,          /* sockets of one process: of Workers and of dispatchers */
    MAX_PATH = 108,
};

typedef struct op op;

typedef enum proc_state { STARTING, UP, DRAINING } proc_state;

typedef struct worker {
    sv_runtime *rt;
    sv_worker_id id;
    char host[64];
    char path[MAX_PATH];    /* its current socket */
    int fd;                 /* our copy of it, for the watch */
    sv_watch *watch;
    sv_listener *bindings;
    struct proc *proc;
    int n_held;             /* events under way, which may take no CPU for long */
    bool waking;
    bool blocked;           /* a swap that stops before it starts is under way: nothing else may start its process */
    sv_timer *retry;
    int64_t retry_ms;
} worker;

typedef struct proc {
    struct proc *next;
    sv_runtime *rt;
    char name[112];         /* "KEY fingerprint generation" */
    char unit[40];
    int32_t pid;
    proc_state state;
    char (*paths)[MAX_PATH];
    int n_paths, n_listening;
    int out_fd, ctl_fd;
    sv_watch *out_watch, *ctl_watch;
    char ctl_line[512];
    size_t ctl_n;
    sv_buf tail;
    sv_timer *timer;        /* STARTING: limit; UP: idle check; DRAINING: grace, then kill */
    bool termed, hurried;
    int64_t started_us, since_ms;
    uint64_t cpu_ticks;     /* at the last idle check that saw it change */
    int64_t busy_ms;
    op *op;                 /* who waits for the start; NULL: a cold start */
} proc;

/* A blocking call, posted to the loop. */
struct op {
    op *next;
    sv_runtime *rt;
    void (*fn)(op *o);
    bool done;
    sv_rc rc;
    sv_err err;
    /* arguments and results, by kind */
    const sv_worker_id *id;
    const char *host, *key;
    const sv_unit_spec *spec;
    bool take_over, exclusive;
    sv_timer *timer;    /* exclusive: looks whether the old processes are gone */
    char fingerprint[17];
    int64_t startup_ms;
    worker *w;
    char paths[MAX_UNIT][MAX_PATH];
    int n_keys, n_waiting; /* answers still to come */
    int *fds;
};

struct sv_runtime {
    sv_runtime_opts o;
    char run_dir[64];
    sv_super_client *super;
    sv_front_door *door;
    sv_smap *workers; /* key -> worker */
    proc *procs;
    uint64_t generation;
    pthread_mutex_t mu; /* guards op.done and alive; nothing is taken while it is held */
    pthread_cond_t cv;
    sv_smap *alive;     /* key -> how many processes have a socket of it */
    sv_smap *found;     /* sockets of the time before us: path -> (void *)1, until settled */
    bool listed;
    op *early;          /* declares that came before the list, linked by op.next */
    sv_smap *declaring; /* keys whose sockets are on their way; value: any */
    op *later;          /* declares of such keys, linked by op.next */
};

static void worker_watch(worker *w);
static void proc_retire(proc *p, int64_t grace_ms);

/* ---- operations ---- */

static void op_run(void *arg)
{
    op *o = arg;
    o->fn(o);
}

static sv_rc op_wait(sv_runtime *rt, op *o, sv_err *err)
{
    o->rt = rt;
    sv_loop_post(rt->o.loop, op_run, o);
    pthread_mutex_lock(&rt->mu);
    while (!o->done)
        pthread_cond_wait(&rt->cv, &rt->mu);
    pthread_mutex_unlock(&rt->mu);
    if (o->rc != SV_OK)
        *err = o->err;
    return o->rc;
}

static void unblock(op *o);

static void op_done(op *o, sv_rc rc)
{
    if (o->exclusive)
        unblock(o);
    sv_runtime *rt = o->rt; /* o is on the caller's stack: dead once done is set and the lock is free */
    pthread_mutex_lock(&rt->mu);
    o->rc = rc;
    o->done = true;
    pthread_cond_broadcast(&rt->cv);
    pthread_mutex_unlock(&rt->mu);
}

/* ---- names ---- */

static void socket_path(const sv_runtime *rt, const char *key, uint64_t gen, char out[MAX_PATH])
{
    snprintf(out, MAX_PATH, "%s/w/%s.%llx.sock", rt->run_dir, key, (unsigned long long)gen);
}

/* "KEY.GEN": the front door's name for the socket. */
static void server_name(const char *path, char out[64])
{
    const char *slash = strrchr(path, '/');
    snprintf(out, 64, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot)
        *dot = 0;
}

static void binding_dir(const sv_runtime *rt, const char *key, char out[MAX_PATH])
{
    snprintf(out, MAX_PATH, "%s/b/%s", rt->run_dir, key);
}

void sv_runtime_binding_path(const sv_runtime *rt, const char *key, char out[108])
{
    snprintf(out, 108, "%s/b/%s/s.sock", rt->run_dir, key);
}

static uint64_t next_generation(sv_runtime *rt)
{
    uint64_t now = (uint64_t)sv_now_ms();
    return rt->generation = now > rt->generation ? now : rt->generation + 1;
}

static bool is_events_key(const char *key)
{
    size_t n = strlen(key), k = strlen(SV_EVENTS_SUFFIX);
    return n > k && strcmp(key + n - k, SV_EVENTS_SUFFIX) == 0;
}

static worker *find_worker(const sv_runtime *rt, const char *key) { return sv_smap_get(rt->workers, sv_str_of(key)); }

/* ---- processes ---- */

static bool path_in_use(const sv_runtime *rt, const char *path)
{
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(rt->workers, &i, &key, &v))
        if (strcmp(((worker *)v)->path, path) == 0)
            return true;
    for (const proc *p = rt->procs; p; p = p->next)
        for (int k = 0; k < p->n_paths; k++)
            if (strcmp(p->paths[k], path) == 0)
                return true;
    return false;
}

static void drop_path(sv_runtime *rt, const char *path) /* inv. 3 */
{
    if (path_in_use(rt, path))
        return;
    char name[64];
    server_name(path, name);
    sv_front_door_forget(rt->door, name);
    sv_super_unlisten(rt->super, path);
}

/* Counts a process in or out that has this socket. */
static void count_alive(sv_runtime *rt, const char *path, int by)
{
    const char *slash = strrchr(path, '/'), *dot = slash ? strchr(slash, '.') : NULL;
    if (!dot)
        return;
    sv_str key = {slash + 1, (size_t)(dot - slash - 1)};
    pthread_mutex_lock(&rt->mu);
    intptr_t n = (intptr_t)sv_smap_get(rt->alive, key) + by;
    if (n > 0)
        sv_smap_put(rt->alive, key, (void *)n);
    else
        sv_smap_del(rt->alive, key);
    pthread_mutex_unlock(&rt->mu);
}

bool sv_runtime_runs(sv_runtime *rt, const char *key)
{
    pthread_mutex_lock(&rt->mu);
    bool runs = sv_smap_get(rt->alive, sv_str_of(key)) != NULL;
    pthread_mutex_unlock(&rt->mu);
    return runs;
}

static void proc_free(proc *p)
{
    sv_runtime *rt = p->rt;
    for (proc **q = &rt->procs; *q; q = &(*q)->next)
        if (*q == p) {
            *q = p->next;
            break;
        }
    sv_timer_free(p->timer);
    sv_watch_remove(p->out_watch);
    sv_watch_remove(p->ctl_watch);
    sv_fd_closep(&p->out_fd);
    sv_fd_closep(&p->ctl_fd);
    sv_buf_done(&p->tail);
    for (int i = 0; i < p->n_paths; i++) {
        char path[MAX_PATH];
        memcpy(path, p->paths[i], sizeof path);
        p->paths[i][0] = 0;
        count_alive(rt, path, -1);
        drop_path(rt, path);
    }
    free(p->paths);
    free(p);
}

static void out_ready(void *arg, int fd, uint32_t events)
{
    proc *p = arg;
    char chunk[4096];
    (void)events;
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        p->out_watch = sv_watch_remove(p->out_watch);
        return;
    }
    /* A Worker's console is its owner's, not our log's: only the words of a failing start are kept. */
    if (p->state != STARTING)
        return;
    if (p->tail.n + (size_t)n > TAIL_BYTES)
        n = (ssize_t)(TAIL_BYTES - p->tail.n);
    if (n > 0)
        sv_buf_add(&p->tail, chunk, (size_t)n);
}

static void proc_up(proc *p);

static void ctl_ready(void *arg, int fd, uint32_t events)
{
    proc *p = arg;
    (void)events;
    ssize_t n = read(fd, p->ctl_line + p->ctl_n, sizeof p->ctl_line - 1 - p->ctl_n);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        p->ctl_watch = sv_watch_remove(p->ctl_watch);
        return;
    }
    p->ctl_n += (size_t)n;
    char *nl;
    while ((nl = memchr(p->ctl_line, '\n', p->ctl_n))) {
        *nl = 0;
        if (strstr(p->ctl_line, "\"listen\""))
            p->n_listening++;
        size_t used = (size_t)(nl + 1 - p->ctl_line);
        memmove(p->ctl_line, nl + 1, p->ctl_n -= used);
    }
    if (p->ctl_n == sizeof p->ctl_line - 1)
        p->ctl_n = 0; /* a line that long is none of ours */
    if (p->state == STARTING && p->n_listening >= p->n_paths)
        proc_up(p);
}

/* What workerd said, as one readable line: structured lines give their message, colours and line breaks go. */
static void start_failure(const proc *p, sv_err *err)
{
    char text[400];
    size_t k = 0;
    sv_str rest = sv_str_trim(sv_buf_str(&p->tail));
    while (rest.n && k < sizeof text - 1) {
        const char *nl = memchr(rest.p, '\n', rest.n);
        sv_str line = {rest.p, nl ? (size_t)(nl - rest.p) : rest.n};
        rest = nl ? (sv_str){nl + 1, rest.n - line.n - 1} : (sv_str){NULL, 0};
        sv_err ignore = {0};
        SV_AUTO(sv_json_decrefp) json_t *j = NULL;
        sv_str msg = line;
        if (line.n && line.p[0] == '{' && sv_json_parse(&j, line, &ignore) == SV_OK && sv_json_cstr(j, "message"))
            msg = sv_str_of(sv_json_cstr(j, "message"));
        msg = sv_str_trim(msg);
        if (sv_str_starts(msg, "Unable to find and open the program executable"))
            continue; /* the cage hides it, and only workerd's self-extraction would want it */
        for (size_t i = 0; i < msg.n && k < sizeof text - 3; i++)
            text[k++] = (unsigned char)msg.p[i] < 0x20 ? ' ' : msg.p[i];
        if (rest.n)
            text[k++] = ';', text[k++] = ' ';
    }
    text[k] = 0;
    sv_fail_api(err, SV_EINVAL, 10021, "%s", k ? text : "the script ended before it listened, without a word");
}

static void worker_failed(worker *w)
{
    w->proc = NULL;
    w->retry_ms = w->retry_ms ? (w->retry_ms * 2 < RETRY_MAX_MS ? w->retry_ms * 2 : RETRY_MAX_MS) : RETRY_MIN_MS;
    sv_timer_set(w->retry, w->retry_ms);
}

/* Every Worker that this process serves now waits again for a connection, or for its retry. */
static void release_workers(proc *p, bool failed)
{
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(p->rt->workers, &i, &key, &v)) {
        worker *w = v;
        if (w->proc != p)
            continue;
        w->proc = NULL;
        if (failed)
            worker_failed(w);
        else
            worker_watch(w);
    }
}

static void child_exited(const sv_super_msg *m, void *arg)
{
    sv_runtime *rt = arg;
    proc *p = rt->procs;
    while (p && strcmp(p->name, m->name) != 0)
        p = p->next;
    if (!p)
        return;
    if (p->out_watch)
        out_ready(p, p->out_fd, 0); /* its last words may still be in the pipe */
    if (p->state == STARTING) {
        sv_err err = {0};
        start_failure(p, &err);
        if (p->op) {
            p->op->err = err;
            op_done(p->op, err.code);
        } else {
            sv_log(SV_WARN, "workerd.start", "unit=%s pid=%d error='%s'", p->unit, m->pid, err.msg);
        }
        release_workers(p, true);
    } else {
        bool crashed = p->state == UP;
        if (crashed)
            sv_log(SV_WARN, "workerd.exit", "unit=%s pid=%d status=%d restart='on the next connection'", p->unit, m->pid, m->status);
        release_workers(p, crashed && sv_mono_ms() - p->since_ms < YOUNG_MS);
    }
    proc_free(p);
}

static uint64_t cpu_ticks(int32_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0)
        return 0;
    line[n] = 0;
    const char *p = strrchr(line, ')');
    unsigned long user = 0, sys = 0;
    if (p)
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    return user + sys;
}

static bool is_held(const proc *p)
{
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(p->rt->workers, &i, &key, &v))
        if (((worker *)v)->proc == p && ((worker *)v)->n_held)
            return true;
    return false;
}

/* A process that used no CPU for IDLE_MS served nobody: requests, streams and timers all cost some. */
static void idle_check(proc *p)
{
    uint64_t now = cpu_ticks(p->pid);
    if (now != p->cpu_ticks || is_held(p)) {
        p->cpu_ticks = now;
        p->busy_ms = sv_mono_ms();
    } else if (sv_mono_ms() - p->busy_ms >= IDLE_MS) {
        sv_log(SV_INFO, "workerd.idle", "unit=%s pid=%d", p->unit, p->pid);
        proc_retire(p, 0);
        return;
    }
    sv_timer_set(p->timer, IDLE_MS / 4 + 1);
}

static void proc_timer(void *arg)
{
    proc *p = arg;
    switch (p->state) {
    case STARTING:
        sv_buf_adds(&p->tail, "\nthe script did not start within 10 s: does its top level wait for something, or never end?");
        sv_super_signal(p->rt->super, p->pid, SIGKILL);
        break;
    case UP:
        idle_check(p);
        break;
    case DRAINING:
        if (p->termed) {
            sv_super_signal(p->rt->super, p->pid, SIGKILL);
        } else {
            p->termed = true;
            sv_super_signal(p->rt->super, p->pid, SIGTERM);
            sv_timer_set(p->timer, p->rt->o.drain_ms);
        }
        release_workers(p, false); /* those of its Workers that nobody took over: their socket is watched from here on */
        break;
    }
}

/* UP or STARTING -> DRAINING. One that nobody has reached yet and that gets no time has nothing to end: SIGKILL, which it cannot miss. */
static void proc_retire(proc *p, int64_t grace_ms)
{
    if (p->state == DRAINING)
        return;
    p->termed = p->state == STARTING && grace_ms == 0;
    p->state = DRAINING;
    sv_timer_set(p->timer, grace_ms);
}

static void spawned(const sv_super_msg *m, int fd, void *arg)
{
    sv_runtime *rt = arg;
    sv_fd_closep(&fd);
    if (!m)
        return;
    /* The oldest process without a pid is the one this answer is for: answers keep the order of requests. */
    proc *p = NULL;
    for (proc *q = rt->procs; q; q = q->next)
        if (q->pid == 0)
            p = q; /* the list is newest first */
    if (!p)
        return;
    if (m->op == SV_SUPER_OK) {
        p->pid = m->pid;
        if (p->termed) /* retired before it had a pid */
            sv_super_signal(rt->super, p->pid, SIGKILL);
        return;
    }
    sv_buf_adds(&p->tail, m->text);
    sv_super_msg gone = {.op = SV_SUPER_EXIT, .status = -1};
    memcpy(gone.name, p->name, sizeof gone.name);
    child_exited(&gone, rt);
}

static const char **argv_of(const sv_runtime *rt, const sv_unit_spec *spec, int n_keys, sv_arena *a)
{
    const char **argv = sv_arena_new(a, const char *, (size_t)n_keys + 8);
    int n = 0;
    argv[n++] = rt->o.workerd;
    argv[n++] = "serve";
    if (spec->experimental)
        argv[n++] = "--experimental";
    for (int i = 0; i < n_keys; i++)
        argv[n++] = sv_arena_printf(a, "--socket-fd=http-%s=%d", spec->keys[i], 3 + i);
    argv[n++] = sv_arena_printf(a, "--control-fd=%d", 3 + n_keys);
    argv[n++] = spec->config_path;
    argv[n++] = "config";
    return argv;
}

static const char **read_paths_of(const sv_runtime *rt, const sv_unit_spec *spec, int n_keys, sv_arena *a)
{
    size_t n = 0;
    while (spec->read_paths && spec->read_paths[n])
        n++;
    const char **v = sv_arena_new(a, const char *, n + (size_t)n_keys + 3);
    size_t k = 0;
    v[k++] = spec->config_path;
    v[k++] = rt->o.workerd;
    for (size_t i = 0; i < n; i++)
        v[k++] = spec->read_paths[i];
    for (int i = 0; i < n_keys; i++) {
        if (is_events_key(spec->keys[i]))
            continue;
        char *dir = sv_arena_alloc(a, MAX_PATH, 1);
        binding_dir(rt, spec->keys[i], dir);
        v[k++] = dir;
    }
    return v;
}

/* STARTING: a process for the unit on the given sockets. NULL with err. */
static proc *proc_start(sv_runtime *rt, const sv_unit_spec *spec, const char *fingerprint, char (*paths)[MAX_PATH], int n, op *o, sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    proc *p = sv_xnew0(proc);
    p->rt = rt;
    p->op = o;
    p->out_fd = p->ctl_fd = -1;
    p->n_paths = n;
    p->paths = sv_xcalloc((size_t)n, sizeof *p->paths);
    memcpy(p->paths, paths, (size_t)n * sizeof *paths);
    for (int i = 0; i < n; i++)
        count_alive(rt, paths[i], 1);
    snprintf(p->unit, sizeof p->unit, "%s", spec->unit);
    snprintf(p->name, sizeof p->name, "%s %s %llx", spec->unit, fingerprint, (unsigned long long)next_generation(rt));
    sv_buf_init(&p->tail, TAIL_BYTES + 256);
    p->timer = sv_timer_new(rt->o.loop, proc_timer, p);
    p->started_us = sv_mono_us();
    p->next = rt->procs;
    rt->procs = p;

    const char **listen = sv_arena_new(a, const char *, (size_t)n + 1);
    for (int i = 0; i < n; i++)
        listen[i] = p->paths[i];
    static const char *const no_env[] = {NULL};
    sv_spawn s = {.argv = argv_of(rt, spec, n, a), .env = spec->env ? spec->env : no_env, .listen = listen, .control = true,
                  .sandbox = {.on = true, .read_paths = read_paths_of(rt, spec, n, a), .write_paths = spec->write_paths ? spec->write_paths : no_env,
                              .data_bytes = sv_limit_value(SV_LIMIT_WORKER_DATA_BYTES)}};
    if (sv_super_spawn(rt->super, p->name, &s, &p->out_fd, &p->ctl_fd, spawned, rt, err) != SV_OK) {
        proc_free(p);
        return NULL;
    }
    p->out_watch = sv_loop_watch(rt->o.loop, p->out_fd, EPOLLIN, out_ready, p);
    p->ctl_watch = sv_loop_watch(rt->o.loop, p->ctl_fd, EPOLLIN, ctl_ready, p);
    sv_timer_set(p->timer, START_LIMIT_MS);
    return p;
}

/* ---- cold starts ---- */

typedef struct wake {
    sv_runtime *rt;
    char key[40];
    sv_arena *arena;
    sv_unit_spec spec;
    char fingerprint[17];
    sv_rc rc;
    sv_err err;
} wake;

/* Of what a process runs: its configuration's bytes and its environment. */
static sv_rc fingerprint_of(const sv_unit_spec *spec, char out[17], sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    if (sv_file_read(&b, spec->config_path, err) != SV_OK)
        return sv_wrap(err, "configuration");
    for (size_t i = 0; spec->env && spec->env[i]; i++)
        sv_buf_add(&b, spec->env[i], strlen(spec->env[i]) + 1);
    uint8_t sum[32];
    sv_sha256(sum, b.p, b.n);
    sv_hex(out, sum, 8);
    return SV_OK;
}

static int count_keys(const sv_unit_spec *spec)
{
    int n = 0;
    while (spec->keys[n])
        n++;
    return n;
}

static bool is_exclusive(const sv_unit_spec *spec) { return spec->write_paths && spec->write_paths[0]; }

static bool serves_key(const proc *p, const char *key)
{
    char prefix[MAX_PATH];
    snprintf(prefix, sizeof prefix, "%s/w/%s.", p->rt->run_dir, key);
    for (int i = 0; i < p->n_paths; i++)
        if (strncmp(p->paths[i], prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static bool serves_any(const proc *p, const sv_unit_spec *spec)
{
    for (int i = 0; spec->keys[i]; i++)
        if (serves_key(p, spec->keys[i]))
            return true;
    return false;
}

static bool any_alive(const sv_runtime *rt, const sv_unit_spec *spec)
{
    for (const proc *p = rt->procs; p; p = p->next)
        if (serves_any(p, spec))
            return true;
    return false;
}

static void wake_prepared(void *arg)
{
    wake *k = arg;
    sv_runtime *rt = k->rt;
    worker *w = find_worker(rt, k->key);
    int n = k->rc == SV_OK ? count_keys(&k->spec) : 0;
    if (k->rc == SV_OK && n > MAX_UNIT)
        k->rc = sv_fail(&k->err, SV_ELIMIT, "%d Workers bound to each other, at most %d", n, MAX_UNIT);
    char paths[MAX_UNIT][MAX_PATH];
    for (int i = 0; k->rc == SV_OK && i < n; i++) {
        worker *m = find_worker(rt, k->spec.keys[i]);
        if (!m)
            k->rc = sv_fail(&k->err, SV_ENOENT, "Worker %s of its unit is not declared", k->spec.keys[i]);
        else
            memcpy(paths[i], m->path, MAX_PATH);
    }
    proc *p = NULL;
    bool wait = w && k->rc == SV_OK && (w->blocked || (is_exclusive(&k->spec) && !w->proc && any_alive(rt, &k->spec))); /* inv. 4 */
    if (w && !wait && !w->proc && k->rc == SV_OK && !(p = proc_start(rt, &k->spec, k->fingerprint, paths, n, NULL, &k->err)))
        k->rc = k->err.code;
    for (int i = 0; p && i < n; i++) {
        worker *m = find_worker(rt, k->spec.keys[i]);
        if (m->proc)
            continue; /* another of its processes still has it; both serve its socket */
        m->waking = false;
        m->watch = sv_watch_remove(m->watch);
        m->proc = p;
    }
    if (w) {
        w->waking = false;
        if (wait && !w->blocked)
            sv_timer_set(w->retry, GONE_MS);
        if (k->rc != SV_OK && !w->proc) { /* a new Worker has no row before its first process listens; by now that may serve it */
            sv_log(SV_ERROR, "worker.start", "key=%s error='%s'", w->id.key, k->err.msg);
            worker_failed(w);
        }
    }
    sv_arena_free(k->arena);
    free(k);
}

static void wake_prepare(void *arg)
{
    wake *k = arg;
    k->rc = k->rt->o.prepare(k->rt->o.ctx, k->key, &k->spec, k->arena, &k->err);
    if (k->rc == SV_OK)
        k->rc = fingerprint_of(&k->spec, k->fingerprint, &k->err);
    sv_loop_post(k->rt->o.loop, wake_prepared, k);
}

static void worker_wake(void *arg, int fd, uint32_t events)
{
    worker *w = arg;
    (void)fd;
    (void)events;
    w->watch = sv_watch_remove(w->watch);
    wake *k = sv_xnew0(wake);
    k->rt = w->rt;
    k->arena = sv_arena_create(0);
    memcpy(k->key, w->id.key, sizeof k->key);
    w->waking = true;
    if (!sv_jobs_post(w->rt->o.jobs, wake_prepare, k)) { /* full: the connection waits a little longer */
        sv_arena_free(k->arena);
        free(k);
        w->waking = false;
        worker_failed(w);
    }
}

static void worker_watch(worker *w) /* inv. 1 */
{
    if (!w->watch && !w->waking && !w->blocked && !w->proc)
        w->watch = sv_loop_watch(w->rt->o.loop, w->fd, EPOLLIN, worker_wake, w);
}

static void worker_retry(void *arg) { worker_watch(arg); }

/* ---- starting listened to ---- */

static void op_route_done(void *arg)
{
    op *o = arg;
    if (--o->n_waiting == 0)
        op_done(o, SV_OK);
}

static void take_over(op *o, proc *p)
{
    sv_runtime *rt = o->rt;
    o->n_waiting = 1;
    proc *old[MAX_UNIT];
    int n_old = 0;
    for (int i = 0; i < o->n_keys; i++) {
        worker *w = find_worker(rt, o->spec->keys[i]);
        if (!w)
            continue; /* removed meanwhile */
        bool same = strcmp(w->path, o->paths[i]) == 0;
        if (w->proc && w->proc != p && same)
            proc_retire(w->proc, 0); /* a cold start that overlapped ours: it accepts from the same socket, and must not any longer */
        else if (w->proc && w->proc != p)
            old[n_old++] = w->proc;
        sv_timer_set(w->retry, -1);
        w->watch = sv_watch_remove(w->watch);
        w->retry_ms = 0;
        w->proc = p;
        if (same)
            continue; /* it was cold: the same socket, the same route */
        memcpy(w->path, o->paths[i], MAX_PATH);
        if (o->fds[i] >= 0) {
            sv_fd_closep(&w->fd);
            w->fd = o->fds[i];
            o->fds[i] = -1;
        }
        if (!w->host[0])
            continue;
        char name[64];
        server_name(w->path, name);
        o->n_waiting++;
        sv_front_door_route(rt->door, w->host, name, w->path, op_route_done, o);
    }
    for (int i = 0; i < n_old; i++)
        proc_retire(old[i], sv_limit_value(SV_LIMIT_WAIT_UNTIL_MS));
    op_route_done(o);
}

static void proc_up(proc *p)
{
    p->state = UP;
    p->since_ms = p->busy_ms = sv_mono_ms();
    sv_buf_reset(&p->tail);
    sv_timer_set(p->timer, IDLE_MS / 4 + 1);
    int64_t ms = (sv_mono_us() - p->started_us) / 1000;
    sv_log(SV_INFO, "workerd.up", "unit=%s pid=%d start_ms=%lld", p->unit, p->pid, (long long)ms);
    op *o = p->op;
    p->op = NULL;
    if (!o) {
        size_t i = 0;
        sv_str key;
        void *v;
        while (sv_smap_next(p->rt->workers, &i, &key, &v))
            if (((worker *)v)->proc == p)
                ((worker *)v)->retry_ms = 0;
        return;
    }
    o->startup_ms = ms;
    if (o->take_over) {
        take_over(o, p);
    } else {
        proc_retire(p, 0);
        op_done(o, SV_OK);
    }
}

/* ---- swap and try ---- */

static void op_fds_close(op *o)
{
    for (int i = 0; i < o->n_keys; i++)
        sv_fd_closep(&o->fds[i]);
}

static void swap_spawn(op *o)
{
    sv_runtime *rt = o->rt;
    if (o->rc == SV_OK && !proc_start(rt, o->spec, o->fingerprint, o->paths, o->n_keys, o, &o->err))
        o->rc = o->err.code;
    if (o->rc != SV_OK)
        op_done(o, o->rc);
}

typedef struct listen_call { op *o; int i; } listen_call;

static void swap_listening(const sv_super_msg *m, int fd, void *arg)
{
    listen_call *c = arg;
    op *o = c->o;
    if (!m || m->op != SV_SUPER_OK)
        o->rc = sv_fail(&o->err, SV_EIO, "socket for Worker %s: %s", o->spec->keys[c->i], m ? m->text : "the supervisor is gone");
    o->fds[c->i] = fd;
    free(c);
    if (--o->n_waiting == 0)
        swap_spawn(o);
}

/* Stops whatever runs of the unit's Workers, then starts it on the sockets that they have: requests wait in those. */
static void swap_exclusive(void *arg)
{
    op *o = arg;
    sv_runtime *rt = o->rt;
    bool wait = false;
    for (int i = 0; i < o->n_keys; i++) {
        worker *w = find_worker(rt, o->spec->keys[i]);
        if (!w) {
            o->timer = sv_timer_free(o->timer);
            op_done(o, sv_fail(&o->err, SV_ENOENT, "Worker %s is not declared", o->spec->keys[i]));
            return;
        }
        w->blocked = true;
        w->watch = sv_watch_remove(w->watch);
        memcpy(o->paths[i], w->path, MAX_PATH);
        wait |= w->waking; /* a cold start is being prepared: it sees that we are here */
    }
    for (proc *p = rt->procs; p; p = p->next) {
        if (!serves_any(p, o->spec))
            continue;
        wait = true;
        if (p->state != DRAINING)
            proc_retire(p, 0);
        else if (!p->termed && !p->hurried)
            sv_timer_set(p->timer, 0); /* its grace ends */
        p->hurried = true;
    }
    if (wait) {
        sv_timer_set(o->timer, GONE_MS);
        return;
    }
    o->timer = sv_timer_free(o->timer);
    swap_spawn(o);
}

static void unblock(op *o)
{
    for (int i = 0; i < o->n_keys; i++) {
        worker *w = find_worker(o->rt, o->spec->keys[i]);
        if (!w)
            continue;
        w->blocked = false;
        worker_watch(w);
    }
}

static void swap_begin(op *o)
{
    sv_runtime *rt = o->rt;
    if (o->exclusive) {
        o->timer = sv_timer_new(rt->o.loop, swap_exclusive, o);
        swap_exclusive(o);
        return;
    }
    uint64_t gen = next_generation(rt);
    o->n_waiting = 1; /* ourselves, so that no answer ends the loop below too early */
    for (int i = 0; i < o->n_keys; i++) {
        o->fds[i] = -1;
        const worker *w = find_worker(rt, o->spec->keys[i]);
        if (o->take_over && !w) {
            o->rc = sv_fail(&o->err, SV_ENOENT, "Worker %s is not declared", o->spec->keys[i]);
            break;
        }
        if (o->take_over && !w->proc) {
            memcpy(o->paths[i], w->path, MAX_PATH);
            continue;
        }
        socket_path(rt, o->spec->keys[i], gen, o->paths[i]);
        listen_call *c = sv_xnew0(listen_call);
        *c = (listen_call){o, i};
        o->n_waiting++;
        sv_super_listen(rt->super, o->paths[i], swap_listening, c);
    }
    if (--o->n_waiting == 0)
        swap_spawn(o);
}

static sv_rc start_and_wait(sv_runtime *rt, const sv_unit_spec *spec, bool take, int64_t *startup_ms, sv_err *err)
{
    int fds[MAX_UNIT];
    op o = {.fn = swap_begin, .spec = spec, .take_over = take, .exclusive = take && is_exclusive(spec), .n_keys = count_keys(spec), .fds = fds};
    if (o.n_keys > MAX_UNIT)
        return sv_fail_api(err, SV_ELIMIT, 10021, "%d Workers are bound to each other, at most %d can share a process", o.n_keys, MAX_UNIT);
    for (int i = 0; i < o.n_keys; i++)
        fds[i] = -1;
    if (fingerprint_of(spec, o.fingerprint, err) != SV_OK)
        return err->code;
    sv_rc rc = op_wait(rt, &o, err);
    op_fds_close(&o);
    if (rc == SV_OK && startup_ms)
        *startup_ms = o.startup_ms;
    return rc;
}

sv_rc sv_runtime_swap(sv_runtime *rt, const sv_unit_spec *spec, sv_err *err) { return start_and_wait(rt, spec, true, NULL, err); }

sv_rc sv_runtime_try(sv_runtime *rt, const sv_unit_spec *spec, int64_t *startup_ms, sv_err *err)
{
    return start_and_wait(rt, spec, false, startup_ms, err);
}

/* ---- declare and remove ---- */

static void declare_begin(op *o);

/* The key is free again: whoever asked for the same Worker meanwhile looks anew. */
static void declare_over(sv_runtime *rt, const char *key)
{
    sv_smap_del(rt->declaring, sv_str_of(key));
    op *o = rt->later;
    rt->later = NULL;
    for (op *next; o; o = next) {
        next = o->next;
        declare_begin(o);
    }
}

static void declared(op *o)
{
    worker *w = o->w;
    sv_runtime *rt = o->rt;
    sv_smap_put(rt->workers, sv_str_of(w->id.key), w);
    for (proc *p = rt->procs; p && !w->proc; p = p->next)
        for (int i = 0; i < p->n_paths; i++)
            if (p->state == UP && strcmp(p->paths[i], w->path) == 0)
                w->proc = p; /* adopted */
    worker_watch(w);
    char name[64], key_of_w[sizeof w->id.key];
    memcpy(key_of_w, w->id.key, sizeof key_of_w);
    server_name(w->path, name);
    o->n_waiting = 1;
    if (w->host[0])
        sv_front_door_route(rt->door, w->host, name, w->path, op_route_done, o);
    else
        op_route_done(o);
    declare_over(rt, key_of_w);
}

static void worker_free(worker *w)
{
    sv_watch_remove(w->watch);
    sv_timer_free(w->retry);
    sv_fd_closep(&w->fd);
    if (w->bindings)
        sv_http_unlisten(w->bindings);
    free(w);
}

static void declare_failed(op *o)
{
    sv_runtime *rt = o->rt;
    char key[sizeof o->w->id.key];
    memcpy(key, o->w->id.key, sizeof key);
    worker_free(o->w);
    op_done(o, o->rc);
    declare_over(rt, key);
}

static void declare_bindings(const sv_super_msg *m, int fd, void *arg)
{
    op *o = arg;
    if (!m || m->op != SV_SUPER_OK || o->rc != SV_OK) {
        if (o->rc == SV_OK)
            o->rc = sv_fail(&o->err, SV_EIO, "binding socket: %s", m ? m->text : "the supervisor is gone");
        sv_fd_closep(&fd);
        declare_failed(o);
        return;
    }
    o->w->bindings = sv_http_listen(o->rt->o.bindings, fd, &o->w->id);
    declared(o);
}

static void declare_socket(const sv_super_msg *m, int fd, void *arg)
{
    op *o = arg;
    if (!m || m->op != SV_SUPER_OK)
        o->rc = sv_fail(&o->err, SV_EIO, "socket: %s", m ? m->text : "the supervisor is gone");
    o->w->fd = fd;
    if (!o->w->host[0]) {
        if (o->rc == SV_OK)
            declared(o);
        else
            declare_failed(o);
        return;
    }
    char path[MAX_PATH];
    sv_runtime_binding_path(o->rt, o->w->id.key, path);
    sv_super_listen(o->rt->super, path, declare_bindings, o);
}

/* The newest socket of `key` that was there before us (of a version that was only tried, perhaps: the fingerprint tells); else a new one. */
static void choose_path(sv_runtime *rt, worker *w)
{
    char prefix[MAX_PATH];
    snprintf(prefix, sizeof prefix, "%s/w/%s.", rt->run_dir, w->id.key);
    size_t i = 0;
    sv_str path;
    void *v;
    while (sv_smap_next(rt->found, &i, &path, &v))
        if (sv_str_starts(path, prefix) && (w->path[0] == 0 || strcmp(path.p, w->path) > 0))
            snprintf(w->path, sizeof w->path, "%.*s", (int)path.n, path.p);
    if (w->path[0] == 0)
        socket_path(rt, w->id.key, next_generation(rt), w->path);
}

static void declare_begin(op *o)
{
    sv_runtime *rt = o->rt;
    if (!rt->listed) { /* what was there before us is not known yet */
        o->next = rt->early;
        rt->early = o;
        return;
    }
    if (find_worker(rt, o->id->key)) {
        op_done(o, SV_OK);
        return;
    }
    char dir[MAX_PATH];
    binding_dir(rt, o->id->key, dir);
    if (o->host && sv_mkdir_p(dir, 0755, &o->err) != SV_OK) {
        op_done(o, o->err.code);
        return;
    }
    if (sv_smap_get(rt->declaring, sv_str_of(o->id->key))) { /* by another thread, at this moment */
        o->next = rt->later;
        rt->later = o;
        return;
    }
    sv_smap_put(rt->declaring, sv_str_of(o->id->key), rt);
    worker *w = sv_xnew0(worker);
    w->rt = rt;
    w->id = *o->id;
    w->fd = -1;
    snprintf(w->host, sizeof w->host, "%s", o->host ? o->host : "");
    w->retry = sv_timer_new(rt->o.loop, worker_retry, w);
    choose_path(rt, w);
    o->w = w;
    sv_super_listen(rt->super, w->path, declare_socket, o);
}

sv_rc sv_runtime_declare(sv_runtime *rt, const sv_worker_id *id, const char *host, sv_err *err)
{
    op o = {.fn = declare_begin, .id = id, .host = host};
    return op_wait(rt, &o, err);
}

static void remove_begin(op *o)
{
    sv_runtime *rt = o->rt;
    worker *w = sv_smap_del(rt->workers, sv_str_of(o->key));
    if (w) {
        char path[MAX_PATH], bindings[MAX_PATH];
        memcpy(path, w->path, sizeof path);
        sv_runtime_binding_path(rt, w->id.key, bindings);
        proc *p = w->proc;
        bool has_host = w->host[0] != 0;
        if (has_host)
            sv_front_door_unroute(rt->door, w->host);
        worker_free(w);
        if (p)
            proc_retire(p, 0);
        drop_path(rt, path);
        if (has_host)
            sv_super_unlisten(rt->super, bindings);
    }
    op_done(o, SV_OK);
}

sv_rc sv_runtime_remove(sv_runtime *rt, const char *key, sv_err *err)
{
    op o = {.fn = remove_begin, .key = key};
    return op_wait(rt, &o, err);
}

sv_loop *sv_runtime_loop(const sv_runtime *rt) { return rt->o.loop; }

typedef struct nudge { sv_runtime *rt; char key[40]; } nudge;

static void nudged(void *arg)
{
    nudge *n = arg;
    worker *w = find_worker(n->rt, n->key);
    if (w && w->watch)
        worker_wake(w, w->fd, 0);
    free(n);
}

void sv_runtime_wake(sv_runtime *rt, const char *key)
{
    nudge *n = sv_xnew0(nudge);
    n->rt = rt;
    snprintf(n->key, sizeof n->key, "%s", key);
    sv_loop_post(rt->o.loop, nudged, n);
}

bool sv_runtime_hold(sv_runtime *rt, const char *key, char path[108])
{
    worker *w = find_worker(rt, key);
    if (w) {
        w->n_held++;
        memcpy(path, w->path, MAX_PATH);
    }
    return w != NULL;
}

void sv_runtime_release(sv_runtime *rt, const char *key)
{
    worker *w = find_worker(rt, key);
    if (w && w->n_held) /* removed and declared anew meanwhile: nobody holds that one */
        w->n_held--;
}

/* ---- adoption ---- */

static proc *adopt_proc(sv_runtime *rt, const sv_super_msg *m)
{
    for (proc *p = rt->procs; p; p = p->next)
        if (p->pid == m->pid)
            return p;
    proc *p = sv_xnew0(proc);
    p->rt = rt;
    p->pid = m->pid;
    p->state = UP;
    p->out_fd = p->ctl_fd = -1;
    memcpy(p->name, m->name, sizeof p->name);
    snprintf(p->unit, sizeof p->unit, "%.*s", (int)strcspn(m->name, " "), m->name);
    sv_buf_init(&p->tail, TAIL_BYTES);
    p->since_ms = p->busy_ms = sv_mono_ms();
    p->timer = sv_timer_new(rt->o.loop, proc_timer, p);
    sv_timer_set(p->timer, IDLE_MS / 4 + 1);
    p->next = rt->procs;
    rt->procs = p;
    return p;
}

static void listed(const sv_super_msg *m, int fd, void *arg)
{
    sv_runtime *rt = arg;
    if (m && m->op == SV_SUPER_CHILD && m->pid == 0) {
        sv_smap_put(rt->found, sv_str_of(m->text), rt);
    } else if (m && m->op == SV_SUPER_CHILD) {
        proc *p = adopt_proc(rt, m);
        p->paths = sv_xrealloc(p->paths, (size_t)p->n_paths + 1, sizeof *p->paths);
        snprintf(p->paths[p->n_paths++], MAX_PATH, "%.*s", MAX_PATH - 1, m->text);
        count_alive(rt, p->paths[p->n_paths - 1], 1);
        if (fd >= 0 && p->out_fd < 0) {
            p->out_fd = fd;
            fd = -1;
            fcntl(p->out_fd, F_SETFL, O_NONBLOCK);
            p->out_watch = sv_loop_watch(rt->o.loop, p->out_fd, EPOLLIN, out_ready, p);
        }
    } else {
        rt->listed = true;
        op *o = rt->early;
        rt->early = NULL;
        while (o) {
            op *next = o->next;
            declare_begin(o);
            o = next;
        }
    }
    sv_fd_closep(&fd);
}

/* Compares what runs with what should run; on a job thread. */
static void check_adopted(void *arg)
{
    wake *k = arg;
    sv_err err = {0};
    char fp[17];
    if (k->rt->o.prepare(k->rt->o.ctx, k->key, &k->spec, k->arena, &err) == SV_OK && fingerprint_of(&k->spec, fp, &err) == SV_OK &&
        strcmp(fp, k->fingerprint) != 0) {
        sv_log(SV_INFO, "worker.stale", "key=%s action=swap", k->key);
        if (sv_runtime_swap(k->rt, &k->spec, &err) != SV_OK)
            sv_log(SV_ERROR, "worker.swap", "key=%s error='%s'", k->key, err.msg);
    }
    sv_arena_free(k->arena);
    free(k);
}

static void settle_begin(op *o)
{
    sv_runtime *rt = o->rt;
    for (proc *p = rt->procs; p; p = p->next) {
        if (p->state != UP)
            continue;
        worker *served = NULL;
        size_t i = 0;
        sv_str key;
        void *v;
        while (sv_smap_next(rt->workers, &i, &key, &v))
            if (((worker *)v)->proc == p)
                served = v;
        char fp[17] = "";
        sscanf(p->name, "%*s %16s", fp);
        if (!served) { /* an old generation whose drain the last daemon did not see through */
            proc_retire(p, sv_limit_value(SV_LIMIT_WAIT_UNTIL_MS));
            continue;
        }
        wake *k = sv_xnew0(wake);
        k->rt = rt;
        k->arena = sv_arena_create(0);
        memcpy(k->key, served->id.key, sizeof k->key);
        memcpy(k->fingerprint, fp, sizeof k->fingerprint);
        if (!sv_jobs_post(rt->o.jobs, check_adopted, k)) {
            sv_arena_free(k->arena);
            free(k);
        }
    }
    char prefix[MAX_PATH];
    snprintf(prefix, sizeof prefix, "%s/w/", rt->run_dir);
    size_t i = 0;
    sv_str path;
    void *v;
    while (sv_smap_next(rt->found, &i, &path, &v))
        if (sv_str_starts(path, prefix) && !path_in_use(rt, path.p))
            sv_super_unlisten(rt->super, path.p);
    rt->found = sv_smap_free(rt->found);
    rt->found = sv_smap_new();
    sv_front_door_settle(rt->door);
    op_done(o, SV_OK);
}

sv_rc sv_runtime_settle(sv_runtime *rt, sv_err *err)
{
    op o = {.fn = settle_begin};
    return op_wait(rt, &o, err);
}

/* ---- life ---- */

sv_rc sv_runtime_new(sv_runtime **out, const sv_runtime_opts *opts, sv_err *err)
{
    sv_runtime *rt = sv_xnew0(sv_runtime);
    rt->o = *opts;
    rt->o.drain_ms = opts->drain_ms ? opts->drain_ms : 30 * 1000;
    snprintf(rt->run_dir, sizeof rt->run_dir, "%s", opts->run_dir);
    rt->workers = sv_smap_new();
    rt->found = sv_smap_new();
    rt->alive = sv_smap_new();
    rt->declaring = sv_smap_new();
    pthread_mutex_init(&rt->mu, NULL);
    pthread_cond_init(&rt->cv, NULL);
    rt->super = sv_super_client_new(opts->loop, opts->super_fd, child_exited, rt);
    char dir[MAX_PATH];
    snprintf(dir, sizeof dir, "%s/w", rt->run_dir);
    sv_rc rc = sv_mkdir_p(dir, 0700, err);
    if (rc == SV_OK)
        rc = sv_front_door_new(&rt->door, opts->loop, rt->super, rt->run_dir, opts->haproxy, rt->o.drain_ms, err);
    if (rc != SV_OK) {
        sv_runtime_free(rt);
        return rc;
    }
    sv_super_list(rt->super, listed, rt);
    *out = rt;
    return SV_OK;
}

sv_runtime *sv_runtime_free(sv_runtime *rt)
{
    if (!rt)
        return NULL;
    size_t i = 0;
    sv_str key;
    void *v;
    while (sv_smap_next(rt->workers, &i, &key, &v))
        worker_free(v);
    rt->workers = sv_smap_free(rt->workers);
    rt->workers = sv_smap_new(); /* empty: freeing the processes asks it */
    for (proc *p = rt->procs, *next; p; p = next) {
        next = p->next;
        p->n_paths = 0; /* the sockets are the supervisor's and live on */
        proc_free(p);
    }
    sv_smap_free(rt->workers);
    sv_smap_free(rt->found);
    sv_smap_free(rt->alive);
    sv_smap_free(rt->declaring);
    sv_front_door_free(rt->door);
    sv_super_client_free(rt->super);
    pthread_cond_destroy(&rt->cv);
    pthread_mutex_destroy(&rt->mu);
    free(rt);
    return NULL;
}
