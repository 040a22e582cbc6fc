/* multipart.c - cuts a multipart/form-data body into its parts, without copying data
 *
 *     --B CRLF head CRLF CRLF data CRLF --B CRLF ... CRLF --B--
 *
 * A delimiter is CRLF "--B" followed by "--", or by white space and CRLF; anything else that begins like one is data.
 * What stands before the first and behind the last is ignored (RFC 2046), a missing last one is not: the body is cut.
 *
 * Names come in three spellings: as they are; with %22, %0D, %0A for the three characters that would break the line
 * (HTML, so undici and every browser; other escapes stay as they are); with backslashes before quote and backslash
 * (curl, Python). "filename*" of RFC 5987 is read too, since old SDKs still send it.
 *
 * The search stops at each CR and compares there: a delimiter holds no other CR, so no byte is compared twice and the whole is
 * linear in the body. A head is at most 16 KiB. */
#include "http/multipart.h"

#include <strings.h>

enum { MAX_PARTS = 10000, MAX_PART_HEAD = 16 << 10, MAX_BOUNDARY = 200 };

typedef struct cutter {
    sv_str body;
    size_t at;        /* behind the last delimiter's line */
    char delim[MAX_BOUNDARY + 5]; /* CRLF "--" boundary */
    size_t n_delim;
    bool over;        /* the last delimiter was "--B--" */
    sv_arena *arena;
    size_t i_part;    /* counts from 1, for messages */
} cutter;

/* ---- parameters of a header value: ; name=token  ; name="quoted" ---- */

static sv_str skip_space(sv_str s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t'))
        s = (sv_str){s.p + 1, s.n - 1};
    return s;
}

/* Undoes the three spellings; without an escape the view itself. NULL: no memory. */
static sv_str unescaped(sv_arena *a, sv_str in)
{
    if (!memchr(in.p, '\\', in.n) && !memchr(in.p, '%', in.n))
        return in;
    char *out = sv_arena_alloc(a, in.n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; out && i < in.n; i++) {
        char c = in.p[i];
        if (c == '\\' && i + 1 < in.n && (in.p[i + 1] == '"' || in.p[i + 1] == '\\')) {
            c = in.p[++i];
        } else if (c == '%' && i + 2 < in.n) {
            const char *hex = in.p + i + 1;
            char d = !strncmp(hex, "22", 2) ? '"' : !strncasecmp(hex, "0D", 2) ? '\r' : !strncasecmp(hex, "0A", 2) ? '\n' : '\0';
            if (d) {
                c = d;
                i += 2;
            }
        }
        out[n++] = c;
    }
    return (sv_str){out, out ? n : 0};
}

typedef struct param { sv_str name, value; bool quoted; } param;

/* Takes the next parameter from *rest, which begins behind the value's first word. False: no more, or (broken) no sense. */
static bool next_param(sv_str *rest, param *p, bool *broken)
{
    sv_str s = skip_space(*rest);
    while (s.n > 0 && *s.p == ';')
        s = skip_space((sv_str){s.p + 1, s.n - 1});
    *rest = s;
    if (s.n == 0)
        return false;
    const char *eq = memchr(s.p, '=', s.n);
    *broken = !eq;
    if (!eq)
        return false;
    p->name = sv_str_trim((sv_str){s.p, (size_t)(eq - s.p)});
    s = (sv_str){eq + 1, s.n - (size_t)(eq + 1 - s.p)};
    size_t i = 0;
    p->quoted = s.n > 0 && *s.p == '"';
    if (p->quoted) {
        for (i = 1; i < s.n && s.p[i] != '"'; i++)
            if (s.p[i] == '\\' && i + 1 < s.n && (s.p[i + 1] == '"' || s.p[i + 1] == '\\'))
                i++;
        *broken = i >= s.n;
        if (*broken)
            return false;
        p->value = (sv_str){s.p + 1, i - 1};
        i++;
    } else {
        while (i < s.n && s.p[i] != ';')
            i++;
        p->value = sv_str_trim((sv_str){s.p, i});
    }
    *rest = (sv_str){s.p + i, s.n - i};
    return true;
}

static sv_str behind_first_word(sv_str v)
{
    const char *semi = v.n ? memchr(v.p, ';', v.n) : NULL;
    return semi ? (sv_str){semi, v.n - (size_t)(semi - v.p)} : (sv_str){v.p, 0};
}

/* ---- the boundary ---- */

