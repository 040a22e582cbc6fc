/* Tests of deliver.h: when a batch goes out, what becomes of its messages, how many are out at once. The Worker is a function here. */
#include "queues/deliver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/time.h"

static char dir[] = "/tmp/sv-deliver-test-XXXXXX";
static sv_loop *loop;
static sv_jobs *jobs;
static sv_queues *q;
static sv_queues_info info;
static sv_deliver *deliver;
static sv_err err;

/* What the Worker was given, and what it will say. */
static struct {
    char seen[2000];    /* "a.1 b.1|a.2": bodies and attempts, batches apart */
    int n_batches, n_out, most_out, answer_at; /* answers once that many are out */
    const char *answer; /* JSON; "%1" is the id of the batch's first message, "%2" of its second */
    sv_rc rc;
    struct { sv_deliver_done done; void *arg; char answer[600]; } out[20];
    int n_waiting;
} w;

static void answer_one(void *arg)
{
    int i = (int)(intptr_t)arg;
    SV_AUTO(sv_json_decrefp) json_t *a = json_loads(w.out[i].answer, 0, NULL);
    sv_err why = {0};
    w.n_out--;
    if (w.rc != SV_OK)
        sv_fail(&why, w.rc, "the test says so");
    w.out[i].done(w.out[i].arg, w.rc, w.rc == SV_OK ? a : NULL, &why);
}

static void answer_all(void)
{
    for (int i = 0; i < w.n_waiting; i++)
        sv_loop_post(loop, answer_one, (void *)(intptr_t)i);
    w.n_waiting = 0;
}

static const char *id_of(const json_t *messages, size_t i)
{
    const char *id = sv_json_cstr(json_array_get(messages, i), "id");
    return id ? id : "";
}

static void compose(char *out, size_t n, const json_t *messages)
{
    size_t k = 0;
    for (const char *p = w.answer; *p && k + 34 < n; p++)
        if (*p == '%') {
            k += (size_t)snprintf(out + k, n - k, "%s", id_of(messages, (size_t)(*++p - '1')));
        } else {
            out[k++] = *p;
        }
    out[k] = 0;
}

static void invoke(void *ctx, const char *account, const char *script, sv_buf *body, sv_deliver_done done, void *arg)
{
    (void)ctx;
    assert_string_equal(account, "acc");
    assert_string_equal(script, "worker");
    SV_AUTO(sv_json_decrefp) json_t *event = json_loads(sv_buf_cstr(body), 0, NULL);
    sv_buf_done(body);
    const json_t *messages = json_object_get(event, "messages");
    assert_string_equal(sv_json_cstr(event, "queue"), "jobs");
    size_t i, n = strlen(w.seen);
    json_t *m;
    json_array_foreach ((json_t *)(uintptr_t)messages, i, m) {
        SV_AUTO(sv_buf_donep) sv_buf text;
        sv_buf_init(&text, 0);
        assert_int_equal(sv_base64_decode(&text, sv_str_of(sv_json_cstr(m, "body")), &err), SV_OK);
        n += (size_t)snprintf(w.seen + n, sizeof w.seen - n, "%s%s.%lld", i ? " " : n ? "|" : "", sv_buf_cstr(&text),
                              (long long)json_integer_value(json_object_get(m, "attempts")));
    }
    w.n_batches++;
    if (++w.n_out > w.most_out)
        w.most_out = w.n_out;
    compose(w.out[w.n_waiting].answer, sizeof w.out[0].answer, messages);
    w.out[w.n_waiting].done = done;
    w.out[w.n_waiting++].arg = arg;
    if (w.n_out >= w.answer_at)
        answer_all();
}

