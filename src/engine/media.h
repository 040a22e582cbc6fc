/* media.h - requests about files of media: a thread per model, one request at a time, tenants in turns
 *
 * What a model does with the bytes and options is its family's (media.c has the list; speech.h is one). Threads: the loop's; ends come on it. */
#ifndef SV_ENGINE_MEDIA_H
#define SV_ENGINE_MEDIA_H

#include <stdatomic.h>

#include "base/cage.h"
#include "base/loop.h"
#include "engine/compute.h"
#include "engine/room.h"
#include "engine/wire.h"

typedef struct sv_media_table sv_media_table;

/* A request inside the engine. Whoever submits it keeps it until its end came; then it is theirs to free. */
typedef struct sv_media {
    sv_wire_media req;   /* owned, with the bytes that it borrows: */
    char *bytes;
    _Atomic bool cancel; /* set by the loop: its end comes soon, with SV_ECANCELED */
    void *owner;         /* the caller's */
    uint32_t id;         /* the caller's */
    /* From its end on: */
    sv_err err;          /* code SV_OK: it is done, and json is set */
    sv_buf json;
    sv_usage usage;
    /* media.c's: */
    struct media_model *model;
    struct sv_media *next;
} sv_media;
sv_media *sv_media_new(void);
sv_media *sv_media_free(sv_media *j); /* NULL is fine; returns NULL */

typedef struct sv_media_table_opts { /* zeros are the defaults */
    sv_room *room;            /* borrowed; for the files of loaded models. No default */
    int64_t idle_ms;          /* 15 min */
    int32_t max_queued;       /* 256 requests a model */
    const char *audio_helper; /* models/audio.h; NULL: WAV only */
    sv_cage *cage;            /* borrowed, with sv_media_cage_fns: where pictures are decoded; NULL: none are read */
    void (*on_end)(sv_media *j);
    void (*on_batch)(void *arg); /* an end is told: time to write */
    void *arg;
} sv_media_table_opts;
sv_media_table *sv_media_table_new(sv_loop *loop, sv_compute *compute, const sv_media_table_opts *opts);
/* Ends what lives, each with its event. Waits for the threads. NULL is fine; returns NULL */
sv_media_table *sv_media_table_free(sv_media_table *t);

/* On failure the request is still the caller's and no event comes. Errors as of encode.h. */
SV_MUST sv_rc sv_media_submit(sv_media_table *t, sv_media *j, sv_err *err);

/* Appends "media":[{"path","state","n_jobs","requests","seconds"},...]; state is loading, ready or failed (then with "error"). */
void sv_media_add_stats(const sv_media_table *t, sv_buf *out);

/* --- for families ------------------------------------------------------------------------------------------------- */

typedef struct sv_media_run {
    sv_compute *compute;      /* taken for steps of some milliseconds */
    const char *audio_helper;
    sv_cage *cage;
    const _Atomic bool *cancel;
} sv_media_run;
typedef struct sv_media_family {
    bool (*is)(const char *path);
    sv_rc (*open)(void **model, const char *path, sv_err *err);
    void (*close)(void *model);
    /* Fills j->json and j->usage. */
    sv_rc (*run)(void *model, sv_media *j, const sv_media_run *run, sv_err *err);
} sv_media_family;
extern const sv_media_family sv_media_speech;   /* speech.c */
extern const sv_media_family sv_media_pictures; /* pictures.c */
extern const sv_media_family sv_media_rewriting; /* rewriting.c: a text is a file, too */

/* What runs in the cage. */
enum { SV_CAGE_PICTURES, SV_N_CAGE_FNS };
extern const sv_cage_fn sv_media_cage_fns[SV_N_CAGE_FNS];

#endif
