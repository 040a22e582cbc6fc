/* template_lex.c - template source to tokens, as Jinja cuts it with trim_blocks and lstrip_blocks on
 *
 * White space is half of a chat template: models were trained on exact newlines. The rules, in the order they are applied to the
 * text before a tag and after it:
 *   before  {%- {{- {#-   all white space goes
 *           {% {#         blanks back to the start of the line go, if nothing else is on it; {%+ {#+ keep them; {{ always does
 *   after   -%} -}} -#}   all white space goes, newlines too
 *           %} #}         one newline goes; +%} +#} keep it; }} always does
 * The last newline of the source goes. CR LF and CR are newlines.
 *
 * Inside a tag `}}` and `%}` end it only where all brackets are closed: {{ {'a': {}} }} is one expression. */
#include <errno.h>
#include <math.h>

#include "models/template_impl.h"

#define MAX_SOURCE (1 << 20)

typedef struct lexer {
    const char *p;
    size_t n, i;
    int line;
    ttokens *out;
    sv_arena *mem;
    sv_err *err;
} lexer;

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c)
{
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (uint8_t)c >= 0x80;
}

static char at(const lexer *x, size_t i)
{
    return i < x->n ? x->p[i] : 0;
}

static bool looking_at(const lexer *x, const char *s)
{
    size_t n = strlen(s);
    return x->n - x->i >= n && memcmp(x->p + x->i, s, n) == 0;
}

static void advance(lexer *x, size_t to)
{
    for (; x->i < to; x->i++)
        x->line += x->p[x->i] == '\n';
}

static sv_rc emit(lexer *x, ttoken tok)
{
    ttokens *o = x->out;
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * o->cap : 256;
        ttoken *v = sv_try_realloc(o->v, cap, sizeof *v);
        if (!v)
            return sv_fail(x->err, SV_ENOMEM, "no memory for %zu template tokens", cap);
        o->v = v;
        o->cap = cap;
    }
    if (tok.line == 0)
        tok.line = x->line;
    o->v[o->n++] = tok;
    return SV_OK;
}

static void skip_blanks(lexer *x)
{
    advance(x, x->n - sv_tpl_strip((sv_str){x->p + x->i, x->n - x->i}, NULL, true, false).n);
}

/* The end of a tag: `sign` is the character before it. */
static void after_tag(lexer *x, char sign, bool eats_newline)
{
    if (sign == '-')
        skip_blanks(x);
    else if (sign != '+' && eats_newline && at(x, x->i) == '\n')
        advance(x, x->i + 1);
}

/* ---- literals ---- */

static size_t put_utf8(char *to, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t k = n; k-- > 1; c >>= 6)
        to[k] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(n == 1 ? c : (0xf00u >> n & 0xff) | c);
    return n;
}

/* Hex digits of \x, \u, \U at p; false: not so many, or no character. */
static bool hex_escape(const char *p, size_t left, size_t digits, uint32_t *c)
{
    *c = 0;
    if (left < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        char d = p[i];
        int v = is_digit(d) ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (v < 0)
            return false;
        *c = *c << 4 | (uint32_t)v;
    }
    return *c <= 0x10ffff && (*c < 0xd800 || *c > 0xdfff);
}

/* Decodes one backslash escape at p[0] == '\\'; returns the bytes it took, 0: broken. */
static size_t unescape(const char *p, size_t left, char *to, size_t *n_to)
{
    static const char from[] = "abfnrtv\\'\"", becomes[] = "\a\b\f\n\r\t\v\\'\"";
    const char *known = left > 1 && p[1] ? strchr(from, p[1]) : NULL;
    uint32_t c = 0;
    *n_to = 1;
    if (left < 2)
        return 0;
    if (known) {
        *to = becomes[known - from];
        return 2;
    }
    if (p[1] == '\n') {
        *n_to = 0;
        return 2;
    }
    if (p[1] >= '0' && p[1] <= '7') {
        size_t k = 1;
        for (; k < 4 && k < left && p[k] >= '0' && p[k] <= '7'; k++)
            c = c * 8 + (uint32_t)(p[k] - '0');
        *n_to = put_utf8(to, c);
        return k;
    }
    size_t digits = p[1] == 'x' ? 2 : p[1] == 'u' ? 4 : p[1] == 'U' ? 8 : 0;
    if (digits == 0) { /* not an escape: the backslash stays */
        *to = '\\';
        return 1;
    }
    if (!hex_escape(p + 2, left - 2, digits, &c))
        return 0;
    *n_to = put_utf8(to, c);
    return 2 + digits;
}

