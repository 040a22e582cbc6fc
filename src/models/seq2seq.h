/* seq2seq.h - text in, other text out: BART, which sums up, and M2M100, which translates
 *
 * An encoder reads the source; a decoder writes, looking at the source's states, and a search over beams keeps the best beginnings (Hugging Face's
 * rules, with the settings of generation_config.json).
 * Threads: the weights are immutable and may be used by any number of threads; an sv_seq2seq_run belongs to one. */
#ifndef SV_MODELS_SEQ2SEQ_H
#define SV_MODELS_SEQ2SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "models/tokenizer.h"
#include "nn/pool.h"

typedef struct sv_seq2seq sv_seq2seq;
typedef struct sv_seq2seq_run sv_seq2seq_run; /* one text on its way */

typedef struct sv_seq2seq_info {
    char arch[32];     /* "bart", "m2m_100" */
    char name[96];     /* of the folder */
    char weights[16];  /* the type most bytes have */
    int64_t n_params;
    size_t size_bytes;
    int32_t n_ctx;     /* tokens of a source, marks among them */
    int32_t n_vocab, n_embd, n_layer_in, n_layer_out, n_head_in, n_head_out, n_ff_in, n_ff_out;
    bool translates;   /* a source and a target language are part of a run */
} sv_seq2seq_info;

bool sv_seq2seq_is(const char *path); /* config.json says so */
/* A Hugging Face folder: config.json, generation_config.json where there is one, safetensors, tokenizer.json. */
SV_MUST sv_rc sv_seq2seq_open(sv_seq2seq **out, const char *path, sv_err *err);
sv_seq2seq *sv_seq2seq_close(sv_seq2seq *m); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_seq2seq, sv_seq2seq_close)
const sv_seq2seq_info *sv_seq2seq_get_info(const sv_seq2seq *m);

typedef struct sv_seq2seq_text {
    sv_str text;
    sv_str source, target; /* languages, by code ("de") or English name; of models that translate. source may be empty: English */
    int32_t max_tokens;    /* of what is written; 0: the model's own bound, which none goes over */
    int32_t n_beams;       /* 0: the model's own */
} sv_seq2seq_text;
/* Tokens as the model reads them: cut to n_ctx. SV_EINVAL (api_code 5006) names a language that it does not know. */
SV_MUST sv_rc sv_seq2seq_tokens(const sv_seq2seq *m, const sv_seq2seq_text *text, sv_tokens *out, sv_err *err);
SV_MUST sv_rc sv_seq2seq_begin(sv_seq2seq_run **out, const sv_seq2seq *m, const sv_seq2seq_text *text, sv_err *err); /* SV_ENOMEM too */
/* A layer of the encoder, or the next token of all beams; others may compute in between. False: the text is written. */
bool sv_seq2seq_step(sv_seq2seq_run *r, sv_pool *pool);
/* What was written, as text, once step has said false; and how many tokens were read and written. */
SV_MUST sv_rc sv_seq2seq_written(const sv_seq2seq_run *r, sv_buf *out, int32_t *n_read, int32_t *n_written, sv_err *err);
sv_tokens sv_seq2seq_ids(const sv_seq2seq_run *r); /* with the marks; borrowed */
sv_seq2seq_run *sv_seq2seq_end(sv_seq2seq_run *r); /* NULL is fine; returns NULL */
static inline void sv_seq2seq_run_freep(sv_seq2seq_run **r) { sv_seq2seq_end(*r); }

/* For tests: logits of the last of `tokens`, which follow each other from the beginning, after the encoder has read the run's source. */
void sv_seq2seq_logits(sv_seq2seq_run *r, sv_pool *pool, const int32_t *tokens, int32_t n, float *logits);

#endif
