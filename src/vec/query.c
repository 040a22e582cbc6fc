/* query.c - choosing a plan, finding candidates, scoring them exactly, handing them out
 *
 * Every plan ends the same way: some candidates, more than asked for, are scored by their full vectors, and the best are copied out.
 *
 *     exact   all candidates by full vectors: what there is before there are codes, and the truth for tests
 *     codes   a list of candidates by byte codes (narrow filters, small sets), the best by full vectors
 *     bits    all slots by sign bits in one pass over memory, the best by byte codes, the best of those by full vectors
 *     graph   a walk over the graph of byte codes, the best by full vectors
 *
 * The planner knows how many slots a condition on an indexed property takes (column.c), assumes that conditions are independent,
 * asks a sample of slots about the others, and compares costs:
 *     codes   making the list from the narrowest index, and a code for each that is left
 *     bits    one pass; the filter is asked only about candidates that are good enough to be kept, R / share of them
 *     graph   a walk that is as much wider as the filter is narrow: effort / share
 * Cost and width of bits and graph were measured on this very index (calibrate below), not assumed: whether the graph is worth
 * anything depends on the data.
 *
 * A reader sees one state (README.md, inv. 1 to 5): it takes the view once and asks of every slot whether it lives there. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "vec/vec_impl.h"

enum {
    CHUNK_BLOCKS = 64,      /* of sign bits at a time: the candidates of a chunk fit the L1 cache */
    SAMPLE = 64,            /* slots asked about conditions without an index */
    FIRST_EFFORT = 100,     /* before anything was measured */
    FIRST_BITS = 512,
    UNREACHED = UINT32_MAX, /* measured: not good enough at any width */
};

/* --- memory of a thread's searches ----------------------------------------------------------------------------------- */

typedef struct scratch {
    sv_vec_code_query *q;
    sv_vec_walk walk;
    uint64_t *keys; /* candidates: sortable score << 32 | slot */
    size_t keys_cap, n;
    uint32_t *list; /* slots */
    size_t list_cap, n_list;
} scratch;

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void free_scratch(void *p)
{
    scratch *x = p;
    free(x->q);
    sv_vec_walk_done(&x->walk);
    free(x->keys);
    free(x->list);
    free(x);
}

static void make_key(void)
{
    SV_ASSERT(pthread_key_create(&scratch_key, free_scratch) == 0);
}

static scratch *get_scratch(void)
{
    pthread_once(&scratch_once, make_key);
    scratch *x = pthread_getspecific(scratch_key);
    if (!x) {
        x = sv_xnew0(scratch);
        x->q = sv_try_aligned(sizeof *x->q, 64);
        SV_ASSERT(x->q && pthread_setspecific(scratch_key, x) == 0);
    }
    x->n = x->n_list = 0;
    return x;
}

static bool room_for_keys(scratch *x, size_t n)
{
    if (n <= x->keys_cap)
        return true;
    uint64_t *k = sv_try_realloc(x->keys, n + n / 2, sizeof *k);
    if (!k)
        return false;
    x->keys = k;
    x->keys_cap = n + n / 2;
    return true;
}

static bool add_to_list(scratch *x, uint32_t slot)
{
    if (x->n_list == x->list_cap) {
        size_t cap = x->list_cap ? x->list_cap * 2 : 4096;
        uint32_t *l = sv_try_realloc(x->list, cap, sizeof *l);
        if (!l)
            return false;
        x->list = l;
        x->list_cap = cap;
    }
    x->list[x->n_list++] = slot;
    return true;
}

/* --- what a slot must be --------------------------------------------------------------------------------------------- */

typedef struct test {
    const sv_vec_condition *condition;
    const sv_vec_column *column; /* NULL: ask the metadata */
    sv_vec_ranks ranks;
} test;

typedef struct wanted {
    sv_vec_view view;
    uint32_t ns;                     /* NONE: any */
    const sv_vec_column *namespaces; /* may be NULL */
    test *tests;
    size_t n_tests;
    double share;                    /* estimated, of all slots, dead ones included */
    bool nothing;                    /* an unknown namespace */
    sv_arena *arena;
} wanted;

static bool test_holds(const wanted *w, const test *t, uint32_t slot)
{
    if (t->column && slot < t->column->n_slots)
        return sv_vec_ranks_have(&t->ranks, t->column->rank[slot]);
    sv_vec_value v;
    sv_vec_value_find(&v, sv_vec_at(&w->view, slot).metadata, t->condition->path);
    return sv_vec_condition_holds(t->condition, &v);
}

static inline bool passes(const wanted *w, uint32_t slot)
{
    if (!sv_vec_lives(&w->view, slot) || (w->ns != SV_VEC_NONE && w->view.s->ns[slot] != w->ns))
        return false;
    for (size_t i = 0; i < w->n_tests; i++)
        if (!test_holds(w, &w->tests[i], slot))
            return false;
    return true;
}

