/* sql.c - reads the query by recursive descent and writes SQLite's SQL beside it
 *
 * Every expression becomes a rope (pieces of text and ropes) with a type. Ropes, since an expression's text is needed again wherever its alias
 * is used: ClickHouse lets WHERE, GROUP BY and other columns name an alias, SQLite does not let all of them, so we put the expression itself
 * there. They are written out once, at the end, into a buffer with a cap: aliases of aliases may double with every step.
 *
 * FROM is read before the columns, because it says which columns there are.
 *
 * Dates: a DateTime is a text 'YYYY-MM-DD hh:mm:ss' in UTC, which sorts and compares as time does, so a range of time is a range of an
 * index. Intervals exist only as the right side of + and -, or as an argument of toStartOfInterval.
 *
 * Source: the SQL reference of the Analytics Engine; ClickHouse's manual for what its functions give. */
#include "analytics/sql.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"

enum { MAX_DEPTH = 100, MAX_ARGS = 4, MAX_ROPE_DEPTH = 2000 };

/* ---- tokens ---- */

typedef enum token_kind { T_END, T_NAME, T_QUOTED, T_STRING, T_NUMBER, T_SIGN } token_kind;
typedef struct token {
    token_kind kind;
    sv_str text;  /* as written */
    sv_str value; /* of T_QUOTED and T_STRING: unescaped */
} token;

typedef struct rope rope;
typedef struct piece { sv_str text; const rope *sub; struct piece *next; } piece;
struct rope { piece *first, *last; int depth; };

typedef struct expr {
    const rope *r;
    sv_ae_type type;
    int64_t n;         /* SV_AE_INTERVAL: how many */
    const char *unit;  /* and of what: "second" ... "year" */
    const token *string; /* the expression is this literal */
} expr;

typedef struct named { sv_str name; expr e; struct named *next; } named;
typedef struct scope {
    bool table;          /* the columns of a dataset, else `columns` of a subquery */
    named *columns;
    named *aliases;
} scope;

typedef struct parser {
    sv_arena *a;
    sv_str text;
    token *t; /* up to T_END */
    size_t n, i;
    int depth;
    sv_ae_query *q;
    sv_err *err;
} parser;

static const char *const type_names[] = {"String", "UInt8", "UInt32", "UInt64", "Int64", "Float64", "DateTime", "Date", "Array(String)", "Interval"};
const char *sv_ae_type_name(sv_ae_type t) { return type_names[t]; }

void sv_ae_query_done(sv_ae_query *q) { sv_buf_done(&q->sql); }

static sv_rc no_memory(parser *p) { return sv_fail(p->err, SV_ENOMEM, "out of memory for the query"); }

/* Refuses at the token that is looked at. */
static sv_rc SV_PRINTF(2, 3) refuse(parser *p, const char *fmt, ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    const token *t = &p->t[p->i];
    if (t->kind == T_END)
        return sv_fail(p->err, SV_EINVAL, "at the end of the query: %s", what);
    return sv_fail(p->err, SV_EINVAL, "at character %zu, '%.*s': %s", (size_t)(t->text.p - p->text.p) + 1, (int)(t->text.n > 40 ? 40 : t->text.n), t->text.p, what);
}

static bool name_char(char c) { return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80; }

/* 'it''s', 'it\'s', "a name", `a name`: returns the length with its quotes, 0 if it does not end. */
static size_t quoted(parser *p, const char *s, size_t n, sv_str *value)
{
    char *v = sv_arena_alloc(p->a, n, 1);
    size_t m = 0;
    for (size_t i = 1; v && i < n; i++) {
        if (s[i] == s[0] && i + 1 < n && s[i + 1] == s[0])
            v[m++] = s[i++];
        else if (s[i] == s[0]) {
            *value = (sv_str){v, m};
            return i + 1;
        } else if (s[i] == '\\' && i + 1 < n) {
            char c = s[++i];
            v[m++] = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        } else
            v[m++] = s[i];
    }
    return 0;
}

static size_t comment(const char *s, size_t n)
{
    if (n >= 2 && s[0] == '-' && s[1] == '-') {
        const char *e = memchr(s, '\n', n);
        return e ? (size_t)(e - s) : n;
    }
    if (n >= 2 && s[0] == '/' && s[1] == '*')
        for (size_t i = 2; i + 1 < n; i++)
            if (s[i] == '*' && s[i + 1] == '/')
                return i + 2;
    return 0;
}

static size_t number(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (isdigit((unsigned char)s[i]) || s[i] == '.'))
        i++;
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        size_t j = i + 1 + (i + 1 < n && (s[i + 1] == '+' || s[i + 1] == '-'));
        if (j < n && isdigit((unsigned char)s[j]))
            for (i = j; i < n && isdigit((unsigned char)s[i]);)
                i++;
    }
    return i;
}

static sv_rc next_token(parser *p, const char *s, size_t n, token *t)
{
    static const char *const pairs[] = {"<=", ">=", "!=", "<>", "=="};
    size_t len = 1;
    t->kind = T_SIGN;
    if (isdigit((unsigned char)s[0]) || (s[0] == '.' && n > 1 && isdigit((unsigned char)s[1]))) {
        t->kind = T_NUMBER;
        len = number(s, n);
    } else if (name_char(s[0])) {
        t->kind = T_NAME;
        while (len < n && name_char(s[len]))
            len++;
    } else if (s[0] == '\'' || s[0] == '"' || s[0] == '`') {
        t->kind = s[0] == '\'' ? T_STRING : T_QUOTED;
        len = quoted(p, s, n, &t->value);
        if (len == 0)
            return sv_fail(p->err, SV_EINVAL, "at character %zu: the %c is never closed", (size_t)(s - p->text.p) + 1, s[0]);
    } else {
        for (size_t i = 0; i < SV_LEN(pairs); i++)
            if (n > 1 && memcmp(s, pairs[i], 2) == 0)
                len = 2;
        if (len == 1 && !memchr("(),*+-/%<>=.;", s[0], 13))
            return sv_fail(p->err, SV_EINVAL, "at character %zu: '%c' means nothing here", (size_t)(s - p->text.p) + 1, isprint((unsigned char)s[0]) ? s[0] : '?');
    }
    t->text = (sv_str){s, len};
    return SV_OK;
}

