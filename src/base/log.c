/* log.c - one write(2) a line, so that lines of several threads and processes never mix */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"

static const char *process_name = "selvedge";
static sv_level min_level = SV_INFO;

void sv_log_init(const char *process, sv_level min)
{
    process_name = process;
    min_level = min;
}

void sv_log(sv_level level, const char *event, const char *fmt, ...)
{
    if (level < min_level)
        return;
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[1024], at[32];
    sv_iso8601(at, sv_now_ms());
    int n = snprintf(line, sizeof line, "%s %-5s %s %s ", at, names[level], process_name, event);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    n += m < 0 ? 0 : m;
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    for (char *p = line; p < line + n; p++) /* a value cannot forge a second line */
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    line[n++] = '\n';
    ssize_t rc = write(STDERR_FILENO, line, (size_t)n);
    (void)rc; /* there is nobody left to tell */
}

bool sv_log_may(sv_log_gate *g, int32_t per_minute)
{
    int64_t now = sv_mono_ms(), start = __atomic_load_n(&g->window_ms, __ATOMIC_RELAXED);
    if (start == 0 || now - start >= 60000) {
        if (__atomic_compare_exchange_n(&g->window_ms, &start, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            int32_t dropped = __atomic_exchange_n(&g->dropped, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&g->n, 0, __ATOMIC_RELAXED);
            if (dropped > 0)
                sv_log(SV_INFO, "log.dropped", "lines=%d window_s=60", dropped);
        }
    }
    if (__atomic_add_fetch(&g->n, 1, __ATOMIC_RELAXED) <= per_minute)
        return true;
    __atomic_add_fetch(&g->dropped, 1, __ATOMIC_RELAXED);
    return false;
}
