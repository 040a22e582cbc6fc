#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"

static void an_arena_gives_zeroed_aligned_memory_and_forgets_at_once(void **state)
{
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 5000; n = n * 3 + 1) {
            char *p = sv_arena_alloc(a, n, 1);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xAA, n);
        }
        sv_arena_reset(a);
    }
    assert_string_equal(sv_arena_printf(a, "%s-%d", "x", 7), "x-7");
    assert_string_equal(sv_arena_strndup(a, "abcdef", 3), "abc");
}

static void an_arena_refuses_what_is_over_its_cap(void **state)
{
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(10000);
    assert_non_null(sv_arena_alloc(a, 8000, 1));
    assert_null(sv_arena_alloc(a, 8000, 1));
    assert_null(sv_arena_alloc(a, SIZE_MAX, 2));
    assert_null(sv_arena_alloc(a, SIZE_MAX, 1));
    assert_null(sv_arena_strndup(a, "", SIZE_MAX));
    assert_non_null(sv_arena_alloc(a, 100, 1));
    sv_arena_reset(a);
    assert_non_null(sv_arena_alloc(a, 8000, 1));
}

static void products_that_overflow_are_null(void **state)
{
    (void)state;
    void *p = sv_try_calloc(4, 4);
    assert_non_null(p);
    assert_null(sv_try_realloc(p, SIZE_MAX / 2, 4));
    free(p);
    p = sv_try_aligned(100, 64);
    assert_int_equal((uintptr_t)p % 64, 0);
    free(p);
    assert_null(sv_try_aligned(SIZE_MAX, 64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arena_gives_zeroed_aligned_memory_and_forgets_at_once),
        cmocka_unit_test(an_arena_refuses_what_is_over_its_cap),
        cmocka_unit_test(products_that_overflow_are_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
