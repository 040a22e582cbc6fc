/* decoder_embedder.c - language models that were trained to make vectors: Qwen3-Embedding, and others of the Llama kind
 *
 * The vector of a text is the last hidden state of its last token, which the tokenizer puts behind the text as its end; each token sees what is
 * before it, so only the last one has seen all. The arithmetic is the language model's own (llama.c), with pages of a KV cache that live as long as
 * the batch.
 *
 * A step takes at most ROWS tokens, in order of the sequences: short texts share one, a long text is several, and others may compute in between.
 * What a sequence's sums are does not depend on how it was cut (llm.h).
 *
 * Texts have at most MAX_TOKENS: keys and values of a token are a quarter of a megabyte in the smallest of these models, and a node that embeds has
 * other things to keep. What a long batch has touched is given back at its end. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/json.h"
#include "models/encoder_impl.h"
#include "models/files.h"

enum { ROWS = 512, MAX_TOKENS = 8192, MAX_JSON = 1 << 20, PAGE_ALIGN = 4096, KEEP_BYTES = 128 << 20 };

struct sv_decoder_ws {
    sv_llm_ws *llm;
    uint8_t *memory;      /* [max_pages][page_bytes]: keys and values */
    size_t page_bytes, max_pages;
    void **pages;
    const sv_encoder_seq *seqs;
    int32_t first_page[SV_ENCODER_MAX_SEQS];
    int32_t n_seqs, n_rows, n_pages;
    int32_t i_seq, pos;   /* what the next step begins with */
};

/* ---- which models ---- */

static bool read(json_t **out, const char *folder, const char *name)
{
    sv_err ignored = {0};
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    sv_buf_init(&text, MAX_JSON);
    return sv_file_read(&text, path, &ignored) == SV_OK && sv_json_parse(out, sv_buf_str(&text), &ignored) == SV_OK;
}

static bool is_decoder_type(const char *type)
{
    static const char *const types[] = {"qwen3", "qwen2", "llama", "mistral"};
    for (size_t i = 0; type && i < SV_LEN(types); i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

/* sentence-transformers lists what stands behind the language model. */
static bool folder_pools(const char *folder)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_json_decrefp) json_t *modules = NULL;
    const json_t *m;
    size_t i;
    if (!read(&config, folder, "config.json") || !is_decoder_type(sv_json_cstr(config, "model_type")) || !read(&modules, folder, "modules.json"))
        return false;
    json_array_foreach(modules, i, m) {
        const char *type = sv_json_cstr(m, "type");
        if (type && strstr(type, "Pooling"))
            return true;
    }
    return false;
}

static bool gguf_pools(const char *file)
{
    sv_err ignored = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    sv_str arch = {0};
    char type[40], key[64];
    int64_t pooling = 0;
    if (sv_gguf_open(&g, file, &ignored) != SV_OK || sv_gguf_str(g, "general.architecture", &arch, &ignored) != SV_OK || arch.n >= sizeof type)
        return false;
    snprintf(type, sizeof type, "%.*s", (int)arch.n, arch.p ? arch.p : "");
    snprintf(key, sizeof key, "%s.pooling_type", type);
    return is_decoder_type(type) && sv_gguf_i64(g, key, 0, 4, &pooling, &ignored) == SV_OK && pooling > 0;
}

bool sv_decoder_embedder_is(const char *path)
{
    sv_err ignored = {0};
    sv_model_files files = {0};
    if (sv_model_files_find(&files, path, &ignored) != SV_OK)
        return false;
    SV_AUTO(sv_freep) char *file = sv_model_files_path(&files, 0);
    bool is = files.is_gguf ? gguf_pools(file) : folder_pools(files.folder);
    sv_model_files_done(&files);
    return is;
}

/* Vectors of other tokens, or of all of them, are refused rather than made wrong. */
static sv_rc check_pooling(const char *path, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *pooling = NULL;
    if (read(&pooling, path, "1_Pooling/config.json") && !json_is_true(json_object_get(pooling, "pooling_mode_lasttoken")))
        return sv_fail(err, SV_EFORMAT, "'%s/1_Pooling/config.json': of decoders only the pooling of the last token is supported", path);
    return SV_OK;
}

static sv_rc check_gguf_pooling(const char *path, const char *arch, sv_err *err)
{
    sv_model_files files = {0};
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    char key[64];
    int64_t pooling = 3;
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) char *file = sv_model_files_path(&files, 0);
    bool is_gguf = files.is_gguf;
    sv_model_files_done(&files);
    snprintf(key, sizeof key, "%s.pooling_type", arch);
    if (is_gguf && (sv_gguf_open(&g, file, err) != SV_OK || sv_gguf_i64(g, key, 0, 4, &pooling, err) != SV_OK))
        return err->code;
    return pooling == 3 ? SV_OK : sv_fail(err, SV_EFORMAT, "'%s': key '%s': of decoders only the pooling of the last token (3) is supported", path, key);
}

