/* packed.h - packed weights in a file of their own, so that a model is packed once and mapped ever after
 *
 * Threads: any; two processes may pack the same model at once, the last one's file stays. */
#ifndef SV_MODELS_PACKED_H
#define SV_MODELS_PACKED_H

#include <stddef.h>

#include "base/err.h"
#include "base/file.h"
#include "nn/tensor.h"

/* Which matrices of which files. */
typedef struct sv_packing {
    const char *path;   /* of the model: names the packed file */
    sv_str source;      /* what tells these weights from others that path had or will have (sv_packed_source) */
    sv_tensor **w;      /* packable ones, as files have them */
    size_t n;
} sv_packing;

/* Appends a line for a file: its path, number, size and time. SV_ENOENT, SV_EIO. */
SV_MUST sv_rc sv_packed_source(sv_buf *out, const char *path, sv_err *err);

/* Where in the packed bytes matrix i lies; the whole is at[n] bytes long. at: [n + 1] */
void sv_packed_offsets(const sv_packing *p, size_t *at);

/* Maps the packed file of these matrices in `folder`; its bytes begin at *bytes. SV_ENOENT: there is none, or one of other weights, of another
 * layout, truncated or damaged; err says which. Bytes are only read where the file was touched since we wrote it: then they are compared with
 * their hashes. */
SV_MUST sv_rc sv_packed_open(sv_map *map, const uint8_t **bytes, const char *folder, const sv_packing *p, sv_err *err);
/* Packs into such a file, replacing what was there, and drops those of models that are gone. SV_EIO, SV_ENOMEM. */
SV_MUST sv_rc sv_packed_write(const char *folder, const sv_packing *p, sv_err *err);
/* Bytes of the model's packed file; 0: there is none. */
size_t sv_packed_size(const char *folder, const char *path);

#endif
