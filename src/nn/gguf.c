/* gguf.c - reads GGUF files
 *
 * A GGUF file is a header, key-value metadata, a table of tensors and their bytes:
 *     u32 magic "GGUF", u32 version, u64 n_tensors, u64 n_kv
 *     n_kv      x  string key, u32 type, value        (string: u64 length and bytes; array: u32 type, u64 n, values)
 *     n_tensors x  string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset from the data's start
 *     padding to general.alignment (32 if absent), then the tensors' bytes
 * All little-endian. Version 1 had 32-bit lengths and is long gone; 2 and 3 differ only in that 3 may be big-endian, which
 * we refuse. Spec: gguf.md of ggml.
 *
 * The file comes from a stranger, so parsing happens once, in order, through a cursor that cannot leave the bytes, and
 * whatever passes is true from then on:
 *   1. No length is used before it was compared with the bytes that are left; counts first, products by division.
 *   2. Memory grows with the file, never with what it claims: a count is refused when its smallest encoding would not fit.
 *   3. Keys are unique and so are tensor names (two readers of one file must not see different models).
 *   4. Tensors lie inside the data, aligned, and share no byte.
 * Arrays of 4-byte numbers are handed out from the map where they are aligned (a tokenizer's 128,000 scores cost nothing)
 * and copied where they are not. Weights are never touched here: opening 100 GB reads some megabytes of head. The price of
 * the map is SIGBUS if someone cuts the file while it is open; model files are replaced by rename, never written in place.
 *
 * Large models come in parts, NAME-00001-of-0000N.gguf and so on, each a whole GGUF file. The first has the metadata; every part
 * says its number (split.no) and theirs (split.count), and has tensors of its own. Opening the first opens them all. */
#include "nn/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"

enum {
    MAX_NAME_BYTES = 256, /* keys and tensor names; ggml itself stops at 64 */
    MIN_KV_BYTES = 8 + 1 + 4 + 1,
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8,
    SHOWN_BYTES = 80,
};

/* Value types as the file numbers them. */
typedef enum kv_type {
    KV_U8, KV_I8, KV_U16, KV_I16, KV_U32, KV_I32, KV_F32, KV_BOOL, KV_STR, KV_ARR, KV_U64, KV_I64, KV_F64, KV_N_TYPES,
} kv_type;
static const uint8_t kv_bytes[KV_N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}; /* 0: has a length of its own */
static const char *const kv_names[KV_N_TYPES] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32",
                                                 "bool", "string", "array", "u64", "i64", "f64"};

typedef struct kv {
    kv_type type, elem; /* elem: of an array */
    sv_str str;         /* a string, borrowed from the file */
    const uint8_t *raw; /* a number's bytes */
    size_t n;           /* elements of an array */
    const void *items;  /* numbers of an array, or sv_str */
    void *owned;        /* items where they could not be borrowed */
} kv;

struct sv_gguf {
    sv_map map;        /* empty when parsed from the caller's bytes */
    const uint8_t *p;
    size_t size;
    size_t n_kv, n_tensors;
    size_t max_kv, max_tensors; /* where the caller puts them in */
    kv *kvs;
    sv_tensor *tensors;
    char **names;      /* the tensors', NUL-terminated */
    sv_smap *by_key, *by_name;
    sv_gguf **parts;   /* the others of a file in parts; tensors and metadata above are those of the first */
    size_t n_parts;
};

/* --- the cursor (inv. 1) ------------------------------------------------------------------------------------------ */

typedef struct cursor { const uint8_t *p; size_t n, at; } cursor;

static sv_rc take(cursor *c, const uint8_t **out, uint64_t n, const char *what, sv_err *err)
{
    if (n > c->n - c->at)
        return sv_fail(err, SV_EFORMAT, "%s at byte %zu: wants %" PRIu64 " bytes, %zu are left", what, c->at, n, c->n - c->at);
    *out = c->p + c->at;
    c->at += (size_t)n;
    return SV_OK;
}

static sv_rc take_u32(cursor *c, uint32_t *out, const char *what, sv_err *err)
{
    const uint8_t *p = NULL;
    sv_rc rc = take(c, &p, 4, what, err);
    if (rc == SV_OK)
        memcpy(out, p, 4);
    return rc;
}

