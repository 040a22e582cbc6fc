/* Tests of kv.h: the normal use first, then big values, expiry, lists and their cursors, namespaces, refusals, crashes. */
#include "kv/kv.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/time.h"

#define ACCOUNT SV_STR("acc1")
#define NS_ID "0123456789abcdef0123456789abcdef"

static char dir[] = "/tmp/sv-kv-test-XXXXXX";
static sv_kvs *kv;
static sv_kvs_ns ns;
static sv_err err;

static void make_ns(const char *account, const char *id, const char *title, sv_kvs_ns *out)
{
    sv_kvs_change c = {.op = SV_KVS_NS_CREATE, .ns = sv_str_of(id), .title = sv_str_of(title)};
    if (sv_kvs_apply(kv, sv_str_of(account), &c, 1, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sv_kvs_ns_find(kv, sv_str_of(account), sv_str_of(id), out, &err), SV_OK);
}

static int start(void **state)
{
    (void)state;
    err = (sv_err){0};
    assert_int_equal(sv_remove_tree(dir, &err), SV_OK);
    assert_int_equal(sv_kvs_open(&kv, dir, &err), SV_OK);
    make_ns("acc1", NS_ID, "one", &ns);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    kv = sv_kvs_close(kv);
    return 0;
}

static sv_rc put_full(const char *key, sv_str value, const char *metadata, int64_t expires_s)
{
    sv_kvs_change c = {.op = SV_KVS_PUT, .ns = SV_STR(NS_ID), .key = sv_str_of(key), .value = value, .metadata = sv_str_of(metadata), .expires_s = expires_s};
    err = (sv_err){0};
    return sv_kvs_spill(kv, &c, &err) == SV_OK ? sv_kvs_apply(kv, ACCOUNT, &c, 1, &err) : err.code;
}

static void put(const char *key, const char *value) { assert_int_equal(put_full(key, sv_str_of(value), NULL, 0), SV_OK); }

static void del(const char *key)
{
    sv_kvs_change c = {.op = SV_KVS_DELETE, .ns = SV_STR(NS_ID), .key = sv_str_of(key)};
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, &c, 1, &err), SV_OK);
}

/* The value of a key, or NULL; the caller's until the next call. */
static const char *get(const char *key)
{
    static sv_buf b;
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    sv_buf_reset(&b);
    b.max = 64 << 20;
    err = (sv_err){0};
    if (sv_kvs_get(kv, &ns, sv_str_of(key), &v, &err) != SV_OK) {
        assert_int_equal(err.code, SV_ENOENT);
        assert_int_equal(err.api_code, 10009);
        return NULL;
    }
    assert_int_equal(sv_kvs_value_read(&v, &b, &err), SV_OK);
    sv_kvs_value_done(&v);
    return sv_buf_cstr(&b);
}

static void what_is_put_is_read_until_it_is_deleted(void **state)
{
    (void)state;
    assert_null(get("a"));
    put("a", "one");
    assert_string_equal(get("a"), "one");
    put("a", "two");
    put("a/b", "");
    assert_string_equal(get("a"), "two");
    assert_string_equal(get("a/b"), "");
    del("a");
    assert_null(get("a"));
    del("a"); /* again is fine */
    assert_string_equal(get("a/b"), "");
}

