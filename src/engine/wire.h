/* wire.h - frames between the daemon and the engine
 *
 * A stream of frames over a unix socket, little-endian, each
 *     0  u32 n_bytes  of the payload     4  u16 type     6  u16 zero     8  u32 id     12  payload
 * The id names a generation (the client's choice, unique while it lives); 0 is the connection itself.
 *
 *     daemon to engine                             engine to daemon
 *     HELLO     u32 magic, u32 version             HELLO     u32 magic, u32 version, u32 pid
 *     GENERATE  u32 n_head, JSON head, raw prompt  STARTED   i32 prompt_tokens, i32 cached_tokens
 *     ENCODE    JSON                               VECTORS   i32 n, dim, tokens, n * dim float32, JSON list of labels
 *     MEDIA     u32 n_head, JSON head, raw bytes   RESULT    i32 prompt, completion tokens, JSON
 *     CANCEL                                       TEXT      i32 n_tokens, UTF-8
 *     STATS                                        PROBS     packed probabilities (sv_token_probs_next)
 *                                                  DONE      i32 finish, prompt, completion, cached tokens
 *                                                  FAIL      i32 rc, i32 api_code, message
 *                                                  STATS     JSON
 *                                                  AGAIN     not taken, the engine is leaving: send it to the next one
 *                                                  GOAWAY    id 0: no new requests on this connection
 * A request of an encoder (ENCODE) ends with VECTORS, FAIL or AGAIN; one about a file of media (MEDIA) with RESULT, FAIL or AGAIN.
 * HELLO comes first on both sides; the daemon need not wait for the answer. A generation ends with DONE, FAIL or AGAIN, exactly one; after
 * CANCEL none may come. Both ends are of one build, so there is one version and no negotiation.
 *
 * Threads: values; none shared. */
#ifndef SV_ENGINE_WIRE_H
#define SV_ENGINE_WIRE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "engine/client.h"

enum {
    SV_WIRE_MAGIC = 0x4e455653, /* "SVEN" */
    SV_WIRE_VERSION = 2,
    SV_WIRE_HEAD = 12,
    SV_WIRE_MAX = 16 << 20,     /* bytes of a payload */
    SV_WIRE_MAX_STOPS = 16,
    SV_WIRE_MAX_STOP = 256,     /* bytes of a stop string */
    SV_WIRE_MAX_TENANT = 64,    /* with its NUL */
};

typedef enum sv_wire_type {
    SV_WIRE_HELLO = 1, SV_WIRE_GENERATE, SV_WIRE_CANCEL, SV_WIRE_STATS,
    SV_WIRE_STARTED, SV_WIRE_TEXT, SV_WIRE_DONE, SV_WIRE_FAIL, SV_WIRE_AGAIN, SV_WIRE_GOAWAY, SV_WIRE_ENCODE, SV_WIRE_VECTORS,
    SV_WIRE_PROBS, SV_WIRE_MEDIA, SV_WIRE_RESULT,
    SV_WIRE_LAST = SV_WIRE_RESULT,
} sv_wire_type;

typedef struct sv_frame {
    sv_wire_type type;
    uint32_t id;
    sv_str payload; /* borrowed from the bytes given */
} sv_frame;

/* The frame at the start of bytes. *used is its size; 0: more bytes are needed (then *out is untouched). SV_EFORMAT: unknown type, a payload over
 * SV_WIRE_MAX or of a size that its type cannot have: the stream is lost. */
SV_MUST sv_rc sv_wire_parse(sv_frame *out, size_t *used, sv_str bytes, sv_err *err);

/* Payloads. Each getter is SV_EFORMAT unless the frame is whole and of that type. */
typedef struct sv_wire_hello { uint32_t version, pid; } sv_wire_hello;
SV_MUST sv_rc sv_wire_get_hello(sv_wire_hello *out, const sv_frame *f, sv_err *err); /* SV_EFORMAT too when it is not our version */
SV_MUST sv_rc sv_wire_get_started(sv_usage *out, const sv_frame *f, sv_err *err);
SV_MUST sv_rc sv_wire_get_text(sv_str *text, int32_t *n_tokens, const sv_frame *f, sv_err *err);
SV_MUST sv_rc sv_wire_get_probs(sv_str *packed, const sv_frame *f, sv_err *err); /* every entry of it is whole */
SV_MUST sv_rc sv_wire_get_done(sv_finish *finish, sv_usage *usage, const sv_frame *f, sv_err *err);
SV_MUST sv_rc sv_wire_get_fail(sv_err *what, const sv_frame *f, sv_err *err);

