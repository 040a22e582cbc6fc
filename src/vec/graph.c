/* graph.c - a graph of near neighbours over byte codes
 *
 * One layer. Each node has up to SV_VEC_LINKS neighbours, chosen as in HNSW (Malkov & Yashunin 2016, arXiv:1603.09320) and Vamana
 * (Subramanya et al. 2019): from near to far, a candidate is taken if it is nearer to the node than, times a slack, to any neighbour
 * taken before. A walk keeps the best `width` nodes seen, expands the best that is not expanded, and ends when none is left.
 *
 * HNSW's upper layers only find a place to begin. Here the sign bits do that: blocks of them spread over all nodes are scanned, some
 * thousand vectors in a few microseconds, and the walk begins at the best. That is one structure less to keep consistent, and
 * clusters without a link between them are still reached.
 *
 * All distances are between codes: the walk reads 1 byte a dimension, a quarter of what full vectors take, and is bound by memory.
 * What it finds is scored again by full vectors (query.c).
 *
 * Builders and readers work at the same time. A list of links is a row of atomic numbers, and a builder changes it under the node's
 * lock; a reader takes no lock and may see a mix of an older and a newer list, every entry of which is a node. Nodes never leave; dead
 * ones are walked over and dropped from results, until compaction makes a new graph without them.
 *
 * Invariants:
 *   1. A link names a slot below n_graph + n_building, so its codes exist.
 *   2. A node's own links are written before any other node links to it.
 *   3. visited is all zero between two searches of one sv_vec_walk. */
#include <sched.h>
#include <string.h>

#include "base/thread.h"
#include "vec/vec_impl.h"

enum {
    WIDTH = 48,        /* of a search while building (ef_construction) */
    STRIPES = 4096,
    BATCH = 64,        /* nodes a builder takes at a time */
    ENTRIES = 16,      /* where a walk begins */
    AHEAD = 4,         /* codes asked of memory before they are looked at */
    MAX_ENTRY_BLOCKS = 1024,
};
static const float SLACK = 1.1f; /* Vamana's alpha: longer links stay, walks get shorter */

static inline void prefetch_code(const sv_vec_state *s, uint32_t slot)
{
    const uint8_t *p = sv_vec_code(s, slot);
    for (size_t i = 0; i < s->coder.stride; i += 64)
        __builtin_prefetch(p + i);
    __builtin_prefetch(p + s->coder.stride - 1);
}

static inline _Atomic uint32_t *links_of(const sv_vec_state *s, uint32_t slot)
{
    return s->links + (size_t)slot * SV_VEC_LINKS;
}

/* --- the walk ------------------------------------------------------------------------------------------------------- */

void sv_vec_walk_done(sv_vec_walk *w)
{
    free(w->visited);
    free(w->touched);
    free(w->pool);
    free(w->done);
    *w = (sv_vec_walk){0};
}

static bool make_ready(sv_vec_walk *w, size_t n_slots, size_t width)
{
    size_t words = n_slots / 64 + 1;
    if (words > w->visited_words) {
        uint64_t *v = sv_try_calloc(words + words / 2, sizeof *v); /* all zero (inv. 3), so the old one need not be copied */
        if (!v)
            return false;
        free(w->visited);
        w->visited = v;
        w->visited_words = words + words / 2;
    }
    if (width + 1 > w->pool_cap) {
        uint64_t *p = sv_try_realloc(w->pool, width + 1, sizeof *p);
        w->pool = p ? p : w->pool;
        uint8_t *d = sv_try_realloc(w->done, width + 1, 1);
        w->done = d ? d : w->done;
        if (!p || !d)
            return false;
        w->pool_cap = width + 1;
    }
    if (!w->touched_cap) {
        w->touched = sv_try_calloc(4096, sizeof *w->touched);
        if (!w->touched)
            return false;
        w->touched_cap = 4096;
    }
    w->n = w->n_touched = 0;
    return true;
}

