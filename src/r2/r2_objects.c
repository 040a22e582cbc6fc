/* r2_objects.c - one object: how it is found, read, listed, replaced and removed (r2.c has the layout and the invariants) */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "r2/r2_impl.h"

/* ---- rows ---- */

void sv_r2_obj_done(sv_r2_obj *o)
{
    free(o->key);
    json_decref(o->http);
    json_decref(o->custom);
    *o = (sv_r2_obj){0};
}

static void copy_col(sv_stmt *q, int i, char *out, size_t size)
{
    sv_str s = sv_col_str(q, i);
    snprintf(out, size, "%.*s", (int)s.n, s.n ? s.p : "");
}

static json_t *json_col(sv_stmt *q, int i)
{
    json_t *v = NULL;
    sv_err err = {0};
    return sv_col_null(q, i) || sv_json_parse(&v, sv_col_str(q, i), &err) != SV_OK ? NULL : v;
}

void sv_r2_take_object(sv_stmt *q, sv_r2_obj *out, bool http, bool custom)
{
    sv_str key = sv_col_str(q, 1);
    *out = (sv_r2_obj){.id = sv_col_i64(q, 0), .key = sv_xstrndup(key.p, key.n), .n_key = key.n, .size = sv_col_i64(q, 3), .uploaded_ms = sv_col_i64(q, 5),
                       .class = (sv_r2_class)sv_col_i64(q, 6), .composite = sv_col_i64(q, 8) != 0, .n_parts = (int32_t)sv_col_i64(q, 9)};
    copy_col(q, 2, out->version, sizeof out->version);
    copy_col(q, 4, out->etag, sizeof out->etag);
    copy_col(q, 10, out->ssec_md5, sizeof out->ssec_md5);
    sv_r2_unpack_sums(&out->sums, sv_col_str(q, 7));
    if (http)
        out->http = json_col(q, 11);
    if (custom)
        out->custom = json_col(q, 12);
}

sv_rc sv_r2_find_object(sv_dbw *w, int64_t bucket, sv_str key, sv_r2_obj *out, bool *found, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT " SV_R2_OBJECT_COLUMNS " FROM objects WHERE bucket = ?1 AND key = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bucket);
    sv_bind_blob(&q, 2, key.p, key.n);
    if (sv_stmt_step(&q, found, err) != SV_OK)
        return err->code;
    if (*found)
        sv_r2_take_object(&q, out, true, true);
    return SV_OK;
}

/* ---- reading ---- */

struct sv_r2_reader {
    sv_r2 *r2;
    sv_r2_key ssec;
    char *bytes;          /* a small object, or NULL */
    sv_r2_piece *pieces;  /* of a large one: those that the range touches */
    size_t n_pieces, i;
    int64_t at;           /* inside the bytes, or piece i */
    int64_t left;         /* of the range */
    uint8_t iv[16];
    int fd;               /* of piece i; -1: not open yet */
    active seat;          /* taken when there are several files */
    bool seated;
};

sv_r2_reader *sv_r2_reader_close(sv_r2_reader *b)
{
    if (!b)
        return NULL;
    if (b->seated)
        sv_r2_leave(b->r2, &b->seat);
    if (b->fd >= 0)
        close(b->fd);
    explicit_bzero(&b->ssec, sizeof b->ssec);
    free(b->bytes);
    free(b->pieces);
    free(b);
    return NULL;
}

const char *sv_r2_reader_bytes(const sv_r2_reader *b) { return b->bytes ? b->bytes + b->at : NULL; }

ssize_t sv_r2_read(sv_r2_reader *b, char *to, size_t n)
{
    char path[600];
    if (b->left == 0)
        return 0;
    if ((int64_t)n > b->left)
        n = (size_t)b->left;
    if (b->bytes) {
        memcpy(to, b->bytes + b->at, n);
        b->at += (int64_t)n;
        b->left -= (int64_t)n;
        return (ssize_t)n;
    }
    while (b->i < b->n_pieces && b->at >= b->pieces[b->i].n) {
        b->at = 0;
        b->i++;
        if (b->fd >= 0)
            close(b->fd);
        b->fd = -1;
    }
    if (b->i == b->n_pieces)
        return -1;
    const sv_r2_piece *p = &b->pieces[b->i];
    if (b->fd < 0) {
        sv_r2_file_path(b->r2, p->file, path);
        b->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (b->fd < 0)
            return -1;
    }
    if ((int64_t)n > p->n - b->at)
        n = (size_t)(p->n - b->at);
    ssize_t got;
    do
        got = pread(b->fd, to, n, b->at);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return -1;
    if (b->ssec.given)
        sv_r2_crypt(&b->ssec, p->iv, b->at, to, (size_t)got);
    b->at += got;
    b->left -= got;
    return got;
}

