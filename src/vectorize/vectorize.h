/* vectorize.h - the accounts' vector indexes: which there are, and the open ones
 *
 * The catalogue is DATA/vectorize.db; each index lies in DATA/vectorize/ID/ (vec/vec.h). An index is opened by its first use and stays open;
 * over SV_LIMIT_VEC_OPEN the one unused for longest is closed again. Names are unique within an account, ids for ever.
 *
 * Threads: open and close by the owner, alone. Everything else on any thread, and may block on the disk: the job pool's. */
#ifndef SV_VECTORIZE_VECTORIZE_H
#define SV_VECTORIZE_VECTORIZE_H

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "http/server.h"
#include "vec/vec.h"

typedef struct sv_vectorize sv_vectorize;

SV_MUST sv_rc sv_vectorize_open(sv_vectorize **out, const char *data_dir, sv_err *err); /* removes what a crash left half-made */
sv_vectorize *sv_vectorize_close(sv_vectorize *vz); /* NULL is fine */
SV_DEFINE_AUTO(sv_vectorize, sv_vectorize_close)

typedef struct sv_vz_config {
    int64_t dimensions;
    sv_str metric; /* cosine, euclidean, dot-product */
    sv_str preset; /* name of an embedding model instead; n 0: none */
} sv_vz_config;

/* *out: {"name", "description", "config": {"dimensions", "metric"}, "created_on", "modified_on"}, the caller's.
 * SV_EINVAL 3001 (bad name, config), SV_ECONFLICT 3002 (the name exists), SV_EINVAL 3003 (too many). */
SV_MUST sv_rc sv_vectorize_create(sv_vectorize *vz, sv_str account, sv_str name, sv_str description, const sv_vz_config *config, json_t **out,
                                  sv_err *err);
SV_MUST sv_rc sv_vectorize_get(sv_vectorize *vz, sv_str account, sv_str name, json_t **out, sv_err *err); /* SV_ENOENT 3000 */
json_t *sv_vectorize_list(sv_vectorize *vz, sv_str account); /* of such objects, by name; the caller's */
/* After SV_OK nothing finds it any more; its bytes go when the calls that still use it have ended. SV_ENOENT 3000. */
SV_MUST sv_rc sv_vectorize_delete(sv_vectorize *vz, sv_str account, sv_str name, sv_err *err);

/* Holds an index open until sv_vz_use_done. SV_ENOENT 3000, and what sv_vec_open says. */
typedef struct sv_vz_use sv_vz_use;
SV_MUST sv_rc sv_vectorize_use(sv_vectorize *vz, sv_str account, sv_str name, sv_vz_use **out, sv_err *err);
sv_vec *sv_vz_use_vec(const sv_vz_use *u); /* borrowed until done */
sv_vz_use *sv_vz_use_done(sv_vz_use *u);   /* NULL is fine */
SV_DEFINE_AUTO(sv_vz_use, sv_vz_use_done)

/* Prometheus text: indexes, those open, queries, mutations, vectors taken. */
void sv_vectorize_metrics(sv_vectorize *vz, sv_buf *out);

/* Each sets its routes on `s`; vz is borrowed for as long as s lives. The caller of a request is sv_req_user(r), a const sv_principal *. */
void sv_vectorize_rest_routes(sv_http *s, sv_vectorize *vz);    /* /client/v4/accounts/:account/vectorize/v2/indexes/... */
void sv_vectorize_binding_routes(sv_http *s, sv_vectorize *vz); /* /vectorize/..., the index named by x-sv-binding */

#endif