/* A request as the engine gets it. Everything is borrowed from `json` and the frame but the bias, which is owned like json. */
typedef struct sv_wire_gen {
    json_t *json;           /* owned: sv_wire_gen_done */
    const char *model_path, *tenant;
    const json_t *messages; /* or NULL, then */
    sv_str prompt;
    const json_t *tools;    /* or NULL */
    int32_t max_tokens, n_ctx;
    sv_sampling sampling;
    sv_logit_bias *bias;    /* owned: what sampling.logit_bias points to */
    sv_str stop[SV_WIRE_MAX_STOPS];
    int32_t n_stops;
} sv_wire_gen;
/* SV_EINVAL: a field is missing, of the wrong type or out of range (the stream goes on); SV_EFORMAT: no request at all. */
SV_MUST sv_rc sv_wire_get_gen(sv_wire_gen *out, const sv_frame *f, sv_err *err);
void sv_wire_gen_done(sv_wire_gen *g);
static inline void sv_wire_gen_donep(sv_wire_gen *g) { sv_wire_gen_done(g); }

/* A request of an encoder. Everything is borrowed from json. */
typedef struct sv_wire_encode {
    json_t *json; /* owned: sv_wire_encode_done */
    const char *model_path, *tenant;
    const json_t *texts; /* 1 to SV_ENCODE_MAX_TEXTS strings, or pairs of them as lists of two */
    sv_encode_want want;
    int32_t max_tokens;
    bool cut;
} sv_wire_encode;
SV_MUST sv_rc sv_wire_get_encode(sv_wire_encode *out, const sv_frame *f, sv_err *err); /* as sv_wire_get_gen */
void sv_wire_encode_done(sv_wire_encode *e);
SV_MUST sv_rc sv_wire_get_vectors(sv_vectors *out, const sv_frame *f, sv_err *err); /* borrowed from the frame; v may lie at any address */
SV_MUST sv_rc sv_wire_add_encode(sv_buf *out, uint32_t id, const sv_encode_opts *opts, sv_err *err); /* SV_EINVAL, SV_ELIMIT */
void sv_wire_add_vectors(sv_buf *out, uint32_t id, const sv_vectors *v);

/* A request about a file of media. All but the bytes, which are the frame's, is borrowed from json. */
typedef struct sv_wire_media {
    json_t *json; /* owned: sv_wire_media_done */
    const char *model_path, *tenant;
    const json_t *options; /* an object */
    sv_str bytes;
} sv_wire_media;
SV_MUST sv_rc sv_wire_get_media(sv_wire_media *out, const sv_frame *f, sv_err *err); /* as sv_wire_get_gen */
void sv_wire_media_done(sv_wire_media *m);
SV_MUST sv_rc sv_wire_get_result(sv_str *json, sv_usage *usage, const sv_frame *f, sv_err *err); /* borrowed from the frame */
SV_MUST sv_rc sv_wire_add_media(sv_buf *out, uint32_t id, const sv_media_opts *opts, sv_err *err); /* SV_EINVAL, SV_ELIMIT */
void sv_wire_add_result(sv_buf *out, uint32_t id, sv_str json, const sv_usage *usage);

/* Writers append one frame; a buffer over its cap ends up `failed`, half a frame is never left in it. */
void sv_wire_add(sv_buf *out, sv_wire_type type, uint32_t id, sv_str payload);
void sv_wire_add_hello(sv_buf *out, uint32_t pid);
/* SV_EINVAL: not exactly one of messages and prompt, a stop string empty or too long, too many; SV_ELIMIT: over SV_WIRE_MAX. */
SV_MUST sv_rc sv_wire_add_gen(sv_buf *out, uint32_t id, const sv_gen_opts *opts, sv_err *err);
void sv_wire_add_started(sv_buf *out, uint32_t id, const sv_usage *usage);
void sv_wire_add_text(sv_buf *out, uint32_t id, sv_str text, int32_t n_tokens);
void sv_wire_pack_probs(sv_buf *out, const sv_token_probs *p); /* appends an entry to a packed list */
void sv_wire_add_done(sv_buf *out, uint32_t id, sv_finish finish, const sv_usage *usage);
void sv_wire_add_fail(sv_buf *out, uint32_t id, const sv_err *what);

#endif
