/* schema_test.c - inputs that are taken, and what is said of those that are not */
#include "ai/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "account/limits.h"

typedef sv_rc (*family)(sv_tg_input *out, json_t *body, double temperature, sv_err *err);

static sv_rc check(family f, const char *text, sv_tg_input *in, sv_err *err)
{
    json_t *body = NULL;
    *in = (sv_tg_input){0};
    *err = (sv_err){0};
    if (sv_json_parse(&body, sv_str_of(text), err) != SV_OK)
        fail_msg("%s: %s", text, err->msg);
    sv_rc rc = f(in, body, 0.6, err);
    json_decref(body);
    return rc;
}

static void take(family f, const char *text, sv_tg_input *in)
{
    sv_err err;
    if (check(f, text, in, &err) != SV_OK)
        fail_msg("%s: %s", text, err.msg);
}

static void refused(family f, const char *text, const char *field, const char *says)
{
    sv_err err;
    sv_tg_input in;
    if (check(f, text, &in, &err) == SV_OK)
        fail_msg("taken: %s", text);
    assert_int_equal(err.code, SV_EINVAL);
    assert_int_equal(err.api_code, 5006);
    assert_string_equal(in.bad, field);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
    assert_null(in.root);
    assert_null(in.messages);
}

static const char *content(const sv_tg_input *in, size_t i)
{
    return json_string_value(json_object_get(json_array_get(in->messages, i), "content"));
}

static void a_prompt_becomes_a_user_turn(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_classic, "{\"prompt\":\"hi\"}", &in);
    assert_int_equal(json_array_size(in.messages), 1);
    assert_string_equal(content(&in, 0), "hi");
    assert_string_equal(json_string_value(json_object_get(json_array_get(in.messages, 0), "role")), "user");
    assert_int_equal(in.max_tokens, 256);
    assert_false(in.capped || in.stream || in.sampling.has_seed);
    assert_true(in.sampling.temperature > 0.599f && in.sampling.temperature < 0.601f);
    sv_tg_input_done(&in);
}

static void a_raw_prompt_stays_as_it_is(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_classic, "{\"prompt\":\"Once\\u0000upon\",\"raw\":true,\"temperature\":0,\"max_tokens\":190.0,\"stream\":true}", &in);
    assert_null(in.messages);
    assert_int_equal(in.prompt.n, 9);
    assert_memory_equal(in.prompt.p, "Once\0upon", 9);
    assert_int_equal(in.max_tokens, 190);
    assert_true(in.capped && in.stream && in.sampling.temperature == 0.0f);
    sv_tg_input_done(&in);
}

static void all_fields_arrive(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_classic,
         "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":null},"
         "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}],"
         "\"temperature\":5,\"top_p\":0.25,\"top_k\":50,\"seed\":9999999999,\"repetition_penalty\":2,\"frequency_penalty\":-2,\"presence_penalty\":1.5,"
         "\"tools\":[],\"response_format\":{\"type\":\"text\"},\"lora\":null,\"unknown\":{\"x\":1}}",
         &in);
    assert_int_equal(json_array_size(in.messages), 4);
    assert_string_equal(content(&in, 2), "");
    assert_string_equal(content(&in, 3), "a\nb");
    assert_true(in.sampling.temperature == 5.0f && in.sampling.top_p == 0.25f && in.sampling.top_k == 50 && in.sampling.has_seed);
    assert_true(in.sampling.seed == 9999999999u && in.sampling.repetition_penalty == 2.0f);
    assert_true(in.sampling.frequency_penalty == -2.0f && in.sampling.presence_penalty == 1.5f);
    sv_tg_input_done(&in);
}

static void a_nucleus_of_zero_is_not_switched_off(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_classic, "{\"prompt\":\"x\",\"top_p\":0}", &in);
    assert_true(in.sampling.top_p > 0 && in.sampling.top_p < 0.001f);
    sv_tg_input_done(&in);
}

