/* router.c - finds the route of a path: a tree with one node a segment
 *
 * A tree and not a list of patterns, because "most specific first, whatever the order of registration" then needs no
 * sorting: at each node the literal child is tried before the ":name" child before the "*name" child, going back where
 * a branch ends without a route for the method. A node lies at one depth and has one parent, so a look-up visits each
 * at most once: the work is bounded by the table, whatever the client sends.
 *
 * Segments are compared as they came, before percent-decoding: "%2F" is three characters of a segment and never a
 * border. Paths are views; nothing is copied or allocated in a look-up, and the prefix is a virtual first segment.
 *
 *   "/"            no segment: the root itself
 *   "/a/b" "/a/b/" a, b (one trailing slash does not count)
 *   "/a//b"        a, "", b: the empty segment fits neither a literal nor ":name"
 *   "*name"        everything from here on, trailing slash included (object keys may end in one) */
#include "http/router_impl.h"

#include <llhttp.h>

typedef struct node node;
struct node {
    sv_str literal; /* of this node in its parent; empty for the root, ":" and "*" nodes */
    node **kids;
    size_t n_kids;
    node *param, *rest;
    sv_entry **entries; /* routes that end here, one a method */
    size_t n_entries;
};

struct sv_router { node root; };

int sv_method_number(const char *name)
{
    for (int m = 0; m <= HTTP_SOURCE; m++)
        if (strcmp(llhttp_method_name((llhttp_method_t)m), name) == 0)
            return m;
    return -1;
}

sv_router *sv_router_new(void) { return sv_xnew0(sv_router); }

static void free_below(node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n_kids; i++) {
        free_below(n->kids[i]);
        free(n->kids[i]);
    }
    free_below(n->param);
    free_below(n->rest);
    for (size_t i = 0; i < n->n_entries; i++)
        free(n->entries[i]);
    free(n->param);
    free(n->rest);
    free(n->kids);
    free(n->entries);
}

sv_router *sv_router_free(sv_router *r)
{
    if (r)
        free_below(&r->root);
    free(r);
    return NULL;
}

/* ---- building ---- */

static node *literal_child(const node *n, sv_str s)
{
    for (size_t i = 0; i < n->n_kids; i++)
        if (n->kids[i]->literal.n == s.n && memcmp(n->kids[i]->literal.p, s.p, s.n) == 0)
            return n->kids[i];
    return NULL;
}

static node *child_for(node *n, sv_str segment)
{
    node **slot = segment.p[0] == ':' ? &n->param : segment.p[0] == '*' ? &n->rest : NULL;
    if (slot) {
        if (!*slot)
            *slot = sv_xnew0(node);
        return *slot;
    }
    node *k = literal_child(n, segment);
    if (k)
        return k;
    n->kids = sv_xrealloc(n->kids, n->n_kids + 1, sizeof *n->kids);
    k = n->kids[n->n_kids++] = sv_xnew0(node);
    k->literal = segment;
    return k;
}

void sv_router_add(sv_router *r, const sv_route *route, void *ctx)
{
    sv_entry *e = sv_xnew0(sv_entry);
    *e = (sv_entry){.route = *route, .ctx = ctx, .method = SV_ANY_METHOD};
    if (strcmp(route->method, "*") != 0) {
        e->method = sv_method_number(route->method);
        SV_ASSERT(e->method >= 0);
    }
    node *n = &r->root;
    const char *p = route->path;
    SV_ASSERT(*p == '/' && route->fn);
    while (*p == '/' && p[1]) {
        size_t len = strcspn(p + 1, "/");
        sv_str segment = {p + 1, len};
        SV_ASSERT(len > 0);
        n = child_for(n, segment);
        p += 1 + len;
        if (*segment.p != ':' && *segment.p != '*')
            continue;
        SV_ASSERT(e->n_params < SV_MAX_PARAMS && len > 1 && (*segment.p == ':' || !*p));
        e->names[e->n_params++] = (sv_str){segment.p + 1, len - 1};
    }
    for (size_t i = 0; i < n->n_entries; i++)
        SV_ASSERT(n->entries[i]->method != e->method);
    n->entries = sv_xrealloc(n->entries, n->n_entries + 1, sizeof *n->entries);
    n->entries[n->n_entries++] = e;
}

/* ---- looking up ---- */

typedef struct lookup {
    int method;
    const char *p;  /* the path behind its first slash */
    size_t n, full; /* its length without and with one trailing slash */
    sv_match *out;
    int n_params;
} lookup;

static bool ends_at(lookup *q, const node *n)
{
    const sv_entry *any = NULL, *get = NULL;
    for (size_t i = 0; i < n->n_entries; i++) {
        const sv_entry *e = n->entries[i];
        if (e->method == q->method) {
            q->out->entry = e;
            return true;
        }
        if (e->method == SV_ANY_METHOD)
            any = e;
        else
            q->out->allow |= UINT64_C(1) << e->method;
        if (e->method == HTTP_GET)
            get = e;
    }
    if (get && q->method == HTTP_HEAD)
        q->out->entry = get;
    else if (any && q->method != HTTP_CONNECT)
        q->out->entry = any;
    return q->out->entry != NULL;
}

static bool walk(lookup *q, const node *n, size_t pos);

/* The children of n that take `segment`, then the rest of the path from `next` on. */
static bool walk_segment(lookup *q, const node *n, sv_str segment, size_t next)
{
    const node *k = literal_child(n, segment);
    if (k && walk(q, k, next))
        return true;
    if (!n->param || segment.n == 0)
        return false;
    q->out->params[q->n_params++] = segment;
    if (walk(q, n->param, next))
        return true;
    q->n_params--;
    return false;
}

static bool walk(lookup *q, const node *n, size_t pos)
{
    if (pos > q->n || q->n == 0)
        return ends_at(q, n);
    const char *slash = memchr(q->p + pos, '/', q->n - pos);
    size_t end = slash ? (size_t)(slash - q->p) : q->n;
    if (walk_segment(q, n, (sv_str){q->p + pos, end - pos}, end + 1))
        return true;
    if (!n->rest || pos >= q->full)
        return false;
    q->out->params[q->n_params] = (sv_str){q->p + pos, q->full - pos};
    return ends_at(q, n->rest);
}

void sv_router_find(const sv_router *r, int method, sv_str prefix, sv_str path, sv_match *out)
{
    out->entry = NULL;
    out->allow = 0;
    if (path.n == 0 || path.p[0] != '/')
        return;
    lookup q = {.method = method, .p = path.p + 1, .full = path.n - 1, .out = out};
    q.n = q.full > 0 && q.p[q.full - 1] == '/' ? q.full - 1 : q.full;
    if (prefix.n > 0)
        (void)walk_segment(&q, &r->root, prefix, 0);
    else
        (void)walk(&q, &r->root, 0);
}
