/* The index through its header: normal use first, then refusals, filters against a second opinion, recall, restarts, kill -9, and
 * readers beside writers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/thread.h"
#include "base/time.h"
#include "vec/filter_testing.h"
#include "vec/vec.h"

static char base_dir[64], dir[96];
static sv_err err;
static sv_vec *v;

static int make_dir(void **state)
{
    (void)state;
    snprintf(base_dir, sizeof base_dir, "/tmp/sv-vec-XXXXXX");
    if (!mkdtemp(base_dir))
        return -1;
    snprintf(dir, sizeof dir, "%s/index", base_dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    v = sv_vec_close(v);
    return sv_remove_tree(base_dir, &err);
}

static void must(sv_rc rc)
{
    if (rc != SV_OK)
        fail_msg("%s", err.msg);
}

static void open_index(int32_t dimensions, sv_vec_metric metric, int32_t graph_min)
{
    must(sv_vec_open(&v, dir, &(sv_vec_config){.dimensions = dimensions, .metric = metric, .n_threads = 2, .graph_min = graph_min}, &err));
}

static float gauss(void)
{
    float s = 0;
    for (int i = 0; i < 12; i++)
        s += (float)roll(1 << 20) / (1 << 20);
    return s - 6;
}

static sv_vec_item item(const char *id, const float *values, const char *ns, const char *metadata)
{
    return (sv_vec_item){sv_str_of(id), values, sv_str_of(ns), sv_str_of(metadata)};
}

static const sv_str M = {"m-1", 3};

static void vectors_are_found_got_listed_and_deleted(void **state)
{
    (void)state;
    open_index(3, SV_VEC_COSINE, 0);
    const float a[] = {1, 0, 0}, b[] = {0.9f, 0.1f, 0}, c[] = {0, 0, 5};
    sv_vec_item items[] = {item("a", a, "", "{\"n\":1}"), item("b", b, "red", "{\"n\":2}"), item("c", c, "red", "")};
    must(sv_vec_upsert(v, items, 3, M, &err));

    sv_vec_matches m = {0};
    must(sv_vec_query_run(v, &(sv_vec_query){.vector = a, .top_k = 2, .return_values = true, .return_metadata = SV_VEC_METADATA_ALL}, &m, &err));
    assert_int_equal(m.n, 2);
    assert_true(sv_str_is(m.items[0].id, "a") && fabsf(m.items[0].score - 1) < 1e-6f && m.items[0].ns.n == 0 && sv_str_is(m.items[0].metadata, "{\"n\":1}"));
    assert_true(sv_str_is(m.items[1].id, "b") && sv_str_is(m.items[1].ns, "red") && m.items[1].values[1] == 0.1f);
    sv_vec_matches_done(&m);

    must(sv_vec_query_run(v, &(sv_vec_query){.id = SV_STR("a"), .top_k = 5, .ns = SV_STR("red")}, &m, &err));
    assert_true(m.n == 2 && sv_str_is(m.items[0].id, "b") && m.items[0].metadata.n == 0 && !m.items[0].values);
    sv_vec_matches_done(&m);
    must(sv_vec_query_run(v, &(sv_vec_query){.vector = a, .top_k = 5, .ns = {"", 0}}, &m, &err));
    assert_true(m.n == 1 && sv_str_is(m.items[0].id, "a"));
    sv_vec_matches_done(&m);
    must(sv_vec_query_run(v, &(sv_vec_query){.vector = a, .top_k = 5, .ns = SV_STR("nobody")}, &m, &err));
    assert_int_equal(m.n, 0);
    sv_vec_matches_done(&m);

    const sv_str ids[] = {SV_STR("c"), SV_STR("x"), SV_STR("a")};
    must(sv_vec_get(v, ids, 3, &m, &err));
    assert_true(m.n == 2 && sv_str_is(m.items[0].id, "c") && m.items[0].values[2] == 5 && sv_str_is(m.items[1].id, "a"));
    sv_vec_matches_done(&m);

    size_t n = 9;
    must(sv_vec_delete(v, (sv_str[]){SV_STR("a"), SV_STR("a"), SV_STR("x")}, 3, SV_STR("m-2"), &n, &err));
    assert_int_equal(n, 1);
    char next[SV_VEC_CURSOR + 1];
    must(sv_vec_list(v, (sv_str){0}, 1, &m, next, &err));
    assert_true(m.n == 1 && sv_str_is(m.items[0].id, "b") && next[0]);
    sv_vec_matches_done(&m);
    must(sv_vec_list(v, sv_str_of(next), 1, &m, next, &err));
    assert_true(m.n == 1 && sv_str_is(m.items[0].id, "c") && !next[0]);
    sv_vec_matches_done(&m);

    sv_vec_info info;
    sv_vec_info_get(v, &info);
    assert_true(info.n_vectors == 2 && info.n_namespaces == 1 && info.last_mutation_ms > 0);
    assert_string_equal(info.last_mutation, "m-2");
}

static void insert_keeps_what_is_there_and_upsert_replaces_it_whole(void **state)
{
    (void)state;
    open_index(2, SV_VEC_EUCLIDEAN, 0);
    const float a[] = {0, 0}, b[] = {3, 4};
    bool taken[3];
    size_t n = 0;
    must(sv_vec_upsert(v, (sv_vec_item[]){item("1", a, "x", "{}")}, 1, M, &err));
    sv_vec_item more[] = {item("1", b, "", ""), item("2", b, "", "{\"first\":1}"), item("2", a, "", "")};
    must(sv_vec_insert(v, more, 3, M, taken, &n, &err));
    assert_true(n == 1 && !taken[0] && taken[1] && !taken[2]);
    sv_vec_matches m = {0};
    must(sv_vec_query_run(v, &(sv_vec_query){.vector = a, .top_k = 5, .return_metadata = SV_VEC_METADATA_ALL}, &m, &err));
    assert_true(m.n == 2 && m.items[0].score == 0 && m.items[1].score == 5 && sv_str_is(m.items[1].metadata, "{\"first\":1}"));
    sv_vec_matches_done(&m);
    sv_vec_item again[] = {item("1", a, "", "{\"lost\":1}"), item("1", b, "", "")};
    must(sv_vec_upsert(v, again, 2, M, &err));
    must(sv_vec_get(v, (sv_str[]){SV_STR("1")}, 1, &m, &err));
    assert_true(m.n == 1 && m.items[0].values[0] == 3 && m.items[0].ns.n == 0 && m.items[0].metadata.n == 0);
    sv_vec_matches_done(&m);
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    assert_int_equal(info.n_vectors, 2);
}

static void bad_input_is_refused_and_leaves_no_trace(void **state)
{
    (void)state;
    open_index(2, SV_VEC_COSINE, 0);
    const float good[] = {1, 2}, nan_[] = {NAN, 1}, inf[] = {1, INFINITY}, zero[] = {0, 0}, huge[] = {3e38f, 1};
    char long_id[66] = {0}, *big = sv_xcalloc(1, SV_VEC_MAX_METADATA + 20);
    memset(long_id, 'x', 65);
    memset(big, ' ', SV_VEC_MAX_METADATA + 1);
    memcpy(big, "{}", 2);
    const sv_vec_item bad[] = {item("b", nan_, "", ""), item("b", inf, "", ""), item("b", zero, "", ""), item("b", huge, "", ""), item(long_id, good, "", ""),
                               item("", good, "", ""), item("b", good, long_id, ""), item("b", good, "", "[1]"), item("b", good, "", "{\"a\":"),
                               item("b", good, "", big), item("\xff", good, "", "")};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        sv_vec_item two[] = {item("first", good, "", ""), bad[i]};
        assert_int_not_equal(sv_vec_upsert(v, two, 2, M, &err), SV_OK);
        assert_true(strstr(err.msg, "vector 1") != NULL);
    }
    free(big);
    SV_AUTO(sv_freep) sv_vec_item *many = sv_xcalloc(SV_VEC_MAX_BATCH + 1, sizeof *many);
    assert_int_equal(sv_vec_upsert(v, many, SV_VEC_MAX_BATCH + 1, M, &err), SV_ELIMIT);
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    assert_true(info.n_vectors == 0 && info.last_mutation_ms == 0);

    sv_vec_matches m = {0};
    assert_int_equal(sv_vec_query_run(v, &(sv_vec_query){.vector = good, .top_k = 0}, &m, &err), SV_EINVAL);
    assert_int_equal(sv_vec_query_run(v, &(sv_vec_query){.vector = good, .top_k = SV_VEC_MAX_TOP_K + 1}, &m, &err), SV_EINVAL);
    assert_int_equal(sv_vec_query_run(v, &(sv_vec_query){.vector = nan_, .top_k = 1}, &m, &err), SV_EINVAL);
    assert_int_equal(sv_vec_query_run(v, &(sv_vec_query){.id = SV_STR("b"), .top_k = 1}, &m, &err), SV_ENOENT);
    char next[SV_VEC_CURSOR + 1];
    assert_int_equal(sv_vec_list(v, SV_STR("0123"), 10, &m, next, &err), SV_EINVAL);
    sv_vec *other = NULL;
    assert_int_equal(sv_vec_open(&other, dir, NULL, &err), SV_ECONFLICT); /* open already */
    v = sv_vec_close(v);
    assert_int_equal(sv_vec_open(&other, dir, &(sv_vec_config){.dimensions = 3}, &err), SV_ECONFLICT);
    assert_int_equal(sv_vec_open(&other, "/tmp/there-is-no-such-index", NULL, &err), SV_ENOENT);
    must(sv_vec_destroy(dir, &err));
    assert_false(sv_file_exists(dir));
}

