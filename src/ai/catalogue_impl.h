/* catalogue_impl.h - what catalogue.c (what is known) and catalogue_files.c (how weights come and go) share */
#ifndef SV_AI_CATALOGUE_IMPL_H
#define SV_AI_CATALOGUE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "ai/catalogue.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/thread.h"
#include "db/db.h"

/* One state of the catalogue: immutable once it is current, freed with its last reference. */
typedef struct sv_models {
    atomic_int refs;
    sv_arena *arena;    /* the models and their strings */
    sv_model **all;     /* in the arena; first those with weights */
    size_t n, cap;
    sv_smap *by_id;     /* ids and aliases */
} sv_models;

struct sv_catalogue {
    char *data_dir, *models_dir, *store_dir; /* absolute; models_dir NULL: none */
    sv_db *db;
    pthread_mutex_t lock;   /* guards current and stamp; nothing is taken while it is held */
    sv_models *current;
    uint64_t stamp;         /* of the files, before current was read */
    pthread_mutex_t loading; /* one reload at a time; lock may be taken while it is held */
    sv_ticker *watcher; /* NULL: not watching */
};

/* Reads everything again if a file changed since (or `force`). What was current stays so on failure. */
SV_MUST sv_rc sv_catalogue_refresh(sv_catalogue *c, bool force, sv_err *err);

#endif
