/* picture_tasks_test.c - Image Classification and Object Detection over HTTP, with a real engine and small random models
 *
 * The models are tests/reference/vision, the pictures tests/reference/images; what the engine makes of both is tested in engine/pictures_test.c. */
#include "ai/node_testing.h"

#define RESNET "@cf/microsoft/resnet-50"
#define OWN "me/eyes"
#define DETR "@cf/facebook/detr-resnet-50"

static node *real;
static sv_buf picture; /* a JPEG */

static void bring(const char *folder, const char *id)
{
    sv_err err = {0};
    SV_AUTO(sv_freep) char *path = sv_xasprintf(SV_SOURCE_ROOT "/tests/reference/vision/%s", folder);
    if (sv_catalogue_import(real->catalogue, &(sv_import_opts){.path = path, .id = id}, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int start(void **state)
{
    sv_err err = {0};
    (void)state;
    sv_buf_init(&picture, 0);
    assert_int_equal(sv_file_read(&picture, SV_SOURCE_ROOT "/tests/reference/images/turned-6.jpg", &err), SV_OK);
    real = node_start(true);
    bring("resnet-basic", RESNET);
    bring("vit", OWN);
    bring("detr", DETR);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    node_stop(real);
    sv_buf_done(&picture);
    return 0;
}

static answer send_bytes(const char *sock, const char *path, const char *headers, sv_str body)
{
    int fd = -1;
    sv_err err = {0};
    sv_buf b;
    if (sv_unix_connect(&fd, sock, &err) != SV_OK)
        fail_msg("%s", err.msg);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    sv_buf_init(&b, 0);
    sv_buf_addf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer x\r\n%sContent-Length: %zu\r\n\r\n", path, headers, body.n);
    sv_buf_add(&b, body.p, body.n);
    if (sv_write_all(fd, b.p, b.n, &err) != SV_OK)
        print_message("%s\n", err.msg); /* refused before all was read */
    sv_buf_done(&b);
    return read_answer(fd);
}

static answer post_bytes(const char *model, sv_str body)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf(ACCOUNT "/ai/run/%s", model);
    return send_bytes(real->api_sock, path, "Content-Type: application/octet-stream\r\n", body);
}

static json_t *ok(answer a)
{
    if (a.status != 200)
        fail_msg("%d: %s", a.status, sv_buf_cstr(&a.body));
    json_t *j = json_of(&a);
    answer_done(&a);
    return j;
}

/* {"image": ...} in one of the forms. */
static char *as_json(const char *form)
{
    sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "{\"image\":");
    if (strcmp(form, "list") == 0 || strcmp(form, "object") == 0) {
        bool list = form[0] == 'l';
        sv_buf_addc(&b, list ? '[' : '{');
        for (size_t i = 0; i < picture.n; i++) {
            sv_buf_adds(&b, i ? "," : "");
            if (!list)
                sv_buf_addf(&b, "\"%zu\":", i);
            sv_buf_addf(&b, "%u", (unsigned)(uint8_t)picture.p[i]);
        }
        sv_buf_addc(&b, list ? ']' : '}');
    } else {
        sv_buf_addf(&b, "\"%s", strcmp(form, "uri") == 0 ? "data:image/jpeg;base64," : "");
        sv_base64_encode(&b, picture.p, picture.n);
        sv_buf_addc(&b, '"');
    }
    sv_buf_addc(&b, '}');
    return sv_buf_take(&b);
}

static void every_form_of_a_picture_has_the_same_answer(void **state)
{
    static const char *const forms[] = {"list", "object", "base64", "uri"};
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *raw = ok(post_bytes(RESNET, sv_buf_str(&picture)));
    const json_t *want = json_object_get(raw, "result");
    assert_true(json_is_true(json_object_get(raw, "success")));
    assert_int_equal(json_array_size(want), 5);
    double last = 1;
    for (size_t i = 0; i < 5; i++) {
        const json_t *h = json_array_get(want, i);
        double score = json_number_value(json_object_get(h, "score"));
        assert_int_equal(json_object_size(h), 2);
        assert_true(sv_json_cstr(h, "label") && score > 0 && score <= last);
        last = score;
    }
    for (size_t i = 0; i < SV_LEN(forms); i++) {
        SV_AUTO(sv_freep) char *body = as_json(forms[i]);
        SV_AUTO(sv_freep) char *bound = sv_xasprintf("{\"inputs\":%s,\"options\":{}}", body);
        SV_AUTO(sv_json_decrefp) json_t *rest = ok(post(real, ACCOUNT "/ai/run/" RESNET, body));
        SV_AUTO(sv_json_decrefp) json_t *binding = ok(bind_run(real, RESNET, bound));
        assert_true(json_equal(json_object_get(rest, "result"), (json_t *)(uintptr_t)want));
        assert_true(json_equal(binding, (json_t *)(uintptr_t)want)); /* bare */
    }
    /* a stream of the binding: the bytes are the body, the other fields a parameter */
    SV_AUTO(sv_json_decrefp) json_t *stream =
        ok(send_bytes(real->bind_sock, "/run?version=3&userInputs=%7B%7D", "Content-Type: image/jpeg\r\ncf-consn-model-id: " RESNET "\r\nx-sv-binding: ai\r\n", sv_buf_str(&picture)));
    assert_true(json_equal(stream, (json_t *)(uintptr_t)want));
}

static void things_are_found_with_their_boxes(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = ok(post_bytes(DETR, sv_buf_str(&picture)));
    const json_t *list = json_object_get(j, "result"), *h;
    size_t i;
    assert_true(json_is_array(list));
    json_array_foreach(list, i, h) {
        const json_t *box = json_object_get(h, "box");
        assert_int_equal(json_object_size(h), 3);
        assert_true(sv_json_cstr(h, "label") && json_number_value(json_object_get(h, "score")) >= 0.5);
        assert_true(json_number_value(json_object_get(box, "xmin")) < json_number_value(json_object_get(box, "xmax")));
        assert_true(json_number_value(json_object_get(box, "ymin")) < json_number_value(json_object_get(box, "ymax")));
    }
}

static void an_id_of_ones_own_works_too(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *j = ok(post_bytes(OWN, sv_buf_str(&picture)));
    assert_int_equal(json_array_size(json_object_get(j, "result")), 5);
}

static void inputs_that_are_none_are_refused_in_words(void **state)
{
    const char *run = ACCOUNT "/ai/run/" RESNET;
    (void)state;
    refused(post_bytes(RESNET, SV_STR("no picture")), 400, 5006, "begin like no JPEG");
    refused(post_bytes(RESNET, (sv_str){picture.p, picture.n / 2}), 400, 5006, "JPEG image");
    refused(post_bytes(RESNET, SV_STR("GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;")), 413, 3006, "65535 x 65535");
    refused(post(real, run, "{}"), 400, 5006, "required properties at '/' are 'image'");
    refused(post(real, run, "{\"image\":null}"), 400, 5006, "required properties at '/' are 'image'");
    refused(post(real, run, "{\"image\":[]}"), 400, 5006, "'/image' is empty");
    refused(post(real, run, "{\"image\":\"\"}"), 400, 5006, "'/image' is empty");
    refused(post(real, run, "{\"image\":5}"), 400, 5006, "Type mismatch of '/image'");
    refused(post(real, run, "{\"image\":[1,256]}"), 400, 5006, "'/image/1' must be an integer from 0 to 255, got 256");
    refused(post(real, run, "{\"image\":[1,-1]}"), 400, 5006, "'/image/1'");
    refused(post(real, run, "{\"image\":[1.5]}"), 400, 5006, "'/image/0'");
    refused(post(real, run, "{\"image\":[1,\"2\"]}"), 400, 5006, "Type mismatch of '/image/1'");
    refused(post(real, run, "{\"image\":{\"body\":\"x\"}}"), 400, 5006, "'0' is missing");
    refused(post(real, run, "{\"image\":\"*\"}"), 400, 5004, "no base64");
    refused(post(real, run, "{\"image\":\"data:image/png,abc\"}"), 400, 5006, "data URI");
    refused(post(real, run, "{\"image\":\"https://example.com/cat.jpg\"}"), 400, 5006, "send the bytes");
    refused(post(real, run, ""), 400, 3003, "");
    refused(post(real, ACCOUNT "/ai/run/@cf/no/such", "{}"), 400, 5007, "");
    refused(bind_run(real, RESNET, "{\"inputs\":{}}"), 400, 5006, "required properties at '/' are 'image'");
    SV_AUTO(sv_freep) char *big = sv_xcalloc(11 << 20, 1);
    memset(big, 'x', 11 << 20);
    refused(post_bytes(RESNET, (sv_str){big, 11 << 20}), 413, 3006, "");
}

static void files_stand_only_under_ids_of_their_task(void **state)
{
    sv_err err = {0};
    (void)state;
    assert_int_equal(sv_catalogue_import(real->catalogue, &(sv_import_opts){.path = SV_SOURCE_ROOT "/tests/reference/vision/detr", .id = RESNET}, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "is a detector of objects (detr), for Object Detection; " RESNET " is a model for Image Classification"));
    assert_int_equal(sv_catalogue_import(real->catalogue, &(sv_import_opts){.path = SV_SOURCE_ROOT "/tests/reference/vision/vit-base", .id = "me/base"}, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "is a picture encoder (vit), for which this release has no task"));
    SV_AUTO(sv_json_decrefp) json_t *schema = ok(get(real, ACCOUNT "/ai/models/schema?model=" RESNET));
    assert_non_null(json_object_get(json_object_get(schema, "result"), "input"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_a_picture_has_the_same_answer),
        cmocka_unit_test(things_are_found_with_their_boxes),
        cmocka_unit_test(an_id_of_ones_own_works_too),
        cmocka_unit_test(inputs_that_are_none_are_refused_in_words),
        cmocka_unit_test(files_stand_only_under_ids_of_their_task),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
