/* packed.c - packed weights in a file of their own, so that a model is packed once and mapped ever after
 *
 * Packing a billion weights takes seconds and as much memory as the weights have; mapping them takes neither. The file, little-endian, is
 *
 *     head     magic, layout, sizes, SHA-256 of all that follows up to the matrices (and of the head itself)
 *     source   text: a line for each file of the model (path, device and number, size, time)
 *     entries  of each matrix: type, dims, place, hash of its packed bytes
 *     matrices packed (nn/pack.c), from a multiple of 4096 on
 *
 * and is named after the model's path. A head that is not exactly what these matrices would be given now (other weights under that path, a newer
 * layout, a cut file) makes it as good as absent, and it is written again.
 *
 * Damage to the matrices themselves shows only by reading them, which a start should not: a load touches the pages it computes with, and a
 * step reads each byte once. So the file bears a seal: its modification time is made of its head's hash. Whoever writes to the file, or
 * copies it, breaks the seal unknowingly; then all hashes are checked once, and it is sealed again or written again.
 *
 * Writing goes beside, in stretches, syncs and renames, so a power cut leaves the old file or the new one. A process that died while it wrote leaves a
 * .tmp; as nobody holds its lock, the next writer takes it away, as it does files whose model is gone. */
#include "models/packed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "nn/pack.h"

enum { MAX_PATH = 4200, MATRICES_ALIGN = 4096, STRETCH = 4 << 20 };
static const char magic[8] = "SVPACKED";

typedef struct head {
    char magic[8];
    uint32_t layout, n_entries;
    uint64_t n_source, matrices_at, n_bytes; /* of the source; where matrices begin; of the file */
    uint8_t sha256[32];                      /* of head (this as zeros), source and entries */
} head;

typedef struct entry {
    uint64_t type, n_in, n_out, at, n_bytes, hash; /* at: from the first matrix */
} entry;

static void path_of(char out[MAX_PATH], const char *folder, const char *model)
{
    uint8_t hash[32];
    char hex[33];
    sv_sha256(hash, model, strlen(model));
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    snprintf(out, MAX_PATH, "%s/%s.packed", folder, hex);
}

