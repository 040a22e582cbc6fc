/* r2_s3_impl.h - what the files of the S3 dialect share */
#ifndef SV_R2_R2_S3_IMPL_H
#define SV_R2_R2_S3_IMPL_H

#include "r2/r2_call.h"
#include "r2/r2_impl.h"
#include "r2/sigv4.h"
#include "r2/xml.h"

enum { SV_S3_MAX_XML = 8 << 20, SV_S3_XML_ARENA = 64 << 20 };

/* c->own of every call of this dialect. */
typedef struct sv_s3 {
    sv_sigv4 auth;
    uint8_t key[32];            /* the day's */
    sv_sum_values sums;         /* of the headers; mask 0: none */
    bool want_sums;             /* x-amz-checksum-mode: ENABLED */
    bool encode_url;            /* encoding-type=url */
    const char *fixed[6];       /* response-content-type and its sisters, in the order of sv_s3_fields */
    sv_r2_list list;
    bool v2, fetch_owner;
    sv_r2_upload_page uploads;
    int64_t after, limit;       /* of parts */
    sv_r2_get from;             /* of a copy */
    bool keep, merge;           /* metadata of a copy */
    sv_r2_setting setting;
    bool quiet;
    bool whole_sums;            /* checksums of the head are not the body's */
    json_t *cors;               /* the rule that lets the origin pass; borrowed from c->json */
    sv_str origin;
} sv_s3;
static inline sv_s3 *sv_s3_of(const sv_r2_call *c) { return c->own; }

extern const char *const sv_s3_fields[6][3]; /* header, name in an object's http metadata, name in the query */

sv_str sv_s3_query(sv_req *r, const char *name);   /* {NULL, 0}: absent */
bool sv_s3_has(sv_req *r, const char *name);
void sv_s3_fail(sv_req *r, sv_r2_call *c);
void sv_s3_headers(sv_req *r, const sv_r2_call *c); /* request id, CORS */
void sv_s3_empty(sv_req *r, sv_r2_call *c, int status);
void sv_s3_xml(sv_req *r, sv_r2_call *c);          /* c->answer, 200 */
void sv_s3_begin_xml(sv_r2_call *c, const char *root);
void sv_s3_add_date(sv_buf *b, const char *name, int64_t ms);
void sv_s3_add_name(sv_r2_call *c, const char *name, sv_str key); /* encoded where that was asked for */

/* Prepares the intake from the signature's payload hash, the checksums, the lengths. What is wrong goes to c->err. */
void sv_s3_body(sv_r2_call *c, sv_req *r);
/* Receives a body of XML for ready, which reads it by sv_s3_parse. */
void sv_s3_receive_xml(sv_r2_call *c, sv_req *r, sv_rc (*ready)(sv_r2_call *c), sv_r2_answer answer);
SV_MUST sv_rc sv_s3_parse(sv_r2_call *c, sv_arena **a, sv_xml **out); /* *a: free it */

void sv_s3_object(sv_r2_call *c, sv_req *r); /* both take the call */
void sv_s3_bucket(sv_r2_call *c, sv_req *r);
void sv_s3_root(sv_r2_call *c, sv_req *r);

#endif
