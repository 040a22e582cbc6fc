/* kv.c - the pages of a model's KV cache, and the prefixes that are kept in them
 *
 * Pages and not one block a request: a request's length is known only when it ends, and what it does not use must be another's. A page of a
 * 1B model is about 2 MiB, so the allocator maps each by itself and a trim gives it back to the system.
 *
 * Full pages hang in a radix tree whose edges are the SV_KV_PAGE tokens of a page:
 *
 *     tenant a ── "<s> You are a helpful ..." ─┬─ "What is the ..." ── ...
 *                                              └─ "Write a poem ..."
 *     tenant b ── "<s> You are a helpful ..."          (the same text, yet another page)
 *
 * A page's keys and values follow from all tokens up to its end, so a path from the root names its content. What a model computes for a
 * sequence does not depend on how its prompt was cut, on other sequences, or on whether a token came from a prompt or was chosen (models/llm.h);
 * hence text that was written is kept just as prompts are, and the next turn of a conversation finds its own history. Each tenant has a
 * root of its own: what one sends can neither be read nor be guessed, by the time an answer takes, by another.
 *
 * A text that leaves the tree in the middle of a page still shares its beginning with some page there: that much is copied into a page of its
 * own (a page takes 0.1 ms or so, a computed position of a 135M model 1 ms). Only the newest children are looked at, so that a tenant whose
 * requests all go their own way after a common beginning does not pay for the number of them.
 *
 * Edges are found by one hash table over (parent, tokens) and compared in full, so a step down costs the same however many children there
 * are, and no hash decides what a client reads. The hash is seeded: nobody outside can aim at a bucket.
 *
 * Invariants:
 *   1. Each page that exists is in one place: private to a sequence, kept by a node, or in the free list; together at most n_pages. A page in the
 *      free list is used before one is made.
 *   2. n_refs of a node is the number of sequences with it in their path. A path is whole: who reads a node reads all above it, so
 *      n_refs never grows on the way down.
 *   3. The idle list holds the page nodes with n_refs == 0, in the order in which they were let go, each path from its end. So children stand
 *      before their parents, and the head has none: it can always go.
 *   4. A kept page is never written again, and its node's tokens never change.
 *   5. Free pages may hold what an earlier request computed. Nobody reads a slot of a page before its own step wrote it.
 *   6. A root lives while it has children or sequences. */
#include "engine/kv.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "nn/kernels.h" /* SV_KV_PAGE */

enum { MAX_PAGES = 1 << 24, MIN_BUCKETS = 64, MAX_LOOKED_AT = 64 };

typedef struct sv_kv_node node;
struct sv_kv_node {
    node *parent;       /* NULL: a tenant's root */
    node *in_bucket;    /* the next of its bucket */
    node *prev, *next;  /* inv. 3; NULL where it is not in the list, or at an end of it */
    node *child;        /* the newest */
    node *newer, *older; /* among the parent's children */
    uint64_t hash;
    void *page;         /* NULL: a root */
    int32_t n_refs, n_children;
    union {
        int32_t tokens[SV_KV_PAGE];
        char tenant[SV_KV_MAX_TENANT]; /* of a root; zeros after it */
    } key;
};

struct sv_kv {
    size_t page_bytes;
    int32_t n_pages;
    int32_t n_private, n_kept, n_free, n_idle; /* inv. 1; idle ones are among the kept */
    void **free_pages;  /* [n_free], room for cap_free */
    int32_t cap_free;
    node **buckets;     /* [n_buckets], a power of two */
    size_t n_buckets, n_nodes;
    node *idle, *idle_end;
    uint64_t seed;
};

sv_kv *sv_kv_new(size_t page_bytes, size_t budget_bytes)
{
    SV_ASSERT(page_bytes > 0);
    sv_kv *kv = sv_xnew0(sv_kv);
    size_t n = budget_bytes / page_bytes;
    kv->page_bytes = page_bytes;
    kv->n_pages = n < 1 ? 1 : n > MAX_PAGES ? MAX_PAGES : (int32_t)n;
    kv->n_buckets = MIN_BUCKETS;
    kv->buckets = sv_xcalloc(kv->n_buckets, sizeof *kv->buckets);
    sv_random(&kv->seed, sizeof kv->seed);
    return kv;
}

