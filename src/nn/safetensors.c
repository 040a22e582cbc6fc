/* safetensors.c - reads safetensors files
 *
 * A file is  u64 n (little-endian), n bytes of JSON, data. The JSON maps each tensor's name to
 *     {"dtype": "F16", "shape": [rows, columns], "data_offsets": [begin, end]}     offsets count from the data's start
 * and "__metadata__" to strings. A large model comes as several such files and a model.safetensors.index.json, whose "weight_map"
 * says which file has which tensor.
 *
 * The file comes from a stranger. What passes is true from then on:
 *   1. The header is JSON within the file, of at most MAX_HEADER bytes (the format's own limit).
 *   2. A tensor's bytes are those of its shape and type; they lie inside the data, and tensors share none. The format wants the data
 *      without gaps as well; that is not asked for, since a gap harms nobody.
 *   3. Names are unique over all shards.
 *   4. Names of shards have no slash: an index cannot point out of its folder.
 * Alignment is not promised by the format (writers pad the header to 8 bytes, old ones did not), so nor is it here. */
#include "nn/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

enum { MAX_HEADER = 100 << 20, MAX_INDEX = 64 << 20, MAX_SHARDS = 10000, MAX_NAME = 256 };

typedef struct entry { /* a tensor that is kept out has no place in `tensors` */
    const char *dtype; /* of such a one; else NULL */
    sv_tensor t;
} entry;

struct sv_safetensors {
    sv_map map; /* empty when parsed from the caller's bytes */
    const uint8_t *p;
    size_t size;
    size_t n_entries;
    entry *entries;
    char **names;      /* of the entries */
    sv_smap *by_name;
    size_t n_tensors;
    const sv_tensor **tensors;
    sv_safetensors **shards; /* with tensors of their own; this one then has none */
    size_t n_shards;
};

static const struct { const char *name; sv_type type; } dtypes[] = {
    {"F32", SV_F32}, {"F16", SV_F16}, {"BF16", SV_BF16}, {"F64", SV_F64}, {"I8", SV_I8}, {"I16", SV_I16}, {"I32", SV_I32}, {"I64", SV_I64},
};
static const struct { const char *name; int bytes; } other_dtypes[] = {
    {"BOOL", 1}, {"U8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"U16", 2}, {"U32", 4}, {"U64", 8}, {"C64", 8},
};

/* --- one file ----------------------------------------------------------------------------------------------------- */

static sv_rc read_dtype(entry *e, const char *dtype, int64_t *width, sv_err *err)
{
    for (size_t i = 0; dtype && i < SV_LEN(dtypes); i++)
        if (strcmp(dtype, dtypes[i].name) == 0) {
            e->t.type = dtypes[i].type;
            *width = sv_type_get(dtypes[i].type)->block_bytes;
            return SV_OK;
        }
    for (size_t i = 0; dtype && i < SV_LEN(other_dtypes); i++)
        if (strcmp(dtype, other_dtypes[i].name) == 0) {
            e->dtype = other_dtypes[i].name;
            *width = other_dtypes[i].bytes;
            return SV_OK;
        }
    return sv_fail(err, SV_EFORMAT, "dtype '%.20s' is not known", dtype ? dtype : "(none)");
}

/* A number of the header that is no float, not negative and at most max. */
static sv_rc read_count(const json_t *v, int64_t max, const char *what, int64_t *out, sv_err *err)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return sv_fail(err, SV_EFORMAT, "%s is no integer from 0 to %" PRId64, what, max);
    *out = json_integer_value(v);
    return SV_OK;
}

/* Dims backwards, and their product times width in *n_bytes. The others' product fits too where one is 0. */
static sv_rc read_shape(sv_tensor *t, const json_t *shape, int64_t width, int64_t *n_bytes, sv_err *err)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > 4)
        return sv_fail(err, SV_EFORMAT, "its shape is no list of at most 4 numbers");
    bool empty = false;
    t->n_dims = (int32_t)n;
    *n_bytes = width;
    for (size_t d = 0; d < 4; d++) {
        t->dims[d] = 1;
        if (d < n && read_count(json_array_get(shape, n - 1 - d), INT64_MAX, "a dimension", &t->dims[d], err) != SV_OK)
            return err->code;
        empty = empty || t->dims[d] == 0;
        if (t->dims[d] > 0 && *n_bytes > INT64_MAX / t->dims[d])
            return sv_fail(err, SV_EFORMAT, "its shape has more elements than any file");
        *n_bytes *= t->dims[d] > 0 ? t->dims[d] : 1;
    }
    *n_bytes = empty ? 0 : *n_bytes;
    return SV_OK;
}

