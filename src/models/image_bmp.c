/* image_bmp.c - Windows and OS/2 bitmaps
 *
 *      0  "BM"   10  u32 where the pixels are   14  u32 size of the header that follows: 12 (OS/2: 16-bit sizes), or 40 and more:
 *     18  i32 w  22  i32 h, negative: the first row is the top one   28  u16 bits a pixel   30  u32 compression   46  u32 colours
 * then, where compression says bit fields, a mask for each colour (inside longer headers), then a palette of blue, green, red (and, but in OS/2, a zero).
 * Rows are padded to 4 bytes. Compression: 0 none, 1 and 2 runs of 8 or 4 bits, 3 and 6 bit fields. Transparency is dropped, as in all formats.
 *
 * Everything is read through get(), which gives zeros past the end, behind a check that the part is there. */
#include <string.h>

#include "models/image_impl.h"

typedef struct bmp {
    sv_str b;
    int64_t w, h;
    bool top_down;
    uint32_t bits, compression, pixels_at, palette_at, n_colours, colour_bytes;
    uint32_t mask[3]; /* red, green, blue */
} bmp;

static uint32_t get(const bmp *m, size_t at, int n)
{
    uint32_t v = 0;
    for (int i = 0; i < n && at + (size_t)i < m->b.n; i++)
        v |= (uint32_t)(uint8_t)m->b.p[at + (size_t)i] << 8 * i;
    return v;
}

static sv_rc cut_off(sv_err *err) { return sv_fail(err, SV_EFORMAT, "the file is cut off"); }

static sv_rc read_masks(bmp *m, uint32_t header, sv_err *err)
{
    if (m->compression == 3 || m->compression == 6) {
        for (int i = 0; i < 3; i++)
            m->mask[i] = get(m, 54 + 4 * (size_t)i, 4);
        if (header == 40)
            m->palette_at += m->compression == 6 ? 16 : 12;
    } else {
        for (int i = 0; i < 3; i++)
            m->mask[i] = m->bits == 16 ? 0x7c00u >> 5 * i : 0xff0000u >> 8 * i;
    }
    uint32_t seen = 0;
    for (int i = 0; i < 3; i++) {
        uint32_t v = m->mask[i];
        uint32_t low = v & -v;
        if ((v & (v + low)) != 0 && v + low != 0)
            return sv_fail(err, SV_EFORMAT, "bit field 0x%x has holes", v);
        if (v & seen)
            return sv_fail(err, SV_EFORMAT, "bit fields overlap");
        seen |= v;
    }
    return SV_OK;
}

static sv_rc read_header(bmp *m, sv_err *err)
{
    uint32_t header = get(m, 14, 4);
    if (m->b.n < 26 || header > m->b.n - 14)
        return cut_off(err);
    m->pixels_at = get(m, 10, 4);
    m->palette_at = 14 + header;
    m->colour_bytes = 4;
    if (header == 12) {
        m->w = get(m, 18, 2);
        m->h = get(m, 20, 2);
        m->bits = get(m, 24, 2);
        m->colour_bytes = 3;
    } else if (header >= 40 && header <= 124) {
        int32_t h = (int32_t)get(m, 22, 4);
        m->w = (int32_t)get(m, 18, 4);
        m->h = h < 0 ? -(int64_t)h : h;
        m->top_down = h < 0;
        m->bits = get(m, 28, 2);
        m->compression = get(m, 30, 4);
        m->n_colours = get(m, 46, 4);
    } else {
        return sv_fail(err, SV_EFORMAT, "a header of %u bytes is not known", header);
    }
    bool runs = (m->compression == 1 && m->bits == 8) || (m->compression == 2 && m->bits == 4);
    bool fields = (m->compression == 3 || m->compression == 6) && (m->bits == 16 || m->bits == 32) && header != 64;
    bool plain = m->compression == 0 && (m->bits == 1 || m->bits == 2 || m->bits == 4 || m->bits == 8 || m->bits == 16 || m->bits == 24 || m->bits == 32);
    if (!runs && !fields && !plain)
        return sv_fail(err, SV_EFORMAT, "%u bits a pixel with compression %u is not supported", m->bits, m->compression);
    if (m->n_colours > 1u << 16)
        return sv_fail(err, SV_EFORMAT, "a palette of %u colours", m->n_colours);
    return read_masks(m, header, err);
}

static sv_rc read_palette(bmp *m, uint8_t palette[256][3], sv_err *err)
{
    memset(palette, 0, 256 * 3);
    uint32_t most = 1u << (m->bits < 8 ? m->bits : 8), n = m->n_colours == 0 || m->n_colours > most ? most : m->n_colours;
    if (m->bits > 8)
        return SV_OK;
    if (m->pixels_at > m->palette_at && n > (m->pixels_at - m->palette_at) / m->colour_bytes)
        n = (m->pixels_at - m->palette_at) / m->colour_bytes; /* the pixels begin earlier */
    if (m->palette_at + (size_t)n * m->colour_bytes > m->b.n)
        return cut_off(err);
    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            palette[i][k] = (uint8_t)m->b.p[m->palette_at + (size_t)i * m->colour_bytes + (size_t)(2 - k)];
    return SV_OK;
}

