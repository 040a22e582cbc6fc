/* transcribe.c - a recording to text, window by window
 *
 * A window is what the encoder takes, 30 s. Its text has time marks; where two of them meet, one segment ends and the next begins. What follows the last
 * such place may have been cut by the window's edge: the next window begins there. A window that ends with one mark had nothing behind it, one
 * without any is one segment; then the next window is the next 30 s. The text so far goes in front of the next window's, so that spelling and style go
 * on, unless it was drawn at a high temperature: then it might be what the model got stuck in.
 *
 * A window in which the model hears no speech and has nothing probable to say is skipped. With a hallucination threshold, silences next to words that
 * look invented (improbable, very short or very long) are skipped too, once their times are known.
 *
 * After Radford et al. 2022, arXiv:2212.04356, and openai/whisper's transcribe.py, whose results are the test's. One difference: where the language is to be
 * heard, that is done with the first window as it is decoded, while theirs sees silence behind a shorter recording where ours sees nothing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/transcribe_impl.h"

sv_transcribe_opts sv_transcribe_defaults(void)
{
    return (sv_transcribe_opts){.no_speech_threshold = 0.6f, .compression_ratio_threshold = 2.4f, .log_prob_threshold = -1, .hallucination_silence_threshold = NAN,
                                .temperatures = {0, 0.2f, 0.4f, 0.6f, 0.8f, 1}, .n_temperatures = 6};
}

static void segment_done(sv_spoken_segment *g)
{
    for (int32_t i = 0; i < g->n_words; i++)
        free(g->words[i].text);
    free(g->words);
    free(g->tokens);
    free(g->text);
    *g = (sv_spoken_segment){0};
}

void sv_transcript_done(sv_transcript *t)
{
    for (int32_t i = 0; i < t->n_segments; i++)
        segment_done(&t->segments[i]);
    free(t->segments);
    free(t->text);
    *t = (sv_transcript){0};
}

typedef struct run {
    trs s;
    const sv_audio *audio;
    float peak, *mel;
    int64_t n_frames, window;   /* of the recording; of a window */
    int64_t seek;
    trs_ids all, prefix;        /* the text so far, after the initial prompt */
    size_t n_initial, from;     /* ids of that prompt; where the next prompt begins */
    double last_speech;
    sv_spoken_segment *found;   /* of the window */
    int32_t n_found;
    sv_transcript out;
} run;

/* --- the encoder -------------------------------------------------------------------------------------------------- */

static sv_rc encode(run *r, sv_err *err)
{
    const sv_transcribe_opts *o = r->s.o;
    sv_pool *pool = o->enter(o->arg);
    sv_mel_frames(sv_whisper_mel(r->s.m), pool, r->audio, r->peak, r->seek, (int32_t)r->window, r->mel);
    sv_whisper_encode_begin(r->s.m, r->s.ws, pool, r->mel);
    o->leave(o->arg);
    for (int32_t i = 0; i < r->s.info->n_audio_layer; i++) {
        if (trs_canceled(&r->s))
            return sv_fail(err, SV_ECANCELED, "canceled");
        sv_whisper_encode_layer(r->s.m, r->s.ws, o->enter(o->arg), i);
        o->leave(o->arg);
    }
    sv_whisper_encode_end(r->s.m, r->s.ws, o->enter(o->arg));
    o->leave(o->arg);
    return SV_OK;
}

/* --- segments ----------------------------------------------------------------------------------------------------- */

static sv_rc add_segment(run *r, double start, double end, const int32_t *ids, size_t n, const trs_decoded *d, sv_err *err)
{
    sv_buf text;
    sv_buf_init(&text, 0);
    r->found = sv_xrealloc(r->found, (size_t)r->n_found + 1, sizeof *r->found);
    sv_spoken_segment *g = &r->found[r->n_found++];
    *g = (sv_spoken_segment){.start = start, .end = end, .seek = r->seek, .temperature = d->temperature, .avg_logprob = d->avg_logprob,
                             .compression_ratio = d->compression_ratio, .no_speech_prob = d->no_speech_prob, .n_tokens = (int32_t)n};
    g->tokens = sv_xcalloc(n + 1, sizeof *g->tokens);
    if (n > 0)
        memcpy(g->tokens, ids, n * sizeof *ids);
    trs_text(&r->s, ids, n, &text);
    bool failed = text.failed;
    g->text = sv_buf_take(&text);
    return failed ? sv_fail(err, SV_ELIMIT, "a segment's text is too long") : SV_OK;
}

