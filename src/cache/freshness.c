/* freshness.c - RFC 9111 for a shared cache, as far as an explicit cache.put() needs it
 *
 * Lifetime, first that is there: s-maxage, max-age, Expires - Date, a tenth of Date - Last-Modified. no-cache and proxy-revalidate make it 0: nothing
 * revalidates here. stale-while-revalidate and stale-if-error extend nothing, since a stale response is never given out. Set-Cookie is
 * refused, unless `private=set-cookie` asks to drop it: a cookie must not reach the next visitor.
 *
 * Statuses are those that local development stores; others are refused even with max-age. */
#include "cache/freshness.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* ---- headers ---- */

bool sv_head_next(sv_str head, size_t *at, sv_str *name, sv_str *value)
{
    while (*at < head.n) {
        const char *line = head.p + *at, *end = memchr(line, '\n', head.n - *at);
        size_t n = end ? (size_t)(end - line) : head.n - *at;
        *at += n + (end != NULL);
        const char *colon = memchr(line, ':', n);
        if (!colon || colon == line)
            continue;
        *name = (sv_str){line, (size_t)(colon - line)};
        *value = sv_str_trim((sv_str){colon + 1, n - name->n - 1});
        return true;
    }
    return false;
}

sv_str sv_head_find(sv_str head, const char *name)
{
    sv_str found = {0}, k, v;
    for (size_t at = 0; sv_head_next(head, &at, &k, &v);)
        if (sv_str_ieq(k, name))
            found = v;
    return found;
}

/* Cuts the next element off a list at its commas; quoted ones do not count. */
static bool next_element(sv_str *list, sv_str *out)
{
    if (list->n == 0)
        return false;
    size_t i = 0;
    for (bool quoted = false; i < list->n && (quoted || list->p[i] != ','); i++) {
        if (list->p[i] == '"')
            quoted = !quoted;
        else if (list->p[i] == '\\' && quoted && i + 1 < list->n)
            i++;
    }
    *out = sv_str_trim((sv_str){list->p, i});
    size_t skip = i < list->n ? i + 1 : i;
    *list = (sv_str){list->p + skip, list->n - skip};
    return true;
}

static bool list_has(sv_str list, const char *word)
{
    for (sv_str e; next_element(&list, &e);)
        if (sv_str_ieq(e, word))
            return true;
    return false;
}

/* A directive of every Cache-Control line; *value is its argument without quotes, empty when it has none. */
static bool directive(sv_str head, const char *name, sv_str *value)
{
    sv_str k, v, e;
    bool found = false;
    for (size_t at = 0; sv_head_next(head, &at, &k, &v);) {
        if (!sv_str_ieq(k, "cache-control"))
            continue;
        while (next_element(&v, &e)) {
            const char *eq = e.n ? memchr(e.p, '=', e.n) : NULL;
            sv_str word = sv_str_trim((sv_str){e.p, eq ? (size_t)(eq - e.p) : e.n});
            if (!sv_str_ieq(word, name) || found)
                continue;
            found = true;
            *value = eq ? sv_str_trim((sv_str){eq + 1, e.n - (size_t)(eq + 1 - e.p)}) : (sv_str){"", 0};
            if (value->n >= 2 && value->p[0] == '"' && value->p[value->n - 1] == '"')
                *value = (sv_str){value->p + 1, value->n - 2};
        }
    }
    return found;
}

static bool has_directive(sv_str head, const char *name)
{
    sv_str v;
    return directive(head, name, &v);
}

