/* links: vectorize */
/* vectorize_fuzz.c - bodies of vectors: what is taken has ids, sizes and values as promised, and a refusal says why */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "vectorize/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check(const sv_vz_lines *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const sv_vec_item *item = &l->items[i];
        SV_ASSERT(item->id.n >= 1 && item->id.n <= 64 && item->ns.n <= 64 && sv_utf8_valid(item->id) && sv_utf8_valid(item->ns));
        SV_ASSERT(item->metadata.n <= 10240 && (item->metadata.n == 0 || item->metadata.p[0] == '{'));
        for (int k = 0; k < 4; k++)
            SV_ASSERT(isfinite(item->values[k]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    char *text = malloc(n ? n : 1); /* exactly as long, so that a read past the end is seen */
    if (n)
        memcpy(text, p, n);
    for (int discard = 0; discard < 2; discard++) {
        sv_vz_lines l = {0};
        if (sv_vz_lines_read(&l, (sv_str){text, n}, NULL, 4, SV_LIMIT_VEC_BATCH, discard, &err) != SV_OK) {
            SV_ASSERT(err.msg[0] != '\0' && l.items == NULL);
            continue;
        }
        SV_AUTO(sv_json_decrefp) json_t *messages = NULL;
        check(&l);
        SV_ASSERT(sv_json_parse(&messages, sv_buf_str(&l.messages), &err) == SV_OK);
        SV_ASSERT(discard || l.n_dropped == 0);
        sv_vz_lines_done(&l);
    }
    free(text);
    return 0;
}
