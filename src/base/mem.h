/* mem.h - allocation with an owner: brace-freed locals, arenas for requests, checked big blocks
 *
 * sv_x* end the process when memory is gone (small bookkeeping only). Whatever a file, request or config sizes, or
 * is over 1 MiB, goes through sv_try_*, which return NULL, also when n * size overflows. Free all with free(). */
#ifndef SV_BASE_MEM_H
#define SV_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"

#define SV_AUTO(fn) __attribute__((cleanup(fn)))
/* Hands a brace-freed local over: evaluates to p and sets p to NULL. */
#define SV_TAKE(p) (__extension__({ __typeof__(p) sv_take_ = (p); (p) = NULL; sv_take_; }))
/* For type `T` with `T *fn(T *)`: makes static inline void T_closep / name ## p for SV_AUTO. */
#define SV_DEFINE_AUTO(T, fn) static inline void fn##p(T **p) { if (*p) *p = fn(*p); }
#define SV_LEN(a) (sizeof(a) / sizeof((a)[0]))

void *sv_xcalloc(size_t n, size_t size); /* zeroed; never NULL */
void *sv_xrealloc(void *p, size_t n, size_t size);
char *sv_xstrdup(const char *s);
char *sv_xstrndup(const char *s, size_t n);
char *sv_xasprintf(const char *fmt, ...) SV_PRINTF(1, 2);
#define sv_xnew0(T) ((T *)sv_xcalloc(1, sizeof(T)))

void *sv_try_calloc(size_t n, size_t size);
void *sv_try_realloc(void *p, size_t n, size_t size); /* on NULL, p is still the caller's */
void *sv_try_aligned(size_t size, size_t align);      /* not zeroed; free() it */

static inline void sv_freep(void *p) { free(*(void **)p); }
void sv_fd_closep(int *fd); /* closes when >= 0, keeps errno */

/* Bytes that live until the arena is reset or freed; never holds fds. One thread at a time. */
typedef struct sv_arena sv_arena;
sv_arena *sv_arena_create(size_t cap_bytes); /* most it will ever hold; 0: 64 MiB */
sv_arena *sv_arena_free(sv_arena *a);
void sv_arena_reset(sv_arena *a); /* keeps the first block */
void *sv_arena_alloc(sv_arena *a, size_t n, size_t size); /* zeroed, 16-aligned; NULL: over the cap, overflow or no memory */
char *sv_arena_strndup(sv_arena *a, const char *s, size_t n); /* NUL-terminated; NULL as above */
char *sv_arena_printf(sv_arena *a, const char *fmt, ...) SV_PRINTF(2, 3);
#define sv_arena_new(a, T, n) ((T *)sv_arena_alloc((a), (n), sizeof(T)))
SV_DEFINE_AUTO(sv_arena, sv_arena_free)

#endif
