/* r2.h - buckets of objects: the store behind the R2 binding, its REST API and the S3 endpoint
 *
 * Keys are UTF-8, 1 to 1,024 bytes, ordered as bytes. An object of up to SV_R2_INLINE bytes lies in a row of DATA/r2/r2.db, a larger one in
 * files below DATA/r2/big: one, or one for each part of a multipart upload. What a write has reported is on disk, and every read that begins
 * after that sees it; one that began before keeps what it saw to its end.
 *
 * Errors carry R2's number in err.api_code (r2_errors.h has them all).
 * Threads: open and close by the owner, when no call is in progress. sv_r2_submit never blocks; everything else does (job pool). */
#ifndef SV_R2_R2_H
#define SV_R2_R2_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "db/db.h"
#include "r2/r2_errors.h"
#include "r2/sums.h"

/* The table of limits has the same numbers, which a test holds; here they size arrays. */
enum {
    SV_R2_MAX_KEY = 1024,
    SV_R2_MAX_METADATA = 8192,   /* bytes of custom names and values */
    SV_R2_MAX_LIST = 1000,
    SV_R2_MAX_DELETE = 1000,     /* keys of one call */
    SV_R2_MAX_PARTS = 10000,
    SV_R2_MIN_PART = 5 << 20,    /* but for the last */
    SV_R2_MAX_BUCKETS = 1000000, /* of an account */
    SV_R2_MAX_BUCKET_LIST = 10000,
    SV_R2_MAX_BUCKET_NAME = 63,
    SV_R2_MAX_UPLOADS = 10000,   /* open, of a bucket */
    SV_R2_MAX_RULES = 1000,      /* lifecycle, lock; 100 notification rules a queue */
    SV_R2_INLINE = 64 << 10,
    SV_R2_UPLOAD_DAYS = 7,
};
#define SV_R2_MAX_UPLOAD ((int64_t)5363466240)                     /* one put or part: 5 GiB less 5 MiB */
#define SV_R2_MAX_OBJECT (((int64_t)5 << 40) - ((int64_t)5 << 30)) /* 5 TiB less 5 GiB */

typedef struct sv_r2 sv_r2;
SV_MUST sv_rc sv_r2_open(sv_r2 **out, const char *data_dir, sv_err *err); /* removes what a crash left half-done */
sv_r2 *sv_r2_close(sv_r2 *r2); /* NULL is fine */
SV_DEFINE_AUTO(sv_r2, sv_r2_close)

typedef enum sv_r2_class { SV_R2_STANDARD, SV_R2_INFREQUENT, SV_R2_CLASS_OF_BUCKET = -1 } sv_r2_class;
const char *sv_r2_class_name(sv_r2_class c); /* "Standard", "InfrequentAccess" */

/* ---- buckets ---- */

typedef struct sv_r2_bucket {
    int64_t no; /* never given again */
    char name[SV_R2_MAX_BUCKET_NAME + 1], location[16], jurisdiction[16];
    int64_t created_ms;
    sv_r2_class class;
    char *cors, *lifecycle, *locks; /* {"rules":[...]} as REST has it; NULL: none. Owned */
} sv_r2_bucket;
void sv_r2_bucket_done(sv_r2_bucket *b);
SV_MUST sv_rc sv_r2_bucket_find(sv_r2 *r2, sv_str account, sv_str name, sv_r2_bucket *out, sv_err *err); /* SV_R2_NO_BUCKET */
SV_MUST sv_rc sv_r2_bucket_create(sv_r2 *r2, sv_str account, sv_str name, sv_str location, sv_str jurisdiction, sv_r2_class c, sv_r2_bucket *out,
                                 sv_err *err); /* SV_R2_BUCKET_EXISTS */
SV_MUST sv_rc sv_r2_bucket_delete(sv_r2 *r2, sv_str account, sv_str name, sv_err *err); /* SV_R2_NOT_EMPTY; its open uploads go */
SV_MUST sv_rc sv_r2_bucket_set_class(sv_r2 *r2, sv_str account, sv_str name, sv_r2_class c, sv_err *err);
/* Names after `after` that hold `contains`, in order (or backwards), up to limit; *more: there are others. No settings in them. */
typedef struct sv_r2_bucket_page { sv_str prefix, contains, after; bool descending; int64_t limit; } sv_r2_bucket_page;
SV_MUST sv_rc sv_r2_bucket_list(sv_r2 *r2, sv_str account, const sv_r2_bucket_page *page, void (*each)(void *arg, const sv_r2_bucket *b), void *arg,
                               bool *more, sv_err *err);
