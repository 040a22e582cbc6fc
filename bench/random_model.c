/* random_model.c - GGUF files of real models' shapes with random weights
 *
 *     random_model SHAPE TYPE OUT.gguf        SHAPE llama-1b, smollm-135m   TYPE q8_0, q4_0, q4_k_m, bf16
 *
 * Sizes, shapes, element types and the file's layout are those of the real models, so speed and memory are; the text is noise. Blocks are
 * random bytes with a fixed scale that makes the values about as large as a trained model's (deviation 0.02), so nothing overflows.
 * Which tensor has which type is what llama-quantize of llama.cpp makes of such a model: the tied head has six bits in a four-bit
 * file, a part of the q4_k_m matrices too, and rows that are no multiple of 256 fall back to blocks of 32 (a 135M "q4_k_m" is mostly q5_0).
 *
 * The vocabulary is 256 bytes and words that no merge builds: a prompt of n plain letters and single spaces has n tokens. Embeddings are the
 * head's rows, too: those of the bytes are a quarter as long, so what the model writes is whole words, never half a character; the end
 * token's is zero, so greedy text does not end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "nn/tensor.h"

enum { ALIGN = 32, GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STR = 8, GGUF_ARR = 9, TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, N_BYTES = 256 };

typedef struct shape {
    const char *name;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx;
    float rope_base;
} shape;

static const shape shapes[] = {
    {"llama-1b", 16, 2048, 8192, 32, 8, 64, 128256, 8192, 500000.0f},
    {"smollm-135m", 30, 576, 1536, 9, 3, 64, 49152, 8192, 100000.0f},
};

typedef struct mix {
    const char *name;
    uint32_t file_type; /* general.file_type */
    sv_type most, more, head; /* more: for the matrices that lose most */
} mix;

static const mix mixes[] = {
    {"q8_0", 7, SV_Q8_0, SV_Q8_0, SV_Q8_0},
    {"q4_0", 2, SV_Q4_0, SV_Q4_0, SV_Q6_K},
    {"q4_k_m", 15, SV_Q4_K, SV_Q6_K, SV_Q6_K},
    {"bf16", 32, SV_BF16, SV_BF16, SV_BF16},
};

typedef struct tensor {
    char name[48];
    uint64_t n_in, n_out; /* n_out 0: a vector of ones */
    sv_type type;
    uint64_t at, n_bytes;
    bool embedding;
} tensor;

static tensor tensors[512];
static size_t n_tensors;
static uint64_t rng = 42;

static uint64_t next_random(void)
{
    rng += 0x9E3779B97F4A7C15u; /* splitmix64 */
    uint64_t z = rng;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

static void put_u16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* Random bytes at p already; this sets the scales, as float16. */
static void set_scales(sv_type type, uint8_t *b)
{
    switch (type) {
    case SV_Q8_0:
        put_u16(b, 0x0c00); /* 2^-12 */
        break;
    case SV_Q4_0:
        put_u16(b, 0x1c00); /* 2^-8 */
        break;
    case SV_Q5_0:
        put_u16(b, 0x1800); /* 2^-9 */
        break;
    case SV_Q4_K:
        put_u16(b, 0x0800);     /* 2^-13 */
        put_u16(b + 2, 0x1380); /* 7.5 times that: the middle of the nibbles is about 0 */
        break;
    case SV_Q6_K:
        put_u16(b + 208, 0x0100); /* 2^-16 */
        break;
    default: /* bf16: sign and mantissa are random, and which of two exponents (2^-7 and 2^-6) */
        b[1] = (uint8_t)((b[1] & 0x80) | 0x3c);
    }
}

/* A quarter of that, for the types that an embedding has. */
static void shorten(sv_type type, uint8_t *b)
{
    if (type == SV_Q8_0)
        put_u16(b, 0x0400);
    else if (type == SV_Q6_K)
        put_u16(b + 208, 0x0040);
    else
        b[1]--;
}

static void fill(uint8_t *p, sv_type type, size_t n_blocks)
{
    size_t block = (size_t)sv_type_get(type)->block_bytes, n = n_blocks * block;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t r = next_random();
        memcpy(p + i, &r, n - i < 8 ? n - i : 8);
    }
    for (size_t i = 0; i < n_blocks; i++)
        set_scales(type, p + i * block);
}

static void write_all(FILE *f, const void *p, size_t n)
{
    if (fwrite(p, 1, n, f) != n) {
        perror("random_model: write");
        exit(1);
    }
}

