/* vad.c - where in a recording somebody speaks
 *
 * Silero VAD (MIT licence; origin in silero/README.md) hears windows of 512 samples and the 64 before them: a short-time Fourier transform as a
 * convolution, magnitudes, four convolutions, an LSTM cell that remembers, one number. All but the cell's recurrence is the same for each window and is
 * computed for a block of them at once, as products of matrices over frames laid side by side.
 *
 * How probabilities become stretches is faster-whisper's way, whose option vad_filter this serves. */
#include "models/vad.h"

#include <math.h>
#include <string.h>

#include "nn/kernels.h"
#include "nn/safetensors.h"

enum { BEFORE = 64, FFT = 256, HOP = 128, FRAMES = 4, BINS = 129, CELL = 128 };

__asm__(".section .rodata\n.balign 64\nsilero_begin: .incbin \"" SV_SOURCE_ROOT "/src/models/silero/silero_vad_16k.safetensors\"\nsilero_end: .byte 0\n.previous\n");
extern const uint8_t silero_begin[], silero_end[];

typedef struct layer { sv_tensor w; const float *b; int32_t n_in, n_out, stride; } layer; /* w [n_out, n_in * 3] */

struct sv_vad {
    sv_safetensors *file;
    sv_tensor stft, ih;
    layer conv[4];
    const float *hh, *ih_bias, *hh_bias, *out, *out_bias;
};

static const sv_tensor *tensor(const sv_vad *v, const char *name, int64_t n)
{
    const sv_tensor *t = sv_safetensors_tensor(v->file, name);
    SV_ASSERT(t && t->type == SV_F32 && t->dims[0] * t->dims[1] * t->dims[2] == n && (uintptr_t)t->data % 4 == 0);
    return t;
}

static sv_tensor matrix(const sv_vad *v, const char *name, int64_t n_in, int64_t n_out)
{
    sv_tensor t = *tensor(v, name, n_in * n_out);
    t.n_dims = 2;
    t.dims[0] = n_in;
    t.dims[1] = n_out;
    t.dims[2] = t.dims[3] = 1;
    return t;
}

sv_vad *sv_vad_new(void)
{
    static const struct { const char *w, *b; int32_t n_in, n_out, stride; } convs[4] = {
        {"conv1.weight", "conv1.bias", BINS, 128, 1}, {"conv2.weight", "conv2.bias", 128, 64, 2}, {"conv3.weight", "conv3.bias", 64, 64, 2},
        {"conv4.weight", "conv4.bias", 64, 128, 1}};
    sv_err err = {0};
    sv_vad *v = sv_xnew0(sv_vad);
    SV_ASSERT(sv_safetensors_parse(&v->file, silero_begin, (size_t)(silero_end - silero_begin), &err) == SV_OK);
    v->stft = matrix(v, "stft_conv.weight", FFT, 2 * BINS);
    for (int i = 0; i < 4; i++)
        v->conv[i] = (layer){.w = matrix(v, convs[i].w, 3 * convs[i].n_in, convs[i].n_out), .b = tensor(v, convs[i].b, convs[i].n_out)->data,
                             .n_in = convs[i].n_in, .n_out = convs[i].n_out, .stride = convs[i].stride};
    v->ih = matrix(v, "lstm_cell.weight_ih", CELL, 4 * CELL);
    v->hh = tensor(v, "lstm_cell.weight_hh", 4 * CELL * CELL)->data;
    v->ih_bias = tensor(v, "lstm_cell.bias_ih", 4 * CELL)->data;
    v->hh_bias = tensor(v, "lstm_cell.bias_hh", 4 * CELL)->data;
    v->out = tensor(v, "final_conv.weight", CELL)->data;
    v->out_bias = tensor(v, "final_conv.bias", 1)->data;
    return v;
}

sv_vad *sv_vad_free(sv_vad *v)
{
    if (v)
        sv_safetensors_close(v->file);
    free(v);
    return NULL;
}

/* --- a block of windows ------------------------------------------------------------------------------------------- */

