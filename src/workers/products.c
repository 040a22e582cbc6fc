/* products.c - the table of products that a Worker can bind */
#include "workers/products.h"

#include <string.h>

#include "base/mem.h"

/* env.NAME of a rate limit. There is none in workerd; the refusals are worded as local development words them. */
static const char ratelimit_js[] =
    "const known = ['key', 'limit', 'period', 'delta'];\n"
    "const must = (good, text) => { if (!good) throw new Error(text); };\n"
    "const whole = (value) => {\n"
    "  const n = +value;\n"
    "  if (!Number.isFinite(n)) throw new TypeError('The value cannot be converted because it is not an integer.');\n"
    "  if (n < 0) throw new TypeError('The value cannot be converted because it is negative and this API expects a positive number.');\n"
    "  if (n > 0xffffffff) throw new TypeError('Value out of range. Must be less than or equal to 4294967295.');\n"
    "  if (Math.trunc(n) === 0) throw new RangeError('delta must be non-zero');\n"
    "  return Math.trunc(n);\n"
    "};\n"
    "class RateLimit {\n"
    "  #env;\n"
    "  constructor(env) { this.#env = env; }\n"
    "  async limit(options) {\n"
    "    must(typeof options === 'object' && options !== null, 'invalid rate limit options');\n"
    "    const strange = Object.keys(options).filter((k) => !known.includes(k));\n"
    "    must(strange.length === 0, `bad rate limit options: [${strange.join(',')}]`);\n"
    "    const { key = '', limit = this.#env.limit, period = this.#env.period, delta = 1 } = options;\n"
    "    must(typeof key === 'string', `invalid key: ${key}`);\n"
    "    must(typeof limit === 'number', `limit must be a number: ${limit}`);\n"
    "    must(typeof period === 'number', `period must be a number: ${period}`);\n"
    "    must(period === 10 || period === 60, `unsupported period: ${period}`);\n"
    "    const body = { key, limit: Math.max(-1, Math.ceil(Math.min(limit, 2 ** 52))), period, delta: whole(delta) };\n"
    "    const res = await this.#env.fetcher.fetch('http://ratelimit/limit', { method: 'POST', body: JSON.stringify(body) });\n"
    "    if (!res.ok) throw new Error(`rate limit: ${res.status} ${res.statusText}`);\n"
    "    return res.json();\n"
    "  }\n"
    "}\n"
    "export default (env) => new RateLimit(env);\n";

static const sv_product products[] = {
    {.kind = "d1", .id = "id", .route = "d1",
     .before = "wrapped = (moduleName = \"cloudflare-internal:d1-api\", innerBindings = [(name = \"fetcher\", service = ", .after = ")])"},
    {.kind = "kv_namespace", .id = "namespace_id", .route = "kv", .before = "kvNamespace = ", .after = ""},
    {.kind = "ratelimit", .id = "namespace_id", .route = "rl",
     .before = "wrapped = (moduleName = \"selvedge-internal:ratelimit\", innerBindings = [(name = \"fetcher\", service = ", .after = ")",
     .inner = "simple", .inner_end = "])", .module = "selvedge-internal:ratelimit", .script = ratelimit_js},
    {.kind = "vectorize", .id = "index_name", .route = "vectorize",
     .before = "wrapped = (moduleName = \"cloudflare-internal:vectorize-api\", innerBindings = [(name = \"fetcher\", service = ",
     .after = "), (name = \"indexId\", text = \"index\"), (name = \"indexVersion\", text = \"v2\"), (name = \"useNdJson\", json = \"true\")])"},
};

const sv_product *sv_product_of(const char *kind)
{
    for (size_t i = 0; i < SV_LEN(products); i++)
        if (strcmp(products[i].kind, kind) == 0)
            return &products[i];
    return NULL;
}

const sv_product *sv_product_at(size_t i) { return i < SV_LEN(products) ? &products[i] : NULL; }