static int narrow_first(const void *a, const void *b)
{
    const test *x = a, *y = b;
    uint64_t n = x->column ? x->ranks.n_slots : UINT64_MAX, m = y->column ? y->ranks.n_slots : UINT64_MAX;
    return n < m ? -1 : n > m;
}

/* Asks a few slots about everything, where an index cannot tell. */
static double sampled_share(const wanted *w)
{
    uint32_t hits = 0, seen = 0;
    for (uint64_t i = 0; i < SAMPLE && w->view.n > 0; i++) {
        uint32_t slot = (uint32_t)((i * 2 + 1) * w->view.n / (2 * SAMPLE));
        if (sv_vec_lives(&w->view, slot)) {
            seen++;
            hits += passes(w, slot);
        }
    }
    return (hits + 0.5) / (seen + 1.0);
}

static sv_rc want(wanted *w, const sv_vec_view *view, const sv_vec_filter *filter, sv_str ns, sv_err *err)
{
    const sv_vec_state *s = view->s;
    const sv_vec_fields *f = atomic_load_explicit(&s->fields, memory_order_acquire);
    *w = (wanted){.view = *view, .ns = SV_VEC_NONE, .arena = sv_arena_create(0), .namespaces = f->namespaces};
    double n = view->n ? view->n : 1;
    w->share = fmin(1, (double)atomic_load(&s->n_live) / n); /* the dead take room in every search */
    if (ns.p) {
        w->ns = sv_vec_state_namespace(s, ns);
        w->nothing = w->ns == SV_VEC_NONE;
        if (!w->nothing)
            w->share = (double)atomic_load(&atomic_load(&s->namespaces[w->ns])->n_live) / n;
    }
    if (!filter || w->nothing)
        return SV_OK;
    w->tests = sv_arena_new(w->arena, test, filter->n);
    if (!w->tests)
        return sv_fail(err, SV_ENOMEM, "no memory for a filter");
    bool all_indexed = true;
    for (size_t i = 0; i < filter->n; i++) {
        test *t = &w->tests[w->n_tests++];
        t->condition = &filter->conditions[i];
        int k = sv_vec_fields_find(f, t->condition->path);
        if (k >= 0 && f->column[k] && f->column[k]->n_slots && sv_vec_column_ranks(f->column[k], t->condition, w->arena, &t->ranks)) {
            t->column = f->column[k];
            w->share *= (double)t->ranks.n_slots / t->column->n_slots;
        } else {
            all_indexed = false;
        }
    }
    qsort(w->tests, w->n_tests, sizeof *w->tests, narrow_first);
    if (!all_indexed)
        w->share = fmin(w->share, sampled_share(w));
    return SV_OK;
}

/* --- lists of candidates --------------------------------------------------------------------------------------------- */

static bool list_ranks(scratch *x, const wanted *w, const sv_vec_column *c, const sv_vec_ranks *r)
{
    for (size_t i = 0; i < r->n; i++)
        for (uint32_t p = c->posting_at[r->of[i].from], end = c->posting_at[r->of[i].to]; p < end; p++)
            if (passes(w, c->postings[p]) && !add_to_list(x, c->postings[p]))
                return false;
    return true;
}

/* Slots that pass, from the narrowest index; those after it one by one. */
static bool make_list(scratch *x, const wanted *w)
{
    uint32_t from = 0;
    x->n_list = 0;
    if (w->nothing)
        return true;
    const test *t = w->n_tests && w->tests[0].column ? &w->tests[0] : NULL;
    const sv_vec_column *c = t ? t->column : NULL;
    sv_vec_ranks one = {.n = 0}, *ranks = t ? &w->tests[0].ranks : &one;
    if (w->ns != SV_VEC_NONE && w->namespaces) {
        sv_vec_condition is = {.values = &(sv_vec_value){.kind = SV_VEC_VALUE_NUMBER, .number = w->ns}, .n_values = 1};
        sv_vec_ranks r;
        if (sv_vec_column_ranks(w->namespaces, &is, w->arena, &r) && (!c || r.n_slots < ranks->n_slots)) {
            one = r;
            ranks = &one;
            c = w->namespaces;
        }
    }
    if (c && ranks->n_slots < w->view.n / 4) {
        if (!list_ranks(x, w, c, ranks))
            return false;
        from = c->n_slots;
    }
    for (uint32_t slot = from; slot < w->view.n; slot++)
        if (passes(w, slot) && !add_to_list(x, slot))
            return false;
    return true;
}

sv_rc sv_vec_matching_slots(const sv_vec_view *view, const sv_vec_filter *filter, sv_str ns, uint32_t **slots, size_t *n, sv_err *err)
{
    wanted w;
    scratch x = {0};
    sv_rc rc = want(&w, view, filter, ns, err);
    if (rc == SV_OK && !make_list(&x, &w)) {
        free(x.list);
        rc = sv_fail(err, SV_ENOMEM, "no memory for a list of vectors");
    }
    sv_arena_free(w.arena);
    if (rc != SV_OK)
        return rc;
    *slots = x.list;
    *n = x.n_list;
    return SV_OK;
}

