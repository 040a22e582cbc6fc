/* llm_impl.h - between llm.c, which opens files and flattens steps, and the families, which know the arithmetic */
#ifndef SV_MODELS_LLM_IMPL_H
#define SV_MODELS_LLM_IMPL_H

#include <stdatomic.h>

#include "models/llm.h"
#include "nn/gguf.h"
#include "nn/kernels.h"

/* A family reads its hyper-parameters and tensors from m->gguf into m->info and m->weights, then runs steps on them. */
typedef struct sv_family {
    const char *arch;                             /* general.architecture */
    sv_rc (*load)(sv_llm *m, sv_err *err);        /* fills m->info, m->n_rot, m->weights */
    void (*unload)(sv_llm *m);                    /* frees m->weights, half-built too */
    void (*step)(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool); /* the rows of ws through all layers */
} sv_family;
extern const sv_family sv_family_llama;

struct sv_llm {
    _Atomic int32_t n_refs;
    const sv_family *family;
    sv_gguf *gguf;
    sv_llm_info info;
    sv_tokenizer *tokenizer;
    sv_template *template;
    char *template_error; /* NULL: it compiled, or there is none */
    int32_t n_rot;  /* numbers of a head that turn with the position */
    void *weights;  /* the family's */
};

typedef struct sv_llm_row {
    int32_t token, pos;
    void *page; /* takes this position's keys and values */
} sv_llm_row;

/* One block of memory, cut for max_rows rows of each kind. A step begins with rows, chunks and outputs filled by llm.c. */
struct sv_llm_ws {
    int32_t max_rows;
    void *memory;
    float *x, *h;           /* [n_embd] a row: the residual stream, and what a layer makes of it */
    float *q, *att;         /* [n_head * head_dim] */
    float *k, *v;           /* [n_head_kv * head_dim] */
    float *gate, *up;       /* [n_ff] */
    float *cos_sin;         /* [n_rot] */
    sv_llm_row *rows;
    sv_attn_chunk *chunks;
    int32_t *out_rows;      /* rows whose logits are wanted, */
    float **logits;         /* and where they go */
    int32_t n_rows, n_chunks, n_out;
};

/* The named tensor with exactly these dims (n_out 0: a vector), of a type that kernels take. `fmt` has at most one %d, for
 * i_layer. SV_EFORMAT names the tensor and both shapes. */
SV_MUST sv_rc sv_llm_matrix(const sv_llm *m, const sv_tensor **out, const char *fmt, int i_layer, int64_t n_in, int64_t n_out, sv_err *err);
/* A float32 vector; where `optional`, absent is NULL. */
SV_MUST sv_rc sv_llm_vector(const sv_llm *m, const float **out, const char *fmt, int i_layer, int64_t n, bool optional, sv_err *err);
/* An integer hyper-parameter "<arch>.<key>" in [min, max]; absent: *out if it is >= min already (the default), else SV_EFORMAT. */
SV_MUST sv_rc sv_llm_param(const sv_llm *m, const char *key, int64_t min, int64_t max, int32_t *out, sv_err *err);

#endif
