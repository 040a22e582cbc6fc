/* workers_impl.h - the inside of the deploy half: records, the store's calls, the deployment itself
 *
 *   workers.c   opening, units, what a process needs           *_rest.c   HTTP
 *   store.c     rows of DATA/workers.db                        deploy.c   a version from upload to listening process
 *   schedules.c cron triggers and the clock                events.c    one call of queue() or scheduled()
 *   assets.c    static files of an account, upload sessions */
#ifndef SV_WORKERS_WORKERS_IMPL_H
#define SV_WORKERS_WORKERS_IMPL_H

#include <pthread.h>

#include "base/json.h"
#include "db/db.h"
#include "workers/upload.h"
#include "workers/workers.h"

enum { SV_MAX_BUSY = 8, SV_MAX_UNIT = 24 }; /* Workers in a process: the cage has room for two paths of each */

struct sv_workers {
    sv_db *db;
    sv_accounts *accounts;
    sv_runtime *runtime;
    sv_rc (*binding_exists)(void *ctx, const char *kind, const char *id, const char *account_id, sv_err *err);
    void *ctx;           /* for binding_exists */
    struct sv_crons *crons; /* borrowed; NULL: nothing is run by the clock (schedules.h) */
    char *root;          /* DATA/workers, absolute */
    pthread_mutex_t mu;  /* guards what follows; nothing is taken while it is held */
    pthread_cond_t cv;
    char busy[SV_MAX_BUSY][33]; /* accounts in which a change is under way */
    int n_waiting;
};

/* One row each. Fixed memory and JSON that _done frees. */
typedef struct sv_script {
    char key[17], account[33], name[64], tag[33];
    int64_t created_ms, modified_ms;
    bool open, previews; /* reachable by its host name */
    bool events;         /* a dispatcher stands beside it */
    json_t *settings;    /* tags, observability */
    json_t *objects;     /* see objects.h */
} sv_script;
void sv_script_done(sv_script *s);

typedef struct sv_version {
    char id[37], key[17], folder[37]; /* folder: of its files; versions that differ in bindings only share one */
    int64_t number, created_ms, startup_ms;
    json_t *meta;    /* see config.h; also etag, size, annotations, source, author, assets {config, n_files} */
    json_t *secrets; /* {name: value}; NULL unless asked for */
} sv_version;
void sv_version_done(sv_version *v);

typedef struct sv_deployment {
    char id[37], version[37];
    int64_t created_ms;
    json_t *meta; /* source, author, annotations */
} sv_deployment;
void sv_deployment_done(sv_deployment *d);

/* ---- store.c; all block ---- */
SV_MUST sv_rc sv_store_open(sv_workers *w, const char *data_dir, sv_err *err);
void sv_worker_key(char out[17], const char *account, const char *name);

SV_MUST sv_rc sv_store_script(sv_workers *w, sv_script *out, const char *account, const char *name, sv_err *err); /* SV_ENOENT 10007 */
SV_MUST sv_rc sv_store_script_by_key(sv_workers *w, sv_script *out, const char *key, sv_err *err);
/* *out: array owned by the caller, done each. account NULL: all. */
SV_MUST sv_rc sv_store_scripts(sv_workers *w, sv_script **out, size_t *n, const char *account, sv_err *err);

SV_MUST sv_rc sv_store_scripts_with_objects(sv_workers *w, sv_script **out, size_t *n, sv_err *err); /* of all accounts */

typedef enum sv_which { SV_BY_ID, SV_DEPLOYED, SV_LATEST } sv_which;
/* id for SV_BY_ID only (with or without hyphens). SV_ENOENT 100146. */
SV_MUST sv_rc sv_store_version(sv_workers *w, sv_version *out, const char *key, sv_which which, const char *id, bool with_secrets, sv_err *err);
/* Newest first. */
SV_MUST sv_rc sv_store_versions(sv_workers *w, sv_version **out, size_t *n, const char *key, sv_err *err);
SV_MUST sv_rc sv_store_deployments(sv_workers *w, sv_deployment **out, size_t *n, const char *key, sv_err *err);

/* What one commit records. */
typedef struct sv_record {
    const sv_script *script;       /* made when it is new */
    sv_version *version;           /* inserted when is_new; its number is set */
    bool new_script, new_version;
    bool migrated;                 /* script->objects is new */
    sv_deployment *deployment;     /* NULL: not deployed */
    bool new_settings;             /* of a script that was there: those that it has now */
} sv_record;
/* Also forgets the versions over the limit. Folders that nobody refers to any more: sv_store_sweep. */
SV_MUST sv_rc sv_store_record(sv_workers *w, sv_record *r, sv_err *err);
SV_MUST sv_rc sv_store_sweep(sv_workers *w, const char *key, sv_err *err);
SV_MUST sv_rc sv_store_delete(sv_workers *w, const char *key, sv_err *err);
SV_MUST sv_rc sv_store_set_open(sv_workers *w, const char *key, bool open, bool previews, sv_err *err);
SV_MUST sv_rc sv_store_set_events(sv_workers *w, const char *key, sv_err *err);
SV_MUST sv_rc sv_store_set_settings(sv_workers *w, const char *key, const json_t *settings, sv_err *err);