/* Digits at the front, at most 2^31 as RFC 9111 1.2.2 has it; anything else is 0: stale. */
static int64_t seconds(sv_str s)
{
    int64_t v = 0;
    for (size_t i = 0; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        if ((v = v * 10 + s.p[i] - '0') > (int64_t)1 << 31)
            return (int64_t)1 << 31;
    return v;
}

/* ---- storing ---- */

static int64_t lifetime(sv_str head, int64_t now_s)
{
    sv_str v;
    int64_t date = now_s, expires, modified;
    if (has_directive(head, "no-cache") || has_directive(head, "proxy-revalidate"))
        return 0;
    if (directive(head, "s-maxage", &v) || directive(head, "max-age", &v))
        return seconds(v);
    sv_parse_http_date(sv_head_find(head, "date"), &date);
    if (sv_head_find(head, "expires").p)
        return sv_parse_http_date(sv_head_find(head, "expires"), &expires) && expires > date ? expires - date : 0;
    int64_t least = has_directive(head, "immutable") ? 24 * 60 * 60 : 0, tenth = 0;
    if (sv_parse_http_date(sv_head_find(head, "last-modified"), &modified) && date > modified)
        tenth = (date - modified) / 10;
    return tenth > least ? tenth : least;
}

static bool is_known_status(int status, bool explicit_freshness)
{
    static const int by_default[] = {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}, if_told[] = {302, 303, 307};
    for (size_t i = 0; i < SV_LEN(by_default); i++)
        if (by_default[i] == status)
            return true;
    for (size_t i = 0; explicit_freshness && i < SV_LEN(if_told); i++)
        if (if_told[i] == status)
            return true;
    return false;
}

static bool is_storable(int status, sv_str head, bool authorized)
{
    sv_str v = {0};
    bool told = has_directive(head, "max-age") || has_directive(head, "s-maxage") || has_directive(head, "public") || sv_head_find(head, "expires").p;
    if (has_directive(head, "no-store") || (directive(head, "private", &v) && !sv_str_ieq(v, "set-cookie")))
        return false;
    if (sv_head_find(head, "set-cookie").p || sv_str_is(sv_head_find(head, "vary"), "*"))
        return false;
    if (authorized && !has_directive(head, "must-revalidate") && !has_directive(head, "public") && !has_directive(head, "s-maxage"))
        return false;
    return is_known_status(status, told);
}

static bool is_of_the_hop(sv_str name, sv_str connection)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
                                        "upgrade", "content-length", "cf-cache-status"};
    char word[64];
    for (size_t i = 0; i < SV_LEN(names); i++)
        if (sv_str_ieq(name, names[i]))
            return true;
    if (!connection.p || name.n >= sizeof word)
        return false;
    memcpy(word, name.p, name.n);
    word[name.n] = 0;
    return list_has(connection, word);
}

/* Where the head's empty line ends; 0: there is none. */
static size_t end_of_head(sv_str m)
{
    size_t most = m.n < SV_CACHE_MAX_HEAD ? m.n : SV_CACHE_MAX_HEAD;
    const char *end = most ? memmem(m.p, most, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end - m.p) + 4 : 0;
}

sv_rc sv_cacheable_parse(sv_cacheable *out, sv_buf *head, sv_str message, bool authorized, int64_t now_s, sv_err *err)
{
    size_t body_at = end_of_head(message), from = head->n;
    sv_str v = {0}, k;
    if (!body_at || message.n < 13 || memcmp(message.p, "HTTP/1.", 7) != 0 || message.p[8] != ' ')
        return sv_fail(err, SV_EFORMAT, "the cached message is no HTTP response");
    int status = 0;
    for (int i = 9; i < 12; i++)
        status = message.p[i] >= '0' && message.p[i] <= '9' ? status * 10 + message.p[i] - '0' : 1000;
    if (status < 200 || status > 599)
        return sv_fail(err, SV_EFORMAT, "the cached message has no status");
    const char *line = memchr(message.p, '\n', body_at);
    sv_str all = {line + 1, body_at - (size_t)(line + 1 - message.p)}, connection = sv_head_find(all, "connection");
    bool drop_cookies = directive(all, "private", &v) && sv_str_ieq(v, "set-cookie");
    for (size_t at = 0; sv_head_next(all, &at, &k, &v);)
        if (!is_of_the_hop(k, connection) && !(drop_cookies && sv_str_ieq(k, "set-cookie"))) {
            sv_buf_add(head, k.p, k.n);
            sv_buf_adds(head, ": ");
            sv_buf_add(head, v.p, v.n);
            sv_buf_adds(head, "\r\n");
        }
    if (head->failed)
        return sv_fail(err, SV_ENOMEM, "no memory for the head of a response");
    sv_str kept = {sv_buf_cstr(head) + from, head->n - from}, length = sv_head_find(all, "content-length");
    int64_t age = seconds(sv_head_find(kept, "age"));
    *out = (sv_cacheable){.status = status, .body_at = body_at, .length = -1, .storable = is_storable(status, kept, authorized), .age_s = age,
                          .fresh_s = lifetime(kept, now_s) - age};
    if (length.p && !sv_str_to_i64(length, &out->length))
        return sv_fail(err, SV_EFORMAT, "the cached message has a Content-Length that is no number");
    return SV_OK;
}

