/* tokenizer_json_steps.c - what a tokenizer.json says about text, as steps of ours
 *
 * The file describes a normalizer, a "pre_tokenizer" (our splitter) and a decoder, each a tree of a dozen types of which a handful
 * occur. Each type becomes one to three of our steps; one that is not known is refused by name, since leaving it out would give
 * other tokens without a word. The decoder only has to be one that pieces side by side already are: pieces were made for that.
 *
 * Byte-level splitters are the odd ones. The file's own ByteLevel writes bytes as printable characters, and what comes after it
 * sees those: a Digits behind it cuts before "Â²", half a character. Our pieces stay bytes, so only where something follows a
 * ByteLevel are the characters written, and bytes again at the end. */
#include "models/tokenizer_impl.h"

#include <string.h>

#include "base/mem.h"

#define GPT2_SPLIT \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
static const char SPACE[] = "\xe2\x96\x81"; /* U+2581 */
enum { MAX_DEPTH = 8, MAX_ITEMS = 32 };

typedef struct items { const json_t *v[MAX_ITEMS]; size_t n; } items;

/* The items of nested sequences, in order. */
static sv_rc flatten(const json_t *top, const char *list, items *out, sv_err *err)
{
    struct { const json_t *array; size_t i; } open[MAX_DEPTH] = {0};
    int n = 0;
    out->n = 0;
    for (const json_t *at = top; at;) {
        const char *type = sv_json_cstr(at, "type");
        const json_t *inner = json_object_get(at, list);
        if (!json_is_null(at) && !type)
            return sv_fail(err, SV_EFORMAT, "an item without a 'type'");
        if (type && strcmp(type, "Sequence") == 0 && json_is_array(inner)) {
            if (n == MAX_DEPTH)
                return sv_fail(err, SV_EFORMAT, "sequences nest deeper than %d", MAX_DEPTH);
            open[n++].array = inner;
            open[n - 1].i = 0;
        } else if (type) {
            if (out->n == MAX_ITEMS)
                return sv_fail(err, SV_EFORMAT, "more than %d items", MAX_ITEMS);
            out->v[out->n++] = at;
        }
        while (n > 0 && open[n - 1].i >= json_array_size(open[n - 1].array))
            n--;
        at = n > 0 ? json_array_get(open[n - 1].array, open[n - 1].i++) : NULL;
    }
    return SV_OK;
}

static bool is(const json_t *item, const char *type)
{
    const char *have = sv_json_cstr(item, "type");
    return have && strcmp(have, type) == 0;
}

static sv_rc unknown(const json_t *item, sv_err *err)
{
    return sv_fail(err, SV_EFORMAT, "'%.60s' is not known", sv_json_cstr(item, "type"));
}

/* "pattern": {"String": s} or {"Regex": s}: a string as it is, or a compiled one. */
static sv_rc read_pattern(const json_t *item, sv_str *text, sv_pattern **out, sv_err *err)
{
    const json_t *p = json_object_get(item, "pattern"), *s = json_object_get(p, "String"), *r = json_object_get(p, "Regex");
    if (json_is_string(s) && json_string_length(s) > 0)
        *text = (sv_str){json_string_value(s), json_string_length(s)};
    else if (json_is_string(r))
        return sv_pattern_compile(out, (sv_str){json_string_value(r), json_string_length(r)}, err);
    else
        return sv_fail(err, SV_EFORMAT, "'pattern' is neither a String nor a Regex");
    return SV_OK;
}

/* ---- normalizer ---- */

static sv_rc add_replace(tok_steps *s, const json_t *item, sv_err *err)
{
    sv_str text = {0}, with = SV_STR("");
    tok_step step = {.op = STEP_REPLACE};
    if (sv_json_str(item, "content", &with, err) != SV_OK || read_pattern(item, &text, &step.pattern, err) != SV_OK)
        return err->code;
    if (!step.pattern)
        return sv_tok_step_replace(s, text, with, err);
    step.with = sv_xstrndup(with.p, with.n);
    step.n_with = with.n;
    return sv_tok_step_add(s, step, err);
}