static sv_rc take_u64(cursor *c, uint64_t *out, const char *what, sv_err *err)
{
    const uint8_t *p = NULL;
    sv_rc rc = take(c, &p, 8, what, err);
    if (rc == SV_OK)
        memcpy(out, p, 8);
    return rc;
}

static sv_rc take_str(cursor *c, sv_str *out, const char *what, sv_err *err)
{
    uint64_t n = 0;
    const uint8_t *p = NULL;
    if (take_u64(c, &n, what, err) != SV_OK || take(c, &p, n, what, err) != SV_OK)
        return err->code;
    *out = (sv_str){(const char *)p, (size_t)n};
    return SV_OK;
}

/* A key or a tensor's name: short, not empty, no NUL. */
static sv_rc take_name(cursor *c, sv_str *out, const char *what, sv_err *err)
{
    sv_str s = {0};
    size_t at = c->at;
    if (take_str(c, &s, what, err) != SV_OK)
        return err->code;
    if (s.n == 0 || s.n > MAX_NAME_BYTES || memchr(s.p, 0, s.n))
        return sv_fail(err, SV_EFORMAT, "%s at byte %zu: %zu bytes; a name has 1 to %d and no zero byte", what, at, s.n, MAX_NAME_BYTES);
    *out = s;
    return SV_OK;
}

/* A stranger's name, fit for one line of a terminal. */
static const char *shown(char out[SHOWN_BYTES], sv_str s)
{
    size_t n = s.n < SHOWN_BYTES - 1 ? s.n : SHOWN_BYTES - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?';
    out[n] = '\0';
    return out;
}

/* --- metadata ----------------------------------------------------------------------------------------------------- */

static sv_rc parse_strings(cursor *c, kv *v, sv_err *err)
{
    if (v->n > (c->n - c->at) / 8) /* inv. 2: each has its length */
        return sv_fail(err, SV_EFORMAT, "%zu strings in %zu bytes", v->n, c->n - c->at);
    sv_str *items = sv_try_calloc(v->n + 1, sizeof *items);
    if (!items)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu strings", v->n);
    v->items = v->owned = items;
    for (size_t i = 0; i < v->n; i++)
        if (take_str(c, &items[i], "string", err) != SV_OK)
            return sv_wrap(err, "element %zu", i);
    return SV_OK;
}

static sv_rc parse_array(cursor *c, kv *v, sv_err *err)
{
    uint32_t elem = 0;
    uint64_t n = 0;
    const uint8_t *p = NULL;
    if (take_u32(c, &elem, "element type", err) != SV_OK || take_u64(c, &n, "array length", err) != SV_OK)
        return err->code;
    if (elem >= KV_N_TYPES)
        return sv_fail(err, SV_EFORMAT, "unknown element type %u", elem);
    if (elem == KV_ARR)
        return sv_fail(err, SV_EFORMAT, "arrays of arrays are not supported");
    if (n > c->n - c->at) /* every element has a byte at least */
        return sv_fail(err, SV_EFORMAT, "%" PRIu64 " elements in %zu bytes", n, c->n - c->at);
    v->elem = (kv_type)elem;
    v->n = (size_t)n;
    if (v->elem == KV_STR)
        return parse_strings(c, v, err);
    size_t width = kv_bytes[elem];
    if (v->n > (c->n - c->at) / width)
        return sv_fail(err, SV_EFORMAT, "%zu elements of %zu bytes, %zu bytes are left", v->n, width, c->n - c->at);
    if (take(c, &p, v->n * width, "array", err) != SV_OK)
        return err->code;
    v->items = p;
    if ((uintptr_t)p % width != 0 && v->n > 0) {
        if (!(v->owned = sv_try_calloc(v->n, width)))
            return sv_fail(err, SV_ENOMEM, "no memory for %zu elements", v->n);
        v->items = memcpy(v->owned, p, v->n * width);
    }
    return SV_OK;
}

