/* image_prep.c - what preprocessor_config.json says
 *
 * The file names a class of transformers, and each class reads the same members a little differently. What differs:
 *
 *     size                       {"shortest_edge": s}: the shorter side becomes s, the longer one int(s * long / short);
 *                                with "longest_edge" too (DETR), s becomes round(longest * short / long) first where the longer one would be longer;
 *                                {"height", "width"} or, of old files, a number: both (ViT), or the shorter side (ResNet's ConvNext class, MobileNetV2, CLIP)
 *     crop_pct (ConvNext)        below 384 the shorter side becomes int(s / crop_pct), and the middle s x s is taken; from 384 on it is s x s at once
 *     crop_size, do_center_crop  the middle
 *     resample                   the filter's number in Pillow
 *
 * Invariant: what comes out has at most SV_IMAGE_MAX_PIXELS, and so has everything on the way; a picture that is too elongated is refused with a
 * sentence. */
#include "models/image_prep.h"

#include <math.h>
#include <string.h>

enum { MAX_SIZE = 4096, FEW = 384 };

bool sv_image_prep_ok(const sv_image_prep *p)
{
    const int32_t sizes[] = {p->w, p->h, p->shortest, p->longest, p->crop_w, p->crop_h};
    for (size_t i = 0; i < SV_LEN(sizes); i++)
        if (sizes[i] < 0 || sizes[i] > MAX_SIZE)
            return false;
    return (p->w == 0) == (p->h == 0) && (p->crop_w == 0) == (p->crop_h == 0) && p->filter >= 0 && p->filter <= SV_HAMMING;
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static sv_rc one_size(const json_t *o, const char *key, int32_t *out, sv_err *err)
{
    int64_t v = *out;
    if (sv_json_int(o, key, 1, MAX_SIZE, &v, err) != SV_OK)
        return err->code;
    *out = (int32_t)v;
    return SV_OK;
}

/* A number stands for both sides or the shorter one. */
static sv_rc read_size(sv_image_prep *p, const json_t *config, bool number_is_shortest, sv_err *err)
{
    const json_t *size = json_object_get(config, "size");
    if (json_is_object(size)) {
        if (one_size(size, "shortest_edge", &p->shortest, err) != SV_OK || one_size(size, "longest_edge", &p->longest, err) != SV_OK ||
            one_size(size, "height", &p->h, err) != SV_OK || one_size(size, "width", &p->w, err) != SV_OK)
            return sv_wrap(err, "'size'");
    } else if (size && one_size(config, "size", &p->shortest, err) != SV_OK) {
        return err->code;
    } else if (size && !number_is_shortest) {
        p->w = p->h = p->shortest;
        p->shortest = 0;
    }
    if (p->longest == 0 && one_size(config, "max_size", &p->longest, err) != SV_OK)
        return err->code;
    if ((p->w == 0) != (p->h == 0) || (p->w == 0 && p->shortest == 0))
        return sv_fail(err, SV_EFORMAT, "'size' has neither \"shortest_edge\" nor \"height\" and \"width\"");
    return SV_OK;
}

static sv_rc read_crop(sv_image_prep *p, const json_t *config, sv_err *err)
{
    bool crop = json_object_get(config, "crop_size") != NULL;
    const json_t *size = json_object_get(config, "crop_size");
    if (sv_json_bool(config, "do_center_crop", &crop, err) != SV_OK)
        return err->code;
    if (!crop)
        return SV_OK;
    if (json_is_object(size)) {
        if (one_size(size, "height", &p->crop_h, err) != SV_OK || one_size(size, "width", &p->crop_w, err) != SV_OK)
            return sv_wrap(err, "'crop_size'");
    } else if (size) {
        if (one_size(config, "crop_size", &p->crop_h, err) != SV_OK)
            return err->code;
        p->crop_w = p->crop_h;
    } else {
        p->crop_w = p->w ? p->w : p->shortest;
        p->crop_h = p->h ? p->h : p->shortest;
    }
    return p->crop_w && p->crop_h ? SV_OK : sv_fail(err, SV_EFORMAT, "'crop_size' lacks \"height\" or \"width\"");
}

static sv_rc three(const json_t *config, const char *key, float out[3], sv_err *err)
{
    const json_t *a = json_object_get(config, key);
    if (!a)
        return SV_OK;
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(a, json_array_size(a) == 1 ? 0 : i);
        if (!json_is_number(v) || json_array_size(a) > 3)
            return sv_fail(err, SV_EFORMAT, "'%s' is no list of 3 numbers", key);
        out[i] = (float)json_number_value(v);
    }
    return SV_OK;
}

