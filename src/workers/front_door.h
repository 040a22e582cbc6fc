/* front_door.h - HAProxy: its configuration, and its routes changed while it runs
 *
 * HOST.localhost goes to the server of that Worker, everything else to the daemon. The files always say what holds, so a front door that
 * starts again finds it; a running one is told over its admin socket. Facts: each setting was tried, see the text in front_door.c.
 * Threads: the loop's. */
#ifndef SV_WORKERS_FRONT_DOOR_H
#define SV_WORKERS_FRONT_DOOR_H

#include "base/err.h"
#include "base/loop.h"
#include "workers/super_client.h"

typedef struct sv_front_door sv_front_door;

/* Writes the files and starts HAProxy through the supervisor (or finds it running). `haproxy` is its path. */
SV_MUST sv_rc sv_front_door_new(sv_front_door **out, sv_loop *loop, sv_super_client *super, const char *run_dir, const char *haproxy,
                                int64_t drain_ms, sv_err *err);
/* The routes set so far are all there are: from now on the files follow each change. Until then a front door that restarts finds the files
 * of the daemon before us. */
void sv_front_door_settle(sv_front_door *f);
sv_front_door *sv_front_door_free(sv_front_door *f); /* HAProxy goes on: it is the supervisor's */

/* Routes `host` (one DNS label) to the server `name`, which listens on the unix socket `path`. The route switches at once and whole; the
 * server it had stays known until sv_front_door_forget. done_fn once, when new requests go there. Set again: the same route is nothing new. */
void sv_front_door_route(sv_front_door *f, const char *host, const char *name, const char *path,
                         void (*done_fn)(void *arg), void *arg);
void sv_front_door_unroute(sv_front_door *f, const char *host);
void sv_front_door_forget(sv_front_door *f, const char *name); /* no new requests; those running end */

#endif
