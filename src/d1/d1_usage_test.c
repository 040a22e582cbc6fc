/* d1_usage_test.c - hours are kept for a day, and counted apart */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "d1/d1_usage.h"

#define HOUR ((int64_t)3600 * 1000)

static void hours_are_summed_and_forgotten(void **state)
{
    sv_d1_hour h[SV_D1_USAGE_HOURS];
    sv_d1_usage *u = sv_d1_usage_new();
    int64_t now = 490000 * HOUR + 5;
    (void)state;
    sv_d1_usage_add(u, "a", &(sv_d1_run){.n_statements = 2, .rows_read = 10}, now - 24 * HOUR);
    sv_d1_usage_add(u, "a", &(sv_d1_run){.n_statements = 1, .rows_read = 3, .rows_written = 4, .wrote = true}, now - HOUR);
    sv_d1_usage_add(u, "a", &(sv_d1_run){.n_statements = 1, .rows_read = 1}, now);
    sv_d1_usage_add(u, "a", &(sv_d1_run){.n_statements = 5, .rows_read = 1}, now);
    sv_d1_usage_add(u, "b", &(sv_d1_run){.n_statements = 7}, now);
    assert_int_equal(sv_d1_usage_get(u, "a", now, h), 3);
    assert_int_equal(h[0].hour, 490000);
    assert_int_equal(h[0].read_queries, 6);
    assert_int_equal(h[0].rows_read, 2);
    assert_int_equal(h[1].write_queries, 1);
    assert_int_equal(h[1].rows_written, 4);
    assert_int_equal(h[2].read_queries, 2);
    assert_int_equal(sv_d1_usage_get(u, "a", now + HOUR, h), 2);
    assert_int_equal(sv_d1_usage_get(u, "a", now + 100 * HOUR, h), 0);
    sv_d1_usage_add(u, "a", &(sv_d1_run){.n_statements = 1}, now + 25 * HOUR); /* in the place of the newest */
    assert_int_equal(sv_d1_usage_get(u, "a", now + 25 * HOUR, h), 1);
    assert_int_equal(h[0].read_queries, 1);
    sv_d1_usage_forget(u, "a");
    assert_int_equal(sv_d1_usage_get(u, "a", now, h), 0);
    assert_int_equal(sv_d1_usage_get(u, "b", now, h), 1);
    sv_d1_usage_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hours_are_summed_and_forgotten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
