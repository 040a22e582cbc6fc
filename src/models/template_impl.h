/* template_impl.h - what the files of the template interpreter share and nobody else sees
 *
 *   template.c          compile and render
 *   template_lex.c      source to tokens, white-space control
 *   template_parse.c    tokens to a tree of tnode
 *   template_eval.c     walks the tree: statements, operators, calls, scopes
 *   template_value.c    what values are: truth, order, text, JSON, attributes, items
 *   template_lib.c      filters, tests, globals, methods of lists and dicts
 *   template_str.c      methods of strings, formatting
 *
 * Values are Python's, since templates are written for it: the words of errors too. All of a compiled template lies in its arena;
 * all that a render makes lies in the render's. */
#ifndef SV_MODELS_TEMPLATE_IMPL_H
#define SV_MODELS_TEMPLATE_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "models/template.h"

/* ---- values ---- */

typedef enum tkind {
    T_UNDEF, /* s: the name, why: tundef, owner: kind of what lacks it */
    T_NONE,
    T_BOOL,
    T_INT,
    T_FLOAT,
    T_STR,
    T_SEQ,    /* why: tseq_kind */
    T_DICT,
    T_NS,     /* namespace(): a dict whose attributes a template may set */
    T_MACRO,
    T_FUNC,   /* a global function */
    T_METHOD, /* a function with the value it belongs to */
    T_LOOP,
} tkind;

typedef enum tundef { UNDEF_NAME, UNDEF_ATTR, UNDEF_ITEM, UNDEF_UNSAFE, UNDEF_EMPTY } tundef;
typedef enum tseq_kind { SEQ_LIST, SEQ_TUPLE, SEQ_RANGE, SEQ_GEN, SEQ_ITEMS, SEQ_KEYS, SEQ_VALUES } tseq_kind;
/* No items by number from SEQ_GEN on. */

typedef struct tval tval;
typedef struct tseq { tval *v; size_t n, cap; } tseq;
typedef struct tdict { tval *k, *v; size_t n, cap; } tdict; /* in order of insertion */
typedef struct trun trun;
typedef struct tnode tnode;
typedef struct tscope tscope;

/* The arguments of a call, evaluated. */
typedef struct targv {
    tval *pos;
    size_t n_pos;
    const sv_str *kw_name;
    tval *kw;
    size_t n_kw;
} targv;

typedef tval tfunc(trun *r, const tval *self, const targv *a);
typedef struct tbuiltin { const char *name; tfunc *fn; } tbuiltin;

typedef struct tmethod tmethod;
typedef struct tmacro { const tnode *node; tscope *scope; } tmacro; /* scope: where it was defined */
typedef struct tloop {
    const tseq *seq;
    size_t i;
} tloop;

struct tval {
    uint8_t kind, why, owner;
    union {
        bool b;
        int64_t i;
        double f;
        sv_str s;
        tseq *seq;
        tdict *dict;
        const tbuiltin *func;
        tmethod *method;
        tmacro *macro;
        tloop *loop;
    };
};
struct tmethod { const tbuiltin *func; tval self; };

#define TV_NONE       ((tval){.kind = T_NONE})
#define TV_BOOL(x)    ((tval){.kind = T_BOOL, .b = (x)})
#define TV_INT(x)     ((tval){.kind = T_INT, .i = (x)})
#define TV_FLOAT(x)   ((tval){.kind = T_FLOAT, .f = (x)})
#define TV_STR(x)     ((tval){.kind = T_STR, .s = (x)})
#define TV_UNDEF(w, name) ((tval){.kind = T_UNDEF, .why = (w), .s = (name)})

/* ---- the tree ---- */