static sv_rc tokenize(parser *p)
{
    p->t = sv_arena_new(p->a, token, SV_AE_MAX_TOKENS + 1);
    if (!p->t)
        return no_memory(p);
    for (size_t at = 0; at < p->text.n;) {
        const char *s = p->text.p + at;
        size_t n = p->text.n - at, skip = isspace((unsigned char)*s) ? 1 : comment(s, n);
        if (skip) {
            at += skip;
            continue;
        }
        if (p->n == SV_AE_MAX_TOKENS)
            return sv_fail(p->err, SV_EINVAL, "the query has more than %d words and signs", SV_AE_MAX_TOKENS);
        if (next_token(p, s, n, &p->t[p->n]) != SV_OK)
            return p->err->code;
        at += p->t[p->n++].text.n;
    }
    p->t[p->n].text = (sv_str){p->text.p + p->text.n, 0};
    return SV_OK;
}

static bool is_word(const token *t, const char *word) { return t->kind == T_NAME && sv_str_ieq(t->text, word); }
static bool at_word(const parser *p, const char *word) { return is_word(&p->t[p->i], word); }
static bool at_sign(const parser *p, const char *sign) { return p->t[p->i].kind == T_SIGN && sv_str_is(p->t[p->i].text, sign); }

static bool take_word(parser *p, const char *word)
{
    bool yes = at_word(p, word);
    p->i += yes;
    return yes;
}

static bool take_sign(parser *p, const char *sign)
{
    bool yes = at_sign(p, sign);
    p->i += yes;
    return yes;
}

static sv_rc need_sign(parser *p, const char *sign) { return take_sign(p, sign) ? SV_OK : refuse(p, "'%s' is expected", sign); }
static sv_rc need_word(parser *p, const char *word) { return take_word(p, word) ? SV_OK : refuse(p, "%s is expected", word); }

/* ---- ropes ---- */

static bool add_piece(parser *p, rope *r, sv_str text, const rope *sub)
{
    piece *x = sv_arena_new(p->a, piece, 1);
    if (!x)
        return false;
    *x = (piece){.text = text, .sub = sub};
    if (r->last)
        r->last->next = x;
    else
        r->first = x;
    r->last = x;
    if (sub && sub->depth >= r->depth)
        r->depth = sub->depth + 1;
    return true;
}

/* "$1" to "$4" in the template are the arguments. */
static sv_rc join(parser *p, expr *out, sv_ae_type type, const char *template, const expr *args)
{
    rope *r = sv_arena_new(p->a, rope, 1);
    if (!r)
        return no_memory(p);
    for (const char *s = template; *s;) {
        size_t n = strcspn(s, "$");
        bool good = n == 0 || add_piece(p, r, (sv_str){s, n}, NULL);
        s += n;
        if (good && *s == '$') {
            good = add_piece(p, r, (sv_str){0}, args[s[1] - '1'].r);
            s += 2;
        }
        if (!good)
            return no_memory(p);
    }
    if (r->depth > MAX_ROPE_DEPTH)
        return refuse(p, "the expression is nested too deeply");
    *out = (expr){.r = r, .type = type};
    return SV_OK;
}

/* A text of ours or a quoted one of theirs. */
static sv_rc literal(parser *p, expr *out, sv_ae_type type, const char *text)
{
    rope *r = text ? sv_arena_new(p->a, rope, 1) : NULL;
    if (!r || !add_piece(p, r, sv_str_of(text), NULL))
        return no_memory(p);
    *out = (expr){.r = r, .type = type};
    return SV_OK;
}

/* 'text' or "name" with its quotes doubled. */
static char *quote(parser *p, sv_str s, char mark)
{
    char *out = sv_arena_alloc(p->a, 2 * s.n + 3, 1);
    size_t n = 0;
    if (!out)
        return NULL;
    out[n++] = mark;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == mark)
            out[n++] = mark;
        out[n++] = s.p[i];
    }
    out[n++] = mark;
    return out;
}

static void flatten(const rope *r, sv_buf *out)
{
    for (const piece *x = r->first; x && !out->failed; x = x->next) {
        if (x->sub)
            flatten(x->sub, out);
        else
            sv_buf_add(out, x->text.p, x->text.n);
    }
}

/* ---- expressions ---- */

static sv_rc parse_expr(parser *p, scope *s, expr *out);
static sv_rc parse_select(parser *p, expr *out, named **columns);

static bool is_number(sv_ae_type t) { return t >= SV_AE_UINT8 && t <= SV_AE_FLOAT64; }
static bool is_whole(sv_ae_type t) { return t >= SV_AE_UINT8 && t <= SV_AE_INT64; }

typedef enum result { R_STRING, R_UINT8, R_UINT32, R_UINT64, R_INT64, R_FLOAT64, R_DATETIME, R_DATE, R_ARRAY, R_SAME, R_SECOND, R_SUM, R_ROUND } result;

/* What a function of n arguments becomes. `level`: it takes a first list, f(0.5)(x, w), which is argument 1 here. */
typedef struct function {
    const char *name;
    int min, max;
    const char *sql[2]; /* for min arguments; with one more, where max is greater */
    result result;
    const char *level;  /* what stands for a first list that was left out; NULL: there is none */
    bool distinct;      /* f(DISTINCT x) */
} function;