static float sample(const sv_audio *a, int64_t i) { return i >= 0 && i < (int64_t)a->n ? a->pcm[i] / 32768.0f : 0; }

/* The window's frames, [FRAMES][FFT]: 64 before, 512, and 64 mirrored behind. */
static void frames_of(const sv_audio *a, int64_t window, float *out)
{
    float x[BEFORE + SV_VAD_WINDOW + BEFORE];
    for (int32_t i = 0; i < BEFORE + SV_VAD_WINDOW; i++)
        x[i] = sample(a, window * SV_VAD_WINDOW - BEFORE + i);
    for (int32_t i = 0; i < BEFORE; i++)
        x[BEFORE + SV_VAD_WINDOW + i] = x[BEFORE + SV_VAD_WINDOW - 2 - i];
    for (int32_t f = 0; f < FRAMES; f++)
        memcpy(out + f * FFT, x + f * HOP, FFT * sizeof *x);
}

/* in [n][len][n_in] to out [n][len / stride][n_out]; wide is scratch. */
static int32_t convolve(const layer *l, sv_pool *pool, const float *in, int32_t n, int32_t len, float *wide, float *out)
{
    int32_t n_out = len / l->stride;
    for (int32_t w = 0; w < n; w++)
        for (int32_t r = 0; r < n_out; r++)
            for (int32_t k = 0; k < 3; k++) {
                int32_t at = r * l->stride + k - 1;
                const float *from = in + ((int64_t)w * len + at) * l->n_in;
                float *to = wide + ((int64_t)w * n_out + r) * 3 * l->n_in + k;
                for (int32_t c = 0; c < l->n_in; c++)
                    to[3 * c] = at >= 0 && at < len ? from[c] : 0;
            }
    sv_matmul_run(pool, &(sv_matmul){.w = &l->w, .x = wide, .n_rows = n * n_out, .y = out, .bias = l->b}, 1);
    for (int64_t i = 0; i < (int64_t)n * n_out * l->n_out; i++)
        out[i] = out[i] > 0 ? out[i] : 0;
    return n_out;
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* One step of the cell on what its input made of the gates i, f, g, o. */
static float remember(const sv_vad *v, sv_vad_state *s, const float *gates)
{
    float g[4 * CELL], sum = v->out_bias[0];
    for (int32_t r = 0; r < 4 * CELL; r++) {
        float lanes[16] = {0};
        const float *w = v->hh + r * CELL;
        for (int32_t k = 0; k < CELL; k += 16)
            for (int l = 0; l < 16; l++)
                lanes[l] += w[k + l] * s->h[k + l];
        g[r] = gates[r] + v->hh_bias[r];
        for (int l = 0; l < 16; l++)
            g[r] += lanes[l];
    }
    for (int32_t k = 0; k < CELL; k++) {
        s->c[k] = sigmoid(g[CELL + k]) * s->c[k] + sigmoid(g[k]) * tanhf(g[2 * CELL + k]);
        s->h[k] = sigmoid(g[3 * CELL + k]) * tanhf(s->c[k]);
        sum += v->out[k] * (s->h[k] > 0 ? s->h[k] : 0);
    }
    return sigmoid(sum);
}

void sv_vad_run(const sv_vad *v, sv_pool *pool, sv_vad_state *s, const sv_audio *a, size_t from, int32_t n, float *probabilities)
{
    SV_ASSERT(n >= 1 && n <= SV_VAD_BLOCK);
    size_t rows = (size_t)n * FRAMES;
    SV_AUTO(sv_freep) float *wide = sv_xcalloc(rows * 3 * BINS, sizeof *wide);
    SV_AUTO(sv_freep) float *one = sv_xcalloc(rows * 2 * BINS, sizeof *one);
    SV_AUTO(sv_freep) float *two = sv_xcalloc(rows * 2 * BINS, sizeof *two);
    for (int32_t w = 0; w < n; w++)
        frames_of(a, (int64_t)from + w, wide + (int64_t)w * FRAMES * FFT);
    sv_matmul_run(pool, &(sv_matmul){.w = &v->stft, .x = wide, .n_rows = (int32_t)rows, .y = one}, 1);
    for (size_t r = 0; r < rows; r++)
        for (int32_t k = 0; k < BINS; k++)
            two[r * BINS + (size_t)k] = sqrtf(one[r * 2 * BINS + (size_t)k] * one[r * 2 * BINS + (size_t)k] +
                                              one[r * 2 * BINS + BINS + (size_t)k] * one[r * 2 * BINS + BINS + (size_t)k]);
    int32_t len = FRAMES;
    for (int i = 0; i < 4; i++)
        len = convolve(&v->conv[i], pool, i % 2 ? one : two, n, len, wide, i % 2 ? two : one);
    SV_ASSERT(len == 1);
    sv_matmul_run(pool, &(sv_matmul){.w = &v->ih, .x = two, .n_rows = n, .y = wide, .bias = v->ih_bias}, 1);
    for (int32_t w = 0; w < n; w++)
        probabilities[w] = remember(v, s, wide + (int64_t)w * 4 * CELL);
}

/* --- stretches ---------------------------------------------------------------------------------------------------- */

sv_speech *sv_vad_stretches(const float *p, size_t n_windows, int64_t n_samples, int32_t min_silence_ms, int32_t pad_ms, size_t *n)
{
    int64_t silence = (int64_t)min_silence_ms * SV_AUDIO_RATE / 1000, pad = (int64_t)pad_ms * SV_AUDIO_RATE / 1000, quiet_from = 0;
    sv_speech *all = NULL;
    bool speaking = false;
    *n = 0;
    for (size_t i = 0; i < n_windows; i++) {
        int64_t at = (int64_t)i * SV_VAD_WINDOW;
        if (p[i] >= 0.5f) {
            quiet_from = 0;
            if (!speaking) {
                all = sv_xrealloc(all, *n + 1, sizeof *all);
                all[(*n)++] = (sv_speech){at, n_samples};
                speaking = true;
            }
        } else if (p[i] < 0.35f && speaking) {
            quiet_from = quiet_from ? quiet_from : at;
            if (at - quiet_from < silence)
                continue;
            all[*n - 1].end = quiet_from;
            speaking = false;
            quiet_from = 0;
        }
    }
    for (size_t i = 0; i < *n; i++) {
        if (i == 0)
            all[0].start = all[0].start > pad ? all[0].start - pad : 0;
        if (i + 1 == *n) {
            all[i].end = all[i].end + pad < n_samples ? all[i].end + pad : n_samples;
            break;
        }
        int64_t gap = all[i + 1].start - all[i].end, half = gap < 2 * pad ? gap / 2 : pad;
        all[i].end += half;
        all[i + 1].start -= half;
    }
    return all;
}

sv_rc sv_vad_collect(sv_audio *out, const sv_audio *a, const sv_speech *speech, size_t n, sv_err *err)
{
    sv_audio all = {0};
    for (size_t i = 0; i < n; i++)
        all.cap += (size_t)(speech[i].end - speech[i].start);
    all.pcm = sv_try_calloc(all.cap + 1, sizeof *all.pcm);
    if (!all.pcm)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu seconds of sound", all.cap / SV_AUDIO_RATE);
    for (size_t i = 0; i < n; i++) {
        size_t k = (size_t)(speech[i].end - speech[i].start);
        memcpy(all.pcm + all.n, a->pcm + speech[i].start, k * sizeof *all.pcm);
        all.n += k;
    }
    *out = all;
    return SV_OK;
}

double sv_vad_original(const sv_speech *speech, size_t n, double seconds, double middle)
{
    int64_t before = 0, left_out = 0, end = 0;
    for (size_t i = 0; i < n; i++) {
        left_out += speech[i].start - end;
        end = speech[i].end;
        before += speech[i].end - speech[i].start;
        if (middle * SV_AUDIO_RATE < (double)before)
            break;
    }
    return seconds + (double)left_out / SV_AUDIO_RATE;
}
