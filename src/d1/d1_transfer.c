/* d1_transfer.c - SQL files in and out, and copies
 *
 * A file is run statement by statement from a window that slides over it: as a statement has at most 100,000 bytes, a window that holds
 * more than that behind its start always holds the whole next statement, or shows that it is too long. So a file of gigabytes takes a megabyte.
 *
 * The dump is what one would write by hand: foreign keys deferred, each table and its rows, then the counters, indexes, triggers and views.
 * Tables whose statement starts with a quoted name get IF NOT EXISTS, and text with line breaks is written by replace(), so that every statement is one line. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "d1/d1_conn_impl.h"

enum { WINDOW = 1 << 20, LEAST = 256 << 10, PIECE = 256 << 10 };

/* ---- in ---- */

typedef struct window { char *p; size_t at, n; int fd; bool end; } window;

/* Leaves LEAST bytes or the whole rest behind w->at, and a NUL behind it. */
static sv_rc slide(window *w, sv_err *err)
{
    if (w->end || w->n - w->at >= LEAST)
        return SV_OK;
    memmove(w->p, w->p + w->at, w->n - w->at);
    w->n -= w->at;
    w->at = 0;
    while (w->n < WINDOW && !w->end) {
        ssize_t got = read(w->fd, w->p + w->n, WINDOW - w->n);
        if (got < 0)
            return sv_fail_errno(err, "read the file");
        if (memchr(w->p + w->n, '\0', (size_t)got))
            return sv_fail(err, SV_EINVAL, "a NUL byte in the file: it is no SQL text");
        w->n += (size_t)got;
        w->end = got == 0;
    }
    w->p[w->n] = '\0';
    return SV_OK;
}

/* White space, semicolons and comments in front of the next statement. One may be longer than the window. */
static sv_rc skip(window *w, sv_err *err)
{
    char inside = '\0'; /* '-' and '*': the comment that is open */
    for (;;) {
        if (slide(w, err) != SV_OK)
            return err->code;
        const char *p = w->p + w->at;
        if (!*p)
            return SV_OK;
        if (inside == '-') {
            size_t n = strcspn(p, "\n");
            w->at += n;
            inside = p[n] ? '\0' : '-';
        } else if (inside == '*') {
            const char *close = strstr(p, "*/");
            size_t rest = strlen(p);
            w->at += close ? (size_t)(close - p) + 2 : w->end || rest < 2 ? rest : rest - 1; /* its '*' may be the last byte here */
            inside = close ? '\0' : '*';
        } else if (strchr(" \t\r\n\f;", *p)) {
            w->at++;
        } else if ((p[0] == '-' && p[1] == '-') || (p[0] == '/' && p[1] == '*')) {
            inside = p[1];
            w->at += 2;
        } else {
            return SV_OK;
        }
    }
}

static sv_rc import_one(sv_d1_conn *c, window *w, sv_d1_run *run, sv_d1_out *none, sv_err *err)
{
    const char *tail;
    sv_buf_reset(&none->b);
    if (sv_d1_run_first(c, w->p + w->at, &tail, run, none, err) != SV_OK)
        return err->code;
    w->at = (size_t)(tail - w->p);
    return SV_OK;
}

static sv_rc import_all(sv_d1_conn *c, window *w, sv_d1_run *run, sv_err *err)
{
    sv_d1_out none;
    sv_d1_out_init(&none, "", PIECE);
    sv_rc rc = SV_OK;
    size_t n = 0;
    for (;;) {
        if ((rc = skip(w, err)) != SV_OK || !w->p[w->at])
            break;
        n++;
        if ((rc = import_one(c, w, run, &none, err)) != SV_OK) {
            if (rc != SV_ECANCELED)
                (void)!sv_wrap(err, "statement %zu of the file", n);
            break;
        }
    }
    sv_d1_out_done(&none);
    return rc == SV_OK && n == 0 ? sv_fail(err, SV_EINVAL, "No SQL statements detected.") : rc;
}

