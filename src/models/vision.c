/* vision.c - opens image models, gives runs their memory, and makes answers of numbers
 *
 * Weights are copied: convolutions want them in another order (nn/conv.h), norms become part of them, and half-precision files become float32. So a
 * model takes four bytes a parameter whatever its file has, and the file is closed once it is read. Linear layers are convolutions of one tap over
 * a row of vectors; there is one kernel for all.
 *
 * Every shape follows from config.json and is checked when the model is opened; sizes of pictures are checked when a run is made. */
#include "models/vision_impl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "models/files.h"

enum { MAX_CONFIG = 4 << 20, MAX_LABELS = 32768, ALIGN = 64, ROWS_A_TASK = 16 };
static const size_t MAX_RUN_FLOATS = (size_t)1 << 30; /* 4 GiB */

static const vis_family *const families[] = {&vis_resnet, &vis_cifar_resnet, &vis_mobilenet, &vis_vit, &vis_detr};

/* --- config.json -------------------------------------------------------------------------------------------------- */

static sv_rc read_json(json_t **out, const char *folder, const char *name, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, name);
    sv_buf_init(&text, MAX_CONFIG);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    return sv_json_parse(out, sv_buf_str(&text), err) == SV_OK ? SV_OK : sv_wrap(err, "'%s'", path);
}

static const vis_family *family_of(const char *type)
{
    for (size_t i = 0; type && i < SV_LEN(families); i++)
        if (strcmp(type, families[i]->type) == 0)
            return families[i];
    return NULL;
}

bool sv_vision_is(const char *path)
{
    sv_err ignored = {0};
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    return read_json(&config, path, "config.json", &ignored) == SV_OK && family_of(sv_json_cstr(config, "model_type"));
}

sv_rc vis_int(const json_t *c, const char *key, int64_t min, int64_t max, int64_t otherwise, int32_t *out, sv_err *err)
{
    int64_t v = otherwise;
    const json_t *j = json_object_get(c, key);
    if (j && !json_is_null(j) && sv_json_int(c, key, min, max, &v, err) != SV_OK)
        return err->code;
    if (v < 0)
        return sv_fail(err, SV_EFORMAT, "'%s' is missing", key);
    *out = (int32_t)v;
    return SV_OK;
}

sv_rc vis_act(const json_t *c, const char *key, const char *otherwise, sv_act *out, sv_err *err)
{
    static const struct { const char *name; sv_act act; } acts[] = {
        {"relu", SV_ACT_RELU}, {"relu6", SV_ACT_RELU6}, {"gelu", SV_ACT_GELU}, {"gelu_python", SV_ACT_GELU}, {"gelu_new", SV_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", SV_ACT_GELU_TANH}, {"silu", SV_ACT_SILU}, {"swish", SV_ACT_SILU}, {"hardswish", SV_ACT_HARD_SWISH}, {"leaky_relu", SV_ACT_LEAKY},
    };
    const char *name = sv_json_cstr(c, key);
    name = name ? name : otherwise;
    for (size_t i = 0; i < SV_LEN(acts); i++)
        if (strcmp(name, acts[i].name) == 0) {
            *out = acts[i].act;
            return SV_OK;
        }
    return sv_fail(err, SV_EFORMAT, "'%s': activation '%.40s' is not supported", key, name);
}

sv_rc vis_ints(const json_t *c, const char *key, int32_t *out, int32_t max_n, int32_t *n, sv_err *err)
{
    const json_t *a = json_object_get(c, key), *v;
    size_t i;
    if (!json_is_array(a) || json_array_size(a) < 1 || json_array_size(a) > (size_t)max_n)
        return sv_fail(err, SV_EFORMAT, "'%s' is no list of 1 to %d numbers", key, max_n);
    json_array_foreach(a, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > VIS_MAX_CHANNELS)
            return sv_fail(err, SV_EFORMAT, "'%s': number %zu is not 1 to %d", key, i, VIS_MAX_CHANNELS);
        out[i] = (int32_t)json_integer_value(v);
    }
    *n = (int32_t)json_array_size(a);
    return SV_OK;
}

