/* upload_test.c - forms as wrangler, the SDK and curl send them, and what is refused */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/json.h"
#include "workers/upload.h"

#define TYPE "multipart/form-data; boundary=xyz"
#define TODAY "2026-11-25"
#define META(json) "--xyz\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n" json "\r\n"
#define FILE_PART(name, type, text) \
    "--xyz\r\nContent-Disposition: form-data; name=\"" name "\"; filename=\"" name "\"\r\nContent-Type: " type "\r\n\r\n" text "\r\n"
#define FIELD(name, text) "--xyz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" text "\r\n"
#define END "--xyz--\r\n"
#define MODULE FILE_PART("index.js", "application/javascript+module", "export default {}")

static sv_arena *arena;
static sv_upload up;
static sv_err err;

static int setup(void **state)
{
    (void)state;
    arena = sv_arena_create(0);
    memset(&up, 0, sizeof up);
    memset(&err, 0, sizeof err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sv_upload_done(&up);
    sv_arena_free(arena);
    return 0;
}

static sv_rc parse(const char *body) { return sv_upload_parse(&up, arena, SV_STR(TYPE), sv_str_of(body), TODAY, &err); }

static void assert_refused(const char *body, int code, const char *words)
{
    assert_int_not_equal(parse(body), SV_OK);
    assert_int_equal(err.api_code, code);
    if (!strstr(err.msg, words))
        fail_msg("'%s' is not in '%s'", words, err.msg);
    assert_null(up.bindings);
}

/* Refused for one binding. */
static void assert_binding_refused(const char *binding, int code, const char *words)
{
    char body[4096];
    snprintf(body, sizeof body, META("{\"main_module\":\"index.js\",\"bindings\":[%s]}") MODULE END, binding);
    assert_refused(body, code, words);
}

static void a_form_of_wrangler_is_read_whole(void **state)
{
    (void)state;
    static const char body[] =
        META("{\"main_module\":\"index.js\",\"compatibility_date\":\"2026-04-01\",\"compatibility_flags\":[\"nodejs_compat\"],"
             "\"bindings\":[{\"name\":\"AI\",\"type\":\"ai\"},{\"name\":\"K\",\"type\":\"secret_text\",\"text\":\"s3cr3t\"},{\"name\":\"T\",\"type\":\"plain_text\",\"text\":\"t\"},"
             "{\"name\":\"B\",\"type\":\"service\",\"service\":\"other\",\"entrypoint\":\"Ep\"}],\"keep_bindings\":[\"secret_text\",\"secret_key\"],"
             "\"annotations\":{\"workers/message\":\"m\"},\"observability\":{\"enabled\":true},\"unknown_hint\":{\"a\":1}}")
        FILE_PART("./0a-x.txt", "text/plain", "hello") FILE_PART("./b.wasm", "application/wasm", "wasm")
        FILE_PART("./c.bin", "application/octet-stream", "bytes") FILE_PART("./d.json", "application/json; charset=utf-8", "{}") MODULE
        FILE_PART("index.js.map", "application/source-map", "{}") END;
    assert_int_equal(parse(body), SV_OK);
    assert_int_equal(up.n_modules, 6);
    assert_true(sv_str_is(up.modules[0].name, "index.js"));
    assert_int_equal(up.modules[0].kind, SV_MODULE_ES);
    static const struct { const char *name; sv_module_kind kind; const char *data; } wanted[] = {
        {"./0a-x.txt", SV_MODULE_TEXT, "hello"}, {"./b.wasm", SV_MODULE_WASM, "wasm"}, {"./c.bin", SV_MODULE_DATA, "bytes"},
        {"./d.json", SV_MODULE_JSON, "{}"}, {"index.js.map", SV_MODULE_SOURCE_MAP, "{}"}};
    for (size_t i = 0; i < SV_LEN(wanted); i++) {
        assert_true(sv_str_is(up.modules[i + 1].name, wanted[i].name));
        assert_int_equal(up.modules[i + 1].kind, wanted[i].kind);
        assert_true(sv_str_is(up.modules[i + 1].data, wanted[i].data));
    }
    assert_int_equal(json_array_size(up.bindings), 4);
    assert_null(json_object_get(json_array_get(up.bindings, 1), "text")); /* a secret's value is kept apart */
    assert_string_equal(json_string_value(json_object_get(up.secrets, "K")), "s3cr3t");
    assert_true(sv_str_is(up.compatibility_date, "2026-04-01"));
    assert_int_equal(json_array_size(up.flags), 1);
    assert_true(json_is_true(json_object_get(json_object_get(up.settings, "observability"), "enabled")));
}

static void the_bracketed_form_of_the_sdk_is_the_same_upload(void **state)
{
    (void)state;
    static const char body[] = FIELD("metadata[main_module]", "w.mjs") FIELD("metadata[bindings][][type]", "plain_text")
        FIELD("metadata[bindings][][name]", "A") FIELD("metadata[bindings][][text]", "one") FIELD("metadata[bindings][][type]", "ai")
        FIELD("metadata[bindings][][name]", "AI") FIELD("metadata[compatibility_flags][]", "nodejs_compat")
        FIELD("metadata[compatibility_flags][]", "f2") FIELD("metadata[compatibility_date]", "2026-01-01")
        "--xyz\r\nContent-Disposition: form-data; name=\"files[]\"; filename=\"w.mjs\"\r\nContent-Type: application/javascript+module\r\n\r\nx\r\n" END;
    /* the SDK labels it wrongly: the boundary is found in the body */
    assert_int_equal(sv_upload_parse(&up, arena, SV_STR("application/javascript"), SV_STR(body), TODAY, &err), SV_OK);
    assert_true(sv_str_is(up.modules[0].name, "w.mjs"));
    assert_int_equal(json_array_size(up.bindings), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(up.bindings, 0), "text")), "one");
    assert_string_equal(json_string_value(json_object_get(json_array_get(up.bindings, 1), "type")), "ai");
    assert_int_equal(json_array_size(up.flags), 2);
}

