/* speech.c - a recording, transcribed: bytes to samples, speech out of silence, windows to text, JSON
 *
 * Samples are bounded before they are decoded (models/audio.h), everything after that follows from their number. */
#include "engine/speech.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "engine/media.h"
#include "models/transcribe.h"
#include "models/vad.h"

enum { MIN_SILENCE_MS = 2000, SPEECH_PAD_MS = 400 }; /* faster-whisper's, whose option vad_filter is */

typedef struct speech_model {
    sv_whisper *whisper;
    sv_whisper_ws *ws;
    sv_vad *vad;
} speech_model;

static void speech_close(void *model)
{
    speech_model *m = model;
    sv_whisper_ws_free(m->ws);
    sv_whisper_close(m->whisper);
    sv_vad_free(m->vad);
    free(m);
}

static sv_rc speech_open(void **out, const char *path, sv_err *err)
{
    speech_model *m = sv_xnew0(speech_model);
    if (sv_whisper_open(&m->whisper, path, err) != SV_OK || sv_whisper_ws_new(&m->ws, m->whisper, err) != SV_OK) {
        speech_close(m);
        return err->code;
    }
    m->vad = sv_vad_new();
    *out = m;
    return SV_OK;
}

/* --- options ------------------------------------------------------------------------------------------------------ */

static sv_rc read_number(const json_t *o, const char *key, double min, double max, float *out, sv_err *err)
{
    double v = (double)*out;
    if (sv_json_num(o, key, min, max, &v, err) != SV_OK)
        return err->code;
    *out = (float)v;
    return SV_OK;
}

typedef struct ask { sv_transcribe_opts t; bool vad; int64_t max_seconds; } ask;

static sv_rc read_options(ask *a, const json_t *o, sv_err *err)
{
    sv_transcribe_opts *t = &a->t;
    int64_t beam = 0;
    float temperature = NAN;
    sv_str task = {0};
    bool context = true;
    *t = sv_transcribe_defaults();
    a->max_seconds = SV_SPEECH_MAX_SECONDS;
    if (sv_json_str(o, "language", &t->language, err) != SV_OK || sv_json_str(o, "task", &task, err) != SV_OK ||
        sv_json_str(o, "initial_prompt", &t->initial_prompt, err) != SV_OK || sv_json_str(o, "prefix", &t->prefix, err) != SV_OK ||
        sv_json_bool(o, "condition_on_previous_text", &context, err) != SV_OK || sv_json_bool(o, "words", &t->words, err) != SV_OK ||
        sv_json_bool(o, "vad_filter", &a->vad, err) != SV_OK || sv_json_int(o, "beam_size", 1, SV_WHISPER_SEQS, &beam, err) != SV_OK ||
        sv_json_int(o, "max_seconds", 1, SV_SPEECH_MAX_SECONDS, &a->max_seconds, err) != SV_OK ||
        read_number(o, "temperature", 0, 1, &temperature, err) != SV_OK ||
        read_number(o, "no_speech_threshold", 0, 1, &t->no_speech_threshold, err) != SV_OK ||
        read_number(o, "compression_ratio_threshold", 0, 1e6, &t->compression_ratio_threshold, err) != SV_OK ||
        read_number(o, "log_prob_threshold", -1e6, 0, &t->log_prob_threshold, err) != SV_OK ||
        read_number(o, "hallucination_silence_threshold", 0, 1e6, &t->hallucination_silence_threshold, err) != SV_OK)
        return err->code;
    t->beam_size = (int32_t)beam;
    t->translate = sv_str_is(task, "translate");
    t->no_context = !context;
    if (temperature > 0) { /* one attempt, as the caller wants it */
        t->temperatures[0] = temperature;
        t->n_temperatures = 1;
    }
    return SV_OK;
}

/* --- speech out of silence ---------------------------------------------------------------------------------------- */

typedef struct stretches { sv_speech *v; size_t n; } stretches;
static void stretches_donep(stretches *s) { free(s->v); }

