/* image_png.c - PNG by libpng
 *
 * The library makes 8-bit RGB of all kinds itself. Two rules are Pillow's: of a picture in 16-bit grey what is over 255 is white (it converts
 * numbers, not brightness), and a broken checksum refuses the file. Text and profiles of any size are no business of ours: they are skipped unread. */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "models/image_impl.h"

typedef struct source { sv_str bytes; size_t at; sv_err *err; } source;

static void on_read(png_structp png, png_bytep to, size_t n)
{
    source *s = png_get_io_ptr(png);
    if (n > s->bytes.n - s->at)
        png_error(png, "the file is cut off");
    memcpy(to, s->bytes.p + s->at, n);
    s->at += n;
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    source *s = png_get_error_ptr(png);
    (void)sv_fail(s->err, SV_EFORMAT, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

/* Asks for RGB of 8 bits; returns how many bits a sample of the rows to come has: 8, or 16 of grey. */
static int ask_for_rgb(png_structp png, png_infop info)
{
    int type = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth == 16)
        return 16;
    if (depth == 16)
        png_set_strip_16(png);
    if (type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA)
        png_set_gray_to_rgb(png);
    return 8;
}

static void widen_grey16(sv_image *i)
{
    for (size_t k = 0, n = (size_t)i->w * (size_t)i->h; k < n; k++) {
        const uint8_t *p = i->rgb + k * 3;
        uint8_t v = p[0] ? 255 : p[1];
        memset(i->rgb + k * 3, v, 3);
    }
}

static void spread(uint8_t *row, int32_t w) /* two bytes a pixel to three, from behind */
{
    for (int32_t x = w; x-- > 0;)
        memmove(row + (size_t)x * 3, row + (size_t)x * 2, 2);
}

static sv_rc read_all(png_structp png, png_infop info, sv_image *out, png_bytep **rows, sv_err *err)
{
    png_read_info(png, info);
    if (sv_image_alloc(out, png_get_image_width(png, info), png_get_image_height(png, info), err) != SV_OK)
        return err->code;
    int bits = ask_for_rgb(png, info);
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) > (size_t)out->w * 3)
        return sv_fail(err, SV_EFORMAT, "rows of %zu bytes", png_get_rowbytes(png, info));
    *rows = sv_try_calloc((size_t)out->h, sizeof **rows);
    if (!*rows)
        return sv_fail(err, SV_ENOMEM, "no memory for %d rows", out->h);
    for (int32_t y = 0; y < out->h; y++)
        (*rows)[y] = out->rgb + (size_t)y * (size_t)out->w * 3;
    png_read_image(png, *rows);
    if (bits == 16) {
        for (int32_t y = 0; y < out->h; y++)
            spread((*rows)[y], out->w);
        widen_grey16(out);
    }
    return SV_OK;
}

/* eXIf stands before or behind the pixels: the chunks are walked for it, which libpng has checked as far as it read. */
static sv_str find_exif(sv_str b)
{
    for (size_t at = 8; at + 12 <= b.n;) {
        const uint8_t *p = (const uint8_t *)b.p + at;
        size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (n > b.n - at - 12)
            break;
        if (memcmp(p + 4, "eXIf", 4) == 0)
            return (sv_str){b.p + at + 8, n};
        at += n + 12;
    }
    return (sv_str){0};
}

sv_rc sv_image_png(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err)
{
    source s = {.bytes = bytes, .err = err};
    png_infop info = NULL;
    png_bytep *volatile rows = NULL;
    volatile sv_rc rc = SV_EFORMAT;
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    if (!png || !(info = png_create_info_struct(png))) {
        png_destroy_read_struct(&png, NULL, NULL);
        return sv_fail(err, SV_ENOMEM, "no memory for the decoder");
    }
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_read_fn(png, &s, on_read);
        png_set_user_limits(png, SV_IMAGE_MAX_SIDE, SV_IMAGE_MAX_SIDE);
        png_set_chunk_malloc_max(png, 1 << 20);
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "iCCP\0iTXt\0tEXt\0zTXt\0sPLT\0eXIf", 6);
        rc = read_all(png, info, out, (png_bytep **)&rows, err);
    } else {
        rc = err->code;
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(rows);
    *exif = find_exif(bytes);
    return rc;
}
