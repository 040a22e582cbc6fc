/* vision.h - image models: pixels in; scores of classes, boxes, or vectors out
 *
 * Families: ResNet (resnet.c), MobileNetV2 (mobilenet.c), ViT (vit.c), DETR (detr.c). One run computes one picture: even a small one fills all
 * cores, so what comes out depends on no other picture and on no number of threads.
 *
 * Threads: the weights are immutable and may be used by any number of threads; an sv_vision_run belongs to one. */
#ifndef SV_MODELS_VISION_H
#define SV_MODELS_VISION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "models/image_prep.h"
#include "nn/pool.h"

typedef struct sv_vision sv_vision;
typedef struct sv_vision_run sv_vision_run; /* memory for runs of pictures of one size */

typedef enum sv_vision_task { SV_VISION_VECTORS, SV_VISION_CLASSES, SV_VISION_BOXES } sv_vision_task;

typedef struct sv_vision_info {
    char arch[32];     /* "resnet", "mobilenet_v2", "vit", "detr" */
    char name[96];     /* of the folder */
    char weights[16];  /* the type most bytes of the files have: "F32" */
    int64_t n_params;
    size_t size_bytes;   /* of the weights' files */
    size_t memory_bytes; /* of the weights in memory: float32 */
    sv_vision_task task;
    int32_t n_labels;
} sv_vision_info;

/* Is this a model for this file? Looks at config.json, no more. False too where it cannot be read. */
bool sv_vision_is(const char *path);

/* Opens a Hugging Face folder (config.json, safetensors, preprocessor_config.json where it has one): checks every hyper-parameter, and that each tensor is
 * there with the right shape. Errors are one sentence naming file and tensor or member. */
SV_MUST sv_rc sv_vision_open(sv_vision **out, const char *path, sv_err *err);
sv_vision *sv_vision_close(sv_vision *v); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_vision, sv_vision_close)
const sv_vision_info *sv_vision_get_info(const sv_vision *v);
const char *sv_vision_label(const sv_vision *v, int32_t i); /* "tabby, tabby cat"; where the file has no names "LABEL_0" */
const sv_image_prep *sv_vision_prep(const sv_vision *v);

/* For pictures of w x h. SV_EINVAL: a size that the model does not read; SV_ENOMEM. */
SV_MUST sv_rc sv_vision_run_new(sv_vision_run **out, const sv_vision *v, int32_t w, int32_t h, sv_err *err);
sv_vision_run *sv_vision_run_free(sv_vision_run *r); /* NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_vision_run, sv_vision_run_free)

/* A run: pixels, then steps 0 to n_steps - 1 in order, so that others may compute between them. */
void sv_vision_set_pixels(sv_vision_run *r, const uint8_t *rgb);  /* [h][w][3], prepared by the model's own numbers */
void sv_vision_set_floats(sv_vision_run *r, const float *pixels); /* the same, prepared already */
int32_t sv_vision_n_steps(const sv_vision *v);
void sv_vision_step(sv_vision_run *r, sv_pool *pool, int32_t i_step);

/* What came out, [n_rows][dim], borrowed until the next run: one row of class logits; or for each object query the logits of n_labels classes and of
 * "none", and center x, center y, width, height of a box, as parts of the picture; or vectors. */
const float *sv_vision_out(const sv_vision_run *r, int32_t *n_rows, int32_t *dim);

typedef struct sv_vision_hit { int32_t label; float score; float box[4]; } sv_vision_hit; /* box: xmin, ymin, xmax, ymax in pixels */
/* The most probable classes, or the boxes whose best class has at least `threshold`, best first: at most `max` of them. w0, h0: the picture's own size. Returns how many. Of a
 * model with a task. */
int32_t sv_vision_hits(const sv_vision_run *r, sv_vision_hit *out, int32_t max, float threshold, int32_t w0, int32_t h0);

#endif
