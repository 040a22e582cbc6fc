/* template_eval.c - walks a template's tree: expressions to values, statements to text
 *
 * Scopes, as Jinja has them: a loop's turn, a macro's call, a set block, with and generation open one; if does not. What a scope
 * sets ends with it, so a chat template that wants to carry something out of a loop uses a namespace. A macro sees the scope
 * that it was written in, as it is when the macro is called.
 *
 * Two counters bound every render, whatever the template: fuel, burned by each node and by the bytes that an operation touches, and
 * depth, of nodes inside nodes, macros inside macros and values inside values. */
#include <math.h>
#include <stdarg.h>

#include "models/template_impl.h"

static tval eval(trun *r, const tnode *n);

/* ---- failures ---- */

tval sv_tpl_fail(trun *r, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_EINVAL, "line %d: %s", r->line, what);
    return TV_UNDEF(UNDEF_NAME, SV_STR(""));
}

tval sv_tpl_fail_undef(trun *r, const tval *v)
{
    tval owner = {.kind = v->owner & 0x80 ? T_SEQ : v->owner, .why = v->owner & 0x80 ? v->owner & 0x7f : SEQ_LIST};
    const char *type = owner.kind == T_NONE ? "None" : sv_tpl_type(&owner);
    const char *object = owner.kind == T_NONE ? "" : " object";
    int n = (int)(v->s.n < 80 ? v->s.n : 80);
    switch ((tundef)v->why) {
    case UNDEF_NAME: return sv_tpl_fail(r, "'%.*s' is undefined", n, v->s.p);
    case UNDEF_ATTR: return sv_tpl_fail(r, "'%s%s' has no attribute '%.*s'", type, object, n, v->s.p);
    case UNDEF_ITEM: return sv_tpl_fail(r, "%s%s has no element %.*s", type, object, n, v->s.p);
    case UNDEF_UNSAFE: return sv_tpl_fail(r, "access to attribute '%.*s' of '%s'%s is unsafe", n, v->s.p, type, object);
    case UNDEF_EMPTY: break;
    }
    return sv_tpl_fail(r, "%.*s", n, v->s.p);
}

/* ---- scopes ---- */

static void bind(trun *r, int sym, tval v)
{
    tscope *s = r->scope;
    for (int i = 0; i < s->n; i++)
        if (s->var[i].sym == sym) {
            s->var[i].v = v;
            return;
        }
    if (s->n == s->cap) {
        int cap = s->cap ? 2 * s->cap : 4;
        void *more = sv_tpl_alloc(r, (size_t)cap, sizeof *s->var);
        if (!more)
            return;
        if (s->n > 0)
            memcpy(more, s->var, (size_t)s->n * sizeof *s->var);
        s->var = more;
        s->cap = cap;
    }
    s->var[s->n].sym = sym;
    s->var[s->n++].v = v;
}

static tval lookup(trun *r, int sym)
{
    for (const tscope *s = r->scope; s; s = s->up)
        for (int i = 0; i < s->n; i++)
            if (s->var[i].sym == sym)
                return s->var[i].v;
    return r->global[sym];
}

/* Opens a scope inside `up`; false: the render ends. The caller restores r->scope. */
static bool enter(trun *r, tscope *up)
{
    tscope *s = sv_tpl_alloc(r, 1, sizeof *s);
    if (!s)
        return false;
    s->up = up;
    r->scope = s;
    return true;
}

static void assign(trun *r, const tnode *to, tval v)
{
    if (r->rc != SV_OK)
        return;
    if (to->kind == N_NAME) {
        bind(r, to->sym, v);
    } else if (to->kind == N_NSREF) {
        tval ns = lookup(r, to->sym);
        if (ns.kind != T_NS)
            sv_tpl_fail(r, "cannot assign attribute on non-namespace object");
        else
            sv_tpl_put(r, ns.dict, TV_STR(to->s), v);
    } else { /* N_TUPLE */
        const tseq *s = sv_tpl_iter(r, &v);
        if (r->rc == SV_OK && s->n != (size_t)to->n_kids)
            sv_tpl_fail(r, "%zu values for %d names", s->n, to->n_kids);
        for (int i = 0; i < to->n_kids && r->rc == SV_OK; i++)
            assign(r, to->kids[i], s->v[i]);
    }
}

/* ---- text ---- */

