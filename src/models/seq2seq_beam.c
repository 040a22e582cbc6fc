/* seq2seq_beam.c - from a text to a text: marks around it, and the search over beams
 *
 * The search is that of Hugging Face's generate(), so that settings mean what they mean there: each step takes the 2 * n_beams best continuations of
 * all beams; those that end are held against the n_beams best ended ones (by score over length to the length penalty), and of the others the best n_beams go
 * on. Before that, scores of tokens that may not come are taken away: one that would repeat a sequence of no_repeat, an end before min_length, others than
 * the forced first and last ones.
 *
 * One beam is the same search, which takes the best of two continuations: its greedy text is the same as by argmax, but for the moment when it ends. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "models/seq2seq_impl.h"

enum { MAX_TEXT = 1 << 20 };
#define NEVER (-1e9)

/* --- what may not come --------------------------------------------------------------------------------------------- */

static void only(double *scores, int32_t n, int32_t token)
{
    for (int32_t i = 0; i < n; i++)
        scores[i] = i == token ? 0 : -INFINITY;
}

/* Tokens that would make the last `n` tokens equal to an earlier `n`. */
static void forbid_repeats(double *scores, const int32_t *tokens, int32_t n_tokens, int32_t n)
{
    if (n < 1 || n_tokens + 1 < n)
        return;
    const int32_t *last = tokens + n_tokens - (n - 1);
    for (int32_t i = 0; i + n <= n_tokens; i++)
        if (memcmp(tokens + i, last, (size_t)(n - 1) * sizeof *tokens) == 0)
            scores[tokens[i + n - 1]] = -INFINITY;
}

static void log_softmax(double *out, const float *logits, int32_t n)
{
    double most = (double)logits[0], sum = 0;
    for (int32_t i = 1; i < n; i++)
        most = (double)logits[i] > most ? (double)logits[i] : most;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    for (int32_t i = 0; i < n; i++)
        out[i] = (double)logits[i] - most - log(sum);
}

static void score(const sv_seq2seq_run *r, const s2s_beam *b, const float *logits, double *out)
{
    const s2s_settings *s = &r->set;
    int32_t n_vocab = r->m->info.n_vocab;
    log_softmax(out, logits, n_vocab);
    forbid_repeats(out, b->tokens, r->n, s->no_repeat);
    if (r->n < s->min_length)
        out[r->m->eos] = -INFINITY;
    if (r->n == 1 && s->forced_bos >= 0)
        only(out, n_vocab, s->forced_bos);
    if (r->n == s->max_length - 1 && s->forced_eos >= 0)
        only(out, n_vocab, s->forced_eos);
}

/* --- the search --------------------------------------------------------------------------------------------------- */

typedef struct candidate { double score; int32_t beam, token; } candidate;

/* Into the first n of `best`, in order; of equal ones the one that came first stays in front. */
static void consider(candidate *best, int32_t *n_best, int32_t max, candidate c)
{
    int32_t at = *n_best;
    if (at == max && c.score <= best[max - 1].score)
        return;
    if (at < max)
        ++*n_best;
    else
        at--;
    for (; at > 0 && c.score > best[at - 1].score; at--)
        best[at] = best[at - 1];
    best[at] = c;
}

void s2s_search_begin(sv_seq2seq_run *r)
{
    for (int32_t b = 0; b < r->set.n_beams; b++) {
        r->beams[b].tokens[0] = r->m->start;
        r->beams[b].score = b == 0 ? 0 : NEVER; /* they are all the same at first */
        r->best[b].score = NEVER;
    }
    r->n = 1;
    r->hopeful = true;
}

/* The ended among the first n_beams candidates take their places among the best ended ones. */
static void keep_ended(sv_seq2seq_run *r, const candidate *c, int32_t n, const bool *ends)
{
    int32_t n_beams = r->set.n_beams;
    bool full = r->set.early;
    for (int32_t b = 0; b < n_beams; b++)
        full = full && r->finished[b];
    for (int32_t i = 0; i < n && i < n_beams; i++) {
        double s = c[i].score / pow(r->n, r->set.length_penalty) + (full ? NEVER : 0) + (r->hopeful ? 0 : NEVER);
        if (!ends[i] || s <= r->best[n_beams - 1].score)
            continue;
        s2s_beam last = r->best[n_beams - 1];
        int32_t at = n_beams - 1;
        for (; at > 0 && s > r->best[at - 1].score; at--) {
            r->best[at] = r->best[at - 1];
            r->finished[at] = r->finished[at - 1];
        }
        memcpy(last.tokens, r->beams[c[i].beam].tokens, (size_t)r->n * sizeof *last.tokens);
        last.tokens[r->n] = c[i].token;
        last.score = s;
        r->best[at] = last;
        r->finished[at] = true;
    }
}

