/* template_parse.c - template tokens to a tree
 *
 * Recursive descent with Jinja's precedence, which is not Python's: a filter binds to the operand before it ('a' ~ b|upper), a
 * test takes one bare operand (x is divisibleby 3), and ~ sits between + and *. From weak to strong:
 *
 *     a if b else c    or    and    not    == != < > <= >= in    + -    ~    * / // %    **    unary + -    postfix, |, is
 *
 * Depth is bounded (MAX_DEPTH), so a source of ten thousand brackets is refused and does not end the process.
 * Unknown tags and broken syntax are refused here; unknown filters and tests where they are reached, since real templates keep
 * branches that their own library could not run. */
#include "models/template_impl.h"

#include "base/map.h"

#define MAX_DEPTH 150

typedef struct parser {
    sv_template *t;
    const ttoken *tok; /* the current one; the last is TOK_END and never passed */
    sv_smap *sym;      /* name -> symbol + 1 */
    int sym_cap;
    int depth, loops;
    tnode *macro; /* the innermost macro, told when its body uses varargs, kwargs or caller */
    sv_err *err;
} parser;

/* Everything that parses returns NULL (or false) after a failure, with err set. */
static void *syntax(parser *p, const char *what)
{
    const ttoken *k = p->tok;
    char got[64];
    switch (k->type) {
    case TOK_NAME: snprintf(got, sizeof got, "'%.*s'", (int)(k->s.n < 40 ? k->s.n : 40), k->s.p); break;
    case TOK_OP: snprintf(got, sizeof got, "'%c%c'", k->op & 0xff, k->op >> 8 ? k->op >> 8 : '\''); break;
    case TOK_VAR_END: snprintf(got, sizeof got, "'}}'"); break;
    case TOK_TAG_END: snprintf(got, sizeof got, "'%%}'"); break;
    case TOK_END: snprintf(got, sizeof got, "the end"); break;
    case TOK_STRING: snprintf(got, sizeof got, "a string"); break;
    case TOK_INTEGER:
    case TOK_REAL: snprintf(got, sizeof got, "a number"); break;
    default: snprintf(got, sizeof got, "text"); break;
    }
    if (k->type == TOK_OP && !(k->op >> 8))
        got[3] = 0;
    sv_fail(p->err, SV_EFORMAT, "line %d: %s, not %s", k->line, what, got);
    return NULL;
}

static void *no_memory(parser *p)
{
    sv_fail(p->err, SV_ENOMEM, "no memory for the template's tree");
    return NULL;
}

static tnode *node(parser *p, nkind kind)
{
    tnode *n = sv_arena_new(p->t->mem, tnode, 1);
    if (!n)
        return no_memory(p);
    n->kind = (uint8_t)kind;
    n->line = p->tok->line;
    return n;
}

static bool add_kid(parser *p, tnode ***kids, int *n_kids, tnode *kid)
{
    int n = *n_kids;
    if ((n & (n - 1)) == 0) { /* grows at powers of two */
        tnode **more = sv_arena_new(p->t->mem, tnode *, n ? 2 * (size_t)n : 1);
        if (!more)
            return no_memory(p);
        if (n > 0)
            memcpy(more, *kids, (size_t)n * sizeof *more);
        *kids = more;
    }
    (*kids)[(*n_kids)++] = kid;
    return true;
}

static int symbol(parser *p, sv_str name)
{
    void *have = sv_smap_get(p->sym, name);
    if (have)
        return (int)(intptr_t)have - 1;
    sv_template *t = p->t;
    if (t->n_sym == p->sym_cap) {
        int cap = p->sym_cap ? 2 * p->sym_cap : 64;
        sv_str *more = sv_arena_new(t->mem, sv_str, (size_t)cap);
        if (!more) {
            no_memory(p);
            return -1;
        }
        if (t->n_sym > 0)
            memcpy(more, t->sym, (size_t)t->n_sym * sizeof *more);
        t->sym = more;
        p->sym_cap = cap;
    }
    t->sym[t->n_sym] = name;
    sv_smap_put(p->sym, name, (void *)(intptr_t)(t->n_sym + 1));
    return t->n_sym++;
}

static bool is_op(const parser *p, int op) { return p->tok->type == TOK_OP && p->tok->op == op; }
static bool is_word(const parser *p, const char *w) { return p->tok->type == TOK_NAME && sv_str_is(p->tok->s, w); }