static int start(void **state)
{
    (void)state;
    sv_err e = {0};
    memset(&w, 0, sizeof w);
    w.answer = "{\"outcome\":\"ok\"}";
    w.answer_at = 1;
    assert_int_equal(sv_remove_tree(dir, &e), SV_OK);
    loop = sv_loop_new();
    jobs = sv_jobs_new(2, 16);
    assert_int_equal(sv_queues_open(&q, &(sv_queues_opts){.data_dir = dir}, &e), SV_OK);
    assert_int_equal(sv_queues_create(q, SV_STR("acc"), SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &info, &e), SV_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    jobs = sv_jobs_free(jobs);
    q = sv_queues_close(q);
    deliver = sv_deliver_free(deliver);
    loop = sv_loop_free(loop);
    return 0;
}

static void consumer(int64_t batch, int64_t wait_ms, int64_t concurrency, int64_t max_retries)
{
    sv_queues_consumer c = {.kind = SV_QUEUES_WORKER, .script = "worker"};
    sv_queues_consumer_defaults(&c);
    c.batch = batch;
    c.wait_ms = wait_ms;
    c.concurrency = concurrency;
    c.max_retries = max_retries;
    if (sv_queues_set_consumer(q, SV_STR("acc"), sv_str_of(info.id), &c, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void send(const char *texts) /* "a b c" */
{
    sv_queues_msg m[100];
    size_t n = 0;
    char copy[600];
    snprintf(copy, sizeof copy, "%s", texts);
    for (char *save, *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
        m[n++] = (sv_queues_msg){.body = sv_str_of(t), .type = SV_QUEUES_TEXT, .delay_s = -1};
    if (sv_queues_send(q, SV_STR("acc"), sv_str_of(info.id), m, n, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int64_t backlog(void)
{
    sv_queues_info i;
    assert_int_equal(sv_queues_find_no(q, info.no, &i, &err), SV_OK);
    return i.n;
}

static void end_loop(void *arg)
{
    (void)arg;
    sv_loop_stop(loop);
}

/* Runs the loop for a while. */
static void run_for(int64_t ms)
{
    sv_timer *t = sv_timer_new(loop, end_loop, NULL);
    sv_timer_set(t, ms);
    sv_loop_run(loop);
    sv_timer_free(t);
}

static void until_backlog(int64_t n)
{
    for (int i = 0; i < 500 && backlog() != n; i++)
        run_for(10);
    assert_int_equal(backlog(), n);
    run_for(20);
}

static void begin(void) { deliver = sv_deliver_new(&(sv_deliver_opts){.queues = q, .loop = loop, .jobs = jobs, .invoke = invoke}); }

/* ---- */

static void a_full_batch_goes_out_at_once_and_the_rest_after_its_wait(void **state)
{
    (void)state;
    consumer(2, 300, 1, 3);
    begin();
    int64_t before = sv_mono_ms();
    send("a b c");
    until_backlog(1);
    assert_string_equal(w.seen, "a.1 b.1");
    until_backlog(0);
    assert_string_equal(w.seen, "a.1 b.1|c.1");
    assert_true(sv_mono_ms() - before >= 300);
}

static void what_lay_there_before_we_began_goes_out_too(void **state)
{
    (void)state;
    send("a b");
    consumer(10, 0, 0, 3);
    begin();
    until_backlog(0);
    assert_string_equal(w.seen, "a.1 b.1");
}

static void each_message_is_judged_for_itself(void **state)
{
    (void)state;
    consumer(3, 0, 1, 1);
    w.answer = "{\"outcome\":\"ok\",\"explicitAcks\":[\"%1\"],\"retryMessages\":[{\"msgId\":\"%2\"}]}";
    send("a b c");
    begin();
    until_backlog(0); /* b comes again, where it is first and is done */
    assert_string_equal(w.seen, "a.1 b.1 c.1|b.2");
}

static void a_batch_that_fails_is_retried_but_for_what_was_acknowledged(void **state)
{
    (void)state;
    consumer(3, 0, 1, 1);
    w.answer = "{\"outcome\":\"exception\",\"explicitAcks\":[\"%1\"]}";
    send("a b c");
    begin();
    until_backlog(0);
    assert_string_equal(w.seen, "a.1 b.1 c.1|b.2 c.2"); /* then b is acknowledged, and c has had its one retry */
}

static void retry_all_and_ack_all_are_for_the_whole_batch(void **state)
{
    (void)state;
    consumer(2, 0, 1, 1);
    w.answer = "{\"outcome\":\"ok\",\"retryBatch\":{\"retry\":true}}";
    send("a b");
    begin();
    until_backlog(0);
    assert_string_equal(w.seen, "a.1 b.1|a.2 b.2");
    w.answer = "{\"outcome\":\"exception\",\"ackAll\":true}";
    send("c d");
    until_backlog(0);
    assert_string_equal(w.seen, "a.1 b.1|a.2 b.2|c.1 d.1");
}

static void a_process_that_dies_costs_one_attempt(void **state)
{
    (void)state;
    consumer(2, 0, 1, 1);
    w.rc = SV_EIO;
    send("a");
    begin();
    until_backlog(0);
    assert_string_equal(w.seen, "a.1|a.2");
}

static void a_worker_that_is_not_there_costs_none(void **state)
{
    (void)state;
    consumer(2, 0, 1, 0);
    w.rc = SV_ENOENT;
    send("a");
    begin();
    run_for(200);
    assert_string_equal(w.seen, "a.1"); /* and it is not asked again at once */
    assert_int_equal(backlog(), 1);
    sv_queues_info i;
    assert_int_equal(sv_queues_find_no(q, info.no, &i, &err), SV_OK);
    assert_int_equal(i.n_ready, 1);
}

static void only_so_many_batches_are_out_at_once(void **state)
{
    (void)state;
    consumer(1, 0, 3, 1);
    w.answer_at = 3;
    send("a b c d e f");
    begin();
    until_backlog(0);
    assert_int_equal(w.most_out, 3);
    assert_int_equal(w.n_batches, 6);
}

static void an_answer_that_makes_no_sense_is_a_failure(void **state)
{
    (void)state;
    consumer(1, 0, 1, 0);
    w.answer = "{\"explicitAcks\":7,\"retryMessages\":{\"x\":1},\"retryBatch\":[]}";
    send("a");
    begin();
    until_backlog(0);
    assert_string_equal(w.seen, "a.1"); /* dropped: it has no retry and no dead letter queue */
}

static void set_true(void *arg) { *(bool *)arg = true; }

static void a_drain_waits_for_what_is_out_and_begins_nothing(void **state)
{
    (void)state;
    bool done = false;
    consumer(1, 0, 1, 3);
    w.answer_at = 100; /* it does not answer by itself */
    send("a b");
    begin();
    for (int i = 0; i < 200 && w.n_out == 0; i++)
        run_for(10);
    sv_deliver_drain(deliver, set_true, &done);
    run_for(50);
    assert_false(done);
    answer_all();
    for (int i = 0; i < 200 && !done; i++)
        run_for(10);
    assert_true(done);
    assert_string_equal(w.seen, "a.1");
    assert_int_equal(backlog(), 1);
}

static void a_queue_that_is_deleted_or_paused_is_left_alone(void **state)
{
    (void)state;
    consumer(1, 0, 1, 3);
    assert_int_equal(sv_queues_update(q, SV_STR("acc"), sv_str_of(info.id), (sv_str){0}, &(sv_queues_settings){-1, -1, 1}, &info, &err), SV_OK);
    send("a");
    begin();
    run_for(100);
    assert_int_equal(w.n_batches, 0);
    assert_int_equal(sv_queues_update(q, SV_STR("acc"), sv_str_of(info.id), (sv_str){0}, &(sv_queues_settings){-1, -1, 0}, &info, &err), SV_OK);
    until_backlog(0);
    assert_int_equal(w.n_batches, 1);
    assert_int_equal(sv_queues_delete(q, SV_STR("acc"), sv_str_of(info.id), &err), SV_OK);
    run_for(50);
    assert_int_equal(w.n_batches, 1);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(a_full_batch_goes_out_at_once_and_the_rest_after_its_wait), T(what_lay_there_before_we_began_goes_out_too), T(each_message_is_judged_for_itself),
        T(a_batch_that_fails_is_retried_but_for_what_was_acknowledged), T(retry_all_and_ack_all_are_for_the_whole_batch),
        T(a_process_that_dies_costs_one_attempt), T(a_worker_that_is_not_there_costs_none), T(only_so_many_batches_are_out_at_once),
        T(an_answer_that_makes_no_sense_is_a_failure), T(a_drain_waits_for_what_is_out_and_begins_nothing), T(a_queue_that_is_deleted_or_paused_is_left_alone),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sv_err ignore = {0};
    return sv_remove_tree(dir, &ignore) == SV_OK ? failed : 1;
}
