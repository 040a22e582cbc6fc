/* types_test.c - a model in each weight type that files have: right, and the same bits in any company
 *
 * The models are made here, of random blocks. What a type means is settled in nn (tensor_test.c has gguf-py's floats for each), so right
 * is what the same model gives with its weights written out as float32, which llama_test.c compares with PyTorch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "models/llm.h"
#include "models/vocab_testing.h"
#include "nn/reference_testing.h"

/* Of the largest logit. As files have them, weights are unpacked and the sums are those of float32, in its order. Packed, activations are
 * rounded to 8 bits before each of the four products on the way from a token to its logits: each is off by 0.4 % (packed_test.c), and the
 * largest of 48 logits' errors is some three times a usual one. A wrong scale or zero gives 0.1 and more. */
#define TYPE_TOLERANCE 1e-5
#define PACKED_TOLERANCE 0.05

enum { N_EMBD = 256, N_KV = 64, N_VOCAB = 48, N_WORDS = N_VOCAB - 3, N_CTX = 128, MAX_TENSORS = 16 };
enum { N_SEQS = 3, MAX_LEN = 70, N_PAGES = (MAX_LEN + SV_KV_PAGE - 1) / SV_KV_PAGE };

/* --- a model file ------------------------------------------------------------------------------------------------- */

/* Scales that make weights of about 0.06, as a real model of this width has. */
static unsigned fitting_exponent(sv_type type)
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

