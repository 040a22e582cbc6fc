/* r2_multipart.c - uploads in parts
 *
 * A part is a file and a row from the moment it is acknowledged. Completing an upload moves rows, not bytes: the files of the chosen parts
 * become the files of the object, in one transaction that also takes the upload away.
 *
 * The ETag is the MD5 of the parts' MD5s, with their number behind it. A checksum of the whole is the same kind of sum of the parts' sums,
 * or for CRCs, where that was asked for, the CRC of all bytes, joined from those of the parts. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "r2/r2_impl.h"

static void copy_col(sv_stmt *q, int i, char *out, size_t size)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, size, "%.*s", (int)s.n, s.n ? s.p : "");
}

#define UPLOAD_COLUMNS "id, key, upload, created_ms, class, sum, composite, ssec_md5"
static void take_upload(sv_stmt *q, sv_r2_upload *out)
{
    sv_str key = sv_col_str(q, 1);
    *out = (sv_r2_upload){.id = sv_col_i64(q, 0), .key = (char *)(uintptr_t)key.p, .n_key = key.n, .created_ms = sv_col_i64(q, 3),
                          .class = (sv_r2_class)sv_col_i64(q, 4), .sum = (int)sv_col_i64(q, 5), .composite = sv_col_i64(q, 6) != 0};
    copy_col(q, 2, out->upload, sizeof out->upload);
    copy_col(q, 7, out->ssec_md5, sizeof out->ssec_md5);
}

/* http and custom are read when there is room for them. */
static sv_rc find_upload(sv_dbw *db, int64_t bucket, sv_str key, sv_str upload, sv_r2_upload *out, json_t **http, json_t **custom, sv_err *err)
{
    bool row = false;
    sv_err why = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "SELECT " UPLOAD_COLUMNS ", http, custom FROM uploads WHERE upload = ?1 AND bucket = ?2 AND key = ?3", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, upload.n ? upload : SV_STR(""));
    sv_bind_i64(&q, 2, bucket);
    sv_bind_blob(&q, 3, key.p, key.n);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_r2_fail(err, SV_R2_NO_UPLOAD);
    take_upload(&q, out);
    out->key = NULL;
    if (http && !sv_col_null(&q, 8) && sv_json_parse(http, sv_col_str(&q, 8), &why) != SV_OK)
        *http = NULL;
    if (custom && !sv_col_null(&q, 9) && sv_json_parse(custom, sv_col_str(&q, 9), &why) != SV_OK)
        *custom = NULL;
    return SV_OK;
}

/* ---- create ---- */

static sv_rc check_count(sv_dbw *db, int64_t bucket, sv_err *err)
{
    bool row;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "SELECT count(*) FROM (SELECT 1 FROM uploads WHERE bucket = ?1 LIMIT ?2)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bucket);
    sv_bind_i64(&q, 2, SV_R2_MAX_UPLOADS);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (sv_col_i64(&q, 0) < SV_R2_MAX_UPLOADS)
        return SV_OK;
    return sv_r2_failf(err, SV_R2_TOO_MANY, "the bucket has %d open multipart uploads, the most it may: complete or abort some", SV_R2_MAX_UPLOADS);
}

static void bind_json(sv_stmt *q, int i, const json_t *v, sv_buf *text)
{
    sv_buf_reset(text);
    if (!v || json_object_size(v) == 0) {
        sv_bind_null(q, i);
        return;
    }
    sv_json_add_value(text, v);
    sv_bind_str(q, i, sv_buf_str(text));
}

static sv_rc create(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    sv_buf_init(&text, 1 << 20);
    if (check_count(db, b->no, err) != SV_OK ||
        sv_stmt_prep(&q, db,
                     "INSERT INTO uploads (bucket, key, upload, created_ms, class, sum, composite, ssec_md5, http, custom)"
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                     err) != SV_OK)
        return err->code;
    sv_random_hex(w->upload, 32);
    sv_bind_i64(&q, 1, b->no);
    sv_bind_blob(&q, 2, w->key.p, w->key.n);
    sv_bind_cstr(&q, 3, w->upload);
    sv_bind_i64(&q, 4, sv_now_ms());
    sv_bind_i64(&q, 5, w->class == SV_R2_CLASS_OF_BUCKET ? b->class : w->class);
    sv_bind_i64(&q, 6, w->sum);
    sv_bind_i64(&q, 7, w->composite);
    sv_bind_str(&q, 8, w->ssec.given ? sv_str_of(w->ssec.md5) : (sv_str){0});
    bind_json(&q, 9, w->http, &text);
    bind_json(&q, 10, w->custom, &text);
    return sv_stmt_run(&q, err);
}