/* Cuts the window's tokens where two times meet; says how many frames the next window lies ahead. */
static sv_rc cut(run *r, const trs_decoded *d, int64_t n_frames, int64_t *ahead, sv_err *err)
{
    const int32_t *v = d->tokens.v, begin = r->s.t->timestamp;
    size_t n = d->tokens.n, from = 0;
    double offset = (double)r->seek * SV_MEL_HOP / SV_AUDIO_RATE, length = (double)n_frames * SV_MEL_HOP / SV_AUDIO_RATE;
    bool one_at_end = n >= 1 && v[n - 1] >= begin && (n < 2 || v[n - 2] < begin) && n >= 2;
    bool any = false;
    for (size_t i = 1; i <= n; i++) {
        bool meet = i < n ? v[i - 1] >= begin && v[i] >= begin : any && one_at_end;
        if (!meet)
            continue;
        any = true;
        if (add_segment(r, offset + (v[from] - begin) * 0.02, offset + (v[i - 1] - begin) * 0.02, v + from, i - from, d, err) != SV_OK)
            return err->code;
        from = i;
    }
    *ahead = n_frames;
    if (any && !one_at_end)
        *ahead = (int64_t)(v[from - 1] - begin) * 2;
    if (any)
        return SV_OK;
    for (size_t i = n; i-- > 0;)
        if (v[i] >= begin) { /* the last time there is, if it says anything */
            length = v[i] != begin ? (v[i] - begin) * 0.02 : length;
            break;
        }
    return add_segment(r, offset, offset + length, v, n, d, err);
}

/* --- words that look invented ------------------------------------------------------------------------------------- */

static bool is_strange(const sv_spoken_segment *g)
{
    static const char marks[] = "\"'“¿([{-\"'.。,，!！?？:：”)]}、";
    double score = 0;
    int32_t n = 0;
    if (!g || g->n_words == 0)
        return false;
    for (int32_t i = 0; i < g->n_words && n < 8; i++) {
        const sv_spoken_word *w = &g->words[i];
        double length = w->end - w->start;
        if (strstr(marks, w->text))
            continue;
        score += (w->probability < 0.15f ? 1 : 0) + (length < 0.133 ? (0.133 - length) * 15 : 0) + (length > 2 ? length - 2 : 0);
        n++;
    }
    return score >= 3 || score + 0.01 >= n;
}

static const sv_spoken_segment *next_spoken(const run *r, int32_t from)
{
    for (int32_t i = from; i < r->n_found; i++)
        if (r->found[i].n_words > 0)
            return &r->found[i];
    return NULL;
}

/* Of the last word, or where there are none of the last segment; -1: there is none. */
static double found_end(const run *r)
{
    for (int32_t i = r->n_found; i-- > 0;)
        if (r->found[i].n_words > 0)
            return r->found[i].words[r->found[i].n_words - 1].end;
    return r->n_found > 0 ? r->found[r->n_found - 1].end : -1;
}

static void drop_found(run *r, int32_t from)
{
    while (r->n_found > from)
        segment_done(&r->found[--r->n_found]);
}

/* Moves seek past silence, and drops segments that were invented in it. True: the whole window is to be taken again from there. */
static bool skip_silence(run *r, int64_t before, int64_t n_frames, bool one_at_end)
{
    double limit = (double)r->s.o->hallucination_silence_threshold, offset = (double)before / 100, window_end = (double)(before + r->window) / 100;
    const sv_spoken_segment *first = next_spoken(r, 0);
    double end = found_end(r);
    if (!one_at_end && end > offset)
        r->seek = window_end - end > limit ? (int64_t)rint(end * 100) : before + n_frames;
    if (first && is_strange(first) && first->start - offset > limit) {
        r->seek = before + (int64_t)rint((first->start - offset) * 100);
        return true;
    }
    double last_end = r->last_speech;
    for (int32_t i = 0; i < r->n_found; i++) {
        const sv_spoken_segment *g = &r->found[i];
        if (g->n_words == 0)
            continue;
        if (is_strange(g)) {
            const sv_spoken_segment *next = next_spoken(r, i + 1);
            double next_start = next ? next->words[0].start : offset + (double)n_frames / 100;
            bool quiet_before = g->start - last_end > limit || g->start < limit || g->start - offset < 2;
            bool quiet_after = next_start - g->end > limit || is_strange(next) || window_end - g->end < 2;
            if (quiet_before && quiet_after) {
                r->seek = (int64_t)rint(fmax(offset + 1, g->start) * 100);
                if ((double)r->n_frames / 100 - g->end < limit)
                    r->seek = r->n_frames;
                drop_found(r, i);
                break;
            }
        }
        last_end = g->end;
    }
    return false;
}