static void bracketed_fields_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    assert_refused(FIELD("metadata[main_module]", "w") FIELD("metadata[main_module][x]", "y") END, 10026, "does not fit");
    assert_refused(FIELD("metadata[a][b][c][d][e][f][g][h][i][j][k]", "y") END, 10026, "does not fit");
    assert_refused(FIELD("metadata[a", "y") END, 10026, "does not fit");
}

static void assets_alone_need_no_module(void **state)
{
    (void)state;
    assert_int_equal(parse(META("{\"assets\":{\"jwt\":\"a.b.c\",\"config\":{\"html_handling\":\"none\",\"run_worker_first\":[\"/api/*\",\"!/api/x\"],\"_headers\":\"/\\n  a: b\"}},"
                                "\"compatibility_date\":\"2026-04-01\"}") END), SV_OK);
    assert_int_equal(up.n_modules, 0);
    assert_true(sv_str_is(up.assets_jwt, "a.b.c"));
    assert_string_equal(json_string_value(json_object_get(up.assets_config, "html_handling")), "none");
    assert_int_equal(json_array_size(json_object_get(up.assets_config, "run_worker_first")), 2);
}

static void every_other_kind_is_refused_by_its_name(void **state)
{
    static const char *const kinds[] = {
        "browser", "images", "media", "stream", "workflow",
        "hyperdrive", "secrets_store_secret", "dispatch_namespace", "mtls_certificate", "send_email", "text_blob", "data_blob",
        "wasm_module", "tail_consumer", "logfwdr", "pipelines", "worker_loader", "vpc_service", "ai_search", "secret_key", "something_new"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(kinds); i++) {
        char binding[128];
        snprintf(binding, sizeof binding, "{\"name\":\"MINE\",\"type\":\"%s\"}", kinds[i]);
        assert_binding_refused(binding, 10021, kinds[i]);
        assert_non_null(strstr(err.msg, "MINE"));
        assert_non_null(strstr(err.msg, "does not have"));
    }
}

static void broken_bindings_are_refused(void **state)
{
    (void)state;
    assert_binding_refused("7", 10021, "bindings[0]");
    assert_binding_refused("{\"type\":\"ai\"}", 10052, "no name");
    assert_binding_refused("{\"name\":\"\",\"type\":\"ai\"}", 10052, "no name");
    assert_binding_refused("{\"name\":\"A\"}", 10021, "no type");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"plain_text\"}", 10021, "'text'");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"plain_text\",\"text\":5}", 10021, "not text");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"plain_text\",\"text\":\"a\\u0000b\"}", 10021, "NUL");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"secret_text\",\"text\":\"a\\u0000b\"}", 10021, "NUL");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"json\"}", 10021, "'json'");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"service\"}", 10021, "'service'");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"service\",\"service\":\"a/../b\"}", 10016, "Binding 'A'");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"service\",\"service\":\"b\",\"environment\":\"staging\"}", 10021, "environment");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"service\",\"service\":\"b\",\"props\":[1]}", 10021, "props");
    assert_binding_refused("{\"name\":\"A\",\"type\":\"ai\"},{\"name\":\"A\",\"type\":\"assets\"}", 10021, "twice");
}

