/* multipart_test.c - forms as undici, curl and Python write them, and what must be refused */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/time.h"
#include "http/multipart.h"

static sv_arena *arena;
static sv_err err;

static int set_up(void **state)
{
    (void)state;
    arena = sv_arena_create(0);
    err = (sv_err){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena = sv_arena_free(arena);
    return 0;
}

static sv_parts parsed(const char *type, const char *body)
{
    sv_parts p = {0};
    if (sv_multipart_parse(&p, arena, sv_str_of(type), sv_str_of(body), &err) != SV_OK)
        fail_msg("%s", err.msg);
    return p;
}

static void refused(const char *type, const char *body, const char *why)
{
    sv_parts p = {0};
    sv_rc rc = sv_multipart_parse(&p, arena, sv_str_of(type), sv_str_of(body), &err);
    if (rc != SV_EFORMAT || !strstr(err.msg, why))
        fail_msg("%s: '%s' instead of '%s'", sv_rc_name(rc), rc ? err.msg : "", why);
    assert_null(p.v);
}

#define assert_str(s, text) \
    do { \
        if (!sv_str_is((s), (text))) \
            fail_msg("'%.*s' is not '%s'", (int)(s).n, (s).p ? (s).p : "(NULL)", (text)); \
    } while (0)

static void a_worker_upload_as_undici_sends_it(void **state)
{
    (void)state;
    sv_parts p = parsed("multipart/form-data; boundary=----formdata-undici-012345678901",
                        "------formdata-undici-012345678901\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"main_module\":\"index.js\"}\r\n"
                        "------formdata-undici-012345678901\r\nContent-Disposition: form-data; name=\"index.js\"; filename=\"index.js\"\r\n"
                        "Content-Type: application/javascript+module\r\n\r\nexport default {}\r\n\r\n"
                        "------formdata-undici-012345678901--\r\n");
    assert_int_equal(p.n, 2);
    assert_str(p.v[0].data, "{\"main_module\":\"index.js\"}");
    assert_null(p.v[0].filename.p);
    assert_null(p.v[0].content_type.p);
    const sv_part *js = sv_parts_find(&p, "index.js");
    assert_ptr_equal(js, &p.v[1]);
    assert_str(js->filename, "index.js");
    assert_str(js->content_type, "application/javascript+module");
    assert_str(js->data, "export default {}\r\n");
    assert_null(sv_parts_find(&p, "index"));
}

static void data_may_hold_anything_but_the_delimiter(void **state)
{
    (void)state;
    sv_parts p = {0};
    static const char whole[] = "--B\r\ncontent-disposition: form-data; name=a\r\n\r\n\0\xff\r\n--\r\n--C\r\n--Bx\r\n--B-\r\n-B--B--\r\n--B \t\r\n"
                                "Content-Disposition:form-data;name=\"b\"\r\n\r\n\r\n--B--and an epilogue";
    if (sv_multipart_parse(&p, arena, SV_STR("multipart/form-data; charset=utf-8; Boundary=\"B\""), (sv_str){whole, sizeof whole - 1}, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(p.n, 2);
    assert_int_equal(p.v[0].data.n, 32);
    assert_memory_equal(p.v[0].data.p, "\0\xff\r\n--\r\n--C\r\n--Bx\r\n--B-\r\n-B--B--", 32);
    assert_non_null(p.v[1].data.p);
    assert_int_equal(p.v[1].data.n, 0);
}

static void an_empty_part_and_an_empty_form(void **state)
{
    (void)state;
    sv_parts p = parsed("multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n\r\n--B--\r\n");
    assert_int_equal(p.n, 1);
    assert_non_null(p.v[0].name.p);
    assert_int_equal(p.v[0].name.n, 0);
    assert_int_equal(p.v[0].data.n, 0);
    /* Nothing between head and delimiter: the blank line's end is the delimiter's. */
    p = parsed("multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"e\"\r\n\r\n--B--");
    assert_int_equal(p.v[0].data.n, 0);
    p = parsed("multipart/form-data; boundary=B", "--B--\r\n");
    assert_int_equal(p.n, 0);
    p = parsed("multipart/form-data; boundary=B", "a preamble\r\n--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--B--");
    assert_int_equal(p.n, 1);
}

static void a_boundary_may_come_from_the_body(void **state)
{
    (void)state;
    const char *body = "--xyz=\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xyz=--\r\n";
    assert_int_equal(parsed("multipart/form-data", body).n, 1);
    assert_int_equal(parsed("", body).n, 1);
    assert_int_equal(parsed("multipart/form-data", "--xyz--\r\n").n, 0);
}

static void names_come_in_three_spellings(void **state)
{
    (void)state;
    sv_parts p = parsed("multipart/form-data; boundary=B",
                        "--B\r\nContent-Disposition: form-data; name=\"a%22b%0D%0a%25\"; filename=\"C:\\dir\\f.txt\"\r\n\r\n\r\n"   /* HTML */
                        "--B\r\nContent-Disposition: form-data; name=\"a\\\"b;\\\\c\"; filename=\"x=y; z\"\r\n\r\n\r\n"                /* curl */
                        "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"old\"; filename*=UTF-8''na%C3%AFve%20x\r\n\r\n\r\n"
                        "--B\r\nContent-Disposition: form-data; name=\"na\xc3\xafve\"\r\n\r\n\r\n--B--");
    assert_str(p.v[0].name, "a\"b\r\n%25");
    assert_str(p.v[0].filename, "C:\\dir\\f.txt");
    assert_str(p.v[1].name, "a\"b;\\c");
    assert_str(p.v[1].filename, "x=y; z");
    assert_str(p.v[2].filename, "na\xc3\xafve x");
    assert_str(p.v[3].name, "na\xc3\xafve");
}

static void broken_forms_are_refused_with_the_part(void **state)
{
    (void)state;
    const char *t = "multipart/form-data; boundary=B";
    refused("application/json", "--B--", "not multipart");
    refused("multipart/form-data; boundary=\"B", "--B--", "make no sense");
    refused("multipart/form-data; boundary=", "--B--", "0 characters");
    refused("multipart/form-data", "{}", "does not begin with one");
    refused("multipart/form-data", "", "does not begin with one");
    refused(t, "", "nowhere");
    refused(t, "--C\r\n", "nowhere");
    refused(t, "--B", "nowhere");
    refused(t, "--B\r\n", "part 1: its headers do not end");
    refused(t, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n", "part 1: its headers do not end");
    refused(t, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nda", "part 1 is not closed");
    refused(t, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nda\r\n--B\r\n\r\n\r\n--B--", "part 2 has no name");
    refused(t, "--B\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n\r\n--B--", "not form-data");
    refused(t, "--B\r\nContent-Disposition: form-data; name\r\n\r\n\r\n--B--", "make no sense");
    refused(t, "--B\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--B--", "make no sense");
    refused(t, "--B\r\nno colon\r\n\r\n\r\n--B--", "without a colon");
    refused(t, "--B\r\nContent-Disposition: form-data; name=a; filename*=UTF-8''%zz\r\n\r\n\r\n--B--", "filename*");
    refused(t, "--B\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--B--", "transfer encodings");
    char boundary[256] = "multipart/form-data; boundary=";
    memset(boundary + 30, 'b', 201);
    refused(boundary, "--b--", "201 characters");
}

/* Cut anywhere, a form is refused and never read past its end (the sanitizers look). */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    const char *body = "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\ndata\r\n--B--";
    size_t n = strlen(body);
    for (size_t i = 0; i < n; i++) {
        char *cut = malloc(i ? i : 1);
        sv_parts p;
        memcpy(cut, body, i);
        assert_int_equal(sv_multipart_parse(&p, arena, SV_STR("multipart/form-data; boundary=B"), (sv_str){cut, i}, &err), SV_EFORMAT);
        free(cut);
    }
    assert_int_equal(parsed("multipart/form-data; boundary=B", body).n, 1);
}

static void large_bodies_are_linear_and_parts_are_counted(void **state)
{
    (void)state;
    sv_buf b;
    sv_parts p;
    sv_buf_init(&b, 0);
    for (int i = 0; i < 10000; i++)
        sv_buf_addf(&b, "--B\r\nContent-Disposition: form-data; name=\"%d\"\r\n\r\n%d\r\n", i, i);
    size_t n = b.n;
    sv_buf_adds(&b, "--B--");
    assert_int_equal(sv_multipart_parse(&p, arena, SV_STR("multipart/form-data; boundary=B"), sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(p.n, 10000);
    assert_str(sv_parts_find(&p, "9999")->data, "9999");
    b.n = n;
    sv_buf_adds(&b, "--B\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n--B--");
    assert_int_equal(sv_multipart_parse(&p, arena, SV_STR("multipart/form-data; boundary=B"), sv_buf_str(&b), &err), SV_ELIMIT);

    sv_buf_reset(&b); /* 32 MB of almost-delimiters */
    sv_buf_adds(&b, "--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n");
    while (b.n < 32u << 20)
        sv_buf_adds(&b, "\r\n--B\r--B\r\n--Bx\r\n--B\n");
    sv_buf_adds(&b, "\r\n--B--");
    int64_t began = sv_mono_ms();
    assert_int_equal(sv_multipart_parse(&p, arena, SV_STR("multipart/form-data; boundary=B"), sv_buf_str(&b), &err), SV_OK);
    assert_in_range(sv_mono_ms() - began, 0, 60000);
    assert_int_equal(p.n, 1);
    sv_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_upload_as_undici_sends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(data_may_hold_anything_but_the_delimiter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_part_and_an_empty_form, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_boundary_may_come_from_the_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_come_in_three_spellings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_forms_are_refused_with_the_part, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_bodies_are_linear_and_parts_are_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
