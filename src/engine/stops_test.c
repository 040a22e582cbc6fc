/* stops_test.c - stop strings over pieces: against one search over the whole text */
#include "engine/stops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void feed(sv_stops *s, const char *piece, sv_buf *out, bool want)
{
    assert_int_equal(sv_stops_feed(s, sv_str_of(piece), out), want);
}

static void what_may_become_a_stop_is_held_and_comes_out_when_it_does_not(void **state)
{
    (void)state;
    const sv_str stop[] = {SV_STR("END"), SV_STR("\n\n")};
    sv_stops s;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    sv_stops_init(&s, stop, 2);
    feed(&s, "one E", &out, false);
    assert_string_equal(sv_buf_cstr(&out), "one ");
    feed(&s, "N", &out, false);
    assert_string_equal(sv_buf_cstr(&out), "one ");
    feed(&s, "T\n", &out, false);
    assert_string_equal(sv_buf_cstr(&out), "one ENT");
    feed(&s, "EEN", &out, false);
    assert_string_equal(sv_buf_cstr(&out), "one ENT\nE");
    feed(&s, "D rest", &out, true);
    assert_string_equal(sv_buf_cstr(&out), "one ENT\nE");
    sv_stops_finish(&s, &out);
    assert_string_equal(sv_buf_cstr(&out), "one ENT\nE");
    sv_stops_done(&s);
}

static void the_end_of_the_text_releases_what_was_held(void **state)
{
    (void)state;
    const sv_str stop[] = {SV_STR("</s>")};
    sv_stops s;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    sv_stops_init(&s, stop, 1);
    feed(&s, "a </s", &out, false);
    sv_stops_finish(&s, &out);
    assert_string_equal(sv_buf_cstr(&out), "a </s");
    sv_stops_done(&s);
}

static void a_stop_inside_the_beginning_of_a_longer_one_ends_the_text_at_once(void **state)
{
    (void)state;
    const sv_str stop[] = {SV_STR("abcX"), SV_STR("bc")};
    sv_stops s;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    sv_stops_init(&s, stop, 2);
    feed(&s, "ab", &out, false);
    feed(&s, "c", &out, true);
    assert_string_equal(sv_buf_cstr(&out), "a");
    sv_stops_done(&s);
}

/* Random texts of few letters, cut at random: the output is the text before the first stop that is complete. */
static void any_cut_gives_what_the_whole_text_gives(void **state)
{
    (void)state;
    static const char *const words[] = {"aab", "bb", "abab", "ba"};
    uint32_t random = 7;
    for (int round = 0; round < 3000; round++) {
        char text[40], want[40];
        sv_str stop[4];
        int n_stops = 1 + round % 4;
        size_t n = sizeof text - 1;
        for (size_t i = 0; i < n; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = "aaabbd"[(random >> 16) % 6];
        }
        text[n] = 0;
        for (int i = 0; i < n_stops; i++)
            stop[i] = sv_str_of(words[(i + round) % 4]);
        /* Letter by letter, the first end of any stop; of several ends there the earliest begin. */
        size_t end = 0, begin = n;
        for (end = 1; end <= n && begin == n; end++)
            for (int i = 0; i < n_stops; i++)
                if (stop[i].n <= end && memcmp(text + end - stop[i].n, stop[i].p, stop[i].n) == 0 && end - stop[i].n < begin)
                    begin = end - stop[i].n;
        memcpy(want, text, begin);
        want[begin] = 0;

        sv_stops s;
        SV_AUTO(sv_buf_donep) sv_buf out;
        sv_buf_init(&out, 0);
        sv_stops_init(&s, stop, n_stops);
        bool stopped = false;
        for (size_t i = 0, k; i < n && !stopped; i += k) {
            random = random * 1664525 + 1013904223;
            k = round % 3 == 0 ? 1 : round % 3 == 1 ? n : 1 + (random >> 16) % 9; /* letters, the whole text, pieces */
            k = k < n - i ? k : n - i;
            stopped = sv_stops_feed(&s, (sv_str){text + i, k}, &out);
            assert_true(stopped || out.n + s.held.n == i + k); /* nothing is lost, */
            assert_true(s.held.n < 4);                         /* and no more is held than a stop less one */
        }
        if (!stopped)
            sv_stops_finish(&s, &out);
        assert_string_equal(sv_buf_cstr(&out), want);
        assert_int_equal(stopped, begin < n);
        sv_stops_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_become_a_stop_is_held_and_comes_out_when_it_does_not),
        cmocka_unit_test(the_end_of_the_text_releases_what_was_held),
        cmocka_unit_test(a_stop_inside_the_beginning_of_a_longer_one_ends_the_text_at_once),
        cmocka_unit_test(any_cut_gives_what_the_whole_text_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
