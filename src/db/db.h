/* db.h - SQLite: open, migrate, one writer thread with group commit, readers beside it
 *
 * WAL, synchronous=FULL: what sv_db_write has reported is on disk. Several writes that wait at the same time share one
 * transaction and one sync (each inside its own savepoint, so one that fails takes nothing of the others with it).
 * Threads: any thread calls; functions block (never call them on a loop thread: use the job pool). */
#ifndef SV_DB_DB_H
#define SV_DB_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct sv_db sv_db;

/* Opens or makes `path` (mode 0600) and applies migrations[version..] in order inside one transaction each; user_version counts
 * them. A file from a newer version is refused (SV_ECONFLICT) and left alone; a damaged one is SV_EFORMAT. */
SV_MUST sv_rc sv_db_open(sv_db **out, const char *path, const char *const *migrations, int n_migrations, sv_err *err);
sv_db *sv_db_close(sv_db *db); /* waits for writes in progress, checkpoints; NULL is fine */
SV_DEFINE_AUTO(sv_db, sv_db_close)

/* Runs fn on the writer thread inside a savepoint and returns after the commit is synced. fn returns SV_OK to commit; anything
 * else rolls its savepoint back and is returned with its err. fn must not keep w or statements. fn may be called a second time, after
 * everything it did in the database was rolled back (a neighbour's write met a full disk): it assigns its results, never adds to them. */
typedef struct sv_dbw sv_dbw; /* the write connection, inside fn only */
typedef sv_rc (*sv_db_fn)(sv_dbw *w, void *arg, sv_err *err);
SV_MUST sv_rc sv_db_write(sv_db *db, sv_db_fn fn, void *arg, sv_err *err);
/* The same without waiting: `done` is called once, on the writer thread, after the commit is synced (or fn was refused); it hands over and
 * returns. The job is the caller's memory until then. Many jobs that wait share a sync with nobody's thread held. */
typedef struct sv_db_job {
    sv_db_fn fn;
    void *arg;
    void (*done)(struct sv_db_job *job); /* job is the caller's again */
    sv_rc rc;    /* what came of it, set before `done` */
    sv_err err;
    void *own;   /* the database's */
} sv_db_job;
void sv_db_submit(sv_db *db, sv_db_job *job);
/* Runs fn with a read connection (its own snapshot). */
typedef sv_rc (*sv_db_read_fn)(sv_dbw *r, void *arg, sv_err *err);
SV_MUST sv_rc sv_db_read(sv_db *db, sv_db_read_fn fn, void *arg, sv_err *err);

/* Statements: prepared once per connection by SQL text and cached; sv_stmt_done resets, never finalizes.
 *     SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
 *     if (sv_stmt_prep(&q, w, "SELECT a, b FROM t WHERE id = ?1", err)) return err->code;
 *     sv_bind_str(&q, 1, id);
 *     while ((rc = sv_stmt_step(&q, &row, err)) == SV_OK && row) ... sv_col_str(&q, 0) ... */
typedef struct sv_stmt { sqlite3_stmt *s; sv_dbw *w; } sv_stmt;
SV_MUST sv_rc sv_stmt_prep(sv_stmt *q, sv_dbw *w, const char *sql, sv_err *err); /* sql: a literal; its address or text is the key */
void sv_bind_str(sv_stmt *q, int i, sv_str s);   /* copied; {NULL, 0} binds NULL */
void sv_bind_cstr(sv_stmt *q, int i, const char *s);
void sv_bind_blob(sv_stmt *q, int i, const void *p, size_t n);
void sv_bind_i64(sv_stmt *q, int i, int64_t v);
void sv_bind_null(sv_stmt *q, int i);
SV_MUST sv_rc sv_stmt_step(sv_stmt *q, bool *row, sv_err *err); /* unique violations: SV_ECONFLICT; full disk: SV_ELIMIT */
SV_MUST sv_rc sv_stmt_run(sv_stmt *q, sv_err *err);              /* step to the end */
void sv_stmt_reset(sv_stmt *q);  /* bind and step again */
void sv_stmt_donep(sv_stmt *q);
sv_str sv_col_str(sv_stmt *q, int i);   /* text or blob bytes; borrowed until the next step */
int64_t sv_col_i64(sv_stmt *q, int i);
bool sv_col_null(sv_stmt *q, int i);
int64_t sv_db_changes(sv_dbw *w);       /* rows of the last statement */
sqlite3 *sv_dbw_handle(sv_dbw *w);      /* for what this header does not cover */

/* A consistent copy of the whole database into a new file, while it is in use. */
SV_MUST sv_rc sv_db_backup(sv_db *db, const char *to_path, sv_err *err);

#endif
