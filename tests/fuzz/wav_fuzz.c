/* links: models */
/* wav_fuzz.c - WAV files that a stranger made: every frame is read inside the bytes, or a sentence says why not */
#include <stdlib.h>
#include <string.h>

#include "models/audio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    sv_wav w;
    sv_audio a = {0};
    uint8_t *bytes = malloc(n ? n : 1); /* exactly as long */
    memcpy(bytes, p, n);
    sv_str text = {(const char *)bytes, n};
    if (sv_wav_parse(&w, text, &err) == SV_OK && w.kind != SV_WAV_OTHER) {
        /* Filters of odd rates take long to make, and are the same code for each. */
        if (w.rate % 100 == 0 && sv_audio_read(&a, text, &(sv_audio_opts){.max_seconds = 60}, &err) == SV_OK) {
            size_t seconds = w.n_frames / (size_t)w.rate;
            SV_ASSERT(a.n >= seconds * SV_AUDIO_RATE && a.n <= (seconds + 1) * SV_AUDIO_RATE);
        } else {
            SV_ASSERT(w.rate % 100 != 0 || err.msg[0]);
        }
    } else {
        SV_ASSERT(err.code == SV_OK || err.msg[0]);
    }
    sv_audio_done(&a);
    free(bytes);
    return 0;
}
