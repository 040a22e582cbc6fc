/* vec.h - a vector index in a folder of its own: nearest neighbours, filters, and a log that loses nothing
 *
 * Contract. A mutation returns when it is on the disk, and every query that begins after that sees it, whole. A batch is
 * taken as one: all of it survives a crash or nothing. Scores that come out are computed from the full float32 vectors, whatever
 * codes and graph found the candidates.
 *
 * Threads: every function may be called from any thread at any time between open and close; close needs to be alone. Queries,
 * gets, lists and info take no lock and never wait for a writer; they see the state of one moment. Mutations wait for each other
 * and for the disk, so they belong on a thread that may block; those that come together share one sync. An open index has one
 * background thread (codes, graph, compaction) and borrows more of them while it builds a graph.
 *
 * Outside bytes: lengths and values are checked here (SV_EINVAL, SV_ELIMIT with the numbers); a refused batch leaves no trace.
 * After the disk failed a write or a sync, mutations answer SV_EIO until the index is opened anew; queries go on. */
#ifndef SV_VEC_VEC_H
#define SV_VEC_VEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "vec/filter.h"

enum {
    SV_VEC_MAX_DIMENSIONS = 4096, /* the original stops at 1536; who wants that checks it */
    SV_VEC_MAX_ID = 64,           /* bytes; 1 at least */
    SV_VEC_MAX_NAMESPACE = 64,
    SV_VEC_MAX_METADATA = 10240, /* bytes of JSON text */
    SV_VEC_MAX_BATCH = 5000,     /* vectors, or ids to delete, in one call */
    SV_VEC_MAX_TOP_K = 1000,     /* the product has smaller ones */
    SV_VEC_MAX_LIST = 1000,
    SV_VEC_MAX_FIELDS = 10,      /* metadata indexes */
    SV_VEC_MAX_MUTATION = 64,    /* bytes of a mutation id */
};

typedef enum sv_vec_metric { SV_VEC_COSINE, SV_VEC_EUCLIDEAN, SV_VEC_DOT } sv_vec_metric;

typedef struct sv_vec_config {
    int32_t dimensions;  /* 1 to SV_VEC_MAX_DIMENSIONS */
    sv_vec_metric metric;
    size_t memory_bytes; /* most that codes, graph and tables may take; 0: no bound. Full vectors stay in the log's file, mapped */
    int n_threads;       /* for building; 0: all cores this process may use */
    int32_t graph_min;   /* vectors from which on a graph is built; 0: 32,768. Tests lower it */
} sv_vec_config;

typedef struct sv_vec sv_vec;

/* Opens the index in `dir`, or makes it there (the folder too). config NULL: only an existing one, with what it was made with.
 * SV_ENOENT (config NULL, nothing there), SV_ECONFLICT (made with other dimensions or metric, or open in another process),
 * SV_EFORMAT, SV_EIO. A torn end of the log is cut off and logged; a damaged graph or code file is made anew. */
SV_MUST sv_rc sv_vec_open(sv_vec **out, const char *dir, const sv_vec_config *config, sv_err *err);
sv_vec *sv_vec_close(sv_vec *v); /* NULL is fine; returns NULL. Writes what makes the next open fast */
SV_DEFINE_AUTO(sv_vec, sv_vec_close)
/* Removes a closed index with its folder; absent is fine. */
SV_MUST sv_rc sv_vec_destroy(const char *dir, sv_err *err);

/* --- mutations ----------------------------------------------------------------------------------------------------- */

typedef struct sv_vec_item {
    sv_str id;           /* 1 to 64 bytes, valid UTF-8 */
    const float *values; /* [dimensions], finite; under cosine not all zero */
    sv_str ns;           /* namespace; n 0: none */
    sv_str metadata;     /* a JSON object as text; n 0: none. Checked, kept byte by byte */
} sv_vec_item;

/* `mutation` (at most SV_VEC_MAX_MUTATION bytes, may be empty) is what info names as the last one afterwards; it survives with the log.
 * n may be 0: then only the mutation is recorded. Of an id that comes twice in one batch the last one stays (insert: the first). */
SV_MUST sv_rc sv_vec_upsert(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, sv_err *err);
/* Ids that exist already keep what they have. taken: NULL or [n], which items went in; *n_taken may be NULL. */
SV_MUST sv_rc sv_vec_insert(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, bool *taken, size_t *n_taken, sv_err *err);
/* Checks what upsert and insert would check of one item, without an index to hand it to: for readers of long bodies. */
SV_MUST sv_rc sv_vec_check_item(const sv_vec *v, const sv_vec_item *item, sv_err *err);
/* Unknown ids are fine. *n_deleted may be NULL. */
SV_MUST sv_rc sv_vec_delete(sv_vec *v, const sv_str *ids, size_t n, sv_str mutation, size_t *n_deleted, sv_err *err);
/* Deletes what `filter` (NULL: everything) takes within namespace `ns` (p NULL: all of them). The log keeps the ids, not the filter. */
SV_MUST sv_rc sv_vec_delete_matching(sv_vec *v, const sv_vec_filter *filter, sv_str ns, sv_str mutation, size_t *n_deleted, sv_err *err);

/* --- queries ------------------------------------------------------------------------------------------------------- */

