/* column.c - an index over one property: sorted keys, a rank for each slot, and the slots of each rank
 *
 * Every condition of a filter is a set of intervals of ranks (filter.c), so three arrays answer all of them: the sorted keys turn a
 * condition into intervals, the postings of those ranks list the slots of a narrow condition, and the rank of a slot tests one
 * candidate by comparing whole numbers. Null and other types have ranks of their own, 0 and 1, which makes a complement exact.
 *
 * A column never changes. It covers the slots that were there when it was built; those after are looked at one by one in their
 * metadata, and the background thread builds a longer column when they become many. Keys come from the older column, so old
 * metadata is not parsed again. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "vec/vec_impl.h"

enum { RANK_OTHER = 1, RANK_KEYS = 2 };

/* Distinct keys in the order they came: bytes of a string, or the eight bytes of a number. */
typedef struct pool {
    sv_vec_value_kind kind;
    char *bytes;
    uint32_t *at; /* [n + 1] */
    size_t n, cap, bytes_cap;
    uint32_t *table;
    size_t mask;
} pool;

static bool grow_pool(pool *p)
{
    size_t cap = p->cap ? p->cap * 2 : 64;
    uint32_t *at = sv_try_realloc(p->at, cap + 1, sizeof *at);
    if (!at)
        return false;
    p->at = at;
    p->cap = cap;
    p->at[p->n] = p->n ? p->at[p->n] : 0;
    uint32_t *table = sv_try_calloc(cap * 2, sizeof *table);
    if (!table)
        return false;
    for (uint32_t i = 0; i < p->n; i++) {
        size_t h = sv_hash64(p->bytes + p->at[i], p->at[i + 1] - p->at[i], 7) & (cap * 2 - 1);
        while (table[h])
            h = (h + 1) & (cap * 2 - 1);
        table[h] = i + 1;
    }
    free(p->table);
    p->table = table;
    p->mask = cap * 2 - 1;
    return true;
}

/* The number of a key; NONE: no memory. */
static uint32_t intern(pool *p, const void *key, size_t n)
{
    if (p->n == p->cap && !grow_pool(p))
        return SV_VEC_NONE;
    size_t h = sv_hash64(key, n, 7) & p->mask;
    for (; p->table[h]; h = (h + 1) & p->mask) {
        uint32_t i = p->table[h] - 1;
        if (p->at[i + 1] - p->at[i] == n && memcmp(p->bytes + p->at[i], key, n) == 0)
            return i;
    }
    size_t used = p->n ? p->at[p->n] : 0;
    if (used + n > UINT32_MAX)
        return SV_VEC_NONE;
    if (used + n > p->bytes_cap) {
        char *bytes = sv_try_realloc(p->bytes, 1, (used + n) * 2 + 256);
        if (!bytes)
            return SV_VEC_NONE;
        p->bytes = bytes;
        p->bytes_cap = (used + n) * 2 + 256;
    }
    memcpy(p->bytes + used, key, n);
    p->at[p->n] = (uint32_t)used;
    p->at[++p->n] = (uint32_t)(used + n);
    p->table[h] = (uint32_t)p->n;
    return (uint32_t)p->n - 1;
}

static void free_pool(pool *p)
{
    free(p->bytes);
    free(p->at);
    free(p->table);
}

static double number_of(const pool *p, uint32_t i)
{
    double d;
    memcpy(&d, p->bytes + p->at[i], sizeof d);
    return d;
}

static int compare_keys(const void *a, const void *b, void *of)
{
    const pool *p = of;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (p->kind != SV_VEC_VALUE_STRING) {
        double x = number_of(p, i), y = number_of(p, j);
        return x < y ? -1 : x > y;
    }
    size_t n = p->at[i + 1] - p->at[i], m = p->at[j + 1] - p->at[j];
    int c = memcmp(p->bytes + p->at[i], p->bytes + p->at[j], n < m ? n : m);
    return c ? c : n < m ? -1 : n > m;
}

