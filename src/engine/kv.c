/* kv.c - the pages of a model's KV cache
 *
 * Pages and not one block a request: a request's length is known only when it ends, and what it does not use must be another's. A page of a
 * 1B model is about 2 MiB, so the allocator maps each by itself and a trim gives it back to the system.
 *
 * Invariants:
 *   1. n_taken <= n_reserved <= n_pages. Reserved counts promises, not memory.
 *   2. n_taken + n_free pages exist; n_taken + n_free <= n_pages: a take uses a free page before it makes one.
 *   3. A page belongs to one owner: a taker, or the free list.
 *   4. Free pages may hold what an earlier request computed. Nobody reads a slot of a page before its own step wrote it. */
#include "engine/kv.h"

#include <string.h>

enum { MAX_PAGES = 1 << 24 };

struct sv_kv {
    size_t page_bytes;
    int32_t n_pages, n_reserved, n_taken, n_free;
    void **free_pages; /* [n_free], room for cap_free */
    int32_t cap_free;
};

sv_kv *sv_kv_new(size_t page_bytes, size_t budget_bytes)
{
    SV_ASSERT(page_bytes > 0);
    sv_kv *kv = sv_xnew0(sv_kv);
    size_t n = budget_bytes / page_bytes;
    kv->page_bytes = page_bytes;
    kv->n_pages = n < 1 ? 1 : n > MAX_PAGES ? MAX_PAGES : (int32_t)n;
    return kv;
}

sv_kv *sv_kv_free(sv_kv *kv)
{
    if (!kv)
        return NULL;
    SV_ASSERT(kv->n_taken == 0 && kv->n_reserved == 0);
    sv_kv_trim(kv);
    free(kv);
    return NULL;
}

int32_t sv_kv_n_pages(const sv_kv *kv) { return kv->n_pages; }
int32_t sv_kv_n_reserved(const sv_kv *kv) { return kv->n_reserved; }

bool sv_kv_reserve(sv_kv *kv, int32_t n)
{
    SV_ASSERT(n >= 0);
    if (n > kv->n_pages - kv->n_reserved)
        return false;
    kv->n_reserved += n;
    return true;
}

void *sv_kv_take(sv_kv *kv)
{
    SV_ASSERT(kv->n_taken < kv->n_reserved); /* inv. 1 */
    void *page;
    if (kv->n_free > 0) {
        page = kv->free_pages[--kv->n_free];
    } else {
        page = sv_try_aligned(kv->page_bytes, 64);
        if (page)
            memset(page, 0, kv->page_bytes);
    }
    kv->n_taken += page != NULL;
    return page;
}

void sv_kv_release(sv_kv *kv, void *const *pages, int32_t n, int32_t n_reserved)
{
    SV_ASSERT(n >= 0 && n <= n_reserved && n <= kv->n_taken && n_reserved <= kv->n_reserved);
    kv->n_taken -= n;
    kv->n_reserved -= n_reserved;
    if (kv->n_free + n > kv->cap_free) {
        kv->cap_free = 2 * (kv->n_free + n);
        kv->free_pages = sv_xrealloc(kv->free_pages, (size_t)kv->cap_free, sizeof *kv->free_pages);
    }
    for (int32_t i = 0; i < n; i++)
        kv->free_pages[kv->n_free++] = pages[i];
}

void sv_kv_trim(sv_kv *kv)
{
    for (int32_t i = 0; i < kv->n_free; i++)
        free(kv->free_pages[i]);
    free(kv->free_pages);
    kv->free_pages = NULL;
    kv->n_free = kv->cap_free = 0;
}
