/* wire_test.c - frames come out as they went in, in whatever pieces, and broken ones are refused */
#include "engine/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static sv_frame only_frame(const sv_buf *b)
{
    sv_frame f = {0};
    size_t used = 0;
    sv_err err = {0};
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(b), &err), SV_OK);
    assert_int_equal(used, b->n);
    return f;
}

static void a_request_arrives_as_it_was_sent(void **state)
{
    (void)state;
    static const char *const stop[] = {"\n\n", "\xc3\xa4", NULL};
    const sv_gen_opts o = {
        .model_path = "/m/a \"b\".gguf", .tenant = "t1", .prompt = SV_STR("any\0bytes\xff"), .max_tokens = 5, .n_ctx = 77, .stop = stop,
        .sampling = {.temperature = 0.1f, .top_p = 0.9f, .top_k = 40, .min_p = 0.05f, .repetition_penalty = 1.1f, .frequency_penalty = -2,
                     .presence_penalty = 0.3f, .has_seed = true, .seed = UINT64_MAX - 5}};
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_wire_gen_donep) sv_wire_gen g = {0};
    sv_err err = {0};
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_gen(&b, 9, &o, &err), SV_OK);
    sv_frame f = only_frame(&b);
    assert_int_equal(f.id, 9);
    assert_int_equal(sv_wire_get_gen(&g, &f, &err), SV_OK);
    assert_string_equal(g.model_path, o.model_path);
    assert_string_equal(g.tenant, "t1");
    assert_true(sv_str_eq(g.prompt, o.prompt));
    assert_null(g.messages);
    assert_null(g.tools);
    assert_int_equal(g.max_tokens, 5);
    assert_int_equal(g.n_ctx, 77);
    assert_int_equal(g.n_stops, 2);
    assert_true(sv_str_is(g.stop[0], stop[0]) && sv_str_is(g.stop[1], stop[1]));
    const sv_sampling *s = &g.sampling, *w = &o.sampling;
    assert_true(s->temperature == w->temperature && s->top_p == w->top_p && s->top_k == w->top_k && s->min_p == w->min_p);
    assert_true(s->repetition_penalty == w->repetition_penalty && s->frequency_penalty == w->frequency_penalty);
    assert_true(s->presence_penalty == w->presence_penalty && s->has_seed && s->seed == w->seed);
}

static void bias_and_wishes_for_probabilities_arrive_as_they_were_sent(void **state)
{
    (void)state;
    static const sv_logit_bias bias[] = {{0, -100}, {77, 0.1f}, {INT32_MAX, 100}};
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_wire_gen_donep) sv_wire_gen g = {0};
    sv_err err = {0};
    sv_gen_opts o = {.model_path = "m", .prompt = SV_STR("x"), .max_tokens = 1,
                     .sampling = {.typical_p = 0.2f, .logprobs = true, .top_logprobs = 20, .logit_bias = bias, .n_logit_bias = 3}};
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_gen(&b, 1, &o, &err), SV_OK);
    sv_frame f = only_frame(&b);
    assert_int_equal(sv_wire_get_gen(&g, &f, &err), SV_OK);
    assert_true(g.sampling.typical_p == 0.2f && g.sampling.logprobs && g.sampling.top_logprobs == 20);
    assert_int_equal(g.sampling.n_logit_bias, 3);
    assert_memory_equal(g.sampling.logit_bias, bias, sizeof bias);
    static const sv_logit_bias bad[] = {{-1, 0}, {1, 100.5f}, {1, -101}, {1, __builtin_nanf("")}};
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        o.sampling.logit_bias = &bad[i];
        o.sampling.n_logit_bias = 1;
        assert_int_equal(sv_wire_add_gen(&b, 1, &o, &err), SV_EINVAL);
        assert_non_null(strstr(err.msg, "logit_bias"));
    }
    o.sampling = (sv_sampling){.top_logprobs = 21};
    sv_buf_reset(&b);
    assert_int_equal(sv_wire_add_gen(&b, 1, &o, &err), SV_OK); /* the engine is the one that refuses */
    f = only_frame(&b);
    sv_wire_gen refused = {0};
    assert_int_equal(sv_wire_get_gen(&refused, &f, &err), SV_EINVAL);
}

