/* tokenizer_pre_test.c - the splitters that files name, against the cuts that the Hugging Face library makes
 *
 * tests/reference/tokenizer-splits.json, by the script beside it: the vocabularies behind most of these names are too large to be test
 * data, so the cuts are compared and not the ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "models/tokenizer_impl.h"

static sv_tokenizer *splitter(const char *name)
{
    sv_tokenizer *t = sv_xnew0(sv_tokenizer);
    sv_err err = {0};
    bool add_bos = false;
    if (sv_tok_pre(t, sv_str_of(name), &add_bos, &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return t;
}

static int count_wrong(const sv_tokenizer *t, const char *name, sv_str text, const json_t *want)
{
    tok_work w = {0};
    sv_err err = {0};
    sv_str cut;
    for (size_t i = 0; i < SV_LEN(w.text); i++)
        sv_buf_init(&w.text[i], 0);
    assert_int_equal(sv_tok_split(t, text, true, &w, &cut, &err), SV_OK);
    bool same = w.n_spans == json_array_size(want);
    for (size_t i = 0; i < w.n_spans && same; i++) {
        const json_t *piece = json_array_get(want, i);
        same = sv_str_eq((sv_str){cut.p + w.spans[0][i].at, w.spans[0][i].n}, (sv_str){json_string_value(piece), json_string_length(piece)});
    }
    if (!same) {
        print_message("%s cuts '%.*s' into", name, (int)text.n, text.p);
        for (size_t i = 0; i < w.n_spans; i++)
            print_message(" '%.*s'", (int)w.spans[0][i].n, cut.p + w.spans[0][i].at);
        print_message("\n");
    }
    free(w.spans[0]);
    free(w.spans[1]);
    return !same;
}

static void named_splitters_cut_as_the_models_own(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_json_decrefp) json_t *root = NULL;
    sv_err err = {0};
    const char *name;
    const json_t *cuts;
    int n_wrong = 0;
    sv_buf_init(&file, 0);
    assert_int_equal(sv_file_read(&file, SV_SOURCE_ROOT "/tests/reference/tokenizer-splits.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&root, sv_buf_str(&file), &err), SV_OK);
    const json_t *texts = json_object_get(root, "texts");
    assert_true(json_array_size(texts) > 30 && json_object_size(json_object_get(root, "splits")) >= 10);
    json_object_foreach(json_object_get(root, "splits"), name, cuts) {
        SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = splitter(name);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const json_t *text = json_array_get(texts, i);
            n_wrong += count_wrong(t, name, (sv_str){json_string_value(text), json_string_length(text)}, json_array_get(cuts, i));
        }
    }
    assert_int_equal(n_wrong, 0);
}

static void every_name_of_the_list_compiles(void **state)
{
    static const char *const names[] = {"default", "falcon", "refact", "command-r", "deepseek-llm", "viking", "chameleon", "superbpe", "seed-coder",
                                        "bailingmoe", "qwen35", "dbrx", "chatglm-bpe", "mpt", "olmo", "jais", "phi-2", "stablelm2", "codeshell", "exaone"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(names); i++) {
        SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = splitter(names[i]);
        assert_true(t->splitter.n > 0);
    }
}

static void a_name_that_is_not_known_is_refused(void **state)
{
    static const char *const names[] = {"", "llama", "gpt", "gpt-2 phi-2", "qwen2-from-tomorrow", " "};
    (void)state;
    for (size_t i = 0; i < SV_LEN(names); i++) {
        SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = sv_xnew0(sv_tokenizer);
        sv_err err = {0};
        bool add_bos = false;
        assert_int_equal(sv_tok_pre(t, sv_str_of(names[i]), &add_bos, &err), SV_EFORMAT);
        assert_non_null(strstr(err.msg, "not known"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_splitters_cut_as_the_models_own),
        cmocka_unit_test(every_name_of_the_list_compiles),
        cmocka_unit_test(a_name_that_is_not_known_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