/* --- the best of many ------------------------------------------------------------------------------------------------ */

/* Moves the k largest keys to the front, in no order. */
static void keep_largest(uint64_t *keys, size_t n, size_t k)
{
    size_t lo = 0, hi = n;
    while (hi - lo > 1 && k > lo && k < hi) {
        uint64_t a = keys[lo], b = keys[lo + (hi - lo) / 2], c = keys[hi - 1];
        uint64_t pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (keys[i] > pivot)
                i++;
            while (keys[j] < pivot)
                j--;
            if (i >= j)
                break;
            uint64_t t = keys[i];
            keys[i++] = keys[j];
            keys[j--] = t;
        }
        /* [lo, i) >= pivot >= [i, hi) */
        if (k <= i && i < hi)
            hi = i;
        else
            lo = i > lo ? i : lo + 1;
    }
}

static int larger_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static uint64_t key_of(float score, uint32_t slot)
{
    return (uint64_t)sv_vec_sortable(score) << 32 | slot;
}

static void prefetch_bytes(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch((const char *)p + i);
}

/* Scores candidates by byte codes; keeps the `most` best. */
static void score_codes(scratch *x, const sv_vec_state *s, size_t most)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    for (size_t i = 0; i < x->n && i < 4; i++)
        prefetch_bytes(sv_vec_code(s, (uint32_t)x->keys[i]), s->coder.stride);
    for (size_t i = 0; i < x->n; i++) {
        if (i + 4 < x->n)
            prefetch_bytes(sv_vec_code(s, (uint32_t)x->keys[i + 4]), s->coder.stride);
        uint32_t slot = (uint32_t)x->keys[i];
        x->keys[i] = key_of(sv_vec_code_score(k, &s->coder, x->q, sv_vec_code(s, slot)), slot);
    }
    if (x->n > most) {
        keep_largest(x->keys, x->n, most);
        x->n = most;
    }
}

/* Larger is closer. */
static float exact(const sv_vec_view *v, const float *q, float q_inverse, uint32_t slot)
{
    const sv_vec_kernels *k = sv_vec_kernels_get();
    const float *y = sv_vec_values(v, slot);
    int32_t n = v->s->config.dimensions;
    switch (v->s->config.metric) {
    case SV_VEC_COSINE:
        return k->dot(q, y, n) * v->s->inverse[slot] * q_inverse;
    case SV_VEC_EUCLIDEAN:
        return -k->l2(q, y, n);
    case SV_VEC_DOT:
        break;
    }
    return k->dot(q, y, n);
}

static void score_exactly(scratch *x, const sv_vec_view *v, const float *q, float q_inverse)
{
    size_t bytes = (size_t)v->s->config.dimensions * sizeof(float);
    for (size_t i = 0; i < x->n && i < 2; i++)
        prefetch_bytes(sv_vec_values(v, (uint32_t)x->keys[i]), bytes);
    for (size_t i = 0; i < x->n; i++) {
        if (i + 2 < x->n)
            prefetch_bytes(sv_vec_values(v, (uint32_t)x->keys[i + 2]), bytes);
        x->keys[i] = key_of(exact(v, q, q_inverse, (uint32_t)x->keys[i]), (uint32_t)x->keys[i]);
    }
}

/* --- the plans ------------------------------------------------------------------------------------------------------- */

typedef struct search {
    wanted *w;
    const float *q;
    float q_inverse;
    size_t k;
    sv_vec_plan plan;
    size_t effort;
    uint32_t n_graph;
} search;

/* How many are scored exactly: byte codes rank the ten nearest within the first twenty (measured on hard and easy sets). */
static size_t margin(size_t k)
{
    return k + 16 + k / 4;
}

static bool from_list(scratch *x, const search *q)
{
    if (!make_list(x, q->w) || !room_for_keys(x, x->n_list))
        return false;
    for (size_t i = 0; i < x->n_list; i++)
        x->keys[i] = x->list[i];
    x->n = x->n_list;
    if (q->plan == SV_VEC_PLAN_CODES && x->n > margin(q->k))
        score_codes(x, q->w->view.s, margin(q->k));
    return true;
}

