/* Tests of account_rest.h over a real server on a unix socket: who am I, and what a wrong token or another's account meets. */
#include "account/account_rest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/thread.h"
#include "http/api.h"

static char root[] = "/tmp/sv-account-rest-test-XXXXXX";
static char sock[128], token[64], account[64];
static sv_accounts *accounts;
static sv_loop *loop;
static sv_http *server;
static pthread_t thread;

static bool before(sv_req *r, void *ctx) { return sv_account_before(r, ctx); }

/* Stands for any product's route: tells whom it sees. */
static void who_is_there(sv_req *r, void *ctx)
{
    const sv_principal *who = sv_req_user(r);
    (void)ctx;
    sv_api_ok(r, json_pack("{s:s?, s:s?}", "account", who ? who->account_id : NULL, "token", who ? who->name : NULL));
}

static void *run_loop(void *arg)
{
    (void)arg;
    sv_loop_run(loop);
    return NULL;
}

static int start(void **state)
{
    static const sv_route others[] = {
        {.method = "GET", .path = "/client/v4/accounts/:account/things", .fn = who_is_there},
        {.method = "POST", .path = "/client/v4/accounts/:account/workers/assets/upload", .fn = who_is_there},
        {.method = "POST", .path = "/client/v4/accounts/:account/workers/assets/upload/:hash", .fn = who_is_there},
        {.method = "GET", .path = "/client/v4/accounts/:account/workers/assets/upload", .fn = who_is_there},
        {.method = "GET", .path = "/client/v4/accounts/:account/ai/v1/models", .fn = who_is_there},
        {.method = "GET", .path = "/", .fn = who_is_there},
        {.method = "GET", .path = "/client/v40", .fn = who_is_there},
    };
    sv_err err = {0};
    int fd = -1;
    (void)state;
    if (!mkdtemp(root))
        return -1;
    SV_AUTO(sv_freep) char *data = sv_xasprintf("%s/data", root), *token_path = sv_xasprintf("%s/token", data);
    snprintf(sock, sizeof sock, "%s/s", root);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    if (sv_accounts_open(&accounts, data, &err) != SV_OK || sv_unix_listen(&fd, sock, 16, &err) != SV_OK ||
        sv_file_read(&b, token_path, &err) != SV_OK)
        return -1;
    snprintf(token, sizeof token, "%s", b.p);
    snprintf(account, sizeof account, "%s", sv_accounts_first_id(accounts));
    loop = sv_loop_new();
    server = sv_http_new(loop, &(sv_http_opts){.before = before, .ctx = accounts});
    sv_account_rest_routes(server, accounts);
    for (size_t i = 0; i < SV_LEN(others); i++)
        sv_http_route(server, &others[i], NULL);
    sv_http_listen(server, fd, NULL);
    thread = sv_thread_start("loop", run_loop, NULL);
    return 0;
}

static int stop(void **state)
{
    sv_err err = {0};
    (void)state;
    sv_loop_stop(loop);
    pthread_join(thread, NULL);
    sv_http_free(server);
    sv_loop_free(loop);
    sv_accounts_close(accounts);
    return sv_remove_tree(root, &err) == SV_OK ? 0 : -1;
}

typedef struct answer { int status; json_t *body; } answer;

static void answer_donep(answer *a) { json_decref(a->body); }

/* One request on a connection of its own. authorization NULL: none. */
static answer ask(const char *method, const char *path, const char *authorization)
{
    int fd = -1;
    sv_err err = {0};
    answer a = {0};
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n", method, path);
    if (authorization)
        sv_buf_addf(&b, "Authorization: %s\r\n", authorization);
    sv_buf_adds(&b, "\r\n");
    assert_int_equal(sv_unix_connect(&fd, sock, &err), SV_OK);
    assert_int_equal(send(fd, b.p, b.n, 0), b.n);
    sv_buf_reset(&b);
    for (ssize_t n = 1; n != 0;) {
        char piece[4096];
        n = recv(fd, piece, sizeof piece, 0);
        if (n > 0)
            sv_buf_add(&b, piece, (size_t)n);
        else if (n < 0)
            usleep(500); /* non-blocking */
    }
    close(fd);
    assert_int_equal(sscanf(b.p, "HTTP/1.1 %d", &a.status), 1);
    const char *body = strstr(b.p, "\r\n\r\n");
    assert_non_null(body);
    if (sv_json_parse(&a.body, sv_str_of(body + 4), &err) != SV_OK)
        fail_msg("%s: %s", err.msg, b.p);
    return a;
}

static const char *bearer(void)
{
    static char header[80];
    snprintf(header, sizeof header, "Bearer %s", token);
    return header;
}