typedef struct matrix { const char *name; int64_t n_in, n_out; uint8_t *bytes; } matrix;
static matrix matrices[] = {
    {"token_embd.weight", N_EMBD, N_VOCAB, NULL},      {"output.weight", N_EMBD, N_VOCAB, NULL},     {"blk.0.attn_q.weight", N_EMBD, N_EMBD, NULL},
    {"blk.0.attn_k.weight", N_EMBD, N_KV, NULL},       {"blk.0.attn_v.weight", N_EMBD, N_KV, NULL},  {"blk.0.attn_output.weight", N_EMBD, N_EMBD, NULL},
    {"blk.0.ffn_gate.weight", N_EMBD, N_EMBD, NULL},   {"blk.0.ffn_up.weight", N_EMBD, N_EMBD, NULL}, {"blk.0.ffn_down.weight", N_EMBD, N_EMBD, NULL},
};
static const char *const norms[] = {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"};

static void draw_weights(sv_type type)
{
    unsigned e = fitting_exponent(type);
    for (size_t i = 0; i < SV_LEN(matrices); i++) {
        matrix *m = &matrices[i];
        m->bytes = sv_xrealloc(m->bytes, 1, sv_type_bytes(type, m->n_in * m->n_out));
        ref_random_row(type, m->bytes, m->n_in * m->n_out, e, e);
    }
}

static void drop_weights(void)
{
    for (size_t i = 0; i < SV_LEN(matrices); i++) {
        free(matrices[i].bytes);
        matrices[i].bytes = NULL;
    }
}

static void put_tensor(vocab_file *f, sv_buf *data, const char *name, int64_t n_in, int64_t n_out, sv_type type, const void *bytes)
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

static void put_metadata(vocab_file *f)
{
    static const struct { const char *key; uint32_t v; } keys[] = {
        {"llama.context_length", N_CTX}, {"llama.embedding_length", N_EMBD}, {"llama.block_count", 1}, {"llama.feed_forward_length", N_EMBD},
        {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 1},
    };
    static vocab_word words[N_WORDS];
    static char texts[N_WORDS][2];
    for (int i = 0; i < N_WORDS; i++) {
        texts[i][0] = (char)('0' + i);
        words[i] = (vocab_word){texts[i], 0, 1};
    }
    vocab_str(f, "general.architecture", "llama");
    for (size_t i = 0; i < SV_LEN(keys); i++)
        vocab_u32(f, keys[i].key, keys[i].v);
    vocab_key(f, "llama.attention.layer_norm_rms_epsilon", 6);
    vocab_put(f, &(float){1e-5f}, 4);
    vocab_spm(f, false, words, N_WORDS);
}

/* The drawn weights in `type`, or, where `plain`, what they mean as float32. */
static sv_llm *make_model(sv_type type, bool plain)
{
    char path[] = "/tmp/types-test-XXXXXX";
    vocab_file f = {.n_kv = 0};
    static float floats[N_EMBD * N_EMBD];
    sv_buf data, file;
    sv_err err = {0};
    sv_buf_init(&f.kv, 0);
    sv_buf_init(&data, 0);
    sv_buf_init(&file, 0);
    put_metadata(&f);
    for (size_t i = 0; i < SV_LEN(matrices); i++) {
        const matrix *m = &matrices[i];
        if (plain)
            sv_dequantize(floats, type, m->bytes, m->n_in * m->n_out);
        put_tensor(&f, &data, m->name, m->n_in, m->n_out, plain ? SV_F32 : type, plain ? (const void *)floats : m->bytes);
    }
    for (int i = 0; i < N_EMBD; i++)
        floats[i] = 1.0f;
    for (size_t i = 0; i < SV_LEN(norms); i++)
        put_tensor(&f, &data, norms[i], N_EMBD, 1, SV_F32, floats);
    const uint32_t head[] = {0x46554747, 3, SV_LEN(matrices) + SV_LEN(norms), 0, (uint32_t)f.n_kv, 0};
    sv_buf_add(&file, head, sizeof head);
    sv_buf_add(&file, f.kv.p, f.kv.n);
    while (file.n % 32 != 0)
        sv_buf_addc(&file, '\0');
    sv_buf_add(&file, data.p, data.n);

    sv_llm *model = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(sv_write_all(fd, file.p, file.n, &err), SV_OK);
    close(fd);
    if (sv_llm_open(&model, path, &err) != SV_OK)
        fail_msg("%s: %s", sv_type_get(type)->name, err.msg);
    unlink(path); /* a map stays */
    vocab_done(&f);
    sv_buf_done(&data);
    sv_buf_done(&file);
    return model;
}

/* --- sequences ---------------------------------------------------------------------------------------------------- */

static const int32_t lengths[N_SEQS] = {33, MAX_LEN, 5};

typedef struct result {
    float logits[N_SEQS][N_VOCAB]; /* after each sequence's last token */
    void *pages[N_SEQS][N_PAGES];
} result;

static int32_t token_at(int seq, int32_t pos)
{
    return (seq * 17 + pos * 7 + pos * pos * 3) % N_VOCAB;
}

/* All sequences to their end: one after the other and whole (most 0), or together in chunks of at most `most` tokens of each. */
static result *run(const sv_llm *m, int32_t most, int n_threads)
{
    result *r = sv_xnew0(result);
    sv_err err = {0};
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(n_threads);
    int32_t tokens[N_SEQS][MAX_LEN], done[N_SEQS] = {0};
    size_t page_bytes = sv_llm_kv_page_bytes(m);
    assert_int_equal(sv_llm_ws_new(&ws, m, N_SEQS * MAX_LEN, &err), SV_OK);
    for (int s = 0; s < N_SEQS; s++) {
        for (int32_t i = 0; i < lengths[s]; i++)
            tokens[s][i] = token_at(s, i);
        for (int p = 0; p < N_PAGES; p++) {
            r->pages[s][p] = sv_try_aligned(page_bytes, 64);
            memset(r->pages[s][p], 0, page_bytes);
        }
    }
    for (int n_chunks = 1, turn = 0; n_chunks > 0; turn++) {
        sv_llm_chunk chunks[N_SEQS];
        n_chunks = 0;
        for (int k = 0; k < N_SEQS; k++) {
            int s = (k + turn) % N_SEQS;
            int32_t left = lengths[s] - done[s], n = most && left > most ? most : left;
            if (n == 0 || (most == 0 && n_chunks > 0))
                continue;
            chunks[n_chunks++] = (sv_llm_chunk){tokens[s] + done[s], n, done[s], r->pages[s], n == left ? r->logits[s] : NULL};
            done[s] += n;
        }
        sv_llm_step(m, ws, pool, chunks, n_chunks);
    }
    return r;
}

static void result_free(result *r)
{
    for (int s = 0; s < N_SEQS; s++)
        for (int p = 0; p < N_PAGES; p++)
            free(r->pages[s][p]);
    free(r);
}

static void same_bits(const sv_llm *m, const result *a, const result *b, const char *what)
{
    if (memcmp(a->logits, b->logits, sizeof a->logits) != 0)
        fail_msg("%s, %s: other logits", what, sv_kernels_name());
    for (int s = 0; s < N_SEQS; s++)
        for (int p = 0; p < N_PAGES; p++)
            if (memcmp(a->pages[s][p], b->pages[s][p], sv_llm_kv_page_bytes(m)) != 0)
                fail_msg("%s, %s: other bits in page %d of sequence %d", what, sv_kernels_name(), p, s);
}

static double difference(const result *a, const result *b)
{
    double off = 0, top = 0;
    for (int s = 0; s < N_SEQS; s++)
        for (int i = 0; i < N_VOCAB; i++) {
            assert_true(isfinite(a->logits[s][i]));
            off = fmax(off, fabs((double)a->logits[s][i] - (double)b->logits[s][i]));
            top = fmax(top, fabs((double)b->logits[s][i]));
        }
    assert_true(top > 0.01);
    return off / top;
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static const char *const set_names[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni"};

static int n_packed;

static void check_type(sv_type type, bool packed)
{
    const char *name = sv_type_get(type)->name;
    sv_err err = {0};
    draw_weights(type);
    SV_AUTO(sv_llm_unrefp) sv_llm *m = make_model(type, false);
    SV_AUTO(sv_llm_unrefp) sv_llm *plain = make_model(type, true);
    assert_string_equal(sv_llm_get_info(m)->weights, name);
    if (packed) {
        assert_int_equal(sv_llm_pack(m, &err), SV_OK);
        if (sv_llm_packed_bytes(m) == 0)
            return; /* the type has no packed form */
        n_packed++;
    }
    double worst = 0, tolerance = packed ? PACKED_TOLERANCE : TYPE_TOLERANCE;
    for (size_t k = 0; k < SV_LEN(set_names); k++) {
        if (!sv_kernels_select(set_names[k])) /* not on this CPU */
            continue;
        result *alone = run(m, 0, 1), *meant = run(plain, 0, 1);
        double off = difference(alone, meant);
        worst = fmax(worst, off);
        if (!(off < tolerance))
            fail_msg("%s, %s: %.2g off what its weights mean", name, set_names[k], off);
        for (int i = 0; i < 4; i++) {
            result *mixed = run(m, (int32_t[]){1, 2, 9, 40}[i], 1 + i % 2);
            same_bits(m, alone, mixed, name);
            result_free(mixed);
        }
        result_free(alone);
        result_free(meant);
    }
    if (packed)
        print_message("%s: off by at most %.2g\n", name, worst);
}

static void every_weight_type_is_right_and_company_proof(void **state)
{
    int n_types = 0;
    (void)state;
    for (uint32_t type = 0; type < SV_N_TYPES; type++)
        if (sv_type_get(type)->computable) {
            check_type((sv_type)type, false);
            check_type((sv_type)type, true);
            n_types++;
        }
    assert_true(sv_kernels_select(NULL));
    drop_weights();
    assert_int_equal(n_types, 26);
    assert_int_equal(n_packed, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_type_is_right_and_company_proof),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
