/* cron.h - the expressions of cron triggers: five fields in UTC, as Cloudflare reads them
 * Threads: values; any thread. */
#ifndef SV_WORKERS_CRON_H
#define SV_WORKERS_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef enum sv_cron_days { SV_CRON_ANY, SV_CRON_SET, SV_CRON_LAST, SV_CRON_NEAREST, SV_CRON_NTH } sv_cron_days;

typedef struct sv_cron {
    uint64_t minutes;         /* bit m: at minute m */
    uint32_t hours, months;   /* months: bit 1 is January */
    sv_cron_days dom, dow;
    uint32_t dom_set;         /* SET: bit d, from 1 */
    int dom_day;              /* NEAREST: the weekday nearest to this day. LAST: so many days before the last one */
    bool dom_weekday;         /* LAST: the weekday nearest to that */
    uint32_t dow_set;         /* SET: bit d, Sunday is 1 */
    int dow_day, dow_nth;     /* LAST, NTH: of this weekday */
} sv_cron;

/* "minute hour day-of-month month day-of-week". Days of the week are 1 (Sunday) to 7, or SUN to SAT. SV_EINVAL names the field and what is wrong. */
SV_MUST sv_rc sv_cron_parse(sv_cron *out, sv_str text, sv_err *err);
/* The first minute after `after_ms` that it names, in ms since 1970; -1: there is none within ten years (the 30th of February). */
int64_t sv_cron_next(const sv_cron *c, int64_t after_ms);

#endif
