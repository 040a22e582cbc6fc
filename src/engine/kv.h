/* kv.h - the pages of a model's KV cache, and the prefixes that are kept in them
 *
 * A fixed number of pages. A sequence takes them one by one as its text grows; once a page is full it can be kept under its tokens and its
 * tenant, and any sequence of the same tenant whose tokens begin the same way reads it instead of computing it again. Pages that nobody reads
 * stay until their room is needed, the least recently used go first.
 *
 * Threads: the engine thread's of its model. */
#ifndef SV_ENGINE_KV_H
#define SV_ENGINE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum { SV_KV_MAX_TENANT = 64 }; /* with its NUL */

typedef struct sv_kv sv_kv;

/* Pages of page_bytes each, as many as fit into budget_bytes (at least one). Memory is taken from the system page by page. */
sv_kv *sv_kv_new(size_t page_bytes, size_t budget_bytes);
sv_kv *sv_kv_free(sv_kv *kv); /* no sequence holds a page. NULL is fine; returns NULL */
SV_DEFINE_AUTO(sv_kv, sv_kv_free)

typedef struct sv_kv_stats {
    int32_t n_pages;  /* the budget: used, cached and what is left */
    int32_t n_used;   /* held by sequences, each once however many read it */
    int32_t n_cached; /* kept, and read by nobody now */
} sv_kv_stats;
sv_kv_stats sv_kv_get_stats(const sv_kv *kv);

/* One sequence's pages: page[i] holds its positions [i * SV_KV_PAGE, (i + 1) * SV_KV_PAGE). */
typedef struct sv_kv_seq {
    void **page;
    int32_t n_pages, max_pages;
    int32_t n_kept;             /* the first n_kept are kept: full, and perhaps read by others. Never write to them */
    struct sv_kv_node *node;    /* of the last kept one; of the tenant where there is none */
    struct sv_kv_node **path;   /* [n_kept] */
} sv_kv_seq;
/* An empty sequence of up to max_pages. tenant has fewer than SV_KV_MAX_TENANT bytes. SV_ENOMEM. */
SV_MUST sv_rc sv_kv_open(sv_kv *kv, sv_kv_seq *seq, const char *tenant, int32_t max_pages, sv_err *err);
void sv_kv_close(sv_kv *kv, sv_kv_seq *seq); /* lets go of everything; all zeros is fine, and what is left */

/* How many pages from the start of tokens[0..n) are kept, whole pages only; *n_idle of them are cached, so taking them makes none of
 * them room for others. */
int32_t sv_kv_match(const sv_kv *kv, const char *tenant, const int32_t *tokens, int32_t n, int32_t *n_idle);
/* Gives those to a sequence, beyond what it has of them; pages of its own in their places are free again (both hold the same bits). */
void sv_kv_attach(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens, int32_t n);
/* tokens[0..n) come next, after the sequence's last page, and all its pages are kept ones. Where a kept page goes on from there with some of
 * them, adds a page with a copy of it: its first positions, as many as are returned, are theirs. 0: none does, or there is no room. */
int32_t sv_kv_copy(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens, int32_t n);

/* Adds a page, 64-byte aligned, with anything in it. SV_ELIMIT: all are used by sequences; SV_ENOMEM: the system has no memory. */
SV_MUST sv_rc sv_kv_grow(sv_kv *kv, sv_kv_seq *seq, sv_err *err);

/* Page n_kept is full of these tokens' positions: keeps it. Where the same is kept already, the sequence reads that one from now on and
 * its own is free again; both hold the same bits (models/llm.h). */
void sv_kv_keep(sv_kv *kv, sv_kv_seq *seq, const int32_t *tokens);

/* Returns free pages to the system, and cached ones until at most `most` are left: the model is idle. */
void sv_kv_trim(sv_kv *kv, int32_t most);

#endif
