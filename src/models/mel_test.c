/* The log-mel spectrogram, against openai/whisper on a recording, transformers on a made one (tests/reference/mel.py), and a plain DFT */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/mel.h"

static bool shared(sv_buf *b, const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/audio/%s", data ? data : "", name);
    sv_err err = {0};
    sv_buf_init(b, 0);
    if (!data || !sv_file_exists(path)) {
        print_message("skipped: no shared data\n");
        return false;
    }
    assert_int_equal(sv_file_read(b, path, &err), SV_OK);
    return true;
}

static void a_recording_is_heard_as_by_whisper(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf wav;
    SV_AUTO(sv_buf_donep) sv_buf npy;
    SV_AUTO(sv_mel_freep) sv_mel *m = sv_mel_new(80, NULL);
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    sv_audio a = {0};
    sv_err err = {0};
    (void)state;
    if (!shared(&wav, "jfk.wav") || !shared(&npy, "expected-logmel80-jfk.npy"))
        skip();
    assert_int_equal(sv_audio_read(&a, sv_buf_str(&wav), &(sv_audio_opts){0}, &err), SV_OK);
    int32_t n = (int32_t)sv_mel_n_frames(&a);
    assert_int_equal(n, 1100);
    const size_t n_cols = 1102; /* it has two frames behind the sound */
    const char *values = npy.p + npy.n - n_cols * 80 * 4; /* [80][n_cols] float32 behind the header */
    SV_AUTO(sv_freep) float *v = sv_xcalloc((size_t)n * 80, sizeof *v);
    sv_mel_frames(m, pool, &a, sv_mel_peak(m, pool, &a), 0, n, v);
    double worst = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < 80; k++) {
            float want;
            memcpy(&want, values + ((size_t)k * n_cols + (size_t)i) * 4, 4);
            worst = fmax(worst, fabs((double)(want - v[i * 80 + k])));
        }
    if (!(worst < 5e-5)) /* torch transforms in float32 */
        fail_msg("off by %g", worst);
    sv_audio_done(&a);
}

static void synthetic(sv_audio *a, int64_t n)
{
    *a = (sv_audio){.pcm = sv_xcalloc((size_t)n, sizeof *a->pcm), .n = (size_t)n};
    for (int64_t i = 0; i < n; i++)
        a->pcm[i] = (int16_t)(((i * i * 31 + i * 17) % 20001 - 10000) * (i / 400 % 5 + 1) / 5);
}

static void both_sizes_are_those_of_transformers(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *golden = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_audio a;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&text, 0);
    assert_int_equal(sv_file_read(&text, SV_SOURCE_ROOT "/tests/reference/mel.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&golden, sv_buf_str(&text), &err), SV_OK);
    synthetic(&a, json_integer_value(json_object_get(golden, "n")));
    const json_t *frames = json_object_get(golden, "frames");
    for (int32_t n_mels = 80; n_mels <= 128; n_mels += 48) {
        SV_AUTO(sv_mel_freep) sv_mel *m = sv_mel_new(n_mels, NULL);
        const json_t *all = json_object_get(golden, n_mels == 80 ? "80" : "128");
        float peak = sv_mel_peak(m, pool, &a), v[128];
        for (size_t i = 0; i < json_array_size(frames); i++) {
            sv_mel_frames(m, pool, &a, peak, json_integer_value(json_array_get(frames, i)), 1, v);
            for (int32_t k = 0; k < n_mels; k++) {
                double want = json_number_value(json_array_get(json_array_get(all, i), (size_t)k));
                if (fabs(want - (double)v[k]) > 5e-5) /* they transform in float32 */
                    fail_msg("%d mels, frame %zu, %d: %g, wanted %g", n_mels, i, k, (double)v[k], want);
            }
        }
    }
    sv_audio_done(&a);
}

/* By the definition: window, DFT, power, filters. */
static void one_frame_is_its_definition(void **state)
{
    SV_AUTO(sv_mel_freep) sv_mel *m = sv_mel_new(80, NULL);
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_audio a;
    float v[80];
    double power[SV_MEL_BINS];
    (void)state;
    synthetic(&a, 16000);
    sv_mel_frames(m, pool, &a, 100, 99, 2, (float[160]){0}); /* the edge of the sound: nothing is read behind it */
    sv_mel_frames(m, pool, &a, -2, 37, 1, v);
    for (int k = 0; k < SV_MEL_BINS; k++) {
        double re = 0, im = 0;
        for (int i = 0; i < 400; i++) {
            double s = a.pcm[37 * 160 - 200 + i] / 32768.0 * (0.5 - 0.5 * cos(2 * M_PI * i / 400));
            re += s * cos(2 * M_PI * k * i / 400);
            im -= s * sin(2 * M_PI * k * i / 400);
        }
        power[k] = re * re + im * im;
    }
    for (int i = 0; i < 80; i++) {
        double sum = 0;
        for (int k = 0; k < SV_MEL_BINS; k++)
            sum += power[k] * (double)sv_mel_filters(m)[i * SV_MEL_BINS + k];
        assert_true(fabs((log10(fmax(sum, 1e-10)) + 4) / 4 - (double)v[i]) < 1e-6);
    }
    sv_audio_done(&a);
}

static void silence_and_nothing_have_frames_too(void **state)
{
    SV_AUTO(sv_mel_freep) sv_mel *m = sv_mel_new(80, NULL);
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_audio none = {0}, quiet = {.pcm = sv_xcalloc(1600, 2), .n = 1600};
    float v[20 * 80];
    (void)state;
    assert_true(sv_mel_peak(m, pool, &none) == -10 && sv_mel_peak(m, pool, &quiet) == -10);
    sv_mel_frames(m, pool, &quiet, -10, 0, 20, v);
    for (int i = 0; i < 20 * 80; i++) /* -10 of the clamp; behind the end 0 */
        assert_true(v[i] == (i < 10 * 80 ? -1.5f : 0));
    sv_audio_done(&quiet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recording_is_heard_as_by_whisper),
        cmocka_unit_test(both_sizes_are_those_of_transformers),
        cmocka_unit_test(one_frame_is_its_definition),
        cmocka_unit_test(silence_and_nothing_have_frames_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
