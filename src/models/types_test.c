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

#include "models/type_model_testing.h"

/* Of the largest logit. As files have them, weights are unpacked and the sums are those of float32, in its order. Packed, activations are
 * rounded to 8 bits before each of the four products on the way from a token to its logits: each is off by 0.4 % (packed_test.c), and the
 * largest of 48 logits' errors is some three times a usual one. A wrong scale or zero gives 0.1 and more. */
#define TYPE_TOLERANCE 1e-5
#define PACKED_TOLERANCE 0.05

enum { N_SEQS = 3, MAX_LEN = 70, N_PAGES = (MAX_LEN + SV_KV_PAGE - 1) / SV_KV_PAGE };

/* --- sequences ---------------------------------------------------------------------------------------------------- */

static const int32_t lengths[N_SEQS] = {33, MAX_LEN, 5};

typedef struct result {
    float logits[N_SEQS][TYPE_MODEL_VOCAB]; /* after each sequence's last token */
    void *pages[N_SEQS][N_PAGES];
} result;

static int32_t token_at(int seq, int32_t pos)
{
    return (seq * 17 + pos * 7 + pos * pos * 3) % TYPE_MODEL_VOCAB;
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
        for (int i = 0; i < TYPE_MODEL_VOCAB; i++) {
            assert_true(isfinite(a->logits[s][i]));
            off = fmax(off, fabs((double)a->logits[s][i] - (double)b->logits[s][i]));
            top = fmax(top, fabs((double)b->logits[s][i]));
        }
    assert_true(top > 0.01);
    return off / top;
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static const char *const set_names[] = {"portable", "neon", "neondot", "avx2", "avxvnni", "avx512", "avx512vnni"};

static int n_packed;

static void check_type(sv_type type, bool packed)
{
    const char *name = sv_type_get(type)->name;
    sv_err err = {0};
    type_model_draw(type);
    SV_AUTO(sv_llm_unrefp) sv_llm *m = type_model_new(type, false);
    SV_AUTO(sv_llm_unrefp) sv_llm *plain = type_model_new(type, true);
    assert_string_equal(sv_llm_get_info(m)->weights, name);
    if (packed) {
        assert_int_equal(sv_llm_pack(m, NULL, &err), SV_OK);
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
    type_model_drop();
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
