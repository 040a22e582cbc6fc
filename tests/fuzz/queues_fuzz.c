/* links: queues */
/* Bodies of sends, of either dialect, and lease ids: what is taken keeps to the limits, and a lease id is read back as it was written. */
#include "queues/queues_send.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    sv_queues_verdict v;
    if (sv_queues_lease_parse((sv_str){(const char *)p, n}, &v)) {
        char text[SV_QUEUES_LEASE];
        sv_queues_lease_text(&(sv_queues_item){.no = v.no, .lease = v.lease}, text);
        SV_ASSERT(n == strlen(text));
    }
    if (sv_json_parse(&body, (sv_str){(const char *)p, n}, &err) != SV_OK)
        return 0;
    for (int how = 0; how < 3; how++) {
        sv_queues_batch b = {.n = 0};
        sv_err why = {0};
        sv_rc rc = how == 0 ? sv_queues_batch_of_binding(&b, body, -1, &why) : sv_queues_batch_of_rest(&b, body, how == 1, &why);
        if (rc != SV_OK) {
            SV_ASSERT(why.msg[0] != '\0' && b.n == 0);
            continue;
        }
        SV_ASSERT(b.n >= 1 && b.n <= SV_QUEUES_MAX_BATCH && sv_queues_check(b.v, b.n, &why) == SV_OK);
        sv_queues_batch_done(&b);
    }
    return 0;
}
