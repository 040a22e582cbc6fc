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
#include "vec/vec_impl.h"

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

static void open_with(int32_t dimensions, sv_vec_metric metric, int32_t graph_min, int n_threads)
{
    must(sv_vec_open(&v, dir, &(sv_vec_config){.dimensions = dimensions, .metric = metric, .n_threads = n_threads, .graph_min = graph_min}, &err));
}

static void open_index(int32_t dimensions, sv_vec_metric metric, int32_t graph_min) { open_with(dimensions, metric, graph_min, 2); }

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
    char next[SV_VEC_CURSOR];
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
    char next[SV_VEC_CURSOR];
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

/* What is measured here is the same in every run: vectors and queries have their seeds, and the graph is built by one thread, from a
 * moment at which all vectors are there, to its end. Left alone, the background thread begins with as many as have come when it is
 * first scheduled, and graph and widths follow from that. */
enum { CLUSTERED = 12000, CD = 96, GRAPH_MIN = 5000, NO_GRAPH = INT32_MAX };
static float *points; /* [CLUSTERED, CD] */

static void make_points(void)
{
    static float centres[60][CD];
    random_state = 88172645463325252u;
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

/* Opens the index and waits until all that is due is done. */
static void open_settled(sv_vec_metric metric, int32_t graph_min)
{
    v = sv_vec_close(v);
    open_with(CD, metric, graph_min, 1);
    assert_true(sv_vec_settle(v, 600000));
}

/* Recall of a plan against the exact one. The queries are the same each time, so that a plan which the planner chose by the time it
 * takes has the recall that it has when asked for. */
static double recall(sv_vec_plan plan, int32_t k, const sv_vec_filter *f)
{
    size_t hits = 0, total = 0;
    random_state = 362436069362436069u;
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
        sv_vec_info info;
        open_settled((sv_vec_metric)metric, NO_GRAPH);
        must(sv_vec_field_create(v, SV_STR("tenth"), SV_VEC_BOOLEAN, M, &err));
        put_points(0, CLUSTERED, 1);
        open_settled((sv_vec_metric)metric, GRAPH_MIN);
        sv_vec_info_get(v, &info);
        assert_int_equal(info.n_in_graph, CLUSTERED);
        check_recall("built");
        open_settled((sv_vec_metric)metric, NO_GRAPH);
        for (int i = 0; i < CLUSTERED; i += 3) { /* a third goes and comes again */
            char id[8];
            snprintf(id, sizeof id, "%d", i);
            if (i % 2) {
                must(sv_vec_delete(v, (sv_str[]){sv_str_of(id)}, 1, M, NULL, &err));
            }
        }
        put_points(0, CLUSTERED, 3);
        sv_vec_info_get(v, &info);
        assert_int_equal(info.n_in_graph, CLUSTERED);
        check_recall("after deletes and re-inserts, which the graph lacks");
        open_settled((sv_vec_metric)metric, GRAPH_MIN);
        sv_vec_info_get(v, &info);
        assert_int_equal(info.n_in_graph, CLUSTERED + CLUSTERED / 3);
        check_recall("after deletes and re-inserts, in the graph");
        open_settled((sv_vec_metric)metric, GRAPH_MIN);
        check_recall("opened again");
        v = sv_vec_close(v);
        must(sv_vec_destroy(dir, &err));
    }
    free(points);
    points = NULL;
}

/* A close may come while widths are measured: what is known stays, for the checkpoint keeps it over the next open. */
static void a_close_in_the_middle_of_measuring_spoils_nothing(void **state)
{
    (void)state;
    make_points();
    open_settled(SV_VEC_COSINE, NO_GRAPH);
    put_points(0, 3000, 1);
    open_settled(SV_VEC_COSINE, 1000);
    sv_vec_state *s = v->state;
    uint32_t graph = s->graph_effort, bits = s->bits_effort;
    assert_true(s->n_graph == 3000 && graph > 0 && graph < 2048 && bits > 0 && bits < 2048 * 3);
    const _Atomic bool stop = true;
    s->calibrated_n = s->calibrated_graph = 0;
    sv_vec_calibrate(s, &stop);
    assert_int_equal(s->graph_effort, graph);
    assert_int_equal(s->bits_effort, bits);
    assert_int_equal(s->calibrated_n, 0); /* and is measured again */
    free(points);
    points = NULL;
}

/* --- restarts ------------------------------------------------------------------------------------------------------- */

