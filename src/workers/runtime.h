/* runtime.h - workerd processes: one per unit, started by the first connection, swapped without a refused request
 *
 * A unit is the set of Workers that share a process: one Worker, or several bound to each other by service bindings. Each Worker has a
 * listening socket of its own (RUN/w/KEY.sock, where the front door sends its requests) and a binding socket (RUN/b/KEY.sock, where its
 * binding calls arrive: identity = the listener). The supervisor owns both, so that no crash of ours refuses a connection.
 *
 *   a process:  (none) --first connection, or swap--> STARTING --listen event--> UP --idle, replaced, removed--> DRAINING --exit--> (none)
 *               STARTING --exit--> (none), the next connection tries again after a back-off; UP --crash--> (none), the next connection starts it
 *               STARTING --replaced, removed--> DRAINING
 *               DRAINING: after SV_LIMIT_WAIT_UNTIL_MS (of an idle or removed one at once) SIGTERM, after drain_ms more SIGKILL
 *
 * Threads: new/free on the loop's thread; declare, remove, swap on any other thread (they block: job pool). */
#ifndef SV_WORKERS_RUNTIME_H
#define SV_WORKERS_RUNTIME_H

/* Behind a Worker's key: the key of the socket of its dispatcher, where queues and schedules call it. It is declared with host NULL: it has no
 * route and no binding socket, and in all else is a Worker of the same unit. */
#define SV_EVENTS_SUFFIX "-e"

#include "account/account.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/mem.h"
#include "http/server.h"

typedef struct sv_runtime sv_runtime;

/* Everything a process needs, made on demand in `arena` by sv_runtime_opts.prepare. */
typedef struct sv_unit_spec {
    const char *unit;                /* stable id of the unit: the first Worker's key */
    const char *const *keys;         /* its Workers' keys, NULL-terminated; socket "http-<key>" of the config listens for each */
    const char *config_path;         /* capnp text with `const config :Workerd.Config`; secrets only by fromEnvironment */
    const char *const *read_paths;   /* folders and files the process may read (modules, assets), NULL-terminated */
    const char *const *write_paths;  /* folders of its own, NULL-terminated (Durable Objects). When there are any, no two processes of a Worker of the
                                      * unit run at once: a swap ends the old one and then starts the new one, and requests wait meanwhile */
    const char *const *env;          /* "NAME=value" for fromEnvironment, NULL-terminated; never logged */
    bool experimental;               /* --experimental (assets, dispatcher) */
} sv_unit_spec;

typedef struct sv_runtime_opts {
    sv_loop *loop;
    sv_jobs *jobs;
    int super_fd;            /* control socket to the supervisor */
    const char *run_dir;     /* sockets; short path */
    const char *workerd;     /* path of the workerd binary */
    const char *haproxy;     /* path of HAProxy */
    sv_http *bindings;       /* binding calls are served here; the listener of each is the Worker's sv_worker_id */
    int64_t drain_ms;        /* 0: 30 s */
    /* Called on a job thread when a process is needed for the Worker `key`. */
    sv_rc (*prepare)(void *ctx, const char *key, sv_unit_spec *out, sv_arena *arena, sv_err *err);
    void *ctx;
} sv_runtime_opts;

/* What a binding listener stands for: read when a request begins, and gone with the Worker. */
typedef struct sv_worker_id {
    char key[40];          /* file-system safe, unique on the node */
    char name[64];         /* script name */
    sv_principal principal; /* account_id of its owner; token_id "" */
} sv_worker_id;

SV_MUST sv_rc sv_runtime_new(sv_runtime **out, const sv_runtime_opts *opts, sv_err *err);
sv_runtime *sv_runtime_free(sv_runtime *rt);

/* Makes the Worker's sockets and its route at the front door (HOST.localhost; NULL: none of these); nothing is started. Again is fine. */
SV_MUST sv_rc sv_runtime_declare(sv_runtime *rt, const sv_worker_id *id, const char *host, sv_err *err);
/* Every Worker is declared: what the supervisor still has from before (old processes, sockets) and nobody claimed is retired, adopted processes
 * that run another configuration than prepare gives are swapped, and the front door's files follow from now on. Once, at the start. */
SV_MUST sv_rc sv_runtime_settle(sv_runtime *rt, sv_err *err);
/* Stops its process (its unit's, when shared: others start again on demand), closes sockets, drops the route. Absent is fine. */
SV_MUST sv_rc sv_runtime_remove(sv_runtime *rt, const char *key, sv_err *err);
/* Paths for the config; valid from declare on. Written to out (sockaddr_un size). */
void sv_runtime_binding_path(const sv_runtime *rt, const char *key, char out[108]);

/* The socket of `key` at this moment; false: it is not declared. While it is held, its process is not idle. Loop thread. */
bool sv_runtime_runs(sv_runtime *rt, const char *key); /* some process of it lives, if only to end. Any thread */
/* Starts the process of `key` if none runs, as a connection would. Any thread. */
void sv_runtime_wake(sv_runtime *rt, const char *key);
sv_loop *sv_runtime_loop(const sv_runtime *rt);
bool sv_runtime_hold(sv_runtime *rt, const char *key, char path[108]);
void sv_runtime_release(sv_runtime *rt, const char *key);

/* Starts the unit that `spec` describes beside whatever serves its Workers now and waits until it listens; then the old process drains. On failure
 * the old one goes on serving and err carries workerd's own words with api_code 10021. */
SV_MUST sv_rc sv_runtime_swap(sv_runtime *rt, const sv_unit_spec *spec, sv_err *err);
/* The same without taking over: starts it on throw-away sockets, waits until it listens, ends it. For versions that are uploaded but not deployed.
 * *startup_ms is the time from exec to listening. */
SV_MUST sv_rc sv_runtime_try(sv_runtime *rt, const sv_unit_spec *spec, int64_t *startup_ms, sv_err *err);

#endif
