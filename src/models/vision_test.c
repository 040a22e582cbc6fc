/* Image models, checked against transformers in float32 (tests/reference/vision_tiny.py) and, with real weights, against the shared data */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "models/vision.h"

#define REFERENCE SV_SOURCE_ROOT "/tests/reference/"

static json_t *goldens;

static sv_rc read_json_file(json_t **out, const char *path)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    sv_buf_init(&b, 0);
    if (sv_file_read(&b, path, &err) != SV_OK || sv_json_parse(out, sv_buf_str(&b), &err) != SV_OK)
        fail_msg("%s", err.msg);
    return SV_OK;
}

static int read_goldens(void **state)
{
    (void)state;
    return read_json_file(&goldens, REFERENCE "vision-tiny.json");
}

static int drop_goldens(void **state)
{
    (void)state;
    json_decref(goldens);
    return 0;
}

static sv_vision *open_tiny(const char *name)
{
    sv_vision *v = NULL;
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(REFERENCE "vision/%s", name);
    assert_true(sv_vision_is(path));
    if (sv_vision_open(&v, path, &err) != SV_OK)
        fail_msg("%s: %s", name, err.msg);
    return v;
}

/* As in vision_tiny.py. */
static float *pixels_of(int32_t w, int32_t h)
{
    float *p = malloc((size_t)(w * h) * 3 * sizeof *p);
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++)
            for (int32_t c = 0; c < 3; c++)
                p[(y * w + x) * 3 + c] = (float)((x * x * 3 + y * 5 + x * y * 7 + c * 85 + w * 11) % 256) / 128 - 1;
    return p;
}

static sv_vision_run *run_on(const sv_vision *v, int n_threads, int32_t w, int32_t h, const float *pixels, const uint8_t *rgb)
{
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(n_threads);
    sv_vision_run *r = NULL;
    sv_err err = {0};
    if (sv_vision_run_new(&r, v, w, h, &err) != SV_OK)
        fail_msg("%s", err.msg);
    for (int twice = 0; twice < 2; twice++) { /* nothing of a run before shows in the next */
        if (pixels)
            sv_vision_set_floats(r, pixels);
        else
            sv_vision_set_pixels(r, rgb);
        for (int32_t i = 0; i < sv_vision_n_steps(v); i++)
            sv_vision_step(r, pool, i);
    }
    return r;
}

/* Within 1e-4 of the largest number. */
static void check(const char *name, const sv_vision_run *r, const json_t *want)
{
    int32_t n_rows, dim;
    const float *out = sv_vision_out(r, &n_rows, &dim);
    double largest = 0, worst = 0;
    assert_int_equal(json_array_size(want), n_rows);
    for (int32_t i = 0; i < n_rows; i++) {
        assert_int_equal(json_array_size(json_array_get(want, (size_t)i)), dim);
        for (int32_t k = 0; k < dim; k++) {
            double w = json_number_value(json_array_get(json_array_get(want, (size_t)i), (size_t)k)), d = fabs(w - (double)out[i * dim + k]);
            largest = fabs(w) > largest ? fabs(w) : largest;
            worst = d > worst || isnan(d) ? d : worst;
        }
    }
    if (!(worst <= 1e-4 * largest))
        fail_msg("%s: off by %g of %g", name, worst, largest);
}

static void numbers_are_those_of_transformers(void **state)
{
    const char *name;
    json_t *cases;
    const json_t *c;
    size_t i;
    (void)state;
    json_object_foreach(goldens, name, cases) {
        SV_AUTO(sv_vision_closep) sv_vision *v = open_tiny(name);
        json_array_foreach(cases, i, c) {
            int32_t w = (int32_t)json_integer_value(json_object_get(c, "w")), h = (int32_t)json_integer_value(json_object_get(c, "h"));
            SV_AUTO(sv_freep) float *p = pixels_of(w, h);
            SV_AUTO(sv_vision_run_freep) sv_vision_run *r = run_on(v, 2, w, h, p, NULL);
            check(name, r, json_object_get(c, "out"));
        }
    }
}

