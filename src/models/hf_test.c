/* hf_test.c - Hugging Face folders against GGUF files of the same weights, and refused where a config asks for more
 *
 * families_tiny.py wrote both from one model of transformers. That the numbers are right is llama_test.c's; here it is that each key and
 * each value got to its place. */
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
#include "models/files.h"
#include "models/hf.h"
#include "models/llm.h"
#include "nn/safetensors.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

enum { N_VOCAB = 160, HEADS = 4 };

static sv_hf *open_hf(const char *folder, int32_t n_vocab)
{
    sv_hf *h = NULL;
    sv_err err = {0};
    if (sv_hf_open(&h, folder, n_vocab, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return h;
}

static float *values(const sv_tensor *t)
{
    int64_t n = t->dims[0] * t->dims[1];
    float *v = sv_xcalloc((size_t)n, sizeof *v);
    sv_dequantize(v, t->type, t->data, n);
    return v;
}

/* Row of a head in the GGUF's order of "llama" (neighbours) for a row in the folder's (halves). */
static int64_t permuted(int64_t row, int64_t head_dim)
{
    int64_t head = row / head_dim, i = row % head_dim, half = head_dim / 2;
    return head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static void same_tensor(const sv_tensor *file, const sv_tensor *folder, bool permute, int64_t head_dim)
{
    SV_AUTO(sv_freep) float *a = values(file);
    SV_AUTO(sv_freep) float *b = values(folder);
    for (int d = 0; d < 4; d++)
        assert_int_equal(file->dims[d], folder->dims[d]);
    for (int64_t r = 0; r < file->dims[1]; r++)
        for (int64_t c = 0; c < file->dims[0]; c++)
            if (a[(permute ? permuted(r, head_dim) : r) * file->dims[0] + c] != b[r * file->dims[0] + c])
                fail_msg("%s: row %d, column %d", file->name, (int)r, (int)c);
}

static void same_key(const sv_gguf *a, const sv_gguf *b, const char *arch, const char *key)
{
    char name[96];
    float va = -1, vb = -1;
    sv_err err = {0};
    snprintf(name, sizeof name, "%s.%s", arch, key);
    assert_int_equal(sv_gguf_f32(a, name, &va, &err), SV_OK);
    assert_int_equal(sv_gguf_f32(b, name, &vb, &err), SV_OK);
    if (!(va == vb) && sv_gguf_has(a, name))
        fail_msg("%s: %g in the file, %g in the folder", name, (double)va, (double)vb);
}

static void a_folder_says_what_its_gguf_says(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.sliding_window", "rope.freq_base", "rope.dimension_count",
        "rope.scaling.factor", "rope.scaling.original_context_length",
    };
    static const struct { const char *name, *gguf, *arch; } cases[] = {
        {"mistral", "mistral.gguf", "llama"}, {"ministral", "ministral.gguf", "llama"}, {"qwen2-window", "qwen2-window.gguf", "qwen2"},
        {"qwen3-bias", "qwen3-bias.gguf", "qwen3"}, {"qwen2", "qwen2.gguf", "qwen2"}, {"qwen3", "qwen3-00001-of-00002.gguf", "qwen3"}, {"gpt2", "gpt2.gguf", "gpt2"}};
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char path[512];
        sv_gguf *file = NULL;
        sv_err err = {0};
        sv_str arch = {0};
        snprintf(path, sizeof path, REFERENCE "%s", cases[i].gguf);
        assert_int_equal(sv_gguf_open(&file, path, &err), SV_OK);
        snprintf(path, sizeof path, REFERENCE "%s", cases[i].name);
        sv_hf *h = open_hf(path, N_VOCAB);
        const sv_gguf *folder = sv_hf_gguf(h);
        assert_int_equal(sv_gguf_str(folder, "general.architecture", &arch, &err), SV_OK);
        assert_true(sv_str_is(arch, cases[i].arch));
        for (size_t k = 0; k < SV_LEN(keys); k++)
            same_key(file, folder, cases[i].arch, keys[k]);
        assert_int_equal(sv_gguf_n_tensors(file), sv_gguf_n_tensors(folder));
        for (size_t t = 0; t < sv_gguf_n_tensors(file); t++) {
            const sv_tensor *a = sv_gguf_tensor_at(file, t), *b = sv_gguf_tensor(folder, a->name);
            if (!b)
                fail_msg("%s: no tensor '%s'", path, a->name);
            bool turned = strcmp(cases[i].arch, "llama") == 0 && (strstr(a->name, "attn_q.") || strstr(a->name, "attn_k."));
            same_tensor(a, b, turned, a->dims[1] / (strstr(a->name, "attn_q.") ? HEADS : 2));
        }
        sv_hf_close(h);
        sv_gguf_close(file);
    }
}

static void rows_that_are_no_token_are_left_out(void **state)
{
    (void)state;
    sv_hf *whole = open_hf(REFERENCE "qwen2", N_VOCAB), *less = open_hf(REFERENCE "qwen2", 150);
    const sv_tensor *a = sv_gguf_tensor(sv_hf_gguf(whole), "token_embd.weight"), *b = sv_gguf_tensor(sv_hf_gguf(less), "token_embd.weight");
    assert_int_equal(b->dims[1], 150);
    assert_int_equal(b->n_bytes, a->n_bytes / N_VOCAB * 150);
    assert_memory_equal(a->data, b->data, b->n_bytes);
    sv_hf_close(whole);
    sv_hf_close(less);
    sv_err err = {0};
    assert_int_equal(sv_hf_open(&less, REFERENCE "qwen2", 161, &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "'vocab_size': 160, but the tokenizer has 161 tokens"));
}

/* --- configs that are refused ------------------------------------------------------------------------------------- */

/* A folder of links to the reference's files, with a config of its own. */
static void make_folder(char folder[64], const char *name, const json_t *config)
{
    char from[512], to[512];
    sv_err err = {0};
    sv_model_files f = {0};
    snprintf(folder, 64, "/tmp/hf-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(from, sizeof from, REFERENCE "%s", name);
    assert_int_equal(sv_model_files_find(&f, from, &err), SV_OK);
    for (size_t i = 0; i < f.n; i++) {
        SV_AUTO(sv_freep) char *path = sv_model_files_path(&f, i);
        snprintf(to, sizeof to, "%s/%s", folder, f.names[i]);
        if (strcmp(f.names[i], "config.json") != 0)
            assert_int_equal(symlink(path, to), 0);
    }
    sv_model_files_done(&f);
    snprintf(to, sizeof to, "%s/config.json", folder);
    SV_AUTO(sv_freep) char *text = json_dumps(config, 0);
    assert_int_equal(sv_file_replace(to, text, strlen(text), 0600, &err), SV_OK);
}

/* The reference's config with `change` (a JSON object) merged in; a null takes the member out, "null" makes it null. */
static json_t *changed_config(const char *name, const char *change)
{
    char path[512];
    sv_err err = {0};
    json_t *config = NULL, *more = NULL, *v;
    const char *key;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    snprintf(path, sizeof path, REFERENCE "%s/config.json", name);
    assert_int_equal(sv_file_read(&text, path, &err), SV_OK);
    assert_int_equal(sv_json_parse(&config, sv_buf_str(&text), &err), SV_OK);
    assert_int_equal(sv_json_parse(&more, sv_str_of(change), &err), SV_OK);
    json_object_foreach(more, key, v) {
        if (json_is_null(v))
            json_object_del(config, key);
        else if (json_is_string(v) && strcmp(json_string_value(v), "null") == 0)
            json_object_set_new(config, key, json_null());
        else
            json_object_set(config, key, v);
    }
    json_decref(more);
    return config;
}

static void configs_that_ask_for_more_are_refused_by_the_member(void **state)
{
    (void)state;
    static const struct { const char *model, *change, *why; } cases[] = {
        {"qwen2", "{\"model_type\":\"mixtral\"}", "'model_type': 'mixtral' is not supported; supported: llama"},
        {"qwen2", "{\"model_type\":null}", "'model_type' is missing"},
        {"qwen2", "{\"hidden_size\":null}", "'hidden_size' is missing"},
        {"qwen2", "{\"hidden_size\":-4}", "'hidden_size'"},
        {"qwen2", "{\"hidden_size\":\"64\"}", "'hidden_size'"},
        {"qwen2", "{\"hidden_act\":\"gelu\"}", "'hidden_act': 'gelu' is not supported"},
        {"llama3", "{\"mlp_bias\":true}", "'mlp_bias' is true, but there are no such tensors"},
        {"llama3", "{\"attention_bias\":true}", "'attention_bias' is true"},
        {"llama3", "{\"attention_bias\":\"yes\"}", "'attention_bias'"},
        {"qwen2", "{\"quantization_config\":{\"quant_method\":\"gptq\"}}", "weights quantised by 'gptq'"},
        {"qwen2", "{\"rope_parameters\":{\"rope_type\":\"dynamic\",\"factor\":2}}", "'rope_type': 'dynamic' is not supported"},
        {"qwen2", "{\"rope_parameters\":null,\"rope_scaling\":{\"type\":\"longrope\"}}", "'rope_type': 'longrope' is not supported"},
        {"qwen2", "{\"rope_parameters\":{\"rope_type\":\"yarn\"}}", "'factor' is missing"},
        {"qwen2", "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":\"1\"}}", "'mscale'"},
        {"llama3", "{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8}}", "'low_freq_factor' is missing"},
        {"mistral", "{\"layer_types\":[\"sliding_attention\"]}", "'layer_types': 1 entries for 2 layers"},
        {"mistral", "{\"layer_types\":[\"sliding_attention\",\"linear_attention\"]}", "'layer_types': 'linear_attention' is not supported"},
        {"mistral", "{\"layer_types\":[\"sliding_attention\",4]}", "'layer_types': '(no text)'"},
        {"qwen2", "{\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", "'layer_types': 1 layers have a sliding window, but 'sliding_window' is none"},
        {"qwen2", "{\"num_hidden_layers\":1025}", "'num_hidden_layers': 1025 is not in [1, 1024]"},
        {"qwen2", "{\"tie_word_embeddings\":false}", "tensor 'lm_head.weight' is missing"},
        {"gpt2", "{\"add_cross_attention\":true}", "'add_cross_attention': true"},
        {"gpt2", "{\"activation_function\":\"tanh\"}", "'activation_function': 'tanh'"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char folder[64];
        sv_hf *h = NULL;
        sv_err err = {0};
        SV_AUTO(sv_json_decrefp) json_t *config = changed_config(cases[i].model, cases[i].change);
        make_folder(folder, cases[i].model, config);
        assert_int_equal(sv_hf_open(&h, folder, N_VOCAB, &err), SV_EFORMAT);
        assert_null(h);
        if (!strstr(err.msg, cases[i].why) || !strstr(err.msg, folder))
            fail_msg("'%s' says not '%s' and the folder", err.msg, cases[i].why);
        assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    }
}

/* Of 2^60 rows without a column there is nothing to turn, and no loop over the rows. */
static void an_empty_matrix_costs_nothing(void **state)
{
    (void)state;
    static const char header[] = "{\"h.0.attn.c_attn.weight\":{\"dtype\":\"F32\",\"shape\":[1152921504606846976,0],\"data_offsets\":[0,0]}}";
    char folder[64], path[128];
    sv_err err = {0};
    uint64_t n = strlen(header);
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_json_decrefp) json_t *config = changed_config("gpt2", "{}");
    sv_buf_init(&file, 0);
    sv_buf_add(&file, &n, sizeof n);
    sv_buf_adds(&file, header);
    make_folder(folder, "gpt2", config);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(sv_file_replace(path, file.p, file.n, 0600, &err), SV_OK);
    sv_hf *h = open_hf(folder, N_VOCAB);
    assert_int_equal(sv_gguf_tensor(sv_hf_gguf(h), "blk.0.attn_qkv.weight")->n_bytes, 0); /* and no family takes it */
    sv_hf_close(h);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

/* which: a letter a layer, s for those with a window. */
static void windows_are(const char *model, const char *change, const char *which, int64_t window)
{
    char folder[64], key[96];
    sv_err err = {0};
    sv_str arch = {0};
    int64_t got = 0;
    const uint8_t *slides = NULL;
    size_t n = 0;
    SV_AUTO(sv_json_decrefp) json_t *config = changed_config(model, change);
    make_folder(folder, model, config);
    sv_hf *h = open_hf(folder, N_VOCAB);
    assert_int_equal(sv_gguf_str(sv_hf_gguf(h), "general.architecture", &arch, &err), SV_OK);
    snprintf(key, sizeof key, "%.*s.attention.sliding_window", (int)arch.n, arch.p);
    assert_int_equal(sv_gguf_i64(sv_hf_gguf(h), key, 0, INT32_MAX, &got, &err), SV_OK);
    snprintf(key, sizeof key, "%.*s.attention.sliding_window_pattern", (int)arch.n, arch.p);
    assert_int_equal(sv_gguf_arr_bool(sv_hf_gguf(h), key, &slides, &n, &err), SV_OK);
    assert_int_equal(got, window);
    assert_true(!slides || n == strlen(which));
    for (size_t i = 0; which[i]; i++)
        assert_int_equal(got > 0 && (!slides || slides[i]), which[i] == 's');
    sv_hf_close(h);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

/* As transformers 5.24 decides: MistralConfig, MinistralConfig, Qwen2Config. */
static void windows_are_in_the_layers_that_have_them(void **state)
{
    (void)state;
    windows_are("mistral", "{}", "ss", 20);
    windows_are("mistral", "{\"sliding_window\":\"null\"}", "ff", 0);
    windows_are("mistral", "{\"sliding_window\":null}", "ss", 4096);
    windows_are("mistral", "{\"sliding_window\":7}", "ss", 7);
    windows_are("mistral", "{\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "fs", 20);
    windows_are("mistral", "{\"layer_types\":[\"full_attention\",\"full_attention\"]}", "ff", 0);
    windows_are("ministral", "{}", "sf", 20);
    windows_are("ministral", "{\"layer_types\":null}", "ss", 20);
    windows_are("qwen2", "{}", "ff", 0);
    windows_are("qwen2", "{\"layer_types\":null,\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":1}", "fs", 16);
    windows_are("qwen2", "{\"layer_types\":null,\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":0}", "ss", 16);
    windows_are("qwen2", "{\"layer_types\":null,\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_layers\":null}", "ff", 0); /* from the 28th */
    windows_are("qwen2", "{\"layer_types\":null,\"sliding_window\":16,\"max_window_layers\":0}", "ff", 0);
    windows_are("llama3", "{}", "ff", 0);
}

static int64_t number(const sv_hf *h, const char *key)
{
    int64_t v = -1;
    sv_err err = {0};
    assert_int_equal(sv_gguf_i64(sv_hf_gguf(h), key, 0, INT32_MAX, &v, &err), SV_OK);
    return v;
}

/* Members that are left out have the values that transformers gives them, which is not the same in each type. */
static void what_a_config_leaves_out_is_as_its_type_has_it(void **state)
{
    (void)state;
    static const struct { const char *model, *arch; int64_t window, n_head_kv, head_dim; } cases[] = {
        {"mistral", "llama", 4096, 4, 16}, {"mistral", "llama", 4096, 8, 16}, {"qwen3", "qwen3", 0, 32, 128}, {"llama3", "llama", 0, 4, 16},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        char folder[64], key[64];
        sv_err err = {0};
        SV_AUTO(sv_json_decrefp) json_t *config = changed_config(cases[i].model, "{}");
        static const char *const left_out[] = {"sliding_window", "num_key_value_heads", "head_dim"};
        for (size_t k = 0; k < SV_LEN(left_out); k++)
            json_object_del(config, left_out[k]);
        if (i == 0) /* null is said, and is not the same */
            json_object_set_new(config, "num_key_value_heads", json_null());
        make_folder(folder, cases[i].model, config);
        sv_hf *h = open_hf(folder, N_VOCAB);
        snprintf(key, sizeof key, "%s.attention.head_count_kv", cases[i].arch);
        assert_int_equal(number(h, key), cases[i].n_head_kv);
        snprintf(key, sizeof key, "%s.attention.key_length", cases[i].arch);
        assert_int_equal(number(h, key), cases[i].head_dim);
        snprintf(key, sizeof key, "%s.attention.sliding_window", cases[i].arch);
        assert_int_equal(sv_gguf_has(sv_hf_gguf(h), key) ? number(h, key) : 0, cases[i].window);
        sv_hf_close(h);
        assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    }
}

static const char *const bad_ends[] = {"{\"eos_token_id\":\"2\"}", "{\"eos_token_id\":[2,\"3\"]}", "{\"eos_token_id\":2.5}", "{\"eos_token_id\":"};

static void a_text_ends_with_each_id_that_the_folder_names(void **state)
{
    (void)state;
    static const struct { const char *config, *generation; int32_t ends[4]; } cases[] = {
        {"{\"eos_token_id\":7}", NULL, {2, 7, -1}},
        {"{\"eos_token_id\":[7,9]}", NULL, {2, 7, 9, -1}},
        {"{\"eos_token_id\":7}", "{\"eos_token_id\":[8,9,100000,-4]}", {2, 8, 9, -1}},
        {"{\"eos_token_id\":7}", "{\"eos_token_id\":null}", {2, -1}},
        {"{\"eos_token_id\":7}", "{}", {2, -1}},
    };
    char folder[64], path[128];
    sv_err err = {0};
    for (size_t i = 0; i < SV_LEN(cases) + SV_LEN(bad_ends); i++) {
        bool bad = i >= SV_LEN(cases);
        const char *generation = bad ? bad_ends[i - SV_LEN(cases)] : cases[i].generation;
        SV_AUTO(sv_json_decrefp) json_t *config = changed_config("llama3", bad ? "{}" : cases[i].config);
        sv_llm *m = NULL;
        make_folder(folder, "llama3", config);
        snprintf(path, sizeof path, "%s/generation_config.json", folder);
        if (generation)
            assert_int_equal(sv_file_replace(path, generation, strlen(generation), 0600, &err), SV_OK);
        if (bad) {
            assert_int_equal(sv_llm_open(&m, folder, &err), SV_EFORMAT);
            assert_true(strstr(err.msg, "generation_config.json") && strstr(err.msg, folder));
        } else {
            assert_int_equal(sv_llm_open(&m, folder, &err), SV_OK);
            for (int32_t id = 0, k = 0; id < N_VOCAB; id++) {
                bool wanted = id == cases[i].ends[k];
                assert_int_equal(sv_tokenizer_is_eog(sv_llm_tokenizer(m), id), wanted);
                k += wanted;
            }
        }
        sv_llm_unref(m);
        assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    }
}

static void older_configs_are_read_alike(void **state)
{
    (void)state;
    char folder[64];
    sv_err err = {0};
    float base = 0, factor = 0;
    SV_AUTO(sv_json_decrefp) json_t *config = changed_config("qwen2",
        "{\"rope_parameters\":null,\"rope_theta\":5000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}}");
    make_folder(folder, "qwen2", config);
    sv_hf *h = open_hf(folder, N_VOCAB);
    assert_int_equal(sv_gguf_f32(sv_hf_gguf(h), "qwen2.rope.freq_base", &base, &err), SV_OK);
    assert_int_equal(sv_gguf_f32(sv_hf_gguf(h), "qwen2.rope.scaling.factor", &factor, &err), SV_OK);
    assert_true(base == 5000.0f && factor == 2.5f);
    sv_hf_close(h);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

static void folders_name_what_is_missing(void **state)
{
    (void)state;
    char folder[] = "/tmp/hf-test-XXXXXX", path[128];
    sv_err err = {0};
    sv_model_files f = {0};
    assert_non_null(mkdtemp(folder));
    assert_int_equal(sv_model_files_find(&f, folder, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "has neither config.json nor a GGUF file"));
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(sv_file_replace(path, "{}", 2, 0600, &err), SV_OK);
    assert_int_equal(sv_model_files_find(&f, folder, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "neither model.safetensors nor"));
    unlink(path);
    static const char *const parts[] = {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "readme.md"};
    for (size_t i = 0; i < SV_LEN(parts); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        assert_int_equal(sv_file_replace(path, "12345", 5, 0600, &err), SV_OK);
    }
    assert_int_equal(sv_model_files_find(&f, folder, &err), SV_OK);
    assert_true(f.is_gguf);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.n_bytes, 10);
    assert_string_equal(f.names[0], parts[0]);
    sv_model_files_done(&f);
    snprintf(path, sizeof path, "%s/other.gguf", folder);
    assert_int_equal(sv_file_replace(path, "1", 1, 0600, &err), SV_OK);
    assert_int_equal(sv_model_files_find(&f, folder, &err), SV_EFORMAT);
    assert_int_equal(sv_model_files_find(&f, path, &err), SV_OK);
    assert_int_equal(f.n, 1);
    sv_model_files_done(&f);
    assert_int_equal(sv_model_files_find(&f, REFERENCE "llama3", &err), SV_OK);
    assert_false(f.is_gguf);
    assert_int_equal(f.n, 6);
    sv_model_files_done(&f);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_says_what_its_gguf_says),
        cmocka_unit_test(rows_that_are_no_token_are_left_out),
        cmocka_unit_test(configs_that_ask_for_more_are_refused_by_the_member),
        cmocka_unit_test(an_empty_matrix_costs_nothing),
        cmocka_unit_test(windows_are_in_the_layers_that_have_them),
        cmocka_unit_test(what_a_config_leaves_out_is_as_its_type_has_it),
        cmocka_unit_test(a_text_ends_with_each_id_that_the_folder_names),
        cmocka_unit_test(older_configs_are_read_alike),
        cmocka_unit_test(folders_name_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
