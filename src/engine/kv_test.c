/* kv_test.c - pages within a budget, prefixes kept by tenant; checked against a model of plain lists */
#include "engine/kv.h"

#include <stdio.h>
#include <string.h>

#include "nn/kernels.h" /* SV_KV_PAGE */

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Under the address sanitizer too, a block that is too large is NULL and not the end. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

enum { P = SV_KV_PAGE, BYTES = 128 };

static void open_seq(sv_kv *kv, sv_kv_seq *seq, const char *tenant, int32_t max_pages)
{
    sv_err err = {0};
    assert_int_equal(sv_kv_open(kv, seq, tenant, max_pages, &err), SV_OK);
}

/* n pages of text that begins as others of the same `from` do and goes its own way at page `turn`. */
static void some_tokens(int32_t *out, int32_t n_pages, int32_t from, int32_t turn, int32_t to)
{
    for (int32_t i = 0; i < n_pages * P; i++)
        out[i] = i < turn * P ? from * 1000 + i : to * 1000000 + i;
}

/* Reads tokens: takes what is kept and adds the rest, each page marked. Returns how many pages were kept. */
static int32_t read_all(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens, int32_t n_pages)
{
    sv_err err = {0};
    sv_kv_attach(kv, seq, tokens, n_pages * P);
    int32_t found = seq->n_pages;
    for (int32_t i = found; i < n_pages; i++) {
        assert_int_equal(sv_kv_grow(kv, seq, &err), SV_OK);
        memcpy(seq->page[i], tokens + (size_t)i * P, BYTES);
        sv_kv_keep(kv, seq, tokens + (size_t)i * P);
    }
    for (int32_t i = 0; i < n_pages; i++) /* what stands in a page is what its tokens say */
        assert_memory_equal(seq->page[i], tokens + (size_t)i * P, BYTES);
    return found;
}

static int32_t visit(sv_kv *kv, const char *tenant, const int32_t *tokens, int32_t n_pages)
{
    sv_kv_seq seq;
    open_seq(kv, &seq, tenant, n_pages);
    int32_t found = read_all(kv, &seq, tokens, n_pages);
    sv_kv_close(kv, &seq);
    return found;
}

static void a_prompt_is_found_again_as_far_as_it_is_the_same(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 20);
    int32_t a[4 * P], b[4 * P], n_idle;
    some_tokens(a, 4, 1, 4, 0);
    some_tokens(b, 4, 1, 2, 9);
    assert_int_equal(visit(kv, "t", a, 4), 0);
    assert_int_equal(visit(kv, "t", a, 4), 4);
    assert_int_equal(visit(kv, "t", b, 4), 2);
    assert_int_equal(sv_kv_get_stats(kv).n_cached, 6);
    assert_int_equal(sv_kv_match(kv, "t", a, 4 * P - 1, &n_idle), 3); /* whole pages only */
    assert_int_equal(n_idle, 3);
    assert_int_equal(sv_kv_match(kv, "t", a + 1, 3 * P, &n_idle), 0);
    assert_int_equal(sv_kv_match(kv, "t", a + P, 3 * P, &n_idle), 0); /* a page is its tokens and all before */
}

static void tenants_do_not_see_each_other(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 20);
    int32_t a[3 * P], n_idle;
    some_tokens(a, 3, 1, 3, 0);
    assert_int_equal(visit(kv, "one", a, 3), 0);
    assert_int_equal(visit(kv, "two", a, 3), 0);
    assert_int_equal(visit(kv, "", a, 3), 0);
    assert_int_equal(sv_kv_match(kv, "on", a, 3 * P, &n_idle), 0);
    assert_int_equal(sv_kv_get_stats(kv).n_cached, 9);
}

static void readers_share_one_page_and_it_stays_while_one_reads(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 4);
    int32_t a[2 * P], c[4 * P];
    sv_kv_seq one, two, other;
    sv_err err = {0};
    some_tokens(a, 2, 1, 2, 0);
    some_tokens(c, 4, 7, 4, 0);
    open_seq(kv, &one, "t", 2);
    open_seq(kv, &two, "t", 2);
    read_all(kv, &one, a, 2);
    assert_int_equal(read_all(kv, &two, a, 2), 2);
    assert_ptr_equal(one.page[1], two.page[1]);
    assert_int_equal(sv_kv_get_stats(kv).n_used, 2);
    sv_kv_close(kv, &one);
    open_seq(kv, &other, "t", 4);
    assert_int_equal(sv_kv_grow(kv, &other, &err), SV_OK);
    assert_int_equal(sv_kv_grow(kv, &other, &err), SV_OK);
    assert_int_equal(sv_kv_grow(kv, &other, &err), SV_ELIMIT); /* the two that `two` reads are nobody else's */
    assert_non_null(strstr(err.msg, "all 4 pages"));
    assert_memory_equal(two.page[0], a, BYTES);
    sv_kv_close(kv, &two);
    assert_int_equal(sv_kv_grow(kv, &other, &err), SV_OK);
    assert_int_equal(sv_kv_get_stats(kv).n_cached, 1);
    sv_kv_close(kv, &other);
}