static sv_rc lex_string(lexer *x)
{
    char quote = x->p[x->i];
    size_t end = x->i + 1;
    while (end < x->n && x->p[end] != quote)
        end += x->p[end] == '\\' ? 2 : 1;
    if (end >= x->n)
        return sv_fail(x->err, SV_EFORMAT, "line %d: a string has no end", x->line);
    /* "\1" takes two bytes and makes one, "\777" four and two: no escape makes more than it takes. */
    char *to = sv_arena_alloc(x->mem, end - x->i, 1);
    if (!to)
        return sv_fail(x->err, SV_ENOMEM, "no memory for a string of %zu bytes", end - x->i);
    ttoken tok = {.type = TOK_STRING, .s = {to, 0}, .line = x->line};
    for (size_t i = x->i + 1; i < end;) {
        size_t n = 1;
        if (x->p[i] != '\\') {
            to[tok.s.n++] = x->p[i++];
            continue;
        }
        size_t took = unescape(x->p + i, end - i, to + tok.s.n, &n);
        if (took == 0)
            return sv_fail(x->err, SV_EFORMAT, "line %d: a broken escape in a string", x->line);
        i += took;
        tok.s.n += n;
    }
    advance(x, end + 1);
    return emit(x, tok);
}

static sv_rc lex_number(lexer *x)
{
    char digits[64];
    size_t i = x->i, n = 0;
    bool real = false, after_dot = x->i > 0 && x->p[x->i - 1] == '.'; /* a.0.1 is two subscripts */
    int base = 10;
    if (at(x, i) == '0' && strchr("xXoObB", at(x, i + 1)) && at(x, i + 1)) {
        base = strchr("xX", at(x, i + 1)) ? 16 : strchr("oO", at(x, i + 1)) ? 8 : 2;
        i += 2;
    }
    for (; i < x->n && n + 1 < sizeof digits; i++) {
        char c = x->p[i];
        bool dot = c == '.' && base == 10 && !after_dot && !real && is_digit(at(x, i + 1));
        bool exp = (c == 'e' || c == 'E') && base == 10 && !after_dot &&
                   (is_digit(at(x, i + 1)) || (strchr("+-", at(x, i + 1)) && is_digit(at(x, i + 2))));
        if (c == '_')
            continue;
        if (exp) {
            digits[n++] = c;
            if (!is_digit(at(x, i + 1)) && n + 1 < sizeof digits)
                digits[n++] = x->p[++i];
        } else if (!dot && !(base == 16 ? is_name(c) : is_digit(c))) {
            break;
        } else {
            digits[n++] = c;
        }
        real = real || dot || exp;
    }
    digits[n] = 0;
    char *end = digits;
    ttoken tok = {.type = real ? TOK_REAL : TOK_INTEGER, .line = x->line};
    errno = 0;
    if (real)
        tok.f = strtod(digits, &end);
    else
        tok.i = strtoll(digits, &end, base);
    if (n == 0 || *end || (!real && errno) || (real && !isfinite(tok.f)))
        return sv_fail(x->err, SV_EFORMAT, "line %d: '%.40s' is no number", x->line, digits);
    advance(x, i);
    return emit(x, tok);
}

