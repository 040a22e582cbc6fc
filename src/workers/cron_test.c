/* Tests of cron.h: known schedules and their next minutes, against dates looked up in a calendar; every special form; refusals. */
#include "workers/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static sv_err err;

static int64_t ms_of(const char *when)
{
    struct tm t = {0};
    assert_int_equal(sscanf(when, "%d-%d-%d %d:%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min), 5);
    t.tm_year -= 1900;
    t.tm_mon--;
    return (int64_t)timegm(&t) * 1000;
}

static void next_is(const char *cron, const char *after, const char *next)
{
    sv_cron c;
    char got[32] = "never";
    if (sv_cron_parse(&c, sv_str_of(cron), &err) != SV_OK)
        fail_msg("%s: %s", cron, err.msg);
    int64_t ms = sv_cron_next(&c, ms_of(after));
    time_t s = (time_t)(ms / 1000);
    struct tm t;
    if (ms >= 0)
        strftime(got, sizeof got, "%Y-%m-%d %H:%M", gmtime_r(&s, &t));
    if (strcmp(got, next) != 0)
        fail_msg("%s after %s: %s, not %s", cron, after, got, next);
}

static void refused(const char *cron, const char *words)
{
    sv_cron c;
    assert_int_equal(sv_cron_parse(&c, sv_str_of(cron), &err), SV_EINVAL);
    assert_int_equal(err.api_code, 10100);
    if (!strstr(err.msg, words))
        fail_msg("'%s' is not in '%s'", words, err.msg);
}

static void minutes_hours_and_months(void **state)
{
    (void)state;
    next_is("* * * * *", "2026-11-25 15:00", "2026-11-25 15:01");
    next_is("*/30 * * * *", "2026-11-25 15:00", "2026-11-25 15:30");
    next_is("*/30 * * * *", "2026-11-25 15:59", "2026-11-25 16:00");
    next_is("45 * * * *", "2026-11-25 23:45", "2026-11-26 00:45");
    next_is("5-7,20 3 * * *", "2026-11-25 03:07", "2026-11-25 03:20");
    next_is("10/25 * * * *", "2026-11-25 03:35", "2026-11-25 04:10");
    next_is("0 22-2/2 * * *", "2026-11-25 22:00", "2026-11-26 00:00");
    next_is("0 0 1 jan,JUL *", "2026-11-25 00:00", "2027-01-01 00:00");
    next_is("0 0 1 NOV-FEB/2 *", "2026-11-25 00:00", "2027-01-01 00:00");
    next_is("59 23 31 12 *", "2026-12-31 23:59", "2027-12-31 23:59");
    next_is("\t 0   12\t* * *  ", "2026-11-25 12:00", "2026-11-26 12:00");
    next_is("0 0 29 2 *", "2026-11-25 00:00", "2028-02-29 00:00");
    next_is("0 0 30 2 *", "2026-11-25 00:00", "never");
    next_is("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"); /* 2100 is no leap year */
}

/* 2026-11-25 was a Wednesday. */
static void days_of_the_week_begin_with_sunday_as_1(void **state)
{
    (void)state;
    next_is("0 17 * * sun", "2026-11-25 00:00", "2026-11-29 17:00");
    next_is("0 17 * * 1", "2026-11-25 00:00", "2026-11-29 17:00");
    next_is("10 7 * * mon-fri", "2026-11-27 07:10", "2026-11-30 07:10");
    next_is("10 7 * * 2-6", "2026-11-27 07:10", "2026-11-30 07:10");
    next_is("0 0 * * FRI-MON", "2026-11-25 00:00", "2026-11-27 00:00");
    next_is("0 0 * * FRI-MON", "2026-11-28 00:00", "2026-11-29 00:00");
    next_is("0 0 * * FRI-MON", "2026-11-30 00:00", "2026-12-04 00:00");
    next_is("0 0 * * L", "2026-11-25 00:00", "2026-11-28 00:00");
}

static void special_days(void **state)
{
    (void)state;
    next_is("0 18 * * 6L", "2026-11-25 00:00", "2026-11-27 18:00"); /* the last Friday */
    next_is("0 18 * * friL", "2026-11-27 18:00", "2026-12-25 18:00");
    next_is("0 0 * * 2#1", "2026-11-25 00:00", "2026-12-07 00:00"); /* the first Monday */
    next_is("0 0 * * sat#5", "2026-11-25 00:00", "2027-01-30 00:00");
    next_is("0 0 L * *", "2026-11-25 00:00", "2026-11-30 00:00");
    next_is("0 0 L * *", "2027-02-01 00:00", "2027-02-28 00:00");
    next_is("0 0 L-3 * *", "2026-11-25 00:00", "2026-11-27 00:00");
    next_is("59 23 LW * *", "2027-01-01 00:00", "2027-01-29 23:59"); /* the 31st is a Sunday */
    next_is("0 0 L-1W * *", "2027-01-01 00:00", "2027-01-29 00:00"); /* the 30th is a Saturday */
    next_is("0 0 15W * *", "2026-11-01 00:00", "2026-11-16 00:00");  /* the 15th is a Sunday */
    next_is("0 0 1W * *", "2026-07-31 00:00", "2026-08-03 00:00");   /* a Saturday: never into July */
    next_is("0 0 31W 5 *", "2026-05-01 00:00", "2026-05-29 00:00");  /* a Sunday: never into June */
    next_is("0 0 31W * *", "2026-11-01 00:00", "2026-12-31 00:00");  /* months without one have none */
    next_is("0 0 13 * fri", "2026-11-14 00:00", "2026-11-20 00:00"); /* either is enough */
    next_is("0 0 13 * fri", "2026-12-12 00:00", "2026-12-13 00:00");
}

static void what_is_no_expression_is_refused_by_its_field(void **state)
{
    (void)state;
    refused("", "0 fields");
    refused("* * * *", "4 fields");
    refused("* * * * * *", "6 fields");
    refused("60 * * * *", "minute '60'");
    refused("* 24 * * *", "hour '24'");
    refused("* * 0 * *", "day of month '0'");
    refused("* * 32 * *", "day of month '32'");
    refused("* * * 13 *", "month '13'");
    refused("* * * feb-x *", "month 'feb-x'");
    refused("* * * * 0", "day of week '0'"); /* Sunday is 1 */
    refused("* * * * 8", "day of week '8'");
    refused("*/0 * * * *", "minute '*/0'");
    refused("*/60 * * * *", "minute");
    refused("1, * * * *", "minute '1,'");
    refused("1-2-3 * * * *", "minute");
    refused("-1 * * * *", "minute");
    refused("1000 * * * *", "minute");
    refused("* * LX * *", "day of month 'LX'");
    refused("* * L-31 * *", "day of month");
    refused("* * W * *", "day of month 'W'");
    refused("* * 15W,16W * *", "day of month");
    refused("* * * * 6#0", "day of week");
    refused("* * * * 6#6", "day of week");
    refused("* * * * 6LL", "day of week");
    refused("@daily", "1 fields");
    sv_cron c;
    char big[300];
    memset(big, '*', sizeof big);
    assert_int_equal(sv_cron_parse(&c, (sv_str){big, sizeof big}, &err), SV_EINVAL);
    assert_int_equal(sv_cron_parse(&c, (sv_str){0}, &err), SV_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minutes_hours_and_months),
        cmocka_unit_test(days_of_the_week_begin_with_sunday_as_1),
        cmocka_unit_test(special_days),
        cmocka_unit_test(what_is_no_expression_is_refused_by_its_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