/* Candidates of slots [from, to) by sign bits into the keys, never more than `most` good ones. */
static bool scan(scratch *x, const search *q, uint32_t from, size_t most)
{
    const sv_vec_view *v = &q->w->view;
    const sv_vec_state *s = v->s;
    const sv_vec_kernels *k = sv_vec_kernels_get();
    const sv_vec_bits bits = {s->words, s->bit_scale, s->bit_bias, s->coder.n_words};
    const sv_vec_bit_query bq = {x->q->planes, x->q->unit, 15 * s->coder.dimensions};
    size_t end = ((size_t)v->n + SV_VEC_BLOCK - 1) / SV_VEC_BLOCK, base = x->n;
    uint32_t slots[CHUNK_BLOCKS * SV_VEC_BLOCK];
    float estimates[CHUNK_BLOCKS * SV_VEC_BLOCK], floor = -INFINITY;
    if (!room_for_keys(x, base + 2 * most + SV_LEN(slots)))
        return false;
    for (size_t b = from / SV_VEC_BLOCK; b < end; b += CHUNK_BLOCKS) {
        size_t n = k->scan_bits(&bits, &bq, b, b + CHUNK_BLOCKS < end ? b + CHUNK_BLOCKS : end, NULL, floor, slots, estimates);
        for (size_t i = 0; i < n; i++)
            if (slots[i] >= from && passes(q->w, slots[i]))
                x->keys[x->n++] = key_of(estimates[i], slots[i]);
        if (x->n - base >= 2 * most) {
            keep_largest(x->keys + base, x->n - base, most);
            uint64_t least = UINT64_MAX;
            for (size_t i = base; i < base + most; i++)
                least = x->keys[i] < least ? x->keys[i] : least;
            floor = sv_vec_unsortable((uint32_t)(least >> 32));
            x->n = base + most;
        }
    }
    if (x->n - base > most) {
        keep_largest(x->keys + base, x->n - base, most);
        x->n = base + most;
    }
    return true;
}

static bool from_bits(scratch *x, const search *q)
{
    if (!scan(x, q, 0, q->effort > margin(q->k) ? q->effort : margin(q->k)))
        return false;
    score_codes(x, q->w->view.s, margin(q->k));
    return true;
}

static bool from_graph(scratch *x, const search *q)
{
    const sv_vec_view *v = &q->w->view;
    double alive = fmax(q->w->share, 0.001);
    size_t width = (size_t)fmin((double)(q->effort > q->k ? q->effort : q->k) / alive, 100000);
    if (!sv_vec_graph_search(v->s, q->n_graph, x->q, width, &x->walk) || !room_for_keys(x, x->walk.n + margin(q->k)))
        return false;
    for (size_t i = 0; i < x->walk.n && x->n < margin(q->k); i++)
        if (passes(q->w, (uint32_t)x->walk.pool[i]))
            x->keys[x->n++] = x->walk.pool[i];
    /* What came after the graph was built. */
    size_t found = x->n;
    if (v->n > q->n_graph) {
        if (!scan(x, q, q->n_graph, margin(q->k) * 4))
            return false;
        if (x->n > found)
            score_codes(x, v->s, margin(q->k));
    }
    return true;
}

/* Estimated ns. */
static double code_cost(const sv_vec_state *s)
{
    return 8 + s->coder.dimensions / 24.0;
}

static void choose_plan(search *q, sv_vec_plan asked, int32_t effort)
{
    const wanted *w = q->w;
    const sv_vec_state *s = w->view.s;
    bool trained = atomic_load_explicit(&s->trained, memory_order_acquire);
    uint32_t bits_effort = atomic_load(&s->bits_effort), graph_effort = atomic_load(&s->graph_effort);
    double n = w->view.n, share = fmax(w->share, 1.0 / (n + 1)), matches = n * share;
    q->n_graph = atomic_load_explicit(&s->n_graph, memory_order_acquire);
    if (q->n_graph > w->view.n)
        q->n_graph = w->view.n;
    double per_test = 2 + 3 * (double)w->n_tests;
    for (size_t i = 0; i < w->n_tests; i++)
        per_test += w->tests[i].column ? 0 : 300;
    double first = w->n_tests && w->tests[0].column ? (double)w->tests[0].ranks.n_slots : n;
    double codes = (first < n / 4 ? first : n) * per_test + matches * code_cost(s);
    double past10 = q->k > 10 ? (double)(q->k - 10) : 0; /* widths were measured for 10 */
    double more = 1 + past10 / 15;
    double bits = 1000.0 * atomic_load(&s->bits_us), graph = 1000.0 * atomic_load(&s->graph_us);
    if (bits == 0)
        bits = n * (1 + s->coder.dimensions / 200.0) + FIRST_BITS * code_cost(s);
    bits += FIRST_BITS / share * per_test / 2;
    graph = graph > 0 ? graph : 3.0 * FIRST_EFFORT * 12 * code_cost(s);
    bits += (more - 1) * (bits_effort && bits_effort != UNREACHED ? bits_effort : FIRST_BITS) * code_cost(s);
    graph = graph * (1 + 0.4 * past10 / (graph_effort && graph_effort != UNREACHED ? graph_effort : FIRST_EFFORT)) / share + (w->view.n - q->n_graph) * (1 + s->coder.dimensions / 200.0);

    q->plan = asked;
    if (asked == SV_VEC_PLAN_AUTO) {
        q->plan = SV_VEC_PLAN_CODES;
        double best = codes;
        if (s->coder.dimensions >= 64 && bits_effort != UNREACHED && bits < best) {
            q->plan = SV_VEC_PLAN_BITS;
            best = bits;
        }
        if (q->n_graph && graph_effort != UNREACHED && share > 0.02 && graph < best)
            q->plan = SV_VEC_PLAN_GRAPH;
        if (matches < (double)margin(q->k) * 2)
            q->plan = SV_VEC_PLAN_CODES;
    }
    if (q->plan == SV_VEC_PLAN_GRAPH && !q->n_graph)
        q->plan = SV_VEC_PLAN_BITS;
    if (!trained && q->plan != SV_VEC_PLAN_EXACT)
        q->plan = SV_VEC_PLAN_EXACT;
    if (effort > 0)
        q->effort = (size_t)effort;
    else if (q->plan == SV_VEC_PLAN_GRAPH)
        q->effort = (size_t)((graph_effort && graph_effort != UNREACHED ? graph_effort : FIRST_EFFORT) + 1.5 * past10);
    else /* what was measured without a filter, doubled under one: near neighbours are then farther, and more alike to the bits */
        q->effort = (size_t)((bits_effort && bits_effort != UNREACHED ? bits_effort : FIRST_BITS) * more * (w->n_tests || w->ns != SV_VEC_NONE ? 2 : 1));
}

