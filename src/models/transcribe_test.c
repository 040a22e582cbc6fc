/* Transcripts of random models, checked against openai/whisper and transformers (tests/reference/whisper_tiny.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/json.h"
#include "models/transcribe_impl.h"
#include "models/whisper_impl.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

static json_t *goldens;
static sv_whisper *model;
static sv_whisper_ws *ws;
static sv_pool *pool;

static int set_up(void **state)
{
    sv_buf b;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, REFERENCE "whisper-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&b), &err), SV_OK);
    sv_buf_done(&b);
    if (sv_whisper_open(&model, REFERENCE "whisper/multi", &err) != SV_OK || sv_whisper_ws_new(&ws, model, &err) != SV_OK)
        fail_msg("%s", err.msg);
    pool = sv_pool_new(2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(goldens);
    sv_whisper_ws_free(ws);
    sv_whisper_close(model);
    sv_pool_free(pool);
    return 0;
}

static sv_pool *enter(void *arg)
{
    (void)arg;
    return pool;
}
static void leave(void *arg) { (void)arg; }

static sv_transcribe_opts defaults(void)
{
    sv_transcribe_opts o = sv_transcribe_defaults();
    o.enter = enter;
    o.leave = leave;
    o.words = true;
    return o;
}

static sv_audio sound(int64_t n, int64_t k)
{
    sv_audio a = {.pcm = sv_xcalloc((size_t)n, sizeof *a.pcm), .n = (size_t)n};
    for (int64_t i = 0; i < n; i++)
        a.pcm[i] = (int16_t)(((i * i * (31 + k) + i * 17) % 20001 - 10000) * (i / (700 + 90 * k) % 7) / 7);
    return a;
}

static double num(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static void check_near(int k, const char *what, double want, double have, double within)
{
    if (!(fabs(want - have) <= within))
        fail_msg("case %d, %s: %.9g, wanted %.9g", k, what, have, want);
}

/* Of a window of one column, which says nothing, theirs divides by 0 and comes out a step before its beginning. */
static void check_segment(int k, int32_t i, const json_t *want, const sv_spoken_segment *g, int64_t n_left)
{
    const json_t *tokens = json_object_get(want, "tokens"), *words = json_object_get(want, "words");
    if (json_array_size(tokens) != (size_t)g->n_tokens)
        fail_msg("case %d, segment %d: %d tokens, wanted %zu", k, i, g->n_tokens, json_array_size(tokens));
    for (int32_t t = 0; t < g->n_tokens; t++)
        if (json_integer_value(json_array_get(tokens, (size_t)t)) != g->tokens[t])
            fail_msg("case %d, segment %d: token %d is %d", k, i, t, g->tokens[t]);
    assert_string_equal(json_string_value(json_object_get(want, "text")), g->text);
    assert_int_equal(json_integer_value(json_object_get(want, "seek")), g->seek);
    check_near(k, "start", num(want, "start"), g->start, n_left < 4 ? 0.0201 : 1e-6);
    check_near(k, "end", num(want, "end"), g->end, n_left < 4 ? 0.0201 : 1e-6);
    check_near(k, "avg_logprob", num(want, "avg_logprob"), (double)g->avg_logprob, 1e-4);
    check_near(k, "no_speech_prob", num(want, "no_speech_prob"), (double)g->no_speech_prob, 1e-6);
    check_near(k, "compression_ratio", num(want, "compression_ratio"), (double)g->compression_ratio, 1e-5);
    if (json_array_size(words) != (size_t)g->n_words)
        fail_msg("case %d, segment %d: %d words, wanted %zu", k, i, g->n_words, json_array_size(words));
    for (int32_t w = 0; w < g->n_words; w++) {
        const json_t *one = json_array_get(words, (size_t)w);
        assert_string_equal(json_string_value(json_array_get(one, 0)), g->words[w].text);
        check_near(k, "word's start", json_number_value(json_array_get(one, 1)), g->words[w].start, 1e-6);
        check_near(k, "word's end", json_number_value(json_array_get(one, 2)), g->words[w].end, 1e-6);
        check_near(k, "word's probability", json_number_value(json_array_get(one, 3)), (double)g->words[w].probability, 1e-5);
    }
}