static const function functions[] = {
    {"count", 0, 1, {"count(*)", "count($1)"}, R_UINT64, NULL, true},
    {"sum", 1, 1, {"coalesce(sum($1), 0)"}, R_SUM, NULL, true},
    {"avg", 1, 1, {"avg($1)"}, R_FLOAT64, NULL, true},
    {"min", 1, 1, {"min($1)"}, R_SAME},
    {"max", 1, 1, {"max($1)"}, R_SAME},
    {"countIf", 1, 1, {"count(*) FILTER (WHERE $1)"}, R_UINT64},
    {"sumIf", 2, 2, {"coalesce(sum($1) FILTER (WHERE $2), 0)"}, R_SUM},
    {"avgIf", 2, 2, {"avg($1) FILTER (WHERE $2)"}, R_FLOAT64},
    {"uniq", 1, 1, {"count(DISTINCT $1)"}, R_UINT64},
    {"quantile", 2, 2, {"ae_quantile($1, $2, 1)"}, R_FLOAT64, "0.5"},
    {"quantileWeighted", 3, 3, {"ae_quantile($1, $2, $3)"}, R_FLOAT64, "0.5"},
    {"quantileExactWeighted", 3, 3, {"ae_quantile($1, $2, $3)"}, R_FLOAT64, "0.5"},
    {"topK", 2, 2, {"ae_top($1, $2, 1)"}, R_ARRAY, "10"},
    {"topKWeighted", 3, 3, {"ae_top($1, $2, $3)"}, R_ARRAY, "10"},
    {"argMin", 2, 2, {"ae_arg_min($1, $2)"}, R_SAME},
    {"argMax", 2, 2, {"ae_arg_max($1, $2)"}, R_SAME},
    {"first_value", 1, 1, {"ae_first($1)"}, R_SAME},
    {"last_value", 1, 1, {"ae_last($1)"}, R_SAME},
    /* of texts */
    {"length", 1, 1, {"length(CAST($1 AS BLOB))"}, R_UINT64},
    {"empty", 1, 1, {"($1 = '')"}, R_UINT8},
    {"lower", 1, 1, {"lower($1)"}, R_STRING},
    {"upper", 1, 1, {"upper($1)"}, R_STRING},
    {"startsWith", 2, 2, {"(substr($1, 1, length($2)) = $2)"}, R_UINT8},
    {"endsWith", 2, 2, {"($2 = '' OR substr($1, -length($2)) = $2)"}, R_UINT8},
    {"position", 2, 2, {"instr(CAST($1 AS BLOB), CAST($2 AS BLOB))"}, R_UINT64},
    {"substring", 2, 3, {"substr($1, $2)", "substr($1, $2, $3)"}, R_STRING},
    {"concat", 2, 2, {"($1 || $2)"}, R_STRING},
    {"toString", 1, 1, {"CAST($1 AS TEXT)"}, R_STRING},
    /* of numbers */
    {"toUInt8", 1, 1, {"(CAST($1 AS INTEGER) & 255)"}, R_UINT8},
    {"toUInt32", 1, 1, {"(CAST($1 AS INTEGER) & 4294967295)"}, R_UINT32},
    {"toUInt64", 1, 1, {"CAST($1 AS INTEGER)"}, R_UINT64},
    {"toInt64", 1, 1, {"CAST($1 AS INTEGER)"}, R_INT64},
    {"toFloat64", 1, 1, {"CAST($1 AS REAL)"}, R_FLOAT64},
    {"intDiv", 2, 2, {"(CAST($1 AS INTEGER) / CAST($2 AS INTEGER))"}, R_INT64},
    {"abs", 1, 1, {"abs($1)"}, R_SAME},
    {"log", 1, 1, {"ln($1)"}, R_FLOAT64},
    {"sqrt", 1, 1, {"sqrt($1)"}, R_FLOAT64},
    {"pow", 2, 2, {"pow($1, $2)"}, R_FLOAT64},
    {"floor", 1, 1, {"floor($1)"}, R_ROUND},
    {"ceil", 1, 1, {"ceil($1)"}, R_ROUND},
    {"round", 1, 2, {"round($1)", "round($1, $2)"}, R_ROUND},
    {"bitAnd", 2, 2, {"(CAST($1 AS INTEGER) & CAST($2 AS INTEGER))"}, R_INT64},
    {"bitOr", 2, 2, {"(CAST($1 AS INTEGER) | CAST($2 AS INTEGER))"}, R_INT64},
    {"bitNot", 1, 1, {"(~CAST($1 AS INTEGER))"}, R_INT64},
    {"bitShiftLeft", 2, 2, {"(CAST($1 AS INTEGER) << CAST($2 AS INTEGER))"}, R_INT64},
    {"bitShiftRight", 2, 2, {"(CAST($1 AS INTEGER) >> CAST($2 AS INTEGER))"}, R_INT64},
    {"if", 3, 3, {"iif($1, $2, $3)"}, R_SECOND},
    /* of times */
    {"now", 0, 0, {"?2"}, R_DATETIME},
    {"today", 0, 0, {"date(?2)"}, R_DATE},
    {"toDate", 1, 1, {"date(ae_datetime($1))"}, R_DATE},
    {"toUnixTimestamp", 1, 1, {"CAST(strftime('%s', $1) AS INTEGER)"}, R_UINT32},
    {"toStartOfYear", 1, 1, {"strftime('%Y-01-01', $1)"}, R_DATE},
    {"toStartOfMonth", 1, 1, {"strftime('%Y-%m-01', $1)"}, R_DATE},
    {"toStartOfWeek", 1, 1, {"date($1, '-' || strftime('%w', $1) || ' days')"}, R_DATE}, /* weeks begin on Sunday, as there */
    {"toStartOfDay", 1, 1, {"strftime('%Y-%m-%d 00:00:00', $1)"}, R_DATETIME},
    {"toStartOfHour", 1, 1, {"strftime('%Y-%m-%d %H:00:00', $1)"}, R_DATETIME},
    {"toStartOfFifteenMinutes", 1, 1, {"ae_bucket($1, 15, 'minute')"}, R_DATETIME},
    {"toStartOfTenMinutes", 1, 1, {"ae_bucket($1, 10, 'minute')"}, R_DATETIME},
    {"toStartOfFiveMinutes", 1, 1, {"ae_bucket($1, 5, 'minute')"}, R_DATETIME},
    {"toStartOfMinute", 1, 1, {"strftime('%Y-%m-%d %H:%M:00', $1)"}, R_DATETIME},
    {"toYear", 1, 1, {"CAST(strftime('%Y', $1) AS INTEGER)"}, R_UINT32},
    {"toMonth", 1, 1, {"CAST(strftime('%m', $1) AS INTEGER)"}, R_UINT8},
    {"toDayOfMonth", 1, 1, {"CAST(strftime('%d', $1) AS INTEGER)"}, R_UINT8},
    {"toDayOfWeek", 1, 1, {"((CAST(strftime('%w', $1) AS INTEGER) + 6) % 7 + 1)"}, R_UINT8}, /* Monday is 1 */
    {"toHour", 1, 1, {"CAST(strftime('%H', $1) AS INTEGER)"}, R_UINT8},
    {"toMinute", 1, 1, {"CAST(strftime('%M', $1) AS INTEGER)"}, R_UINT8},
    {"toSecond", 1, 1, {"CAST(strftime('%S', $1) AS INTEGER)"}, R_UINT8},
    {"toYYYYMM", 1, 1, {"CAST(strftime('%Y%m', $1) AS INTEGER)"}, R_UINT32},
};

static const function *find_function(sv_str name)
{
    for (size_t i = 0; i < SV_LEN(functions); i++)
        if (sv_str_ieq(name, functions[i].name))
            return &functions[i];
    return NULL;
}

static sv_ae_type result_type(const function *f, const expr *args, int n)
{
    switch (f->result) {
    case R_SAME: return args[0].type;
    case R_SECOND: return args[1].type == SV_AE_FLOAT64 || n < 3 ? args[1].type : args[2].type == SV_AE_FLOAT64 ? SV_AE_FLOAT64 : args[1].type;
    case R_SUM: return args[0].type == SV_AE_FLOAT64 ? SV_AE_FLOAT64 : args[0].type == SV_AE_INT64 ? SV_AE_INT64 : SV_AE_UINT64;
    case R_ROUND: return is_whole(args[0].type) ? args[0].type : SV_AE_FLOAT64;
    default: return (sv_ae_type)f->result;
    }
}

