/* links: r2 */
/* Bodies of XML: a tree whose texts are all inside the arena, or a refusal. */
#include "r2/xml.h"

static size_t walk(const sv_xml *x, int depth)
{
    SV_ASSERT(depth < 32);
    size_t n = x->text.n + strlen(x->name);
    for (const sv_xml *c = x->first; c; c = c->next)
        n += walk(c, depth + 1);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    sv_arena *a = sv_arena_create(4 << 20);
    sv_xml *x = NULL;
    sv_err err = {0};
    if (sv_xml_parse(&x, a, (sv_str){(const char *)p, n}, &err) == SV_OK) {
        SV_ASSERT(walk(x, 0) <= 4 << 20);
        sv_buf b = {0};
        sv_buf_init(&b, 0);
        sv_xml_element(&b, "x", sv_xml_text(x, "Key"));
        sv_buf_done(&b);
    } else {
        SV_ASSERT(err.msg[0]);
    }
    sv_arena_free(a);
    return 0;
}