/* --- filters -------------------------------------------------------------------------------------------------------- */

enum { FILTERED = 3000 };

/* Ids of what is found, as marks; *n of them. */
static size_t marks(const sv_vec_query *q, bool *mark, size_t n_ids)
{
    sv_vec_matches m = {0};
    must(sv_vec_query_run(v, q, &m, &err));
    memset(mark, 0, n_ids);
    for (size_t i = 0; i < m.n; i++) {
        size_t id = strtoul(m.items[i].id.p, NULL, 10);
        assert_false(mark[id]);
        mark[id] = true;
    }
    size_t n = m.n;
    sv_vec_matches_done(&m);
    return n;
}

static void ten_thousand_filters_agree_with_a_second_opinion_on_all_plans(void **state)
{
    (void)state;
    enum { D = 64 };
    open_index(D, SV_VEC_EUCLIDEAN, 2000);
    must(sv_vec_field_create(v, SV_STR("genre"), SV_VEC_STRING, M, &err));
    must(sv_vec_field_create(v, SV_STR("year"), SV_VEC_NUMBER, M, &err));
    must(sv_vec_field_create(v, SV_STR("in.flag"), SV_VEC_BOOLEAN, M, &err));
    static json_t *metadata[FILTERED];
    static float x[FILTERED][D];
    static char ids[FILTERED][8];
    static bool alive[FILTERED], mark[FILTERED];
    for (int i = 0; i < FILTERED; i++) {
        metadata[i] = random_object(1);
        SV_AUTO(sv_freep) char *text = json_dumps(metadata[i], (roll(2) ? JSON_ENSURE_ASCII : 0) | JSON_REAL_PRECISION(17));
        for (int d = 0; d < D; d++)
            x[i][d] = gauss();
        snprintf(ids[i], sizeof ids[i], "%d", i);
        must(sv_vec_upsert(v, (sv_vec_item[]){item(ids[i], x[i], i % 3 ? "ns" : "", text)}, 1, M, &err));
        alive[i] = true;
        if (i == FILTERED * 3 / 4) { /* the indexes cover this much; two more come after the data */
            assert_true(sv_vec_settle(v, 60000));
            must(sv_vec_field_create(v, SV_STR("mixed"), SV_VEC_STRING, M, &err));
            must(sv_vec_field_create(v, SV_STR("k\xc3\xa9y"), SV_VEC_NUMBER, M, &err));
        }
        if (i % 11 == 0) {
            must(sv_vec_delete(v, (sv_str[]){sv_str_of(ids[i])}, 1, M, NULL, &err));
            alive[i] = false;
        }
    }
    size_t n_by_plan[5] = {0}, n_some = 0;
    for (int round = 0; round < 10000; round++) {
        SV_AUTO(sv_json_decrefp) json_t *fj = random_filter();
        SV_AUTO(sv_freep) char *text = json_dumps(fj, JSON_COMPACT | JSON_REAL_PRECISION(17));
        sv_vec_filter *f = NULL;
        must(sv_vec_filter_parse(&f, sv_str_of(text), &err));
        /* one slot of a slice is enough of a check for most rounds, all of them for some */
        sv_vec_query q = {.vector = x[roll(FILTERED)], .top_k = 1000, .filter = f, .ns = roll(4) ? (sv_str){0} : SV_STR("ns"),
                          .plan = (sv_vec_plan)(round % 4 == 3 ? SV_VEC_PLAN_BITS : round % 4)};
        size_t n = marks(&q, mark, FILTERED), want = 0;
        n_by_plan[q.plan]++;
        for (int i = 0; i < FILTERED; i++) {
            bool yes = alive[i] && (!q.ns.p || i % 3) && judge(metadata[i], fj);
            want += yes;
            if (mark[i] && !yes)
                fail_msg("%s takes %d by plan %d", text, i, q.plan);
            if (yes && !mark[i] && n < 1000)
                fail_msg("%s misses %d by plan %d", text, i, q.plan);
        }
        assert_int_equal(n, want < 1000 ? want : 1000);
        n_some += want > 0;
        sv_vec_filter_free(f);
        if (round == 5000)
            assert_true(sv_vec_settle(v, 60000));
    }
    assert_true(n_some > 4000 && n_by_plan[SV_VEC_PLAN_BITS] > 2000);
    for (int i = 0; i < FILTERED; i++)
        json_decref(metadata[i]);
}

