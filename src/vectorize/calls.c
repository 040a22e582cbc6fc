/* calls.c - what can be done with an index, from the bytes of a request to the bytes of its answer, for both dialects
 *
 * REST and the binding send the same bodies and want the same results; they differ in how a result and a refusal are wrapped, which is
 * sv_vz_dialect. Query vectors and results pass by base/floats.c; what is small is a JSON tree.
 *
 * Every mutation has an id of its own, which the index's log keeps: `processedUpToMutation` is the last one on the disk, and since a mutation is
 * answered when it is there and visible to queries, a client that waits for its id sees it at once (or a later one's). */
#include <stdio.h>
#include <string.h>

#include "base/floats.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/time.h"
#include "http/api.h"
#include "vectorize/vectorize_impl.h"

enum { ANSWER_MAX = 64 << 20, DEFAULT_TOP_K = 5, DEFAULT_LIST = 100 };

int sv_vz_status_of(const sv_err *err)
{
    if (sv_err_is_ours(err)) /* a full disk, a file of ours that is missing */
        return err->code == SV_ELIMIT ? 507 : 500;
    if (err->code == SV_ENOENT)
        return 404;
    if (err->api_code && (err->code == SV_ECONFLICT || err->code == SV_ELIMIT) && err->api_code != SV_VZ_EROOM)
        return 400;
    return sv_http_status_of(err->code);
}

/* A number for errors that come from below without one. */
static sv_rc numbered(sv_err *err, int api_code)
{
    if (!err->api_code)
        err->api_code = err->code == SV_ELIMIT || err->code == SV_ENOMEM ? SV_VZ_EROOM : api_code;
    return err->code;
}

static void answer_mutation(const sv_vz_call *c, const char *id, sv_str messages)
{
    char text[96];
    int n = snprintf(text, sizeof text, "{\"mutationId\":\"%s\"}", id);
    atomic_fetch_add(&sv_vz_counters_of(c->vz)->n_mutations, 1);
    c->d->ok(c->r, (sv_str){text, (size_t)n}, messages);
}

static void answer(const sv_vz_call *c, const sv_buf *result)
{
    if (result->failed) {
        sv_err err = {0};
        sv_fail_api(&err, SV_ENOMEM, SV_VZ_EROOM, "the answer is too large");
        c->d->refuse(c->r, &err);
    } else {
        c->d->ok(c->r, sv_buf_str(result), SV_STR("[]"));
    }
}

/* ---- insert, upsert ---- */

static sv_rc check_room(sv_vec *v, size_t n_more, sv_err *err)
{
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    return sv_limit_check(SV_LIMIT_VEC_VECTORS, (int64_t)(info.n_vectors + n_more), "vectors of the index", err);
}

typedef sv_rc (*put_fn)(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, sv_err *err);

static sv_rc put_new(sv_vec *v, const sv_vec_item *items, size_t n, sv_str mutation, sv_err *err)
{
    return sv_vec_insert(v, items, n, mutation, NULL, NULL, err);
}

