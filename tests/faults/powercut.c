/* powercut.c - a disk that loses power, preloaded under the daemon (LD_PRELOAD)
 *
 * A kill keeps the page cache; a power cut does not. This library stands between the daemon and its files: it remembers, for everything
 * written since the last sync, what was there before, and when the file POWERCUT_DIR/cut appears it puts that back and ends the process. What the
 * file says is how much is lost:
 *
 *     all    everything since the last sync, names too: the oldest state that the disk may show
 *     some   of each 512 bytes a version picked at random: writes torn and out of order, names kept
 *
 * A sync does nothing to the real disk (the kernel outlives us), so a run is fast. With POWERCUT_LIE=1 syncs are forgotten as well: a test that
 * does not fail then tests nothing.
 *
 * The model: data of a file, and the name it was made under, last from fsync or fdatasync of the file; names (a rename, an unlink, a link) from
 * fsync of their folder. Watched are regular files below POWERCUT_ROOT, but for SQLite's -shm, which is memory. Only the process whose
 * first argument is "daemon" is touched. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_FD = 65536, SECTOR = 512 };

typedef struct node { dev_t dev; ino_t ino; int fd; bool folder; struct node *next; } node; /* fd: ours, to put things back by */
typedef enum kind { DATA, CREATE, RENAME, UNLINK, LINK } kind;
typedef struct record {
    struct record *prev, *next; /* in the order of the calls */
    kind kind;
    uint64_t seq;
    node *file;                 /* DATA, CREATE */
    off_t at, old_size;         /* DATA: old[n] was at `at`; bytes past old_size were not there */
    char *old;
    size_t n;
    ino_t folder, folder_to;    /* names: which folders' syncs keep it */
    char *path, *to, *saved;    /* saved: a link to what the name held, in POWERCUT_DIR */
} record;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static record *first, *last;
static node *nodes, *by_fd[MAX_FD];
static uint64_t seq, n_saved;
static char root[1024], dir[1024];
static bool on, lie;

#define REAL(ret, name, ...) static ret (*real_##name)(__VA_ARGS__)
REAL(int, open, const char *, int, ...);
REAL(int, openat, int, const char *, int, ...);
REAL(int, close, int);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
REAL(ssize_t, writev, int, const struct iovec *, int);
REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
REAL(int, ftruncate, int, off_t);
REAL(int, fallocate, int, int, off_t, off_t);
REAL(int, fsync, int);
REAL(int, fdatasync, int);
REAL(int, rename, const char *, const char *);
REAL(int, unlink, const char *);
REAL(int, linkat, int, const char *, int, const char *, int);

/* ---- what is remembered ---- */

static record *add(kind k)
{
    record *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->kind = k;
    r->seq = ++seq;
    r->prev = last;
    *(last ? &last->next : &first) = r;
    last = r;
    return r;
}

static void drop(record *r)
{
    *(r->prev ? &r->prev->next : &first) = r->next;
    *(r->next ? &r->next->prev : &last) = r->prev;
    if (r->saved)
        real_unlink(r->saved);
    free(r->old), free(r->path), free(r->to), free(r->saved), free(r);
}

static bool below_root(const char *path) { size_t n = strlen(root); return strncmp(path, root, n) == 0 && (path[n] == '/' || !path[n]); }

static node *node_of(const char *path, const struct stat *st)
{
    for (node *f = nodes; f; f = f->next)
        if (f->dev == st->st_dev && f->ino == st->st_ino)
            return f;
    node *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    *f = (node){.dev = st->st_dev, .ino = st->st_ino, .folder = S_ISDIR(st->st_mode), .next = nodes};
    f->fd = f->folder ? -1 : real_open(path, O_RDWR | O_CLOEXEC);
    return nodes = f;
}

