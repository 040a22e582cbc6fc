/* Tests of freshness.h: lifetimes against RFC 9111's own rules, what may not be stored, ranges, conditions, dates. */
#include "cache/freshness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const int64_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
static sv_cacheable c;
static sv_buf head;
static sv_err err;

static sv_rc parse(const char *message, bool authorized)
{
    sv_buf_done(&head);
    sv_buf_init(&head, 0);
    err = (sv_err){0};
    return sv_cacheable_parse(&c, &head, sv_str_of(message), authorized, now, &err);
}

static void with(const char *headers)
{
    char m[2000];
    snprintf(m, sizeof m, "HTTP/1.1 200 OK\r\n%s\r\nbody", headers);
    if (parse(m, false) != SV_OK)
        fail_msg("%s", err.msg);
}

static void a_message_is_split_into_status_headers_and_body(void **state)
{
    (void)state;
    static const char m[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-A: 1 \r\nTransfer-Encoding: chunked\r\nConnection: x-hop, close\r\nX-Hop: y\r\n"
                            "cache-control: max-age=60\r\nAge: 5\r\n\r\nbody";
    assert_int_equal(parse(m, false), SV_OK);
    assert_int_equal(c.status, 404);
    assert_string_equal(m + c.body_at, "body");
    assert_int_equal(c.length, 4);
    assert_true(c.storable);
    assert_int_equal(c.age_s, 5);
    assert_int_equal(c.fresh_s, 55);
    assert_string_equal(sv_buf_cstr(&head), "X-A: 1\r\ncache-control: max-age=60\r\nAge: 5\r\n");
    assert_true(sv_str_is(sv_head_find(sv_buf_str(&head), "x-a"), "1"));
    assert_null(sv_head_find(sv_buf_str(&head), "x").p);
}

static void lifetimes_follow_the_rfc(void **state)
{
    static const struct { const char *headers; int64_t fresh_s; } cases[] = {
        {"", 0},
        {"Cache-Control: max-age=60\r\n", 60},
        {"Cache-Control: public, MAX-AGE=\"60\"\r\n", 60},
        {"Cache-Control: max-age=60, s-maxage=10\r\n", 10},
        {"Cache-Control: s-maxage=10\r\nCache-Control: max-age=60\r\n", 10},
        {"Cache-Control: ext=\"a, max-age=9\", max-age=60\r\n", 60},
        {"Cache-Control: max-age=60\r\nAge: 100\r\n", -40},
        {"Cache-Control: max-age=99999999999999999999\r\n", (int64_t)1 << 31},
        {"Cache-Control: max-age=-5\r\n", 0},
        {"Cache-Control: max-age=x\r\n", 0},
        {"Cache-Control: max-age\r\n", 0},
        {"Cache-Control: max-age=60, no-cache\r\n", 0},
        {"Cache-Control: max-age=60, proxy-revalidate\r\n", 0},
        {"Cache-Control: stale-while-revalidate=100\r\n", 0},
        {"Cache-Control: immutable\r\n", 86400},
        {"Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\n", 60},
        {"Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\nDate: Sun, 06 Nov 1994 08:50:27 GMT\r\n", 10},
        {"Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\nCache-Control: max-age=5\r\n", 5},
        {"Expires: 0\r\n", 0},
        {"Expires: Sun, 06 Nov 1993 08:50:37 GMT\r\n", 0},
        {"Last-Modified: Sun, 06 Nov 1994 07:49:37 GMT\r\n", 360},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        with(cases[i].headers);
        if (c.fresh_s != cases[i].fresh_s)
            fail_msg("%s gives %lld", cases[i].headers, (long long)c.fresh_s);
        assert_true(c.storable);
    }
}

static void what_is_not_for_everybody_is_not_stored(void **state)
{
    static const char *const never[] = {"Cache-Control: no-store, max-age=60\r\n", "Cache-Control: private, max-age=60\r\n", "Set-Cookie: a=b\r\n",
                                        "Cache-Control: public, max-age=60\r\nset-cookie: a=b\r\n", "Vary: *\r\n", "Cache-Control: private=\"x\"\r\n"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(never); i++) {
        with(never[i]);
        assert_false(c.storable);
    }
    with("Cache-Control: private=Set-Cookie, max-age=60\r\nSet-Cookie: a=b\r\nX: y\r\n");
    assert_true(c.storable);
    assert_null(sv_head_find(sv_buf_str(&head), "set-cookie").p);
    assert_int_equal(parse("HTTP/1.1 500 No\r\nCache-Control: max-age=60\r\n\r\n", false), SV_OK);
    assert_false(c.storable);
    assert_int_equal(parse("HTTP/1.1 302 Found\r\n\r\n", false), SV_OK);
    assert_false(c.storable);
    assert_int_equal(parse("HTTP/1.1 302 Found\r\nCache-Control: max-age=60\r\n\r\n", false), SV_OK);
    assert_true(c.storable);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n", true), SV_OK);
    assert_false(c.storable);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\n\r\n", true), SV_OK);
    assert_true(c.storable);
}

static void broken_messages_are_refused(void **state)
{
    static const char *const bad[] = {"", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1 100 C\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
                                      "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 700 OK\r\n\r\n"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        assert_int_equal(parse(bad[i], false), SV_EFORMAT);
        assert_true(err.msg[0]);
    }
}

static void ranges_are_cut_to_what_is_there(void **state)
{
    static const struct { const char *range; sv_cache_how how; int64_t first, last; } cases[] = {
        {"bytes=0-0", SV_CACHE_PART, 0, 0}, {"bytes=2-5", SV_CACHE_PART, 2, 5}, {"bytes=8-", SV_CACHE_PART, 8, 9}, {"bytes=-3", SV_CACHE_PART, 7, 9},
        {" Bytes = 1 - 2 ", SV_CACHE_PART, 1, 2}, {"bytes=5-99999999999999999999", SV_CACHE_PART, 5, 9}, {"bytes=-10", SV_CACHE_WHOLE, 0, 0},
        {"bytes=-99", SV_CACHE_WHOLE, 0, 0}, {"bytes=", SV_CACHE_WHOLE, 0, 0}, {"bytes=0-1,3-4", SV_CACHE_WHOLE, 0, 0},
        {"bytes=10-", SV_CACHE_UNSATISFIABLE, 0, 0}, {"bytes=5-2", SV_CACHE_UNSATISFIABLE, 0, 0}, {"bytes=-0", SV_CACHE_UNSATISFIABLE, 0, 0},
        {"bytes=-", SV_CACHE_UNSATISFIABLE, 0, 0}, {"bytes=x-y", SV_CACHE_UNSATISFIABLE, 0, 0}, {"lines=1-2", SV_CACHE_UNSATISFIABLE, 0, 0},
        {"bytes=99999999999999999999-", SV_CACHE_UNSATISFIABLE, 0, 0}, {"bytes=12-5", SV_CACHE_UNSATISFIABLE, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        int64_t first = 0, last = 0;
        sv_cache_ask ask = {.range = sv_str_of(cases[i].range)};
        sv_cache_how how = sv_cache_decide(&ask, SV_STR(""), 10, &first, &last);
        if (how != cases[i].how || (how == SV_CACHE_PART && (first != cases[i].first || last != cases[i].last)))
            fail_msg("%s: %d %lld-%lld", cases[i].range, how, (long long)first, (long long)last);
    }
}

static void conditions_compare_tags_and_dates(void **state)
{
    (void)state;
    int64_t a, b;
    sv_str h = SV_STR("ETag: W/\"one\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    static const char *const same[] = {"\"one\"", "W/\"one\"", "\"x\", \"one\"", "*", "\"a,b\",W/\"one\""}, *const others[] = {"\"two\"", "one", "", "\"one", "\"one\"x"};
    for (size_t i = 0; i < SV_LEN(same); i++)
        assert_int_equal(sv_cache_decide(&(sv_cache_ask){.if_none_match = sv_str_of(same[i])}, h, 10, &a, &b), SV_CACHE_NOT_MODIFIED);
    for (size_t i = 0; i < SV_LEN(others); i++)
        assert_int_equal(sv_cache_decide(&(sv_cache_ask){.if_none_match = sv_str_of(others[i])}, h, 10, &a, &b), SV_CACHE_WHOLE);
    assert_int_equal(sv_cache_decide(&(sv_cache_ask){.if_modified_since = SV_STR("Sun, 06 Nov 1994 08:49:37 GMT")}, h, 10, &a, &b), SV_CACHE_NOT_MODIFIED);
    assert_int_equal(sv_cache_decide(&(sv_cache_ask){.if_modified_since = SV_STR("Sun, 06 Nov 1994 08:49:36 GMT")}, h, 10, &a, &b), SV_CACHE_WHOLE);
    assert_int_equal(sv_cache_decide(&(sv_cache_ask){.if_none_match = SV_STR("\"one\"")}, SV_STR(""), 10, &a, &b), SV_CACHE_WHOLE);
}

static void dates_come_in_three_forms(void **state)
{
    static const char *const good[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"};
    static const char *const bad[] = {"", "0", "-1", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37 GMT+1", "Sun, 99 Nov 1994 08:49:37 GMT"};
    int64_t at;
    (void)state;
    for (size_t i = 0; i < SV_LEN(good); i++) {
        assert_true(sv_parse_http_date(sv_str_of(good[i]), &at));
        assert_int_equal(at, now);
    }
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_false(sv_parse_http_date(sv_str_of(bad[i]), &at));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_split_into_status_headers_and_body), cmocka_unit_test(lifetimes_follow_the_rfc),
        cmocka_unit_test(what_is_not_for_everybody_is_not_stored),         cmocka_unit_test(broken_messages_are_refused),
        cmocka_unit_test(ranges_are_cut_to_what_is_there),                 cmocka_unit_test(conditions_compare_tags_and_dates),
        cmocka_unit_test(dates_come_in_three_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
