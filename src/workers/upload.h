/* upload.h - a Worker as it arrives: the multipart form of wrangler and the SDKs, read and checked
 *
 * What this release cannot do is refused here with a sentence that names it, so that nothing is ever stored and silently ignored.
 * Threads: values; any thread. Nothing here touches the store or the disk. */
#ifndef SV_WORKERS_UPLOAD_H
#define SV_WORKERS_UPLOAD_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "http/multipart.h"

typedef enum sv_module_kind {
    SV_MODULE_ES, SV_MODULE_COMMONJS, SV_MODULE_TEXT, SV_MODULE_DATA, SV_MODULE_WASM, SV_MODULE_JSON,
    SV_MODULE_SOURCE_MAP, /* kept, never run */
} sv_module_kind;
const char *sv_module_kind_name(sv_module_kind k);                     /* "esm", "cjs", "text", "data", "wasm", "json", "map" */
bool sv_module_kind_of_name(const char *name, sv_module_kind *out);
const char *sv_module_content_type(sv_module_kind k);                  /* as in the form */

typedef struct sv_module {
    sv_str name; /* the import specifier, "./" and all */
    sv_module_kind kind;
    sv_str data;
} sv_module;

typedef struct sv_upload {
    sv_module *modules; /* the main module first; none: static assets only */
    size_t n_modules;
    json_t *bindings; /* array, names unique, kinds known; secret_text without its "text"; "inherit" until sv_upload_inherit */
    json_t *secrets;  /* {name: value} */
    json_t *migrations; /* of Durable Objects, checked; NULL: none */
    json_t *keep;     /* array of kinds to take over from the version before, or NULL */
    json_t *flags;    /* array of strings */
    json_t *annotations;   /* object of strings */
    json_t *settings;      /* object: what belongs to the script, of logpush, tags, tail_consumers, observability; maybe empty */
    json_t *runtime;       /* object: what belongs to the version, of limits, placement, usage_model; maybe empty */
    json_t *assets_config; /* checked; NULL: no assets in this upload */
    sv_str compatibility_date; /* "YYYY-MM-DD"; never empty */
    sv_str assets_jwt;         /* completion token of the asset upload; empty: no assets in this upload */
    bool keep_assets;
} sv_upload;

/* Reads the form. Views point into `body` and the arena, which must outlive *out. today: "YYYY-MM-DD", the newest date a Worker may ask for.
 * SV_EFORMAT, SV_EINVAL and SV_ELIMIT with Cloudflare's number. */
SV_MUST sv_rc sv_upload_parse(sv_upload *out, sv_arena *a, sv_str content_type, sv_str body, const char *today, sv_err *err);
void sv_upload_done(sv_upload *u); /* zeroed is fine */

/* Resolves "inherit" bindings and u->keep from the version before: its bindings and secrets (both NULL for the first version). An inherited
 * binding that is not there: error 10057 when `strict`, else left out. Checks the limits on all bindings together. */
SV_MUST sv_rc sv_upload_inherit(sv_upload *u, const json_t *bindings, const json_t *secrets, bool strict, sv_err *err);

/* An object of a form: JSON in the part `field`, or the SDK's bracketed parts (field[a][][b]), whose values are all text. SV_EFORMAT 10026. */
SV_MUST sv_rc sv_form_object(json_t **out, const sv_parts *parts, const char *field, sv_err *err);

/* An upload of bindings only, as a settings patch makes it: checked, its secrets split off. */
SV_MUST sv_rc sv_upload_of_bindings(sv_upload *out, const json_t *bindings, sv_err *err);

/* Checks one set of bindings: SV_EINVAL names the binding and its kind. Stored ones have no text in a secret_text. */
SV_MUST sv_rc sv_bindings_check(const json_t *bindings, bool stored, sv_err *err);
/* A secret's name and value, as `wrangler secret put` sets them. */
SV_MUST sv_rc sv_secret_check(sv_str name, sv_str value, sv_err *err);
/* The flags and the date. `flags` may be NULL. */
SV_MUST sv_rc sv_compatibility_check(sv_str date, const json_t *flags, const char *today, sv_err *err);
/* A Worker's name: one DNS label in lower case. Error 10016. */
SV_MUST sv_rc sv_worker_name_check(sv_str name, sv_err *err);

#endif
