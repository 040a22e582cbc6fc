/* r2_rules.c - lifecycle, locks and CORS */
#include "r2/r2_rules.h"

#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/time.h"
#include "r2/r2_impl.h"

const char sv_r2_default_lifecycle[] =
    "{\"rules\":[{\"id\":\"Default Multipart Abort Rule\",\"enabled\":true,\"conditions\":{\"prefix\":\"\"},"
    "\"abortMultipartUploadsTransition\":{\"condition\":{\"type\":\"Age\",\"maxAge\":604800}}}]}";

static sv_str text_of(const json_t *v) { return json_is_string(v) ? (sv_str){json_string_value(v), json_string_length(v)} : (sv_str){0}; }

static sv_rc bad(sv_err *err, size_t i, const char *what) { return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "rules[%zu]: %s", i, what); }

/* ---- lifecycle ---- */

static bool condition(const json_t *transition, const char *age, sv_r2_when *out)
{
    const json_t *c = json_object_get(transition, "condition");
    const json_t *n = json_object_get(c, age);
    sv_str type = text_of(json_object_get(c, "type"));
    *out = (sv_r2_when){.on = true};
    if (sv_str_is(type, "Age") && json_is_integer(n) && json_integer_value(n) >= 0 && json_integer_value(n) < (int64_t)1 << 40) {
        out->ms = json_integer_value(n) * 1000;
        return true;
    }
    out->dated = true;
    return sv_str_is(type, "Date") && sv_parse_iso8601(text_of(json_object_get(c, "date")), &out->ms);
}

static sv_rc check_life(const json_t *rule, size_t i, sv_err *err)
{
    const json_t *transitions = json_object_get(rule, "storageClassTransitions"), *t;
    const json_t *expire = json_object_get(rule, "deleteObjectsTransition"), *stop = json_object_get(rule, "abortMultipartUploadsTransition");
    size_t k;
    sv_r2_when w;
    if (transitions && !json_is_null(transitions) && !json_is_array(transitions))
        return bad(err, i, "'storageClassTransitions' must be a list");
    json_array_foreach ((json_t *)(uintptr_t)transitions, k, t)
        if (!sv_str_is(text_of(json_object_get(t, "storageClass")), "InfrequentAccess") || !condition(t, "maxAge", &w))
            return bad(err, i, "a storage class transition needs a condition and the storage class InfrequentAccess");
    if (json_is_object(expire) && !condition(expire, "maxAge", &w))
        return bad(err, i, "'deleteObjectsTransition' needs a condition: {type: Age, maxAge: seconds} or {type: Date, date}");
    if (json_is_object(stop) && (!condition(stop, "maxAge", &w) || w.dated))
        return bad(err, i, "'abortMultipartUploadsTransition' needs a condition {type: Age, maxAge: seconds}");
    return SV_OK;
}

bool sv_r2_life_of(const json_t *rule, sv_r2_life *out)
{
    const json_t *t = json_object_get(rule, "storageClassTransitions");
    *out = (sv_r2_life){.prefix = text_of(json_object_get(json_object_get(rule, "conditions"), "prefix"))};
    if (!json_is_true(json_object_get(rule, "enabled")))
        return false;
    out->expire.on = condition(json_object_get(rule, "deleteObjectsTransition"), "maxAge", &out->expire);
    out->abort.on = condition(json_object_get(rule, "abortMultipartUploadsTransition"), "maxAge", &out->abort);
    out->infrequent.on = condition(json_array_get(t, 0), "maxAge", &out->infrequent);
    return true;
}

bool sv_r2_is_due(const sv_r2_when *w, int64_t at_ms, int64_t now_ms)
{
    return w->on && (w->dated ? now_ms >= w->ms : now_ms - at_ms >= w->ms);
}

/* ---- locks ---- */

static sv_rc check_lock_rule(const json_t *rule, size_t i, sv_err *err)
{
    sv_r2_when w;
    const json_t *c = json_object_get(rule, "condition");
    if (sv_str_is(text_of(json_object_get(c, "type")), "Indefinite") || condition(rule, "maxAgeSeconds", &w))
        return SV_OK;
    return bad(err, i, "'condition' must be {type: Age, maxAgeSeconds}, {type: Date, date} or {type: Indefinite}");
}

sv_rc sv_r2_check_lock(const bucket_row *b, sv_str key, int64_t uploaded_ms, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *all = NULL;
    json_t *rule;
    size_t i;
    sv_err why = {0};
    if (!b->locks || sv_json_parse(&all, sv_str_of(b->locks), &why) != SV_OK)
        return SV_OK;
    json_array_foreach (json_object_get(all, "rules"), i, rule) {
        sv_str prefix = text_of(json_object_get(rule, "prefix"));
        sv_r2_when w;
        if (!json_is_true(json_object_get(rule, "enabled")) || key.n < prefix.n || (prefix.n && memcmp(key.p, prefix.p, prefix.n) != 0))
            continue;
        bool forever = sv_str_is(text_of(json_object_get(json_object_get(rule, "condition"), "type")), "Indefinite");
        if (forever || (condition(rule, "maxAgeSeconds", &w) && !sv_r2_is_due(&w, uploaded_ms, sv_now_ms())))
            return sv_r2_fail(err, SV_R2_LOCKED);
    }
    return SV_OK;
}

/* ---- CORS ---- */

static bool texts(const json_t *v, bool must)
{
    const json_t *t;
    size_t i;
    if (!v || json_is_null(v))
        return !must;
    json_array_foreach ((json_t *)(uintptr_t)v, i, t)
        if (!json_is_string(t) || strlen(json_string_value(t)) != json_string_length(t))
            return false;
    return json_is_array(v) && (!must || json_array_size(v) > 0);
}