typedef struct sv_r2_usage { int64_t n_objects, n_bytes, n_uploads, upload_bytes, metadata_bytes; } sv_r2_usage;
SV_MUST sv_rc sv_r2_bucket_usage(sv_r2 *r2, sv_str account, sv_str name, sv_r2_class c, sv_r2_usage *out, sv_err *err); /* of one class, or of all */

/* Settings: checked by r2_rules.h, kept as JSON. text {NULL, 0} takes them away. */
typedef enum sv_r2_setting { SV_R2_CORS, SV_R2_LIFECYCLE, SV_R2_LOCKS } sv_r2_setting;
SV_MUST sv_rc sv_r2_bucket_set(sv_r2 *r2, sv_str account, sv_str name, sv_r2_setting which, sv_str text, sv_err *err);

/* ---- objects ---- */

typedef struct sv_r2_obj {
    int64_t id;          /* another one for each version */
    char *key;           /* owned; n_key bytes and a NUL */
    size_t n_key;
    char version[33], etag[48];
    int64_t size, uploaded_ms;
    sv_r2_class class;
    json_t *http;        /* contentType, contentLanguage, contentDisposition, contentEncoding, cacheControl, cacheExpiry (ms); NULL: none */
    json_t *custom;      /* name: text; NULL: none */
    sv_sum_values sums;  /* those that were asked for, and MD5 where the ETag is it */
    bool composite;      /* sums of a multipart upload are sums of the sums of its parts */
    int32_t n_parts;     /* 0: no multipart upload */
    char ssec_md5[25];   /* "": not encrypted; else the MD5 of the customer's key, base64 */
} sv_r2_obj;
void sv_r2_obj_done(sv_r2_obj *o);

/* If-Match and its sisters. All zeros: none. */
typedef struct sv_r2_etag { sv_str value; bool weak, any; } sv_r2_etag;
typedef struct sv_r2_cond {
    bool has_match, has_none, has_before, has_after;
    const sv_r2_etag *match, *none;
    size_t n_match, n_none;
    int64_t before_ms, after_ms; /* uploaded before, uploaded after */
    bool seconds;                /* compared as whole seconds */
    bool inclusive;              /* uploaded at `before_ms` is before it: S3's If-Unmodified-Since */
} sv_r2_cond;
/* o NULL: no such object. *not_modified: what failed is If-None-Match or If-Modified-Since, which HTTP answers with 304. */
bool sv_r2_cond_holds(const sv_r2_cond *c, const sv_r2_obj *o, bool *not_modified);

typedef struct sv_r2_range {
    enum { SV_R2_WHOLE, SV_R2_FROM, SV_R2_SUFFIX, SV_R2_PART } kind;
    int64_t offset, length; /* length -1: to the end; SUFFIX: length last bytes; PART: offset is the part's number */
} sv_r2_range;

typedef struct sv_r2_key { bool given; uint8_t key[32]; char md5[25]; } sv_r2_key; /* SSE-C */
void sv_r2_key_set(sv_r2_key *k, const uint8_t key[32]);

typedef struct sv_r2_get {
    sv_str account, bucket, key;
    sv_r2_cond cond;
    sv_r2_range range;
    sv_r2_key ssec;
    bool head;       /* no body */
    bool meta_only;  /* and no check of the key: metadata of an encrypted object, as the binding's head shows it */
} sv_r2_get;
typedef struct sv_r2_reader sv_r2_reader;
/* SV_R2_NO_KEY; SV_R2_PRECONDITION with *out set (free it); SV_R2_BAD_RANGE with out->size set. *body: NULL for head; *at and *n: its range. */
SV_MUST sv_rc sv_r2_get_object(sv_r2 *r2, const sv_r2_get *g, sv_r2_obj *out, sv_r2_reader **body, int64_t *at, int64_t *n, bool *not_modified, sv_err *err);
/* The next bytes of the range, 1 to n; 0 at its end; -1: the disk failed. */
ssize_t sv_r2_read(sv_r2_reader *b, char *to, size_t n);
sv_r2_reader *sv_r2_reader_close(sv_r2_reader *b); /* NULL is fine */
const char *sv_r2_reader_bytes(const sv_r2_reader *b); /* the whole range, when it is in memory; else NULL */