static bool find(scratch *x, search *q)
{
    if (q->w->nothing || q->w->view.n == 0)
        return true;
    if (q->plan != SV_VEC_PLAN_EXACT)
        sv_vec_coder_query(&q->w->view.s->coder, q->q, x->q);
    bool ok = q->plan == SV_VEC_PLAN_GRAPH  ? from_graph(x, q)
              : q->plan == SV_VEC_PLAN_BITS ? from_bits(x, q)
                                            : from_list(x, q);
    if (!ok)
        return false;
    score_exactly(x, &q->w->view, q->q, q->q_inverse);
    qsort(x->keys, x->n, sizeof *x->keys, larger_first);
    if (x->n > q->k)
        x->n = q->k;
    return true;
}

/* A filter that was thought wide can leave a walk or a pass with too few: then the list decides. */
static bool find_enough(scratch *x, search *q)
{
    if (!find(x, q))
        return false;
    if (x->n >= q->k || q->plan == SV_VEC_PLAN_EXACT || q->plan == SV_VEC_PLAN_CODES || q->plan == SV_VEC_PLAN_BITS)
        return true;
    x->n = 0;
    q->plan = SV_VEC_PLAN_CODES;
    return find(x, q);
}

/* --- handing out ----------------------------------------------------------------------------------------------------- */

void sv_vec_matches_done(sv_vec_matches *m)
{
    sv_arena_free(m->arena);
    *m = (sv_vec_matches){0};
}

static bool copy_str(sv_arena *a, sv_str *out, sv_str s)
{
    out->n = s.n;
    out->p = s.n ? sv_arena_strndup(a, s.p, s.n) : "";
    return out->p != NULL;
}

/* {"a.b":1}: the indexed properties of one vector, strings as far as they are indexed. */
static bool indexed_metadata(sv_arena *a, sv_str *out, const sv_vec_fields *f, sv_str metadata)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 1 << 20);
    sv_buf_addc(&b, '{');
    for (size_t i = 0; i < f->n; i++) {
        sv_vec_value v;
        sv_str name = sv_str_of(f->field[i].name);
        sv_vec_value_find(&v, metadata, name);
        sv_vec_value_kind kind = f->field[i].type == SV_VEC_STRING ? SV_VEC_VALUE_STRING : f->field[i].type == SV_VEC_NUMBER ? SV_VEC_VALUE_NUMBER : SV_VEC_VALUE_BOOLEAN;
        if (v.kind != kind)
            continue;
        if (b.n > 1)
            sv_buf_addc(&b, ',');
        sv_json_add_str(&b, name);
        sv_buf_addc(&b, ':');
        if (kind == SV_VEC_VALUE_STRING)
            sv_json_add_str(&b, (sv_str){v.text, v.n});
        else if (kind == SV_VEC_VALUE_NUMBER)
            sv_json_add_num(&b, v.number);
        else
            sv_buf_adds(&b, v.number != 0 ? "true" : "false");
    }
    sv_buf_addc(&b, '}');
    return !b.failed && copy_str(a, out, b.n > 2 ? sv_buf_str(&b) : (sv_str){"", 0});
}

static bool hand_out(sv_arena *a, sv_vec_match *m, const sv_vec_view *v, uint32_t slot, bool values, sv_vec_metadata metadata)
{
    sv_vec_stored x = sv_vec_at(v, slot);
    bool ok = copy_str(a, &m->id, x.id) && copy_str(a, &m->ns, x.ns) && copy_str(a, &m->metadata, metadata == SV_VEC_METADATA_ALL ? x.metadata : (sv_str){"", 0});
    if (ok && metadata == SV_VEC_METADATA_INDEXED)
        ok = indexed_metadata(a, &m->metadata, atomic_load_explicit(&v->s->fields, memory_order_acquire), x.metadata);
    if (ok && values) {
        float *to = sv_arena_new(a, float, (size_t)v->s->config.dimensions);
        if (to)
            memcpy(to, x.values, (size_t)v->s->config.dimensions * sizeof *to);
        m->values = to;
        ok = to != NULL;
    }
    return ok;
}

