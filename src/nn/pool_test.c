/* pool_test.c - every task once, whatever the number of threads and whoever is late */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"
#include "nn/pool.h"

static const int thread_counts[] = {1, 2, 3, 8};
#define EACH_POOL(p)                                                                             \
    for (size_t i_pool_ = 0; i_pool_ < SV_LEN(thread_counts); i_pool_++)                         \
        for (sv_pool *p = sv_pool_new(thread_counts[i_pool_]); p; p = sv_pool_free(p))

typedef struct squares { int64_t *out; int64_t add; } squares;

static void square(void *arg, int32_t i)
{
    const squares *s = arg;
    s->out[i] += (int64_t)i * i + s->add; /* plain memory: a task run twice, or seen half done, shows */
}

static void every_task_runs_once_and_its_result_is_there(void **state)
{
    (void)state;
    static const int32_t counts[] = {0, 1, 2, 3, 7, 64, 1000};
    EACH_POOL(p) {
        assert_int_equal(sv_pool_n_threads(p), thread_counts[i_pool_]);
        for (size_t c = 0; c < SV_LEN(counts); c++) {
            int64_t out[1001] = {0};
            sv_pool_run(p, counts[c], square, &(squares){out, 1});
            for (int32_t i = 0; i < counts[c]; i++)
                assert_int_equal(out[i], (int64_t)i * i + 1);
            assert_int_equal(out[counts[c]], 0);
        }
    }
}

static void runs_follow_each_other_without_mixing(void **state)
{
    (void)state;
    EACH_POOL(p) {
        int64_t out[16] = {0}, sum = 0;
        for (int64_t run = 0; run < 3000; run++) { /* sizes and arguments change each time */
            sv_pool_run(p, (int32_t)(1 + run % 16), square, &(squares){out, run});
            sum += run;
        }
        assert_int_equal(out[0], sum);
        int64_t last = 0; /* only every sixteenth run has a task 15 */
        for (int64_t run = 15; run < 3000; run += 16)
            last += 15 * 15 + run;
        assert_int_equal(out[15], last);
    }
}

/* Each task waits for the other: they end only if two threads are at it at once. */
static void meet(void *arg, int32_t i)
{
    _Atomic int *arrived = arg;
    (void)i;
    atomic_fetch_add(arrived, 1);
    int64_t until = sv_mono_ms() + 20000;
    while (atomic_load(arrived) < 2 && sv_mono_ms() < until)
        usleep(100);
}

static void workers_wake_after_a_pause_and_share_the_work(void **state)
{
    (void)state;
    sv_pool *p = sv_pool_new(2);
    for (int i = 0; i < 20; i++) {
        _Atomic int arrived = 0;
        usleep(i % 4 * 2000u); /* at once, and well after they fell asleep */
        int64_t begin = sv_mono_ms();
        sv_pool_run(p, 2, meet, &arrived);
        assert_int_equal(atomic_load(&arrived), 2);
        assert_true(sv_mono_ms() - begin < 15000);
    }
    sv_pool_free(p);
}

static void slow(void *arg, int32_t i)
{
    if (i == 0)
        usleep(20000);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void the_caller_sleeps_until_the_last_task_is_done(void **state)
{
    (void)state;
    EACH_POOL(p)
        for (int i = 0; i < 5; i++) {
            _Atomic int n = 0;
            sv_pool_run(p, 4, slow, &n);
            assert_int_equal(atomic_load(&n), 4);
        }
}

static void an_idle_pool_costs_nothing(void **state)
{
    (void)state;
    struct timespec t;
    sv_pool *p = sv_pool_new(8);
    int64_t out[64] = {0};
    sv_pool_run(p, 64, square, &(squares){out, 0});
    usleep(50000); /* now they sleep */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    int64_t before_us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    usleep(300000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    assert_true((int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 - before_us < 3000); /* 1 % of one core */
    sv_pool_free(p);
}

static void use_stack(void *arg, int32_t i)
{
    volatile char deep[1000 * 1000];
    (void)arg;
    for (size_t at = 0; at < sizeof deep; at += 4096)
        deep[at] = (char)i;
    SV_ASSERT(deep[0] == (char)i); /* not of cmocka: it would jump across threads */
}

static void tasks_have_a_mebibyte_of_stack(void **state)
{
    (void)state;
    EACH_POOL(p)
        sv_pool_run(p, 32, use_stack, NULL);
}

static void pools_come_and_go(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        int64_t out[8] = {0};
        sv_pool *p = sv_pool_new(1 + i % 4);
        if (i % 2)
            sv_pool_run(p, 8, square, &(squares){out, 0});
        sv_pool_free(p);
    }
    sv_pool *all = sv_pool_new(0);
    assert_true(sv_pool_n_threads(all) >= 1);
    sv_pool_free(all);
    assert_null(sv_pool_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_and_its_result_is_there),
        cmocka_unit_test(runs_follow_each_other_without_mixing),
        cmocka_unit_test(workers_wake_after_a_pause_and_share_the_work),
        cmocka_unit_test(the_caller_sleeps_until_the_last_task_is_done),
        cmocka_unit_test(an_idle_pool_costs_nothing),
        cmocka_unit_test(tasks_have_a_mebibyte_of_stack),
        cmocka_unit_test(pools_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