sv_kv *sv_kv_free(sv_kv *kv)
{
    if (!kv)
        return NULL;
    SV_ASSERT(kv->n_private == 0 && kv->n_kept == kv->n_idle);
    sv_kv_trim(kv, 0);
    SV_ASSERT(kv->n_nodes == 0 && kv->n_kept == 0);
    free(kv->buckets);
    free(kv);
    return NULL;
}

sv_kv_stats sv_kv_get_stats(const sv_kv *kv)
{
    return (sv_kv_stats){.n_pages = kv->n_pages, .n_used = kv->n_private + kv->n_kept - kv->n_idle, .n_cached = kv->n_idle};
}

/* --- the tree ------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const sv_kv *kv, const node *parent, const int32_t *tokens)
{
    return sv_hash64(tokens, sizeof parent->key, parent ? parent->hash : kv->seed);
}

static node *find(const sv_kv *kv, const node *parent, const int32_t *key, uint64_t hash)
{
    node *x = kv->buckets[hash & (kv->n_buckets - 1)];
    while (x && !(x->hash == hash && x->parent == parent && memcmp(x->key.tokens, key, sizeof x->key) == 0))
        x = x->in_bucket;
    return x;
}

static node *child_of(const sv_kv *kv, const node *parent, const int32_t *tokens)
{
    return find(kv, parent, tokens, hash_of(kv, parent, tokens));
}

static void double_buckets(sv_kv *kv)
{
    size_t n = 2 * kv->n_buckets;
    node **buckets = sv_xcalloc(n, sizeof *buckets);
    for (size_t i = 0; i < kv->n_buckets; i++)
        for (node *x = kv->buckets[i], *next; x; x = next) {
            next = x->in_bucket;
            x->in_bucket = buckets[x->hash & (n - 1)];
            buckets[x->hash & (n - 1)] = x;
        }
    free(kv->buckets);
    kv->buckets = buckets;
    kv->n_buckets = n;
}

static node *node_new(sv_kv *kv, node *parent, const int32_t *key, void *page)
{
    node *x = sv_xnew0(node);
    x->parent = parent;
    x->hash = hash_of(kv, parent, key);
    x->page = page;
    memcpy(x->key.tokens, key, sizeof x->key);
    if (kv->n_nodes >= kv->n_buckets)
        double_buckets(kv);
    node **bucket = &kv->buckets[x->hash & (kv->n_buckets - 1)];
    x->in_bucket = *bucket;
    *bucket = x;
    kv->n_nodes++;
    if (parent) {
        parent->n_children++;
        x->older = parent->child;
        if (x->older)
            x->older->newer = x;
        parent->child = x;
    }
    return x;
}

static void node_free(sv_kv *kv, node *x)
{
    if (x->parent) {
        *(x->newer ? &x->newer->older : &x->parent->child) = x->older;
        if (x->older)
            x->older->newer = x->newer;
        x->parent->n_children--;
    }
    node **at = &kv->buckets[x->hash & (kv->n_buckets - 1)];
    while (*at != x)
        at = &(*at)->in_bucket;
    *at = x->in_bucket;
    kv->n_nodes--;
    free(x);
}

static void root_check(sv_kv *kv, node *x) /* inv. 6 */
{
    if (!x->parent && x->n_refs == 0 && x->n_children == 0)
        node_free(kv, x);
}

/* The key of a tenant's root. */
static void root_key(int32_t key[SV_KV_PAGE], const char *tenant)
{
    size_t n = strlen(tenant);
    SV_ASSERT(n < SV_KV_MAX_TENANT);
    memset(key, 0, SV_KV_PAGE * sizeof *key);
    memcpy(key, tenant, n);
}

