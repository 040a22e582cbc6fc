/* vectorize_test.c - the catalogue: names, configurations, what a restart finds, and indexes that come and go while they are used */
#include "vectorize/vectorize.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread.h"
#include "vec/filter.h"
#include "vectorize/vectorize_impl.h"

static const sv_str me = {"0123456789abcdef0123456789abcdef", 32}, other = {"ffffffffffffffffffffffffffffffff", 32};

typedef struct fixture { char dir[64]; sv_vectorize *vz; } fixture;

static int setup(void **state)
{
    fixture *f = sv_xnew0(fixture);
    sv_err err = {0};
    strcpy(f->dir, "/tmp/selvedge-vectorize-XXXXXX");
    if (!mkdtemp(f->dir) || sv_vectorize_open(&f->vz, f->dir, &err) != SV_OK)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    sv_err err = {0};
    sv_vectorize_close(f->vz);
    int rc = sv_remove_tree(f->dir, &err);
    free(f);
    return rc;
}

static void reopen(fixture *f)
{
    sv_err err = {0};
    f->vz = sv_vectorize_close(f->vz);
    if (sv_vectorize_open(&f->vz, f->dir, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int n_folders(const fixture *f)
{
    char path[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/vectorize", f->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static const sv_vz_config three = {.dimensions = 3, .metric = {"cosine", 6}};

static void create(fixture *f, sv_str account, const char *name)
{
    sv_err err = {0};
    json_t *j = NULL;
    if (sv_vectorize_create(f->vz, account, sv_str_of(name), (sv_str){0}, &three, &j, &err) != SV_OK)
        fail_msg("%s", err.msg);
    json_decref(j);
}

static sv_rc upsert(sv_vectorize *vz, const char *index, const char *id, float x)
{
    sv_err err = {0};
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    const float values[3] = {x, 1, 0};
    const sv_vec_item item = {.id = sv_str_of(id), .values = values};
    if (sv_vectorize_use(vz, me, sv_str_of(index), &u, &err) != SV_OK)
        return err.code;
    return sv_vec_upsert(sv_vz_use_vec(u), &item, 1, SV_STR("m"), &err);
}

static uint64_t count(sv_vectorize *vz, const char *index)
{
    sv_err err = {0};
    sv_vec_info info;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    if (sv_vectorize_use(vz, me, sv_str_of(index), &u, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_vec_info_get(sv_vz_use_vec(u), &info);
    return info.n_vectors;
}

static void an_index_is_made_found_used_listed_and_deleted(void **state)
{
    fixture *f = *state;
    sv_err err = {0};
    json_t *j = NULL;
    const sv_vz_config config = {.dimensions = 3, .metric = SV_STR("dot-product")};
    assert_int_equal(sv_vectorize_create(f->vz, me, SV_STR("films"), SV_STR("what people watch"), &config, &j, &err), SV_OK);
    assert_string_equal(sv_json_cstr(j, "name"), "films");
    assert_string_equal(sv_json_cstr(j, "description"), "what people watch");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "config"), "dimensions")), 3);
    assert_string_equal(sv_json_cstr(json_object_get(j, "config"), "metric"), "dot-product");
    assert_non_null(sv_json_cstr(j, "created_on"));
    json_t *again = NULL;
    assert_int_equal(sv_vectorize_get(f->vz, me, SV_STR("films"), &again, &err), SV_OK);
    assert_true(json_equal(j, again));
    json_decref(again);
    json_decref(j);

    create(f, me, "a-first");
    create(f, other, "films"); /* another account's */
    json_t *all = sv_vectorize_list(f->vz, me);
    assert_int_equal(json_array_size(all), 2);
    assert_string_equal(sv_json_cstr(json_array_get(all, 0), "name"), "a-first");
    json_decref(all);

    assert_int_equal(upsert(f->vz, "films", "x", 1), SV_OK);
    assert_int_equal(count(f->vz, "films"), 1);
    assert_int_equal(sv_vectorize_delete(f->vz, me, SV_STR("films"), &err), SV_OK);
    assert_int_equal(sv_vectorize_delete(f->vz, me, SV_STR("films"), &err), SV_ENOENT);
    assert_int_equal(err.api_code, 3000);
    assert_int_equal(upsert(f->vz, "films", "x", 1), SV_ENOENT);
    assert_int_equal(n_folders(f), 2);
    create(f, me, "films");
    assert_int_equal(count(f->vz, "films"), 0); /* a new one under the old name */
}

static void presets_have_the_shape_of_their_model(void **state)
{
    fixture *f = *state;
    sv_err err = {0};
    static const struct { const char *preset; int dimensions; } cases[] = {{"@cf/baai/bge-small-en-v1.5", 384}, {"@cf/baai/bge-base-en-v1.5", 768},
        {"@cf/baai/bge-large-en-v1.5", 1024}, {"openai/text-embedding-ada-002", 1536}, {"cohere/embed-multilingual-v2.0", 768}};
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char name[8];
        json_t *j = NULL;
        snprintf(name, sizeof name, "p%zu", i);
        assert_int_equal(sv_vectorize_create(f->vz, me, sv_str_of(name), (sv_str){0}, &(sv_vz_config){.preset = sv_str_of(cases[i].preset)}, &j, &err), SV_OK);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "config"), "dimensions")), cases[i].dimensions);
        assert_string_equal(sv_json_cstr(json_object_get(j, "config"), "metric"), "cosine");
        json_decref(j);
    }
}

