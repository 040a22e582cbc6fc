/* speech.h - what requests to speech models ask, and what they answer, as the JSON of client.h's sv_engine_media
 *
 *     in   language, task ("translate"), initial_prompt, prefix, condition_on_previous_text, words, beam_size, vad_filter, temperature, max_seconds,
 *          no_speech_threshold, compression_ratio_threshold, log_prob_threshold, hallucination_silence_threshold; all optional
 *     out  {"language", "language_name", "language_probability", "duration", "duration_after_vad", "text", "segments": [{"start", "end", "text", "temperature", "avg_logprob",
 *          "compression_ratio", "no_speech_prob", "tokens": [ids], "words": [{"word", "start", "end", "probability"}]}]}; times in seconds; words only
 *          where asked for
 *
 * Refusals: SV_EFORMAT of the sound and SV_EINVAL of an option have api_code 5006, SV_ELIMIT of its length 3006; SV_ETIMEDOUT: it took too long to decode.
 * The family itself is sv_media_speech (media.h). Threads: the model's. */
#ifndef SV_ENGINE_SPEECH_H
#define SV_ENGINE_SPEECH_H

enum { SV_SPEECH_MAX_SECONDS = 7200 }; /* of a recording */

#endif
