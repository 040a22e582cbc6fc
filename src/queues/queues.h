/* queues.h - queues of messages: the store behind the producer binding, the consumers and the REST API
 *
 * What a send has reported is on disk (DATA/queues/queues.db). Messages come out in the order in which they arrived; one that is retried or
 * delayed joins the end when its time comes. Each comes at least once: a consumer that dies between its work and its acknowledgement sees
 * the message again.
 *
 * A queue has one consumer at most: a Worker, which is given batches (deliver.h), or clients that pull and hold leases.
 *
 * Threads: open and close by the owner, when no call is in progress. sv_queues_submit and the finds never block; everything else does (job pool). */
#ifndef SV_QUEUES_QUEUES_H
#define SV_QUEUES_QUEUES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* The table of limits has the same numbers, which a test holds; here they size arrays. */
enum {
    SV_QUEUES_MAX_QUEUES = 10000,    /* of an account */
    SV_QUEUES_MAX_NAME = 63,
    SV_QUEUES_MAX_MESSAGE = 128000,  /* bytes of a body */
    SV_QUEUES_MAX_BATCH = 100,       /* messages of a send, of a pull, of a delivery */
    SV_QUEUES_MAX_BATCH_BYTES = 288000, /* of a send: 256 KB, and 32 KB on top as the hosted service has it */
    SV_QUEUES_MAX_RETRIES = 100,
    SV_QUEUES_MAX_DELAY_S = 86400,
    SV_QUEUES_MAX_WAIT_MS = 60000,
    SV_QUEUES_MAX_CONCURRENCY = 250,
    SV_QUEUES_MAX_VISIBILITY_MS = 12 * 60 * 60 * 1000,
    SV_QUEUES_MIN_RETENTION_S = 60,
    SV_QUEUES_MAX_RETENTION_S = 1209600,
    SV_QUEUES_LEASE = 48 + 1, /* text of a lease id */
};

typedef struct sv_queues sv_queues;

typedef struct sv_queues_opts {
    const char *data_dir;
    int64_t (*now_ms)(void); /* NULL: sv_now_ms; for tests */
    /* Something may be there to deliver: the queue got messages, or its settings changed. On any thread; returns at once. NULL: nobody listens. */
    void (*changed)(void *ctx, int64_t queue);
    void *ctx;
} sv_queues_opts;

SV_MUST sv_rc sv_queues_open(sv_queues **out, const sv_queues_opts *opts, sv_err *err);
sv_queues *sv_queues_close(sv_queues *q); /* writes what was submitted; NULL is fine */
SV_DEFINE_AUTO(sv_queues, sv_queues_close)
void sv_queues_listen(sv_queues *q, void (*changed)(void *ctx, int64_t queue), void *ctx); /* NULL: no longer, from the return on */

/* ---- queues and their consumers ---- */

typedef enum sv_queues_kind { SV_QUEUES_NOBODY, SV_QUEUES_WORKER, SV_QUEUES_PULL } sv_queues_kind;

typedef struct sv_queues_consumer {
    sv_queues_kind kind;
    char id[33];
    char script[64], dead_letter[SV_QUEUES_MAX_NAME + 1]; /* dead_letter: name of a queue of the account; "": messages are dropped */
    int64_t batch, max_retries, wait_ms, concurrency, retry_delay_s, visibility_ms, created_ms; /* concurrency 0: we choose */
} sv_queues_consumer;

typedef struct sv_queues_info {
    int64_t no; /* never given again */
    char id[33], account[33], name[SV_QUEUES_MAX_NAME + 1];
    int64_t created_ms, modified_ms, delay_s, retention_s;
    bool paused;
    sv_queues_consumer consumer;
    int64_t n, n_ready, bytes, oldest_ms; /* backlog; oldest_ms 0: empty */
} sv_queues_info;

/* By id, by name, by number. SV_ENOENT 11000. */
SV_MUST sv_rc sv_queues_find(sv_queues *q, sv_str account, sv_str id, sv_queues_info *out, sv_err *err);
SV_MUST sv_rc sv_queues_find_name(sv_queues *q, sv_str account, sv_str name, sv_queues_info *out, sv_err *err);
SV_MUST sv_rc sv_queues_find_no(sv_queues *q, int64_t no, sv_queues_info *out, sv_err *err);
/* All of an account, or of all when it is empty, oldest first; *out is freed by the caller. */
void sv_queues_list(sv_queues *q, sv_str account, sv_queues_info **out, size_t *n);

typedef struct sv_queues_settings { int64_t delay_s, retention_s; int paused; } sv_queues_settings; /* -1: as it is, or the default */
/* SV_ECONFLICT 11009 the name is taken; SV_EINVAL 11003 no name for a queue, 100128 no such setting; SV_ELIMIT too many. */
SV_MUST sv_rc sv_queues_create(sv_queues *q, sv_str account, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err);
/* name empty: as it is. */
SV_MUST sv_rc sv_queues_update(sv_queues *q, sv_str account, sv_str id, sv_str name, const sv_queues_settings *s, sv_queues_info *out, sv_err *err);
SV_MUST sv_rc sv_queues_delete(sv_queues *q, sv_str account, sv_str id, sv_err *err); /* gone at once; its room comes back bit by bit */
SV_MUST sv_rc sv_queues_purge(sv_queues *q, sv_str account, sv_str id, int64_t *started_ms, sv_err *err); /* what was there when it began */

