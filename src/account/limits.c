/* limits.c - the table of limits
 *
 * Values follow the hosted service's paid plan where it documents one, because code written for it must not meet a smaller number here;
 * where it documents none, the value is what keeps one request from bloating a process of ours, and the "theirs" column is empty.
 * KB in the vendor's tables is read as 1024 bytes: the larger reading refuses nothing that the service takes.
 *
 * Invariant: limits[i].id == i. The test holds it, and that docs/limits.md is this table. */
#include <stdio.h>

#include "account/limits.h"

#define KIB(n) ((int64_t)(n) << 10)
#define MIB(n) ((int64_t)(n) << 20)

static const sv_limit limits[SV_N_LIMITS] = {
    {SV_LIMIT_HEAD_BYTES, "Every request", "Request line and headers", KIB(64), "bytes", 431, 0, "128 KB", "refused, connection closed"},
    {SV_LIMIT_CONNECTIONS, "Every request", "Open connections of the API", 10000, "", 0, 0, "", "further ones wait to be accepted"},
    {SV_LIMIT_HEAD_MS, "Every request", "Time for the head of a request", 10000, "ms", 408, 0, "", "refused, connection closed"},
    {SV_LIMIT_IDLE_MS, "Every request", "Idle keep-alive connection", 75000, "ms", 0, 0, "", "connection closed"},
    {SV_LIMIT_WRITE_MS, "Every request", "Answer that the client does not read", 60000, "ms", 0, 0, "", "connection closed"},
    {SV_LIMIT_API_BODY_BYTES, "Every request", "JSON body of a management call", MIB(1), "bytes", 413, 0, "100 MB", "refused"},

    {SV_LIMIT_TOKENS, "Accounts", "Live API tokens of an account", 50, "", 0, 0, "50", "`selvedge token create` refuses"},
    {SV_LIMIT_TOKEN_NAME_BYTES, "Accounts", "Name of a token", 63, "bytes", 0, 0, "", "`selvedge token create` refuses"},

    {SV_LIMIT_WORKERS, "Workers", "Workers of an account", 500, "", 403, 10037, "500", "upload refused"},
    {SV_LIMIT_NAME_BYTES, "Workers", "Name of a Worker", 63, "bytes", 400, 10016, "63", "upload refused"},
    {SV_LIMIT_SCRIPT_BYTES, "Workers", "Modules of a version, together, without source maps", MIB(64), "bytes", 413, 10027, "64 MiB",
     "upload refused"},
    {SV_LIMIT_MODULES, "Workers", "Modules of a version", 1000, "", 400, 10021, "", "upload refused"},
    {SV_LIMIT_UPLOAD_BYTES, "Workers", "Upload form with source maps", MIB(100), "bytes", 413, 10027, "100 MB", "upload refused"},
    {SV_LIMIT_METADATA_BYTES, "Workers", "Metadata of an upload", MIB(1), "bytes", 400, 10021, "1 MB", "upload refused"},
    {SV_LIMIT_VARS, "Workers", "Variables and secrets of a version", 128, "", 400, 10055, "128", "upload refused"},
    {SV_LIMIT_VAR_BYTES, "Workers", "One variable or secret", KIB(5), "bytes", 400, 10054, "5 KB", "upload refused"},
    {SV_LIMIT_BINDINGS, "Workers", "Bindings of a version, variables included", 1000, "", 400, 10021, "about 5,000", "upload refused"},
    {SV_LIMIT_VERSIONS_KEPT, "Workers", "Versions kept of a Worker", 100, "", 0, 0, "100",
     "the oldest that is not deployed is forgotten"},
    {SV_LIMIT_WAIT_UNTIL_MS, "Workers", "Work of a replaced version after its last answer (`waitUntil`)", 30000, "ms", 0, 0, "30 s",
     "its process is ended"},
    {SV_LIMIT_CRONS, "Workers", "Cron triggers of an account", 250, "", 400, 10102, "250", "refused"},
    {SV_LIMIT_EVENT_MS, "Workers", "One call of `queue()` or `scheduled()`", 900000, "ms", 0, 0, "15 minutes", "given up; a batch is retried"},
    {SV_LIMIT_WORKER_DATA_BYTES, "Workers", "Private memory of a Worker's process, of which the runtime itself takes about 560 MB and a module six times its size", MIB(1280),
     "bytes", 0, 0, "128 MB an isolate", "allocation fails in the Worker, or its process is started anew"},

    {SV_LIMIT_ASSETS, "Static assets", "Files of a version", 100000, "", 400, 10021, "100,000", "upload refused"},
    {SV_LIMIT_ASSET_BYTES, "Static assets", "One file", MIB(25), "bytes", 413, 10021, "25 MiB", "upload refused"},
    {SV_LIMIT_ASSET_PATH_BYTES, "Static assets", "Path of a file", 1024, "bytes", 400, 10021, "", "upload refused"},
    {SV_LIMIT_ASSET_CONFIG_BYTES, "Static assets", "Text of `_headers`, of `_redirects`", MIB(4), "bytes", 400, 10021,
     "100 rules of 2,000 characters, 2,100 rules of 1,000", "upload refused"},
    {SV_LIMIT_MANIFEST_BYTES, "Static assets", "Manifest of an upload", MIB(32), "bytes", 413, 10021, "", "upload refused"},
    {SV_LIMIT_ASSET_SESSIONS, "Static assets", "Upload sessions of an account, under way", 50, "", 0, 0, "", "the oldest ends"},
    {SV_LIMIT_ASSET_UPLOAD_BYTES, "Static assets", "One call that uploads files", MIB(64), "bytes", 413, 10021, "100 MB", "upload refused"},

    {SV_LIMIT_AI_BODY_BYTES, "Workers AI", "Body of a call", MIB(10), "bytes", 413, 3006, "10 MB", "refused"},
    {SV_LIMIT_AI_PROMPT_CHARS, "Workers AI", "`prompt`, or the content of one message", 131072, "characters", 400, 5006, "131,072",
     "refused"},
    {SV_LIMIT_AI_MESSAGES, "Workers AI", "Messages of a call", 2048, "", 400, 5006, "", "refused"},
    {SV_LIMIT_AI_MAX_TOKENS, "Workers AI", "`max_tokens`; with the prompt it must fit the model's window besides", 131072, "tokens", 400,
     5006, "the model's window", "refused, never cut"},
    {SV_LIMIT_AI_DEFAULT_TOKENS, "Workers AI", "`max_tokens` where a call gives none", 256, "tokens", 0, 0, "256",
     "the answer ends with finish reason `length`"},
    {SV_LIMIT_AI_STOPS, "Workers AI", "Stop strings of a call", 4, "", 400, 5006, "4 (OpenAI)", "refused"},
    {SV_LIMIT_AI_STOP_BYTES, "Workers AI", "One stop string", 256, "bytes", 400, 5006, "", "refused"},
    {SV_LIMIT_AI_AUDIO_SECONDS, "Workers AI", "A recording to transcribe", 7200, "seconds", 413, 3006, "", "refused"},
    {SV_LIMIT_AI_IMAGE_BYTES, "Workers AI", "A picture; and 50 million pixels, 32,767 a side, said by its header", MIB(10), "bytes", 413, 3006, "",
     "refused before anything is decoded"},
    {SV_LIMIT_AI_TEXTS, "Workers AI", "Texts of an embedding, contexts of a reranking", 100, "", 400, 5006, "100", "refused"},
    {SV_LIMIT_AI_QUEUE, "Workers AI", "Calls that wait for one model, besides those it computes", 256, "", 429, 3040, "", "refused at once, out of capacity"},
    {SV_LIMIT_AI_BATCHES, "Workers AI", "Asynchronous batches of an account that wait or run", 100, "", 429, 3040, "", "refused, out of capacity"},
    {SV_LIMIT_AI_BATCH_REQUESTS, "Workers AI", "Requests of an asynchronous batch; its results have at most 64 MiB together", 10000, "", 400, 5006, "10 MB", "refused"},
    {SV_LIMIT_AI_BATCH_KEEP_MS, "Workers AI", "Answers of an asynchronous batch, after its end", 86400000, "ms", 400, 5006, "", "forgotten"},
    {SV_LIMIT_MODEL_NAME_BYTES, "Workers AI", "Name of a model", 128, "bytes", 400, 5007, "", "no such model"},

    {SV_LIMIT_D1_DATABASES, "D1", "Databases of an account", 50000, "", 403, 7406, "50,000", "refused"},
    {SV_LIMIT_D1_NAME_BYTES, "D1", "Name of a database", 255, "bytes", 400, 7400, "", "refused"},
    {SV_LIMIT_D1_SIZE_BYTES, "D1", "One database", 10000000000, "bytes", 400, 7500, "10 GB", "the write fails and leaves no trace"},
    {SV_LIMIT_D1_TEMP_BYTES, "D1", "Temporary tables of one database", MIB(256), "bytes", 400, 7500, "", "the write fails and leaves no trace"},
    {SV_LIMIT_D1_SQL_BYTES, "D1", "One statement", 100000, "bytes", 400, 7500, "100,000", "`statement too long`"},
    {SV_LIMIT_D1_PARAMS, "D1", "Bound parameters of a statement", 100, "", 400, 7500, "100", "`too many SQL variables`"},
    {SV_LIMIT_D1_VALUE_BYTES, "D1", "A text, a blob or a row", 2000000, "bytes", 400, 7500, "2,000,000", "`string or blob too big`"},
    {SV_LIMIT_D1_COLUMNS, "D1", "Columns of a table or a result", 100, "", 400, 7500, "100", "the statement fails"},
    {SV_LIMIT_D1_FUNCTION_ARGS, "D1", "Arguments of an SQL function", 32, "", 400, 7500, "32", "the statement fails"},
    {SV_LIMIT_D1_PATTERN_BYTES, "D1", "Pattern of `LIKE` or `GLOB`", 50, "bytes", 400, 7500, "50", "`LIKE or GLOB pattern too complex`"},
    {SV_LIMIT_D1_QUERY_MS, "D1", "A request, all of its statements together", 30000, "ms", 400, 7500, "30 s", "interrupted and rolled back"},
    {SV_LIMIT_D1_WAIT_MS, "D1", "Wait for the requests to the same database that came before", 30000, "ms", 429, 7500, "",
     "refused, overloaded"},
    {SV_LIMIT_D1_QUEUE, "D1", "Requests that wait for one database", 1000, "", 429, 7500, "", "refused at once, overloaded"},
    {SV_LIMIT_D1_BATCH, "D1", "Entries of a batch", 10000, "", 400, 7400, "", "refused"},
    {SV_LIMIT_D1_BODY_BYTES, "D1", "Body of a query", MIB(32), "bytes", 413, 7400, "", "refused"},
    {SV_LIMIT_D1_RESULT_BYTES, "D1", "Result of a request, as JSON", MIB(512), "bytes", 400, 7500, "the memory of an isolate",
     "refused, and what the request wrote is rolled back"},
    {SV_LIMIT_D1_IMPORT_BYTES, "D1", "File of an import", 5000000000, "bytes", 413, 7400, "5 GB", "refused"},
    {SV_LIMIT_D1_IMPORT_MS, "D1", "An import, once it has begun", 3600000, "ms", 400, 7500, "", "interrupted and rolled back"},
    {SV_LIMIT_D1_HISTORY_MS, "D1", "Time that a database can be taken back", 604800000, "ms", 400, 7400, "7 to 30 days",
     "refused, and older history is removed"},
    {SV_LIMIT_D1_HISTORY_BYTES, "D1", "What is kept of one database for that", MIB(20480), "bytes", 0, 0, "", "older history is removed"},

    {SV_LIMIT_VEC_INDEXES, "Vectorize", "Indexes of an account", 50000, "", 400, 3003, "50,000", "create refused"},
    {SV_LIMIT_VEC_NAME_BYTES, "Vectorize", "Name of an index", 64, "bytes", 400, 3001, "64", "create refused"},
    {SV_LIMIT_VEC_DESCRIPTION_BYTES, "Vectorize", "Description of an index", KIB(1), "bytes", 400, 3001, "", "create refused"},
    {SV_LIMIT_VEC_DIMENSIONS, "Vectorize", "Dimensions of an index", 4096, "", 400, 3001, "1,536", "create refused"},
    {SV_LIMIT_VEC_VECTORS, "Vectorize", "Vectors of an index", 20000000, "", 400, 40013, "20,000,000", "insert and upsert refused"},
    {SV_LIMIT_VEC_FIELDS, "Vectorize", "Metadata indexes of an index", 10, "", 400, 40004, "10", "refused"},
    {SV_LIMIT_VEC_ID_BYTES, "Vectorize", "Id of a vector", 64, "bytes", 400, 40008, "64", "the whole call is refused"},
    {SV_LIMIT_VEC_NAMESPACE_BYTES, "Vectorize", "Name of a namespace", 64, "bytes", 400, 40009, "64", "the whole call is refused"},
    {SV_LIMIT_VEC_METADATA_BYTES, "Vectorize", "Metadata of a vector", KIB(10), "bytes", 400, 40010, "10 KiB", "the whole call is refused"},
    {SV_LIMIT_VEC_INDEXED_BYTES, "Vectorize", "Text in metadata that filters look at", 64, "bytes", 0, 0, "64",
     "compared by what fits, cut at a character"},
    {SV_LIMIT_VEC_BATCH, "Vectorize", "Vectors of an insert or upsert", 5000, "", 400, 40011, "5,000", "refused"},
    {SV_LIMIT_VEC_WORKER_BATCH, "Vectorize", "Vectors of an insert or upsert by a Worker", 1000, "", 400, 40011, "1,000", "refused"},
    {SV_LIMIT_VEC_UPLOAD_BYTES, "Vectorize", "Body of an insert or upsert", MIB(100), "bytes", 413, 0, "100 MB", "refused"},
    {SV_LIMIT_VEC_TOP_K, "Vectorize", "`topK`", 100, "", 400, 40025, "100", "refused"},
    {SV_LIMIT_VEC_TOP_K_FULL, "Vectorize", "`topK` with values or all metadata", 50, "", 400, 40025, "50", "refused"},
    {SV_LIMIT_VEC_FILTER_BYTES, "Vectorize", "Filter, as compact JSON", 2047, "bytes", 400, 40022, "under 2,048", "refused"},
    {SV_LIMIT_VEC_GET_IDS, "Vectorize", "Ids of one call that gets vectors", 20, "", 400, 40007, "20", "refused"},
    {SV_LIMIT_VEC_DELETE_IDS, "Vectorize", "Ids of one call that deletes vectors", 1000, "", 400, 40007, "100 or 1,000", "refused"},
    {SV_LIMIT_VEC_LIST, "Vectorize", "Ids of a page of a list", 1000, "", 400, 40021, "1,000", "refused"},
    {SV_LIMIT_VEC_OPEN, "Vectorize", "Indexes held open, of all accounts", 256, "", 0, 0, "",
     "the one unused for longest is closed, and opened again when it is asked"},

    {SV_LIMIT_KV_NAMESPACES, "KV", "Namespaces of an account", SV_KVS_MAX_NAMESPACES, "", 429, 10047, "1,000", "create refused"},
    {SV_LIMIT_KV_TITLE_BYTES, "KV", "Title of a namespace", SV_KVS_MAX_TITLE, "bytes", 400, 10019, "512", "create and rename refused"},
    {SV_LIMIT_KV_KEY_BYTES, "KV", "Key", SV_KVS_MAX_KEY, "bytes", 414, 10030, "512", "refused"},
    {SV_LIMIT_KV_VALUE_BYTES, "KV", "Value of a key; values of a bulk get, together", SV_KVS_MAX_VALUE, "bytes", 413, 10022, "25 MiB", "refused"},
    {SV_LIMIT_KV_METADATA_BYTES, "KV", "Metadata of a key, as JSON", SV_KVS_MAX_METADATA, "bytes", 413, 10022, "1,024", "refused"},
    {SV_LIMIT_KV_LIST, "KV", "Keys of a list", SV_KVS_MAX_LIST, "", 400, 10012, "1,000", "refused; further ones come by the cursor"},
    {SV_LIMIT_KV_BULK_GET, "KV", "Keys of a bulk get", SV_KVS_MAX_BULK_GET, "", 400, 10029, "100", "refused"},
    {SV_LIMIT_KV_BULK, "KV", "Pairs or keys of a bulk write or delete", SV_KVS_MAX_BULK, "", 400, 10029, "10,000", "refused, nothing written"},
    {SV_LIMIT_KV_BULK_BYTES, "KV", "Body of a bulk write or delete", SV_KVS_MAX_BULK_BYTES, "bytes", 413, 10022, "100 MB", "refused, nothing written"},

    {SV_LIMIT_R2_BUCKETS, "R2", "Buckets of an account", 1000000, "", 400, 10009, "1,000,000", "create refused"},
    {SV_LIMIT_R2_KEY_BYTES, "R2", "Key of an object", 1024, "bytes", 400, 10020, "1,024", "refused"},
    {SV_LIMIT_R2_METADATA_BYTES, "R2", "Custom metadata of an object", 8192, "bytes", 400, 10012, "8,192", "refused"},
    {SV_LIMIT_R2_UPLOAD_BYTES, "R2", "One put, or one part", 5363466240, "bytes", 400, 100100, "4.995 GiB", "refused"},
    {SV_LIMIT_R2_OBJECT_BYTES, "R2", "Object", 5492189429760, "bytes", 400, 100100, "4.995 TiB", "the upload is not completed"},
    {SV_LIMIT_R2_PARTS, "R2", "Parts of a multipart upload", 10000, "", 400, 10029, "10,000", "refused"},
    {SV_LIMIT_R2_MIN_PART_BYTES, "R2", "Part, the least but for the last", MIB(5), "bytes", 400, 10011, "5 MiB", "the upload is not completed"},
    {SV_LIMIT_R2_UPLOADS, "R2", "Open multipart uploads of a bucket", 10000, "", 429, 10058, "", "create refused"},
    {SV_LIMIT_R2_UPLOAD_MS, "R2", "Multipart upload that nobody completes, where no rule of the bucket says otherwise", 604800000, "ms", 0, 0, "7 days", "aborted"},
    {SV_LIMIT_R2_LIST, "R2", "Objects of a list", 1000, "", 400, 10022, "1,000", "refused by the binding and REST, cut by S3; further ones come by the cursor"},
    {SV_LIMIT_R2_DELETE, "R2", "Keys of one delete", 1000, "", 400, 10029, "1,000", "refused, nothing deleted"},
    {SV_LIMIT_R2_RULES, "R2", "Lifecycle or lock rules of a bucket", 1000, "", 400, 10029, "1,000", "refused"},

    {SV_LIMIT_QUEUES, "Queues", "Queues of an account", 10000, "", 400, 11007, "10,000", "create refused"},
    {SV_LIMIT_QUEUE_MESSAGE_BYTES, "Queues", "Message", 128000, "bytes", 413, 10252, "128 KB", "refused"},
    {SV_LIMIT_QUEUE_BATCH, "Queues", "Messages of a `sendBatch`, of a consumer's batch, of a pull", 100, "", 413, 10252, "100", "refused"},
    {SV_LIMIT_QUEUE_BATCH_BYTES, "Queues", "Messages of a `sendBatch`, together; a consumer's batch ends at 256,000", 288000, "bytes", 413, 10252,
     "256 KB", "refused"},
    {SV_LIMIT_QUEUE_BACKLOG_BYTES, "Queues", "Backlog of a queue", 25000000000, "bytes", 429, 10253, "25 GB", "`send` throws"},
    {SV_LIMIT_QUEUE_RETENTION_MS, "Queues", "Time that a queue keeps a message", 1209600000, "ms", 400, 100128, "14 days", "refused; older messages are deleted"},
    {SV_LIMIT_QUEUE_DELAY_MS, "Queues", "Delay of a message or a retry", 86400000, "ms", 400, 10207, "24 hours", "refused"},
    {SV_LIMIT_QUEUE_RETRIES, "Queues", "Retries of a message", 100, "", 400, 100127, "100", "refused; further ones go to the dead letter queue"},
    {SV_LIMIT_QUEUE_WAIT_MS, "Queues", "Time for a batch to fill", 60000, "ms", 400, 100127, "60 s", "refused"},
    {SV_LIMIT_QUEUE_CONCURRENCY, "Queues", "Batches of a queue at once", 250, "", 400, 100127, "250", "refused"},
    {SV_LIMIT_QUEUE_VISIBILITY_MS, "Queues", "Lease of a pulled message", 43200000, "ms", 400, 100127, "12 hours", "refused"},

    {SV_LIMIT_CACHE_BYTES, "Cache API", "Cached responses of all Workers, together", MIB(2048), "bytes", 0, 0, "", "the least recently used go"},
    {SV_LIMIT_CACHE_ENTRY_BYTES, "Cache API", "One cached response", MIB(256), "bytes", 413, 0, "512 MB", "`cache.put()` fails"},

    {SV_LIMIT_RATE_KEYS, "Rate limits", "Keys that an account counts in one window", 1000000, "", 0, 0, "", "further ones pass uncounted"},

    {SV_LIMIT_AE_INDEX_BYTES, "Analytics Engine", "Index of a point", 96, "bytes", 0, 0, "96", "`writeDataPoint()` throws"},
    {SV_LIMIT_AE_BLOB_BYTES, "Analytics Engine", "Blobs of a point, together", 16000, "bytes", 0, 0, "16 KB", "`writeDataPoint()` throws"},
    {SV_LIMIT_AE_BATCH, "Analytics Engine", "Points that the binding sends in one call", 250, "", 400, 10000, "", "sent in several calls"},
    {SV_LIMIT_AE_POINTS, "Analytics Engine", "Points kept of an account", 10000000, "", 0, 0, "", "the oldest go"},
    {SV_LIMIT_AE_KEEP_MS, "Analytics Engine", "Age of a point", (int64_t)92 * 86400 * 1000, "ms", 0, 0, "three months", "it goes"},
    {SV_LIMIT_AE_SQL_BYTES, "Analytics Engine", "A query", KIB(64), "bytes", 400, 10000, "", "refused"},
    {SV_LIMIT_AE_QUERY_MS, "Analytics Engine", "Time of a query", 10000, "ms", 422, 10000, "", "ended"},
    {SV_LIMIT_AE_RESULT_BYTES, "Analytics Engine", "Answer to a query", MIB(16), "bytes", 422, 10000, "", "ended"},
};

