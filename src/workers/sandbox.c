/* sandbox.c - what a Worker's process can still reach: its own files, its own sockets, nothing else
 *
 * workerd is no sandbox against a V8 bug, and has no limits of its own; the process is what we can cage. The layers, from the outside in:
 *   1. namespaces: mount (an empty root with the named paths bound read-only), pid, net (no interface: every byte goes through our
 *      unix sockets), ipc, uts, cgroup. As root directly, else inside a user namespace where the host allows those.
 *   2. an unprivileged uid of the folder's own (as root only; in a user namespace the mapping does it),
 *   3. Landlock: the same list of paths once more, for hosts without namespaces,
 *   4. seccomp: no sockets but AF_UNIX, no new namespaces, no io_uring, ptrace, bpf, mount, keys, perf.
 * Landlock does not cover connect() to unix sockets, so without namespaces the folders' modes (0700, our uid) stand alone there; that
 * is why the probe's result is logged.
 *
 * PR_SET_PDEATHSIG is cleared by a change of uid: the caller sets it after this. close(2) on everything else has been done by the caller. */
#include "workers/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#if defined(__x86_64__)
#define TRIPLET "x86_64-linux-gnu"
#define LOADER "/lib64"
#elif defined(__aarch64__)
#define TRIPLET "aarch64-linux-gnu"
#define LOADER "/lib/ld-linux-aarch64.so.1"
#endif

/* What every program needs: its libraries, and the one device that workerd reads (it asks no getrandom). */
static const char *const library_paths[] = {LOADER, "/lib/" TRIPLET, "/usr/lib/" TRIPLET, "/dev/urandom", NULL};

enum {
    NAMESPACES = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
    MAX_PATHS = 64, MAX_FILES = 4096,
    FIRST_UID = 61184, N_UIDS = 4096, /* the range that systemd keeps for dynamic users */
};

/* ---- mounts ---- */

typedef struct mount_point { int tree; char path[4096]; bool is_dir; } mount_point;

static sv_rc bind_open(mount_point *b, const char *path, bool writable, sv_err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "'%s'", path);
    b->is_dir = S_ISDIR(st.st_mode);
    snprintf(b->path, sizeof b->path, "%s", path);
    b->tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (b->tree < 0)
        return sv_fail_errno(err, "open_tree '%s'", path);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | (writable ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_RDONLY) | (S_ISCHR(st.st_mode) ? 0 : MOUNT_ATTR_NODEV)};
    if (syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0)
        return sv_fail_errno(err, "mount_setattr '%s'", path);
    return SV_OK;
}

