/* pattern_parse.c - from the text of a pattern to the code of an automaton
 *
 * One pass, no tree and no recursion: the code of what has been read is always a closed run of instructions with relative jumps,
 * entered at its first and left past its last. A quantifier puts a split before such a run or a jump behind it, {2,3} copies it,
 * and "|" closes an alternative with a jump whose target the end of the group fills in. Open groups lie on a small stack.
 *
 * Sets are lists of ranges; \p{L} is written out from the category table, since complement and union are then the same few lines
 * for everything. */
#include "models/pattern_impl.h"

#include <string.h>

#include "base/mem.h"
#include "models/unicode.h"

enum { MAX_DEPTH = 16, MAX_REPEAT = 256 };

typedef struct group {
    int32_t start;     /* of the group's code */
    int32_t alternative; /* start of the code of the open alternative */
    int32_t last_jump; /* chain of jumps to the end of the group, through `a`; -1: none */
    bool fold;         /* (?i: */
} group;

typedef struct parser {
    pat_program *out;
    sv_str src;
    size_t at;
    group groups[MAX_DEPTH];
    int n_groups;
    sv_err *err;
} parser;

static sv_rc refuse(parser *p, const char *what)
{
    return sv_fail(p->err, SV_EFORMAT, "pattern, byte %zu: %s", p->at, what);
}

/* ---- sets ---- */

static sv_rc set_add(parser *p, pat_set *s, uint32_t first, uint32_t last)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        void *r = sv_try_realloc(s->r, cap, sizeof *s->r);
        if (!r)
            return sv_fail(p->err, SV_ENOMEM, "no memory for a pattern");
        s->r = r;
        s->cap = cap;
    }
    s->r[s->n][0] = first;
    s->r[s->n++][1] = last;
    return SV_OK;
}

static int by_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void set_close(pat_set *s)
{
    size_t n = 0;
    if (s->n > 0)
        qsort(s->r, s->n, sizeof *s->r, by_first);
    for (size_t i = 0; i < s->n; i++) {
        if (n > 0 && s->r[i][0] <= s->r[n - 1][1] + 1)
            s->r[n - 1][1] = s->r[i][1] > s->r[n - 1][1] ? s->r[i][1] : s->r[n - 1][1];
        else
            memmove(s->r[n++], s->r[i], sizeof *s->r);
    }
    s->n = n;
}

static sv_rc set_complement(parser *p, pat_set *s)
{
    uint32_t next = 0;
    pat_set out = {0};
    sv_rc rc = SV_OK;
    set_close(s);
    for (size_t i = 0; i < s->n && rc == SV_OK; i++) {
        if (s->r[i][0] > next)
            rc = set_add(p, &out, next, s->r[i][0] - 1);
        next = s->r[i][1] + 1;
    }
    if (rc == SV_OK && next <= SV_UNI_MAX)
        rc = set_add(p, &out, next, SV_UNI_MAX);
    free(s->r);
    *s = out;
    return rc;
}

static sv_rc set_categories(parser *p, pat_set *s, uint32_t mask)
{
    uint32_t last;
    for (uint32_t c = 0; c <= SV_UNI_MAX; c = last + 1)
        if ((mask >> sv_uni_category_run(c, &last) & 1) && set_add(p, s, c, last) != SV_OK)
            return p->err->code;
    return SV_OK;
}

/* "L", "Lu", ... to a mask of categories; 0: no such name */
static uint32_t category_mask(sv_str name)
{
    static const char names[] = "CcCfCnCoCsLlLmLoLtLuMcMeMnNdNlNoPcPdPePfPiPoPsScSkSmSoZlZpZs";
    uint32_t mask = 0;
    if (sv_str_is(name, "Letter"))
        name = SV_STR("L");
    if (sv_str_is(name, "Number"))
        name = SV_STR("N");
    if (sv_str_is(name, "Punctuation"))
        name = SV_STR("P");
    for (uint32_t i = 0; i < SV_UNI_N_CATEGORIES; i++)
        if ((name.n == 1 || name.n == 2) && memcmp(names + 2 * i, name.p, name.n) == 0)
            mask |= 1u << i;
    return mask;
}

static uint32_t word_mask(void)
{
    return category_mask(SV_STR("L")) | category_mask(SV_STR("M")) | 1u << SV_UNI_ND | 1u << SV_UNI_NL | 1u << SV_UNI_PC;
}

