/* schedules.h - cron triggers of Workers: what is set, what is due, what ran
 *
 * A run is claimed before it is begun: its row and the schedule's next time are one commit. What was due while nothing ran is run once, for the last
 * of the missed times; a run that our own end cut is run once more. Times are UTC, to the minute.
 * Threads: new and free by the owner on the loop's thread; drain on it; the rest blocks (job pool). */
#ifndef SV_WORKERS_SCHEDULES_H
#define SV_WORKERS_SCHEDULES_H

#include "http/client.h"
#include "workers/workers.h"

/* Replaces the script's schedules by `crons`, an array of {cron}; *out: [{cron, created_on, modified_on}]. SV_EINVAL 10100, SV_ELIMIT. */
SV_MUST sv_rc sv_schedules_set(sv_workers *w, const char *account, const char *name, const json_t *crons, json_t **out, sv_err *err);
SV_MUST sv_rc sv_schedules_get(sv_workers *w, const char *key, json_t **out, sv_err *err);
/* The last runs, newest first: [{id, cron, scheduled_on, started_on, ended_on, outcome, trigger}]; outcome null: it is running. */
SV_MUST sv_rc sv_schedules_runs(sv_workers *w, const char *key, json_t **out, sv_err *err);

typedef struct sv_run {
    int64_t id, scheduled_ms;
    char account[33], name[64], cron[260];
} sv_run;
/* Claims what is due at `now`; *out is the caller's. */
SV_MUST sv_rc sv_schedules_claim(sv_workers *w, int64_t now_ms, sv_run **out, size_t *n, sv_err *err);
/* A run of its own, by hand: cron must be one of the script's. SV_ENOENT 10101. */
SV_MUST sv_rc sv_schedules_claim_one(sv_workers *w, const char *key, sv_str cron, int64_t now_ms, sv_run *out, sv_err *err);
SV_MUST sv_rc sv_schedules_end(sv_workers *w, int64_t id, const char *outcome, sv_err *err);

SV_MUST sv_rc sv_schedules_cut(sv_workers *w, sv_err *err); /* at the start: runs without an outcome were cut */

/* ---- the clock ---- */

typedef struct sv_crons sv_crons;
sv_crons *sv_crons_new(sv_workers *w, sv_runtime *rt, sv_client *client, sv_jobs *jobs); /* begins with what was cut or missed */
void sv_crons_begin(sv_crons *c, const sv_run *run); /* of a run that is claimed; any thread */
/* Begins no further run; done_fn once those under way have ended. */
void sv_crons_drain(sv_crons *c, void (*done_fn)(void *arg), void *arg);
sv_crons *sv_crons_free(sv_crons *c); /* after the jobs have ended; NULL is fine */

#endif
