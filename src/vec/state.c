/* state.c - slots, ids and namespaces in memory, made of nothing but the records of the log
 *
 * A slot is one version of one vector and never changes: an upsert takes a new slot and ends the old one, a delete ends one. So a
 * mutation number and a number of slots name a whole state of the index, and a reader who holds both sees that state while
 * writers go on (README.md, invariants 1 to 5). What is dead goes away when the whole state is made anew from a compacted log.
 *
 * Columns are arrays over reserved addresses: they grow without moving, and readers hold plain pointers. Reserved addresses cost
 * nothing until they are used. */
#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "vec/vec_impl.h"

enum { HUGE_PAGE = 2 << 20, MAX_SLOTS = 1 << 25, TRAIN_SAMPLE = 4096, MAX_NAMESPACES = 1 << 20 };
static const size_t MAX_RESERVED = (size_t)64 << 30;

/* --- address space -------------------------------------------------------------------------------------------------- */

sv_rc sv_vec_array_reserve(sv_vec_array *a, size_t item, size_t n, sv_err *err)
{
    size_t size = (item * n + 2 * HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE;
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return sv_fail_errno(err, "reserve %zu bytes of addresses", size);
    *a = (sv_vec_array){.p = p, .item = item, .reserved = size};
    return SV_OK;
}

sv_rc sv_vec_array_commit(sv_vec_array *a, size_t n, sv_err *err)
{
    size_t need = a->item * n;
    if (need <= a->committed)
        return SV_OK;
    size_t to = need + need / 2 + 65536;
    to = to > 4 * HUGE_PAGE ? (to + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : (to + 4095) / 4096 * 4096;
    if (to > a->reserved)
        to = a->reserved;
    if (need > to)
        return sv_fail(err, SV_ELIMIT, "%zu bytes are over what was reserved", need);
    if (mprotect(a->p, to, PROT_READ | PROT_WRITE) < 0)
        return sv_fail_errno(err, "commit %zu bytes", to);
    if (to > 4 * HUGE_PAGE)
        madvise(a->p, to, MADV_HUGEPAGE); /* random access over hundreds of MB misses the TLB otherwise */
    a->committed = to;
    return SV_OK;
}

void sv_vec_array_done(sv_vec_array *a)
{
    if (a->p)
        munmap(a->p, a->reserved);
    *a = (sv_vec_array){0};
}

/* --- tables --------------------------------------------------------------------------------------------------------- */

static sv_vec_table *new_table(uint32_t size, sv_vec_table *older)
{
    sv_vec_table *t = sv_try_calloc(1, sizeof *t + (size_t)size * sizeof t->entry[0]);
    if (t) {
        t->mask = size - 1;
        t->older = older;
    }
    return t;
}

static void free_tables(sv_vec_table *t)
{
    while (t) {
        sv_vec_table *older = t->older;
        free(t);
        t = older;
    }
}

static void enter(sv_vec_table *t, uint64_t hash, uint32_t value)
{
    uint32_t i = (uint32_t)hash & t->mask;
    while (atomic_load_explicit(&t->entry[i], memory_order_relaxed) != 0)
        i = (i + 1) & t->mask;
    atomic_store_explicit(&t->entry[i], value + 1, memory_order_release);
    t->used++;
}

/* Room for n more; readers of the older table find what they looked for there. */
static sv_rc grow_table(sv_vec_table *_Atomic *table, uint64_t n, uint64_t (*hash)(const void *of, uint32_t value), const void *of, sv_err *err)
{
    sv_vec_table *old = atomic_load(table);
    uint64_t size = (uint64_t)old->mask + 1;
    if ((old->used + n) * 2 <= size)
        return SV_OK;
    while ((old->used + n) * 2 > size)
        size *= 2;
    sv_vec_table *t = size > (uint64_t)1 << 31 ? NULL : new_table((uint32_t)size, old);
    if (!t)
        return sv_fail(err, SV_ENOMEM, "no memory for a table of %llu entries", (unsigned long long)size);
    for (uint64_t i = 0; i <= old->mask; i++) {
        uint32_t e = atomic_load_explicit(&old->entry[i], memory_order_relaxed);
        if (e)
            enter(t, hash(of, e - 1), e - 1);
    }
    atomic_store_explicit(table, t, memory_order_release);
    return SV_OK;
}

static uint64_t slot_hash(const void *s, uint32_t slot)
{
    return ((const sv_vec_state *)s)->hash[slot];
}

static uint64_t namespace_hash(const void *s, uint32_t i)
{
    return atomic_load(&((const sv_vec_state *)s)->namespaces[i])->hash;
}

/* The entry of an id, as a place in the table; NULL: none. */
static _Atomic uint32_t *find_entry(const sv_vec_state *s, const uint8_t *base, sv_str id, uint64_t hash)
{
    sv_vec_table *t = atomic_load_explicit(&s->ids, memory_order_acquire);
    for (uint32_t i = (uint32_t)hash & t->mask;; i = (i + 1) & t->mask) {
        uint32_t e = atomic_load_explicit(&t->entry[i], memory_order_acquire);
        if (e == 0)
            return NULL;
        if (s->hash[e - 1] == hash && sv_str_eq(sv_vec_log_stored(base, s->at[e - 1], (uint32_t)s->config.dimensions).id, id))
            return &t->entry[i];
    }
}

static uint64_t hash_of(sv_str s)
{
    return sv_hash64(s.p, s.n, 0x5e1ed6e);
}

uint32_t sv_vec_state_find(const sv_vec_view *v, sv_str id)
{
    /* The base is taken after the table's entry could be seen: what the entry names lies within it. */
    _Atomic uint32_t *e = find_entry(v->s, sv_vec_log_base(v->s->log), id, hash_of(id));
    uint32_t slot = e ? atomic_load_explicit(e, memory_order_acquire) - 1 : SV_VEC_NONE;
    while (slot != SV_VEC_NONE && slot >= v->n) /* newer than the view */
        slot = v->s->prev[slot];
    return slot != SV_VEC_NONE && sv_vec_lives(v, slot) ? slot : SV_VEC_NONE;
}

void sv_vec_state_link_id(sv_vec_state *s, uint32_t slot)
{
    sv_err err;
    if (grow_table(&s->ids, 1, slot_hash, s, &err) != SV_OK)
        return;
    enter(atomic_load(&s->ids), s->hash[slot], slot);
}

/* --- namespaces ----------------------------------------------------------------------------------------------------- */

uint32_t sv_vec_state_namespace(const sv_vec_state *s, sv_str name)
{
    if (name.n == 0)
        return 0;
    uint64_t hash = hash_of(name);
    sv_vec_table *t = atomic_load_explicit(&s->ns_ids, memory_order_acquire);
    for (uint32_t i = (uint32_t)hash & t->mask;; i = (i + 1) & t->mask) {
        uint32_t e = atomic_load_explicit(&t->entry[i], memory_order_acquire);
        if (e == 0)
            return SV_VEC_NONE;
        const sv_vec_namespace *n = atomic_load(&s->namespaces[e - 1]);
        if (n->hash == hash && sv_str_eq((sv_str){n->name, n->n}, name))
            return e - 1;
    }
}

uint32_t sv_vec_state_add_namespace(sv_vec_state *s, sv_str name)
{
    sv_err err;
    uint32_t i = sv_vec_state_namespace(s, name);
    if (i != SV_VEC_NONE || name.n > SV_VEC_MAX_NAMESPACE)
        return i;
    i = atomic_load(&s->n_namespaces);
    if (i >= MAX_NAMESPACES || grow_table(&s->ns_ids, 1, namespace_hash, s, &err) != SV_OK ||
        sv_vec_array_commit(&s->ns_array, (size_t)i + 1, &err) != SV_OK)
        return SV_VEC_NONE;
    sv_vec_namespace *n = sv_xnew0(sv_vec_namespace);
    n->hash = hash_of(name);
    n->n = (uint8_t)name.n;
    memcpy(n->name, name.p, name.n);
    atomic_store(&s->namespaces[i], n);
    enter(atomic_load(&s->ns_ids), n->hash, i);
    atomic_store(&s->n_namespaces, i + 1);
    return i;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static sv_rc reserve_columns(sv_vec_state *s, sv_err *err)
{
    const size_t item[] = {8, 4, 4, 4, 8, 4, s->coder.stride, (size_t)s->coder.n_words * 8, 4, 4, SV_VEC_LINKS * 4};
    void *const to[] = {&s->at, &s->died, &s->prev, &s->ns, &s->hash, &s->inverse, &s->codes, &s->words, &s->bit_scale, &s->bit_bias, &s->links};
    for (size_t i = 0; i < SV_LEN(item); i++)
        s->slot_bytes += item[i];
    size_t cap = MAX_RESERVED / s->slot_bytes;
    s->cap = cap < MAX_SLOTS ? (uint32_t)cap / SV_VEC_BLOCK * SV_VEC_BLOCK : MAX_SLOTS;
    for (size_t i = 0; i < SV_LEN(item); i++) {
        if (sv_vec_array_reserve(&s->arrays[i], item[i], s->cap, err) != SV_OK)
            return err->code;
        memcpy(to[i], &s->arrays[i].p, sizeof(void *));
    }
    if (sv_vec_array_reserve(&s->ns_array, sizeof(void *), MAX_NAMESPACES, err) != SV_OK || sv_vec_array_commit(&s->ns_array, 1, err) != SV_OK)
        return err->code;
    s->namespaces = (sv_vec_namespace *_Atomic *)(void *)s->ns_array.p;
    return SV_OK;
}

sv_vec_state *sv_vec_state_new(const sv_vec_config *config, sv_vec_log *log, sv_err *err)
{
    sv_vec_state *s = sv_xnew0(sv_vec_state);
    s->config = *config;
    s->log = log;
    sv_random(&s->id, sizeof s->id);
    sv_vec_coder_init(&s->coder, config->metric, config->dimensions);
    s->ids = new_table(64, NULL);
    s->ns_ids = new_table(16, NULL);
    s->fields = sv_xnew0(sv_vec_fields);
    s->n_namespaces = 1;
    if (!s->ids || !s->ns_ids || reserve_columns(s, err) != SV_OK) {
        if (!s->ids || !s->ns_ids)
            sv_fail(err, SV_ENOMEM, "no memory for an index");
        return sv_vec_state_free(s);
    }
    atomic_store(&s->namespaces[0], sv_xnew0(sv_vec_namespace));
    return s;
}

sv_vec_state *sv_vec_state_free(sv_vec_state *s)
{
    if (!s)
        return NULL;
    for (uint32_t i = 0; s->namespaces && i < s->n_namespaces; i++)
        free(atomic_load(&s->namespaces[i]));
    sv_vec_array_done(&s->ns_array);
    for (size_t i = 0; i < SV_LEN(s->arrays); i++)
        sv_vec_array_done(&s->arrays[i]);
    free_tables(s->ids);
    free_tables(s->ns_ids);
    sv_vec_fields *f = s->fields;
    for (size_t i = 0; f && i < f->n; i++)
        sv_vec_column_free(f->column[i]);
    if (f)
        sv_vec_column_free(f->namespaces);
    free(f);
    free((void *)s->spins);
    sv_vec_coder_done(&s->coder);
    sv_vec_log_close(s->log);
    free(s);
    return NULL;
}

uint64_t sv_vec_state_bytes(const sv_vec_state *s)
{
    uint64_t n = (uint64_t)(uint32_t)atomic_load(&s->view), bytes = n * s->slot_bytes;
    const sv_vec_fields *f = atomic_load(&s->fields);
    for (const sv_vec_table *t = atomic_load(&s->ids); t; t = t->older)
        bytes += ((uint64_t)t->mask + 1) * 4;
    for (size_t i = 0; i < f->n; i++)
        bytes += sv_vec_column_bytes(f->column[i]);
    if (atomic_load(&s->n_graph) == 0)
        bytes -= n * SV_VEC_LINKS * 4; /* never touched */
    return bytes + sv_vec_column_bytes(f->namespaces);
}

sv_rc sv_vec_state_make_room(sv_vec_state *s, uint64_t n, sv_err *err)
{
    if (s->seq == UINT32_MAX - 1)
        return sv_fail(err, SV_ELIMIT, "the index takes no more mutations before it is compacted");
    uint64_t want = (uint64_t)s->n + n, bytes = want * s->slot_bytes;
    if (want > s->cap)
        return sv_fail(err, SV_ELIMIT, "the index has room for %u vectors, dead ones included, and holds %u", s->cap, s->n);
    if (s->config.memory_bytes && bytes > s->config.memory_bytes)
        return sv_fail(err, SV_ELIMIT, "%llu vectors would take %llu bytes of memory, the index may use %zu", (unsigned long long)want,
                       (unsigned long long)bytes, s->config.memory_bytes);
    want = (want + SV_VEC_BLOCK - 1) / SV_VEC_BLOCK * SV_VEC_BLOCK; /* blocks are whole */
    for (size_t i = 0; i < SV_LEN(s->arrays); i++)
        if (sv_vec_array_commit(&s->arrays[i], want, err) != SV_OK)
            return err->code;
    return grow_table(&s->ids, n, slot_hash, s, err);
}

/* --- codes ---------------------------------------------------------------------------------------------------------- */

void sv_vec_state_encode(sv_vec_state *s, uint32_t slot)
{
    const float *x = sv_vec_log_stored(sv_vec_log_base(s->log), s->at[slot], (uint32_t)s->config.dimensions).values;
    size_t block = slot / SV_VEC_BLOCK;
    sv_vec_coder_encode(&s->coder, x, s->codes + (size_t)slot * s->coder.stride,
                        s->words + block * (size_t)s->coder.n_words * SV_VEC_BLOCK + slot % SV_VEC_BLOCK, &s->bit_scale[slot], &s->bit_bias[slot]);
}

void sv_vec_state_train(sv_vec_state *s)
{
    const float *sample[TRAIN_SAMPLE];
    const uint8_t *base = sv_vec_log_base(s->log);
    size_t n = 0;
    uint32_t step = s->n_live / TRAIN_SAMPLE > 0 ? (uint32_t)(s->n_live / TRAIN_SAMPLE) : 1, i_live = 0;
    for (uint32_t i = 0; i < s->n && n < TRAIN_SAMPLE; i++)
        if (s->died[i] == SV_VEC_NONE && i_live++ % step == 0)
            sample[n++] = sv_vec_log_stored(base, s->at[i], (uint32_t)s->config.dimensions).values;
    if (n == 0)
        return;
    sv_vec_coder_train(&s->coder, sample, n);
    s->trained_n = s->n;
    for (uint32_t i = 0; i < s->n; i++)
        sv_vec_state_encode(s, i);
    atomic_store_explicit(&s->trained, true, memory_order_release);
}

/* --- records -------------------------------------------------------------------------------------------------------- */

static void end_slot(sv_vec_state *s, uint32_t slot)
{
    atomic_store_explicit(&s->died[slot], s->seq, memory_order_relaxed); /* seen together with the view that names seq */
    s->n_live--;
    s->garbage_bytes += sv_vec_log_stored(sv_vec_log_base(s->log), s->at[slot], (uint32_t)s->config.dimensions).size;
    atomic_fetch_sub(&atomic_load(&s->namespaces[s->ns[slot]])->n_live, 1);
}

static sv_rc apply_item(sv_vec_state *s, const sv_vec_stored *item, uint64_t at, bool replay, sv_err *err)
{
    uint32_t slot = s->n, ns = sv_vec_state_add_namespace(s, item->ns);
    if (ns == SV_VEC_NONE)
        return sv_fail(err, SV_ELIMIT, "more than %d namespaces", MAX_NAMESPACES);
    uint64_t hash = hash_of(item->id);
    _Atomic uint32_t *e = find_entry(s, sv_vec_log_base(s->log), item->id, hash);
    uint32_t old = e ? atomic_load(e) - 1 : SV_VEC_NONE;
    s->at[slot] = at;
    atomic_store_explicit(&s->died[slot], SV_VEC_NONE, memory_order_relaxed);
    s->prev[slot] = old;
    s->ns[slot] = ns;
    s->hash[slot] = hash;
    if (s->config.metric == SV_VEC_COSINE)
        s->inverse[slot] = 1.0f / sqrtf(sv_vec_kernels_get()->dot(item->values, item->values, s->config.dimensions));
    if (!replay && s->trained)
        sv_vec_state_encode(s, slot);
    s->n = slot + 1;
    s->n_live++;
    atomic_fetch_add(&atomic_load(&s->namespaces[ns])->n_live, 1);
    if (old == SV_VEC_NONE) {
        enter(atomic_load(&s->ids), hash, slot);
        return SV_OK;
    }
    if (s->died[old] == SV_VEC_NONE)
        end_slot(s, old);
    atomic_store_explicit(e, slot + 1, memory_order_release);
    return SV_OK;
}

static sv_rc apply_upsert(sv_vec_state *s, const sv_vec_record *r, bool replay, sv_err *err)
{
    uint64_t at = 0, from = 0;
    sv_vec_stored item;
    for (; sv_vec_log_item(r->body, (uint32_t)s->config.dimensions, &at, &item); from = at)
        if (sv_vec_state_make_room(s, 1, err) != SV_OK || apply_item(s, &item, r->body_at + from, replay, err) != SV_OK)
            return err->code;
    if (at != r->body.n)
        return sv_fail(err, SV_EFORMAT, "a batch of vectors in the log is damaged at %llu", (unsigned long long)(r->body_at + at));
    if (!replay && !s->trained && s->n >= SV_VEC_TRAIN_MIN)
        sv_vec_state_train(s);
    return SV_OK;
}

static sv_rc apply_delete(sv_vec_state *s, const sv_vec_record *r, sv_err *err)
{
    uint64_t at = 0;
    sv_str id;
    while (sv_vec_log_id(r->body, &at, &id)) {
        _Atomic uint32_t *e = find_entry(s, sv_vec_log_base(s->log), id, hash_of(id));
        uint32_t slot = e ? atomic_load(e) - 1 : SV_VEC_NONE;
        if (slot != SV_VEC_NONE && s->died[slot] == SV_VEC_NONE)
            end_slot(s, slot);
    }
    return at == r->body.n ? SV_OK : sv_fail(err, SV_EFORMAT, "a list of ids in the log is damaged");
}

sv_vec_fields *sv_vec_fields_copy(const sv_vec_fields *f)
{
    sv_vec_fields *copy = sv_xnew0(sv_vec_fields);
    *copy = *f;
    return copy;
}

int sv_vec_fields_find(const sv_vec_fields *f, sv_str name)
{
    for (size_t i = 0; i < f->n; i++)
        if (sv_str_is(name, f->field[i].name))
            return (int)i;
    return -1;
}

/* During replay nobody reads yet, so the list changes in place; later index.c swaps lists. */
static sv_rc apply_field(sv_vec_state *s, const sv_vec_record *r, sv_err *err)
{
    sv_vec_fields *f = atomic_load(&s->fields);
    bool create = r->kind == SV_VEC_LOG_FIELD_CREATE;
    sv_str name = create ? (sv_str){r->body.p + 1, r->body.n - 1} : r->body;
    if (r->body.n <= create || name.n > SV_VEC_MAX_KEY || (create && ((uint8_t)r->body.p[0] > SV_VEC_BOOLEAN || f->n == SV_VEC_MAX_FIELDS)))
        return sv_fail(err, SV_EFORMAT, "a metadata index in the log makes no sense");
    int i = sv_vec_fields_find(f, name);
    if (create && i < 0) {
        sv_vec_field *to = &f->field[f->n++];
        to->type = (sv_vec_type)r->body.p[0];
        memcpy(to->name, name.p, name.n);
        to->name[name.n] = 0;
    } else if (!create && i >= 0) {
        sv_vec_column_free(f->column[i]);
        f->n--;
        memmove(&f->field[i], &f->field[i + 1], (f->n - (size_t)i) * sizeof f->field[0]);
        memmove(&f->column[i], &f->column[i + 1], (f->n - (size_t)i) * sizeof f->column[0]);
        f->column[f->n] = NULL;
    }
    return SV_OK;
}

sv_rc sv_vec_state_apply(sv_vec_state *s, const sv_vec_record *r, bool replay, sv_err *err)
{
    s->seq++;
    s->last_ms = r->time_ms;
    size_t n = r->mutation.n < SV_VEC_MAX_MUTATION ? r->mutation.n : SV_VEC_MAX_MUTATION;
    memcpy(s->last_mutation, r->mutation.p, n);
    s->last_mutation[n] = 0;
    switch (r->kind) {
    case SV_VEC_LOG_UPSERT:
        return apply_upsert(s, r, replay, err);
    case SV_VEC_LOG_DELETE:
        s->garbage_bytes += r->body.n;
        return apply_delete(s, r, err);
    case SV_VEC_LOG_FIELD_CREATE:
    case SV_VEC_LOG_FIELD_DELETE:
        return replay ? apply_field(s, r, err) : SV_OK;
    case SV_VEC_LOG_NOTE:
        return SV_OK;
    }
    return SV_OK;
}

void sv_vec_state_publish(sv_vec_state *s, uint64_t view)
{
    atomic_store_explicit(&s->view, view, memory_order_release);
}
