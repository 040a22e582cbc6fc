/* vocab_testing.h - small GGUF vocabularies made in memory, for tests and fuzz targets only */
#ifndef SV_MODELS_VOCAB_TESTING_H
#define SV_MODELS_VOCAB_TESTING_H

#include "base/mem.h"
#include "base/str.h"
#include "models/tokenizer.h"

/* A GGUF file that has only metadata. Keys are appended, then vocab_open closes the header. */
typedef struct vocab_file {
    sv_buf kv;
    uint64_t n_kv;
    uint8_t *bytes; /* 32-byte aligned, made by vocab_open */
} vocab_file;

static inline void vocab_put(vocab_file *f, const void *p, size_t n)
{
    SV_ASSERT(sv_buf_add(&f->kv, p, n));
}

static inline void vocab_put_u32(vocab_file *f, uint32_t v)
{
    vocab_put(f, &v, sizeof v);
}

static inline void vocab_put_str(vocab_file *f, const char *p, size_t n)
{
    uint64_t len = n;
    vocab_put(f, &len, sizeof len);
    vocab_put(f, p, n);
}

/* The head of a key: 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array */
static inline void vocab_key(vocab_file *f, const char *key, uint32_t type)
{
    vocab_put_str(f, key, strlen(key));
    vocab_put_u32(f, type);
    f->n_kv++;
}

static inline void vocab_array(vocab_file *f, const char *key, uint32_t element, uint64_t n)
{
    vocab_key(f, key, 9);
    vocab_put_u32(f, element);
    vocab_put(f, &n, sizeof n);
}

static inline void vocab_str(vocab_file *f, const char *key, const char *s)
{
    vocab_key(f, key, 8);
    vocab_put_str(f, s, strlen(s));
}

static inline void vocab_u32(vocab_file *f, const char *key, uint32_t v)
{
    vocab_key(f, key, 4);
    vocab_put_u32(f, v);
}

static inline void vocab_bool(vocab_file *f, const char *key, bool v)
{
    vocab_key(f, key, 7);
    vocab_put(f, &(uint8_t){v}, 1);
}

static inline sv_rc vocab_open(vocab_file *f, sv_gguf **out, sv_err *err)
{
    const uint32_t head[] = {0x46554747, 3, 0, 0, (uint32_t)f->n_kv, 0}; /* "GGUF", version 3, no tensors, n_kv */
    size_t n = (sizeof head + f->kv.n + 63) & ~(size_t)31;
    f->bytes = sv_try_aligned(n, 32);
    SV_ASSERT(f->bytes);
    memset(f->bytes, 0, n);
    memcpy(f->bytes, head, sizeof head);
    memcpy(f->bytes + sizeof head, f->kv.p, f->kv.n);
    return sv_gguf_parse(out, f->bytes, n, err);
}

static inline void vocab_done(vocab_file *f)
{
    sv_buf_done(&f->kv);
    free(f->bytes);
}

typedef struct vocab_word {
    const char *text;
    float score;
    int32_t type; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte */
} vocab_word;

/* The tokens, scores and types of a SentencePiece vocabulary: <unk> <s> </s>, the 256 bytes where wanted, then the words.
 * So the words begin at id 259, or 3. */
static inline void vocab_spm(vocab_file *f, bool bytes, const vocab_word *words, size_t n_words)
{
    static const vocab_word head[] = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
    size_t n_bytes = bytes ? 256 : 0, n = 3 + n_bytes + n_words;
    vocab_str(f, "tokenizer.ggml.model", "llama");
    for (int pass = 0; pass < 3; pass++) {
        static const char *const key[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
        static const uint32_t element[] = {8, 6, 5};
        vocab_array(f, key[pass], element[pass], n);
        for (size_t i = 0; i < n; i++) {
            char hex[8];
            bool byte = i >= 3 && i < 3 + n_bytes;
            snprintf(hex, sizeof hex, "<0x%02X>", (unsigned)(i - 3) & 0xff);
            vocab_word w = byte ? (vocab_word){hex, 0, 6} : i < 3 ? head[i] : words[i - 3 - n_bytes];
            if (pass == 0)
                vocab_put_str(f, w.text, strlen(w.text));
            else if (pass == 1)
                vocab_put(f, &w.score, sizeof w.score);
            else
                vocab_put(f, &w.type, sizeof w.type);
        }
    }
}

#endif
