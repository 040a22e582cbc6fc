/* pictures.c - a picture, looked at: bytes to pixels in a cage, steps of the network, JSON
 *
 * Memory for the run is kept from one picture to the next of the same size, which for classifiers is every one. */
#include "engine/pictures.h"

#include <string.h>

#include "base/floats.h"
#include "base/json.h"
#include "engine/media.h"
#include "models/vision.h"

typedef struct picture_model {
    sv_vision *vision;
    sv_vision_run *run; /* or NULL */
    int32_t w, h;       /* what run is for */
} picture_model;

static void pictures_close(void *model)
{
    picture_model *m = model;
    sv_vision_run_free(m->run);
    sv_vision_close(m->vision);
    free(m);
}

static sv_rc pictures_open(void **out, const char *path, sv_err *err)
{
    picture_model *m = sv_xnew0(picture_model);
    if (sv_vision_open(&m->vision, path, err) != SV_OK) {
        pictures_close(m);
        return err->code;
    }
    *out = m;
    return SV_OK;
}

/* The file's faults are the request's. */
static sv_rc blame_file(sv_err *err)
{
    if (err->code == SV_EFORMAT) {
        err->code = SV_EINVAL;
        err->api_code = 5006;
    } else if (err->code == SV_ELIMIT) {
        err->api_code = 3006;
    }
    return err->code;
}

static sv_rc prepare(picture_model *m, sv_str file, const sv_media_run *run, sv_image_caged *size, sv_err *err)
{
    const sv_image_prep *prep = sv_vision_prep(m->vision);
    SV_AUTO(sv_buf_donep) sv_buf pixels;
    const uint8_t *rgb = NULL;
    sv_buf_init(&pixels, (size_t)SV_IMAGE_MAX_PIXELS * 3 + sizeof *size);
    if (!run->cage)
        return sv_fail(err, SV_EIO, "there is no process to decode pictures in; the log says why");
    if (sv_cage_run(run->cage, SV_CAGE_PICTURES, (sv_str){(const char *)prep, sizeof *prep}, file, &pixels, run->cancel, err) != SV_OK ||
        sv_image_caged_get(size, &rgb, sv_buf_str(&pixels), err) != SV_OK)
        return blame_file(err);
    if (m->run && (m->w != size->w || m->h != size->h))
        m->run = sv_vision_run_free(m->run);
    if (!m->run && sv_vision_run_new(&m->run, m->vision, size->w, size->h, err) != SV_OK)
        return err->code;
    m->w = size->w;
    m->h = size->h;
    sv_vision_set_pixels(m->run, rgb);
    return SV_OK;
}

static void add_number(sv_buf *out, float x)
{
    char number[SV_FLOAT_TEXT];
    sv_buf_add(out, number, sv_float_write(number, x));
}

static void add_hits(sv_buf *out, const picture_model *m, const sv_image_caged *size, int32_t top, float threshold)
{
    sv_vision_hit hits[SV_PICTURES_MAX_HITS];
    int32_t n = sv_vision_hits(m->run, hits, top, threshold, size->w0, size->h0);
    bool boxes = sv_vision_get_info(m->vision)->task == SV_VISION_BOXES;
    sv_buf_addf(out, "{\"width\":%d,\"height\":%d,\"hits\":[", size->w0, size->h0);
    for (int32_t i = 0; i < n; i++) {
        sv_buf_adds(out, i ? ",{\"label\":" : "{\"label\":");
        sv_json_add_str(out, sv_str_of(sv_vision_label(m->vision, hits[i].label)));
        sv_buf_adds(out, ",\"score\":");
        add_number(out, hits[i].score);
        for (int k = 0; boxes && k < 4; k++) {
            sv_buf_adds(out, k ? "," : ",\"box\":[");
            add_number(out, hits[i].box[k]);
        }
        sv_buf_adds(out, boxes ? "]}" : "}");
    }
    sv_buf_adds(out, "]}");
}

static sv_rc pictures_run(void *model, sv_media *j, const sv_media_run *run, sv_err *err)
{
    picture_model *m = model;
    sv_image_caged size = {0};
    int64_t top = 5;
    double threshold = 0.5;
    if (sv_json_int(j->req.options, "top", 1, SV_PICTURES_MAX_HITS, &top, err) != SV_OK || sv_json_num(j->req.options, "threshold", 0, 1, &threshold, err) != SV_OK) {
        err->api_code = 5006;
        return err->code;
    }
    if (sv_vision_get_info(m->vision)->task == SV_VISION_VECTORS)
        return sv_fail_api(err, SV_EINVAL, 5006, "this model has no classes: it makes vectors");
    if (prepare(m, j->req.bytes, run, &size, err) != SV_OK)
        return err->code;
    for (int32_t i = 0; i < sv_vision_n_steps(m->vision); i++) {
        if (atomic_load(run->cancel))
            return sv_fail(err, SV_ECANCELED, "canceled");
        sv_vision_step(m->run, sv_compute_enter(run->compute), i);
        sv_compute_leave(run->compute);
    }
    add_hits(&j->json, m, &size, (int32_t)top, (float)threshold);
    return SV_OK;
}

const sv_media_family sv_media_pictures = {.is = sv_vision_is, .open = pictures_open, .close = pictures_close, .run = pictures_run};
