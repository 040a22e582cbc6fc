/* Tests of db.h: the normal use first, then groups, readers, statements, old and damaged files, full disks, no memory, kill -9,
 * power cuts. */
#include "db/db.h"

#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/thread.h"
#include "base/time.h"
#include "db/faults_testing.h"

static char dir[] = "/tmp/sv-db-test-XXXXXX";
static const char *const notes[] = {"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE, body BLOB)"};

/* A path nobody used before. */
static const char *fresh(void)
{
    static char path[128];
    static int n;
    snprintf(path, sizeof path, "%s/%d.db", dir, n++);
    return path;
}

static sv_db *must_open(const char *path)
{
    sv_db *db = NULL;
    sv_err err = {0};
    if (sv_db_open(&db, path, notes, 1, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return db;
}

typedef struct note { int64_t id; const char *text; size_t body_bytes; sv_rc after; } note; /* after: what fn returns in the end */

static sv_rc add_note(sv_dbw *w, void *arg, sv_err *err)
{
    const note *n = arg;
    SV_AUTO(sv_freep) char *body = n->body_bytes ? sv_xcalloc(1, n->body_bytes) : NULL;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO notes VALUES (?1, ?2, ?3)", err) != SV_OK)
        return err->code;
    if (n->id)
        sv_bind_i64(&q, 1, n->id);
    sv_bind_cstr(&q, 2, n->text);
    sv_bind_blob(&q, 3, body, n->body_bytes);
    if (sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    return n->after == SV_OK ? SV_OK : sv_fail(err, n->after, "thought better of it");
}

static sv_rc add(sv_db *db, int64_t id, const char *text)
{
    sv_err err = {0};
    return sv_db_write(db, add_note, &(note){.id = id, .text = text}, &err);
}

static sv_rc one_number(sv_dbw *r, const char *sql, int64_t *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, sql, err) != SV_OK || sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    *out = row ? sv_col_i64(&q, 0) : -1;
    return SV_OK;
}

static sv_rc count_notes(sv_dbw *r, void *out, sv_err *err) { return one_number(r, "SELECT count(*) FROM notes", out, err); }

static int64_t count(sv_db *db)
{
    int64_t n = -1;
    sv_err err = {0};
    if (sv_db_read(db, count_notes, &n, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return n;
}

static sv_rc integrity(sv_dbw *r, void *arg, sv_err *err)
{
    bool row = false;
    (void)arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "PRAGMA integrity_check", err) != SV_OK || sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    return sv_str_is(sv_col_str(&q, 0), "ok") ? SV_OK : sv_fail(err, SV_EFORMAT, "%.200s", sv_col_str(&q, 0).p);
}

static void assert_whole(sv_db *db)
{
    sv_err err = {0};
    if (sv_db_read(db, integrity, NULL, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

/* ---- normal use ---- */

static sv_rc text_of_1(sv_dbw *r, void *out, sv_err *err)
{
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT text FROM notes WHERE id = ?1", err) != SV_OK)
        return err->code;
    sv_bind_i64(&q, 1, 1);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    if (!row)
        return sv_fail(err, SV_ENOENT, "no note 1");
    sv_str s = sv_col_str(&q, 0);
    snprintf(out, 32, "%.*s", (int)s.n, s.p);
    return SV_OK;
}

static void what_is_written_is_read_also_after_a_restart(void **state)
{
    (void)state;
    char text[32] = "", path[128];
    sv_err err = {0};
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db = must_open(path);
    assert_int_equal(sv_db_read(db, text_of_1, text, &err), SV_ENOENT);
    assert_string_equal(err.msg, "no note 1");
    assert_int_equal(add(db, 1, "warp and weft"), SV_OK);
    assert_int_equal(sv_db_read(db, text_of_1, text, &err), SV_OK);
    assert_string_equal(text, "warp and weft");
    db = sv_db_close(db);
    char *wal = sv_xasprintf("%s-wal", path);
    assert_false(sv_file_exists(wal)); /* a clean close leaves one file */
    free(wal);
    db = must_open(path);
    assert_int_equal(count(db), 1);
    sv_db_close(db);
    assert_null(sv_db_close(NULL));
}

static void files_are_for_the_owner_alone(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db = must_open(path);
    add(db, 1, "x");
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < SV_LEN(suffixes); i++) {
        struct stat st;
        SV_AUTO(sv_freep) char *file = sv_xasprintf("%s%s", path, suffixes[i]);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    sv_db_close(db);
}

static void a_refused_write_leaves_its_words_and_nothing_else(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    assert_int_equal(sv_db_write(db, add_note, &(note){.text = "a", .after = SV_EINVAL}, &err), SV_EINVAL);
    assert_string_equal(err.msg, "thought better of it");
    assert_int_equal(count(db), 0);
    assert_int_equal(add(db, 1, "a"), SV_OK);
    assert_int_equal(add(db, 1, "b"), SV_ECONFLICT);
    assert_int_equal(add(db, 2, "a"), SV_ECONFLICT);
    assert_int_equal(sv_db_write(db, add_note, &(note){.id = 2, .text = "a"}, &err), SV_ECONFLICT);
    assert_false(sv_err_is_ours(&err));
    assert_int_equal(count(db), 1);
    sv_db_close(db);
}

/* ---- groups ---- */

typedef struct gate { sem_t inside, go; } gate;

/* Holds the writer thread, so that what comes meanwhile forms a group. */
static sv_rc hold(sv_dbw *w, void *arg, sv_err *err)
{
    gate *g = arg;
    (void)w, (void)err;
    sem_post(&g->inside);
    sem_wait(&g->go);
    return SV_OK;
}

typedef struct job { sv_db *db; sv_db_fn fn; void *arg; sv_rc rc; sv_err err; pthread_t thread; } job;

static void *run_job(void *arg)
{
    job *j = arg;
    j->rc = sv_db_write(j->db, j->fn, j->arg, &j->err);
    return NULL;
}

/* Runs all jobs as one group: they start while the writer is held. */
static void run_grouped(sv_db *db, job *jobs, size_t n)
{
    gate g;
    sem_init(&g.inside, 0, 0);
    sem_init(&g.go, 0, 0);
    job holder = {.db = db, .fn = hold, .arg = &g};
    pthread_create(&holder.thread, NULL, run_job, &holder);
    sem_wait(&g.inside);
    for (size_t i = 0; i < n; i++) {
        jobs[i].db = db;
        pthread_create(&jobs[i].thread, NULL, run_job, &jobs[i]);
        usleep(2000); /* they queue in this order */
    }
    usleep(50000);
    sem_post(&g.go);
    pthread_join(holder.thread, NULL);
    for (size_t i = 0; i < n; i++)
        pthread_join(jobs[i].thread, NULL);
    sem_destroy(&g.inside);
    sem_destroy(&g.go);
}

static void writes_that_wait_share_one_sync(void **state)
{
    enum { N = 12 };
    (void)state;
    sv_db *db = must_open(fresh());
    note n[N];
    job jobs[N] = {0};
    for (int i = 0; i < N; i++) {
        n[i] = (note){.id = i + 1};
        jobs[i] = (job){.fn = add_note, .arg = &n[i]};
    }
    long long before = atomic_load(&disk.n_syncs);
    run_grouped(db, jobs, N);
    long long syncs = atomic_load(&disk.n_syncs) - before;
    for (int i = 0; i < N; i++)
        assert_int_equal(jobs[i].rc, SV_OK);
    assert_int_equal(count(db), N);
    assert_in_range(syncs, 1, 4); /* the log's head once, the group once, and if a thread came late one more */
    sv_db_close(db);
}

static void one_that_fails_takes_nothing_of_its_group(void **state)
{
    enum { N = 9 };
    (void)state;
    sv_db *db = must_open(fresh());
    note n[N];
    job jobs[N] = {0};
    for (int i = 0; i < N; i++) {
        n[i] = (note){.id = i + 1, .after = i % 3 == 1 ? SV_EINVAL : SV_OK};
        jobs[i] = (job){.fn = add_note, .arg = &n[i]};
    }
    n[8].id = 1; /* a conflict with what the same group has not committed yet */
    run_grouped(db, jobs, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(jobs[i].rc, i == 8 ? SV_ECONFLICT : i % 3 == 1 ? SV_EINVAL : SV_OK);
    assert_int_equal(count(db), 5);
    sv_db_close(db);
}

static sem_t all_jobs;
static void job_done(sv_db_job *j)
{
    (void)j;
    sem_post(&all_jobs);
}

static void jobs_hold_no_thread_and_share_one_sync(void **state)
{
    enum { N = 30 };
    (void)state;
    sv_db *db = must_open(fresh());
    note n[N];
    sv_db_job jobs[N];
    gate g;
    sem_init(&all_jobs, 0, 0);
    sem_init(&g.inside, 0, 0);
    sem_init(&g.go, 0, 0);
    job holder = {.db = db, .fn = hold, .arg = &g};
    pthread_create(&holder.thread, NULL, run_job, &holder);
    sem_wait(&g.inside);
    long long before = atomic_load(&disk.n_syncs);
    for (int i = 0; i < N; i++) {
        n[i] = (note){.id = i + 1, .after = i == 7 ? SV_EINVAL : SV_OK};
        jobs[i] = (sv_db_job){.fn = add_note, .arg = &n[i], .done = job_done};
        sv_db_submit(db, &jobs[i]);
    }
    sem_post(&g.go);
    sv_db_close(db); /* it waits for them */
    pthread_join(holder.thread, NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(sem_trywait(&all_jobs), 0);
        assert_int_equal(jobs[i].rc, i == 7 ? SV_EINVAL : SV_OK);
    }
    assert_string_equal(jobs[7].err.msg, "thought better of it");
    assert_in_range(atomic_load(&disk.n_syncs) - before, 1, 8); /* the close's checkpoint has its own */
}

static sv_rc cap_pages(sv_dbw *w, void *pages, sv_err *err)
{
    int64_t got;
    SV_AUTO(sv_freep) char *sql = sv_xasprintf("PRAGMA max_page_count = %d", *(int *)pages);
    return one_number(w, sql, &got, err);
}

/* FULL in a plain insert makes SQLite throw away the whole transaction, the neighbours' rows too. */
static void one_that_fills_the_disk_takes_nothing_of_its_group(void **state)
{
    enum { N = 5 };
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    assert_int_equal(sv_db_write(db, cap_pages, &(int){40}, &err), SV_OK);
    note n[N];
    job jobs[N] = {0};
    for (int i = 0; i < N; i++) {
        n[i] = (note){.id = i + 1, .body_bytes = i == 2 ? 1 << 20 : 10};
        jobs[i] = (job){.fn = add_note, .arg = &n[i]};
    }
    run_grouped(db, jobs, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(jobs[i].rc, i == 2 ? SV_ELIMIT : SV_OK);
    assert_int_equal(count(db), 4);
    assert_whole(db);
    sv_db_close(db);
}

static sv_rc commit_inside(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg, (void)err;
    sqlite3_exec(sv_dbw_handle(w), "COMMIT", NULL, NULL, NULL);
    return SV_OK;
}

static void a_function_that_ends_the_transaction_itself_is_told(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    assert_int_equal(sv_db_write(db, commit_inside, NULL, &err), SV_EIO);
    assert_int_equal(add(db, 1, "after"), SV_OK);
    sv_db_close(db);
}

static void two_databases_on_one_file_wait_for_each_other(void **state)
{
    enum { N = 6 };
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db[2] = {must_open(path), must_open(path)};
    note n[N];
    job jobs[N] = {0};
    for (int i = 0; i < N; i++) {
        n[i] = (note){.id = i + 1};
        jobs[i] = (job){.db = db[i % 2], .fn = add_note, .arg = &n[i]};
        pthread_create(&jobs[i].thread, NULL, run_job, &jobs[i]);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(jobs[i].thread, NULL);
        assert_int_equal(jobs[i].rc, SV_OK);
    }
    assert_int_equal(count(db[0]), N);
    assert_int_equal(count(db[1]), N);
    sv_db_close(db[0]);
    sv_db_close(db[1]);
}

static void *close_it(void *db)
{
    sv_db_close(db);
    return NULL;
}

static void close_waits_for_the_writes_in_progress(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db = must_open(path);
    gate g;
    sem_init(&g.inside, 0, 0);
    sem_init(&g.go, 0, 0);
    note n = {.id = 1};
    job holder = {.db = db, .fn = hold, .arg = &g}, waiting = {.db = db, .fn = add_note, .arg = &n};
    pthread_create(&holder.thread, NULL, run_job, &holder);
    sem_wait(&g.inside);
    pthread_create(&waiting.thread, NULL, run_job, &waiting);
    usleep(50000); /* it is in the queue */
    pthread_t closer;
    pthread_create(&closer, NULL, close_it, db);
    usleep(50000);
    sem_post(&g.go);
    pthread_join(holder.thread, NULL);
    pthread_join(waiting.thread, NULL);
    pthread_join(closer, NULL);
    assert_int_equal(holder.rc, SV_OK);
    assert_int_equal(waiting.rc, SV_OK);
    db = must_open(path);
    assert_int_equal(count(db), 1);
    sv_db_close(db);
    sem_destroy(&g.inside);
    sem_destroy(&g.go);
}

/* ---- readers ---- */

static sv_rc look_twice(sv_dbw *r, void *arg, sv_err *err)
{
    sv_db *db = arg;
    int64_t before = -1, after = -1;
    if (count_notes(r, &before, err) != SV_OK)
        return err->code;
    assert_int_equal(add(db, 0, NULL), SV_OK); /* commits while we read */
    if (count_notes(r, &after, err) != SV_OK)
        return err->code;
    return before == after ? SV_OK : sv_fail(err, SV_ECONFLICT, "%lld, then %lld", (long long)before, (long long)after);
}

static void a_reader_sees_one_moment_and_stops_no_writer(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    assert_int_equal(sv_db_read(db, look_twice, db, &err), SV_OK);
    assert_int_equal(count(db), 1);
    sv_db_close(db);
}

static void a_reader_cannot_write(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    assert_int_equal(sv_db_read(db, add_note, &(note){.id = 1}, &err), SV_EIO);
    assert_non_null(strstr(err.msg, "readonly"));
    assert_int_equal(count(db), 0);
    sv_db_close(db);
}

static sv_rc wait_a_little(sv_dbw *r, void *arg, sv_err *err)
{
    int64_t n;
    (void)arg;
    usleep(20000);
    return count_notes(r, &n, err);
}

static void *read_slowly(void *arg)
{
    job *j = arg;
    j->rc = sv_db_read(j->db, wait_a_little, NULL, &j->err);
    return NULL;
}

static void more_readers_than_connections_take_turns(void **state)
{
    enum { N = 20 };
    (void)state;
    job jobs[N] = {0};
    sv_db *db = must_open(fresh());
    for (int i = 0; i < N; i++) {
        jobs[i].db = db;
        pthread_create(&jobs[i].thread, NULL, read_slowly, &jobs[i]);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(jobs[i].thread, NULL);
        assert_int_equal(jobs[i].rc, SV_OK);
    }
    sv_db_close(db);
}

/* ---- statements ---- */

static sv_rc values_come_back(sv_dbw *w, void *arg, sv_err *err)
{
    bool row = false;
    (void)arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, w, "SELECT ?1, ?2, ?3, ?4, ?5, ?6, typeof(?2), typeof(?3), typeof(?4)", err) != SV_OK)
        return err->code;
    sv_bind_str(&q, 1, (sv_str){NULL, 0});
    sv_bind_str(&q, 2, SV_STR(""));
    sv_bind_blob(&q, 3, NULL, 0);
    sv_bind_blob(&q, 4, "a\0b", 3);
    sv_bind_i64(&q, 5, INT64_MIN);
    sv_bind_null(&q, 6);
    if (sv_stmt_step(&q, &row, err) != SV_OK)
        return err->code;
    assert_true(row);
    assert_true(sv_col_null(&q, 0) && sv_col_str(&q, 0).p == NULL && sv_col_null(&q, 5));
    assert_true(sv_col_str(&q, 1).p && sv_col_str(&q, 1).n == 0 && sv_str_is(sv_col_str(&q, 6), "text"));
    assert_true(sv_col_str(&q, 2).p && sv_col_str(&q, 2).n == 0 && sv_str_is(sv_col_str(&q, 7), "blob"));
    assert_true(sv_col_str(&q, 3).n == 3 && memcmp(sv_col_str(&q, 3).p, "a\0b", 3) == 0);
    assert_true(sv_col_i64(&q, 4) == INT64_MIN && sv_str_is(sv_col_str(&q, 4), "-9223372036854775808"));
    return SV_OK;
}

static sv_rc statements_are_kept(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg;
    sv_stmt a = {0}, b = {0}, c = {0};
    char copy[] = "SELECT 1 "; /* same text, another address */
    assert_int_equal(sv_stmt_prep(&a, w, "SELECT 1 ", err), SV_OK);
    assert_int_equal(sv_stmt_prep(&b, w, copy, err), SV_OK);
    sqlite3_stmt *first = a.s;
    assert_ptr_not_equal(a.s, b.s); /* in use: one of its own */
    sv_stmt_donep(&a);
    sv_stmt_donep(&b);
    sv_stmt_donep(&b); /* again is fine */
    assert_int_equal(sv_stmt_prep(&c, w, copy, err), SV_OK);
    assert_ptr_equal(c.s, first);
    for (int i = 0; i < 500; i++) { /* more than are kept: `c` is in use and stays */
        SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
        bool row = false;
        SV_AUTO(sv_freep) char *sql = sv_xasprintf("SELECT %d", i);
        assert_int_equal(sv_stmt_prep(&q, w, sql, err), SV_OK);
        assert_int_equal(sv_stmt_step(&q, &row, err), SV_OK);
        assert_int_equal(sv_col_i64(&q, 0), i);
    }
    bool row = false;
    assert_int_equal(sv_stmt_step(&c, &row, err), SV_OK);
    assert_true(row);
    return SV_OK; /* c is left open: the connection closes it */
}

static sv_rc bad_statements(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg;
    bool row = false;
    sv_stmt q = {0};
    assert_int_equal(sv_stmt_prep(&q, w, "SELECT 1; SELECT 2", err), SV_EINVAL);
    assert_int_equal(sv_stmt_prep(&q, w, "  ", err), SV_EINVAL);
    assert_int_equal(sv_stmt_prep(&q, w, "SELEC 1", err), SV_EIO);
    assert_non_null(strstr(err->msg, "syntax error"));
    assert_null(q.s);
    assert_int_equal(sv_stmt_prep(&q, w, "SELECT ?1;\n", err), SV_OK);
    sv_bind_i64(&q, 2, 1); /* there is no ?2 */
    assert_int_equal(sv_stmt_step(&q, &row, err), SV_EIO);
    assert_non_null(strstr(err->msg, "bind"));
    assert_int_equal(sv_stmt_step(&q, &row, err), SV_OK); /* told once */
    sv_stmt_reset(&q);
    sv_bind_i64(&q, 1, 7);
    assert_int_equal(sv_stmt_step(&q, &row, err), SV_OK);
    assert_int_equal(sv_col_i64(&q, 0), 7);
    sv_stmt_donep(&q);
    *err = (sv_err){0};
    return SV_OK;
}

static sv_rc counts(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0}, u = {0};
    if (sv_stmt_prep(&q, w, "INSERT INTO notes (id) VALUES (7), (9)", err) != SV_OK || sv_stmt_run(&q, err) != SV_OK)
        return err->code;
    assert_int_equal(sv_db_changes(w), 2);
    if (sv_stmt_prep(&u, w, "UPDATE notes SET text = 'x' WHERE id = 8", err) != SV_OK || sv_stmt_run(&u, err) != SV_OK)
        return err->code;
    assert_int_equal(sv_db_changes(w), 0);
    return SV_OK;
}

static void statements(void **state)
{
    static const sv_db_fn cases[] = {values_come_back, statements_are_kept, bad_statements, counts};
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh());
    for (size_t i = 0; i < SV_LEN(cases); i++)
        assert_int_equal(sv_db_write(db, cases[i], NULL, &err), SV_OK);
    assert_int_equal(sv_db_read(db, values_come_back, NULL, &err), SV_OK);
    sv_db_close(db);
}

/* ---- migrations, newer and damaged files ---- */

static const char *const two[] = {"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE, body BLOB)",
                                  "ALTER TABLE notes ADD COLUMN color TEXT DEFAULT 'blue'; CREATE TABLE tags (t TEXT);"};
static const char *const broken[] = {"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE, body BLOB)",
                                     "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);"};

static sv_rc tables(sv_dbw *r, void *out, sv_err *err)
{
    return one_number(r, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'", out, err);
}

static void an_old_file_is_migrated_once(void **state)
{
    (void)state;
    char path[128];
    int64_t n = 0;
    sv_err err = {0};
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db = must_open(path);
    add(db, 1, "kept");
    sv_db_close(db);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sv_db_open(&db, path, two, 2, &err), SV_OK);
        assert_int_equal(count(db), 1);
        assert_int_equal(sv_db_read(db, tables, &n, &err), SV_OK);
        assert_int_equal(n, 2);
        sv_db_close(db);
    }
}

static void a_migration_that_fails_leaves_the_file_as_it_was(void **state)
{
    (void)state;
    char path[128];
    int64_t n = 0;
    sv_err err = {0};
    sv_db *db = NULL;
    snprintf(path, sizeof path, "%s", fresh());
    sv_db_close(must_open(path));
    assert_int_not_equal(sv_db_open(&db, path, broken, 2, &err), SV_OK);
    assert_null(db);
    assert_non_null(strstr(err.msg, "migration 2: no such table: nowhere"));
    db = must_open(path);
    assert_int_equal(sv_db_read(db, tables, &n, &err), SV_OK);
    assert_int_equal(n, 1);
    sv_db_close(db);
}

static void read_whole(sv_buf *b, const char *path)
{
    sv_err err = {0};
    sv_buf_init(b, 0);
    assert_int_equal(sv_file_read(b, path, &err), SV_OK);
}

static void a_file_of_a_newer_release_is_left_alone(void **state)
{
    (void)state;
    char path[128];
    sv_err err = {0};
    sv_db *db = NULL;
    sv_buf before, after;
    snprintf(path, sizeof path, "%s", fresh());
    assert_int_equal(sv_db_open(&db, path, two, 2, &err), SV_OK);
    sv_db_close(db);
    db = NULL;
    read_whole(&before, path);
    assert_int_equal(sv_db_open(&db, path, notes, 1, &err), SV_ECONFLICT);
    assert_null(db);
    assert_non_null(strstr(err.msg, "version 2, this one knows 1"));
    read_whole(&after, path);
    assert_true(sv_str_eq(sv_buf_str(&before), sv_buf_str(&after)));
    sv_buf_done(&before);
    sv_buf_done(&after);
}

static sv_rc two_rows(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    return sv_stmt_prep(&q, w, "INSERT INTO notes (id) VALUES (7), (9)", err) == SV_OK ? sv_stmt_run(&q, err) : err->code;
}

static void copy_file(const char *from, const char *to)
{
    sv_err err = {0};
    sv_buf b;
    read_whole(&b, from);
    assert_int_equal(sv_file_replace(to, b.p, b.n, 0600, &err), SV_OK);
    sv_buf_done(&b);
}

static bool same_bytes(const char *a, const char *b)
{
    sv_buf x, y;
    read_whole(&x, a);
    read_whole(&y, b);
    bool same = sv_str_eq(sv_buf_str(&x), sv_buf_str(&y));
    sv_buf_done(&x);
    sv_buf_done(&y);
    return same;
}

/* As a crash leaves it: file and log. */
static void the_log_of_a_newer_release_is_left_alone_too(void **state)
{
    (void)state;
    char path[128], crashed[128];
    sv_err err = {0};
    sv_db *db = NULL, *old = NULL;
    snprintf(path, sizeof path, "%s", fresh());
    snprintf(crashed, sizeof crashed, "%s", fresh());
    SV_AUTO(sv_freep) char *wal = sv_xasprintf("%s-wal", path), *crashed_wal = sv_xasprintf("%s-wal", crashed);
    assert_int_equal(sv_db_open(&db, path, two, 2, &err), SV_OK);
    assert_int_equal(sv_db_write(db, two_rows, NULL, &err), SV_OK);
    copy_file(path, crashed);
    copy_file(wal, crashed_wal);
    assert_int_equal(sv_db_open(&old, crashed, notes, 1, &err), SV_ECONFLICT);
    assert_true(same_bytes(path, crashed) && same_bytes(wal, crashed_wal));
    sv_db_close(db);
    assert_int_equal(sv_db_open(&db, crashed, two, 2, &err), SV_OK); /* and the newer one finds it all */
    assert_int_equal(count(db), 2);
    sv_db_close(db);
}

static void damage(const char *path, const sv_buf *good, size_t keep, size_t at, uint8_t with)
{
    sv_err err = {0};
    SV_AUTO(sv_freep) char *bytes = sv_xcalloc(1, good->n);
    memcpy(bytes, good->p, good->n);
    if (at < keep)
        memset(bytes + at, with, 64 < keep - at ? 64 : keep - at);
    assert_int_equal(sv_file_replace(path, bytes, keep, 0600, &err), SV_OK);
}

static void a_damaged_file_is_refused_with_a_sentence(void **state)
{
    (void)state;
    char path[128];
    sv_db *db = NULL;
    sv_buf good;
    snprintf(path, sizeof path, "%s", fresh());
    db = must_open(path);
    for (int i = 0; i < 400; i++) {
        char text[64];
        snprintf(text, sizeof text, "a note of some length, number %d", i);
        assert_int_equal(add(db, 0, text), SV_OK);
    }
    sv_db_close(db);
    read_whole(&good, path);
    assert_true(good.n > 5 * 4096);
    const struct { size_t keep, at; } cases[] = {
        {good.n, 0},            /* the header */
        {good.n, 100},          /* the schema's page */
        {good.n, 2 * 4096},     /* a tree page's head */
        {good.n - 4096, good.n}, /* a page is missing */
        {good.n / 2, good.n},
        {50, good.n},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        sv_err err = {0};
        db = NULL;
        damage(path, &good, cases[i].keep, cases[i].at, 0xff);
        if (sv_db_open(&db, path, notes, 1, &err) != SV_EFORMAT)
            fail_msg("case %zu: %s '%s'", i, sv_rc_name(err.code), err.msg);
        assert_null(db);
        assert_non_null(strstr(err.msg, path));
    }
    damage(path, &good, good.n, good.n, 0);
    db = must_open(path);
    assert_int_equal(count(db), 400);
    sv_db_close(db);
    sv_buf_done(&good);
}

static void a_path_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = NULL;
    assert_int_equal(sv_db_open(&db, "/nonexistent/x.db", notes, 1, &err), SV_ENOENT);
    assert_int_not_equal(sv_db_open(&db, dir, notes, 1, &err), SV_OK); /* a folder */
    assert_null(db);
}

/* ---- full disk, no memory ---- */

static void a_full_disk_refuses_writes_and_keeps_the_rest(void **state)
{
    (void)state;
    sv_err err = {0};
    char path[128];
    snprintf(path, sizeof path, "%s", fresh());
    sv_db *db = must_open(path);
    for (int i = 1; i <= 20; i++)
        assert_int_equal(add(db, i, NULL), SV_OK);
    long long normal = atomic_exchange(&disk.room, 10000);
    int64_t kept = 20;
    sv_rc rc = SV_OK;
    for (int i = 0; i < 20 && rc == SV_OK; i++) {
        rc = sv_db_write(db, add_note, &(note){.body_bytes = 3000}, &err);
        kept += rc == SV_OK;
    }
    assert_int_equal(rc, SV_ELIMIT);
    assert_string_equal(err.msg, "database or disk is full");
    assert_true(sv_err_is_ours(&err));
    assert_int_equal(count(db), kept); /* readable, and exactly what was acknowledged */
    assert_int_equal(sv_db_write(db, add_note, &(note){.body_bytes = 3 << 20}, &err), SV_ELIMIT); /* more than the page cache: spills */
    assert_int_equal(count(db), kept);
    db = sv_db_close(db); /* also while it is full */
    atomic_store(&disk.room, normal);
    db = must_open(path);
    assert_int_equal(count(db), kept);
    assert_int_equal(add(db, 0, "again"), SV_OK);
    assert_whole(db);
    sv_db_close(db);
}

static void without_memory_a_write_fails_whole(void **state)
{
    (void)state;
    sv_db *db = must_open(fresh());
    assert_int_equal(add(db, 0, "first"), SV_OK);
    int64_t kept = 1;
    int failures = 0;
    for (long long left = 0; left < 3000; left += 1 + left / 16) {
        sv_err err = {0};
        char text[32];
        snprintf(text, sizeof text, "%lld", left);
        atomic_store(&memory.left, left);
        sv_rc rc = sv_db_write(db, add_note, &(note){.text = text, .body_bytes = 20000}, &err);
        atomic_store(&memory.left, 1ll << 50);
        assert_true(rc == SV_OK || rc == SV_ENOMEM);
        kept += rc == SV_OK;
        failures += rc == SV_ENOMEM;
        assert_int_equal(count(db), kept);
    }
    assert_true(failures > 3 && kept > 2);
    assert_whole(db);
    sv_db_close(db);
}

static void without_memory_open_and_read_fail_cleanly(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s", fresh());
    sv_db_close(must_open(path));
    int opened = 0, refused = 0;
    for (long long left = 0; left < 3000; left += 1 + left / 16) {
        sv_err err = {0};
        sv_db *db = NULL;
        int64_t n = 0;
        atomic_store(&memory.left, left);
        sv_rc rc = sv_db_open(&db, path, notes, 1, &err);
        if (rc == SV_OK && sv_db_read(db, count_notes, &n, &err) == SV_OK)
            opened++;
        atomic_store(&memory.left, 1ll << 50);
        refused += rc == SV_ENOMEM;
        if (rc != SV_OK && rc != SV_ENOMEM)
            fail_msg("%lld: %s", left, err.msg);
        if (db)
            assert_int_equal(count(db), 0);
        sv_db_close(db);
    }
    assert_true(opened > 3 && refused > 3);
}

/* ---- backup ---- */

static void *write_on(void *arg)
{
    job *j = arg;
    for (int i = 0; i < 200 && j->rc == SV_OK; i++)
        j->rc = add(j->db, 0, NULL);
    return NULL;
}

static void a_backup_taken_under_writes_opens_whole(void **state)
{
    (void)state;
    sv_err err = {0};
    sv_db *db = must_open(fresh()), *copy;
    char to[128];
    snprintf(to, sizeof to, "%s", fresh());
    for (int i = 0; i < 50; i++)
        add(db, 0, NULL);
    job j = {.db = db};
    pthread_create(&j.thread, NULL, write_on, &j);
    assert_int_equal(sv_db_backup(db, to, &err), SV_OK);
    pthread_join(j.thread, NULL);
    assert_int_equal(j.rc, SV_OK);
    copy = must_open(to);
    assert_in_range(count(copy), 50, 250);
    assert_whole(copy);
    sv_db_close(copy);
    assert_int_equal(sv_db_backup(db, to, &err), SV_ECONFLICT); /* never over something */
    assert_int_equal(count(db), 250);
    struct stat st;
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    long long normal = atomic_exchange(&disk.room, 4096);
    snprintf(to, sizeof to, "%s", fresh());
    assert_int_equal(sv_db_backup(db, to, &err), SV_ELIMIT);
    assert_false(sv_file_exists(to)); /* no half copy that looks like one */
    atomic_store(&disk.room, normal);
    sv_db_close(db);
}

/* ---- kill -9 and power cuts ---- */

enum { CRASH_WRITERS = 4 };
static const char *const pairs[] = {"CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY, fill BLOB);"};

typedef struct crasher { sv_db *db; int pipe; int64_t id; pthread_t thread; } crasher;

static sv_rc add_pair(sv_dbw *w, void *arg, sv_err *err)
{
    static const char fill[900];
    SV_AUTO(sv_stmt_donep) sv_stmt a = {0}, b = {0};
    if (sv_stmt_prep(&a, w, "INSERT INTO a VALUES (?1)", err) != SV_OK ||
        sv_stmt_prep(&b, w, "INSERT INTO b VALUES (?1, ?2)", err) != SV_OK)
        return err->code;
    sv_bind_i64(&a, 1, *(int64_t *)arg);
    sv_bind_i64(&b, 1, *(int64_t *)arg);
    sv_bind_blob(&b, 2, fill, sizeof fill);
    return sv_stmt_run(&a, err) == SV_OK ? sv_stmt_run(&b, err) : err->code;
}

static void *write_until_killed(void *arg)
{
    crasher *c = arg;
    sv_err err = {0};
    for (;; c->id += CRASH_WRITERS) {
        if (sv_db_write(c->db, add_pair, &c->id, &err) != SV_OK)
            _exit(3);
        if (write(c->pipe, &c->id, sizeof c->id) != sizeof c->id) /* the acknowledgement; whole, being short */
            _exit(4);
    }
    return NULL;
}

/* The log goes into the file every few pages, so that crashes meet that too. */
static sv_rc checkpoint_often(sv_dbw *w, void *arg, sv_err *err)
{
    (void)arg, (void)err;
    sqlite3_wal_autocheckpoint(sv_dbw_handle(w), 10);
    return SV_OK;
}

/* In the child. `cut_us` >= 0: it cuts its own power then, else it waits to be killed. */
static _Noreturn void crash_child(const char *path, int out, int64_t first_id, int cut_us, unsigned seed)
{
    sv_db *db = NULL;
    sv_err err = {0};
    disk.keep_undo = cut_us >= 0;
    if (sv_db_open(&db, path, pairs, 1, &err) != SV_OK || sv_db_write(db, checkpoint_often, NULL, &err) != SV_OK)
        _exit(2);
    crasher c[CRASH_WRITERS];
    for (int i = 0; i < CRASH_WRITERS; i++) {
        c[i] = (crasher){.db = db, .pipe = out, .id = first_id + i};
        pthread_create(&c[i].thread, NULL, write_until_killed, &c[i]);
    }
    if (cut_us >= 0) {
        usleep((useconds_t)cut_us);
        power_cut(seed);
    }
    for (;;)
        pause();
}

typedef struct acked { int64_t v[100000]; int n; } acked;

static void read_acks(int fd, acked *k)
{
    for (ssize_t n; k->n < (int)SV_LEN(k->v) && (n = read(fd, &k->v[k->n], sizeof k->v[0])) > 0;)
        k->n += n == (ssize_t)sizeof k->v[0];
}

static sv_rc has_pair(sv_dbw *r, void *arg, sv_err *err)
{
    const acked *k = arg;
    int64_t orphans = 0;
    bool row = false;
    SV_AUTO(sv_stmt_donep) sv_stmt q = {0};
    if (sv_stmt_prep(&q, r, "SELECT 1 FROM a JOIN b USING (id) WHERE id = ?1", err) != SV_OK)
        return err->code;
    for (int i = 0; i < k->n; i++, sv_stmt_reset(&q)) {
        sv_bind_i64(&q, 1, k->v[i]);
        if (sv_stmt_step(&q, &row, err) != SV_OK)
            return err->code;
        if (!row)
            return sv_fail(err, SV_ENOENT, "row %lld was acknowledged and is not there", (long long)k->v[i]);
    }
    if (one_number(r, "SELECT (SELECT count(*) FROM a) - (SELECT count(*) FROM b)", &orphans, err) != SV_OK)
        return err->code;
    return orphans == 0 ? SV_OK : sv_fail(err, SV_EFORMAT, "%lld halves of pairs", (long long)orphans);
}

/* One crash: SV_OK when everything acknowledged so far (*k, over all rounds) is there and the file is whole. */
static sv_rc crash_once(const char *path, acked *k, int64_t first_id, bool power, int after_us, unsigned seed, sv_err *err)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        crash_child(path, fds[1], first_id, power ? after_us : -1, seed);
    close(fds[1]);
    if (!power) {
        poll(&(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, 5000);
        usleep((useconds_t)after_us);
        kill(pid, SIGKILL);
    }
    read_acks(fds[0], k);
    close(fds[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (power ? !WIFEXITED(status) || WEXITSTATUS(status) != 0 : !WIFSIGNALED(status))
        return sv_fail(err, SV_EIO, "the child ended by itself: %#x", (unsigned)status);
    SV_AUTO(sv_db_closep) sv_db *db = NULL;
    if (sv_db_open(&db, path, pairs, 1, err) != SV_OK || sv_db_read(db, has_pair, k, err) != SV_OK)
        return err->code;
    return sv_db_read(db, integrity, NULL, err);
}

static sv_rc crash_often(int rounds, bool power, acked *k, sv_err *err)
{
    char path[128];
    unsigned seed = (unsigned)sv_mono_us();
    snprintf(path, sizeof path, "%s", fresh());
    for (int i = 0; i < rounds; i++) {
        int after_us = power ? 5000 + rand_r(&seed) % 60000 : rand_r(&seed) % 40000;
        if (crash_once(path, k, 1 + i * 1000000ll, power, after_us, seed, err) != SV_OK)
            return sv_wrap(err, "round %d", i);
    }
    return SV_OK;
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    sv_err err = {0};
    acked *k = sv_xnew0(acked);
    if (crash_often(30, false, k, &err) != SV_OK)
        fail_msg("%s", err.msg);
    print_message("           %d acknowledged rows, 30 kills\n", k->n);
    assert_true(k->n > 100);
    free(k);
}

static void what_was_acknowledged_survives_a_power_cut(void **state)
{
    (void)state;
    sv_err err = {0};
    acked *k = sv_xnew0(acked);
    if (crash_often(30, true, k, &err) != SV_OK)
        fail_msg("%s", err.msg);
    print_message("           %d acknowledged rows, 30 power cuts\n", k->n);
    assert_true(k->n > 100);
    free(k);
}

/* The test above can fail: on a disk that only says it has synced, acknowledged rows do go. */
static void a_disk_that_lies_about_syncs_is_caught_by_that_test(void **state)
{
    (void)state;
    sv_err err = {0};
    acked *k = sv_xnew0(acked);
    atomic_store(&disk.lies, true);
    sv_rc rc = crash_often(10, true, k, &err);
    atomic_store(&disk.lies, false);
    assert_int_not_equal(rc, SV_OK);
    free(k);
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
    faulty_memory_install();
    faulty_disk_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_also_after_a_restart),
        cmocka_unit_test(files_are_for_the_owner_alone),
        cmocka_unit_test(a_refused_write_leaves_its_words_and_nothing_else),
        cmocka_unit_test(writes_that_wait_share_one_sync),
        cmocka_unit_test(jobs_hold_no_thread_and_share_one_sync),
        cmocka_unit_test(one_that_fails_takes_nothing_of_its_group),
        cmocka_unit_test(one_that_fills_the_disk_takes_nothing_of_its_group),
        cmocka_unit_test(a_function_that_ends_the_transaction_itself_is_told),
        cmocka_unit_test(two_databases_on_one_file_wait_for_each_other),
        cmocka_unit_test(close_waits_for_the_writes_in_progress),
        cmocka_unit_test(a_reader_sees_one_moment_and_stops_no_writer),
        cmocka_unit_test(a_reader_cannot_write),
        cmocka_unit_test(more_readers_than_connections_take_turns),
        cmocka_unit_test(statements),
        cmocka_unit_test(an_old_file_is_migrated_once),
        cmocka_unit_test(a_migration_that_fails_leaves_the_file_as_it_was),
        cmocka_unit_test(a_file_of_a_newer_release_is_left_alone),
        cmocka_unit_test(the_log_of_a_newer_release_is_left_alone_too),
        cmocka_unit_test(a_damaged_file_is_refused_with_a_sentence),
        cmocka_unit_test(a_path_that_cannot_be_is_an_error),
        cmocka_unit_test(a_full_disk_refuses_writes_and_keeps_the_rest),
        cmocka_unit_test(without_memory_a_write_fails_whole),
        cmocka_unit_test(without_memory_open_and_read_fail_cleanly),
        cmocka_unit_test(a_backup_taken_under_writes_opens_whole),
        cmocka_unit_test(what_was_acknowledged_survives_kill_9),
        cmocka_unit_test(what_was_acknowledged_survives_a_power_cut),
        cmocka_unit_test(a_disk_that_lies_about_syncs_is_caught_by_that_test),
    };
    return cmocka_run_group_tests_name("db", tests, make_dir, remove_dir);
}
