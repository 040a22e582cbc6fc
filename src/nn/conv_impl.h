/* conv_impl.h - between conv.c, which cuts work into tasks, and the files of the instruction sets */
#ifndef SV_NN_CONV_IMPL_H
#define SV_NN_CONV_IMPL_H

#include "nn/conv.h"

enum { SV_CONV_BLOCK = 32 }; /* output channels that lie beside each other in packed weights */

typedef struct sv_conv_pass {
    const sv_conv *c;
    const sv_fmap *x, *y, *add;
    sv_act act;
    int32_t n_blocks, n_groups, group; /* of channels; of pixels, `group` each */
} sv_conv_pass;

typedef struct sv_conv_set {
    const char *name;
    /* Channels of block i_block for pixels [begin, end) of y, counted row by row. */
    void (*dense)(const sv_conv_pass *p, int32_t i_block, int32_t begin, int32_t end);
    void (*depthwise)(const sv_conv_pass *p, int32_t begin, int32_t end); /* all channels */
} sv_conv_set;

extern const sv_conv_set sv_conv_portable;
#if defined(__x86_64__)
extern const sv_conv_set sv_conv_avx2, sv_conv_avx512;
#endif

#endif