static void next(parser *p)
{
    if (p->tok->type != TOK_END)
        p->tok++;
}

static bool skip_op(parser *p, int op)
{
    bool is = is_op(p, op);
    if (is)
        next(p);
    return is;
}

static bool skip_word(parser *p, const char *w)
{
    bool is = is_word(p, w);
    if (is)
        next(p);
    return is;
}

static bool expect_op(parser *p, int op)
{
    char what[32];
    if (skip_op(p, op))
        return true;
    snprintf(what, sizeof what, "'%c' expected", op & 0xff);
    return syntax(p, what);
}

static tnode *expression(parser *p);
static tnode *condition(parser *p, bool with_cond);
static tnode *primary(parser *p);
static tnode *postfix(parser *p, tnode *n);
static tnode *block_until(parser *p, const char *const *ends);

/* ---- calls, subscripts, filters, tests ---- */

/* "( a, b, name=c )" into call's kids and kw. */
static bool arguments(parser *p, tnode *call)
{
    int n_names = 0;
    if (!expect_op(p, '('))
        return false;
    while (!skip_op(p, ')')) {
        if ((call->n_kids || call->n_kw) && !expect_op(p, ','))
            return false;
        if (skip_op(p, ')'))
            break;
        if (is_op(p, '*') || is_op(p, OP2('*', '*')))
            return syntax(p, "arguments from a list or dict are not supported");
        bool named = p->tok->type == TOK_NAME && p->tok[1].type == TOK_OP && p->tok[1].op == '=';
        if (!named && call->n_kw)
            return syntax(p, "arguments by position come before named ones");
        sv_str name = p->tok->s;
        if (named)
            p->tok += 2;
        tnode *v = expression(p);
        if (!v || !(named ? add_kid(p, &call->kw, &call->n_kw, v) : add_kid(p, &call->kids, &call->n_kids, v)))
            return false;
        if (named && (call->n_kw & (call->n_kw - 1)) == 0) { /* room for as many names again */
            sv_str *names = sv_arena_new(p->t->mem, sv_str, 2 * (size_t)call->n_kw);
            if (!names)
                return no_memory(p);
            if (n_names > 0)
                memcpy(names, call->kw_name, (size_t)n_names * sizeof *names);
            call->kw_name = names;
        }
        if (named)
            call->kw_name[n_names++] = name;
    }
    return true;
}

static tnode *call(parser *p, tnode *callee)
{
    tnode *n = node(p, N_CALL);
    if (!n || !arguments(p, n))
        return NULL;
    n->a = callee;
    return n;
}

/* What stands in [...]: an index, or start:stop:step with parts left out. */
static tnode *bracket(parser *p, tnode *of)
{
    tnode *n = node(p, N_ITEM);
    if (!n)
        return NULL;
    n->a = of;
    if (!is_op(p, ':')) {
        n->b = expression(p);
        if (!n->b)
            return NULL;
    }
    if (is_op(p, ':')) {
        n->kind = N_SLICE;
        n->kids = sv_arena_new(p->t->mem, tnode *, 3);
        if (!n->kids)
            return no_memory(p);
        n->kids[0] = n->b;
        for (int i = 1; i < 3 && skip_op(p, ':'); i++)
            if (!is_op(p, ':') && !is_op(p, ']') && !(n->kids[i] = expression(p)))
                return NULL;
    }
    return expect_op(p, ']') ? n : NULL;
}

static tnode *dot(parser *p, tnode *of)
{
    tnode *n = node(p, p->tok->type == TOK_INTEGER ? N_ITEM : N_ATTR);
    if (!n)
        return NULL;
    n->a = of;
    if (n->kind == N_ITEM) {
        n->b = node(p, N_CONST);
        if (!n->b)
            return NULL;
        n->b->val = TV_INT(p->tok->i);
    } else if (p->tok->type == TOK_NAME) {
        n->s = p->tok->s;
    } else {
        return syntax(p, "a name or number expected after '.'");
    }
    next(p);
    return n;
}

static tnode *postfix(parser *p, tnode *n)
{
    while (n) {
        if (skip_op(p, '.'))
            n = dot(p, n);
        else if (skip_op(p, '['))
            n = bracket(p, n);
        else if (is_op(p, '('))
            n = call(p, n);
        else
            break;
    }
    return n;
}

