/* xml.h - the XML of S3: bodies in, as a small tree, and escaped text out
 * Threads: values. */
#ifndef SV_R2_XML_H
#define SV_R2_XML_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

typedef struct sv_xml {
    const char *name;      /* without its namespace */
    sv_str text;           /* all text inside, as it came */
    struct sv_xml *first, *next, *last; /* children in order */
} sv_xml;

/* The tree lives in the arena. SV_S3_MALFORMED_XML for what is none, for a document type (whose entities could be anything), and for more
 * than 16 levels or 65,536 elements. */
SV_MUST sv_rc sv_xml_parse(sv_xml **out, sv_arena *a, sv_str body, sv_err *err);
sv_xml *sv_xml_child(const sv_xml *x, const char *name); /* the first of that name; NULL. x may be NULL */
sv_str sv_xml_text(const sv_xml *x, const char *name);   /* its text, trimmed; {NULL, 0}: absent */

void sv_xml_add(sv_buf *out, sv_str text); /* escaped */
void sv_xml_element(sv_buf *out, const char *name, sv_str text); /* <name>text</name> */

#endif
