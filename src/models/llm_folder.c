/* llm_folder.c - what a model in a Hugging Face folder has beside config and weights: tokenizer, chat template, and what ends a text
 *
 * The tokenizer is tokenizer.json; files older than that (vocab.json, merges.txt, tokenizer.model) are refused by saying so, since the
 * libraries that made them write the new one when asked. The chat template is chat_template.jinja or, before 2025, a member of
 * tokenizer_config.json: a string, or a list of named ones of which "default" is taken.
 *
 * A text ends with the tokenizer's eos_token and with the ids under eos_token_id, one or a list, of generation_config.json, or of
 * config.json where there is no such file, as in the transformers library. Its sampling defaults are not taken: those are the API's.
 *
 * The tokenizer comes first: how many tokens there are decides how many rows of the matrices are read (hf.h). */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/llm_impl.h"

enum { MAX_TOKENIZER = 128 << 20, MAX_SETTINGS = 8 << 20, MAX_ENDS = 64 };

/* A file of the folder; absent and `optional`: empty. */
static sv_rc read_text(sv_buf *out, const char *folder, const char *name, bool optional, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    if (optional && !sv_file_exists(path))
        return SV_OK;
    return sv_file_read(out, path, err);
}

/* The template of tokenizer_config.json; empty: none. */
static sv_str listed_template(const json_t *config)
{
    const json_t *t = json_object_get(config, "chat_template"), *one;
    size_t i;
    json_array_foreach(t, i, one) {
        const char *name = sv_json_cstr(one, "name");
        if (name && strcmp(name, "default") == 0)
            t = json_object_get(one, "template");
    }
    return json_is_string(t) ? (sv_str){json_string_value(t), json_string_length(t)} : (sv_str){0};
}

static sv_rc read_template(sv_llm *m, const char *folder, sv_str settings, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, MAX_SETTINGS);
    if (read_text(&text, folder, "chat_template.jinja", true, err) != SV_OK)
        return err->code;
    if (text.n > 0) {
        sv_llm_set_template(m, sv_buf_str(&text), "chat_template.jinja");
        return SV_OK;
    }
    if (settings.n > 0 && sv_json_parse_lax(&config, settings, err) != SV_OK)
        return sv_wrap(err, "tokenizer_config.json");
    sv_str source = listed_template(config);
    if (source.n > 0)
        sv_llm_set_template(m, source, "tokenizer_config.json, 'chat_template'");
    return SV_OK;
}

static sv_rc add_end(sv_llm *m, const json_t *id, const char *name, sv_err *err)
{
    if (!json_is_integer(id))
        return sv_fail(err, SV_EFORMAT, "%s, 'eos_token_id': neither a token's number nor a list of such", name);
    json_int_t i = json_integer_value(id);
    sv_tokenizer_add_eog(m->tokenizer, i >= 0 && i <= INT32_MAX ? (int32_t)i : -1); /* configs name some that the vocabulary has not */
    return SV_OK;
}

static sv_rc read_ends(sv_llm *m, const char *folder, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/generation_config.json", folder);
    const char *name = sv_file_exists(path) ? "generation_config.json" : "config.json";
    SV_AUTO(sv_buf_donep) sv_buf text;
    size_t i;
    sv_buf_init(&text, MAX_SETTINGS);
    if (read_text(&text, folder, name, false, err) != SV_OK)
        return err->code;
    if (sv_json_parse_lax(&config, sv_buf_str(&text), err) != SV_OK)
        return sv_wrap(err, "%s", name);
    const json_t *ids = json_object_get(config, "eos_token_id"), *id;
    if (!ids || json_is_null(ids))
        return SV_OK;
    if (!json_is_array(ids))
        return add_end(m, ids, name, err);
    if (json_array_size(ids) > MAX_ENDS)
        return sv_fail(err, SV_EFORMAT, "%s, 'eos_token_id': %zu numbers, at most %d", name, json_array_size(ids), MAX_ENDS);
    json_array_foreach(ids, i, id)
        if (add_end(m, id, name, err) != SV_OK)
            return err->code;
    return SV_OK;
}

sv_rc sv_llm_read_folder(sv_llm *m, const char *folder, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf json;
    SV_AUTO(sv_buf_donep) sv_buf settings;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/tokenizer.json", folder);
    sv_buf_init(&json, MAX_TOKENIZER);
    sv_buf_init(&settings, MAX_SETTINGS);
    if (!sv_file_exists(path))
        return sv_fail(err, SV_EFORMAT, "'%s' has no tokenizer.json; transformers writes one: AutoTokenizer.from_pretrained(...).save_pretrained(...)", folder);
    if (read_text(&json, folder, "tokenizer.json", false, err) != SV_OK ||
        read_text(&settings, folder, "tokenizer_config.json", true, err) != SV_OK)
        return err->code;
    if (sv_tokenizer_from_json(&m->tokenizer, sv_buf_str(&json), sv_buf_str(&settings), err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (read_template(m, folder, sv_buf_str(&settings), err) != SV_OK || read_ends(m, folder, err) != SV_OK)
        return sv_wrap(err, "'%s'", folder);
    return sv_hf_open(&m->hf, folder, sv_tokenizer_n_vocab(m->tokenizer), err);
}
