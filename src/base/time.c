#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

static int64_t clock_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t sv_now_ms(void) { return clock_us(CLOCK_REALTIME) / 1000; }
int64_t sv_mono_ms(void) { return clock_us(CLOCK_MONOTONIC) / 1000; }
int64_t sv_mono_us(void) { return clock_us(CLOCK_MONOTONIC); }

static void iso8601(char out[32], int64_t unix_ms, const char *tail)
{
    time_t s = (time_t)(unix_ms / 1000);
    int ms = (int)(unix_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        s--;
    }
    struct tm tm;
    gmtime_r(&s, &tm);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 32, "%.20s.%03u%s", text, (unsigned)ms % 1000, tail);
}

void sv_iso8601(char out[32], int64_t unix_ms) { iso8601(out, unix_ms, "000Z"); }
void sv_iso8601_ms(char out[32], int64_t unix_ms) { iso8601(out, unix_ms, "Z"); }

/* A text with a NUL behind it, for strptime. */
static bool terminated(sv_str text, char out[64])
{
    if (text.n == 0 || text.n >= 64)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = 0;
    return true;
}

bool sv_parse_iso8601(sv_str text, int64_t *unix_ms)
{
    struct tm tm = {0};
    char s[64], sign, more;
    int hours, minutes, ms = 0;
    if (!terminated(text, s))
        return false;
    const char *rest = strptime(s, "%Y-%m-%d", &tm);
    if (!rest || tm.tm_year > 8099)
        return false;
    if (*rest == 'T' || *rest == ' ')
        rest = strptime(rest + 1, "%H:%M:%S", &tm);
    else if (*rest)
        return false;
    if (rest && *rest == '.')
        for (int i = 0, scale = 100; *++rest >= '0' && *rest <= '9'; i++, scale /= 10)
            ms += (*rest - '0') * scale;
    if (!rest)
        return false;
    int64_t at = (int64_t)timegm(&tm) * 1000 + ms;
    if (*rest && strcmp(rest, "Z") != 0) {
        if (sscanf(rest, "%c%2d:%2d%c", &sign, &hours, &minutes, &more) != 3 || (sign != '+' && sign != '-'))
            return false;
        at -= (sign == '+' ? 1 : -1) * (int64_t)(hours * 3600 + minutes * 60) * 1000;
    }
    *unix_ms = at;
    return true;
}

void sv_http_date_text(char out[32], int64_t unix_s)
{
    time_t s = (time_t)unix_s;
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(out, 32, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

bool sv_parse_http_date(sv_str text, int64_t *unix_s)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"};
    char s[64];
    if (!terminated(text, s))
        return false;
    for (size_t i = 0; i < SV_LEN(forms); i++) {
        struct tm tm = {0};
        const char *end = strptime(s, forms[i], &tm);
        if (end && !*end) {
            *unix_s = timegm(&tm);
            return true;
        }
    }
    return false;
}
