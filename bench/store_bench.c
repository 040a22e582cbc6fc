/* store_bench.c - the stores in process, each beside the sqlite3 library called directly, in turns
 *
 *   store_bench kv|d1 FOLDER ROUNDS SECONDS      one JSON object a line: {"case", "ours", "theirs"}, operations a second of a round
 *
 * Theirs is what one would write without us: one connection, statements prepared once, the columns read. Ours is what a request costs below HTTP: of KV
 * the store's call, of D1 the request's JSON in and the answer's JSON out. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "d1/d1_conn.h"
#include "d1/d1_request.h"
#include "kv/kv.h"

enum { N_KEYS = 20000, VALUE = 1024, N_USERS = 100000, N_DOCS = 5000, BATCH = 100 };

static uint64_t seed = 88172645463325252u;
static uint32_t random_below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed % n);
}

static void must(sv_rc rc, const sv_err *err)
{
    if (rc == SV_OK)
        return;
    fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static void exec(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, why);
        exit(1);
    }
}

static sqlite3 *open_plain(const char *folder)
{
    sqlite3 *db;
    char path[512];
    snprintf(path, sizeof path, "%s/plain.db", folder);
    remove(path);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        exit(1);
    exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    return s;
}

/* Operations a second of `fn`, which does one. */
static double rate(void (*fn)(void *arg), void *arg, double seconds)
{
    int64_t start = sv_mono_us(), now = start, n = 0, end = start + (int64_t)(seconds * 1e6);
    while (now < end) {
        for (int i = 0; i < 8; i++, n++)
            fn(arg);
        now = sv_mono_us();
    }
    return (double)n * 1e6 / (double)(now - start);
}

static void in_turns(const char *name, void (*ours)(void *), void (*theirs)(void *), void *arg, int rounds, double seconds)
{
    for (int i = 0; i < rounds; i++) {
        double a = rate(ours, arg, seconds), b = rate(theirs, arg, seconds);
        printf("{\"case\":\"%s\",\"ours\":%.0f,\"theirs\":%.0f}\n", name, a, b);
        fflush(stdout);
    }
}

/* ---- KV ---- */

typedef struct kv { sv_kvs *kv; sv_kvs_ns ns; sqlite3_stmt *get, *put; char value[VALUE]; } kv;

static int name_key(char out[32]) { return snprintf(out, 32, "key-%06u", random_below(N_KEYS)); }

static void kv_get(void *arg)
{
    kv *k = arg;
    char key[32];
    sv_err err = {0};
    sv_kvs_value v;
    sv_kvs_value_init(&v);
    must(sv_kvs_get(k->kv, &k->ns, (sv_str){key, (size_t)name_key(key)}, &v, &err), &err);
    sv_kvs_value_done(&v);
}

static void plain_get(void *arg)
{
    kv *k = arg;
    char key[32];
    sqlite3_bind_text(k->get, 1, key, name_key(key), SQLITE_STATIC);
    if (sqlite3_step(k->get) != SQLITE_ROW || sqlite3_column_bytes(k->get, 0) != VALUE)
        exit(1);
    free(memcpy(sv_xcalloc(1, VALUE), sqlite3_column_blob(k->get, 0), VALUE)); /* the caller owns it, as ours */
    sqlite3_reset(k->get);
}

/* SQLite writes no page for a row that is what it was. */
static void new_value(kv *k) { memcpy(k->value, &(uint64_t){seed}, sizeof seed); }

static void kv_put(void *arg)
{
    kv *k = arg;
    char key[32];
    sv_err err = {0};
    sv_kvs_change c = {.op = SV_KVS_PUT, .ns = sv_str_of(k->ns.id), .key = {key, (size_t)name_key(key)}, .value = {k->value, VALUE}};
    new_value(k);
    must(sv_kvs_apply(k->kv, sv_str_of(k->ns.account), &c, 1, &err), &err);
}

static void plain_put(void *arg)
{
    kv *k = arg;
    char key[32];
    sqlite3_bind_text(k->put, 1, key, name_key(key), SQLITE_STATIC);
    new_value(k);
    sqlite3_bind_blob(k->put, 2, k->value, VALUE, SQLITE_STATIC);
    if (sqlite3_step(k->put) != SQLITE_DONE)
        exit(1);
    sqlite3_reset(k->put);
}

