/* compute.h - the one compute pool, which the models' threads take in turns
 *
 * Turns are first come, first served, and a turn is one step: with two busy models each computes every other step on all cores. */
#ifndef SV_ENGINE_COMPUTE_H
#define SV_ENGINE_COMPUTE_H

#include "nn/pool.h"

typedef struct sv_compute sv_compute;
sv_compute *sv_compute_new(int n_threads);       /* 0: all cores this process may use */
sv_compute *sv_compute_free(sv_compute *c);      /* nobody is in or waits. NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_compute, sv_compute_free)
sv_pool *sv_compute_enter(sv_compute *c);        /* waits for the turn; the pool is the caller's until it leaves */
void sv_compute_leave(sv_compute *c);
int sv_compute_n_threads(const sv_compute *c);

#endif
