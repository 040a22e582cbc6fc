/* d1_history.c - going back to any commit of the last days
 *
 * SQLite's write-ahead log already is the history: every commit is in it as the pages it changed. So before a log is copied into the database
 * and emptied, it is copied here as well, and once a day the database itself:
 *
 *     b-SEQ-TIME.sqlite        the file at commit SEQ, of second TIME (hexadecimal, 8 digits each)
 *     w-SEQ-TIME.wal           a log that goes on where SEQ ended (SEQ, TIME: of the file it belongs to)
 *
 * Commit number and time stand in the header of every state (d1_conn.c), page 1 of each commit. A state is made from the newest copy that is not
 * newer, and the commits behind it one after the other. Each must carry the next number: where a log is missing (the disk was full) the way
 * ends there, and is refused rather than jumped over. The database itself is copied only when its log has just been emptied: in the middle of
 * a checkpoint (a crash there leaves it so) the file alone is no state that ever was.
 *
 * Of a log only that counts which SQLite would take: frames with the header's salt and an unbroken chain of checksums; what follows the last commit
 * was never acknowledged. Copies are written beside and renamed, so that a crash leaves no half of one under its name. A copy that is made twice, as the
 * log was not emptied after the first, is the same or longer and replaces it.
 *
 * Format of the log: https://www.sqlite.org/walformat.html */
#include "d1/d1_history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/time.h"

enum { WAL_HEAD = 32, FRAME_HEAD = 24, MAX_PAGE = 65536, DAY_S = 86400, AT_VERSION = 60, AT_TIME = 68, DB_HEAD = 100 };

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static sv_d1_version version_in(const uint8_t *page1) { return (sv_d1_version){be32(page1 + AT_VERSION), be32(page1 + AT_TIME)}; }

/* ---- the folder ---- */

typedef struct item { char kind; sv_d1_version v; } item;
typedef struct items { item *p; size_t n, cap; } items;

static int by_age(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->v.seq != y->v.seq)
        return x->v.seq < y->v.seq ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static void item_path(char out[512], const char *dir, item i)
{
    snprintf(out, 512, "%s/%c-%08x-%08x.%s", dir, i.kind, i.v.seq, i.v.at_s, i.kind == 'b' ? "sqlite" : "wal");
}

static void list_items(const char *dir, items *out)
{
    DIR *d = opendir(dir);
    *out = (items){0};
    for (struct dirent *e; d && (e = readdir(d));) {
        item i;
        char end[8];
        if (sscanf(e->d_name, "%c-%8x-%8x.%7s", &i.kind, &i.v.seq, &i.v.at_s, end) != 4 || (i.kind != 'b' && i.kind != 'w') ||
            strcmp(end, i.kind == 'b' ? "sqlite" : "wal") != 0)
            continue;
        if (out->n == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 32;
            out->p = sv_xrealloc(out->p, out->cap, sizeof *out->p);
        }
        out->p[out->n++] = i;
    }
    if (d)
        closedir(d);
    if (out->n)
        qsort(out->p, out->n, sizeof *out->p, by_age);
}

/* ---- keeping ---- */

static sv_rc copy_bytes(int from, int to, sv_err *err)
{
    if (ioctl(to, FICLONE, from) == 0)
        return SV_OK;
    SV_AUTO(sv_freep) char *b = sv_try_calloc(1, 1 << 20);
    if (!b)
        return sv_fail(err, SV_ENOMEM, "no memory for a copy");
    for (off_t at = 0;;) {
        ssize_t n = pread(from, b, 1 << 20, at);
        if (n < 0)
            return sv_fail_errno(err, "read the database");
        if (n == 0)
            return SV_OK;
        if (sv_write_all(to, b, (size_t)n, err) != SV_OK)
            return err->code;
        at += n;
    }
}

static sv_rc copy_file(const char *from_path, const char *dir, item i, sv_err *err)
{
    char path[512], beside[520];
    item_path(path, dir, i);
    snprintf(beside, sizeof beside, "%s.new", path);
    SV_AUTO(sv_fd_closep) int from = open(from_path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return sv_fail_errno(err, "open '%s'", from_path);
    SV_AUTO(sv_fd_closep) int to = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0)
        return sv_fail_errno(err, "make '%s'", beside);
    sv_rc rc = copy_bytes(from, to, err);
    if (rc == SV_OK && fsync(to) < 0)
        rc = sv_fail_errno(err, "sync '%s'", beside);
    if (rc == SV_OK && rename(beside, path) < 0)
        rc = sv_fail_errno(err, "rename '%s'", beside);
    if (rc != SV_OK)
        unlink(beside);
    return rc == SV_OK ? sv_sync(dir, err) : rc;
}

static sv_rc version_of_file(const char *path, sv_d1_version *out, sv_err *err)
{
    uint8_t head[DB_HEAD];
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (n < 0)
        return sv_fail_errno(err, "read '%s'", path);
    *out = n == DB_HEAD ? version_in(head) : (sv_d1_version){0};
    return SV_OK;
}

