/* r2_impl.h - what the files of the store share */
#ifndef SV_R2_R2_IMPL_H
#define SV_R2_R2_IMPL_H

#include <pthread.h>

#include "base/thread.h"
#include "r2/r2.h"

enum { SV_R2_SUMS_MAX = 2 + SV_N_SUMS * SV_SUM_BYTES };

typedef struct active { uint64_t at; struct active *prev, *next; } active;   /* somebody who reads files one after the other */
typedef struct retired { uint64_t at; char file[33]; struct retired *next; } retired;

struct sv_r2 {
    sv_db *db;
    char *folder;
    pthread_mutex_t lock;         /* guards what follows, up to the next comment; nothing is called while it is held */
    uint64_t clock;
    active *oldest, *newest;
    retired *first, **last;
    bool stopping, mail;          /* mail: the outbox may have something */
    pthread_cond_t work, post;
    pthread_t reaper, postman;    /* the reaper removes files, the postman empties the outbox */
    bool started;
    sv_ticker *sweeper;
    sv_r2_notify notify;
    bool has_notify;
};

void sv_r2_file_path(const sv_r2 *r2, const char *name, char out[600]);
/* Files whose rows are gone: removed once nobody reads who began before. */
void sv_r2_retire(sv_r2 *r2, char (*names)[33], size_t n);
void sv_r2_enter(sv_r2 *r2, active *a);
void sv_r2_leave(sv_r2 *r2, active *a);
void sv_r2_wake_postman(sv_r2 *r2);
void *sv_r2_postman(void *r2);

SV_MUST sv_rc sv_r2_check_key(sv_str key, sv_err *err);
SV_MUST sv_rc sv_r2_check_bucket_name(sv_str name, sv_err *err);
SV_MUST sv_rc sv_r2_check_metadata(const json_t *custom, sv_err *err);
SV_MUST sv_rc sv_r2_range_of(const sv_r2_range *r, int64_t size, int64_t *at, int64_t *n, sv_err *err);
bool sv_r2_range_parse(sv_str text, sv_r2_range *out);
void sv_r2_crypt(const sv_r2_key *k, const uint8_t iv[16], int64_t at, char *p, size_t n);
size_t sv_r2_pack_sums(const sv_sum_values *v, uint8_t out[SV_R2_SUMS_MAX]);
void sv_r2_unpack_sums(sv_sum_values *v, sv_str from);

/* ---- inside a transaction ---- */

typedef struct bucket_row { int64_t no; sv_r2_class class; char *locks; } bucket_row; /* locks: owned, NULL: none */
static inline void bucket_row_donep(bucket_row *b) { free(b->locks); }
SV_MUST sv_rc sv_r2_find_bucket(sv_dbw *w, sv_str account, sv_str name, bucket_row *out, sv_err *err);
/* SV_R2_LOCKED when a lock rule of the bucket holds an object of this key and age. */
SV_MUST sv_rc sv_r2_check_lock(const bucket_row *b, sv_str key, int64_t uploaded_ms, sv_err *err);

/* The columns that every look at an object selects, in the order that take_object reads. */
#define SV_R2_OBJECT_COLUMNS "id, key, version, size, etag, uploaded_ms, class, sums, composite, n_parts, ssec_md5, http, custom"
void sv_r2_take_object(sv_stmt *q, sv_r2_obj *out, bool http, bool custom);
SV_MUST sv_rc sv_r2_find_object(sv_dbw *w, int64_t bucket, sv_str key, sv_r2_obj *out, bool *found, sv_err *err);

void sv_r2_add_old(sv_r2_write *w, sv_str name);
/* Takes an object's rows away; its files go on w's list. */
SV_MUST sv_rc sv_r2_remove_object(sv_r2_write *w, sv_dbw *db, int64_t id, sv_err *err);
/* Makes the row of w->out (id 0), which replaces what has its key, conditions and locks allowing. */
SV_MUST sv_rc sv_r2_place_object(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err);
SV_MUST sv_rc sv_r2_insert_piece(sv_dbw *db, int64_t object, int64_t i, const sv_r2_piece *p, sv_err *err);
/* Puts the event on the outbox for each rule that wants it. */
SV_MUST sv_rc sv_r2_note_event(sv_r2_write *w, sv_dbw *db, const bucket_row *b, int action, const char *name, const sv_r2_obj *o, sv_err *err);
SV_MUST sv_rc sv_r2_apply_multipart(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err);
SV_MUST sv_rc sv_r2_remove_upload(sv_r2_write *w, sv_dbw *db, int64_t upload, sv_err *err);
SV_MUST sv_rc sv_r2_run_sql(sv_dbw *w, const char *sql, sv_err *err);

#endif
