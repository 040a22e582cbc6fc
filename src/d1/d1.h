/* d1.h - databases of SQL: the catalogue, and who works on which of them when
 *
 * DATA/d1.db says which databases there are; DATA/d1/ID.sqlite is one of them, DATA/d1/ID.history/ what it was. A file is opened by its first
 * request and closed when nobody asked for a while.
 *
 * Each database does one thing at a time, in the order of asking. Threads are not its own: a bounded number serves those databases that have work,
 * and of one account only a part of them at a time, so that neither a slow query nor an account full of them stands in another's way.
 *
 * Threads: open, close by the owner; the rest on any thread. Functions marked B block (never on a loop). */
#ifndef SV_D1_D1_H
#define SV_D1_D1_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "d1/d1_conn.h"

typedef struct sv_d1 sv_d1;

SV_MUST sv_rc sv_d1_open(sv_d1 **out, const char *data_dir, sv_err *err);
sv_d1 *sv_d1_close(sv_d1 *d); /* cancels what runs, answers what waits; NULL is fine */
SV_DEFINE_AUTO(sv_d1, sv_d1_close)

typedef struct sv_d1_info {
    char id[37], account_id[33], name[256], read_replication[16];
    int64_t created_ms;
} sv_d1_info;

/* B. SV_ECONFLICT 7502: the name is taken. SV_ELIMIT 7406. SV_EINVAL 7400: no name, or a bad one. */
SV_MUST sv_rc sv_d1_create(sv_d1 *d, const char *account_id, sv_str name, const char *read_replication, sv_d1_info *out, sv_err *err);
/* By id or by name. SV_ENOENT 7404. */
SV_MUST sv_rc sv_d1_find(sv_d1 *d, const char *account_id, sv_str id_or_name, sv_d1_info *out, sv_err *err);
/* All of an account by age, or those whose name holds `part`. The result is the caller's to free. */
size_t sv_d1_list(sv_d1 *d, const char *account_id, sv_str part, sv_d1_info **out);
/* B. What waits for it fails, its files go when what runs in it has ended. SV_ENOENT. */
SV_MUST sv_rc sv_d1_delete(sv_d1 *d, const char *account_id, const char *id, sv_err *err);
SV_MUST sv_rc sv_d1_set_replication(sv_d1 *d, const char *account_id, const char *id, const char *mode, sv_err *err); /* B */

/* Work on a database. `run` is called exactly once, on a thread of ours, after which the job is the caller's again (run may free it).
 * c is NULL when it could not be done, and err says why: SV_ENOENT it was deleted, SV_ELIMIT overloaded, SV_EIO and SV_EFORMAT its file. */
typedef struct sv_d1_job sv_d1_job;
struct sv_d1_job {
    void (*run)(sv_d1_job *job, sv_d1_conn *c, const sv_err *err);
    atomic_bool cancel; /* set by anybody: the connection's running statement ends at its next look */
    bool patient;       /* waits as long as it takes */
    sv_d1_job *next;    /* the room's */
    int64_t queued_ms;
};
/* Never blocks. On failure `run` is not called. SV_ENOENT 7404; SV_ELIMIT 7500: too many wait. */
SV_MUST sv_rc sv_d1_submit(sv_d1 *d, const char *account_id, const char *id, sv_d1_job *job, sv_err *err);

const char *sv_d1_temp_dir(const sv_d1 *d); /* for large answers, uploads and exports; emptied at every start. Borrowed */

/* ---- bookmarks: which state of a database. They order as strings. ---- */

void sv_d1_bookmark(char out[64], const char *id, sv_d1_version v);
/* SV_EINVAL 7400: no bookmark, or one of another database. */
SV_MUST sv_rc sv_d1_bookmark_parse(sv_d1_version *out, const char *id, sv_str text, sv_err *err);

/* ---- time travel; inside a job ---- */

/* The newest state that is not newer than `at_s`. SV_ENOENT 7400: older than what is kept. */
SV_MUST sv_rc sv_d1_state_at(sv_d1 *d, const char *id, sv_d1_conn *c, int64_t at_s, sv_d1_version *out, sv_err *err);
/* Makes the database what it was at `to`, as its newest state. c is no longer to be used. SV_ENOENT 7400 as above. */
SV_MUST sv_rc sv_d1_restore(sv_d1 *d, const char *id, sv_d1_conn *c, sv_d1_version to, sv_d1_version *out, sv_err *err);

#endif
