/* floats_test.c - vectors as JSON text, checked against strtod and printf */
#include "base/floats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t state_of_random = 0x9e3779b97f4a7c15u;
static uint64_t rnd(void)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    return state_of_random ^= state_of_random << 17;
}

static float of_bits(uint32_t b)
{
    float f;
    memcpy(&f, &b, 4);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t b;
    memcpy(&b, &f, 4);
    return b;
}

static float read_one(const char *number)
{
    char text[512];
    int n = snprintf(text, sizeof text, "[%s]", number);
    float out = 7;
    size_t count = 0, used = 0;
    sv_err err = {0};
    if (sv_floats_read(&out, 1, (sv_str){text, (size_t)n}, &count, &used, &err) != SV_OK)
        fail_msg("%s: %s", text, err.msg);
    assert_int_equal(count, 1);
    assert_int_equal(used, n);
    return out;
}

static void same_as_libc(const char *number)
{
    float ours = read_one(number), theirs = (float)strtod(number, NULL);
    if (bits_of(ours) != bits_of(theirs))
        fail_msg("%s: %a, strtod %a", number, (double)ours, (double)theirs);
}

static void an_array_is_read_and_written(void **state)
{
    (void)state;
    static const char text[] = "[0.1, -2.5e3 ,\n7,0,-0.0,1E-2] and more";
    float x[6];
    size_t n, used;
    sv_err err = {0};
    assert_int_equal(sv_floats_read(x, 6, SV_STR(text), &n, &used, &err), SV_OK);
    assert_int_equal(n, 6);
    assert_int_equal(used, strlen(text) - strlen(" and more"));
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_floats_write(&b, x, n);
    assert_string_equal(sv_buf_cstr(&b), "[0.1,-2500,7,0,-0,0.01]");

    assert_int_equal(sv_floats_read(x, 2, SV_STR(text), &n, &used, &err), SV_OK); /* counted past what is wanted */
    assert_int_equal(n, 6);
    assert_int_equal(sv_floats_read(x, 2, SV_STR("[ ]"), &n, &used, &err), SV_OK);
    assert_int_equal(n, 0);
    assert_int_equal(used, 3);
}

static void numbers_have_the_form_that_javascript_prints(void **state)
{
    (void)state;
    static const struct { float x; const char *text; } cases[] = {
        {1, "1"}, {-1, "-1"}, {0.1f, "0.1"}, {0.000001f, "0.000001"}, {0.0000001f, "1e-7"}, {1.5e-7f, "1.5e-7"}, {123456.7f, "123456.7"},
        {16777216, "16777216"}, {16777218, "16777218"}, {1e20f, "100000000000000000000"}, {1e21f, "1e+21"}, {3.4028235e38f, "3.4028235e+38"},
        {1.1754944e-38f, "1.1754944e-38"}, {1e-45f, "1e-45"}, {-1.4e-44f, "-1.4e-44"}, {0.3333333433f, "0.33333334"}, {8388608, "8388608"},
        {9.5367431640625e-7f, "9.536743e-7"}, {100, "100"}, {0.5f, "0.5"}, {33554432, "33554432"}, {8.5899346e9f, "8589935000"}, {-0x1.5c87fap-84f, "-7.0385307e-26"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char out[SV_FLOAT_TEXT + 1];
        out[sv_float_write(out, cases[i].x)] = '\0';
        assert_string_equal(out, cases[i].text);
    }
    char out[SV_FLOAT_TEXT];
    assert_int_equal(sv_float_write(out, NAN), 4);
    assert_memory_equal(out, "null", 4);
    assert_int_equal(sv_float_write(out, -INFINITY), 4);
    assert_memory_equal(out, "null", 4);
}

static size_t significant(const char *s)
{
    size_t n = 0, zeros = 0;
    for (; *s && *s != 'e'; s++)
        if (*s >= '0' && *s <= '9' && (n || *s != '0')) {
            n++;
            zeros = *s == '0' ? zeros + 1 : 0;
        }
    return n - zeros;
}

/* Nothing shorter reads back, and nothing as short is nearer. */
static void check_written(float x)
{
    char ours[SV_FLOAT_TEXT + 1], theirs[64];
    size_t n = sv_float_write(ours, x);
    assert_true(n <= 24);
    ours[n] = '\0';
    if (bits_of(strtof(ours, NULL)) != bits_of(x))
        fail_msg("%a written as %s", (double)x, ours);
    if (bits_of(read_one(ours)) != bits_of(x))
        fail_msg("%a written as %s and not read back", (double)x, ours);
    int digits = 1;
    for (; digits < 9; digits++) {
        snprintf(theirs, sizeof theirs, "%.*e", digits - 1, (double)x);
        if (strtof(theirs, NULL) == x)
            break;
    }
    snprintf(theirs, sizeof theirs, "%.*e", digits - 1, (double)x);
    if (significant(ours) > (size_t)digits)
        fail_msg("%a written as %s, printf needs %d digits", (double)x, ours, digits);
    if (significant(ours) == significant(theirs) && fabsl(strtold(ours, NULL) - (long double)x) > fabsl(strtold(theirs, NULL) - (long double)x))
        fail_msg("%a written as %s, %s is nearer", (double)x, ours, theirs);
}

static void what_is_written_is_shortest_and_reads_back(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        float x = of_bits((uint32_t)rnd());
        if (isfinite(x))
            check_written(x);
        check_written((float)((double)(int64_t)rnd() * 0x1p-65)); /* as embeddings are */
    }
    for (uint32_t e = 0; e < 255; e++) /* borders of binades, where the interval is lopsided */
        for (int d = -3; d <= 3; d++)
            if ((int64_t)(e << 23) + d >= 0)
                check_written(of_bits((e << 23) + (uint32_t)d));
    for (int i = 0; i < 20000; i++) {
        check_written(of_bits((uint32_t)(rnd() % 0x800000))); /* denormals */
        check_written((float)(rnd() % 40000000));
    }
}

