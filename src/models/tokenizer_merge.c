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

static bool before(const tok_cand *a, const tok_cand *b)
{
    return a->priority > b->priority || (a->priority == b->priority && a->left < b->left);
}

static void sift_down(tok_cand *v, size_t n)
{
    tok_cand x = v[0];
    size_t i = 0;
    for (size_t kid; (kid = 2 * i + 1) < n; i = kid) {
        if (kid + 1 < n && before(&v[kid + 1], &v[kid]))
            kid++;
        if (!before(&v[kid], &x))
            break;
        v[i] = v[kid];
    }
    v[i] = x;
}

static sv_rc push(tok_work *w, tok_cand x, sv_err *err)
{
    if (w->n_heap == w->cap_heap && sv_tok_reserve((void **)&w->heap, &w->cap_heap, w->n_heap + 1, sizeof x, err) != SV_OK)
        return err->code;
    size_t i = w->n_heap++;
    for (; i > 0 && before(&x, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = x;
    return SV_OK;
}

static tok_cand pop(tok_work *w)
{
    tok_cand top = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 0)
        sift_down(w->heap, w->n_heap);
    return top;
}

sv_rc sv_tok_merge(const sv_tokenizer *t, const char *text, size_t n, tok_join_fn *join, tok_work *w, sv_err *err)
{
    tok_sym *syms = w->syms;
    w->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        tok_cand c = {.left = (int32_t)i, .len = syms[i].len + syms[i + 1].len};
        if (join(t, text, &syms[i], &syms[i + 1], &c.id, &c.priority) && push(w, c, err) != SV_OK)
            return err->code;
    }
    while (w->n_heap > 0) {
        tok_cand best = pop(w);
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
            tok_cand c = {.left = lefts[k], .len = l->len + r->len};
            if (join(t, text, l, r, &c.id, &c.priority) && push(w, c, err) != SV_OK)
                return err->code;
        }
    }
    return SV_OK;
}