/* --- windows ------------------------------------------------------------------------------------------------------ */

static bool is_silent(const trs *s, const trs_decoded *d)
{
    return d->no_speech_prob > s->o->no_speech_threshold && !(d->avg_logprob > s->o->log_prob_threshold);
}

static void segment_clear(sv_spoken_segment *g)
{
    for (int32_t i = 0; i < g->n_words; i++)
        free(g->words[i].text);
    free(g->words);
    free(g->tokens);
    free(g->text);
    g->text = sv_xstrdup("");
    g->tokens = NULL;
    g->words = NULL;
    g->n_tokens = g->n_words = 0;
}

/* Segments without duration or text stay in their places, emptied. */
static void keep_found(run *r)
{
    sv_transcript *t = &r->out;
    t->segments = sv_xrealloc(t->segments, (size_t)(t->n_segments + r->n_found) + 1, sizeof *t->segments);
    for (int32_t i = 0; i < r->n_found; i++) {
        sv_spoken_segment *g = &r->found[i];
        if (g->start == g->end || trs_strip(sv_str_of(g->text)).n == 0)
            segment_clear(g);
        trs_ids_add(&r->all, g->tokens, (size_t)g->n_tokens);
        t->segments[t->n_segments++] = *g;
    }
    r->n_found = 0;
}

static sv_rc one_window(run *r, const trs_decoded *d, int64_t n_frames, sv_err *err)
{
    const sv_transcribe_opts *o = r->s.o;
    const int32_t *v = d->tokens.v, begin = r->s.t->timestamp;
    size_t n = d->tokens.n;
    int64_t before = r->seek, ahead = 0;
    bool one_at_end = n >= 2 && v[n - 1] >= begin && v[n - 2] < begin;
    if (is_silent(&r->s, d)) {
        r->seek += n_frames;
        return SV_OK;
    }
    if (cut(r, d, n_frames, &ahead, err) != SV_OK)
        return err->code;
    r->seek += ahead;
    if (o->words) {
        if (trs_add_words(&r->s, r->found, r->n_found, n_frames, r->last_speech, err) != SV_OK)
            return err->code;
        double end = found_end(r);
        if (!one_at_end && end > (double)before / 100)
            r->seek = (int64_t)rint(end * 100);
        if (!isnan(o->hallucination_silence_threshold) && skip_silence(r, before, n_frames, one_at_end)) {
            drop_found(r, 0);
            return SV_OK;
        }
        if ((end = found_end(r)) >= 0)
            r->last_speech = end;
    }
    keep_found(r);
    if (o->no_context || d->temperature > 0.5f)
        r->from = r->all.n;
    return SV_OK;
}

