/* Silero VAD: probabilities beside those of its authors' network, stretches, and times that come back */
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
#include "models/vad.h"

static char *shared(const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    char *path = data ? sv_xasprintf("%s/audio/%s", data, name) : NULL;
    if (!path || !sv_file_exists(path)) {
        print_message("skipped: no shared data\n");
        free(path);
        return NULL;
    }
    return path;
}

static void probabilities_are_those_of_the_reference(void **state)
{
    SV_AUTO(sv_vad_freep) sv_vad *v = sv_vad_new();
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    SV_AUTO(sv_freep) char *path = shared("expected-silero_vad.json");
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *golden = NULL;
    sv_err err = {0};
    const char *name;
    json_t *of;
    size_t n_files = 0;
    (void)state;
    sv_buf_init(&text, 0);
    if (!path)
        skip();
    assert_int_equal(sv_file_read(&text, path, &err), SV_OK);
    assert_int_equal(sv_json_parse(&golden, sv_buf_str(&text), &err), SV_OK);
    json_object_foreach(json_object_get(golden, "probabilities"), name, of) {
        const json_t *want = json_object_get(of, "silero_vad_16k.safetensors");
        SV_AUTO(sv_freep) char *wav = shared(name);
        SV_AUTO(sv_buf_donep) sv_buf bytes;
        SV_AUTO(sv_audio_donep) sv_audio a = {0};
        sv_buf_init(&bytes, 0);
        if (!want || !wav || sv_file_read(&bytes, wav, &err) != SV_OK || !sv_wav_is(sv_buf_str(&bytes)))
            continue;
        assert_int_equal(sv_audio_read(&a, sv_buf_str(&bytes), &(sv_audio_opts){0}, &err), SV_OK);
        assert_true(json_array_size(want) <= sv_vad_n_windows(&a));
        for (int32_t block = 1; block <= SV_VAD_BLOCK; block += SV_VAD_BLOCK - 1) { /* one by one, and many at once */
            sv_vad_state s = {0};
            float p[SV_VAD_BLOCK];
            for (size_t at = 0; at < json_array_size(want); at += (size_t)block) {
                int32_t n = json_array_size(want) - at < (size_t)block ? (int32_t)(json_array_size(want) - at) : block;
                sv_vad_run(v, pool, &s, &a, at, n, p);
                for (int32_t i = 0; i < n; i++)
                    if (fabs(json_number_value(json_array_get(want, at + (size_t)i)) - (double)p[i]) > 2e-5) /* they are rounded to 1e-5 */
                        fail_msg("%s, window %zu: %g, wanted %g", name, at + (size_t)i, (double)p[i], json_number_value(json_array_get(want, at + (size_t)i)));
            }
        }
        n_files++;
    }
    assert_true(n_files >= 2);
}

static void silence_is_no_speech(void **state)
{
    SV_AUTO(sv_vad_freep) sv_vad *v = sv_vad_new();
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_audio a = {.pcm = sv_xcalloc(20000, sizeof(int16_t)), .n = 20000};
    sv_vad_state s = {0};
    float p[40];
    (void)state;
    assert_int_equal(sv_vad_n_windows(&a), 40);
    sv_vad_run(v, pool, &s, &a, 0, 40, p);
    for (int i = 0; i < 40; i++)
        assert_true(p[i] < 0.3f);
    sv_audio_done(&a);
}

/* Windows of 32 ms; silence of 320 ms parts stretches, 64 ms are added. */
static void stretches_are_padded_and_short_pauses_bridged(void **state)
{
    float p[100] = {0};
    size_t n;
    (void)state;
    for (int i = 10; i < 20; i++)
        p[i] = 0.9f;
    for (int i = 25; i < 30; i++) /* a pause of 5 */
        p[i] = 0.6f;
    for (int i = 60; i < 100; i++)
        p[i] = i % 3 ? 0.8f : 0.4f; /* between the two thresholds it goes on */
    SV_AUTO(sv_freep) sv_speech *s = sv_vad_stretches(p, 100, 100 * 512 - 7, 320, 64, &n);
    assert_int_equal(n, 2);
    assert_true(s[0].start == 10 * 512 - 1024 && s[0].end == 30 * 512 + 1024);
    assert_true(s[1].start == 61 * 512 - 1024 && s[1].end == 100 * 512 - 7);

    sv_audio a = {.pcm = sv_xcalloc(51200, sizeof(int16_t)), .n = 51200}, out = {0};
    sv_err err = {0};
    for (int i = 0; i < 51200; i++)
        a.pcm[i] = (int16_t)(i / 2);
    assert_int_equal(sv_vad_collect(&out, &a, s, n, &err), SV_OK);
    assert_int_equal(out.n, s[0].end - s[0].start + s[1].end - s[1].start);
    for (size_t i = 0; i < out.n; i += 97) { /* a sample's time in the whole is where it came from */
        double t = (double)i / SV_AUDIO_RATE;
        int64_t at = (int64_t)lrint(sv_vad_original(s, n, t, t) * SV_AUDIO_RATE);
        assert_int_equal(out.pcm[i], a.pcm[at]);
    }
    sv_audio_done(&a);
    sv_audio_done(&out);
    SV_AUTO(sv_freep) sv_speech *none = sv_vad_stretches(p, 5, 2560, 320, 64, &n);
    assert_int_equal(n, 0);
}

static void near_stretches_share_the_pause(void **state)
{
    float p[40] = {0};
    size_t n;
    (void)state;
    p[5] = p[6] = p[20] = 1;
    SV_AUTO(sv_freep) sv_speech *s = sv_vad_stretches(p, 40, 40 * 512, 320, 400, &n);
    assert_int_equal(n, 2);
    assert_true(s[0].start == 0 && s[0].end == s[1].start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_those_of_the_reference),
        cmocka_unit_test(silence_is_no_speech),
        cmocka_unit_test(stretches_are_padded_and_short_pauses_bridged),
        cmocka_unit_test(near_stretches_share_the_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