/* Two that read the same at the same time each compute it; from the first full page on they share. */
static void the_same_page_is_kept_once(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 4);
    int32_t a[P];
    sv_kv_seq one, two;
    sv_err err = {0};
    some_tokens(a, 1, 1, 1, 0);
    open_seq(kv, &one, "t", 2);
    open_seq(kv, &two, "t", 2);
    assert_int_equal(sv_kv_grow(kv, &one, &err), SV_OK);
    assert_int_equal(sv_kv_grow(kv, &two, &err), SV_OK);
    assert_true(one.page[0] != two.page[0]);
    sv_kv_keep(kv, &one, a);
    sv_kv_keep(kv, &two, a);
    assert_ptr_equal(one.page[0], two.page[0]);
    assert_int_equal(sv_kv_get_stats(kv).n_used, 1);
    assert_int_equal(sv_kv_grow(kv, &two, &err), SV_OK);
    assert_int_equal(sv_kv_get_stats(kv).n_used, 2);
    sv_kv_close(kv, &two);
    sv_kv_close(kv, &one);
    assert_int_equal(sv_kv_get_stats(kv).n_used, 0);
}

static void the_least_recently_read_goes_first_and_ends_before_beginnings(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 6);
    int32_t a[2 * P], b[2 * P], c[2 * P], n_idle;
    some_tokens(a, 2, 1, 2, 0);
    some_tokens(b, 2, 2, 2, 0);
    some_tokens(c, 2, 3, 2, 0);
    visit(kv, "t", a, 2);
    visit(kv, "t", b, 2);
    visit(kv, "t", c, 2);
    visit(kv, "t", a, 2); /* now b is the oldest */
    sv_kv_seq seq;
    sv_err err = {0};
    open_seq(kv, &seq, "u", 6);
    assert_int_equal(sv_kv_grow(kv, &seq, &err), SV_OK);
    assert_int_equal(sv_kv_match(kv, "t", b, 2 * P, &n_idle), 1);
    assert_int_equal(sv_kv_grow(kv, &seq, &err), SV_OK);
    assert_int_equal(sv_kv_match(kv, "t", b, 2 * P, &n_idle), 0);
    assert_int_equal(sv_kv_grow(kv, &seq, &err), SV_OK);
    assert_int_equal(sv_kv_match(kv, "t", c, 2 * P, &n_idle), 1);
    assert_int_equal(sv_kv_match(kv, "t", a, 2 * P, &n_idle), 2);
    sv_kv_close(kv, &seq);
    sv_kv_trim(kv, 1); /* c's first, then a's second */
    assert_int_equal(sv_kv_match(kv, "t", c, 2 * P, &n_idle), 0);
    assert_int_equal(sv_kv_match(kv, "t", a, 2 * P, &n_idle), 1);
}

static void a_text_that_leaves_in_the_middle_of_a_page_gets_a_copy_of_its_beginning(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 6);
    int32_t a[3 * P], b[3 * P], c[3 * P];
    sv_kv_seq seq;
    some_tokens(a, 3, 1, 3, 0);
    memcpy(b, a, sizeof a);
    memcpy(c, a, sizeof a);
    for (int32_t i = P + 7; i < 3 * P; i++) /* from the 8th place of the second page on */
        b[i] = 5000 + i;
    for (int32_t i = P + 20; i < 3 * P; i++)
        c[i] = 9000 + i;
    visit(kv, "t", a, 3);
    visit(kv, "t", b, 3);
    open_seq(kv, &seq, "t", 3);
    sv_kv_attach(kv, &seq, c, 3 * P);
    assert_int_equal(seq.n_pages, 1);
    assert_int_equal(sv_kv_copy(kv, &seq, c + P, 2 * P), 20); /* a's, not the newer b's 7 */
    assert_true(seq.n_pages == 2 && seq.n_kept == 1);
    assert_memory_equal(seq.page[1], a + P, BYTES);
    sv_kv_close(kv, &seq);
    open_seq(kv, &seq, "t", 3);
    sv_kv_attach(kv, &seq, c, 3 * P);
    assert_int_equal(sv_kv_copy(kv, &seq, c + P, 5), 5); /* no more than is asked */
    sv_kv_close(kv, &seq);
    open_seq(kv, &seq, "other", 3);
    assert_int_equal(sv_kv_copy(kv, &seq, c, 3 * P), 0); /* another tenant's are nobody's business */
    assert_int_equal(seq.n_pages, 0);
    sv_kv_close(kv, &seq);
}