typedef struct get_arg {
    sv_r2 *r2;
    const sv_r2_get *g;
    sv_r2_obj obj;
    sv_r2_reader *body;
    int64_t at, n;
    bool not_modified;
} get_arg;

static sv_rc load_small(sv_dbw *r, get_arg *a, bool *found, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT bytes, iv FROM small WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->obj.id);
    sv_rc rc = sv_stmt_step(&q, found, err);
    if (rc != SV_OK || !*found)
        return rc;
    sv_str bytes = sv_col_str(&q, 0), iv = sv_col_str(&q, 1);
    sv_r2_reader *b = a->body;
    if ((int64_t)bytes.n != a->obj.size)
        return sv_fail(err, SV_EIO, "an object's row has %zu bytes, not %lld", bytes.n, (long long)a->obj.size);
    b->bytes = sv_xcalloc(bytes.n + 1, 1); /* at most SV_R2_INLINE */
    if (bytes.n)
        memcpy(b->bytes, bytes.p, bytes.n);
    if (b->ssec.given && iv.n == 16)
        sv_r2_crypt(&b->ssec, (const uint8_t *)iv.p, 0, b->bytes, bytes.n);
    b->at = a->at;
    return SV_OK;
}

static sv_rc load_pieces(sv_dbw *r, get_arg *a, sv_err *err)
{
    sv_r2_reader *b = a->body;
    size_t cap = 0;
    int64_t start = 0, end = a->at + a->n;
    bool row = true;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT file, n, iv FROM pieces WHERE object = ?1 ORDER BY i", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->obj.id);
    while (start < end) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return sv_fail(err, SV_EIO, "an object's files have %lld bytes, not %lld", (long long)start, (long long)a->obj.size);
        int64_t n = sv_col_i64(&q, 1);
        if (start + n > a->at) {
            if (b->n_pieces == cap) {
                cap = cap ? cap * 2 : 4;
                b->pieces = sv_xrealloc(b->pieces, cap, sizeof *b->pieces); /* at most SV_R2_MAX_PARTS */
            }
            if (b->n_pieces == 0)
                b->at = a->at - start;
            sv_r2_piece *p = &b->pieces[b->n_pieces++];
            *p = (sv_r2_piece){.n = n};
            copy_col(&q, 0, p->file, sizeof p->file);
            sv_str iv = sv_col_str(&q, 2);
            if (iv.n == 16)
                memcpy(p->iv, iv.p, 16);
        }
        start += n;
    }
    return SV_OK;
}

/* The bytes of one part, as S3 asks for them by number. */
static sv_rc part_range(sv_dbw *r, get_arg *a, int64_t part, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (a->obj.n_parts == 0 && part == 1) {
        a->at = 0;
        a->n = a->obj.size;
        return SV_OK;
    }
    if (sv_stmt_prep(&q, r, "SELECT n, (SELECT coalesce(sum(n), 0) FROM pieces WHERE object = ?1 AND i < ?2) FROM pieces WHERE object = ?1 AND i = ?2", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, a->obj.id);
    sv_bind_i64(&q, 2, part - 1);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row || part > a->obj.n_parts)
        return sv_r2_fail(err, SV_R2_BAD_PART);
    a->n = sv_col_i64(&q, 0);
    a->at = sv_col_i64(&q, 1);
    return SV_OK;
}

static sv_rc check_key_of(const sv_r2_get *g, const sv_r2_obj *o, sv_err *err)
{
    if (g->meta_only)
        return SV_OK;
    if (!o->ssec_md5[0])
        return g->ssec.given ? sv_r2_failf(err, SV_S3_INVALID_REQUEST, "The encryption parameters are not applicable to this object.") : SV_OK;
    if (!g->ssec.given)
        return sv_r2_fail(err, SV_S3_MISSING_KEY);
    return strcmp(g->ssec.md5, o->ssec_md5) == 0
               ? SV_OK
               : sv_r2_failf(err, SV_R2_ACCESS_DENIED, "The calculated MD5 hash of the key did not match the hash that the object was stored with.");
}