/* "(a, b)" behind a name; the '(' is taken. Texts that are lost to a mistake are refused by their count. */
static sv_rc parse_args(parser *p, scope *s, expr *args, int *n)
{
    if (take_sign(p, ")"))
        return SV_OK;
    do {
        if (*n == MAX_ARGS)
            return refuse(p, "no function takes more than %d arguments", MAX_ARGS);
        if (parse_expr(p, s, &args[*n]) != SV_OK)
            return p->err->code;
        ++*n;
    } while (take_sign(p, ","));
    return need_sign(p, ")");
}

/* Only UTC: what a zone of the world meant at a time would need its rules. */
static sv_rc check_zone(parser *p, const expr *zone)
{
    if (zone->string && (sv_str_ieq(zone->string->value, "UTC") || sv_str_ieq(zone->string->value, "Etc/UTC")))
        return SV_OK;
    return refuse(p, "the only time zone here is 'Etc/UTC'");
}

/* ClickHouse's letters and SQLite's are the same but for these; what neither knows is refused. NULL: p->err says why. */
static char *date_format(parser *p, sv_str format)
{
    static const struct { char theirs; const char *ours; } letters[] = {
        {'Y', "%Y"}, {'m', "%m"}, {'d', "%d"}, {'H', "%H"}, {'i', "%M"}, {'M', "%M"}, {'S', "%S"}, {'j', "%j"}, {'w', "%w"},
        {'F', "%Y-%m-%d"}, {'T', "%H:%M:%S"}, {'R', "%H:%M"}, {'%', "%%"}, {'n', "\n"}, {'t', "\t"}};
    char *out = sv_arena_alloc(p->a, 4 * format.n + 1, 1), *at = out; /* a letter and its sign become 8 bytes at most */
    if (!out)
        no_memory(p);
    for (size_t i = 0; out && i < format.n; i++) {
        if (format.p[i] != '%') {
            *at++ = format.p[i];
            continue;
        }
        char letter = ++i < format.n ? format.p[i] : ' ';
        size_t k = 0;
        while (k < SV_LEN(letters) && letters[k].theirs != letter)
            k++;
        if (k == SV_LEN(letters)) {
            refuse(p, "formatDateTime has no %%%c here", isprint((unsigned char)letter) ? letter : '?');
            return NULL;
        }
        at = stpcpy(at, letters[k].ours);
    }
    return out;
}

static sv_rc time_function(parser *p, sv_str name, const expr *args, int n, expr *out)
{
    bool bucket = sv_str_ieq(name, "toStartOfInterval"), format = sv_str_ieq(name, "formatDateTime");
    int need = bucket || format ? 2 : 1;
    if (n < need || n > need + 1)
        return refuse(p, "%.*s takes %d arguments, and a time zone", (int)name.n, name.p, need);
    if (n > need && check_zone(p, &args[need]) != SV_OK)
        return p->err->code;
    if (!bucket && !format)
        return join(p, out, SV_AE_DATETIME, "ae_datetime($1)", args);
    if (format) {
        if (!args[1].string)
            return refuse(p, "the format must be a text");
        char *f = date_format(p, args[1].string->value);
        expr both[2] = {args[0]};
        if (!f || literal(p, &both[1], SV_AE_STRING, quote(p, sv_str_of(f), '\'')) != SV_OK)
            return p->err->code;
        return join(p, out, SV_AE_STRING, "strftime($2, $1)", both);
    }
    if (args[1].type != SV_AE_INTERVAL || args[1].n < 1)
        return refuse(p, "the second argument must be an interval, as in INTERVAL '5' MINUTE");
    expr three[3] = {args[0]};
    if (literal(p, &three[1], SV_AE_INT64, sv_arena_printf(p->a, "%lld", (long long)args[1].n)) != SV_OK ||
        literal(p, &three[2], SV_AE_STRING, sv_arena_printf(p->a, "'%s'", args[1].unit)) != SV_OK)
        return p->err->code;
    return join(p, out, SV_AE_DATETIME, "ae_bucket($1, $2, $3)", three);
}

static bool is_time_function(sv_str name)
{
    return sv_str_ieq(name, "toDateTime") || sv_str_ieq(name, "formatDateTime") || sv_str_ieq(name, "toStartOfInterval");
}

static sv_rc no_intervals(parser *p, const expr *args, int n)
{
    for (int i = 0; i < n; i++)
        if (args[i].type == SV_AE_INTERVAL)
            return refuse(p, "an interval can only be added to a time or taken from it");
    return SV_OK;
}

/* The name and its '(' are taken. */
static sv_rc parse_call(parser *p, scope *s, sv_str name, expr *out)
{
    expr args[MAX_ARGS];
    int n = 0;
    const function *f = find_function(name);
    if (is_time_function(name))
        return parse_args(p, s, args, &n) == SV_OK ? time_function(p, name, args, n, out) : p->err->code;
    if (!f)
        return refuse(p, "there is no function %.*s here", (int)(name.n > 40 ? 40 : name.n), name.p);
    if (f->distinct && take_word(p, "DISTINCT")) {
        if (parse_expr(p, s, args) != SV_OK || need_sign(p, ")") != SV_OK)
            return p->err->code;
        char *template = sv_arena_printf(p->a, "%s(DISTINCT $1)", f->name);
        return template ? join(p, out, result_type(f, args, 1), template, args) : no_memory(p);
    }
    if (sv_str_ieq(name, "count") && take_sign(p, "*")) /* count(*) is count() */
        return need_sign(p, ")") == SV_OK ? join(p, out, SV_AE_UINT64, f->sql[0], args) : p->err->code;
    if (parse_args(p, s, args, &n) != SV_OK)
        return p->err->code;
    if (f->level && take_sign(p, "(")) { /* f(level)(...) */
        if (n != 1)
            return refuse(p, "%s takes one number in its first list", f->name);
        if (parse_args(p, s, args, &n) != SV_OK)
            return p->err->code;
    } else if (f->level && n == f->min - 1) { /* f(...) */
        memmove(args + 1, args, (size_t)n * sizeof *args);
        n++;
        if (literal(p, &args[0], SV_AE_FLOAT64, f->level) != SV_OK)
            return p->err->code;
    }
    if (n < f->min || n > f->max)
        return refuse(p, "%s has %d arguments, not %d", f->name, f->max, n);
    if (no_intervals(p, args, n) != SV_OK)
        return p->err->code;
    return join(p, out, result_type(f, args, n), f->sql[n > f->min], args);
}

