/* d1_conn.c - SQL from strangers on one file of SQLite
 *
 * What a stranger's SQL must not do is decided where SQLite compiles it, by its authorizer: no ATTACH (so no VACUUM either), no transactions
 * of its own, no PRAGMA outside a list, no virtual tables but FTS5's, nothing that looks into the library. How much it may do is decided
 * by SQLite's limits and by a progress handler, which looks at the clock and at whether anybody still waits. FTS5, JSON and the mathematical functions are in.
 *
 * A prepared statement is kept by its text (a third of a point select's time is the parser's); the authorizer's word is part of what is kept. A
 * PRAGMA is never kept, and one that changed the connection ends it: the next request gets a fresh one.
 *
 * Each commit leaves its number and time in two fields of the file's header that SQLite does not use itself (user_version, application_id), which
 * no SQL from outside can set. They cost a page of log and need no table that a user would find in a dump.
 *
 * The figures. `changes` and `last_row_id` are SQLite's. rows_written: every row inserted, changed or removed, triggers' included, and one more
 * for each index that an insertion or a change writes. rows_read: SQLite counts the rows that full scans and automatic indexes step over; what a
 * search in an index steps over, and count(*), it does not count, so there the rows found stand for it: the figure is a lower bound.
 *
 * The log is not copied into the file by SQLite on its own (wal_autocheckpoint 0): whoever owns the connection says when, so that history can be kept first. */
#include "d1/d1_conn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "account/limits.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "d1/d1_conn_impl.h"

enum { STEPS_BETWEEN_LOOKS = 2000, PAGE = 4096 };
#define MOST_EXACT ((int64_t)1 << 53)

/* ---- what SQL may do ---- */

static bool in_list(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sqlite3_stricmp(name, list[i]) == 0)
            return true;
    return false;
}
#define IN(name, list) in_list(name, list, SV_LEN(list))

static const char *const reading_pragmas[] = {"data_version", "foreign_key_check", "foreign_key_list", "function_list", "index_info", "index_list",
                                              "index_xinfo", "optimize", "quick_check", "table_info", "table_list", "table_xinfo"};
/* Those last until the connection ends; defer_foreign_keys until the commit. */
static const char *const setting_pragmas[] = {"case_sensitive_like", "defer_foreign_keys", "foreign_keys", "ignore_check_constraints",
                                              "legacy_alter_table", "recursive_triggers", "reverse_unordered_selects"};
static const char *const closed_tables[] = {"sqlite_stmt", "dbstat", "sqlite_dbpage", "sqlite_dbdata", "bytecode", "tables_used"};
static const char *const closed_functions[] = {"load_extension", "fts3_tokenizer"};
static const char *const open_modules[] = {"fts5", "fts5vocab"};

static int refuse(sv_d1_conn *c, const char *why)
{
    c->denied = why;
    return SQLITE_DENY;
}

static int may_pragma(sv_d1_conn *c, const char *name, const char *arg)
{
    if (IN(name, reading_pragmas))
        return SQLITE_OK;
    if (!IN(name, setting_pragmas))
        return refuse(c, NULL);
    if (arg)
        c->changed = c->changed || sqlite3_stricmp(name, "defer_foreign_keys") != 0;
    return SQLITE_OK;
}

static void note_update(sv_d1_conn *c, const char *table, const char *column)
{
    if (c->updated.n < 16384)
        sv_buf_addf(&c->updated, "%s%c%s%c", table, 1, column, 2);
}

static int authorize(void *ctx, int what, const char *a, const char *b, const char *schema, const char *trigger)
{
    sv_d1_conn *c = ctx;
    (void)schema;
    if (c->inside)
        return SQLITE_OK;
    switch (what) {
    case SQLITE_ATTACH:
    case SQLITE_DETACH: return refuse(c, NULL);
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return refuse(c, "BEGIN, COMMIT, ROLLBACK and SAVEPOINT have no place here: a batch, and a file, is one transaction of its own");
    case SQLITE_PRAGMA: return may_pragma(c, a, b);
    case SQLITE_FUNCTION: return IN(b, closed_functions) ? refuse(c, NULL) : SQLITE_OK;
    case SQLITE_CREATE_VTABLE:
        c->ddl = true;
        return IN(b, open_modules) ? SQLITE_OK : refuse(c, "the only virtual tables are fts5 and fts5vocab");
    case SQLITE_READ: c->reads = c->reads || !trigger; /* fall through */
    case SQLITE_INSERT:
    case SQLITE_DELETE: return a && IN(a, closed_tables) ? refuse(c, NULL) : SQLITE_OK;
    case SQLITE_UPDATE: note_update(c, a, b); return IN(a, closed_tables) ? refuse(c, NULL) : SQLITE_OK;
    case SQLITE_CREATE_INDEX: case SQLITE_CREATE_TABLE: case SQLITE_CREATE_TRIGGER: case SQLITE_CREATE_VIEW: case SQLITE_DROP_INDEX:
    case SQLITE_DROP_TABLE: case SQLITE_DROP_TRIGGER: case SQLITE_DROP_VIEW: case SQLITE_DROP_VTABLE: case SQLITE_ALTER_TABLE:
    case SQLITE_CREATE_TEMP_INDEX: case SQLITE_CREATE_TEMP_TABLE: case SQLITE_CREATE_TEMP_TRIGGER: case SQLITE_CREATE_TEMP_VIEW:
    case SQLITE_DROP_TEMP_INDEX: case SQLITE_DROP_TEMP_TABLE: case SQLITE_DROP_TEMP_TRIGGER: case SQLITE_DROP_TEMP_VIEW:
        c->ddl = true;
        /* fall through */
    default: return SQLITE_OK;
    }
}