static void refusals_name_field_and_limit(void **state)
{
    static const struct { const char *text, *field, *says; } cases[] = {
        {"{}", "prompt", "required properties at '/' are 'prompt' or 'messages'"},
        {"[]", "", "Type mismatch of '/', 'array' not in 'object'"},
        {"null", "", "'null' not in 'object'"},
        {"{\"prompt\":\"a\",\"messages\":[]}", "prompt", "2 matches"},
        {"{\"prompt\":7}", "prompt", "Type mismatch of '/prompt', 'number' not in 'string'"},
        {"{\"prompt\":\"\"}", "prompt", "at least 1 character"},
        {"{\"prompt\":\"a\",\"raw\":\"yes\"}", "raw", "'string' not in 'boolean'"},
        {"{\"prompt\":\"a\",\"stream\":1}", "stream", "'number' not in 'boolean'"},
        {"{\"prompt\":\"a\",\"max_tokens\":\"9\"}", "max_tokens", "'string' not in 'integer'"},
        {"{\"prompt\":\"a\",\"max_tokens\":0}", "max_tokens", "'/max_tokens' must be >= 1, got 0"},
        {"{\"prompt\":\"a\",\"max_tokens\":2.5}", "max_tokens", "must be an integer, got 2.5"},
        {"{\"prompt\":\"a\",\"max_tokens\":1e300}", "max_tokens", "must be <= "},
        {"{\"prompt\":\"a\",\"temperature\":5.1}", "temperature", "must be <= 5, got 5.1"},
        {"{\"prompt\":\"a\",\"temperature\":-1}", "temperature", "must be >= 0, got -1"},
        {"{\"prompt\":\"a\",\"temperature\":true}", "temperature", "'boolean' not in 'number'"},
        {"{\"prompt\":\"a\",\"top_p\":2.5}", "top_p", "must be <= 2"},
        {"{\"prompt\":\"a\",\"top_k\":51}", "top_k", "must be <= 50, got 51"},
        {"{\"prompt\":\"a\",\"top_k\":0}", "top_k", "must be >= 1"},
        {"{\"prompt\":\"a\",\"seed\":0}", "seed", "must be >= 1"},
        {"{\"prompt\":\"a\",\"seed\":10000000000}", "seed", "must be <= 9999999999"},
        {"{\"prompt\":\"a\",\"repetition_penalty\":-0.1}", "repetition_penalty", "must be >= 0"},
        {"{\"prompt\":\"a\",\"frequency_penalty\":2.1}", "frequency_penalty", "must be <= 2"},
        {"{\"prompt\":\"a\",\"presence_penalty\":-2.1}", "presence_penalty", "must be >= -2"},
        {"{\"prompt\":\"a\",\"tools\":[{\"name\":\"f\"}]}", "tools", "does not call tools"},
        {"{\"prompt\":\"a\",\"functions\":[{\"name\":\"f\"}]}", "functions", "does not call tools"},
        {"{\"prompt\":\"a\",\"response_format\":{\"type\":\"json_object\"}}", "response_format/type", "no JSON mode"},
        {"{\"prompt\":\"a\",\"response_format\":\"json\"}", "response_format", "'string' not in 'object'"},
        {"{\"prompt\":\"a\",\"guided_json\":{\"type\":\"object\"}}", "guided_json", "no JSON mode"},
        {"{\"prompt\":\"a\",\"image\":[1,2]}", "image", "reads text only"},
        {"{\"prompt\":\"a\",\"lora\":3}", "lora", "'number' not in 'string'"},
        {"{\"requests\":[{\"prompt\":\"a\"}]}", "requests", "no asynchronous batches"},
        {"{\"prompt\":\"a\",\"options\":{\"rejectIfBusy\":1}}", "options/rejectIfBusy", "'number' not in 'boolean'"},
        {"{\"messages\":{}}", "messages", "'object' not in 'array'"},
        {"{\"messages\":[]}", "messages", "at least 1 item"},
        {"{\"messages\":[\"a\"]}", "messages/0", "'string' not in 'object'"},
        {"{\"messages\":[{\"content\":\"a\"}]}", "messages/0", "required properties at '/messages/0' are 'role'"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "messages/0", "are 'content'"},
        {"{\"messages\":[{\"role\":\"robot\",\"content\":\"a\"}]}", "messages/0/role", "got 'robot'"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":5}]}", "messages/1/content", "'number' not in 'string, array'"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:\"}}]}]}", "messages/0/content/0", "'image_url'"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"raw\":true}", "raw", "needs 'prompt'"},
    };
    (void)state;
    for (size_t i = 0; i < SV_LEN(cases); i++)
        refused(sv_schema_classic, cases[i].text, cases[i].field, cases[i].says);
}

static void a_lora_has_its_own_code(void **state)
{
    (void)state;
    sv_err err;
    sv_tg_input in;
    assert_int_equal(check(sv_schema_classic, "{\"prompt\":\"a\",\"lora\":\"mine\"}", &in, &err), SV_EINVAL);
    assert_int_equal(err.api_code, 5005);
}