static sv_rc parse_interval(parser *p, expr *out)
{
    static const char *const units[] = {"second", "minute", "hour", "day", "week", "month", "quarter", "year"};
    const token *t = &p->t[p->i];
    int64_t n;
    if ((t->kind != T_STRING && t->kind != T_NUMBER) || !sv_str_to_i64(t->kind == T_STRING ? t->value : t->text, &n) || n < 0 || n > 1000000000)
        return refuse(p, "an interval is a whole number and a unit, as in INTERVAL '5' MINUTE");
    p->i++;
    for (size_t i = 0; i < SV_LEN(units); i++)
        if (take_word(p, units[i])) {
            *out = (expr){.type = SV_AE_INTERVAL, .n = n, .unit = units[i]};
            return SV_OK;
        }
    return refuse(p, "SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER or YEAR is expected");
}

/* blob1 to blob20 and the like; the type by the name. */
static bool dataset_column(sv_str name, sv_ae_type *type)
{
    static const struct { const char *name; int max; sv_ae_type type; } kinds[] = {
        {"dataset", 0, SV_AE_STRING}, {"timestamp", 0, SV_AE_DATETIME}, {"_sample_interval", 0, SV_AE_UINT32}, {"index1", 0, SV_AE_STRING},
        {"blob", SV_AE_BLOBS, SV_AE_STRING}, {"double", SV_AE_DOUBLES, SV_AE_FLOAT64}};
    for (size_t i = 0; i < SV_LEN(kinds); i++) {
        size_t n = strlen(kinds[i].name);
        int64_t k = 0;
        if (kinds[i].max ? name.n > n && name.n <= n + 2 && memcmp(name.p, kinds[i].name, n) == 0 && name.p[n] != '0' &&
                               sv_str_to_i64((sv_str){name.p + n, name.n - n}, &k) && k >= 1 && k <= kinds[i].max
                         : sv_str_is(name, kinds[i].name)) {
            *type = kinds[i].type;
            return true;
        }
    }
    return false;
}

static const named *find_named(const named *l, sv_str name)
{
    for (; l; l = l->next)
        if (sv_str_eq(l->name, name))
            return l;
    return NULL;
}

static sv_rc resolve(parser *p, scope *s, sv_str name, expr *out)
{
    sv_ae_type type;
    const named *l = find_named(s->aliases, name);
    if (!l)
        l = find_named(s->columns, name);
    if (l) {
        *out = l->e;
        return SV_OK;
    }
    if (s->table && dataset_column(name, &type))
        return literal(p, out, type, quote(p, name, '"'));
    p->i--;
    return refuse(p, "there is no column of this name");
}

static sv_rc parse_case(parser *p, scope *s, expr *out)
{
    expr args[3];
    if (join(p, out, SV_AE_STRING, "CASE", NULL) != SV_OK)
        return p->err->code;
    bool first = true;
    while (take_word(p, "WHEN")) {
        args[0] = *out;
        if (parse_expr(p, s, &args[1]) != SV_OK || need_word(p, "THEN") != SV_OK || parse_expr(p, s, &args[2]) != SV_OK ||
            join(p, out, first ? args[2].type : args[0].type, "$1 WHEN $2 THEN $3", args) != SV_OK)
            return p->err->code;
        first = false;
    }
    if (first)
        return refuse(p, "WHEN is expected");
    if (take_word(p, "ELSE")) {
        args[0] = *out;
        if (parse_expr(p, s, &args[1]) != SV_OK || join(p, out, args[0].type, "$1 ELSE $2", args) != SV_OK)
            return p->err->code;
    }
    args[0] = *out;
    return need_word(p, "END") == SV_OK ? join(p, out, args[0].type, "($1 END)", args) : p->err->code;
}

static sv_rc parse_primary(parser *p, scope *s, expr *out)
{
    const token *t = &p->t[p->i];
    if (take_sign(p, "(")) {
        expr in;
        if (parse_expr(p, s, &in) != SV_OK || need_sign(p, ")") != SV_OK)
            return p->err->code;
        return in.type == SV_AE_INTERVAL ? (*out = in, SV_OK) : join(p, out, in.type, "($1)", &in);
    }
    if (t->kind == T_NUMBER) {
        int64_t n;
        bool whole = sv_str_to_i64(t->text, &n);
        char *end, *copy = sv_arena_strndup(p->a, t->text.p, t->text.n);
        if (copy && !whole && (strtod(copy, &end), *end))
            return refuse(p, "this is no number");
        p->i++;
        return literal(p, out, !whole ? SV_AE_FLOAT64 : n < 256 ? SV_AE_UINT8 : n <= UINT32_MAX ? SV_AE_UINT32 : SV_AE_UINT64, copy);
    }
    if (t->kind == T_STRING) {
        p->i++;
        if (literal(p, out, SV_AE_STRING, quote(p, t->value, '\'')) != SV_OK)
            return p->err->code;
        out->string = t;
        return SV_OK;
    }
    if (t->kind == T_QUOTED) {
        p->i++;
        return resolve(p, s, t->value, out);
    }
    if (t->kind != T_NAME)
        return refuse(p, "an expression is expected");
    p->i++;
    if (is_word(t, "INTERVAL"))
        return parse_interval(p, out);
    if (is_word(t, "CASE"))
        return parse_case(p, s, out);
    if (is_word(t, "NULL"))
        return literal(p, out, SV_AE_STRING, "NULL");
    if (is_word(t, "true") || is_word(t, "false"))
        return literal(p, out, SV_AE_UINT8, is_word(t, "true") ? "1" : "0");
    return take_sign(p, "(") ? parse_call(p, s, t->text, out) : resolve(p, s, t->text, out);
}

static sv_rc parse_unary(parser *p, scope *s, expr *out)
{
    expr in;
    if (!take_sign(p, "-"))
        return parse_primary(p, s, out);
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "the query is nested too deeply");
    sv_rc rc = parse_unary(p, s, &in);
    p->depth--;
    return rc != SV_OK ? rc : join(p, out, in.type == SV_AE_FLOAT64 ? in.type : SV_AE_INT64, "(-$1)", &in);
}