static void bits_do_not_depend_on_threads(void **state)
{
    static const char *const names[] = {"resnet-bottleneck", "mobilenet", "detr"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(names); i++) {
        SV_AUTO(sv_vision_closep) sv_vision *v = open_tiny(names[i]);
        SV_AUTO(sv_freep) float *p = pixels_of(50, 41);
        SV_AUTO(sv_vision_run_freep) sv_vision_run *one = run_on(v, 1, 50, 41, p, NULL);
        SV_AUTO(sv_vision_run_freep) sv_vision_run *three = run_on(v, 3, 50, 41, p, NULL);
        int32_t n_rows, dim;
        const float *a = sv_vision_out(one, &n_rows, &dim), *b = sv_vision_out(three, &n_rows, &dim);
        assert_memory_equal(a, b, (size_t)(n_rows * dim) * sizeof *a);
    }
}

static void what_a_folder_is_can_be_told(void **state)
{
    (void)state;
    SV_AUTO(sv_vision_closep) sv_vision *v = open_tiny("detr");
    const sv_vision_info *i = sv_vision_get_info(v);
    assert_string_equal(i->arch, "detr");
    assert_string_equal(i->name, "detr");
    assert_string_equal(i->weights, "F32");
    assert_int_equal(i->task, SV_VISION_BOXES);
    assert_int_equal(i->n_labels, 7);
    assert_string_equal(sv_vision_label(v, 2), "river stone");
    assert_string_equal(sv_vision_label(v, 7), "");
    assert_true(i->n_params > 10000 && i->memory_bytes > 40000 && i->size_bytes > 40000);
    SV_AUTO(sv_vision_closep) sv_vision *base = open_tiny("vit-base");
    assert_int_equal(sv_vision_get_info(base)->task, SV_VISION_VECTORS);
    assert_false(sv_vision_is(REFERENCE "encoders/bert"));
    assert_false(sv_vision_is(REFERENCE "llama-f32.gguf"));
    assert_false(sv_vision_is("/nowhere"));
}

static void hits_are_sorted_and_scaled(void **state)
{
    (void)state;
    SV_AUTO(sv_vision_closep) sv_vision *v = open_tiny("resnet-basic");
    SV_AUTO(sv_freep) float *p = pixels_of(33, 47);
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = run_on(v, 1, 33, 47, p, NULL);
    sv_vision_hit hits[16];
    assert_int_equal(sv_vision_hits(r, hits, 5, 0, 33, 47), 5);
    for (int i = 1; i < 5; i++)
        assert_true(hits[i - 1].score >= hits[i].score && hits[i].score > 0);
    assert_int_equal(sv_vision_hits(r, hits, 16, 0, 33, 47), 7);
    double sum = 0;
    for (int i = 0; i < 7; i++)
        sum += (double)hits[i].score;
    assert_float_equal(sum, 1, 1e-6);

    SV_AUTO(sv_vision_closep) sv_vision *d = open_tiny("detr");
    SV_AUTO(sv_freep) float *q = pixels_of(64, 48);
    SV_AUTO(sv_vision_run_freep) sv_vision_run *dr = run_on(d, 1, 64, 48, q, NULL);
    int32_t n_rows, dim, all = sv_vision_hits(dr, hits, 16, 0, 640, 480);
    const float *out = sv_vision_out(dr, &n_rows, &dim);
    assert_int_equal(all, 7);
    for (int i = 0; i < all; i++) { /* the box is that of some query, in pixels */
        bool found = false;
        for (int32_t k = 0; k < n_rows; k++) {
            const float *b = out + k * dim + 8;
            found = found || (fabs((double)(hits[i].box[2] - hits[i].box[0]) - (double)b[2] * 640) < 1e-3 && fabs((double)(hits[i].box[1] + hits[i].box[3]) / 2 - (double)b[1] * 480) < 1e-3);
        }
        assert_true(found);
    }
    assert_int_equal(sv_vision_hits(dr, hits, 16, 1.1f, 640, 480), 0);
    assert_true(sv_vision_hits(dr, hits, 16, hits[0].score, 640, 480) <= 1 || all == 7);
}