/* The best candidates that go on become the beams. */
static void go_on(sv_seq2seq_run *r, const candidate *c, int32_t n, const bool *ends)
{
    candidate next[S2S_MAX_BEAMS];
    s2s_beam old[S2S_MAX_BEAMS];
    int32_t n_next = 0, n_beams = r->set.n_beams;
    for (int32_t i = 0; i < n; i++)
        consider(next, &n_next, n_beams, (candidate){c[i].score + (ends[i] ? NEVER : 0), c[i].beam, c[i].token});
    memcpy(old, r->beams, sizeof old);
    for (int32_t b = 0; b < n_beams; b++) {
        const candidate *x = &next[b < n_next ? b : 0];
        s2s_beam *to = &r->beams[b];
        to->pages = sv_xcalloc((size_t)r->n_text_pages, sizeof *to->pages);
        to->tokens = sv_xcalloc((size_t)r->set.max_length, sizeof *to->tokens);
        for (int32_t i = 0; i < r->n_text_pages; i++)
            if ((to->pages[i] = old[x->beam].pages[i]))
                to->pages[i]->n_refs++;
        memcpy(to->tokens, old[x->beam].tokens, (size_t)r->n * sizeof *to->tokens);
        to->tokens[r->n] = x->token;
        to->score = b < n_next ? x->score : NEVER;
    }
    for (int32_t b = 0; b < n_beams; b++) {
        for (int32_t i = 0; i < r->n_text_pages; i++)
            if (old[b].pages[i])
                old[b].pages[i]->n_refs--;
        free(old[b].pages);
        free(old[b].tokens);
    }
}

static bool more_to_hope(const sv_seq2seq_run *r)
{
    double possible = r->beams[0].score / pow(r->n - 1, r->set.length_penalty), worst = 0;
    bool better = false;
    for (int32_t b = 0; b < r->set.n_beams; b++)
        worst = b == 0 || r->best[b].score < worst ? r->best[b].score : worst;
    for (int32_t b = 0; b < r->set.n_beams; b++)
        better = better || possible > (r->finished[b] ? worst : NEVER);
    return r->hopeful && better;
}

static void take_best(sv_seq2seq_run *r)
{
    const s2s_beam *b = r->finished[0] ? &r->best[0] : &r->beams[0];
    int32_t n = 1;
    while (n < r->n && b->tokens[n] != r->m->eos)
        n++;
    r->n_written = n < r->n ? n + 1 : n; /* with its end */
    r->written = sv_xcalloc((size_t)r->n_written, sizeof *r->written);
    memcpy(r->written, b->tokens, (size_t)r->n_written * sizeof *r->written);
    r->over = true;
}

bool s2s_search_step(sv_seq2seq_run *r, sv_pool *pool)
{
    int32_t n_beams = r->set.n_beams, n_vocab = r->m->info.n_vocab, n = 0, most = 2 * n_beams;
    candidate best[2 * S2S_MAX_BEAMS];
    bool ends[2 * S2S_MAX_BEAMS], all = true, open = !r->set.early;
    s2s_decode(r, pool, r->beams, n_beams, r->n - 1);
    SV_AUTO(sv_freep) double *scores = sv_xcalloc((size_t)n_vocab, sizeof *scores);
    for (int32_t b = 0; b < n_beams; b++) {
        score(r, &r->beams[b], r->logits + (int64_t)b * n_vocab, scores);
        for (int32_t t = 0; t < n_vocab; t++)
            consider(best, &n, most, (candidate){scores[t] + r->beams[b].score, b, t});
    }
    for (int32_t i = 0; i < n; i++) {
        ends[i] = best[i].token == r->m->eos || r->n + 1 >= r->set.max_length;
        all = all && ends[i];
    }
    keep_ended(r, best, n, ends);
    go_on(r, best, n, ends);
    r->n++;
    r->hopeful = more_to_hope(r);
    for (int32_t b = 0; b < n_beams; b++)
        open = open || !r->finished[b];
    if (r->hopeful && open && !all)
        return true;
    take_best(r);
    return false;
}

/* --- texts -------------------------------------------------------------------------------------------------------- */