/* ---- parts ---- */

static sv_rc note_old_part(sv_r2_write *w, sv_dbw *db, int64_t upload, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "SELECT file FROM parts WHERE upload = ?1 AND part = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, upload);
    sv_bind_i64(&q, 2, w->part);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (row)
        sv_r2_add_old(w, sv_col_str(&q, 0));
    return SV_OK;
}

static sv_rc put_part(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    uint8_t sums[SV_R2_SUMS_MAX];
    sv_r2_upload u;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (find_upload(db, b->no, w->key, sv_str_of(w->upload), &u, NULL, NULL, err) != SV_OK || note_old_part(w, db, u.id, err) != SV_OK)
        return err->code;
    if (w->part < 1 || w->part > SV_R2_MAX_PARTS || w->n_pieces != 1)
        return sv_r2_fail(err, SV_S3_BAD_PART_NUMBER);
    if (strcmp(u.ssec_md5, w->ssec.given ? w->ssec.md5 : "") != 0)
        return sv_r2_failf(err, SV_S3_INVALID_REQUEST, "The parts of an upload need the encryption key that it was created with.");
    if (sv_stmt_prep(&q, db, "INSERT OR REPLACE INTO parts (upload, part, file, n, etag, modified_ms, sums, iv) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", err) != SV_OK)
        return err->code;
    sv_r2_obj_done(&w->out);
    sv_hex(w->out.etag, w->sums.v[SV_SUM_MD5], 16);
    w->out.uploaded_ms = sv_now_ms();
    sv_bind_i64(&q, 1, u.id);
    sv_bind_i64(&q, 2, w->part);
    sv_bind_cstr(&q, 3, w->pieces[0].file);
    sv_bind_i64(&q, 4, w->pieces[0].n);
    sv_bind_cstr(&q, 5, w->out.etag);
    sv_bind_i64(&q, 6, w->out.uploaded_ms);
    sv_bind_blob(&q, 7, sums, sv_r2_pack_sums(&w->sums, sums));
    sv_bind_blob(&q, 8, w->pieces[0].iv, 16);
    return sv_stmt_run(&q, err);
}

static sv_rc delete_of(sv_dbw *db, const char *sql, int64_t id, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, sql, err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, id);
    return sv_stmt_run(&q, err);
}

static sv_rc drop_rows(sv_dbw *db, int64_t upload, sv_err *err)
{
    if (delete_of(db, "DELETE FROM parts WHERE upload = ?1", upload, err) != SV_OK)
        return err->code;
    return delete_of(db, "DELETE FROM uploads WHERE id = ?1", upload, err);
}

sv_rc sv_r2_remove_upload(sv_r2_write *w, sv_dbw *db, int64_t upload, sv_err *err)
{
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "SELECT file FROM parts WHERE upload = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, upload);
    for (;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            break;
        sv_r2_add_old(w, sv_col_str(&q, 0));
    }
    sv_stmt_reset(&q);
    return drop_rows(db, upload, err);
}

/* ---- complete ---- */

typedef struct stored { sv_r2_piece piece; char etag[48]; sv_sum_values sums; bool chosen; int32_t part; } stored;

