/* sched_test.c - who gets into a step, in what order, and how requests end; step by step, in one thread */
#include "engine/sched.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define TINY SV_SOURCE_ROOT "/tests/reference/llama-f32.gguf"
enum { N_CTX = 128 };

typedef struct asked {
    sv_buf text;
    _Atomic bool cancel;
    int n_started, n_ended, order; /* order: of ends, from 1 */
    int64_t start_step, first_step; /* in which its first token and its first text came */
    sv_rc rc;
    sv_finish finish;
    sv_usage usage;
    sv_err err;
} asked;

static int n_ends;
static sv_sched *sched;
static sv_llm *model;
static sv_compute *compute;

static int64_t n_steps(void)
{
    sv_sched_stats s;
    sv_sched_get_stats(sched, &s);
    return s.steps;
}

static void on_start(void *arg, const sv_usage *usage)
{
    asked *a = arg;
    a->n_started++;
    a->start_step = n_steps();
    assert_true(usage->prompt_tokens > 0 && usage->completion_tokens == 0);
}

static void on_text(void *arg, sv_str text, int32_t n_tokens)
{
    asked *a = arg;
    assert_true(a->n_started == 1 && a->n_ended == 0 && text.n > 0 && n_tokens > 0);
    if (a->text.n == 0)
        a->first_step = n_steps();
    sv_buf_add(&a->text, text.p, text.n);
}

static void on_end(void *arg, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err)
{
    asked *a = arg;
    assert_int_equal(a->n_ended, 0);
    a->n_ended = 1;
    a->order = ++n_ends;
    a->rc = rc;
    a->finish = finish;
    a->usage = *usage;
    assert_true((rc == SV_OK) == (err == NULL));
    if (err)
        a->err = *err;
}

static const sv_sched_events events = {.on_start = on_start, .on_text = on_text, .on_end = on_end};

static void open_sched(const sv_sched_opts *o)
{
    sv_err err = {0};
    if (sv_llm_open(&model, TINY, &err) != SV_OK)
        fail_msg("%s", err.msg);
    compute = sv_compute_new(1);
    assert_int_equal(sv_sched_new(&sched, model, compute, &events, o, &err), SV_OK);
    n_ends = 0;
}

static void close_sched(void)
{
    sv_sched_stats s;
    sv_sched_get_stats(sched, &s);
    assert_true(s.n_active == 0 && s.n_queued == 0 && s.kv_pages_used == 0);
    sched = sv_sched_free(sched);
    compute = sv_compute_free(compute);
    model = sv_llm_unref(model);
}

/* A prompt of n tokens that hangs on seed. */
static sv_rc add(asked *a, const char *tenant, int n, int max_tokens, int seed, const char *stop, sv_err *err)
{
    int32_t tokens[N_CTX] = {1};
    sv_str stops[] = {sv_str_of(stop)};
    for (int i = 1; i < n; i++)
        tokens[i] = 3 + (i * 31 + seed * 17) % 150;
    sv_buf_done(&a->text);
    *a = (asked){0};
    return sv_sched_add(sched, &(sv_sched_req){.tenant = tenant, .tokens = tokens, .n_tokens = n, .max_tokens = max_tokens, .stop = stops,
                                               .n_stops = stop != NULL, .cancel = &a->cancel, .arg = a}, err);
}

static void ask(asked *a, const char *tenant, int n, int max_tokens, int seed)
{
    sv_err err = {0};
    assert_int_equal(add(a, tenant, n, max_tokens, seed, NULL, &err), SV_OK);
}

static void run(void)
{
    for (int i = 0; sv_sched_busy(sched); i++) {
        assert_true(i < 10000);
        sv_sched_step(sched);
    }
}

static size_t pages_bytes(int n) { return (size_t)n * 16384; } /* the model's page: 2 layers, 2 heads, 32 positions, keys and values of 16 */

static void done(asked *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sv_buf_done(&a[i].text);
}

static void a_tenant_with_many_requests_delays_another_by_one(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_active = 1});
    asked many[10] = {0}, one = {0}, two = {0};
    for (size_t i = 0; i < SV_LEN(many); i++)
        ask(&many[i], "a", 10, 5, (int)i);
    sv_sched_step(sched); /* the first is in */
    ask(&one, "b", 10, 5, 50);
    ask(&two, "b", 10, 5, 51);
    run();
    assert_int_equal(many[0].order, 1);
    assert_int_equal(one.order, 2);
    assert_true(two.order <= 4);
    for (size_t i = 1; i < SV_LEN(many); i++)
        assert_true(many[i].order > many[i - 1].order); /* within a tenant in order */
    done(many, SV_LEN(many));
    done(&one, 1);
    done(&two, 1);
    close_sched();
}

