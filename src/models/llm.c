/* llm.c - opens a language model, and flattens a step into rows
 *
 * What all families share lives here: the file, tokenizer, template and reference count on one side; on the other, turning a step's
 * chunks into plain rows. A family (llama.c) sees `n_rows` rows, each with a token, a position and a page, and does with
 * each what it would do if the row were alone; that is the whole of the company-proof promise, since the kernels keep it for
 * theirs (kernels_body.h).
 *
 * Invariants after sv_llm_open:
 *   1. Every hyper-parameter is in range, every tensor has the shape that follows from them, and a type the kernels compute. A step
 *      checks nothing but its arguments.
 *   2. The tokenizer has as many tokens as the embedding has rows, so an id that it gives is a row that exists.
 *   3. Weights stay in the map of the file; memory beside it is some bytes a tensor, plus the tokenizer, until sv_llm_pack. */
#include "models/llm_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <sys/mman.h>

#include "base/mem.h"
#include "models/files.h"
#include "models/packed.h"
#include "nn/pack.h"

static const sv_family *const families[] = {&sv_family_llama, &sv_family_qwen2, &sv_family_qwen3, &sv_family_gpt2};

enum { ALIGN = 64, ROWS_A_TASK = 8, HUGE_PAGE = 2 << 20 };

/* --- what families read with -------------------------------------------------------------------------------------- */

static const sv_tensor *find(const sv_llm *m, char name[64], const char *fmt, int i_layer)
{
    const char *at = strstr(fmt, "%d");
    if (at)
        snprintf(name, 64, "%.*s%d%s", (int)(at - fmt), fmt, i_layer, at + 2);
    else
        snprintf(name, 64, "%s", fmt);
    return sv_gguf_tensor(m->gguf, name);
}

sv_rc sv_llm_matrix(const sv_llm *m, const sv_tensor **out, const char *fmt, int i_layer, int64_t n_in, int64_t n_out, sv_err *err)
{
    char name[64];
    const sv_tensor *t = find(m, name, fmt, i_layer);
    if (!t)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is missing", name);
    if (t->dims[0] != n_in || t->dims[1] != n_out || t->dims[2] != 1 || t->dims[3] != 1)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': shape [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "], wanted [%" PRId64
                       ", %" PRId64 "]", name, t->dims[0], t->dims[1], t->dims[2], t->dims[3], n_in, n_out);
    if (!sv_type_get(t->type)->computable)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': type %s is not supported; convert the model to another type", name,
                       sv_type_get(t->type)->name);
    *out = t;
    return SV_OK;
}

const sv_tensor *sv_llm_add_weight(sv_llm *m, const sv_tensor *t)
{
    SV_ASSERT(m->n_matrices < m->max_matrices);
    m->matrices[m->n_matrices] = *t;
    return &m->matrices[m->n_matrices++];
}

sv_rc sv_llm_weight(sv_llm *m, const sv_tensor **out, const char *fmt, int i_layer, int64_t n_in, int64_t n_out, sv_err *err)
{
    const sv_tensor *t = NULL;
    if (sv_llm_matrix(m, &t, fmt, i_layer, n_in, n_out, err) != SV_OK)
        return err->code;
    *out = sv_llm_add_weight(m, t);
    return SV_OK;
}

/* t's n values as float32, kept with m. */
static sv_rc keep_vector(sv_llm *m, const float **out, const sv_tensor *t, int64_t n, sv_err *err)
{
    float **more = sv_try_realloc(m->vectors, m->n_vectors + 1, sizeof *more);
    if (more)
        m->vectors = more;
    float *v = more ? sv_try_calloc((size_t)n, sizeof *v) : NULL;
    if (!v)
        return sv_fail(err, SV_ENOMEM, "tensor '%s': no memory for %" PRId64 " numbers", t->name, n);
    sv_dequantize(v, t->type, t->data, n);
    *out = m->vectors[m->n_vectors++] = v;
    return SV_OK;
}

