/* log.h - the append-only file that is the truth of an index
 *
 * Threads: appending, cutting and closing belong to one thread at a time (the holder of the writer's lock); sync may run beside an
 * append; reading through the base of the map is any thread's, for what was appended before. */
#ifndef SV_VEC_LOG_H
#define SV_VEC_LOG_H

#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

typedef enum sv_vec_kind {
    SV_VEC_LOG_UPSERT = 1,
    SV_VEC_LOG_DELETE,       /* ids */
    SV_VEC_LOG_FIELD_CREATE, /* metadata index */
    SV_VEC_LOG_FIELD_DELETE,
    SV_VEC_LOG_NOTE,         /* a mutation that changed nothing; also the newest one after a compaction */
} sv_vec_kind;

enum { SV_VEC_LOG_HEAD = 64, SV_VEC_LOG_MAX_RECORD = 512 << 20 };

typedef struct sv_vec_record {
    sv_vec_kind kind;
    int64_t time_ms;
    sv_str mutation;
    sv_str body;
    uint64_t body_at, end_at; /* offsets in the file */
} sv_vec_record;

typedef struct sv_vec_log sv_vec_log;
/* Makes the file; SV_ECONFLICT if it is there. */
SV_MUST sv_rc sv_vec_log_create(sv_vec_log **out, const char *path, uint32_t dimensions, uint32_t metric, sv_err *err);
/* SV_ENOENT, SV_EFORMAT (no log of ours, or its head is damaged). Says where the log ends only after sv_vec_log_next came there. */
SV_MUST sv_rc sv_vec_log_open(sv_vec_log **out, const char *path, sv_err *err);
sv_vec_log *sv_vec_log_close(sv_vec_log *l);
SV_DEFINE_AUTO(sv_vec_log, sv_vec_log_close)
uint32_t sv_vec_log_dimensions(const sv_vec_log *l);
uint32_t sv_vec_log_metric(const sv_vec_log *l);
uint64_t sv_vec_log_identity(const sv_vec_log *l); /* random; another one after each compaction */

/* Reads the record at *at (start: SV_VEC_LOG_HEAD) and moves on; false where the log ends or the first damaged record begins. */
bool sv_vec_log_next(const sv_vec_log *l, uint64_t *at, sv_vec_record *out);
/* Sets the end: what lies behind goes away, and if that is more than unused room, it is logged and kept beside as PATH.torn. */
SV_MUST sv_rc sv_vec_log_set_end(sv_vec_log *l, uint64_t end, sv_err *err);
uint64_t sv_vec_log_end(const sv_vec_log *l);
/* The bytes from offset 0; valid for everything before the end at the time of the call, until close. */
const uint8_t *sv_vec_log_base(const sv_vec_log *l);

/* Writes a record behind the end, which then moves. After a failure the end is where it was. */
SV_MUST sv_rc sv_vec_log_append(sv_vec_log *l, const sv_vec_record *r, uint64_t *body_at, sv_err *err);
SV_MUST sv_rc sv_vec_log_sync(sv_vec_log *l, sv_err *err);

/* --- bodies --------------------------------------------------------------------------------------------------------- */

/* One vector as it lies in a body; at + the body's offset is where to find it again. */
typedef struct sv_vec_stored {
    const float *values; /* [dimensions] */
    sv_str id, ns, metadata;
    uint64_t at;
    uint32_t size; /* bytes of it */
} sv_vec_stored;

void sv_vec_log_add_item(sv_buf *body, uint32_t dimensions, const float *values, sv_str id, sv_str ns, sv_str metadata);
/* Items in order, *at from 0. false: the end (*at == body.n) or damage. */
bool sv_vec_log_item(sv_str body, uint32_t dimensions, uint64_t *at, sv_vec_stored *out);
/* The item at an offset of the file that is known to be good. */
sv_vec_stored sv_vec_log_stored(const uint8_t *base, uint64_t at, uint32_t dimensions);
void sv_vec_log_add_id(sv_buf *body, sv_str id);
bool sv_vec_log_id(sv_str body, uint64_t *at, sv_str *out);
/* FIELD_CREATE: one byte of type, then the name; FIELD_DELETE: the name. */

/* The record at `at` of a log in memory, for sv_vec_log_next and the fuzzer. */
bool sv_vec_log_parse(const uint8_t *p, uint64_t n, uint64_t identity, uint64_t *at, sv_vec_record *out);

#endif
