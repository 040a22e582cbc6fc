/* log.c - checksummed records, appended, synced together, read through a map
 *
 * Everything else in an index's folder is derived from this file and may be lost. Full vectors, ids and metadata live nowhere else:
 * readers look at them through a map of the file, so that the page cache, and not we, decides which are in memory.
 *
 * Layout, little-endian, everything on multiples of 8:
 *     0   "SVVECLG1"   8  u32 dimensions   12  u32 metric   16  u64 identity (random)   24  u64 hash of bytes 0 to 23   zeros to 64
 *     then records:
 *         u32 body_n   u8 kind   u8 mutation_n   u16 0   i64 time_ms   u64 hash   mutation, padded   body, padded
 *     a vector in a body:
 *         u32 size   u32 metadata_n   u8 id_n   u8 namespace_n   u16 0   u32 0   f32 [dimensions]   id namespace metadata, padded
 *     an id in a body: u8 n, its bytes.
 *
 * The hash of a record covers its head and what follows, and is seeded with the log's identity and the record's offset: bytes
 * that an older file left on the disk, or a record in another place, do not pass for one.
 *
 * Room is taken from the file system ahead of use and reads as zeros, a body_n and kind of 0 is no record, and so the first
 * zeros or the first wrong hash are the end. What comes after a damaged record is not believed, even where it looks whole: it may
 * build on what was lost. It is set aside as PATH.torn, never silently dropped.
 *
 * Invariants:
 *   1. Bytes before `end` never change. Readers keep offsets, and pointers from older maps.
 *   2. The map reaches past the end; nobody reads there. When the file outgrows it, a larger map is made, and the older ones stay
 *      until close (each is at least twice the one before, so they cost address space only).
 *   3. A record is written by one call behind `end`, and `end` moves only when all of it was written. */
#include "vec/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"

enum { RECORD_HEAD = 24, ITEM_HEAD = 16, MAX_MAPS = 48, MIN_ROOM = 1 << 18, MAX_ROOM = 64 << 20 };
static const char magic[8] = "SVVECLG1";

typedef struct map {
    uint8_t *p;
    uint64_t n;
} map;

struct sv_vec_log {
    int fd;
    char *path;
    uint32_t dimensions, metric;
    uint64_t identity;
    _Atomic uint64_t end; /* moves after the bytes before it are written: a reader may follow it while an append goes on */
    uint64_t size; /* of the file; zeros from end to here */
    map maps[MAX_MAPS];
    int n_maps;
    const uint8_t *_Atomic base; /* maps[n_maps - 1].p */
};

static uint64_t round8(uint64_t n)
{
    return (n + 7) & ~(uint64_t)7;
}

/* inv. 2 */
static sv_rc map_at_least(sv_vec_log *l, uint64_t n, sv_err *err)
{
    uint64_t have = l->n_maps ? l->maps[l->n_maps - 1].n : 0, want = have ? have : (uint64_t)64 << 20;
    if (n <= have)
        return SV_OK;
    while (want < n || want == have)
        want *= 2;
    if (l->n_maps == MAX_MAPS)
        return sv_fail(err, SV_ELIMIT, "'%s' is too large", l->path);
    void *p = mmap(NULL, want, PROT_READ, MAP_SHARED | MAP_NORESERVE, l->fd, 0);
    if (p == MAP_FAILED)
        return sv_fail_errno(err, "map %llu bytes of '%s'", (unsigned long long)want, l->path);
    l->maps[l->n_maps++] = (map){p, want};
    atomic_store_explicit(&l->base, p, memory_order_release);
    return SV_OK;
}

sv_vec_log *sv_vec_log_close(sv_vec_log *l)
{
    if (!l)
        return NULL;
    for (int i = 0; i < l->n_maps; i++)
        munmap(l->maps[i].p, l->maps[i].n);
    sv_fd_closep(&l->fd);
    free(l->path);
    free(l);
    return NULL;
}

static sv_vec_log *new_log(const char *path)
{
    sv_vec_log *l = sv_xnew0(sv_vec_log);
    l->fd = -1;
    l->path = sv_xstrdup(path);
    return l;
}