static void write_matrix(FILE *f, const tensor *t)
{
    enum { ROWS = 64 };
    size_t row = sv_type_bytes(t->type, (int64_t)t->n_in), n_blocks = row / (size_t)sv_type_get(t->type)->block_bytes;
    uint8_t *p = sv_xcalloc(ROWS, row);
    for (uint64_t at = 0; at < t->n_out; at += ROWS) {
        size_t n = t->n_out - at < ROWS ? (size_t)(t->n_out - at) : ROWS;
        fill(p, t->type, n * n_blocks);
        for (size_t i = 0; t->embedding && at < N_BYTES && i < n * n_blocks; i++)
            shorten(t->type, p + i * (size_t)sv_type_get(t->type)->block_bytes);
        if (t->embedding && at + n == t->n_out) /* the end token, the last one */
            memset(p + (n - 1) * row, 0, row);
        write_all(f, p, n * row);
    }
    free(p);
}

static void write_ones(FILE *f, const tensor *t)
{
    const float one = 1.0f;
    for (uint64_t i = 0; i < t->n_in; i++)
        write_all(f, &one, sizeof one);
}

static void pad(FILE *f, uint64_t n)
{
    static const char zeros[ALIGN];
    write_all(f, zeros, (size_t)(-n % ALIGN));
}

/* --- what there is ------------------------------------------------------------------------------------------------ */