/* Whether this call made the file is known by the look before it. */
static void opened(int fd, bool made)
{
    char link[64], path[2048];
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || fd >= MAX_FD || fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return;
    path[n] = 0;
    if (!below_root(path) || strstr(path, "-shm") || (n > 10 && strcmp(path + n - 10, " (deleted)") == 0))
        return;
    by_fd[fd] = node_of(path, &st);
    if (made && S_ISREG(st.st_mode)) {
        struct stat folder;
        record *r = add(CREATE);
        r->file = by_fd[fd];
        r->path = strdup(path);
        *strrchr(path, '/') = 0;
        r->folder = stat(path, &folder) == 0 ? folder.st_ino : 0;
    }
}

static node *watched(int fd) { node *f = fd >= 0 && fd < MAX_FD ? by_fd[fd] : NULL; return f && !f->folder && f->fd >= 0 ? f : NULL; }

/* Before [at, at + n) is written. */
static void remember(node *f, off_t at, size_t n)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return;
    record *r = add(DATA);
    r->file = f;
    r->at = at;
    r->old_size = st.st_size;
    if (at < st.st_size) {
        r->n = (off_t)n < st.st_size - at ? n : (size_t)(st.st_size - at);
        r->old = malloc(r->n);
        ssize_t got = r->old ? pread(f->fd, r->old, r->n, at) : -1;
        r->n = got > 0 ? (size_t)got : 0;
    }
}

static void synced(int fd)
{
    node *f = fd >= 0 && fd < MAX_FD ? by_fd[fd] : NULL;
    for (record *r = first, *next; f && !lie && r; r = next) {
        next = r->next;
        if (f->folder ? r->kind != DATA && (r->folder == f->ino || r->folder_to == f->ino) : r->file == f)
            drop(r);
    }
}

/* ---- the cut ---- */

static uint64_t mix(uint64_t x) { x ^= x >> 31; x *= 0x7fb5d329728ea185u; x ^= x >> 27; x *= 0x81dadef4bc2dd44du; return x ^ x >> 33; }

static void undo(const record *r)
{
    if (r->kind == DATA) {
        if (r->n && real_pwrite(r->file->fd, r->old, r->n, r->at) < 0)
            abort();
        struct stat st;
        if (fstat(r->file->fd, &st) == 0 && st.st_size != r->old_size && real_ftruncate(r->file->fd, r->old_size) != 0)
            abort();
    } else if (r->kind == CREATE || r->kind == LINK)
        real_unlink(r->path);
    else {
        if (r->kind == RENAME)
            real_rename(r->to, r->path);
        if (r->saved)
            real_rename(r->saved, r->kind == RENAME ? r->to : r->path);
    }
}

/* Of every sector its own moment: what was written after it is taken back. Sizes stay: a file that grew holds zeros where nothing arrived. */
static void undo_some(const record *r, uint64_t seed, uint64_t oldest)
{
    if (r->kind != DATA)
        return;
    struct stat st;
    off_t end = r->at + (off_t)r->n;
    if (fstat(r->file->fd, &st) == 0 && st.st_size < r->old_size && real_ftruncate(r->file->fd, r->old_size) != 0)
        abort();
    for (off_t at = r->at; at < end;) {
        off_t stop = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
        uint64_t moment = oldest + mix(seed ^ mix((uint64_t)r->file->ino) ^ (uint64_t)(at / SECTOR)) % (seq - oldest + 1);
        if (r->seq > moment && real_pwrite(r->file->fd, r->old + (at - r->at), (size_t)(stop - at), at) < 0)
            abort();
        at = stop;
    }
}

/* A sector past the old end that did not arrive reads as zeros. */
static void blank_some(const record *r, uint64_t seed, uint64_t oldest)
{
    static const char zeros[SECTOR];
    struct stat st;
    if (r->kind != DATA || fstat(r->file->fd, &st) != 0)
        return;
    for (off_t at = r->old_size > r->at ? r->old_size : r->at; at < st.st_size; at = (at / SECTOR + 1) * SECTOR) {
        uint64_t moment = oldest + mix(seed ^ mix((uint64_t)r->file->ino) ^ (uint64_t)(at / SECTOR)) % (seq - oldest + 1);
        off_t stop = (at / SECTOR + 1) * SECTOR < st.st_size ? (at / SECTOR + 1) * SECTOR : st.st_size;
        if (r->seq > moment && real_pwrite(r->file->fd, zeros, (size_t)(stop - at), at) < 0)
            abort();
    }
}

