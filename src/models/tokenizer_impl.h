/* tokenizer_impl.h - what the files of the tokenizer share and nobody else sees
 *
 * A tokenizer of any family is: a vocabulary; steps that rewrite a text (the normalizer); steps that cut it, and sometimes rewrite
 * the cuts (the splitter); a model that turns one cut into ids; and around them the added tokens, found in the text beforehand.
 *
 *     tokenizer.c            added tokens, the way of a text through all of it, and back to text
 *     tokenizer_vocab.c      the vocabulary: built by a loader, closed once, looked up
 *     tokenizer_gguf.c       loader: tokenizer.ggml.* keys; tokenizer_pre.c knows their splitters by name
 *     tokenizer_json.c       loader: tokenizer.json; tokenizer_json_steps.c its normalizer, splitter and decoder
 *     tokenizer_steps.c      normalizer and splitter; tokenizer_charsmap.c one of its steps
 *     tokenizer_bpe.c        model: merges by rank       } both on tokenizer_merge.c
 *     tokenizer_spm.c        model: merges by score      }
 *     tokenizer_unigram.c    model: most probable cut    } both on tokenizer_trie.c
 *     tokenizer_wordpiece.c  model: longest piece first  } */
#ifndef SV_MODELS_TOKENIZER_IMPL_H
#define SV_MODELS_TOKENIZER_IMPL_H

#include "base/json.h"
#include "models/pattern.h"
#include "models/tokenizer.h"
#include "models/unicode.h"

/* tokenizer.ggml.token_type */
enum { TOK_NORMAL = 1, TOK_UNKNOWN = 2, TOK_CONTROL = 3, TOK_USER = 4, TOK_UNUSED = 5, TOK_BYTE = 6 };

typedef enum tok_kind {
    KIND_SPM,       /* SentencePiece BPE: the best score merges first */
    KIND_BPE,       /* the merge of the lowest rank first; on bytes or on characters */
    KIND_UNIGRAM,   /* SentencePiece unigram: the cut with the best sum of scores */
    KIND_WORDPIECE, /* BERT: the longest piece that fits, from the left */
} tok_kind;

/* ---- steps ---- */

typedef enum tok_op {
    /* text to text */
    STEP_NORMALIZE,    /* a Unicode form */
    STEP_LOWER,
    STEP_TRIM,         /* white space at the ends */
    STEP_PREPEND,      /* text in front, unless the piece is empty (or begins with it, or is not the first) */
    STEP_REPLACE,      /* each text, or match of the pattern, by another */
    STEP_CLEAN,        /* BERT: drops control characters, white space becomes a space */
    STEP_SPACE_CJK,    /* BERT: spaces around ideographs */
    STEP_CHARSMAP,     /* SentencePiece: a table of replacements, longest first */
    STEP_TO_BYTE_CHARS, STEP_FROM_BYTE_CHARS, /* GPT-2's printable spelling of bytes */
    /* piece to pieces */
    STEP_SPLIT,
} tok_op;

typedef enum tok_keep { KEEP_APART, KEEP_NOT, KEEP_WITH_PREVIOUS, KEEP_WITH_NEXT, KEEP_TOGETHER } tok_keep; /* what becomes of a match */

typedef struct tok_charsmap tok_charsmap;
typedef struct tok_step {
    tok_op op;
    sv_uni_form form;
    sv_pattern *pattern;         /* owned; REPLACE, SPLIT; NULL: text */
    char *text, *with;           /* owned */
    size_t n_text, n_with;
    tok_charsmap *map;           /* owned */
    tok_keep keep;
    bool invert;                 /* SPLIT: the gaps are the matches */
    bool left, right;            /* TRIM */
    bool unless_there, only_first; /* PREPEND */
} tok_step;

typedef struct tok_steps { tok_step *v; size_t n; } tok_steps; /* at most SV_TOK_MAX_STEPS */
enum { SV_TOK_MAX_STEPS = 64 };

/* ---- tables ---- */

/* Strings to ids, walked byte by byte. */
typedef struct tok_trie {
    uint64_t *edge;  /* open addressing: (node << 8 | byte) + 1; 0 is empty */
    uint32_t *child; /* beside it */
    int32_t *id;     /* [n_nodes]; -1: no string ends here */
    uint32_t mask, n_nodes, cap_nodes, n_edges;
} tok_trie;
SV_MUST sv_rc sv_tok_trie_add(tok_trie *t, const char *p, size_t n, int32_t id, sv_err *err); /* of equal strings the first stays */
void sv_tok_trie_done(tok_trie *t);
uint32_t sv_tok_trie_next(const tok_trie *t, uint32_t node, uint8_t byte); /* 0: none; the root is 0 */

typedef struct tok_merge { uint64_t pair; int32_t id; uint32_t rank; } tok_merge; /* pair: left << 32 | right; id < 0: empty */

