/* d1_history.h - what a database was: full copies and the logs between them
 * Threads: each call with the database's connection idle in the caller's hands. Everything blocks. */
#ifndef SV_D1_D1_HISTORY_H
#define SV_D1_D1_HISTORY_H

#include "base/err.h"
#include "d1/d1_conn.h"

/* Keeps what the log of `path` holds in `dir` (made when needed), so that it may be checkpointed. */
SV_MUST sv_rc sv_d1_history_keep(const char *path, const char *dir, sv_err *err);
/* The log is empty: copies the file itself when there is no copy, the newest is a day old, or much was kept since. */
SV_MUST sv_rc sv_d1_history_base_if_due(const char *path, const char *dir, sv_err *err);
/* The same whatever there is: the start of a history after a restore. Removes what is older, or more, than the limits say; the new copy stays. */
SV_MUST sv_rc sv_d1_history_base(const char *path, const char *dir, sv_err *err);

/* Finds the newest kept state with seq <= max_seq and time <= max_at_s. With to_path: makes that state as a new, synced file.
 * SV_ENOENT: nothing so old is kept. */
SV_MUST sv_rc sv_d1_history_find(const char *dir, uint32_t max_seq, int64_t max_at_s, const char *to_path, sv_d1_version *out, sv_err *err);

#endif
