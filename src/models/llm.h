/* llm.h - a decoder-only language model: weights, tokenizer, chat template, and one batched step
 *
 * The engine owns sequences and pages; this owns weights and the arithmetic. A family (llama.c) fills sv_llm's operations.
 *
 * KV cache: pages of SV_KV_PAGE positions. Page i of a sequence holds positions [i * SV_KV_PAGE, (i + 1) * SV_KV_PAGE) of all layers;
 * the caller hands pointers to page memory of sv_llm_kv_page_bytes each, 64-byte aligned, and may share full pages between sequences
 * with the same prefix.
 *
 * Company-proof: what a step computes for one sequence (its logits and the bits it writes to its pages) depends on nothing but
 * that sequence's tokens: not on the other chunks, their order, how its prompt was cut into chunks, or the number of
 * threads. Kernels keep the order of every float sum fixed.
 *
 * Threads: the weights are immutable and shared by reference; an sv_llm_ws belongs to one engine thread. */
#ifndef SV_MODELS_LLM_H
#define SV_MODELS_LLM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "models/template.h"
#include "models/tokenizer.h"
#include "nn/kernels.h" /* SV_KV_PAGE */
#include "nn/pool.h"

typedef struct sv_llm sv_llm;
typedef struct sv_llm_ws sv_llm_ws; /* scratch memory for steps of up to max_rows tokens */

typedef struct sv_llm_info {
    char arch[32];      /* "llama" */
    char name[96];      /* general.name or ""; of a folder its name */
    char weights[16];   /* the type most bytes have: "Q4_K" */
    int64_t n_params;
    size_t size_bytes;  /* of the weights' files */
    int32_t n_ctx;      /* trained context */
    int32_t n_vocab, n_embd, n_layer, n_head, n_head_kv, head_dim, n_ff;
} sv_llm_info;

/* Opens a GGUF (a file, the first of its parts, or a folder with one) or a Hugging Face folder, of a known family: checks every
 * hyper-parameter and that each tensor is there with the right shape before anything runs. Errors are one sentence naming file and tensor
 * or key. The result has one reference. */
SV_MUST sv_rc sv_llm_open(sv_llm **out, const char *path, sv_err *err);
sv_llm *sv_llm_ref(sv_llm *m);
sv_llm *sv_llm_unref(sv_llm *m); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_llm, sv_llm_unref)
const sv_llm_info *sv_llm_get_info(const sv_llm *m);
const sv_tokenizer *sv_llm_tokenizer(const sv_llm *m);
/* The file's chat template; NULL: it has none, or one that does not compile. Raw prompts need none, so a broken one does not keep a
 * model from opening: sv_llm_template_error says what is wrong with it, for who comes with messages. NULL: nothing is. */
const sv_template *sv_llm_template(const sv_llm *m);
const char *sv_llm_template_error(const sv_llm *m);
size_t sv_llm_kv_page_bytes(const sv_llm *m);

/* Lays the quantised matrices out for this CPU's integer kernels (nn/pack.h), before any step: several times as fast, for activations
 * rounded to 8 bits. Where `folder` is given, the packed bytes are a file in it, written the first time and mapped from then on
 * (models/packed.h); without one, or where it cannot be written, they are a second copy of the weights in memory. Of a model without such
 * matrices nothing changes. SV_ENOMEM. */
typedef enum sv_llm_packing { SV_LLM_AS_FILE, SV_LLM_IN_MEMORY, SV_LLM_MAPPED, SV_LLM_WRITTEN } sv_llm_packing;
SV_MUST sv_rc sv_llm_pack(sv_llm *m, const char *folder, sv_err *err);
sv_llm_packing sv_llm_packed_how(const sv_llm *m); /* written: and mapped */
size_t sv_llm_packed_bytes(const sv_llm *m);

/* One sequence's part of a step: tokens at positions [pos, pos + n_tokens). pages[j] covers them and everything before. */
typedef struct sv_llm_chunk {
    const int32_t *tokens;
    int32_t n_tokens, pos;
    void *const *pages; /* (pos + n_tokens + SV_KV_PAGE - 1) / SV_KV_PAGE of them */
    float *logits;      /* [n_vocab] of the chunk's last token, or NULL: not wanted */
    float *hidden;      /* [n_embd] what the output matrix would see of it, or NULL; not of GPT-2 */
} sv_llm_chunk;

SV_MUST sv_rc sv_llm_ws_new(sv_llm_ws **out, const sv_llm *m, int32_t max_rows, sv_err *err); /* SV_ENOMEM */
sv_llm_ws *sv_llm_ws_free(sv_llm_ws *ws); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_llm_ws, sv_llm_ws_free)
/* Runs all chunks in one pass over the weights. The sum of n_tokens is at most max_rows; token ids are in range and pos + n_tokens
 * <= n_ctx (asserted: the engine checked them). Cannot fail. */
void sv_llm_step(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool, const sv_llm_chunk *chunks, int32_t n_chunks);

#endif
