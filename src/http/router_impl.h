/* router_impl.h - the route table of a server (server.c), apart from sockets so that it can be tested by itself */
#ifndef SV_HTTP_ROUTER_IMPL_H
#define SV_HTTP_ROUTER_IMPL_H

#include "http/server.h"

enum { SV_MAX_PARAMS = 8, SV_ANY_METHOD = -1 };

typedef struct sv_router sv_router;

typedef struct sv_entry {
    sv_route route;
    void *ctx;
    int method; /* llhttp's number, or SV_ANY_METHOD */
    int n_params;
    sv_str names[SV_MAX_PARAMS]; /* views into route.path, in the order of the path */
} sv_entry;

typedef struct sv_match {
    const sv_entry *entry;        /* NULL: nothing fits */
    sv_str params[SV_MAX_PARAMS]; /* raw, views into prefix and path */
    uint64_t allow;               /* bit m: the path exists under llhttp method m. Complete only where entry is NULL */
} sv_match;

sv_router *sv_router_new(void);
sv_router *sv_router_free(sv_router *r);
/* Strings of the route are borrowed for ever. A malformed path or a second route of the same method and shape is our
 * own bug and ends the process. */
void sv_router_add(sv_router *r, const sv_route *route, void *ctx);
/* path begins with '/'. prefix: one more segment in front of it, or empty. HEAD finds GET where it has no route of its
 * own; "*" never stands for CONNECT, whose handler must hijack. */
void sv_router_find(const sv_router *r, int method, sv_str prefix, sv_str path, sv_match *out);

int sv_method_number(const char *name); /* -1: unknown */

#endif
