/* whisper_open.c - opens Whisper models: hyper-parameters, tensors, markers
 *
 * Hugging Face's folders and whisper.cpp's files say the same under other names; `names` has both spellings of each tensor. All that is checked here,
 * every shape against the hyper-parameters, so that a run checks nothing.
 *
 * Markers (start of transcript, languages, times) have ids behind the words. A folder names them in tokenizer.json and generation_config.json; of
 * whisper.cpp's file they are counted: an English-only vocabulary ends with the end of text, of the others that is the first id behind the words; then
 * come the start, the languages, six markers, and a time for each state of the encoder and one more. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "models/files.h"
#include "models/whisper_impl.h"

enum { MAX_CONFIG = 4 << 20, MAX_TOKENIZER = 128 << 20, MAX_LAYERS = 256, MAX_HEADS = 256, MAX_CTX = 1 << 14, MAX_TEXT_CTX = 1 << 12, MAX_NAME = 128,
       MAX_ALIGN = 64, MAX_SUPPRESS = 4096 };

/* --- which model -------------------------------------------------------------------------------------------------- */

static sv_rc read_text(sv_buf *out, const char *folder, const char *name, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    return sv_file_read(out, path, err);
}

static sv_rc read_json(json_t **out, const char *folder, const char *name, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, MAX_CONFIG);
    if (read_text(&text, folder, name, err) != SV_OK)
        return err->code;
    return sv_json_parse(out, sv_buf_str(&text), err) == SV_OK ? SV_OK : sv_wrap(err, "'%s/%s'", folder, name);
}

static bool is_ggml_file(const char *path)
{
    char head[48];
    FILE *f = fopen(path, "rbe");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        (void)fclose(f);
    return wsp_ggml_is(head, n);
}

bool sv_whisper_is(const char *path)
{
    sv_err ignored = {0};
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_freep) char *file = sv_xasprintf("%s/config.json", path);
    if (!sv_file_exists(file))
        return is_ggml_file(path);
    const char *type = read_json(&config, path, "config.json", &ignored) == SV_OK ? sv_json_cstr(config, "model_type") : NULL;
    return type && strcmp(type, "whisper") == 0;
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

typedef struct naming { const char *hf, *ggml; } naming;
static const naming n_conv1 = {"model.encoder.conv1", "encoder.conv1"}, n_conv2 = {"model.encoder.conv2", "encoder.conv2"},
                    n_audio_position = {"model.encoder.embed_positions.weight", "encoder.positional_embedding"},
                    n_text_position = {"model.decoder.embed_positions.weight", "decoder.positional_embedding"},
                    n_token = {"model.decoder.embed_tokens.weight", "decoder.token_embedding.weight"},
                    n_audio_norm = {"model.encoder.layer_norm", "encoder.ln_post"}, n_text_norm = {"model.decoder.layer_norm", "decoder.ln"},
                    n_layer[2] = {{"model.encoder.layers.%d.", "encoder.blocks.%d."}, {"model.decoder.layers.%d.", "decoder.blocks.%d."}},
                    n_self = {"self_attn", "attn"}, n_cross = {"encoder_attn", "cross_attn"}, n_ffn_norm = {"final_layer_norm", "mlp_ln"},
                    n_up = {"fc1", "mlp.0"}, n_down = {"fc2", "mlp.2"};

static const char *spelled(const sv_whisper *m, const naming *n) { return m->ggml ? n->ggml : n->hf; }

static const sv_tensor *by_name(const sv_whisper *m, const char *name)
{
    return m->ggml ? sv_gguf_tensor(m->ggml->tensors, name) : sv_safetensors_tensor(m->files, name);
}

/* Of n_out rows of n_in numbers, however many dimensions say so: convolutions have [n_out, n, 3], biases may be columns. */
static sv_rc find(const sv_whisper *m, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = by_name(m, name);
    if (!t)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is missing", name);
    int64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3], row = t->dims[0];
    for (int k = 1; k < 4 && row < n_in; k++)
        row *= t->dims[k];
    if (n != n_in * n_out || (n_out > 1 && row != n_in))
        return sv_fail(err, SV_EFORMAT, "tensor '%s': shape [%" PRId64 ", %" PRId64 ", %" PRId64 "], wanted %" PRId64 " rows of %" PRId64, name, t->dims[0],
                       t->dims[1], t->dims[2], n_out, n_in);
    if (!sv_type_get(t->type)->computable || n_in % sv_type_get(t->type)->block != 0)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': type %s is not supported", name, sv_type_get(t->type)->name);
    *out = t;
    return SV_OK;
}

static sv_rc vector(sv_whisper *m, const char *name, int64_t n, const float **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return find(m, name, n, 1, &t, err) == SV_OK ? sv_held_vector(&m->held, t, n, out, err) : err->code;
}

