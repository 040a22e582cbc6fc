/* sampler.h - from logits to the next token
 *
 * The order is fixed: penalties, temperature, top_k, top_p, min_p, then one draw:
 *     repetition_penalty  every token that the prompt or the text holds: logit / r where positive, logit * r where not (Keskar et al. 2019)
 *     frequency, presence logit -= frequency * (times in the text) + presence (if in the text); the prompt does not count
 *     temperature         logit / temperature; 0 is greedy: the largest logit after penalties, of equal ones the lowest id
 *     top_k               the k most probable; of equal ones the lowest ids
 *     top_p               of those, renormalised: the fewest whose sum reaches top_p, at least one
 *     min_p               of those, the ones at least min_p times as probable as the most probable
 *
 * The random numbers are the request's own: they follow from the seed and from how many were drawn, so that the same logits give the same
 * text whatever else runs.
 *
 * Threads: one at a time; no state is shared between samplers. */
#ifndef SV_ENGINE_SAMPLER_H
#define SV_ENGINE_SAMPLER_H

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/client.h" /* sv_sampling */

typedef struct sv_sampler sv_sampler;

/* For logits of n_vocab tokens. Without a seed it takes one from the kernel. SV_ENOMEM. */
SV_MUST sv_rc sv_sampler_new(sv_sampler **out, const sv_sampling *sampling, int32_t n_vocab, sv_err *err);
sv_sampler *sv_sampler_free(sv_sampler *s); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_sampler, sv_sampler_free)
/* Tells which tokens there are, for the penalties: those of the prompt once, then each token that was chosen. */
void sv_sampler_see(sv_sampler *s, const int32_t *tokens, int32_t n, bool in_prompt);
/* The next token; logits [n_vocab] are scratch afterwards. NaN counts as impossible; -1: nothing is possible (a broken model). */
int32_t sv_sampler_next(sv_sampler *s, float *logits);

#endif
