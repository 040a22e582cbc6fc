/* products.h - the binding kinds whose other end is a product of this node: one row each
 *
 * A row is all that the deploy half knows of a product. What it names is looked up by sv_workers_opts.binding_exists, and calls of the
 * binding reach the Worker's binding socket with the header "x-sv-binding: ROUTE:ID", so that the product's routes start with "/ROUTE".
 * Threads: constants; any thread. */
#ifndef SV_WORKERS_PRODUCTS_H
#define SV_WORKERS_PRODUCTS_H

#include <stddef.h>

typedef struct sv_product {
    const char *kind;          /* `type` of the binding */
    const char *id;            /* its member that names the thing, text */
    const char *route;         /* first segment of the product's routes on the binding server; no letters that need escaping */
    const char *before, *after; /* the binding's value in workerd's configuration, around the quoted name of the service */
    const char *inner;         /* a member of the binding, an object whose members become inner bindings behind `after`; NULL: none */
    const char *inner_end;     /* what follows those */
    const char *module, *script; /* a module of ours that `before` names, and its JavaScript; NULL: none */
} sv_product;

const sv_product *sv_product_of(const char *kind); /* NULL: no product's */
const sv_product *sv_product_at(size_t i);          /* NULL past the end */

#endif