static sv_rc set_spaces(parser *p, pat_set *s)
{
    for (uint32_t c = 0; c <= 0x3000; c++)
        if (sv_uni_is_space(c) && set_add(p, s, c, c) != SV_OK)
            return p->err->code;
    return SV_OK;
}

/* Case-insensitive: what folds to the same letter. The long s and the Kelvin sign are the only ASCII letters in disguise. */
static sv_rc set_fold(parser *p, pat_set *s)
{
    size_t n = s->n;
    for (size_t i = 0; i < n; i++) {
        uint32_t first = s->r[i][0], last = s->r[i][1];
        if (last - first > 1024)
            continue;
        for (uint32_t c = first; c <= last; c++) {
            uint32_t to[3];
            if (sv_uni_lower(c, to) == 1 && set_add(p, s, to[0], to[0]) != SV_OK)
                return p->err->code;
            if (sv_uni_upper(c, to) == 1 && set_add(p, s, to[0], to[0]) != SV_OK)
                return p->err->code;
            if ((c | 0x20) == 's' && set_add(p, s, 0x17f, 0x17f) != SV_OK)
                return p->err->code;
            if ((c | 0x20) == 'k' && set_add(p, s, 0x212a, 0x212a) != SV_OK)
                return p->err->code;
        }
    }
    return SV_OK;
}

/* ---- reading ---- */

static bool more(const parser *p) { return p->at < p->src.n; }

static bool next_is(const parser *p, const char *s)
{
    size_t n = strlen(s);
    return p->src.n - p->at >= n && memcmp(p->src.p + p->at, s, n) == 0;
}

static bool take(parser *p, const char *s)
{
    bool is = next_is(p, s);
    p->at += is ? strlen(s) : 0;
    return is;
}

static uint32_t take_char(parser *p)
{
    uint32_t c;
    p->at += sv_uni_get(p->src.p + p->at, p->src.n - p->at, &c);
    return c;
}

static sv_rc take_hex(parser *p, size_t n_fixed, uint32_t *c)
{
    bool braced = take(p, "{");
    size_t n = 0;
    *c = 0;
    for (; more(p) && n < (braced ? 6 : n_fixed); n++, p->at++) {
        char d = p->src.p[p->at];
        int v = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (v < 0)
            break;
        *c = *c * 16 + (uint32_t)v;
    }
    if ((braced && (n == 0 || !take(p, "}"))) || (!braced && n != n_fixed) || *c > SV_UNI_MAX)
        return refuse(p, "broken hexadecimal escape");
    return SV_OK;
}

/* \p{Lu} \P{L} \p{^L} \pL, the letter p or P taken already */
static sv_rc take_property(parser *p, pat_set *s, bool negate)
{
    sv_str name = {p->src.p + p->at, 1};
    if (take(p, "{")) {
        if (take(p, "^"))
            negate = !negate;
        const char *from = p->src.p + p->at, *end = memchr(from, '}', p->src.n - p->at);
        if (!end)
            return refuse(p, "\\p without its }");
        name = (sv_str){from, (size_t)(end - from)};
        p->at += name.n + 1;
    } else if (more(p)) {
        p->at++;
    } else {
        return refuse(p, "\\p without a name");
    }
    uint32_t mask = category_mask(name);
    if (mask == 0)
        return refuse(p, "a property that is not a general category");
    return set_categories(p, s, negate ? ~mask : mask);
}