sv_rc sv_d1_conn_import(sv_d1_conn *c, int fd, sv_d1_run *run, sv_buf *meta_json, sv_err *err)
{
    SV_AUTO(sv_freep) char *mem = sv_try_calloc(1, WINDOW + 1);
    window w = {.p = mem, .fd = fd};
    int64_t start = sv_mono_us(), changes = sqlite3_total_changes64(c->db);
    if (!mem)
        return sv_fail(err, SV_ENOMEM, "no memory for the import");
    if (sv_d1_begin(c, run->cancel, run->limit_ms, err) != SV_OK)
        return err->code;
    run->format = SV_D1_NO_ROWS;
    sv_rc rc = import_all(c, &w, run, err);
    if (rc == SV_OK)
        rc = sv_d1_commit(c, &run->wrote, err);
    if (rc != SV_OK) {
        sv_d1_rollback(c);
        return rc;
    }
    double ms = (double)(sv_mono_us() - start) / 1000;
    sv_buf_adds(meta_json, "{\"served_by\":\"selvedge\",\"served_by_region\":\"LOCAL\",\"served_by_primary\":true,\"duration\":");
    sv_json_add_num(meta_json, ms);
    sv_buf_adds(meta_json, ",\"timings\":{\"sql_duration_ms\":");
    sv_json_add_num(meta_json, ms);
    sv_buf_addf(meta_json, "},\"changes\":%lld,\"last_row_id\":%lld,\"changed_db\":%s,\"size_after\":%lld,\"rows_read\":%lld,\"rows_written\":%lld}",
                (long long)(sqlite3_total_changes64(c->db) - changes), (long long)sqlite3_last_insert_rowid(c->db), run->wrote ? "true" : "false",
                (long long)sv_d1_conn_size(c), (long long)run->rows_read, (long long)run->rows_written);
    return SV_OK;
}

/* ---- out ---- */

typedef struct dump {
    sv_d1_conn *c;
    sv_buf b;
    int fd;
    const sv_d1_dump *opts;
} dump;

static sv_rc flush(dump *d, size_t over, sv_err *err)
{
    if (d->b.failed)
        return sv_fail(err, SV_ENOMEM, "no memory for the export");
    if (d->b.n <= over)
        return SV_OK;
    if (sv_write_all(d->fd, d->b.p, d->b.n, err) != SV_OK)
        return err->code;
    sv_buf_reset(&d->b);
    return SV_OK;
}

static void add_quoted(sv_buf *b, const char *s, char q)
{
    sv_buf_addc(b, q);
    for (; *s; s++) {
        if (*s == q)
            sv_buf_addc(b, q);
        sv_buf_addc(b, *s);
    }
    sv_buf_addc(b, q);
}

static void add_text(sv_buf *b, const char *p, size_t n)
{
    bool lf = memchr(p, '\n', n) != NULL, cr = memchr(p, '\r', n) != NULL;
    /* No literal holds a NUL, and a text may hold both stand-ins for a line break. */
    if (memchr(p, '\0', n) || (lf && memmem(p, n, "\\#lf", 4)) || (cr && memmem(p, n, "\\#cr", 4))) {
        sv_buf_adds(b, "CAST(X'");
        for (size_t i = 0; i < n; i++)
            sv_buf_addf(b, "%02x", (unsigned char)p[i]);
        sv_buf_adds(b, "' AS TEXT)");
        return;
    }
    /* the stand-ins for line breaks must not be in the text already */
    const char *lf_as = memmem(p, n, "\\n", 2) ? "\\#lf" : "\\n", *cr_as = memmem(p, n, "\\r", 2) ? "\\#cr" : "\\r";
    sv_buf_adds(b, lf ? "replace(" : "");
    sv_buf_adds(b, cr ? "replace(" : "");
    sv_buf_addc(b, '\'');
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\'')
            sv_buf_adds(b, "''");
        else if (p[i] == '\n')
            sv_buf_adds(b, lf_as);
        else if (p[i] == '\r')
            sv_buf_adds(b, cr_as);
        else
            sv_buf_addc(b, p[i]);
    }
    sv_buf_addc(b, '\'');
    if (cr)
        sv_buf_addf(b, ",'%s',char(13))", cr_as);
    if (lf)
        sv_buf_addf(b, ",'%s',char(10))", lf_as);
}