static int look_up(void *ctx)
{
    sv_d1_conn *c = ctx;
    return (c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed)) || (c->deadline_us && sv_mono_us() > c->deadline_us);
}

/* ---- errors ---- */

static const char *code_name(int rc)
{
    static const char *const names[] = {"OK", "ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY", "INTERRUPT", "IOERR",
                                        "CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL", "EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT",
                                        "MISMATCH", "MISUSE", "NOLFS", "AUTH", "FORMAT", "RANGE", "NOTADB"};
    rc &= 0xff;
    return rc < (int)SV_LEN(names) ? names[rc] : "ERROR";
}

/* What kind of constraint, where SQLite says it. */
static const char *constraint_name(int rc)
{
    switch (rc) {
    case SQLITE_CONSTRAINT_CHECK: return "CHECK";
    case SQLITE_CONSTRAINT_FOREIGNKEY: return "FOREIGNKEY";
    case SQLITE_CONSTRAINT_NOTNULL: return "NOTNULL";
    case SQLITE_CONSTRAINT_PRIMARYKEY: return "PRIMARYKEY";
    case SQLITE_CONSTRAINT_TRIGGER: return "TRIGGER";
    case SQLITE_CONSTRAINT_UNIQUE: return "UNIQUE";
    case SQLITE_CONSTRAINT_ROWID: return "ROWID";
    case SQLITE_CONSTRAINT_DATATYPE: return "DATATYPE";
    default: return NULL;
    }
}

static sv_rc kind_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL: return SV_ELIMIT;
    case SQLITE_NOMEM: return SV_ENOMEM;
    case SQLITE_IOERR: case SQLITE_CANTOPEN: case SQLITE_READONLY: case SQLITE_BUSY: return SV_EIO;
    case SQLITE_CORRUPT: case SQLITE_NOTADB: return SV_EFORMAT;
    default: return SV_EINVAL;
    }
}

sv_rc sv_d1_fail(sv_d1_conn *c, int rc, sv_err *err)
{
    char why[401];
    int at = sqlite3_error_offset(c->db);
    snprintf(why, sizeof why, "%s", sqlite3_errmsg(c->db)); /* before the size is asked, which is a statement that succeeds */
    if ((rc & 0xff) == SQLITE_INTERRUPT && c->cancel && atomic_load(c->cancel))
        return sv_fail(err, SV_ECANCELED, "the client has gone");
    if ((rc & 0xff) == SQLITE_INTERRUPT)
        return sv_fail(err, SV_ETIMEDOUT, "D1 DB exceeded its CPU time limit and was reset.");
    if ((rc & 0xff) == SQLITE_AUTH)
        return sv_fail(err, SV_EINVAL, "%s: SQLITE_AUTH", c->denied ? c->denied : why);
    if ((rc & 0xff) == SQLITE_FULL && sv_d1_conn_size(c) + PAGE * 16 >= sv_limit_value(SV_LIMIT_D1_SIZE_BYTES))
        return sv_fail(err, SV_ELIMIT, "Exceeded maximum DB size: SQLITE_FULL");
    if (constraint_name(rc))
        return sv_fail(err, SV_EINVAL, "%.380s: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_%s)", why, constraint_name(rc));
    return at >= 0 ? sv_fail(err, kind_of(rc), "%.380s at offset %d: SQLITE_%s", why, at, code_name(rc))
                   : sv_fail(err, kind_of(rc), "%s: SQLITE_%s", why, code_name(rc));
}

/* ---- open ---- */

