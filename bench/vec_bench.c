/* vec_bench.c - the vector index on generated sets; one JSON object a line
 *
 *     vec_bench gen PREFIX D N Q SEED CENTRES SPREAD   writes PREFIX.base.f32, PREFIX.query.f32 and PREFIX.truth.i32 (100 nearest each)
 *     vec_bench run PREFIX D DIR                       builds an index in DIR (removed first) and asks it
 *
 * The sets: a Gaussian mixture in 30 dimensions (centres of uneven weight, or one with an offset mean), pushed through a random linear
 * map to D dimensions, a little noise, unit length. Many centres with a small spread are easy: neighbours are clearly nearer than the
 * rest. One centre is hard: everything is about as far, and all vectors share a direction, as text embeddings do. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "vec/kernels.h"
#include "vec/vec.h"

enum { HIDDEN = 30, TRUTH = 100, TAGS = 100, TAG = 7 };

static uint64_t rng;
static double uniform(void)
{
    rng += 0x9E3779B97F4A7C15u; /* splitmix64 */
    uint64_t z = rng;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static float gauss(void)
{
    static float spare;
    static bool have;
    if ((have = !have) == false)
        return spare;
    double r = sqrt(-2 * log(uniform())), t = 6.283185307179586 * uniform();
    spare = (float)(r * sin(t));
    return (float)(r * cos(t));
}

static void die(const sv_err *err)
{
    fprintf(stderr, "vec_bench: %s\n", err->msg);
    exit(1);
}

static float *load(const char *prefix, const char *suffix, size_t *n)
{
    char path[1024];
    sv_map m;
    sv_err err = {0};
    snprintf(path, sizeof path, "%s.%s", prefix, suffix);
    if (sv_map_open(&m, path, &err) != SV_OK)
        die(&err);
    *n = m.n / sizeof(float);
    return (float *)(uintptr_t)m.p;
}

