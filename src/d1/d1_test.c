/* Tests of d1: what a statement gives, what SQL may not do, limits, one transaction a request, turns, kill -9, import and export, time travel. */
#include "d1/d1.h"

#include <dirent.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "d1/d1_history.h"

static char dir[] = "/tmp/sv-d1-test-XXXXXX";
static const char account[] = "0123456789abcdef0123456789abcdef", other[] = "ffffffffffffffffffffffffffffffff";

/* ---- helpers: a database of one connection ---- */

static sv_d1_conn *fresh(void)
{
    char path[128];
    static int n;
    sv_err err = {0};
    sv_d1_conn *c = NULL;
    snprintf(path, sizeof path, "%s/%d.sqlite", dir, n++);
    if (sv_d1_conn_open(&c, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return c;
}

static sv_rc try_json(sv_d1_conn *c, const char *body, sv_d1_run *run, json_t **out, sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_d1_request q;
    sv_d1_out s;
    if (sv_d1_request_parse(&q, a, sv_str_of(body), err) != SV_OK)
        return err->code;
    sv_d1_out_init(&s, dir, 1 << 30);
    sv_rc rc = sv_d1_conn_run(c, &q, run, &s, err);
    if (rc == SV_OK && out) {
        sv_err bad = {0};
        SV_AUTO(sv_buf_donep) sv_buf all;
        sv_buf_init(&all, 0);
        assert_int_equal(s.n_file ? pread(s.fd, sv_buf_room(&all, (size_t)s.n_file), (size_t)s.n_file, 0) : 0, s.n_file);
        all.n += (size_t)s.n_file;
        sv_buf_add(&all, s.b.p, s.b.n);
        if (sv_json_parse(out, sv_buf_str(&all), &bad) != SV_OK)
            fail_msg("%s: %s", bad.msg, sv_buf_cstr(&s.b));
    }
    sv_d1_out_done(&s);
    return rc;
}

/* SQL without parameters as a request. */
static char *body_of(const char *sql)
{
    sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "{\"sql\":");
    sv_json_add_str(&b, sv_str_of(sql));
    sv_buf_addc(&b, '}');
    return sv_buf_take(&b);
}

static json_t *rows(sv_d1_conn *c, const char *sql)
{
    SV_AUTO(sv_freep) char *body = body_of(sql);
    json_t *out = NULL;
    sv_err err = {0};
    if (try_json(c, body, &(sv_d1_run){.format = SV_D1_ROWS, .per_statement = true}, &out, &err) != SV_OK)
        fail_msg("%.200s: %s", sql, err.msg);
    return out;
}

static void must(sv_d1_conn *c, const char *sql) { json_decref(rows(c, sql)); }

static void refused(sv_d1_conn *c, const char *sql, const char *words)
{
    SV_AUTO(sv_freep) char *body = body_of(sql);
    sv_err err = {0};
    if (try_json(c, body, &(sv_d1_run){.format = SV_D1_ROWS}, NULL, &err) == SV_OK)
        fail_msg("not refused: %.200s", sql);
    if (!strstr(err.msg, words))
        fail_msg("%.200s: \"%s\" does not say \"%s\"", sql, err.msg, words);
}

static int64_t one(sv_d1_conn *c, const char *sql)
{
    SV_AUTO(sv_json_decrefp) json_t *r = rows(c, sql);
    json_t *last = json_array_get(r, json_array_size(r) - 1);
    return json_integer_value(json_array_get(json_array_get(json_object_get(json_object_get(last, "results"), "rows"), 0), 0));
}

static int64_t figure(const json_t *results, size_t i, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(json_array_get(results, i), "meta"), name));
}

static void is_text(const json_t *got, const char *want)
{
    SV_AUTO(sv_freep) char *s = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(s, want);
}

/* ---- statements ---- */

static void rows_keep_their_types(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_json_decrefp) json_t *r = rows(c, "SELECT 1 a, 2.5 b, 'x\ny\"' c, x'00ff' d, NULL e, 9007199254740993 f, 9e999 g");
    is_text(json_object_get(json_array_get(r, 0), "results"),
            "{\"columns\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\"],\"rows\":[[1,2.5,\"x\\ny\\\"\",[0,255],null,9007199254740993,null]]}");
}

static void columns_of_one_name_collapse_as_in_javascript(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    json_t *out = NULL;
    sv_err err = {0};
    assert_int_equal(try_json(c, "{\"sql\":\"SELECT 1 AS a, 2 AS b, 3 AS a, ? AS c\",\"params\":[\"p\"]}", &(sv_d1_run){.format = SV_D1_OBJECTS}, &out, &err), SV_OK);
    is_text(json_object_get(json_array_get(out, 0), "results"), "[{\"a\":3,\"b\":2,\"c\":\"p\"}]");
    json_decref(out);
}

