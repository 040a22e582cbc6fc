/* xml.c - over expat, which has met every broken document there is; what S3 sends is flat and small */
#include "r2/xml.h"

#include <expat.h>
#include <string.h>

#include "r2/r2_errors.h"

enum { MAX_DEPTH = 16, MAX_NODES = 65536 };

typedef struct reader {
    XML_Parser parser;
    sv_arena *arena;
    sv_xml *stack[MAX_DEPTH], *root;
    sv_buf text[MAX_DEPTH];
    int depth, n_nodes;
    bool broken;
} reader;

static void stop(reader *r)
{
    r->broken = true;
    XML_StopParser(r->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const char *name, const char **attributes)
{
    reader *r = arg;
    (void)attributes;
    const char *colon = strrchr(name, ':');
    sv_xml *x = r->depth < MAX_DEPTH && r->n_nodes++ < MAX_NODES ? sv_arena_new(r->arena, sv_xml, 1) : NULL;
    char *copy = x ? sv_arena_strndup(r->arena, colon ? colon + 1 : name, strlen(colon ? colon + 1 : name)) : NULL;
    if (!copy) {
        stop(r);
        return;
    }
    x->name = copy;
    if (r->depth) {
        sv_xml *parent = r->stack[r->depth - 1];
        if (parent->last)
            parent->last->next = x;
        else
            parent->first = x;
        parent->last = x;
    } else {
        r->root = x;
    }
    sv_buf_reset(&r->text[r->depth]);
    r->stack[r->depth++] = x;
}

static void XMLCALL on_text(void *arg, const char *p, int n)
{
    reader *r = arg;
    if (r->depth && !sv_buf_add(&r->text[r->depth - 1], p, (size_t)n))
        stop(r);
}

static void XMLCALL on_end(void *arg, const char *name)
{
    reader *r = arg;
    (void)name;
    sv_buf *text = &r->text[--r->depth];
    sv_xml *x = r->stack[r->depth];
    if (x->first) /* the white space between children */
        return;
    char *copy = sv_arena_strndup(r->arena, sv_buf_cstr(text), text->n);
    if (!copy) {
        stop(r);
        return;
    }
    x->text = (sv_str){copy, text->n};
}

static void XMLCALL on_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int internal)
{
    (void)name, (void)sysid, (void)pubid, (void)internal;
    stop(arg);
}

sv_rc sv_xml_parse(sv_xml **out, sv_arena *a, sv_str body, sv_err *err)
{
    reader r = {.arena = a, .parser = XML_ParserCreate(NULL)};
    if (!r.parser)
        return sv_fail(err, SV_ENOMEM, "no memory for an XML parser");
    for (int i = 0; i < MAX_DEPTH; i++)
        sv_buf_init(&r.text[i], 1 << 20);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
    bool good = body.n < 1 << 30 && XML_Parse(r.parser, body.n ? body.p : "", (int)body.n, 1) == XML_STATUS_OK && !r.broken && r.root;
    XML_ParserFree(r.parser);
    for (int i = 0; i < MAX_DEPTH; i++)
        sv_buf_done(&r.text[i]);
    if (!good)
        return sv_r2_fail(err, SV_S3_MALFORMED_XML);
    *out = r.root;
    return SV_OK;
}

sv_xml *sv_xml_child(const sv_xml *x, const char *name)
{
    for (sv_xml *c = x ? x->first : NULL; c; c = c->next)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

sv_str sv_xml_text(const sv_xml *x, const char *name)
{
    const sv_xml *c = sv_xml_child(x, name);
    return c ? (c->text.p ? sv_str_trim(c->text) : SV_STR("")) : (sv_str){0};
}

void sv_xml_add(sv_buf *out, sv_str s)
{
    for (size_t i = 0; i < s.n; i++)
        switch (s.p[i]) {
        case '&': sv_buf_adds(out, "&amp;"); break;
        case '<': sv_buf_adds(out, "&lt;"); break;
        case '>': sv_buf_adds(out, "&gt;"); break;
        case '"': sv_buf_adds(out, "&quot;"); break;
        default:
            if ((unsigned char)s.p[i] < 0x20) /* also what XML 1.0 has no place for: that is what encoding-type=url is for */
                sv_buf_addf(out, "&#%d;", s.p[i]);
            else
                sv_buf_addc(out, s.p[i]);
        }
}

void sv_xml_element(sv_buf *out, const char *name, sv_str text)
{
    sv_buf_addf(out, "<%s>", name);
    sv_xml_add(out, text);
    sv_buf_addf(out, "</%s>", name);
}
