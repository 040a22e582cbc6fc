/* pack.c - weight matrices laid out for integer kernels: 16 outputs side by side
 *
 * The instructions that multiply bytes (x86's vpdpbusd and vpmaddubsw, ARM's sdot; a tile of AMX too) add four products into
 * a 32-bit lane. So a lane gets an output, four inputs at a time: a line of 64 bytes holds 4 inputs of 16 outputs, and one broadcast of
 * 4 activations serves all 16. No sum ever crosses lanes, and 16 scales lie side by side as well.
 *
 *     matrix   groups of 16 outputs, one after the other
 *     group    spans of 8 blocks of 32 inputs (256), the last one shorter where n_in is no multiple
 *     span     scales, then blocks
 *     block    8 lines of 4 inputs x 16 outputs:
 *                8 bits   as they are
 *                4 bits   line 2 i in the lower and line 2 i + 1 in the upper nibbles of 64 bytes
 *                5 bits   64 bytes whose bit i is the fifth of line i; then as 4 bits
 *                6 bits   2 x 64 bytes whose bits 2 i and 2 i + 1 are the upper two of lines i and 4 + i; then as 4 bits
 *     scales   halves       float16 [16] a block
 *              with min     float16 [16] scales, [16] minimums a block
 *              K            float16 [16] for scales, [16] for minimums; three words of each output as the file has them
 *              of 16        int8 [4] x 16 outputs for each 4 half blocks of the 16; float16 [16]; 32 bytes of nothing
 *
 * Integers are unsigned, with the zero in the middle where the file's are signed: products of unsigned weights and signed activations are
 * what x86 has, and the zero costs one subtraction of the activations' sum a block, for all 16 outputs. */
#include "nn/pack_impl.h"

#include <string.h>

#include "base/mem.h"

static const sv_pack_format formats[SV_N_TYPES] = {
#define FORMAT(type, ...) [type] = {__VA_ARGS__},
    SV_PACK_FORMATS(FORMAT)
#undef FORMAT
};

const sv_pack_format *sv_pack_format_of(sv_type type)
{
    return (uint32_t)type < SV_N_TYPES && formats[type].bits ? &formats[type] : NULL;
}

bool sv_packable(const sv_tensor *w)
{
    return sv_pack_format_of(w->type) && w->layout == SV_LAYOUT_FILE && w->dims[0] % sv_type_get(w->type)->block == 0 && w->dims[2] == 1 &&
           w->dims[3] == 1;
}

size_t sv_packed_bytes(const sv_tensor *w)
{
    return (size_t)sv_pack_groups(w) * sv_pack_group_bytes(*sv_pack_format_of(w->type), w->dims[0]);
}

/* --- what files have ---------------------------------------------------------------------------------------------- */

/* Block i of 32 of a row: its unsigned integers. Where bits of a weight lie is told in tensor.c. */
static void integers(uint8_t q[SV_PACK_BLOCK], sv_type type, const uint8_t *row, int64_t i)
{
    const sv_type_info *t = sv_type_get(type);
    const uint8_t *p = row + (size_t)(i * SV_PACK_BLOCK / t->block) * (size_t)t->block_bytes;
    int s = (int)(i % SV_PACK_SPAN), at;
    for (int k = 0; k < SV_PACK_BLOCK; k++)
        switch (type) {
        case SV_Q8_0: q[k] = p[2 + k] ^ 0x80; break;
        case SV_Q4_0:
        case SV_Q4_1:
            q[k] = p[(type == SV_Q4_1 ? 4 : 2) + k % 16] >> k / 16 * 4 & 15;
            break;
        case SV_Q5_0:
        case SV_Q5_1:
            at = type == SV_Q5_1 ? 4 : 2;
            q[k] = (uint8_t)((p[at + 4 + k % 16] >> k / 16 * 4 & 15) | (p[at + k / 8] >> k % 8 & 1) << 4);
            break;
        case SV_Q4_K: q[k] = p[16 + s / 2 * 32 + k] >> s % 2 * 4 & 15; break;
        case SV_Q5_K: q[k] = (uint8_t)((p[48 + s / 2 * 32 + k] >> s % 2 * 4 & 15) | (p[16 + k] >> s & 1) << 4); break;
        default: /* Q6_K */
            q[k] = (uint8_t)((p[s / 4 * 64 + s % 2 * 32 + k] >> s % 4 / 2 * 4 & 15) | (p[128 + s / 4 * 32 + k] >> s % 4 * 2 & 3) << 4);
        }
}