static sv_rc find_speech(const speech_model *m, const sv_audio *a, stretches *out, const sv_media_run *run, sv_err *err)
{
    size_t n = sv_vad_n_windows(a);
    SV_AUTO(sv_freep) float *p = sv_try_calloc(n + 1, sizeof *p);
    sv_vad_state state = {0};
    if (!p)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu windows", n);
    for (size_t at = 0; at < n; at += SV_VAD_BLOCK) {
        if (atomic_load(run->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        sv_vad_run(m->vad, sv_compute_enter(run->compute), &state, a, at, n - at < SV_VAD_BLOCK ? (int32_t)(n - at) : SV_VAD_BLOCK, p + at);
        sv_compute_leave(run->compute);
    }
    out->v = sv_vad_stretches(p, n, (int64_t)a->n, MIN_SILENCE_MS, SPEECH_PAD_MS, &out->n);
    return SV_OK;
}

/* Times back to those of the whole recording: a word, a segment without words belong to the stretch that their middle lies in. */
static void restore_times(sv_transcript *t, const stretches *s)
{
    for (int32_t i = 0; i < t->n_segments; i++) {
        sv_spoken_segment *g = &t->segments[i];
        double middle = (g->start + g->end) / 2;
        for (int32_t k = 0; k < g->n_words; k++) {
            sv_spoken_word *w = &g->words[k];
            double mid = (w->start + w->end) / 2;
            w->start = sv_vad_original(s->v, s->n, w->start, mid);
            w->end = sv_vad_original(s->v, s->n, w->end, mid);
        }
        g->start = g->n_words > 0 ? g->words[0].start : sv_vad_original(s->v, s->n, g->start, middle);
        g->end = g->n_words > 0 ? g->words[g->n_words - 1].end : sv_vad_original(s->v, s->n, g->end, middle);
    }
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static void put_str(sv_buf *b, const char *key, const char *s)
{
    sv_buf_addf(b, "\"%s\":", key);
    sv_json_add_str(b, sv_str_of(s));
}

static void put_num(sv_buf *b, const char *key, double v)
{
    sv_buf_addf(b, ",\"%s\":", key);
    sv_json_add_num(b, rint(v * 1e6) / 1e6);
}

static void put_segment(sv_buf *b, const sv_spoken_segment *g, bool words)
{
    sv_buf_addc(b, '{');
    put_str(b, "text", g->text);
    put_num(b, "start", g->start);
    put_num(b, "end", g->end);
    put_num(b, "temperature", (double)g->temperature);
    put_num(b, "avg_logprob", (double)g->avg_logprob);
    put_num(b, "compression_ratio", (double)g->compression_ratio);
    put_num(b, "no_speech_prob", (double)g->no_speech_prob);
    sv_buf_addf(b, ",\"seek\":%lld,\"tokens\":[", (long long)g->seek);
    for (int32_t i = 0; i < g->n_tokens; i++)
        sv_buf_addf(b, i ? ",%d" : "%d", g->tokens[i]);
    sv_buf_addc(b, ']');
    for (int32_t i = 0; words && i < g->n_words; i++) {
        sv_buf_adds(b, i ? ",{" : ",\"words\":[{");
        put_str(b, "word", g->words[i].text);
        put_num(b, "start", g->words[i].start);
        put_num(b, "end", g->words[i].end);
        put_num(b, "probability", (double)g->words[i].probability);
        sv_buf_addc(b, '}');
    }
    if (words)
        sv_buf_adds(b, g->n_words ? "]" : ",\"words\":[]");
    sv_buf_addc(b, '}');
}

static void put_transcript(sv_buf *b, const sv_transcript *t, double duration, bool words)
{
    sv_buf_addc(b, '{');
    put_str(b, "language", t->language);
    const char *name = sv_whisper_lang_name(t->language);
    sv_buf_addc(b, ',');
    put_str(b, "language_name", name ? name : t->language);
    put_num(b, "language_probability", (double)t->language_probability);
    put_num(b, "duration", duration);
    put_num(b, "duration_after_vad", t->duration);
    sv_buf_addc(b, ',');
    put_str(b, "text", t->text);
    sv_buf_adds(b, ",\"segments\":[");
    bool first = true;
    for (int32_t i = 0; i < t->n_segments; i++) {
        if (!t->segments[i].text[0]) /* emptied: it said nothing */
            continue;
        if (!first)
            sv_buf_addc(b, ',');
        put_segment(b, &t->segments[i], words);
        first = false;
    }
    sv_buf_adds(b, "]}");
}

/* --- a request ---------------------------------------------------------------------------------------------------- */

static sv_pool *enter(void *arg) { return sv_compute_enter(arg); }
static void leave(void *arg) { sv_compute_leave(arg); }

static sv_rc transcribe(const speech_model *m, sv_media *j, const sv_audio *audio, ask *a, const sv_media_run *run, sv_err *err)
{
    SV_AUTO(stretches_donep) stretches speech = {0};
    SV_AUTO(sv_audio_donep) sv_audio spoken = {0};
    SV_AUTO(sv_transcript_donep) sv_transcript t = {0};
    if (a->vad && (find_speech(m, audio, &speech, run, err) != SV_OK || sv_vad_collect(&spoken, audio, speech.v, speech.n, err) != SV_OK))
        return err->code;
    a->t.enter = enter;
    a->t.leave = leave;
    a->t.arg = run->compute;
    a->t.cancel = run->cancel;
    if (sv_transcribe(&t, m->whisper, m->ws, a->vad ? &spoken : audio, &a->t, err) != SV_OK)
        return err->code;
    if (a->vad)
        restore_times(&t, &speech);
    put_transcript(&j->json, &t, (double)audio->n / SV_AUDIO_RATE, a->t.words);
    j->usage = (sv_usage){.prompt_tokens = t.n_prompt_tokens, .completion_tokens = t.n_tokens};
    return SV_OK;
}

static sv_rc speech_run(void *model, sv_media *j, const sv_media_run *run, sv_err *err)
{
    SV_AUTO(sv_audio_donep) sv_audio audio = {0};
    ask a = {0};
    if (read_options(&a, j->req.options, err) != SV_OK) {
        err->api_code = 5006;
        return err->code;
    }
    const sv_audio_opts o = {.helper = run->audio_helper, .max_seconds = (int32_t)a.max_seconds, .cancel = run->cancel};
    if (sv_audio_read(&audio, j->req.bytes, &o, err) != SV_OK) {
        if (!sv_err_is_ours(err) && (err->code == SV_EFORMAT || err->code == SV_ELIMIT))
            err->api_code = err->code == SV_EFORMAT ? 5006 : 3006;
        return err->code == SV_EFORMAT ? sv_wrap(err, "audio") : err->code;
    }
    free(j->bytes); /* megabytes, and the rest may take minutes */
    j->bytes = NULL;
    j->req.bytes = (sv_str){0};
    if (transcribe(model, j, &audio, &a, run, err) != SV_OK) {
        err->api_code = err->code == SV_EINVAL ? 5006 : err->api_code;
        return err->code;
    }
    return SV_OK;
}

const sv_media_family sv_media_speech = {.is = sv_whisper_is, .open = speech_open, .close = speech_close, .run = speech_run};