static void refused(fixture *f, const char *name, sv_vz_config config, sv_rc rc, int code, const char *with)
{
    sv_err err = {0};
    json_t *j = NULL;
    assert_int_equal(sv_vectorize_create(f->vz, me, sv_str_of(name), (sv_str){0}, &config, &j, &err), rc);
    assert_int_equal(err.api_code, code);
    if (!strstr(err.msg, with))
        fail_msg("'%s', expected '%s'", err.msg, with);
}

static void what_cannot_be_an_index_is_refused_and_leaves_nothing(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"", "A", "1a", "-a", "a-", "a_", "a b", "a/b", "\xc3\xa9", "a.b"};
    for (size_t i = 0; i < SV_LEN(names); i++)
        refused(f, names[i], three, SV_EINVAL, 3001, "invalid_name");
    char name[70];
    memset(name, 'n', 65);
    name[65] = '\0';
    refused(f, name, three, SV_EINVAL, 3001, "65 bytes, at most 64");
    refused(f, "a", (sv_vz_config){.dimensions = 0, .metric = SV_STR("cosine")}, SV_EINVAL, 3001, "from 1 to 4096, got 0");
    refused(f, "a", (sv_vz_config){.dimensions = 4097, .metric = SV_STR("cosine")}, SV_EINVAL, 3001, "got 4097");
    refused(f, "a", (sv_vz_config){.dimensions = -1, .metric = SV_STR("cosine")}, SV_EINVAL, 3001, "got -1");
    refused(f, "a", (sv_vz_config){.dimensions = 3, .metric = SV_STR("manhattan")}, SV_EINVAL, 3001, "metric");
    refused(f, "a", (sv_vz_config){.preset = SV_STR("unknown")}, SV_EINVAL, 3001, "preset");
    assert_int_equal(n_folders(f), 0);
    create(f, me, "a");
    refused(f, "a", three, SV_ECONFLICT, 3002, "duplicate_name");
    assert_int_equal(n_folders(f), 1);
    name[64] = '\0';
    create(f, me, name);
    sv_err err = {0};
    json_t *j = NULL;
    assert_int_equal(sv_vectorize_get(f->vz, me, SV_STR("../../etc"), &j, &err), SV_ENOENT);
    name[64] = 'n';
    assert_int_equal(sv_vectorize_get(f->vz, me, sv_str_of(name), &j, &err), SV_ENOENT);
}

static void a_restart_finds_what_was_there_and_removes_what_was_half_made(void **state)
{
    fixture *f = *state;
    char path[160];
    create(f, me, "kept");
    create(f, me, "gone");
    assert_int_equal(upsert(f->vz, "kept", "x", 1), SV_OK);
    sv_err err = {0};
    assert_int_equal(sv_vectorize_delete(f->vz, me, SV_STR("gone"), &err), SV_OK);
    snprintf(path, sizeof path, "%s/vectorize/00000000000000000000000000000000", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    reopen(f);
    assert_false(sv_file_exists(path));
    assert_int_equal(count(f->vz, "kept"), 1);
    assert_int_equal(upsert(f->vz, "gone", "x", 1), SV_ENOENT);
}

static void an_index_whose_folder_vanished_is_an_error_and_not_an_empty_one(void **state)
{
    fixture *f = *state;
    sv_err err = {0};
    char path[160];
    create(f, me, "a");
    f->vz = sv_vectorize_close(f->vz);
    snprintf(path, sizeof path, "%s/vectorize", f->dir);
    assert_int_equal(sv_remove_tree(path, &err), SV_OK);
    assert_int_equal(sv_vectorize_open(&f->vz, f->dir, &err), SV_OK);
    assert_int_equal(upsert(f->vz, "a", "x", 1), SV_EIO);
    assert_int_equal(upsert(f->vz, "a", "x", 1), SV_EIO);
    assert_int_equal(n_folders(f), 0);
}

static void deleted_under_a_use_it_works_to_the_end_and_then_goes(void **state)
{
    fixture *f = *state;
    sv_err err = {0};
    sv_vz_use *u = NULL;
    const float values[3] = {1, 1, 0};
    create(f, me, "a");
    assert_int_equal(sv_vectorize_use(f->vz, me, SV_STR("a"), &u, &err), SV_OK);
    assert_int_equal(sv_vectorize_delete(f->vz, me, SV_STR("a"), &err), SV_OK);
    assert_int_equal(sv_vec_upsert(sv_vz_use_vec(u), &(sv_vec_item){.id = SV_STR("x"), .values = values}, 1, SV_STR("m"), &err), SV_OK);
    assert_int_equal(n_folders(f), 1);
    sv_vz_use_done(u);
    assert_int_equal(n_folders(f), 0);
}

static void more_indexes_than_may_be_open_all_answer(void **state)
{
    fixture *f = *state;
    int n = (int)sv_limit_value(SV_LIMIT_VEC_OPEN) + 4;
    char name[16];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "i%d", i);
        create(f, me, name);
        if (i < 3)
            assert_int_equal(upsert(f->vz, name, "x", 1), SV_OK);
    }
    SV_AUTO(sv_buf_donep) sv_buf b;
    char expected[80];
    sv_buf_init(&b, 0);
    sv_vectorize_metrics(f->vz, &b);
    snprintf(expected, sizeof expected, "\nselvedge_vectorize_open_indexes %d\n", n - 4);
    assert_non_null(strstr(sv_buf_cstr(&b), expected));
    for (int i = 0; i < 3; i++) { /* the first were closed, and open again with what they had */
        snprintf(name, sizeof name, "i%d", i);
        assert_int_equal(count(f->vz, name), 1);
    }
}