/* Whether another account has a Worker of that name. */
SV_MUST sv_rc sv_store_name_taken(sv_workers *w, bool *taken, const char *account, const char *name, sv_err *err);
SV_MUST sv_rc sv_store_count(sv_workers *w, int64_t *n_scripts, const char *account, sv_err *err);

/* Names of the account's deployed Workers that bind `name`, as an array of strings. */
SV_MUST sv_rc sv_store_incoming(sv_workers *w, json_t **out, const char *account, const char *name, sv_err *err);
/* SV_ENOENT: none registered. */
SV_MUST sv_rc sv_store_subdomain(sv_workers *w, char out[64], const char *account, sv_err *err);
SV_MUST sv_rc sv_store_set_subdomain(sv_workers *w, const char *account, const char *name, sv_err *err); /* SV_ECONFLICT 10031 */
SV_MUST sv_rc sv_store_subdomain_taken(sv_workers *w, bool *taken, const char *account, const char *name, sv_err *err);

/* ---- assets.c ---- */
/* manifest: {path: {hash, size}}, checked. *missing: array of the hashes that the account does not have, each once. */
SV_MUST sv_rc sv_assets_check(sv_workers *w, const char *account, const json_t *manifest, json_t **missing, sv_err *err);
/* Keeps the manifest under a new session and writes its token (completion: everything is there). */
SV_MUST sv_rc sv_assets_session(sv_workers *w, const char *account, const char *script, const json_t *manifest, bool complete, sv_buf *token,
                                sv_err *err);
typedef struct sv_asset_session {
    char id[33], account[33], script[64];
    bool complete;
    json_t *manifest;
} sv_asset_session;
void sv_asset_session_done(sv_asset_session *s);
/* SV_EINVAL: not ours, expired, or its session is gone. */
SV_MUST sv_rc sv_assets_open_token(sv_workers *w, sv_str token, sv_asset_session *out, sv_err *err);
/* A completion token for the same session. */
void sv_assets_complete_token(sv_workers *w, const sv_asset_session *s, sv_buf *token);
SV_MUST sv_rc sv_assets_put(sv_workers *w, const sv_asset_session *s, sv_str hash, sv_str bytes, sv_err *err);
/* Lays the manifest's files out below `folder`/assets, synced, and keeps the manifest beside them. SV_EINVAL names one that was never uploaded. */
SV_MUST sv_rc sv_assets_lay_out(sv_workers *w, const char *account, const json_t *manifest, const char *folder, sv_err *err);
/* The manifest that lay_out kept in a version's folder; *out is the caller's. */
SV_MUST sv_rc sv_assets_manifest_of(sv_workers *w, const char *key, const char *folder, json_t **out, sv_err *err);

/* ---- workers.c ---- */
/* One change at a time in an account, since its Workers may share processes. SV_ELIMIT when too many wait. */
SV_MUST sv_rc sv_account_lock(sv_workers *w, const char *account, sv_err *err);
void sv_account_unlock(sv_workers *w, const char *account);

/* Starts the unit of script->key as it would be with `version` deployed (NULL: as it is) and script->open as given, in the place of what serves
 * now / only to see whether it starts. Runtime absent: only its configuration is written. */
SV_MUST sv_rc sv_unit_swap(sv_workers *w, const sv_script *script, const sv_version *version, int64_t *startup_ms, sv_err *err);
SV_MUST sv_rc sv_unit_try(sv_workers *w, const sv_script *script, const sv_version *version, int64_t *startup_ms, sv_err *err);
void sv_version_folder(const sv_workers *w, const char *key, const char *folder, char out[4096]);

/* The sockets of a script, to the runtime. */
SV_MUST sv_rc sv_script_declare(sv_workers *w, const sv_script *s, sv_err *err);
SV_MUST sv_rc sv_script_undeclare(sv_workers *w, const char *key, sv_err *err);

/* ---- deploy.c; each takes the account's lock ---- */
typedef struct sv_author { const char *account, *name, *source; } sv_author; /* source: "wrangler" or "api" */

typedef enum sv_deploy_how { SV_DEPLOY_NOW, SV_UPLOAD_ONLY } sv_deploy_how;
/* `version` is the result (done by the caller). */
SV_MUST sv_rc sv_deploy_upload(sv_workers *w, const sv_author *by, const char *name, sv_upload *u, sv_deploy_how how, bool strict,
                               sv_version *version, sv_err *err);
SV_MUST sv_rc sv_deploy_version(sv_workers *w, const sv_author *by, const char *name, const char *version_id, const json_t *annotations,
                                sv_deployment *out, sv_err *err);
/* A new version from the deployed one (SV_DEPLOY_NOW) or the latest: `change` edits the copy's meta and secrets. */
typedef sv_rc (*sv_version_edit)(sv_version *v, void *arg, sv_err *err);
SV_MUST sv_rc sv_deploy_derived(sv_workers *w, const sv_author *by, const char *name, sv_deploy_how how, const char *trigger,
                                sv_version_edit change, void *arg, sv_version *version, sv_err *err);
SV_MUST sv_rc sv_deploy_set_open(sv_workers *w, const char *account, const char *name, bool open, bool previews, sv_err *err);
SV_MUST sv_rc sv_deploy_delete(sv_workers *w, const char *account, const char *name, bool force, sv_err *err);

#endif
