/* tokenizer.h - text to token ids and back
 * Threads: immutable once made; any thread. */
#ifndef SV_MODELS_TOKENIZER_H
#define SV_MODELS_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "nn/gguf.h"

typedef struct sv_tokenizer sv_tokenizer;

/* From a GGUF's tokenizer.ggml.* keys; copies what it needs. SV_EFORMAT names the key, and the model or splitter that is not known. */
SV_MUST sv_rc sv_tokenizer_from_gguf(sv_tokenizer **out, const sv_gguf *g, sv_err *err);
/* From the tokenizer.json of a Hugging Face folder, and its tokenizer_config.json for bos_token and eos_token; config may be empty.
 * SV_EFORMAT names the member, and the kind of normalizer, splitter or model that is not known. */
SV_MUST sv_rc sv_tokenizer_from_json(sv_tokenizer **out, sv_str json, sv_str config, sv_err *err);
sv_tokenizer *sv_tokenizer_free(sv_tokenizer *t);
SV_DEFINE_AUTO(sv_tokenizer, sv_tokenizer_free)

enum {
    SV_TOK_BOS = 1,     /* begin with BOS where the model wants one */
    SV_TOK_SPECIAL = 2, /* control tokens written in the text become their ids (rendered templates); else they are plain text */
    SV_TOK_EOS = 4,     /* end with what the model wants at the end ([SEP] of BERT, </s> of T5) */
};
typedef struct sv_tokens { int32_t *v; size_t n, cap; } sv_tokens; /* owned: free(v) */
/* Appends the ids of text (any bytes; broken UTF-8 goes through byte fallback). At most max_tokens in all, those that out held
 * before among them: over it SV_ELIMIT, often before the text is looked at. On failure out holds what it held. Start with {0}.
 * O(n log n) in the bytes. */
SV_MUST sv_rc sv_tokenizer_encode(const sv_tokenizer *t, sv_str text, int flags, size_t max_tokens, sv_tokens *out, sv_err *err);

/* The bytes of one token as they appear inside a text; control tokens are empty. Borrowed from t. */
sv_str sv_tokenizer_piece(const sv_tokenizer *t, int32_t id);
sv_str sv_tokenizer_text(const sv_tokenizer *t, int32_t id); /* as the vocabulary spells it, control tokens too; "": no such id */
int32_t sv_tokenizer_n_vocab(const sv_tokenizer *t);
int32_t sv_tokenizer_bos(const sv_tokenizer *t); /* -1: none */
int32_t sv_tokenizer_eos(const sv_tokenizer *t);
bool sv_tokenizer_is_eog(const sv_tokenizer *t, int32_t id); /* any id that ends a generation: eos, eot, end of message */
void sv_tokenizer_add_eog(sv_tokenizer *t, int32_t id); /* another such id; one out of range is none. Before t is shared */
bool sv_tokenizer_adds_bos(const sv_tokenizer *t);

/* Streaming decode that never splits a character: feeds one id (any value; one out of range adds nothing), appends the characters
 * that are complete now. What it appends is valid UTF-8: bytes that cannot be part of a character become U+FFFD. Init with {0}: the
 * leading space of the text's first token is then dropped where the tokenizer adds one at encode. A caller whose text continues
 * another one (a prompt) sets `started` and keeps that space. */
typedef struct sv_detok { char pending[8]; uint8_t n_pending; bool started; } sv_detok;
void sv_detok_feed(sv_detok *d, const sv_tokenizer *t, int32_t id, sv_buf *out);
void sv_detok_finish(sv_detok *d, sv_buf *out); /* an incomplete character at the end becomes U+FFFD */

#endif
