/* functions.c - what ClickHouse's functions give, for SQLite
 *
 * Times come and go as texts 'YYYY-MM-DD hh:mm:ss' in UTC and are counted in seconds between. What is no time gives NULL, as SQLite's own
 * functions do. Months and years are counted by the calendar: a day that the new month does not have becomes its last. */
#include "analytics/functions.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/mem.h"

/* ---- times ---- */

static bool read_time(sqlite3_value *v, struct tm *out)
{
    const char *s = (const char *)sqlite3_value_text(v);
    struct tm t = {0};
    int n = 0;
    if (!s || sscanf(s, "%4d-%2d-%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &n) != 3)
        return false;
    if (s[n] && sscanf(s + n, "%*1[ T]%2d:%2d:%2d", &t.tm_hour, &t.tm_min, &t.tm_sec) < 2)
        return false;
    if (t.tm_mon < 1 || t.tm_mon > 12 || t.tm_mday < 1 || t.tm_mday > 31 || t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 59 || t.tm_hour < 0 || t.tm_min < 0)
        return false;
    t.tm_year -= 1900;
    t.tm_mon--;
    *out = t;
    return true;
}

static void give_seconds(sqlite3_context *c, time_t at)
{
    struct tm t;
    char text[64];
    if (gmtime_r(&at, &t) && t.tm_year >= -1900 && t.tm_year <= 8099 && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &t))
        sqlite3_result_text(c, text, -1, SQLITE_TRANSIENT);
}

/* (x): a number of seconds, or a text that holds one or a time */
static void ae_datetime(sqlite3_context *c, int n, sqlite3_value **v)
{
    struct tm t;
    int64_t seconds;
    (void)n;
    if (sqlite3_value_type(v[0]) == SQLITE_INTEGER)
        give_seconds(c, sqlite3_value_int64(v[0]));
    else if (sqlite3_value_type(v[0]) == SQLITE_FLOAT)
        give_seconds(c, fabs(sqlite3_value_double(v[0])) < 1e15 ? (time_t)floor(sqlite3_value_double(v[0])) : INT64_MAX);
    else if (sv_str_to_i64(sv_str_of((const char *)sqlite3_value_text(v[0])), &seconds))
        give_seconds(c, seconds);
    else if (read_time(v[0], &t))
        give_seconds(c, timegm(&t));
}

/* How many seconds a unit has; 0: it is one of the calendar, of so many months. */
static int64_t unit_seconds(const char *unit, int *months)
{
    *months = strcmp(unit, "month") == 0 ? 1 : strcmp(unit, "quarter") == 0 ? 3 : strcmp(unit, "year") == 0 ? 12 : 0;
    return *months                         ? 0
           : strcmp(unit, "minute") == 0 ? 60
           : strcmp(unit, "hour") == 0   ? 3600
           : strcmp(unit, "day") == 0    ? 86400
           : strcmp(unit, "week") == 0   ? 604800
                                         : 1;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 1 && leap ? 29 : days[month];
}

/* (time, n, unit) */
static void ae_shift(sqlite3_context *c, int argc, sqlite3_value **v)
{
    struct tm t;
    int months;
    (void)argc;
    int64_t n = sqlite3_value_int64(v[1]); /* the query's grammar keeps it within 1e9 */
    if (!read_time(v[0], &t))
        return;
    int64_t seconds = unit_seconds((const char *)sqlite3_value_text(v[2]), &months);
    if (months) {
        int64_t month = (int64_t)(t.tm_year + 1900) * 12 + t.tm_mon + n * months;
        if (month < 0 || month >= 10000 * 12)
            return;
        t.tm_year = (int)(month / 12) - 1900;
        t.tm_mon = (int)(month % 12);
        int last = days_of(t.tm_year + 1900, t.tm_mon);
        t.tm_mday = t.tm_mday > last ? last : t.tm_mday;
    }
    give_seconds(c, timegm(&t) + n * seconds);
}

/* (time, n, unit): the begin of the time's stretch of n units, counted from 1970; weeks from a Monday */
static void ae_bucket(sqlite3_context *c, int argc, sqlite3_value **v)
{
    struct tm t;
    int months;
    (void)argc;
    int64_t n = sqlite3_value_int64(v[1]);
    if (!read_time(v[0], &t) || n < 1)
        return;
    int64_t seconds = unit_seconds((const char *)sqlite3_value_text(v[2]), &months);
    if (months) {
        int64_t month = (int64_t)(t.tm_year - 70) * 12 + t.tm_mon, each = n * months;
        month -= ((month % each) + each) % each;
        int64_t year = month >= 0 ? month / 12 : -((11 - month) / 12);
        t = (struct tm){.tm_year = (int)year + 70, .tm_mon = (int)(month - year * 12), .tm_mday = 1};
        give_seconds(c, timegm(&t));
        return;
    }
    int64_t at = timegm(&t), shift = seconds == 604800 ? 3 * 86400 : 0, each = n * seconds; /* 1970 began on a Thursday */
    at += shift;
    give_seconds(c, at - ((at % each) + each) % each - shift);
}

/* ---- patterns ---- */

static const char *next_char(const char *s)
{
    s++;
    while (((unsigned char)*s & 0xc0) == 0x80)
        s++;
    return s;
}

static char fold(char c, bool any_case) { return any_case && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* '%' any, '_' one character, '\' takes the next as it is. Only the last '%' is ever gone back to, which is enough, and keeps it at text
 * times pattern. */
static bool like(const char *s, const char *pattern, bool any_case)
{
    const char *star = NULL, *resume = NULL;
    while (*s) {
        if (*pattern == '%') {
            star = ++pattern;
            resume = s;
            continue;
        }
        bool escaped = *pattern == '\\' && pattern[1];
        const char *want = escaped ? pattern + 1 : pattern;
        if (!escaped && *pattern == '_') {
            s = next_char(s);
            pattern++;
        } else if (*want && fold(*s, any_case) == fold(*want, any_case)) {
            s++;
            pattern = want + 1;
        } else if (star) {
            pattern = star;
            s = resume = next_char(resume);
        } else
            return false;
    }
    while (*pattern == '%')
        pattern++;
    return *pattern == 0;
}

/* (text, pattern, any case) */
static void ae_like(sqlite3_context *c, int argc, sqlite3_value **v)
{
    const char *s = (const char *)sqlite3_value_text(v[0]), *pattern = (const char *)sqlite3_value_text(v[1]);
    (void)argc;
    if (s && pattern)
        sqlite3_result_int(c, like(s, pattern, sqlite3_value_int(v[2]) != 0));
}

/* ---- aggregates ---- */

typedef struct weighted { double x, w; } weighted;
typedef struct quantile { weighted *v; size_t n, cap; double level; bool failed; } quantile;

static void too_many(sqlite3_context *c, const char *what)
{
    char text[120];
    snprintf(text, sizeof text, "%s of more than %d values: use GROUP BY or WHERE to make it fewer", what, SV_AE_MAX_GROUP);
    sqlite3_result_error(c, text, -1);
}

/* (level, x, weight) */
static void quantile_step(sqlite3_context *c, int argc, sqlite3_value **v)
{
    quantile *q = sqlite3_aggregate_context(c, sizeof *q);
    (void)argc;
    if (!q || q->failed || sqlite3_value_type(v[1]) == SQLITE_NULL)
        return;
    double w = sqlite3_value_double(v[2]);
    q->level = sqlite3_value_double(v[0]);
    if (!(w > 0))
        return;
    if (q->n == q->cap) {
        size_t cap = q->cap ? q->cap * 2 : 64;
        weighted *grown = q->n < SV_AE_MAX_GROUP ? sv_try_realloc(q->v, cap, sizeof *grown) : NULL;
        if (!grown) {
            q->failed = true;
            return;
        }
        q->v = grown;
        q->cap = cap;
    }
    q->v[q->n++] = (weighted){sqlite3_value_double(v[1]), w};
}

static int by_x(const void *a, const void *b)
{
    double x = ((const weighted *)a)->x, y = ((const weighted *)b)->x;
    return x < y ? -1 : x > y;
}

/* The smallest value at which the weights up to it reach level times all. */
static void quantile_final(sqlite3_context *c)
{
    quantile *q = sqlite3_aggregate_context(c, 0);
    if (!q)
        return;
    if (q->failed)
        too_many(c, "a quantile");
    else if (q->n) {
        double all = 0, sum = 0;
        qsort(q->v, q->n, sizeof *q->v, by_x);
        for (size_t i = 0; i < q->n; i++)
            all += q->v[i].w;
        size_t i = 0;
        for (; i + 1 < q->n; i++)
            if ((sum += q->v[i].w) >= all * q->level)
                break;
        sqlite3_result_double(c, q->v[i].x);
    }
    free(q->v);
}

/* topK: a hash table of values and their weights, open addressing. */
typedef struct counted { char *text; double w; } counted;
typedef struct top { counted *v; size_t n, n_slots; int64_t k; bool failed; } top;

static counted *top_find(const top *t, const char *text)
{
    uint64_t h = 1469598103934665603u;
    for (const char *s = text; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    for (size_t i = h & (t->n_slots - 1);; i = (i + 1) & (t->n_slots - 1))
        if (!t->v[i].text || strcmp(t->v[i].text, text) == 0)
            return &t->v[i];
}

static bool top_grow(top *t)
{
    top bigger = *t;
    bigger.n_slots = t->n_slots ? t->n_slots * 2 : 64;
    bigger.v = t->n < SV_AE_MAX_GROUP ? sv_try_calloc(bigger.n_slots, sizeof *bigger.v) : NULL;
    if (!bigger.v)
        return false;
    for (size_t i = 0; i < t->n_slots; i++)
        if (t->v[i].text)
            *top_find(&bigger, t->v[i].text) = t->v[i];
    free(t->v);
    *t = bigger;
    return true;
}

/* (k, x, weight) */
static void top_step(sqlite3_context *c, int argc, sqlite3_value **v)
{
    top *t = sqlite3_aggregate_context(c, sizeof *t);
    const char *text = (const char *)sqlite3_value_text(v[1]);
    (void)argc;
    if (!t || t->failed || !text)
        return;
    t->k = sqlite3_value_int64(v[0]);
    if (t->n * 4 >= t->n_slots * 3 && !top_grow(t)) {
        t->failed = true;
        return;
    }
    counted *slot = top_find(t, text);
    if (!slot->text) {
        slot->text = strdup(text);
        if (!slot->text) {
            t->failed = true;
            return;
        }
        t->n++;
    }
    slot->w += sqlite3_value_double(v[2]);
}

static int by_weight(const void *a, const void *b)
{
    const counted *x = a, *y = b;
    if (!x->text || !y->text)
        return !x->text - !y->text;
    return x->w != y->w ? (x->w < y->w ? 1 : -1) : strcmp(x->text, y->text);
}

/* The k heaviest as a JSON list, for want of lists in SQLite. */
static void top_final(sqlite3_context *c)
{
    top *t = sqlite3_aggregate_context(c, 0);
    if (!t) {
        sqlite3_result_text(c, "[]", 2, SQLITE_STATIC);
        return;
    }
    if (t->failed)
        too_many(c, "topK");
    else if (t->n_slots) {
        SV_AUTO(sv_buf_donep) sv_buf list;
        sv_buf_init(&list, 1 << 20);
        qsort(t->v, t->n_slots, sizeof *t->v, by_weight);
        for (size_t i = 0; i < t->n && (int64_t)i < t->k; i++) {
            sv_buf_addc(&list, i ? ',' : '[');
            sv_json_add_str(&list, sv_str_of(t->v[i].text));
        }
        sv_buf_adds(&list, t->n && t->k > 0 ? "]" : "[]");
        if (list.failed)
            sqlite3_result_error(c, "topK gives more than 1 MiB", -1);
        else
            sqlite3_result_text(c, list.p, (int)list.n, SQLITE_TRANSIENT);
    }
    for (size_t i = 0; i < t->n_slots; i++)
        free(t->v[i].text);
    free(t->v);
}

/* argMin(value, by), argMax, first_value, last_value: one row's value is kept. */
typedef struct kept { sqlite3_value *value, *by; } kept;

static int compare(sqlite3_value *a, sqlite3_value *b)
{
    if (sqlite3_value_numeric_type(a) != SQLITE_TEXT && sqlite3_value_numeric_type(b) != SQLITE_TEXT) {
        double x = sqlite3_value_double(a), y = sqlite3_value_double(b);
        return x < y ? -1 : x > y;
    }
    const char *x = (const char *)sqlite3_value_text(a), *y = (const char *)sqlite3_value_text(b);
    return x && y ? strcmp(x, y) : !y - !x;
}

static void keep(sqlite3_context *c, int argc, sqlite3_value **v, bool (*better)(const kept *k, sqlite3_value *by))
{
    kept *k = sqlite3_aggregate_context(c, sizeof *k);
    if (!k || (k->value && !better(k, argc > 1 ? v[1] : NULL)))
        return;
    sqlite3_value_free(k->value);
    sqlite3_value_free(k->by);
    k->value = sqlite3_value_dup(v[0]);
    k->by = argc > 1 ? sqlite3_value_dup(v[1]) : NULL;
}

static bool is_less(const kept *k, sqlite3_value *by) { return compare(by, k->by) < 0; }
static bool is_more(const kept *k, sqlite3_value *by) { return compare(by, k->by) > 0; }
static bool never(const kept *k, sqlite3_value *by) { return (void)k, (void)by, false; }
static bool ever(const kept *k, sqlite3_value *by) { return (void)k, (void)by, true; }
static void arg_min_step(sqlite3_context *c, int n, sqlite3_value **v) { keep(c, n, v, is_less); }
static void arg_max_step(sqlite3_context *c, int n, sqlite3_value **v) { keep(c, n, v, is_more); }
static void first_step(sqlite3_context *c, int n, sqlite3_value **v) { keep(c, n, v, never); }
static void last_step(sqlite3_context *c, int n, sqlite3_value **v) { keep(c, n, v, ever); }

static void kept_final(sqlite3_context *c)
{
    kept *k = sqlite3_aggregate_context(c, 0);
    if (!k)
        return;
    if (k->value)
        sqlite3_result_value(c, k->value);
    sqlite3_value_free(k->value);
    sqlite3_value_free(k->by);
}

sv_rc sv_ae_functions_add(sqlite3 *db, sv_err *err)
{
    static const struct {
        const char *name;
        int n;
        void (*fn)(sqlite3_context *, int, sqlite3_value **);
        void (*final)(sqlite3_context *);
    } all[] = {{"ae_datetime", 1, ae_datetime, NULL},         {"ae_shift", 3, ae_shift, NULL},
               {"ae_bucket", 3, ae_bucket, NULL},             {"ae_like", 3, ae_like, NULL},
               {"ae_quantile", 3, quantile_step, quantile_final}, {"ae_top", 3, top_step, top_final},
               {"ae_arg_min", 2, arg_min_step, kept_final},   {"ae_arg_max", 2, arg_max_step, kept_final},
               {"ae_first", 1, first_step, kept_final},       {"ae_last", 1, last_step, kept_final}};
    for (size_t i = 0; i < SV_LEN(all); i++)
        if (sqlite3_create_function(db, all[i].name, all[i].n, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL, all[i].final ? NULL : all[i].fn,
                                    all[i].final ? all[i].fn : NULL, all[i].final) != SQLITE_OK)
            return sv_fail(err, SV_ENOMEM, "add %s: %s", all[i].name, sqlite3_errmsg(db));
    return SV_OK;
}
