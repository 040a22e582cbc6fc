/* encoder.c - opens text encoders, and turns texts into the tokens that they read
 *
 * Hugging Face folders and GGUF files say the same things under other names. `names` has both spellings of each tensor; what config.json says
 * and what a GGUF's keys say is read by one function each. All that is checked here (every shape follows from the hyper-parameters), so that a
 * run checks nothing.
 *
 * A text is tokenized no further than it is read. Of a long one the first bytes are taken, up to a space, and twice as many until they give
 * enough tokens: all tokenizers of the family cut at spaces first, so tokens before the border do not depend on what is behind it, and the last
 * MARGIN are not trusted. Where there are no spaces the border may fall into a word; MARGIN is what that can change. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "models/encoder_impl.h"
#include "models/files.h"

enum { MAX_CONFIG = 4 << 20, MAX_TOKENIZER = 128 << 20, MAX_LAYERS = 512, MAX_HEADS = 1024, MAX_CTX = 1 << 16, MAX_LABELS = 4096, MARGIN = 48,
       MAX_TEXT = 4 << 20 };

/* --- which family ------------------------------------------------------------------------------------------------- */

typedef struct family {
    const char *type;      /* config.json's model_type */
    const char *prefix;    /* tensors of a model with a head begin so */
    bool distil, roberta;
} family;
static const family families[] = {
    {"bert", "bert.", false, false}, {"distilbert", "distilbert.", true, false}, {"xlm-roberta", "roberta.", false, true},
    {"roberta", "roberta.", false, true},
};

static const family *family_of(const char *type)
{
    for (size_t i = 0; type && i < SV_LEN(families); i++)
        if (strcmp(type, families[i].type) == 0)
            return &families[i];
    return NULL;
}

