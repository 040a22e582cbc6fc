/* Requests about media through a queue, a thread and turns: a small Whisper with random weights (tests/reference/whisper_tiny.py) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/media.h"
#include "models/transcribe.h"

#define MODEL SV_SOURCE_ROOT "/tests/reference/whisper/multi"

enum { MANY = 16 };
static sv_loop *loop;
static sv_compute *compute;
static sv_room *room;
static int n_ended, n_wanted;
static sv_media *ended_jobs[MANY]; /* in the order of their ends */

static void on_end(sv_media *j) { ended_jobs[n_ended++] = j; }
static void on_batch(void *arg)
{
    (void)arg;
    if (n_ended == n_wanted)
        sv_loop_stop(loop);
}

static sv_media_table *open_table(int wanted, int32_t max_queued)
{
    loop = sv_loop_new();
    compute = sv_compute_new(2);
    room = sv_room_new(0);
    n_ended = 0;
    n_wanted = wanted;
    return sv_media_table_new(loop, compute, &(sv_media_table_opts){.room = room, .max_queued = max_queued, .on_end = on_end, .on_batch = on_batch});
}

static void close_table(sv_media_table *t)
{
    sv_media_table_free(t);
    sv_room_free(room);
    sv_compute_free(compute);
    sv_loop_free(loop);
    for (int i = 0; i < n_ended; i++)
        sv_media_free(ended_jobs[i]);
}

/* The sounds of the goldens, as a WAV of 16 bits. */
static void wav(sv_buf *b, int64_t n, int64_t k)
{
    static const uint8_t head[44] = "RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data";
    uint32_t n_bytes = (uint32_t)(2 * n);
    sv_buf_init(b, 0);
    sv_buf_add(b, head, sizeof head);
    memcpy(b->p + 40, &n_bytes, 4);
    for (int64_t i = 0; i < n; i++) {
        int16_t v = (int16_t)(((i * i * (31 + k) + i * 17) % 20001 - 10000) * (i / (700 + 90 * k) % 7) / 7);
        sv_buf_add(b, &v, 2);
    }
}

static sv_media *job(const char *tenant, uint32_t id, const char *path, const char *options, sv_str bytes)
{
    sv_media *j = sv_media_new();
    SV_AUTO(sv_json_decrefp) json_t *o = json_loads(options, 0, NULL);
    sv_err err = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_media(&b, id, &(sv_media_opts){.model_path = path, .tenant = tenant, .options = o, .bytes = bytes}, &err), SV_OK);
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_media(&j->req, &f, &err), SV_OK);
    assert_true(sv_str_eq(j->req.bytes, bytes));
    j->bytes = sv_xcalloc(bytes.n + 1, 1);
    memcpy(j->bytes, bytes.p, bytes.n);
    j->req.bytes.p = j->bytes;
    sv_buf_done(&b);
    j->id = id;
    return j;
}

static sv_media *by_id(uint32_t id)
{
    for (int i = 0; i < n_ended; i++)
        if (ended_jobs[i]->id == id)
            return ended_jobs[i];
    fail_msg("no end of %u", id);
    abort();
}

static json_t *answer_of(uint32_t id)
{
    json_t *v = NULL;
    sv_err err = {0};
    const sv_media *j = by_id(id);
    if (j->err.code != SV_OK)
        fail_msg("%s", j->err.msg);
    assert_int_equal(sv_json_parse(&v, sv_buf_str(&j->json), &err), SV_OK);
    return v;
}

