/* whisper.h - Whisper: sound in, text with times out (Radford et al. 2022, arXiv:2212.04356)
 *
 * All sizes, from tiny.en to large-v3-turbo: a Hugging Face folder, or whisper.cpp's ggml file. This is the model: weights, encoder, decoder. How a
 * recording becomes text with it, window by window, is transcribe.h.
 *
 * Threads: the weights are immutable and may be used by any number of threads; an sv_whisper_ws belongs to one. */
#ifndef SV_MODELS_WHISPER_H
#define SV_MODELS_WHISPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "models/mel.h"
#include "models/tokenizer.h"
#include "nn/pool.h"

typedef struct sv_whisper sv_whisper;
typedef struct sv_whisper_ws sv_whisper_ws; /* scratch memory: one window of sound, and up to SV_WHISPER_SEQS texts of it */

enum { SV_WHISPER_SEQS = 8, SV_WHISPER_MAX_LANGS = 128 };

/* Ids with a meaning. Those from timestamp on are times, one each 20 ms. */
typedef struct sv_whisper_tokens {
    int32_t eot, sot, translate, transcribe, sot_lm, sot_prev, no_speech, no_timestamps, timestamp;
    int32_t langs[SV_WHISPER_MAX_LANGS]; /* ids, as many as info.n_langs */
    char codes[SV_WHISPER_MAX_LANGS][8]; /* "en" */
} sv_whisper_tokens;

typedef struct sv_whisper_info {
    char name[96];     /* of a folder or file its name */
    char weights[16];  /* the type most bytes have: "F16" */
    int64_t n_params;
    size_t size_bytes; /* of the weights' files */
    int32_t n_mels, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_audio_ff;
    int32_t n_vocab, n_text_ctx, n_text_head, n_text_layer, n_text_ff;
    bool multilingual;
    int32_t n_langs;
    int32_t max_initial_timestamp; /* in steps of 20 ms */
} sv_whisper_info;

/* Is this a model for this file? Looks at config.json or the file's first bytes, no more. False too where neither can be read. */
bool sv_whisper_is(const char *path);

/* A Hugging Face folder (config.json, safetensors, tokenizer.json, generation_config.json) or a ggml file: checks every hyper-parameter and that
 * each tensor is there with the right shape. Errors are one sentence naming file and tensor or member. */
SV_MUST sv_rc sv_whisper_open(sv_whisper **out, const char *path, sv_err *err);
sv_whisper *sv_whisper_close(sv_whisper *m); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_whisper, sv_whisper_close)
const sv_whisper_info *sv_whisper_get_info(const sv_whisper *m);
const sv_whisper_tokens *sv_whisper_get_tokens(const sv_whisper *m);
const sv_tokenizer *sv_whisper_tokenizer(const sv_whisper *m);
const sv_mel *sv_whisper_mel(const sv_whisper *m);
/* Index of a language among info.n_langs, by code or by English name, any case; -1: the model does not have it. */
int32_t sv_whisper_find_lang(const sv_whisper *m, sv_str name);
const char *sv_whisper_lang_name(const char *code); /* "english"; NULL: none that Whisper has */
/* Ids that are never written: what is no speech (brackets, notes) and markers. *n of them, borrowed. */
const int32_t *sv_whisper_suppressed(const sv_whisper *m, size_t *n);
const int32_t *sv_whisper_begin_suppressed(const sv_whisper *m, size_t *n); /* as the first of a window */

SV_MUST sv_rc sv_whisper_ws_new(sv_whisper_ws **out, const sv_whisper *m, sv_err *err); /* SV_ENOMEM */
sv_whisper_ws *sv_whisper_ws_free(sv_whisper_ws *ws); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_whisper_ws, sv_whisper_ws_free)
size_t sv_whisper_ws_bytes(const sv_whisper *m);

/* The encoder in steps, so that others may compute between them: begin, then layers 0 to n_audio_layer - 1, then end, which leaves the window's
 * states in ws, and the keys and values that the decoder looks at. mel: float32 [2 * n_audio_ctx][n_mels]. */
void sv_whisper_encode_begin(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const float *mel);
void sv_whisper_encode_layer(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, int32_t i_layer);
void sv_whisper_encode_end(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool);
const float *sv_whisper_states(const sv_whisper_ws *ws); /* [n_audio_ctx][n_audio_state]; borrowed until the next decode or encode */

/* Part of a text: tokens at positions [pos, pos + n_tokens) of sequence `seq`, which has those before already. */
typedef struct sv_whisper_chunk {
    const int32_t *tokens;
    int32_t n_tokens, pos, seq;
    float *logits;    /* [n_vocab] of the last token; or NULL */
    float *at_logits; /* [n_vocab] of token i_at; or NULL */
    int32_t i_at;
    float *all;       /* [n_tokens][n_vocab]; or NULL */
} sv_whisper_chunk;
/* How the tokens of the first chunk look at the sound, before the softmax: one call for each of the heads that follow it in time. */
typedef struct sv_whisper_look {
    void (*on_head)(void *arg, float *scores); /* [n_tokens][n_audio_ctx]: the caller's, to change too */
    void *arg;
    float *scores;
} sv_whisper_look;
/* One pass over the weights. The sum of n_tokens is at most n_text_ctx, and so is pos + n_tokens; ids are in range (asserted). look: or NULL. */
void sv_whisper_decode(const sv_whisper *m, sv_whisper_ws *ws, sv_pool *pool, const sv_whisper_chunk *chunks, int32_t n_chunks, const sv_whisper_look *look);
int32_t sv_whisper_n_align(const sv_whisper *m); /* heads that follow the sound in time */
/* Sequence `to` becomes what `from` is, of its first n_tokens. */
void sv_whisper_copy_seq(const sv_whisper *m, sv_whisper_ws *ws, int32_t to, int32_t from, int32_t n_tokens);

#endif
