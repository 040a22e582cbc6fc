/* tokenizer_gguf.c - a tokenizer from the tokenizer.ggml.* keys of a model file
 *
 * tokenizer.ggml.model says the family: "llama" (SentencePiece BPE), "gpt2" (byte-level BPE), "bert" (WordPiece), "t5" (unigram).
 * Converters have already made the vocabularies alike in some points: WordPiece tokens that begin a word carry U+2581 in front and
 * the others nothing, where the original marks the others with "##".
 *
 * What a file leaves out is what its family does: SentencePiece BPE begins with BOS and puts a space in front, BERT stands between
 * [CLS] and [SEP], T5 ends with </s>. Whether a BERT lowercases is in no key; a vocabulary without a single capital does. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

#define KEY(name) "tokenizer.ggml." name
static const sv_str SPACE = {"\xe2\x96\x81", 3}; /* U+2581 */

static sv_rc load_tokens(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    const sv_str *text;
    const float *score;
    const int32_t *type;
    size_t n, n_score, n_type, n_bytes = 0;
    if (sv_gguf_arr_str(g, KEY("tokens"), &text, &n, err) != SV_OK || sv_gguf_arr_f32(g, KEY("scores"), &score, &n_score, err) != SV_OK ||
        sv_gguf_arr_i32(g, KEY("token_type"), &type, &n_type, err) != SV_OK)
        return err->code;
    if (n_score != 0 && n_score != n)
        return sv_fail(err, SV_EFORMAT, KEY("scores") ": %zu entries for %zu tokens", n_score, n);
    if (n_type != 0 && n_type != n)
        return sv_fail(err, SV_EFORMAT, KEY("token_type") ": %zu entries for %zu tokens", n_type, n);
    for (size_t i = 0; i < n; i++)
        n_bytes += text[i].n;
    if (sv_tok_vocab_init(t, n, n_bytes, err) != SV_OK)
        return sv_wrap(err, KEY("tokens"));
    for (size_t i = 0; i < n; i++)
        sv_tok_vocab_set(t, (int32_t)i, text[i], n_type && type[i] >= TOK_NORMAL && type[i] <= TOK_BYTE ? type[i] : TOK_NORMAL,
                         n_score ? score[i] : 0);
    return SV_OK;
}

/* A token id from the metadata. Files write -1 and 4294967295 for "none". */
static sv_rc load_id(const sv_tokenizer *t, const sv_gguf *g, const char *key, int32_t *out, sv_err *err)
{
    int64_t id = *out;
    if (sv_gguf_i64(g, key, -1, UINT32_MAX, &id, err) != SV_OK)
        return err->code;
    if (id == -1 || id == UINT32_MAX) {
        *out = -1;
        return SV_OK;
    }
    if (id >= t->n_vocab)
        return sv_fail(err, SV_EFORMAT, "%s: %lld, the vocabulary has %d tokens", key, (long long)id, t->n_vocab);
    *out = (int32_t)id;
    return SV_OK;
}

static sv_rc load_ids(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    int32_t eot = -1, eom = -1;
    if (load_id(t, g, KEY("bos_token_id"), &t->bos, err) != SV_OK || load_id(t, g, KEY("eos_token_id"), &t->eos, err) != SV_OK ||
        load_id(t, g, KEY("unknown_token_id"), &t->unk, err) != SV_OK || load_id(t, g, KEY("eot_token_id"), &eot, err) != SV_OK ||
        load_id(t, g, KEY("eom_token_id"), &eom, err) != SV_OK)
        return err->code;
    sv_tok_mark_eog(t, t->eos);
    sv_tok_mark_eog(t, eot);
    sv_tok_mark_eog(t, eom);
    sv_tok_mark_turn_ends(t);
    return SV_OK;
}

static sv_rc load_added(sv_tokenizer *t, sv_err *err)
{
    size_t n = 0;
    for (int32_t id = 0; id < t->n_vocab; id++)
        n += t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN || t->type[id] == TOK_USER;
    SV_AUTO(sv_freep) tok_added *all = sv_try_calloc(n + 1, sizeof *all);
    if (!all)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu special tokens", n);
    n = 0;
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN || t->type[id] == TOK_USER)
            all[n++] = (tok_added){.id = id, .special = t->type[id] != TOK_USER};
    return sv_tok_added_close(t, all, n, err);
}

