/* cron.c - reads a cron expression and finds its next minute
 *
 *   field          values          besides * , - /
 *   minute         0-59
 *   hour           0-23
 *   day of month   1-31            L last day, L-3 three days before it, LW and L-3W the weekday nearest to those, 15W the weekday nearest to the 15th
 *   month          1-12, JAN-DEC
 *   day of week    1-7, SUN-SAT    6L the last Friday, 6#2 the second, L Saturday
 *
 * 1 is Sunday, as in Quartz and unlike in crontab(5). Ranges may wrap (FRI-MON). When both days are given, either is enough, as in crontab. A nearest
 * weekday stays within its month. All of it is UTC, so no hour is missing or comes twice.
 *
 * The next minute is looked for by days, then inside the day: at most 3,653 cheap steps, and no arithmetic with calendars but the one below. */
#include "workers/cron.h"

#include <string.h>
#include <strings.h>

enum { DAY_MS = 86400000, MINUTE_MS = 60000, MAX_DAYS = 3653, MAX_TEXT = 256 };

/* ---- calendar ---- */

typedef struct date { int year, month, day, weekday; } date; /* month, day from 1; weekday: 1 is Sunday */

/* Days since 1970-01-01 to a date; Howard Hinnant's days_from_civil turned round: http://howardhinnant.github.io/date_algorithms.html */
static date date_of(int64_t days)
{
    int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    date d = {.day = (int)(doy - (153 * mp + 2) / 5 + 1), .month = (int)(mp < 10 ? mp + 3 : mp - 9)};
    d.year = (int)(yoe + era * 400 + (d.month <= 2));
    d.weekday = (int)((days + 4) % 7) + 1; /* 1970-01-01 was a Thursday */
    return d;
}