static sv_rc bind_attach(const mount_point *b, const char *root, sv_err *err)
{
    char target[4200];
    snprintf(target, sizeof target, "%s%s", root, b->path);
    char *slash = strrchr(target, '/');
    *slash = 0;
    if (sv_mkdir_p(target, 0755, err) != SV_OK)
        return err->code;
    *slash = '/';
    if (b->is_dir) {
        if (mkdir(target, 0755) < 0 && errno != EEXIST)
            return sv_fail_errno(err, "mkdir '%s'", target);
    } else {
        int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            return sv_fail_errno(err, "create '%s'", target);
        close(fd);
    }
    if (syscall(SYS_move_mount, b->tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return sv_fail_errno(err, "mount '%s'", target);
    return SV_OK;
}

/* The trees are taken before the new root hides them: the root is a tmpfs on /tmp, and paths may lie below that. */
static sv_rc new_root(const sv_sandbox *s, sv_err *err)
{
    static mount_point binds[MAX_PATHS];
    int n = 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return sv_fail_errno(err, "make mounts private");
    for (int i = 0; library_paths[i]; i++)
        if (sv_file_exists(library_paths[i]) && bind_open(&binds[n++], library_paths[i], false, err) != SV_OK)
            return err->code;
    const char *const *const lists[] = {s->read_paths, s->write_paths};
    for (int k = 0; k < 2; k++)
        for (int i = 0; lists[k] && lists[k][i]; i++)
            if (n == MAX_PATHS)
                return sv_fail(err, SV_ELIMIT, "more than %d paths", MAX_PATHS);
            else if (bind_open(&binds[n++], lists[k][i], k == 1, err) != SV_OK)
                return err->code;

    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") < 0)
        return sv_fail_errno(err, "mount the new root");
    for (int i = 0; i < n; i++) {
        if (bind_attach(&binds[i], "/tmp", err) != SV_OK)
            return err->code;
        close(binds[i].tree);
    }
    if (chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return sv_fail_errno(err, "pivot_root");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
        return sv_fail_errno(err, "make the root read-only");
    return SV_OK;
}

/* ---- identity ---- */

static uid_t given_to; /* nftw takes no argument for its function; this process has one thread */

static sv_rc write_text(const char *path, const char *text, sv_err *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return sv_fail_errno(err, "open '%s'", path);
    sv_rc rc = sv_write_all(fd, text, strlen(text), err);
    close(fd);
    return rc;
}

/* First thing inside a user namespace: we are nobody until the maps are written. */
static sv_rc map_user(uid_t uid, gid_t gid, sv_err *err)
{
    char line[64];
    if (write_text("/proc/self/setgroups", "deny", err) != SV_OK)
        return err->code;
    snprintf(line, sizeof line, "0 %u 1", (unsigned)uid);
    if (write_text("/proc/self/uid_map", line, err) != SV_OK)
        return err->code;
    snprintf(line, sizeof line, "0 %u 1", (unsigned)gid);
    return write_text("/proc/self/gid_map", line, err);
}

static int give_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return lchown(path, (uid_t)given_to, (gid_t)given_to);
}

/* Its own folders, to the uid that it will have: only when another had them, which is when they are new or the unit has changed. */
static sv_rc give(const char *path, uid_t uid, sv_err *err)
{
    struct stat st;
    given_to = uid;
    if (stat(path, &st) < 0)
        return sv_fail_errno(err, "'%s'", path);
    if (st.st_uid != uid && nftw(path, give_one, 16, FTW_PHYS | FTW_DEPTH) != 0) /* the folder itself last: cut halfway, it is begun again */
        return sv_fail_errno(err, "give '%s' to uid %u", path, (unsigned)uid);
    return SV_OK;
}

static sv_rc drop_uid(const sv_sandbox *s, sv_err *err)
{
    bool writes = s->write_paths && s->write_paths[0];
    const char *seed = writes ? s->write_paths[0] : s->read_paths && s->read_paths[0] ? s->read_paths[0] : "";
    uid_t uid = FIRST_UID + (uid_t)(sv_hash64(seed, strlen(seed), 0) % N_UIDS);
    for (int i = 0; writes && s->write_paths[i]; i++)
        if (give(s->write_paths[i], uid, err) != SV_OK)
            return err->code;
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return sv_fail_errno(err, "change to uid %u", (unsigned)uid);
    return SV_OK;
}

/* ---- Landlock ---- */

static int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static void landlock_allow(int ruleset, const char *path, uint64_t rights)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return; /* not there: nothing to allow */
    uint64_t file_only = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rights &= file_only;
    struct landlock_path_beneath_attr a = {.allowed_access = rights, .parent_fd = fd};
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
    close(fd);
}

static sv_rc landlock_enter(const sv_sandbox *s, sv_err *err)
{
    if (landlock_abi() < 1)
        return SV_OK; /* an older kernel: reported by the probe */
    uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* the rights of ABI 1, which every Landlock kernel knows */
    uint64_t read = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    struct landlock_ruleset_attr attr = {.handled_access_fs = all};
    SV_AUTO(sv_fd_closep) int rs = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (rs < 0)
        return sv_fail_errno(err, "landlock_create_ruleset");
    for (int i = 0; library_paths[i]; i++)
        landlock_allow(rs, library_paths[i], read);
    for (int i = 0; s->read_paths && s->read_paths[i]; i++)
        landlock_allow(rs, s->read_paths[i], read);
    for (int i = 0; s->write_paths && s->write_paths[i]; i++)
        landlock_allow(rs, s->write_paths[i], all & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
    if (syscall(SYS_landlock_restrict_self, rs, 0) < 0)
        return sv_fail_errno(err, "landlock_restrict_self");
    return SV_OK;
}

/* ---- seccomp ---- */

static const int denied_calls[] = {
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(keyctl), SCMP_SYS(add_key),
    SCMP_SYS(request_key), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
    SCMP_SYS(fsmount), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(kexec_load),
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(open_by_handle_at), SCMP_SYS(reboot),
    SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(syslog), SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp), SCMP_SYS(personality), SCMP_SYS(memfd_secret),
};

static sv_rc seccomp_enter(sv_err *err)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    if (!f)
        return sv_fail(err, SV_ENOMEM, "seccomp_init");
    int rc = 0;
    for (size_t i = 0; i < SV_LEN(denied_calls) && rc == 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), denied_calls[i], 0);
    if (rc == 0) /* its flags lie in memory, where a filter cannot look: glibc falls back to clone */
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (rc == 0) /* threads only */
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_NE, AF_UNIX));
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    return rc == 0 ? SV_OK : sv_fail(err, SV_EIO, "seccomp: %s", strerror(-rc));
}

