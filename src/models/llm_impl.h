/* llm_impl.h - between llm.c, which opens files and flattens steps, and the families, which know the arithmetic */
#ifndef SV_MODELS_LLM_IMPL_H
#define SV_MODELS_LLM_IMPL_H

#include <stdatomic.h>

#include "base/file.h"
#include "models/hf.h"
#include "models/llm.h"
#include "nn/gguf.h"
#include "nn/kernels.h"

/* A family reads its hyper-parameters and tensors from m->gguf into m->info and m->weights, then runs steps on them. */
typedef struct sv_family {
    const char *arch;                             /* general.architecture */
    unsigned traits;                              /* what tells it from others that share its functions; theirs to define */
    sv_rc (*load)(sv_llm *m, sv_err *err);        /* fills m->info, m->n_rot, m->weights */
    void (*unload)(sv_llm *m);                    /* frees m->weights, half-built too */
    void (*step)(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool); /* the rows of ws through all layers */
} sv_family;
extern const sv_family sv_family_llama, sv_family_qwen2, sv_family_qwen3, sv_family_gpt2;

struct sv_llm {
    _Atomic int32_t n_refs;
    const sv_family *family;
    sv_gguf *file;       /* one of these two is open, */
    sv_hf *hf;
    const sv_gguf *gguf; /* and this is how it is read */
    sv_llm_info info;
    sv_tokenizer *tokenizer;
    sv_template *template;
    char *template_error; /* NULL: it compiled, or there is none */
    bool halves;    /* rows of q and k as Hugging Face has them: a rotated pair lies half a head apart */
    int32_t n_rot;  /* numbers of a head that turn with the position */
    void *weights;  /* the family's */
    float **vectors; /* those that the file has in another type than float32 */
    size_t n_vectors;
    sv_tensor *matrices; /* [max_matrices] what steps multiply with; families hold pointers into it */
    size_t n_matrices, max_matrices;
    char *path;          /* of the model, absolute where that can be found */
    sv_buf source;       /* a line for each of its files (packed.h) */
    const uint8_t *packed; /* the bytes of those that are packed; NULL: none is. In one of these two: */
    void *packed_memory;
    sv_map packed_map;
    size_t packed_bytes;
    sv_llm_packing how_packed;
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
    sv_q8 *xq;              /* what goes into a packed matrix; NULL: nothing is packed */
    sv_llm_row *rows;
    sv_attn_chunk *chunks;
    int32_t *out_rows;      /* rows whose logits are wanted, */
    float **logits;         /* and where they go */
    int32_t *hidden_rows;   /* rows whose last hidden state is wanted, */
    float **hidden;         /* and where they go */
    int32_t n_rows, n_chunks, n_out, n_hidden;
};

/* Tokenizer, template and m->hf from a folder. */
SV_MUST sv_rc sv_llm_read_folder(sv_llm *m, const char *folder, sv_err *err);
/* Compiles; why it does not is kept (llm.h). `where` is where it was written. */
void sv_llm_set_template(sv_llm *m, sv_str source, const char *where);

/* The named tensor with exactly these dims (n_out 0: a vector), of a type that kernels take. `fmt` has at most one %d, for
 * i_layer. SV_EFORMAT names the tensor and both shapes. */
SV_MUST sv_rc sv_llm_matrix(const sv_llm *m, const sv_tensor **out, const char *fmt, int i_layer, int64_t n_in, int64_t n_out, sv_err *err);
/* The same for a matrix that steps multiply with, which sv_llm_pack may lay out anew. */
SV_MUST sv_rc sv_llm_weight(sv_llm *m, const sv_tensor **out, const char *fmt, int i_layer, int64_t n_in, int64_t n_out, sv_err *err);
/* A matrix, or some of its outputs, that steps multiply with; the result lives with m. */
const sv_tensor *sv_llm_add_weight(sv_llm *m, const sv_tensor *t);
/* A vector as float32: the file's own, or a copy that lives with m. Where `optional`, absent is NULL. */
SV_MUST sv_rc sv_llm_vector(sv_llm *m, const float **out, const char *fmt, int i_layer, int64_t n, bool optional, sv_err *err);

/* Hyper-parameters "<arch>.<key>". An integer in [min, max]; absent: *out if it is >= min already (the default), else SV_EFORMAT. */
SV_MUST sv_rc sv_llm_param(const sv_llm *m, const char *key, int64_t min, int64_t max, int32_t *out, sv_err *err);
/* A number in [min, max]; absent: *out, which is then the default; not a number there: SV_EFORMAT. */
SV_MUST sv_rc sv_llm_number(const sv_llm *m, const char *key, double min, double max, float *out, sv_err *err);
SV_MUST sv_rc sv_llm_text(const sv_llm *m, const char *key, sv_str *out, sv_err *err); /* absent: *out stays */
/* An array with one bool a layer, not 0: true; absent: NULL. */
SV_MUST sv_rc sv_llm_by_layer(const sv_llm *m, const char *key, const uint8_t **out, sv_err *err);
bool sv_llm_has(const sv_llm *m, const char *key);

/* --- for steps ---------------------------------------------------------------------------------------------------- */

/* Calls fn for stretches of [0, n_rows) that together are all of it, on the pool's threads. */
typedef void (*sv_rows_fn)(void *arg, int32_t begin, int32_t end);
void sv_llm_over_rows(sv_pool *pool, int32_t n_rows, sv_rows_fn fn, void *arg);
/* Rows [begin, end) of x, `width` numbers each, to ws->xq, if something is packed. */
void sv_llm_quantise(sv_llm_ws *ws, const float *x, int64_t width, int32_t begin, int32_t end);
/* Row r of x = the token's row of w. */
void sv_llm_embed(float *x, const sv_tensor *w, const sv_llm_row *rows, int32_t begin, int32_t end);
/* Where layer i's keys and values lie in a page. */
sv_kv_layout sv_llm_kv_layout(const sv_llm *m, int32_t i_layer);

#endif