static void probabilities_come_out_as_they_went_in_and_broken_ones_are_refused(void **state)
{
    (void)state;
    const sv_token_probs in[2] = {
        {.chosen = {7, -0.25f, SV_STR("\xf0\x9f")}, .top = {{8, -0.1f, SV_STR("a")}, {7, -0.25f, SV_STR("\xf0\x9f")}}, .n_top = 2},
        {.chosen = {9, -__builtin_inff(), SV_STR("")}},
    };
    SV_AUTO(sv_buf_donep) sv_buf packed;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    sv_str got;
    sv_token_probs p;
    sv_buf_init(&packed, 0);
    sv_buf_init(&b, 0);
    sv_wire_pack_probs(&packed, &in[0]);
    sv_wire_pack_probs(&packed, &in[1]);
    sv_wire_add(&b, SV_WIRE_PROBS, 3, sv_buf_str(&packed));
    sv_frame f = only_frame(&b);
    assert_int_equal(sv_wire_get_probs(&got, &f, &err), SV_OK);
    for (int i = 0; i < 2; i++) {
        assert_true(sv_token_probs_next(&p, &got));
        assert_int_equal(p.n_top, in[i].n_top);
        for (int t = -1; t < p.n_top; t++) {
            const sv_token_prob *a = t < 0 ? &p.chosen : &p.top[t], *w = t < 0 ? &in[i].chosen : &in[i].top[t];
            assert_true(a->token == w->token && a->logprob == w->logprob && sv_str_eq(a->bytes, w->bytes));
        }
    }
    assert_false(sv_token_probs_next(&p, &got));
    for (size_t cut = 16; cut < packed.n; cut++) { /* every shorter one but the first entry alone */
        f.payload = (sv_str){packed.p, cut};
        sv_rc rc = sv_wire_get_probs(&got, &f, &err);
        assert_int_equal(rc, cut == packed.n - 16 ? SV_OK : SV_EFORMAT);
    }
    packed.p[0] = 21; /* more alternatives than there may be */
    f.payload = sv_buf_str(&packed);
    assert_int_equal(sv_wire_get_probs(&got, &f, &err), SV_EFORMAT);
}

static void messages_and_tools_arrive_as_they_were_sent(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *messages = json_pack("[{s:s%,s:s}]", "role", "us\0er", (size_t)5, "content", "\xf0\x9f\x99\x82 \"x\"\n");
    SV_AUTO(sv_json_decrefp) json_t *tools = json_pack("[{s:{s:f}}]", "f", "x", 0.1);
    SV_AUTO(sv_buf_donep) sv_buf b;
    SV_AUTO(sv_wire_gen_donep) sv_wire_gen g = {0};
    sv_err err = {0};
    sv_buf_init(&b, 0);
    assert_int_equal(sv_wire_add_gen(&b, 1, &(sv_gen_opts){.model_path = "m", .messages = messages, .tools = tools, .max_tokens = 1}, &err), SV_OK);
    sv_frame f = only_frame(&b);
    assert_int_equal(sv_wire_get_gen(&g, &f, &err), SV_OK);
    assert_true(json_equal(g.messages, messages));
    assert_true(json_equal(g.tools, tools));
    assert_false(g.sampling.has_seed);
}

