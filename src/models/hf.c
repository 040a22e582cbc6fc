/* hf.c - a language model in a Hugging Face folder, seen as a GGUF
 *
 * Two tables carry the file: `configs`, which member of config.json is which key, and `tensors`, which tensor is called what. What they
 * cannot say is code: the position scalings (their parameters are nested, and named differently before and after transformers 5), the
 * sliding window (five members decide), and GPT-2's matrices, which lie transposed and are turned here, in memory of our own.
 *
 * What a config asks for and we do not compute is refused by the member's name; a member nobody here knows is passed over, since most
 * are about training. Defaults are those of the transformers library for the model type, not ours.
 *
 * Invariants:
 *   1. Every tensor handed on lies in the mapped files or in h->copies.
 *   2. A tensor is handed on under one name once: two source names for one are refused. */
#include "models/hf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "nn/safetensors.h"

enum { MAX_CONFIG = 4 << 20, MAX_KEYS = 48, MAX_NAME = 96, MAX_PAIRS = 4096, MAX_LAYERS = 1024 };

struct sv_hf {
    sv_safetensors *files;
    sv_gguf *gguf;
    void **copies;
    size_t n_copies;
};

/* A value of "model_type", and what members are where a config leaves them out. */
typedef struct model_type {
    const char *name;
    const char *arch;  /* the GGUF's */
    bool gpt2;
    bool tied;         /* "tie_word_embeddings" */
    bool window_used;  /* "use_sliding_window"; Mistral has no such member */
    int32_t window, window_first; /* "sliding_window", and the first layer that has it: "max_window_layers" */
    int32_t n_head_kv, head_dim;  /* 0: follow from the other members */
} model_type;
static const model_type model_types[] = {
    {.name = "llama", .arch = "llama"},
    {.name = "mistral", .arch = "llama", .window_used = true, .window = 4096, .n_head_kv = 8},
    {.name = "ministral", .arch = "llama", .window_used = true, .window = 4096, .n_head_kv = 8},
    {.name = "qwen2", .arch = "qwen2", .window = 4096, .window_first = 28, .n_head_kv = 32},
    {.name = "qwen3", .arch = "qwen3", .window = 4096, .window_first = 28, .n_head_kv = 32, .head_dim = 128},
    {.name = "gpt2", .arch = "gpt2", .gpt2 = true, .tied = true},
};

/* What is read at once: a config, its type, and where the keys go. */
typedef struct reader {
    sv_hf *h;
    const json_t *config;
    const model_type *type;
    int32_t n_vocab;
    bool tied; /* the output matrix is the embedding */
} reader;

static const char *key_of(const reader *r, char buf[MAX_NAME], const char *key)
{
    snprintf(buf, MAX_NAME, "%s.%s", r->type->arch, key);
    return buf;
}

static void put_i64(const reader *r, const char *key, int64_t v)
{
    char buf[MAX_NAME];
    sv_gguf_put_i64(r->h->gguf, key_of(r, buf, key), v);
}

static void put_f32(const reader *r, const char *key, double v)
{
    char buf[MAX_NAME];
    sv_gguf_put_f32(r->h->gguf, key_of(r, buf, key), (float)v);
}

/* --- config.json -------------------------------------------------------------------------------------------------- */

/* Whole numbers that are keys as they are. */
typedef struct member { const char *name, *key; bool needed; } member;
static const member llama_members[] = {
    {"max_position_embeddings", "context_length", true},   {"hidden_size", "embedding_length", true},
    {"num_hidden_layers", "block_count", true},            {"intermediate_size", "feed_forward_length", true},
    {"num_attention_heads", "attention.head_count", true},
};
static const member gpt2_members[] = {
    {"n_positions", "context_length", true}, {"n_embd", "embedding_length", true}, {"n_layer", "block_count", true}, {"n_head", "attention.head_count", true},
};

