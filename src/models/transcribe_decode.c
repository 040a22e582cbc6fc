/* transcribe_decode.c - the text of one window of sound
 *
 * A step's logits are filtered by what the model was trained to write (Radford et al. 2022, section 4.5, and openai/whisper's decoding.py):
 *   1. never markers and signs that nobody speaks; at the beginning neither a space nor the end;
 *   2. times come in pairs, an end and the next start, but before the end of the text; they never go back, and a segment is never empty;
 *   3. the first token is a time, of at most the first second;
 *   4. where all times together are more probable than the most probable word, it is a time.
 * At temperature 0 the most probable token is taken, or with a beam the most probable text of several; above it a token is drawn, and there is no beam.
 *
 * An attempt that repeats itself (text that compresses too well) or that the model itself finds improbable is made again at the next temperature. What
 * stands behind the prompt is the same for each, and computed once. */
#include <math.h>
#include <string.h>
#include <zlib.h>

#include "models/transcribe_impl.h"
#include "models/unicode.h"

void trs_ids_add(trs_ids *ids, const int32_t *v, size_t n)
{
    if (ids->n + n > ids->cap) {
        ids->cap = 2 * (ids->n + n) + 64;
        ids->v = sv_xrealloc(ids->v, ids->cap, sizeof *ids->v);
    }
    if (n > 0)
        memcpy(ids->v + ids->n, v, n * sizeof *v);
    ids->n += n;
}

int32_t trs_start(const trs *s, int32_t out[3])
{
    out[0] = s->t->sot;
    if (s->lang < 0)
        return 1;
    out[1] = s->t->langs[s->lang];
    out[2] = s->o->translate ? s->t->translate : s->t->transcribe;
    return 3;
}

void trs_text(const trs *s, const int32_t *ids, size_t n, sv_buf *out)
{
    sv_detok d = {.started = true};
    for (size_t i = 0; i < n; i++)
        if (ids[i] < s->t->eot)
            sv_detok_feed(&d, sv_whisper_tokenizer(s->m), ids[i], out);
    sv_detok_finish(&d, out);
}

sv_str trs_strip(sv_str x)
{
    uint32_t cp;
    for (size_t k; x.n > 0 && (k = sv_uni_get(x.p, x.n, &cp), sv_uni_is_space(cp) || (cp >= 0x1c && cp <= 0x1f)); x.p += k, x.n -= k)
        ;
    for (size_t k = 1; x.n > 0; k = 1) {
        while (k < x.n && k < 4 && ((uint8_t)x.p[x.n - k] & 0xc0) == 0x80)
            k++;
        (void)sv_uni_get(x.p + x.n - k, k, &cp);
        if (!sv_uni_is_space(cp) && !(cp >= 0x1c && cp <= 0x1f)) /* those count for Python, which the thresholds were set with */
            break;
        x.n -= k;
    }
    return x;
}

/* --- a step's logits ---------------------------------------------------------------------------------------------- */

static void forbid(float *l, int32_t from, int32_t to)
{
    for (int32_t i = from; i < to; i++)
        l[i] = -INFINITY;
}

/* log of the sum of exp over [from, to) */
static double log_sum(const float *l, int32_t from, int32_t to)
{
    double top = -INFINITY, sum = 0;
    for (int32_t i = from; i < to; i++)
        top = (double)l[i] > top ? (double)l[i] : top;
    if (!(top > -INFINITY))
        return -INFINITY;
    for (int32_t i = from; i < to; i++)
        sum += exp((double)l[i] - top);
    return top + log(sum);
}