static sv_rc put_lines(const sv_vz_call *c, sv_vec *v, sv_str ndjson, bool discard, put_fn put, const char *mutation, sv_vz_lines *l, sv_err *err)
{
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    if (sv_vz_lines_read(l, ndjson, v, info.config.dimensions, c->d->batch, discard, err) != SV_OK || check_room(v, l->n, err) != SV_OK ||
        put(v, l->items, l->n, sv_str_of(mutation), err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    atomic_fetch_add(&sv_vz_counters_of(c->vz)->n_vectors, l->n);
    return SV_OK;
}

static void put_call(const sv_vz_call *c, sv_str ndjson, bool discard, put_fn put)
{
    sv_err err = {0};
    char mutation[37];
    sv_vz_lines l = {0};
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_uuid4(mutation);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK ||
        put_lines(c, sv_vz_use_vec(u), ndjson, discard, put, mutation, &l, &err) != SV_OK)
        c->d->refuse(c->r, &err);
    else
        answer_mutation(c, mutation, sv_buf_str(&l.messages));
    sv_vz_lines_done(&l);
}

void sv_vz_insert(const sv_vz_call *c, sv_str ndjson, bool discard) { put_call(c, ndjson, discard, put_new); }
void sv_vz_upsert(const sv_vz_call *c, sv_str ndjson, bool discard) { put_call(c, ndjson, discard, sv_vec_upsert); }

/* ---- query ---- */

typedef struct query {
    float *vector;
    size_t n_vector;
    bool has_vector, has_id;
    int64_t top_k;
    sv_vec_query q;
    sv_vec_filter *filter; /* owned */
} query;

static sv_rc read_metadata_choice(const json_t *j, sv_vec_metadata *out, sv_err *err)
{
    static const char *const names[] = {[SV_VEC_METADATA_NONE] = "none", [SV_VEC_METADATA_INDEXED] = "indexed", [SV_VEC_METADATA_ALL] = "all"};
    if (json_is_null(j))
        return SV_OK;
    if (json_is_boolean(j)) { /* the older form; the runtime still sends false */
        *out = json_is_true(j) ? SV_VEC_METADATA_ALL : SV_VEC_METADATA_NONE;
        return SV_OK;
    }
    for (size_t i = 0; i < SV_LEN(names); i++)
        if (json_is_string(j) && strcmp(json_string_value(j), names[i]) == 0) {
            *out = (sv_vec_metadata)i;
            return SV_OK;
        }
    return sv_fail_api(err, SV_EINVAL, SV_VZ_EMETADATA, "'returnMetadata' must be \"none\", \"indexed\" or \"all\"");
}

static sv_rc read_top_k(const json_t *j, int64_t *out, sv_err *err)
{
    if (json_is_null(j))
        return SV_OK;
    if (!json_is_integer(j) || json_integer_value(j) < 1)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_ETOP_K, "'topK' must be a whole number from 1 to %lld", (long long)sv_limit_value(SV_LIMIT_VEC_TOP_K));
    *out = json_integer_value(j);
    return SV_OK;
}

static sv_rc read_filter(const json_t *j, sv_vec_filter **out, sv_err *err)
{
    if (json_is_null(j))
        return SV_OK;
    SV_AUTO(sv_buf_donep) sv_buf compact;
    sv_buf_init(&compact, 1 << 20);
    sv_json_add_value(&compact, j);
    if (!json_is_object(j) || json_object_size(j) == 0)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EFILTER, "'filter' must be an object with at least one condition");
    if (compact.failed)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EFILTER, "'filter' is too large");
    if (sv_limit_check(SV_LIMIT_VEC_FILTER_BYTES, (int64_t)compact.n, "the filter", err) != SV_OK)
        return err->code;
    *out = sv_vec_filter_free(*out); /* the member came twice */
    if (sv_vec_filter_parse(out, sv_buf_str(&compact), err) == SV_OK)
        return SV_OK;
    err->code = SV_EINVAL; /* one limit or another of the language */
    err->api_code = SV_VZ_EFILTER;
    return err->code;
}

static sv_rc read_option(query *q, sv_arena *a, sv_str key, const json_t *j, sv_err *err)
{
    sv_str *text = sv_str_is(key, "namespace") ? &q->q.ns : sv_str_is(key, "vectorId") ? &q->q.id : NULL;
    if (text && !json_is_null(j)) {
        if (!json_is_string(j))
            return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "'%.*s' must be a string", (int)key.n, key.p);
        *text = (sv_str){sv_arena_strndup(a, json_string_value(j), json_string_length(j)), json_string_length(j)};
        q->has_id |= text == &q->q.id;
        return text->p ? SV_OK : sv_fail(err, SV_ENOMEM, "no memory for the query");
    }
    if (sv_str_is(key, "topK"))
        return read_top_k(j, &q->top_k, err);
    if (sv_str_is(key, "returnMetadata"))
        return read_metadata_choice(j, &q->q.return_metadata, err);
    if (sv_str_is(key, "filter"))
        return read_filter(j, &q->filter, err);
    if (sv_str_is(key, "returnValues") && !json_is_null(j)) {
        if (!json_is_boolean(j))
            return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "'returnValues' must be true or false");
        q->q.return_values = json_is_true(j);
    }
    return SV_OK;
}

