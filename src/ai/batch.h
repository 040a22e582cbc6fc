/* batch.h - asynchronous batches: many inputs for one model, computed when there is time, fetched later
 *
 *     {"requests":[input, ...]} with queueRequest    {"status":"queued","request_id","model"}
 *     {"request_id"} to the same model               {"status":"queued"|"running"}, then {"responses":[{"id","success","result"}],"usage"}
 *
 * What was acknowledged is on disk (DATA/ai.db) and is computed, whatever is killed meanwhile. Answers are kept for a day.
 * Threads: open blocks; the rest is the loop's. */
#ifndef SV_AI_BATCH_H
#define SV_AI_BATCH_H

#include "ai/task.h"

typedef struct sv_batches sv_batches;

SV_MUST sv_rc sv_batches_open(sv_batches **out, sv_ai *ai, const char *data_dir, sv_err *err);
sv_batches *sv_batches_close(sv_batches *b); /* after sv_ai_cancel_all; unanswered requests are let go. NULL is fine */

/* Both answer r, soon. */
void sv_batches_add(sv_batches *b, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s);
void sv_batches_poll(sv_batches *b, sv_req *r, sv_str model_id, const json_t *body, const sv_surface *s);

/* Appends Prometheus text: batches that wait or run, entries done. */
void sv_batches_metrics(const sv_batches *b, sv_buf *out);

#endif