sv_rc sv_vec_log_create(sv_vec_log **out, const char *path, uint32_t dimensions, uint32_t metric, sv_err *err)
{
    SV_AUTO(sv_vec_log_closep) sv_vec_log *l = new_log(path);
    l->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (l->fd < 0)
        return sv_fail_errno(err, "create '%s'", path);
    uint8_t head[SV_VEC_LOG_HEAD] = {0};
    l->dimensions = dimensions;
    l->metric = metric;
    sv_random(&l->identity, sizeof l->identity);
    memcpy(head, magic, sizeof magic);
    memcpy(head + 8, &dimensions, 4);
    memcpy(head + 12, &metric, 4);
    memcpy(head + 16, &l->identity, 8);
    uint64_t hash = sv_hash64(head, 24, 0);
    memcpy(head + 24, &hash, 8);
    if (pwrite(l->fd, head, sizeof head, 0) != (ssize_t)sizeof head)
        return sv_fail_errno(err, "write '%s'", path);
    l->end = l->size = SV_VEC_LOG_HEAD;
    if (map_at_least(l, l->end, err) != SV_OK || sv_vec_log_sync(l, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(l);
    return SV_OK;
}

sv_rc sv_vec_log_open(sv_vec_log **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_vec_log_closep) sv_vec_log *l = new_log(path);
    uint8_t head[SV_VEC_LOG_HEAD];
    struct stat st;
    uint64_t hash;
    l->fd = open(path, O_RDWR | O_CLOEXEC);
    if (l->fd < 0 || fstat(l->fd, &st) < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (pread(l->fd, head, sizeof head, 0) != (ssize_t)sizeof head || memcmp(head, magic, sizeof magic) != 0)
        return sv_fail(err, SV_EFORMAT, "'%s' is no log of a vector index", path);
    memcpy(&l->dimensions, head + 8, 4);
    memcpy(&l->metric, head + 12, 4);
    memcpy(&l->identity, head + 16, 8);
    memcpy(&hash, head + 24, 8);
    if (hash != sv_hash64(head, 24, 0))
        return sv_fail(err, SV_EFORMAT, "the head of '%s' is damaged", path);
    l->end = l->size = (uint64_t)st.st_size;
    if (map_at_least(l, l->size, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(l);
    return SV_OK;
}

uint32_t sv_vec_log_dimensions(const sv_vec_log *l) { return l->dimensions; }
uint32_t sv_vec_log_metric(const sv_vec_log *l) { return l->metric; }
uint64_t sv_vec_log_identity(const sv_vec_log *l) { return l->identity; }
uint64_t sv_vec_log_end(const sv_vec_log *l) { return l->end; }

const uint8_t *sv_vec_log_base(const sv_vec_log *l)
{
    return atomic_load_explicit(&l->base, memory_order_acquire);
}

static uint64_t record_hash(const uint8_t *head, const uint8_t *mutation, size_t mutation_n, const uint8_t *body, size_t body_n,
                            uint64_t identity, uint64_t at)
{
    uint64_t h = sv_hash64(head, 16, identity ^ at * 0x9E3779B97F4A7C15u);
    h = sv_hash64(mutation, mutation_n, h);
    return sv_hash64(body, body_n, h);
}

bool sv_vec_log_parse(const uint8_t *p, uint64_t n, uint64_t identity, uint64_t *at, sv_vec_record *out)
{
    uint64_t hash, from = *at;
    uint32_t body_n;
    uint16_t zero;
    if (from % 8 != 0 || from > n || n - from < RECORD_HEAD)
        return false;
    const uint8_t *head = p + from;
    memcpy(&body_n, head, 4);
    memcpy(&zero, head + 6, 2);
    memcpy(&hash, head + 16, 8);
    uint64_t mutation_n = head[5], mutation_at = from + RECORD_HEAD, body_at = mutation_at + round8(mutation_n);
    if (head[4] < SV_VEC_LOG_UPSERT || head[4] > SV_VEC_LOG_NOTE || zero != 0 || body_n > SV_VEC_LOG_MAX_RECORD)
        return false;
    if (body_at > n || round8(body_n) > n - body_at)
        return false;
    if (hash != record_hash(head, p + mutation_at, mutation_n, p + body_at, body_n, identity, from))
        return false;
    out->kind = (sv_vec_kind)head[4];
    memcpy(&out->time_ms, head + 8, 8);
    out->mutation = (sv_str){(const char *)p + mutation_at, mutation_n};
    out->body = (sv_str){(const char *)p + body_at, body_n};
    out->body_at = body_at;
    out->end_at = *at = body_at + round8(body_n);
    return true;
}

bool sv_vec_log_next(const sv_vec_log *l, uint64_t *at, sv_vec_record *out)
{
    return sv_vec_log_parse(sv_vec_log_base(l), l->end, l->identity, at, out);
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

/* Copies what lies between the end and the last byte that is not zero. */
static sv_rc set_aside(const sv_vec_log *l, uint64_t end, sv_err *err)
{
    const uint8_t *base = sv_vec_log_base(l);
    uint64_t last = l->size;
    while (last > end && base[last - 1] == 0)
        last--;
    if (last == end)
        return SV_OK;
    sv_log(SV_ERROR, "vec.log_torn", "path=%s at=%llu bytes=%llu", l->path, (unsigned long long)end, (unsigned long long)(last - end));
    SV_AUTO(sv_freep) char *torn = sv_xasprintf("%s.torn", l->path);
    SV_AUTO(sv_fd_closep) int fd = open(torn, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sv_fail_errno(err, "create '%s'", torn);
    return sv_write_all(fd, base + end, last - end, err);
}

sv_rc sv_vec_log_set_end(sv_vec_log *l, uint64_t end, sv_err *err)
{
    if (end > l->size || end < SV_VEC_LOG_HEAD)
        return sv_fail(err, SV_EINVAL, "'%s' has %llu bytes and cannot end at %llu", l->path, (unsigned long long)l->size, (unsigned long long)end);
    if (end < l->size && set_aside(l, end, err) != SV_OK)
        return err->code;
    if (ftruncate(l->fd, (off_t)end) < 0)
        return sv_fail_errno(err, "cut '%s'", l->path);
    l->end = l->size = end;
    return SV_OK;
}

/* Takes room ahead, an eighth of what is there: a sync of a file that does not grow is one write less. */
static sv_rc make_room(sv_vec_log *l, uint64_t n, sv_err *err)
{
    if (l->end + n <= l->size)
        return SV_OK;
    uint64_t more = l->end / 8 < MIN_ROOM ? MIN_ROOM : l->end / 8 > MAX_ROOM ? MAX_ROOM : l->end / 8;
    uint64_t size = l->end + n + more;
    if (fallocate(l->fd, 0, (off_t)l->size, (off_t)(size - l->size)) < 0) {
        if (errno == ENOSPC)
            return sv_fail_errno(err, "grow '%s'", l->path);
        if (ftruncate(l->fd, (off_t)size) < 0) /* a file system without fallocate */
            return sv_fail_errno(err, "grow '%s'", l->path);
    }
    l->size = size;
    return SV_OK;
}

static sv_rc write_at(const sv_vec_log *l, struct iovec *v, int n, uint64_t at, sv_err *err)
{
    while (n > 0) {
        ssize_t k = pwritev(l->fd, v, n, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return sv_fail_errno(err, "write '%s'", l->path);
        at += (uint64_t)k;
        for (; n > 0 && (size_t)k >= v->iov_len; v++, n--)
            k -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return SV_OK;
}

sv_rc sv_vec_log_append(sv_vec_log *l, const sv_vec_record *r, uint64_t *body_at, sv_err *err)
{
    static char zeros[8];
    uint8_t head[RECORD_HEAD] = {0};
    uint32_t body_n = (uint32_t)r->body.n;
    if (r->body.n > SV_VEC_LOG_MAX_RECORD || r->mutation.n > 255)
        return sv_fail(err, SV_ELIMIT, "a record of %zu bytes is too large for the log", r->body.n);
    size_t mutation_n = round8(r->mutation.n), pad = round8(body_n) - body_n;
    uint64_t n = RECORD_HEAD + mutation_n + body_n + pad;
    if (make_room(l, n, err) != SV_OK || map_at_least(l, l->end + n, err) != SV_OK)
        return err->code;
    memcpy(head, &body_n, 4);
    head[4] = (uint8_t)r->kind;
    head[5] = (uint8_t)r->mutation.n;
    memcpy(head + 8, &r->time_ms, 8);
    uint64_t hash = record_hash(head, (const uint8_t *)r->mutation.p, r->mutation.n, (const uint8_t *)r->body.p, body_n, l->identity, l->end);
    memcpy(head + 16, &hash, 8);
    struct iovec v[] = {{head, sizeof head},
                        {(void *)(uintptr_t)r->mutation.p, r->mutation.n},
                        {zeros, mutation_n - r->mutation.n},
                        {(void *)(uintptr_t)r->body.p, body_n},
                        {zeros, pad}};
    if (write_at(l, v, (int)SV_LEN(v), l->end, err) != SV_OK)
        return err->code;
    if (body_at)
        *body_at = l->end + RECORD_HEAD + mutation_n;
    l->end += n; /* inv. 3 */
    return SV_OK;
}

sv_rc sv_vec_log_sync(sv_vec_log *l, sv_err *err)
{
    if (fdatasync(l->fd) < 0)
        return sv_fail_errno(err, "sync '%s'", l->path);
    return SV_OK;
}

/* --- bodies --------------------------------------------------------------------------------------------------------- */

void sv_vec_log_add_item(sv_buf *body, uint32_t dimensions, const float *values, sv_str id, sv_str ns, sv_str metadata)
{
    static const char zeros[8];
    uint8_t head[ITEM_HEAD] = {0};
    size_t text = id.n + ns.n + metadata.n, size = ITEM_HEAD + (size_t)dimensions * 4 + text;
    uint32_t whole = (uint32_t)round8(size), metadata_n = (uint32_t)metadata.n;
    memcpy(head, &whole, 4);
    memcpy(head + 4, &metadata_n, 4);
    head[8] = (uint8_t)id.n;
    head[9] = (uint8_t)ns.n;
    sv_buf_add(body, head, sizeof head);
    sv_buf_add(body, values, (size_t)dimensions * 4);
    sv_buf_add(body, id.p, id.n);
    sv_buf_add(body, ns.p, ns.n);
    sv_buf_add(body, metadata.p, metadata.n);
    sv_buf_add(body, zeros, whole - size);
}

sv_vec_stored sv_vec_log_stored(const uint8_t *base, uint64_t at, uint32_t dimensions)
{
    const uint8_t *p = base + at;
    const char *text = (const char *)p + ITEM_HEAD + (size_t)dimensions * 4;
    uint32_t size, metadata_n;
    memcpy(&size, p, 4);
    memcpy(&metadata_n, p + 4, 4);
    return (sv_vec_stored){.values = (const float *)(const void *)(p + ITEM_HEAD), .id = {text, p[8]}, .ns = {text + p[8], p[9]},
                           .metadata = {text + p[8] + p[9], metadata_n}, .at = at, .size = size};
}

bool sv_vec_log_item(sv_str body, uint32_t dimensions, uint64_t *at, sv_vec_stored *out)
{
    if (*at > body.n || body.n - *at < ITEM_HEAD)
        return false;
    const uint8_t *p = (const uint8_t *)body.p + *at;
    uint32_t size, metadata_n;
    memcpy(&size, p, 4);
    memcpy(&metadata_n, p + 4, 4);
    uint64_t need = ITEM_HEAD + (uint64_t)dimensions * 4 + p[8] + p[9] + metadata_n;
    if (size > body.n - *at || size % 8 != 0 || size != round8(need) || p[8] == 0)
        return false;
    *out = sv_vec_log_stored((const uint8_t *)body.p, *at, dimensions);
    *at += size;
    return true;
}

void sv_vec_log_add_id(sv_buf *body, sv_str id)
{
    sv_buf_addc(body, (char)id.n);
    sv_buf_add(body, id.p, id.n);
}

bool sv_vec_log_id(sv_str body, uint64_t *at, sv_str *out)
{
    if (*at >= body.n)
        return false;
    size_t n = (uint8_t)body.p[*at];
    if (n == 0 || n > body.n - *at - 1)
        return false;
    *out = (sv_str){body.p + *at + 1, n};
    *at += 1 + n;
    return true;
}