static sv_rc read_members(const reader *r, const member *members, size_t n, sv_err *err)
{
    for (size_t i = 0; i < n; i++) {
        int64_t v = -1;
        if (sv_json_int(r->config, members[i].name, 1, INT32_MAX, &v, err) != SV_OK)
            return err->code;
        if (v < 0 && members[i].needed)
            return sv_fail(err, SV_EFORMAT, "'%s' is missing", members[i].name);
        if (v >= 0)
            put_i64(r, members[i].key, v);
    }
    return SV_OK;
}

/* Members that must have this value, or be absent. */
static sv_rc refuse_true(const reader *r, const char *name, sv_err *err)
{
    bool v = false;
    if (sv_json_bool(r->config, name, &v, err) != SV_OK)
        return err->code;
    return v ? sv_fail(err, SV_EFORMAT, "'%s': true is not supported", name) : SV_OK;
}

static const char *const llama_activations[] = {"silu", "swish", NULL};
static const char *const gpt2_activations[] = {"gelu_new", "gelu_pytorch_tanh", "gelu", "relu", NULL};

static sv_rc check_activation(const reader *r, const char *name, const char *const *known, sv_err *err)
{
    const char *v = sv_json_cstr(r->config, name);
    const char *const *k = known;
    while (v && *k && strcmp(v, *k) != 0)
        k++;
    return *k ? SV_OK : sv_fail(err, SV_EFORMAT, "'%s': '%.40s' is not supported, only '%s'", name, v, known[0]);
}

/* Is this member there, and null? It then says "none", not "as usual". */
static bool is_null(const reader *r, const char *name)
{
    return json_is_null(json_object_get(r->config, name));
}

/* Which layers have the window: as listed, or those from the first on. Sets *n to how many. */
static sv_rc find_sliding(const reader *r, bool *slides, int64_t n_layers, int64_t first, int64_t *n, sv_err *err)
{
    const json_t *listed = json_object_get(r->config, "layer_types"), *v;
    size_t i;
    *n = 0;
    for (int64_t k = 0; k < n_layers; k++)
        *n += slides[k] = k >= first;
    if (!json_is_array(listed))
        return SV_OK;
    if ((int64_t)json_array_size(listed) != n_layers)
        return sv_fail(err, SV_EFORMAT, "'layer_types': %zu entries for %" PRId64 " layers", json_array_size(listed), n_layers);
    *n = 0;
    json_array_foreach(listed, i, v) {
        const char *type = json_is_string(v) ? json_string_value(v) : "(no text)";
        if (strcmp(type, "sliding_attention") != 0 && strcmp(type, "full_attention") != 0)
            return sv_fail(err, SV_EFORMAT, "'layer_types': '%.40s' is not supported, only 'full_attention' and 'sliding_attention'", type);
        *n += slides[i] = type[0] == 's';
    }
    return SV_OK;
}

static sv_rc read_window(const reader *r, sv_err *err)
{
    bool slides[MAX_LAYERS], use = r->type->window_used;
    int64_t window = is_null(r, "sliding_window") ? 0 : r->type->window, first = r->type->window_first, n_layers = 0, n = 0;
    if (sv_json_int(r->config, "sliding_window", 1, INT32_MAX, &window, err) != SV_OK ||
        sv_json_bool(r->config, "use_sliding_window", &use, err) != SV_OK ||
        sv_json_int(r->config, "max_window_layers", 0, INT32_MAX, &first, err) != SV_OK ||
        sv_json_int(r->config, "num_hidden_layers", 1, MAX_LAYERS, &n_layers, err) != SV_OK)
        return err->code;
    window = use ? window : 0;
    if (find_sliding(r, slides, n_layers, window > 0 ? first : n_layers, &n, err) != SV_OK)
        return err->code;
    if (n == 0)
        return SV_OK;
    if (window == 0)
        return sv_fail(err, SV_EFORMAT, "'layer_types': %" PRId64 " layers have a sliding window, but 'sliding_window' is none", n);
    put_i64(r, "attention.sliding_window", window);
    char key[MAX_NAME];
    if (n < n_layers)
        sv_gguf_put_bools(r->h->gguf, key_of(r, key, "attention.sliding_window_pattern"), slides, (size_t)n_layers);
    return SV_OK;
}

