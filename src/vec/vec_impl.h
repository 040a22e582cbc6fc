/* vec_impl.h - what the files of the index share; README.md explains how they fit together */
#ifndef SV_VEC_VEC_IMPL_H
#define SV_VEC_VEC_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "vec/codes.h"
#include "vec/filter_impl.h"
#include "vec/log.h"
#include "vec/vec.h"

enum {
    SV_VEC_NONE = UINT32_MAX, /* no slot; also died of what lives */
    SV_VEC_LINKS = 32,        /* neighbours of a node in the graph */
    SV_VEC_TRAIN_MIN = 1024,  /* vectors from which on there are codes */
    SV_VEC_GRAPH_MIN = 32768,
};

/* --- address space -------------------------------------------------------------------------------------------------- */

/* An array that grows without moving: addresses are reserved once, memory comes as it is used. */
typedef struct sv_vec_array {
    uint8_t *p;
    size_t item, reserved, committed; /* bytes */
} sv_vec_array;
SV_MUST sv_rc sv_vec_array_reserve(sv_vec_array *a, size_t item, size_t n, sv_err *err);
SV_MUST sv_rc sv_vec_array_commit(sv_vec_array *a, size_t n, sv_err *err);
void sv_vec_array_done(sv_vec_array *a);

/* --- columns: an index over one property ---------------------------------------------------------------------------- */

/* Immutable. Covers slots [0, n_slots), dead ones included: who reads knows which live. A slot's rank is 0 where the property is
 * null or absent, 1 where it is of another type, and 2 + i for key i of the sorted keys. */
typedef struct sv_vec_column {
    sv_vec_value_kind kind;
    uint32_t n_slots, n_keys;
    uint32_t *rank;       /* [n_slots] */
    uint32_t *posting_at; /* [n_keys + 3]: slots of rank r are postings[posting_at[r] .. posting_at[r + 1]) */
    uint32_t *postings;   /* [n_slots] */
    double *numbers;      /* [n_keys], NUMBER and BOOLEAN */
    uint32_t *text_at;    /* [n_keys + 1], STRING */
    char *text;
} sv_vec_column;

/* `value(arg, slot, &v)` gives slots [old->n_slots, n); those before come from `old` (NULL: none). NULL: no memory. */
sv_vec_column *sv_vec_column_build(const sv_vec_column *old, sv_vec_value_kind kind, uint32_t n,
                                   void (*value)(void *arg, uint32_t slot, sv_vec_value *out), void *arg);
sv_vec_column *sv_vec_column_free(sv_vec_column *c);
size_t sv_vec_column_bytes(const sv_vec_column *c);

/* The ranks that a condition takes: sorted, disjoint, [from, to). */
typedef struct sv_vec_ranks {
    struct { uint32_t from, to; } *of;
    size_t n;
    uint64_t n_slots; /* in all of them */
} sv_vec_ranks;
/* false: this column cannot tell (another type); else *out lies in the arena. SV_VEC_VALUE_STRING and so on need equal kinds. */
bool sv_vec_column_ranks(const sv_vec_column *c, const sv_vec_condition *condition, sv_arena *arena, sv_vec_ranks *out);
static inline bool sv_vec_ranks_have(const sv_vec_ranks *r, uint32_t rank)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (rank >= r->of[mid].to)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->n && rank >= r->of[lo].from;
}

/* Immutable list of the metadata indexes; a column is NULL until it is built. */
typedef struct sv_vec_fields {
    size_t n;
    sv_vec_field field[SV_VEC_MAX_FIELDS];
    sv_vec_column *column[SV_VEC_MAX_FIELDS];
    sv_vec_column *namespaces; /* of namespace numbers as numbers */
} sv_vec_fields;

/* --- state ---------------------------------------------------------------------------------------------------------- */

typedef struct sv_vec_table { /* open addressing; entries are slot + 1, 0 is free */
    uint32_t mask, used;
    struct sv_vec_table *older; /* kept for readers until the state goes */
    _Atomic uint32_t entry[];
} sv_vec_table;

typedef struct sv_vec_namespace {
    uint64_t hash;
    uint8_t n;
    char name[SV_VEC_MAX_NAMESPACE];
    _Atomic uint64_t n_live;
} sv_vec_namespace;