/* Vector i of generation g: everything about it follows from the two. */
static void put_generation(int i, int g)
{
    char id[12], text[32], mutation[24];
    snprintf(id, sizeof id, "%d", i);
    snprintf(text, sizeof text, "{\"g\":%d}", g);
    snprintf(mutation, sizeof mutation, "g%d.%d", g, i);
    must(sv_vec_upsert(v, (sv_vec_item[]){item(id, (float[]){(float)i, (float)g, 1}, "ns", text)}, 1, sv_str_of(mutation), &err));
}

static void check_generation(int i, int g)
{
    char id[12], text[32];
    snprintf(id, sizeof id, "%d", i);
    snprintf(text, sizeof text, "{\"g\":%d}", g);
    sv_vec_matches m = {0};
    must(sv_vec_get(v, (sv_str[]){sv_str_of(id)}, 1, &m, &err));
    if (m.n != 1 || m.items[0].values[1] != (float)g || !sv_str_is(m.items[0].metadata, text))
        fail_msg("%d is not of generation %d", i, g);
    sv_vec_matches_done(&m);
}

/* A child writes and says over a pipe what was acknowledged, is killed at some moment, and all of that is there. */
static void what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    int rounds = getenv("SV_SOAK") ? 200 : 20, acked[50];
    memset(acked, 0xff, sizeof acked);
    for (int round = 0, g = 0; round < rounds; round++) {
        int p[2];
        assert_int_equal(pipe(p), 0);
        pid_t child = fork();
        if (child == 0) {
            open_index(3, SV_VEC_EUCLIDEAN, 0);
            for (int k = g;; k++)
                for (int i = 0; i < 50; i++) {
                    put_generation(i, k);
                    if (k % 7 == 3 && i == 25 && sv_vec_compact(v, &err) != SV_OK)
                        _exit(1);
                    int said[2] = {i, k};
                    if (write(p[1], said, sizeof said) != (ssize_t)sizeof said)
                        _exit(1);
                }
        }
        close(p[1]);
        int said[2], status, newest = g, n_said = 0, enough = 1 + (int)roll(round % 2 ? 20 : 300);
        while (read(p[0], said, sizeof said) == (ssize_t)sizeof said) {
            if (++n_said == enough) /* what was said meanwhile is read, too */
                kill(child, SIGKILL);
            acked[said[0]] = said[1];
            newest = said[1] + 1; /* what was being written when the end came */
        }
        close(p[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        open_index(3, SV_VEC_EUCLIDEAN, 0);
        for (int i = 0; i < 50; i++) {
            char id[12];
            snprintf(id, sizeof id, "%d", i);
            sv_vec_matches m = {0};
            must(sv_vec_get(v, (sv_str[]){sv_str_of(id)}, 1, &m, &err));
            if (acked[i] >= 0) { /* a last write may be there unacknowledged */
                assert_int_equal(m.n, 1);
                assert_in_range((int)m.items[0].values[1], acked[i], newest);
            }
            sv_vec_matches_done(&m);
        }
        g = newest + 1;
        v = sv_vec_close(v);
    }
    assert_true(acked[0] >= 0);
}

static void flip(const char *name, double where)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long at = (long)((double)ftell(f) * where);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

static void a_damaged_or_foreign_checkpoint_costs_time_and_nothing_else(void **state)
{
    (void)state;
    make_points();
    char path[128], kept[128];
    snprintf(path, sizeof path, "%s/checkpoint", dir);
    snprintf(kept, sizeof kept, "%s/kept", base_dir);
    open_settled(SV_VEC_COSINE, NO_GRAPH);
    put_points(0, CLUSTERED, 1);
    put_points(0, 3000, 1); /* over 8,192 slots: enough for a checkpoint; too few dead for a compaction */
    open_settled(SV_VEC_COSINE, GRAPH_MIN);
    v = sv_vec_close(v);
    assert_true(sv_file_exists(path));
    sv_buf whole;
    sv_buf_init(&whole, 1 << 30);
    must(sv_file_read(&whole, path, &err));
    open_with(CD, SV_VEC_COSINE, GRAPH_MIN, 1);
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    assert_true(info.n_vectors == CLUSTERED && info.n_in_graph > 0);
    assert_true(recall(SV_VEC_PLAN_GRAPH, 10, NULL) > 0.96);
    must(sv_vec_delete(v, (sv_str[]){SV_STR("77")}, 1, SV_STR("later"), NULL, &err));
    v = sv_vec_close(v);
    for (int i = 0; i < 12; i++) { /* from the head to the links */
        must(sv_file_replace(path, whole.p, i == 11 ? whole.n / 2 : whole.n, 0600, &err));
        if (i < 11)
            flip("checkpoint", (double)i / 11);
        open_with(CD, SV_VEC_COSINE, GRAPH_MIN, 1);
        sv_vec_info_get(v, &info);
        assert_true(info.n_vectors == CLUSTERED - 1);
        assert_string_equal(info.last_mutation, "later");
        assert_true(recall(SV_VEC_PLAN_BITS, 10, NULL) > 0.96);
        v = sv_vec_close(v);
    }
    must(sv_file_replace(path, whole.p, whole.n, 0600, &err)); /* good, but older than the log */
    open_with(CD, SV_VEC_COSINE, GRAPH_MIN, 1);
    sv_vec_info_get(v, &info);
    assert_true(info.n_vectors == CLUSTERED - 1 && info.n_in_graph > 0);
    must(sv_vec_compact(v, &err)); /* another log now */
    v = sv_vec_close(v);
    must(sv_file_replace(path, whole.p, whole.n, 0600, &err));
    open_with(CD, SV_VEC_COSINE, GRAPH_MIN, 1);
    sv_vec_info_get(v, &info);
    assert_int_equal(info.n_vectors, CLUSTERED - 1);
    sv_buf_done(&whole);
    free(points);
    points = NULL;
}

static void a_cut_log_gives_an_older_state(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/log", dir);
    open_index(3, SV_VEC_DOT, 0);
    for (int i = 0; i < 30; i++)
        put_generation(i, 1);
    v = sv_vec_close(v);
    sv_buf whole;
    sv_buf_init(&whole, 0);
    must(sv_file_read(&whole, path, &err));
    uint64_t last = UINT64_MAX;
    for (size_t cut = 4000; cut > 64; cut -= 331) {
        must(sv_file_replace(path, whole.p, cut, 0600, &err));
        open_index(3, SV_VEC_DOT, 0);
        sv_vec_info info;
        sv_vec_info_get(v, &info);
        assert_true(info.n_vectors <= last && info.n_vectors <= 30);
        last = info.n_vectors;
        for (int i = 0; i < (int)last; i++)
            check_generation(i, 1);
        v = sv_vec_close(v);
    }
    assert_true(last < 10);
    sv_buf_done(&whole);
}

static void compaction_drops_the_dead_and_keeps_the_rest(void **state)
{
    (void)state;
    open_index(3, SV_VEC_EUCLIDEAN, 0);
    must(sv_vec_field_create(v, SV_STR("g"), SV_VEC_NUMBER, M, &err));
    for (int g = 0; g < 20; g++)
        for (int i = 0; i < 50; i++)
            put_generation(i, g);
    must(sv_vec_delete(v, (sv_str[]){SV_STR("7")}, 1, SV_STR("last"), NULL, &err));
    sv_vec_info before, after;
    char next[SV_VEC_CURSOR];
    sv_vec_matches m = {0};
    must(sv_vec_list(v, (sv_str){0}, 10, &m, next, &err));
    sv_vec_matches_done(&m);
    sv_vec_info_get(v, &before);
    must(sv_vec_compact(v, &err));
    sv_vec_info_get(v, &after);
    assert_true(after.disk_bytes * 10 < before.disk_bytes && after.n_vectors == 49 && after.garbage_bytes == 0);
    assert_string_equal(after.last_mutation, "last");
    assert_int_equal(after.last_mutation_ms, before.last_mutation_ms);
    assert_int_equal(sv_vec_list(v, sv_str_of(next), 10, &m, next, &err), SV_ECONFLICT);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 50; i++)
            if (i != 7)
                check_generation(i, 19);
        sv_vec_field f[SV_VEC_MAX_FIELDS];
        assert_int_equal(sv_vec_field_list(v, f), 1);
        v = sv_vec_close(v);
        open_index(3, SV_VEC_EUCLIDEAN, 0);
    }
}

