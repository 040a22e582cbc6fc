/* held.c - see held.h. Families with shapes of their own check those and come here, so that ownership is written once. */
#include "models/held.h"

#include <inttypes.h>

#include "base/mem.h"

enum { ALIGN = 64, SPARE = 64 }; /* kernels may read, and not use, what lies behind the last number */

void sv_held_done(sv_held *h)
{
    for (size_t i = 0; i < h->n_blocks; i++)
        free(h->blocks[i]);
    for (size_t i = 0; i < h->n_tensors; i++)
        free(h->tensors[i]);
    free(h->blocks);
    free(h->tensors);
    *h = (sv_held){0};
}

sv_rc sv_held_add(sv_held *h, void *p, sv_err *err)
{
    void **more = sv_try_realloc(h->blocks, h->n_blocks + 1, sizeof *more);
    if (!more) {
        free(p);
        return sv_fail(err, SV_ENOMEM, "no memory for %zu parts of the weights", h->n_blocks + 1);
    }
    h->blocks = more;
    h->blocks[h->n_blocks++] = p;
    return SV_OK;
}

sv_rc sv_held_vector(sv_held *h, const sv_tensor *t, int64_t n, const float **out, sv_err *err)
{
    float *v = sv_try_aligned((size_t)n * sizeof *v + SPARE, ALIGN);
    if (!v)
        return sv_fail(err, SV_ENOMEM, "tensor '%s': no memory for %" PRId64 " numbers", t->name, n);
    sv_dequantize(v, t->type, t->data, n);
    if (sv_held_add(h, v, err) != SV_OK)
        return err->code;
    *out = v;
    return SV_OK;
}

sv_rc sv_held_matrix(sv_held *h, const sv_tensor *t, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    bool aligned = (uintptr_t)t->data % 4 == 0;
    if (aligned && t->dims[0] == n_in && t->dims[1] == n_out && t->dims[2] == 1 && t->dims[3] == 1) {
        *out = t;
        return SV_OK;
    }
    sv_tensor **more = sv_try_realloc(h->tensors, h->n_tensors + 1, sizeof *more);
    if (!more)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tensors", h->n_tensors + 1);
    h->tensors = more;
    const void *data = t->data;
    if (!aligned) {
        void *p = sv_try_aligned(t->n_bytes + SPARE, ALIGN);
        if (!p)
            return sv_fail(err, SV_ENOMEM, "tensor '%s': no memory for %zu bytes", t->name, t->n_bytes);
        data = memcpy(p, t->data, t->n_bytes);
        if (sv_held_add(h, p, err) != SV_OK)
            return err->code;
    }
    sv_tensor *own = h->tensors[h->n_tensors++] = sv_xnew0(sv_tensor);
    *own = *t;
    own->n_dims = 2;
    own->dims[0] = n_in;
    own->dims[1] = n_out;
    own->dims[2] = own->dims[3] = 1;
    own->data = data;
    *out = own;
    return SV_OK;
}
