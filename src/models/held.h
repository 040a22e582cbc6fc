/* held.h - parts of a weight file in memory of our own: numbers as float32, and matrices where kernels may read them
 *
 * Kernels want addresses that their numbers can have; safetensors puts data at any. What fits as it lies in the mapped file is borrowed from it.
 * Threads: values; any, one at a time. */
#ifndef SV_MODELS_HELD_H
#define SV_MODELS_HELD_H

#include "base/err.h"
#include "nn/tensor.h"

typedef struct sv_held { /* all zeros: empty */
    void **blocks;
    sv_tensor **tensors; /* views that are not the file's */
    size_t n_blocks, n_tensors;
} sv_held;
void sv_held_done(sv_held *h); /* everything that the calls below gave */

/* p, from malloc and its kin, is the holder's from here on; freed where that fails. SV_ENOMEM. */
SV_MUST sv_rc sv_held_add(sv_held *h, void *p, sv_err *err);
/* n numbers of t, of any computable type; the caller has checked that t has them. SV_ENOMEM names the tensor. */
SV_MUST sv_rc sv_held_vector(sv_held *h, const sv_tensor *t, int64_t n, const float **out, sv_err *err);
/* t as a matrix [n_out, n_in] at an aligned address: t itself where it is one. SV_ENOMEM. */
SV_MUST sv_rc sv_held_matrix(sv_held *h, const sv_tensor *t, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err);

#endif