static void check_out(trun *r)
{
    if (r->out->failed && r->rc == SV_OK)
        r->rc = sv_fail(r->err, SV_ELIMIT, "line %d: more than %zu bytes of text", r->line, r->max_out);
}

/* What n writes, as a string. */
static tval capture(trun *r, const tnode *n)
{
    SV_TPL_BUF(r, text);
    sv_buf *out = r->out;
    r->out = &text;
    sv_tpl_exec(r, n);
    r->out = out;
    return sv_tpl_take(r, &text);
}

/* ---- calls ---- */

static const tval *named(const targv *a, sv_str name)
{
    for (size_t i = 0; i < a->n_kw; i++)
        if (sv_str_eq(a->kw_name[i], name))
            return &a->kw[i];
    return NULL;
}

/* The arguments that a macro's parameters leave over. */
static void bind_rest(trun *r, const tnode *n, const targv *a, size_t n_named)
{
    size_t n_param = (size_t)n->n_param;
    const tval *caller = named(a, SV_STR("caller"));
    if (n->uses_varargs) {
        tval rest = sv_tpl_seq(r, SEQ_TUPLE, 0);
        for (size_t i = n_param; i < a->n_pos; i++)
            sv_tpl_push(r, &rest, a->pos[i]);
        bind(r, r->t->sym_varargs, rest);
    } else if (a->n_pos > n_param) {
        sv_tpl_fail(r, "macro '%.*s' takes not more than %zu argument(s)", (int)n->s.n, n->s.p, n_param);
    }
    if (n->uses_caller) {
        bind(r, r->t->sym_caller, caller ? *caller : TV_UNDEF(UNDEF_EMPTY, SV_STR("No caller defined")));
        n_named += caller != NULL;
    }
    if (n->uses_kwargs) {
        tval rest = sv_tpl_dict(r);
        for (size_t i = 0; i < a->n_kw && r->rc == SV_OK; i++) {
            bool taken = n->uses_caller && sv_str_is(a->kw_name[i], "caller");
            for (size_t k = 0; k < n_param; k++)
                taken |= sv_str_eq(r->t->sym[n->param[k]], a->kw_name[i]);
            if (!taken)
                sv_tpl_put(r, rest.dict, TV_STR(a->kw_name[i]), a->kw[i]);
        }
        bind(r, r->t->sym_kwargs, rest);
    } else if (a->n_kw > n_named) {
        sv_tpl_fail(r, "macro '%.*s' takes no such keyword argument", (int)n->s.n, n->s.p);
    }
}

static void bind_parameters(trun *r, const tnode *n, const targv *a)
{
    size_t n_named = 0, n_param = (size_t)n->n_param, first_default = n_param - (size_t)n->n_kw;
    for (size_t i = 0; i < n_param && r->rc == SV_OK; i++) {
        const tval *given = i < a->n_pos ? &a->pos[i] : named(a, r->t->sym[n->param[i]]);
        n_named += i >= a->n_pos && given;
        bind(r, n->param[i], given ? *given
                : i >= first_default ? eval(r, n->kw[i - first_default])
                                     : TV_UNDEF(UNDEF_NAME, r->t->sym[n->param[i]]));
    }
    bind_rest(r, n, a, n_named);
}

static tval call_macro(trun *r, const tmacro *m, const targv *a)
{
    tscope *back = r->scope;
    tval text = TV_NONE;
    if (sv_tpl_deeper(r) && enter(r, m->scope)) {
        bind_parameters(r, m->node, a);
        text = capture(r, m->node->body);
    }
    r->depth--;
    r->scope = back;
    return text;
}

static void arguments(trun *r, const tnode *n, const tval *caller, targv *a)
{
    size_t n_pos = (size_t)n->n_kids, n_kw = (size_t)n->n_kw;
    tval *v = sv_tpl_alloc(r, n_pos + n_kw + 1, sizeof *v);
    *a = (targv){.pos = v, .kw = v + n_pos, .kw_name = n->kw_name};
    if (!v)
        return;
    for (a->n_pos = 0; a->n_pos < n_pos; a->n_pos++)
        v[a->n_pos] = eval(r, n->kids[a->n_pos]);
    for (a->n_kw = 0; a->n_kw < n_kw; a->n_kw++)
        a->kw[a->n_kw] = eval(r, n->kw[a->n_kw]);
    sv_str *names = caller ? sv_tpl_alloc(r, n_kw + 1, sizeof *names) : NULL;
    if (!names)
        return;
    if (n_kw > 0)
        memcpy(names, n->kw_name, n_kw * sizeof *names);
    names[n_kw] = SV_STR("caller");
    a->kw_name = names;
    a->kw[a->n_kw++] = *caller;
}

