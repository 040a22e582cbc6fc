/* template_test.c - chat templates against what Jinja2 itself made of them
 *
 * Small cases hold what Python's jinja2 3.1 printed for them; the shared test data has 44 templates of real models, each rendered
 * by jinja2 over four chats. Where that data is absent, those tests are skipped. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "models/template_impl.h"

#define NOON_2025_07_04 1751630400

/* Renders source over a JSON context: the text, or "error: message". The caller frees. */
static char *rendered(const char *source, sv_str context)
{
    sv_err err = {0};
    SV_AUTO(sv_template_freep) sv_template *t = NULL;
    json_t *ctx = NULL;
    sv_buf out;
    sv_buf_init(&out, 0);
    if (sv_json_parse(&ctx, context, &err) != SV_OK)
        fail_msg("%s", err.msg);
    if (sv_template_compile(&t, sv_str_of(source), &err) != SV_OK || sv_tpl_render_at(t, ctx, NOON_2025_07_04, &out, &err) != SV_OK) {
        assert_int_equal(out.n, 0);
        sv_buf_addf(&out, "error: %s", err.msg);
    }
    json_decref(ctx);
    return sv_buf_take(&out);
}

static void check(const char *source, const char *context, const char *expected)
{
    char *got = rendered(source, sv_str_of(context));
    if (strcmp(got, expected) != 0)
        fail_msg("%s\n  over %s\n  gives    %s\n  expected %s", source, context, got, expected);
    free(got);
}

