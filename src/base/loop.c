/* loop.c - epoll, a heap of timers, and a mailbox
 *
 * A turn: wait for events until the nearest timer; call the watches that are ready; call the timers that are due; run what was
 * posted. A watch removed in a turn may still have an event in that turn's batch, so removal only marks it and the memory goes at
 * the end of the turn.
 *
 * Invariants:
 *   1. a watch with fn == NULL is removed: it is in `dead`, no longer in epoll, and never called.
 *   2. heap[t->at] == t for every armed timer; heap[0] is due first. at == SIZE_MAX: not armed.
 *   3. `posted` is guarded by `lock`; wake is readable whenever posted may be non-empty or stopped is set. */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"

struct sv_watch { sv_loop *loop; int fd; uint32_t events; sv_watch_fn fn; void *arg; sv_watch *next_dead; };
struct sv_timer { sv_loop *loop; void (*fn)(void *); void *arg; int64_t due_ms; size_t at; };
typedef struct post { void (*fn)(void *); void *arg; } post;

struct sv_loop {
    int epoll, wake;
    int64_t now_ms;
    sv_watch *dead;
    sv_timer **heap;
    size_t n_timers, cap_timers;
    pthread_mutex_t lock; /* guards posted, n_posted, cap_posted; nothing else is taken while it is held */
    post *posted;
    size_t n_posted, cap_posted;
    bool stopped; /* atomic */
};

sv_loop *sv_loop_new(void)
{
    sv_loop *l = sv_xnew0(sv_loop);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    SV_ASSERT(l->epoll >= 0 && l->wake >= 0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    SV_ASSERT(epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e) == 0);
    pthread_mutex_init(&l->lock, NULL);
    l->now_ms = sv_mono_ms();
    return l;
}

static void bury(sv_loop *l)
{
    while (l->dead) {
        sv_watch *w = l->dead;
        l->dead = w->next_dead;
        free(w);
    }
}

sv_loop *sv_loop_free(sv_loop *l)
{
    if (!l)
        return NULL;
    bury(l);
    close(l->epoll);
    close(l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l->heap);
    free(l->posted);
    free(l);
    return NULL;
}

static void wake(sv_loop *l)
{
    uint64_t one = 1;
    ssize_t rc = write(l->wake, &one, sizeof one);
    (void)rc; /* full means already awake */
}

void sv_loop_stop(sv_loop *l)
{
    __atomic_store_n(&l->stopped, true, __ATOMIC_RELEASE);
    wake(l);
}

int64_t sv_loop_now_ms(const sv_loop *l) { return l->now_ms; }

/* ---- watches ---- */

sv_watch *sv_loop_watch(sv_loop *l, int fd, uint32_t events, sv_watch_fn fn, void *arg)
{
    sv_watch *w = sv_xnew0(sv_watch);
    *w = (sv_watch){.loop = l, .fd = fd, .events = events, .fn = fn, .arg = arg};
    struct epoll_event e = {.events = events, .data.ptr = w};
    SV_ASSERT(epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) == 0);
    return w;
}

void sv_watch_set(sv_watch *w, uint32_t events)
{
    if (w->events == events)
        return;
    struct epoll_event e = {.events = events, .data.ptr = w};
    SV_ASSERT(epoll_ctl(w->loop->epoll, EPOLL_CTL_MOD, w->fd, &e) == 0);
    w->events = events;
}

