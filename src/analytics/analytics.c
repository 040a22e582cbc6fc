/* analytics.c - points in one table of SQLite, one row a point with all its 41 columns
 *
 * A row an event is what the queries see, so that is what is stored: the translation of a query (sql.c) reads this table through a filter by
 * account and dataset, which with the time is its index. Columns that a point does not fill have their defaults, which cost a byte each.
 *
 * Queries run on connections of their own, read only, made for the query: they carry functions and a deadline that nothing else of the store
 * should meet. Opening one costs about 0.1 ms, which no query notices.
 *
 * Invariants:
 *   1. A dataset that has points is in `datasets`. It stays there when its points have gone: a query of an old name is empty, not wrong.
 *   2. counts.n is the number of an account's points, changed in the transaction that changes those: to count ten million takes a second. */
#include "analytics/analytics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "account/limits.h"
#include "analytics/functions.h"
#include "analytics/sql.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/time.h"
#include "db/db.h"

enum { SWEEP_MS = 60000, SWEEP_ROWS = 5000, PROGRESS_STEPS = 10000 };

#define BLOB(n) ", blob" #n " TEXT NOT NULL DEFAULT ''"
#define DOUBLE(n) ", double" #n " REAL NOT NULL DEFAULT 0"
#define TWENTY(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20)

static const char *const migrations[] = {
    "CREATE TABLE datasets (account TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, name)) WITHOUT ROWID;"
    "CREATE TABLE counts (account TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE points (id INTEGER PRIMARY KEY, account TEXT NOT NULL, dataset TEXT NOT NULL, timestamp TEXT NOT NULL, index1 TEXT NOT NULL" TWENTY(BLOB)
        TWENTY(DOUBLE) ");"
    "CREATE INDEX points_of ON points (account, dataset, timestamp);"
    "CREATE INDEX points_time ON points (timestamp);",
};

struct sv_analytics {
    sv_db *db;
    char *path;
    sv_ticker *sweeper;
};

static void time_text(char out[20], int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm t;
    gmtime_r(&s, &t);
    strftime(out, 20, "%Y-%m-%d %H:%M:%S", &t);
}

static void sweep_now(void *arg)
{
    sv_err err = {0};
    if (sv_analytics_sweep(arg, sv_now_ms(), sv_limit_value(SV_LIMIT_AE_POINTS), &err) != SV_OK)
        sv_log(SV_WARN, "analytics.sweep", "error='%s' next_in_ms=%d", err.msg, SWEEP_MS);
}

sv_rc sv_analytics_open(sv_analytics **out, const char *data_dir, sv_err *err)
{
    SV_AUTO(sv_analytics_closep) sv_analytics *a = sv_xnew0(sv_analytics);
    a->path = sv_xasprintf("%s/analytics.db", data_dir);
    if (sv_db_open(&a->db, a->path, migrations, (int)SV_LEN(migrations), err) != SV_OK)
        return err->code;
    a->sweeper = sv_ticker_new("analytics", SWEEP_MS, sweep_now, a);
    *out = SV_TAKE(a);
    return SV_OK;
}

sv_analytics *sv_analytics_close(sv_analytics *a)
{
    if (!a)
        return NULL;
    sv_ticker_free(a->sweeper);
    sv_db_close(a->db);
    free(a->path);
    free(a);
    return NULL;
}

/* ---- writing ---- */

typedef struct write_args { sv_str account, dataset; const json_t *points; char time[20]; } write_args;

static sv_rc check_list(const json_t *point, size_t i, const char *member, size_t max, const json_t **out, sv_err *err)
{
    const json_t *l = json_object_get(point, member);
    *out = json_is_array(l) ? l : NULL;
    if (l && !json_is_null(l) && !*out)
        return sv_fail(err, SV_EINVAL, "point %zu: '%s' is not a list", i, member);
    if (json_array_size(l) > max)
        return sv_fail(err, SV_EINVAL, "point %zu: Maximum of %zu %s supported.", i, max, member);
    return SV_OK;
}

