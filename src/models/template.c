/* template.c - chat templates: compile once, render for each request
 *
 * Model files carry the program that turns a list of messages into their prompt, in Jinja, as the transformers library runs it:
 * jinja2's sandbox with trim_blocks, lstrip_blocks and loop controls, plus tojson, raise_exception and strftime_now. A model
 * was trained on those exact bytes, so the goal here is the same bytes, or a refusal, for what real templates do. It is an
 * interpreter and not a pattern match on known templates: new models come with new ones.
 *
 * Templates come from strangers and the context from clients, so a render is closed in: no I/O, no cycles (values never
 * change), and bounds on steps, memory, depth and output. Steps grow with the bytes touched, so the bound holds for time too. */
#include "models/template_impl.h"

#include "base/time.h"

enum {
    COMPILE_BYTES = 256 << 20, /* a source of 1 MiB makes a token of 48 bytes and a node of some 200 every few characters */
    RENDER_BYTES = 256 << 20,
    RENDER_STEPS = 10 * 1000 * 1000, /* about a second; a chat of 200 messages takes some ten thousand */
};

sv_rc sv_template_compile(sv_template **out, sv_str source, sv_err *err)
{
    SV_AUTO(sv_template_freep) sv_template *t = sv_xnew0(sv_template);
    ttokens toks = {0};
    t->mem = sv_arena_create(COMPILE_BYTES);
    sv_rc rc = sv_tpl_lex(&toks, t->mem, source, err);
    if (rc == SV_OK)
        rc = sv_tpl_parse(t, &toks, err);
    free(toks.v);
    if (rc == SV_OK)
        *out = SV_TAKE(t);
    return rc;
}

sv_template *sv_template_free(sv_template *t)
{
    if (t)
        sv_arena_free(t->mem);
    free(t);
    return NULL;
}

static void bind_globals(trun *r, const json_t *context)
{
    const sv_template *t = r->t;
    r->global = sv_tpl_alloc(r, (size_t)t->n_sym, sizeof *r->global);
    for (int i = 0; i < t->n_sym && r->rc == SV_OK; i++) {
        const json_t *v = json_object_getn(context, t->sym[i].p, t->sym[i].n);
        const tbuiltin *f = v ? NULL : sv_tpl_find_global(t->sym[i]);
        r->global[i] = v ? sv_tpl_from_json(r, v) : f ? (tval){.kind = T_FUNC, .func = f} : TV_UNDEF(UNDEF_NAME, t->sym[i]);
    }
}

sv_rc sv_tpl_render_at(const sv_template *t, const json_t *context, int64_t now_s, sv_buf *out, sv_err *err)
{
    SV_AUTO(sv_arena_freep) sv_arena *mem = sv_arena_create(RENDER_BYTES);
    SV_TPL_BUF(&(trun){.max_out = out->max}, text);
    trun r = {.t = t, .mem = mem, .out = &text, .max_out = text.max, .fuel = RENDER_STEPS, .now_s = now_s, .err = err};
    r.scope = sv_tpl_alloc(&r, 1, sizeof *r.scope);
    bind_globals(&r, context);
    if (r.rc == SV_OK)
        sv_tpl_exec(&r, t->root);
    if (r.rc == SV_OK && !sv_buf_add(out, text.p ? text.p : "", text.n))
        return sv_fail(err, SV_ELIMIT, "the rendered chat has %zu bytes, more than there is room for", text.n);
    return r.rc;
}

sv_rc sv_template_render(const sv_template *t, const json_t *context, sv_buf *out, sv_err *err)
{
    return sv_tpl_render_at(t, context, sv_now_ms() / 1000, out, err);
}