static void set_options(sv_transcribe_opts *o, const json_t *options)
{
    sv_err err = {0};
    sv_str task = {0};
    bool context = true;
    int64_t beam = 0;
    double no_speech = (double)o->no_speech_threshold, silence = NAN;
    assert_int_equal(sv_json_str(options, "language", &o->language, &err), SV_OK);
    assert_int_equal(sv_json_str(options, "initial_prompt", &o->initial_prompt, &err), SV_OK);
    assert_int_equal(sv_json_str(options, "prefix", &o->prefix, &err), SV_OK);
    assert_int_equal(sv_json_str(options, "task", &task, &err), SV_OK);
    assert_int_equal(sv_json_bool(options, "condition_on_previous_text", &context, &err), SV_OK);
    assert_int_equal(sv_json_int(options, "beam_size", 1, 8, &beam, &err), SV_OK);
    assert_int_equal(sv_json_num(options, "no_speech_threshold", 0, 1, &no_speech, &err), SV_OK);
    assert_int_equal(sv_json_num(options, "hallucination_silence_threshold", 0, 9, &silence, &err), SV_OK);
    assert_int_equal(sv_json_bool(options, "word_timestamps", &o->words, &err), SV_OK);
    o->translate = sv_str_is(task, "translate");
    o->no_context = !context;
    o->beam_size = (int32_t)beam;
    o->no_speech_threshold = (float)no_speech;
    o->hallucination_silence_threshold = (float)silence;
}

/* Windows, tokens, times, words, probabilities: all of it. */
static void transcripts_are_those_of_openai_whisper(void **state)
{
    const json_t *c;
    size_t k;
    (void)state;
    json_array_foreach(json_object_get(goldens, "transcripts"), k, c) {
        SV_AUTO(sv_transcript_donep) sv_transcript t = {0};
        SV_AUTO(sv_audio_donep) sv_audio a = sound(json_integer_value(json_object_get(c, "n")), json_integer_value(json_object_get(c, "k")));
        const json_t *segments = json_object_get(c, "segments");
        sv_transcribe_opts o = defaults();
        sv_err err = {0};
        set_options(&o, json_object_get(c, "options"));
        o.n_temperatures = 1;
        if (sv_transcribe(&t, model, ws, &a, &o, &err) != SV_OK)
            fail_msg("case %zu: %s", k, err.msg);
        assert_string_equal(t.language, json_string_value(json_object_get(c, "language")));
        for (int32_t i = 0; i < t.n_segments && i < (int32_t)json_array_size(segments); i++)
            check_segment((int)k, i, json_array_get(segments, (size_t)i), &t.segments[i], sv_mel_n_frames(&a) - t.segments[i].seek);
        if (t.n_segments != (int32_t)json_array_size(segments))
            fail_msg("case %zu: %d segments, wanted %zu", k, t.n_segments, json_array_size(segments));
        assert_string_equal(t.text, json_string_value(json_object_get(c, "text")));
    }
}

static void one_window_is_that_of_transformers(void **state)
{
    const sv_whisper_info *info = sv_whisper_get_info(model);
    SV_AUTO(sv_freep) float *x = sv_xcalloc((size_t)info->n_audio_ctx * 2 * (size_t)info->n_mels, sizeof *x);
    const json_t *c;
    size_t k;
    (void)state;
    for (int32_t i = 0; i < 2 * info->n_audio_ctx; i++)
        for (int32_t m = 0; m < info->n_mels; m++)
            x[i * info->n_mels + m] = (float)((m * 37 + i * 11 + m * i % 13) % 41 - 20) / 20;
    sv_whisper_encode_begin(model, ws, pool, x);
    for (int32_t i = 0; i < info->n_audio_layer; i++)
        sv_whisper_encode_layer(model, ws, pool, i);
    sv_whisper_encode_end(model, ws, pool);
    json_array_foreach(json_object_get(goldens, "generated"), k, c) {
        SV_AUTO(sv_freep) float *memory = sv_xcalloc((size_t)info->n_vocab * (SV_WHISPER_SEQS + 2), sizeof *memory);
        sv_transcribe_opts o = defaults();
        const json_t *tokens = json_object_get(c, "tokens");
        trs_decoded d = {0};
        trs_ids none = {0};
        sv_err err = {0};
        o.n_temperatures = 1;
        o.translate = strcmp(sv_json_cstr(c, "task"), "translate") == 0;
        trs s = {.m = model, .ws = ws, .o = &o, .info = info, .t = sv_whisper_get_tokens(model), .lang = sv_whisper_find_lang(model, sv_str_of(sv_json_cstr(c, "language"))),
                 .first = memory, .at_sot = memory + info->n_vocab, .logits = memory + 2 * info->n_vocab};
        assert_int_equal(trs_decode(&s, &d, &none, &none, &err), SV_OK);
        size_t n = json_array_size(tokens);
        if (n > 0 && json_integer_value(json_array_get(tokens, n - 1)) == s.t->eot)
            n--;
        assert_int_equal(d.tokens.n, n);
        for (size_t i = 0; i < n; i++)
            if (json_integer_value(json_array_get(tokens, i)) != d.tokens.v[i])
                fail_msg("case %zu: token %zu is %d", k, i, d.tokens.v[i]);
        free(d.tokens.v);
    }
}

