/* kv_check.c - what may be stored, in the words of the hosted service
 *
 * A Worker sees nothing of a refusal but its sentence (as the reason phrase), and Workers in the field match on these texts. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "kv/kv.h"

sv_rc sv_kvs_check_key(sv_str key, sv_err *err)
{
    if (key.n == 0)
        return sv_fail_api(err, SV_EINVAL, 10012, "Key names must not be empty");
    if (sv_str_is(key, ".") || sv_str_is(key, ".."))
        return sv_fail_api(err, SV_EINVAL, 10012, "Illegal key name \"%s\". Please use a different name.", key.n == 1 ? "." : "..");
    if (key.n > SV_KVS_MAX_KEY)
        return sv_fail_api(err, SV_EINVAL, 10030, "UTF-8 encoded length of %zu exceeds key length limit of %d.", key.n, SV_KVS_MAX_KEY);
    if (!sv_utf8_valid(key)) /* it could never be listed */
        return sv_fail_api(err, SV_EINVAL, 10012, "Could not URL-decode key name");
    return SV_OK;
}

sv_rc sv_kvs_check_metadata(sv_str json, sv_err *err)
{
    sv_err why = {0};
    if (json.n > SV_KVS_MAX_METADATA)
        return sv_fail_api(err, SV_EINVAL, 10022, "Metadata length of %zu exceeds limit of %d.", json.n, SV_KVS_MAX_METADATA);
    SV_AUTO(sv_json_decrefp) json_t *v = NULL;
    if (sv_json_parse(&v, json, &why) != SV_OK)
        return sv_fail_api(err, SV_EINVAL, 10012, "Metadata is not JSON: %s", why.msg);
    return SV_OK;
}

sv_rc sv_kvs_check_value(uint64_t n, sv_err *err)
{
    if (n <= SV_KVS_MAX_VALUE)
        return SV_OK;
    return sv_fail_api(err, SV_EINVAL, 10022, "Value length of %llu exceeds limit of %d.", (unsigned long long)n, SV_KVS_MAX_VALUE);
}

static int shown(sv_str s) { return s.n < 40 ? (int)s.n : 40; }

static sv_rc ttl_expiry(sv_str ttl, int64_t now, int64_t *expires_s, sv_err *err)
{
    int64_t s = 0;
    if (!sv_str_to_i64(ttl, &s) || s <= 0 || s > (int64_t)1 << 40)
        return sv_fail_api(err, SV_EINVAL, 10034, "Invalid expiration_ttl of %.*s. Please specify integer greater than 0.", shown(ttl), ttl.p);
    if (s < SV_KVS_MIN_TTL_S)
        return sv_fail_api(err, SV_EINVAL, 10034, "Invalid expiration_ttl of %.*s. Expiration TTL must be at least %d.", shown(ttl), ttl.p,
                           SV_KVS_MIN_TTL_S);
    *expires_s = now + s;
    return SV_OK;
}

sv_rc sv_kvs_expiry(sv_str expiration, sv_str ttl, int64_t *expires_s, sv_err *err)
{
    int64_t now = sv_now_ms() / 1000, at = 0;
    *expires_s = 0;
    if (ttl.n)
        return ttl_expiry(ttl, now, expires_s, err);
    if (expiration.n == 0)
        return SV_OK;
    if (!sv_str_to_i64(expiration, &at) || at <= now)
        return sv_fail_api(err, SV_EINVAL, 10033,
                           "Invalid expiration of %.*s. Please specify integer greater than the current number of seconds since the UNIX epoch.",
                           shown(expiration), expiration.p);
    if (at < now + SV_KVS_MIN_TTL_S)
        return sv_fail_api(err, SV_EINVAL, 10033, "Invalid expiration of %.*s. Expiration times must be at least %d seconds in the future.",
                           shown(expiration), expiration.p, SV_KVS_MIN_TTL_S);
    *expires_s = at;
    return SV_OK;
}

int sv_kvs_status(const sv_err *err)
{
    switch (err->api_code) {
    case 10009: case 10013: return 404;
    case 10014: return 400;
    case 10022: return 413;
    case 10030: return 414;
    default: break;
    }
    switch (err->code) {
    case SV_EINVAL: case SV_EFORMAT: case SV_ECONFLICT: return 400;
    case SV_ENOENT: return 404;
    case SV_ELIMIT: return err->api_code ? 429 : 507;
    case SV_ENOMEM: return 503;
    default: return 500;
    }
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

sv_rc sv_kvs_decode_key(sv_str raw, sv_arena *a, sv_str *out, sv_err *err)
{
    char *to = sv_arena_new(a, char, raw.n + 1);
    size_t n = 0;
    if (!to)
        return sv_fail(err, SV_ENOMEM, "no memory for a key");
    for (size_t i = 0; i < raw.n; i++) {
        int hi = raw.p[i] == '%' && i + 2 < raw.n ? digit(raw.p[i + 1]) : -1, lo = hi >= 0 ? digit(raw.p[i + 2]) : -1;
        if (raw.p[i] == '%' && lo < 0)
            return sv_fail_api(err, SV_EINVAL, 10012, "Could not URL-decode key name");
        to[n++] = raw.p[i] == '%' ? (char)(hi << 4 | lo) : raw.p[i];
        i += raw.p[i] == '%' ? 2 : 0;
    }
    *out = (sv_str){to, n};
    return SV_OK;
}