static void metadata_and_expiry_come_back(void **state)
{
    (void)state;
    sv_kvs_value v;
    int64_t at = sv_now_ms() / 1000 + 100;
    assert_int_equal(put_full("k", SV_STR("v\0w"), "{\"a\":1}", at), SV_OK);
    sv_kvs_value_init(&v);
    assert_int_equal(sv_kvs_get(kv, &ns, SV_STR("k"), &v, &err), SV_OK);
    assert_string_equal(v.metadata, "{\"a\":1}");
    assert_int_equal(v.expires_s, at);
    assert_int_equal(v.n, 3);
    assert_memory_equal(v.bytes, "v\0w", 3);
    sv_kvs_value_done(&v);
    put("k", "plain"); /* a put without them takes them away */
    assert_int_equal(sv_kvs_get(kv, &ns, SV_STR("k"), &v, &err), SV_OK);
    assert_null(v.metadata);
    assert_int_equal(v.expires_s, 0);
    sv_kvs_value_done(&v);
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(sv_kvs_folder(kv));
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static char *pattern(size_t n, unsigned seed)
{
    char *p = sv_xcalloc(n + 1, 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (i * 7 + seed + i / 1000) % 26);
    return p;
}

static void big_values_lie_in_files_that_go_when_they_are_replaced(void **state)
{
    (void)state;
    static const size_t sizes[] = {SV_KVS_INLINE, SV_KVS_INLINE + 1, 3 << 20, SV_KVS_MAX_VALUE};
    for (size_t i = 0; i < SV_LEN(sizes); i++) {
        SV_AUTO(sv_freep) char *p = pattern(sizes[i], (unsigned)i);
        assert_int_equal(put_full("big", (sv_str){p, sizes[i]}, NULL, 0), SV_OK);
        assert_int_equal(count_files(), sizes[i] > SV_KVS_INLINE);
        assert_string_equal(get("big"), p);
    }
    put("big", "small");
    assert_int_equal(count_files(), 0);
    SV_AUTO(sv_freep) char *p = pattern(100000, 9);
    assert_int_equal(put_full("big", (sv_str){p, 100000}, NULL, 0), SV_OK);
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    assert_int_equal(sv_kvs_get(kv, &ns, SV_STR("big"), &v, &err), SV_OK);
    del("big"); /* one who reads it already goes on reading */
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_kvs_value_read(&v, &b, &err), SV_OK);
    assert_string_equal(sv_buf_cstr(&b), p);
    sv_kvs_value_done(&v);
    assert_int_equal(count_files(), 0);
}

static void a_refused_write_leaves_no_file_and_no_half(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *p = pattern(100000, 1);
    sv_kvs_change c[] = {
        {.op = SV_KVS_PUT, .ns = SV_STR(NS_ID), .key = SV_STR("x"), .value = SV_STR("1")},
        {.op = SV_KVS_PUT, .ns = SV_STR("nobody's"), .key = SV_STR("y"), .value = {p, 100000}},
    };
    assert_int_equal(sv_kvs_spill(kv, &c[1], &err), SV_OK);
    assert_int_equal(count_files(), 1);
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, c, 2, &err), SV_ENOENT);
    assert_int_equal(err.api_code, 10013);
    assert_null(get("x"));
    assert_int_equal(count_files(), 0);
}

static void an_entry_is_gone_the_second_it_expires_and_swept_later(void **state)
{
    (void)state;
    sv_kvs_stats s;
    int64_t now = sv_now_ms() / 1000;
    SV_AUTO(sv_freep) char *p = pattern(100000, 1);
    assert_int_equal(put_full("past", SV_STR("v"), NULL, now), SV_OK);
    assert_int_equal(put_full("past-big", (sv_str){p, 100000}, NULL, now - 5), SV_OK);
    assert_int_equal(put_full("soon", SV_STR("v"), NULL, now + 2), SV_OK);
    assert_null(get("past"));
    assert_null(get("past-big"));
    assert_string_equal(get("soon"), "v");
    while (sv_now_ms() < (now + 2) * 1000)
        usleep(1000);
    assert_null(get("soon"));
    assert_int_equal(sv_kvs_sweep(kv, &err), SV_OK);
    assert_int_equal(sv_kvs_get_stats(kv, &s, &err), SV_OK);
    assert_int_equal(s.n_entries, 0);
    assert_int_equal(count_files(), 0);
}

/* ---- lists ---- */

typedef struct listing { char names[4000][24]; size_t n; sv_buf next; int64_t expires_s; char metadata[64]; } listing;
static listing l;

static void take(void *arg, const sv_kvs_entry *e)
{
    listing *to = arg;
    snprintf(to->names[to->n++], 24, "%.*s", (int)e->name.n, e->name.p);
    to->expires_s = e->expires_s;
    snprintf(to->metadata, sizeof to->metadata, "%.*s", (int)e->metadata.n, e->metadata.p ? e->metadata.p : "");
}

static sv_rc list(const char *prefix, sv_str cursor, int64_t limit)
{
    SV_AUTO(sv_buf_donep) sv_buf next;
    sv_buf_init(&next, 4096);
    l.n = 0;
    err = (sv_err){0};
    sv_rc rc = sv_kvs_list(kv, &ns, sv_str_of(prefix), cursor, limit, take, &l, &next, &err);
    l.next.max = 4096;
    sv_buf_reset(&l.next); /* the cursor given may have been this */
    sv_buf_add(&l.next, next.p, next.n);
    return rc;
}