static sv_rc run(sv_transcript *t, int64_t n, const sv_transcribe_opts *o, sv_err *err)
{
    SV_AUTO(sv_audio_donep) sv_audio a = sound(n, 3);
    return sv_transcribe(t, model, ws, &a, o, err);
}

/* A random model is improbable throughout: every window is tried at every temperature. */
static void improbable_text_is_tried_again_at_higher_temperatures(void **state)
{
    SV_AUTO(sv_transcript_donep) sv_transcript a = {0};
    SV_AUTO(sv_transcript_donep) sv_transcript b = {0};
    SV_AUTO(sv_transcript_donep) sv_transcript c = {0};
    sv_transcribe_opts o = defaults();
    sv_err err = {0};
    (void)state;
    o.language = SV_STR("en");
    o.log_prob_threshold = -0.01f;
    assert_int_equal(run(&a, 100000, &o, &err), SV_OK);
    assert_int_equal(run(&b, 100000, &o, &err), SV_OK);
    o.seed = 1;
    assert_int_equal(run(&c, 100000, &o, &err), SV_OK);
    assert_true(a.n_segments > 0 && fabsf(a.segments[0].temperature - 1) < 1e-6f);
    assert_string_equal(a.text, b.text); /* the same sound, the same text */
    assert_string_not_equal(a.text, c.text);
    o.log_prob_threshold = NAN;
    o.compression_ratio_threshold = NAN;
    SV_AUTO(sv_transcript_donep) sv_transcript d = {0};
    assert_int_equal(run(&d, 100000, &o, &err), SV_OK);
    assert_true(d.segments[0].temperature == 0);
}

static void silence_above_the_threshold_is_skipped(void **state)
{
    SV_AUTO(sv_transcript_donep) sv_transcript t = {0};
    sv_transcribe_opts o = defaults();
    sv_err err = {0};
    (void)state;
    o.no_speech_threshold = 0;
    o.log_prob_threshold = 0; /* never high enough */
    assert_int_equal(run(&t, 100000, &o, &err), SV_OK);
    assert_int_equal(t.n_segments, 0);
    assert_string_equal(t.text, "");
    assert_true(t.duration == 6.25 && t.language_probability > 0 && t.language_probability < 1);
}

static void what_cannot_be_done_is_refused(void **state)
{
    sv_transcript t = {0};
    sv_transcribe_opts o = defaults();
    _Atomic bool cancel = true;
    sv_err err = {0};
    (void)state;
    o.language = SV_STR("fr");
    assert_int_equal(run(&t, 3000, &o, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "'fr' is none of the model's 4 languages"));
    o.language = SV_STR("en");
    o.cancel = &cancel;
    assert_int_equal(run(&t, 30000, &o, &err), SV_ECANCELED);
    assert_null(t.segments);
}

static void no_sound_is_no_text(void **state)
{
    SV_AUTO(sv_transcript_donep) sv_transcript t = {0};
    sv_transcribe_opts o = defaults();
    sv_err err = {0};
    (void)state;
    assert_int_equal(run(&t, 0, &o, &err), SV_OK);
    assert_true(t.n_segments == 0 && t.duration == 0);
    assert_string_equal(t.text, "");
    assert_string_equal(t.language, "en");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_window_is_that_of_transformers),
        cmocka_unit_test(transcripts_are_those_of_openai_whisper),
        cmocka_unit_test(improbable_text_is_tried_again_at_higher_temperatures),
        cmocka_unit_test(silence_above_the_threshold_is_skipped),
        cmocka_unit_test(what_cannot_be_done_is_refused),
        cmocka_unit_test(no_sound_is_no_text),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
