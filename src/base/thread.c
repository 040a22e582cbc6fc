/* thread.c - named threads, the bounded queue, the job pool, the ticker */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

typedef struct start { char name[16]; void *(*fn)(void *); void *arg; } start;

static void *run(void *p)
{
    start s = *(start *)p;
    free(p);
    pthread_setname_np(pthread_self(), s.name);
    return s.fn(s.arg);
}

pthread_t sv_thread_start(const char *name, void *(*fn)(void *), void *arg)
{
    start *s = sv_xnew0(start);
    snprintf(s->name, sizeof s->name, "%.15s", name);
    s->fn = fn;
    s->arg = arg;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that asked for them */
    pthread_t t;
    int rc = pthread_create(&t, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        fprintf(stderr, "start thread '%s': %s\n", name, strerror(rc));
        abort();
    }
    return t;
}

/* CLOCK_MONOTONIC, as the conditions below wait by. */
static struct timespec after_ms(int64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

struct sv_queue {
    pthread_mutex_t lock; /* guards all below; nothing else is taken while it is held */
    pthread_cond_t filled;
    void **items;         /* ring of cap, grown up to max */
    size_t cap, head, n, max;
    bool closed;
};

sv_queue *sv_queue_new(size_t max)
{
    sv_queue *q = sv_xnew0(sv_queue);
    pthread_mutex_init(&q->lock, NULL);
    cond_init(&q->filled);
    q->max = max ? max : 1;
    return q;
}

sv_queue *sv_queue_free(sv_queue *q)
{
    if (!q)
        return NULL;
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    free(q->items);
    free(q);
    return NULL;
}

static void grow(sv_queue *q)
{
    size_t cap = q->cap ? q->cap * 2 : 16;
    void **items = sv_xcalloc(cap, sizeof *items);
    for (size_t i = 0; i < q->n; i++)
        items[i] = q->items[(q->head + i) % q->cap];
    free(q->items);
    q->items = items;
    q->cap = cap;
    q->head = 0;
}

bool sv_queue_post(sv_queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    bool ok = !q->closed && q->n < q->max;
    if (ok) {
        if (q->n == q->cap)
            grow(q);
        q->items[(q->head + q->n++) % q->cap] = item;
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void *sv_queue_take(sv_queue *q, int timeout_ms)
{
    struct timespec until = after_ms(timeout_ms > 0 ? timeout_ms : 0);
    pthread_mutex_lock(&q->lock);
    while (q->n == 0 && !q->closed) {
        if (timeout_ms < 0)
            pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT)
            break;
    }
    void *item = NULL;
    if (q->n > 0) {
        item = q->items[q->head];
        q->head = (q->head + 1) % q->cap;
        q->n--;
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void sv_queue_close(sv_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

typedef struct job { void (*fn)(void *); void *arg; } job;
struct sv_jobs { sv_queue *queue; pthread_t *threads; int n_threads; };

static void *work(void *p)
{
    sv_jobs *j = p;
    for (job *next; (next = sv_queue_take(j->queue, -1)) != NULL;) {
        next->fn(next->arg);
        free(next);
    }
    return NULL;
}

sv_jobs *sv_jobs_new(int n_threads, size_t max_queued)
{
    sv_jobs *j = sv_xnew0(sv_jobs);
    j->queue = sv_queue_new(max_queued);
    j->n_threads = n_threads;
    j->threads = sv_xcalloc((size_t)n_threads, sizeof *j->threads);
    for (int i = 0; i < n_threads; i++)
        j->threads[i] = sv_thread_start("job", work, j);
    return j;
}

bool sv_jobs_post(sv_jobs *j, void (*fn)(void *arg), void *arg)
{
    job *next = sv_xnew0(job);
    *next = (job){fn, arg};
    bool ok = sv_queue_post(j->queue, next);
    if (!ok)
        free(next);
    return ok;
}

sv_jobs *sv_jobs_free(sv_jobs *j)
{
    if (!j)
        return NULL;
    sv_queue_close(j->queue);
    for (int i = 0; i < j->n_threads; i++)
        pthread_join(j->threads[i], NULL);
    sv_queue_free(j->queue);
    free(j->threads);
    free(j);
    return NULL;
}

struct sv_ticker {
    pthread_t thread;
    pthread_mutex_t lock; /* guards stopping; not held while fn runs */
    pthread_cond_t stop;
    bool stopping;
    int64_t period_ms;
    void (*fn)(void *);
    void *arg;
};

/* false: stopping. */
static bool period_over(sv_ticker *t)
{
    struct timespec until = after_ms(t->period_ms);
    pthread_mutex_lock(&t->lock);
    while (!t->stopping && pthread_cond_timedwait(&t->stop, &t->lock, &until) != ETIMEDOUT) {
    }
    bool go_on = !t->stopping;
    pthread_mutex_unlock(&t->lock);
    return go_on;
}

static void *tick(void *arg)
{
    sv_ticker *t = arg;
    while (period_over(t))
        t->fn(t->arg);
    return NULL;
}

sv_ticker *sv_ticker_new(const char *name, int64_t period_ms, void (*fn)(void *arg), void *arg)
{
    sv_ticker *t = sv_xnew0(sv_ticker);
    t->period_ms = period_ms;
    t->fn = fn;
    t->arg = arg;
    pthread_mutex_init(&t->lock, NULL);
    cond_init(&t->stop);
    t->thread = sv_thread_start(name, tick, t);
    return t;
}

sv_ticker *sv_ticker_free(sv_ticker *t)
{
    if (!t)
        return NULL;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->stop);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->stop);
    pthread_mutex_destroy(&t->lock);
    free(t);
    return NULL;
}
