/* config_test.c - the configuration as text, and workerd's own opinion of it */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "workers/config.h"

#define WORKERD SV_SOURCE_ROOT "/node_modules/@cloudflare/workerd-linux-64/bin/workerd"

static json_t *json_of(const char *text)
{
    json_t *j = NULL;
    sv_err err = {0};
    assert_int_equal(sv_json_parse(&j, sv_str_of(text), &err), SV_OK);
    return j;
}

static const char *const chat_meta =
    "{\"main_module\":\"index.js\",\"modules\":[{\"name\":\"index.js\",\"kind\":\"esm\",\"file\":\"m0\"},"
    "{\"name\":\"./a \\\"b\\\".txt\",\"kind\":\"text\",\"file\":\"m1\"},{\"name\":\"index.js.map\",\"kind\":\"map\",\"file\":\"m2\"}],"
    "\"compatibility_date\":\"2026-04-01\",\"compatibility_flags\":[\"nodejs_compat\"],\"annotations\":{\"workers/tag\":\"v1\"},\"bindings\":["
    "{\"name\":\"AI\",\"type\":\"ai\"},{\"name\":\"KEY\",\"type\":\"secret_text\"},{\"name\":\"TEXT\",\"type\":\"plain_text\",\"text\":\"a\\nb\\\"c\\\\\"},"
    "{\"name\":\"J\",\"type\":\"json\",\"json\":{\"n\":[1,2.5]}},{\"name\":\"V\",\"type\":\"version_metadata\"},"
    "{\"name\":\"GONE\",\"type\":\"service\",\"service\":\"nobody\",\"entrypoint\":\"X\"}]}";

static void one_worker_becomes_exactly_this_text(void **state)
{
    static const char golden[] =
        "using Workerd = import \"/workerd/workerd.capnp\";\n"
        "const config :Workerd.Config = (\n"
        "  sockets = [\n"
        "    (name = \"http-0123456789abcdef\", http = (cfBlobHeader = \"x-sv-cf\", forwardedProtoHeader = \"x-forwarded-proto\"), service = "
        "\"worker:chat\"),\n"
        "  ],\n"
        "  services = [\n"
        "    (name = \"worker:chat\", worker = (\n"
        "      modules = [\n"
        "        (name = \"index.js\", esModule = embed \"../0123456789abcdef/f1/m0\"),\n"
        "        (name = \"./a \\\"b\\\".txt\", text = embed \"../0123456789abcdef/f1/m1\"),\n"
        "      ],\n"
        "      compatibilityDate = \"2026-04-01\",\n"
        "      compatibilityFlags = [\"nodejs_compat\"],\n"
        "      globalOutbound = \"chat.net\",\n"
        "      cacheApiOutbound = \"chat.cache\",\n"
        "      bindings = [\n"
        "        (name = \"AI\", wrapped = (moduleName = \"cloudflare-internal:ai-api\", innerBindings = [(name = \"fetcher\", service = \"chat.ai\")])),\n"
        "        (name = \"KEY\", fromEnvironment = \"SV_SECRET_0\"),\n"
        "        (name = \"TEXT\", text = \"a\\x0ab\\\"c\\\\\"),\n"
        "        (name = \"J\", json = \"{\\\"n\\\":[1,2.5]}\"),\n"
        "        (name = \"V\", json = \"{\\\"id\\\":\\\"11111111-2222-4333-8444-555555555555\\\",\\\"tag\\\":\\\"v1\\\",\\\"timestamp\\\":\\\"2023-11-14T22:13:20.000000Z\\\"}\"),\n"
        "        (name = \"GONE\", service = \"worker:\"),\n"
        "      ])),\n"
        "    (name = \"chat.net\", external = (address = \"unix:/run/b/s.sock\", http = (style = proxy, injectRequestHeaders = [(name = \"x-sv-binding\", "
        "value = \"net\")]))),\n"
        "    (name = \"chat.cache\", external = (address = \"unix:/run/b/s.sock\", http = (forwardedProtoHeader = \"x-forwarded-proto\", cfBlobHeader = "
        "\"x-sv-cf\", injectRequestHeaders = [(name = \"x-sv-binding\", value = \"cache:0123456789abcdef\")]))),\n"
        "    (name = \"chat.ai\", external = (address = \"unix:/run/b/s.sock\", http = (injectRequestHeaders = [(name = \"x-sv-binding\", value = "
        "\"ai\")]))),\n"
        "    (name = \"worker:\", worker = (compatibilityDate = \"" SV_WORKERD_DATE "\", modules = [(name = \"stand-in.js\", esModule = \"export default { "
        "fetch() { throw new Error(\\\"The Worker that this service binding names does not exist\\\"); } };\")])),\n"
        "    (name = \"internet\", network = (allow = [])),\n"
        "  ],\n"
        "  v8Flags = [\"--max-old-space-size=128\"],\n"
        ");\n";
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *meta = json_of(chat_meta), *secrets = json_of("{\"KEY\":\"s3cr3t\"}");
    sv_config_worker w = {.key = "0123456789abcdef", .name = "chat", .version_id = "11111111-2222-4333-8444-555555555555", .folder = "/d/0123456789abcdef/f1",
                          .from_config = "../0123456789abcdef/f1", .binding_path = "/run/b/s.sock", .meta = meta, .secrets = secrets,
                          .created_ms = 1700000000000, .open = true};
    sv_config c;
    assert_int_equal(sv_config_make(&c, &w, 1, a, &err), SV_OK);
    assert_string_equal(c.text.p, golden);
    assert_string_equal(c.env[0], "SV_SECRET_0=s3cr3t");
    assert_null(c.env[1]);
    assert_false(c.experimental);
}

