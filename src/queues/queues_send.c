/* queues_send.c - reads the messages of a send
 *
 * A body is kept as the bytes that a consumer gets: the text of a JSON value, a text's UTF-8, raw bytes. The binding sends those bytes in
 * base64; REST sends a JSON value, of which the type says how it becomes bytes. */
#include "queues/queues_send.h"

#include <stdlib.h>

enum { MAX_TEXT = 2 << 20 };

void sv_queues_batch_done(sv_queues_batch *b)
{
    free(b->v);
    free(b->at);
    sv_buf_done(&b->text);
    *b = (sv_queues_batch){.n = 0};
}

static sv_rc begin(sv_queues_batch *b, const json_t *list, sv_err *err)
{
    if (!json_is_array(list))
        return sv_fail_api(err, SV_EINVAL, 10207, "'messages' must be an array");
    size_t n = json_array_size(list);
    if (n == 0)
        return sv_fail_api(err, SV_EINVAL, 10207, "'messages' is empty: a batch has 1 to %d messages", SV_QUEUES_MAX_BATCH);
    if (n > SV_QUEUES_MAX_BATCH)
        return sv_fail_api(err, SV_EINVAL, 10252, "batch message count of %zu exceeds limit of %d", n, SV_QUEUES_MAX_BATCH);
    b->v = sv_xcalloc(n, sizeof *b->v);
    b->at = sv_xcalloc(n, sizeof *b->at);
    b->n = n;
    sv_buf_init(&b->text, MAX_TEXT);
    return SV_OK;
}

/* The bodies are whole: now the buffer moves no more. */
static sv_rc finish(sv_queues_batch *b, sv_err *err)
{
    if (b->text.failed)
        return sv_fail_api(err, SV_EINVAL, 10252, "batch size of more than %d bytes exceeds limit of %d", MAX_TEXT, SV_QUEUES_MAX_BATCH_BYTES);
    for (size_t i = 0; i < b->n; i++)
        b->v[i].body = (sv_str){b->text.p ? b->text.p + b->at[i] : "", (i + 1 < b->n ? b->at[i + 1] : b->text.n) - b->at[i]};
    return sv_queues_check(b->v, b->n, err);
}

static sv_rc type_of(const json_t *m, const char *member, size_t i, sv_queues_type absent, sv_queues_type *out, sv_err *err)
{
    const json_t *t = json_object_get(m, member);
    *out = absent;
    if (!t || json_is_null(t) || (json_is_string(t) && sv_queues_type_of((sv_str){json_string_value(t), json_string_length(t)}, out)))
        return SV_OK;
    return sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu]: '%s' must be \"json\", \"text\", \"bytes\" or \"v8\"", i, member);
}

static sv_rc delay_of(const json_t *m, const char *member, int64_t absent, int64_t *out, sv_err *err)
{
    *out = absent;
    if (sv_json_int(m, member, 0, SV_QUEUES_MAX_DELAY_S, out, err) == SV_OK)
        return SV_OK;
    err->api_code = 10207;
    return err->code;
}

static sv_rc add_base64(sv_queues_batch *b, const json_t *body, size_t i, sv_err *err)
{
    if (!json_is_string(body))
        return sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu]: 'body' must be text in base64", i);
    if (sv_base64_decode(&b->text, (sv_str){json_string_value(body), json_string_length(body)}, err) != SV_OK) {
        if (b->text.failed)
            return finish(b, err);
        err->api_code = 10207;
        return sv_wrap(err, "messages[%zu]: 'body'", i);
    }
    return SV_OK;
}

sv_rc sv_queues_batch_of_binding(sv_queues_batch *out, const json_t *body, int64_t delay_s, sv_err *err)
{
    sv_queues_batch b = {.n = 0};
    size_t i;
    json_t *m;
    const json_t *list = json_object_get(body, "messages");
    sv_rc rc = begin(&b, list, err);
    if (rc == SV_OK)
        json_array_foreach ((json_t *)(uintptr_t)list, i, m) {
            b.at[i] = b.text.n;
            rc = json_is_object(m) ? SV_OK : sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu] is not an object", i);
            if (rc == SV_OK)
                rc = type_of(m, "contentType", i, SV_QUEUES_V8, &b.v[i].type, err);
            if (rc == SV_OK)
                rc = delay_of(m, "delaySecs", delay_s, &b.v[i].delay_s, err);
            if (rc == SV_OK)
                rc = add_base64(&b, json_object_get(m, "body"), i, err);
            if (rc != SV_OK)
                break;
        }
    if (rc == SV_OK)
        rc = finish(&b, err);
    if (rc != SV_OK) {
        sv_queues_batch_done(&b);
        return rc;
    }
    *out = b;
    return SV_OK;
}

/* content_type absent: text where the body is text, else JSON. */
static sv_rc rest_message(sv_queues_batch *b, const json_t *m, size_t i, int64_t delay_s, sv_err *err)
{
    b->at[i] = b->text.n;
    if (!json_is_object(m))
        return sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu] is not an object", i);
    const json_t *body = json_object_get(m, "body");
    if (!body)
        return sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu] has no 'body'", i);
    if (type_of(m, "content_type", i, json_is_string(body) ? SV_QUEUES_TEXT : SV_QUEUES_JSON, &b->v[i].type, err) != SV_OK ||
        delay_of(m, "delay_seconds", delay_s, &b->v[i].delay_s, err) != SV_OK)
        return err->code;
    switch (b->v[i].type) {
    case SV_QUEUES_JSON:
        sv_json_add_value(&b->text, body);
        return SV_OK;
    case SV_QUEUES_TEXT:
        if (!json_is_string(body))
            return sv_fail_api(err, SV_EINVAL, 10207, "messages[%zu]: a 'body' of type \"text\" must be text", i);
        sv_buf_add(&b->text, json_string_value(body), json_string_length(body));
        return SV_OK;
    default: return add_base64(b, body, i, err);
    }
}

sv_rc sv_queues_batch_of_rest(sv_queues_batch *out, const json_t *body, bool single, sv_err *err)
{
    sv_queues_batch b = {.n = 0};
    int64_t delay_s = -1;
    size_t i;
    json_t *m;
    SV_AUTO(sv_json_decrefp) json_t *list = single ? json_pack("[O]", body) : json_incref(json_object_get(body, "messages"));
    sv_rc rc = begin(&b, list, err);
    if (rc == SV_OK && !single)
        rc = delay_of(body, "delay_seconds", -1, &delay_s, err);
    if (rc == SV_OK)
        json_array_foreach (list, i, m)
            if ((rc = rest_message(&b, m, i, delay_s, err)) != SV_OK)
                break;
    if (rc == SV_OK)
        rc = finish(&b, err);
    if (rc != SV_OK) {
        sv_queues_batch_done(&b);
        return rc;
    }
    *out = b;
    return SV_OK;
}