/* The marks of languages that M2M100 has, by their English names. */
static const char *const languages[][2] = {
    {"afrikaans", "af"}, {"amharic", "am"}, {"arabic", "ar"}, {"asturian", "ast"}, {"azerbaijani", "az"}, {"bashkir", "ba"}, {"belarusian", "be"}, {"bulgarian", "bg"},
    {"bengali", "bn"}, {"breton", "br"}, {"bosnian", "bs"}, {"catalan", "ca"}, {"cebuano", "ceb"}, {"czech", "cs"}, {"welsh", "cy"}, {"danish", "da"}, {"german", "de"},
    {"greek", "el"}, {"english", "en"}, {"spanish", "es"}, {"estonian", "et"}, {"persian", "fa"}, {"fulah", "ff"}, {"finnish", "fi"}, {"french", "fr"},
    {"western frisian", "fy"}, {"irish", "ga"}, {"gaelic", "gd"}, {"galician", "gl"}, {"gujarati", "gu"}, {"hausa", "ha"}, {"hebrew", "he"}, {"hindi", "hi"},
    {"croatian", "hr"}, {"haitian", "ht"}, {"hungarian", "hu"}, {"armenian", "hy"}, {"indonesian", "id"}, {"igbo", "ig"}, {"iloko", "ilo"}, {"icelandic", "is"},
    {"italian", "it"}, {"japanese", "ja"}, {"javanese", "jv"}, {"georgian", "ka"}, {"kazakh", "kk"}, {"khmer", "km"}, {"kannada", "kn"}, {"korean", "ko"},
    {"luxembourgish", "lb"}, {"ganda", "lg"}, {"lingala", "ln"}, {"lao", "lo"}, {"lithuanian", "lt"}, {"latvian", "lv"}, {"malagasy", "mg"}, {"macedonian", "mk"},
    {"malayalam", "ml"}, {"mongolian", "mn"}, {"marathi", "mr"}, {"malay", "ms"}, {"burmese", "my"}, {"nepali", "ne"}, {"dutch", "nl"}, {"norwegian", "no"},
    {"northern sotho", "ns"}, {"occitan", "oc"}, {"oriya", "or"}, {"punjabi", "pa"}, {"polish", "pl"}, {"pashto", "ps"}, {"portuguese", "pt"}, {"romanian", "ro"},
    {"russian", "ru"}, {"sindhi", "sd"}, {"sinhala", "si"}, {"slovak", "sk"}, {"slovenian", "sl"}, {"somali", "so"}, {"albanian", "sq"}, {"serbian", "sr"},
    {"swati", "ss"}, {"sundanese", "su"}, {"swedish", "sv"}, {"swahili", "sw"}, {"tamil", "ta"}, {"thai", "th"}, {"tagalog", "tl"}, {"tswana", "tn"}, {"turkish", "tr"},
    {"ukrainian", "uk"}, {"urdu", "ur"}, {"uzbek", "uz"}, {"vietnamese", "vi"}, {"wolof", "wo"}, {"xhosa", "xh"}, {"yiddish", "yi"}, {"yoruba", "yo"}, {"chinese", "zh"},
    {"zulu", "zu"},
};

