#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/epoll.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "base/thread.h"

static int order[16], n_order;
static sv_loop *loop;

static void note(void *arg)
{
    order[n_order++] = (int)(intptr_t)arg;
    if (n_order == 5)
        sv_loop_stop(loop);
}

static void timers_fire_in_the_order_of_their_time(void **state)
{
    (void)state;
    static const int ms[] = {30, 5, 20, 1, 10};
    sv_timer *t[5], *never = NULL;
    loop = sv_loop_new();
    n_order = 0;
    never = sv_timer_new(loop, note, (void *)(intptr_t)99);
    sv_timer_set(never, 3);
    for (int i = 0; i < 5; i++) {
        t[i] = sv_timer_new(loop, note, (void *)(intptr_t)ms[i]);
        sv_timer_set(t[i], 500); /* set again: only the last one counts */
        sv_timer_set(t[i], ms[i]);
    }
    sv_timer_set(never, -1);
    sv_loop_run(loop);
    static const int want[] = {1, 5, 10, 20, 30};
    assert_memory_equal(order, want, sizeof want);
    for (int i = 0; i < 5; i++)
        sv_timer_free(t[i]);
    sv_timer_free(never);
    sv_loop_free(loop);
}

typedef struct pair { int a[2], b[2]; sv_watch *wa, *wb; int calls; } pair;

static void remove_both(void *arg, int fd, uint32_t events)
{
    pair *p = arg;
    (void)fd, (void)events;
    p->calls++;
    p->wa = sv_watch_remove(p->wa);
    p->wb = sv_watch_remove(p->wb);
    sv_loop_stop(loop);
}

static void a_watch_removed_in_the_same_turn_is_not_called(void **state)
{
    (void)state;
    pair p = {0};
    loop = sv_loop_new();
    assert_true(pipe(p.a) == 0 && pipe(p.b) == 0);
    assert_true(write(p.a[1], "x", 1) == 1 && write(p.b[1], "x", 1) == 1);
    p.wa = sv_loop_watch(loop, p.a[0], EPOLLIN, remove_both, &p);
    p.wb = sv_loop_watch(loop, p.b[0], EPOLLIN, remove_both, &p);
    sv_loop_run(loop);
    assert_int_equal(p.calls, 1);
    for (int i = 0; i < 2; i++)
        close(p.a[i]), close(p.b[i]);
    sv_loop_free(loop);
}

static int64_t sum, next_seen;
static bool in_order = true;
enum { POSTS = 5000 };

static void add(void *arg)
{
    int64_t v = (intptr_t)arg;
    in_order &= v == next_seen + 1;
    next_seen = v;
    if (v == POSTS)
        sv_loop_stop(loop);
    sum += v;
}

static void *post_all(void *arg)
{
    for (intptr_t i = 1; i <= POSTS; i++)
        sv_loop_post(arg, add, (void *)i);
    return NULL;
}

static void posts_from_another_thread_come_in_order(void **state)
{
    (void)state;
    loop = sv_loop_new();
    pthread_t t = sv_thread_start("poster", post_all, loop);
    sv_loop_run(loop);
    pthread_join(t, NULL);
    assert_true(in_order);
    assert_int_equal(sum, (int64_t)POSTS * (POSTS + 1) / 2);
    sv_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_the_order_of_their_time),
        cmocka_unit_test(a_watch_removed_in_the_same_turn_is_not_called),
        cmocka_unit_test(posts_from_another_thread_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
