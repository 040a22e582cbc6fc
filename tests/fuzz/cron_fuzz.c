/* links: workers */
/* Cron expressions: whatever is taken names minutes in order, each of them one that the fields allow. */
#include "workers/cron.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_cron c;
    sv_err err = {0};
    if (sv_cron_parse(&c, (sv_str){(const char *)p, n}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
        return 0;
    }
    int64_t t = 1795618800000; /* 2026-11-25 15:00 */
    for (int i = 0; i < 3; i++) {
        int64_t next = sv_cron_next(&c, t);
        if (next < 0)
            return 0;
        SV_ASSERT(next > t && next % 60000 == 0);
        SV_ASSERT(c.minutes >> (next / 60000 % 60) & 1 && c.hours >> (next / 3600000 % 24) & 1);
        t = next;
    }
    return 0;
}
