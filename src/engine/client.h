/* client.h - the daemon's side of the engine: requests out, tokens in, over one socket
 *
 * The engine process listens on a unix socket that the supervisor owns. A client connects when first used and again after the
 * engine died; a request that had not yet produced a token is sent again once, others end with SV_EIO ("engine restarted").
 * Threads: the loop's; callbacks come on it, never from inside a call. A callback may cancel any generation and start others; it must not free the
 * client. */
#ifndef SV_ENGINE_CLIENT_H
#define SV_ENGINE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/loop.h"

typedef struct sv_engine_client sv_engine_client;
typedef struct sv_gen sv_gen; /* one generation in flight */

sv_engine_client *sv_engine_client_new(sv_loop *loop, const char *socket_path);
/* How long a connection waits for the engine's first word, which a busy engine gives at once and one that is being started after some seconds:
 * 30 s, longer than a drain. After it the requests sent there end with SV_EIO. For tests. */
void sv_engine_client_set_patience(sv_engine_client *c, int64_t hello_ms);
sv_engine_client *sv_engine_client_free(sv_engine_client *c); /* cancels all, no callbacks */

typedef enum sv_finish { SV_FINISH_STOP, SV_FINISH_LENGTH } sv_finish;
/* completion_tokens: those chosen, the ones of a stop string too, without the token that ended the text. */
typedef struct sv_usage { int32_t prompt_tokens, completion_tokens, cached_tokens; } sv_usage;

typedef struct sv_logit_bias { int32_t token; float bias; } sv_logit_bias;

enum { SV_MAX_TOP_LOGPROBS = 20, SV_MAX_LOGIT_BIAS = 1024 };

typedef struct sv_sampling { /* all zeros: greedy. What each does: engine/sampler.h */
    float temperature;       /* 0: greedy */
    float top_p;             /* 0 or >= 1: off */
    int32_t top_k;           /* 0: off */
    float min_p;             /* 0: off */
    float typical_p;         /* 0 or >= 1: off */
    float repetition_penalty; /* 0 or 1: off */
    float frequency_penalty, presence_penalty;
    bool has_seed;
    uint64_t seed;
    const sv_logit_bias *logit_bias; /* [n_logit_bias], at most SV_MAX_LOGIT_BIAS; -100 to 100 each */
    int32_t n_logit_bias;
    bool logprobs;           /* on_probs is wanted */
    int32_t top_logprobs;    /* with it: so many alternatives, at most SV_MAX_TOP_LOGPROBS */
} sv_sampling;

/* One chosen token: the natural logarithm of its probability in the model's own distribution (before bias, penalties, temperature and filters), and
 * of the most probable ones, in order. bytes are the token's inside a text: not always whole characters; empty for control tokens. */
typedef struct sv_token_prob { int32_t token; float logprob; sv_str bytes; } sv_token_prob;
typedef struct sv_token_probs { sv_token_prob chosen, top[SV_MAX_TOP_LOGPROBS]; int32_t n_top; } sv_token_probs;
/* Takes the first off a packed list; false: it is empty (or broken: nothing that a callback gets is). Bytes are borrowed from the list. */
bool sv_token_probs_next(sv_token_probs *out, sv_str *packed);

typedef struct sv_gen_opts {
    const char *model_path;  /* the GGUF to use; loaded on first use */
    const char *tenant;      /* account id: turns go round among accounts, and only within one are beginnings of prompts kept and found */
    /* exactly one of the two */
    const json_t *messages;  /* [{role, content}], rendered by the model's chat template; plain fallback where it has none */
    sv_str prompt;           /* raw text, no template; control tokens written in it count as such; BOS is added where the
                              * model wants one and it is not there yet. p is not NULL, n may be 0 */
    const json_t *tools;     /* handed to the template, or NULL */
    int32_t max_tokens;
    int32_t n_ctx;           /* context window of the catalogue entry; 0: the model's own */
    sv_sampling sampling;
    const char *const *stop; /* stop strings, NULL-terminated, or NULL; not part of the output */
    /* Started: the prompt is in, prompt_tokens is known. Text: whole characters, any number of times;
     * n_tokens: chosen since the text before. Probs: of the tokens that made the text which comes next, or of the last ones, that made none;
     * tokens of a stop string have none where all their text was cut off. Done: exactly once, last;
     * rc SV_OK with finish and usage, else err: SV_ELIMIT with both token counts when prompt + max_tokens is over the window (api_code 5021), or
     * when the queue or the room for models is full (3040); SV_EINVAL for messages that are none or that the template refuses; SV_EIO when the
     * engine died; SV_EFORMAT, SV_ENOENT, SV_ENOMEM when the model does not load. */
    void (*on_start)(sv_gen *g, const sv_usage *usage, void *arg);
    void (*on_text)(sv_gen *g, sv_str text, int32_t n_tokens, void *arg);
    void (*on_probs)(sv_gen *g, sv_str packed, void *arg); /* where sampling.logprobs is set; or NULL */
    void (*on_done)(sv_gen *g, sv_rc rc, sv_finish finish, const sv_usage *usage, const sv_err *err, void *arg);
    void *arg;
} sv_gen_opts;