static sv_rc matrix(sv_whisper *m, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return find(m, name, n_in, n_out, &t, err) == SV_OK ? sv_held_matrix(&m->held, t, n_in, n_out, out, err) : err->code;
}

static sv_rc dense(sv_whisper *m, const char *stem, int64_t n_in, int64_t n_out, bool biased, wsp_dense *out, sv_err *err)
{
    char name[2 * MAX_NAME];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (matrix(m, name, n_in, n_out, &out->w, err) != SV_OK)
        return err->code;
    snprintf(name, sizeof name, "%s.bias", stem);
    return biased ? vector(m, name, n_out, &out->b, err) : SV_OK;
}

static sv_rc norm(sv_whisper *m, const char *stem, wsp_norm *out, sv_err *err)
{
    char name[2 * MAX_NAME];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (vector(m, name, m->info.n_audio_state, &out->w, err) != SV_OK)
        return err->code;
    snprintf(name, sizeof name, "%s.bias", stem);
    return vector(m, name, m->info.n_audio_state, &out->b, err);
}

static sv_rc attention(sv_whisper *m, const char *layer, const naming *which, wsp_attn *a, sv_err *err)
{
    static const naming leaves[4] = {{"q_proj", "query"}, {"k_proj", "key"}, {"v_proj", "value"}, {"out_proj", "out"}};
    wsp_dense *to[4] = {&a->q, &a->k, &a->v, &a->o};
    char stem[MAX_NAME];
    int64_t d = m->info.n_audio_state;
    for (int i = 0; i < 4; i++) {
        snprintf(stem, sizeof stem, "%s%s.%s", layer, spelled(m, which), spelled(m, &leaves[i]));
        if (dense(m, stem, d, d, i != 1, to[i], err) != SV_OK)
            return err->code;
    }
    snprintf(stem, sizeof stem, "%s%s", layer, spelled(m, which));
    strcat(stem, m->ggml ? "_ln" : "_layer_norm");
    return norm(m, stem, &a->norm, err);
}

static sv_rc read_layer(sv_whisper *m, bool is_text, int32_t i, wsp_layer *l, sv_err *err)
{
    char layer[MAX_NAME / 2], stem[MAX_NAME];
    const char *fmt = spelled(m, &n_layer[is_text]), *at = strstr(fmt, "%d");
    int64_t d = m->info.n_audio_state, n_ff = is_text ? m->info.n_text_ff : m->info.n_audio_ff;
    snprintf(layer, sizeof layer, "%.*s%d%s", (int)(at - fmt), fmt, i, at + 2);
    if (attention(m, layer, &n_self, &l->self, err) != SV_OK || (is_text && attention(m, layer, &n_cross, &l->cross, err) != SV_OK))
        return err->code;
    snprintf(stem, sizeof stem, "%s%s", layer, spelled(m, &n_ffn_norm));
    if (norm(m, stem, &l->ffn_norm, err) != SV_OK)
        return err->code;
    snprintf(stem, sizeof stem, "%s%s", layer, spelled(m, &n_up));
    if (dense(m, stem, d, n_ff, true, &l->up, err) != SV_OK)
        return err->code;
    snprintf(stem, sizeof stem, "%s%s", layer, spelled(m, &n_down));
    return dense(m, stem, n_ff, d, true, &l->down, err);
}