static sv_rc read_query(query *q, sv_arena *a, sv_str body, int32_t dimensions, sv_err *err)
{
    sv_scan s;
    sv_str key, raw;
    bool more;
    if (sv_scan_begin(&s, body, err) != SV_OK)
        return err->code;
    while (sv_scan_member(&s, a, &key, &more, err) == SV_OK) {
        if (!more)
            return SV_OK;
        if (sv_str_is(key, "vector") && !sv_scan_null(&s)) {
            q->vector = q->vector ? q->vector : sv_arena_new(a, float, (size_t)dimensions);
            if (!q->vector)
                return sv_fail(err, SV_ENOMEM, "no memory for the query");
            if (sv_scan_floats(&s, q->vector, (size_t)dimensions, &q->n_vector, err) != SV_OK)
                return sv_wrap(err, "'vector'");
            q->has_vector = true;
        } else if (!sv_str_is(key, "vector")) {
            SV_AUTO(sv_json_decrefp) json_t *j = NULL;
            if (sv_scan_value(&s, &raw, err) != SV_OK || sv_json_parse(&j, raw, err) != SV_OK)
                return sv_wrap(err, "'%.*s'", (int)(key.n > 40 ? 40 : key.n), key.p);
            if (read_option(q, a, key, j, err) != SV_OK)
                return err->code;
        }
    }
    return err->code;
}

static sv_rc check_query(query *q, int32_t dimensions, sv_err *err)
{
    if (q->has_vector == q->has_id)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, q->has_id ? "give 'vector' or 'vectorId', not both" : "a query needs 'vector' or 'vectorId'");
    if (q->has_vector && q->n_vector != (size_t)dimensions)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EQUERY_DIM, "invalid query vector, expected %d dimensions, and got %zu dimensions", dimensions, q->n_vector);
    bool full = q->q.return_values || q->q.return_metadata == SV_VEC_METADATA_ALL;
    int64_t most = sv_limit_value(full ? SV_LIMIT_VEC_TOP_K_FULL : SV_LIMIT_VEC_TOP_K);
    if (q->top_k > most)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_ETOP_K, "max top K is %lld%s, but got %lld", (long long)most,
                           full ? " with returnValues or returnMetadata \"all\"" : "", (long long)q->top_k);
    if (sv_limit_check(SV_LIMIT_VEC_NAMESPACE_BYTES, (int64_t)q->q.ns.n, "'namespace'", err) != SV_OK)
        return err->code;
    if (q->q.ns.n == 0)
        q->q.ns = (sv_str){0}; /* "" asks for nothing in particular */
    q->q.vector = q->has_vector ? q->vector : NULL;
    q->q.top_k = (int32_t)q->top_k;
    q->q.filter = q->filter;
    return SV_OK;
}

static void add_vector(sv_buf *b, const sv_vec_match *m, size_t n_values, bool score)
{
    sv_buf_adds(b, "{\"id\":");
    sv_json_add_str(b, m->id);
    if (score) {
        char number[SV_FLOAT_TEXT];
        sv_buf_adds(b, ",\"score\":");
        sv_buf_add(b, number, sv_float_write(number, m->score));
    }
    if (m->values) {
        sv_buf_adds(b, ",\"values\":");
        sv_floats_write(b, m->values, n_values);
    }
    if (m->ns.n) {
        sv_buf_adds(b, ",\"namespace\":");
        sv_json_add_str(b, m->ns);
    }
    if (m->metadata.n) {
        sv_buf_adds(b, ",\"metadata\":");
        sv_buf_add(b, m->metadata.p, m->metadata.n);
    }
    sv_buf_addc(b, '}');
}

static void add_vectors(sv_buf *b, const sv_vec_matches *m, sv_vec *v, bool score)
{
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    sv_buf_addc(b, '[');
    for (size_t i = 0; i < m->n; i++) {
        if (i)
            sv_buf_addc(b, ',');
        add_vector(b, &m->items[i], (size_t)info.config.dimensions, score);
    }
    sv_buf_addc(b, ']');
}