static uint32_t intern_value(pool *p, const sv_vec_value *v)
{
    if (v->kind == SV_VEC_VALUE_NULL)
        return 0;
    if (v->kind != p->kind)
        return RANK_OTHER;
    double number = v->number == 0 ? 0 : v->number; /* no negative zero */
    uint32_t i = v->kind == SV_VEC_VALUE_STRING ? intern(p, v->text, v->n) : intern(p, &number, sizeof number);
    return i == SV_VEC_NONE ? i : i + RANK_KEYS;
}

static bool old_keys(pool *p, const sv_vec_column *old)
{
    for (uint32_t i = 0; i < old->n_keys; i++) {
        bool text = old->kind == SV_VEC_VALUE_STRING;
        uint32_t k = text ? intern(p, old->text + old->text_at[i], old->text_at[i + 1] - old->text_at[i]) : intern(p, &old->numbers[i], sizeof(double));
        if (k != i)
            return false;
    }
    return true;
}

sv_vec_column *sv_vec_column_free(sv_vec_column *c)
{
    if (!c)
        return NULL;
    free(c->rank);
    free(c->posting_at);
    free(c->postings);
    free(c->numbers);
    free(c->text_at);
    free(c->text);
    free(c);
    return NULL;
}

size_t sv_vec_column_bytes(const sv_vec_column *c)
{
    if (!c)
        return 0;
    return (size_t)c->n_slots * 8 + (size_t)c->n_keys * 16 + (c->text ? c->text_at[c->n_keys] : 0);
}

/* Takes the keys over in sorted order and renumbers the ranks. */
static bool finish(sv_vec_column *c, pool *p)
{
    size_t n = p->n;
    SV_AUTO(sv_freep) uint32_t *order = sv_try_calloc(n + 1, sizeof *order);
    SV_AUTO(sv_freep) uint32_t *place = sv_try_calloc(n + 1, sizeof *place);
    c->n_keys = (uint32_t)n;
    c->posting_at = sv_try_calloc(n + RANK_KEYS + 1, sizeof *c->posting_at);
    c->postings = sv_try_calloc((size_t)c->n_slots + 1, sizeof *c->postings);
    bool text = c->kind == SV_VEC_VALUE_STRING;
    if (text) {
        c->text = sv_try_calloc(n ? p->at[n] + 1 : 1, 1);
        c->text_at = sv_try_calloc(n + 1, sizeof *c->text_at);
    } else {
        c->numbers = sv_try_calloc(n + 1, sizeof *c->numbers);
    }
    if (!order || !place || !c->posting_at || !c->postings || (text ? !c->text || !c->text_at : !c->numbers))
        return false;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, compare_keys, p);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = order[i];
        place[k] = i;
        if (text) {
            memcpy(c->text + c->text_at[i], p->bytes + p->at[k], p->at[k + 1] - p->at[k]);
            c->text_at[i + 1] = c->text_at[i] + p->at[k + 1] - p->at[k];
        } else {
            c->numbers[i] = number_of(p, k);
        }
    }
    for (uint32_t s = 0; s < c->n_slots; s++) {
        if (c->rank[s] >= RANK_KEYS)
            c->rank[s] = place[c->rank[s] - RANK_KEYS] + RANK_KEYS;
        c->posting_at[c->rank[s] + 1]++;
    }
    for (size_t r = 0; r < n + RANK_KEYS; r++)
        c->posting_at[r + 1] += c->posting_at[r];
    for (uint32_t s = 0; s < c->n_slots; s++) /* ascending within a rank; posting_at moves one rank on and is moved back */
        c->postings[c->posting_at[c->rank[s]]++] = s;
    memmove(c->posting_at + 1, c->posting_at, (n + RANK_KEYS) * sizeof *c->posting_at);
    c->posting_at[0] = 0;
    return true;
}