static void figures_are_true(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    must(c, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT); CREATE INDEX t_a ON t (a)");
    SV_AUTO(sv_json_decrefp) json_t *i = rows(c, "INSERT INTO t (a, b) VALUES ('x', 'y'), ('z', 'w'), ('q', 'r')");
    assert_int_equal(figure(i, 0, "changes"), 3);
    assert_int_equal(figure(i, 0, "last_row_id"), 3);
    assert_int_equal(figure(i, 0, "rows_written"), 6); /* the index as well */
    assert_true(json_is_true(json_object_get(json_object_get(json_array_get(i, 0), "meta"), "changed_db")));
    SV_AUTO(sv_json_decrefp) json_t *u = rows(c, "UPDATE t SET b = 'n'; UPDATE t SET a = a || '1' WHERE id = 2; DELETE FROM t WHERE id = 1");
    assert_int_equal(figure(u, 0, "rows_written"), 3); /* b is in no index */
    assert_int_equal(figure(u, 1, "rows_written"), 2);
    assert_int_equal(figure(u, 2, "rows_written"), 1); /* a removal counts once, as in the hosted service */
    assert_int_equal(figure(u, 2, "rows_read"), 1);
    SV_AUTO(sv_json_decrefp) json_t *s = rows(c, "SELECT * FROM t WHERE b <> ''");
    assert_int_equal(figure(s, 0, "rows_read"), 2);
    assert_int_equal(figure(s, 0, "changes"), 0);
    assert_int_equal(figure(s, 0, "size_after"), sv_d1_conn_size(c));
    assert_true(json_is_false(json_object_get(json_object_get(json_array_get(s, 0), "meta"), "changed_db")));
}

static void many_statements_comments_and_triggers_in_one_text(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_json_decrefp) json_t *r = rows(c, "-- first; not a statement\n/* nor; this */ CREATE TABLE t (a); ;;\n"
                                                 "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t SELECT new.a + 1 WHERE new.a < 0; END;\n"
                                                 "INSERT INTO t VALUES (';'), ('--'); -- last");
    assert_int_equal(json_array_size(r), 3);
    assert_int_equal(one(c, "SELECT count(*) FROM t"), 2);
    refused(c, "-- nothing", "No SQL statements detected");
    refused(c, "", "No SQL statements detected");
}

static void parameters_of_every_kind(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    json_t *out = NULL;
    sv_err err = {0};
    sv_d1_run run = {.format = SV_D1_ROWS};
    const char *body = " {\"x\":[{\"y\":[1,\"]\"]}],\"params\" : [1, -2.5e1, \"\\u00fc\\ud83d\\ude00\\u0000\", null, true, [0,255,7], []],"
                       "\"sql\":\"SELECT ?,?,?,?,?,?,?\"} ";
    assert_int_equal(try_json(c, body, &run, &out, &err), SV_OK);
    is_text(json_object_get(json_object_get(json_array_get(out, 0), "results"), "rows"), "[[1,-25,\"\xc3\xbc\xf0\x9f\x98\x80\\u0000\",null,1,[0,255,7],[]]]");
    json_decref(out);
    assert_int_equal(try_json(c, "{\"sql\":\"SELECT ?\"}", &run, NULL, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "Wrong number of parameter bindings"));
    assert_int_equal(try_json(c, "{\"sql\":\"SELECT 1; SELECT ?\",\"params\":[5]}", &run, &out, &err), SV_OK); /* they are the last one's */
    is_text(json_object_get(json_object_get(json_array_get(out, 0), "results"), "rows"), "[[5]]");
    json_decref(out);
}

static void broken_requests_are_refused(void **state)
{
    static const char *const bad[] = {"", "{", "[]", "{}", "nonsense", "{\"sql\":1}", "{\"sql\":\"SELECT 1\"", "{\"sql\":\"a\\u0000b\"}", "{\"sql\":\"\\x\"}",
                                      "{\"sql\":\"SELECT ?\",\"params\":[{}]}", "{\"sql\":\"SELECT ?\",\"params\":[[256]]}", "{\"sql\":\"SELECT ?\",\"params\":[[1.5]]}",
                                      "{\"sql\":\"SELECT ?\",\"params\":1}", "{\"sql\":\"SELECT 1\"}x", "[{\"sql\":\"SELECT 1\"},1]", "{\"sql\":\"\xff\"}",
                                      "{\"batch\":[]}", "[{\"batch\":[{\"sql\":\"SELECT 1\"}]}]", "{\"sql\":\"SELECT ?\",\"params\":[1e999]}", "{\"sql\":\"SELECT 1\",\"x\":]}"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
        sv_d1_request q;
        sv_err err = {0};
        if (sv_d1_request_parse(&q, a, sv_str_of(bad[i]), &err) == SV_OK)
            fail_msg("taken: %s", bad[i]);
        assert_true(err.msg[0] != '\0');
    }
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    sv_buf deep;
    sv_buf_init(&deep, 0);
    sv_buf_adds(&deep, "{\"x\":");
    for (int i = 0; i < 100000; i++)
        sv_buf_addc(&deep, '[');
    sv_d1_request q;
    sv_err err = {0};
    assert_int_equal(sv_d1_request_parse(&q, a, sv_buf_str(&deep), &err), SV_EFORMAT);
    sv_buf_done(&deep);
}

