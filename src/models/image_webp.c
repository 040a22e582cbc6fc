/* image_webp.c - WebP by libwebp; of an animation the first picture, on its canvas */
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "models/image_impl.h"

static sv_rc first_frame(sv_image *out, sv_str bytes, sv_err *err)
{
    WebPData data = {(const uint8_t *)bytes.p, bytes.n};
    WebPAnimDecoderOptions o;
    uint8_t *rgba = NULL;
    int time_ms = 0;
    if (!WebPAnimDecoderOptionsInit(&o))
        return sv_fail(err, SV_EIO, "libwebp is of another version than its header");
    o.color_mode = MODE_RGBA;
    WebPAnimDecoder *d = WebPAnimDecoderNew(&data, &o);
    if (!d || !WebPAnimDecoderGetNext(d, &rgba, &time_ms)) {
        WebPAnimDecoderDelete(d);
        return sv_fail(err, SV_EFORMAT, "the animation is broken or cut off");
    }
    for (size_t i = 0, n = (size_t)out->w * (size_t)out->h; i < n; i++)
        memcpy(out->rgb + i * 3, rgba + i * 4, 3);
    WebPAnimDecoderDelete(d);
    return SV_OK;
}

static sv_rc still(sv_image *out, sv_str bytes, sv_err *err)
{
    if (!WebPDecodeRGBInto((const uint8_t *)bytes.p, bytes.n, out->rgb, (size_t)out->w * (size_t)out->h * 3, out->w * 3))
        return sv_fail(err, SV_EFORMAT, "the picture is broken or cut off");
    return SV_OK;
}

/* The EXIF chunk of a RIFF file; some writers put JPEG's prefix before it. */
static sv_str find_exif(sv_str b)
{
    for (size_t at = 12; at + 8 <= b.n;) {
        const uint8_t *p = (const uint8_t *)b.p + at;
        size_t n = (size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24;
        if (n > b.n - at - 8)
            break;
        if (memcmp(p, "EXIF", 4) == 0)
            return n > 6 && memcmp(p + 8, "Exif\0", 6) == 0 ? (sv_str){b.p + at + 14, n - 6} : (sv_str){b.p + at + 8, n};
        at += 8 + n + n % 2;
    }
    return (sv_str){0};
}

sv_rc sv_image_webp(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures((const uint8_t *)bytes.p, bytes.n, &f) != VP8_STATUS_OK)
        return sv_fail(err, SV_EFORMAT, "the header is broken or cut off");
    if (sv_image_alloc(out, f.width, f.height, err) != SV_OK)
        return err->code;
    *exif = find_exif(bytes);
    return f.has_animation ? first_frame(out, bytes, err) : still(out, bytes, err);
}