/* The names of classes; id2label is an object with the numbers as keys. */
static sv_rc read_labels(sv_vision *v, const json_t *c, sv_err *err)
{
    const json_t *names = json_object_get(c, "id2label");
    int32_t n = 0;
    int64_t given = json_is_object(names) && json_object_size(names) > 0 ? (int64_t)json_object_size(names) : 2; /* transformers' default */
    const char *problem = sv_json_cstr(c, "problem_type");
    if (given > MAX_LABELS)
        return sv_fail(err, SV_EFORMAT, "'id2label': %" PRId64 " classes, at most %d", given, MAX_LABELS);
    if (vis_int(c, "num_labels", 1, MAX_LABELS, given, &n, err) != SV_OK)
        return err->code;
    v->sigmoid = problem && strcmp(problem, "multi_label_classification") == 0;
    v->info.n_labels = n;
    v->labels = sv_xcalloc((size_t)n, sizeof *v->labels);
    for (int32_t i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const char *name = sv_json_cstr(names, key);
        v->labels[i] = name ? sv_xstrdup(name) : sv_xasprintf("LABEL_%d", i);
    }
    return SV_OK;
}

/* --- tensors ------------------------------------------------------------------------------------------------------ */

bool vis_has(const sv_vision *v, const char *name) { return sv_safetensors_tensor(v->files, name) != NULL; }

/* Shapes as the files have them, the slowest first. */
static sv_rc find(const sv_vision *v, const char *name, const int64_t shape[4], const sv_tensor **out, sv_err *err)
{
    const sv_tensor *t = sv_safetensors_tensor(v->files, name);
    if (!t)
        return sv_fail(err, SV_EFORMAT, "tensor '%s' is missing", name);
    for (int i = 0; i < 4; i++)
        if (t->dims[i] != shape[3 - i])
            return sv_fail(err, SV_EFORMAT, "tensor '%s': shape [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "], wanted [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "]",
                           name, t->dims[3], t->dims[2], t->dims[1], t->dims[0], shape[0], shape[1], shape[2], shape[3]);
    if (!sv_type_get(t->type)->computable || sv_type_get(t->type)->block != 1)
        return sv_fail(err, SV_EFORMAT, "tensor '%s': type %s is not supported", name, sv_type_get(t->type)->name);
    *out = t;
    return SV_OK;
}

static sv_rc floats_of(const sv_vision *v, const char *name, const int64_t shape[4], float **out, sv_err *err)
{
    const sv_tensor *t = NULL;
    if (find(v, name, shape, &t, err) != SV_OK)
        return err->code;
    int64_t n = shape[0] * shape[1] * shape[2] * shape[3];
    float *p = sv_try_aligned((size_t)n * sizeof *p + ALIGN, ALIGN);
    if (!p)
        return sv_fail(err, SV_ENOMEM, "tensor '%s': no memory for %" PRId64 " numbers", name, n);
    sv_dequantize(p, t->type, t->data, n);
    *out = p;
    return SV_OK;
}

sv_rc vis_table(sv_vision *v, const char *name, int64_t n, int64_t n_rows, float **out, sv_err *err)
{
    const sv_tensor *t = sv_safetensors_tensor(v->files, name);
    float *p = NULL;
    /* [1][n_rows][n] is the same thing */
    int64_t shape[4] = {1, 1, n_rows, n};
    if (t && n_rows == 1)
        memcpy(shape, (int64_t[]){1, 1, 1, n}, sizeof shape);
    if (floats_of(v, name, shape, &p, err) != SV_OK || sv_held_add(&v->held, p, err) != SV_OK)
        return err->code;
    v->info.memory_bytes += (size_t)(n * n_rows) * sizeof *p;
    *out = p;
    return SV_OK;
}

/* A batch norm as scale and shift: (x - mean) / sqrt(var + eps) * w + b. */
static sv_rc fold(const sv_vision *v, const char *prefix, double eps, int32_t n, double *scale, double *shift, sv_err *err)
{
    static const char *const leaves[] = {"weight", "bias", "running_mean", "running_var"};
    float *p[4] = {NULL};
    sv_rc rc = SV_OK;
    for (int i = 0; i < 4 && rc == SV_OK; i++) {
        char name[VIS_NAME];
        snprintf(name, sizeof name, "%s.%s", prefix, leaves[i]);
        rc = floats_of(v, name, (int64_t[]){1, 1, 1, n}, &p[i], err);
    }
    for (int32_t i = 0; i < n && rc == SV_OK; i++) {
        scale[i] = (double)p[0][i] / sqrt((double)p[3][i] + eps);
        shift[i] = (double)p[1][i] - (double)p[2][i] * scale[i];
    }
    for (int i = 0; i < 4; i++)
        free(p[i]);
    return rc;
}

