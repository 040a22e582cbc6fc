/* links: analytics base */
/* Queries of the SQL API. What is understood must be sound SQL for SQLite: no syntax of the client's may come through, no column be unknown. */
#include <sqlite3.h>
#include <string.h>

#include "analytics/functions.h"
#include "analytics/sql.h"

static sqlite3 *open_tables(void)
{
    sqlite3 *db;
    sv_err err = {0};
    sv_buf sql;
    sqlite3_open(":memory:", &db);
    sv_buf_init(&sql, 0);
    sv_buf_adds(&sql, "CREATE TABLE datasets (account, name); CREATE TABLE points (account, dataset, timestamp, index1");
    for (int i = 1; i <= SV_AE_BLOBS; i++)
        sv_buf_addf(&sql, ", blob%d, double%d", i, i);
    sv_buf_adds(&sql, ")");
    SV_ASSERT(sqlite3_exec(db, sql.p, NULL, NULL, NULL) == SQLITE_OK && sv_ae_functions_add(db, &err) == SV_OK);
    sv_buf_done(&sql);
    return db;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sqlite3 *db;
    static sv_arena *arena;
    sv_ae_query q;
    sv_err err = {0};
    if (!db) {
        db = open_tables();
        arena = sv_arena_create(16 << 20);
    }
    sv_arena_reset(arena);
    if (sv_ae_translate(&q, arena, (sv_str){(const char *)p, n}, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
        return 0;
    }
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(db, sv_buf_cstr(&q.sql), (int)q.sql.n, &s, NULL) != SQLITE_OK) {
        /* An aggregate in the wrong place and depth are SQLite's to say. */
        const char *why = sqlite3_errmsg(db);
        SV_ASSERT(strstr(why, "aggregate") || strstr(why, "too large") || strstr(why, "too many") || strstr(why, "ORDER BY term") || strstr(why, "GROUP BY term") ||
                  strstr(why, "LIKE or GLOB") || strstr(why, "overflow"));
    } else {
        SV_ASSERT(sqlite3_stmt_readonly(s) && sqlite3_column_count(s) == q.n_columns);
    }
    sqlite3_finalize(s);
    sv_ae_query_done(&q);
    return 0;
}
