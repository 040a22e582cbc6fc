/* Tests of account.h: first start, check, tokens of this and of another process, and what a data directory may have suffered. */
#include "account/account.c"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"

static char root[] = "/tmp/sv-account-test-XXXXXX";

static const char *fresh(void)
{
    static char dir[128];
    static int n;
    snprintf(dir, sizeof dir, "%s/%d", root, n++);
    return dir;
}

static sv_accounts *must_open(const char *dir)
{
    sv_accounts *a = NULL;
    sv_err err = {0};
    if (sv_accounts_open(&a, dir, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return a;
}

static void file_of(const char *dir, const char *name, char *out, size_t size)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, name);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    sv_buf_init(&b, size - 1);
    if (sv_file_read(&b, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
    memcpy(out, b.p, b.n);
    out[b.n] = 0;
}

static sv_rc check(sv_accounts *a, const char *token, sv_principal *who)
{
    sv_err err = {0};
    SV_AUTO(sv_freep) char *header = sv_xasprintf("Bearer %s", token);
    return sv_accounts_check(a, sv_str_of(header), who, &err);
}

static void the_first_start_writes_a_token_that_works(void **state)
{
    (void)state;
    char dir[128], token[64], account[64];
    sv_principal who = {0};
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts *a = must_open(dir);
    file_of(dir, "token", token, sizeof token);
    file_of(dir, "account", account, sizeof account);
    assert_int_equal(strlen(account), 32);
    assert_int_equal(strspn(account, "0123456789abcdef"), 32);
    assert_string_equal(account, sv_accounts_first_id(a));
    assert_int_equal(strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"), strlen(token)); /* no line end */
    assert_int_equal(check(a, token, &who), SV_OK);
    assert_string_equal(who.account_id, account);
    assert_string_equal(who.name, "first");
    assert_int_equal(strlen(who.token_id), 32);
    sv_account_info info = {0};
    assert_true(sv_accounts_find(a, sv_str_of(account), &info));
    assert_true(sv_accounts_exists(a, sv_str_of(account)) && !sv_accounts_exists(a, SV_STR("0123")));
    assert_in_range(info.created_ms, sv_now_ms() - 60000, sv_now_ms());
    uint8_t seal[32];
    memcpy(seal, sv_accounts_seal_key(a), 32);
    sv_accounts_close(a);

    a = must_open(dir); /* the second start keeps all of it */
    char again[64];
    file_of(dir, "token", again, sizeof again);
    assert_string_equal(again, token);
    assert_int_equal(check(a, token, &who), SV_OK);
    assert_memory_equal(seal, sv_accounts_seal_key(a), 32);
    sv_accounts_close(a);
    assert_null(sv_accounts_close(NULL));
}

static void files_are_for_the_owner_alone_and_hold_no_token_but_one(void **state)
{
    (void)state;
    char dir[128], token[64];
    static const char *const names[] = {"token", "account", "account.db", "secrets/token.key", "secrets/seal.key"};
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts_close(must_open(dir));
    file_of(dir, "token", token, sizeof token);
    for (size_t i = 0; i < SV_LEN(names); i++) {
        struct stat st;
        sv_err err = {0};
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        assert_int_equal(sv_file_read(&b, path, &err), SV_OK);
        assert_int_equal(memmem(b.p, b.n, token, strlen(token)) != NULL, i == 0);
    }
    struct stat st;
    SV_AUTO(sv_freep) char *secrets = sv_xasprintf("%s/secrets", dir);
    assert_int_equal(stat(secrets, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void wrong_headers_and_wrong_tokens_are_told_apart(void **state)
{
    (void)state;
    static const char *const malformed[] = {"", "Bearer", "Bearer ", "Bearer    ", "Basic abc", "Bearerabc", "Bearer a b", "Bearer a\tb"};
    char dir[128], token[64];
    sv_principal who = {.name = "untouched"};
    sv_err err = {0};
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts *a = must_open(dir);
    file_of(dir, "token", token, sizeof token);
    for (size_t i = 0; i < SV_LEN(malformed); i++)
        assert_int_equal(sv_accounts_check(a, sv_str_of(malformed[i]), &who, &err), SV_ENOENT);
    assert_int_equal(sv_accounts_check(a, (sv_str){NULL, 0}, &who, &err), SV_ENOENT);
    char big[5000];
    memset(big, 'a', sizeof big);
    memcpy(big, "Bearer ", 7);
    assert_int_equal(sv_accounts_check(a, (sv_str){big, sizeof big}, &who, &err), SV_ENOENT);
    assert_int_equal(sv_accounts_check(a, (sv_str){big, 60}, &who, &err), SV_EINVAL);
    token[10] ^= 1;
    assert_int_equal(check(a, token, &who), SV_EINVAL);
    token[10] ^= 1;
    assert_string_equal(who.name, "untouched");
    char lower[80];
    snprintf(lower, sizeof lower, "  bearer   %s ", token);
    assert_int_equal(sv_accounts_check(a, sv_str_of(lower), &who, &err), SV_OK);
    sv_accounts_close(a);
}

static void tokens_are_created_listed_and_revoked(void **state)
{
    (void)state;
    char dir[128], token[64], id[33], other[64], other_id[33];
    sv_principal who = {0};
    sv_err err = {0};
    json_t *all = NULL;
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts *a = must_open(dir);
    const char *account = sv_accounts_first_id(a);
    assert_int_equal(sv_token_create(a, account, "ci", token, id, &err), SV_OK);
    assert_int_equal(sv_token_create(a, account, "laptop", other, other_id, &err), SV_OK);
    assert_string_not_equal(token, other);
    assert_int_equal(check(a, token, &who), SV_OK);
    assert_string_equal(who.name, "ci");
    assert_string_equal(who.token_id, id);
    assert_int_equal(sv_token_create(a, account, "ci", token, id, &err), SV_ECONFLICT);
    assert_int_equal(sv_token_revoke(a, "ci", &err), SV_OK);
    assert_int_equal(check(a, token, &who), SV_EINVAL);
    assert_int_equal(sv_token_revoke(a, "ci", &err), SV_ENOENT);
    assert_int_equal(sv_token_revoke(a, other_id, &err), SV_OK);
    assert_int_equal(check(a, other, &who), SV_EINVAL);
    assert_int_equal(sv_token_create(a, account, "ci", token, id, &err), SV_OK); /* the name is free again */
    assert_int_equal(sv_token_list(a, &all, &err), SV_OK);
    assert_int_equal(json_array_size(all), 4);
    const json_t *last = json_array_get(all, 3);
    int n_active = 0;
    size_t i;
    json_t *t;
    json_array_foreach (all, i, t)
        n_active += strcmp(sv_json_cstr(t, "status"), "active") == 0;
    assert_int_equal(n_active, 2);
    assert_string_equal(sv_json_cstr(last, "account_id"), account);
    assert_int_equal(strlen(sv_json_cstr(last, "created_on")), strlen("2026-11-25T02:43:58.123456Z"));
    SV_AUTO(sv_freep) char *text = json_dumps(last, 0);
    assert_null(strstr(text, token)); /* never shown again */
    json_decref(all);
    sv_accounts_close(a);
}

static void assert_s3_key(sv_accounts *a, const char *token, const char *id)
{
    sv_s3_key k = {0};
    sv_err err = {0};
    uint8_t sum[32];
    char hex[65];
    sv_sha256(sum, token, strlen(token));
    sv_hex(hex, sum, sizeof sum);
    assert_int_equal(sv_accounts_s3_key(a, sv_str_of(id), &k, &err), SV_OK);
    assert_string_equal(k.secret, hex);
    assert_string_equal(k.who.token_id, id);
    assert_string_equal(k.who.account_id, sv_accounts_first_id(a));
}

static sv_rc forget_secrets(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    return sv_stmt_prep(&q, w, "UPDATE tokens SET s3_secret = NULL", err) == SV_OK ? sv_stmt_run(&q, err) : err->code;
}

static void a_token_is_an_access_key_of_s3_too(void **state)
{
    (void)state;
    char dir[128], first[64], token[64], id[33];
    sv_principal who;
    sv_s3_key k;
    sv_err err = {0};
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts *a = must_open(dir);
    file_of(dir, "token", first, sizeof first);
    assert_int_equal(check(a, first, &who), SV_OK);
    assert_s3_key(a, first, who.token_id);
    assert_int_equal(sv_token_create(a, sv_accounts_first_id(a), "another", token, id, &err), SV_OK);
    assert_s3_key(a, token, id);
    assert_int_equal(sv_accounts_s3_key(a, SV_STR("0123456789abcdef0123456789abcdef"), &k, &err), SV_ENOENT);
    assert_int_equal(sv_accounts_s3_key(a, SV_STR("x"), &k, &err), SV_ENOENT);
    assert_int_equal(sv_token_revoke(a, id, &err), SV_OK);
    assert_int_equal(sv_accounts_s3_key(a, sv_str_of(id), &k, &err), SV_ENOENT);
    assert_int_equal(sv_db_write(a->db, forget_secrets, NULL, &err), SV_OK); /* a data directory of a release without S3 */
    sv_accounts_close(a);
    a = must_open(dir);
    assert_s3_key(a, first, who.token_id);
    sv_accounts_close(a);
    char *files[] = {"account.db", "account.db-wal"}; /* the secret lies there sealed */
    uint8_t sum[32];
    char hex[65];
    sv_sha256(sum, first, strlen(first));
    sv_hex(hex, sum, sizeof sum);
    for (size_t i = 0; i < SV_LEN(files); i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", dir, files[i]);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        if (sv_file_exists(path)) {
            assert_int_equal(sv_file_read(&b, path, &err), SV_OK);
            assert_null(memmem(b.p, b.n, hex, 64));
            assert_null(memmem(b.p, b.n, sum, 32));
        }
    }
}

static void names_and_numbers_of_tokens_are_bounded(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a\nb", "\x7f", "\xff\xfe", "0123456789abcdef0123456789abcdef",
                                      "0123456789012345678901234567890123456789012345678901234567890123"};
    char token[64], id[33];
    sv_err err = {0};
    sv_accounts *a = must_open(fresh());
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_token_create(a, sv_accounts_first_id(a), bad[i], token, id, &err), SV_EINVAL);
    assert_int_equal(sv_token_create(a, "no such account", "x", token, id, &err), SV_ENOENT);
    sv_rc rc = SV_OK;
    int n = 1;
    for (; rc == SV_OK && n < 1000; n++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", n);
        rc = sv_token_create(a, sv_accounts_first_id(a), name, token, id, &err);
    }
    assert_int_equal(rc, SV_ELIMIT);
    assert_int_equal(n - 1, sv_limit_value(SV_LIMIT_TOKENS));
    assert_int_equal(sv_token_revoke(a, "t1", &err), SV_OK);
    assert_int_equal(sv_token_create(a, sv_accounts_first_id(a), "room again", token, id, &err), SV_OK);
    sv_accounts_close(a);
}

static void revoked_tokens_do_not_pile_up(void **state)
{
    (void)state;
    char token[64], id[33];
    sv_err err = {0};
    json_t *all = NULL;
    sv_accounts *a = must_open(fresh());
    for (int i = 0; i < 120; i++) {
        assert_int_equal(sv_token_create(a, sv_accounts_first_id(a), "x", token, id, &err), SV_OK);
        assert_int_equal(sv_token_revoke(a, "x", &err), SV_OK);
    }
    assert_int_equal(sv_token_list(a, &all, &err), SV_OK);
    assert_int_equal(json_array_size(all), 101);
    json_decref(all);
    sv_accounts_close(a);
}

static bool within_ms(sv_accounts *a, const char *token, sv_rc want, int64_t ms)
{
    sv_principal who;
    for (int64_t end = sv_mono_ms() + ms; sv_mono_ms() < end; usleep(20000))
        if (check(a, token, &who) == want)
            return true;
    return false;
}

/* As `selvedge token` does beside a running daemon. */
static void what_another_process_changes_is_known_within_two_seconds(void **state)
{
    (void)state;
    char dir[128], token[64], id[33], shared[128];
    sv_principal who = {0};
    sv_err err = {0};
    snprintf(dir, sizeof dir, "%s", fresh());
    snprintf(shared, sizeof shared, "%s/told", root);
    sv_accounts_close(must_open(dir));
    pid_t pid = fork();
    if (pid == 0) {
        sv_accounts *other = NULL;
        bool ok = sv_accounts_open(&other, dir, &err) == SV_OK &&
                  sv_token_create(other, sv_accounts_first_id(other), "elsewhere", token, id, &err) == SV_OK &&
                  sv_file_replace(shared, token, sizeof token, 0600, &err) == SV_OK;
        for (int i = 0; ok && i < 500 && access(shared, F_OK) == 0; i++)
            usleep(10000); /* the other side removes it when it has seen the token */
        ok = ok && sv_token_revoke(other, "elsewhere", &err) == SV_OK;
        sv_accounts_close(other);
        _exit(ok ? 0 : 1);
    }
    sv_accounts *a = must_open(dir);
    for (int i = 0; i < 500 && access(shared, F_OK) != 0; i++)
        usleep(10000);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, shared, &err), SV_OK);
    memcpy(token, b.p, sizeof token);
    assert_true(within_ms(a, token, SV_OK, 2000));
    check(a, token, &who);
    assert_string_equal(who.name, "elsewhere");
    unlink(shared);
    assert_true(within_ms(a, token, SV_EINVAL, 3000));
    int status = 1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    sv_accounts_close(a);
}

static void two_first_starts_at_once_make_one_account(void **state)
{
    enum { N = 6 };
    (void)state;
    char dir[128], token[64];
    sv_principal who;
    snprintf(dir, sizeof dir, "%s", fresh());
    pid_t pids[N];
    for (int i = 0; i < N; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            sv_accounts *a = NULL;
            sv_err err = {0};
            bool ok = sv_accounts_open(&a, dir, &err) == SV_OK;
            if (ok) {
                file_of(dir, "token", token, sizeof token);
                ok = check(a, token, &who) == SV_OK;
            }
            _exit(ok ? 0 : 1);
        }
    }
    for (int i = 0; i < N; i++) {
        int status = 1;
        waitpid(pids[i], &status, 0);
        assert_int_equal(status, 0);
    }
}

