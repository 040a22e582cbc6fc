/* tokenizer_json.c - a tokenizer from the tokenizer.json of a Hugging Face folder
 *
 * The file holds everything: vocabulary, merges or scores, normalizer and splitter as data, added tokens with the white space
 * they swallow, and the template that puts [CLS] or <s> around a text. Only which token is called BOS and which ends a text is in
 * tokenizer_config.json beside it.
 *
 * Ids come in any order and may leave holes. So the texts are collected by id first, added tokens over those of the model, and
 * handed to the vocabulary once each. Padding and truncation sections are settings of a batch and not of a tokenizer; we leave
 * them alone. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

enum { MAX_ID = 1 << 20,      /* four times the largest vocabulary known; a hole costs 40 bytes */
       MAX_ADDED = 64 << 20 }; /* bytes */

typedef struct loader {
    sv_tokenizer *t;
    const json_t *root, *model, *added;
    sv_str *text;   /* [n] by id, borrowed from the JSON */
    float *score;   /* [n] */
    uint8_t *type;  /* [n]; 0: no such id */
    size_t n;
    sv_str unk;     /* the unknown token's text; empty: none */
    int64_t unk_id; /* or its id; -1 */
    bool byte_fallback, cleanup;
    sv_err *err;
} loader;

static void loader_donep(loader *l)
{
    free(l->text);
    free(l->score);
    free(l->type);
}

static sv_str str_of(const json_t *j)
{
    return json_is_string(j) ? (sv_str){json_string_value(j), json_string_length(j)} : (sv_str){0};
}

/* ---- what kind of model ---- */

static sv_rc find_kind(loader *l)
{
    static const struct { const char *name; tok_kind kind; } kinds[] = {
        {"BPE", KIND_BPE}, {"Unigram", KIND_UNIGRAM}, {"WordPiece", KIND_WORDPIECE}};
    const char *type = sv_json_cstr(l->model, "type");
    if (!type) /* old files: what is in it says what it is */
        type = json_object_get(l->model, "merges") ? "BPE" : json_object_get(l->model, "unk_id") ? "Unigram" :
               json_object_get(l->model, "max_input_chars_per_word") ? "WordPiece" : "(none)";
    for (size_t i = 0; i < SV_LEN(kinds); i++)
        if (strcmp(type, kinds[i].name) == 0) {
            l->t->kind = kinds[i].kind;
            return SV_OK;
        }
    return sv_fail(l->err, SV_EFORMAT, "model: type '%.40s' is not known; BPE, Unigram and WordPiece are", type);
}

static sv_rc read_settings(loader *l)
{
    sv_tokenizer *t = l->t;
    sv_str prefix = SV_STR(""), suffix = SV_STR("");
    int64_t max_word = 100;
    l->unk_id = -1;
    if (sv_json_str(l->model, "unk_token", &l->unk, l->err) != SV_OK ||
        sv_json_int(l->model, "unk_id", 0, MAX_ID - 1, &l->unk_id, l->err) != SV_OK ||
        sv_json_bool(l->model, "byte_fallback", &l->byte_fallback, l->err) != SV_OK ||
        sv_json_bool(l->model, "fuse_unk", &t->fuse_unk, l->err) != SV_OK ||
        sv_json_bool(l->model, "ignore_merges", &t->ignore_merges, l->err) != SV_OK ||
        sv_json_str(l->model, "continuing_subword_prefix", &prefix, l->err) != SV_OK ||
        sv_json_str(l->model, "end_of_word_suffix", &suffix, l->err) != SV_OK ||
        sv_json_int(l->model, "max_input_chars_per_word", 1, 1000, &max_word, l->err) != SV_OK)
        return l->err->code;
    t->max_word = (uint32_t)max_word;
    if (t->kind == KIND_UNIGRAM)
        t->fuse_unk = true;
    if (t->kind == KIND_WORDPIECE ? !sv_str_is(prefix, "##") : prefix.n > 0)
        return sv_fail(l->err, SV_EFORMAT, "'continuing_subword_prefix': '%.40s' is not supported", prefix.p);
    if (suffix.n > 32)
        return sv_fail(l->err, SV_EFORMAT, "'end_of_word_suffix': %zu bytes, at most 32", suffix.n);
    if (suffix.n > 0)
        t->word_end = sv_xstrndup(suffix.p, suffix.n);
    return SV_OK;
}