static void count_write(void *ctx, sqlite3 *db, int op, const char *schema, const char *table, sqlite3_int64 key1, sqlite3_int64 key2)
{
    sv_d1_conn *c = ctx;
    (void)db, (void)schema, (void)key1, (void)key2;
    if (c->inside)
        return;
    size_t i = c->last_written;
    if (i >= c->n_written || strcmp(c->written[i].table, table) != 0)
        for (i = 0; i < c->n_written && strcmp(c->written[i].table, table) != 0; i++)
            ;
    if (i == MAX_WRITTEN)
        return;
    if (i == c->n_written) {
        c->n_written++;
        c->written[i] = (written){.n_inserts = 0};
        snprintf(c->written[i].table, sizeof c->written[i].table, "%s", table);
    }
    c->last_written = i;
    c->written[i].n_inserts += op == SQLITE_INSERT;
    c->written[i].n_updates += op == SQLITE_UPDATE;
    c->written[i].n_deletes += op == SQLITE_DELETE;
}

static void set_limits(sqlite3 *db)
{
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, (int)sv_limit_value(SV_LIMIT_D1_VALUE_BYTES));
    sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, (int)sv_limit_value(SV_LIMIT_D1_SQL_BYTES));
    sqlite3_limit(db, SQLITE_LIMIT_COLUMN, (int)sv_limit_value(SV_LIMIT_D1_COLUMNS));
    sqlite3_limit(db, SQLITE_LIMIT_VARIABLE_NUMBER, (int)sv_limit_value(SV_LIMIT_D1_PARAMS));
    sqlite3_limit(db, SQLITE_LIMIT_FUNCTION_ARG, (int)sv_limit_value(SV_LIMIT_D1_FUNCTION_ARGS));
    sqlite3_limit(db, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, (int)sv_limit_value(SV_LIMIT_D1_PATTERN_BYTES));
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(db, SQLITE_LIMIT_EXPR_DEPTH, 200);
    sqlite3_limit(db, SQLITE_LIMIT_TRIGGER_DEPTH, 100);
    sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}

sv_rc sv_d1_exec(sv_d1_conn *c, const char *sql, sv_err *err)
{
    bool inside = c->inside;
    c->inside = true;
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    c->inside = inside;
    return rc == SQLITE_OK ? SV_OK : sv_d1_fail(c, rc, err);
}

static int64_t ask(sv_d1_conn *c, const char *sql)
{
    sqlite3_stmt *s = NULL;
    bool inside = c->inside;
    c->inside = true;
    int64_t v = 0;
    if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    c->inside = inside;
    return v;
}

static void read_version(sv_d1_conn *c)
{
    c->version = (sv_d1_version){(uint32_t)ask(c, "PRAGMA user_version"), (uint32_t)ask(c, "PRAGMA application_id")};
}

sv_rc sv_d1_conn_open(sv_d1_conn **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = sv_xnew0(sv_d1_conn);
    sv_buf_init(&c->updated, 64 << 10);
    c->path = sv_xstrdup(path);
    c->size = -1;
    c->inside = true;
    int rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (rc != SQLITE_OK)
        return sv_fail(err, kind_of(rc), "open the database: %s", c->db ? sqlite3_errmsg(c->db) : "no memory");
    chmod(path, 0600);
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, 5000);
    char setup[400];
    snprintf(setup, sizeof setup,
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-8000;"
             "PRAGMA max_page_count=%lld; PRAGMA temp.max_page_count=%lld;", /* temporary tables live as long as the connection */
             (long long)(sv_limit_value(SV_LIMIT_D1_SIZE_BYTES) / PAGE), (long long)(sv_limit_value(SV_LIMIT_D1_TEMP_BYTES) / PAGE));
    if (sv_d1_exec(c, setup, err) != SV_OK)
        return sv_wrap(err, "open the database");
    set_limits(c->db);
    sqlite3_set_authorizer(c->db, authorize, c);
    sqlite3_progress_handler(c->db, STEPS_BETWEEN_LOOKS, look_up, c);
    sqlite3_preupdate_hook(c->db, count_write, c);
    c->inside = false;
    read_version(c);
    *out = SV_TAKE(c);
    return SV_OK;
}

static void forget(kept *k)
{
    sqlite3_finalize(k->s);
    free(k->sql);
    sv_buf_done(&k->updated);
    *k = (kept){0};
}

static void forget_all(sv_d1_conn *c)
{
    for (size_t i = 0; i < N_KEPT; i++)
        forget(&c->kept[i]);
}

sv_d1_conn *sv_d1_conn_close(sv_d1_conn *c)
{
    if (!c)
        return NULL;
    forget_all(c);
    sqlite3_finalize(c->page_count);
    sqlite3_close(c->db);
    sv_buf_done(&c->updated);
    free(c->path);
    free(c);
    return NULL;
}

/* ---- statements ---- */