static void numbers_are_read_as_strtod_reads_them(void **state)
{
    (void)state;
    char s[512];
    for (int i = 0; i < 300000; i++) {
        float x = of_bits((uint32_t)rnd());
        double d = (double)(int64_t)rnd() * 0x1p-64;
        snprintf(s, sizeof s, "%.9g", isfinite(x) ? (double)x : 1.0);
        same_as_libc(s);
        snprintf(s, sizeof s, "%.17g", d); /* what a language with doubles sends */
        same_as_libc(s);
        snprintf(s, sizeof s, "%.*e", (int)(rnd() % 40), d * (double)of_bits(0x3f800000 + (uint32_t)(rnd() % 0x1000000)));
        same_as_libc(s);
        snprintf(s, sizeof s, "%.*f", (int)(rnd() % 30), d * (double)(rnd() % 100000));
        same_as_libc(s);
    }
}

/* The decimal text of a point half way between two floats, and one that differs from it far behind. */
static void halves_are_rounded_to_even_and_sticky_digits_count(void **state)
{
    (void)state;
    char s[400];
    for (int i = 0; i < 20000; i++) {
        uint32_t b = 0x30000000 + (uint32_t)(rnd() % 0x1c000000);
        double half = ((double)of_bits(b) + (double)of_bits(b + 1)) / 2;
        int n = snprintf(s, sizeof s, "%.120f", half);
        same_as_libc(s);
        for (char *last = s + n - 1; *last == '0' && last[-1] != '.'; last--)
            *last = '\0';
        same_as_libc(s);
        strcat(s, "0000000001");
        same_as_libc(s);
        snprintf(s, sizeof s, "%.17g", half); /* as a client prints its double */
        same_as_libc(s);
        snprintf(s, sizeof s, "%.17g", nextafter(half, 0));
        same_as_libc(s);
        snprintf(s, sizeof s, "%.17g", nextafter(half, INFINITY));
        same_as_libc(s);
    }
    static const char *const odd[] = {
        "16777217", "16777219", "16777217.0000000000000000000000000000001", "0.000000000000000000000000000000000000011754943508222875",
        "1.17549429e-38", "7.0064923216240853546186479164495e-46", "7.0064923216240853546186479164496e-46", "7.1e-46", "1e-400", "0e999999999",
        "-0e-999999999", "340282346638528859811704183484516925440", "0.0000000000000000000000000000001e31",
        "99999999999999999999999999999999999999", "18446744073709551616", "18446744073709551615", "1844674407370955161600000e-10",
        "36893488147419103232", "0.00000000000000000000", "1e0000000000000000000000000000000000007", "123456789012345678", "12345678", "1234567812345678",
        "9007199254740993", "1e-64", "1e-65", "1234567890123456789e-57"};
    for (size_t i = 0; i < SV_LEN(odd); i++)
        same_as_libc(odd[i]);
}