static sv_rc lex_operator(lexer *x, int *n_open)
{
    static const char *const two[] = {"//", "**", "==", "!=", "<=", ">="};
    ttoken tok = {.type = TOK_OP, .line = x->line};
    for (size_t i = 0; i < SV_LEN(two); i++)
        if (looking_at(x, two[i])) {
            tok.op = OP2(two[i][0], two[i][1]);
            advance(x, x->i + 2);
            return emit(x, tok);
        }
    char c = x->p[x->i];
    if (!c || !strchr("+-/*%~[](){}<>=.:|,", c))
        return sv_fail(x->err, SV_EFORMAT, "line %d: unexpected character '%c'", x->line, c >= ' ' && c < 127 ? c : '?');
    if (strchr("([{", c))
        ++*n_open;
    else if (strchr(")]}", c) && --*n_open < 0)
        return sv_fail(x->err, SV_EFORMAT, "line %d: '%c' closes nothing", x->line, c);
    tok.op = c;
    advance(x, x->i + 1);
    return emit(x, tok);
}

/* ---- the inside of a tag ---- */

static sv_rc lex_inside(lexer *x, bool tag)
{
    int n_open = 0, line = x->line;
    const char *end = tag ? "%}" : "}}";
    for (;;) {
        skip_blanks(x);
        if (x->i >= x->n)
            return sv_fail(x->err, SV_EFORMAT, "line %d: '%s' has no '%s'", line, tag ? "{%" : "{{", end);
        char c = x->p[x->i];
        bool sign = c == '-' || (tag && c == '+');
        if (n_open == 0 && at(x, x->i + sign) == end[0] && at(x, x->i + sign + 1) == end[1]) {
            advance(x, x->i + sign + 2);
            if (emit(x, (ttoken){.type = tag ? TOK_TAG_END : TOK_VAR_END}) != SV_OK)
                return x->err->code;
            after_tag(x, sign ? c : 0, tag);
            return SV_OK;
        }
        sv_rc rc;
        if (c == '\'' || c == '"') {
            rc = lex_string(x);
        } else if (is_digit(c)) {
            rc = lex_number(x);
        } else if (is_name(c)) {
            size_t to = x->i;
            while (is_name(at(x, to)))
                to++;
            rc = emit(x, (ttoken){.type = TOK_NAME, .s = {x->p + x->i, to - x->i}});
            x->i = to;
        } else {
            rc = lex_operator(x, &n_open);
        }
        if (rc != SV_OK)
            return rc;
    }
}

/* ---- text between tags ---- */

/* What is left of text before a tag of this kind and sign. */
static sv_str before_tag(sv_str text, char kind, char sign, bool at_line_start)
{
    if (sign == '-')
        return sv_tpl_strip(text, NULL, false, true);
    if (sign == '+' || kind == '{')
        return text;
    const char *nl = memrchr(text.p, '\n', text.n);
    size_t line = nl ? (size_t)(nl - text.p) + 1 : 0;
    bool alone = (nl || at_line_start) && sv_tpl_strip((sv_str){text.p + line, text.n - line}, NULL, true, false).n == 0;
    return alone ? (sv_str){text.p, line} : text;
}

static sv_rc emit_data(lexer *x, sv_str s)
{
    return s.n == 0 ? SV_OK : emit(x, (ttoken){.type = TOK_DATA, .s = s});
}

static sv_rc lex_comment(lexer *x)
{
    const char *end = memmem(x->p + x->i, x->n - x->i, "#}", 2);
    if (!end)
        return sv_fail(x->err, SV_EFORMAT, "line %d: a comment has no '#}'", x->line);
    size_t to = (size_t)(end - x->p);
    char sign = to > x->i ? x->p[to - 1] : 0;
    advance(x, to + 2);
    after_tag(x, sign, true);
    return SV_OK;
}

/* At i stands [-+]? blanks WORD blanks [-+]? %}: the offset after it, with the closing sign; 0: something else stands there. */
static size_t match_word_tag(const lexer *x, size_t i, const char *word, char *sign)
{
    size_t n = strlen(word);
    i += at(x, i) == '-' || at(x, i) == '+';
    while (is_blank(at(x, i)))
        i++;
    if (x->n - i < n || memcmp(x->p + i, word, n) != 0)
        return 0;
    for (i += n; is_blank(at(x, i));)
        i++;
    *sign = at(x, i) == '-' || at(x, i) == '+' ? x->p[i] : 0;
    i += *sign != 0;
    return at(x, i) == '%' && at(x, i + 1) == '}' ? i + 2 : 0;
}

