/* encoder.h - a text encoder: texts in; vectors, or scores of classes, out
 *
 * The families are those of BERT (bert.c), and language models that were trained to make vectors (decoder_embedder.c). One run computes a packed batch: the sequences lie one behind the other, so a short one beside a
 * long one costs what it would cost alone.
 *
 * Company-proof: what comes out for a sequence depends on nothing but its tokens: not on the other sequences, their order, or the number of
 * threads.
 *
 * Threads: the weights are immutable and may be used by any number of threads; an sv_encoder_ws belongs to one. */
#ifndef SV_MODELS_ENCODER_H
#define SV_MODELS_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "models/tokenizer.h"
#include "nn/pool.h"

typedef struct sv_encoder sv_encoder;
typedef struct sv_encoder_ws sv_encoder_ws; /* scratch memory for runs of up to max_rows tokens */

typedef enum sv_pooling { SV_POOL_MEAN, SV_POOL_CLS, SV_POOL_LAST } sv_pooling;

typedef struct sv_encoder_info {
    char arch[32];     /* "bert", "distilbert", "xlm-roberta", "qwen3" */
    char name[96];     /* general.name, or of a folder its name */
    char weights[16];  /* the type most bytes have: "F32" */
    int64_t n_params;
    size_t size_bytes; /* of the weights' files */
    int32_t n_ctx;     /* longest sequence, special tokens among it */
    int32_t n_vocab, n_embd, n_layer, n_head, n_ff;
    int32_t n_labels;  /* of the classification head; 0: none, it makes vectors */
    sv_pooling pooling; /* what the model was trained with, where the file says so; else mean. LAST: a decoder, and no other pooling makes sense */
} sv_encoder_info;

/* Is this a model for this file, rather than for llm.h? Looks at config.json or the head of the GGUF, no more. False too where neither can
 * be read: opening says why. */
bool sv_encoder_is(const char *path);

/* Opens a Hugging Face folder (config.json, safetensors, tokenizer.json), a GGUF of architecture bert, or a language model that says it makes vectors
 * (modules.json, or the key pooling_type of a GGUF): checks every hyper-parameter and
 * that each tensor is there with the right shape before anything runs. Errors are one sentence naming file and tensor or member. */
SV_MUST sv_rc sv_encoder_open(sv_encoder **out, const char *path, sv_err *err);
sv_encoder *sv_encoder_close(sv_encoder *e); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_encoder, sv_encoder_close)
const sv_encoder_info *sv_encoder_get_info(const sv_encoder *e);
const char *sv_encoder_label(const sv_encoder *e, int32_t i); /* "NEGATIVE"; where the file has no names "LABEL_0" */

/* A sequence: token ids, and the segment of each from n_first on is the second (of models that have segments). */
typedef struct sv_encoder_seq {
    const int32_t *tokens;
    int32_t n_tokens, n_first; /* n_first: tokens of the first segment; n_tokens where there is one */
    float *out;                /* sv_encoder_run's answer: [n_embd], or [n_labels] where logits are wanted */
} sv_encoder_seq;

/* Text, or a pair of texts where `pair` is given, as the model reads it: with its special tokens, at most max_tokens in all (at least what the
 * special ones need, and at most n_ctx). Appended to *out. What is too long is cut: the end of a text goes; of a pair the longer one's until
 * they are equally long (the rule "longest_first" of the Hugging Face libraries). Where `cut` is false, it is SV_ELIMIT instead. */
typedef struct sv_encoder_text {
    sv_str text;
    const sv_str *pair; /* or NULL */
    int32_t max_tokens; /* 0: n_ctx */
    bool cut;
} sv_encoder_text;
SV_MUST sv_rc sv_encoder_tokens(const sv_encoder *e, const sv_encoder_text *text, sv_tokens *out, int32_t *n_first, sv_err *err);

enum { SV_ENCODER_MAX_SEQS = 64 }; /* a run */
SV_MUST sv_rc sv_encoder_ws_new(sv_encoder_ws **out, const sv_encoder *e, int32_t max_rows, sv_err *err); /* SV_ENOMEM */
sv_encoder_ws *sv_encoder_ws_free(sv_encoder_ws *ws); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_encoder_ws, sv_encoder_ws_free)

typedef enum sv_encoder_want { SV_WANT_MEAN = SV_POOL_MEAN, SV_WANT_CLS = SV_POOL_CLS, SV_WANT_LOGITS } sv_encoder_want;

/* A run in steps, so that others may compute between them: begin, then steps 0 to sv_encoder_n_steps - 1 in order, then end, which writes every seq's
 * out. 1 to SV_ENCODER_MAX_SEQS sequences; the sum of n_tokens is at most max_rows; ids are in range, no sequence is empty or longer than n_ctx (asserted). seqs live until end.
 * SV_WANT_LOGITS only of a model with labels; of a decoder every want is the last token's vector. Vectors are not normalised. */
void sv_encoder_begin(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int32_t n_seqs);
int32_t sv_encoder_n_steps(const sv_encoder *e, const sv_encoder_ws *ws); /* of the run that was begun */
void sv_encoder_step(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, int32_t i_step);
void sv_encoder_end(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, sv_encoder_want want);
/* All of it. */
void sv_encoder_run(const sv_encoder *e, sv_encoder_ws *ws, sv_pool *pool, const sv_encoder_seq *seqs, int32_t n_seqs, sv_encoder_want want);

#endif