static void a_filter_deletes_what_it_takes(void **state)
{
    (void)state;
    open_index(2, SV_VEC_DOT, 0);
    must(sv_vec_field_create(v, SV_STR("k"), SV_VEC_NUMBER, M, &err));
    for (int i = 0; i < 40; i++) {
        char id[8], text[32];
        snprintf(id, sizeof id, "%d", i);
        snprintf(text, sizeof text, "{\"k\":%d,\"s\":\"%040d\"}", i % 10, i);
        text[31] = 0;
        snprintf(text, sizeof text, "{\"k\":%d}", i % 10);
        must(sv_vec_upsert(v, (sv_vec_item[]){item(id, (float[]){1, (float)i}, i < 20 ? "a" : "b", text)}, 1, M, &err));
    }
    sv_vec_filter *f = NULL;
    size_t n = 0;
    must(sv_vec_filter_parse(&f, SV_STR("{\"k\":{\"$lt\":3}}"), &err));
    must(sv_vec_delete_matching(v, f, SV_STR("a"), M, &n, &err));
    assert_int_equal(n, 6);
    must(sv_vec_delete_matching(v, f, (sv_str){0}, M, &n, &err));
    assert_int_equal(n, 6);
    must(sv_vec_delete_matching(v, NULL, SV_STR("b"), M, &n, &err));
    assert_int_equal(n, 14);
    sv_vec_filter_free(f);
    v = sv_vec_close(v);
    open_index(2, SV_VEC_DOT, 0);
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    assert_int_equal(info.n_vectors, 14);
    sv_vec_matches m = {0};
    must(sv_vec_query_run(v, &(sv_vec_query){.vector = (float[]){0, 1}, .top_k = 1, .return_metadata = SV_VEC_METADATA_INDEXED}, &m, &err));
    assert_true(sv_str_is(m.items[0].id, "19") && m.items[0].score == 19 && sv_str_is(m.items[0].metadata, "{\"k\":9}"));
    sv_vec_matches_done(&m);
}

