/* transcribe_impl.h - between transcribe.c (windows), transcribe_decode.c (the text of one) and transcribe_words.c (times of its words) */
#ifndef SV_MODELS_TRANSCRIBE_IMPL_H
#define SV_MODELS_TRANSCRIBE_IMPL_H

#include "models/transcribe.h"

/* A transcription under way. */
typedef struct trs {
    const sv_whisper *m;
    sv_whisper_ws *ws;
    const sv_transcribe_opts *o;
    const sv_whisper_info *info;
    const sv_whisper_tokens *t;
    int32_t lang;           /* index; -1: an English-only model */
    uint64_t random;
    float *logits;          /* [SV_WHISPER_SEQS][n_vocab] */
    float *first, *at_sot;  /* [n_vocab]: behind the prompt, and at the start of the transcript */
    int32_t n_prompt_tokens, n_tokens;
} trs;

typedef struct trs_ids { int32_t *v; size_t n, cap; } trs_ids;
void trs_ids_add(trs_ids *ids, const int32_t *v, size_t n);
static inline void trs_ids_donep(trs_ids *ids) { free(ids->v); }

/* The start of a transcript: its marker, language and task. At most 3; returns how many. */
int32_t trs_start(const trs *s, int32_t out[3]);
void trs_text(const trs *s, const int32_t *ids, size_t n, sv_buf *out); /* without markers and times; valid UTF-8 */
sv_str trs_strip(sv_str text); /* white space of Unicode, both ends */
static inline bool trs_canceled(const trs *s) { return s->o->cancel && atomic_load(s->o->cancel); }

/* The text of the window that is in ws. */
typedef struct trs_decoded {
    trs_ids tokens; /* sampled, without the end's */
    float temperature, avg_logprob, compression_ratio, no_speech_prob;
} trs_decoded;
/* All attempts; the last one is *out, whose tokens the caller frees. prompt: the ids before, of which the last ones are taken; prefix: text, or empty. */
SV_MUST sv_rc trs_decode(trs *s, trs_decoded *out, const trs_ids *prompt, const trs_ids *prefix, sv_err *err);
/* Index of the language heard in the window, and how probable. */
void trs_detect(trs *s, int32_t *lang, float *probability);

/* Words of segments that came from one window of n_frames mel frames, beginning at time_offset. */
SV_MUST sv_rc trs_add_words(trs *s, sv_spoken_segment *segments, int32_t n, int64_t n_frames, double last_speech, sv_err *err);

#endif
