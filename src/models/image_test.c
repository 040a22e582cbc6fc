/* Pictures and their preparation, checked against Pillow and transformers (tests/reference/images.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "models/image_prep.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

static json_t *goldens;

static int read_goldens(void **state)
{
    (void)state;
    sv_buf b;
    sv_err err = {0};
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "images.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_done(&b);
    return 0;
}

static int drop_goldens(void **state)
{
    (void)state;
    json_decref(goldens);
    return 0;
}

static const char *hash_of(const sv_image *i)
{
    static char hex[65];
    uint8_t sum[32];
    sv_sha256(sum, i->rgb, (size_t)i->w * (size_t)i->h * 3);
    sv_hex(hex, sum, sizeof sum);
    return hex;
}

static sv_rc decode_file(sv_image *out, const char *path, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    if (sv_file_read(&b, path, err) != SV_OK)
        fail_msg("%s", err->msg);
    SV_AUTO(sv_freep) char *exact = malloc(b.n ? b.n : 1); /* no room behind: a sanitizer sees the first byte too many */
    memcpy(exact, sv_buf_cstr(&b), b.n);
    return sv_image_decode(out, (sv_str){exact, b.n}, err);
}

/* [w, h, sha] */
static bool matches(const sv_image *i, const json_t *want)
{
    return i->w == json_integer_value(json_array_get(want, 0)) && i->h == json_integer_value(json_array_get(want, 1)) &&
           strcmp(hash_of(i), json_string_value(json_array_get(want, 2))) == 0;
}

static void pixels_are_those_of_pillow(void **state)
{
    const char *name;
    json_t *want;
    int n = 0;
    (void)state;
    json_object_foreach(json_object_get(goldens, "files"), name, want) {
        SV_AUTO(sv_image_donep) sv_image i = {0};
        SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "images/%s", name);
        sv_err err = {0};
        if (decode_file(&i, path, &err) != SV_OK)
            fail_msg("%s: %s", name, err.msg);
        if (!matches(&i, want)) {
            print_error("%s: %d x %d, %s\n", name, i.w, i.h, hash_of(&i));
            n++;
        }
    }
    assert_int_equal(n, 0);
}

/* Where Pillow and we differ on purpose, or it reads less than there is. */
static bool differs(const char *name)
{
    /* Pillow 12 shifts runs of four bits; later ones read them as we do. */
    static const char *const known[] = {"images/decode/bmp/images/pal4rle.bmp", "images/decode/bmp/images/pal4rlecut.bmp", NULL};
    for (size_t i = 0; known[i]; i++)
        if (strcmp(known[i], name) == 0)
            return true;
    return false;
}

static void the_shared_corpora_decode_as_in_pillow_or_are_refused(void **state)
{
    const char *root = getenv("SV_SHARED_DATA"), *name;
    json_t *want;
    int n_same = 0, n_other = 0, n_refused = 0, n_more = 0;
    (void)state;
    if (!root)
        skip();
    json_object_foreach(json_object_get(goldens, "shared"), name, want) {
        SV_AUTO(sv_image_donep) sv_image i = {0};
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", root, name);
        sv_err err = {0};
        bool bad = strncmp(name, "images/bad", 10) == 0, crash = strncmp(name, "images/jpeg-crash", 17) == 0;
        sv_rc rc = decode_file(&i, path, &err);
        if (rc != SV_OK) {
            assert_true(rc == SV_EFORMAT || rc == SV_ELIMIT);
            assert_true(err.msg[0] && !i.rgb);
            n_refused++;
            if (!bad && !crash && json_is_array(want)) {
                print_error("%s: %s\n", name, err.msg);
                n_other++;
            }
        } else if (bad) {
            print_error("%s: %d x %d, and it is bad\n", name, i.w, i.h);
            n_other++;
        } else if (json_is_null(want)) {
            n_more++;
        } else if (matches(&i, want)) {
            n_same++;
        } else if (!crash && !differs(name)) {
            print_error("%s: %d x %d, other pixels\n", name, i.w, i.h);
            n_other++;
        }
    }
    print_message("%d as in Pillow, %d that it does not read, %d refused\n", n_same, n_more, n_refused);
    assert_int_equal(n_other, 0);
}

