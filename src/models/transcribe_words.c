/* transcribe_words.c - when each word was spoken
 *
 * Some heads of the decoder look at the sound they are writing. The window's text is read again as a whole; the looks of those heads, made comparable
 * between frames and freed of outliers, are averaged; and the cheapest way through tokens and frames that goes back in neither (dynamic time warping)
 * says when each token begins. Then come repairs, as openai/whisper's timing.py has them: words at the ends of sentences and segments that came out too
 * long, punctuation that belongs to a neighbour.
 *
 * A word is what a space begins; in languages without spaces, whatever tokens make whole characters. */
#include <math.h>
#include <string.h>

#include "models/transcribe_impl.h"
#include "models/unicode.h"

#define REPLACEMENT "\xef\xbf\xbd"
enum { MEDIAN = 7, PAD = MEDIAN / 2 };
static const char prepended[] = "\"'“¿([{-", appended[] = "\"'.。,，!！?？:：”)]}、", sentence_ends[] = ".。!！?？";
static const char ascii_punctuation[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

typedef struct word {
    sv_buf text;
    int32_t n_tokens;
    double start, end, probability;
} word;

typedef struct words { word *v; int32_t n; } words;

static void words_donep(words *w)
{
    for (int32_t i = 0; i < w->n; i++)
        sv_buf_done(&w->v[i].text);
    free(w->v);
}

static bool within(sv_str s, const char *all) { return s.n == 0 || memmem(all, strlen(all), s.p, s.n); }

/* --- words from tokens -------------------------------------------------------------------------------------------- */

static void decode(const trs *s, const int32_t *ids, size_t n, sv_buf *out)
{
    sv_buf_reset(out);
    trs_text(s, ids, n, out);
    if (n > 0 && ids[n - 1] == s->t->eot)
        sv_buf_adds(out, "<|endoftext|>");
}

/* Characters before the first replacement; -1: there is none. */
static int64_t first_broken(sv_str x, int64_t *n_chars)
{
    int64_t at = -1, n = 0;
    uint32_t cp;
    for (size_t k; x.n > 0; x.p += k, x.n -= k, n++) {
        k = sv_uni_get(x.p, x.n, &cp);
        if (cp == 0xfffd && at < 0)
            at = n;
    }
    *n_chars = n;
    return at;
}

static bool broken_at(sv_str x, int64_t i)
{
    uint32_t cp = 0;
    for (size_t k; x.n > 0; x.p += k, x.n -= k) {
        k = sv_uni_get(x.p, x.n, &cp);
        if (i-- == 0)
            return cp == 0xfffd;
    }
    return false;
}

static bool has_no_spaces(const trs *s)
{
    static const char *const codes[] = {"zh", "ja", "th", "lo", "my", "yue"};
    for (size_t i = 0; s->lang >= 0 && i < SV_LEN(codes); i++)
        if (strcmp(s->t->codes[s->lang], codes[i]) == 0)
            return true;
    return false;
}

static void put_word(const trs *s, words *w, sv_str text, int32_t n_tokens, bool special)
{
    bool apart = special || has_no_spaces(s) || w->n == 0 || (text.n > 0 && text.p[0] == ' ') || within(trs_strip(text), ascii_punctuation);
    if (apart) {
        w->v = sv_xrealloc(w->v, (size_t)w->n + 1, sizeof *w->v);
        w->v[w->n] = (word){0};
        sv_buf_init(&w->v[w->n++].text, 0);
    }
    sv_buf_add(&w->v[w->n - 1].text, text.p, text.n);
    w->v[w->n - 1].n_tokens += n_tokens;
}

/* ids end with the end of text, which becomes a word of its own. */
static void split(const trs *s, words *w, const int32_t *ids, size_t n)
{
    SV_AUTO(sv_buf_donep) sv_buf all;
    SV_AUTO(sv_buf_donep) sv_buf part;
    int64_t offset = 0, n_chars;
    size_t from = 0;
    sv_buf_init(&all, 0);
    sv_buf_init(&part, 0);
    decode(s, ids, n, &all);
    for (size_t i = 0; i < n; i++) {
        decode(s, ids + from, i + 1 - from, &part);
        int64_t at = first_broken(sv_buf_str(&part), &n_chars);
        if (at >= 0 && !broken_at(sv_buf_str(&all), offset + at))
            continue; /* half a character: the next token has the rest */
        put_word(s, w, sv_buf_str(&part), (int32_t)(i + 1 - from), ids[from] == s->t->eot);
        offset += n_chars;
        from = i + 1;
    }
}

/* --- where the heads look ----------------------------------------------------------------------------------------- */

typedef struct looks {
    int32_t n_rows, n_ctx, n_cols;
    double *sum; /* [n_rows][n_cols], of all heads */
} looks;

static void softmax(float *x, int32_t n)
{
    float top = x[0];
    double sum = 0;
    for (int32_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (int32_t i = 0; i < n; i++)
        sum += (double)(x[i] = expf(x[i] - top));
    for (int32_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sum);
}

static float median(const float *row, int32_t n, int32_t i)
{
    float v[MEDIAN];
    if (n <= PAD)
        return row[i];
    for (int32_t k = 0; k < MEDIAN; k++) {
        int32_t at = abs(i + k - PAD), j = k;
        float x = row[at < n ? at : 2 * (n - 1) - at]; /* mirrored at the edges */
        for (; j > 0 && v[j - 1] > x; j--)
            v[j] = v[j - 1];
        v[j] = x;
    }
    return v[PAD];
}

static void on_head(void *arg, float *scores)
{
    looks *l = arg;
    for (int32_t r = 0; r < l->n_rows; r++)
        softmax(scores + (int64_t)r * l->n_ctx, l->n_cols);
    for (int32_t c = 0; c < l->n_cols; c++) {
        double mean = 0, var = 0;
        for (int32_t r = 0; r < l->n_rows; r++)
            mean += (double)scores[(int64_t)r * l->n_ctx + c] / l->n_rows;
        for (int32_t r = 0; r < l->n_rows; r++)
            var += ((double)scores[(int64_t)r * l->n_ctx + c] - mean) * ((double)scores[(int64_t)r * l->n_ctx + c] - mean) / l->n_rows;
        for (int32_t r = 0; r < l->n_rows; r++) {
            float *x = &scores[(int64_t)r * l->n_ctx + c];
            *x = var > 0 ? (float)(((double)*x - mean) / sqrt(var)) : 0;
        }
    }
    for (int32_t r = 0; r < l->n_rows; r++)
        for (int32_t c = 0; c < l->n_cols; c++)
            l->sum[(int64_t)r * l->n_cols + c] += (double)median(scores + (int64_t)r * l->n_ctx, l->n_cols, c);
}

/* The cheapest way through [n][m] costs, which are the numbers of x negated: where it first comes to each row. */
static sv_rc warp(const double *x, int32_t n, int32_t m, int32_t *first, sv_err *err)
{
    size_t width = (size_t)m + 1;
    SV_AUTO(sv_freep) float *cost = sv_try_calloc(((size_t)n + 1) * width, sizeof *cost);
    SV_AUTO(sv_freep) uint8_t *trace = sv_try_calloc(((size_t)n + 1) * width, 1);
    if (!cost || !trace)
        return sv_fail(err, SV_ENOMEM, "no memory for the times of %d tokens", n);
    for (size_t i = 0; i < ((size_t)n + 1) * width; i++)
        cost[i] = i ? INFINITY : 0;
    for (size_t j = 1; j <= (size_t)m; j++)
        for (size_t i = 1; i <= (size_t)n; i++) {
            float c0 = cost[(i - 1) * width + j - 1], c1 = cost[(i - 1) * width + j], c2 = cost[i * width + j - 1];
            int t = c0 < c1 && c0 < c2 ? 0 : c1 < c0 && c1 < c2 ? 1 : 2;
            cost[i * width + j] = (float)(-x[(i - 1) * (size_t)m + j - 1] + (double)(t == 0 ? c0 : t == 1 ? c1 : c2));
            trace[i * width + j] = (uint8_t)t;
        }
    for (int32_t i = n, j = m; i > 0 || j > 0;) {
        if (i > 0)
            first[i - 1] = j - 1;
        int t = i == 0 ? 2 : j == 0 ? 1 : trace[(size_t)i * width + (size_t)j];
        i -= t != 2;
        j -= t != 1;
    }
    return SV_OK;
}

static double token_probability(const trs *s, const float *l, int32_t id)
{
    double top = -INFINITY, sum = 0;
    for (int32_t i = 0; i < s->t->eot; i++)
        top = (double)l[i] > top ? (double)l[i] : top;
    for (int32_t i = 0; i < s->t->eot; i++)
        sum += exp((double)l[i] - top);
    return exp((double)l[id] - top) / sum;
}

/* Times and probabilities for w, which text was split into; n_text ids. */
static sv_rc align(trs *s, words *w, const int32_t *text, int32_t n_text, int64_t n_frames, sv_err *err)
{
    int32_t ids[8], n_start = trs_start(s, ids), n = n_start + 1 + n_text + 1, n_vocab = s->info->n_vocab, n_ctx = s->info->n_audio_ctx;
    looks l = {.n_rows = n, .n_ctx = n_ctx, .n_cols = (int32_t)(n_frames / 2 < n_ctx ? n_frames / 2 : n_ctx)};
    SV_AUTO(sv_freep) int32_t *all_ids = sv_xcalloc((size_t)n, sizeof *all_ids);
    SV_AUTO(sv_freep) float *logits = sv_try_calloc((size_t)n, (size_t)n_vocab * sizeof *logits);
    SV_AUTO(sv_freep) float *scores = sv_try_calloc((size_t)n, (size_t)n_ctx * sizeof *scores);
    SV_AUTO(sv_freep) double *sum = l.sum = sv_try_calloc((size_t)n, (size_t)n_ctx * sizeof *sum);
    SV_AUTO(sv_freep) int32_t *first = sv_xcalloc((size_t)n, sizeof *first);
    if (!logits || !scores || !sum)
        return sv_fail(err, SV_ENOMEM, "no memory for the times of %d tokens", n);
    memcpy(all_ids, ids, (size_t)n_start * sizeof *ids);
    all_ids[n_start] = s->t->no_timestamps;
    memcpy(all_ids + n_start + 1, text, (size_t)n_text * sizeof *text);
    all_ids[n - 1] = s->t->eot;
    if (trs_canceled(s))
        return sv_fail(err, SV_ECANCELED, "canceled");
    sv_whisper_decode(s->m, s->ws, s->o->enter(s->o->arg), &(sv_whisper_chunk){.tokens = all_ids, .n_tokens = n, .all = logits}, 1,
                      &(sv_whisper_look){.on_head = on_head, .arg = &l, .scores = scores});
    s->o->leave(s->o->arg);
    for (int64_t i = 0; i < (int64_t)n * l.n_cols; i++)
        sum[i] /= sv_whisper_n_align(s->m);
    if (warp(sum + (int64_t)n_start * l.n_cols, n_text + 1, l.n_cols, first, err) != SV_OK)
        return err->code;
    for (int32_t i = 0, at = 0; i < w->n; i++) {
        word *k = &w->v[i];
        k->start = first[at] / 50.0;
        for (int32_t t = 0; t < k->n_tokens; t++)
            k->probability += token_probability(s, logits + (int64_t)(n_start + at + t) * n_vocab, text[at + t]) / k->n_tokens;
        at += k->n_tokens;
        k->end = first[at] / 50.0;
    }
    return SV_OK;
}

/* --- repairs ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the durations that are not 0, at most 0.7. */
static double median_duration(const words *w)
{
    SV_AUTO(sv_freep) double *v = sv_xcalloc((size_t)w->n + 1, sizeof *v);
    size_t n = 0;
    for (int32_t i = 0; i < w->n; i++)
        if (w->v[i].end - w->v[i].start != 0)
            v[n++] = w->v[i].end - w->v[i].start;
    qsort(v, n, sizeof *v, by_value);
    double m = n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    return m < 0.7 ? m : 0.7;
}

static void shorten_at_sentence_ends(words *w, double longest)
{
    for (int32_t i = 1; i < w->n; i++) {
        word *k = &w->v[i];
        if (!(k->end - k->start > longest))
            continue;
        if (within(sv_buf_str(&k->text), sentence_ends))
            k->end = k->start + longest;
        else if (within(sv_buf_str(&w->v[i - 1].text), sentence_ends))
            k->start = k->end - longest;
    }
}

/* b's text and tokens go to a's end, or to its front. */
static void join(word *a, word *b, bool in_front)
{
    sv_buf text;
    sv_buf_init(&text, 0);
    sv_buf *one = in_front ? &b->text : &a->text, *two = in_front ? &a->text : &b->text;
    sv_buf_add(&text, sv_buf_cstr(one), one->n);
    sv_buf_add(&text, sv_buf_cstr(two), two->n);
    sv_buf_done(&a->text);
    sv_buf_done(&b->text);
    a->text = text;
    a->n_tokens += b->n_tokens;
    b->n_tokens = 0;
}

static void merge_punctuation(words *w)
{
    for (int32_t i = w->n - 2, j = w->n - 1; i >= 0; i--) {
        sv_str t = sv_buf_str(&w->v[i].text);
        if (t.n > 0 && t.p[0] == ' ' && within(trs_strip(t), prepended))
            join(&w->v[j], &w->v[i], true);
        else
            j = i;
    }
    for (int32_t i = 0, j = 1; j < w->n; j++) {
        sv_str before = sv_buf_str(&w->v[i].text);
        if (!(before.n > 0 && before.p[before.n - 1] == ' ') && within(sv_buf_str(&w->v[j].text), appended))
            join(&w->v[i], &w->v[j], false);
        else
            i = j;
    }
}

static double hundredths(double x) { return rint(x * 100) / 100; }

/* The first words after a pause, and the edges of the segment. */
static void fit_segment(sv_spoken_segment *g, double median, double last_speech)
{
    sv_spoken_word *w = g->words;
    double longest = 2 * median;
    if (w[0].end - last_speech > 4 * median && (w[0].end - w[0].start > longest || (g->n_words > 1 && w[1].end - w[0].start > 2 * longest))) {
        if (g->n_words > 1 && w[1].end - w[1].start > longest)
            w[0].end = w[1].start = fmax(w[1].end / 2, w[1].end - longest);
        w[0].start = fmax(0, w[0].end - longest);
    }
    if (g->start < w[0].end && g->start - 0.5 > w[0].start)
        w[0].start = fmax(0, fmin(w[0].end - median, g->start));
    else
        g->start = w[0].start;
    w += g->n_words - 1;
    if (g->end > w->start && g->end + 0.5 < w->end)
        w->end = fmax(w->start + median, g->end);
    else
        g->end = w->end;
}

static int32_t n_text_of(const trs *s, const sv_spoken_segment *g)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_tokens; i++)
        n += g->tokens[i] < s->t->eot;
    return n;
}

