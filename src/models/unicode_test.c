/* unicode_test.c - normalization against SentencePiece's own tables (shared test data), and the rules that these do not show */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/time.h"
#include "models/unicode.h"

static void assert_normal(const char *text, sv_uni_form form, const char *want)
{
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    sv_buf_init(&out, 0);
    assert_int_equal(sv_uni_normalize(&out, sv_str_of(text), form, &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&out), want);
}

static void characters_come_out_as_they_went_in(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= SV_UNI_MAX; c++) {
        char u[4];
        uint32_t back;
        size_t n = sv_uni_put(u, c);
        if (c >= 0xd800 && c < 0xe000)
            continue; /* surrogates have no UTF-8 */
        assert_int_equal(sv_uni_get(u, n, &back), n);
        assert_int_equal(back, c);
        if (n > 1) {
            assert_int_equal(sv_uni_get(u, n - 1, &back), 1); /* cut short */
            assert_int_equal(back, SV_UNI_BROKEN + (uint8_t)u[0]);
        }
    }
    static const char *const broken[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xff"};
    for (size_t i = 0; i < SV_LEN(broken); i++) {
        uint32_t c;
        char u[4];
        assert_int_equal(sv_uni_get(broken[i], strlen(broken[i]), &c), 1);
        assert_int_equal(c, SV_UNI_BROKEN + (uint8_t)broken[i][0]);
        assert_int_equal(sv_uni_put(u, c), 1);
        assert_int_equal((uint8_t)u[0], (uint8_t)broken[i][0]);
    }
}

static void categories_and_case_are_those_of_the_standard(void **state)
{
    (void)state;
    static const struct { uint32_t c; int category; } known[] = {
        {'a', SV_UNI_LL}, {'A', SV_UNI_LU}, {'1', SV_UNI_ND}, {' ', SV_UNI_ZS}, {'\n', SV_UNI_CC}, {'$', SV_UNI_SC}, {'_', SV_UNI_PC},
        {0x1c5, SV_UNI_LT}, {0x2b0, SV_UNI_LM}, {0x4e2d, SV_UNI_LO}, {0x300, SV_UNI_MN}, {0x903, SV_UNI_MC}, {0x2160, SV_UNI_NL},
        {0xbd, SV_UNI_NO}, {0x1f600, SV_UNI_SO}, {0x10ffff, SV_UNI_CN}, {0xd800, SV_UNI_CS}, {0xe000, SV_UNI_CO}, {0x2028, SV_UNI_ZL},
        {SV_UNI_BROKEN, SV_UNI_CN}, {0xac00, SV_UNI_LO},
    };
    for (size_t i = 0; i < SV_LEN(known); i++)
        assert_int_equal(sv_uni_category(known[i].c), known[i].category);
    uint32_t last, to[3];
    for (uint32_t c = 0; c <= SV_UNI_MAX; c = last + 1) {
        int category = sv_uni_category_run(c, &last);
        assert_int_equal(sv_uni_category(c), category);
        assert_int_equal(sv_uni_category(last), category);
        assert_true(last == SV_UNI_MAX || sv_uni_category(last + 1) != category);
    }
    assert_int_equal(sv_uni_lower(0xc4, to), 1);
    assert_int_equal(to[0], 0xe4);
    assert_int_equal(sv_uni_lower(0x130, to), 2); /* i and a dot above */
    assert_int_equal(to[1], 0x307);
    assert_int_equal(sv_uni_upper(0xdf, to), 2); /* SS */
    assert_int_equal(to[0], 'S');
    assert_int_equal(sv_uni_lower(0x4e2d, to), 1);
    assert_true(sv_uni_is_space(0x3000) && sv_uni_is_space(0x85) && !sv_uni_is_space(0x200b) && !sv_uni_is_space(0x1c));
}