static tval call(trun *r, const tnode *n, const tval *caller)
{
    targv a;
    tval f = eval(r, n->a);
    arguments(r, n, caller, &a);
    if (r->rc != SV_OK)
        return TV_NONE;
    r->line = n->line;
    switch ((tkind)f.kind) {
    case T_FUNC: return f.func->fn(r, NULL, &a);
    case T_METHOD: return f.method->func->fn(r, &f.method->self, &a);
    case T_MACRO: return call_macro(r, f.macro, &a);
    case T_UNDEF: return sv_tpl_fail_undef(r, &f);
    default: return sv_tpl_fail(r, "'%s' object is not callable", sv_tpl_type(&f));
    }
}

static tval apply(trun *r, const tnode *n)
{
    targv a;
    tval of = eval(r, n->a);
    arguments(r, n, NULL, &a);
    if (r->rc != SV_OK)
        return TV_NONE;
    r->line = n->line;
    if (!n->builtin)
        return sv_tpl_fail(r, "No %s named '%.*s' found", n->kind == N_FILTER ? "filter" : "test",
                           (int)(n->s.n < 60 ? n->s.n : 60), n->s.p);
    return n->builtin->fn(r, &of, &a);
}

static tval new_macro(trun *r, const tnode *n)
{
    tmacro *m = sv_tpl_alloc(r, 1, sizeof *m);
    if (!m)
        return TV_NONE;
    *m = (tmacro){n, r->scope};
    return (tval){.kind = T_MACRO, .macro = m};
}

/* ---- operators ---- */

static bool is_list(const tval *v) { return v->kind == T_STR || (v->kind == T_SEQ && v->why <= SEQ_TUPLE); }

static tval bad_operands(trun *r, int op, const tval *a, const tval *b)
{
    char name[3] = {(char)(op & 0xff), (char)(op >> 8), 0};
    if (a->kind == T_UNDEF || b->kind == T_UNDEF)
        return sv_tpl_fail_undef(r, a->kind == T_UNDEF ? a : b);
    if (op == '+' && is_list(a))
        return sv_tpl_fail(r, "can only concatenate %s (not \"%s\") to %s", sv_tpl_type(a), sv_tpl_type(b), sv_tpl_type(a));
    return sv_tpl_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", name, sv_tpl_type(a), sv_tpl_type(b));
}

static tval too_large(trun *r)
{
    return sv_tpl_fail(r, "a number over 64 bits");
}

static tval power(trun *r, int64_t a, int64_t b)
{
    int64_t v = 1;
    if (b < 0)
        return TV_FLOAT(pow((double)a, (double)b));
    for (; b > 0 && a != 1 && a != 0 && a != -1; b--)
        if (__builtin_mul_overflow(v, a, &v))
            return too_large(r);
    if (b > 0)
        v = a == -1 && b % 2 == 0 ? 1 : a;
    return TV_INT(v);
}

static tval integer_op(trun *r, int op, int64_t a, int64_t b)
{
    int64_t v = 0;
    bool over = false;
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, &v); break;
    case '-': over = __builtin_sub_overflow(a, b, &v); break;
    case '*': over = __builtin_mul_overflow(a, b, &v); break;
    case OP2('*', '*'): return power(r, a, b);
    default: /* divisions round down, and a remainder has the divisor's sign */
        if (b == 0)
            return sv_tpl_fail(r, "division by zero");
        if (op == '/')
            return TV_FLOAT((double)a / (double)b);
        over = b == -1 && a == INT64_MIN;
        if (!over && b != -1) {
            bool down = a % b != 0 && (a % b < 0) != (b < 0);
            v = op == '%' ? a % b + (down ? b : 0) : a / b - down;
        } else if (!over) {
            v = op == '%' ? 0 : -a;
        }
    }
    return over ? too_large(r) : TV_INT(v);
}

