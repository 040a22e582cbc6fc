/* vision_impl.h - between vision.c (files, memory, answers) and the families */
#ifndef SV_MODELS_VISION_IMPL_H
#define SV_MODELS_VISION_IMPL_H

#include "base/json.h"
#include "models/held.h"
#include "models/vision.h"
#include "nn/conv.h"
#include "nn/kernels.h"
#include "nn/safetensors.h"

enum { VIS_NAME = 192, VIS_MAX_CHANNELS = 1 << 16, VIS_MAX_SIDE = 4096 };

typedef struct vis_family {
    const char *type; /* config.json's model_type */
    sv_rc (*open)(sv_vision *v, const json_t *config, sv_err *err); /* fills v->net, info.task, n_steps, exact_w and exact_h */
    void (*close)(void *net);
    sv_rc (*plan)(sv_vision_run *r, sv_err *err); /* fills r->state with vis_floats, and r->n_rows, r->dim; checks w and h */
    void (*step)(sv_vision_run *r, sv_pool *pool, int32_t i);
} vis_family;
extern const vis_family vis_resnet, vis_cifar_resnet, vis_mobilenet, vis_vit, vis_detr;

struct sv_vision {
    sv_vision_info info;
    const vis_family *family;
    void *net; /* the family's */
    int32_t n_steps;
    sv_image_prep prep;
    int32_t exact_w, exact_h; /* the only size it reads; 0: many */
    char **labels;   /* [n_labels]; each may be NULL */
    bool sigmoid;    /* classes do not exclude each other */
    sv_held held;    /* vectors and tables of the net */
    sv_safetensors *files; /* while opening */
};

struct sv_vision_run {
    const sv_vision *v;
    int32_t w, h;
    sv_fmap in;      /* the pixels; its border is `pad` of the family's first convolution */
    void *state;     /* the family's, one block: freed with the run */
    float **blocks;
    size_t n_blocks;
    float *out;      /* [n_rows][dim] */
    int32_t n_rows, dim;
};

/* --- for open ---- */

/* Members of config.json. vis_int without a default: -1. */
SV_MUST sv_rc vis_int(const json_t *c, const char *key, int64_t min, int64_t max, int64_t otherwise, int32_t *out, sv_err *err);
SV_MUST sv_rc vis_act(const json_t *c, const char *key, const char *otherwise, sv_act *out, sv_err *err);
SV_MUST sv_rc vis_ints(const json_t *c, const char *key, int32_t *out, int32_t max_n, int32_t *n, sv_err *err); /* each 1 to VIS_MAX_CHANNELS */
SV_MUST sv_rc vis_says(const sv_vision *v, const json_t *c, const char *word, bool *out, sv_err *err); /* architectures[0] has the word */
bool vis_has(const sv_vision *v, const char *name);

/* Tensors as float32, in memory of the model: [n] or [n_rows][n]. */
SV_MUST sv_rc vis_table(sv_vision *v, const char *name, int64_t n, int64_t n_rows, float **out, sv_err *err);

/* A convolution whose sizes are set in c. weight is the tensor's name; bias another one or NULL; norm the prefix of a batch norm's four, or NULL. */
typedef struct vis_names { const char *weight, *bias, *norm; double eps; } vis_names;
SV_MUST sv_rc vis_conv(sv_vision *v, sv_conv *c, const vis_names *n, sv_err *err);
/* stem.weight [n_out][n_in] and, where `bias`, stem.bias. */
SV_MUST sv_rc vis_linear(sv_vision *v, sv_conv *c, const char *stem, int32_t n_in, int32_t n_out, bool bias, sv_err *err);

typedef struct vis_norm { float *w, *b; } vis_norm;
SV_MUST sv_rc vis_layer_norm(sv_vision *v, vis_norm *n, const char *stem, int32_t n_embd, sv_err *err);

/* --- for plan and step ---- */

SV_MUST sv_rc vis_floats(sv_vision_run *r, size_t n, float **out, sv_err *err);
SV_MUST sv_rc vis_map(sv_vision_run *r, sv_fmap *out, int32_t h, int32_t w, int32_t c, int32_t pad, sv_err *err); /* border cleared */

static inline sv_fmap vis_rows(float *v, int32_t n, int32_t c) { return (sv_fmap){v, 1, n, c, 0}; }
/* y = act(x W^T + b + add) over n rows; add NULL or [n][n_out] */
void vis_dense(sv_pool *pool, const sv_conv *c, float *x, float *y, int32_t n, float *add, sv_act act);
void vis_norm_rows(sv_pool *pool, float *y, const float *x, const vis_norm *n, int32_t n_rows, int32_t n_embd, float eps);

/* Attention of n_q queries over n_k keys, [n][n_head * head_dim] each. */
typedef struct vis_attn { float *pages; void **list; sv_kv_layout kv; int32_t n_head; size_t page_floats; } vis_attn;
SV_MUST sv_rc vis_attn_plan(sv_vision_run *r, vis_attn *a, int32_t max_keys, int32_t n_head, int32_t head_dim, sv_err *err);
void vis_attend(sv_pool *pool, const vis_attn *a, const float *q, const float *k, const float *v, float *out, int32_t n_q, int32_t n_k);

/* --- ResNet, which is also DETR's eye ---- */

typedef struct res_net res_net;
typedef struct res_state res_state;
typedef struct res_style { const char *prefix; bool timm, cifar; } res_style; /* how tensors are named */
SV_MUST sv_rc res_open(res_net **out, sv_vision *v, const json_t *config, const res_style *style, sv_err *err);
void res_close(void *net);
int32_t res_n_steps(const res_net *n);
int32_t res_n_out(const res_net *n);
int32_t res_map_size(const res_net *n, int32_t side); /* of the last map, for a picture of that side */
SV_MUST sv_rc res_plan(res_state **out, sv_vision_run *r, const res_net *n, sv_err *err); /* *out is the run's: freed with it */
void res_step(res_state *s, sv_pool *pool, int32_t i);
const sv_fmap *res_out(const res_state *s);

#endif