static sv_rc boundary_of(sv_str *out, sv_str content_type, sv_str body, sv_err *err)
{
    if (content_type.n > 0 && (content_type.n < 10 || strncasecmp(content_type.p, "multipart/", 10) != 0))
        return sv_fail(err, SV_EFORMAT, "the content type is not multipart/form-data");
    sv_str rest = behind_first_word(content_type);
    param p;
    bool broken = false;
    *out = (sv_str){NULL, 0};
    while (next_param(&rest, &p, &broken))
        if (sv_str_ieq(p.name, "boundary"))
            *out = p.value;
    if (broken)
        return sv_fail(err, SV_EFORMAT, "the content type's parameters make no sense");
    if (!out->p) { /* as the first line has it */
        const char *crlf = memmem(body.p, body.n, "\r\n", 2);
        if (!crlf || crlf - body.p < 3 || memcmp(body.p, "--", 2) != 0)
            return sv_fail(err, SV_EFORMAT, "no boundary in the content type, and the body does not begin with one");
        *out = sv_str_trim((sv_str){body.p + 2, (size_t)(crlf - body.p) - 2});
        if (out->n > 2 && memcmp(out->p + out->n - 2, "--", 2) == 0 && (size_t)(crlf - body.p) + 2 == body.n)
            out->n -= 2; /* a form without parts: its first line is its last */
    }
    if (out->n == 0 || out->n > MAX_BOUNDARY)
        return sv_fail(err, SV_EFORMAT, "a boundary of %zu characters; 1 to %d are allowed", out->n, MAX_BOUNDARY);
    return SV_OK;
}

/* ---- delimiters ---- */

/* p stands behind "--B". True: it is one; its line's length is in *n. */
static bool ends_delimiter(const cutter *c, size_t at, size_t *n, bool *last)
{
    sv_str s = {c->body.p + at, c->body.n - at};
    *last = s.n >= 2 && memcmp(s.p, "--", 2) == 0;
    if (*last) {
        *n = 2;
        return true;
    }
    sv_str t = skip_space(s);
    *n = s.n - t.n + 2;
    return t.n >= 2 && memcmp(t.p, "\r\n", 2) == 0;
}

/* The next delimiter at or after `from`; *data_end is where what it ends, ends. */
static bool find_delimiter(cutter *c, size_t from, size_t *data_end)
{
    size_t n;
    while (from + c->n_delim <= c->body.n) {
        const char *cr = memchr(c->body.p + from, '\r', c->body.n - c->n_delim - from + 1);
        if (!cr)
            return false;
        size_t at = (size_t)(cr - c->body.p);
        if (memcmp(cr, c->delim, c->n_delim) == 0 && ends_delimiter(c, at + c->n_delim, &n, &c->over)) {
            *data_end = at;
            c->at = at + c->n_delim + n;
            return true;
        }
        from = at + 1;
    }
    return false;
}

/* The first one may stand at the very beginning, without its CRLF. */
static bool find_first(cutter *c)
{
    size_t n, end;
    if (c->body.n >= c->n_delim - 2 && memcmp(c->body.p, c->delim + 2, c->n_delim - 2) == 0 &&
        ends_delimiter(c, c->n_delim - 2, &n, &c->over)) {
        c->at = c->n_delim - 2 + n;
        return true;
    }
    return find_delimiter(c, 0, &end);
}

/* ---- one part ---- */

static sv_rc read_disposition(cutter *c, sv_str value, sv_part *p, sv_err *err)
{
    sv_str rest = behind_first_word(value), star = {NULL, 0};
    param q;
    bool broken = false;
    if (value.n < 9 || strncasecmp(value.p, "form-data", 9) != 0)
        return sv_fail(err, SV_EFORMAT, "part %zu: its Content-Disposition is not form-data", c->i_part);
    while (next_param(&rest, &q, &broken)) {
        sv_str *field = sv_str_ieq(q.name, "name") ? &p->name : sv_str_ieq(q.name, "filename") ? &p->filename : NULL;
        if (field)
            *field = q.quoted ? unescaped(c->arena, q.value) : q.value;
        else if (sv_str_ieq(q.name, "filename*"))
            star = q.value;
        if (field && !field->p)
            return sv_fail(err, SV_ENOMEM, "part %zu: out of memory", c->i_part);
    }
    if (broken)
        return sv_fail(err, SV_EFORMAT, "part %zu: the parameters of its Content-Disposition make no sense", c->i_part);
    if (star.n > 7 && strncasecmp(star.p, "UTF-8'", 6) == 0) {
        const char *quote = memchr(star.p + 6, '\'', star.n - 6);
        if (!quote || sv_percent_decode(&p->filename, c->arena, (sv_str){quote + 1, star.n - (size_t)(quote + 1 - star.p)}, err) != SV_OK)
            return sv_fail(err, SV_EFORMAT, "part %zu: broken filename*", c->i_part);
    }
    return SV_OK;
}

