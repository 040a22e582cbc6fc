/* queues_send.h - what both dialects need to read of a send: the messages of a JSON body
 * Threads: values; any thread. */
#ifndef SV_QUEUES_QUEUES_SEND_H
#define SV_QUEUES_QUEUES_SEND_H

#include "base/json.h"
#include "queues/queues.h"

typedef struct sv_queues_batch {
    sv_queues_msg *v; /* bodies point into `text` */
    size_t n;
    sv_buf text;
    size_t *at;       /* where each body begins in it */
} sv_queues_batch;
void sv_queues_batch_done(sv_queues_batch *b); /* zeroed is fine */

/* {"messages":[{body, contentType, delaySecs}]} of the binding, bodies in base64. SV_EINVAL 10207. */
SV_MUST sv_rc sv_queues_batch_of_binding(sv_queues_batch *out, const json_t *body, int64_t delay_s, sv_err *err);
/* {"messages":[{body, content_type, delay_seconds}], "delay_seconds"} of REST, or one such message: bodies are JSON values of their type. */
SV_MUST sv_rc sv_queues_batch_of_rest(sv_queues_batch *out, const json_t *body, bool single, sv_err *err);

#endif