static float score_of(const sv_vec_state *s, uint64_t key)
{
    float f = sv_vec_unsortable((uint32_t)(key >> 32));
    if (s->config.metric == SV_VEC_EUCLIDEAN)
        return sqrtf(fmaxf(-f, 0));
    if (s->config.metric == SV_VEC_COSINE)
        return fmaxf(-1, fminf(1, f));
    return f;
}

/* Equal scores by id, so that pages of the same answer are the same. */
static void order_equal(sv_vec_match *m, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && m[j].score == m[j - 1].score; j--) {
            sv_str a = m[j].id, b = m[j - 1].id;
            int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
            if (c > 0 || (c == 0 && a.n >= b.n))
                break;
            sv_vec_match t = m[j];
            m[j] = m[j - 1];
            m[j - 1] = t;
        }
}

static sv_arena *new_arena(void)
{
    return sv_arena_create((size_t)512 << 20);
}

static sv_rc answer(const scratch *x, const search *q, const sv_vec_query *asked, sv_vec_matches *out, sv_err *err)
{
    sv_vec_matches m = {.arena = new_arena(), .plan = q->plan, .n = x->n};
    m.items = sv_arena_new(m.arena, sv_vec_match, x->n + 1);
    bool ok = m.items != NULL;
    for (size_t i = 0; ok && i < x->n; i++) {
        m.items[i].score = score_of(q->w->view.s, x->keys[i]);
        ok = hand_out(m.arena, &m.items[i], &q->w->view, (uint32_t)x->keys[i], asked->return_values, asked->return_metadata);
    }
    if (!ok) {
        sv_vec_matches_done(&m);
        return sv_fail(err, SV_ENOMEM, "no memory for the answer");
    }
    order_equal(m.items, m.n);
    *out = m;
    return SV_OK;
}

/* --- queries --------------------------------------------------------------------------------------------------------- */

static sv_rc check_query(const sv_vec *v, const sv_vec_query *q, sv_err *err)
{
    if (q->top_k < 1 || q->top_k > SV_VEC_MAX_TOP_K)
        return sv_fail(err, SV_EINVAL, "top_k is %d, it may be 1 to %d", q->top_k, SV_VEC_MAX_TOP_K);
    if (!q->vector)
        return q->id.n ? SV_OK : sv_fail(err, SV_EINVAL, "a query needs a vector or an id");
    for (int32_t i = 0; i < v->config.dimensions; i++)
        if (!isfinite(q->vector[i]))
            return sv_fail(err, SV_EINVAL, "value %d of the query is not a finite number", i);
    if (!(sv_vec_kernels_get()->dot(q->vector, q->vector, v->config.dimensions) < 1e37f))
        return sv_fail(err, SV_EINVAL, "the values of the query are too large: their squares add up to over 1e37");
    return SV_OK;
}

static sv_rc query_view(const sv_vec_view *view, const sv_vec_query *asked, sv_vec_matches *out, sv_err *err)
{
    wanted w = {0};
    search q = {.w = &w, .q = asked->vector, .q_inverse = 1, .k = (size_t)asked->top_k};
    if (!q.q) {
        uint32_t slot = sv_vec_state_find(view, asked->id);
        if (slot == SV_VEC_NONE)
            return sv_fail(err, SV_ENOENT, "no vector with that id");
        q.q = sv_vec_values(view, slot);
    }
    if (view->s->config.metric == SV_VEC_COSINE) { /* a query of zeros is as far from everything: score 0 */
        float norm2 = sv_vec_kernels_get()->dot(q.q, q.q, view->s->config.dimensions);
        q.q_inverse = norm2 > 1e-30f ? 1.0f / sqrtf(norm2) : 0;
    }
    scratch *x = get_scratch();
    sv_rc rc = want(&w, view, asked->filter, asked->ns, err);
    if (rc == SV_OK) {
        choose_plan(&q, asked->plan, asked->effort);
        rc = find_enough(x, &q) ? answer(x, &q, asked, out, err) : sv_fail(err, SV_ENOMEM, "no memory for a query");
    }
    sv_arena_free(w.arena);
    return rc;
}

sv_rc sv_vec_query_run(sv_vec *v, const sv_vec_query *q, sv_vec_matches *out, sv_err *err)
{
    if (check_query(v, q, err) != SV_OK)
        return err->code;
    unsigned side = sv_vec_enter(v);
    sv_vec_view view = sv_vec_view_of(atomic_load(&v->state));
    sv_rc rc = query_view(&view, q, out, err);
    sv_vec_leave(v, side);
    return rc;
}