/* Rules 1 to 4; `seq` is what was sampled so far. */
static void filter(const trs *s, float *l, const int32_t *seq, size_t n)
{
    const sv_whisper_tokens *t = s->t;
    int32_t n_vocab = s->info->n_vocab, begin = t->timestamp;
    size_t n_ids;
    const int32_t *ids = sv_whisper_begin_suppressed(s->m, &n_ids);
    for (size_t i = 0; n == 0 && i < n_ids; i++)
        l[ids[i]] = -INFINITY;
    ids = sv_whisper_suppressed(s->m, &n_ids);
    for (size_t i = 0; i < n_ids; i++)
        l[ids[i]] = -INFINITY;
    l[t->no_timestamps] = -INFINITY;

    bool last = n >= 1 && seq[n - 1] >= begin, before = n < 2 || seq[n - 2] >= begin;
    if (last && before)
        forbid(l, begin, n_vocab);
    else if (last)
        forbid(l, 0, t->eot);
    for (size_t i = n; i-- > 0;)
        if (seq[i] >= begin) {
            forbid(l, begin, last && !before ? seq[i] : seq[i] + 1);
            break;
        }
    if (n == 0) {
        forbid(l, 0, begin);
        if (begin + s->info->max_initial_timestamp + 1 < n_vocab)
            forbid(l, begin + s->info->max_initial_timestamp + 1, n_vocab);
    }
    float top = -INFINITY;
    for (int32_t i = 0; i < begin; i++)
        top = l[i] > top ? l[i] : top;
    if (log_sum(l, begin, n_vocab) > (double)top)
        forbid(l, 0, begin);
}