static sv_rc read_entry(entry *e, const json_t *v, const uint8_t *data, size_t n_data, sv_err *err)
{
    const json_t *offsets = json_object_get(v, "data_offsets");
    int64_t width = 0, n_bytes = 0, begin = 0, end = 0;
    if (!json_is_object(v) || json_array_size(offsets) != 2)
        return sv_fail(err, SV_EFORMAT, "it has no two data_offsets");
    if (read_dtype(e, sv_json_cstr(v, "dtype"), &width, err) != SV_OK ||
        read_shape(&e->t, json_object_get(v, "shape"), width, &n_bytes, err) != SV_OK ||
        read_count(json_array_get(offsets, 0), INT64_MAX, "an offset", &begin, err) != SV_OK ||
        read_count(json_array_get(offsets, 1), INT64_MAX, "an offset", &end, err) != SV_OK)
        return err->code;
    if (begin > end || end - begin != n_bytes)
        return sv_fail(err, SV_EFORMAT, "%" PRId64 " bytes from %" PRId64 " to %" PRId64 ", but its shape and type have %" PRId64,
                       begin > end ? 0 : end - begin, begin, end, n_bytes);
    if ((uint64_t)end > n_data)
        return sv_fail(err, SV_EFORMAT, "it ends at %" PRId64 ", but the file has %zu bytes of data (cut off?)", end, n_data);
    e->t.data = data + begin;
    e->t.n_bytes = (size_t)n_bytes;
    return SV_OK;
}

static int by_address(const void *a, const void *b)
{
    const sv_tensor *x = &(*(const entry *const *)a)->t, *y = &(*(const entry *const *)b)->t;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes); /* empty ones first */
}

/* inv. 2 */
static sv_rc check_overlap(const sv_safetensors *s, sv_err *err)
{
    SV_AUTO(sv_freep) const entry **sorted = sv_try_calloc(s->n_entries + 1, sizeof *sorted);
    if (!sorted)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tensors", s->n_entries);
    for (size_t i = 0; i < s->n_entries; i++)
        sorted[i] = &s->entries[i];
    qsort(sorted, s->n_entries, sizeof *sorted, by_address);
    for (size_t i = 1; i < s->n_entries; i++) {
        const sv_tensor *a = &sorted[i - 1]->t, *b = &sorted[i]->t;
        if ((const uint8_t *)a->data + a->n_bytes > (const uint8_t *)b->data)
            return sv_fail(err, SV_EFORMAT, "tensors '%s' and '%s' overlap", a->name, b->name);
    }
    return SV_OK;
}

static sv_rc read_entries(sv_safetensors *s, const json_t *header, const uint8_t *data, size_t n_data, sv_err *err)
{
    size_t n = json_object_size(header);
    const char *name;
    json_t *v;
    s->entries = sv_try_calloc(n + 1, sizeof *s->entries);
    s->names = sv_try_calloc(n + 1, sizeof *s->names);
    s->tensors = sv_try_calloc(n + 1, sizeof(sv_tensor *));
    if (!s->entries || !s->names || !s->tensors)
        return sv_fail(err, SV_ENOMEM, "no memory for %zu tensors", n);
    json_object_foreach((json_t *)(uintptr_t)header, name, v) {
        entry *e = &s->entries[s->n_entries];
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!name[0] || strlen(name) > MAX_NAME)
            return sv_fail(err, SV_EFORMAT, "a tensor's name has %zu bytes; 1 to %d are allowed", strlen(name), MAX_NAME);
        e->t.name = s->names[s->n_entries++] = sv_xstrdup(name);
        if (read_entry(e, v, data, n_data, err) != SV_OK)
            return sv_wrap(err, "tensor '%s'", name);
        if (sv_smap_put(s->by_name, sv_str_of(name), e))
            return sv_fail(err, SV_EFORMAT, "tensor '%s' is there twice", name);
        if (!e->dtype)
            s->tensors[s->n_tensors++] = &e->t;
    }
    return check_overlap(s, err);
}

