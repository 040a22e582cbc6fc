#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "models/llm.h"

/* The model that ships, against what PyTorch computed of the same bf16 weights in float32: models/golden.json, made by models/evaluate.py. */

enum { PAGES = 64, N_CTX = PAGES * SV_KV_PAGE };
#define LOGIT_TOLERANCE 1e-3 /* of logits up to about 30; both sides sum in float32, in different orders */

static sv_llm *model;
static json_t *golden;

static int open_both(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_buf text;
    sv_buf_init(&text, 0);
    if (sv_llm_open(&model, SV_SOURCE_ROOT "/models/tiny-chat.gguf", &err) != SV_OK ||
        sv_file_read(&text, SV_SOURCE_ROOT "/models/golden.json", &err) != SV_OK ||
        sv_json_parse(&golden, sv_buf_str(&text), &err) != SV_OK) {
        print_error("%s\n", err.msg);
        return -1;
    }
    sv_buf_done(&text);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    model = sv_llm_unref(model);
    json_decref(golden);
    return 0;
}

static sv_str prompt_of(const json_t *c)
{
    const json_t *p = json_object_get(c, "prompt");
    return (sv_str){json_string_value(p), json_string_length(p)};
}

static void its_template_renders_conversations_as_transformers_does(void **state)
{
    (void)state;
    size_t i, n = 0;
    json_t *c;
    sv_err err = {0};
    assert_null(sv_llm_template_error(model));
    json_array_foreach (json_object_get(golden, "cases"), i, c) {
        json_t *messages = json_object_get(c, "messages");
        if (!json_is_array(messages))
            continue;
        SV_AUTO(sv_json_decrefp) json_t *context = json_pack("{s:O,s:s,s:s,s:b}", "messages", messages, "bos_token", "<s>", "eos_token",
                                                             "</s>", "add_generation_prompt", 1);
        SV_AUTO(sv_buf_donep) sv_buf out;
        sv_buf_init(&out, 1 << 20);
        assert_int_equal(sv_template_render(sv_llm_template(model), context, &out, &err), SV_OK);
        assert_true(sv_str_eq(sv_buf_str(&out), prompt_of(c)));
        n++;
    }
    assert_true(n > 0);
}

static void assert_ids(const sv_tokens *t, const json_t *ids)
{
    assert_int_equal(t->n, json_array_size(ids));
    for (size_t k = 0; k < t->n; k++)
        assert_int_equal(t->v[k], json_integer_value(json_array_get(ids, k)));
}

static int32_t highest(const float *logits)
{
    int32_t best = 0;
    for (int32_t v = 1; v < sv_llm_get_info(model)->n_vocab; v++)
        if (logits[v] > logits[best])
            best = v;
    return best;
}

/* Prompt ids, the first step's highest logits, then greedy decoding. */
static void check_case(const json_t *c, sv_llm_ws *ws, sv_pool *pool, void **pages, float *logits)
{
    sv_err err = {0};
    sv_tokens t = {0};
    assert_int_equal(sv_tokenizer_encode(sv_llm_tokenizer(model), prompt_of(c), SV_TOK_SPECIAL, N_CTX, &t, &err), SV_OK);
    assert_ids(&t, json_object_get(c, "ids"));
    sv_llm_chunk step = {.tokens = t.v, .n_tokens = (int32_t)t.n, .pages = pages, .logits = logits};
    sv_llm_step(model, ws, pool, &step, 1);
    size_t k;
    json_t *e;
    json_array_foreach (json_object_get(c, "top10"), k, e) {
        double want = json_number_value(json_array_get(e, 1));
        assert_true(fabs(want - (double)logits[json_integer_value(json_array_get(e, 0))]) < LOGIT_TOLERANCE);
    }
    int32_t pos = (int32_t)t.n;
    json_array_foreach (json_object_get(c, "greedy_ids"), k, e) {
        int32_t next = highest(logits);
        assert_int_equal(next, json_integer_value(e));
        step = (sv_llm_chunk){.tokens = &next, .n_tokens = 1, .pos = pos++, .pages = pages, .logits = logits};
        sv_llm_step(model, ws, pool, &step, 1);
    }
    free(t.v);
}

static void its_tokens_logits_and_greedy_answers_are_those_of_pytorch(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    assert_int_equal(sv_llm_ws_new(&ws, model, N_CTX, &err), SV_OK);
    sv_pool *pool = sv_pool_new(2);
    void *pages[PAGES];
    for (int i = 0; i < PAGES; i++)
        assert_non_null(pages[i] = sv_try_aligned(sv_llm_kv_page_bytes(model), 64));
    float *logits = sv_xcalloc((size_t)sv_llm_get_info(model)->n_vocab, sizeof *logits);
    size_t i;
    json_t *c;
    json_array_foreach (json_object_get(golden, "cases"), i, c)
        if (json_array_size(json_object_get(c, "ids")) + 64 <= N_CTX)
            check_case(c, ws, pool, pages, logits);
    assert_true(i >= 6);
    free(logits);
    for (int k = 0; k < PAGES; k++)
        free(pages[k]);
    sv_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_template_renders_conversations_as_transformers_does),
        cmocka_unit_test(its_tokens_logits_and_greedy_answers_are_those_of_pytorch),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
