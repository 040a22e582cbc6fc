/* router_test.c - which route takes which path, and what it sees */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <llhttp.h>

#include "http/router_impl.h"

static void handler(sv_req *r, void *ctx) { (void)r, (void)ctx; }

static sv_router *table(void)
{
    static const char *const routes[][2] = {
        {"GET", "/ai/*model"},       {"GET", "/ai/:task/info"}, {"POST", "/ai/run"},   {"GET", "/"},          {"*", "/any"},
        {"GET", "/kv/:ns/values/:key"}, {"PUT", "/kv/:ns/values/:key"}, {"POST", "/kv/:ns/bulk"}, {"GET", "/kv/:ns/*rest"}, {"GET", "/any"},
        {"CONNECT", "/tunnel"},
    };
    sv_router *r = sv_router_new();
    for (size_t i = 0; i < SV_LEN(routes); i++) {
        sv_route route = {.method = routes[i][0], .path = routes[i][1], .fn = handler};
        sv_router_add(r, &route, NULL);
    }
    return r;
}

/* "path-pattern|param|param" of what was found, or "404" or "405 mask". */
static const char *find(const sv_router *r, const char *method, const char *prefix, const char *path)
{
    static char out[256];
    sv_match m;
    sv_router_find(r, sv_method_number(method), sv_str_of(prefix), sv_str_of(path), &m);
    if (!m.entry) {
        snprintf(out, sizeof out, m.allow ? "405 %llx" : "404", (unsigned long long)m.allow);
        return out;
    }
    int n = snprintf(out, sizeof out, "%s %s", m.entry->route.method, m.entry->route.path);
    for (int i = 0; i < m.entry->n_params; i++)
        n += snprintf(out + n, sizeof out - (size_t)n, "|%.*s", (int)m.params[i].n, m.params[i].p);
    return out;
}

static void the_most_specific_route_wins_whatever_the_order(void **state)
{
    (void)state;
    sv_router *r = table();
    assert_string_equal(find(r, "POST", "", "/ai/run"), "POST /ai/run");
    assert_string_equal(find(r, "GET", "", "/ai/run/info"), "GET /ai/:task/info|run"); /* back out of the literal "run" */
    assert_string_equal(find(r, "GET", "", "/ai/run"), "GET /ai/*model|run");          /* literal, but another method */
    assert_string_equal(find(r, "GET", "", "/ai/a/b/c"), "GET /ai/*model|a/b/c");
    assert_string_equal(find(r, "GET", "", "/kv/n/values/k"), "GET /kv/:ns/values/:key|n|k");
    assert_string_equal(find(r, "GET", "", "/kv/n/values/k/x"), "GET /kv/:ns/*rest|n|values/k/x");
    assert_string_equal(find(r, "GET", "", "/kv/n/bulk"), "GET /kv/:ns/*rest|n|bulk");
    sv_router_free(r);
}

static void segments_are_compared_raw(void **state)
{
    (void)state;
    sv_router *r = table();
    assert_string_equal(find(r, "PUT", "", "/kv/n/values/a%2Fb%2f"), "PUT /kv/:ns/values/:key|n|a%2Fb%2f");
    assert_string_equal(find(r, "POST", "", "/%61i/run"), "404");
    assert_string_equal(find(r, "POST", "", "/AI/run"), "404");
    sv_router_free(r);
}

static void one_trailing_slash_does_not_count(void **state)
{
    (void)state;
    sv_router *r = table();
    assert_string_equal(find(r, "GET", "", "/"), "GET /");
    assert_string_equal(find(r, "POST", "", "/ai/run/"), "POST /ai/run");
    assert_string_equal(find(r, "PUT", "", "/kv/n/values/k/"), "PUT /kv/:ns/values/:key|n|k");
    assert_string_equal(find(r, "POST", "", "/ai//run"), "405 2"); /* only "*model" takes "/run" */
    assert_string_equal(find(r, "PUT", "", "/kv/n/values//"), "405 2"); /* ":key" is never empty */
    assert_string_equal(find(r, "PUT", "", "/kv/n/values/"), "405 2");
    assert_string_equal(find(r, "GET", "", "/ai/dir/"), "GET /ai/*model|dir/"); /* but is part of "*rest" */
    assert_string_equal(find(r, "GET", "", "/ai/"), "404");
    assert_string_equal(find(r, "GET", "", "/ai"), "404");
    sv_router_free(r);
}

static void other_methods_are_told_and_head_finds_get(void **state)
{
    (void)state;
    sv_router *r = table();
    char both[32];
    snprintf(both, sizeof both, "405 %x", 1u << HTTP_GET | 1u << HTTP_PUT);
    assert_string_equal(find(r, "DELETE", "", "/kv/n/values/k"), both);
    assert_string_equal(find(r, "HEAD", "", "/kv/n/values/k"), "GET /kv/:ns/values/:key|n|k");
    assert_string_equal(find(r, "DELETE", "", "/any"), "* /any");
    assert_string_equal(find(r, "GET", "", "/any"), "GET /any");
    assert_string_equal(find(r, "CONNECT", "", "/tunnel"), "CONNECT /tunnel");
    assert_string_not_equal(find(r, "CONNECT", "", "/any"), "* /any"); /* a tunnel is not for who did not ask for it */
    sv_router_free(r);
}

static void a_prefix_is_one_segment_in_front(void **state)
{
    (void)state;
    sv_router *r = table();
    assert_string_equal(find(r, "POST", "ai", "/run"), "POST /ai/run");
    assert_string_equal(find(r, "GET", "ai", "/x/y"), "GET /ai/*model|x/y");
    assert_string_equal(find(r, "GET", "any", "/"), "GET /any");
    assert_string_equal(find(r, "POST", "a/i", "/run"), "404");
    assert_string_equal(find(r, "POST", "kv", "/n/bulk/"), "POST /kv/:ns/bulk|n");
    assert_string_equal(find(r, "POST", "nope", "/run"), "404");
    sv_router_free(r);
}

static void odd_paths_find_nothing(void **state)
{
    (void)state;
    sv_router *r = table();
    static const char *const odd[] = {"", "*", "host:443", "http://h/ai/run", "//ai/run", "/../ai/run", "/ai%2Frun"};
    for (size_t i = 0; i < SV_LEN(odd); i++)
        assert_string_equal(find(r, "POST", "", odd[i]), "404");
    sv_router_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_specific_route_wins_whatever_the_order),
        cmocka_unit_test(segments_are_compared_raw),
        cmocka_unit_test(one_trailing_slash_does_not_count),
        cmocka_unit_test(other_methods_are_told_and_head_finds_get),
        cmocka_unit_test(a_prefix_is_one_segment_in_front),
        cmocka_unit_test(odd_paths_find_nothing),
    };
    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
