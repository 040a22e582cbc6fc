/* transcribe.h - a recording to text with times, by Whisper, window by window
 *
 * Follows openai/whisper's transcribe(): windows of 30 s that move on to where the last whole segment ended, each decoded under the rules of time marks,
 * again at higher temperatures where it came out repetitive or improbable; words get times from where the decoder looked.
 *
 * Threads: one transcription, one thread; the model is shared. */
#ifndef SV_MODELS_TRANSCRIBE_H
#define SV_MODELS_TRANSCRIBE_H

#include <stdatomic.h>

#include "models/audio.h"
#include "models/whisper.h"

enum { SV_TRANSCRIBE_TEMPERATURES = 8 };

typedef struct sv_transcribe_opts {
    sv_str language;        /* code or English name; empty: heard in the first window */
    bool translate;         /* into English */
    sv_str initial_prompt;  /* what stands before the first window's text */
    sv_str prefix;          /* what each window's text begins with */
    bool no_context;        /* a window's text is not told to the next */
    bool words;             /* words with times */
    int32_t beam_size;      /* 0 and 1: greedy; at most SV_WHISPER_SEQS */
    /* NAN: the check is off. */
    float no_speech_threshold, compression_ratio_threshold, log_prob_threshold, hallucination_silence_threshold;
    float temperatures[SV_TRANSCRIBE_TEMPERATURES];
    int32_t n_temperatures; /* at least 1 */
    uint64_t seed;          /* of temperatures above 0: the same recording, the same text */
    /* The pool for a step of some milliseconds, and back. */
    sv_pool *(*enter)(void *arg);
    void (*leave)(void *arg);
    void *arg;
    const _Atomic bool *cancel; /* or NULL */
} sv_transcribe_opts;
/* The defaults of openai/whisper: thresholds 0.6, 2.4, -1, off; temperatures 0 to 1 in steps of 0.2. enter, leave and arg are the caller's. */
sv_transcribe_opts sv_transcribe_defaults(void);

typedef struct sv_spoken_word {
    char *text; /* with the space before it */
    double start, end;
    float probability;
} sv_spoken_word;

typedef struct sv_spoken_segment {
    char *text;
    double start, end; /* seconds */
    int64_t seek;      /* its window's first frame */
    int32_t *tokens;
    int32_t n_tokens;
    float temperature, avg_logprob, compression_ratio, no_speech_prob;
    sv_spoken_word *words;
    int32_t n_words;
} sv_spoken_segment;

typedef struct sv_transcript {
    char *text;
    char language[8];
    float language_probability;
    double duration; /* seconds */
    sv_spoken_segment *segments;
    int32_t n_segments;
    int32_t n_prompt_tokens, n_tokens; /* read and written, of all windows and attempts */
} sv_transcript;
void sv_transcript_done(sv_transcript *t);
static inline void sv_transcript_donep(sv_transcript *t) { sv_transcript_done(t); }

/* SV_EINVAL: the language is none of the model's; translation by an English-only model; SV_ECANCELED; SV_ENOMEM. */
SV_MUST sv_rc sv_transcribe(sv_transcript *out, const sv_whisper *m, sv_whisper_ws *ws, const sv_audio *audio, const sv_transcribe_opts *opts, sv_err *err);

#endif