sv_rc sv_vec_get(sv_vec *v, const sv_str *ids, size_t n, sv_vec_matches *out, sv_err *err)
{
    if (n > SV_VEC_MAX_BATCH)
        return sv_fail(err, SV_ELIMIT, "%zu ids in one call, %d are the most", n, SV_VEC_MAX_BATCH);
    unsigned side = sv_vec_enter(v);
    sv_vec_view view = sv_vec_view_of(atomic_load(&v->state));
    sv_vec_matches m = {.arena = new_arena()};
    m.items = sv_arena_new(m.arena, sv_vec_match, n + 1);
    bool ok = m.items != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        uint32_t slot = sv_vec_state_find(&view, ids[i]);
        if (slot != SV_VEC_NONE)
            ok = hand_out(m.arena, &m.items[m.n++], &view, slot, true, SV_VEC_METADATA_ALL);
    }
    sv_vec_leave(v, side);
    if (!ok) {
        sv_vec_matches_done(&m);
        return sv_fail(err, SV_ENOMEM, "no memory for %zu vectors", n);
    }
    *out = m;
    return SV_OK;
}

/* A cursor is a view and a place in it: pages of one listing see one state, as long as that state is there. */
typedef struct cursor {
    uint64_t state, view;
    uint32_t next, check;
} cursor;
_Static_assert(sizeof(cursor) * 2 + 1 == SV_VEC_CURSOR, "a cursor is written in hex digits, with a NUL");

static uint32_t check_of(const cursor *c)
{
    return (uint32_t)sv_hash64(c, 20, 0xc0de);
}

static sv_rc read_cursor(cursor *c, sv_str text, const sv_vec_state *s, sv_err *err)
{
    uint8_t bytes[sizeof *c];
    if (!sv_unhex(bytes, sizeof bytes, text))
        return sv_fail(err, SV_EINVAL, "this is no cursor of a list");
    memcpy(c, bytes, sizeof bytes);
    if (c->check != check_of(c))
        return sv_fail(err, SV_EINVAL, "this is no cursor of a list");
    if (c->state != s->id)
        return sv_fail(err, SV_ECONFLICT, "the cursor has expired; begin the list anew");
    return SV_OK;
}

sv_rc sv_vec_list(sv_vec *v, sv_str text, int32_t limit, sv_vec_matches *out, char *next_cursor, sv_err *err)
{
    if (limit < 1 || limit > SV_VEC_MAX_LIST)
        return sv_fail(err, SV_EINVAL, "a page of %d ids, it may have 1 to %d", limit, SV_VEC_MAX_LIST);
    unsigned side = sv_vec_enter(v);
    sv_vec_view view = sv_vec_view_of(atomic_load(&v->state));
    cursor c = {.state = view.s->id, .view = (uint64_t)view.seq << 32 | view.n};
    sv_rc rc = text.n ? read_cursor(&c, text, view.s, err) : SV_OK;
    if (rc == SV_OK && (uint32_t)c.view > view.n)
        rc = sv_fail(err, SV_EINVAL, "this is no cursor of a list");
    sv_vec_matches m = {.arena = new_arena()};
    m.items = sv_arena_new(m.arena, sv_vec_match, (size_t)limit);
    view.seq = (uint32_t)(c.view >> 32);
    view.n = (uint32_t)c.view;
    bool ok = m.items != NULL, more = false;
    for (; rc == SV_OK && ok && c.next < view.n; c.next++) {
        if (!sv_vec_lives(&view, c.next))
            continue;
        if (m.n == (size_t)limit) {
            more = true;
            break;
        }
        ok = copy_str(m.arena, &m.items[m.n++].id, sv_vec_at(&view, c.next).id);
    }
    sv_vec_leave(v, side);
    if (rc == SV_OK && !ok)
        rc = sv_fail(err, SV_ENOMEM, "no memory for a list");
    if (rc != SV_OK) {
        sv_vec_matches_done(&m);
        return rc;
    }
    next_cursor[0] = 0;
    if (more) {
        c.check = check_of(&c);
        sv_hex(next_cursor, &c, sizeof c);
    }
    *out = m;
    return SV_OK;
}

/* --- measuring this index -------------------------------------------------------------------------------------------- */

enum { QUERIES = 48, NEAREST = 10 };
#define ENOUGH 0.99

typedef struct trial {
    float *queries; /* [QUERIES, dimensions]: a vector, moved along what parts two of its neighbours: about as far
                                         from all of them as a new one would be, and in the same directions */
    uint32_t truth[QUERIES][NEAREST];
} trial;

