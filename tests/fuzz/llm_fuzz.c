/* links: models */
/* llm_fuzz.c - model files that a stranger made: opened, and, where that succeeds, run for some tokens */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "models/llm.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Two chunks of one sequence, over a page's border where the context allows. */
static void run(const sv_llm *m)
{
    const sv_llm_info *info = sv_llm_get_info(m);
    enum { N = 40, FIRST = 33 };
    SV_AUTO(sv_llm_ws_freep) sv_llm_ws *ws = NULL;
    SV_AUTO(sv_pool_freep) sv_pool *pool = sv_pool_new(1);
    sv_err err = {0};
    int32_t tokens[N], n = info->n_ctx < N ? info->n_ctx : N, first = n < FIRST ? n : FIRST;
    void *pages[2] = {sv_try_aligned(sv_llm_kv_page_bytes(m), 64), sv_try_aligned(sv_llm_kv_page_bytes(m), 64)};
    float *logits = sv_try_calloc((size_t)info->n_vocab, sizeof *logits);
    for (int32_t i = 0; i < N; i++)
        tokens[i] = i * 7 % info->n_vocab;
    if (pages[0] && pages[1] && logits && sv_llm_ws_new(&ws, m, N, &err) == SV_OK) {
        sv_llm_step(m, ws, pool, &(sv_llm_chunk){.tokens = tokens, .n_tokens = first, .pages = pages}, 1);
        if (n > first)
            sv_llm_step(m, ws, pool, &(sv_llm_chunk){tokens + first, n - first, first, pages, logits}, 1);
    }
    free(pages[0]);
    free(pages[1]);
    free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char path[64];
    sv_err err = {0};
    SV_AUTO(sv_llm_unrefp) sv_llm *m = NULL;
    SV_AUTO(sv_fd_closep) int fd = memfd_create("model", MFD_CLOEXEC);
    SV_ASSERT(fd >= 0 && sv_write_all(fd, p, n, &err) == SV_OK);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (sv_llm_open(&m, path, &err) != SV_OK) {
        SV_ASSERT(strstr(err.msg, path)); /* a refusal says which file */
        return 0;
    }
    SV_ASSERT(!sv_llm_template(m) || !sv_llm_template_error(m));
    run(m);
    if (sv_llm_pack(m, NULL, &err) == SV_OK)
        run(m);
    return 0;
}