/* --- idle nodes ----------------------------------------------------------------------------------------------------- */

static void idle_add(sv_kv *kv, node *x)
{
    x->prev = kv->idle_end;
    x->next = NULL;
    *(kv->idle_end ? &kv->idle_end->next : &kv->idle) = x;
    kv->idle_end = x;
    kv->n_idle++;
}

static void idle_remove(sv_kv *kv, node *x)
{
    *(x->prev ? &x->prev->next : &kv->idle) = x->next;
    *(x->next ? &x->next->prev : &kv->idle_end) = x->prev;
    x->prev = x->next = NULL;
    kv->n_idle--;
}

/* Takes the page of the least recently used node; NULL: there is none. */
static void *evict(sv_kv *kv)
{
    node *x = kv->idle;
    if (!x)
        return NULL;
    SV_ASSERT(x->n_children == 0 && x->n_refs == 0); /* inv. 3 */
    void *page = x->page;
    node *parent = x->parent;
    idle_remove(kv, x);
    node_free(kv, x);
    kv->n_kept--;
    root_check(kv, parent);
    return page;
}

static void ref(sv_kv *kv, node *x)
{
    if (x->n_refs++ == 0 && x->page)
        idle_remove(kv, x);
}

static void unref(sv_kv *kv, node *x)
{
    if (--x->n_refs > 0)
        return;
    if (x->page)
        idle_add(kv, x);
    else
        root_check(kv, x);
}

/* --- pages ---------------------------------------------------------------------------------------------------------- */

static void free_page(sv_kv *kv, void *page)
{
    if (kv->n_free == kv->cap_free) {
        kv->cap_free = kv->cap_free ? 2 * kv->cap_free : 16;
        kv->free_pages = sv_xrealloc(kv->free_pages, (size_t)kv->cap_free, sizeof *kv->free_pages);
    }
    kv->free_pages[kv->n_free++] = page;
}

/* Free, new, or the least useful. */
static sv_rc take_page(sv_kv *kv, void **out, sv_err *err)
{
    void *page = NULL;
    if (kv->n_free > 0)
        page = kv->free_pages[--kv->n_free];
    else if (kv->n_private + kv->n_kept < kv->n_pages)
        page = sv_try_aligned(kv->page_bytes, 64);
    bool full = !page && kv->n_private + kv->n_kept >= kv->n_pages;
    if (!page)
        page = evict(kv);
    if (!page && full)
        return sv_fail(err, SV_ELIMIT, "all %d pages of the KV cache are in use", kv->n_pages);
    if (!page)
        return sv_fail(err, SV_ENOMEM, "no memory for the KV cache: %zu KiB", kv->page_bytes >> 10);
    *out = page;
    return SV_OK;
}

void sv_kv_trim(sv_kv *kv, int32_t most)
{
    while (kv->n_idle > most)
        free_page(kv, evict(kv));
    for (int32_t i = 0; i < kv->n_free; i++)
        free(kv->free_pages[i]);
    free(kv->free_pages);
    kv->free_pages = NULL;
    kv->n_free = kv->cap_free = 0;
}

/* --- sequences ------------------------------------------------------------------------------------------------------ */

sv_rc sv_kv_open(sv_kv *kv, sv_kv_seq *seq, const char *tenant, int32_t max_pages, sv_err *err)
{
    int32_t key[SV_KV_PAGE];
    void **page = sv_try_calloc((size_t)max_pages, sizeof *page);
    node **path = sv_try_calloc((size_t)max_pages, sizeof *path);
    if (!page || !path) {
        free(page);
        free(path);
        return sv_fail(err, SV_ENOMEM, "no memory for another request");
    }
    root_key(key, tenant);
    node *root = child_of(kv, NULL, key);
    if (!root)
        root = node_new(kv, NULL, key, NULL);
    ref(kv, root);
    *seq = (sv_kv_seq){.page = page, .path = path, .max_pages = max_pages, .node = root};
    return SV_OK;
}

