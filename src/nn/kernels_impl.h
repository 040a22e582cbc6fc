/* kernels_impl.h - between kernels.c, which cuts work into tasks, and the files of the instruction sets, which do them */
#ifndef SV_NN_KERNELS_IMPL_H
#define SV_NN_KERNELS_IMPL_H

#include "nn/kernels.h"

enum {
    SV_PANEL_FLOATS = SV_MAX_ROW, /* dequantised weights a task keeps on its stack: 256 KiB, of a 1 MiB L2 cache */
    SV_ATTN_QUERIES = 16,         /* (row, head) pairs that share one walk over a head's pages */
};

typedef struct sv_kernel_set {
    const char *name;
    /* Output columns [begin, end) of op, all rows. */
    void (*matmul)(const sv_matmul *op, int64_t begin, int64_t end);
    /* Queries [first, first + n) of one chunk and kv head, n <= SV_ATTN_QUERIES; query i is row i / group, head i % group. */
    void (*attend)(const sv_attn *a, const sv_attn_chunk *c, int32_t head_kv, int32_t first, int32_t n);
    void (*swiglu)(float *y, const float *gate, const float *up, int64_t n);
} sv_kernel_set;

extern const sv_kernel_set sv_kernels_portable;
#if defined(__x86_64__)
extern const sv_kernel_set sv_kernels_avx2, sv_kernels_avx512;
#elif defined(__aarch64__)
extern const sv_kernel_set sv_kernels_neon;
#endif

/* For packed weights. Apart from the others, since instructions for bytes come and go apart from those for floats. */
typedef struct sv_packed_set {
    void (*matmul)(const sv_matmul *op, int64_t begin, int64_t end); /* begin is a multiple of SV_PACK_ROWS */
    void (*quantise)(sv_q8 *dst, const float *x, int64_t n);
} sv_packed_set;

extern const sv_packed_set sv_packed_portable;
#if defined(__x86_64__)
extern const sv_packed_set sv_packed_avx2, sv_packed_avxvnni, sv_packed_avx512, sv_packed_avx512vnni;
#elif defined(__aarch64__)
extern const sv_packed_set sv_packed_neon;
#endif

static inline int64_t sv_round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

#endif