static sv_rc check_point(const json_t *point, size_t i, sv_err *err)
{
    const json_t *indexes, *blobs, *doubles, *v;
    size_t k, bytes = 0, max_index = (size_t)sv_limit_value(SV_LIMIT_AE_INDEX_BYTES), max_blobs = (size_t)sv_limit_value(SV_LIMIT_AE_BLOB_BYTES);
    if (!json_is_object(point))
        return sv_fail(err, SV_EINVAL, "point %zu is not an object", i);
    if (check_list(point, i, "indexes", 1, &indexes, err) != SV_OK || check_list(point, i, "blobs", SV_AE_BLOBS, &blobs, err) != SV_OK ||
        check_list(point, i, "doubles", SV_AE_DOUBLES, &doubles, err) != SV_OK)
        return err->code;
    const json_t *index = json_array_get(indexes, 0);
    if (index && !json_is_null(index) && (!json_is_string(index) || json_string_length(index) > max_index))
        return sv_fail(err, SV_EINVAL, "point %zu: indexes[0] is not a text of at most %zu bytes", i, max_index);
    json_array_foreach (blobs, k, v) {
        if (!json_is_string(v) && !json_is_null(v))
            return sv_fail(err, SV_EINVAL, "point %zu: blobs[%zu] is not a text", i, k);
        bytes += json_string_length(v);
    }
    if (bytes > max_blobs)
        return sv_fail(err, SV_EINVAL, "point %zu: its blobs have %zu bytes together, at most %zu", i, bytes, max_blobs);
    json_array_foreach (doubles, k, v)
        if (!json_is_number(v) && !json_is_null(v)) /* NaN and infinities are null in JSON */
            return sv_fail(err, SV_EINVAL, "point %zu: doubles[%zu] is not a number", i, k);
    return SV_OK;
}

#define NAME_BLOB(n) ", blob" #n
#define NAME_DOUBLE(n) ", double" #n
static const char insert_sql[] = "INSERT INTO points (account, dataset, timestamp, index1" TWENTY(NAME_BLOB) TWENTY(NAME_DOUBLE) ") VALUES (?, ?, ?, ?"
                                 ", ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

static void bind_text(sv_stmt *q, int i, const json_t *v)
{
    sv_bind_str(q, i, json_is_string(v) ? (sv_str){json_string_value(v), json_string_length(v)} : SV_STR(""));
}

/* inv. 2 */
static sv_rc add_count(sv_dbw *w, sv_str account, int64_t n, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO counts (account, n) VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET n = n + ?2", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, account);
    sv_bind_i64(&q, 2, n);
    return sv_stmt_run(&q, err);
}

