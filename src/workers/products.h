/* products.h - the binding kinds whose other end is a product of this node: one row each
 *
 * A row is all that the deploy half knows of a product. What it names is looked up by sv_workers_opts.binding_exists, and calls of the
 * binding reach the Worker's binding socket with the header "x-sv-binding: ROUTE:ID", so that the product's routes start with "/ROUTE".
 * Threads: constants; any thread. */
#ifndef SV_WORKERS_PRODUCTS_H
#define SV_WORKERS_PRODUCTS_H

typedef struct sv_product {
    const char *kind;          /* `type` of the binding */
    const char *id;            /* its member that names the thing, text */
    const char *route;         /* first segment of the product's routes on the binding server; no letters that need escaping */
    const char *before, *after; /* the binding's value in workerd's configuration, around the quoted name of the service */
} sv_product;

const sv_product *sv_product_of(const char *kind); /* NULL: no product's */

#endif