static void lists_are_in_the_order_of_bytes(void **state)
{
    (void)state;
    static const char *const names[] = {"b", "a", "\xc3\xa9", "a/2", "a/10", "Z", "a\xf0\x9f\x98\x80"};
    static const char *const sorted[] = {"Z", "a", "a/10", "a/2", "a\xf0\x9f\x98\x80", "b", "\xc3\xa9"};
    for (size_t i = 0; i < SV_LEN(names); i++)
        put(names[i], "v");
    assert_int_equal(list("", (sv_str){0}, 1000), SV_OK);
    assert_int_equal(l.n, SV_LEN(names));
    assert_int_equal(l.next.n, 0);
    for (size_t i = 0; i < l.n; i++)
        assert_string_equal(l.names[i], sorted[i]);
    assert_int_equal(list("a/", (sv_str){0}, 1000), SV_OK);
    assert_int_equal(l.n, 2);
    assert_int_equal(list("\xc3", (sv_str){0}, 1000), SV_OK); /* bytes, not characters */
    assert_int_equal(l.n, 1);
    assert_int_equal(list("zz", (sv_str){0}, 1000), SV_OK);
    assert_int_equal(l.n, 0);
    assert_int_equal(put_full("b", SV_STR("v"), "[1]", 4000000000), SV_OK);
    assert_int_equal(list("b", (sv_str){0}, 1000), SV_OK);
    assert_string_equal(l.metadata, "[1]");
    assert_int_equal(l.expires_s, 4000000000);
}

static void cursors_stay_good_while_keys_come_and_go(void **state)
{
    (void)state;
    char name[24];
    for (int i = 0; i < 100; i += 2) {
        snprintf(name, sizeof name, "k%02d", i);
        put(name, "v");
    }
    put("other", "v");
    char seen[100] = {0};
    size_t n = 0;
    sv_str cursor = {0};
    for (int page = 0;; page++) {
        assert_int_equal(list("k", cursor, 7), SV_OK);
        assert_true(l.n <= 7);
        for (size_t i = 0; i < l.n; i++) {
            int k = atoi(l.names[i] + 1);
            assert_false(seen[k]); /* none twice */
            seen[k] = 1;
            n++;
        }
        if (l.next.n == 0)
            break;
        del(l.names[l.n - 1]); /* the very key that the cursor stands on */
        snprintf(name, sizeof name, "k%02d", page); /* behind the cursor or before it */
        put(name, "v");
        cursor = sv_buf_str(&l.next);
    }
    for (int i = 0; i < 100; i += 2)
        assert_true(seen[i]);
    assert_true(n >= 50);
    assert_int_equal(list("k", (sv_str){0}, 50), SV_OK);
}

static void a_full_last_page_has_no_cursor(void **state)
{
    (void)state;
    put("a", "v");
    put("b", "v");
    assert_int_equal(list("", (sv_str){0}, 2), SV_OK);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.next.n, 0);
    assert_int_equal(list("", (sv_str){0}, 1), SV_OK);
    assert_true(l.next.n > 0);
    assert_int_equal(list("", sv_buf_str(&l.next), 1), SV_OK);
    assert_string_equal(l.names[0], "b");
    assert_int_equal(l.next.n, 0);
}

static void cursors_of_others_are_refused(void **state)
{
    (void)state;
    sv_kvs_ns mine = ns, other;
    make_ns("acc1", "ffffffffffffffffffffffffffffffff", "two", &other);
    put("a", "v");
    put("b", "v");
    assert_int_equal(list("", (sv_str){0}, 1), SV_OK);
    SV_AUTO(sv_freep) char *cursor = sv_xstrndup(l.next.p, l.next.n);
    ns = other;
    assert_int_equal(list("", sv_str_of(cursor), 1), SV_EINVAL);
    ns = mine;
    static const char *const bad[] = {"x", "AAAA", "AAAAAAAAAAAAAAAAAAAA", "%%%", "a b", "\xff\xff"};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        assert_int_equal(list("", sv_str_of(bad[i]), 1), SV_EINVAL);
        assert_non_null(strstr(err.msg, "cursor"));
    }
    char huge[5000];
    memset(huge, 'A', sizeof huge);
    assert_int_equal(list("", (sv_str){huge, sizeof huge}, 1), SV_EINVAL);
    assert_int_equal(list("", sv_str_of(cursor), 1), SV_OK);
}

/* ---- namespaces ---- */

