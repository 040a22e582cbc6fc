/* WAV, rates, and what the child makes of everything else */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "models/audio.h"

static const sv_audio_opts opts = {.helper = SV_AUDIO_HELPER};

/* --- files made here ---------------------------------------------------------------------------------------------- */

static void put32(sv_buf *b, uint32_t v) { sv_buf_add(b, &v, 4); }
static void put16(sv_buf *b, uint16_t v) { sv_buf_add(b, &v, 2); }

typedef struct shape { uint16_t tag, n_channels, n_bits; uint32_t rate; bool extensible; } shape;

static void wav_head(sv_buf *b, shape s, uint32_t data_bytes)
{
    static const uint8_t tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    uint16_t align = (uint16_t)(s.n_channels * s.n_bits / 8);
    sv_buf_init(b, 0);
    sv_buf_adds(b, "RIFF");
    put32(b, 36 + data_bytes);
    sv_buf_adds(b, "WAVELIST");
    put32(b, 3); /* an odd chunk to step over */
    sv_buf_add(b, "abc", 4);
    sv_buf_adds(b, "fmt ");
    put32(b, s.extensible ? 40 : 16);
    put16(b, s.extensible ? 0xfffe : s.tag);
    put16(b, s.n_channels);
    put32(b, s.rate);
    put32(b, s.rate * align);
    put16(b, align);
    put16(b, s.n_bits);
    if (s.extensible) {
        put16(b, 22);
        put16(b, s.n_bits);
        put32(b, 0);
        put16(b, s.tag);
        sv_buf_add(b, tail, sizeof tail);
    }
    sv_buf_adds(b, "data");
    put32(b, data_bytes);
}

static void put_sample(sv_buf *b, shape s, double v)
{
    float f = (float)v;
    int64_t whole = (int64_t)rint(v * 2147483647);
    if (s.tag == 3 && s.n_bits == 64)
        sv_buf_add(b, &v, 8);
    else if (s.tag == 3)
        sv_buf_add(b, &f, 4);
    else if (s.n_bits == 8)
        sv_buf_addc(b, (char)(whole / (1 << 24) + 128));
    else
        sv_buf_add(b, (const char *)&whole + 4 - s.n_bits / 8, s.n_bits / 8);
}

static void sine(sv_buf *b, shape s, double hertz, double seconds)
{
    size_t n = (size_t)(seconds * s.rate);
    wav_head(b, s, (uint32_t)(n * s.n_channels * s.n_bits / 8));
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < s.n_channels; c++) /* the mean of the channels is the sine */
            put_sample(b, s, 0.5 * sin(2 * M_PI * hertz * (double)i / s.rate) + (c == 0 && s.n_channels == 2 ? 0.25 : 0) - (c == 1 ? 0.25 : 0));
}