static sv_rc windows(run *r, sv_err *err)
{
    while (r->seek < r->n_frames) {
        int64_t before = r->seek, n_frames = r->n_frames - r->seek < r->window ? r->n_frames - r->seek : r->window;
        trs_decoded d = {0};
        if (encode(r, err) != SV_OK)
            return err->code;
        if (before == 0 && r->s.lang >= 0 && r->s.o->language.n == 0 && r->out.language[0] == 0) {
            trs_detect(&r->s, &r->s.lang, &r->out.language_probability);
            snprintf(r->out.language, sizeof r->out.language, "%s", r->s.t->codes[r->s.lang]);
        }
        const trs_ids prompt = {.v = r->all.v + r->from, .n = r->all.n - r->from};
        sv_rc rc = trs_decode(&r->s, &d, &prompt, &r->prefix, err);
        rc = rc == SV_OK ? one_window(r, &d, n_frames, err) : rc;
        free(d.tokens.v);
        if (rc != SV_OK)
            return rc;
        if (r->seek <= before) /* never twice the same */
            r->seek = before + n_frames;
    }
    return SV_OK;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static sv_rc read_language(run *r, sv_err *err)
{
    sv_str name = r->s.o->language;
    r->s.lang = r->s.info->multilingual ? 0 : -1;
    if (!r->s.info->multilingual) {
        if (r->s.o->translate || (name.n > 0 && !sv_str_ieq(name, "en") && !sv_str_ieq(name, "english")))
            return sv_fail(err, SV_EINVAL, "this model hears English only");
        snprintf(r->out.language, sizeof r->out.language, "en");
        r->out.language_probability = 1;
    } else if (name.n > 0) {
        r->s.lang = sv_whisper_find_lang(r->s.m, name);
        if (r->s.lang < 0)
            return sv_fail(err, SV_EINVAL, "'%.*s' is none of the model's %d languages", (int)(name.n < 40 ? name.n : 40), name.p, r->s.info->n_langs);
        snprintf(r->out.language, sizeof r->out.language, "%s", r->s.t->codes[r->s.lang]);
        r->out.language_probability = 1;
    }
    return SV_OK;
}

/* A space and the text without any around it. Long ones cost no more than the end of theirs that is read. */
static sv_rc tokens_of(run *r, sv_str text, trs_ids *out, bool last_ones, sv_err *err)
{
    enum { MAX_BYTES = 16384 };
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_tokens t = {0};
    sv_buf_init(&b, 0);
    text = trs_strip(text);
    if (text.n == 0)
        return SV_OK;
    if (text.n > MAX_BYTES && last_ones) {
        size_t cut = text.n - MAX_BYTES;
        while (cut < text.n && ((uint8_t)text.p[cut] & 0xc0) == 0x80)
            cut++;
        text = (sv_str){text.p + cut, text.n - cut};
    } else if (text.n > MAX_BYTES) {
        text.n = sv_utf8_whole((sv_str){text.p, MAX_BYTES});
    }
    sv_buf_addc(&b, ' ');
    sv_buf_add(&b, text.p, text.n);
    if (sv_tokenizer_encode(sv_whisper_tokenizer(r->s.m), sv_buf_str(&b), 0, MAX_BYTES + 8, &t, err) != SV_OK)
        return err->code;
    trs_ids_add(out, t.v, t.n);
    free(t.v);
    return SV_OK;
}

static sv_rc prepare(run *r, sv_err *err)
{
    size_t n_vocab = (size_t)r->s.info->n_vocab;
    r->window = 2 * (int64_t)r->s.info->n_audio_ctx;
    r->n_frames = sv_mel_n_frames(r->audio);
    r->out.duration = (double)r->audio->n / SV_AUDIO_RATE;
    r->s.random = r->s.o->seed;
    if (read_language(r, err) != SV_OK || tokens_of(r, r->s.o->initial_prompt, &r->all, true, err) != SV_OK ||
        tokens_of(r, r->s.o->prefix, &r->prefix, false, err) != SV_OK)
        return err->code;
    r->n_initial = r->all.n;
    r->s.logits = sv_try_calloc(n_vocab * SV_WHISPER_SEQS, sizeof *r->s.logits);
    r->s.first = sv_try_calloc(n_vocab, sizeof *r->s.first);
    r->s.at_sot = sv_try_calloc(n_vocab, sizeof *r->s.at_sot);
    r->mel = sv_try_calloc((size_t)r->window * (size_t)r->s.info->n_mels, sizeof *r->mel);
    if (!r->s.logits || !r->s.first || !r->s.at_sot || !r->mel)
        return sv_fail(err, SV_ENOMEM, "no memory to transcribe");
    r->peak = sv_mel_peak(sv_whisper_mel(r->s.m), r->s.o->enter(r->s.o->arg), r->audio);
    r->s.o->leave(r->s.o->arg);
    return SV_OK;
}

static sv_rc finish(run *r, sv_err *err)
{
    sv_buf text;
    sv_buf_init(&text, 0);
    trs_text(&r->s, r->all.v + r->n_initial, r->all.n - r->n_initial, &text);
    bool failed = text.failed;
    r->out.text = sv_buf_take(&text);
    if (failed)
        return sv_fail(err, SV_ELIMIT, "the text is too long");
    if (!r->out.language[0]) /* there was no window to hear it in */
        snprintf(r->out.language, sizeof r->out.language, "%s", r->s.t->codes[0]);
    r->out.n_prompt_tokens = r->s.n_prompt_tokens;
    r->out.n_tokens = r->s.n_tokens;
    return SV_OK;
}

sv_rc sv_transcribe(sv_transcript *out, const sv_whisper *m, sv_whisper_ws *ws, const sv_audio *audio, const sv_transcribe_opts *opts, sv_err *err)
{
    run r = {.s = {.m = m, .ws = ws, .o = opts, .info = sv_whisper_get_info(m), .t = sv_whisper_get_tokens(m)}, .audio = audio};
    sv_rc rc = prepare(&r, err);
    rc = rc == SV_OK ? windows(&r, err) : rc;
    rc = rc == SV_OK ? finish(&r, err) : rc;
    drop_found(&r, 0);
    free(r.found);
    free(r.s.logits);
    free(r.s.first);
    free(r.s.at_sot);
    free(r.mel);
    free(r.all.v);
    free(r.prefix.v);
    if (rc == SV_OK)
        *out = r.out;
    else
        sv_transcript_done(&r.out);
    return rc;
}
