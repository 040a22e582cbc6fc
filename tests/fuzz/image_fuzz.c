/* links: models */
/* image_fuzz.c - pictures that a stranger made: pixels within the limits, or a sentence; and their preparation for a model */
#include <stdlib.h>
#include <string.h>

#include "models/image_prep.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const sv_image_prep preps[] = {
        {.shortest = 20, .crop_w = 17, .crop_h = 18, .filter = SV_BICUBIC}, {.w = 9, .h = 31, .filter = SV_LANCZOS},
        {.shortest = 24, .longest = 40, .filter = SV_BILINEAR, .keeps_aspect_from = true}, {.filter = SV_NEAREST},
    };
    const sv_image_prep *prep = &preps[n % SV_LEN(preps)];
    SV_AUTO(sv_freep) char *exact = malloc(n ? n : 1);
    SV_AUTO(sv_image_donep) sv_image i = {0};
    sv_err err = {0};
    int32_t w0 = 0, h0 = 0, w, h;
    volatile unsigned sum = 0;
    memcpy(exact, p, n);
    if (sv_image_prep_run(&i, &w0, &h0, prep, (sv_str){exact, n}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] && !i.rgb && (err.code == SV_EFORMAT || err.code == SV_ELIMIT || err.code == SV_ENOMEM));
        return 0;
    }
    SV_ASSERT((int64_t)w0 * h0 <= SV_IMAGE_MAX_PIXELS && (int64_t)i.w * i.h <= SV_IMAGE_MAX_PIXELS);
    if (sv_image_prep_fixed(prep, &w, &h))
        SV_ASSERT(i.w == w && i.h == h);
    for (size_t k = 0; k < (size_t)i.w * (size_t)i.h * 3; k++)
        sum += i.rgb[k];
    (void)sum; /* every byte was read */
    return 0;
}
