#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "workers/super_client.h"

static void packed(sv_buf *out)
{
    const char *argv[] = {"/bin/program", "serve", "", NULL}, *env[] = {"A=1", "SECRET=x=y", NULL}, *listen[] = {"/run/a.sock", NULL};
    const char *read[] = {"/lib", NULL};
    sv_spawn s = {.argv = argv, .env = env, .listen = listen, .control = true,
                  .sandbox = {.on = true, .read_paths = read, .data_bytes = 123456789}};
    sv_err err = {0};
    int fd = -1;
    char block[4096];
    assert_int_equal(sv_spawn_pack(&fd, &s, &err), SV_OK);
    ssize_t n = pread(fd, block, sizeof block, 0);
    close(fd);
    assert_true(n > 0);
    sv_buf_init(out, 0);
    sv_buf_add(out, block, (size_t)n);
}

static void a_packed_program_comes_out_as_it_went_in(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_spawn s = {0};
    sv_err err = {0};
    packed(&b);
    assert_int_equal(sv_spawn_unpack(&s, sv_buf_str(&b), a, &err), SV_OK);
    assert_string_equal(s.argv[0], "/bin/program");
    assert_string_equal(s.argv[2], "");
    assert_null(s.argv[3]);
    assert_string_equal(s.env[1], "SECRET=x=y");
    assert_string_equal(s.listen[0], "/run/a.sock");
    assert_string_equal(s.sandbox.read_paths[0], "/lib");
    assert_true(s.control && !s.restart && s.sandbox.on);
    assert_int_equal(s.sandbox.data_bytes, 123456789);
}

static void a_cut_or_longer_package_is_refused(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_err err = {0};
    packed(&b);
    for (size_t n = 0; n < b.n; n++) {
        sv_spawn s = {0};
        assert_int_equal(sv_spawn_unpack(&s, (sv_str){b.p, n}, a, &err), SV_EFORMAT);
        assert_null(s.argv);
    }
    sv_spawn s = {0};
    sv_buf_addc(&b, 'x');
    assert_int_equal(sv_spawn_unpack(&s, sv_buf_str(&b), a, &err), SV_EFORMAT);
}

static void sockets_lie_in_the_data_folder_where_its_path_is_short(void **state)
{
    (void)state;
    char shallow[] = "/tmp/sv-run-XXXXXX", deep[160], run[64];
    sv_err err = {0};
    assert_non_null(mkdtemp(shallow));
    assert_int_equal(sv_run_dir(run, shallow, &err), SV_OK);
    assert_true(strncmp(run, shallow, strlen(shallow)) == 0);
    rmdir(run);
    snprintf(deep, sizeof deep, "%s/a-folder-whose-name-is-long/another-folder-with-a-long-name", shallow);
    assert_int_equal(sv_run_dir(run, deep, &err), SV_ENOENT);
    char cmd[220];
    snprintf(cmd, sizeof cmd, "mkdir -p %s", deep);
    assert_int_equal(system(cmd), 0);
    char again[64];
    assert_int_equal(sv_run_dir(run, deep, &err), SV_OK);
    assert_int_equal(sv_run_dir(again, deep, &err), SV_OK);
    assert_string_equal(run, again);
    assert_true(strncmp(run, shallow, strlen(shallow)) != 0 && strlen(run) < 60);
    rmdir(run);
    snprintf(cmd, sizeof cmd, "rm -r %s", shallow);
    assert_int_equal(system(cmd), 0);
}

typedef struct told { int n_failed, n_over; sv_loop *loop; } told;

static void on_answer(const sv_super_msg *m, int fd, void *arg)
{
    told *t = arg;
    assert_int_equal(fd, -1);
    if (m) {
        assert_int_equal(m->op, SV_SUPER_FAIL);
        assert_non_null(strstr(m->text, "cannot be reached"));
        if (++t->n_failed == 2)
            sv_loop_stop(t->loop);
    } else {
        t->n_over++;
    }
}

static void no_exit(const sv_super_msg *m, void *arg)
{
    (void)m;
    (void)arg;
    fail();
}

static void requests_that_cannot_be_sent_fail_a_moment_later(void **state)
{
    (void)state;
    int pair[2];
    told t = {.loop = sv_loop_new()};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    sv_super_client *c = sv_super_client_new(t.loop, pair[0], no_exit, NULL);
    sv_super_listen(c, "/run/sent", on_answer, &t);
    close(pair[1]);
    sv_super_listen(c, "/run/a", on_answer, &t);
    sv_super_list(c, on_answer, &t);
    assert_int_equal(t.n_failed, 0); /* not within the call */
    sv_loop_run(t.loop);
    assert_int_equal(t.n_failed, 2);
    assert_int_equal(t.n_over, 0); /* the first one was sent, and may have been read */
    sv_super_listen(c, "/run/b", on_answer, &t);
    sv_super_client_free(c);
    assert_int_equal(t.n_over, 2);
    sv_loop_free(t.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_program_comes_out_as_it_went_in),
        cmocka_unit_test(a_cut_or_longer_package_is_refused),
        cmocka_unit_test(requests_that_cannot_be_sent_fail_a_moment_later),
        cmocka_unit_test(sockets_lie_in_the_data_folder_where_its_path_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
