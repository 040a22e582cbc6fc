/* The log by itself: what was appended comes back, and whatever happens to its tail leaves a valid older state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "vec/log.h"

enum { D = 5 };
static char dir[64], path[96], torn[104];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/sv-vec-log-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    snprintf(torn, sizeof torn, "%s/log.torn", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    sv_err err = {0};
    return sv_remove_tree(dir, &err);
}

static void must(sv_rc rc, const sv_err *err)
{
    if (rc != SV_OK)
        fail_msg("%s", err->msg);
}

/* Record i: three vectors, or two ids, as a function of i alone. */
static void add(sv_vec_log *l, int i)
{
    sv_err err = {0};
    sv_buf body;
    sv_buf_init(&body, 0);
    char id[16], text[64];
    float values[D];
    for (int k = 0; k < 3; k++) {
        snprintf(id, sizeof id, "v%d.%d", i, k);
        snprintf(text, sizeof text, "{\"n\":%d}", i * 10 + k);
        for (int d = 0; d < D; d++)
            values[d] = (float)(i * 100 + k * 10 + d);
        if (i % 3 == 2)
            sv_vec_log_add_id(&body, sv_str_of(id));
        else
            sv_vec_log_add_item(&body, D, values, sv_str_of(id), k ? SV_STR("ns") : SV_STR(""), sv_str_of(text));
    }
    snprintf(text, sizeof text, "mutation-%d", i);
    sv_vec_record r = {.kind = i % 3 == 2 ? SV_VEC_LOG_DELETE : SV_VEC_LOG_UPSERT, .time_ms = 1000 + i, .mutation = sv_str_of(text),
                       .body = sv_buf_str(&body)};
    uint64_t at = 0;
    must(sv_vec_log_append(l, &r, &at, &err), &err);
    assert_memory_equal(sv_vec_log_base(l) + at, body.p, body.n);
    sv_buf_done(&body);
}

static void check(const sv_vec_record *r, int i)
{
    char text[64];
    snprintf(text, sizeof text, "mutation-%d", i);
    assert_true(sv_str_is(r->mutation, text));
    assert_int_equal(r->time_ms, 1000 + i);
    assert_int_equal(r->kind, i % 3 == 2 ? SV_VEC_LOG_DELETE : SV_VEC_LOG_UPSERT);
    uint64_t at = 0;
    sv_vec_stored s;
    sv_str id;
    for (int k = 0; k < 3; k++) {
        snprintf(text, sizeof text, "v%d.%d", i, k);
        if (i % 3 == 2) {
            assert_true(sv_vec_log_id(r->body, &at, &id) && sv_str_is(id, text));
            continue;
        }
        assert_true(sv_vec_log_item(r->body, D, &at, &s) && sv_str_is(s.id, text) && sv_str_is(s.ns, k ? "ns" : ""));
        assert_true(s.values[D - 1] == (float)(i * 100 + k * 10 + D - 1));
        snprintf(text, sizeof text, "{\"n\":%d}", i * 10 + k);
        assert_true(sv_str_is(s.metadata, text));
    }
    assert_int_equal(at, r->body.n);
}

/* Opens, counts the whole records, sets the end. */
static int count(sv_vec_log **out)
{
    sv_err err = {0};
    sv_vec_log *l = NULL;
    sv_vec_record r;
    must(sv_vec_log_open(&l, path, &err), &err);
    uint64_t at = SV_VEC_LOG_HEAD;
    int n = 0;
    while (sv_vec_log_next(l, &at, &r))
        check(&r, n++);
    must(sv_vec_log_set_end(l, at, &err), &err);
    if (out)
        *out = l;
    else
        sv_vec_log_close(l);
    return n;
}

static void make(int n)
{
    sv_err err = {0};
    sv_vec_log *l = NULL;
    unlink(path);
    must(sv_vec_log_create(&l, path, D, 2, &err), &err);
    for (int i = 0; i < n; i++)
        add(l, i);
    must(sv_vec_log_sync(l, &err), &err);
    sv_vec_log_close(l);
}

