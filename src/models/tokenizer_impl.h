/* tokenizer_impl.h - what the files of the tokenizer share and nobody else sees
 *
 * tokenizer.c loads a vocabulary, cuts special tokens out of a text and hands the stretches between them to one of the
 * encoders below; each appends ids to a sink. tokenizer_merge.c is the engine of the two families that merge pairs. */
#ifndef SV_MODELS_TOKENIZER_IMPL_H
#define SV_MODELS_TOKENIZER_IMPL_H

#include "models/tokenizer.h"

/* tokenizer.ggml.token_type */
enum { TOK_NORMAL = 1, TOK_UNKNOWN = 2, TOK_CONTROL = 3, TOK_USER = 4, TOK_UNUSED = 5, TOK_BYTE = 6 };

/* tokenizer.ggml.model */
typedef enum tok_kind {
    KIND_SPM, /* "llama": SentencePiece BPE, the best score merges first */
} tok_kind;

struct sv_tokenizer {
    tok_kind kind;
    int32_t n_vocab;
    sv_str *text;     /* [n_vocab] as the file spells them */
    sv_str *piece;    /* [n_vocab] as they appear inside a text */
    uint8_t *type;    /* [n_vocab] TOK_* */
    float *score;     /* [n_vocab]; zeros when the file has none */
    uint64_t *eog;    /* [n_vocab] bits */
    char *bytes;      /* what text and piece point into */
    size_t max_text;  /* bytes of the longest text */
    size_t max_piece; /* bytes of the longest text or piece: a text of n bytes has at least n / max_piece tokens */

    uint32_t *slots; /* text -> id + 1; 0 is empty; open addressing, a power of two, at most half full */
    uint32_t slot_mask;

    int32_t *special;   /* control, unknown and user-defined ids with a text, in byte order of their texts */
    int32_t n_special;
    bool special_first[256]; /* some special token begins with this byte */

    int32_t bos, eos, unk; /* -1: none */
    int32_t byte_id[256];  /* byte fallback; -1: none */
    bool add_bos, add_space_prefix;
};

/* Where ids go. A failure sets err once; the caller then gives up. */
typedef struct tok_sink {
    sv_tokens *out;
    size_t max;
    sv_err *err;
} tok_sink;
SV_MUST sv_rc sv_tok_push(tok_sink *sink, int32_t id);
/* Bytes that have no token of their own: byte tokens, or the unknown token once where there are none. */
SV_MUST sv_rc sv_tok_push_bytes(const sv_tokenizer *t, const char *p, size_t n, tok_sink *sink);

int32_t sv_tok_find(const sv_tokenizer *t, const char *p, size_t n); /* -1: no such text */
/* Bytes of the character at p[0..n), n > 0: 1 to 4. A broken byte is a character of its own, *cp is then SV_TOK_BROKEN. */
#define SV_TOK_BROKEN UINT32_MAX
size_t sv_tok_char(const char *p, size_t n, uint32_t *cp);

/* The merge engine: a text as a chain of symbols, neighbours joined best first. */
typedef struct tok_sym {
    uint32_t start, len; /* bytes; len 0: swallowed by the symbol before it */
    int32_t prev, next;  /* -1: none */
    int32_t id;          /* -1: no token has this text */
} tok_sym;
/* The id and priority (highest first) of a and b joined; false: they do not join. */
typedef bool tok_join_fn(const sv_tokenizer *t, const char *text, const tok_sym *a, const tok_sym *b, int32_t *id, float *priority);
/* Joins until nothing joins. syms[0..n) are the characters of text in order; afterwards the chain from syms[0] is the answer. */
SV_MUST sv_rc sv_tok_merge(const sv_tokenizer *t, const char *text, tok_sym *syms, size_t n, tok_join_fn *join, sv_err *err);

/* The encoders: one stretch of plain text, never empty. at_start: nothing or a special token is before it. */
SV_MUST sv_rc sv_tok_encode_spm(const sv_tokenizer *t, sv_str text, bool at_start, tok_sink *sink);

#endif
