/* Tests of aws_chunked.h: the signed example that AWS publishes, pieces of any size, and bodies that lie. */
#include "r2/aws_chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "r2/r2_errors.h"

/* Feeds `body` in pieces of `step`; the decoded bytes, or the error's number as text. */
static char *decode(const sv_aws_chunks_opts *o, sv_str body, size_t step, size_t *n, char trailer[64])
{
    SV_AUTO(sv_aws_chunks_freep) sv_aws_chunks *c = sv_aws_chunks_new(o);
    sv_buf out;
    sv_err err = {0};
    sv_buf_init(&out, 0);
    for (size_t at = 0; at < body.n; at += step) {
        size_t k = body.n - at < step ? body.n - at : step, got = 0;
        SV_AUTO(sv_freep) char *piece = sv_xstrndup(body.p + at, k);
        memcpy(piece, body.p + at, k);
        if (sv_aws_chunks_decode(c, piece, k, &got, &err) != SV_OK)
            break;
        sv_buf_add(&out, piece, got);
    }
    if (!err.code && sv_aws_chunks_end(c, &err) == SV_OK) {
        sv_str t = sv_aws_chunks_trailer(c, "x-amz-checksum-crc32");
        snprintf(trailer, 64, "%.*s", (int)t.n, t.p ? t.p : "");
        *n = out.n;
        return sv_buf_take(&out);
    }
    sv_buf_reset(&out);
    sv_buf_addf(&out, "%d", err.api_code);
    *n = out.n;
    return sv_buf_take(&out);
}

static void unsigned_bodies_in_pieces_of_any_size(void **state)
{
    (void)state;
    sv_aws_chunks_opts o = {.trailer = true};
    sv_str body = SV_STR("5\r\nhello\r\nB;x=y\r\n, big world\r\n0\r\nX-Amz-Checksum-CRC32:AAAAAA==\r\n\r\n");
    for (size_t step = 1; step <= body.n; step++) {
        char trailer[64];
        size_t n;
        SV_AUTO(sv_freep) char *got = decode(&o, body, step, &n, trailer);
        assert_string_equal(got, "hello, big world");
        assert_string_equal(trailer, "AAAAAA==");
    }
    char trailer[64];
    size_t n;
    SV_AUTO(sv_freep) char *empty = decode(&o, SV_STR("0\r\n\r\n"), 100, &n, trailer);
    assert_int_equal(n, 0);
}

/* "Example: PUT Object" of the signature's documentation for chunked uploads: 66,560 letters a. */
static void the_published_signed_upload(void **state)
{
    (void)state;
    static const char *const steps[] = {"20130524", "us-east-1", "s3", "aws4_request"};
    sv_aws_chunks_opts o = {.is_signed = true, .date = "20130524T000000Z", .scope = SV_STR("20130524/us-east-1/s3/aws4_request"),
                            .seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"};
    sv_str key = SV_STR("AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    for (size_t i = 0; i < 4; i++) {
        sv_hmac_sha256(o.key, i ? (const char *)o.key : key.p, i ? 32 : key.n, steps[i], strlen(steps[i]));
    }
    SV_AUTO(sv_freep) char *letters = sv_xcalloc(65537, 1);
    memset(letters, 'a', 65536);
    char *body = sv_xasprintf("10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n%s\r\n"
                              "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n%.1024s\r\n"
                              "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
                              letters, letters);
    size_t n, whole = strlen(body);
    char trailer[64], said[16];
    for (size_t step = 1000; step <= whole + 1000; step *= 5) {
        SV_AUTO(sv_freep) char *got = decode(&o, (sv_str){body, whole}, step, &n, trailer);
        assert_int_equal(n, 66560);
    }
    snprintf(said, sizeof said, "%d", SV_R2_BAD_SIGNATURE);
    static const size_t changes[] = {30, 200, 65700, 66000}; /* a digit of a signature, a letter of each chunk */
    for (size_t i = 0; i < SV_LEN(changes); i++) {
        body[changes[i]] ^= 1;
        SV_AUTO(sv_freep) char *got = decode(&o, (sv_str){body, whole}, 70000, &n, trailer);
        if (strspn(got, "0123456789") == strlen(got))
            assert_true(strcmp(got, said) == 0 || atoi(got) == SV_R2_INCOMPLETE_BODY);
        else
            fail_msg("a change at %zu was not seen", changes[i]);
        body[changes[i]] ^= 1;
    }
    free(body);
}

static void bodies_that_lie_are_refused(void **state)
{
    static const struct { const char *body; int code; } cases[] = {
        {"", SV_R2_INCOMPLETE_BODY}, {"5\r\nhel", SV_R2_INCOMPLETE_BODY}, {"5\r\nhello\r\n", SV_R2_INCOMPLETE_BODY}, {"5\r\nhello!\r\n0\r\n\r\n", SV_R2_INCOMPLETE_BODY},
        {"x\r\n", SV_R2_INCOMPLETE_BODY}, {"\r\n", SV_R2_INCOMPLETE_BODY}, {"-1\r\n", SV_R2_INCOMPLETE_BODY}, {"ffffffffffffffff\r\n", SV_R2_INCOMPLETE_BODY},
        {"10000000000000000\r\n", SV_R2_INCOMPLETE_BODY}, {"0\r\n\r\nmore", SV_R2_INCOMPLETE_BODY}, {"0\r\nno colon\r\n\r\n", SV_S3_BAD_TRAILER}, {"0\r\n:x\r\n\r\n", SV_S3_BAD_TRAILER},
        {"0\r\nx-amz-checksum-crc32:AAAA\r\n", SV_R2_INCOMPLETE_BODY},
    };
    (void)state;
    char trailer[64], said[16];
    size_t n;
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        SV_AUTO(sv_freep) char *got = decode(&(sv_aws_chunks_opts){.trailer = true}, sv_str_of(cases[i].body), 3, &n, trailer);
        snprintf(said, sizeof said, "%d", cases[i].code);
        assert_string_equal(got, said);
    }
    SV_AUTO(sv_freep) char *line = sv_xcalloc(10001, 1);
    memset(line, '0', 10000); /* a line without an end */
    SV_AUTO(sv_freep) char *got = decode(&(sv_aws_chunks_opts){0}, (sv_str){line, 10000}, 100, &n, trailer);
    snprintf(said, sizeof said, "%d", SV_R2_INCOMPLETE_BODY);
    assert_string_equal(got, said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsigned_bodies_in_pieces_of_any_size),
        cmocka_unit_test(the_published_signed_upload),
        cmocka_unit_test(bodies_that_lie_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