sv_rc sv_llm_vector(sv_llm *m, const float **out, const char *fmt, int i_layer, int64_t n, bool optional, sv_err *err)
{
    char name[64];
    const sv_tensor *t = find(m, name, fmt, i_layer);
    if (!t && optional) {
        *out = NULL;
        return SV_OK;
    }
    if (sv_llm_matrix(m, &t, fmt, i_layer, n, 1, err) != SV_OK)
        return err->code;
    if (t->type != SV_F32 || (uintptr_t)t->data % sizeof(float) != 0)
        return keep_vector(m, out, t, n, err);
    *out = t->data;
    return SV_OK;
}

enum { MAX_KEY = 96 };

static const char *key_of(const sv_llm *m, char name[MAX_KEY], const char *key)
{
    snprintf(name, MAX_KEY, "%s.%s", m->info.arch, key);
    return name;
}

bool sv_llm_has(const sv_llm *m, const char *key)
{
    char name[MAX_KEY];
    return sv_gguf_has(m->gguf, key_of(m, name, key));
}

sv_rc sv_llm_text(const sv_llm *m, const char *key, sv_str *out, sv_err *err)
{
    char name[MAX_KEY];
    return sv_gguf_str(m->gguf, key_of(m, name, key), out, err);
}

sv_rc sv_llm_number(const sv_llm *m, const char *key, double min, double max, float *out, sv_err *err)
{
    char name[MAX_KEY];
    float v = *out;
    if (sv_gguf_f32(m->gguf, key_of(m, name, key), &v, err) != SV_OK)
        return err->code;
    if (!(isfinite(v) && (double)v >= min && (double)v <= max))
        return sv_gguf_has(m->gguf, name) ? sv_fail(err, SV_EFORMAT, "key '%s': %g is out of %g to %g", name, (double)v, min, max)
                                          : sv_fail(err, SV_EFORMAT, "key '%s' is missing", name);
    *out = v;
    return SV_OK;
}

sv_rc sv_llm_param(const sv_llm *m, const char *key, int64_t min, int64_t max, int32_t *out, sv_err *err)
{
    char name[MAX_KEY];
    int64_t v = *out;
    if (sv_gguf_i64(m->gguf, key_of(m, name, key), min, max, &v, err) != SV_OK)
        return err->code;
    if (v < min)
        return sv_fail(err, SV_EFORMAT, "key '%s' is missing", name);
    if (v > max) /* only a default can be */
        return sv_fail(err, SV_EFORMAT, "key '%s' is missing, and its default %" PRId64 " is over %" PRId64, name, v, max);
    *out = (int32_t)v;
    return SV_OK;
}

sv_rc sv_llm_by_layer(const sv_llm *m, const char *key, const uint8_t **out, sv_err *err)
{
    char name[MAX_KEY];
    size_t n = 0;
    if (sv_gguf_arr_bool(m->gguf, key_of(m, name, key), out, &n, err) != SV_OK)
        return err->code;
    if (*out && n != (size_t)m->info.n_layer)
        return sv_fail(err, SV_EFORMAT, "key '%s': %zu values for %d layers", name, n, m->info.n_layer);
    return SV_OK;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static void copy_text(char *dst, size_t size, sv_str s)
{
    size_t n = sv_utf8_valid(s) ? s.n : 0;
    if (n >= size)
        n = sv_utf8_whole((sv_str){s.p, size - 1});
    memcpy(dst, s.p ? s.p : "", n);
    dst[n] = '\0';
}

/* Sizes, and the type that most weight bytes have. */
static void measure(sv_llm *m)
{
    size_t bytes[SV_N_TYPES] = {0}, most = 0;
    for (size_t i = 0; i < sv_gguf_n_tensors(m->gguf); i++) {
        const sv_tensor *t = sv_gguf_tensor_at(m->gguf, i);
        m->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type] += t->n_bytes;
    }
    for (uint32_t type = 0; type < SV_N_TYPES; type++)
        if (bytes[type] > most) {
            most = bytes[type];
            snprintf(m->info.weights, sizeof m->info.weights, "%s", sv_type_get(type)->name);
        }
}

