/* pack_impl.h - the packed layout, for pack.c, which writes it, and the kernels, which read it; see pack.c */
#ifndef SV_NN_PACK_IMPL_H
#define SV_NN_PACK_IMPL_H

#include "nn/pack.h"

enum { SV_PACK_BLOCK = 32, SV_PACK_SPAN = 8 }; /* inputs a block; blocks a span */

/* What makes weights of integers. */
typedef enum sv_pack_scales {
    SV_SCALES_HALF,     /* a float16 a block */
    SV_SCALES_HALF_MIN, /* and a minimum, to be added */
    SV_SCALES_K,        /* a 6-bit scale and minimum a block, a float16 for the scales and one for the minimums a span; to be subtracted */
    SV_SCALES_16,       /* an 8-bit scale each half block, a float16 a span */
} sv_pack_scales;

typedef struct sv_pack_format {
    int bits;       /* of a weight: 4, 5, 6 or 8, unsigned */
    int zero_shift; /* 1 << zero_shift is what stands for zero; 0: zero does */
    sv_pack_scales scales;
} sv_pack_format;

/* The types that have a packed form, for tables and switches. */
#define SV_PACK_FORMATS(X)                                                                                   \
    X(SV_Q8_0, 8, 7, SV_SCALES_HALF) X(SV_Q4_0, 4, 3, SV_SCALES_HALF) X(SV_Q4_1, 4, 0, SV_SCALES_HALF_MIN)   \
    X(SV_Q5_0, 5, 4, SV_SCALES_HALF) X(SV_Q5_1, 5, 0, SV_SCALES_HALF_MIN) X(SV_Q4_K, 4, 0, SV_SCALES_K)      \
    X(SV_Q5_K, 5, 0, SV_SCALES_K) X(SV_Q6_K, 6, 5, SV_SCALES_16)

static inline __attribute__((always_inline)) size_t sv_pack_head_bytes(sv_pack_format f, int n_blocks)
{
    switch (f.scales) {
    case SV_SCALES_HALF: return ((size_t)n_blocks * 32 + 63) / 64 * 64;
    case SV_SCALES_HALF_MIN: return (size_t)n_blocks * 64;
    case SV_SCALES_K: return 256;
    default: return 320;
    }
}

static inline __attribute__((always_inline)) size_t sv_pack_block_bytes(sv_pack_format f)
{
    return (size_t)f.bits * 64;
}

/* Of a group of 16 outputs with n_in inputs. */
static inline size_t sv_pack_group_bytes(sv_pack_format f, int64_t n_in)
{
    int64_t n_blocks = n_in / SV_PACK_BLOCK, rest = n_blocks % SV_PACK_SPAN;
    size_t whole = sv_pack_head_bytes(f, SV_PACK_SPAN) + SV_PACK_SPAN * sv_pack_block_bytes(f);
    return (size_t)(n_blocks / SV_PACK_SPAN) * whole + (rest ? sv_pack_head_bytes(f, (int)rest) + (size_t)rest * sv_pack_block_bytes(f) : 0);
}

const sv_pack_format *sv_pack_format_of(sv_type type); /* NULL: it has none */

#endif