static double uniform(trs *s) /* splitmix64, to [0, 1) */
{
    uint64_t z = (s->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static int32_t choose(trs *s, const float *l, float temperature)
{
    int32_t best = 0, n = s->info->n_vocab;
    for (int32_t i = 1; i < n; i++)
        if (l[i] > l[best])
            best = i;
    if (temperature <= 0)
        return best;
    double sum = 0, top = (double)l[best], by = 1 / (double)temperature;
    for (int32_t i = 0; i < n; i++)
        sum += exp(((double)l[i] - top) * by);
    double left = uniform(s) * sum;
    for (int32_t i = 0; i < n; i++)
        if (l[i] > -INFINITY && (left -= exp(((double)l[i] - top) * by)) < 0)
            return i;
    return best;
}

/* --- an attempt --------------------------------------------------------------------------------------------------- */

typedef struct attempt {
    int32_t n_prompt; /* tokens before the first sampled one */
    trs_ids tokens;
    double sum_logprob;
} attempt;

static sv_rc step(trs *s, const sv_whisper_chunk *chunks, int32_t n, sv_err *err)
{
    if (trs_canceled(s))
        return sv_fail(err, SV_ECANCELED, "canceled");
    sv_whisper_decode(s->m, s->ws, s->o->enter(s->o->arg), chunks, n, NULL);
    s->o->leave(s->o->arg);
    s->n_tokens += n;
    return SV_OK;
}

static int32_t max_sampled(const trs *s) { return s->info->n_text_ctx / 2; }

/* Greedy or drawn. */
static sv_rc sample(trs *s, attempt *a, float temperature, sv_err *err)
{
    float *l = s->logits;
    memcpy(l, s->first, (size_t)s->info->n_vocab * sizeof *l);
    for (int32_t i = 0; i < max_sampled(s); i++) {
        int32_t pos = a->n_prompt + (int32_t)a->tokens.n;
        if (i > 0) {
            int32_t last = a->tokens.v[a->tokens.n - 1];
            if (step(s, &(sv_whisper_chunk){.tokens = &last, .n_tokens = 1, .pos = pos - 1, .logits = l}, 1, err) != SV_OK)
                return err->code;
        }
        filter(s, l, a->tokens.v, a->tokens.n);
        int32_t id = choose(s, l, temperature);
        a->sum_logprob += (double)l[id] - log_sum(l, 0, s->info->n_vocab);
        if (id == s->t->eot)
            return SV_OK;
        trs_ids_add(&a->tokens, &id, 1);
        if (pos + 1 > s->info->n_text_ctx)
            return SV_OK;
    }
    return SV_OK;
}

/* --- a beam ------------------------------------------------------------------------------------------------------- */

typedef struct line { int32_t *v; size_t n; double sum; int32_t seq; } line; /* v: [n_text_ctx] */
typedef struct candidate { double score; int32_t from, token; } candidate;

static void insert(candidate *all, int32_t *n, int32_t max, candidate c)
{
    int32_t i = *n;
    if (i == max && !(c.score > all[max - 1].score))
        return;
    i = i == max ? max - 1 : i;
    for (; i > 0 && c.score > all[i - 1].score; i--)
        all[i] = all[i - 1];
    all[i] = c;
    *n += *n < max;
}

/* The beam + 1 best ways on from each line, together, best first. */
static int32_t ways_on(const trs *s, const line *lines, int32_t n_lines, int32_t n_beam, candidate *out)
{
    int32_t n_vocab = s->info->n_vocab, n = 0;
    for (int32_t b = 0; b < n_lines; b++) {
        const float *l = s->logits + (int64_t)b * n_vocab;
        double norm = log_sum(l, 0, n_vocab);
        candidate best[SV_WHISPER_SEQS + 1];
        int32_t n_best = 0;
        for (int32_t i = 0; i < n_vocab; i++)
            if (n_best <= n_beam || (double)l[i] > best[n_beam].score)
                insert(best, &n_best, n_beam + 1, (candidate){(double)l[i], b, i});
        for (int32_t i = 0; i < n_best; i++)
            insert(out, &n, SV_WHISPER_SEQS * (SV_WHISPER_SEQS + 1), (candidate){lines[b].sum + best[i].score - norm, b, best[i].token});
    }
    return n;
}

/* The lines go on with the best of them; a line that is gone on with twice is copied into one that is not. Ended ones go to `done`. */
static int32_t go_on(const trs *s, int32_t n_prompt, line *lines, int32_t n_lines, int32_t n_beam, const candidate *ways, int32_t n_ways, line *done,
                     int32_t *n_done)
{
    line next[SV_WHISPER_SEQS], spare[SV_WHISPER_SEQS];
    int32_t n = 0, n_spare = 0, ended[SV_WHISPER_SEQS * (SV_WHISPER_SEQS + 1)], n_ended = 0;
    bool taken[SV_WHISPER_SEQS] = {false};
    int32_t chosen[SV_WHISPER_SEQS];
    for (int32_t i = 0; i < n_ways && n < n_beam; i++)
        if (ways[i].token == s->t->eot)
            ended[n_ended++] = i;
        else
            chosen[n++] = i;
    for (int32_t i = 0; i < n_ended && *n_done < n_beam; i++) {
        const line *from = &lines[ways[ended[i]].from];
        line *to = &done[(*n_done)++];
        memcpy(to->v, from->v, from->n * sizeof *to->v);
        to->n = from->n;
        to->sum = ways[ended[i]].score;
    }
    for (int32_t i = 0; i < n; i++)
        taken[ways[chosen[i]].from] = true;
    for (int32_t b = 0; b < n_beam; b++) /* those beyond n_lines were never begun */
        if (b >= n_lines || !taken[b])
            spare[n_spare++] = lines[b];
    memset(taken, 0, sizeof taken);
    for (int32_t i = 0; i < n; i++) {
        const candidate *w = &ways[chosen[i]];
        const line *from = &lines[w->from];
        if (!taken[w->from]) {
            next[i] = *from;
            taken[w->from] = true;
        } else {
            next[i] = spare[--n_spare];
            memcpy(next[i].v, from->v, from->n * sizeof *from->v);
            next[i].n = from->n;
        }
    }
    for (int32_t i = 0; i < n; i++) { /* sequences are copied while all sources are whole */
        const candidate *w = &ways[chosen[i]];
        if (next[i].seq != lines[w->from].seq)
            sv_whisper_copy_seq(s->m, s->ws, next[i].seq, lines[w->from].seq, n_prompt + (int32_t)lines[w->from].n);
    }
    for (int32_t i = 0; i < n; i++) {
        next[i].v[next[i].n++] = ways[chosen[i]].token;
        next[i].sum = ways[chosen[i]].score;
    }
    for (int32_t b = n; b < n_beam; b++)
        next[b] = spare[--n_spare];
    memcpy(lines, next, (size_t)n_beam * sizeof *lines);
    return n;
}

static sv_rc beam_steps(trs *s, const attempt *a, line *lines, int32_t n_beam, line *done, int32_t *n_done, int32_t *n_lines, sv_err *err)
{
    candidate ways[SV_WHISPER_SEQS * (SV_WHISPER_SEQS + 1)];
    memcpy(s->logits, s->first, (size_t)s->info->n_vocab * sizeof *s->logits);
    *n_lines = 1;
    for (int32_t i = 0; i < max_sampled(s); i++) {
        sv_whisper_chunk chunks[SV_WHISPER_SEQS];
        for (int32_t b = 0; b < *n_lines; b++)
            chunks[b] = (sv_whisper_chunk){.tokens = lines[b].v + i - 1, .n_tokens = 1, .pos = a->n_prompt + i - 1, .seq = lines[b].seq,
                                           .logits = s->logits + (int64_t)b * s->info->n_vocab};
        if (i > 0 && step(s, chunks, *n_lines, err) != SV_OK)
            return err->code;
        for (int32_t b = 0; b < *n_lines; b++)
            filter(s, s->logits + (int64_t)b * s->info->n_vocab, lines[b].v, lines[b].n);
        int32_t n_ways = ways_on(s, lines, *n_lines, n_beam, ways);
        *n_lines = go_on(s, a->n_prompt, lines, *n_lines, n_beam, ways, n_ways, done, n_done);
        if (*n_done >= n_beam || *n_lines == 0 || a->n_prompt + i + 1 > s->info->n_text_ctx)
            return SV_OK;
    }
    return SV_OK;
}

static sv_rc beam(trs *s, attempt *a, int32_t n_beam, sv_err *err)
{
    size_t n_ctx = (size_t)s->info->n_text_ctx + 1;
    SV_AUTO(sv_freep) int32_t *memory = sv_xcalloc(2 * (size_t)n_beam * n_ctx, sizeof *memory);
    line lines[SV_WHISPER_SEQS], done[2 * SV_WHISPER_SEQS];
    int32_t n_done = 0, n_lines = 0;
    for (int32_t b = 0; b < n_beam; b++) {
        lines[b] = (line){.v = memory + (size_t)b * n_ctx, .seq = b};
        done[b] = (line){.v = memory + (size_t)(n_beam + b) * n_ctx};
    }
    if (beam_steps(s, a, lines, n_beam, done, &n_done, &n_lines, err) != SV_OK)
        return err->code;
    for (int32_t b = 0; b < n_lines && n_done < n_beam; b++) /* best first: go_on keeps them so */
        done[n_done++] = lines[b];
    const line *best = NULL;
    for (int32_t i = 0; i < n_done; i++)
        if (!best || done[i].sum / (double)done[i].n > best->sum / (double)best->n)
            best = &done[i];
    if (best) {
        trs_ids_add(&a->tokens, best->v, best->n);
        a->sum_logprob = best->sum;
    }
    return SV_OK;
}

/* --- attempts ----------------------------------------------------------------------------------------------------- */

/* How much shorter zlib makes the text: what repeats itself compresses. */
static float compression_ratio(const trs *s, const trs_ids *ids)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, 0);
    trs_text(s, ids->v, ids->n, &text);
    sv_str t = trs_strip(sv_buf_str(&text));
    uLongf n = compressBound(t.n);
    SV_AUTO(sv_freep) Bytef *packed = sv_xcalloc(n, 1);
    SV_ASSERT(compress2(packed, &n, (const Bytef *)t.p, t.n, Z_DEFAULT_COMPRESSION) == Z_OK);
    return (float)((double)t.n / (double)n);
}