typedef enum nkind {
    /* expressions */
    N_CONST,  /* val */
    N_NAME,   /* sym */
    N_LIST, N_TUPLE, /* kids */
    N_DICT,   /* kids: key, value, key, ... */
    N_ATTR,   /* a.s */
    N_ITEM,   /* a[b] */
    N_SLICE,  /* a[kids[0]:kids[1]:kids[2]], NULL where left out */
    N_CALL,   /* a(args) */
    N_FILTER, /* a | s(args); builtin, NULL if unknown: an error when it is reached, as in Jinja */
    N_TEST,   /* a is s(args); builtin as above */
    N_NOT, N_NEG, N_POS, /* a */
    N_AND, N_OR, /* a, b */
    N_BIN,    /* a op b */
    N_CMP,    /* a, then kids with ops */
    N_COND,   /* a if b else c; c may be NULL */
    N_CONCAT, /* kids ~ kids */
    N_BLOCKVAL, /* the text of the surrounding block set or filter block */
    N_NSREF,  /* a target: sym.s */
    /* statements */
    N_BLOCK,  /* kids */
    N_TEXT,   /* s */
    N_PRINT,  /* a */
    N_IF,     /* a: condition, b: body, c: else, may be NULL */
    N_FOR,    /* a: target, b: iterable, c: filter or NULL, body, d: else or NULL */
    N_SET,    /* a: target, b */
    N_SETBLOCK,    /* a: target, b: value, of N_BLOCKVAL; body */
    N_FILTERBLOCK, /* b, of N_BLOCKVAL; body */
    N_MACRO,       /* sym, params, body */
    N_CALLBLOCK,   /* a: call; params; body */
    N_WITH,        /* kids: target, value, ...; body */
    N_SCOPE,       /* body: generation */
    N_BREAK, N_CONTINUE,
} nkind;

/* Operators and comparison, as two characters. */
#define OP2(a, b) ((a) | (b) << 8)
enum { OP_IN = 256 * 128, OP_NOT_IN };

struct tnode {
    uint8_t kind;
    int op, line, sym;
    sv_str s;
    tval val;
    tnode *a, *b, *c, *d, *body;
    tnode **kids;
    int n_kids;
    int *ops;                   /* N_CMP: [n_kids] */
    const tbuiltin *builtin;
    sv_str *kw_name;            /* arguments: kids[0..n_kids) by position, kw[0..n_kw) by name */
    tnode **kw;
    int n_kw;
    int *param;                 /* N_MACRO, N_CALLBLOCK: symbols; the last n_kw have defaults kw[] */
    int n_param;
    bool uses_varargs, uses_kwargs, uses_caller;
};

struct sv_template {
    sv_arena *mem;
    tnode *root;
    sv_str *sym; /* names of variables */
    int n_sym;
    int sym_loop, sym_caller, sym_varargs, sym_kwargs;
};

/* ---- lexer ---- */

typedef enum tok_type { TOK_END, TOK_DATA, TOK_VAR_BEGIN, TOK_VAR_END, TOK_TAG_BEGIN, TOK_TAG_END, TOK_NAME, TOK_STRING, TOK_INTEGER,
                        TOK_REAL, TOK_OP } tok_type;
typedef struct ttoken {
    tok_type type;
    int line, op; /* op: TOK_OP, a character or OP2 */
    sv_str s;     /* data, name, decoded string */
    int64_t i;
    double f;
} ttoken;
typedef struct ttokens { ttoken *v; size_t n, cap; } ttokens;
/* Tokens of source, the last one TOK_END. Strings lie in mem. v is the caller's to free, also after a failure. */
SV_MUST sv_rc sv_tpl_lex(ttokens *out, sv_arena *mem, sv_str source, sv_err *err);
SV_MUST sv_rc sv_tpl_parse(sv_template *t, const ttokens *toks, sv_err *err);

/* ---- a render ---- */

enum { SV_TPL_MAX_DEPTH = 800 }; /* of the walk through tree and values: what a thread's stack holds easily */

struct tscope {
    tscope *up; /* NULL: the template's own */
    struct { int sym; tval v; } *var;
    int n, cap;
};

/* Errors are sticky: the first sets rc and err, and from then on everything returns at once. Loops look at rc. */
struct trun {
    const sv_template *t;
    sv_arena *mem;
    sv_buf *out; /* where output goes now */
    size_t max_out;
    tscope *scope;
    tval *global; /* [n_sym] what the context gives, else a global function, else undefined */
    tval block;   /* of N_BLOCKVAL */
    int64_t fuel; /* steps left */
    int64_t now_s;
    int depth, line;
    enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;
    sv_rc rc;
    sv_err *err;
};

void sv_tpl_exec(trun *r, const tnode *n);
/* sv_template_render with a clock of the caller's. */
SV_MUST sv_rc sv_tpl_render_at(const sv_template *t, const json_t *context, int64_t now_s, sv_buf *out, sv_err *err);

