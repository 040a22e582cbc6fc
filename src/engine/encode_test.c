/* Requests to encoders through a queue, a thread and batches, checked against running the model alone */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/encode.h"
#include "models/encoder.h"
#include "models/files.h"

#define MODEL SV_SOURCE_ROOT "/tests/reference/encoders/distilbert"

enum { N = 5, MANY = 102 };
static sv_loop *loop;
static int n_ended, n_wanted = N;
static sv_encode *ended_jobs[MANY];

static void on_end(sv_encode *j) { ended_jobs[j->id] = j; n_ended++; }
static void on_batch(void *arg)
{
    (void)arg;
    if (n_ended == n_wanted)
        sv_loop_stop(loop);
}

static sv_encode *job_of(const char *tenant, uint32_t id, const char *path, sv_encode_want want, const char *texts, bool cut)
{
    sv_encode *j = sv_xnew0(sv_encode);
    sv_err err = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    SV_AUTO(sv_json_decrefp) json_t *list = json_loads(texts, 0, NULL);
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_encode(&b, id + 1, &(sv_encode_opts){.model_path = path, .tenant = tenant, .texts = list, .want = want, .cut = cut}, &err), SV_OK);
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_encode(&j->req, &f, &err), SV_OK);
    sv_buf_done(&b);
    j->id = id;
    return j;
}

static sv_encode *job(uint32_t id, const char *path, sv_encode_want want, const char *texts, bool cut)
{
    return job_of("t", id, path, want, texts, cut);
}

static void alone(float *out, const char *text)
{
    SV_AUTO(sv_encoder_closep) sv_encoder *e = NULL;
    SV_AUTO(sv_encoder_ws_freep) sv_encoder_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_err err = {0};
    sv_tokens t = {0};
    sv_encoder_seq seq = {.out = out};
    assert_int_equal(sv_encoder_open(&e, MODEL, &err), SV_OK);
    assert_int_equal(sv_encoder_ws_new(&ws, e, 64, &err), SV_OK);
    assert_int_equal(sv_encoder_tokens(e, &(sv_encoder_text){.text = sv_str_of(text), .cut = true}, &t, &seq.n_first, &err), SV_OK);
    seq.tokens = t.v;
    seq.n_tokens = (int32_t)t.n;
    sv_encoder_run(e, ws, pool, &seq, 1, SV_WANT_LOGITS);
    free(t.v);
}

static void requests_share_batches_and_each_gets_its_own_end(void **state)
{
    (void)state;
    sv_err err = {0};
    float want[2], got[2];
    loop = sv_loop_new();
    sv_compute *c = sv_compute_new(2);
    sv_room *room = sv_room_new(0);
    sv_encoders *t = sv_encoders_new(loop, c, &(sv_encoders_opts){.room = room, .on_end = on_end, .on_batch = on_batch});
    sv_encode *jobs[N] = {
        job(0, MODEL, SV_ENCODE_LOGITS, "[\"this film is great\", \"x\", [\"a river\", \"stone\"]]", true),
        job(1, MODEL, SV_ENCODE_MEAN, "[\"bread and water\", \"music\"]", true),
        job(2, MODEL, SV_ENCODE_LOGITS, "[\"a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river a river\"]", false),
        job(3, SV_SOURCE_ROOT "/tests/reference/encoders/bert", SV_ENCODE_LOGITS, "[\"x\"]", true),
        job(4, MODEL, SV_ENCODE_LOGITS, "[\"this film is great\"]", true)};
    for (int i = 0; i < N; i++)
        assert_int_equal(sv_encoders_submit(t, jobs[i], &err), SV_OK);
    sv_loop_run(loop);
    assert_int_equal(ended_jobs[0]->err.code, SV_OK);
    assert_int_equal(ended_jobs[0]->vectors.n, 3);
    alone(want, "this film is great");
    memcpy(got, ended_jobs[0]->vectors.v, sizeof got);
    assert_memory_equal(got, want, sizeof got);
    assert_memory_equal(ended_jobs[4]->vectors.v, want, sizeof want);
    assert_true(sv_str_is(ended_jobs[0]->vectors.labels, "[\"NEGATIVE\",\"POSITIVE\"]"));
    const float *v = ended_jobs[1]->vectors.v;
    double sum = 0;
    for (int i = 0; i < 36; i++)
        sum += (double)v[36 + i] * (double)v[36 + i];
    assert_true(fabs(sum - 1) < 1e-5);
    assert_int_equal(ended_jobs[2]->err.api_code, 5021);
    assert_int_equal(ended_jobs[3]->err.code, SV_EINVAL); /* no classes */
    for (int i = 0; i < N; i++)
        sv_encode_free(ended_jobs[i]);
    assert_int_equal(sv_encoders_submit(t, jobs[0] = job(0, "/nowhere", SV_ENCODE_MEAN, "[\"x\"]", true), &err), SV_ENOENT);
    sv_encode_free(jobs[0]);
    sv_encoders_free(t);
    sv_room_free(room);
    sv_compute_free(c);
    sv_loop_free(loop);
}

