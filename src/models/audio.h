/* audio.h - sound from outside as 16 kHz mono samples: what speech models hear
 *
 * WAV is read here; everything else by ffmpeg's decoders in a child that can reach nothing (audio_child.c). Bytes, seconds and the rate are
 * bounded before memory is taken for them. Threads: any; each object has one. */
#ifndef SV_MODELS_AUDIO_H
#define SV_MODELS_AUDIO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

enum { SV_AUDIO_RATE = 16000, SV_AUDIO_MIN_RATE = 1000, SV_AUDIO_MAX_RATE = 192000, SV_AUDIO_MAX_CHANNELS = 64 };

/* 16 bits a sample, as the recordings that speech models were trained on. */
typedef struct sv_audio {
    int16_t *pcm; /* owned: sv_audio_done */
    size_t n, cap;
} sv_audio;
void sv_audio_done(sv_audio *a);
static inline void sv_audio_donep(sv_audio *a) { sv_audio_done(a); }

typedef struct sv_audio_opts {
    const char *helper;          /* the program that decodes what is no WAV; NULL: nothing else is read */
    int32_t max_seconds;         /* 0: 7200 */
    int64_t timeout_ms;          /* 0: 120 s: for the child */
    const _Atomic bool *cancel;  /* or NULL; looked at between blocks: SV_ECANCELED */
} sv_audio_opts;

/* SV_EFORMAT: what the bytes are not, and why; SV_ELIMIT: more than max_seconds (the message has both); SV_ETIMEDOUT, SV_ENOMEM; SV_EIO: the child did
 * not start. */
SV_MUST sv_rc sv_audio_read(sv_audio *out, sv_str bytes, const sv_audio_opts *opts, sv_err *err);

/* --- WAV ---------------------------------------------------------------------------------------------------------- */

typedef enum sv_wav_kind { SV_WAV_PCM, SV_WAV_FLOAT, SV_WAV_OTHER } sv_wav_kind;
typedef struct sv_wav {
    sv_wav_kind kind;         /* other: a compressed form, for the child */
    int32_t rate, n_channels, n_bits; /* of a sample: 8, 16, 24, 32; floats 32 or 64 */
    const uint8_t *data;      /* borrowed */
    size_t n_frames;          /* of n_channels samples each */
} sv_wav;
bool sv_wav_is(sv_str bytes); /* by its first 12 bytes */
/* SV_EFORMAT: no format before the data, sizes that contradict each other or the file's. A data size of 0 or of all ones at the file's end is that
 * of a stream: what is there counts. */
SV_MUST sv_rc sv_wav_parse(sv_wav *out, sv_str bytes, sv_err *err);
/* Frames [at, at + n) as one channel, the mean of all. SV_EFORMAT: a sample is not a number. */
SV_MUST sv_rc sv_wav_mono(float *out, const sv_wav *w, size_t at, size_t n, sv_err *err);

/* --- rates -------------------------------------------------------------------------------------------------------- */

/* Any rate to SV_AUDIO_RATE, in blocks, which do not change the result: a Kaiser window of 48 zero crossings on either side, in float32. Up to
 * 0.87 of the lower rate's half everything passes, and what would alias is under -80 dB. */
typedef struct sv_resampler sv_resampler;
SV_MUST sv_rc sv_resampler_new(sv_resampler **out, int32_t rate, sv_err *err); /* SV_EFORMAT: the rate; SV_ENOMEM */
sv_resampler *sv_resampler_free(sv_resampler *r);
SV_DEFINE_AUTO(sv_resampler, sv_resampler_free)
/* Appends what n samples more make, clipped to 16 bits. SV_ELIMIT over max_samples in out. x NULL: the end of the sound. */
SV_MUST sv_rc sv_resampler_push(sv_resampler *r, const float *x, size_t n, sv_audio *out, size_t max_samples, sv_err *err);

/* --- the child ---------------------------------------------------------------------------------------------------- */

/* What sv_audio_read does with anything but WAV. */
SV_MUST sv_rc sv_audio_decode(sv_audio *out, sv_str bytes, const sv_audio_opts *opts, sv_err *err);

#endif
