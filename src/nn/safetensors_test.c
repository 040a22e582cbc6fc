/* safetensors_test.c - reading safetensors files, and refusing broken ones
 *
 * Every parse sees a block of exactly the file's size, so that the address sanitizer finds a read past the end. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "nn/safetensors.h"

/* --- building ----------------------------------------------------------------------------------------------------- */

typedef struct file { uint8_t *p; size_t n; } file;

static file file_of(const char *header, size_t n_data)
{
    uint64_t n = strlen(header);
    file f = {sv_xcalloc(1, 8 + n + n_data), 8 + n + n_data};
    memcpy(f.p, &n, 8);
    memcpy(f.p + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        f.p[8 + n + i] = (uint8_t)i;
    return f;
}

static void refused(const char *header, size_t n_data, const char *why)
{
    file f = file_of(header, n_data);
    sv_safetensors *s = NULL;
    sv_err err = {0};
    if (sv_safetensors_parse(&s, f.p, f.n, &err) != SV_EFORMAT)
        fail_msg("read: %s", header);
    assert_null(s);
    if (!strstr(err.msg, why))
        fail_msg("'%s' says not '%s'", err.msg, why);
    free(f.p);
}

static sv_safetensors *accepted(const file *f)
{
    sv_safetensors *s = NULL;
    sv_err err = {0};
    if (sv_safetensors_parse(&s, f->p, f->n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return s;
}

#define TWO_TENSORS                                                                      \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                             \
    "\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"         \
    "\"mask\":{\"dtype\":\"BOOL\",\"shape\":[4],\"data_offsets\":[12,16]},"              \
    "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]},"              \
    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[16,16]}}  "

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void tensors_are_read_with_their_shape_backwards(void **state)
{
    (void)state;
    file f = file_of(TWO_TENSORS, 24);
    sv_safetensors *s = accepted(&f);
    const sv_tensor *a = sv_safetensors_tensor(s, "a.weight"), *scalar = sv_safetensors_tensor(s, "scalar");
    assert_int_equal(sv_safetensors_n_tensors(s), 3);
    assert_int_equal(sv_safetensors_size(s), f.n);
    assert_string_equal(a->name, "a.weight");
    assert_int_equal(a->type, SV_BF16);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->dims[0], 3);
    assert_int_equal(a->dims[1], 2);
    assert_int_equal(a->dims[2], 1);
    assert_int_equal(a->n_bytes, 12);
    assert_ptr_equal(a->data, f.p + f.n - 24);
    assert_int_equal(scalar->n_dims, 0);
    assert_int_equal(scalar->dims[0], 1);
    assert_int_equal(((const uint8_t *)scalar->data)[0], 16);
    assert_int_equal(sv_safetensors_tensor(s, "none")->n_bytes, 0);
    assert_null(sv_safetensors_tensor(s, "mask"));
    assert_string_equal(sv_safetensors_why_not(s, "mask"), "BOOL");
    assert_null(sv_safetensors_why_not(s, "a.weight"));
    assert_null(sv_safetensors_tensor(s, "b"));
    assert_null(sv_safetensors_tensor(s, "__metadata__"));
    sv_safetensors_close(s);
    free(f.p);
}

