/* safetensors.h - reads safetensors files: one, or the shards that an index names
 *
 * Every field is checked against the file's size before it is used (spec: the README of huggingface/safetensors).
 * Threads: immutable once open; any thread reads, its one owner closes. */
#ifndef SV_NN_SAFETENSORS_H
#define SV_NN_SAFETENSORS_H

#include "base/err.h"
#include "base/mem.h"
#include "nn/tensor.h"

typedef struct sv_safetensors sv_safetensors;

/* Parses bytes that outlive *out. SV_EFORMAT names header or tensor. */
SV_MUST sv_rc sv_safetensors_parse(sv_safetensors **out, const void *bytes, size_t size, sv_err *err);
/* Maps path. Messages begin with the path. */
SV_MUST sv_rc sv_safetensors_open(sv_safetensors **out, const char *path, sv_err *err);
/* Maps folder/model.safetensors or, where that is absent, all files that folder/model.safetensors.index.json names; each tensor must be
 * in the file that the index says. */
SV_MUST sv_rc sv_safetensors_open_folder(sv_safetensors **out, const char *folder, sv_err *err);
sv_safetensors *sv_safetensors_close(sv_safetensors *s);
SV_DEFINE_AUTO(sv_safetensors, sv_safetensors_close)

/* The files that open_folder would map, by name and without a slash: owned strings in an owned array, both freed with
 * sv_safetensors_names_free. SV_ENOENT: neither model.safetensors nor an index. */
typedef struct sv_safetensors_names { char **names; size_t n; } sv_safetensors_names;
SV_MUST sv_rc sv_safetensors_list(sv_safetensors_names *out, const char *folder, sv_err *err);
void sv_safetensors_names_free(sv_safetensors_names *names);

size_t sv_safetensors_size(const sv_safetensors *s); /* of all files, in bytes */

/* Tensors, borrowed until close; dims[0] is the fastest, so the file's shape backwards. Data may lie at any address. Types that sv_type
 * does not have (bools, unsigned and 8-bit float) are kept out; sv_safetensors_why_not names the type of such a one, or is NULL. */
size_t sv_safetensors_n_tensors(const sv_safetensors *s);
const sv_tensor *sv_safetensors_tensor_at(const sv_safetensors *s, size_t i);
const sv_tensor *sv_safetensors_tensor(const sv_safetensors *s, const char *name); /* NULL if absent */
const char *sv_safetensors_why_not(const sv_safetensors *s, const char *name);

#endif
