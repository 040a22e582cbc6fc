#include "base/time.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t sv_now_ms(void) { return clock_us(CLOCK_REALTIME) / 1000; }
int64_t sv_mono_ms(void) { return clock_us(CLOCK_MONOTONIC) / 1000; }
int64_t sv_mono_us(void) { return clock_us(CLOCK_MONOTONIC); }

void sv_iso8601(char out[32], int64_t unix_ms)
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
    snprintf(out, 32, "%.20s.%03u000Z", text, (unsigned)ms % 1000);
}
