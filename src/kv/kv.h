/* kv.h - namespaces of keys and values: the store behind the KV binding and its REST API
 *
 * Keys are bytes, 1 to 512, ordered as bytes. A value has up to 25 MiB; one over SV_KVS_INLINE bytes lies in a file of its own below
 * DATA/kv/big, all else in DATA/kv/kv.db. What a write has reported is on disk, and every read that begins after that sees it.
 *
 * Threads: open and close by the owner, when no call is in progress. sv_kvs_submit and sv_kvs_get_hot never block; everything else does (job pool). */
#ifndef SV_KV_KV_H
#define SV_KV_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "account/limits.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

/* The upper limits, SV_KVS_MAX_*, are in the table (account/limits.h). */
enum { SV_KVS_MIN_TTL_S = 60, SV_KVS_MIN_CACHE_TTL_S = 30, SV_KVS_INLINE = 64 << 10 };

typedef struct sv_kvs sv_kvs;

SV_MUST sv_rc sv_kvs_open(sv_kvs **out, const char *data_dir, sv_err *err); /* removes what a crash left half-done */
sv_kvs *sv_kvs_close(sv_kvs *kv); /* NULL is fine */
SV_DEFINE_AUTO(sv_kvs, sv_kvs_close)

/* ---- namespaces ---- */

typedef struct sv_kvs_ns {
    char id[33], account[33];
    char title[SV_KVS_MAX_TITLE + 1];
    int64_t no; /* never given again */
} sv_kvs_ns;

SV_MUST sv_rc sv_kvs_ns_find(sv_kvs *kv, sv_str account, sv_str id, sv_kvs_ns *out, sv_err *err); /* SV_ENOENT 10013 */
/* All of an account, by id or title; *out is freed by the caller. */
SV_MUST sv_rc sv_kvs_ns_list(sv_kvs *kv, sv_str account, bool by_title, bool descending, sv_kvs_ns **out, size_t *n, sv_err *err);

/* ---- writing ---- */

typedef enum sv_kvs_op {
    SV_KVS_PUT,       /* ns, key, value or file, metadata, expires_s */
    SV_KVS_DELETE,    /* ns, key; one that is not there is fine */
    SV_KVS_NS_CREATE, /* ns: the new id, title */
    SV_KVS_NS_RENAME, /* ns, title */
    SV_KVS_NS_DELETE, /* ns; its keys are gone at once, their room comes back bit by bit */
} sv_kvs_op;

typedef struct sv_kvs_change {
    sv_kvs_op op;
    sv_str ns, key, value, metadata; /* metadata: JSON text, empty: none */
    char file[33];     /* from sv_kvs_adopt, instead of value; the store's from the submission on, whatever comes of it */
    int64_t file_n;    /* its bytes */
    int64_t expires_s; /* 0: never */
    sv_str title;
} sv_kvs_change;

/* A write: changes that happen all or not at all, in order. Memory of the caller, with everything it points at, until `done` was
 * called (on the store's own thread: it hands over and returns). rc and err: SV_ENOENT 10013 no such namespace of the account; SV_ECONFLICT
 * 10014 the title exists; SV_ELIMIT disk full, too many namespaces; SV_EIO. */
typedef struct sv_kvs_write {
    sv_str account;
    sv_kvs_change *v;
    size_t n;
    void (*done)(struct sv_kvs_write *w);
    void *arg;
    sv_rc rc;
    sv_err err;
    struct sv_kvs_write *next; /* the store's */
} sv_kvs_write;

/* The one way in which anything changes. Writes that wait together share one commit and one sync. */
void sv_kvs_submit(sv_kvs *kv, sv_kvs_write *w);
SV_MUST sv_rc sv_kvs_apply(sv_kvs *kv, sv_str account, sv_kvs_change *v, size_t n, sv_err *err); /* submits and waits */

/* For values over SV_KVS_INLINE: a folder to write files of 32 hex digits into; adopt syncs one and makes it the value of `c`. A value in
 * memory that is too big for a row is put into a file by it. */
const char *sv_kvs_folder(const sv_kvs *kv);
SV_MUST sv_rc sv_kvs_adopt(sv_kvs *kv, sv_kvs_change *c, const char *path, int64_t n, sv_err *err);
SV_MUST sv_rc sv_kvs_spill(sv_kvs *kv, sv_kvs_change *c, sv_err *err); /* c->value to a file when it is over SV_KVS_INLINE */

/* ---- reading ---- */

typedef struct sv_kvs_value {
    int64_t n;         /* bytes */
    int64_t expires_s; /* 0: never */
    int fd;            /* -1: bytes holds the value */
    char *bytes, *metadata; /* owned; metadata is text, NULL: none */
} sv_kvs_value;
static inline void sv_kvs_value_init(sv_kvs_value *v) { *v = (sv_kvs_value){.fd = -1}; }
void sv_kvs_value_done(sv_kvs_value *v);

/* SV_ENOENT 10009: no such key, or expired. `out` was set by sv_kvs_value_init. */
SV_MUST sv_rc sv_kvs_get(sv_kvs *kv, const sv_kvs_ns *ns, sv_str key, sv_kvs_value *out, sv_err *err);
/* The same where the value was read lately and lies in memory: never blocks. false: ask sv_kvs_get. */
bool sv_kvs_get_hot(sv_kvs *kv, sv_str account, sv_str ns_id, sv_str key, sv_kvs_value *out);
/* The value as text, wherever it lies. */
SV_MUST sv_rc sv_kvs_value_read(const sv_kvs_value *v, sv_buf *out, sv_err *err);

typedef struct sv_kvs_entry { sv_str name, metadata; int64_t expires_s; } sv_kvs_entry; /* borrowed for the call */
/* Up to `limit` live keys that start with `prefix` and come after the cursor, in order; *next: the cursor of what follows, empty at the end.
 * A cursor is a place in the order of the keys of one namespace: it stays good while keys come and go. SV_EINVAL: no cursor of this
 * namespace. */
SV_MUST sv_rc sv_kvs_list(sv_kvs *kv, const sv_kvs_ns *ns, sv_str prefix, sv_str cursor, int64_t limit,
                         void (*each)(void *arg, const sv_kvs_entry *e), void *arg, sv_buf *next, sv_err *err);

/* ---- checks that both dialects make; err->api_code is REST's number, sv_kvs_status the HTTP status ---- */

SV_MUST sv_rc sv_kvs_check_key(sv_str key, sv_err *err);
SV_MUST sv_rc sv_kvs_check_metadata(sv_str json, sv_err *err);
SV_MUST sv_rc sv_kvs_check_value(uint64_t n, sv_err *err);
/* Texts of the query, empty: absent. The TTL wins when both are there. */
SV_MUST sv_rc sv_kvs_expiry(sv_str expiration, sv_str ttl, int64_t *expires_s, sv_err *err);
int sv_kvs_status(const sv_err *err);
/* The key of a path: %XX decoded, '+' is itself, any byte may come. In the arena. */
SV_MUST sv_rc sv_kvs_decode_key(sv_str raw, sv_arena *a, sv_str *out, sv_err *err);

/* Entries that expired are removed every few seconds; a test need not wait. */
SV_MUST sv_rc sv_kvs_sweep(sv_kvs *kv, sv_err *err);
/* Counts for tests and status. */
typedef struct sv_kvs_stats { int64_t n_entries, n_expired, n_files; } sv_kvs_stats;
SV_MUST sv_rc sv_kvs_get_stats(sv_kvs *kv, sv_kvs_stats *out, sv_err *err);

#endif