static sv_rc parse_value(cursor *c, kv *v, sv_err *err)
{
    uint32_t type = 0;
    if (take_u32(c, &type, "type", err) != SV_OK)
        return err->code;
    if (type >= KV_N_TYPES)
        return sv_fail(err, SV_EFORMAT, "unknown value type %u", type);
    v->type = (kv_type)type;
    if (v->type == KV_ARR)
        return parse_array(c, v, err);
    if (v->type == KV_STR)
        return take_str(c, &v->str, "string", err);
    if (take(c, &v->raw, kv_bytes[type], "value", err) != SV_OK)
        return err->code;
    if (v->type == KV_BOOL && *v->raw > 1)
        return sv_fail(err, SV_EFORMAT, "a bool of %u", *v->raw);
    return SV_OK;
}

static sv_rc parse_kvs(sv_gguf *g, cursor *c, uint64_t n_kv, sv_err *err)
{
    char show[SHOWN_BYTES];
    if (n_kv > (c->n - c->at) / MIN_KV_BYTES) /* inv. 2 */
        return sv_fail(err, SV_EFORMAT, "header: %" PRIu64 " keys in %zu bytes", n_kv, c->n - c->at);
    if (!(g->kvs = sv_try_calloc((size_t)n_kv + 1, sizeof *g->kvs)))
        return sv_fail(err, SV_ENOMEM, "no memory for %" PRIu64 " keys", n_kv);
    for (uint64_t i = 0; i < n_kv; i++) {
        sv_str key = {0};
        kv *v = &g->kvs[g->n_kv];
        if (take_name(c, &key, "key", err) != SV_OK)
            return sv_wrap(err, "key %" PRIu64, i);
        g->n_kv++; /* from here on it is freed with the rest */
        if (parse_value(c, v, err) != SV_OK)
            return sv_wrap(err, "key '%s'", shown(show, key));
        if (sv_smap_put(g->by_key, key, v)) /* inv. 3 */
            return sv_fail(err, SV_EFORMAT, "key '%s' is there twice", shown(show, key));
    }
    return SV_OK;
}

/* --- the tensor table --------------------------------------------------------------------------------------------- */

static sv_rc parse_dims(cursor *c, sv_tensor *t, int64_t *n_elems, sv_err *err)
{
    uint32_t n_dims = 0;
    if (take_u32(c, &n_dims, "dims", err) != SV_OK)
        return err->code;
    if (n_dims < 1 || n_dims > 4)
        return sv_fail(err, SV_EFORMAT, "%u dims; 1 to 4 are allowed", n_dims);
    t->n_dims = (int32_t)n_dims;
    *n_elems = 1;
    for (uint32_t d = 0; d < 4; d++) {
        uint64_t dim = 1;
        if (d < n_dims && take_u64(c, &dim, "dims", err) != SV_OK)
            return err->code;
        if (dim == 0 || dim > (uint64_t)(INT64_MAX / *n_elems))
            return sv_fail(err, SV_EFORMAT, "dim %u is %" PRIu64, d, dim);
        t->dims[d] = (int64_t)dim;
        *n_elems *= (int64_t)dim;
    }
    return SV_OK;
}

/* What ggml once had or has had since: nothing that we read, but the name tells which file to look for instead. */
static const char *type_name(uint32_t type)
{
    switch (type) {
    case 4: return "Q4_2";
    case 5: return "Q4_3";
    case 31: return "Q4_0_4_4";
    case 32: return "Q4_0_4_8";
    case 33: return "Q4_0_8_8";
    case 36: return "IQ4_NL_4_4";
    case 37: return "IQ4_NL_4_8";
    case 38: return "IQ4_NL_8_8";
    case 41: return "Q1_0";
    case 42: return "Q2_0";
    default: return NULL;
    }
}

/* Everything but the position, which needs the data's start: the offset is kept in *offset. */
static sv_rc parse_tensor(cursor *c, sv_tensor *t, uint64_t *offset, sv_err *err)
{
    int64_t n_elems = 0;
    uint32_t type = 0;
    if (parse_dims(c, t, &n_elems, err) != SV_OK || take_u32(c, &type, "type", err) != SV_OK ||
        take_u64(c, offset, "offset", err) != SV_OK)
        return err->code;
    const sv_type_info *info = sv_type_get(type);
    if (!info->name && type_name(type))
        return sv_fail(err, SV_EFORMAT, "element type %u (%s) is not supported", type, type_name(type));
    if (!info->name)
        return sv_fail(err, SV_EFORMAT, "unknown element type %u", type);
    if (t->dims[0] % info->block != 0)
        return sv_fail(err, SV_EFORMAT, "rows of %" PRId64 " elements do not divide into blocks of %d (%s)", t->dims[0], info->block, info->name);
    int64_t n_blocks = n_elems / info->block;
    if (n_blocks > INT64_MAX / info->block_bytes)
        return sv_fail(err, SV_EFORMAT, "%" PRId64 " elements are more than any file holds", n_elems);
    t->type = (sv_type)type;
    t->n_bytes = (size_t)n_blocks * (size_t)info->block_bytes;
    return SV_OK;
}