static void bench_kv(const char *folder, int rounds, double seconds)
{
    sv_err err = {0};
    kv k = {0};
    memset(k.value, 'v', VALUE);
    must(sv_kvs_open(&k.kv, folder, &err), &err);
    snprintf(k.ns.id, sizeof k.ns.id, "%032d", 1);
    snprintf(k.ns.account, sizeof k.ns.account, "%032d", 2);
    sv_kvs_change make = {.op = SV_KVS_NS_CREATE, .ns = sv_str_of(k.ns.id), .title = SV_STR("bench")};
    must(sv_kvs_apply(k.kv, sv_str_of(k.ns.account), &make, 1, &err), &err);
    sqlite3 *db = open_plain(folder);
    exec(db, "CREATE TABLE kv (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB); BEGIN");
    k.put = prepare(db, "INSERT INTO kv (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2");
    k.get = prepare(db, "SELECT value FROM kv WHERE key = ?1");
    static char keys[1000][32];
    static sv_kvs_change some[1000];
    for (int i = 0; i < N_KEYS; i += 1000) {
        for (int j = 0; j < 1000; j++) {
            int n = snprintf(keys[j], sizeof keys[j], "key-%06d", i + j);
            some[j] = (sv_kvs_change){.op = SV_KVS_PUT, .ns = sv_str_of(k.ns.id), .key = {keys[j], (size_t)n}, .value = {k.value, VALUE}};
            sqlite3_bind_text(k.put, 1, keys[j], n, SQLITE_STATIC);
            sqlite3_bind_blob(k.put, 2, k.value, VALUE, SQLITE_STATIC);
            sqlite3_step(k.put);
            sqlite3_reset(k.put);
        }
        must(sv_kvs_apply(k.kv, sv_str_of(k.ns.account), some, 1000, &err), &err);
    }
    exec(db, "COMMIT");
    must(sv_kvs_ns_find(k.kv, sv_str_of(k.ns.account), sv_str_of(k.ns.id), &k.ns, &err), &err);
    in_turns("kv/get 1 KB/in process", kv_get, plain_get, &k, rounds, seconds);
    in_turns("kv/put 1 KB, synced/in process", kv_put, plain_put, &k, rounds, seconds);
    sqlite3_finalize(k.get);
    sqlite3_finalize(k.put);
    sqlite3_close(db);
    sv_kvs_close(k.kv);
}

/* ---- D1 ---- */

typedef struct d1 { sv_d1_conn *c; const char *folder; sv_arena *arena; sv_buf body; sqlite3 *db; sqlite3_stmt *point, *insert, *search, *begin, *commit; int64_t n; } d1;

static const char point_sql[] = "SELECT id, name, email, age, bio FROM users WHERE id = ?";
static const char insert_sql[] = "INSERT INTO notes (user, text) VALUES (?, ?)";
static const char search_sql[] = "SELECT rowid, title FROM docs WHERE docs MATCH ? ORDER BY rank LIMIT 10";
static const char *const words[] = {"river", "engine", "copper", "winter", "ledger", "orchid", "signal", "harbor", "violet", "marble", "socket", "timber", "canvas", "beacon", "meadow", "cipher"};

static void run_body(d1 *d)
{
    sv_err err = {0};
    sv_d1_request q;
    sv_d1_out out;
    sv_arena_reset(d->arena);
    must(sv_d1_request_parse(&q, d->arena, sv_buf_str(&d->body), &err), &err);
    sv_d1_out_init(&out, d->folder, 1 << 30);
    must(sv_d1_conn_run(d->c, &q, &(sv_d1_run){.format = SV_D1_ROWS}, &out, &err), &err);
    sv_d1_out_done(&out);
}

static void d1_point(void *arg)
{
    d1 *d = arg;
    sv_buf_reset(&d->body);
    sv_buf_addf(&d->body, "{\"sql\":\"%s\",\"params\":[%u]}", point_sql, 1 + random_below(N_USERS));
    run_body(d);
}

/* What a program does with a row: it looks at every column. */
static void read_rows(sqlite3_stmt *s)
{
    while (sqlite3_step(s) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(s); i++)
            (void)(sqlite3_column_type(s, i) == SQLITE_TEXT ? sqlite3_column_text(s, i) : (const unsigned char *)"");
    sqlite3_reset(s);
}

static void plain_point(void *arg)
{
    d1 *d = arg;
    sqlite3_bind_int64(d->point, 1, 1 + random_below(N_USERS));
    read_rows(d->point);
}

static void d1_batch(void *arg)
{
    d1 *d = arg;
    sv_buf_reset(&d->body);
    sv_buf_adds(&d->body, "{\"batch\":[");
    for (int i = 0; i < BATCH; i++)
        sv_buf_addf(&d->body, "%s{\"sql\":\"%s\",\"params\":[%u,\"a note of some words, as people write them down\"]}", i ? "," : "", insert_sql, random_below(N_USERS));
    sv_buf_adds(&d->body, "]}");
    run_body(d);
}

