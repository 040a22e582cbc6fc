/* super.h - the supervisor: owns every listening socket, starts and restarts the rest, touches no data
 *
 * It talks with the daemon over one SOCK_SEQPACKET pair: fixed-size messages, file descriptors beside them. A program to start is
 * described by an sv_spawn, packed into a memfd (environments may be large and must not show in any file or argument list).
 *
 * Threads: the supervisor has one thread and forks from it. The client side (super_client.h) lives on the daemon's loop. */
#ifndef SV_WORKERS_SUPER_H
#define SV_WORKERS_SUPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "workers/sandbox.h"

typedef enum sv_super_op {
    SV_SUPER_LISTEN = 1, /* name = socket path -> OK with the listening fd; the same socket when asked again */
    SV_SUPER_UNLISTEN,   /* name = socket path: close and unlink */
    SV_SUPER_SPAWN,      /* name = child's name; fds: memfd of the packed sv_spawn, output pipe (both ends), control pipe's write end */
    SV_SUPER_SIGNAL,     /* pid, status = signal; only for own children */
    SV_SUPER_LIST,       /* -> CHILD for each socket of each child (text = path; the first with the read end of the output pipe),
                          * CHILD with pid 0 for each socket there is, then OK */
    SV_SUPER_OK,         /* seq of the request; pid of a spawn */
    SV_SUPER_FAIL,       /* seq, text */
    SV_SUPER_CHILD,      /* seq, name, pid, text */
    SV_SUPER_EXIT,       /* a child ended: name, pid, status as wait(2) gives it */
} sv_super_op;

typedef struct sv_super_msg {
    uint32_t op, seq;
    int32_t pid, status;
    char name[112];
    char text[240];
} sv_super_msg;

/* A program to start. All strings are borrowed. */
typedef struct sv_spawn {
    const char *const *argv;    /* argv[0] is the program's path */
    const char *const *env;     /* the whole environment */
    const char *const *listen;  /* sockets of LISTEN (or "front"), inherited as fds 3, 4, ... in this order */
    bool restart;               /* start again whenever it ends (the front door) */
    bool control;               /* fd after the listeners: the control pipe */
    sv_sandbox sandbox;
} sv_spawn;

/* Packs into a memfd (caller's). / Unpacks what sv_spawn_pack made; every pointer goes into the arena. */
SV_MUST sv_rc sv_spawn_pack(int *fd, const sv_spawn *s, sv_err *err);
SV_MUST sv_rc sv_spawn_unpack(sv_spawn *out, sv_str bytes, sv_arena *a, sv_err *err);

typedef struct sv_super_opts {
    const char *data_dir;      /* DATA; locked while we run */
    const char *listen;        /* "127.0.0.1:8787"; port 0 takes a free one. Written to DATA/listen once bound */
    int64_t drain_ms;          /* SIGTERM to the last SIGKILL; 0: 10 s */
    const char *self;          /* our own executable */
    const char *const *daemon_args; /* after "daemon": handed through; the socket options are added */
    const char *const *engine_args;
} sv_super_opts;

/* Runs until SIGTERM or SIGINT; 0 after a drain. SV_ECONFLICT: another supervisor holds DATA. */
SV_MUST sv_rc sv_super_run(const sv_super_opts *opts, sv_err *err);

/* The folder for sockets: DATA/run where that path leaves room for socket names (108 bytes), else a private folder under
 * $XDG_RUNTIME_DIR or /tmp whose name follows from DATA, so that every process finds the same. */
SV_MUST sv_rc sv_run_dir(char out[64], const char *data_dir, sv_err *err);

#endif