/* ---- what SQL may not do ---- */

static void sql_reaches_nothing_but_its_database(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    static const char *const no[] = {"ATTACH '/tmp/x.db' AS x", "DETACH main", "VACUUM", "VACUUM INTO '/tmp/x.db'", "PRAGMA journal_mode=DELETE", "PRAGMA user_version=7",
                                     "PRAGMA writable_schema=1", "PRAGMA temp_store_directory='/tmp'", "PRAGMA database_list", "PRAGMA compile_options",
                                     "PRAGMA max_page_count=1", "PRAGMA synchronous=OFF", "PRAGMA key='x'", "SELECT * FROM pragma_database_list",
                                     "SELECT load_extension('x')", "SELECT fts3_tokenizer('x')", "SELECT * FROM sqlite_stmt", "SELECT * FROM dbstat",
                                     "CREATE VIRTUAL TABLE v USING fts4(x)", "CREATE VIRTUAL TABLE v USING rtree(a,b,c)", "BEGIN", "COMMIT", "ROLLBACK",
                                     "SAVEPOINT s", "UPDATE sqlite_schema SET sql = ''", "INSERT INTO sqlite_master VALUES (1,2,3,4,5)",
                                     "SELECT readfile('/etc/passwd')", "SELECT writefile('/tmp/x','x')", "SELECT edit('x')"};
    must(c, "CREATE TABLE t (a)");
    for (size_t i = 0; i < SV_LEN(no); i++)
        refused(c, no[i], "SQLITE_");
    refused(c, "BEGIN", "a batch");
    assert_int_equal(one(c, "SELECT count(*) FROM t"), 0);
}

static void allowed_pragmas_work_and_leave_no_trace(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    must(c, "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE k (p REFERENCES p (id))");
    must(c, "PRAGMA table_info(p); PRAGMA table_list; PRAGMA quick_check; PRAGMA optimize; PRAGMA foreign_key_check; PRAGMA index_list('k')");
    assert_false(sv_d1_conn_spent(c));
    refused(c, "INSERT INTO k VALUES (1)", "FOREIGN KEY constraint failed");
    must(c, "PRAGMA defer_foreign_keys=ON; INSERT INTO k VALUES (1); INSERT INTO p VALUES (1)");
    refused(c, "PRAGMA defer_foreign_keys=ON; INSERT INTO k VALUES (2)", "FOREIGN KEY constraint failed");
    assert_int_equal(one(c, "SELECT count(*) FROM k"), 1);
    assert_false(sv_d1_conn_spent(c));
    must(c, "PRAGMA case_sensitive_like=ON");
    assert_true(sv_d1_conn_spent(c));
}

static void fts5_json_and_math_are_there(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    must(c, "CREATE VIRTUAL TABLE d USING fts5(body, tokenize = 'porter'); INSERT INTO d VALUES ('the quick brown foxes'), ('a lazy dog');"
            "CREATE VIRTUAL TABLE v USING fts5vocab('d', 'row')");
    assert_int_equal(one(c, "SELECT rowid FROM d WHERE d MATCH 'fox'"), 1);
    assert_int_equal(one(c, "SELECT json_extract('{\"a\":[1,2,42]}', '$.a[2]')"), 42);
    assert_int_equal(one(c, "SELECT CAST(pow(2, 10) + sqrt(16) AS INTEGER)"), 1028);
    assert_int_equal(one(c, "SELECT sum(value) FROM json_each('[1,2,3]')"), 6);
    must(c, "DROP TABLE v; DROP TABLE d");
}

/* ---- limits ---- */

static void limits_have_their_messages(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "SELECT '");
    for (int i = 0; i < 100000; i++)
        sv_buf_addc(&b, 'x');
    sv_buf_adds(&b, "'");
    refused(c, sv_buf_cstr(&b), "statement too long");
    sv_buf_reset(&b);
    for (int i = 0; i < 20000; i++) /* each statement is short: the text may be long */
        sv_buf_adds(&b, "SELECT 1;\n");
    must(c, sv_buf_cstr(&b));
    refused(c, "SELECT zeroblob(2000001)", "too big");
    must(c, "SELECT length(zeroblob(2000000))");
    refused(c, "SELECT 1 WHERE 'a' LIKE '123456789012345678901234567890123456789012345678901'", "LIKE or GLOB pattern too complex");
    must(c, "CREATE TEMP TABLE heap (a)");
    refused(c, "WITH n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200) INSERT INTO heap SELECT zeroblob(1990000) FROM n", "full: SQLITE_FULL");
    assert_int_equal(one(c, "SELECT count(*) FROM heap"), 0);
    sv_buf_reset(&b);
    sv_buf_adds(&b, "CREATE TABLE wide (c0");
    for (int i = 1; i < 101; i++)
        sv_buf_addf(&b, ", c%d", i);
    sv_buf_adds(&b, ")");
    refused(c, sv_buf_cstr(&b), "too many columns");
    refused(c, "SELECT max(1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33)", "too many arguments");
    refused(c, "SELECT ?101", "variable number must be between");
}