static sv_rc parse_tensors(sv_gguf *g, cursor *c, uint64_t n_tensors, uint64_t *offsets, sv_err *err)
{
    char show[SHOWN_BYTES];
    for (uint64_t i = 0; i < n_tensors; i++) {
        sv_str name = {0};
        sv_tensor *t = &g->tensors[i];
        if (take_name(c, &name, "tensor name", err) != SV_OK)
            return sv_wrap(err, "tensor %" PRIu64, i);
        if (parse_tensor(c, t, &offsets[i], err) != SV_OK)
            return sv_wrap(err, "tensor '%s'", shown(show, name));
        if (sv_smap_put(g->by_name, name, t)) /* inv. 3 */
            return sv_fail(err, SV_EFORMAT, "tensor '%s' is there twice", shown(show, name));
        t->name = g->names[i] = sv_xstrndup(name.p, name.n);
        g->n_tensors++;
    }
    return SV_OK;
}

static int by_address(const void *a, const void *b)
{
    const sv_tensor *x = *(const sv_tensor *const *)a, *y = *(const sv_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

/* inv. 4 */
static sv_rc place_tensors(sv_gguf *g, size_t start, size_t alignment, const uint64_t *offsets, sv_err *err)
{
    SV_AUTO(sv_freep) const sv_tensor **sorted = sv_try_calloc(g->n_tensors + 1, sizeof *sorted);
    if (!sorted)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tensors", g->n_tensors);
    size_t n_data = start <= g->size ? g->size - start : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        sv_tensor *t = &g->tensors[i];
        char show[SHOWN_BYTES];
        shown(show, sv_str_of(t->name));
        if (offsets[i] % alignment != 0)
            return sv_fail(err, SV_EFORMAT, "tensor '%s': offset %" PRIu64 " is not a multiple of %zu", show, offsets[i], alignment);
        if (offsets[i] > n_data || t->n_bytes > n_data - offsets[i])
            return sv_fail(err, SV_EFORMAT, "tensor '%s': %zu bytes at %" PRIu64 ", but the file has %zu bytes of data (cut off?)",
                           show, t->n_bytes, offsets[i], n_data);
        t->data = g->p + start + offsets[i];
        sorted[i] = t;
    }
    qsort(sorted, g->n_tensors, sizeof(*sorted), by_address);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const sv_tensor *a = sorted[i - 1], *b = sorted[i];
        char show_a[SHOWN_BYTES], show_b[SHOWN_BYTES];
        if ((const uint8_t *)a->data + a->n_bytes > (const uint8_t *)b->data)
            return sv_fail(err, SV_EFORMAT, "tensors '%s' and '%s' overlap", shown(show_a, sv_str_of(a->name)), shown(show_b, sv_str_of(b->name)));
    }
    return SV_OK;
}

/* --- open and close ----------------------------------------------------------------------------------------------- */

static sv_rc parse_header(cursor *c, uint64_t *n_tensors, uint64_t *n_kv, sv_err *err)
{
    const uint8_t *magic = NULL;
    uint32_t version = 0;
    if (take(c, &magic, 4, "header", err) != SV_OK)
        return err->code;
    if (memcmp(magic, "GGUF", 4) != 0)
        return sv_fail(err, SV_EFORMAT, "no GGUF file: it begins with %02x %02x %02x %02x", magic[0], magic[1], magic[2], magic[3]);
    if (take_u32(c, &version, "header", err) != SV_OK)
        return err->code;
    if (version != 0 && (version & 0xffff) == 0)
        return sv_fail(err, SV_EFORMAT, "a big-endian GGUF file; convert it to little-endian");
    if (version != 2 && version != 3)
        return sv_fail(err, SV_EFORMAT, "GGUF version %u; 2 and 3 are supported", version);
    if (take_u64(c, n_tensors, "header", err) != SV_OK || take_u64(c, n_kv, "header", err) != SV_OK)
        return err->code;
    return SV_OK;
}