typedef struct sv_r2_list {
    sv_str account, bucket, prefix, delimiter, start_after, cursor;
    int64_t limit;
    bool http, custom;
    bool past_prefix;  /* start_after may be a common prefix of the page before: S3's marker */
    size_t max_bytes;  /* of metadata; 0: no bound. At least one object comes */
} sv_r2_list;
/* o, or a common prefix. *next: cursor of what follows, empty at the end. */
SV_MUST sv_rc sv_r2_list_objects(sv_r2 *r2, const sv_r2_list *l, void (*each)(void *arg, const sv_r2_obj *o, sv_str common), void *arg, sv_buf *next,
                                sv_err *err);

/* ---- writing ---- */

/* One file of an object. The store's once a write that names it was submitted, whatever comes of it. */
typedef struct sv_r2_piece { char file[33]; int64_t n; uint8_t iv[16]; } sv_r2_piece;
const char *sv_r2_folder(const sv_r2 *r2); /* for new files: a name of 32 hex digits, synced by sv_r2_keep before it is named in a write */
SV_MUST sv_rc sv_r2_keep(sv_r2 *r2, const char *path, sv_r2_piece *out, int64_t n, sv_err *err);
SV_MUST sv_rc sv_r2_spill(sv_r2 *r2, sv_str bytes, sv_r2_piece *out, sv_err *err); /* bytes to a file of their own */
void sv_r2_drop(sv_r2 *r2, const sv_r2_piece *pieces, size_t n); /* files that no write has named */

typedef enum sv_r2_op {
    SV_R2_PUT,      /* bytes, or pieces; http, custom, class, sums, etag, cond */
    SV_R2_DELETE,   /* keys */
    SV_R2_CREATE,   /* a multipart upload: http, custom, class, ssec, sum, composite -> upload */
    SV_R2_PUT_PART, /* upload, part, pieces (one), sums */
    SV_R2_COMPLETE, /* upload, parts, cond */
    SV_R2_ABORT,    /* upload */
} sv_r2_op;

typedef struct sv_r2_chosen { int32_t part; char etag[40]; sv_sum_values sums; } sv_r2_chosen; /* sums: to compare with, mask 0: none */

/* Memory of the caller, with all that it points at, until `done` was called (on the store's thread: it hands over and returns). */
typedef struct sv_r2_write {
    sv_r2_op op;
    sv_str account, bucket, key;
    sv_r2_cond cond;
    json_t *http, *custom;
    sv_r2_class class;
    sv_sum_values sums;   /* MD5 among them */
    sv_str bytes;         /* when there are no pieces */
    uint8_t iv[16];       /* of bytes */
    const sv_r2_piece *pieces;
    size_t n_pieces;
    int64_t size;
    const char *etag;     /* of a copied multipart object; NULL: the MD5 */
    int32_t copied_parts; /* of one */
    bool composite;
    int sum;              /* CREATE: an sv_sum that each part brings, or -1 */
    sv_r2_key ssec;
    char upload[65];
    int32_t part;
    sv_r2_chosen *parts;
    size_t n_chosen;
    sv_sum_values whole;  /* COMPLETE: what the client expects of the object; mask 0: nothing */
    const sv_str *keys;   /* DELETE */
    int *key_codes;       /* DELETE: 0, or the number of what forbids it; may be NULL: then the first such is the write's error */
    size_t n_keys;
    int64_t by_ms;        /* DELETE: only what was uploaded by then; 0: any */
    const char *action;   /* of the notification: "PutObject", "CopyObject", ...; NULL: the one of op */
    sv_str copy_bucket, copy_key;

    sv_r2_obj out;        /* PUT, COMPLETE; of PUT_PART the etag and uploaded_ms; free it */
    bool existed;         /* DELETE of one key */
    sv_rc rc;
    sv_err err;
    void (*done)(struct sv_r2_write *w);
    void *arg;

    sv_r2 *r2;            /* the store's from here on */
    sv_db_job job;
    char (*old)[33];
    size_t n_old, cap_old;
    bool notified;
} sv_r2_write;
void sv_r2_submit(sv_r2 *r2, sv_r2_write *w);
SV_MUST sv_rc sv_r2_apply(sv_r2 *r2, sv_r2_write *w, sv_err *err); /* submits and waits */