/* ---- entry ---- */

static void limits(const sv_sandbox *s)
{
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){MAX_FILES, MAX_FILES});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (s->data_bytes)
        setrlimit(RLIMIT_DATA, &(struct rlimit){(rlim_t)s->data_bytes, (rlim_t)s->data_bytes});
}

/* The uid this process had before it entered a user namespace; read by the parent's side of clone. */
static uid_t outer_uid;
static gid_t outer_gid;

sv_rc sv_sandbox_enter(const sv_sandbox *s, sv_err *err)
{
    int flags = sv_sandbox_clone_flags();
    limits(s);
    if ((flags & CLONE_NEWUSER) && map_user(outer_uid, outer_gid, err) != SV_OK)
        return sv_wrap(err, "user namespace");
    if (flags) {
        if (new_root(s, err) != SV_OK)
            return sv_wrap(err, "root");
        if (!(flags & CLONE_NEWUSER) && drop_uid(s, err) != SV_OK)
            return err->code;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return sv_fail_errno(err, "no_new_privs");
    if (landlock_enter(s, err) != SV_OK)
        return err->code;
    return seccomp_enter(err);
}

/* Tries the whole cage once, around a child that exits at once. */
static bool cage_works(unsigned long flags, int as_if);

static int clone_flags = -1;

int sv_sandbox_clone_flags(void)
{
    if (clone_flags >= 0)
        return clone_flags;
    outer_uid = getuid();
    outer_gid = getgid();
    int tries[] = {NAMESPACES, NAMESPACES | CLONE_NEWUSER};
    for (size_t i = outer_uid == 0 ? 0 : 1; i < SV_LEN(tries); i++)
        if (cage_works((unsigned long)tries[i], tries[i]))
            return clone_flags = tries[i];
    return clone_flags = 0;
}

static bool cage_works(unsigned long flags, int as_if)
{
    pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        clone_flags = as_if;
        sv_err err = {0};
        sv_sandbox none = {.on = true};
        _exit(sv_sandbox_enter(&none, &err) == SV_OK ? 0 : 1);
    }
    int status = 1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int sv_sandbox_probe(void)
{
    int flags = sv_sandbox_clone_flags(), cage = 0;
    if (flags)
        cage |= SV_CAGE_NAMESPACES;
    if (flags && !(flags & CLONE_NEWUSER))
        cage |= SV_CAGE_UID;
    if (landlock_abi() >= 1)
        cage |= SV_CAGE_LANDLOCK;
    return cage;
}
