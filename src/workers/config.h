/* config.h - workerd's configuration for a unit: the Workers that share a process
 * Threads: values; any thread. Reads no file: the text only names them. */
#ifndef SV_WORKERS_CONFIG_H
#define SV_WORKERS_CONFIG_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

/* The newest compatibility date that the workerd of package.json knows (its version is 1.YYYYMMDD.x). A Worker that asks for a newer one
 * runs with this; what it asked for is what the API shows. */
#define SV_WORKERD_DATE "2026-11-17"

/* One version of one Worker. All borrowed. `meta` is the version's record as the store keeps it:
 *   main_module (null: assets only), modules [{name, kind, file}], bindings, compatibility_date, compatibility_flags,
 *   assets {config} or null, annotations */
typedef struct sv_config_worker {
    const char *key, *name;
    const char *version_id;
    const char *folder;       /* of the version's files, absolute */
    const char *from_config;  /* the same, relative to the folder of the configuration */
    const char *binding_path; /* socket of its binding calls */
    const json_t *meta;
    const json_t *secrets;    /* {binding name: value} */
    int64_t created_ms;
    const json_t *classes;    /* of Durable Objects: [{class, id, sqlite}]; NULL or empty: none */
    const char *objects;      /* their folder; set when there are classes */
    bool events;              /* a dispatcher stands beside its script, for queue() and scheduled() */
    bool open;                /* reachable by its host name; else its socket answers 404 */
} sv_config_worker;

typedef struct sv_config {
    sv_str text;             /* capnp, `const config :Workerd.Config` */
    const char *const *env;  /* "SV_SECRET_0=...", NULL-terminated */
    bool experimental;       /* some Worker has static assets or a dispatcher */
} sv_config;

/* Service bindings are to Workers of the list; one that names nobody there becomes a service that fails with a sentence.
 * Everything in *out is in the arena. SV_ENOMEM, SV_EINVAL (a record that no upload can have made). */
SV_MUST sv_rc sv_config_make(sv_config *out, const sv_config_worker *workers, size_t n, sv_arena *a, sv_err *err);

#endif