static void add_value(sv_buf *b, sqlite3_stmt *s, int i)
{
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER: sv_buf_addf(b, "%lld", (long long)sqlite3_column_int64(s, i)); return;
    case SQLITE_FLOAT: {
        double v = sqlite3_column_double(s, i);
        if (isinf(v)) {
            sv_buf_adds(b, v > 0 ? "9e999" : "-9e999");
            return;
        }
        size_t start = b->n;
        sv_json_add_num(b, v);
        if (b->p && !strpbrk(b->p + start, ".eE")) /* 1.0 stays a real where the column has no type */
            sv_buf_adds(b, ".0");
        return;
    }
    case SQLITE_TEXT: {
        const char *p = (const char *)sqlite3_column_text(s, i);
        add_text(b, p ? p : "", (size_t)sqlite3_column_bytes(s, i));
        return;
    }
    case SQLITE_BLOB: {
        const uint8_t *p = sqlite3_column_blob(s, i);
        int n = sqlite3_column_bytes(s, i);
        sv_buf_adds(b, "X'");
        for (int k = 0; k < n; k++)
            sv_buf_addf(b, "%02x", p[k]);
        sv_buf_addc(b, '\'');
        return;
    }
    default: sv_buf_adds(b, "NULL");
    }
}

static bool is_wanted(const dump *d, const char *name)
{
    for (size_t i = 0; i < d->opts->n_tables; i++)
        if (strcmp(d->opts->tables[i], name) == 0)
            return true;
    return d->opts->n_tables == 0;
}

static sv_rc each(dump *d, const char *sql, sv_rc (*fn)(dump *, sqlite3_stmt *, const char *, sv_err *), const char *arg, sv_err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(d->c->db, sql, -1, &s, NULL);
    sv_rc done = SV_OK;
    while (rc == SQLITE_OK && done == SV_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        done = fn(d, s, arg, err);
        rc = SQLITE_OK;
    }
    if (done == SV_OK && rc != SQLITE_DONE)
        done = sv_d1_fail(d->c, rc, err);
    sqlite3_finalize(s);
    return done;
}

static sv_rc dump_row(dump *d, sqlite3_stmt *s, const char *head, sv_err *err)
{
    sv_buf_adds(&d->b, head);
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        sv_buf_adds(&d->b, i ? "," : "");
        add_value(&d->b, s, i);
    }
    sv_buf_adds(&d->b, ");\n");
    return flush(d, PIECE, err);
}

static sv_rc add_column(dump *d, sqlite3_stmt *s, const char *arg, sv_err *err)
{
    (void)arg, (void)err;
    if (d->b.n)
        sv_buf_addc(&d->b, ',');
    add_quoted(&d->b, (const char *)sqlite3_column_text(s, 0), '"');
    return SV_OK;
}

/* Generated columns are left out: they cannot be inserted, and come back by themselves. */
static sv_rc dump_rows(dump *d, const char *table, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf columns, select, head;
    sv_buf_init(&columns, 1 << 20);
    sv_buf_init(&select, 1 << 20);
    sv_buf_init(&head, 1 << 20);
    dump names = {.c = d->c, .fd = -1, .opts = d->opts};
    sv_buf_init(&names.b, 1 << 20);
    sv_buf_adds(&select, "SELECT name FROM pragma_table_xinfo(");
    add_quoted(&select, table, '\'');
    sv_buf_adds(&select, ") WHERE hidden = 0");
    sv_rc rc = each(&names, sv_buf_cstr(&select), add_column, NULL, err);
    if (rc == SV_OK) {
        sv_buf_reset(&select);
        sv_buf_addf(&select, "SELECT %s FROM ", sv_buf_cstr(&names.b));
        add_quoted(&select, table, '"');
        sv_buf_adds(&head, "INSERT INTO ");
        add_quoted(&head, table, '"');
        sv_buf_addf(&head, " (%s) VALUES(", sv_buf_cstr(&names.b));
        rc = each(d, sv_buf_cstr(&select), dump_row, sv_buf_cstr(&head), err);
    }
    sv_buf_done(&names.b);
    return rc;
}