sv_rc sv_packed_source(sv_buf *out, const char *path, sv_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return sv_fail_errno(err, "open '%s'", path);
    sv_buf_addf(out, "%s\t%ju:%ju\t%jd\t%jd.%09ld\n", path, (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                st.st_mtim.tv_nsec);
    return SV_OK;
}

void sv_packed_offsets(const sv_packing *p, size_t *at)
{
    at[0] = 0;
    for (size_t i = 0; i < p->n; i++)
        at[i + 1] = at[i] + sv_packed_bytes(p->w[i]);
}

/* All that precedes the matrices; hashes are zeros, and so is the SHA-256. */
static head *prelude(size_t *n_bytes, const sv_packing *p)
{
    size_t n = sizeof(head) + (p->source.n + 7) / 8 * 8 + p->n * sizeof(entry), at = 0;
    size_t matrices_at = (n + MATRICES_ALIGN - 1) / MATRICES_ALIGN * MATRICES_ALIGN;
    uint8_t *bytes = sv_xcalloc(1, n);
    entry *entries = (entry *)(void *)(bytes + n) - p->n;
    for (size_t i = 0; i < p->n; i++) {
        const sv_tensor *w = p->w[i];
        entries[i] = (entry){w->type, (uint64_t)w->dims[0], (uint64_t)w->dims[1], at, sv_packed_bytes(w), 0};
        at += entries[i].n_bytes;
    }
    head h = {.layout = SV_PACK_VERSION, .n_entries = (uint32_t)p->n, .n_source = p->source.n, .matrices_at = matrices_at, .n_bytes = matrices_at + at};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(bytes, &h, sizeof h);
    memcpy(bytes + sizeof h, p->source.p, p->source.n);
    *n_bytes = n;
    return (head *)(void *)bytes;
}

static void hash_prelude(uint8_t out[32], const head *h, size_t n)
{
    head *copy = sv_xcalloc(1, n);
    memcpy(copy, h, n);
    memset(copy->sha256, 0, sizeof copy->sha256);
    sv_sha256(out, copy, n);
    free(copy);
}

static struct timespec seal_of(const head *h)
{
    uint64_t v;
    memcpy(&v, h->sha256, sizeof v);
    return (struct timespec){.tv_sec = (time_t)(1000000000 + v % 500000000), .tv_nsec = (long)(v >> 32) % 1000000000};
}

static bool seal(int fd, const head *h)
{
    const struct timespec t = seal_of(h), times[2] = {t, t};
    return futimens(fd, times) == 0;
}

/* Hashes go over stretches of whole groups, each beginning with the one before. */
static size_t stretch_bytes(size_t group_bytes)
{
    return STRETCH / group_bytes * group_bytes;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static bool matrices_are_whole(const sv_map *map, const head *h, const entry *e)
{
    for (uint32_t i = 0; i < h->n_entries; i++) {
        const uint8_t *p = map->p + h->matrices_at + e[i].at;
        size_t n = stretch_bytes(e[i].n_bytes / ((e[i].n_out + SV_PACK_ROWS - 1) / SV_PACK_ROWS));
        uint64_t hash = 0;
        for (size_t at = 0; at < e[i].n_bytes; at += n)
            hash = sv_hash64(p + at, e[i].n_bytes - at < n ? e[i].n_bytes - at : n, hash);
        if (hash != e[i].hash)
            return false;
    }
    return true;
}

/* Is this the file of `want`, a prelude of n bytes? */
static sv_rc check(const sv_map *map, int fd, const head *want, size_t n, const char *path, sv_err *err)
{
    const head *h = (const head *)(const void *)map->p;
    struct stat st;
    uint8_t sha256[32];
    if (map->n < n || memcmp(h->magic, magic, sizeof magic) != 0)
        return sv_fail(err, SV_ENOENT, "'%s' is no file of packed weights", path);
    if (h->layout != want->layout || h->n_entries != want->n_entries || h->n_source != want->n_source || h->matrices_at != want->matrices_at ||
        memcmp(h + 1, want + 1, want->n_source) != 0)
        return sv_fail(err, SV_ENOENT, "'%s' is of other weights", path);
    if (h->n_bytes != want->n_bytes || map->n != h->n_bytes)
        return sv_fail(err, SV_ENOENT, "'%s' has %zu bytes of %" PRIu64, path, map->n, want->n_bytes);
    hash_prelude(sha256, h, n);
    const entry *e = (const entry *)(const void *)(map->p + n) - want->n_entries, *we = (const entry *)(const void *)((const uint8_t *)want + n) - want->n_entries;
    bool same = memcmp(sha256, h->sha256, sizeof sha256) == 0;
    for (uint32_t i = 0; same && i < want->n_entries; i++)
        same = memcmp(&e[i], &we[i], offsetof(entry, hash)) == 0;
    if (!same)
        return sv_fail(err, SV_ENOENT, "'%s' has a damaged head", path);
    if (fstat(fd, &st) != 0)
        return sv_fail_errno(err, "stat '%s'", path);
    const struct timespec sealed = seal_of(h);
    if (st.st_mtim.tv_sec == sealed.tv_sec && st.st_mtim.tv_nsec == sealed.tv_nsec)
        return SV_OK;
    if (!matrices_are_whole(map, h, e))
        return sv_fail(err, SV_ENOENT, "'%s' has damaged weights", path);
    (void)seal(fd, h); /* of a file that is not ours: checked each time */
    return SV_OK;
}

sv_rc sv_packed_open(sv_map *map, const uint8_t **bytes, const char *folder, const sv_packing *p, sv_err *err)
{
    char path[MAX_PATH];
    sv_map m = {0};
    size_t n = 0;
    path_of(path, folder, p->path);
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sv_fail(err, SV_ENOENT, "'%s' is not there", path);
    if (sv_map_open(&m, path, err) != SV_OK)
        return sv_fail(err, SV_ENOENT, "'%s' cannot be mapped", path);
    SV_AUTO(sv_freep) head *want = prelude(&n, p);
    if (check(&m, fd, want, n, path, err) != SV_OK) {
        sv_map_close(&m);
        return err->code;
    }
    *bytes = m.p + want->matrices_at;
    *map = m;
    return SV_OK;
}

size_t sv_packed_size(const char *folder, const char *model)
{
    char path[MAX_PATH];
    struct stat st;
    path_of(path, folder, model);
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static sv_rc write_matrix(int fd, const sv_tensor *w, uint64_t *hash, uint8_t *stretch, sv_err *err)
{
    size_t group_bytes = sv_packed_bytes(w) / (size_t)sv_pack_groups(w);
    int64_t n_groups = sv_pack_groups(w), most = (int64_t)stretch_bytes(group_bytes) / (int64_t)group_bytes;
    for (int64_t g = 0, n; g < n_groups; g += n) {
        n = n_groups - g < most ? n_groups - g : most;
        sv_pack(stretch, w, g, g + n);
        *hash = sv_hash64(stretch, (size_t)n * group_bytes, *hash);
        if (sv_write_all(fd, stretch, (size_t)n * group_bytes, err) != SV_OK)
            return err->code;
    }
    return SV_OK;
}

/* The file's content, to its sync. */
static sv_rc write_all(int fd, const sv_packing *p, sv_err *err)
{
    size_t n = 0;
    SV_AUTO(sv_freep) head *h = prelude(&n, p);
    SV_AUTO(sv_freep) uint8_t *stretch = sv_try_aligned(STRETCH, 64);
    entry *e = (entry *)(void *)((uint8_t *)h + n) - p->n;
    if (!stretch)
        return sv_fail(err, SV_ENOMEM, "no memory to pack weights");
    if (lseek(fd, (off_t)h->matrices_at, SEEK_SET) < 0)
        return sv_fail_errno(err, "seek");
    for (size_t i = 0; i < p->n; i++) {
        if (write_matrix(fd, p->w[i], &e[i].hash, stretch, err) != SV_OK)
            return err->code;
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* so that the sync at the end has less to wait for */
    }
    hash_prelude(h->sha256, h, n);
    if (pwrite(fd, h, n, 0) != (ssize_t)n)
        return sv_fail_errno(err, "write");
    if (!seal(fd, h) || fsync(fd) != 0)
        return sv_fail_errno(err, "sync");
    return SV_OK;
}

/* Is this a file that nobody writes or can use any more? */
static bool is_rubbish(const char *path, const char *name)
{
    size_t n = strlen(name);
    head h;
    char source[MAX_PATH];
    bool is_temporary = n > 4 && strcmp(name + n - 4, ".tmp") == 0;
    if (!is_temporary && (n < 7 || strcmp(name + n - 7, ".packed") != 0))
        return false;
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (is_temporary)
        return flock(fd, LOCK_EX | LOCK_NB) == 0;
    ssize_t n_read = pread(fd, &h, sizeof h, 0), n_source = pread(fd, source, sizeof source - 1, sizeof h);
    if (n_read != (ssize_t)sizeof h || memcmp(h.magic, magic, sizeof magic) != 0 || n_source <= 0)
        return true;
    source[n_source] = '\0';
    char *tab = strchr(source, '\t'); /* the first of the model's files */
    if (!tab)
        return true;
    *tab = '\0';
    return access(source, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

static void sweep(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char path[MAX_PATH];
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path && is_rubbish(path, e->d_name))
            (void)unlink(path);
    }
    closedir(d);
}

sv_rc sv_packed_write(const char *folder, const sv_packing *p, sv_err *err)
{
    char path[MAX_PATH], beside[MAX_PATH];
    if (sv_mkdir_p(folder, 0700, err) != SV_OK)
        return err->code;
    sweep(folder);
    path_of(path, folder, p->path);
    if (snprintf(beside, sizeof beside, "%s/XXXXXX.tmp", folder) >= (int)sizeof beside)
        return sv_fail(err, SV_EINVAL, "the folder's name is too long");
    SV_AUTO(sv_fd_closep) int fd = mkostemps(beside, 4, O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "create '%s'", beside);
    (void)flock(fd, LOCK_EX);
    sv_rc rc = write_all(fd, p, err);
    if (rc == SV_OK && rename(beside, path) != 0)
        rc = sv_fail_errno(err, "rename '%s'", beside);
    if (rc == SV_OK)
        rc = sv_sync_parent(path, err);
    if (rc != SV_OK)
        (void)unlink(beside);
    return rc;
}