/* ---- families ---- */

static sv_rc spaces(sv_tokenizer *t, bool prefix, sv_err *err)
{
    if (prefix && sv_tok_step_prepend(&t->normalizer, SPACE, false, false, err) != SV_OK)
        return err->code;
    t->drops_first_space = prefix;
    return sv_tok_step_replace(&t->normalizer, SV_STR(" "), SPACE, err);
}

static sv_rc load_spm(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    bool prefix = true;
    t->kind = KIND_SPM;
    if (sv_gguf_bool(g, KEY("add_space_prefix"), &prefix, err) != SV_OK)
        return err->code;
    return spaces(t, prefix, err);
}

static sv_rc load_bpe(sv_tokenizer *t, const sv_gguf *g, bool *add_bos, sv_err *err)
{
    const sv_str *merges;
    size_t n;
    sv_str pre = SV_STR("default");
    t->kind = KIND_BPE;
    t->byte_level = true;
    if (sv_gguf_str(g, KEY("pre"), &pre, err) != SV_OK || sv_gguf_arr_str(g, KEY("merges"), &merges, &n, err) != SV_OK ||
        sv_tok_pre(t, pre, add_bos, err) != SV_OK || sv_tok_merges_init(t, n, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < n; i++) {
        /* The first byte may be the space of a vocabulary that does not spell spaces. */
        const char *sp = merges[i].n > 1 ? memchr(merges[i].p + 1, ' ', merges[i].n - 1) : NULL;
        if (!sp)
            return sv_fail(err, SV_EFORMAT, KEY("merges") "[%zu]: not two texts with a space between", i);
        size_t left = (size_t)(sp - merges[i].p);
        sv_tok_merges_add(t, (sv_str){merges[i].p, left}, (sv_str){sp + 1, merges[i].n - left - 1}, (uint32_t)i);
    }
    bool prefix = false;
    if (sv_gguf_bool(g, KEY("add_space_prefix"), &prefix, err) != SV_OK)
        return err->code;
    return prefix ? sv_tok_step_prepend(&t->normalizer, SV_STR(" "), true, false, err) : SV_OK;
}

static bool has_capitals(const sv_tokenizer *t)
{
    for (int32_t id = 0; id < t->n_vocab; id++) {
        sv_str s = t->text[id];
        if (t->type[id] == TOK_NORMAL && s.n > 3 && memcmp(s.p, SPACE.p, 3) == 0 && s.p[3] >= 'A' && s.p[3] <= 'Z')
            return true;
    }
    return false;
}

static sv_rc load_wordpiece(sv_tokenizer *t, sv_err *err)
{
    t->kind = KIND_WORDPIECE;
    t->max_word = 100;
    t->drops_first_space = true;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        sv_str s = t->text[id];
        char piece[256];
        if (t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN)
            continue;
        bool begins = s.n > 3 && memcmp(s.p, SPACE.p, 3) == 0;
        if (begins && s.n - 2 <= sizeof piece) {
            piece[0] = ' ';
            memcpy(piece + 1, s.p + 3, s.n - 3);
            s = (sv_str){piece, s.n - 2};
        }
        sv_tok_vocab_piece(t, id, s);
    }
    bool cased = has_capitals(t);
    if (sv_tok_steps_bert(t, true, true, !cased, !cased, err) != SV_OK || sv_tok_steps_bert_split(t, err) != SV_OK)
        return err->code;
    return sv_tok_trie_build(t, err);
}

