/* sampler.c - from logits to the next token
 *
 * A vocabulary has 32,000 to 256,000 tokens and a batch tens of requests, so a sort of all of them a token is what this avoids:
 *   - top_k keeps a heap of k while it reads the logits once.
 *   - top_p alone looks only at tokens of probability at least (1 - top_p) / n_vocab. All others together weigh less than
 *     1 - top_p, so the ones that are left reach top_p, and what top_p keeps is among them. Typically that leaves hundreds to sort.
 *   - typical_p without top_k sorts all of it: how far a token is from the entropy says nothing about its rank.
 *   - Without these nothing is sorted: the draw walks the vocabulary in order of ids.
 *
 * Sums are float64, in a fixed order, of float32 exponentials: the same logits give the same token on the same machine. The draw compares
 * u * total with running sums of the same terms in the same order as total was summed, so rounding cannot run past the end; if it did,
 * the last possible token is taken.
 *
 * Random numbers: SplitMix64 (Steele, Lea, Flood 2014), 53 bits of each. One a token, drawn for greedy requests never. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"

/* A token in the running. p is its logit less the largest, over the temperature; later exp of that: a probability that is not normalised. */
typedef struct cand {
    float p;
    int32_t id;
} cand;

/* A token by how far it is from the typical: |-ln p - H|. */
typedef struct odd { double far; cand c; } odd;

struct sv_sampler {
    sv_sampling o;
    int32_t n_vocab;
    uint64_t random;
    cand *cands;       /* [n_vocab]; NULL where greedy */
    odd *odds;         /* [n_vocab]; only with typical_p: scratch */
    /* Only with penalties: */
    int32_t *n_seen;   /* [n_vocab]: times in the text; -1: in the prompt alone */
    int32_t *seen;     /* the distinct tokens in n_seen, in order of appearance */
    int32_t n_distinct;
    /* Only with logprobs: */
    float *raw;        /* [n_vocab]: the logits as the model gave them */
    sv_token_probs probs;
};

static bool has_penalties(const sv_sampling *o)
{
    return (o->repetition_penalty > 0 && o->repetition_penalty != 1) || o->frequency_penalty != 0 || o->presence_penalty != 0;
}

sv_rc sv_sampler_new(sv_sampler **out, const sv_sampling *sampling, int32_t n_vocab, sv_err *err)
{
    SV_ASSERT(n_vocab > 0);
    SV_AUTO(sv_sampler_freep) sv_sampler *s = sv_xnew0(sv_sampler);
    s->o = *sampling;
    s->n_vocab = n_vocab;
    s->random = sampling->seed;
    if (!sampling->has_seed)
        sv_random(&s->random, sizeof s->random);
    if (s->o.temperature > 0 && !(s->cands = sv_try_calloc((size_t)n_vocab, sizeof *s->cands)))
        return sv_fail(err, SV_ENOMEM, "no memory to sample from %d tokens", n_vocab);
    bool typical = s->cands && s->o.typical_p > 0 && s->o.typical_p < 1;
    if (typical && !(s->odds = sv_try_calloc((size_t)n_vocab, sizeof *s->odds)))
        return sv_fail(err, SV_ENOMEM, "no memory to sample from %d tokens", n_vocab);
    if (has_penalties(&s->o) && (!(s->n_seen = sv_try_calloc((size_t)n_vocab, sizeof *s->n_seen)) ||
                                 !(s->seen = sv_try_calloc((size_t)n_vocab, sizeof *s->seen))))
        return sv_fail(err, SV_ENOMEM, "no memory for penalties over %d tokens", n_vocab);
    if (s->o.logprobs && !(s->raw = sv_try_calloc((size_t)n_vocab, sizeof *s->raw)))
        return sv_fail(err, SV_ENOMEM, "no memory for the probabilities of %d tokens", n_vocab);
    *out = SV_TAKE(s);
    return SV_OK;
}

sv_sampler *sv_sampler_free(sv_sampler *s)
{
    if (s) {
        free(s->cands);
        free(s->odds);
        free(s->n_seen);
        free(s->seen);
        free(s->raw);
    }
    free(s);
    return NULL;
}

void sv_sampler_see(sv_sampler *s, const int32_t *tokens, int32_t n, bool in_prompt)
{
    for (int32_t i = 0; s->n_seen && i < n; i++) {
        int32_t *count = &s->n_seen[tokens[i]];
        if (*count == 0)
            s->seen[s->n_distinct++] = tokens[i];
        if (in_prompt)
            *count = *count == 0 ? -1 : *count;
        else
            *count = *count < 0 ? 1 : *count + 1;
    }
}