/* ---- answering ---- */

/* The text between the quotes of an entity tag, without its W/; {NULL, 0}: none. */
static sv_str opaque(sv_str tag)
{
    if (tag.n >= 2 && tag.p[0] == 'W' && tag.p[1] == '/')
        tag = (sv_str){tag.p + 2, tag.n - 2};
    if (tag.n < 3 || tag.p[0] != '"' || tag.p[tag.n - 1] != '"')
        return (sv_str){0};
    return (sv_str){tag.p + 1, tag.n - 2};
}

static bool is_unchanged(const sv_cache_ask *ask, sv_str head)
{
    sv_str tag = opaque(sv_head_find(head, "etag")), list = ask->if_none_match, e;
    int64_t since, modified;
    if (list.p && tag.p) {
        if (sv_str_is(list, "*"))
            return true;
        while (next_element(&list, &e))
            if (opaque(e).p && sv_str_eq(opaque(e), tag))
                return true;
    }
    return ask->if_modified_since.p && sv_parse_http_date(ask->if_modified_since, &since) && sv_parse_http_date(sv_head_find(head, "last-modified"), &modified) &&
           modified <= since;
}

static bool digits(sv_str s, int64_t *out)
{
    s = sv_str_trim(s);
    *out = -1;
    if (s.n == 0)
        return true;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    if (!sv_str_to_i64(s, out))
        *out = INT64_MAX;
    return true;
}

static sv_cache_how one_range(sv_str r, int64_t length, int64_t *first, int64_t *last)
{
    const char *dash = r.n ? memchr(r.p, '-', r.n) : NULL;
    if (!dash || !digits((sv_str){r.p, (size_t)(dash - r.p)}, first) || !digits((sv_str){dash + 1, r.n - (size_t)(dash + 1 - r.p)}, last))
        return SV_CACHE_UNSATISFIABLE;
    if (*first < 0) { /* the last so many */
        if (*last <= 0)
            return SV_CACHE_UNSATISFIABLE;
        if (*last >= length)
            return SV_CACHE_WHOLE;
        *first = length - *last;
        *last = length - 1;
        return SV_CACHE_PART;
    }
    if (*last < 0 || *last >= length)
        *last = *last >= 0 && *first > *last ? *last : length - 1;
    return *first > *last || *first >= length ? SV_CACHE_UNSATISFIABLE : SV_CACHE_PART;
}

static sv_cache_how decide_range(sv_str range, int64_t length, int64_t *first, int64_t *last)
{
    sv_str r = sv_str_trim(range);
    if (r.n < 5 || strncasecmp(r.p, "bytes", 5) != 0)
        return SV_CACHE_UNSATISFIABLE;
    r = sv_str_trim((sv_str){r.p + 5, r.n - 5});
    if (r.n == 0 || r.p[0] != '=')
        return SV_CACHE_UNSATISFIABLE;
    r = sv_str_trim((sv_str){r.p + 1, r.n - 1});
    if (r.n == 0 || memchr(r.p, ',', r.n))
        return SV_CACHE_WHOLE;
    return one_range(r, length, first, last);
}

sv_cache_how sv_cache_decide(const sv_cache_ask *ask, sv_str head, int64_t length, int64_t *first, int64_t *last)
{
    sv_cache_how part = ask->range.p ? decide_range(ask->range, length, first, last) : SV_CACHE_WHOLE;
    if (part == SV_CACHE_UNSATISFIABLE)
        return part;
    return is_unchanged(ask, head) ? SV_CACHE_NOT_MODIFIED : part;
}