static sv_rc read_object(sv_dbw *r, void *arg, sv_err *err)
{
    get_arg *a = arg;
    const sv_r2_get *g = a->g;
    bool found = false, small = false;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    if (sv_r2_find_bucket(r, g->account, g->bucket, &b, err) != SV_OK || sv_r2_find_object(r, b.no, g->key, &a->obj, &found, err) != SV_OK)
        return err->code;
    if (!found)
        return sv_r2_fail(err, SV_R2_NO_KEY);
    if (check_key_of(g, &a->obj, err) != SV_OK)
        return err->code;
    if (!sv_r2_cond_holds(&g->cond, &a->obj, &a->not_modified))
        return sv_r2_fail(err, SV_R2_PRECONDITION);
    sv_rc rc = g->range.kind == SV_R2_PART ? part_range(r, a, g->range.offset, err) : sv_r2_range_of(&g->range, a->obj.size, &a->at, &a->n, err);
    if (rc != SV_OK || g->head)
        return rc;
    a->body = sv_xnew0(sv_r2_reader);
    a->body->fd = -1;
    a->body->r2 = a->r2;
    a->body->left = a->n;
    if (a->obj.ssec_md5[0])
        a->body->ssec = g->ssec;
    if (load_small(r, a, &small, err) != SV_OK)
        return err->code;
    return small ? SV_OK : load_pieces(r, a, err);
}

/* The first file is opened before anybody is told: one that was replaced meanwhile is looked up again. */
static sv_rc open_first(sv_r2_reader *b, bool *lost, sv_err *err)
{
    char path[600];
    *lost = false;
    if (b->bytes || b->n_pieces == 0)
        return SV_OK;
    sv_r2_file_path(b->r2, b->pieces[0].file, path);
    b->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (b->fd >= 0)
        return SV_OK;
    *lost = errno == ENOENT;
    sv_fail_errno(err, "object file '%s'", b->pieces[0].file);
    err->code = SV_EIO;
    return SV_EIO;
}

sv_rc sv_r2_get_object(sv_r2 *r2, const sv_r2_get *g, sv_r2_obj *out, sv_r2_reader **body, int64_t *at, int64_t *n, bool *not_modified, sv_err *err)
{
    for (int attempt = 0;; attempt++) {
        get_arg a = {.r2 = r2, .g = g};
        active seat;
        bool lost = false;
        sv_r2_enter(r2, &seat); /* from before the look until it is known whether there are several files */
        sv_rc rc = sv_db_read(r2->db, read_object, &a, err);
        if (rc == SV_OK && a.body)
            rc = open_first(a.body, &lost, err);
        if (rc == SV_OK && a.body && a.body->n_pieces > 1) {
            pthread_mutex_lock(&r2->lock); /* the seat moves into the reader */
            a.body->seat = seat;
            a.body->seated = true;
            if (seat.prev)
                seat.prev->next = &a.body->seat;
            else
                r2->oldest = &a.body->seat;
            if (seat.next)
                seat.next->prev = &a.body->seat;
            else
                r2->newest = &a.body->seat;
            pthread_mutex_unlock(&r2->lock);
        } else {
            sv_r2_leave(r2, &seat);
        }
        *at = a.at;
        *n = a.n;
        *not_modified = a.not_modified;
        if (rc == SV_OK) {
            *out = a.obj;
            *body = a.body;
            return SV_OK;
        }
        sv_r2_reader_close(a.body);
        *body = NULL;
        if (err->api_code == SV_R2_PRECONDITION) {
            *out = a.obj;
            return rc;
        }
        int64_t size = a.obj.size;
        sv_r2_obj_done(&a.obj);
        out->size = size;
        if (!lost || attempt == 3)
            return rc;
    }
}

/* ---- listing ---- */

static uint64_t cursor_sum(sv_str bucket, sv_str key) { return sv_hash64(key.p, key.n, sv_hash64(bucket.p, bucket.n, 0x7232)); }

/* A cursor is the first key that may come. */
static void make_cursor(sv_str bucket, sv_str from, sv_buf *out)
{
    char raw[8 + SV_R2_MAX_KEY + 8];
    uint64_t sum = cursor_sum(bucket, from);
    memcpy(raw, &sum, 8);
    memcpy(raw + 8, from.p, from.n);
    sv_base64url_encode(out, raw, 8 + from.n);
}

