/* inspect.h - what a model file is, for those who may not see tensors: the catalogue, `selvedge models`
 * Threads: any. */
#ifndef SV_ENGINE_INSPECT_H
#define SV_ENGINE_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/files.h" /* which files a model is made of: names and sizes, no tensors */

/* What a model computes; which tasks that serves is in ai/task.c. */
typedef enum sv_model_kind {
    SV_KIND_GENERATOR,  /* continues text */
    SV_KIND_ENCODER,    /* a vector for a text */
    SV_KIND_CLASSIFIER, /* scores of classes for a text */
    SV_KIND_RERANKER,   /* one score for a pair of texts */
    SV_KIND_SPEECH,     /* text for a recording */
    SV_KIND_IMAGES,     /* scores of classes for a picture */
    SV_KIND_OBJECTS,    /* boxes of things in a picture */
    SV_KIND_EYES,       /* vectors for a picture */
    SV_KIND_TRANSLATOR, /* the same in another language */
    SV_KIND_SUMMARISER, /* the same in fewer words */
    SV_N_KINDS,
} sv_model_kind;
const char *sv_model_kind_name(sv_model_kind k);                /* "text encoder" */
bool sv_model_kind_named(const char *name, sv_model_kind *out); /* false: none has that name */

typedef struct sv_model_facts {
    sv_model_kind kind;
    char arch[32];      /* "llama" */
    char name[96];      /* as the file names itself, or "" */
    char weights[16];   /* the type most bytes have: "Q4_K" */
    int64_t n_params;
    size_t size_bytes;  /* of the weights' files */
    int32_t n_ctx, n_vocab;
    int32_t dim;        /* of an encoder's vectors, or number of classes; 0: neither */
    bool cls_pooling;   /* of an encoder: trained for the first token's vector, where the files say so; */
    bool last_pooling;  /* a decoder that makes vectors: no other pooling makes sense */
    bool has_template;
} sv_model_facts;

/* Opens the file or folder as the engine would, with every check, and closes it: SV_OK means that it will load. Errors are one sentence that names file
 * and tensor or key: SV_ENOENT, SV_EFORMAT, SV_EIO. */
SV_MUST sv_rc sv_engine_inspect(const char *path, sv_model_facts *out, sv_err *err);

#endif