static void namespaces_are_of_their_account(void **state)
{
    (void)state;
    sv_kvs_ns other;
    make_ns("acc2", "00000000000000000000000000000002", "one", &other); /* the title is free there */
    assert_int_equal(sv_kvs_ns_find(kv, SV_STR("acc2"), SV_STR(NS_ID), &other, &err), SV_ENOENT);
    sv_kvs_change c = {.op = SV_KVS_PUT, .ns = SV_STR(NS_ID), .key = SV_STR("k"), .value = SV_STR("v")};
    assert_int_equal(sv_kvs_apply(kv, SV_STR("acc2"), &c, 1, &err), SV_ENOENT);
    c = (sv_kvs_change){.op = SV_KVS_NS_CREATE, .ns = SV_STR("00000000000000000000000000000003"), .title = SV_STR("one")};
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, &c, 1, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, 10014);
}

static void namespaces_are_listed_renamed_and_deleted(void **state)
{
    (void)state;
    sv_kvs_ns b;
    size_t n = 0;
    make_ns("acc1", "00000000000000000000000000000002", "b", &b);
    sv_kvs_change c = {.op = SV_KVS_NS_RENAME, .ns = SV_STR(NS_ID), .title = SV_STR("b")};
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, &c, 1, &err), SV_ECONFLICT);
    c.title = SV_STR("a");
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, &c, 1, &err), SV_OK);
    sv_kvs_ns *v = NULL;
    assert_int_equal(sv_kvs_ns_list(kv, ACCOUNT, true, false, &v, &n, &err), SV_OK);
    assert_int_equal(n, 2);
    assert_string_equal(v[0].title, "a");
    free(v);
    assert_int_equal(sv_kvs_ns_list(kv, ACCOUNT, true, true, &v, &n, &err), SV_OK);
    assert_string_equal(v[0].title, "b");
    free(v);

    for (int i = 0; i < 1200; i++) {
        char name[24];
        snprintf(name, sizeof name, "%d", i);
        put(name, "v");
    }
    c = (sv_kvs_change){.op = SV_KVS_NS_DELETE, .ns = SV_STR(NS_ID)};
    assert_int_equal(sv_kvs_apply(kv, ACCOUNT, &c, 1, &err), SV_OK);
    assert_int_equal(sv_kvs_ns_find(kv, ACCOUNT, SV_STR(NS_ID), &b, &err), SV_ENOENT);
    sv_kvs_ns again;
    make_ns("acc1", "00000000000000000000000000000004", "a", &again); /* the title is free at once */
    assert_int_not_equal(again.no, ns.no);
    assert_int_equal(sv_kvs_sweep(kv, &err), SV_OK);
    sv_kvs_stats s;
    assert_int_equal(sv_kvs_get_stats(kv, &s, &err), SV_OK);
    assert_int_equal(s.n_entries, 0);
}

/* ---- checks ---- */

static void keys_metadata_values_and_times_have_limits(void **state)
{
    (void)state;
    char key[600], json[1100];
    memset(key, 'k', sizeof key);
    assert_int_equal(sv_kvs_check_key((sv_str){key, 512}, &err), SV_OK);
    assert_int_equal(sv_kvs_check_key((sv_str){key, 513}, &err), SV_EINVAL);
    assert_string_equal(err.msg, "UTF-8 encoded length of 513 exceeds key length limit of 512.");
    assert_int_equal(sv_kvs_status(&err), 414);
    static const char *const bad[] = {"", ".", "..", "\xff", "a\xc3"};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        assert_int_equal(sv_kvs_check_key(sv_str_of(bad[i]), &err), SV_EINVAL);
        assert_int_equal(sv_kvs_status(&err), 400);
    }
    assert_int_equal(sv_kvs_check_key(SV_STR("a\0b"), &err), SV_OK);

    memset(json, ' ', sizeof json);
    json[0] = '1';
    assert_int_equal(sv_kvs_check_metadata((sv_str){json, 1024}, &err), SV_OK);
    assert_int_equal(sv_kvs_check_metadata((sv_str){json, 1025}, &err), SV_EINVAL);
    assert_int_equal(sv_kvs_status(&err), 413);
    assert_int_equal(sv_kvs_check_metadata(SV_STR("{a:1}"), &err), SV_EINVAL);
    memset(json, '[', 1024); /* deep */
    assert_int_equal(sv_kvs_check_metadata((sv_str){json, 1024}, &err), SV_EINVAL);
    assert_int_equal(sv_kvs_check_value(SV_KVS_MAX_VALUE, &err), SV_OK);
    assert_int_equal(sv_kvs_check_value(SV_KVS_MAX_VALUE + 1, &err), SV_EINVAL);
    assert_string_equal(err.msg, "Value length of 26214401 exceeds limit of 26214400.");
    assert_int_equal(sv_kvs_status(&err), 413);

    int64_t at = 0, now = sv_now_ms() / 1000;
    static const char *const bad_ttl[] = {"0", "-5", "59", "x", "99999999999999999999", "60.5"};
    for (size_t i = 0; i < SV_LEN(bad_ttl); i++)
        assert_int_equal(sv_kvs_expiry((sv_str){0}, sv_str_of(bad_ttl[i]), &at, &err), SV_EINVAL);
    assert_int_equal(sv_kvs_expiry(SV_STR("1"), SV_STR("60"), &at, &err), SV_OK); /* the TTL wins */
    assert_in_range(at, now + 60, now + 61);
    assert_int_equal(sv_kvs_expiry(SV_STR("1"), (sv_str){0}, &at, &err), SV_EINVAL);
    char soon[32];
    snprintf(soon, sizeof soon, "%lld", (long long)now + 30);
    assert_int_equal(sv_kvs_expiry(sv_str_of(soon), (sv_str){0}, &at, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "at least 60 seconds in the future"));
}