/* Past white space, comments and semicolons. An unclosed comment reaches to the end, as for SQLite. */
static const char *skip_blank(const char *p)
{
    for (;;) {
        if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r' || *p == '\f' || *p == ';') {
            p++;
        } else if (p[0] == '-' && p[1] == '-') {
            p += strcspn(p, "\n");
        } else if (p[0] == '/' && p[1] == '*') {
            const char *end = strstr(p + 2, "*/");
            p = end ? end + 2 : p + strlen(p);
        } else {
            return p;
        }
    }
}

/* Compiles the first statement at `sql`; *tail is behind it. */
static sv_rc compile(sv_d1_conn *c, const char *sql, bool keep, sqlite3_stmt **out, const char **tail, sv_err *err)
{
    c->denied = NULL;
    c->reads = false;
    sv_buf_reset(&c->updated);
    int rc = sqlite3_prepare_v3(c->db, sql, -1, keep ? SQLITE_PREPARE_PERSISTENT : 0, out, tail);
    if ((rc & 0xff) == SQLITE_TOOBIG) /* SQLite says the same of a value */
        return sv_fail(err, SV_EINVAL, "statement too long: SQLITE_TOOBIG");
    return rc == SQLITE_OK ? SV_OK : sv_d1_fail(c, rc, err);
}

static bool is_pragma(const char *sql)
{
    return sqlite3_strnicmp(sql, "pragma", 6) == 0 || sqlite3_strnicmp(sql, "explain", 7) == 0;
}

/* The statement of a whole text that was run before, or NULL. */
static kept *find_kept(sv_d1_conn *c, const char *sql, size_t n, uint64_t hash)
{
    for (size_t i = 0; i < N_KEPT; i++)
        if (c->kept[i].s && c->kept[i].hash == hash && c->kept[i].n == n && memcmp(c->kept[i].sql, sql, n) == 0)
            return &c->kept[i];
    return NULL;
}

static void keep(sv_d1_conn *c, const char *sql, size_t n, uint64_t hash, sqlite3_stmt *s)
{
    kept *k = &c->kept[0];
    for (size_t i = 1; i < N_KEPT && k->s; i++)
        if (!c->kept[i].s || c->kept[i].used < k->used)
            k = &c->kept[i];
    forget(k);
    *k = (kept){.s = s, .sql = sv_xstrndup(sql, n), .n = n, .hash = hash, .used = ++c->clock, .reads = c->reads};
    sv_buf_init(&k->updated, 64 << 10);
    sv_buf_add(&k->updated, c->updated.p, c->updated.n);
}

static sv_rc bind(sv_d1_conn *c, sqlite3_stmt *s, const sv_d1_query *q, sv_err *err)
{
    if (sqlite3_bind_parameter_count(s) != (int)q->n_params)
        return sv_fail(err, SV_EINVAL, "Wrong number of parameter bindings for SQL query.");
    int rc = SQLITE_OK;
    for (size_t i = 0; i < q->n_params && rc == SQLITE_OK; i++) {
        const sv_d1_value *v = &q->params[i];
        int at = (int)i + 1;
        switch (v->type) {
        case SV_D1_NULL: rc = sqlite3_bind_null(s, at); break;
        case SV_D1_INT: /* JavaScript's numbers are doubles, and typeof() tells; what no double holds stays whole */
            rc = v->i >= -MOST_EXACT && v->i <= MOST_EXACT ? sqlite3_bind_double(s, at, (double)v->i) : sqlite3_bind_int64(s, at, v->i);
            break;
        case SV_D1_REAL: rc = sqlite3_bind_double(s, at, v->f); break;
        case SV_D1_TEXT: rc = sqlite3_bind_text64(s, at, v->s.p, v->s.n, SQLITE_STATIC, SQLITE_UTF8); break;
        case SV_D1_BLOB: rc = sqlite3_bind_blob64(s, at, v->s.n ? v->s.p : "", v->s.n, SQLITE_STATIC); break;
        }
    }
    return rc == SQLITE_OK ? SV_OK : sv_d1_fail(c, rc, err);
}

/* ---- rows as JSON ---- */

static void add_cell(sv_buf *b, sqlite3_stmt *s, int i)
{
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER: sv_buf_addf(b, "%lld", (long long)sqlite3_column_int64(s, i)); return;
    case SQLITE_FLOAT: sv_json_add_num(b, sqlite3_column_double(s, i)); return;
    case SQLITE_TEXT: {
        const char *p = (const char *)sqlite3_column_text(s, i);
        sv_json_add_str(b, (sv_str){p ? p : "", (size_t)sqlite3_column_bytes(s, i)});
        return;
    }
    case SQLITE_BLOB: {
        const uint8_t *p = sqlite3_column_blob(s, i);
        int n = sqlite3_column_bytes(s, i);
        sv_buf_addc(b, '[');
        for (int k = 0; k < n; k++)
            sv_buf_addf(b, k ? ",%u" : "%u", p[k]);
        sv_buf_addc(b, ']');
        return;
    }
    default: sv_buf_adds(b, "null");
    }
}

