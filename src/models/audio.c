/* audio.c - WAV files, other rates, 16 bits
 *
 * WAV is read without a library because it is what programs send to speech models most, and costs no child process so. The format is a list of
 * chunks, each an id of four letters and a size (IBM and Microsoft, Multimedia Programming Interface 1.0, 1991; WAVE_FORMAT_EXTENSIBLE, 2001); of
 * "fmt " and "data" we want the first, all others are stepped over. Sizes lie: writers that stream put 0 or all ones.
 *
 * Samples are kept in 16 bits. Whisper was trained on what ffmpeg makes of recordings in 16 bits, so nothing is lost that a model has heard, and an
 * hour takes 115 MB and not twice as much.
 *
 * The resampler is the textbook's: a windowed sinc, tabulated for each of the phases that the two rates have between them (of 44100 and 16000: 160).
 * Output i stands at input position i * rate / 16000, counted in whole numbers, so that an hour drifts by nothing. */
#include "models/audio.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 8192, ZERO_CROSSINGS = 48, MAX_SECONDS = 7200 };

void sv_audio_done(sv_audio *a)
{
    free(a->pcm);
    *a = (sv_audio){0};
}

/* --- WAV ---------------------------------------------------------------------------------------------------------- */

static uint32_t u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

bool sv_wav_is(sv_str b)
{
    return b.n >= 12 && memcmp(b.p, "RIFF", 4) == 0 && memcmp(b.p + 8, "WAVE", 4) == 0;
}

static sv_rc parse_format(sv_wav *w, const uint8_t *p, size_t n, sv_err *err)
{
    static const uint8_t guid_tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    if (n < 16)
        return sv_fail(err, SV_EFORMAT, "WAV: its format chunk has %zu bytes, at least 16 are needed", n);
    uint32_t tag = u16(p), rate = u32(p + 4), align = u16(p + 12);
    w->n_channels = (int32_t)u16(p + 2);
    w->n_bits = (int32_t)u16(p + 14);
    if (tag == 0xfffe) {
        if (n < 40)
            return sv_fail(err, SV_EFORMAT, "WAV: an extensible format chunk of %zu bytes, at least 40 are needed", n);
        tag = memcmp(p + 26, guid_tail, sizeof guid_tail) == 0 ? u16(p + 24) : 0xffff;
    }
    w->kind = tag == 1 ? SV_WAV_PCM : tag == 3 ? SV_WAV_FLOAT : SV_WAV_OTHER;
    if (w->n_channels < 1 || w->n_channels > SV_AUDIO_MAX_CHANNELS)
        return sv_fail(err, SV_EFORMAT, "WAV: %d channels, from 1 to %d are read", w->n_channels, SV_AUDIO_MAX_CHANNELS);
    if (rate < SV_AUDIO_MIN_RATE || rate > SV_AUDIO_MAX_RATE)
        return sv_fail(err, SV_EFORMAT, "WAV: %u samples a second, from %d to %d are read", rate, SV_AUDIO_MIN_RATE, SV_AUDIO_MAX_RATE);
    w->rate = (int32_t)rate;
    if (w->kind == SV_WAV_OTHER)
        return SV_OK;
    bool known = w->kind == SV_WAV_PCM ? w->n_bits == 8 || w->n_bits == 16 || w->n_bits == 24 || w->n_bits == 32 : w->n_bits == 32 || w->n_bits == 64;
    if (!known)
        return sv_fail(err, SV_EFORMAT, "WAV: %s samples of %d bits are not read", w->kind == SV_WAV_PCM ? "whole" : "float", w->n_bits);
    if (align != (uint32_t)(w->n_channels * w->n_bits / 8))
        return sv_fail(err, SV_EFORMAT, "WAV: %d channels of %d bits, but frames of %u bytes", w->n_channels, w->n_bits, align);
    return SV_OK;
}

