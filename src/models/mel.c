/* mel.c - the log-mel spectrogram that Whisper hears
 *
 * 25 ms under a Hann window every 10 ms, the power of its spectrum, triangles on the mel scale, a logarithm, and a floor 80 dB under the loudest
 * frame of the whole recording (Radford et al. 2022, arXiv:2212.04356; the scale is that of Slaney's Auditory Toolbox as librosa has it).
 *
 * The floor needs the loudest frame before the first number can be given, so there are two passes; keeping the spectrogram of an hour between them
 * would take as much memory as the sound itself, and computing it again takes a hundredth of what the encoder does.
 *
 * 400 real numbers are transformed as 200 complex ones (even and odd samples), 200 = 2 2 2 5 5, in float64: the floor lies 80 dB under the peak,
 * where float32 would be off in the fourth digit. */
#include "models/mel.h"

#include <math.h>
#include <string.h>

enum { HALF = SV_MEL_FFT / 2, FRAMES_A_TASK = 32, MAX_TASKS = 4096 };

typedef struct cpx { double re, im; } cpx;

struct sv_mel {
    int32_t n_mels;
    float *filters;
    int32_t *begin, *end;        /* of each filter: the bins that are not 0 */
    double window[SV_MEL_FFT];
    cpx turn[SV_MEL_FFT];        /* exp(-2 pi i k / 400) */
};

static double mel_of(double hz) { return hz < 1000 ? 3 * hz / 200 : 15 + log(hz / 1000) * 27 / log(6.4); }
static double hz_of(double mel) { return mel < 15 ? 200 * mel / 3 : 1000 * exp((mel - 15) * log(6.4) / 27); }

static void fill_filters(sv_mel *m)
{
    double top = mel_of(8000), step = top / (m->n_mels + 1);
    for (int32_t i = 0; i < m->n_mels; i++) {
        double low = hz_of(step * i), mid = hz_of(step * (i + 1)), high = hz_of(step * (i + 2));
        for (int32_t k = 0; k < SV_MEL_BINS; k++) {
            double hz = 8000.0 * k / HALF, up = (hz - low) / (mid - low), down = (high - hz) / (high - mid);
            m->filters[i * SV_MEL_BINS + k] = (float)(fmax(0, fmin(up, down)) * 2 / (high - low)); /* each of area 1 */
        }
    }
}

sv_mel *sv_mel_new(int32_t n_mels, const float *filters)
{
    sv_mel *m = sv_xnew0(sv_mel);
    SV_ASSERT(n_mels >= 1 && n_mels <= SV_MEL_MAX);
    m->n_mels = n_mels;
    m->filters = sv_xcalloc((size_t)n_mels * SV_MEL_BINS, sizeof *m->filters);
    m->begin = sv_xcalloc((size_t)n_mels, sizeof *m->begin);
    m->end = sv_xcalloc((size_t)n_mels, sizeof *m->end);
    if (filters)
        memcpy(m->filters, filters, (size_t)n_mels * SV_MEL_BINS * sizeof *filters);
    else
        fill_filters(m);
    for (int32_t i = 0; i < n_mels; i++) {
        const float *f = m->filters + i * SV_MEL_BINS;
        int32_t b = 0, e = SV_MEL_BINS;
        while (b < e && f[b] == 0)
            b++;
        while (e > b && f[e - 1] == 0)
            e--;
        m->begin[i] = b;
        m->end[i] = e;
    }
    for (int k = 0; k < SV_MEL_FFT; k++) {
        m->window[k] = 0.5 - 0.5 * cos(2 * M_PI * k / SV_MEL_FFT);
        m->turn[k] = (cpx){cos(2 * M_PI * k / SV_MEL_FFT), -sin(2 * M_PI * k / SV_MEL_FFT)};
    }
    return m;
}

sv_mel *sv_mel_free(sv_mel *m)
{
    if (m) {
        free(m->filters);
        free(m->begin);
        free(m->end);
    }
    free(m);
    return NULL;
}

const float *sv_mel_filters(const sv_mel *m) { return m->filters; }

