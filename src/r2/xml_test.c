/* Tests of xml.h: a body of S3, escapes both ways, and documents that are none or too much. */
#include "r2/xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "r2/r2_errors.h"

static void a_body_becomes_a_tree_and_text_comes_back_escaped(void **state)
{
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_xml *x = NULL;
    sv_err err = {0};
    assert_int_equal(sv_xml_parse(&x, a, SV_STR("<?xml version=\"1.0\"?>\n<s:Delete xmlns:s=\"http://s3\"><Quiet> true\n</Quiet><Object><Key> a&amp;b&#10;\xc3\xbc</Key></Object>"
                                                "<Object><Key/></Object></s:Delete>"), &err), SV_OK);
    assert_string_equal(x->name, "Delete");
    assert_true(sv_str_is(sv_xml_text(x, "Quiet"), "true") && sv_xml_text(x, "None").p == NULL);
    sv_xml *object = sv_xml_child(x, "Object");
    assert_true(sv_str_is(sv_xml_child(object, "Key")->text, " a&b\n\xc3\xbc"));
    assert_true(sv_xml_text(object->next, "Key").n == 0 && sv_xml_text(object->next, "Key").p && !object->next->next);
    SV_AUTO(sv_buf_donep) sv_buf b = {0};
    sv_buf_init(&b, 0);
    sv_xml_element(&b, "K", SV_STR("a<b>&\"\n\xc3\xbc"));
    assert_string_equal(b.p, "<K>a&lt;b&gt;&amp;&quot;&#10;\xc3\xbc</K>");
}

static void what_is_no_document_or_too_much_is_refused(void **state)
{
    static const char *const bad[] = {"", "x", "<a>", "<a></b>", "<a/><b/>", "<a>\xff</a>", "<a>&none;</a>", "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>", "<a b='1' b='2'/>"};
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_buf deep = {0}, wide = {0};
    sv_xml *x = NULL;
    sv_err err = {0};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        assert_int_equal(sv_xml_parse(&x, a, sv_str_of(bad[i]), &err), SV_EFORMAT);
        assert_int_equal(err.api_code, SV_S3_MALFORMED_XML);
    }
    sv_buf_init(&deep, 0);
    sv_buf_init(&wide, 0);
    for (int i = 0; i < 17; i++)
        sv_buf_adds(&deep, "<a>");
    for (int i = 0; i < 17; i++)
        sv_buf_adds(&deep, "</a>");
    sv_buf_adds(&wide, "<a>");
    for (int i = 0; i < 70000; i++)
        sv_buf_adds(&wide, "<b/>");
    sv_buf_adds(&wide, "</a>");
    assert_int_equal(sv_xml_parse(&x, a, sv_buf_str(&deep), &err), SV_EFORMAT);
    assert_int_equal(sv_xml_parse(&x, a, sv_buf_str(&wide), &err), SV_EFORMAT);
    sv_buf_done(&deep);
    sv_buf_done(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_becomes_a_tree_and_text_comes_back_escaped),
        cmocka_unit_test(what_is_no_document_or_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
