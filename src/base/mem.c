/* mem.c - checked allocation, and arenas that grow by doubling blocks
 *
 * An arena is a list of blocks, newest first; a reset keeps the oldest, smallest one, so that a keep-alive connection serves
 * small requests without the heap. Allocation bumps a pointer; nothing is freed alone.
 *
 * Invariants:
 *   1. total == sum of cap over all blocks, and never over max.
 *   2. the newest block is the only one that is allocated from. */
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void out_of_memory(size_t n, size_t size)
{
    fprintf(stderr, "out of memory: %zu x %zu bytes\n", n, size);
    abort();
}

void *sv_xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p)
        out_of_memory(n, size);
    return p;
}

void *sv_xrealloc(void *p, size_t n, size_t size)
{
    void *q = sv_try_realloc(p, n, size);
    if (!q)
        out_of_memory(n, size);
    return q;
}

char *sv_xstrndup(const char *s, size_t n)
{
    char *p = sv_xcalloc(n + 1, 1);
    memcpy(p, s, n);
    return p;
}

char *sv_xstrdup(const char *s) { return sv_xstrndup(s, strlen(s)); }

char *sv_xasprintf(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0)
        out_of_memory(1, 1);
    return p;
}

void *sv_try_calloc(size_t n, size_t size) { return calloc(n ? n : 1, size ? size : 1); }

void *sv_try_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *sv_try_aligned(size_t size, size_t align)
{
    size_t rounded;
    if (__builtin_add_overflow(size, align - 1, &rounded))
        return NULL;
    return aligned_alloc(align, rounded / align * align + (size == 0 ? align : 0));
}

void sv_fd_closep(int *fd)
{
    int e = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = e;
}

typedef struct block {
    struct block *older;
    size_t cap, used; /* bytes of data[] */
    _Alignas(16) char data[];
} block;

struct sv_arena {
    block *newest;
    size_t total, max; /* inv. 1 */
};

enum { FIRST_BLOCK = 4096 - sizeof(block) - 16 };

sv_arena *sv_arena_create(size_t cap_bytes)
{
    sv_arena *a = sv_xnew0(sv_arena);
    a->max = cap_bytes ? cap_bytes : (size_t)64 << 20;
    return a;
}

void sv_arena_reset(sv_arena *a)
{
    while (a->newest && a->newest->older) {
        block *b = a->newest;
        a->newest = b->older;
        a->total -= b->cap;
        free(b);
    }
    if (a->newest)
        a->newest->used = 0;
}

sv_arena *sv_arena_free(sv_arena *a)
{
    if (a) {
        sv_arena_reset(a);
        free(a->newest);
        free(a);
    }
    return NULL;
}

/* A block with room for n bytes becomes the newest. */
static bool grow(sv_arena *a, size_t n)
{
    size_t cap = a->newest ? a->newest->cap * 2 : FIRST_BLOCK;
    if (cap > (size_t)1 << 20)
        cap = (size_t)1 << 20;
    if (cap < n)
        cap = n;
    if (cap > a->max - a->total)
        cap = n;
    if (cap > a->max - a->total)
        return false;
    block *b = malloc(sizeof *b + cap);
    if (!b)
        return false;
    b->older = a->newest;
    b->cap = cap;
    b->used = 0;
    a->newest = b;
    a->total += cap;
    return true;
}

static void *bump(sv_arena *a, size_t n, bool zero)
{
    size_t room;
    if (__builtin_add_overflow(n ? n : 1, (size_t)15, &room))
        return NULL;
    room &= ~(size_t)15;
    if ((!a->newest || a->newest->cap - a->newest->used < room) && !grow(a, room))
        return NULL;
    void *p = a->newest->data + a->newest->used;
    a->newest->used += room;
    if (zero)
        memset(p, 0, room);
    return p;
}

void *sv_arena_alloc(sv_arena *a, size_t n, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(n, size, &bytes) ? NULL : bump(a, bytes, true);
}

char *sv_arena_strndup(sv_arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? bump(a, n + 1, false) : NULL;
    if (!p)
        return NULL;
    if (n)
        memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *sv_arena_printf(sv_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : bump(a, (size_t)n + 1, false);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}