/* Added tokens, sorted by the text that is looked for. */
typedef struct tok_added {
    int32_t id;
    sv_str text;                      /* what is looked for; in t->bytes or t->added_bytes */
    bool special;                     /* counts only under SV_TOK_SPECIAL */
    bool normalized;                  /* looked for behind the normalizer */
    bool left, right, word;           /* swallows white space there; only as a word of its own */
} tok_added;
typedef struct tok_added_list { tok_added *v; size_t n; bool first[256]; } tok_added_list;

struct sv_tokenizer {
    tok_kind kind;
    int32_t n_vocab;
    sv_str *text;     /* [n_vocab] as the file spells them; empty: no such token */
    sv_str *piece;    /* [n_vocab] as they appear inside a text */
    uint8_t *type;    /* [n_vocab] TOK_* */
    float *score;     /* [n_vocab]; zeros when the file has none */
    uint64_t *eog;    /* [n_vocab] bits */
    char *bytes;      /* what text and piece point into */
    size_t n_bytes, cap_bytes;
    size_t max_text;  /* bytes of the longest text */
    size_t max_piece; /* bytes of the longest text or piece; 0: a token may stand for any number of bytes */

    uint32_t *slots; /* text -> id + 1; 0 is empty; open addressing, a power of two, at most half full */
    uint32_t slot_mask;

    tok_added_list raw, normalized; /* added tokens, by where they are looked for */
    char *added_bytes;
    tok_steps normalizer, splitter;

    tok_merge *merges; /* BPE; [merge_mask + 1] */
    uint32_t merge_mask;
    tok_trie trie;     /* UNIGRAM, WORDPIECE */
    float unk_score;   /* UNIGRAM */

    int32_t bos, eos, unk; /* -1: none */
    int32_t byte_id[256];  /* the token of a byte; -1: none */
    int32_t prefix[4], suffix[4];
    uint8_t n_prefix, n_suffix; /* what SV_TOK_BOS and SV_TOK_EOS add */
    bool byte_level;       /* BPE on bytes, texts in GPT-2's spelling */
    bool ignore_merges;    /* BPE: a piece that is a token is that token */
    bool fuse_unk;         /* unknown characters side by side are one token */
    bool drops_first_space; /* decode: the space of the very first piece was added by encode */
    char *word_end;        /* BPE: the last symbol of a piece carries this ("</w>"); NULL: none. Owned */
    uint32_t max_word;     /* WORDPIECE: characters of a longer word are not looked at */
    bool first_verbatim;   /* WORDPIECE: the first token of a decoded text is spelled out */
};

/* ---- vocabulary (tokenizer_vocab.c) ---- */

enum { SV_TOK_MAX_VOCAB = 1 << 22 };
SV_MUST sv_rc sv_tok_vocab_init(sv_tokenizer *t, size_t n_vocab, size_t n_bytes, sv_err *err); /* n_bytes: of all texts */
void sv_tok_vocab_set(sv_tokenizer *t, int32_t id, sv_str text, int type, float score);         /* each id at most once */
SV_MUST sv_rc sv_tok_vocab_index(sv_tokenizer *t, sv_err *err);  /* once all are set; sv_tok_find works from here on */
void sv_tok_vocab_bytes(sv_tokenizer *t);                        /* byte_id, once kind and byte_level are known */
void sv_tok_vocab_piece(sv_tokenizer *t, int32_t id, sv_str piece);   /* no longer than 2 * text + 4 */
void sv_tok_vocab_pieces(sv_tokenizer *t);                       /* the pieces of all families but WORDPIECE; then max_piece */
void sv_tok_mark_eog(sv_tokenizer *t, int32_t id);
void sv_tok_mark_turn_ends(sv_tokenizer *t);
/* Sorts the list; ids and flags are set, text where the token is normalized. */
SV_MUST sv_rc sv_tok_added_close(sv_tokenizer *t, tok_added *all, size_t n, sv_err *err);

int32_t sv_tok_find(const sv_tokenizer *t, const char *p, size_t n); /* -1: no such text */
/* GPT-2's spelling: a byte as a printable character, U+0021 to U+0143. */
uint32_t sv_tok_byte_char(uint8_t byte);
int sv_tok_char_byte(uint32_t c); /* -1: no byte is spelled so */
int sv_tok_byte_of(sv_str text);  /* "<0x0A>"; -1: not of this form */

/* ---- encode ---- */

typedef struct tok_sym {
    uint32_t start, len; /* bytes; len 0: swallowed by the symbol before it */
    int32_t prev, next;  /* -1: none */
    int32_t id;          /* -1: no token has this text */
} tok_sym;
typedef struct tok_cand { float priority; int32_t left; uint32_t len; int32_t id; } tok_cand;
typedef struct tok_span { size_t at, n; bool first; } tok_span;
typedef struct tok_best { float score; int32_t id; uint32_t from; } tok_best;

