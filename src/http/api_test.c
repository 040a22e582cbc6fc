/* api_test.c - Cloudflare's envelope as a client reads it */
#include "http/testing.h"

#define REQUEST(path) "GET " path " HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

static void get_ok(sv_req *r, void *ctx) { (void)ctx, sv_api_ok(r, json_pack("{s:s}", "a", "b\"\xc3\xa9")); }
static void get_null(sv_req *r, void *ctx) { (void)ctx, sv_api_ok_status(r, 201, NULL); }
static void get_info(sv_req *r, void *ctx) { (void)ctx, sv_api_ok_info(r, json_array(), json_pack("{s:s}", "cursor", "")); }
static void get_text(sv_req *r, void *ctx) { (void)ctx, sv_api_ok_text(r, SV_STR("[1,2.5]")); }

static void get_error(sv_req *r, void *ctx)
{
    (void)ctx;
    char longer[1500];
    memset(longer, 'x', sizeof longer);
    memcpy(longer + 1020, "\xc3\xa9\xc3\xa9\xc3\xa9", 6);
    longer[1499] = '\0';
    sv_str s;
    sv_api_error(r, 418, 10021, "%s", sv_req_query(r, "long", 0, &s) ? longer : "Uncaught \"Error\"\n  at index.js:1");
}

static void get_fail(sv_req *r, void *ctx)
{
    (void)ctx;
    sv_err err = {0};
    sv_str s;
    int64_t rc, e;
    SV_ASSERT(sv_req_query(r, "rc", 0, &s) && sv_str_to_i64(s, &rc));
    if (sv_req_query(r, "errno", 0, &s) && sv_str_to_i64(s, &e)) {
        errno = (int)e;
        (void)sv_fail_errno(&err, "the secret path /var/x");
    } else if (sv_req_query(r, "code", 0, &s))
        (void)sv_fail_api(&err, (sv_rc)rc, 5007, "the secret path /var/x");
    else
        (void)sv_fail(&err, (sv_rc)rc, "the secret path /var/x");
    sv_api_fail(r, &err, 7000);
}

static void get_page(sv_req *r, void *ctx)
{
    (void)ctx;
    json_t *all = json_array();
    for (int i = 0; i < 45; i++)
        json_array_append_new(all, json_integer(i));
    sv_api_ok_page(r, all, 20);
}

static const sv_route routes[] = {
    {.method = "GET", .path = "/ok", .fn = get_ok},       {.method = "GET", .path = "/null", .fn = get_null},
    {.method = "GET", .path = "/info", .fn = get_info},   {.method = "GET", .path = "/text", .fn = get_text},
    {.method = "GET", .path = "/error", .fn = get_error}, {.method = "GET", .path = "/fail", .fn = get_fail},
    {.method = "GET", .path = "/page", .fn = get_page},   {.method = "GET", .path = "/job", .fn = get_ok, .flags = SV_ROUTE_JOB},
};

static world w;

static int set_up(void **state)
{
    (void)state;
    world_start(&w, NULL, routes, SV_LEN(routes));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_stop(&w);
    return 0;
}

/* The body as jansson reads it; the status line must begin with `status`. */
static json_t *get(const char *request, const char *status)
{
    char *a = ask(&w, request), line[32];
    snprintf(line, sizeof line, "HTTP/1.1 %s ", status);
    if (strncmp(a, line, strlen(line)) != 0)
        fail_msg("'%s' does not begin with '%s'", a, line);
    assert_has(a, "\r\nContent-Type: application/json\r\n");
    json_t *j = json_loads(strstr(a, "\r\n\r\n") + 4, 0, NULL);
    assert_non_null(j);
    free(a);
    return j;
}

static void assert_json(json_t *j, const char *want)
{
    json_t *k = json_loads(want, 0, NULL);
    assert_non_null(k);
    if (!json_equal(j, k))
        fail_msg("%s is not %s", json_dumps(j, 0), want);
    json_decref(j);
    json_decref(k);
}