/* ---- vocabulary ---- */

static sv_rc id_of(const loader *l, const json_t *j, const char *where, int32_t *id)
{
    if (!json_is_integer(j) || json_integer_value(j) < 0 || json_integer_value(j) >= MAX_ID)
        return sv_fail(l->err, SV_EFORMAT, "%s: a token id that is no integer from 0 to %d", where, MAX_ID - 1);
    *id = (int32_t)json_integer_value(j);
    return SV_OK;
}

static sv_rc count_ids(loader *l, const json_t *vocab)
{
    const char *key;
    const json_t *value;
    int32_t id = 0;
    size_t i;
    if (json_is_object(vocab)) {
        json_object_foreach((json_t *)vocab, key, value) {
            if (id_of(l, value, "model.vocab", &id) != SV_OK)
                return l->err->code;
            l->n = (size_t)id + 1 > l->n ? (size_t)id + 1 : l->n;
        }
    } else {
        l->n = json_array_size(vocab);
        if (l->n > MAX_ID)
            return sv_fail(l->err, SV_EFORMAT, "model.vocab: %zu tokens, at most %d", l->n, MAX_ID);
    }
    json_array_foreach(l->added, i, value) {
        if (id_of(l, json_object_get(value, "id"), "added_tokens", &id) != SV_OK)
            return l->err->code;
        l->n = (size_t)id + 1 > l->n ? (size_t)id + 1 : l->n;
    }
    return SV_OK;
}

static int type_of(const loader *l, sv_str text)
{
    if (l->byte_fallback && sv_tok_byte_of(text) >= 0)
        return TOK_BYTE;
    return TOK_NORMAL;
}

/* {"text": id} of BPE and WordPiece, [["text", score]] of Unigram */
static sv_rc collect_vocab(loader *l, const json_t *vocab)
{
    const char *key;
    size_t i, n;
    const json_t *value;
    bool unigram = l->t->kind == KIND_UNIGRAM;
    if (unigram ? !json_is_array(vocab) : !json_is_object(vocab))
        return sv_fail(l->err, SV_EFORMAT, "model.vocab is not %s", unigram ? "a list of pairs" : "an object");
    if (unigram) {
        json_array_foreach(vocab, i, value) {
            const json_t *score = json_array_get(value, 1);
            l->text[i] = str_of(json_array_get(value, 0));
            if (!l->text[i].p || !json_is_number(score))
                return sv_fail(l->err, SV_EFORMAT, "model.vocab[%zu]: not a text and a score", i);
            l->score[i] = (float)json_number_value(score);
            l->type[i] = (uint8_t)type_of(l, l->text[i]);
        }
        return SV_OK;
    }
    json_object_keylen_foreach((json_t *)vocab, key, n, value) {
        size_t id = (size_t)json_integer_value(value);
        if (l->type[id])
            return sv_fail(l->err, SV_EFORMAT, "model.vocab: two tokens with id %zu", id);
        l->text[id] = (sv_str){key, n};
        l->type[id] = (uint8_t)type_of(l, l->text[id]);
    }
    return SV_OK;
}

static sv_rc collect_added(loader *l)
{
    size_t i;
    const json_t *a;
    json_array_foreach(l->added, i, a) {
        size_t id = (size_t)json_integer_value(json_object_get(a, "id"));
        bool special = false;
        sv_str content = str_of(json_object_get(a, "content"));
        if (!content.p)
            return sv_fail(l->err, SV_EFORMAT, "added_tokens[%zu]: no 'content'", i);
        if (sv_json_bool(a, "special", &special, l->err) != SV_OK)
            return sv_wrap(l->err, "added_tokens[%zu]", i);
        l->text[id] = content;
        l->type[id] = special ? TOK_CONTROL : TOK_USER;
    }
    return SV_OK;
}