static sv_rc read_tensors(sv_whisper *m, sv_err *err)
{
    const sv_whisper_info *i = &m->info;
    int64_t d = i->n_audio_state;
    m->audio = sv_xcalloc((size_t)i->n_audio_layer, sizeof *m->audio);
    m->text = sv_xcalloc((size_t)i->n_text_layer, sizeof *m->text);
    if (dense(m, spelled(m, &n_conv1), 3 * (int64_t)i->n_mels, d, true, &m->conv1, err) != SV_OK ||
        dense(m, spelled(m, &n_conv2), 3 * d, d, true, &m->conv2, err) != SV_OK ||
        matrix(m, spelled(m, &n_audio_position), d, i->n_audio_ctx, &m->audio_position, err) != SV_OK ||
        matrix(m, spelled(m, &n_text_position), d, i->n_text_ctx, &m->text_position, err) != SV_OK ||
        matrix(m, spelled(m, &n_token), d, i->n_vocab, &m->token_embd, err) != SV_OK || norm(m, spelled(m, &n_audio_norm), &m->audio_norm, err) != SV_OK ||
        norm(m, spelled(m, &n_text_norm), &m->text_norm, err) != SV_OK)
        return err->code;
    for (int32_t k = 0; k < i->n_audio_layer; k++)
        if (read_layer(m, false, k, &m->audio[k], err) != SV_OK)
            return err->code;
    for (int32_t k = 0; k < i->n_text_layer; k++)
        if (read_layer(m, true, k, &m->text[k], err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* --- hyper-parameters --------------------------------------------------------------------------------------------- */

static sv_rc whole(const json_t *c, const char *key, int64_t max, int32_t *out, sv_err *err)
{
    int64_t v = -1;
    if (sv_json_int(c, key, 1, max, &v, err) != SV_OK)
        return err->code;
    if (v < 0)
        return sv_fail(err, SV_EFORMAT, "'%s' is missing", key);
    *out = (int32_t)v;
    return SV_OK;
}

static sv_rc check(const sv_whisper_info *i, sv_err *err)
{
    const struct { const char *name; int32_t v, min, max; } all[] = {
        {"mels", i->n_mels, 1, SV_MEL_MAX}, {"states of the encoder", i->n_audio_ctx, 1, MAX_CTX}, {"numbers of a state", i->n_audio_state, 1, SV_MAX_ROW / 4},
        {"heads of the encoder", i->n_audio_head, 1, MAX_HEADS}, {"layers of the encoder", i->n_audio_layer, 1, MAX_LAYERS},
        {"numbers of a feed-forward layer", i->n_audio_ff, 1, SV_MAX_ROW}, {"numbers of a feed-forward layer", i->n_text_ff, 1, SV_MAX_ROW},
        {"words", i->n_vocab, 16, 1 << 20}, {"places for text", i->n_text_ctx, 8, MAX_TEXT_CTX}, {"heads of the decoder", i->n_text_head, 1, MAX_HEADS},
        {"layers of the decoder", i->n_text_layer, 1, MAX_LAYERS},
    };
    for (size_t k = 0; k < SV_LEN(all); k++)
        if (all[k].v < all[k].min || all[k].v > all[k].max)
            return sv_fail(err, SV_EFORMAT, "%d %s, from %d to %d are read", all[k].v, all[k].name, all[k].min, all[k].max);
    int32_t d = i->n_audio_state;
    if (d % i->n_audio_head || d % i->n_text_head || d / i->n_audio_head > SV_MAX_HEAD_DIM || d / i->n_text_head > SV_MAX_HEAD_DIM)
        return sv_fail(err, SV_EFORMAT, "states of %d do not divide among %d and %d heads of at most %d", d, i->n_audio_head, i->n_text_head, SV_MAX_HEAD_DIM);
    return SV_OK;
}

static sv_rc read_config(sv_whisper *m, const json_t *c, sv_err *err)
{
    sv_whisper_info *i = &m->info;
    const char *act = sv_json_cstr(c, "activation_function");
    bool scaled = false;
    if (act && strcmp(act, "gelu") != 0)
        return sv_fail(err, SV_EFORMAT, "'activation_function': '%.40s' is not supported", act);
    if (sv_json_bool(c, "scale_embedding", &scaled, err) != SV_OK)
        return err->code;
    if (scaled)
        return sv_fail(err, SV_EFORMAT, "'scale_embedding': true is not supported");
    if (whole(c, "num_mel_bins", SV_MEL_MAX, &i->n_mels, err) != SV_OK || whole(c, "d_model", SV_MAX_ROW / 4, &i->n_audio_state, err) != SV_OK ||
        whole(c, "encoder_layers", MAX_LAYERS, &i->n_audio_layer, err) != SV_OK ||
        whole(c, "encoder_attention_heads", MAX_HEADS, &i->n_audio_head, err) != SV_OK ||
        whole(c, "encoder_ffn_dim", SV_MAX_ROW, &i->n_audio_ff, err) != SV_OK || whole(c, "decoder_layers", MAX_LAYERS, &i->n_text_layer, err) != SV_OK ||
        whole(c, "decoder_attention_heads", MAX_HEADS, &i->n_text_head, err) != SV_OK ||
        whole(c, "decoder_ffn_dim", SV_MAX_ROW, &i->n_text_ff, err) != SV_OK || whole(c, "max_source_positions", MAX_CTX, &i->n_audio_ctx, err) != SV_OK ||
        whole(c, "max_target_positions", MAX_TEXT_CTX, &i->n_text_ctx, err) != SV_OK || whole(c, "vocab_size", 1 << 20, &i->n_vocab, err) != SV_OK)
        return err->code;
    return check(i, err);
}

static sv_rc read_head(sv_whisper *m, sv_err *err)
{
    const wsp_ggml *g = m->ggml;
    if (g->n_audio_state != g->n_text_state)
        return sv_fail(err, SV_EFORMAT, "states of %d in the encoder and %d in the decoder", g->n_audio_state, g->n_text_state);
    if (g->n_audio_state < 1 || g->n_audio_state > SV_MAX_ROW / 4)
        return sv_fail(err, SV_EFORMAT, "states of %d numbers", g->n_audio_state);
    m->info = (sv_whisper_info){
        .n_mels = g->n_mels, .n_audio_ctx = g->n_audio_ctx, .n_audio_state = g->n_audio_state, .n_audio_head = g->n_audio_head,
        .n_audio_layer = g->n_audio_layer, .n_audio_ff = 4 * g->n_audio_state, .n_vocab = g->n_vocab, .n_text_ctx = g->n_text_ctx,
        .n_text_head = g->n_text_head, .n_text_layer = g->n_text_layer, .n_text_ff = 4 * g->n_audio_state};
    return check(&m->info, err);
}

/* --- languages ---------------------------------------------------------------------------------------------------- */

/* In the order of their ids. */
static const struct { const char *code, *name; } languages[] = {
    {"en", "english"}, {"zh", "chinese"}, {"de", "german"}, {"es", "spanish"}, {"ru", "russian"}, {"ko", "korean"}, {"fr", "french"},
    {"ja", "japanese"}, {"pt", "portuguese"}, {"tr", "turkish"}, {"pl", "polish"}, {"ca", "catalan"}, {"nl", "dutch"},
    {"ar", "arabic"}, {"sv", "swedish"}, {"it", "italian"}, {"id", "indonesian"}, {"hi", "hindi"}, {"fi", "finnish"},
    {"vi", "vietnamese"}, {"he", "hebrew"}, {"uk", "ukrainian"}, {"el", "greek"}, {"ms", "malay"}, {"cs", "czech"}, {"ro", "romanian"},
    {"da", "danish"}, {"hu", "hungarian"}, {"ta", "tamil"}, {"no", "norwegian"}, {"th", "thai"}, {"ur", "urdu"}, {"hr", "croatian"},
    {"bg", "bulgarian"}, {"lt", "lithuanian"}, {"la", "latin"}, {"mi", "maori"}, {"ml", "malayalam"}, {"cy", "welsh"},
    {"sk", "slovak"}, {"te", "telugu"}, {"fa", "persian"}, {"lv", "latvian"}, {"bn", "bengali"}, {"sr", "serbian"},
    {"az", "azerbaijani"}, {"sl", "slovenian"}, {"kn", "kannada"}, {"et", "estonian"}, {"mk", "macedonian"}, {"br", "breton"},
    {"eu", "basque"}, {"is", "icelandic"}, {"hy", "armenian"}, {"ne", "nepali"}, {"mn", "mongolian"}, {"bs", "bosnian"},
    {"kk", "kazakh"}, {"sq", "albanian"}, {"sw", "swahili"}, {"gl", "galician"}, {"mr", "marathi"}, {"pa", "punjabi"},
    {"si", "sinhala"}, {"km", "khmer"}, {"sn", "shona"}, {"yo", "yoruba"}, {"so", "somali"}, {"af", "afrikaans"}, {"oc", "occitan"},
    {"ka", "georgian"}, {"be", "belarusian"}, {"tg", "tajik"}, {"sd", "sindhi"}, {"gu", "gujarati"}, {"am", "amharic"},
    {"yi", "yiddish"}, {"lo", "lao"}, {"uz", "uzbek"}, {"fo", "faroese"}, {"ht", "haitian creole"}, {"ps", "pashto"},
    {"tk", "turkmen"}, {"nn", "nynorsk"}, {"mt", "maltese"}, {"sa", "sanskrit"}, {"lb", "luxembourgish"}, {"my", "myanmar"},
    {"bo", "tibetan"}, {"tl", "tagalog"}, {"mg", "malagasy"}, {"as", "assamese"}, {"tt", "tatar"}, {"haw", "hawaiian"},
    {"ln", "lingala"}, {"ha", "hausa"}, {"ba", "bashkir"}, {"jw", "javanese"}, {"su", "sundanese"}, {"yue", "cantonese"},
};

const char *sv_whisper_lang_name(const char *code)
{
    for (size_t i = 0; i < SV_LEN(languages); i++)
        if (strcasecmp(languages[i].code, code) == 0)
            return languages[i].name;
    return NULL;
}

int32_t sv_whisper_find_lang(const sv_whisper *m, sv_str name)
{
    for (int32_t i = 0; i < m->info.n_langs; i++) {
        const char *code = m->tokens.codes[i], *full = sv_whisper_lang_name(code);
        if (sv_str_ieq(name, code) || (full && sv_str_ieq(name, full)))
            return i;
    }
    return -1;
}

static void add_lang(sv_whisper *m, const char *code, int32_t id)
{
    int32_t n = m->info.n_langs;
    if (n == SV_WHISPER_MAX_LANGS)
        return;
    snprintf(m->tokens.codes[n], sizeof m->tokens.codes[n], "%s", code);
    m->tokens.langs[n] = id;
    m->info.n_langs++;
}

/* --- markers ------------------------------------------------------------------------------------------------------ */

/* The one id that a marker's text has; -1: it is no marker. */
static int32_t marker(const sv_whisper *m, const char *text)
{
    sv_tokens t = {0};
    sv_err ignored = {0};
    int32_t id = -1;
    if (sv_tokenizer_encode(m->tokenizer, sv_str_of(text), SV_TOK_SPECIAL, 64, &t, &ignored) == SV_OK && t.n == 1 && t.v[0] < m->info.n_vocab)
        id = t.v[0];
    free(t.v);
    return id;
}

static sv_rc name_markers(sv_whisper *m, sv_err *err)
{
    sv_whisper_tokens *t = &m->tokens;
    const struct { const char *text, *other; int32_t *id; } all[] = {
        {"<|endoftext|>", NULL, &t->eot}, {"<|startoftranscript|>", NULL, &t->sot}, {"<|translate|>", NULL, &t->translate},
        {"<|transcribe|>", NULL, &t->transcribe}, {"<|startoflm|>", NULL, &t->sot_lm}, {"<|startofprev|>", NULL, &t->sot_prev},
        {"<|nospeech|>", "<|nocaptions|>", &t->no_speech}, {"<|notimestamps|>", NULL, &t->no_timestamps},
    };
    for (size_t i = 0; i < SV_LEN(all); i++) {
        *all[i].id = marker(m, all[i].text);
        if (*all[i].id < 0 && all[i].other)
            *all[i].id = marker(m, all[i].other);
        if (*all[i].id < 0)
            return sv_fail(err, SV_EFORMAT, "the tokenizer has no marker %s", all[i].text);
    }
    t->timestamp = t->no_timestamps + 1;
    for (size_t i = 0; i < SV_LEN(languages); i++) {
        char text[24];
        snprintf(text, sizeof text, "<|%s|>", languages[i].code);
        int32_t id = marker(m, text);
        if (id >= 0)
            add_lang(m, languages[i].code, id);
    }
    m->info.multilingual = t->eot != 50256; /* the last word of GPT-2's vocabulary, which the English-only ones have */
    return SV_OK;
}

static sv_rc count_markers(sv_whisper *m, sv_err *err)
{
    const wsp_ggml *g = m->ggml;
    sv_whisper_tokens *t = &m->tokens;
    bool english = sv_str_is(g->words[g->n_words - 1], "<|endoftext|>");
    t->eot = g->n_words - english;
    t->sot = t->eot + 1;
    int32_t n_langs = g->n_vocab - t->sot - 7 - (g->n_audio_ctx + 1);
    if (n_langs < 0 || n_langs > (int32_t)SV_LEN(languages))
        return sv_fail(err, SV_EFORMAT, "%d ids, %d words and %d states leave %d for languages, from 0 to %zu are known", g->n_vocab, g->n_words, g->n_audio_ctx,
                       n_langs, SV_LEN(languages));
    for (int32_t i = 0; i < n_langs; i++)
        add_lang(m, languages[i].code, t->sot + 1 + i);
    t->translate = t->sot + 1 + n_langs;
    t->transcribe = t->translate + 1;
    t->sot_lm = t->translate + 2;
    t->sot_prev = t->translate + 3;
    t->no_speech = t->translate + 4;
    t->no_timestamps = t->translate + 5;
    t->timestamp = t->translate + 6;
    m->info.multilingual = !english;
    return SV_OK;
}

static sv_rc check_markers(const sv_whisper *m, sv_err *err)
{
    const sv_whisper_tokens *t = &m->tokens;
    if (t->timestamp > m->info.n_vocab - m->info.n_audio_ctx - 1)
        return sv_fail(err, SV_EFORMAT, "%d ids leave no room for the times of %d states", m->info.n_vocab, m->info.n_audio_ctx);
    if (m->info.multilingual && m->info.n_langs == 0)
        return sv_fail(err, SV_EFORMAT, "the tokenizer has no languages");
    if (sv_tokenizer_n_vocab(m->tokenizer) > m->info.n_vocab)
        return sv_fail(err, SV_EFORMAT, "the tokenizer has %d tokens, the model %d", sv_tokenizer_n_vocab(m->tokenizer), m->info.n_vocab);
    if (t->eot >= t->timestamp || t->sot >= t->timestamp)
        return sv_fail(err, SV_EFORMAT, "the markers' ids lie among the times");
    return SV_OK;
}

/* --- what is never written ---------------------------------------------------------------------------------------- */

static void add_id(wsp_ids *ids, int64_t id, int32_t n_vocab)
{
    if (id < 0 || id >= n_vocab || ids->n >= MAX_SUPPRESS)
        return;
    for (size_t i = 0; i < ids->n; i++)
        if (ids->v[i] == id)
            return;
    ids->v = sv_xrealloc(ids->v, ids->n + 1, sizeof *ids->v);
    ids->v[ids->n++] = (int32_t)id;
}

/* The first id of the text, where it is its only one or `first` will do. */
static void add_text(const sv_whisper *m, wsp_ids *ids, const char *before, const char *text, bool first)
{
    SV_AUTO(sv_freep) char *all = sv_xasprintf("%s%s", before, text);
    sv_tokens t = {0};
    sv_err ignored = {0};
    if (sv_tokenizer_encode(m->tokenizer, sv_str_of(all), 0, 64, &t, &ignored) == SV_OK && t.n > 0 && (first || t.n == 1))
        add_id(ids, t.v[0], m->info.n_vocab);
    free(t.v);
}

/* Signs that are read and not spoken: brackets, notes, speakers' dashes. Of the notes the first id will do: their characters begin alike. */
static void suppress_signs(sv_whisper *m)
{
    static const char *const signs[] = {
        "\"", "#", "(", ")", "*", "+", "/", ":", ";", "<", "=", ">", "@", "[", "\\", "]", "^", "_", "`", "{", "|", "}", "~", "「", "」", "『", "』",
        "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", "(\"", "((", "))", "(((", ")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪"};
    static const char *const notes[] = {"♩", "♪", "♫", "♬", "♭", "♮", "♯"};
    add_text(m, &m->suppress, " ", "-", true);
    add_text(m, &m->suppress, " ", "'", true);
    for (size_t i = 0; i < SV_LEN(signs); i++) {
        add_text(m, &m->suppress, "", signs[i], false);
        add_text(m, &m->suppress, " ", signs[i], false);
    }
    for (size_t i = 0; i < SV_LEN(notes); i++) {
        add_text(m, &m->suppress, "", notes[i], true);
        add_text(m, &m->suppress, " ", notes[i], true);
    }
}

static void suppress_markers(sv_whisper *m)
{
    const sv_whisper_tokens *t = &m->tokens;
    const int32_t ids[] = {t->translate, t->transcribe, t->sot, t->sot_prev, t->sot_lm, t->no_speech};
    for (size_t i = 0; i < SV_LEN(ids); i++)
        add_id(&m->suppress, ids[i], m->info.n_vocab);
}

static void add_list(const sv_whisper *m, wsp_ids *ids, const json_t *list)
{
    const json_t *v;
    size_t i;
    json_array_foreach(list, i, v)
        if (json_is_integer(v))
            add_id(ids, json_integer_value(v), m->info.n_vocab);
}

enum { MAX_KNOWN = 20 };
/* The heads that OpenAI found to follow the sound (its whisper/__init__.py), for files that do not say them. v1 and v2 of large cannot be told apart. */
static const struct { int32_t n_layer, n_head, n_vocab, n; wsp_head heads[MAX_KNOWN]; } known_heads[] = {
    {4, 6, 51864, 8, {{1, 0}, {2, 0}, {2, 5}, {3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 4}}}, /* tiny.en */
    {4, 6, 51865, 6, {{2, 2}, {3, 0}, {3, 2}, {3, 3}, {3, 4}, {3, 5}}}, /* tiny */
    {6, 8, 51864, 5, {{3, 3}, {4, 7}, {5, 1}, {5, 5}, {5, 7}}}, /* base.en */
    {6, 8, 51865, 8, {{3, 1}, {4, 2}, {4, 3}, {4, 7}, {5, 1}, {5, 2}, {5, 4}, {5, 6}}}, /* base */
    {12, 12, 51864, 19, {{6, 6}, {7, 0}, {7, 3}, {7, 8}, {8, 2}, {8, 5}, {8, 7}, {9, 0}, {9, 4}, {9, 8}, {9, 10}, {10, 0}, {10, 1}, {10, 2},
      {10, 3}, {10, 6}, {10, 11}, {11, 2}, {11, 4}}}, /* small.en */
    {12, 12, 51865, 10, {{5, 3}, {5, 9}, {8, 0}, {8, 4}, {8, 7}, {8, 8}, {9, 0}, {9, 7}, {9, 9}, {10, 5}}}, /* small */
    {24, 16, 51864, 18, {{11, 4}, {14, 1}, {14, 12}, {14, 14}, {15, 4}, {16, 0}, {16, 4}, {16, 9}, {17, 12}, {17, 14}, {18, 7}, {18, 10},
      {18, 15}, {20, 0}, {20, 3}, {20, 9}, {20, 14}, {21, 12}}}, /* medium.en */
    {24, 16, 51865, 6, {{13, 15}, {15, 4}, {15, 15}, {16, 1}, {20, 0}, {23, 4}}}, /* medium */
    {32, 20, 51866, 10, {{7, 0}, {10, 17}, {12, 18}, {13, 12}, {16, 1}, {17, 14}, {19, 11}, {21, 4}, {24, 1}, {25, 6}}}, /* large-v3 */
    {4, 20, 51866, 6, {{2, 4}, {2, 11}, {3, 3}, {3, 6}, {3, 11}, {3, 14}}}, /* large-v3-turbo */
};

const wsp_head *wsp_known_heads(const sv_whisper_info *info, int32_t *n)
{
    for (size_t i = 0; i < SV_LEN(known_heads); i++)
        if (known_heads[i].n_layer == info->n_text_layer && known_heads[i].n_head == info->n_text_head && known_heads[i].n_vocab == info->n_vocab) {
            *n = known_heads[i].n;
            return known_heads[i].heads;
        }
    return NULL;
}

/* Where nothing says which heads follow the sound: all of the second half of the layers. */
static void default_heads(sv_whisper *m)
{
    int32_t n_known = 0;
    const wsp_head *known = wsp_known_heads(&m->info, &n_known);
    if (known) {
        m->align = sv_xcalloc((size_t)n_known, sizeof *m->align);
        memcpy(m->align, known, (size_t)n_known * sizeof *m->align);
        m->n_align = n_known;
        return;
    }
    int32_t from = m->info.n_text_layer / 2, n = (m->info.n_text_layer - from) * m->info.n_text_head;
    m->align = sv_xcalloc((size_t)n, sizeof *m->align);
    for (int32_t i = 0; i < n; i++)
        m->align[i] = (wsp_head){from + i / m->info.n_text_head, i % m->info.n_text_head};
    m->n_align = n;
}

static sv_rc read_heads(sv_whisper *m, const json_t *list, sv_err *err)
{
    const json_t *v;
    size_t i;
    if (json_array_size(list) == 0) {
        default_heads(m);
        return SV_OK;
    }
    if (json_array_size(list) > MAX_ALIGN)
        return sv_fail(err, SV_EFORMAT, "'alignment_heads': %zu of them, at most %d", json_array_size(list), MAX_ALIGN);
    m->align = sv_xcalloc(json_array_size(list), sizeof *m->align);
    json_array_foreach(list, i, v) {
        int64_t layer = json_integer_value(json_array_get(v, 0)), head = json_integer_value(json_array_get(v, 1));
        if (json_array_size(v) != 2 || layer < 0 || layer >= m->info.n_text_layer || head < 0 || head >= m->info.n_text_head)
            return sv_fail(err, SV_EFORMAT, "'alignment_heads': the model has no head %" PRId64 " in layer %" PRId64, head, layer);
        m->align[m->n_align++] = (wsp_head){(int32_t)layer, (int32_t)head};
    }
    return SV_OK;
}

/* generation_config.json, or {} where there is none. */
static sv_rc read_generation(sv_whisper *m, const json_t *c, sv_err *err)
{
    int64_t first = 50;
    const json_t *suppress = json_object_get(c, "suppress_tokens"), *begin = json_object_get(c, "begin_suppress_tokens");
    bool multilingual = m->info.multilingual;
    if (sv_json_bool(c, "is_multilingual", &multilingual, err) != SV_OK || sv_json_int(c, "max_initial_timestamp_index", 0, MAX_CTX, &first, err) != SV_OK)
        return err->code;
    m->info.multilingual = multilingual;
    m->info.max_initial_timestamp = (int32_t)first;
    if (json_is_array(suppress))
        add_list(m, &m->suppress, suppress);
    else
        suppress_signs(m);
    suppress_markers(m);
    if (json_is_array(begin))
        add_list(m, &m->begin_suppress, begin);
    else
        add_text(m, &m->begin_suppress, "", " ", true);
    add_id(&m->begin_suppress, m->tokens.eot, m->info.n_vocab);
    return read_heads(m, json_object_get(c, "alignment_heads"), err);
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static void measure(sv_whisper *m)
{
    size_t bytes[SV_N_TYPES] = {0}, most = 0, n = m->ggml ? sv_gguf_n_tensors(m->ggml->tensors) : sv_safetensors_n_tensors(m->files);
    for (size_t k = 0; k < n; k++) {
        const sv_tensor *t = m->ggml ? sv_gguf_tensor_at(m->ggml->tensors, k) : sv_safetensors_tensor_at(m->files, k);
        m->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type] += t->n_bytes;
    }
    for (uint32_t t = 0; t < SV_N_TYPES; t++)
        if (bytes[t] > most) {
            most = bytes[t];
            snprintf(m->info.weights, sizeof m->info.weights, "%s", sv_type_get(t)->name);
        }
    m->info.size_bytes = m->ggml ? m->ggml->map.n : sv_safetensors_size(m->files);
}

static sv_rc open_folder(sv_whisper *m, const char *folder, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_json_decrefp) json_t *generation = NULL;
    SV_AUTO(sv_buf_donep) sv_buf tokenizer;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/generation_config.json", folder);
    sv_buf_init(&tokenizer, MAX_TOKENIZER);
    if (read_json(&config, folder, "config.json", err) != SV_OK)
        return err->code;
    if (read_config(m, config, err) != SV_OK) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code; /* of the JSON getters, which speak to callers of an API */
        return sv_wrap(err, "'%s/config.json'", folder);
    }
    if (read_text(&tokenizer, folder, "tokenizer.json", err) != SV_OK ||
        (sv_file_exists(path) && read_json(&generation, folder, "generation_config.json", err) != SV_OK))
        return err->code;
    if (sv_tokenizer_from_json(&m->tokenizer, sv_buf_str(&tokenizer), (sv_str){0}, err) != SV_OK || name_markers(m, err) != SV_OK ||
        check_markers(m, err) != SV_OK)
        return sv_wrap(err, "'%s/tokenizer.json'", folder);
    if (read_generation(m, generation, err) != SV_OK) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code;
        return sv_wrap(err, "'%s'", path);
    }
    if (sv_safetensors_open_folder(&m->files, folder, err) != SV_OK)
        return err->code;
    m->mel = sv_mel_new(m->info.n_mels, NULL);
    return read_tensors(m, err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", folder);
}

static sv_rc open_ggml(sv_whisper *m, const char *path, sv_err *err)
{
    if (wsp_ggml_open(&m->ggml, path, err) != SV_OK)
        return err->code;
    if (read_head(m, err) != SV_OK || wsp_ggml_tokenizer(&m->tokenizer, m->ggml, err) != SV_OK || count_markers(m, err) != SV_OK ||
        check_markers(m, err) != SV_OK || read_generation(m, NULL, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    size_t n = (size_t)m->info.n_mels * SV_MEL_BINS;
    SV_AUTO(sv_freep) float *filters = sv_xcalloc(n, sizeof *filters);
    memcpy(filters, m->ggml->filters, n * sizeof *filters);
    m->mel = sv_mel_new(m->info.n_mels, filters);
    return read_tensors(m, err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", path);
}

sv_rc sv_whisper_open(sv_whisper **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_whisper_closep) sv_whisper *m = sv_xnew0(sv_whisper);
    SV_AUTO(sv_freep) char *config = sv_xasprintf("%s/config.json", path);
    const char *slash = strrchr(path, '/');
    snprintf(m->info.name, sizeof m->info.name, "%s", slash && slash[1] ? slash + 1 : path);
    if ((sv_file_exists(config) ? open_folder(m, path, err) : open_ggml(m, path, err)) != SV_OK)
        return err->code;
    measure(m);
    *out = SV_TAKE(m);
    return SV_OK;
}

sv_whisper *sv_whisper_close(sv_whisper *m)
{
    if (!m)
        return NULL;
    sv_held_done(&m->held);
    free(m->audio);
    free(m->text);
    free(m->align);
    free(m->suppress.v);
    free(m->begin_suppress.v);
    sv_mel_free(m->mel);
    sv_tokenizer_free(m->tokenizer);
    sv_safetensors_close(m->files);
    wsp_ggml_close(m->ggml);
    free(m);
    return NULL;
}

const sv_whisper_info *sv_whisper_get_info(const sv_whisper *m) { return &m->info; }
const sv_whisper_tokens *sv_whisper_get_tokens(const sv_whisper *m) { return &m->tokens; }
const sv_tokenizer *sv_whisper_tokenizer(const sv_whisper *m) { return m->tokenizer; }
const sv_mel *sv_whisper_mel(const sv_whisper *m) { return m->mel; }
int32_t sv_whisper_n_align(const sv_whisper *m) { return m->n_align; }

const int32_t *sv_whisper_suppressed(const sv_whisper *m, size_t *n)
{
    *n = m->suppress.n;
    return m->suppress.v;
}

const int32_t *sv_whisper_begin_suppressed(const sv_whisper *m, size_t *n)
{
    *n = m->begin_suppress.n;
    return m->begin_suppress.v;
}
