/* links: workers */
/* upload_fuzz.c - any bytes as the form of a Worker's upload: refused with a number and a sentence, or a checked upload from which a
 * configuration follows that leaks no secret */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "workers/config.h"
#include "workers/upload.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_binding(const sv_upload *u, const json_t *b, const json_t *seen)
{
    const char *name = sv_json_cstr(b, "name"), *kind = sv_json_cstr(b, "type");
    SV_ASSERT(name && name[0] && kind && !json_object_get(seen, name));
    if (strcmp(kind, "secret_text") == 0)
        SV_ASSERT(!json_object_get(b, "text") && json_is_string(json_object_get(u->secrets, name)));
}

static void check_upload(const sv_upload *u)
{
    SV_AUTO(sv_json_decrefp) json_t *seen = json_object();
    size_t i;
    json_t *b;
    SV_ASSERT(u->n_modules > 0 || u->assets_config || u->keep_assets);
    SV_ASSERT(u->n_modules == 0 || u->modules[0].kind == SV_MODULE_ES);
    SV_ASSERT(u->compatibility_date.n == 10);
    json_array_foreach (u->bindings, i, b) {
        check_binding(u, b, seen);
        json_object_set_new(seen, sv_json_cstr(b, "name"), json_true());
    }
}

/* As the store would have it: quotes in the text are balanced whatever names and values are. */
static void check_config(const sv_upload *u, sv_arena *a)
{
    sv_err err = {0};
    SV_AUTO(sv_json_decrefp) json_t *modules = json_array();
    for (size_t i = 0; i < u->n_modules; i++) {
        json_t *row = json_pack("{s:s, s:s}", "kind", sv_module_kind_name(u->modules[i].kind), "file", "m");
        json_object_set_new(row, "name", json_stringn(u->modules[i].name.p, u->modules[i].name.n));
        json_array_append_new(modules, row);
    }
    SV_AUTO(sv_json_decrefp) json_t *meta = json_pack("{s:o?, s:O, s:O, s:s%, s:O, s:o?}", "main_module", u->n_modules ? json_string("m") : NULL, "modules",
                                                      modules, "bindings", u->bindings, "compatibility_date", u->compatibility_date.p,
                                                      u->compatibility_date.n, "compatibility_flags", u->flags, "assets",
                                                      u->assets_config ? json_pack("{s:O}", "config", u->assets_config) : NULL);
    SV_ASSERT(meta);
    sv_config_worker w = {.key = "k", .name = "w", .version_id = "v", .folder = "/f", .from_config = "../f", .binding_path = "/b", .meta = meta,
                          .secrets = u->secrets, .open = true};
    sv_config c;
    if (sv_config_make(&c, &w, 1, a, &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0');
        return;
    }
    bool inside = false;
    for (size_t i = 0; i < c.text.n; i++) {
        unsigned char ch = (unsigned char)c.text.p[i];
        SV_ASSERT(!inside || ch >= 0x20);
        if (inside && ch == '\\')
            i++;
        else if (ch == '"')
            inside = !inside;
    }
    SV_ASSERT(!inside);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_err err = {0};
    sv_upload u = {0};
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    if (sv_upload_parse(&u, a, (sv_str){NULL, 0}, (sv_str){(const char *)p, n}, "2026-11-25", &err) != SV_OK) {
        SV_ASSERT(err.msg[0] != '\0' && u.bindings == NULL);
        return 0;
    }
    check_upload(&u);
    if (sv_upload_inherit(&u, NULL, NULL, false, &err) == SV_OK)
        check_config(&u, a);
    sv_upload_done(&u);
    return 0;
}