static sv_rc load_vocab(loader *l)
{
    const json_t *vocab = json_object_get(l->model, "vocab");
    size_t n_bytes = 0;
    if (count_ids(l, vocab) != SV_OK)
        return l->err->code;
    l->text = sv_try_calloc(l->n + 1, sizeof *l->text);
    l->score = sv_try_calloc(l->n + 1, sizeof *l->score);
    l->type = sv_try_calloc(l->n + 1, 1);
    if (!l->text || !l->score || !l->type)
        return sv_fail(l->err, SV_ENOMEM, "no memory for %zu tokens", l->n);
    if (collect_vocab(l, vocab) != SV_OK || collect_added(l) != SV_OK)
        return l->err->code;
    for (size_t i = 0; i < l->n; i++)
        n_bytes += l->text[i].n;
    if (sv_tok_vocab_init(l->t, l->n, n_bytes, l->err) != SV_OK)
        return sv_wrap(l->err, "model.vocab");
    for (size_t i = 0; i < l->n; i++)
        if (l->text[i].n > 0)
            sv_tok_vocab_set(l->t, (int32_t)i, l->text[i], l->type[i], l->score[i]);
    return sv_tok_vocab_index(l->t, l->err);
}

static sv_rc find_unk(loader *l)
{
    sv_tokenizer *t = l->t;
    if (l->unk.n > 0)
        t->unk = sv_tok_find(t, l->unk.p, l->unk.n);
    else if (l->unk_id >= 0)
        t->unk = l->unk_id < t->n_vocab ? (int32_t)l->unk_id : -1;
    if (t->unk < 0 && (l->unk.n > 0 || l->unk_id >= 0))
        return sv_fail(l->err, SV_EFORMAT, "model: the unknown token is not in the vocabulary");
    if (t->unk >= 0 && t->type[t->unk] == TOK_NORMAL)
        t->type[t->unk] = TOK_UNKNOWN;
    return SV_OK;
}

/* "a b" or ["a", "b"], best first */
static sv_rc load_merges(loader *l)
{
    const json_t *merges = json_object_get(l->model, "merges"), *m;
    size_t i;
    if (!json_is_array(merges) && json_object_size(merges) > 0) /* none at all is no merges */
        return sv_fail(l->err, SV_EFORMAT, "model.merges is not a list");
    if (sv_tok_merges_init(l->t, json_array_size(merges), l->err) != SV_OK)
        return l->err->code;
    json_array_foreach(merges, i, m) {
        sv_str left = str_of(json_array_get(m, 0)), right = str_of(json_array_get(m, 1)), both = str_of(m);
        const char *sp = both.n ? memchr(both.p, ' ', both.n) : NULL;
        if (sp) {
            left = (sv_str){both.p, (size_t)(sp - both.p)};
            right = (sv_str){sp + 1, both.n - left.n - 1};
        }
        if (!left.p || !right.p)
            return sv_fail(l->err, SV_EFORMAT, "model.merges[%zu]: not two texts", i);
        sv_tok_merges_add(l->t, left, right, (uint32_t)i);
    }
    return SV_OK;
}

/* ---- pieces of WordPiece ---- */

/* BERT's own way to make English of words and spaces, token by token as the original does it: " ." is ".", " n't" is "n't". */
static sv_str clean_up(sv_str s)
{
    static const char *const glued[] = {" .", " ?", " !", " ,", " n't", " 'm", " 's", " 've", " 're"};
    for (size_t i = 0; i < SV_LEN(glued); i++)
        if (sv_str_is(s, glued[i]))
            return (sv_str){s.p + 1, s.n - 1};
    return s;
}

static sv_rc wordpieces(loader *l)
{
    sv_tokenizer *t = l->t;
    SV_AUTO(sv_buf_donep) sv_buf piece;
    sv_buf_init(&piece, 0);
    t->first_verbatim = true;
    for (int pass = 0; pass < 2; pass++) { /* the trie wants the pieces as they are, readers want them cleaned up */
        for (int32_t id = 0; id < t->n_vocab; id++) {
            sv_str s = t->text[id];
            if (s.n == 0 || t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN)
                continue;
            if (pass == 1) {
                t->piece[id] = clean_up(t->piece[id]);
                continue;
            }
            sv_buf_reset(&piece);
            bool continues = s.n > 2 && memcmp(s.p, "##", 2) == 0;
            sv_buf_adds(&piece, continues ? "" : " ");
            sv_buf_add(&piece, s.p + (continues ? 2 : 0), s.n - (continues ? 2 : 0));
            if (piece.failed)
                return sv_fail(l->err, SV_ENOMEM, "no memory for a token");
            sv_tok_vocab_piece(t, id, sv_buf_str(&piece));
        }
        if (pass == 0 && sv_tok_trie_build(t, l->err) != SV_OK)
            return l->err->code;
        if (!l->cleanup)
            break;
    }
    return SV_OK;
}