static void small_frames_come_out_as_they_went_in(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0}, what = {0}, got = {0};
    sv_usage usage = {0};
    sv_finish finish;
    sv_str text;
    int32_t n_tokens;
    sv_wire_hello hello;
    sv_buf_init(&b, 0);
    sv_wire_add_hello(&b, 123);
    sv_frame f = only_frame(&b);
    assert_int_equal(sv_wire_get_hello(&hello, &f, &err), SV_OK);
    assert_int_equal(hello.pid, 123);
    sv_buf_reset(&b);
    sv_wire_add_started(&b, 2, &(sv_usage){.prompt_tokens = 7, .cached_tokens = 3});
    f = only_frame(&b);
    assert_int_equal(sv_wire_get_started(&usage, &f, &err), SV_OK);
    assert_true(usage.prompt_tokens == 7 && usage.cached_tokens == 3);
    sv_buf_reset(&b);
    sv_wire_add_text(&b, UINT32_MAX, SV_STR("h\xc3\xa4"), 2);
    f = only_frame(&b);
    assert_int_equal(f.id, UINT32_MAX);
    assert_int_equal(sv_wire_get_text(&text, &n_tokens, &f, &err), SV_OK);
    assert_true(sv_str_is(text, "h\xc3\xa4") && n_tokens == 2);
    sv_buf_reset(&b);
    sv_wire_add_done(&b, 3, SV_FINISH_LENGTH, &(sv_usage){1, 2, 3});
    f = only_frame(&b);
    assert_int_equal(sv_wire_get_done(&finish, &usage, &f, &err), SV_OK);
    assert_true(finish == SV_FINISH_LENGTH && usage.prompt_tokens == 1 && usage.completion_tokens == 2 && usage.cached_tokens == 3);
    sv_buf_reset(&b);
    (void)sv_fail_api(&what, SV_ELIMIT, 3040, "%0479d", 1); /* the longest message */
    sv_wire_add_fail(&b, 4, &what);
    f = only_frame(&b);
    assert_int_equal(sv_wire_get_fail(&got, &f, &err), SV_OK);
    assert_true(got.code == SV_ELIMIT && got.api_code == 3040);
    assert_string_equal(got.msg, what.msg);
}

static void frames_may_arrive_byte_by_byte(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_err err = {0};
    sv_frame f = {0};
    size_t used;
    sv_buf_init(&b, 0);
    sv_wire_add_text(&b, 1, SV_STR("one"), 1);
    size_t first = b.n;
    sv_wire_add(&b, SV_WIRE_CANCEL, 2, (sv_str){0});
    for (size_t n = 0; n < first; n++) {
        assert_int_equal(sv_wire_parse(&f, &used, (sv_str){b.p, n}, &err), SV_OK);
        assert_int_equal(used, 0);
    }
    assert_int_equal(sv_wire_parse(&f, &used, sv_buf_str(&b), &err), SV_OK);
    assert_int_equal(used, first);
    assert_int_equal(sv_wire_parse(&f, &used, (sv_str){b.p + first, b.n - first}, &err), SV_OK);
    assert_true(used == SV_WIRE_HEAD && f.type == SV_WIRE_CANCEL && f.id == 2 && f.payload.n == 0);
}

static void broken_frames_are_refused_before_their_bytes_are_waited_for(void **state)
{
    (void)state;
    static const struct { uint32_t n, type; } broken[] = {
        {0, 0}, {0, SV_WIRE_LAST + 1}, {0, 0x10001}, {SV_WIRE_MAX + 1, SV_WIRE_GENERATE}, {UINT32_MAX, SV_WIRE_TEXT}, {3, SV_WIRE_GENERATE},
        {1, SV_WIRE_CANCEL}, {7, SV_WIRE_STARTED}, {15, SV_WIRE_DONE}, {17, SV_WIRE_DONE}, {4, SV_WIRE_HELLO}, {8 + 480, SV_WIRE_FAIL},
    };
    for (size_t i = 0; i < SV_LEN(broken); i++) {
        uint32_t head[3] = {broken[i].n, broken[i].type, 1};
        sv_frame f = {0};
        size_t used = 1;
        sv_err err = {0};
        assert_int_equal(sv_wire_parse(&f, &used, (sv_str){(char *)head, sizeof head}, &err), SV_EFORMAT);
        assert_true(err.msg[0] && used == 0);
    }
}

static void refuse(const char *head, uint32_t claimed, sv_rc rc, const char *word)
{
    char payload[4096];
    size_t n = strlen(head);
    uint32_t n_head = claimed == 0 ? (uint32_t)n : claimed;
    memcpy(payload, &n_head, 4);
    memcpy(payload + 4, head, n);
    sv_wire_gen g = {0};
    sv_err err = {0};
    const sv_frame f = {SV_WIRE_GENERATE, 1, {payload, 4 + n}};
    assert_int_equal(sv_wire_get_gen(&g, &f, &err), rc);
    assert_null(g.json);
    if (!strstr(err.msg, word))
        fail_msg("'%s' does not say '%s'", err.msg, word);
}

