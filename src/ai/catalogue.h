/* catalogue.h - which models there are, what is known of them, and where their weights lie
 *
 * Three sources, the later over the earlier one:
 *   the catalogue of the hosted service (catalogue.json, in the binary): ids, tasks, windows, prices; no weights;
 *   default models: each *.gguf of the models folder, as "@cf/selvedge/<file name without .gguf>" (one in parts counts once);
 *   imported models: a file or folder in DATA/models/ and a row in DATA/models.db, under an id that the owner chose. Under a
 *   catalogue id they get its window (at most the file's own) and its price.
 *
 * Other processes import and remove while a daemon runs: every process reloads when models.db or the
 * models folder has changed, by the watch thread (5 times a second) and at once when an id is not found.
 * Threads: open and close by the owner; resolve, list and refs on any thread (they do not wait for the disk unless something changed);
 * import, remove, verify and pull block for as long as the disk or network takes. */
#ifndef SV_AI_CATALOGUE_H
#define SV_AI_CATALOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/inspect.h"

typedef enum sv_model_origin { SV_MODEL_KNOWN, SV_MODEL_DEFAULT, SV_MODEL_IMPORTED } sv_model_origin;

/* Immutable; strings borrowed until the reference is given back. Absent strings are NULL. */
typedef struct sv_model {
    const char *id, *task, *vendor, *description;
    const char *shape;   /* request family, as ai-tasks names them: "prompt-or-messages", "chat-completions", ... */
    const char *status;  /* "active", "deprecated", "retired" */
    const char *deprecation_date; /* "2026-05-08", or NULL */
    const char *source;  /* where the original weights were published, as vendor/name; NULL: not known */
    sv_model_origin origin;
    bool listed;         /* the hosted service's catalogue has this id: task and shape are its, else they follow from facts.kind */
    const char *path;    /* the weights; NULL: they are not on this node */
    sv_model_facts facts; /* of the file; zeros without one */
    const char *sha256;  /* imported models */
    int64_t created_ms;  /* file's or import's time; 0: not known */
    int32_t n_ctx;       /* window to serve: the smaller of catalogue's and file's; 0: not known */
    bool lora, tools, reasoning, vision, beta, async_queue, paid;
    double neurons_in, neurons_cached, neurons_out; /* per million tokens */
    double neurons_minute, usd_minute; /* of a recording */
    double usd_in, usd_out;
    bool priced; /* from the catalogue; else by parameters (catalogue.c) */
    void *owner;
} sv_model;

typedef struct sv_catalogue sv_catalogue;

/* Makes DATA/models/ and DATA/models.db where absent. models_dir may be NULL or absent (no default models); a broken file in
 * it is logged and left out. */
SV_MUST sv_rc sv_catalogue_open(sv_catalogue **out, const char *data_dir, const char *models_dir, sv_err *err);
sv_catalogue *sv_catalogue_close(sv_catalogue *c); /* references given out stay valid. NULL is fine */
SV_DEFINE_AUTO(sv_catalogue, sv_catalogue_close)
void sv_catalogue_watch(sv_catalogue *c); /* starts the watch thread; a second call does nothing */

/* Finds a model whose weights are here. api_code 5007, and SV_ENOENT for both "no such model" and "known, but no weights here",
 * which says how to import. The reference is the caller's. */
SV_MUST sv_rc sv_catalogue_resolve(sv_catalogue *c, sv_str id, const sv_model **out, sv_err *err);
/* Finds any known model, weights or not. */
SV_MUST sv_rc sv_catalogue_find(sv_catalogue *c, sv_str id, const sv_model **out, sv_err *err);
const sv_model *sv_model_unref(const sv_model *m); /* NULL is fine; returns NULL */
static inline void sv_model_unrefp(const sv_model **m) { *m = sv_model_unref(*m); }

/* All models: those with weights first, then by the catalogue's order. One reference for the whole list. */
typedef struct sv_model_list { const sv_model *const *models; size_t n; void *owner; } sv_model_list;
sv_model_list sv_catalogue_list(sv_catalogue *c);
void sv_model_list_done(sv_model_list *l);

/* Puts the model at `path` (a GGUF file, the first of its parts, a folder with one, a Hugging Face folder) under `id` ("vendor/name" or "@cf/vendor/name"): inspected, copied (hard-linked with
 * `link`), hashed, synced, then named in the database. SV_ECONFLICT when the id is taken by another file (remove it first) or
 * by a default model; the same bytes again are fine. progress: bytes done of total, NULL: none. */
typedef struct sv_import_opts {
    const char *path, *id;
    bool link;
    void (*progress)(const char *what, int64_t done, int64_t total, void *arg);
    void *arg;
} sv_import_opts;
SV_MUST sv_rc sv_catalogue_import(sv_catalogue *c, const sv_import_opts *opts, sv_err *err);

/* An URL (file, http, https) is downloaded and imported as opts->id; a catalogue id is explained: the hosted service's weights
 * are not ours to hand out, and the message says what to import instead. opts->path is the ID or URL. */
SV_MUST sv_rc sv_catalogue_pull(sv_catalogue *c, const sv_import_opts *opts, sv_err *err);
SV_MUST sv_rc sv_catalogue_remove(sv_catalogue *c, const char *id, sv_err *err); /* SV_ENOENT; SV_EINVAL for a default model */

/* Reads all weights again: hash, size, structure. Calls `each` with the model and NULL, or what is wrong. SV_EFORMAT if any was. */
SV_MUST sv_rc sv_catalogue_verify(sv_catalogue *c, void (*each)(const sv_model *m, const sv_err *wrong, void *arg), void *arg, sv_err *err);

bool sv_model_id_valid(sv_str id); /* vendor/name or @cf/vendor/name; letters, digits, - _ . ; at most SV_LIMIT_MODEL_NAME_BYTES */

#endif
