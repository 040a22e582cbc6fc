/* workers_test.c - the store of Workers without a runtime: what is acknowledged is there, through reopen and kill -9 */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/time.h"
#include "workers/schedules.h"
#include "workers/workers_impl.h"

static char dir[64];
static sv_accounts *accounts;
static sv_workers *w;
static sv_author me;
static sv_err err;

static void open_store(void)
{
    memset(&err, 0, sizeof err);
    if (sv_accounts_open(&accounts, dir, &err) != SV_OK || sv_workers_open(&w, &(sv_workers_opts){.data_dir = dir, .accounts = accounts}, &err) != SV_OK)
        fail_msg("%s", err.msg);
    me = (sv_author){.account = sv_accounts_first_id(accounts), .name = "test", .source = "api"};
}

static void close_store(void)
{
    w = sv_workers_close(w);
    accounts = sv_accounts_close(accounts);
}

static int setup(void **state)
{
    (void)state;
    char hex[9];
    sv_random_hex(hex, 4);
    snprintf(dir, sizeof dir, "/tmp/workers_test.%s", hex);
    if (sv_mkdir_p(dir, 0700, &err) != SV_OK)
        return -1;
    open_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_store();
    return sv_remove_tree(dir, &err) == SV_OK ? 0 : -1;
}

/* Uploads `script` with metadata members `more` (",\"bindings\":[...]"). */
static sv_rc upload_as(const sv_author *by, const char *name, const char *script, const char *more, sv_deploy_how how, sv_version *out)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"main_module\":\"i.js\",\"keep_bindings\":[\"secret_text\"]%s}\r\n"
                    "--x\r\nContent-Disposition: form-data; name=\"i.js\"; filename=\"i.js\"\r\nContent-Type: application/javascript+module\r\n\r\n%s\r\n--x--\r\n",
                more, script);
    sv_upload u = {0};
    sv_version v = {0};
    memset(&err, 0, sizeof err);
    sv_rc rc = sv_upload_parse(&u, a, SV_STR("multipart/form-data; boundary=x"), sv_buf_str(&b), "2026-11-25", &err);
    if (rc == SV_OK)
        rc = sv_deploy_upload(w, by, name, &u, how, false, &v, &err);
    sv_upload_done(&u);
    if (rc == SV_OK && out)
        *out = v;
    else
        sv_version_done(&v);
    return rc;
}

static sv_rc deploy(const char *name, const char *script, const char *more, sv_version *out) { return upload_as(&me, name, script, more, SV_DEPLOY_NOW, out); }

static void deployed(const char *name, sv_version *out)
{
    sv_script s = {0};
    assert_int_equal(sv_store_script(w, &s, me.account, name, &err), SV_OK);
    assert_int_equal(sv_store_version(w, out, s.key, SV_DEPLOYED, NULL, true, &err), SV_OK);
    sv_script_done(&s);
}

static void assert_main_module(const sv_version *v, const char *text)
{
    char folder[4096], path[4300];
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_version_folder(w, v->key, v->folder, folder);
    snprintf(path, sizeof path, "%s/m0", folder);
    assert_int_equal(sv_file_read(&b, path, &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&b), text);
}

static int count_folders(const char *key)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/%s", w->root, key);
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

#define SECRET(value) ",\"bindings\":[{\"name\":\"K\",\"type\":\"secret_text\",\"text\":\"" value "\"}]"

static void a_deployment_is_there_after_reopening(void **state)
{
    (void)state;
    sv_version v = {0}, again = {0};
    assert_int_equal(deploy("chat", "one", SECRET("s3cr3t"), &v), SV_OK);
    close_store();
    open_store();
    deployed("chat", &again);
    assert_string_equal(again.id, v.id);
    assert_int_equal(again.number, 1);
    assert_string_equal(json_string_value(json_object_get(again.secrets, "K")), "s3cr3t");
    assert_main_module(&again, "one");
    sv_version_done(&v);
    sv_version_done(&again);
}