sv_rc sv_wav_parse(sv_wav *out, sv_str bytes, sv_err *err)
{
    const uint8_t *p = (const uint8_t *)bytes.p;
    sv_wav w = {0};
    if (!sv_wav_is(bytes))
        return sv_fail(err, SV_EFORMAT, "not a WAV file");
    for (size_t at = 12; bytes.n - at >= 8;) {
        const uint8_t *body = p + at + 8;
        size_t size = u32(p + at + 4), left = bytes.n - at - 8;
        if (memcmp(p + at, "data", 4) == 0) {
            if (!w.rate)
                return sv_fail(err, SV_EFORMAT, "WAV: no format chunk before the data");
            bool streamed = size == 0 || size >= 0x7fffffff;
            if (size > left && !streamed)
                return sv_fail(err, SV_EFORMAT, "WAV: its header says %zu bytes of sound, and %zu are there", size, left);
            w.data = body;
            w.n_frames = w.kind == SV_WAV_OTHER ? 0 : (streamed ? left : size) / (size_t)(w.n_channels * w.n_bits / 8);
            *out = w;
            return SV_OK;
        }
        if (size > left)
            return sv_fail(err, SV_EFORMAT, "WAV: a chunk of %zu bytes at byte %zu, and %zu are there", size, at, left);
        if (memcmp(p + at, "fmt ", 4) == 0 && !w.rate && parse_format(&w, body, size, err) != SV_OK)
            return err->code;
        at += 8 + size + (size & 1 && size < left); /* chunks begin at even places */
    }
    return sv_fail(err, SV_EFORMAT, "WAV: no data chunk");
}

static double sample(const uint8_t *p, sv_wav_kind kind, int32_t n_bits)
{
    float f;
    double d;
    switch (n_bits) {
    case 8: return ((int)p[0] - 128) / 128.0;
    case 16: return (int16_t)u16(p) / 32768.0;
    case 24: return (int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24) / 2147483648.0;
    case 32:
        if (kind == SV_WAV_PCM)
            return (int32_t)u32(p) / 2147483648.0;
        memcpy(&f, p, sizeof f);
        return (double)f;
    default:
        memcpy(&d, p, sizeof d);
        return d;
    }
}

sv_rc sv_wav_mono(float *out, const sv_wav *w, size_t at, size_t n, sv_err *err)
{
    size_t width = (size_t)w->n_bits / 8;
    const uint8_t *p = w->data + at * width * (size_t)w->n_channels;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (int32_t c = 0; c < w->n_channels; c++, p += width)
            sum += sample(p, w->kind, w->n_bits);
        if (!isfinite(sum))
            return sv_fail(err, SV_EFORMAT, "WAV: sample %zu is not a number", at + i);
        out[i] = (float)fmax(-16, fmin(16, sum / w->n_channels)); /* beyond is noise that would only overflow later */
    }
    return SV_OK;
}

/* --- rates -------------------------------------------------------------------------------------------------------- */

struct sv_resampler {
    int64_t up, down;       /* output i stands at i * down / up of the input */
    int32_t n_taps, half;   /* of a phase; those before its place */
    float *taps;            /* [up][n_taps] */
    float *tail;            /* the last n_taps samples of the blocks before, then the block */
    size_t n_tail;
    int64_t first;          /* the input's number of tail[0]; before 0: silence */
    int64_t n_in, n_out;
    bool plain;             /* the same rate: copied */
};

static double bessel_i0(double x)
{
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-9 * sum; k++) {
        term *= x * x / (4.0 * k * k);
        sum += term;
    }
    return sum;
}

static void fill_taps(sv_resampler *r, double cutoff)
{
    const double beta = 9, norm = bessel_i0(beta);
    for (int64_t phase = 0; phase < r->up; phase++) {
        double frac = (double)phase / (double)r->up, sum = 0;
        float *row = r->taps + phase * r->n_taps;
        for (int32_t k = 0; k < r->n_taps; k++) {
            double t = (k - r->half + 1) - frac, edge = t / r->half, x = M_PI * cutoff * t;
            double v = fabs(edge) >= 1 ? 0 : (x == 0 ? 1 : sin(x) / x) * bessel_i0(beta * sqrt(1 - edge * edge)) / norm;
            row[k] = (float)v;
            sum += v;
        }
        for (int32_t k = 0; k < r->n_taps; k++) /* silence stays silence, and a constant itself */
            row[k] = (float)(row[k] / sum);
    }
}