static void metadata_indexes_have_their_rules(void **state)
{
    (void)state;
    open_index(2, SV_VEC_DOT, 0);
    must(sv_vec_field_create(v, SV_STR("a"), SV_VEC_STRING, M, &err));
    must(sv_vec_field_create(v, SV_STR("a"), SV_VEC_STRING, M, &err));
    assert_int_equal(sv_vec_field_create(v, SV_STR("a"), SV_VEC_NUMBER, M, &err), SV_ECONFLICT);
    assert_int_equal(sv_vec_field_delete(v, SV_STR("b"), M, &err), SV_ENOENT);
    assert_int_equal(sv_vec_field_create(v, SV_STR(""), SV_VEC_NUMBER, M, &err), SV_EINVAL);
    assert_int_equal(sv_vec_field_create(v, SV_STR("$a"), SV_VEC_NUMBER, M, &err), SV_EINVAL);
    for (int i = 1; i < SV_VEC_MAX_FIELDS; i++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", i);
        must(sv_vec_field_create(v, sv_str_of(name), SV_VEC_BOOLEAN, M, &err));
    }
    assert_int_equal(sv_vec_field_create(v, SV_STR("more"), SV_VEC_NUMBER, M, &err), SV_ELIMIT);
    must(sv_vec_field_delete(v, SV_STR("f3"), M, &err));
    v = sv_vec_close(v);
    must(sv_vec_open(&v, dir, NULL, &err));
    sv_vec_field list[SV_VEC_MAX_FIELDS];
    assert_int_equal(sv_vec_field_list(v, list), SV_VEC_MAX_FIELDS - 1);
    assert_string_equal(list[0].name, "a");
    assert_string_equal(list[3].name, "f4");
}