/* The id of a language's token. */
static sv_rc language(const sv_seq2seq *m, const char *field, sv_str name, int32_t *out, sv_err *err)
{
    char mark[48];
    sv_str code = name;
    for (size_t i = 0; i < SV_LEN(languages); i++)
        if (sv_str_ieq(name, languages[i][0]))
            code = sv_str_of(languages[i][1]);
    snprintf(mark, sizeof mark, "__%.*s__", (int)(code.n < 16 ? code.n : 16), code.p ? code.p : "");
    for (char *p = mark; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    for (int32_t i = sv_tokenizer_n_vocab(m->tokenizer); i-- > 0;) /* they are the last */
        if (sv_str_is(sv_tokenizer_text(m->tokenizer, i), mark)) {
            *out = i;
            return SV_OK;
        }
    return sv_fail_api(err, SV_EINVAL, 5006, "'/%s': '%.*s' is no language that this model knows; give a code as 'fr', or an English name", field,
                       (int)(name.n < 32 ? name.n : 32), name.p ? name.p : "");
}

static sv_rc push(sv_tokens *t, int32_t id, sv_err *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap * 2 + 64;
        int32_t *v = sv_try_realloc(t->v, cap, sizeof *v);
        if (!v)
            return sv_fail(err, SV_ENOMEM, "no memory for %zu tokens", cap);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = id;
    return SV_OK;
}

sv_rc sv_seq2seq_tokens(const sv_seq2seq *m, const sv_seq2seq_text *text, sv_tokens *out, sv_err *err)
{
    int32_t source = -1;
    sv_str part = text->text;
    if (part.n > MAX_TEXT) /* far more than n_ctx tokens */
        part.n = sv_utf8_whole((sv_str){part.p, MAX_TEXT});
    if (m->info.translates && language(m, "source_lang", text->source.n ? text->source : SV_STR("en"), &source, err) != SV_OK)
        return err->code;
    if (source >= 0 ? push(out, source, err) != SV_OK : m->prefix.n > 0 && push(out, m->prefix.v[0], err) != SV_OK)
        return err->code;
    if (sv_tokenizer_encode(m->tokenizer, part, 0, part.n * 2 + 64, out, err) != SV_OK)
        return err->code;
    size_t most = (size_t)m->info.n_ctx - 1;
    out->n = out->n > most ? most : out->n;
    return push(out, m->eos, err);
}

sv_rc sv_seq2seq_begin(sv_seq2seq_run **out, const sv_seq2seq *m, const sv_seq2seq_text *text, sv_err *err)
{
    sv_tokens source = {0};
    s2s_settings set = m->settings;
    int32_t target = -1;
    if (m->info.translates && language(m, "target_lang", text->target, &target, err) != SV_OK)
        return err->code;
    set.forced_bos = target >= 0 ? target : set.forced_bos;
    if (text->n_beams > 0)
        set.n_beams = text->n_beams < S2S_MAX_BEAMS ? text->n_beams : S2S_MAX_BEAMS;
    if (text->max_tokens > 0 && text->max_tokens < set.max_length)
        set.max_length = text->max_tokens < 4 ? 4 : text->max_tokens;
    if (set.min_length > set.max_length - 1)
        set.min_length = set.max_length - 1;
    sv_rc rc = sv_seq2seq_tokens(m, text, &source, err);
    if (rc == SV_OK)
        rc = s2s_run_new(out, m, &set, &source, err);
    free(source.v);
    return rc;
}

bool sv_seq2seq_step(sv_seq2seq_run *r, sv_pool *pool)
{
    int32_t n = r->m->info.n_layer_in;
    if (r->over)
        return false;
    if (r->i_layer == n)
        return s2s_search_step(r, pool);
    if (r->i_layer == 0)
        s2s_encode_begin(r, pool);
    s2s_encode_layer(r, pool, r->i_layer++);
    if (r->i_layer == n) {
        s2s_encode_end(r, pool);
        s2s_search_begin(r);
    }
    return true;
}

void sv_seq2seq_logits(sv_seq2seq_run *r, sv_pool *pool, const int32_t *tokens, int32_t n, float *logits)
{
    while (r->i_layer < r->m->info.n_layer_in)
        (void)sv_seq2seq_step(r, pool);
    for (int32_t i = 0; i < n; i++) {
        r->beams[0].tokens[i] = tokens[i];
        s2s_decode(r, pool, r->beams, 1, i);
    }
    memcpy(logits, r->logits, (size_t)r->m->info.n_vocab * sizeof *logits);
}

sv_tokens sv_seq2seq_ids(const sv_seq2seq_run *r) { return (sv_tokens){.v = r->written, .n = (size_t)r->n_written}; }

static bool is_mark(const sv_seq2seq *m, int32_t id)
{
    bool mark = id == m->eos || id == m->start || id == m->pad;
    for (size_t i = 0; i < m->prefix.n; i++)
        mark = mark || id == m->prefix.v[i];
    return mark || sv_tokenizer_piece(m->tokenizer, id).n == 0;
}

sv_rc sv_seq2seq_written(const sv_seq2seq_run *r, sv_buf *out, int32_t *n_read, int32_t *n_written, sv_err *err)
{
    sv_detok d = {0};
    SV_ASSERT(r->over);
    for (int32_t i = 1; i < r->n_written; i++) {
        if (is_mark(r->m, r->written[i]) || (i == 1 && r->m->info.translates))
            continue;
        sv_detok_feed(&d, r->m->tokenizer, r->written[i], out);
    }
    sv_detok_finish(&d, out);
    *n_read = (int32_t)r->source.n;
    *n_written = r->n_written - 1;
    return out->failed ? sv_fail(err, SV_ENOMEM, "no memory for a text") : SV_OK;
}