static int64_t bytes_of(const char *dir, item i)
{
    char path[512];
    struct stat st;
    item_path(path, dir, i);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Everything below the newest copy that is itself older than the limit can never be asked for. Of the rest goes what is below the oldest copy
 * from which on all of it fits, but never the newest one. */
static void prune(const char *dir)
{
    int64_t oldest_s = (sv_now_ms() - sv_limit_value(SV_LIMIT_D1_HISTORY_MS)) / 1000, bytes = 0;
    items all;
    list_items(dir, &all);
    size_t fits = all.n, first = 0;
    for (size_t i = all.n; i-- > 0;) {
        bytes += bytes_of(dir, all.p[i]);
        if (all.p[i].kind == 'b' && (fits == all.n || bytes <= sv_limit_value(SV_LIMIT_D1_HISTORY_BYTES)))
            fits = i;
    }
    for (size_t i = 0; i < all.n; i++)
        if (all.p[i].kind == 'b' && (all.p[i].v.at_s < oldest_s || i == fits))
            first = i;
    char path[512];
    for (size_t i = 0; i < first; i++) {
        item_path(path, dir, all.p[i]);
        unlink(path);
    }
    free(all.p);
}

sv_rc sv_d1_history_base(const char *path, const char *dir, sv_err *err)
{
    item i = {.kind = 'b'};
    if (sv_mkdir_p(dir, 0700, err) != SV_OK || version_of_file(path, &i.v, err) != SV_OK)
        return err->code;
    sv_rc rc = copy_file(path, dir, i, err);
    prune(dir);
    return rc;
}

sv_rc sv_d1_history_base_if_due(const char *path, const char *dir, sv_err *err)
{
    sv_d1_version now;
    items all;
    if (version_of_file(path, &now, err) != SV_OK)
        return err->code;
    list_items(dir, &all);
    int64_t since = 0;
    size_t k = all.n;
    for (; k > 0 && all.p[k - 1].kind != 'b'; k--)
        since += bytes_of(dir, all.p[k - 1]);
    sv_d1_version newest = k > 0 ? all.p[k - 1].v : (sv_d1_version){0};
    bool fresh = (int64_t)newest.at_s + DAY_S > sv_now_ms() / 1000 && since <= sv_limit_value(SV_LIMIT_D1_HISTORY_BYTES) / 4;
    bool due = k == 0 || (newest.seq != now.seq && !fresh);
    free(all.p);
    return due ? sv_d1_history_base(path, dir, err) : SV_OK;
}

sv_rc sv_d1_history_keep(const char *path, const char *dir, sv_err *err)
{
    char wal[512];
    struct stat st;
    item i = {.kind = 'w'};
    snprintf(wal, sizeof wal, "%s-wal", path);
    if (stat(wal, &st) < 0 || st.st_size <= WAL_HEAD)
        return SV_OK;
    if (sv_mkdir_p(dir, 0700, err) != SV_OK || version_of_file(path, &i.v, err) != SV_OK)
        return err->code;
    return copy_file(wal, dir, i, err);
}

/* ---- going back ---- */

typedef struct travel {
    uint32_t max_seq;
    int64_t max_at_s;
    int to;              /* -1: only look */
    sv_d1_version at;    /* the state so far */
    bool past;           /* the next commit is newer than asked for */
    uint32_t page_size;
    uint32_t *frames;    /* of the commit that is being read: offsets in the log, by frame */
    size_t n_frames, cap;
} travel;

typedef struct sums { uint32_t a, b; } sums;

static void add_sums(sums *s, const uint8_t *p, size_t n, bool big)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t x = be32(p + i), y = be32(p + i + 4);
        s->a += (big ? x : __builtin_bswap32(x)) + s->b;
        s->b += (big ? y : __builtin_bswap32(y)) + s->a;
    }
}

static sv_rc apply(travel *t, int wal, uint32_t n_pages, sv_err *err)
{
    SV_AUTO(sv_freep) uint8_t *page = sv_try_calloc(1, t->page_size);
    if (!page)
        return sv_fail(err, SV_ENOMEM, "no memory for a page");
    for (size_t i = 0; i < t->n_frames; i++) {
        off_t at = WAL_HEAD + (off_t)t->frames[i] * (FRAME_HEAD + t->page_size);
        uint8_t head[4];
        if (pread(wal, head, 4, at) != 4 || pread(wal, page, t->page_size, at + FRAME_HEAD) != (ssize_t)t->page_size)
            return sv_fail_errno(err, "read the kept log");
        off_t place = (off_t)(be32(head) - 1) * t->page_size;
        if (pwrite(t->to, page, t->page_size, place) != (ssize_t)t->page_size)
            return sv_fail_errno(err, "write the restored database");
    }
    return ftruncate(t->to, (off_t)n_pages * t->page_size) < 0 ? sv_fail_errno(err, "size of the restored database") : SV_OK;
}

