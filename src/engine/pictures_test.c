/* Requests about pictures through the table of media: small models with random weights (tests/reference/vision_tiny.py), pictures of images.py */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/inspect.h"
#include "engine/media.h"
#include "engine/pictures.h"
#include "models/vision.h"

#define MODELS SV_SOURCE_ROOT "/tests/reference/vision/"
#define IMAGES SV_SOURCE_ROOT "/tests/reference/images/"

enum { MANY = 16 };
static sv_loop *loop;
static sv_compute *compute;
static sv_room *room;
static sv_cage *cage;
static int n_ended, n_wanted;
static sv_media *ended_jobs[MANY];

static void on_end(sv_media *j) { ended_jobs[n_ended++] = j; }
static void on_batch(void *arg)
{
    (void)arg;
    if (n_ended == n_wanted)
        sv_loop_stop(loop);
}

static sv_media_table *open_table(int wanted)
{
    sv_err err = {0};
    assert_int_equal(sv_cage_new(&cage, sv_media_cage_fns, SV_N_CAGE_FNS, &(sv_cage_opts){0}, &err), SV_OK);
    loop = sv_loop_new();
    compute = sv_compute_new(2);
    room = sv_room_new(0);
    n_ended = 0;
    n_wanted = wanted;
    return sv_media_table_new(loop, compute, &(sv_media_table_opts){.room = room, .cage = cage, .on_end = on_end, .on_batch = on_batch});
}

static void close_table(sv_media_table *t)
{
    sv_media_table_free(t);
    sv_room_free(room);
    sv_compute_free(compute);
    sv_loop_free(loop);
    sv_cage_free(cage);
    for (int i = 0; i < n_ended; i++)
        sv_media_free(ended_jobs[i]);
}

static void read_file(sv_buf *b, const char *name)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf(IMAGES "%s", name);
    sv_err err = {0};
    sv_buf_init(b, 0);
    assert_int_equal(sv_file_read(b, path, &err), SV_OK);
}

/* As it comes over the wire. */
static sv_media *job(uint32_t id, const char *model, const char *options, sv_str bytes)
{
    sv_media *j = sv_media_new();
    SV_AUTO(sv_freep) char *path = sv_xasprintf(MODELS "%s", model);
    SV_AUTO(sv_json_decrefp) json_t *o = json_loads(options, 0, NULL);
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    sv_frame f;
    size_t used;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_media(&b, id, &(sv_media_opts){.model_path = path, .tenant = "a", .options = o, .bytes = bytes}, &err), SV_OK);
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(sv_wire_get_media(&j->req, &f, &err), SV_OK);
    j->bytes = sv_xcalloc(bytes.n + 1, 1);
    memcpy(j->bytes, bytes.p, bytes.n);
    j->req.bytes.p = j->bytes;
    j->id = id;
    return j;
}

static const sv_media *by_id(uint32_t id)
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

static void a_picture_is_answered_as_the_model_alone_would(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_vision_closep) sv_vision *v = NULL;
    SV_AUTO(sv_image_donep) sv_image i = {0};
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_vision_hit hits[3];
    sv_err err = {0};
    int32_t w0, h0;
    (void)state;
    read_file(&file, "turned-6.jpg");
    sv_media_table *t = open_table(2);
    assert_int_equal(sv_media_submit(t, job(1, "resnet-basic", "{\"top\":3}", sv_buf_str(&file)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(2, "resnet-basic", "{}", sv_buf_str(&file)), &err), SV_OK); /* memory of the run before */
    sv_loop_run(loop);
    assert_int_equal(sv_vision_open(&v, MODELS "resnet-basic", &err), SV_OK);
    assert_int_equal(sv_image_prep_run(&i, &w0, &h0, sv_vision_prep(v), sv_buf_str(&file), &err), SV_OK);
    assert_int_equal(sv_vision_run_new(&r, v, i.w, i.h, &err), SV_OK);
    sv_vision_set_pixels(r, i.rgb);
    for (int32_t s = 0; s < sv_vision_n_steps(v); s++)
        sv_vision_step(r, pool, s);
    assert_int_equal(sv_vision_hits(r, hits, 3, 0, w0, h0), 3);

    SV_AUTO(sv_json_decrefp) json_t *got = answer_of(1);
    SV_AUTO(sv_json_decrefp) json_t *again = answer_of(2);
    const json_t *list = json_object_get(got, "hits");
    assert_int_equal(json_array_size(list), 3);
    assert_int_equal(json_array_size(json_object_get(again, "hits")), 5);
    assert_int_equal(json_integer_value(json_object_get(got, "width")), 14); /* turned upright */
    assert_int_equal(json_integer_value(json_object_get(got, "height")), 23);
    for (size_t k = 0; k < 3; k++) {
        const json_t *h = json_array_get(list, k);
        assert_string_equal(sv_json_cstr(h, "label"), sv_vision_label(v, hits[k].label));
        assert_true((float)json_number_value(json_object_get(h, "score")) == hits[k].score);
        assert_null(json_object_get(h, "box"));
        assert_true(json_equal(h, json_array_get(json_object_get(again, "hits"), k)));
    }
    SV_AUTO(sv_buf_donep) sv_buf stats;
    sv_buf_init(&stats, 0);
    sv_media_add_stats(t, &stats);
    assert_non_null(strstr(sv_buf_cstr(&stats), "\"state\":\"ready\",\"n_jobs\":0,\"requests\":2"));
    close_table(t);
}