static FILE *create(const char *prefix, const char *suffix)
{
    char path[1024];
    snprintf(path, sizeof path, "%s.%s", prefix, suffix);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

/* --- gen ------------------------------------------------------------------------------------------------------------ */

static void write_points(FILE *f, size_t n, int d, int n_centres, double spread, const float *map, const float *centres, const double *weights)
{
    float *x = sv_xcalloc((size_t)d, sizeof *x), z[HIDDEN];
    for (size_t i = 0; i < n; i++) {
        double u = uniform() * weights[n_centres - 1], norm2 = 0;
        int c = 0;
        for (int lo = 0, hi = n_centres - 1; c = lo, lo < hi;) {
            int mid = (lo + hi) / 2;
            if (weights[mid] < u)
                lo = mid + 1;
            else
                hi = mid;
        }
        for (int j = 0; j < HIDDEN; j++)
            z[j] = centres[c * HIDDEN + j] + (float)spread * gauss();
        for (int k = 0; k < d; k++) {
            float s = 0.05f * gauss();
            for (int j = 0; j < HIDDEN; j++)
                s += map[k * HIDDEN + j] * z[j];
            x[k] = s;
            norm2 += (double)s * s;
        }
        for (int k = 0; k < d; k++)
            x[k] /= (float)sqrt(norm2);
        fwrite(x, sizeof *x, (size_t)d, f);
    }
    free(x);
    fclose(f);
}

typedef struct truth_job {
    const float *base, *query;
    size_t n, n_query;
    int d, first;
    int32_t *out;
} truth_job;

static void *find_truth(void *arg)
{
    const truth_job *j = arg;
    const sv_vec_kernels *k = sv_vec_kernels_get();
    enum { GROUP = 32 }; /* queries that share one pass over memory */
    for (size_t from = (size_t)j->first * GROUP; from < j->n_query; from += 2 * GROUP) {
        float best[GROUP][TRUTH];
        size_t group = j->n_query - from < GROUP ? j->n_query - from : GROUP, have[GROUP] = {0};
        for (size_t i = 0; i < j->n; i++)
            for (size_t q = 0; q < group; q++) {
                float s = k->dot(j->query + (from + q) * (size_t)j->d, j->base + i * (size_t)j->d, j->d);
                int32_t *ids = j->out + (from + q) * TRUTH;
                if (have[q] == TRUTH && s <= best[q][TRUTH - 1])
                    continue;
                size_t at = have[q] == TRUTH ? TRUTH - 1 : have[q]++;
                for (; at > 0 && best[q][at - 1] < s; at--) {
                    best[q][at] = best[q][at - 1];
                    ids[at] = ids[at - 1];
                }
                best[q][at] = s;
                ids[at] = (int32_t)i;
            }
    }
    return NULL;
}

static void gen(const char *prefix, int d, size_t n, size_t n_query, uint64_t seed, int n_centres, double spread)
{
    rng = seed;
    float *map = sv_xcalloc((size_t)d * HIDDEN, sizeof *map), *centres = sv_xcalloc((size_t)n_centres * HIDDEN, sizeof *centres);
    double *weights = sv_xcalloc((size_t)n_centres, sizeof *weights), sum = 0;
    for (int i = 0; i < d * HIDDEN; i++)
        map[i] = gauss() / sqrtf(HIDDEN);
    for (int i = 0; i < n_centres * HIDDEN; i++)
        centres[i] = gauss();
    for (int i = 0; i < n_centres; i++)
        weights[i] = sum += 1 / (1 + i * 0.01);
    write_points(create(prefix, "base.f32"), n, d, n_centres, spread, map, centres, weights);
    write_points(create(prefix, "query.f32"), n_query, d, n_centres, spread, map, centres, weights);

    size_t got;
    int32_t *out = sv_xcalloc(n_query * TRUTH, sizeof *out);
    truth_job job[2] = {{.base = load(prefix, "base.f32", &got), .query = load(prefix, "query.f32", &got), .n = n, .n_query = n_query, .d = d, .out = out}};
    job[1] = job[0];
    job[1].first = 1;
    pthread_t other = sv_thread_start("truth", find_truth, &job[1]);
    find_truth(&job[0]);
    pthread_join(other, NULL);
    FILE *f = create(prefix, "truth.i32");
    fwrite(out, sizeof *out, n_query * TRUTH, f);
    fclose(f);
}

/* --- run ------------------------------------------------------------------------------------------------------------ */

typedef struct set {
    const float *base, *query;
    const int32_t *truth;
    size_t n, n_query;
    int d;
} set;

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t common(const sv_vec_matches *m, const int32_t *truth, size_t k)
{
    size_t hits = 0;
    for (size_t i = 0; i < m->n && i < k; i++)
        for (size_t j = 0; j < k; j++)
            hits += strtol(m->items[i].id.p, NULL, 10) == truth[j];
    return hits;
}

static const char *const plans[] = {"auto", "exact", "codes", "bits", "graph"};

static void ask(sv_vec *v, const set *s, const char *name, int k, sv_vec_plan plan, int effort, const sv_vec_filter *filter, const int32_t *truth)
{
    int64_t *us = sv_xcalloc(s->n_query, sizeof *us);
    size_t hits = 0, want = 0;
    sv_vec_plan did = plan;
    sv_err err = {0};
    int64_t start = 0;
    for (int round = 0; round < 2; round++) { /* the first one warms up */
        hits = want = 0;
        start = sv_mono_us();
        for (size_t i = 0; i < s->n_query; i++) {
            sv_vec_matches m = {0};
            int64_t t = sv_mono_us();
            if (sv_vec_query_run(v, &(sv_vec_query){.vector = s->query + i * (size_t)s->d, .top_k = k, .plan = plan, .effort = effort, .filter = filter}, &m, &err) != SV_OK)
                die(&err);
            us[i] = sv_mono_us() - t;
            hits += common(&m, truth + i * TRUTH, (size_t)k);
            want += (size_t)k;
            did = m.plan;
            sv_vec_matches_done(&m);
        }
    }
    double seconds = (double)(sv_mono_us() - start) / 1e6;
    qsort(us, s->n_query, sizeof *us, by_time);
    printf("{\"case\":\"%s\",\"plan\":\"%s\",\"effort\":%d,\"k\":%d,\"recall\":%.4f,\"qps\":%.0f,\"p50_us\":%lld,\"p99_us\":%lld}\n", name, plans[did], effort, k,
           (double)hits / (double)want, (double)s->n_query / seconds, (long long)us[s->n_query / 2], (long long)us[s->n_query * 99 / 100]);
    fflush(stdout);
    free(us);
}

/* Memory of this process that is not the mapped log. */
static double own_mb(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kb = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb / 1024;
}

static void put(sv_vec *v, const set *s, size_t from, size_t to)
{
    enum { BATCH = 1000 };
    sv_vec_item *items = sv_xcalloc(BATCH, sizeof *items);
    char(*ids)[12] = sv_xcalloc(BATCH, sizeof *ids), (*tags)[24] = sv_xcalloc(BATCH, sizeof *tags);
    sv_err err = {0};
    for (size_t i = from; i < to; i += BATCH) {
        size_t n = to - i < BATCH ? to - i : BATCH;
        for (size_t j = 0; j < n; j++) {
            int id = snprintf(ids[j], sizeof ids[j], "%zu", i + j), tag = snprintf(tags[j], sizeof tags[j], "{\"tag\":%zu}", (i + j) % TAGS);
            items[j] = (sv_vec_item){{ids[j], (size_t)id}, s->base + (i + j) * (size_t)s->d, {0}, {tags[j], (size_t)tag}};
        }
        if (sv_vec_upsert(v, items, n, SV_STR("bench"), &err) != SV_OK)
            die(&err);
    }
    free(items);
    free(ids);
    free(tags);
}

/* Exact neighbours among those with the tag. */
static int32_t *filtered_truth(sv_vec *v, const set *s, const sv_vec_filter *f)
{
    int32_t *out = sv_xcalloc(s->n_query * TRUTH, sizeof *out);
    sv_err err = {0};
    for (size_t i = 0; i < s->n_query; i++) {
        sv_vec_matches m = {0};
        if (sv_vec_query_run(v, &(sv_vec_query){.vector = s->query + i * (size_t)s->d, .top_k = TRUTH, .plan = SV_VEC_PLAN_EXACT, .filter = f}, &m, &err) != SV_OK)
            die(&err);
        for (size_t j = 0; j < TRUTH; j++)
            out[i * TRUTH + j] = j < m.n ? (int32_t)strtol(m.items[j].id.p, NULL, 10) : -1;
        sv_vec_matches_done(&m);
    }
    return out;
}

static void run(const char *prefix, int d, const char *dir)
{
    size_t n_base, n_query, n_truth;
    sv_err err = {0};
    set s = {.base = load(prefix, "base.f32", &n_base), .query = load(prefix, "query.f32", &n_query), .truth = (const int32_t *)(const void *)load(prefix, "truth.i32", &n_truth), .d = d};
    s.n = n_base / (size_t)d;
    s.n_query = n_query / (size_t)d;
    sv_vec *v = NULL;
    const sv_vec_config config = {.dimensions = d, .metric = SV_VEC_COSINE};
    double before = own_mb();
    if (sv_vec_destroy(dir, &err) != SV_OK || sv_vec_open(&v, dir, &config, &err) != SV_OK || sv_vec_field_create(v, SV_STR("tag"), SV_VEC_NUMBER, SV_STR("f"), &err) != SV_OK)
        die(&err);
    int64_t start = sv_mono_us();
    double cpu_before = (double)clock() / CLOCKS_PER_SEC;
    put(v, &s, 0, s.n);
    double put_s = (double)(sv_mono_us() - start) / 1e6;
    if (!sv_vec_settle(v, 3600000))
        exit(1);
    double built_s = (double)(sv_mono_us() - start) / 1e6, cpu_s = (double)clock() / CLOCKS_PER_SEC - cpu_before;
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    printf("{\"case\":\"build\",\"n\":%zu,\"put_s\":%.2f,\"ready_s\":%.2f,\"cpu_s\":%.2f,\"vectors_per_s\":%.0f,\"memory_mb\":%.1f,\"rss_mb\":%.1f,\"in_graph\":%llu,\"kernels\":\"%s\"}\n", s.n, put_s,
           built_s, cpu_s, (double)s.n / built_s, (double)info.memory_bytes / 1e6, own_mb() - before, (unsigned long long)info.n_in_graph, sv_vec_kernels_get()->name);
    fflush(stdout);
    start = sv_mono_us();
    v = sv_vec_close(v);
    double close_s = (double)(sv_mono_us() - start) / 1e6;
    start = sv_mono_us();
    sv_vec_matches m = {0};
    if (sv_vec_open(&v, dir, NULL, &err) != SV_OK || sv_vec_query_run(v, &(sv_vec_query){.vector = s.query, .top_k = 10}, &m, &err) != SV_OK)
        die(&err);
    printf("{\"case\":\"open\",\"first_query_s\":%.3f,\"close_s\":%.2f}\n", (double)(sv_mono_us() - start) / 1e6, close_s);
    sv_vec_matches_done(&m);
    sv_vec_settle(v, 600000);

    ask(v, &s, "plain", 10, SV_VEC_PLAN_AUTO, 0, NULL, s.truth);
    ask(v, &s, "plain", 100, SV_VEC_PLAN_AUTO, 0, NULL, s.truth);
    static const int widths[] = {16, 20, 24, 32, 48, 64, 96, 128, 200, 300}, kept[] = {32, 48, 64, 96, 128, 192, 256, 400, 800};
    for (size_t i = 0; i < SV_LEN(widths); i++)
        ask(v, &s, "plain", 10, SV_VEC_PLAN_GRAPH, widths[i], NULL, s.truth);
    for (size_t i = 0; i < SV_LEN(kept); i++)
        ask(v, &s, "plain", 10, SV_VEC_PLAN_BITS, kept[i], NULL, s.truth);
    sv_vec_filter *f = NULL;
    if (sv_vec_filter_parse(&f, SV_STR("{\"tag\":7}"), &err) != SV_OK)
        die(&err);
    int32_t *truth = filtered_truth(v, &s, f);
    ask(v, &s, "filter 1%", 10, SV_VEC_PLAN_AUTO, 0, f, truth);
    ask(v, &s, "filter 1%", 10, SV_VEC_PLAN_EXACT, 0, f, truth);
    free(truth);
    f = sv_vec_filter_free(f);
    if (sv_vec_filter_parse(&f, SV_STR("{\"tag\":{\"$lt\":10}}"), &err) != SV_OK)
        die(&err);
    truth = filtered_truth(v, &s, f);
    ask(v, &s, "filter 10%", 10, SV_VEC_PLAN_AUTO, 0, f, truth);
    free(truth);
    f = sv_vec_filter_free(f);
    if (sv_vec_filter_parse(&f, SV_STR("{\"tag\":{\"$lt\":50}}"), &err) != SV_OK)
        die(&err);
    truth = filtered_truth(v, &s, f);
    ask(v, &s, "filter 50%", 10, SV_VEC_PLAN_AUTO, 0, f, truth);
    free(truth);
    sv_vec_filter_free(f);
    sv_vec_close(v);
}

int main(int argc, char **argv)
{
    sv_log_init("vec_bench", SV_WARN);
    if (argc == 9 && strcmp(argv[1], "gen") == 0)
        gen(argv[2], atoi(argv[3]), strtoul(argv[4], NULL, 10), strtoul(argv[5], NULL, 10), strtoull(argv[6], NULL, 10), atoi(argv[7]), atof(argv[8]));
    else if (argc == 5 && strcmp(argv[1], "run") == 0)
        run(argv[2], atoi(argv[3]), argv[4]);
    else {
        fprintf(stderr, "usage: vec_bench gen PREFIX D N Q SEED CENTRES SPREAD | run PREFIX D DIR\n");
        return 2;
    }
    return 0;
}