static void requests_without_sense_are_refused(void **state)
{
    (void)state;
    char many[400] = "{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"stop\":[\"a\"";
    for (int i = 0; i < SV_WIRE_MAX_STOPS; i++)
        strcat(many, ",\"a\"");
    strcat(many, "]}");
    refuse("{}", 3, SV_EFORMAT, "head of 3");
    refuse("{}", UINT32_MAX, SV_EFORMAT, "head of");
    refuse("{", 0, SV_EINVAL, "JSON");
    refuse("[]", 0, SV_EINVAL, "object");
    refuse("{}", 0, SV_EINVAL, "model");
    refuse("{\"model\":\"m\"}", 0, SV_EINVAL, "tenant");
    refuse("{\"model\":\"m\",\"tenant\":\"\"}", 0, SV_EINVAL, "max_tokens");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":0}", 0, SV_EINVAL, "max_tokens");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":2147483648}", 0, SV_EINVAL, "max_tokens");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"messages\":{}}", 0, SV_EINVAL, "messages");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"temperature\":-1}", 0, SV_EINVAL, "temperature");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"seed\":\"1\"}", 0, SV_EINVAL, "seed");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"stop\":\"a\"}", 0, SV_EINVAL, "stop");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"stop\":[1]}", 0, SV_EINVAL, "stop");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"stop\":[\"\"]}", 0, SV_EINVAL, "empty");
    refuse("{\"model\":\"m\",\"tenant\":\"\",\"max_tokens\":1,\"stop\":[\"a\\u0000\"]}", 0, SV_EINVAL, "NUL");
    refuse(many, 0, SV_EINVAL, "stop strings");
}

static void what_cannot_be_sent_is_refused_and_leaves_nothing_behind(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *messages = json_array();
    SV_AUTO(sv_buf_donep) sv_buf b, big;
    sv_err err = {0};
    static const char *const empty_stop[] = {"", NULL};
    sv_buf_init(&b, 0);
    sv_buf_init(&big, 0);
    char *p = sv_buf_room(&big, SV_WIRE_MAX);
    assert_non_null(p);
    memset(p, 'a', SV_WIRE_MAX);
    const struct { sv_gen_opts o; sv_rc rc; } cases[] = {
        {{.model_path = "m", .max_tokens = 1}, SV_EINVAL},
        {{.model_path = "m", .max_tokens = 1, .messages = messages, .prompt = SV_STR("a")}, SV_EINVAL},
        {{.model_path = "m", .max_tokens = 0, .prompt = SV_STR("a")}, SV_EINVAL},
        {{.max_tokens = 1, .prompt = SV_STR("a")}, SV_EINVAL},
        {{.model_path = "m", .max_tokens = 1, .prompt = SV_STR("a"), .stop = empty_stop}, SV_EINVAL},
        {{.model_path = "m", .max_tokens = 1, .prompt = {p, SV_WIRE_MAX}}, SV_ELIMIT},
    };
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        assert_int_equal(sv_wire_add_gen(&b, 1, &cases[i].o, &err), cases[i].rc);
        assert_int_equal(b.n, 0);
        assert_false(b.failed);
    }
}

static void another_version_or_program_is_recognised(void **state)
{
    (void)state;
    uint32_t other[3] = {SV_WIRE_MAGIC, SV_WIRE_VERSION + 1, 0};
    sv_wire_hello hello;
    sv_err err = {0};
    sv_frame f = {SV_WIRE_HELLO, 0, {(char *)other, sizeof other}};
    assert_int_equal(sv_wire_get_hello(&hello, &f, &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "version 3 there, 2 here"));
    other[0] = 1;
    assert_int_equal(sv_wire_get_hello(&hello, &f, &err), SV_EFORMAT);
    f.type = SV_WIRE_TEXT;
    assert_int_equal(sv_wire_get_hello(&hello, &f, &err), SV_EFORMAT);
}