static void *wait_for_cut(void *arg)
{
    char path[1100], how[16] = "";
    (void)arg;
    snprintf(path, sizeof path, "%s/cut", dir);
    for (int fd; how[0] == 0; usleep(500))
        if ((fd = real_open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
            if (read(fd, how, sizeof how - 1) < 0)
                how[0] = 0;
            real_close(fd);
        }
    pthread_mutex_lock(&lock); /* for ever: nothing more reaches the disk */
    uint64_t seed = mix((uint64_t)getpid() ^ seq), oldest = first ? first->seq - 1 : seq;
    for (record *r = last; r; r = r->prev)
        if (how[0] == 'a')
            undo(r);
        else {
            undo_some(r, seed, oldest);
            blank_some(r, seed, oldest);
        }
    real_unlink(path);
    _exit(99);
}

__attribute__((constructor)) static void begin(void)
{
#define FIND(name) real_##name = (__typeof__(real_##name))dlsym(RTLD_NEXT, #name)
    FIND(open); FIND(openat); FIND(close); FIND(write); FIND(pwrite); FIND(writev); FIND(pwritev); FIND(ftruncate); FIND(fallocate);
    FIND(fsync); FIND(fdatasync); FIND(rename); FIND(unlink); FIND(linkat);
    char line[64] = "";
    int fd = real_open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, sizeof line - 1) : -1;
    real_close(fd);
    const char *r = getenv("POWERCUT_ROOT"), *d = getenv("POWERCUT_DIR");
    if (n < 0 || !r || !d || !memmem(line, (size_t)n, "\0daemon", 8))
        return;
    snprintf(root, sizeof root, "%s", r);
    snprintf(dir, sizeof dir, "%s", d);
    lie = getenv("POWERCUT_LIE") != NULL;
    on = true;
    pthread_t t;
    sigset_t all, before;
    sigfillset(&all); /* signals are the daemon's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&t, NULL, wait_for_cut, NULL) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(t);
}

/* ---- the calls ---- */

#define GUARD(call) do { if (!on) return call; } while (0)

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    struct stat st;
    pthread_mutex_lock(&lock);
    bool was = !(flags & O_CREAT) || fstatat(at, path, &st, 0) == 0;
    int fd = real_openat(at, path, flags & ~O_TRUNC, mode);
    int saved_errno = errno;
    if (fd >= 0) {
        opened(fd, !was);
        node *f = watched(fd);
        if ((flags & O_TRUNC) && f && fstat(fd, &st) == 0)
            remember(f, 0, (size_t)st.st_size);
        if ((flags & O_TRUNC) && real_ftruncate(fd, 0) != 0 && errno != EINVAL)
            saved_errno = errno;
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return fd;
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list ap; va_start(ap, flags); mode = va_arg(ap, mode_t); va_end(ap); }
int open(const char *path, int flags, ...) { MODE(flags) GUARD(real_open(path, flags, mode)); return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) GUARD(real_openat(at, path, flags, mode)); return open_at(at, path, flags, mode); }

