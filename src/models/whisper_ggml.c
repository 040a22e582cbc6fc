/* whisper_ggml.c - the one-file form of whisper.cpp
 *
 *      0  u32 0x67676d6c, "ggml" backwards
 *      4  i32 n_vocab, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_text_ctx, n_text_state, n_text_head, n_text_layer, n_mels, ftype
 *     48  i32 n_mels, i32 n_bins, then float32 [n_mels][n_bins]: the mel filters
 *         i32 n_words, then of each: u32 n_bytes, bytes: the vocabulary without its markers
 *         until the end, tensors: i32 n_dims, i32 n_name, i32 type, i32 dims[n_dims] (fastest first), name, data
 *
 * The words are in the order in which byte-pair encoding made them, which is all that OpenAI's tokenizer (tiktoken) knows: it joins the two neighbours
 * whose union comes first. Hugging Face's form wants the pair as well. A word's pair is what is left of it when only words before it are joined, so
 * the list of merges can be found again, and the tokenizer of tokenizer.json serves both.
 *
 * Files that early versions wrote have U+FFFD for each byte that is no character by itself. The first 256 words are single bytes in a known order, so these
 * are put right; longer ones cannot be, and are then only lost to who writes prompts.
 *
 * Ids of markers are not in the file: they follow the words (whisper_open.c). */
#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "models/whisper_impl.h"

enum { MAGIC = 0x67676d6c, MAX_WORDS = 1 << 20, MAX_WORD = 512, MAX_TENSORS = 4096, MAX_NAME = 128, MAX_JSON = 64 << 20 };

typedef struct reader { const uint8_t *p; size_t n, at; } reader;

static bool take(reader *r, void *out, size_t n)
{
    if (n > r->n - r->at)
        return false;
    memcpy(out, r->p + r->at, n);
    r->at += n;
    return true;
}

bool wsp_ggml_is(const void *bytes, size_t n)
{
    uint32_t magic = 0;
    if (n >= 48)
        memcpy(&magic, bytes, sizeof magic);
    return magic == MAGIC;
}

static sv_rc read_filters(wsp_ggml *g, reader *r, sv_err *err)
{
    int32_t shape[2];
    if (!take(r, shape, sizeof shape))
        return sv_fail(err, SV_EFORMAT, "the file ends before the mel filters");
    if (shape[0] != g->n_mels || shape[1] != SV_MEL_BINS)
        return sv_fail(err, SV_EFORMAT, "mel filters [%d, %d], wanted [%d, %d]", shape[0], shape[1], g->n_mels, SV_MEL_BINS);
    size_t n_bytes = (size_t)g->n_mels * SV_MEL_BINS * sizeof(float);
    if (n_bytes > r->n - r->at)
        return sv_fail(err, SV_EFORMAT, "the file ends inside the mel filters");
    g->filters = r->p + r->at;
    r->at += n_bytes;
    return SV_OK;
}

static sv_rc read_words(wsp_ggml *g, reader *r, sv_err *err)
{
    if (!take(r, &g->n_words, sizeof g->n_words) || g->n_words < 1 || g->n_words > MAX_WORDS || (size_t)g->n_words > (r->n - r->at) / 4)
        return sv_fail(err, SV_EFORMAT, "the vocabulary says it has %d words", g->n_words);
    g->words = sv_try_calloc((size_t)g->n_words, sizeof *g->words);
    if (!g->words)
        return sv_fail(err, SV_ENOMEM, "no memory for a vocabulary of %d words", g->n_words);
    for (int32_t i = 0; i < g->n_words; i++) {
        uint32_t n;
        if (!take(r, &n, sizeof n) || n > MAX_WORD || n > r->n - r->at)
            return sv_fail(err, SV_EFORMAT, "word %d of the vocabulary goes beyond the file, or has more than %d bytes", i, MAX_WORD);
        g->words[i] = (sv_str){(const char *)r->p + r->at, n};
        r->at += n;
    }
    return SV_OK;
}

