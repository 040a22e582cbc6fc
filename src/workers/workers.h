/* workers.h - what is deployed: scripts, their versions, deployments, secrets and settings
 *
 * The store is DATA/workers.db and, for the files of each version (modules, static assets), DATA/workers/. A deployment is: the files are
 * synced, the new process listens, the rows are committed, the client hears of it; in this order, so that whatever was acknowledged is there
 * after any crash, and what was not is gone at the next open.
 *
 * Threads: open and close by the owner; everything else on any thread but the loop's, since it blocks (job pool). */
#ifndef SV_WORKERS_WORKERS_H
#define SV_WORKERS_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "account/account.h"
#include "base/err.h"
#include "base/mem.h"
#include "workers/runtime.h"

typedef struct sv_workers sv_workers;

typedef struct sv_workers_opts {
    const char *data_dir;
    sv_accounts *accounts; /* borrowed */
    sv_runtime *runtime;   /* borrowed; NULL: versions are stored and nothing is ever started (tests of the store) */
    /* Whether the account has what a binding of a product's kind (products.h) names: SV_OK, or SV_ENOENT with a sentence, which becomes the
     * refusal of the deployment. On a job thread. NULL: everything is there. */
    sv_rc (*binding_exists)(void *ctx, const char *kind, const char *id, const char *account_id, sv_err *err);
    void *ctx; /* for binding_exists */
} sv_workers_opts;

/* Opens the store and removes what a crash left half-done. */
SV_MUST sv_rc sv_workers_open(sv_workers **out, const sv_workers_opts *opts, sv_err *err);
sv_workers *sv_workers_close(sv_workers *w); /* no call may be in progress; NULL is fine */

/* Declares every deployed Worker to the runtime. One that cannot be is logged and left out. */
SV_MUST sv_rc sv_workers_declare_all(sv_workers *w, sv_err *err);

/* Puts a dispatcher beside the deployed Worker (once: later calls find it), so that sv_event_send reaches its queue() and scheduled().
 * SV_ENOENT 10007. Every later version has it too. */
SV_MUST sv_rc sv_workers_enable_events(sv_workers *w, const char *account, const char *name, sv_err *err);
/* Names of the account's deployed Workers that have a binding of that product's kind to `id`: an array of strings, the caller's. */
SV_MUST sv_rc sv_workers_bound_to(sv_workers *w, const char *account, const char *kind, const char *id, json_t **out, sv_err *err);

/* For sv_runtime_opts.prepare: what a process for the deployed version of `key` (and of the Workers bound with it) needs. ctx is the sv_workers. */
SV_MUST sv_rc sv_workers_prepare(void *ctx, const char *key, sv_unit_spec *out, sv_arena *arena, sv_err *err);

#endif