/* After the '|'. */
static tnode *filter(parser *p, tnode *of)
{
    tnode *n = node(p, N_FILTER);
    if (!n)
        return NULL;
    if (p->tok->type != TOK_NAME)
        return syntax(p, "a filter's name expected");
    n->a = of;
    n->s = p->tok->s;
    n->builtin = sv_tpl_find_filter(n->s);
    next(p);
    return !is_op(p, '(') || arguments(p, n) ? n : NULL;
}

static bool starts_operand(const parser *p)
{
    const ttoken *k = p->tok;
    if (k->type == TOK_NAME)
        return !is_word(p, "else") && !is_word(p, "or") && !is_word(p, "and");
    return k->type == TOK_STRING || k->type == TOK_INTEGER || k->type == TOK_REAL || is_op(p, '(') || is_op(p, '[') || is_op(p, '{');
}

/* After the 'is'. */
static tnode *test(parser *p, tnode *of)
{
    tnode *n = node(p, N_TEST), *negated = NULL;
    if (!n)
        return NULL;
    if (skip_word(p, "not") && !(negated = node(p, N_NOT)))
        return NULL;
    if (p->tok->type != TOK_NAME)
        return syntax(p, "a test's name expected");
    n->a = of;
    n->s = p->tok->s;
    n->builtin = sv_tpl_find_test(n->s);
    next(p);
    if (is_op(p, '(')) {
        if (!arguments(p, n))
            return NULL;
    } else if (is_word(p, "is")) {
        return syntax(p, "tests do not chain");
    } else if (starts_operand(p)) {
        tnode *arg = postfix(p, primary(p));
        if (!arg || !add_kid(p, &n->kids, &n->n_kids, arg))
            return NULL;
    }
    if (!negated)
        return n;
    negated->a = n;
    return negated;
}

static tnode *filters(parser *p, tnode *n)
{
    while (n) {
        if (skip_op(p, '|'))
            n = filter(p, n);
        else if (skip_word(p, "is"))
            n = test(p, n);
        else if (is_op(p, '('))
            n = call(p, n);
        else
            break;
    }
    return n;
}

/* ---- operands ---- */

static tnode *constant(parser *p, tval v)
{
    tnode *n = node(p, N_CONST);
    if (n)
        n->val = v;
    return n;
}

static tnode *string(parser *p)
{
    tnode *n = constant(p, TV_STR(p->tok->s));
    next(p);
    while (n && p->tok->type == TOK_STRING) { /* 'a' "b" is 'ab' */
        sv_str a = n->val.s, b = p->tok->s;
        char *both = sv_arena_alloc(p->t->mem, a.n + b.n + 1, 1);
        if (!both)
            return no_memory(p);
        memcpy(both, a.p, a.n);
        memcpy(both + a.n, b.p, b.n);
        n->val = TV_STR(((sv_str){both, a.n + b.n}));
        next(p);
    }
    return n;
}

static tnode *name(parser *p)
{
    static const struct { const char *word; tval v; } words[] = {
        {"true", {.kind = T_BOOL, .b = true}}, {"True", {.kind = T_BOOL, .b = true}}, {"false", {.kind = T_BOOL}},
        {"False", {.kind = T_BOOL}}, {"none", {.kind = T_NONE}}, {"None", {.kind = T_NONE}},
    };
    sv_str s = p->tok->s;
    for (size_t i = 0; i < SV_LEN(words); i++)
        if (sv_str_is(s, words[i].word)) {
            tnode *n = constant(p, words[i].v);
            next(p);
            return n;
        }
    tnode *n = node(p, N_NAME);
    if (!n || (n->sym = symbol(p, s)) < 0)
        return NULL;
    n->s = s;
    if (p->macro) {
        p->macro->uses_varargs |= n->sym == p->t->sym_varargs;
        p->macro->uses_kwargs |= n->sym == p->t->sym_kwargs;
        p->macro->uses_caller |= n->sym == p->t->sym_caller;
    }
    next(p);
    return n;
}

/* After the '(' or where a bare tuple may stand: one expression, or a tuple of several. */
static tnode *tuple(parser *p, bool with_cond, int closed_by)
{
    tnode *n = NULL;
    for (;;) {
        if (closed_by && is_op(p, closed_by))
            break;
        if (n && (p->tok->type == TOK_TAG_END || p->tok->type == TOK_VAR_END))
            break;
        tnode *v = condition(p, with_cond);
        if (!v || (n && !add_kid(p, &n->kids, &n->n_kids, v)))
            return NULL;
        if (!n && !is_op(p, ','))
            return v;
        if (!n && (!(n = node(p, N_TUPLE)) || !add_kid(p, &n->kids, &n->n_kids, v)))
            return NULL;
        if (!skip_op(p, ','))
            break;
    }
    return n ? n : node(p, N_TUPLE);
}