static sv_rc load_parts(sv_dbw *db, int64_t upload, stored **out, size_t *n, sv_err *err)
{
    size_t cap = 0;
    bool row = true;
    stored *v = NULL;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "SELECT part, file, n, etag, sums, iv FROM parts WHERE upload = ?1 ORDER BY part", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, upload);
    for (*n = 0;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK) {
            free(v);
            return err->code;
        }
        if (!row)
            break;
        if (*n == cap) {
            cap = cap ? cap * 2 : 16;
            v = sv_xrealloc(v, cap, sizeof *v); /* at most SV_R2_MAX_PARTS */
        }
        stored *p = &v[(*n)++];
        *p = (stored){.part = (int32_t)sv_col_i64(&q, 0), .piece.n = sv_col_i64(&q, 2)};
        copy_col(&q, 1, p->piece.file, sizeof p->piece.file);
        copy_col(&q, 3, p->etag, sizeof p->etag);
        sv_r2_unpack_sums(&p->sums, sv_col_str(&q, 4));
        sv_str iv = sv_col_str(&q, 5);
        if (iv.n == 16)
            memcpy(p->piece.iv, iv.p, 16);
    }
    *out = v;
    return SV_OK;
}

static stored *part_of(stored *v, size_t n, int32_t part)
{
    for (size_t lo = 0, hi = n; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        if (v[mid].part == part)
            return &v[mid];
        if (v[mid].part < part)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static sv_rc choose(const sv_r2_write *w, stored *v, size_t n, sv_err *err)
{
    if (w->n_chosen == 0)
        return sv_r2_fail(err, SV_R2_UNEQUAL_PARTS);
    for (size_t i = 0; i < w->n_chosen; i++) {
        const sv_r2_chosen *c = &w->parts[i];
        stored *p = part_of(v, n, c->part);
        if (!p || p->chosen || strcmp(p->etag, c->etag) != 0)
            return sv_r2_fail(err, SV_R2_BAD_PART);
        for (int s = 0; s < SV_N_SUMS; s++)
            if ((c->sums.mask & p->sums.mask & 1u << s) && memcmp(c->sums.v[s], p->sums.v[s], sv_sum_bytes((sv_sum)s)) != 0)
                return sv_r2_fail(err, SV_R2_BAD_PART);
        p->chosen = true;
    }
    return SV_OK;
}

/* Keeps the chosen ones, in order; *n becomes their number. */
static void keep_chosen(sv_r2_write *w, stored *v, size_t *n)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (v[i].chosen)
            v[kept++] = v[i];
        else
            sv_r2_add_old(w, sv_str_of(v[i].piece.file));
    *n = kept;
}

static sv_rc check_sizes(const stored *v, size_t n, int64_t *total, sv_err *err)
{
    *total = 0;
    for (size_t i = 0; i < n; i++)
        *total += v[i].piece.n;
    for (size_t i = 0; i + 1 < n; i++)
        if (v[i].piece.n < SV_R2_MIN_PART)
            return sv_r2_fail(err, SV_R2_TOO_SMALL);
    for (size_t i = 1; i < n; i++)
        if (i + 1 < n ? v[i].piece.n != v[0].piece.n : v[i].piece.n > v[0].piece.n)
            return sv_r2_fail(err, SV_R2_UNEQUAL_PARTS);
    return *total <= SV_R2_MAX_OBJECT ? SV_OK : sv_r2_fail(err, SV_R2_TOO_LARGE);
}

static void sum_of_sums(sv_sum which, const stored *v, size_t n, uint8_t *out)
{
    sv_sum_values all;
    SV_AUTO(sv_sums_freep) sv_sums *s = sv_sums_new(1u << which);
    for (size_t i = 0; i < n; i++)
        sv_sums_add(s, v[i].sums.v[which], sv_sum_bytes(which));
    sv_sums_end(s, &all);
    memcpy(out, all.v[which], sv_sum_bytes(which));
}

/* MD5 is used for the ETag and not kept: it is none of the object's bytes. */
static void sum_up(const sv_r2_upload *u, const stored *v, size_t n, sv_r2_obj *o)
{
    uint8_t md5[16];
    char hex[33];
    sum_of_sums(SV_SUM_MD5, v, n, md5);
    sv_hex(hex, md5, 16);
    snprintf(o->etag, sizeof o->etag, "%s-%zu", hex, n);
    if (u->sum < 0)
        return;
    sv_sum s = (sv_sum)u->sum;
    for (size_t i = 0; i < n; i++)
        if (!(v[i].sums.mask & 1u << s))
            return;
    o->sums.mask = 1u << s;
    o->composite = u->composite;
    if (u->composite) {
        sum_of_sums(s, v, n, o->sums.v[s]);
        return;
    }
    memcpy(o->sums.v[s], v[0].sums.v[s], sv_sum_bytes(s));
    for (size_t i = 1; i < n; i++)
        sv_sum_crc_join(s, o->sums.v[s], o->sums.v[s], v[i].sums.v[s], (uint64_t)v[i].piece.n);
}

static sv_rc place_parts(sv_r2_write *w, sv_dbw *db, const bucket_row *b, const sv_r2_upload *u, stored *v, size_t n, sv_err *err)
{
    int64_t total = 0;
    sv_r2_obj *o = &w->out;
    if (choose(w, v, n, err) != SV_OK)
        return err->code;
    keep_chosen(w, v, &n);
    if (check_sizes(v, n, &total, err) != SV_OK)
        return err->code;
    o->size = total;
    o->n_parts = (int32_t)n;
    sum_up(u, v, n, o);
    for (int s = 0; s < SV_N_SUMS; s++)
        if ((w->whole.mask & 1u << s) && (o->sums.mask & 1u << s) && memcmp(w->whole.v[s], o->sums.v[s], sv_sum_bytes((sv_sum)s)) != 0)
            return sv_r2_fail(err, SV_R2_BAD_DIGEST);
    if (sv_r2_place_object(w, db, b, err) != SV_OK || drop_rows(db, u->id, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < n; i++)
        if (sv_r2_insert_piece(db, o->id, (int64_t)i, &v[i].piece, err) != SV_OK)
            return err->code;
    return sv_r2_note_event(w, db, b, SV_R2_ON_COMPLETE, "CompleteMultipartUpload", o, err);
}

static sv_rc complete(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    sv_r2_upload u;
    stored *v = NULL;
    size_t n = 0;
    sv_r2_obj *o = &w->out;
    sv_r2_obj_done(o);
    if (find_upload(db, b->no, w->key, sv_str_of(w->upload), &u, &o->http, &o->custom, err) != SV_OK)
        return err->code;
    o->key = sv_xstrndup(w->key.p, w->key.n);
    o->n_key = w->key.n;
    o->class = u.class;
    o->uploaded_ms = sv_now_ms();
    sv_random_hex(o->version, 16);
    snprintf(o->ssec_md5, sizeof o->ssec_md5, "%s", u.ssec_md5);
    if (load_parts(db, u.id, &v, &n, err) != SV_OK)
        return err->code;
    sv_rc rc = place_parts(w, db, b, &u, v, n, err);
    free(v);
    return rc;
}

sv_rc sv_r2_apply_multipart(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    sv_r2_upload u;
    switch (w->op) {
    case SV_R2_CREATE: return create(w, db, b, err);
    case SV_R2_PUT_PART: return put_part(w, db, b, err);
    case SV_R2_COMPLETE: return complete(w, db, b, err);
    default: break;
    }
    if (find_upload(db, b->no, w->key, sv_str_of(w->upload), &u, NULL, NULL, err) != SV_OK)
        return err->code;
    return sv_r2_remove_upload(w, db, u.id, err);
}

/* ---- looking ---- */

typedef struct look { sv_str account, bucket, key, upload; sv_r2_upload out; } look;

static sv_rc read_upload(sv_dbw *r, void *arg, sv_err *err)
{
    look *l = arg;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    if (sv_r2_find_bucket(r, l->account, l->bucket, &b, err) != SV_OK)
        return err->code;
    return find_upload(r, b.no, l->key, l->upload, &l->out, NULL, NULL, err);
}

sv_rc sv_r2_upload_find(sv_r2 *r2, sv_str account, sv_str bucket, sv_str key, sv_str upload, sv_r2_upload *out, sv_err *err)
{
    look l = {account, bucket, key, upload, {0}};
    if (sv_r2_check_key(key, err) != SV_OK || sv_db_read(r2->db, read_upload, &l, err) != SV_OK)
        return err->code;
    *out = l.out;
    return SV_OK;
}

typedef struct uploads_arg {
    sv_str account, bucket;
    const sv_r2_upload_page *p;
    void (*each)(void *arg, const sv_r2_upload *u, sv_str common);
    void *arg;
    bool more;
} uploads_arg;

static sv_rc read_uploads(sv_dbw *r, void *arg, sv_err *err)
{
    uploads_arg *a = arg;
    const sv_r2_upload_page *p = a->p;
    char last[SV_R2_MAX_KEY];
    size_t n_last = 0;
    bool row = true;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(r, a->account, a->bucket, &b, err) != SV_OK ||
        sv_stmt_prep(&q, r,
                     "SELECT " UPLOAD_COLUMNS " FROM uploads WHERE bucket = ?1 AND (key > ?2 OR (key = ?2 AND ?3 <> '' AND upload > ?3))"
                     " AND substr(key, 1, ?4) = ?5 ORDER BY key, upload",
                     err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, b.no);
    sv_bind_blob(&q, 2, p->key_marker.n ? p->key_marker.p : "", p->key_marker.n);
    sv_bind_str(&q, 3, p->upload_marker.n ? p->upload_marker : SV_STR(""));
    sv_bind_i64(&q, 4, (int64_t)p->prefix.n);
    sv_bind_blob(&q, 5, p->prefix.n ? p->prefix.p : "", p->prefix.n);
    a->more = false;
    for (int64_t i = 0;;) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        sv_r2_upload u;
        take_upload(&q, &u);
        const char *at = p->delimiter.n ? memmem(u.key + p->prefix.n, u.n_key - p->prefix.n, p->delimiter.p, p->delimiter.n) : NULL;
        size_t n = at ? (size_t)(at - u.key) + p->delimiter.n : 0;
        if (n && n == n_last && memcmp(last, u.key, n) == 0)
            continue;
        if (n && sv_str_eq((sv_str){u.key, n}, p->key_marker)) /* the page before ended with it */
            continue;
        if (i++ == p->limit) {
            a->more = p->limit > 0;
            return SV_OK;
        }
        if (n)
            memcpy(last, u.key, n);
        n_last = n;
        a->each(a->arg, n ? NULL : &u, n ? (sv_str){u.key, n} : (sv_str){0});
    }
}

sv_rc sv_r2_upload_list(sv_r2 *r2, sv_str account, sv_str bucket, const sv_r2_upload_page *p, void (*each)(void *arg, const sv_r2_upload *u, sv_str common),
                       void *arg, bool *more, sv_err *err)
{
    uploads_arg a = {.account = account, .bucket = bucket, .p = p, .each = each, .arg = arg};
    if (sv_db_read(r2->db, read_uploads, &a, err) != SV_OK)
        return err->code;
    *more = a.more;
    return SV_OK;
}

typedef struct parts_arg { int64_t upload; int32_t after; int64_t limit; void (*each)(void *arg, const sv_r2_part *p); void *arg; bool more; } parts_arg;

static sv_rc read_parts(sv_dbw *r, void *arg, sv_err *err)
{
    parts_arg *a = arg;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT part, n, etag, modified_ms, sums FROM parts WHERE upload = ?1 AND part > ?2 ORDER BY part", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->upload);
    sv_bind_i64(&q, 2, a->after);
    a->more = false;
    for (int64_t i = 0;; i++) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        if (i == a->limit) {
            a->more = a->limit > 0;
            return SV_OK;
        }
        sv_r2_part p = {.part = (int32_t)sv_col_i64(&q, 0), .n = sv_col_i64(&q, 1), .modified_ms = sv_col_i64(&q, 3)};
        copy_col(&q, 2, p.etag, sizeof p.etag);
        sv_r2_unpack_sums(&p.sums, sv_col_str(&q, 4));
        a->each(a->arg, &p);
    }
}

sv_rc sv_r2_part_list(sv_r2 *r2, const sv_r2_upload *u, int32_t after, int64_t limit, void (*each)(void *arg, const sv_r2_part *p), void *arg, bool *more,
                     sv_err *err)
{
    parts_arg a = {.upload = u->id, .after = after, .limit = limit, .each = each, .arg = arg};
    if (sv_db_read(r2->db, read_parts, &a, err) != SV_OK)
        return err->code;
    *more = a.more;
    return SV_OK;
}