/* Memory that one call of encode uses again and again. */
typedef struct tok_work {
    tok_sym *syms;
    size_t cap_syms;
    tok_cand *heap;
    size_t n_heap, cap_heap;
    tok_span *spans[2];
    size_t cap_spans[2], n_spans;
    sv_buf text[3]; /* two to rewrite to and fro, one for the normalized text */
    sv_buf word;
    tok_best *best;
    size_t cap_best;
} tok_work;

/* Where ids go. A failure sets err once; the caller then gives up. */
typedef struct tok_sink {
    sv_tokens *out;
    size_t max;
    tok_work *work;
    sv_err *err;
} tok_sink;
SV_MUST sv_rc sv_tok_push(tok_sink *sink, int32_t id);
/* Grows *v (elements of `size` bytes) to n at least. */
SV_MUST sv_rc sv_tok_reserve(void **v, size_t *cap, size_t n, size_t size, sv_err *err);
/* Bytes that have no token of their own: byte tokens, or the unknown token once where there are none. */
SV_MUST sv_rc sv_tok_push_bytes(const sv_tokenizer *t, const char *p, size_t n, tok_sink *sink);

/* The id and priority (highest first) of a and b joined; false: they do not join. */
typedef bool tok_join_fn(const sv_tokenizer *t, const char *text, const tok_sym *a, const tok_sym *b, int32_t *id, float *priority);
/* Joins until nothing joins. work->syms[0..n) are the characters of text in order; afterwards the chain from the first is the answer. */
SV_MUST sv_rc sv_tok_merge(const sv_tokenizer *t, const char *text, size_t n, tok_join_fn *join, tok_work *work, sv_err *err);

/* The models: one piece of text, never empty. */
SV_MUST sv_rc sv_tok_encode_spm(const sv_tokenizer *t, sv_str text, tok_sink *sink);
SV_MUST sv_rc sv_tok_encode_bpe(const sv_tokenizer *t, sv_str text, tok_sink *sink);
SV_MUST sv_rc sv_tok_encode_unigram(const sv_tokenizer *t, sv_str text, tok_sink *sink);
SV_MUST sv_rc sv_tok_encode_wordpiece(const sv_tokenizer *t, sv_str text, tok_sink *sink);

/* Tables that a model needs, once the vocabulary is indexed. merges_add: two texts, in the order of their ranks; a pair with no tokens
 * is left out, as every implementation leaves it. */
SV_MUST sv_rc sv_tok_merges_init(sv_tokenizer *t, size_t n, sv_err *err);
void sv_tok_merges_add(sv_tokenizer *t, sv_str left, sv_str right, uint32_t rank);
SV_MUST sv_rc sv_tok_trie_build(sv_tokenizer *t, sv_err *err);

/* ---- steps (tokenizer_steps.c) ---- */

SV_MUST sv_rc sv_tok_step_add(tok_steps *s, tok_step step, sv_err *err); /* takes what step owns in any case */
SV_MUST sv_rc sv_tok_step_split(tok_steps *s, const char *pattern, tok_keep keep, bool invert, sv_err *err);
SV_MUST sv_rc sv_tok_step_replace(tok_steps *s, sv_str text, sv_str with, sv_err *err);
SV_MUST sv_rc sv_tok_step_prepend(tok_steps *s, sv_str text, bool unless_there, bool only_first, sv_err *err);
SV_MUST sv_rc sv_tok_steps_bert(sv_tokenizer *t, bool clean, bool cjk, bool strip, bool lower, sv_err *err); /* BertNormalizer */
SV_MUST sv_rc sv_tok_steps_bert_split(sv_tokenizer *t, sv_err *err);                                         /* BertPreTokenizer */
void sv_tok_steps_done(tok_steps *s);
/* The text behind the normalizer: text itself, or in work->text[2]. */
SV_MUST sv_rc sv_tok_normalize(const sv_tokenizer *t, sv_str text, tok_work *work, sv_str *out, sv_err *err);
/* Cuts text: work->spans[0][0..n_spans) of *out, which is text or in work. at_start: nothing is before it. */
SV_MUST sv_rc sv_tok_split(const sv_tokenizer *t, sv_str text, bool at_start, tok_work *work, sv_str *out, sv_err *err);
/* The splitter of tokenizer.ggml.pre; SV_EFORMAT names one that is not known. Sets ignore_merges and add_bos where the name implies it. */
SV_MUST sv_rc sv_tok_pre(sv_tokenizer *t, sv_str name, bool *add_bos, sv_err *err);

/* From the members of a tokenizer.json (tokenizer_json_steps.c). Null and absent ones are empty. */
SV_MUST sv_rc sv_tok_json_steps(sv_tokenizer *t, const json_t *json, sv_err *err);

SV_MUST sv_rc sv_tok_charsmap_new(tok_charsmap **out, const void *p, size_t n, sv_err *err); /* copies */
tok_charsmap *sv_tok_charsmap_free(tok_charsmap *m);
/* The replacement for what text begins with: true, its bytes in *to, and how many bytes it replaces in *n. */
bool sv_tok_charsmap_find(const tok_charsmap *m, sv_str text, size_t *n, sv_str *to);

#endif
