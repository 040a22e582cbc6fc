/* gpt2_test.c - GPT-2 as others published it: tiny-random-gpt2 of the shared test data, a Hugging Face folder
 *
 * Its weights are those that ONNX Runtime GenAI tests itself with, and so are the tokens expected here, greedily and by beam search.
 * The folder has no tokenizer: it is opened through another one of links to its files, with a vocabulary of as many made-up words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/llm.h"

enum { N_VOCAB = 1000, MAX_LEN = 32, N_BEAMS = 4 };

/* As the file rounds its logits: to six places, beside what float32 sums in another order differ by. */
#define LOGIT_TOLERANCE 2e-6

static const char *shared(char out[512], const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    snprintf(out, 512, "%s/models/tiny-random-gpt2/%s", data ? data : SV_SOURCE_ROOT "/../shared/data", name);
    if (!sv_file_exists(out)) {
        print_message("%s is not there: skipped\n", out);
        skip();
    }
    return out;
}

static void write_tokenizer(const char *folder)
{
    char path[128];
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "{\"added_tokens\":[],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                    "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int i = 0; i < N_VOCAB; i++)
        sv_buf_addf(&b, "%s\"w%d\":%d", i ? "," : "", i, i);
    sv_buf_adds(&b, "}}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(sv_file_replace(path, b.p, b.n, 0600, &err), SV_OK);
}

static sv_llm *open_tiny(void)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char folder[] = "/tmp/gpt2-test-XXXXXX", from[512], to[128];
    sv_llm *m = NULL;
    sv_err err = {0};
    shared(from, names[0]);
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < SV_LEN(names); i++) {
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        assert_int_equal(symlink(shared(from, names[i]), to), 0);
    }
    sv_rc rc = sv_llm_open(&m, folder, &err);
    assert_int_equal(rc, SV_EFORMAT);
    assert_non_null(strstr(err.msg, "has no tokenizer.json"));
    write_tokenizer(folder);
    err = (sv_err){0};
    if (sv_llm_open(&m, folder, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK); /* maps stay */
    return m;
}

static json_t *read_expected(void)
{
    char path[512];
    sv_err err = {0};
    json_t *j = NULL;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    assert_int_equal(sv_file_read(&text, shared(path, "expected.json"), &err), SV_OK);
    assert_int_equal(sv_json_parse(&j, sv_buf_str(&text), &err), SV_OK);
    return j;
}

static int32_t read_ids(const json_t *a, int32_t out[MAX_LEN])
{
    size_t i;
    const json_t *v;
    assert_true(json_array_size(a) <= MAX_LEN);
    json_array_foreach(a, i, v)
        out[i] = (int32_t)json_integer_value(v);
    return (int32_t)json_array_size(a);
}

/* The logits after all n tokens, from nothing. */
static void logits_after(const sv_llm *m, const int32_t *tokens, int32_t n, float logits[N_VOCAB])
{
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    SV_AUTO(sv_freep) void *page = sv_try_aligned(sv_llm_kv_page_bytes(m), 64); /* MAX_LEN positions */
    sv_err err = {0};
    memset(page, 0, sv_llm_kv_page_bytes(m));
    assert_int_equal(sv_llm_ws_new(&ws, m, n, &err), SV_OK);
    sv_llm_step(m, ws, pool, &(sv_llm_chunk){.tokens = tokens, .n_tokens = n, .pages = &page, .logits = logits}, 1);
}

static void the_published_file_gives_the_published_tokens(void **state)
{
    (void)state;
    SV_AUTO(sv_llm_unrefp) sv_llm *m = open_tiny();
    SV_AUTO(sv_json_decrefp) json_t *expected = read_expected();
    const json_t *c;
    size_t i;
    assert_string_equal(sv_llm_get_info(m)->arch, "gpt2");
    assert_int_equal(sv_llm_get_info(m)->n_layer, 5);
    assert_string_equal(sv_llm_get_info(m)->weights, "F32");
    json_array_foreach(json_object_get(expected, "greedy"), i, c) {
        int32_t tokens[MAX_LEN], want[MAX_LEN], n = read_ids(json_object_get(c, "input"), tokens), n_want = read_ids(json_object_get(c, "greedy"), want);
        float logits[N_VOCAB];
        const json_t *first = json_object_get(c, "first_step_logits_first8");
        logits_after(m, tokens, n, logits);
        for (size_t k = 0; k < 8; k++)
            assert_true(fabs((double)logits[k] - json_number_value(json_array_get(first, k))) <= LOGIT_TOLERANCE);
        for (; n < n_want; n++) {
            tokens[n] = 0;
            logits_after(m, tokens, n, logits);
            for (int32_t t = 1; t < N_VOCAB; t++)
                if (logits[t] > logits[tokens[n]])
                    tokens[n] = t;
        }
        assert_memory_equal(tokens, want, (size_t)n * sizeof *want);
    }
    assert_int_equal(i, 2);
}

typedef struct beam { int32_t tokens[MAX_LEN]; double score; } beam; /* score: the sum of log p */

/* Every beam by every token; the best N_BEAMS are the next beams. */
static void advance(const sv_llm *m, beam beams[N_BEAMS], int n_beams, int32_t n)
{
    beam next[N_BEAMS];
    for (int k = 0; k < N_BEAMS; k++)
        next[k].score = -INFINITY;
    for (int b = 0; b < n_beams; b++) {
        float logits[N_VOCAB];
        double sum = 0;
        logits_after(m, beams[b].tokens, n, logits);
        for (int t = 0; t < N_VOCAB; t++)
            sum += exp((double)logits[t]);
        for (int t = 0; t < N_VOCAB; t++) {
            beam one = beams[b];
            one.tokens[n] = t;
            one.score += (double)logits[t] - log(sum);
            for (int k = 0; k < N_BEAMS; k++)
                if (one.score > next[k].score) { /* in its place, the others move down */
                    memmove(&next[k + 1], &next[k], (size_t)(N_BEAMS - 1 - k) * sizeof *next);
                    next[k] = one;
                    break;
                }
        }
    }
    memcpy(beams, next, sizeof next);
}

static void beam_search_over_its_logits_gives_the_published_tokens(void **state)
{
    (void)state;
    SV_AUTO(sv_llm_unrefp) sv_llm *m = open_tiny();
    SV_AUTO(sv_json_decrefp) json_t *expected = read_expected();
    int32_t n_prompt = (int32_t)json_integer_value(json_object_get(expected, "beam_prompt_length"));
    const json_t *c;
    size_t i;
    json_array_foreach(json_object_get(expected, "beam_search_4_beams"), i, c) {
        beam beams[N_BEAMS] = {0};
        int32_t want[MAX_LEN], n_want = read_ids(c, want);
        memcpy(beams[0].tokens, want, (size_t)n_prompt * sizeof *want);
        for (int32_t n = n_prompt; n < n_want; n++)
            advance(m, beams, n == n_prompt ? 1 : N_BEAMS, n);
        assert_memory_equal(beams[0].tokens, want, (size_t)n_want * sizeof *want);
    }
    assert_int_equal(i, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_file_gives_the_published_tokens),
        cmocka_unit_test(beam_search_over_its_logits_gives_the_published_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
