/* sampler.c - from logits to the next token
 *
 * A vocabulary has 32,000 to 256,000 tokens and a batch tens of requests, so a sort of all of them a token is what this avoids:
 *   - top_k keeps a heap of k while it reads the logits once.
 *   - top_p alone looks only at tokens of probability at least (1 - top_p) / n_vocab. All others together weigh less than
 *     1 - top_p, so the ones that are left reach top_p, and what top_p keeps is among them. Typically that leaves hundreds to sort.
 *   - Without both nothing is sorted: the draw walks the vocabulary in order of ids.
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

struct sv_sampler {
    sv_sampling o;
    int32_t n_vocab;
    uint64_t random;
    cand *cands;       /* [n_vocab]; NULL where greedy */
    /* Only with penalties: */
    int32_t *n_seen;   /* [n_vocab]: times in the text; -1: in the prompt alone */
    int32_t *seen;     /* the distinct tokens in n_seen, in order of appearance */
    int32_t n_distinct;
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
    if (has_penalties(&s->o) && (!(s->n_seen = sv_try_calloc((size_t)n_vocab, sizeof *s->n_seen)) ||
                                 !(s->seen = sv_try_calloc((size_t)n_vocab, sizeof *s->seen))))
        return sv_fail(err, SV_ENOMEM, "no memory for penalties over %d tokens", n_vocab);
    *out = SV_TAKE(s);
    return SV_OK;
}

sv_sampler *sv_sampler_free(sv_sampler *s)
{
    if (s) {
        free(s->cands);
        free(s->n_seen);
        free(s->seen);
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

/* Logits to exp((logit - most) / temperature); returns the sum. Dividing after subtracting: the largest is exactly 1, and a tiny
 * temperature sends the others to 0 and nothing to infinity. */
static double exponentials(cand *cands, int32_t n, float most, float temperature)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        cands[i].p = expf((cands[i].p - most) / temperature);
        sum += (double)cands[i].p;
    }
    return sum;
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

static int32_t keep_top_p(cand *cands, int32_t n, double sum, double top_p)
{
    double reached = 0;
    n = keep_from(cands, n, fmin(1, sum * (1 - top_p) / n)); /* 1 is the largest: at least that stays */
    qsort(cands, (size_t)n, sizeof *cands, by_p);
    for (int32_t i = 0; i < n; i++) {
        reached += (double)cands[i].p;
        if (reached >= top_p * sum)
            return i + 1;
    }
    return n;
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

int32_t sv_sampler_next(sv_sampler *s, float *logits)
{
    penalise(s, logits);
    int32_t best = largest(logits, s->n_vocab);
    if (best < 0 || !s->cands || isinf(logits[best]))
        return best;
    float most = logits[best];
    bool cut_k = s->o.top_k > 0 && s->o.top_k < s->n_vocab;
    int32_t n = cut_k ? take_top_k(s->cands, logits, s->n_vocab, s->o.top_k) : take_all(s->cands, logits, s->n_vocab);
    if (cut_k) /* an order that does not hang on how the heap was built */
        qsort(s->cands, (size_t)n, sizeof *s->cands, by_p);
    double sum = exponentials(s->cands, n, most, s->o.temperature);
    if (s->o.top_p > 0 && s->o.top_p < 1)
        n = keep_top_p(s->cands, n, sum, (double)s->o.top_p);
    if (s->o.min_p > 0)
        n = keep_from(s->cands, n, fmin(1, (double)s->o.min_p));
    return pick(s->cands, n, draw(s));
}
