/* Cages: what a function inside says comes out, and whatever it does stays inside */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cage.h"
#include "base/thread.h"
#include "base/time.h"

static sv_rc backwards(sv_str in, sv_buf *out, sv_err *err)
{
    (void)err;
    for (size_t i = in.n; i-- > 0;)
        sv_buf_addc(out, in.p[i]);
    return SV_OK;
}

static volatile unsigned sink;

static sv_rc misbehaves(sv_str in, sv_buf *out, sv_err *err)
{
    switch (in.n ? in.p[0] : 0) {
    case 'r': return sv_fail_api(err, SV_ELIMIT, 3006, "refused: %.*s", (int)in.n, in.p);
    case 'c': __builtin_trap();
    case 'a': abort();
    case 'x': _exit(0);
    case 'l':
        for (;;)
            sink++;
    case 'm': { /* 1 GiB of the 256 MiB */
        size_t n = (size_t)1 << 30;
        char *p = malloc(n);
        if (!p)
            return sv_fail(err, SV_ENOMEM, "no memory");
        for (size_t i = 0; i < n; i += 4096)
            p[i] = 1;
        sink = (unsigned char)p[n / 2];
        return SV_OK;
    }
    case 'o': return sv_buf_addc(out, open("/etc/passwd", O_RDONLY) >= 0 ? '1' : '0') ? SV_OK : SV_EIO;
    case 's': return sv_buf_addc(out, socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? '1' : '0') ? SV_OK : SV_EIO;
    case 'b': { /* more than may come out */
        char part[4096] = {0};
        for (int i = 0; i < 2000; i++)
            sv_buf_add(out, part, sizeof part);
        return SV_OK;
    }
    default: return SV_OK;
    }
}

static const sv_cage_fn fns[] = {backwards, misbehaves};
static const sv_cage_opts opts = {.max_memory = 256 << 20, .max_cpu_s = 1, .max_out = 4 << 20, .max_in = 8 << 20, .max_at_once = 2};

static sv_cage *cage(void)
{
    sv_cage *c = NULL;
    sv_err err = {0};
    assert_int_equal(sv_cage_new(&c, fns, 2, &opts, &err), SV_OK);
    return c;
}

static sv_rc run(sv_cage *c, int fn, const char *in, sv_buf *out, sv_err *err)
{
    sv_buf_reset(out);
    *err = (sv_err){0};
    return sv_cage_run(c, fn, sv_str_of(in), (sv_str){0}, out, NULL, err);
}

/* Whether any process of the cage's mother still computes. */
static int n_children(int mother)
{
    char path[64];
    int n = 0, pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", mother, mother);
    FILE *f = fopen(path, "r");
    while (f && fscanf(f, "%d", &pid) == 1)
        n++;
    if (f)
        fclose(f);
    return n;
}

static int mother_of_cage(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%d", &pid) != 1)
        pid = 0;
    if (f)
        fclose(f);
    return pid;
}

static void what_a_run_makes_comes_out(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    SV_AUTO(sv_buf_donep) sv_buf out;
    SV_AUTO(sv_freep) char *big = malloc(3 << 20);
    sv_err err = {0};
    (void)state;
    sv_buf_init(&out, 0);
    sv_buf_adds(&out, "before ");
    assert_int_equal(sv_cage_run(c, 0, SV_STR("abc"), SV_STR("def"), &out, NULL, &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&out), "before fedcba");
    for (int i = 0; i < 3 << 20; i++)
        big[i] = (char)i;
    sv_buf_reset(&out);
    assert_int_equal(sv_cage_run(c, 0, (sv_str){0}, (sv_str){big, 3 << 20}, &out, NULL, &err), SV_OK); /* more than a socket holds, both ways */
    assert_int_equal(out.n, 3 << 20);
    for (int i = 0; i < 3 << 20; i++)
        assert_int_equal(out.p[i], big[(3 << 20) - 1 - i]);
    assert_int_equal(run(c, 0, "", &out, &err), SV_OK);
    assert_int_equal(out.n, 0);
}

static void a_refusal_keeps_its_sentence_and_code(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&out, 0);
    assert_int_equal(run(c, 1, "really", &out, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 3006);
    assert_string_equal(err.msg, "refused: really");
}