/* --- positions ---------------------------------------------------------------------------------------------------- */

static sv_rc need_num(const json_t *obj, const char *name, double *out, sv_err *err)
{
    *out = NAN;
    if (sv_json_num(obj, name, 1e-9, 1e12, out, err) != SV_OK)
        return err->code;
    return isnan(*out) ? sv_fail(err, SV_EFORMAT, "'%s' is missing", name) : SV_OK;
}

/* Llama 3: waves longer than the trained window (by its factors) turn slower, with a blend between. */
static sv_rc scale_llama3(const reader *r, const json_t *rope, double base, int64_t n_rot, sv_err *err)
{
    double factor, low, high, window;
    if (need_num(rope, "factor", &factor, err) != SV_OK || need_num(rope, "low_freq_factor", &low, err) != SV_OK ||
        need_num(rope, "high_freq_factor", &high, err) != SV_OK || need_num(rope, "original_max_position_embeddings", &window, err) != SV_OK)
        return err->code;
    if (high <= low || n_rot < 2 || n_rot / 2 > MAX_PAIRS)
        return sv_fail(err, SV_EFORMAT, "frequency factors %g and %g of heads of %" PRId64 " make no sense", low, high, n_rot);
    float *factors = r->h->copies[r->h->n_copies++] = sv_xcalloc((size_t)n_rot / 2, sizeof *factors);
    for (int64_t i = 0; i < n_rot / 2; i++) {
        double wave = 2 * M_PI * pow(base, 2.0 * (double)i / (double)n_rot);
        double blend = fmin(1, fmax(0, (window / wave - low) / (high - low)));
        factors[i] = (float)(1 / ((1 - blend) / factor + blend));
    }
    sv_gguf_put_tensor(r->h->gguf, "rope_freqs.weight",
                       &(sv_tensor){.type = SV_F32, .n_dims = 1, .dims = {n_rot / 2, 1, 1, 1}, .data = factors, .n_bytes = (size_t)n_rot / 2 * 4});
    return SV_OK;
}

static sv_rc scale_yarn(const reader *r, const json_t *rope, sv_err *err)
{
    double factor, fast = 32, slow = 1, attn = NAN, trained = NAN, mscale = 0, mscale_all = 0;
    bool truncate = true;
    if (need_num(rope, "factor", &factor, err) != SV_OK || sv_json_num(rope, "beta_fast", 1e-3, 1e6, &fast, err) != SV_OK ||
        sv_json_num(rope, "beta_slow", 1e-3, 1e6, &slow, err) != SV_OK || sv_json_num(rope, "attention_factor", 1e-3, 1e3, &attn, err) != SV_OK ||
        sv_json_num(rope, "original_max_position_embeddings", 1, INT32_MAX, &trained, err) != SV_OK ||
        sv_json_num(rope, "mscale", 0, 1e3, &mscale, err) != SV_OK || sv_json_num(rope, "mscale_all_dim", 0, 1e3, &mscale_all, err) != SV_OK ||
        sv_json_bool(rope, "truncate", &truncate, err) != SV_OK)
        return err->code;
    if (isnan(trained) && need_num(r->config, "max_position_embeddings", &trained, err) != SV_OK)
        return err->code;
    if (isnan(attn) && mscale > 0 && mscale_all > 0 && factor > 1)
        attn = (1 + 0.1 * mscale * log(factor)) / (1 + 0.1 * mscale_all * log(factor));
    char key[MAX_NAME];
    sv_gguf_put_str(r->h->gguf, key_of(r, key, "rope.scaling.type"), SV_STR("yarn"));
    put_f32(r, "rope.scaling.factor", factor);
    put_i64(r, "rope.scaling.original_context_length", (int64_t)trained);
    put_f32(r, "rope.scaling.yarn_beta_fast", fast);
    put_f32(r, "rope.scaling.yarn_beta_slow", slow);
    put_i64(r, "rope.scaling.yarn_truncate", truncate);
    if (!isnan(attn)) /* the whole factor here, what remains beside the usual one there */
        put_f32(r, "rope.scaling.attn_factor", attn / (factor > 1 ? 1 + 0.1 * log(factor) : 1));
    return SV_OK;
}

