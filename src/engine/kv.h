/* kv.h - the pages of a model's KV cache
 *
 * A request first reserves all pages it may ever need, then takes them one by one as its text grows; so no request that was admitted waits
 * for memory again, and none has to be thrown out half done.
 *
 * Threads: the engine thread's of its model. */
#ifndef SV_ENGINE_KV_H
#define SV_ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

typedef struct sv_kv sv_kv;

/* Pages of page_bytes each, as many as fit into budget_bytes (at least one). Memory is taken from the system page by page. */
sv_kv *sv_kv_new(size_t page_bytes, size_t budget_bytes);
sv_kv *sv_kv_free(sv_kv *kv); /* every page was given back. NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_kv, sv_kv_free)

int32_t sv_kv_n_pages(const sv_kv *kv);      /* the budget */
int32_t sv_kv_n_reserved(const sv_kv *kv);   /* of those, promised */
bool sv_kv_reserve(sv_kv *kv, int32_t n);    /* false: fewer than n are left */
void *sv_kv_take(sv_kv *kv);                 /* one of the reserved, 64-byte aligned, zeroed when new; NULL: the system has no memory */
/* Gives back a reservation of n_reserved pages of which n were taken. Pages stay for the next one. */
void sv_kv_release(sv_kv *kv, void *const *pages, int32_t n, int32_t n_reserved);
void sv_kv_trim(sv_kv *kv);                  /* returns the free pages to the system: the model is idle */

#endif
