/* links: models; seconds: 30 */
/* vision_config_fuzz.c - config.json files that a stranger made, beside the weights of an image model of that type: opened, and, where that succeeds, run over a
 * small picture. A config that promises more than the weights hold must not get that far. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "models/vision.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* config.json leads to what the fuzzer wrote last. */
typedef struct model { const char *type, *from; char folder[64]; } model;
#define FROM(name) SV_SOURCE_ROOT "/tests/reference/vision/" name "/model.safetensors"
static model models[] = {
    {.type = "resnet", .from = FROM("resnet-bottleneck")}, {.type = "mobilenet_v2", .from = FROM("mobilenet-dilated")}, {.type = "vit", .from = FROM("vit")},
    {.type = "detr", .from = FROM("detr")},
};
static int config_fd = -1;

static void clean_up(void)
{
    sv_err err = {0};
    for (size_t i = 0; i < SV_LEN(models); i++)
        (void)!sv_remove_tree(models[i].folder, &err);
}

static void make_folders(void)
{
    config_fd = memfd_create("config", MFD_CLOEXEC);
    for (size_t i = 0; i < SV_LEN(models); i++) {
        char to[128], config[64];
        model *m = &models[i];
        snprintf(m->folder, sizeof m->folder, "/tmp/sv-vision-fuzz-XXXXXX");
        SV_ASSERT(mkdtemp(m->folder));
        snprintf(config, sizeof config, "/proc/self/fd/%d", config_fd);
        snprintf(to, sizeof to, "%s/config.json", m->folder);
        SV_ASSERT(symlink(config, to) == 0);
        snprintf(to, sizeof to, "%s/model.safetensors", m->folder);
        SV_ASSERT(symlink(m->from, to) == 0);
    }
    atexit(clean_up);
}

static const model *model_for(sv_str config)
{
    SV_AUTO(sv_json_decrefp) json_t *json = NULL;
    sv_err err = {0};
    const char *type = sv_json_parse(&json, config, &err) == SV_OK ? sv_json_cstr(json, "model_type") : NULL;
    for (size_t i = 0; type && i < SV_LEN(models); i++)
        if (strcmp(type, models[i].type) == 0)
            return &models[i];
    return &models[0];
}

static void run(const sv_vision *v, sv_pool *pool, int32_t w, int32_t h)
{
    SV_AUTO(sv_vision_run_freep) sv_vision_run *r = NULL;
    SV_AUTO(sv_freep) uint8_t *rgb = sv_xcalloc((size_t)(w * h), 3);
    sv_vision_hit hits[4];
    sv_err err = {0};
    if (sv_vision_run_new(&r, v, w, h, &err) != SV_OK) {
        SV_ASSERT(err.msg[0]);
        return;
    }
    sv_vision_set_pixels(r, rgb);
    for (int32_t i = 0; i < sv_vision_n_steps(v); i++)
        sv_vision_step(r, pool, i);
    if (sv_vision_get_info(v)->task != SV_VISION_VECTORS)
        (void)sv_vision_hits(r, hits, 4, 0, w, h);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static sv_pool *pool;
    SV_AUTO(sv_vision_closep) sv_vision *v = NULL;
    sv_err err = {0};
    if (!pool) {
        pool = sv_pool_new(1);
        make_folders();
    }
    SV_ASSERT(config_fd >= 0 && ftruncate(config_fd, 0) == 0 && lseek(config_fd, 0, SEEK_SET) == 0 && sv_write_all(config_fd, p, n, &err) == SV_OK);
    const model *m = model_for((sv_str){(const char *)p, n});
    if (sv_vision_open(&v, m->folder, &err) != SV_OK) {
        SV_ASSERT(strstr(err.msg, m->folder)); /* a refusal says which model */
        return 0;
    }
    run(v, pool, 32, 24); /* what the ViT reads */
    run(v, pool, 9, 17);
    return 0;
}