static sv_rc run_query(const sv_vz_call *c, sv_vec *v, query *q, sv_vec_matches *m, sv_err *err)
{
    sv_vec_info info;
    sv_vec_info_get(v, &info);
    if (read_query(q, sv_req_arena(c->r), sv_req_body(c->r), info.config.dimensions, err) != SV_OK || check_query(q, info.config.dimensions, err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    if (sv_vec_query_run(v, &q->q, m, err) != SV_OK)
        return numbered(err, err->code == SV_ENOENT ? SV_VZ_ENO_VECTOR : SV_VZ_EBODY);
    return SV_OK;
}

void sv_vz_query(const sv_vz_call *c)
{
    sv_err err = {0};
    query q = {.top_k = DEFAULT_TOP_K};
    sv_vec_matches m = {0};
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_buf_init(&b, ANSWER_MAX);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || run_query(c, sv_vz_use_vec(u), &q, &m, &err) != SV_OK) {
        c->d->refuse(c->r, &err);
    } else {
        sv_buf_addf(&b, "{\"count\":%zu,\"matches\":", m.n);
        add_vectors(&b, &m, sv_vz_use_vec(u), true);
        sv_buf_addc(&b, '}');
        atomic_fetch_add(&sv_vz_counters_of(c->vz)->n_queries, 1);
        answer(c, &b);
    }
    sv_vec_matches_done(&m);
    sv_vec_filter_free(q.filter);
}

/* ---- by ids, by filter ---- */

/* {"ids": ["a", "b"]}; *body owns the strings. */
static sv_rc read_ids(const sv_vz_call *c, sv_limit_id most, json_t **body, sv_str **ids, size_t *n, sv_err *err)
{
    if (sv_json_parse(body, sv_req_body(c->r), err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    const json_t *all = json_object_get(*body, "ids");
    if (!json_is_array(all))
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "'ids' must be an array of strings");
    if (sv_limit_check(most, (int64_t)json_array_size(all), "ids of one call", err) != SV_OK)
        return err->code;
    sv_str *v = sv_arena_new(sv_req_arena(c->r), sv_str, json_array_size(all) + 1);
    if (!v)
        return sv_fail(err, SV_ENOMEM, "no memory for the ids");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *id = json_array_get(all, i);
        if (!json_is_string(id))
            return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "entry %zu of 'ids' is no string", i);
        v[i] = (sv_str){json_string_value(id), json_string_length(id)};
        if (sv_limit_check(SV_LIMIT_VEC_ID_BYTES, (int64_t)v[i].n, "an id", err) != SV_OK)
            return err->code;
        if (v[i].n == 0)
            return sv_fail_api(err, SV_EINVAL, SV_VZ_EBODY, "entry %zu of 'ids' is empty", i);
    }
    *ids = v;
    *n = json_array_size(all);
    return SV_OK;
}

void sv_vz_get_by_ids(const sv_vz_call *c)
{
    sv_err err = {0};
    sv_str *ids = NULL;
    size_t n = 0;
    sv_vec_matches m = {0};
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_buf_init(&b, ANSWER_MAX);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || read_ids(c, SV_LIMIT_VEC_GET_IDS, &body, &ids, &n, &err) != SV_OK ||
        sv_vec_get(sv_vz_use_vec(u), ids, n, &m, &err) != SV_OK) {
        numbered(&err, SV_VZ_EBODY);
        c->d->refuse(c->r, &err);
    } else {
        add_vectors(&b, &m, sv_vz_use_vec(u), false);
        answer(c, &b);
    }
    sv_vec_matches_done(&m);
}

void sv_vz_delete_by_ids(const sv_vz_call *c)
{
    sv_err err = {0};
    char mutation[37];
    sv_str *ids = NULL;
    size_t n = 0;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_uuid4(mutation);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || read_ids(c, SV_LIMIT_VEC_DELETE_IDS, &body, &ids, &n, &err) != SV_OK ||
        sv_vec_delete(sv_vz_use_vec(u), ids, n, sv_str_of(mutation), NULL, &err) != SV_OK) {
        numbered(&err, SV_VZ_EBODY);
        c->d->refuse(c->r, &err);
    } else {
        answer_mutation(c, mutation, SV_STR("[]"));
    }
}