static void bias(const sv_sampler *s, float *logits)
{
    for (int32_t i = 0; i < s->o.n_logit_bias; i++)
        logits[s->o.logit_bias[i].token] += s->o.logit_bias[i].bias;
}

static void penalise(const sv_sampler *s, float *logits)
{
    float r = s->o.repetition_penalty > 0 ? s->o.repetition_penalty : 1;
    for (int32_t i = 0; i < s->n_distinct; i++) {
        float *l = &logits[s->seen[i]];
        int32_t times = s->n_seen[s->seen[i]];
        *l = *l > 0 ? *l / r : *l * r;
        if (times > 0)
            *l -= s->o.frequency_penalty * (float)times + s->o.presence_penalty;
    }
}

/* The first of the largest; NaN never wins. -1: all are NaN or -infinity. */
static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = -1;
    float most = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > most) {
            most = logits[i];
            best = i;
        }
    return best;
}

/* Is a before b: more probable, or as probable with a lower id. */
static bool before(cand a, cand b)
{
    return a.p > b.p || (a.p == b.p && a.id < b.id);
}

static int by_p(const void *a, const void *b)
{
    const cand *x = a, *y = b;
    return before(*x, *y) ? -1 : before(*y, *x) ? 1 : 0;
}

/* Restores the heap below i: the root is the last one by before(). */
static void sift_down(cand *heap, int32_t n, int32_t i)
{
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1]))
            child++;
        if (!before(heap[i], heap[child]))
            return;
        cand t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
    }
}

/* The k first of logits into cands, in no order. */
static int32_t take_top_k(cand *cands, const float *logits, int32_t n_vocab, int32_t k)
{
    int32_t n = 0;
    for (int32_t id = 0; id < n_vocab; id++) {
        cand c = {logits[id], id};
        if (!(c.p > -INFINITY)) /* NaN too */
            continue;
        if (n < k) {
            cands[n++] = c;
            if (n == k)
                for (int32_t i = k / 2 - 1; i >= 0; i--)
                    sift_down(cands, k, i);
        } else if (before(c, cands[0])) {
            cands[0] = c;
            sift_down(cands, k, 0);
        }
    }
    return n;
}

static int32_t take_all(cand *cands, const float *logits, int32_t n_vocab)
{
    int32_t n = 0;
    for (int32_t id = 0; id < n_vocab; id++)
        if (logits[id] > -INFINITY)
            cands[n++] = (cand){logits[id], id};
    return n;
}

/* Logits to exp((logit - most) / temperature). Dividing after subtracting: the largest is exactly 1, and a tiny
 * temperature sends the others to 0 and nothing to infinity. */
static void exponentials(cand *cands, int32_t n, float most, float temperature)
{
    for (int32_t i = 0; i < n; i++)
        cands[i].p = expf((cands[i].p - most) / temperature);
}

static double sum_of(const cand *cands, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)cands[i].p;
    return sum;
}

/* Keeps those of p >= least. */
static int32_t keep_from(cand *cands, int32_t n, double least)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if ((double)cands[i].p >= least)
            cands[kept++] = cands[i];
    return kept;
}

static double largest_p(const cand *cands, int32_t n)
{
    double most = 0;
    for (int32_t i = 0; i < n; i++)
        most = fmax(most, (double)cands[i].p);
    return most;
}

/* Keeps the fewest from the start that reach `share` of the sum, at least one. */
static int32_t keep_share(const cand *cands, int32_t n, double share)
{
    double reached = 0;
    for (int32_t i = 0; i < n; i++) {
        reached += (double)cands[i].p;
        if (reached >= share)
            return i + 1;
    }
    return n;
}

static int by_far(const void *a, const void *b)
{
    const odd *x = a, *y = b;
    return x->far < y->far ? -1 : x->far > y->far ? 1 : x->c.id < y->c.id ? -1 : x->c.id > y->c.id;
}