static void a_redeployment_keeps_the_secret_and_numbers_go_up(void **state)
{
    (void)state;
    sv_version v = {0};
    assert_int_equal(deploy("chat", "one", SECRET("s3cr3t"), NULL), SV_OK);
    assert_int_equal(deploy("chat", "two", "", NULL), SV_OK);
    deployed("chat", &v);
    assert_int_equal(v.number, 2);
    assert_main_module(&v, "two");
    assert_string_equal(json_string_value(json_object_get(v.secrets, "K")), "s3cr3t");
    sv_version_done(&v);
}

static void an_uploaded_version_serves_only_when_it_is_deployed(void **state)
{
    (void)state;
    sv_version one = {0}, two = {0}, now = {0};
    sv_deployment d = {0};
    assert_int_equal(upload_as(&me, "chat", "none", "", SV_UPLOAD_ONLY, NULL), SV_ENOENT);
    assert_int_equal(deploy("chat", "one", "", &one), SV_OK);
    assert_int_equal(upload_as(&me, "chat", "two", "", SV_UPLOAD_ONLY, &two), SV_OK);
    deployed("chat", &now);
    assert_string_equal(now.id, one.id);
    sv_version_done(&now);
    assert_int_equal(sv_deploy_version(w, &me, "chat", two.id, NULL, &d, &err), SV_OK);
    sv_deployment_done(&d);
    deployed("chat", &now);
    assert_string_equal(now.id, two.id);
    sv_version_done(&now);
    assert_int_equal(sv_deploy_version(w, &me, "chat", one.id, NULL, &d, &err), SV_OK); /* rollback */
    sv_deployment_done(&d);
    sv_deployment *all = NULL;
    size_t n = 0;
    assert_int_equal(sv_store_deployments(w, &all, &n, one.key, &err), SV_OK);
    assert_int_equal(n, 3);
    assert_string_equal(all[0].version, one.id); /* newest first */
    for (size_t i = 0; i < n; i++)
        sv_deployment_done(&all[i]);
    free(all);
    assert_int_equal(sv_deploy_version(w, &me, "chat", "00000000-0000-4000-8000-000000000000", NULL, &d, &err), SV_ENOENT);
    assert_int_equal(err.api_code, 100146);
    sv_version_done(&one);
    sv_version_done(&two);
}

static sv_rc run_sql(sv_dbw *x, void *arg, sv_err *e)
{
    return sqlite3_exec(sv_dbw_handle(x), arg, NULL, NULL, NULL) == SQLITE_OK ? SV_OK : sv_fail(e, SV_EIO, "%s", sqlite3_errmsg(sv_dbw_handle(x)));
}

static void a_sealed_secret_is_bound_to_its_place(void **state)
{
    (void)state;
    sv_version v = {0};
    assert_int_equal(deploy("chat", "one", SECRET("s3cr3t"), &v), SV_OK);
    assert_int_equal(sv_db_write(w->db, run_sql, (void *)(uintptr_t)"UPDATE secret SET name = 'OTHER'", &err), SV_OK);
    sv_version moved = {0};
    assert_int_equal(sv_store_version(w, &moved, v.key, SV_DEPLOYED, NULL, true, &err), SV_EFORMAT);
    assert_null(strstr(err.msg, "s3cr3t"));
    assert_null(moved.meta);
    sv_version_done(&v);
}

static void a_name_is_a_host_of_one_account_only(void **state)
{
    (void)state;
    sv_author other = {.account = "ffffffffffffffffffffffffffffffff", .name = "x", .source = "api"};
    assert_int_equal(deploy("chat", "one", "", NULL), SV_OK);
    assert_int_equal(upload_as(&other, "chat", "two", "", SV_DEPLOY_NOW, NULL), SV_EINVAL);
    assert_int_equal(err.api_code, 10016);
    assert_non_null(strstr(err.msg, "another account"));
    sv_script s = {0};
    assert_int_equal(sv_store_script(w, &s, other.account, "chat", &err), SV_ENOENT);
}

static void a_refused_upload_leaves_nothing(void **state)
{
    (void)state;
    char key[17];
    sv_worker_key(key, me.account, "chat");
    assert_int_equal(deploy("chat", "one", ",\"bindings\":[{\"name\":\"B\",\"type\":\"service\",\"service\":\"nobody\"}]", NULL), SV_EINVAL);
    assert_int_equal(count_folders(key), 0);
    sv_script s = {0};
    assert_int_equal(sv_store_script(w, &s, me.account, "chat", &err), SV_ENOENT);
    assert_int_equal(err.api_code, 10007);
}