static tval float_op(trun *r, int op, double a, double b)
{
    switch (op) {
    case '+': return TV_FLOAT(a + b);
    case '-': return TV_FLOAT(a - b);
    case '*': return TV_FLOAT(a * b);
    case OP2('*', '*'): return TV_FLOAT(pow(a, b));
    default: break;
    }
    if (b == 0)
        return sv_tpl_fail(r, "division by zero");
    double rest = fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0))
        rest += b;
    return TV_FLOAT(op == '/' ? a / b : op == '%' ? rest : floor((a - rest) / b + 0.5));
}

static tval joined_seqs(trun *r, const tval *a, const tval *b)
{
    tval out = sv_tpl_seq(r, (tseq_kind)a->why, a->seq->n + b->seq->n);
    for (size_t i = 0; i < a->seq->n; i++)
        sv_tpl_push(r, &out, a->seq->v[i]);
    for (size_t i = 0; i < b->seq->n; i++)
        sv_tpl_push(r, &out, b->seq->v[i]);
    return out;
}

static tval repeated(trun *r, const tval *what, int64_t times)
{
    if (what->kind == T_STR) {
        SV_TPL_BUF(r, b);
        for (int64_t i = 0; i < times && what->s.n > 0 && sv_tpl_burn(r, 1 + what->s.n / 32) && sv_buf_add(&b, what->s.p, what->s.n);)
            i++;
        return sv_tpl_take(r, &b);
    }
    tval out = sv_tpl_seq(r, (tseq_kind)what->why, 0);
    for (int64_t i = 0; i < times && what->seq->n > 0 && sv_tpl_burn(r, what->seq->n); i++)
        for (size_t k = 0; k < what->seq->n; k++)
            sv_tpl_push(r, &out, what->seq->v[k]);
    return out;
}

static tval binary(trun *r, int op, const tval *a, const tval *b)
{
    int64_t i, k;
    double x, y;
    if (op == '%' && a->kind == T_STR)
        return sv_tpl_percent(r, a->s, b);
    if (sv_tpl_integer(a, &i) && sv_tpl_integer(b, &k))
        return integer_op(r, op, i, k);
    if (sv_tpl_number(a, &x) && sv_tpl_number(b, &y))
        return float_op(r, op, x, y);
    if (op == '+' && a->kind == T_STR && b->kind == T_STR) {
        SV_TPL_BUF(r, text);
        sv_buf_add(&text, a->s.p, a->s.n);
        sv_buf_add(&text, b->s.p, b->s.n);
        return sv_tpl_take(r, &text);
    }
    if (op == '+' && a->kind == T_SEQ && b->kind == T_SEQ && a->why == b->why && is_list(a))
        return joined_seqs(r, a, b);
    if (op == '*' && is_list(a) && sv_tpl_integer(b, &k))
        return repeated(r, a, k);
    if (op == '*' && is_list(b) && sv_tpl_integer(a, &i))
        return repeated(r, b, i);
    return bad_operands(r, op, a, b);
}

static bool holds(trun *r, int op, const tval *a, const tval *b)
{
    switch (op) {
    case OP2('=', '='): return sv_tpl_equal(r, a, b);
    case OP2('!', '='): return !sv_tpl_equal(r, a, b);
    case OP_IN: return sv_tpl_contains(r, b, a);
    case OP_NOT_IN: return !sv_tpl_contains(r, b, a);
    case '<': return sv_tpl_order(r, a, b) < 0;
    case '>': return sv_tpl_order(r, a, b) > 0;
    case OP2('<', '='): return sv_tpl_order(r, a, b) <= 0;
    default: return sv_tpl_order(r, a, b) >= 0;
    }
}

/* a < b <= c: each operand once, up to the first that does not hold. */
static tval compare(trun *r, const tnode *n)
{
    tval left = eval(r, n->a);
    bool all = true;
    for (int i = 0; i < n->n_kids && all && r->rc == SV_OK; i++) {
        tval right = eval(r, n->kids[i]);
        all = r->rc == SV_OK && holds(r, n->ops[i], &left, &right);
        left = right;
    }
    return TV_BOOL(all);
}

