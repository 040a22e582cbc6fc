/* seq2seq_open.c - opens BART and M2M100: hyper-parameters, tensors, tokenizer, settings of the search
 *
 * All that is checked here, every shape against the hyper-parameters, so that a run checks nothing. The two differ in where norms stand, in how
 * positions are told, and in what stands in front of a source: BART has <s>, M2M100 the source's language, whose token is "__en__". */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/json.h"
#include "models/seq2seq_impl.h"

enum { MAX_CONFIG = 4 << 20, MAX_TOKENIZER = 128 << 20, MAX_LAYERS = 128, MAX_HEADS = 256, MAX_CTX = 1 << 14, MAX_NAME = 160, MAX_LENGTH = 4096, MAX_TEXT = 1 << 20 };

static sv_rc read_json(json_t **out, const char *folder, const char *name, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    sv_buf_init(&text, MAX_CONFIG);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    return sv_json_parse(out, sv_buf_str(&text), err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", path);
}

static bool known(const char *type) { return type && (strcmp(type, "bart") == 0 || strcmp(type, "m2m_100") == 0); }

bool sv_seq2seq_is(const char *path)
{
    sv_err ignored = {0};
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    return read_json(&config, path, "config.json", &ignored) == SV_OK && known(sv_json_cstr(config, "model_type"));
}

/* --- hyper-parameters --------------------------------------------------------------------------------------------- */

static sv_rc whole(const json_t *c, const char *key, int64_t min, int64_t max, int32_t *out, sv_err *err)
{
    int64_t v = min - 1;
    if (sv_json_int(c, key, min, max, &v, err) != SV_OK)
        return err->code;
    if (v < min)
        return sv_fail(err, SV_EFORMAT, "'%s' is missing", key);
    *out = (int32_t)v;
    return SV_OK;
}

static sv_rc read_act(sv_seq2seq *m, const json_t *c, sv_err *err)
{
    const char *act = sv_json_cstr(c, "activation_function");
    if (!act || (strcmp(act, "gelu") != 0 && strcmp(act, "relu") != 0))
        return sv_fail(err, SV_EFORMAT, "'activation_function': '%.40s' is not supported; supported: gelu, relu", act ? act : "");
    m->act = strcmp(act, "relu") == 0 ? S2S_RELU : S2S_GELU;
    return SV_OK;
}

static sv_rc check_heads(const sv_seq2seq *m, int32_t n_head, sv_err *err)
{
    if (m->info.n_embd % n_head != 0 || m->info.n_embd / n_head > SV_MAX_HEAD_DIM)
        return sv_fail(err, SV_EFORMAT, "embeddings of %d do not divide among %d heads of at most %d", m->info.n_embd, n_head, SV_MAX_HEAD_DIM);
    return SV_OK;
}

static sv_rc read_config(sv_seq2seq *m, const json_t *c, sv_err *err)
{
    sv_seq2seq_info *i = &m->info;
    bool scaled = i->translates;
    if (whole(c, "d_model", 2, SV_MAX_ROW, &i->n_embd, err) != SV_OK || whole(c, "encoder_layers", 1, MAX_LAYERS, &i->n_layer_in, err) != SV_OK ||
        whole(c, "decoder_layers", 1, MAX_LAYERS, &i->n_layer_out, err) != SV_OK || whole(c, "encoder_attention_heads", 1, MAX_HEADS, &i->n_head_in, err) != SV_OK ||
        whole(c, "decoder_attention_heads", 1, MAX_HEADS, &i->n_head_out, err) != SV_OK || whole(c, "encoder_ffn_dim", 1, SV_MAX_ROW, &i->n_ff_in, err) != SV_OK ||
        whole(c, "decoder_ffn_dim", 1, SV_MAX_ROW, &i->n_ff_out, err) != SV_OK || whole(c, "max_position_embeddings", 8, MAX_CTX, &i->n_ctx, err) != SV_OK ||
        whole(c, "vocab_size", 4, 1 << 24, &i->n_vocab, err) != SV_OK || whole(c, "pad_token_id", 0, i->n_vocab - 1, &m->pad, err) != SV_OK ||
        whole(c, "eos_token_id", 0, i->n_vocab - 1, &m->eos, err) != SV_OK || whole(c, "decoder_start_token_id", 0, i->n_vocab - 1, &m->start, err) != SV_OK ||
        sv_json_bool(c, "scale_embedding", &scaled, err) != SV_OK || read_act(m, c, err) != SV_OK || check_heads(m, i->n_head_in, err) != SV_OK ||
        check_heads(m, i->n_head_out, err) != SV_OK)
        return err->code;
    if (i->translates && i->n_embd % 2 != 0)
        return sv_fail(err, SV_EFORMAT, "'d_model': %d is odd, and positions are pairs", i->n_embd);
    m->embd_scale = scaled ? sqrtf((float)i->n_embd) : 1;
    m->pre_norm = i->translates;
    m->in = (s2s_side){.n_layer = i->n_layer_in, .n_head = i->n_head_in, .n_ff = i->n_ff_in};
    m->out = (s2s_side){.n_layer = i->n_layer_out, .n_head = i->n_head_out, .n_ff = i->n_ff_out};
    return SV_OK;
}

/* A setting is in generation_config.json, or, before that was a file, in config.json. */
static sv_rc setting(const json_t *const c[2], const char *key, int64_t min, int64_t max, int32_t *out, sv_err *err)
{
    int64_t v = *out;
    for (int i = 1; i >= 0; i--)
        if (json_is_object(c[i]) && sv_json_int(c[i], key, min, max, &v, err) != SV_OK)
            return err->code;
    *out = (int32_t)v;
    return SV_OK;
}

static sv_rc read_settings(sv_seq2seq *m, const json_t *config, const json_t *generation, sv_err *err)
{
    const json_t *c[2] = {generation, config};
    s2s_settings *s = &m->settings;
    *s = (s2s_settings){.n_beams = m->info.translates ? 5 : 4, .max_length = m->info.translates ? 200 : 142, .forced_bos = -1, .forced_eos = -1, .length_penalty = 1};
    if (setting(c, "num_beams", 1, S2S_MAX_BEAMS, &s->n_beams, err) != SV_OK || setting(c, "min_length", 0, MAX_LENGTH, &s->min_length, err) != SV_OK ||
        setting(c, "max_length", 4, MAX_LENGTH, &s->max_length, err) != SV_OK || setting(c, "no_repeat_ngram_size", 0, 64, &s->no_repeat, err) != SV_OK ||
        setting(c, "forced_bos_token_id", 0, m->info.n_vocab - 1, &s->forced_bos, err) != SV_OK ||
        setting(c, "forced_eos_token_id", 0, m->info.n_vocab - 1, &s->forced_eos, err) != SV_OK)
        return err->code;
    for (int i = 1; i >= 0; i--) {
        if (json_is_object(c[i]) && (sv_json_num(c[i], "length_penalty", -10, 10, &s->length_penalty, err) != SV_OK ||
                                     sv_json_bool(c[i], "early_stopping", &s->early, err) != SV_OK))
            return err->code;
    }
    s->max_length = s->max_length < m->info.n_ctx ? s->max_length : m->info.n_ctx;
    return SV_OK;
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

static sv_rc shaped(const sv_seq2seq *m, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = sv_safetensors_tensor(m->files, name);
    if (!t)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is missing", name);
    if (t->dims[0] != n_in || t->dims[1] != n_out || t->dims[2] != 1 || t->dims[3] != 1)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': shape [%" PRId64 ", %" PRId64 ", ...], wanted [%" PRId64 ", %" PRId64 "]", name, t->dims[0], t->dims[1], n_in, n_out);
    if (!sv_type_get(t->type)->computable)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': type %s is not supported", name, sv_type_get(t->type)->name);
    *out = t;
    return SV_OK;
}

static sv_rc vector(sv_seq2seq *m, const char *name, int64_t n, const float **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return shaped(m, name, n, 1, &t, err) == SV_OK ? sv_held_vector(&m->held, t, n, out, err) : err->code;
}

static sv_rc matrix(sv_seq2seq *m, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return shaped(m, name, n_in, n_out, &t, err) == SV_OK ? sv_held_matrix(&m->held, t, n_in, n_out, out, err) : err->code;
}

static sv_rc dense(sv_seq2seq *m, const char *at, const char *name, int64_t n_in, int64_t n_out, s2s_dense *out, sv_err *err)
{
    char full[MAX_NAME];
    snprintf(full, sizeof full, "%s%s.weight", at, name);
    if (matrix(m, full, n_in, n_out, &out->w, err) != SV_OK)
        return err->code;
    snprintf(full, sizeof full, "%s%s.bias", at, name);
    return vector(m, full, n_out, &out->b, err);
}

static sv_rc norm(sv_seq2seq *m, const char *at, const char *name, s2s_norm *out, sv_err *err)
{
    char full[MAX_NAME];
    snprintf(full, sizeof full, "%s%s.weight", at, name);
    if (vector(m, full, m->info.n_embd, &out->w, err) != SV_OK)
        return err->code;
    snprintf(full, sizeof full, "%s%s.bias", at, name);
    return vector(m, full, m->info.n_embd, &out->b, err);
}

static sv_rc read_attn(sv_seq2seq *m, const char *layer, const char *name, s2s_attn *a, sv_err *err)
{
    char at[MAX_NAME], n[64];
    int64_t d = m->info.n_embd;
    snprintf(at, sizeof at, "%s%s.", layer, name);
    snprintf(n, sizeof n, "%s_layer_norm", name);
    if (dense(m, at, "q_proj", d, d, &a->q, err) != SV_OK || dense(m, at, "k_proj", d, d, &a->k, err) != SV_OK || dense(m, at, "v_proj", d, d, &a->v, err) != SV_OK ||
        dense(m, at, "out_proj", d, d, &a->o, err) != SV_OK)
        return err->code;
    return norm(m, layer, n, &a->norm, err);
}

static sv_rc read_side(sv_seq2seq *m, const char *prefix, s2s_side *s, bool cross, sv_err *err)
{
    char at[MAX_NAME];
    int64_t d = m->info.n_embd;
    snprintf(at, sizeof at, "%sembed_positions.weight", prefix);
    if (!m->info.translates && matrix(m, at, d, m->info.n_ctx + 2, &s->positions, err) != SV_OK)
        return err->code;
    if (norm(m, prefix, m->info.translates ? "layer_norm" : "layernorm_embedding", m->info.translates ? &s->last_norm : &s->embd_norm, err) != SV_OK)
        return err->code;
    s->layers = sv_xcalloc((size_t)s->n_layer, sizeof *s->layers);
    for (int32_t i = 0; i < s->n_layer; i++) {
        s2s_layer *l = &s->layers[i];
        snprintf(at, sizeof at, "%slayers.%d.", prefix, i);
        if (read_attn(m, at, "self_attn", &l->self, err) != SV_OK || (cross && read_attn(m, at, "encoder_attn", &l->cross, err) != SV_OK) ||
            dense(m, at, "fc1", d, s->n_ff, &l->up, err) != SV_OK || dense(m, at, "fc2", s->n_ff, d, &l->down, err) != SV_OK ||
            norm(m, at, "final_layer_norm", &l->ffn_norm, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

static sv_rc read_tensors(sv_seq2seq *m, sv_err *err)
{
    static const char *const shared[] = {"model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"};
    const char *name = shared[0];
    for (size_t i = 0; i < SV_LEN(shared) && !sv_safetensors_tensor(m->files, name); i++)
        name = shared[i];
    if (matrix(m, name, m->info.n_embd, m->info.n_vocab, &m->token_embd, err) != SV_OK)
        return err->code;
    m->output = m->token_embd; /* the families tie them */
    if (sv_safetensors_tensor(m->files, "final_logits_bias") && vector(m, "final_logits_bias", m->info.n_vocab, &m->output_bias, err) != SV_OK)
        return err->code;
    return read_side(m, "model.encoder.", &m->in, false, err) != SV_OK ? err->code : read_side(m, "model.decoder.", &m->out, true, err);
}

static void measure(sv_seq2seq *m)
{
    size_t bytes[SV_N_TYPES] = {0}, most = 0;
    for (size_t i = 0; i < sv_safetensors_n_tensors(m->files); i++) {
        const sv_tensor *t = sv_safetensors_tensor_at(m->files, i);
        m->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type] += t->n_bytes;
    }
    for (uint32_t t = 0; t < SV_N_TYPES; t++)
        if (bytes[t] > most) {
            most = bytes[t];
            snprintf(m->info.weights, sizeof m->info.weights, "%s", sv_type_get(t)->name);
        }
    m->info.size_bytes = sv_safetensors_size(m->files);
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static sv_rc read_tokenizer(sv_seq2seq *m, const char *folder, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_buf_donep) sv_buf settings;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/tokenizer.json", folder);
    SV_AUTO(sv_freep) char *config = sv_xasprintf("%s/tokenizer_config.json", folder);
    sv_buf_init(&text, MAX_TOKENIZER);
    sv_buf_init(&settings, MAX_CONFIG);
    if (!sv_file_exists(path))
        return sv_fail(err, SV_EFORMAT, "'%s' has no tokenizer.json; transformers writes one: AutoTokenizer.from_pretrained(...).save_pretrained(...)", folder);
    if (sv_file_read(&text, path, err) != SV_OK || (sv_file_exists(config) && sv_file_read(&settings, config, err) != SV_OK))
        return err->code;
    if (sv_tokenizer_from_json(&m->tokenizer, sv_buf_str(&text), sv_buf_str(&settings), err) != SV_OK)
        return sv_wrap(err, "'%s'", folder);
    if (sv_tokenizer_n_vocab(m->tokenizer) > m->info.n_vocab)
        return sv_fail(err, SV_EFORMAT, "'%s': the tokenizer has %d tokens, the model %d", folder, sv_tokenizer_n_vocab(m->tokenizer), m->info.n_vocab);
    if (sv_tokenizer_encode(m->tokenizer, SV_STR(""), SV_TOK_BOS, 16, &m->prefix, err) != SV_OK ||
        sv_tokenizer_encode(m->tokenizer, SV_STR(""), SV_TOK_EOS, 16, &m->suffix, err) != SV_OK)
        return err->code;
    return m->prefix.n + m->suffix.n + 1 < (size_t)m->info.n_ctx ? SV_OK : sv_fail(err, SV_EFORMAT, "'%s': the tokenizer's marks leave no room for a text", folder);
}

sv_rc sv_seq2seq_open(sv_seq2seq **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_seq2seq_closep) sv_seq2seq *m = sv_xnew0(sv_seq2seq);
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_json_decrefp) json_t *generation = NULL;
    sv_err ignored = {0};
    if (read_json(&config, path, "config.json", err) != SV_OK)
        return err->code;
    const char *type = sv_json_cstr(config, "model_type"), *slash = strrchr(path, '/');
    if (!known(type))
        return sv_fail(err, SV_EFORMAT, "'%s/config.json': no model that rewrites texts; supported: bart, m2m_100", path);
    snprintf(m->info.arch, sizeof m->info.arch, "%s", type);
    snprintf(m->info.name, sizeof m->info.name, "%s", slash && slash[1] ? slash + 1 : path);
    m->info.translates = strcmp(type, "m2m_100") == 0;
    (void)!read_json(&generation, path, "generation_config.json", &ignored);
    if (read_config(m, config, err) != SV_OK || read_settings(m, config, generation, err) != SV_OK) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code;
        return sv_wrap(err, "'%s/config.json'", path);
    }
    if (read_tokenizer(m, path, err) != SV_OK || sv_safetensors_open_folder(&m->files, path, err) != SV_OK)
        return err->code;
    if (read_tensors(m, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    measure(m);
    *out = SV_TAKE(m);
    return SV_OK;
}

sv_seq2seq *sv_seq2seq_close(sv_seq2seq *m)
{
    if (!m)
        return NULL;
    sv_held_done(&m->held);
    free(m->in.layers);
    free(m->out.layers);
    free(m->prefix.v);
    free(m->suffix.v);
    sv_tokenizer_free(m->tokenizer);
    sv_safetensors_close(m->files);
    free(m);
    return NULL;
}

const sv_seq2seq_info *sv_seq2seq_get_info(const sv_seq2seq *m) { return &m->info; }