static cpx mul(cpx a, cpx b) { return (cpx){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

/* n inputs, `stride` apart, in the smallest prime steps: 200 = 2 2 2 5 5. */
static void fft(const sv_mel *m, cpx *out, const cpx *in, int n, int stride)
{
    if (n == 1) {
        out[0] = in[0];
        return;
    }
    int p = n % 2 == 0 ? 2 : 5, rest = n / p, unit = SV_MEL_FFT / n;
    for (int q = 0; q < p; q++)
        fft(m, out + q * rest, in + q * stride, rest, stride * p);
    for (int k = 0; k < rest; k++) {
        cpx part[5];
        for (int q = 0; q < p; q++)
            part[q] = mul(out[q * rest + k], m->turn[q * k * unit]);
        for (int r = 0; r < p; r++) {
            cpx sum = part[0];
            for (int q = 1; q < p; q++) {
                cpx t = mul(part[q], m->turn[q * r * rest * unit % SV_MEL_FFT]);
                sum.re += t.re;
                sum.im += t.im;
            }
            out[r * rest + k] = sum;
        }
    }
}

/* The log10 of each filter's power in the frame. */
static void frame(const sv_mel *m, const sv_audio *a, int64_t i_frame, float *out)
{
    cpx x[HALF], z[HALF];
    double power[SV_MEL_BINS];
    int64_t from = i_frame * SV_MEL_HOP - HALF, n = (int64_t)a->n;
    double s[SV_MEL_FFT];
    for (int k = 0; k < SV_MEL_FFT; k++) {
        int64_t at = from + k < 0 ? -(from + k) : from + k;
        s[k] = at < n ? a->pcm[at] / 32768.0 * m->window[k] : 0;
    }
    for (int k = 0; k < HALF; k++)
        x[k] = (cpx){s[2 * k], s[2 * k + 1]};
    fft(m, z, x, HALF, 1);
    for (int k = 0; k <= HALF; k++) { /* parts the even samples' spectrum from the odd ones' and joins them */
        cpx a1 = z[k % HALF], b1 = z[(HALF - k) % HALF];
        cpx even = {(a1.re + b1.re) / 2, (a1.im - b1.im) / 2}, odd = {(a1.im + b1.im) / 2, (b1.re - a1.re) / 2};
        cpx t = mul(odd, m->turn[k]);
        power[k] = (even.re + t.re) * (even.re + t.re) + (even.im + t.im) * (even.im + t.im);
    }
    for (int32_t i = 0; i < m->n_mels; i++) {
        const float *f = m->filters + i * SV_MEL_BINS;
        double sum = 0;
        for (int32_t k = m->begin[i]; k < m->end[i]; k++)
            sum += (double)f[k] * power[k];
        out[i] = (float)log10(fmax(sum, 1e-10));
    }
}

typedef struct pass {
    const sv_mel *m;
    const sv_audio *a;
    int64_t first, n, step; /* step: frames a task */
    float floor, *out, peaks[MAX_TASKS];
} pass;

static void peak_task(void *arg, int32_t i)
{
    pass *p = arg;
    int64_t end = (i + 1) * p->step < p->n ? (i + 1) * p->step : p->n;
    float v[SV_MEL_MAX], top = -10;
    for (int64_t f = i * p->step; f < end; f++) {
        frame(p->m, p->a, f, v);
        for (int32_t k = 0; k < p->m->n_mels; k++)
            top = v[k] > top ? v[k] : top;
    }
    p->peaks[i] = top;
}

float sv_mel_peak(const sv_mel *m, sv_pool *pool, const sv_audio *a)
{
    pass p = {.m = m, .a = a, .n = sv_mel_n_frames(a)};
    float top = -10;
    p.step = p.n / MAX_TASKS + 1 > FRAMES_A_TASK ? p.n / MAX_TASKS + 1 : FRAMES_A_TASK;
    int32_t n_tasks = (int32_t)((p.n + p.step - 1) / p.step);
    if (n_tasks > 0)
        sv_pool_run(pool, n_tasks, peak_task, &p);
    for (int32_t i = 0; i < n_tasks; i++)
        top = p.peaks[i] > top ? p.peaks[i] : top;
    return top;
}

static void frames_task(void *arg, int32_t i)
{
    pass *p = arg;
    int64_t end = (i + 1) * p->step < p->n ? (i + 1) * p->step : p->n, n_all = sv_mel_n_frames(p->a);
    for (int64_t f = i * p->step; f < end; f++) {
        float *v = p->out + f * p->m->n_mels;
        if (p->first + f >= n_all) {
            memset(v, 0, (size_t)p->m->n_mels * sizeof *v);
            continue;
        }
        frame(p->m, p->a, p->first + f, v);
        for (int32_t k = 0; k < p->m->n_mels; k++)
            v[k] = ((v[k] > p->floor ? v[k] : p->floor) + 4) / 4;
    }
}

void sv_mel_frames(const sv_mel *m, sv_pool *pool, const sv_audio *a, float peak, int64_t first, int32_t n, float *out)
{
    pass p = {.m = m, .a = a, .first = first, .n = n, .floor = peak - 8, .out = out, .step = FRAMES_A_TASK};
    if (n > 0)
        sv_pool_run(pool, (n + FRAMES_A_TASK - 1) / FRAMES_A_TASK, frames_task, &p);
}