/* Behind a backslash: a set of characters, or one, which is also in *single (else UINT32_MAX). */
static sv_rc take_escape(parser *p, pat_set *s, uint32_t *single)
{
    if (!more(p))
        return refuse(p, "a backslash at the end");
    uint32_t c = take_char(p), one = c;
    pat_set tmp = {0};
    sv_rc rc = SV_OK;
    *single = UINT32_MAX;
    switch (c) {
    case 'p': case 'P': return take_property(p, s, c == 'P');
    case 's': return set_spaces(p, s);
    case 'd': return set_categories(p, s, 1u << SV_UNI_ND);
    case 'D': return set_categories(p, s, ~(1u << SV_UNI_ND));
    case 'w': return set_categories(p, s, word_mask());
    case 'W': return set_categories(p, s, ~word_mask());
    case 'S':
        if ((rc = set_spaces(p, &tmp)) == SV_OK)
            rc = set_complement(p, &tmp);
        for (size_t i = 0; i < tmp.n && rc == SV_OK; i++)
            rc = set_add(p, s, tmp.r[i][0], tmp.r[i][1]);
        free(tmp.r);
        return rc;
    case 'n': one = '\n'; break;
    case 'r': one = '\r'; break;
    case 't': one = '\t'; break;
    case 'f': one = '\f'; break;
    case 'v': one = '\v'; break;
    case 'x': rc = take_hex(p, 2, &one); break;
    case 'u': rc = take_hex(p, 4, &one); break;
    default:
        if (c < 0x80 && ((c | 32) >= 'a' && (c | 32) <= 'z'))
            return refuse(p, "an escape that is not known");
        if (c >= '0' && c <= '9')
            return refuse(p, "a back reference");
    }
    *single = one;
    return rc == SV_OK ? set_add(p, s, one, one) : rc;
}

/* Inside brackets; the opening one is taken. Nested classes are united with what is around them. */
static sv_rc take_class(parser *p, pat_set *out)
{
    struct { pat_set set; bool negate; } open[4] = {0};
    int n = 0;
    sv_rc rc = SV_OK;
    open[0].negate = take(p, "^");
    for (bool first = true; rc == SV_OK; first = false) {
        uint32_t c = UINT32_MAX, last;
        pat_set *s = &open[n].set;
        if (!more(p)) {
            rc = refuse(p, "a class without its ]");
        } else if (next_is(p, "&&") || next_is(p, "[:")) {
            rc = refuse(p, "intersections and POSIX names in classes are not supported");
        } else if (!first && take(p, "]")) {
            if (open[n].negate && (rc = set_complement(p, s)) != SV_OK)
                break;
            if (n == 0)
                break;
            for (size_t i = 0; i < s->n && rc == SV_OK; i++)
                rc = set_add(p, &open[n - 1].set, s->r[i][0], s->r[i][1]);
            free(s->r);
            *s = (pat_set){0};
            n--;
        } else if (take(p, "[")) {
            if (n + 1 == (int)SV_LEN(open)) {
                rc = refuse(p, "classes nest too deep");
                break;
            }
            open[++n].negate = take(p, "^");
        } else if (take(p, "\\")) {
            rc = take_escape(p, s, &c);
        } else {
            c = take_char(p);
            rc = set_add(p, s, c, c);
        }
        if (rc == SV_OK && c != UINT32_MAX && next_is(p, "-") && p->at + 1 < p->src.n && p->src.p[p->at + 1] != ']') {
            p->at++;
            pat_set scratch = {0};
            last = UINT32_MAX;
            if (take(p, "\\"))
                rc = take_escape(p, &scratch, &last);
            else
                last = take_char(p);
            free(scratch.r);
            if (rc == SV_OK && (last == UINT32_MAX || last < c))
                rc = refuse(p, "a range that ends before it begins");
            if (rc == SV_OK)
                rc = set_add(p, s, c, last);
        }
    }
    if (rc == SV_OK)
        *out = open[0].set;
    else
        free(open[0].set.r);
    for (size_t i = 1; i < SV_LEN(open); i++)
        free(open[i].set.r);
    return rc;
}

/* ---- code ---- */

static sv_rc emit(parser *p, int32_t at, pat_inst inst)
{
    pat_program *o = p->out;
    if (o->n_code == PAT_MAX_CODE)
        return refuse(p, "the pattern is too long");
    memmove(&o->code[at + 1], &o->code[at], (size_t)(o->n_code - at) * sizeof *o->code);
    o->code[at] = inst;
    o->n_code++;
    return SV_OK;
}

/* Gives the set an index; takes its memory in any case. */
static sv_rc intern(parser *p, pat_set s, int32_t *index)
{
    pat_program *o = p->out;
    set_close(&s);
    for (int32_t i = 0; i < o->n_sets; i++)
        if (o->sets[i].n == s.n && (s.n == 0 || memcmp(o->sets[i].r, s.r, s.n * sizeof *s.r) == 0)) {
            free(s.r);
            *index = i;
            return SV_OK;
        }
    if (o->n_sets == PAT_MAX_SETS) {
        free(s.r);
        return refuse(p, "too many different sets of characters");
    }
    o->sets[*index = o->n_sets++] = s;
    return SV_OK;
}

