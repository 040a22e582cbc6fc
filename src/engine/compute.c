/* compute.c - the one compute pool, which the models' threads take in turns
 *
 * The other way would be a pool for each loaded model. Then two busy models have twice as many threads as there are cores; a pass waits for
 * its last task, and with the kernel moving threads about that task is often the one that lost its core, so both models run slower than in
 * turns, with two sets of weights fighting for the cache. In turns every pass has the cores to itself, a step is bounded by the scheduler's
 * row budget, and an idle model costs no threads. The price: a small model waits for the step of a big one; the budget keeps that short.
 *
 * A ticket lock, since a mutex alone lets the thread that leaves come in again first, for ever. The mutex guards the two numbers; nothing
 * else is taken while it is held. */
#include "engine/compute.h"

#include <pthread.h>

#include "base/mem.h"

struct sv_compute {
    sv_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t next, serving; /* the turn is of the ticket == serving */
};

sv_compute *sv_compute_new(int n_threads)
{
    sv_compute *c = sv_xnew0(sv_compute);
    c->pool = sv_pool_new(n_threads);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->turned, NULL);
    return c;
}

sv_compute *sv_compute_free(sv_compute *c)
{
    if (!c)
        return NULL;
    SV_ASSERT(c->next == c->serving);
    sv_pool_free(c->pool);
    pthread_cond_destroy(&c->turned);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

sv_pool *sv_compute_enter(sv_compute *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t mine = c->next++;
    while (c->serving != mine)
        pthread_cond_wait(&c->turned, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return c->pool;
}

void sv_compute_leave(sv_compute *c)
{
    pthread_mutex_lock(&c->lock);
    c->serving++;
    pthread_cond_broadcast(&c->turned);
    pthread_mutex_unlock(&c->lock);
}

int sv_compute_n_threads(const sv_compute *c) { return sv_pool_n_threads(c->pool); }