/* ---- a data directory that has been through something ---- */

static sv_rc reopen(const char *dir, sv_err *err)
{
    sv_accounts *a = NULL;
    sv_rc rc = sv_accounts_open(&a, dir, err);
    assert_true((a != NULL) == (rc == SV_OK));
    sv_accounts_close(a);
    return rc;
}

static void a_lost_or_changed_key_is_refused_and_not_replaced(void **state)
{
    (void)state;
    static const char *const keys[] = {"token.key", "seal.key"};
    char dir[128];
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts_close(must_open(dir));
    for (size_t i = 0; i < SV_LEN(keys); i++) {
        sv_err err = {0};
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/secrets/%s", dir, keys[i]);
        SV_AUTO(sv_freep) char *aside = sv_xasprintf("%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(reopen(dir, &err), SV_ENOENT);
        assert_non_null(strstr(err.msg, keys[i]));
        assert_false(sv_file_exists(path));
        assert_int_equal(sv_file_replace(path, "short", 5, 0600, &err), SV_OK);
        assert_int_equal(reopen(dir, &err), SV_EFORMAT);
        assert_non_null(strstr(err.msg, "5 bytes"));
        assert_int_equal(rename(aside, path), 0);
        assert_int_equal(chmod(path, 0644), 0);
        assert_int_equal(reopen(dir, &err), SV_EINVAL);
        assert_non_null(strstr(err.msg, "chmod 600"));
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(reopen(dir, &err), SV_OK);
    }
}

static void a_first_start_that_died_half_way_is_done_again(void **state)
{
    (void)state;
    char dir[128], token[64], before[64];
    sv_principal who;
    sv_err err = {0};
    snprintf(dir, sizeof dir, "%s", fresh());
    sv_accounts_close(must_open(dir));
    file_of(dir, "token", before, sizeof before);
    SV_AUTO(sv_freep) char *db = sv_xasprintf("%s/account.db", dir);
    assert_int_equal(unlink(db), 0); /* as after a crash before the commit: files, no rows */
    sv_accounts *a = must_open(dir);
    file_of(dir, "token", token, sizeof token);
    assert_string_not_equal(token, before);
    assert_int_equal(check(a, token, &who), SV_OK);
    assert_int_equal(check(a, before, &who), SV_EINVAL);
    sv_accounts_close(a);
    assert_int_equal(sv_file_replace(db, "not a database, but long enough to look at", 42, 0600, &err), SV_OK);
    assert_int_equal(reopen(dir, &err), SV_EFORMAT);
}

static void a_folder_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    sv_err err = {0};
    assert_int_not_equal(reopen("/proc/nothing/here", &err), SV_OK);
    assert_true(err.msg[0] != 0);
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    sv_err err = {0};
    (void)state;
    return sv_remove_tree(root, &err) == SV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_start_writes_a_token_that_works),
        cmocka_unit_test(files_are_for_the_owner_alone_and_hold_no_token_but_one),
        cmocka_unit_test(wrong_headers_and_wrong_tokens_are_told_apart),
        cmocka_unit_test(tokens_are_created_listed_and_revoked),
        cmocka_unit_test(a_token_is_an_access_key_of_s3_too),
        cmocka_unit_test(names_and_numbers_of_tokens_are_bounded),
        cmocka_unit_test(revoked_tokens_do_not_pile_up),
        cmocka_unit_test(what_another_process_changes_is_known_within_two_seconds),
        cmocka_unit_test(two_first_starts_at_once_make_one_account),
        cmocka_unit_test(a_lost_or_changed_key_is_refused_and_not_replaced),
        cmocka_unit_test(a_first_start_that_died_half_way_is_done_again),
        cmocka_unit_test(a_folder_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests_name("account", tests, make_root, remove_root);
}
