/* d1_conn.h - one SQLite file as D1 offers it: its limits, what SQL may do, a transaction a request, truthful figures
 *
 * Every request is one transaction: all of its statements happen, or none. A commit that was reported is on the disk.
 * Threads: a connection is used by one thread at a time, whichever; sv_d1_conn_run's `cancel` may be set from any. Everything blocks. */
#ifndef SV_D1_CONN_H
#define SV_D1_CONN_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "d1/d1_request.h"

typedef struct sv_d1_conn sv_d1_conn;

/* Text that grows: in memory to 1 MiB, beyond it in an unnamed file of `dir`. */
typedef struct sv_d1_out {
    sv_buf b;        /* what is not in the file */
    int fd;          /* -1: nothing is */
    int64_t n_file;  /* bytes in the file */
    int64_t max;     /* most it may hold in all */
    const char *dir; /* borrowed */
} sv_d1_out;
void sv_d1_out_init(sv_d1_out *s, const char *dir, int64_t max);
void sv_d1_out_done(sv_d1_out *s);
/* Called after appending to s->b, now and then: moves it to the file when it is much. SV_ELIMIT over max, SV_EIO. */
SV_MUST sv_rc sv_d1_out_settle(sv_d1_out *s, sv_err *err);
static inline int64_t sv_d1_out_size(const sv_d1_out *s) { return s->n_file + (int64_t)s->b.n; }

typedef enum sv_d1_format {
    SV_D1_NO_ROWS,  /* "results":[] */
    SV_D1_OBJECTS,  /* "results":[{"id":1}] */
    SV_D1_ROWS,     /* "results":{"columns":["id"],"rows":[[1]]} */
} sv_d1_format;

typedef struct sv_d1_run {
    sv_d1_format format;
    bool per_statement;         /* a result for each statement; else one for each query, that of its last statement */
    int64_t limit_ms;           /* for the whole request; 0: none */
    const atomic_bool *cancel;  /* NULL: never */
    size_t i_failed;            /* out: the query that failed */
    bool wrote;                 /* out: something was committed */
    int64_t n_statements, rows_read, rows_written; /* out */
} sv_d1_run;

/* Makes the file (mode 0600) where there is none. SV_EFORMAT: no database, or a damaged one. */
SV_MUST sv_rc sv_d1_conn_open(sv_d1_conn **out, const char *path, sv_err *err);
sv_d1_conn *sv_d1_conn_close(sv_d1_conn *c); /* NULL is fine */
static inline void sv_d1_conn_closep(sv_d1_conn **c) { *c = sv_d1_conn_close(*c); }

/* Appends the JSON array of results to `out`; on failure what is in `out` has no meaning and the database is as before. Messages are
 * SQLite's with the name of its code behind, as clients look for them: "no such table: t: SQLITE_ERROR". SV_ETIMEDOUT, SV_ECANCELED. */
SV_MUST sv_rc sv_d1_conn_run(sv_d1_conn *c, const sv_d1_request *q, sv_d1_run *run, sv_d1_out *out, sv_err *err);

/* Runs the statements of a file, one transaction in all; of `run` its limit_ms and cancel. *meta_json gets the figures, as one object. */
SV_MUST sv_rc sv_d1_conn_import(sv_d1_conn *c, int fd, sv_d1_run *run, sv_buf *meta_json, sv_err *err);

typedef struct sv_d1_dump { bool no_schema, no_data; const char *const *tables; size_t n_tables; } sv_d1_dump;
/* The statements that make this database again, written to fd. SV_EINVAL: a table that cannot be written so. */
SV_MUST sv_rc sv_d1_conn_export(sv_d1_conn *c, int fd, const sv_d1_dump *opts, const atomic_bool *cancel, sv_err *err);

/* A consistent copy of the file in its own format, at a path that does not exist yet. */
SV_MUST sv_rc sv_d1_conn_copy(sv_d1_conn *c, const char *to_path, sv_err *err);

/* Number and time (seconds since 1970) of the last commit; 0 in a new database. Both are in the file's header, so every state of it that
 * was ever committed says which one it is. */
typedef struct sv_d1_version { uint32_t seq, at_s; } sv_d1_version;
sv_d1_version sv_d1_conn_version(const sv_d1_conn *c);
/* Commits a new version that is newer than `seq`. */
SV_MUST sv_rc sv_d1_conn_touch(sv_d1_conn *c, uint32_t seq, sv_err *err);

/* A PRAGMA changed how the connection behaves: close it after the request and open another. */
bool sv_d1_conn_spent(const sv_d1_conn *c);
void sv_d1_conn_retire(sv_d1_conn *c); /* the same, by decision */
int64_t sv_d1_conn_size(sv_d1_conn *c);     /* bytes of the database */
int64_t sv_d1_conn_n_tables(sv_d1_conn *c); /* the user's */
int64_t sv_d1_conn_wal_bytes(sv_d1_conn *c);
SV_MUST sv_rc sv_d1_conn_checkpoint(sv_d1_conn *c, sv_err *err); /* the log goes into the database and is emptied */

#endif
