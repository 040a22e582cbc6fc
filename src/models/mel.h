/* mel.h - the log-mel spectrogram that Whisper hears: 100 frames a second of 80 or 128 numbers
 *
 * Threads: a bank is immutable once made; any thread. The functions with a pool use it and return when all is done. */
#ifndef SV_MODELS_MEL_H
#define SV_MODELS_MEL_H

#include <stdint.h>

#include "models/audio.h"
#include "nn/pool.h"

enum { SV_MEL_HOP = 160, SV_MEL_FFT = 400, SV_MEL_BINS = SV_MEL_FFT / 2 + 1, SV_MEL_MAX = 256 };

typedef struct sv_mel sv_mel;
/* filters float32 [n_mels][SV_MEL_BINS], copied; NULL: computed, as librosa does ("slaney", 0 to 8000 Hz). n_mels from 1 to SV_MEL_MAX. */
sv_mel *sv_mel_new(int32_t n_mels, const float *filters);
sv_mel *sv_mel_free(sv_mel *m);
SV_DEFINE_AUTO(sv_mel, sv_mel_free)
const float *sv_mel_filters(const sv_mel *m); /* [n_mels][SV_MEL_BINS] */

/* Frame i is centred on sample i * SV_MEL_HOP; before the sound is its mirror image, behind it silence. */
static inline int64_t sv_mel_n_frames(const sv_audio *a) { return (int64_t)(a->n / SV_MEL_HOP); }
/* The largest log10 of all frames, which the quiet ones are cut off against. */
float sv_mel_peak(const sv_mel *m, sv_pool *pool, const sv_audio *a);
/* Frames [first, first + n): out float32 [n][n_mels], (max(log10(power), peak - 8) + 4) / 4; those behind the sound's last frame are 0, as openai's
 * decoder has them. Sums in float64. Tested within 5e-5 of openai/whisper on a recording. */
void sv_mel_frames(const sv_mel *m, sv_pool *pool, const sv_audio *a, float peak, int64_t first, int32_t n, float *out);

#endif