static sv_rc add_pattern_replace(tok_steps *s, const char *pattern, const char *with, sv_err *err)
{
    tok_step step = {.op = STEP_REPLACE};
    if (sv_pattern_compile(&step.pattern, sv_str_of(pattern), err) != SV_OK)
        return err->code;
    step.with = sv_xstrdup(with);
    step.n_with = strlen(with);
    return sv_tok_step_add(s, step, err);
}

static sv_rc add_charsmap(tok_steps *s, const json_t *item, sv_err *err)
{
    sv_str base64 = {0};
    tok_step step = {.op = STEP_CHARSMAP};
    SV_AUTO(sv_buf_donep) sv_buf bytes;
    sv_buf_init(&bytes, 0);
    if (sv_json_str(item, "precompiled_charsmap", &base64, err) != SV_OK || sv_base64_decode(&bytes, base64, err) != SV_OK ||
        sv_tok_charsmap_new(&step.map, bytes.p, bytes.n, err) != SV_OK)
        return err->code;
    return sv_tok_step_add(s, step, err);
}

static sv_rc add_bert(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    bool clean = true, cjk = true, lower = true;
    if (sv_json_bool(item, "clean_text", &clean, err) != SV_OK || sv_json_bool(item, "handle_chinese_chars", &cjk, err) != SV_OK ||
        sv_json_bool(item, "lowercase", &lower, err) != SV_OK)
        return err->code;
    bool strip = lower; /* null: as lowercase */
    if (sv_json_bool(item, "strip_accents", &strip, err) != SV_OK)
        return err->code;
    return sv_tok_steps_bert(t, clean, cjk, strip, lower, err);
}

static sv_rc add_normalizer(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    tok_steps *s = &t->normalizer;
    for (int i = 0; i < 4; i++)
        if (is(item, forms[i]))
            return sv_tok_step_add(s, (tok_step){.op = STEP_NORMALIZE, .form = (sv_uni_form)i}, err);
    if (is(item, "Lowercase"))
        return sv_tok_step_add(s, (tok_step){.op = STEP_LOWER}, err);
    if (is(item, "StripAccents"))
        return add_pattern_replace(s, "\\p{M}", "", err);
    if (is(item, "Replace"))
        return add_replace(s, item, err);
    if (is(item, "Precompiled"))
        return add_charsmap(s, item, err);
    if (is(item, "BertNormalizer"))
        return add_bert(t, item, err);
    if (is(item, "Nmt")) /* control characters go, other white space becomes a space */
        return add_pattern_replace(s, "[\\x01-\\x08\\x0b\\x0e-\\x1f\\x7f\\x8f\\x9f]", "", err) != SV_OK
                   ? err->code
                   : add_pattern_replace(s, "[\\t\\n\\f\\r\\x{1680}\\x{200b}-\\x{200f}\\x{2028}\\x{2029}\\x{2581}\\x{feff}\\x{fffd}]", " ", err);
    if (is(item, "Strip")) {
        tok_step step = {.op = STEP_TRIM, .left = true, .right = true};
        if (sv_json_bool(item, "strip_left", &step.left, err) != SV_OK || sv_json_bool(item, "strip_right", &step.right, err) != SV_OK)
            return err->code;
        return sv_tok_step_add(s, step, err);
    }
    if (is(item, "Prepend")) {
        sv_str text = SV_STR("");
        return sv_json_str(item, "prepend", &text, err) != SV_OK ? err->code : sv_tok_step_prepend(s, text, false, false, err);
    }
    return unknown(item, err);
}

/* ---- splitter ---- */

static sv_rc read_keep(const json_t *item, tok_keep *keep, sv_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *have = sv_json_cstr(item, "behavior");
    for (int i = 0; i < 5; i++)
        if (have && strcmp(have, names[i]) == 0) {
            *keep = (tok_keep)i; /* in the order of the enum */
            return SV_OK;
        }
    return sv_fail(err, SV_EFORMAT, "behavior '%.40s' is not known", have ? have : "(none)");
}

