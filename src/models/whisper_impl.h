/* whisper_impl.h - between whisper_open.c (files), whisper_ggml.c (whisper.cpp's files) and whisper.c (the arithmetic) */
#ifndef SV_MODELS_WHISPER_IMPL_H
#define SV_MODELS_WHISPER_IMPL_H

#include "models/held.h"
#include "models/whisper.h"
#include "base/file.h"
#include "nn/gguf.h"
#include "nn/kernels.h"
#include "nn/safetensors.h"

typedef struct wsp_norm { const float *w, *b; } wsp_norm;
typedef struct wsp_dense { const sv_tensor *w; const float *b; } wsp_dense; /* b NULL: none */
typedef struct wsp_attn { wsp_norm norm; wsp_dense q, k, v, o; } wsp_attn;

typedef struct wsp_layer {
    wsp_attn self, cross; /* the encoder's have no cross */
    wsp_norm ffn_norm;
    wsp_dense up, down;
} wsp_layer;

typedef struct wsp_head { int32_t layer, head; } wsp_head;
typedef struct wsp_ids { int32_t *v; size_t n; } wsp_ids;

struct sv_whisper {
    sv_whisper_info info;
    sv_whisper_tokens tokens;
    sv_safetensors *files; /* one of these is open */
    struct wsp_ggml *ggml;
    sv_tokenizer *tokenizer;
    sv_mel *mel;
    wsp_dense conv1, conv2; /* as matrices over three frames: [n_out, n_in * 3] */
    const sv_tensor *audio_position, *token_embd, *text_position;
    wsp_layer *audio, *text;
    wsp_norm audio_norm, text_norm;
    wsp_head *align;
    int32_t n_align;
    wsp_ids suppress, begin_suppress;
    sv_held held;
};

/* Of a published model, by its sizes; NULL: none has these. */
const wsp_head *wsp_known_heads(const sv_whisper_info *info, int32_t *n);

/* --- whisper.cpp's files ------------------------------------------------------------------------------------------- */

/* 0 u32 "ggml"; 4 eleven i32; the mel filters; the vocabulary; then tensors to the end. Everything is borrowed from the bytes. */
typedef struct wsp_ggml {
    sv_map map; /* of wsp_ggml_open */
    int32_t n_vocab, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_text_ctx, n_text_state, n_text_head, n_text_layer, n_mels, ftype;
    const uint8_t *filters; /* float32 [n_mels][SV_MEL_BINS], at any address */
    sv_str *words;
    int32_t n_words;
    sv_gguf *tensors; /* by name */
} wsp_ggml;
bool wsp_ggml_is(const void *bytes, size_t n);
SV_MUST sv_rc wsp_ggml_parse(wsp_ggml **out, const void *bytes, size_t n, sv_err *err);
SV_MUST sv_rc wsp_ggml_open(wsp_ggml **out, const char *path, sv_err *err);
wsp_ggml *wsp_ggml_close(wsp_ggml *g); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(wsp_ggml, wsp_ggml_close)
/* The tokenizer that the words are of: their order is that of the merges. */
SV_MUST sv_rc wsp_ggml_tokenizer(sv_tokenizer **out, const wsp_ggml *g, sv_err *err);

#endif
