/* gguf_test.c - reading GGUF files, and above all refusing them
 *
 * Files are built here field by field, so that each test can break one. Every parse sees a block of exactly the file's size, so that
 * the address sanitizer finds a read past the end. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "nn/gguf.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 }; /* value types of the format */

/* --- building ----------------------------------------------------------------------------------------------------- */

typedef struct file { uint8_t p[4096]; size_t n; } file;

static void put(file *f, const void *p, size_t n)
{
    assert_true(n <= sizeof f->p - f->n);
    memcpy(f->p + f->n, p, n);
    f->n += n;
}

static void put_u32(file *f, uint32_t v) { put(f, &v, sizeof v); }
static void put_u64(file *f, uint64_t v) { put(f, &v, sizeof v); }

static void put_str(file *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

static file header(uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    file f = {.n = 0};
    put(&f, "GGUF", 4);
    put_u32(&f, version);
    put_u64(&f, n_tensors);
    put_u64(&f, n_kv);
    return f;
}

static void key(file *f, const char *name, uint32_t type)
{
    put_str(f, name);
    put_u32(f, type);
}

static void key_u32(file *f, const char *name, uint32_t v)
{
    key(f, name, U32);
    put_u32(f, v);
}

static void key_arr(file *f, const char *name, uint32_t elem, uint64_t n)
{
    key(f, name, ARR);
    put_u32(f, elem);
    put_u64(f, n);
}

static void tensor(file *f, const char *name, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_str(f, name);
    put_u32(f, n_dims);
    if (n_dims > 0)
        put(f, dims, n_dims * sizeof *dims);
    put_u32(f, type);
    put_u64(f, offset);
}

static void pad(file *f, size_t alignment)
{
    while (f->n % alignment != 0)
        put(f, "", 1);
}

/* Every value type once, two tensors of 32 and 34 bytes. */
static file small_file(void)
{
    static const float floats[3] = {1.5f, -2.0f, 0.25f};
    static const int32_t ints[2] = {7, -1};
    static const uint32_t uints[2] = {3, 2147483647};
    double d = 0.5;
    int64_t big = -5000000000;
    int8_t i8 = -3;
    int16_t i16 = -300;
    int32_t i32 = -70000;
    float f32 = 1e-5f;
    uint16_t u16 = 60000;

    file f = header(3, 2, 16);
    key(&f, "a.string", STR), put_str(&f, "llama");
    key(&f, "a.u8", U8), put(&f, "\xc8", 1);
    key(&f, "a.i8", I8), put(&f, &i8, 1);
    key(&f, "a.u16", U16), put(&f, &u16, 2);
    key(&f, "a.i16", I16), put(&f, &i16, 2);
    key_u32(&f, "a.u32", 4000000000u);
    key(&f, "a.i32", I32), put(&f, &i32, 4);
    key(&f, "a.f32", F32), put(&f, &f32, 4);
    key(&f, "a.bool", BOOL), put(&f, "\1", 1);
    key(&f, "a.u64", U64), put_u64(&f, UINT64_MAX);
    key(&f, "a.i64", I64), put(&f, &big, 8);
    key(&f, "a.f64", F64), put(&f, &d, 8);
    key_arr(&f, "a.floats", F32, 3), put(&f, floats, sizeof floats);
    key_arr(&f, "a.ints", I32, 2), put(&f, ints, sizeof ints);
    key_arr(&f, "a.uints", U32, 2), put(&f, uints, sizeof uints);
    key_arr(&f, "a.strings", STR, 3), put_str(&f, "one"), put_str(&f, ""), put_str(&f, "three");
    tensor(&f, "x.weight", 2, (uint64_t[]){4, 2}, SV_F32, 0);
    tensor(&f, "y.weight", 1, (uint64_t[]){32}, SV_Q8_0, 32);
    pad(&f, 32);
    for (int i = 0; i < 8; i++)
        put(&f, &(float){(float)i}, 4);
    for (int i = 0; i < 34; i++)
        put(&f, &(uint8_t){(uint8_t)(i + 1)}, 1);
    return f;
}

/* --- parsing ------------------------------------------------------------------------------------------------------ */

/* Parses n bytes of their own; *copy keeps them. A refusal says why in one line. */
static sv_rc parse(sv_gguf **g, void **copy, const uint8_t *p, size_t n, sv_err *err)
{
    *copy = malloc(n ? n : 1);
    memcpy(*copy, p, n);
    *g = NULL;
    *err = (sv_err){0};
    sv_rc rc = sv_gguf_parse(g, *copy, n, err);
    if (rc != SV_OK) {
        assert_null(*g);
        assert_int_equal(rc, err->code);
        assert_true(err->msg[0] != '\0' && !strchr(err->msg, '\n'));
    }
    return rc;
}

static void done(sv_gguf *g, void *copy)
{
    sv_gguf_close(g);
    free(copy);
}

static void refused(const file *f, const char *why)
{
    sv_gguf *g;
    void *copy;
    sv_err err;
    if (parse(&g, &copy, f->p, f->n, &err) != SV_EFORMAT)
        fail_msg("accepted, wanted '%s'", why);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
    done(g, copy);
}

static void accepted(const file *f)
{
    sv_gguf *g;
    void *copy;
    sv_err err;
    if (parse(&g, &copy, f->p, f->n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    done(g, copy);
}

/* --- what a good file gives --------------------------------------------------------------------------------------- */

static void metadata_reads_back(void **state)
{
    (void)state;
    file f = small_file();
    sv_gguf *g;
    void *copy;
    sv_err err;
    assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);

    static const struct { const char *key; int64_t v; } ints[] = {
        {"a.u8", 200}, {"a.i8", -3}, {"a.u16", 60000}, {"a.i16", -300}, {"a.u32", 4000000000}, {"a.i32", -70000}, {"a.i64", -5000000000}};
    for (size_t i = 0; i < SV_LEN(ints); i++) {
        int64_t v = 0;
        assert_int_equal(sv_gguf_i64(g, ints[i].key, INT64_MIN, INT64_MAX, &v, &err), SV_OK);
        assert_int_equal(v, ints[i].v);
    }
    float x = 0, half = 0, whole = 0;
    bool b = false;
    sv_str s = {0};
    assert_int_equal(sv_gguf_f32(g, "a.f32", &x, &err), SV_OK);
    assert_int_equal(sv_gguf_f32(g, "a.f64", &half, &err), SV_OK);
    assert_int_equal(sv_gguf_f32(g, "a.u16", &whole, &err), SV_OK);
    assert_true(x == 1e-5f && half == 0.5f && whole == 60000.0f);
    assert_int_equal(sv_gguf_bool(g, "a.bool", &b, &err), SV_OK);
    assert_true(b);
    assert_int_equal(sv_gguf_str(g, "a.string", &s, &err), SV_OK);
    assert_true(sv_str_is(s, "llama"));
    assert_true(sv_gguf_has(g, "a.u8") && !sv_gguf_has(g, "a.u9"));
    assert_int_equal(sv_gguf_size(g), f.n);
    done(g, copy);
}

static void arrays_read_back_wherever_they_lie(void **state)
{
    (void)state;
    static const float floats[3] = {1.5f, -2.0f, 0.25f};
    for (int shift = 0; shift < 4; shift++) { /* a key of another length moves the array */
        static const char *const names[] = {"k", "kk", "kkk", "kkkk"};
        file f = header(3, 0, 2);
        sv_gguf *g;
        void *copy;
        sv_err err;
        const float *fs = NULL;
        const sv_str *ss = NULL;
        size_t n = 9;
        key_arr(&f, names[shift], F32, 3), put(&f, floats, sizeof floats);
        key_arr(&f, "s", STR, 2), put_str(&f, "one"), put_str(&f, "");
        assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);
        assert_int_equal(sv_gguf_arr_f32(g, names[shift], &fs, &n, &err), SV_OK);
        assert_int_equal(n, 3);
        assert_int_equal((uintptr_t)fs % sizeof *fs, 0);
        assert_memory_equal(fs, floats, sizeof floats);
        assert_int_equal(sv_gguf_arr_str(g, "s", &ss, &n, &err), SV_OK);
        assert_true(n == 2 && sv_str_is(ss[0], "one") && ss[1].n == 0);
        assert_int_equal(sv_gguf_arr_f32(g, "absent", &fs, &n, &err), SV_OK);
        assert_int_equal(n, 0);
        done(g, copy);
    }
}

static void tensors_are_found_by_name_and_number(void **state)
{
    (void)state;
    file f = small_file();
    sv_gguf *g;
    void *copy;
    sv_err err;
    assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);
    assert_int_equal(sv_gguf_n_tensors(g), 2);
    const sv_tensor *x = sv_gguf_tensor(g, "x.weight"), *y = sv_gguf_tensor(g, "y.weight");
    assert_ptr_equal(x, sv_gguf_tensor_at(g, 0));
    assert_ptr_equal(y, sv_gguf_tensor_at(g, 1));
    assert_null(sv_gguf_tensor(g, "x"));
    assert_string_equal(x->name, "x.weight");
    assert_true(x->type == SV_F32 && x->n_dims == 2 && x->dims[0] == 4 && x->dims[1] == 2 && x->dims[2] == 1 && x->dims[3] == 1);
    assert_true(x->n_bytes == 32 && ((const float *)x->data)[7] == 7.0f);
    assert_true(y->type == SV_Q8_0 && y->n_bytes == 34 && ((const uint8_t *)y->data)[33] == 34);
    done(g, copy);
}