/* One commit: its last page 1 says which. SV_ENOENT: it does not follow on what was there before. */
static sv_rc take_commit(travel *t, int wal, uint32_t n_pages, bool has_version, sv_d1_version v, sv_err *err)
{
    if (!has_version) /* the change to the log's own mode, before anybody wrote */
        v = t->at;
    if (v.seq <= t->at.seq && has_version)
        return SV_OK; /* in the copy already */
    if (v.seq > t->max_seq || v.at_s > t->max_at_s) {
        t->past = true;
        return SV_OK;
    }
    if (has_version && v.seq != t->at.seq + 1)
        return sv_fail(err, SV_ENOENT, "the history between commits %u and %u is not kept", t->at.seq, v.seq);
    if (t->to >= 0 && apply(t, wal, n_pages, err) != SV_OK)
        return err->code;
    t->at = v;
    return SV_OK;
}

static void push_frame(travel *t, uint32_t i)
{
    if (t->n_frames == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 256;
        t->frames = sv_xrealloc(t->frames, t->cap, sizeof *t->frames);
    }
    t->frames[t->n_frames++] = i;
}

static sv_rc replay_frames(travel *t, int wal, const uint8_t head[WAL_HEAD], uint8_t *f, sv_err *err)
{
    bool big = be32(head) & 1, has_version = false;
    sums s = {0};
    sv_d1_version v = {0};
    size_t n = FRAME_HEAD + t->page_size;
    add_sums(&s, head, 24, big);
    if (s.a != be32(head + 24) || s.b != be32(head + 28))
        return SV_OK; /* SQLite would read nothing of it either */
    t->n_frames = 0;
    for (uint32_t i = 0; !t->past && pread(wal, f, n, WAL_HEAD + (off_t)i * (off_t)n) == (ssize_t)n; i++) {
        add_sums(&s, f, 8, big);
        add_sums(&s, f + FRAME_HEAD, t->page_size, big);
        if (memcmp(f + 8, head + 16, 8) != 0 || s.a != be32(f + 16) || s.b != be32(f + 20) || be32(f) == 0)
            return SV_OK;
        push_frame(t, i);
        if (be32(f) == 1) {
            v = version_in(f + FRAME_HEAD);
            has_version = true;
        }
        if (be32(f + 4) == 0)
            continue;
        if (take_commit(t, wal, be32(f + 4), has_version, v, err) != SV_OK)
            return err->code;
        t->n_frames = 0;
        has_version = false;
    }
    return SV_OK;
}

static sv_rc replay(travel *t, const char *path, sv_err *err)
{
    uint8_t head[WAL_HEAD];
    SV_AUTO(sv_fd_closep) int wal = open(path, O_RDONLY | O_CLOEXEC);
    if (wal < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (pread(wal, head, sizeof head, 0) != sizeof head || (be32(head) & ~1u) != 0x377f0682)
        return SV_OK;
    t->page_size = be32(head + 8);
    if (t->page_size < 512 || t->page_size > MAX_PAGE || (t->page_size & (t->page_size - 1)))
        return sv_fail(err, SV_EFORMAT, "a kept log is damaged");
    SV_AUTO(sv_freep) uint8_t *f = sv_try_calloc(1, FRAME_HEAD + t->page_size);
    return f ? replay_frames(t, wal, head, f, err) : sv_fail(err, SV_ENOMEM, "no memory for a page");
}

static sv_rc travel_from(travel *t, const char *dir, const items *all, size_t base, sv_err *err)
{
    char path[512];
    if (t->to >= 0) {
        item_path(path, dir, all->p[base]);
        SV_AUTO(sv_fd_closep) int from = open(path, O_RDONLY | O_CLOEXEC);
        if (from < 0)
            return sv_fail_errno(err, "open '%s'", path);
        if (copy_bytes(from, t->to, err) != SV_OK)
            return err->code;
    }
    t->at = all->p[base].v;
    for (size_t i = base + 1; i < all->n && !t->past; i++) {
        item_path(path, dir, all->p[i]);
        if (all->p[i].kind == 'w' && replay(t, path, err) != SV_OK)
            return err->code;
    }
    return t->to >= 0 && fsync(t->to) < 0 ? sv_fail_errno(err, "sync the restored database") : SV_OK;
}

sv_rc sv_d1_history_find(const char *dir, uint32_t max_seq, int64_t max_at_s, const char *to_path, sv_d1_version *out, sv_err *err)
{
    travel t = {.max_seq = max_seq, .max_at_s = max_at_s, .to = -1};
    items all;
    size_t base = SIZE_MAX;
    list_items(dir, &all);
    for (size_t i = 0; i < all.n; i++)
        if (all.p[i].kind == 'b' && all.p[i].v.seq <= max_seq && all.p[i].v.at_s <= max_at_s)
            base = i;
    sv_rc rc = SV_OK;
    if (base == SIZE_MAX)
        rc = sv_fail(err, SV_ENOENT, "nothing is kept of this database that is so old");
    else if (to_path && (t.to = open(to_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) < 0)
        rc = sv_fail_errno(err, "make the restored database");
    if (rc == SV_OK)
        rc = travel_from(&t, dir, &all, base, err);
    sv_fd_closep(&t.to);
    free(t.frames);
    free(all.p);
    if (rc == SV_OK)
        *out = t.at;
    return rc;
}