static sv_rc parse(sv_gguf *g, sv_err *err)
{
    cursor c = {g->p, g->size, 0};
    uint64_t n_tensors = 0, n_kv = 0;
    int64_t alignment = 32;
    if (parse_header(&c, &n_tensors, &n_kv, err) != SV_OK || parse_kvs(g, &c, n_kv, err) != SV_OK)
        return err->code;
    if (sv_gguf_i64(g, "general.alignment", 8, 1 << 24, &alignment, err) != SV_OK)
        return err->code;
    if ((alignment & (alignment - 1)) != 0)
        return sv_fail(err, SV_EFORMAT, "key 'general.alignment': %" PRId64 " is not a power of two", alignment);
    if (n_tensors > (c.n - c.at) / MIN_TENSOR_BYTES) /* inv. 2 */
        return sv_fail(err, SV_EFORMAT, "header: %" PRIu64 " tensors in %zu bytes", n_tensors, c.n - c.at);

    SV_AUTO(sv_freep) uint64_t *offsets = sv_try_calloc((size_t)n_tensors + 1, sizeof *offsets);
    g->tensors = sv_try_calloc((size_t)n_tensors + 1, sizeof *g->tensors);
    g->names = sv_try_calloc((size_t)n_tensors + 1, sizeof *g->names);
    if (!offsets || !g->tensors || !g->names)
        return sv_fail(err, SV_ENOMEM, "no memory for %" PRIu64 " tensors", n_tensors);
    if (parse_tensors(g, &c, n_tensors, offsets, err) != SV_OK)
        return err->code;
    size_t rest = c.at % (size_t)alignment;
    return place_tensors(g, c.at + (rest ? (size_t)alignment - rest : 0), (size_t)alignment, offsets, err);
}

