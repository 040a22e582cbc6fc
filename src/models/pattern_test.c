/* pattern_test.c - what the patterns of real vocabularies find, and that nothing makes them slow
 *
 * What Python's regex module or a backtracking reading of the pattern gives is written out by hand; the corpora of
 * tokenizer_test.c compare whole vocabularies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/time.h"
#include "models/pattern.h"

static sv_pattern *compile(const char *source)
{
    sv_err err = {0};
    sv_pattern *p = NULL;
    if (sv_pattern_compile(&p, sv_str_of(source), &err) != SV_OK)
        fail_msg("%s: %s", source, err.msg);
    return p;
}

/* All matches, "|" between them, gaps left out. */
static void assert_matches(const char *source, const char *text, const char *want)
{
    SV_AUTO(sv_pattern_freep) sv_pattern *p = compile(source);
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_pattern_memo memo = {0};
    size_t from, to = 0, n = strlen(text);
    sv_buf_init(&out, 0);
    while (sv_pattern_find(p, (sv_str){text, n}, to, n, &memo, &from, &to)) {
        if (out.n > 0)
            sv_buf_addc(&out, '|');
        sv_buf_add(&out, text + from, to - from);
    }
    free(memo.v);
    if (strcmp(sv_buf_cstr(&out), want) != 0)
        fail_msg("%s on '%s': '%s', not '%s'", source, text, sv_buf_cstr(&out), want);
}

static void the_first_alternative_that_fits_wins(void **state)
{
    (void)state;
    assert_matches("a|ab", "ab", "a");
    assert_matches("ab|a", "ab aa", "ab|a|a");
    assert_matches("(a|ab)(c|bcd)", "abcd", "abcd");
    assert_matches("x*", "axxb", "xx"); /* empty matches are none */
    assert_matches("(?:ab|c)+d?", "abccd ab", "abccd|ab");
    assert_matches("a+?b*?", "aab", "a|a");
    assert_matches("a{2,3}", "aaaaaaa a", "aaa|aaa");
    assert_matches("a{2}", "aaaaa", "aa|aa");
    assert_matches("(ab){0,2}c", "ababcabababc c", "ababc|ababc|c");
    assert_matches("a{2,}?b", "aaab", "aaab");
    assert_matches("a{1,3}?", "aa", "a|a");
}

static void classes_have_ranges_properties_negation_and_nesting(void **state)
{
    (void)state;
    assert_matches("[a-c-]+", "ab-d", "ab-");
    assert_matches("[^a-c\\s]+", "abxy z", "xy|z");
    assert_matches("\\p{Lu}\\p{Ll}+", "Ab \xc3\x84" "bc aB", "Ab|\xc3\x84" "bc");
    assert_matches("[^(\\s|[.,!?])]+", "ab(c|d.e f", "ab|c|d|e|f");
    assert_matches("[^\\P{L}a]+", "abc1", "bc");
    assert_matches("[\\x41\\x{42}\\u0043]+", "ABCD", "ABC");
    assert_matches("\\S+", "ab\xe3\x80\x80" "c", "ab|c"); /* the ideographic space */
    assert_matches(".+", "a\nb", "a|b");
    assert_matches("[]a]+", "]ab", "]a");
    assert_matches("\\pL+\\PL", "ab1", "ab1");
    assert_matches("[^x]", "\xff", "\xff"); /* a broken byte is some character */
    assert_matches("\\p{So}+", "\xff\xfe", "\xff\xfe");
}

static void case_is_ignored_where_the_group_says_so(void **state)
{
    (void)state;
    assert_matches("(?i:'s|'re)|a", "'S're'RE'x aA", "'S|'re|'RE|a");
    assert_matches("(?i:s)", "s\xc5\xbfS", "s|\xc5\xbf|S"); /* U+017F folds to s */
    assert_matches("(?i)[a-c]+", "aBCd", "aBC");
}

static void lookahead_sees_one_character(void **state)
{
    (void)state;
    assert_matches("\\s+(?!\\S)|\\s+", "a   b  ", "  | |  ");
    assert_matches("a(?=b)|b", "aab", "a|b");
    assert_matches("\\s+$", "a  b  ", "  ");
    assert_matches("((?=[\\p{L}])([^a-z]))*((?=[\\p{L}])([^A-Z]))+", "HelloWorld1a", "Hello|World|a");
}

static void patterns_that_are_not_understood_are_refused(void **state)
{
    static const struct { const char *source, *says; } bad[] = {
        {"a(b", "without its )"}, {"a)", "closes nothing"}, {"[ab", "without its ]"}, {"*a", "quantifier"}, {"a**", "behind a quantifier"},
        {"\\b", "escape"}, {"\\1", "back reference"}, {"(?<=a)b", "group"}, {"\\p{Han}", "general category"}, {"[z-a]", "range"},
        {"a{3,2}", "repetition"}, {"a{1000}", "repetition"}, {"[a&&b]", "intersections"}, {"[[:alpha:]]", "POSIX"}, {"^a", "^"},
        {"(?!ab)c", "lookahead"}, {"\\", "backslash"}, {"((((((((((((((((a", "nest"}, {"[[[[[a]]]]]", "nest"}, {"\\x{110000}", "hexadecimal"},
        {"(((a{1,200}){1,200}){1,200})", "too long"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        sv_pattern *p = NULL;
        sv_err err = {0};
        if (sv_pattern_compile(&p, sv_str_of(bad[i].source), &err) != SV_EFORMAT || !strstr(err.msg, bad[i].says))
            fail_msg("'%s': '%s' does not say '%s'", bad[i].source, err.msg, bad[i].says);
        assert_null(p);
    }
}

static void a_megabyte_takes_linear_time_whatever_it_is(void **state)
{
    enum { N = 1 << 20, LIMIT_MS = 10000 }; /* some 20 ms each where measured; quadratic would be hours */
    static const struct { const char *source, *unit; } hard[] = {
        {"\\s+$", " "}, {"a*b|a", "a"}, {"(a|aa)*b|a", "a"}, {"\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", " \n  "}, {"(a*)*b", "a"}, {"a*a*a*c", "a"},
        {"\\p{L}+1|\\p{L}", "x"}, {"(aa)*b|(aaa)*c|a", "a"},
    };
    (void)state;
    SV_AUTO(sv_freep) char *big = sv_try_calloc(N, 1);
    assert_non_null(big);
    for (size_t i = 0; i < SV_LEN(hard); i++) {
        SV_AUTO(sv_pattern_freep) sv_pattern *p = compile(hard[i].source);
        for (size_t k = 0, n = strlen(hard[i].unit); k < N; k++)
            big[k] = hard[i].unit[k % n];
        big[N - 1] = '.';
        sv_pattern_memo memo = {0};
        size_t from, to = 0;
        int64_t t0 = sv_mono_ms();
        while (sv_pattern_find(p, (sv_str){big, N}, to, N, &memo, &from, &to) && sv_mono_ms() - t0 < LIMIT_MS)
            ;
        free(memo.v);
        if (sv_mono_ms() - t0 >= LIMIT_MS)
            fail_msg("%s on a megabyte of '%s' took over %d ms", hard[i].source, hard[i].unit, LIMIT_MS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_alternative_that_fits_wins),
        cmocka_unit_test(classes_have_ranges_properties_negation_and_nesting),
        cmocka_unit_test(case_is_ignored_where_the_group_says_so),
        cmocka_unit_test(lookahead_sees_one_character),
        cmocka_unit_test(patterns_that_are_not_understood_are_refused),
        cmocka_unit_test(a_megabyte_takes_linear_time_whatever_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