/* A pattern that matches the text and nothing else. */
static sv_rc literal_pattern(sv_pattern **out, sv_str text, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf source;
    sv_buf_init(&source, 0);
    for (size_t i = 0; i < text.n;) {
        uint32_t c;
        i += sv_uni_get(text.p + i, text.n - i, &c);
        sv_buf_addf(&source, "\\x{%x}", c > SV_UNI_MAX ? 0xfffd : c);
    }
    return sv_pattern_compile(out, sv_buf_str(&source), err);
}

static sv_rc add_split(tok_steps *s, const json_t *item, sv_err *err)
{
    sv_str text = {0};
    tok_step step = {.op = STEP_SPLIT};
    if (read_keep(item, &step.keep, err) != SV_OK || sv_json_bool(item, "invert", &step.invert, err) != SV_OK ||
        read_pattern(item, &text, &step.pattern, err) != SV_OK)
        return err->code;
    if (!step.pattern && literal_pattern(&step.pattern, text, err) != SV_OK)
        return err->code;
    return sv_tok_step_add(s, step, err);
}

static sv_rc add_metaspace(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    sv_str mark = {SPACE, 3}, scheme = SV_STR("");
    bool prefix = true, split = true;
    if (sv_json_str(item, "replacement", &mark, err) != SV_OK || sv_json_bool(item, "add_prefix_space", &prefix, err) != SV_OK ||
        sv_json_str(item, "prepend_scheme", &scheme, err) != SV_OK || sv_json_bool(item, "split", &split, err) != SV_OK)
        return err->code;
    if (!sv_str_is(mark, SPACE))
        return sv_fail(err, SV_EFORMAT, "Metaspace with another replacement than U+2581");
    if (scheme.n > 0)
        prefix = !sv_str_is(scheme, "never");
    if (sv_tok_step_replace(&t->splitter, SV_STR(" "), mark, err) != SV_OK ||
        (prefix && sv_tok_step_prepend(&t->splitter, mark, true, sv_str_is(scheme, "first"), err) != SV_OK))
        return err->code;
    return split ? sv_tok_step_split(&t->splitter, "\\x{2581}", KEEP_WITH_NEXT, false, err) : SV_OK;
}

static sv_rc add_byte_level(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    bool prefix = true, regex = true;
    if (sv_json_bool(item, "add_prefix_space", &prefix, err) != SV_OK || sv_json_bool(item, "use_regex", &regex, err) != SV_OK)
        return err->code;
    if (t->byte_level)
        return sv_fail(err, SV_EFORMAT, "ByteLevel twice");
    t->byte_level = true;
    if (prefix && sv_tok_step_prepend(&t->splitter, SV_STR(" "), true, false, err) != SV_OK)
        return err->code;
    return regex ? sv_tok_step_split(&t->splitter, GPT2_SPLIT, KEEP_APART, false, err) : SV_OK;
}

static sv_rc add_splitter(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    tok_steps *s = &t->splitter;
    tok_keep keep = KEEP_APART;
    bool one_by_one = false;
    if (is(item, "ByteLevel"))
        return add_byte_level(t, item, err);
    if (is(item, "Split"))
        return add_split(s, item, err);
    if (is(item, "Metaspace"))
        return add_metaspace(t, item, err);
    if (is(item, "BertPreTokenizer"))
        return sv_tok_steps_bert_split(t, err);
    if (is(item, "WhitespaceSplit"))
        return sv_tok_step_split(s, "\\s", KEEP_NOT, false, err);
    if (is(item, "Whitespace"))
        return sv_tok_step_split(s, "\\w+|[^\\w\\s]+", KEEP_NOT, true, err);
    if (is(item, "Digits"))
        return sv_json_bool(item, "individual_digits", &one_by_one, err) != SV_OK
                   ? err->code : sv_tok_step_split(s, one_by_one ? "\\p{N}" : "\\p{N}+", KEEP_APART, false, err);
    if (is(item, "Punctuation")) {
        if (json_object_get(item, "behavior") && read_keep(item, &keep, err) != SV_OK)
            return err->code;
        return sv_tok_step_split(s, "[\\p{P}!-/:-@\\[-`{-~]", keep, false, err);
    }
    if (is(item, "CharDelimiterSplit")) {
        sv_str c = {0};
        tok_step step = {.op = STEP_SPLIT, .keep = KEEP_NOT};
        if (sv_json_str(item, "delimiter", &c, err) != SV_OK)
            return err->code;
        if (c.n == 0)
            return sv_fail(err, SV_EFORMAT, "CharDelimiterSplit without a delimiter");
        return literal_pattern(&step.pattern, c, err) != SV_OK ? err->code : sv_tok_step_add(s, step, err);
    }
    return unknown(item, err);
}

