/* encode.h - requests to text encoders: a queue and a thread per model, texts of different requests and tenants in one batch
 *
 * Threads: the loop's; ends come on it. */
#ifndef SV_ENGINE_ENCODE_H
#define SV_ENGINE_ENCODE_H

#include <stdatomic.h>

#include "base/loop.h"
#include "engine/compute.h"
#include "engine/room.h"
#include "engine/wire.h"
#include "models/tokenizer.h"

typedef struct sv_encoders sv_encoders;

/* A request inside the engine. Whoever submits it keeps it until its end came; then it is theirs to free. */
typedef struct sv_encode {
    sv_wire_encode req;  /* owned */
    _Atomic bool cancel; /* set by the loop: its end comes soon, with SV_ECANCELED */
    void *owner;         /* the caller's */
    uint32_t id;         /* the caller's */
    /* From its end on: */
    sv_err err;          /* code SV_OK: it is done, and vectors is set */
    sv_vectors vectors;
    struct sv_encode *next; /* the caller's */
    /* encode.c's: */
    struct enc_model *model;
    sv_tokens tokens;
    struct enc_text *texts;
    struct enc_lane *lane;
    int64_t turn;
    int32_t n_begun, n_done;
    float *out;
} sv_encode;
sv_encode *sv_encode_free(sv_encode *j); /* NULL is fine; returns NULL */

typedef struct sv_encoders_opts { /* zeros are the defaults */
    sv_room *room;       /* borrowed; for the files of loaded encoders. No default */
    int64_t idle_ms;     /* 15 min */
    int32_t max_queued;  /* 256 requests a model */
    void (*on_end)(sv_encode *j);
    void (*on_batch)(void *arg); /* the ends of a batch are told: time to write */
    void *arg;
} sv_encoders_opts;
sv_encoders *sv_encoders_new(sv_loop *loop, sv_compute *compute, const sv_encoders_opts *opts);
/* Ends what lives, each with its event. Waits for the threads, at most a batch each. NULL is fine; returns NULL */
sv_encoders *sv_encoders_free(sv_encoders *t);

/* On failure the request is still the caller's and no event comes. SV_ENOENT and others of the file system; SV_ELIMIT with api_code 3040: too many
 * wait, or the models in use leave no room; without: the model is larger than all of it. */
SV_MUST sv_rc sv_encoders_submit(sv_encoders *t, sv_encode *j, sv_err *err);

/* Appends "encoders":[{"path","state","n_jobs","texts","tokens","batches"},...]; state is loading, ready or failed (then with "error"). */
void sv_encoders_add_stats(const sv_encoders *t, sv_buf *out);

#endif
