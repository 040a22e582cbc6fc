/* gguf.h - reads GGUF model files: metadata, tensor table, mapped data
 *
 * Every field is checked against the file's size before it is used; nothing in the file is trusted (spec: ggml docs, gguf.md).
 * Threads: immutable once open; any thread reads, its one owner closes. */
#ifndef SV_NN_GGUF_H
#define SV_NN_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "nn/tensor.h"

typedef struct sv_gguf sv_gguf;

/* Parses bytes that outlive *out (page-aligned or at least 32-byte aligned). SV_EFORMAT names field or tensor. */
SV_MUST sv_rc sv_gguf_parse(sv_gguf **out, const void *bytes, size_t size, sv_err *err);
/* Maps path, and where it is the first part of several (NAME-00001-of-0000N.gguf) the others beside it: the tensors of all are
 * found below. Messages begin with the path of the part at fault. */
SV_MUST sv_rc sv_gguf_open(sv_gguf **out, const char *path, sv_err *err);
/* Is this the name of one of several parts, NAME-0000I-of-0000N.gguf? Then *n_stem bytes of it are before that ending, and no counts
 * from 1. */
bool sv_gguf_is_part(const char *path, size_t *n_stem, int *no, int *n);
/* What another format says, put in by the caller: at most max_keys keys and max_tensors tensors, each under a name that is new. Names and
 * strings are copied, data is borrowed until close. */
sv_gguf *sv_gguf_new(size_t max_keys, size_t max_tensors);
void sv_gguf_put_i64(sv_gguf *g, const char *key, int64_t v);
void sv_gguf_put_f32(sv_gguf *g, const char *key, float v);
void sv_gguf_put_str(sv_gguf *g, const char *key, sv_str v);
void sv_gguf_put_bools(sv_gguf *g, const char *key, const bool *v, size_t n); /* an array */
void sv_gguf_put_tensor(sv_gguf *g, const char *name, const sv_tensor *t);
sv_gguf *sv_gguf_close(sv_gguf *g);
SV_DEFINE_AUTO(sv_gguf, sv_gguf_close)

/* Metadata. The typed getters accept any integer (or float) type that holds the value. *out keeps its value when the
 * key is absent; SV_EFORMAT when it has another type or is out of [min, max]. */
bool sv_gguf_has(const sv_gguf *g, const char *key);
SV_MUST sv_rc sv_gguf_i64(const sv_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, sv_err *err);
SV_MUST sv_rc sv_gguf_f32(const sv_gguf *g, const char *key, float *out, sv_err *err);
SV_MUST sv_rc sv_gguf_bool(const sv_gguf *g, const char *key, bool *out, sv_err *err);
SV_MUST sv_rc sv_gguf_str(const sv_gguf *g, const char *key, sv_str *out, sv_err *err); /* borrowed until close */

/* Arrays: n elements; SV_EFORMAT on another element type. Absent: *n_out = 0 and SV_OK. */
SV_MUST sv_rc sv_gguf_arr_str(const sv_gguf *g, const char *key, const sv_str **out, size_t *n_out, sv_err *err);
SV_MUST sv_rc sv_gguf_arr_f32(const sv_gguf *g, const char *key, const float **out, size_t *n_out, sv_err *err);
SV_MUST sv_rc sv_gguf_arr_i32(const sv_gguf *g, const char *key, const int32_t **out, size_t *n_out, sv_err *err); /* (u)int32 */
SV_MUST sv_rc sv_gguf_arr_u8(const sv_gguf *g, const char *key, const uint8_t **out, size_t *n_out, sv_err *err); /* (u)int8 */
SV_MUST sv_rc sv_gguf_arr_bool(const sv_gguf *g, const char *key, const uint8_t **out, size_t *n_out, sv_err *err); /* not 0: true */

size_t sv_gguf_size(const sv_gguf *g); /* in bytes, all parts together */

/* Tensors. Borrowed until close. */
size_t sv_gguf_n_tensors(const sv_gguf *g);
const sv_tensor *sv_gguf_tensor_at(const sv_gguf *g, size_t i);
const sv_tensor *sv_gguf_tensor(const sv_gguf *g, const char *name); /* NULL if absent */

#endif