sv_rc vis_conv(sv_vision *v, sv_conv *c, const vis_names *n, sv_err *err)
{
    SV_AUTO(sv_freep) float *w = NULL;
    SV_AUTO(sv_freep) float *bias = NULL;
    SV_AUTO(sv_freep) double *scale = sv_try_calloc((size_t)c->n_out, sizeof *scale);
    SV_AUTO(sv_freep) double *shift = sv_try_calloc((size_t)c->n_out, sizeof *shift);
    int64_t n_in = c->depthwise ? 1 : c->n_in;
    if (!scale || !shift)
        return sv_fail(err, SV_ENOMEM, "no memory for a norm of %d channels", c->n_out);
    c->dilation = c->dilation ? c->dilation : 1;
    c->stride = c->stride ? c->stride : 1;
    /* a linear layer's [n_out][n_in] is [n_out][n_in][1][1] with its ends stripped */
    const sv_tensor *t = sv_safetensors_tensor(v->files, n->weight);
    bool flat = t && t->n_dims == 2;
    const int64_t shape[4] = {flat ? 1 : c->n_out, flat ? 1 : n_in, flat ? c->n_out : c->kh, flat ? n_in : c->kw};
    if (flat && (c->kh != 1 || c->kw != 1))
        return sv_fail(err, SV_EFORMAT, "tensor '%s' has two dimensions, wanted four", n->weight);
    if (floats_of(v, n->weight, shape, &w, err) != SV_OK || (n->bias && floats_of(v, n->bias, (int64_t[]){1, 1, 1, c->n_out}, &bias, err) != SV_OK) ||
        (n->norm && fold(v, n->norm, n->eps, c->n_out, scale, shift, err) != SV_OK))
        return err->code;
    v->info.memory_bytes += (size_t)(n_in * c->n_out * c->kh * c->kw) * sizeof *w;
    return sv_conv_pack(c, w, bias, n->norm ? scale : NULL, n->norm ? shift : NULL, err);
}

sv_rc vis_linear(sv_vision *v, sv_conv *c, const char *stem, int32_t n_in, int32_t n_out, bool bias, sv_err *err)
{
    char weight[VIS_NAME], b[VIS_NAME];
    snprintf(weight, sizeof weight, "%s.weight", stem);
    snprintf(b, sizeof b, "%s.bias", stem);
    *c = (sv_conv){.n_in = n_in, .n_out = n_out, .kh = 1, .kw = 1};
    return vis_conv(v, c, &(vis_names){.weight = weight, .bias = bias ? b : NULL}, err);
}

sv_rc vis_layer_norm(sv_vision *v, vis_norm *n, const char *stem, int32_t n_embd, sv_err *err)
{
    char name[VIS_NAME];
    snprintf(name, sizeof name, "%s.weight", stem);
    if (vis_table(v, name, n_embd, 1, &n->w, err) != SV_OK)
        return err->code;
    snprintf(name, sizeof name, "%s.bias", stem);
    return vis_table(v, name, n_embd, 1, &n->b, err);
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static void measure(sv_vision *v)
{
    size_t bytes[SV_N_TYPES] = {0}, most = 0;
    for (size_t i = 0; i < sv_safetensors_n_tensors(v->files); i++) {
        const sv_tensor *t = sv_safetensors_tensor_at(v->files, i);
        if (!sv_type_get(t->type)->computable) /* counters of training steps */
            continue;
        v->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        bytes[t->type] += t->n_bytes;
    }
    for (uint32_t t = 0; t < SV_N_TYPES; t++)
        if (bytes[t] > most) {
            most = bytes[t];
            snprintf(v->info.weights, sizeof v->info.weights, "%s", sv_type_get(t)->name);
        }
    v->info.size_bytes = sv_safetensors_size(v->files);
}

static sv_rc read_prep(sv_vision *v, const char *folder, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/preprocessor_config.json", folder);
    if (sv_file_exists(path) && read_json(&config, folder, "preprocessor_config.json", err) != SV_OK)
        return err->code;
    if (sv_image_prep_read(&v->prep, config, err) != SV_OK) {
        err->code = SV_EFORMAT;
        return sv_wrap(err, "'%s'", path);
    }
    if (!config && v->exact_w) /* transformers' default for models of one size */
        v->prep = (sv_image_prep){.w = v->exact_w, .h = v->exact_h, .filter = SV_BILINEAR, .scale = 1.0f / 255, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}};
    return SV_OK;
}