sv_watch *sv_watch_remove(sv_watch *w)
{
    if (!w)
        return NULL;
    epoll_ctl(w->loop->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->fn = NULL;
    w->next_dead = w->loop->dead;
    w->loop->dead = w;
    return NULL;
}

/* ---- timers: a binary heap ---- */

static void place(sv_loop *l, sv_timer *t, size_t at)
{
    l->heap[at] = t;
    t->at = at;
}

static void sift(sv_loop *l, sv_timer *t, size_t at)
{
    while (at > 0 && l->heap[(at - 1) / 2]->due_ms > t->due_ms) {
        place(l, l->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (size_t child; (child = 2 * at + 1) < l->n_timers; at = child) {
        if (child + 1 < l->n_timers && l->heap[child + 1]->due_ms < l->heap[child]->due_ms)
            child++;
        if (l->heap[child]->due_ms >= t->due_ms)
            break;
        place(l, l->heap[child], at);
    }
    place(l, t, at);
}

sv_timer *sv_timer_new(sv_loop *l, void (*fn)(void *arg), void *arg)
{
    sv_timer *t = sv_xnew0(sv_timer);
    *t = (sv_timer){.loop = l, .fn = fn, .arg = arg, .at = SIZE_MAX};
    return t;
}

static void disarm(sv_timer *t)
{
    sv_loop *l = t->loop;
    size_t at = t->at;
    if (at == SIZE_MAX)
        return;
    sv_timer *last = l->heap[--l->n_timers];
    t->at = SIZE_MAX;
    if (last != t)
        sift(l, last, at);
}

void sv_timer_set(sv_timer *t, int64_t in_ms)
{
    sv_loop *l = t->loop;
    if (in_ms < 0) {
        disarm(t);
        return;
    }
    t->due_ms = sv_mono_ms() + in_ms; /* not now_ms: a long turn must not shorten time-outs */
    if (t->at == SIZE_MAX) {
        if (l->n_timers == l->cap_timers) {
            l->cap_timers = l->cap_timers ? l->cap_timers * 2 : 64;
            l->heap = sv_xrealloc(l->heap, l->cap_timers, sizeof *l->heap);
        }
        t->at = l->n_timers++;
    }
    sift(l, t, t->at);
}

sv_timer *sv_timer_free(sv_timer *t)
{
    if (t)
        disarm(t);
    free(t);
    return NULL;
}

static void run_timers(sv_loop *l)
{
    int64_t now = l->now_ms;
    while (l->n_timers > 0 && l->heap[0]->due_ms <= now) {
        sv_timer *t = l->heap[0];
        disarm(t); /* before the call: it may re-arm or free itself */
        t->fn(t->arg);
    }
}

/* ---- mailbox ---- */

void sv_loop_post(sv_loop *l, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&l->lock);
    if (l->n_posted == l->cap_posted) {
        l->cap_posted = l->cap_posted ? l->cap_posted * 2 : 16;
        l->posted = sv_xrealloc(l->posted, l->cap_posted, sizeof *l->posted);
    }
    l->posted[l->n_posted++] = (post){fn, arg};
    bool first = l->n_posted == 1;
    pthread_mutex_unlock(&l->lock);
    if (first)
        wake(l);
}

static void run_posted(sv_loop *l)
{
    pthread_mutex_lock(&l->lock);
    post *mail = l->posted;
    size_t n = l->n_posted;
    l->posted = NULL;
    l->n_posted = l->cap_posted = 0;
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < n; i++)
        mail[i].fn(mail[i].arg);
    free(mail);
}

static int wait_ms(const sv_loop *l)
{
    if (l->n_timers == 0)
        return -1;
    int64_t ms = l->heap[0]->due_ms - sv_mono_ms();
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

void sv_loop_run(sv_loop *l)
{
    struct epoll_event events[256];
    while (!__atomic_load_n(&l->stopped, __ATOMIC_ACQUIRE)) {
        int n = epoll_wait(l->epoll, events, SV_LEN(events), wait_ms(l));
        SV_ASSERT(n >= 0 || errno == EINTR);
        l->now_ms = sv_mono_ms();
        for (int i = 0; i < n; i++) {
            sv_watch *w = events[i].data.ptr;
            if (!w) {
                uint64_t count;
                ssize_t rc = read(l->wake, &count, sizeof count);
                (void)rc;
            } else if (w->fn) { /* inv. 1 */
                w->fn(w->arg, w->fd, events[i].events);
            }
        }
        run_timers(l);
        run_posted(l);
        bury(l);
    }
    __atomic_store_n(&l->stopped, false, __ATOMIC_RELAXED); /* may run again */
}
