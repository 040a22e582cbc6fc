/* room.h - the memory for models: one budget, which every table of models in the engine shares
 *
 * Counted are the bytes of model files. Who wants some and finds too little lets idle models go, those of all tables together, the one that was
 * used least recently first; models with requests stay.
 * Threads: the loop's. */
#ifndef SV_ENGINE_ROOM_H
#define SV_ENGINE_ROOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct sv_room sv_room;

/* A table of models. */
typedef struct sv_room_user {
    int64_t (*oldest)(void *arg); /* sv_mono_ms of when its least recently used idle model was used; INT64_MAX: none is idle */
    void (*drop)(void *arg);      /* lets that model go, and gives its bytes back inside */
    void *arg;
} sv_room_user;

size_t sv_memory_bytes(void); /* of the machine, or of the cgroup where that is less */

sv_room *sv_room_new(size_t max_bytes); /* 0: three quarters of the memory */
sv_room *sv_room_free(sv_room *r);      /* NULL is fine; returns NULL */
void sv_room_join(sv_room *r, const sv_room_user *user); /* at most 8; until sv_room_leave of the same arg */
void sv_room_leave(sv_room *r, const void *arg);

/* SV_ELIMIT: more than there is at all; with api_code 3040: the models in use leave no room now. */
SV_MUST sv_rc sv_room_take(sv_room *r, size_t n_bytes, sv_err *err);
void sv_room_give(sv_room *r, size_t n_bytes);

#endif
