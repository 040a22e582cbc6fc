/* pool.h - the compute pool: borrows slices of work from one engine thread, which waits until it is done
 * One caller at a time. Workers spin briefly, then sleep: no burning when idle. */
#ifndef SV_NN_POOL_H
#define SV_NN_POOL_H

#include <stdint.h>

#include "base/mem.h"

typedef struct sv_pool sv_pool;
sv_pool *sv_pool_new(int n_threads); /* the caller is one of them; 0: all cores this process may use */
sv_pool *sv_pool_free(sv_pool *p);   /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_pool, sv_pool_free)
int sv_pool_n_threads(const sv_pool *p);
/* Runs fn(arg, i) for i in [0, n_tasks) on all threads, returns when all are done. Results must not depend on which thread runs
 * which task (company-proof results: the same bits with any number of threads). fn has 1 MiB of stack and must not call
 * sv_pool_run. */
void sv_pool_run(sv_pool *p, int32_t n_tasks, void (*fn)(void *arg, int32_t i_task), void *arg);

#endif