static void sizes_that_a_model_does_not_read_are_refused(void **state)
{
    (void)state;
    SV_AUTO(sv_vision_closep) sv_vision *vit = open_tiny("vit");
    SV_AUTO(sv_vision_closep) sv_vision *resnet = open_tiny("resnet-basic");
    SV_AUTO(sv_vision_closep) sv_vision *learned = open_tiny("detr-learned");
    sv_vision_run *r = NULL;
    sv_err err = {0};
    assert_int_equal(sv_vision_run_new(&r, vit, 24, 24, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "32 x 24"));
    assert_int_equal(sv_vision_run_new(&r, resnet, 5000, 24, &err), SV_EINVAL);
    assert_int_equal(sv_vision_run_new(&r, learned, 4000, 24, &err), SV_EINVAL);
    for (int32_t side = 1; side < 20; side++) { /* the smallest ones are computed all the same */
        SV_AUTO(sv_freep) float *p = pixels_of(side, 1);
        SV_AUTO(sv_vision_run_freep) sv_vision_run *small = run_on(resnet, 1, side, 1, p, NULL);
        assert_non_null(small);
    }
}

/* --- folders that are wrong --------------------------------------------------------------------------------------- */

static char *copy_of(const char *name, const char *file, const char *text)
{
    char *folder = sv_xstrdup("/tmp/sv-vision-XXXXXX");
    static const char *const files[] = {"config.json", "model.safetensors"};
    sv_err err = {0};
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < SV_LEN(files); i++) {
        SV_AUTO(sv_freep) char *from = sv_xasprintf(REFERENCE "vision/%s/%s", name, files[i]);
        SV_AUTO(sv_freep) char *to = sv_xasprintf("%s/%s", folder, files[i]);
        if (strcmp(files[i], file) != 0)
            assert_int_equal(symlink(from, to), 0);
    }
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, file);
    assert_int_equal(sv_file_replace(path, text, strlen(text), 0600, &err), SV_OK);
    return folder;
}

/* The folder with one member of config.json set to `json`. */
static void refuse_config(const char *name, const char *key, const char *json, const char *word)
{
    json_t *config = NULL, *value = NULL;
    SV_AUTO(sv_freep) char *from = sv_xasprintf(REFERENCE "vision/%s/config.json", name);
    sv_err err = {0};
    read_json_file(&config, from);
    assert_int_equal(sv_json_parse(&value, sv_str_of(json), &err), SV_OK);
    json_object_set_new(config, key, value);
    char *text = json_dumps(config, 0);
    SV_AUTO(sv_freep) char *folder = copy_of(name, "config.json", text);
    sv_vision *v = NULL;
    if (sv_vision_open(&v, folder, &err) != SV_EFORMAT || !strstr(err.msg, word))
        fail_msg("%s, %s = %s: '%s' lacks '%s'", name, key, json, err.msg, word);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    json_decref(config);
    free(text);
}

static void wrong_folders_are_refused_with_a_sentence(void **state)
{
    (void)state;
    refuse_config("resnet-basic", "model_type", "\"swin\"", "no image model");
    refuse_config("resnet-basic", "hidden_sizes", "[16,24]", "'depths'");
    refuse_config("resnet-basic", "hidden_sizes", "[16,24,41]", "shape");
    refuse_config("resnet-basic", "hidden_sizes", "\"x\"", "'hidden_sizes'");
    refuse_config("resnet-basic", "hidden_sizes", "[16,24,-1]", "'hidden_sizes'");
    refuse_config("resnet-basic", "depths", "[2,1,300]", "stage 2");
    refuse_config("resnet-basic", "depths", "[2,1,3]", "missing");
    refuse_config("resnet-basic", "hidden_act", "\"mish\"", "mish");
    refuse_config("resnet-basic", "layer_type", "\"odd\"", "odd");
    refuse_config("resnet-basic", "num_channels", "4", "num_channels");
    refuse_config("resnet-basic", "id2label", "{\"0\":\"a\"}", "classifier");
    refuse_config("resnet-bottleneck", "hidden_sizes", "[16,24,42]", "stage 2");
    refuse_config("mobilenet", "depth_multiplier", "-1", "depth_multiplier");
    refuse_config("mobilenet", "depth_multiplier", "0.5", "shape");
    refuse_config("mobilenet", "output_stride", "9", "output_stride");
    refuse_config("vit", "num_attention_heads", "5", "heads");
    refuse_config("vit", "image_size", "[24,32,5]", "image_size");
    refuse_config("vit", "image_size", "4", "patches");
    refuse_config("vit", "hidden_size", "100000", "hidden_size");
    refuse_config("vit", "patch_size", "[4,8]", "patch_size");
    refuse_config("detr", "d_model", "30", "heads");
    refuse_config("detr", "dilation", "true", "dilation");
    refuse_config("detr", "backbone_config", "{\"model_type\":\"swin\"}", "backbone");
    refuse_config("detr", "position_embedding_type", "\"odd\"", "odd");
    refuse_config("detr", "num_queries", "8", "query_position");
    refuse_config("detr", "architectures", "[\"DetrModel\"]", "heads");

    sv_vision *v = NULL;
    sv_err err = {0};
    static const struct { const char *file, *text, *word; } texts[] = {
        {"config.json", "{", "config.json"}, {"model.safetensors", "xyz", "model.safetensors"}, {"preprocessor_config.json", "{\"size\":{}}", "preprocessor_config.json"},
        {"preprocessor_config.json", "{\"size\":{\"height\":30,\"width\":30}}", "does not read"},
    };
    for (size_t i = 0; i < SV_LEN(texts); i++) {
        SV_AUTO(sv_freep) char *folder = copy_of("vit", texts[i].file, texts[i].text);
        if (sv_vision_open(&v, folder, &err) == SV_OK || !strstr(err.msg, texts[i].word))
            fail_msg("%s: '%s'", texts[i].file, err.msg);
        assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    }
    assert_int_equal(sv_vision_open(&v, "/nowhere", &err), SV_ENOENT);
}

