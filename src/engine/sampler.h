/* sampler.h - from logits to the next token
 *
 * The order is fixed: bias, penalties, temperature, top_k, typical_p, top_p, min_p, then one draw. With l a token's logit, p its probability (softmax
 * of the logits at that point, over the tokens that are left):
 *     logit_bias          l + bias, for the tokens named
 *     repetition_penalty  every token that the prompt or the text holds: l / r where positive, l * r where not (Keskar et al. 2019)
 *     frequency, presence l - frequency * (times in the text) - presence (if in the text); the prompt does not count
 *     temperature         l / temperature; 0 is greedy: the largest l so far, of equal ones the lowest id, and nothing below applies
 *     top_k               the k most probable; of equal ones the lowest ids
 *     typical_p           H = -sum p ln p; in the order of |-ln p - H|, of equal ones the lowest ids, the fewest whose sum of p reaches typical_p, at
 *                         least one (Meister et al. 2023, arXiv:2202.00666)
 *     top_p               in the order of p, of equal ones the lowest ids, the fewest whose sum of p reaches top_p, at least one (Holtzman et al. 2020)
 *     min_p               the ones at least min_p times as probable as the most probable (Nguyen et al. 2024, arXiv:2407.01082)
 *
 * The draw: with u uniform in [0, 1), the first token at which the running sum of p, by ids where neither top_k, typical_p nor top_p has put them in
 * another order, is over u. The random numbers are the request's own, one a token: the n-th is the n-th output of SplitMix64 that starts at the seed,
 * its upper 53 bits over 2^53. So the same seed and logits give the same text whatever else runs.
 *
 * Threads: one at a time; no state is shared between samplers. */
#ifndef SV_ENGINE_SAMPLER_H
#define SV_ENGINE_SAMPLER_H

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/client.h" /* sv_sampling */

typedef struct sv_sampler sv_sampler;

/* For logits of n_vocab tokens, the ids in logit_bias among them; that list lives as long as the sampler. Without a seed it takes one from the kernel. SV_ENOMEM. */
SV_MUST sv_rc sv_sampler_new(sv_sampler **out, const sv_sampling *sampling, int32_t n_vocab, sv_err *err);
sv_sampler *sv_sampler_free(sv_sampler *s); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_sampler, sv_sampler_free)
/* Tells which tokens there are, for the penalties: those of the prompt once, then each token that was chosen. */
void sv_sampler_see(sv_sampler *s, const int32_t *tokens, int32_t n, bool in_prompt);
/* The next token; logits [n_vocab] are scratch afterwards. NaN counts as impossible; -1: nothing is possible (a broken model). */
int32_t sv_sampler_next(sv_sampler *s, float *logits);
/* Where sampling.logprobs is set: the probabilities of the token last chosen, bytes empty. Borrowed until the next call. */
const sv_token_probs *sv_sampler_probs(const sv_sampler *s);

#endif