static void a_hundred_parameters_and_no_more(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    for (int n = 100; n <= 101; n++) {
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_err err = {0};
        sv_buf_init(&b, 0);
        sv_buf_adds(&b, "{\"sql\":\"SELECT 1 IN (?");
        for (int i = 1; i < n; i++)
            sv_buf_adds(&b, ",?");
        sv_buf_adds(&b, ")\",\"params\":[1");
        for (int i = 1; i < n; i++)
            sv_buf_adds(&b, ",1");
        sv_buf_adds(&b, "]}");
        sv_rc rc = try_json(c, sv_buf_cstr(&b), &(sv_d1_run){.format = SV_D1_ROWS}, NULL, &err);
        assert_true(n == 100 ? rc == SV_OK : rc != SV_OK && strstr(err.msg, "too many SQL variables"));
    }
}

static void a_query_without_end_is_interrupted(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_freep) char *body = body_of("CREATE TABLE t (a); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n");
    sv_err err = {0};
    assert_int_equal(try_json(c, body, &(sv_d1_run){.limit_ms = 100}, NULL, &err), SV_ETIMEDOUT);
    assert_string_equal(err.msg, "D1 DB exceeded its CPU time limit and was reset.");
    refused(c, "SELECT * FROM t", "no such table"); /* nothing of it stayed */
}

static void a_million_rows_take_no_memory(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_freep) char *body = body_of("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000) SELECT x, 'a text of some length' t FROM n");
    sv_d1_request q;
    sv_d1_out s;
    sv_err err = {0};
    sv_d1_run run = {.format = SV_D1_ROWS};
    assert_int_equal(sv_d1_request_parse(&q, a, sv_str_of(body), &err), SV_OK);
    sv_d1_out_init(&s, dir, 1 << 30);
    assert_int_equal(sv_d1_conn_run(c, &q, &run, &s, &err), SV_OK);
    assert_true(sv_d1_out_size(&s) > 30000000 && s.b.cap < (4 << 20));
    sv_d1_out_done(&s);
    sv_d1_out_init(&s, dir, 1 << 20); /* and over the limit: refused */
    assert_int_equal(sv_d1_conn_run(c, &q, &run, &s, &err), SV_ELIMIT);
    sv_d1_out_done(&s);
}

static void a_batch_is_one_transaction(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    must(c, "CREATE TABLE t (a UNIQUE)");
    sv_d1_version before = sv_d1_conn_version(c);
    sv_err err = {0};
    sv_d1_run run = {.format = SV_D1_ROWS};
    assert_int_equal(try_json(c, "[{\"sql\":\"INSERT INTO t VALUES (?)\",\"params\":[1]},{\"sql\":\"INSERT INTO t VALUES (1)\"},{\"sql\":\"SELECT 1\"}]", &run, NULL, &err), SV_EINVAL);
    assert_int_equal(run.i_failed, 1);
    assert_non_null(strstr(err.msg, "UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT"));
    assert_int_equal(one(c, "SELECT count(*) FROM t"), 0);
    assert_int_equal(sv_d1_conn_version(c).seq, before.seq); /* and reading commits nothing */
    must(c, "INSERT INTO t VALUES (1)");
    assert_int_equal(sv_d1_conn_version(c).seq, before.seq + 1);
}

/* ---- the store: turns ---- */

typedef struct task {
    sv_d1_job job;
    sv_d1 *d;
    const char *id, *sql;
    sv_rc rc;
    char msg[480];
    int64_t value;
    sv_d1_version version, to;
    int64_t at_s;
    int kind;
    sem_t done;
} task;
enum { RUN, STATE_AT, RESTORE };

static void run_task(sv_d1_job *job, sv_d1_conn *c, const sv_err *why)
{
    task *t = (task *)job;
    SV_AUTO(sv_freep) char *body = body_of(t->sql ? t->sql : "");
    json_t *out = NULL;
    sv_err err = why ? *why : (sv_err){0};
    if (c && t->kind == RUN) {
        if (try_json(c, body, &(sv_d1_run){.format = SV_D1_ROWS, .cancel = &job->cancel, .limit_ms = 20000}, &out, &err) == SV_OK)
            t->value = json_integer_value(json_array_get(json_array_get(json_object_get(json_object_get(json_array_get(out, 0), "results"), "rows"), 0), 0));
        t->version = sv_d1_conn_version(c);
    } else if (c) {
        sv_rc rc = t->kind == STATE_AT ? sv_d1_state_at(t->d, t->id, c, t->at_s, &t->version, &err) : sv_d1_restore(t->d, t->id, c, t->to, &t->version, &err);
        (void)rc;
    }
    json_decref(out);
    t->rc = err.code;
    snprintf(t->msg, sizeof t->msg, "%s", err.msg);
    sem_post(&t->done);
}