/* --- real weights ------------------------------------------------------------------------------------------------- */

/* A Hugging Face folder of weights of the shared data. */
static sv_vision *open_shared(const char *root, const char *weights, const char *config)
{
    char folder[] = "/tmp/sv-vision-XXXXXX";
    SV_AUTO(sv_freep) char *from = sv_xasprintf("%s/%s", root, weights);
    sv_vision *v = NULL;
    sv_err err = {0};
    assert_non_null(mkdtemp(folder));
    SV_AUTO(sv_freep) char *to = sv_xasprintf("%s/model.safetensors", folder);
    SV_AUTO(sv_freep) char *c = sv_xasprintf("%s/config.json", folder);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(sv_file_replace(c, config, strlen(config), 0600, &err), SV_OK);
    if (sv_vision_open(&v, folder, &err) != SV_OK)
        fail_msg("%s: %s", weights, err.msg);
    assert_int_equal(sv_remove_tree(folder, &err), SV_OK);
    return v;
}

static sv_image prepared(const sv_vision *v, const char *path)
{
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_image i = {0};
    sv_err err = {0};
    int32_t w0, h0;
    sv_buf_init(&b, 0);
    if (sv_file_read(&b, path, &err) != SV_OK || sv_image_prep_run(&i, &w0, &h0, sv_vision_prep(v), sv_buf_str(&b), &err) != SV_OK)
        fail_msg("%s", err.msg);
    return i;
}

/* The expected numbers have four digits after the point. */
static void mobilenet_v2_knows_the_photos(void **state)
{
    const char *root = getenv("SV_SHARED_DATA"), *name;
    json_t *expected = NULL, *want;
    (void)state;
    if (!root)
        skip();
    SV_AUTO(sv_vision_closep) sv_vision *v = open_shared(root, "models/mobilenet-v2/mobilenet_v2.safetensors", "{\"model_type\":\"mobilenet_v2\",\"num_labels\":1000}");
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/images/photos/expected-mobilenet_v2.json", root);
    read_json_file(&expected, path);
    json_object_foreach(json_object_get(expected, "images"), name, want) {
        SV_AUTO(sv_freep) char *photo = sv_xasprintf("%s/images/photos/%s", root, name);
        SV_AUTO(sv_freep) char *crop = sv_xasprintf("%s/images/photos/crops-224/%.*s.png", root, (int)(strlen(name) - 4), name);
        SV_AUTO(sv_image_donep) sv_image whole = prepared(v, photo);
        SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
        int32_t n_rows, dim;
        sv_vision_hit hits[5];
        size_t k;
        const json_t *e;
        SV_AUTO(sv_buf_donep) sv_buf b;
        SV_AUTO(sv_image_donep) sv_image exact = {0};
        sv_err err = {0};
        sv_buf_init(&b, 0);
        assert_int_equal(sv_file_read(&b, crop, &err), SV_OK);
        assert_int_equal(sv_image_decode(&exact, sv_buf_str(&b), &err), SV_OK);
        r = run_on(v, 2, 224, 224, NULL, exact.rgb);
        const float *out = sv_vision_out(r, &n_rows, &dim);
        json_array_foreach(json_object_get(want, "first8_logits"), k, e)
            assert_float_equal(out[k], json_number_value(e), 2e-4);
        assert_int_equal(sv_vision_hits(r, hits, 5, 0, 224, 224), 5);
        json_array_foreach(json_object_get(want, "top5"), k, e) {
            assert_int_equal(hits[k].label, json_integer_value(json_array_get(e, 0)));
            assert_float_equal(hits[k].score, json_number_value(json_array_get(e, 2)), 2e-5);
        }
        /* The photo itself, by transformers' order of roundings, is a pixel beside that crop at most: the same class. */
        SV_AUTO(sv_vision_run_freep) sv_vision_run *own = run_on(v, 2, 224, 224, NULL, whole.rgb);
        assert_int_equal(sv_vision_hits(own, hits, 1, 0, 224, 224), 1);
        assert_int_equal(hits[0].label, json_integer_value(json_array_get(json_array_get(json_object_get(want, "top5"), 0), 0)));
    }
    json_decref(expected);
}

