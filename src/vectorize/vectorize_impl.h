/* vectorize_impl.h - what the files of this folder share: the readers of bodies, and the calls that both dialects have */
#ifndef SV_VECTORIZE_VECTORIZE_IMPL_H
#define SV_VECTORIZE_VECTORIZE_IMPL_H

#include <stdatomic.h>

#include "account/limits.h"
#include "vectorize/lines.h"
#include "vectorize/vectorize.h"

enum { SV_VZ_MAX_NAME = 64 };

typedef struct sv_vz_counters { _Atomic uint64_t n_queries, n_mutations, n_vectors; } sv_vz_counters;
sv_vz_counters *sv_vz_counters_of(sv_vectorize *vz);

/* Numbers of refusals. 40005, 40006, 40008, 40012, 40025 and 40026 are the original's; of the others it has published none. */
enum {
    SV_VZ_EBODY = 40001,      /* no JSON, or a member of the wrong type */
    SV_VZ_ENO_FIELD = 40005,  /* no such metadata index */
    SV_VZ_EQUERY_DIM = 40006,
    SV_VZ_EFIELD = 40004,     /* a metadata index that cannot be */
    SV_VZ_EROOM = 40013,      /* memory or disk is full */
    SV_VZ_ENO_VECTOR = 40014, /* queryById of an unknown id */
    SV_VZ_ECURSOR = 40021,
    SV_VZ_EFILTER = 40022,
    SV_VZ_ETOP_K = 40025,
    SV_VZ_EMETADATA = 40026,  /* returnMetadata */
};

/* How a dialect answers. Both are whole answers: the request is dead after them. */
typedef struct sv_vz_dialect {
    void (*ok)(sv_req *r, sv_str result, sv_str messages); /* JSON both; messages is an array */
    void (*refuse)(sv_req *r, const sv_err *err);
    sv_limit_id batch; /* most vectors of a call */
} sv_vz_dialect;

typedef struct sv_vz_call {
    sv_vectorize *vz;
    sv_req *r;
    const sv_vz_dialect *d;
    sv_str account, index;
} sv_vz_call;

/* Each answers its request. Job threads. */
void sv_vz_insert(const sv_vz_call *c, sv_str ndjson, bool discard);
void sv_vz_upsert(const sv_vz_call *c, sv_str ndjson, bool discard);
void sv_vz_query(const sv_vz_call *c);
void sv_vz_get_by_ids(const sv_vz_call *c);
void sv_vz_delete_by_ids(const sv_vz_call *c);
void sv_vz_delete_by_filter(const sv_vz_call *c);
void sv_vz_list_vectors(const sv_vz_call *c);
void sv_vz_info(const sv_vz_call *c);
void sv_vz_field_create(const sv_vz_call *c);
void sv_vz_field_list(const sv_vz_call *c);
void sv_vz_field_delete(const sv_vz_call *c);

/* 404 for what is not there; 400 for all else that the caller caused and can mend, "exists already" too: SDKs would send a 409 again. */
int sv_vz_status_of(const sv_err *err);

#endif