static void begin(task *t, sv_d1 *d, const char *id, const char *sql)
{
    *t = (task){.job.run = run_task, .d = d, .id = id, .sql = sql, .kind = t->kind, .to = t->to, .at_s = t->at_s};
    sem_init(&t->done, 0, 0);
    sv_err err = {0};
    if (sv_d1_submit(d, account, id, &t->job, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static task run_in(sv_d1 *d, const char *id, const char *sql)
{
    static task t;
    t = (task){0};
    begin(&t, d, id, sql);
    sem_wait(&t.done);
    return t;
}

static sv_d1 *must_open(const char *name)
{
    char path[128];
    sv_d1 *d = NULL;
    sv_err err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (sv_mkdir_p(path, 0700, &err) != SV_OK || sv_d1_open(&d, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return d;
}

static void databases_are_made_found_listed_and_deleted(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_closep) sv_d1 *d = must_open("catalogue");
    sv_err err = {0};
    sv_d1_info a, b, got, *all;
    assert_int_equal(sv_d1_create(d, account, SV_STR("one"), "auto", &a, &err), SV_OK);
    assert_int_equal(sv_d1_create(d, account, SV_STR("two"), "auto", &b, &err), SV_OK);
    assert_int_equal(sv_d1_create(d, account, SV_STR("one"), "auto", &got, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, 7502);
    assert_int_equal(sv_d1_create(d, account, SV_STR(""), "auto", &got, &err), SV_EINVAL);
    assert_int_equal(sv_d1_find(d, account, SV_STR("two"), &got, &err), SV_OK);
    assert_string_equal(got.id, b.id);
    assert_int_equal(sv_d1_find(d, other, sv_str_of(b.id), &got, &err), SV_ENOENT);
    assert_int_equal(sv_d1_find(d, other, SV_STR("two"), &got, &err), SV_ENOENT);
    assert_int_equal(sv_d1_list(d, account, (sv_str){0}, &all), 2);
    free(all);
    assert_int_equal(run_in(d, a.id, "CREATE TABLE t (a)").rc, SV_OK);
    assert_int_equal(sv_d1_delete(d, other, a.id, &err), SV_ENOENT);
    assert_int_equal(sv_d1_delete(d, account, a.id, &err), SV_OK);
    assert_int_equal(sv_d1_find(d, account, sv_str_of(a.id), &got, &err), SV_ENOENT);
    char path[256];
    snprintf(path, sizeof path, "%s/catalogue/d1/%s.sqlite", dir, a.id);
    for (int i = 0; sv_file_exists(path) && i < 100; i++)
        usleep(20000);
    assert_false(sv_file_exists(path));
    assert_int_equal(sv_d1_create(d, account, SV_STR("one"), "auto", &a, &err), SV_OK); /* the name is free again */
    assert_int_equal(run_in(d, a.id, "SELECT * FROM t").rc, SV_EINVAL);
    d = sv_d1_close(d);
    d = must_open("catalogue");
    assert_int_equal(sv_d1_list(d, account, SV_STR("o"), &all), 2);
    free(all);
}

static const char endless[] = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

static void a_slow_query_stands_in_nobody_elses_way(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_closep) sv_d1 *d = must_open("turns");
    enum { SLOW = 20 };
    sv_d1_info slow[SLOW], mine;
    sv_err err = {0};
    static task hogs[SLOW], behind;
    for (int i = 0; i < SLOW; i++) {
        char name[16];
        snprintf(name, sizeof name, "slow%d", i);
        assert_int_equal(sv_d1_create(d, account, sv_str_of(name), "auto", &slow[i], &err), SV_OK);
        begin(&hogs[i], d, slow[i].id, endless);
    }
    assert_int_equal(sv_d1_create(d, other, SV_STR("mine"), "auto", &mine, &err), SV_OK);
    task quick = {.job.run = run_task, .d = d, .id = mine.id, .sql = "SELECT 7"};
    sem_init(&quick.done, 0, 0);
    int64_t start = sv_mono_ms();
    assert_int_equal(sv_d1_submit(d, other, mine.id, &quick.job, &err), SV_OK);
    sem_wait(&quick.done);
    assert_int_equal(quick.value, 7);
    assert_true(sv_mono_ms() - start < 3000);
    begin(&behind, d, slow[0].id, "SELECT 8"); /* waits its turn, and comes when the client before it leaves */
    usleep(50000);
    assert_int_equal(sem_trywait(&behind.done), -1);
    for (int i = 0; i < SLOW; i++)
        atomic_store(&hogs[i].job.cancel, true);
    for (int i = 0; i < SLOW; i++) {
        sem_wait(&hogs[i].done);
        assert_true(hogs[i].rc == SV_ECANCELED || hogs[i].rc == SV_ELIMIT); /* on a slow machine its own time may be up before */
    }
    sem_wait(&behind.done);
    assert_int_equal(behind.value, 8);
}

static void deleting_ends_what_runs_and_what_waits(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_closep) sv_d1 *d = must_open("deleting");
    sv_d1_info i;
    sv_err err = {0};
    static task hog, waits;
    assert_int_equal(sv_d1_create(d, account, SV_STR("x"), "auto", &i, &err), SV_OK);
    begin(&hog, d, i.id, endless);
    begin(&waits, d, i.id, "SELECT 1");
    usleep(50000);
    assert_int_equal(sv_d1_delete(d, account, i.id, &err), SV_OK);
    sem_wait(&hog.done);
    sem_wait(&waits.done);
    assert_int_equal(hog.rc, SV_ECANCELED);
    assert_int_equal(waits.rc, SV_ENOENT);
}

/* ---- kill -9 ---- */

/* Writes numbers for ever and says each on the pipe once it is acknowledged. */
static _Noreturn void write_and_tell(const char *name, const char *id, int fd, int32_t from)
{
    sv_d1 *d = must_open(name);
    for (int32_t n = from;; n++) {
        char sql[128];
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, hex(randomblob(3000)))", n);
        if (run_in(d, id, sql).rc != SV_OK || write(fd, &n, sizeof n) != sizeof n)
            _exit(1);
    }
}

static void what_was_acknowledged_survives_kill(void **state)
{
    (void)state;
    sv_d1_info i;
    sv_err err = {0};
    sv_d1 *d = must_open("kill");
    assert_int_equal(sv_d1_create(d, account, SV_STR("x"), "auto", &i, &err), SV_OK);
    assert_int_equal(run_in(d, i.id, "CREATE TABLE t (n INTEGER PRIMARY KEY, pad TEXT)").rc, SV_OK);
    d = sv_d1_close(d);
    int32_t last = 0;
    for (int round = 0; round < 6; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0)
            write_and_tell("kill", i.id, fds[1], last + 1);
        close(fds[1]);
        for (int k = 0, until = 20 + rand() % 400; k < until; k++) /* enough of them for checkpoints */
            assert_int_equal(read(fds[0], &last, sizeof last), sizeof last);
        kill(pid, SIGKILL);
        for (int32_t n; read(fds[0], &n, sizeof n) == sizeof n;)
            last = n;
        close(fds[0]);
        waitpid(pid, NULL, 0);
        d = must_open("kill");
        task got = run_in(d, i.id, "SELECT count(*) FROM t");
        assert_int_equal(got.rc, SV_OK);
        assert_true(got.value == last || got.value == last + 1); /* one more may have been committed and not told */
        assert_int_equal(run_in(d, i.id, "SELECT quick_check = 'ok' FROM pragma_quick_check").value, 1);
        last = (int32_t)got.value;
        d = sv_d1_close(d);
    }
}

/* ---- import, export ---- */

static int file_of(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/file-XXXXXX", dir);
    int fd = mkstemp(path);
    sv_err err = {0};
    assert_int_equal(sv_write_all(fd, text, strlen(text), &err), SV_OK);
    lseek(fd, 0, SEEK_SET);
    unlink(path);
    return fd;
}

static char *text_of(int fd)
{
    sv_buf b;
    sv_buf_init(&b, 0);
    lseek(fd, 0, SEEK_SET);
    for (ssize_t n; (n = read(fd, sv_buf_room(&b, 65536), 65536)) > 0;)
        b.n += (size_t)n;
    sv_buf_addc(&b, '\0');
    close(fd);
    return sv_buf_take(&b);
}

static char *dump(sv_d1_conn *c)
{
    int fd = file_of("");
    sv_err err = {0};
    if (sv_d1_conn_export(c, fd, &(sv_d1_dump){0}, NULL, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return text_of(fd);
}

static void a_dump_makes_the_same_database(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *a = fresh(), *b = fresh();
    must(a, "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT, \"a \"\"b\" REAL, z, g AS (id * 2));"
            "CREATE TABLE \"quoted name\" (p REFERENCES p (id));"
            "INSERT INTO p (t, \"a \"\"b\", z) VALUES ('it''s' || char(10) || 'two\\nlines' || char(13), 1.0, x'00ff'), (NULL, 9e999, 2.0), ('', -1e-300, 'n' || char(0));"
            "INSERT INTO \"quoted name\" VALUES (2); DELETE FROM p WHERE id = 3; CREATE INDEX i ON p (t); CREATE VIEW v AS SELECT * FROM p;"
            "CREATE TRIGGER g AFTER INSERT ON p BEGIN UPDATE p SET z = 1 WHERE id = new.id; END");
    SV_AUTO(sv_freep) char *first = dump(a);
    int fd = file_of(first);
    sv_buf meta;
    sv_buf_init(&meta, 0);
    sv_err err = {0};
    if (sv_d1_conn_import(b, fd, &(sv_d1_run){0}, &meta, &err) != SV_OK)
        fail_msg("%s\n%s", err.msg, first);
    close(fd);
    sv_buf_done(&meta);
    SV_AUTO(sv_freep) char *second = dump(b);
    assert_string_equal(first, second);
    assert_int_equal(one(b, "SELECT typeof(z) = 'real' FROM p WHERE id = 2"), 1);
    assert_int_equal(one(b, "SELECT seq FROM sqlite_sequence WHERE name = 'p'"), 3);
}

static void an_import_is_all_or_nothing(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_buf_donep) sv_buf b, meta;
    sv_buf_init(&b, 0);
    sv_buf_init(&meta, 0);
    sv_d1_run run = {0};
    sv_err err = {0};
    sv_buf_adds(&b, "/* ");
    for (int i = 0; i < 300000; i++) /* a comment longer than the window */
        sv_buf_adds(&b, "long; '");
    sv_buf_adds(&b, "*/ CREATE TABLE t (a, b);\n");
    for (int i = 0; i < 20000; i++)
        sv_buf_addf(&b, "INSERT INTO t VALUES (%d, 'semicolon; -- and ''more''\n')%s\n", i, i % 3 ? ";" : "; -- x");
    int fd = file_of(sv_buf_cstr(&b));
    if (sv_d1_conn_import(c, fd, &run, &meta, &err) != SV_OK)
        fail_msg("%s", err.msg);
    close(fd);
    assert_int_equal(run.n_statements, 20001);
    assert_int_equal(one(c, "SELECT sum(a) FROM t"), 199990000);
    static const char *const bad[] = {"INSERT INTO t VALUES (1, 1); INSERT INTO nope VALUES (1)", "DELETE FROM t; BEGIN; COMMIT", "DELETE FROM t; PRAGMA journal_mode=OFF", "", "-- x",
                                      "DELETE FROM t; SELECT 'no end"};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        fd = file_of(bad[i]);
        assert_int_not_equal(sv_d1_conn_import(c, fd, &(sv_d1_run){0}, &meta, &err), SV_OK);
        close(fd);
        assert_int_equal(one(c, "SELECT count(*) FROM t"), 20000);
    }
    sv_buf_reset(&b);
    sv_buf_adds(&b, "SELECT '");
    for (int i = 0; i < 500000; i++)
        sv_buf_adds(&b, "xxxx");
    fd = file_of(sv_buf_cstr(&b));
    assert_int_not_equal(sv_d1_conn_import(c, fd, &(sv_d1_run){0}, &meta, &err), SV_OK);
    close(fd);
    assert_non_null(strstr(err.msg, "statement too long"));
}

/* It would keep a thread for ever, and with enough of them all databases wait. */
static void an_import_without_end_is_interrupted(void **state)
{
    (void)state;
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = fresh();
    SV_AUTO(sv_buf_donep) sv_buf meta;
    sv_buf_init(&meta, 0);
    sv_err err = {0};
    int fd = file_of("CREATE TABLE t (a); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t SELECT x FROM n WHERE x < 0");
    assert_int_equal(sv_d1_conn_import(c, fd, &(sv_d1_run){.limit_ms = 100}, &meta, &err), SV_ETIMEDOUT);
    close(fd);
    refused(c, "SELECT * FROM t", "no such table");
}

/* ---- time travel ---- */

static void any_commit_can_be_gone_back_to(void **state)
{
    (void)state;
    enum { N = 60 };
    SV_AUTO(sv_d1_closep) sv_d1 *d = must_open("travel");
    sv_d1_info i;
    sv_err err = {0};
    sv_d1_version at[N];
    assert_int_equal(sv_d1_create(d, account, SV_STR("x"), "auto", &i, &err), SV_OK);
    assert_int_equal(run_in(d, i.id, "CREATE TABLE t (n INTEGER PRIMARY KEY, pad BLOB)").rc, SV_OK);
    for (int k = 0; k < N; k++) { /* 12 MB of log: some in files of the history, some not yet; deletions shrink */
        char sql[160];
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, randomblob(200000)); DELETE FROM t WHERE n = %d - 7", k, k);
        task t = run_in(d, i.id, sql);
        assert_int_equal(t.rc, SV_OK);
        at[k] = t.version;
        if (k == 20) { /* and over a restart */
            d = sv_d1_close(d);
            d = must_open("travel");
        }
    }
    static const int visits[] = {3, 50, 21, 0, 59, 20};
    uint32_t last = at[N - 1].seq;
    for (size_t k = 0; k < SV_LEN(visits); k++) {
        task t = {.kind = RESTORE, .to = at[visits[k]]};
        begin(&t, d, i.id, NULL);
        sem_wait(&t.done);
        if (t.rc != SV_OK)
            fail_msg("to %d: %s", visits[k], t.msg);
        assert_true(t.version.seq > last); /* the past becomes the newest state */
        last = t.version.seq;
        assert_int_equal(run_in(d, i.id, "SELECT max(n) FROM t").value, visits[k]);
        assert_int_equal(run_in(d, i.id, "SELECT quick_check = 'ok' FROM pragma_quick_check").value, 1);
        assert_int_equal(run_in(d, i.id, "INSERT INTO t VALUES (-1, NULL)").rc, SV_OK); /* and is a state like others */
    }
    char bookmark[64], later[64];
    sv_d1_version v;
    sv_d1_bookmark(bookmark, i.id, at[1]);
    sv_d1_bookmark(later, i.id, at[2]);
    assert_true(strcmp(bookmark, later) < 0);
    assert_int_equal(sv_d1_bookmark_parse(&v, i.id, sv_str_of(bookmark), &err), SV_OK);
    assert_int_equal(v.seq, at[1].seq);
    bookmark[40] ^= 1;
    assert_int_equal(sv_d1_bookmark_parse(&v, i.id, sv_str_of(bookmark), &err), SV_EINVAL);
    task t = {.kind = STATE_AT, .at_s = 1000};
    begin(&t, d, i.id, NULL);
    sem_wait(&t.done);
    assert_int_equal(t.rc, SV_ENOENT);
    t = (task){.kind = STATE_AT, .at_s = sv_now_ms() / 1000 + 5};
    begin(&t, d, i.id, NULL);
    sem_wait(&t.done);
    assert_int_equal(t.rc, SV_OK);
    assert_int_equal(t.version.seq, last + 1);
}