static void long_text_is_counted_in_characters(void **state)
{
    (void)state;
    size_t max = (size_t)sv_limit_value(SV_LIMIT_AI_PROMPT_CHARS);
    for (size_t over = 0; over < 2; over++) {
        SV_AUTO(sv_buf_donep) sv_buf b;
        sv_buf_init(&b, 0);
        sv_buf_adds(&b, "{\"prompt\":\"");
        for (size_t i = 0; i < max + over; i++)
            sv_buf_adds(&b, "\xc3\xa9");
        sv_buf_adds(&b, "\"}");
        sv_tg_input in;
        if (over) {
            refused(sv_schema_classic, sv_buf_cstr(&b), "prompt", "must have at most 131072 characters, got 131073");
        } else {
            take(sv_schema_classic, sv_buf_cstr(&b), &in);
            sv_tg_input_done(&in);
        }
    }
}

static void too_many_messages_are_refused(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "{\"messages\":[");
    for (int64_t i = 0; i <= sv_limit_value(SV_LIMIT_AI_MESSAGES); i++)
        sv_buf_addf(&b, "%s{\"role\":\"user\",\"content\":\"\"}", i ? "," : "");
    sv_buf_adds(&b, "]}");
    refused(sv_schema_classic, sv_buf_cstr(&b), "messages", "at most");
}

#define CHAT(rest) "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]" rest "}"