/* As in images.py. */
static sv_image formula(int32_t w, int32_t h)
{
    sv_image i = {w, h, malloc((size_t)(w * h) * 3)};
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++)
            for (int32_t c = 0; c < 3; c++)
                i.rgb[(y * w + x) * 3 + c] = (uint8_t)((x * x * 3 + y * 5 + x * y * 7 + c * 85 + w * 11) % 256);
    return i;
}

static int32_t at(const json_t *a, size_t i) { return (int32_t)json_integer_value(json_array_get(a, i)); }

static void resizing_is_pillows_bit_for_bit(void **state)
{
    size_t k;
    const json_t *c;
    (void)state;
    json_array_foreach(json_object_get(goldens, "resize"), k, c) {
        SV_AUTO(sv_image_donep) sv_image in = formula(at(c, 0), at(c, 1));
        SV_AUTO(sv_image_donep) sv_image out = {0};
        sv_err err = {0};
        assert_int_equal(sv_image_resize(&out, &in, at(c, 3), at(c, 4), (sv_image_filter)at(c, 2), &err), SV_OK);
        assert_true(out.w == at(c, 3) && out.h == at(c, 4));
        if (strcmp(hash_of(&out), json_string_value(json_array_get(c, 5))) != 0)
            fail_msg("case %zu: %d x %d to %d x %d, filter %d", k, in.w, in.h, out.w, out.h, at(c, 2));
    }
}

/* As a BMP, so that the whole way is walked. */
static void bmp_of(sv_buf *b, const sv_image *i)
{
    uint32_t row = ((uint32_t)i->w * 3 + 3) / 4 * 4, head[] = {54 + row * (uint32_t)i->h, 0, 54, 40, (uint32_t)i->w, (uint32_t)-i->h, 1 | 24 << 16, 0, 0, 0, 0, 0, 0};
    sv_buf_adds(b, "BM");
    sv_buf_add(b, head, sizeof head);
    for (int32_t y = 0; y < i->h; y++) {
        for (int32_t x = 0; x < i->w; x++)
            for (int c = 2; c >= 0; c--)
                sv_buf_addc(b, (char)i->rgb[(y * i->w + x) * 3 + c]);
        sv_buf_add(b, "\0\0", row - (uint32_t)i->w * 3);
    }
}

static void check_numbers(const char *name, const sv_image_prep *p, const sv_image *i, const json_t *c)
{
    size_t n = (size_t)i->w * (size_t)i->h, k;
    SV_AUTO(sv_freep) float *v = malloc(n * 3 * sizeof *v);
    double sum = 0, size = 0;
    const json_t *want;
    sv_image_prep_floats(v, p, i->rgb, (int64_t)n);
    for (size_t j = 0; j < n * 3; j++) {
        sum += (double)v[j];
        size += fabs((double)v[j]);
    }
    json_array_foreach(json_object_get(c, "first"), k, want)
        assert_float_equal(v[k], json_number_value(want), 1e-5);
    if (fabs(sum - json_number_value(json_object_get(c, "sum"))) > 1e-6 * size)
        fail_msg("%s: sum %g", name, sum);
}

static void preparation_is_that_of_transformers(void **state)
{
    size_t k, j;
    const json_t *kind, *c;
    (void)state;
    json_array_foreach(json_object_get(goldens, "prep"), k, kind) {
        const char *name = sv_json_cstr(kind, "name");
        sv_image_prep p = {0};
        sv_err err = {0};
        if (sv_image_prep_read(&p, json_object_get(kind, "config"), &err) != SV_OK)
            fail_msg("%s: %s", name, err.msg);
        assert_true(sv_image_prep_ok(&p));
        json_array_foreach(json_object_get(kind, "cases"), j, c) {
            int32_t w = (int32_t)json_integer_value(json_object_get(c, "w")), h = (int32_t)json_integer_value(json_object_get(c, "h")), w0, h0, fw, fh;
            SV_AUTO(sv_image_donep) sv_image in = formula(w, h);
            SV_AUTO(sv_image_donep) sv_image out = {0};
            SV_AUTO(sv_buf_donep) sv_buf file;
            sv_buf_init(&file, 0);
            bmp_of(&file, &in);
            if (sv_image_prep_run(&out, &w0, &h0, &p, sv_buf_str(&file), &err) != SV_OK)
                fail_msg("%s, %d x %d: %s", name, w, h, err.msg);
            assert_true(w0 == w && h0 == h);
            const json_t *to = json_object_get(c, "to");
            if (out.w != at(to, 0) || out.h != at(to, 1) || strcmp(hash_of(&out), sv_json_cstr(c, "sha")) != 0)
                fail_msg("%s, %d x %d: became %d x %d, wanted %d x %d, or other pixels", name, w, h, out.w, out.h, at(to, 0), at(to, 1));
            if (sv_image_prep_fixed(&p, &fw, &fh))
                assert_true(fw == out.w && fh == out.h);
            check_numbers(name, &p, &out, c);
        }
    }
}

