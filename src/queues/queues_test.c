/* Tests of queues.h: the normal use first, then delays, verdicts, dead letters, leases, expiry, refusals, crashes. The clock is ours. */
#include "queues/queues.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/mem.h"

#define ACCOUNT SV_STR("acc1")

static char dir[] = "/tmp/sv-queues-test-XXXXXX";
static sv_queues *q;
static sv_queues_info info;
static sv_err err;
static _Atomic int64_t clock_ms = 1700000000000;
static _Atomic int n_changed;

static int64_t now(void) { return atomic_load(&clock_ms); }
static void changed(void *ctx, int64_t queue)
{
    (void)ctx;
    (void)queue;
    atomic_fetch_add(&n_changed, 1);
}

static void open_store(void)
{
    err = (sv_err){0};
    if (sv_queues_open(&q, &(sv_queues_opts){.data_dir = dir, .now_ms = now, .changed = changed}, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int start(void **state)
{
    (void)state;
    sv_err e = {0};
    assert_int_equal(sv_remove_tree(dir, &e), SV_OK);
    open_store();
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &info, &err), SV_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    q = sv_queues_close(q);
    return 0;
}

static void again(void)
{
    q = sv_queues_close(q);
    open_store();
}

static sv_queues_info look(const char *name)
{
    sv_queues_info i;
    if (sv_queues_find_name(q, ACCOUNT, sv_str_of(name), &i, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return i;
}

static void send_delayed(const char *text, int64_t delay_s)
{
    sv_queues_msg m = {.body = sv_str_of(text), .type = SV_QUEUES_TEXT, .delay_s = delay_s};
    if (sv_queues_send(q, ACCOUNT, sv_str_of(info.id), &m, 1, &err) != SV_OK)
        fail_msg("%s", err.msg);
}
static void send(const char *text) { send_delayed(text, -1); }

typedef struct seen { char text[400]; int64_t no[100], attempts[100], lease[100], sent[100]; size_t n; } seen;

static void see(void *arg, const sv_queues_item *it)
{
    seen *s = arg;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s%.*s", n ? " " : "", (int)(it->body.n < 20 ? it->body.n : 20), it->body.p);
    assert_int_equal(strlen(it->id), 32);
    s->no[s->n] = it->no;
    s->lease[s->n] = it->lease;
    s->sent[s->n] = it->sent_ms;
    s->attempts[s->n++] = it->attempts;
}

static seen read_from(const char *name, int64_t from, int64_t limit)
{
    seen s = {.n = 0};
    int64_t next;
    assert_int_equal(sv_queues_read(q, look(name).no, from, limit, see, &s, &next, &err), SV_OK);
    assert_true(next == (s.n ? s.no[s.n - 1] + 1 : from));
    return s;
}

static seen lease(int64_t limit, int64_t ms)
{
    seen s = {.n = 0};
    if (sv_queues_lease(q, info.no, limit, ms, see, &s, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return s;
}

static bool settle(int64_t no, int64_t its_lease, bool retry, int64_t delay_s)
{
    sv_queues_verdict v = {.no = no, .lease = its_lease, .retry = retry, .delay_s = delay_s};
    sv_queues_write w = {.op = SV_QUEUES_SETTLE, .queue = info.no, .verdicts = &v, .n = 1};
    if (sv_queues_apply(q, &w, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return v.found;
}

static void pass(int64_t ms)
{
    atomic_fetch_add(&clock_ms, ms);
    assert_int_equal(sv_queues_tick(q, &err), SV_OK);
}

static void consumer(sv_queues_kind kind, int64_t max_retries, const char *dead)
{
    sv_queues_consumer c = {.kind = kind};
    sv_queues_consumer_defaults(&c);
    c.max_retries = max_retries;
    snprintf(c.script, sizeof c.script, "worker");
    snprintf(c.dead_letter, sizeof c.dead_letter, "%s", dead);
    if (sv_queues_set_consumer(q, ACCOUNT, sv_str_of(info.id), &c, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static void backlog_is(const char *name, int64_t n, int64_t ready, int64_t bytes)
{
    sv_queues_info i = look(name);
    assert_int_equal(i.n, n);
    assert_int_equal(i.n_ready, ready);
    assert_int_equal(i.bytes, bytes);
    assert_int_equal(i.oldest_ms != 0, n != 0);
}

/* ---- */

static void messages_come_in_the_order_of_their_arrival_and_stay_until_they_are_done(void **state)
{
    (void)state;
    assert_int_equal(read_from("jobs", 0, 10).n, 0);
    backlog_is("jobs", 0, 0, 0);
    int before = atomic_load(&n_changed);
    send("a");
    send("bb");
    send("ccc");
    assert_true(atomic_load(&n_changed) > before);
    backlog_is("jobs", 3, 3, 6);
    seen s = read_from("jobs", 0, 10);
    assert_string_equal(s.text, "a bb ccc");
    assert_int_equal(s.attempts[0], 1);
    assert_int_equal(s.sent[0], now());
    assert_string_equal(read_from("jobs", s.no[0] + 1, 10).text, "bb ccc");
    assert_string_equal(read_from("jobs", 0, 2).text, "a bb");
    assert_true(settle(s.no[1], 0, false, -1));
    assert_false(settle(s.no[1], 0, false, -1)); /* once more is nothing */
    again();
    assert_string_equal(read_from("jobs", 0, 10).text, "a ccc");
    backlog_is("jobs", 2, 2, 4);
}

static void what_is_retried_comes_again_behind_the_others_with_a_higher_attempt(void **state)
{
    (void)state;
    consumer(SV_QUEUES_WORKER, 3, "");
    send("a");
    send("b");
    seen s = read_from("jobs", 0, 10);
    settle(s.no[0], 0, true, -1);
    seen t = read_from("jobs", s.no[1] + 1, 10); /* where a reader goes on that has read both */
    assert_string_equal(t.text, "a");
    assert_int_equal(t.attempts[0], 2);
    assert_string_equal(read_from("jobs", 0, 10).text, "b a");
    settle(t.no[0], 0, true, 7);
    backlog_is("jobs", 2, 1, 2);
    pass(6999);
    assert_string_equal(read_from("jobs", 0, 10).text, "b");
    pass(1);
    t = read_from("jobs", t.no[0] + 1, 10);
    assert_string_equal(t.text, "a");
    assert_int_equal(t.attempts[0], 3);
    backlog_is("jobs", 2, 2, 2);
}

static void a_delayed_message_comes_when_it_is_due_also_after_a_restart(void **state)
{
    (void)state;
    send_delayed("later", 60);
    send("now");
    assert_string_equal(read_from("jobs", 0, 10).text, "now");
    backlog_is("jobs", 2, 1, 8);
    again();
    backlog_is("jobs", 2, 1, 8);
    pass(59000);
    assert_string_equal(read_from("jobs", 0, 10).text, "now");
    pass(1000);
    assert_string_equal(read_from("jobs", 0, 10).text, "now later");
    sv_queues_settings s = {.delay_s = 5, .retention_s = -1, .paused = -1}; /* the queue's own, and 0 says: none */
    assert_int_equal(sv_queues_update(q, ACCOUNT, sv_str_of(info.id), (sv_str){0}, &s, &info, &err), SV_OK);
    send("slow");
    send_delayed("fast", 0);
    assert_string_equal(read_from("jobs", 0, 10).text, "now later fast");
    pass(5000);
    assert_string_equal(read_from("jobs", 0, 10).text, "now later fast slow");
}

static void after_its_last_retry_a_message_goes_to_the_dead_letter_queue(void **state)
{
    (void)state;
    consumer(SV_QUEUES_WORKER, 1, "dead");
    backlog_is("dead", 0, 0, 0); /* made with the consumer */
    send("poison");
    settle(read_from("jobs", 0, 1).no[0], 0, true, 0);
    seen s = read_from("jobs", 0, 1);
    assert_int_equal(s.attempts[0], 2);
    settle(s.no[0], 0, true, 0);
    backlog_is("jobs", 0, 0, 0);
    backlog_is("dead", 1, 1, 6);
    seen d = read_from("dead", 0, 1);
    assert_string_equal(d.text, "poison");
    assert_int_equal(d.attempts[0], 1);
    assert_int_equal(sv_queues_delete(q, ACCOUNT, sv_str_of(look("dead").id), &err), SV_OK);
    send("again"); /* with nowhere to go it is dropped */
    settle(read_from("jobs", 0, 1).no[0], 0, true, 0);
    settle(read_from("jobs", 0, 1).no[0], 0, true, 0);
    backlog_is("jobs", 0, 0, 0);
}

static void a_leased_message_is_nobody_elses_until_the_lease_ends(void **state)
{
    (void)state;
    consumer(SV_QUEUES_PULL, 3, "");
    send("a");
    send("b");
    seen s = lease(1, 30000);
    assert_string_equal(s.text, "a");
    assert_int_equal(s.attempts[0], 1);
    backlog_is("jobs", 2, 1, 2);
    assert_string_equal(lease(10, 30000).text, "b");
    assert_int_equal(lease(10, 30000).n, 0);
    again(); /* the holder outlives us */
    assert_int_equal(lease(10, 30000).n, 0);
    pass(30000);
    seen t = lease(1, 30000);
    assert_string_equal(t.text, "a");
    assert_int_equal(t.attempts[0], 2);
    assert_false(settle(s.no[0], s.lease[0], false, -1)); /* somebody else's by now */
    assert_true(settle(t.no[0], t.lease[0], false, -1));
    assert_string_equal(lease(10, 1000).text, "b");
    backlog_is("jobs", 1, 0, 1);
}

static void a_late_acknowledgement_counts_while_nobody_else_has_the_message(void **state)
{
    (void)state;
    consumer(SV_QUEUES_PULL, 3, "");
    send("a");
    seen s = lease(1, 1000);
    pass(2000);
    backlog_is("jobs", 1, 1, 1);
    assert_true(settle(s.no[0], s.lease[0], false, -1));
    backlog_is("jobs", 0, 0, 0);
    send("b");
    s = lease(1, 1000);
    assert_true(settle(s.no[0], s.lease[0], true, 5)); /* what is given back is given back */
    assert_false(settle(s.no[0], s.lease[0], false, -1));
    assert_int_equal(lease(1, 1000).n, 0);
    pass(5000);
    s = lease(1, 1000);
    assert_int_equal(s.attempts[0], 2);
}

static void leases_that_end_count_as_retries(void **state)
{
    (void)state;
    consumer(SV_QUEUES_PULL, 1, "dead");
    send("poison");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lease(1, 1000).attempts[0], i + 1);
        pass(1000);
    }
    assert_int_equal(lease(1, 1000).n, 0);
    backlog_is("dead", 1, 1, 6);
    backlog_is("jobs", 0, 0, 0);
}

static void lease_ids_are_read_back_and_nothing_else_is(void **state)
{
    (void)state;
    char text[SV_QUEUES_LEASE];
    sv_queues_item it = {.no = 77, .lease = 0x1234567890abcdef};
    sv_queues_verdict v;
    sv_queues_lease_text(&it, text);
    assert_true(sv_queues_lease_parse(sv_str_of(text), &v));
    assert_int_equal(v.no, 77);
    assert_int_equal(v.lease, it.lease);
    text[3] = text[3] == '0' ? '1' : '0';
    assert_false(sv_queues_lease_parse(sv_str_of(text), &v));
    assert_false(sv_queues_lease_parse(SV_STR(""), &v));
    assert_false(sv_queues_lease_parse((sv_str){0}, &v));
}

static void a_paused_queue_takes_messages_and_gives_none(void **state)
{
    (void)state;
    consumer(SV_QUEUES_PULL, 3, "");
    assert_int_equal(sv_queues_update(q, ACCOUNT, sv_str_of(info.id), (sv_str){0}, &(sv_queues_settings){-1, -1, 1}, &info, &err), SV_OK);
    send("a");
    assert_int_equal(lease(1, 1000).n, 0);
    again();
    assert_true(look("jobs").paused);
    assert_int_equal(sv_queues_update(q, ACCOUNT, sv_str_of(info.id), (sv_str){0}, &(sv_queues_settings){-1, -1, 0}, &info, &err), SV_OK);
    assert_int_equal(lease(1, 1000).n, 1);
}

static void a_purge_and_a_deletion_leave_nothing(void **state)
{
    (void)state;
    int64_t at = 0;
    sv_queues_msg m[100];
    for (size_t i = 0; i < 100; i++)
        m[i] = (sv_queues_msg){.body = SV_STR("x"), .delay_s = i % 2 ? 100 : 0};
    for (int i = 0; i < 12; i++)
        assert_int_equal(sv_queues_send(q, ACCOUNT, sv_str_of(info.id), m, 100, &err), SV_OK);
    backlog_is("jobs", 1200, 600, 1200);
    assert_int_equal(sv_queues_purge(q, ACCOUNT, sv_str_of(info.id), &at, &err), SV_OK);
    assert_int_equal(at, now());
    backlog_is("jobs", 0, 0, 0);
    send("a");
    assert_string_equal(read_from("jobs", 0, 10).text, "a");
    assert_int_equal(sv_queues_delete(q, ACCOUNT, sv_str_of(info.id), &err), SV_OK);
    assert_int_equal(sv_queues_find_name(q, ACCOUNT, SV_STR("jobs"), &info, &err), SV_ENOENT);
    assert_int_equal(err.api_code, 11000);
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &info, &err), SV_OK);
    assert_int_equal(read_from("jobs", 0, 10).n, 0);
    assert_int_equal(sv_queues_sweep(q, &err), SV_OK);
    again();
    backlog_is("jobs", 0, 0, 0);
}

static void a_message_is_kept_as_long_as_its_queue_keeps_messages(void **state)
{
    (void)state;
    assert_int_equal(sv_queues_update(q, ACCOUNT, sv_str_of(info.id), (sv_str){0}, &(sv_queues_settings){-1, 60, -1}, &info, &err), SV_OK);
    send("old");
    pass(30000);
    send("new");
    pass(30000);
    assert_int_equal(sv_queues_sweep(q, &err), SV_OK);
    assert_string_equal(read_from("jobs", 0, 10).text, "new");
    pass(30000);
    assert_int_equal(sv_queues_sweep(q, &err), SV_OK);
    backlog_is("jobs", 0, 0, 0);
}

static void batches_end_at_their_bytes(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *big = sv_xcalloc(1, 100001);
    memset(big, 'x', 100000);
    send(big);
    send(big);
    send(big);
    assert_int_equal(read_from("jobs", 0, 10).n, 2); /* 256 KB */
}

static void a_renamed_queue_is_found_by_its_new_name_only(void **state)
{
    (void)state;
    sv_queues_info i;
    char longer[200];
    send("a");
    assert_int_equal(sv_queues_update(q, ACCOUNT, sv_str_of(info.id), SV_STR("tasks"), &(sv_queues_settings){-1, -1, -1}, &i, &err), SV_OK);
    assert_int_equal(sv_queues_find_name(q, ACCOUNT, SV_STR("jobs"), &i, &err), SV_ENOENT);
    backlog_is("tasks", 1, 1, 1);
    again();
    backlog_is("tasks", 1, 1, 1);
    assert_int_equal(sv_queues_find_name(q, SV_STR("other"), SV_STR("tasks"), &i, &err), SV_ENOENT);
    memset(longer, 'x', sizeof longer);
    assert_int_equal(sv_queues_find_name(q, ACCOUNT, (sv_str){longer, sizeof longer}, &i, &err), SV_ENOENT);
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &i, &err), SV_OK);
}

static void what_makes_no_sense_is_refused_by_name(void **state)
{
    (void)state;
    SV_AUTO(sv_freep) char *big = sv_xcalloc(1, 128002);
    memset(big, 'x', 128001);
    sv_queues_msg m[101] = {{.body = sv_str_of(big), .delay_s = -1}};
    sv_queues_info i;
    assert_int_equal(sv_queues_check(m, 1, &err), SV_EINVAL);
    assert_string_equal(err.msg, "message length of 128001 bytes exceeds limit of 128000");
    assert_int_equal(sv_queues_status(&err), 413);
    for (int k = 0; k < 101; k++)
        m[k] = (sv_queues_msg){.body = SV_STR("x"), .delay_s = -1};
    assert_int_equal(sv_queues_check(m, 101, &err), SV_EINVAL);
    assert_string_equal(err.msg, "batch message count of 101 exceeds limit of 100");
    big[100000] = 0;
    for (int k = 0; k < 3; k++)
        m[k].body = (sv_str){big, 100000};
    assert_int_equal(sv_queues_check(m, 3, &err), SV_EINVAL);
    assert_string_equal(err.msg, "batch size of 300000 bytes exceeds limit of 288000");
    m[0].delay_s = 86401;
    assert_int_equal(sv_queues_check(m, 1, &err), SV_EINVAL);
    m[0] = (sv_queues_msg){.body = SV_STR("x"), .type = SV_QUEUES_TEXT};
    assert_int_equal(sv_queues_send(q, ACCOUNT, SV_STR("nobody"), m, 1, &err), SV_ENOENT);
    assert_int_equal(sv_queues_send(q, SV_STR("other"), sv_str_of(info.id), m, 1, &err), SV_ENOENT); /* not its queue */
    assert_int_equal(err.api_code, 11000);

    const char *names[] = {"", "-a", "a-", "a b", "a/b", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t k = 0; k < SV_LEN(names); k++) {
        assert_int_equal(sv_queues_create(q, ACCOUNT, sv_str_of(names[k]), &(sv_queues_settings){-1, -1, -1}, &i, &err), SV_EINVAL);
        assert_int_equal(err.api_code, 11003);
    }
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &i, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, 11009);
    assert_int_equal(sv_queues_create(q, SV_STR("other"), SV_STR("jobs"), &(sv_queues_settings){-1, -1, -1}, &i, &err), SV_OK);
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("x"), &(sv_queues_settings){-1, 59, -1}, &i, &err), SV_EINVAL);
    assert_int_equal(sv_queues_create(q, ACCOUNT, SV_STR("x"), &(sv_queues_settings){86401, -1, -1}, &i, &err), SV_EINVAL);
    assert_int_equal(err.api_code, 100128);
}

static void a_queue_has_one_consumer_with_settings_in_their_ranges(void **state)
{
    (void)state;
    consumer(SV_QUEUES_WORKER, 3, "");
    sv_queues_consumer c = look("jobs").consumer, d = {.kind = SV_QUEUES_PULL};
    sv_queues_consumer_defaults(&d);
    assert_int_equal(sv_queues_set_consumer(q, ACCOUNT, sv_str_of(info.id), &d, &err), SV_ECONFLICT);
    assert_int_equal(err.api_code, 11004);
    c.batch = 50;
    assert_int_equal(sv_queues_set_consumer(q, ACCOUNT, sv_str_of(info.id), &c, &err), SV_OK);
    again();
    assert_int_equal(look("jobs").consumer.batch, 50);
    assert_string_equal(look("jobs").consumer.script, "worker");
    struct { int64_t *v, bad; } bad[] = {{&c.batch, 0}, {&c.batch, 101}, {&c.max_retries, -1}, {&c.max_retries, 101}, {&c.wait_ms, 60001},
                                         {&c.concurrency, 251}, {&c.retry_delay_s, 86401}, {&c.visibility_ms, 0}, {&c.visibility_ms, 43200001}};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        int64_t good = *bad[i].v;
        *bad[i].v = bad[i].bad;
        assert_int_equal(sv_queues_set_consumer(q, ACCOUNT, sv_str_of(info.id), &c, &err), SV_EINVAL);
        assert_int_equal(err.api_code, 100127);
        *bad[i].v = good;
    }
    snprintf(c.dead_letter, sizeof c.dead_letter, "jobs");
    assert_int_equal(sv_queues_set_consumer(q, ACCOUNT, sv_str_of(info.id), &c, &err), SV_EINVAL);
    assert_int_equal(sv_queues_drop_consumer(q, ACCOUNT, sv_str_of(info.id), SV_STR("nobody"), &err), SV_ENOENT);
    assert_int_equal(sv_queues_drop_consumer(q, ACCOUNT, sv_str_of(info.id), sv_str_of(c.id), &err), SV_OK);
    assert_int_equal(look("jobs").consumer.kind, SV_QUEUES_NOBODY);
}

typedef struct sender { pthread_t thread; int i; } sender;

static void *send_many(void *arg)
{
    char text[32];
    sv_err e = {0};
    for (int k = 0; k < 200; k++) {
        snprintf(text, sizeof text, "%d.%03d", ((sender *)arg)->i, k);
        sv_queues_msg m = {.body = sv_str_of(text), .delay_s = -1};
        assert_int_equal(sv_queues_send(q, ACCOUNT, sv_str_of(info.id), &m, 1, &e), SV_OK);
    }
    return NULL;
}

typedef struct last { int v[4]; int64_t n; } last;

static void in_order(void *arg, const sv_queues_item *it)
{
    last *l = arg;
    int who = it->body.p[0] - '0', k = atoi((char[]){it->body.p[2], it->body.p[3], it->body.p[4], 0});
    assert_int_equal(k, l->v[who]);
    l->v[who]++;
    l->n++;
}

static void senders_at_once_lose_nothing_and_each_keeps_its_order(void **state)
{
    (void)state;
    sender s[4];
    last l = {.n = 0};
    for (int i = 0; i < 4; i++) {
        s[i].i = i;
        pthread_create(&s[i].thread, NULL, send_many, &s[i]);
    }
    int64_t from = 0;
    while (l.n < 800) /* a reader beside them, by number */
        assert_int_equal(sv_queues_read(q, info.no, from, 100, in_order, &l, &from, &err), SV_OK);
    for (int i = 0; i < 4; i++)
        pthread_join(s[i].thread, NULL);
    backlog_is("jobs", 800, 800, 4000);
}

/* A child sends and says so, until it is killed. */
static void child_sends(int to)
{
    open_store();
    info = look("jobs");
    for (int32_t i = 0;; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        send(text);
        if (write(to, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

typedef struct counted { int32_t next; } counted;
static void count_up(void *arg, const sv_queues_item *it)
{
    counted *c = arg;
    char text[16];
    snprintf(text, sizeof text, "%d", c->next++);
    assert_true(sv_str_is(it->body, text));
}

static void nothing_that_was_acknowledged_is_lost_when_the_process_is_killed(void **state)
{
    (void)state;
    int fds[2];
    int32_t acked = -1, i;
    q = sv_queues_close(q);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0)
        child_sends(fds[1]);
    close(fds[1]);
    while (acked < 100 && read(fds[0], &i, sizeof i) == sizeof i)
        acked = i;
    kill(pid, SIGKILL);
    while (read(fds[0], &i, sizeof i) == sizeof i)
        acked = i;
    close(fds[0]);
    waitpid(pid, NULL, 0);
    open_store();
    counted c = {0};
    int64_t from = 0, before = -1;
    while (from != before) {
        before = from;
        assert_int_equal(sv_queues_read(q, look("jobs").no, from, 100, count_up, &c, &from, &err), SV_OK);
    }
    assert_true(acked >= 100);
    assert_true(c.next == acked + 1 || c.next == acked + 2); /* one may have been written and not been told */
    backlog_is("jobs", c.next, c.next, look("jobs").bytes);
}

static void the_table_of_limits_says_the_same(void **state)
{
    (void)state;
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUES), SV_QUEUES_MAX_QUEUES);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_MESSAGE_BYTES), SV_QUEUES_MAX_MESSAGE);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_BATCH), SV_QUEUES_MAX_BATCH);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_BATCH_BYTES), SV_QUEUES_MAX_BATCH_BYTES);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_DELAY_MS), SV_QUEUES_MAX_DELAY_S * 1000ll);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_RETENTION_MS), SV_QUEUES_MAX_RETENTION_S * 1000ll);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_RETRIES), SV_QUEUES_MAX_RETRIES);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_WAIT_MS), SV_QUEUES_MAX_WAIT_MS);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_CONCURRENCY), SV_QUEUES_MAX_CONCURRENCY);
    assert_int_equal(sv_limit_value(SV_LIMIT_QUEUE_VISIBILITY_MS), SV_QUEUES_MAX_VISIBILITY_MS);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(messages_come_in_the_order_of_their_arrival_and_stay_until_they_are_done),
        T(what_is_retried_comes_again_behind_the_others_with_a_higher_attempt),
        T(a_delayed_message_comes_when_it_is_due_also_after_a_restart),
        T(after_its_last_retry_a_message_goes_to_the_dead_letter_queue),
        T(a_leased_message_is_nobody_elses_until_the_lease_ends),
        T(a_late_acknowledgement_counts_while_nobody_else_has_the_message),
        T(leases_that_end_count_as_retries),
        T(lease_ids_are_read_back_and_nothing_else_is),
        T(a_paused_queue_takes_messages_and_gives_none),
        T(a_purge_and_a_deletion_leave_nothing),
        T(a_message_is_kept_as_long_as_its_queue_keeps_messages),
        T(batches_end_at_their_bytes),
        T(a_renamed_queue_is_found_by_its_new_name_only),
        T(what_makes_no_sense_is_refused_by_name),
        T(a_queue_has_one_consumer_with_settings_in_their_ranges),
        T(senders_at_once_lose_nothing_and_each_keeps_its_order),
        T(nothing_that_was_acknowledged_is_lost_when_the_process_is_killed),
        T(the_table_of_limits_says_the_same),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sv_err ignore = {0};
    return sv_remove_tree(dir, &ignore) == SV_OK ? failed : 1;
}