static void a_run_that_crashes_hangs_or_grows_fails_alone(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&out, 0);
    static const char *const crashes[] = {"c", "a", "x", "l"};
    for (size_t i = 0; i < SV_LEN(crashes); i++) {
        assert_int_equal(run(c, 1, crashes[i], &out, &err), SV_EFORMAT);
        assert_non_null(strstr(err.msg, "ended without an answer"));
        assert_int_equal(out.n, 0);
    }
    assert_int_equal(run(c, 1, "b", &out, &err), SV_ELIMIT);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_int_equal(run(c, 1, "m", &out, &err), SV_ENOMEM);
#endif
    SV_AUTO(sv_freep) char *big = calloc(9 << 20, 1);
    assert_int_equal(sv_cage_run(c, 0, (sv_str){0}, (sv_str){big, 9 << 20}, &out, NULL, &err), SV_ELIMIT);
    assert_int_equal(run(c, 0, "still here", &out, &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&out), "ereh llits");
}

static void nothing_inside_opens_files_or_sockets(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&out, 0);
    for (const char *what = "os"; *what; what++) { /* killed for it; under a sanitizer refused */
        char in[2] = {*what, 0};
        sv_rc rc = run(c, 1, in, &out, &err);
        assert_true(rc == SV_EFORMAT || (rc == SV_OK && out.p[0] == '0'));
    }
}

static void a_mother_that_is_killed_is_replaced(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_err err = {0};
    (void)state;
    sv_buf_init(&out, 0);
    int pid = mother_of_cage();
    if (!pid)
        skip();
    kill(pid, SIGKILL);
    for (int i = 0; i < 3; i++) { /* the first may meet her while she dies */
        sv_rc rc = run(c, 0, "ab", &out, &err);
        assert_true(rc == SV_OK || i == 0);
    }
    assert_string_equal(sv_buf_cstr(&out), "ba");
}

typedef struct job { sv_cage *c; _Atomic bool cancel; sv_rc rc; } job;

static void *hang(void *arg)
{
    job *j = arg;
    sv_buf out;
    sv_err err = {0};
    sv_buf_init(&out, 0);
    j->rc = sv_cage_run(j->c, 1, SV_STR("l"), (sv_str){0}, &out, &j->cancel, &err);
    sv_buf_done(&out);
    return NULL;
}

static void a_run_can_be_taken_back(void **state)
{
    sv_cage *c = NULL;
    sv_err err = {0};
    (void)state;
    assert_int_equal(sv_cage_new(&c, fns, 2, &(sv_cage_opts){.max_cpu_s = 3600}, &err), SV_OK);
    job j = {.c = c, .cancel = false};
    pthread_t t = sv_thread_start("hang", hang, &j);
    int mother = mother_of_cage();
    while (mother && n_children(mother) == 0)
        usleep(1000);
    atomic_store(&j.cancel, true);
    pthread_join(t, NULL);
    assert_int_equal(j.rc, SV_ECANCELED);
    while (mother && n_children(mother) > 0) /* it is gone, although it had an hour left */
        usleep(1000);
    sv_cage_free(c);
}

static void *many(void *arg)
{
    job *j = arg;
    sv_buf out;
    sv_err err = {0};
    sv_buf_init(&out, 0);
    for (int i = 0; i < 20 && j->rc == SV_OK; i++) {
        sv_buf_reset(&out);
        j->rc = sv_cage_run(j->c, 0, SV_STR("12"), SV_STR("3"), &out, NULL, &err);
        if (j->rc == SV_OK && strcmp(sv_buf_cstr(&out), "321") != 0)
            j->rc = SV_EIO;
    }
    sv_buf_done(&out);
    return NULL;
}

static void runs_of_several_threads_take_turns(void **state)
{
    SV_AUTO(sv_cage_freep) sv_cage *c = cage();
    job jobs[5];
    pthread_t t[5];
    (void)state;
    for (int i = 0; i < 5; i++) {
        jobs[i] = (job){.c = c};
        t[i] = sv_thread_start("many", many, &jobs[i]);
    }
    for (int i = 0; i < 5; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(jobs[i].rc, SV_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_run_makes_comes_out),
        cmocka_unit_test(a_refusal_keeps_its_sentence_and_code),
        cmocka_unit_test(a_run_that_crashes_hangs_or_grows_fails_alone),
        cmocka_unit_test(nothing_inside_opens_files_or_sockets),
        cmocka_unit_test(a_mother_that_is_killed_is_replaced),
        cmocka_unit_test(a_run_can_be_taken_back),
        cmocka_unit_test(runs_of_several_threads_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