static void stop_at_end(sv_encode *j)
{
    on_end(j);
    sv_loop_stop(loop);
}

static void models_in_use_stay_and_idle_ones_make_room(void **state)
{
    (void)state;
    static const char other[] = SV_SOURCE_ROOT "/tests/reference/encoders/bert";
    sv_err err = {0};
    sv_model_files files = {0};
    assert_int_equal(sv_model_files_find(&files, MODEL, &err), SV_OK);
    sv_room *room = sv_room_new(files.n_bytes + 1000), *small = sv_room_new(1000); /* for one of the two, for none */
    sv_model_files_done(&files);
    loop = sv_loop_new();
    sv_compute *c = sv_compute_new(1);
    sv_encoders *t = sv_encoders_new(loop, c, &(sv_encoders_opts){.room = room, .on_end = stop_at_end, .on_batch = on_batch});
    sv_encode *first = job(0, MODEL, SV_ENCODE_MEAN, "[\"x\"]", true), *second = job(1, other, SV_ENCODE_MEAN, "[\"x\"]", true);
    assert_int_equal(sv_encoders_submit(t, first, &err), SV_OK);
    assert_int_equal(sv_encoders_submit(t, second, &err), SV_ELIMIT); /* the first has its request until the loop runs */
    assert_int_equal(err.api_code, 3040);
    sv_loop_run(loop);
    assert_int_equal(first->err.code, SV_OK);
    assert_int_equal(sv_encoders_submit(t, second, &err), SV_OK);
    sv_loop_run(loop);
    assert_int_equal(second->err.code, SV_OK);
    sv_encode_free(first);
    sv_encode_free(second);
    sv_encoders_free(t);

    t = sv_encoders_new(loop, c, &(sv_encoders_opts){.room = small, .on_end = stop_at_end, .on_batch = on_batch});
    first = job(0, MODEL, SV_ENCODE_MEAN, "[\"x\"]", true);
    assert_int_equal(sv_encoders_submit(t, first, &err), SV_ELIMIT);
    assert_non_null(strstr(err.msg, "does not fit into memory"));
    sv_encode_free(first);
    sv_encoders_free(t);
    sv_room_free(room);
    sv_room_free(small);
    sv_compute_free(c);
    sv_loop_free(loop);
}

static int n_ended_before_last;

static void watch_the_last(sv_encode *j)
{
    if (j->id == MANY - 1)
        n_ended_before_last = n_ended;
    on_end(j);
}

/* Packing begins when the pool is free: until then all of a crowd's requests are there, and behind them another tenant's one. */
static void a_crowd_of_one_tenant_does_not_delay_another(void **state)
{
    (void)state;
    sv_err err = {0};
    n_ended = 0;
    n_wanted = MANY;
    loop = sv_loop_new();
    sv_compute *c = sv_compute_new(1);
    sv_room *room = sv_room_new(0);
    sv_encoders *t = sv_encoders_new(loop, c, &(sv_encoders_opts){.room = room, .on_end = watch_the_last, .on_batch = on_batch});
    (void)sv_compute_enter(c);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(sv_encoders_submit(t, job_of(i < MANY - 1 ? "crowd" : "one", i, MODEL, SV_ENCODE_MEAN, "[\"a river\"]", true), &err), SV_OK);
    sv_compute_leave(c);
    sv_loop_run(loop);
    assert_int_equal(n_ended, MANY);
    assert_true(n_ended_before_last <= 2 * SV_ENCODER_MAX_SEQS - 1); /* in the second batch at the latest: the first may have begun without it */
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(ended_jobs[i]->err.code, SV_OK);
        assert_memory_equal(ended_jobs[i]->vectors.v, ended_jobs[0]->vectors.v, 36 * sizeof(float));
    }
    for (int i = 0; i < MANY; i++)
        sv_encode_free(ended_jobs[i]);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_encoders_add_stats(t, &b);
    assert_non_null(strstr(sv_buf_cstr(&b), "\"state\":\"ready\",\"n_jobs\":0,\"texts\":102"));
    sv_encoders_free(t);
    sv_room_free(room);
    sv_compute_free(c);
    sv_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_share_batches_and_each_gets_its_own_end),
        cmocka_unit_test(models_in_use_stay_and_idle_ones_make_room),
        cmocka_unit_test(a_crowd_of_one_tenant_does_not_delay_another),
    };
    return cmocka_run_group_tests_name("encode", tests, NULL, NULL);
}
