/* queues_impl.h - the inside of the store: what queues.c (life, queues, consumers) and messages.c (messages) share */
#ifndef SV_QUEUES_QUEUES_IMPL_H
#define SV_QUEUES_QUEUES_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "base/thread.h"
#include "db/db.h"
#include "queues/queues.h"

struct sv_queues {
    sv_db *db;
    int64_t (*now_ms)(void);
    void (*changed)(void *ctx, int64_t queue);
    void *ctx;

    pthread_mutex_t lock; /* guards changed and ctx above, all that follows to by_no and what it points at; nothing is taken or called while it is held */
    sv_queues_info **all; /* owned, in the order of their making */
    size_t n_all, cap_all;
    sv_smap *by_id, *by_no, *by_name; /* by_name: "ACCOUNT/NAME" */

    pthread_mutex_t admin; /* held through a change of a queue or a consumer: these come one at a time. Before db and lock */

    pthread_mutex_t line; /* guards first, last, stopping; nothing is taken while it is held */
    pthread_cond_t more;
    sv_queues_write *first, **last;
    bool stopping, started;
    pthread_t writer;
    sv_ticker *ticker;
    int n_ticks; /* the ticker's */

    int64_t next_no;           /* of a message; the database's writer thread only */
    _Atomic int64_t next_due;  /* when the ticker has something to do; INT64_MAX: never */
};

/* What a transaction does to the backlogs, applied to the queues in memory once it is committed. */
typedef struct sv_tally {
    struct { int64_t queue, n, bytes, ready, oldest_ms; bool removed; } *v;
    size_t n, cap;
    int64_t due_ms; /* the earliest among messages that were made to wait */
} sv_tally;

void sv_tally_init(sv_tally *t);
void sv_tally_add(sv_tally *t, int64_t queue, int64_t n, int64_t bytes, int64_t ready);
SV_MUST sv_rc sv_tally_oldest(sv_queues *q, sv_tally *t, sv_dbw *w, sv_err *err); /* last thing in the transaction */
void sv_tally_apply(sv_queues *q, sv_tally *t);                                  /* after the commit; tells those who listen */
void sv_tally_done(sv_tally *t);

void *sv_queues_write_all(void *q); /* the writer thread */
void sv_queues_tell(sv_queues *q, int64_t queue);

#endif