static sv_rc read_header(cutter *c, sv_str line, sv_part *p, sv_err *err)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return sv_fail(err, SV_EFORMAT, "part %zu: a header line without a colon", c->i_part);
    sv_str name = sv_str_trim((sv_str){line.p, (size_t)(colon - line.p)});
    sv_str value = sv_str_trim((sv_str){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
    if (sv_str_ieq(name, "content-disposition"))
        return read_disposition(c, value, p, err);
    if (sv_str_ieq(name, "content-type"))
        p->content_type = value;
    bool encoded = sv_str_ieq(name, "content-transfer-encoding");
    if (encoded && !sv_str_ieq(value, "binary") && !sv_str_ieq(value, "8bit") && !sv_str_ieq(value, "7bit"))
        return sv_fail(err, SV_EFORMAT, "part %zu: transfer encodings other than binary are not served", c->i_part);
    return SV_OK;
}

/* From c->at: head, then data up to the next delimiter. */
static sv_rc read_part(cutter *c, sv_part *out, sv_err *err)
{
    sv_part p = {0};
    for (size_t head = c->at;;) {
        size_t room = c->body.n - c->at < MAX_PART_HEAD - (c->at - head) ? c->body.n - c->at : MAX_PART_HEAD - (c->at - head);
        const char *line = c->body.p + c->at, *crlf = memmem(line, room, "\r\n", 2);
        if (!crlf)
            return sv_fail(err, SV_EFORMAT, "part %zu: its headers do not end within %d bytes", c->i_part, MAX_PART_HEAD);
        c->at += (size_t)(crlf - line) + 2;
        if (crlf == line)
            break;
        if (read_header(c, (sv_str){line, (size_t)(crlf - line)}, &p, err) != SV_OK)
            return err->code;
    }
    if (!p.name.p)
        return sv_fail(err, SV_EFORMAT, "part %zu has no name", c->i_part);
    /* Empty data: the delimiter's CRLF is the one that ended the head. */
    size_t begin = c->at, end;
    if (!find_delimiter(c, begin - 2, &end))
        return sv_fail(err, SV_EFORMAT, "part %zu is not closed by a boundary: the body is cut", c->i_part);
    p.data = end < begin ? (sv_str){c->body.p + begin, 0} : (sv_str){c->body.p + begin, end - begin};
    *out = p;
    return SV_OK;
}

sv_rc sv_multipart_parse(sv_parts *out, sv_arena *a, sv_str content_type, sv_str body, sv_err *err)
{
    cutter c = {.body = {body.n ? body.p : "", body.n}, .arena = a};
    sv_str boundary = {0};
    if (boundary_of(&boundary, content_type, c.body, err) != SV_OK)
        return err->code;
    memcpy(c.delim, "\r\n--", 4);
    memcpy(c.delim + 4, boundary.p, boundary.n);
    c.n_delim = boundary.n + 4;
    if (!find_first(&c))
        return sv_fail(err, SV_EFORMAT, "the boundary of the content type is nowhere in the body");

    sv_part *v = NULL;
    size_t n = 0, cap = 0;
    while (!c.over) {
        if (n == MAX_PARTS)
            return sv_fail(err, SV_ELIMIT, "more than %d parts", MAX_PARTS);
        if (n == cap) { /* the old array stays in the arena: at most as much again in all */
            cap = cap ? cap * 2 : 16;
            sv_part *more = sv_arena_new(a, sv_part, cap);
            if (!more)
                return sv_fail(err, SV_ENOMEM, "no memory for %zu parts", cap);
            if (n > 0)
                memcpy(more, v, n * sizeof *v);
            v = more;
        }
        c.i_part = n + 1;
        if (read_part(&c, &v[n], err) != SV_OK)
            return err->code;
        n++;
    }
    *out = (sv_parts){v, n};
    return SV_OK;
}

const sv_part *sv_parts_find(const sv_parts *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (sv_str_is(p->v[i].name, name))
            return &p->v[i];
    return NULL;
}