/* rope_parameters since transformers 5; rope_theta and rope_scaling before. */
static sv_rc read_rope(const reader *r, sv_err *err)
{
    const json_t *rope = json_object_get(r->config, "rope_parameters");
    if (!json_is_object(rope))
        rope = json_object_get(r->config, "rope_scaling");
    const char *type = sv_json_cstr(rope, "rope_type");
    double base = 10000, part = 1, factor = 1;
    int64_t n_embd = 0, n_head = 1, head_dim = 0;
    type = type ? type : sv_json_cstr(rope, "type");
    if (sv_json_num(r->config, "rope_theta", 1, 1e12, &base, err) != SV_OK ||
        (json_is_object(rope) && sv_json_num(rope, "rope_theta", 1, 1e12, &base, err) != SV_OK) ||
        sv_json_num(r->config, "partial_rotary_factor", 1e-3, 1, &part, err) != SV_OK ||
        (json_is_object(rope) && sv_json_num(rope, "partial_rotary_factor", 1e-3, 1, &part, err) != SV_OK) ||
        sv_json_int(r->config, "hidden_size", 1, INT32_MAX, &n_embd, err) != SV_OK ||
        sv_json_int(r->config, "num_attention_heads", 1, INT32_MAX, &n_head, err) != SV_OK)
        return err->code;
    head_dim = r->type->head_dim && !is_null(r, "head_dim") ? r->type->head_dim : n_embd / n_head;
    if (sv_json_int(r->config, "head_dim", 1, INT32_MAX, &head_dim, err) != SV_OK)
        return err->code;
    int64_t n_rot = (int64_t)((double)head_dim * part);
    put_f32(r, "rope.freq_base", base);
    put_i64(r, "rope.dimension_count", n_rot);
    put_i64(r, "attention.key_length", head_dim);
    put_i64(r, "attention.value_length", head_dim);
    if (!type || strcmp(type, "default") == 0)
        return SV_OK;
    if (strcmp(type, "llama3") == 0)
        return scale_llama3(r, rope, base, n_rot, err);
    if (strcmp(type, "yarn") == 0)
        return scale_yarn(r, rope, err);
    if (strcmp(type, "linear") != 0)
        return sv_fail(err, SV_EFORMAT, "'rope_type': '%.40s' is not supported; supported: default, linear, llama3, yarn", type);
    char key[MAX_NAME];
    if (need_num(rope, "factor", &factor, err) != SV_OK)
        return err->code;
    sv_gguf_put_str(r->h->gguf, key_of(r, key, "rope.scaling.type"), SV_STR("linear"));
    put_f32(r, "rope.scaling.factor", factor);
    return SV_OK;
}

/* --- families ----------------------------------------------------------------------------------------------------- */

static sv_rc read_llama(const reader *r, sv_err *err)
{
    double eps = 1e-6;
    int64_t n_head = 1, n_head_kv;
    if (read_members(r, llama_members, SV_LEN(llama_members), err) != SV_OK || sv_json_num(r->config, "rms_norm_eps", 0, 1, &eps, err) != SV_OK ||
        check_activation(r, "hidden_act", llama_activations, err) != SV_OK || sv_json_int(r->config, "num_attention_heads", 1, INT32_MAX, &n_head, err) != SV_OK ||
        read_window(r, err) != SV_OK)
        return err->code;
    n_head_kv = r->type->n_head_kv && !is_null(r, "num_key_value_heads") ? r->type->n_head_kv : n_head;
    if (sv_json_int(r->config, "num_key_value_heads", 1, INT32_MAX, &n_head_kv, err) != SV_OK)
        return err->code;
    put_i64(r, "attention.head_count_kv", n_head_kv);
    put_f32(r, "attention.layer_norm_rms_epsilon", eps);
    return read_rope(r, err);
}

