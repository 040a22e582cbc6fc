#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"

static void a_buffer_grows_and_keeps_a_nul(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_string_equal(sv_buf_cstr(&b), "");
    for (int i = 0; i < 1000; i++)
        assert_true(sv_buf_addf(&b, "%d,", i));
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(b.p[b.n], 0);
    assert_true(sv_str_starts(sv_buf_str(&b), "0,1,2,"));
}

static void a_buffer_refuses_what_is_over_its_cap_and_everything_after(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 8);
    assert_true(sv_buf_adds(&b, "12345678"));
    assert_false(sv_buf_addc(&b, '9'));
    assert_true(b.failed);
    sv_buf_reset(&b);
    assert_true(sv_buf_adds(&b, "1234"));
    assert_false(sv_buf_addf(&b, "%05d", 7));
    assert_false(sv_buf_addc(&b, 'x'));
    assert_string_equal(sv_buf_cstr(&b), "1234");
    assert_null(sv_buf_room(&b, SIZE_MAX));
}

static void long_formats_do_not_need_the_stack(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = 0;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_true(sv_buf_addf(&b, "<%s>", text));
    assert_int_equal(b.n, 3001);
    assert_true(b.p[3000] == '>');
}

static void integers_are_whole_or_refused(void **state)
{
    (void)state;
    static const struct { const char *text; bool ok; int64_t v; } cases[] = {
        {"0", true, 0}, {"-1", true, -1}, {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0}, {"", false, 0}, {"-", false, 0}, {" 1", false, 0},
        {"1x", false, 0}, {"+1", false, 0}, {"1.0", false, 0},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        int64_t v = 77;
        assert_int_equal(sv_str_to_i64(sv_str_of(cases[i].text), &v), cases[i].ok);
        assert_int_equal(v, cases[i].ok ? cases[i].v : 77);
    }
}

/* RFC 4648, section 10 */
static void base64_agrees_with_the_rfc(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    sv_err err = {0};
    for (size_t i = 0; i < SV_LEN(pairs); i++) {
        SV_AUTO(sv_buf_donep) sv_buf enc, dec;
        sv_buf_init(&enc, 0);
        sv_buf_init(&dec, 0);
        sv_base64_encode(&enc, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(sv_buf_cstr(&enc), pairs[i][1]);
        assert_int_equal(sv_base64_decode(&dec, sv_buf_str(&enc), &err), SV_OK);
        assert_string_equal(sv_buf_cstr(&dec), pairs[i][0]);
    }
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_base64_decode(&b, SV_STR("-_ \n8"), &err), SV_OK); /* the other alphabet, white space, no padding */
    assert_memory_equal(b.p, "\xfb\xff", 2);
    assert_int_equal(sv_base64_decode(&b, SV_STR("Zm9*"), &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "byte 3"));
    assert_int_equal(sv_base64_decode(&b, SV_STR("Zm9vY"), &err), SV_EFORMAT);
}

static void percent_escapes_are_decoded_or_refused(void **state)
{
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_err err = {0};
    sv_str s;
    assert_int_equal(sv_percent_decode(&s, a, SV_STR("a%2Fb+%c3%A9"), &err), SV_OK);
    assert_true(sv_str_is(s, "a/b+\xc3\xa9"));
    assert_int_equal(sv_form_decode(&s, a, SV_STR("a+b"), &err), SV_OK);
    assert_true(sv_str_is(s, "a b"));
    static const char *const bad[] = {"%", "%2", "a%2", "%zz", "%00", "%-1"};
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_percent_decode(&s, a, sv_str_of(bad[i]), &err), SV_EFORMAT);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_percent_encode(&b, SV_STR("a/b c~\xc3"));
    assert_string_equal(sv_buf_cstr(&b), "a%2Fb%20c~%C3");
}

static void utf8_knows_broken_from_cut(void **state)
{
    (void)state;
    static const char *const good[] = {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "\xe2\x82"};
    for (size_t i = 0; i < SV_LEN(good); i++)
        assert_true(sv_utf8_valid(sv_str_of(good[i])));
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_false(sv_utf8_valid(sv_str_of(bad[i])));
    assert_int_equal(sv_utf8_len(SV_STR("a\xe2\x82\xac\xf0\x9f\x98\x80")), 3);
    assert_int_equal(sv_utf8_whole(SV_STR("ab\xe2\x82")), 2);
    assert_int_equal(sv_utf8_whole(SV_STR("ab\xe2\x82\xac")), 5);
    assert_int_equal(sv_utf8_whole(SV_STR("\xf0\x9f\x98")), 0);
    assert_int_equal(sv_utf8_whole(SV_STR("ab\xff")), 3);         /* broken is not cut: it never gets whole */
    assert_int_equal(sv_utf8_whole(SV_STR("ab\x80\x80\x80")), 5);
}

static void an_error_is_cut_between_characters(void **state)
{
    (void)state;
    sv_err err = {0};
    char text[600];
    for (size_t i = 0; i + 3 < sizeof text; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 4);
    assert_int_equal(sv_fail(&err, SV_EFORMAT, "x%s", text), SV_EFORMAT);
    assert_true(sv_utf8_valid(sv_str_of(err.msg)));
    assert_true(strlen(err.msg) > sizeof err.msg - 5);
    assert_int_equal(sv_fail(&err, SV_ELIMIT, "5 dims, at most 4"), SV_ELIMIT);
    assert_int_equal(sv_wrap(&err, "tensor '%s'", "q"), SV_ELIMIT);
    assert_string_equal(err.msg, "tensor 'q': 5 dims, at most 4");
}

static void what_the_kernel_did_is_ours_until_somebody_says_otherwise(void **state)
{
    (void)state;
    sv_err err = {0};
    errno = ENOSPC;
    assert_int_equal(sv_fail_errno(&err, "write '%s'", "x"), SV_ELIMIT);
    assert_int_equal(sv_wrap(&err, "store"), SV_ELIMIT);
    assert_true(sv_err_is_ours(&err));
    assert_int_equal(sv_fail(&err, SV_ENOENT, "no such key"), SV_ENOENT);
    assert_false(sv_err_is_ours(&err));
    assert_int_equal(sv_fail(&err, SV_EIO, "the engine has gone"), SV_EIO);
    assert_true(sv_err_is_ours(&err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_grows_and_keeps_a_nul),
        cmocka_unit_test(a_buffer_refuses_what_is_over_its_cap_and_everything_after),
        cmocka_unit_test(long_formats_do_not_need_the_stack),
        cmocka_unit_test(integers_are_whole_or_refused),
        cmocka_unit_test(base64_agrees_with_the_rfc),
        cmocka_unit_test(percent_escapes_are_decoded_or_refused),
        cmocka_unit_test(utf8_knows_broken_from_cut),
        cmocka_unit_test(an_error_is_cut_between_characters),
        cmocka_unit_test(what_the_kernel_did_is_ours_until_somebody_says_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
