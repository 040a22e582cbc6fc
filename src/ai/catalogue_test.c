/* catalogue_test.c - models come from three sources; imports are seen by others, whole or not at all */
#include "ai/catalogue.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "account/limits.h"
#include "base/file.h"
#include "base/hash.h"

#ifndef SV_SOURCE_ROOT
#define SV_SOURCE_ROOT ".."
#endif
#define GGUF SV_SOURCE_ROOT "/tests/reference/llama-q8_0.gguf"
#define OTHER SV_SOURCE_ROOT "/tests/reference/llama-f16.gguf"
#define ID "@cf/somebody/little"

typedef struct place { char root[64], data[80], models[80]; } place;

static int set_up(void **state)
{
    place *p = sv_xnew0(place);
    sv_err err = {0};
    snprintf(p->root, sizeof p->root, "/tmp/sv-catalogue-XXXXXX");
    if (!mkdtemp(p->root))
        return -1;
    snprintf(p->data, sizeof p->data, "%s/data", p->root);
    snprintf(p->models, sizeof p->models, "%s/models", p->root);
    *state = p;
    return sv_mkdir_p(p->models, 0700, &err) == SV_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    place *p = *state;
    sv_err err = {0};
    int rc = sv_remove_tree(p->root, &err) == SV_OK ? 0 : -1;
    free(p);
    return rc;
}

static sv_catalogue *open_at(const place *p)
{
    sv_catalogue *c = NULL;
    sv_err err = {0};
    if (sv_catalogue_open(&c, p->data, p->models, &err) != SV_OK)
        fail_msg("%s", err.msg);
    return c;
}