static sv_rc read_cursor(sv_str bucket, sv_str cursor, sv_buf *from, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf raw = {0};
    sv_err why = {0};
    uint64_t sum = 0;
    sv_buf_init(&raw, 8 + SV_R2_MAX_KEY + 8);
    bool good = sv_base64_decode(&raw, cursor, &why) == SV_OK && raw.n > 8 && raw.n <= 8 + SV_R2_MAX_KEY + 1;
    if (good)
        memcpy(&sum, raw.p, 8);
    if (!good || sum != cursor_sum(bucket, (sv_str){raw.p + 8, raw.n - 8}))
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "The cursor or continuation token is none of this bucket");
    sv_buf_add(from, raw.p + 8, raw.n - 8);
    return SV_OK;
}

/* The first key that starts with no such prefix any more. UTF-8 has no byte 0xff, so that there always is one. */
static void behind_prefix(sv_str prefix, sv_buf *to)
{
    sv_buf_reset(to);
    while (prefix.n && (unsigned char)prefix.p[prefix.n - 1] == 0xff)
        prefix.n--;
    if (prefix.n == 0) {
        sv_buf_addc(to, (char)0xff);
        return;
    }
    sv_buf_add(to, prefix.p, prefix.n);
    to->p[to->n - 1] = (char)((unsigned char)to->p[to->n - 1] + 1);
}

static int order(sv_str a, sv_str b)
{
    int c = a.n && b.n ? memcmp(a.p, b.p, a.n < b.n ? a.n : b.n) : 0;
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

typedef struct list_arg {
    const sv_r2_list *l;
    sv_buf from, to;
    void (*each)(void *arg, const sv_r2_obj *o, sv_str common);
    void *arg;
    sv_buf *next;
} list_arg;

/* Bytes of key up to and with the delimiter behind the prefix; 0: there is none. */
static size_t common_bytes(sv_str key, const sv_r2_list *l)
{
    if (l->delimiter.n == 0 || key.n <= l->prefix.n)
        return 0;
    const char *at = memmem(key.p + l->prefix.n, key.n - l->prefix.n, l->delimiter.p, l->delimiter.n);
    return at ? (size_t)(at - key.p) + l->delimiter.n : 0;
}

static void bind_list(sv_stmt *q, const list_arg *a, int64_t bucket)
{
    sv_bind_i64(q, 1, bucket);
    sv_bind_blob(q, 2, a->from.n ? a->from.p : "", a->from.n);
    sv_bind_blob(q, 3, a->to.p, a->to.n);
}

static sv_rc read_list(sv_dbw *r, void *arg, sv_err *err)
{
    list_arg *a = arg;
    const sv_r2_list *l = a->l;
    size_t bytes = 0;
    bool row = true;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_r2_find_bucket(r, l->account, l->bucket, &b, err) != SV_OK ||
        sv_stmt_prep(&q, r, "SELECT " SV_R2_OBJECT_COLUMNS " FROM objects WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key", err) != SV_OK)
        return err->code;
    bind_list(&q, a, b.no);
    for (int64_t i = 0;; i++) {
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return SV_OK;
        sv_str key = sv_col_str(&q, 1);
        if (i == l->limit || (l->max_bytes && i && bytes > l->max_bytes)) {
            if (l->limit > 0) /* of nothing there is no end, either */
                make_cursor(l->bucket, sv_buf_str(&a->from), a->next);
            return SV_OK;
        }
        size_t n = common_bytes(key, l);
        if (n) {
            char common[SV_R2_MAX_KEY];
            memcpy(common, key.p, n);
            behind_prefix((sv_str){common, n}, &a->from);
            sv_stmt_reset(&q);
            bind_list(&q, a, b.no);
            if (l->past_prefix && sv_str_eq((sv_str){common, n}, l->start_after)) {
                i--;
                continue;
            }
            bytes += n + 32;
            a->each(a->arg, NULL, (sv_str){common, n});
            continue;
        }
        sv_r2_obj o;
        bytes += 6 * key.n + (l->http ? 6 * sv_col_str(&q, 11).n : 0) + (l->custom ? 6 * sv_col_str(&q, 12).n : 0) + 400;
        sv_r2_take_object(&q, &o, l->http, l->custom);
        a->each(a->arg, &o, (sv_str){0});
        sv_buf_reset(&a->from); /* the next key there can be */
        sv_buf_add(&a->from, o.key, o.n_key);
        sv_buf_addc(&a->from, 0);
        sv_r2_obj_done(&o);
    }
}