/* A model that reads one size only must be prepared to it. */
static sv_rc check_prep(const sv_vision *v, const char *folder, sv_err *err)
{
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
    int32_t w = 0, h = 0;
    if (!sv_image_prep_fixed(&v->prep, &w, &h))
        return SV_OK;
    return sv_vision_run_new(&r, v, w, h, err) == SV_OK ? SV_OK : sv_wrap(err, "'%s': preprocessor_config.json makes pictures that the model does not read", folder);
}

static bool has_head(const json_t *config)
{
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    return !name || !strstr(name, "Model"); /* without the member it is read as one with a head */
}

sv_rc sv_vision_open(sv_vision **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_vision_closep) sv_vision *v = sv_xnew0(sv_vision);
    SV_AUTO(sv_json_decrefp) json_t *config = NULL;
    if (read_json(&config, path, "config.json", err) != SV_OK)
        return err->code;
    v->family = family_of(sv_json_cstr(config, "model_type"));
    if (!v->family)
        return sv_fail(err, SV_EFORMAT, "'%s/config.json': no image model; supported: resnet, mobilenet_v2, vit, detr, cifar-resnet", path);
    const char *slash = strrchr(path, '/');
    snprintf(v->info.name, sizeof v->info.name, "%s", slash && slash[1] ? slash + 1 : path);
    snprintf(v->info.arch, sizeof v->info.arch, "%s", v->family->type);
    v->info.task = has_head(config) ? SV_VISION_CLASSES : SV_VISION_VECTORS; /* or what the family makes of it */
    if (v->info.task != SV_VISION_VECTORS && read_labels(v, config, err) != SV_OK)
        return err->code = SV_EFORMAT, sv_wrap(err, "'%s/config.json'", path);
    if (sv_safetensors_open_folder(&v->files, path, err) != SV_OK)
        return err->code;
    if (v->family->open(v, config, err) != SV_OK) {
        err->code = err->code == SV_EINVAL ? SV_EFORMAT : err->code;
        return sv_wrap(err, "'%s'", path);
    }
    measure(v);
    v->files = sv_safetensors_close(v->files);
    if (read_prep(v, path, err) != SV_OK || check_prep(v, path, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(v);
    return SV_OK;
}

sv_vision *sv_vision_close(sv_vision *v)
{
    if (!v)
        return NULL;
    if (v->net)
        v->family->close(v->net);
    sv_held_done(&v->held);
    for (int32_t i = 0; v->labels && i < v->info.n_labels; i++)
        free(v->labels[i]);
    free(v->labels);
    sv_safetensors_close(v->files);
    free(v);
    return NULL;
}

const sv_vision_info *sv_vision_get_info(const sv_vision *v) { return &v->info; }
const char *sv_vision_label(const sv_vision *v, int32_t i) { return i >= 0 && i < v->info.n_labels ? v->labels[i] : ""; }
const sv_image_prep *sv_vision_prep(const sv_vision *v) { return &v->prep; }
int32_t sv_vision_n_steps(const sv_vision *v) { return v->n_steps; }

/* --- runs --------------------------------------------------------------------------------------------------------- */

sv_rc vis_floats(sv_vision_run *r, size_t n, float **out, sv_err *err)
{
    float **more = sv_try_realloc(r->blocks, r->n_blocks + 1, sizeof *more);
    if (more)
        r->blocks = more;
    float *p = more && n <= MAX_RUN_FLOATS ? sv_try_aligned(n * sizeof *p + ALIGN, ALIGN) : NULL;
    if (!p)
        return sv_fail(err, SV_ENOMEM, "no memory for a picture of %d x %d", r->w, r->h);
    r->blocks[r->n_blocks++] = *out = p;
    return SV_OK;
}

sv_rc vis_map(sv_vision_run *r, sv_fmap *out, int32_t h, int32_t w, int32_t c, int32_t pad, sv_err *err)
{
    sv_fmap f = {.h = h, .w = w, .c = c, .pad = pad};
    if (vis_floats(r, sv_fmap_floats(h, w, c, pad), &f.v, err) != SV_OK)
        return err->code;
    sv_fmap_clear_border(&f);
    *out = f;
    return SV_OK;
}

sv_rc sv_vision_run_new(sv_vision_run **out, const sv_vision *v, int32_t w, int32_t h, sv_err *err)
{
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = sv_xnew0(sv_vision_run);
    r->v = v;
    r->w = w;
    r->h = h;
    if (w < 1 || h < 1 || w > VIS_MAX_SIDE || h > VIS_MAX_SIDE)
        return sv_fail(err, SV_EINVAL, "a picture of %d x %d; at most %d a side", w, h, VIS_MAX_SIDE);
    if (v->family->plan(r, err) != SV_OK || vis_floats(r, (size_t)r->n_rows * (size_t)r->dim, &r->out, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(r);
    return SV_OK;
}

sv_vision_run *sv_vision_run_free(sv_vision_run *r)
{
    if (!r)
        return NULL;
    for (size_t i = 0; i < r->n_blocks; i++)
        free(r->blocks[i]);
    free(r->blocks);
    free(r->state);
    free(r);
    return NULL;
}

void sv_vision_set_pixels(sv_vision_run *r, const uint8_t *rgb)
{
    for (int32_t y = 0; y < r->h; y++)
        sv_image_prep_floats(sv_fmap_at(&r->in, y, 0), &r->v->prep, rgb + (int64_t)y * r->w * 3, r->w);
}

void sv_vision_set_floats(sv_vision_run *r, const float *pixels)
{
    for (int32_t y = 0; y < r->h; y++)
        memcpy(sv_fmap_at(&r->in, y, 0), pixels + (int64_t)y * r->w * 3, (size_t)r->w * 3 * sizeof *pixels);
}

void sv_vision_step(sv_vision_run *r, sv_pool *pool, int32_t i_step) { r->v->family->step(r, pool, i_step); }

const float *sv_vision_out(const sv_vision_run *r, int32_t *n_rows, int32_t *dim)
{
    *n_rows = r->n_rows;
    *dim = r->dim;
    return r->out;
}

/* --- what transformers share -------------------------------------------------------------------------------------- */

void vis_dense(sv_pool *pool, const sv_conv *c, float *x, float *y, int32_t n, float *add, sv_act act)
{
    sv_fmap from = vis_rows(x, n, c->n_in), to = vis_rows(y, n, c->n_out), plus = vis_rows(add, n, c->n_out);
    sv_conv_run(pool, c, &from, &to, add ? &plus : NULL, act);
}

typedef struct norm_job { float *y; const float *x; const vis_norm *n; int32_t n_rows, n_embd; float eps; } norm_job;

static void norm_task(void *arg, int32_t i)
{
    const norm_job *j = arg;
    int32_t begin = i * ROWS_A_TASK, n = j->n_rows - begin < ROWS_A_TASK ? j->n_rows - begin : ROWS_A_TASK;
    sv_layer_norm(j->y + (int64_t)begin * j->n_embd, j->x + (int64_t)begin * j->n_embd, j->n->w, j->n->b, n, j->n_embd, j->eps);
}

void vis_norm_rows(sv_pool *pool, float *y, const float *x, const vis_norm *n, int32_t n_rows, int32_t n_embd, float eps)
{
    sv_pool_run(pool, (n_rows + ROWS_A_TASK - 1) / ROWS_A_TASK, norm_task, &(norm_job){y, x, n, n_rows, n_embd, eps});
}

sv_rc vis_attn_plan(sv_vision_run *r, vis_attn *a, int32_t max_keys, int32_t n_head, int32_t head_dim, sv_err *err)
{
    size_t n_pages = (size_t)(max_keys + SV_KV_PAGE - 1) / SV_KV_PAGE;
    a->n_head = n_head;
    a->page_floats = (sv_kv_layer_floats(n_head, head_dim) + 15) & ~(size_t)15;
    a->kv = (sv_kv_layout){.n_head_kv = n_head, .head_dim = head_dim, .k_at = 0, .v_at = (size_t)n_head * (size_t)head_dim * SV_KV_PAGE};
    float *list = NULL;
    if (vis_floats(r, n_pages * a->page_floats, &a->pages, err) != SV_OK || vis_floats(r, n_pages * sizeof(void *) / sizeof(float) + 2, &list, err) != SV_OK)
        return err->code;
    memset(a->pages, 0, n_pages * a->page_floats * sizeof *a->pages);
    a->list = (void **)(void *)list;
    for (size_t i = 0; i < n_pages; i++)
        a->list[i] = a->pages + i * a->page_floats;
    return SV_OK;
}

void vis_attend(sv_pool *pool, const vis_attn *a, const float *q, const float *k, const float *v, float *out, int32_t n_q, int32_t n_k)
{
    int64_t row = (int64_t)a->n_head * a->kv.head_dim;
    for (int32_t i = 0; i < n_k; i++)
        sv_kv_write(&a->kv, a->list[i / SV_KV_PAGE], i % SV_KV_PAGE, k + i * row, v + i * row);
    /* `full`: each row sees positions 0 to pos + n_rows - 1, whatever its own is */
    sv_attn_chunk chunk = {.pages = a->list, .pos = n_k - n_q, .n_rows = n_q, .row = 0};
    sv_attention(pool, &(sv_attn){.q = q, .out = out, .n_head = a->n_head, .full = true, .scale = 1.0f / sqrtf((float)a->kv.head_dim), .kv = a->kv, .chunks = &chunk,
                                  .n_chunks = 1});
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* softmax in float64 (or each by itself) */
static void to_scores(const sv_vision *v, double *p, const float *logits, int32_t n)
{
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        max = (double)logits[i] > max ? (double)logits[i] : max;
    for (int32_t i = 0; i < n; i++) {
        p[i] = v->sigmoid ? 1 / (1 + exp(-(double)logits[i])) : exp((double)logits[i] - max);
        sum += p[i];
    }
    for (int32_t i = 0; i < n && !v->sigmoid; i++)
        p[i] /= sum;
}

/* Into the list of the best so far; of equal ones the first stays in front. */
static int32_t insert(sv_vision_hit *out, int32_t n, int32_t max, const sv_vision_hit *h)
{
    int32_t at = n;
    while (at > 0 && out[at - 1].score < h->score)
        at--;
    if (at >= max)
        return n;
    int32_t moved = n < max ? n - at : max - 1 - at;
    memmove(out + at + 1, out + at, (size_t)moved * sizeof *out);
    out[at] = *h;
    return n < max ? n + 1 : max;
}

static void corners(sv_vision_hit *h, const float *box, int32_t w0, int32_t h0)
{
    h->box[0] = (box[0] - box[2] / 2) * (float)w0;
    h->box[1] = (box[1] - box[3] / 2) * (float)h0;
    h->box[2] = (box[0] + box[2] / 2) * (float)w0;
    h->box[3] = (box[1] + box[3] / 2) * (float)h0;
}

int32_t sv_vision_hits(const sv_vision_run *r, sv_vision_hit *out, int32_t max, float threshold, int32_t w0, int32_t h0)
{
    const sv_vision *v = r->v;
    bool boxes = v->info.task == SV_VISION_BOXES;
    int32_t n = 0, n_classes = v->info.n_labels + boxes;
    SV_AUTO(sv_freep) double *p = sv_xcalloc((size_t)n_classes, sizeof *p);
    SV_ASSERT(v->info.task != SV_VISION_VECTORS && max > 0);
    for (int32_t row = 0; row < r->n_rows; row++) {
        const float *o = r->out + (int64_t)row * r->dim;
        sv_vision_hit best = {.score = -1};
        to_scores(v, p, o, n_classes);
        for (int32_t i = 0; i < v->info.n_labels; i++) {
            sv_vision_hit h = {.label = i, .score = (float)p[i]};
            if (!boxes)
                n = insert(out, n, max, &h);
            else if (h.score > best.score)
                best = h;
        }
        if (boxes && best.score >= threshold) {
            corners(&best, o + n_classes, w0, h0);
            n = insert(out, n, max, &best);
        }
    }
    return n;
}