static tval signed_number(trun *r, const tnode *n)
{
    tval v = eval(r, n->a);
    int64_t i;
    bool minus = n->kind == N_NEG;
    if (r->rc != SV_OK)
        return v;
    if (sv_tpl_integer(&v, &i))
        return minus && i == INT64_MIN ? too_large(r) : TV_INT(minus ? -i : i);
    if (v.kind == T_FLOAT)
        return TV_FLOAT(minus ? -v.f : v.f);
    if (v.kind == T_UNDEF)
        return sv_tpl_fail_undef(r, &v);
    return sv_tpl_fail(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+', sv_tpl_type(&v));
}

/* ---- expressions ---- */

static tval make_seq(trun *r, const tnode *n)
{
    tval v = sv_tpl_seq(r, n->kind == N_TUPLE ? SEQ_TUPLE : SEQ_LIST, (size_t)n->n_kids);
    for (int i = 0; i < n->n_kids && r->rc == SV_OK; i++)
        sv_tpl_push(r, &v, eval(r, n->kids[i]));
    return v;
}

static tval make_dict(trun *r, const tnode *n)
{
    tval v = sv_tpl_dict(r);
    for (int i = 0; i < n->n_kids && r->rc == SV_OK; i += 2) {
        tval key = eval(r, n->kids[i]), value = eval(r, n->kids[i + 1]);
        if (r->rc == SV_OK)
            sv_tpl_put(r, v.dict, key, value);
    }
    return v;
}

static tval concat(trun *r, const tnode *n)
{
    SV_TPL_BUF(r, b);
    for (int i = 0; i < n->n_kids && r->rc == SV_OK; i++) {
        tval v = eval(r, n->kids[i]);
        sv_tpl_text(r, &b, &v);
    }
    return sv_tpl_take(r, &b);
}

static tval subscript(trun *r, const tnode *n)
{
    tval of = eval(r, n->a), part[3] = {TV_NONE, TV_NONE, TV_NONE};
    for (int i = 0; i < 3 && n->kind == N_SLICE; i++)
        if (n->kids[i])
            part[i] = eval(r, n->kids[i]);
    tval key = n->kind == N_ITEM ? eval(r, n->b) : TV_NONE;
    if (r->rc != SV_OK)
        return TV_NONE;
    r->line = n->line;
    return n->kind == N_SLICE ? sv_tpl_slice(r, &of, part) : n->kind == N_ITEM ? sv_tpl_item(r, &of, &key) : sv_tpl_attr(r, &of, n->s);
}

static tval eval_any(trun *r, const tnode *n)
{
    tval a, b;
    switch ((nkind)n->kind) {
    case N_CONST: return n->val;
    case N_NAME: return lookup(r, n->sym);
    case N_LIST:
    case N_TUPLE: return make_seq(r, n);
    case N_DICT: return make_dict(r, n);
    case N_ATTR:
    case N_ITEM:
    case N_SLICE: return subscript(r, n);
    case N_CALL: return call(r, n, NULL);
    case N_FILTER:
    case N_TEST: return apply(r, n);
    case N_NOT: a = eval(r, n->a); return TV_BOOL(!sv_tpl_true(&a));
    case N_NEG:
    case N_POS: return signed_number(r, n);
    case N_AND: a = eval(r, n->a); return sv_tpl_true(&a) && r->rc == SV_OK ? eval(r, n->b) : a;
    case N_OR: a = eval(r, n->a); return sv_tpl_true(&a) || r->rc != SV_OK ? a : eval(r, n->b);
    case N_BIN:
        a = eval(r, n->a);
        b = eval(r, n->b);
        return r->rc == SV_OK ? binary(r, n->op, &a, &b) : TV_NONE;
    case N_CMP: return compare(r, n);
    case N_COND:
        a = eval(r, n->b);
        if (sv_tpl_true(&a))
            return eval(r, n->a);
        return n->c ? eval(r, n->c) : TV_UNDEF(UNDEF_EMPTY, SV_STR("the inline if has no else, and its condition is false"));
    case N_CONCAT: return concat(r, n);
    case N_BLOCKVAL: return r->block;
    default: return TV_NONE; /* the parser makes no other */
    }
}

static tval eval(trun *r, const tnode *n)
{
    tval v = TV_NONE;
    if (sv_tpl_burn(r, 1) && sv_tpl_deeper(r))
        v = eval_any(r, n);
    r->depth--;
    return v;
}

/* ---- statements ---- */

static void exec_if(trun *r, const tnode *n)
{
    while (n && n->kind == N_IF && r->rc == SV_OK) {
        tval v = eval(r, n->a);
        if (sv_tpl_true(&v)) {
            n = n->b;
            break;
        }
        n = n->c;
    }
    if (n)
        sv_tpl_exec(r, n);
}

/* The items that pass the loop's `if`. */
static tval passing(trun *r, const tnode *n, const tseq *from)
{
    tscope *back = r->scope;
    tval out = sv_tpl_seq(r, SEQ_LIST, 0);
    for (size_t i = 0; i < from->n && r->rc == SV_OK && enter(r, back); i++) {
        assign(r, n->a, from->v[i]);
        tval yes = eval(r, n->c);
        if (sv_tpl_true(&yes))
            sv_tpl_push(r, &out, from->v[i]);
    }
    r->scope = back;
    return out;
}

static void exec_for(trun *r, const tnode *n)
{
    tval over = eval(r, n->b);
    const tseq *s = r->rc == SV_OK ? sv_tpl_iter(r, &over) : NULL;
    if (s && n->c) {
        over = passing(r, n, s);
        s = over.kind == T_SEQ ? over.seq : NULL;
    }
    tloop *loop = s ? sv_tpl_alloc(r, 1, sizeof *loop) : NULL;
    if (!loop)
        return;
    tscope *back = r->scope;
    loop->seq = s;
    for (; loop->i < s->n && r->rc == SV_OK && r->flow != FLOW_BREAK && enter(r, back); loop->i++) {
        r->flow = FLOW_ON;
        bind(r, r->t->sym_loop, (tval){.kind = T_LOOP, .loop = loop});
        assign(r, n->a, s->v[loop->i]);
        sv_tpl_exec(r, n->body);
    }
    r->flow = FLOW_ON;
    if (s->n == 0 && n->d && enter(r, back))
        sv_tpl_exec(r, n->d);
    r->scope = back;
}

/* The value of a set block or filter block: filters over the text of its body. */
static tval block_value(trun *r, const tnode *n)
{
    tval outer = r->block, v = TV_NONE;
    tscope *back = r->scope;
    if (enter(r, back))
        r->block = capture(r, n->body);
    r->scope = back;
    if (r->rc == SV_OK)
        v = eval(r, n->b);
    r->block = outer;
    return v;
}

static void print(trun *r, tval v)
{
    if (r->rc == SV_OK)
        sv_tpl_text(r, r->out, &v);
    check_out(r);
}

static void exec_scope(trun *r, const tnode *n)
{
    tscope *back = r->scope, *inner;
    if (!enter(r, back))
        return;
    inner = r->scope;
    for (int i = 0; i < n->n_kids && r->rc == SV_OK; i += 2) { /* the values of a `with` are seen from outside it */
        r->scope = back;
        tval v = eval(r, n->kids[i + 1]);
        r->scope = inner;
        assign(r, n->kids[i], v);
    }
    sv_tpl_exec(r, n->body);
    r->scope = back;
}

static void exec_any(trun *r, const tnode *n)
{
    tval v;
    switch ((nkind)n->kind) {
    case N_BLOCK:
        for (int i = 0; i < n->n_kids && r->rc == SV_OK && r->flow == FLOW_ON; i++)
            sv_tpl_exec(r, n->kids[i]);
        return;
    case N_TEXT:
        sv_tpl_burn(r, n->s.n / 32);
        sv_buf_add(r->out, n->s.p, n->s.n);
        check_out(r);
        return;
    case N_PRINT: print(r, eval(r, n->a)); return;
    case N_IF: exec_if(r, n); return;
    case N_FOR: exec_for(r, n); return;
    case N_SET: assign(r, n->a, eval(r, n->b)); return;
    case N_SETBLOCK: assign(r, n->a, block_value(r, n)); return;
    case N_FILTERBLOCK: print(r, block_value(r, n)); return;
    case N_MACRO: bind(r, n->sym, new_macro(r, n)); return;
    case N_CALLBLOCK:
        v = new_macro(r, n);
        print(r, call(r, n->a, &v));
        return;
    case N_WITH:
    case N_SCOPE: exec_scope(r, n); return;
    case N_BREAK: r->flow = FLOW_BREAK; return;
    case N_CONTINUE: r->flow = FLOW_CONTINUE; return;
    default: return; /* the parser makes no other */
    }
}

void sv_tpl_exec(trun *r, const tnode *n)
{
    r->line = n->line;
    if (sv_tpl_burn(r, 1) && sv_tpl_deeper(r))
        exec_any(r, n);
    r->depth--;
}