static void refuse(const char *bytes, size_t n, sv_rc rc, const char *word)
{
    sv_image i = {0};
    sv_err err = {0};
    assert_int_equal(sv_image_decode(&i, (sv_str){bytes, n}, &err), rc);
    if (!strstr(err.msg, word))
        fail_msg("'%s' lacks '%s'", err.msg, word);
    assert_null(i.rgb);
}

static void what_is_no_picture_is_refused_with_a_sentence(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *big = calloc(SV_IMAGE_MAX_BYTES + 1, 1);
    refuse("", 0, SV_EFORMAT, "empty");
    refuse("hello, world", 12, SV_EFORMAT, "begin like no");
    refuse("\xff\xd8\xff", 3, SV_EFORMAT, "JPEG image");
    refuse("GIF89a", 6, SV_EFORMAT, "GIF image");
    refuse("RIFF\0\0\0\0WEBP", 12, SV_EFORMAT, "WebP image");
    refuse("\x89PNG\r\n\x1a\n", 8, SV_EFORMAT, "cut off");
    refuse("BM", 2, SV_EFORMAT, "cut off");
    refuse(big, SV_IMAGE_MAX_BYTES + 1, SV_ELIMIT, "at most");
}

/* Each file, cut at every length: no crash, and nothing but the whole one (or nearly) is a picture. */
static void files_that_are_cut_off_are_refused(void **state)
{
    const char *name;
    json_t *want;
    (void)state;
    json_object_foreach(json_object_get(goldens, "files"), name, want) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "images/%s", name);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_err err = {0};
        sv_buf_init(&b, 0);
        assert_int_equal(sv_file_read(&b, path, &err), SV_OK);
        for (size_t n = 0; n < b.n; n += 1 + n / 32) {
            sv_image i = {0};
            SV_AUTO(sv_freep) char *exact = malloc(n ? n : 1);
            memcpy(exact, b.p, n);
            sv_rc rc = sv_image_decode(&i, (sv_str){exact, n}, &err);
            if (rc == SV_OK && n < b.n * 3 / 4 && !strstr(name, "progressive") && !strstr(name, "moving"))
                fail_msg("%s: a picture of the first %zu of %zu bytes", name, n, b.n);
            sv_image_done(&i);
        }
    }
}

/* Headers that promise much are refused before anything is reserved. */
static void bombs_are_refused_by_their_header(void **state)
{
    (void)state;
    static const char gif[] = "GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;";
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x7f\xff\0\0\x7f\xff\x08\x02\0\0\0\xdf\x02\xde\x29";
    static const char bmp[] = "BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\x7f\0\0\xff\x7f\0\0\1\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0abcd";
    static const char jpeg[] = "\xff\xd8\xff\xc0\0\x11\x08\xfd\xe8\xfd\xe8\3\1\x22\0\2\x11\0\3\x11\0\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0";
    refuse(gif, sizeof gif - 1, SV_ELIMIT, "65535 x 65535");
    refuse(png, sizeof png - 1, SV_EFORMAT, "PNG image"); /* its checksum is wrong here: refused even earlier */
    refuse(bmp, sizeof bmp - 1, SV_ELIMIT, "32767 x 32767");
    refuse(jpeg, sizeof jpeg - 1, SV_ELIMIT, "65000 x 65000");
}

