/* d1_usage.h - what each database was used for in the last hours: queries, rows read and written. Since the daemon's start; any thread. */
#ifndef SV_D1_USAGE_H
#define SV_D1_USAGE_H

#include <stdint.h>

#include "base/str.h"
#include "d1/d1_conn.h"

enum { SV_D1_USAGE_HOURS = 25 }; /* the present one, and the 24 before it */

typedef struct sv_d1_hour { int64_t hour; /* since 1970 */ int64_t read_queries, write_queries, rows_read, rows_written; } sv_d1_hour;
typedef struct sv_d1_usage sv_d1_usage;
sv_d1_usage *sv_d1_usage_new(void);
sv_d1_usage *sv_d1_usage_free(sv_d1_usage *u); /* NULL is fine */

/* Counts a request that is over: all its statements as writes if it committed one. */
void sv_d1_usage_add(sv_d1_usage *u, const char *id, const sv_d1_run *run, int64_t now_ms);
/* The hours of the last 24 with something in them, newest first; how many. */
int sv_d1_usage_get(sv_d1_usage *u, const char *id, int64_t now_ms, sv_d1_hour out[SV_D1_USAGE_HOURS]);
void sv_d1_usage_forget(sv_d1_usage *u, const char *id); /* a deleted database's */

#endif
