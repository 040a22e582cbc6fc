/* image_impl.h - between image.c and the formats */
#ifndef SV_MODELS_IMAGE_IMPL_H
#define SV_MODELS_IMAGE_IMPL_H

#include "models/image.h"

/* out->rgb for a picture of w x h, black. SV_ELIMIT names both numbers, SV_EFORMAT where one is 0. */
SV_MUST sv_rc sv_image_alloc(sv_image *out, int64_t w, int64_t h, sv_err *err);
/* The same check without the memory: of a canvas, before a library reserves its own. */
SV_MUST sv_rc sv_image_check_size(int64_t w, int64_t h, sv_err *err);

/* Each decodes its format, not yet turned upright; *exif is the TIFF part of its EXIF data, borrowed from bytes, or empty. On failure *out may hold
 * memory all the same: whoever called frees it. */
SV_MUST sv_rc sv_image_jpeg(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);
SV_MUST sv_rc sv_image_png(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);
SV_MUST sv_rc sv_image_webp(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);
SV_MUST sv_rc sv_image_gif(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);
SV_MUST sv_rc sv_image_bmp(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);

#endif