sv_rc sv_safetensors_parse(sv_safetensors **out, const void *bytes, size_t size, sv_err *err)
{
    SV_AUTO(sv_safetensors_closep) sv_safetensors *s = sv_xnew0(sv_safetensors);
    SV_AUTO(sv_json_decrefp) json_t *header = NULL;
    uint64_t n = 0;
    s->p = bytes;
    s->size = size;
    s->by_name = sv_smap_new();
    if (size >= sizeof n)
        memcpy(&n, bytes, sizeof n);
    if (size < sizeof n || n > size - sizeof n || n > MAX_HEADER || n < 2 || s->p[sizeof n] != '{') /* inv. 1 */
        return sv_fail(err, SV_EFORMAT, "no safetensors file: a header of %" PRIu64 " bytes in a file of %zu (cut off?)", n, size);
    if (sv_json_parse(&header, (sv_str){(const char *)s->p + sizeof n, (size_t)n}, err) != SV_OK)
        return sv_wrap(err, "header");
    if (!json_is_object(header))
        return sv_fail(err, SV_EFORMAT, "header: it is no object");
    if (read_entries(s, header, s->p + sizeof n + n, size - sizeof n - (size_t)n, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(s);
    return SV_OK;
}

sv_rc sv_safetensors_open(sv_safetensors **out, const char *path, sv_err *err)
{
    sv_map map = {0};
    sv_safetensors *s = NULL;
    if (sv_map_open(&map, path, err) != SV_OK)
        return err->code;
    if (sv_safetensors_parse(&s, map.p, map.n, err) != SV_OK) {
        sv_map_close(&map);
        return sv_wrap(err, "'%s'", path);
    }
    s->map = map;
    *out = s;
    return SV_OK;
}

sv_safetensors *sv_safetensors_close(sv_safetensors *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->n_shards; i++)
        sv_safetensors_close(s->shards[i]);
    for (size_t i = 0; i < s->n_entries; i++)
        free(s->names[i]);
    free(s->shards);
    free(s->names);
    free(s->entries);
    free(s->tensors);
    sv_smap_free(s->by_name);
    sv_map_close(&s->map);
    free(s);
    return NULL;
}

/* --- a folder ----------------------------------------------------------------------------------------------------- */

static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

static sv_rc read_index(json_t **out, const char *folder, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, index_name);
    SV_AUTO(sv_buf_donep) sv_buf text;
    SV_AUTO(sv_json_decrefp) json_t *index = NULL;
    sv_buf_init(&text, MAX_INDEX);
    if (!sv_file_exists(path))
        return sv_fail(err, SV_ENOENT, "'%s' has neither %s nor %s", folder, single, index_name);
    if (sv_file_read(&text, path, err) != SV_OK)
        return err->code;
    if (sv_json_parse(&index, sv_buf_str(&text), err) != SV_OK)
        return sv_wrap(err, "'%s'", path);
    const json_t *map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0)
        return sv_fail(err, SV_EFORMAT, "'%s': it has no weight_map", path);
    *out = json_incref((json_t *)(uintptr_t)map);
    return SV_OK;
}

static bool is_shard_name(const json_t *v) /* inv. 4 */
{
    const char *s = json_string_value(v);
    return s && s[0] && s[0] != '.' && !strchr(s, '/') && json_string_length(v) == strlen(s) && strlen(s) <= MAX_NAME;
}

/* The shards that the map names, each once. */
static sv_rc list_shards(sv_safetensors_names *out, const json_t *map, const char *folder, sv_err *err)
{
    sv_smap *seen = sv_smap_new();
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, name, v) {
        if (!is_shard_name(v) || out->n == MAX_SHARDS) {
            sv_smap_free(seen);
            sv_safetensors_names_free(out);
            return sv_fail(err, SV_EFORMAT, "'%s/%s': tensor '%.80s' is in no file of this folder", folder, index_name, name);
        }
        if (sv_smap_put(seen, sv_str_of(json_string_value(v)), out))
            continue;
        out->names = sv_xrealloc(out->names, out->n + 1, sizeof *out->names);
        out->names[out->n++] = sv_xstrdup(json_string_value(v));
    }
    sv_smap_free(seen);
    return SV_OK;
}