static void entries_that_make_no_sense_are_refused(void **state)
{
    (void)state;
#define ONE(dtype, shape, offsets) "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct { const char *header; size_t n_data; const char *why; } cases[] = {
        {ONE("\"F32\"", "[2,2]", "[0,15]"), 16, "tensor 't': 15 bytes from 0 to 15, but its shape and type have 16"},
        {ONE("\"F32\"", "[2,2]", "[0,16]"), 15, "tensor 't': it ends at 16, but the file has 15 bytes of data"},
        {ONE("\"F32\"", "[2,2]", "[16,0]"), 16, "tensor 't': 0 bytes from 16 to 0"},
        {ONE("\"F32\"", "[2,2]", "[-16,0]"), 16, "an offset is no integer"},
        {ONE("\"F32\"", "[2,2]", "[0.0,16]"), 16, "an offset is no integer"},
        {ONE("\"F32\"", "[2,2]", "[0]"), 16, "two data_offsets"},
        {ONE("\"F32\"", "[2,-2]", "[0,16]"), 16, "a dimension is no integer"},
        {ONE("\"F32\"", "[2,2.5]", "[0,16]"), 16, "a dimension is no integer"},
        {ONE("\"F32\"", "[1,1,1,1,4]", "[0,16]"), 16, "its shape is no list of at most 4"},
        {ONE("\"F32\"", "4", "[0,16]"), 16, "its shape is no list"},
        {ONE("\"F32\"", "[4294967296,4294967296]", "[0,16]"), 16, "more elements than any file"},
        {ONE("\"F32\"", "[9223372036854775807,2]", "[0,16]"), 16, "more elements than any file"},
        {ONE("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), 16, "more elements than any file"},
        {ONE("\"F31\"", "[4]", "[0,16]"), 16, "dtype 'F31' is not known"},
        {ONE("7", "[4]", "[0,16]"), 16, "dtype '(none)' is not known"},
        {"{\"t\":7}", 16, "tensor 't': it has no two data_offsets"},
        {"{\"\":{}}", 16, "name has 0 bytes"},
        {"[]", 16, "no safetensors file"},
        {"{\"t\":", 16, "header: line 1"},
        {"{\"a\":{\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[7,15]}}", 16,
         "tensors 'a' and 'b' overlap"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++)
        refused(cases[i].header, cases[i].n_data, cases[i].why);
}

static void a_file_cut_anywhere_or_with_a_huge_header_is_refused(void **state)
{
    (void)state;
    file f = file_of(TWO_TENSORS, 24);
    for (size_t n = 0; n < f.n; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        sv_safetensors *s = NULL;
        sv_err err = {0};
        memcpy(cut, f.p, n);
        assert_int_equal(sv_safetensors_parse(&s, cut, n, &err), SV_EFORMAT);
        assert_null(s);
        free(cut);
    }
    static const uint64_t lengths[] = {0, 1, 1u << 30, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < SV_LEN(lengths); i++) {
        sv_safetensors *s = NULL;
        sv_err err = {0};
        memcpy(f.p, &lengths[i], 8);
        assert_int_equal(sv_safetensors_parse(&s, f.p, f.n, &err), SV_EFORMAT);
    }
    free(f.p);
}

static void write_file(const char *folder, const char *name, const void *p, size_t n)
{
    char path[256];
    sv_err err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(sv_file_replace(path, p, n, 0600, &err), SV_OK);
}

static void folder_refused(const char *folder, sv_rc rc, const char *why)
{
    sv_safetensors *s = NULL;
    sv_err err = {0};
    assert_int_equal(sv_safetensors_open_folder(&s, folder, &err), rc);
    assert_null(s);
    if (!strstr(err.msg, why))
        fail_msg("'%s' says not '%s'", err.msg, why);
}

static void write_index(const char *folder, const char *index)
{
    write_file(folder, "model.safetensors.index.json", index, strlen(index));
}

static void shards_are_opened_together(void **state)
{
    (void)state;
    char folder[] = "/tmp/safetensors_test_XXXXXX";
    sv_err err = {0};
    sv_safetensors *s = NULL;
    sv_safetensors_names names = {0};
    assert_non_null(mkdtemp(folder));
    folder_refused(folder, SV_ENOENT, "has neither model.safetensors nor model.safetensors.index.json");
    file a = file_of("{\"a\":{\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8);
    file b = file_of("{\"b\":{\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]},\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}", 9);
    write_file(folder, "m1.safetensors", a.p, a.n);
    write_file(folder, "m2.safetensors", b.p, b.n);
    write_index(folder, "{\"weight_map\":{\"a\":\"m1.safetensors\",\"b\":\"m2.safetensors\",\"c\":\"m2.safetensors\"}}");
    assert_int_equal(sv_safetensors_open_folder(&s, folder, &err), SV_OK);
    assert_int_equal(sv_safetensors_n_tensors(s), 2);
    assert_int_equal(sv_safetensors_size(s), a.n + b.n);
    assert_ptr_equal(sv_safetensors_tensor(s, "a"), sv_safetensors_tensor_at(s, 0));
    assert_ptr_equal(sv_safetensors_tensor(s, "b"), sv_safetensors_tensor_at(s, 1));
    assert_string_equal(sv_safetensors_why_not(s, "c"), "U8");
    s = sv_safetensors_close(s);
    assert_int_equal(sv_safetensors_list(&names, folder, &err), SV_OK);
    assert_int_equal(names.n, 2);
    sv_safetensors_names_free(&names);

    write_index(folder, "{\"weight_map\":{\"a\":\"m1.safetensors\",\"b\":\"m2.safetensors\",\"d\":\"m2.safetensors\"}}");
    folder_refused(folder, SV_EFORMAT, "tensor 'd' is not in 'm2.safetensors'");
    static const char *const outside[] = {"../m1.safetensors", "/etc/passwd", "", "..", "7"};
    for (size_t i = 0; i < SV_LEN(outside); i++) {
        char index[128];
        snprintf(index, sizeof index, i == 4 ? "{\"weight_map\":{\"a\":%s}}" : "{\"weight_map\":{\"a\":\"%s\"}}", outside[i]);
        write_index(folder, index);
        folder_refused(folder, SV_EFORMAT, "tensor 'a' is in no file of this folder");
    }
    write_index(folder, "{\"weight_map\":{}}");
    folder_refused(folder, SV_EFORMAT, "it has no weight_map");
    write_index(folder, "{\"weight_map\":{\"a\":\"gone.safetensors\"}}");
    folder_refused(folder, SV_ENOENT, "gone.safetensors");
    write_file(folder, "m3.safetensors", a.p, a.n);
    write_index(folder, "{\"weight_map\":{\"a\":\"m1.safetensors\",\"b\":\"m3.safetensors\"}}");
    folder_refused(folder, SV_EFORMAT, "tensor 'a' is in another file too");
    write_file(folder, "m1.safetensors", a.p, a.n - 1);
    folder_refused(folder, SV_EFORMAT, "m1.safetensors': tensor 'a'");
    write_file(folder, "model.safetensors", a.p, a.n); /* comes before the index */
    assert_int_equal(sv_safetensors_open_folder(&s, folder, &err), SV_OK);
    assert_int_equal(sv_safetensors_n_tensors(s), 1);
    sv_safetensors_close(s);
    free(a.p);
    free(b.p);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

static void files_of_others_are_read(void **state)
{
    (void)state;
    static const struct { const char *name; int n_tensors, n_dims; sv_type type; } cases[] = {
        {"formats/safetensors/tensor-1d-int32.safetensors", 1, 1, SV_I32},   {"formats/safetensors/tensor-2d-float64.safetensors", 1, 2, SV_F64},
        {"formats/safetensors/tensor-3d-float32.safetensors", 1, 3, SV_F32}, {"formats/safetensors/tensor-4d-float32.safetensors", 1, 4, SV_F32},
        {"models/tiny-random-gpt2/model.safetensors", 64, 0, SV_F32},
    };
    const char *data = getenv("SV_SHARED_DATA");
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char path[512];
        sv_safetensors *s = NULL;
        sv_err err = {0};
        snprintf(path, sizeof path, "%s/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", cases[i].name);
        if (!sv_file_exists(path)) {
            print_message("%s is not there: skipped\n", path);
            skip();
        }
        if (sv_safetensors_open(&s, path, &err) != SV_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(sv_safetensors_n_tensors(s), cases[i].n_tensors);
        for (int t = 0; t < cases[i].n_tensors; t++) {
            assert_int_equal(sv_safetensors_tensor_at(s, (size_t)t)->type, cases[i].type);
            assert_true(cases[i].n_dims == 0 || sv_safetensors_tensor_at(s, (size_t)t)->n_dims == cases[i].n_dims);
        }
        sv_safetensors_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read_with_their_shape_backwards),
        cmocka_unit_test(entries_that_make_no_sense_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_or_with_a_huge_header_is_refused),
        cmocka_unit_test(shards_are_opened_together),
        cmocka_unit_test(files_of_others_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