/* For rows as objects: where each member's value comes from. Of columns with one name the first gives the place and the last the value, as in
 * JavaScript; -1: a later one of a name that was there already. */
static void object_columns(sqlite3_stmt *s, int n, int *from)
{
    for (int i = 0; i < n; i++) {
        from[i] = i;
        for (int k = 0; k < i; k++)
            if (from[k] >= 0 && strcmp(sqlite3_column_name(s, k), sqlite3_column_name(s, i)) == 0) {
                from[k] = i;
                from[i] = -1;
            }
    }
}

static void add_row(sv_buf *b, sqlite3_stmt *s, int n, const int *from, const sv_buf *names, const size_t *name_at)
{
    bool first = true;
    sv_buf_addc(b, from ? '{' : '[');
    for (int i = 0; i < n; i++) {
        if (from && from[i] < 0)
            continue;
        if (!first)
            sv_buf_addc(b, ',');
        first = false;
        if (from)
            sv_buf_add(b, names->p + name_at[i], name_at[i + 1] - name_at[i]);
        add_cell(b, s, from ? from[i] : i);
    }
    sv_buf_addc(b, from ? '}' : ']');
}

enum { MOST_COLUMNS = 2000 };

/* Steps through all rows and writes "results". */
static sv_rc write_rows(sv_d1_conn *c, sqlite3_stmt *s, sv_d1_format format, sv_d1_out *out, int64_t *n_rows, sv_err *err)
{
    int rc, n = sqlite3_column_count(s), from[MOST_COLUMNS];
    size_t name_at[MOST_COLUMNS + 1];
    SV_AUTO(sv_buf_donep) sv_buf names;
    sv_buf_init(&names, 16 << 20);
    bool objects = format == SV_D1_OBJECTS;
    sv_buf *b = &out->b;
    if (n > MOST_COLUMNS)
        return sv_fail(err, SV_ELIMIT, "too many columns in result set: SQLITE_ERROR");
    sv_buf_adds(b, objects || format == SV_D1_NO_ROWS ? "\"results\":[" : "\"results\":{\"columns\":[");
    for (int i = 0; i < n; i++) {
        const char *name = sqlite3_column_name(s, i);
        name_at[i] = names.n;
        sv_json_add_str(&names, sv_str_of(name ? name : ""));
        if (format == SV_D1_ROWS) {
            sv_buf_adds(b, i ? "," : "");
            sv_buf_add(b, names.p + name_at[i], names.n - name_at[i]);
        }
        sv_buf_addc(&names, ':');
    }
    name_at[n] = names.n;
    if (objects)
        object_columns(s, n, from);
    sv_buf_adds(b, format == SV_D1_ROWS ? "],\"rows\":[" : "");
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        ++*n_rows;
        if (format == SV_D1_NO_ROWS)
            continue;
        if (*n_rows > 1)
            sv_buf_addc(b, ',');
        add_row(b, s, n, objects ? from : NULL, &names, name_at);
        if ((b->n > (256 << 10) || b->failed) && sv_d1_out_settle(out, err) != SV_OK)
            return err->code;
    }
    sv_buf_adds(b, format == SV_D1_ROWS ? "]}" : "]");
    return rc == SQLITE_DONE ? SV_OK : sv_d1_fail(c, rc, err);
}

/* ---- figures ---- */

int64_t sv_d1_conn_size(sv_d1_conn *c)
{
    if (c->size >= 0)
        return c->size;
    bool inside = c->inside;
    c->inside = true;
    if (!c->page_count && sqlite3_prepare_v3(c->db, "PRAGMA page_count", -1, SQLITE_PREPARE_PERSISTENT, &c->page_count, NULL) != SQLITE_OK)
        c->page_count = NULL;
    int64_t pages = c->page_count && sqlite3_step(c->page_count) == SQLITE_ROW ? sqlite3_column_int64(c->page_count, 0) : 0;
    sqlite3_reset(c->page_count);
    c->inside = inside;
    return c->size = pages * PAGE;
}