static void old_versions_are_forgotten_but_never_the_deployed_one(void **state)
{
    (void)state;
    int64_t kept = sv_limit_value(SV_LIMIT_VERSIONS_KEPT);
    sv_version first = {0}, found = {0};
    assert_int_equal(deploy("chat", "first", SECRET("s"), &first), SV_OK);
    for (int64_t i = 0; i < kept + 3; i++)
        assert_int_equal(upload_as(&me, "chat", "more", "", SV_UPLOAD_ONLY, NULL), SV_OK);
    assert_int_equal(count_folders(first.key), kept + 1);
    deployed("chat", &found);
    assert_string_equal(found.id, first.id);
    assert_main_module(&found, "first");
    assert_int_equal(json_object_size(found.secrets), 1);
    sv_version_done(&first);
    sv_version_done(&found);
}

static void deleting_takes_rows_and_files(void **state)
{
    (void)state;
    char key[17];
    sv_worker_key(key, me.account, "chat");
    assert_int_equal(deploy("chat", "one", SECRET("s"), NULL), SV_OK);
    assert_int_equal(sv_deploy_delete(w, me.account, "chat", false, &err), SV_OK);
    assert_int_equal(count_folders(key), 0);
    assert_int_equal(sv_deploy_delete(w, me.account, "chat", false, &err), SV_ENOENT);
    assert_int_equal(deploy("chat", "again", "", NULL), SV_OK); /* and its secret is not kept from before */
    sv_version v = {0};
    deployed("chat", &v);
    assert_int_equal(v.number, 1);
    assert_int_equal(json_object_size(v.secrets), 0);
    sv_version_done(&v);
}

static const char *prepare(const char *name, sv_unit_spec *spec, sv_arena *a)
{
    char key[17];
    sv_worker_key(key, me.account, name);
    assert_int_equal(sv_workers_prepare(w, key, spec, a, &err), SV_OK);
    return spec->config_path;
}

#define BINDS(name) ",\"bindings\":[{\"name\":\"B\",\"type\":\"service\",\"service\":\"" name "\"}]"

static void bound_workers_are_one_unit_from_either_side(void **state)
{
    (void)state;
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_unit_spec front, back, alone, spec;
    assert_int_equal(deploy("back", "b", "", NULL), SV_OK);
    assert_int_equal(deploy("alone", "c", SECRET("s3cr3t"), NULL), SV_OK);
    assert_int_equal(deploy("front", "a", BINDS("back"), NULL), SV_OK);
    assert_string_equal(prepare("front", &front, a), prepare("back", &back, a));
    assert_string_equal(front.unit, back.unit);
    assert_non_null(front.keys[1]);
    assert_null(front.keys[2]);
    assert_non_null(front.read_paths[1]);
    prepare("alone", &alone, a);
    assert_null(alone.keys[1]);
    assert_string_equal(alone.env[0], "SV_SECRET_0=s3cr3t");
    assert_int_equal(sv_deploy_delete(w, me.account, "back", false, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "front"));
    assert_int_equal(deploy("front", "a", "", NULL), SV_OK); /* no longer bound */
    assert_string_not_equal(prepare("front", &front, a), prepare("back", &spec, a));
    assert_null(front.keys[1]);
    assert_int_equal(sv_deploy_delete(w, me.account, "back", false, &err), SV_OK);
}

static void more_workers_than_a_process_holds_are_refused(void **state)
{
    (void)state;
    char name[16], bind[128] = "";
    sv_rc rc = SV_OK;
    int n = 0;
    for (; n <= SV_MAX_UNIT && rc == SV_OK; n++) {
        snprintf(name, sizeof name, "w%d", n);
        rc = deploy(name, "x", bind, NULL);
        snprintf(bind, sizeof bind, ",\"bindings\":[{\"name\":\"B\",\"type\":\"service\",\"service\":\"%s\"}]", name);
    }
    assert_int_equal(rc, SV_EINVAL);
    assert_int_equal(n, SV_MAX_UNIT + 1);
    assert_non_null(strstr(err.msg, "bound to each other"));
}

