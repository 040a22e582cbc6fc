/* filter_testing.h - random metadata and filters, and a second opinion on them that walks a jansson tree. For tests. */
#ifndef SV_VEC_FILTER_TESTING_H
#define SV_VEC_FILTER_TESTING_H

#include <math.h>
#include <stdlib.h>

#include "base/json.h"

static uint64_t random_state = 88172645463325252u;
static uint32_t roll(uint32_t n) /* 0 to n - 1 */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % n);
}

/* Few values, so that filters hit; among them texts that differ behind byte 64, escapes, and numbers at the edges of exactness. */
static json_t *random_scalar(void)
{
    static const char *const texts[] = {
        "", "a", "ab", "b", "drama", "com\"edy\\", "\xc3\xa9t\xc3\xa9", "\xf0\x9f\x8e\xac film", "line\nbreak\t", "A",
        "0123456789012345678901234567890123456789012345678901234567890123456789",
        "012345678901234567890123456789012345678901234567890123456789012345678X",
        "01234567890123456789012345678901234567890123456789012345678901\xc3\xa9\xc3\xa9 over",
        "012345678901234567890123456789012345678901234567890123456789012\xc3\xa9\xc3\xa9 over"};
    static const double numbers[] = {0, -0.0, 1, 2, 3, -1, 0.5, 1e300, -1e-300, 9007199254740993.0, 1990, 2000, 2.5e-8, 123456789012345678.0};
    switch (roll(7)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(roll(2));
    case 2:
    case 3:
        return roll(3) ? json_integer((json_int_t)roll(6)) : json_real(numbers[roll(14)]);
    default:
        return json_string(texts[roll(14)]);
    }
}

static const char *const property_names[] = {"genre", "year", "flag", "mixed", "k\xc3\xa9y", "q\\r"};
static json_t *random_object(int depth)
{
    json_t *o = json_object();
    for (size_t i = 0; i < 6; i++) {
        uint32_t r = roll(12);
        if (r < 4)
            continue;
        json_t *v = r == 4 && depth > 0 ? random_object(depth - 1) : r == 5 ? json_pack("[o,o]", random_scalar(), random_scalar()) : random_scalar();
        json_object_set_new(o, property_names[i], v);
    }
    if (depth > 0 && roll(2))
        json_object_set_new(o, "in", random_object(depth - 1));
    return o;
}

static json_t *random_condition(void)
{
    static const char *const bounds[] = {"$lt", "$lte", "$gt", "$gte"};
    json_t *o = json_object();
    uint32_t r = roll(10);
    if (r < 2) {
        json_decref(o);
        return random_scalar();
    }
    if (r < 4) {
        json_object_set_new(o, roll(2) ? "$eq" : "$ne", random_scalar());
    } else if (r < 6) {
        json_t *list = json_array();
        for (uint32_t i = roll(5); i > 0; i--)
            json_array_append_new(list, random_scalar());
        json_object_set_new(o, roll(2) ? "$in" : "$nin", list);
    } else {
        json_t *a, *b;
        do {
            a = random_scalar();
            b = random_scalar();
            if ((json_is_string(a) && json_is_string(b)) || (json_is_number(a) && json_is_number(b)))
                break;
            json_decref(a);
            json_decref(b);
        } while (true);
        uint32_t which = roll(3); /* lower, upper, both */
        if (which != 1)
            json_object_set(o, bounds[2 + roll(2)], a);
        if (which != 0)
            json_object_set(o, bounds[roll(2)], b);
        json_decref(a);
        json_decref(b);
    }
    return o;
}

static json_t *random_filter(void)
{
    json_t *f = json_object();
    for (uint32_t i = 1 + roll(3); i > 0; i--) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", roll(5) == 0 ? "in." : "", property_names[roll(6)]);
        json_object_set_new(f, key, random_condition());
    }
    return f;
}

static size_t cut64(const char *s, size_t n)
{
    if (n <= 64)
        return n;
    n = 64;
    while (n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80)
        n--;
    return n;
}

/* -2: different types. */
static int judge_compare(const json_t *a, const json_t *b)
{
    if (json_is_string(a) && json_is_string(b)) {
        size_t n = cut64(json_string_value(a), json_string_length(a)), m = cut64(json_string_value(b), json_string_length(b));
        int c = memcmp(json_string_value(a), json_string_value(b), n < m ? n : m);
        return c ? (c < 0 ? -1 : 1) : n < m ? -1 : n > m;
    }
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return x < y ? -1 : x > y;
    }
    if (json_is_boolean(a) && json_is_boolean(b))
        return json_is_true(a) == json_is_true(b) ? 0 : 1;
    return json_is_null(a) && json_is_null(b) ? 0 : -2;
}

static bool judge_in(const json_t *v, const json_t *list)
{
    size_t i;
    json_t *x;
    json_array_foreach(list, i, x)
        if (judge_compare(v, x) == 0)
            return true;
    return false;
}

static bool judge_one(const json_t *v, const json_t *condition)
{
    if (!json_is_object(condition))
        return judge_compare(v, condition) == 0;
    const char *op;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)condition, op, x) {
        int c = judge_compare(v, x);
        bool ok = strcmp(op, "$eq") == 0    ? c == 0
                  : strcmp(op, "$ne") == 0  ? c != 0
                  : strcmp(op, "$in") == 0  ? judge_in(v, x)
                  : strcmp(op, "$nin") == 0 ? !judge_in(v, x)
                  : strcmp(op, "$lt") == 0  ? c == -1
                  : strcmp(op, "$lte") == 0 ? c == -1 || c == 0
                  : strcmp(op, "$gt") == 0  ? c == 1
                                            : c == 1 || c == 0;
        if (!ok)
            return false;
    }
    return true;
}

static bool judge(const json_t *metadata, const json_t *filter)
{
    const char *key;
    json_t *condition;
    json_object_foreach((json_t *)(uintptr_t)filter, key, condition) {
        const json_t *v = metadata;
        char part[64];
        for (const char *at = key; v; ) {
            const char *dot = strchr(at, '.');
            snprintf(part, sizeof part, "%.*s", dot ? (int)(dot - at) : (int)strlen(at), at);
            v = json_is_object(v) ? json_object_get(v, part) : NULL;
            if (!dot)
                break;
            at = dot + 1;
        }
        json_t *null = json_null();
        if (!judge_one(v ? v : null, condition))
            return false;
    }
    return true;
}

#endif