static void a_recording_is_answered_as_the_model_alone_would(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf sound;
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *goldens = NULL;
    sv_err err = {0};
    (void)state;
    wav(&sound, 83000, 1);
    sv_buf_init(&text, 0);
    assert_int_equal(sv_file_read(&text, SV_SOURCE_ROOT "/tests/reference/whisper-tiny.json", &err), SV_OK);
    assert_int_equal(sv_json_parse(&goldens, sv_buf_str(&text), &err), SV_OK);
    const json_t *want = json_array_get(json_object_get(goldens, "transcripts"), 1);
    sv_media_table *t = open_table(4, 8);
    const char *o = "{\"words\":true,\"compression_ratio_threshold\":1000,\"log_prob_threshold\":-1000}";
    assert_int_equal(sv_media_submit(t, job("a", 1, MODEL, o, sv_buf_str(&sound)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job("a", 2, MODEL, "{\"language\":\"fr\"}", sv_buf_str(&sound)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job("a", 3, MODEL, "{\"beam_size\":9}", sv_buf_str(&sound)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job("a", 4, MODEL, "{}", SV_STR("no sound")), &err), SV_OK);
    sv_loop_run(loop);
    SV_AUTO(sv_json_decrefp) json_t *got = answer_of(1);
    assert_string_equal(sv_json_cstr(got, "text"), sv_json_cstr(want, "text"));
    assert_string_equal(sv_json_cstr(got, "language"), sv_json_cstr(want, "language"));
    assert_true(fabs(json_number_value(json_object_get(got, "duration")) - 5.1875) < 1e-9);
    const json_t *w = json_array_get(json_object_get(json_array_get(json_object_get(got, "segments"), 0), "words"), 1);
    const json_t *ww = json_array_get(json_object_get(json_array_get(json_object_get(want, "segments"), 0), "words"), 1);
    assert_string_equal(sv_json_cstr(w, "word"), json_string_value(json_array_get(ww, 0)));
    assert_true(fabs(json_number_value(json_object_get(w, "start")) - json_number_value(json_array_get(ww, 1))) < 1e-6);
    assert_true(by_id(1)->usage.completion_tokens > 100);
    assert_true(by_id(2)->err.api_code == 5006 && strstr(by_id(2)->err.msg, "'fr' is none"));
    assert_true(by_id(3)->err.api_code == 5006 && strstr(by_id(3)->err.msg, "beam_size"));
    assert_true(by_id(4)->err.api_code == 5006 && strstr(by_id(4)->err.msg, "audio: ") && strstr(by_id(4)->err.msg, "no WAV"));
    SV_AUTO(sv_buf_donep) sv_buf stats;
    sv_buf_init(&stats, 0);
    sv_media_add_stats(t, &stats);
    assert_non_null(strstr(sv_buf_cstr(&stats), "\"state\":\"ready\",\"n_jobs\":0,\"requests\":4"));
    close_table(t);
}

/* Silence has no speech: nothing is left to transcribe, and the answer is empty, not an error. */
static void silence_is_filtered_out(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf sound;
    sv_err err = {0};
    (void)state;
    wav(&sound, 48000, 1);
    memset(sound.p + 44, 0, sound.n - 44);
    sv_media_table *t = open_table(1, 8);
    assert_int_equal(sv_media_submit(t, job("a", 1, MODEL, "{\"vad_filter\":true,\"language\":\"de\"}", sv_buf_str(&sound)), &err), SV_OK);
    sv_loop_run(loop);
    SV_AUTO(sv_json_decrefp) json_t *got = answer_of(1);
    assert_string_equal(sv_json_cstr(got, "text"), "");
    assert_string_equal(sv_json_cstr(got, "language"), "de");
    assert_true(json_number_value(json_object_get(got, "duration")) == 3 && json_number_value(json_object_get(got, "duration_after_vad")) == 0);
    close_table(t);
}

/* The first one may run already when the others come; of those that wait, the other tenant's goes first. */
static void tenants_take_turns(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf sound;
    sv_err err = {0};
    (void)state;
    wav(&sound, 32000, 1);
    sv_media_table *t = open_table(6, 8);
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(sv_media_submit(t, job("many", i, MODEL, "{\"language\":\"en\"}", sv_buf_str(&sound)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job("one", 6, MODEL, "{\"language\":\"en\"}", sv_buf_str(&sound)), &err), SV_OK);
    sv_loop_run(loop);
    int at = 0;
    while (ended_jobs[at]->id != 6)
        at++;
    assert_true(at <= 2);
    close_table(t);
}

static void what_is_canceled_or_too_much_ends_at_once(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf sound;
    sv_err err = {0};
    (void)state;
    wav(&sound, 160000, 1);
    sv_media_table *t = open_table(3, 3);
    for (uint32_t i = 1; i <= 3; i++) {
        sv_media *j = job("t", i, MODEL, "{}", sv_buf_str(&sound));
        atomic_store(&j->cancel, true);
        assert_int_equal(sv_media_submit(t, j, &err), SV_OK);
    }
    sv_media *over = job("t", 4, MODEL, "{}", sv_buf_str(&sound));
    assert_int_equal(sv_media_submit(t, over, &err), SV_ELIMIT);
    assert_int_equal(err.api_code, 3040);
    sv_media_free(over);
    sv_loop_run(loop);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(by_id(i)->err.code, SV_ECANCELED);
    close_table(t);
}

static void other_models_are_refused_by_name(void **state)
{
    sv_err err = {0};
    (void)state;
    sv_media_table *t = open_table(1, 8);
    assert_int_equal(sv_media_submit(t, job("t", 1, SV_SOURCE_ROOT "/tests/reference/encoders/bert", "{}", SV_STR("x")), &err), SV_OK);
    sv_loop_run(loop);
    assert_true(by_id(1)->err.code == SV_EFORMAT && strstr(by_id(1)->err.msg, "no model for media"));
    sv_media *j = job("t", 2, "/nowhere", "{}", SV_STR("x"));
    assert_int_equal(sv_media_submit(t, j, &err), SV_ENOENT);
    sv_media_free(j);
    close_table(t);
}

static void frames_of_media_are_checked(void **state)
{
    sv_err err = {0};
    sv_buf b;
    sv_frame f;
    size_t used;
    sv_wire_media m;
    sv_str json;
    sv_usage usage;
    (void)state;
    sv_buf_init(&b, 0);
    sv_wire_add(&b, SV_WIRE_MEDIA, 1, (sv_str){"\xff\xff\0\0{}", 6});
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_media(&m, &f, &err), SV_EFORMAT);
    sv_buf_reset(&b);
    sv_wire_add(&b, SV_WIRE_MEDIA, 1, (sv_str){"\2\0\0\0{}xyz", 9});
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_media(&m, &f, &err), SV_EINVAL);
    sv_buf_reset(&b);
    sv_wire_add_result(&b, 7, SV_STR("{\"a\":1}"), &(sv_usage){.prompt_tokens = 3, .completion_tokens = 9});
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_result(&json, &usage, &f, &err), SV_OK);
    assert_true(sv_str_is(json, "{\"a\":1}") && usage.prompt_tokens == 3 && usage.completion_tokens == 9 && f.id == 7);
    sv_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recording_is_answered_as_the_model_alone_would),
        cmocka_unit_test(silence_is_filtered_out),
        cmocka_unit_test(tenants_take_turns),
        cmocka_unit_test(what_is_canceled_or_too_much_ends_at_once),
        cmocka_unit_test(other_models_are_refused_by_name),
        cmocka_unit_test(frames_of_media_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