/* Everything is copied. SV_ELIMIT when too many requests wait in this client (api_code 3040) or one is over 16 MiB; SV_EINVAL for what no engine
 * could do. */
SV_MUST sv_rc sv_engine_generate(sv_gen **out, sv_engine_client *c, const sv_gen_opts *opts, sv_err *err);
void sv_gen_cancel(sv_gen *g); /* no callback after it; the engine stops within one step. g is dead */

/* Text encoders (models/encoder.h): texts in, one vector or one row of class logits a text out. */
enum { SV_ENCODE_MAX_TEXTS = 1000 };
typedef enum sv_encode_want { SV_ENCODE_MEAN, SV_ENCODE_CLS, SV_ENCODE_LOGITS } sv_encode_want;
typedef struct sv_vectors {
    int32_t n, dim, n_tokens; /* n_tokens: read, special ones too */
    const void *v;            /* float32 [n][dim], at any address */
    sv_str labels;            /* of the classes: a JSON list of strings; "[]" of a model without */
} sv_vectors;
typedef struct sv_encode_opts {
    const char *model_path, *tenant;
    const json_t *texts;  /* a list of strings, or of pairs [a, b] */
    sv_encode_want want;  /* vectors have length 1 */
    int32_t max_tokens;   /* of a text or pair; 0: what the model reads */
    bool cut;             /* longer ones are cut; else SV_ELIMIT, api_code 5021 */
    /* Exactly once, last: v is set where rc is SV_OK, and borrowed until the end of the call; else err, as of generations. */
    void (*on_done)(sv_gen *g, sv_rc rc, const sv_vectors *v, const sv_err *err, void *arg);
    void *arg;
} sv_encode_opts;
/* As sv_engine_generate; sv_gen_cancel takes it back. */
SV_MUST sv_rc sv_engine_encode(sv_gen **out, sv_engine_client *c, const sv_encode_opts *opts, sv_err *err);

/* Models for media (engine/media.h): a file in, JSON out. What is in options and in the answer is the kind's: engine/speech.h. */
typedef struct sv_media_opts {
    const char *model_path, *tenant;
    const json_t *options; /* an object */
    sv_str bytes;          /* the file */
    /* Exactly once, last: json and usage are set where rc is SV_OK, and borrowed until the end of the call; else err, as of generations. */
    void (*on_done)(sv_gen *g, sv_rc rc, sv_str json, const sv_usage *usage, const sv_err *err, void *arg);
    void *arg;
} sv_media_opts;
/* As sv_engine_generate; sv_gen_cancel takes it back. */
SV_MUST sv_rc sv_engine_media(sv_gen **out, sv_engine_client *c, const sv_media_opts *opts, sv_err *err);

/* Counters of the engine process, as JSON: {"pid","threads","connections","draining","models":[{"path","state","n_active","n_queued","n_jobs",
 * "kv_pages_used","kv_pages_cached","kv_pages","cached_tokens","preempted","tokens","steps","rows"}],"queue","tokens","steps","cancelled","encoders":[{"path",
 * "state","n_jobs","texts","tokens","batches"}]};
 * state is loading, ready, stopping or failed (then with "error"). done_fn once. */
void sv_engine_stats(sv_engine_client *c, void (*done_fn)(const json_t *stats_or_null, void *arg), void *arg);

#endif
