/* links: nn; seconds: 60 */
/* safetensors_fuzz.c - safetensors files that a stranger made: read whole or refused with a sentence */
#include <stdlib.h>
#include <string.h>

#include "nn/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    sv_safetensors *s = NULL;
    volatile unsigned sum = 0;
    uint8_t *bytes = malloc(n ? n : 1); /* exactly as long */
    memcpy(bytes, p, n);
    if (sv_safetensors_parse(&s, bytes, n, &err) == SV_OK) {
        for (size_t i = 0; i < sv_safetensors_n_tensors(s); i++) {
            const sv_tensor *t = sv_safetensors_tensor_at(s, i);
            SV_ASSERT(sv_safetensors_tensor(s, t->name) == t && !sv_safetensors_why_not(s, t->name));
            SV_ASSERT(t->n_bytes == sv_type_bytes(t->type, t->dims[0]) * (size_t)(t->dims[1] * t->dims[2] * t->dims[3]));
            for (size_t k = 0; k < t->n_bytes; k++)
                sum += ((const uint8_t *)t->data)[k];
        }
    } else {
        SV_ASSERT(!s && err.msg[0] != '\0');
    }
    (void)sum; /* every byte was read */
    sv_safetensors_close(s);
    free(bytes);
    return 0;
}