/* true: seen for the first time. */
static inline bool visit(sv_vec_walk *w, uint32_t slot)
{
    uint64_t bit = (uint64_t)1 << slot % 64;
    if (w->visited[slot / 64] & bit)
        return false;
    if (w->n_touched == w->touched_cap) {
        uint32_t *t = sv_try_realloc(w->touched, w->touched_cap * 2, sizeof *t);
        if (!t)
            return false; /* then the walk is narrower */
        w->touched = t;
        w->touched_cap *= 2;
    }
    w->visited[slot / 64] |= bit;
    w->touched[w->n_touched++] = slot;
    return true;
}

/* Into the sorted pool; returns its place, or `width` when it is too far. */
static inline size_t offer(sv_vec_walk *w, size_t width, float score, uint32_t slot)
{
    uint64_t key = (uint64_t)sv_vec_sortable(score) << 32 | slot;
    if (w->n == width && key <= w->pool[w->n - 1])
        return width;
    size_t lo = 0, hi = w->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (w->pool[mid] > key)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t tail = w->n == width ? width - 1 : w->n;
    memmove(&w->pool[lo + 1], &w->pool[lo], (tail - lo) * sizeof w->pool[0]);
    memmove(&w->done[lo + 1], &w->done[lo], tail - lo);
    w->pool[lo] = key;
    w->done[lo] = 0;
    w->n = tail + 1;
    return lo;
}

/* Slots to begin at: the best by sign bits among blocks spread over the graph. */
static size_t entries(const sv_vec_state *s, uint32_t n_graph, const sv_vec_code_query *q, uint32_t *out)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    const sv_vec_bits bits = {s->words, s->bit_scale, s->bit_bias, s->coder.n_words};
    const sv_vec_bit_query bq = {q->planes, q->unit, 15 * s->coder.dimensions};
    size_t n_blocks = n_graph / SV_VEC_BLOCK, take = n_blocks / 64 + 16, n = 0;
    take = take > MAX_ENTRY_BLOCKS ? MAX_ENTRY_BLOCKS : take > n_blocks ? n_blocks : take;
    float best[ENTRIES], floor = -__builtin_inff();
    for (size_t i = 0; i < take; i++) {
        uint32_t slots[SV_VEC_BLOCK];
        float estimates[SV_VEC_BLOCK];
        size_t block = i * n_blocks / take, got = k->scan_bits(&bits, &bq, block, block + 1, NULL, floor, slots, estimates);
        for (size_t j = 0; j < got; j++) {
            if (n == ENTRIES && estimates[j] <= best[n - 1])
                continue;
            size_t at = n == ENTRIES ? n - 1 : n++;
            for (; at > 0 && best[at - 1] < estimates[j]; at--) {
                best[at] = best[at - 1];
                out[at] = out[at - 1];
            }
            best[at] = estimates[j];
            out[at] = slots[j];
            if (n == ENTRIES)
                floor = best[n - 1];
        }
    }
    return n;
}

static void walk(const sv_vec_state *s, uint32_t limit, const sv_vec_code_query *q, size_t width, sv_vec_walk *w)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    for (size_t next = 0; next < w->n;) {
        if (w->done[next]) {
            next++;
            continue;
        }
        w->done[next] = 1;
        uint32_t fresh[SV_VEC_LINKS];
        size_t n = 0, first = w->n;
        _Atomic uint32_t *links = links_of(s, (uint32_t)w->pool[next]);
        for (size_t i = 0; i < SV_VEC_LINKS; i++) {
            uint32_t slot = atomic_load_explicit(&links[i], memory_order_relaxed);
            if (slot == SV_VEC_NONE)
                break;
            if (slot < limit && visit(w, slot))
                fresh[n++] = slot;
        }
        for (size_t i = 0; i < n && i < AHEAD; i++)
            prefetch_code(s, fresh[i]);
        for (size_t i = 0; i < n; i++) {
            if (i + AHEAD < n)
                prefetch_code(s, fresh[i + AHEAD]);
            size_t at = offer(w, width, sv_vec_code_score(k, &s->coder, q, sv_vec_code(s, fresh[i])), fresh[i]);
            first = at < first ? at : first;
        }
        next = first <= next ? first : next + 1;
        if (next < w->n)
            __builtin_prefetch(links_of(s, (uint32_t)w->pool[next]));
    }
}

static void clear(sv_vec_walk *w)
{
    for (size_t i = 0; i < w->n_touched; i++) /* inv. 3 */
        w->visited[w->touched[i] / 64] = 0;
}