/* Marker, the last of the prompt, start, prefix. *i_sot: where the start is. */
static int32_t prompt_of(const trs *s, int32_t *out, const trs_ids *prompt, const trs_ids *prefix, int32_t *i_sot)
{
    size_t room = (size_t)s->info->n_text_ctx / 2 - 1, n = prompt->n < room ? prompt->n : room, n_out = 0;
    if (prompt->n > 0) {
        out[n_out++] = s->t->sot_prev;
        memcpy(out + n_out, prompt->v + prompt->n - n, n * sizeof *out);
        n_out += n;
    }
    *i_sot = (int32_t)n_out;
    n_out += (size_t)trs_start(s, out + n_out);
    room = room > 8 ? room - 8 : 0;
    n = prefix->n < room ? prefix->n : room;
    if (n > 0)
        memcpy(out + n_out, prefix->v, n * sizeof *out);
    return (int32_t)(n_out + n);
}

static sv_rc read_prompt(trs *s, const trs_ids *prompt, const trs_ids *prefix, int32_t *n, float *no_speech, sv_err *err)
{
    SV_AUTO(sv_freep) int32_t *ids = sv_xcalloc((size_t)s->info->n_text_ctx + 8, sizeof *ids);
    int32_t i_sot;
    *n = prompt_of(s, ids, prompt, prefix, &i_sot);
    if (step(s, &(sv_whisper_chunk){.tokens = ids, .n_tokens = *n, .logits = s->first, .at_logits = s->at_sot, .i_at = i_sot}, 1, err) != SV_OK)
        return err->code;
    s->n_prompt_tokens += *n;
    *no_speech = (float)exp((double)s->at_sot[s->t->no_speech] - log_sum(s->at_sot, 0, s->info->n_vocab));
    return SV_OK;
}