static tnode *list(parser *p, nkind kind, int close)
{
    tnode *n = node(p, kind);
    while (n && !skip_op(p, close)) {
        if (n->n_kids && !expect_op(p, ','))
            return NULL;
        if (skip_op(p, close))
            break;
        tnode *v = expression(p);
        if (!v || !add_kid(p, &n->kids, &n->n_kids, v))
            return NULL;
        if (kind == N_DICT && (!expect_op(p, ':') || !(v = expression(p)) || !add_kid(p, &n->kids, &n->n_kids, v)))
            return NULL;
    }
    return n;
}

static tnode *primary(parser *p)
{
    tnode *n = NULL;
    switch (p->tok->type) {
    case TOK_NAME: return name(p);
    case TOK_STRING: return string(p);
    case TOK_INTEGER:
    case TOK_REAL:
        n = constant(p, p->tok->type == TOK_REAL ? TV_FLOAT(p->tok->f) : TV_INT(p->tok->i));
        next(p);
        return n;
    default: break;
    }
    if (skip_op(p, '(')) {
        n = tuple(p, true, ')');
        return n && expect_op(p, ')') ? n : NULL;
    }
    if (skip_op(p, '['))
        return list(p, N_LIST, ']');
    if (skip_op(p, '{'))
        return list(p, N_DICT, '}');
    return syntax(p, "an expression expected");
}

/* ---- operators ---- */

static tnode *unary(parser *p, bool with_filter)
{
    tnode *n;
    if (++p->depth > MAX_DEPTH)
        return syntax(p, "nested too deeply");
    if (is_op(p, '-') || is_op(p, '+')) {
        n = node(p, is_op(p, '-') ? N_NEG : N_POS);
        next(p);
        if (!n || !(n->a = unary(p, false)))
            return NULL;
    } else {
        n = primary(p);
    }
    n = postfix(p, n);
    p->depth--;
    return with_filter ? filters(p, n) : n;
}

static tnode *binary(parser *p, int level)
{
    static const int ops[][5] = {{'+', '-'}, {'~'}, {'*', '/', OP2('/', '/'), '%'}, {OP2('*', '*')}};
    if (level == (int)SV_LEN(ops))
        return unary(p, true);
    tnode *left = binary(p, level + 1);
    while (left && p->tok->type == TOK_OP) {
        int op = 0;
        for (int i = 0; ops[level][i]; i++)
            if (p->tok->op == ops[level][i])
                op = p->tok->op;
        if (!op)
            break;
        tnode *n = op == '~' && left->kind == N_CONCAT ? left : node(p, op == '~' ? N_CONCAT : N_BIN);
        next(p);
        tnode *right = n ? binary(p, level + 1) : NULL;
        if (!right)
            return NULL;
        if (op != '~') {
            n->op = op;
            n->a = left;
            n->b = right;
        } else if ((n != left && !add_kid(p, &n->kids, &n->n_kids, left)) || !add_kid(p, &n->kids, &n->n_kids, right)) {
            return NULL;
        }
        left = n;
    }
    return left;
}

static int comparison(parser *p)
{
    static const int ops[] = {OP2('=', '='), OP2('!', '='), '<', '>', OP2('<', '='), OP2('>', '=')};
    for (size_t i = 0; i < SV_LEN(ops); i++)
        if (skip_op(p, ops[i]))
            return ops[i];
    if (skip_word(p, "in"))
        return OP_IN;
    if (is_word(p, "not") && p->tok[1].type == TOK_NAME && sv_str_is(p->tok[1].s, "in")) {
        p->tok += 2;
        return OP_NOT_IN;
    }
    return 0;
}