static sv_rc read_json(json_t **out, const char *folder, const char *name, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    sv_buf_init(&text, MAX_CONFIG);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    return sv_json_parse(out, sv_buf_str(&text), err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", path);
}

bool sv_encoder_is(const char *path)
{
    sv_err ignored = {0};
    sv_model_files files = {0};
    bool is = false;
    if (sv_model_files_find(&files, path, &ignored) != SV_OK)
        return false;
    if (files.is_gguf) {
        SV_AUTO(sv_freep) char *file = sv_model_files_path(&files, 0);
        SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
        sv_str arch = {0};
        is = sv_gguf_open(&g, file, &ignored) == SV_OK && sv_gguf_str(g, "general.architecture", &arch, &ignored) == SV_OK && sv_str_is(arch, "bert");
    } else {
        SV_AUTO(sv_json_decrefp) json_t *config = NULL;
        is = read_json(&config, files.folder, "config.json", &ignored) == SV_OK && family_of(sv_json_cstr(config, "model_type"));
    }
    sv_model_files_done(&files);
    return is || sv_decoder_embedder_is(path);
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

static sv_rc read_act(sv_encoder *e, const char *name, sv_err *err)
{
    static const struct { const char *name; enc_act act; } acts[] = {
        {"gelu", ENC_GELU_ERF}, {"gelu_python", ENC_GELU_ERF}, {"gelu_new", ENC_GELU_TANH}, {"gelu_pytorch_tanh", ENC_GELU_TANH}, {"relu", ENC_RELU},
        {"silu", ENC_SILU}, {"swish", ENC_SILU},
    };
    for (size_t i = 0; i < SV_LEN(acts); i++)
        if (strcmp(name, acts[i].name) == 0) {
            e->act = acts[i].act;
            return SV_OK;
        }
    return sv_fail(err, SV_EFORMAT, "activation '%.40s' is not supported", name);
}

/* The names of classes; id2label is an object with the numbers as keys. */
static sv_rc read_labels(sv_encoder *e, const json_t *c, sv_err *err)
{
    const json_t *names = json_object_get(c, "id2label");
    int64_t n = json_is_object(names) && json_object_size(names) > 0 ? (int64_t)json_object_size(names) : 2; /* transformers' default */
    if (sv_json_int(c, "num_labels", 1, MAX_LABELS, &n, err) != SV_OK)
        return err->code;
    if (n > MAX_LABELS)
        return sv_fail(err, SV_EFORMAT, "'id2label': %" PRId64 " classes, at most %d", n, MAX_LABELS);
    e->info.n_labels = (int32_t)n;
    e->labels = sv_xcalloc((size_t)n, sizeof *e->labels);
    for (int32_t i = 0; i < (int32_t)n; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const char *name = sv_json_cstr(names, key);
        e->labels[i] = name ? sv_xstrdup(name) : sv_xasprintf("LABEL_%d", i);
    }
    return SV_OK;
}

static sv_rc check_dims(sv_encoder *e, sv_err *err)
{
    const sv_encoder_info *i = &e->info;
    if (i->n_embd % i->n_head != 0 || i->n_embd / i->n_head > SV_MAX_HEAD_DIM)
        return sv_fail(err, SV_EFORMAT, "embeddings of %d do not divide among %d heads of at most %d", i->n_embd, i->n_head, SV_MAX_HEAD_DIM);
    if (i->n_ctx < 8)
        return sv_fail(err, SV_EFORMAT, "a context of %d tokens is too short", i->n_ctx);
    return SV_OK;
}

static sv_rc read_config(sv_encoder *e, const json_t *c, const family *f, sv_err *err)
{
    sv_encoder_info *i = &e->info;
    const char *position = sv_json_cstr(c, "position_embedding_type"), *act = sv_json_cstr(c, f->distil ? "activation" : "hidden_act");
    double eps = 1e-12;
    int64_t n_types = f->distil ? 0 : f->roberta ? 1 : 2, pad = f->roberta ? 1 : 0;
    bool decoder = false;
    if (position && strcmp(position, "absolute") != 0)
        return sv_fail(err, SV_EFORMAT, "'position_embedding_type': '%.40s' is not supported", position);
    if (sv_json_bool(c, "is_decoder", &decoder, err) != SV_OK)
        return err->code;
    if (decoder)
        return sv_fail(err, SV_EFORMAT, "'is_decoder': true is not supported");
    if (whole(c, f->distil ? "dim" : "hidden_size", SV_MAX_ROW, &i->n_embd, err) != SV_OK ||
        whole(c, f->distil ? "n_layers" : "num_hidden_layers", MAX_LAYERS, &i->n_layer, err) != SV_OK ||
        whole(c, f->distil ? "n_heads" : "num_attention_heads", MAX_HEADS, &i->n_head, err) != SV_OK ||
        whole(c, f->distil ? "hidden_dim" : "intermediate_size", SV_MAX_ROW, &i->n_ff, err) != SV_OK ||
        whole(c, "max_position_embeddings", MAX_CTX, &i->n_ctx, err) != SV_OK || whole(c, "vocab_size", INT32_MAX, &i->n_vocab, err) != SV_OK ||
        (!f->distil && sv_json_num(c, "layer_norm_eps", 0, 1, &eps, err) != SV_OK) ||
        (!f->distil && sv_json_int(c, "type_vocab_size", 0, 1024, &n_types, err) != SV_OK) || sv_json_int(c, "pad_token_id", 0, 1 << 20, &pad, err) != SV_OK)
        return err->code;
    e->eps = (float)eps;
    e->n_types = (int32_t)n_types;
    e->double_separator = f->roberta;
    if (f->roberta) { /* positions are counted from behind the padding's id */
        e->first_position = (int32_t)pad + 1;
        i->n_ctx -= (int32_t)pad + 1;
    }
    return read_act(e, act ? act : "gelu", err) != SV_OK ? err->code : check_dims(e, err);
}

static sv_rc key(const sv_gguf *g, const char *name, int64_t max, int32_t *out, sv_err *err)
{
    int64_t v = -1;
    if (sv_gguf_i64(g, name, 1, max, &v, err) != SV_OK)
        return err->code;
    if (v < 0)
        return sv_fail(err, SV_EFORMAT, "key '%s' is missing", name);
    *out = (int32_t)v;
    return SV_OK;
}

static sv_rc read_keys(sv_encoder *e, sv_err *err)
{
    const sv_gguf *g = e->gguf;
    sv_encoder_info *i = &e->info;
    int64_t pooling = 1;
    sv_str model = {0};
    e->eps = 1e-12f;
    if (key(g, "bert.embedding_length", SV_MAX_ROW, &i->n_embd, err) != SV_OK || key(g, "bert.block_count", MAX_LAYERS, &i->n_layer, err) != SV_OK ||
        key(g, "bert.attention.head_count", MAX_HEADS, &i->n_head, err) != SV_OK ||
        key(g, "bert.feed_forward_length", SV_MAX_ROW, &i->n_ff, err) != SV_OK || key(g, "bert.context_length", MAX_CTX, &i->n_ctx, err) != SV_OK ||
        sv_gguf_f32(g, "bert.attention.layer_norm_epsilon", &e->eps, err) != SV_OK || sv_gguf_i64(g, "bert.pooling_type", 0, 4, &pooling, err) != SV_OK ||
        sv_gguf_str(g, "tokenizer.ggml.model", &model, err) != SV_OK)
        return err->code;
    if (!(e->eps >= 0 && e->eps <= 1))
        return sv_fail(err, SV_EFORMAT, "key 'bert.attention.layer_norm_epsilon': %g", (double)e->eps);
    i->pooling = pooling == 2 ? SV_POOL_CLS : SV_POOL_MEAN;
    const sv_tensor *types = sv_gguf_tensor(g, "token_types.weight");
    e->n_types = types && types->dims[1] <= 1024 ? (int32_t)types->dims[1] : 0;
    e->double_separator = sv_str_is(model, "t5"); /* unigram: XLM-RoBERTa */
    i->n_vocab = sv_tokenizer_n_vocab(e->own_tokenizer);
    return check_dims(e, err);
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

typedef struct source { sv_encoder *e; const family *f; bool headed; } source; /* f NULL: a GGUF */

/* %d is the layer. hf: BERT and XLM-RoBERTa; distil: DistilBERT. */
typedef struct naming { const char *gguf, *hf, *distil; } naming;
static const naming n_token = {"token_embd", "embeddings.word_embeddings", "embeddings.word_embeddings"},
                    n_position = {"position_embd", "embeddings.position_embeddings", "embeddings.position_embeddings"},
                    n_type = {"token_types", "embeddings.token_type_embeddings", NULL},
                    n_embd_norm = {"token_embd_norm", "embeddings.LayerNorm", "embeddings.LayerNorm"},
                    n_q = {"blk.%d.attn_q", "encoder.layer.%d.attention.self.query", "transformer.layer.%d.attention.q_lin"},
                    n_k = {"blk.%d.attn_k", "encoder.layer.%d.attention.self.key", "transformer.layer.%d.attention.k_lin"},
                    n_v = {"blk.%d.attn_v", "encoder.layer.%d.attention.self.value", "transformer.layer.%d.attention.v_lin"},
                    n_o = {"blk.%d.attn_output", "encoder.layer.%d.attention.output.dense", "transformer.layer.%d.attention.out_lin"},
                    n_attn_norm = {"blk.%d.attn_output_norm", "encoder.layer.%d.attention.output.LayerNorm", "transformer.layer.%d.sa_layer_norm"},
                    n_up = {"blk.%d.ffn_up", "encoder.layer.%d.intermediate.dense", "transformer.layer.%d.ffn.lin1"},
                    n_down = {"blk.%d.ffn_down", "encoder.layer.%d.output.dense", "transformer.layer.%d.ffn.lin2"},
                    n_ffn_norm = {"blk.%d.layer_output_norm", "encoder.layer.%d.output.LayerNorm", "transformer.layer.%d.output_layer_norm"};

enum { MAX_NAME = 128 };

static const sv_tensor *by_name(const sv_encoder *e, const char *name)
{
    return e->gguf ? sv_gguf_tensor(e->gguf, name) : sv_safetensors_tensor(e->files, name);
}

static void spell(const source *s, char out[MAX_NAME], const naming *n, int layer, const char *leaf)
{
    const char *fmt = !s->f ? n->gguf : s->f->distil ? n->distil : n->hf, *at = strstr(fmt, "%d"), *prefix = s->headed ? s->f->prefix : "";
    if (at)
        snprintf(out, MAX_NAME, "%s%.*s%d%s.%s", prefix, (int)(at - fmt), fmt, layer, at + 2, leaf);
    else
        snprintf(out, MAX_NAME, "%s%s.%s", prefix, fmt, leaf);
}

static sv_rc check_shape(const sv_encoder *e, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = by_name(e, name);
    if (!t)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is missing", name);
    if (t->dims[0] != n_in || t->dims[1] != n_out || t->dims[2] != 1 || t->dims[3] != 1)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': shape [%" PRId64 ", %" PRId64 ", ...], wanted [%" PRId64 ", %" PRId64 "]", name, t->dims[0],
                       t->dims[1], n_in, n_out);
    if (!sv_type_get(t->type)->computable)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': type %s is not supported", name, sv_type_get(t->type)->name);
    *out = t;
    return SV_OK;
}

static sv_rc vector(sv_encoder *e, const char *name, int64_t n, const float **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return check_shape(e, name, n, 1, &t, err) == SV_OK ? sv_held_vector(&e->held, t, n, out, err) : err->code;
}

static sv_rc matrix(sv_encoder *e, const char *name, int64_t n_in, int64_t n_out, const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    return check_shape(e, name, n_in, n_out, &t, err) == SV_OK ? sv_held_matrix(&e->held, t, n_in, n_out, out, err) : err->code;
}

static sv_rc dense_named(sv_encoder *e, const char *stem, int64_t n_in, int64_t n_out, enc_dense *out, sv_err *err)
{
    char name[MAX_NAME];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (matrix(e, name, n_in, n_out, &out->w, err) != SV_OK)
        return err->code;
    snprintf(name, sizeof name, "%s.bias", stem);
    return vector(e, name, n_out, &out->b, err);
}

static sv_rc dense(const source *s, const naming *n, int layer, int64_t n_in, int64_t n_out, enc_dense *out, sv_err *err)
{
    char name[MAX_NAME];
    spell(s, name, n, layer, "weight");
    if (matrix(s->e, name, n_in, n_out, &out->w, err) != SV_OK)
        return err->code;
    spell(s, name, n, layer, "bias");
    return vector(s->e, name, n_out, &out->b, err);
}

/* Old files call weight and bias of a norm gamma and beta. */
static sv_rc norm(const source *s, const naming *n, int layer, enc_norm *out, sv_err *err)
{
    char name[MAX_NAME], old[MAX_NAME];
    spell(s, name, n, layer, "weight");
    spell(s, old, n, layer, "gamma");
    bool is_old = !by_name(s->e, name) && by_name(s->e, old);
    if (vector(s->e, is_old ? old : name, s->e->info.n_embd, &out->w, err) != SV_OK)
        return err->code;
    spell(s, name, n, layer, is_old ? "beta" : "bias");
    return vector(s->e, name, s->e->info.n_embd, &out->b, err);
}

static sv_rc table(const source *s, const naming *n, int64_t n_rows, const sv_tensor **out, sv_err *err)
{
    char name[MAX_NAME];
    spell(s, name, n, 0, "weight");
    return matrix(s->e, name, s->e->info.n_embd, n_rows, out, err);
}

static sv_rc read_layer(const source *s, enc_layer *l, int i, sv_err *err)
{
    int64_t n = s->e->info.n_embd, n_ff = s->e->info.n_ff;
    if (dense(s, &n_q, i, n, n, &l->q, err) != SV_OK || dense(s, &n_k, i, n, n, &l->k, err) != SV_OK || dense(s, &n_v, i, n, n, &l->v, err) != SV_OK ||
        dense(s, &n_o, i, n, n, &l->o, err) != SV_OK || norm(s, &n_attn_norm, i, &l->attn_norm, err) != SV_OK ||
        dense(s, &n_up, i, n, n_ff, &l->up, err) != SV_OK || dense(s, &n_down, i, n_ff, n, &l->down, err) != SV_OK ||
        norm(s, &n_ffn_norm, i, &l->ffn_norm, err) != SV_OK)
        return err->code;
    return SV_OK;
}

static sv_rc read_head(const source *s, sv_err *err)
{
    sv_encoder *e = s->e;
    int64_t n = e->info.n_embd, n_labels = e->info.n_labels;
    const char *pool = !s->f ? "cls" : s->f->roberta ? "classifier.dense" : s->f->distil ? "pre_classifier" : "bert.pooler.dense";
    const char *last = !s->f ? "cls.output" : s->f->roberta ? "classifier.out_proj" : "classifier";
    e->head = s->f && s->f->distil ? ENC_HEAD_RELU : ENC_HEAD_TANH;
    return dense_named(e, pool, n, n, &e->pooler, err) != SV_OK ? err->code : dense_named(e, last, n, n_labels, &e->classifier, err);
}

static sv_rc read_tensors(const source *s, sv_err *err)
{
    sv_encoder *e = s->e;
    const sv_encoder_info *i = &e->info;
    if (table(s, &n_token, i->n_vocab, &e->token_embd, err) != SV_OK ||
        table(s, &n_position, i->n_ctx + e->first_position, &e->position_embd, err) != SV_OK ||
        (e->n_types > 0 && table(s, &n_type, e->n_types, &e->type_embd, err) != SV_OK) || norm(s, &n_embd_norm, 0, &e->embd_norm, err) != SV_OK)
        return err->code;
    e->layers = sv_xcalloc((size_t)i->n_layer, sizeof *e->layers);
    for (int32_t k = 0; k < i->n_layer; k++)
        if (read_layer(s, &e->layers[k], k, err) != SV_OK)
            return err->code;
    return i->n_labels > 0 ? read_head(s, err) : SV_OK;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static void measure(sv_encoder *e)
{
    size_t bytes[SV_N_TYPES] = {0}, most = 0, n = e->gguf ? sv_gguf_n_tensors(e->gguf) : sv_safetensors_n_tensors(e->files);
    for (size_t i = 0; i < n; i++) {
        const sv_tensor *t = e->gguf ? sv_gguf_tensor_at(e->gguf, i) : sv_safetensors_tensor_at(e->files, i);
        e->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type] += t->n_bytes;
    }
    for (uint32_t t = 0; t < SV_N_TYPES; t++)
        if (bytes[t] > most) {
            most = bytes[t];
            snprintf(e->info.weights, sizeof e->info.weights, "%s", sv_type_get(t)->name);
        }
    e->info.size_bytes = e->gguf ? sv_gguf_size(e->gguf) : sv_safetensors_size(e->files);
}

/* What stands around a text. */
static sv_rc read_around(sv_encoder *e, sv_err *err)
{
    if (sv_tokenizer_encode(e->tokenizer, SV_STR(""), SV_TOK_BOS, 16, &e->prefix, err) != SV_OK ||
        sv_tokenizer_encode(e->tokenizer, SV_STR(""), SV_TOK_EOS, 16, &e->suffix, err) != SV_OK)
        return err->code;
    if (!e->llm && (e->prefix.n == 0 || e->suffix.n == 0))
        return sv_fail(err, SV_EFORMAT, "the tokenizer puts no tokens around a text, as models of this family need");
    size_t around = e->prefix.n + e->suffix.n * (e->double_separator ? 3 : 2); /* of a pair, tokens_of() */
    if (around >= (size_t)e->info.n_ctx)
        return sv_fail(err, SV_EFORMAT, "the tokenizer puts %zu tokens around a pair of texts, and the model reads %d in all", around, e->info.n_ctx);
    if (sv_tokenizer_n_vocab(e->tokenizer) > e->info.n_vocab)
        return sv_fail(err, SV_EFORMAT, "the tokenizer has %d tokens, the model %d", sv_tokenizer_n_vocab(e->tokenizer), e->info.n_vocab);
    return SV_OK;
}

static sv_rc read_tokenizer(sv_encoder *e, const char *folder, sv_err *err)
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
    return sv_tokenizer_from_json(&e->own_tokenizer, sv_buf_str(&text), sv_buf_str(&settings), err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", folder);
}

static bool says_classification(const json_t *config)
{
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    return name && strstr(name, "ForSequenceClassification");
}

/* What sentence-transformers writes beside a model: which vector of a text it was trained for, and up to how many tokens. */
static sv_rc read_sentence_settings(sv_encoder *e, const char *folder, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *pooling = NULL;
    SV_AUTO(sv_json_decrefp) json_t *settings = NULL;
    sv_err ignored = {0};
    int64_t most = e->info.n_ctx;
    if (read_json(&pooling, folder, "1_Pooling/config.json", &ignored) == SV_OK && json_is_true(json_object_get(pooling, "pooling_mode_cls_token")))
        e->info.pooling = SV_POOL_CLS;
    if (read_json(&settings, folder, "sentence_bert_config.json", &ignored) != SV_OK)
        return SV_OK;
    if (sv_json_int(settings, "max_seq_length", 8, MAX_CTX, &most, err) != SV_OK)
        return sv_wrap(err, "'%s/sentence_bert_config.json'", folder);
    e->info.n_ctx = most < e->info.n_ctx ? (int32_t)most : e->info.n_ctx;
    return SV_OK;
}

static sv_rc open_folder(sv_encoder *e, const char *folder, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    char name[MAX_NAME];
    if (read_json(&config, folder, "config.json", err) != SV_OK)
        return err->code;
    source s = {.e = e, .f = family_of(sv_json_cstr(config, "model_type"))};
    if (!s.f)
        return sv_fail(err, SV_EFORMAT, "'%s/config.json': no text encoder; supported: bert, distilbert, xlm-roberta, roberta", folder);
    snprintf(e->info.arch, sizeof e->info.arch, "%s", s.f->type);
    bool classifies = says_classification(config);
    if (read_config(e, config, s.f, err) != SV_OK || (classifies && read_labels(e, config, err) != SV_OK)) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code;
        return sv_wrap(err, "'%s/config.json'", folder);
    }
    if (read_tokenizer(e, folder, err) != SV_OK || sv_safetensors_open_folder(&e->files, folder, err) != SV_OK)
        return err->code;
    snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", s.f->prefix);
    s.headed = by_name(e, name) != NULL;
    const char *slash = strrchr(folder, '/');
    snprintf(e->info.name, sizeof e->info.name, "%s", slash && slash[1] ? slash + 1 : folder);
    if (read_tensors(&s, err) != SV_OK)
        return sv_wrap(err, "'%s'", folder);
    return read_sentence_settings(e, folder, err); /* after the tensors, whose shapes follow from config.json's length */
}

static sv_rc open_gguf(sv_encoder *e, const char *path, sv_err *err)
{
    sv_str arch = {0}, name = {0};
    if (sv_gguf_open(&e->gguf, path, err) != SV_OK || sv_gguf_str(e->gguf, "general.architecture", &arch, err) != SV_OK ||
        sv_gguf_str(e->gguf, "general.name", &name, err) != SV_OK)
        return err->code;
    if (!sv_str_is(arch, "bert"))
        return sv_fail(err, SV_EFORMAT, "'%s': no text encoder; of GGUF files architecture bert is supported", path);
    snprintf(e->info.arch, sizeof e->info.arch, "bert");
    if (sv_utf8_valid(name) && name.n < sizeof e->info.name)
        memcpy(e->info.name, name.p ? name.p : "", name.n);
    source s = {.e = e};
    const sv_tensor *out = sv_gguf_tensor(e->gguf, "cls.output.weight");
    if (out && out->dims[1] >= 1 && out->dims[1] <= MAX_LABELS) {
        e->info.n_labels = (int32_t)out->dims[1];
        e->labels = sv_xcalloc((size_t)e->info.n_labels, sizeof *e->labels);
        for (int32_t i = 0; i < e->info.n_labels; i++)
            e->labels[i] = sv_xasprintf("LABEL_%d", i);
    }
    if (sv_tokenizer_from_gguf(&e->own_tokenizer, e->gguf, err) != SV_OK || read_keys(e, err) != SV_OK || read_tensors(&s, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    return SV_OK;
}

sv_rc sv_encoder_open(sv_encoder **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_encoder_closep) sv_encoder *e = sv_xnew0(sv_encoder);
    sv_model_files files = {0};
    if (sv_model_files_find(&files, path, err) != SV_OK)
        return err->code;
    SV_AUTO(sv_freep) char *file = sv_model_files_path(&files, 0);
    bool decoder = sv_decoder_embedder_is(path);
    sv_rc rc = decoder ? sv_decoder_embedder_open(e, path, err) : files.is_gguf ? open_gguf(e, file, err) : open_folder(e, files.folder, err);
    sv_model_files_done(&files);
    if (rc != SV_OK)
        return err->code;
    e->tokenizer = decoder ? sv_llm_tokenizer(e->llm) : e->own_tokenizer;
    if (read_around(e, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (!decoder)
        measure(e);
    *out = SV_TAKE(e);
    return SV_OK;
}

sv_encoder *sv_encoder_close(sv_encoder *e)
{
    if (!e)
        return NULL;
    sv_held_done(&e->held);
    for (int32_t i = 0; e->labels && i < e->info.n_labels; i++)
        free(e->labels[i]);
    free(e->labels);
    free(e->layers);
    free(e->prefix.v);
    free(e->suffix.v);
    sv_tokenizer_free(e->own_tokenizer);
    sv_llm_unref(e->llm);
    sv_safetensors_close(e->files);
    sv_gguf_close(e->gguf);
    free(e);
    return NULL;
}

const sv_encoder_info *sv_encoder_get_info(const sv_encoder *e) { return &e->info; }
const char *sv_encoder_label(const sv_encoder *e, int32_t i) { return i >= 0 && i < e->info.n_labels ? e->labels[i] : ""; }

/* --- texts -------------------------------------------------------------------------------------------------------- */

/* The first n bytes, or some less: up to a space, else up to a character's border. */
static sv_str beginning(sv_str text, size_t n)
{
    if (n >= text.n)
        return text;
    for (size_t at = n; at > n / 2; at--)
        if (text.p[at] == ' ' || text.p[at] == '\n')
            return (sv_str){text.p, at};
    while (n > 0 && ((unsigned char)text.p[n] & 0xc0) == 0x80)
        n--;
    return (sv_str){text.p, n};
}

/* The first `most` tokens of text, or of a shorter text all; *out is empty before. Whether there are more: *more. */
static sv_rc first_tokens(const sv_encoder *e, sv_str text, size_t most, sv_tokens *out, bool *more, sv_err *err)
{
    if (text.n > MAX_TEXT)
        text = beginning(text, MAX_TEXT);
    for (size_t n = (most + MARGIN) * 8;; n *= 2) {
        sv_str part = beginning(text, n);
        out->n = 0;
        if (sv_tokenizer_encode(e->tokenizer, part, 0, part.n * 2 + 64, out, err) != SV_OK)
            return err->code;
        if (part.n == text.n || out->n >= most + MARGIN)
            break;
    }
    *more = out->n > most;
    return SV_OK;
}

static sv_rc append(sv_tokens *to, const sv_tokens *from, size_t n, sv_err *err)
{
    if (to->cap - to->n < n) {
        size_t cap = (to->n + n) * 2;
        int32_t *v = sv_try_realloc(to->v, cap, sizeof *v);
        if (!v)
            return sv_fail(err, SV_ENOMEM, "no memory for %zu tokens", cap);
        to->v = v;
        to->cap = cap;
    }
    if (n > 0)
        memcpy(to->v + to->n, from->v, n * sizeof *to->v);
    to->n += n;
    return SV_OK;
}

/* longest_first of the Hugging Face libraries: what is left of each, `room` together. */
static void share(size_t room, size_t *a, size_t *b)
{
    if (*a + *b <= room)
        return;
    size_t *shorter = *a > *b ? b : a, *longer = *a > *b ? a : b;
    if (*shorter + *longer > room && *shorter > room / 2) {
        *shorter = room / 2;
        *longer = room - room / 2;
    } else {
        *longer = room - *shorter;
    }
}

static sv_rc tokens_of(const sv_encoder *e, const sv_encoder_text *t, sv_tokens part[2], sv_tokens *out, int32_t *n_first, sv_err *err)
{
    size_t limit = (size_t)(t->max_tokens > 0 && t->max_tokens < e->info.n_ctx ? t->max_tokens : e->info.n_ctx);
    size_t around = e->prefix.n + e->suffix.n + (t->pair ? e->suffix.n * (e->double_separator ? 2 : 1) : 0), room = limit > around ? limit - around : 0;
    bool more[2] = {false, false};
    if (first_tokens(e, t->text, room, &part[0], &more[0], err) != SV_OK || (t->pair && first_tokens(e, *t->pair, room, &part[1], &more[1], err) != SV_OK))
        return err->code;
    size_t a = part[0].n, b = part[1].n;
    if (!t->cut && (a + b > room || more[0] || more[1]))
        return sv_fail_api(err, SV_ELIMIT, 5021, "the text has more than %zu tokens, the most this model reads at once", limit);
    share(room, &a, &b);
    if (append(out, &e->prefix, e->prefix.n, err) != SV_OK || append(out, &part[0], a, err) != SV_OK || append(out, &e->suffix, e->suffix.n, err) != SV_OK)
        return err->code;
    if (e->prefix.n + a + e->suffix.n == 0)
        return sv_fail_api(err, SV_EINVAL, 5006, "the text has no tokens");
    *n_first = (int32_t)(e->prefix.n + a + e->suffix.n);
    if (!t->pair)
        return SV_OK;
    if (e->double_separator && append(out, &e->suffix, e->suffix.n, err) != SV_OK)
        return err->code;
    return append(out, &part[1], b, err) != SV_OK ? err->code : append(out, &e->suffix, e->suffix.n, err);
}

sv_rc sv_encoder_tokens(const sv_encoder *e, const sv_encoder_text *text, sv_tokens *out, int32_t *n_first, sv_err *err)
{
    sv_tokens part[2] = {{0}, {0}};
    size_t before = out->n;
    sv_rc rc = tokens_of(e, text, part, out, n_first, err);
    if (rc != SV_OK)
        out->n = before;
    free(part[0].v);
    free(part[1].v);
    return rc;
}