static void copy_file(const char *from, const char *to)
{
    sv_map m = {0};
    sv_err err = {0};
    if (sv_map_open(&m, from, &err) != SV_OK || sv_file_replace(to, m.p, m.n, 0600, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_map_close(&m);
}

static sv_rc import(sv_catalogue *c, const char *path, const char *id, sv_err *err)
{
    *err = (sv_err){0};
    return sv_catalogue_import(c, &(sv_import_opts){.path = path, .id = id}, err);
}

static void must_import(sv_catalogue *c, const char *path, const char *id)
{
    sv_err err;
    if (import(c, path, id, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

static int files_in(const char *data)
{
    char cmd[200];
    snprintf(cmd, sizeof cmd, "ls -A %s/models | grep -vc '^.lock$'", data);
    FILE *f = popen(cmd, "r");
    int n = -1;
    if (fscanf(f, "%d", &n) != 1)
        n = -1;
    pclose(f);
    return n;
}

static void the_catalogue_knows_ids_windows_and_prices(void **state)
{
    sv_catalogue *c = open_at(*state);
    sv_err err = {0};
    const sv_model *m = NULL;
    assert_int_equal(sv_catalogue_find(c, SV_STR("@cf/meta/llama-3.2-1b-instruct"), &m, &err), SV_OK);
    assert_int_equal(m->n_ctx, 60000);
    assert_true(m->neurons_in == 2457 && m->neurons_out == 18252 && m->priced);
    assert_string_equal(m->task, "Text Generation");
    assert_null(m->path);
    m = sv_model_unref(m);
    sv_model_list l = sv_catalogue_list(c);
    assert_int_equal(l.n, 111); /* as many as the published list that ours was made from */
    for (size_t i = 0; i < l.n; i++)
        assert_true(sv_model_id_valid(sv_str_of(l.models[i]->id)) && l.models[i]->vendor && l.models[i]->description);
    sv_model_list_done(&l);
    sv_catalogue_close(c);
}

static void refusals_say_what_to_do(void **state)
{
    sv_catalogue *c = open_at(*state);
    const sv_model *m = NULL;
    sv_err err = {0};
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/no/such"), &m, &err), SV_ENOENT);
    assert_int_equal(err.api_code, 5007);
    assert_string_equal(err.msg, "No such model @cf/no/such or task");
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/meta/llama-3.2-1b-instruct"), &m, &err), SV_ENOENT);
    assert_int_equal(err.api_code, 5007);
    assert_non_null(strstr(err.msg, "selvedge models import PATH --as @cf/meta/llama-3.2-1b-instruct"));
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/baai/bge-m3"), &m, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "selvedge models import PATH --as @cf/baai/bge-m3"));
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/leonardo/lucid-origin"), &m, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "does not run the task Text-to-Image"));
    assert_int_equal(sv_catalogue_resolve(c, (sv_str){NULL, 0}, &m, &err), SV_ENOENT);
    assert_null(m);
    sv_catalogue_close(c);
}

static void an_import_is_recognised_and_gets_the_task_of_its_kind(void **state)
{
    static const struct { const char *folder, *id, *task, *shape; sv_model_kind kind; int32_t dim; } cases[] = {
        {"bert", "me/embedder", "Text Embeddings", "embeddings", SV_KIND_ENCODER, 36},
        {"xlm-roberta", "@cf/baai/bge-m3", "Text Embeddings", "bge-m3", SV_KIND_ENCODER, 36},
        {"qwen3-embedding", "me/decoder", "Text Embeddings", "embeddings", SV_KIND_ENCODER, 48},
        {"distilbert", "me/moods", "Text Classification", "text-classification", SV_KIND_CLASSIFIER, 2},
        {"seq2seq/bart", "me/shorter", "Summarization", "summarization", SV_KIND_SUMMARISER, 0},
        {"seq2seq/m2m_100", "@cf/meta/m2m100-1.2b", "Translation", "translation", SV_KIND_TRANSLATOR, 0},
        {"xlm-roberta-reranker", "@cf/baai/bge-reranker-base", "Text Classification", "rerank", SV_KIND_RERANKER, 1},
    };
    place *p = *state;
    sv_err err = {0};
    sv_catalogue *c = open_at(p);
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        SV_AUTO(sv_freep) char *path = sv_xasprintf(SV_SOURCE_ROOT "/tests/reference/%s%s", strchr(cases[i].folder, '/') ? "" : "encoders/", cases[i].folder);
        if (import(c, path, cases[i].id, &err) != SV_OK)
            fail_msg("%s", err.msg);
    }
    sv_catalogue_close(c);
    c = open_at(p); /* from the database */
    for (size_t i = 0; i < SV_LEN(cases); i++) {
        SV_AUTO(sv_model_unrefp) const sv_model *m = NULL;
        assert_int_equal(sv_catalogue_resolve(c, sv_str_of(cases[i].id), &m, &err), SV_OK);
        assert_string_equal(m->task, cases[i].task);
        assert_string_equal(m->shape, cases[i].shape);
        assert_int_equal(m->facts.kind, cases[i].kind);
        assert_int_equal(m->facts.dim, cases[i].dim);
    }
    assert_int_equal(import(c, SV_SOURCE_ROOT "/tests/reference/encoders/bert", "@cf/meta/llama-3.2-1b-instruct", &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "is a text encoder (bert), for Text Embeddings; @cf/meta/llama-3.2-1b-instruct is a model for Text Generation"));
    assert_int_equal(import(c, GGUF, "@cf/baai/bge-small-en-v1.5", &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "is a language model (llama), for Text Generation; @cf/baai/bge-small-en-v1.5 is a model for Text Embeddings"));
    sv_catalogue_close(c);
}

static void files_of_the_models_folder_are_default_models(void **state)
{
    place *p = *state;
    char path[160];
    snprintf(path, sizeof path, "%s/tiny-test.gguf", p->models);
    copy_file(GGUF, path);
    snprintf(path, sizeof path, "%s/broken.gguf", p->models);
    sv_err err = {0};
    assert_int_equal(sv_file_replace(path, "GGUF", 4, 0600, &err), SV_OK);
    sv_catalogue *c = open_at(p);
    const sv_model *m = NULL;
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/selvedge/tiny-test"), &m, &err), SV_OK);
    assert_int_equal(m->origin, SV_MODEL_DEFAULT);
    assert_true(m->path[0] == '/' && m->n_ctx > 0 && m->facts.n_params > 0 && m->neurons_in > 0);
    m = sv_model_unref(m);
    assert_int_equal(sv_catalogue_find(c, SV_STR("@cf/selvedge/broken"), &m, &err), SV_ENOENT);
    assert_int_equal(sv_catalogue_remove(c, "@cf/selvedge/tiny-test", &err), SV_EINVAL);
    assert_int_equal(import(c, GGUF, "@cf/selvedge/tiny-test", &err), SV_ECONFLICT);
    sv_catalogue_close(c);
}

static void an_import_is_seen_by_a_catalogue_that_is_open_already(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* it knows no threads in the child of a process with threads */
#endif
    place *p = *state;
    sv_catalogue *daemon = open_at(p);
    sv_err err = {0};
    const sv_model *m = NULL;
    assert_int_equal(sv_catalogue_resolve(daemon, SV_STR(ID), &m, &err), SV_ENOENT);
    pid_t pid = fork(); /* another process, as the command line is */
    if (pid == 0) {
        sv_catalogue *c = NULL;
        sv_err e = {0};
        int rc = sv_catalogue_open(&c, p->data, p->models, &e) == SV_OK && import(c, GGUF, ID, &e) == SV_OK ? 0 : 1;
        if (rc)
            fprintf(stderr, "%s\n", e.msg);
        sv_catalogue_close(c);
        _exit(rc);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(sv_catalogue_resolve(daemon, SV_STR(ID), &m, &err), SV_OK);
    assert_int_equal(m->origin, SV_MODEL_IMPORTED);
    sv_map a = {0}, b = {0};
    assert_int_equal(sv_map_open(&a, GGUF, &err), SV_OK);
    assert_int_equal(sv_map_open(&b, m->path, &err), SV_OK);
    assert_true(a.n == b.n && memcmp(a.p, b.p, a.n) == 0);
    uint8_t digest[32];
    char hex[65];
    sv_sha256(digest, a.p, a.n);
    sv_hex(hex, digest, 32);
    assert_string_equal(m->sha256, hex);
    sv_map_close(&a);
    sv_map_close(&b);
    assert_string_equal(m->vendor, "somebody");
    m = sv_model_unref(m);
    sv_catalogue_close(daemon);
}

static void the_watch_thread_sees_a_removal(void **state)
{
    place *p = *state;
    sv_catalogue *daemon = open_at(p), *cli = open_at(p);
    sv_err err = {0};
    const sv_model *held = NULL, *m = NULL;
    must_import(cli, GGUF, ID);
    sv_catalogue_watch(daemon);
    assert_int_equal(sv_catalogue_resolve(daemon, SV_STR(ID), &held, &err), SV_OK);
    assert_int_equal(sv_catalogue_remove(cli, ID, &err), SV_OK);
    sv_rc rc = SV_OK;
    for (int i = 0; i < 100 && rc == SV_OK; i++) {
        rc = sv_catalogue_resolve(daemon, SV_STR(ID), &m, &err);
        if (rc == SV_OK)
            m = sv_model_unref(m);
        usleep(50000);
    }
    assert_int_equal(rc, SV_ENOENT);
    assert_string_equal(held->id, ID); /* who holds it keeps it */
    assert_false(sv_file_exists(held->path));
    held = sv_model_unref(held);
    assert_int_equal(files_in(p->data), 0);
    sv_catalogue_close(daemon);
    sv_catalogue_close(cli);
}

static void a_catalogue_id_keeps_its_price_and_gets_the_smaller_window(void **state)
{
    sv_catalogue *c = open_at(*state);
    sv_err err = {0};
    const sv_model *m = NULL;
    must_import(c, GGUF, "@cf/meta/llama-3.2-1b-instruct");
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/meta/llama-3.2-1b-instruct"), &m, &err), SV_OK);
    assert_true(m->neurons_in == 2457 && m->priced);
    assert_int_equal(m->n_ctx, m->facts.n_ctx);
    assert_string_equal(m->vendor, "Meta");
    m = sv_model_unref(m);
    assert_int_equal(import(c, GGUF, "@cf/baai/bge-m3", &err), SV_EINVAL);
    assert_non_null(strstr(err.msg, "Text Embeddings"));
    sv_catalogue_close(c);
}

static void the_same_bytes_again_are_fine_and_others_are_not(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    must_import(c, GGUF, ID);
    must_import(c, GGUF, ID);
    assert_int_equal(files_in(p->data), 1);
    assert_int_equal(import(c, OTHER, ID, &err), SV_ECONFLICT);
    assert_non_null(strstr(err.msg, "selvedge models remove " ID));
    assert_int_equal(files_in(p->data), 1); /* the refused copy is gone */
    sv_catalogue_close(c);
}

static void a_link_brings_no_copy(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    const sv_model *m = NULL;
    char path[160];
    struct stat a, b;
    snprintf(path, sizeof path, "%s/mine.gguf", p->root);
    copy_file(GGUF, path);
    for (int i = 0; i < 2; i++) /* the second finds the same file in its place */
        assert_int_equal(sv_catalogue_import(c, &(sv_import_opts){.path = path, .id = ID, .link = true}, &err), SV_OK);
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_OK);
    assert_true(stat(path, &a) == 0 && stat(m->path, &b) == 0 && a.st_ino == b.st_ino);
    assert_int_equal(files_in(p->data), 1);
    m = sv_model_unref(m);
    sv_catalogue_close(c);
}

static void bad_ids_and_files_are_refused(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    static const char *const ids[] = {"", "name", "/name", "a/", "a/b/c", "@/a/b", "@cf/a", "@cf/a/b/c", "@cf/../b",
                                     "@cf/a/..", "@cf/a/b c", "a/b\n", "@cf/a/-x", "@cf//x"};
    for (size_t i = 0; i < SV_LEN(ids); i++) {
        assert_int_equal(import(c, GGUF, ids[i], &err), SV_EINVAL);
        assert_non_null(strstr(err.msg, "is no model id"));
    }
    assert_true(sv_model_id_valid(SV_STR("@cf/meta/llama-3.2-1b-instruct")) && sv_model_id_valid(SV_STR("me/it_2.0")));
    char path[160], longest[160] = "a/";
    memset(longest + 2, 'b', (size_t)sv_limit_value(SV_LIMIT_MODEL_NAME_BYTES) - 1);
    assert_false(sv_model_id_valid(sv_str_of(longest)));
    longest[strlen(longest) - 1] = 0;
    assert_true(sv_model_id_valid(sv_str_of(longest)));
    snprintf(path, sizeof path, "%s/bad", p->root);
    sv_map m = {0};
    assert_int_equal(sv_map_open(&m, GGUF, &err), SV_OK);
    assert_int_equal(sv_file_replace(path, m.p, m.n / 2, 0600, &err), SV_OK); /* cut off in the middle */
    sv_map_close(&m);
    assert_int_not_equal(import(c, path, ID, &err), SV_OK);
    assert_true(err.msg[0] != 0);
    assert_int_equal(import(c, p->root, ID, &err), SV_ENOENT); /* a folder without a model */
    assert_non_null(strstr(err.msg, "has neither config.json nor a GGUF file"));
    assert_int_equal(import(c, "/dev/null", ID, &err), SV_EFORMAT);
    assert_int_equal(import(c, "/nowhere/x.gguf", ID, &err), SV_ENOENT);
    assert_int_equal(files_in(p->data), 0);
    sv_catalogue_close(c);
}

static void an_import_sweeps_what_a_crash_left(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    char path[160];
    snprintf(path, sizeof path, "%s/models/.in-0123456789abcdef", p->data);
    assert_int_equal(sv_file_replace(path, "half", 4, 0600, &err), SV_OK);
    must_import(c, GGUF, ID);
    assert_false(sv_file_exists(path));
    assert_int_equal(files_in(p->data), 1);
    sv_catalogue_close(c);
}

static int n_wrong;
static void count_wrong(const sv_model *m, const sv_err *wrong, void *arg)
{
    (void)m, (void)arg;
    n_wrong += wrong != NULL;
}

static void verify_finds_a_changed_byte_and_a_lost_file(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    const sv_model *m = NULL;
    must_import(c, GGUF, ID);
    n_wrong = 0;
    assert_int_equal(sv_catalogue_verify(c, count_wrong, NULL, &err), SV_OK);
    assert_int_equal(n_wrong, 0);
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_OK);
    int fd = open(m->path, O_RDWR);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)m->facts.size_bytes - 1), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)m->facts.size_bytes - 1), 1);
    close(fd);
    assert_int_equal(sv_catalogue_verify(c, count_wrong, NULL, &err), SV_EFORMAT);
    assert_int_equal(n_wrong, 1);
    assert_int_equal(unlink(m->path), 0);
    m = sv_model_unref(m);
    sv_catalogue_close(c);
    c = open_at(p);
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "import it again"));
    must_import(c, GGUF, ID); /* and that helps */
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_OK);
    m = sv_model_unref(m);
    sv_catalogue_close(c);
}