static void a_copy_is_made_even_of_the_page_that_would_go_next(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 2);
    int32_t a[P], c[P];
    sv_kv_seq seq, full;
    sv_err err = {0};
    some_tokens(a, 1, 1, 1, 0);
    memcpy(c, a, sizeof a);
    c[9] = 77;
    visit(kv, "t", a, 1);
    open_seq(kv, &full, "t", 1);
    assert_int_equal(sv_kv_grow(kv, &full, &err), SV_OK); /* now only a's page could make room */
    open_seq(kv, &seq, "t", 1);
    assert_int_equal(sv_kv_copy(kv, &seq, c, P), 0); /* and that is read while it is copied: no room */
    assert_int_equal(seq.n_pages, 0);
    sv_kv_close(kv, &full);
    assert_int_equal(sv_kv_copy(kv, &seq, c, P), 9);
    assert_memory_equal(seq.page[0], a, BYTES);
    sv_kv_close(kv, &seq);
}

static void pages_of_its_own_give_way_to_the_same_ones_of_another(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, BYTES * 6);
    int32_t a[3 * P];
    sv_kv_seq late;
    sv_err err = {0};
    some_tokens(a, 3, 1, 3, 0);
    open_seq(kv, &late, "t", 3);
    assert_int_equal(sv_kv_grow(kv, &late, &err), SV_OK); /* it has begun to read */
    visit(kv, "t", a, 3);
    sv_kv_attach(kv, &late, a, 3 * P);
    assert_true(late.n_pages == 3 && late.n_kept == 3);
    assert_memory_equal(late.page[0], a, BYTES);
    assert_int_equal(sv_kv_get_stats(kv).n_used, 3);
    sv_kv_close(kv, &late);
    assert_int_equal(sv_kv_get_stats(kv).n_cached, 3);
}

static void a_budget_below_a_page_is_one_page(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(4096, 0);
    assert_int_equal(sv_kv_get_stats(kv).n_pages, 1);
}

static void no_memory_for_a_page_is_told_and_costs_nothing(void **state)
{
    (void)state;
    SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new((size_t)1 << 62, SIZE_MAX);
    sv_kv_seq seq;
    sv_err err = {0};
    open_seq(kv, &seq, "t", 2);
    assert_int_equal(sv_kv_grow(kv, &seq, &err), SV_ENOMEM);
    assert_int_equal(seq.n_pages, 0);
    sv_kv_close(kv, &seq);
}

/* Random visitors of three tenants over texts that share beginnings: what a page holds is always what its tokens say (read_all checks), pages are
 * never more than the budget, and everything comes back. Ten budgets, from one where all must leave to one where all fits. */
static void a_crowd_reads_only_what_its_tokens_say(void **state)
{
    (void)state;
    enum { SEQS = 5, MOST = 6 };
    static const char *const tenants[] = {"a", "b", "c"};
    uint32_t random = 3;
    int64_t n_found = 0;
    for (int budget = SEQS * MOST; budget <= 20 * SEQS * MOST; budget += 60) {
        SV_AUTO(sv_kv_freep) sv_kv *kv = sv_kv_new(BYTES, (size_t)BYTES * (size_t)budget);
        sv_kv_seq seqs[SEQS] = {0};
        for (int i = 0; i < 3000; i++) {
            random = random * 1664525 + 1013904223;
            int at = (int)(random >> 16) % SEQS, n = 1 + (int)(random >> 20) % MOST, turn = (int)(random >> 8) % (n + 1);
            int32_t tokens[MOST * P];
            if (seqs[at].page) {
                sv_kv_close(kv, &seqs[at]);
                continue;
            }
            some_tokens(tokens, n, 1 + (int)(random >> 24) % 4, turn, 1 + (int)(random >> 27));
            open_seq(kv, &seqs[at], tenants[random % 3], n);
            n_found += read_all(kv, &seqs[at], tokens, n);
            sv_kv_stats s = sv_kv_get_stats(kv);
            assert_true(s.n_used <= SEQS * MOST && s.n_used + s.n_cached <= budget);
        }
        for (int i = 0; i < SEQS; i++)
            sv_kv_close(kv, &seqs[i]);
        assert_int_equal(sv_kv_get_stats(kv).n_used, 0);
    }
    assert_true(n_found > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_found_again_as_far_as_it_is_the_same),
        cmocka_unit_test(tenants_do_not_see_each_other),
        cmocka_unit_test(readers_share_one_page_and_it_stays_while_one_reads),
        cmocka_unit_test(the_same_page_is_kept_once),
        cmocka_unit_test(the_least_recently_read_goes_first_and_ends_before_beginnings),
        cmocka_unit_test(a_text_that_leaves_in_the_middle_of_a_page_gets_a_copy_of_its_beginning),
        cmocka_unit_test(a_copy_is_made_even_of_the_page_that_would_go_next),
        cmocka_unit_test(pages_of_its_own_give_way_to_the_same_ones_of_another),
        cmocka_unit_test(a_budget_below_a_page_is_one_page),
        cmocka_unit_test(no_memory_for_a_page_is_told_and_costs_nothing),
        cmocka_unit_test(a_crowd_reads_only_what_its_tokens_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