static tnode *compare(parser *p)
{
    tnode *first = binary(p, 0), *n = NULL;
    for (int op; first && (op = comparison(p));) {
        tnode *right = binary(p, 0);
        if (!right || (!n && !(n = node(p, N_CMP))) || !add_kid(p, &n->kids, &n->n_kids, right))
            return NULL;
        int *ops = sv_arena_new(p->t->mem, int, (size_t)n->n_kids); /* chains are short */
        if (!ops)
            return no_memory(p);
        if (n->n_kids > 1)
            memcpy(ops, n->ops, (size_t)(n->n_kids - 1) * sizeof *ops);
        ops[n->n_kids - 1] = op;
        n->ops = ops;
        n->a = first;
    }
    return n && first ? n : first;
}

static tnode *negation(parser *p)
{
    tnode *n = NULL, *inner = NULL;
    while (is_word(p, "not")) { /* a loop and no recursion: depth is counted in unary() only */
        tnode *outer = node(p, N_NOT);
        if (!outer)
            return NULL;
        if (inner)
            inner->a = outer;
        else
            n = outer;
        inner = outer;
        next(p);
    }
    tnode *v = compare(p);
    if (!v || !inner)
        return v;
    inner->a = v;
    return n;
}

static tnode *logic(parser *p, bool or_)
{
    tnode *left = or_ ? logic(p, false) : negation(p);
    while (left && skip_word(p, or_ ? "or" : "and")) {
        tnode *n = node(p, or_ ? N_OR : N_AND);
        if (!n || !(n->b = or_ ? logic(p, false) : negation(p)))
            return NULL;
        n->a = left;
        left = n;
    }
    return left;
}

static tnode *condition(parser *p, bool with_cond)
{
    if (++p->depth > MAX_DEPTH)
        return syntax(p, "nested too deeply");
    tnode *n = logic(p, true);
    while (n && with_cond && skip_word(p, "if")) {
        tnode *c = node(p, N_COND);
        if (!c || !(c->b = logic(p, true)) || (skip_word(p, "else") && !(c->c = condition(p, true))))
            return NULL;
        c->a = n;
        n = c;
    }
    p->depth--;
    return n;
}

static tnode *expression(parser *p)
{
    return condition(p, true);
}

/* ---- statements ---- */

static bool tag_end(parser *p)
{
    if (p->tok->type != TOK_TAG_END)
        return syntax(p, "'%}' expected");
    next(p);
    return true;
}

/* A body after its tag's end: up to one of ends, whose name is then the current token. */
static tnode *body(parser *p, const char *const *ends)
{
    return tag_end(p) ? block_until(p, ends) : NULL;
}

/* The same, with the one word that ends it consumed; the caller's tag_end follows. */
static tnode *whole_body(parser *p, const char *end)
{
    tnode *n = body(p, (const char *const[]){end, NULL});
    if (n)
        next(p);
    return n;
}

static tnode *target(parser *p, bool with_ns)
{
    tnode *n = NULL, *all = NULL;
    for (;;) {
        bool paren = skip_op(p, '(');
        if (p->tok->type != TOK_NAME)
            return syntax(p, "a name to assign to expected");
        if (paren) {
            n = target(p, false);
            if (!n || !expect_op(p, ')'))
                return NULL;
        } else {
            sv_str s = p->tok->s;
            n = node(p, N_NAME);
            if (!n || (n->sym = symbol(p, s)) < 0)
                return NULL;
            n->s = s;
            next(p);
            if (with_ns && is_op(p, '.')) {
                next(p);
                if (p->tok->type != TOK_NAME)
                    return syntax(p, "a name expected after '.'");
                n->kind = N_NSREF;
                n->s = p->tok->s;
                next(p);
            }
        }
        if (!all && !is_op(p, ','))
            return n;
        if (!all && !(all = node(p, N_TUPLE)))
            return NULL;
        if (!add_kid(p, &all->kids, &all->n_kids, n))
            return NULL;
        if (!skip_op(p, ',') || p->tok->type != TOK_NAME || is_word(p, "in"))
            return all;
    }
}

static tnode *stmt_if(parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    tnode *first = NULL, *last = NULL;
    do {
        tnode *n = node(p, N_IF);
        if (!n || !(n->a = tuple(p, false, 0)) || !(n->b = body(p, ends)))
            return NULL;
        if (last)
            last->c = n;
        else
            first = n;
        last = n;
    } while (skip_word(p, "elif"));
    if (skip_word(p, "else")) {
        last->c = body(p, (const char *const[]){"endif", NULL});
        if (!last->c)
            return NULL;
    }
    next(p);
    return first;
}