static sv_rc find_family(sv_llm *m, sv_err *err)
{
    sv_str arch = {0};
    if (sv_gguf_str(m->gguf, "general.architecture", &arch, err) != SV_OK)
        return err->code;
    if (!arch.p)
        return sv_fail(err, SV_EFORMAT, "key 'general.architecture' is missing");
    for (size_t i = 0; i < SV_LEN(families); i++)
        if (sv_str_is(arch, families[i]->arch)) {
            m->family = families[i];
            snprintf(m->info.arch, sizeof m->info.arch, "%s", families[i]->arch);
            return SV_OK;
        }
    copy_text(m->info.arch, sizeof m->info.arch, arch);
    SV_AUTO(sv_buf_donep) sv_buf all;
    sv_buf_init(&all, 0);
    for (size_t i = 0; i < SV_LEN(families); i++)
        sv_buf_addf(&all, "%s%s", i ? ", " : "", families[i]->arch);
    return sv_fail(err, SV_EFORMAT, "architecture '%s' is not supported; supported: %s", m->info.arch, sv_buf_cstr(&all));
}

void sv_llm_set_template(sv_llm *m, sv_str source, const char *where)
{
    sv_err why = {0}; /* a template that does not compile harms those who need it only */
    if (sv_template_compile(&m->template, source, &why) != SV_OK)
        m->template_error = sv_xasprintf("%s: %s", where, why.msg);
}

static sv_rc read_text_parts(sv_llm *m, sv_err *err)
{
    sv_str name = {0}, source = {0};
    if (sv_gguf_str(m->gguf, "general.name", &name, err) != SV_OK || sv_gguf_str(m->gguf, "tokenizer.chat_template", &source, err) != SV_OK)
        return err->code;
    copy_text(m->info.name, sizeof m->info.name, name);
    if (sv_tokenizer_from_gguf(&m->tokenizer, m->gguf, err) != SV_OK)
        return err->code;
    if (source.p)
        sv_llm_set_template(m, source, "key 'tokenizer.chat_template'");
    return SV_OK;
}

/* The family and the tokenizer are known. */
static sv_rc load(sv_llm *m, sv_err *err)
{
    measure(m);
    m->info.n_vocab = sv_tokenizer_n_vocab(m->tokenizer); /* inv. 2: the family checks the embedding against it */
    m->max_matrices = 3 * sv_gguf_n_tensors(m->gguf) + 1; /* some are seen as three; a tied embedding is one more */
    m->matrices = sv_try_calloc(m->max_matrices, sizeof *m->matrices);
    if (!m->matrices)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tensors", sv_gguf_n_tensors(m->gguf));
    return m->family->load(m, err);
}