static void results_come_in_the_envelope(void **state)
{
    (void)state;
    assert_json(get(REQUEST("/ok"), "200"), "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":{\"a\":\"b\\\"\xc3\xa9\"}}");
    assert_json(get(REQUEST("/job"), "200"), "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":{\"a\":\"b\\\"\xc3\xa9\"}}");
    assert_json(get(REQUEST("/null"), "201"), "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":null}");
    assert_json(get(REQUEST("/info"), "200"), "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":[],\"result_info\":{\"cursor\":\"\"}}");
    assert_json(get(REQUEST("/text"), "200"), "{\"success\":true,\"errors\":[],\"messages\":[],\"result\":[1,2.5]}");
}

static void errors_come_in_the_envelope(void **state)
{
    (void)state;
    assert_json(get(REQUEST("/error"), "418"), "{\"success\":false,\"errors\":[{\"code\":10021,\"message\":\"Uncaught \\\"Error\\\"\\n  at index.js:1\"}],"
                                               "\"messages\":[],\"result\":null}");
    json_t *j = get(REQUEST("/error?long=1"), "418"); /* cut between characters: json_loads has checked the UTF-8 */
    const char *m = json_string_value(json_object_get(json_array_get(json_object_get(j, "errors"), 0), "message"));
    assert_in_range(strlen(m), 1020, 1023);
    assert_string_equal(m + 1020, "\xc3\xa9");
    json_decref(j);
}

static void failures_of_ours_keep_their_text_in_the_log(void **state)
{
    (void)state;
    assert_json(get(REQUEST("/fail?rc=-2"), "404"), "{\"success\":false,\"errors\":[{\"code\":7000,\"message\":\"the secret path /var/x\"}],\"messages\":[],\"result\":null}");
    assert_json(get(REQUEST("/fail?rc=-1&code=1"), "400"),
                "{\"success\":false,\"errors\":[{\"code\":5007,\"message\":\"the secret path /var/x\"}],\"messages\":[],\"result\":null}");
    static const char *const ours[][2] = {{REQUEST("/fail?rc=-6"), "502"}, {REQUEST("/fail?rc=-7"), "503"},
                                          {REQUEST("/fail?rc=0&errno=28"), "507"}, /* ENOSPC */
                                          {REQUEST("/fail?rc=0&errno=2"), "500"}}; /* ENOENT: a file of ours is missing */
    for (size_t i = 0; i < SV_LEN(ours); i++) {
        json_t *j = get(ours[i][0], ours[i][1]);
        char *text = json_dumps(j, 0);
        assert_lacks(text, "secret");
        assert_has(text, "internal error; the log has it under ");
        free(text);
        json_decref(j);
    }
}

static void every_code_has_its_status(void **state)
{
    (void)state;
    static const struct { sv_rc rc; int status; } want[] = {{SV_OK, 200}, {SV_EINVAL, 400}, {SV_EFORMAT, 400}, {SV_ENOENT, 404}, {SV_ECONFLICT, 409},
                                                            {SV_ELIMIT, 429}, {SV_ETIMEDOUT, 504}, {SV_EIO, 502}, {SV_ENOMEM, 503}, {SV_ECANCELED, 499}};
    for (size_t i = 0; i < SV_LEN(want); i++)
        assert_int_equal(sv_http_status_of(want[i].rc), want[i].status);
    assert_int_equal(sv_http_status_of((sv_rc)-99), 500);
}

static void assert_page(const char *request, int first, int count, const char *info)
{
    json_t *j = get(request, "200"), *result = json_object_get(j, "result");
    assert_int_equal(json_array_size(result), count);
    for (int i = 0; i < count; i++)
        assert_int_equal(json_integer_value(json_array_get(result, (size_t)i)), first + i);
    assert_json(json_incref(json_object_get(j, "result_info")), info);
    json_decref(j);
}

static void lists_are_cut_into_pages(void **state)
{
    (void)state;
    assert_page(REQUEST("/page"), 0, 20, "{\"page\":1,\"per_page\":20,\"count\":20,\"total_count\":45,\"total_pages\":3}");
    assert_page(REQUEST("/page?page=3"), 40, 5, "{\"page\":3,\"per_page\":20,\"count\":5,\"total_count\":45,\"total_pages\":3}");
    assert_page(REQUEST("/page?page=4"), 0, 0, "{\"page\":4,\"per_page\":20,\"count\":0,\"total_count\":45,\"total_pages\":3}");
    assert_page(REQUEST("/page?per_page=45&page=1"), 0, 45, "{\"page\":1,\"per_page\":45,\"count\":45,\"total_count\":45,\"total_pages\":1}");
    assert_page(REQUEST("/page?page=2147483647&per_page=1000"), 0, 0,
                "{\"page\":2147483647,\"per_page\":1000,\"count\":0,\"total_count\":45,\"total_pages\":1}");
    static const char *const broken[] = {REQUEST("/page?page=0"), REQUEST("/page?page=-1"), REQUEST("/page?page=x"), REQUEST("/page?per_page=1001"),
                                         REQUEST("/page?page=99999999999999999999")};
    for (size_t i = 0; i < SV_LEN(broken); i++)
        json_decref(get(broken[i], "400"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_come_in_the_envelope), cmocka_unit_test(errors_come_in_the_envelope),
        cmocka_unit_test(failures_of_ours_keep_their_text_in_the_log), cmocka_unit_test(every_code_has_its_status),
        cmocka_unit_test(lists_are_cut_into_pages),
    };
    return cmocka_run_group_tests_name("api", tests, set_up, tear_down);
}