sv_rc sv_gguf_parse(sv_gguf **out, const void *bytes, size_t size, sv_err *err)
{
    SV_AUTO(sv_gguf_closep) sv_gguf *g = sv_xnew0(sv_gguf);
    g->p = bytes;
    g->size = size;
    g->by_key = sv_smap_new();
    g->by_name = sv_smap_new();
    if (parse(g, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(g);
    return SV_OK;
}

static sv_rc open_one(sv_gguf **out, const char *path, sv_err *err)
{
    sv_map map = {0};
    sv_gguf *g = NULL;
    if (sv_map_open(&map, path, err) != SV_OK)
        return err->code;
    if (sv_gguf_parse(&g, map.p, map.n, err) != SV_OK) {
        sv_map_close(&map);
        return sv_wrap(err, "'%s'", path);
    }
    g->map = map;
    *out = g;
    return SV_OK;
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

bool sv_gguf_is_part(const char *path, size_t *n_stem, int *no, int *n)
{
    enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };
    size_t len = strlen(path);
    int end = 0;
    if (len < TAIL || sscanf(path + len - TAIL, "-%5d-of-%5d.gguf%n", no, n, &end) != 2 || end != TAIL)
        return false;
    *n_stem = len - TAIL;
    return true;
}

static sv_rc check_part(const sv_gguf *g, const char *path, int64_t no, int64_t n, sv_err *err)
{
    int64_t its_no = -1, its_n = 0;
    if (sv_gguf_i64(g, "split.no", 0, INT32_MAX, &its_no, err) != SV_OK || sv_gguf_i64(g, "split.count", 0, INT32_MAX, &its_n, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (its_no != no || its_n != n)
        return sv_fail(err, SV_EFORMAT, "'%s': part %" PRId64 " of %" PRId64 " by its keys, %" PRId64 " of %" PRId64 " by its name", path,
                       its_no + 1, its_n, no + 1, n);
    return SV_OK;
}

static sv_rc check_joined(const sv_gguf *g, const char *path, sv_err *err)
{
    int64_t n_tensors = (int64_t)sv_gguf_n_tensors(g);
    if (sv_gguf_i64(g, "split.tensors.count", 0, INT32_MAX, &n_tensors, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (n_tensors != (int64_t)sv_gguf_n_tensors(g))
        return sv_fail(err, SV_EFORMAT, "'%s': its parts have %zu tensors, wanted %" PRId64, path, sv_gguf_n_tensors(g), n_tensors);
    for (size_t i = g->n_tensors; i < (size_t)n_tensors; i++) { /* inv. 3 */
        const sv_tensor *t = sv_gguf_tensor_at(g, i);
        if (sv_gguf_tensor(g, t->name) != t)
            return sv_fail(err, SV_EFORMAT, "'%s': tensor '%s' is in two parts", path, t->name);
    }
    return SV_OK;
}

/* Opens parts 2 to n beside the first. */
static sv_rc join(sv_gguf *g, const char *path, int64_t n, sv_err *err)
{
    size_t n_stem = 0;
    int no = 0, n_named = 0;
    if (!sv_gguf_is_part(path, &n_stem, &no, &n_named) || n_named != n)
        return sv_fail(err, SV_EFORMAT, "'%s': one of %" PRId64 " parts, but it is not called NAME-00001-of-%05" PRId64 ".gguf", path, n, n);
    if (no != 1)
        return sv_fail(err, SV_EFORMAT, "'%s': part %d of %d; name the first, '%.*s-00001-of-%05d.gguf'", path, no, n_named, (int)n_stem, path, n_named);
    if (check_part(g, path, 0, n, err) != SV_OK)
        return err->code;
    if (!(g->parts = sv_try_calloc((size_t)n, sizeof(sv_gguf *))))
        return sv_fail(err, SV_ENOMEM, "'%s': no memory for %" PRId64 " parts", path, n);
    for (int i = 1; i < n_named; i++) {
        SV_AUTO(sv_freep) char *name = sv_xasprintf("%.*s-%05d-of-%05d.gguf", (int)n_stem, path, i + 1, n_named);
        if (open_one(&g->parts[g->n_parts], name, err) != SV_OK)
            return err->code;
        if (check_part(g->parts[g->n_parts++], name, i, n, err) != SV_OK)
            return err->code;
    }
    return check_joined(g, path, err);
}

sv_rc sv_gguf_open(sv_gguf **out, const char *path, sv_err *err)
{
    SV_AUTO(sv_gguf_closep) sv_gguf *g = NULL;
    int64_t n = 1;
    if (open_one(&g, path, err) != SV_OK)
        return err->code;
    if (sv_gguf_i64(g, "split.count", 0, 99999, &n, err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    if (n > 1 && join(g, path, n, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(g);
    return SV_OK;
}

/* --- put in by the caller ----------------------------------------------------------------------------------------- */

sv_gguf *sv_gguf_new(size_t max_keys, size_t max_tensors)
{
    sv_gguf *g = sv_xnew0(sv_gguf);
    g->max_kv = max_keys;
    g->max_tensors = max_tensors;
    g->kvs = sv_xcalloc(max_keys + 1, sizeof *g->kvs);
    g->tensors = sv_xcalloc(max_tensors + 1, sizeof *g->tensors);
    g->names = sv_xcalloc(max_tensors + 1, sizeof *g->names);
    g->by_key = sv_smap_new();
    g->by_name = sv_smap_new();
    return g;
}

/* A key whose n bytes are kept with it. */
static kv *put_kv(sv_gguf *g, const char *key, kv_type type, const void *p, size_t n)
{
    SV_ASSERT(g->n_kv < g->max_kv);
    kv *v = &g->kvs[g->n_kv++];
    v->type = type;
    v->owned = sv_xcalloc(1, n + 1);
    memcpy(v->owned, p, n);
    v->raw = v->owned;
    SV_ASSERT(!sv_smap_put(g->by_key, sv_str_of(key), v));
    return v;
}

void sv_gguf_put_i64(sv_gguf *g, const char *key, int64_t v)
{
    put_kv(g, key, KV_I64, &v, sizeof v);
}

void sv_gguf_put_f32(sv_gguf *g, const char *key, float v)
{
    put_kv(g, key, KV_F32, &v, sizeof v);
}

void sv_gguf_put_str(sv_gguf *g, const char *key, sv_str v)
{
    kv *s = put_kv(g, key, KV_STR, v.n ? v.p : "", v.n);
    s->str = (sv_str){s->owned, v.n};
}

void sv_gguf_put_bools(sv_gguf *g, const char *key, const bool *v, size_t n)
{
    kv *a = put_kv(g, key, KV_ARR, v, n * sizeof *v);
    a->elem = KV_BOOL;
    a->n = n;
    a->items = a->owned;
}

void sv_gguf_put_tensor(sv_gguf *g, const char *name, const sv_tensor *t)
{
    SV_ASSERT(g->n_tensors < g->max_tensors);
    sv_tensor *to = &g->tensors[g->n_tensors];
    *to = *t;
    to->name = g->names[g->n_tensors++] = sv_xstrdup(name);
    SV_ASSERT(!sv_smap_put(g->by_name, sv_str_of(name), to));
}

sv_gguf *sv_gguf_close(sv_gguf *g)
{
    if (!g)
        return NULL;
    for (size_t i = 0; i < g->n_kv; i++)
        free(g->kvs[i].owned);
    for (size_t i = 0; i < g->n_tensors; i++)
        free(g->names[i]);
    for (size_t i = 0; i < g->n_parts; i++)
        sv_gguf_close(g->parts[i]);
    free(g->parts);
    free(g->kvs);
    free(g->names);
    free(g->tensors);
    sv_smap_free(g->by_key);
    sv_smap_free(g->by_name);
    sv_map_close(&g->map);
    free(g);
    return NULL;
}

/* --- getters ------------------------------------------------------------------------------------------------------ */

static const kv *find(const sv_gguf *g, const char *key)
{
    return sv_smap_get(g->by_key, sv_str_of(key));
}

static sv_rc wrong_type(const kv *v, const char *key, const char *wanted, sv_err *err)
{
    return sv_fail(err, SV_EFORMAT, "key '%s': type %s, wanted %s", key, kv_names[v->type], wanted);
}

bool sv_gguf_has(const sv_gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

/* false: no integer, or one over INT64_MAX. */
static bool as_i64(const kv *v, int64_t *out)
{
    uint64_t u = 0; /* little-endian: the low bytes of u */
    if (v->type > KV_I64 || v->type == KV_F32 || v->type == KV_BOOL || v->type == KV_STR || v->type == KV_ARR)
        return false;
    memcpy(&u, v->raw, kv_bytes[v->type]);
    switch (v->type) {
    case KV_I8: *out = (int8_t)u; return true;
    case KV_I16: *out = (int16_t)u; return true;
    case KV_I32: *out = (int32_t)u; return true;
    default: *out = (int64_t)u; return v->type == KV_I64 || u <= INT64_MAX;
    }
}

sv_rc sv_gguf_i64(const sv_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out, sv_err *err)
{
    const kv *v = find(g, key);
    int64_t i = 0;
    if (!v)
        return SV_OK;
    if (!as_i64(v, &i))
        return wrong_type(v, key, "an integer", err);
    if (i < min || i > max)
        return sv_fail(err, SV_EFORMAT, "key '%s': %" PRId64 " is out of %" PRId64 " to %" PRId64, key, i, min, max);
    *out = i;
    return SV_OK;
}

sv_rc sv_gguf_f32(const sv_gguf *g, const char *key, float *out, sv_err *err)
{
    const kv *v = find(g, key);
    int64_t i = 0;
    if (!v)
        return SV_OK;
    if (v->type == KV_F32) {
        memcpy(out, v->raw, sizeof *out);
    } else if (v->type == KV_F64) {
        double d;
        memcpy(&d, v->raw, sizeof d);
        *out = (float)d;
    } else if (as_i64(v, &i)) {
        *out = (float)i;
    } else {
        return wrong_type(v, key, "a float", err);
    }
    return SV_OK;
}

sv_rc sv_gguf_bool(const sv_gguf *g, const char *key, bool *out, sv_err *err)
{
    const kv *v = find(g, key);
    if (!v)
        return SV_OK;
    if (v->type != KV_BOOL)
        return wrong_type(v, key, "a bool", err);
    *out = *v->raw != 0;
    return SV_OK;
}

sv_rc sv_gguf_str(const sv_gguf *g, const char *key, sv_str *out, sv_err *err)
{
    const kv *v = find(g, key);
    if (!v)
        return SV_OK;
    if (v->type != KV_STR)
        return wrong_type(v, key, "a string", err);
    *out = v->str;
    return SV_OK;
}

/* The array under `key` if its elements are of type a or b; *out is NULL when there is none. */
static sv_rc find_array(const sv_gguf *g, const char *key, kv_type a, kv_type b, const kv **out, sv_err *err)
{
    const kv *v = find(g, key);
    if (v && v->type != KV_ARR)
        return wrong_type(v, key, "an array", err);
    if (v && v->elem != a && v->elem != b)
        return sv_fail(err, SV_EFORMAT, "key '%s': elements of type %s, wanted %s", key, kv_names[v->elem], kv_names[a]);
    *out = v;
    return SV_OK;
}

sv_rc sv_gguf_arr_str(const sv_gguf *g, const char *key, const sv_str **out, size_t *n_out, sv_err *err)
{
    const kv *v = NULL;
    if (find_array(g, key, KV_STR, KV_STR, &v, err) != SV_OK)
        return err->code;
    *out = v ? v->items : NULL;
    *n_out = v ? v->n : 0;
    return SV_OK;
}

sv_rc sv_gguf_arr_f32(const sv_gguf *g, const char *key, const float **out, size_t *n_out, sv_err *err)
{
    const kv *v = NULL;
    if (find_array(g, key, KV_F32, KV_F32, &v, err) != SV_OK)
        return err->code;
    *out = v ? v->items : NULL;
    *n_out = v ? v->n : 0;
    return SV_OK;
}

sv_rc sv_gguf_arr_i32(const sv_gguf *g, const char *key, const int32_t **out, size_t *n_out, sv_err *err)
{
    const kv *v = NULL;
    if (find_array(g, key, KV_I32, KV_U32, &v, err) != SV_OK)
        return err->code;
    const int32_t *items = v ? v->items : NULL;
    for (size_t i = 0; v && v->elem == KV_U32 && i < v->n; i++)
        if (items[i] < 0)
            return sv_fail(err, SV_EFORMAT, "key '%s': element %zu is over %d", key, i, INT32_MAX);
    *out = items;
    *n_out = v ? v->n : 0;
    return SV_OK;
}

sv_rc sv_gguf_arr_u8(const sv_gguf *g, const char *key, const uint8_t **out, size_t *n_out, sv_err *err)
{
    const kv *v = NULL;
    if (find_array(g, key, KV_U8, KV_I8, &v, err) != SV_OK)
        return err->code;
    *out = v ? v->items : NULL;
    *n_out = v ? v->n : 0;
    return SV_OK;
}

sv_rc sv_gguf_arr_bool(const sv_gguf *g, const char *key, const uint8_t **out, size_t *n_out, sv_err *err)
{
    const kv *v = NULL;
    if (find_array(g, key, KV_BOOL, KV_BOOL, &v, err) != SV_OK)
        return err->code;
    *out = v ? v->items : NULL;
    *n_out = v ? v->n : 0;
    return SV_OK;
}

size_t sv_gguf_size(const sv_gguf *g)
{
    size_t n = g->size;
    for (size_t i = 0; i < g->n_parts; i++)
        n += g->parts[i]->size;
    return n;
}

size_t sv_gguf_n_tensors(const sv_gguf *g)
{
    size_t n = g->n_tensors;
    for (size_t i = 0; i < g->n_parts; i++)
        n += g->parts[i]->n_tensors;
    return n;
}

const sv_tensor *sv_gguf_tensor_at(const sv_gguf *g, size_t i)
{
    const sv_gguf *part = g;
    for (size_t k = 0; i >= part->n_tensors; k++) {
        SV_ASSERT(k < g->n_parts);
        i -= part->n_tensors;
        part = g->parts[k];
    }
    return &part->tensors[i];
}

const sv_tensor *sv_gguf_tensor(const sv_gguf *g, const char *name)
{
    const sv_tensor *t = sv_smap_get(g->by_name, sv_str_of(name));
    for (size_t i = 0; !t && i < g->n_parts; i++)
        t = sv_smap_get(g->parts[i]->by_name, sv_str_of(name));
    return t;
}
