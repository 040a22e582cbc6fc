/* d1_conn_impl.h - the inside of a connection, for the files that import and export through it */
#ifndef SV_D1_CONN_IMPL_H
#define SV_D1_CONN_IMPL_H

#include "d1/d1_conn.h"

enum { N_KEPT = 64, MAX_WRITTEN = 64 };

typedef struct kept {
    sqlite3_stmt *s;
    char *sql;
    size_t n;
    uint64_t hash, used;
    sv_buf updated; /* as conn.updated and conn.reads when it was compiled */
    bool reads;
} kept;

typedef struct written { char table[128]; int64_t n_inserts, n_updates, n_deletes; } written;

struct sv_d1_conn {
    sqlite3 *db;
    char *path;
    bool inside;         /* our own SQL: everything is allowed, nothing is counted */
    bool changed;        /* a PRAGMA changed the connection */
    bool ddl;            /* the schema changed, or will when what was compiled runs */
    const char *denied;  /* why the authorizer refused, where SQLite's own words do not say it */
    const atomic_bool *cancel;
    int64_t deadline_us;
    sv_d1_version version;
    kept kept[N_KEPT];
    uint64_t clock;      /* of kept[].used */
    sqlite3_stmt *page_count;
    int64_t size;        /* bytes; -1: something may have changed it. Asking takes the locks of a read, which is most of a point select */
    sv_buf updated;      /* "table\1column\2" for each that the statement last compiled sets */
    bool reads;          /* the statement last compiled reads a table */
    written written[MAX_WRITTEN];
    size_t n_written, last_written;
};

sv_rc sv_d1_fail(sv_d1_conn *c, int rc, sv_err *err); /* SQLite's code and message become ours */
SV_MUST sv_rc sv_d1_exec(sv_d1_conn *c, const char *sql, sv_err *err); /* our own SQL */
SV_MUST sv_rc sv_d1_begin(sv_d1_conn *c, const atomic_bool *cancel, int64_t limit_ms, sv_err *err);
SV_MUST sv_rc sv_d1_commit(sv_d1_conn *c, bool *wrote, sv_err *err);
void sv_d1_rollback(sv_d1_conn *c);
/* Runs the first statement of a text that has one, without a result; *tail is behind it. */
SV_MUST sv_rc sv_d1_run_first(sv_d1_conn *c, const char *sql, const char **tail, sv_d1_run *run, sv_d1_out *none, sv_err *err);

#endif
