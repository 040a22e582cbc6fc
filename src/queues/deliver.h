/* deliver.h - batches of messages to Workers: when, how many at once, and what becomes of each message
 *
 * A batch goes out when it is full, or when its first message has waited for the consumer's max_wait_time. What the handler decided is settled
 * in the store before the next look. A batch whose handler failed, whose process died, or that took too long is retried whole.
 * Threads: the loop's, but for sv_deliver_changed. */
#ifndef SV_QUEUES_DELIVER_H
#define SV_QUEUES_DELIVER_H

#include "base/json.h"
#include "base/loop.h"
#include "base/thread.h"
#include "queues/queues.h"

typedef struct sv_deliver sv_deliver;

typedef void (*sv_deliver_done)(void *arg, sv_rc rc, const json_t *answer, const sv_err *err);

typedef struct sv_deliver_opts {
    sv_queues *queues; /* borrowed, as the next two */
    sv_loop *loop;
    sv_jobs *jobs;
    /* Calls queue() of the account's Worker with `body` (JSON, taken over) and then `done` on the loop, with what workerd says of the call. SV_ENOENT:
     * there is no such Worker at present; nobody has seen the batch. */
    void (*invoke)(void *ctx, const char *account, const char *script, sv_buf *body, sv_deliver_done done, void *arg);
    void *ctx;
} sv_deliver_opts;

sv_deliver *sv_deliver_new(const sv_deliver_opts *opts); /* looks at every queue once; from then on the store tells it */
/* Begins no further batch; done_fn once all that is out is settled. */
void sv_deliver_drain(sv_deliver *d, void (*done_fn)(void *arg), void *arg);
sv_deliver *sv_deliver_free(sv_deliver *d); /* after the jobs and the loop have ended and the store is closed; NULL is fine */

#endif