/* ---- decoder ---- */

static sv_rc check_decoder(sv_tokenizer *t, const json_t *item, sv_err *err)
{
    if (is(item, "ByteLevel") || is(item, "ByteFallback") || is(item, "Fuse") || is(item, "WordPiece") || is(item, "BPEDecoder"))
        return SV_OK; /* WordPiece and BPEDecoder: tokenizer_json.c has made the pieces so */
    if (is(item, "Metaspace")) {
        const char *scheme = sv_json_cstr(item, "prepend_scheme");
        t->drops_first_space = !scheme || strcmp(scheme, "never") != 0;
        return scheme ? SV_OK : sv_json_bool(item, "add_prefix_space", &t->drops_first_space, err);
    }
    if (is(item, "Strip")) {
        int64_t start = 0, stop = 0;
        const char *content = sv_json_cstr(item, "content");
        if (sv_json_int(item, "start", 0, 1, &start, err) != SV_OK || sv_json_int(item, "stop", 0, 0, &stop, err) != SV_OK)
            return err->code;
        if (!content || strcmp(content, " ") != 0)
            return sv_fail(err, SV_EFORMAT, "Strip of something else than a space");
        t->drops_first_space = start == 1;
        return SV_OK;
    }
    if (is(item, "Replace")) {
        const char *from = sv_json_cstr(json_object_get(item, "pattern"), "String"), *to = sv_json_cstr(item, "content");
        if (from && to && strcmp(from, SPACE) == 0 && strcmp(to, " ") == 0)
            return SV_OK;
        return sv_fail(err, SV_EFORMAT, "Replace of something else than U+2581 by a space");
    }
    return unknown(item, err);
}

sv_rc sv_tok_json_steps(sv_tokenizer *t, const json_t *json, sv_err *err)
{
    items list;
    if (flatten(json_object_get(json, "normalizer"), "normalizers", &list, err) != SV_OK)
        return sv_wrap(err, "normalizer");
    for (size_t i = 0; i < list.n; i++)
        if (add_normalizer(t, list.v[i], err) != SV_OK)
            return sv_wrap(err, "normalizer");

    if (flatten(json_object_get(json, "pre_tokenizer"), "pretokenizers", &list, err) != SV_OK)
        return sv_wrap(err, "pre_tokenizer");
    bool spelled = false;
    for (size_t i = 0; i < list.n; i++) {
        if (add_splitter(t, list.v[i], err) != SV_OK)
            return sv_wrap(err, "pre_tokenizer");
        if (is(list.v[i], "ByteLevel") && i + 1 < list.n) {
            spelled = true;
            if (sv_tok_step_add(&t->splitter, (tok_step){.op = STEP_TO_BYTE_CHARS}, err) != SV_OK)
                return err->code;
        }
    }
    if (spelled && sv_tok_step_add(&t->splitter, (tok_step){.op = STEP_FROM_BYTE_CHARS}, err) != SV_OK)
        return err->code;

    if (flatten(json_object_get(json, "decoder"), "decoders", &list, err) != SV_OK)
        return sv_wrap(err, "decoder");
    for (size_t i = 0; i < list.n; i++)
        if (check_decoder(t, list.v[i], err) != SV_OK)
            return sv_wrap(err, "decoder");
    return SV_OK;
}