static void small_requests_do_not_overtake_a_large_one_that_waits_for_pages(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.kv_bytes = pages_bytes(4)});
    asked first = {0}, large = {0}, small[6] = {0};
    ask(&first, "a", 40, 20, 1); /* 2 pages */
    sv_sched_step(sched);
    ask(&large, "b", 60, 60, 2); /* 2 pages to read, 4 in the end: all */
    for (size_t i = 0; i < SV_LEN(small); i++)
        ask(&small[i], "c", 5, 3, (int)i);
    run();
    assert_int_equal(first.order, 1);
    assert_int_equal(large.rc, SV_OK);
    assert_int_equal(large.usage.completion_tokens, 60);
    for (size_t i = 0; i < SV_LEN(small); i++)
        assert_true(large.start_step <= small[i].start_step);
    done(&first, 1);
    done(&large, 1);
    done(small, SV_LEN(small));
    close_sched();
}

static void text_goes_on_every_step_while_a_long_prompt_is_read_in_pieces(void **state)
{
    (void)state;
    asked alone = {0}, writer = {0}, reader = {0};
    open_sched(&(sv_sched_opts){.max_rows = 256});
    ask(&alone, "a", 100, 20, 9);
    run();
    assert_int_equal(alone.first_step, 1); /* all of it in one step */
    close_sched();
    open_sched(&(sv_sched_opts){.max_rows = 8, .max_active = 4});
    ask(&writer, "a", 4, 60, 1);
    sv_sched_step(sched);
    ask(&reader, "b", 100, 20, 9);
    sv_sched_stats s;
    int64_t rows = 0;
    for (int i = 0; i < 10; i++) {
        sv_sched_get_stats(sched, &s);
        rows = s.rows;
        int64_t tokens = s.tokens;
        sv_sched_step(sched);
        sv_sched_get_stats(sched, &s);
        assert_int_equal(s.tokens, tokens + 1);                  /* the writer's */
        assert_true(s.rows - rows > 1 && s.rows - rows <= 8);    /* beside pieces of the prompt, within the budget */
    }
    assert_int_equal(reader.n_started, 0);
    run();
    assert_string_equal(sv_buf_cstr(&reader.text), sv_buf_cstr(&alone.text));
    done(&alone, 1);
    done(&writer, 1);
    done(&reader, 1);
    close_sched();
}

static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_rows = 16, .max_active = 4});
    asked slow = {0}, quick = {0};
    ask(&slow, "a", 120, 2, 1);
    ask(&quick, "b", 6, 2, 2);
    sv_sched_stats s;
    sv_sched_step(sched);
    sv_sched_get_stats(sched, &s);
    assert_int_equal(s.rows, 16); /* what the short one left of its share went to the long one */
    run();
    assert_int_equal(quick.first_step, 1);
    assert_true(slow.first_step > 5);
    done(&slow, 1);
    done(&quick, 1);
    close_sched();
}

static void prompts_that_come_together_are_read_one_after_the_other(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_rows = 32, .max_active = 8});
    asked a[4] = {0};
    for (int i = 0; i < 4; i++)
        ask(&a[i], "a", 60, 1, i);
    run();
    assert_int_equal(n_steps(), 8); /* 240 rows */
    for (int i = 0; i < 4; i++)
        assert_int_equal(a[i].start_step, (i + 1) * 60 / 32 + 1); /* as soon as the rows up to its end can be computed; not all in the 8th */
    done(a, 4);
    close_sched();
}

static void a_flood_of_short_prompts_leaves_a_long_one_half_of_the_rows(void **state)
{
    (void)state;
    enum { N = 60 };
    static asked small[N];
    asked large = {0};
    open_sched(&(sv_sched_opts){.max_rows = 16, .max_active = 8});
    ask(&large, "a", 120, 1, 1);
    for (int i = 0; i < N; i++) {
        ask(&small[i], "b", 9, 1, i);
        if (i > 8)
            sv_sched_step(sched);
    }
    assert_int_equal(large.n_ended, 1);
    assert_true(large.start_step >= 120 / 16 && large.start_step <= 120 / 8);
    run();
    done(&large, 1);
    done(small, N);
    close_sched();
}