static void cifar_one(const char *root, const char *name, const char *depths, int want_right)
{
    SV_AUTO(sv_freep) char *config = sv_xasprintf("{\"model_type\":\"cifar-resnet\",\"hidden_sizes\":[16,32,64],\"depths\":%s,\"num_labels\":10}", depths);
    SV_AUTO(sv_freep) char *weights = sv_xasprintf("models/cifar-resnet/%s.safetensors", name);
    SV_AUTO(sv_freep) char *expected_path = sv_xasprintf("%s/images/cifar10/expected-%s.json", root, name);
    SV_AUTO(sv_freep) char *pixels_path = sv_xasprintf("%s/images/cifar10/cifar10-test-200.rgb", root);
    SV_AUTO(sv_vision_closep) sv_vision *v = open_shared(root, weights, config);
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(2);
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
    SV_AUTO(sv_buf_donep) sv_buf rgb;
    json_t *expected = NULL, *want;
    const char *key;
    sv_err err = {0};
    int right = 0, n = 0;
    sv_buf_init(&rgb, 0);
    assert_int_equal(sv_file_read(&rgb, pixels_path, &err), SV_OK);
    assert_int_equal(sv_vision_run_new(&r, v, 32, 32, &err), SV_OK);
    read_json_file(&expected, expected_path);
    json_object_foreach(json_object_get(expected, "images"), key, want) { /* in the order of the file of pixels */
        int32_t n_rows, dim;
        sv_vision_hit best;
        size_t k;
        const json_t *e;
        sv_vision_set_pixels(r, (const uint8_t *)rgb.p + 3072 * n++);
        for (int32_t i = 0; i < sv_vision_n_steps(v); i++)
            sv_vision_step(r, pool, i);
        const float *out = sv_vision_out(r, &n_rows, &dim);
        json_array_foreach(json_object_get(want, "logits"), k, e)
            assert_float_equal(out[k], json_number_value(e), 2e-4);
        assert_int_equal(sv_vision_hits(r, &best, 1, 0, 32, 32), 1);
        right += best.label == json_integer_value(json_object_get(want, "label"));
    }
    assert_int_equal(n, 200);
    assert_int_equal(right, want_right);
    json_decref(expected);
}

static void the_small_resnets_know_cifar(void **state)
{
    const char *root = getenv("SV_SHARED_DATA");
    (void)state;
    if (!root)
        skip();
    cifar_one(root, "resnet20", "[3,3,3]", 160);
    cifar_one(root, "resnet56", "[9,9,9]", 172);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_transformers),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(what_a_folder_is_can_be_told),
        cmocka_unit_test(hits_are_sorted_and_scaled),
        cmocka_unit_test(sizes_that_a_model_does_not_read_are_refused),
        cmocka_unit_test(wrong_folders_are_refused_with_a_sentence),
        cmocka_unit_test(mobilenet_v2_knows_the_photos),
        cmocka_unit_test(the_small_resnets_know_cifar),
    };
    return cmocka_run_group_tests(tests, read_goldens, drop_goldens);
}
