/* links: http */
/* multipart_fuzz.c - forms: the input up to the first NUL is the Content-Type, the rest the body
 *
 * Whatever is taken apart must lie in the body, in order, between delimiters. */
#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const char *text = (const char *)p, *nul = n ? memchr(text, '\0', n) : NULL;
    sv_str type = {text, nul ? (size_t)(nul - text) : 0}, body = {text, n};
    if (nul)
        body = (sv_str){nul + 1, n - type.n - 1};
    sv_arena *a = sv_arena_create(4 << 20);
    sv_parts parts = {0};
    sv_err err = {0};
    sv_rc rc = sv_multipart_parse(&parts, a, type, body, &err);
    if (rc != SV_OK)
        SV_ASSERT(err.msg[0] && err.code == rc && !parts.v);
    const char *at = body.p;
    for (size_t i = 0; i < parts.n; i++) {
        const sv_part *q = &parts.v[i];
        SV_ASSERT(q->name.p && q->data.p >= at && q->data.p + q->data.n <= body.p + body.n);
        SV_ASSERT(!q->content_type.p || (q->content_type.p >= at && q->content_type.p < q->data.p));
        volatile char sum = 0;
        for (size_t k = 0; k < q->name.n; k++) /* every view can be read */
            sum = (char)(sum + q->name.p[k]);
        for (size_t k = 0; k < q->filename.n; k++)
            sum = (char)(sum + q->filename.p[k]);
        at = q->data.p + q->data.n;
    }
    if (rc == SV_OK)
        (void)sv_parts_find(&parts, "metadata");
    sv_arena_free(a);
    return 0;
}