static sv_rc read_gpt2(const reader *r, sv_err *err)
{
    double eps = 1e-5;
    int64_t n_embd = 0, n_ff = 0;
    bool scaled = true, falls = false;
    if (read_members(r, gpt2_members, SV_LEN(gpt2_members), err) != SV_OK || sv_json_num(r->config, "layer_norm_epsilon", 0, 1, &eps, err) != SV_OK ||
        check_activation(r, "activation_function", gpt2_activations, err) != SV_OK || refuse_true(r, "add_cross_attention", err) != SV_OK ||
        sv_json_bool(r->config, "scale_attn_by_inverse_layer_idx", &falls, err) != SV_OK ||
        sv_json_bool(r->config, "scale_attn_weights", &scaled, err) != SV_OK ||
        sv_json_int(r->config, "n_embd", 1, INT32_MAX / 4, &n_embd, err) != SV_OK)
        return err->code;
    n_ff = 4 * n_embd;
    if (sv_json_int(r->config, "n_inner", 1, INT32_MAX, &n_ff, err) != SV_OK)
        return err->code;
    if (!scaled)
        put_f32(r, "attention.scale", 1);
    put_i64(r, "attention.scale_falls", falls);
    const char *activation = sv_json_cstr(r->config, "activation_function");
    char key[MAX_NAME];
    if (activation && strcmp(activation, "gelu_pytorch_tanh") != 0) /* another name of gelu_new */
        sv_gguf_put_str(r->h->gguf, key_of(r, key, "activation"), sv_str_of(activation));
    put_i64(r, "feed_forward_length", n_ff);
    put_f32(r, "attention.layer_norm_epsilon", eps);
    return SV_OK;
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

/* Names behind "model." or "transformer."; %d is the layer's number. Weights and biases alike. */
typedef struct naming { const char *hf, *gguf; bool turned; } naming;
static const naming llama_tensors[] = {
    {"embed_tokens", "token_embd", false},       {"norm", "output_norm", false},
    {"lm_head", "output", false},                {"layers.%d.input_layernorm", "blk.%d.attn_norm", false},
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", false},  {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", false},
    {"layers.%d.self_attn.v_proj", "blk.%d.attn_v", false},  {"layers.%d.self_attn.o_proj", "blk.%d.attn_output", false},
    {"layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm", false}, {"layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm", false},
    {"layers.%d.post_attention_layernorm", "blk.%d.ffn_norm", false}, {"layers.%d.mlp.gate_proj", "blk.%d.ffn_gate", false},
    {"layers.%d.mlp.up_proj", "blk.%d.ffn_up", false},       {"layers.%d.mlp.down_proj", "blk.%d.ffn_down", false},
};
static const naming gpt2_tensors[] = {
    {"wte", "token_embd", false},                {"wpe", "position_embd", false},
    {"ln_f", "output_norm", false},              {"lm_head", "output", false},
    {"h.%d.ln_1", "blk.%d.attn_norm", false},    {"h.%d.attn.c_attn", "blk.%d.attn_qkv", true},
    {"h.%d.attn.c_proj", "blk.%d.attn_output", true}, {"h.%d.ln_2", "blk.%d.ffn_norm", false},
    {"h.%d.mlp.c_fc", "blk.%d.ffn_up", true},    {"h.%d.mlp.c_proj", "blk.%d.ffn_down", true},
};

/* Does `name`, up to a dot before its leaf, read as the pattern? Gives the layer (0 where there is none) and the leaf. */
static bool match(const char *pattern, const char *name, int *layer, const char **leaf)
{
    *layer = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        const char *digits = name;
        for (; *name >= '0' && *name <= '9' && name - digits < 5; name++)
            *layer = *layer * 10 + *name - '0';
        if (name == digits || (*digits == '0' && name - digits > 1))
            return false;
        pattern++; /* the d */
    }
    *leaf = name + 1;
    return *name == '.' && (strcmp(*leaf, "weight") == 0 || strcmp(*leaf, "bias") == 0);
}