/* ---- assets ---- */

#define HASH "0123456789abcdef0123456789abcdef"

static json_t *manifest_of(const char *path)
{
    return json_pack("{s:{s:s, s:i}}", path, "hash", HASH, "size", 3);
}

static sv_rc put_asset(const char *script, const json_t *manifest, sv_buf *token)
{
    sv_asset_session s = {0};
    sv_buf_init(token, 4096);
    SV_AUTO(sv_buf_donep) sv_buf open;
    sv_buf_init(&open, 4096);
    assert_int_equal(sv_assets_session(w, me.account, script, manifest, false, &open, &err), SV_OK);
    assert_int_equal(sv_assets_open_token(w, sv_buf_str(&open), &s, &err), SV_OK);
    sv_rc rc = sv_assets_put(w, &s, SV_STR(HASH), SV_STR("abc"), &err);
    sv_assets_complete_token(w, &s, token);
    sv_asset_session_done(&s);
    return rc;
}

static void assets_are_laid_out_for_each_version(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *manifest = manifest_of("/a%20b/c.txt");
    SV_AUTO(sv_buf_donep) sv_buf token = {0};
    assert_int_equal(put_asset("site", manifest, &token), SV_OK);
    char more[1024], path[4400], folder[4096];
    snprintf(more, sizeof more, ",\"assets\":{\"jwt\":\"%s\",\"config\":{\"html_handling\":\"none\"}}", sv_buf_cstr(&token));
    sv_version v = {0}, kept = {0};
    assert_int_equal(deploy("site", "x", more, &v), SV_OK);
    assert_int_equal(deploy("site", "y", ",\"keep_assets\":true", &kept), SV_OK);
    for (int i = 0; i < 2; i++) {
        sv_version_folder(w, v.key, i ? kept.folder : v.folder, folder);
        snprintf(path, sizeof path, "%s/assets/a b/c.txt", folder);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        assert_int_equal(sv_file_read(&b, path, &err), SV_OK);
        assert_string_equal(sv_buf_cstr(&b), "abc");
    }
    assert_string_equal(json_string_value(json_object_get(json_object_get(json_object_get(kept.meta, "assets"), "config"), "html_handling")), "none");
    assert_int_equal(deploy("site", "z", "", NULL), SV_OK); /* neither named nor kept: gone */
    sv_version now = {0};
    deployed("site", &now);
    assert_true(json_is_null(json_object_get(now.meta, "assets")));
    sv_version_done(&now);
    /* a token is for its script, and only whole */
    assert_int_equal(deploy("elsewhere", "x", more, NULL), SV_EINVAL);
    snprintf(more, sizeof more, ",\"assets\":{\"jwt\":\"%.*s\"}", (int)token.n - 3, token.p);
    assert_int_equal(deploy("site", "x", more, NULL), SV_EINVAL);
    sv_version_done(&v);
    sv_version_done(&kept);
}

static void paths_never_leave_the_site(void **state)
{
    static const char *const bad[] = {"", "/", "x", "//", "/a//b", "/a/", "/.", "/..", "/../x", "/a/../../x", "/%2e%2e/x", "/a%2f..%2fb", "/a%00b", "/%zz",
                                      "/a/./b"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        SV_AUTO(sv_json_decrefp) json_t *m = manifest_of(bad[i]), *missing = NULL;
        memset(&err, 0, sizeof err);
        if (sv_assets_check(w, me.account, m, &missing, &err) == SV_OK)
            fail_msg("'%s' was let through", bad[i]);
        assert_int_equal(err.api_code, 10021);
    }
    SV_AUTO(sv_json_decrefp) json_t *clash = json_pack("{s:{s:s, s:i}, s:{s:s, s:i}}", "/a", "hash", HASH, "size", 3, "/a/b", "hash", HASH, "size", 3);
    SV_AUTO(sv_buf_donep) sv_buf token = {0};
    assert_int_equal(put_asset("site", clash, &token), SV_OK);
    char more[1024];
    snprintf(more, sizeof more, ",\"assets\":{\"jwt\":\"%s\"}", sv_buf_cstr(&token));
    assert_int_equal(deploy("site", "x", more, NULL), SV_EINVAL);
}