static void a_budget_of_memory_is_kept(void **state)
{
    (void)state;
    must(sv_vec_open(&v, dir, &(sv_vec_config){.dimensions = 3, .metric = SV_VEC_DOT, .memory_bytes = 10000}, &err));
    int i = 0;
    for (; i < 1000; i++)
        if (sv_vec_upsert(v, (sv_vec_item[]){item("x", (float[]){1, 2, 3}, "", "")}, 1, M, &err) != SV_OK)
            break;
    assert_true(i > 10 && i < 1000 && err.code == SV_ELIMIT);
    must(sv_vec_compact(v, &err)); /* all but one are dead */
    must(sv_vec_upsert(v, (sv_vec_item[]){item("y", (float[]){1, 2, 3}, "", "")}, 1, M, &err));
}

/* --- readers beside writers ----------------------------------------------------------------------------------------- */

static atomic_bool over;
static atomic_int n_queries;

enum { PAIRS = 200 };

/* Vectors come and change in pairs, a batch each: a reader sees both of a pair in one generation, or the state is torn. */
static void *read_pairs(void *arg)
{
    uint64_t h = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        h = h * 6364136223846793005u + 1442695040888963407u;
        char a[16], b[16];
        snprintf(a, sizeof a, "%d.a", (int)(h >> 33) % PAIRS);
        snprintf(b, sizeof b, "%d.b", (int)(h >> 33) % PAIRS);
        sv_vec_matches m = {0};
        sv_err e = {0};
        if (h >> 20 & 1) {
            SV_ASSERT(sv_vec_get(v, (sv_str[]){sv_str_of(a), sv_str_of(b)}, 2, &m, &e) == SV_OK);
            SV_ASSERT(m.n == 0 || m.n == 2);
            SV_ASSERT(m.n == 0 || m.items[0].values[1] == m.items[1].values[1]);
        } else {
            float q[3] = {(float)((int)(h >> 33) % PAIRS) * 10, 0, 0};
            SV_ASSERT(sv_vec_query_run(v, &(sv_vec_query){.vector = q, .top_k = 2 * PAIRS, .return_values = true}, &m, &e) == SV_OK);
            SV_ASSERT(m.n % 2 == 0 && m.n <= 2 * PAIRS);
            float g[PAIRS];
            memset(g, 0xff, sizeof g);
            for (size_t i = 0; i < m.n; i++) {
                int pair = atoi(m.items[i].id.p);
                SV_ASSERT(isnan(g[pair]) || g[pair] == m.items[i].values[1]);
                g[pair] = m.items[i].values[1];
            }
        }
        sv_vec_matches_done(&m);
        atomic_fetch_add(&n_queries, 1);
    }
    return NULL;
}