static sv_rc parse_product(parser *p, scope *s, expr *out)
{
    expr args[2];
    if (parse_unary(p, s, out) != SV_OK)
        return p->err->code;
    for (;;) {
        char sign = at_sign(p, "*") ? '*' : at_sign(p, "/") ? '/' : at_sign(p, "%") ? '%' : 0;
        if (!sign)
            return SV_OK;
        p->i++;
        args[0] = *out;
        if (parse_unary(p, s, &args[1]) != SV_OK || no_intervals(p, args, 2) != SV_OK)
            return p->err->code;
        bool real = args[0].type == SV_AE_FLOAT64 || args[1].type == SV_AE_FLOAT64;
        /* There a quotient is always a Float64. A product of counts stays whole. */
        const char *sql = sign == '*' ? "($1 * $2)" : sign == '/' ? "(CAST($1 AS REAL) / $2)" : "($1 % $2)";
        if (join(p, out, sign == '/' || real ? SV_AE_FLOAT64 : SV_AE_INT64, sql, args) != SV_OK)
            return p->err->code;
    }
}

static sv_rc shift(parser *p, const expr *time, const expr *by, bool back, expr *out)
{
    expr args[3] = {*time};
    if (time->type == SV_AE_INTERVAL || is_number(time->type))
        return refuse(p, "an interval can only be added to a time or taken from it");
    if (literal(p, &args[1], SV_AE_INT64, sv_arena_printf(p->a, "%s%lld", back ? "-" : "", (long long)by->n)) != SV_OK ||
        literal(p, &args[2], SV_AE_STRING, sv_arena_printf(p->a, "'%s'", by->unit)) != SV_OK)
        return p->err->code;
    return join(p, out, SV_AE_DATETIME, "ae_shift($1, $2, $3)", args);
}

static sv_rc parse_sum(parser *p, scope *s, expr *out)
{
    expr args[2];
    if (parse_product(p, s, out) != SV_OK)
        return p->err->code;
    while (at_sign(p, "+") || at_sign(p, "-")) {
        bool minus = at_sign(p, "-");
        p->i++;
        args[0] = *out;
        if (parse_product(p, s, &args[1]) != SV_OK)
            return p->err->code;
        sv_rc rc;
        if (args[1].type == SV_AE_INTERVAL)
            rc = shift(p, &args[0], &args[1], minus, out);
        else if (no_intervals(p, args, 1) != SV_OK)
            rc = p->err->code;
        else
            rc = join(p, out, args[0].type == SV_AE_FLOAT64 || args[1].type == SV_AE_FLOAT64 ? SV_AE_FLOAT64 : SV_AE_INT64, minus ? "($1 - $2)" : "($1 + $2)", args);
        if (rc != SV_OK)
            return rc;
    }
    return SV_OK;
}

/* (a, b, ...), or one expression */
static sv_rc parse_in(parser *p, scope *s, bool not, expr *out)
{
    expr args[2] = {*out}, one[2];
    if (need_sign(p, "(") != SV_OK || parse_expr(p, s, &args[1]) != SV_OK)
        return p->err->code;
    while (take_sign(p, ",")) {
        one[0] = args[1];
        if (parse_expr(p, s, &one[1]) != SV_OK || join(p, &args[1], SV_AE_STRING, "$1, $2", one) != SV_OK)
            return p->err->code;
    }
    return need_sign(p, ")") == SV_OK ? join(p, out, SV_AE_UINT8, not ? "($1 NOT IN ($2))" : "($1 IN ($2))", args) : p->err->code;
}

static sv_rc parse_between(parser *p, scope *s, bool not, expr *out)
{
    expr args[3] = {*out};
    if (parse_sum(p, s, &args[1]) != SV_OK || need_word(p, "AND") != SV_OK || parse_sum(p, s, &args[2]) != SV_OK || no_intervals(p, args, 3) != SV_OK)
        return p->err->code;
    return join(p, out, SV_AE_UINT8, not ? "($1 NOT BETWEEN $2 AND $3)" : "($1 BETWEEN $2 AND $3)", args);
}

static sv_rc parse_comparison(parser *p, scope *s, expr *out)
{
    static const struct { const char *sign, *sql; } signs[] = {{"=", "($1 = $2)"}, {"==", "($1 = $2)"}, {"!=", "($1 <> $2)"}, {"<>", "($1 <> $2)"},
                                                               {"<", "($1 < $2)"}, {"<=", "($1 <= $2)"}, {">", "($1 > $2)"}, {">=", "($1 >= $2)"}};
    expr args[2];
    if (parse_sum(p, s, out) != SV_OK)
        return p->err->code;
    args[0] = *out;
    for (size_t i = 0; i < SV_LEN(signs); i++)
        if (take_sign(p, signs[i].sign))
            return parse_sum(p, s, &args[1]) == SV_OK && no_intervals(p, args, 2) == SV_OK ? join(p, out, SV_AE_UINT8, signs[i].sql, args) : p->err->code;
    if (take_word(p, "IS")) {
        bool not = take_word(p, "NOT");
        return need_word(p, "NULL") == SV_OK ? join(p, out, SV_AE_UINT8, not ? "($1 IS NOT NULL)" : "($1 IS NULL)", args) : p->err->code;
    }
    bool not = take_word(p, "NOT");
    if (take_word(p, "IN"))
        return parse_in(p, s, not, out);
    if (take_word(p, "BETWEEN"))
        return parse_between(p, s, not, out);
    bool any_case = at_word(p, "ILIKE");
    if (take_word(p, "LIKE") || take_word(p, "ILIKE")) {
        if (parse_sum(p, s, &args[1]) != SV_OK || no_intervals(p, args, 2) != SV_OK)
            return p->err->code;
        return join(p, out, SV_AE_UINT8, any_case ? (not ? "(NOT ae_like($1, $2, 1))" : "ae_like($1, $2, 1)") : not ? "(NOT ae_like($1, $2, 0))" : "ae_like($1, $2, 0)", args);
    }
    return not ? refuse(p, "IN, LIKE, ILIKE or BETWEEN is expected") : SV_OK;
}

static sv_rc parse_not(parser *p, scope *s, expr *out)
{
    expr in;
    if (!take_word(p, "NOT"))
        return parse_comparison(p, s, out);
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "the query is nested too deeply");
    sv_rc rc = parse_not(p, s, &in);
    p->depth--;
    return rc != SV_OK ? rc : join(p, out, SV_AE_UINT8, "(NOT $1)", &in);
}

static sv_rc parse_and(parser *p, scope *s, expr *out)
{
    expr args[2];
    if (parse_not(p, s, out) != SV_OK)
        return p->err->code;
    while (take_word(p, "AND")) {
        args[0] = *out;
        if (parse_not(p, s, &args[1]) != SV_OK || join(p, out, SV_AE_UINT8, "($1 AND $2)", args) != SV_OK)
            return p->err->code;
    }
    return SV_OK;
}

