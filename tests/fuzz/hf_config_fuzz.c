/* links: models; seconds: 60 */
/* hf_config_fuzz.c - config.json files that a stranger made, beside the weights and the tokenizer of a model of that type: opened, and, where that
 * succeeds, run over a few tokens. A config that promises more than the weights hold must not get that far. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "models/encoder.h"
#include "models/files.h"
#include "models/hf.h"
#include "models/llm.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

/* Links to the reference's files; config.json leads to what the fuzzer wrote last. */
typedef struct model { const char *type, *from; int width; char folder[64]; } model; /* width: of two of one type */
static model models[] = {
    {.type = "qwen2", .from = REFERENCE "qwen2"}, {.type = "qwen3", .from = REFERENCE "qwen3"}, {.type = "llama", .from = REFERENCE "llama3"},
    {.type = "mistral", .from = REFERENCE "mistral"}, {.type = "gpt2", .from = REFERENCE "gpt2"},
    {.type = "ministral", .from = REFERENCE "ministral"}, {.type = "llama", .from = REFERENCE "llama-bias", .width = 32},
    {.type = "qwen2", .from = REFERENCE "qwen2-window", .width = 32}, {.type = "qwen3", .from = REFERENCE "qwen3-bias", .width = 32},
    {.type = "gpt2", .from = REFERENCE "gpt2-gelu", .width = 32},
    {.type = "bert", .from = REFERENCE "encoders/bert-classifier"}, {.type = "distilbert", .from = REFERENCE "encoders/distilbert"},
    {.type = "xlm-roberta", .from = REFERENCE "encoders/xlm-roberta-reranker"},
};
enum { N_VOCAB = 160 }; /* of the language models' tokenizers */
static int config_fd = -1;

static void clean_up(void)
{
    sv_err err = {0};
    for (size_t i = 0; i < SV_LEN(models); i++)
        (void)!sv_remove_tree(models[i].folder, &err);
}

static void make_folder(model *m)
{
    char to[512], config[64];
    sv_err err = {0};
    sv_model_files f = {0};
    snprintf(m->folder, sizeof m->folder, "/tmp/sv-hf-fuzz-XXXXXX");
    SV_ASSERT(mkdtemp(m->folder) && sv_model_files_find(&f, m->from, &err) == SV_OK);
    snprintf(config, sizeof config, "/proc/self/fd/%d", config_fd);
    for (size_t i = 0; i < f.n; i++) {
        SV_AUTO(sv_freep) char *path = sv_model_files_path(&f, i);
        snprintf(to, sizeof to, "%s/%s", m->folder, f.names[i]);
        SV_ASSERT(symlink(strcmp(f.names[i], "config.json") == 0 ? config : path, to) == 0);
    }
    sv_model_files_done(&f);
}

static const model *model_for(sv_str config)
{
    SV_AUTO(sv_json_decrefp) json_t *json = NULL;
    sv_err err = {0};
    const char *type = sv_json_parse(&json, config, &err) == SV_OK ? sv_json_cstr(json, "model_type") : NULL;
    json_int_t width = json_integer_value(json_object_get(json, "hidden_size")) + json_integer_value(json_object_get(json, "n_embd"));
    const model *found = &models[0];
    for (size_t i = 0; type && i < SV_LEN(models); i++)
        if (strcmp(type, models[i].type) == 0 && (models[i].width == 0 || models[i].width == width))
            found = &models[i];
    return found;
}

static void run_llm(const sv_llm *m, sv_pool *pool)
{
    enum { N = 6 };
    const sv_llm_info *info = sv_llm_get_info(m);
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    sv_err err = {0};
    int32_t tokens[N], n = info->n_ctx < N ? info->n_ctx : N;
    void *page = sv_try_aligned(sv_llm_kv_page_bytes(m), 64);
    float *logits = sv_try_calloc((size_t)info->n_vocab, sizeof *logits);
    for (int32_t i = 0; i < N; i++)
        tokens[i] = i * 7 % info->n_vocab;
    if (page && logits && sv_llm_ws_new(&ws, m, N, &err) == SV_OK)
        sv_llm_step(m, ws, pool, &(sv_llm_chunk){.tokens = tokens, .n_tokens = n, .pages = &page, .logits = logits}, 1);
    free(page);
    free(logits);
}

static void run_encoder(const sv_encoder *e, sv_pool *pool)
{
    const sv_encoder_info *info = sv_encoder_get_info(e);
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = NULL;
    sv_err err = {0};
    sv_tokens t = {0};
    sv_str pair = SV_STR("music");
    int32_t n_first = 0;
    float *out = sv_try_calloc((size_t)(info->n_labels > info->n_embd ? info->n_labels : info->n_embd), sizeof *out);
    SV_ASSERT(sv_encoder_tokens(e, &(sv_encoder_text){.text = SV_STR("a river of bread and water"), .pair = &pair, .max_tokens = 16, .cut = true}, &t, &n_first,
                                &err) == SV_OK);
    if (out && sv_encoder_ws_new(&ws, e, 64, &err) == SV_OK)
        sv_encoder_run(e, ws, pool, &(sv_encoder_seq){.tokens = t.v, .n_tokens = (int32_t)t.n, .n_first = n_first, .out = out}, 1,
                       info->n_labels > 0 ? SV_WANT_LOGITS : SV_WANT_MEAN);
    free(t.v);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sv_pool *pool;
    sv_err err = {0};
    if (!pool) {
        pool = sv_pool_new(1);
        config_fd = memfd_create("config", MFD_CLOEXEC);
        for (size_t i = 0; i < SV_LEN(models); i++)
            make_folder(&models[i]);
        atexit(clean_up);
    }
    SV_ASSERT(config_fd >= 0 && ftruncate(config_fd, 0) == 0 && lseek(config_fd, 0, SEEK_SET) == 0 && sv_write_all(config_fd, p, n, &err) == SV_OK);
    const model *m = model_for((sv_str){(const char *)p, n});
    sv_rc rc;
    if (sv_encoder_is(m->folder)) {
        SV_AUTO(sv_encoder_closep) sv_encoder *e = NULL;
        if ((rc = sv_encoder_open(&e, m->folder, &err)) == SV_OK)
            run_encoder(e, pool);
    } else {
        SV_AUTO(sv_hf_closep) sv_hf *hf = NULL;
        SV_AUTO(sv_llm_unrefp) sv_llm *llm = NULL;
        if ((rc = sv_hf_open(&hf, m->folder, N_VOCAB, &err)) == SV_OK && /* alone first: most inputs end here, and reading the tokenizer takes long */
            (rc = sv_llm_open(&llm, m->folder, &err)) == SV_OK)
            run_llm(llm, pool);
    }
    if (rc != SV_OK)
        SV_ASSERT(strstr(err.msg, m->folder)); /* a refusal says which model */
    return 0;
}