int close(int fd)
{
    if (on && fd >= 0 && fd < MAX_FD) {
        pthread_mutex_lock(&lock);
        by_fd[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

static size_t total(const struct iovec *v, int n) { size_t sum = 0; for (int i = 0; i < n; i++) sum += v[i].iov_len; return sum; }
static off_t position(int fd) { return fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR); }

/* Sockets and the like go by without the lock: a write to them may wait. */
#define WRITE(call, at, n)                        \
    do {                                          \
        if (!on || !watched(fd))                  \
            return call;                          \
        pthread_mutex_lock(&lock);                \
        node *f = watched(fd);                    \
        if (f)                                    \
            remember(f, at, n);                   \
        __typeof__(call) done = call;             \
        int saved_errno = errno;                  \
        pthread_mutex_unlock(&lock);              \
        errno = saved_errno;                      \
        return done;                              \
    } while (0)
ssize_t write(int fd, const void *p, size_t n) { WRITE(real_write(fd, p, n), position(fd), n); }
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { WRITE(real_pwrite(fd, p, n, at), at, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { WRITE(real_writev(fd, v, n), position(fd), total(v, n)); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { WRITE(real_pwritev(fd, v, n, at), at, total(v, n)); }
int ftruncate(int fd, off_t size) { WRITE(real_ftruncate(fd, size), size, SIZE_MAX / 2); }
int fallocate(int fd, int mode, off_t at, off_t n) { WRITE(real_fallocate(fd, mode, at, n), at, 0); }

static int sync_fd(int fd)
{
    pthread_mutex_lock(&lock);
    synced(fd);
    pthread_mutex_unlock(&lock);
    return 0;
}
int fsync(int fd) { GUARD(real_fsync(fd)); return sync_fd(fd); }
int fdatasync(int fd) { GUARD(real_fdatasync(fd)); return sync_fd(fd); }

static ino_t folder_of(const char *path)
{
    struct stat st;
    char *p = strdup(path), *slash = p ? strrchr(p, '/') : NULL;
    if (slash)
        *slash = 0;
    ino_t ino = stat(slash ? p : ".", &st) == 0 ? st.st_ino : 0;
    free(p);
    return ino;
}

static char *absolute(const char *path)
{
    char *p = NULL, cwd[1024];
    if (path[0] == '/')
        return strdup(path);
    return getcwd(cwd, sizeof cwd) && asprintf(&p, "%s/%s", cwd, path) > 0 ? p : NULL;
}

static char *save(const char *path)
{
    char *p = NULL;
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || asprintf(&p, "%s/saved-%llu", dir, (unsigned long long)++n_saved) < 0)
        return NULL;
    real_unlink(p);
    if (real_linkat(AT_FDCWD, path, AT_FDCWD, p, 0) == 0)
        return p;
    free(p);
    return NULL;
}

int rename(const char *from, const char *to)
{
    GUARD(real_rename(from, to));
    pthread_mutex_lock(&lock);
    char *a = absolute(from), *b = absolute(to), *kept = b && below_root(b) ? save(b) : NULL;
    int rc = real_rename(from, to), saved_errno = errno;
    if (rc == 0 && a && b && below_root(b)) {
        record *r = add(RENAME);
        r->path = a, r->to = b, r->saved = kept;
        r->folder = folder_of(a), r->folder_to = folder_of(b);
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return rc;
}

int unlink(const char *path)
{
    GUARD(real_unlink(path));
    pthread_mutex_lock(&lock);
    char *a = absolute(path), *kept = a && below_root(a) ? save(a) : NULL;
    int rc = real_unlink(path), saved_errno = errno;
    if (rc == 0 && kept) {
        record *r = add(UNLINK);
        r->path = a, r->saved = kept, r->folder = folder_of(a);
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return rc;
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    GUARD(real_linkat(from_at, from, to_at, to, flags));
    pthread_mutex_lock(&lock);
    int rc = real_linkat(from_at, from, to_at, to, flags), saved_errno = errno;
    char *b = rc == 0 ? absolute(to) : NULL;
    if (b && below_root(b)) {
        record *r = add(LINK);
        r->path = b, r->folder = folder_of(b);
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
    return rc;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* The names that programs built for large files use; on 64-bit machines they mean the same. */
int open64(const char *path, int flags, ...) { MODE(flags) GUARD(real_open(path, flags, mode)); return open_at(AT_FDCWD, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) GUARD(real_openat(at, path, flags, mode)); return open_at(at, path, flags, mode); }
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) { return pwrite(fd, p, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at) { return pwritev(fd, v, n, at); }
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int fallocate64(int fd, int mode, off_t at, off_t n) { return fallocate(fd, mode, at, n); }