int64_t sv_d1_conn_n_tables(sv_d1_conn *c)
{
    return ask(c, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'");
}

int64_t sv_d1_conn_wal_bytes(sv_d1_conn *c)
{
    struct stat st;
    char path[512];
    snprintf(path, sizeof path, "%s-wal", c->path);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

sv_d1_version sv_d1_conn_version(const sv_d1_conn *c) { return c->version; }

/* Rows of indexes that an update of `w` wrote besides: `updated` says which columns. */
static int64_t touched_indexes(sqlite3_stmt *q, const char *table, const sv_buf *updated)
{
    int64_t n = 0;
    char key[512];
    while (sqlite3_step(q) == SQLITE_ROW) {
        const char *columns = (const char *)sqlite3_column_text(q, 0);
        bool hit = false;
        for (const char *p = columns; p && *p && !hit; p += strcspn(p, "\1"), p += *p == 1) {
            int len = snprintf(key, sizeof key, "%s%c%.*s%c", table, 1, (int)strcspn(p, "\1"), p, 2);
            hit = len > 0 && len < (int)sizeof key && updated->n && memmem(updated->p, updated->n, key, (size_t)len);
        }
        n += hit || !columns; /* an index of an expression has no column's name: it counts */
    }
    return n;
}

static int64_t rows_written(sv_d1_conn *c, const sv_buf *updated)
{
    static const char sql[] = "SELECT (SELECT group_concat(name, char(1)) FROM pragma_index_info(l.name)) FROM pragma_index_list(?1) l";
    int64_t sum = 0;
    sqlite3_stmt *q = NULL;
    bool inside = c->inside;
    c->inside = true;
    for (size_t i = 0; i < c->n_written; i++) {
        const written *w = &c->written[i];
        int64_t n_indexes = 0, n_touched = 0;
        if (!q && sqlite3_prepare_v2(c->db, sql, -1, &q, NULL) != SQLITE_OK)
            break;
        sqlite3_bind_text(q, 1, w->table, -1, SQLITE_STATIC);
        if (w->n_inserts)
            while (sqlite3_step(q) == SQLITE_ROW)
                n_indexes++;
        sqlite3_reset(q);
        if (w->n_updates)
            n_touched = touched_indexes(q, w->table, updated);
        sqlite3_reset(q);
        sum += w->n_inserts * (1 + n_indexes) + w->n_updates * (1 + n_touched) + w->n_deletes;
    }
    sqlite3_finalize(q);
    c->inside = inside;
    return sum;
}

typedef struct figures { int64_t started_us, changes, last_rowid, size; } figures;

static figures start_figures(sv_d1_conn *c)
{
    c->n_written = 0;
    return (figures){sv_mono_us(), sqlite3_total_changes64(c->db), sqlite3_last_insert_rowid(c->db), sv_d1_conn_size(c)};
}

static void add_meta(sv_buf *b, double ms, const figures *before, const figures *after, int64_t n_read, int64_t n_written)
{
    int64_t changes = after->changes - before->changes;
    bool changed = changes || after->size != before->size || after->last_rowid != before->last_rowid || n_written;
    sv_buf_adds(b, "{\"served_by\":\"selvedge\",\"served_by_region\":\"LOCAL\",\"served_by_colo\":\"LOCAL\",\"served_by_primary\":true,"
                   "\"timings\":{\"sql_duration_ms\":");
    sv_json_add_num(b, ms);
    sv_buf_adds(b, "},\"duration\":");
    sv_json_add_num(b, ms);
    sv_buf_addf(b,
                ",\"changes\":%lld,\"last_row_id\":%lld,\"changed_db\":%s,\"size_after\":%lld,\"rows_read\":%lld,\"rows_written\":%lld,"
                "\"total_attempts\":1}",
                (long long)changes, (long long)after->last_rowid, changed ? "true" : "false", (long long)after->size, (long long)n_read,
                (long long)n_written);
}

/* One compiled and bound statement, from its first row to its figures. */
static sv_rc run_statement(sv_d1_conn *c, sqlite3_stmt *s, const sv_buf *updated, bool reads, sv_d1_run *run, bool wanted, sv_d1_out *out, sv_err *err)
{
    figures before = start_figures(c);
    if (!sqlite3_stmt_readonly(s) || sqlite3_column_count(s) == 0)
        c->size = -1;
    int64_t n_rows = 0;
    size_t start = out->b.n;
    if (wanted)
        sv_buf_adds(&out->b, out->n_file || out->b.n > 1 ? ",{" : "{");
    sv_d1_format format = wanted ? run->format : SV_D1_NO_ROWS;
    if (write_rows(c, s, format, out, &n_rows, err) != SV_OK)
        return err->code;
    double ms = (double)(sv_mono_us() - before.started_us) / 1000;
    int64_t scanned = sqlite3_stmt_status(s, SQLITE_STMTSTATUS_FULLSCAN_STEP, 1) + sqlite3_stmt_status(s, SQLITE_STMTSTATUS_AUTOINDEX, 1);
    scanned += scanned > 0; /* the first row of a scan is no step */
    int64_t n_changed = sqlite3_stmt_readonly(s) ? 0 : sqlite3_total_changes64(c->db) - before.changes, found = n_rows > n_changed ? n_rows : n_changed;
    int64_t n_read = !reads ? 0 : scanned > found ? scanned : found;
    sqlite3_reset(s);
    int64_t n_written = c->n_written ? rows_written(c, updated) : 0;
    if (!sqlite3_stmt_readonly(s))
        c->size = -1;
    figures after = {0, sqlite3_total_changes64(c->db), sqlite3_last_insert_rowid(c->db), sv_d1_conn_size(c)};
    run->n_statements++;
    run->rows_read += n_read;
    run->rows_written += n_written;
    if (!wanted) {
        out->b.n = start;
        return SV_OK;
    }
    sv_buf_adds(&out->b, ",\"success\":true,\"meta\":");
    add_meta(&out->b, ms, &before, &after, n_read, n_written);
    sv_buf_addc(&out->b, '}');
    return sv_d1_out_settle(out, err);
}

/* ---- a request ---- */

static sv_rc run_kept(sv_d1_conn *c, kept *k, const sv_d1_query *q, sv_d1_run *run, sv_d1_out *out, sv_err *err)
{
    k->used = ++c->clock;
    sv_rc rc = bind(c, k->s, q, err);
    if (rc == SV_OK)
        rc = run_statement(c, k->s, &k->updated, k->reads, run, true, out, err);
    sqlite3_reset(k->s);
    sqlite3_clear_bindings(k->s); /* they point into the request */
    return rc;
}

static sv_rc run_new(sv_d1_conn *c, const char *sql, const char **tail, const sv_d1_query *q, sv_d1_run *run, sv_d1_out *out, sv_err *err)
{
    static const sv_d1_query none;
    const char *end;
    sqlite3_stmt *s = NULL;
    if (compile(c, sql, false, &s, &end, err) != SV_OK)
        return err->code;
    *tail = skip_blank(end);
    bool last = **tail == '\0';
    sv_rc rc = bind(c, s, last ? q : &none, err);
    if (rc == SV_OK)
        rc = run_statement(c, s, &c->updated, c->reads, run, last || run->per_statement, out, err);
    sqlite3_finalize(s);
    return rc;
}

sv_rc sv_d1_run_first(sv_d1_conn *c, const char *sql, const char **tail, sv_d1_run *run, sv_d1_out *none, sv_err *err)
{
    static const sv_d1_query no_params;
    sqlite3_stmt *s = NULL;
    if (compile(c, sql, false, &s, tail, err) != SV_OK)
        return err->code;
    sv_rc rc = bind(c, s, &no_params, err);
    if (rc == SV_OK)
        rc = run_statement(c, s, &c->updated, c->reads, run, false, none, err);
    sqlite3_finalize(s);
    return rc;
}

static sv_rc run_query(sv_d1_conn *c, const sv_d1_query *q, sv_d1_run *run, sv_d1_out *out, sv_err *err)
{
    const char *p = skip_blank(q->sql.p);
    size_t n = q->sql.n - (size_t)(p - q->sql.p);
    uint64_t hash = sv_hash64(p, n, 0);
    kept *k = find_kept(c, p, n, hash);
    if (k)
        return run_kept(c, k, q, run, out, err);
    if (n <= 4096 && !is_pragma(p)) { /* worth keeping, if it is one statement */
        const char *end;
        sqlite3_stmt *s = NULL;
        bool ddl = c->ddl;
        c->ddl = false;
        if (compile(c, p, true, &s, &end, err) != SV_OK)
            return err->code;
        bool one = !*skip_blank(end) && !c->ddl;
        c->ddl |= ddl;
        if (one) {
            keep(c, p, n, hash, s);
            return run_kept(c, find_kept(c, p, n, hash), q, run, out, err);
        }
        sqlite3_finalize(s);
    }
    while (*p)
        if (run_new(c, p, &p, q, run, out, err) != SV_OK)
            return err->code;
    return SV_OK;
}

sv_rc sv_d1_begin(sv_d1_conn *c, const atomic_bool *cancel, int64_t limit_ms, sv_err *err)
{
    c->cancel = cancel;
    c->deadline_us = limit_ms ? sv_mono_us() + limit_ms * 1000 : 0;
    c->ddl = false;
    return sv_d1_exec(c, "BEGIN", err);
}

/* Number and time of the commit go into the header with it. */
static sv_rc stamp(sv_d1_conn *c, uint32_t seq, sv_d1_version *v, sv_err *err)
{
    char sql[96];
    *v = (sv_d1_version){seq, (uint32_t)(sv_now_ms() / 1000)};
    if (v->at_s < c->version.at_s)
        v->at_s = c->version.at_s; /* a clock that was set back does not reorder history */
    snprintf(sql, sizeof sql, "PRAGMA user_version=%d; PRAGMA application_id=%d", (int)v->seq, (int)v->at_s);
    return sv_d1_exec(c, sql, err);
}

sv_rc sv_d1_commit(sv_d1_conn *c, bool *wrote, sv_err *err)
{
    sv_d1_version v = c->version;
    c->deadline_us = 0; /* what is done is not thrown away for the last step */
    c->cancel = NULL;
    bool writes = sqlite3_txn_state(c->db, "main") == SQLITE_TXN_WRITE;
    if (writes && stamp(c, c->version.seq + 1, &v, err) != SV_OK)
        return err->code;
    if (sv_d1_exec(c, "COMMIT", err) != SV_OK)
        return err->code;
    c->version = v;
    *wrote = writes;
    return SV_OK;
}

void sv_d1_rollback(sv_d1_conn *c)
{
    sv_err ignored;
    c->deadline_us = 0;
    c->cancel = NULL;
    c->size = -1;
    if (!sqlite3_get_autocommit(c->db))
        (void)!sv_d1_exec(c, "ROLLBACK", &ignored);
}

bool sv_d1_conn_spent(const sv_d1_conn *c) { return c->changed; }
void sv_d1_conn_retire(sv_d1_conn *c) { c->changed = true; }

/* One statement that only reads and was seen before needs no BEGIN around it, which would double the time of a point select. */
static kept *plain_read(sv_d1_conn *c, const sv_d1_request *q)
{
    const char *p = q->n_queries == 1 ? skip_blank(q->queries[0].sql.p) : "";
    size_t n = *p ? q->queries[0].sql.n - (size_t)(p - q->queries[0].sql.p) : 0;
    kept *k = n ? find_kept(c, p, n, sv_hash64(p, n, 0)) : NULL;
    return k && sqlite3_stmt_readonly(k->s) ? k : NULL;
}

static sv_rc read_plainly(sv_d1_conn *c, kept *k, const sv_d1_request *q, sv_d1_run *run, sv_d1_out *out, sv_err *err)
{
    c->cancel = run->cancel;
    c->deadline_us = run->limit_ms ? sv_mono_us() + run->limit_ms * 1000 : 0;
    sv_buf_addc(&out->b, '[');
    sv_rc rc = run_kept(c, k, &q->queries[0], run, out, err);
    sv_buf_addc(&out->b, ']');
    c->cancel = NULL;
    c->deadline_us = 0;
    return rc == SV_OK ? sv_d1_out_settle(out, err) : rc;
}

sv_rc sv_d1_conn_run(sv_d1_conn *c, const sv_d1_request *q, sv_d1_run *run, sv_d1_out *out, sv_err *err)
{
    kept *k = plain_read(c, q);
    if (k)
        return read_plainly(c, k, q, run, out, err);
    if (sv_d1_begin(c, run->cancel, run->limit_ms, err) != SV_OK)
        return err->code;
    sv_rc rc = SV_OK;
    sv_buf_addc(&out->b, '[');
    for (size_t i = 0; i < q->n_queries && rc == SV_OK; i++) {
        run->i_failed = i;
        if (!*skip_blank(q->queries[i].sql.p)) /* an empty line of exec() */
            continue;
        rc = look_up(c) ? sv_d1_fail(c, SQLITE_INTERRUPT, err) : run_query(c, &q->queries[i], run, out, err);
    }
    if (rc == SV_OK && run->n_statements == 0)
        rc = sv_fail(err, SV_EINVAL, "No SQL statements detected.");
    sv_buf_addc(&out->b, ']');
    if (rc == SV_OK)
        rc = sv_d1_out_settle(out, err);
    if (rc == SV_OK)
        rc = sv_d1_commit(c, &run->wrote, err);
    if (rc != SV_OK)
        sv_d1_rollback(c);
    return rc;
}

sv_rc sv_d1_conn_touch(sv_d1_conn *c, uint32_t seq, sv_err *err)
{
    sv_d1_version v;
    if (sv_d1_exec(c, "BEGIN IMMEDIATE", err) != SV_OK)
        return err->code;
    c->size = -1;
    if (stamp(c, (seq > c->version.seq ? seq : c->version.seq) + 1, &v, err) == SV_OK && sv_d1_exec(c, "COMMIT", err) == SV_OK) {
        c->version = v;
        return SV_OK;
    }
    sv_d1_rollback(c);
    return err->code;
}

sv_rc sv_d1_conn_checkpoint(sv_d1_conn *c, sv_err *err)
{
    int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return rc == SQLITE_OK ? SV_OK : sv_d1_fail(c, rc, err);
}
