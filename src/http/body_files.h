/* body_files.h - what a loop thread may not do itself, for a request of its own: block, and move big bodies to and from files
 *
 * Threads: everything is called on the loop's thread, from stream routes; `work` runs in the pool. Each of these takes the request's
 * on_close (and sv_spool its on_body), so that a client who leaves is noticed; the handler does not set them. */
#ifndef SV_HTTP_BODY_FILES_H
#define SV_HTTP_BODY_FILES_H

#include "base/file.h"
#include "http/server.h"

/* Runs work(arg) in the pool and then done(r, arg) on the loop; r is NULL when the client has gone meanwhile. done answers and frees arg.
 * false: the pool is full; nothing will be called. */
bool sv_req_work(sv_req *r, sv_jobs *jobs, void (*work)(void *arg), void (*done)(sv_req *r, void *arg), void *arg);
/* The same for work that ends elsewhere: returns a ticket; sv_ticket_done(), called once from any thread, makes done run on the loop. */
typedef struct sv_ticket sv_ticket;
sv_ticket *sv_req_ticket(sv_req *r, void (*done)(sv_req *r, void *arg), void *arg);
void sv_ticket_done(sv_ticket *t);

/* A request's body: in memory while it is small, in a file of its own from then on. */
typedef struct sv_spool {
    uint64_t n;      /* bytes of the whole body, also of one that is too large */
    bool too_large;  /* over max: nothing of it was kept */
    sv_err err;      /* code != 0: it could not be stored, nothing was kept */
    sv_buf mem;      /* the body, when path is empty */
    char path[512];  /* the file, not synced; "": none */
} sv_spool;

typedef struct sv_spool_opts {
    sv_jobs *jobs;
    const char *dir;     /* of the file, which gets a random name of 32 hex digits; borrowed until done */
    size_t keep;         /* largest body that stays in memory */
    uint64_t max;
    /* Sees each piece in the pool before it goes to the file, in order, and may change it in place (sums, decoding, encrypting). A body
     * that stays in memory does not pass it: that one is `done`'s, as it came. An error becomes the spool's. */
    sv_rc (*filter)(void *arg, sv_buf *piece, sv_err *err);
    void *filter_arg;
} sv_spool_opts;

/* Reads the body and calls done once, at its end: never earlier, also when it is too large (workerd shows no answer that comes before its
 * request has been read). done owns the spool from then on; r is NULL when the client has gone. */
void sv_spool_start(sv_req *r, const sv_spool_opts *opts, void (*done)(sv_req *r, sv_spool *s, void *arg), void *arg);
void sv_spool_free(sv_spool *s); /* removes the file unless path was emptied; NULL is fine */
/* The body as one view: memory, or the file mapped into *map (close it with sv_map_close). Blocks. */
SV_MUST sv_rc sv_spool_view(const sv_spool *s, sv_map *map, sv_str *out, sv_err *err);

/* A whole answer from memory that is freed at the end, in pieces, so that it is never held twice. */
void sv_req_send_memory(sv_req *r, int status, const char *content_type, char *p, size_t n);

/* The rest of an answer whose sv_req_begin promised n bytes, read piece by piece: read(arg, to, n) runs in the pool and returns how many
 * bytes (1 to n) it has put there; anything else cuts the connection. end(arg) is called once, on the loop, when no read is under way. */
void sv_req_send_from(sv_req *r, sv_jobs *jobs, int64_t n, ssize_t (*read)(void *arg, char *to, size_t n), void (*end)(void *arg), void *arg);
/* The same from a file: bytes [at, at + n) of fd, which is closed at the end. A file that turns out
 * shorter cuts the connection. */
void sv_req_send_file(sv_req *r, sv_jobs *jobs, int fd, int64_t at, int64_t n);

#endif
