/* kernels_impl.h - the sets behind kernels.h */
#ifndef SV_VEC_KERNELS_IMPL_H
#define SV_VEC_KERNELS_IMPL_H

#include "vec/kernels.h"

extern const sv_vec_kernels sv_vec_kernels_portable;
#if defined(__x86_64__)
extern const sv_vec_kernels sv_vec_kernels_avx2, sv_vec_kernels_avx512, sv_vec_kernels_avx512_vnni;
#endif

/* Butterflies of one width; the compiler makes vectors of the inner loop in each set's own file. */
static inline void sv_vec_hadamard_body(float *x, int32_t n)
{
    for (int32_t h = 1; h < 8 && h < n; h *= 2)
        for (int32_t i = 0; i < n; i += 2 * h)
            for (int32_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
    for (int32_t h = 8; h < n; h *= 2)
        for (int32_t i = 0; i < n; i += 2 * h)
            for (int32_t j = 0; j < h; j += 8)
                for (int32_t l = 0; l < 8; l++) {
                    float a = x[i + j + l], b = x[i + j + h + l];
                    x[i + j + l] = a + b;
                    x[i + j + h + l] = a - b;
                }
}

#endif
