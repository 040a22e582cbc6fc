/* analytics.h - the Analytics Engine: data points that Workers write, and SQL over them
 *
 * A dataset begins with its first point. Points are kept for three months, and no more of them than SV_LIMIT_AE_POINTS an account: the oldest go.
 * Nothing is sampled: _sample_interval is 1 everywhere, and queries that weigh by it are right.
 * Threads: any; functions block (job threads). */
#ifndef SV_ANALYTICS_ANALYTICS_H
#define SV_ANALYTICS_ANALYTICS_H

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "http/server.h"

typedef struct sv_analytics sv_analytics;

SV_MUST sv_rc sv_analytics_open(sv_analytics **out, const char *data_dir, sv_err *err);
sv_analytics *sv_analytics_close(sv_analytics *a); /* NULL is fine */
SV_DEFINE_AUTO(sv_analytics, sv_analytics_close)

/* points: a list of {"indexes": [text], "blobs": [text or null], "doubles": [number]}, each member optional; all are written or none. Returns
 * when they are on disk. SV_EINVAL names the point and what is wrong with it. */
SV_MUST sv_rc sv_analytics_write(sv_analytics *a, sv_str account, sv_str dataset, const json_t *points, int64_t now_ms, sv_err *err);

/* Runs one query and appends its answer; *content_type is a constant. SV_EINVAL: not understood, or too large a group; SV_ENOENT: no such
 * dataset; SV_ETIMEDOUT; SV_ELIMIT: the answer is over SV_LIMIT_AE_RESULT_BYTES. */
SV_MUST sv_rc sv_analytics_query(sv_analytics *a, sv_str account, sv_str sql, int64_t now_ms, sv_buf *out, const char **content_type, sv_err *err);

/* Takes out what is too old, and what is too many; the store's own timer calls it. */
SV_MUST sv_rc sv_analytics_sweep(sv_analytics *a, int64_t now_ms, int64_t max_points, sv_err *err);

/* GET and POST /client/v4/accounts/:account/analytics_engine/sql; POST /ae/write on the binding server. */
void sv_analytics_rest_routes(sv_http *s, sv_analytics *a);
void sv_analytics_binding_routes(sv_http *s, sv_analytics *a);

#endif
