/* analytics_test.c - points in, answers out, against sums done here and values that ClickHouse documents for its functions */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analytics/analytics.h"
#include "base/time.h"

#define DAY_MS ((int64_t)86400 * 1000)
static const int64_t noon = 1764072000000; /* 2025-11-25 12:00:00 */
static const sv_str account = {"acc", 3};

static char dir[64];
static sv_analytics *store;

static int open_store(void **state)
{
    sv_err err = {0};
    (void)state;
    strcpy(dir, "/tmp/sv-analytics-XXXXXX");
    return mkdtemp(dir) == NULL || sv_analytics_open(&store, dir, &err) != SV_OK;
}

static int close_store(void **state)
{
    char command[96];
    (void)state;
    store = sv_analytics_close(store);
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static sv_rc write_text(const char *dataset, const char *points, int64_t now_ms, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    assert_int_equal(sv_json_parse(&j, sv_str_of(points), err), SV_OK);
    return sv_analytics_write(store, account, sv_str_of(dataset), j, now_ms, err);
}

static void must_write(const char *dataset, const char *points, int64_t now_ms)
{
    sv_err err = {0};
    if (write_text(dataset, points, now_ms, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void expect_answer(const char *sql, const char *answer)
{
    sv_err err = {0};
    const char *type;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 0);
    if (sv_analytics_query(store, account, sv_str_of(sql), noon, &out, &type, &err) != SV_OK)
        fail_msg("%s\n  %s", sql, err.msg);
    if (strcmp(sv_buf_cstr(&out), answer) != 0)
        fail_msg("%s\n  gives: %s\n  wants: %s", sql, sv_buf_cstr(&out), answer);
}

/* The one value of a query, as text. */
static void expect_one(const char *expression, const char *value)
{
    char sql[400], answer[200];
    snprintf(sql, sizeof sql, "SELECT %s FORMAT TabSeparated", expression);
    snprintf(answer, sizeof answer, "%s\n", value);
    expect_answer(sql, answer);
}

static void points_are_counted_and_weighed(void **state)
{
    (void)state;
    must_write("hits", "[{\"indexes\":[\"u1\"],\"blobs\":[\"/a\",null,\"x\"],\"doubles\":[1.5,2]},{\"blobs\":[\"/b\"],\"doubles\":[4]}]", noon - 60000);
    must_write("hits", "[{\"blobs\":[\"/a\"],\"doubles\":[2.5]},{}]", noon - 7200000);
    expect_answer("SELECT blob1 AS page, count() AS n, sum(_sample_interval * double1) AS total FROM hits WHERE blob1 != '' GROUP BY page ORDER BY n DESC, page",
           "{\"meta\":[{\"name\":\"page\",\"type\":\"String\"},{\"name\":\"n\",\"type\":\"UInt64\"},{\"name\":\"total\",\"type\":\"Float64\"}],"
           "\"data\":[{\"page\":\"/a\",\"n\":2,\"total\":4},{\"page\":\"/b\",\"n\":1,\"total\":4}],\"rows\":2}");
    expect_answer("SELECT count() FROM hits WHERE timestamp > NOW() - INTERVAL '1' HOUR FORMAT TabSeparated", "2\n");
    expect_answer("SELECT dataset, index1, timestamp, blob2, blob3, double20 FROM hits WHERE index1 = 'u1' FORMAT JSONEachRow",
           "{\"dataset\":\"hits\",\"index1\":\"u1\",\"timestamp\":\"2025-11-25 11:59:00\",\"blob2\":\"\",\"blob3\":\"x\",\"double20\":0}\n");
    expect_answer("SELECT avg(n) AS mean FROM (SELECT blob1, count() AS n FROM hits GROUP BY blob1) FORMAT TabSeparated", "1.3333333333333333\n");
    expect_answer("SELECT blob1, count() AS n FROM hits GROUP BY blob1 HAVING n > 1 FORMAT TabSeparated", "/a\t2\n");
    expect_answer("SELECT toStartOfInterval(timestamp, INTERVAL '1' HOUR) AS hour, count() FROM hits GROUP BY hour ORDER BY hour FORMAT TabSeparated",
           "2025-11-25 10:00:00\t2\n2025-11-25 11:00:00\t2\n");
    expect_answer("SELECT count(DISTINCT blob1), countIf(double1 > 2), sumIf(double1, blob1 = '/a'), max(double1), argMax(blob1, double1) FROM hits FORMAT TabSeparated",
           "3\t2\t4\t4\t/b\n");
    expect_answer("SELECT DISTINCT blob1 FROM hits WHERE blob1 ILIKE '/A%' OR blob1 IN ('/b', 'z') ORDER BY 1 LIMIT 1 OFFSET 1 FORMAT TabSeparated", "/b\n");
    expect_answer("SHOW TABLES FORMAT TabSeparated", "hits\n");
}

static void accounts_and_datasets_do_not_see_each_other(void **state)
{
    sv_err err = {0};
    const char *type;
    SV_AUTO(sv_buf_donep) sv_buf out;
    (void)state;
    sv_buf_init(&out, 0);
    must_write("mine", "[{\"blobs\":[\"secret\"]}]", noon);
    must_write("other", "[{},{}]", noon);
    expect_answer("SELECT count() FROM mine FORMAT TabSeparated", "1\n");
    assert_int_equal(sv_analytics_query(store, SV_STR("else"), SV_STR("SELECT * FROM mine"), noon, &out, &type, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "'mine'"));
    assert_int_equal(sv_analytics_query(store, SV_STR("else"), SV_STR("SHOW TABLES FORMAT TabSeparated"), noon, &out, &type, &err), SV_OK);
    assert_int_equal(out.n, 0);
}

static void functions_give_what_clickhouse_gives(void **state)
{
    static const char *const cases[][2] = {
        {"intDiv(7, 2)", "3"}, {"7 / 2", "3.5"}, {"7 % 4", "3"}, {"-2 * 3 + 1", "-5"}, {"round(2.345, 2)", "2.35"}, {"if(1 < 2, 'y', 'n')", "y"},
        {"length('h\xc3\xa9')", "3"}, {"position('hello', 'l')", "3"}, {"substring('hello', 2, 3)", "ell"}, {"startsWith('abc', 'ab')", "1"}, {"endsWith('abc', 'bc')", "1"},
        {"upper('abc')", "ABC"}, {"empty('')", "1"}, {"toUInt8(257)", "1"}, {"toString(12)", "12"}, {"bitAnd(12, 10)", "8"}, {"NOT 0", "1"}, {"1 = 1 AND 2 > 3 OR 1", "1"},
        {"5 BETWEEN 1 AND 5", "1"}, {"3 NOT IN (1, 2)", "1"}, {"'a_c' LIKE 'a\\\\_c'", "1"}, {"'abc' LIKE 'a\\\\_c'", "0"}, {"'abc' LIKE 'A%'", "0"}, {"'abc' ILIKE 'A%'", "1"},
        {"'h\xc3\xa9llo' LIKE 'h_llo'", "1"}, {"'aXbXc' LIKE '%b%c'", "1"}, {"CASE WHEN 1 > 2 THEN 'a' WHEN 2 > 1 THEN 'b' ELSE 'c' END", "b"},
        {"now()", "2025-11-25 12:00:00"}, {"today()", "2025-11-25"}, {"toDateTime(355924804)", "1981-04-12 12:00:04"}, {"toDateTime('355924804')", "1981-04-12 12:00:04"},
        {"toDateTime('1981-04-12 12:00:04', 'Etc/UTC')", "1981-04-12 12:00:04"}, {"toUnixTimestamp(toDateTime('1981-04-12 12:00:04'))", "355924804"},
        {"formatDateTime(toDateTime('2022-12-01 16:17:05'), '%Y-%m-%d %H:%i:%S %F %T 100%%')", "2022-12-01 16:17:05 2022-12-01 16:17:05 100%"},
        {"toStartOfYear(now())", "2025-01-01"}, {"toStartOfMonth(now())", "2025-11-01"}, {"toStartOfWeek(now())", "2025-11-23"}, {"toStartOfDay(now())", "2025-11-25 00:00:00"},
        {"toStartOfFifteenMinutes(toDateTime('2025-11-25 11:59:59'))", "2025-11-25 11:45:00"}, {"toDayOfWeek(now())", "2"}, {"toYYYYMM(now())", "202511"}, {"toHour(now())", "12"},
        {"toStartOfInterval(now(), INTERVAL '1' WEEK)", "2025-11-24 00:00:00"}, {"toStartOfInterval(now(), INTERVAL 1 QUARTER)", "2025-10-01 00:00:00"},
        {"toStartOfInterval(toDateTime('1969-12-31 23:59:59'), INTERVAL '1' MONTH)", "1969-12-01 00:00:00"}, {"now() - INTERVAL '1' DAY - INTERVAL '1' HOUR", "2025-11-24 11:00:00"},
        {"toDateTime('2024-01-31 00:00:00') + INTERVAL '1' MONTH", "2024-02-29 00:00:00"}, {"toDateTime('2024-02-29 00:00:00') - INTERVAL '1' YEAR", "2023-02-28 00:00:00"},
        {"toDateTime('no time')", "\\N"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_one(cases[i][0], cases[i][1]);
}

static void quantiles_and_tops_are_weighted(void **state)
{
    (void)state;
    must_write("q", "[{\"blobs\":[\"a\"],\"doubles\":[10,1]},{\"blobs\":[\"b\"],\"doubles\":[20,1]},{\"blobs\":[\"a\"],\"doubles\":[30,1]},{\"blobs\":[\"c\\\"\"],\"doubles\":[40,97]}]", noon);
    expect_answer("SELECT quantileWeighted(0.5)(double1, double2), quantileExactWeighted(0.02)(double1, double2), quantile(0.5)(double1), quantileWeighted(0.01, double1, double2) FROM q FORMAT TabSeparated",
           "40\t20\t20\t10\n");
    expect_answer("SELECT topK(2)(blob1) AS t, topKWeighted(1)(blob1, double2) AS w, first_value(blob1) AS f FROM q",
           "{\"meta\":[{\"name\":\"t\",\"type\":\"Array(String)\"},{\"name\":\"w\",\"type\":\"Array(String)\"},{\"name\":\"f\",\"type\":\"String\"}],"
           "\"data\":[{\"t\":[\"a\",\"b\"],\"w\":[\"c\\\"\"],\"f\":\"a\"}],\"rows\":1}");
}

static void a_bad_point_takes_its_batch_with_it(void **state)
{
    static const char *const cases[][2] = {
        {"[{}, 5]", "point 1 is not an object"}, {"[{\"indexes\":[\"a\",\"b\"]}]", "Maximum of 1 indexes"}, {"[{\"blobs\":\"a\"}]", "'blobs' is not a list"},
        {"[{\"blobs\":[5]}]", "blobs[0] is not a text"}, {"[{\"doubles\":[\"5\"]}]", "doubles[0] is not a number"}, {"{}", "not a list"},
        {"[{\"doubles\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}]", "Maximum of 20 doubles"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sv_err err = {0};
        assert_int_equal(write_text("bad", cases[i][0], noon, &err), SV_EINVAL);
        assert_non_null(strstr(err.msg, cases[i][1]));
    }
    char big[16100];
    sv_err err = {0};
    memset(big, 'x', sizeof big);
    memcpy(big, "[{\"blobs\":[\"", 12);
    strcpy(big + sizeof big - 6, "\"]}]");
    assert_int_equal(write_text("bad", big, noon, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "at most 16000"));
    expect_answer("SHOW TABLES FORMAT TabSeparated", "");
}

static void old_points_and_too_many_points_go(void **state)
{
    sv_err err = {0};
    (void)state;
    must_write("s", "[{\"doubles\":[1]}]", noon - 93 * DAY_MS);
    for (int i = 2; i < 12; i++) {
        char text[64];
        snprintf(text, sizeof text, "[{\"doubles\":[%d]}]", i);
        must_write("s", text, noon);
    }
    assert_int_equal(sv_analytics_sweep(store, noon, 1000, &err), SV_OK);
    expect_answer("SELECT count(), min(double1) FROM s FORMAT TabSeparated", "10\t2\n");
    assert_int_equal(sv_analytics_sweep(store, noon, 4, &err), SV_OK);
    expect_answer("SELECT count(), min(double1) FROM s FORMAT TabSeparated", "4\t8\n");
}

static void points_are_there_after_a_restart(void **state)
{
    sv_err err = {0};
    (void)state;
    must_write("kept", "[{\"doubles\":[7]}]", noon);
    store = sv_analytics_close(store);
    assert_int_equal(sv_analytics_open(&store, dir, &err), SV_OK);
    expect_answer("SELECT double1 FROM kept FORMAT TabSeparated", "7\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(points_are_counted_and_weighed, open_store, close_store),
        cmocka_unit_test_setup_teardown(accounts_and_datasets_do_not_see_each_other, open_store, close_store),
        cmocka_unit_test_setup_teardown(functions_give_what_clickhouse_gives, open_store, close_store),
        cmocka_unit_test_setup_teardown(quantiles_and_tops_are_weighted, open_store, close_store),
        cmocka_unit_test_setup_teardown(a_bad_point_takes_its_batch_with_it, open_store, close_store),
        cmocka_unit_test_setup_teardown(old_points_and_too_many_points_go, open_store, close_store),
        cmocka_unit_test_setup_teardown(points_are_there_after_a_restart, open_store, close_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