static void add_tensor(const char *name, int layer, uint64_t n_in, uint64_t n_out, sv_type type)
{
    tensor *t = &tensors[n_tensors++];
    if (n_in % 256 != 0) /* no block of 256 fits */
        type = type == SV_Q4_K ? SV_Q5_0 : type == SV_Q6_K ? SV_Q8_0 : type;
    *t = (tensor){.n_in = n_in, .n_out = n_out, .type = n_out ? type : SV_F32, .embedding = layer < 0 && n_out > 0};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s.weight", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s.weight", layer, name);
    t->n_bytes = sv_type_bytes(t->type, (int64_t)(n_in * (n_out ? n_out : 1)));
    if (n_tensors > 1)
        t->at = (t[-1].at + t[-1].n_bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* The layers whose attn_v and ffn_down get more bits: the first and last eighth, and every third between. */
static bool more_bits(int i, int n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

static void add_tensors(const shape *s, const mix *m)
{
    uint64_t d = s->n_embd, n_q = (uint64_t)s->n_head * s->head_dim, n_kv = (uint64_t)s->n_head_kv * s->head_dim;
    add_tensor("token_embd", -1, d, s->n_vocab, m->head);
    add_tensor("output_norm", -1, d, 0, SV_F32);
    for (int i = 0; i < (int)s->n_layer; i++) {
        sv_type more = more_bits(i, (int)s->n_layer) ? m->more : m->most;
        add_tensor("attn_norm", i, d, 0, SV_F32);
        add_tensor("attn_q", i, d, n_q, m->most);
        add_tensor("attn_k", i, d, n_kv, m->most);
        add_tensor("attn_v", i, d, n_kv, more);
        add_tensor("attn_output", i, n_q, d, m->most);
        add_tensor("ffn_norm", i, d, 0, SV_F32);
        add_tensor("ffn_gate", i, d, s->n_ff, m->most);
        add_tensor("ffn_up", i, d, s->n_ff, m->most);
        add_tensor("ffn_down", i, s->n_ff, d, more);
    }
}

/* --- the head of the file ----------------------------------------------------------------------------------------- */

static void put(sv_buf *b, const void *p, size_t n) { sv_buf_add(b, p, n); }
static void put_u32(sv_buf *b, uint32_t v) { put(b, &v, sizeof v); }
static void put_u64(sv_buf *b, uint64_t v) { put(b, &v, sizeof v); }
static void put_text(sv_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    sv_buf_adds(b, s);
}

static uint64_t n_keys;

static void key(sv_buf *b, const char *name, uint32_t type)
{
    n_keys++;
    put_text(b, name);
    put_u32(b, type);
}

static void key_u32(sv_buf *b, const char *name, uint32_t v)
{
    key(b, name, GGUF_U32);
    put_u32(b, v);
}

static void key_f32(sv_buf *b, const char *name, float v)
{
    key(b, name, GGUF_F32);
    put(b, &v, sizeof v);
}

static void key_text(sv_buf *b, const char *name, const char *v)
{
    key(b, name, GGUF_STR);
    put_text(b, v);
}

static void key_array(sv_buf *b, const char *name, uint32_t type, uint64_t n)
{
    key(b, name, GGUF_ARR);
    put_u32(b, type);
    put_u64(b, n);
}

/* GPT-2's letter for a byte: itself where it prints, else one from 256 on. */
static uint32_t letter_of(int byte, int *n_others)
{
    bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return prints ? (uint32_t)byte : 256 + (uint32_t)(*n_others)++;
}

static void put_tokens(sv_buf *b, uint32_t n_vocab)
{
    char text[24];
    int n_others = 0;
    for (int i = 0; i < N_BYTES; i++) {
        uint32_t c = letter_of(i, &n_others);
        snprintf(text, sizeof text, c < 128 ? "%c" : "%c%c", c < 128 ? (int)c : (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
        put_text(b, text);
    }
    put_text(b, "\xc4\xa0\xc4\xa0"); /* two spaces: what the one merge makes */
    for (uint32_t i = N_BYTES + 1; i < n_vocab - 1; i++) {
        snprintf(text, sizeof text, "\xc4\xa0w%u", i);
        put_text(b, text);
    }
    put_text(b, "<|endoftext|>");
}

static void put_vocabulary(sv_buf *b, uint32_t n_vocab)
{
    key_text(b, "tokenizer.ggml.model", "gpt2");
    key_text(b, "tokenizer.ggml.pre", "gpt-2");
    key_array(b, "tokenizer.ggml.tokens", GGUF_STR, n_vocab);
    put_tokens(b, n_vocab);
    key_array(b, "tokenizer.ggml.token_type", GGUF_I32, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++)
        put_u32(b, i == n_vocab - 1 ? TOKEN_CONTROL : TOKEN_NORMAL);
    key_array(b, "tokenizer.ggml.merges", GGUF_STR, 1);
    put_text(b, "\xc4\xa0 \xc4\xa0");
    key_u32(b, "tokenizer.ggml.bos_token_id", n_vocab - 1);
    key_u32(b, "tokenizer.ggml.eos_token_id", n_vocab - 1);
    key(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
    sv_buf_addc(b, 0);
}

static void put_keys(sv_buf *b, const shape *s, const mix *m)
{
    key_text(b, "general.architecture", "llama");
    key_text(b, "general.name", s->name);
    key_u32(b, "general.file_type", m->file_type);
    key_u32(b, "llama.block_count", s->n_layer);
    key_u32(b, "llama.context_length", s->n_ctx);
    key_u32(b, "llama.embedding_length", s->n_embd);
    key_u32(b, "llama.feed_forward_length", s->n_ff);
    key_u32(b, "llama.attention.head_count", s->n_head);
    key_u32(b, "llama.attention.head_count_kv", s->n_head_kv);
    key_u32(b, "llama.rope.dimension_count", s->head_dim);
    key_u32(b, "llama.vocab_size", s->n_vocab);
    key_f32(b, "llama.rope.freq_base", s->rope_base);
    key_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_vocabulary(b, s->n_vocab);
}

static void put_tensors(sv_buf *b)
{
    for (size_t i = 0; i < n_tensors; i++) {
        const tensor *t = &tensors[i];
        put_text(b, t->name);
        put_u32(b, t->n_out ? 2 : 1);
        put_u64(b, t->n_in);
        if (t->n_out)
            put_u64(b, t->n_out);
        put_u32(b, t->type);
        put_u64(b, t->at);
    }
}

static void write_model(FILE *f, const shape *s, const mix *m)
{
    SV_AUTO(sv_buf_donep) sv_buf keys, head;
    sv_buf_init(&keys, 0);
    sv_buf_init(&head, 0);
    add_tensors(s, m);
    put_keys(&keys, s, m);
    sv_buf_adds(&head, "GGUF");
    put_u32(&head, 3);
    put_u64(&head, n_tensors);
    put_u64(&head, n_keys);
    put(&head, keys.p, keys.n);
    put_tensors(&head);
    write_all(f, head.p, head.n);
    pad(f, head.n);
    for (size_t i = 0; i < n_tensors; i++) {
        if (tensors[i].n_out)
            write_matrix(f, &tensors[i]);
        else
            write_ones(f, &tensors[i]);
        pad(f, tensors[i].n_bytes);
    }
}

int main(int argc, char **argv)
{
    const shape *s = NULL;
    const mix *m = NULL;
    for (size_t i = 0; argc == 4 && i < SV_LEN(shapes); i++)
        s = strcmp(shapes[i].name, argv[1]) == 0 ? &shapes[i] : s;
    for (size_t i = 0; argc == 4 && i < SV_LEN(mixes); i++)
        m = strcmp(mixes[i].name, argv[2]) == 0 ? &mixes[i] : m;
    if (!s || !m) {
        fprintf(stderr, "usage: random_model llama-1b|smollm-135m q8_0|q4_0|q4_k_m|bf16 OUT.gguf\n");
        return 2;
    }
    FILE *f = fopen(argv[3], "wb");
    if (!f) {
        perror(argv[3]);
        return 1;
    }
    write_model(f, s, m);
    if (fclose(f) != 0) {
        perror(argv[3]);
        return 1;
    }
    return 0;
}