static const char *below_account(const char *rest)
{
    static char path[256];
    snprintf(path, sizeof path, "/client/v4/accounts/%s%s", account, rest);
    return path;
}

static int first_code(const answer *a)
{
    return (int)json_integer_value(json_object_get(json_array_get(json_object_get(a->body, "errors"), 0), "code"));
}

static json_t *result(const answer *a)
{
    assert_int_equal(a->status, 200);
    assert_true(json_is_true(json_object_get(a->body, "success")));
    return json_object_get(a->body, "result");
}

static void whoami_gets_the_four_answers_it_asks_for(void **state)
{
    (void)state;
    SV_AUTO(answer_donep) answer verify = ask("GET", "/client/v4/user/tokens/verify", bearer());
    assert_string_equal(sv_json_cstr(result(&verify), "status"), "active");
    assert_int_equal(strlen(sv_json_cstr(result(&verify), "id")), 32);
    json_t *message = json_array_get(json_object_get(verify.body, "messages"), 0);
    assert_int_equal(json_integer_value(json_object_get(message, "code")), 10000);

    SV_AUTO(answer_donep) answer user = ask("GET", "/client/v4/user", bearer());
    assert_non_null(strchr(sv_json_cstr(result(&user), "email"), '@'));

    SV_AUTO(answer_donep) answer all = ask("GET", "/client/v4/accounts?page=1", bearer());
    assert_int_equal(json_array_size(result(&all)), 1);
    assert_string_equal(sv_json_cstr(json_array_get(result(&all), 0), "id"), account);
    assert_string_equal(sv_json_cstr(json_array_get(result(&all), 0), "name"), "Selvedge");

    SV_AUTO(answer_donep) answer members = ask("GET", "/client/v4/memberships?page=1", bearer());
    json_t *member = json_array_get(result(&members), 0);
    assert_string_equal(sv_json_cstr(json_object_get(member, "account"), "id"), account);
}

static void pages_past_the_end_are_empty(void **state)
{
    static const char *const lists[] = {"/client/v4/accounts", "/client/v4/memberships", "/client/v4/zones"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(lists); i++) {
        char path[64];
        snprintf(path, sizeof path, "%s?page=2&per_page=50", lists[i]);
        SV_AUTO(answer_donep) answer a = ask("GET", path, bearer());
        assert_int_equal(json_array_size(result(&a)), 0);
        assert_true(json_is_array(result(&a)));
    }
}

static void an_account_is_shown_to_its_own_token(void **state)
{
    (void)state;
    SV_AUTO(answer_donep) answer a = ask("GET", below_account(""), bearer());
    assert_string_equal(sv_json_cstr(result(&a), "id"), account);
    SV_AUTO(answer_donep) answer v = ask("GET", below_account("/tokens/verify"), bearer());
    assert_string_equal(sv_json_cstr(result(&v), "status"), "active");
    SV_AUTO(answer_donep) answer t = ask("GET", below_account("/things"), bearer());
    assert_string_equal(sv_json_cstr(result(&t), "account"), account);
    assert_string_equal(sv_json_cstr(result(&t), "token"), "first");
}

static void a_wrong_token_is_refused_as_each_client_wants_it(void **state)
{
    static const struct { const char *method, *path; int status, code; } cases[] = {
        {"GET", "/client/v4/user/tokens/verify", 401, 1000}, {"GET", "/client/v4/user", 403, 9109},
        {"GET", "/client/v4/accounts", 403, 10000},          {"GET", "/client/v4/memberships?page=1", 403, 10000},
        {"GET", "/client/v4/accounts/", 403, 10000},         {"GET", "/client/v4/no/such/route", 403, 10000},
        {"DELETE", "/client/v4/user", 403, 9109},            {"GET", "/client/v4", 403, 10000},
        {"GET", "/client/v4/accounts/0123/things", 403, 10000},
    };
    static const char *const headers[] = {NULL, "Bearer wrong", "Basic eDp5", "Bearer", ""};
    (void)state;
    for (size_t i = 0; i < SV_LEN(cases); i++)
        for (size_t h = 0; h < SV_LEN(headers); h++) {
            SV_AUTO(answer_donep) answer a = ask(cases[i].method, cases[i].path, headers[h]);
            if (a.status != cases[i].status || first_code(&a) != cases[i].code)
                fail_msg("%s with '%s': %d/%d", cases[i].path, headers[h] ? headers[h] : "nothing", a.status, first_code(&a));
            assert_true(json_is_false(json_object_get(a.body, "success")));
        }
    SV_AUTO(answer_donep) answer own = ask("GET", below_account("/things"), "Bearer wrong");
    assert_int_equal(own.status, 403);
    assert_string_equal(sv_json_cstr(json_array_get(json_object_get(own.body, "errors"), 0), "message"), "Authentication error");
}

