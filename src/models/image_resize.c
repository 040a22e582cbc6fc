/* image_resize.c - resizing with the filters of Pillow, bit for bit
 *
 * Models saw their training pictures through Pillow's resize, and a filter that merely looks alike moves logits by more than all our other rounding.
 * So this is its arithmetic: each output pixel is a weighted sum over a window of input pixels, as wide as the filter where the picture grows and
 * `scale` times wider where it shrinks; weights are normalised in float64 and rounded to 22-bit fixed point; first the rows, then the columns, rounded to 8
 * bits in between, always in this order (that of Pillow until 12, which the published models saw; 13 begins with what is cheaper, and differs in
 * some last bits where a picture is reduced more in height). A. Clark et al., Pillow, src/libImaging/Resample.c describes the scheme; the filters are those of any textbook (Keys 1981 with
 * a = -1/2, Lanczos with 3 lobes).
 *
 * Invariant: weights of a window sum to 1 within rounding, and a window lies inside the picture. */
#include <math.h>
#include <string.h>

#include "models/image_impl.h"

enum { FIXED_BITS = 22, MAX_WINDOWS = 64 << 20 };

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double hamming(double x)
{
    x = fabs(x);
    if (x == 0)
        return 1;
    if (x >= 1)
        return 0;
    x *= M_PI;
    return sin(x) / x * (0.54 + 0.46 * cos(x));
}

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x)
{
    if (x == 0)
        return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct { double (*fn)(double x); double support; } filters[] = {
    [SV_LANCZOS] = {lanczos, 3}, [SV_BILINEAR] = {triangle, 1}, [SV_BICUBIC] = {cubic, 2}, [SV_BOX] = {box, 0.5}, [SV_HAMMING] = {hamming, 1},
};

/* For each of n_out pixels: n weights from pixel `first` on, `stride` apart in w. */
typedef struct windows {
    int32_t *first, *n, *w;
    size_t stride;
} windows;

static void windows_free(windows *s)
{
    free(s->first);
    free(s->n);
    free(s->w);
}

static sv_rc make_windows(windows *s, int32_t n_in, int32_t n_out, sv_image_filter f, sv_err *err)
{
    double scale = (double)n_in / n_out, wide = scale < 1 ? 1 : scale, support = filters[f].support * wide, ss = 1 / wide;
    s->stride = (size_t)ceil(support) * 2 + 1;
    if ((size_t)n_out > MAX_WINDOWS / s->stride)
        return sv_fail(err, SV_ELIMIT, "resizing %d to %d pixels needs too many weights", n_in, n_out);
    SV_AUTO(sv_freep) double *k = sv_try_calloc(s->stride, sizeof *k);
    s->first = sv_try_calloc((size_t)n_out, sizeof *s->first);
    s->n = sv_try_calloc((size_t)n_out, sizeof *s->n);
    s->w = sv_try_calloc((size_t)n_out * s->stride, sizeof *s->w);
    if (!k || !s->first || !s->n || !s->w)
        return sv_fail(err, SV_ENOMEM, "no memory for the weights of %d pixels", n_out);
    for (int32_t i = 0; i < n_out; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int32_t begin = (int32_t)(center - support + 0.5), end = (int32_t)(center + support + 0.5);
        begin = center - support + 0.5 < 0 ? 0 : begin;
        end = end > n_in ? n_in : end;
        for (int32_t x = begin; x < end; x++)
            sum += k[x - begin] = filters[f].fn((x - center + 0.5) * ss);
        for (int32_t x = 0; x < end - begin; x++) {
            double w = (sum != 0 ? k[x] / sum : k[x]) * (1 << FIXED_BITS);
            s->w[(size_t)i * s->stride + (size_t)x] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        s->first[i] = begin;
        s->n[i] = end - begin;
    }
    return SV_OK;
}

static uint8_t from_fixed(int32_t v)
{
    v >>= FIXED_BITS;
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

static void resize_row(uint8_t *to, const uint8_t *from, int32_t n_out, const windows *s)
{
    for (int32_t x = 0; x < n_out; x++, to += 3) {
        const uint8_t *p = from + 3 * (size_t)s->first[x];
        const int32_t *w = s->w + (size_t)x * s->stride;
        int32_t r = 1 << (FIXED_BITS - 1), g = r, b = r;
        for (int32_t k = 0; k < s->n[x]; k++, p += 3) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        to[0] = from_fixed(r);
        to[1] = from_fixed(g);
        to[2] = from_fixed(b);
    }
}

static sv_rc resize_rows(sv_image *out, const sv_image *in, int32_t w, sv_image_filter f, sv_err *err)
{
    windows s = {0};
    sv_rc rc = make_windows(&s, in->w, w, f, err) == SV_OK ? sv_image_alloc(out, w, in->h, err) : err->code;
    for (int32_t y = 0; rc == SV_OK && y < in->h; y++)
        resize_row(out->rgb + (size_t)y * (size_t)w * 3, in->rgb + (size_t)y * (size_t)in->w * 3, w, &s);
    windows_free(&s);
    return rc;
}

static sv_rc resize_columns(sv_image *out, const sv_image *in, int32_t h, sv_image_filter f, sv_err *err)
{
    windows s = {0};
    size_t n = (size_t)in->w * 3;
    SV_AUTO(sv_freep) int32_t *sums = sv_try_calloc(n, sizeof *sums);
    sv_rc rc = !sums ? sv_fail(err, SV_ENOMEM, "no memory for a row") : make_windows(&s, in->h, h, f, err) == SV_OK ? sv_image_alloc(out, in->w, h, err) : err->code;
    for (int32_t y = 0; rc == SV_OK && y < h; y++) {
        for (size_t x = 0; x < n; x++)
            sums[x] = 1 << (FIXED_BITS - 1);
        for (int32_t k = 0; k < s.n[y]; k++) {
            const uint8_t *p = in->rgb + (size_t)(s.first[y] + k) * n;
            int32_t w = s.w[(size_t)y * s.stride + (size_t)k];
            for (size_t x = 0; x < n; x++)
                sums[x] += p[x] * w;
        }
        for (size_t x = 0; x < n; x++)
            out->rgb[(size_t)y * n + x] = from_fixed(sums[x]);
    }
    windows_free(&s);
    return rc;
}

/* Positions are added up, as Pillow does: at borders their rounding decides. */
static sv_rc nearest(sv_image *out, const sv_image *in, int32_t w, int32_t h, sv_err *err)
{
    double sx = (double)in->w / w, sy = (double)in->h / h, fy = sy / 2;
    if (sv_image_alloc(out, w, h, err) != SV_OK)
        return err->code;
    for (int32_t y = 0; y < h; y++, fy += sy) {
        double fx = sx / 2;
        size_t from = (size_t)fy < (size_t)in->h ? (size_t)fy : (size_t)in->h - 1;
        for (int32_t x = 0; x < w; x++, fx += sx) {
            size_t at = (size_t)fx < (size_t)in->w ? (size_t)fx : (size_t)in->w - 1;
            memcpy(out->rgb + ((size_t)y * (size_t)w + (size_t)x) * 3, in->rgb + (from * (size_t)in->w + at) * 3, 3);
        }
    }
    return SV_OK;
}

sv_rc sv_image_resize(sv_image *out, const sv_image *in, int32_t w, int32_t h, sv_image_filter f, sv_err *err)
{
    SV_AUTO(sv_image_donep) sv_image half = {0};
    const sv_image *from = in;
    sv_image o = {0};
    SV_ASSERT(w >= 1 && h >= 1 && (size_t)f < SV_LEN(filters));
    if (f == SV_NEAREST)
        return nearest(out, in, w, h, err);
    if (w != in->w) {
        if (resize_rows(&half, in, w, f, err) != SV_OK)
            return err->code;
        from = &half;
    }
    sv_rc rc = h != in->h ? resize_columns(&o, from, h, f, err) : sv_image_crop_middle(&o, from, w, h, err);
    if (rc == SV_OK)
        *out = o;
    else
        sv_image_done(&o);
    return rc;
}