static void plain_batch(void *arg)
{
    d1 *d = arg;
    read_rows(d->begin);
    for (int i = 0; i < BATCH; i++) {
        sqlite3_bind_int64(d->insert, 1, random_below(N_USERS));
        sqlite3_bind_text(d->insert, 2, "a note of some words, as people write them down", -1, SQLITE_STATIC);
        read_rows(d->insert);
    }
    read_rows(d->commit);
}

static void two_words(char out[40]) { snprintf(out, 40, "%s %s", words[random_below(SV_LEN(words))], words[random_below(SV_LEN(words))]); }

static void d1_search(void *arg)
{
    d1 *d = arg;
    char w[40];
    two_words(w);
    sv_buf_reset(&d->body);
    sv_buf_addf(&d->body, "{\"sql\":\"%s\",\"params\":[\"%s\"]}", search_sql, w);
    run_body(d);
}

static void plain_search(void *arg)
{
    d1 *d = arg;
    char w[40];
    two_words(w);
    sqlite3_bind_text(d->search, 1, w, -1, SQLITE_STATIC);
    read_rows(d->search);
}

static const char *const schema[] = {
    "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT, age INTEGER, bio TEXT)", "CREATE INDEX users_email ON users (email)",
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, user INTEGER, text TEXT)", "CREATE VIRTUAL TABLE docs USING fts5 (title, body)",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO users SELECT i, 'A Name', 'user' || i || '@example.test', i % 90, printf('%.200c', 'b') FROM n"};

/* One statement into both. */
static void run_both(d1 *d, const char *sql)
{
    exec(d->db, sql);
    sv_buf_reset(&d->body);
    sv_buf_adds(&d->body, "{\"sql\":");
    sv_json_add_str(&d->body, sv_str_of(sql));
    sv_buf_addc(&d->body, '}');
    run_body(d);
}

static void fill(d1 *d)
{
    SV_AUTO(sv_buf_donep) sv_buf sql;
    sv_buf_init(&sql, 0);
    for (size_t i = 0; i < SV_LEN(schema); i++)
        run_both(d, schema[i]);
    for (int i = 0; i < N_DOCS; i += 500) {
        sv_buf_reset(&sql);
        for (int k = i; k < i + 500; k++) {
            sv_buf_addf(&sql, "%s('document %d', '", k > i ? "," : "INSERT INTO docs VALUES ", k);
            for (int j = 0; j < 12; j++)
                sv_buf_addf(&sql, "%s ", words[random_below(SV_LEN(words))]);
            sv_buf_adds(&sql, "')");
        }
        run_both(d, sql.p);
    }
}

static void bench_d1(const char *folder, int rounds, double seconds)
{
    sv_err err = {0};
    char path[512];
    d1 d = {.folder = folder, .db = open_plain(folder), .arena = sv_arena_create(0)};
    snprintf(path, sizeof path, "%s/d1.sqlite", folder);
    sv_buf_init(&d.body, 0);
    must(sv_d1_conn_open(&d.c, path, &err), &err);
    fill(&d);
    d.point = prepare(d.db, point_sql);
    d.insert = prepare(d.db, insert_sql);
    d.search = prepare(d.db, search_sql);
    d.begin = prepare(d.db, "BEGIN IMMEDIATE");
    d.commit = prepare(d.db, "COMMIT");
    in_turns("d1/select by id/in process", d1_point, plain_point, &d, rounds, seconds);
    in_turns("d1/batch of 100 inserts, synced/in process", d1_batch, plain_batch, &d, rounds, seconds);
    in_turns("d1/full text, 10 of 5,000/in process", d1_search, plain_search, &d, rounds, seconds);
    sqlite3_stmt *own[] = {d.point, d.insert, d.search, d.begin, d.commit};
    for (size_t i = 0; i < SV_LEN(own); i++)
        sqlite3_finalize(own[i]);
    sqlite3_close(d.db);
    sv_d1_conn_close(d.c);
    sv_arena_free(d.arena);
    sv_buf_done(&d.body);
}

int main(int argc, char **argv)
{
    if (argc != 5 || (strcmp(argv[1], "kv") != 0 && strcmp(argv[1], "d1") != 0)) {
        fprintf(stderr, "usage: store_bench kv|d1 FOLDER ROUNDS SECONDS\n");
        return 2;
    }
    (strcmp(argv[1], "kv") == 0 ? bench_kv : bench_d1)(argv[2], atoi(argv[3]), atof(argv[4]));
    return 0;
}