static sv_rc read_tensor(wsp_ggml *g, reader *r, sv_err *err)
{
    int32_t head[3], dims[4] = {1, 1, 1, 1};
    char name[MAX_NAME];
    if (!take(r, head, sizeof head) || head[0] < 1 || head[0] > 4 || head[1] < 1 || head[1] >= MAX_NAME || !take(r, dims, (size_t)head[0] * sizeof *dims) ||
        !take(r, name, (size_t)head[1]))
        return sv_fail(err, SV_EFORMAT, "a tensor's head at byte %zu makes no sense", r->at);
    name[head[1]] = 0;
    if (memchr(name, 0, (size_t)head[1]))
        return sv_fail(err, SV_EFORMAT, "a tensor's name at byte %zu has a NUL in it", r->at);
    const sv_type_info *type = sv_type_get((uint32_t)head[2]);
    if (!type->name)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' has the unknown type %d", name, head[2]);
    sv_tensor t = {.type = (sv_type)head[2], .n_dims = head[0], .data = r->p + r->at};
    int64_t n = 1;
    for (int k = 0; k < 4; k++) {
        if (dims[k] < 1 || n > INT64_MAX / 16 / dims[k])
            return sv_fail(err, SV_EFORMAT, "tensor '%s': dimension %d is %d", name, k, dims[k]);
        t.dims[k] = dims[k];
        n *= dims[k];
    }
    if (dims[0] % type->block != 0)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': rows of %d are no whole blocks of %s", name, dims[0], type->name);
    if ((uint64_t)(n / type->block) > (r->n - r->at) / (size_t)type->block_bytes)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' goes beyond the file", name);
    t.n_bytes = sv_type_bytes(t.type, n);
    r->at += t.n_bytes;
    if (sv_gguf_tensor(g->tensors, name))
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is there twice", name);
    sv_gguf_put_tensor(g->tensors, name, &t);
    return SV_OK;
}

