#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"

static void assert_hex(const void *p, size_t n, const char *hex)
{
    char text[129];
    sv_hex(text, p, n);
    assert_string_equal(text, hex);
}

static void digests_agree_with_their_standards(void **state)
{
    (void)state;
    uint8_t d[32];
    sv_sha256(d, "abc", 3); /* FIPS 180-4 */
    assert_hex(d, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sv_hmac_sha256(d, "Jefe", 4, "what do ya want for nothing?", 28); /* RFC 4231, case 2 */
    assert_hex(d, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void a_sealed_value_opens_only_in_its_place(void **state)
{
    (void)state;
    uint8_t key[32], other[32];
    sv_random(key, 32);
    sv_random(other, 32);
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf sealed, plain;
    sv_buf_init(&sealed, 0);
    sv_buf_init(&plain, 0);
    assert_int_equal(sv_seal(&sealed, key, SV_STR("row 1"), SV_STR("secret"), &err), SV_OK);
    assert_null(memmem(sealed.p, sealed.n, "secret", 6));
    assert_int_equal(sv_open_sealed(&plain, key, SV_STR("row 1"), sv_buf_str(&sealed), &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&plain), "secret");
    assert_int_equal(sv_open_sealed(&plain, key, SV_STR("row 2"), sv_buf_str(&sealed), &err), SV_EFORMAT);
    assert_int_equal(sv_open_sealed(&plain, other, SV_STR("row 1"), sv_buf_str(&sealed), &err), SV_EFORMAT);
    for (size_t n = 0; n < sealed.n; n++)
        assert_int_equal(sv_open_sealed(&plain, key, SV_STR("row 1"), (sv_str){sealed.p, n}, &err), SV_EFORMAT);
    sealed.p[14] ^= 1;
    assert_int_equal(sv_open_sealed(&plain, key, SV_STR("row 1"), sv_buf_str(&sealed), &err), SV_EFORMAT);
}

static void uuids_have_their_version(void **state)
{
    (void)state;
    char a[37], b[37];
    sv_uuid4(a);
    sv_uuid4(b);
    assert_int_equal(strlen(a), 36);
    assert_true(a[8] == '-' && a[13] == '-' && a[14] == '4' && a[18] == '-' && strchr("89ab", a[19]) && a[23] == '-');
    assert_string_not_equal(a, b);
}

static void the_table_hash_spreads(void **state)
{
    (void)state;
    int bucket[64] = {0};
    for (uint32_t i = 0; i < 64000; i++)
        bucket[sv_hash64(&i, sizeof i, 42) % 64]++;
    for (int i = 0; i < 64; i++)
        assert_in_range(bucket[i], 800, 1200); /* expected 1000, sigma 31 */
    assert_true(sv_hash64("ab", 2, 1) != sv_hash64("ab\0", 3, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_agree_with_their_standards),
        cmocka_unit_test(a_sealed_value_opens_only_in_its_place),
        cmocka_unit_test(uuids_have_their_version),
        cmocka_unit_test(the_table_hash_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
