/* vad.h - where in a recording somebody speaks: Silero VAD at 16 kHz (its weights are in the program: silero/)
 *
 * Threads: the network is immutable; any thread. */
#ifndef SV_MODELS_VAD_H
#define SV_MODELS_VAD_H

#include "models/audio.h"
#include "nn/pool.h"

enum { SV_VAD_WINDOW = 512 }; /* samples, 32 ms */

typedef struct sv_vad sv_vad;
sv_vad *sv_vad_new(void); /* the weights are checked; ends the process where they are not what they must be */
sv_vad *sv_vad_free(sv_vad *v);
SV_DEFINE_AUTO(sv_vad, sv_vad_free)

static inline size_t sv_vad_n_windows(const sv_audio *a) { return (a->n + SV_VAD_WINDOW - 1) / SV_VAD_WINDOW; }
/* The probability of speech in windows [from, from + n). State goes on from call to call: start with {0} and from 0. */
typedef struct sv_vad_state { float h[128], c[128]; } sv_vad_state;
enum { SV_VAD_BLOCK = 64 }; /* most windows of a call */
void sv_vad_run(const sv_vad *v, sv_pool *pool, sv_vad_state *s, const sv_audio *a, size_t from, int32_t n, float *probabilities);

/* A stretch of speech, in samples. */
typedef struct sv_speech { int64_t start, end; } sv_speech;
/* Stretches that are loud from 0.5 on until they were below 0.35 for min_silence_ms, with pad_ms more at both ends (halved where two meet). Owned, *n of
 * them. */
sv_speech *sv_vad_stretches(const float *probabilities, size_t n_windows, int64_t n_samples, int32_t min_silence_ms, int32_t pad_ms, size_t *n);
/* A recording of the stretches alone; and where in the whole one a time of it lies (seconds). SV_ENOMEM. */
SV_MUST sv_rc sv_vad_collect(sv_audio *out, const sv_audio *a, const sv_speech *speech, size_t n, sv_err *err);
double sv_vad_original(const sv_speech *speech, size_t n, double seconds, double middle); /* middle: which stretch it belongs to */

#endif