static bool search(const sv_vec_state *s, uint32_t limit, const sv_vec_code_query *q, size_t width, const uint32_t *start, size_t n_start, sv_vec_walk *w)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    if (!make_ready(w, limit, width))
        return false;
    for (size_t i = 0; i < n_start; i++)
        if (start[i] < limit && visit(w, start[i]))
            offer(w, width, sv_vec_code_score(k, &s->coder, q, sv_vec_code(s, start[i])), start[i]);
    walk(s, limit, q, width, w);
    clear(w);
    return true;
}

bool sv_vec_graph_search(const sv_vec_state *s, uint32_t n_graph, const sv_vec_code_query *q, size_t width, sv_vec_walk *w)
{
    uint32_t start[ENTRIES];
    size_t n = entries(s, n_graph, q, start);
    return search(s, n_graph, q, width < ENTRIES ? ENTRIES : width, start, n, w);
}

/* --- building ------------------------------------------------------------------------------------------------------- */

typedef struct builder {
    sv_vec_state *s;
    uint32_t from, to;
    _Atomic uint32_t next;
    const _Atomic bool *stop;
} builder;

typedef struct near {
    uint32_t slot;
    float distance; /* squared, larger is farther */
} near;

static void lock_node(sv_vec_state *s, uint32_t slot)
{
    _Atomic uint32_t *spin = &s->spins[slot % STRIPES];
    for (int i = 0; atomic_exchange_explicit(spin, 1, memory_order_acquire); i++)
        if (i % 64 == 63)
            sched_yield();
}

static void unlock_node(sv_vec_state *s, uint32_t slot)
{
    atomic_store_explicit(&s->spins[slot % STRIPES], 0, memory_order_release);
}

/* Takes from `found`, near to far, what no neighbour taken before is much nearer to. Returns how many. */
static size_t choose(const sv_vec_state *s, const near *found, size_t n, uint32_t *out, size_t max)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    size_t taken = 0;
    for (size_t i = 0; i < n && taken < max; i++) {
        const uint8_t *x = sv_vec_code(s, found[i].slot);
        bool keep = true;
        for (size_t j = 0; j < taken && keep; j++)
            keep = sv_vec_code_distance(k, &s->coder, x, sv_vec_code(s, out[j])) * SLACK > found[i].distance;
        if (keep)
            out[taken++] = found[i].slot;
    }
    return taken;
}

static int by_distance(const void *a, const void *b)
{
    const near *x = a, *y = b;
    return x->distance < y->distance ? -1 : x->distance > y->distance ? 1 : x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void set_links(sv_vec_state *s, uint32_t slot, const uint32_t *to, size_t n)
{
    _Atomic uint32_t *links = links_of(s, slot);
    for (size_t i = 0; i < SV_VEC_LINKS; i++)
        atomic_store_explicit(&links[i], i < n ? to[i] : SV_VEC_NONE, memory_order_relaxed);
}

/* Adds a link; where there is no room, the neighbours are chosen anew. */
static void link_back(sv_vec_state *s, uint32_t slot, uint32_t to)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    near found[SV_VEC_LINKS + 1];
    uint32_t kept[SV_VEC_LINKS];
    size_t n = 0;
    _Atomic uint32_t *links = links_of(s, slot);
    lock_node(s, slot);
    for (; n < SV_VEC_LINKS; n++) {
        found[n].slot = atomic_load_explicit(&links[n], memory_order_relaxed);
        if (found[n].slot == SV_VEC_NONE || found[n].slot == to)
            break;
    }
    if (n < SV_VEC_LINKS) {
        if (found[n].slot == SV_VEC_NONE)
            atomic_store_explicit(&links[n], to, memory_order_release);
        unlock_node(s, slot);
        return;
    }
    found[n++].slot = to;
    for (size_t i = 0; i < n; i++)
        prefetch_code(s, found[i].slot);
    for (size_t i = 0; i < n; i++)
        found[i].distance = sv_vec_code_distance(k, &s->coder, sv_vec_code(s, slot), sv_vec_code(s, found[i].slot));
    qsort(found, n, sizeof found[0], by_distance);
    set_links(s, slot, kept, choose(s, found, n, kept, SV_VEC_LINKS));
    unlock_node(s, slot);
}