/* One '*' at most stands for anything. */
static bool matches(sv_str pattern, sv_str s, bool fold)
{
    int (*compare)(const char *, const char *, size_t) = fold ? strncasecmp : strncmp;
    const char *star = pattern.n ? memchr(pattern.p, '*', pattern.n) : NULL;
    if (!star)
        return pattern.n == s.n && compare(pattern.p, s.p, s.n) == 0;
    size_t front = (size_t)(star - pattern.p), back = pattern.n - front - 1;
    return s.n >= front + back && compare(pattern.p, s.p, front) == 0 && compare(star + 1, s.p + s.n - back, back) == 0;
}

static bool any_matches(const json_t *patterns, sv_str s, bool fold)
{
    const json_t *p;
    size_t i;
    json_array_foreach ((json_t *)(uintptr_t)patterns, i, p)
        if (matches(text_of(p), s, fold))
            return true;
    return false;
}

static sv_rc check_cors(const json_t *rule, size_t i, sv_err *err)
{
    static const char *const methods[] = {"GET", "PUT", "POST", "DELETE", "HEAD"};
    const json_t *allowed = json_object_get(rule, "allowed"), *m;
    const json_t *origins = json_object_get(allowed, "origins"), *verbs = json_object_get(allowed, "methods"), *o;
    size_t k;
    int64_t age = 0;
    if (!texts(origins, true) || !texts(verbs, true) || !texts(json_object_get(allowed, "headers"), false) || !texts(json_object_get(rule, "exposeHeaders"), false))
        return bad(err, i, "'allowed' needs 'origins' and 'methods', lists of texts; 'headers' and 'exposeHeaders' are lists of texts");
    json_array_foreach ((json_t *)(uintptr_t)verbs, k, m) {
        size_t at = 0;
        while (at < SV_LEN(methods) && !sv_str_is(text_of(m), methods[at]))
            at++;
        if (at == SV_LEN(methods))
            return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "rules[%zu]: the method '%.20s' is none of GET, PUT, POST, DELETE, HEAD", i, json_string_value(m));
    }
    json_array_foreach ((json_t *)(uintptr_t)origins, k, o) {
        const char *star = strchr(json_string_value(o), '*');
        if (star && strchr(star + 1, '*'))
            return bad(err, i, "an origin has at most one '*'");
    }
    if (sv_json_int(rule, "maxAgeSeconds", 0, 86400 * 365, &age, err) != SV_OK)
        return bad(err, i, "'maxAgeSeconds' must be a whole number of seconds");
    return SV_OK;
}

static bool allows(const json_t *rule, const sv_r2_cors *ask)
{
    const json_t *allowed = json_object_get(rule, "allowed");
    if (!any_matches(json_object_get(allowed, "origins"), ask->origin, true) || !any_matches(json_object_get(allowed, "methods"), ask->method, false))
        return false;
    for (sv_str rest = ask->headers; rest.n;) {
        const char *comma = memchr(rest.p, ',', rest.n);
        sv_str one = sv_str_trim((sv_str){rest.p, comma ? (size_t)(comma - rest.p) : rest.n});
        rest = comma ? (sv_str){comma + 1, rest.n - (size_t)(comma + 1 - rest.p)} : (sv_str){0};
        if (one.n && !any_matches(json_object_get(allowed, "headers"), one, true))
            return false;
    }
    return true;
}

const json_t *sv_r2_cors_match(const json_t *rules, const sv_r2_cors *ask)
{
    const json_t *rule;
    size_t i;
    json_array_foreach ((json_t *)(uintptr_t)json_object_get(rules, "rules"), i, rule)
        if (allows(rule, ask))
            return rule;
    return NULL;
}

/* ---- all ---- */

sv_rc sv_r2_rules_check(sv_r2_setting which, const json_t *body, sv_err *err)
{
    const json_t *rules = json_object_get(body, "rules"), *rule, *other;
    size_t i, k;
    if (!json_is_array(rules))
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "'rules' must be a list");
    if (json_array_size(rules) > (which == SV_R2_CORS ? 100 : SV_R2_MAX_RULES))
        return sv_r2_failf(err, SV_R2_BAD_ARGUMENT, "%zu rules, at most %d", json_array_size(rules), which == SV_R2_CORS ? 100 : SV_R2_MAX_RULES);
    json_array_foreach ((json_t *)(uintptr_t)rules, i, rule) {
        sv_str id = text_of(json_object_get(rule, "id"));
        if (!json_is_object(rule))
            return bad(err, i, "it is no object");
        if (which != SV_R2_CORS && (id.n == 0 || id.n > 255))
            return bad(err, i, "'id' must be a text of 1 to 255 bytes");
        if (which != SV_R2_CORS && !json_is_boolean(json_object_get(rule, "enabled")))
            return bad(err, i, "'enabled' must be true or false");
        json_array_foreach ((json_t *)(uintptr_t)rules, k, other)
            if (which != SV_R2_CORS && k < i && sv_str_eq(id, text_of(json_object_get(other, "id"))))
                return bad(err, i, "another rule has its id");
        sv_rc rc = which == SV_R2_CORS ? check_cors(rule, i, err) : which == SV_R2_LIFECYCLE ? check_life(rule, i, err) : check_lock_rule(rule, i, err);
        if (rc != SV_OK)
            return rc;
    }
    return SV_OK;
}