static tnode *stmt_for(parser *p)
{
    tnode *n = node(p, N_FOR);
    if (!n || !(n->a = target(p, false)))
        return NULL;
    if (!skip_word(p, "in"))
        return syntax(p, "'in' expected");
    if (!(n->b = tuple(p, false, 0)) || (skip_word(p, "if") && !(n->c = expression(p))))
        return NULL;
    if (is_word(p, "recursive"))
        return syntax(p, "the end of 'for' expected: recursive loops are not supported");
    p->loops++;
    n->body = body(p, (const char *const[]){"endfor", "else", NULL});
    p->loops--;
    if (!n->body || (skip_word(p, "else") && !(n->d = body(p, (const char *const[]){"endfor", NULL}))))
        return NULL;
    next(p);
    return n;
}

static tnode *stmt_set(parser *p)
{
    tnode *n = node(p, N_SET);
    if (!n || !(n->a = target(p, true)))
        return NULL;
    if (skip_op(p, '=')) {
        n->b = tuple(p, true, 0);
        return n->b ? n : NULL;
    }
    n->kind = N_SETBLOCK;
    if (!(n->b = filters(p, node(p, N_BLOCKVAL))) || !(n->body = whole_body(p, "endset")))
        return NULL;
    return n;
}

/* "(a, b=1)" of a macro or call block. */
static bool parameters(parser *p, tnode *n)
{
    if (!expect_op(p, '('))
        return false;
    while (!skip_op(p, ')')) {
        if (n->n_param && !expect_op(p, ','))
            return false;
        if (p->tok->type != TOK_NAME)
            return syntax(p, "a parameter's name expected");
        int sym = symbol(p, p->tok->s);
        int *param = sym < 0 ? NULL : sv_arena_new(p->t->mem, int, (size_t)n->n_param + 1); /* a handful */
        if (!param)
            return sym < 0 ? false : no_memory(p);
        if (n->n_param > 0)
            memcpy(param, n->param, (size_t)n->n_param * sizeof *param);
        param[n->n_param++] = sym;
        n->param = param;
        next(p);
        if (skip_op(p, '=')) {
            tnode *v = expression(p);
            if (!v || !add_kid(p, &n->kw, &n->n_kw, v))
                return false;
        } else if (n->n_kw) {
            return syntax(p, "a parameter without a default follows one that has it");
        }
    }
    return true;
}

/* A body of its own: break does not leave it, and what it uses of its arguments is noted in n. */
static tnode *macro_body(parser *p, tnode *n, const char *end)
{
    tnode *outer = p->macro;
    int loops = p->loops;
    p->macro = n;
    p->loops = 0;
    tnode *b = whole_body(p, end);
    p->macro = outer;
    p->loops = loops;
    if (outer && n->kind == N_CALLBLOCK) /* caller() in a call block's body is that of the macro around it */
        outer->uses_caller |= n->uses_caller;
    return b;
}

static tnode *stmt_macro(parser *p)
{
    tnode *n = node(p, N_MACRO);
    if (!n)
        return NULL;
    if (p->tok->type != TOK_NAME)
        return syntax(p, "a macro's name expected");
    n->s = p->tok->s;
    n->sym = symbol(p, n->s);
    next(p);
    if (n->sym < 0 || !parameters(p, n) || !(n->body = macro_body(p, n, "endmacro")))
        return NULL;
    return n;
}

static tnode *stmt_call(parser *p)
{
    tnode *n = node(p, N_CALLBLOCK);
    if (!n || (is_op(p, '(') && !parameters(p, n)) || !(n->a = expression(p)))
        return NULL;
    if (n->a->kind != N_CALL)
        return syntax(p, "a call expected before");
    n->body = macro_body(p, n, "endcall");
    return n->body ? n : NULL;
}

static tnode *stmt_filter(parser *p)
{
    tnode *n = node(p, N_FILTERBLOCK);
    if (!n || !(n->b = filter(p, node(p, N_BLOCKVAL))))
        return NULL;
    n->b = filters(p, n->b);
    if (!n->b || !(n->body = whole_body(p, "endfilter")))
        return NULL;
    return n;
}

static tnode *stmt_with(parser *p)
{
    tnode *n = node(p, N_WITH);
    while (n && p->tok->type != TOK_TAG_END) {
        tnode *a, *v;
        if (n->n_kids && !expect_op(p, ','))
            return NULL;
        if (p->tok->type != TOK_NAME)
            return syntax(p, "a name expected");
        if (!(a = name(p)) || !expect_op(p, '=') || !(v = expression(p)))
            return NULL;
        if (!add_kid(p, &n->kids, &n->n_kids, a) || !add_kid(p, &n->kids, &n->n_kids, v))
            return NULL;
    }
    if (!n || !(n->body = whole_body(p, "endwith")))
        return NULL;
    return n;
}

