/* type_model_testing.h - small Llama models of random blocks in one weight type, for tests only
 *
 * One layer, n_embd 256 (which every type's blocks divide), 48 tokens. Draw weights, make models of them, drop them. */
#ifndef SV_MODELS_TYPE_MODEL_TESTING_H
#define SV_MODELS_TYPE_MODEL_TESTING_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "models/llm.h"
#include "models/vocab_testing.h"
#include "nn/reference_testing.h"

enum { TYPE_MODEL_EMBD = 256, TYPE_MODEL_KV = 64, TYPE_MODEL_VOCAB = 48, TYPE_MODEL_WORDS = TYPE_MODEL_VOCAB - 3, TYPE_MODEL_CTX = 128 };

/* Scales that make weights of about 0.06, as a real model of this width has. */
static inline unsigned type_model_exponent(sv_type type)
{
    enum { N = 16 * 256 };
    static float y[N];
    SV_AUTO(sv_freep) uint8_t *row = sv_xcalloc(1, sv_type_bytes(type, N));
    unsigned best = 1;
    double best_off = INFINITY;
    for (unsigned e = 1; e < 16; e++) {
        double squares = 0;
        ref_random_row(type, row, N, e, e);
        sv_dequantize(y, type, row, N);
        for (int i = 0; i < N; i++)
            squares += (double)y[i] * (double)y[i] / N;
        double off = fabs(log(sqrt(squares) / 0.06));
        if (off < best_off)
            best = e, best_off = off;
    }
    return best;
}

typedef struct type_model_matrix { const char *name; int64_t n_in, n_out; uint8_t *bytes; } type_model_matrix;
static type_model_matrix type_model_matrices[] = {
    {"token_embd.weight", TYPE_MODEL_EMBD, TYPE_MODEL_VOCAB, NULL}, {"output.weight", TYPE_MODEL_EMBD, TYPE_MODEL_VOCAB, NULL},
    {"blk.0.attn_q.weight", TYPE_MODEL_EMBD, TYPE_MODEL_EMBD, NULL}, {"blk.0.attn_k.weight", TYPE_MODEL_EMBD, TYPE_MODEL_KV, NULL},
    {"blk.0.attn_v.weight", TYPE_MODEL_EMBD, TYPE_MODEL_KV, NULL}, {"blk.0.attn_output.weight", TYPE_MODEL_EMBD, TYPE_MODEL_EMBD, NULL},
    {"blk.0.ffn_gate.weight", TYPE_MODEL_EMBD, TYPE_MODEL_EMBD, NULL}, {"blk.0.ffn_up.weight", TYPE_MODEL_EMBD, TYPE_MODEL_EMBD, NULL},
    {"blk.0.ffn_down.weight", TYPE_MODEL_EMBD, TYPE_MODEL_EMBD, NULL},
};
static const char *const type_model_norms[] = {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"};

static inline void type_model_draw(sv_type type)
{
    unsigned e = type_model_exponent(type);
    for (size_t i = 0; i < SV_LEN(type_model_matrices); i++) {
        type_model_matrix *m = &type_model_matrices[i];
        m->bytes = sv_xrealloc(m->bytes, 1, sv_type_bytes(type, m->n_in * m->n_out));
        ref_random_row(type, m->bytes, m->n_in * m->n_out, e, e);
    }
}

static inline void type_model_drop(void)
{
    for (size_t i = 0; i < SV_LEN(type_model_matrices); i++) {
        free(type_model_matrices[i].bytes);
        type_model_matrices[i].bytes = NULL;
    }
}

static inline void type_model_put_tensor(vocab_file *f, sv_buf *data, const char *name, int64_t n_in, int64_t n_out, sv_type type, const void *bytes)
{
    static const uint8_t zeros[32];
    size_t n = sv_type_bytes(type, n_in * n_out);
    uint64_t at = data->n;
    vocab_put_str(f, name, strlen(name));
    vocab_put_u32(f, n_out > 1 ? 2 : 1);
    vocab_put(f, &n_in, 8);
    if (n_out > 1)
        vocab_put(f, &n_out, 8);
    vocab_put_u32(f, type);
    vocab_put(f, &at, 8);
    sv_buf_add(data, bytes, n);
    sv_buf_add(data, zeros, (32 - n % 32) % 32);
}

static inline void type_model_put_metadata(vocab_file *f)
{
    static const struct { const char *key; uint32_t v; } keys[] = {
        {"llama.context_length", TYPE_MODEL_CTX}, {"llama.embedding_length", TYPE_MODEL_EMBD}, {"llama.block_count", 1}, {"llama.feed_forward_length", TYPE_MODEL_EMBD},
        {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 1},
    };
    static vocab_word words[TYPE_MODEL_WORDS];
    static char texts[TYPE_MODEL_WORDS][2];
    for (int i = 0; i < TYPE_MODEL_WORDS; i++) {
        texts[i][0] = (char)('0' + i);
        words[i] = (vocab_word){texts[i], 0, 1};
    }
    vocab_str(f, "general.architecture", "llama");
    for (size_t i = 0; i < SV_LEN(keys); i++)
        vocab_u32(f, keys[i].key, keys[i].v);
    vocab_key(f, "llama.attention.layer_norm_rms_epsilon", 6);
    vocab_put(f, &(float){1e-5f}, 4);
    vocab_spm(f, false, words, TYPE_MODEL_WORDS);
}

/* The drawn weights in `type`, or, where `plain`, what they mean as float32. */
static inline sv_llm *type_model_new(sv_type type, bool plain)
{
    char path[] = "/tmp/types-test-XXXXXX";
    vocab_file f = {.n_kv = 0};
    static float floats[TYPE_MODEL_EMBD * TYPE_MODEL_EMBD];
    sv_buf data, file;
    sv_err err = {0};
    sv_buf_init(&f.kv, 0);
    sv_buf_init(&data, 0);
    sv_buf_init(&file, 0);
    type_model_put_metadata(&f);
    for (size_t i = 0; i < SV_LEN(type_model_matrices); i++) {
        const type_model_matrix *m = &type_model_matrices[i];
        if (plain)
            sv_dequantize(floats, type, m->bytes, m->n_in * m->n_out);
        type_model_put_tensor(&f, &data, m->name, m->n_in, m->n_out, plain ? SV_F32 : type, plain ? (const void *)floats : m->bytes);
    }
    for (int i = 0; i < TYPE_MODEL_EMBD; i++)
        floats[i] = 1.0f;
    for (size_t i = 0; i < SV_LEN(type_model_norms); i++)
        type_model_put_tensor(&f, &data, type_model_norms[i], TYPE_MODEL_EMBD, 1, SV_F32, floats);
    const uint32_t head[] = {0x46554747, 3, SV_LEN(type_model_matrices) + SV_LEN(type_model_norms), 0, (uint32_t)f.n_kv, 0};
    sv_buf_add(&file, head, sizeof head);
    sv_buf_add(&file, f.kv.p, f.kv.n);
    while (file.n % 32 != 0)
        sv_buf_addc(&file, '\0');
    sv_buf_add(&file, data.p, data.n);

    sv_llm *model = NULL;
    int fd = mkstemp(path);
    SV_ASSERT(fd >= 0 && sv_write_all(fd, file.p, file.n, &err) == SV_OK);
    close(fd);
    if (sv_llm_open(&model, path, &err) != SV_OK)
        fprintf(stderr, "%s: %s\n", sv_type_get(type)->name, err.msg);
    SV_ASSERT(model);
    unlink(path); /* a map stays */
    vocab_done(&f);
    sv_buf_done(&data);
    sv_buf_done(&file);
    return model;
}

#endif