typedef struct pair { const char *source, *expected; } pair;
static void check_all(const pair *p, size_t n)
{
    static const char context[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Oh\"}],"
        " \"d\": {\"b\": 1, \"a\": [1, 2.5, null, true, \"\xc3\xa9<\"]}, \"n\": null, \"s\": \" a,b,c \", \"l\": [3, 1, 2],"
        " \"u\": \"\xc3\xa9t\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac\"}";
    for (size_t i = 0; i < n; i++)
        check(p[i].source, context, p[i].expected);
}

/* --- the normal use ----------------------------------------------------------------------------------------------- */

static void a_chat_template_turns_messages_into_a_prompt(void **state)
{
    (void)state;
    check("{% for m in messages %}\n"
          "<|{{ m.role }}|>\n"
          "{{ m['content'] | trim }}{{ eos_token }}\n"
          "{% endfor %}\n"
          "{% if add_generation_prompt %}\n"
          "<|assistant|>\n"
          "{% endif %}\n",
          "{\"messages\": [{\"role\": \"system\", \"content\": \" Be brief. \"}, {\"role\": \"user\", \"content\": \"Hi\"}],"
          " \"eos_token\": \"</s>\", \"add_generation_prompt\": true}",
          "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n");
}

/* --- against jinja2 ----------------------------------------------------------------------------------------------- */

static void white_space_is_cut_as_jinja_cuts_it(void **state)
{
    static const pair cases[] = {
        {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
        {"a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc\n", "abc"},
        {"a {# x #}\n b {#- y -#}  c", "a  bc"},
        {"{{ 'a' }}\n{{- 'b' -}} \n c\n\n", "abc\n"},
        {"  {%+ if true %}x{% endif +%}\ny", "  x\ny"},
        {"{% raw %}\n{{ x }}{% endraw %}|", "\n{{ x }}|"},
        {"a\r\nb\rc", "a\nb\nc"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void expressions_follow_python_and_jinja(void **state)
{
    static const pair cases[] = {
        {"{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1e3 }} {{ 0.1 + 0.2 }}",
         "6 3.5 -4 2 1024 1000.0 0.30000000000000004"},
        {"{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 3 }} {{ [1] + [2] }} {{ (1, 'x') }} {{ (1,) }}", "a1NoneTrue ababab [1, 2] (1, 'x') (1,)"},
        {"{{ 1 < 2 < 3 }} {{ 'a' in 'abc' }} {{ 4 not in l }} {{ 1 == 1.0 }} {{ 'b' > 'a' }} {{ n is none }}", "True True True True True True"},
        {"{{ x or 'y' }} {{ 0 or none }} {{ 'a' and '' }}| {{ not l }} {{ 'p' if n else 'q' }} {{ 'p' if n }}|", "y None | False q |"},
        {"{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ s[1:4] }} {{ u[:3] }} {{ u[-1] }} {{ d.b }} {{ d['a'][4] }} {{ messages.0.role }}",
         "3 2 [1, 2] [2, 1, 3] a,b \xc3\xa9t\xc3\xa9 \xe6\x9c\xac 1 \xc3\xa9< user"},
        {"{{ d }} {{ {'k': 'it\\'s', 1: [none]} }}", "{'b': 1, 'a': [1, 2.5, None, True, '\xc3\xa9<']} {'k': \"it's\", 1: [None]}"},
        {"{{ missing }}|{{ d.missing }}|{{ missing is defined }}|{{ d.b is defined }}|{{ missing | default('z') }}|{{ l.append }}", "||False|True|z|"},
        {"{{ '%s-%03d-%.2f-%%' % ('a', 7, 1.005) }} {{ '%(k)5s|' % {'k': 'v'} }} {{ '{}-{}-{x}'.format(1, 2, x=3) }}",
         "a-007-1.00-%     v| 1-2-3"},
        {"{{ \"a\\n\\u00e9\\x41\" }}", "a\n\xc3\xa9" "A"},
        {"{{ 'a' if false else 'b' if false else 'c' }}{{ {'a': {'b': 1}}['a']['b'] }}", "c1"},
        {"{{ 1 + 1 | string | length if true }}", "2"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void statements_scope_as_in_jinja(void **state)
{
    static const pair cases[] = {
        {"{% set x = 0 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "120"},
        {"{% set ns = namespace(x=0) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "3"},
        {"{% if true %}{% set x = 1 %}{% endif %}{{ x }}", "1"},
        {"{% for a, b in d.items() %}{{ loop.index }}{{ a }}{{ loop.last }} {% endfor %}", "1bFalse 2aTrue "},
        {"{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{% else %}none{% endfor %}{% for i in [] %}{% else %}none{% endfor %}", "3222none"},
        {"{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}", "023"},
        {"{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }}{{ loop.cycle('x', 'y') }} {% endfor %}", "<3>1x 3<1>2y 1<2>x "},
        {"{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1, 3, 4, z=5) }} {{ m(b=1, a=0) }}",
         "12(){} 13(4,){'z': 5} 01(){}"},
        {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "3210"},
        {"{% macro w() %}<{{ caller('c') }}>{% endmacro %}{% call(x) w() %}body {{ x }}{% endcall %}", "<body c>"},
        {"{% set x %}a{{ 1 }}{% endset %}{{ x }} {% set y | upper %}b{% endset %}{{ y }} {% filter upper %}c{% endfilter %}", "a1 B C"},
        {"{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{% generation %}g{% endgeneration %}", "3g"},
        {"{% set a, b = 1, 2 %}{{ b }}{{ a }}{% set x = 1 %}{% macro g() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ g() }}", "215"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void filters_and_tests_give_what_jinja_gives(void **state)
{
    static const pair cases[] = {
        {"{{ d | tojson }}", "{\"b\": 1, \"a\": [1, 2.5, null, true, \"\xc3\xa9<\"]}"},
        {"{{ d | tojson(indent=2) }}", "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true,\n    \"\xc3\xa9<\"\n  ]\n}"},
        {"{{ {'\xc3\xa9\xf0\x9f\x98\x80': [], 'a': {}} | tojson(ensure_ascii=True, sort_keys=true, separators=(',', ':')) }}",
         "{\"a\":{},\"\\u00e9\\ud83d\\ude00\":[]}"},
        {"{{ l | sort }} {{ l | sort(reverse=true) }} {{ l | join('-') }} {{ l | first }}{{ l | last }} {{ l | length }} {{ l | sum }} {{ l | max }}",
         "[1, 2, 3] [3, 2, 1] 3-1-2 32 3 6 3"},
        {"{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "user,assistant 1"},
        {"{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | list }} {{ l | select('odd') | list }}", "['Oh'] [3, 1]"},
        {"{{ ['b', 'A', 'a'] | unique | list }} {{ ['b', 'A'] | sort }} {{ d | dictsort | first }} {{ l | reverse | list }}",
         "['b', 'A'] ['A', 'b'] ('a', [1, 2.5, None, True, '\xc3\xa9<']) [2, 1, 3]"},
        {"{{ s | trim }}|{{ 'aXa' | replace('a', 'b') }}|{{ 'hello wORLD' | title }}|{{ 'hELLO' | capitalize }}|{{ u | upper }}",
         "a,b,c|bXb|Hello World|Hello|\xc3\x89T\xc3\x89 \xe6\x97\xa5\xe6\x9c\xac"},
        {"{{ '12' | int + 1 }} {{ 'x' | int(7) }} {{ '1.5' | float }} {{ 2.567 | round(1) }} {{ -3 | abs }} {{ 2.5 | round }}", "13 7 1.5 2.6 3 2.0"},
        {"{{ 'a\nb\n\nc' | indent(2) }}|{{ '<a href=\"x\">' | e }}|{{ '%s!' | format('hi') }}", "a\n  b\n\n  c|&lt;a href=&#34;x&#34;&gt;|hi!"},
        {"{{ n | default('x') }}{{ n | default('x', true) }}{{ 3 | string ~ 'a' }} {{ d | items | list | length }}", "Nonex3a 2"},
        {"{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ 'a' is string }}{{ d is mapping }}{{ l is iterable }}{{ l is sequence }}{{ 1 is number }}{{ n is not none }}",
         "TrueTrueTrueTrueTrueTrueTrueFalse"},
        {"{{ strftime_now('%d %b %Y') }}", "04 Jul 2025"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void methods_of_strings_and_dicts_are_pythons(void **state)
{
    static const pair cases[] = {
        {"{{ s.strip() }}|{{ s.split(',') }}|{{ ' a  b '.split() }}|{{ 'a  b c '.split(none, 1) }}|{{ 'a-b-c'.rsplit('-', 1) }}",
         "a,b,c|[' a', 'b', 'c ']|['a', 'b']|['a', 'b c ']|['a-b', 'c']"},
        {"{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'xxabcx'.strip('x') }}{{ 'abab'.replace('b', '', 1) }}{{ 'abab'.count('ab') }}",
         "TrueTrueabcaab2"},
        {"{{ 'abc'.find('c') }}{{ 'abc'.find('z') }}{{ 'abca'.rfind('a') }} {{ 'a=b=c'.partition('=') }} {{ 'x'.rpartition('=') }}",
         "2-13 ('a', '=', 'b=c') ('', '', 'x')"},
        {"{{ ','.join(['a', 'b']) }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'ab12'.isalnum() }}{{ '12'.isdigit() }}{{ 'Ab'.isupper() }} {{ \"it's\".title() }}",
         "a,b ['a', 'b', 'c'] TrueTrueFalse It'S"},
        {"{{ d.get('b') }}{{ d.get('z') }}{{ d.get('z', 0) }} {{ d.keys() | list }} {{ d.values() | list | length }} {{ 'b' in d }}", "1None0 ['b', 'a'] 2 True"},
        {"{{ ''.replace('', 'x') }} {{ 'ab'.replace('', '-') }} {{ 'preab'.removeprefix('pre') }} {{ [1, 2, 1].count(1) }} {{ 'a b'.split(' ')[-1] }}", "x -a-b- ab 2 b"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static void failures_say_what_python_says(void **state)
{
    static const pair cases[] = {
        {"{{ raise_exception('Roles must alternate') }}", "error: Roles must alternate"},
        {"\n{{ d.x.y }}", "error: line 2: 'dict object' has no attribute 'x'"},
        {"{{ q.y }}", "error: line 1: 'q' is undefined"},
        {"{{ l.append(1) }}", "error: line 1: access to attribute 'append' of 'list' object is unsafe"},
        {"{{ 'a' + 1 }}", "error: line 1: can only concatenate str (not \"int\") to str"},
        {"{{ 1 | nope }}", "error: line 1: No filter named 'nope' found"},
        {"{{ 1 / 0 }}", "error: line 1: division by zero"},
        {"{{ n.x() }}", "error: line 1: 'None' has no attribute 'x'"},
        {"{{ 9223372036854775807 + 1 }}", "error: line 1: a number over 64 bits"},
        {"{% set x.y = 1 %}", "error: line 1: cannot assign attribute on non-namespace object"},
        {"{{ ''.__class__.x }}", "error: line 1: access to attribute '__class__' of 'str' object is unsafe"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void broken_sources_are_refused_with_their_line(void **state)
{
    static const pair cases[] = {
        {"a\n{% macroo %}", "error: line 2: unknown tag 'macroo'"},
        {"{% if true %}", "error: line 1: 'elif' is missing at the end"},
        {"{{ 1 +", "error: line 1: '{{' has no '}}'"},
        {"{{ 'a }}", "error: line 1: a string has no end"},
        {"{% break %}", "error: line 1: 'break' and 'continue' belong in a loop"},
        {"{{ (1 }}", "error: line 1: '}' closes nothing"},
        {"{# a", "error: line 1: a comment has no '#}'"},
        {"\xff", "error: the template is not valid UTF-8"},
    };
    (void)state;
    check_all(cases, SV_LEN(cases));
}

static void expect_limit(const char *source)
{
    int64_t start = sv_mono_ms();
    sv_err err = {0};
    SV_AUTO(sv_template_freep) sv_template *t = NULL;
    SV_AUTO(sv_buf_donep) sv_buf out;
    sv_buf_init(&out, 1 << 20);
    json_t *ctx = json_object();
    assert_int_equal(sv_template_compile(&t, sv_str_of(source), &err), SV_OK);
    assert_int_equal(sv_template_render(t, ctx, &out, &err), SV_ELIMIT);
    assert_int_equal(out.n, 0);
    assert_true(sv_mono_ms() - start < 20000); /* sanitizers on a busy machine */
    json_decref(ctx);
}

static void no_template_runs_for_ever_or_grows_without_bound(void **state)
{
    (void)state;
    expect_limit("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}");
    expect_limit("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    expect_limit("{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}");
    expect_limit("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}");
    expect_limit("{% set ns = namespace(l=[]) %}{% for i in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}");
    expect_limit("{{ 'x' * 1000000000 }}");
    expect_limit("{{ [1] * 1000000000 }}");
    expect_limit("{% for i in range(100000) %}0123456789abcdef{% endfor %}");
}

static void deep_sources_are_refused(void **state)
{
    static char source[200003];
    sv_err err = {0};
    sv_template *t = NULL;
    (void)state;
    memset(source, '(', sizeof source);
    memcpy(source, "{{", 2);
    assert_int_equal(sv_template_compile(&t, (sv_str){source, sizeof source}, &err), SV_EFORMAT);
    for (size_t i = 2; i + 4 < sizeof source; i += 4)
        memcpy(source + i, "not ", 4);
    memcpy(source + sizeof source - 4, "1 }}", 4);
    if (sv_template_compile(&t, (sv_str){source, sizeof source}, &err) == SV_OK) { /* deep, then found at the render */
        sv_buf out;
        sv_buf_init(&out, 0);
        json_t *ctx = json_object();
        assert_int_equal(sv_template_render(t, ctx, &out, &err), SV_ELIMIT);
        json_decref(ctx);
    }
    sv_template_free(t);
    assert_true(strstr(err.msg, "too deeply"));
}

/* --- real templates ----------------------------------------------------------------------------------------------- */

static const char *const contexts[] = {"simple", "system", "tool_use", "tool_use_object_arguments"};

static json_t *read_json(const char *path, sv_buf *text)
{
    sv_err err = {0};
    json_t *j = NULL;
    sv_buf_reset(text);
    if (sv_file_read(text, path, &err) != SV_OK || sv_json_parse(&j, sv_buf_str(text), &err) != SV_OK)
        fail_msg("%s: %s", path, err.msg);
    return j;
}

/* Jinja's "SecurityError: access to ... is unsafe." and ours, "line 3: access to ... is unsafe". */
static bool same_failure(const char *got, const char *jinjas)
{
    const char *what = strstr(jinjas, ": ");
    size_t n = strlen(what += 2);
    n -= what[n - 1] == '.';
    return strncmp(got, "error: ", 7) == 0 && memmem(got, strlen(got), what, n);
}

static int check_template(const char *root, const char *name)
{
    char path[1024];
    sv_err err = {0};
    int n_bad = 0;
    SV_AUTO(sv_buf_donep) sv_buf source;
    SV_AUTO(sv_buf_donep) sv_buf text;
    sv_buf_init(&source, 0);
    sv_buf_init(&text, 0);
    snprintf(path, sizeof path, "%s/llama.cpp/%s.jinja", root, name);
    if (sv_file_read(&source, path, &err) != SV_OK)
        fail_msg("%s", err.msg);
    snprintf(path, sizeof path, "%s/expected/llama.cpp/%s.json", root, name);
    json_t *expected = read_json(path, &text);
    for (size_t i = 0; i < SV_LEN(contexts); i++) {
        const json_t *e = json_object_get(expected, contexts[i]);
        const char *output = json_string_value(json_object_get(e, "output")), *failure = json_string_value(json_object_get(e, "error"));
        snprintf(path, sizeof path, "%s/contexts/%s.json", root, contexts[i]);
        sv_buf_reset(&text);
        if (sv_file_read(&text, path, &err) != SV_OK)
            fail_msg("%s", err.msg);
        char *got = rendered(sv_buf_cstr(&source), sv_buf_str(&text));
        if (output ? strcmp(got, output) != 0 : !same_failure(got, failure)) {
            print_error("%s over %s gives\n%s\nexpected\n%s\n", name, contexts[i], got, output ? output : failure);
            n_bad++;
        }
        free(got);
    }
    json_decref(expected);
    return n_bad;
}

static void templates_of_real_models_render_as_jinja_renders_them(void **state)
{
    char root[512], path[600];
    const char *data = getenv("SV_SHARED_DATA");
    int n = 0, n_bad = 0;
    (void)state;
    snprintf(root, sizeof root, "%s/templates", data ? data : SV_SOURCE_ROOT "/../shared/data");
    snprintf(path, sizeof path, "%s/llama.cpp", root);
    DIR *dir = opendir(path);
    if (!dir) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char *dot = strrchr(e->d_name, '.');
        if (!dot || strcmp(dot, ".jinja") != 0)
            continue;
        *dot = 0;
        n_bad += check_template(root, e->d_name);
        n++;
    }
    closedir(dir);
    print_message("%d templates\n", n);
    assert_true(n > 0);
    assert_int_equal(n_bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_template_turns_messages_into_a_prompt),
        cmocka_unit_test(white_space_is_cut_as_jinja_cuts_it),
        cmocka_unit_test(expressions_follow_python_and_jinja),
        cmocka_unit_test(statements_scope_as_in_jinja),
        cmocka_unit_test(filters_and_tests_give_what_jinja_gives),
        cmocka_unit_test(methods_of_strings_and_dicts_are_pythons),
        cmocka_unit_test(failures_say_what_python_says),
        cmocka_unit_test(broken_sources_are_refused_with_their_line),
        cmocka_unit_test(no_template_runs_for_ever_or_grows_without_bound),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(templates_of_real_models_render_as_jinja_renders_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