static void what_the_release_lacks_is_refused_not_ignored(void **state)
{
    (void)state;
    assert_refused(META("{\"body_part\":\"script\"}") END, 10021, "service-worker");
    assert_refused(META("{\"main_module\":\"index.js\",\"exports\":{\"X\":{\"type\":\"durable-object\"}}}") MODULE END, 10021, "Durable Objects");
    assert_refused(META("{\"main_module\":\"index.js\",\"tail_consumers\":[{\"service\":\"t\"}]}") MODULE END, 10021, "tail consumers");
    assert_refused(META("{\"main_module\":\"index.js\",\"logpush\":true}") MODULE END, 10023, "logpush");
    assert_refused(META("{\"main_module\":\"index.js\",\"limits\":{\"cpu_ms\":5}}") MODULE END, 10021, "limits");
    assert_refused(META("{\"main_module\":\"index.js\",\"containers\":[{}]}") MODULE END, 10021, "containers");
    assert_refused(META("{\"main_module\":\"index.js\"}") FILE_PART("index.js", "text/x-python", "print()") END, 10021, "text/x-python");
    assert_int_equal(parse(META("{\"main_module\":\"index.js\",\"logpush\":false,\"tail_consumers\":[],\"migrations\":null,\"placement\":{\"mode\":\"smart\"}}") MODULE END), SV_OK);
}

static void dates_and_flags_are_checked(void **state)
{
    (void)state;
    assert_refused(META("{\"main_module\":\"index.js\",\"compatibility_date\":\"2027-01-01\"}") MODULE END, 10021, "future");
    assert_refused(META("{\"main_module\":\"index.js\",\"compatibility_date\":\"yesterday\"}") MODULE END, 10021, "no date");
    assert_refused(META("{\"main_module\":\"index.js\",\"compatibility_date\":\"2026-13-01\"}") MODULE END, 10021, "no date");
    assert_refused(META("{\"main_module\":\"index.js\",\"compatibility_flags\":[\"experimental\"]}") MODULE END, 10021, "experimental");
    assert_refused(META("{\"main_module\":\"index.js\",\"compatibility_flags\":[7]}") MODULE END, 10021, "compatibility_flags[0]");
    assert_int_equal(parse(META("{\"main_module\":\"index.js\"}") MODULE END), SV_OK);
    assert_true(sv_str_is(up.compatibility_date, "2021-11-02"));
}

static void broken_forms_are_refused(void **state)
{
    (void)state;
    assert_refused("", 10026, "");
    assert_refused("--xyz\r\nContent-Disposition: form-data; name=\"meta", 10026, "");
    assert_refused(MODULE END, 10026, "metadata");
    assert_refused(META("{\"main_module\":") MODULE END, 10026, "metadata");
    assert_refused(META("[]") MODULE END, 10026, "not an object");
    assert_refused(META("{\"main_module\":\"other.js\"}") MODULE END, 10021, "other.js");
    assert_refused(META("{}") MODULE END, 10021, "main_module");
    assert_refused(META("{}") END, 10012, "neither");
    assert_refused(META("{\"main_module\":\"index.js\"}") MODULE MODULE END, 10021, "twice");
    assert_refused(META("{\"main_module\":\"index.js\"}") FILE_PART("index.js", "text/plain", "x") END, 10021, "no ES module");
    assert_refused(META("{\"assets\":{\"config\":{}}}") END, 10021, "jwt");
    assert_refused(META("{\"assets\":{\"jwt\":\"x\",\"config\":{\"html_handling\":\"magic\"}}}") END, 10021, "html_handling");
    assert_refused(META("{\"assets\":{\"jwt\":\"x\",\"config\":{\"run_worker_first\":[\"api\"]}}}") END, 10021, "run_worker_first");
}

