/* links: models */
/* whisper_ggml_fuzz.c - files of whisper.cpp that a stranger made: every tensor lies in the bytes, and the words make a tokenizer, or a sentence says why not */
#include <stdlib.h>
#include <string.h>

#include "models/whisper_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    wsp_ggml *g = NULL;
    sv_tokenizer *t = NULL;
    volatile unsigned sum = 0;
    uint8_t *bytes = malloc(n ? n : 1); /* exactly as long */
    memcpy(bytes, p, n);
    if (wsp_ggml_parse(&g, bytes, n, &err) == SV_OK) {
        for (size_t i = 0; i < sv_gguf_n_tensors(g->tensors); i++) {
            const sv_tensor *x = sv_gguf_tensor_at(g->tensors, i);
            for (size_t k = 0; k < x->n_bytes; k++)
                sum += ((const uint8_t *)x->data)[k];
        }
        if (wsp_ggml_tokenizer(&t, g, &err) != SV_OK)
            SV_ASSERT(err.msg[0]);
    } else {
        SV_ASSERT(!g && err.msg[0]);
    }
    (void)sum;
    sv_tokenizer_free(t);
    wsp_ggml_close(g);
    free(bytes);
    return 0;
}
