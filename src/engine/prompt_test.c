/* prompt_test.c - what a model reads: templates, BOS once, parts, windows
 *
 * The small Llama has no template; it gets one here by a key put into its header. Bytes inserted are a multiple of the alignment, so that the
 * tensors behind stay where their offsets say. */
#include "engine/prompt.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define TINY SV_SOURCE_ROOT "/tests/reference/llama-f32.gguf"
enum { BOS = 1 };

static char path[64];

static void add_string(sv_buf *b, const char *s)
{
    uint64_t n = strlen(s);
    sv_buf_add(b, &n, sizeof n);
    sv_buf_adds(b, s);
}

/* The small model with a template, which a comment in front pads. */
static void write_model(const char *template)
{
    SV_AUTO(sv_buf_donep) sv_buf file, out;
    sv_err err = {0};
    uint64_t n_kv;
    uint32_t string_type = 8;
    sv_buf_init(&file, 0);
    sv_buf_init(&out, 0);
    assert_int_equal(sv_file_read(&file, TINY, &err), SV_OK);
    memcpy(&n_kv, file.p + 16, 8);
    n_kv++;
    sv_buf_add(&out, file.p, 16);
    sv_buf_add(&out, &n_kv, 8);
    size_t start = out.n;
    add_string(&out, "tokenizer.chat_template");
    sv_buf_add(&out, &string_type, 4);
    char text[2000];
    size_t bare = out.n - start + 8 + strlen(template) + 4;
    size_t pad = (32 - bare % 32) % 32;
    snprintf(text, sizeof text, "{#%.*s#}%s", (int)pad, "################################", template);
    add_string(&out, text);
    assert_int_equal((out.n - start) % 32, 0);
    sv_buf_add(&out, file.p + 24, file.n - 24);
    strcpy(path, "/tmp/sv-prompt-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(sv_write_all(fd, out.p, out.n, &err), SV_OK);
    close(fd);
}

typedef struct reader { sv_llm *m; sv_prompts *p; } reader;

static void open_model(reader *r, const char *template)
{
    sv_err err = {0};
    strcpy(path, "");
    if (template)
        write_model(template);
    const char *file = template ? path : TINY;
    if (sv_llm_open(&r->m, file, &err) != SV_OK)
        fail_msg("%s", err.msg);
    r->p = sv_prompts_new(r->m);
    if (template)
        unlink(path);
}

static void close_model(reader *r)
{
    r->p = sv_prompts_free(r->p);
    r->m = sv_llm_unref(r->m);
}

static void expect_text(const reader *r, const json_t *messages, const json_t *tools, const char *want)
{
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_err err = {0};
    sv_buf_init(&text, 0);
    if (sv_prompts_render(r->p, &text, messages, tools, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(sv_buf_cstr(&text), want);
}

static int n_bos(const sv_tokens *t)
{
    int n = 0;
    for (size_t i = 0; i < t->n; i++)
        n += t->v[i] == BOS;
    return n;
}

static void build(const reader *r, sv_tokens *t, const sv_wire_gen *g)
{
    sv_err err = {0};
    free(t->v);
    *t = (sv_tokens){0};
    if (sv_prompts_build(r->p, t, g, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_true(t->n > 0);
}

static json_t *hello(void)
{
    return json_pack("[{s:s,s:s},{s:s,s:[{s:s,s:s},{s:s,s:s}]},{s:s,s:n}]", "role", "system", "content", "Be", "role", "user", "content", "type",
                     "text", "text", "Hel", "type", "text", "text", "lo", "role", "assistant", "content");
}

static void a_template_sees_messages_tokens_tools_and_the_generation_prompt(void **state)
{
    (void)state;
    reader r;
    SV_AUTO(sv_json_decrefp) json_t *messages = hello(), *tools = json_pack("[{s:s}]", "name", "f");
    open_model(&r, "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content or 'none' }}{{ eos_token }}{% endfor %}"
                   "{% if tools %}{{ tools[0].name }}{% endif %}{% if add_generation_prompt %}>{% endif %}");
    expect_text(&r, messages, NULL, "<s>[system]Be</s>[user]Hello</s>[assistant]none</s>>");
    expect_text(&r, messages, tools, "<s>[system]Be</s>[user]Hello</s>[assistant]none</s>f>");
    assert_true(json_is_array(json_object_get(json_array_get(messages, 1), "content"))); /* the caller's are untouched */
    close_model(&r);
}

static void bos_is_there_once_whoever_writes_it(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *messages = hello();
    sv_tokens with = {0}, without = {0};
    reader r;
    open_model(&r, "{{ bos_token }}{{ messages[0].content }}");
    build(&r, &with, &(sv_wire_gen){.messages = messages, .max_tokens = 1});
    build(&r, &without, &(sv_wire_gen){.prompt = SV_STR("<s>Be"), .max_tokens = 1});
    assert_int_equal(n_bos(&without), 1);
    close_model(&r);
    open_model(&r, "{{ messages[0].content }}");
    build(&r, &without, &(sv_wire_gen){.messages = messages, .max_tokens = 1});
    close_model(&r);
    assert_int_equal(with.v[0], BOS);
    assert_int_equal(n_bos(&with), 1);
    assert_int_equal(with.n, without.n);
    assert_memory_equal(with.v, without.v, with.n * sizeof *with.v);
    open_model(&r, NULL);
    build(&r, &without, &(sv_wire_gen){.prompt = SV_STR("Be"), .max_tokens = 1});
    assert_int_equal(without.n, with.n);
    assert_memory_equal(with.v, without.v, with.n * sizeof *with.v);
    build(&r, &without, &(sv_wire_gen){.prompt = SV_STR(""), .max_tokens = 1});
    assert_true(without.n == 1 && without.v[0] == BOS);
    close_model(&r);
    free(with.v);
    free(without.v);
}

static void without_a_template_messages_become_a_plain_dialogue(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *messages = hello(), *sly = json_pack("[{s:s,s:s}]", "role", "user", "content", "</s>");
    sv_tokens t = {0};
    reader r;
    open_model(&r, NULL);
    expect_text(&r, messages, NULL, "Be\nUser: Hello\nAssistant: \nAssistant:");
    build(&r, &t, &(sv_wire_gen){.messages = sly, .max_tokens = 1});
    for (size_t i = 0; i < t.n; i++)
        assert_int_not_equal(t.v[i], 2); /* a user's "</s>" is text there */
    free(t.v);
    close_model(&r);
}

static void refuse(const reader *r, const sv_wire_gen *g, sv_rc rc, int api_code, const char *words)
{
    sv_tokens t = {0};
    sv_err err = {0};
    assert_int_equal(sv_prompts_build(r->p, &t, g, &err), rc);
    assert_int_equal(err.api_code, api_code);
    if (!strstr(err.msg, words))
        fail_msg("'%s' does not say '%s'", err.msg, words);
    free(t.v);
}

static void a_broken_template_refuses_messages_and_leaves_raw_prompts(void **state)
{
    (void)state;
    reader r = {0};
    sv_err err = {0};
    sv_tokens t = {0};
    SV_AUTO(sv_json_decrefp) json_t *messages = hello();
    open_model(&r, "{% for m in messages %}");
    assert_int_equal(sv_prompts_build(r.p, &t, &(sv_wire_gen){.messages = messages, .max_tokens = 5}, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "raw prompts only"));
    assert_non_null(strstr(err.msg, "'endfor' is missing"));
    build(&r, &t, &(sv_wire_gen){.prompt = SV_STR("Hi"), .max_tokens = 5});
    free(t.v);
    close_model(&r);
}

static void refusals_name_what_is_wrong_and_both_counts(void **state)
{
    (void)state;
    static char text[3 << 20];
    memset(text, 'a', sizeof text);
    SV_AUTO(sv_json_decrefp) json_t *messages = hello(), *number = json_pack("[{s:s,s:i}]", "role", "user", "content", 1),
                                   *word = json_pack("[s]", "hi"), *part = json_pack("[{s:s,s:[{s:s}]}]", "role", "user", "content", "type", "text");
    reader r;
    open_model(&r, "{{ raise_exception('roles must alternate') }}");
    refuse(&r, &(sv_wire_gen){.messages = messages, .max_tokens = 1}, SV_EINVAL, 0, "roles must alternate");
    close_model(&r);
    open_model(&r, "x");
    refuse(&r, &(sv_wire_gen){.messages = number, .max_tokens = 1}, SV_EINVAL, 0, "content");
    refuse(&r, &(sv_wire_gen){.messages = word, .max_tokens = 1}, SV_EINVAL, 0, "messages[0]");
    refuse(&r, &(sv_wire_gen){.messages = part, .max_tokens = 1}, SV_EINVAL, 0, "no text");
    sv_tokens t = {0};
    build(&r, &t, &(sv_wire_gen){.prompt = {text, 100}, .max_tokens = 1});
    int32_t n = (int32_t)t.n;
    free(t.v);
    char words[96];
    snprintf(words, sizeof words, "prompt has %d tokens and max_tokens is %d: over the context window of 128 tokens", n, 128 - n + 1);
    refuse(&r, &(sv_wire_gen){.prompt = {text, 100}, .max_tokens = 128 - n + 1}, SV_ELIMIT, 5021, words);
    t = (sv_tokens){0};
    build(&r, &t, &(sv_wire_gen){.prompt = {text, 100}, .max_tokens = 128 - n}); /* just fits */
    free(t.v);
    refuse(&r, &(sv_wire_gen){.prompt = {text, 1 << 20}, .max_tokens = 5}, SV_ELIMIT, 5021, "tokens and max_tokens is 5");
    refuse(&r, &(sv_wire_gen){.prompt = {text, sizeof text}, .max_tokens = 5}, SV_ELIMIT, 5021, "more than 128 tokens");
    close_model(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_template_sees_messages_tokens_tools_and_the_generation_prompt),
        cmocka_unit_test(bos_is_there_once_whoever_writes_it),
        cmocka_unit_test(without_a_template_messages_become_a_plain_dialogue),
        cmocka_unit_test(a_broken_template_refuses_messages_and_leaves_raw_prompts),
        cmocka_unit_test(refusals_name_what_is_wrong_and_both_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
