/* lines_test.c - bodies of vectors: taken whole, refused by line, or with `discard` taken without what is no vector */
#include "vectorize/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static sv_rc read_text(sv_vz_lines *l, const char *text, bool discard, sv_err *err)
{
    return sv_vz_lines_read(l, sv_str_of(text), NULL, 2, SV_LIMIT_VEC_WORKER_BATCH, discard, err);
}

static void refused(const char *text, sv_rc rc, int api_code, const char *with)
{
    sv_vz_lines l = {0};
    sv_err err = {0};
    assert_int_equal(read_text(&l, text, false, &err), rc);
    if (api_code && err.api_code != api_code)
        fail_msg("%s: code %d, not %d: %s", text, err.api_code, api_code, err.msg);
    if (!strstr(err.msg, with))
        fail_msg("%s: '%s', expected '%s'", text, err.msg, with);
    assert_null(l.items);
}

static void is(sv_str s, const char *text)
{
    if (!sv_str_is(s, text))
        fail_msg("'%.*s', expected '%s'", (int)s.n, s.p, text);
}

static void a_body_becomes_items(void **state)
{
    (void)state;
    sv_vz_lines l = {0};
    sv_err err = {0};
    assert_int_equal(read_text(&l,
                               "{\"id\":\"1\",\"values\":[0.1,-2e3],\"namespace\":\"n\",\"metadata\":{\"a\": [1, {\"b\":\"}\\\"\"}]}}\n"
                               "\r\n"
                               " { \"metadata\" : null , \"later\":{\"x\":[1]}, \"values\" : [ 3 , 4 ], \"namespace\":null, \"id\" : \"\\u00e9\\n\" } \r\n"
                               "{\"values\":[1,2],\"i\\u0064\":\"last\"}",
                               false, &err),
                     SV_OK);
    assert_int_equal(l.n, 3);
    is(l.items[0].id, "1");
    is(l.items[0].ns, "n");
    is(l.items[0].metadata, "{\"a\": [1, {\"b\":\"}\\\"\"}]}");
    assert_true(l.items[0].values[0] == 0.1f && l.items[0].values[1] == -2000);
    is(l.items[1].id, "\xc3\xa9\n");
    assert_int_equal(l.items[1].ns.n, 0);
    assert_int_equal(l.items[1].metadata.n, 0);
    assert_true(l.items[1].values[0] == 3 && l.items[1].values[1] == 4);
    is(l.items[2].id, "last");
    assert_string_equal(sv_buf_cstr(&l.messages), "[]");
    sv_vz_lines_done(&l);

    assert_int_equal(read_text(&l, "", false, &err), SV_OK); /* a Worker's insert([]) */
    assert_int_equal(l.n, 0);
    sv_vz_lines_done(&l);
}

static void a_refusal_names_line_and_reason(void **state)
{
    (void)state;
    static const char good[] = "{\"id\":\"a\",\"values\":[1,2]}\n";
    static const struct { const char *line; sv_rc rc; int code; const char *with; } cases[] = {
        {"{\"id\":\"b\",\"values\":[1,2}", SV_EFORMAT, 40001, "line 2: 'values': number 1 of the array is followed by"},
        {"{\"id\":\"b\",\"values\":[1,null]}", SV_EFORMAT, 40001, "entry 1 of the array is null"},
        {"{\"id\":\"b\",\"values\":[1,NaN]}", SV_EFORMAT, 40001, "'NaN'"},
        {"{\"id\":\"b\",\"values\":[1,1e39]}", SV_EFORMAT, 40001, "range of float32"},
        {"{\"id\":\"b\",\"values\":\"12\"}", SV_EFORMAT, 40001, "not an array"},
        {"{\"id\":\"b\"}", SV_EFORMAT, 40001, "no values"},
        {"{\"values\":[1,2]}", SV_EFORMAT, 40001, "no id"},
        {"{\"id\":\"\",\"values\":[1,2]}", SV_EFORMAT, 40001, "no id"},
        {"{\"id\":7,\"values\":[1,2]}", SV_EFORMAT, 40001, "'id': not a string"},
        {"{\"id\":\"b\\x\",\"values\":[1,2]}", SV_EFORMAT, 40001, "'id'"},
        {"{\"id\":\"b\xff\",\"values\":[1,2]}", SV_EFORMAT, 40001, "'id'"},
        {"{\"id\":\"b\",\"values\":[1,2],\"metadata\":[1]}", SV_EFORMAT, 40001, "'metadata': not a JSON object"},
        {"{\"id\":\"b\",\"values\":[1,2],\"metadata\":{\"a\":1}", SV_EFORMAT, 40001, "does not end"},
        {"{\"id\":\"b\",\"values\":[1,2],\"other\":tru}", SV_EFORMAT, 40001, "'other'"},
        {"{\"id\":\"b\",\"values\":[1,2]} {}", SV_EFORMAT, 40001, "follows"},
        {"{\"id\":\"b\" \"values\":[1,2]}", SV_EFORMAT, 40001, "missing"},
        {"{\"id\":\"b\",}", SV_EFORMAT, 40001, "not a string"},
        {"[1,2]", SV_EFORMAT, 40001, "not a JSON object"},
        {"{", SV_EFORMAT, 40001, "does not end"},
        {"{\"id", SV_EFORMAT, 40001, "does not end"},
        {"{\"id\":\"b\",\"values\":[1,2,3]}", SV_EINVAL, 40012, "invalid vector for id=\"b\", expected 2 dimensions, and got 3 dimensions"},
        {"{\"id\":\"b\",\"values\":[]}", SV_EINVAL, 40012, "got 0 dimensions"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s\n%s", good, cases[i].line, good);
        refused(text, cases[i].rc, cases[i].code, cases[i].with);
        refused(text, cases[i].rc, cases[i].code, "line 2");
        refused(text, cases[i].rc, cases[i].code, "No line of this call was taken");
    }
}

static char *line_with(const char *member, size_t n, const char *around)
{
    char *x = malloc(n + 1), *text;
    memset(x, 'x', n);
    x[n] = '\0';
    text = sv_xasprintf("{\"values\":[1,2],\"id\":\"%s\",\"%s\":%s%s%s}", strcmp(member, "id") == 0 ? x : "b", strcmp(member, "id") == 0 ? "more" : member,
                        around[0] == '{' ? "{\"k\":\"" : "\"", x, around[0] == '{' ? "\"}" : "\"");
    free(x);
    return text;
}

static void sizes_are_checked_in_bytes(void **state)
{
    (void)state;
    static const struct { const char *member; size_t most; const char *around; int code; } cases[] = {
        {"id", 64, "", 40008}, {"namespace", 64, "", 40009}, {"metadata", 10240 - 8, "{", 40010}};
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        sv_vz_lines l = {0};
        sv_err err = {0};
        char *text = line_with(cases[i].member, cases[i].most, cases[i].around);
        if (read_text(&l, text, false, &err) != SV_OK)
            fail_msg("%s: %s", cases[i].member, err.msg);
        sv_vz_lines_done(&l);
        free(text);
        text = line_with(cases[i].member, cases[i].most + 1, cases[i].around);
        refused(text, SV_EINVAL, cases[i].code, "at most");
        free(text);
    }
}