static void ends_are_told_truthfully(void **state)
{
    (void)state;
    sv_err err = {0};
    open_sched(&(sv_sched_opts){0});
    asked all = {0}, cut = {0}, stopped = {0};
    ask(&all, "a", 7, 30, 3);
    run();
    assert_int_equal(all.rc, SV_OK);
    assert_int_equal(all.finish, SV_FINISH_LENGTH);
    assert_int_equal(all.usage.completion_tokens, 30);
    assert_int_equal(all.usage.prompt_tokens, 7);
    ask(&cut, "a", 7, 10, 3);
    run();
    assert_int_equal(cut.finish, SV_FINISH_LENGTH);
    assert_memory_equal(cut.text.p, all.text.p, cut.text.n);
    /* A stop string out of the middle of that text: it ends there, at its first place. */
    size_t at = sv_utf8_whole((sv_str){all.text.p, all.text.n / 2}), end = at + sv_utf8_whole((sv_str){all.text.p + at, 4});
    char stop[8] = {0};
    memcpy(stop, all.text.p + at, end - at);
    size_t first = (size_t)(strstr(all.text.p, stop) - all.text.p);
    assert_int_equal(add(&stopped, "a", 7, 30, 3, stop, &err), SV_OK);
    run();
    assert_int_equal(stopped.finish, SV_FINISH_STOP);
    assert_int_equal(stopped.text.n, first);
    assert_memory_equal(stopped.text.p, all.text.p, first);
    assert_true(stopped.usage.completion_tokens < 30);
    done(&all, 1);
    done(&cut, 1);
    done(&stopped, 1);
    close_sched();
}

static void what_is_canceled_ends_before_the_next_step_and_gives_its_pages_back(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_active = 2});
    asked a[4] = {0};
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask(&a[i], "a", 10, 100, (int)i);
    sv_sched_step(sched);
    sv_sched_step(sched);
    for (size_t i = 0; i < SV_LEN(a); i++)
        a[i].cancel = true; /* two in the batch, two in the queue */
    int64_t steps = n_steps();
    sv_sched_step(sched);
    assert_false(sv_sched_busy(sched));
    assert_int_equal(n_steps(), steps);
    for (size_t i = 0; i < SV_LEN(a); i++)
        assert_int_equal(a[i].rc, SV_ECANCELED);
    sv_sched_stats s;
    sv_sched_get_stats(sched, &s);
    assert_int_equal(s.cancelled, 4);
    done(a, SV_LEN(a));
    close_sched();
}

static void when_pages_run_out_the_youngest_pauses_and_nobody_notices(void **state)
{
    (void)state;
    asked alone[3] = {0}, a[3] = {0};
    sv_sched_stats s;
    open_sched(&(sv_sched_opts){0});
    for (int i = 0; i < 3; i++) {
        ask(&alone[i], "a", 20, 100, i);
        run();
    }
    close_sched();
    open_sched(&(sv_sched_opts){.kv_bytes = pages_bytes(5)}); /* each needs 4 in the end */
    for (int i = 0; i < 3; i++)
        ask(&a[i], "a", 20, 100, i);
    run();
    sv_sched_get_stats(sched, &s);
    assert_true(s.preempted >= 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a[i].rc, SV_OK);
        assert_int_equal(a[i].n_started, 1);
        assert_string_equal(sv_buf_cstr(&a[i].text), sv_buf_cstr(&alone[i].text));
        assert_int_equal(a[i].usage.completion_tokens, alone[i].usage.completion_tokens);
        assert_int_equal(a[i].usage.cached_tokens, 0); /* its own pages, found again, are not a discount */
        assert_true(i == 0 || a[i].order > a[i - 1].order); /* the oldest is never held up */
    }
    done(alone, 3);
    done(a, 3);
    close_sched();
}