static void what_was_appended_comes_back_and_goes_on(void **state)
{
    (void)state;
    make(7);
    sv_vec_log *l = NULL;
    assert_int_equal(count(&l), 7);
    assert_int_equal(sv_vec_log_dimensions(l), D);
    assert_int_equal(sv_vec_log_metric(l), 2);
    add(l, 7);
    sv_vec_log_close(l);
    assert_int_equal(count(NULL), 8);
    assert_false(sv_file_exists(torn)); /* unused room is no damage */
}

static void any_cut_leaves_the_records_before_it(void **state)
{
    (void)state;
    make(4);
    sv_err err = {0};
    sv_buf whole, part;
    sv_buf_init(&whole, 0);
    sv_buf_init(&part, 0);
    must(sv_file_read(&whole, path, &err), &err);
    uint64_t ends[4], at = SV_VEC_LOG_HEAD;
    sv_vec_log *l = NULL;
    sv_vec_record r;
    must(sv_vec_log_open(&l, path, &err), &err);
    for (int i = 0; sv_vec_log_next(l, &at, &r); i++)
        ends[i] = at;
    sv_vec_log_close(l);
    for (uint64_t cut = SV_VEC_LOG_HEAD; cut <= ends[3]; cut++) {
        must(sv_file_replace(path, whole.p, cut, 0600, &err), &err);
        int want = 0;
        while (want < 4 && ends[want] <= cut)
            want++;
        unlink(torn);
        assert_int_equal(count(&l), want);
        add(l, want); /* and life goes on behind the cut */
        sv_vec_log_close(l);
        assert_int_equal(count(NULL), want + 1);
    }
    sv_buf_done(&whole);
}

static void a_changed_byte_ends_the_log_there_and_what_followed_is_kept_beside(void **state)
{
    (void)state;
    make(6);
    sv_err err = {0};
    sv_buf whole;
    sv_buf_init(&whole, 0);
    must(sv_file_read(&whole, path, &err), &err);
    uint64_t ends[6], at = SV_VEC_LOG_HEAD;
    sv_vec_log *l = NULL;
    sv_vec_record r;
    must(sv_vec_log_open(&l, path, &err), &err);
    for (int i = 0; sv_vec_log_next(l, &at, &r); i++)
        ends[i] = at;
    sv_vec_log_close(l);
    for (uint64_t byte = SV_VEC_LOG_HEAD; byte < ends[5]; byte += 11) {
        whole.p[byte] ^= 0x20;
        must(sv_file_replace(path, whole.p, whole.n, 0600, &err), &err);
        whole.p[byte] ^= 0x20;
        int want = 0;
        while (ends[want] <= byte)
            want++;
        unlink(torn);
        int n = count(NULL);
        assert_true(n == want || n == 6); /* padding is in no sum */
        if (n != 6)
            assert_true(sv_file_exists(torn));
    }
    sv_buf_done(&whole);
}

static void records_out_of_their_place_are_not_believed(void **state)
{
    (void)state;
    make(2);
    sv_err err = {0};
    sv_vec_log *l = NULL;
    sv_vec_record r, first, again;
    must(sv_vec_log_open(&l, path, &err), &err);
    uint64_t at = SV_VEC_LOG_HEAD;
    assert_true(sv_vec_log_next(l, &at, &first));
    sv_buf copy;
    sv_buf_init(&copy, 0);
    sv_buf_add(&copy, sv_vec_log_base(l), first.end_at);
    sv_buf_add(&copy, sv_vec_log_base(l) + SV_VEC_LOG_HEAD, first.end_at - SV_VEC_LOG_HEAD);
    at = SV_VEC_LOG_HEAD;
    assert_true(sv_vec_log_parse((const uint8_t *)copy.p, copy.n, sv_vec_log_identity(l), &at, &r));
    assert_false(sv_vec_log_parse((const uint8_t *)copy.p, copy.n, sv_vec_log_identity(l), &at, &again));
    at = SV_VEC_LOG_HEAD;
    assert_false(sv_vec_log_parse((const uint8_t *)copy.p, copy.n, sv_vec_log_identity(l) + 1, &at, &again));
    sv_vec_log_close(l);
    sv_buf_done(&copy);
}