static sv_rc lex_raw(lexer *x, size_t body, char open_sign)
{
    int line = x->line;
    advance(x, body);
    if (open_sign == '-')
        skip_blanks(x);
    for (size_t i = x->i; i + 1 < x->n; i++) {
        char sign;
        size_t end = x->p[i] == '{' && x->p[i + 1] == '%' ? match_word_tag(x, i + 2, "endraw", &sign) : 0;
        if (end == 0)
            continue;
        char before = at(x, i + 2) == '-' || at(x, i + 2) == '+' ? x->p[i + 2] : 0;
        sv_str text = before_tag((sv_str){x->p + x->i, i - x->i}, '%', before, false);
        if (emit_data(x, text) != SV_OK)
            return x->err->code;
        advance(x, end);
        after_tag(x, sign, true);
        return SV_OK;
    }
    return sv_fail(x->err, SV_EFORMAT, "line %d: 'raw' has no 'endraw'", line);
}

/* The next "{{", "{%" or "{#" from i, or n. */
static size_t next_tag(const lexer *x)
{
    for (size_t i = x->i; i + 1 < x->n; i++)
        if (x->p[i] == '{' && (x->p[i + 1] == '{' || x->p[i + 1] == '%' || x->p[i + 1] == '#'))
            return i;
    return x->n;
}

static sv_rc lex_all(lexer *x)
{
    while (x->i < x->n) {
        size_t tag = next_tag(x);
        char kind = at(x, tag + 1), sign = at(x, tag + 2), raw_sign;
        if (sign != '-' && sign != '+')
            sign = 0;
        sv_str text = {x->p + x->i, tag - x->i};
        bool line_start = x->i == 0 || x->p[x->i - 1] == '\n';
        if (tag < x->n)
            text = before_tag(text, kind, sign, line_start);
        if (emit_data(x, text) != SV_OK)
            return x->err->code;
        advance(x, tag);
        if (tag == x->n)
            break;

        size_t raw = kind == '%' ? match_word_tag(x, tag + 2, "raw", &raw_sign) : 0;
        advance(x, tag + 2 + (sign != 0));
        sv_rc rc;
        if (kind == '#')
            rc = lex_comment(x);
        else if (raw)
            rc = lex_raw(x, raw, raw_sign);
        else if ((rc = emit(x, (ttoken){.type = kind == '%' ? TOK_TAG_BEGIN : TOK_VAR_BEGIN})) == SV_OK)
            rc = lex_inside(x, kind == '%');
        if (rc != SV_OK)
            return rc;
    }
    return emit(x, (ttoken){.type = TOK_END});
}

sv_rc sv_tpl_lex(ttokens *out, sv_arena *mem, sv_str source, sv_err *err)
{
    if (source.n > MAX_SOURCE)
        return sv_fail(err, SV_ELIMIT, "the template has %zu bytes, at most %d are read", source.n, MAX_SOURCE);
    if (!sv_utf8_valid(source))
        return sv_fail(err, SV_EFORMAT, "the template is not valid UTF-8");
    char *copy = sv_arena_alloc(mem, source.n + 1, 1);
    if (!copy)
        return sv_fail(err, SV_ENOMEM, "no memory for a template of %zu bytes", source.n);
    size_t n = 0;
    for (size_t i = 0; i < source.n; i++) {
        bool crlf = source.p[i] == '\r' && i + 1 < source.n && source.p[i + 1] == '\n';
        if (!crlf)
            copy[n++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    n -= n > 0 && copy[n - 1] == '\n';
    lexer x = {.p = copy, .n = n, .line = 1, .out = out, .mem = mem, .err = err};
    return lex_all(&x);
}