static void a_secret_without_a_value_is_refused(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *meta = json_of(chat_meta), *secrets = json_of("{}");
    sv_config_worker w = {.key = "k", .name = "chat", .version_id = "v", .folder = "/f", .from_config = "../f", .binding_path = "/b", .meta = meta,
                          .secrets = secrets, .open = true};
    sv_config c;
    assert_int_equal(sv_config_make(&c, &w, 1, a, &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "KEY"));
}

static void an_assets_binding_needs_assets(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *meta = json_of("{\"main_module\":\"i.js\",\"modules\":[],\"assets\":null,\"bindings\":[{\"name\":\"A\",\"type\":\"assets\"}]}");
    sv_config_worker w = {.key = "k", .name = "chat", .version_id = "v", .folder = "/f", .from_config = "../f", .binding_path = "/b", .meta = meta, .open = true};
    sv_config c;
    assert_int_equal(sv_config_make(&c, &w, 1, a, &err), SV_EINVAL);
    assert_int_equal(err.api_code, 10021);
}

static void the_newest_date_is_that_of_the_packaged_workerd(void **state)
{
    (void)state;
    sv_err err = {0};
    SV_AUTO(sv_buf_donep) sv_buf b;
    sv_buf_init(&b, 0);
    assert_int_equal(sv_file_read(&b, SV_SOURCE_ROOT "/package.json", &err), SV_OK);
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"1.%.4s%.2s%.2s.", SV_WORKERD_DATE, SV_WORKERD_DATE + 5, SV_WORKERD_DATE + 8);
    assert_non_null(strstr(sv_buf_cstr(&b), wanted));
}

/* ---- with workerd itself ---- */

static char dir[64];

static void put(const char *name, const char *text)
{
    char path[512];
    sv_err err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    assert_int_equal(sv_mkdir_p(path, 0755, &err), SV_OK);
    *slash = '/';
    assert_int_equal(sv_file_replace(path, text, strlen(text), 0644, &err), SV_OK);
}