/* A field as 0 to 255. */
static uint8_t field(uint32_t pixel, uint32_t mask)
{
    if (!mask)
        return 0;
    int shift = __builtin_ctz(mask);
    uint32_t most = mask >> shift, v = (pixel & mask) >> shift;
    return (uint8_t)((uint64_t)v * 255 / most);
}

static void read_row(const bmp *m, const uint8_t palette[256][3], uint8_t *to, const uint8_t *from)
{
    for (int64_t x = 0; x < m->w; x++, to += 3)
        if (m->bits <= 8) {
            uint32_t per = 8 / m->bits, v = (uint32_t)(from[x / per] >> (8 - m->bits * (x % per + 1))) & ((1u << m->bits) - 1);
            memcpy(to, palette[v], 3);
        } else if (m->bits == 24) {
            to[0] = from[3 * x + 2];
            to[1] = from[3 * x + 1];
            to[2] = from[3 * x];
        } else {
            uint32_t n = m->bits / 8, v = 0;
            for (uint32_t k = 0; k < n; k++)
                v |= (uint32_t)from[n * x + k] << 8 * k;
            for (int k = 0; k < 3; k++)
                to[k] = field(v, m->mask[k]);
        }
}

static sv_rc read_plain(const bmp *m, const uint8_t palette[256][3], sv_image *out, sv_err *err)
{
    size_t row_bytes = ((size_t)m->w * m->bits + 31) / 32 * 4, last = ((size_t)m->w * m->bits + 7) / 8;
    if (m->pixels_at > m->b.n || m->b.n - m->pixels_at < row_bytes * (size_t)(m->h - 1) + last)
        return cut_off(err);
    for (int64_t y = 0; y < m->h; y++)
        read_row(m, palette, out->rgb + (size_t)((m->top_down ? y : m->h - 1 - y) * m->w) * 3, (const uint8_t *)m->b.p + m->pixels_at + row_bytes * (size_t)y);
    return SV_OK;
}

/* Pairs of bytes: a count and what to repeat; 0 and 0 end a row, 0 and 1 the picture, 0 and 2 move by the two bytes behind; 0 and n are followed by n pixels,
 * padded to an even number of bytes. What is never written is colour 0. */
static sv_rc read_runs(const bmp *m, const uint8_t palette[256][3], sv_image *out, sv_err *err)
{
    size_t at = m->pixels_at;
    int64_t x = 0, y = 0;
    for (size_t i = 0, n = (size_t)m->w * (size_t)m->h; i < n; i++)
        memcpy(out->rgb + i * 3, palette[0], 3);
    while (y < m->h) {
        if (at + 2 > m->b.n)
            return cut_off(err);
        uint32_t n = get(m, at, 1), v = get(m, at + 1, 1);
        at += 2;
        if (n == 0 && v == 1)
            return SV_OK;
        if (n == 0 && v == 0) {
            x = 0;
            y++;
            continue;
        }
        if (n == 0 && v == 2) {
            x += get(m, at, 1);
            y += get(m, at + 1, 1);
            at += 2;
            continue;
        }
        bool literal = n == 0;
        uint32_t count = literal ? v : n;
        size_t n_bytes = literal ? (m->bits == 8 ? count : (count + 1) / 2) : 0;
        if (n_bytes > m->b.n - at)
            return cut_off(err);
        for (uint32_t i = 0; i < count; i++, x++) {
            uint32_t byte = literal ? get(m, at + (m->bits == 8 ? i : i / 2), 1) : v, c = m->bits == 8 ? byte : i % 2 ? byte & 15 : byte >> 4;
            if (x < m->w)
                memcpy(out->rgb + (size_t)((m->top_down ? y : m->h - 1 - y) * m->w + x) * 3, palette[c], 3);
        }
        at += n_bytes + n_bytes % 2;
    }
    return SV_OK;
}

sv_rc sv_image_bmp(sv_image *out, sv_str *exif, sv_str bytes, sv_err *err)
{
    bmp m = {.b = bytes};
    uint8_t palette[256][3];
    (void)exif; /* BMP has none */
    if (read_header(&m, err) != SV_OK || sv_image_check_size(m.w, m.h, err) != SV_OK || read_palette(&m, palette, err) != SV_OK ||
        sv_image_alloc(out, m.w, m.h, err) != SV_OK)
        return err->code;
    return m.compression == 1 || m.compression == 2 ? read_runs(&m, palette, out, err) : read_plain(&m, palette, out, err);
}