static void versions_2_and_3_are_read(void **state)
{
    (void)state;
    file f = small_file();
    f.p[4] = 2;
    accepted(&f);
    f.p[4] = 1;
    refused(&f, "version 1");
    f.p[4] = 4;
    refused(&f, "version 4");
    f.p[4] = 0;
    refused(&f, "version 0");
    f.p[7] = 3;
    refused(&f, "big-endian");
    f.p[0] = 'X';
    refused(&f, "no GGUF file");
}

static void getters_refuse_what_does_not_fit(void **state)
{
    (void)state;
    file f = small_file();
    sv_gguf *g;
    void *copy;
    sv_err err = {0};
    int64_t v = 42;
    float x = 42;
    bool b = true;
    sv_str s = SV_STR("kept");
    const float *fs = NULL;
    const int32_t *is = NULL;
    const sv_str *ss = NULL;
    size_t n = 42;
    assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);
    assert_int_equal(sv_gguf_i64(g, "absent", 0, 1, &v, &err), SV_OK);
    assert_int_equal(sv_gguf_i64(g, "a.u8", 0, 199, &v, &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "key 'a.u8': 200 is out of 0 to 199"));
    assert_int_equal(sv_gguf_i64(g, "a.i8", 0, 199, &v, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_i64(g, "a.u64", INT64_MIN, INT64_MAX, &v, &err), SV_EFORMAT); /* over INT64_MAX */
    static const char *const no_ints[] = {"a.f32", "a.f64", "a.bool", "a.string", "a.ints"};
    for (size_t i = 0; i < SV_LEN(no_ints); i++) {
        assert_int_equal(sv_gguf_i64(g, no_ints[i], INT64_MIN, INT64_MAX, &v, &err), SV_EFORMAT);
        assert_non_null(strstr(err.msg, no_ints[i]));
    }
    assert_int_equal(v, 42);
    assert_int_equal(sv_gguf_f32(g, "absent", &x, &err), SV_OK);
    assert_int_equal(sv_gguf_f32(g, "a.string", &x, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_f32(g, "a.bool", &x, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_bool(g, "a.u8", &b, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_str(g, "a.strings", &s, &err), SV_EFORMAT);
    assert_true(x == 42.0f && b && sv_str_is(s, "kept"));
    assert_int_equal(sv_gguf_arr_f32(g, "a.ints", &fs, &n, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_arr_f32(g, "a.f32", &fs, &n, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_arr_str(g, "a.floats", &ss, &n, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_arr_i32(g, "a.floats", &is, &n, &err), SV_EFORMAT);
    assert_int_equal(n, 42);
    assert_int_equal(sv_gguf_arr_i32(g, "a.ints", &is, &n, &err), SV_OK);
    assert_true(n == 2 && is[0] == 7 && is[1] == -1);
    assert_int_equal(sv_gguf_arr_i32(g, "a.uints", &is, &n, &err), SV_OK);
    assert_true(n == 2 && is[1] == INT32_MAX);
    done(g, copy);
}

static void unsigned_elements_over_int32_are_refused(void **state)
{
    (void)state;
    file f = header(3, 0, 1);
    sv_gguf *g;
    void *copy;
    sv_err err;
    const int32_t *is = NULL;
    size_t n = 0;
    key_arr(&f, "u", U32, 2), put_u32(&f, 1), put_u32(&f, 0x80000000u);
    assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);
    assert_int_equal(sv_gguf_arr_i32(g, "u", &is, &n, &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "element 1"));
    done(g, copy);
}

/* --- what a bad file gives ---------------------------------------------------------------------------------------- */

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    file f = small_file();
    sv_gguf *g;
    void *copy;
    sv_err err;
    for (size_t n = 0; n < f.n; n++) {
        if (parse(&g, &copy, f.p, n, &err) != SV_EFORMAT)
            fail_msg("accepted %zu of %zu bytes", n, f.n);
        done(g, copy);
    }
    accepted(&f);
}

/* Reads everything that a file gives, as a model would. */
static void read_all(const sv_gguf *g)
{
    static const char *const keys[] = {"a.string", "a.u8", "a.i8", "a.u16", "a.i16", "a.u32", "a.i32", "a.f32", "a.bool",
                                       "a.u64", "a.i64", "a.f64", "a.floats", "a.ints", "a.uints", "a.strings"};
    volatile unsigned sum = 0;
    for (size_t i = 0; i < SV_LEN(keys); i++) {
        sv_err err;
        int64_t v = 0;
        float x = 0;
        bool b = false;
        sv_str s = {0};
        const float *fs = NULL;
        const int32_t *is = NULL;
        const sv_str *ss = NULL;
        size_t n = 0;
        if (sv_gguf_i64(g, keys[i], INT64_MIN, INT64_MAX, &v, &err) + sv_gguf_f32(g, keys[i], &x, &err) + sv_gguf_bool(g, keys[i], &b, &err) == 0)
            sum += (unsigned)v;
        if (sv_gguf_str(g, keys[i], &s, &err) == SV_OK)
            for (size_t j = 0; j < s.n; j++)
                sum += (uint8_t)s.p[j];
        if (sv_gguf_arr_f32(g, keys[i], &fs, &n, &err) == SV_OK)
            for (size_t j = 0; j < n; j++)
                sum += fs[j] > 0;
        if (sv_gguf_arr_i32(g, keys[i], &is, &n, &err) == SV_OK)
            for (size_t j = 0; j < n; j++)
                sum += (unsigned)is[j];
        if (sv_gguf_arr_str(g, keys[i], &ss, &n, &err) == SV_OK)
            for (size_t j = 0; j < n; j++)
                sum += ss[j].n ? (uint8_t)ss[j].p[ss[j].n - 1] : 0;
    }
    for (size_t i = 0; i < sv_gguf_n_tensors(g); i++) {
        const sv_tensor *t = sv_gguf_tensor_at(g, i);
        const uint8_t *p = t->data;
        for (size_t j = 0; j < t->n_bytes; j++)
            sum += p[j];
    }
}

static void a_file_with_any_byte_changed_is_read_or_refused(void **state)
{
    (void)state;
    file f = small_file();
    int n_refused = 0;
    for (size_t at = 0; at < f.n; at++) {
        uint8_t was = f.p[at];
        const uint8_t to[] = {0, 1, 0x7f, 0x80, 0xff, (uint8_t)(was + 1), (uint8_t)(was - 1), (uint8_t)(was ^ 0x20)};
        for (size_t i = 0; i < sizeof to; i++) {
            sv_gguf *g;
            void *copy;
            sv_err err;
            f.p[at] = to[i];
            if (parse(&g, &copy, f.p, f.n, &err) == SV_OK)
                read_all(g);
            else
                n_refused++;
            done(g, copy);
        }
        f.p[at] = was;
    }
    assert_true(n_refused > 1000);
}

static void counts_beyond_the_file_are_refused(void **state)
{
    (void)state;
    static const uint64_t counts[] = {2, 1000, 1u << 31, UINT64_C(1) << 60, UINT64_C(1) << 61, INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < SV_LEN(counts); i++) {
        file f = header(3, 0, counts[i]);
        key_u32(&f, "k", 1);
        refused(&f, "keys in");
        f = header(3, counts[i], 1);
        key_u32(&f, "k", 1);
        tensor(&f, "t", 1, (uint64_t[]){1}, SV_F32, 0);
        refused(&f, "tensors in");
        static const uint32_t elems[] = {U8, F32, STR, F64};
        for (size_t e = 0; e < SV_LEN(elems); e++) {
            f = header(3, 0, 1);
            key_arr(&f, "key.array", elems[e], counts[i]), put(&f, "\0", 1);
            refused(&f, "key 'key.array'");
        }
        f = header(3, 0, 1);
        key(&f, "key.string", STR), put_u64(&f, counts[i]), put(&f, "x", 1);
        refused(&f, "key 'key.string'");
        f = header(3, 0, 1);
        key_arr(&f, "key.strings", STR, 1), put_u64(&f, counts[i]), put(&f, "x", 1);
        refused(&f, "key 'key.strings'");
        f = header(3, 0, 1);
        put_u64(&f, counts[i]), put(&f, "xxxxxxxxx", 9); /* the key's own length */
        if (counts[i] > 9)
            refused(&f, "key 0");
        f = header(3, 1, 0);
        put_u64(&f, counts[i]), put(&f, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 33);
        if (counts[i] > 33)
            refused(&f, "tensor 0");
    }
}

static void value_types_that_are_none_are_refused(void **state)
{
    (void)state;
    static const uint32_t none[] = {13, 14, 255, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < SV_LEN(none); i++) {
        file f = header(3, 0, 1);
        key(&f, "some.key", none[i]), put_u64(&f, 0);
        refused(&f, "key 'some.key': unknown value type");
        f = header(3, 0, 1);
        key_arr(&f, "some.key", none[i], 0);
        refused(&f, "key 'some.key': unknown element type");
    }
    file f = header(3, 0, 1);
    key_arr(&f, "some.key", ARR, 1), put_u32(&f, U8), put_u64(&f, 1), put(&f, "x", 1);
    refused(&f, "key 'some.key': arrays of arrays");
    f = header(3, 0, 1);
    key(&f, "some.key", BOOL), put(&f, "\2", 1);
    refused(&f, "key 'some.key': a bool of 2");
}

static void names_are_unique_short_and_printable_in_messages(void **state)
{
    (void)state;
    file f = header(3, 0, 2);
    key_u32(&f, "same", 1), key_u32(&f, "same", 2);
    refused(&f, "key 'same' is there twice");
    f = header(3, 2, 0);
    tensor(&f, "same", 1, (uint64_t[]){8}, SV_F32, 0), tensor(&f, "same", 1, (uint64_t[]){8}, SV_F32, 32);
    pad(&f, 32), put(&f, (char[64]){0}, 64);
    refused(&f, "tensor 'same' is there twice");

    f = header(3, 0, 1);
    key_u32(&f, "", 1);
    refused(&f, "a name has 1 to 256");
    f = header(3, 0, 1);
    put_u64(&f, 3), put(&f, "a\0b", 3), put_u32(&f, U32), put_u32(&f, 1);
    refused(&f, "no zero byte");
    char name[258] = {0};
    memset(name, 'n', 256);
    f = header(3, 0, 1);
    key_u32(&f, name, 1);
    accepted(&f);
    name[256] = 'n';
    f = header(3, 0, 1);
    key_u32(&f, name, 1);
    refused(&f, "257 bytes");

    f = header(3, 0, 1);
    key(&f, "evil\n\x1b[2J%s%n\xff", 99);
    refused(&f, "'evil??[2J%s%n?'");
}

static file with_tensor(uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset, size_t n_data)
{
    file f = header(3, 1, 0);
    tensor(&f, "blk.0.w", n_dims, dims, type, offset);
    pad(&f, 32);
    for (size_t i = 0; i < n_data; i++)
        put(&f, "", 1);
    return f;
}

static void shapes_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const uint64_t huge[] = {UINT64_C(1) << 32, UINT64_C(1) << 31, 2, 1}, most[] = {INT64_MAX, 1, 1, 1}, over[] = {UINT64_MAX, 1};
    file f = with_tensor(1, (uint64_t[]){8}, SV_F32, 0, 32);
    accepted(&f);
    f = with_tensor(0, NULL, SV_F32, 0, 32);
    refused(&f, "tensor 'blk.0.w': 0 dims");
    f = with_tensor(5, (uint64_t[]){1, 1, 1, 1, 1}, SV_F32, 0, 32);
    refused(&f, "tensor 'blk.0.w': 5 dims");
    f = with_tensor(2, (uint64_t[]){8, 0}, SV_F32, 0, 32);
    refused(&f, "tensor 'blk.0.w': dim 1 is 0");
    f = with_tensor(4, huge, SV_Q8_0, 0, 32);
    refused(&f, "tensor 'blk.0.w'");
    f = with_tensor(4, most, SV_F32, 0, 32);
    refused(&f, "tensor 'blk.0.w': 9223372036854775807 elements");
    f = with_tensor(2, over, SV_F32, 0, 32);
    refused(&f, "tensor 'blk.0.w': dim 0");
    f = with_tensor(1, (uint64_t[]){31}, SV_Q8_0, 0, 64);
    refused(&f, "tensor 'blk.0.w': rows of 31 elements do not divide into blocks of 32 (Q8_0)");
    f = with_tensor(2, (uint64_t[]){128, 2}, SV_Q4_K, 0, 144); /* 256 elements, but no whole row */
    refused(&f, "tensor 'blk.0.w': rows of 128");
    static const uint32_t none[] = {43, 200, 1000, UINT32_MAX};
    for (size_t i = 0; i < SV_LEN(none); i++) {
        f = with_tensor(1, (uint64_t[]){256}, none[i], 0, 2048);
        refused(&f, "tensor 'blk.0.w': unknown element type");
    }
    static const struct { uint32_t type; const char *name; } gone[] = {{4, "Q4_2"}, {31, "Q4_0_4_4"}, {38, "IQ4_NL_8_8"}, {41, "Q1_0"}};
    for (size_t i = 0; i < SV_LEN(gone); i++) {
        char why[80];
        snprintf(why, sizeof why, "tensor 'blk.0.w': element type %u (%s) is not supported", gone[i].type, gone[i].name);
        f = with_tensor(1, (uint64_t[]){256}, gone[i].type, 0, 2048);
        refused(&f, why);
    }
}

static void data_outside_the_file_is_refused(void **state)
{
    (void)state;
    file f = with_tensor(1, (uint64_t[]){8}, SV_F32, 0, 31);
    refused(&f, "tensor 'blk.0.w': 32 bytes at 0, but the file has 31");
    f = with_tensor(1, (uint64_t[]){8}, SV_F32, 32, 32);
    refused(&f, "tensor 'blk.0.w': 32 bytes at 32");
    f = with_tensor(1, (uint64_t[]){8}, SV_F32, UINT64_MAX - 31, 64);
    refused(&f, "tensor 'blk.0.w'");
    f = with_tensor(1, (uint64_t[]){8}, SV_F32, 16, 64);
    refused(&f, "tensor 'blk.0.w': offset 16 is not a multiple of 32");
    f = header(3, 1, 0); /* no data at all, not even the padding */
    tensor(&f, "blk.0.w", 1, (uint64_t[]){8}, SV_F32, 0);
    refused(&f, "tensor 'blk.0.w'");
}

static void tensors_that_share_bytes_are_refused(void **state)
{
    (void)state;
    static const uint64_t offsets[][2] = {{0, 0}, {0, 32}, {32, 0}, {64, 32}};
    for (size_t i = 0; i < SV_LEN(offsets); i++) {
        file f = header(3, 2, 0);
        tensor(&f, "a", 1, (uint64_t[]){10}, SV_F32, offsets[i][0]); /* 40 bytes reach into the next 32 */
        tensor(&f, "b", 1, (uint64_t[]){10}, SV_F32, offsets[i][1]);
        pad(&f, 32);
        put(&f, (char[128]){0}, 128);
        refused(&f, "overlap");
    }
    file f = header(3, 2, 0); /* in the other order is fine */
    tensor(&f, "a", 1, (uint64_t[]){10}, SV_F32, 64), tensor(&f, "b", 1, (uint64_t[]){10}, SV_F32, 0);
    pad(&f, 32);
    put(&f, (char[128]){0}, 128);
    accepted(&f);
}

static void alignments_are_powers_of_two(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 1, 3, 4, 7, 24, 48, 33, 1u << 25, 1u << 31, UINT32_MAX}, good[] = {8, 16, 32, 64, 256};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        file f = header(3, 1, 1);
        key_u32(&f, "general.alignment", bad[i]);
        tensor(&f, "t", 1, (uint64_t[]){8}, SV_F32, 0);
        pad(&f, 64), put(&f, (char[64]){0}, 64);
        refused(&f, "key 'general.alignment'");
    }
    for (size_t i = 0; i < SV_LEN(good); i++) {
        file f = header(3, 2, 1);
        key_u32(&f, "general.alignment", good[i]);
        tensor(&f, "t", 1, (uint64_t[]){1}, SV_F32, 0), tensor(&f, "u", 1, (uint64_t[]){1}, SV_F32, good[i]);
        pad(&f, good[i]), put(&f, &(float){1.0f}, 4), pad(&f, good[i]), put(&f, &(float){2.0f}, 4);
        sv_gguf *g;
        void *copy;
        sv_err err;
        assert_int_equal(parse(&g, &copy, f.p, f.n, &err), SV_OK);
        assert_true(*(const float *)sv_gguf_tensor(g, "t")->data == 1.0f && *(const float *)sv_gguf_tensor(g, "u")->data == 2.0f);
        done(g, copy);
    }
    file f = header(3, 0, 1);
    key(&f, "general.alignment", STR), put_str(&f, "32");
    refused(&f, "key 'general.alignment': type string");
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void a_refused_file_is_named(void **state)
{
    (void)state;
    char path[] = "/tmp/gguf_test_XXXXXX", want[128];
    int fd = mkstemp(path);
    sv_err err = {0};
    sv_gguf *g = NULL;
    assert_true(fd >= 0);
    assert_int_equal(sv_gguf_open(&g, path, &err), SV_EFORMAT); /* empty */
    assert_non_null(strstr(err.msg, path));

    file f = small_file();
    assert_int_equal(sv_write_all(fd, f.p, f.n - 1, &err), SV_OK);
    assert_int_equal(sv_gguf_open(&g, path, &err), SV_EFORMAT);
    snprintf(want, sizeof want, "'%s': tensor 'y.weight': 34 bytes at 32", path);
    assert_true(strncmp(err.msg, want, strlen(want)) == 0);

    assert_int_equal(sv_write_all(fd, f.p + f.n - 1, 1, &err), SV_OK);
    assert_int_equal(sv_gguf_open(&g, path, &err), SV_OK);
    assert_int_equal(sv_gguf_n_tensors(g), 2);
    read_all(g);
    g = sv_gguf_close(g);

    close(fd);
    unlink(path);
    assert_int_equal(sv_gguf_open(&g, path, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, path));
    assert_true(sv_gguf_open(&g, "/tmp", &err) != SV_OK); /* a folder */
    assert_null(g);
}

static void what_is_put_in_is_found(void **state)
{
    (void)state;
    static const float data[4] = {1, 2, 3, 4};
    const sv_tensor t = {.name = "as another format calls it", .type = SV_F32, .n_dims = 1, .dims = {4, 1, 1, 1}, .data = data, .n_bytes = 16};
    int64_t i = 0;
    float f = 0;
    sv_str s = {0};
    sv_err err = {0};
    const uint8_t *bools = NULL;
    size_t n = 0;
    sv_gguf *g = sv_gguf_new(4, 2);
    sv_gguf_put_i64(g, "i", -7);
    sv_gguf_put_f32(g, "f", 1.5f);
    sv_gguf_put_str(g, "s", SV_STR("text"));
    sv_gguf_put_bools(g, "b", (const bool[]){true, false, true}, 3);
    sv_gguf_put_tensor(g, "a", &t);
    sv_gguf_put_tensor(g, "b", &t);
    assert_int_equal(sv_gguf_i64(g, "i", -10, 10, &i, &err), SV_OK);
    assert_int_equal(i, -7);
    assert_int_equal(sv_gguf_i64(g, "i", 0, 10, &i, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_f32(g, "f", &f, &err), SV_OK);
    assert_true(f == 1.5f);
    assert_int_equal(sv_gguf_str(g, "s", &s, &err), SV_OK);
    assert_true(sv_str_is(s, "text"));
    assert_int_equal(sv_gguf_arr_bool(g, "b", &bools, &n, &err), SV_OK);
    assert_true(n == 3 && bools[0] && !bools[1] && bools[2]);
    assert_int_equal(sv_gguf_arr_bool(g, "none", &bools, &n, &err), SV_OK);
    assert_int_equal(n, 0);
    assert_int_equal(sv_gguf_arr_bool(g, "i", &bools, &n, &err), SV_EFORMAT);
    assert_int_equal(sv_gguf_n_tensors(g), 2);
    assert_ptr_equal(sv_gguf_tensor(g, "b"), sv_gguf_tensor_at(g, 1));
    assert_string_equal(sv_gguf_tensor(g, "b")->name, "b");
    assert_ptr_equal(sv_gguf_tensor(g, "a")->data, data);
    assert_null(sv_gguf_tensor(g, "c"));
    sv_gguf_close(g);
}

/* Part no of n, with one tensor of 8 floats, each no. */
static file part(uint32_t no, uint32_t n, const char *tensor_name, int32_t n_tensors)
{
    file f = header(3, 1, 3);
    float v = (float)no;
    key(&f, "split.no", U16), put(&f, &no, 2);
    key(&f, "split.count", U16), put(&f, &n, 2);
    key(&f, "split.tensors.count", I32), put(&f, &n_tensors, 4);
    tensor(&f, tensor_name, 1, (uint64_t[]){8}, SV_F32, 0);
    pad(&f, 32);
    for (int i = 0; i < 8; i++)
        put(&f, &v, 4);
    return f;
}

static void write_part(const char *folder, int no, int n, const file *f)
{
    char path[128];
    sv_err err = {0};
    snprintf(path, sizeof path, "%s/m-%05d-of-%05d.gguf", folder, no, n);
    assert_int_equal(sv_file_replace(path, f->p, f->n, 0600, &err), SV_OK);
}

static void parts_refused(const char *path, const char *why)
{
    sv_gguf *g = NULL;
    sv_err err = {0};
    assert_true(sv_gguf_open(&g, path, &err) != SV_OK);
    assert_null(g);
    if (!strstr(err.msg, why))
        fail_msg("'%s' says not '%s'", err.msg, why);
}

static void parts_are_opened_together(void **state)
{
    (void)state;
    char folder[] = "/tmp/gguf_test_XXXXXX", first[128], second[128];
    sv_gguf *g = NULL;
    sv_err err = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(first, sizeof first, "%s/m-00001-of-00003.gguf", folder);
    snprintf(second, sizeof second, "%s/m-00002-of-00003.gguf", folder);
    size_t size = 0;
    for (uint32_t no = 0; no < 3; no++) {
        char name[] = {'t', (char)('a' + no), '\0'};
        file f = part(no, 3, name, 3);
        write_part(folder, (int)no + 1, 3, &f);
        size += f.n;
    }
    if (sv_gguf_open(&g, first, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sv_gguf_n_tensors(g), 3);
    assert_int_equal(sv_gguf_size(g), size);
    for (size_t i = 0; i < 3; i++) {
        char name[] = {'t', (char)('a' + i), '\0'};
        assert_ptr_equal(sv_gguf_tensor(g, name), sv_gguf_tensor_at(g, i));
        assert_true(((const float *)sv_gguf_tensor_at(g, i)->data)[7] == (float)i);
    }
    assert_null(sv_gguf_tensor(g, "td"));
    g = sv_gguf_close(g);

    parts_refused(second, "part 2 of 3; name the first");
    file f = part(1, 3, "ta", 3);
    write_part(folder, 2, 3, &f);
    parts_refused(first, "tensor 'ta' is in two parts");
    f = part(1, 3, "tb", 4);
    write_part(folder, 2, 3, &f); /* only the first one's count is asked */
    assert_int_equal(sv_gguf_open(&g, first, &err), SV_OK);
    g = sv_gguf_close(g);
    f = part(0, 3, "ta", 4);
    write_part(folder, 1, 3, &f);
    parts_refused(first, "its parts have 3 tensors, wanted 4");
    f = part(0, 3, "ta", 3);
    write_part(folder, 1, 3, &f);
    f = part(2, 3, "tb", 3);
    write_part(folder, 2, 3, &f);
    parts_refused(first, "m-00002-of-00003.gguf': part 3 of 3 by its keys, 2 of 3 by its name");
    f.n -= 5;
    write_part(folder, 2, 3, &f);
    parts_refused(first, "m-00002-of-00003.gguf': tensor 'tb'");
    assert_int_equal(unlink(second), 0);
    parts_refused(first, "m-00002-of-00003.gguf");
    f = part(0, 3, "ta", 3);
    snprintf(second, sizeof second, "%s/m.gguf", folder);
    assert_int_equal(sv_file_replace(second, f.p, f.n, 0600, &err), SV_OK);
    parts_refused(second, "one of 3 parts, but it is not called NAME-00001-of-00003.gguf");
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

static const char *shared(char out[512], const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    snprintf(out, 512, "%s/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", name);
    if (!sv_file_exists(out)) {
        print_message("%s is not there: skipped\n", out);
        skip();
    }
    return out;
}

static void a_real_model_is_read(void **state)
{
    (void)state;
    static const struct { const char *key; int64_t v; } want[] = {{"llama.embedding_length", 64}, {"llama.block_count", 5},
        {"llama.attention.head_count", 8}, {"llama.attention.head_count_kv", 4}, {"llama.feed_forward_length", 172}};
    char path[512];
    sv_err err = {0};
    sv_gguf *g = NULL;
    if (sv_gguf_open(&g, shared(path, "models/stories260K/stories260K.gguf"), &err) != SV_OK)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < SV_LEN(want); i++) {
        int64_t v = 0;
        assert_int_equal(sv_gguf_i64(g, want[i].key, 0, INT64_MAX, &v, &err), SV_OK);
        assert_int_equal(v, want[i].v);
    }
    const sv_tensor *t = sv_gguf_tensor(g, "token_embd.weight");
    assert_true(t && t->type == SV_F32 && t->dims[0] == 64 && t->dims[1] == 512);
    const sv_str *tokens = NULL;
    size_t n = 0;
    assert_int_equal(sv_gguf_arr_str(g, "tokenizer.ggml.tokens", &tokens, &n, &err), SV_OK);
    assert_int_equal(n, 512);
    sv_gguf_close(g);
}

/* Calls fn for each *.gguf of a shared folder; how many there were. */
static int each_shared(const char *folder, void (*fn)(const char *path))
{
    char base[512], path[1024];
    int n = 0;
    DIR *dir = opendir(shared(base, folder));
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", base, e->d_name);
        fn(path);
        n++;
    }
    closedir(dir);
    return n;
}

static void read_vocabulary(const char *path)
{
    sv_err err = {0};
    sv_gguf *g = NULL;
    const sv_str *tokens = NULL;
    const int32_t *types = NULL;
    size_t n = 0, n_types = 0;
    if (sv_gguf_open(&g, path, &err) != SV_OK || sv_gguf_arr_str(g, "tokenizer.ggml.tokens", &tokens, &n, &err) != SV_OK ||
        sv_gguf_arr_i32(g, "tokenizer.ggml.token_type", &types, &n_types, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_true(n >= 30000 && n_types == n);
    sv_gguf_close(g);
}

static void real_vocabularies_are_read(void **state)
{
    (void)state;
    assert_true(each_shared("tokenizers/llama.cpp", read_vocabulary) > 3);
}

static void read_or_refuse(const char *path)
{
    sv_err err = {0};
    sv_gguf *g = NULL;
    if (sv_gguf_open(&g, path, &err) == SV_OK)
        read_all(g);
    else
        assert_true(err.code == SV_EFORMAT && strstr(err.msg, path));
    sv_gguf_close(g);
}

static void odd_fixtures_of_others_are_read_or_refused(void **state)
{
    (void)state;
    assert_true(each_shared("formats/gguf", read_or_refuse) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_reads_back),
        cmocka_unit_test(arrays_read_back_wherever_they_lie),
        cmocka_unit_test(tensors_are_found_by_name_and_number),
        cmocka_unit_test(versions_2_and_3_are_read),
        cmocka_unit_test(getters_refuse_what_does_not_fit),
        cmocka_unit_test(unsigned_elements_over_int32_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_file_with_any_byte_changed_is_read_or_refused),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(value_types_that_are_none_are_refused),
        cmocka_unit_test(names_are_unique_short_and_printable_in_messages),
        cmocka_unit_test(shapes_that_make_no_sense_are_refused),
        cmocka_unit_test(data_outside_the_file_is_refused),
        cmocka_unit_test(tensors_that_share_bytes_are_refused),
        cmocka_unit_test(alignments_are_powers_of_two),
        cmocka_unit_test(a_refused_file_is_named),
        cmocka_unit_test(parts_are_opened_together),
        cmocka_unit_test(what_is_put_in_is_found),
        cmocka_unit_test(a_real_model_is_read),
        cmocka_unit_test(real_vocabularies_are_read),
        cmocka_unit_test(odd_fixtures_of_others_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
