/* image_jpeg.c - JPEG by libjpeg-turbo
 *
 * Defaults of the library (exact integer DCT, smooth upsampling), which are Pillow's too. Files of four colours are read as Adobe writes
 * them, inverted, and mixed as Pillow does. Broken entropy data is no error, as everywhere: decoders go on at the next restart; but where the file
 * ends before the picture does, it was cut off, and that is said. Rounds over a progressive picture are counted: ten thousand empty ones
 * make minutes of work of a few kilobytes. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "models/image_impl.h"

enum { MAX_SCANS = 200 };

typedef struct reader {
    struct jpeg_error_mgr errors; /* first: libjpeg hands it back */
    struct jpeg_progress_mgr progress;
    jmp_buf fail;
    bool at_end; /* the file is read to its end */
    sv_err *err;
} reader;

static void on_error(j_common_ptr c)
{
    reader *r = (reader *)(void *)c->err;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    (void)sv_fail(r->err, SV_EFORMAT, "%s", text);
    longjmp(r->fail, 1);
}

static void on_message(j_common_ptr c, int level)
{
    reader *r = (reader *)(void *)c->err;
    if (level >= 0)
        return;
    if (c->err->msg_code == JWRN_JPEG_EOF)
        r->at_end = true;
    else if (c->err->msg_code == JWRN_HIT_MARKER && r->at_end) {
        (void)sv_fail(r->err, SV_EFORMAT, "the file is cut off");
        longjmp(r->fail, 1);
    }
}

static void on_progress(j_common_ptr c)
{
    reader *r = (reader *)(void *)c->err;
    if (((j_decompress_ptr)(void *)c)->input_scan_number > MAX_SCANS) {
        (void)sv_fail_api(r->err, SV_ELIMIT, 3006, "more than %d scans", MAX_SCANS);
        longjmp(r->fail, 1);
    }
}

static void mix(uint8_t *rgb, const uint8_t *cmyk, int32_t w)
{
    for (int32_t x = 0; x < w; x++)
        for (int k = 0; k < 3; k++) {
            int ink = 255 - cmyk[4 * x + k], black = 255 - cmyk[4 * x + 3], white = 255 - black, t = ink * white + 128;
            int v = white - ((t + (t >> 8)) >> 8);
            rgb[3 * x + k] = (uint8_t)(v < 0 ? 0 : v);
        }
}

static void find_exif(sv_str *exif, const struct jpeg_decompress_struct *d)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m && exif->n == 0; m = m->next)
        if (m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0)
            *exif = (sv_str){(const char *)m->data + 6, m->data_length - 6};
}

/* What the library's memory holds dies with it: *exif is found again in the file. */
static void point_into(sv_str *exif, sv_str bytes)
{
    const char *p = exif->n ? memmem(bytes.p, bytes.n, exif->p, exif->n) : NULL;
    *exif = (sv_str){p, p ? exif->n : 0};
}

static sv_rc read_all(struct jpeg_decompress_struct *d, sv_image *out, sv_str *exif, uint8_t **inks, sv_err *err)
{
    if (jpeg_read_header(d, TRUE) != JPEG_HEADER_OK)
        return sv_fail(err, SV_EFORMAT, "no picture in it");
    bool four = d->num_components == 4;
    if (d->num_components != 1 && d->num_components != 3 && !four)
        return sv_fail(err, SV_EFORMAT, "%d components; 1, 3 or 4 are read", d->num_components);
    d->out_color_space = four ? JCS_CMYK : JCS_RGB;
    if (sv_image_alloc(out, d->image_width, d->image_height, err) != SV_OK)
        return err->code;
    if (four && !(*inks = sv_try_calloc((size_t)out->w, 4)))
        return sv_fail(err, SV_ENOMEM, "no memory for a row");
    find_exif(exif, d);
    jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        uint8_t *row = out->rgb + (size_t)d->output_scanline * (size_t)out->w * 3;
        jpeg_read_scanlines(d, four ? inks : &row, 1);
        if (four)
            mix(row, *inks, out->w);
    }
    return SV_OK;
}

sv_rc sv_image_jpeg(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err)
{
    struct jpeg_decompress_struct d = {0};
    reader r = {.err = err, .progress = {.progress_monitor = on_progress}};
    uint8_t *volatile inks = NULL;
    volatile sv_rc rc = SV_EFORMAT;
    d.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    if (setjmp(r.fail) == 0) {
        jpeg_create_decompress(&d);
        d.progress = &r.progress;
        jpeg_save_markers(&d, JPEG_APP0 + 1, 0xffff);
        jpeg_mem_src(&d, (const unsigned char *)bytes.p, bytes.n);
        rc = read_all(&d, out, exif, (uint8_t **)&inks, err);
    } else {
        rc = err->code;
    }
    if (rc == SV_OK)
        point_into(exif, bytes);
    jpeg_destroy_decompress(&d);
    free(inks);
    return rc;
}