/* --- recall --------------------------------------------------------------------------------------------------------- */

enum { CLUSTERED = 12000, CD = 96 };
static float *points; /* [CLUSTERED, CD] */

static void make_points(void)
{
    static float centres[60][CD];
    points = points ? points : sv_xcalloc((size_t)CLUSTERED * CD, sizeof *points);
    for (int c = 0; c < 60; c++)
        for (int d = 0; d < CD; d++)
            centres[c][d] = gauss() + 2; /* a shared direction */
    for (int i = 0; i < CLUSTERED; i++)
        for (int d = 0; d < CD; d++)
            points[i * CD + d] = centres[i % 60][d] + 0.5f * gauss();
}

static void put_points(int from, int to, int step)
{
    SV_AUTO(sv_freep) sv_vec_item *items = sv_xcalloc(1000, sizeof *items);
    static char ids[1000][8];
    size_t n = 0;
    for (int i = from; i < to; i += step) {
        snprintf(ids[n], sizeof ids[n], "%d", i);
        items[n] = item(ids[n], points + (size_t)i * CD, "", i / 60 % 10 == 3 ? "{\"tenth\":true}" : "{\"tenth\":false}");
        if (++n == 1000 || i + step >= to) {
            must(sv_vec_upsert(v, items, n, M, &err));
            n = 0;
        }
    }
}