sv_rc sv_decoder_embedder_open(sv_encoder *e, const char *path, sv_err *err)
{
    if (check_pooling(path, err) != SV_OK || sv_llm_open(&e->llm, path, err) != SV_OK)
        return err->code;
    const sv_llm_info *i = sv_llm_get_info(e->llm);
    e->info = (sv_encoder_info){.n_params = i->n_params, .size_bytes = i->size_bytes, .n_ctx = i->n_ctx < MAX_TOKENS ? i->n_ctx : MAX_TOKENS,
                                .n_vocab = i->n_vocab, .n_embd = i->n_embd, .n_layer = i->n_layer, .n_head = i->n_head, .n_ff = i->n_ff,
                                .pooling = SV_POOL_LAST};
    memcpy(e->info.arch, i->arch, sizeof e->info.arch);
    memcpy(e->info.name, i->name, sizeof e->info.name);
    memcpy(e->info.weights, i->weights, sizeof e->info.weights);
    return check_gguf_pooling(path, i->arch, err);
}

/* ---- runs ---- */

sv_rc sv_decoder_ws_new(sv_decoder_ws **out, const sv_encoder *e, int32_t max_rows, sv_err *err)
{
    sv_decoder_ws *ws = sv_xnew0(sv_decoder_ws);
    ws->page_bytes = (sv_llm_kv_page_bytes(e->llm) + 63) & ~(size_t)63;
    ws->max_pages = (size_t)max_rows / SV_KV_PAGE + SV_ENCODER_MAX_SEQS;
    ws->pages = sv_xcalloc(ws->max_pages, sizeof *ws->pages);
    ws->memory = sv_try_aligned(ws->max_pages * ws->page_bytes, PAGE_ALIGN); /* untouched pages cost nothing */
    if (!ws->memory || sv_llm_ws_new(&ws->llm, e->llm, ROWS, err) != SV_OK) {
        sv_decoder_ws_free(ws);
        return sv_fail(err, SV_ENOMEM, "no memory for a batch of %d tokens", max_rows);
    }
    for (size_t i = 0; i < ws->max_pages; i++)
        ws->pages[i] = ws->memory + i * ws->page_bytes;
    *out = ws;
    return SV_OK;
}

sv_decoder_ws *sv_decoder_ws_free(sv_decoder_ws *ws)
{
    if (ws) {
        sv_llm_ws_free(ws->llm);
        free(ws->memory);
        free(ws->pages);
    }
    free(ws);
    return NULL;
}

void sv_decoder_begin(const sv_encoder *e, sv_decoder_ws *ws, const sv_encoder_seq *seqs, int32_t n_seqs)
{
    ws->seqs = seqs;
    ws->n_seqs = n_seqs;
    ws->n_rows = ws->n_pages = ws->i_seq = ws->pos = 0;
    for (int32_t s = 0; s < n_seqs; s++) {
        SV_ASSERT(seqs[s].n_tokens > 0 && seqs[s].n_tokens <= e->info.n_ctx);
        ws->first_page[s] = ws->n_pages;
        ws->n_pages += (seqs[s].n_tokens + SV_KV_PAGE - 1) / SV_KV_PAGE;
        ws->n_rows += seqs[s].n_tokens;
    }
    SV_ASSERT((size_t)ws->n_pages <= ws->max_pages);
}

int32_t sv_decoder_n_steps(const sv_decoder_ws *ws) { return (ws->n_rows + ROWS - 1) / ROWS; }

void sv_decoder_step(const sv_encoder *e, sv_decoder_ws *ws, sv_pool *pool, int32_t i_step)
{
    sv_llm_chunk chunks[SV_ENCODER_MAX_SEQS];
    int32_t n = 0, left = ROWS;
    (void)i_step;
    while (ws->i_seq < ws->n_seqs && left > 0) {
        const sv_encoder_seq *s = &ws->seqs[ws->i_seq];
        int32_t rest = s->n_tokens - ws->pos, take = rest < left ? rest : left;
        chunks[n++] = (sv_llm_chunk){.tokens = s->tokens + ws->pos, .n_tokens = take, .pos = ws->pos, .pages = ws->pages + ws->first_page[ws->i_seq],
                                     .hidden = take == rest ? s->out : NULL};
        left -= take;
        ws->pos += take;
        if (take == rest) {
            ws->i_seq++;
            ws->pos = 0;
        }
    }
    sv_llm_step(e->llm, ws->llm, pool, chunks, n);
}

void sv_decoder_end(sv_decoder_ws *ws)
{
    size_t used = (size_t)ws->n_pages * ws->page_bytes;
    if (used > KEEP_BYTES)
        (void)madvise(ws->memory, used & ~(size_t)(PAGE_ALIGN - 1), MADV_DONTNEED);
}