static sv_rc take_set(parser *p, pat_set *s)
{
    uint32_t c;
    if (take(p, "["))
        return take_class(p, s);
    if (take(p, "\\"))
        return take_escape(p, s, &c);
    if (take(p, ".")) {
        sv_rc rc = set_add(p, s, '\n', '\n');
        return rc == SV_OK ? set_complement(p, s) : rc;
    }
    c = take_char(p);
    return set_add(p, s, c, c);
}

/* One set as an instruction at the end of the code: a character, or a look at the next one. */
static sv_rc emit_set(parser *p, pat_inst inst)
{
    pat_set s = {0};
    sv_rc rc = take_set(p, &s);
    if (rc == SV_OK && p->groups[p->n_groups - 1].fold)
        rc = set_fold(p, &s);
    if (rc != SV_OK) {
        free(s.r);
        return rc;
    }
    rc = intern(p, s, &inst.a);
    return rc == SV_OK ? emit(p, p->out->n_code, inst) : rc;
}

static sv_rc open_group(parser *p, bool fold)
{
    if (p->n_groups == MAX_DEPTH)
        return refuse(p, "groups nest too deep");
    p->groups[p->n_groups++] = (group){p->out->n_code, p->out->n_code, -1, fold};
    return SV_OK;
}

static sv_rc next_alternative(parser *p)
{
    group *g = &p->groups[p->n_groups - 1];
    int32_t n = p->out->n_code - g->alternative;
    if (emit(p, g->alternative, (pat_inst){.op = OP_SPLIT, .a = 1, .b = n + 2}) != SV_OK ||
        emit(p, p->out->n_code, (pat_inst){.op = OP_JUMP, .a = g->last_jump}) != SV_OK)
        return p->err->code;
    g->last_jump = p->out->n_code - 1;
    g->alternative = p->out->n_code;
    return SV_OK;
}

static void close_group(parser *p)
{
    group *g = &p->groups[--p->n_groups];
    for (int32_t at = g->last_jump, before; at >= 0; at = before) {
        before = p->out->code[at].a;
        p->out->code[at].a = p->out->n_code - at;
    }
}

/* The run from `start` to the end becomes optional, or repeats. */
static sv_rc quantify(parser *p, int32_t start, char kind, bool lazy)
{
    int32_t n = p->out->n_code - start;
    pat_inst skip = {.op = OP_SPLIT, .a = 1, .b = n + (kind == '*' ? 2 : 1)}, back = {.op = OP_JUMP, .a = -(n + 1)};
    if (kind == '+') {
        back = (pat_inst){.op = OP_SPLIT, .a = lazy ? 1 : -n, .b = lazy ? -n : 1};
        return emit(p, p->out->n_code, back);
    }
    if (lazy)
        skip = (pat_inst){.op = OP_SPLIT, .a = skip.b, .b = 1};
    if (emit(p, start, skip) != SV_OK)
        return p->err->code;
    return kind == '*' ? emit(p, p->out->n_code, back) : SV_OK;
}

static sv_rc copy_code(parser *p, int32_t from, int32_t n)
{
    if (p->out->n_code + n > PAT_MAX_CODE)
        return refuse(p, "the pattern is too long");
    memcpy(&p->out->code[p->out->n_code], &p->out->code[from], (size_t)n * sizeof *p->out->code);
    p->out->n_code += n;
    return SV_OK;
}

static bool take_number(parser *p, int *v)
{
    size_t from = p->at;
    for (*v = 0; more(p) && p->src.p[p->at] >= '0' && p->src.p[p->at] <= '9' && *v < 10000; p->at++)
        *v = *v * 10 + (p->src.p[p->at] - '0');
    return p->at > from;
}

