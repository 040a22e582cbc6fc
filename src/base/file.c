/* file.c - files as the stores need them: whole reads with a cap, replacement that survives a power cut, safe removal */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

sv_rc sv_file_read(sv_buf *out, const char *path, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return sv_fail(err, SV_EINVAL, "'%s' is a folder", path);
    for (;;) {
        char block[16384];
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sv_fail_errno(err, "read '%s'", path);
        if (n == 0)
            return SV_OK;
        if (!sv_buf_add(out, block, (size_t)n))
            return sv_fail(err, SV_ELIMIT, "'%s' is over %zu bytes", path, out->max);
    }
}

sv_rc sv_write_all(int fd, const void *p, size_t n, sv_err *err)
{
    for (const char *at = p; n > 0;) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return sv_fail_errno(err, "write %zu bytes", n);
        at += k;
        n -= (size_t)k;
    }
    return SV_OK;
}

sv_rc sv_sync(const char *path, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return sv_fail_errno(err, "sync '%s'", path);
    return SV_OK;
}

sv_rc sv_sync_parent(const char *path, sv_err *err)
{
    SV_AUTO(sv_freep) char *dir = sv_xstrdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    return sv_sync(slash ? dir : ".", err);
}

sv_rc sv_file_replace(const char *path, const void *p, size_t n, mode_t mode, sv_err *err)
{
    SV_AUTO(sv_freep) char *beside = sv_xasprintf("%s.XXXXXX", path);
    SV_AUTO(sv_fd_closep) int fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "make '%s'", beside);
    if (sv_write_all(fd, p, n, err) != SV_OK) {
        unlink(beside);
        return sv_wrap(err, "'%s'", path);
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(beside, path) < 0) {
        sv_fail_errno(err, "replace '%s'", path);
        unlink(beside);
        return err->code;
    }
    return sv_sync_parent(path, err);
}

sv_rc sv_mkdir_p(const char *path, mode_t mode, sv_err *err)
{
    SV_AUTO(sv_freep) char *at = sv_xstrdup(path);
    for (char *p = at + 1; at[0]; p++) {
        bool end = *p == 0;
        if (*p != '/' && !end)
            continue;
        *p = 0;
        struct stat st;
        if (mkdir(at, mode) < 0 && (errno != EEXIST || stat(at, &st) < 0 || !S_ISDIR(st.st_mode)))
            return sv_fail_errno(err, "make folder '%s'", at);
        if (end)
            return SV_OK;
        *p = '/';
    }
    return sv_fail(err, SV_EINVAL, "a folder needs a name");
}

/* Removes `name` in the folder `dir_fd`; by descriptors, so that a link swapped in under us is removed and not followed. */
static int remove_at(int dir_fd, const char *name, int depth)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if ((errno != EISDIR && errno != EPERM) || depth > 64)
        return -1;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        sv_fd_closep(&fd);
        return -1;
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = remove_at(fd, e->d_name, depth + 1);
    closedir(d);
    return rc == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -1 : rc;
}

sv_rc sv_remove_tree(const char *path, sv_err *err)
{
    if (remove_at(AT_FDCWD, path, 0) < 0)
        return sv_fail_errno(err, "remove '%s'", path);
    return SV_OK;
}

bool sv_file_exists(const char *path) { return access(path, F_OK) == 0; }

sv_rc sv_map_open(sv_map *out, const char *path, sv_err *err)
{
    SV_AUTO(sv_fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return sv_fail_errno(err, "open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return sv_fail(err, SV_EINVAL, "'%s' is not a file", path);
    if (st.st_size == 0) /* mmap would refuse it with a worse message */
        return sv_fail(err, SV_EFORMAT, "'%s' is empty", path);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return sv_fail_errno(err, "map '%s'", path);
    *out = (sv_map){p, (size_t)st.st_size};
    return SV_OK;
}

void sv_map_close(sv_map *m)
{
    if (m && m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
    if (m)
        *m = (sv_map){0};
}

static sv_rc unix_socket(int *fd, struct sockaddr_un *a, const char *path, sv_err *err)
{
    if (strlen(path) >= sizeof a->sun_path)
        return sv_fail(err, SV_ELIMIT, "socket path '%s' is over %zu bytes", path, sizeof a->sun_path - 1);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(a->sun_path, path, strlen(path) + 1);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return *fd < 0 ? sv_fail_errno(err, "socket") : SV_OK;
}

sv_rc sv_unix_listen(int *fd, const char *path, int backlog, sv_err *err)
{
    struct sockaddr_un a;
    SV_AUTO(sv_fd_closep) int s = -1;
    if (unix_socket(&s, &a, path, err) != SV_OK)
        return err->code;
    if (unlink(path) < 0 && errno != ENOENT)
        return sv_fail_errno(err, "replace socket '%s'", path);
    if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, backlog) < 0)
        return sv_fail_errno(err, "listen at '%s'", path);
    *fd = s;
    s = -1;
    return SV_OK;
}

sv_rc sv_unix_connect(int *fd, const char *path, sv_err *err)
{
    struct sockaddr_un a;
    SV_AUTO(sv_fd_closep) int s = -1;
    if (unix_socket(&s, &a, path, err) != SV_OK)
        return err->code;
    if (connect(s, (struct sockaddr *)&a, sizeof a) < 0)
        return sv_fail_errno(err, "connect to '%s'", path);
    *fd = s;
    s = -1;
    return SV_OK;
}