void sv_kv_close(sv_kv *kv, sv_kv_seq *seq)
{
    if (!seq->page)
        return;
    for (int32_t i = seq->n_kept; i < seq->n_pages; i++)
        free_page(kv, seq->page[i]);
    kv->n_private -= seq->n_pages - seq->n_kept;
    node *root = seq->n_kept > 0 ? seq->path[0]->parent : seq->node;
    for (int32_t i = seq->n_kept; i-- > 0;) /* from the end: inv. 3 */
        unref(kv, seq->path[i]);
    unref(kv, root);
    free(seq->page);
    free(seq->path);
    *seq = (sv_kv_seq){0};
}

int32_t sv_kv_match(const sv_kv *kv, const char *tenant, const int32_t *tokens, int32_t n, int32_t *n_idle)
{
    int32_t key[SV_KV_PAGE], n_found = 0;
    *n_idle = 0;
    root_key(key, tenant);
    const node *x = child_of(kv, NULL, key);
    for (; x && n_found < n / SV_KV_PAGE; n_found++) {
        x = child_of(kv, x, tokens + (size_t)n_found * SV_KV_PAGE);
        if (!x)
            break;
        *n_idle += x->n_refs == 0;
    }
    return n_found;
}

static void push_kept(sv_kv *kv, sv_kv_seq *seq, node *x)
{
    ref(kv, x);
    seq->page[seq->n_kept] = x->page;
    seq->path[seq->n_kept++] = x;
    seq->node = x;
}

void sv_kv_attach(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens, int32_t n)
{
    while (seq->n_kept < n / SV_KV_PAGE && seq->n_kept < seq->max_pages) {
        node *x = child_of(kv, seq->node, tokens + (size_t)seq->n_kept * SV_KV_PAGE);
        if (!x)
            break;
        if (seq->n_kept < seq->n_pages) {
            free_page(kv, seq->page[seq->n_kept]);
            kv->n_private--;
        } else {
            seq->n_pages++;
        }
        push_kept(kv, seq, x);
    }
}

sv_rc sv_kv_grow(sv_kv *kv, sv_kv_seq *seq, sv_err *err)
{
    void *page = NULL;
    SV_ASSERT(seq->n_pages < seq->max_pages);
    if (take_page(kv, &page, err) != SV_OK)
        return err->code;
    seq->page[seq->n_pages++] = page;
    kv->n_private++;
    return SV_OK;
}

static int32_t n_common(const node *x, const int32_t *tokens, int32_t n)
{
    int32_t i = 0;
    while (i < n && i < SV_KV_PAGE && x->key.tokens[i] == tokens[i])
        i++;
    return i;
}

int32_t sv_kv_copy(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens, int32_t n)
{
    node *best = NULL, *x = seq->node->child;
    int32_t most = 0;
    sv_err err = {0};
    SV_ASSERT(seq->n_pages == seq->n_kept);
    for (int i = 0; x && i < MAX_LOOKED_AT && most < n; i++, x = x->older) {
        int32_t m = n_common(x, tokens, n);
        if (m > most) {
            most = m;
            best = x;
        }
    }
    if (!best || seq->n_pages == seq->max_pages)
        return 0;
    ref(kv, best); /* or it could be the one that makes room */
    sv_rc rc = sv_kv_grow(kv, seq, &err);
    if (rc == SV_OK)
        memcpy(seq->page[seq->n_kept], best->page, kv->page_bytes);
    unref(kv, best);
    return rc == SV_OK ? most : 0; /* without a page of its own the sequence is as it was */
}

void sv_kv_keep(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens)
{
    SV_ASSERT(seq->n_kept < seq->n_pages);
    void *own = seq->page[seq->n_kept];
    node *x = child_of(kv, seq->node, tokens);
    if (x) {
        free_page(kv, own);
    } else {
        x = node_new(kv, seq->node, tokens, own);
        kv->n_kept++;
        idle_add(kv, x); /* until the next line but one */
    }
    kv->n_private--;
    push_kept(kv, seq, x);
}