static sv_rc delete_matching(const sv_vz_call *c, sv_vec *v, const char *mutation, size_t *n, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_vec_filter_freep) sv_vec_filter *f = NULL;
    sv_str ns = {0};
    if (sv_json_parse(&body, sv_req_body(c->r), err) != SV_OK || sv_json_str(body, "namespace", &ns, err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    const json_t *filter = json_object_get(body, "filter");
    if (!filter || json_is_null(filter)) /* all of an index is deleted by deleting the index */
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EFILTER, "'filter' must be an object with at least one condition");
    if (read_filter(filter, &f, err) != SV_OK || sv_limit_check(SV_LIMIT_VEC_NAMESPACE_BYTES, (int64_t)ns.n, "'namespace'", err) != SV_OK)
        return err->code;
    if (sv_vec_delete_matching(v, f, ns.n ? ns : (sv_str){0}, sv_str_of(mutation), n, err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    return SV_OK;
}

void sv_vz_delete_by_filter(const sv_vz_call *c)
{
    sv_err err = {0};
    char mutation[37], text[128];
    size_t n = 0;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_uuid4(mutation);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || delete_matching(c, sv_vz_use_vec(u), mutation, &n, &err) != SV_OK) {
        c->d->refuse(c->r, &err);
        return;
    }
    atomic_fetch_add(&sv_vz_counters_of(c->vz)->n_mutations, 1);
    int len = snprintf(text, sizeof text, "{\"mutationId\":\"%s\",\"count\":%zu}", mutation, n);
    c->d->ok(c->r, (sv_str){text, (size_t)len}, SV_STR("[]"));
}

/* ---- list, info ---- */

static sv_rc list_page(const sv_vz_call *c, sv_vec *v, sv_vec_matches *m, char *next, sv_err *err)
{
    sv_str text, cursor = {0};
    int64_t limit = DEFAULT_LIST;
    if (sv_req_query(c->r, "count", 0, &text) && (!sv_str_to_i64(text, &limit) || limit < 1))
        return sv_fail_api(err, SV_EINVAL, SV_VZ_ECURSOR, "'count' must be a whole number from 1 to %lld", (long long)sv_limit_value(SV_LIMIT_VEC_LIST));
    if (sv_limit_check(SV_LIMIT_VEC_LIST, limit, "'count'", err) != SV_OK)
        return err->code;
    sv_req_query(c->r, "cursor", 0, &cursor);
    if (sv_vec_list(v, cursor, (int32_t)limit, m, next, err) == SV_OK)
        return SV_OK;
    return numbered(err, SV_VZ_ECURSOR);
}

void sv_vz_list_vectors(const sv_vz_call *c)
{
    sv_err err = {0};
    sv_vec_matches m = {0};
    char next[SV_VEC_CURSOR] = "";
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_buf_init(&b, ANSWER_MAX);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || list_page(c, sv_vz_use_vec(u), &m, next, &err) != SV_OK) {
        c->d->refuse(c->r, &err);
    } else {
        sv_vec_info info;
        sv_vec_info_get(sv_vz_use_vec(u), &info);
        sv_buf_addf(&b, "{\"count\":%zu,\"totalCount\":%llu,\"isTruncated\":%s,\"vectors\":[", m.n, (unsigned long long)info.n_vectors, next[0] ? "true" : "false");
        for (size_t i = 0; i < m.n; i++) {
            sv_buf_adds(&b, i ? ",{\"id\":" : "{\"id\":");
            sv_json_add_str(&b, m.items[i].id);
            sv_buf_addc(&b, '}');
        }
        sv_buf_addc(&b, ']');
        if (next[0]) {
            sv_buf_adds(&b, ",\"nextCursor\":");
            sv_json_add_str(&b, sv_str_of(next));
        }
        sv_buf_addc(&b, '}');
        answer(c, &b);
    }
    sv_vec_matches_done(&m);
}

void sv_vz_info(const sv_vz_call *c)
{
    sv_err err = {0};
    sv_vec_info info;
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK) {
        c->d->refuse(c->r, &err);
        return;
    }
    sv_buf_init(&b, 4096);
    sv_vec_info_get(sv_vz_use_vec(u), &info);
    sv_buf_addf(&b, "{\"dimensions\":%d,\"vectorCount\":%llu,", info.config.dimensions, (unsigned long long)info.n_vectors);
    if (info.last_mutation_ms) {
        char when[32];
        sv_iso8601(when, info.last_mutation_ms);
        sv_buf_addf(&b, "\"processedUpToDatetime\":\"%s\",\"processedUpToMutation\":", when);
        sv_json_add_str(&b, sv_str_of(info.last_mutation));
        sv_buf_addc(&b, '}');
    } else {
        sv_buf_adds(&b, "\"processedUpToDatetime\":null,\"processedUpToMutation\":null}");
    }
    answer(c, &b);
}