typedef struct sv_vec_state {
    sv_vec_config config;
    uint64_t id; /* random; in cursors */
    sv_vec_log *log;
    uint32_t cap; /* most slots */

    /* Columns by slot, written once before the slot is published; died and links change. */
    uint64_t *at;             /* of the vector in the log */
    _Atomic uint32_t *died;   /* the mutation that ended it, or NONE */
    uint32_t *prev;           /* the slot this id had before, or NONE */
    uint32_t *ns;             /* namespace number; 0: none */
    uint64_t *hash;           /* of the id */
    float *inverse;           /* cosine: 1 / |x| */
    uint8_t *codes;
    uint64_t *words;
    float *bit_scale, *bit_bias;
    _Atomic uint32_t *links;  /* [SV_VEC_LINKS], NONE behind the last */
    sv_vec_array arrays[11];
    size_t slot_bytes;

    sv_vec_coder coder;
    _Atomic bool trained;     /* all slots have codes */
    uint32_t trained_n;

    _Atomic uint64_t view;    /* what readers see: mutation number << 32 | number of slots */
    uint32_t seq, n;          /* what is applied; the writer's */
    _Atomic uint64_t n_live;  /* as applied; readers take it for an estimate */
    uint64_t garbage_bytes;
    uint64_t checkpoint_end;  /* the log's end when the checkpoint was written; 0: none */
    uint32_t checkpoint_graph; /* and n_graph */
    sv_vec_table *_Atomic ids;

    sv_vec_array ns_array;    /* of sv_vec_namespace *, number 0 is no namespace */
    sv_vec_namespace *_Atomic *namespaces;
    sv_vec_table *_Atomic ns_ids;
    _Atomic uint32_t n_namespaces;

    sv_vec_fields *_Atomic fields;

    int64_t last_ms;          /* the newest mutation applied; the writer's */
    char last_mutation[SV_VEC_MAX_MUTATION + 1];

    _Atomic uint32_t n_graph; /* slots [0, n_graph) are in the graph */
    uint32_t n_building;      /* and so many are being put in; the builder's */
    _Atomic uint32_t *spins;  /* locks of nodes, striped; the builder's */
    _Atomic uint32_t graph_effort, bits_effort; /* as measured, 0: not yet */
    _Atomic float graph_us, bits_us;            /* and what a query costs with them */
    uint32_t calibrated_n, calibrated_graph;    /* slots and graph when that was measured; the background thread's */
} sv_vec_state;

/* What a reader sees. */
typedef struct sv_vec_view {
    const sv_vec_state *s;
    const uint8_t *base; /* of the log */
    uint32_t seq, n;
} sv_vec_view;

static inline sv_vec_view sv_vec_view_of(const sv_vec_state *s)
{
    uint64_t v = atomic_load_explicit(&s->view, memory_order_acquire);
    return (sv_vec_view){s, sv_vec_log_base(s->log), (uint32_t)(v >> 32), (uint32_t)v};
}

static inline bool sv_vec_lives(const sv_vec_view *v, uint32_t slot)
{
    return slot < v->n && atomic_load_explicit(&v->s->died[slot], memory_order_relaxed) > v->seq;
}

static inline sv_vec_stored sv_vec_at(const sv_vec_view *v, uint32_t slot)
{
    return sv_vec_log_stored(v->base, v->s->at[slot], (uint32_t)v->s->config.dimensions);
}

static inline const float *sv_vec_values(const sv_vec_view *v, uint32_t slot)
{
    return (const float *)(const void *)(v->base + v->s->at[slot] + 16);
}

static inline const uint8_t *sv_vec_code(const sv_vec_state *s, uint32_t slot)
{
    return s->codes + (size_t)slot * s->coder.stride;
}

sv_vec_state *sv_vec_state_new(const sv_vec_config *config, sv_vec_log *log, sv_err *err); /* takes the log; NULL: err */
sv_vec_state *sv_vec_state_free(sv_vec_state *s);
/* Room for n more slots and their memory within the budget. */
SV_MUST sv_rc sv_vec_state_make_room(sv_vec_state *s, uint64_t n, sv_err *err);
/* One record that lies in the log; the writer's. `replay`: codes come later, by train. Bodies were checked by who wrote them, and
 * are checked again here. */
SV_MUST sv_rc sv_vec_state_apply(sv_vec_state *s, const sv_vec_record *r, bool replay, sv_err *err);
void sv_vec_state_train(sv_vec_state *s); /* makes codes of all slots, with a new mean */
void sv_vec_state_encode(sv_vec_state *s, uint32_t slot);
void sv_vec_state_publish(sv_vec_state *s, uint64_t view);
/* The slot of an id in a view, or NONE. */
uint32_t sv_vec_state_find(const sv_vec_view *v, sv_str id);
/* A namespace's number; NONE: never seen. */
uint32_t sv_vec_state_namespace(const sv_vec_state *s, sv_str name);
uint64_t sv_vec_state_bytes(const sv_vec_state *s);
sv_vec_fields *sv_vec_fields_copy(const sv_vec_fields *f);
int sv_vec_fields_find(const sv_vec_fields *f, sv_str name); /* -1: none */
void sv_vec_state_link_id(sv_vec_state *s, uint32_t slot); /* for the checkpoint: enters a slot into the table of ids */
uint32_t sv_vec_state_add_namespace(sv_vec_state *s, sv_str name);

static inline uint64_t sv_vec_applied(const sv_vec_state *s)
{
    return (uint64_t)s->seq << 32 | s->n;
}

/* --- graph ---------------------------------------------------------------------------------------------------------- */

/* Puts slots [n_graph, n) into the graph with n_threads; n as published. Stops early when *stop. One builder at a time, beside readers. */
void sv_vec_graph_extend(sv_vec_state *s, uint32_t n, int n_threads, const _Atomic bool *stop);