static size_t n_files(const char *path, char kind)
{
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] == kind;
    closedir(d);
    return n;
}

static void a_history_does_not_grow_without_bound(void **state)
{
    (void)state;
    char file[128], past[128], kept[256];
    sv_err err = {0};
    snprintf(file, sizeof file, "%s/bounded.sqlite", dir);
    snprintf(past, sizeof past, "%s/bounded.history", dir);
    SV_AUTO(sv_d1_conn_closep) sv_d1_conn *c = NULL;
    assert_int_equal(sv_d1_conn_open(&c, file, &err), SV_OK);
    sv_d1_version first;
    for (int round = 0; round < 3; round++) {
        must(c, round ? "INSERT INTO t VALUES (1)" : "CREATE TABLE t (a)");
        assert_int_equal(sv_d1_history_keep(file, past, &err), SV_OK);
        assert_int_equal(sv_d1_conn_checkpoint(c, &err), SV_OK);
        assert_int_equal(sv_d1_history_base_if_due(file, past, &err), SV_OK);
        assert_int_equal(n_files(past, 'b'), 1);
        if (round == 0)
            first = sv_d1_conn_version(c);
        if (round == 1) { /* a log of more than may be kept: the third round makes a new copy, and the old one goes with the log */
            snprintf(kept, sizeof kept, "%s/w-%08x-%08x.wal", past, first.seq, first.at_s);
            assert_int_equal(truncate(kept, 30000000000), 0);
        }
    }
    assert_false(sv_file_exists(kept));
    assert_int_equal(n_files(past, 'w'), 0);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    sv_err err = {0};
    (void)state;
    return sv_remove_tree(dir, &err) == SV_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_keep_their_types),
        cmocka_unit_test(columns_of_one_name_collapse_as_in_javascript),
        cmocka_unit_test(figures_are_true),
        cmocka_unit_test(many_statements_comments_and_triggers_in_one_text),
        cmocka_unit_test(parameters_of_every_kind),
        cmocka_unit_test(broken_requests_are_refused),
        cmocka_unit_test(sql_reaches_nothing_but_its_database),
        cmocka_unit_test(allowed_pragmas_work_and_leave_no_trace),
        cmocka_unit_test(fts5_json_and_math_are_there),
        cmocka_unit_test(limits_have_their_messages),
        cmocka_unit_test(a_hundred_parameters_and_no_more),
        cmocka_unit_test(a_query_without_end_is_interrupted),
        cmocka_unit_test(a_million_rows_take_no_memory),
        cmocka_unit_test(a_batch_is_one_transaction),
        cmocka_unit_test(databases_are_made_found_listed_and_deleted),
        cmocka_unit_test(a_slow_query_stands_in_nobody_elses_way),
        cmocka_unit_test(deleting_ends_what_runs_and_what_waits),
        cmocka_unit_test(what_was_acknowledged_survives_kill),
        cmocka_unit_test(a_dump_makes_the_same_database),
        cmocka_unit_test(an_import_is_all_or_nothing),
        cmocka_unit_test(an_import_without_end_is_interrupted),
        cmocka_unit_test(any_commit_can_be_gone_back_to),
        cmocka_unit_test(a_history_does_not_grow_without_bound),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