sv_vec_column *sv_vec_column_build(const sv_vec_column *old, sv_vec_value_kind kind, uint32_t n,
                                   void (*value)(void *arg, uint32_t slot, sv_vec_value *out), void *arg)
{
    sv_vec_column *c = sv_xnew0(sv_vec_column);
    pool p = {.kind = kind};
    c->kind = kind;
    c->n_slots = n;
    c->rank = sv_try_calloc((size_t)n + 1, sizeof *c->rank);
    bool ok = c->rank && (!old || old_keys(&p, old));
    uint32_t from = old ? old->n_slots : 0;
    if (ok && old)
        memcpy(c->rank, old->rank, (size_t)from * sizeof *c->rank);
    for (uint32_t s = from; ok && s < n; s++) {
        sv_vec_value v;
        value(arg, s, &v);
        c->rank[s] = intern_value(&p, &v);
        ok = c->rank[s] != SV_VEC_NONE;
    }
    ok = ok && finish(c, &p);
    free_pool(&p);
    return ok ? c : sv_vec_column_free(c);
}

/* --- conditions as ranks -------------------------------------------------------------------------------------------- */

static int compare_key(const sv_vec_column *c, uint32_t i, const sv_vec_value *v)
{
    if (c->kind != SV_VEC_VALUE_STRING)
        return c->numbers[i] < v->number ? -1 : c->numbers[i] > v->number;
    size_t n = c->text_at[i + 1] - c->text_at[i];
    int d = memcmp(c->text + c->text_at[i], v->text, n < v->n ? n : v->n);
    return d ? d : n < v->n ? -1 : n > v->n;
}

/* First key that is >= v, or with `after` > v. */
static uint32_t lower_bound(const sv_vec_column *c, const sv_vec_value *v, bool after)
{
    uint32_t lo = 0, hi = c->n_keys;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int d = compare_key(c, mid, v);
        if (d < 0 || (after && d == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void add_ranks(const sv_vec_column *c, sv_vec_ranks *r, uint32_t from, uint32_t to)
{
    if (from >= to)
        return;
    r->n_slots += c->posting_at[to] - c->posting_at[from];
    r->of[r->n].from = from;
    r->of[r->n++].to = to;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

bool sv_vec_column_ranks(const sv_vec_column *c, const sv_vec_condition *k, sv_arena *arena, sv_vec_ranks *out)
{
    uint32_t end = c->n_keys + RANK_KEYS;
    *out = (sv_vec_ranks){.of = sv_arena_alloc(arena, k->n_values + 2, sizeof *out->of)};
    if (!out->of)
        return false;
    if (k->is_range) {
        if ((k->has_lower ? k->lower.kind : k->upper.kind) != c->kind)
            return false;
        uint32_t from = k->has_lower ? lower_bound(c, &k->lower, k->lower_open) + RANK_KEYS : RANK_KEYS;
        uint32_t to = k->has_upper ? lower_bound(c, &k->upper, !k->upper_open) + RANK_KEYS : end;
        add_ranks(c, out, from, to);
        return true;
    }
    uint32_t *ranks = sv_arena_new(arena, uint32_t, k->n_values + 1);
    size_t n = 0;
    for (size_t i = 0; ranks && i < k->n_values; i++) {
        const sv_vec_value *v = &k->values[i];
        if (v->kind == SV_VEC_VALUE_NULL) {
            ranks[n++] = 0;
            continue;
        }
        if (v->kind != c->kind)
            return false; /* rank 1 does not say which other type */
        uint32_t at = lower_bound(c, v, false);
        if (at < c->n_keys && compare_key(c, at, v) == 0)
            ranks[n++] = at + RANK_KEYS;
    }
    if (!ranks)
        return false;
    qsort(ranks, n, sizeof *ranks, compare_u32);
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && ranks[i] == ranks[i - 1])
            continue;
        if (k->none_of)
            add_ranks(c, out, next, ranks[i]);
        else
            add_ranks(c, out, ranks[i], ranks[i] + 1);
        next = ranks[i] + 1;
    }
    if (k->none_of)
        add_ranks(c, out, next, end);
    return true;
}