static void refused(const char *text, const char *with)
{
    float x[8];
    size_t n, used;
    sv_err err = {0};
    char *exact = malloc(strlen(text) + 1); /* without the NUL: the sanitizer sees who reads past the end */
    memcpy(exact, text, strlen(text));
    sv_rc rc = sv_floats_read(x, 8, (sv_str){exact, strlen(text)}, &n, &used, &err);
    free(exact);
    if (rc != SV_EFORMAT || !strstr(err.msg, with))
        fail_msg("%s: %s '%s', expected '%s'", text, sv_rc_name(rc), err.msg, with);
}

static void what_json_does_not_have_is_refused_by_number_and_reason(void **state)
{
    (void)state;
    refused("", "not an array");
    refused("1", "not an array");
    refused("{}", "not an array");
    refused("[", "ends at number 0");
    refused("[1", "ends at number 0");
    refused("[1,", "ends at number 1");
    refused("[1,]", "entry 1 of the array is no number");
    refused("[,1]", "entry 0");
    refused("[1,null]", "entry 1 of the array is null");
    refused("[NaN]", "entry 0 of the array is no number: 'NaN'");
    refused("[1,Infinity]", "'Infinity'");
    refused("[-Infinity]", "'-Infinity'");
    refused("[1e39]", "over the range of float32: '1e39'");
    refused("[-3.4028236e38]", "over the range");
    refused("[3.4028235677973366163753939545814e38]", "over the range"); /* its double is half way */
    refused("[1e999999999999]", "over the range");
    refused("[01]", "entry 0");
    refused("[-]", "entry 0");
    refused("[+1]", "entry 0");
    refused("[.5]", "entry 0");
    refused("[5.]", "entry 0");
    refused("[1e]", "entry 0");
    refused("[1e+]", "entry 0");
    refused("[0x10]", "neither");
    refused("[1 2]", "neither");
    refused("[1}", "neither");
    refused("[\"1\"]", "entry 0");
    refused("[[1]]", "entry 0");
    refused("[1.0f]", "neither");
    char big[1000];
    memset(big, '1', sizeof big);
    big[0] = '[';
    memcpy(big + 900, "]", 2);
    refused(big, "899 characters");
    memcpy(big + 1, "0.000", 5);
    refused(big, "899 characters");
}

static void text_that_ends_anywhere_is_refused(void **state)
{
    (void)state;
    static const char text[] = "[0.12345678901234567, -1.5e-7 , 123456789.25]";
    for (size_t n = 0; n + 1 < sizeof text - 1; n++) {
        char part[sizeof text];
        memcpy(part, text, n);
        part[n] = '\0';
        refused(part, n ? "" : "not an array");
    }
}

static void a_full_buffer_is_said(void **state)
{
    (void)state;
    float x[1000] = {0};
    sv_buf b;
    sv_buf_init(&b, 1500);
    sv_floats_write(&b, x, 1000);
    assert_true(b.failed);
    sv_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_is_read_and_written),
        cmocka_unit_test(numbers_have_the_form_that_javascript_prints),
        cmocka_unit_test(what_is_written_is_shortest_and_reads_back),
        cmocka_unit_test(numbers_are_read_as_strtod_reads_them),
        cmocka_unit_test(halves_are_rounded_to_even_and_sticky_digits_count),
        cmocka_unit_test(what_json_does_not_have_is_refused_by_number_and_reason),
        cmocka_unit_test(text_that_ends_anywhere_is_refused),
        cmocka_unit_test(a_full_buffer_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