/* {% generation %}: trainers learn from it which tokens are the assistant's; for us it is a scope. */
static tnode *stmt_generation(parser *p)
{
    tnode *n = node(p, N_SCOPE);
    if (!n || !(n->body = whole_body(p, "endgeneration")))
        return NULL;
    return n;
}

static tnode *stmt_jump(parser *p, nkind kind)
{
    if (p->loops > 0)
        return node(p, kind);
    sv_fail(p->err, SV_EFORMAT, "line %d: 'break' and 'continue' belong in a loop", p->tok->line);
    return NULL;
}

static tnode *statement(parser *p)
{
    static const struct { const char *word; tnode *(*parse)(parser *p); } tags[] = {
        {"if", stmt_if}, {"for", stmt_for}, {"set", stmt_set}, {"macro", stmt_macro}, {"call", stmt_call},
        {"filter", stmt_filter}, {"with", stmt_with}, {"generation", stmt_generation},
    };
    if (p->tok->type != TOK_NAME)
        return syntax(p, "a tag's name expected");
    tnode *n = NULL;
    bool known = true;
    sv_str word = p->tok->s;
    int line = p->tok->line;
    next(p);
    if (sv_str_is(word, "break")) {
        n = stmt_jump(p, N_BREAK);
    } else if (sv_str_is(word, "continue")) {
        n = stmt_jump(p, N_CONTINUE);
    } else {
        known = false;
        for (size_t i = 0; i < SV_LEN(tags) && !known; i++)
            if (sv_str_is(word, tags[i].word)) {
                n = tags[i].parse(p);
                known = true;
            }
    }
    if (!known) {
        sv_fail(p->err, SV_EFORMAT, "line %d: unknown tag '%.*s'", line, (int)(word.n < 60 ? word.n : 60), word.p);
        return NULL;
    }
    return n && tag_end(p) ? n : NULL;
}

static bool at_end_word(const parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (is_word(p, *ends))
            return true;
    return false;
}

/* Text and tags up to a tag named in ends, whose name is then the current token; ends NULL: up to the end of the source. */
static tnode *block_until(parser *p, const char *const *ends)
{
    tnode *b = node(p, N_BLOCK), *n = NULL;
    if (!b)
        return NULL;
    if (++p->depth > MAX_DEPTH)
        return syntax(p, "nested too deeply");
    for (;; next(p)) {
        switch (p->tok->type) {
        case TOK_DATA:
            n = node(p, N_TEXT);
            if (n)
                n->s = p->tok->s;
            break;
        case TOK_VAR_BEGIN:
            n = node(p, N_PRINT);
            next(p);
            if (!n || !(n->a = tuple(p, true, 0)))
                return NULL;
            if (p->tok->type != TOK_VAR_END)
                return syntax(p, "'}}' expected");
            break;
        case TOK_TAG_BEGIN:
            next(p);
            if (at_end_word(p, ends)) {
                p->depth--;
                return b;
            }
            n = statement(p);
            p->tok--; /* statement() ate its tag's end; the loop passes one token */
            break;
        default: /* TOK_END: the lexer lets nothing else stand here */
            p->depth--;
            if (!ends)
                return b;
            sv_fail(p->err, SV_EFORMAT, "line %d: '%s' is missing at the end", b->line, ends[0]);
            return NULL;
        }
        if (!n || !add_kid(p, &b->kids, &b->n_kids, n))
            return NULL;
    }
}

sv_rc sv_tpl_parse(sv_template *t, const ttokens *toks, sv_err *err)
{
    parser p = {.t = t, .tok = toks->v, .sym = sv_smap_new(), .err = err};
    t->sym_loop = symbol(&p, SV_STR("loop"));
    t->sym_caller = symbol(&p, SV_STR("caller"));
    t->sym_varargs = symbol(&p, SV_STR("varargs"));
    t->sym_kwargs = symbol(&p, SV_STR("kwargs"));
    t->root = block_until(&p, NULL);
    sv_smap_free(p.sym);
    return t->root ? SV_OK : err->code;
}