static sv_rc open_file(sv_llm *m, const char *path, sv_err *err)
{
    if (sv_gguf_open(&m->file, path, err) != SV_OK)
        return err->code;
    m->gguf = m->file;
    m->info.size_bytes = sv_gguf_size(m->gguf);
    if (find_family(m, err) != SV_OK || read_text_parts(m, err) != SV_OK || load(m, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    return SV_OK;
}

static sv_rc open_folder(sv_llm *m, const char *folder, sv_err *err)
{
    if (sv_llm_read_folder(m, folder, err) != SV_OK)
        return err->code;
    m->gguf = sv_hf_gguf(m->hf);
    m->halves = true;
    m->info.size_bytes = sv_hf_size(m->hf);
    const char *slash = strrchr(folder, '/');
    copy_text(m->info.name, sizeof m->info.name, sv_str_of(slash && slash[1] ? slash + 1 : folder));
    if (find_family(m, err) != SV_OK || load(m, err) != SV_OK)
        return sv_wrap(err, "'%s'", folder);
    return SV_OK;
}

static sv_rc open_files(sv_llm *m, const sv_model_files *files, sv_err *err)
{
    SV_AUTO(sv_freep) char *first = sv_model_files_path(files, 0);
    return files->is_gguf ? open_file(m, first, err) : open_folder(m, files->folder, err);
}

/* What the packed form is kept under. */
static sv_rc name_source(sv_llm *m, const char *path, const sv_model_files *files, sv_err *err)
{
    SV_AUTO(sv_freep) char *real = realpath(path, NULL);
    m->path = sv_xstrdup(real ? real : path);
    for (size_t i = 0; i < files->n; i++) {
        SV_AUTO(sv_freep) char *file = sv_model_files_path(files, i);
        SV_AUTO(sv_freep) char *real_file = realpath(file, NULL);
        if (sv_packed_source(&m->source, real_file ? real_file : file, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

sv_rc sv_llm_open(sv_llm **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_llm_unrefp) sv_llm *m = sv_xnew0(sv_llm);
    sv_model_files files = {0};
    m->n_refs = 1;
    sv_buf_init(&m->source, 0);
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    sv_rc rc = open_files(m, &files, err);
    if (rc == SV_OK)
        rc = name_source(m, path, &files, err);
    sv_model_files_done(&files);
    if (rc != SV_OK)
        return rc;
    *out = SV_TAKE(m);
    return SV_OK;
}

sv_llm *sv_llm_ref(sv_llm *m)
{
    atomic_fetch_add_explicit(&m->n_refs, 1, memory_order_relaxed);
    return m;
}

sv_llm *sv_llm_unref(sv_llm *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->n_refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (m->family)
        m->family->unload(m);
    sv_template_free(m->template);
    free(m->template_error);
    sv_tokenizer_free(m->tokenizer);
    for (size_t i = 0; i < m->n_vectors; i++)
        free(m->vectors[i]);
    free(m->vectors);
    free(m->matrices);
    free(m->packed_memory);
    sv_map_close(&m->packed_map);
    free(m->path);
    sv_buf_done(&m->source);
    sv_gguf_close(m->file);
    sv_hf_close(m->hf);
    free(m);
    return NULL;
}

const sv_llm_info *sv_llm_get_info(const sv_llm *m)
{
    return &m->info;
}

const sv_tokenizer *sv_llm_tokenizer(const sv_llm *m)
{
    return m->tokenizer;
}

const sv_template *sv_llm_template(const sv_llm *m)
{
    return m->template;
}

const char *sv_llm_template_error(const sv_llm *m)
{
    return m->template_error;
}

size_t sv_llm_kv_page_bytes(const sv_llm *m)
{
    return (size_t)m->info.n_layer * sv_kv_layer_floats(m->info.n_head_kv, m->info.head_dim) * sizeof(float);
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

/* The matrices that pack; *list is owned. */
static void find_packable(const sv_llm *m, sv_packing *p)
{
    *p = (sv_packing){.path = m->path, .source = sv_buf_str(&m->source), .w = sv_xcalloc(m->n_matrices + 1, sizeof *p->w)};
    for (size_t i = 0; i < m->n_matrices; i++)
        if (sv_packable(&m->matrices[i]))
            p->w[p->n++] = &m->matrices[i];
}

static sv_rc pack_in_memory(sv_llm *m, const sv_packing *p, const size_t *at, sv_err *err)
{
    uint8_t *bytes = m->packed_memory = sv_try_aligned(at[p->n], HUGE_PAGE);
    if (!bytes)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu MiB of packed weights", at[p->n] >> 20);
    (void)madvise(bytes, at[p->n], MADV_HUGEPAGE); /* where the system has them: a stream through all of it misses fewer */
    for (size_t i = 0; i < p->n; i++)
        sv_pack(bytes + at[i], p->w[i], 0, sv_pack_groups(p->w[i]));
    m->packed = bytes;
    m->how_packed = SV_LLM_IN_MEMORY;
    return SV_OK;
}

/* Finds the packed file, or makes it. */
static sv_rc pack_in_folder(sv_llm *m, const char *folder, const sv_packing *p, sv_err *err)
{
    sv_llm_packing how = SV_LLM_MAPPED;
    if (sv_packed_open(&m->packed_map, &m->packed, folder, p, err) != SV_OK) {
        if (err->code != SV_ENOENT || sv_packed_write(folder, p, err) != SV_OK ||
            sv_packed_open(&m->packed_map, &m->packed, folder, p, err) != SV_OK)
            return err->code;
        how = SV_LLM_WRITTEN;
    }
    (void)madvise((void *)(uintptr_t)m->packed_map.p, m->packed_map.n, MADV_HUGEPAGE); /* for file systems that can */
    m->how_packed = how;
    return SV_OK;
}

/* What was read of the file in order to pack it need not stay in memory: tokens are looked up in a few pages of it. */
static void let_go_of_file(const sv_tensor *t)
{
    const uintptr_t page = 4096, begin = ((uintptr_t)t->data + page - 1) / page * page, end = ((uintptr_t)t->data + t->n_bytes) / page * page;
    if (end > begin)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

sv_rc sv_llm_pack(sv_llm *m, const char *folder, sv_err *err)
{
    sv_packing p;
    sv_err why = {0};
    sv_rc rc = SV_OK;
    SV_ASSERT(!m->packed);
    find_packable(m, &p);
    SV_AUTO(sv_freep) sv_tensor **w = p.w;
    SV_AUTO(sv_freep) size_t *at = sv_xcalloc(p.n + 1, sizeof *at);
    sv_packed_offsets(&p, at);
    if (p.n == 0)
        return SV_OK;
    if (!folder || pack_in_folder(m, folder, &p, &why) != SV_OK)
        rc = pack_in_memory(m, &p, at, err);
    if (rc != SV_OK)
        return rc;
    m->packed_bytes = at[p.n];
    for (size_t i = 0; i < p.n; i++) {
        sv_tensor *t = w[i];
        if (m->file)
            let_go_of_file(t);
        t->n_bytes = at[i + 1] - at[i];
        t->data = m->packed + at[i];
        t->layout = SV_LAYOUT_PACKED;
    }
    return SV_OK;
}

sv_llm_packing sv_llm_packed_how(const sv_llm *m)
{
    return m->how_packed;
}

size_t sv_llm_packed_bytes(const sv_llm *m)
{
    return m->packed_bytes;
}

/* --- workspace and step ------------------------------------------------------------------------------------------- */

/* Hands out the next `bytes` of memory, or only counts when memory is NULL. */
static void *cut(uint8_t *memory, size_t *at, size_t bytes)
{
    void *p = memory ? memory + *at : NULL;
    *at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

/* Lays the buffers out; returns the bytes needed. No product overflows: rows are 31 bits, and a row is below 2^21 bytes
 * (inv. 1 bounds every width by SV_MAX_ROW). */
static size_t lay_out(sv_llm_ws *ws, const sv_llm *m, uint8_t *memory)
{
    const sv_llm_info *i = &m->info;
    size_t at = 0, n = (size_t)ws->max_rows, f = n * sizeof(float);
    size_t n_q = (size_t)i->n_head * (size_t)i->head_dim, n_kv = (size_t)i->n_head_kv * (size_t)i->head_dim;
    ws->x = cut(memory, &at, f * (size_t)i->n_embd);
    ws->h = cut(memory, &at, f * (size_t)i->n_embd);
    ws->q = cut(memory, &at, f * n_q);
    ws->att = cut(memory, &at, f * n_q);
    ws->k = cut(memory, &at, f * n_kv);
    ws->v = cut(memory, &at, f * n_kv);
    ws->gate = cut(memory, &at, f * (size_t)i->n_ff);
    ws->up = cut(memory, &at, f * (size_t)i->n_ff);
    ws->cos_sin = cut(memory, &at, f * (size_t)m->n_rot);
    ws->rows = cut(memory, &at, n * sizeof *ws->rows);
    size_t widest = n_q > (size_t)i->n_ff ? n_q : (size_t)i->n_ff;
    widest = widest > (size_t)i->n_embd ? widest : (size_t)i->n_embd;
    ws->xq = m->packed ? cut(memory, &at, n * (widest / SV_LEN(ws->xq->q)) * sizeof *ws->xq) : NULL;
    ws->chunks = cut(memory, &at, n * sizeof *ws->chunks);
    ws->out_rows = cut(memory, &at, n * sizeof *ws->out_rows);
    ws->logits = cut(memory, &at, n * sizeof *ws->logits);
    ws->hidden_rows = cut(memory, &at, n * sizeof *ws->hidden_rows);
    ws->hidden = cut(memory, &at, n * sizeof *ws->hidden);
    return at;
}

sv_rc sv_llm_ws_new(sv_llm_ws **out, const sv_llm *m, int32_t max_rows, sv_err *err)
{
    SV_ASSERT(max_rows > 0);
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = sv_xnew0(sv_llm_ws);
    ws->max_rows = max_rows;
    size_t bytes = lay_out(ws, m, NULL);
    if (!(ws->memory = sv_try_aligned(bytes, ALIGN)))
        return sv_fail(err, SV_ENOMEM, "no memory for a step of %d rows: %zu MiB", max_rows, bytes >> 20);
    lay_out(ws, m, ws->memory);
    *out = SV_TAKE(ws);
    return SV_OK;
}

sv_llm_ws *sv_llm_ws_free(sv_llm_ws *ws)
{
    if (ws)
        free(ws->memory);
    free(ws);
    return NULL;
}

static void add_chunk(const sv_llm *m, sv_llm_ws *ws, const sv_llm_chunk *c)
{
    SV_ASSERT(c->n_tokens > 0 && c->pos >= 0 && c->n_tokens <= ws->max_rows - ws->n_rows && c->pos <= m->info.n_ctx - c->n_tokens);
    ws->chunks[ws->n_chunks++] = (sv_attn_chunk){.pages = c->pages, .pos = c->pos, .n_rows = c->n_tokens, .row = ws->n_rows};
    for (int32_t i = 0; i < c->n_tokens; i++) {
        SV_ASSERT(c->tokens[i] >= 0 && c->tokens[i] < m->info.n_vocab);
        ws->rows[ws->n_rows++] = (sv_llm_row){c->tokens[i], c->pos + i, c->pages[(c->pos + i) / SV_KV_PAGE]};
    }
    if (c->logits) {
        ws->out_rows[ws->n_out] = ws->n_rows - 1;
        ws->logits[ws->n_out++] = c->logits;
    }
    if (c->hidden) {
        ws->hidden_rows[ws->n_hidden] = ws->n_rows - 1;
        ws->hidden[ws->n_hidden++] = c->hidden;
    }
}

void sv_llm_step(const sv_llm *m, sv_llm_ws *ws, sv_pool *pool, const sv_llm_chunk *chunks, int32_t n_chunks)
{
    ws->n_rows = ws->n_chunks = ws->n_out = ws->n_hidden = 0;
    for (int32_t i = 0; i < n_chunks; i++)
        add_chunk(m, ws, &chunks[i]);
    if (ws->n_rows > 0)
        m->family->step(m, ws, pool);
}

typedef struct row_tasks {
    sv_rows_fn fn;
    void *arg;
    int32_t n_rows;
} row_tasks;

static void rows_task(void *arg, int32_t i_task)
{
    const row_tasks *t = arg;
    int32_t begin = i_task * ROWS_A_TASK, end = begin + ROWS_A_TASK;
    t->fn(t->arg, begin, end < t->n_rows ? end : t->n_rows);
}

void sv_llm_over_rows(sv_pool *pool, int32_t n_rows, sv_rows_fn fn, void *arg)
{
    row_tasks t = {fn, arg, n_rows};
    sv_pool_run(pool, (n_rows + ROWS_A_TASK - 1) / ROWS_A_TASK, rows_task, &t);
}

void sv_llm_quantise(sv_llm_ws *ws, const float *x, int64_t width, int32_t begin, int32_t end)
{
    enum { BLOCK = SV_LEN(ws->xq->q) };
    if (ws->xq && width % BLOCK == 0)
        sv_quantise(ws->xq + begin * (width / BLOCK), x + begin * width, (end - begin) * width);
}

void sv_llm_embed(float *x, const sv_tensor *w, const sv_llm_row *rows, int32_t begin, int32_t end)
{
    size_t row_bytes = sv_type_bytes(w->type, w->dims[0]);
    for (int32_t r = begin; r < end; r++)
        sv_dequantize(x + r * w->dims[0], w->type, (const uint8_t *)w->data + (size_t)rows[r].token * row_bytes, w->dims[0]);
}

sv_kv_layout sv_llm_kv_layout(const sv_llm *m, int32_t i_layer)
{
    const sv_llm_info *i = &m->info;
    size_t at = (size_t)i_layer * sv_kv_layer_floats(i->n_head_kv, i->head_dim);
    return (sv_kv_layout){i->n_head_kv, i->head_dim, at, at + (size_t)i->n_head_kv * SV_KV_PAGE * (size_t)i->head_dim};
}