static int32_t keep_typical(odd *odds, cand *cands, int32_t n, double typical_p)
{
    double sum = sum_of(cands, n), entropy = 0;
    for (int32_t i = 0; i < n; i++) {
        double p = (double)cands[i].p / sum;
        odds[i] = (odd){p > 0 ? -log(p) : INFINITY, cands[i]};
        entropy += p > 0 ? p * odds[i].far : 0;
    }
    for (int32_t i = 0; i < n; i++)
        odds[i].far = fabs(odds[i].far - entropy);
    qsort(odds, (size_t)n, sizeof *odds, by_far);
    for (int32_t i = 0; i < n; i++)
        cands[i] = odds[i].c;
    return keep_share(cands, n, typical_p * sum);
}

static int32_t keep_top_p(cand *cands, int32_t n, double top_p)
{
    double sum = sum_of(cands, n);
    n = keep_from(cands, n, fmin(largest_p(cands, n), sum * (1 - top_p) / n));
    qsort(cands, (size_t)n, sizeof *cands, by_p);
    return keep_share(cands, n, top_p * sum);
}

static double draw(sv_sampler *s)
{
    uint64_t z = (s->random += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t pick(const cand *cands, int32_t n, double u)
{
    double at = u * sum_of(cands, n), reached = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (cands[i].p <= 0)
            continue;
        reached += (double)cands[i].p;
        last = i;
        if (reached > at)
            break;
    }
    return cands[last].id;
}

/* --- log probabilities -------------------------------------------------------------------------------------------- */

/* ln sum exp(l), in float64 and in the order of ids. */
static double log_sum(const float *logits, int32_t n, float most)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > -INFINITY)
            sum += exp((double)logits[i] - (double)most);
    return (double)most + log(sum);
}

/* An infinite logit, which only a broken model gives, has all the probability. */
static float logprob(float logit, float most, double total)
{
    if (isinf(most))
        return logit == most ? 0 : -INFINITY;
    return logit > -INFINITY ? (float)((double)logit - total) : -INFINITY;
}

static void note_probs(sv_sampler *s, int32_t chosen)
{
    cand top[SV_MAX_TOP_LOGPROBS];
    int32_t best = largest(s->raw, s->n_vocab);
    float most = best < 0 ? INFINITY : s->raw[best];
    double total = isinf(most) ? 0 : log_sum(s->raw, s->n_vocab, most);
    s->probs = (sv_token_probs){.chosen = {.token = chosen, .logprob = logprob(s->raw[chosen], most, total)}};
    int32_t n = s->o.top_logprobs > SV_MAX_TOP_LOGPROBS ? SV_MAX_TOP_LOGPROBS : s->o.top_logprobs;
    n = n > 0 ? take_top_k(top, s->raw, s->n_vocab, n) : 0;
    qsort(top, (size_t)n, sizeof *top, by_p);
    s->probs.n_top = n;
    for (int32_t i = 0; i < n; i++)
        s->probs.top[i] = (sv_token_prob){.token = top[i].id, .logprob = logprob(top[i].p, most, total)};
}

const sv_token_probs *sv_sampler_probs(const sv_sampler *s) { return &s->probs; }

/* --- all together ------------------------------------------------------------------------------------------------- */

static int32_t choose(sv_sampler *s, float *logits)
{
    bias(s, logits);
    penalise(s, logits);
    int32_t best = largest(logits, s->n_vocab);
    if (best < 0 || !s->cands || isinf(logits[best]))
        return best;
    float most = logits[best];
    bool cut_k = s->o.top_k > 0 && s->o.top_k < s->n_vocab;
    int32_t n = cut_k ? take_top_k(s->cands, logits, s->n_vocab, s->o.top_k) : take_all(s->cands, logits, s->n_vocab);
    if (cut_k) /* an order that does not hang on how the heap was built */
        qsort(s->cands, (size_t)n, sizeof *s->cands, by_p);
    exponentials(s->cands, n, most, s->o.temperature);
    if (s->odds)
        n = keep_typical(s->odds, s->cands, n, (double)s->o.typical_p);
    if (s->o.top_p > 0 && s->o.top_p < 1)
        n = keep_top_p(s->cands, n, (double)s->o.top_p);
    if (s->o.min_p > 0)
        n = keep_from(s->cands, n, fmin(1, (double)s->o.min_p) * largest_p(s->cands, n));
    return pick(s->cands, n, draw(s));
}

int32_t sv_sampler_next(sv_sampler *s, float *logits)
{
    if (s->raw)
        memcpy(s->raw, logits, (size_t)s->n_vocab * sizeof *logits);
    int32_t id = choose(s, logits);
    if (s->raw && id >= 0)
        note_probs(s, id);
    return id;
}