/* Hands the words out to the segments that their tokens are of. */
static void hand_out(const trs *s, words *w, sv_spoken_segment *segments, int32_t n, double median, double last_speech)
{
    double offset = (double)segments[0].seek * SV_MEL_HOP / SV_AUDIO_RATE;
    int32_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        sv_spoken_segment *g = &segments[i];
        int32_t n_text = n_text_of(s, g), n_saved = 0;
        g->words = sv_xcalloc((size_t)w->n + 1, sizeof *g->words);
        for (; at < w->n && n_saved < n_text; n_saved += w->v[at++].n_tokens) {
            word *k = &w->v[at];
            if (k->text.n > 0)
                g->words[g->n_words++] = (sv_spoken_word){.text = sv_buf_take(&k->text), .start = hundredths(offset + k->start),
                                                          .end = hundredths(offset + k->end), .probability = (float)k->probability};
        }
        if (g->n_words > 0) {
            fit_segment(g, median, last_speech);
            last_speech = g->end;
        }
    }
}

sv_rc trs_add_words(trs *s, sv_spoken_segment *segments, int32_t n, int64_t n_frames, double last_speech, sv_err *err)
{
    SV_AUTO(trs_ids_donep) trs_ids text = {0};
    SV_AUTO(words_donep) words w = {0};
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < segments[i].n_tokens; k++)
            if (segments[i].tokens[k] < s->t->eot)
                trs_ids_add(&text, &segments[i].tokens[k], 1);
    int32_t n_text = (int32_t)text.n;
    if (n_text == 0 || n_frames < 2 || n_text + 5 > s->info->n_text_ctx)
        return SV_OK;
    trs_ids_add(&text, &s->t->eot, 1);
    split(s, &w, text.v, text.n);
    if (w.n <= 1)
        return SV_OK;
    sv_buf_done(&w.v[--w.n].text); /* the end's */
    int32_t n_whole = 0;
    for (int32_t i = 0; i < w.n; i++)
        n_whole += w.v[i].n_tokens;
    if (n_whole > n_text) /* the last bytes were half a character, and took the end in */
        return SV_OK;
    if (align(s, &w, text.v, n_text, n_frames, err) != SV_OK)
        return err->code;
    double median = median_duration(&w);
    bool any = median > 0;
    if (any)
        shorten_at_sentence_ends(&w, 2 * median);
    merge_punctuation(&w);
    hand_out(s, &w, segments, n, median, last_speech);
    return SV_OK;
}