static void keys_of_a_path_are_decoded_by_percent_only(void **state)
{
    (void)state;
    sv_arena *a = sv_arena_create(0);
    sv_str k;
    assert_int_equal(sv_kvs_decode_key(SV_STR("a+b%20%2F%00%c3%A9%25"), a, &k, &err), SV_OK);
    assert_int_equal(k.n, 9);
    assert_memory_equal(k.p, "a+b /\0\xc3\xa9%", 9);
    static const char *const bad[] = {"%", "%2", "%zz", "a%2", "%%20"};
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_kvs_decode_key(sv_str_of(bad[i]), a, &k, &err), SV_EINVAL);
    sv_arena_free(a);
}

/* ---- many at once, and crashes ---- */

typedef struct racer { int id; pthread_t thread; } racer;

static void *race(void *arg)
{
    racer *r = arg;
    sv_err e = {0};
    char value[80000];
    memset(value, 'a' + r->id, sizeof value);
    for (int i = 0; i < 60; i++) {
        size_t n = i % 3 ? 10 : sizeof value;
        sv_kvs_change c = {.op = SV_KVS_PUT, .ns = SV_STR(NS_ID), .key = SV_STR("shared"), .value = {value, n}};
        SV_ASSERT(sv_kvs_spill(kv, &c, &e) == SV_OK && sv_kvs_apply(kv, ACCOUNT, &c, 1, &e) == SV_OK);
        sv_kvs_value v;
        sv_kvs_value_init(&v);
        SV_ASSERT(sv_kvs_get(kv, &ns, SV_STR("shared"), &v, &e) == SV_OK);
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        SV_ASSERT(sv_kvs_value_read(&v, &b, &e) == SV_OK && (b.n == 10 || b.n == sizeof value));
        for (size_t k = 1; k < b.n; k++)
            SV_ASSERT(b.p[k] == b.p[0]); /* one writer's value, whole */
        sv_kvs_value_done(&v);
    }
    return NULL;
}

static void readers_see_whole_values_while_others_replace_them(void **state)
{
    (void)state;
    racer r[6];
    for (int i = 0; i < 6; i++) {
        r[i].id = i;
        pthread_create(&r[i].thread, NULL, race, &r[i]);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(r[i].thread, NULL);
    assert_true(count_files() <= 1);
}

enum { CRASH_WRITERS = 4, ROUNDS = 20 };
typedef struct crasher { int pipe, first, step; pthread_t thread; } crasher;
typedef struct ack { int i; } ack;

/* Key i holds its number over and over; every fifth is big. */
static sv_str crash_value(int i, char *to)
{
    size_t n = i % 5 ? 20 : 100000;
    for (size_t k = 0; k < n; k++)
        to[k] = (char)('0' + (i + (int)k) % 10);
    return (sv_str){to, n};
}

static void *write_until_killed(void *arg)
{
    crasher *c = arg;
    sv_err e = {0};
    char *value = sv_xcalloc(100001, 1);
    for (int i = c->first;; i += c->step) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        sv_kvs_change ch = {.op = SV_KVS_PUT, .ns = SV_STR(NS_ID), .key = sv_str_of(key), .value = crash_value(i, value)};
        if (sv_kvs_spill(kv, &ch, &e) != SV_OK || sv_kvs_apply(kv, ACCOUNT, &ch, 1, &e) != SV_OK)
            _exit(3);
        if (write(c->pipe, &i, sizeof i) != sizeof i)
            _exit(4);
    }
}

