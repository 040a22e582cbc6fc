/* pack.h - weight matrices laid out for integer kernels: 16 outputs side by side
 *
 * A quantised matrix is laid out once, when its model is loaded. Nothing is lost: the packed form has the same integers and the same
 * scales, in about the same number of bytes, in the order in which kernels read them (pack.c). Any thread. */
#ifndef SV_NN_PACK_H
#define SV_NN_PACK_H

#include "nn/tensor.h"

enum {
    SV_PACK_ROWS = 16,   /* outputs of a group */
    SV_PACK_VERSION = 1, /* of the layout; it is the same for all instruction sets so far */
};

/* Whether the matrix has a packed form: its type has one, and its rows are of whole blocks of 32 (or 256). */
bool sv_packable(const sv_tensor *w);
size_t sv_packed_bytes(const sv_tensor *w); /* a multiple of 64; outputs are filled up to a multiple of 16 with zeros */

/* Packs groups [begin, end) of w, as files have it, to dst, which is 64-byte aligned. */
void sv_pack(uint8_t *dst, const sv_tensor *w, int64_t begin, int64_t end);
static inline int64_t sv_pack_groups(const sv_tensor *w)
{
    return (w->dims[1] + SV_PACK_ROWS - 1) / SV_PACK_ROWS;
}

#endif