static void one_vector_too_many_is_refused_before_any_is_read(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    for (int i = 0; i < 1000; i++)
        sv_buf_addf(&b, "{\"id\":\"%d\",\"values\":[1,2]}\n\n", i);
    sv_vz_lines l = {0};
    sv_err err = {0};
    assert_int_equal(read_text(&l, sv_buf_cstr(&b), false, &err), SV_OK);
    assert_int_equal(l.n, 1000);
    sv_vz_lines_done(&l);
    sv_buf_adds(&b, "x");
    refused(sv_buf_cstr(&b), SV_EINVAL, 40011, "vectors of one call: 1001, at most 1000");
}

static void discard_leaves_out_what_is_no_vector_and_says_which_lines(void **state)
{
    (void)state;
    sv_vz_lines l = {0};
    sv_err err = {0};
    assert_int_equal(read_text(&l, "{\"id\":\"a\",\"values\":[1,2]}\n{\"id\":\"b\",\n\n{\"id\":\"c\",\"values\":[3,4]}\nnonsense", true, &err), SV_OK);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.n_dropped, 2);
    is(l.items[1].id, "c");
    assert_true(l.items[1].values[0] == 3);
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    assert_int_equal(sv_json_parse(&j, sv_buf_str(&l.messages), &err), SV_OK);
    assert_int_equal(json_array_size(j), 2);
    assert_non_null(strstr(sv_json_cstr(json_array_get(j, 0), "message"), "line 2 was not taken"));
    assert_non_null(strstr(sv_json_cstr(json_array_get(j, 1), "message"), "line 5 was not taken"));
    sv_vz_lines_done(&l);
    /* sizes are refused even then */
    assert_int_equal(read_text(&l, "{\"id\":\"a\",\"values\":[1]}", true, &err), SV_EINVAL);

    SV_AUTO(sv_buf_donep) sv_buf many;
    sv_buf_init(&many, 0);
    for (int i = 0; i < 300; i++)
        sv_buf_adds(&many, "?\n");
    assert_int_equal(read_text(&l, sv_buf_cstr(&many), true, &err), SV_OK);
    assert_int_equal(l.n_dropped, 300);
    json_decref(j);
    assert_int_equal(sv_json_parse(&j, sv_buf_str(&l.messages), &err), SV_OK);
    assert_int_equal(json_array_size(j), 101);
    assert_non_null(strstr(sv_json_cstr(json_array_get(j, 100), "message"), "200 more"));
    sv_vz_lines_done(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_becomes_items),
        cmocka_unit_test(a_refusal_names_line_and_reason),
        cmocka_unit_test(sizes_are_checked_in_bytes),
        cmocka_unit_test(one_vector_too_many_is_refused_before_any_is_read),
        cmocka_unit_test(discard_leaves_out_what_is_no_vector_and_says_which_lines),
    };
    return cmocka_run_group_tests_name("vectorize_lines", tests, NULL, NULL);
}
