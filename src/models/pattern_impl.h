/* pattern_impl.h - between pattern.c (the automaton) and pattern_parse.c (the language), and nobody else */
#ifndef SV_MODELS_PATTERN_IMPL_H
#define SV_MODELS_PATTERN_IMPL_H

#include "models/pattern.h"

/* A set of code points: ranges, sorted and apart once closed. */
typedef struct pat_set {
    uint32_t (*r)[2]; /* first and last */
    size_t n, cap;
} pat_set;

typedef enum pat_op { OP_SET, OP_LOOK, OP_SPLIT, OP_JUMP, OP_MATCH } pat_op;

/* Jumps are relative, so that code can be moved and copied. */
typedef struct pat_inst {
    pat_op op;
    int32_t a, b;   /* SPLIT: preferred and other; JUMP: a; SET and LOOK: a is the set */
    bool negate;    /* LOOK: the next character must not be in the set */
    bool end;       /* LOOK: the end of the text will do */
} pat_inst;

enum { PAT_MAX_CODE = 2048, PAT_MAX_SETS = 64 };

typedef struct pat_program {
    pat_inst code[PAT_MAX_CODE];
    int32_t n_code;
    pat_set sets[PAT_MAX_SETS];
    int32_t n_sets;
} pat_program;

SV_MUST sv_rc sv_pat_parse(pat_program *out, sv_str source, sv_err *err);
void sv_pat_program_done(pat_program *p);

#endif