/* consumer->id empty: a new one (SV_ECONFLICT 11004 when there is one), and its id is set; else the one of that id. Checks the settings
 * (SV_EINVAL 100127). A dead letter queue that is not there is made. */
SV_MUST sv_rc sv_queues_set_consumer(sv_queues *q, sv_str account, sv_str id, sv_queues_consumer *c, sv_err *err);
SV_MUST sv_rc sv_queues_drop_consumer(sv_queues *q, sv_str account, sv_str id, sv_str consumer, sv_err *err); /* SV_ENOENT 11004 */
void sv_queues_consumer_defaults(sv_queues_consumer *c); /* of its kind */

/* ---- messages in ---- */

typedef enum sv_queues_type { SV_QUEUES_JSON, SV_QUEUES_TEXT, SV_QUEUES_BYTES, SV_QUEUES_V8 } sv_queues_type;
const char *sv_queues_type_name(sv_queues_type t);
bool sv_queues_type_of(sv_str name, sv_queues_type *out);

typedef struct sv_queues_msg {
    sv_str body;
    sv_queues_type type;
    int64_t delay_s; /* -1: the queue's */
} sv_queues_msg;

/* What a consumer decided on one message. */
typedef struct sv_queues_verdict {
    int64_t no;
    int64_t lease;   /* of a pull: only while it is the message's; 0: whatever it has */
    bool retry;      /* else it is done */
    int64_t delay_s; /* of a retry; -1: the consumer's */
    bool found;      /* result */
} sv_queues_verdict;

typedef enum sv_queues_op { SV_QUEUES_SEND, SV_QUEUES_SETTLE } sv_queues_op;

/* A write: all or nothing. Memory of the caller, with everything it points at, until `done` was called (on the store's own thread: it hands
 * over and returns). rc and err: SV_ENOENT 11000 the queue is gone; SV_ELIMIT its backlog or the disk is full; SV_EIO. */
typedef struct sv_queues_write {
    sv_queues_op op;
    int64_t queue;
    const sv_queues_msg *msgs;   /* of a send; checked by sv_queues_check */
    sv_queues_verdict *verdicts; /* of a settlement */
    size_t n;
    void (*done)(struct sv_queues_write *w);
    void *arg;
    sv_rc rc;
    sv_err err;
    int64_t backlog_n, backlog_bytes, oldest_ms; /* after it */
    struct sv_queues_write *next;                /* the store's */
} sv_queues_write;

/* The one way in which messages come and go. Writes that wait together share one commit and one sync. */
void sv_queues_submit(sv_queues *q, sv_queues_write *w);
SV_MUST sv_rc sv_queues_apply(sv_queues *q, sv_queues_write *w, sv_err *err); /* submits and waits */
/* Sizes, counts and delays of a send: SV_EINVAL, with the words of the hosted service. 413 where status is set. */
SV_MUST sv_rc sv_queues_check(const sv_queues_msg *v, size_t n, sv_err *err);
/* For other products: returns when the messages are on disk. */
SV_MUST sv_rc sv_queues_send(sv_queues *q, sv_str account, sv_str id, const sv_queues_msg *v, size_t n, sv_err *err);

/* ---- messages out ---- */

typedef struct sv_queues_item {
    int64_t no, sent_ms, attempts; /* attempts: this delivery counted, from 1 */
    char id[33];
    sv_queues_type type;
    sv_str body;
    int64_t lease; /* of a pull */
} sv_queues_item;

/* Up to `limit` messages that are ready and not before number `from`, in order, up to a batch's bytes (one at least); nothing is changed.
 * `each` borrows. *next: the number behind the last. */
SV_MUST sv_rc sv_queues_read(sv_queues *q, int64_t queue, int64_t from, int64_t limit, void (*each)(void *arg, const sv_queues_item *it), void *arg,
                             int64_t *next, sv_err *err);
/* The same from the start, and each is leased for visibility_ms: nobody else gets it until then. Those that were retried too often go to the
 * dead letter queue instead. A paused queue gives none. */
SV_MUST sv_rc sv_queues_lease(sv_queues *q, int64_t queue, int64_t limit, int64_t visibility_ms, void (*each)(void *arg, const sv_queues_item *it),
                              void *arg, sv_err *err);
void sv_queues_lease_text(const sv_queues_item *it, char out[SV_QUEUES_LEASE]);
bool sv_queues_lease_parse(sv_str text, sv_queues_verdict *out); /* no and lease */

/* Delayed messages whose time has come, leases that ended: done every so often by a thread of the store. Here for tests. */
SV_MUST sv_rc sv_queues_tick(sv_queues *q, sv_err *err);
SV_MUST sv_rc sv_queues_sweep(sv_queues *q, sv_err *err); /* messages past their retention, and of deleted queues */

int sv_queues_status(const sv_err *err); /* HTTP */

#endif
