/* sql.h - the query language of the Analytics Engine's SQL API, translated to SQLite's
 *
 * What is understood: one SELECT (WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, OFFSET, a subquery in FROM), SHOW TABLES, SHOW TIMEZONE(S), and FORMAT
 * behind each; the documented functions, with ClickHouse's names and results. Anything else is refused by name: no text of the client reaches
 * SQLite but names of columns and values, quoted by us, so a query can do nothing that this grammar cannot say.
 * Threads: any; values. */
#ifndef SV_ANALYTICS_SQL_H
#define SV_ANALYTICS_SQL_H

#include "base/err.h"
#include "base/str.h"

enum {
    SV_AE_BLOBS = 20, SV_AE_DOUBLES = 20,
    SV_AE_MAX_TOKENS = 4096, /* of a query */
    SV_AE_MAX_COLUMNS = 100, /* of a result */
    SV_AE_MAX_TABLES = 16,   /* mentions of datasets in one query */
    SV_AE_MAX_SQL = 1 << 18, /* bytes of the translation */
};

typedef enum sv_ae_format { SV_AE_JSON, SV_AE_JSON_EACH_ROW, SV_AE_TAB_SEPARATED } sv_ae_format;
typedef enum sv_ae_type {
    SV_AE_STRING, SV_AE_UINT8, SV_AE_UINT32, SV_AE_UINT64, SV_AE_INT64, SV_AE_FLOAT64, SV_AE_DATETIME, SV_AE_DATE, SV_AE_ARRAY,
    SV_AE_INTERVAL, /* inside of expressions only */
} sv_ae_type;
const char *sv_ae_type_name(sv_ae_type t); /* ClickHouse's: "UInt64" */

typedef struct sv_ae_query {
    sv_buf sql;                       /* ?1 is the account, ?2 now as 'YYYY-MM-DD hh:mm:ss' */
    sv_ae_format format;
    int n_columns, n_tables;
    struct { char *name; sv_ae_type type; } columns[SV_AE_MAX_COLUMNS]; /* in the arena */
    char *tables[SV_AE_MAX_TABLES];   /* in the arena: datasets that must be there */
} sv_ae_query;
void sv_ae_query_done(sv_ae_query *q); /* all zeros is fine */

/* SV_EINVAL names the place and what was expected there. *out needs sv_ae_query_done after success only; its names live in the arena. */
SV_MUST sv_rc sv_ae_translate(sv_ae_query *out, sv_arena *arena, sv_str text, sv_err *err);

#endif