static int days_in_month(int year, int month)
{
    static const int n[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return n[month - 1] + (month == 2 && leap);
}

/* ---- fields ---- */

typedef struct field { const char *name; int min, max; const char *const *words; int first_word; } field;

static const char *const months[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const weekdays[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};
static const field fields[] = {
    {"minute", 0, 59, NULL, 0}, {"hour", 0, 23, NULL, 0}, {"day of month", 1, 31, NULL, 0}, {"month", 1, 12, months, 1}, {"day of week", 1, 7, weekdays, 1}};

static sv_rc wrong(const field *f, sv_str text, sv_err *err)
{
    return sv_fail_api(err, SV_EINVAL, 10100, "invalid cron expression: %s '%.*s' is none of its forms; values are %d to %d", f->name,
                       text.n < 40 ? (int)text.n : 40, text.p ? text.p : "", f->min, f->max);
}

/* A number or a word at the start of *s, which is moved behind it. */
static bool take_value(const field *f, sv_str *s, int *out)
{
    int v = 0;
    size_t n = 0;
    while (n < s->n && n < 3 && s->p[n] >= '0' && s->p[n] <= '9')
        v = v * 10 + s->p[n++] - '0';
    for (int i = 0; n == 0 && f->words && f->words[i] && s->n >= 3; i++)
        if (strncasecmp(s->p, f->words[i], 3) == 0) {
            v = i + f->first_word;
            n = 3;
        }
    if (n == 0 || v < f->min || v > f->max)
        return false;
    *s = (sv_str){s->p + n, s->n - n};
    *out = v;
    return true;
}

static bool take_char(sv_str *s, char c)
{
    if (s->n == 0 || (s->p[0] | 0x20) != (c | 0x20))
        return false;
    *s = (sv_str){s->p + 1, s->n - 1};
    return true;
}

/* One of a list: *, a, a-b, each with /step. */
static bool take_part(const field *f, sv_str part, uint64_t *set)
{
    int from = f->min, to = f->max, step = 1;
    bool star = part.n && part.p[0] == '*';
    if (star)
        part = (sv_str){part.p + 1, part.n - 1};
    else if (!take_value(f, &part, &from))
        return false;
    bool ranged = !star && part.n && part.p[0] == '-';
    if (ranged) {
        part = (sv_str){part.p + 1, part.n - 1};
        if (!take_value(f, &part, &to))
            return false;
    }
    bool stepped = part.n && part.p[0] == '/';
    if (stepped) {
        const field steps = {f->name, 1, f->max - f->min, NULL, 0};
        part = (sv_str){part.p + 1, part.n - 1};
        if (!take_value(&steps, &part, &step))
            return false;
    }
    if (part.n)
        return false;
    if (!star && !ranged && !stepped)
        to = from;
    int n = f->max - f->min + 1, length = (to - from + n) % n;
    for (int i = 0; i <= length; i += step)
        *set |= (uint64_t)1 << (f->min + (from - f->min + i) % n);
    return true;
}

static sv_rc take_set(const field *f, sv_str text, uint64_t *set, sv_err *err)
{
    *set = 0;
    for (sv_str rest = text;;) {
        const char *comma = rest.n ? memchr(rest.p, ',', rest.n) : NULL;
        sv_str part = {rest.p, comma ? (size_t)(comma - rest.p) : rest.n};
        if (!take_part(f, part, set))
            return wrong(f, text, err);
        if (!comma)
            return SV_OK;
        rest = (sv_str){comma + 1, rest.n - part.n - 1};
    }
}

static sv_rc day_of_month(sv_cron *c, sv_str text, sv_err *err)
{
    const field *f = &fields[2], before = {f->name, 1, 30, NULL, 0};
    sv_str s = text;
    uint64_t set;
    int day;
    if (sv_str_is(text, "*"))
        return SV_OK;
    if (take_char(&s, 'L')) {
        c->dom = SV_CRON_LAST;
        if (take_char(&s, '-') && !take_value(&before, &s, &c->dom_day))
            return wrong(f, text, err);
        c->dom_weekday = take_char(&s, 'W');
        return s.n ? wrong(f, text, err) : SV_OK;
    }
    if (take_value(f, &s, &day) && take_char(&s, 'W') && s.n == 0) {
        c->dom = SV_CRON_NEAREST;
        c->dom_day = day;
        return SV_OK;
    }
    c->dom = SV_CRON_SET;
    if (take_set(f, text, &set, err) != SV_OK)
        return err->code;
    c->dom_set = (uint32_t)set;
    return SV_OK;
}

static sv_rc day_of_week(sv_cron *c, sv_str text, sv_err *err)
{
    const field *f = &fields[4], nth = {f->name, 1, 5, NULL, 0};
    sv_str s = text;
    uint64_t set;
    if (sv_str_is(text, "*"))
        return SV_OK;
    if (sv_str_ieq(text, "L")) {
        c->dow = SV_CRON_SET;
        c->dow_set = 1u << 7;
        return SV_OK;
    }
    if (take_value(f, &s, &c->dow_day)) {
        if (take_char(&s, 'L')) {
            c->dow = SV_CRON_LAST;
            return s.n ? wrong(f, text, err) : SV_OK;
        }
        if (s.n && s.p[0] == '#') {
            s = (sv_str){s.p + 1, s.n - 1};
            c->dow = SV_CRON_NTH;
            return take_value(&nth, &s, &c->dow_nth) && s.n == 0 ? SV_OK : wrong(f, text, err);
        }
    }
    c->dow = SV_CRON_SET;
    if (take_set(f, text, &set, err) != SV_OK)
        return err->code;
    c->dow_set = (uint32_t)set;
    return SV_OK;
}

sv_rc sv_cron_parse(sv_cron *out, sv_str text, sv_err *err)
{
    sv_str v[5];
    size_t n = 0;
    uint64_t set;
    sv_cron c = {0};
    if (text.n > MAX_TEXT)
        return sv_fail_api(err, SV_EINVAL, 10100, "invalid cron expression: %zu bytes, at most %d", text.n, MAX_TEXT);
    for (size_t i = 0; i < text.n;) {
        while (i < text.n && (text.p[i] == ' ' || text.p[i] == '\t'))
            i++;
        size_t from = i;
        while (i < text.n && text.p[i] != ' ' && text.p[i] != '\t')
            i++;
        if (i == from)
            break;
        if (n < 5)
            v[n] = (sv_str){text.p + from, i - from};
        n++;
    }
    if (n != 5)
        return sv_fail_api(err, SV_EINVAL, 10100, "invalid cron expression: %zu fields, it has five: minute, hour, day of month, month, day of week", n);
    if (take_set(&fields[0], v[0], &c.minutes, err) != SV_OK || take_set(&fields[1], v[1], &set, err) != SV_OK)
        return err->code;
    c.hours = (uint32_t)set;
    if (day_of_month(&c, v[2], err) != SV_OK || take_set(&fields[3], v[3], &set, err) != SV_OK || day_of_week(&c, v[4], err) != SV_OK)
        return err->code;
    c.months = (uint32_t)set;
    *out = c;
    return SV_OK;
}

/* ---- days ---- */

/* The weekday (Monday to Friday) of d's month that is nearest to `day`. */
static int nearest_weekday(const date *d, int day)
{
    int last = days_in_month(d->year, d->month);
    int weekday = (d->weekday - 1 + (day - d->day) % 7 + 7) % 7; /* 0 is Sunday */
    if (weekday == 6)
        return day > 1 ? day - 1 : day + 2;
    if (weekday == 0)
        return day < last ? day + 1 : day - 2;
    return day;
}

static bool dom_matches(const sv_cron *c, const date *d)
{
    int last = days_in_month(d->year, d->month), day = last - c->dom_day;
    switch (c->dom) {
    case SV_CRON_SET: return c->dom_set >> d->day & 1;
    case SV_CRON_LAST: return day >= 1 && d->day == (c->dom_weekday ? nearest_weekday(d, day) : day);
    case SV_CRON_NEAREST: return c->dom_day <= last && d->day == nearest_weekday(d, c->dom_day);
    default: return true;
    }
}

static bool dow_matches(const sv_cron *c, const date *d)
{
    switch (c->dow) {
    case SV_CRON_SET: return c->dow_set >> d->weekday & 1;
    case SV_CRON_LAST: return d->weekday == c->dow_day && d->day + 7 > days_in_month(d->year, d->month);
    case SV_CRON_NTH: return d->weekday == c->dow_day && (d->day - 1) / 7 + 1 == c->dow_nth;
    default: return true;
    }
}

static bool day_matches(const sv_cron *c, const date *d)
{
    if (!(c->months >> d->month & 1))
        return false;
    if (c->dom == SV_CRON_ANY || c->dow == SV_CRON_ANY)
        return dom_matches(c, d) && dow_matches(c, d);
    return dom_matches(c, d) || dow_matches(c, d);
}

int64_t sv_cron_next(const sv_cron *c, int64_t after_ms)
{
    int64_t minute = (after_ms < 0 ? 0 : after_ms) / MINUTE_MS + 1, days = minute / 1440;
    int from = (int)(minute % 1440);
    for (int i = 0; i < MAX_DAYS; i++, days++, from = 0) {
        date d = date_of(days);
        if (!day_matches(c, &d))
            continue;
        for (int m = from; m < 1440; m++)
            if ((c->hours >> (m / 60) & 1) && (c->minutes >> (m % 60) & 1))
                return days * DAY_MS + (int64_t)m * MINUTE_MS;
    }
    return -1;
}
