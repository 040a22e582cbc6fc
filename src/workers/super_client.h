/* super_client.h - the daemon's side of the supervisor's socket
 * Threads: the loop's. Answers come as callbacks, in the order of the requests, but for those that could not be sent: they fail a moment later. */
#ifndef SV_WORKERS_SUPER_CLIENT_H
#define SV_WORKERS_SUPER_CLIENT_H

#include "base/loop.h"
#include "workers/super.h"

typedef struct sv_super_client sv_super_client;

/* The answer to one request: m->op is OK or FAIL (CHILD before it, for LIST); fd is the receiver's, or -1. m == NULL: the supervisor is gone
 * (it takes us with it, so this is seen at the end only). */
typedef void (*sv_super_fn)(const sv_super_msg *m, int fd, void *arg);
/* A child ended. */
typedef void (*sv_super_exit_fn)(const sv_super_msg *m, void *arg);

sv_super_client *sv_super_client_new(sv_loop *loop, int fd, sv_super_exit_fn on_exit, void *arg);
sv_super_client *sv_super_client_free(sv_super_client *c);

void sv_super_listen(sv_super_client *c, const char *path, sv_super_fn fn, void *arg);
void sv_super_unlisten(sv_super_client *c, const char *path);
void sv_super_signal(sv_super_client *c, int32_t pid, int sig);
void sv_super_list(sv_super_client *c, sv_super_fn fn, void *arg);
/* Starts `s` as `name`. *out_fd (the caller's) reads what it prints, *ctl_fd (when s->control) its control lines. */
SV_MUST sv_rc sv_super_spawn(sv_super_client *c, const char *name, const sv_spawn *s, int *out_fd, int *ctl_fd, sv_super_fn fn,
                             void *arg, sv_err *err);

#endif