sv_rc sv_r2_list_objects(sv_r2 *r2, const sv_r2_list *l, void (*each)(void *arg, const sv_r2_obj *o, sv_str common), void *arg, sv_buf *next, sv_err *err)
{
    list_arg a = {.l = l, .each = each, .arg = arg, .next = next};
    sv_buf_init(&a.from, 4096);
    sv_buf_init(&a.to, 4096);
    sv_rc rc = SV_OK;
    SV_AUTO(sv_buf_donep) sv_buf cursor = {0};
    sv_buf_init(&cursor, 4096);
    if (l->prefix.n > SV_R2_MAX_KEY || l->start_after.n > SV_R2_MAX_KEY || l->delimiter.n > SV_R2_MAX_KEY)
        rc = sv_r2_fail(err, SV_R2_BAD_KEY);
    if (rc == SV_OK && l->cursor.n)
        rc = read_cursor(l->bucket, l->cursor, &cursor, err);
    if (rc == SV_OK) {
        sv_buf_add(&a.from, l->prefix.p, l->prefix.n);
        behind_prefix(l->prefix, &a.to);
        if (l->start_after.n && order(l->start_after, l->prefix) >= 0) {
            sv_buf_reset(&a.from);
            sv_buf_add(&a.from, l->start_after.p, l->start_after.n);
            sv_buf_addc(&a.from, 0);
        }
        if (order(sv_buf_str(&cursor), sv_buf_str(&a.from)) > 0) {
            sv_buf_reset(&a.from);
            sv_buf_add(&a.from, cursor.p, cursor.n);
        }
        rc = sv_db_read(r2->db, read_list, &a, err);
    }
    sv_buf_done(&a.from);
    sv_buf_done(&a.to);
    return rc;
}

/* ---- writing, inside the transaction ---- */

void sv_r2_add_old(sv_r2_write *w, sv_str name)
{
    if (name.n != 32)
        return;
    if (w->n_old == w->cap_old) {
        w->cap_old = w->cap_old ? w->cap_old * 2 : 16;
        w->old = sv_xrealloc(w->old, w->cap_old, sizeof *w->old);
    }
    memcpy(w->old[w->n_old], name.p, 32);
    w->old[w->n_old++][32] = 0;
}

static sv_rc delete_id(sv_dbw *db, const char *sql, int64_t id, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, sql, err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, id);
    return sv_stmt_run(&q, err);
}

sv_rc sv_r2_remove_object(sv_r2_write *w, sv_dbw *db, int64_t id, sv_err *err)
{
    bool row = true;
    size_t before = w->n_old;
    {
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        if (sv_stmt_prep(&q, db, "SELECT file FROM pieces WHERE object = ?1", err) != SV_OK)
            return err->code;
        sv_bind_i64(&q, 1, id);
        for (;;) {
            if (sv_stmt_step(&q, &row, err) != SV_OK)
                return err->code;
            if (!row)
                break;
            sv_r2_add_old(w, sv_col_str(&q, 0));
        }
    }
    bool large = w->n_old > before;
    if (delete_id(db, large ? "DELETE FROM pieces WHERE object = ?1" : "DELETE FROM small WHERE id = ?1", id, err) != SV_OK)
        return err->code;
    return delete_id(db, "DELETE FROM objects WHERE id = ?1", id, err);
}