static sv_rc dump_table(dump *d, sqlite3_stmt *s, const char *arg, sv_err *err)
{
    const char *name = (const char *)sqlite3_column_text(s, 0), *sql = (const char *)sqlite3_column_text(s, 1);
    bool schema = !d->opts->no_schema;
    (void)arg;
    if (!is_wanted(d, name))
        return SV_OK;
    if (strcmp(name, "sqlite_sequence") == 0)
        sv_buf_adds(&d->b, schema ? "DELETE FROM sqlite_sequence;\n" : "");
    else if (sqlite3_strnicmp(name, "sqlite_", 7) == 0) { /* statistics, which ANALYZE makes again */
        sv_buf_adds(&d->b, schema && strcmp(name, "sqlite_stat1") == 0 ? "ANALYZE sqlite_schema;\n" : "");
        return SV_OK;
    } else if (sqlite3_strnicmp(sql, "CREATE VIRTUAL TABLE", 20) == 0)
        return sv_fail(err, SV_EINVAL, "D1 Export error: cannot export databases with Virtual Tables (fts5)");
    else if (schema && (sqlite3_strnicmp(sql, "CREATE TABLE '", 14) == 0 || sqlite3_strnicmp(sql, "CREATE TABLE \"", 14) == 0))
        sv_buf_addf(&d->b, "CREATE TABLE IF NOT EXISTS %s;\n", sql + 13);
    else if (schema)
        sv_buf_addf(&d->b, "%s;\n", sql);
    return d->opts->no_data ? flush(d, PIECE, err) : dump_rows(d, name, err);
}

static sv_rc dump_rest(dump *d, sqlite3_stmt *s, const char *arg, sv_err *err)
{
    (void)arg;
    if (is_wanted(d, (const char *)sqlite3_column_text(s, 0)))
        sv_buf_addf(&d->b, "%s;\n", (const char *)sqlite3_column_text(s, 1));
    return flush(d, PIECE, err);
}

static sv_rc dump_all(dump *d, sv_err *err)
{
    sv_buf_adds(&d->b, "PRAGMA defer_foreign_keys=TRUE;\n");
    if (each(d, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL ORDER BY tbl_name = 'sqlite_sequence', rowid",
             dump_table, NULL, err) != SV_OK)
        return err->code;
    if (!d->opts->no_schema &&
        each(d, "SELECT tbl_name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger', 'view') AND sql IS NOT NULL ORDER BY type, rowid",
             dump_rest, NULL, err) != SV_OK)
        return err->code;
    return flush(d, 0, err);
}

sv_rc sv_d1_conn_export(sv_d1_conn *c, int fd, const sv_d1_dump *opts, const atomic_bool *cancel, sv_err *err)
{
    dump d = {.c = c, .fd = fd, .opts = opts};
    if (sv_d1_begin(c, cancel, 0, err) != SV_OK)
        return err->code;
    sv_buf_init(&d.b, 64 << 20);
    c->inside = true;
    sv_rc rc = dump_all(&d, err);
    c->inside = false;
    sv_buf_done(&d.b);
    sv_d1_rollback(c);
    return rc;
}

/* ---- copies ---- */

sv_rc sv_d1_conn_copy(sv_d1_conn *c, const char *to_path, sv_err *err)
{
    sqlite3 *to = NULL;
    int rc = sqlite3_open_v2(to_path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_backup *b = sqlite3_backup_init(to, "main", c->db, "main");
        if (b)
            sqlite3_backup_step(b, -1);
        rc = b ? sqlite3_backup_finish(b) : sqlite3_errcode(to);
    }
    if (rc == SQLITE_OK) /* one file and no log beside it */
        rc = sqlite3_exec(to, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
    sv_rc done = rc == SQLITE_OK ? SV_OK : sv_fail(err, SV_EIO, "copy the database: %s", to ? sqlite3_errmsg(to) : "no memory");
    sqlite3_close(to);
    if (done != SV_OK)
        unlink(to_path);
    return done;
}