sv_rc sv_safetensors_list(sv_safetensors_names *out, const char *folder, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, single);
    SV_AUTO(sv_json_decrefp) json_t *map = NULL;
    *out = (sv_safetensors_names){0};
    if (sv_file_exists(path)) {
        out->names = sv_xcalloc(1, sizeof *out->names);
        out->names[out->n++] = sv_xstrdup(single);
        return SV_OK;
    }
    return read_index(&map, folder, err) == SV_OK ? list_shards(out, map, folder, err) : err->code;
}

void sv_safetensors_names_free(sv_safetensors_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->names[i]);
    free(names->names);
    *names = (sv_safetensors_names){0};
}

static sv_rc open_shards(sv_safetensors *s, const sv_safetensors_names *names, const char *folder, sv_err *err)
{
    s->shards = sv_xcalloc(names->n, sizeof(sv_safetensors *));
    for (size_t i = 0; i < names->n; i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, names->names[i]);
        sv_safetensors *shard = NULL;
        if (sv_safetensors_open(&shard, path, err) != SV_OK)
            return err->code;
        s->shards[s->n_shards++] = shard;
        for (size_t k = 0; k < shard->n_entries; k++) /* inv. 3 */
            if (sv_smap_put(s->by_name, sv_str_of(shard->names[k]), &shard->entries[k]))
                return sv_fail(err, SV_EFORMAT, "'%s': tensor '%s' is in another file too", path, shard->names[k]);
    }
    return SV_OK;
}

static sv_rc check_map(const sv_safetensors *s, const json_t *map, const char *folder, sv_err *err)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, name, v)
        if (!sv_smap_get(s->by_name, sv_str_of(name)))
            return sv_fail(err, SV_EFORMAT, "'%s/%s': tensor '%.80s' is not in '%s'", folder, index_name, name, json_string_value(v));
    return SV_OK;
}

sv_rc sv_safetensors_open_folder(sv_safetensors **out, const char *folder, sv_err *err)
{
    SV_AUTO(sv_freep) char *path = sv_xasprintf("%s/%s", folder, single);
    SV_AUTO(sv_json_decrefp) json_t *map = NULL;
    SV_AUTO(sv_safetensors_closep) sv_safetensors *s = NULL;
    sv_safetensors_names names = {0};
    if (sv_file_exists(path))
        return sv_safetensors_open(out, path, err);
    if (read_index(&map, folder, err) != SV_OK || list_shards(&names, map, folder, err) != SV_OK)
        return err->code;
    s = sv_xnew0(sv_safetensors);
    s->by_name = sv_smap_new();
    sv_rc rc = open_shards(s, &names, folder, err);
    sv_safetensors_names_free(&names);
    if (rc != SV_OK || check_map(s, map, folder, err) != SV_OK)
        return err->code;
    *out = SV_TAKE(s);
    return SV_OK;
}

/* --- getters ------------------------------------------------------------------------------------------------------ */

size_t sv_safetensors_size(const sv_safetensors *s)
{
    size_t n = s->size;
    for (size_t i = 0; i < s->n_shards; i++)
        n += s->shards[i]->size;
    return n;
}

size_t sv_safetensors_n_tensors(const sv_safetensors *s)
{
    size_t n = s->n_tensors;
    for (size_t i = 0; i < s->n_shards; i++)
        n += s->shards[i]->n_tensors;
    return n;
}

const sv_tensor *sv_safetensors_tensor_at(const sv_safetensors *s, size_t i)
{
    const sv_safetensors *part = s;
    for (size_t k = 0; i >= part->n_tensors; k++) {
        SV_ASSERT(k < s->n_shards);
        i -= part->n_tensors;
        part = s->shards[k];
    }
    return part->tensors[i];
}

const sv_tensor *sv_safetensors_tensor(const sv_safetensors *s, const char *name)
{
    const entry *e = sv_smap_get(s->by_name, sv_str_of(name));
    return e && !e->dtype ? &e->t : NULL;
}

const char *sv_safetensors_why_not(const sv_safetensors *s, const char *name)
{
    const entry *e = sv_smap_get(s->by_name, sv_str_of(name));
    return e ? e->dtype : NULL;
}
