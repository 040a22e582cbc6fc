/* image.c - which format it is, which way is up, and the middle of a picture
 *
 * The formats are in files of their own, image_*.c; all but BMP lean on the usual libraries. What a decoder may allocate is bounded before it starts:
 * every header is read first, and sv_image_check_size says no. */
#include <string.h>

#include "models/image_impl.h"

void sv_image_done(sv_image *i)
{
    free(i->rgb);
    *i = (sv_image){0};
}

sv_rc sv_image_check_size(int64_t w, int64_t h, sv_err *err)
{
    if (w < 1 || h < 1)
        return sv_fail(err, SV_EFORMAT, "a picture of %lld x %lld pixels", (long long)w, (long long)h);
    if (w > SV_IMAGE_MAX_SIDE || h > SV_IMAGE_MAX_SIDE || w * h > SV_IMAGE_MAX_PIXELS)
        return sv_fail_api(err, SV_ELIMIT, 3006, "a picture of %lld x %lld pixels; at most %d million, and %d a side", (long long)w, (long long)h,
                           SV_IMAGE_MAX_PIXELS / 1000000, SV_IMAGE_MAX_SIDE);
    return SV_OK;
}

sv_rc sv_image_alloc(sv_image *out, int64_t w, int64_t h, sv_err *err)
{
    if (sv_image_check_size(w, h, err) != SV_OK)
        return err->code;
    uint8_t *rgb = sv_try_calloc((size_t)(w * h), 3);
    if (!rgb)
        return sv_fail(err, SV_ENOMEM, "no memory for a picture of %lld x %lld", (long long)w, (long long)h);
    *out = (sv_image){(int32_t)w, (int32_t)h, rgb};
    return SV_OK;
}

/* --- upright ------------------------------------------------------------------------------------------------------ */

static uint32_t get(const uint8_t *p, int n, bool big)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint32_t)p[i] << 8 * (big ? n - 1 - i : i);
    return v;
}

/* Tag 0x112 of the first directory (TIFF 6.0); 1, upright, where there is none or nonsense. */
static int orientation(sv_str exif)
{
    const uint8_t *p = (const uint8_t *)exif.p;
    if (exif.n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0))
        return 1;
    bool big = p[0] == 'M';
    size_t at = get(p + 4, 4, big);
    if (at > exif.n - 2 || exif.n < 10)
        return 1;
    size_t n = get(p + at, 2, big);
    for (at += 2; n > 0 && at + 12 <= exif.n; n--, at += 12)
        if (get(p + at, 2, big) == 0x112) {
            uint32_t type = get(p + at + 2, 2, big), v = type == 4 ? get(p + at + 8, 4, big) : get(p + at + 8, 2, big);
            return v >= 1 && v <= 8 ? (int)v : 1;
        }
    return 1;
}

/* The eight ways: bit 0 of o - 1 and the pairs below are those of the EXIF standard. from(x, y) is where the upright picture's pixel was. */
static sv_rc turn(sv_image *i, int o, sv_err *err)
{
    bool swap = o >= 5, flip_x = o == 2 || o == 3 || o == 7 || o == 8, flip_y = o == 3 || o == 4 || o == 6 || o == 7;
    sv_image up = {0};
    if (o == 1)
        return SV_OK;
    if (sv_image_alloc(&up, swap ? i->h : i->w, swap ? i->w : i->h, err) != SV_OK)
        return err->code;
    for (int32_t y = 0; y < up.h; y++)
        for (int32_t x = 0; x < up.w; x++) {
            int32_t sx = swap ? y : x, sy = swap ? x : y;
            sx = flip_x ? i->w - 1 - sx : sx;
            sy = flip_y ? i->h - 1 - sy : sy;
            memcpy(up.rgb + ((size_t)y * (size_t)up.w + (size_t)x) * 3, i->rgb + ((size_t)sy * (size_t)i->w + (size_t)sx) * 3, 3);
        }
    sv_image_done(i);
    *i = up;
    return SV_OK;
}

/* --- any format --------------------------------------------------------------------------------------------------- */

static bool begins(sv_str s, size_t at, const char *magic, size_t n)
{
    return s.n >= at + n && memcmp(s.p + at, magic, n) == 0;
}

typedef sv_rc (*decode_fn)(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err);

static decode_fn format_of(sv_str b, const char **name)
{
    if (begins(b, 0, "\xff\xd8\xff", 3))
        return *name = "JPEG", sv_image_jpeg;
    if (begins(b, 0, "\x89PNG\r\n\x1a\n", 8))
        return *name = "PNG", sv_image_png;
    if (begins(b, 0, "RIFF", 4) && begins(b, 8, "WEBP", 4))
        return *name = "WebP", sv_image_webp;
    if (begins(b, 0, "GIF87a", 6) || begins(b, 0, "GIF89a", 6))
        return *name = "GIF", sv_image_gif;
    if (begins(b, 0, "BM", 2))
        return *name = "BMP", sv_image_bmp;
    return NULL;
}

sv_rc sv_image_decode(sv_image *out, sv_str bytes, sv_err *err)
{
    const char *name = "";
    SV_AUTO(sv_image_donep) sv_image i = {0};
    sv_str exif = {0};
    if (bytes.n == 0)
        return sv_fail(err, SV_EFORMAT, "the image is empty");
    if (bytes.n > SV_IMAGE_MAX_BYTES)
        return sv_fail_api(err, SV_ELIMIT, 3006, "an image of %zu bytes, at most %d", bytes.n, SV_IMAGE_MAX_BYTES);
    decode_fn decode = format_of(bytes, &name);
    if (!decode)
        return sv_fail(err, SV_EFORMAT, "no image: these %zu bytes begin like no JPEG, PNG, WebP, GIF or BMP file", bytes.n);
    if (decode(&i, &exif, bytes, err) != SV_OK || turn(&i, orientation(exif), err) != SV_OK)
        return sv_wrap(err, "%s image", name);
    *out = i;
    i = (sv_image){0};
    return SV_OK;
}

sv_rc sv_image_crop_middle(sv_image *out, const sv_image *in, int32_t w, int32_t h, sv_err *err)
{
    sv_image c = {0};
    if (sv_image_alloc(&c, w, h, err) != SV_OK)
        return err->code;
    /* Where it is smaller, what is missing is shared with the odd pixel before it: transformers' center_crop. */
    int32_t x0 = in->w >= w ? (in->w - w) / 2 : -((w - in->w + 1) / 2), y0 = in->h >= h ? (in->h - h) / 2 : -((h - in->h + 1) / 2);
    int32_t from = x0 < 0 ? -x0 : 0, end = x0 + w > in->w ? in->w - x0 : w;
    for (int32_t y = 0; y < h; y++)
        if (y0 + y >= 0 && y0 + y < in->h)
            memcpy(c.rgb + ((size_t)y * (size_t)w + (size_t)from) * 3, in->rgb + ((size_t)(y0 + y) * (size_t)in->w + (size_t)(x0 + from)) * 3,
                   (size_t)(end - from) * 3);
    *out = c;
    return SV_OK;
}
