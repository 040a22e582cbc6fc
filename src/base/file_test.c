#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/sv-file-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    sv_err err = {0};
    return sv_remove_tree(dir, &err);
}

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void a_replaced_file_is_new_and_whole_with_its_mode(void **state)
{
    (void)state;
    sv_err err = {0};
    assert_int_equal(sv_file_replace(in_dir("a"), "one", 3, 0600, &err), SV_OK);
    assert_int_equal(sv_file_replace(in_dir("a"), "two!", 4, 0640, &err), SV_OK);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 4);
    assert_int_equal(sv_file_read(&b, in_dir("a"), &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&b), "two!");
    struct stat st;
    assert_int_equal(stat(in_dir("a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    SV_AUTO(sv_buf_donep) sv_buf small;
    sv_buf_init(&small, 3);
    assert_int_equal(sv_file_read(&small, in_dir("a"), &err), SV_ELIMIT);
    assert_int_equal(sv_file_read(&b, in_dir("absent"), &err), SV_ENOENT);
    assert_int_equal(sv_file_replace(in_dir("no/such/a"), "x", 1, 0600, &err), SV_ENOENT);
}

static void files_and_folders_are_synced_by_name(void **state)
{
    (void)state;
    sv_err err = {0};
    assert_int_equal(sv_file_replace(in_dir("s"), "x", 1, 0600, &err), SV_OK);
    assert_int_equal(sv_sync(in_dir("s"), &err), SV_OK);
    assert_int_equal(sv_sync(dir, &err), SV_OK);
    assert_int_equal(sv_sync_parent("here", &err), SV_OK); /* in the working directory; the file itself need not be there */
    assert_int_equal(sv_sync_parent("/here", &err), SV_OK);
    assert_int_equal(sv_sync(in_dir("no/such/file"), &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "no/such/file': "));
}

static void removal_does_not_follow_links(void **state)
{
    (void)state;
    sv_err err = {0};
    assert_int_equal(sv_mkdir_p(in_dir("keep/deep"), 0700, &err), SV_OK);
    assert_int_equal(sv_mkdir_p(in_dir("keep/deep"), 0700, &err), SV_OK);
    assert_int_equal(sv_file_replace(in_dir("keep/deep/f"), "x", 1, 0600, &err), SV_OK);
    assert_int_equal(sv_mkdir_p(in_dir("drop/x"), 0700, &err), SV_OK);
    char target[256];
    snprintf(target, sizeof target, "%s", in_dir("keep"));
    assert_int_equal(symlink(target, in_dir("drop/x/link")), 0);
    assert_int_equal(sv_remove_tree(in_dir("drop"), &err), SV_OK);
    assert_false(sv_file_exists(in_dir("drop")));
    assert_true(sv_file_exists(in_dir("keep/deep/f")));
    assert_int_equal(sv_remove_tree(in_dir("drop"), &err), SV_OK);
    assert_int_not_equal(sv_mkdir_p(in_dir("keep/deep/f/g"), 0700, &err), SV_OK);
}

static void maps_show_the_file_and_refuse_the_empty_one(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_map m = {0};
    assert_int_equal(sv_file_replace(in_dir("m"), "mapped", 6, 0600, &err), SV_OK);
    assert_int_equal(sv_map_open(&m, in_dir("m"), &err), SV_OK);
    assert_memory_equal(m.p, "mapped", 6);
    sv_map_close(&m);
    assert_int_equal(sv_file_replace(in_dir("m"), "", 0, 0600, &err), SV_OK);
    assert_int_equal(sv_map_open(&m, in_dir("m"), &err), SV_EFORMAT);
    assert_int_equal(sv_map_open(&m, dir, &err), SV_EINVAL);
}

static void unix_sockets_listen_again_where_an_old_file_lies(void **state)
{
    (void)state;
    sv_err err = {0};
    int l = -1, c = -1;
    assert_int_equal(sv_unix_listen(&l, in_dir("s"), 8, &err), SV_OK);
    close(l);
    assert_int_not_equal(sv_unix_connect(&c, in_dir("s"), &err), SV_OK);
    assert_int_equal(sv_unix_listen(&l, in_dir("s"), 8, &err), SV_OK);
    assert_int_equal(sv_unix_connect(&c, in_dir("s"), &err), SV_OK);
    close(c);
    close(l);
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = 0;
    assert_int_equal(sv_unix_listen(&l, path, 8, &err), SV_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replaced_file_is_new_and_whole_with_its_mode),
        cmocka_unit_test(files_and_folders_are_synced_by_name),
        cmocka_unit_test(removal_does_not_follow_links),
        cmocka_unit_test(maps_show_the_file_and_refuse_the_empty_one),
        cmocka_unit_test(unix_sockets_listen_again_where_an_old_file_lies),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