static sv_rc parse(wsp_ggml *g, reader r, sv_err *err)
{
    int32_t head[12];
    if (!wsp_ggml_is(r.p, r.n) || !take(&r, head, sizeof head))
        return sv_fail(err, SV_EFORMAT, "not a file of whisper.cpp");
    memcpy(&g->n_vocab, head + 1, 11 * sizeof *head);
    if (g->n_mels < 1 || g->n_mels > SV_MEL_MAX)
        return sv_fail(err, SV_EFORMAT, "%d mels, from 1 to %d are read", g->n_mels, SV_MEL_MAX);
    if (read_filters(g, &r, err) != SV_OK || read_words(g, &r, err) != SV_OK)
        return err->code;
    g->tensors = sv_gguf_new(1, MAX_TENSORS);
    for (int32_t n = 0; r.at < r.n; n++) {
        if (n == MAX_TENSORS)
            return sv_fail(err, SV_EFORMAT, "more than %d tensors", MAX_TENSORS);
        if (read_tensor(g, &r, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

sv_rc wsp_ggml_parse(wsp_ggml **out, const void *bytes, size_t n, sv_err *err)
{
    SV_AUTO(wsp_ggml_closep) wsp_ggml *g = sv_xnew0(wsp_ggml);
    if (parse(g, (reader){.p = bytes, .n = n}, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(g);
    return SV_OK;
}

sv_rc wsp_ggml_open(wsp_ggml **out, const char *path, sv_err *err)
{
    sv_map map = {0};
    if (sv_map_open(&map, path, err) != SV_OK)
        return err->code;
    if (wsp_ggml_parse(out, map.p, map.n, err) != SV_OK) {
        sv_map_close(&map);
        return sv_wrap(err, "'%s'", path);
    }
    (*out)->map = map;
    return SV_OK;
}

wsp_ggml *wsp_ggml_close(wsp_ggml *g)
{
    if (g) {
        sv_gguf_close(g->tensors);
        free(g->words);
        sv_map_close(&g->map);
    }
    free(g);
    return NULL;
}

/* --- the tokenizer ------------------------------------------------------------------------------------------------ */

/* The characters that stand for bytes in Hugging Face's byte-level vocabularies: printable ones for themselves, the others in order from U+0100. */
static void add_visible(sv_buf *b, sv_str word)
{
    for (size_t i = 0; i < word.n; i++) {
        unsigned c = (uint8_t)word.p[i], u = c;
        if (c <= 32)
            u = 256 + c;
        else if (c >= 127 && c <= 160)
            u = 256 + 33 + c - 127;
        else if (c == 173)
            u = 256 + 33 + 34;
        if (u == '"' || u == '\\')
            sv_buf_addc(b, '\\');
        if (u < 128) {
            sv_buf_addc(b, (char)u);
        } else {
            sv_buf_addc(b, (char)(0xc0 | u >> 6));
            sv_buf_addc(b, (char)(0x80 | (u & 63)));
        }
    }
}

/* Word i; of the first 256, in case it is a lost byte, the byte: those that are printable, then the others. */
static sv_str word_at(const wsp_ggml *g, int32_t i, char byte[1])
{
    int32_t n = 0;
    if (i >= 256 || !sv_str_is(g->words[i], "\xef\xbf\xbd"))
        return g->words[i];
    for (int pass = 0; pass < 2; pass++)
        for (int c = 0; c < 256; c++) {
            bool printable = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174;
            if (printable == (pass == 0) && n++ == i)
                byte[0] = (char)c;
        }
    return (sv_str){byte, 1};
}

static int64_t rank_of(const sv_smap *ranks, const char *p, size_t n)
{
    return (int64_t)(uintptr_t)sv_smap_get(ranks, (sv_str){p, n}) - 1;
}

/* Where the word's last two parts meet; 0: it is not made of words before it. */
static size_t split_of(const sv_smap *ranks, sv_str w, int64_t own)
{
    uint16_t ends[MAX_WORD + 1]; /* ends[i]: where part i ends; part 0 is empty */
    size_t n = w.n;
    for (size_t i = 0; i <= n; i++)
        ends[i] = (uint16_t)i;
    while (n > 2) {
        int64_t best = own;
        size_t at = 0;
        for (size_t i = 1; i < n; i++) {
            int64_t r = rank_of(ranks, w.p + ends[i - 1], (size_t)(ends[i + 1] - ends[i - 1]));
            if (r >= 0 && r < best) {
                best = r;
                at = i;
            }
        }
        if (at == 0)
            return 0;
        memmove(ends + at, ends + at + 1, (n - at) * sizeof *ends);
        n--;
    }
    return ends[1];
}

sv_rc wsp_ggml_tokenizer(sv_tokenizer **out, const wsp_ggml *g, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf json;
    sv_smap *ranks = sv_smap_new();
    char byte[1];
    sv_buf_init(&json, MAX_JSON);
    sv_buf_adds(&json, "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
                       "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int32_t i = 0; i < g->n_words; i++) {
        sv_str w = word_at(g, i, byte);
        sv_buf_adds(&json, i ? ",\"" : "\"");
        if (w.n == 0 || sv_smap_get(ranks, w)) { /* a gap in the ids */
            sv_buf_addf(&json, "<|unused %d|>", i);
        } else {
            add_visible(&json, w);
            (void)sv_smap_put(ranks, w, (void *)(uintptr_t)(i + 1));
        }
        sv_buf_addf(&json, "\":%d", i);
    }
    sv_buf_adds(&json, "},\"merges\":[");
    bool first = true;
    for (int32_t i = 0; i < g->n_words; i++) {
        sv_str w = word_at(g, i, byte);
        size_t split = w.n >= 2 && rank_of(ranks, w.p, w.n) == i ? split_of(ranks, w, i) : 0;
        if (split == 0 || rank_of(ranks, w.p, split) < 0 || rank_of(ranks, w.p + split, w.n - split) < 0)
            continue;
        sv_buf_adds(&json, first ? "\"" : ",\"");
        add_visible(&json, (sv_str){w.p, split});
        sv_buf_addc(&json, ' ');
        add_visible(&json, (sv_str){w.p + split, w.n - split});
        sv_buf_addc(&json, '"');
        first = false;
    }
    sv_smap_free(ranks);
    sv_buf_adds(&json, "]}}");
    if (json.failed)
        return sv_fail(err, SV_EFORMAT, "the vocabulary's words have more than %d MiB", MAX_JSON >> 20);
    return sv_tokenizer_from_json(out, sv_buf_str(&json), (sv_str){0}, err) == SV_OK ? SV_OK : sv_wrap(err, "the vocabulary");
}
