/* kv_test.c - pages are promised within the budget, taken one by one, and used again */
#include "engine/kv.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Under the address sanitizer too, a block that is too large is NULL and not the end. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void pages_are_reserved_within_the_budget_and_taken_from_the_reservation(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(1000, 3500);
    void *pages[3];
    assert_int_equal(sv_kv_n_pages(kv), 3);
    assert_true(sv_kv_reserve(kv, 2));
    assert_false(sv_kv_reserve(kv, 2));
    assert_int_equal(sv_kv_n_reserved(kv), 2); /* a refusal changes nothing */
    assert_true(sv_kv_reserve(kv, 1));
    for (int i = 0; i < 3; i++) {
        assert_non_null(pages[i] = sv_kv_take(kv));
        assert_int_equal((uintptr_t)pages[i] % 64, 0);
        memset(pages[i], i, 1000);
    }
    assert_true(pages[0] != pages[1] && pages[1] != pages[2] && pages[0] != pages[2]);
    assert_false(sv_kv_reserve(kv, 1));
    sv_kv_release(kv, pages, 3, 3);
    assert_int_equal(sv_kv_n_reserved(kv), 0);
}

static void released_pages_are_used_again_before_new_ones(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(64, 64 * 4);
    void *page, *again;
    assert_true(sv_kv_reserve(kv, 1));
    page = sv_kv_take(kv);
    sv_kv_release(kv, &page, 1, 1);
    assert_true(sv_kv_reserve(kv, 1));
    again = sv_kv_take(kv);
    assert_ptr_equal(page, again);
    sv_kv_release(kv, &again, 1, 1);
    sv_kv_trim(kv); /* and after a trim there is memory all the same */
    assert_true(sv_kv_reserve(kv, 4));
    page = sv_kv_take(kv);
    assert_non_null(page);
    sv_kv_release(kv, &page, 1, 4); /* fewer taken than reserved */
    assert_int_equal(sv_kv_n_reserved(kv), 0);
}

static void a_budget_below_a_page_is_one_page(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(4096, 0);
    assert_int_equal(sv_kv_n_pages(kv), 1);
}

static void no_memory_for_a_page_is_told_and_costs_nothing(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new((size_t)1 << 62, SIZE_MAX);
    assert_true(sv_kv_reserve(kv, 1));
    assert_null(sv_kv_take(kv));
    sv_kv_release(kv, NULL, 0, 1);
}

/* Many owners, random sizes: no page has two owners, and everything comes back. */
static void owners_never_share_a_page(void **state)
{
    (void)state;
    enum { OWNERS = 8, MOST = 6 };
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(64, 64 * 20);
    void *pages[OWNERS][MOST];
    int taken[OWNERS] = {0}, reserved[OWNERS] = {0};
    uint32_t random = 1;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        int o = (int)(random >> 16) % OWNERS;
        if (reserved[o] == 0) {
            int n = 1 + (int)(random >> 8) % MOST;
            if (sv_kv_reserve(kv, n))
                reserved[o] = n;
        } else if (taken[o] < reserved[o] && random % 3) {
            int32_t *page = pages[o][taken[o]++] = sv_kv_take(kv);
            assert_non_null(page);
            *page = o;
        } else {
            for (int p = 0; p < taken[o]; p++)
                assert_int_equal(*(int32_t *)pages[o][p], o);
            sv_kv_release(kv, pages[o], taken[o], reserved[o]);
            taken[o] = reserved[o] = 0;
        }
        int sum = 0;
        for (int j = 0; j < OWNERS; j++)
            sum += reserved[j];
        assert_int_equal(sv_kv_n_reserved(kv), sum);
        assert_true(sum <= 20);
    }
    for (int o = 0; o < OWNERS; o++)
        sv_kv_release(kv, pages[o], taken[o], reserved[o]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_reserved_within_the_budget_and_taken_from_the_reservation),
        cmocka_unit_test(released_pages_are_used_again_before_new_ones),
        cmocka_unit_test(a_budget_below_a_page_is_one_page),
        cmocka_unit_test(no_memory_for_a_page_is_told_and_costs_nothing),
        cmocka_unit_test(owners_never_share_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