static sv_rc read_numbers(sv_image_prep *p, const json_t *config, sv_err *err)
{
    double scale = 1 / 255.0;
    bool rescale = true, normalise = true;
    if (sv_json_bool(config, "do_rescale", &rescale, err) != SV_OK || sv_json_bool(config, "do_normalize", &normalise, err) != SV_OK ||
        sv_json_num(config, "rescale_factor", 0, 1e6, &scale, err) != SV_OK || three(config, "image_mean", p->mean, err) != SV_OK ||
        three(config, "image_std", p->std, err) != SV_OK)
        return err->code;
    p->scale = rescale ? (float)scale : 1.0f;
    for (int i = 0; i < 3; i++) {
        p->mean[i] = normalise ? p->mean[i] : 0.0f;
        p->std[i] = normalise ? p->std[i] : 1.0f;
        if (!(p->std[i] > 0))
            return sv_fail(err, SV_EFORMAT, "'image_std' has %g in it", (double)p->std[i]);
    }
    return SV_OK;
}

sv_rc sv_image_prep_read(sv_image_prep *out, const json_t *config, sv_err *err)
{
    sv_image_prep p = {.filter = SV_BILINEAR, .scale = 1.0f / 255, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
    if (!config) {
        p.shortest = 256;
        p.crop_w = p.crop_h = 224;
        *out = p;
        return SV_OK;
    }
    const char *class = sv_json_cstr(config, "image_processor_type");
    class = class ? class : sv_json_cstr(config, "feature_extractor_type");
    class = class ? class : "";
    bool convnext = strncmp(class, "ConvNext", 8) == 0 || json_object_get(config, "crop_pct"), vit = strncmp(class, "ViT", 3) == 0 || strncmp(class, "Deit", 4) == 0;
    bool resize = true;
    int64_t filter = convnext || strncmp(class, "CLIP", 4) == 0 ? SV_BICUBIC : SV_BILINEAR;
    double crop_pct = 224.0 / 256;
    p.keeps_aspect_from = strncmp(class, "Detr", 4) == 0 || strncmp(class, "ConditionalDetr", 15) == 0 || strncmp(class, "Yolos", 5) == 0;
    if (sv_json_bool(config, "do_resize", &resize, err) != SV_OK || sv_json_int(config, "resample", SV_NEAREST, SV_HAMMING, &filter, err) != SV_OK ||
        sv_json_num(config, "crop_pct", 0.1, 1, &crop_pct, err) != SV_OK || read_numbers(&p, config, err) != SV_OK ||
        (resize && read_size(&p, config, !vit, err) != SV_OK) || (!convnext && read_crop(&p, config, err) != SV_OK))
        return err->code;
    p.filter = (int32_t)filter;
    if (convnext && resize) {
        int32_t s = p.shortest ? p.shortest : p.h;
        p.w = p.h = s >= FEW ? s : 0;
        p.shortest = s >= FEW ? 0 : (int32_t)(s / crop_pct);
        p.crop_w = p.crop_h = s >= FEW ? 0 : s;
    }
    if (p.w)
        p.shortest = p.longest = 0;
    *out = p;
    return SV_OK;
}

bool sv_image_prep_fixed(const sv_image_prep *p, int32_t *w, int32_t *h)
{
    if (!p->crop_w && !p->w)
        return false;
    *w = p->crop_w ? p->crop_w : p->w;
    *h = p->crop_h ? p->crop_h : p->h;
    return true;
}

/* --- the picture -------------------------------------------------------------------------------------------------- */

/* The size after resizing, in the arithmetic of transformers: where it rounds matters, since a pixel more or less shifts the whole picture. */
static void target(const sv_image_prep *p, int32_t w, int32_t h, int64_t *tw, int64_t *th)
{
    double small = w < h ? w : h, large = w < h ? h : w, size = p->shortest, raw = -1;
    if (p->w) {
        *tw = p->w;
        *th = p->h;
        return;
    }
    *tw = w;
    *th = h;
    if (!p->shortest)
        return;
    if (p->longest && large / small * size > p->longest) {
        raw = p->longest * small / large;
        size = nearbyint(raw); /* Python's round: half to even */
    }
    if (small == size)
        return;
    double longer = p->keeps_aspect_from && raw >= 0 ? raw * large / small : size * large / small;
    *tw = (int64_t)(w <= h ? size : longer);
    *th = (int64_t)(w <= h ? longer : size);
}

sv_rc sv_image_prep_run(sv_image *out, int32_t *w0, int32_t *h0, const sv_image_prep *p, sv_str bytes, sv_err *err)
{
    SV_AUTO(sv_image_donep) sv_image i = {0};
    sv_image sized = {0};
    int64_t w = 0, h = 0;
    if (sv_image_decode(&i, bytes, err) != SV_OK)
        return err->code;
    target(p, i.w, i.h, &w, &h);
    w = w < 1 ? 1 : w;
    h = h < 1 ? 1 : h;
    if (w > SV_IMAGE_MAX_SIDE || h > SV_IMAGE_MAX_SIDE || w * h > SV_IMAGE_MAX_PIXELS || w * i.h > SV_IMAGE_MAX_PIXELS)
        return sv_fail(err, SV_ELIMIT, "a picture of %d x %d pixels is too elongated: the model reads it as %lld x %lld", i.w, i.h, (long long)w, (long long)h);
    *w0 = i.w;
    *h0 = i.h;
    if (w != i.w || h != i.h) {
        if (sv_image_resize(&sized, &i, (int32_t)w, (int32_t)h, (sv_image_filter)p->filter, err) != SV_OK)
            return err->code;
        sv_image_done(&i);
        i = sized;
    }
    if (p->crop_w && (p->crop_w != i.w || p->crop_h != i.h)) {
        if (sv_image_crop_middle(out, &i, p->crop_w, p->crop_h, err) != SV_OK)
            return err->code;
        return SV_OK;
    }
    *out = i;
    i = (sv_image){0};
    return SV_OK;
}

sv_rc sv_image_prep_cage(sv_str in, sv_buf *out, sv_err *err)
{
    sv_image_prep p;
    sv_image_caged head;
    SV_AUTO(sv_image_donep) sv_image i = {0};
    if (in.n < sizeof p)
        return sv_fail(err, SV_EINVAL, "no preprocessing in %zu bytes", in.n);
    memcpy(&p, in.p, sizeof p);
    if (!sv_image_prep_ok(&p))
        return sv_fail(err, SV_EINVAL, "preprocessing out of range");
    if (sv_image_prep_run(&i, &head.w0, &head.h0, &p, (sv_str){in.p + sizeof p, in.n - sizeof p}, err) != SV_OK)
        return err->code;
    head.w = i.w;
    head.h = i.h;
    sv_buf_add(out, &head, sizeof head);
    sv_buf_add(out, i.rgb, (size_t)i.w * (size_t)i.h * 3);
    return SV_OK;
}

sv_rc sv_image_caged_get(sv_image_caged *out, const uint8_t **rgb, sv_str bytes, sv_err *err)
{
    sv_image_caged head;
    if (bytes.n < sizeof head)
        return sv_fail(err, SV_EFORMAT, "the decoder's answer is cut off");
    memcpy(&head, bytes.p, sizeof head);
    if (head.w < 1 || head.h < 1 || head.w0 < 1 || head.h0 < 1 || head.w > SV_IMAGE_MAX_SIDE || head.h > SV_IMAGE_MAX_SIDE ||
        bytes.n - sizeof head != (size_t)head.w * (size_t)head.h * 3)
        return sv_fail(err, SV_EFORMAT, "the decoder's answer makes no sense");
    *rgb = (const uint8_t *)bytes.p + sizeof head;
    *out = head;
    return SV_OK;
}

void sv_image_prep_floats(float *out, const sv_image_prep *p, const uint8_t *rgb, int64_t n_pixels)
{
    for (int64_t i = 0; i < n_pixels; i++)
        for (int k = 0; k < 3; k++)
            out[3 * i + k] = ((float)rgb[3 * i + k] * p->scale - p->mean[k]) / p->std[k];
}