static _Noreturn void crash_child(int out, int first)
{
    sv_err e = {0};
    if (sv_kvs_open(&kv, dir, &e) != SV_OK)
        _exit(2);
    crasher c[CRASH_WRITERS];
    for (int i = 0; i < CRASH_WRITERS; i++) {
        c[i] = (crasher){.pipe = out, .first = first + i, .step = CRASH_WRITERS};
        pthread_create(&c[i].thread, NULL, write_until_killed, &c[i]);
    }
    for (;;)
        pause();
}

static void check_integrity(void)
{
    sqlite3 *h = NULL;
    sqlite3_stmt *q = NULL;
    char path[200];
    snprintf(path, sizeof path, "%s/kv/kv.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(h, "PRAGMA integrity_check", -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(q, 0), "ok");
    sqlite3_finalize(q);
    sqlite3_close(h);
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    static int acked[200000];
    int n_acked = 0;
    unsigned seed = (unsigned)sv_mono_us();
    SV_AUTO(sv_freep) char *value = sv_xcalloc(100001, 1);
    kv = sv_kvs_close(kv);
    for (int round = 0; round < ROUNDS; round++) {
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0)
            crash_child(fds[1], 1 + round * 100000);
        close(fds[1]);
        poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 10000);
        usleep((useconds_t)(rand_r(&seed) % 40000));
        kill(pid, SIGKILL);
        for (int i; read(fds[0], &i, sizeof i) == sizeof i && n_acked < (int)SV_LEN(acked);)
            acked[n_acked++] = i;
        close(fds[0]);
        int status = 0;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
    }
    check_integrity();
    assert_int_equal(sv_kvs_open(&kv, dir, &err), SV_OK);
    for (int i = 0; i < n_acked; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", acked[i]);
        const char *got = get(key);
        sv_str want = crash_value(acked[i], value);
        value[want.n] = 0;
        if (!got || strcmp(got, value) != 0)
            fail_msg("key %s was acknowledged and is %s", key, got ? "another" : "not there");
    }
    sv_kvs_stats s;
    assert_int_equal(sv_kvs_get_stats(kv, &s, &err), SV_OK);
    assert_int_equal(count_files(), s.n_files); /* no file without a row is left */
    print_message("           %d acknowledged puts, %d kills, %lld files\n", n_acked, ROUNDS, (long long)s.n_files);
    assert_true(n_acked > 100);
}

static void a_lost_value_file_is_an_error_and_no_empty_value(void **state)
{
    (void)state;
    char cmd[300];
    SV_AUTO(sv_freep) char *p = pattern(100000, 1);
    assert_int_equal(put_full("big", (sv_str){p, 100000}, NULL, 0), SV_OK);
    put("small", "v");
    DIR *d = opendir(sv_kvs_folder(kv));
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(cmd, sizeof cmd, "%s/%s", sv_kvs_folder(kv), e->d_name);
            assert_int_equal(unlink(cmd), 0);
        }
    closedir(d);
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    assert_int_equal(sv_kvs_get(kv, &ns, SV_STR("big"), &v, &err), SV_EIO);
    assert_string_equal(get("small"), "v");
}

int main(void)
{
    assert_non_null(mkdtemp(dir));
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(what_is_put_is_read_until_it_is_deleted),
        T(metadata_and_expiry_come_back),
        T(big_values_lie_in_files_that_go_when_they_are_replaced),
        T(a_refused_write_leaves_no_file_and_no_half),
        T(an_entry_is_gone_the_second_it_expires_and_swept_later),
        T(lists_are_in_the_order_of_bytes),
        T(cursors_stay_good_while_keys_come_and_go),
        T(a_full_last_page_has_no_cursor),
        T(cursors_of_others_are_refused),
        T(namespaces_are_of_their_account),
        T(namespaces_are_listed_renamed_and_deleted),
        T(keys_metadata_values_and_times_have_limits),
        T(keys_of_a_path_are_decoded_by_percent_only),
        T(readers_see_whole_values_while_others_replace_them),
        T(what_was_acknowledged_survives_kill_9),
        T(a_lost_value_file_is_an_error_and_no_empty_value),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sv_err e = {0};
    if (sv_remove_tree(dir, &e) != SV_OK)
        print_message("%s\n", e.msg);
    return failed;
}