/* A copy inside the store: links files, or writes anew where keys of encryption differ. w has the target; on SV_OK it was applied. */
SV_MUST sv_rc sv_r2_copy(sv_r2 *r2, const sv_r2_get *from, sv_r2_write *w, bool keep_metadata, sv_err *err);

/* ---- multipart uploads ---- */

typedef struct sv_r2_upload {
    char *key;
    size_t n_key;
    char upload[65], ssec_md5[25];
    int64_t id, created_ms;
    sv_r2_class class;
    int sum; /* -1: none */
    bool composite;
} sv_r2_upload; /* borrowed for the call */
SV_MUST sv_rc sv_r2_upload_find(sv_r2 *r2, sv_str account, sv_str bucket, sv_str key, sv_str upload, sv_r2_upload *out, sv_err *err); /* out->key NULL */
typedef struct sv_r2_upload_page { sv_str prefix, delimiter, key_marker, upload_marker; int64_t limit; } sv_r2_upload_page;
SV_MUST sv_rc sv_r2_upload_list(sv_r2 *r2, sv_str account, sv_str bucket, const sv_r2_upload_page *p,
                               void (*each)(void *arg, const sv_r2_upload *u, sv_str common), void *arg, bool *more, sv_err *err);
typedef struct sv_r2_part { int32_t part; int64_t n, modified_ms; char etag[40]; sv_sum_values sums; } sv_r2_part;
SV_MUST sv_rc sv_r2_part_list(sv_r2 *r2, const sv_r2_upload *u, int32_t after, int64_t limit, void (*each)(void *arg, const sv_r2_part *p), void *arg,
                             bool *more, sv_err *err);

/* ---- event notifications ---- */

enum { SV_R2_ON_PUT = 1, SV_R2_ON_COMPLETE = 2, SV_R2_ON_COPY = 4, SV_R2_ON_DELETE = 8, SV_R2_ON_EXPIRE = 16 };
/* A rule of a bucket: events whose key starts with prefix and ends with suffix go to the queue, in the transaction of the object. */
typedef struct sv_r2_rule { char id[33], queue[65]; sv_str prefix, suffix, description; int actions; int64_t created_ms; } sv_r2_rule;
SV_MUST sv_rc sv_r2_rules_add(sv_r2 *r2, sv_str account, sv_str bucket, sv_r2_rule *v, size_t n, sv_err *err); /* fills ids */
SV_MUST sv_rc sv_r2_rules_list(sv_r2 *r2, sv_str account, sv_str bucket, void (*each)(void *arg, const sv_r2_rule *r), void *arg, sv_err *err);
/* Those of a queue, or of them the ones named. SV_R2_NO_NOTIFICATION: there are none. */
SV_MUST sv_rc sv_r2_rules_remove(sv_r2 *r2, sv_str account, sv_str bucket, sv_str queue, const sv_str *ids, size_t n_ids, sv_err *err);
/* The other end: called on the store's own thread with one message after the other until it says SV_OK (gone from here then), or SV_ENOENT
 * (no such queue any more: the message is dropped). Anything else: again, later. Set it once, before anything is written. */
typedef struct sv_r2_notify {
    sv_rc (*send)(void *ctx, const char *account, const char *queue, sv_str message, sv_err *err);
    /* The name of a queue of the account; SV_ENOENT. */
    sv_rc (*queue_name)(void *ctx, const char *account, const char *queue, char *name, size_t size, sv_err *err);
    void *ctx;
} sv_r2_notify;
void sv_r2_set_notify(sv_r2 *r2, const sv_r2_notify *n);
const sv_r2_notify *sv_r2_get_notify(const sv_r2 *r2); /* NULL: none was set */

/* Lifecycle rules and forgotten uploads: done every hour; a test need not wait. now_ms: what time it is taken to be. */
SV_MUST sv_rc sv_r2_sweep(sv_r2 *r2, int64_t now_ms, sv_err *err);
typedef struct sv_r2_stats { int64_t n_objects, n_files, n_uploads, n_outbox; } sv_r2_stats;
SV_MUST sv_rc sv_r2_get_stats(sv_r2 *r2, sv_r2_stats *out, sv_err *err);

#endif