/* ---- metadata indexes ---- */

static const char *const type_names[] = {[SV_VEC_STRING] = "string", [SV_VEC_NUMBER] = "number", [SV_VEC_BOOLEAN] = "boolean"};

static sv_rc read_field(const sv_vz_call *c, bool with_type, json_t **body, sv_str *name, sv_vec_type *type, sv_err *err)
{
    sv_str text = {0};
    if (sv_json_parse(body, sv_req_body(c->r), err) != SV_OK || sv_json_str(*body, "propertyName", name, err) != SV_OK ||
        sv_json_str(*body, "indexType", &text, err) != SV_OK)
        return numbered(err, SV_VZ_EBODY);
    if (name->n == 0)
        return sv_fail_api(err, SV_EINVAL, SV_VZ_EFIELD, "'propertyName' is missing");
    for (size_t i = 0; with_type && i < SV_LEN(type_names); i++)
        if (sv_str_ieq(text, type_names[i])) {
            *type = (sv_vec_type)i;
            return SV_OK;
        }
    return with_type ? sv_fail_api(err, SV_EINVAL, SV_VZ_EFIELD, "'indexType' must be string, number or boolean") : SV_OK;
}

static sv_rc create_field(const sv_vz_call *c, sv_vec *v, const char *mutation, sv_err *err)
{
    sv_str name = {0};
    sv_vec_type type = SV_VEC_STRING;
    sv_vec_field have[SV_VEC_MAX_FIELDS];
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    if (read_field(c, true, &body, &name, &type, err) != SV_OK)
        return err->code;
    sv_rc rc = sv_vec_field_create(v, name, type, sv_str_of(mutation), err);
    if (rc == SV_ELIMIT && sv_vec_field_list(v, have) == SV_VEC_MAX_FIELDS)
        return sv_limit_check(SV_LIMIT_VEC_FIELDS, SV_VEC_MAX_FIELDS + 1, "metadata indexes", err);
    return rc == SV_OK ? rc : numbered(err, SV_VZ_EFIELD);
}

void sv_vz_field_create(const sv_vz_call *c)
{
    sv_err err = {0};
    char mutation[37];
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_uuid4(mutation);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || create_field(c, sv_vz_use_vec(u), mutation, &err) != SV_OK)
        c->d->refuse(c->r, &err);
    else
        answer_mutation(c, mutation, SV_STR("[]"));
}

void sv_vz_field_delete(const sv_vz_call *c)
{
    sv_err err = {0};
    char mutation[37];
    sv_str name = {0};
    sv_vec_type type = SV_VEC_STRING;
    SV_AUTO(sv_json_decrefp) json_t *body = NULL;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    sv_uuid4(mutation);
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK || read_field(c, false, &body, &name, &type, &err) != SV_OK ||
        sv_vec_field_delete(sv_vz_use_vec(u), name, sv_str_of(mutation), &err) != SV_OK) {
        numbered(&err, err.code == SV_ENOENT ? SV_VZ_ENO_FIELD : SV_VZ_EFIELD);
        c->d->refuse(c->r, &err);
    } else {
        answer_mutation(c, mutation, SV_STR("[]"));
    }
}

void sv_vz_field_list(const sv_vz_call *c)
{
    sv_err err = {0};
    sv_vec_field fields[SV_VEC_MAX_FIELDS];
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_vz_use_donep) sv_vz_use *u = NULL;
    if (sv_vectorize_use(c->vz, c->account, c->index, &u, &err) != SV_OK) {
        c->d->refuse(c->r, &err);
        return;
    }
    sv_buf_init(&b, 0);
    size_t n = sv_vec_field_list(sv_vz_use_vec(u), fields);
    sv_buf_adds(&b, "{\"metadataIndexes\":[");
    for (size_t i = 0; i < n; i++) {
        sv_buf_adds(&b, i ? ",{\"propertyName\":" : "{\"propertyName\":");
        sv_json_add_str(&b, sv_str_of(fields[i].name));
        sv_buf_addf(&b, ",\"indexType\":\"%s\"}", type_names[fields[i].type]);
    }
    sv_buf_adds(&b, "]}");
    answer(c, &b);
}