/* {n}, {n,}, {n,m}: copies; the optional ones nest, x(x(x)?)?, which is the order in which greedy and lazy try them. */
static sv_rc repeat(parser *p, int32_t start)
{
    int lo, hi;
    int32_t n = p->out->n_code - start;
    if (!take_number(p, &lo))
        return refuse(p, "broken repetition");
    hi = lo;
    if (take(p, ",") && !take_number(p, &hi))
        hi = -1;
    if (!take(p, "}") || lo > MAX_REPEAT || hi > MAX_REPEAT || (hi >= 0 && hi < lo) || hi == 0)
        return refuse(p, "broken repetition, or one above 256");
    bool lazy = take(p, "?");
    (void)(lazy || take(p, "+"));
    if (lo == 0 && hi < 0)
        return quantify(p, start, '*', lazy);
    for (int i = 1; i < lo; i++)
        if (copy_code(p, start, n) != SV_OK)
            return p->err->code;
    if (hi < 0)
        return quantify(p, p->out->n_code - n, '+', lazy);
    int32_t first_optional = lo == 0 ? start : p->out->n_code;
    for (int i = lo == 0 ? 1 : lo; i < hi; i++)
        if (copy_code(p, start, n) != SV_OK)
            return p->err->code;
    int n_optional = hi - lo;
    for (int i = n_optional; i-- > 0;) /* innermost, the last, first: what is inserted moves nothing before it */
        if (quantify(p, first_optional + i * n, '?', lazy) != SV_OK)
            return p->err->code;
    return SV_OK;
}

static sv_rc take_quantifier(parser *p, int32_t start)
{
    if (take(p, "{"))
        return repeat(p, start);
    if (!next_is(p, "*") && !next_is(p, "+") && !next_is(p, "?"))
        return SV_OK;
    char kind = p->src.p[p->at++];
    bool lazy = take(p, "?");
    (void)(lazy || take(p, "+")); /* possessive: see pattern.h */
    if (next_is(p, "*") || next_is(p, "+") || next_is(p, "?") || next_is(p, "{"))
        return refuse(p, "a quantifier behind a quantifier");
    return quantify(p, start, kind, lazy);
}

static sv_rc take_look(parser *p, bool negate)
{
    pat_inst look = {.op = OP_LOOK, .negate = negate, .end = negate};
    if (emit_set(p, look) != SV_OK)
        return p->err->code;
    return take(p, ")") ? SV_OK : refuse(p, "a lookahead may hold one character or class");
}

static sv_rc take_group(parser *p)
{
    bool fold = p->groups[p->n_groups - 1].fold;
    if (take(p, "?=") || take(p, "?!"))
        return take_look(p, p->src.p[p->at - 1] == '!');
    if (take(p, "?i:"))
        fold = true;
    else if (!take(p, "?:") && next_is(p, "?"))
        return refuse(p, "a group that is not known");
    return open_group(p, fold);
}

sv_rc sv_pat_parse(pat_program *out, sv_str source, sv_err *err)
{
    parser p = {.out = out, .src = source, .err = err};
    sv_rc rc = open_group(&p, false);
    if (rc == SV_OK && take(&p, "(?i)"))
        p.groups[0].fold = true;
    while (rc == SV_OK && more(&p)) {
        int32_t start = out->n_code;
        if (take(&p, "|")) {
            rc = next_alternative(&p);
            continue;
        }
        if (take(&p, "(")) {
            int before = p.n_groups;
            rc = take_group(&p);
            if (p.n_groups > before)
                continue;
        } else if (take(&p, ")")) {
            if (p.n_groups == 1)
                return refuse(&p, "a ) that closes nothing");
            start = p.groups[p.n_groups - 1].start;
            close_group(&p);
        } else if (take(&p, "$")) {
            int32_t none;
            rc = intern(&p, (pat_set){0}, &none);
            if (rc == SV_OK)
                rc = emit(&p, out->n_code, (pat_inst){.op = OP_LOOK, .a = none, .end = true});
        } else if (next_is(&p, "^") || next_is(&p, "*") || next_is(&p, "+") || next_is(&p, "?") || next_is(&p, "{")) {
            rc = refuse(&p, "a quantifier without anything before it, or ^");
        } else {
            rc = emit_set(&p, (pat_inst){.op = OP_SET});
        }
        if (rc == SV_OK)
            rc = take_quantifier(&p, start);
    }
    if (rc == SV_OK && p.n_groups != 1)
        rc = refuse(&p, "a group without its )");
    if (rc != SV_OK)
        return rc;
    close_group(&p);
    return emit(&p, out->n_code, (pat_inst){.op = OP_MATCH});
}

void sv_pat_program_done(pat_program *p)
{
    for (int32_t i = 0; i < p->n_sets; i++)
        free(p->sets[i].r);
}