static sv_rc parse_expr(parser *p, scope *s, expr *out)
{
    expr args[2];
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "the query is nested too deeply");
    if (parse_and(p, s, out) != SV_OK)
        return p->err->code;
    while (take_word(p, "OR")) {
        args[0] = *out;
        if (parse_and(p, s, &args[1]) != SV_OK || join(p, out, SV_AE_UINT8, "($1 OR $2)", args) != SV_OK)
            return p->err->code;
    }
    p->depth--;
    return SV_OK;
}

/* ---- statements ---- */

/* A value, with what it is called. */
static sv_rc need_value(parser *p, scope *s, expr *out)
{
    if (parse_expr(p, s, out) != SV_OK)
        return p->err->code;
    return no_intervals(p, out, 1);
}

static bool add_named(parser *p, named **list, sv_str name, const expr *e)
{
    named *x = sv_arena_new(p->a, named, 1), **at = list;
    if (!x)
        return false;
    *x = (named){.name = name, .e = *e};
    while (*at) /* in order; the first of a name wins */
        at = &(*at)->next;
    *at = x;
    return true;
}

/* FROM name, FROM "name", FROM (SELECT ...) */
static sv_rc parse_from(parser *p, scope *s, expr *out)
{
    const token *t = &p->t[p->i];
    if (take_sign(p, "(")) {
        named *columns = NULL;
        expr in;
        if (parse_select(p, &in, &columns) != SV_OK || need_sign(p, ")") != SV_OK)
            return p->err->code;
        for (const named *c = columns; c; c = c->next) {
            expr column;
            if (literal(p, &column, c->e.type, quote(p, c->name, '"')) != SV_OK)
                return p->err->code;
            if (!add_named(p, &s->columns, c->name, &column))
                return no_memory(p);
        }
        return join(p, out, SV_AE_STRING, "($1)", &in);
    }
    if (t->kind != T_NAME && t->kind != T_QUOTED)
        return refuse(p, "the name of a dataset, or a subquery in parentheses, is expected");
    sv_str name = t->kind == T_NAME ? t->text : t->value;
    if (p->q->n_tables == SV_AE_MAX_TABLES)
        return refuse(p, "a query reads at most %d datasets", SV_AE_MAX_TABLES);
    p->i++;
    if (!(p->q->tables[p->q->n_tables++] = sv_arena_strndup(p->a, name.p, name.n)))
        return no_memory(p);
    s->table = true;
    expr q;
    if (literal(p, &q, SV_AE_STRING, quote(p, name, '\'')) != SV_OK)
        return p->err->code;
    return join(p, out, SV_AE_STRING, "(SELECT *, 1 AS _sample_interval FROM points WHERE account = ?1 AND dataset = $1)", &q);
}

/* Where this SELECT's FROM is; p->n if it has none. */
static size_t find_from(const parser *p)
{
    int open = 0;
    for (size_t i = p->i; i < p->n; i++) {
        const token *t = &p->t[i];
        if (t->kind == T_SIGN && t->text.p[0] == '(')
            open++;
        else if (t->kind == T_SIGN && t->text.p[0] == ')' && --open < 0)
            break;
        else if (open == 0 && is_word(t, "FROM"))
            return i;
    }
    return p->n;
}

static sv_rc add_column(parser *p, expr *list, named **columns, sv_str name, const expr *e)
{
    expr args[3] = {*list, *e};
    size_t n = 0;
    for (const named *c = *columns; c; c = c->next)
        n++;
    if (n == SV_AE_MAX_COLUMNS)
        return refuse(p, "a query has at most %d columns", SV_AE_MAX_COLUMNS);
    if (literal(p, &args[2], SV_AE_STRING, quote(p, name, '"')) != SV_OK)
        return p->err->code;
    if (!add_named(p, columns, name, e))
        return no_memory(p);
    return join(p, list, SV_AE_STRING, n ? "$1, $2 AS $3" : "$2 AS $3", args);
}

static sv_rc add_all(parser *p, scope *s, expr *list, named **columns)
{
    static const char *const fixed[] = {"dataset", "timestamp", "_sample_interval", "index1"};
    for (const named *c = s->columns; c; c = c->next)
        if (add_column(p, list, columns, c->name, &c->e) != SV_OK)
            return p->err->code;
    if (!s->table)
        return s->columns ? SV_OK : refuse(p, "* needs a FROM");
    for (int i = 0; i < (int)SV_LEN(fixed) + SV_AE_DOUBLES + SV_AE_BLOBS; i++) {
        int k = i - (int)SV_LEN(fixed);
        const char *name = k < 0 ? fixed[i] : sv_arena_printf(p->a, k < SV_AE_DOUBLES ? "double%d" : "blob%d", k < SV_AE_DOUBLES ? k + 1 : k - SV_AE_DOUBLES + 1);
        expr e;
        sv_ae_type type = SV_AE_STRING;
        if (!name || !dataset_column(sv_str_of(name), &type))
            return no_memory(p);
        if (literal(p, &e, type, quote(p, sv_str_of(name), '"')) != SV_OK || add_column(p, list, columns, sv_str_of(name), &e) != SV_OK)
            return p->err->code;
    }
    return SV_OK;
}