/* Memory of one search; start from {0}. */
typedef struct sv_vec_walk {
    uint64_t *visited;   /* a bit a slot, all 0 between searches */
    size_t visited_words;
    uint32_t *touched;   /* the visited slots */
    size_t n_touched, touched_cap;
    uint64_t *pool;      /* best first: sortable score << 32 | slot, see graph.c */
    uint8_t *done;       /* expanded */
    size_t pool_cap, n;
} sv_vec_walk;
void sv_vec_walk_done(sv_vec_walk *w);
/* The `width` best nodes that a walk from the nearest entries finds, dead ones included; in w->pool[0 .. w->n), best first. */
bool sv_vec_graph_search(const sv_vec_state *s, uint32_t n_graph, const sv_vec_code_query *q, size_t width, sv_vec_walk *w);

/* Floats as unsigned numbers of the same order. */
static inline uint32_t sv_vec_sortable(float f)
{
    uint32_t u;
    __builtin_memcpy(&u, &f, 4);
    return u >> 31 ? ~u : u | 0x80000000u;
}

static inline float sv_vec_unsortable(uint32_t u)
{
    float f;
    u = u >> 31 ? u & 0x7fffffffu : ~u;
    __builtin_memcpy(&f, &u, 4);
    return f;
}

/* --- checkpoint ------------------------------------------------------------------------------------------------------ */

SV_MUST sv_rc sv_vec_checkpoint_save(const sv_vec_state *s, uint64_t covered, const char *path, sv_err *err); /* writer's lock held */
/* Fills a new state; *covered: the log is in it up to there. SV_ENOENT, or SV_EFORMAT with the state to be thrown away. */
SV_MUST sv_rc sv_vec_checkpoint_load(sv_vec_state *s, const char *path, uint64_t *covered, sv_err *err);

/* --- the open index --------------------------------------------------------------------------------------------------- */

typedef struct sv_vec_retired {
    void *p;
    void (*free_it)(void *p);
    struct sv_vec_retired *next;
} sv_vec_retired;

struct sv_vec {
    char *dir;
    sv_vec_config config;
    int lock_fd;
    sv_vec_state *_Atomic state;

    /* The gate: readers count themselves in and out by the parity of the epoch they came in. */
    _Atomic uint64_t epoch;
    struct { _Atomic int64_t n __attribute__((aligned(64))); } readers[2];

    pthread_mutex_t write_lock; /* guards the log's end and the writer's part of the state. sync_lock may be taken while it is held */
    pthread_mutex_t sync_lock;  /* guards a sync in progress; only published_lock may be taken while it is held */
    pthread_mutex_t published_lock; /* guards the next lines; nothing is taken while it is held */
    uint64_t applied_view, applied_live, applied_end, applied_garbage, published_live;
    int64_t applied_ms, published_ms;
    char applied_mutation[SV_VEC_MAX_MUTATION + 1], published_mutation[SV_VEC_MAX_MUTATION + 1];
    _Atomic bool failed;            /* the disk failed us */

    pthread_mutex_t work_lock;      /* guards the background thread's flags; nothing is taken while it is held */
    pthread_cond_t work_due, work_done;
    pthread_t thread;
    bool has_thread, due, busy;
    _Atomic bool stop;
    pthread_mutex_t build_lock;     /* one rebuild or graph extension at a time; taken before write_lock */
    sv_vec_retired *retired;        /* guarded by write_lock */
};

static inline unsigned sv_vec_enter(sv_vec *v)
{
    for (;;) {
        uint64_t e = atomic_load(&v->epoch);
        atomic_fetch_add(&v->readers[e & 1].n, 1);
        if (atomic_load(&v->epoch) == e)
            return e & 1;
        atomic_fetch_sub(&v->readers[e & 1].n, 1); /* a swap came in between */
    }
}

static inline void sv_vec_leave(sv_vec *v, unsigned side)
{
    atomic_fetch_sub(&v->readers[side].n, 1);
}

void sv_vec_retire(sv_vec *v, void *p, void (*free_it)(void *p)); /* write_lock held */
void sv_vec_free_retired(sv_vec *v, bool wait);
void sv_vec_wake(sv_vec *v);
void *sv_vec_background(void *v);
bool sv_vec_work_is_due(const sv_vec_state *s); /* write_lock held */
/* What is applied, for the next sync to publish; `published`: it is on the disk already. write_lock held, or nobody else there. */
void sv_vec_note_applied(sv_vec *v, const sv_vec_state *s, bool published);
void sv_vec_free_index(sv_vec *v); /* nobody else there */
/* Background: finds effort and cost of graph and bits on this state. What it had not found when *stop came stays as it was. */
void sv_vec_calibrate(sv_vec_state *s, const _Atomic bool *stop);
/* Slots that live and match, in order, in the view of the writer. NULL: no memory. */
SV_MUST sv_rc sv_vec_matching_slots(const sv_vec_view *view, const sv_vec_filter *filter, sv_str ns, uint32_t **slots, size_t *n, sv_err *err);
void sv_vec_refresh_columns(sv_vec *v);
bool sv_vec_columns_stale(const sv_vec_state *s);

#endif
