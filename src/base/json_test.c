#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/json.h"

static json_t *parse(const char *text)
{
    json_t *j = NULL;
    sv_err err = {0};
    assert_int_equal(sv_json_parse(&j, sv_str_of(text), &err), SV_OK);
    return j;
}

static void members_have_types_and_ranges(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = parse("{\"i\":7,\"w\":2.0,\"d\":2.5,\"s\":\"x\",\"b\":true,\"n\":null,\"big\":1e300}");
    sv_err err = {0};
    int64_t i = 1;
    double d = 1;
    bool b = false;
    sv_str s = SV_STR("default");
    assert_int_equal(sv_json_int(j, "i", 0, 10, &i, &err), SV_OK);
    assert_int_equal(i, 7);
    assert_int_equal(sv_json_int(j, "w", 0, 10, &i, &err), SV_OK);
    assert_int_equal(i, 2);
    assert_int_equal(sv_json_int(j, "n", 0, 10, &i, &err), SV_OK);
    assert_int_equal(sv_json_int(j, "absent", 0, 10, &i, &err), SV_OK);
    assert_int_equal(i, 2);
    assert_int_equal(sv_json_int(j, "d", 0, 10, &i, &err), SV_EINVAL);
    assert_string_equal(err.msg, "'d': 2.5 is not an integer");
    assert_int_equal(sv_json_int(j, "big", 0, 10, &i, &err), SV_EINVAL);
    assert_int_equal(sv_json_int(j, "i", 0, 6, &i, &err), SV_EINVAL);
    assert_string_equal(err.msg, "'i': 7 is not in [0, 6]");
    assert_int_equal(sv_json_num(j, "d", 0, 10, &d, &err), SV_OK);
    assert_true(d == 2.5);
    assert_int_equal(sv_json_num(j, "s", 0, 10, &d, &err), SV_EINVAL);
    assert_int_equal(sv_json_bool(j, "b", &b, &err), SV_OK);
    assert_true(b);
    assert_int_equal(sv_json_bool(j, "i", &b, &err), SV_EINVAL);
    assert_int_equal(sv_json_str(j, "s", &s, &err), SV_OK);
    assert_true(sv_str_is(s, "x"));
    assert_int_equal(sv_json_str(j, "i", &s, &err), SV_EINVAL);
    assert_string_equal(err.msg, "'i': 7 is not a string");
}

static void broken_and_bottomless_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "[1,]", "nul", "{\"a\":}", "\"\\x\"", "1 2"};
    sv_err err = {0};
    json_t *j = NULL;
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_json_parse(&j, sv_str_of(bad[i]), &err), SV_EFORMAT);
    char deep[100000];
    memset(deep, '[', sizeof deep);
    assert_int_equal(sv_json_parse(&j, (sv_str){deep, sizeof deep}, &err), SV_EFORMAT);
    assert_string_equal(err.msg, "nested deeper than 512");
    assert_null(j);
}

static void many_lists_are_refused_before_they_take_memory(void **state)
{
    (void)state;
    enum { MOST = 1 << 20 };
    sv_err err = {0};
    json_t *j = NULL;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "[\"[[{\"");
    for (int i = 1; i < MOST; i++)
        sv_buf_adds(&b, ",[]");
    sv_buf_addc(&b, ']');
    assert_int_equal(sv_json_parse(&j, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(json_array_size(j), MOST);
    json_decref(j);
    j = NULL;
    b.n--;
    sv_buf_adds(&b, ",{}]");
    assert_int_equal(sv_json_parse(&j, sv_buf_str(&b), &err), SV_EFORMAT);
    assert_string_equal(err.msg, "more than 1048576 lists and objects");
    assert_int_equal(sv_json_parse_lax(&j, sv_buf_str(&b), &err), SV_EFORMAT);
    assert_null(j);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static const double numbers[] = {0, -1, 0.1, 1.0 / 3, 1e-7, 123456789.125, 1e21, 5e-324, 1.7976931348623157e308, 0.1 + 0.2};
    for (size_t i = 0; i < SV_LEN(numbers); i++) {
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        sv_json_add_num(&b, numbers[i]);
        assert_true(strtod(sv_buf_cstr(&b), NULL) == numbers[i]);
    }
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_json_add_num(&b, 0.1);
    sv_json_add_num(&b, (double)NAN);
    assert_string_equal(sv_buf_cstr(&b), "0.1null");

    sv_buf_reset(&b);
    const char *text = "{\"a\":[1,2.5,null,true,\"q\\\"\\\\\\n\\u0001\xc3\xa9\"],\"o\":{}}";
    SV_AUTO(sv_json_decrefp) json_t *j = parse(text);
    sv_json_add_value(&b, j);
    assert_string_equal(sv_buf_cstr(&b), text);
}

static void broken_utf8_becomes_the_replacement_character(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_json_add_str(&b, SV_STR("a\xff\xc3\xa9\xe2\x82"));
    assert_string_equal(sv_buf_cstr(&b), "\"a\xEF\xBF\xBD\xc3\xa9\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_have_types_and_ranges),
        cmocka_unit_test(broken_and_bottomless_text_is_refused),
        cmocka_unit_test(many_lists_are_refused_before_they_take_memory), cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(broken_utf8_becomes_the_replacement_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