static sv_audio read_ok(sv_str bytes)
{
    sv_audio a = {0};
    sv_err err = {0};
    if (sv_audio_read(&a, bytes, &opts, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return a;
}

static void refused(sv_str bytes, const sv_audio_opts *o, sv_rc rc, const char *words)
{
    sv_audio a = {0};
    sv_err err = {0};
    assert_int_equal(sv_audio_read(&a, bytes, o, &err), rc);
    if (!strstr(err.msg, words))
        fail_msg("'%s' does not say '%s'", err.msg, words);
    assert_null(a.pcm);
}

/* Of the middle, where no edge is: amplitude of the best sine of that frequency, and the largest difference from it. */
static void fit(const sv_audio *a, double hertz, double *amplitude, double *off)
{
    size_t from = a->n / 4, to = 3 * a->n / 4;
    double ss = 0, cc = 0, worst = 0;
    for (size_t i = from; i < to; i++) {
        ss += a->pcm[i] / 32768.0 * sin(2 * M_PI * hertz * (double)i / SV_AUDIO_RATE);
        cc += a->pcm[i] / 32768.0 * cos(2 * M_PI * hertz * (double)i / SV_AUDIO_RATE);
    }
    ss = 2 * ss / (double)(to - from);
    cc = 2 * cc / (double)(to - from);
    for (size_t i = from; i < to; i++) {
        double w = 2 * M_PI * hertz * (double)i / SV_AUDIO_RATE;
        worst = fmax(worst, fabs(a->pcm[i] / 32768.0 - ss * sin(w) - cc * cos(w)));
    }
    *amplitude = ss; /* the sine's own phase: no delay */
    *off = worst;
}

static void every_kind_of_wav_is_the_same_sound(void **state)
{
    static const shape shapes[] = {{1, 1, 8, 16000, false}, {1, 1, 16, 16000, false}, {1, 2, 16, 16000, true}, {1, 1, 24, 16000, true}, {1, 2, 24, 16000, false},
                                   {1, 1, 32, 16000, false}, {3, 1, 32, 16000, false}, {3, 2, 32, 16000, true}, {3, 1, 64, 16000, false}};
    (void)state;
    for (size_t k = 0; k < SV_LEN(shapes); k++) {
        sv_buf b;
        double amplitude, off;
        sine(&b, shapes[k], 440, 1);
        sv_audio a = read_ok(sv_buf_str(&b));
        assert_int_equal(a.n, 16000);
        fit(&a, 440, &amplitude, &off);
        double step = shapes[k].n_bits == 8 ? 1.0 / 128 : 1.0 / 16384;
        if (fabs(amplitude - 0.5) > step || off > 1.5 * step)
            fail_msg("kind %zu: amplitude %g, off by %g", k, amplitude, off);
        sv_audio_done(&a);
        sv_buf_done(&b);
    }
}

static void other_rates_keep_pitch_time_and_loudness(void **state)
{
    static const uint32_t rates[] = {8000, 11025, 22050, 24000, 44100, 48000, 96000, 192000, 44056, 12345};
    (void)state;
    for (size_t k = 0; k < SV_LEN(rates); k++)
        for (int j = 0; j < 2; j++) {
            sv_buf b;
            double low = fmin(rates[k], 16000) / 2, hertz = j ? 0.86 * low : 440, amplitude, off;
            sine(&b, (shape){3, 1, 32, rates[k], false}, hertz, 2);
            sv_audio a = read_ok(sv_buf_str(&b));
            assert_int_equal(a.n, 32000);
            fit(&a, hertz, &amplitude, &off);
            if (fabs(amplitude - 0.5) > 5e-4 || off > 5e-4)
                fail_msg("%u a second, %g Hz: amplitude %g, off by %g", rates[k], hertz, amplitude, off);
            sv_audio_done(&a);
            sv_buf_done(&b);
        }
}

static void what_a_lower_rate_cannot_hold_is_gone(void **state)
{
    static const uint32_t rates[] = {22050, 44100, 48000, 192000};
    (void)state;
    for (size_t k = 0; k < SV_LEN(rates); k++) {
        sv_buf b;
        sine(&b, (shape){3, 1, 32, rates[k], false}, 8300, 1);
        sv_audio a = read_ok(sv_buf_str(&b));
        for (size_t i = a.n / 4; i < 3 * a.n / 4; i++)
            assert_in_range(a.pcm[i] + 2, 0, 4); /* 0.5 of 32768, 80 dB down */
        sv_audio_done(&a);
        sv_buf_done(&b);
    }
}

static void blocks_do_not_change_the_result(void **state)
{
    float x[5000];
    sv_err err = {0};
    (void)state;
    for (size_t i = 0; i < SV_LEN(x); i++)
        x[i] = (float)((double)((i * 7919) % 1000) / 1000 - 0.5);
    sv_audio whole = {0}, parts = {0};
    for (int k = 0; k < 2; k++) {
        SV_AUTO(sv_resampler_freep) sv_resampler *r = NULL;
        sv_audio *out = k ? &parts : &whole;
        assert_int_equal(sv_resampler_new(&r, 44100, &err), SV_OK);
        for (size_t at = 0, n; at < SV_LEN(x); at += n) {
            n = k ? 1 + at % 97 : SV_LEN(x);
            n = n < SV_LEN(x) - at ? n : SV_LEN(x) - at;
            assert_int_equal(sv_resampler_push(r, x + at, n, out, 1 << 20, &err), SV_OK);
        }
        assert_int_equal(sv_resampler_push(r, NULL, 0, out, 1 << 20, &err), SV_OK);
    }
    assert_int_equal(whole.n, (5000 * 160 + 440) / 441);
    assert_int_equal(whole.n, parts.n);
    assert_memory_equal(whole.pcm, parts.pcm, whole.n * sizeof *whole.pcm);
    sv_audio_done(&whole);
    sv_audio_done(&parts);
}

static void headers_that_lie_are_refused(void **state)
{
    sv_buf b;
    (void)state;
    sine(&b, (shape){1, 1, 16, 16000, false}, 440, 0.1);
    sv_str all = sv_buf_str(&b);
    refused((sv_str){all.p, all.n - 100}, &opts, SV_EFORMAT, "3200 bytes of sound, and 3100 are there");
    refused((sv_str){all.p, 50}, &opts, SV_EFORMAT, "no data chunk");
    refused((sv_str){all.p, 40}, &opts, SV_EFORMAT, "chunk of 16 bytes");
    refused((sv_str){0}, &opts, SV_EFORMAT, "empty");
    b.p[34] = 0; /* channels */
    refused(sv_buf_str(&b), &opts, SV_EFORMAT, "0 channels");
    b.p[34] = 3;
    refused(sv_buf_str(&b), &opts, SV_EFORMAT, "frames of 2 bytes");
    b.p[34] = 1;
    b.p[46] = 12; /* bits */
    refused(sv_buf_str(&b), &opts, SV_EFORMAT, "12 bits");
    b.p[46] = 16;
    memset(b.p + 36, 0, 4); /* rate */
    refused(sv_buf_str(&b), &opts, SV_EFORMAT, "0 samples a second");
    sv_buf_done(&b);
}

static void a_streamed_wav_is_as_long_as_what_came(void **state)
{
    sv_buf b;
    (void)state;
    sine(&b, (shape){1, 1, 16, 16000, false}, 440, 0.1);
    memset(b.p + b.n - 3200 - 4, 0xff, 4);
    sv_audio a = read_ok(sv_buf_str(&b));
    assert_int_equal(a.n, 1600);
    sv_audio_done(&a);
    sv_buf_done(&b);
}

static void samples_that_are_no_numbers_are_refused(void **state)
{
    sv_buf b;
    float nan = NAN, huge = 3e38f;
    (void)state;
    sine(&b, (shape){3, 1, 32, 16000, false}, 440, 0.1);
    memcpy(b.p + b.n - 400, &huge, 4);
    sv_audio a = read_ok(sv_buf_str(&b));
    assert_int_equal(a.pcm[1500], 32767);
    sv_audio_done(&a);
    memcpy(b.p + b.n - 400, &nan, 4);
    refused(sv_buf_str(&b), &opts, SV_EFORMAT, "sample 1500 is not a number");
    sv_buf_done(&b);
}

static void sound_of_ten_hours_is_refused_before_it_is_read(void **state)
{
    sv_buf b;
    (void)state;
    sine(&b, (shape){1, 1, 8, 1000, false}, 440, 36000);
    refused(sv_buf_str(&b), &opts, SV_ELIMIT, "36000 seconds, and 7200 are the most");
    refused(sv_buf_str(&b), &(sv_audio_opts){.max_seconds = 40, .helper = SV_AUDIO_HELPER}, SV_ELIMIT, "40 are the most");
    sv_buf_done(&b);
}

static void a_canceled_read_ends(void **state)
{
    _Atomic bool cancel = true;
    sv_buf b;
    (void)state;
    sine(&b, (shape){1, 1, 16, 16000, false}, 440, 1);
    refused(sv_buf_str(&b), &(sv_audio_opts){.cancel = &cancel}, SV_ECANCELED, "canceled");
    sv_buf_done(&b);
}

/* --- the child ---------------------------------------------------------------------------------------------------- */

static void rubbish_is_refused_with_a_sentence(void **state)
{
    char rubbish[4096];
    (void)state;
    for (size_t i = 0; i < sizeof rubbish; i++)
        rubbish[i] = (char)(i * 2654435761u >> 13);
    refused((sv_str){rubbish, sizeof rubbish}, &opts, SV_EFORMAT, "no known form");
    refused(SV_STR("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1/x.ts\n"), &opts, SV_EFORMAT, "no known form");
    refused(SV_STR("ffconcat version 1.0\nfile '/etc/passwd'\n"), &opts, SV_EFORMAT, "no known form");
    refused((sv_str){rubbish, sizeof rubbish}, &(sv_audio_opts){0}, SV_EFORMAT, "nothing else is read");
    refused((sv_str){rubbish, sizeof rubbish}, &(sv_audio_opts){.helper = "/nowhere/helper"}, SV_ENOENT, "/nowhere/helper");
}

static void script(char path[64], const char *text)
{
    sv_err err = {0};
    snprintf(path, 64, "/tmp/audio-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0 && fchmod(fd, 0700) == 0);
    assert_int_equal(sv_write_all(fd, text, strlen(text), &err), SV_OK);
    close(fd);
}

/* Whatever happens to the decoder, the caller gets a sentence. */
static void a_decoder_that_fails_is_a_refusal(void **state)
{
    static const struct { const char *script; sv_rc rc; const char *words; } all[] = {
        {"#!/bin/sh\nkill -SEGV $$\n", SV_EFORMAT, "ended with signal 11"},
        {"#!/bin/sh\nexit 7\n", SV_EFORMAT, "ended with status 7"},
        {"#!/bin/sh\necho no cage >&2\nexit 2\n", SV_EIO, "no cage"},
        {"#!/bin/sh\nexec sleep 60\n", SV_ETIMEDOUT, "longer to decode than it may"},
        {"#!/bin/sh\nprintf '\\200\\076\\0\\0'\nexec cat /dev/zero\n", SV_ELIMIT, "longer than 3 seconds"}, /* endless samples of 16 kHz */
        {"#!/bin/sh\nprintf '\\1\\0\\0\\0aaaa'\nsleep 60\n", SV_EFORMAT, "1 samples a second"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(all); i++) {
        char path[64];
        script(path, all[i].script);
        refused(SV_STR("not a sound"), &(sv_audio_opts){.helper = path, .timeout_ms = i == 3 ? 200 : 30000, .max_seconds = 3}, all[i].rc, all[i].words);
        unlink(path);
    }
}

static char *shared(const char *name)
{
    const char *data = getenv("SV_SHARED_DATA");
    char *path = data ? sv_xasprintf("%s/audio/%s", data, name) : NULL;
    if (path && !sv_file_exists(path)) {
        free(path);
        path = NULL;
    }
    if (!path)
        print_message("skipped: no shared data\n");
    return path;
}

static bool load(sv_buf *b, const char *name)
{
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = shared(name);
    sv_buf_init(b, 0);
    if (path)
        assert_int_equal(sv_file_read(b, path, &err), SV_OK);
    return path != NULL;
}

/* The signal's power over that of the difference, where b is shifted by `shift` samples. */
static double snr_db(const int16_t *a, size_t n_a, const int16_t *b, size_t n_b, int shift)
{
    double signal = 0, noise = 0;
    for (size_t i = 4000; i + 4000 < n_a && i + 4000 + (size_t)abs(shift) < n_b; i++) {
        double x = a[i], d = x - b[(int64_t)i + shift];
        signal += x * x;
        noise += d * d;
    }
    return 10 * log10(signal / (noise + 1e-9));
}

static void a_wav_is_what_another_decoder_makes_of_it(void **state)
{
    sv_buf wav, npy;
    (void)state;
    if (!load(&wav, "1272-141231-0002.wav"))
        skip();
    assert_true(load(&npy, "1272-141231-0002.npy"));
    sv_audio a = read_ok(sv_buf_str(&wav));
    assert_int_equal(npy.n - 128, a.n * sizeof(float));
    for (size_t i = 0; i < a.n; i++) {
        float x;
        memcpy(&x, npy.p + 128 + 4 * i, 4);
        assert_int_equal(a.pcm[i], (int)rintf(x * 32768));
    }
    sv_audio_done(&a);
    sv_buf_done(&wav);
    sv_buf_done(&npy);
}

/* Each beside the same sound as WAV (other people's conversions: dithered, resampled, compressed), and how near it must be. */
static void flac_and_mp3_are_the_same_sound(void **state)
{
    static const struct { const char *name, *wav; double min_db; } files[] = {
        {"1272-141231-0002.flac", "1272-141231-0002.wav", 50}, {"1272-141231-0002.mp3", "1272-141231-0002.wav", 15}, {"jfk.flac", "jfk.wav", 20},
        {"jfk.mp3", "jfk.wav", 15}};
    (void)state;
    for (size_t k = 0; k < SV_LEN(files); k++) {
        sv_buf b, w;
        if (!load(&b, files[k].name))
            skip();
        assert_true(load(&w, files[k].wav));
        sv_audio a = read_ok(sv_buf_str(&b)), wav = read_ok(sv_buf_str(&w));
        double best = -100;
        for (int shift = 0; shift <= 1600 && best < files[k].min_db; shift++) { /* coders delay */
            best = fmax(best, snr_db(wav.pcm, wav.n, a.pcm, a.n, shift));
            best = fmax(best, snr_db(wav.pcm, wav.n, a.pcm, a.n, -shift));
        }
        if (best < files[k].min_db)
            fail_msg("%s: %g dB", files[k].name, best);
        sv_audio_done(&a);
        sv_audio_done(&wav);
        sv_buf_done(&w);
        sv_buf_done(&b);
    }
}

/* Lengths as ffprobe says them; parts of files give what is there, or a sentence. */
static void opus_and_m4a_are_read_and_their_parts_too(void **state)
{
    static const struct { const char *name; double seconds; } files[] = {{"vad/test.opus", 8.07}, {"vad/test.mp3", 2.53}, {"test.m4a", 6.44}};
    (void)state;
    for (size_t k = 0; k < SV_LEN(files); k++) {
        sv_buf b;
        if (!load(&b, files[k].name))
            skip();
        sv_audio a = read_ok(sv_buf_str(&b));
        double loud = 0;
        for (size_t i = 0; i < a.n; i++)
            loud += (double)a.pcm[i] * a.pcm[i] / (double)a.n;
        if (fabs((double)a.n / SV_AUDIO_RATE - files[k].seconds) > 0.03 || sqrt(loud) < 100)
            fail_msg("%s: %zu samples, loudness %g", files[k].name, a.n, sqrt(loud));
        for (size_t cut = 1; cut < 4; cut++) {
            sv_audio part = {0};
            sv_err err = {0};
            if (sv_audio_read(&part, (sv_str){b.p, b.n * cut / 4}, &opts, &err) == SV_OK)
                assert_true(part.n <= a.n);
            else
                assert_true(err.code == SV_EFORMAT && err.msg[0]);
            sv_audio_done(&part);
        }
        refused(sv_buf_str(&b), &(sv_audio_opts){.helper = SV_AUDIO_HELPER, .max_seconds = 1}, SV_ELIMIT, "longer than 1 seconds");
        sv_audio_done(&a);
        sv_buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_wav_is_the_same_sound),
        cmocka_unit_test(other_rates_keep_pitch_time_and_loudness),
        cmocka_unit_test(what_a_lower_rate_cannot_hold_is_gone),
        cmocka_unit_test(blocks_do_not_change_the_result),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(a_streamed_wav_is_as_long_as_what_came),
        cmocka_unit_test(samples_that_are_no_numbers_are_refused),
        cmocka_unit_test(sound_of_ten_hours_is_refused_before_it_is_read),
        cmocka_unit_test(a_canceled_read_ends),
        cmocka_unit_test(rubbish_is_refused_with_a_sentence),
        cmocka_unit_test(a_decoder_that_fails_is_a_refusal),
        cmocka_unit_test(a_wav_is_what_another_decoder_makes_of_it),
        cmocka_unit_test(flac_and_mp3_are_the_same_sound),
        cmocka_unit_test(opus_and_m4a_are_read_and_their_parts_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
