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

/* env.NAME of an Analytics Engine dataset. writeDataPoint() returns nothing and waits for nothing: what a turn of the Worker wrote goes
 * out behind it, together, and keeps the request alive until it is written. */
static const char analytics_js[] =
    "import workers from 'cloudflare-internal:workers';\n"
    "const must = (good, text) => { if (!good) throw new TypeError(`writeDataPoint(): ${text}`); };\n"
    "const list = (event, member, max) => {\n"
    "  const l = event[member] ?? [];\n"
    "  must(Array.isArray(l), `${member} must be an array.`);\n"
    "  must(l.length <= max, `Maximum of ${max} ${member} supported.`);\n"
    "  return l;\n"
    "};\n"
    "const encoder = new TextEncoder(), decoder = new TextDecoder();\n"
    "const text = (v) => v === null || v === undefined ? null : v instanceof ArrayBuffer || ArrayBuffer.isView(v) ? decoder.decode(v) : `${v}`;\n"
    "const bytes = (v) => v === null ? 0 : encoder.encode(v).length;\n"
    "class Dataset {\n"
    "  #fetcher; #points = [];\n"
    "  constructor(env) { this.#fetcher = env.fetcher; }\n"
    "  writeDataPoint(event = {}) {\n"
    "    must(typeof event === 'object' && event !== null, 'the data point must be an object.');\n"
    "    const indexes = list(event, 'indexes', 1).map(text), blobs = list(event, 'blobs', 20).map(text), doubles = list(event, 'doubles', 20).map(Number);\n"
    "    must(indexes.every((v) => bytes(v) <= 96), 'Size of indexes[0] exceeds 96 bytes.');\n"
    "    must(blobs.reduce((sum, v) => sum + bytes(v), 0) <= 16000, 'Cumulative size of blobs exceeds 16000 bytes.');\n"
    "    this.#points.push({ indexes, blobs, doubles });\n"
    "    if (this.#points.length === 1) workers.waitUntil(this.#send());\n"
    "  }\n"
    "  async #send() {\n"
    "    await null;\n"
    "    const points = this.#points;\n"
    "    this.#points = [];\n"
    "    for (let i = 0; i < points.length; i += 250) {\n"
    "      const res = await this.#fetcher.fetch('http://analytics/write', { method: 'POST', body: JSON.stringify({ points: points.slice(i, i + 250) }) });\n"
    "      await res.arrayBuffer();\n"
    "    }\n"
    "  }\n"
    "}\n"
    "export default (env) => new Dataset(env);\n";

static const sv_product products[] = {
    {.kind = "analytics_engine", .id = "dataset", .route = "ae",
     .before = "wrapped = (moduleName = \"selvedge-internal:analytics\", innerBindings = [(name = \"fetcher\", service = ", .after = ")])",
     .module = "selvedge-internal:analytics", .script = analytics_js},
    {.kind = "d1", .id = "id", .route = "d1",
     .before = "wrapped = (moduleName = \"cloudflare-internal:d1-api\", innerBindings = [(name = \"fetcher\", service = ", .after = ")])"},
    {.kind = "kv_namespace", .id = "namespace_id", .route = "kv", .before = "kvNamespace = ", .after = ""},
    {.kind = "queue", .id = "queue_name", .route = "queue", .before = "queue = ", .after = ""},
    {.kind = "r2_bucket", .id = "bucket_name", .route = "r2", .before = "r2Bucket = ", .after = ""},
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
