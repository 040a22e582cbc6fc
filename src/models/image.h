/* image.h - pictures that a stranger sent, as pixels, and their resizing as the models' training did it
 *
 * Decoding reads bytes that anybody may have made: it belongs into a cage (base/cage.h); image_prep.h has the function for that.
 * Threads: values; none shared. */
#ifndef SV_MODELS_IMAGE_H
#define SV_MODELS_IMAGE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum {
    SV_IMAGE_MAX_BYTES = 12 << 20,    /* of a file */
    SV_IMAGE_MAX_PIXELS = 50000000,   /* of a picture: 150 MB decoded. Checked in the header, before anything is decoded */
    SV_IMAGE_MAX_SIDE = 32767,
};

typedef struct sv_image {
    int32_t w, h;
    uint8_t *rgb; /* [h][w][3], owned */
} sv_image;
void sv_image_done(sv_image *i); /* an empty one is fine; i is empty then */
static inline void sv_image_donep(sv_image *i) { sv_image_done(i); }

/* JPEG, PNG, WebP, GIF (of animations the first picture) and BMP, turned upright as its EXIF says. The pixels are those of Pillow's
 * ImageOps.exif_transpose(Image.open(...)).convert("RGB"), which the models' own preprocessing starts from: transparency is dropped, of 16 bits a
 * channel the upper 8 stay. SV_EFORMAT: none of these, broken, or cut off; SV_ELIMIT: too many bytes or pixels; SV_ENOMEM. */
SV_MUST sv_rc sv_image_decode(sv_image *out, sv_str bytes, sv_err *err);

/* Numbers as in Pillow and so in preprocessor_config.json. */
typedef enum sv_image_filter { SV_NEAREST = 0, SV_LANCZOS = 1, SV_BILINEAR = 2, SV_BICUBIC = 3, SV_BOX = 4, SV_HAMMING = 5 } sv_image_filter;
/* Bit for bit what Pillow's resize gives: shrinking averages over all the pixels that become one. w, h >= 1. SV_ENOMEM. */
SV_MUST sv_rc sv_image_resize(sv_image *out, const sv_image *in, int32_t w, int32_t h, sv_image_filter filter, sv_err *err);
/* The middle of it; black where it is smaller. SV_ENOMEM. */
SV_MUST sv_rc sv_image_crop_middle(sv_image *out, const sv_image *in, int32_t w, int32_t h, sv_err *err);

#endif