static void the_next_turn_of_a_conversation_finds_its_history(void **state)
{
    (void)state;
    asked first = {0}, again = {0}, other = {0};
    sv_sched_stats s;
    open_sched(&(sv_sched_opts){0});
    ask(&first, "a", 70, 10, 1);
    run();
    ask(&again, "a", 70, 10, 1);
    run();
    ask(&other, "b", 70, 10, 1);
    run();
    assert_int_equal(first.usage.cached_tokens, 0);
    assert_int_equal(again.usage.cached_tokens, 64); /* two pages */
    assert_int_equal(other.usage.cached_tokens, 0);  /* another tenant's are none of its business */
    assert_string_equal(sv_buf_cstr(&again.text), sv_buf_cstr(&first.text));
    assert_string_equal(sv_buf_cstr(&other.text), sv_buf_cstr(&first.text));
    sv_sched_get_stats(sched, &s);
    assert_int_equal(s.cached_tokens, 64);
    assert_int_equal(s.rows, 79 + 15 + 79);
    assert_true(s.kv_pages_cached == 4 && s.kv_pages_used == 0);
    done(&first, 1);
    done(&again, 1);
    done(&other, 1);
    close_sched();
}

/* The same first n tokens for all, then one of its own. */
static void ask_after(asked *a, const char *tenant, int n, int own)
{
    sv_err err = {0};
    int32_t tokens[N_CTX] = {1};
    for (int i = 1; i < n; i++)
        tokens[i] = 3 + i * 31 % 150;
    tokens[n] = 3 + own;
    *a = (asked){0};
    assert_int_equal(sv_sched_add(sched, &(sv_sched_req){.tenant = tenant, .tokens = tokens, .n_tokens = n + 1, .max_tokens = 20, .cancel = &a->cancel, .arg = a}, &err), SV_OK);
}

static void a_beginning_that_many_share_is_read_once(void **state)
{
    (void)state;
    enum { N = 6, SHARED = 90 };
    asked alone[N] = {0}, a[N] = {0};
    sv_sched_stats s;
    for (int i = 0; i < N; i++) {
        open_sched(&(sv_sched_opts){0});
        ask_after(&alone[i], "a", SHARED, i);
        run();
        close_sched();
    }
    /* One after the other: two pages and what the third has of it, to the last token. */
    open_sched(&(sv_sched_opts){0});
    for (int i = 0; i < N; i++) {
        ask_after(&a[i], "a", SHARED, i);
        run();
        assert_int_equal(a[i].usage.cached_tokens, i == 0 ? 0 : SHARED);
        assert_string_equal(sv_buf_cstr(&a[i].text), sv_buf_cstr(&alone[i].text));
    }
    sv_sched_get_stats(sched, &s);
    assert_int_equal(s.rows, SHARED + N * 20); /* a token of its own each, and 19 of its text */
    close_sched();
    done(a, N);
    /* All at once: who comes later finds what the first has read meanwhile. */
    open_sched(&(sv_sched_opts){.max_rows = 32});
    for (int i = 0; i < N; i++)
        ask_after(&a[i], "a", SHARED, i);
    run();
    sv_sched_get_stats(sched, &s);
    assert_true(s.rows < 2 * SHARED + N * (20 + SV_KV_PAGE));
    for (int i = 0; i < N; i++)
        assert_string_equal(sv_buf_cstr(&a[i].text), sv_buf_cstr(&alone[i].text));
    close_sched();
    done(a, N);
    done(alone, N);
}

static void every_step_is_counted_by_its_time_and_its_rows(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_rows = 16});
    asked a = {0};
    sv_sched_stats s, twice = {0};
    ask(&a, "a", 40, 5, 1); /* 16, 16 and 8 rows, then four texts of one */
    run();
    sv_sched_get_stats(sched, &s);
    assert_int_equal(s.steps, 7);
    assert_int_equal(s.steps_by_rows[0], 4);                            /* at most 1 */
    assert_int_equal(s.steps_by_rows[3], 1);                            /* at most 8 */
    assert_int_equal(s.steps_by_rows[4], 2);                            /* at most 16 */
    int64_t n = 0;
    for (int i = 0; i < SV_STEP_BUCKETS; i++)
        n += s.steps_by_ms[i];
    assert_int_equal(n, 7);
    assert_true(s.step_us > 0);
    sv_sched_stats_add(&twice, &s);
    sv_sched_stats_add(&twice, &s);
    assert_true(twice.steps == 14 && twice.rows == 2 * 44 && twice.steps_by_rows[4] == 4 && twice.step_us == 2 * s.step_us);
    done(&a, 1);
    close_sched();
}