sv_rc sv_resampler_new(sv_resampler **out, int32_t rate, sv_err *err)
{
    if (rate < SV_AUDIO_MIN_RATE || rate > SV_AUDIO_MAX_RATE)
        return sv_fail(err, SV_EFORMAT, "%d samples a second, from %d to %d are read", rate, SV_AUDIO_MIN_RATE, SV_AUDIO_MAX_RATE);
    SV_AUTO(sv_resampler_freep) sv_resampler *r = sv_xnew0(sv_resampler);
    int64_t a = rate, b = SV_AUDIO_RATE;
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    r->up = SV_AUDIO_RATE / a;
    r->down = rate / a;
    r->plain = rate == SV_AUDIO_RATE;
    double cutoff = 0.94 * (rate > SV_AUDIO_RATE ? (double)SV_AUDIO_RATE / rate : 1);
    r->half = (int32_t)ceil(ZERO_CROSSINGS / cutoff);
    r->n_taps = 2 * r->half;
    r->first = -r->half + 1;
    r->n_tail = (size_t)r->half - 1;
    r->taps = sv_try_calloc((size_t)r->up * (size_t)r->n_taps, sizeof *r->taps);
    r->tail = sv_try_calloc((size_t)r->n_taps * 2 + BLOCK, sizeof *r->tail);
    if (!r->taps || !r->tail)
        return sv_fail(err, SV_ENOMEM, "no memory for a filter of %lld phases", (long long)r->up);
    if (!r->plain)
        fill_taps(r, cutoff);
    *out = SV_TAKE(r);
    return SV_OK;
}

sv_resampler *sv_resampler_free(sv_resampler *r)
{
    if (r) {
        free(r->taps);
        free(r->tail);
    }
    free(r);
    return NULL;
}

static sv_rc room(sv_audio *a, size_t n, size_t max, sv_err *err)
{
    if (n > max - a->n)
        return sv_fail(err, SV_ELIMIT, "the sound is longer than %zu seconds, which is the most that is read: send it in parts", max / SV_AUDIO_RATE);
    if (a->n + n <= a->cap)
        return SV_OK;
    size_t cap = a->cap * 2 > a->n + n ? a->cap * 2 : a->n + n + SV_AUDIO_RATE;
    cap = cap > max ? max : cap;
    int16_t *more = sv_try_realloc(a->pcm, cap, sizeof *more);
    if (!more)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu seconds of sound", cap / SV_AUDIO_RATE);
    a->pcm = more;
    a->cap = cap;
    return SV_OK;
}

static int16_t clip(float v)
{
    float s = rintf(v * 32768);
    return (int16_t)(s > 32767 ? 32767 : s < -32768 ? -32768 : s);
}

/* All outputs whose taps are in the tail; `end`: or past the end of the sound, which is silence. */
static sv_rc emit(sv_resampler *r, sv_audio *out, size_t max, sv_err *err)
{
    int64_t have = r->first + (int64_t)r->n_tail, last = (have - r->half) * r->up / r->down + 1;
    if (last > r->n_out && room(out, (size_t)(last - r->n_out), max, err) != SV_OK)
        return err->code;
    for (;; r->n_out++) {
        int64_t at = r->n_out * r->down, whole = at / r->up;
        if (whole + r->half >= have)
            break;
        const float *x = r->tail + (whole - r->half + 1 - r->first), *w = r->taps + at % r->up * r->n_taps;
        float lanes[8] = {0}, sum = 0;
        int32_t k = 0;
        for (; k + 8 <= r->n_taps; k += 8)
            for (int l = 0; l < 8; l++)
                lanes[l] += w[k + l] * x[k + l];
        for (; k < r->n_taps; k++)
            sum += w[k] * x[k];
        for (int l = 0; l < 8; l++)
            sum += lanes[l];
        out->pcm[out->n++] = clip(sum);
    }
    int64_t keep = r->n_out * r->down / r->up - r->half + 1, drop = keep - r->first;
    if (drop > 0) {
        drop = drop > (int64_t)r->n_tail ? (int64_t)r->n_tail : drop;
        r->n_tail -= (size_t)drop;
        memmove(r->tail, r->tail + drop, r->n_tail * sizeof *r->tail);
        r->first += drop;
    }
    return SV_OK;
}