static void openai_clients_find_the_message_where_they_look(void **state)
{
    (void)state;
    SV_AUTO(answer_donep) answer a = ask("GET", below_account("/ai/v1/models"), "Bearer wrong");
    assert_int_equal(a.status, 403);
    assert_int_equal(first_code(&a), 10000);
    assert_string_equal(sv_json_cstr(json_object_get(a.body, "error"), "message"), "Authentication error");
    assert_string_equal(sv_json_cstr(json_object_get(a.body, "error"), "code"), "invalid_api_key");
}

static void another_account_is_out_of_reach(void **state)
{
    static const char *const foreign[] = {"/client/v4/accounts/0123456789abcdef0123456789abcdef",
                                          "/client/v4/accounts/0123456789abcdef0123456789abcdef/things"};
    static const char *const nonsense[] = {"/client/v4/accounts/me/things", "/client/v4/accounts//things", "/client/v4/accounts/x%2fy"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(foreign); i++) {
        SV_AUTO(answer_donep) answer a = ask("GET", foreign[i], bearer());
        assert_int_equal(a.status, 403);
        assert_int_equal(first_code(&a), 10000);
    }
    for (size_t i = 0; i < SV_LEN(nonsense); i++) {
        SV_AUTO(answer_donep) answer a = ask("GET", nonsense[i], bearer());
        assert_int_equal(a.status, 404);
        assert_int_equal(first_code(&a), 7003);
    }
}

static void asset_uploads_carry_a_token_of_their_own(void **state)
{
    (void)state;
    static const char *const open_paths[] = {"/workers/assets/upload", "/workers/assets/upload?base64=true", "/workers/assets/upload/0a1b"};
    for (size_t i = 0; i < SV_LEN(open_paths); i++) {
        SV_AUTO(answer_donep) answer a = ask("POST", below_account(open_paths[i]), "Bearer h.p.s");
        assert_true(json_is_null(json_object_get(result(&a), "account")));
    }
    /* Only that: another method, or a neighbour that begins alike, needs the API token. */
    SV_AUTO(answer_donep) answer get = ask("GET", below_account("/workers/assets/upload"), "Bearer h.p.s");
    assert_int_equal(get.status, 403);
    SV_AUTO(answer_donep) answer alike = ask("POST", below_account("/workers/assets/uploads"), "Bearer h.p.s");
    assert_int_equal(alike.status, 403);
    SV_AUTO(answer_donep) answer nobody = ask("POST", "/client/v4/accounts/me/workers/assets/upload", "Bearer h.p.s");
    assert_int_equal(nobody.status, 403);
}

static void paths_outside_the_api_are_not_asked_for_a_token(void **state)
{
    (void)state;
    SV_AUTO(answer_donep) answer a = ask("GET", "/", NULL);
    assert_int_equal(a.status, 200);
    SV_AUTO(answer_donep) answer b = ask("GET", "/client/v40", NULL);
    assert_int_equal(b.status, 200);
}

static void a_revoked_token_is_refused_at_once(void **state)
{
    (void)state;
    char text[64], id[33], header[80];
    sv_err err = {0};
    assert_int_equal(sv_token_create(accounts, account, "brief", text, id, &err), SV_OK);
    snprintf(header, sizeof header, "Bearer %s", text);
    SV_AUTO(answer_donep) answer with = ask("GET", below_account("/things"), header);
    assert_string_equal(sv_json_cstr(result(&with), "token"), "brief");
    assert_int_equal(sv_token_revoke(accounts, id, &err), SV_OK);
    SV_AUTO(answer_donep) answer without = ask("GET", below_account("/things"), header);
    assert_int_equal(without.status, 403);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoami_gets_the_four_answers_it_asks_for),
        cmocka_unit_test(pages_past_the_end_are_empty),
        cmocka_unit_test(an_account_is_shown_to_its_own_token),
        cmocka_unit_test(a_wrong_token_is_refused_as_each_client_wants_it),
        cmocka_unit_test(openai_clients_find_the_message_where_they_look),
        cmocka_unit_test(another_account_is_out_of_reach),
        cmocka_unit_test(asset_uploads_carry_a_token_of_their_own),
        cmocka_unit_test(paths_outside_the_api_are_not_asked_for_a_token),
        cmocka_unit_test(a_revoked_token_is_refused_at_once),
    };
    return cmocka_run_group_tests_name("account_rest", tests, start, stop);
}