sv_rc sv_r2_insert_piece(sv_dbw *db, int64_t object, int64_t i, const sv_r2_piece *p, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "INSERT INTO pieces (object, i, file, n, iv) VALUES (?1, ?2, ?3, ?4, ?5)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, object);
    sv_bind_i64(&q, 2, i);
    sv_bind_cstr(&q, 3, p->file);
    sv_bind_i64(&q, 4, p->n);
    sv_bind_blob(&q, 5, p->iv, 16);
    return sv_stmt_run(&q, err);
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

static sv_rc insert_object(sv_dbw *db, int64_t bucket, sv_r2_obj *o, sv_err *err)
{
    uint8_t sums[SV_R2_SUMS_MAX];
    SV_AUTO(sv_buf_donep) sv_buf text = {0};
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    sv_buf_init(&text, 1 << 20);
    if (sv_stmt_prep(&q, db,
                     "INSERT INTO objects (bucket, key, version, size, etag, uploaded_ms, class, sums, composite, n_parts, ssec_md5, http, custom)"
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                     err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, bucket);
    sv_bind_blob(&q, 2, o->key, o->n_key);
    sv_bind_cstr(&q, 3, o->version);
    sv_bind_i64(&q, 4, o->size);
    sv_bind_cstr(&q, 5, o->etag);
    sv_bind_i64(&q, 6, o->uploaded_ms);
    sv_bind_i64(&q, 7, o->class);
    sv_bind_blob(&q, 8, sums, sv_r2_pack_sums(&o->sums, sums));
    sv_bind_i64(&q, 9, o->composite);
    sv_bind_i64(&q, 10, o->n_parts);
    sv_bind_str(&q, 11, o->ssec_md5[0] ? sv_str_of(o->ssec_md5) : (sv_str){0});
    bind_json(&q, 12, o->http, &text);
    bind_json(&q, 13, o->custom, &text);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    o->id = sqlite3_last_insert_rowid(sv_dbw_handle(db));
    return SV_OK;
}

/* What is there now may forbid it. */
static sv_rc check_present(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_str key, int64_t *id, sv_err *err)
{
    sv_r2_obj old = {0};
    bool found = false, not_modified;
    if (sv_r2_find_object(db, b->no, key, &old, &found, err) != SV_OK)
        return err->code;
    sv_rc rc = SV_OK;
    if (!sv_r2_cond_holds(&w->cond, found ? &old : NULL, &not_modified))
        rc = sv_r2_fail(err, SV_R2_PRECONDITION);
    else if (found)
        rc = sv_r2_check_lock(b, key, old.uploaded_ms, err);
    *id = found ? old.id : 0;
    sv_r2_obj_done(&old);
    return rc;
}

sv_rc sv_r2_place_object(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    int64_t old = 0;
    if (check_present(w, db, b, w->key, &old, err) != SV_OK || (old && sv_r2_remove_object(w, db, old, err) != SV_OK))
        return err->code;
    return insert_object(db, b->no, &w->out, err);
}

static sv_rc put_small(sv_dbw *db, const sv_r2_write *w, sv_err *err)
{
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, db, "INSERT INTO small (id, iv, bytes) VALUES (?1, ?2, ?3)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, w->out.id);
    if (w->ssec.given)
        sv_bind_blob(&q, 2, w->iv, 16);
    else
        sv_bind_null(&q, 2);
    sv_bind_blob(&q, 3, w->bytes.n ? w->bytes.p : "", w->bytes.n);
    return sv_stmt_run(&q, err);
}

static sv_rc put(sv_r2_write *w, sv_dbw *db, const bucket_row *b, sv_err *err)
{
    sv_r2_obj *o = &w->out;
    sv_r2_obj_done(o);
    *o = (sv_r2_obj){.key = sv_xstrndup(w->key.p, w->key.n), .n_key = w->key.n, .size = w->n_pieces ? w->size : (int64_t)w->bytes.n,
                     .uploaded_ms = sv_now_ms(), .class = w->class == SV_R2_CLASS_OF_BUCKET ? b->class : w->class, .http = json_incref(w->http),
                     .custom = json_incref(w->custom), .sums = w->sums, .composite = w->composite, .n_parts = w->copied_parts};
    sv_random_hex(o->version, 16);
    if (w->ssec.given)
        snprintf(o->ssec_md5, sizeof o->ssec_md5, "%s", w->ssec.md5);
    if (w->etag)
        snprintf(o->etag, sizeof o->etag, "%s", w->etag);
    else
        sv_hex(o->etag, w->sums.v[SV_SUM_MD5], 16);
    if (sv_r2_place_object(w, db, b, err) != SV_OK)
        return err->code;
    if (w->n_pieces == 0 && put_small(db, w, err) != SV_OK)
        return err->code;
    for (size_t i = 0; i < w->n_pieces; i++)
        if (sv_r2_insert_piece(db, o->id, (int64_t)i, &w->pieces[i], err) != SV_OK)
            return err->code;
    bool copy = w->copy_key.n > 0;
    return sv_r2_note_event(w, db, b, copy ? SV_R2_ON_COPY : SV_R2_ON_PUT, copy ? "CopyObject" : "PutObject", o, err);
}

static sv_rc delete_one(sv_r2_write *w, sv_dbw *db, const bucket_row *b, size_t i, sv_err *err)
{
    sv_r2_obj old = {0};
    bool found = false;
    if (sv_r2_find_object(db, b->no, w->keys[i], &old, &found, err) != SV_OK)
        return err->code;
    w->existed = found;
    if (w->key_codes)
        w->key_codes[i] = 0;
    sv_rc rc = SV_OK;
    if (found && (!w->by_ms || old.uploaded_ms <= w->by_ms)) {
        bool expired = w->action != NULL;
        rc = sv_r2_check_lock(b, w->keys[i], old.uploaded_ms, err);
        if (rc == SV_OK && (rc = sv_r2_remove_object(w, db, old.id, err)) == SV_OK)
            rc = sv_r2_note_event(w, db, b, expired ? SV_R2_ON_EXPIRE : SV_R2_ON_DELETE, expired ? w->action : "DeleteObject", &old, err);
        if (err->api_code == SV_R2_LOCKED && w->key_codes) {
            w->key_codes[i] = SV_R2_LOCKED;
            *err = (sv_err){0};
            rc = SV_OK;
        }
    }
    sv_r2_obj_done(&old);
    return rc;
}

static sv_rc apply(sv_dbw *db, void *arg, sv_err *err)
{
    sv_r2_write *w = arg;
    SV_AUTO(bucket_row_donep) bucket_row b = {0};
    w->n_old = 0; /* this may be the second time */
    w->notified = false;
    if (sv_r2_find_bucket(db, w->account, w->bucket, &b, err) != SV_OK)
        return err->code;
    if (w->op == SV_R2_PUT)
        return put(w, db, &b, err);
    if (w->op != SV_R2_DELETE)
        return sv_r2_apply_multipart(w, db, &b, err);
    for (size_t i = 0; i < w->n_keys; i++)
        if (delete_one(w, db, &b, i, err) != SV_OK)
            return err->code;
    return SV_OK;
}

/* ---- around the transaction ---- */

static void settle(sv_r2_write *w)
{
    if (w->rc == SV_OK)
        sv_r2_retire(w->r2, w->old, w->n_old);
    else if (w->n_pieces)
        sv_r2_drop(w->r2, w->pieces, w->n_pieces);
    if (w->rc == SV_OK && w->notified)
        sv_r2_wake_postman(w->r2);
    if (w->rc != SV_OK)
        sv_r2_obj_done(&w->out);
    free(w->old);
    w->old = NULL;
    w->n_old = w->cap_old = 0;
}

static void committed(sv_db_job *job)
{
    sv_r2_write *w = job->arg;
    w->rc = job->rc;
    w->err = job->err;
    settle(w);
    w->done(w);
}

static sv_rc check_write(sv_r2_write *w, sv_err *err)
{
    if (w->op == SV_R2_DELETE && w->n_keys > SV_R2_MAX_DELETE)
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "%zu keys in one call, at most %d", w->n_keys, SV_R2_MAX_DELETE);
    for (size_t i = 0; w->op == SV_R2_DELETE && i < w->n_keys; i++)
        if (sv_r2_check_key(w->keys[i], err) != SV_OK)
            return err->code;
    if (w->op != SV_R2_DELETE && sv_r2_check_key(w->key, err) != SV_OK)
        return err->code;
    return sv_r2_check_metadata(w->custom, err);
}

void sv_r2_submit(sv_r2 *r2, sv_r2_write *w)
{
    w->r2 = r2;
    w->out = (sv_r2_obj){0};
    w->job = (sv_db_job){.fn = apply, .arg = w, .done = committed};
    if (check_write(w, &w->err) == SV_OK) {
        sv_db_submit(r2->db, &w->job);
        return;
    }
    w->rc = w->err.code;
    settle(w);
    w->done(w);
}

sv_rc sv_r2_apply(sv_r2 *r2, sv_r2_write *w, sv_err *err)
{
    w->r2 = r2;
    w->out = (sv_r2_obj){0};
    w->rc = check_write(w, &w->err) == SV_OK ? sv_db_write(r2->db, apply, w, &w->err) : w->err.code;
    settle(w);
    if (w->rc != SV_OK)
        *err = w->err;
    return w->rc;
}

/* ---- copies ---- */

/* Another name for a file; where the file system has no more of them, its bytes again. */
static sv_rc copy_piece(sv_r2 *r2, const sv_r2_piece *from, sv_r2_piece *to, sv_err *err)
{
    char a[600], b[600];
    *to = *from;
    sv_random_hex(to->file, 16);
    sv_r2_file_path(r2, from->file, a);
    sv_r2_file_path(r2, to->file, b);
    if (link(a, b) == 0)
        return SV_OK;
    if (errno != EMLINK && errno != EPERM && errno != EOPNOTSUPP)
        return sv_fail_errno(err, "link '%s'", to->file);
    SV_AUTO(sv_fd_closep) int in = open(a, O_RDONLY | O_CLOEXEC);
    SV_AUTO(sv_fd_closep) int out = open(b, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (in < 0 || out < 0)
        return sv_fail_errno(err, "copy '%s'", from->file);
    for (int64_t left = from->n; left > 0;) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);
        if (n <= 0) {
            sv_fail_errno(err, "copy '%s'", from->file);
            unlink(b);
            return err->code;
        }
        left -= n;
    }
    return sv_sync(b, err);
}