static void pull_takes_urls_and_explains_ids(void **state)
{
    place *p = *state;
    sv_catalogue *c = open_at(p);
    sv_err err = {0};
    char url[PATH_MAX + 16], real[PATH_MAX];
    assert_non_null(realpath(GGUF, real));
    snprintf(url, sizeof url, "file://%s", real);
    assert_int_equal(sv_catalogue_pull(c, &(sv_import_opts){.path = url, .id = ID}, &err), SV_OK);
    const sv_model *m = NULL;
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_OK);
    m = sv_model_unref(m);
    assert_int_equal(sv_catalogue_pull(c, &(sv_import_opts){.path = url}, &err), SV_EINVAL);
    assert_int_equal(sv_catalogue_pull(c, &(sv_import_opts){.path = "@cf/meta/llama-3.2-1b-instruct"}, &err), SV_ENOENT);
    assert_non_null(strstr(err.msg, "selvedge models import"));
    assert_int_equal(sv_catalogue_pull(c, &(sv_import_opts){.path = "http://127.0.0.1:9/x.gguf", .id = "a/b"}, &err), SV_EIO);
    assert_non_null(strstr(err.msg, "http://127.0.0.1:9/x.gguf"));
    assert_int_equal(sv_catalogue_pull(c, &(sv_import_opts){.path = "ftp://127.0.0.1/x", .id = "a/b"}, &err), SV_EIO);
    assert_int_equal(files_in(p->data), 1);
    sv_catalogue_close(c);
}