static void encodings_and_vectors_arrive_as_they_were_sent(void **state)
{
    (void)state;
    static const float numbers[2][3] = {{1, -2, 0.5f}, {0, 1e-30f, 7}};
    SV_AUTO(sv_json_decrefp) json_t *texts = json_pack("[s,[s,s]]", "a \"b\"", "first", "second");
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_wire_encode e = {0};
    sv_vectors v = {0};
    sv_err err = {0};
    sv_buf_init(&b, 0);
    const sv_encode_opts o = {.model_path = "/m", .tenant = "t1", .texts = texts, .want = SV_ENCODE_CLS, .max_tokens = 9, .cut = true};
    assert_int_equal(sv_wire_add_encode(&b, 4, &o, &err), SV_OK);
    sv_frame f = only_frame(&b);
    assert_int_equal(f.id, 4);
    assert_int_equal(sv_wire_get_encode(&e, &f, &err), SV_OK);
    assert_string_equal(e.model_path, "/m");
    assert_string_equal(e.tenant, "t1");
    assert_true(json_equal(e.texts, texts));
    assert_true(e.want == SV_ENCODE_CLS && e.max_tokens == 9 && e.cut);
    sv_wire_encode_done(&e);

    sv_buf_reset(&b);
    sv_wire_add_vectors(&b, 4, &(sv_vectors){.n = 2, .dim = 3, .n_tokens = 11, .v = numbers, .labels = SV_STR("[\"A\"]")});
    f = only_frame(&b);
    assert_int_equal(sv_wire_get_vectors(&v, &f, &err), SV_OK);
    assert_true(v.n == 2 && v.dim == 3 && v.n_tokens == 11 && sv_str_is(v.labels, "[\"A\"]"));
    assert_memory_equal(v.v, numbers, sizeof numbers);

    static const int32_t heads[][3] = {{2, 7, 0}, {0, 3, 0}, {-2, 3, 0}, {2, -3, 0}, {SV_ENCODE_MAX_TEXTS + 1, 1, 0}, {1 << 30, 1 << 30, 0}, {2, INT32_MAX, 0}};
    for (size_t i = 0; i < SV_LEN(heads); i++) { /* with bytes for 2 of 3 */
        memcpy(b.p + SV_WIRE_HEAD, heads[i], sizeof heads[i]);
        assert_int_equal(sv_wire_get_vectors(&v, &f, &err), SV_EFORMAT);
    }
}

static void encodings_without_sense_are_refused(void **state)
{
    (void)state;
#define ENCODING(more) "{\"model\":\"m\",\"tenant\":\"t\"," more "}"
    static const struct { const char *json, *why; } cases[] = {
        {"no JSON", "not valid JSON"},
        {"{\"tenant\":\"t\",\"texts\":[\"x\"]}", "'model' or 'tenant'"},
        {ENCODING("\"texts\":[]"), "0 texts; 1 to 1000"},
        {ENCODING("\"texts\":\"x\""), "0 texts"},
        {ENCODING("\"texts\":[\"x\",7]"), "text 1 is neither"},
        {ENCODING("\"texts\":[[\"x\"]]"), "text 0 is neither"},
        {ENCODING("\"texts\":[[\"x\",\"y\",\"z\"]]"), "text 0 is neither"},
        {ENCODING("\"texts\":[\"x\"],\"want\":3"), "'want'"},
        {ENCODING("\"texts\":[\"x\"],\"max_tokens\":-1"), "'max_tokens'"},
        {ENCODING("\"texts\":[\"x\"],\"cut\":1"), "'cut'"},
    };
#undef ENCODING
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        sv_wire_encode e = {0};
        sv_err err = {0};
        const sv_frame f = {SV_WIRE_ENCODE, 1, sv_str_of(cases[i].json)};
        assert_int_equal(sv_wire_get_encode(&e, &f, &err), SV_EINVAL);
        assert_null(e.json);
        if (!strstr(err.msg, cases[i].why))
            fail_msg("'%s' says not '%s'", err.msg, cases[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_arrives_as_it_was_sent),
        cmocka_unit_test(bias_and_wishes_for_probabilities_arrive_as_they_were_sent),
        cmocka_unit_test(probabilities_come_out_as_they_went_in_and_broken_ones_are_refused),
        cmocka_unit_test(messages_and_tools_arrive_as_they_were_sent),
        cmocka_unit_test(small_frames_come_out_as_they_went_in),
        cmocka_unit_test(frames_may_arrive_byte_by_byte),
        cmocka_unit_test(broken_frames_are_refused_before_their_bytes_are_waited_for),
        cmocka_unit_test(requests_without_sense_are_refused),
        cmocka_unit_test(what_cannot_be_sent_is_refused_and_leaves_nothing_behind),
        cmocka_unit_test(another_version_or_program_is_recognised),
        cmocka_unit_test(encodings_and_vectors_arrive_as_they_were_sent),
        cmocka_unit_test(encodings_without_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