static void what_cannot_be_served_is_refused_at_once(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_active = 1, .max_queued = 2, .kv_bytes = pages_bytes(2)});
    asked a[4] = {0};
    sv_err err = {0};
    assert_int_equal(add(&a[0], "a", 60, 6, 1, NULL, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 5021);
    assert_non_null(strstr(err.msg, "prompt has 60 tokens and max_tokens is 6: over the 64 tokens"));
    const int32_t token = 1;
    const sv_logit_bias bias = {100000, 1};
    assert_int_equal(sv_sched_add(sched, &(sv_sched_req){.tokens = &token, .n_tokens = 1, .max_tokens = 1, .sampling = {.logit_bias = &bias, .n_logit_bias = 1},
                                                         .cancel = &a[0].cancel}, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "token 100000 is not in the vocabulary"));
    err = (sv_err){0};
    ask(&a[0], "a", 60, 5, 1); /* the last token needs no place */
    ask(&a[1], "a", 10, 5, 1);
    ask(&a[2], "b", 10, 5, 1);
    assert_int_equal(add(&a[3], "c", 10, 5, 1, NULL, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 3040);
    run();
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(a[i].rc, SV_OK);
    done(a, SV_LEN(a));
    close_sched();
}

static void a_stop_of_the_scheduler_ends_all_with_its_reason(void **state)
{
    (void)state;
    open_sched(&(sv_sched_opts){.max_active = 2});
    asked a[4] = {0};
    sv_err why = {0};
    for (size_t i = 0; i < SV_LEN(a); i++)
        ask(&a[i], "a", 10, 100, (int)i);
    sv_sched_step(sched);
    (void)sv_fail(&why, SV_EIO, "lights out");
    sv_sched_stop(sched, &why);
    for (size_t i = 0; i < SV_LEN(a); i++) {
        assert_int_equal(a[i].rc, SV_EIO);
        assert_string_equal(a[i].err.msg, "lights out");
    }
    done(a, SV_LEN(a));
    close_sched();
}

/* 400 requests of 300 tenants, random sizes and cancels, few pages: all end, everything comes back. */
static void a_crowd_is_served_and_leaves_nothing_behind(void **state)
{
    (void)state;
    enum { N = 400 };
    static asked a[N];
    char tenant[16];
    uint32_t random = 5;
    open_sched(&(sv_sched_opts){.max_rows = 32, .max_active = 6, .max_queued = N, .kv_bytes = pages_bytes(9)});
    for (int i = 0; i < N; i++) {
        random = random * 1664525 + 1013904223;
        snprintf(tenant, sizeof tenant, "t%u", (random >> 8) % 300);
        ask(&a[i], tenant, 1 + (int)(random >> 16) % 60, 1 + (int)(random >> 24) % 30, i);
        if (i % 3 == 0)
            sv_sched_step(sched);
        if (i % 7 == 0)
            a[random % (uint32_t)(i + 1)].cancel = true;
    }
    run();
    for (int i = 0; i < N; i++) {
        assert_int_equal(a[i].n_ended, 1);
        assert_true(a[i].rc == SV_OK || (a[i].rc == SV_ECANCELED && a[i].cancel));
    }
    done(a, N);
    close_sched();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenant_with_many_requests_delays_another_by_one),
        cmocka_unit_test(small_requests_do_not_overtake_a_large_one_that_waits_for_pages),
        cmocka_unit_test(text_goes_on_every_step_while_a_long_prompt_is_read_in_pieces),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(prompts_that_come_together_are_read_one_after_the_other),
        cmocka_unit_test(a_flood_of_short_prompts_leaves_a_long_one_half_of_the_rows),
        cmocka_unit_test(ends_are_told_truthfully),
        cmocka_unit_test(what_is_canceled_ends_before_the_next_step_and_gives_its_pages_back),
        cmocka_unit_test(when_pages_run_out_the_youngest_pauses_and_nobody_notices),
        cmocka_unit_test(the_next_turn_of_a_conversation_finds_its_history),
        cmocka_unit_test(a_beginning_that_many_share_is_read_once),
        cmocka_unit_test(every_step_is_counted_by_its_time_and_its_rows),
        cmocka_unit_test(what_cannot_be_served_is_refused_at_once),
        cmocka_unit_test(a_stop_of_the_scheduler_ends_all_with_its_reason),
        cmocka_unit_test(a_crowd_is_served_and_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
