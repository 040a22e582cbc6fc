/* The memory for models: two tables that take from one budget */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/room.h"

typedef struct shelf { sv_room *room; int64_t idle[4]; int n; } shelf; /* a table of models of 10 bytes each: when they were used */

static int64_t oldest(void *arg)
{
    const shelf *s = arg;
    int64_t least = INT64_MAX;
    for (int i = 0; i < s->n; i++)
        least = s->idle[i] < least ? s->idle[i] : least;
    return least;
}

static void drop(void *arg)
{
    shelf *s = arg;
    for (int i = 0; i < s->n; i++)
        if (s->idle[i] == oldest(s)) {
            s->idle[i] = s->idle[--s->n];
            sv_room_give(s->room, 10);
            return;
        }
}

static void the_oldest_idle_model_of_any_table_goes_first(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_room *r = sv_room_new(45);
    shelf a = {r, {5, 1}, 2}, b = {r, {3, 9}, 2};
    sv_room_join(r, &(sv_room_user){oldest, drop, &a});
    sv_room_join(r, &(sv_room_user){oldest, drop, &b});
    for (int i = 0; i < 4; i++)
        assert_int_equal(sv_room_take(r, 10, &err), SV_OK);
    assert_int_equal(sv_room_take(r, 5, &err), SV_OK);
    assert_int_equal(a.n + b.n, 4);
    assert_int_equal(sv_room_take(r, 8, &err), SV_OK); /* 1 goes */
    assert_true(a.n == 1 && a.idle[0] == 5 && b.n == 2);
    assert_int_equal(sv_room_take(r, 18, &err), SV_OK); /* 3 and 5 */
    assert_true(a.n == 0 && b.n == 1 && b.idle[0] == 9);
    sv_room_leave(r, &a);
    sv_room_leave(r, &b);
    sv_room_free(r);
}

static void what_is_in_use_stays_and_what_never_fits_is_refused(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_room *r = sv_room_new(45);
    shelf a = {r, {1}, 1};
    sv_room_join(r, &(sv_room_user){oldest, drop, &a});
    assert_int_equal(sv_room_take(r, 10, &err), SV_OK);
    assert_int_equal(sv_room_take(r, 35, &err), SV_OK); /* of a model in use */
    assert_int_equal(sv_room_take(r, 11, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 3040);
    assert_int_equal(a.n, 0); /* it went in vain */
    err = (sv_err){0};
    assert_int_equal(sv_room_take(r, 46, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 0);
    assert_non_null(strstr(err.msg, "does not fit into memory"));
    sv_room_leave(r, &a);
    sv_room_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_idle_model_of_any_table_goes_first),
        cmocka_unit_test(what_is_in_use_stays_and_what_never_fits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