#define PARTS SV_SOURCE_ROOT "/tests/reference/qwen3-00001-of-00002.gguf"

static void a_model_in_parts_is_imported_whole(void **state)
{
    const place *p = *state;
    sv_catalogue *c = open_at(p);
    const sv_model *m = NULL;
    sv_err err = {0};
    char path[300];
    must_import(c, PARTS, ID);
    must_import(c, PARTS, ID); /* the same bytes again */
    assert_int_equal(files_in(p->data), 1);
    assert_int_equal(sv_catalogue_resolve(c, SV_STR(ID), &m, &err), SV_OK);
    assert_string_equal(m->facts.arch, "qwen3");
    snprintf(path, sizeof path, "%s/qwen3-00002-of-00002.gguf", m->path);
    assert_true(sv_file_exists(path));
    assert_int_equal(import(c, SV_SOURCE_ROOT "/tests/reference/qwen3-00002-of-00002.gguf", "a/b", &err), SV_EFORMAT);
    assert_non_null(strstr(err.msg, "name the first"));
    assert_int_equal(import(c, OTHER, ID, &err), SV_ECONFLICT);
    assert_int_equal(sv_catalogue_verify(c, count_wrong, NULL, &err), SV_OK);

    sv_map bytes = {0};
    assert_int_equal(sv_map_open(&bytes, path, &err), SV_OK);
    uint8_t *changed = sv_xcalloc(1, bytes.n);
    memcpy(changed, bytes.p, bytes.n);
    changed[bytes.n - 100] ^= 1;
    assert_int_equal(sv_file_replace(path, changed, bytes.n, 0600, &err), SV_OK);
    sv_map_close(&bytes);
    free(changed);
    n_wrong = 0;
    assert_int_equal(sv_catalogue_verify(c, count_wrong, NULL, &err), SV_EFORMAT);
    assert_int_equal(n_wrong, 1);
    sv_model_unref(m);
    assert_int_equal(sv_catalogue_remove(c, ID, &err), SV_OK);
    assert_int_equal(files_in(p->data), 0);
    sv_catalogue_close(c);
}