static sv_rc link_pieces(sv_r2 *r2, const sv_r2_reader *from, sv_r2_piece *to, size_t *n, sv_err *err)
{
    for (*n = 0; *n < from->n_pieces; ++*n)
        if (copy_piece(r2, &from->pieces[*n], &to[*n], err) != SV_OK)
            return err->code;
    return sv_sync(r2->folder, err);
}

/* The bytes once more, under another key or none. */
static sv_rc rewrite(sv_r2 *r2, sv_r2_reader *from, const sv_r2_key *key, sv_r2_piece *to, sv_err *err)
{
    enum { PIECE = 256 << 10 };
    char name[33], path[600];
    int64_t at = 0;
    SV_AUTO(sv_freep) char *p = sv_try_calloc(1, PIECE);
    sv_random_hex(name, 16);
    sv_r2_file_path(r2, name, path);
    sv_random(to->iv, 16);
    SV_AUTO(sv_fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || !p)
        return fd < 0 ? sv_fail_errno(err, "make '%s'", path) : sv_fail(err, SV_ENOMEM, "no memory to copy");
    for (ssize_t n; (n = sv_r2_read(from, p, PIECE)) != 0; at += n) {
        if (n > 0 && key->given)
            sv_r2_crypt(key, to->iv, at, p, (size_t)n);
        if (n < 0 ? sv_fail(err, SV_EIO, "an object's file could not be read") : sv_write_all(fd, p, (size_t)n, err)) {
            unlink(path);
            return err->code;
        }
    }
    if (sv_r2_keep(r2, path, to, at, err) == SV_OK)
        return SV_OK;
    unlink(path);
    return err->code;
}

