/* packed_test.c - the file of packed weights: found again, and never trusted when it is stale, cut or damaged */
#include "models/packed.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "models/llm.h"
#include "nn/pack.h"
#include "nn/reference_testing.h"

typedef struct place {
    char folder[64], model[80], cache[80];
    sv_tensor w[3], *list[3];
    sv_buf source;
    sv_packing p;
} place;

static void touch(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static int set_up(void **state)
{
    static const struct { sv_type type; int64_t n_in, n_out; } shapes[3] = {{SV_Q8_0, 64, 40}, {SV_Q6_K, 256, 16}, {SV_Q5_1, 8192, 1700}}; /* the last: several stretches */
    place *t = *state = sv_xnew0(place);
    sv_err err = {0};
    snprintf(t->folder, sizeof t->folder, "/tmp/sv-packed-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    snprintf(t->model, sizeof t->model, "%s/a.gguf", t->folder);
    snprintf(t->cache, sizeof t->cache, "%s/cache", t->folder);
    touch(t->model, "weights");
    for (int i = 0; i < 3; i++) {
        t->w[i] = (sv_tensor){.type = shapes[i].type, .n_dims = 2, .dims = {shapes[i].n_in, shapes[i].n_out, 1, 1}};
        t->w[i].n_bytes = sv_type_bytes(shapes[i].type, shapes[i].n_in * shapes[i].n_out);
        t->w[i].data = sv_xcalloc(1, t->w[i].n_bytes);
        ref_random_row(shapes[i].type, (void *)t->w[i].data, shapes[i].n_in * shapes[i].n_out, 8, 15);
        t->list[i] = &t->w[i];
    }
    sv_buf_init(&t->source, 0);
    assert_int_equal(sv_packed_source(&t->source, t->model, &err), SV_OK);
    t->p = (sv_packing){.path = t->model, .source = sv_buf_str(&t->source), .w = t->list, .n = 3};
    return 0;
}

static int tear_down(void **state)
{
    place *t = *state;
    sv_err err = {0};
    assert_int_equal(sv_remove_tree(t->folder, &err), SV_OK);
    for (int i = 0; i < 3; i++)
        free((void *)t->w[i].data);
    sv_buf_done(&t->source);
    free(t);
    return 0;
}

/* What was packed is what the file holds. */
static void assert_found(const place *t)
{
    sv_map map = {0};
    const uint8_t *bytes = NULL;
    size_t at[4];
    sv_err err = {0};
    if (sv_packed_open(&map, &bytes, t->cache, &t->p, &err) != SV_OK)
        fail_msg("%s", err.msg);
    sv_packed_offsets(&t->p, at);
    for (int i = 0; i < 3; i++) {
        SV_AUTO(sv_freep) uint8_t *want = sv_try_aligned(sv_packed_bytes(&t->w[i]), 64);
        sv_pack(want, &t->w[i], 0, sv_pack_groups(&t->w[i]));
        assert_memory_equal(bytes + at[i], want, sv_packed_bytes(&t->w[i]));
        assert_int_equal((uintptr_t)(bytes + at[i]) % 64, 0);
    }
    sv_map_close(&map);
}

static void assert_not_found(const place *t, const char *why)
{
    sv_map map = {0};
    const uint8_t *bytes = NULL;
    sv_err err = {0};
    assert_int_equal(sv_packed_open(&map, &bytes, t->cache, &t->p, &err), SV_ENOENT);
    if (!strstr(err.msg, why))
        fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void write_it(const place *t)
{
    sv_err err = {0};
    if (sv_packed_write(t->cache, &t->p, &err) != SV_OK)
        fail_msg("%s", err.msg);
}

/* The only file of the cache. */
static void the_file(const place *t, char path[400])
{
    DIR *d = opendir(t->cache);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(path, 400, "%s/%s", t->cache, e->d_name);
            n++;
        }
    closedir(d);
    assert_int_equal(n, 1);
}

static void what_was_written_is_found_again(void **state)
{
    place *t = *state;
    size_t at[4];
    assert_not_found(t, "is not there");
    assert_int_equal(sv_packed_size(t->cache, t->model), 0);
    write_it(t);
    assert_found(t);
    sv_packed_offsets(&t->p, at);
    assert_in_range(sv_packed_size(t->cache, t->model), at[3], at[3] + 8192);
    write_it(t); /* over the first */
    assert_found(t);
}

static void other_weights_under_the_same_path_are_not_taken_for_these(void **state)
{
    place *t = *state;
    sv_err err = {0};
    write_it(t);
    sv_buf_done(&t->source);
    sv_buf_init(&t->source, 0);
    touch(t->model, "WEIGHTS"); /* of the same length, a moment later */
    assert_int_equal(sv_packed_source(&t->source, t->model, &err), SV_OK);
    t->p.source = sv_buf_str(&t->source);
    assert_not_found(t, "is of other weights");
    write_it(t);
    assert_found(t);
    t->w[0].dims[1]--; /* another table of tensors */
    assert_not_found(t, "");
    t->w[0].dims[1]++;
    t->p.n = 2;
    assert_not_found(t, "is of other weights");
}

static void change(const char *path, off_t at, size_t n)
{
    uint8_t bytes[64];
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, bytes, n, at) == (ssize_t)n);
    for (size_t i = 0; i < n; i++)
        bytes[i] ^= 0x10;
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void a_cut_or_damaged_file_is_noticed_and_written_again(void **state)
{
    place *t = *state;
    char path[400];
    write_it(t);
    the_file(t, path);
    off_t size = (off_t)sv_packed_size(t->cache, t->model);
    const off_t cuts[] = {0, 1, 100, 4095, 4096, size / 2, size - 1};
    for (size_t i = 0; i < SV_LEN(cuts); i++) {
        assert_int_equal(truncate(path, cuts[i]), 0);
        assert_not_found(t, "'");
        write_it(t);
        assert_found(t);
    }
    const off_t places[] = {0, 8, 20, 40, 70, 120, 200, 4096, size / 2, size - 1};
    for (size_t i = 0; i < SV_LEN(places); i++) {
        change(path, places[i], 1);
        assert_not_found(t, "'");
        change(path, places[i], 1);
        assert_found(t); /* whole again, though its time is another: read, compared and sealed */
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const struct timespec sealed = st.st_mtim;
    assert_found(t);
    assert_int_equal(stat(path, &st), 0);
    assert_memory_equal(&sealed, &st.st_mtim, sizeof sealed);
}

static void what_nobody_needs_is_swept(void **state)
{
    place *t = *state;
    char left[200], held[200], path[400];
    write_it(t);
    snprintf(left, sizeof left, "%s/abcdef.tmp", t->cache);
    snprintf(held, sizeof held, "%s/ghijkl.tmp", t->cache);
    touch(left, "half of a file whose writer was killed");
    touch(held, "half of a file that is being written");
    int fd = open(held, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    /* another model, which then goes */
    char other[120];
    sv_buf source;
    sv_err err = {0};
    snprintf(other, sizeof other, "%s/b.gguf", t->folder);
    touch(other, "more");
    sv_buf_init(&source, 0);
    assert_int_equal(sv_packed_source(&source, other, &err), SV_OK);
    const sv_packing p = {.path = other, .source = sv_buf_str(&source), .w = t->list, .n = 1};
    assert_int_equal(sv_packed_write(t->cache, &p, &err), SV_OK);
    assert_false(sv_file_exists(left));
    assert_true(sv_file_exists(held));
    assert_found(t);
    assert_true(sv_packed_size(t->cache, other) > 0);
    unlink(other);
    unlink(held);
    close(fd);
    write_it(t);
    assert_int_equal(sv_packed_size(t->cache, other), 0);
    the_file(t, path);
    sv_buf_done(&source);
}

static void a_folder_that_cannot_be_is_an_error(void **state)
{
    place *t = *state;
    sv_err err = {0};
    assert_int_not_equal(sv_packed_write(t->model, &t->p, &err), SV_OK); /* it is a file */
    assert_true(err.msg[0] != '\0');
}

/* --- a model ------------------------------------------------------------------------------------------------------ */

static void logits_of(const char *folder, float *logits, sv_llm_packing how)
{
    static const int32_t tokens[] = {1, 5, 9, 30, 7};
    sv_llm *m = NULL;
    sv_llm_ws *ws = NULL;
    sv_err err = {0};
    if (sv_llm_open(&m, SV_SOURCE_ROOT "/tests/reference/llama-q4_0.gguf", &err) != SV_OK || sv_llm_pack(m, folder, &err) != SV_OK ||
        sv_llm_ws_new(&ws, m, 8, &err) != SV_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sv_llm_packed_how(m), how);
    assert_true(sv_llm_packed_bytes(m) > 10000);
    void *page = sv_try_aligned(sv_llm_kv_page_bytes(m), 64);
    sv_pool *pool = sv_pool_new(1);
    sv_llm_step(m, ws, pool, &(sv_llm_chunk){.tokens = tokens, .n_tokens = SV_LEN(tokens), .pages = &page, .logits = logits}, 1);
    sv_pool_free(pool);
    free(page);
    sv_llm_ws_free(ws);
    sv_llm_unref(m);
}

static void a_model_gives_the_same_bits_however_it_was_packed(void **state)
{
    place *t = *state;
    float memory[4096], other[4096];
    memset(memory, 0, sizeof memory);
    memset(other, 0, sizeof other);
    logits_of(NULL, memory, SV_LLM_IN_MEMORY);
    logits_of(t->cache, other, SV_LLM_WRITTEN);
    assert_memory_equal(memory, other, sizeof memory);
    logits_of(t->cache, other, SV_LLM_MAPPED);
    assert_memory_equal(memory, other, sizeof memory);
    logits_of(t->model, other, SV_LLM_IN_MEMORY); /* no folder: a disk that cannot be written keeps no model from answering */
    assert_memory_equal(memory, other, sizeof memory);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_found_again),
        TEST(other_weights_under_the_same_path_are_not_taken_for_these),
        TEST(a_cut_or_damaged_file_is_noticed_and_written_again),
        TEST(what_nobody_needs_is_swept),
        TEST(a_folder_that_cannot_be_is_an_error),
        TEST(a_model_gives_the_same_bits_however_it_was_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