static sv_rc load_unigram(sv_tokenizer *t, const sv_gguf *g, sv_err *err)
{
    bool prefix = true, collapse = true;
    size_t n = 0;
    t->kind = KIND_UNIGRAM;
    t->fuse_unk = true;
    if (sv_gguf_bool(g, KEY("add_space_prefix"), &prefix, err) != SV_OK ||
        sv_gguf_bool(g, KEY("remove_extra_whitespaces"), &collapse, err) != SV_OK)
        return err->code;
    const uint8_t *map = NULL;
    if (sv_gguf_arr_u8(g, KEY("precompiled_charsmap"), &map, &n, err) != SV_OK)
        return err->code;
    if (n > 0) {
        tok_step step = {.op = STEP_CHARSMAP};
        if (sv_tok_charsmap_new(&step.map, map, n, err) != SV_OK || sv_tok_step_add(&t->normalizer, step, err) != SV_OK)
            return err->code;
    }
    if (collapse) {
        tok_step runs = {.op = STEP_REPLACE, .with = sv_xstrdup(" "), .n_with = 1};
        if (sv_pattern_compile(&runs.pattern, SV_STR(" +"), err) != SV_OK) {
            free(runs.with);
            return err->code;
        }
        if (sv_tok_step_add(&t->normalizer, (tok_step){.op = STEP_TRIM, .left = true, .right = true}, err) != SV_OK ||
            sv_tok_step_add(&t->normalizer, runs, err) != SV_OK)
            return err->code;
    }
    return spaces(t, prefix, err);
}

static sv_rc load_family(sv_tokenizer *t, const sv_gguf *g, bool *add_bos, bool *add_eos, sv_err *err)
{
    sv_str model = {0};
    if (sv_gguf_str(g, KEY("model"), &model, err) != SV_OK)
        return err->code;
    *add_bos = *add_eos = false;
    if (sv_str_is(model, "llama")) {
        *add_bos = true;
        return load_spm(t, g, err);
    }
    if (sv_str_is(model, "gpt2"))
        return load_bpe(t, g, add_bos, err);
    if (sv_str_is(model, "bert")) {
        *add_bos = *add_eos = true;
        return load_wordpiece(t, err);
    }
    if (sv_str_is(model, "t5")) {
        *add_eos = true;
        return load_unigram(t, g, err);
    }
    return sv_fail(err, SV_EFORMAT, KEY("model") ": '%.*s' is not known; llama, gpt2, bert and t5 are", (int)(model.n < 40 ? model.n : 40),
                   model.p ? model.p : "");
}

/* The ids that a file need not name: those of the family. */
static void default_ids(sv_tokenizer *t)
{
    if (t->kind == KIND_SPM) {
        t->bos = t->n_vocab > 1 ? 1 : -1;
        t->eos = t->n_vocab > 2 ? 2 : -1;
        t->unk = 0;
    } else if (t->kind == KIND_WORDPIECE) {
        t->bos = sv_tok_find(t, "[CLS]", 5);
        t->eos = sv_tok_find(t, "[SEP]", 5);
        t->unk = sv_tok_find(t, "[UNK]", 5);
    } else if (t->kind == KIND_UNIGRAM) {
        t->eos = t->n_vocab > 1 ? 1 : -1;
        t->unk = t->n_vocab > 2 ? 2 : -1;
    }
}

static void set_unk_score(sv_tokenizer *t)
{
    float least = 0;
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (t->type[id] == TOK_NORMAL && t->score[id] < least)
            least = t->score[id];
    t->unk_score = least - 10;
}

sv_rc sv_tokenizer_from_gguf(sv_tokenizer **out, const sv_gguf *g, sv_err *err)
{
    SV_AUTO(sv_tokenizer_freep) sv_tokenizer *t = sv_xnew0(sv_tokenizer);
    bool add_bos, add_eos;
    if (load_tokens(t, g, err) != SV_OK || sv_tok_vocab_index(t, err) != SV_OK || load_family(t, g, &add_bos, &add_eos, err) != SV_OK)
        return err->code;
    default_ids(t);
    if (load_ids(t, g, err) != SV_OK || sv_gguf_bool(g, KEY("add_bos_token"), &add_bos, err) != SV_OK ||
        sv_gguf_bool(g, KEY("add_eos_token"), &add_eos, err) != SV_OK || load_added(t, err) != SV_OK)
        return err->code;
    if (add_bos && t->bos >= 0)
        t->prefix[t->n_prefix++] = t->bos;
    if (add_eos && t->eos >= 0)
        t->suffix[t->n_suffix++] = t->eos;
    sv_tok_vocab_bytes(t);
    sv_tok_vocab_pieces(t);
    set_unk_score(t);
    if (t->kind == KIND_UNIGRAM && sv_tok_trie_build(t, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(t);
    return SV_OK;
}