/* ---- added tokens ---- */

static sv_rc normalized_text(loader *l, tok_added *a, sv_buf *all)
{
    tok_work w = {0};
    sv_str out;
    for (size_t i = 0; i < SV_LEN(w.text); i++)
        sv_buf_init(&w.text[i], 1 << 20);
    sv_rc rc = sv_tok_normalize(l->t, l->t->text[a->id], &w, &out, l->err);
    if (rc == SV_OK && !sv_buf_add(all, out.p, out.n))
        rc = sv_fail(l->err, SV_EFORMAT, "normalized, the added tokens have more than %d MiB", MAX_ADDED >> 20);
    if (rc == SV_OK)
        a->text.n = out.n;
    for (size_t i = 0; i < SV_LEN(w.text); i++)
        sv_buf_done(&w.text[i]);
    return rc;
}

static sv_rc load_added(loader *l)
{
    size_t n = json_array_size(l->added), i;
    const json_t *j;
    SV_AUTO(sv_freep) tok_added *all = sv_try_calloc(n + 1, sizeof *all);
    SV_AUTO(sv_buf_donep) sv_buf texts;
    sv_buf_init(&texts, MAX_ADDED); /* a normalizer may write much for little */
    if (!all)
        return sv_fail(l->err, SV_ENOMEM, "no memory for %zu added tokens", n);
    json_array_foreach(l->added, i, j) {
        tok_added *a = &all[i];
        a->id = (int32_t)json_integer_value(json_object_get(j, "id"));
        a->special = l->t->type[a->id] == TOK_CONTROL;
        a->normalized = !a->special;
        if (sv_json_bool(j, "normalized", &a->normalized, l->err) != SV_OK || sv_json_bool(j, "lstrip", &a->left, l->err) != SV_OK ||
            sv_json_bool(j, "rstrip", &a->right, l->err) != SV_OK || sv_json_bool(j, "single_word", &a->word, l->err) != SV_OK)
            return sv_wrap(l->err, "added_tokens[%zu]", i);
        if (l->t->normalizer.n == 0)
            a->normalized = false; /* the same, in one pass less */
        if (a->normalized && normalized_text(l, a, &texts) != SV_OK)
            return sv_wrap(l->err, "added_tokens[%zu]", i);
    }
    l->t->added_bytes = sv_buf_take(&texts);
    const char *at = l->t->added_bytes;
    for (i = 0; i < n; i++)
        if (all[i].normalized) {
            all[i].text.p = at;
            at += all[i].text.n;
        }
    return sv_tok_added_close(l->t, all, n, l->err);
}

/* ---- what stands around a text ---- */

static sv_rc put_around(loader *l, bool before, const json_t *id_json)
{
    sv_tokenizer *t = l->t;
    int32_t id = 0, *list = before ? t->prefix : t->suffix;
    uint8_t *n = before ? &t->n_prefix : &t->n_suffix;
    if (id_of(l, id_json, "post_processor", &id) != SV_OK)
        return l->err->code;
    if (id >= t->n_vocab || *n == SV_LEN(t->prefix))
        return sv_fail(l->err, SV_EFORMAT, "post_processor: id %d is not in the vocabulary, or it puts more than %zu tokens on one side", id,
                       SV_LEN(t->prefix));
    list[(*n)++] = id;
    return SV_OK;
}

static sv_rc load_template(loader *l, const json_t *p)
{
    size_t i, k;
    const json_t *part, *id;
    bool before = true;
    json_array_foreach(json_object_get(p, "single"), i, part) {
        const json_t *special = json_object_get(part, "SpecialToken");
        if (!special) {
            before = false;
            continue;
        }
        const char *name = sv_json_cstr(special, "id");
        const json_t *ids = name ? json_object_get(json_object_get(json_object_get(p, "special_tokens"), name), "ids") : NULL;
        if (!json_is_array(ids))
            return sv_fail(l->err, SV_EFORMAT, "post_processor: no ids for the special token '%.60s'", name ? name : "(none)");
        json_array_foreach(ids, k, id)
            if (put_around(l, before, id) != SV_OK)
                return l->err->code;
    }
    return SV_OK;
}

