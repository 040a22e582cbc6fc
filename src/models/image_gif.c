/* image_gif.c - the first picture of a GIF, by giflib
 *
 * giflib can read a whole file at once, and then an animation of a few kilobytes becomes gigabytes: here it is led by hand and stops behind the
 * first picture. That one may lie anywhere on the canvas (which grows where it does not fit, as Pillow's does); around it is the transparent colour of
 * the palette, or the first. */
#include <string.h>

#include <gif_lib.h>

#include "models/image_impl.h"

static int on_read(GifFileType *g, GifByteType *to, int n)
{
    sv_str *rest = g->UserData;
    size_t take = n < 0 ? 0 : (size_t)n < rest->n ? (size_t)n : rest->n;
    memcpy(to, rest->p, take);
    rest->p += take;
    rest->n -= take;
    return (int)take;
}

static sv_rc broken(const GifFileType *g, sv_err *err)
{
    const char *why = GifErrorString(g->Error);
    return sv_fail(err, SV_EFORMAT, "%s", g->Error == D_GIF_ERR_READ_FAILED || g->Error == D_GIF_ERR_EOF_TOO_SOON || !why ? "the file is cut off" : why);
}

/* Up to the first picture; *transparent is the index that a graphics control block named, or -1. */
static sv_rc seek_picture(GifFileType *g, int *transparent, sv_err *err)
{
    for (;;) {
        GifRecordType type;
        if (DGifGetRecordType(g, &type) != GIF_OK)
            return broken(g, err);
        if (type == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(g) == GIF_OK ? SV_OK : broken(g, err);
        if (type == TERMINATE_RECORD_TYPE)
            return sv_fail(err, SV_EFORMAT, "no picture in it");
        int code;
        GifByteType *block;
        if (DGifGetExtension(g, &code, &block) != GIF_OK)
            return broken(g, err);
        while (block) {
            if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4)
                *transparent = block[1] & 1 ? block[4] : -1;
            if (DGifGetExtensionNext(g, &block) != GIF_OK)
                return broken(g, err);
        }
    }
}

static void read_palette(uint8_t palette[256][3], const ColorMapObject *map)
{
    for (int i = 0; i < 256; i++)
        memset(palette[i], i, 3);
    for (int i = 0; map && i < map->ColorCount && i < 256; i++)
        memcpy(palette[i], &map->Colors[i], 3);
}

static sv_rc read_picture(GifFileType *g, sv_image *out, int transparent, sv_err *err)
{
    const GifImageDesc *at = &g->Image;
    int64_t right = (int64_t)at->Left + at->Width, bottom = (int64_t)at->Top + at->Height;
    uint8_t palette[256][3];
    if (at->Width < 1 || at->Height < 1)
        return sv_fail(err, SV_EFORMAT, "a picture of %d x %d pixels", at->Width, at->Height);
    if (sv_image_alloc(out, right > g->SWidth ? right : g->SWidth, bottom > g->SHeight ? bottom : g->SHeight, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) GifByteType *row = sv_try_calloc((size_t)at->Width, 1);
    if (!row)
        return sv_fail(err, SV_ENOMEM, "no memory for a row");
    read_palette(palette, at->ColorMap ? at->ColorMap : g->SColorMap);
    for (size_t i = 0, n = (size_t)out->w * (size_t)out->h; i < n; i++)
        memcpy(out->rgb + i * 3, palette[transparent > 0 ? transparent : 0], 3);
    static const int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    for (int pass = at->Interlace ? 0 : 4; pass < 5 && !(at->Interlace && pass == 4); pass++)
        for (int y = pass < 4 ? first[pass] : 0; y < at->Height; y += pass < 4 ? step[pass] : 1) {
            if (DGifGetLine(g, row, at->Width) != GIF_OK)
                return broken(g, err);
            uint8_t *to = out->rgb + ((size_t)(at->Top + y) * (size_t)out->w + (size_t)at->Left) * 3;
            for (int x = 0; x < at->Width; x++)
                memcpy(to + 3 * x, palette[row[x]], 3);
        }
    return SV_OK;
}

sv_rc sv_image_gif(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err)
{
    int error = 0, transparent = -1;
    GifFileType *g = DGifOpen(&bytes, on_read, &error);
    (void)exif; /* GIF has none */
    if (!g)
        return sv_fail(err, SV_EFORMAT, "the header is broken or cut off");
    sv_rc rc = seek_picture(g, &transparent, err);
    if (rc == SV_OK)
        rc = read_picture(g, out, transparent, err);
    DGifCloseFile(g, &error);
    return rc;
}
