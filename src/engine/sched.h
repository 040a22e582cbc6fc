/* sched.h - one model's requests: all that live advance together, one batch a step
 *
 * A step computes one row for every request that writes text, and fills up with pieces of prompts; then each request whose logits are there
 * gets its next token. What a request's text is does not depend on its company (models/llm.h), only when it comes does.
 *
 * Threads: the engine thread's of the model; the cancel flags and sv_sched_get_stats any. */
#ifndef SV_ENGINE_SCHED_H
#define SV_ENGINE_SCHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/client.h" /* sv_sampling, sv_usage, sv_finish */
#include "engine/compute.h"
#include "models/llm.h"

typedef struct sv_sched sv_sched;

typedef struct sv_sched_opts { /* zeros are the defaults */
    int32_t max_rows;    /* 256: tokens a step */
    int32_t max_active;  /* 64: requests in the batch; at most max_rows */
    int32_t max_queued;  /* 256: requests that wait for the batch or for pages */
    int32_t step_ms;     /* 100: while somebody's text is being written, prompts fill steps up to this long */
    size_t kv_bytes;     /* 1 GiB: for the KV cache, prompts kept for later requests among it */
} sv_sched_opts;

typedef struct sv_sched_req { /* copied, but for sampling.logit_bias, cancel and arg */
    const char *tenant;      /* prompts are kept for requests of the same one; under SV_KV_MAX_TENANT bytes; NULL is "" */
    const int32_t *tokens;   /* the prompt, ids in range, at least one */
    int32_t n_tokens;
    int32_t max_tokens;      /* at least 1; n_tokens + max_tokens are within the model's window */
    sv_sampling sampling;    /* its logit_bias lives until the end */
    const sv_str *stop;
    int32_t n_stops;
    const _Atomic bool *cancel; /* lives until the end; once true, the request ends with SV_ECANCELED before the next step */
    void *arg;
} sv_sched_req;

/* Called on the engine thread inside sv_sched_step and sv_sched_stop. Ends come once a request, last; err only with rc != SV_OK. A request that
 * failed or was cancelled may have begun or not. */
typedef struct sv_sched_events {
    void (*on_start)(void *arg, const sv_usage *usage);
    void (*on_text)(void *arg, sv_str text, int32_t n_tokens); /* n_tokens: chosen since the last text */
    void (*on_probs)(void *arg, sv_str packed); /* NULL, or see client.h: before the text, where sampling.logprobs is set */
    void (*on_end)(void *arg, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err);
} sv_sched_events;

/* Takes a reference of m; compute is borrowed. SV_ENOMEM. */
SV_MUST sv_rc sv_sched_new(sv_sched **out, sv_llm *m, sv_compute *compute, const sv_sched_events *events, const sv_sched_opts *opts, sv_err *err);
sv_sched *sv_sched_free(sv_sched *s); /* nothing lives in it. NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_sched, sv_sched_free)

/* SV_ELIMIT: the queue is full (api_code 3040), or the whole KV cache is too small (5021); SV_EINVAL: a bias for a token that is not in the
 * vocabulary; SV_ENOMEM. Then no event comes. */
SV_MUST sv_rc sv_sched_add(sv_sched *s, const sv_sched_req *req, sv_err *err);
bool sv_sched_busy(const sv_sched *s);          /* some request lives: sv_sched_step has work */
void sv_sched_step(sv_sched *s);
void sv_sched_stop(sv_sched *s, const sv_err *why); /* ends all with why */
void sv_sched_trim(sv_sched *s);                /* idle for a while: free pages go back to the system, and kept prompts beyond a quarter of the cache */

/* Steps by how long they took and how many rows they had: [i] counts those of at most the i-th bound, and more than the bound before; the last those
 * beyond all bounds. */
enum { SV_STEP_BUCKETS = 12 };
extern const int32_t sv_step_ms_bounds[SV_STEP_BUCKETS - 1], sv_step_rows_bounds[SV_STEP_BUCKETS - 1];

typedef struct sv_sched_stats {
    int32_t n_active, n_queued;
    int32_t kv_pages_used, kv_pages_cached, kv_pages; /* used: by requests in the batch; cached: kept for requests to come */
    int64_t tokens, steps, cancelled, rows; /* tokens: chosen; rows: computed, prompts too */
    int64_t cached_tokens, preempted;       /* prompt tokens that were not computed again; times that a request left the batch for want of pages */
    int64_t step_us;                        /* of all steps */
    int64_t steps_by_ms[SV_STEP_BUCKETS], steps_by_rows[SV_STEP_BUCKETS];
} sv_sched_stats;
void sv_sched_get_stats(const sv_sched *s, sv_sched_stats *out);
void sv_sched_stats_add(sv_sched_stats *sum, const sv_sched_stats *more); /* of several models */

#endif
