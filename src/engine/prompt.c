/* prompt.c - from messages or text to the tokens that a model reads
 *
 * Messages go through the chat template of the model's file, with the names that templates expect of the transformers library. Content that
 * comes as parts is flattened into one string first: most templates know strings only, and for text parts the meaning is the same.
 *
 * BOS: some templates (and callers of raw prompts) write it, some leave it to the tokenizer. The text is tokenized without, and BOS is put in
 * front only where the model wants one and the text does not begin with it already; so it is there exactly once.
 *
 * How many tokens a text has shows only once it is cut, and the refusal of a long one must tell. Up to EXACT_BYTES of text are therefore cut
 * to the end whatever the window is; beyond that no window we know would do, and the tokenizer may give up early. */
#include "engine/prompt.h"

#include "base/json.h"

enum { EXACT_BYTES = 1 << 20, MAX_TEXT_BYTES = 32 << 20 };

struct sv_prompts {
    sv_llm *m;
    char *bos, *eos; /* as the vocabulary spells them; "" where there is none */
};

/* --- loading ------------------------------------------------------------------------------------------------------ */

static char *spelling(const sv_llm *m, int32_t id)
{
    sv_str s = sv_tokenizer_text(sv_llm_tokenizer(m), id);
    return sv_xstrndup(s.p, s.n);
}

sv_prompts *sv_prompts_new(sv_llm *m)
{
    sv_prompts *p = sv_xnew0(sv_prompts);
    p->m = sv_llm_ref(m);
    p->bos = spelling(m, sv_tokenizer_bos(sv_llm_tokenizer(m)));
    p->eos = spelling(m, sv_tokenizer_eos(sv_llm_tokenizer(m)));
    return p;
}

sv_prompts *sv_prompts_free(sv_prompts *p)
{
    if (p) {
        sv_llm_unref(p->m);
        free(p->bos);
        free(p->eos);
    }
    free(p);
    return NULL;
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

/* The texts of a list of parts, one after the other. */
static sv_rc flatten(sv_buf *out, const json_t *parts, sv_err *err)
{
    size_t i;
    const json_t *part;
    json_array_foreach(parts, i, part) {
        const char *type = sv_json_cstr(part, "type");
        const json_t *text = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0)
            return sv_fail(err, SV_EINVAL, "a content part of type '%.40s' is nothing that this model reads", type ? type : "(none)");
        if (!json_is_string(text))
            return sv_fail(err, SV_EINVAL, "a content part of type 'text' has no text");
        sv_buf_add(out, json_string_value(text), json_string_length(text));
    }
    return SV_OK;
}

/* A shallow copy of one message, content as a string. */
static sv_rc plain_message(json_t **out, const json_t *message, sv_err *err)
{
    const json_t *content = json_object_get(message, "content");
    if (!json_is_object(message) || !sv_json_cstr(message, "role"))
        return sv_fail(err, SV_EINVAL, "a message is no object with a role");
    SV_AUTO(sv_json_decrefp) json_t *copy = json_copy((json_t *)(uintptr_t)message);
    if (json_is_array(content)) {
        SV_AUTO(sv_buf_donep) sv_buf text;
        sv_buf_init(&text, MAX_TEXT_BYTES);
        if (flatten(&text, content, err) != SV_OK)
            return err->code;
        json_object_set_new(copy, "content", json_stringn(sv_buf_cstr(&text), text.n));
    } else if (content && !json_is_string(content) && !json_is_null(content)) {
        return sv_fail(err, SV_EINVAL, "a message's content is neither a string nor a list of parts");
    }
    *out = SV_TAKE(copy);
    return SV_OK;
}

static sv_rc plain_messages(json_t **out, const json_t *messages, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *list = json_array();
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message) {
        json_t *plain = NULL;
        if (plain_message(&plain, message, err) != SV_OK)
            return sv_wrap(err, "messages[%zu]", i);
        json_array_append_new(list, plain);
    }
    if (json_array_size(list) == 0)
        return sv_fail(err, SV_EINVAL, "'messages' is empty");
    *out = SV_TAKE(list);
    return SV_OK;
}

/* For files without a template: a dialogue as it stands in books, which every base model has seen. */
static void render_plain(sv_buf *out, const json_t *messages)
{
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message) {
        const json_t *content = json_object_get(message, "content");
        const char *role = sv_json_cstr(message, "role");
        sv_buf_adds(out, strcmp(role, "system") == 0 ? "" : strcmp(role, "assistant") == 0 ? "Assistant: " : "User: ");
        if (json_is_string(content))
            sv_buf_add(out, json_string_value(content), json_string_length(content));
        sv_buf_adds(out, "\n");
    }
    sv_buf_adds(out, "Assistant:");
}