/* expression [[AS] name]; without a name, the text of the expression is it. */
static sv_rc parse_column(parser *p, scope *s, expr *list, named **columns)
{
    static const char *const ends[] = {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FORMAT"};
    const token *begin = &p->t[p->i];
    expr e;
    if (take_sign(p, "*"))
        return add_all(p, s, list, columns);
    if (need_value(p, s, &e) != SV_OK)
        return p->err->code;
    const token *last = &p->t[p->i - 1], *t = &p->t[p->i];
    sv_str name = {begin->text.p, (size_t)(last->text.p + last->text.n - begin->text.p)};
    if (begin == last && begin->kind == T_QUOTED)
        name = begin->value;
    bool as = take_word(p, "AS");
    t = &p->t[p->i];
    bool word = t->kind == T_NAME;
    for (size_t i = 0; word && !as && i < SV_LEN(ends); i++)
        word = !is_word(t, ends[i]);
    if (word || t->kind == T_QUOTED) {
        name = t->kind == T_QUOTED ? t->value : t->text;
        p->i++;
        if (!add_named(p, &s->aliases, name, &e))
            return no_memory(p);
    } else if (as)
        return refuse(p, "a name is expected behind AS");
    return add_column(p, list, columns, name, &e);
}

static sv_rc parse_list(parser *p, scope *s, bool order, expr *out)
{
    expr args[2];
    for (bool first = true;; first = false) {
        args[0] = *out;
        if (need_value(p, s, &args[1]) != SV_OK)
            return p->err->code;
        bool down = order && take_word(p, "DESC");
        if (order && !down)
            take_word(p, "ASC");
        if (join(p, out, SV_AE_STRING, first ? (down ? "$2 DESC" : "$2") : down ? "$1, $2 DESC" : "$1, $2", args) != SV_OK)
            return p->err->code;
        if (!take_sign(p, ","))
            return SV_OK;
    }
}

static sv_rc parse_count(parser *p, expr *out)
{
    const token *t = &p->t[p->i];
    int64_t n;
    if (t->kind != T_NUMBER || !sv_str_to_i64(t->text, &n))
        return refuse(p, "a whole number is expected");
    p->i++;
    return literal(p, out, SV_AE_UINT64, sv_arena_printf(p->a, "%lld", (long long)n));
}

/* One clause behind the others: "$1 CLAUSE $2". */
static sv_rc add_clause(parser *p, expr *out, const char *template, const expr *what)
{
    expr args[2] = {*out, *what};
    return join(p, out, SV_AE_STRING, template, args);
}

static sv_rc parse_clauses(parser *p, scope *s, expr *out)
{
    expr e;
    if (take_word(p, "WHERE") && (need_value(p, s, &e) != SV_OK || add_clause(p, out, "$1 WHERE $2", &e) != SV_OK))
        return p->err->code;
    if (take_word(p, "GROUP") &&
        (need_word(p, "BY") != SV_OK || parse_list(p, s, false, &e) != SV_OK || add_clause(p, out, "$1 GROUP BY $2", &e) != SV_OK))
        return p->err->code;
    if (take_word(p, "HAVING") && (need_value(p, s, &e) != SV_OK || add_clause(p, out, "$1 HAVING $2", &e) != SV_OK))
        return p->err->code;
    if (take_word(p, "ORDER") &&
        (need_word(p, "BY") != SV_OK || parse_list(p, s, true, &e) != SV_OK || add_clause(p, out, "$1 ORDER BY $2", &e) != SV_OK))
        return p->err->code;
    bool limited = take_word(p, "LIMIT") && !take_word(p, "ALL");
    if (limited && (parse_count(p, &e) != SV_OK || add_clause(p, out, "$1 LIMIT $2", &e) != SV_OK))
        return p->err->code;
    if (take_word(p, "OFFSET") && (parse_count(p, &e) != SV_OK || add_clause(p, out, limited ? "$1 OFFSET $2" : "$1 LIMIT -1 OFFSET $2", &e) != SV_OK))
        return p->err->code;
    return SV_OK;
}

static sv_rc parse_select(parser *p, expr *out, named **columns)
{
    scope s = {0};
    expr from = {0}, list = {0};
    if (need_word(p, "SELECT") != SV_OK)
        return p->err->code;
    if (++p->depth > MAX_DEPTH)
        return refuse(p, "the query is nested too deeply");
    bool distinct = take_word(p, "DISTINCT");
    size_t columns_at = p->i, from_at = find_from(p), behind = 0;
    if (from_at < p->n) {
        p->i = from_at + 1;
        if (parse_from(p, &s, &from) != SV_OK)
            return p->err->code;
        behind = p->i;
        p->i = columns_at;
    }
    do {
        if (parse_column(p, &s, &list, columns) != SV_OK)
            return p->err->code;
    } while (take_sign(p, ","));
    if (behind && p->i != from_at)
        return refuse(p, "',' or FROM is expected");
    expr args[2] = {list, from};
    if (join(p, out, SV_AE_STRING, distinct ? "SELECT DISTINCT $1" : "SELECT $1", args) != SV_OK)
        return p->err->code;
    if (behind) {
        p->i = behind;
        if (add_clause(p, out, "$1 FROM $2", &from) != SV_OK)
            return p->err->code;
    }
    if (parse_clauses(p, &s, out) != SV_OK)
        return p->err->code;
    p->depth--;
    return SV_OK;
}

static sv_rc parse_show(parser *p, expr *out, named **columns)
{
    expr e;
    bool tables = take_word(p, "TABLES");
    if (!tables && !take_word(p, "TIMEZONE") && !take_word(p, "TIMEZONES"))
        return refuse(p, "TABLES, TIMEZONE or TIMEZONES is expected");
    if (literal(p, out, SV_AE_STRING, tables ? "SELECT name FROM datasets WHERE account = ?1 ORDER BY name" : "SELECT 'Etc/UTC'") != SV_OK ||
        literal(p, &e, SV_AE_STRING, "") != SV_OK)
        return p->err->code;
    return add_named(p, columns, tables ? SV_STR("dataset") : SV_STR("timezone"), &e) ? SV_OK : no_memory(p);
}

static sv_rc parse_format(parser *p, sv_ae_format *out)
{
    static const struct { const char *name; sv_ae_format format; } formats[] = {
        {"JSON", SV_AE_JSON}, {"JSONEachRow", SV_AE_JSON_EACH_ROW}, {"TabSeparated", SV_AE_TAB_SEPARATED}};
    *out = SV_AE_JSON;
    if (!take_word(p, "FORMAT"))
        return SV_OK;
    for (size_t i = 0; i < SV_LEN(formats); i++)
        if (take_word(p, formats[i].name)) {
            *out = formats[i].format;
            return SV_OK;
        }
    return refuse(p, "JSON, JSONEachRow or TabSeparated is expected");
}

sv_rc sv_ae_translate(sv_ae_query *out, sv_arena *arena, sv_str text, sv_err *err)
{
    sv_ae_query q = {0};
    parser p = {.a = arena, .text = text, .q = &q, .err = err};
    named *columns = NULL;
    expr e = {0};
    if (memchr(text.p, 0, text.n) || !sv_utf8_valid(text))
        return sv_fail(err, SV_EINVAL, "the query is not text in UTF-8");
    if (tokenize(&p) != SV_OK || (take_word(&p, "SHOW") ? parse_show(&p, &e, &columns) : parse_select(&p, &e, &columns)) != SV_OK ||
        parse_format(&p, &q.format) != SV_OK)
        return err->code;
    take_sign(&p, ";");
    if (p.i < p.n)
        return refuse(&p, "the query should have ended");
    for (const named *c = columns; c; c = c->next) {
        q.columns[q.n_columns].type = c->e.type;
        if (!(q.columns[q.n_columns++].name = sv_arena_strndup(arena, c->name.p, c->name.n)))
            return no_memory(&p);
    }
    sv_buf_init(&q.sql, SV_AE_MAX_SQL);
    flatten(e.r, &q.sql);
    if (q.sql.failed) {
        sv_buf_done(&q.sql);
        return sv_fail(err, SV_EINVAL, "the query is over %d bytes once its aliases are put in", SV_AE_MAX_SQL);
    }
    *out = q;
    return SV_OK;
}
