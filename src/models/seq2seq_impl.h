/* seq2seq_impl.h - between seq2seq_open.c (files), seq2seq.c (the arithmetic) and seq2seq_beam.c (the search) */
#ifndef SV_MODELS_SEQ2SEQ_IMPL_H
#define SV_MODELS_SEQ2SEQ_IMPL_H

#include "models/held.h"
#include "models/seq2seq.h"
#include "nn/kernels.h"
#include "nn/safetensors.h"

enum { S2S_MAX_BEAMS = 8 };

typedef struct s2s_norm { const float *w, *b; } s2s_norm; /* w NULL: there is none */
typedef struct s2s_dense { const sv_tensor *w; const float *b; } s2s_dense;
typedef struct s2s_attn { s2s_dense q, k, v, o; s2s_norm norm; } s2s_attn;
typedef struct s2s_layer { s2s_attn self, cross; s2s_dense up, down; s2s_norm ffn_norm; } s2s_layer; /* the encoder's have no cross */
typedef enum s2s_act { S2S_GELU, S2S_RELU } s2s_act;

typedef struct s2s_side { /* encoder or decoder */
    int32_t n_layer, n_head, n_ff;
    const sv_tensor *positions;        /* NULL: waves */
    s2s_norm embd_norm, last_norm;
    s2s_layer *layers;
} s2s_side;

typedef struct s2s_settings { /* of the search */
    int32_t n_beams, min_length, max_length, no_repeat; /* lengths with the first mark */
    int32_t forced_bos, forced_eos, bad; /* -1: none */
    double length_penalty;
    bool early;
} s2s_settings;

struct sv_seq2seq {
    sv_seq2seq_info info;
    sv_safetensors *files;
    sv_tokenizer *tokenizer;
    bool pre_norm;         /* M2M100: norms in front of each part; BART: behind */
    float embd_scale;
    s2s_act act;
    int32_t pad, eos, start;
    s2s_settings settings;
    sv_tokens prefix, suffix;
    const sv_tensor *token_embd, *output;
    const float *output_bias; /* [n_vocab] */
    s2s_side in, out;
    sv_held held;
};

typedef struct s2s_page { int32_t n_refs; float *p; } s2s_page;
typedef struct s2s_beam { s2s_page **pages; int32_t *tokens; double score; } s2s_beam; /* of the decoder; tokens [max_length] */

struct sv_seq2seq_run {
    const sv_seq2seq *m;
    s2s_settings set;
    sv_tokens source;
    int32_t i_layer;       /* the encoder's next; n_layer_in: it is done */
    /* rows of the encoder, or of beams */
    void *memory;
    float *x, *h, *q, *k, *v, *att, *up, *pages, *cross, *logits;
    size_t page_floats;    /* of one layer */
    int32_t max_rows, n_source_pages, n_text_pages;
    void **page_list;
    sv_attn_chunk *chunks;
    float *text_memory;    /* [n_pages] pages of all layers, for beams */
    s2s_page *text_pages;  /* [n_pages] */
    int32_t n_pages;
    /* the search */
    s2s_beam beams[S2S_MAX_BEAMS], best[S2S_MAX_BEAMS];
    bool finished[S2S_MAX_BEAMS];
    bool hopeful, over;
    int32_t n;             /* tokens of each beam */
    int32_t *written;      /* [n_written], at the end */
    int32_t n_written;
};

/* seq2seq.c */
SV_MUST sv_rc s2s_run_new(sv_seq2seq_run **out, const sv_seq2seq *m, const s2s_settings *set, sv_tokens *source, sv_err *err); /* takes source over */
void s2s_encode_begin(sv_seq2seq_run *r, sv_pool *pool);
void s2s_encode_layer(sv_seq2seq_run *r, sv_pool *pool, int32_t i);
void s2s_encode_end(sv_seq2seq_run *r, sv_pool *pool);
/* The token at position `pos` of each beam through the decoder; logits [n][n_vocab] in r->logits. */
void s2s_decode(sv_seq2seq_run *r, sv_pool *pool, s2s_beam *beams, int32_t n, int32_t pos);
/* seq2seq_beam.c */
void s2s_search_begin(sv_seq2seq_run *r);
bool s2s_search_step(sv_seq2seq_run *r, sv_pool *pool); /* false: it is over */

#endif
