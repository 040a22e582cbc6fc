/* Filters against a second opinion (filter_testing.h), and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "vec/filter_impl.h"
#include "vec/filter_testing.h"

static bool holds(const char *filter, const char *metadata)
{
    sv_vec_filter *f = NULL;
    sv_err err = {0};
    if (sv_vec_filter_parse(&f, sv_str_of(filter), &err) != SV_OK)
        fail_msg("%s: %s", filter, err.msg);
    bool yes = sv_vec_filter_matches(f, sv_str_of(metadata));
    sv_vec_filter_free(f);
    return yes;
}

static void operators_do_what_they_say(void **state)
{
    (void)state;
    const char *m = "{\"genre\": \"drama\", \"year\": 1994, \"seen\": true, \"a\": {\"b\": {\"c\": \"deep\"}}, \"none\": null, \"tags\": [\"x\"]}";
    assert_true(holds("{\"genre\":\"drama\"}", m));
    assert_false(holds("{\"genre\":\"comedy\"}", m));
    assert_true(holds("{\"genre\":{\"$ne\":\"comedy\"},\"year\":{\"$gte\":1990,\"$lt\":2000}}", m));
    assert_false(holds("{\"year\":{\"$gt\":1994}}", m));
    assert_true(holds("{\"year\":{\"$lte\":1994.0}}", m));
    assert_true(holds("{\"seen\":true}", m));
    assert_false(holds("{\"seen\":1}", m));
    assert_true(holds("{\"a.b.c\":{\"$in\":[\"x\",\"deep\"]}}", m));
    assert_true(holds("{\"a.b.d\":null,\"none\":null,\"absent\":{\"$eq\":null}}", m));
    assert_false(holds("{\"genre\":null}", m));
    assert_true(holds("{\"genre\":{\"$ne\":null}}", m));
    assert_true(holds("{\"genre\":{\"$gte\":\"dr\",\"$lt\":\"ds\"}}", m)); /* a prefix */
    assert_false(holds("{\"tags\":\"x\"}", m));
    assert_true(holds("{\"tags\":{\"$nin\":[\"x\"]}}", m));
    assert_false(holds("{\"year\":{\"$in\":[]}}", m));
    assert_false(holds("{\"year\":{\"$lt\":\"2000\"}}", m)); /* another type */
    assert_false(holds("{\"x\":1}", ""));
    assert_true(holds("{\"x\":null}", ""));
    assert_true(holds("{\"a.b\":2}", "{\"a\":{\"b\":1},\"a\":{\"b\":2}}")); /* the last one counts */
    assert_true(holds("{\"t\":\"\xc3\xa9\\\"\"}", "{\"t\":\"\\u00e9\\u0022\"}"));
    assert_true(holds("{\"t\":\"\xf0\x9f\x8e\xac\"}", "{\"\\u0074\":\"\\ud83c\\udfac\"}"));
}

static void ten_thousand_random_cases_agree_with_a_second_opinion(void **state)
{
    (void)state;
    int n_true = 0;
    for (int i = 0; i < 10000; i++) {
        SV_AUTO(sv_json_decrefp) json_t *m = random_object(2);
        SV_AUTO(sv_json_decrefp) json_t *fj = random_filter();
        /* escapes and white space in every combination */
        SV_AUTO(sv_freep) char *text = json_dumps(m, (roll(2) ? JSON_ENSURE_ASCII : 0) | (roll(2) ? JSON_INDENT(2) : JSON_COMPACT) | JSON_REAL_PRECISION(17));
        SV_AUTO(sv_freep) char *ftext = json_dumps(fj, JSON_COMPACT | JSON_REAL_PRECISION(17));
        sv_vec_filter *f = NULL;
        sv_err err = {0};
        if (sv_vec_filter_parse(&f, sv_str_of(ftext), &err) != SV_OK)
            fail_msg("%s: %s", ftext, err.msg);
        bool want = judge(m, fj);
        if (sv_vec_filter_matches(f, sv_str_of(text)) != want)
            fail_msg("%s of %s is not %d", ftext, text, want);
        n_true += want;
        sv_vec_filter_free(f);
    }
    assert_in_range(n_true, 1000, 9000);
}