typedef enum sv_vec_metadata { SV_VEC_METADATA_NONE, SV_VEC_METADATA_INDEXED, SV_VEC_METADATA_ALL } sv_vec_metadata;
typedef enum sv_vec_plan {
    SV_VEC_PLAN_AUTO,   /* the planner chooses by estimated cost */
    SV_VEC_PLAN_EXACT,  /* every candidate by its full vector */
    SV_VEC_PLAN_CODES,  /* int8 codes of every candidate, the best by full vector */
    SV_VEC_PLAN_BITS,   /* sign bits of every candidate, then int8, then full */
    SV_VEC_PLAN_GRAPH,
} sv_vec_plan;

typedef struct sv_vec_query {
    const float *vector;         /* [dimensions], finite; NULL: the stored vector of `id` (SV_ENOENT when absent) */
    sv_str id;
    int32_t top_k;               /* 1 to SV_VEC_MAX_TOP_K */
    sv_str ns;                   /* p NULL: all namespaces; n 0 with p set: only vectors without one */
    const sv_vec_filter *filter; /* NULL: none; borrowed during the call */
    bool return_values;
    sv_vec_metadata return_metadata;
    sv_vec_plan plan;            /* anything but AUTO is for tests and benchmarks; what is not built yet falls back to a scan */
    int32_t effort;              /* width of the search (graph: ef; bits: candidates rescored); 0: as measured on this index */
} sv_vec_query;

typedef struct sv_vec_match {
    sv_str id;
    float score;         /* cosine -1 to 1 and dot product: larger is closer; euclidean: the distance, smaller is closer */
    sv_str ns;           /* n 0: none */
    const float *values; /* as they came in; NULL unless asked for */
    sv_str metadata;     /* JSON text; n 0: none, or not asked for */
} sv_vec_match;

/* Everything a query, get or list handed out; lives until freed, also after close. Start from {0}. */
typedef struct sv_vec_matches {
    sv_vec_match *items; /* best first; equal scores by id */
    size_t n;
    sv_vec_plan plan;    /* what was done */
    sv_arena *arena;     /* owns all of it */
} sv_vec_matches;
void sv_vec_matches_done(sv_vec_matches *m); /* {0} is fine */

SV_MUST sv_rc sv_vec_query_run(sv_vec *v, const sv_vec_query *q, sv_vec_matches *out, sv_err *err);
/* The stored ones of `ids`, in that order, unknown ones left out; values and metadata always, score 0. */
SV_MUST sv_rc sv_vec_get(sv_vec *v, const sv_str *ids, size_t n, sv_vec_matches *out, sv_err *err);

/* Ids in the order of their first arrival since the last compaction, ids only. `cursor` n 0: from the start; else what the last page gave.
 * next_cursor: room for SV_VEC_CURSOR bytes; empty when this was the last page. Mutations between pages: what stays is listed at
 * least once, unless a compaction came in between: then SV_ECONFLICT, begin anew. SV_EINVAL: no cursor of ours. */
enum { SV_VEC_CURSOR = 49 }; /* 48 hex digits and the NUL */
SV_MUST sv_rc sv_vec_list(sv_vec *v, sv_str cursor, int32_t limit, sv_vec_matches *out, char *next_cursor, sv_err *err);

typedef struct sv_vec_info {
    sv_vec_config config;
    uint64_t n_vectors, n_namespaces;
    uint64_t disk_bytes, garbage_bytes;   /* the log, and how much of it is dead */
    uint64_t memory_bytes;                /* codes, graph, tables */
    uint64_t n_in_graph;                  /* 0: none yet, or none needed */
    bool busy;                            /* the background thread has work left */
    int64_t last_mutation_ms;             /* 0: never */
    char last_mutation[SV_VEC_MAX_MUTATION + 1];
} sv_vec_info;
void sv_vec_info_get(sv_vec *v, sv_vec_info *out);

/* --- metadata indexes ---------------------------------------------------------------------------------------------- */

typedef enum sv_vec_type { SV_VEC_STRING, SV_VEC_NUMBER, SV_VEC_BOOLEAN } sv_vec_type;
typedef struct sv_vec_field {
    char name[SV_VEC_MAX_KEY + 1]; /* dots go into nested objects */
    sv_vec_type type;
} sv_vec_field;

/* Covers vectors from before too. The same again succeeds and changes nothing; another type for it is SV_ECONFLICT; SV_ELIMIT after ten.
 * Filters work on all fields; an index makes them fast, and visible to SV_VEC_METADATA_INDEXED. */
SV_MUST sv_rc sv_vec_field_create(sv_vec *v, sv_str name, sv_vec_type type, sv_str mutation, sv_err *err);
SV_MUST sv_rc sv_vec_field_delete(sv_vec *v, sv_str name, sv_str mutation, sv_err *err); /* SV_ENOENT */
size_t sv_vec_field_list(sv_vec *v, sv_vec_field out[SV_VEC_MAX_FIELDS]);

/* Waits until the background thread has nothing left to do, or the time is over (false). For tests and benchmarks. */
bool sv_vec_settle(sv_vec *v, int timeout_ms);
/* Rewrites the log and everything derived from it without the dead, now; the background thread does the same when half is garbage. */
SV_MUST sv_rc sv_vec_compact(sv_vec *v, sv_err *err);

#endif