sv_rc sv_r2_copy(sv_r2 *r2, const sv_r2_get *from, sv_r2_write *w, bool keep_metadata, sv_err *err)
{
    sv_r2_obj o = {0};
    sv_r2_reader *body = NULL;
    int64_t at, n;
    bool not_modified;
    size_t n_pieces = 0;
    if (sv_r2_get_object(r2, from, &o, &body, &at, &n, &not_modified, err) != SV_OK) {
        sv_r2_obj_done(&o);
        return err->code;
    }
    bool crypt = body->ssec.given || w->ssec.given;
    SV_AUTO(sv_freep) sv_r2_piece *pieces = sv_xcalloc(body->n_pieces + 1, sizeof *pieces);
    SV_AUTO(sv_freep) char *bytes = NULL;
    sv_rc rc = SV_OK;
    if (body->bytes) {
        bytes = sv_xcalloc((size_t)o.size + 1, 1);
        memcpy(bytes, body->bytes, (size_t)o.size);
        w->bytes = (sv_str){bytes, (size_t)o.size};
        if (w->ssec.given) {
            sv_random(w->iv, 16);
            sv_r2_crypt(&w->ssec, w->iv, 0, bytes, (size_t)o.size);
        }
    } else if (crypt) {
        rc = rewrite(r2, body, &w->ssec, &pieces[0], err);
        n_pieces = rc == SV_OK;
    } else {
        rc = link_pieces(r2, body, pieces, &n_pieces, err);
    }
    if (rc != SV_OK)
        sv_r2_drop(r2, pieces, n_pieces);
    w->pieces = pieces;
    w->n_pieces = n_pieces;
    w->size = o.size;
    w->sums = o.sums;
    w->composite = o.composite;
    w->etag = o.etag;
    w->copied_parts = crypt && !body->bytes ? 0 : o.n_parts;
    if (keep_metadata) {
        w->http = o.http;
        w->custom = o.custom;
    }
    if (rc == SV_OK)
        rc = sv_r2_apply(r2, w, err);
    sv_r2_reader_close(body);
    w->pieces = NULL;
    w->n_pieces = 0;
    w->bytes = (sv_str){0};
    w->etag = NULL;
    if (keep_metadata)
        w->http = w->custom = NULL;
    sv_r2_obj_done(&o);
    return rc;
}
