/* Tests of ratelimit.h */
#include "account/ratelimit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define A SV_STR("account")
#define NS SV_STR("rl:1")

static const int64_t now = 1790000000000; /* begins a window of 10 s */

static void a_key_passes_until_its_limit_and_again_in_the_next_window(void **state)
{
    (void)state;
    sv_ratelimit *r = sv_ratelimit_new(1000);
    for (int i = 0; i < 3; i++)
        assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("k"), 3, 1, 10, now + i));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("k"), 3, 1, 10, now + 9999));
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("other"), 3, 1, 10, now + 9999));
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("k"), 3, 1, 10, now + 10000));
    assert_int_equal(sv_ratelimit_keys(r, A), 1); /* the old window's keys are gone */
    sv_ratelimit_free(r);
}

static void accounts_namespaces_periods_and_keys_count_apart(void **state)
{
    (void)state;
    sv_ratelimit *r = sv_ratelimit_new(1000);
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("bc"), 1, 1, 10, now));
    assert_true(sv_ratelimit_pass(r, SV_STR("b"), NS, SV_STR("bc"), 1, 1, 10, now));
    assert_true(sv_ratelimit_pass(r, A, SV_STR("rl:1b"), SV_STR("c"), 1, 1, 10, now));
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("bc"), 1, 1, 60, now));
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR(""), 1, 1, 10, now));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("bc"), 1, 1, 10, now));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR(""), 1, 1, 10, now));
    sv_ratelimit_free(r);
}

static void weights_are_added_after_the_look(void **state)
{
    (void)state;
    sv_ratelimit *r = sv_ratelimit_new(1000);
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("k"), 5, 4, 60, now));
    assert_true(sv_ratelimit_pass(r, A, NS, SV_STR("k"), 5, INT64_MAX, 60, now));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("k"), INT64_MAX, 1, 60, now));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("z"), 0, 1, 60, now));
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("z"), -1, 1, 60, now));
    sv_ratelimit_free(r);
}

static void too_many_keys_of_one_account_do_not_take_room_or_hurt_another(void **state)
{
    (void)state;
    sv_ratelimit *r = sv_ratelimit_new(1000);
    char key[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_true(sv_ratelimit_pass(r, A, NS, sv_str_of(key), 1, 1, 10, now));
    }
    assert_in_range(sv_ratelimit_keys(r, A), 750, 2048);
    assert_false(sv_ratelimit_pass(r, A, NS, SV_STR("5"), 1, 1, 10, now)); /* those that are counted stay so */
    assert_true(sv_ratelimit_pass(r, SV_STR("b"), NS, SV_STR("5"), 1, 1, 10, now));
    assert_false(sv_ratelimit_pass(r, SV_STR("b"), NS, SV_STR("5"), 1, 1, 10, now));
    sv_ratelimit_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_passes_until_its_limit_and_again_in_the_next_window),
        cmocka_unit_test(accounts_namespaces_periods_and_keys_count_apart),
        cmocka_unit_test(weights_are_added_after_the_look),
        cmocka_unit_test(too_many_keys_of_one_account_do_not_take_room_or_hurt_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