/* --- what we write ------------------------------------------------------------------------------------------------ */

/* Output o's share of a block. */
static void put_integers(uint8_t *dst, int bits, int o, const uint8_t q[SV_PACK_BLOCK])
{
    uint8_t *low = bits == 5 ? dst + 64 : bits == 6 ? dst + 128 : dst;
    for (int line = 0; line < 8; line++)
        for (int k = 0; k < 4; k++) {
            uint8_t v = q[4 * line + k];
            int at = 4 * o + k;
            if (bits == 8) {
                dst[64 * line + at] = v;
                continue;
            }
            low[64 * (line / 2) + at] |= (uint8_t)((v & 15) << line % 2 * 4);
            if (bits == 5)
                dst[at] |= (uint8_t)(v >> 4 << line);
            else if (bits == 6)
                dst[64 * (line / 4) + at] |= (uint8_t)(v >> 4 << line % 4 * 2);
        }
}

/* Output o's scales of a span of n blocks that begins at block i of the row. */
static void put_scales(uint8_t *dst, sv_type type, int o, const uint8_t *row, int64_t i, int n)
{
    const sv_type_info *t = sv_type_get(type);
    const uint8_t *p = row + (size_t)(i * SV_PACK_BLOCK / t->block) * (size_t)t->block_bytes;
    switch (formats[type].scales) {
    case SV_SCALES_HALF:
        for (int b = 0; b < n; b++)
            memcpy(dst + 32 * b + 2 * o, p + b * t->block_bytes, 2);
        break;
    case SV_SCALES_HALF_MIN:
        for (int b = 0; b < n; b++)
            for (int m = 0; m < 2; m++)
                memcpy(dst + 64 * b + 32 * m + 2 * o, p + b * t->block_bytes + 2 * m, 2);
        break;
    case SV_SCALES_K:
        memcpy(dst + 2 * o, p, 2);
        memcpy(dst + 32 + 2 * o, p + 2, 2);
        for (int word = 0; word < 3; word++)
            memcpy(dst + 64 + 64 * word + 4 * o, p + 4 + 4 * word, 4);
        break;
    default:
        for (int four = 0; four < 4; four++)
            memcpy(dst + 64 * four + 4 * o, p + 192 + 4 * four, 4);
        memcpy(dst + 256 + 2 * o, p + 208, 2);
    }
}

static void pack_group(uint8_t *dst, const sv_tensor *w, int64_t first, int n_rows)
{
    const sv_pack_format f = formats[w->type];
    size_t row_bytes = sv_type_bytes(w->type, w->dims[0]);
    int64_t n_blocks = w->dims[0] / SV_PACK_BLOCK;
    memset(dst, 0, sv_pack_group_bytes(f, w->dims[0]));
    for (int64_t i = 0; i < n_blocks; i += SV_PACK_SPAN) {
        int n = n_blocks - i < SV_PACK_SPAN ? (int)(n_blocks - i) : SV_PACK_SPAN;
        uint8_t *blocks = dst + sv_pack_head_bytes(f, n);
        for (int o = 0; o < n_rows; o++) {
            const uint8_t *row = (const uint8_t *)w->data + (size_t)(first + o) * row_bytes;
            put_scales(dst, w->type, o, row, i, n);
            for (int b = 0; b < n; b++) {
                uint8_t q[SV_PACK_BLOCK];
                integers(q, w->type, row, i + b);
                put_integers(blocks + (size_t)b * sv_pack_block_bytes(f), f.bits, o, q);
            }
        }
        dst = blocks + (size_t)n * sv_pack_block_bytes(f);
    }
}

void sv_pack(uint8_t *dst, const sv_tensor *w, int64_t begin, int64_t end)
{
    SV_ASSERT(sv_packable(w));
    size_t group_bytes = sv_pack_group_bytes(formats[w->type], w->dims[0]);
    for (int64_t g = begin; g < end; g++) {
        int64_t left = w->dims[1] - g * SV_PACK_ROWS;
        pack_group(dst + (size_t)(g - begin) * group_bytes, w, g * SV_PACK_ROWS, left < SV_PACK_ROWS ? (int)left : SV_PACK_ROWS);
    }
}
