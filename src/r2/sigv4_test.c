/* Tests of sigv4.h against the examples that AWS publishes (key AKIAIOSFODNN7EXAMPLE, 24 May 2013). */
#include "r2/sigv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "r2/r2_errors.h"

static const char secret[65] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
enum { THEN = 1369353600 }; /* 2013-05-24T00:00:00Z */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define CREDENTIAL "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"

typedef struct head { const char *name, *value; } head;

static void header_at(void *ctx, int i, sv_str *name, sv_str *value)
{
    const head *h = ctx;
    *name = sv_str_of(h[i].name);
    *value = sv_str_of(h[i].value);
}

static int check(const char *method, const char *path, const char *query, head *h, int n, int64_t now)
{
    sv_sigv4 a;
    uint8_t key[32];
    sv_err err = {0};
    sv_sigv4_req r = {.method = method, .path = sv_str_of(path), .query = sv_str_of(query), .n_headers = n, .header_at = header_at, .ctx = h};
    assert_true(sv_sigv4_present(&r));
    if (sv_sigv4_parse(&a, &r, &err) != SV_OK || sv_sigv4_verify(&a, &r, secret, now, key, &err) != SV_OK)
        return err.api_code;
    assert_string_equal(a.key_id, "AKIAIOSFODNN7EXAMPLE");
    return 0;
}

#define AUTH(names, signature) "AWS4-HMAC-SHA256 Credential=" CREDENTIAL ",SignedHeaders=" names ",Signature=" signature

static void the_published_get_is_right_and_any_change_of_it_wrong(void **state)
{
    (void)state;
    head h[] = {{"Host", "examplebucket.s3.amazonaws.com"}, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", "20130524T000000Z"},
                {"Authorization", AUTH("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")}};
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN), 0);
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN + SV_SIGV4_SKEW_S), 0);
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN + SV_SIGV4_SKEW_S + 1), SV_S3_SKEWED);
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN - SV_SIGV4_SKEW_S - 1), SV_S3_SKEWED);
    assert_int_equal(check("PUT", "/test.txt", "", h, 5, THEN), SV_R2_BAD_SIGNATURE);
    assert_int_equal(check("GET", "/test.tx", "", h, 5, THEN), SV_R2_BAD_SIGNATURE);
    assert_int_equal(check("GET", "/test.txt", "acl", h, 5, THEN), SV_R2_BAD_SIGNATURE);
    h[1].value = "bytes=0-8";
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN), SV_R2_BAD_SIGNATURE);
    h[1].name = "Rang";
    assert_int_equal(check("GET", "/test.txt", "", h, 5, THEN), SV_R2_BAD_SIGNATURE);
}

static void the_other_published_examples(void **state)
{
    (void)state;
    head put[] = {{"Host", "examplebucket.s3.amazonaws.com"}, {"Date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-date", "20130524T000000Z"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                  {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
                  {"Authorization", AUTH("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")}};
    assert_int_equal(check("PUT", "/test%24file.text", "", put, 6, THEN), 0);
    assert_int_equal(check("PUT", "/test$file.text", "", put, 6, THEN), 0); /* bare on the wire, encoded where it is signed */
    head life[] = {{"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"}, {"x-amz-content-sha256", EMPTY},
                   {"Authorization", AUTH("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")}};
    assert_int_equal(check("GET", "/", "lifecycle", life, 4, THEN), 0);
    life[3].value = AUTH("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    assert_int_equal(check("GET", "/", "prefix=J&max-keys=2", life, 4, THEN), 0); /* in any order */
}

static void presigned(void **state)
{
    (void)state;
    head h[] = {{"Host", "examplebucket.s3.amazonaws.com"}};
#define QUERY(date, expires) "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=" date \
    "&X-Amz-Expires=" expires "&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "86400"), h, 1, THEN), 0);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "86400"), h, 1, THEN + 86400), 0);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "86400"), h, 1, THEN + 86401), SV_R2_EXPIRED);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "86400"), h, 1, THEN - 3600), SV_R2_ACCESS_DENIED);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "86401"), h, 1, THEN), SV_R2_BAD_SIGNATURE);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "604801"), h, 1, THEN), SV_S3_MALFORMED_AUTH);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130524T000000Z", "0"), h, 1, THEN), SV_S3_MALFORMED_AUTH);
    assert_int_equal(check("GET", "/test.txt", QUERY("20130525T000000Z", "86400"), h, 1, THEN), SV_S3_MALFORMED_AUTH);
    assert_int_equal(check("GET", "/test.txt", QUERY("yesterday", "86400"), h, 1, THEN), SV_S3_MALFORMED_AUTH);
    assert_int_equal(check("GET", "/test.txt", "X-Amz-Algorithm=AWS4-HMAC-SHA256", h, 1, THEN), SV_S3_MALFORMED_AUTH);
}

static void parameters_that_nothing_signs_are_refused(void **state)
{
    (void)state;
    sv_buf q;
    sv_buf_init(&q, 0);
    sv_buf_adds(&q, "lifecycle");
    for (int i = 0; i < 300; i++)
        sv_buf_addf(&q, "&a%d", i);
    head life[] = {{"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"}, {"x-amz-content-sha256", EMPTY},
                   {"Authorization", AUTH("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")}};
    assert_int_equal(check("GET", "/", q.p, life, 4, THEN), SV_S3_MALFORMED_AUTH);
    sv_buf_done(&q);
}

static void claims_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "Bearer x", "AWS4-HMAC-SHA256 Credential=" CREDENTIAL, "AWS4-HMAC-SHA256 Credential=a/b/c,SignedHeaders=host,Signature=" EMPTY,
        "AWS4-HMAC-SHA256 Credential=a/20130524/r/ec2/aws4_request,SignedHeaders=host,Signature=" EMPTY,
        "AWS4-HMAC-SHA256 Credential=" CREDENTIAL ",SignedHeaders=host,Signature=" EMPTY "0", "AWS4-HMAC-SHA256 Credential=" CREDENTIAL ",SignedHeaders=host,Signature=zz",
        "AWS4-HMAC-SHA256 Credential=" CREDENTIAL ",SignedHeaders=,Signature=" EMPTY, "AWS4-HMAC-SHA256 Credential=////,SignedHeaders=host,Signature=" EMPTY};
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        sv_sigv4 a = {0};
        sv_err err = {0};
        assert_int_equal(sv_sigv4_parse_header(&a, sv_str_of(bad[i]), &err), SV_EINVAL);
        assert_int_equal(err.api_code, SV_S3_MALFORMED_AUTH);
    }
    sv_sigv4 a = {0};
    sv_err err = {0};
    assert_int_equal(sv_sigv4_parse_header(&a, SV_STR("AWS AKIA:abc="), &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "version 2"));
    head h[] = {{"x-amz-date", "20130524T000000Z"}, {"x-amz-content-sha256", EMPTY}, {"Authorization", AUTH("x-amz-date", EMPTY)}}; /* the host must be signed */
    assert_int_equal(check("GET", "/", "", h, 3, THEN), SV_S3_MALFORMED_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_get_is_right_and_any_change_of_it_wrong),
        cmocka_unit_test(the_other_published_examples),
        cmocka_unit_test(presigned),
        cmocka_unit_test(parameters_that_nothing_signs_are_refused), cmocka_unit_test(claims_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