/* The first nodes and any that find nobody begin at random ones. */
static size_t build_entries(const builder *b, uint32_t slot, const sv_vec_code_query *q, uint32_t *out)
{
    uint32_t known = b->from > 0 ? b->from : slot; /* finished nodes have links; before that, those in the work */
    if (b->from >= 4096)
        return entries(b->s, b->from, q, out);
    size_t n = 0;
    uint32_t done = atomic_load(&b->next) < b->to ? atomic_load(&b->next) : b->to;
    known = known > done ? known : done;
    for (uint64_t h = slot * 0x9E3779B97F4A7C15u; n < ENTRIES && known > 0; h = h * 6364136223846793005u + 1442695040888963407u)
        out[n++] = (uint32_t)((h >> 33) % known);
    return n;
}

static void add_node(const builder *b, uint32_t slot, sv_vec_walk *w, sv_vec_code_query *q)
{
    sv_vec_state *s = b->s;
    uint32_t start[ENTRIES], chosen[SV_VEC_LINKS];
    near found[WIDTH];
    const float *x = sv_vec_log_stored(sv_vec_log_base(s->log), s->at[slot], (uint32_t)s->config.dimensions).values;
    if (b->from >= 4096)
        sv_vec_coder_query(&s->coder, x, q); /* for the sign bits */
    size_t n_start = build_entries(b, slot, q, start), n = 0;
    sv_vec_coder_requery(&s->coder, sv_vec_code(s, slot), q);
    float norm2 = sv_vec_code_tail(&s->coder, sv_vec_code(s, slot))->norm2;
    if (!search(s, b->to, q, WIDTH, start, n_start, w))
        return;
    for (size_t i = 0; i < w->n; i++)
        if ((uint32_t)w->pool[i] != slot)
            found[n++] = (near){(uint32_t)w->pool[i], norm2 - 2 * sv_vec_unsortable((uint32_t)(w->pool[i] >> 32))};
    size_t taken = choose(s, found, n, chosen, SV_VEC_LINKS / 2);
    lock_node(s, slot);
    set_links(s, slot, chosen, taken); /* inv. 2 */
    unlock_node(s, slot);
    for (size_t i = 0; i < taken; i++)
        link_back(s, chosen[i], slot);
}

static void *build(void *arg)
{
    builder *b = arg;
    sv_vec_walk w = {0};
    SV_AUTO(sv_freep) sv_vec_code_query *q = sv_try_aligned(sizeof *q, 64);
    while (q && !atomic_load(b->stop)) {
        uint32_t i = atomic_fetch_add(&b->next, BATCH);
        if (i >= b->to)
            break;
        for (uint32_t end = i + BATCH < b->to ? i + BATCH : b->to; i < end; i++)
            add_node(b, i, &w, q);
    }
    sv_vec_walk_done(&w);
    return NULL;
}

void sv_vec_graph_extend(sv_vec_state *s, uint32_t n, int n_threads, const _Atomic bool *stop)
{
    if (!s->spins)
        s->spins = sv_xcalloc(STRIPES, sizeof *s->spins);
    /* In rounds that double, so that later nodes begin near their neighbours, and readers have use of what is done. */
    for (uint32_t from = s->n_graph; from < n && !atomic_load(stop); from = s->n_graph) {
        uint32_t to = from < 4096 ? 4096 : from + from / 2;
        to = to < n ? to : n;
        builder b = {s, from, to, from, stop};
        for (uint32_t i = from; i < to; i++)
            set_links(s, i, NULL, 0);
        s->n_building = to - from;
        pthread_t helpers[64];
        int n_helpers = n_threads - 1 < 64 ? n_threads - 1 : 64;
        for (int i = 0; i < n_helpers; i++)
            helpers[i] = sv_thread_start("vec-build", build, &b);
        build(&b);
        for (int i = 0; i < n_helpers; i++)
            pthread_join(helpers[i], NULL);
        if (!atomic_load(stop))
            atomic_store_explicit(&s->n_graph, to, memory_order_release);
    }
}