typedef struct racer { sv_vectorize *vz; int i; atomic_int *wrong; } racer;

static void *race(void *arg)
{
    racer *r = arg;
    for (int k = 0; k < 40; k++) {
        sv_err err = {0};
        json_t *j = NULL;
        sv_rc rc;
        if ((k + r->i) % 4 == 0)
            rc = sv_vectorize_create(r->vz, me, SV_STR("raced"), (sv_str){0}, &three, &j, &err);
        else if ((k + r->i) % 4 == 1)
            rc = sv_vectorize_delete(r->vz, me, SV_STR("raced"), &err);
        else
            rc = upsert(r->vz, "raced", "x", 1);
        json_decref(j);
        if (rc != SV_OK && rc != SV_ENOENT && rc != SV_ECONFLICT)
            atomic_fetch_add(r->wrong, 1);
    }
    return NULL;
}

static void create_use_and_delete_race_without_harm(void **state)
{
    fixture *f = *state;
    atomic_int wrong = 0;
    pthread_t t[4];
    racer r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = (racer){f->vz, i, &wrong};
        t[i] = sv_thread_start("racer", race, &r[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(wrong, 0);
    json_t *all = sv_vectorize_list(f->vz, me);
    assert_int_equal(n_folders(f), json_array_size(all));
    json_decref(all);
}

static void the_table_of_limits_promises_what_the_index_does(void **state)
{
    (void)state;
    assert_int_equal(sv_limit_value(SV_LIMIT_VEC_INDEXED_BYTES), SV_VEC_INDEXED_BYTES);
    assert_int_equal(sv_limit_value(SV_LIMIT_VEC_FIELDS), SV_VEC_MAX_FIELDS);
    assert_int_equal(sv_limit_value(SV_LIMIT_VEC_FILTER_BYTES), SV_VEC_MAX_FILTER - 1);
    assert_true(sv_limit_value(SV_LIMIT_VEC_DIMENSIONS) <= SV_VEC_MAX_DIMENSIONS && sv_limit_value(SV_LIMIT_VEC_ID_BYTES) <= SV_VEC_MAX_ID);
    assert_true(sv_limit_value(SV_LIMIT_VEC_NAMESPACE_BYTES) <= SV_VEC_MAX_NAMESPACE && sv_limit_value(SV_LIMIT_VEC_METADATA_BYTES) <= SV_VEC_MAX_METADATA);
    assert_true(sv_limit_value(SV_LIMIT_VEC_BATCH) <= SV_VEC_MAX_BATCH && sv_limit_value(SV_LIMIT_VEC_TOP_K) <= SV_VEC_MAX_TOP_K);
    assert_true(sv_limit_value(SV_LIMIT_VEC_LIST) <= SV_VEC_MAX_LIST);
}

static void what_the_disk_did_is_no_fault_of_the_client(void **state)
{
    (void)state;
    sv_err err = {0};
    errno = ENOENT; /* a file of ours */
    (void)sv_fail_errno(&err, "open 'log'");
    assert_int_equal(sv_vz_status_of(&err), 500);
    errno = ENOSPC;
    (void)sv_fail_errno(&err, "write 'log'");
    assert_int_equal(sv_vz_status_of(&err), 507);
    (void)sv_fail_api(&err, SV_ENOENT, 3000, "no such index");
    assert_int_equal(sv_vz_status_of(&err), 404);
    (void)sv_fail_api(&err, SV_ELIMIT, 40006, "too many");
    assert_int_equal(sv_vz_status_of(&err), 400);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_index_is_made_found_used_listed_and_deleted),
        T(presets_have_the_shape_of_their_model),
        T(what_cannot_be_an_index_is_refused_and_leaves_nothing),
        T(a_restart_finds_what_was_there_and_removes_what_was_half_made),
        T(an_index_whose_folder_vanished_is_an_error_and_not_an_empty_one),
        T(deleted_under_a_use_it_works_to_the_end_and_then_goes),
        T(more_indexes_than_may_be_open_all_answer),
        T(create_use_and_delete_race_without_harm),
        cmocka_unit_test(what_the_disk_did_is_no_fault_of_the_client),
        cmocka_unit_test(the_table_of_limits_promises_what_the_index_does),
    };
    return cmocka_run_group_tests_name("vectorize", tests, NULL, NULL);
}