static void chat_completions_have_their_own_ranges(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_chat,
         CHAT(",\"max_tokens\":5,\"max_completion_tokens\":7,\"stop\":[\"x\",\"yz\"],\"n\":1,\"logprobs\":false,\"top_logprobs\":0,\"stream\":true,"
              "\"stream_options\":{\"include_usage\":true},\"seed\":-3,\"top_p\":1,\"tool_choice\":\"none\",\"user\":\"me\",\"frequency_penalty\":null"),
         &in);
    assert_int_equal(in.max_tokens, 7);
    assert_string_equal(in.stop[0], "x");
    assert_string_equal(in.stop[1], "yz");
    assert_null(in.stop[2]);
    assert_true(in.usage_event && in.stream && in.sampling.has_seed);
    sv_tg_input_done(&in);

    take(sv_schema_chat, CHAT(",\"logprobs\":true,\"top_logprobs\":4,\"logit_bias\":{\"5\":-100,\"17\":2.5},\"min_p\":0.1,\"typical_p\":0.5"), &in);
    assert_true(in.sampling.logprobs && in.sampling.top_logprobs == 4 && in.sampling.min_p == 0.1f && in.sampling.typical_p == 0.5f);
    assert_int_equal(in.sampling.n_logit_bias, 2);
    for (int i = 0; i < 2; i++)
        assert_true(in.sampling.logit_bias[i].token == 5 ? in.sampling.logit_bias[i].bias == -100
                                                         : in.sampling.logit_bias[i].token == 17 && in.sampling.logit_bias[i].bias == 2.5f);
    sv_tg_input_done(&in);

    take(sv_schema_chat, "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":\"a\"}],\"stop\":\"END\"}", &in);
    assert_string_equal(json_string_value(json_object_get(json_array_get(in.messages, 0), "role")), "system");
    assert_string_equal(in.stop[0], "END");
    sv_tg_input_done(&in);

    refused(sv_schema_chat, "{}", "messages", "required properties at '/' are 'messages'");
    refused(sv_schema_chat, CHAT(",\"temperature\":2.1"), "temperature", "must be <= 2");
    refused(sv_schema_chat, CHAT(",\"top_p\":1.5"), "top_p", "must be <= 1");
    refused(sv_schema_chat, CHAT(",\"n\":2"), "n", "must be 1");
    refused(sv_schema_chat, CHAT(",\"n\":0"), "n", "must be >= 1");
    refused(sv_schema_chat, CHAT(",\"logprobs\":3"), "logprobs", "'number' not in 'boolean'");
    refused(sv_schema_chat, CHAT(",\"top_logprobs\":2"), "top_logprobs", "needs 'logprobs': true");
    refused(sv_schema_chat, CHAT(",\"logprobs\":true,\"top_logprobs\":21"), "top_logprobs", "must be <= 20");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":[5]"), "logit_bias", "'array' not in 'object'");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":{\"x5\":1}"), "logit_bias", "must be a token id");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":{\"\":1}"), "logit_bias", "must be a token id");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":{\"12345678901\":1}"), "logit_bias", "must be a token id");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":{\"5\":101}"), "logit_bias/5", "<= 100, got 101");
    refused(sv_schema_chat, CHAT(",\"logit_bias\":{\"5\":\"a\"}"), "logit_bias/5", "'string' not in 'number'");
    refused(sv_schema_chat, CHAT(",\"typical_p\":1.5"), "typical_p", "must be <= 1");
    refused(sv_schema_chat, CHAT(",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), "stop", "at most 4 items, got 5");
    refused(sv_schema_chat, CHAT(",\"stop\":[1]"), "stop/0", "'number' not in 'string'");
    refused(sv_schema_chat, CHAT(",\"stop\":\"\""), "stop", "must have 1 to");
    refused(sv_schema_chat, CHAT(",\"stop\":\"a\\u0000b\""), "stop", "NUL");
    refused(sv_schema_chat, CHAT(",\"modalities\":[\"text\",\"audio\"]"), "modalities", "text only");
    refused(sv_schema_chat, CHAT(",\"stream_options\":3"), "stream_options", "'number' not in 'object'");
    refused(sv_schema_chat, CHAT(",\"response_format\":{\"type\":\"json_schema\"}"), "response_format/type", "no JSON mode");
}

static void completions_take_one_string(void **state)
{
    (void)state;
    sv_tg_input in;
    take(sv_schema_completion, "{\"prompt\":[\"Once\"],\"max_tokens\":3,\"suffix\":\"\",\"echo\":false,\"best_of\":1}", &in);
    assert_true(sv_str_is(in.prompt, "Once"));
    assert_null(in.messages);
    sv_tg_input_done(&in);
    refused(sv_schema_completion, "{\"prompt\":[1,2]}", "prompt", "token ids");
    refused(sv_schema_completion, "{\"prompt\":[\"a\",\"b\"]}", "prompt", "several prompts");
    refused(sv_schema_completion, "{\"prompt\":\"a\",\"echo\":true}", "echo", "not supported");
    refused(sv_schema_completion, "{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix", "not supported");
    refused(sv_schema_completion, "{\"prompt\":\"a\",\"logprobs\":6}", "logprobs", "must be <= 5");
    refused(sv_schema_completion, "{\"prompt\":\"a\",\"logprobs\":true}", "logprobs", "'boolean' not in 'integer'");
    take(sv_schema_completion, "{\"prompt\":\"a\",\"logprobs\":0}", &in);
    assert_true(in.sampling.logprobs && in.sampling.top_logprobs == 0);
    sv_tg_input_done(&in);
    refused(sv_schema_completion, "{\"prompt\":\"a\",\"best_of\":3}", "best_of", "must be 1");
}

static void the_described_schema_has_the_ranges_of_the_checks(void **state)
{
    (void)state;
    json_t *s = sv_schema_describe(false);
    assert_non_null(s);
    const json_t *prompt = json_array_get(json_object_get(json_object_get(s, "input"), "oneOf"), 0);
    const json_t *p = json_object_get(prompt, "properties");
    static const char *const numbers[] = {"max_tokens", "temperature", "top_p", "top_k", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty"};
    for (size_t i = 0; i < SV_LEN(numbers); i++) { /* at the bounds taken, beyond them refused */
        double max = json_number_value(json_object_get(json_object_get(p, numbers[i]), "maximum"));
        double min = json_number_value(json_object_get(json_object_get(p, numbers[i]), "minimum"));
        char text[128];
        sv_tg_input in;
        for (int k = 0; k < 2; k++) {
            snprintf(text, sizeof text, "{\"prompt\":\"a\",\"%s\":%.0f}", numbers[i], k ? max : min);
            take(sv_schema_classic, text, &in);
            sv_tg_input_done(&in);
            snprintf(text, sizeof text, "{\"prompt\":\"a\",\"%s\":%.0f}", numbers[i], k ? max + 1 : min - 1);
            refused(sv_schema_classic, text, numbers[i], "must be");
        }
    }
    json_decref(s);
    s = sv_schema_describe(true);
    assert_non_null(json_object_get(json_object_get(json_object_get(s, "input"), "properties"), "messages"));
    json_decref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_becomes_a_user_turn),
        cmocka_unit_test(a_raw_prompt_stays_as_it_is),
        cmocka_unit_test(all_fields_arrive),
        cmocka_unit_test(a_nucleus_of_zero_is_not_switched_off),
        cmocka_unit_test(refusals_name_field_and_limit),
        cmocka_unit_test(a_lora_has_its_own_code),
        cmocka_unit_test(long_text_is_counted_in_characters),
        cmocka_unit_test(too_many_messages_are_refused),
        cmocka_unit_test(chat_completions_have_their_own_ranges),
        cmocka_unit_test(completions_take_one_string),
        cmocka_unit_test(the_described_schema_has_the_ranges_of_the_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