static void a_detector_gives_boxes_in_pixels(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf file;
    sv_err err = {0};
    size_t k;
    const json_t *h;
    (void)state;
    read_file(&file, "sub-0.jpg");
    sv_media_table *t = open_table(2);
    assert_int_equal(sv_media_submit(t, job(1, "detr", "{\"top\":100,\"threshold\":0}", sv_buf_str(&file)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(2, "detr", "{\"threshold\":1}", sv_buf_str(&file)), &err), SV_OK);
    sv_loop_run(loop);
    SV_AUTO(sv_json_decrefp) json_t *got = answer_of(1);
    SV_AUTO(sv_json_decrefp) json_t *none = answer_of(2);
    assert_int_equal(json_array_size(json_object_get(got, "hits")), 7);
    json_array_foreach(json_object_get(got, "hits"), k, h) {
        const json_t *box = json_object_get(h, "box");
        assert_int_equal(json_array_size(box), 4);
        assert_true(json_number_value(json_array_get(box, 0)) < json_number_value(json_array_get(box, 2)));
        assert_true(json_number_value(json_array_get(box, 1)) < json_number_value(json_array_get(box, 3)));
    }
    assert_int_equal(json_array_size(json_object_get(none, "hits")), 0);
    close_table(t);
}

static void what_cannot_be_read_is_the_requests_fault(void **state)
{
    SV_AUTO(sv_buf_donep) sv_buf file;
    SV_AUTO(sv_freep) char *big = sv_xcalloc(SV_IMAGE_MAX_BYTES + 1, 1);
    sv_err err = {0};
    (void)state;
    read_file(&file, "lossy.webp");
    sv_media_table *t = open_table(8);
    assert_int_equal(sv_media_submit(t, job(1, "resnet-basic", "{}", SV_STR("no picture")), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(2, "resnet-basic", "{}", (sv_str){file.p, file.n / 2}), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(3, "resnet-basic", "{\"top\":0}", sv_buf_str(&file)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(4, "resnet-basic", "{\"threshold\":\"x\"}", sv_buf_str(&file)), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(5, "resnet-basic", "{}", (sv_str){big, SV_IMAGE_MAX_BYTES + 1}), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(6, "resnet-basic", "{}", (sv_str){"", 0}), &err), SV_OK);
    assert_int_equal(sv_media_submit(t, job(7, "vit-base", "{}", sv_buf_str(&file)), &err), SV_OK);
    sv_media *canceled = job(8, "resnet-basic", "{}", sv_buf_str(&file));
    atomic_store(&canceled->cancel, true);
    assert_int_equal(sv_media_submit(t, canceled, &err), SV_OK);
    sv_loop_run(loop);
    static const struct { uint32_t id; sv_rc rc; int api; const char *word; } want[] = {
        {1, SV_EINVAL, 5006, "begin like no"}, {2, SV_EINVAL, 5006, "WebP"}, {3, SV_EINVAL, 5006, "top"}, {4, SV_EINVAL, 5006, "threshold"},
        {5, SV_ELIMIT, 3006, "at most"}, {6, SV_EINVAL, 5006, "empty"}, {7, SV_EINVAL, 5006, "vectors"}, {8, SV_ECANCELED, 0, "canceled"},
    };
    for (size_t i = 0; i < SV_LEN(want); i++) {
        const sv_err *e = &by_id(want[i].id)->err;
        if (e->code != want[i].rc || e->api_code != want[i].api || !strstr(e->msg, want[i].word))
            fail_msg("%u: %s, %d, '%s'", want[i].id, sv_rc_name(e->code), e->api_code, e->msg);
    }
    close_table(t);
}

static void files_are_told_apart(void **state)
{
    static const struct { const char *name; sv_model_kind kind; int dim; } want[] = {
        {"resnet-basic", SV_KIND_IMAGES, 7}, {"mobilenet", SV_KIND_IMAGES, 7}, {"vit", SV_KIND_IMAGES, 7}, {"detr", SV_KIND_OBJECTS, 7}, {"vit-base", SV_KIND_EYES, 0},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(want); i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf(MODELS "%s", want[i].name);
        sv_model_facts f;
        sv_err err = {0};
        assert_int_equal(sv_engine_inspect(path, &f, &err), SV_OK);
        assert_int_equal(f.kind, want[i].kind);
        assert_int_equal(f.dim, want[i].dim);
        assert_true(f.n_params > 0 && f.size_bytes > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_is_answered_as_the_model_alone_would),
        cmocka_unit_test(a_detector_gives_boxes_in_pixels),
        cmocka_unit_test(what_cannot_be_read_is_the_requests_fault),
        cmocka_unit_test(files_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
