/* map.c - open addressing with linear probing, deletion by shifting back
 *
 * Invariant: every entry is reachable from its home slot without crossing an empty one; so deletion moves later entries of the
 * run back rather than leaving tombstones, and a table that is emptied is as quick as a new one. At most 3/4 full. The seed is random per
 * process: keys come from outside. */
#include "base/map.h"

#include "base/hash.h"
#include "base/mem.h"

typedef struct slot { char *key; size_t n; uint64_t hash; void *value; } slot; /* value NULL: empty */
struct sv_smap { slot *slots; size_t n_slots, count; uint64_t seed; };

sv_smap *sv_smap_new(void)
{
    sv_smap *m = sv_xnew0(sv_smap);
    sv_random(&m->seed, sizeof m->seed);
    m->n_slots = 16;
    m->slots = sv_xcalloc(m->n_slots, sizeof *m->slots);
    return m;
}

sv_smap *sv_smap_free(sv_smap *m)
{
    if (!m)
        return NULL;
    for (size_t i = 0; i < m->n_slots; i++)
        free(m->slots[i].key);
    free(m->slots);
    free(m);
    return NULL;
}

/* The slot of the key, or the empty one where it would go. */
static slot *find(const sv_smap *m, sv_str key, uint64_t hash)
{
    for (size_t i = hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
        slot *s = &m->slots[i];
        if (!s->value || (s->hash == hash && sv_str_eq((sv_str){s->key, s->n}, key)))
            return s;
    }
}

static void grow(sv_smap *m)
{
    sv_smap bigger = {.n_slots = m->n_slots * 2, .count = m->count, .seed = m->seed};
    bigger.slots = sv_xcalloc(bigger.n_slots, sizeof *bigger.slots);
    for (size_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].value)
            *find(&bigger, (sv_str){m->slots[i].key, m->slots[i].n}, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    *m = bigger;
}

void *sv_smap_get(const sv_smap *m, sv_str key) { return find(m, key, sv_hash64(key.p, key.n, m->seed))->value; }

void *sv_smap_put(sv_smap *m, sv_str key, void *value)
{
    SV_ASSERT(value != NULL);
    if ((m->count + 1) * 4 > m->n_slots * 3)
        grow(m);
    uint64_t hash = sv_hash64(key.p, key.n, m->seed);
    slot *s = find(m, key, hash);
    void *old = s->value;
    if (!old) {
        *s = (slot){.key = sv_xstrndup(key.n ? key.p : "", key.n), .n = key.n, .hash = hash};
        m->count++;
    }
    s->value = value;
    return old;
}

void *sv_smap_del(sv_smap *m, sv_str key)
{
    slot *s = find(m, key, sv_hash64(key.p, key.n, m->seed));
    void *old = s->value;
    if (!old)
        return NULL;
    free(s->key);
    m->count--;
    size_t mask = m->n_slots - 1, hole = (size_t)(s - m->slots);
    for (size_t i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
        size_t home = m->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* its home is not behind the hole: it may move into it */
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (slot){0};
    return old;
}

size_t sv_smap_count(const sv_smap *m) { return m->count; }

bool sv_smap_next(const sv_smap *m, size_t *i, sv_str *key, void **value)
{
    while (*i < m->n_slots && !m->slots[*i].value)
        ++*i;
    if (*i == m->n_slots)
        return false;
    *key = (sv_str){m->slots[*i].key, m->slots[*i].n};
    *value = m->slots[*i].value;
    ++*i;
    return true;
}
