/* encoder_impl.h - between encoder.c (files, texts) and bert.c (the arithmetic) */
#ifndef SV_MODELS_ENCODER_IMPL_H
#define SV_MODELS_ENCODER_IMPL_H

#include "models/encoder.h"
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
    sv_tokenizer *tokenizer;
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
    float **copies; /* vectors that the file has in another type or at an odd address */
    sv_tensor **tensors; /* matrices, as pointers that live with the model */
    size_t n_copies, n_tensors;
};

#endif