static void bytes_must_be_those_of_the_manifest(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *m = manifest_of("/x");
    SV_AUTO(sv_buf_donep) sv_buf token;
    sv_buf_init(&token, 4096);
    sv_asset_session s = {0};
    assert_int_equal(sv_assets_session(w, me.account, "site", m, false, &token, &err), SV_OK);
    assert_int_equal(sv_assets_open_token(w, sv_buf_str(&token), &s, &err), SV_OK);
    assert_int_equal(sv_assets_put(w, &s, SV_STR(HASH), SV_STR("four"), &err), SV_EINVAL);
    assert_int_equal(sv_assets_put(w, &s, SV_STR("1123456789abcdef0123456789abcdef"), SV_STR("abc"), &err), SV_EINVAL);
    assert_int_equal(sv_assets_put(w, &s, SV_STR("../../../../../../../../../etc/x"), SV_STR("abc"), &err), SV_EINVAL);
    sv_asset_session_done(&s);
    token.p[token.n - 1] = token.p[token.n - 1] == 'A' ? 'B' : 'A';
    token.p[token.n - 2] = 'z';
    assert_int_equal(sv_assets_open_token(w, sv_buf_str(&token), &s, &err), SV_EINVAL);
    static const char *const odd[] = {"", ".", "..", "a.b.c", "a.b", "...."};
    for (size_t i = 0; i < SV_LEN(odd); i++)
        assert_int_equal(sv_assets_open_token(w, sv_str_of(odd[i]), &s, &err), SV_EINVAL);
}

/* ---- kill -9 ---- */

/* Deploys `name` without end, and tells each acknowledged version to `fd`. */
static void deploy_for_ever(const char *name, int fd)
{
    open_store();
    for (int i = 0;; i++) {
        char script[64], more[256];
        sv_version v = {0};
        snprintf(script, sizeof script, "script %d", i);
        snprintf(more, sizeof more, ",\"annotations\":{\"workers/tag\":\"%d\"},\"bindings\":[{\"name\":\"K\",\"type\":\"secret_text\",\"text\":\"secret %d\"}]", i, i);
        if (deploy(name, script, more, &v) != SV_OK)
            _exit(3);
        if (write(fd, v.id, 36) != 36)
            _exit(4);
        sv_version_done(&v);
    }
}

static int tag_of(const sv_version *v) { return atoi(json_string_value(json_object_get(json_object_get(v->meta, "annotations"), "workers/tag"))); }

static void assert_whole(const sv_version *v, int tag)
{
    char script[64], secret[64];
    snprintf(script, sizeof script, "script %d", tag);
    snprintf(secret, sizeof secret, "secret %d", tag);
    assert_int_equal(tag_of(v), tag);
    assert_main_module(v, script);
    assert_string_equal(json_string_value(json_object_get(v->secrets, "K")), secret);
}

static void after_kill_9_all_that_was_acknowledged_is_there(void **state)
{
    (void)state;
    close_store();
    int n_acknowledged = 0;
    for (int round = 0; round < 6; round++) {
        int fds[2], status, n = 0, kept = (int)sv_limit_value(SV_LIMIT_VERSIONS_KEPT);
        char name[16], key[17], id[37] = "";
        snprintf(name, sizeof name, "chat%d", round);
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0)
            deploy_for_ever(name, fds[1]);
        close(fds[1]);
        nanosleep(&(struct timespec){0, (100 + 47 * round) * 1000000L}, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status)); /* and not by a refusal */
        open_store();
        sv_worker_key(key, me.account, name);
        static char ids[4096][37];
        while (n < 4096 && read(fds[0], ids[n], 36) == 36)
            n++;
        close(fds[0]);
        for (int tag = n > kept - 1 ? n - kept + 1 : 0; tag < n; tag++) { /* those before may have been forgotten since */
            sv_version v = {0};
            memcpy(id, ids[tag], 36);
            assert_int_equal(sv_store_version(w, &v, key, SV_BY_ID, id, true, &err), SV_OK);
            assert_whole(&v, tag);
            sv_version_done(&v);
        }
        sv_version now = {0}, *all = NULL;
        size_t n_all = 0;
        if (n) { /* the last acknowledged one is deployed, or the one under way; each folder has its row */
            deployed(name, &now);
            assert_in_range(tag_of(&now), n - 1, n);
            assert_whole(&now, tag_of(&now));
            sv_version_done(&now);
            assert_int_equal(sv_store_versions(w, &all, &n_all, key, &err), SV_OK);
        }
        assert_int_equal(count_folders(key), n_all);
        for (size_t i = 0; i < n_all; i++)
            sv_version_done(&all[i]);
        free(all);
        n_acknowledged += n;
        close_store();
    }
    assert_true(n_acknowledged > 0);
    print_message("%d acknowledged deployments looked at\n", n_acknowledged);
    open_store();
}