/* A failure at the current line: SV_EINVAL. Returns undefined, so that `return sv_tpl_fail(...)` reads well. */
tval sv_tpl_fail(trun *r, const char *fmt, ...) SV_PRINTF(2, 3);
bool sv_tpl_burn(trun *r, size_t n);        /* n units of work; false: the render ends here */
void *sv_tpl_alloc(trun *r, size_t n, size_t size); /* zeroed; NULL: the render ends here */
/* Uses an undefined value: "'x' is undefined". */
tval sv_tpl_fail_undef(trun *r, const tval *v);

/* A text made piece by piece; ends in the render's arena. */
#define SV_TPL_BUF(r, name) SV_AUTO(sv_buf_donep) sv_buf name; sv_buf_init(&name, (r)->max_out)
tval sv_tpl_take(trun *r, sv_buf *b);
tval sv_tpl_str(trun *r, const char *p, size_t n); /* a copy */

tval sv_tpl_seq(trun *r, tseq_kind kind, size_t cap);
bool sv_tpl_push(trun *r, tval *seq, tval v);
tval sv_tpl_dict(trun *r);
bool sv_tpl_put(trun *r, tdict *d, tval k, tval v);
const tval *sv_tpl_get(trun *r, const tdict *d, const tval *k); /* NULL: absent */
const tval *sv_tpl_gets(trun *r, const tdict *d, sv_str k);

bool sv_tpl_true(const tval *v);
bool sv_tpl_equal(trun *r, const tval *a, const tval *b);
int sv_tpl_order(trun *r, const tval *a, const tval *b); /* fails where Python would */
bool sv_tpl_contains(trun *r, const tval *in, const tval *v);
const char *sv_tpl_type(const tval *v); /* "str", "NoneType" */
bool sv_tpl_number(const tval *v, double *f); /* bool, int or float */
bool sv_tpl_integer(const tval *v, int64_t *i); /* bool or int */

void sv_tpl_text(trun *r, sv_buf *b, const tval *v); /* str(v) */
void sv_tpl_repr(trun *r, sv_buf *b, const tval *v);
sv_str sv_tpl_to_str(trun *r, const tval *v);        /* str(v) as a string in the arena */
void sv_tpl_float(sv_buf *b, double f);
typedef struct tjson { sv_str indent; bool pretty, ascii, sort; sv_str comma, colon; } tjson;
void sv_tpl_json(trun *r, sv_buf *b, const tval *v, const tjson *how, int level);
tval sv_tpl_from_json(trun *r, const json_t *j);

tval sv_tpl_attr(trun *r, const tval *v, sv_str name);
tval sv_tpl_item(trun *r, const tval *v, const tval *key);
tval sv_tpl_slice(trun *r, const tval *v, const tval part[3]);
/* Any iterable as a sequence, borrowed where it is one; undefined is empty. */
const tseq *sv_tpl_iter(trun *r, const tval *v);
int64_t sv_tpl_len(trun *r, const tval *v); /* fails where len() would */

size_t sv_tpl_chars(sv_str s); /* code points of valid UTF-8 */
bool sv_tpl_deeper(trun *r); /* one level down; the caller comes up with r->depth--, also after false: the render ends here */

/* ---- library ---- */

/* The argument at position i, or named so; NULL: not given. */
const tval *sv_tpl_arg(const targv *a, size_t i, const char *name);
bool sv_tpl_arg_true(const targv *a, size_t i, const char *name, bool otherwise);
const tbuiltin *sv_tpl_find_filter(sv_str name);
const tbuiltin *sv_tpl_find_test(sv_str name);
const tbuiltin *sv_tpl_find_global(sv_str name);
const tbuiltin *sv_tpl_find_str_method(sv_str name);
const tbuiltin *sv_tpl_find_dict_method(sv_str name);
const tbuiltin *sv_tpl_find_seq_method(sv_str name);
const tbuiltin *sv_tpl_find_loop_method(sv_str name);

/* template_str.c, used by filters too */
sv_str sv_tpl_strip(sv_str s, const sv_str *chars, bool left, bool right); /* chars NULL: white space */
tval sv_tpl_replace(trun *r, sv_str s, sv_str from, sv_str to, int64_t count);
/* TITLE is the method, where letters after non-letters begin a word; WORDS the filter, where white space and -([{< end one. */
typedef enum tcase { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE, CASE_TITLE, CASE_WORDS } tcase;
tval sv_tpl_case(trun *r, sv_str s, tcase how);
tval sv_tpl_percent(trun *r, sv_str fmt, const tval *args);
tval sv_tpl_lines(trun *r, sv_str s, bool keep_ends);
bool sv_tpl_is_space(uint32_t cp);

#endif
