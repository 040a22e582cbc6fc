/* kv_hot_test.c - what is kept, what goes, and that nothing old comes back */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kv/kv_hot.h"

static const sv_str account = {"acc", 3}, ns = {"ns", 2};

static void keep(sv_kv_hot *h, const char *key, const char *text, int64_t expires_s)
{
    sv_kv_pass p = sv_kv_hot_before(h, account, ns, sv_str_of(key));
    sv_kvs_value v = {.n = (int64_t)strlen(text), .expires_s = expires_s, .fd = -1, .bytes = (char *)text, .metadata = (char *)"{\"a\":1}"};
    sv_kv_hot_keep(h, p, account, ns, sv_str_of(key), &v);
}

static bool has(sv_kv_hot *h, const char *key, const char *text, int64_t now_s)
{
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    bool found = sv_kv_hot_get(h, account, ns, sv_str_of(key), now_s, &v);
    if (found) {
        assert_int_equal(v.n, strlen(text));
        assert_memory_equal(v.bytes, text, strlen(text));
        assert_string_equal(v.metadata, "{\"a\":1}");
    }
    sv_kvs_value_done(&v);
    return found;
}

static void a_kept_value_is_found_until_it_expires(void **state)
{
    sv_kv_hot *h = sv_kv_hot_new(1 << 20);
    (void)state;
    keep(h, "a", "one", 0);
    keep(h, "b", "two", 100);
    assert_true(has(h, "a", "one", 1000));
    assert_true(has(h, "b", "two", 99));
    assert_false(has(h, "b", "two", 100));
    assert_false(has(h, "b", "two", 99)); /* it is gone */
    assert_false(has(h, "c", "", 0));
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    assert_false(sv_kv_hot_get(h, SV_STR("other"), ns, SV_STR("a"), 0, &v));
    sv_kv_hot_free(h);
}

static void the_least_recently_used_go_and_large_values_do_not_come(void **state)
{
    sv_kv_hot *h = sv_kv_hot_new(64 << 10);
    char key[16], *big = malloc(SV_KV_HOT_VALUE + 2), text[1001];
    (void)state;
    memset(text, 'x', 1000);
    text[1000] = 0;
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        keep(h, key, text, 0);
        assert_true(has(h, "k0", text, 0)); /* used again and again */
    }
    assert_true(has(h, "k199", text, 0));
    assert_false(has(h, "k1", text, 0));
    memset(big, 'y', SV_KV_HOT_VALUE + 1);
    big[SV_KV_HOT_VALUE + 1] = 0;
    keep(h, "big", big, 0);
    assert_false(has(h, "big", big, 0));
    free(big);
    sv_kv_hot_free(h);
}

static void what_a_write_overtook_is_not_kept(void **state)
{
    sv_kv_hot *h = sv_kv_hot_new(1 << 20);
    sv_kvs_change c = {.op = SV_KVS_PUT, .ns = ns, .key = SV_STR("a")};
    sv_kvs_write w = {.account = account, .v = &c, .n = 1}, *v[] = {&w};
    sv_kvs_value old = {.n = 3, .fd = -1, .bytes = (char *)"old"};
    (void)state;
    keep(h, "a", "old", 0);
    sv_kv_pass before = sv_kv_hot_before(h, account, ns, c.key);
    sv_kv_hot_writing(h, v, 1);
    assert_false(has(h, "a", "old", 0));
    sv_kv_pass during = sv_kv_hot_before(h, account, ns, c.key);
    sv_kv_hot_keep(h, before, account, ns, c.key, &old);
    assert_false(has(h, "a", "old", 0));
    sv_kv_hot_written(h, v, 1);
    sv_kv_hot_keep(h, before, account, ns, c.key, &old);
    sv_kv_hot_keep(h, during, account, ns, c.key, &old);
    assert_false(has(h, "a", "old", 0));
    keep(h, "a", "new", 0);
    assert_true(has(h, "a", "new", 0));

    c = (sv_kvs_change){.op = SV_KVS_NS_DELETE, .ns = ns};
    sv_kv_pass pass = sv_kv_hot_before(h, account, ns, SV_STR("a"));
    sv_kv_hot_writing(h, v, 1);
    sv_kv_hot_written(h, v, 1);
    assert_false(has(h, "a", "new", 0));
    sv_kv_hot_keep(h, pass, account, ns, SV_STR("a"), &old);
    assert_false(has(h, "a", "old", 0));
    sv_kv_hot_free(h);
}

/* A number that only grows, in a variable that is the disk: no reader may see it fall. */
typedef struct race { sv_kv_hot *h; _Atomic int disk, stop; } race;

static void *read_all(void *arg)
{
    race *r = arg;
    for (int seen = 0, n; !r->stop; seen = n) {
        sv_kvs_value v;
        sv_kvs_value_init(&v);
        sv_kv_pass p = sv_kv_hot_before(r->h, account, ns, SV_STR("n"));
        if (sv_kv_hot_get(r->h, account, ns, SV_STR("n"), 0, &v)) {
            n = atoi(v.bytes);
            sv_kvs_value_done(&v);
        } else {
            char text[16];
            n = r->disk;
            int len = snprintf(text, sizeof text, "%d", n);
            sv_kv_hot_keep(r->h, p, account, ns, SV_STR("n"), &(sv_kvs_value){.n = len, .fd = -1, .bytes = text});
        }
        if (n < seen)
            return (void *)"an older value came back";
    }
    return NULL;
}

static void no_reader_sees_an_older_value_again(void **state)
{
    race r = {.h = sv_kv_hot_new(1 << 20)};
    pthread_t t[3];
    (void)state;
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, read_all, &r);
    for (int n = 1; n < 20000; n++) {
        sv_kvs_change c = {.op = SV_KVS_PUT, .ns = ns, .key = SV_STR("n")};
        sv_kvs_write w = {.account = account, .v = &c, .n = 1}, *v[] = {&w};
        sv_kv_hot_writing(r.h, v, 1);
        r.disk = n;
        sv_kv_hot_written(r.h, v, 1);
    }
    r.stop = 1;
    for (int i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        if (wrong)
            fail_msg("%s", (const char *)wrong);
    }
    sv_kv_hot_free(r.h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_value_is_found_until_it_expires),
        cmocka_unit_test(the_least_recently_used_go_and_large_values_do_not_come),
        cmocka_unit_test(what_a_write_overtook_is_not_kept),
        cmocka_unit_test(no_reader_sees_an_older_value_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