/* ---- schedules ---- */

static sv_rc set_schedules(const char *name, const char *json, json_t **out)
{
    SV_AUTO(sv_json_decrefp) json_t *crons = json_loads(json, 0, NULL);
    memset(&err, 0, sizeof err);
    return sv_schedules_set(w, me.account, name, crons, out, &err);
}

static size_t claim(int64_t at, sv_run *first)
{
    SV_AUTO(sv_freep) sv_run *v = NULL;
    size_t n;
    if (sv_schedules_claim(w, at, &v, &n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    if (n)
        *first = v[0];
    return n;
}

static void schedules_are_replaced_whole_or_not_at_all(void **state)
{
    (void)state;
    json_t *out = NULL;
    sv_script s = {0};
    assert_int_equal(deploy("timed", "export default {}", "", NULL), SV_OK);
    assert_int_equal(set_schedules("timed", "[{\"cron\":\"0 0 1 1 *\"},{\"cron\":\"*/5 * * * *\"}]", &out), SV_OK);
    assert_int_equal(json_array_size(out), 2);
    json_decref(out);
    assert_int_equal(sv_store_script(w, &s, me.account, "timed", &err), SV_OK);
    assert_true(s.events); /* something has to call scheduled() */
    assert_int_equal(set_schedules("timed", "[{\"cron\":\"1 * * * *\"},{\"cron\":\"61 * * * *\"}]", &out), SV_EINVAL);
    assert_non_null(strstr(err.msg, "61"));
    assert_int_equal(set_schedules("timed", "{}", &out), SV_EINVAL);
    assert_int_equal(set_schedules("timed", "[7]", &out), SV_EINVAL);
    assert_int_equal(set_schedules("nobody", "[{\"cron\":\"1 * * * *\"}]", &out), SV_ENOENT);
    close_store();
    open_store();
    assert_int_equal(sv_schedules_get(w, s.key, &out, &err), SV_OK);
    assert_int_equal(json_array_size(out), 2);
    json_decref(out);
    SV_AUTO(sv_buf_donep) sv_buf many;
    sv_buf_init(&many, 0);
    for (int i = 0; i <= sv_limit_value(SV_LIMIT_CRONS); i++)
        sv_buf_addf(&many, "%s{\"cron\":\"%d %d * * *\"}", i ? "," : "[", i % 60, i / 60);
    sv_buf_addc(&many, ']');
    assert_int_equal(set_schedules("timed", sv_buf_cstr(&many), &out), SV_EINVAL);
    assert_int_equal(err.api_code, 10102);
    assert_int_equal(set_schedules("timed", "[]", &out), SV_OK);
    assert_int_equal(json_array_size(out), 0);
    json_decref(out);
    sv_script_done(&s);
}

static void what_was_due_is_claimed_once_for_the_last_time_that_was_missed(void **state)
{
    (void)state;
    json_t *out = NULL;
    sv_run run;
    assert_int_equal(deploy("timed", "export default {}", "", NULL), SV_OK);
    assert_int_equal(set_schedules("timed", "[{\"cron\":\"*/5 * * * *\"}]", &out), SV_OK);
    json_decref(out);
    int64_t five = 300000, next = (sv_now_ms() / five + 1) * five;
    assert_int_equal(claim(next - 1, &run), 0);
    assert_int_equal(claim(next, &run), 1);
    assert_int_equal(run.scheduled_ms, next);
    assert_string_equal(run.cron, "*/5 * * * *");
    assert_string_equal(run.name, "timed");
    assert_int_equal(claim(next + 1000, &run), 0);
    int64_t later = next + 40 * 86400000ll; /* forty days without us */
    assert_int_equal(claim(later + 61000, &run), 1);
    assert_int_equal(run.scheduled_ms, later);
    assert_int_equal(claim(later + 62000, &run), 0);
    assert_int_equal(claim(later + five, &run), 1);
}

static void runs_are_kept_with_their_outcomes_and_one_that_was_cut_runs_again(void **state)
{
    (void)state;
    json_t *out = NULL;
    sv_run run;
    sv_script s = {0};
    assert_int_equal(deploy("timed", "export default {}", "", NULL), SV_OK);
    assert_int_equal(sv_store_script(w, &s, me.account, "timed", &err), SV_OK);
    assert_int_equal(set_schedules("timed", "[{\"cron\":\"0 0 1 1 *\"}]", &out), SV_OK);
    json_decref(out);
    assert_int_equal(sv_schedules_claim_one(w, s.key, SV_STR("1 1 1 1 *"), 5, &run, &err), SV_ENOENT);
    for (int i = 0; i < 120; i++) {
        assert_int_equal(sv_schedules_claim_one(w, s.key, SV_STR("0 0 1 1 *"), 5000, &run, &err), SV_OK);
        assert_int_equal(sv_schedules_end(w, run.id, "ok", &err), SV_OK);
    }
    assert_int_equal(sv_schedules_runs(w, s.key, &out, &err), SV_OK);
    assert_int_equal(json_array_size(out), 100);
    assert_string_equal(sv_json_cstr(json_array_get(out, 0), "outcome"), "ok");
    assert_string_equal(sv_json_cstr(json_array_get(out, 0), "trigger"), "manual");
    json_decref(out);
    assert_int_equal(claim(1893456000000, &run), 1); /* 2030-01-01, and then the process ends */
    assert_int_equal(sv_schedules_cut(w, &err), SV_OK);
    int64_t was = run.scheduled_ms;
    assert_int_equal(claim(sv_now_ms() > was ? sv_now_ms() : was, &run), 1);
    assert_int_equal(run.scheduled_ms, was);
    assert_int_equal(sv_schedules_cut(w, &err), SV_OK); /* again: but not for ever */
    assert_int_equal(claim(was, &run), 0);
    assert_int_equal(sv_schedules_runs(w, s.key, &out, &err), SV_OK);
    assert_string_equal(sv_json_cstr(json_array_get(out, 0), "outcome"), "interrupted");
    assert_string_equal(sv_json_cstr(json_array_get(out, 0), "trigger"), "again");
    json_decref(out);
    assert_int_equal(sv_deploy_delete(w, me.account, "timed", true, &err), SV_OK);
    assert_int_equal(claim(4000000000000, &run), 0); /* its schedules went with it */
    sv_script_done(&s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_deployment_is_there_after_reopening), T(a_redeployment_keeps_the_secret_and_numbers_go_up),
        T(an_uploaded_version_serves_only_when_it_is_deployed), T(a_sealed_secret_is_bound_to_its_place), T(a_name_is_a_host_of_one_account_only),
        T(a_refused_upload_leaves_nothing), T(old_versions_are_forgotten_but_never_the_deployed_one), T(deleting_takes_rows_and_files),
        T(bound_workers_are_one_unit_from_either_side), T(more_workers_than_a_process_holds_are_refused), T(assets_are_laid_out_for_each_version),
        T(paths_never_leave_the_site), T(bytes_must_be_those_of_the_manifest), T(after_kill_9_all_that_was_acknowledged_is_there),
        T(schedules_are_replaced_whole_or_not_at_all), T(what_was_due_is_claimed_once_for_the_last_time_that_was_missed),
        T(runs_are_kept_with_their_outcomes_and_one_that_was_cut_runs_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
