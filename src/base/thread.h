/* thread.h - threads that meet at queues; a pool for work that blocks; a call every so often
 * What is posted is given: the sender does not touch it afterwards. */
#ifndef SV_BASE_THREAD_H
#define SV_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Starts a named thread with all signals blocked; ends the process if the system gives none. */
pthread_t sv_thread_start(const char *name, void *(*fn)(void *), void *arg);

/* Bounded pointer queue: many senders, many takers, first in first out. */
typedef struct sv_queue sv_queue;
sv_queue *sv_queue_new(size_t max);
sv_queue *sv_queue_free(sv_queue *q);            /* items left inside are not touched */
bool sv_queue_post(sv_queue *q, void *item);     /* false: full or closed */
void *sv_queue_take(sv_queue *q, int timeout_ms); /* NULL: timeout (-1 waits for ever), or closed and empty */
void sv_queue_close(sv_queue *q);                /* wakes all; takers drain what is left */

/* Threads for work that blocks (SQLite, files, waiting for children). Order between jobs is not promised. */
typedef struct sv_jobs sv_jobs;
sv_jobs *sv_jobs_new(int n_threads, size_t max_queued);
bool sv_jobs_post(sv_jobs *j, void (*fn)(void *arg), void *arg); /* false: full; arg is still the caller's */
sv_jobs *sv_jobs_free(sv_jobs *j);                               /* runs what is queued, then joins */

/* A thread that calls fn every period_ms, the first time after one period. */
typedef struct sv_ticker sv_ticker;
sv_ticker *sv_ticker_new(const char *name, int64_t period_ms, void (*fn)(void *arg), void *arg);
sv_ticker *sv_ticker_free(sv_ticker *t); /* waits for a call in progress, starts no other. NULL is fine; returns NULL */

#endif
