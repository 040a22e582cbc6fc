/* limits.h - the one table of limits: every number that a client can run into is here, and docs/limits.md is printed from it
 *
 * A room asks sv_limit_value() where it enforces, or sv_limit_check() where the refusal is an API answer; it never writes the number
 * again. A limit is in the table when this release enforces it, and goes in with the code that does.
 * Threads: constants; any thread. */
#ifndef SV_ACCOUNT_LIMITS_H
#define SV_ACCOUNT_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef enum sv_limit_id {
    /* every request */
    SV_LIMIT_HEAD_BYTES,        /* request line and headers */
    SV_LIMIT_CONNECTIONS,       /* open at once, for each server */
    SV_LIMIT_HEAD_MS,           /* first byte to end of head */
    SV_LIMIT_IDLE_MS,           /* keep-alive wait */
    SV_LIMIT_WRITE_MS,          /* answer without progress */
    SV_LIMIT_API_BODY_BYTES,    /* JSON bodies of management routes */
    /* accounts */
    SV_LIMIT_TOKENS,            /* live tokens of an account */
    SV_LIMIT_TOKEN_NAME_BYTES,
    /* Workers */
    SV_LIMIT_WORKERS,           /* of an account */
    SV_LIMIT_NAME_BYTES,        /* of a Worker */
    SV_LIMIT_SCRIPT_BYTES,      /* all modules of a version, without source maps */
    SV_LIMIT_MODULES,           /* of a version */
    SV_LIMIT_UPLOAD_BYTES,      /* the whole upload form, source maps included */
    SV_LIMIT_METADATA_BYTES,    /* the form's metadata part */
    SV_LIMIT_VARS,              /* variables and secrets of a version */
    SV_LIMIT_VAR_BYTES,         /* one of them */
    SV_LIMIT_BINDINGS,          /* of a version, variables included */
    SV_LIMIT_VERSIONS_KEPT,     /* of a Worker; older ones are forgotten, never those deployed */
    SV_LIMIT_WAIT_UNTIL_MS,     /* grace of a replaced version */
    SV_LIMIT_CRONS,             /* cron triggers of an account */
    SV_LIMIT_EVENT_MS,          /* a queue() or scheduled() */
    SV_LIMIT_WORKER_DATA_BYTES, /* RLIMIT_DATA of a workerd process */
    /* static assets */
    SV_LIMIT_ASSETS,            /* files of a version */
    SV_LIMIT_ASSET_BYTES,       /* one file */
    SV_LIMIT_ASSET_PATH_BYTES,
    SV_LIMIT_ASSET_CONFIG_BYTES, /* text of _headers, of _redirects */
    SV_LIMIT_MANIFEST_BYTES,    /* body of assets-upload-session */
    SV_LIMIT_ASSET_SESSIONS,    /* of an account, under way */
    SV_LIMIT_ASSET_UPLOAD_BYTES, /* body of one assets/upload call */
    /* Workers AI */
    SV_LIMIT_AI_BODY_BYTES,
    SV_LIMIT_AI_PROMPT_CHARS,   /* code points of prompt, or of one message's content */
    SV_LIMIT_AI_MESSAGES,       /* of a request */
    SV_LIMIT_AI_MAX_TOKENS,     /* largest max_tokens; prompt and answer must fit the model's window besides */
    SV_LIMIT_AI_DEFAULT_TOKENS, /* max_tokens where the request has none */
    SV_LIMIT_AI_STOPS,          /* stop strings of a request */
    SV_LIMIT_AI_STOP_BYTES,     /* one of them */
    SV_LIMIT_AI_AUDIO_SECONDS,  /* of a recording */
    SV_LIMIT_AI_IMAGE_BYTES,    /* a picture */
    SV_LIMIT_AI_TEXTS,          /* of an embedding, contexts of a reranking */
    SV_LIMIT_AI_QUEUE,          /* requests that wait for one model, besides those it computes */
    SV_LIMIT_AI_BATCHES,        /* of an account, that wait or run */
    SV_LIMIT_AI_BATCH_REQUESTS, /* of one batch */
    SV_LIMIT_AI_BATCH_KEEP_MS,  /* answers, after the end */
    SV_LIMIT_MODEL_NAME_BYTES,
    /* D1 */
    SV_LIMIT_D1_DATABASES,      /* of an account */
    SV_LIMIT_D1_NAME_BYTES,
    SV_LIMIT_D1_SIZE_BYTES,     /* of a database */
    SV_LIMIT_D1_TEMP_BYTES,
    SV_LIMIT_D1_SQL_BYTES,      /* one statement */
    SV_LIMIT_D1_PARAMS,         /* of a statement */
    SV_LIMIT_D1_VALUE_BYTES,    /* a text, a blob, a row */
    SV_LIMIT_D1_COLUMNS,        /* of a table, of a result */
    SV_LIMIT_D1_FUNCTION_ARGS,
    SV_LIMIT_D1_PATTERN_BYTES,  /* of LIKE and GLOB */
    SV_LIMIT_D1_QUERY_MS,       /* a request with all its statements */
    SV_LIMIT_D1_WAIT_MS,        /* for requests before it */
    SV_LIMIT_D1_QUEUE,          /* requests that wait for one database */
    SV_LIMIT_D1_BATCH,          /* statements of a request's list */
    SV_LIMIT_D1_BODY_BYTES,
    SV_LIMIT_D1_RESULT_BYTES,
    SV_LIMIT_D1_IMPORT_BYTES,
    SV_LIMIT_D1_IMPORT_MS,
    SV_LIMIT_D1_HISTORY_MS,     /* how far back time travel goes */
    SV_LIMIT_D1_HISTORY_BYTES,
    /* Vectorize */
    SV_LIMIT_VEC_INDEXES,          /* of an account */
    SV_LIMIT_VEC_NAME_BYTES,       /* of an index */
    SV_LIMIT_VEC_DESCRIPTION_BYTES,
    SV_LIMIT_VEC_DIMENSIONS,
    SV_LIMIT_VEC_VECTORS,          /* of an index */
    SV_LIMIT_VEC_FIELDS,           /* metadata indexes of an index */
    SV_LIMIT_VEC_ID_BYTES,
    SV_LIMIT_VEC_NAMESPACE_BYTES,
    SV_LIMIT_VEC_METADATA_BYTES,   /* of a vector */
    SV_LIMIT_VEC_INDEXED_BYTES,    /* of a text that a filter looks at */
    SV_LIMIT_VEC_BATCH,            /* vectors of one REST call */
    SV_LIMIT_VEC_WORKER_BATCH,     /* vectors of one call of a Worker */
    SV_LIMIT_VEC_UPLOAD_BYTES,     /* body of insert and upsert */
    SV_LIMIT_VEC_TOP_K,
    SV_LIMIT_VEC_TOP_K_FULL,       /* with values or all metadata */
    SV_LIMIT_VEC_FILTER_BYTES,
    SV_LIMIT_VEC_GET_IDS,          /* of one call */
    SV_LIMIT_VEC_DELETE_IDS,
    SV_LIMIT_VEC_LIST,             /* ids of a page */
    SV_LIMIT_VEC_OPEN,             /* indexes held open, of all accounts */
    /* KV, the Cache API, rate limits */
    SV_LIMIT_KV_NAMESPACES,     /* of an account */
    SV_LIMIT_KV_TITLE_BYTES,    /* of a namespace */
    SV_LIMIT_KV_KEY_BYTES,
    SV_LIMIT_KV_VALUE_BYTES,    /* of one key; of a bulk get together */
    SV_LIMIT_KV_METADATA_BYTES, /* of one key, as JSON */
    SV_LIMIT_KV_LIST,           /* keys of a page */
    SV_LIMIT_KV_BULK_GET,       /* keys */
    SV_LIMIT_KV_BULK,           /* pairs or keys of a bulk write or delete */
    SV_LIMIT_KV_BULK_BYTES,     /* body of one */
    /* R2 */
    SV_LIMIT_R2_BUCKETS,        /* of an account */
    SV_LIMIT_R2_KEY_BYTES,
    SV_LIMIT_R2_METADATA_BYTES, /* custom names and values of an object */
    SV_LIMIT_R2_UPLOAD_BYTES,   /* one put, one part */
    SV_LIMIT_R2_OBJECT_BYTES,
    SV_LIMIT_R2_PARTS,          /* of an upload */
    SV_LIMIT_R2_MIN_PART_BYTES, /* but for the last */
    SV_LIMIT_R2_UPLOADS,        /* open, of a bucket */
    SV_LIMIT_R2_UPLOAD_MS,      /* until one that nobody completes goes, where the bucket has no rules of its own */
    SV_LIMIT_R2_LIST,           /* objects of a page */
    SV_LIMIT_R2_DELETE,         /* keys of a call */
    SV_LIMIT_R2_RULES,          /* lifecycle or lock rules of a bucket */
    SV_LIMIT_QUEUES,            /* of an account */
    SV_LIMIT_QUEUE_MESSAGE_BYTES,
    SV_LIMIT_QUEUE_BATCH,       /* messages of a send, of a delivery, of a pull */
    SV_LIMIT_QUEUE_BATCH_BYTES, /* of a send */
    SV_LIMIT_QUEUE_BACKLOG_BYTES,
    SV_LIMIT_QUEUE_RETENTION_MS,
    SV_LIMIT_QUEUE_DELAY_MS,
    SV_LIMIT_QUEUE_RETRIES,
    SV_LIMIT_QUEUE_WAIT_MS,     /* for a batch to fill */
    SV_LIMIT_QUEUE_CONCURRENCY, /* batches of a queue at once */
    SV_LIMIT_QUEUE_VISIBILITY_MS,
    SV_LIMIT_CACHE_BYTES,       /* all cached responses of the node */
    SV_LIMIT_CACHE_ENTRY_BYTES, /* one of them */
    SV_LIMIT_RATE_KEYS,         /* that one account counts in one window */
    /* Analytics Engine */
    SV_LIMIT_AE_INDEX_BYTES,
    SV_LIMIT_AE_BLOB_BYTES,     /* all blobs of a point */
    SV_LIMIT_AE_BATCH,          /* points of one call; the binding sends what a turn of the Worker wrote in such calls */
    SV_LIMIT_AE_POINTS,         /* kept of an account */
    SV_LIMIT_AE_KEEP_MS,
    SV_LIMIT_AE_SQL_BYTES,
    SV_LIMIT_AE_QUERY_MS,
    SV_LIMIT_AE_RESULT_BYTES,
    SV_N_LIMITS,
} sv_limit_id;

