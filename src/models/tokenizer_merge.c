/* tokenizer_merge.c - joins neighbouring symbols, the best pair first
 *
 * Both families of byte-pair vocabularies mean the same procedure: of all neighbours that join into a token take the pair with
 * the highest priority, the leftmost among equals, join it, look at the two new neighbourhoods, repeat. Scanning for the best
 * pair each time is quadratic, and a megabyte without a space is something a client can send. So candidates sit in a binary
 * heap: each of the n characters adds one, each of at most n - 1 joins adds two, so the whole costs O(n log n).
 *
 * A candidate is never removed when its symbols change; it is recognised as stale when it surfaces:
 *   1. A symbol only grows to the right, by swallowing its next. A swallowed symbol has len 0 for ever.
 *   2. A candidate holds its left symbol and the bytes of the pair. The lengths of left and of its next add up to that number
 *      exactly when both are as they were: by 1 any change of either makes the sum larger or the left one dead. */
#include "models/tokenizer_impl.h"

typedef struct cand {
    float priority;
    int32_t left;
    uint32_t len; /* inv. 2 */
    int32_t id;   /* of the pair joined */
} cand;

typedef struct heap {
    cand *v;
    size_t n, cap;
} heap;

static bool before(const cand *a, const cand *b)
{
    return a->priority > b->priority || (a->priority == b->priority && a->left < b->left);
}

static void sift_down(heap *h, size_t i)
{
    cand x = h->v[i];
    for (size_t kid; (kid = 2 * i + 1) < h->n; i = kid) {
        if (kid + 1 < h->n && before(&h->v[kid + 1], &h->v[kid]))
            kid++;
        if (!before(&h->v[kid], &x))
            break;
        h->v[i] = h->v[kid];
    }
    h->v[i] = x;
}

static sv_rc push(heap *h, cand x, sv_err *err)
{
    if (h->n == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 64;
        cand *v = sv_try_realloc(h->v, cap, sizeof *v);
        if (!v)
            return sv_fail(err, SV_ENOMEM, "no memory for %zu merge candidates", cap);
        h->v = v;
        h->cap = cap;
    }
    size_t i = h->n++;
    for (; i > 0 && before(&x, &h->v[(i - 1) / 2]); i = (i - 1) / 2)
        h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = x;
    return SV_OK;
}

static cand pop(heap *h)
{
    cand top = h->v[0];
    h->v[0] = h->v[--h->n];
    if (h->n > 0)
        sift_down(h, 0);
    return top;
}

static void heap_donep(heap *h)
{
    free(h->v);
}

sv_rc sv_tok_merge(const sv_tokenizer *t, const char *text, tok_sym *syms, size_t n, tok_join_fn *join, sv_err *err)
{
    SV_AUTO(heap_donep) heap h = {0};
    for (size_t i = 0; i + 1 < n; i++) {
        cand c = {.left = (int32_t)i, .len = syms[i].len + syms[i + 1].len};
        if (join(t, text, &syms[i], &syms[i + 1], &c.id, &c.priority) && push(&h, c, err) != SV_OK)
            return err->code;
    }
    while (h.n > 0) {
        cand best = pop(&h);
        tok_sym *a = &syms[best.left];
        if (a->len == 0 || a->next < 0 || a->len + syms[a->next].len != best.len)
            continue; /* stale, inv. 2 */
        tok_sym *b = &syms[a->next];
        a->len = best.len;
        a->id = best.id;
        a->next = b->next;
        b->len = 0; /* inv. 1 */
        if (a->next >= 0)
            syms[a->next].prev = best.left;

        const int32_t lefts[2] = {a->prev, best.left};
        for (int k = 0; k < 2; k++) {
            if (lefts[k] < 0 || syms[lefts[k]].next < 0)
                continue;
            const tok_sym *l = &syms[lefts[k]], *r = &syms[l->next];
            cand c = {.left = lefts[k], .len = l->len + r->len};
            if (join(t, text, l, r, &c.id, &c.priority) && push(&h, c, err) != SV_OK)
                return err->code;
        }
    }
    return SV_OK;
}
