/* image_prep.h - from a stranger's file to the pixels that a model was trained on
 *
 * What preprocessor_config.json of a Hugging Face folder says: resize, crop, mean and deviation.
 * Threads: values; none shared. */
#ifndef SV_MODELS_IMAGE_PREP_H
#define SV_MODELS_IMAGE_PREP_H

#include <stdbool.h>

#include "base/cage.h"
#include "base/json.h"
#include "models/image.h"

/* Plain data: it crosses into a cage as it is. */
typedef struct sv_image_prep {
    int32_t w, h;            /* to exactly this; or 0, and then */
    int32_t shortest;        /* the shorter side to this, or 0: the size stays */
    int32_t longest;         /* and the longer one to no more than this; 0: whatever it becomes */
    int32_t crop_w, crop_h;  /* the middle; 0: no crop */
    int32_t filter;          /* sv_image_filter */
    float scale;             /* of the 8-bit numbers: 1/255 */
    float mean[3], std[3];   /* (x * scale - mean) / std */
    bool keeps_aspect_from;  /* DETR's order of roundings, see image_prep.c */
} sv_image_prep;

/* Reads the file's object; without one (NULL) the defaults of the ImageNet models: the shorter side to 256, the middle 224. SV_EFORMAT names the member. */
SV_MUST sv_rc sv_image_prep_read(sv_image_prep *out, const json_t *config, sv_err *err);
bool sv_image_prep_ok(const sv_image_prep *p); /* within what image_prep.c works on */

/* Every picture comes out at this size; false: it depends on the picture. */
bool sv_image_prep_fixed(const sv_image_prep *p, int32_t *w, int32_t *h);

/* Decodes, turns, resizes, crops. *w0 and *h0 are the upright picture's own size. Errors of sv_image_decode. */
SV_MUST sv_rc sv_image_prep_run(sv_image *out, int32_t *w0, int32_t *h0, const sv_image_prep *p, sv_str bytes, sv_err *err);

/* The same for sv_cage_run: the input is an sv_image_prep and the file, the output sv_image_caged and the pixels. */
typedef struct sv_image_caged { int32_t w, h, w0, h0; } sv_image_caged;
SV_MUST sv_rc sv_image_prep_cage(sv_str in, sv_buf *out, sv_err *err);
/* Reads that output, checked; the pixels are borrowed. SV_EFORMAT. */
SV_MUST sv_rc sv_image_caged_get(sv_image_caged *out, const uint8_t **rgb, sv_str bytes, sv_err *err);

/* [h][w][3] numbers as the model takes them. */
void sv_image_prep_floats(float *out, const sv_image_prep *p, const uint8_t *rgb, int64_t n_pixels);

#endif