static void nonsense_is_refused_with_a_sentence(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "1", "[]", "{}", "{\"a\":1", "{\"\":1}", "{\"$a\":1}", "{\"a|b\":1}", "{\"a\\\"b\":1}", "{\".a\":1}", "{\"a.\":1}", "{\"a..b\":1}",
        "{\"a\":{}}", "{\"a\":{\"$lik\":1}}", "{\"a\":{\"b\":1}}", "{\"a\":[1]}", "{\"a\":{\"$in\":1}}", "{\"a\":{\"$in\":[[1]]}}",
        "{\"a\":{\"$eq\":{}}}", "{\"a\":{\"$lt\":true}}", "{\"a\":{\"$lt\":null}}", "{\"a\":{\"$lt\":1,\"$lte\":2}}",
        "{\"a\":{\"$gt\":1,\"$gte\":2}}", "{\"a\":{\"$eq\":1,\"$ne\":2}}", "{\"a\":{\"$gt\":1,\"$lt\":\"x\"}}", "{\"a\":{\"$gt\":1,\"$in\":[2]}}",
        "{\"a\":{\"$and\":[{\"b\":1}]}}"};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        sv_vec_filter *f = NULL;
        sv_err err = {0};
        sv_rc rc = sv_vec_filter_parse(&f, sv_str_of(bad[i]), &err);
        if (rc == SV_OK || strncmp(err.msg, "filter", 6) != 0 || f)
            fail_msg("%s: %d '%s'", bad[i], rc, err.msg);
    }
}

static void limits_are_counted_in_compact_json(void **state)
{
    (void)state;
    sv_vec_filter *f = NULL;
    sv_err err = {0};
    sv_buf b;
    sv_buf_init(&b, 0);
    for (int extra = 0; extra < 2; extra++) { /* {"k":"..."}: 2047 bytes pass, 2048 do not; white space is not counted */
        sv_buf_reset(&b);
        sv_buf_adds(&b, "{ \"k\" :   \"");
        for (int i = 0; i < 2047 - 8 + extra; i++)
            sv_buf_addc(&b, 'x');
        sv_buf_adds(&b, "\" }   ");
        assert_int_equal(sv_vec_filter_parse(&f, sv_buf_str(&b), &err), extra ? SV_ELIMIT : SV_OK);
        f = sv_vec_filter_free(f);
    }
    for (int open = '['; ; open = '{') { /* nested for ever */
        sv_buf_reset(&b);
        sv_buf_adds(&b, "{\"a\":");
        for (int i = 0; i < 5000; i++)
            sv_buf_adds(&b, open == '[' ? "[" : "{\"a\":");
        assert_int_not_equal(sv_vec_filter_parse(&f, sv_buf_str(&b), &err), SV_OK);
        if (open == '{')
            break;
    }
    sv_buf_reset(&b);
    sv_buf_adds(&b, "{\"");
    for (int i = 0; i < 513; i++)
        sv_buf_addc(&b, 'k');
    sv_buf_adds(&b, "\":1}");
    assert_int_equal(sv_vec_filter_parse(&f, sv_buf_str(&b), &err), SV_ELIMIT);
    sv_buf_done(&b);
}

static void broken_text_gives_some_answer(void **state)
{
    (void)state;
    const char *m = "{\"a\":{\"b\":\"x\\u00e9\\ud83c\\udfac\",\"c\":[1,{\"d\":2}]},\"e\":-1.5e3,\"f\":true}";
    for (size_t n = 0; n < strlen(m); n++) {
        SV_AUTO(sv_freep) char *part = malloc(n + 1); /* so that a sanitizer sees the end */
        memcpy(part, m, n);
        sv_vec_value v;
        static const char *const paths[] = {"a", "a.b", "a.c", "e", "f", "a.b.c"};
        for (size_t i = 0; i < SV_LEN(paths); i++) {
            sv_vec_value_find(&v, (sv_str){part, n}, sv_str_of(paths[i]));
            assert_true(v.kind <= SV_VEC_VALUE_BOOLEAN);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_do_what_they_say),
        cmocka_unit_test(ten_thousand_random_cases_agree_with_a_second_opinion),
        cmocka_unit_test(nonsense_is_refused_with_a_sentence),
        cmocka_unit_test(limits_are_counted_in_compact_json),
        cmocka_unit_test(broken_text_gives_some_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