static sv_rc write_points(sv_dbw *w, void *arg, sv_err *err)
{
    const write_args *a = arg;
    size_t k;
    json_t *point;
    SV_AUTO(sv_stmt_donep) sv_stmt known = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&known, w, "INSERT OR IGNORE INTO datasets (account, name) VALUES (?1, ?2)", err) != SV_OK)
        return err->code;
    sv_bind_str(&known, 1, a->account);
    sv_bind_str(&known, 2, a->dataset);
    if (sv_stmt_run(&known, err) != SV_OK || add_count(w, a->account, (int64_t)json_array_size(a->points), err) != SV_OK ||
        sv_stmt_prep(&q, w, insert_sql, err) != SV_OK)
        return err->code;
    json_array_foreach (a->points, k, point) {
        const json_t *blobs = json_object_get(point, "blobs"), *doubles = json_object_get(point, "doubles");
        sv_stmt_reset(&q);
        sv_bind_str(&q, 1, a->account);
        sv_bind_str(&q, 2, a->dataset);
        sv_bind_cstr(&q, 3, a->time);
        bind_text(&q, 4, json_array_get(json_object_get(point, "indexes"), 0));
        for (int i = 0; i < SV_AE_BLOBS; i++)
            bind_text(&q, 5 + i, json_array_get(blobs, (size_t)i));
        for (int i = 0; i < SV_AE_DOUBLES; i++)
            sqlite3_bind_double(q.s, 5 + SV_AE_BLOBS + i, json_number_value(json_array_get(doubles, (size_t)i)));
        if (sv_stmt_run(&q, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

sv_rc sv_analytics_write(sv_analytics *a, sv_str account, sv_str dataset, const json_t *points, int64_t now_ms, sv_err *err)
{
    write_args args = {.account = account, .dataset = dataset, .points = points};
    size_t i, max = (size_t)sv_limit_value(SV_LIMIT_AE_BATCH);
    const json_t *point;
    if (!json_is_array(points) || json_array_size(points) > max)
        return sv_fail(err, SV_EINVAL, "points is not a list of at most %zu", max);
    json_array_foreach (points, i, point)
        if (check_point(point, i, err) != SV_OK)
            return err->code;
    time_text(args.time, now_ms);
    return sv_db_write(a->db, write_points, &args, err);
}

/* ---- keeping to the limits ---- */

typedef struct sweep_args { char before[20]; int64_t max_points; bool more; } sweep_args;

/* Runs a statement that deletes points of one account, and counts them off. */
static sv_rc delete_points(sv_dbw *w, sv_stmt *q, sv_str account, sweep_args *s, sv_err *err)
{
    if (sv_stmt_run(q, err) != SV_OK)
        return err->code;
    int64_t n = sv_db_changes(w);
    s->more |= n > 0;
    return n ? add_count(w, account, -n, err) : SV_OK;
}

static sv_rc sweep_old(sv_dbw *w, sweep_args *s, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt find = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&find, w, "SELECT account, dataset FROM points WHERE timestamp < ?1 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_cstr(&find, 1, s->before);
    if (sv_stmt_step(&find, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return SV_OK;
    if (sv_stmt_prep(&q, w, "DELETE FROM points WHERE id IN (SELECT id FROM points WHERE account = ?1 AND dataset = ?2 AND timestamp < ?3 LIMIT ?4)", err) != SV_OK)
        return err->code;
    sv_str account = sv_col_str(&find, 0); /* bound as a copy; find is not stepped again */
    sv_bind_str(&q, 1, account);
    sv_bind_str(&q, 2, sv_col_str(&find, 1));
    sv_bind_cstr(&q, 3, s->before);
    sv_bind_i64(&q, 4, SWEEP_ROWS);
    return delete_points(w, &q, account, s, err);
}

/* The oldest have the lowest ids, and an account with too many points has most of those. */
static sv_rc sweep_many(sv_dbw *w, sweep_args *s, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt find = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&find, w, "SELECT account, n FROM counts WHERE n > ?1 LIMIT 1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&find, 1, s->max_points);
    if (sv_stmt_step(&find, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return SV_OK;
    if (sv_stmt_prep(&q, w, "DELETE FROM points WHERE id IN (SELECT id FROM points NOT INDEXED WHERE account = ?1 ORDER BY id LIMIT min(?2, ?3))", err) != SV_OK)
        return err->code;
    sv_str account = sv_col_str(&find, 0);
    sv_bind_str(&q, 1, account);
    sv_bind_i64(&q, 2, SWEEP_ROWS);
    sv_bind_i64(&q, 3, sv_col_i64(&find, 1) - s->max_points);
    return delete_points(w, &q, account, s, err);
}

/* Portions, so that writers do not wait for long. */
static sv_rc sweep_some(sv_dbw *w, void *arg, sv_err *err)
{
    sweep_args *s = arg;
    s->more = false;
    return sweep_old(w, s, err) == SV_OK ? sweep_many(w, s, err) : err->code;
}

sv_rc sv_analytics_sweep(sv_analytics *a, int64_t now_ms, int64_t max_points, sv_err *err)
{
    sweep_args s = {.max_points = max_points};
    time_text(s.before, now_ms - sv_limit_value(SV_LIMIT_AE_KEEP_MS));
    do {
        if (sv_db_write(a->db, sweep_some, &s, err) != SV_OK)
            return err->code;
    } while (s.more);
    return SV_OK;
}

/* ---- queries ---- */

static int past_deadline(void *arg) { return sv_mono_ms() > *(const int64_t *)arg; }

static void close_db(sqlite3 **db) { sqlite3_close(*db); }
static void finalize(sqlite3_stmt **q) { sqlite3_finalize(*q); }

static sv_rc query_failed(sqlite3 *db, sv_err *err)
{
    int code = sqlite3_errcode(db);
    if (code == SQLITE_INTERRUPT)
        return sv_fail(err, SV_ETIMEDOUT, "the query took longer than %lld ms: look at less time, or at fewer groups", (long long)sv_limit_value(SV_LIMIT_AE_QUERY_MS));
    if (code == SQLITE_NOMEM)
        return sv_fail(err, SV_ENOMEM, "out of memory for the query");
    if (code == SQLITE_ERROR || code == SQLITE_TOOBIG)
        return sv_fail(err, SV_EINVAL, "%.200s", sqlite3_errmsg(db));
    return sv_fail(err, SV_EIO, "analytics: %.180s", sqlite3_errmsg(db));
}

static sv_rc check_datasets(sqlite3 *db, sv_str account, const sv_ae_query *q, sv_err *err)
{
    SV_AUTO(finalize) sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, "SELECT 1 FROM datasets WHERE account = ?1 AND name = ?2", -1, &s, NULL) != SQLITE_OK)
        return query_failed(db, err);
    for (int i = 0; i < q->n_tables; i++) {
        sqlite3_reset(s);
        sqlite3_bind_text(s, 1, account.p, (int)account.n, SQLITE_STATIC);
        sqlite3_bind_text(s, 2, q->tables[i], -1, SQLITE_STATIC);
        int rc = sqlite3_step(s);
        if (rc == SQLITE_DONE)
            return sv_fail(err, SV_ENOENT, "there is no dataset '%.100s' in this account: it begins with the first point that a Worker writes", q->tables[i]);
        if (rc != SQLITE_ROW)
            return query_failed(db, err);
    }
    return SV_OK;
}

static void add_tsv(sv_buf *out, sqlite3_stmt *s, int i)
{
    if (sqlite3_column_type(s, i) == SQLITE_FLOAT) { /* the shortest form, which SQLite's own is not */
        sv_json_add_num(out, sqlite3_column_double(s, i));
        return;
    }
    const char *p = (const char *)sqlite3_column_text(s, i);
    if (!p)
        sv_buf_adds(out, "\\N");
    for (; p && *p; p++) {
        char c = *p == '\t' ? 't' : *p == '\n' ? 'n' : *p == '\r' ? 'r' : *p == '\\' ? '\\' : 0;
        if (c)
            sv_buf_addc(out, '\\');
        sv_buf_addc(out, c ? c : *p);
    }
}

static void add_json(sv_buf *out, sqlite3_stmt *s, int i, sv_ae_type type)
{
    int t = sqlite3_column_type(s, i);
    sv_str text = t == SQLITE_TEXT ? (sv_str){(const char *)sqlite3_column_text(s, i), (size_t)sqlite3_column_bytes(s, i)} : (sv_str){0};
    if (t == SQLITE_NULL)
        sv_buf_adds(out, "null");
    else if (t == SQLITE_TEXT && type == SV_AE_ARRAY)
        sv_buf_add(out, text.p, text.n); /* ae_top wrote JSON */
    else if (t == SQLITE_TEXT)
        sv_json_add_str(out, text);
    else if (t == SQLITE_INTEGER)
        sv_buf_addf(out, "%lld", (long long)sqlite3_column_int64(s, i));
    else
        sv_json_add_num(out, sqlite3_column_double(s, i));
}

static void add_row(sv_buf *out, sqlite3_stmt *s, const sv_ae_query *q)
{
    bool json = q->format != SV_AE_TAB_SEPARATED;
    if (json)
        sv_buf_addc(out, '{');
    for (int i = 0; i < q->n_columns; i++) {
        if (i)
            sv_buf_addc(out, json ? ',' : '\t');
        if (!json) {
            add_tsv(out, s, i);
            continue;
        }
        sv_json_add_str(out, sv_str_of(q->columns[i].name));
        sv_buf_addc(out, ':');
        add_json(out, s, i, q->columns[i].type);
    }
    sv_buf_adds(out, q->format == SV_AE_JSON ? "}" : json ? "}\n" : "\n");
}

static void add_meta(sv_buf *out, const sv_ae_query *q)
{
    sv_buf_adds(out, "{\"meta\":[");
    for (int i = 0; i < q->n_columns; i++) {
        sv_buf_adds(out, i ? ",{\"name\":" : "{\"name\":");
        sv_json_add_str(out, sv_str_of(q->columns[i].name));
        sv_buf_addf(out, ",\"type\":\"%s\"}", sv_ae_type_name(q->columns[i].type));
    }
    sv_buf_adds(out, "],\"data\":[");
}

static sv_rc add_rows(sqlite3 *db, sqlite3_stmt *s, const sv_ae_query *q, sv_buf *out, sv_err *err)
{
    int64_t n = 0;
    int rc;
    size_t max = (size_t)sv_limit_value(SV_LIMIT_AE_RESULT_BYTES);
    if (q->format == SV_AE_JSON)
        add_meta(out, q);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (n++ && q->format == SV_AE_JSON)
            sv_buf_addc(out, ',');
        add_row(out, s, q);
        if (out->failed || out->n > max)
            return sv_fail(err, SV_ELIMIT, "the answer is over %zu bytes: ask for fewer columns, or say LIMIT", max);
    }
    if (rc != SQLITE_DONE)
        return query_failed(db, err);
    if (q->format == SV_AE_JSON)
        sv_buf_addf(out, "],\"rows\":%lld}", (long long)n);
    return SV_OK;
}

sv_rc sv_analytics_query(sv_analytics *a, sv_str account, sv_str sql, int64_t now_ms, sv_buf *out, const char **content_type, sv_err *err)
{
    char now[20];
    int64_t deadline = sv_mono_ms() + sv_limit_value(SV_LIMIT_AE_QUERY_MS);
    SV_AUTO(sv_arena_freep) sv_arena *arena = sv_arena_create((size_t)16 << 20);
    SV_AUTO(sv_ae_query_done) sv_ae_query q = {0};
    if (sql.n > (size_t)sv_limit_value(SV_LIMIT_AE_SQL_BYTES))
        return sv_fail(err, SV_EINVAL, "the query has %zu bytes, at most %lld", sql.n, (long long)sv_limit_value(SV_LIMIT_AE_SQL_BYTES));
    if (sv_ae_translate(&q, arena, sql, err) != SV_OK)
        return err->code;

    SV_AUTO(close_db) sqlite3 *db = NULL;
    SV_AUTO(finalize) sqlite3_stmt *s = NULL; /* goes before its connection */
    if (sqlite3_open_v2(a->path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return query_failed(db, err);
    if (sv_ae_functions_add(db, err) != SV_OK || check_datasets(db, account, &q, err) != SV_OK)
        return err->code;
    sqlite3_progress_handler(db, PROGRESS_STEPS, past_deadline, &deadline);
    sqlite3_exec(db, "PRAGMA temp_store = MEMORY; PRAGMA busy_timeout = 2000", NULL, NULL, NULL);
    if (sqlite3_prepare_v2(db, sv_buf_cstr(&q.sql), (int)q.sql.n, &s, NULL) != SQLITE_OK)
        return query_failed(db, err);
    time_text(now, now_ms);
    sqlite3_bind_text(s, 1, account.p, (int)account.n, SQLITE_STATIC);
    if (sqlite3_bind_parameter_count(s) > 1)
        sqlite3_bind_text(s, 2, now, -1, SQLITE_STATIC);
    if (add_rows(db, s, &q, out, err) != SV_OK)
        return err->code;
    *content_type = q.format == SV_AE_TAB_SEPARATED ? "text/tab-separated-values; charset=utf-8" : q.format == SV_AE_JSON ? "application/json" : "application/x-ndjson";
    return SV_OK;
}