const sv_limit *sv_limits(size_t *n)
{
    *n = SV_N_LIMITS;
    return limits;
}

static const sv_limit *find(sv_limit_id id)
{
    SV_ASSERT(id < SV_N_LIMITS && limits[id].id == id);
    return &limits[id];
}

int64_t sv_limit_value(sv_limit_id id) { return find(id)->value; }
int sv_limit_status(sv_limit_id id) { return find(id)->http_status; }

sv_rc sv_limit_check(sv_limit_id id, int64_t got, const char *what, sv_err *err)
{
    const sv_limit *l = find(id);
    if (got <= l->value)
        return SV_OK;
    sv_rc rc = l->http_status == 429 ? SV_ELIMIT : SV_EINVAL;
    return sv_fail_api(err, rc, l->api_code, "%s: %lld%s%s, at most %lld", what, (long long)got, l->unit[0] ? " " : "", l->unit,
                       (long long)l->value);
}

/* ---- the page ---- */

static void add_grouped(sv_buf *out, int64_t v) /* 1,048,576 */
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            sv_buf_addc(out, ',');
        sv_buf_addc(out, digits[i]);
    }
}

/* Sizes that are whole MiB or KiB, and whole seconds, read better as such. */
static void add_value(sv_buf *out, const sv_limit *l)
{
    bool bytes = strcmp(l->unit, "bytes") == 0, ms = strcmp(l->unit, "ms") == 0;
    int64_t v = l->value;
    const char *unit = l->unit;
    if (bytes && v % MIB(1) == 0)
        v /= MIB(1), unit = "MiB";
    else if (bytes && v >= KIB(1) && v % KIB(1) == 0)
        v /= KIB(1), unit = "KiB";
    else if (ms && v % 1000 == 0)
        v /= 1000, unit = "s";
    add_grouped(out, v);
    if (unit[0])
        sv_buf_addf(out, " %s", unit);
}

static void add_row(sv_buf *out, const sv_limit *l)
{
    sv_buf_addf(out, "| %s | ", l->name);
    add_value(out, l);
    sv_buf_addf(out, " | %s | %s", l->theirs[0] ? l->theirs : "-", l->over);
    if (l->http_status)
        sv_buf_addf(out, " (HTTP %d", l->http_status);
    if (l->http_status && l->api_code)
        sv_buf_addf(out, ", code %d", l->api_code);
    sv_buf_adds(out, l->http_status ? ") |\n" : " |\n");
}

void sv_limits_markdown(sv_buf *out)
{
    sv_buf_adds(out, "# Limits\n\n"
                     "What this release enforces, printed by `selvedge limits` from the table that the code uses. The third column is what\n"
                     "Cloudflare documents for its paid plan.\n");
    const char *area = "";
    for (size_t i = 0; i < SV_N_LIMITS; i++) {
        if (strcmp(area, limits[i].area) != 0)
            sv_buf_addf(out, "\n## %s\n\n| Limit | Here | At Cloudflare | Over it |\n| --- | --- | --- | --- |\n", limits[i].area);
        area = limits[i].area;
        add_row(out, &limits[i]);
    }
}