/* Recall of a plan against the exact one. */
static double recall(sv_vec_plan plan, int32_t k, const sv_vec_filter *f)
{
    size_t hits = 0, total = 0;
    for (int i = 0; i < 40; i++) {
        float q[CD];
        const float *a = points + (size_t)roll(CLUSTERED) * CD;
        for (int d = 0; d < CD; d++)
            q[d] = a[d] + 0.3f * gauss();
        sv_vec_matches want = {0}, got = {0};
        must(sv_vec_query_run(v, &(sv_vec_query){.vector = q, .top_k = k, .plan = SV_VEC_PLAN_EXACT, .filter = f}, &want, &err));
        must(sv_vec_query_run(v, &(sv_vec_query){.vector = q, .top_k = k, .plan = plan, .filter = f}, &got, &err));
        assert_int_equal(got.n, want.n);
        for (size_t x = 0; x < want.n; x++)
            for (size_t y = 0; y < got.n; y++)
                hits += sv_str_eq(want.items[x].id, got.items[y].id);
        total += want.n;
        sv_vec_matches_done(&want);
        sv_vec_matches_done(&got);
    }
    return (double)hits / (double)total;
}

static void check_recall(const char *when)
{
    sv_vec_filter *f = NULL;
    must(sv_vec_filter_parse(&f, SV_STR("{\"tenth\":true}"), &err));
    for (int plan = SV_VEC_PLAN_AUTO; plan <= SV_VEC_PLAN_GRAPH; plan++) {
        double r10 = recall((sv_vec_plan)plan, 10, NULL), r100 = recall((sv_vec_plan)plan, 100, NULL), filtered = recall((sv_vec_plan)plan, 10, f);
        if (r10 < 0.96 || r100 < 0.95 || filtered < 0.95)
            fail_msg("%s: plan %d: recall %.3f @10, %.3f @100, %.3f filtered", when, plan, r10, r100, filtered);
    }
    sv_vec_filter_free(f);
}

static void recall_holds_for_all_metrics_and_after_deletes(void **state)
{
    (void)state;
    make_points();
    for (int metric = SV_VEC_COSINE; metric <= SV_VEC_DOT; metric++) {
        open_index(CD, (sv_vec_metric)metric, 5000);
        must(sv_vec_field_create(v, SV_STR("tenth"), SV_VEC_BOOLEAN, M, &err));
        put_points(0, CLUSTERED, 1);
        assert_true(sv_vec_settle(v, 120000));
        sv_vec_info info;
        sv_vec_info_get(v, &info);
        assert_true(info.n_in_graph >= CLUSTERED * 9 / 10);
        check_recall("built");
        for (int i = 0; i < CLUSTERED; i += 3) { /* a third goes and comes again */
            char id[8];
            snprintf(id, sizeof id, "%d", i);
            if (i % 2) {
                must(sv_vec_delete(v, (sv_str[]){sv_str_of(id)}, 1, M, NULL, &err));
            }
        }
        put_points(0, CLUSTERED, 3);
        check_recall("after deletes and re-inserts, at once");
        assert_true(sv_vec_settle(v, 120000));
        check_recall("after deletes and re-inserts, settled");
        v = sv_vec_close(v);
        open_index(CD, (sv_vec_metric)metric, 5000);
        check_recall("opened again");
        v = sv_vec_close(v);
        must(sv_vec_destroy(dir, &err));
    }
    free(points);
    points = NULL;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_dir, drop_dir)
    const struct CMUnitTest tests[] = {
        T(vectors_are_found_got_listed_and_deleted),
        T(insert_keeps_what_is_there_and_upsert_replaces_it_whole),
        T(bad_input_is_refused_and_leaves_no_trace),
        T(a_filter_deletes_what_it_takes),
        T(metadata_indexes_have_their_rules),
        T(ten_thousand_filters_agree_with_a_second_opinion_on_all_plans),
        T(recall_holds_for_all_metrics_and_after_deletes),
    };
    cmocka_set_test_filter(getenv("ONLY")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
