/* Tests of r2.h: the normal use first, then lists, uploads in parts, copies, locks and lifecycles, events, and what a crash leaves. */
#include "r2/r2.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "r2/r2_impl.h"
#include "r2/r2_rules.h"

static char dir[] = "/tmp/sv-r2-test-XXXXXX";
static sv_r2 *r2;
#define ACCOUNT SV_STR("0123456789abcdef0123456789abcdef")
#define BUCKET SV_STR("bucket")

static void open_store(void)
{
    sv_err err = {0};
    if (sv_r2_open(&r2, dir, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int start(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/sv-r2-test-XXXXXX");
    sv_err err = {0};
    sv_r2_bucket b;
    if (!mkdtemp(dir))
        return -1;
    open_store();
    if (sv_r2_bucket_create(r2, ACCOUNT, BUCKET, SV_STR(""), SV_STR(""), SV_R2_STANDARD, &b, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    sv_err err = {0};
    r2 = sv_r2_close(r2);
    return sv_remove_tree(dir, &err);
}

static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(sv_r2_folder(r2));
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* The reaper has its own time. */
static void await_files(int n)
{
    for (int i = 0; i < 500 && count_files() != n; i++)
        usleep(10000);
    assert_int_equal(count_files(), n);
}

static char *pattern(size_t n, int seed)
{
    char *p = sv_xcalloc(n + 1, 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 31 + i / 253 + (size_t)seed);
    return p;
}

/* As the dialects do it: small bytes in the write, large ones in a file. */
static sv_rc put_with(sv_r2_write *w, const char *key, const char *p, size_t n, sv_err *err)
{
    sv_r2_piece piece;
    w->op = SV_R2_PUT;
    w->account = ACCOUNT;
    w->bucket = BUCKET;
    w->key = sv_str_of(key);
    sv_sums_of(&w->sums, 1u << SV_SUM_MD5 | w->sums.mask, p, n);
    if (n > SV_R2_INLINE) {
        assert_int_equal(sv_r2_spill(r2, (sv_str){p, n}, &piece, err), SV_OK);
        w->pieces = &piece;
        w->n_pieces = 1;
        w->size = (int64_t)n;
    } else {
        w->bytes = (sv_str){p, n};
    }
    sv_rc rc = sv_r2_apply(r2, w, err);
    w->pieces = NULL;
    w->n_pieces = 0;
    return rc;
}

static void put(const char *key, const char *p, size_t n)
{
    sv_err err = {0};
    sv_r2_write w = {.class = SV_R2_CLASS_OF_BUCKET};
    if (put_with(&w, key, p, n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_r2_obj_done(&w.out);
}

/* What a get gives: its bytes in a buffer; the error's number, or 0. */
typedef struct got { int code; sv_r2_obj obj; sv_buf bytes; int64_t at, n; bool not_modified; } got;

static got get_with(sv_r2_get *g, const char *key)
{
    got out = {0};
    sv_err err = {0};
    sv_r2_reader *body = NULL;
    char piece[10007];
    g->account = ACCOUNT;
    g->bucket = BUCKET;
    g->key = sv_str_of(key);
    sv_buf_init(&out.bytes, 100 << 20);
    if (sv_r2_get_object(r2, g, &out.obj, &body, &out.at, &out.n, &out.not_modified, &err) != SV_OK)
        out.code = err.api_code ? err.api_code : -1;
    for (ssize_t n; body && (n = sv_r2_read(body, piece, sizeof piece)) != 0;) {
        assert_true(n > 0);
        sv_buf_add(&out.bytes, piece, (size_t)n);
    }
    sv_r2_reader_close(body);
    return out;
}

static void drop(got *g)
{
    sv_r2_obj_done(&g->obj);
    sv_buf_done(&g->bytes);
}

static int get_code(const char *key)
{
    got g = get_with(&(sv_r2_get){0}, key);
    int code = g.code;
    drop(&g);
    return code;
}

static void assert_object(const char *key, const char *p, size_t n)
{
    got g = get_with(&(sv_r2_get){0}, key);
    assert_int_equal(g.code, 0);
    assert_int_equal(g.bytes.n, n);
    assert_int_equal(g.obj.size, n);
    assert_memory_equal(sv_buf_cstr(&g.bytes), p, n);
    drop(&g);
}

static void remove_key(const char *key)
{
    sv_err err = {0};
    sv_r2_write w = {.op = SV_R2_DELETE, .account = ACCOUNT, .bucket = BUCKET, .keys = &(sv_str){key, strlen(key)}, .n_keys = 1};
    if (sv_r2_apply(r2, &w, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

/* ---- normal use ---- */

static void what_is_put_is_got_also_after_a_restart(void **state)
{
    static const size_t sizes[] = {0, 1, 5, SV_R2_INLINE, SV_R2_INLINE + 1, 300000};
    (void)state;
    for (int again = 0; again < 2; again++) {
        for (size_t i = 0; i < SV_LEN(sizes); i++) {
            char key[20];
            SV_AUTO(sv_freep) char *p = pattern(sizes[i], (int)i);
            snprintf(key, sizeof key, "dir/k%zu", i);
            if (!again)
                put(key, p, sizes[i]);
            assert_object(key, p, sizes[i]);
        }
        assert_int_equal(count_files(), 2);
        sv_r2_close(r2);
        open_store();
    }
    got g = get_with(&(sv_r2_get){.head = true}, "dir/k2");
    SV_AUTO(sv_freep) char *p = pattern(5, 2);
    sv_sum_values v;
    char etag[33];
    sv_sums_of(&v, 1u << SV_SUM_MD5, p, 5);
    sv_hex(etag, v.v[SV_SUM_MD5], 16);
    assert_string_equal(g.obj.etag, etag);
    assert_int_equal(strlen(g.obj.version), 32);
    assert_true(sv_now_ms() - g.obj.uploaded_ms < 60000 && g.obj.class == SV_R2_STANDARD);
    drop(&g);
    remove_key("dir/k5");
    remove_key("dir/k5"); /* one that is not there is fine */
    assert_int_equal(get_code("dir/k5"), SV_R2_NO_KEY);
    await_files(1);
}

static void metadata_and_sums_come_back(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *http = json_pack("{s:s, s:s}", "contentType", "text/x", "cacheExpiry", "1800000000000");
    SV_AUTO(sv_json_decrefp) json_t *custom = json_pack("{s:s, s:s}", "b", "2", "a", "\xc3\xbc");
    sv_r2_write w = {.http = http, .custom = custom, .class = SV_R2_INFREQUENT, .sums = {.mask = 1u << SV_SUM_SHA512 | 1u << SV_SUM_CRC64NVME}};
    assert_int_equal(put_with(&w, "k", "123456789", 9, &err), SV_OK);
    sv_r2_obj_done(&w.out);
    got g = get_with(&(sv_r2_get){.head = true}, "k");
    assert_true(json_equal(g.obj.http, http) && json_equal(g.obj.custom, custom));
    assert_int_equal(g.obj.class, SV_R2_INFREQUENT);
    assert_int_equal(g.obj.sums.mask, 1u << SV_SUM_MD5 | 1u << SV_SUM_SHA512 | 1u << SV_SUM_CRC64NVME);
    assert_memory_equal(g.obj.sums.v[SV_SUM_CRC64NVME], "\xae\x8b\x14\x86\x0a\x79\x98\x88", 8);
    drop(&g);
    SV_AUTO(sv_json_decrefp) json_t *large = json_pack("{s:s}", "k", "");
    SV_AUTO(sv_freep) char *text = sv_xcalloc(SV_R2_MAX_METADATA + 1, 1);
    memset(text, 'x', SV_R2_MAX_METADATA);
    json_object_set_new(large, "k", json_string(text));
    sv_r2_write over = {.custom = large};
    assert_int_equal(put_with(&over, "k", "x", 1, &err), SV_EINVAL);
    assert_int_equal(err.api_code, SV_R2_METADATA_TOO_LARGE);
}

static void ranges(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *p = pattern(200000, 3);
    put("large", p, 200000);
    put("small", p, 100);
    static const struct { sv_r2_range r; int64_t at, n; int code; } cases[] = {
        {{SV_R2_FROM, 10, 5}, 10, 5, 0},    {{SV_R2_FROM, 90, -1}, 90, 10, 0},  {{SV_R2_FROM, 0, 1000000}, 0, 100, 0}, {{SV_R2_FROM, 99, 1}, 99, 1, 0},
        {{SV_R2_SUFFIX, 0, 7}, 93, 7, 0},   {{SV_R2_SUFFIX, 0, 1000}, 0, 100, 0}, {{SV_R2_FROM, 100, 1}, 0, 0, SV_R2_BAD_RANGE},
        {{SV_R2_FROM, 0, 0}, 0, 0, SV_R2_BAD_RANGE}, {{SV_R2_SUFFIX, 0, 0}, 0, 0, SV_R2_BAD_RANGE}, {{SV_R2_FROM, 101, -1}, 0, 0, SV_R2_BAD_RANGE},
        {{SV_R2_PART, 1, 0}, 0, 100, 0},    {{SV_R2_PART, 2, 0}, 0, 0, SV_R2_BAD_PART},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        got g = get_with(&(sv_r2_get){.range = cases[i].r}, "small");
        assert_int_equal(g.code, cases[i].code);
        if (!g.code) {
            assert_int_equal(g.at, cases[i].at);
            assert_int_equal(g.bytes.n, cases[i].n);
            assert_memory_equal(g.bytes.p, p + cases[i].at, (size_t)cases[i].n);
        } else if (g.code == SV_R2_BAD_RANGE) {
            assert_int_equal(g.obj.size, 100);
        }
        drop(&g);
    }
    got g = get_with(&(sv_r2_get){.range = {SV_R2_FROM, 150000, 20000}}, "large");
    assert_int_equal(g.bytes.n, 20000);
    assert_memory_equal(g.bytes.p, p + 150000, 20000);
    drop(&g);
    sv_r2_range r;
    assert_true(sv_r2_range_parse(SV_STR("bytes=2-4"), &r) && r.kind == SV_R2_FROM && r.offset == 2 && r.length == 3);
    assert_true(sv_r2_range_parse(SV_STR("bytes=-4"), &r) && r.kind == SV_R2_SUFFIX && r.length == 4);
    assert_true(sv_r2_range_parse(SV_STR("bytes=7-"), &r) && r.offset == 7 && r.length == -1);
    static const char *const no[] = {"bytes=", "bytes=-", "bytes=4-2", "bytes=1-2,4-5", "bits=1-2", "bytes=a-b", "bytes=1-99999999999999999999", ""};
    for (size_t i = 0; i < SV_LEN(no); i++)
        assert_false(sv_r2_range_parse(sv_str_of(no[i]), &r));
}

static void conditions(void **state)
{
    (void)state;
    put("k", "hello", 5);
    got have = get_with(&(sv_r2_get){0}, "k");
    int64_t at = have.obj.uploaded_ms;
    sv_r2_etag right = {.value = sv_str_of(have.obj.etag)}, weak = {.value = sv_str_of(have.obj.etag), .weak = true}, wrong = {.value = SV_STR("x")}, any = {.any = true};
    const struct { sv_r2_cond c; bool holds, not_modified; } cases[] = {
        {{.has_match = true, .match = &right, .n_match = 1}, true, false},     {{.has_match = true, .match = &weak, .n_match = 1}, false, false},
        {{.has_match = true, .match = &wrong, .n_match = 1}, false, false},    {{.has_match = true, .match = &any, .n_match = 1}, true, false},
        {{.has_none = true, .none = &right, .n_none = 1}, false, true},        {{.has_none = true, .none = &weak, .n_none = 1}, false, true},
        {{.has_none = true, .none = &wrong, .n_none = 1}, true, false},        {{.has_none = true, .none = &any, .n_none = 1}, false, true},
        {{.has_before = true, .before_ms = at + 1}, true, false},              {{.has_before = true, .before_ms = at}, false, false},
        {{.has_before = true, .before_ms = at, .inclusive = true}, true, false}, {{.has_after = true, .after_ms = at - 1}, true, false},
        {{.has_after = true, .after_ms = at}, false, true},                    {{.has_after = true, .after_ms = at - 1, .seconds = true}, at % 1000 == 0, true},
        {{.has_match = true, .match = &right, .n_match = 1, .has_before = true, .before_ms = 0}, true, false},
        {{.has_none = true, .none = &wrong, .n_none = 1, .has_after = true, .after_ms = at + 1000000}, true, false},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        got g = get_with(&(sv_r2_get){.cond = cases[i].c}, "k");
        assert_int_equal(g.code, cases[i].holds ? 0 : SV_R2_PRECONDITION);
        assert_int_equal(g.obj.size, 5); /* with its document in any case */
        if (!cases[i].holds)
            assert_int_equal(g.not_modified, cases[i].not_modified);
        drop(&g);
    }
    sv_err err = {0};
    sv_r2_write only_new = {.cond = {.has_none = true, .none = &any, .n_none = 1}}, only_old = {.cond = {.has_match = true, .match = &right, .n_match = 1}};
    assert_int_equal(put_with(&only_new, "k", "x", 1, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, SV_R2_PRECONDITION);
    assert_int_equal(put_with(&only_old, "none", "x", 1, &err), SV_ECONFLICT);
    SV_AUTO(sv_freep) char *p = pattern(100000, 1);
    assert_int_equal(put_with(&only_new, "k", p, 100000, &err), SV_ECONFLICT);
    await_files(0); /* the refused one's file is gone */
    assert_int_equal(put_with(&only_old, "k", "new", 3, &err), SV_OK);
    sv_r2_obj_done(&only_old.out);
    assert_object("k", "new", 3);
    drop(&have);
}

static void a_reader_keeps_what_it_saw(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *p = pattern(500000, 1);
    put("k", p, 500000);
    sv_err err = {0};
    sv_r2_obj o;
    sv_r2_reader *body = NULL;
    int64_t at, n;
    bool nm;
    sv_r2_get g = {.account = ACCOUNT, .bucket = BUCKET, .key = SV_STR("k")};
    assert_int_equal(sv_r2_get_object(r2, &g, &o, &body, &at, &n, &nm, &err), SV_OK);
    put("k", "other", 5);
    await_files(0);
    SV_AUTO(sv_freep) char *q = sv_xcalloc(500000, 1);
    size_t n_read = 0;
    for (ssize_t k; (k = sv_r2_read(body, q + n_read, 500000 - n_read)) > 0;)
        n_read += (size_t)k;
    assert_int_equal(n_read, 500000);
    assert_memory_equal(p, q, 500000);
    sv_r2_reader_close(body);
    sv_r2_obj_done(&o);
}

/* ---- lists ---- */

static void name_of(void *arg, const sv_r2_obj *o, sv_str common)
{
    sv_buf *b = arg;
    if (o)
        sv_buf_add(b, o->key, o->n_key);
    else
        sv_buf_addf(b, "[%.*s]", (int)common.n, common.p);
    sv_buf_addc(b, ' ');
}

/* All pages of `limit`, a bar between them. */
static const char *list(const sv_r2_list *how)
{
    static char text[2000];
    sv_buf b, next;
    sv_err err = {0};
    sv_r2_list l = *how;
    l.account = ACCOUNT;
    l.bucket = BUCKET;
    sv_buf_init(&b, 0);
    sv_buf_init(&next, 0);
    SV_AUTO(sv_freep) char *cursor = NULL;
    do {
        free(cursor);
        cursor = sv_buf_take(&next);
        l.cursor = sv_str_of(cursor);
        if (l.cursor.n)
            sv_buf_adds(&b, "| ");
        if (sv_r2_list_objects(r2, &l, name_of, &b, &next, &err) != SV_OK)
            sv_buf_addf(&b, "error %d", err.api_code);
    } while (next.n);
    snprintf(text, sizeof text, "%s", sv_buf_cstr(&b));
    sv_buf_done(&b);
    sv_buf_done(&next);
    return text;
}

static void lists_are_in_order_and_in_pages(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "b/1", "b/2", "b/c/1", "b/c/2", "c", "c/", "\xc3\xa9", "z\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < SV_LEN(keys); i++)
        put(keys[SV_LEN(keys) - 1 - i], "v", 1);
    assert_string_equal(list(&(sv_r2_list){.limit = 1000}), "a b/1 b/2 b/c/1 b/c/2 c c/ z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 4}), "a b/1 b/2 b/c/1 | b/c/2 c c/ z\xf0\x9f\x98\x80 | \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 3}), "a b/1 b/2 | b/c/1 b/c/2 c | c/ z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .prefix = SV_STR("b/")}), "b/1 b/2 b/c/1 b/c/2 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .delimiter = SV_STR("/")}), "a [b/] c [c/] z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 2, .delimiter = SV_STR("/")}), "a [b/] | c [c/] | z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1, .prefix = SV_STR("b/"), .delimiter = SV_STR("/")}), "b/1 | b/2 | [b/c/] ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .start_after = SV_STR("b/2")}), "b/c/1 b/c/2 c c/ z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .start_after = SV_STR("b/"), .delimiter = SV_STR("/"), .past_prefix = true}), "c [c/] z\xf0\x9f\x98\x80 \xc3\xa9 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .prefix = SV_STR("none")}), "");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .prefix = SV_STR("c"), .start_after = SV_STR("a")}), "c c/ ");
    assert_string_equal(list(&(sv_r2_list){.limit = 1000, .delimiter = SV_STR("b/"), .prefix = SV_STR("b")}), "b/1 b/2 b/c/1 b/c/2 ");
    assert_string_equal(list(&(sv_r2_list){.limit = 0}), "");
    sv_buf next;
    sv_err err = {0};
    sv_buf_init(&next, 0);
    sv_r2_list bad = {.account = ACCOUNT, .bucket = BUCKET, .limit = 1, .cursor = SV_STR("AAAAAAAAAAAAAAAA")};
    assert_int_equal(sv_r2_list_objects(r2, &bad, name_of, NULL, &next, &err), SV_EINVAL);
    assert_int_equal(err.api_code, SV_R2_BAD_ARGUMENT);
}

static void keys_that_cannot_be_are_refused(void **state)
{
    (void)state;
    sv_err err = {0};
    char longest[SV_R2_MAX_KEY + 2];
    memset(longest, 'k', sizeof longest);
    const sv_str keys[] = {{longest, SV_R2_MAX_KEY + 1}, {"", 0}, {"a\0b", 3}, {"\xff\xfe", 2}, {"\xed\xa0\x80", 3}};
    for (size_t i = 0; i < SV_LEN(keys); i++) {
        sv_r2_write w = {.op = SV_R2_PUT, .account = ACCOUNT, .bucket = BUCKET, .key = keys[i], .bytes = SV_STR("x")};
        assert_int_equal(sv_r2_apply(r2, &w, &err), SV_EINVAL);
        assert_int_equal(err.api_code, SV_R2_BAD_KEY);
    }
    longest[SV_R2_MAX_KEY] = 0;
    put(longest, "x", 1);
    put("..", "y", 1); /* a name like any other */
    put("../../x", "z", 1);
    assert_object("../../x", "z", 1);
    assert_object(longest, "x", 1);
    sv_r2_write w = {.op = SV_R2_PUT, .account = ACCOUNT, .bucket = SV_STR("nobody"), .key = SV_STR("k"), .bytes = SV_STR("x")};
    assert_int_equal(sv_r2_apply(r2, &w, &err), SV_ENOENT);
    assert_int_equal(err.api_code, SV_R2_NO_BUCKET);
    w.account = SV_STR("another");
    w.bucket = BUCKET; /* of somebody else */
    assert_int_equal(sv_r2_apply(r2, &w, &err), SV_ENOENT);
}

/* ---- uploads ---- */

static void create(sv_r2_write *w, const char *key)
{
    sv_err err = {0};
    w->op = SV_R2_CREATE;
    w->account = ACCOUNT;
    w->bucket = BUCKET;
    w->key = sv_str_of(key);
    if (sv_r2_apply(r2, w, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void put_part(sv_r2_write *w, int part, const char *p, size_t n, sv_r2_chosen *out)
{
    sv_err err = {0};
    sv_r2_piece piece;
    sv_r2_write one = {.op = SV_R2_PUT_PART, .account = ACCOUNT, .bucket = BUCKET, .key = w->key, .part = part, .pieces = &piece, .n_pieces = 1};
    memcpy(one.upload, w->upload, sizeof one.upload);
    sv_sums_of(&one.sums, 1u << SV_SUM_MD5 | (w->sum >= 0 ? 1u << w->sum : 0), p, n);
    assert_int_equal(sv_r2_spill(r2, (sv_str){p, n}, &piece, &err), SV_OK);
    if (sv_r2_apply(r2, &one, &err) != SV_OK)
        fail_msg("%s", err.msg);
    *out = (sv_r2_chosen){.part = part};
    snprintf(out->etag, sizeof out->etag, "%s", one.out.etag);
    sv_r2_obj_done(&one.out);
}

static int complete(sv_r2_write *w, sv_r2_chosen *v, size_t n)
{
    sv_err err = {0};
    w->op = SV_R2_COMPLETE;
    w->parts = v;
    w->n_chosen = n;
    return sv_r2_apply(r2, w, &err) == SV_OK ? 0 : err.api_code;
}

static void parts_become_an_object(void **state)
{
    enum { N = SV_R2_MIN_PART, LAST = 1234567 };
    (void)state;
    SV_AUTO(sv_freep) char *p = pattern(2 * N + LAST, 5);
    SV_AUTO(sv_json_decrefp) json_t *custom = json_pack("{s:s}", "of", "the upload");
    sv_r2_write w = {.sum = SV_SUM_CRC64NVME, .custom = custom, .class = SV_R2_INFREQUENT};
    sv_r2_chosen v[4];
    create(&w, "big");
    assert_int_equal(strlen(w.upload), 64);
    put_part(&w, 3, p + 2 * N, LAST, &v[2]);
    put_part(&w, 1, p, 100, &v[0]); /* replaced by the next */
    put_part(&w, 1, p, N, &v[0]);
    put_part(&w, 2, p + N, N, &v[1]);
    put_part(&w, 9, p, 10, &v[3]); /* not chosen */
    assert_int_equal(get_code("big"), SV_R2_NO_KEY);
    sv_sum_values whole;
    sv_sums_of(&whole, 1u << SV_SUM_CRC64NVME, p, 2 * N + LAST);
    w.whole = whole;
    w.whole.v[SV_SUM_CRC64NVME][0] ^= 1;
    assert_int_equal(complete(&w, v, 3), SV_R2_BAD_DIGEST);
    w.whole = whole;
    assert_int_equal(complete(&w, v, 3), 0);
    assert_true(json_equal(w.out.custom, custom) && w.out.class == SV_R2_INFREQUENT && w.out.size == 2 * N + LAST);
    assert_memory_equal(w.out.sums.v[SV_SUM_CRC64NVME], whole.v[SV_SUM_CRC64NVME], 8);
    uint8_t md5s[48];
    for (int i = 0; i < 3; i++)
        assert_true(sv_unhex(md5s + 16 * i, 16, sv_str_of(v[i].etag)));
    sv_sum_values md5;
    char etag[48];
    sv_sums_of(&md5, 1u << SV_SUM_MD5, md5s, 48);
    sv_hex(etag, md5.v[SV_SUM_MD5], 16);
    strcat(etag, "-3");
    assert_string_equal(w.out.etag, etag);
    sv_r2_obj_done(&w.out);
    assert_object("big", p, 2 * N + LAST);
    await_files(3);
    got g = get_with(&(sv_r2_get){.range = {SV_R2_FROM, N - 5, N + 10}}, "big"); /* over both edges */
    assert_int_equal(g.bytes.n, N + 10);
    assert_memory_equal(g.bytes.p, p + N - 5, N + 10);
    drop(&g);
    g = get_with(&(sv_r2_get){.range = {SV_R2_PART, 2, 0}}, "big");
    assert_true(g.at == N && g.bytes.n == N && memcmp(g.bytes.p, p + N, N) == 0);
    drop(&g);
    assert_int_equal(complete(&w, v, 3), SV_R2_NO_UPLOAD);

    sv_err err = {0}; /* a copy is links: it outlives the original */
    sv_r2_get from = {.account = ACCOUNT, .bucket = BUCKET, .key = SV_STR("big")};
    sv_r2_write c = {.op = SV_R2_PUT, .account = ACCOUNT, .bucket = BUCKET, .key = SV_STR("copy"), .copy_bucket = BUCKET, .copy_key = SV_STR("big")};
    assert_int_equal(sv_r2_copy(r2, &from, &c, true, &err), SV_OK);
    assert_string_equal(c.out.etag, etag);
    sv_r2_obj_done(&c.out);
    remove_key("big");
    await_files(3);
    assert_object("copy", p, 2 * N + LAST);

    sv_r2_obj o; /* and one who reads it keeps all its files */
    sv_r2_reader *body = NULL;
    int64_t at, n, got_n = 0;
    bool nm;
    from.key = SV_STR("copy");
    assert_int_equal(sv_r2_get_object(r2, &from, &o, &body, &at, &n, &nm, &err), SV_OK);
    remove_key("copy");
    usleep(50000);
    assert_int_equal(count_files(), 3);
    SV_AUTO(sv_freep) char *piece = sv_xcalloc(100000, 1);
    for (ssize_t k; (k = sv_r2_read(body, piece, 100000)) > 0; got_n += k)
        assert_memory_equal(piece, p + got_n, (size_t)k);
    assert_int_equal(got_n, 2 * N + LAST);
    sv_r2_reader_close(body);
    sv_r2_obj_done(&o);
    await_files(0);
}

static void uploads_that_make_no_object_are_refused(void **state)
{
    enum { N = SV_R2_MIN_PART };
    (void)state;
    SV_AUTO(sv_freep) char *p = pattern(N + 1, 5);
    sv_r2_write w = {.sum = -1};
    sv_r2_chosen v[3];
    create(&w, "k");
    put_part(&w, 1, p, N - 1, &v[0]);
    put_part(&w, 2, p, 10, &v[1]);
    assert_int_equal(complete(&w, v, 2), SV_R2_TOO_SMALL);
    put_part(&w, 1, p, N, &v[0]);
    put_part(&w, 2, p, N + 1, &v[1]);
    assert_int_equal(complete(&w, v, 2), SV_R2_UNEQUAL_PARTS); /* the last is longer */
    put_part(&w, 3, p, 10, &v[2]);
    assert_int_equal(complete(&w, v, 3), SV_R2_UNEQUAL_PARTS);
    assert_int_equal(complete(&w, v, 0), SV_R2_UNEQUAL_PARTS);
    sv_r2_chosen twice[2] = {v[0], v[0]}, strange = {.part = 7, .etag = "x"}, other = v[0];
    assert_int_equal(complete(&w, twice, 2), SV_R2_BAD_PART);
    assert_int_equal(complete(&w, &strange, 1), SV_R2_BAD_PART);
    other.etag[0] ^= 1;
    assert_int_equal(complete(&w, &other, 1), SV_R2_BAD_PART);
    w.key = SV_STR("another");
    assert_int_equal(complete(&w, v, 1), SV_R2_NO_UPLOAD);
    w.key = SV_STR("k");
    assert_int_equal(get_code("k"), SV_R2_NO_KEY);
    w.op = SV_R2_ABORT;
    sv_err err = {0};
    assert_int_equal(sv_r2_apply(r2, &w, &err), SV_OK);
    await_files(0);
    assert_int_equal(sv_r2_apply(r2, &w, &err), SV_ENOENT);
    assert_int_equal(err.api_code, SV_R2_NO_UPLOAD);
}

/* ---- encryption ---- */

static void a_customers_key_is_needed_and_hides_the_bytes(void **state)
{
    (void)state;
    sv_err err = {0};
    uint8_t key[32] = {1, 2, 3}, wrong[32] = {9};
    sv_r2_get with = {0}, without = {0}, false_key = {0};
    sv_r2_key_set(&with.ssec, key);
    sv_r2_key_set(&false_key.ssec, wrong);
    SV_AUTO(sv_freep) char *p = pattern(300000, 8);
    char in_piece[300000], again[300000];
    uint8_t iv[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
    memcpy(in_piece, p, sizeof in_piece);
    sv_r2_crypt(&with.ssec, iv, 0, in_piece, sizeof in_piece);
    assert_memory_not_equal(in_piece, p, sizeof in_piece);
    memcpy(again, in_piece, sizeof again); /* any cut gives the same stream, over the counter's end too */
    sv_r2_crypt(&with.ssec, iv, 0, again, 33);
    sv_r2_crypt(&with.ssec, iv, 33, again + 33, 100001);
    sv_r2_crypt(&with.ssec, iv, 100034, again + 100034, 300000 - 100034);
    assert_memory_equal(again, p, sizeof again);

    sv_r2_piece piece;
    assert_int_equal(sv_r2_spill(r2, (sv_str){in_piece, sizeof in_piece}, &piece, &err), SV_OK);
    memcpy(piece.iv, iv, 16);
    sv_r2_write w = {.op = SV_R2_PUT, .account = ACCOUNT, .bucket = BUCKET, .key = SV_STR("k"), .pieces = &piece, .n_pieces = 1, .size = 300000, .ssec = with.ssec};
    sv_sums_of(&w.sums, 1u << SV_SUM_MD5, p, 300000);
    assert_int_equal(sv_r2_apply(r2, &w, &err), SV_OK);
    sv_r2_obj_done(&w.out);
    got g = get_with(&with, "k");
    assert_memory_equal(g.bytes.p, p, 300000);
    drop(&g);
    with.range = (sv_r2_range){SV_R2_FROM, 77777, 12345};
    g = get_with(&with, "k");
    assert_memory_equal(g.bytes.p, p + 77777, 12345);
    drop(&g);
    with.range = (sv_r2_range){0};
    g = get_with(&without, "k");
    assert_int_equal(g.code, SV_S3_MISSING_KEY);
    drop(&g);
    g = get_with(&false_key, "k");
    assert_int_equal(g.code, SV_R2_ACCESS_DENIED);
    drop(&g);
    sv_r2_write c = {.op = SV_R2_PUT, .account = ACCOUNT, .bucket = BUCKET, .key = SV_STR("plain"), .copy_bucket = BUCKET, .copy_key = SV_STR("k")};
    with.account = ACCOUNT;
    with.bucket = BUCKET;
    with.key = SV_STR("k");
    assert_int_equal(sv_r2_copy(r2, &with, &c, true, &err), SV_OK);
    sv_r2_obj_done(&c.out);
    assert_object("plain", p, 300000);
}

/* ---- rules ---- */

static void set(sv_r2_setting which, const char *text)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *v = NULL;
    assert_int_equal(sv_json_parse(&v, sv_str_of(text), &err), SV_OK);
    if (sv_r2_rules_check(which, v, &err) != SV_OK || sv_r2_bucket_set(r2, ACCOUNT, BUCKET, which, sv_str_of(text), &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void locks_and_lifecycles(void **state)
{
    (void)state;
    sv_err err = {0};
    put("logs/a", "1", 1);
    put("logs/b", "1", 1);
    put("other", "1", 1);
    set(SV_R2_LOCKS, "{\"rules\":[{\"id\":\"l\",\"enabled\":true,\"prefix\":\"logs/b\",\"condition\":{\"type\":\"Age\",\"maxAgeSeconds\":3600}}]}");
    sv_r2_write over = {0};
    assert_int_equal(put_with(&over, "logs/b", "2", 1, &err), SV_EINVAL);
    assert_int_equal(err.api_code, SV_R2_LOCKED);
    int codes[2];
    const sv_str keys[] = {SV_STR("logs/b"), SV_STR("none")};
    sv_r2_write del = {.op = SV_R2_DELETE, .account = ACCOUNT, .bucket = BUCKET, .keys = keys, .n_keys = 2, .key_codes = codes};
    assert_int_equal(sv_r2_apply(r2, &del, &err), SV_OK);
    assert_true(codes[0] == SV_R2_LOCKED && codes[1] == 0);
    set(SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"x\",\"enabled\":true,\"conditions\":{\"prefix\":\"logs/\"},\"deleteObjectsTransition\":{\"condition\":{\"type\":\"Age\",\"maxAge\":86400}}},"
                         "{\"id\":\"y\",\"enabled\":true,\"conditions\":{\"prefix\":\"\"},\"storageClassTransitions\":[{\"condition\":{\"type\":\"Age\",\"maxAge\":10},\"storageClass\":\"InfrequentAccess\"}]},"
                         "{\"id\":\"z\",\"enabled\":false,\"conditions\":{\"prefix\":\"\"},\"deleteObjectsTransition\":{\"condition\":{\"type\":\"Age\",\"maxAge\":0}}}]}");
    assert_int_equal(sv_r2_sweep(r2, sv_now_ms() + 3600000, &err), SV_OK);
    assert_int_equal(get_code("logs/a"), 0);
    got g = get_with(&(sv_r2_get){.head = true}, "other");
    assert_int_equal(g.obj.class, SV_R2_INFREQUENT);
    drop(&g);
    assert_int_equal(sv_r2_sweep(r2, sv_now_ms() + 86400000, &err), SV_OK);
    assert_int_equal(get_code("logs/a"), SV_R2_NO_KEY);
    assert_int_equal(get_code("logs/b"), 0); /* still locked, by the real clock */
    assert_int_equal(get_code("other"), 0);
}

static void uploads_that_nobody_completes_go_after_a_week(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_r2_write w = {.sum = -1};
    sv_r2_chosen c;
    create(&w, "k");
    put_part(&w, 1, "x", 1, &c);
    assert_int_equal(sv_r2_sweep(r2, sv_now_ms() + 6 * 86400000LL, &err), SV_OK);
    assert_int_equal(count_files(), 1);
    assert_int_equal(sv_r2_sweep(r2, sv_now_ms() + 7 * 86400000LL + 1000, &err), SV_OK);
    await_files(0);
    assert_int_equal(complete(&w, &c, 1), SV_R2_NO_UPLOAD);
}

static void rules_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct { sv_r2_setting which; const char *text, *says; } cases[] = {
        {SV_R2_LIFECYCLE, "{}", "'rules'"}, {SV_R2_LIFECYCLE, "{\"rules\":[3]}", "rules[0]"}, {SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"\",\"enabled\":true}]}", "'id'"},
        {SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"a\"}]}", "'enabled'"}, {SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"a\",\"enabled\":true},{\"id\":\"a\",\"enabled\":true}]}", "rules[1]"},
        {SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"a\",\"enabled\":true,\"deleteObjectsTransition\":{\"condition\":{\"type\":\"Age\",\"maxAge\":-1}}}]}", "deleteObjects"},
        {SV_R2_LIFECYCLE, "{\"rules\":[{\"id\":\"a\",\"enabled\":true,\"deleteObjectsTransition\":{\"condition\":{\"type\":\"Date\",\"date\":\"soon\"}}}]}", "deleteObjects"},
        {SV_R2_LOCKS, "{\"rules\":[{\"id\":\"a\",\"enabled\":true,\"condition\":{\"type\":\"Maybe\"}}]}", "'condition'"},
        {SV_R2_CORS, "{\"rules\":[{\"allowed\":{\"origins\":[],\"methods\":[\"GET\"]}}]}", "'origins'"}, {SV_R2_CORS, "{\"rules\":[{\"allowed\":{\"origins\":[\"*\"],\"methods\":[\"PATCH\"]}}]}", "PATCH"},
        {SV_R2_CORS, "{\"rules\":[{\"allowed\":{\"origins\":[\"*.*\"],\"methods\":[\"GET\"]}}]}", "'*'"},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        sv_err err = {0};
        SV_AUTO(sv_json_decrefp) json_t *v = NULL;
        assert_int_equal(sv_json_parse(&v, sv_str_of(cases[i].text), &err), SV_OK);
        assert_int_equal(sv_r2_rules_check(cases[i].which, v, &err), SV_EINVAL);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *cors = NULL;
    assert_int_equal(sv_json_parse(&cors, SV_STR("{\"rules\":[{\"allowed\":{\"origins\":[\"https://*.example.com\"],\"methods\":[\"GET\",\"PUT\"],\"headers\":[\"x-*\"]}}]}"), &err), SV_OK);
    sv_r2_cors ask = {.origin = SV_STR("https://a.example.com"), .method = SV_STR("GET"), .headers = SV_STR("X-A, x-b")};
    assert_non_null(sv_r2_cors_match(cors, &ask));
    ask.headers = SV_STR("X-A, authorization");
    assert_null(sv_r2_cors_match(cors, &ask));
    ask.headers = (sv_str){0};
    ask.origin = SV_STR("https://example.com");
    assert_null(sv_r2_cors_match(cors, &ask));
    ask.origin = SV_STR("https://a.example.com");
    ask.method = SV_STR("DELETE");
    assert_null(sv_r2_cors_match(cors, &ask));
}

/* ---- events ---- */

static sv_buf heard;
static atomic_int n_heard, refuse;
static pthread_mutex_t heard_lock = PTHREAD_MUTEX_INITIALIZER;

static sv_rc hear(void *ctx, const char *account, const char *queue, sv_str message, sv_err *err)
{
    (void)ctx, (void)account;
    if (strcmp(queue, "gone") == 0)
        return sv_fail(err, SV_ENOENT, "no such queue");
    if (refuse-- > 0)
        return sv_fail(err, SV_ELIMIT, "full");
    pthread_mutex_lock(&heard_lock);
    sv_buf_addf(&heard, "%s: %.*s\n", queue, (int)message.n, message.p);
    pthread_mutex_unlock(&heard_lock);
    n_heard++;
    return SV_OK;
}

static void await_outbox(int64_t n)
{
    sv_r2_stats s = {0};
    sv_err err = {0};
    for (int i = 0; i < 500; i++, usleep(10000))
        if (sv_r2_get_stats(r2, &s, &err) == SV_OK && s.n_outbox == n)
            return;
    assert_int_equal(s.n_outbox, n);
}

static void events_reach_the_queue_once_the_object_is_there(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_r2_rule rules[] = {
        {.queue = "q1", .prefix = SV_STR("in/"), .suffix = SV_STR(".txt"), .actions = SV_R2_ON_PUT | SV_R2_ON_COMPLETE | SV_R2_ON_COPY},
        {.queue = "q1", .prefix = SV_STR("in/"), .actions = SV_R2_ON_PUT},
        {.queue = "q2", .actions = SV_R2_ON_DELETE | SV_R2_ON_EXPIRE},
        {.queue = "gone", .actions = SV_R2_ON_PUT},
    };
    assert_int_equal(sv_r2_rules_add(r2, ACCOUNT, BUCKET, rules, 4, &err), SV_OK);
    put("in/a.txt", "hello", 5);
    await_outbox(2); /* one for each queue, though two rules of q1 fit; they wait for somebody to take them, through a restart too */
    sv_r2_close(r2);
    open_store();
    await_outbox(2);
    sv_buf_init(&heard, 0);
    n_heard = 0;
    refuse = 1; /* the first time */
    sv_r2_set_notify(r2, &(sv_r2_notify){.send = hear});
    put("out/a.txt", "x", 1);
    remove_key("in/a.txt");
    remove_key("in/none.txt");
    await_outbox(0);
    assert_int_equal(n_heard, 2);
    pthread_mutex_lock(&heard_lock);
    SV_AUTO(sv_freep) char *text = sv_buf_take(&heard);
    pthread_mutex_unlock(&heard_lock);
    const char *put_line = strstr(text, "q1: "), *delete_line = strstr(text, "q2: ");
    assert_true(put_line && delete_line);
    SV_AUTO(sv_json_decrefp) json_t *m = NULL;
    sv_str one = {put_line + 4, strcspn(put_line + 4, "\n")};
    assert_int_equal(sv_json_parse(&m, one, &err), SV_OK);
    SV_AUTO(sv_json_decrefp) json_t *want = json_pack("{s:s, s:s, s:s, s:{s:s, s:i, s:s}, s:O}", "account", ACCOUNT.p, "action", "PutObject", "bucket", "bucket",
                                                      "object", "key", "in/a.txt", "size", 5, "eTag", "5d41402abc4b2a76b9719d911017c592", "eventTime",
                                                      json_object_get(m, "eventTime"));
    assert_true(json_equal(m, want));
    assert_non_null(strstr(delete_line, "\"action\":\"DeleteObject\",\"bucket\":\"bucket\",\"object\":{\"key\":\"in/a.txt\"}"));
    assert_int_equal(sv_r2_rules_remove(r2, ACCOUNT, BUCKET, SV_STR("q1"), &(sv_str){rules[0].id, 32}, 1, &err), SV_OK);
    assert_int_equal(sv_r2_rules_remove(r2, ACCOUNT, BUCKET, SV_STR("q1"), &(sv_str){rules[0].id, 32}, 1, &err), SV_ENOENT);
    assert_int_equal(sv_r2_rules_remove(r2, ACCOUNT, BUCKET, SV_STR("q1"), NULL, 0, &err), SV_OK);
    assert_int_equal(sv_r2_rules_remove(r2, ACCOUNT, BUCKET, SV_STR("q1"), NULL, 0, &err), SV_ENOENT);
}

/* ---- buckets ---- */

static void add_name(void *arg, const sv_r2_bucket *b) { sv_buf_addf(arg, "%s ", b->name); }

static void buckets(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_r2_bucket b;
    bool more;
    static const char *const bad[] = {"ab", "UPPER", "-a-b", "a-b-", "a.b.c", "a_b", "", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < SV_LEN(bad); i++)
        assert_int_equal(sv_r2_bucket_create(r2, ACCOUNT, sv_str_of(bad[i]), SV_STR(""), SV_STR(""), SV_R2_STANDARD, &b, &err), SV_EINVAL);
    assert_int_equal(sv_r2_bucket_create(r2, ACCOUNT, BUCKET, SV_STR(""), SV_STR(""), SV_R2_STANDARD, &b, &err), SV_ECONFLICT);
    assert_int_equal(sv_r2_bucket_create(r2, ACCOUNT, SV_STR("second"), SV_STR("EEUR"), SV_STR("eu"), SV_R2_INFREQUENT, &b, &err), SV_OK);
    assert_true(strcmp(b.location, "EEUR") == 0 && strcmp(b.jurisdiction, "eu") == 0 && b.class == SV_R2_INFREQUENT);
    assert_int_equal(sv_r2_bucket_create(r2, SV_STR("another"), SV_STR("second"), SV_STR(""), SV_STR(""), SV_R2_STANDARD, &b, &err), SV_OK);
    SV_AUTO(sv_buf_donep) sv_buf names;
    sv_buf_init(&names, 0);
    assert_int_equal(sv_r2_bucket_list(r2, ACCOUNT, &(sv_r2_bucket_page){.limit = 1}, add_name, &names, &more, &err), SV_OK);
    assert_true(more);
    assert_int_equal(sv_r2_bucket_list(r2, ACCOUNT, &(sv_r2_bucket_page){.limit = 10, .after = BUCKET}, add_name, &names, &more, &err), SV_OK);
    assert_int_equal(sv_r2_bucket_list(r2, ACCOUNT, &(sv_r2_bucket_page){.limit = 10, .descending = true, .contains = SV_STR("c")}, add_name, &names, &more, &err), SV_OK);
    assert_string_equal(names.p, "bucket second second bucket ");
    put("k", "12345", 5);
    sv_r2_usage u;
    assert_int_equal(sv_r2_bucket_usage(r2, ACCOUNT, BUCKET, SV_R2_CLASS_OF_BUCKET, &u, &err), SV_OK);
    assert_true(u.n_objects == 1 && u.n_bytes == 5);
    assert_int_equal(sv_r2_bucket_delete(r2, ACCOUNT, BUCKET, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, SV_R2_NOT_EMPTY);
    remove_key("k");
    sv_r2_write w = {.sum = -1};
    sv_r2_chosen c;
    create(&w, "k");
    put_part(&w, 1, "x", 1, &c);
    assert_int_equal(sv_r2_bucket_delete(r2, ACCOUNT, BUCKET, &err), SV_OK); /* open uploads go with it */
    await_files(0);
    assert_int_equal(sv_r2_bucket_find(r2, ACCOUNT, BUCKET, &b, &err), SV_ENOENT);
    assert_int_equal(err.api_code, SV_R2_NO_BUCKET);
}

static void a_crash_leaves_no_files_that_nobody_names(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_r2_piece lost;
    SV_AUTO(sv_freep) char *p = pattern(100000, 1);
    put("kept", p, 100000);
    assert_int_equal(sv_r2_spill(r2, (sv_str){p, 100000}, &lost, &err), SV_OK); /* the crash comes before its write */
    char path[600];
    snprintf(path, sizeof path, "%s/README", sv_r2_folder(r2));
    assert_int_equal(sv_file_replace(path, "x", 1, 0600, &err), SV_OK); /* none of ours */
    assert_int_equal(count_files(), 3);
    sv_r2_close(r2);
    open_store();
    assert_int_equal(count_files(), 2);
    assert_object("kept", p, 100000);
}

static void the_table_of_limits_has_the_same_numbers(void **state)
{
    (void)state;
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_BUCKETS), SV_R2_MAX_BUCKETS);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_KEY_BYTES), SV_R2_MAX_KEY);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_METADATA_BYTES), SV_R2_MAX_METADATA);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_UPLOAD_BYTES), SV_R2_MAX_UPLOAD);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_OBJECT_BYTES), SV_R2_MAX_OBJECT);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_PARTS), SV_R2_MAX_PARTS);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_MIN_PART_BYTES), SV_R2_MIN_PART);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_UPLOADS), SV_R2_MAX_UPLOADS);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_UPLOAD_MS), SV_R2_UPLOAD_DAYS * 86400000LL);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_LIST), SV_R2_MAX_LIST);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_DELETE), SV_R2_MAX_DELETE);
    assert_int_equal(sv_limit_value(SV_LIMIT_R2_RULES), SV_R2_MAX_RULES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_is_got_also_after_a_restart, start, stop),
        cmocka_unit_test_setup_teardown(metadata_and_sums_come_back, start, stop),
        cmocka_unit_test_setup_teardown(ranges, start, stop),
        cmocka_unit_test_setup_teardown(conditions, start, stop),
        cmocka_unit_test_setup_teardown(a_reader_keeps_what_it_saw, start, stop),
        cmocka_unit_test_setup_teardown(lists_are_in_order_and_in_pages, start, stop),
        cmocka_unit_test_setup_teardown(keys_that_cannot_be_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(parts_become_an_object, start, stop),
        cmocka_unit_test_setup_teardown(uploads_that_make_no_object_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(a_customers_key_is_needed_and_hides_the_bytes, start, stop),
        cmocka_unit_test_setup_teardown(locks_and_lifecycles, start, stop),
        cmocka_unit_test_setup_teardown(uploads_that_nobody_completes_go_after_a_week, start, stop),
        cmocka_unit_test_setup_teardown(rules_that_make_no_sense_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(events_reach_the_queue_once_the_object_is_there, start, stop),
        cmocka_unit_test_setup_teardown(buckets, start, stop),
        cmocka_unit_test(the_table_of_limits_has_the_same_numbers),
        cmocka_unit_test_setup_teardown(a_crash_leaves_no_files_that_nobody_names, start, stop),
    };
    return cmocka_run_group_tests_name("r2", tests, NULL, NULL);
}