/* Starts it on a socket of ours, waits until it listens, asks for `target`; *status is the answer's, or -1 when it did not start. */
static void ask(sv_config *c, const char *key, const char *const *targets, char answers[][2048], int n)
{
    char sock[128], config[128], name[64], line[256];
    int fd, ctl[2];
    sv_err err = {0};
    put("units/c.capnp", c->text.p);
    snprintf(config, sizeof config, "%s/units/c.capnp", dir);
    snprintf(sock, sizeof sock, "%s/w.sock", dir);
    snprintf(name, sizeof name, "--socket-fd=http-%s=20", key);
    assert_int_equal(sv_unix_listen(&fd, sock, 16, &err), SV_OK);
    assert_int_equal(pipe(ctl), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 20);
        dup2(ctl[1], 21);
        const char *argv[] = {WORKERD, "serve", "--experimental", name, "--control-fd=21", config, "config", NULL};
        execve(WORKERD, (char **)(uintptr_t)argv, (char **)(uintptr_t)c->env);
        _exit(127);
    }
    close(ctl[1]);
    ssize_t got = read(ctl[0], line, sizeof line - 1);
    assert_true(got > 0); /* 0: it ended without listening */
    for (int i = 0; i < n; i++) {
        int s;
        assert_int_equal(sv_unix_connect(&s, sock, &err), SV_OK);
        fcntl(s, F_SETFL, 0);
        char req[512];
        int len = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: h.localhost\r\nx-forwarded-proto: http\r\nConnection: close\r\n\r\n", targets[i]);
        assert_int_equal(write(s, req, (size_t)len), len);
        size_t at = 0;
        ssize_t k;
        while (at < 2047 && (k = read(s, answers[i] + at, 2047 - at)) > 0)
            at += (size_t)k;
        answers[i][at] = 0;
        close(s);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(fd);
    close(ctl[0]);
}