static void limits_name_their_numbers(void **state)
{
    (void)state;
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    sv_buf_adds(&b, "--xyz\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"main_module\":\"index.js\",\"bindings\":[");
    for (int i = 0; i <= sv_limit_value(SV_LIMIT_VARS); i++)
        sv_buf_addf(&b, "%s{\"name\":\"V%d\",\"type\":\"plain_text\",\"text\":\"x\"}", i ? "," : "", i);
    sv_buf_adds(&b, "]}\r\n" MODULE END);
    assert_refused(sv_buf_cstr(&b), 10055, "129");
    sv_buf_reset(&b);
    sv_buf_adds(&b, "--xyz\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"main_module\":\"index.js\",\"bindings\":[{\"name\":\"V\",\"type\":\"secret_text\",\"text\":\"");
    for (int i = 0; i <= sv_limit_value(SV_LIMIT_VAR_BYTES); i++)
        sv_buf_addc(&b, 'x');
    sv_buf_adds(&b, "\"}]}\r\n" MODULE END);
    assert_refused(sv_buf_cstr(&b), 10054, "'V'");
    assert_null(strstr(err.msg, "xxx")); /* never the value */
}

static json_t *json_of(const char *text)
{
    json_t *j = NULL;
    assert_int_equal(sv_json_parse(&j, sv_str_of(text), &err), SV_OK);
    return j;
}

static void secrets_and_inherited_bindings_come_from_the_version_before(void **state)
{
    (void)state;
    SV_AUTO(sv_json_decrefp) json_t *before = json_of("[{\"name\":\"S\",\"type\":\"secret_text\"},{\"name\":\"OLD\",\"type\":\"plain_text\",\"text\":\"o\"},"
                                                      "{\"name\":\"R\",\"type\":\"secret_text\"},{\"name\":\"AI\",\"type\":\"ai\"}]");
    SV_AUTO(sv_json_decrefp) json_t *secrets = json_of("{\"S\":\"one\",\"R\":\"two\"}");
    assert_int_equal(parse(META("{\"main_module\":\"index.js\",\"keep_bindings\":[\"secret_text\"],\"bindings\":[{\"name\":\"AI\",\"type\":\"inherit\"},"
                                "{\"name\":\"R\",\"type\":\"secret_text\",\"text\":\"new\"},{\"name\":\"S2\",\"type\":\"inherit\",\"old_name\":\"S\"}]}") MODULE END), SV_OK);
    assert_int_equal(sv_upload_inherit(&up, before, secrets, true, &err), SV_OK);
    /* AI, R (new), S2 (from S), and S kept; the variable is not of a kept kind */
    assert_int_equal(json_array_size(up.bindings), 4);
    assert_string_equal(json_string_value(json_object_get(up.secrets, "S")), "one");
    assert_string_equal(json_string_value(json_object_get(up.secrets, "S2")), "one");
    assert_string_equal(json_string_value(json_object_get(up.secrets, "R")), "new");
    assert_int_equal(json_object_size(up.secrets), 3);
}

static void inheriting_what_is_not_there_is_error_10057(void **state)
{
    (void)state;
    assert_int_equal(parse(META("{\"main_module\":\"index.js\",\"bindings\":[{\"name\":\"X\",\"type\":\"inherit\"}]}") MODULE END), SV_OK);
    assert_int_equal(sv_upload_inherit(&up, NULL, NULL, true, &err), SV_EINVAL);
    assert_int_equal(err.api_code, 10057);
    assert_int_equal(sv_upload_inherit(&up, NULL, NULL, false, &err), SV_OK);
    assert_int_equal(json_array_size(up.bindings), 0);
}

static void a_name_is_one_dns_label(void **state)
{
    static const char *const good[] = {"a", "chat", "a-b", "0x", "abc012345678901234567890123456789012345678901234567890123456789"},
                      *const bad[] = {"", "-a", "a-", "A", "a_b", "a.b", "a b", "\xc3\xa4", "..",
                                      "abc0123456789012345678901234567890123456789012345678901234567890"};
    (void)state;
    for (size_t i = 0; i < SV_LEN(good); i++)
        assert_int_equal(sv_worker_name_check(sv_str_of(good[i]), &err), SV_OK);
    for (size_t i = 0; i < SV_LEN(bad); i++) {
        assert_int_not_equal(sv_worker_name_check(sv_str_of(bad[i]), &err), SV_OK);
        assert_int_equal(err.api_code, 10016);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_form_of_wrangler_is_read_whole), T(the_bracketed_form_of_the_sdk_is_the_same_upload),
        T(bracketed_fields_that_contradict_each_other_are_refused), T(assets_alone_need_no_module), T(every_other_kind_is_refused_by_its_name),
        T(broken_bindings_are_refused), T(what_the_release_lacks_is_refused_not_ignored), T(dates_and_flags_are_checked), T(broken_forms_are_refused),
        T(limits_name_their_numbers), T(secrets_and_inherited_bindings_come_from_the_version_before), T(inheriting_what_is_not_there_is_error_10057),
        T(a_name_is_one_dns_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
