/* Tests of limits.h: the table is in order, refusals carry its numbers, and docs/limits.md is what it prints. */
#include "account/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/file.h"

static void every_limit_is_at_its_place_and_says_what_it_is(void **state)
{
    size_t n = 0;
    const sv_limit *all = sv_limits(&n);
    (void)state;
    assert_int_equal(n, SV_N_LIMITS);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(all[i].id, i);
        assert_true(all[i].value > 0 && all[i].area && all[i].name && all[i].unit && all[i].theirs && all[i].over[0]);
        assert_true(all[i].http_status == 0 || (all[i].http_status >= 400 && all[i].http_status < 500));
        assert_true(all[i].api_code == 0 || all[i].http_status != 0);
        assert_int_equal(sv_limit_value(all[i].id), all[i].value);
    }
}

static void areas_are_not_mixed(void **state)
{
    size_t n = 0;
    int n_areas = 1;
    const sv_limit *all = sv_limits(&n);
    (void)state;
    for (size_t i = 1; i < n; i++) {
        if (strcmp(all[i].area, all[i - 1].area) == 0)
            continue;
        n_areas++;
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(all[j].area, all[i].area);
    }
    assert_in_range(n_areas, 5, 20);
}

static void a_value_at_the_limit_passes_and_one_more_is_refused_with_both_numbers(void **state)
{
    sv_err err = {0};
    (void)state;
    assert_int_equal(sv_limit_check(SV_LIMIT_VARS, 128, "variables", &err), SV_OK);
    assert_string_equal(err.msg, "");
    assert_int_equal(sv_limit_check(SV_LIMIT_VARS, 129, "variables", &err), SV_EINVAL);
    assert_string_equal(err.msg, "variables: 129, at most 128");
    assert_int_equal(err.api_code, 10055);
    assert_int_equal(sv_limit_check(SV_LIMIT_VAR_BYTES, 5121, "variable 'X'", &err), SV_EINVAL);
    assert_string_equal(err.msg, "variable 'X': 5121 bytes, at most 5120");
    assert_int_equal(sv_limit_check(SV_LIMIT_AI_QUEUE, 1 << 20, "waiting calls", &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 3040);
    assert_int_equal(sv_limit_status(SV_LIMIT_SCRIPT_BYTES), 413);
}

/* What the vendor documents for its paid plan, written down here a second time: code that runs there must run here. */
static void nothing_documented_is_smaller_here(void **state)
{
    static const struct { sv_limit_id id; int64_t theirs; } documented[] = {
        {SV_LIMIT_SCRIPT_BYTES, 64 << 20}, {SV_LIMIT_VARS, 128},        {SV_LIMIT_VAR_BYTES, 5000},       {SV_LIMIT_WORKERS, 500},
        {SV_LIMIT_ASSETS, 100000},         {SV_LIMIT_ASSET_BYTES, 25 << 20}, {SV_LIMIT_AI_PROMPT_CHARS, 131072},
        {SV_LIMIT_UPLOAD_BYTES, 100000000}, {SV_LIMIT_AI_BODY_BYTES, 10000000}, {SV_LIMIT_WAIT_UNTIL_MS, 30000},
        {SV_LIMIT_METADATA_BYTES, 1000000}, {SV_LIMIT_AI_DEFAULT_TOKENS, 256},
        {SV_LIMIT_VEC_INDEXES, 50000}, {SV_LIMIT_VEC_DIMENSIONS, 1536}, {SV_LIMIT_VEC_VECTORS, 20000000}, {SV_LIMIT_VEC_METADATA_BYTES, 10240},
        {SV_LIMIT_VEC_BATCH, 5000}, {SV_LIMIT_VEC_WORKER_BATCH, 1000}, {SV_LIMIT_VEC_UPLOAD_BYTES, 100000000}, {SV_LIMIT_VEC_TOP_K, 100},
        {SV_LIMIT_VEC_TOP_K_FULL, 50}, {SV_LIMIT_VEC_GET_IDS, 20}, {SV_LIMIT_VEC_LIST, 1000},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(documented); i++)
        assert_true(sv_limit_value(documented[i].id) >= documented[i].theirs);
}

static void the_page_in_docs_is_what_the_table_prints(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf page, file;
    sv_buf_init(&page, 0);
    sv_buf_init(&file, 0);
    sv_limits_markdown(&page);
    assert_false(page.failed);
    assert_non_null(strstr(page.p, "| Files of a version | 100,000 |"));
    assert_non_null(strstr(page.p, "64 MiB"));
    if (sv_file_read(&file, SV_SOURCE_ROOT "/docs/limits.md", &err) != SV_OK)
        fail_msg("%s", err.msg);
    if (!sv_str_eq(sv_buf_str(&page), sv_buf_str(&file)))
        fail_msg("docs/limits.md is out of date: `selvedge limits > docs/limits.md`");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        SV_AUTO(sv_buf_donep) sv_buf page;
        sv_buf_init(&page, 0);
        sv_limits_markdown(&page);
        return fwrite(page.p, 1, page.n, stdout) == page.n ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_limit_is_at_its_place_and_says_what_it_is),
        cmocka_unit_test(areas_are_not_mixed),
        cmocka_unit_test(a_value_at_the_limit_passes_and_one_more_is_refused_with_both_numbers),
        cmocka_unit_test(nothing_documented_is_smaller_here),
        cmocka_unit_test(the_page_in_docs_is_what_the_table_prints),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
