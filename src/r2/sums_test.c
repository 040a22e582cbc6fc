/* Tests of sums.h: the published check values, pieces of any size, joining against the whole. */
#include "r2/sums.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char *hex_of(const sv_sum_values *v, sv_sum s)
{
    static char text[2 * SV_SUM_BYTES + 1];
    sv_hex(text, v->v[s], sv_sum_bytes(s));
    return text;
}

/* CRCs: the "check" of the catalogue of parametrised CRC algorithms. Digests: `printf 123456789 | md5sum` and its sisters. */
static void the_check_values_of_123456789(void **state)
{
    static const char *const want[SV_N_SUMS] = {
        "25f9e794323b453885f5181f1b624d0b", "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        "eb455d56d2c1a69de64e832011f3393d45f3fa31d6842f21af92d2fe469c499da5e3179847334a18479c8d1dedea1be3",
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
        "cbf43926", "e3069283", "ae8b14860a799888"};
    sv_sum_values v;
    (void)state;
    sv_sums_of(&v, (1u << SV_N_SUMS) - 1, "123456789", 9);
    for (int i = 0; i < SV_N_SUMS; i++)
        assert_string_equal(hex_of(&v, (sv_sum)i), want[i]);
    sv_sums_of(&v, 1u << SV_SUM_CRC32 | 1u << SV_SUM_MD5, "", 0);
    assert_string_equal(hex_of(&v, SV_SUM_CRC32), "00000000");
    assert_string_equal(hex_of(&v, SV_SUM_MD5), "d41d8cd98f00b204e9800998ecf8427e");
    assert_int_equal(v.mask, 1u << SV_SUM_CRC32 | 1u << SV_SUM_MD5);
}

static void pieces_and_joins_make_the_same_as_the_whole(void **state)
{
    enum { N = 5000 };
    uint8_t p[N], joined[8];
    sv_sum_values whole, a, b;
    (void)state;
    for (int i = 0; i < N; i++)
        p[i] = (uint8_t)(i * 31 + i / 7);
    sv_sums_of(&whole, (1u << SV_N_SUMS) - 1, p, N);
    for (size_t cut = 0; cut <= N; cut += 313) {
        SV_AUTO(sv_sums_freep) sv_sums *s = sv_sums_new((1u << SV_N_SUMS) - 1);
        sv_sums_add(s, p, cut);
        sv_sums_add(s, p + cut, N - cut);
        sv_sums_end(s, &a);
        assert_memory_equal(&a, &whole, sizeof a);
        sv_sums_of(&a, whole.mask, p, cut);
        sv_sums_of(&b, whole.mask, p + cut, N - cut);
        for (int i = SV_SUM_CRC32; i < SV_N_SUMS; i++) {
            sv_sum_crc_join((sv_sum)i, joined, a.v[i], b.v[i], N - cut);
            assert_memory_equal(joined, whole.v[i], sv_sum_bytes((sv_sum)i));
        }
    }
}

static void names(void **state)
{
    sv_sum s;
    (void)state;
    assert_true(sv_sum_of_name(SV_STR("sha-256"), &s) && s == SV_SUM_SHA256);
    assert_true(sv_sum_of_name(SV_STR("crc64nvme"), &s) && s == SV_SUM_CRC64NVME);
    assert_false(sv_sum_of_name(SV_STR("crc16"), &s));
    assert_false(sv_sum_of_name(SV_STR(""), &s));
    assert_false(sv_sum_of_name(SV_STR("crc64nvmecrc64nvme"), &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_values_of_123456789),
        cmocka_unit_test(pieces_and_joins_make_the_same_as_the_whole),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
