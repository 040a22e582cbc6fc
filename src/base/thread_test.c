#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/mem.h"
#include "base/thread.h"
#include "base/time.h"

enum { N = 2000, SENDERS = 4 };

static void *send_all(void *arg)
{
    for (uintptr_t i = 1; i <= N; i++)
        while (!sv_queue_post(arg, (void *)i))
            sched_yield(); /* full */
    return NULL;
}

static void many_senders_lose_nothing_through_a_small_queue(void **state)
{
    (void)state;
    sv_queue *q = sv_queue_new(7);
    pthread_t t[SENDERS];
    for (int i = 0; i < SENDERS; i++)
        t[i] = sv_thread_start("sender", send_all, q);
    uintptr_t sum = 0;
    for (int i = 0; i < N * SENDERS; i++)
        sum += (uintptr_t)sv_queue_take(q, -1);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(sum, (uintptr_t)SENDERS * N * (N + 1) / 2);
    assert_null(sv_queue_take(q, 0));
    sv_queue_free(q);
}

static void a_closed_queue_gives_what_is_left_and_takes_no_more(void **state)
{
    (void)state;
    int x, y;
    sv_queue *q = sv_queue_new(2);
    assert_true(sv_queue_post(q, &x));
    assert_true(sv_queue_post(q, &y));
    assert_false(sv_queue_post(q, &x));
    sv_queue_close(q);
    assert_ptr_equal(sv_queue_take(q, -1), &x);
    assert_ptr_equal(sv_queue_take(q, -1), &y);
    assert_null(sv_queue_take(q, -1));
    assert_false(sv_queue_post(q, &x));
    sv_queue_free(q);
}

static void a_take_times_out(void **state)
{
    (void)state;
    sv_queue *q = sv_queue_new(1);
    int64_t start = sv_mono_ms();
    assert_null(sv_queue_take(q, 30));
    assert_true(sv_mono_ms() - start >= 29);
    sv_queue_free(q);
}

static void count(void *arg) { __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED); }

static void every_accepted_job_runs_before_the_pool_is_gone(void **state)
{
    (void)state;
    int done = 0, posted = 0;
    sv_jobs *j = sv_jobs_new(3, 50);
    for (int i = 0; i < 1000; i++)
        posted += sv_jobs_post(j, count, &done);
    assert_null(sv_jobs_free(j));
    assert_true(posted > 0);
    assert_int_equal(done, posted);
}

static void a_ticker_calls_again_and_again_and_never_after_its_end(void **state)
{
    (void)state;
    int n = 0;
    sv_ticker *t = sv_ticker_new("ticker", 1, count, &n);
    while (__atomic_load_n(&n, __ATOMIC_RELAXED) < 5)
        sched_yield();
    assert_null(sv_ticker_free(t));
    int at_the_end = n;
    usleep(5000);
    assert_int_equal(n, at_the_end);
    int none = 0;
    int64_t start = sv_mono_ms();
    sv_ticker_free(sv_ticker_new("ticker", 3600000, count, &none)); /* its end does not wait for the period */
    assert_true(sv_mono_ms() - start < 60000);
    assert_int_equal(none, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_senders_lose_nothing_through_a_small_queue),
        cmocka_unit_test(a_closed_queue_gives_what_is_left_and_takes_no_more),
        cmocka_unit_test(a_take_times_out),
        cmocka_unit_test(every_accepted_job_runs_before_the_pool_is_gone),
        cmocka_unit_test(a_ticker_calls_again_and_again_and_never_after_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
