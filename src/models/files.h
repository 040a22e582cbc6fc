/* files.h - which files a model is made of
 * Threads: any. */
#ifndef SV_MODELS_FILES_H
#define SV_MODELS_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

typedef struct sv_model_files {
    bool is_gguf;  /* else a Hugging Face folder */
    char *folder;  /* where they lie */
    char **names;  /* in it, without a slash; of a GGUF the first is the one to open */
    size_t n;
    size_t n_bytes; /* all together */
} sv_model_files;

/* path is a GGUF file, the first of several parts, a folder with one such, or a Hugging Face folder (config.json and safetensors). Reads
 * names and sizes, nothing of the weights. SV_ENOENT and SV_EFORMAT name what is missing. Free with sv_model_files_done. */
SV_MUST sv_rc sv_model_files_find(sv_model_files *out, const char *path, sv_err *err);
/* How many bytes of a GGUF's name are that of the model: without ".gguf" and without the number of a part. 0: a part other than the first,
 * which is no model by itself. */
size_t sv_model_files_stem(const char *name);
void sv_model_files_done(sv_model_files *f);
char *sv_model_files_path(const sv_model_files *f, size_t i); /* owned */

#endif