static bool run_trial(scratch *x, wanted *w, const float *q, size_t k, sv_vec_plan plan, size_t effort)
{
    search one = {.w = w, .q = q, .q_inverse = 1, .k = k, .plan = plan, .effort = effort, .n_graph = atomic_load(&w->view.s->n_graph)};
    if (one.n_graph > w->view.n)
        one.n_graph = w->view.n;
    if (w->view.s->config.metric == SV_VEC_COSINE) {
        float norm2 = sv_vec_kernels_get()->dot(q, q, w->view.s->config.dimensions);
        one.q_inverse = norm2 > 0 ? 1 / sqrtf(norm2) : 0;
    }
    x->n = x->n_list = 0;
    return find(x, &one);
}

static bool make_trial(trial *t, scratch *x, wanted *w)
{
    int32_t d = w->view.s->config.dimensions;
    for (uint32_t i = 0, tries = 0; i < QUERIES; tries++) {
        uint32_t slot = (uint32_t)(((uint64_t)tries * 2654435761u + 12345) % w->view.n);
        if (tries > 100 * QUERIES)
            return false;
        if (!sv_vec_lives(&w->view, slot))
            continue;
        const float *a = sv_vec_values(&w->view, slot);
        float *q = t->queries + (size_t)i * (size_t)d;
        if (!run_trial(x, w, a, NEAREST, SV_VEC_PLAN_CODES, 0) || x->n < NEAREST)
            return false;
        const float *b = sv_vec_values(&w->view, (uint32_t)x->keys[NEAREST - 1]), *c = sv_vec_values(&w->view, (uint32_t)x->keys[NEAREST / 2]);
        for (int32_t j = 0; j < d; j++)
            q[j] = a[j] + 0.7f * (b[j] - c[j]);
        if (!run_trial(x, w, q, NEAREST, SV_VEC_PLAN_CODES, 0) || x->n < NEAREST)
            return false;
        for (size_t j = 0; j < NEAREST; j++)
            t->truth[i][j] = (uint32_t)x->keys[j];
        i++;
    }
    return true;
}

/* Recall@10, and microseconds a query. */
static double measure(const trial *t, scratch *x, wanted *w, sv_vec_plan plan, size_t effort, float *us)
{
    size_t hits = 0;
    int64_t start = sv_mono_us();
    for (size_t i = 0; i < QUERIES; i++) {
        if (!run_trial(x, w, t->queries + i * (size_t)w->view.s->config.dimensions, NEAREST, plan, effort))
            return 0;
        for (size_t j = 0; j < NEAREST && j < x->n; j++)
            for (size_t k = 0; k < NEAREST; k++)
                hits += (uint32_t)x->keys[j] == t->truth[i][k];
    }
    *us = (float)(sv_mono_us() - start) / QUERIES;
    return (double)hits / (QUERIES * NEAREST);
}

void sv_vec_calibrate(sv_vec_state *s, const _Atomic bool *stop)
{
    static const uint32_t widths[] = {16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768};
    static const uint32_t candidates[] = {32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048};
    wanted w = {.view = sv_vec_view_of(s), .ns = SV_VEC_NONE, .share = 1};
    uint32_t n_graph = atomic_load(&s->n_graph);
    if (w.view.n < 2 * SV_VEC_TRAIN_MIN || (w.view.n < s->calibrated_n * 1.5 && n_graph <= s->calibrated_graph * 1.5))
        return;
    trial *t = sv_xnew0(trial);
    t->queries = sv_xcalloc((size_t)QUERIES * (size_t)s->config.dimensions, sizeof(float));
    scratch *x = get_scratch();
    if (!make_trial(t, x, &w))
        goto out; /* nearly everything is dead: the defaults do */
    /* Largest products belong to the longest vectors, for which estimates err most, and queries made of them are easier than others. */
    const uint32_t spare = s->config.metric == SV_VEC_DOT ? 2 : 1;
    float bits_us = 0, graph_us = 0;
    uint32_t bits = UNREACHED, graph = n_graph ? UNREACHED : 0;
    for (size_t i = 0; i < SV_LEN(candidates) && bits == UNREACHED && !atomic_load(stop); i++)
        if (measure(t, x, &w, SV_VEC_PLAN_BITS, candidates[i], &bits_us) >= ENOUGH)
            bits = (candidates[i] + candidates[i] / 2) * spare; /* 48 queries are few, and a code more costs little */
    for (size_t i = 0; i < SV_LEN(widths) && graph == UNREACHED && !atomic_load(stop); i++)
        if (measure(t, x, &w, SV_VEC_PLAN_GRAPH, widths[i], &graph_us) >= ENOUGH)
            graph = (widths[i] + widths[i] / 4) * spare;
    if (atomic_load(stop)) /* what was not reached by now might have been, and the checkpoint would keep that it was not */
        goto out;
    atomic_store(&s->bits_us, bits_us);
    atomic_store(&s->bits_effort, bits);
    atomic_store(&s->graph_us, graph_us);
    atomic_store(&s->graph_effort, graph);
    s->calibrated_n = w.view.n;
    s->calibrated_graph = n_graph;
out:
    free(t->queries);
    free(t);
}