static sv_rc push_block(sv_resampler *r, const float *x, size_t n, sv_audio *out, size_t max, sv_err *err)
{
    if (x)
        memcpy(r->tail + r->n_tail, x, n * sizeof *x);
    else
        memset(r->tail + r->n_tail, 0, n * sizeof *r->tail);
    r->n_tail += n;
    return emit(r, out, max, err);
}

sv_rc sv_resampler_push(sv_resampler *r, const float *x, size_t n, sv_audio *out, size_t max, sv_err *err)
{
    if (r->plain) {
        if (!x)
            return SV_OK;
        if (room(out, n, max, err) != SV_OK)
            return err->code;
        for (size_t i = 0; i < n; i++)
            out->pcm[out->n++] = clip(x[i]);
        return SV_OK;
    }
    if (x) {
        r->n_in += (int64_t)n;
        for (size_t at = 0; at < n; at += BLOCK)
            if (push_block(r, x + at, n - at < BLOCK ? n - at : BLOCK, out, max, err) != SV_OK)
                return err->code;
        return SV_OK;
    }
    int64_t want = (r->n_in * r->up + r->down - 1) / r->down; /* as many seconds as came in */
    if (push_block(r, NULL, (size_t)r->half + 1, out, max, err) != SV_OK)
        return err->code;
    if (r->n_out > want)
        out->n -= (size_t)(r->n_out - want);
    return SV_OK;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static sv_rc read_wav(sv_audio *out, const sv_wav *w, const sv_audio_opts *o, sv_err *err)
{
    SV_AUTO(sv_resampler_freep) sv_resampler *r = NULL;
    SV_AUTO(sv_audio_donep) sv_audio a = {0};
    float block[BLOCK];
    size_t max = (size_t)(o->max_seconds > 0 ? o->max_seconds : MAX_SECONDS);
    if (w->n_frames / (size_t)w->rate > max)
        return sv_fail(err, SV_ELIMIT, "the sound has %zu seconds, and %zu are the most that is read: send it in parts", w->n_frames / (size_t)w->rate, max);
    if (sv_resampler_new(&r, w->rate, err) != SV_OK)
        return err->code;
    for (size_t at = 0; at < w->n_frames; at += BLOCK) {
        size_t n = w->n_frames - at < BLOCK ? w->n_frames - at : BLOCK;
        if (o->cancel && atomic_load(o->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        if (sv_wav_mono(block, w, at, n, err) != SV_OK || sv_resampler_push(r, block, n, &a, (max + 1) * SV_AUDIO_RATE, err) != SV_OK)
            return err->code;
    }
    if (sv_resampler_push(r, NULL, 0, &a, (max + 1) * SV_AUDIO_RATE, err) != SV_OK)
        return err->code;
    *out = a;
    a = (sv_audio){0};
    return SV_OK;
}

sv_rc sv_audio_read(sv_audio *out, sv_str bytes, const sv_audio_opts *o, sv_err *err)
{
    sv_wav w;
    if (bytes.n == 0)
        return sv_fail(err, SV_EFORMAT, "the audio is empty");
    if (sv_wav_is(bytes)) {
        if (sv_wav_parse(&w, bytes, err) != SV_OK)
            return err->code;
        if (w.kind != SV_WAV_OTHER)
            return read_wav(out, &w, o, err);
    }
    return sv_audio_decode(out, bytes, o, err);
}
