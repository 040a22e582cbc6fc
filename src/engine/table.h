/* table.h - the models that are loaded, by path, each with its thread
 *
 * A model is loaded by its first request, in its own thread, so that other models go on; it goes when it was idle for long, or when another
 * needs its room. A file that was replaced (by rename: another inode or time) is another model: requests under way end on the old
 * one, new ones load the new one. What failed to load stays known with its sentence until the file changes, or for some seconds where trying again
 * may help.
 *
 * Threads: the loop's; events come on it. */
#ifndef SV_ENGINE_TABLE_H
#define SV_ENGINE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "engine/compute.h"
#include "engine/room.h"
#include "engine/sched.h"
#include "engine/wire.h"

typedef struct sv_table sv_table;

/* A generation inside the engine. Whoever submits it keeps it until its end came; then it is theirs to free. */
typedef struct sv_job {
    sv_wire_gen gen;      /* owned, with the bytes that it borrows from: */
    char *bytes;
    _Atomic bool cancel;  /* set by the loop */
    void *owner;          /* the caller's */
    uint32_t id;          /* the caller's */
    /* The table's: */
    struct sv_model *model;
    struct sv_job *next;
    sv_tokens prompt;
} sv_job;
sv_job *sv_job_free(sv_job *j); /* NULL is fine; returns NULL */

typedef struct sv_table_opts { /* zeros are the defaults */
    sv_room *room;        /* borrowed; for the files of loaded models. No default */
    const char *pack_dir; /* packed weights are kept here (models/packed.h); NULL: in memory. Outlives the table */
    int64_t idle_ms;      /* 15 min: a model without requests goes */
    int32_t max_models;   /* 32 loaded at once */
    sv_sched_opts sched;  /* of each model; kv_bytes 0: a quarter of the memory */
    void (*on_start)(sv_job *j, const sv_usage *usage);
    void (*on_text)(sv_job *j, sv_str text, int32_t n_tokens);
    void (*on_probs)(sv_job *j, sv_str packed);
    void (*on_batch)(void *arg); /* the events of a step are told: time to write */
    void *arg;
    void (*on_end)(sv_job *j, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err); /* once, last */
} sv_table_opts;

sv_table *sv_table_new(sv_loop *loop, sv_compute *compute, const sv_table_opts *opts);
/* Ends what lives: every job gets its on_end inside. Waits for the threads, at most a step each. NULL is fine; returns NULL */
sv_table *sv_table_free(sv_table *t);

/* On failure the job is still the caller's and no event comes. SV_ENOENT, SV_EFORMAT and others from loading; SV_ELIMIT with api_code 3040: too many
 * wait, or no room for another model. */
SV_MUST sv_rc sv_table_submit(sv_table *t, sv_job *j, sv_err *err);
void sv_table_cancel(sv_job *j); /* its end comes within a step */
/* Appends "models":[...],"queue":N,"tokens":N,"steps":N,"cancelled":N. */
void sv_table_add_stats(const sv_table *t, sv_buf *out);

#endif