static void default_models_in_parts_count_once(void **state)
{
    const place *p = *state;
    sv_err err = {0};
    const sv_model *m = NULL;
    for (int i = 1; i <= 2; i++) {
        char from[300], to[300];
        snprintf(from, sizeof from, SV_SOURCE_ROOT "/tests/reference/qwen3-%05d-of-00002.gguf", i);
        snprintf(to, sizeof to, "%s/big-%05d-of-00002.gguf", p->models, i);
        copy_file(from, to);
    }
    sv_catalogue *c = open_at(p);
    assert_int_equal(sv_catalogue_resolve(c, SV_STR("@cf/selvedge/big"), &m, &err), SV_OK);
    m = sv_model_unref(m);
    sv_model_list l = sv_catalogue_list(c);
    assert_int_equal(l.n, 111 + 1);
    sv_model_list_done(&l);
    sv_catalogue_close(c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_catalogue_knows_ids_windows_and_prices), T(refusals_say_what_to_do), T(an_import_is_recognised_and_gets_the_task_of_its_kind),
        T(files_of_the_models_folder_are_default_models),
        T(an_import_is_seen_by_a_catalogue_that_is_open_already), T(the_watch_thread_sees_a_removal),
        T(a_catalogue_id_keeps_its_price_and_gets_the_smaller_window), T(the_same_bytes_again_are_fine_and_others_are_not), T(a_link_brings_no_copy),
        T(bad_ids_and_files_are_refused), T(an_import_sweeps_what_a_crash_left), T(verify_finds_a_changed_byte_and_a_lost_file),
        T(pull_takes_urls_and_explains_ids), T(a_model_in_parts_is_imported_whole), T(default_models_in_parts_count_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
