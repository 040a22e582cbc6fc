/* sql_test.c - what is understood and what is refused; what the translation gives is analytics_test.c's */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "analytics/sql.h"

static sv_arena *arena;

static sv_rc translate(sv_ae_query *q, const char *text, sv_err *err)
{
    sv_arena_reset(arena);
    *q = (sv_ae_query){0};
    *err = (sv_err){0};
    return sv_ae_translate(q, arena, sv_str_of(text), err);
}

static void columns_have_the_names_and_types_that_clickhouse_gives_them(void **state)
{
    sv_ae_query q;
    sv_err err;
    (void)state;
    assert_int_equal(translate(&q, "SELECT blob1 AS page, count() , SUM(_sample_interval * double1) AS \"a b\", toStartOfInterval(timestamp, INTERVAL '5' MINUTE) t FROM hits", &err), SV_OK);
    assert_int_equal(q.n_columns, 4);
    static const char *const want[][2] = {{"page", "String"}, {"count()", "UInt64"}, {"a b", "Float64"}, {"t", "DateTime"}};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(q.columns[i].name, want[i][0]);
        assert_string_equal(sv_ae_type_name(q.columns[i].type), want[i][1]);
    }
    assert_int_equal(q.n_tables, 1);
    assert_string_equal(q.tables[0], "hits");
    sv_ae_query_done(&q);
}

static void a_format_ends_the_query(void **state)
{
    static const struct { const char *text; sv_ae_format format; } cases[] = {
        {"SELECT 1", SV_AE_JSON}, {"SELECT 1 FORMAT JSON;", SV_AE_JSON}, {"select 1 format jsoneachrow", SV_AE_JSON_EACH_ROW}, {"SHOW TABLES FORMAT TabSeparated", SV_AE_TAB_SEPARATED}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sv_ae_query q;
        sv_err err;
        assert_int_equal(translate(&q, cases[i].text, &err), SV_OK);
        assert_int_equal(q.format, cases[i].format);
        sv_ae_query_done(&q);
    }
}

static void names_and_texts_of_the_client_are_quoted(void **state)
{
    sv_ae_query q;
    sv_err err;
    (void)state;
    assert_int_equal(translate(&q, "SELECT 'it''s \\' \"x' AS `a\"b` FROM \"t'; DROP TABLE points; --\"", &err), SV_OK);
    assert_non_null(strstr(sv_buf_cstr(&q.sql), "'it''s '' \"x'"));
    assert_non_null(strstr(sv_buf_cstr(&q.sql), "\"a\"\"b\""));
    assert_non_null(strstr(sv_buf_cstr(&q.sql), "dataset = 't''; DROP TABLE points; --'"));
    sv_ae_query_done(&q);
}

static void what_is_not_understood_is_refused_at_its_place(void **state)
{
    static const char *const cases[][2] = {
        {"", "SELECT is expected"},
        {"DELETE FROM hits", "'DELETE': SELECT is expected"},
        {"SELECT", "an expression is expected"},
        {"SELECT 1 2", "should have ended"},
        {"SELECT nothing FROM hits", "'nothing': there is no column"},
        {"SELECT blob21 FROM hits", "there is no column"},
        {"SELECT blob01 FROM hits", "there is no column"},
        {"SELECT account FROM hits", "there is no column"},
        {"SELECT blob1", "there is no column"},
        {"SELECT * ", "* needs a FROM"},
        {"SELECT load_extension('x')", "no function load_extension"},
        {"SELECT sqlite_version()", "no function"},
        {"SELECT sum(1, 2)", "sum has 1 arguments, not 2"},
        {"SELECT intDiv(1)", "intDiv has 2 arguments, not 1"},
        {"SELECT 'x", "never closed"},
        {"SELECT 1 + $", "means nothing here"},
        {"SELECT 1 FROM a, b", "should have ended"},
        {"SELECT 1 FROM a JOIN b", "should have ended"},
        {"SELECT 1; SELECT 2", "should have ended"},
        {"SELECT 1 UNION SELECT 2", "should have ended"},
        {"SELECT INTERVAL '1' DAY", "an interval can only"},
        {"SELECT 1 + INTERVAL '1' DAY", "an interval can only"},
        {"SELECT now() - INTERVAL '1' FORTNIGHT", "SECOND, MINUTE"},
        {"SELECT toDateTime('2026-01-01', 'Europe/Berlin')", "only time zone"},
        {"SELECT formatDateTime(now(), '%Q')", "no %Q"},
        {"SELECT formatDateTime(now(), '%')", "no %"},
        {"SELECT 1 LIMIT x", "whole number"},
        {"SELECT 1 FORMAT CSV", "JSON, JSONEachRow"},
        {"SELECT 1.2.3", "no number"},
        {"SELECT sum(1", "')' is expected"},
        {"SHOW DATABASES", "TABLES, TIMEZONE"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sv_ae_query q;
        sv_err err;
        assert_int_equal(translate(&q, cases[i][0], &err), SV_EINVAL);
        if (!strstr(err.msg, cases[i][1]))
            fail_msg("%s\n  gives: %s\n  wants: %s", cases[i][0], err.msg, cases[i][1]);
    }
}

/* Each a query that would take a stack, or memory, without end. */
static void queries_that_grow_without_end_are_refused(void **state)
{
    sv_buf b;
    sv_ae_query q;
    sv_err err;
    (void)state;
    sv_buf_init(&b, 1 << 20);
    sv_buf_adds(&b, "SELECT ");
    for (int i = 0; i < 2000; i++)
        sv_buf_adds(&b, "(");
    assert_int_equal(translate(&q, b.p, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "nested too deeply"));

    sv_buf_reset(&b);
    sv_buf_adds(&b, "SELECT ");
    for (int i = 0; i < 3000; i++)
        sv_buf_adds(&b, "NOT ");
    assert_int_equal(translate(&q, b.p, &err), SV_EINVAL);

    sv_buf_reset(&b);
    sv_buf_adds(&b, "SELECT 1 AS a0");
    for (int i = 1; i < 60; i++) /* each twice the one before */
        sv_buf_addf(&b, ", a%d + a%d AS a%d", i - 1, i - 1, i);
    assert_int_equal(translate(&q, b.p, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "once its aliases are put in"));

    sv_buf_reset(&b);
    sv_buf_adds(&b, "SELECT 1");
    for (int i = 0; i < 3000; i++)
        sv_buf_adds(&b, ", 1");
    assert_int_equal(translate(&q, b.p, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "words and signs"));
    sv_buf_done(&b);
}

static int make_arena(void **state) { (void)state; return (arena = sv_arena_create(0)) == NULL; }
static int free_arena(void **state) { (void)state; arena = sv_arena_free(arena); return 0; }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_have_the_names_and_types_that_clickhouse_gives_them),
        cmocka_unit_test(a_format_ends_the_query),
        cmocka_unit_test(names_and_texts_of_the_client_are_quoted),
        cmocka_unit_test(what_is_not_understood_is_refused_at_its_place),
        cmocka_unit_test(queries_that_grow_without_end_are_refused),
    };
    return cmocka_run_group_tests(tests, make_arena, free_arena);
}
