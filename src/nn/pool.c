/* pool.c - a compute pool made of one claim word and two futexes
 *
 * A model step is a chain of some hundred short parallel passes (20 us to 5 ms each). Between two passes the workers should be
 * there at once, and when the engine waits for a client they should cost nothing; both on machines where other processes
 * hold the cores for a while. Hence:
 *   - Work is claimed task by task from one 64-bit word: the run's number above, the number of tasks left below. A worker that the kernel
 *     took off its core in between costs its own task's time, not a fixed share of the pass, and the caller works as well.
 *   - A worker that comes late finds another run number or no tasks left and has touched nothing. So nobody waits for
 *     threads, only for tasks: a pass ends when its tasks are done, even if a worker never woke up.
 *   - Waiting spins for SPIN_US and then sleeps on a futex. Between two passes of a batch the caller norms and rotates some rows alone, which
 *     takes 10 to 40 us; a worker that slept by then cost a wake each pass. Spinning longer would burn what the other processes on a
 *     shared core need.
 *
 * Invariants:
 *   1. fn, arg and n_tasks change only while no task is left to claim and every task is done. A claim that succeeds on
 *      (run r, tasks left) therefore proves that what was read of them after seeing it is run r's.
 *   2. n_done of a run reaches n_tasks exactly once, by the thread that finished the last task; results of every task are
 *      visible to the caller then (release on n_done, acquire in the caller).
 *   3. A worker is either inside claims, or counted in n_asleep before it sleeps on `run`; the caller bumps `run` first and
 *      reads n_asleep after it, both sequentially consistent, so no wake is lost. */
#include "nn/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/time.h"

enum { SPIN_US = 50, SPIN_TURNS = 32, MAX_THREADS = 256 };

struct sv_pool {
    int n_threads; /* the caller included */
    pthread_t *threads;
    /* The run under way: plain atomics, ordered by `claim` (inv. 1). */
    void (*_Atomic fn)(void *, int32_t);
    void *_Atomic arg;
    _Atomic int32_t n_tasks;
    _Alignas(64) _Atomic uint64_t claim; /* run << 32 | tasks left */
    _Alignas(64) _Atomic uint32_t run;   /* futex: workers sleep here */
    _Atomic uint32_t n_asleep;
    _Atomic bool stop;
    _Alignas(64) _Atomic uint32_t n_done; /* futex: the caller sleeps here */
    _Atomic bool caller_asleep;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t while_equal)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_equal, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Looks at *word for up to SPIN_US: true once it is no longer `value`. */
static bool spin_while(_Atomic uint32_t *word, uint32_t value)
{
    int64_t until = 0;
    for (;;) {
        for (int i = 0; i < SPIN_TURNS; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return true;
            relax();
        }
        int64_t now = sv_mono_us();
        if (until == 0)
            until = now + SPIN_US;
        else if (now >= until)
            return false;
    }
}

/* Claims and runs tasks of run `run` until none is left or another run has begun. */
static void work(sv_pool *p, uint32_t run)
{
    uint64_t claim = atomic_load_explicit(&p->claim, memory_order_acquire);
    while ((uint32_t)(claim >> 32) == run && (uint32_t)claim > 0) {
        void (*fn)(void *, int32_t) = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *arg = atomic_load_explicit(&p->arg, memory_order_relaxed);
        int32_t n_tasks = atomic_load_explicit(&p->n_tasks, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&p->claim, &claim, claim - 1, memory_order_acq_rel, memory_order_acquire))
            continue;
        fn(arg, n_tasks - (int32_t)(uint32_t)claim); /* inv. 1: the claim held, so these were this run's */
        uint32_t done = atomic_fetch_add(&p->n_done, 1) + 1;
        if (done == (uint32_t)n_tasks && atomic_load(&p->caller_asleep))
            futex_wake(&p->n_done, 1);
        claim = atomic_load_explicit(&p->claim, memory_order_acquire);
    }
}

static void *worker(void *arg)
{
    sv_pool *p = arg;
    uint32_t seen = 0;
    for (;;) {
        if (!spin_while(&p->run, seen)) {
            atomic_fetch_add(&p->n_asleep, 1); /* inv. 3 */
            while (atomic_load(&p->run) == seen)
                futex_wait(&p->run, seen);
            atomic_fetch_sub(&p->n_asleep, 1);
        }
        seen = atomic_load(&p->run);
        if (atomic_load(&p->stop))
            return NULL;
        work(p, seen);
    }
}

void sv_pool_run(sv_pool *p, int32_t n_tasks, void (*fn)(void *arg, int32_t i_task), void *arg)
{
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (int32_t i = 0; i < n_tasks; i++)
            fn(arg, i);
        return;
    }
    uint32_t run = atomic_load(&p->run) + 1;
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&p->n_tasks, n_tasks, memory_order_relaxed);
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    atomic_store_explicit(&p->claim, (uint64_t)run << 32 | (uint32_t)n_tasks, memory_order_release);
    atomic_store(&p->run, run);
    if (atomic_load(&p->n_asleep) > 0)
        futex_wake(&p->run, MAX_THREADS);
    work(p, run);

    for (;;) { /* the last tasks may still run elsewhere */
        uint32_t done = atomic_load(&p->n_done);
        if (done == (uint32_t)n_tasks)
            return;
        if (spin_while(&p->n_done, done))
            continue;
        atomic_store(&p->caller_asleep, true);
        done = atomic_load(&p->n_done);
        if (done != (uint32_t)n_tasks)
            futex_wait(&p->n_done, done);
        atomic_store(&p->caller_asleep, false);
    }
}

static int allowed_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

sv_pool *sv_pool_new(int n_threads)
{
    sv_pool *p = sv_try_aligned(sizeof *p, 64);
    SV_ASSERT(p != NULL);
    memset(p, 0, sizeof *p);
    p->n_threads = n_threads > 0 ? n_threads : allowed_cores();
    if (p->n_threads > MAX_THREADS)
        p->n_threads = MAX_THREADS;
    p->threads = sv_xcalloc((size_t)p->n_threads, sizeof *p->threads);
    for (int i = 1; i < p->n_threads; i++)
        p->threads[i] = sv_thread_start("sv-pool", worker, p);
    return p;
}

sv_pool *sv_pool_free(sv_pool *p)
{
    if (!p)
        return NULL;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->run, 1);
    futex_wake(&p->run, MAX_THREADS);
    for (int i = 1; i < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    free(p->threads);
    free(p);
    return NULL;
}

int sv_pool_n_threads(const sv_pool *p)
{
    return p->n_threads;
}
