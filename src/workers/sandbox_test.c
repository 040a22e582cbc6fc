#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "workers/sandbox.h"

static char inside[64], outside[64];

static int make_dirs(void **state)
{
    (void)state;
    snprintf(inside, sizeof inside, "/tmp/sv-cage-in-XXXXXX");
    snprintf(outside, sizeof outside, "/tmp/sv-cage-out-XXXXXX");
    sv_err err = {0};
    char path[128];
    if (!mkdtemp(inside) || !mkdtemp(outside))
        return -1;
    chmod(inside, 0777); /* so that only the cage forbids writing */
    snprintf(path, sizeof path, "%s/file", inside);
    if (sv_file_replace(path, "in", 2, 0644, &err) != SV_OK)
        return -1;
    snprintf(path, sizeof path, "%s/file", outside);
    return sv_file_replace(path, "out", 3, 0644, &err);
}

static int drop_dirs(void **state)
{
    (void)state;
    sv_err err = {0};
    return sv_remove_tree(inside, &err) | sv_remove_tree(outside, &err);
}

/* Runs `fn` in the cage; its return value is the child's exit status, 99 when the cage could not be entered. */
static int caged(int (*fn)(void))
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a sanitizer's shadow memory does not fit under the cage's RLIMIT_DATA */
#endif
    const char *read[] = {inside, NULL};
    sv_sandbox s = {.on = true, .read_paths = read, .data_bytes = (int64_t)1 << 30};
    pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)sv_sandbox_clone_flags() | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        sv_err err = {0};
        if (sv_sandbox_enter(&s, &err) != SV_OK) {
            fprintf(stderr, "%s\n", err.msg);
            _exit(99);
        }
        _exit(fn());
    }
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool opens(const char *dir, const char *name, int flags)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, flags, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int try_files(void)
{
    return (!opens(inside, "file", O_RDONLY)) | opens(inside, "file", O_WRONLY) << 1 | opens(inside, "new", O_WRONLY | O_CREAT) << 2 |
           opens(outside, "file", O_RDONLY) << 3 | opens("/etc", "passwd", O_RDONLY) << 4 | opens("/proc", "self/environ", O_RDONLY) << 5;
}

static void a_cage_shows_its_own_files_and_no_others(void **state)
{
    (void)state;
    assert_int_equal(caged(try_files), 0);
}

static int try_network(void)
{
    int inet = socket(AF_INET, SOCK_STREAM, 0), inet6 = socket(AF_INET6, SOCK_DGRAM, 0), raw = socket(AF_PACKET, SOCK_RAW, 0);
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    return (inet >= 0) | (inet6 >= 0) << 1 | (raw >= 0) << 2 | (local < 0) << 3;
}

static void a_cage_has_no_network_but_unix_sockets(void **state)
{
    (void)state;
    assert_int_equal(caged(try_network), 0);
}

static void *nothing(void *arg) { return arg; }

static int try_calls(void)
{
    pthread_t t;
    int thread = pthread_create(&t, NULL, nothing, NULL);
    if (thread == 0)
        pthread_join(t, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return (thread != 0) | (child > 0) << 1 | (unshare(CLONE_NEWUSER) == 0) << 2 | (mount("none", "/", "tmpfs", 0, NULL) == 0) << 3 |
           (syscall(SYS_bpf, 0, NULL, 0) >= 0) << 4 | (kill(getppid(), 0) == 0 && getppid() != 0) << 5;
}

static void a_cage_has_threads_but_no_children_and_no_dangerous_calls(void **state)
{
    (void)state;
    if (!(sv_sandbox_probe() & SV_CAGE_NAMESPACES))
        skip(); /* without a pid namespace the parent can be seen */
    assert_int_equal(caged(try_calls), 0);
}

static int eat_memory(void)
{
    for (int i = 0; i < 64; i++) {
        char *p = malloc(64 << 20);
        if (!p)
            return 42;
        p[0] = 1; /* the address space is what is limited */
    }
    return 0;
}

static void memory_ends_at_the_limit_with_null(void **state)
{
    (void)state;
    assert_int_equal(caged(eat_memory), 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cage_shows_its_own_files_and_no_others),
        cmocka_unit_test(a_cage_has_no_network_but_unix_sockets),
        cmocka_unit_test(a_cage_has_threads_but_no_children_and_no_dangerous_calls),
        cmocka_unit_test(memory_ends_at_the_limit_with_null),
    };
    return cmocka_run_group_tests(tests, make_dirs, drop_dirs);
}