static void the_four_forms_differ_where_they_should(void **state)
{
    (void)state;
    assert_normal("\xc3\x84\xef\xac\x81", SV_UNI_NFD, "A\xcc\x88\xef\xac\x81");
    assert_normal("A\xcc\x88\xef\xac\x81", SV_UNI_NFC, "\xc3\x84\xef\xac\x81");
    assert_normal("\xc3\x84\xef\xac\x81", SV_UNI_NFKD, "A\xcc\x88" "fi");
    assert_normal("A\xcc\x88\xef\xac\x81", SV_UNI_NFKC, "\xc3\x84" "fi");
    assert_normal("\xea\xb0\x81", SV_UNI_NFD, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"); /* Hangul */
    assert_normal("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", SV_UNI_NFC, "\xea\xb0\x81");
    assert_normal("q\xcc\x87\xcc\xa3", SV_UNI_NFC, "q\xcc\xa3\xcc\x87"); /* marks in the order of their classes */
    assert_normal("\xcc\x88" "A", SV_UNI_NFC, "\xcc\x88" "A");           /* a mark without a letter */
    assert_normal("a\xcc\xb4\xcc\x81", SV_UNI_NFC, "\xc3\xa1\xcc\xb4");  /* not blocked: another class between */
    assert_normal("a\xff\xcc\x81\xc3", SV_UNI_NFC, "a\xff\xcc\x81\xc3"); /* broken bytes stay, and are no letters */
    assert_normal("\xf0\x9d\x85\x9e", SV_UNI_NFC, "\xf0\x9d\x85\x97\xf0\x9d\x85\xa5"); /* excluded from composition */
}

static void a_megabyte_of_marks_is_sorted_in_time(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf in, out;
    sv_buf_init(&in, 0);
    sv_buf_init(&out, 0);
    sv_err err = {0};
    for (int i = 0; i < 1 << 18; i++)
        sv_buf_adds(&in, i % 2 ? "\xcc\xa3" : "\xcc\x87"); /* classes 220 and 230 by turns */
    int64_t t0 = sv_mono_ms();
    assert_int_equal(sv_uni_normalize(&out, sv_buf_str(&in), SV_UNI_NFC, &err), SV_OK);
    assert_true(sv_mono_ms() - t0 < 5000); /* some 10 ms; an insertion sort takes minutes */
    assert_int_equal(out.n, in.n);
    assert_memory_equal(out.p, "\xcc\xa3\xcc\xa3", 4);
    assert_memory_equal(out.p + out.n - 4, "\xcc\x87\xcc\x87", 4);
}

static void a_text_that_grows_over_the_buffer_is_refused(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    sv_buf_init(&out, 8);
    assert_int_equal(sv_uni_normalize(&out, SV_STR("\xef\xb7\xba"), SV_UNI_NFKC, &err), SV_ELIMIT); /* U+FDFA: 18 code points */
    assert_non_null(strstr(err.msg, "3 bytes"));
}

static void hex_points(sv_buf *out, const char *p, const char *end)
{
    sv_buf_reset(out);
    while (p < end) {
        char *stop, u[4];
        unsigned long c = strtoul(p, &stop, 16);
        if (stop == p)
            break;
        sv_buf_add(out, u, sv_uni_put(u, (uint32_t)c));
        p = stop;
    }
}

/* Lines of: code points, tab, code points, tab, comment. The left side, in the form, is the right side. */
static void check_table(const char *name, sv_uni_form form)
{
    char path[512];
    const char *data = getenv("SV_SHARED_DATA");
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf file, in, want, got;
    snprintf(path, sizeof path, "%s/tokenizers/unicode/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", name);
    if (!sv_file_exists(path)) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    sv_buf_init(&file, 0), sv_buf_init(&in, 0), sv_buf_init(&want, 0), sv_buf_init(&got, 0);
    assert_int_equal(sv_file_read(&file, path, &err), SV_OK);
    int n = 0, n_wrong = 0;
    for (const char *line = file.p, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *tab = memchr(line, '\t', (size_t)(end - line));
        if (!tab)
            continue;
        hex_points(&in, line, tab);
        hex_points(&want, tab + 1, end);
        sv_buf_reset(&got);
        assert_int_equal(sv_uni_normalize(&got, sv_buf_str(&in), form, &err), SV_OK);
        n++;
        if (!sv_str_eq(sv_buf_str(&got), sv_buf_str(&want)) && n_wrong++ < 5)
            print_message("%.*s\n", (int)(end - line), line);
    }
    assert_true(n > 10000);
    assert_int_equal(n_wrong, 0);
}

static void nfc_equals_the_table_of_sentencepiece(void **state) { (void)state; check_table("nfc.tsv", SV_UNI_NFC); }
static void nfd_equals_the_table_of_sentencepiece(void **state) { (void)state; check_table("nfd.tsv", SV_UNI_NFD); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_out_as_they_went_in),
        cmocka_unit_test(categories_and_case_are_those_of_the_standard),
        cmocka_unit_test(the_four_forms_differ_where_they_should),
        cmocka_unit_test(a_megabyte_of_marks_is_sorted_in_time),
        cmocka_unit_test(a_text_that_grows_over_the_buffer_is_refused),
        cmocka_unit_test(nfc_equals_the_table_of_sentencepiece),
        cmocka_unit_test(nfd_equals_the_table_of_sentencepiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