static void strangers_are_refused(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_vec_log *l = NULL;
    assert_int_equal(sv_vec_log_open(&l, path, &err), SV_ENOENT);
    must(sv_file_replace(path, "not a log", 9, 0600, &err), &err);
    assert_int_equal(sv_vec_log_open(&l, path, &err), SV_EFORMAT);
    assert_int_equal(sv_vec_log_create(&l, path, D, 0, &err), SV_ECONFLICT);
    make(1);
    sv_buf whole;
    sv_buf_init(&whole, 0);
    must(sv_file_read(&whole, path, &err), &err);
    whole.p[9] ^= 1; /* dimensions */
    must(sv_file_replace(path, whole.p, whole.n, 0600, &err), &err);
    assert_int_equal(sv_vec_log_open(&l, path, &err), SV_EFORMAT);
    assert_null(l);
    sv_buf_done(&whole);
}

static void bodies_that_promise_too_much_are_refused(void **state)
{
    (void)state;
    sv_buf body;
    sv_buf_init(&body, 0);
    static const float values[D] = {1, 2, 3, 4, 5};
    sv_vec_log_add_item(&body, D, values, SV_STR("id"), SV_STR("n"), SV_STR("{}"));
    sv_vec_stored s;
    for (size_t n = 0; n < body.n; n++) {
        uint64_t at = 0;
        assert_false(sv_vec_log_item((sv_str){body.p, n}, D, &at, &s));
        at = 0;
        assert_false(sv_vec_log_item(sv_buf_str(&body), D + 2, &at, &s));
    }
    for (size_t i = 0; i < 16; i++) {
        if (i >= 10)
            continue; /* unused */
        uint64_t at = 0;
        body.p[i] ^= 0x40;
        assert_false(sv_vec_log_item(sv_buf_str(&body), D, &at, &s));
        body.p[i] ^= 0x40;
    }
    uint64_t at = 0;
    sv_str id;
    assert_false(sv_vec_log_id(SV_STR("\x05" "abc"), &at, &id));
    assert_false(sv_vec_log_id(SV_STR("\0"), &at, &id));
    sv_buf_done(&body);
}

static void a_full_disk_is_an_error_and_leaves_the_log_whole(void **state)
{
    (void)state;
    make(2);
    sv_err err = {0};
    sv_vec_log *l = NULL;
    assert_int_equal(count(&l), 2);
    struct rlimit old, small = {0};
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    sv_buf body;
    sv_buf_init(&body, 0);
    for (int i = 0; i < 2000; i++)
        sv_vec_log_add_id(&body, SV_STR("some id"));
    sv_rc rc = sv_vec_log_append(l, &(sv_vec_record){.kind = SV_VEC_LOG_DELETE, .body = sv_buf_str(&body)}, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_true(rc == SV_EIO || rc == SV_ELIMIT);
    add(l, 2);
    sv_vec_log_close(l);
    assert_int_equal(count(NULL), 3);
    sv_buf_done(&body);
}

static void it_outgrows_its_map(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_vec_log *l = NULL;
    must(sv_vec_log_create(&l, path, D, 0, &err), &err);
    const uint8_t *first = sv_vec_log_base(l);
    sv_buf body;
    sv_buf_init(&body, 128 << 20);
    char *room = sv_buf_room(&body, 70 << 20);
    memset(room, 7, 70 << 20);
    body.n = 70 << 20;
    uint64_t at = 0, next = SV_VEC_LOG_HEAD;
    must(sv_vec_log_append(l, &(sv_vec_record){.kind = SV_VEC_LOG_NOTE, .body = sv_buf_str(&body)}, &at, &err), &err);
    const uint8_t *base = sv_vec_log_base(l);
    assert_ptr_not_equal(first, base);
    assert_memory_equal(base + at, body.p, body.n);
    assert_memory_equal(first, base, SV_VEC_LOG_HEAD); /* older maps stay good */
    sv_vec_record r;
    assert_true(sv_vec_log_next(l, &next, &r) && r.body.n == body.n);
    sv_buf_done(&body);
    sv_vec_log_close(l);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)
    const struct CMUnitTest tests[] = {
        T(what_was_appended_comes_back_and_goes_on),
        T(any_cut_leaves_the_records_before_it),
        T(a_changed_byte_ends_the_log_there_and_what_followed_is_kept_beside),
        T(records_out_of_their_place_are_not_believed),
        T(strangers_are_refused),
        T(bodies_that_promise_too_much_are_refused),
        T(a_full_disk_is_an_error_and_leaves_the_log_whole),
        T(it_outgrows_its_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