static sv_rc load_post_processor(loader *l, const json_t *p)
{
    const char *type = sv_json_cstr(p, "type");
    if (!p || json_is_null(p) || (type && strcmp(type, "ByteLevel") == 0))
        return SV_OK;
    if (type && strcmp(type, "TemplateProcessing") == 0)
        return load_template(l, p);
    if (type && (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0))
        return put_around(l, true, json_array_get(json_object_get(p, "cls"), 1)) != SV_OK
                   ? l->err->code : put_around(l, false, json_array_get(json_object_get(p, "sep"), 1));
    return sv_fail(l->err, SV_EFORMAT, "post_processor: '%.60s' is not known", type ? type : "(no type)");
}

static sv_rc load_post_processors(loader *l)
{
    const json_t *p = json_object_get(l->root, "post_processor"), *list = json_object_get(p, "processors"), *one;
    size_t i;
    if (!json_is_array(list))
        return load_post_processor(l, p);
    json_array_foreach(list, i, one)
        if (load_post_processor(l, one) != SV_OK)
            return l->err->code;
    return SV_OK;
}

/* ---- BOS, EOS ---- */

/* "<s>", {"content": "<s>"}, null or absent */
static int32_t named_token(const loader *l, const json_t *config, const char *key)
{
    const json_t *j = json_object_get(config, key);
    sv_str s = str_of(json_is_object(j) ? json_object_get(j, "content") : j);
    return s.n > 0 ? sv_tok_find(l->t, s.p, s.n) : -1;
}

static sv_rc load_config(loader *l, sv_str config)
{
    sv_tokenizer *t = l->t;
    SV_AUTO(sv_json_decrefp) json_t *j = NULL;
    if (config.n > 0 && sv_json_parse_lax(&j, config, l->err) != SV_OK)
        return sv_wrap(l->err, "tokenizer_config.json");
    t->bos = named_token(l, j, "bos_token");
    t->eos = named_token(l, j, "eos_token");
    if (t->bos < 0 && t->n_prefix == 1)
        t->bos = t->prefix[0];
    if (t->eos < 0 && t->n_suffix == 1)
        t->eos = t->suffix[0];
    sv_tok_mark_eog(t, t->eos);
    sv_tok_mark_turn_ends(t);
    return SV_OK;
}

static void set_unk_score(sv_tokenizer *t)
{
    float least = 0;
    for (int32_t id = 0; id < t->n_vocab; id++)
        least = t->score[id] < least ? t->score[id] : least;
    t->unk_score = least - 10;
}

static sv_rc load_model(loader *l)
{
    sv_tokenizer *t = l->t;
    const json_t *decoder = json_object_get(l->root, "decoder");
    if (find_kind(l) != SV_OK)
        return l->err->code;
    if (read_settings(l) != SV_OK)
        return sv_wrap(l->err, "model");
    if (load_vocab(l) != SV_OK || find_unk(l) != SV_OK || sv_tok_json_steps(t, l->root, l->err) != SV_OK)
        return l->err->code;
    if (t->byte_level && t->kind != KIND_BPE)
        return sv_fail(l->err, SV_EFORMAT, "a ByteLevel splitter before a model that is not BPE");
    sv_tok_vocab_bytes(t);
    set_unk_score(t);
    switch (t->kind) {
    case KIND_BPE: return load_merges(l);
    case KIND_WORDPIECE:
        t->drops_first_space = true;
        if (sv_json_bool(decoder, "cleanup", &l->cleanup, l->err) != SV_OK)
            return sv_wrap(l->err, "decoder");
        return wordpieces(l);
    default: return sv_tok_trie_build(t, l->err);
    }
}

sv_rc sv_tokenizer_from_json(sv_tokenizer **out, sv_str json, sv_str config, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *root = NULL;
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = sv_xnew0(sv_tokenizer);
    if (sv_json_parse(&root, json, err) != SV_OK)
        return sv_wrap(err, "tokenizer.json");
    SV_AUTO(loader_donep) loader l = {.t = t, .root = root, .model = json_object_get(root, "model"),
                                      .added = json_object_get(root, "added_tokens"), .err = err};
    if (!json_is_object(l.model))
        return sv_fail(err, SV_EFORMAT, "tokenizer.json: no 'model'");
    if (load_model(&l) != SV_OK || load_added(&l) != SV_OK || load_post_processors(&l) != SV_OK || load_config(&l, config) != SV_OK)
        return sv_wrap(err, "tokenizer.json");
    sv_tok_vocab_pieces(t);
    *out = SV_TAKE(t);
    return SV_OK;
}