static void preparations_that_make_no_sense_are_refused(void **state)
{
    static const struct { const char *json, *word; } cases[] = {
        {"{\"size\":{}}", "'size'"}, {"{\"size\":{\"height\":3}}", "'size'"}, {"{\"size\":-1}", "size"}, {"{\"size\":{\"shortest_edge\":100000}}", "shortest_edge"},
        {"{\"size\":32,\"resample\":9}", "resample"}, {"{\"size\":32,\"image_std\":[0,1,1]}", "image_std"}, {"{\"size\":32,\"image_mean\":[0,1]}", "image_mean"},
        {"{\"size\":32,\"crop_size\":{\"height\":3}}", "crop_size"}, {"{\"size\":32,\"image_mean\":\"x\"}", "image_mean"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        json_t *config = NULL;
        sv_image_prep p;
        sv_err err = {0};
        assert_int_equal(sv_json_parse(&config, sv_str_of(cases[i].json), &err), SV_OK);
        if (sv_image_prep_read(&p, config, &err) == SV_OK || !strstr(err.msg, cases[i].word))
            fail_msg("%s: '%s'", cases[i].json, err.msg);
        json_decref(config);
    }
}

/* The whole way through a process of its own, hostile files among it. */
static void a_cage_gives_the_same_pixels_and_survives_broken_files(void **state)
{
    static const sv_cage_fn fn = sv_image_prep_cage;
    SV_AUTO(sv_cage_freep) sv_cage *c = NULL;
    sv_image_prep p;
    sv_err err = {0};
    const char *name;
    json_t *want;
    (void)state;
    assert_int_equal(sv_image_prep_read(&p, NULL, &err), SV_OK);
    assert_int_equal(sv_cage_new(&c, &fn, 1, &(sv_cage_opts){0}, &err), SV_OK);
    json_object_foreach(json_object_get(goldens, "files"), name, want) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "images/%s", name);
        SV_AUTO(sv_buf_donep) sv_buf file;
        SV_AUTO(sv_buf_donep) sv_buf out;
        SV_AUTO(sv_image_donep) sv_image here = {0};
        sv_image_caged head;
        const uint8_t *rgb;
        int32_t w0, h0;
        sv_buf_init(&file, 0);
        sv_buf_init(&out, 0);
        assert_int_equal(sv_file_read(&file, path, &err), SV_OK);
        if (sv_cage_run(c, 0, (sv_str){(const char *)&p, sizeof p}, sv_buf_str(&file), &out, NULL, &err) != SV_OK)
            fail_msg("%s: %s", name, err.msg);
        assert_int_equal(sv_image_caged_get(&head, &rgb, sv_buf_str(&out), &err), SV_OK);
        assert_int_equal(sv_image_prep_run(&here, &w0, &h0, &p, sv_buf_str(&file), &err), SV_OK);
        assert_true(head.w == 224 && head.h == 224 && head.w0 == w0 && head.h0 == h0);
        assert_memory_equal(rgb, here.rgb, 224 * 224 * 3);
        assert_int_equal(sv_image_caged_get(&head, &rgb, (sv_str){out.p, out.n - 1}, &err), SV_EFORMAT);
        SV_AUTO(sv_image_donep) sv_image part = {0};
        sv_str third = {file.p, file.n / 3};
        bool same = (sv_cage_run(c, 0, (sv_str){(const char *)&p, sizeof p}, third, &out, NULL, &err) == SV_OK) ==
                    (sv_image_prep_run(&part, &w0, &h0, &p, third, &err) == SV_OK);
        assert_true(same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_are_those_of_pillow),
        cmocka_unit_test(the_shared_corpora_decode_as_in_pillow_or_are_refused),
        cmocka_unit_test(resizing_is_pillows_bit_for_bit),
        cmocka_unit_test(preparation_is_that_of_transformers),
        cmocka_unit_test(what_is_no_picture_is_refused_with_a_sentence),
        cmocka_unit_test(files_that_are_cut_off_are_refused),
        cmocka_unit_test(bombs_are_refused_by_their_header),
        cmocka_unit_test(preparations_that_make_no_sense_are_refused),
        cmocka_unit_test(a_cage_gives_the_same_pixels_and_survives_broken_files),
    };
    return cmocka_run_group_tests(tests, read_goldens, drop_goldens);
}