static void *write_pairs(void *arg)
{
    int first = (int)(uintptr_t)arg;
    for (int g = 1; !atomic_load(&over); g++)
        for (int i = first; i < PAIRS; i += 2) {
            char a[16], b[16];
            sv_err e = {0};
            snprintf(a, sizeof a, "%d.a", i);
            snprintf(b, sizeof b, "%d.b", i);
            float x[3] = {(float)i * 10, (float)(g % 8) / 100, 1}, y[3] = {(float)i * 10, (float)(g % 8) / 100, 2};
            if (g % 5 == 4)
                SV_ASSERT(sv_vec_delete(v, (sv_str[]){sv_str_of(a), sv_str_of(b)}, 2, M, NULL, &e) == SV_OK);
            else
                SV_ASSERT(sv_vec_upsert(v, (sv_vec_item[]){item(a, x, "", ""), item(b, y, "", "")}, 2, M, &e) == SV_OK);
        }
    return NULL;
}

static void readers_see_whole_states_while_writers_and_compactions_go_on(void **state)
{
    (void)state;
    open_index(3, SV_VEC_EUCLIDEAN, 0);
    atomic_store(&over, false);
    atomic_store(&n_queries, 0);
    pthread_t t[5];
    for (uintptr_t i = 0; i < 2; i++)
        t[i] = sv_thread_start("writer", write_pairs, (void *)i);
    for (uintptr_t i = 2; i < 5; i++)
        t[i] = sv_thread_start("reader", read_pairs, (void *)i);
    for (int i = 1; i <= 10; i++) {
        while (atomic_load(&n_queries) < i * 100) /* beside each compaction */
            usleep(1000);
        must(sv_vec_compact(v, &err));
    }
    atomic_store(&over, true);
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
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
        T(a_close_in_the_middle_of_measuring_spoils_nothing),
        T(what_was_acknowledged_survives_kill_9),
        T(a_damaged_or_foreign_checkpoint_costs_time_and_nothing_else),
        T(a_cut_log_gives_an_older_state),
        T(compaction_drops_the_dead_and_keeps_the_rest),
        T(a_budget_of_memory_is_kept),
        T(readers_see_whole_states_while_writers_and_compactions_go_on),
    };
    cmocka_set_test_filter(getenv("ONLY")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
