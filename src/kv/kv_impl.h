/* kv_impl.h - one call of either dialect, on its way from the loop to the store and back */
#ifndef SV_KV_KV_IMPL_H
#define SV_KV_KV_IMPL_H

#include "base/json.h"
#include "http/body_files.h"
#include "kv/kv_http.h"

/* How a dialect answers. All on the loop's thread, whole answers but for `head`. */
typedef struct sv_kvs_dialect {
    void (*fail)(sv_req *r, const sv_err *err);
    void (*done)(sv_req *r);                         /* a write is on disk */
    void (*head)(sv_req *r, const sv_kvs_value *v);   /* adds the headers of a value */
} sv_kvs_dialect;

/* Holds copies: a client may leave, and its request's memory with it, while the store works. */
typedef struct sv_kvs_call {
    sv_kvs_http *h;
    const sv_kvs_dialect *d;
    char account[33], id[64];           /* id: of the namespace */
    char key[SV_KVS_MAX_KEY + 1];
    char metadata[SV_KVS_MAX_METADATA + 1];
    sv_kvs_change change;                /* its views point at the above, or into spool */
    sv_kvs_write write;
    sv_ticket *ticket;
    sv_spool *spool;
    char prefix[SV_KVS_MAX_KEY], cursor[1024]; /* of a list */
    size_t n_prefix, n_cursor;
    int64_t limit;
    sv_kvs_value value;
    sv_buf answer;
    char *content_type;                 /* of the request; NULL: not needed */
    json_t *body;                       /* of the request; NULL: none */
    sv_err err;                         /* code 0: no error yet */
} sv_kvs_call;

/* For the account of r's principal. A bad key or namespace is noted in err, so that the body can be read before it is answered. */
sv_kvs_call *sv_kvs_call_new(sv_kvs_http *h, const sv_kvs_dialect *d, sv_req *r, sv_str ns_id, sv_str raw_key);
void sv_kvs_call_free(sv_kvs_call *c);
void sv_kvs_call_metadata(sv_kvs_call *c, sv_str json); /* empty: none */
SV_MUST sv_rc sv_kvs_call_ns(sv_kvs_call *c, sv_kvs_ns *ns); /* looks the namespace up; in the pool */

/* What a list asks for: checked, noted. `what` names the limit's parameter. */
void sv_kvs_call_page(sv_kvs_call *c, sv_str prefix, sv_str cursor, sv_str limit, const char *what);
/* Appends "[{"name":...},...]" to c->answer and the cursor of what follows to *next; metadata as text, or as the JSON it is. In the pool. */
SV_MUST sv_rc sv_kvs_call_list(sv_kvs_call *c, bool metadata_as_text, sv_buf *next, size_t *n);

/* Each takes the call and answers. */
void sv_kvs_call_get(sv_kvs_call *c, sv_req *r);
void sv_kvs_call_put(sv_kvs_call *c, sv_req *r);    /* the body is the value; from a stream route */
void sv_kvs_call_change(sv_kvs_call *c, sv_req *r); /* c->change as it is */
/* Runs work in the pool, then answers with c->err, or calls `answer`. */
void sv_kvs_call_work(sv_kvs_call *c, sv_req *r, void (*work)(void *call), void (*answer)(sv_req *r, void *call));

/* {"keys": [...]} of a bulk get: appends "{...}", one member a key, to c->answer. What is wrong goes to c->err. */
typedef struct sv_kvs_bulk_opts { const json_t *keys; bool as_json, with_metadata, with_expiration; } sv_kvs_bulk_opts;
SV_MUST sv_rc sv_kvs_bulk_parse(const json_t *body, sv_kvs_bulk_opts *out, sv_err *err);
void sv_kvs_bulk_get(sv_kvs_call *c, const sv_kvs_bulk_opts *o);

#endif
