/* events.h - calls queue() and scheduled() of a deployed Worker, through the dispatcher beside it
 *
 * A process that is not running is started by the call, as by a visitor's request. The Worker has its dispatcher from
 * sv_workers_enable_events on. Threads: the loop's. */
#ifndef SV_WORKERS_EVENTS_H
#define SV_WORKERS_EVENTS_H

#include "http/client.h"
#include "workers/runtime.h"

/* One event: `body` (JSON; taken over) to `path` of the dispatcher. `done` is called once, later, on the loop: with SV_OK and the dispatcher's answer
 * (an object, borrowed), whatever the handler's outcome; SV_ENOENT: the Worker has no dispatcher; SV_EIO: its process ended, or gave no answer that makes
 * sense; SV_ETIMEDOUT: longer than a handler may take. */
typedef void (*sv_event_done)(void *arg, sv_rc rc, const json_t *answer, const sv_err *err);
void sv_event_send(sv_runtime *rt, sv_client *client, const char *account, const char *name, const char *path, sv_buf *body, sv_event_done done,
                   void *arg);

#endif
