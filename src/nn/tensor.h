/* tensor.h - element types, quantised blocks, and a view of one tensor's bytes
 *
 * Block layouts are those of the GGUF files (ggml): see tensor.c for each. Any thread. */
#ifndef SV_NN_TENSOR_H
#define SV_NN_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* Numbers as in the GGUF files. */
typedef enum sv_type {
    SV_F32 = 0, SV_F16 = 1, SV_Q4_0 = 2, SV_Q4_1 = 3, SV_Q5_0 = 6, SV_Q5_1 = 7, SV_Q8_0 = 8, SV_Q8_1 = 9,
    SV_Q2_K = 10, SV_Q3_K = 11, SV_Q4_K = 12, SV_Q5_K = 13, SV_Q6_K = 14, SV_Q8_K = 15,
    SV_IQ2_XXS = 16, SV_IQ2_XS = 17, SV_IQ3_XXS = 18, SV_IQ1_S = 19, SV_IQ4_NL = 20, SV_IQ3_S = 21, SV_IQ2_S = 22,
    SV_IQ4_XS = 23, SV_I8 = 24, SV_I16 = 25, SV_I32 = 26, SV_I64 = 27, SV_F64 = 28, SV_IQ1_M = 29, SV_BF16 = 30,
    SV_TQ1_0 = 34, SV_TQ2_0 = 35, SV_MXFP4 = 39, SV_NVFP4 = 40,
} sv_type;
enum { SV_N_TYPES = 41 }; /* one past the last number */

typedef struct sv_type_info {
    const char *name;    /* "Q4_K"; NULL: no such type */
    int32_t block;       /* elements a block */
    int32_t block_bytes;
    bool computable;     /* sv_dequantize and the matmul kernels take it */
} sv_type_info;
const sv_type_info *sv_type_get(uint32_t type); /* never NULL; name is NULL for unknown numbers */

/* How data is laid out. */
typedef enum sv_layout {
    SV_LAYOUT_FILE, /* row by row, as files have it */
    SV_LAYOUT_PACKED, /* for integer kernels (pack.h) */
} sv_layout;

/* Row-major; dims[0] is the fastest (the row length), as GGUF has it. Unused dims are 1. */
typedef struct sv_tensor {
    const char *name; /* borrowed from the file's owner */
    sv_type type;
    int32_t n_dims;
    int64_t dims[4];
    const void *data; /* borrowed */
    size_t n_bytes;
    sv_layout layout;
} sv_tensor;

/* Bytes of n elements; n is a multiple of the type's block. */
static inline size_t sv_type_bytes(sv_type type, int64_t n)
{
    const sv_type_info *t = sv_type_get(type);
    return (size_t)(n / t->block) * (size_t)t->block_bytes;
}

/* n elements (a multiple of the type's block) from src to float32. Exact in float32 arithmetic as the format defines. */
void sv_dequantize(float *dst, sv_type type, const void *src, int64_t n);

static inline float sv_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float sv_bf16_to_f32(uint16_t h)
{
    return sv_f32_from_bits((uint32_t)h << 16);
}

/* The exponent is moved by an exact multiplication, which also normalises subnormals. */
static inline float sv_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13, bits;
    if (rest >= 0x0f800000u) /* infinity or not a number */
        return sv_f32_from_bits(sign | 0x7f800000u | (rest & 0x007fffffu));
    float v = sv_f32_from_bits(rest) * 0x1p112f;
    memcpy(&bits, &v, sizeof bits);
    return sv_f32_from_bits(sign | bits);
}

#endif