/* The GGUF's name for a tensor, or false: none that a family reads. */
static bool gguf_name(const reader *r, char out[MAX_NAME], const char *name, const naming **how)
{
    const char *prefix = r->type->gpt2 ? "transformer." : "model.", *leaf;
    const naming *all = r->type->gpt2 ? gpt2_tensors : llama_tensors;
    size_t n = r->type->gpt2 ? SV_LEN(gpt2_tensors) : SV_LEN(llama_tensors);
    int layer;
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        name += strlen(prefix);
    for (size_t i = 0; i < n; i++)
        if (match(all[i].hf, name, &layer, &leaf)) {
            const char *at = strstr(all[i].gguf, "%d");
            if (at)
                snprintf(out, MAX_NAME, "%.*s%d%s.%s", (int)(at - all[i].gguf), all[i].gguf, layer, at + 2, leaf);
            else
                snprintf(out, MAX_NAME, "%s.%s", all[i].gguf, leaf);
            *how = &all[i];
            return true;
        }
    return false;
}

/* [n_in, n_out] rows to [n_out, n_in]. */
static sv_rc turn(sv_hf *h, sv_tensor *t, sv_err *err)
{
    size_t width = (size_t)sv_type_get(t->type)->block_bytes, n_cols = (size_t)t->dims[0], n_rows = (size_t)t->dims[1];
    uint8_t *to = sv_try_calloc(t->n_bytes + 1, 1);
    const uint8_t *from = t->data;
    if (!to)
        return sv_fail(err, SV_ENOMEM, "tensor '%s': no memory for %zu bytes", t->name, t->n_bytes);
    h->copies[h->n_copies++] = to;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n_cols; c++)
            memcpy(to + (c * n_rows + r) * width, from + (r * n_cols + c) * width, width);
    t->data = to;
    t->dims[0] = (int64_t)n_rows;
    t->dims[1] = (int64_t)n_cols;
    return SV_OK;
}

static sv_rc put_tensor(const reader *r, const sv_tensor *from, sv_err *err)
{
    char name[MAX_NAME];
    const naming *how = NULL;
    sv_tensor t = *from;
    if (!gguf_name(r, name, from->name, &how) || (r->tied && strcmp(name, "output.weight") == 0))
        return SV_OK;
    if (sv_gguf_tensor(r->h->gguf, name)) /* inv. 2 */
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is there under another name too", from->name);
    if (how->turned && t.n_dims == 2 && t.n_bytes > 0 && turn(r->h, &t, err) != SV_OK)
        return err->code;
    bool of_vocab = strcmp(name, "token_embd.weight") == 0 || strcmp(name, "output.weight") == 0;
    if (of_vocab && t.n_dims == 2 && t.dims[1] > r->n_vocab) {
        t.n_bytes = t.n_bytes / (size_t)t.dims[1] * (size_t)r->n_vocab;
        t.dims[1] = r->n_vocab;
    }
    sv_gguf_put_tensor(r->h->gguf, name, &t);
    return SV_OK;
}

/* Families take the biases that are there; a config that says there are some must not go without. */
static sv_rc check_biases(const reader *r, sv_err *err)
{
    static const struct { const char *member, *tensor; } promised[] = {{"attention_bias", "blk.0.attn_q.bias"}, {"mlp_bias", "blk.0.ffn_gate.bias"}};
    for (size_t i = 0; i < SV_LEN(promised); i++) {
        const json_t *is = json_object_get(r->config, promised[i].member);
        if (is && !json_is_boolean(is))
            return sv_fail(err, SV_EFORMAT, "'%s' is neither true nor false", promised[i].member);
        if (json_is_true(is) && !sv_gguf_tensor(r->h->gguf, promised[i].tensor))
            return sv_fail(err, SV_EFORMAT, "'%s' is true, but there are no such tensors", promised[i].member);
    }
    return SV_OK;
}