static sv_rc render_template(const sv_prompts *p, sv_buf *out, json_t *messages, const json_t *tools, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *context = json_object();
    json_object_set(context, "messages", messages);
    json_object_set_new(context, "add_generation_prompt", json_true());
    json_object_set_new(context, "bos_token", json_string(p->bos));
    json_object_set_new(context, "eos_token", json_string(p->eos));
    json_object_set(context, "tools", tools ? (json_t *)(uintptr_t)tools : json_null());
    return sv_template_render(sv_llm_template(p->m), context, out, err);
}

sv_rc sv_prompts_render(const sv_prompts *p, sv_buf *out, const json_t *messages, const json_t *tools, sv_err *err)
{
    SV_AUTO(sv_json_decrefp) json_t *plain = NULL;
    if (plain_messages(&plain, messages, err) != SV_OK)
        return err->code;
    if (sv_llm_template_error(p->m))
        return sv_fail(err, SV_EINVAL, "this model takes raw prompts only, its chat template is broken: %s", sv_llm_template_error(p->m));
    if (sv_llm_template(p->m)) {
        if (render_template(p, out, plain, tools, err) != SV_OK)
            return sv_wrap(err, "chat template");
    } else {
        render_plain(out, plain);
    }
    if (out->failed)
        return sv_fail(err, SV_ELIMIT, "the messages are over %d MiB", MAX_TEXT_BYTES >> 20);
    return SV_OK;
}

/* --- tokens ------------------------------------------------------------------------------------------------------- */

static int32_t window_of(const sv_prompts *p, const sv_wire_gen *g)
{
    int32_t n_ctx = sv_llm_get_info(p->m)->n_ctx;
    return g->n_ctx > 0 && g->n_ctx < n_ctx ? g->n_ctx : n_ctx;
}

static sv_rc encode(const sv_prompts *p, sv_tokens *out, sv_str text, int flags, int32_t window, sv_err *err)
{
    size_t max = text.n <= EXACT_BYTES ? EXACT_BYTES + 2 : (size_t)window;
    sv_rc rc = sv_tokenizer_encode(sv_llm_tokenizer(p->m), text, flags, max, out, err);
    if (rc == SV_ELIMIT)
        return sv_fail_api(err, SV_ELIMIT, 5021, "prompt of %zu bytes has more than %zu tokens: over the context window of %d tokens", text.n, max,
                           window);
    return rc;
}

static void put_bos_first(sv_tokens *t, int32_t bos)
{
    if (t->n == t->cap) {
        t->cap = t->n + 64;
        t->v = sv_xrealloc(t->v, t->cap, sizeof *t->v);
    }
    memmove(t->v + 1, t->v, t->n * sizeof *t->v);
    t->v[0] = bos;
    t->n++;
}

static sv_rc encode_messages(const sv_prompts *p, sv_tokens *out, const sv_wire_gen *g, sv_err *err)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&text, MAX_TEXT_BYTES);
    if (sv_prompts_render(p, &text, g->messages, g->tools, err) != SV_OK)
        return err->code;
    int flags = sv_llm_template(p->m) ? SV_TOK_SPECIAL : 0; /* without a template nothing in the text is ours to control with */
    return encode(p, out, sv_buf_str(&text), flags, window_of(p, g), err);
}

sv_rc sv_prompts_build(const sv_prompts *p, sv_tokens *out, const sv_wire_gen *g, sv_err *err)
{
    const sv_tokenizer *t = sv_llm_tokenizer(p->m);
    int32_t window = window_of(p, g);
    /* Raw text is formatted by its caller, control tokens too. */
    sv_rc rc = g->messages ? encode_messages(p, out, g, err) : encode(p, out, g->prompt, SV_TOK_SPECIAL, window, err);
    if (rc != SV_OK)
        return rc;
    int32_t bos = sv_tokenizer_bos(t);
    if (bos >= 0 && (out->n == 0 || (sv_tokenizer_adds_bos(t) && out->v[0] != bos)))
        put_bos_first(out, bos);
    if (out->n == 0)
        return sv_fail(err, SV_EINVAL, "the prompt is empty, and this model has no token to begin with");
    if (out->n > (size_t)window || g->max_tokens > window - (int32_t)out->n)
        return sv_fail_api(err, SV_ELIMIT, 5021, "prompt has %zu tokens and max_tokens is %d: over the context window of %d tokens", out->n,
                           g->max_tokens, window);
    return SV_OK;
}