/* Those that rooms need as constants too, where they size arrays. The table takes them from here. */
enum {
    SV_KVS_MAX_NAMESPACES = 1000,
    SV_KVS_MAX_TITLE = 512,
    SV_KVS_MAX_KEY = 512,
    SV_KVS_MAX_VALUE = 25 << 20,
    SV_KVS_MAX_METADATA = 1024,
    SV_KVS_MAX_LIST = 1000,
    SV_KVS_MAX_BULK_GET = 100,
    SV_KVS_MAX_BULK = 10000,
    SV_KVS_MAX_BULK_BYTES = 100 << 20,
};

typedef struct sv_limit {
    sv_limit_id id;
    const char *area;   /* "Workers": the table it is printed in */
    const char *name;   /* "Modules of a version, together" */
    int64_t value;
    const char *unit;   /* "bytes", "ms", or "" for counts */
    int http_status;    /* of the refusal; 0: nobody gets an answer (the connection is closed, the oldest entry goes) */
    int api_code;       /* Cloudflare's number in the refusal; 0: none */
    const char *theirs; /* what the hosted service documents, "" where it says nothing */
    const char *over;   /* what happens over it */
} sv_limit;

const sv_limit *sv_limits(size_t *n); /* in the order of the ids */
int64_t sv_limit_value(sv_limit_id id);

/* SV_OK while got <= value. Else fails with the limit's api_code and "<what>: <got> bytes, at most <value>": SV_ELIMIT where the table says
 * 429, SV_EINVAL otherwise (answer it with the table's http_status where that is not 400). */
SV_MUST sv_rc sv_limit_check(sv_limit_id id, int64_t got, const char *what, sv_err *err);
int sv_limit_status(sv_limit_id id);

void sv_limits_markdown(sv_buf *out); /* docs/limits.md, whole */

#endif