static void workerd_runs_what_we_write(void **state)
{
    (void)state;
    if (!sv_file_exists(WORKERD)) {
        print_message("skipped: no workerd\n");
        skip();
    }
    sv_err err = {0};
    snprintf(dir, sizeof dir, "/tmp/config_test.%d", (int)getpid());
    put("ka/f/m0", "import t from './t.txt'; import j from './j.json'; import c from './c.cjs';\n"
                   "export default { async fetch(req, env) {\n"
                   "  const p = new URL(req.url).pathname;\n"
                   "  if (p === '/env') return Response.json([env.KEY, env.TEXT, env.J, env.V.tag, t, j, c.x, typeof env.AI.run, req.url, req.cf ?? null]);\n"
                   "  if (p === '/rpc') return Response.json([await env.B.add(1, 2), await (await env.B.fetch('http://b/x')).text(), await env.C.hello('y')]);\n"
                   "  if (p === '/gone') return new Response(await env.GONE.fetch('http://g/').then(r => r.text(), e => e.message));\n"
                   "  if (p === '/asset') return env.SITE.fetch('http://s/about');\n"
                   "  return new Response('script ' + p); } };\n");
    put("ka/f/m1", "text");
    put("ka/f/m2", "{\"a\":1}");
    put("ka/f/m3", "exports.x = 7;");
    put("ka/f/assets/about.html", "about us");
    put("ka/f/assets/.well-known/x.txt", "dot");
    put("kb/f/m0", "import { WorkerEntrypoint } from 'cloudflare:workers';\n"
                   "export class Named extends WorkerEntrypoint { hello(n) { return this.ctx.props.greet + n; } }\n"
                   "export default class extends WorkerEntrypoint { fetch() { return new Response('b'); } add(a, b) { return a + b; } }\n");
    SV_AUTO(sv_arena_freep) sv_arena *a = sv_arena_create(0);
    SV_AUTO(sv_json_decrefp) json_t *meta_a = json_of(
        "{\"main_module\":\"index.js\",\"modules\":[{\"name\":\"index.js\",\"kind\":\"esm\",\"file\":\"m0\"},{\"name\":\"./t.txt\",\"kind\":\"text\",\"file\":\"m1\"},"
        "{\"name\":\"./j.json\",\"kind\":\"json\",\"file\":\"m2\"},{\"name\":\"./c.cjs\",\"kind\":\"cjs\",\"file\":\"m3\"}],\"compatibility_date\":\"2099-01-01\","
        "\"compatibility_flags\":[],\"annotations\":{\"workers/tag\":\"v1\"},\"assets\":{\"config\":{\"html_handling\":\"auto-trailing-slash\",\"_headers\":\"/about\\n  x-t: 1\\n\"}},"
        "\"bindings\":[{\"name\":\"AI\",\"type\":\"ai\"},{\"name\":\"KEY\",\"type\":\"secret_text\"},{\"name\":\"TEXT\",\"type\":\"plain_text\",\"text\":\"a\\n\\\"\\\\\\u00e4\"},"
        "{\"name\":\"J\",\"type\":\"json\",\"json\":{\"n\":1}},{\"name\":\"V\",\"type\":\"version_metadata\"},{\"name\":\"B\",\"type\":\"service\",\"service\":\"b\"},"
        "{\"name\":\"C\",\"type\":\"service\",\"service\":\"b\",\"entrypoint\":\"Named\",\"props\":{\"greet\":\"hi \"}},{\"name\":\"SITE\",\"type\":\"assets\"},"
        "{\"name\":\"GONE\",\"type\":\"service\",\"service\":\"nobody\"}]}");
    SV_AUTO(sv_json_decrefp) json_t *meta_b = json_of("{\"main_module\":\"b.js\",\"modules\":[{\"name\":\"b.js\",\"kind\":\"esm\",\"file\":\"m0\"}],"
                                                      "\"compatibility_date\":\"2026-04-01\",\"compatibility_flags\":[],\"bindings\":[]}");
    SV_AUTO(sv_json_decrefp) json_t *secrets = json_of("{\"KEY\":\"s3cr3t \\u00fc\"}");
    char fa[128];
    snprintf(fa, sizeof fa, "%s/ka/f", dir);
    sv_config_worker w[] = {
        {.key = "ka", .name = "a", .version_id = "id", .folder = fa, .from_config = "../ka/f", .binding_path = "/nowhere", .meta = meta_a, .secrets = secrets, .open = true},
        {.key = "kb", .name = "b", .version_id = "id", .folder = "/none", .from_config = "../kb/f", .binding_path = "/nowhere", .meta = meta_b, .open = true},
    };
    sv_config c;
    assert_int_equal(sv_config_make(&c, w, 2, a, &err), SV_OK);
    /* kb's socket is not handed over, so take it out of the text as a test of one socket */
    static const char *const targets[] = {"/env", "/rpc", "/gone", "/asset", "/about", "/.well-known/x.txt", "/other"};
    static char answers[7][2048];
    char *kb = strstr((char *)(uintptr_t)c.text.p, "    (name = \"http-kb\"");
    assert_non_null(kb);
    char *end = strchr(kb, '\n');
    memset(kb, ' ', (size_t)(end - kb));
    ask(&c, "ka", targets, answers, 7);
    assert_non_null(strstr(answers[0], "[\"s3cr3t \xc3\xbc\",\"a\\n\\\"\\\\\xc3\xa4\",{\"n\":1},\"v1\",\"text\",{\"a\":1},7,\"function\",\"http://h.localhost/env\",null]"));
    assert_non_null(strstr(answers[1], "[3,\"b\",\"hi y\"]"));
    assert_non_null(strstr(answers[2], "does not exist"));
    assert_non_null(strstr(answers[3], "about us"));
    assert_non_null(strstr(answers[4], "about us"));
    assert_non_null(strstr(answers[4], "x-t: 1"));
    assert_non_null(strstr(answers[5], "dot"));
    assert_non_null(strstr(answers[6], "script /other"));

    /* No script: assets alone, and a closed one. */
    SV_AUTO(sv_json_decrefp) json_t *site = json_of(
        "{\"main_module\":null,\"modules\":[],\"compatibility_date\":\"2026-04-01\",\"compatibility_flags\":[],\"bindings\":[],"
        "\"assets\":{\"config\":{\"not_found_handling\":\"single-page-application\"}}}");
    put("ka/f/assets/index.html", "front page");
    w[0].meta = site;
    static const char *const pages[] = {"/", "/any/where"};
    assert_int_equal(sv_config_make(&c, w, 1, a, &err), SV_OK);
    ask(&c, "ka", pages, answers, 2);
    assert_non_null(strstr(answers[0], "front page"));
    assert_non_null(strstr(answers[0], "ETag"));
    assert_non_null(strstr(answers[1], "front page"));
    w[0].open = false;
    assert_int_equal(sv_config_make(&c, w, 1, a, &err), SV_OK);
    ask(&c, "ka", pages, answers, 1);
    assert_non_null(strstr(answers[0], "404"));
    assert_null(strstr(answers[0], "front page"));
    assert_int_equal(sv_remove_tree(dir, &err), SV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_becomes_exactly_this_text),
        cmocka_unit_test(a_secret_without_a_value_is_refused),
        cmocka_unit_test(an_assets_binding_needs_assets),
        cmocka_unit_test(the_newest_date_is_that_of_the_packaged_workerd),
        cmocka_unit_test(workerd_runs_what_we_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