static bool must_try_again(const trs *s, const trs_decoded *d)
{
    const sv_transcribe_opts *o = s->o;
    bool again = d->compression_ratio > o->compression_ratio_threshold || d->avg_logprob < o->log_prob_threshold; /* NAN: neither */
    return again && !(d->no_speech_prob > o->no_speech_threshold && d->avg_logprob < o->log_prob_threshold);
}

sv_rc trs_decode(trs *s, trs_decoded *out, const trs_ids *prompt, const trs_ids *prefix, sv_err *err)
{
    trs_decoded d = {0};
    attempt a = {0};
    if (read_prompt(s, prompt, prefix, &a.n_prompt, &d.no_speech_prob, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < s->o->n_temperatures; i++) {
        d.temperature = s->o->temperatures[i];
        a.tokens.n = 0;
        a.sum_logprob = 0;
        int32_t n_beam = s->o->beam_size < SV_WHISPER_SEQS ? s->o->beam_size : SV_WHISPER_SEQS;
        sv_rc rc = n_beam > 1 && d.temperature <= 0 ? beam(s, &a, n_beam, err) : sample(s, &a, d.temperature, err);
        if (rc != SV_OK) {
            free(a.tokens.v);
            return rc;
        }
        d.avg_logprob = (float)(a.sum_logprob / (double)(a.tokens.n + 1));
        d.compression_ratio = compression_ratio(s, &a.tokens);
        if (!must_try_again(s, &d))
            break;
    }
    d.tokens = a.tokens;
    *out = d;
    return SV_OK;
}

void trs_detect(trs *s, int32_t *lang, float *probability)
{
    int32_t sot = s->t->sot, best = 0;
    double sum = 0;
    sv_whisper_decode(s->m, s->ws, s->o->enter(s->o->arg), &(sv_whisper_chunk){.tokens = &sot, .n_tokens = 1, .logits = s->first}, 1, NULL);
    s->o->leave(s->o->arg);
    for (int32_t i = 1; i < s->info->n_langs; i++)
        if (s->first[s->t->langs[i]] > s->first[s->t->langs[best]])
            best = i;
    for (int32_t i = 0; i < s->info->n_langs; i++)
        sum += exp((double)s->first[s->t->langs[i]] - (double)s->first[s->t->langs[best]]);
    *lang = best;
    *probability = (float)(1 / sum);
}