static sv_rc put_tensors(const reader *r, sv_err *err)
{
    for (size_t i = 0; i < sv_safetensors_n_tensors(r->h->files); i++)
        if (put_tensor(r, sv_safetensors_tensor_at(r->h->files, i), err) != SV_OK)
            return err->code;
    if (!r->tied && !sv_gguf_tensor(r->h->gguf, "output.weight"))
        return sv_fail(err, SV_EFORMAT, "tensor 'lm_head.weight' is missing");
    return check_biases(r, err);
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static sv_rc find_type(reader *r, sv_err *err)
{
    const char *name = sv_json_cstr(r->config, "model_type");
    if (!name)
        return sv_fail(err, SV_EFORMAT, "'model_type' is missing");
    for (size_t i = 0; i < SV_LEN(model_types); i++)
        if (strcmp(name, model_types[i].name) == 0)
            r->type = &model_types[i];
    if (!r->type)
        return sv_fail(err, SV_EFORMAT, "'model_type': '%.40s' is not supported; supported: llama, mistral, ministral, qwen2, qwen3, gpt2", name);
    const json_t *quantised = json_object_get(r->config, "quantization_config");
    if (json_is_object(quantised))
        return sv_fail(err, SV_EFORMAT, "'quantization_config': weights quantised by '%.40s' are not supported; take the GGUF, or the original weights",
                       sv_json_cstr(quantised, "quant_method") ? sv_json_cstr(quantised, "quant_method") : "(unnamed)");
    return SV_OK;
}

static sv_rc read_config(reader *r, sv_err *err)
{
    int64_t n_rows = r->n_vocab;
    if (!json_is_object(r->config))
        return sv_fail(err, SV_EFORMAT, "it is no object");
    if (find_type(r, err) != SV_OK || sv_json_int(r->config, "vocab_size", 1, INT32_MAX, &n_rows, err) != SV_OK)
        return err->code;
    r->tied = r->type->tied;
    if (sv_json_bool(r->config, "tie_word_embeddings", &r->tied, err) != SV_OK)
        return err->code;
    if (n_rows < r->n_vocab)
        return sv_fail(err, SV_EFORMAT, "'vocab_size': %" PRId64 ", but the tokenizer has %d tokens", n_rows, r->n_vocab);
    sv_gguf_put_str(r->h->gguf, "general.architecture", sv_str_of(r->type->arch));
    return r->type->gpt2 ? read_gpt2(r, err) : read_llama(r, err);
}

static sv_rc load(sv_hf *h, const char *folder, int32_t n_vocab, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/config.json", folder);
    sv_buf_init(&text, MAX_CONFIG);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&config, sv_buf_str(&text), err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (sv_safetensors_open_folder(&h->files, folder, err) != SV_OK)
        return err->code;
    size_t n = sv_safetensors_n_tensors(h->files);
    h->gguf = sv_gguf_new(MAX_KEYS, n + 1);
    h->copies = sv_xcalloc(n + 1, sizeof *h->copies);
    reader r = {.h = h, .config = config, .n_vocab = n_vocab};
    if (read_config(&r, err) != SV_OK) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code; /* of the JSON getters, which speak to callers of an API */
        return sv_wrap(err, "'%s'", path);
    }
    if (put_tensors(&r, err) != SV_OK)
        return sv_wrap(err, "'%s'", folder);
    return SV_OK;
}

sv_rc sv_hf_open(sv_hf **out, const char *folder, int32_t n_vocab, sv_err *err)
{
    SV_AUTO(sv_hf_closep) sv_hf *h = sv_xnew0(sv_hf);
    if (load(h, folder, n_vocab, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(h);
    return SV_OK;
}

sv_hf *sv_hf_close(sv_hf *h)
{
    if (!h)
        return NULL;
    for (size_t i = 0; i < h->n_copies; i++)
        free(h->copies[i]);
    free(h->copies);
    sv_gguf_close(h->gguf);
    sv_safetensors_close(h->files);
    free(h);
    return NULL;
}

const sv_gguf *sv_hf_gguf(const sv_hf *h)
{
    return h->gguf;
}

size_t sv_hf_size(const sv_hf *h)
{
    return sv_safetensors_size(h->files);
}
