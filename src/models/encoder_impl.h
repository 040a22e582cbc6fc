/* encoder_impl.h - between encoder.c (files, texts), bert.c and decoder_embedder.c (the arithmetic) */
#ifndef SV_MODELS_ENCODER_IMPL_H
#define SV_MODELS_ENCODER_IMPL_H

#include "models/encoder.h"
#include "models/held.h"
#include "models/llm.h"
#include "nn/gguf.h"
#include "nn/kernels.h"
#include "nn/safetensors.h"

typedef struct enc_norm { const float *w, *b; } enc_norm;
typedef struct enc_dense { const sv_tensor *w; const float *b; } enc_dense; /* w NULL: there is none */

typedef struct enc_layer {
    enc_dense q, k, v, o, up, down;
    enc_norm attn_norm, ffn_norm; /* behind attention and behind the feed-forward part */
} enc_layer;

typedef enum enc_act { ENC_GELU_ERF, ENC_GELU_TANH, ENC_RELU, ENC_SILU } enc_act;

/* What stands between the first token's vector and the logits. */
typedef enum enc_head { ENC_HEAD_NONE, ENC_HEAD_TANH, ENC_HEAD_RELU } enc_head;

struct sv_encoder {
    sv_encoder_info info;
    sv_safetensors *files; /* one of these is open */
    sv_gguf *gguf;
    sv_llm *llm;             /* a decoder; then nothing below is set but prefix and suffix */
    sv_tokenizer *own_tokenizer; /* NULL: the decoder's is used */
    const sv_tokenizer *tokenizer;
    float eps;
    enc_act act;
    int32_t first_position; /* row of the position table that the first token gets */
    int32_t n_types;        /* 0: no segments */
    bool double_separator;  /* a pair is parted by two separators (XLM-RoBERTa) */
    sv_tokens prefix, suffix;
    const sv_tensor *token_embd, *position_embd, *type_embd;
    enc_norm embd_norm;
    enc_layer *layers;
    enc_head head;
    enc_dense pooler, classifier;
    char **labels;  /* [n_labels]; each may be NULL */
    sv_held held;
};

/* decoder_embedder.c */
bool sv_decoder_embedder_is(const char *path);
SV_MUST sv_rc sv_decoder_embedder_open(sv_encoder *e, const char *path, sv_err *err); /* e->llm and e->info */
typedef struct sv_decoder_ws sv_decoder_ws;
SV_MUST sv_rc sv_decoder_ws_new(sv_decoder_ws **out, const sv_encoder *e, int32_t max_rows, sv_err *err);
sv_decoder_ws *sv_decoder_ws_free(sv_decoder_ws *ws); /* NULL is fine; returns NULL */
void sv_decoder_begin(const sv_encoder *e, sv_decoder_ws *ws, const sv_encoder_seq *seqs, int32_t n_seqs);
int32_t sv_decoder_n_steps(const sv_decoder_ws *ws);
void sv_decoder_step(const sv_encoder *e, sv_decoder_ws *ws, sv_pool *pool, int32_t i_step);
void sv_decoder_end(sv_decoder_ws *ws);

#endif
